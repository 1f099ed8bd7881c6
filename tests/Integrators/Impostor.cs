using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Security.Authentication;
using System.Security.Cryptography.X509Certificates;
using Ministries.Trust;

namespace Ministries.Integrators.Tests;

/// <summary>A server with a certificate of a service's own authority that does not name the service, or not this host. It accepts any
/// client and counts what it is sent.</summary>
internal sealed class Impostor : IAsyncDisposable
{
    private readonly CancellationTokenSource _end = new();
    private readonly TcpListener _listener = new(IPAddress.Loopback, 0);
    private readonly X509Certificate2 _certificate;
    private readonly Task _served;
    private int _connections;
    private long _received;

    /// <summary>Starts it.</summary>
    /// <param name="folder">The folder of the service's authority.</param>
    /// <param name="terms">What its certificate says.</param>
    public Impostor(string folder, CertificateTerms terms)
    {
        using var authority = CertificateAuthority.Read(Path.Combine(folder, "authority.pem"), Path.Combine(folder, "authority.key"));
        _certificate = authority.Issue("impostor", terms);
        _listener.Start();
        _served = Serve();
    }

    /// <summary>Where it listens.</summary>
    public string Address => $"127.0.0.1:{((IPEndPoint)_listener.LocalEndpoint).Port}";

    /// <summary>How many connections were made to it.</summary>
    public int Connections => Volatile.Read(ref _connections);

    /// <summary>How many bytes it was sent after a handshake.</summary>
    public long Received => Interlocked.Read(ref _received);

    private async Task Serve()
    {
        var handled = new List<Task>();
        try
        {
            while (true)
                handled.Add(Handle(await _listener.AcceptTcpClientAsync(_end.Token)));
        }
        catch (OperationCanceledException)
        {
            await Task.WhenAll(handled);
        }
    }

    private async Task Handle(TcpClient client)
    {
        Interlocked.Increment(ref _connections);
        using (client)
        {
            await using var stream = new SslStream(client.GetStream());
            try
            {
                await stream.AuthenticateAsServerAsync(
                    new SslServerAuthenticationOptions
                    {
                        ServerCertificate = _certificate,
                        EnabledSslProtocols = SslProtocols.Tls13,
                        ApplicationProtocols = [SslApplicationProtocol.Http2],
                        ClientCertificateRequired = true,
                        RemoteCertificateValidationCallback = (_, _, _, _) => true,
                    },
                    _end.Token
                );
                var bytes = new byte[1024];
                while (await stream.ReadAsync(bytes, _end.Token) is > 0 and var count)
                    Interlocked.Add(ref _received, count);
            }
            catch (Exception e) when (e is AuthenticationException or IOException or OperationCanceledException)
            {
                // The client does not take it for the service.
            }
        }
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        await _end.CancelAsync();
        await _served;
        _listener.Dispose();
        _certificate.Dispose();
        _end.Dispose();
    }
}
