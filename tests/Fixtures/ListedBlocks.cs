using System.Collections.Concurrent;

namespace Ministries.Fixtures;

/// <summary>A block of a document that a reader would copy into a shell.</summary>
/// <param name="Document">Its document.</param>
/// <param name="Begins">How it begins.</param>
/// <param name="Test">The project, class and method of the test that runs it; empty: nothing runs it.</param>
/// <param name="Not">Why nothing runs it, or a line of it. A shell reads it all the same.</param>
public sealed record ListedBlock(string Document, string Begins, string Test = "", string Not = "")
{
    /// <summary>The block as it stands in its document.</summary>
    public Documents.Block Block => Documents.ShellBlocks(Document).Single(b => b.Text.StartsWith(Begins, StringComparison.Ordinal));
}

/// <summary>Every block of every document, with the test that runs it. A new block has to be listed before it can be added, and its test
/// fails until it runs the block (<see cref="RanBlocks"/>).</summary>
public static class ListedBlocks
{
    /// <summary>Tests that run several blocks.</summary>
    public const string Readme = "Ministry/ReaderTests.The_README_leads_from_an_empty_folder_to_verified_evidence",
        Contracts = "Ministry/ReaderTests.The_contracts_README_makes_a_key_and_compiles_the_contracts",
        Guide = "System/SystemTests.The_commands_of_the_documents_run_on_the_containers",
        First = "Integrators/FirstCallsTests.An_example_logs_a_call_once_and_shows_a_refusal",
        Vectors = "Integrators/VectorsTests.An_example_signs_and_verifies_as_the_vectors_say",
        Gateway = "Integrators/GatewayCallsTests.An_example_logs_a_call_once_by_the_gateway_and_shows_a_refusal";

    /// <summary>The blocks, each document's in their order.</summary>
    public static IReadOnlyList<ListedBlock> All { get; } =
    [
        new(
            ".github/CONTRIBUTING.md",
            "dotnet run --project services/Local",
            Not: "tests/run is what runs these tests, as one of them shows; the first line is the README's; the others run tests"
        ),
        new(
            ".github/CONTRIBUTING.md",
            "tests/Contracts/node_modules/.bin/buf build",
            "Ministry/ReaderTests.A_release_renews_the_baseline_of_the_contracts"
        ),
        new("README.md", "dotnet run --project services/Local  ", Readme, "tests/run is what runs this test, as another shows"),
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
        new(
            "README.md",
            "tests/bench",
            "Ministry/ReaderTests.The_README_draws_the_chart_of_the_benchmarks_from_a_file",
            "the other lines measure for minutes, on a machine that does nothing else"
        ),
        new("deploy/README.md", "docker compose -f docker-compose.yml -f deploy/compose.dev.yml", Guide),
        new(
            "deploy/README.md",
            "export OPERATOR_AUTHORITY=",
            "Ministry/ReaderTests.The_operators_guide_starts_production_with_his_authority_address_and_name",
            "compose reads it, and starts nothing: the addresses are an operator's own; System/ProductionTests start the same files"
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
        new(
            "deploy/kubernetes/README.md",
            "kubectl apply",
            "Deploy/KubectlTests.The_guide_applies_the_example_whole_and_as_the_other_tests_read_it"
        ),
        new(
            "deploy/kubernetes/README.md",
            "mkdir -p crds",
            "Deploy/KubectlTests.The_guide_keeps_the_operators_definitions_in_files_that_the_tests_read",
            "tests/run is what runs this test"
        ),
        new("protos/README.md", "gateway=https://127.0.0.1:7120", Readme),
        new("protos/README.md", "openssl genpkey", Contracts),
        new("protos/README.md", "ministry key new", Contracts),
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
        new("tests/Integrators/README.md", "node node/gateway.mjs", Gateway),
        new("tests/Integrators/README.md", "/usr/bin/python3 python/gateway.py", Gateway),
        new("tests/Integrators/README.md", "go run go/gateway/gateway.go", Gateway),
    ];
}

/// <summary>The blocks that a test runs, as they stand in their documents.</summary>
public sealed class RanBlocks
{
    private readonly ConcurrentQueue<Documents.Block> _ran = [];

    /// <summary>Begins with what was run before.</summary>
    public RanBlocks(RanBlocks? before = null)
    {
        foreach (var block in before?._ran ?? [])
            _ran.Enqueue(block);
    }

    /// <summary>Takes a block to run it.</summary>
    /// <param name="document">Its document.</param>
    /// <param name="begins">How it begins.</param>
    /// <returns>Its commands.</returns>
    public string Take(string document, string begins) =>
        Take(Documents.ShellBlocks(document).Single(b => b.Text.StartsWith(begins, StringComparison.Ordinal)));

    /// <summary>Takes a block to run it.</summary>
    /// <returns>Its commands.</returns>
    public string Take(Documents.Block block)
    {
        _ran.Enqueue(block);
        return block.Text;
    }

    /// <summary>Demands that a test has run all blocks that are listed under it, and no others.</summary>
    /// <param name="type">The test's project and class.</param>
    /// <param name="method">The test.</param>
    /// <param name="only">Of a test of several cases: which blocks are those of this case; null: all.</param>
    public void AreAll(string type, string method, Func<Documents.Block, bool>? only = null) =>
        Assert.Equal(
            ListedBlocks
                .All.Where(l => l.Test == $"{type}.{method}")
                .Select(l => l.Block)
                .Where(only ?? (_ => true))
                .Select(b => b.Text)
                .Order(StringComparer.Ordinal),
            _ran.Select(b => b.Text).Order(StringComparer.Ordinal)
        );
}
