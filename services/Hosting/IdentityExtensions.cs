using System.Net.Security;
using System.Security.Authentication;
using System.Security.Cryptography.X509Certificates;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.AspNetCore.Server.Kestrel.Https;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.DependencyInjection.Extensions;
using Ministries.Ledger;
using Ministries.Serving;
using Ministries.Trust;

namespace Ministries.Hosting;

/// <summary>Identifies callers: TLS 1.3 with a client certificate ends in this process, not in a proxy.</summary>
public static class IdentityExtensions
{
    /// <summary>Registers the service's credentials and the agreement. Needs <see cref="Settings"/>,
    /// <see cref="ServiceLedger"/> and <see cref="TimeProvider"/>.</summary>
    public static IServiceCollection AddIdentity(this IServiceCollection services)
    {
        services.TryAddSingleton(EdgeLimits.For(ProcessLimits.Descriptors()));
        services
            .AddOptions<KestrelServerOptions>()
            .Configure<EdgeLimits>(
                (kestrel, limits) =>
                {
                    // Kestrel's limit would count all open sockets. Connections limits them by participant instead.
                    kestrel.Limits.Http2.MaxStreamsPerConnection = limits.MaxCallsPerConnection;
                    // It limits what a stream holds for a reader that does not read (Following).
                    kestrel.Limits.MaxResponseBufferSize = EdgeLimits.MaxUntakenBytes;
                    // Without pings, a stream whose peer is gone would go on until its connection reaches its maximum age.
                    kestrel.Limits.Http2.KeepAlivePingDelay = limits.KeepAlive;
                    kestrel.Limits.Http2.KeepAlivePingTimeout = limits.KeepAlive / 2;
                }
            );
        services.AddSingleton<Credentials>();
        services.AddSingleton<Agreements>();
        services.AddSingleton<Connections>();
        services.AddHostedService<Reloading>();
        return services;
    }

    /// <summary>Ends TLS on the address: version 1.3, HTTP/2, client certificates demanded. A peer whose certificate was not issued by an
    /// authority of the participant that it names fails in the handshake. A peer whose certificate was issued so but is not accepted is
    /// told why with its first call, and its connection ends with that call.</summary>
    public static ListenOptions UseIdentity(this ListenOptions listen)
    {
        var services = listen.ApplicationServices;
        var credentials = services.GetRequiredService<Credentials>();
        var agreements = services.GetRequiredService<Agreements>();
        var connections = services.GetRequiredService<Connections>();
        var limits = services.GetRequiredService<EdgeLimits>();
        var time = services.GetRequiredService<TimeProvider>();
        listen.Protocols = HttpProtocols.Http2;
        listen.Use(connections.Hold);
        listen.Use(new HandshakeLimit(limits.MaxHandshakeBytes, c => Held.Of(c).Reject(Rejection.HandshakeTooLarge)).Begin);
        listen.UseHttps(
            new TlsHandshakeCallbackOptions
            {
                HandshakeTimeout = limits.HandshakeTimeout,
                OnConnection = handshake =>
                    new(
                        new SslServerAuthenticationOptions
                        {
                            ServerCertificateContext = credentials.Context,
                            EnabledSslProtocols = SslProtocols.Tls13,
                            ApplicationProtocols = [SslApplicationProtocol.Http2],
                            ClientCertificateRequired = true,
                            // A resumed session would keep an identity that an old handshake has checked.
                            AllowTlsResume = false,
                            AllowRenegotiation = false,
                            CertificateChainPolicy = ServiceChannel.Offline(),
                            RemoteCertificateValidationCallback = (_, certificate, chain, _) =>
                                certificate is X509Certificate2 shown
                                && IsIssued(connections, Held.Of(handshake.Connection), agreements.InForce.Authorities, time, shown, chain),
                        }
                    ),
            }
        );
        listen.Use(HandshakeLimit.End);
        listen.Use(connections.Admit);
        return listen;
    }

    private static bool IsIssued(
        Connections connections,
        Held held,
        Authorities authorities,
        TimeProvider time,
        X509Certificate2 certificate,
        X509Chain? chain
    )
    {
        X509Certificate2[] sent = [.. chain?.ChainPolicy.ExtraStore ?? []];
        try
        {
            var identified = authorities.Identify(certificate, sent, CertificateUse.Client, time.GetUtcNow());
            if (identified.Issued)
                held.Peer = new Peer(Copy(certificate), [.. sent.Select(Copy)], () => connections.Refuse(held), authorities, identified);
            else
                held.Why ??= Rejection.Stranger;
            held.Connection.Items[typeof(Peer)] = held.Peer;
            return identified.Issued;
        }
        finally
        {
            // Nothing else disposes these certificates, and an unidentified peer may send many.
            foreach (var other in sent)
                if (!ReferenceEquals(other, certificate))
                    other.Dispose();
        }

        static X509Certificate2 Copy(X509Certificate2 c) => X509CertificateLoader.LoadCertificate(c.RawDataMemory.Span);
    }
}
