using System.Collections.Concurrent;
using System.Net.Security;
using System.Security.Authentication;
using System.Security.Cryptography.X509Certificates;
using Grpc.Core;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Connections.Features;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.AspNetCore.Server.Kestrel.Https;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.DependencyInjection.Extensions;
using Ministries.Errors.V1;
using Ministries.Ledger;
using Ministries.Trust;

namespace Ministries.Hosting;

/// <summary>The limits on what comes in from outside.</summary>
public sealed record EdgeLimits
{
    /// <summary>The greatest size of a request's message: 1 MiB. What is greater is refused before it is parsed.</summary>
    public int MaxMessageBytes { get; init; } = 1 << 20;

    /// <summary>How old a connection grows before its peer is asked to open another: 30 minutes, and up to a tenth less so that
    /// not all do at once.</summary>
    public TimeSpan MaxConnectionAge { get; init; } = TimeSpan.FromMinutes(30);

    /// <summary>How long calls on an old connection may go on: 1 minute.</summary>
    public TimeSpan ConnectionGrace { get; init; } = TimeSpan.FromMinutes(1);

    /// <summary>How many connections may be open: 1000.</summary>
    public int MaxConnections { get; init; } = 1000;

    /// <summary>How many of them one participant may have: 64. One more is closed after its handshake.</summary>
    public int MaxConnectionsPerParticipant { get; init; } = 64;

    /// <summary>How many calls may run on one connection: 100, as many as the web server keeps the room of for the next ones.</summary>
    public int MaxCallsPerConnection { get; init; } = 100;

    /// <summary>How many writes may be in progress, and likewise how many reads: 512. What is followed does not count.</summary>
    public int MaxCalls { get; init; } = 512;

    /// <summary>How many of them may be of one participant: 256.</summary>
    public int MaxCallsPerParticipant { get; init; } = 256;

    /// <summary>How many of them may be of one participant while another has called within the last second: 64. The more are committed
    /// together, the longer the other waits.</summary>
    public int MaxCallsBesideOthers { get; init; } = 64;

    /// <summary>How many of its calls a participant can have in progress whatever others have: 8.</summary>
    public int OwnPlaces { get; init; } = 8;

    /// <summary>How many calls of a participant may be in progress beyond <see cref="MaxCalls"/> and
    /// <see cref="MaxCallsPerParticipant"/> if their precedence is FLASH: 16.</summary>
    public int PlacesForFlash { get; init; } = 16;

    /// <summary>After how long at most a call is told that there is no room for it: 50 milliseconds. Meanwhile it is one of its
    /// connection's calls and holds nothing else.</summary>
    public TimeSpan RefusalDelay { get; init; } = TimeSpan.FromMilliseconds(50);

    /// <summary>After how much silence a peer is asked whether it is still there; it has half of that to answer: 30 seconds.
    /// </summary>
    public TimeSpan KeepAlive { get; init; } = TimeSpan.FromSeconds(30);

    /// <summary>How long a TLS handshake may take: 10 seconds.</summary>
    public TimeSpan HandshakeTimeout { get; init; } = TimeSpan.FromSeconds(10);

    /// <summary>How often the files of the certificate and the agreement are looked at: every 2 seconds.</summary>
    public TimeSpan ReloadInterval { get; init; } = TimeSpan.FromSeconds(2);
}

/// <summary>Who calls: TLS 1.3 with a client certificate, ended here and nowhere before.</summary>
public static class IdentityExtensions
{
    // What proxies are known to pass a client's certificate or address in (RFC 9440 and older habits). There is no proxy before a
    // service: a request that has one of them wants to be taken for somebody else's.
    private static readonly string[] Forwarded =
    [
        "X-ARR-ClientCert", "X-Forwarded-Client-Cert", "X-Client-Cert", "X-Client-Certificate", "X-Client-DN", "X-SSL-Cert",
        "X-SSL-Client-Cert", "X-SSL-Client-DN", "X-SSL-Client-S-DN", "X-SSL-Client-Verify", "SSL-Client-Cert", "SSL_CLIENT_CERT",
        "Client-Cert", "Client-Cert-Chain", "X-Amzn-Mtls-Clientcert", "X-Amzn-Mtls-Clientcert-Leaf", "X-Spiffe-Id",
    ];

    /// <summary>Registers the service's credentials and the agreement. Needs <see cref="Settings"/>,
    /// <see cref="ServiceLedger"/> and <see cref="TimeProvider"/>.</summary>
    public static IServiceCollection AddIdentity(this IServiceCollection services)
    {
        services.TryAddSingleton(new EdgeLimits());
        services.AddOptions<KestrelServerOptions>().Configure<EdgeLimits>((kestrel, limits) =>
        {
            kestrel.Limits.MaxConcurrentConnections = limits.MaxConnections;
            kestrel.Limits.Http2.MaxStreamsPerConnection = limits.MaxCallsPerConnection;
            // One whose peer is gone would follow the ledger until its connection is old.
            kestrel.Limits.Http2.KeepAlivePingDelay = limits.KeepAlive;
            kestrel.Limits.Http2.KeepAlivePingTimeout = limits.KeepAlive / 2;
        });
        services.AddSingleton<Credentials>();
        services.AddSingleton<Agreements>();
        services.AddHostedService<Reloading>();
        return services;
    }

    /// <summary>Ends TLS on the address: version 1.3, HTTP/2, client certificates demanded. A peer for whom no authority of the
    /// agreement vouches fails in the handshake; whoever else is not accepted learns why with each call.</summary>
    public static ListenOptions UseIdentity(this ListenOptions listen)
    {
        var services = listen.ApplicationServices;
        var credentials = services.GetRequiredService<Credentials>();
        var agreements = services.GetRequiredService<Agreements>();
        var limits = services.GetRequiredService<EdgeLimits>();
        var time = services.GetRequiredService<TimeProvider>();
        listen.Protocols = HttpProtocols.Http2;
        listen.Use(next => connection => Age(connection, next, limits, time));
        listen.UseHttps(new TlsHandshakeCallbackOptions
        {
            HandshakeTimeout = limits.HandshakeTimeout,
            OnConnection = handshake => new(new SslServerAuthenticationOptions
            {
                ServerCertificateContext = credentials.Context,
                EnabledSslProtocols = SslProtocols.Tls13,
                ApplicationProtocols = [SslApplicationProtocol.Http2],
                ClientCertificateRequired = true,
                // A resumed session would carry an identity over from a handshake that checked it long ago.
                AllowTlsResume = false,
                AllowRenegotiation = false,
                CertificateChainPolicy = ServiceChannel.Offline(),
                RemoteCertificateValidationCallback = (_, certificate, chain, _) =>
                    Vouched(handshake.Connection, agreements.InForce.Authorities, certificate, chain),
            }),
        });
        var open = new ConcurrentDictionary<string, int>();
        listen.Use(next => connection =>
            Peer.Identify(
                connection.Items.TryGetValue(typeof(Peer), out var found) ? found as Peer : null, agreements, time) is { Refused: Reason.Unspecified, Identity: { } identity }
                ? One(connection, next, open, identity.Participant.Id, limits.MaxConnectionsPerParticipant) : next(connection));
        return listen;
    }

    private static async Task One(
        ConnectionContext connection, ConnectionDelegate next, ConcurrentDictionary<string, int> open, string participant, int most)
    {
        try
        {
            if (open.AddOrUpdate(participant, 1, (_, count) => count + 1) <= most) await next(connection);
            else connection.Abort(new ConnectionAbortedException($"{participant} has as many connections as it may"));
        }
        finally
        {
            open.AddOrUpdate(participant, 0, (_, count) => count - 1);
        }
    }

    /// <summary>What refuses a request before anything is asked of it: that it came through a proxy, or that it is nobody's; null:
    /// nothing.</summary>
    /// <param name="http">The request.</param>
    /// <param name="identified">Whose it is.</param>
    internal static Refusal? Check(HttpContext http, Identified identified)
    {
        foreach (var name in Forwarded)
            if (http.Request.Headers.ContainsKey(name))
                return new Refusal(Reason.CertificateNotAccepted, new Dictionary<string, string> { ["header"] = name });
        return identified.Refused == Reason.Unspecified ? null : new Refusal(identified.Refused);
    }

    /// <summary>Whose call it is.</summary>
    /// <exception cref="RpcException">UNAUTHENTICATED: nobody's that the agreement knows, or not any more.</exception>
    public static Identity CallerOf(this ServerCallContext context)
    {
        var identified = Call.Of(context).Identify();
        return identified.Refused == Reason.Unspecified ? identified.Identity! : throw new Refusal(identified.Refused).ToException();
    }

    private static bool Vouched(
        ConnectionContext connection, Authorities authorities, X509Certificate? certificate, X509Chain? chain)
    {
        if (certificate is null) return false;
        var peer = new Peer(Copy(certificate), [.. chain?.ChainPolicy.ExtraStore.Select(Copy) ?? []]);
        if (!authorities.Vouch(peer.Certificate, peer.Sent)) return false;
        connection.Items[typeof(Peer)] = peer;
        return true;

        static X509Certificate2 Copy(X509Certificate c) => X509CertificateLoader.LoadCertificate(c.GetRawCertData());
    }

    private static async Task Age(ConnectionContext connection, ConnectionDelegate next, EdgeLimits limits, TimeProvider time)
    {
        using var ended = new CancellationTokenSource();
        var age = limits.MaxConnectionAge * (1 - Random.Shared.NextDouble() / 10);
        _ = Close(connection, age, limits.ConnectionGrace, time, ended.Token);
        try
        {
            await next(connection);
        }
        finally
        {
            await ended.CancelAsync();
        }

        static async Task Close(ConnectionContext connection, TimeSpan age, TimeSpan grace, TimeProvider time, CancellationToken ended)
        {
            try
            {
                await Task.Delay(age, time, ended);
                connection.Features.Get<IConnectionLifetimeNotificationFeature>()?.RequestClose();
                await Task.Delay(grace, time, ended);
                connection.Abort();
            }
            catch (OperationCanceledException)
            {
            }
        }
    }
}

/// <summary>Who is at the other end of a connection. Whose its certificate is is worked out once for each version of the agreement;
/// whether it still holds, with every call. ASP.NET Core's authentication would take any certificate that a store of the machine trusts,
/// and make a ticket of the answer for each call; here each participant has its own authority.</summary>
internal sealed class Peer(X509Certificate2 certificate, IReadOnlyList<X509Certificate2> sent)
{
    private volatile Judged? _judged;

    private sealed record Judged(Authorities By, Identified Identified);

    public X509Certificate2 Certificate => certificate;

    public IReadOnlyList<X509Certificate2> Sent => sent;

    /// <summary>The peer of the request's connection; null: it has shown no certificate.</summary>
    public static Peer? Of(HttpContext http) =>
        http.Features.Get<IConnectionItemsFeature>()?.Items is { } items && items.TryGetValue(typeof(Peer), out var found) ? found as Peer : null;

    /// <summary>Whose certificate the peer has, and whether it holds at this moment.</summary>
    public static Identified Identify(Peer? peer, Agreements agreements, TimeProvider time) =>
        peer?.Identify(agreements.InForce.Authorities, time.GetUtcNow()) ?? new(null, Reason.CallerUnknown);

    private Identified Identify(Authorities authorities, DateTimeOffset now)
    {
        var judged = _judged;
        if (judged is null || !ReferenceEquals(judged.By, authorities))
            _judged = judged = new(authorities, authorities.Identify(certificate, sent, CertificateUse.Client, now));
        return judged.Identified is { Refused: Reason.Unspecified, Identity: { } identity } && !identity.HoldsAt(now)
            ? new(identity, Reason.CertificateNotAccepted) : judged.Identified;
    }
}
