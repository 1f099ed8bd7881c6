using Google.Protobuf.WellKnownTypes;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.DependencyInjection;
using Ministries.Client;
using Ministries.Fixtures;
using Ministries.Hosting;
using Ministries.Ledger;
using Ministries.Trust;
using Ministries.Types.V1;
using NSec.Cryptography;

namespace Ministries.Witness.Tests;

/// <summary>A key for checkpoints was stolen, or is changed in the wrong order. What the thief signs stops nobody and convinces
/// nobody.</summary>
public sealed class StolenKeyTests
{
    private const string Service = "service/custody",
        Origin = "ministries.example/custody";

    private static string KeyFile(Hub hub) => Path.Combine(hub.Folder, Service, "checkpoint.key");

    private static CheckpointKey Old(Hub hub) => CheckpointKey.FromPem(Origin, File.ReadAllText(Path.Combine(hub.Folder, "stolen.key")));

    private static Task<Agreement> Add(Hub hub, Key fresh) =>
        hub.Next(a => Signing.Of(a, Service).SigningKeys.Add(Signing.Listed($"{Service}/checkpoint-2", SigningKeyUse.Checkpoints, fresh)));

    private static Task<Agreement> Revoke(Hub hub) =>
        hub.Next(a => Signing.Of(a, Service).SigningKeys[0].RevokeTime = DateTimeOffset.UtcNow.ToTimestamp());

    private static async Task Change(Hub hub)
    {
        using var fresh = Signing.NewKey();
        File.Copy(KeyFile(hub), Path.Combine(hub.Folder, "stolen.key"));
        await Add(hub, fresh);
        Signing.Replace(KeyFile(hub), fresh);
        await Hub.Until(
            () => hub.Ledger.Key.Verifier == CheckpointKey.FromPem(Origin, File.ReadAllText(KeyFile(hub))).Verifier,
            "the key is taken over"
        );
    }

    // A fork that the stolen key signed, cosigned by a dishonest witness with a false time.
    private static string Fork(Hub hub, ulong size, string? witness = null)
    {
        var note = Old(hub).Sign(size, new byte[32]).Text;
        return witness is null
            ? note
            : note
                + CosignatureKey
                    .FromPem(
                        CosignatureKey.NameOf("ministries.example", witness),
                        File.ReadAllText(Path.Combine(hub.Folder, witness, "cosignatures.key"))
                    )
                    .Cosign(SignedNote.Read(note)!, DateTimeOffset.UtcNow.AddDays(-1));
    }

    [Fact]
    public async Task A_fork_of_a_stolen_key_shown_by_a_dishonest_witness_stops_neither_the_service_nor_a_client()
    {
        await using var hub = await Hub.Start(2, 60, "icrc", "ua/mfa");
        await hub.Write(3);
        await Change(hub);
        await Revoke(hub);
        await hub.Write(2);
        await hub.Cosigned();
        var fork = Fork(hub, hub.Ledger.Size + 100, "kr/mfa");
        await using var dishonest = await hub.StartFalseWitness(
            "kr/mfa",
            async http =>
            {
                http.Response.StatusCode = http.Request.Method == "POST" ? 422 : 200;
                await http.Response.WriteAsync(http.Request.Method == "POST" ? "no\n" : fork, http.RequestAborted);
            }
        );
        await hub.Write(2);
        await Hub.Until(
            () => hub.Warnings.Any(w => w.Contains("the witness kr/mfa did not cosign the log of custody: it refuses")),
            "it was asked"
        );
        await hub.Cosigned();
        Assert.Equal((0, false), (hub.ExitCode, hub.Stopping));
        foreach (var size in (ulong[])[hub.Ledger.Size + 100, 2])
        {
            fork = Fork(hub, size, "kr/mfa");
            var audit = await hub.As("icrc").Audit("custody", cancel: Hub.Cancel);
            Assert.Equal([fork], audit.Doubtful);
            Assert.Contains("nothing dates it", audit.NotCompared["kr/mfa"]);
            Assert.Equal(["icrc", "ua/mfa"], audit.Cosigners);
        }
        // A checkpoint of the log's own history is compared, whoever signed it.
        var view = await hub.Ledger.ProveConsistency(2, 2, Hub.Cancel);
        fork = Old(hub).Sign(2, view!.Root).Text;
        Assert.Equal(2ul, (await hub.As("icrc").Audit("custody", cancel: Hub.Cancel)).Compared["kr/mfa"]);
        // The key in force still counts.
        fork = CheckpointKey.FromPem(Origin, File.ReadAllText(KeyFile(hub))).Sign(2, new byte[32]).Text;
        await Assert.ThrowsAsync<InvalidLogException>(() => hub.As("icrc").Audit("custody", cancel: Hub.Cancel));
    }

    [Fact]
    public async Task What_a_client_saw_before_the_key_was_revoked_still_binds_the_log()
    {
        await using var hub = await Hub.Start(0, 0);
        var folder = Path.Combine(hub.Folder, "seen");
        Func<MinistrySettings, MinistrySettings> remembering = s => s with { SeenFolder = folder };
        await hub.Write(4, hub.As("ua/coordination-hq", remembering));
        await Change(hub);
        // The thief rewrote the past and put a checkpoint of it into the client's folder, once as seen today and once as seen before the
        // revocation.
        await Revoke(hub);
        var seen = Path.Combine(folder, "custody.seen");
        var before = await File.ReadAllTextAsync(seen, Hub.Cancel);
        string Line(DateTimeOffset time) =>
            $"{Convert.ToBase64String(System.Text.Encoding.UTF8.GetBytes(Fork(hub, 3)))} {time.ToUnixTimeSeconds()}\n";
        await File.WriteAllTextAsync(seen, Line(DateTimeOffset.UtcNow.AddSeconds(5)), Hub.Cancel);
        Assert.Single((await hub.As("icrc", remembering).Audit("custody", cancel: Hub.Cancel)).Doubtful);
        await File.WriteAllTextAsync(seen, Line(DateTimeOffset.UtcNow.AddHours(-1)), Hub.Cancel);
        await Assert.ThrowsAsync<InvalidLogException>(() => hub.As("icrc", remembering).Audit("custody", cancel: Hub.Cancel));
        Assert.NotEmpty(before);
    }

    [Fact]
    public async Task The_check_at_the_start_does_not_sign_a_stolen_keys_checkpoint_that_contradicts_the_database()
    {
        await using var hub = await Hub.Start(0, 0);
        await hub.Write(3);
        await Change(hub);
        await Revoke(hub);
        await hub.StopService();
        var honest = await File.ReadAllBytesAsync(hub.Checkpoint, Hub.Cancel);
        var fork = Fork(hub, 1_000_000);
        var file = new byte[2048];
        System.Text.Encoding.UTF8.GetBytes(fork, file);
        await File.WriteAllBytesAsync(hub.Checkpoint, file, Hub.Cancel);
        var refused = await Assert.ThrowsAsync<LedgerInconsistentException>(() => hub.StartService());
        Assert.Contains("a thief may have made it", refused.Message);
        Assert.Equal(file, await File.ReadAllBytesAsync(hub.Checkpoint, Hub.Cancel));
        // The cosigned checkpoint that nothing dates does not count either, and is ignored.
        await File.WriteAllBytesAsync(hub.Checkpoint, honest, Hub.Cancel);
        await File.WriteAllTextAsync(hub.Checkpoint + ".cosigned", fork, Hub.Cancel);
        await hub.StartService();
        Assert.Null(hub.Ledger.Cosigned);
        await hub.Write();
    }

    [Fact]
    public async Task A_service_that_was_away_while_its_key_was_revoked_starts_with_the_new_one()
    {
        await using var hub = await Hub.Start(2, 60, "icrc", "kr/mfa");
        await hub.Write(3);
        var cosigned = await hub.Cosigned();
        await hub.StopService();
        using var fresh = Signing.NewKey();
        Signing.Next(
            hub.Folder,
            a =>
            {
                Signing.Of(a, Service).SigningKeys.Add(Signing.Listed($"{Service}/checkpoint-2", SigningKeyUse.Checkpoints, fresh));
                Signing.Of(a, Service).SigningKeys[0].RevokeTime = DateTimeOffset.UtcNow.AddSeconds(1).ToTimestamp();
            }
        );
        Signing.Replace(KeyFile(hub), fresh);
        await Hub.Until(
            () => DateTimeOffset.UtcNow > Signing.Of(hub.Agreement, Service).SigningKeys[0].RevokeTime.ToDateTimeOffset(),
            "it is revoked"
        );
        await hub.StartService();
        // Two witnesses date the checkpoint before the revocation.
        Assert.True(hub.Ledger.Cosigned!.Size >= cosigned.Size);
        await hub.Write();
        Assert.NotNull(CheckpointKey.FromPem(Origin, File.ReadAllText(KeyFile(hub))).Verify((await hub.Cosigned()).Text));
    }

    [Fact]
    public async Task The_key_file_before_the_agreement_and_the_agreement_before_the_key_file_wait_for_each_other()
    {
        await using var hub = await Hub.Start(0, 0);
        using var fresh = Signing.NewKey();
        var (first, own) = (hub.Ledger.Key.Verifier, await File.ReadAllBytesAsync(KeyFile(hub), Hub.Cancel));
        // The key comes first.
        Signing.Replace(KeyFile(hub), fresh);
        var next = await File.ReadAllBytesAsync(KeyFile(hub), Hub.Cancel);
        await Hub.Until(() => hub.Warnings.Any(w => w.Contains("is missing among its keys that are valid now")), "it was noticed");
        await hub.Write(2);
        Assert.Equal(first, hub.Ledger.Key.Verifier);
        await Add(hub, fresh);
        await Hub.Until(() => hub.Ledger.Key.Verifier != first, "the key is taken over");
        await hub.Write(2);
        // Back to the old key. Now the agreement that ends it comes before its file is replaced.
        await File.WriteAllBytesAsync(KeyFile(hub), own, Hub.Cancel);
        await Hub.Until(() => hub.Ledger.Key.Verifier == first, "the old key signs again");
        hub.Warnings.Clear();
        var version = Signing
            .Next(hub.Folder, a => Signing.Of(a, Service).SigningKeys[0].RevokeTime = DateTimeOffset.UtcNow.ToTimestamp())
            .Version;
        await Hub.Until(() => hub.Warnings.Any(w => w.Contains("is missing among its keys that are valid now")), "it was noticed");
        Assert.NotEqual(version, hub.Host!.Services.GetRequiredService<Agreements>().InForce.Permissions.Agreement.Version);
        await File.WriteAllBytesAsync(KeyFile(hub), next, Hub.Cancel);
        await Hub.Until(
            () => hub.Host!.Services.GetRequiredService<Agreements>().InForce.Permissions.Agreement.Version == version,
            "both are taken over"
        );
        Assert.NotEqual(first, hub.Ledger.Key.Verifier);
        await hub.Write(2);
        Assert.Equal((0, false), (hub.ExitCode, hub.Stopping));
    }

    [Fact]
    public async Task A_replica_adopts_no_version_that_ends_the_key_it_still_signs_with()
    {
        await using var hub = await Hub.Start(0, 0);
        await hub.Write(2);
        var folder = Directory.CreateDirectory(Path.Combine(hub.Folder, "replica")).FullName;
        var (own, settings) = (Path.Combine(folder, "checkpoint.key"), hub.Host!.Services.GetRequiredService<Settings>());
        File.Copy(KeyFile(hub), own);
        var definition = Custody.CustodyService.Definition;
        await using var replica = await ServiceLedger.Open(
            new LedgerOptions
            {
                Service = "custody",
                Connection = settings.Ledger,
                Kinds = [.. definition.Streams, .. Hosting.Bus.BusRegistration.Streams, Agreements.Kind],
                Key = CheckpointKey.FromPem(Origin, await File.ReadAllTextAsync(own, Hub.Cancel)),
                CheckpointFile = Path.Combine(folder, "custody.checkpoint"),
                Judge = LogKeys.Of(hub.Agreement, "custody").Judging(TimeProvider.System),
            },
            Hub.Cancel
        );
        var agreements = new Agreements(settings with { CheckpointKey = own }, TimeProvider.System);
        await agreements.Adopt(replica, Hub.Cancel);

        await Change(hub);
        await agreements.Adopt(replica, Hub.Cancel);
        await hub.Write(2);
        // Meanwhile each replica signs with its own key, and both keys count everywhere.
        var (one, other) = (await hub.Ledger.ReadCheckpoint(Hub.Cancel), await replica.ReadCheckpoint(Hub.Cancel));
        Assert.Equal((one.Size, Convert.ToHexString(one.Root)), (other.Size, Convert.ToHexString(other.Root)));
        foreach (var text in (string[])[one.Text, other.Text])
            Assert.NotNull(LogKeys.Of(hub.Agreement, "custody").Present(text, DateTimeOffset.UtcNow));

        await Revoke(hub);
        await Assert.ThrowsAsync<AgreementRefusedException>(() => agreements.Adopt(replica, Hub.Cancel));
        Assert.Null(LogKeys.Of(hub.Agreement, "custody").Present((await replica.ReadCheckpoint(Hub.Cancel)).Text, DateTimeOffset.UtcNow));
        File.Copy(KeyFile(hub), own, overwrite: true);
        await agreements.Adopt(replica, Hub.Cancel);
        Assert.Equal(hub.Agreement.Version, agreements.InForce.Permissions.Agreement.Version);
        Assert.NotNull(
            LogKeys.Of(hub.Agreement, "custody").Present((await replica.ReadCheckpoint(Hub.Cancel)).Text, DateTimeOffset.UtcNow)
        );
    }

    [Fact]
    public async Task A_witness_that_has_not_the_new_agreement_is_missed_and_catches_up()
    {
        await using var hub = await Hub.Start(2, 60, "icrc", "ua/mfa");
        var late = Path.Combine(hub.Folder, "late.json");
        File.Copy(Path.Combine(hub.Folder, "agreement.json"), late);
        await hub.StartWitness("kr/mfa", agreement: late);
        await hub.Write(2);
        await Hub.Until(() => hub.Witnessing.Missing.Count == 0, "all cosign");
        await Change(hub);
        await Revoke(hub);
        await hub.Write(2);
        await Hub.Until(() => hub.Witnessing.Missing.SequenceEqual(["kr/mfa"]), "it is missed");
        Assert.Equal(2, LogKeys.Of(hub.Agreement, "custody").Judge((await hub.Cosigned()).Text, DateTimeOffset.UtcNow).Cosigners.Count);
        // The versions that it missed are put beside its file, as an operator would do.
        for (var version = hub.Agreement.Version - 1; version > 0; version--)
            File.Copy(AgreementFile.PathOf(Path.Combine(hub.Folder, "agreement.json"), version), AgreementFile.PathOf(late, version));
        File.Copy(Path.Combine(hub.Folder, "agreement.json"), late, overwrite: true);
        await hub.Write();
        await Hub.Until(() => hub.Witnessing.Missing.Count == 0, "it cosigns again");
        Assert.Equal((0, false), (hub.ExitCode, hub.Stopping));
    }

    [Fact]
    public async Task An_unproved_checkpoint_is_no_conflict_once_its_key_is_revoked()
    {
        await using var hub = Hub.Make();
        var alarms = new List<string>();
        var state = hub.StateOf("icrc");
        using var witness = new Client.Witness(
            state,
            () => hub.Agreement,
            CosignatureKey.FromPem(
                CosignatureKey.NameOf("ministries.example", "icrc"),
                await File.ReadAllTextAsync(Path.Combine(hub.Folder, "icrc/cosignatures.key"), Hub.Cancel)
            ),
            TimeProvider.System
        )
        {
            Alarm = alarms.Add,
        };
        string[] entries = ["a", "b", "c", "d", "e"];
        var (honest, forked) = (new Log(hub).Add(entries), new Log(hub).Add("a", "B", "c", "d", "e"));
        Assert.Equal(200, witness.AddCheckpoint(honest.Request(0, 4)).Status);
        // The thief forks the log in a way that no proof shows yet.
        Assert.Equal(422, witness.AddCheckpoint(forked.Request(4, 5)).Status);
        Assert.Single(Directory.GetFiles(state, "*.unproved-*"));
        using var fresh = Signing.NewKey();
        Signing.Next(
            hub.Folder,
            a =>
            {
                Signing.Of(a, Service).SigningKeys.Add(Signing.Listed($"{Service}/checkpoint-2", SigningKeyUse.Checkpoints, fresh));
                Signing.Of(a, Service).SigningKeys[0].RevokeTime = DateTimeOffset.UtcNow.AddHours(-1).ToTimestamp();
            }
        );
        Signing.Replace(KeyFile(hub), fresh);
        Assert.Equal(403, witness.AddCheckpoint(forked.Request(4, 5)).Status);
        Assert.Equal(200, witness.AddCheckpoint(new Log(hub).Add(entries).Request(4, 5)).Status);
        Assert.Empty(alarms);
        Assert.Empty(Directory.GetFiles(state, "*.unproved-*"));
    }
}
