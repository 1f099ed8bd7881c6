using System.Text.Json.Nodes;
using Ministries.CallLog.V1;
using Ministries.Client;
using Ministries.Consular.V1;
using Ministries.Custody.V1;
using Ministries.Types.V1;
using static Ministries.Ministry.Tests.Services;

namespace Ministries.Ministry.Tests;

/// <summary>The short forms for daily work, as a person reads them.</summary>
[System.Runtime.Versioning.UnsupportedOSPlatform("windows")]
public class DailyTests(Services services) : IClassFixture<Services>
{
    private static readonly int[] Widths = [60, 80, 120];

    [Fact]
    public async Task Everything_fits_terminals_of_60_80_and_120_columns_and_shows_what_is_withheld()
    {
        var transfer = await Draft();
        var call = await LogCall();
        foreach (var participant in (string[])["kr/mfa", "ua/mfa", "icrc"])
        foreach (var columns in Widths)
        {
            var runner = new CommandRunner(services) { As = participant, Columns = columns };
            foreach (
                var verb in (string[][])
                    [
                        ["list", "cases"],
                        ["list", "prisoners"],
                        ["list", "calls"],
                        ["list", "transfers"],
                        ["get", "case", services.Case],
                        ["get", "prisoner", services.Case, services.Prisoners[0]],
                        ["get", call],
                        ["next"],
                        ["next", "--everybody"],
                        ["case", services.Case],
                        ["open"],
                        ["follow", "calllog", "--until-now"],
                        ["audit"],
                        ["doctor"],
                        ["config", "show"],
                        ["--help"],
                        ["custody", "--help"],
                        ["next", "--help"],
                    ]
            )
            {
                var (_, output, error) = await runner.Succeed(verb);
                Assert.All(
                    $"{output}\n{error}".Split('\n').Where(l => !IsWhole(l)),
                    l => Assert.True(Screen.ColumnsOf(l) <= columns, $"{string.Join(' ', verb)} in {columns}: {l}")
                );
            }
        }
        var own = await new CommandRunner(services) { As = "kr/mfa" }.Succeed("get", transfer);
        Assert.Contains("state: drafted", own.Output);
        var stranger = await new CommandRunner(services) { As = "kr/mfa", Columns = 120 }.Succeed("list", "prisoners");
        Assert.Contains(" · ", stranger.Output);
        Assert.Contains("state: ·", (await new CommandRunner(services) { As = "kr/mfa" }.Succeed("get", services.Prisoners[0])).Output);

        // What a person copies stands in one piece: a path, an address, a command.
        static bool IsWhole(string line) =>
            !line.Trim().Contains(' ', StringComparison.Ordinal) || line.Trim() is ['→', ' ', .. var rest] && !rest.Contains(' ');
    }

    [Fact]
    public async Task What_waits_is_shown_by_precedence_and_due_time_with_the_verb_that_does_it()
    {
        var later = await Draft(Precedence.Flash);
        var hq = new CommandRunner(services) { As = "ua/coordination-hq" };
        var duties = JsonNode.Parse((await hq.Succeed("next", "-j")).Output)!.AsArray();
        Assert.Contains(
            duties,
            d =>
                (string)d!["law"]! == "GC III 120, 122"
                && ((string)d["command"]!).StartsWith("custody notify-bureau", StringComparison.Ordinal)
        );
        var dues = duties.Select(d => (string?)d!["due_time"]).Where(d => d is not null).ToArray();
        Assert.Equal(dues.Order(StringComparer.Ordinal), dues);

        var own = JsonNode.Parse((await new CommandRunner(services) { As = "kr/mfa" }.Succeed("next", "-j")).Output)!.AsArray();
        // Other tests may have something urgent at the same time. What has no precedence comes last.
        string[] order = ["flash", "immediate", "priority", "routine"];
        var precedences = own.Select(d => (uint)Array.IndexOf(order, (string)d!["precedence"]!)).ToArray();
        Assert.Equal(precedences.Order(), precedences);
        var draft = own.Single(d => (string)d!["record"]! == later)!;
        Assert.Equal("flash", (string)draft["precedence"]!);
        Assert.Equal($"consular submit-transfer-request --transfer {later}", (string)draft["command"]!);
        // The draft is for its own participant alone.
        var others = JsonNode.Parse((await hq.Succeed("next", "--everybody", "-j")).Output)!.AsArray();
        Assert.DoesNotContain(others, d => (string)d!["record"]! == later);
    }

    [Fact]
    public async Task A_case_is_one_timeline_over_all_services()
    {
        await Draft();
        await LogCall();
        var output = (await new CommandRunner(services) { As = "kr/mfa", Columns = 120 }.Succeed("case", services.Case)).Output;
        Assert.Contains("held by UA", output);
        Assert.Matches("kr/mfa +log-call +calllog [0-9]+", output);
        Assert.Matches("kr/mfa +draft-transfer-request +consular [0-9]+", output);
        Assert.Contains("give your own account of the call", output);
        var json = JsonNode.Parse(
            (await new CommandRunner(services) { As = "kr/mfa" }.Succeed("case", services.Case, "-o", "json")).Output
        )!;
        var times = json["entries"]!
            .AsArray()
            .Select(e => DateTimeOffset.Parse((string)e!["commit_time"]!, System.Globalization.CultureInfo.InvariantCulture))
            .ToArray();
        Assert.Equal(times.Order(), times);
        Assert.Equal(["calllog", "consular", "custody"], json["entries"]!.AsArray().Select(e => (string)e!["service"]!).Distinct().Order());
    }

    [Fact]
    public async Task Times_are_shown_in_the_readers_zone_with_its_offset()
    {
        var call = await LogCall();
        var seoul = await new CommandRunner(services)
        {
            As = "kr/mfa",
            Variables = new Dictionary<string, string> { ["TZ"] = "Asia/Seoul" },
        }.Succeed("get", call);
        var kyiv = await new CommandRunner(services) { As = "kr/mfa" }.Succeed("get", call, "--zone", "Europe/Kyiv");
        Assert.Contains("start-time: 2025-03-17 17:00:00 +09:00 (Asia/Seoul)", seoul.Output);
        Assert.Contains("start-time: 2025-03-17 10:00:00 +02:00 (Asia/Seoul)", kyiv.Output);
    }

    [Fact]
    public async Task Colours_are_written_to_a_terminal_only_and_never_with_NO_COLOR()
    {
        var terminal = new CommandRunner(services)
        {
            As = "kr/mfa",
            IsTerminal = true,
            Columns = 80,
            Variables = new Dictionary<string, string> { ["TERM"] = "xterm" },
        };
        Assert.Contains("\x1b[", (await terminal.Succeed("case", services.Case)).Output);
        var without = terminal with
        {
            Variables = new Dictionary<string, string> { ["TERM"] = "xterm", ["NO_COLOR"] = "1" },
        };
        Assert.DoesNotContain("\x1b[", (await without.Succeed("case", services.Case)).Output);
        Assert.DoesNotContain("\x1b[", (await new CommandRunner(services) { As = "kr/mfa" }.Succeed("case", services.Case)).Output);
    }

    [Fact]
    public async Task What_takes_long_is_named_on_a_terminal_until_it_is_there()
    {
        var work = new TaskCompletionSource<int>();
        var writer = new Told(work);
        var shell = new Shell
        {
            Variable = _ => null,
            Input = () => TextReader.Null,
            IsTerminal = true,
            Asks = true,
            Columns = 80,
            Time = new Hasty(),
        };
        Assert.Equal(7, await new Screen(writer, shell).While("entries of custody", () => work.Task));
        Assert.StartsWith("\r\x1b[Kentries of custody: ", writer.ToString());
        Assert.EndsWith("\r\x1b[K", writer.ToString());
        var script = new StringWriter();
        await new Screen(script, shell with { IsTerminal = false }).While("entries of custody", () => Task.FromResult(7));
        Assert.Empty(script.ToString());
    }

    [Fact]
    public async Task The_same_data_are_written_as_JSON_and_as_YAML()
    {
        var runner = new CommandRunner(services) { As = "kr/mfa" };
        var json = JsonNode.Parse((await runner.Succeed("get", services.Case, "-o", "json")).Output)!;
        var yaml = (await runner.Succeed("get", services.Case, "-o", "yaml")).Output;
        Assert.Contains($"  id: {services.Case}\n", yaml);
        Assert.Contains($"    - participant: {(string)json["case"]!["parties"]![0]!["participant"]!}\n", yaml);
        Assert.Equal(2, (await runner.Run("get", services.Case, "-o", "xml")).Code);
        Assert.Equal(
            """
            a: "1"
            b:
              - c: "yes"
                d: []
              - "x: y"
            e: true

            """,
            Yaml.Of(JsonNode.Parse("""{"a":"1","b":[{"c":"yes","d":[]},"x: y"],"e":true}"""))
        );
    }

    [Fact]
    public async Task A_mistyped_word_gets_a_suggestion_on_standard_error_and_the_exit_code_2()
    {
        foreach (
            var (words, said) in ((string[], string)[])
                [
                    (["lsit", "calls"], "did you mean list?"),
                    (["calllog", "log-cal"], "did you mean log-call?"),
                    (["calllog", "log-call", "--countrepart", "x"], "did you mean --counterpart?"),
                    (["list", "transfer-requests"], "it is one of"),
                    (["list", "transfrs"], "did you mean transfer?"),
                    (["config", "set", "foldr", "x"], "did you mean folder?"),
                    (["next", "--as", "kr/mfaa"], "kr/mfaa"),
                ]
        )
        {
            var ran = await new CommandRunner(services) { As = words.Contains("--as") ? "" : "kr/mfa" }.Run(words);
            Assert.Equal(2, ran.Code);
            Assert.Contains(said, ran.Error);
            Assert.Empty(ran.Output);
        }
    }

    [Fact]
    public async Task Profiles_keep_settings_in_a_file_that_nobody_else_may_write()
    {
        var file = Path.Combine(services.Folder, Path.GetRandomFileName(), "config.json");
        var runner = new CommandRunner(services) { Variables = new Dictionary<string, string> { ["MINISTRIES_CONFIG"] = file } };
        await runner.Succeed("config", "set", "as", "kr/mfa");
        await runner.Succeed("config", "set", "as", "ua/mfa", "--profile", "kyiv");
        await runner.Succeed("config", "set", "zone", "Europe/Kyiv", "--profile", "kyiv");
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, File.GetUnixFileMode(file));

        Assert.Contains("you are kr/mfa", (await runner.Succeed("case", services.Case)).Output);
        Assert.Contains("you are ua/mfa", (await runner.Succeed("case", services.Case, "--profile", "kyiv")).Output);
        Assert.Contains("you are icrc", (await runner.Succeed("case", services.Case, "--profile", "kyiv", "--as", "icrc")).Output);
        await runner.Succeed("config", "use", "kyiv");
        Assert.Contains("+02:00", (await runner.Succeed("get", await LogCall())).Output);
        Assert.Contains("did you mean kyiv?", (await runner.Run("case", services.Case, "--profile", "kiyv")).Error);
        await runner.Succeed("config", "unset", "zone");
        Assert.DoesNotContain("Europe/Kyiv", (await runner.Succeed("config")).Output);

        File.SetUnixFileMode(file, (UnixFileMode)0b110_110_100);
        var exposed = await runner.Run("next");
        Assert.Equal(2, exposed.Code);
        Assert.Contains($"chmod go-w {file}", exposed.Error);
        File.SetUnixFileMode(file, UnixFileMode.UserRead | UnixFileMode.UserWrite);
        await File.WriteAllTextAsync(file, """{ "profiles": { "default": { "fodler": "x" } } }""", Cancel);
        Assert.Contains("unknown setting fodler", (await runner.Run("next")).Error);
    }

    [Fact]
    public async Task Words_are_completed_with_the_values_of_the_contract_and_the_ids_of_records()
    {
        var runner = new CommandRunner(services) { As = "kr/mfa" };
        async Task<string[]> Words(params string[] words) =>
            (await runner.Succeed(["completion", "words", "--", .. words])).Output.Split('\n', StringSplitOptions.RemoveEmptyEntries);
        Assert.Equal(["calllog"], await Words("call"));
        Assert.Equal(["log-call"], await Words("calllog", "log"));
        Assert.Contains("--counterpart", await Words("calllog", "log-call", "--c"));
        Assert.Equal(["secure-telephone"], await Words("calllog", "log-call", "--channel", "s"));
        Assert.Equal([services.Case], await Words("calllog", "log-call", "--case", "case_"));
        Assert.Contains("ua/mfa", await Words("calllog", "log-call", "--with", "ua"));
        Assert.Equal(services.Prisoners.Order(StringComparer.Ordinal), await Words("get", "pris_"));
        // Without a service there is no completion, and no message.
        var nobody = runner with
        {
            Variables = new Dictionary<string, string> { ["MINISTRIES_CUSTODY"] = $"https://127.0.0.1:{Fixtures.Ports.Free()}" },
        };
        Assert.Equal(
            ("", ""),
            (await nobody.Succeed("completion", "words", "--", "get", "pris_")) is var ran ? (ran.Output, ran.Error) : default
        );
        foreach (var shell in (string[])["bash", "zsh", "fish"])
            Assert.Contains("ministry completion words", (await runner.Succeed("completion", shell)).Output);
    }

    /// <summary>The forms of the contracts allow no such id. The command does not rely on the service to keep them.</summary>
    [Fact]
    public async Task What_a_service_calls_an_id_is_no_more_than_a_word_to_a_shell()
    {
        const string forged = "call_x --yes; touch 'gone'";
        var id = await LogCall();
        services.Later = answer =>
        {
            if (answer is ListPrisonersResponse listed)
                listed.Prisoners[0].Prisoner_ = "pris_$(touch gone)";
            if (answer is GetCallResponse { Call: { } call } && call.Id == id)
                call.Id = forged;
            return answer;
        };
        try
        {
            var words = (await new CommandRunner(services) { As = "kr/mfa" }.Succeed("completion", "words", "--", "get", "pris_")).Output;
            Assert.Equal(services.Prisoners.Count - 1, words.Split('\n', StringSplitOptions.RemoveEmptyEntries).Length);
            Assert.DoesNotContain("$", words);
            var next = (await new CommandRunner(services) { As = "ua/mfa" }.Succeed("next")).Output;
            Assert.Contains("ministry calllog submit-readout --call 'call_x --yes; touch '\\''gone'\\'''", next);
        }
        finally
        {
            services.Later = null;
        }
    }

    // The work ends once its reader was told of it.
    private sealed class Told(TaskCompletionSource<int> work) : StringWriter(System.Globalization.CultureInfo.InvariantCulture)
    {
        public override void Write(string? value)
        {
            base.Write(value);
            work.TrySetResult(7);
        }
    }

    // A clock on which every wait is over at once.
    private sealed class Hasty : TimeProvider
    {
        public override ITimer CreateTimer(TimerCallback callback, object? state, TimeSpan dueTime, TimeSpan period) =>
            base.CreateTimer(callback, state, dueTime == Timeout.InfiniteTimeSpan ? dueTime : TimeSpan.Zero, period);
    }

    private async Task<string> Draft(Precedence precedence = Precedence.Routine)
    {
        using var client = services.As("kr/mfa");
        var answer = await client.Consular.DraftTransferRequestAsync(
            new DraftTransferRequestRequest
            {
                Actor = Services.Actor,
                Case = services.Case,
                Prisoner = services.Prisoners[0],
                Precedence = precedence,
                Route = Types.V1.Route.Article12Transfer,
                Destination = "KR",
            },
            cancellationToken: Cancel
        );
        return answer.Transfer;
    }

    private async Task<string> LogCall()
    {
        using var client = services.As("kr/mfa");
        return (await client.CallLog.LogCallAsync(services.Call(), cancellationToken: Cancel)).Call;
    }
}
