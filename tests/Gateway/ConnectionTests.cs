using System.Net;
using System.Net.Http.Headers;
using System.Net.Security;
using System.Net.Sockets;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using Grpc.Core;
using Grpc.Net.Client;
using Ministries.Ledger.V1;
using Ministries.Ministry.Tests;
using static Ministries.Ministry.Tests.Services;

namespace Ministries.Gateway.Tests;

/// <summary>Nobody shuts others out of a gateway by holding connections, and a stranger's certificate makes it do nothing.</summary>
public sealed class ConnectionTests(Services services)
{
    [Fact]
    public async Task Idle_connections_of_one_address_displace_each_other_and_nobody_else()
    {
        await using var gateway = await RunningGateway.Start(services, "kr/mfa");
        using var kept = new Caller(gateway);
        Assert.Equal(200, await kept.Status());
        using var idle = new Idle(gateway);
        await idle.Open(Connections.MaxStrangersOfAddress + 20, _ => "127.0.0.2");
        await idle.End(20);
        using var fresh = new Caller(gateway);
        Assert.Equal((200, 200), (await fresh.Status(), await kept.Status()));
        Assert.Equal(1, kept.Opened);
    }

    [Fact]
    public async Task Idle_connections_from_many_addresses_displace_the_oldest_of_them()
    {
        await using var gateway = await RunningGateway.Start(services, "kr/mfa");
        using var kept = new Caller(gateway);
        Assert.Equal(200, await kept.Status());
        using var idle = new Idle(gateway);
        await idle.Open(Connections.MaxStrangers + 20, i => $"127.0.{1 + i / 200}.{1 + i % 200}");
        await idle.End(20);
        using var fresh = new Caller(gateway);
        Assert.Equal((200, 200), (await fresh.Status(), await kept.Status()));
        Assert.Equal(1, kept.Opened);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_connection_on_which_nobody_known_calls_ends(bool handshaken)
    {
        var time = new Manual(Connections.Patience);
        await using var gateway = await RunningGateway.Start(services, "kr/mfa", time: time);
        using var known = new Caller(gateway);
        Assert.Equal(200, await known.Status());
        using var idle = new Idle(gateway);
        var stream = await idle.Connect("127.0.0.2");
        if (handshaken)
        {
            var tls = new SslStream(stream);
            var trusting = RunningGateway.Trusting(Path.Combine(gateway.State, "gateway.pem"));
            (trusting.TargetHost, trusting.ApplicationProtocols) = ("127.0.0.1", [SslApplicationProtocol.Http11]);
            await tls.AuthenticateAsClientAsync(trusting, Cancel);
            await tls.WriteAsync("GET /health/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"u8.ToArray(), Cancel);
            Assert.StartsWith("HTTP/1.1 200", await ReadSome(tls));
        }
        time.FireAll();
        time.FireAll();
        await Idle.Ends(stream);
        Assert.Equal(200, await known.Status());
        Assert.Equal(1, known.Opened);
    }

    [Fact]
    public async Task One_caller_cannot_take_the_connections_of_others()
    {
        var folder = Directory.CreateTempSubdirectory("callers").FullName;
        var file = Path.Combine(folder, "tokens.json");
        var (greedy, other) = (TokenFile.Add(file, "greedy", [Roles.Auditor]), TokenFile.Add(file, "other", [Roles.Auditor]));
        await using var gateway = await RunningGateway.Start(services, "kr/mfa", s => s with { Tokens = file });
        var callers = new List<Caller>();
        try
        {
            for (var i = 0; i < Connections.MaxOfCaller; i++)
            {
                callers.Add(new Caller(gateway, greedy));
                Assert.NotEqual(503, await callers[^1].Status());
            }
            callers.Add(new Caller(gateway, greedy));
            Assert.Equal(503, await callers[^1].Status());
            callers.Add(new Caller(gateway, other));
            Assert.NotEqual(503, await callers[^1].Status());
            // A place is free again when a connection ends.
            callers[0].Dispose();
            using var next = new Caller(gateway, greedy);
            await Until(async () => await next.Status() != 503);
        }
        finally
        {
            callers.ForEach(c => c.Dispose());
            Directory.Delete(folder, recursive: true);
        }
    }

    [Fact]
    public async Task A_place_that_was_not_used_goes_to_another_connection_of_the_same_caller()
    {
        var time = new Manual(Connections.Patience);
        await using var gateway = await RunningGateway.Start(services, "kr/mfa", time: time);
        var callers = Enumerable.Range(0, Connections.MaxOfCaller).Select(_ => new Caller(gateway)).ToList();
        try
        {
            foreach (var caller in callers)
                Assert.Equal(200, await caller.Status());
            // Who holds them keeps them open with calls that say nothing of who he is.
            Assert.Equal(200, await callers[0].Status("/health/live", anonymous: true));
            using var next = new Caller(gateway);
            Assert.Equal(503, await next.Status());
            time.Moved = Connections.Unused + TimeSpan.FromSeconds(1);
            Assert.Equal(200, await next.Status());
        }
        finally
        {
            callers.ForEach(c => c.Dispose());
        }
    }

    [Fact]
    public async Task Readers_of_services_ledgers_leave_places_for_the_gateways_own()
    {
        var folder = Directory.CreateTempSubdirectory("callers").FullName;
        var file = Path.Combine(folder, "tokens.json");
        var tokens = Enumerable.Range(0, 3).Select(i => TokenFile.Add(file, $"reader-{i}", [Roles.Auditor])).ToList();
        await using var gateway = await RunningGateway.Start(services, "kr/mfa", s => s with { Tokens = file });
        var channels = tokens.ConvertAll(_ => ChannelTo(gateway));
        var open = new List<AsyncServerStreamingCall<FollowEntriesResponse>>();
        AsyncServerStreamingCall<FollowEntriesResponse> Follow(int reader) =>
            new LedgerService.LedgerServiceClient(channels[reader]).FollowEntries(
                new FollowEntriesRequest(),
                new Metadata { { GrpcRelay.ServiceHeader, "calllog" }, { "authorization", $"Bearer {tokens[reader]}" } },
                cancellationToken: Cancel
            );
        try
        {
            for (var i = 0; i < GatewayHost.Followers; i++)
            {
                open.Add(Follow(i % 2));
                Assert.True(await open[^1].ResponseStream.MoveNext(Cancel));
            }
            using var one = Follow(2);
            await Assert.ThrowsAnyAsync<RpcException>(() => one.ResponseStream.MoveNext(Cancel));
        }
        finally
        {
            open.ForEach(c => c.Dispose());
            channels.ForEach(c => c.Dispose());
            Directory.Delete(folder, recursive: true);
        }
    }

    [Fact]
    public async Task A_stream_of_a_services_ledger_ends_after_its_time_and_goes_on_with_a_new_one()
    {
        var time = new Manual(GatewayHost.StreamTime);
        await using var gateway = await RunningGateway.Start(services, "kr/mfa", time: time);
        using var channel = ChannelTo(gateway);
        AsyncServerStreamingCall<FollowEntriesResponse> Follow() =>
            new LedgerService.LedgerServiceClient(channel).FollowEntries(
                new FollowEntriesRequest(),
                new Metadata
                {
                    { GrpcRelay.ServiceHeader, "calllog" },
                    { "authorization", $"{gateway.Http.DefaultRequestHeaders.Authorization}" },
                },
                cancellationToken: Cancel
            );
        using var stream = Follow();
        Assert.True(await stream.ResponseStream.MoveNext(Cancel));
        time.FireAll();
        async Task ReadOn()
        {
            while (await stream.ResponseStream.MoveNext(Cancel)) { }
        }
        Assert.Equal(StatusCode.Unavailable, (await Assert.ThrowsAsync<RpcException>(ReadOn)).StatusCode);
        using var next = Follow();
        Assert.True(await next.ResponseStream.MoveNext(Cancel));
    }

    [Fact]
    public async Task A_strangers_certificate_makes_the_gateway_fetch_nothing()
    {
        using var files = new Authorities();
        using var elsewhere = new TcpListener(IPAddress.Loopback, 0);
        elsewhere.Start();
        var called = elsewhere.AcceptTcpClientAsync(Cancel).AsTask();
        await using var gateway = await RunningGateway.Start(services, "kr/mfa", files.Settings);
        // Its issuer is not sent, and is said to be found there.
        var stranger = Authorities.Issue("stranger.example", files.Intermediate, $"http://{elsewhere.LocalEndpoint}/issuer");
        using var own = new Caller(gateway, token: null, certificate: SslStreamCertificateContext.Create(stranger, [], offline: true));
        Assert.Equal(401, await own.Status());
        // It was answered, and it has called nobody for that.
        Assert.False(called.IsCompleted);
    }

    [Theory]
    [InlineData(true, 200)]
    [InlineData(false, 401)]
    public async Task A_systems_certificate_counts_with_the_chain_that_is_sent(bool sent, int expected)
    {
        using var files = new Authorities();
        await using var gateway = await RunningGateway.Start(services, "kr/mfa", files.Settings);
        var system = Authorities.Issue(Authorities.System, files.Intermediate);
        using var own = new Caller(
            gateway,
            token: null,
            certificate: SslStreamCertificateContext.Create(system, sent ? [files.Intermediate] : [], offline: true)
        );
        Assert.Equal(expected, await own.Status());
    }

    [Fact]
    public async Task Its_own_certificate_is_sent_with_its_chain_and_read_again_when_it_changes()
    {
        using var files = new Authorities();
        var (file, key) = (Path.Combine(files.Folder, "own.pem"), Path.Combine(files.Folder, "own.key"));
        void Write(string serial)
        {
            using var own = Authorities.Issue("127.0.0.1", files.Intermediate, server: true, name: serial);
            File.WriteAllText(file, own.ExportCertificatePem() + "\n" + files.Intermediate.ExportCertificatePem());
            File.WriteAllText(key, own.GetECDsaPrivateKey()!.ExportPkcs8PrivateKeyPem());
            if (!OperatingSystem.IsWindows())
                File.SetUnixFileMode(key, UnixFileMode.UserRead | UnixFileMode.UserWrite);
        }
        Write("first");
        var state = Directory.CreateDirectory(Path.Combine(files.Folder, "state")).FullName;
        // The clients of these tests trust what stands here.
        File.Copy(files.Root, Path.Combine(state, "gateway.pem"));
        await using var gateway = await RunningGateway.Start(
            services,
            "kr/mfa",
            s => files.Settings(s) with { Certificate = file, CertificateKey = key },
            state
        );
        async Task<string> Shown()
        {
            using var socket = new TcpClient();
            await socket.ConnectAsync(IPAddress.Loopback, gateway.Settings.Listen.Port, Cancel);
            using var tls = new SslStream(socket.GetStream());
            var trusting = RunningGateway.Trusting(files.Root);
            trusting.TargetHost = "127.0.0.1";
            await tls.AuthenticateAsClientAsync(trusting, Cancel);
            return tls.RemoteCertificate!.Subject;
        }
        Assert.Equal("CN=first", await Shown());
        Write("second");
        File.SetLastWriteTimeUtc(file, DateTime.UtcNow.AddSeconds(5));
        Assert.Equal("CN=second", await Shown());
    }

    private static async Task<string> ReadSome(Stream stream)
    {
        var buffer = new byte[4096];
        return System.Text.Encoding.ASCII.GetString(buffer, 0, await stream.ReadAsync(buffer, Cancel));
    }

    private static GrpcChannel ChannelTo(RunningGateway gateway) =>
        GrpcChannel.ForAddress(
            gateway.Settings.Listen,
            new GrpcChannelOptions
            {
                HttpHandler = new SocketsHttpHandler { SslOptions = RunningGateway.Trusting(Path.Combine(gateway.State, "gateway.pem")) },
                DisposeHttpClient = true,
            }
        );

    /// <summary>One connection of a caller.</summary>
    private sealed class Caller : IDisposable
    {
        private readonly HttpClient _http;
        private int _opened;

        public Caller(RunningGateway gateway, string? token = "", SslStreamCertificateContext? certificate = null)
        {
            var handler = new SocketsHttpHandler
            {
                SslOptions = RunningGateway.Trusting(Path.Combine(gateway.State, "gateway.pem")),
                MaxConnectionsPerServer = 1,
                ConnectCallback = async (context, cancel) =>
                {
                    Interlocked.Increment(ref _opened);
                    var socket = new Socket(SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
                    await socket.ConnectAsync(context.DnsEndPoint, cancel);
                    return new NetworkStream(socket, ownsSocket: true);
                },
            };
            handler.SslOptions.ClientCertificateContext = certificate;
            _http = new HttpClient(handler) { BaseAddress = gateway.Settings.Listen };
            _http.DefaultRequestHeaders.Authorization =
                token == "" ? gateway.Http.DefaultRequestHeaders.Authorization
                : token is null ? null
                : new AuthenticationHeaderValue("Bearer", token);
        }

        /// <summary>How many connections were opened.</summary>
        public int Opened => _opened;

        public async Task<int> Status(string path = "/status", bool anonymous = false)
        {
            using var request = new HttpRequestMessage(HttpMethod.Get, path);
            if (anonymous)
                request.Headers.TryAddWithoutValidation("Authorization", "");
            using var answer = await _http.SendAsync(request, Cancel);
            return (int)answer.StatusCode;
        }

        public void Dispose() => _http.Dispose();
    }

    /// <summary>Connections of an attacker on which nothing is sent.</summary>
    private sealed class Idle(RunningGateway gateway) : IDisposable
    {
        private readonly List<NetworkStream> _open = [];

        public async Task Open(int count, Func<int, string> from)
        {
            for (var i = 0; i < count; i++)
                await Connect(from(i));
        }

        public async Task<NetworkStream> Connect(string from)
        {
            var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
            socket.Bind(new IPEndPoint(IPAddress.Parse(from), 0));
            await socket.ConnectAsync(IPAddress.Loopback, gateway.Settings.Listen.Port, Cancel);
            _open.Add(new NetworkStream(socket, ownsSocket: true));
            return _open[^1];
        }

        /// <summary>The oldest end.</summary>
        public async Task End(int count)
        {
            foreach (var oldest in _open[..count])
                await Ends(oldest);
        }

        public static async Task Ends(Stream stream)
        {
            try
            {
                var buffer = new byte[4096];
                while (await stream.ReadAsync(buffer, Cancel) > 0) { }
            }
            catch (IOException) { }
        }

        public void Dispose() => _open.ForEach(s => s.Dispose());
    }

    /// <summary>A root, an authority below it, and what they issue.</summary>
    private sealed class Authorities : IDisposable
    {
        public const string System = "registry.mfa.example";

        private readonly X509Certificate2 _root;

        public Authorities()
        {
            using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
            var request = new CertificateRequest("CN=root", key, HashAlgorithmName.SHA256);
            request.CertificateExtensions.Add(new X509BasicConstraintsExtension(true, false, 0, true));
            using var root = request.CreateSelfSigned(DateTimeOffset.UtcNow.AddHours(-1), DateTimeOffset.UtcNow.AddDays(1));
            _root = Whole(root);
            Intermediate = Issue("intermediate", _root, authority: true);
            File.WriteAllText(Root, _root.ExportCertificatePem());
        }

        public string Folder { get; } = Directory.CreateTempSubdirectory("authorities").FullName;

        public string Root => Path.Combine(Folder, "root.pem");

        public X509Certificate2 Intermediate { get; }

        public GatewaySettings Settings(GatewaySettings settings) =>
            settings with
            {
                Systems = new SystemSettings
                {
                    Authorities = Root,
                    Names = new Dictionary<string, IReadOnlyList<string>> { [System] = [Roles.Administrator] },
                },
            };

        public static X509Certificate2 Issue(
            string subject,
            X509Certificate2 by,
            string? issuerAt = null,
            bool authority = false,
            bool server = false,
            string? name = null
        )
        {
            using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
            var request = new CertificateRequest($"CN={name ?? subject}", key, HashAlgorithmName.SHA256);
            var names = new SubjectAlternativeNameBuilder();
            if (IPAddress.TryParse(subject, out var address))
                names.AddIpAddress(address);
            else
                names.AddDnsName(subject);
            request.CertificateExtensions.Add(names.Build());
            request.CertificateExtensions.Add(new X509BasicConstraintsExtension(authority, false, 0, true));
            if (!authority)
                request.CertificateExtensions.Add(
                    new X509EnhancedKeyUsageExtension([new Oid(server ? "1.3.6.1.5.5.7.3.1" : "1.3.6.1.5.5.7.3.2")], false)
                );
            if (issuerAt is not null)
                request.CertificateExtensions.Add(new X509AuthorityInformationAccessExtension([], [issuerAt]));
            using var issued = request.Create(
                by,
                DateTimeOffset.UtcNow.AddMinutes(-30),
                authority ? by.NotAfter : DateTimeOffset.UtcNow.AddHours(1),
                RandomNumberGenerator.GetBytes(8)
            );
            using var with = issued.CopyWithPrivateKey(key);
            return Whole(with);
        }

        public void Dispose()
        {
            _root.Dispose();
            Intermediate.Dispose();
            Directory.Delete(Folder, recursive: true);
        }

        private static X509Certificate2 Whole(X509Certificate2 certificate) =>
            X509CertificateLoader.LoadPkcs12(certificate.Export(X509ContentType.Pkcs12), null, X509KeyStorageFlags.Exportable);
    }

    /// <summary>A clock whose timers of one length fire when they are told to; the others are real.</summary>
    private sealed class Manual(TimeSpan ofLength) : TimeProvider
    {
        private readonly System.Collections.Concurrent.ConcurrentBag<Held> _held = [];

        public TimeSpan Moved { get; set; }

        public override long GetTimestamp() => base.GetTimestamp() + Moved.Ticks * (TimestampFrequency / TimeSpan.TicksPerSecond);

        public void FireAll()
        {
            foreach (var timer in _held)
                timer.Fire();
        }

        public override ITimer CreateTimer(TimerCallback callback, object? state, TimeSpan dueTime, TimeSpan period)
        {
            if (dueTime != ofLength)
                return base.CreateTimer(callback, state, dueTime, period);
            var held = new Held(() => callback(state));
            _held.Add(held);
            return held;
        }

        private sealed class Held(Action fire) : ITimer
        {
            private bool _over;

            public void Fire()
            {
                if (!_over)
                    fire();
            }

            public bool Change(TimeSpan dueTime, TimeSpan period) => _over = dueTime == Timeout.InfiniteTimeSpan;

            public void Dispose() => _over = true;

            public ValueTask DisposeAsync()
            {
                _over = true;
                return ValueTask.CompletedTask;
            }
        }
    }
}
