using System.Diagnostics;
using System.Text.RegularExpressions;
using Ministries.Fixtures;
using static Ministries.Ministry.Tests.Services;

namespace Ministries.Ministry.Tests;

/// <summary>Somebody reads a document from its beginning, copies each block into a terminal, and gets what the document says.
/// <see cref="ListedBlocks"/> has all blocks.</summary>
/// <remarks>Nothing is replaced but what the documents say stands for something else: <c>case_…</c>, <c>pris_…</c> and <c>transfer_…</c>
/// (ids that the reader has seen), <c>db-1</c> and <c>/backup</c> (a host and a folder of his own).</remarks>
[System.Runtime.Versioning.UnsupportedOSPlatform("windows")]
public sealed partial class ReaderTests(ReadersMachine machine) : IClassFixture<ReadersMachine>
{
    private const string Here = "Ministry/ReaderTests";

    private readonly RanBlocks _ran = new();

    [Fact]
    public async Task The_README_leads_from_an_empty_folder_to_verified_evidence()
    {
        // Sections that need nothing of each other are read at the same time.
        await Task.WhenAll(FiveMinutes(), ServicesAsProcesses());
        var agreement = Agreement();
        var ids = await Case();
        await Calling(ids);
        await Gateway(ids);
        await agreement;
        await Log();
        await Evidence(ids);
        _ran.AreAll(Here, nameof(The_README_leads_from_an_empty_folder_to_verified_evidence));
    }

    [Fact]
    public async Task The_operators_guide_receives_the_databases_log_before_a_commit_returns()
    {
        await machine.Servers;
        var terminal = machine.OpenIn("operator", ("PGHOST", "127.0.0.1"), ("PGUSER", "postgres"));
        await terminal.Run("psql -qc 'create role backup replication login'");

        await terminal.Run(
            Block("deploy/README.md", "mkdir -p /backup/wal").Replace("db-1", "127.0.0.1").Replace("/backup", machine.In("operator/backup"))
        );

        var said = await terminal.Run(
            """
            psql -Atc 'create table written (); select application_name, sync_state from pg_stat_replication'
            psql -qc 'alter system reset synchronous_standby_names' -c 'select pg_reload_conf()' >/dev/null
            kill %1; wait %1 || true
            psql -qc "select pg_drop_replication_slot('backup')" >/dev/null
            ls backup/data backup/wal
            """
        );
        Assert.Contains("pg_receivewal|sync", said);
        Assert.Contains("backup_label", said);
        Assert.Matches("(?m)^[0-9A-F]{24}(\\.partial)?$", said);
        _ran.AreAll(Here, nameof(The_operators_guide_receives_the_databases_log_before_a_commit_returns));
    }

    [Fact]
    public async Task The_contracts_README_makes_a_key_and_compiles_the_contracts()
    {
        foreach (var program in (string[])["openssl genpkey", "ministry key new"])
        {
            var folder = program.Split(' ')[0];
            var said = await machine.OpenIn($"key/{folder}").Run(Block("protos/README.md", program));

            var shown = Convert.FromBase64String(said.Trim().Split('\n')[^1]);
            using var key = Signing.KeyIn(machine.In($"key/{folder}/requests.key"));
            Assert.Equal(key.PublicKey.Export(NSec.Cryptography.KeyBlobFormat.RawPublicKey), shown);
        }

        await machine.Open().Run($"mkdir generated\n{Span("protos/README.md", "protoc ")}");
        Assert.True(File.Exists(machine.In("ministries/generated/ministries/calllog/v1/calllog_service_pb2.py")));
        _ran.AreAll(Here, nameof(The_contracts_README_makes_a_key_and_compiles_the_contracts));
    }

    [Fact]
    public async Task A_release_renews_the_baseline_of_the_contracts()
    {
        // The baseline is written, so the folder is none of links.
        var folder = Directory.CreateDirectory(machine.In("release/tests/Contracts")).FullName;
        File.CreateSymbolicLink(Path.Combine(folder, "node_modules"), Path.Combine(Documents.Root, "tests/Contracts/node_modules"));
        File.CreateSymbolicLink(machine.In("release/protos"), Path.Combine(Documents.Root, "protos"));

        await machine.OpenIn("release").Run(Block(".github/CONTRIBUTING.md", "tests/Contracts/node_modules/.bin/buf build"));

        Assert.NotEqual(0, new FileInfo(Path.Combine(folder, "baseline.binpb")).Length);
        _ran.AreAll(Here, nameof(A_release_renews_the_baseline_of_the_contracts));
    }

    [Fact]
    public async Task The_README_draws_the_chart_of_the_benchmarks_from_a_file()
    {
        Assert.SkipUnless(File.Exists(ReadersMachine.Benchmarks), "the benchmarks are not built");
        File.Copy(Path.Combine(Documents.Root, "tests/Benchmarks/figures.json"), machine.In("ministries/FILE"));

        // The list says why the other lines are left out.
        await machine
            .Open()
            .Run(Block("README.md", "tests/bench ").Split('\n').Single(l => l.Contains("--chart", StringComparison.Ordinal)));

        Assert.StartsWith("<svg", await File.ReadAllTextAsync(machine.In("ministries/SVG"), Cancel));
        _ran.AreAll(Here, nameof(The_README_draws_the_chart_of_the_benchmarks_from_a_file));
    }

    [Fact]
    public async Task The_operators_guide_starts_production_with_his_authority_address_and_name()
    {
        Assert.SkipUnless(File.Exists("/usr/bin/docker-compose"), "this machine has no docker-compose");

        var shown = await machine.Open().Run(Block("deploy/README.md", "export OPERATOR_AUTHORITY="));

        Assert.Matches("(?m)^ *(source: |- )/etc/ministries/authority\\b", shown);
        foreach (var port in (int[])[7101, 7102, 7103])
            Assert.Contains($"192.0.2.10:{port}:", shown);
        Assert.Contains("hub.example", shown);
        _ran.AreAll(Here, nameof(The_operators_guide_starts_production_with_his_authority_address_and_name));
    }

    private sealed record Ids(string Case, string Prisoner, string Transfer)
    {
        public string In(string script) => script.Replace("case_…", Case).Replace("pris_…", Prisoner).Replace("transfer_…", Transfer);
    }

    private async Task FiveMinutes()
    {
        // The quick start in one terminal, and the services of the five minutes in another.
        var (first, second, third) = (machine.Open(), machine.Open(), machine.Open());
        var begun = Stopwatch.GetTimestamp();
        var played = first.Run(Without("tests/run", Block("README.md", "dotnet run --project services/Local  ")));
        var served = await second.Begin(
            Block("README.md", "dotnet run --project services/Local -- --serve"),
            l => l.Contains("services/Ministry", StringComparison.Ordinal)
        );
        Assert.Contains("All of it is true.", await played);
        var exports = served.Where(l => l.TrimStart().StartsWith("export ", StringComparison.Ordinal)).ToArray();
        Assert.Equal(2, exports.Length);
        // The folder is meant from where the reader stands. In the repository, only that one is kept out of commits.
        Assert.Contains($"MINISTRIES_FOLDER={machine.In("ministries/data/local/")}", exports[0]);

        await third.Run(string.Join('\n', exports));
        var said = await third.Run(Block("README.md", "ministry() { dotnet run --no-build"));

        Assert.Contains("one-sided", said);
        Assert.Contains("drafted", said);
        Assert.Contains("state: submitted", said);
        Assert.Contains("The evidence holds", said);
        // The one time that the README promises. Other sections are read beside it, which makes it longer, not shorter.
        var took = Stopwatch.GetElapsedTime(begun);
        TestContext.Current.TestOutputHelper!.WriteLine($"from --serve to verified evidence: {took.TotalSeconds:0} s");
        Assert.InRange(took, TimeSpan.Zero, TimeSpan.FromMinutes(5));
        second.Dispose();
    }

    private async Task ServicesAsProcesses()
    {
        await machine.Servers;
        var terminal = machine.Open();
        await terminal.Run(Block("README.md", "# Keys, certificates and the agreement"));
        var calllog = Block("README.md", "export Agreement=data/pki/agreement.json");
        await Task.WhenAll(
            new[] { ("calllog", "CallLog", "7101"), ("custody", "Custody", "7102"), ("consular", "Consular", "7103") }.Select(s =>
                machine
                    .Open()
                    .Begin(
                        InTheSameWay(calllog, s.Item1, s.Item2, s.Item3),
                        l => l.Contains("ready: calls are served in full", StringComparison.Ordinal)
                    )
            )
        );

        // Its own settings have its name and its port; the others are those of all three.
        static string InTheSameWay(string block, string name, string project, string port)
        {
            var at = block.IndexOf("Listen=", StringComparison.Ordinal);
            return block[..at] + block[at..].Replace("calllog", name).Replace("CallLog", project).Replace("7101", port);
        }
    }

    // The ids that the reader has seen: a case as the five minutes make one, at the processes.
    private async Task<Ids> Case()
    {
        var opening = Documents.Script("README.md", "ministry() { dotnet run --no-build");
        var said = await machine
            .Open(("MINISTRIES_FOLDER", machine.In("ministries/data/pki")))
            .Run(opening[..opening.IndexOf("ministry case $case", StringComparison.Ordinal)] + "echo \"made $case $prisoner $transfer\"");
        var made = Made().Match(said);
        Assert.True(made.Success, said);
        return new(made.Groups[1].Value, made.Groups[2].Value, made.Groups[3].Value);
    }

    private async Task Calling(Ids ids)
    {
        var terminal = machine.Open();
        var said = await terminal.Run(ids.In(Block("README.md", "ministry() { dotnet run --project services/Ministry")));
        Assert.DoesNotContain("WRONG", said);
        Assert.Contains("--counterpart", said);
        Assert.Matches("call_[0-9a-z]{26}", said);

        // What the text names.
        said = await terminal.Run(Span("README.md", "ministry list calls"));
        Assert.Contains("one-sided", said);
        Assert.DoesNotContain("mutual", said);
        said = await terminal.Run(Span("README.md", "ministry serve token"));
        Assert.Matches("[A-Za-z0-9_-]{20,}", said);
        Assert.True(File.Exists(machine.In("ministries/tokens.json")));

        said = await terminal.Run(ids.In(Block("README.md", "ministry custody register-prisoner")));
        Assert.Matches("pris_[0-9a-z]{26}", said);
        Assert.DoesNotContain(ids.Prisoner, said);

        said = await terminal.Run(ids.In(Block("README.md", "export MINISTRIES_AS=ua/coordination-hq        # a variable")));
        Assert.Contains("2 of 2", said);
        Assert.Contains("state: declined", said);
    }

    private async Task Gateway(Ids ids)
    {
        await machine
            .Open()
            .Begin(Block("README.md", "ministry serve --folder"), l => l.StartsWith("kr/mfa at ", StringComparison.Ordinal));

        var lines = await machine
            .Open()
            .Begin(ids.In(Block("README.md", "gateway() {")), l => l.StartsWith("data: ", StringComparison.Ordinal));

        var said = string.Join('\n', lines);
        Assert.DoesNotContain("\"reason\"", said);
        Assert.Matches("\"call\": ?\"call_[0-9a-z]{26}\"", said);
        Assert.Matches("\"state\": ?\"ANSWERED\"", said);
        Assert.Matches($"\"prisoner\": ?\"{ids.Prisoner}\"", said);
        Assert.Matches("\"participant\": ?\"kr/mfa\"", said);

        said = await machine.Open().Run(ids.In(Block("protos/README.md", "gateway=https://127.0.0.1:7120")));
        Assert.DoesNotContain("\"reason\"", said);
        Assert.Matches("\"state\": ?\"ANSWERED\"", said);
        Assert.Matches("(?m)^id: ", said);
    }

    // In a folder that has what the README says must be there.
    private async Task Agreement()
    {
        var terminal = machine.OpenIn("agreements");
        var keys = machine.In("ministries/data/pki");
        await terminal.Run(
            $"""
            cp -p {keys}/agreement.json {keys}/kr/mfa/agreements.key {keys}/kr/mfa/system.pem .
            openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=next -keyout next-authority.key \
              -out next-authority.pem 2>/dev/null
            """
        );

        var said = await terminal.Run(Block("README.md", "cp agreement.json next.json"));

        Assert.Contains("kr/mfa/requests-2", said);
        Assert.Contains("kr/mfa/sealing-2", said);
        Assert.True(File.Exists(machine.In("agreements/agreement.json.1")));
    }

    private async Task Log()
    {
        await machine.Open().Begin(Block("README.md", "ministry witness run"), l => l.Contains(" at https://", StringComparison.Ordinal));

        var said = await machine.Open().Run(Block("README.md", "ministry log verify"));

        Assert.Contains("proved", said);
        Assert.DoesNotContain("BROKEN", said);
    }

    private async Task Evidence(Ids ids)
    {
        var terminal = machine.Open();
        var said = await terminal.Run(ids.In(Block("README.md", "ministry evidence export")));
        Assert.Contains("The evidence holds", said);

        Assert.Contains("The file holds", await terminal.Run(Span("README.md", "node ")));
    }

    private static string Span(string document, string begins) =>
        Documents.Spans(document).First(s => s.StartsWith(begins, StringComparison.Ordinal));

    private string Block(string document, string begins) => _ran.Take(document, begins);

    // The list says why the line is left out.
    private static string Without(string line, string block) =>
        string.Join('\n', block.Split('\n').Where(l => !l.StartsWith(line, StringComparison.Ordinal)));

    [GeneratedRegex("made (case_[0-9a-z]{26}) (pris_[0-9a-z]{26}) (transfer_[0-9a-z]{26})")]
    private static partial Regex Made();
}
