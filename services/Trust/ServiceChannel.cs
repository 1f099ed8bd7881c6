using System.Net.Security;
using System.Runtime.CompilerServices;
using System.Security.Authentication;
using System.Security.Cryptography.X509Certificates;
using Google.Protobuf;
using Grpc.Core;
using Grpc.Net.Client.Configuration;
using Ministries.Errors.V1;

namespace Ministries.Trust;

/// <summary>The way to a service over TLS 1.3 with the caller's own certificate. The service must prove that it is the one of that name,
/// with a certificate of <c>service/&lt;name&gt;</c> that the agreement vouches for. An open connection's certificate is judged again with
/// each version of the agreement. Once it is no longer accepted or valid, nothing more is sent on the connection. Nor is anything sent on
/// it once the caller has another certificate of its own, because the one before may be denied.</summary>
public static class ServiceChannel
{
    /// <summary>Repeats calls that a service did not decide because it was unavailable. Safe for every method of the contracts: reads
    /// change nothing, and a write is known by its request id.</summary>
    /// <param name="attempts">How often a call is made at most, 2 to 5.</param>
    /// <param name="first">The pause before the second attempt, about.</param>
    /// <param name="longest">The longest pause.</param>
    /// <param name="multiplier">By how much each pause is longer than the one before.</param>
    public static ServiceConfig Retries(int attempts, TimeSpan first, TimeSpan longest, double multiplier) =>
        new()
        {
            MethodConfigs =
            {
                new MethodConfig
                {
                    Names = { MethodName.Default },
                    RetryPolicy = new RetryPolicy
                    {
                        MaxAttempts = attempts,
                        InitialBackoff = first,
                        MaxBackoff = longest,
                        BackoffMultiplier = multiplier,
                        RetryableStatusCodes = { StatusCode.Unavailable },
                    },
                },
            },
        };

    /// <summary>Makes the handler of a channel to a service.</summary>
    /// <param name="service">The service's name, such as <c>custody</c>.</param>
    /// <param name="own">The caller's certificate with its key, asked for at each connection and at each write on it.</param>
    /// <param name="authorities">The authorities that vouch for the service; read at each connection and at each write on it.</param>
    /// <param name="connect">How long it may take to connect.</param>
    /// <param name="time">The clock.</param>
    public static SocketsHttpHandler Handler(
        string service,
        Func<X509Certificate2> own,
        Func<Authorities> authorities,
        TimeSpan connect,
        TimeProvider time
    ) => HandlerOf($"service/{service}", own, authorities, connect, time);

    /// <summary>Makes the handler of a channel to a system of any participant, such as its witness.</summary>
    /// <param name="participant">The participant's id, such as <c>kr/mfa</c>.</param>
    /// <param name="own">The caller's certificate with its key, asked for at each connection and at each write on it.</param>
    /// <param name="authorities">The authorities that vouch for the peer; read at each connection and at each write on it.</param>
    /// <param name="connect">How long it may take to connect.</param>
    /// <param name="time">The clock.</param>
    public static SocketsHttpHandler HandlerOf(
        string participant,
        Func<X509Certificate2> own,
        Func<Authorities> authorities,
        TimeSpan connect,
        TimeProvider time
    )
    {
        var accepted = new ConditionalWeakTable<object, PeerCertificate>();
        var shown = new ConditionalWeakTable<object, ShownCertificate>();
        return new()
        {
            SslOptions = new SslClientAuthenticationOptions
            {
                EnabledSslProtocols = SslProtocols.Tls13,
                AllowTlsResume = false,
                CertificateChainPolicy = Offline(),
                LocalCertificateSelectionCallback = (connection, _, _, _, _) =>
                {
                    var certificate = own();
                    shown.AddOrUpdate(connection, new(certificate, certificate.RawData));
                    return certificate;
                },
                RemoteCertificateValidationCallback = (connection, certificate, chain, errors) =>
                {
                    if (PeerCertificate.Accept(participant, certificate, chain, errors, authorities(), time) is not { } peer)
                        return false;
                    accepted.AddOrUpdate(connection, peer);
                    return true;
                },
            },
            PlaintextStreamFilter = (connection, _) =>
                accepted.TryGetValue(connection.PlaintextStream, out var peer)
                && shown.TryGetValue(connection.PlaintextStream, out var before)
                    ? ValueTask.FromResult<Stream>(
                        new JudgedStream(
                            connection.PlaintextStream,
                            () =>
                            {
                                peer.Check(authorities());
                                if (!before.Is(own()))
                                    throw new IOException("the caller has another certificate than at the start of the connection");
                            }
                        )
                    )
                    : throw new AuthenticationException($"{participant} has not proved who it is"),
            ConnectTimeout = connect,
            EnableMultipleHttp2Connections = true,
            // Together 5 s, checked each second. Within that time the loss of a peer is noticed, even if the peer closed no connection.
            KeepAlivePingDelay = TimeSpan.FromSeconds(2),
            KeepAlivePingTimeout = TimeSpan.FromSeconds(3),
            PooledConnectionLifetime = TimeSpan.FromMinutes(10),
        };
    }

    /// <summary>Whether the fault means that the connection ended, or that the peer no longer answered its pings, so that it is unknown
    /// whether the call arrived.</summary>
    public static bool IsLost(Exception fault)
    {
        // Of the codes, 0 is a connection that was closed in order, and 1 is what the client itself gives pings that were not answered.
        // With the others, the service ended this one call.
        for (var e = fault; e is not null; e = e.InnerException)
            if (
                e is System.Net.Sockets.SocketException or HttpProtocolException { ErrorCode: 0 or 1 }
                // A message that cannot be parsed did arrive whole, although the library's exception for it is an IOException too.
                || e is IOException and not (HttpProtocolException or InvalidProtocolBufferException)
            )
                return true;
        return false;
    }

    /// <summary>Whether the fault means that the peer did not prove to be the service, so that nothing was sent.</summary>
    public static bool IsUnproved(Exception fault)
    {
        for (var e = fault; e is not null; e = e.InnerException)
            if (e is AuthenticationException)
                return true;
        return false;
    }

    /// <summary>Repeats a call, at most twice, if the service was just closing the connection (GOAWAY with NO_ERROR, RFC 9113, 6.8), or if
    /// the connection was closed before it was ready, or ended before the answer. Services close connections from time to time, so that
    /// clients open new ones, and a call may be sent just then. A service's machine may also die. Safe for every method of the contracts: a
    /// write is known by its request id, so the second call gets the first one's answer if that one arrived.</summary>
    /// <param name="inner">The way to the service.</param>
    public static HttpMessageHandler AcrossClosing(HttpMessageHandler inner) => new Again { InnerHandler = inner };

    private sealed class Again : DelegatingHandler
    {
        protected override async Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken)
        {
            // gRPC writes a message from a state of the call. If a connection is lost while that goes on, a second sending would find a
            // half-written message. No method of the contracts sends several messages.
            if (request.Content is { } content)
                await content.LoadIntoBufferAsync(cancellationToken);
            for (var again = 2; ; again--)
                try
                {
                    return await base.SendAsync(request, cancellationToken);
                }
                // An exception without an inner one means that the connection was no longer usable once it had been made. A connection that
                // could not be made is left to the retries above, which wait first.
                catch (HttpRequestException e)
                    when (again > 0
                        && e.HttpRequestError is not (HttpRequestError.ConnectionError or HttpRequestError.NameResolutionError)
                        && (e.InnerException is null || IsLost(e.InnerException))
                    ) { }
        }
    }

    /// <summary>How a peer's chain is built before the agreement judges it: without the machine's own authorities, and without
    /// asking anybody on the network.</summary>
    public static X509ChainPolicy Offline() =>
        new()
        {
            TrustMode = X509ChainTrustMode.CustomRootTrust,
            RevocationMode = X509RevocationMode.NoCheck,
            DisableCertificateDownloads = true,
        };

    // The caller's own certificate at the start of a connection. A file that was written again as it was is no other certificate.
    private sealed record ShownCertificate(X509Certificate2 Certificate, byte[] Raw)
    {
        public bool Is(X509Certificate2 now) => ReferenceEquals(Certificate, now) || now.RawDataMemory.Span.SequenceEqual(Raw);
    }

    /// <summary>The certificate that the peer of a connection showed.</summary>
    private sealed class PeerCertificate
    {
        private readonly string _participant;
        private readonly X509Certificate2 _certificate;
        private readonly X509Certificate2[] _sent;
        private readonly TimeProvider _time;
        private volatile Judgement _last;

        // The authorities by which the certificate was last judged, and the identity found; null: not accepted.
        private sealed record Judgement(Authorities By, Identity? Identity);

        private PeerCertificate(
            string participant,
            X509Certificate2 certificate,
            X509Certificate2[] sent,
            Judgement first,
            TimeProvider time
        ) => (_participant, _certificate, _sent, _last, _time) = (participant, certificate, sent, first, time);

        /// <summary>Judges a certificate at its handshake; null: it is not accepted.</summary>
        public static PeerCertificate? Accept(
            string participant,
            X509Certificate? certificate,
            X509Chain? chain,
            SslPolicyErrors errors,
            Authorities authorities,
            TimeProvider time
        )
        {
            if (certificate is null || errors.HasFlag(SslPolicyErrors.RemoteCertificateNameMismatch))
                return null;
            var presented = X509CertificateLoader.LoadCertificate(certificate.GetRawCertData());
            var sent = chain?.ChainPolicy.ExtraStore ?? [];
            // The handshake disposes of its certificates, so the accepted ones are copied. There are few.
            if (IdentityOf(participant, presented, sent, authorities, time.GetUtcNow()) is { } identity)
                return new(
                    participant,
                    presented,
                    [.. sent.Select(s => X509CertificateLoader.LoadCertificate(s.RawData))],
                    new(authorities, identity),
                    time
                );
            presented.Dispose();
            return null;
        }

        /// <summary>Judges the certificate again if the agreement's version has changed, or the certificate may have expired.</summary>
        /// <exception cref="IOException">The certificate is no longer accepted. The caller treats the connection as lost and makes a new
        /// one, whose peer must prove its identity.</exception>
        public void Check(Authorities authorities)
        {
            var (last, now) = (_last, _time.GetUtcNow());
            if (!ReferenceEquals(last.By, authorities))
                _last = last = new(authorities, IdentityOf(_participant, _certificate, _sent, authorities, now));
            if (last.Identity?.HoldsAt(now) != true)
                throw new IOException($"the certificate of {_participant} is no longer accepted");
        }

        private static Identity? IdentityOf(
            string participant,
            X509Certificate2 certificate,
            IEnumerable<X509Certificate2> sent,
            Authorities authorities,
            DateTimeOffset now
        ) =>
            authorities.Identify(certificate, sent, CertificateUse.Server, now) is { Refused: Reason.Unspecified, Identity: { } identity }
            && identity.Participant.Id == participant
                ? identity
                : null;
    }
}
