using System.Diagnostics;
using System.Globalization;
using System.Text.RegularExpressions;
using Ministries.Fixtures;

namespace Ministries.Ministry.Tests;

/// <summary>Every command of every document is listed with the test that runs it: blocks in <see cref="ListedBlocks"/>, commands in a text
/// here.
/// </summary>
public sealed partial class DocumentTests
{
    // What begins a command in a text, and what runs such commands or why nothing does. Every `ministry …` is parsed below, every name
    // behind tests/run is that of a project.
    private static readonly Dictionary<string, string> Spans = new()
    {
        ["ministry list calls"] = ListedBlocks.Readme,
        ["ministry serve token"] = ListedBlocks.Readme,
        ["ministry "] = "parsed here",
        ["tests/"] = "names are looked up here; tests/run is what runs this test, as one of these shows",
        ["MINISTRIES_"] = "names are looked up here; tests/run is what runs this test, as one of these shows",
        ["dotnet pack services/Ministry"] = "Ministry/PackageTests.The_commands_tool_is_installed_from_its_package_and_calls",
        ["dotnet publish services/Ministry"] = "Ministry/PackageTests.The_command_is_published_as_one_file",
        ["dotnet pack services/Client"] = "Ministry/PackageTests.The_program_of_the_README_runs_with_the_package_alone",
        ["dotnet tool restore"] = "tests/run runs it",
        ["dotnet csharpier format ."] = "changes the files; tests/run checks the layout",
        ["dotnet run"] = "a name, in a decision",
        ["dotnet build"] = "a name, in a decision",
        ["dotnet Ministries.CallLog.dll health"] = "Deploy/KubernetesTests; System: each container's own check",
        ["docker compose logs"] = ListedBlocks.Guide,
        ["docker compose ps"] = ListedBlocks.Guide,
        ["docker compose"] = "System/SystemTests, System/ProductionTests: the same verbs, on projects of their own",
        ["promtool test rules"] = "Deploy/MonitoringTests",
        ["node tests/Evidence/verifier/verify.mjs"] = ListedBlocks.Readme,
        ["buf "] = "Contracts",
        ["protoc -I protos"] = "Ministry/ReaderTests.The_contracts_README_makes_a_key_and_compiles_the_contracts",
        ["export OUT=$(mktemp -d)"] = "Integrators/FirstCallsTests give a folder of their own",
        ["pg_receivewal --synchronous"] = "Ministry/ReaderTests.The_operators_guide_receives_the_databases_log_before_a_commit_returns",
        ["perf record"] = "measured once",
        ["kubectl create secret"] = "Deploy/KubectlTests.A_secret_of_the_guide_is_made_and_the_services_are_restarted",
        ["kubectl rollout restart"] = "Deploy/KubectlTests.A_secret_of_the_guide_is_made_and_the_services_are_restarted",
        ["kubectl kustomize"] = "Deploy/KubectlTests.Kustomize_renders_what_the_other_tests_read",
        ["kubectl "] = "needs machines, or controllers, that do it",
        ["patronictl "] = "needs Patroni; tests/cluster has it",
        ["chronyc "] = "needs the machine's clock",
        ["rabbitmq"] = ListedBlocks.Guide,
    };

    [Fact]
    public void Every_block_is_listed_once_with_the_test_that_runs_it_in_the_order_of_its_document()
    {
        foreach (var document in Documents.Files)
        {
            var there = Documents.ShellBlocks(document);
            var listed = ListedBlocks.All.Where(l => l.Document == document).ToArray();
            Assert.True(
                there.Count == listed.Length
                    && there.Zip(listed).All(b => b.First.Text.StartsWith(b.Second.Begins, StringComparison.Ordinal)),
                $"{document} has these blocks, and others are listed:\n{string.Join('\n', there.Select(b => b.Text.Split('\n')[0]))}"
            );
        }
        Assert.All(ListedBlocks.All, l => Assert.Contains(l.Document, Documents.Files));
        Assert.All(ListedBlocks.All, l => Assert.True(l.Test.Length > 0 || l.Not.Length > 0, l.Begins));
        Assert.All(ListedBlocks.All.Select(l => l.Test).Concat(Spans.Values).Where(IsTest).Distinct(), IsThere);
    }

    [Fact]
    public void Every_test_of_a_block_demands_of_itself_that_it_has_run_all_blocks_that_are_listed_under_it() =>
        Assert.All(
            ListedBlocks.All.Select(l => l.Test).Where(t => t.Length > 0).Distinct(),
            test =>
            {
                var named = Test().Match(test);
                Assert.Matches($@"\.AreAll\([^;]*nameof\({named.Groups[3].Value}\)", SourceOf(named));
            }
        );

    [Fact]
    public void Tests_run_is_what_runs_these_tests()
    {
        var named = ListedBlocks
            .All.Select(l => l.Block.Text.Split('\n'))
            .Where(ls => ls.Any(l => l.StartsWith("tests/run ", StringComparison.Ordinal)));
        Assert.NotEmpty(named);
        // tests/run leaves its process id, which only what it runs can have above it.
        var mark = Environment.GetEnvironmentVariable("MINISTRIES_RUN");
        Assert.SkipWhen(mark is null, "these tests were started without tests/run");
        var run = Above(Environment.ProcessId).SingleOrDefault(p => $"{p}" == mark);
        Assert.True(run != 0, $"no process above this one is {mark}");
        Assert.Contains("tests/run", File.ReadAllText($"/proc/{run}/cmdline"));

        static IEnumerable<int> Above(int process)
        {
            while (process > 1)
                yield return process = int.Parse(
                    File.ReadLines($"/proc/{process}/status").Single(l => l.StartsWith("PPid:", StringComparison.Ordinal))["PPid:".Length..]
                );
        }
    }

    [Fact]
    public void Every_invariant_that_a_document_names_links_to_its_definition() =>
        Assert.All(
            Documents.Files.Where(f => f != "protos/INVARIANTS.md"),
            document =>
            {
                var text = CodeLinksAndHeadings().Replace(File.ReadAllText(Path.Combine(Documents.Root, document)), "");
                Assert.Empty(Invariants().Matches(text).Select(m => m.Value));
            }
        );

    [Fact]
    public void Every_command_in_a_text_is_of_a_kind_that_is_listed()
    {
        var there = Documents.Files.SelectMany(d => Documents.Spans(d).Where(Documents.IsCommand)).ToArray();
        Assert.All(there, s => Assert.Contains(Spans.Keys, b => s.StartsWith(b, StringComparison.Ordinal)));
        Assert.All(Spans.Keys, b => Assert.Contains(there, s => s.StartsWith(b, StringComparison.Ordinal)));
    }

    [Fact]
    public async Task What_nothing_runs_is_read_by_a_shell()
    {
        foreach (var listed in ListedBlocks.All.Where(l => l.Test.Length == 0))
            await Processes.Output(new ProcessStartInfo("bash", ["-nc", Documents.Script(listed.Document, listed.Begins)]));
    }

    [Fact]
    public void Every_verb_and_option_that_a_document_names_is_one()
    {
        var found = 0;
        foreach (var document in Documents.Files)
        {
            foreach (var line in Documents.ShellBlocks(document).SelectMany(b => LinesOf(b.Text)))
                Parse(document, line, whole: true);
            foreach (var span in Documents.Spans(document))
                Parse(document, span, whole: false);
        }
        Assert.True(found > 50, $"only {found} were found");

        void Parse(string document, string text, bool whole)
        {
            foreach (var command in Calls().Matches(text).Select(m => m.Groups["words"].Value))
            {
                found++;
                var words = WordsOf(command);
                var root = CommandLine.Create();
                TypedVerb.Prepare(root, words);
                var parsed = root.Parse(words, CommandLine.Parsing);
                Assert.True(
                    parsed.UnmatchedTokens.Count == 0,
                    $"{document}: ministry {command}: {string.Join(' ', parsed.UnmatchedTokens)}"
                );
                // In a text, what the reader adds is left out.
                Assert.True(
                    !whole || parsed.Errors.Count == 0,
                    $"{document}: ministry {command}: {string.Join(' ', parsed.Errors.Select(e => e.Message))}"
                );
            }
        }
    }

    [Fact]
    public void Every_project_that_a_document_names_behind_tests_run_has_tests()
    {
        var named = Documents
            .Files.SelectMany(d => Documents.Spans(d).Concat(Documents.ShellBlocks(d).SelectMany(b => LinesOf(b.Text))))
            .SelectMany(t => TestRuns().Matches(t))
            .SelectMany(m => m.Groups["names"].Value.Split(' ', StringSplitOptions.RemoveEmptyEntries))
            .Distinct()
            .ToArray();
        Assert.NotEmpty(named);
        Assert.All(named, n => Assert.NotEmpty(Directory.GetFiles(Path.Combine(Documents.Root, "tests", n), "*.Tests.csproj")));
    }

    [Fact]
    public void Every_filter_that_a_document_puts_behind_tests_run_selects_a_test()
    {
        var named = Documents
            .Files.SelectMany(d => Documents.Spans(d).Concat(Documents.ShellBlocks(d).SelectMany(b => LinesOf(b.Text))))
            // What it says of itself.
            .Concat(File.ReadLines(Path.Combine(Documents.Root, "tests", "run")).Where(l => l.StartsWith('#')))
            .SelectMany(t => Filters().Matches(t))
            .ToArray();
        Assert.True(named.Length >= 3, $"only {named.Length} were found");
        Assert.All(
            named,
            filter =>
            {
                // As the test programs read it, but without the names of spaces and classes.
                var pattern = Regex.Escape(filter.Groups["pattern"].Value).Replace(@"\*", @"\w*", StringComparison.Ordinal);
                Assert.Contains(
                    Directory.GetFiles(Path.Combine(Documents.Root, "tests", filter.Groups["name"].Value), "*.cs"),
                    f => Regex.IsMatch(File.ReadAllText(f), $@"\bpublic (async )?(void|Task) {pattern}\(")
                );
            }
        );
    }

    [Theory]
    [InlineData("tests/bench", "Benchmarks")]
    [InlineData("tests/cluster", "Cluster")]
    public void Every_option_of_what_is_too_long_to_run_here_is_one(string command, string project)
    {
        var source = string.Concat(Directory.GetFiles(Path.Combine(Documents.Root, "tests", project), "*.cs").Select(File.ReadAllText));
        var named = Documents
            .Files.SelectMany(d => Documents.ShellBlocks(d).SelectMany(b => LinesOf(b.Text)).Concat(Documents.Spans(d)))
            .Where(l => l.StartsWith(command, StringComparison.Ordinal))
            .SelectMany(l => l.Split(' ').Where(w => w.StartsWith("--", StringComparison.Ordinal)))
            .Distinct()
            .ToArray();
        Assert.NotEmpty(named);
        Assert.All(named, o => Assert.Contains($"\"{o}\"", source));
    }

    // With --list it builds nothing, but reads the whole line first.
    [Fact]
    public async Task Every_line_that_plays_faults_on_a_cluster_is_read_by_the_program_that_plays_them()
    {
        const string command = "tests/cluster";
        var configuration = new DirectoryInfo(AppContext.BaseDirectory).Parent!.Name;
        var program = Path.Combine(Documents.Root, "tests", "Cluster", "bin", configuration, "net10.0", "Ministries.Cluster.dll");
        string[] lines =
        [
            .. Documents
                .Files.SelectMany(d => Documents.ShellBlocks(d).SelectMany(b => LinesOf(b.Text)).Concat(Documents.Spans(d)))
                .Where(l => l == command || l.StartsWith($"{command} ", StringComparison.Ordinal))
                .Select(l => l[command.Length..]),
            // A text about it leaves its name out.
            .. Documents.Spans("tests/Cluster/README.md").Where(s => s.StartsWith("--", StringComparison.Ordinal) && s.Contains(' ')),
        ];
        Assert.True(lines.Length > 5, $"only {lines.Length} were found");
        foreach (var line in lines.Distinct())
            Assert.Contains(
                "primary-killed",
                await Processes.Output(new ProcessStartInfo("dotnet", ["exec", program, .. WordsOf(line), "--list"]))
            );
    }

    [Fact]
    public void The_times_in_the_operators_guide_are_those_that_the_cluster_took()
    {
        var table = MeasuredFaults()
            .Matches(File.ReadAllText(Path.Combine(Documents.Root, "tests", "Cluster", "README.md")))
            .ToDictionary(m => m.Groups["fault"].Value, m => m.Groups["writes"].Value);
        var guide = File.ReadAllText(Path.Combine(Documents.Root, "deploy", "README.md"));
        foreach (
            var (phrase, faults) in (IReadOnlyList<(string, string[])>)
                [
                    ("callers use the others ({0} to {1} s)", ["consumer-killed", "replica-killed"]),
                    ("callers pass it over after 5 s ({0} to {1} s)", ["consumer-stopped", "relay-stopped"]),
                    ("({0} s killed, {1} s hanging). Callers' retries", ["primary-killed", "primary-stopped"]),
                    ("have elected another one ({0} s)", ["primary-cut-off"]),
                    ("the other one confirms ({0} s killed, {1} s hanging)", ["standby-killed", "standby-stopped"]),
                    ("the queues' leaders move ({0} s)", ["broker-killed"]),
                    ("all of this at once ({0} s killed, {1} s cut off)", ["machine-killed", "machine-cut-off"]),
                    ("{0} s with Patroni", ["switchover"]),
                ]
        )
            Assert.Contains(string.Format(CultureInfo.InvariantCulture, phrase, [.. faults.Select(f => table[f])]), guide);
    }

    private static bool IsTest(string text) => Test().IsMatch(text);

    private static void IsThere(string test)
    {
        var named = Test().Match(test);
        Assert.Contains($" {named.Groups[3].Value}(", SourceOf(named));
    }

    private static string SourceOf(Match test) =>
        File.ReadAllText(Path.Combine(Documents.Root, "tests", test.Groups[1].Value, $"{test.Groups[2].Value}.cs"));

    // The lines of a script, each with those that it is continued on, without comments.
    private static IEnumerable<string> LinesOf(string script) =>
        script.Replace("\\\n", " ").Split('\n').Select(l => Comment().Replace(l, ""));

    // As a shell takes a line apart, but for variables, which stay.
    private static string[] WordsOf(string command) => [.. Word().Matches(command).Select(m => m.Value.Replace("'", "").Replace("\"", ""))];

    [GeneratedRegex(@"```.*?```|`[^`\n]*(\n[^`\n]*)?`|\[[^\]]*\]\([^)]*\)|^#[^\n]*$", RegexOptions.Singleline | RegexOptions.Multiline)]
    private static partial Regex CodeLinksAndHeadings();

    [GeneratedRegex(@"(?<![\w/-])D([1-9]|1\d|2[0-2])(?!\w)")]
    private static partial Regex Invariants();

    [GeneratedRegex(@"^(\w+)/(\w+)\.(\w+)$")]
    private static partial Regex Test();

    [GeneratedRegex(@"(^| )# .*$|^#.*$")]
    private static partial Regex Comment();

    // Up to what ends a command; a quoted text may hold anything.
    [GeneratedRegex(
        """(?:^|(?<=[ (]))(?:ministry|dotnet run --project services/Ministry --) (?!"\$@")(?<words>(?:'[^']*'|"[^"]*"|[^;|&()'"])+)"""
    )]
    private static partial Regex Calls();

    [GeneratedRegex("""(?:'[^']*'|"[^"]*"|[^\s'"])+""")]
    private static partial Regex Word();

    [GeneratedRegex(@"^\| `(?<fault>[a-z-]+)`[^|]*\| (?<writes>\d+\.\d) \|", RegexOptions.Multiline)]
    private static partial Regex MeasuredFaults();

    [GeneratedRegex(@"tests/run(?<names>( [A-Z]\w*)+)")]
    private static partial Regex TestRuns();

    [GeneratedRegex(@"tests/run (?<name>[A-Z]\w*) +-- --filter-method '(?<pattern>[^']+)'")]
    private static partial Regex Filters();
}
