using System.Diagnostics;
using System.Text.RegularExpressions;
using Ministries.Fixtures;
using static Ministries.Ministry.Tests.Services;

namespace Ministries.Ministry.Tests;

/// <summary>Every command of every document is here, with the test that runs it. A new block, or a command in a text, has to be listed with its
/// test before it can be added.</summary>
public sealed partial class DocumentTests
{
    private const string Readme = "Ministry/ReaderTests.The_README_leads_from_an_empty_folder_to_verified_evidence",
        Guide = "System/SystemTests.The_commands_of_the_documents_run_on_the_containers",
        First = "Integrators/FirstCallsTests.An_example_logs_a_call_once_and_shows_a_refusal",
        Vectors = "Integrators/VectorsTests.An_example_signs_and_verifies_as_the_vectors_say";

    /// <summary>A block.</summary>
    /// <param name="Document">Its document.</param>
    /// <param name="Begins">How it begins.</param>
    /// <param name="Test">The project, class and method of the test that runs it; empty: nothing runs it.</param>
    /// <param name="Not">Why nothing runs it, or a line of it. A shell reads it all the same.</param>
    private sealed record Listed(string Document, string Begins, string Test = "", string Not = "");

    private static readonly Listed[] Blocks =
    [
        new(
            ".github/CONTRIBUTING.md",
            "dotnet run --project services/Local",
            Not: "runs the tests themselves; the first line is the README's"
        ),
        new(
            ".github/CONTRIBUTING.md",
            "tests/Contracts/node_modules/.bin/buf build",
            "Ministry/ReaderTests.A_release_renews_the_baseline_of_the_contracts"
        ),
        new("README.md", "dotnet run --project services/Local  ", Readme, "tests/run is what runs this test"),
        new("README.md", "dotnet run --project services/Local -- --serve", Readme),
        new("README.md", "ministry() { dotnet run --no-build", Readme),
        new("README.md", "docker compose up --build --detach", Guide),
        new("README.md", "# Keys, certificates and the agreement", Readme),
        new("README.md", "export Agreement=data/pki/agreement.json", Readme),
        new("README.md", "ministry() { dotnet run --project services/Ministry", Readme),
        new("README.md", "ministry custody register-prisoner", Readme),
        new("README.md", "export MINISTRIES_AS=ua/coordination-hq", Readme),
        new("README.md", "ministry serve --folder", Readme),
        new("README.md", "gateway() {", Readme),
        new("README.md", "cp agreement.json next.json", Readme),
        new("README.md", "ministry witness run", Readme),
        new("README.md", "ministry log verify", Readme),
        new("README.md", "ministry evidence export", Readme),
        new("README.md", "tests/bench", Not: "measures for minutes, on a machine that does nothing else"),
        new("deploy/README.md", "docker compose -f docker-compose.yml -f deploy/compose.dev.yml", Guide),
        new(
            "deploy/README.md",
            "export OPERATOR_AUTHORITY=",
            Not: "has addresses of an operator's own; System/ProductionTests start the same files on 127.0.0.1"
        ),
        new(
            "deploy/README.md",
            "mkdir -p /backup/wal",
            "Ministry/ReaderTests.The_operators_guide_receives_the_databases_log_before_a_commit_returns"
        ),
        new("deploy/README.md", "mkdir -p backup\ndocker compose stop", Guide),
        new("deploy/README.md", "docker compose stop calllog", Guide),
        new(
            "deploy/README.md",
            "psql -c 'drop table mirror_",
            "Gateway/MirrorDatabaseTests.A_database_that_was_emptied_is_followed_from_the_start"
        ),
        new("deploy/kubernetes/README.md", "kubectl apply", Not: "needs a cluster; Deploy/KubernetesTests reads every manifest strictly"),
        new("deploy/kubernetes/README.md", "mkdir -p crds", Not: "needs a cluster with the operators"),
        new("protos/README.md", "openssl genpkey", "Ministry/ReaderTests.The_contracts_README_makes_a_key_and_compiles_the_contracts"),
        new("tests/Benchmarks/README.md", "tests/bench", Not: "measures for minutes, on a machine that does nothing else"),
        new("tests/Cluster/README.md", "tests/cluster", Not: "needs root and half an hour"),
        new("tests/Integrators/README.md", "npm ci --prefix node", First),
        new("tests/Integrators/README.md", "node node/first_calls.mjs", First),
        new("tests/Integrators/README.md", "node --test node/vectors.test.mjs", Vectors),
        new("tests/Integrators/README.md", "protoc -I", First),
        new("tests/Integrators/README.md", "PYTHONPATH=\"$OUT\" /usr/bin/python3 python/first_calls.py", First),
        new("tests/Integrators/README.md", "PYTHONPATH=\"$OUT\" /usr/bin/python3 python/vectors_test.py", Vectors),
        new("tests/Integrators/README.md", "cd ../../protos", First),
        new("tests/Integrators/README.md", "\"$OUT/first_calls\"", First),
        new("tests/Integrators/README.md", "GO111MODULE=off", Vectors),
    ];

    // What begins a command in a text, and what runs such commands or why nothing does. Every `ministry …` is parsed below, every name behind
    // tests/run is that of a project.
    private static readonly Dictionary<string, string> Spans = new()
    {
        ["ministry "] = "parsed here",
        ["tests/"] = "names are looked up here; running them would run this test",
        ["MINISTRIES_"] = "names are looked up here; running them would run this test",
        ["dotnet pack services/Ministry"] = "Ministry/PackageTests.The_commands_tool_is_installed_from_its_package_and_calls",
        ["dotnet publish services/Ministry"] = "Ministry/PackageTests.The_command_is_published_as_one_file",
        ["dotnet pack services/Client"] = "Ministry/PackageTests.The_program_of_the_README_runs_with_the_package_alone",
        ["dotnet tool restore"] = "tests/run runs it",
        ["dotnet csharpier format ."] = "changes the files; tests/run checks the layout",
        ["dotnet run"] = "a name, in a decision",
        ["dotnet build"] = "a name, in a decision",
        ["dotnet Ministries.CallLog.dll health"] = "Deploy/KubernetesTests; System: each container's own check",
        ["docker compose"] = "System/SystemTests, System/ProductionTests: the same verbs, on projects of their own",
        ["promtool test rules"] = "Deploy/MonitoringTests",
        ["node tests/Evidence/verifier/verify.mjs"] = Readme,
        ["buf "] = "Contracts",
        ["protoc -I protos"] = "Ministry/ReaderTests.The_contracts_README_makes_a_key_and_compiles_the_contracts",
        ["export OUT=$(mktemp -d)"] = "Integrators/FirstCallsTests give a folder of their own",
        ["pg_receivewal --synchronous"] = "Ministry/ReaderTests.The_operators_guide_receives_the_databases_log_before_a_commit_returns",
        ["perf record"] = "measured once",
        ["kubectl "] = "needs a cluster",
        ["patronictl "] = "needs Patroni; tests/cluster has it",
        ["chronyc "] = "needs the machine's clock",
        ["rabbitmq"] = "asks a broker in trouble",
    };

    /// <summary>The blocks that a test runs, in the order of their documents.</summary>
    internal static IEnumerable<Documents.Block> BlocksOf(string test) =>
        Blocks
            .Where(l => l.Test == test)
            .Select(l => Documents.ShellBlocks(l.Document).Single(b => b.Text.StartsWith(l.Begins, StringComparison.Ordinal)));

    [Fact]
    public void Every_block_is_listed_once_with_the_test_that_runs_it_in_the_order_of_its_document()
    {
        foreach (var document in Documents.Files)
        {
            var there = Documents.ShellBlocks(document);
            var listed = Blocks.Where(l => l.Document == document).ToArray();
            Assert.True(
                there.Count == listed.Length
                    && there.Zip(listed).All(b => b.First.Text.StartsWith(b.Second.Begins, StringComparison.Ordinal)),
                $"{document} has these blocks, and others are listed:\n{string.Join('\n', there.Select(b => b.Text.Split('\n')[0]))}"
            );
        }
        Assert.All(Blocks, l => Assert.Contains(l.Document, Documents.Files));
        Assert.All(Blocks, l => Assert.True(l.Test.Length > 0 || l.Not.Length > 0, l.Begins));
        Assert.All(Blocks.Select(l => l.Test).Concat(Spans.Values).Where(IsTest).Distinct(), IsThere);
    }

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
        foreach (var listed in Blocks.Where(l => l.Test.Length == 0))
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

    private static bool IsTest(string text) => Test().IsMatch(text);

    private static void IsThere(string test)
    {
        var named = Test().Match(test);
        var file = Path.Combine(Documents.Root, "tests", named.Groups[1].Value, $"{named.Groups[2].Value}.cs");
        Assert.Contains($" {named.Groups[3].Value}(", File.ReadAllText(file));
    }

    // The lines of a script, each with those that it is continued on, without comments.
    private static IEnumerable<string> LinesOf(string script) =>
        script.Replace("\\\n", " ").Split('\n').Select(l => Comment().Replace(l, ""));

    // As a shell takes a line apart, but for variables, which stay.
    private static string[] WordsOf(string command) => [.. Word().Matches(command).Select(m => m.Value.Replace("'", "").Replace("\"", ""))];

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

    [GeneratedRegex(@"tests/run(?<names>( [A-Z]\w*)+)")]
    private static partial Regex TestRuns();
}
