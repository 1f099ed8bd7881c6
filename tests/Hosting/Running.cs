using System.Buffers.Binary;
using System.Collections.Concurrent;
using System.Net;
using System.Net.Security;
using System.Security.Authentication;
using System.Security.Cryptography.X509Certificates;
using Google.Protobuf;
using Grpc.Core;
using Grpc.Net.Client;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Ministries.CallLog.V1;
using Ministries.Custody.V1;
using Ministries.Errors.V1;
using Ministries.Fixtures;
using Ministries.Hosting.Bus;
using Ministries.Ledger;
using Ministries.Trust;
using Ministries.Types.V1;

namespace Ministries.Hosting.Tests;

using Call = Ministries.CallLog.V1.Call;

/// <summary>A small service of its own, run by the real host on a free port of the loopback address: calls are logged and read.
/// </summary>
public sealed class Running : IAsyncLifetime
{
    public const string Case = "case_00000000000000000000000001";

    private readonly List<IDisposable> _open = [];
    private readonly MemoryBroker _broker = new();
    private string _service = "";

    public string Folder { get; } = Directory.CreateTempSubdirectory("edge").FullName;

    public WebApplication Host { get; private set; } = null!;

    public Clock Time { get; } = new();

    /// <summary>Runs before every rule and answer of the service; null: nothing.</summary>
    public Func<string, Task<IMessage?>>? Ask { get; set; }

    public EdgeLimits Limits { get; init; } = new() { ReloadInterval = TimeSpan.FromMilliseconds(50) };

    /// <summary>Maps what the service serves besides; null: nothing.</summary>
    public Action<Microsoft.AspNetCore.Routing.IEndpointRouteBuilder>? Map { get; init; }

    /// <summary>Registers what takes the place of a part of the host; null: nothing.</summary>
    public Action<IServiceCollection>? Register { get; init; }

    /// <summary>What the service's log has of warnings and errors.</summary>
    public ConcurrentQueue<string> Warned { get; } = [];

    public ServiceLedger Ledger => Host.Services.GetRequiredService<ServiceLedger>();

    public Agreements Agreements => Host.Services.GetRequiredService<Agreements>();

    public Uri Address { get; private set; } = null!;

    /// <summary>What was logged, except by the framework.</summary>
    public System.Collections.Concurrent.ConcurrentQueue<string> Lines { get; } = [];

    /// <summary>Where metrics are served.</summary>
    public Uri MetricsAddress { get; private set; } = null!;

    public string AgreementFile => Path.Combine(Folder, "agreement.json");

    public static CancellationToken Cancel => TestContext.Current.CancellationToken;

    public async ValueTask InitializeAsync()
    {
        Pki.Init(Folder, StandardAgreement.Read(), TimeProvider.System, SealedForm.Key);
        await Start("calllog", new Dictionary<string, Uri>());
        await Seed(
            new CaseOpened
            {
                Case = Case,
                DetainingPower = "UA",
                Participant = "ua/mfa",
            }
        );
        await Seed(
            new PartyAdmitted
            {
                Case = Case,
                Participant = "kr/mfa",
                Part = Part.RequestingState,
                State = "KR",
            }
        );
        await Seed(
            new PartyAdmitted
            {
                Case = Case,
                Participant = "icrc",
                Part = Part.NeutralObserver,
            }
        );
    }

    public async Task Start(string name, IReadOnlyDictionary<string, Uri> peers)
    {
        _service = name;
        var home = Path.Combine(Folder, "service", name);
        var settings = new Settings
        {
            Ledger = $"sqlite:{Path.Combine(Folder, $"{name}.db")}",
            Broker = new Uri("memory:"),
            Listen = new Uri("https://127.0.0.1:0"),
            Certificate = Path.Combine(home, "system.pem"),
            CertificateKey = Path.Combine(home, "system.key"),
            Agreement = AgreementFile,
            Checkpoint = Path.Combine(Folder, $"{name}.checkpoint"),
            CheckpointKey = Path.Combine(home, "checkpoint.key"),
            Peers = peers,
            Reflection = true,
            Drain = TimeSpan.FromSeconds(5),
            Metrics = new Uri("http://127.0.0.1:0"),
        };
        Host = await ServiceHost.Build(
            new Service
            {
                Name = name,
                Streams = [Cases.Kind, Calls.Kind],
                Map = endpoints =>
                {
                    endpoints.Serve<Calls>(CallLogService.BindService);
                    Map?.Invoke(endpoints);
                },
                Register = services =>
                {
                    services.AddSingleton<TimeProvider>(Time);
                    services.AddSingleton<ILoggerProvider>(new Heard(Warned, LogLevel.Warning));
                    services.AddSingleton(Limits);
                    services.AddSingleton(this);
                    services.AddSingleton<ILoggerProvider>(new Heard(Lines, LogLevel.Trace));
                    Register?.Invoke(services);
                },
            },
            settings,
            memory: _broker,
            cancel: Cancel
        );
        await Host.StartAsync(Cancel);
        var addresses = Host.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!.Addresses;
        Address = new Uri(addresses.Single(a => a.StartsWith("https:", StringComparison.Ordinal)));
        MetricsAddress = new Uri(addresses.Single(a => a.StartsWith("http:", StringComparison.Ordinal)));
    }

    public async ValueTask DisposeAsync()
    {
        foreach (var open in _open)
            open.Dispose();
        if (Host is not null)
        {
            await Host.StopAsync(CancellationToken.None);
            await Host.DisposeAsync();
        }
        await _broker.DisposeAsync();
        Directory.Delete(Folder, recursive: true);
    }

    /// <summary>Begins a command that is decided once it may go on, so that others wait. Returns when it is being decided.</summary>
    public async Task<Task<Outcome>> Hold(ManualResetEventSlim go)
    {
        var held = new TaskCompletionSource();
        var holding = Ledger.Commit(
            new Command
            {
                Participant = "service/custody",
                RequestId = "holds",
                Method = "holds",
                Request = new CaseOpened(),
                Bytes = default,
                AgreementVersion = 1,
                StoresRefusal = false,
                Decide = (_, _) =>
                {
                    held.TrySetResult();
                    go.Wait();
                    return new Refusal(Reason.NotFound);
                },
            },
            Cancel
        );
        await held.Task.WaitAsync(Cancel);
        return holding;
    }

    /// <summary>Records an event of custody as the bus would.</summary>
    public async Task Seed(IMessage @event)
    {
        var outcome = await CustodyEvents.Record(Ledger, @event, Agreements.InForce.Permissions, Cancel);
        Assert.Null(outcome.Refusal);
    }

    /// <summary>A client of the service with a certificate that the participant's own authority issued.</summary>
    public CallInvoker As(string participant) => Channel(CertificateOf(participant), signer: participant).CreateCallInvoker();

    public CallLogService.CallLogServiceClient Calling(string participant) => new(As(participant));

    public X509Certificate2 CertificateOf(string participant) =>
        X509Certificate2.CreateFromPemFile(
            Path.Combine(Folder, participant, "system.pem"),
            Path.Combine(Folder, participant, "system.key")
        );

    public CertificateAuthority AuthorityOf(string participant)
    {
        var authority = CertificateAuthority.Read(
            Path.Combine(Folder, participant, "authority.pem"),
            Path.Combine(Folder, participant, "authority.key")
        );
        _open.Add(authority);
        return authority;
    }

    public GrpcChannel Channel(
        X509Certificate2? certificate,
        SslProtocols protocols = SslProtocols.Tls13,
        string? signer = "kr/mfa",
        Func<HttpMessageHandler, HttpMessageHandler>? sign = null
    )
    {
        HttpMessageHandler handler = Handler(certificate, protocols);
        if (sign is not null)
            handler = sign(handler);
        else if (signer is not null)
            handler = Signing.Handler(Folder, signer, handler, _service, Time);
        var channel = GrpcChannel.ForAddress(
            Address,
            new GrpcChannelOptions
            {
                HttpHandler = handler,
                DisposeHttpClient = true,
                MaxReceiveMessageSize = 16 << 20,
            }
        );
        _open.Add(channel);
        return channel;
    }

    public HttpClient Http(X509Certificate2? certificate)
    {
        var client = new HttpClient(Handler(certificate, SslProtocols.Tls13))
        {
            DefaultRequestVersion = HttpVersion.Version20,
            DefaultVersionPolicy = HttpVersionPolicy.RequestVersionExact,
        };
        _open.Add(client);
        return client;
    }

    private SocketsHttpHandler Handler(X509Certificate2? certificate, SslProtocols protocols)
    {
        if (certificate is not null)
            _open.Add(certificate);
        return new SocketsHttpHandler
        {
            // Other clients send characters beyond ASCII so.
            RequestHeaderEncodingSelector = (_, _) => System.Text.Encoding.UTF8,
            SslOptions = new SslClientAuthenticationOptions
            {
                EnabledSslProtocols = protocols,
                ClientCertificates = certificate is null ? null : [certificate],
                LocalCertificateSelectionCallback = (_, _, _, _, _) => certificate!,
                RemoteCertificateValidationCallback = (_, server, _, _) => server is not null,
            },
        };
    }

    /// <summary>Posts a body as it is, and returns the status that comes back, in headers or trailers.</summary>
    public async Task<Google.Rpc.Status> Post(byte[] body, string method = "LogCall", params (string Name, string Value)[] headers)
    {
        using var request = new HttpRequestMessage(HttpMethod.Post, new Uri(Address, $"/ministries.calllog.v1.CallLogService/{method}"))
        {
            Version = HttpVersion.Version20,
            Content = new ByteArrayContent(body),
        };
        if (headers.All(h => h.Name != "Content-Type"))
            request.Content.Headers.ContentType = new("application/grpc");
        request.Headers.TE.Add(new("trailers"));
        foreach (var (name, value) in headers)
            if (!request.Headers.TryAddWithoutValidation(name, value))
                request.Content.Headers.TryAddWithoutValidation(name, value);
        // The connection is closed afterwards, because a participant may have only a few at a time.
        using var client = Http(CertificateOf("kr/mfa"));
        using var response = await client.SendAsync(request, Cancel);
        await response.Content.ReadAsByteArrayAsync(Cancel);
        string? Field(string name) =>
            response.Headers.TryGetValues(name, out var inHead) ? inHead.Single()
            : response.TrailingHeaders.TryGetValues(name, out var inTail) ? inTail.Single()
            : null;
        var details = Field("grpc-status-details-bin");
        if (details is not null)
            return Google.Rpc.Status.Parser.ParseFrom(Convert.FromBase64String(details.PadRight((details.Length + 3) / 4 * 4, '=')));
        return new Google.Rpc.Status { Code = int.Parse(Field("grpc-status")!), Message = Field("grpc-message") ?? "" };
    }

    /// <summary>The tag of signatures for this service.</summary>
    public static readonly string Tag = HttpSignature.TagOf(StandardAgreement.Read().TrustDomain, "calllog");

    /// <summary>The header fields of a request that kr/mfa signs by itself, without this project's handler.</summary>
    public (string Name, string Value)[] Signed(
        string requestId,
        byte[] frame,
        TimeSpan ago = default,
        string? tag = null,
        string type = "application/grpc"
    )
    {
        using var key = Signing.KeyIn(Path.Combine(Folder, "kr/mfa", "requests.key"));
        var values = new Dictionary<string, string>
        {
            ["@method"] = "POST",
            ["@path"] = "/ministries.calllog.v1.CallLogService/LogCall",
            ["@authority"] = Address.Authority,
            ["content-type"] = type,
            ["content-digest"] = HttpSignature.ContentDigest(frame),
        };
        var (input, signature) = HttpSignature.Sign(
            key,
            "kr/mfa/requests-1",
            requestId,
            Time.GetUtcNow() + ago,
            TimeSpan.FromMinutes(1),
            tag ?? Tag,
            values
        );
        return [("Content-Digest", values["content-digest"]), ("Signature-Input", input), ("Signature", signature)];
    }

    public static byte[] FrameOf(ReadOnlySpan<byte> message, bool compressed = false)
    {
        var frame = new byte[message.Length + 5];
        frame[0] = (byte)(compressed ? 1 : 0);
        BinaryPrimitives.WriteUInt32BigEndian(frame.AsSpan(1), (uint)message.Length);
        message.CopyTo(frame.AsSpan(5));
        return frame;
    }

    /// <summary>A good request under a new id.</summary>
    public static LogCallRequest Request()
    {
        var request = ValidationTests.Good();
        request.RequestId = Guid.NewGuid().ToString();
        request.Case = Case;
        return request;
    }

    /// <summary>Logs a valid call, which shows that the service goes on.</summary>
    public async Task<LogCallResponse> Log(string participant = "kr/mfa") =>
        await Calling(participant).LogCallAsync(Request(), cancellationToken: Cancel);

    /// <summary>Asserts that a call was refused for the reason. Returns what the refusal says.</summary>
    public static async Task<(Google.Rpc.ErrorInfo Info, Google.Rpc.Status Status)> Refused(string reason, Func<Task> call)
    {
        var e = await Assert.ThrowsAnyAsync<RpcException>(call);
        var status = e.GetRpcStatus();
        Assert.True(status is not null, e.Status.ToString());
        return (Is(reason, status), status);
    }

    public static Google.Rpc.ErrorInfo Is(string reason, Google.Rpc.Status status)
    {
        Assert.True(status.Details.Count > 0, status.Message);
        var info = status.Details[0].Unpack<Google.Rpc.ErrorInfo>();
        Assert.Equal(("ministries", reason), (info.Domain, info.Reason));
        return info;
    }

    public static List<string> FaultsOf(Google.Rpc.Status status) =>
        [.. status.Details[1].Unpack<Google.Rpc.BadRequest>().FieldViolations.Select(f => f.Field)];

    /// <summary>Waits until it is so, at most 20 s.</summary>
    public static async Task Until(Func<Task<bool>> isSo, string what)
    {
        using var late = CancellationTokenSource.CreateLinkedTokenSource(Cancel);
        late.CancelAfter(TimeSpan.FromSeconds(60));
        using var timer = new PeriodicTimer(TimeSpan.FromMilliseconds(20));
        while (!await isSo())
        {
            Assert.False(late.IsCancellationRequested, what);
            await timer.WaitForNextTickAsync(Cancel);
        }
    }
}

/// <summary>The machine's clock, moved, or broken.</summary>
public sealed class Clock : TimeProvider
{
    public TimeSpan Moved { get; set; }

    public bool Fails { get; set; }

    public override DateTimeOffset GetUtcNow() =>
        Fails ? throw new InvalidOperationException("the clock that fails") : base.GetUtcNow() + Moved;

    public override long GetTimestamp() => base.GetTimestamp() + (long)(Moved.TotalSeconds * TimestampFrequency);
}

/// <summary>The service: just enough of a call log to test writes and reads.</summary>
internal sealed class Calls(Writes writes, Reads reads, Running running) : CallLogService.CallLogServiceBase
{
    public static readonly StreamKind<Call> Kind = new(
        "call",
        1,
        (call, e, entry) =>
        {
            var logged = (CallLogged)e;
            (call.Id, call.Case, call.LogTime) = (logged.Call, logged.Case, entry.Time);
        },
        audience: c => [Audience.Case(c.Case)],
        keys: c => [$"case:{c.Case}"]
    );

    public override Task<LogCallResponse> LogCall(LogCallRequest request, ServerCallContext context) =>
        writes.Run<LogCallRequest, LogCallResponse>(
            request,
            context,
            Decide,
            running.Ask is { } ask ? (r, _, _) => ask(r.RequestId) : null
        );

    public override async Task<GetCallResponse> GetCall(GetCallRequest request, ServerCallContext context) =>
        new() { Call = (await reads.Get(request, context, Kind, request.Call)).Record };

    public override async Task<ListCallsResponse> ListCalls(ListCallsRequest request, ServerCallContext context)
    {
        var (calls, next, _) = await reads.List(request, context, Kind, request.Case.Length == 0 ? null : $"case:{request.Case}");
        return new ListCallsResponse
        {
            Calls = { calls.Select(c => new CallSummary { Call = c.Id, Case = c.Case }) },
            NextPageToken = next,
        };
    }

    public override Task<LinkCallsResponse> LinkCalls(LinkCallsRequest request, ServerCallContext context) =>
        throw new InvalidOperationException("what nobody outside may read");

    private static Decision Decide(LogCallRequest request, RuleContext context)
    {
        if (Gate.Check(context, request, context.Find(Cases.Kind, request.Case)) is { } refusal)
            return refusal;
        var id = context.NewId("call");
        return Decision.Accept(
            request.Case,
            [Audience.Case(request.Case)],
            [
                new Change(
                    new CallLogged
                    {
                        Case = request.Case,
                        Call = id,
                        Participant = context.Caller.Id,
                    },
                    [Kind.Id(id)]
                ),
            ],
            after => new LogCallResponse { Call = id, Etag = context.EtagOf(after.Find(Kind, id)!) }
        );
    }
}
