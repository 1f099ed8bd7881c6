using System.Buffers.Binary;
using System.Globalization;
using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Security.Authentication;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using System.Text.RegularExpressions;
using Microsoft.Extensions.DependencyInjection;
using Ministries.Fixtures;
using Ministries.Trust;

namespace Ministries.Hosting.Tests;

/// <summary>Who may hold a connection. The tests use plain sockets, because attackers do not use this project's clients.</summary>
public sealed class ConnectionTests : IAsyncLifetime
{
    // Small limits, and a time that no test waits for.
    private static readonly EdgeLimits Small = new()
    {
        ReloadInterval = TimeSpan.FromMilliseconds(50),
        MaxConnections = 3,
        MaxConnectionsPerParticipant = 2,
        OwnConnections = 1,
        MaxUnidentified = 8,
        MaxUnidentifiedPerAddress = 6,
        HandshakeTimeout = TimeSpan.FromMinutes(10),
    };

    private const string Attacker = "127.0.0.2",
        Other = "127.0.0.3",
        Ministry = "127.0.0.4";

    private readonly List<IDisposable> _open = [];
    private Running _running = null!;

    private static CancellationToken Cancel => Running.Cancel;

    public ValueTask InitializeAsync() => ValueTask.CompletedTask;

    public async ValueTask DisposeAsync()
    {
        foreach (var open in _open)
            open.Dispose();
        if (_running is not null)
            await _running.DisposeAsync();
    }

    [Fact]
    public async Task Idle_connections_displace_the_oldest_of_their_own_address_and_nobody_elses()
    {
        await Start(Small);
        var kept = await Connect(Other);
        var idle = new List<NetworkStream>();
        for (var i = 0; i < 20; i++)
            idle.Add(await Connect(Attacker));
        await End(14, idle);
        Assert.StartsWith("200", await Get(await Shake(kept, Of("ua/mfa"))));
        // Even from the attacker's address, a participant is served.
        Assert.StartsWith("200", await Get(await Shake(await Connect(Attacker), Of("kr/mfa"))));
    }

    [Fact]
    public async Task Idle_connections_from_many_addresses_displace_the_oldest_of_all()
    {
        await Start(Small);
        var idle = new List<NetworkStream>();
        for (var i = 0; i < 20; i++)
            idle.Add(await Connect($"127.0.1.{i + 1}"));
        await End(12, idle);
        Assert.StartsWith("200", await Get(await Shake(await Connect(Ministry), Of("kr/mfa"))));
    }

    [Fact]
    public async Task Connections_whose_certificates_are_not_accepted_take_no_places_of_others()
    {
        await Start(Small);
        var expired = Issue("kr/mfa", until: -1);
        var silent = new List<SslStream>();
        for (var i = 0; i < 12; i++)
            silent.Add(await Open(expired, Attacker));
        foreach (var oldest in silent[..6])
            await Ends(oldest);
        Assert.StartsWith("200", await Get(await Open(Of("kr/mfa"))));
        Assert.StartsWith("200", await Get(await Open(Of("ua/mfa"), Attacker)));
    }

    [Theory]
    [InlineData(-4, -1, true, "CERTIFICATE_NOT_ACCEPTED")]
    [InlineData(60, 120, true, "CERTIFICATE_NOT_ACCEPTED")]
    [InlineData(-4, 60, false, "CALLER_UNKNOWN")]
    public async Task A_peer_that_is_not_accepted_is_told_once_and_its_connection_is_closed(int from, int until, bool client, string reason)
    {
        await Start(Small);
        var stream = await Open(Issue("kr/mfa", from, until, client));
        Assert.StartsWith($"403 {reason}", await Get(stream));
        await Ends(stream);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_connection_loses_its_place_when_its_certificate_ends_or_is_denied(bool denied)
    {
        await Start(Small);
        var lasting = Issue("kr/mfa", until: 60 * 24);
        var before = denied ? Of("kr/mfa") : Issue("kr/mfa", until: 60);
        SslStream[] held = [await Open(before), await Open(before)];
        foreach (var stream in held)
            Assert.StartsWith("200", await Get(stream));
        await Ends(await Open(lasting));
        if (denied)
            Signing.Next(
                _running.Folder,
                next => next.Participants.Single(p => p.Id == "kr/mfa").DeniedCertificates.Add(before.SerialNumber),
                ["kr/mfa"]
            );
        else
            _running.Time.Moved = TimeSpan.FromHours(2);
        await Running.Until(async () => (await Try(lasting))?.StartsWith("200", StringComparison.Ordinal) == true, "a place is free again");
        // The peers are told with their next call, and their connections are closed.
        foreach (var stream in held)
        {
            Assert.StartsWith("403 CERTIFICATE_NOT_ACCEPTED", await Get(stream, id: 3));
            await Ends(stream);
        }
    }

    [Fact]
    public async Task Looking_through_the_connections_may_fail_and_ends_nothing()
    {
        await Start(Small);
        var served = await Open(Of("kr/mfa"));
        Assert.StartsWith("200", await Get(served));
        _running.Time.Fails = true;
        await Running.Until(
            () => Task.FromResult(_running.Warned.Any(w => w.StartsWith("the connections were not looked through"))),
            "it was noticed"
        );
        _running.Time.Fails = false;
        Assert.StartsWith("200", await Get(served, id: 3));
    }

    [Fact]
    public async Task Connections_are_limited_per_participant_and_in_all_and_each_participant_has_some_of_its_own()
    {
        await Start(Small);
        var first = await Open(Of("kr/mfa"));
        Assert.StartsWith("200", await Get(first));
        // These connections send nothing, not even the preface of HTTP/2.
        await End(1, [await Open(Of("kr/mfa")), await Open(Of("kr/mfa"))]);
        Assert.StartsWith("200", await Get(await Open(Of("ua/mfa"))));
        await Ends(await Open(Of("ua/mfa")));
        Assert.StartsWith("200", await Get(await Open(Of("icrc"))));
        Assert.StartsWith("200", await Get(first, id: 3));
    }

    [Fact]
    public async Task A_slow_or_stalled_handshake_is_closed_after_its_time()
    {
        await Start(Small with { HandshakeTimeout = TimeSpan.FromSeconds(1) });
        var silent = await Connect();
        // A ClientHello of 512 bytes, sent one byte at a time.
        var slow = await Connect();
        await slow.WriteAsync(new byte[] { 0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc }, Cancel);
        var written = Task.Run(
            async () =>
            {
                using var timer = new PeriodicTimer(TimeSpan.FromMilliseconds(20));
                while (await timer.WaitForNextTickAsync(Cancel))
                    await slow.WriteAsync(new byte[] { 3 }, Cancel);
            },
            Cancel
        );
        // The client's certificate is never sent, because it is in the client's second flight.
        var stalled = await Shake(await Connect(), Of("kr/mfa"), through: inner => new Stalled(inner));
        await Ends(silent);
        await Ends(slow);
        await Ends(stalled);
        await Assert.ThrowsAnyAsync<IOException>(() => written);
        // A silent connection that is not accepted has no more time than these; one that is served has.
        var served = await Open(Of("kr/mfa"));
        await Ends(await Open(Issue("kr/mfa", until: -1)));
        Assert.StartsWith("200", await Get(served));
    }

    [Fact]
    public async Task Bytes_beyond_a_handshake_are_not_read_and_a_stranger_fails_in_the_handshake()
    {
        await Start(Small);
        var now = DateTimeOffset.UtcNow;
        const string system = "spiffe://ministries.example/kr/mfa/system";
        using var root = Chains.Make("kr/mfa development authority", null, now);
        foreach (var intermediates in new[] { 0, 2, 3, 60 })
        {
            var chain = Chains.Below(root, intermediates, system, now);
            await Ends(await Open(chain[^1], sent: chain[1..^1]));
        }
        // However much comes at once, the last certificate is never parsed.
        await Running.Until(
            () => Task.FromResult(_running.Warned.Count(w => w.Contains("handshake_too_large", StringComparison.Ordinal)) == 1),
            "it was too large"
        );
        using var nobody = Chains.Make("nobody", null, now, "https://example.com/");
        await Ends(await Open(nobody));
        await Ends(await Open(null));
        // A connection without TLS.
        var plain = await Connect();
        await plain.WriteAsync(Encoding.ASCII.GetBytes("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), Cancel);
        await Ends(plain);
        Assert.StartsWith("200", await Get(await Open(Of("kr/mfa"))));
    }

    [Fact]
    public async Task Four_certificates_with_RSA_keys_of_4096_bits_fit_into_a_handshake()
    {
        await Start(Small);
        using var key = RSA.Create(4096);
        var now = DateTimeOffset.UtcNow;
        var chain = new List<X509Certificate2>();
        for (var i = 0; i < 5; i++)
        {
            // Names as long as authorities have them.
            var request = new CertificateRequest(
                $"CN=Authority {i}, OU=Department of Information Security, O=Ministry of Foreign Affairs, C=KR",
                key,
                HashAlgorithmName.SHA256,
                RSASignaturePadding.Pkcs1
            );
            request.CertificateExtensions.Add(new X509BasicConstraintsExtension(i < 4, false, 0, critical: true));
            request.CertificateExtensions.Add(new X509SubjectKeyIdentifierExtension(request.PublicKey, critical: false));
            var names = new SubjectAlternativeNameBuilder();
            names.AddUri(new Uri("spiffe://ministries.example/kr/mfa/system"));
            request.CertificateExtensions.Add(names.Build());
            using var issued =
                i == 0
                    ? request.CreateSelfSigned(now.AddHours(-1), now.AddHours(1))
                    : request.Create(
                        chain[^1].SubjectName,
                        X509SignatureGenerator.CreateForRSA(key, RSASignaturePadding.Pkcs1),
                        now.AddHours(-1),
                        now.AddHours(1),
                        [1, (byte)i]
                    );
            chain.Add(Keep(issued.HasPrivateKey ? X509CertificateLoader.LoadCertificate(issued.RawData) : issued.CopyWithPrivateKey(key)));
        }
        await Ends(await Open(chain[^1], sent: [.. chain[1..^1]]));
        await Running.Until(
            () => Task.FromResult(_running.Warned.Any(w => w.Contains("stranger", StringComparison.Ordinal))),
            "it was decoded and is a stranger's"
        );
        Assert.DoesNotContain(_running.Warned, w => w.Contains("handshake_too_large", StringComparison.Ordinal));
    }

    [Fact]
    public async Task Another_version_and_another_protocol_are_closed()
    {
        await Start(Small);
        await Ends(await Open(Of("kr/mfa"), protocols: SslProtocols.Tls12));
        await Ends(await Open(Of("kr/mfa"), alpn: SslApplicationProtocol.Http11));
        await Ends(await Open(Of("kr/mfa"), alpn: default(SslApplicationProtocol)));
        Assert.StartsWith("200", await Get(await Open(Of("kr/mfa"))));
        // A machine that gives few descriptors is told so at the start.
        Assert.DoesNotContain(
            _running.Warned,
            w => !w.Contains("rejected", StringComparison.Ordinal) && !w.Contains("descriptors", StringComparison.Ordinal)
        );
    }

    [Fact]
    public async Task Rejections_are_logged_once_a_minute_for_each_kind_with_the_number_left_out()
    {
        await Start(Small);
        List<string> About(string kind) => [.. _running.Warned.Where(w => w.Contains(kind, StringComparison.Ordinal))];
        const string name = "no_http2";
        static int Told(string line) =>
            Regex.Match(line, "([0-9]+) further connections were rejected") is { Success: true } more
                ? int.Parse(more.Groups[1].Value, CultureInfo.InvariantCulture)
                : 1;
        for (var i = 0; i < 10; i++)
            await Ends(await Open(Of("kr/mfa"), alpn: default(SslApplicationProtocol)));
        await Running.Until(() => Task.FromResult(About(name).Count == 1), "the first is told of");
        Assert.Contains("kr/mfa", About(name)[0]);
        await Ends(await Open(Issue("kr/mfa", until: -1), Attacker, alpn: default(SslApplicationProtocol)));
        _running.Time.Moved = TimeSpan.FromMinutes(2);
        // One line a minute, with the number left out: ten more were rejected. The service may count the last one after its connection has
        // ended, and so in the next minute.
        await Running.Until(() => Task.FromResult(About(name).Sum(Told) >= 10), "those left out are told of");
        _running.Time.Moved = TimeSpan.FromMinutes(4);
        await Running.Until(() => Task.FromResult(About(name).Sum(Told) == 11), "the last one is told of, too");
        Assert.InRange(About(name).Count, 2, 3);
        Assert.DoesNotContain(_running.Warned, w => w.Contains("127.0.0.", StringComparison.Ordinal));
    }

    // With the limits of a real service, and a client that waits two seconds.
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task While_strangers_flood_participants_connect(bool expired)
    {
        // With time enough to fill the pool, however busy the machine is.
        await Start(new EdgeLimits { HandshakeTimeout = TimeSpan.FromMinutes(10) });
        var certificate = expired ? Issue("kr/mfa", until: -1) : null;
        using var enough = CancellationTokenSource.CreateLinkedTokenSource(Cancel);
        var connections = _running.Host.Services.GetRequiredService<Connections>();
        var limits = _running.Host.Services.GetRequiredService<EdgeLimits>();
        var full = new TaskCompletionSource();
        // No address may have so many that one of them fills the pool.
        var flood = Task.WhenAll(
            ((string[])[Attacker, "127.0.0.21", "127.0.0.22", "127.0.0.23"]).Select(from => Task.Run(() => Flood(from), Cancel))
        );
        await Task.WhenAny(full.Task, flood);
        string[] participants = ["kr/mfa", "ua/mfa", "icrc", "ua/coordination-hq"];
        var (served, failed) = (0, new List<string>());
        for (var i = 0; i < 100; i++)
            try
            {
                using var client = new HttpClient(Handler(Of(participants[i % 4]), i % 2 == 0 ? Ministry : Attacker))
                {
                    Timeout = TimeSpan.FromSeconds(2),
                    DefaultRequestVersion = HttpVersion.Version20,
                    DefaultVersionPolicy = HttpVersionPolicy.RequestVersionExact,
                };
                using var answer = await client.GetAsync(new Uri(_running.Address, "/checkpoint"), Cancel);
                Assert.Equal(HttpStatusCode.OK, answer.StatusCode);
                served++;
            }
            catch (Exception e) when (e is HttpRequestException or OperationCanceledException)
            {
                failed.Add(e.Message);
            }
        await enough.CancelAsync();
        await flood;
        Assert.True(served >= 99, $"{served} were served; {string.Join('\n', failed)}");
        Assert.True(_running.Warned.Count <= 20, string.Join('\n', _running.Warned));

        // First until the pool is full, then a new one for each that is closed.
        async Task Flood(string from)
        {
            var held = new Queue<IDisposable>();
            try
            {
                while (!enough.IsCancellationRequested)
                {
                    var tcp = await Connect(from);
                    if (certificate is not null)
                        held.Enqueue(await Shake(tcp, certificate));
                    held.Enqueue(tcp);
                    if (held.Count > 1200)
                        held.Dequeue().Dispose();
                    if (connections.Unidentified >= limits.MaxUnidentified)
                        full.TrySetResult();
                    if (full.Task.IsCompleted)
                        await Task.Delay(20, enough.Token);
                }
            }
            catch (Exception e) when (enough.IsCancellationRequested && e is OperationCanceledException or IOException or SocketException)
            { }
        }
    }

    private async Task Start(EdgeLimits limits)
    {
        _running = new Running { Limits = limits };
        await _running.InitializeAsync();
    }

    private X509Certificate2 Of(string participant) => Keep(_running.CertificateOf(participant));

    // Times are minutes from now.
    private X509Certificate2 Issue(string participant, int from = -120, int until = 60, bool client = true)
    {
        var now = DateTimeOffset.UtcNow;
        return Keep(
            _running
                .AuthorityOf(participant)
                .Issue(
                    "x",
                    new CertificateTerms(
                        [$"spiffe://ministries.example/{participant}/system"],
                        now.AddMinutes(from),
                        now.AddMinutes(until),
                        client,
                        client ? null : ["localhost"]
                    )
                )
        );
    }

    private T Keep<T>(T open)
        where T : IDisposable
    {
        lock (_open)
            _open.Add(open);
        return open;
    }

    private async Task<NetworkStream> Connect(string from = "127.0.0.1")
    {
        var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
        var stream = Keep(new Socketed(socket));
        socket.Bind(new IPEndPoint(IPAddress.Parse(from), 0));
        await socket.ConnectAsync(IPAddress.Loopback, _running.Address.Port, Cancel);
        stream.Stream = new NetworkStream(socket, ownsSocket: true);
        return stream.Stream;
    }

    private async Task<SslStream> Open(
        X509Certificate2? certificate,
        string from = "127.0.0.1",
        SslProtocols protocols = SslProtocols.Tls13,
        SslApplicationProtocol? alpn = null,
        X509Certificate2[]? sent = null
    ) => await Shake(await Connect(from), certificate, protocols, alpn, sent);

    // A handshake that fails leaves a stream that has ended.
    private async Task<SslStream> Shake(
        NetworkStream tcp,
        X509Certificate2? certificate,
        SslProtocols protocols = SslProtocols.Tls13,
        SslApplicationProtocol? alpn = null,
        X509Certificate2[]? sent = null,
        Func<Stream, Stream>? through = null
    )
    {
        var stream = Keep(new SslStream(through?.Invoke(tcp) ?? tcp));
        var chosen = alpn ?? SslApplicationProtocol.Http2;
        try
        {
            await stream.AuthenticateAsClientAsync(
                new SslClientAuthenticationOptions
                {
                    TargetHost = "localhost",
                    EnabledSslProtocols = protocols,
                    AllowTlsResume = false,
                    ApplicationProtocols = chosen == default ? null : [chosen],
                    ClientCertificateContext = certificate is null
                        ? null
                        : SslStreamCertificateContext.Create(certificate, sent is null ? null : [.. sent], offline: true),
                    RemoteCertificateValidationCallback = (_, _, _, _) => true,
                },
                Cancel
            );
        }
        catch (Exception e) when (e is AuthenticationException or IOException) { }
        return stream;
    }

    private SocketsHttpHandler Handler(X509Certificate2 certificate, string from) =>
        new()
        {
            ConnectCallback = async (_, _) => await Connect(from),
            SslOptions = new SslClientAuthenticationOptions
            {
                LocalCertificateSelectionCallback = (_, _, _, _, _) => certificate,
                RemoteCertificateValidationCallback = (_, _, _, _) => true,
            },
        };

    private async Task<string?> Try(X509Certificate2 certificate)
    {
        try
        {
            using var stream = await Open(certificate);
            return await Get(stream);
        }
        catch (Exception e) when (e is IOException or InvalidOperationException)
        {
            return null;
        }
    }

    // Returns when the other side has ended it. The test runner limits the wait.
    private static async Task Ends(Stream stream)
    {
        var buffer = new byte[4096];
        try
        {
            while (await stream.ReadAsync(buffer, Cancel) > 0) { }
        }
        // A handshake that failed.
        catch (Exception e) when (e is IOException or InvalidOperationException or AuthenticationException) { }
    }

    // Exactly this many of them end; which ones depends on the order in which the service saw them.
    private static async Task End(int count, IEnumerable<Stream> streams)
    {
        var ends = streams.Select(Ends).ToList();
        await Running.Until(() => Task.FromResult(ends.Count(e => e.IsCompleted) >= count), $"{count} have ended");
        Assert.Equal(count, ends.Count(e => e.IsCompleted));
    }

    // Asks for /checkpoint in HTTP/2 frames (RFC 9113) and returns the status and what is answered.
    private static async Task<string> Get(SslStream stream, int id = 1)
    {
        var request = new MemoryStream();
        if (id == 1)
        {
            request.Write("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"u8);
            request.Write([0, 0, 0, 4, 0, 0, 0, 0, 0]);
        }
        // GET and https of the static table (RFC 7541, appendix A), then a path and an authority as they are.
        byte[] head = [0x82, 0x87, 0x04, 11, .. "/checkpoint"u8, 0x01, 9, .. "localhost"u8];
        request.Write([0, 0, (byte)head.Length, 1, 5, 0, 0, 0, (byte)id, .. head]);
        await stream.WriteAsync(request.ToArray(), Cancel);
        var (status, text, frame) = ("", "", new byte[9]);
        while (true)
        {
            await stream.ReadExactlyAsync(frame, Cancel);
            var payload = new byte[BinaryPrimitives.ReadInt32BigEndian(frame) >>> 8];
            await stream.ReadExactlyAsync(payload, Cancel);
            if (BinaryPrimitives.ReadInt32BigEndian(frame.AsSpan(5)) != id)
                continue;
            // 200 is in the static table; 403 is written out, or in Huffman's code.
            if (frame[3] == 1 && status.Length == 0)
                status = payload[0] == 0x88 ? "200" : "403";
            if (frame[3] == 0)
                text += Encoding.UTF8.GetString(payload);
            if (frame[3] is 0 or 1 && (frame[4] & 1) != 0)
                return $"{status} {text}";
        }
    }

    private sealed class Socketed(Socket socket) : IDisposable
    {
        public NetworkStream Stream { get; set; } = null!;

        public void Dispose() => socket.Dispose();
    }

    /// <summary>Sends what is written first, and nothing of what follows.</summary>
    private sealed class Stalled(Stream inner) : Stream
    {
        private bool _sent;

        public override bool CanRead => true;
        public override bool CanSeek => false;
        public override bool CanWrite => true;
        public override long Length => throw new NotSupportedException();
        public override long Position
        {
            get => throw new NotSupportedException();
            set => throw new NotSupportedException();
        }

        public override ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default) =>
            inner.ReadAsync(buffer, cancellationToken);

        public override ValueTask WriteAsync(ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default)
        {
            if (_sent)
                return ValueTask.CompletedTask;
            _sent = true;
            return inner.WriteAsync(buffer, cancellationToken);
        }

        public override Task FlushAsync(CancellationToken cancellationToken) => Task.CompletedTask;

        public override void Flush() { }

        public override int Read(byte[] buffer, int offset, int count) => inner.Read(buffer, offset, count);

        public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();

        public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

        public override void SetLength(long value) => throw new NotSupportedException();
    }
}
