using System.Buffers;
using System.Buffers.Binary;
using System.Diagnostics;
using Google.Protobuf;
using Google.Protobuf.Reflection;
using Grpc.AspNetCore.Server;
using Grpc.Core;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.DependencyInjection.Extensions;
using Microsoft.Extensions.Logging;
using Ministries.Errors.V1;
using Ministries.Ledger;
using Ministries.Ledger.V1;
using Ministries.Trust;
using Ministries.Types.V1;

namespace Ministries.Hosting;

/// <summary>What every call passes before its method and after it: grant, size, the bytes' form, the fields' form; and what
/// becomes of what goes wrong.</summary>
public static class Edge
{
    /// <summary>Registers <see cref="Writes"/>, <see cref="Reads"/>, <see cref="Peers"/> and gRPC itself with its limits.</summary>
    public static IServiceCollection AddWrites(this IServiceCollection services)
    {
        services.TryAddSingleton(new EdgeLimits());
        services.AddSingleton<Writes>();
        services.AddSingleton<Reads>();
        services.AddSingleton<Peers>();
        services.AddSingleton<Guard>();
        services.AddSingleton<LedgerEndpoint>();
        services.AddGrpc(grpc =>
        {
            grpc.EnableDetailedErrors = false;
            grpc.IgnoreUnknownServices = false;
        });
        services.AddOptions<GrpcServiceOptions>()
            .Configure<EdgeLimits>((grpc, limits) => grpc.MaxReceiveMessageSize = limits.MaxMessageBytes);
        return services;
    }

    /// <summary>What every request passes, in this order: that it comes from no proxy, that its caller is known and its certificate holds
    /// (<see cref="Peer"/>), that there is room for it (<see cref="Admission"/>), that he could be granted the call, and that its bytes can be read in one way only. Of a call, what became
    /// of it is counted and told by its span, also where it was refused here.</summary>
    internal static IApplicationBuilder UseEdge(this IApplicationBuilder app)
    {
        var services = app.ApplicationServices;
        var limits = services.GetRequiredService<EdgeLimits>();
        var agreements = services.GetRequiredService<Agreements>();
        var time = services.GetRequiredService<TimeProvider>();
        var spans = new CallSpans(services.GetRequiredService<Service>().Name, services.GetRequiredService<DistributedContextPropagator>());
        var admission = new Admission(limits, time);
        return app.Use(next => http =>
        {
            if (Methods.At(http.Request.Path.Value) is { } rpc) return Pass(rpc, http, next, limits, agreements, time, spans, admission);
            var identified = Peer.Identify(Peer.Of(http), agreements, time);
            if (IdentityExtensions.Check(http, identified) is { } refusal) return Refusals.Answer(http, refusal);
            return HttpMethods.IsGet(http.Request.Method) || HttpMethods.IsHead(http.Request.Method)
                ? Show(http, next, identified.Identity!.Participant.Id, admission) : next(http);
        });
    }

    // The log's files.
    private static async Task Show(HttpContext http, RequestDelegate next, string participant, Admission admission)
    {
        if (await admission.Enter(null, http, participant) is { } full)
        {
            await Refusals.Answer(http, full);
            return;
        }
        try
        {
            await next(http);
        }
        finally
        {
            admission.Leave(null, participant);
        }
    }

    /// <summary>Maps a gRPC service of the contracts, with what each of its calls passes on the way to its method and back. There is one
    /// of it for all calls.</summary>
    /// <param name="endpoints">Where.</param>
    /// <param name="bind">The generated <c>BindService</c>.</param>
    public static IEndpointRouteBuilder Serve<TService>(this IEndpointRouteBuilder endpoints, Action<ServiceBinderBase, TService> bind)
        where TService : class
    {
        var services = endpoints.ServiceProvider;
        var guarded = new Guarded(services.GetRequiredService<Guard>());
        bind(guarded, ActivatorUtilities.GetServiceOrCreateInstance<TService>(services));
        endpoints.MapGrpcService(guarded.Definition).Add(endpoint =>
        {
            // Reflection finds a service by its type.
            if (endpoint.Metadata.OfType<GrpcMethodMetadata>().LastOrDefault() is { } known)
                endpoint.Metadata.Add(new GrpcMethodMetadata(typeof(TService), known.Method));
        });
        return endpoints;
    }

    /// <summary>Maps <c>ministries.ledger.v1</c> over the service's ledger.</summary>
    public static IEndpointRouteBuilder MapLedger(this IEndpointRouteBuilder endpoints) =>
        endpoints.Serve<LedgerEndpoint>(LedgerService.BindService);

    /// <summary>The request's message as it was sent, to the byte.</summary>
    public static ReadOnlyMemory<byte> BytesOf(this ServerCallContext context) =>
        Call.Of(context).Message;

    /// <summary>The signature that the request carries (RFC 9421), as received; null: a field of it is missing or given twice.
    /// </summary>
    internal static RequestSignature? SignatureOf(this ServerCallContext context)
    {
        var request = context.GetHttpContext().Request;
        if (One("Signature-Input") is not { } input || One("Signature") is not { } signature || One("Content-Digest") is not { } digest)
            return null;
        return new RequestSignature
        {
            Authority = request.Host.Value?.ToLowerInvariant() ?? "", ContentType = request.ContentType ?? "", ContentDigest = digest,
            SignatureInput = input, Signature = signature,
        };

        string? One(string name) =>
            request.Headers[name] is [{ Length: > 0 and <= HttpSignature.LongestField } value] ? value : null;
    }

    /// <summary>The full method name without a leading slash.</summary>
    internal static string NameOf(this ServerCallContext context) =>
        Call.Of(context.GetHttpContext())?.Rpc.Name ?? context.Method.TrimStart('/');

    private static async Task Pass(
        Rpc rpc, HttpContext http, RequestDelegate next, EdgeLimits limits, Agreements agreements, TimeProvider time, CallSpans spans,
        Admission admission)
    {
        var began = Stopwatch.GetTimestamp();
        var call = new Call(rpc, http, agreements, time);
        http.Features.Set(call);
        Exception? fault = null;
        string? entered = null;
        try
        {
            var identified = call.Identify();
            if (IdentityExtensions.Check(http, identified) is { } refusal)
            {
                call.Span = spans.Tell(rpc, http.Request, began);
                await Refusals.Answer(http, refusal);
            }
            // What another service serves.
            else if (http.GetEndpoint() is null)
            {
                call.Span = spans.Begin(rpc, http.Request);
                await next(http);
            }
            // What has no room has no span while it waits to be told so: it is to cost as little as can be.
            else if (await admission.Enter(rpc, http, identified.Identity!.Participant.Id) is { } full)
            {
                call.Span = spans.Tell(rpc, http.Request, began);
                call.Span?.SetTag("ministries.participant", identified.Identity.Participant.Id);
                await Refusals.Answer(http, full);
            }
            else
            {
                var caller = identified.Identity.Participant;
                entered = caller.Id;
                call.Span = spans.Begin(rpc, http.Request);
                call.Span?.SetTag("ministries.participant", caller.Id);
                byte[]? frame = null;
                if (!agreements.InForce.Permissions.Grants(Cases.PartsEverOf(caller), rpc.Name)) refusal = new Refusal(Reason.NotGranted);
                else (frame, refusal) = await Read(http, limits.MaxMessageBytes);
                if (refusal is null && Check(rpc.Method, frame!) is { Count: > 0 } faults) refusal = Refusals.Invalid(faults);
                if (refusal is not null) await Refusals.Answer(http, refusal);
                else
                {
                    call.Take(frame!);
                    await next(http);
                }
            }
        }
        catch (Exception e)
        {
            fault = e;
            throw;
        }
        finally
        {
            if (entered is not null) admission.Leave(rpc, entered);
            var status = Refusals.StatusOf(http);
            Metrics.Count(call, http, status, began);
            CallSpans.End(call.Span, status is { } code ? Refusals.NameOf(code) : null, fault);
        }
    }

    // One frame: a byte that says whether it is compressed, the message's length in 4 bytes, the message.
    internal const int Prefix = 5;

    private static async ValueTask<(byte[]? Frame, Refusal? Refusal)> Read(HttpContext http, int limit)
    {
        var reader = http.Request.BodyReader;
        while (true)
        {
            // Most bodies came with their head.
            if (!reader.TryRead(out var read)) read = await reader.ReadAsync(http.RequestAborted);
            var buffer = read.Buffer;
            if (buffer.Length >= Prefix)
            {
                var (compressed, length) = Head(buffer);
                Refusal? refusal = null;
                if (compressed) refusal = Refusals.Invalid("", "the message must not be compressed: what is signed is the bytes that are sent");
                else if (length > limit) refusal = Refusals.Invalid("", $"the message must be at most {limit} bytes");
                else if (buffer.Length > Prefix + length) refusal = Refusals.Invalid("", "the call must have one message");
                if (refusal is not null)
                {
                    reader.AdvanceTo(buffer.Start, buffer.End);
                    return (null, refusal);
                }
                if (read.IsCompleted && buffer.Length == Prefix + length)
                {
                    var frame = buffer.ToArray();
                    reader.AdvanceTo(buffer.End);
                    return (frame, null);
                }
            }
            if (read.IsCompleted)
            {
                reader.AdvanceTo(buffer.End);
                return (null, Refusals.Invalid("", "the call must have one message, and all of it"));
            }
            reader.AdvanceTo(buffer.Start, buffer.End);
        }

        static (bool Compressed, long Length) Head(ReadOnlySequence<byte> buffer)
        {
            Span<byte> head = stackalloc byte[Prefix];
            buffer.Slice(0, Prefix).CopyTo(head);
            return (head[0] != 0, BinaryPrimitives.ReadUInt32BigEndian(head[1..]));
        }
    }

    private static IReadOnlyList<FieldFault> Check(MethodDescriptor method, byte[] frame)
    {
        var message = frame.AsSpan(Prefix);
        var faults = WireWalk.Walk(method.InputType, message);
        if (faults.Count == 0) return faults;
        try
        {
            // What can be read in spite of them is checked too, so that the caller learns everything at once.
            var read = method.InputType.Parser.ParseFrom(message);
            var named = faults.Select(f => f.Field).ToHashSet();
            return [.. faults, .. Validation.Check(read).Where(f => !named.Contains(f.Field))];
        }
        catch (InvalidProtocolBufferException)
        {
            return faults;
        }
    }
}

/// <summary>Checks each request's fields, and turns what goes wrong into a status that says only what its reader may know.
/// </summary>
internal sealed partial class Guard(ILogger<Guard> log)
{
    public async Task<TResponse> Answer<TRequest, TResponse>(
        TRequest request, ServerCallContext context, UnaryServerMethod<TRequest, TResponse> method)
        where TRequest : class where TResponse : class
    {
        try
        {
            Check(request, context);
            return await method(request, context);
        }
        catch (Exception e) when (e is not RpcException)
        {
            throw Translate(e, context);
        }
    }

    public async Task Follow<TRequest, TResponse>(
        TRequest request, IServerStreamWriter<TResponse> responses, ServerCallContext context,
        ServerStreamingServerMethod<TRequest, TResponse> method) where TRequest : class where TResponse : class
    {
        try
        {
            Check(request, context);
            await method(request, responses, context);
        }
        catch (Exception e) when (e is not RpcException)
        {
            throw Translate(e, context);
        }
    }

    private static void Check(object request, ServerCallContext context)
    {
        if (Validation.Check((IMessage)request) is not { Count: > 0 } faults) return;
        var refusal = Refusals.Invalid(faults);
        Refusals.Trace(context.GetHttpContext(), refusal);
        throw refusal.ToException();
    }

    private RpcException Translate(Exception e, ServerCallContext context)
    {
        switch (e)
        {
            case OperationCanceledException when context.CancellationToken.IsCancellationRequested:
                return new RpcException(new Status(StatusCode.Cancelled, "the call was cancelled"));
            case LedgerOverloaded:
                return Refused(Reason.Overloaded);
            case LedgerClosed or LedgerUnavailable or CommitOutcomeUnknown or TermsOver:
                LogUnavailable(context.NameOf(), e.Message);
                return Refused(Reason.Unavailable, ("missing", "the service's ledger"));
            default:
                var id = Activity.Current?.TraceId.ToHexString() is { } trace && trace.Trim('0').Length > 0
                    ? trace : Guid.NewGuid().ToString("N");
                // The type and the place, never the text: it may hold what a log must not (D16).
                LogFault(context.NameOf(), id, string.Join(" < ", Types(e)), e.StackTrace ?? "");
                return Refusals.Internal(id);
        }

        RpcException Refused(Reason reason, params (string Name, string Value)[] metadata)
        {
            var refusal = new Refusal(reason, metadata.ToDictionary(m => m.Name, m => m.Value));
            Refusals.Trace(context.GetHttpContext(), refusal);
            return refusal.ToException();
        }

        static IEnumerable<string> Types(Exception? e)
        {
            for (; e is not null; e = e.InnerException) yield return e.GetType().FullName!;
        }
    }

    [LoggerMessage(30, LogLevel.Error, "{Method} failed ({Id}): {Types}\n{Place}")]
    private partial void LogFault(string method, string id, string types, string place);

    [LoggerMessage(31, LogLevel.Warning, "{Method} was refused: {Why}")]
    private partial void LogUnavailable(string method, string why);
}

/// <summary>A gRPC service as its methods are called: past the guard, and with an answer that is kept (<see cref="Reads"/>) written once.
/// The contracts have no streams of requests.</summary>
internal sealed class Guarded(Guard guard) : ServiceBinderBase
{
    private readonly ServerServiceDefinition.Builder _methods = ServerServiceDefinition.CreateBuilder();

    public ServerServiceDefinition Definition => _methods.Build();

    public override void AddMethod<TRequest, TResponse>(
        Method<TRequest, TResponse> method, UnaryServerMethod<TRequest, TResponse>? handler)
    {
        var (own, write) = (method.ResponseMarshaller, method.ResponseMarshaller.ContextualSerializer);
        _methods.AddMethod(
            new Method<TRequest, TResponse>(method.Type, method.ServiceName, method.Name, method.RequestMarshaller, Marshallers.Create(
                (response, context) =>
                {
                    if (Reads.Written(response) is { } bytes) context.Complete(bytes);
                    else write(response, context);
                }, own.ContextualDeserializer)),
            (request, context) => guard.Answer(request, context, handler!));
    }

    public override void AddMethod<TRequest, TResponse>(
        Method<TRequest, TResponse> method, ServerStreamingServerMethod<TRequest, TResponse>? handler) =>
        _methods.AddMethod(method, (request, responses, context) => guard.Follow(request, responses, context, handler!));
}
