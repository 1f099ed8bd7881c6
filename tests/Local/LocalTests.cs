using System.Diagnostics;
using System.Text.Json;
using System.Text.RegularExpressions;
using Google.Protobuf;
using Grpc.Core;
using Grpc.Health.V1;
using Ministries.CallLog.V1;
using Ministries.Ledger.V1;

namespace Ministries.Local.Tests;

/// <summary>The one command, as a person and a program start it.</summary>
public sealed partial class LocalTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("ministries-local-").FullName;

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public async Task It_plays_the_case_and_reports_to_a_program_that_all_checks_hold()
    {
        var (code, output, error) = await Play("--json", "--data", _folder);
        Assert.True(code == 0, $"exit code {code}\n{output}\n{error}");
        var report = JsonDocument.Parse(output).RootElement;
        Assert.Equal(1, report.GetProperty("schema").GetInt32());
        Assert.True(report.GetProperty("holds").GetBoolean());
        Assert.StartsWith(_folder, report.GetProperty("data").GetString(), StringComparison.Ordinal);
        Assert.InRange(report.GetProperty("firstResultMilliseconds").GetDouble(), 1, 10_000);

        var refused = report.GetProperty("timeline").EnumerateArray().Where(s => s.TryGetProperty("refusal", out _)).ToList();
        Assert.Equal(
            [
                "STANDING_NOT_IN_FORCE",
                "STATE_NOT_ALLOWED",
                "STANDING_NOT_IN_FORCE",
                "OBSERVER_LEAVES_BY_ITSELF",
                "DEPARTURE_WITHOUT_ASSURANCE",
            ],
            refused.Select(s => s.GetProperty("refusal").GetProperty("reason").GetString())
        );
        Assert.Equal("AGREEMENT", refused[0].GetProperty("refusal").GetProperty("basis").GetString());
        Assert.All(
            report.GetProperty("timeline").EnumerateArray(),
            s => Assert.Matches("^[0-9a-f]{32}$", s.GetProperty("trace").GetString())
        );

        Assert.Equal(("SUSPENDED", "SUSPENDED"), (Seen("transfer of P-2", "kr/mfa"), Seen("transfer of P-2", "ua/coordination-hq")));
        Assert.Equal(("MONITORED", "INTERNED KR"), (Seen("transfer of P-1", "kr/mfa"), Seen("prisoner P-1", "kr/mfa")));
        Assert.Null(Seen("statement 2 of P-2", "kr/mfa"));
        Assert.Null(Seen("case", "kr/unification"));

        var ledgers = report.GetProperty("ledgers").EnumerateArray().ToList();
        Assert.Equal(["calllog", "consular", "custody"], ledgers.Select(l => l.GetProperty("service").GetString()));
        Assert.All(ledgers, l => Assert.True(l.GetProperty("gapless").GetBoolean() && l.GetProperty("agrees").GetBoolean()));
        Assert.Equal(
            [("kr/mfa", true), ("ua/coordination-hq", true)],
            report
                .GetProperty("evidence")
                .EnumerateArray()
                .Select(e =>
                    (
                        e.GetProperty("exporter").GetString()!,
                        File.Exists(e.GetProperty("path").GetString()) && !e.TryGetProperty("break", out _)
                    )
                )
        );
        AssertSealed(report);
        Assert.Single(report.GetProperty("trace").EnumerateArray(), s => !s.TryGetProperty("parent", out _));
        Assert.All(report.GetProperty("checks").EnumerateArray(), c => Assert.True(c.GetProperty("holds").GetBoolean()));

        ShowsInEveryWidth(JsonSerializer.Deserialize<Report>(output, JsonSerializerOptions.Web)!);

        string? Seen(string record, string party) =>
            report
                .GetProperty("records")
                .EnumerateArray()
                .Single(r => r.GetProperty("record").GetString() == record)
                .GetProperty("seen")
                .GetProperty(party)
                .GetString();
    }

    // The identity of P-2 as each of four sees it, and as it stands in custody's database.
    private static void AssertSealed(JsonElement report)
    {
        var views = report.GetProperty("sealed").EnumerateArray().ToDictionary(v => v.GetProperty("part").GetString()!, Seen);
        Assert.Equal(["detaining power", "observer", "operator", "requesting state"], views.Keys.Order(StringComparer.Ordinal));
        Assert.Contains("born", views["detaining power"], StringComparison.Ordinal);
        Assert.Equal(views["detaining power"], views["observer"]);
        Assert.DoesNotContain("born", views["requesting state"], StringComparison.Ordinal);
        Assert.StartsWith("refused", views["operator"], StringComparison.Ordinal);
        var dump = report.GetProperty("dump");
        Assert.Equal(0, dump.GetProperty("found").GetInt32());
        Assert.NotEmpty(dump.GetProperty("lines").EnumerateArray());

        static string Seen(JsonElement view) => view.GetProperty("seen").GetString()!;
    }

    // No line is broken where it was not meant to be: what goes on in the next line is indented. Nothing is left out.
    private static void ShowsInEveryWidth(Report report)
    {
        foreach (var width in (int[])[60, 80, 100, 118])
        {
            using var text = new StringWriter();
            var screen = new Screen(text, redirected: true, width: width);
            screen.Title("/data");
            screen.Progress("starting", "three services, two witnesses, a certificate for each participant");
            screen.Chapter(1, "Seoul logs the call of 17 March: the position on citizenship, and that it will request a transfer");
            foreach (var step in report.Timeline)
                screen.Step(step);
            screen.Show(report);
            var lines = text.ToString().Split(Environment.NewLine);
            Assert.All(lines, l => Assert.InRange(l.Length, 0, width));
            Assert.Equal(
                ["Ministries", "data", "starting"],
                lines
                    .Where(l => l.Length > 0 && l[0] != ' ' && !report.Data.Contains(l, StringComparison.Ordinal))
                    .Select(l => l.Split(' ')[0])
            );
            foreach (var step in report.Timeline.Where(s => s.Position is not null))
                Assert.Contains(lines, l => l.EndsWith($" {step.Service} {step.Position}", StringComparison.Ordinal));
            foreach (var record in report.Records)
                Assert.Contains(lines, l => l.TrimStart().StartsWith(record.Record, StringComparison.Ordinal));
            Assert.All(report.Trace, s => Assert.Contains(lines, l => l.EndsWith($" {s.Milliseconds:F1} ms", StringComparison.Ordinal)));
        }
    }

    [Fact]
    public void One_failed_check_or_no_check_at_all_is_no_success()
    {
        Assert.True(Of(new Check("one", true), new Check("another", true)).Holds);
        Assert.False(Of(new Check("one", true), new Check("another", false)).Holds);
        Assert.False(Of().Holds);

        static Report Of(params Check[] checks) =>
            new()
            {
                Data = "",
                Case = "",
                FirstResultMilliseconds = 1,
                Timeline = [],
                Trace = [],
                Links = [],
                Records = [],
                Ledgers = [],
                Evidence = [],
                Checks = checks,
            };
    }

    [Fact]
    public async Task Without_a_terminal_it_writes_plain_text_and_a_second_run_in_the_same_folder_works()
    {
        for (var run = 0; run < 2; run++)
        {
            var (code, output, error) = await Play("--data", _folder);
            Assert.True(code == 0, $"exit code {code}\n{output}\n{error}");
            Assert.DoesNotContain('\x1b', output);
            Assert.DoesNotMatch("(?m) $", output);
            Assert.All(output.Split('\n'), line => Assert.InRange(line.Length, 0, 118));
            Assert.Contains("STANDING_NOT_IN_FORCE  AGREEMENT: D9", output, StringComparison.Ordinal);
            Assert.Contains("All of it is true.", output, StringComparison.Ordinal);
        }
        Assert.Equal(2, Directory.GetDirectories(_folder).Length);
    }

    [Fact]
    public async Task With_serve_it_shows_its_addresses_answers_others_and_stops_when_told()
    {
        using var process = Start("--serve", "--data", _folder);
        using var end = new Ending(process);
        var lines = new List<string>();
        while (await process.StandardOutput.ReadLineAsync(Cancel) is { } line)
        {
            lines.Add(line);
            if (line.Contains("dotnet run --project services/Ministry", StringComparison.Ordinal))
                break;
        }
        var text = string.Join('\n', lines);
        Assert.Contains("All of it is true.", text, StringComparison.Ordinal);
        var addresses = Participants.Services.ToDictionary(s => s, s => new Uri(Address(s).Match(text).Groups[1].Value));
        var certificates = FolderLine().Match(text).Groups[1].Value;
        await using (var participants = await Participants.Join(certificates, addresses, TimeSpan.FromMinutes(3), Cancel))
        {
            var alive = await participants["operator"].HealthOf("calllog").CheckAsync(new HealthCheckRequest(), cancellationToken: Cancel);
            Assert.Equal(HealthCheckResponse.Types.ServingStatus.Serving, alive.Status);
            Assert.Single((await participants["kr/mfa"].Calls.ListCallsAsync(new ListCallsRequest(), cancellationToken: Cancel)).Calls);
            // The run's verification can fail: for a participant who may not see every entry, some are missing.
            var some = await Verification.Of("custody", [participants["kr/mfa"].LedgerOf("custody")], mayBeCovered: false, Cancel);
            Assert.False(some.Gapless || some.Agrees);
            Assert.NotEmpty(some.Wrong);
            // Only a request may be erased, and only the events of a privileged entry come without a salt.
            foreach (var forge in new Action<Entry>[] { CallErased, CallPrivileged })
            {
                var forging = new Forging(participants["kr/mfa"].LedgerOf("custody"), forge);
                var forged = await Verification.Of("custody", [forging], mayBeCovered: false, Cancel);
                Assert.Contains(forged.Wrong, w => w.EndsWith("is not the one its header names", StringComparison.Ordinal));
            }
        }
        using (var kill = Process.Start("/bin/sh", ["-c", $"kill -TERM {process.Id}"]))
            await kill.WaitForExitAsync(Cancel);
        await process.WaitForExitAsync(Cancel);
        Assert.Equal(0, process.ExitCode);
    }

    private static void CallErased(Entry entry)
    {
        foreach (var part in entry.Parts.Where(p => p.Kind == PartKind.Events))
            (part.Erased, part.Salt, part.Data) = (true, ByteString.Empty, ByteString.Empty);
    }

    private static void CallPrivileged(Entry entry)
    {
        entry.Privileged = true;
        foreach (var part in entry.Parts)
            part.Data = ByteString.CopyFromUtf8("another");
    }

    // Reads a real ledger, and forges each entry.
    private sealed class Forging(LedgerService.LedgerServiceClient real, Action<Entry> forge) : LedgerService.LedgerServiceClient
    {
        public override AsyncUnaryCall<GetCheckpointResponse> GetCheckpointAsync(
            GetCheckpointRequest request,
            Metadata? headers = null,
            DateTime? deadline = null,
            CancellationToken cancellationToken = default
        ) => real.GetCheckpointAsync(request, headers, deadline, cancellationToken);

        public override AsyncServerStreamingCall<FollowEntriesResponse> FollowEntries(
            FollowEntriesRequest request,
            Metadata? headers = null,
            DateTime? deadline = null,
            CancellationToken cancellationToken = default
        )
        {
            var call = real.FollowEntries(request, headers, deadline, cancellationToken);
            return new(new Forged(call.ResponseStream, forge), call.ResponseHeadersAsync, call.GetStatus, call.GetTrailers, call.Dispose);
        }
    }

    private sealed class Forged(IAsyncStreamReader<FollowEntriesResponse> real, Action<Entry> forge)
        : IAsyncStreamReader<FollowEntriesResponse>
    {
        public FollowEntriesResponse Current => real.Current;

        public async Task<bool> MoveNext(CancellationToken cancellationToken)
        {
            if (!await real.MoveNext(cancellationToken))
                return false;
            if (real.Current.Entry is { } entry)
                forge(entry);
            return true;
        }
    }

    // Ends the process even if the test fails.
    private sealed class Ending(Process process) : IDisposable
    {
        public void Dispose()
        {
            if (process.HasExited)
                return;
            process.Kill();
            process.WaitForExit();
        }
    }

    private static Regex Address(string service) => new($"{service} +(https://[^ ]+)");

    [GeneratedRegex("MINISTRIES_FOLDER=([^ ]+)")]
    private static partial Regex FolderLine();

    private static Process Start(params string[] arguments) =>
        Process.Start(
            new ProcessStartInfo("dotnet", [Path.Combine(AppContext.BaseDirectory, "Ministries.Local.dll"), .. arguments])
            {
                RedirectStandardOutput = true,
                RedirectStandardError = true,
            }
        )!;

    private static async Task<(int Code, string Output, string Error)> Play(params string[] arguments)
    {
        using var process = Start(arguments);
        using var end = new Ending(process);
        var output = process.StandardOutput.ReadToEndAsync(Cancel);
        var error = process.StandardError.ReadToEndAsync(Cancel);
        await process.WaitForExitAsync(Cancel);
        return (process.ExitCode, await output, await error);
    }
}
