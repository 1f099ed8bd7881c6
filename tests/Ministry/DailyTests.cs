using System.Text.Json.Nodes;
using Ministries.CallLog.V1;
using Ministries.Consular.V1;
using Ministries.Custody.V1;
using Ministries.Fixtures;
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
        var evidence = Path.Combine(services.Folder, Path.GetRandomFileName());
        await new CommandRunner(services) { As = "kr/mfa" }.Succeed("evidence", "export", services.Case, "--out", evidence);
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
                        ["list", "accesses"],
                        ["list", "statements"],
                        ["list", "place-visits"],
                        ["get", "case", services.Case],
                        ["get", "prisoner", services.Case, services.Prisoners[0]],
                        ["get", call],
                        ["next"],
                        ["next", "--everybody"],
                        ["case", services.Case],
                        ["open"],
                        ["follow", "calllog", "--until-now"],
                        ["follow", "--until-now"],
                        ["audit"],
                        ["evidence", "verify", evidence],
                        ["evidence", "verify", evidence, "--agreement", "none"],
                        ["sent"],
                        ["doctor"],
                        ["config", "show"],
                        ["--help"],
                        ["custody", "--help"],
                        ["next", "--help"],
                    ]
            )
            {
                Fits(runner, verb, await runner.Succeed(verb));
            }
        }
        var own = await new CommandRunner(services) { As = "kr/mfa" }.Succeed("get", transfer);
        Assert.Contains("state: drafted", own.Output);
        var stranger = await new CommandRunner(services) { As = "kr/mfa", Columns = 120 }.Succeed("list", "prisoners");
        Assert.Contains(" · ", stranger.Output);
        Assert.Contains("state: ·", (await new CommandRunner(services) { As = "kr/mfa" }.Succeed("get", services.Prisoners[0])).Output);
    }

    private static void Fits(CommandRunner runner, string[] verb, Ran ran)
    {
        Assert.All(
            $"{ran.Output}\n{ran.Error}".Split('\n').Where(l => !IsWhole(l)),
            l => Assert.True(Screen.ColumnsOf(l) <= runner.Columns, $"{string.Join(' ', verb)} in {runner.Columns}: {l}")
        );

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

    /// <summary>Each goes where it was sent: the answer into a file, say, and what is not the answer to the person who waits.</summary>
    [Theory]
    [InlineData(true, false, "xterm", "", true, false)]
    [InlineData(false, true, "xterm", "", false, true)]
    [InlineData(true, true, "xterm", "1", false, false)]
    [InlineData(true, true, "dumb", "", false, false)]
    public async Task Output_and_errors_are_coloured_each_where_it_is_a_terminal(
        bool output,
        bool error,
        string term,
        string noColor,
        bool outputColoured,
        bool errorColoured
    )
    {
        var runner = new CommandRunner(services)
        {
            As = "kr/mfa",
            IsTerminal = output,
            IsErrorTerminal = error,
            Columns = 60,
            Variables = new Dictionary<string, string> { ["TERM"] = term, ["NO_COLOR"] = noColor },
        };
        // It has an answer, and on the other side says which columns it does not show.
        var ran = await runner.Succeed("list", "prisoners");
        Assert.NotEmpty(ran.Error);
        Assert.Equal((outputColoured, errorColoured), (ran.Output.Contains('\x1b'), ran.Error.Contains('\x1b')));
        Assert.Equal(errorColoured, (await runner.Run("lsit")).Error.Contains('\x1b'));
    }

    [Fact]
    public async Task What_takes_long_is_named_on_a_terminal_until_it_is_there()
    {
        var work = new TaskCompletionSource<int>();
        var (writer, clock) = (new Told(work), new SteppedClock());
        var shell = new Shell
        {
            Variable = _ => null,
            Input = () => TextReader.Null,
            IsErrorTerminal = true,
            ErrorColumns = 80,
            Time = clock,
        };
        var waiting = new Screen(writer, shell.ForErrors).While("entries of custody", () => work.Task);
        clock.Step(TimeSpan.FromSeconds(1.9));
        Assert.False(waiting.IsCompleted);
        Assert.Empty(writer.ToString());
        clock.Step(TimeSpan.FromSeconds(0.1));
        Assert.Equal(7, await waiting);
        Assert.StartsWith("\r\x1b[Kentries of custody: 2 s", writer.ToString());
        Assert.EndsWith("\r\x1b[K", writer.ToString());
        var script = new StringWriter();
        var only = shell with { IsTerminal = true, IsErrorTerminal = false };
        await new Screen(script, only.ForErrors).While("entries of custody", () => Task.FromResult(7));
        Assert.Empty(script.ToString());
    }

    /// <summary>It calls no service, and takes minutes where the file is long.</summary>
    [Fact]
    public async Task That_evidence_is_verified_is_said_where_it_takes_long()
    {
        var evidence = Path.Combine(services.Folder, Path.GetRandomFileName());
        var runner = new CommandRunner(services) { As = "kr/mfa" };
        await runner.Succeed("evidence", "export", services.Case, "--out", evidence);
        var slow = runner with { IsErrorTerminal = true, Columns = 80, Time = new HastyClock() };
        Assert.Contains($"\r\x1b[Kverifying {Path.GetFileName(evidence)}: ", (await slow.Succeed("evidence", "verify", evidence)).Error);
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

    /// <summary>YAML knows no pairs of surrogates, and what acts on a terminal stays escaped.</summary>
    [Theory]
    [InlineData("남조선", "\"남조선\"")]
    [InlineData("Ґудзь Їжак", "\"Ґудзь Їжак\"")]
    [InlineData("\U00020000\U0001F54A", "\"\U00020000\U0001F54A\"")]
    [InlineData(
        "say \"no\"\\\n\t",
        """
            "say \"no\"\\\n\t"
            """
    )]
    [InlineData(
        "He \u202edid not\u2066\u200f\u009b",
        """
            "He \u202edid not\u2066\u200f\u009b"
            """
    )]
    [InlineData(
        "a\u2028\ufeff\ufffe\u0000",
        """
            "a\u2028\ufeff\ufffe\u0000"
            """
    )]
    [InlineData(
        "x\U000e0041\U0001ffff",
        """
            "x\U000e0041\U0001ffff"
            """
    )]
    public void YAML_shows_letters_as_they_are_and_escapes_what_deceives(string text, string yaml)
    {
        Assert.Equal(yaml + "\n", Yaml.Of(System.Text.Json.Nodes.JsonValue.Create(text)));
        // Nothing is left for the terminal to escape in its own way.
        Assert.Equal(yaml, Terminal.Escape(yaml));
    }

    [Theory]
    [InlineData(0, "in less than a minute")]
    [InlineData(59, "in less than a minute")]
    [InlineData(-59, "less than a minute ago")]
    [InlineData(60, "in 1 minute")]
    [InlineData(-119, "1 minute ago")]
    [InlineData(120, "in 2 minutes")]
    [InlineData(119 * 60, "in 119 minutes")]
    [InlineData(120 * 60, "in 2 hours")]
    [InlineData(-48 * 3600, "2 days ago")]
    public void How_long_it_is_until_something_is_said_in_words(int seconds, string words)
    {
        var clock = new Fixtures.SteppedClock();
        var shell = new Shell
        {
            Variable = _ => null,
            Input = () => TextReader.Null,
            Time = clock,
        };
        Assert.Equal(words, new Screen(TextWriter.Null, shell).Until(clock.GetUtcNow().AddSeconds(seconds)));
    }

    [Fact]
    public async Task What_is_urgent_comes_first_however_much_waits_and_few_calls_are_in_progress_at_once()
    {
        for (var i = 0; i < 101; i++)
            await Draft();
        var urgent = await Draft(Precedence.Flash);
        var (now, most) = (0, 0);
        var (counting, full) = (new Lock(), new TaskCompletionSource());
        services.Before = async request =>
        {
            if (request is not Ledger.V1.GetEntryRequest)
                return;
            lock (counting)
            {
                most = Math.Max(most, ++now);
                if (most == Connection.MostCalls)
                    full.TrySetResult();
            }
            await full.Task;
            lock (counting)
                now--;
        };
        try
        {
            var own = JsonNode.Parse((await new CommandRunner(services) { As = "kr/mfa" }.Succeed("next", "-j")).Output)!.AsArray();
            var precedences = own.Select(d => (string)d!["precedence"]!).ToArray();
            Assert.Equal("flash", (string)own.Single(d => (string)d!["record"]! == urgent)!["precedence"]!);
            Assert.Equal("flash", precedences[0]);
            Assert.True(precedences.Length > 101);
            Assert.Equal(Connection.MostCalls, most);
        }
        finally
        {
            services.Before = null;
        }
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
                    (["follow", "custdy"], "did you mean custody?"),
                    (["next", "-o", "josn"], "--output must be one of table, wide, json, yaml, not josn; did you mean json?"),
                    (["list", "calls", "--limit", "0"], "--limit is a number from 1"),
                    (["follow", "--from", "7"], "--from is a position of one service"),
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
        Assert.Equal("kyiv\n", (await runner.Succeed("completion", "words", "--", "config", "use", "ky")).Output);
        Assert.Equal("kyiv\n", (await runner.Succeed("completion", "words", "--", "next", "--profile", "ky")).Output);
        foreach (
            var (setting, value, said) in ((string, string, string)[])
                [
                    ("folder", Path.Combine(services.Folder, "nowhere"), "folder must be a folder that is there"),
                    ("as", "KR", "as must be a participant such as kr/mfa, not KR"),
                    ("custody", "custody:7102", "custody must be https://HOST:PORT"),
                    ("requests-key", Path.Combine(services.Folder, "nowhere.key"), "there is no file"),
                    ("requests-key", "secrets:../x", "secrets: must be followed"),
                    ("zone", "Nowhere", "zone must be a zone"),
                    ("output", "josn", "did you mean json?"),
                    ("timeout", "0", "timeout must be from 1 to 600 seconds"),
                    ("case", "transfer_1", "case must be a case's id"),
                    ("official", new string('x', 65), "official "),
                ]
        )
        {
            var wrong = await runner.Run("config", "set", setting, value);
            Assert.Equal(2, wrong.Code);
            Assert.Contains(said, wrong.Error);
        }
        // A path is kept from the root, because the next command may run elsewhere.
        var relative = Path.GetRelativePath(Environment.CurrentDirectory, services.Folder);
        await runner.Succeed("config", "set", "folder", relative, "--profile", "near");
        await runner.Succeed("config", "set", "receipts", "kept", "--profile", "near");
        var near = JsonNode.Parse((await runner.Succeed("config", "show", "--profile", "near", "-j")).Output)!["settings"]!;
        Assert.Equal(services.Folder, (string)near["folder"]!);
        Assert.Equal(Path.GetFullPath("kept"), (string)near["receipts"]!);
        // What is wrong in a profile is the profile's fault.
        var text = await File.ReadAllTextAsync(file, Cancel);
        await File.WriteAllTextAsync(file, text.Replace("Europe/Kyiv", "Europe/Kiev2", StringComparison.Ordinal), Cancel);
        Assert.Contains($"profile kyiv in {file}: zone must be", (await runner.Run("case", services.Case, "--profile", "kyiv")).Error);
        await File.WriteAllTextAsync(file, text, Cancel);
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
        Assert.Equal(["kr/mfa"], await Words("next", "--as", "kr/mf"));
        Assert.Equal(["table"], await Words("next", "-o", "t"));
        Assert.Contains("Europe/Kyiv", await Words("next", "--zone", "Europe/K"));
        Assert.Contains("case=", await Words("list", "calls", "c"));
        Assert.Equal([$"case={services.Case}"], await Words("list", "calls", "case=case_"));
        Assert.Equal(["state=mutual"], await Words("list", "calls", $"case={services.Case}", "state=mu"));
        Assert.Equal(["decide-transfer"], await Words("approve", "consular", "decide-t"));
        Assert.DoesNotContain("get-transfer", await Words("approve", "consular", ""));
        Assert.Equal([services.Case], await Words("evidence", "export", "case_"));
        Assert.Equal(["kr/mfa"], await Words("config", "set", "as", "kr/mf"));
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

    [Fact]
    public async Task Records_are_listed_newest_first_and_as_many_as_are_wanted()
    {
        var runner = new CommandRunner(services) { As = "kr/mfa" };
        var (first, second) = (await Draft(), await Draft());
        async Task<string[]> Ids(params string[] more) =>
            [
                .. JsonNode.Parse((await runner.Succeed(["list", "transfers", "-j", .. more])).Output)!["transfers"]!
                    .AsArray()
                    .Select(t => (string)t!["id"]!),
            ];
        Assert.Equal([second, first], await Ids("--limit", "2"));
        Assert.Equal([second], await Ids("--limit", "1"));
        Assert.Equal(second, (await Ids())[0]);
        Assert.Matches("[0-9]+ older: --all, or --limit", (await runner.Succeed("list", "transfers", "--limit", "1")).Error);
        var all = (await runner.Succeed("list", "transfers", "--all", "-j")).Output.Split('\n')[..^1];
        Assert.Contains(second, all[0]);
        Assert.Contains(first, all[1]);
    }

    [Fact]
    public async Task All_ledgers_are_followed_together_in_the_order_of_time_and_on()
    {
        await LogCall();
        var runner = new CommandRunner(services) { As = "kr/mfa", Columns = 120 };
        var entries = (await runner.Succeed("follow", "--until-now", "-j"))
            .Output.Split('\n', StringSplitOptions.RemoveEmptyEntries)
            .Select(l => JsonNode.Parse(l)!)
            .ToArray();
        Assert.Equal(["calllog", "consular", "custody"], entries.Select(e => (string)e["service"]!).Distinct().Order());
        var times = entries
            .Select(e => DateTimeOffset.Parse((string)e["commit_time"]!, System.Globalization.CultureInfo.InvariantCulture))
            .ToArray();
        Assert.Equal(times.Order(), times);
        Assert.Matches("kr/mfa +calllog log-call", (await runner.Succeed("follow", "--until-now")).Output);

        using var terminal = new PseudoTerminal(services, "ministry follow");
        await terminal.Until("calllog log-call");
        var urgent = await Draft(Precedence.Flash);
        await terminal.Until("consular draft-transfer-request");
        Assert.NotEmpty(urgent);
        await terminal.Interrupt();
        Assert.Equal(0, await terminal.End());
    }

    [Fact]
    public async Task Who_asked_for_data_gets_them_of_an_error_too()
    {
        var nobody = new CommandRunner(services)
        {
            As = "kr/mfa",
            Variables = new Dictionary<string, string>
            {
                ["MINISTRIES_CUSTODY"] = $"https://127.0.0.1:{Fixtures.Ports.Free()}",
                ["MINISTRIES_TIMEOUT"] = "1",
            },
        };
        var file = Path.Combine(services.Folder, Path.GetRandomFileName());
        foreach (
            var (code, message, words) in ((int, string, string[])[])
                [
                    (3, "custody was not reached", ["get", services.Case, "-j"]),
                    (3, "custody was not reached at https://", ["evidence", "export", MinistryClient.NewRequestId(), "--out", file, "-j"]),
                    (2, "there is no transfr", ["list", "transfr", "-j"]),
                    (2, "--zone must be a zone", ["next", "--zone", "Nowhere", "-j"]),
                ]
        )
        {
            var ran = await nobody.Run(words);
            Assert.Equal(code, ran.Code);
            var error = JsonNode.Parse(ran.Output)!["error"]!;
            Assert.Equal(code, (int)error["exit_code"]!);
            Assert.Contains(message, (string)error["message"]!);
        }
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
