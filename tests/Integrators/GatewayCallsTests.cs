using System.Text.RegularExpressions;
using Microsoft.AspNetCore.Builder;
using Microsoft.Extensions.Logging;
using Ministries.CallLog.V1;
using Ministries.Errors.V1;
using Ministries.Fixtures;
using Ministries.Gateway;
using Ministries.Ledger.V1;
using Ministries.Ministry.Tests;
using static Ministries.Ministry.Tests.Services;

namespace Ministries.Integrators.Tests;

/// <summary>What an integrator's example does at a gateway over the real services.</summary>
public sealed partial class GatewayCallsTests(Services services, Examples examples) : IClassFixture<Services>, IDisposable
{
    private readonly string _state = Directory.CreateTempSubdirectory("integrators-gateway-").FullName;
    private readonly Uri _address = new($"https://127.0.0.1:{Ports.Free()}");

    public void Dispose() => Directory.Delete(_state, recursive: true);

    [Theory]
    [MemberData(nameof(Example.Languages), MemberType = typeof(Example))]
    public async Task An_example_logs_a_call_once_by_the_gateway_and_shows_a_refusal(string language)
    {
        await using var gateway = await Start();
        var ran = new RanBlocks();

        var (code, output) = await examples.Of(language, ran).CallGateway(_state, "log", Address, services.Case, "ua/mfa");

        Assert.True(code == 0, output);
        var said = Logged().Match(output);
        Assert.True(said.Success, output);
        var (request, call, position) = (said.Groups[1].Value, said.Groups[2].Value, said.Groups[3].Value);
        Assert.Equal((call, position), (said.Groups[4].Value, said.Groups[5].Value));
        // The ledger has it, once.
        using var ministry = services.As("kr/mfa");
        var recorded = new List<EntryHeader>();
        await foreach (var response in ministry.Follow("calllog", untilNow: true, cancel: Cancel))
            if (response.Entry is { } entry)
                recorded.Add(EntryHeader.Parser.ParseFrom(entry.Header));
        Assert.Equal(position, $"{Assert.Single(recorded, h => h.RequestId == request).Position}");
        var seen = await ministry.CallLog.GetCallAsync(new GetCallRequest { Call = call }, cancellationToken: Cancel);
        Assert.Equal(["kr/mfa", "ua/mfa"], seen.Call.Sides.Select(s => s.Participant));
        var about = Reasons.AboutOf(Reason.CounterpartNotASide);
        Assert.Contains(
            $"refused: COUNTERPART_NOT_A_SIDE\n  article: {about.Source}\n  missing: {about.Missing}\n  remedy: {about.Unlock}\n",
            output
        );
        ran.AreAll("Integrators/GatewayCallsTests", nameof(An_example_logs_a_call_once_by_the_gateway_and_shows_a_refusal), Only(language));
    }

    [Theory]
    [MemberData(nameof(Example.Languages), MemberType = typeof(Example))]
    public async Task An_example_waits_for_a_write_that_the_service_does_not_answer_yet(string language)
    {
        await using var gateway = await Start(answerSeconds: 0);

        var (code, output) = await examples.Of(language).CallGateway(_state, "log", Address, services.Case, "ua/mfa");

        Assert.True(code == 0, output);
        Assert.Matches(Logged(), output);
        Assert.Contains("refused: COUNTERPART_NOT_A_SIDE\n", output);
    }

    [Theory]
    [MemberData(nameof(Example.Languages), MemberType = typeof(Example))]
    public async Task An_example_follows_each_event_once_over_a_restart_of_the_gateway_and_of_itself(string language)
    {
        using var ministry = services.As("kr/mfa");
        using var deadline = CancellationTokenSource.CreateLinkedTokenSource(Cancel);
        deadline.CancelAfter(TimeSpan.FromMinutes(2));
        var got = new List<(string Id, string Type)>();
        var gateway = await Start();
        try
        {
            using (var process = examples.Of(language).BeginGateway(_state, "follow", Address))
                try
                {
                    await Log();
                    await Read(process);
                    await gateway.DisposeAsync();
                    gateway = await Start();
                    await Log();
                    await Read(process);
                }
                finally
                {
                    process.Kill(entireProcessTree: true);
                }
            // Begun again where it was, it gets what comes next.
            using (var process = examples.Of(language).BeginGateway(_state, "follow", Address, got[^1].Id))
                try
                {
                    await Log();
                    await Read(process);
                }
                finally
                {
                    process.Kill(entireProcessTree: true);
                }
        }
        finally
        {
            await gateway.DisposeAsync();
        }
        // An id is the numbering of the gateway's events and a number in it.
        Assert.Single(got.Select(g => g.Id.Split('-')[0]).Distinct());
        Assert.Equal(got.Select((_, i) => $"{i + 1}"), got.Select(g => g.Id.Split('-')[1]));

        async Task Log() => await ministry.CallLog.LogCallAsync(services.Call(), cancellationToken: Cancel);

        // Until it has shown all calls that the ledger has.
        async Task Read(System.Diagnostics.Process process)
        {
            var logged = 0;
            await foreach (var response in ministry.Follow("calllog", untilNow: true, cancel: Cancel))
                if (response.Entry is { } entry)
                    logged += LedgerEntry.Read(entry).Published.Count(p => p.Event is CallLogged);
            while (got.Count(g => g.Type == "ministries.calllog.v1.CallLogged") < logged)
            {
                var line =
                    await process.StandardOutput.ReadLineAsync(deadline.Token)
                    ?? await process.StandardError.ReadToEndAsync(deadline.Token);
                var said = Followed().Match(line);
                Assert.True(said.Success, line);
                got.Add((said.Groups[1].Value, said.Groups[2].Value));
            }
        }
    }

    private string Address => _address.ToString().TrimEnd('/');

    // The section has one block of each language.
    private static Func<Documents.Block, bool> Only(string language) => b => b.Text.Contains(Program(language), StringComparison.Ordinal);

    private static string Program(string language) => $"{language.ToLowerInvariant()}/";

    private async Task<WebApplication> Start(double answerSeconds = 20)
    {
        var host = GatewayHost.Build(
            new GatewaySettings
            {
                Participant = "kr/mfa",
                Folder = services.Folder,
                State = _state,
                Services = services.Addresses.ToDictionary(a => a.Key, a => (IReadOnlyList<Uri>)[a.Value]),
                Listen = _address,
                AnswerSeconds = answerSeconds,
            },
            logging: logging => logging.ClearProviders()
        );
        await host.StartAsync(Cancel);
        return host;
    }

    [GeneratedRegex(
        @"^calls of the case so far: \d+\nrequest (\S+) logged (call_\S+) at position (\d+)\nsent again: (\S+) at position (\d+)\n"
    )]
    private static partial Regex Logged();

    [GeneratedRegex(@"^(\S+) (\S+) (\S+)$")]
    private static partial Regex Followed();
}
