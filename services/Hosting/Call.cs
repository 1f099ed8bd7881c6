using System.Buffers;
using System.Diagnostics;
using System.IO.Pipelines;
using Grpc.Core;
using Microsoft.AspNetCore.Connections.Features;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Ministries.Errors.V1;
using Ministries.Trust;

namespace Ministries.Hosting;

/// <summary>A call of the contracts while it runs: what the edge has learnt of it, for whoever serves it. It is the request's body
/// too, once the edge has read that.</summary>
/// <param name="rpc">What is called.</param>
/// <param name="http">The request.</param>
/// <param name="agreements">Who vouches for the caller.</param>
/// <param name="time">The clock.</param>
internal sealed class Call(Rpc rpc, HttpContext http, Agreements agreements, TimeProvider time) : IRequestBodyPipeFeature
{
    private readonly Peer? _peer = Peer.Of(http);
    private byte[]? _frame;
    private PipeReader? _body;

    /// <summary>What is called.</summary>
    public Rpc Rpc => rpc;

    /// <summary>The call's span; null: it has none.</summary>
    public Activity? Span { get; set; }

    /// <summary>Why it was refused; unspecified: it was not.</summary>
    public Reason Refused { get; set; }

    /// <summary>The request's message as it was sent, to the byte.</summary>
    public ReadOnlyMemory<byte> Message =>
        _frame?.AsMemory(Edge.Prefix) ?? throw new InvalidOperationException("the call has passed no edge");

    /// <summary>The request's body: the one frame that the edge has taken.</summary>
    public PipeReader Reader => _body!;

    /// <summary>The call of this context; null: of nothing in the contracts.</summary>
    public static Call? Of(HttpContext http) => http.Features.Get<Call>();

    /// <summary>The call of this context.</summary>
    /// <exception cref="InvalidOperationException">It is of nothing in the contracts.</exception>
    public static Call Of(ServerCallContext context) =>
        Of(context.GetHttpContext()) ?? throw new InvalidOperationException("the call has passed no edge");

    /// <summary>Whose it is, as its certificate and the agreement say at this moment.</summary>
    public Identified Identify() => Peer.Identify(_peer, agreements, time);

    /// <summary>Gives it its body: one frame.</summary>
    public void Take(byte[] frame)
    {
        _frame = frame;
        _body = PipeReader.Create(new ReadOnlySequence<byte>(frame));
        http.Features.Set<IRequestBodyPipeFeature>(this);
    }
}

/// <summary>Begins the span of a call, and ends it with what became of it.</summary>
/// <param name="service">The service's name.</param>
/// <param name="boundary">Says which trace a request goes on in.</param>
internal sealed class CallSpans(string service, DistributedContextPropagator boundary)
{
    private static readonly ActivitySource Source = new(Telemetry.Source);

    private static readonly DistributedContextPropagator.PropagatorGetterCallback Header =
        static (object? carrier, string name, out string? value, out IEnumerable<string>? values) =>
        {
            values = null;
            value = ((IHeaderDictionary)carrier!)[name] is [{ } one] ? one : null;
        };

    private readonly string _operation = Telemetry.OperationOf(service);
    private (string Host, string Address, object? Port) _authority = ("", "", null);

    /// <summary>Begins the span; null: there is none. A service's look, every few seconds, whether events of another one never came is
    /// no step in a case; what it finds is told by the spans of their processing.</summary>
    public Activity? Begin(Rpc rpc, HttpRequest request) => Begin(rpc, request, default);

    /// <summary>Begins the span of a call that came before and is refused; null: nobody looks at it.</summary>
    /// <param name="rpc">What was called.</param>
    /// <param name="request">The request.</param>
    /// <param name="came">When it came, as a timestamp of <see cref="Stopwatch"/>.</param>
    public Activity? Tell(Rpc rpc, HttpRequest request, long came) =>
        Source.HasListeners() ? Begin(rpc, request, DateTimeOffset.UtcNow - Stopwatch.GetElapsedTime(came)) : null;

    private Activity? Begin(Rpc rpc, HttpRequest request, DateTimeOffset came)
    {
        if (rpc.Name == "ministries.ledger.v1.LedgerService/ListEvents") return null;
        boundary.ExtractTraceIdAndState(request.Headers, Header, out var parent, out var state);
        ActivityContext.TryParse(parent, state, isRemote: true, out var context);
        // Without a parent it is a root, not a child of whatever runs here.
        if (Activity.Current is not null) Activity.Current = null;
        if (Source.StartActivity(_operation, ActivityKind.Server, context, startTime: came) is not { } span)
        {
            // Nobody looks; but the ledger keeps the context in which an entry was made.
            span = new Activity(_operation) { TraceStateString = state };
            if (parent is not null) span.SetParentId(parent);
            return span.Start();
        }
        span.DisplayName = rpc.Name;
        if (!span.IsAllDataRequested) return span;
        if (context == default && ActivityContext.TryParse(request.Headers.TraceParent, null, out var caller))
            span.AddLink(new ActivityLink(caller));
        span.AddTag("rpc.system.name", "grpc");
        span.AddTag("rpc.method", rpc.Name);
        var authority = _authority;
        if (request.Host.Value is { } host && !ReferenceEquals(authority.Host, host) && authority.Host != host)
            _authority = authority = (host, request.Host.Host, request.Host.Port is { } port and not 443 ? port : null);
        span.AddTag("server.address", authority.Address);
        if (authority.Port is not null) span.AddTag("server.port", authority.Port);
        return span;
    }

    /// <summary>Ends the span.</summary>
    /// <param name="span">The span.</param>
    /// <param name="status">The status that was answered, as the gRPC specification writes it; null: none was.</param>
    /// <param name="fault">What was thrown through the edge; null: nothing.</param>
    public static void End(Activity? span, string? status, Exception? fault)
    {
        if (span is null) return;
        if (span.IsAllDataRequested)
        {
            if (status is not null) span.AddTag("rpc.response.status_code", status);
            if (fault is not null) span.SetTag("error.type", fault.GetType().FullName).SetStatus(ActivityStatusCode.Error);
        }
        span.Stop();
    }
}
