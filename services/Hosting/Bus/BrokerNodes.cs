using System.Net.Security;
using System.Net.Sockets;
using System.Security.Authentication;
using System.Security.Cryptography.X509Certificates;
using Microsoft.Extensions.Logging;
using Ministries.Trust;
using RabbitMQ.Client;

namespace Ministries.Hosting.Bus;

/// <summary>The broker's nodes as a service reaches them: by which addresses, as which user, and with which certificates.</summary>
/// <param name="service">The service's name.</param>
/// <param name="options">Where the nodes are.</param>
/// <param name="log">Where it is said that a certificate is not accepted.</param>
internal sealed partial class BrokerNodes(string service, BusOptions options, ILogger log)
{
    private volatile string? _distrusted;

    /// <summary>A connection of the plain client, to ask the broker without MassTransit: to whichever of the brokers answers
    /// first.</summary>
    /// <param name="use">What it is for, as the broker shows it.</param>
    /// <param name="cancel">Cancels.</param>
    public Task<IConnection> Connect(string use, CancellationToken cancel)
    {
        var factory = PlainConnection(use);
        return Broker
            .Aside(() =>
                factory.CreateConnectionAsync(
                    options.Brokers.Select(b => new AmqpTcpEndpoint(b.Host, PortOf(b), factory.Ssl)),
                    factory.ClientProvidedName,
                    cancel
                )
            )
            .WaitAsync(cancel);
    }

    private ConnectionFactory PlainConnection(string use)
    {
        var uri = options.Broker;
        var (user, password) = Credentials(uri);
        var factory = new ConnectionFactory
        {
            VirtualHost = VirtualHost(uri),
            UserName = user,
            Password = password,
            AutomaticRecoveryEnabled = false,
            ClientProvidedName = $"{service} {use}",
            RequestedConnectionTimeout = TimeSpan.FromSeconds(3),
            SocketFactory = Limited,
            SocketReadTimeout = TimeSpan.FromSeconds(5),
            SocketWriteTimeout = TimeSpan.FromSeconds(5),
            HandshakeContinuationTimeout = TimeSpan.FromSeconds(3),
            ContinuationTimeout = TimeSpan.FromSeconds(3),
            RequestedHeartbeat = TimeSpan.FromSeconds(6),
        };
        if (uri.Scheme == "amqps")
            factory.Ssl = new SslOption
            {
                Enabled = true,
                ServerName = uri.Host,
                Version = SslProtocols.Tls12 | SslProtocols.Tls13,
                CertificateValidationCallback = (_, certificate, sent, errors) => Trusts(certificate, sent, errors),
            };
        return factory;
    }

    /// <summary>Whether a certificate is the broker's: it must be for the broker's name and issued by the authority that the settings name.
    /// The reason why it is not is logged once, not with each attempt.</summary>
    public bool Trusts(X509Certificate? certificate, X509Chain? sent, SslPolicyErrors errors)
    {
        var wrong = Wrong(certificate, sent, errors);
        if (wrong is not null && wrong != _distrusted)
            LogDistrusted(log, service, wrong, options.BrokerAuthority ?? "one of the system's authorities");
        _distrusted = wrong;
        return wrong is null;
    }

    private string? Wrong(X509Certificate? certificate, X509Chain? sent, SslPolicyErrors errors)
    {
        if (certificate is null)
            return "it sent none";
        using var presented = X509CertificateLoader.LoadCertificate(certificate.GetRawCertData());
        // The client asks every broker by the first one's name. Each may have a certificate for its own name alone.
        if (errors.HasFlag(SslPolicyErrors.RemoteCertificateNameMismatch) && !options.Brokers.Any(b => presented.MatchesHostname(b.Host)))
            return $"{certificate.Subject} is not for {string.Join(" or ", options.Brokers.Select(b => b.Host))}";
        errors &= ~SslPolicyErrors.RemoteCertificateNameMismatch;
        if (options.BrokerAuthority is null)
            return errors == SslPolicyErrors.None ? null : $"{certificate.Subject}, issued by {certificate.Issuer}: {errors}";
        using var chain = new X509Chain();
        chain.ChainPolicy.TrustMode = X509ChainTrustMode.CustomRootTrust;
        chain.ChainPolicy.RevocationMode = X509RevocationMode.NoCheck;
        chain.ChainPolicy.DisableCertificateDownloads = true;
        chain.ChainPolicy.CustomTrustStore.ImportFromPemFile(options.BrokerAuthority);
        if (sent is not null)
            chain.ChainPolicy.ExtraStore.AddRange(sent.ChainPolicy.ExtraStore);
        if (chain.Build(presented))
            return null;
        return $"{certificate.Subject}, issued by {certificate.Issuer}: "
            + string.Join(", ", chain.ChainStatus.Select(s => s.Status).Distinct());
    }

    private static TcpClientAdapter Limited(AddressFamily family) => new(LimitedSocket(family));

    public static Socket LimitedSocket(AddressFamily family)
    {
        var socket = new Socket(family, SocketType.Stream, ProtocolType.Tcp);
        PeerSocket.Limit(socket);
        return socket;
    }

    public static int PortOf(Uri uri) =>
        uri.Port > 0 ? uri.Port
        : uri.Scheme == "amqps" ? 5671
        : 5672;

    public static string VirtualHost(Uri uri) => uri.AbsolutePath.Length > 1 ? Uri.UnescapeDataString(uri.AbsolutePath[1..]) : "/";

    public static (string User, string Password) Credentials(Uri uri)
    {
        var parts = uri.UserInfo.Split(':', 2);
        return parts is [{ Length: > 0 } user, var password]
            ? (Uri.UnescapeDataString(user), Uri.UnescapeDataString(password))
            : ("guest", "guest");
    }

    [LoggerMessage(2, LogLevel.Error, "{Service}: the broker's certificate is not accepted: {Why}; it must be issued by {Authority}")]
    private static partial void LogDistrusted(ILogger log, string service, string why, string authority);
}
