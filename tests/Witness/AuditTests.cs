using System.Security.Cryptography.X509Certificates;
using System.Text.Json.Nodes;
using Microsoft.Data.Sqlite;
using Microsoft.Extensions.Logging;
using Ministries.Client;
using Ministries.Gateway;
using Ministries.Ledger;
using Ministries.Ministry;

namespace Ministries.Witness.Tests;

/// <summary>The client library and the auditor's command catch a log that shows two histories, and name the kind of break.</summary>
public sealed class AuditTests
{
    private const string Writer = "ua/coordination-hq";

    private static Func<MinistrySettings, MinistrySettings> Remembering(Hub hub) =>
        s => s with { SeenFolder = Path.Combine(hub.Folder, "seen", Path.GetFileName(Path.GetDirectoryName(s.Certificate)!)) };

    private static async Task<InvalidLogException> Broken(LogBreak @break, Func<Task> audit)
    {
        var e = await Assert.ThrowsAsync<InvalidLogException>(audit);
        Assert.True(@break == e.Break, e.Message);
        return e;
    }

    [Fact]
    public async Task Checkpoints_seen_in_receipts_are_linked_to_the_log_that_is_shown()
    {
        await using var hub = await Hub.Start(2, 60, "icrc", "kr/mfa");
        var client = hub.As(Writer, Remembering(hub));
        await hub.Write(300, client);
        var cosigned = await hub.Cosigned();
        var audit = await client.Audit("custody", whole: true, cancel: Hub.Cancel);
        Assert.Equal((hub.Ledger.Size, hub.Ledger.Size), (audit.Checkpoint.Size, audit.Entries));
        Assert.InRange(audit.Linked, 1, 301);
        Assert.Equal((cosigned.Size, 2), (audit.Cosigned!.Size, audit.Cosigners.Count));
        Assert.Equal(["icrc", "kr/mfa"], audit.Compared.Keys.Order());
        Assert.Equal("it cannot be reached", audit.NotCompared["ua/mfa"]);
        // The next audit is compared with this one only, even after a restart of the client.
        await hub.Write(3, client);
        Assert.InRange((await client.Audit("custody", cancel: Hub.Cancel)).Linked, 2, 4);
        var again = hub.As(Writer, Remembering(hub));
        var next = await again.Audit("custody", cancel: Hub.Cancel);
        Assert.Equal((1, hub.Ledger.Size), (next.Linked, next.LinkedSize));
    }

    [Fact]
    public async Task A_log_is_audited_in_the_background_after_a_number_of_receipts()
    {
        await using var hub = await Hub.Start(0, 0);
        var client = hub.As(Writer, s => Remembering(hub)(s) with { AuditEvery = 5 });
        for (var i = 0; i < 5; i++)
            await hub.Write(1, client);
        var file = Path.Combine(hub.Folder, "seen", "coordination-hq", "custody.checkpoint");
        await Hub.Until(
            () => File.Exists(file) && SignedNote.Read(File.ReadAllText(file))!.Tree!.Size >= hub.Ledger.Size,
            "it was not audited"
        );
    }

    [Fact]
    public async Task A_replica_that_is_away_does_not_keep_the_log_from_being_audited()
    {
        await using var hub = await Hub.Start(0, 0);
        var client = hub.As(
            Writer,
            s =>
                s with
                {
                    Services = new Dictionary<string, Uri> { ["custody"] = new($"https://127.0.0.1:{Fixtures.Ports.Free()}") },
                    FurtherAddresses = new Dictionary<string, IReadOnlyList<Uri>> { ["custody"] = [hub.Address] },
                }
        );
        await hub.Write(3, client);
        for (var i = 0; i < 2; i++)
            Assert.Equal(hub.Ledger.Size, (await client.Audit("custody", cancel: Hub.Cancel)).Checkpoint.Size);
    }

    // Changes the service's database as its operator could, and the file of the last checkpoint with it. So everything that the service
    // itself can check is consistent.
    private static async Task<MinistryClient> Tampered(Hub hub, string sql, int written = 5)
    {
        var client = hub.As(Writer, Remembering(hub));
        for (var i = 0; i < written; i++)
            await hub.Write(1, client);
        await client.Audit("custody", cancel: Hub.Cancel);
        await hub.StopService();
        await using (var database = new SqliteConnection($"Data Source={hub.Database}"))
        {
            await database.OpenAsync(Hub.Cancel);
            await using var command = database.CreateCommand();
            command.CommandText = sql;
            Assert.True(await command.ExecuteNonQueryAsync(Hub.Cancel) > 0);
            // Computes the right edge again from the present headers.
            command.CommandText = "SELECT header FROM entries ORDER BY position";
            var edge = new TreeEdge(0, []);
            ulong size = 0;
            await using (var reader = await command.ExecuteReaderAsync(Hub.Cancel))
                for (; await reader.ReadAsync(Hub.Cancel); size++)
                    edge.Add(TreeHash.Leaf((byte[])reader[0]), []);
            command.CommandText = "UPDATE head SET edge = $edge, size = $size";
            command.Parameters.AddWithValue("$edge", edge.TakeView().Edge().SelectMany(h => h).ToArray());
            command.Parameters.AddWithValue("$size", (long)size);
            Assert.Equal(1, await command.ExecuteNonQueryAsync(Hub.Cancel));
        }
        SqliteConnection.ClearAllPools();
        File.Delete(hub.Checkpoint);
        await hub.StartService();
        return hub.As(Writer, Remembering(hub));
    }

    [Fact]
    public async Task A_rewritten_entry_is_caught()
    {
        await using var hub = await Hub.Start(0, 0);
        var client = await Tampered(hub, "UPDATE entries SET header = cast(header || x'6000' as blob) WHERE position = 2");
        await hub.Write();
        var e = await Broken(LogBreak.NotAPrefix, () => client.Audit("custody", cancel: Hub.Cancel));
        Assert.NotNull(e.One);
        Assert.NotNull(e.Other);
        // It stays broken for this client, which accepts no receipt of that log any more.
        await Broken(LogBreak.NotAPrefix, () => hub.Write(1, client));
        await Broken(LogBreak.NotAPrefix, () => hub.Write(1, hub.As(Writer, Remembering(hub))));
        var again = await Broken(LogBreak.NotAPrefix, () => hub.As(Writer, Remembering(hub)).Audit("custody", cancel: Hub.Cancel));
        Assert.Equal((e.One, e.Other, e.Message), (again.One, again.Other, again.Message));
    }

    [Fact]
    public async Task Each_entry_is_verified_with_its_signature_and_one_that_was_altered_beside_its_header_is_caught()
    {
        await using var hub = await Hub.Start(0, 0);
        var client = hub.As(Writer, Remembering(hub));
        await hub.Write(3, client);
        var audit = await client.Audit("custody", entries: true, cancel: Hub.Cancel);
        Assert.Equal(hub.Ledger.Size, audit.Entries);
        Assert.InRange(audit.Signatures, 3, audit.Verified - 1);
        client = await Tampered(hub, "UPDATE entries SET request = cast(request || x'6000' as blob) WHERE position = 2");
        // The log is the one that was signed, but the request that is shown is not the one that it commits to.
        await client.Audit("custody", whole: true, cancel: Hub.Cancel);
        var e = await Assert.ThrowsAsync<InvalidEntryException>(() => client.Audit("custody", entries: true, cancel: Hub.Cancel));
        Assert.Contains("the part Request of entry 2 is not what was recorded", e.Message);
    }

    [Fact]
    public async Task A_reordered_pair_is_caught()
    {
        await using var hub = await Hub.Start(0, 0);
        var client = await Tampered(
            hub,
            "CREATE TEMP TABLE before AS SELECT position, header FROM entries; UPDATE entries SET header = "
                + "(SELECT header FROM before WHERE before.position = 5 - entries.position) WHERE position IN (2, 3)"
        );
        await Broken(LogBreak.TwoRoots, () => client.Audit("custody", cancel: Hub.Cancel));
    }

    [Fact]
    public async Task A_truncated_log_is_caught()
    {
        await using var hub = await Hub.Start(0, 0);
        var client = await Tampered(hub, "DELETE FROM entries WHERE position >= 4");
        await Broken(LogBreak.Truncated, () => client.Audit("custody", cancel: Hub.Cancel));
    }

    [Fact]
    public async Task A_database_restored_from_yesterday_is_caught_even_where_it_has_grown_since()
    {
        await using var hub = await Hub.Start(0, 0);
        var client = hub.As(Writer, Remembering(hub));
        await hub.Write(3, client);
        await hub.StopService();
        foreach (var file in Directory.GetFiles(hub.Folder, "custody.*"))
            File.Copy(file, file.Replace("custody.", "yesterday."));
        await hub.StartService();
        await hub.Write(2, client);
        await hub.StopService();
        await hub.StartService(Path.Combine(hub.Folder, "yesterday.db"), Path.Combine(hub.Folder, "yesterday.checkpoint"));
        await Broken(LogBreak.Truncated, () => hub.As(Writer, Remembering(hub)).Audit("custody", cancel: Hub.Cancel));
        // For another participant, who has seen nothing of today, the log just grows.
        await hub.Write(20);
        await Broken(LogBreak.NotAPrefix, () => client.Audit("custody", cancel: Hub.Cancel));
    }

    [Fact]
    public async Task The_first_receipt_after_a_restart_is_compared_with_what_was_seen_before()
    {
        await using var hub = await Hub.Start(0, 0);
        var client = hub.As(Writer, Remembering(hub));
        await hub.Write(4, client);
        await client.Audit("custody", cancel: Hub.Cancel);
        await hub.StopService();
        await hub.StartService(Path.Combine(hub.Folder, "other.db"), Path.Combine(hub.Folder, "other.checkpoint"));
        var again = hub.As(Writer, Remembering(hub));
        await Assert.ThrowsAsync<InvalidLogException>(async () =>
        {
            for (var tries = 0; tries < 300; tries++)
                await hub.Write(1, again);
        });
    }

    [Fact]
    public async Task A_split_view_is_caught_by_the_participant_whose_witness_saw_the_other_side()
    {
        // Two participants' witnesses cosign. Then the hub shows kr/mfa another history, through a second service with the same key, which
        // no witness has seen.
        await using var hub = await Hub.Start(2, 60, "icrc", "kr/mfa");
        var victim = hub.As(Writer, Remembering(hub));
        await Split(hub);
        await hub.StartWitness("icrc");
        await hub.StartWitness("kr/mfa");
        await hub.Write(6, victim);
        var e = await Broken(LogBreak.NotAPrefix, () => victim.Audit("custody", cancel: Hub.Cancel));
        // The service signed both checkpoints: the one that the witnesses cosigned, and the one that the victim was shown.
        Assert.NotEmpty(Trust.Cosigners.Of(e.One!, hub.Agreement));
        Assert.Empty(Trust.Cosigners.Of(e.Other!, hub.Agreement));
    }

    /// <summary>All that the gateway has seen itself is consistent: the database is one that was never changed.</summary>
    [Fact]
    public async Task A_gateways_copy_stops_at_a_split_view_that_only_a_witness_shows()
    {
        await using var hub = await Hub.Start(2, 60, "icrc", "kr/mfa");
        await Split(hub);
        await hub.Write(6);
        var state = Directory.CreateDirectory(Path.Combine(hub.Folder, "gateway")).FullName;
        // While no witness can be asked, it copies the log that it is shown.
        Assert.Null(await Alarm(until: m => (ulong)m["tree_size"]! >= 6 && (ulong)m["next_position"]! > 0));
        await hub.StartWitness("icrc");
        await hub.Write();

        var alarm = await Alarm(until: m => m["alarm"] is not null);

        Assert.StartsWith("the log of custody is broken", alarm);

        async Task<string?> Alarm(Func<JsonNode, bool> until)
        {
            var settings = new GatewaySettings
            {
                Participant = Writer,
                Folder = hub.Folder,
                State = state,
                Services = new Dictionary<string, IReadOnlyList<Uri>> { ["custody"] = [hub.Address] },
                Listen = new Uri($"https://127.0.0.1:{Fixtures.Ports.Free()}"),
            };
            await using var gateway = GatewayHost.Build(settings, logging: l => l.ClearProviders());
            await gateway.StartAsync(Hub.Cancel);
            var policy = new X509ChainPolicy
            {
                TrustMode = X509ChainTrustMode.CustomRootTrust,
                RevocationMode = X509RevocationMode.NoCheck,
            };
            policy.CustomTrustStore.ImportFromPemFile(Path.Combine(state, "gateway.pem"));
            using var http = new HttpClient(new SocketsHttpHandler { SslOptions = new() { CertificateChainPolicy = policy } });
            var token = (await File.ReadAllTextAsync(Path.Combine(state, "local.token"), Hub.Cancel)).Trim();
            http.DefaultRequestHeaders.Authorization = new("Bearer", token);
            using var timer = new PeriodicTimer(TimeSpan.FromMilliseconds(50));
            JsonNode custody;
            do
            {
                await timer.WaitForNextTickAsync(Hub.Cancel);
                var status = JsonNode.Parse(await http.GetStringAsync(new Uri(settings.Listen, "/status"), Hub.Cancel))!;
                custody = status["mirror"]!.AsArray().Single(m => (string?)m!["service"] == "custody")!;
            } while (!until(custody));
            await gateway.StopAsync(CancellationToken.None);
            return (string?)custody["alarm"];
        }
    }

    // The witnesses cosign one history, and stop. Then a second service with the same key shows another one, which they have not seen: it
    // starts while none of them can be asked, and gives them no time to answer.
    private static async Task Split(Hub hub)
    {
        await hub.Write(3);
        await hub.Cosigned();
        await hub.StopService();
        await hub.StopWitness("icrc");
        await hub.StopWitness("kr/mfa");
        await hub.StartService(
            Path.Combine(hub.Folder, "other.db"),
            Path.Combine(hub.Folder, "other.checkpoint"),
            new() { Patience = TimeSpan.FromTicks(1) }
        );
    }

    [Fact]
    public void Two_checkpoints_of_one_size_are_caught_where_they_are_seen()
    {
        var key = CheckpointKey.FromSeed("ministries.example/custody", new byte[32]);
        var folder = Directory.CreateTempSubdirectory("seen").FullName;
        var seen = new SeenLog("custody", folder);
        Assert.Equal(1, seen.Add(key.Sign(5, new byte[32])));
        Assert.Equal(1, seen.Add(key.Sign(5, new byte[32])));
        Assert.Equal(2, seen.Add(key.Sign(6, new byte[32])));
        byte[] other = [1, .. new byte[31]];
        var e = Assert.Throws<InvalidLogException>(() => seen.Add(key.Sign(5, other)));
        Assert.Equal((LogBreak.TwoRoots, key.Sign(5, new byte[32]).Text, key.Sign(5, other).Text), (e.Break, e.One, e.Other));
        // Both are kept, to be shown to others, and no further checkpoint is accepted.
        Assert.Throws<InvalidLogException>(() => seen.Add(key.Sign(7, new byte[32])));
        e = Assert.Throws<InvalidLogException>(() => new SeenLog("custody", folder).Add(key.Sign(7, new byte[32])));
        Assert.Equal((LogBreak.TwoRoots, key.Sign(5, new byte[32]).Text, key.Sign(5, other).Text), (e.Break, e.One, e.Other));
        Directory.Delete(folder, recursive: true);
    }

    [Fact]
    public void A_service_that_never_shows_its_log_is_not_believed_for_ever()
    {
        var key = CheckpointKey.FromSeed("ministries.example/custody", new byte[32]);
        var seen = new SeenLog("custody", null);
        for (ulong size = 1; size <= SeenLog.MaxPending; size++)
            seen.Add(key.Sign(size, new byte[32]));
        Assert.Equal(
            LogBreak.NotShown,
            Assert.Throws<InvalidLogException>(() => seen.Add(key.Sign(SeenLog.MaxPending + 1, new byte[32]))).Break
        );
        seen.Link(key.Sign(SeenLog.MaxPending, new byte[32]), seen.Take().Pending);
        Assert.Equal(1, seen.Add(key.Sign(SeenLog.MaxPending + 1, new byte[32])));
    }

    [Fact]
    public async Task The_command_says_what_is_proved_and_by_whom()
    {
        await using var hub = await Hub.Start(2, 60, "icrc", "kr/mfa");
        await hub.Write(3);
        var size = (await hub.Cosigned()).Size;
        var (code, text) = await Run(hub);
        Assert.True(code == 0, text);
        Assert.Contains($"proved     {size} entries, root ", text);
        Assert.Contains($"proved     the root is that of these {size} entries, each in its place", text);
        Assert.Contains($"proved     icrc cosigned the first {size} entries at ", text);
        Assert.Contains("proved     2 of 3 witnesses; the agreement demands 2", text);
        Assert.Contains($"proved     the witness of kr/mfa has seen the same log, up to {size} entries", text);
        Assert.Contains("unproved   whether the witness of ua/mfa has seen the same log: it cannot be reached", text);
        Assert.Contains("unproved   whether it goes on from an earlier one", text);
        (code, text) = await Run(hub, "-j");
        var json = JsonNode.Parse(text)!;
        Assert.Equal((0, true, size, 2), (code, (bool)json["proved"]!, (ulong)json["size"]!, json["cosignatures"]!.AsArray().Count));

        // With too few cosignatures, the report says so and the exit code too.
        await hub.StopWitness("icrc");
        await hub.StopWitness("kr/mfa");
        await hub.StopService();
        File.Delete(hub.Checkpoint + ".cosigned");
        await hub.StartService();
        (code, text) = await Run(hub);
        Assert.Equal(1, code);
        Assert.Contains("UNPROVED   0 of 3 witnesses; the agreement demands 2", text);

        await hub.StopService();
        (code, text) = await Run(hub);
        Assert.Equal(3, code);
    }

    [Fact]
    public async Task The_command_shows_both_checkpoints_of_a_broken_log()
    {
        await using var hub = await Hub.Start(0, 0);
        await Tampered(hub, "UPDATE entries SET header = cast(header || x'6000' as blob) WHERE position = 2");
        var seen = Path.Combine(hub.Folder, "seen", "coordination-hq");
        var (code, text) = await Run(hub, "--seen", seen);
        Assert.Equal(1, code);
        Assert.Contains("BROKEN     the log of custody is broken (TwoRoots): two histories of ", text);
        Assert.Equal(2, text.Split("— ministries.example/custody ").Length - 1);
        (code, text) = await Run(hub, "--seen", seen, "-j");
        Assert.Equal(
            (1, "TwoRoots", 2),
            (code, (string)JsonNode.Parse(text)!["break"]!, JsonNode.Parse(text)!["checkpoints"]!.AsArray().Count)
        );
    }

    private static async Task<(int Code, string Text)> Run(Hub hub, params string[] more)
    {
        var output = new StringWriter();
        var root = new System.CommandLine.RootCommand();
        foreach (var command in CallCommands.Create())
            root.Add(command);
        var code = await root.Parse([
                "log",
                "verify",
                "custody",
                "--folder",
                hub.Folder,
                "--as",
                Writer,
                "--address",
                $"custody={hub.Address}",
                .. more,
            ])
            .InvokeAsync(new System.CommandLine.InvocationConfiguration { Output = output, Error = output }, Hub.Cancel);
        return (code, output.ToString());
    }
}
