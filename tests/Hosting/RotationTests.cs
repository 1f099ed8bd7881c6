using System.Security.Cryptography.X509Certificates;
using Grpc.Core;
using Grpc.Net.Client;
using Ministries.CallLog.V1;
using Ministries.Fixtures;
using Ministries.Trust;
using Ministries.Types.V1;

namespace Ministries.Hosting.Tests;

/// <summary>Certificates and the authorities that issue them are replaced while calls run, one after the other, as the operator's guide
/// says. Calls are made as the client library and the services make them: a call that crosses the closing of a connection, or finds none
/// yet (UNAVAILABLE), is tried again. None may fail.</summary>
public sealed class RotationTests : IAsyncLifetime
{
    private static readonly EdgeLimits Limits = new()
    {
        ReloadInterval = TimeSpan.FromMilliseconds(50),
        MaxConnectionAge = TimeSpan.FromSeconds(2),
        ConnectionGrace = TimeSpan.FromSeconds(4),
    };

    private readonly Running _running = new() { Limits = Limits };
    private volatile X509Certificate2 _own = null!;
    private volatile Authorities _authorities = null!;
    private volatile string _served = "";
    private GrpcChannel _channel = null!;
    private long _done;

    private long Done => Interlocked.Read(ref _done);

    public async ValueTask InitializeAsync()
    {
        await _running.InitializeAsync();
        (_own, _authorities) = (_running.CertificateOf("kr/mfa"), new Authorities(Signing.Agreement(_running.Folder)));
        // The handler that ministries and services use, which also notes the certificates that it meets.
        var handler = ServiceChannel.Handler("calllog", () => _own, () => _authorities, TimeSpan.FromSeconds(5), TimeProvider.System);
        var judge = handler.SslOptions.RemoteCertificateValidationCallback!;
        handler.SslOptions.RemoteCertificateValidationCallback = (sender, certificate, chain, errors) =>
        {
            var accepted = judge(sender, certificate, chain, errors);
            if (accepted)
                _served = certificate!.GetSerialNumberString();
            return accepted;
        };
        _channel = GrpcChannel.ForAddress(
            _running.Address,
            new GrpcChannelOptions
            {
                HttpHandler = Signing.Handler(_running.Folder, "kr/mfa", ServiceChannel.AcrossClosing(handler), "calllog", _running.Time),
                DisposeHttpClient = true,
                ServiceConfig = ServiceChannel.Retries(5, TimeSpan.FromMilliseconds(100), TimeSpan.FromSeconds(2), 2),
            }
        );
    }

    public async ValueTask DisposeAsync()
    {
        _channel.Dispose();
        await _running.DisposeAsync();
    }

    [Fact]
    public async Task Certificates_and_authorities_of_service_and_ministry_are_replaced_under_load_and_no_call_fails()
    {
        using var enough = new CancellationTokenSource();
        var load = Enumerable.Range(0, 4).Select(_ => Load(enough.Token)).ToList();
        await Going(load);

        // A new certificate from the same authority, before the old one ends: the service's, then the ministry's.
        await Serve(Issue("service/calllog", _running.AuthorityOf("service/calllog")), load);
        await Call(Issue("kr/mfa", _running.AuthorityOf("kr/mfa")), load);

        // Another authority. The agreement lists both first, and everybody has that version before the new authority issues anything.
        using var service = CertificateAuthority.Create(
            "calllog, the next",
            DateTimeOffset.UtcNow.AddHours(-1),
            DateTimeOffset.UtcNow.AddYears(1)
        );
        using var ministry = CertificateAuthority.Create(
            "kr/mfa, the next",
            DateTimeOffset.UtcNow.AddHours(-1),
            DateTimeOffset.UtcNow.AddYears(1)
        );
        var before = Of("kr/mfa").AuthorityCertificates.Single();
        await Agree(
            2,
            agreement =>
            {
                Of("service/calllog", agreement).AuthorityCertificates.Add(service.Certificate.ExportCertificatePem());
                Of("kr/mfa", agreement).AuthorityCertificates.Add(ministry.Certificate.ExportCertificatePem());
            },
            load
        );
        var old = _own;
        await Serve(Issue("service/calllog", service), load);
        await Call(Issue("kr/mfa", ministry), load);

        // The old authorities are removed when no connection is left that was made with their certificates.
        await Agree(
            3,
            agreement =>
            {
                foreach (var participant in new[] { "service/calllog", "kr/mfa" })
                    Of(participant, agreement).AuthorityCertificates.RemoveAt(0);
            },
            load
        );
        await Going(load);
        await enough.CancelAsync();
        await Task.WhenAll(load);

        Assert.DoesNotContain(before, Of("kr/mfa").AuthorityCertificates);
        using var former = _running.Channel(old);
        var refused = await Assert.ThrowsAsync<RpcException>(() =>
            new CallLogService.CallLogServiceClient(former).LogCallAsync(Running.Request(), cancellationToken: Running.Cancel).ResponseAsync
        );
        Assert.Null(refused.GetRpcStatus());
    }

    private async Task Load(CancellationToken enough)
    {
        var client = new CallLogService.CallLogServiceClient(_channel);
        while (!enough.IsCancellationRequested)
        {
            await client.LogCallAsync(Running.Request(), cancellationToken: Running.Cancel);
            Interlocked.Increment(ref _done);
        }
    }

    /// <summary>Returns when calls have gone on for a while. A failed call ends it.</summary>
    private async Task Going(List<Task> load)
    {
        var from = Done;
        await Until(() => Done >= from + 20, load);
    }

    private static async Task Until(Func<bool> isSo, List<Task> load) =>
        await Running.Until(
            async () =>
            {
                foreach (var ended in load.Where(l => l.IsCompleted))
                    await ended;
                return isSo();
            },
            "the calls go on"
        );

    /// <summary>Replaces the service's certificate in its files. Returns when a new connection shows it.</summary>
    private async Task Serve((string Certificate, string Key, string Serial) next, List<Task> load)
    {
        var home = Path.Combine(_running.Folder, "service", "calllog");
        foreach (var (name, text) in new[] { ("system.key", next.Key), ("system.pem", next.Certificate) })
        {
            Ministries.Ledger.WholeFile.Write(Path.Combine(home, name + ".next"), text);
            File.Move(Path.Combine(home, name + ".next"), Path.Combine(home, name), overwrite: true);
            // The service looks while one file is replaced and the other is not yet.
            var looked = DateTime.UtcNow + 3 * Limits.ReloadInterval;
            await Until(() => DateTime.UtcNow > looked, load);
        }
        await Until(() => _served == next.Serial, load);
        await Going(load);
    }

    /// <summary>The ministry calls with another certificate. Returns when no connection can be left with the previous one.</summary>
    private async Task Call((string Certificate, string Key, string Serial) next, List<Task> load)
    {
        _own = X509Certificate2.CreateFromPem(next.Certificate, next.Key);
        var last = DateTime.UtcNow + Limits.MaxConnectionAge + Limits.ConnectionGrace;
        await Until(() => DateTime.UtcNow > last, load);
        await Going(load);
    }

    /// <summary>Puts a version of the agreement in place. Returns when the service has it and the ministry uses it too.</summary>
    private async Task Agree(ulong version, Action<Agreement> change, List<Task> load)
    {
        var next = Signing.Next(_running.Folder, change);
        await Until(() => _running.Agreements.InForce.Permissions.Agreement.Version == version, load);
        _authorities = new Authorities(next);
        await Going(load);
    }

    private Participant Of(string participant, Agreement? agreement = null) =>
        (agreement ?? Signing.Agreement(_running.Folder)).Participants.Single(p => p.Id == participant);

    private static (string Certificate, string Key, string Serial) Issue(string participant, CertificateAuthority authority)
    {
        var service = participant.StartsWith("service/", StringComparison.Ordinal);
        using var issued = authority.Issue(
            participant,
            new CertificateTerms(
                [$"spiffe://ministries.example/{participant}/system"],
                DateTimeOffset.UtcNow.AddMinutes(-5),
                DateTimeOffset.UtcNow.AddDays(30),
                Hosts: service ? ["127.0.0.1"] : null
            )
        );
        return (issued.ExportCertificatePem(), issued.GetECDsaPrivateKey()!.ExportPkcs8PrivateKeyPem(), issued.SerialNumber);
    }
}
