using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Security.Authentication;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using Google.Protobuf;
using Grpc.AspNetCore.Server;
using Grpc.Core;
using Microsoft.AspNetCore.Routing;
using Ministries.Fixtures;
using Ministries.Ledger.V1;
using Ministries.Trust;
using Ministries.Types.V1;

namespace Ministries.Ministry.Tests;

/// <summary>These tests run alone, because they count all answers of the process.</summary>
[CollectionDefinition(nameof(AccessTests), DisableParallelization = true)]
public sealed class AloneCollection;

/// <summary>Who can reach which endpoint. Every endpoint of the three services is called as every participant and as strangers, by its
/// exact path and by other spellings. No spelling gives a caller what the exact path refuses.</summary>
[Collection(nameof(AccessTests))]
public sealed class AccessTests : IAsyncLifetime
{
    private readonly Services _services = new()
    {
        Set = (_, settings) => settings with { Reflection = true, Metrics = new Uri("http://127.0.0.1:0") },
    };

    private readonly List<IDisposable> _open = [];
    private Agreement _agreement = null!;
    private Permissions _permissions = null!;

    private static CancellationToken Cancel => Services.Cancel;

    public async ValueTask InitializeAsync()
    {
        await _services.InitializeAsync();
        _agreement = Signing.Agreement(_services.Folder);
        _permissions = new Permissions(_agreement);
    }

    public async ValueTask DisposeAsync()
    {
        foreach (var open in _open)
            open.Dispose();
        await _services.DisposeAsync();
    }

    /// <summary>An endpoint.</summary>
    /// <param name="Service">The service that serves it.</param>
    /// <param name="Path">Its exact path.</param>
    /// <param name="Verb">POST, or GET of a file.</param>
    /// <param name="Rpc">The RPC of the contracts; null: it is none.</param>
    /// <param name="Streams">Whether its answer does not end.</param>
    private sealed record Target(string Service, string Path, string Verb, Rpc? Rpc, bool Streams);

    private const string Grpc = "application/grpc";

    private static readonly PathVariant Exact = new("exact", p => p, null, Grpc);

    private static readonly PathVariant[] Variants =
    [
        .. PathVariant.Of("/checkpoint", Grpc),
        new("encoded dot", p => p.Replace(".", "%2E", StringComparison.Ordinal), null, Grpc),
        new("query", p => p + "?a=b", null, Grpc),
        new("tab after", p => p + "%09", null, Grpc),
        new("JSON", p => p, null, "application/json"),
        new("gRPC-Web", p => p, null, "application/grpc-web"),
        new("gRPC with JSON", p => p, null, "application/grpc+json"),
        new("text", p => p, null, "text/plain"),
        new("no type", p => p, null, null),
    ];

    private const string Tile = "{level}/{**index}";

    private IEnumerable<Target> Targets() =>
        from host in _services.Hosts
        from endpoint in ((IEndpointRouteBuilder)host.Value).DataSources.SelectMany(s => s.Endpoints).OfType<RouteEndpoint>()
        from tile in (string[])["0/000", "0/000.p/1", "entries/000", "entries/000.p/1"]
        where tile == "0/000" || endpoint.RoutePattern.RawText!.Contains(Tile, StringComparison.Ordinal)
        let raw = endpoint.RoutePattern.RawText!.Replace(Tile, tile, StringComparison.Ordinal)
        let path = raw.StartsWith('/') ? raw : "/" + raw
        let grpc = endpoint.Metadata.GetMetadata<GrpcMethodMetadata>()
        select new Target(
            host.Key,
            path,
            grpc is null ? "GET" : "POST",
            Methods.At(path),
            grpc?.Method.Type is MethodType.ServerStreaming && Methods.At(path) is null
        );

    // A listener of their own serves metrics. To participants they are no endpoint.
    private IEnumerable<Target> WithMetrics() =>
        Targets().Concat(_services.Hosts.Keys.Select(s => new Target(s, Metrics, "GET", null, Streams: false)));

    private const string Metrics = "/metrics";

    [Fact]
    public async Task No_spelling_of_a_path_gives_what_the_exact_path_refuses_and_each_is_counted()
    {
        var targets = WithMetrics().ToArray();
        Assert.True(targets.Length > 100, $"{targets.Length} endpoints");
        var counted = await Refusals();
        var refused = 0;
        var wrong = new List<string>();
        foreach (var participant in _agreement.Participants)
        {
            using var http = As(participant.Id);
            await Parallel.ForEachAsync(
                targets,
                new ParallelOptions { MaxDegreeOfParallelism = 8, CancellationToken = Cancel },
                async (target, _) =>
                {
                    var exact = await Ask(http, target, Exact);
                    var served = target.Path != Metrics;
                    var granted =
                        served
                        && (target.Rpc is null || _permissions.PartsGranted(target.Rpc.Name).CoversAny(Cases.PartsEverOf(participant)));
                    Judge(
                        Exact,
                        exact,
                        granted
                            // A tile that is not full yet does not exist.
                            ? exact is not ("NOT_GRANTED" or "CALLER_UNKNOWN" or "UNIMPLEMENTED")
                                && (exact != "404" || target.Verb == "GET")
                            : exact == (served ? "NOT_GRANTED" : "404")
                    );
                    foreach (var variant in Variants)
                    {
                        var outcome = await Ask(http, target, variant);
                        Judge(variant, outcome, outcome == exact || outcome is "UNIMPLEMENTED" or "404" || granted && outcome is not "OK");
                    }

                    void Judge(PathVariant variant, string outcome, bool right)
                    {
                        if (outcome != "OK")
                            Interlocked.Increment(ref refused);
                        if (!right)
                            lock (wrong)
                                wrong.Add($"{participant.Id} {variant.Name} {target.Path}: {outcome}, by the exact path {exact}");
                    }
                }
            );
        }
        Assert.True(wrong.Count == 0, string.Join('\n', wrong.Take(20)));
        // A call is counted a moment after its caller has the answer.
        await Services.Until(async () => await Refusals() - counted >= refused);
        Assert.Equal(refused, await Refusals() - counted);
    }

    [Fact]
    public async Task A_stranger_reaches_nothing_however_he_spells_it()
    {
        var authority = CertificateAuthority.Read(
            Path.Combine(_services.Folder, "ua/mfa", "authority.pem"),
            Path.Combine(_services.Folder, "ua/mfa", "authority.key")
        );
        _open.Add(authority);
        var now = DateTimeOffset.UtcNow;
        // Another participant's authority vouches for it; its own authority does not.
        using var http = With(
            authority.Issue("x", new CertificateTerms(["spiffe://ministries.example/kr/mfa/system"], now.AddHours(-1), now.AddHours(1)))
        );
        foreach (var target in WithMetrics().DistinctBy(t => t.Path))
        foreach (
            var variant in (PathVariant[])
                [Exact, .. Variants.Where(v => v.Name is "trailing slash" or "lower case" or "doubled slash before" or "GET" or "JSON")]
        )
            Assert.Contains(await Ask(http, target, variant), (string[])["CALLER_UNKNOWN", "CERTIFICATE_NOT_ACCEPTED", "closed", "403"]);
    }

    // Unlike a stranger's, their handshake succeeds, so that they are told why, and every spelling meets the edge itself.
    [Theory]
    [InlineData("ended", "CERTIFICATE_NOT_ACCEPTED")]
    [InlineData("for servers alone", "CALLER_UNKNOWN")]
    public async Task Whose_own_certificate_is_not_accepted_reaches_nothing_however_he_spells_it(string certificate, string reason)
    {
        var authority = CertificateAuthority.Read(
            Path.Combine(_services.Folder, "kr/mfa", "authority.pem"),
            Path.Combine(_services.Folder, "kr/mfa", "authority.key")
        );
        _open.Add(authority);
        var now = DateTimeOffset.UtcNow;
        var ended = certificate == "ended";
        using var http = With(
            authority.Issue(
                "x",
                new CertificateTerms(
                    ["spiffe://ministries.example/kr/mfa/system"],
                    now.AddHours(-2),
                    ended ? now.AddMinutes(-1) : now.AddHours(1),
                    Client: ended,
                    Hosts: ended ? null : ["localhost"]
                )
            )
        );
        var outcomes = new System.Collections.Concurrent.ConcurrentQueue<(string What, string Outcome)>();
        await Parallel.ForEachAsync(
            WithMetrics().Where(t => t.Service == "custody").DistinctBy(t => t.Path),
            new ParallelOptions { MaxDegreeOfParallelism = 8, CancellationToken = Cancel },
            async (target, _) =>
            {
                foreach (var variant in (PathVariant[])[Exact, .. Variants])
                    outcomes.Enqueue(($"{variant.Name} {target.Path}", await Ask(http, target, variant)));
            }
        );
        // A connection is closed after it was told why, and 400 is the web server's own answer to what is no path.
        Assert.DoesNotContain(outcomes, o => o.Outcome != reason && o.Outcome is not ("403" or "400" or "closed"));
        Assert.True(outcomes.Count(o => o.Outcome == reason) > outcomes.Count / 2, $"{outcomes.Count(o => o.Outcome == "closed")} closed");
    }

    [Theory]
    [InlineData("kr/unification")]
    [InlineData("operator")]
    public async Task Who_has_no_part_in_the_case_reads_no_event_and_no_standing(string participant)
    {
        using var http = As(participant);
        var paths = Targets()
            .Where(t =>
                t.Path.EndsWith("/ListEvents", StringComparison.Ordinal) || t.Path.EndsWith("/CheckStanding", StringComparison.Ordinal)
            )
            .ToArray();
        Assert.Equal(4, paths.Length);
        foreach (var target in paths)
        foreach (var variant in (PathVariant[])[Exact, .. Variants])
            Assert.Contains(await Ask(http, target, variant), (string[])["NOT_GRANTED", "UNIMPLEMENTED", "404", "403"]);
    }

    [Theory]
    [InlineData("https://localhost/ministries.ledger.v1.LedgerService/ListEvents")]
    [InlineData("*")]
    [InlineData("ministries.ledger.v1.LedgerService/ListEvents")]
    public async Task A_path_in_absolute_or_other_form_is_no_request(string path)
    {
        using var certificate = CertificateOf("operator");
        var address = _services.Addresses["custody"];
        using var tcp = new TcpClient();
        await tcp.ConnectAsync(address.Host, address.Port, Cancel);
        await using var tls = new SslStream(tcp.GetStream());
        await tls.AuthenticateAsClientAsync(
            new SslClientAuthenticationOptions
            {
                TargetHost = "localhost",
                ClientCertificates = [certificate],
                ApplicationProtocols = [SslApplicationProtocol.Http2],
                EnabledSslProtocols = SslProtocols.Tls13,
                RemoteCertificateValidationCallback = (_, server, _, _) => server is not null,
            },
            Cancel
        );
        // HTTP/2's preface, empty settings, and one request whose header fields are literals (RFC 9113, RFC 7541).
        byte[] head =
        [
            .. Literal(":method", "POST"),
            .. Literal(":scheme", "https"),
            .. Literal(":path", path),
            .. Literal("te", "trailers"),
        ];
        await tls.WriteAsync(
            (byte[])
                [.. "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"u8, .. Frame(4, 0, 0, []), .. Frame(1, 4, 1, head), .. Frame(0, 1, 1, new byte[5])],
            Cancel
        );
        Assert.Contains(await Answered(tls), (byte[])[3, 7]);

        static byte[] Literal(string name, string value) =>
            [0, (byte)name.Length, .. Encoding.ASCII.GetBytes(name), (byte)value.Length, .. Encoding.ASCII.GetBytes(value)];
        static byte[] Frame(byte type, byte flags, byte stream, byte[] payload) =>
            [0, 0, (byte)payload.Length, type, flags, 0, 0, 0, stream, .. payload];
    }

    // The type of the first frame that answers the stream: 1 HEADERS, 3 RST_STREAM, 7 GOAWAY.
    private static async Task<byte> Answered(SslStream tls)
    {
        var head = new byte[9];
        while (true)
        {
            await tls.ReadExactlyAsync(head, Cancel);
            await tls.ReadExactlyAsync(new byte[head[0] << 16 | head[1] << 8 | head[2]], Cancel);
            if (head[3] is 1 or 3 or 7)
                return head[3];
        }
    }

    private async Task<string> Ask(HttpClient http, Target target, PathVariant variant)
    {
        var verb = variant.Verb ?? target.Verb;
        var uri = new Uri(
            _services.Addresses[target.Service].GetLeftPart(UriPartial.Authority) + variant.Path(target.Path),
            new UriCreationOptions { DangerousDisablePathAndQueryCanonicalization = true }
        );
        using var request = new HttpRequestMessage(new HttpMethod(verb), uri)
        {
            Version = HttpVersion.Version20,
            VersionPolicy = HttpVersionPolicy.RequestVersionExact,
        };
        if (verb is not ("GET" or "HEAD"))
        {
            // The stream ends at the present entries.
            var message =
                target.Rpc?.Name.EndsWith("/FollowEntries", StringComparison.Ordinal) == true
                    ? new FollowEntriesRequest { UntilNow = true }.ToByteArray()
                    : [];
            request.Content = new ByteArrayContent([0, 0, 0, 0, (byte)message.Length, .. message]);
            if (variant.ContentType is not null)
                request.Content.Headers.TryAddWithoutValidation("Content-Type", variant.ContentType);
            request.Headers.TE.Add(new("trailers"));
        }
        try
        {
            using var response = await http.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, Cancel);
            if (response.StatusCode != HttpStatusCode.OK)
                return ((int)response.StatusCode).ToString(null, null);
            if (response.Headers.TryGetValues("grpc-status", out var inHead))
                return NameOf(inHead.Single(), response.Headers);
            if (target.Streams)
                return "OK";
            await response.Content.CopyToAsync(Stream.Null, Cancel);
            return response.TrailingHeaders.TryGetValues("grpc-status", out var inTail)
                ? NameOf(inTail.Single(), response.TrailingHeaders)
                : "OK";
        }
        catch (Exception e) when (e is HttpRequestException or IOException)
        {
            return "closed";
        }
    }

    private static string NameOf(string code, System.Net.Http.Headers.HttpResponseHeaders headers)
    {
        if (code == "0")
            return "OK";
        if (code == "12")
            return "UNIMPLEMENTED";
        if (!headers.TryGetValues("grpc-status-details-bin", out var details))
            return $"status {code}";
        var text = details.Single();
        var status = Google.Rpc.Status.Parser.ParseFrom(Convert.FromBase64String(text.PadRight((text.Length + 3) / 4 * 4, '=')));
        return status.Details[0].Unpack<Google.Rpc.ErrorInfo>().Reason;
    }

    // How many requests all services of this process have answered with something other than OK.
    private async Task<long> Refusals()
    {
        using var plain = new HttpClient();
        var address = _services.Hosts["custody"].Urls.Single(u => u.StartsWith("http:", StringComparison.Ordinal));
        var text = await plain.GetStringAsync(new Uri(new Uri(address), "/metrics"), Cancel);
        return text.Split('\n')
            .Where(l =>
                l.StartsWith("ministries_calls_total{", StringComparison.Ordinal) && !l.Contains("outcome=\"OK\"", StringComparison.Ordinal)
            )
            .Sum(l =>
                (long)double.Parse(l[(l.LastIndexOf('}') + 1)..].Trim().Split(' ')[0], System.Globalization.CultureInfo.InvariantCulture)
            );
    }

    private X509Certificate2 CertificateOf(string participant)
    {
        using var pem = X509Certificate2.CreateFromPemFile(
            Path.Combine(_services.Folder, participant, "system.pem"),
            Path.Combine(_services.Folder, participant, "system.key")
        );
        return X509CertificateLoader.LoadPkcs12(pem.Export(X509ContentType.Pkcs12), null);
    }

    private HttpClient As(string participant) => With(CertificateOf(participant));

    private HttpClient With(X509Certificate2 certificate)
    {
        _open.Add(certificate);
        return new HttpClient(
            new SocketsHttpHandler
            {
                AllowAutoRedirect = false,
                SslOptions = new SslClientAuthenticationOptions
                {
                    EnabledSslProtocols = SslProtocols.Tls13,
                    ClientCertificates = [certificate],
                    LocalCertificateSelectionCallback = (_, _, _, _, _) => certificate,
                    RemoteCertificateValidationCallback = (_, server, _, _) => server is not null,
                },
            }
        );
    }
}
