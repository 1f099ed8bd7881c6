using System.Text.RegularExpressions;
using Ministries.CallLog.V1;
using Ministries.Errors.V1;
using Ministries.Fixtures;
using Ministries.Ledger.V1;
using Ministries.Ministry.Tests;
using static Ministries.Ministry.Tests.Services;

namespace Ministries.Integrators.Tests;

/// <summary>What an integrator's example does at the real services.</summary>
public sealed partial class FirstCallsTests(Services services, Examples examples) : IClassFixture<Services>
{
    [GeneratedRegex(
        @"^calls of the case so far: \d+\nrequest (\S+) logged (call_\S+) at position (\d+)\nsent again: (\S+) at position (\d+)\n"
    )]
    private static partial Regex Logged();

    [GeneratedRegex(@"^(\d+) (\S+) (\S+) next (\d+)$")]
    private static partial Regex Followed();

    [Theory]
    [MemberData(nameof(Example.Languages), MemberType = typeof(Example))]
    public async Task An_example_logs_a_call_once_and_shows_a_refusal(string language)
    {
        var ran = examples.Compiled(language);
        var (code, output) = await examples
            .Of(language, ran)
            .Call(services.Folder, "log", services.Addresses["calllog"].Authority, services.Case, "ua/mfa");
        Assert.True(code == 0, output);
        var said = Logged().Match(output);
        Assert.True(said.Success, output);
        var (request, call, position) = (said.Groups[1].Value, said.Groups[2].Value, said.Groups[3].Value);
        Assert.Equal((call, position), (said.Groups[4].Value, said.Groups[5].Value));

        // The ledger has it, once.
        using var ministry = services.As("kr/mfa");
        var recorded = await Headers(ministry);
        var entry = Assert.Single(recorded, h => h.RequestId == request);
        Assert.Equal(position, $"{entry.Position}");
        Assert.Equal(("kr/mfa", "ministries.calllog.v1.CallLogService/LogCall"), (entry.Participant, entry.Method));
        var seen = await ministry.CallLog.GetCallAsync(new GetCallRequest { Call = call }, cancellationToken: Cancel);
        Assert.Equal(["kr/mfa", "ua/mfa"], seen.Call.Sides.Select(s => s.Participant));

        var about = Ministries.Rules.Reasons.AboutOf(Reason.CounterpartNotASide);
        Assert.Contains(
            $"refused: COUNTERPART_NOT_A_SIDE\n  article: {about.Source}\n  missing: {about.Missing}\n  remedy: {about.Unlock}\n",
            output
        );
        ran.AreAll("Integrators/FirstCallsTests", nameof(An_example_logs_a_call_once_and_shows_a_refusal), b => b.Heading == language);
    }

    [Fact]
    public void Every_command_of_the_README_is_one_of_an_examples_case() =>
        Assert.All(
            Documents.ShellBlocks(Example.Readme),
            b => Assert.Contains(b.Heading, Example.Languages.Select(l => l.Data).Append(Example.ThroughTheGateway))
        );

    [Theory]
    [MemberData(nameof(Example.Languages), MemberType = typeof(Example))]
    public async Task An_example_follows_each_entry_once_over_a_restart_of_the_service_and_of_itself(string language)
    {
        using var ministry = services.As("kr/mfa");
        await ministry.CallLog.LogCallAsync(services.Call(), cancellationToken: Cancel);
        var before = (await Headers(ministry)).Select(h => h.Position).ToList();
        var address = services.Addresses["calllog"].Authority;
        using var deadline = CancellationTokenSource.CreateLinkedTokenSource(Cancel);
        deadline.CancelAfter(TimeSpan.FromMinutes(2));

        ulong next;
        using (var process = examples.Of(language).Begin(services.Folder, "follow", address))
            try
            {
                var errors = process.StandardError.ReadToEndAsync(deadline.Token);
                foreach (var position in before)
                    Assert.Equal(position, (await Line()).Position);

                await services.Stop("calllog");
                await services.Start("calllog");
                using var again = services.As("kr/mfa");
                await again.CallLog.LogCallAsync(services.Call(), cancellationToken: Cancel);
                var after = (await Headers(again)).Select(h => h.Position).Except(before).ToList();
                Assert.NotEmpty(after);
                next = before[^1];
                foreach (var position in after)
                {
                    (var got, next) = await Line();
                    Assert.Equal(position, got);
                }

                async Task<(ulong Position, ulong Next)> Line()
                {
                    var line = await process.StandardOutput.ReadLineAsync(deadline.Token) ?? await errors;
                    var said = Followed().Match(line);
                    Assert.True(said.Success, line);
                    return (ulong.Parse(said.Groups[1].Value), ulong.Parse(said.Groups[4].Value));
                }
            }
            finally
            {
                process.Kill(entireProcessTree: true);
            }

        // Begun again where it was, it gets the next entry first. Another service's reaction may come before the call.
        using var later = services.As("kr/mfa");
        await later.CallLog.LogCallAsync(services.Call(), cancellationToken: Cancel);
        var first = (await Headers(later)).First(h => h.Position >= next);
        using (var process = examples.Of(language).Begin(services.Folder, "follow", address, $"{next}"))
            try
            {
                var line = await process.StandardOutput.ReadLineAsync(deadline.Token);
                Assert.StartsWith($"{first.Position} {first.Participant} ", line);
            }
            finally
            {
                process.Kill(entireProcessTree: true);
            }
    }

    private static async Task<List<EntryHeader>> Headers(Client.MinistryClient ministry)
    {
        var headers = new List<EntryHeader>();
        await foreach (var response in ministry.Follow("calllog", untilNow: true, cancel: Cancel))
            if (response.Entry is { } entry)
                headers.Add(EntryHeader.Parser.ParseFrom(entry.Header));
        return headers;
    }
}
