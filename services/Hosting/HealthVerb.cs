using System.Net.Security;
using System.Security.Authentication;
using System.Security.Cryptography;
using Grpc.Core;
using Grpc.Health.V1;
using Grpc.Net.Client;
using Ministries.Keys;

namespace Ministries.Hosting;

/// <summary>The verb <c>health</c> of every service's program: asks the service that runs beside it, at <c>Listen</c> and with the
/// service's own certificate, whether it is ready. A container's health check needs nothing else.</summary>
internal static class HealthVerb
{
    // The check is a process of its own that starts, connects and asks: on a busy machine that alone takes seconds.
    private static readonly TimeSpan Deadline = TimeSpan.FromSeconds(20);

    /// <summary>Asks; writes the answer as one word.</summary>
    /// <param name="settings">The service's settings.</param>
    /// <param name="asked">What is asked: <see cref="ServiceHost.Ready"/>, <see cref="ServiceHost.Serving"/> or
    /// <see cref="ServiceHost.Alive"/>.</param>
    /// <returns>0: it is; 1: it is not, or does not answer.</returns>
    public static async Task<int> Run(Settings settings, string asked)
    {
        using var own = CertificateFiles.Read(settings.Certificate, settings.CertificateKey, settings.SecretsFolder);
        using var handler = new SocketsHttpHandler
        {
            ConnectTimeout = Deadline,
            SslOptions = new SslClientAuthenticationOptions
            {
                EnabledSslProtocols = SslProtocols.Tls13,
                LocalCertificateSelectionCallback = (_, _, _, _, _) => own,
                // The server is accepted by its key, because its host name inside a container may be any.
                RemoteCertificateValidationCallback = (_, presented, _, _) =>
                    presented is not null && CryptographicOperations.FixedTimeEquals(presented.GetPublicKey(), own.GetPublicKey()),
            },
        };
        var address = new UriBuilder(settings.Listen)
        {
            Host = settings.Listen.Host is "0.0.0.0" or "[::]" ? "127.0.0.1" : settings.Listen.Host,
        };
        using var channel = GrpcChannel.ForAddress(address.Uri, new GrpcChannelOptions { HttpHandler = handler });
        try
        {
            var answer = await new Health.HealthClient(channel).CheckAsync(
                new HealthCheckRequest { Service = asked == ServiceHost.Alive ? "" : asked },
                deadline: DateTime.UtcNow + Deadline
            );
            Console.WriteLine(answer.Status);
            return answer.Status == HealthCheckResponse.Types.ServingStatus.Serving ? 0 : 1;
        }
        catch (RpcException e)
        {
            Console.WriteLine(e.StatusCode);
            return 1;
        }
    }
}
