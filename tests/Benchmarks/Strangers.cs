using System.Globalization;
using System.Net.Security;
using System.Net.Sockets;
using System.Security.Authentication;
using System.Security.Cryptography.X509Certificates;
using Google.Protobuf;
using Ministries.Custody.V1;
using Ministries.Fixtures;
using Ministries.Trust;

namespace Ministries.Benchmarks;

/// <summary>The cost for a service of connections whose peers it does not accept.</summary>
internal static class Strangers
{
    /// <summary>How much more than a TLS handshake a stranger may cost, in milliseconds of processor time.</summary>
    private const double Most = 2;

    /// <summary>H: connections of strangers, against handshakes with the same certificate at a server that accepts any.</summary>
    public static async Task<Line> Handshakes(Bench bench)
    {
        var service = await bench.SharedCallLog();
        string Own(string file) => Path.Combine(bench.Folder, "service", "calllog", file);
        await using var echo = await bench.Start(
            "echo",
            serverGc: false,
            "echo",
            Own("system.pem"),
            Own("system.key"),
            Ports.Free().ToString(CultureInfo.InvariantCulture),
            Convert.ToBase64String(new GetPrisonerResponse().ToByteArray())
        );
        const string system = "spiffe://ministries.example/kr/mfa/system";
        var now = DateTimeOffset.UtcNow;
        using var root = Chains.Make("kr/mfa development authority", null, now);
        var (random, deep) = (Chains.Below(root, 0, system, now), Chains.Below(root, 60, system, now));
        using var authority = CertificateAuthority.Read(
            Path.Combine(bench.Folder, "kr/mfa", "authority.pem"),
            Path.Combine(bench.Folder, "kr/mfa", "authority.key")
        );
        using var expired = authority.Issue("x", new CertificateTerms([system], now.AddMinutes(-4), now.AddMinutes(-1)));
        (string Name, Child Server, SslStreamCertificateContext Shown)[] kinds =
        [
            ("handshake", echo, Context(random)),
            ("named", service, Context(random)),
            ("60 intermediates", service, Context(deep)),
            ("expired", service, Context([root, expired])),
        ];
        var times = kinds.ToDictionary(k => k.Name, _ => new List<double>());
        foreach (var (_, server, shown) in kinds)
            await Cost(server, shown, 50);
        for (var round = 0; round < bench.Plan.Rounds; round++)
            foreach (var (name, server, shown) in kinds)
                times[name].Add(await Cost(server, shown, bench.Plan.Full ? 300 : 100));
        double Of(string name) => Figures.Of(times[name]).Median;
        var worst = Math.Max(Of("named"), Of("60 intermediates")) - Of("handshake");
        return new Line(
            "H",
            "a stranger's connection, processor time",
            "a handshake with any certificate",
            Figures.Of(times["named"].Zip(times["handshake"], (a, b) => a / b)),
            $"less than {Most} ms beyond a handshake",
            worst < Most,
            string.Join(", ", kinds.Select(k => $"{k.Name} {Of(k.Name):F2} ms"))
        );
    }

    private static SslStreamCertificateContext Context(X509Certificate2[] chain) =>
        SslStreamCertificateContext.Create(chain[^1], [.. chain[1..^1]], offline: true);

    // The server's processor time for one connection, in milliseconds.
    private static async Task<double> Cost(Child server, SslStreamCertificateContext shown, int times)
    {
        var before = server.ProcessorTime;
        for (var i = 0; i < times; i++)
            await Connect(server.Address, shown);
        return (server.ProcessorTime - before).TotalMilliseconds / times;
    }

    // Waits until the server has closed it or sent its first bytes.
    private static async Task Connect(Uri server, SslStreamCertificateContext shown)
    {
        using var tcp = new TcpClient { NoDelay = true };
        await tcp.ConnectAsync(server.Host, server.Port);
        await using var tls = new SslStream(tcp.GetStream());
        try
        {
            await tls.AuthenticateAsClientAsync(
                new SslClientAuthenticationOptions
                {
                    TargetHost = server.Host,
                    EnabledSslProtocols = SslProtocols.Tls13,
                    ApplicationProtocols = [SslApplicationProtocol.Http2],
                    AllowTlsResume = false,
                    ClientCertificateContext = shown,
                    RemoteCertificateValidationCallback = (_, _, _, _) => true,
                }
            );
            await tls.WriteAsync("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\u0004\0\0\0\0\0"u8.ToArray());
            await tls.ReadExactlyAsync(new byte[9]);
        }
        catch (Exception e) when (e is IOException or AuthenticationException) { }
    }
}
