using System.Buffers;
using System.Diagnostics;
using System.IO.Pipelines;
using System.Net;
using Google.Protobuf;
using Grpc.Core;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Ministries.Serving;
using Ministries.Trust;

namespace Ministries.Hosting;

/// <summary>
/// A request while it runs, with the results of the checks. Each check is made once and its result is kept here; asking for the result
/// of a check that was not reached fails. For an RPC of the contracts it also stands in for the request's body: gRPC gets an empty message,
/// and the method gets the message that was checked, so that no second parser reads the caller's bytes.
/// </summary>
/// <param name="passage">The endpoint that routing selected; null: none.</param>
internal sealed class EdgeCall(Passage? passage) : IRequestBodyPipeFeature
{
    private static readonly ReadOnlySequence<byte> EmptyFrame = new(new byte[RequestFrame.Prefix]);

    private ParsedAgreement? _agreement;
    private Identity? _caller;
    private byte[]? _frame;
    private IMessage? _request;
    private SignedRequest? _signed;
    private PipeReader? _body;

    /// <summary>Its name in metrics.</summary>
    public string Name => passage?.Name ?? "_OTHER";

    /// <summary>The RPC of the contracts that is called; null: it is none.</summary>
    public Rpc? Rpc => passage?.Rpc;

    /// <summary>Whether its answer is a stream, which lasts as long as its reader wants.</summary>
    public bool Streams => passage?.Streams == true;

    /// <summary>When it began, as a timestamp of <see cref="Stopwatch"/>.</summary>
    public long Began { get; } = Stopwatch.GetTimestamp();

    /// <summary>Completes one tick of <see cref="Evenly"/> after the call began; where no RPC of the contracts is called, at once.</summary>
    public Task FirstTick { get; } = passage?.Rpc is null ? Task.CompletedTask : Task.Delay(Evenly.Tick);

    /// <summary>The call's span; null: it has none.</summary>
    public Activity? Span { get; set; }

    /// <summary>The room that it has for its message (<see cref="EdgeLimits.MaxBodyBytes"/>).</summary>
    public TakenRoom Room { get; set; }

    /// <summary>Why it was refused; null: it was not.</summary>
    public Refusal? Refused { get; set; }

    /// <summary>The version of the agreement by which the call is judged.</summary>
    public ParsedAgreement Agreement => _agreement ?? throw Unchecked("identity");

    /// <summary>Who calls.</summary>
    public Identity Caller => _caller ?? throw Unchecked("identity");

    /// <summary>Whether the caller is known.</summary>
    public bool IsIdentified => _caller is not null;

    /// <summary>The parts to which the agreement grants the RPC.</summary>
    public GrantedParts Granted => Agreement.Permissions.PartsGranted(Rpc?.Name ?? "");

    /// <summary>The request's message as it was sent, to the byte.</summary>
    public ReadOnlyMemory<byte> Message => _frame?.AsMemory(RequestFrame.Prefix) ?? throw Unchecked("form");

    /// <summary>The request's message.</summary>
    public IMessage Request => _request ?? throw Unchecked("form");

    /// <summary>The result of checking a write's signatures.</summary>
    public SignedRequest Signed
    {
        get => _signed ?? throw Unchecked("signature");
        set => _signed = value;
    }

    PipeReader IRequestBodyPipeFeature.Reader => _body ?? throw Unchecked("form");

    /// <summary>The call of this request; null: it has not come to the edge.</summary>
    public static EdgeCall? Of(HttpContext http) => http.Features.Get<EdgeCall>();

    /// <summary>The call of this context.</summary>
    /// <exception cref="InvalidOperationException">It has not passed the edge.</exception>
    public static EdgeCall Of(ServerCallContext context) => Of(context.GetHttpContext()) ?? throw Unchecked("edge");

    /// <summary>Keeps who calls.</summary>
    public void Identified(ParsedAgreement agreement, Identity caller) => (_agreement, _caller) = (agreement, caller);

    /// <summary>Keeps the message whose form was checked.</summary>
    public void Formed(HttpContext http, byte[] frame, IMessage request)
    {
        (_frame, _request) = (frame, request);
        _body = PipeReader.Create(EmptyFrame);
        http.Features.Set<IRequestBodyPipeFeature>(this);
    }

    private static InvalidOperationException Unchecked(string check) => new($"the call has not passed the check of its {check}");
}

/// <summary>Begins the span of a call, and ends it with the call's outcome.</summary>
/// <param name="service">The service's name.</param>
/// <param name="boundary">Decides which trace a request continues.</param>
internal sealed class CallSpans(string service, DistributedContextPropagator boundary)
{
    private static readonly ActivitySource Source = new(Telemetry.Source);

    private static readonly DistributedContextPropagator.PropagatorGetterCallback Header = static (
        object? carrier,
        string name,
        out string? value,
        out IEnumerable<string>? values
    ) =>
    {
        values = null;
        value = ((IHeaderDictionary)carrier!)[name] is [{ } one] ? one : null;
    };

    private readonly string _operation = SpanExport.OperationOf(service);
    private Reached _reached = new(null, 0, "", null);

    // An address of the service as it stands in spans: without the scheme's default port.
    private sealed record Reached(IPAddress? Address, int Port, string Text, object? Tag);

    /// <summary>Begins the span; null: there is none. A service's periodic search for missed events of another one has none, because it
    /// is no step of a case: the events that it finds get spans when they are processed.</summary>
    public Activity? Begin(Rpc rpc, HttpRequest request) => Begin(rpc, request, default);

    /// <summary>Begins the span of a refused call after it was answered; null: nothing exports spans.</summary>
    /// <param name="rpc">What was called.</param>
    /// <param name="request">The request.</param>
    /// <param name="came">When it came, as a timestamp of <see cref="Stopwatch"/>.</param>
    public Activity? BeginRefused(Rpc rpc, HttpRequest request, long came) =>
        Source.HasListeners() ? Begin(rpc, request, DateTimeOffset.UtcNow - Stopwatch.GetElapsedTime(came)) : null;

    private Activity? Begin(Rpc rpc, HttpRequest request, DateTimeOffset came)
    {
        if (rpc.Name == "ministries.ledger.v1.LedgerService/ListEvents")
            return null;
        boundary.ExtractTraceIdAndState(request.Headers, Header, out var parent, out var state);
        ActivityContext.TryParse(parent, state, isRemote: true, out var context);
        // Without a parent the span is a root, not a child of the activity that is current here.
        if (Activity.Current is not null)
            Activity.Current = null;
        if (Source.StartActivity(_operation, ActivityKind.Server, context, startTime: came) is not { } span)
        {
            // The span is not recorded, but the ledger keeps the trace context of each entry.
            span = new Activity(_operation) { TraceStateString = state };
            if (parent is not null)
                span.SetParentId(parent);
            return span.Start();
        }
        span.DisplayName = rpc.Name;
        if (!span.IsAllDataRequested)
            return span;
        if (context == default && ActivityContext.TryParse(request.Headers.TraceParent, null, out var caller))
            span.AddLink(new ActivityLink(caller));
        span.AddTag("rpc.system.name", "grpc");
        span.AddTag("rpc.method", rpc.Name);
        // The local address. The host name is a text of the caller's choice, so it is kept out of traces (D16).
        var (connection, reached) = (request.HttpContext.Connection, _reached);
        if (reached.Port != connection.LocalPort || !Equals(reached.Address, connection.LocalIpAddress))
            _reached = reached = new(
                connection.LocalIpAddress,
                connection.LocalPort,
                connection.LocalIpAddress?.ToString() ?? "",
                connection.LocalPort == 443 ? null : connection.LocalPort
            );
        span.AddTag("server.address", reached.Text);
        if (reached.Tag is not null)
            span.AddTag("server.port", reached.Tag);
        return span;
    }

    /// <summary>Ends the call's span with the call's outcome.</summary>
    /// <param name="call">The call.</param>
    /// <param name="status">The status that was answered, as the gRPC specification writes it; null: none was.</param>
    /// <param name="fault">What was thrown through the edge; null: nothing.</param>
    public static void End(EdgeCall call, string? status, Exception? fault)
    {
        if (call.Span is not { } span)
            return;
        if (span.IsAllDataRequested)
        {
            if (call.IsIdentified)
                span.SetTag("ministries.participant", call.Caller.Participant.Id);
            if (call.Refused is { } refusal)
            {
                span.SetTag("ministries.refusal", Refusals.NameOf(refusal.Reason));
                span.SetTag("ministries.article", refusal.Metadata?.GetValueOrDefault("source") ?? Refusals.AboutOf(refusal.Reason).Source);
            }
            if (status is not null)
                span.AddTag("rpc.response.status_code", status);
            if (fault is not null)
                span.SetTag("error.type", fault.GetType().FullName).SetStatus(ActivityStatusCode.Error);
        }
        span.Stop();
    }
}
