using System.Collections.Concurrent;
using System.Security.Cryptography.X509Certificates;
using Google.Protobuf;
using Grpc.Core;
using Microsoft.Data.Sqlite;
using Microsoft.Extensions.DependencyInjection;
using Ministries.Custody.V1;
using Ministries.Errors.V1;
using Ministries.Fixtures;
using Ministries.Ledger;
using Ministries.Ledger.V1;
using Ministries.Trust;
using Ministries.Types.V1;

namespace Ministries.Hosting.Tests;

/// <summary>The agreement and the certificates change while the service runs, and other services must prove who they are.</summary>
public sealed class AgreementTests : IAsyncLifetime
{
    private readonly Running _running = new()
    {
        Limits = new EdgeLimits
        {
            ReloadInterval = TimeSpan.FromMilliseconds(50),
            MaxConnectionAge = TimeSpan.FromSeconds(3),
            ConnectionGrace = TimeSpan.FromSeconds(1),
        },
    };

    public ValueTask InitializeAsync() => _running.InitializeAsync();

    public ValueTask DisposeAsync() => _running.DisposeAsync();

    [Fact]
    public async Task A_version_is_an_entry_before_anything_is_judged_by_it()
    {
        var first = await _running.Ledger.ReadEntry(0, null, Running.Cancel);
        var header = EntryHeader.Parser.ParseFrom(first!.Entry.Header);
        Assert.Equal(("service/calllog", "agreement", 1ul), (header.Participant, header.Method, header.AgreementVersion));
        Assert.Equal(
            _running.Agreements.InForce.Permissions.Agreement,
            Agreement.Parser.ParseFrom(first.Entry.Parts.Single(p => p.Kind == PartKind.Request).Data)
        );

        var client = _running.Calling("kr/mfa");
        await client.LogCallAsync(Running.Request(), cancellationToken: Running.Cancel);
        var size = _running.Ledger.Size;
        Signing.Next(
            _running.Folder,
            next => next.Participants.Single(p => p.Id == "kr/mfa").DeniedCertificates.Add(_running.CertificateOf("kr/mfa").SerialNumber),
            ["kr/mfa"]
        );
        await Running.Until(() => Task.FromResult(_running.Agreements.InForce.Permissions.Agreement.Version == 2), "version 2 is in force");
        await Running.Refused("CERTIFICATE_NOT_ACCEPTED", () => client.LogCallAsync(Running.Request()).ResponseAsync);
        Assert.Equal(size + 1, _running.Ledger.Size);
        var position = (await _running.Log("ua/mfa")).Receipt.Position;
        var entry = await _running.Ledger.ReadEntry(position, null, Running.Cancel);
        Assert.Equal(2ul, EntryHeader.Parser.ParseFrom(entry!.Entry.Header).AgreementVersion);
    }

    [Fact]
    public async Task A_version_waits_neither_for_a_flood_of_urgent_writes_nor_for_the_services_own_duties()
    {
        // Which version each command finds when it is decided.
        var found = new ConcurrentDictionary<string, ulong?>();
        using var go = new ManualResetEventSlim();
        var held = new TaskCompletionSource();
        List<Task<Outcome>> commands = [Commit("service/custody", "holds", Precedence.Unspecified, held)];
        await held.Task;
        try
        {
            for (var i = 0; i < 20; i++)
                commands.Add(Commit("service/calllog", $"duty-{i}", Precedence.Unspecified));
            for (var i = 0; i < 20; i++)
                commands.Add(Commit("ua/mfa", $"flood-{i}", Precedence.Flash));
            Signing.Next(
                _running.Folder,
                next => Signing.Of(next, "ua/mfa").DeniedCertificates.Add(_running.CertificateOf("ua/mfa").SerialNumber)
            );
            await Running.Until(() => Task.FromResult(_running.Ledger.QueueLength == 41), "version 2 waits");
        }
        finally
        {
            go.Set();
            await Task.WhenAll(commands);
        }
        Assert.Equal(41, found.Count);
        Assert.All(found.Where(f => f.Key.StartsWith("duty", StringComparison.Ordinal)), f => Assert.Equal(2ul, f.Value));
        Assert.InRange(found.Count(f => f.Key.StartsWith("flood", StringComparison.Ordinal) && f.Value == 1), 0, 1);

        Task<Outcome> Commit(string participant, string id, Precedence precedence, TaskCompletionSource? begun = null) =>
            _running.Ledger.Commit(
                new Command
                {
                    Participant = participant,
                    RequestId = id,
                    Method = "waits",
                    Request = new CaseOpened(),
                    Bytes = default,
                    AgreementVersion = 1,
                    Precedence = (int)precedence,
                    StoresRefusal = false,
                    Decide = (view, _) =>
                    {
                        found[id] = view.Find(Agreements.Kind, Agreements.Key)?.Version;
                        begun?.TrySetResult();
                        go.Wait();
                        return new Refusal(Reason.NotFound);
                    },
                },
                Running.Cancel
            );
    }

    [Fact]
    public async Task Another_agreement_of_the_same_version_and_one_that_cannot_be_read_change_nothing()
    {
        var client = _running.Calling("kr/mfa");
        var other = Signing.Agreement(_running.Folder);
        other.Grants.Clear();
        Signing.Put(_running.Folder, other);
        await Assert.ThrowsAsync<AgreementRefusedException>(() => _running.Agreements.Adopt(_running.Ledger, Running.Cancel));
        await File.WriteAllTextAsync(_running.AgreementFile, "{ not an agreement", Running.Cancel);
        await Assert.ThrowsAsync<AgreementRefusedException>(() => _running.Agreements.Adopt(_running.Ledger, Running.Cancel));
        await client.LogCallAsync(Running.Request(), cancellationToken: Running.Cancel);
        Assert.Equal(1ul, _running.Agreements.InForce.Permissions.Agreement.Version);
    }

    [Fact]
    public async Task A_certificate_that_cannot_be_read_keeps_no_version_of_the_agreement_out()
    {
        var certificate = Path.Combine(_running.Folder, "service", "calllog", "system.pem");
        await File.WriteAllTextAsync(certificate, "no certificate", Running.Cancel);
        await Running.Until(() => Task.FromResult(Logged("the new files are not used")), "the certificate cannot be read");
        Signing.Next(
            _running.Folder,
            next => next.Participants.Single(p => p.Id == "kr/mfa").DeniedCertificates.Add(_running.CertificateOf("kr/mfa").SerialNumber),
            ["kr/mfa"]
        );
        await Running.Until(() => Task.FromResult(_running.Agreements.InForce.Permissions.Agreement.Version == 2), "version 2 is in force");
        await Running.Refused("CERTIFICATE_NOT_ACCEPTED", () => _running.Log());
        await _running.Log("ua/mfa");
        // An agreement that cannot be read keeps no certificate out either.
        await File.WriteAllTextAsync(_running.AgreementFile, "{ not an agreement", Running.Cancel);
        var others = Path.Combine(_running.Folder, "others");
        Pki.Init(others, StandardAgreement.Read(), TimeProvider.System);
        foreach (var name in (string[])["system.key", "system.pem"])
            File.Copy(Path.Combine(others, "service", "calllog", name), Path.Combine(_running.Folder, "service", "calllog", name), true);
        using var next = X509CertificateLoader.LoadCertificateFromFile(certificate);
        await Running.Until(async () => await Served() == next.SerialNumber, "the new certificate is served");

        bool Logged(string text) => _running.Lines.Any(line => line.Contains(text, StringComparison.Ordinal));
    }

    [Fact]
    public async Task A_replica_that_lacks_the_ledgers_version_of_the_agreement_is_not_ready_until_it_has_it()
    {
        var life = _running.Host.Services.GetRequiredService<Lifecycle>();
        await Running.Until(() => Task.FromResult(life.Ready), "it is ready");
        var previous = Signing.Agreement(_running.Folder);
        var next = previous.Clone();
        AgreementVersions.Follow(previous, next);
        foreach (var signer in previous.Participants.Where(AgreementVersions.Signs).Select(p => p.Id))
            Pki.Sign(previous, next, signer, Path.Combine(_running.Folder, signer, "agreements.key"));
        var adopted = new AgreementAdopted { Version = 2, Digest = ByteString.CopyFrom(AgreementVersions.DigestOf(next)) };
        // Another replica, which has the new file already, records it in the ledger of both.
        await _running.Ledger.Commit(
            new Command
            {
                Participant = "service/calllog",
                RequestId = Agreements.RequestIdOf(2),
                Method = AgreementVersions.Method,
                Request = next,
                Bytes = next.ToByteArray(),
                AgreementVersion = 2,
                StoresRefusal = false,
                Decide = (view, _) =>
                {
                    view.Find(Agreements.Kind, Agreements.Key);
                    return Decision.Accept("", [Audience.Everybody], [new Change(adopted, [Agreements.Kind.Id(Agreements.Key)])]);
                },
            },
            Running.Cancel
        );
        await Running.Refused("UNAVAILABLE", () => _running.Log());
        await Running.Until(() => Task.FromResult(!life.Ready), "it is not ready");
        Assert.Contains(_running.Warned, line => line.Contains("version 2 of the agreement", StringComparison.Ordinal));
        File.Copy(_running.AgreementFile, AgreementFile.PathOf(_running.AgreementFile, 1));
        Signing.Put(_running.Folder, next);
        await Running.Until(() => Task.FromResult(life.Ready), "it is ready again");
        await _running.Log();
    }

    [Fact]
    public async Task A_replica_whose_ledgers_version_of_the_agreement_cannot_be_read_is_not_ready()
    {
        var life = _running.Host.Services.GetRequiredService<Lifecycle>();
        await Running.Until(() => Task.FromResult(life.Ready), "it is ready");
        var state = (string)(await Ask("select hex(state) from streams where kind = 'agreement'"))!;
        await Ask("update streams set state = x'ffff' where kind = 'agreement'");
        await Running.Until(() => Task.FromResult(!life.Ready), "it is not ready");
        Assert.Contains(_running.Warned, line => line.Contains("version of the agreement cannot be read", StringComparison.Ordinal));
        await Ask($"update streams set state = x'{state}' where kind = 'agreement'");
        await Running.Until(() => Task.FromResult(life.Ready), "it is ready again");

        async Task<object?> Ask(string sql)
        {
            await using var database = new SqliteConnection($"Data Source={Path.Combine(_running.Folder, "calllog.db")};Pooling=false");
            await database.OpenAsync(Running.Cancel);
            await using var command = database.CreateCommand();
            command.CommandText = sql;
            return await command.ExecuteScalarAsync(Running.Cancel);
        }
    }

    [Fact]
    public async Task An_unreadable_key_for_checkpoints_keeps_no_version_out()
    {
        // Opening a folder fails like opening a file without permission.
        var path = Path.Combine(_running.Folder, "service", "calllog", "checkpoint.key");
        File.Move(path, path + ".away");
        Directory.CreateDirectory(path);
        Signing.Next(_running.Folder, next => Signing.Of(next, "ua/mfa").DeniedCertificates.Add("0A"));
        await Running.Until(() => Task.FromResult(_running.Agreements.InForce.Permissions.Agreement.Version == 2), "version 2 is in force");
        await Running.Until(
            () =>
                Task.FromResult(
                    _running.Warned.Any(w => w.Contains("the file of the key for checkpoints cannot be read", StringComparison.Ordinal))
                ),
            "the key's fault is told"
        );
        await _running.Log();
        Directory.Delete(path);
        File.Move(path + ".away", path);
        await _running.Agreements.Adopt(_running.Ledger, Running.Cancel);
    }

    [Fact]
    public async Task A_version_that_is_not_valid_yet_waits()
    {
        Signing.Next(
            _running.Folder,
            next => next.ValidFromTime = Google.Protobuf.WellKnownTypes.Timestamp.FromDateTimeOffset(DateTimeOffset.UtcNow.AddHours(1))
        );
        await _running.Agreements.Adopt(_running.Ledger, Running.Cancel);
        Assert.Equal(1ul, _running.Agreements.InForce.Permissions.Agreement.Version);
        _running.Time.Moved = TimeSpan.FromHours(2);
        await Running.Until(() => Task.FromResult(_running.Agreements.InForce.Permissions.Agreement.Version == 2), "version 2 is in force");
    }

    [Fact]
    public async Task A_new_certificate_is_served_without_a_restart()
    {
        var home = Path.Combine(_running.Folder, "service", "calllog");
        File.Delete(Path.Combine(home, "system.pem"));
        Pki.Init(_running.Folder, StandardAgreement.Read(), TimeProvider.System);
        using var next = X509CertificateLoader.LoadCertificateFromFile(Path.Combine(home, "system.pem"));
        await Running.Until(async () => await Served() == next.SerialNumber, "the new certificate is served");
        await _running.Log();
    }

    [Fact]
    public async Task An_old_connection_is_ended_and_calls_go_on_over_a_new_one()
    {
        var client = _running.Calling("kr/mfa");
        using var follow = new LedgerService.LedgerServiceClient(_running.As("kr/mfa")).FollowEntries(
            new(),
            cancellationToken: Running.Cancel
        );
        var ended = Assert.ThrowsAnyAsync<RpcException>(async () =>
        {
            while (await follow.ResponseStream.MoveNext(Running.Cancel)) { }
        });
        while (!ended.IsCompleted)
            await client.LogCallAsync(Running.Request(), cancellationToken: Running.Cancel);
        await ended;
    }

    [Fact]
    public async Task A_peer_must_prove_that_it_is_the_service_that_is_called()
    {
        await using var other = new Running();
        await other.InitializeAsync();
        // The call log of this set-up is called twice: as calllog by a client that knows its authority, and by a client that expects
        // custody there.
        var settings = Settings(_running) with
        {
            Peers = new Dictionary<string, Uri> { ["calllog"] = _running.Address, ["custody"] = _running.Address },
        };
        using var peers = new Peers(settings, new Credentials(settings), _running.Agreements, TimeProvider.System);
        var checkpoint = await new LedgerService.LedgerServiceClient(peers["calllog"]).GetCheckpointAsync(
            new(),
            cancellationToken: Running.Cancel
        );
        Assert.NotEqual(0ul, checkpoint.TreeSize);
        var e = await Assert.ThrowsAsync<PeerException>(() =>
            new LedgerService.LedgerServiceClient(peers["custody"])
                .GetCheckpointAsync(new(), cancellationToken: Running.Cancel)
                .ResponseAsync
        );
        Assert.Equal(("custody", "ministries.ledger.v1.LedgerService/GetCheckpoint"), (e.Service, e.Method));
        // Another set-up's call log has the right name from an authority that this agreement does not know.
        var wrong = settings with
        {
            Peers = new Dictionary<string, Uri> { ["calllog"] = other.Address },
        };
        using var misled = new Peers(wrong, new Credentials(wrong), _running.Agreements, TimeProvider.System);
        await Assert.ThrowsAsync<PeerException>(() =>
            new LedgerService.LedgerServiceClient(misled["calllog"])
                .GetCheckpointAsync(new(), cancellationToken: Running.Cancel)
                .ResponseAsync
        );
        Assert.Throws<ArgumentException>(() => peers["consular"]);
    }

    [Fact]
    public async Task A_peer_whose_certificate_is_denied_or_expires_is_asked_no_more_even_where_its_connection_is_open()
    {
        var settings = Settings(_running) with { Peers = new Dictionary<string, Uri> { ["calllog"] = _running.Address } };
        var time = new Clock();
        using (var before = new Peers(settings, new Credentials(settings), _running.Agreements, time))
        {
            await Asked(before);
            time.Moved = TimeSpan.FromDays(3660);
            Assert.Equal("calllog", (await Assert.ThrowsAsync<PeerException>(() => Asked(before))).Service);
        }
        using var peers = new Peers(settings, new Credentials(settings), _running.Agreements, TimeProvider.System);
        await Asked(peers);
        await Deny(CallLogCertificate());
        Assert.Equal("calllog", (await Assert.ThrowsAsync<PeerException>(() => Asked(peers))).Service);
    }

    [Fact]
    public async Task A_peer_whose_former_certificate_is_denied_is_asked_over_a_new_connection()
    {
        var settings = Settings(_running) with { Peers = new Dictionary<string, Uri> { ["calllog"] = _running.Address } };
        using var peers = new Peers(settings, new Credentials(settings), _running.Agreements, TimeProvider.System);
        await Asked(peers);
        var former = CallLogCertificate();
        File.Delete(Path.Combine(_running.Folder, "service", "calllog", "system.pem"));
        Pki.Init(_running.Folder, StandardAgreement.Read(), TimeProvider.System);
        var next = CallLogCertificate();
        Assert.NotEqual(former, next);
        await Running.Until(async () => await Served() == next, "the new certificate is served");
        await Deny(former);
        await Asked(peers);
    }

    private static async Task Asked(Peers peers) =>
        await new LedgerService.LedgerServiceClient(peers["calllog"]).GetCheckpointAsync(new(), cancellationToken: Running.Cancel);

    private string CallLogCertificate()
    {
        using var certificate = X509CertificateLoader.LoadCertificateFromFile(
            Path.Combine(_running.Folder, "service", "calllog", "system.pem")
        );
        return certificate.SerialNumber;
    }

    private Task Deny(string serial)
    {
        Signing.Next(_running.Folder, next => next.Participants.Single(p => p.Id == "service/calllog").DeniedCertificates.Add(serial));
        return _running.Agreements.Adopt(_running.Ledger, Running.Cancel);
    }

    [Fact]
    public async Task A_peer_that_is_not_there_fails_within_the_deadline()
    {
        var settings = Settings(_running) with { Peers = new Dictionary<string, Uri> { ["custody"] = new("https://127.0.0.1:1") } };
        using var peers = new Peers(settings, new Credentials(settings), _running.Agreements, TimeProvider.System);
        var call = new LedgerService.LedgerServiceClient(peers["custody"])
            .GetCheckpointAsync(new(), cancellationToken: Running.Cancel)
            .ResponseAsync;
        var e = await Assert.ThrowsAsync<PeerException>(() => call.WaitAsync(TimeSpan.FromSeconds(20), Running.Cancel));
        Assert.True(e.StatusCode is StatusCode.Unavailable or StatusCode.DeadlineExceeded, e.Status.ToString());
    }

    [Fact]
    public async Task A_peer_is_called_at_its_second_address_if_nobody_answers_at_the_first()
    {
        var settings = Settings(_running) with
        {
            Peers = new Dictionary<string, Uri> { ["calllog"] = new($"https://127.0.0.1:{Ports.Free()}") },
            FurtherPeers = new Dictionary<string, IReadOnlyList<Uri>> { ["calllog"] = [_running.Address] },
        };
        using var peers = new Peers(settings, new Credentials(settings), _running.Agreements, TimeProvider.System);
        var ledger = new LedgerService.LedgerServiceClient(peers["calllog"]);
        for (var call = 0; call < 3; call++)
            Assert.NotNull((await ledger.GetCheckpointAsync(new(), cancellationToken: Running.Cancel)).Checkpoint);
    }

    private static Settings Settings(Running running) =>
        (Settings)running.Host.Services.GetService(typeof(Settings))! with
        {
            Certificate = Path.Combine(running.Folder, "service", "consular", "system.pem"),
            CertificateKey = Path.Combine(running.Folder, "service", "consular", "system.key"),
        };

    private async Task<string> Served()
    {
        var serial = "";
        using var client = new HttpClient(
            new SocketsHttpHandler
            {
                SslOptions = new System.Net.Security.SslClientAuthenticationOptions
                {
                    ClientCertificates = [_running.CertificateOf("kr/mfa")],
                    RemoteCertificateValidationCallback = (_, server, _, _) => (serial = server?.GetSerialNumberString() ?? "").Length > 0,
                },
            }
        );
        using var request = new HttpRequestMessage(HttpMethod.Get, _running.Address)
        {
            Version = new Version(2, 0),
            VersionPolicy = HttpVersionPolicy.RequestVersionExact,
        };
        using var response = await client.SendAsync(request, Running.Cancel);
        return serial;
    }
}
