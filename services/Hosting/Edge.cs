using System.Diagnostics;
using Google.Protobuf;
using Google.Protobuf.Reflection;
using Grpc.AspNetCore.Server;
using Grpc.Core;
using Microsoft.AspNetCore.Authorization;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.DependencyInjection.Extensions;
using Microsoft.Extensions.Logging;
using Ministries.Errors.V1;
using Ministries.Hosting.Bus;
using Ministries.Ledger;
using Ministries.Ledger.V1;
using Ministries.Trust;
using Ministries.Types.V1;

namespace Ministries.Hosting;

/// <summary>What every request passes before its endpoint and after it. ASP.NET Core decides who may reach the endpoint
/// (<see cref="Access"/>); then there must be room (<see cref="Admission"/>), and of an RPC of the contracts the form and the signature
/// must hold (<see cref="Checks"/>). These stand in the endpoint itself, where it is mapped, so that no path leads around them.
/// </summary>
public static class Edge
{
    /// <summary>Registers <see cref="Writes"/>, <see cref="Reads"/>, <see cref="Peers"/> and gRPC itself with its limits.</summary>
    public static IServiceCollection AddWrites(this IServiceCollection services)
    {
        services.TryAddSingleton(new EdgeLimits());
        Access.Add(services);
        services.AddSingleton<Admission>();
        services.AddSingleton<Passing>();
        services.AddSingleton(p => new Writes(
            p.GetRequiredService<ServiceLedger>(),
            p.GetRequiredService<Access>(),
            p.GetRequiredService<TimeProvider>()
        ));
        services.AddSingleton(p => new Reads(
            p.GetRequiredService<ServiceLedger>(),
            p.GetRequiredService<Access>(),
            p.GetRequiredService<PageTokens>()
        ));
        services.AddSingleton<Peers>();
        services.AddSingleton<Guard>();
        services.AddSingleton<Followers>();
        services.AddHostedService(s => s.GetRequiredService<Followers>());
        services.AddSingleton<LedgerEndpoint>();
        services.AddGrpc(grpc =>
        {
            grpc.EnableDetailedErrors = false;
            // The fallback policy answers what is not mapped: an endpoint for it would be one without a policy.
            grpc.IgnoreUnknownServices = true;
        });
        services
            .AddOptions<GrpcServiceOptions>()
            .Configure<EdgeLimits>((grpc, limits) => grpc.MaxReceiveMessageSize = limits.MaxMessageBytes);
        return services;
    }

    /// <summary>Puts routing, authentication and authorization before the endpoints. Each request is counted, and a call of the
    /// contracts is told by its span, wherever it ends.</summary>
    internal static void UseEdge(this WebApplication app)
    {
        app.UseRouting();
        app.Use(app.Services.GetRequiredService<Passing>().Observe);
        app.UseAuthentication();
        app.UseAuthorization();
    }

    /// <summary>Maps a gRPC service of the contracts with its policies and checks.</summary>
    /// <param name="endpoints">Where.</param>
    /// <param name="bind">The generated <c>BindService</c>. There is one <typeparamref name="TService"/> for all calls.</param>
    public static IEndpointRouteBuilder Serve<TService>(this IEndpointRouteBuilder endpoints, Action<ServiceBinderBase, TService> bind)
        where TService : class
    {
        var services = endpoints.ServiceProvider;
        var guarded = new Guarded(services.GetRequiredService<Guard>(), services.GetRequiredService<Reads>());
        bind(guarded, ActivatorUtilities.GetServiceOrCreateInstance<TService>(services));
        endpoints
            .MapGrpcService(guarded.Definition)
            .Guarded(endpoints)
            .Add(endpoint =>
            {
                // Reflection finds a service by its type.
                if (endpoint.Metadata.OfType<GrpcMethodMetadata>().LastOrDefault() is { } known)
                    endpoint.Metadata.Add(new GrpcMethodMetadata(typeof(TService), known.Method));
            });
        return endpoints;
    }

    /// <summary>Gives endpoints their policy and puts the edge's checks into them: an RPC of the contracts is for those to whom the
    /// agreement grants it, everything else for all participants.</summary>
    /// <param name="mapped">What was mapped.</param>
    /// <param name="endpoints">Where.</param>
    internal static TBuilder Guarded<TBuilder>(this TBuilder mapped, IEndpointRouteBuilder endpoints)
        where TBuilder : IEndpointConventionBuilder
    {
        var passing = endpoints.ServiceProvider.GetRequiredService<Passing>();
        mapped.Add(endpoint =>
        {
            var passage = Passage.Of(endpoint);
            endpoint.Metadata.Add(passage);
            endpoint.Metadata.Add(new AuthorizeAttribute());
            if (passage.Rpc is { } rpc)
            {
                Validation.Prepare(rpc.Method.InputType);
                endpoint.Metadata.Add(Access.Granted(rpc));
            }
            else
                endpoint.Metadata.Add(Access.Participants);
            var serve = endpoint.RequestDelegate ?? throw new InvalidOperationException($"{passage.Name} serves nothing");
            endpoint.RequestDelegate = http => passing.Pass(http, serve);
        });
        return mapped;
    }

    /// <summary>Maps <c>ministries.ledger.v1</c> over the service's ledger.</summary>
    public static IEndpointRouteBuilder MapLedger(this IEndpointRouteBuilder endpoints) =>
        endpoints.Serve<LedgerEndpoint>(LedgerService.BindService);

    /// <summary>The full method name without a leading slash.</summary>
    internal static string NameOf(this ServerCallContext context) => EdgeCall.Of(context).Name;
}

/// <summary>The way of a request through the edge.</summary>
internal sealed class Passing
{
    private readonly EdgeLimits _limits;
    private readonly Checks _checks;
    private readonly CallSpans _spans;
    private readonly TimeProvider _time;
    private readonly BusStatus? _bus;

    public Passing(
        Service service,
        EdgeLimits limits,
        Checks checks,
        DistributedContextPropagator propagator,
        TimeProvider time,
        BusStatus? bus = null
    )
    {
        (_limits, _checks, _time, _bus) = (limits, checks, time, bus);
        _spans = new CallSpans(service.Name, propagator);
    }

    /// <summary>Counts what became of a request, and tells it by its span.</summary>
    public async Task Observe(HttpContext http, RequestDelegate next)
    {
        var began = Stopwatch.GetTimestamp();
        var call = new EdgeCall(http.GetEndpoint()?.Metadata.GetMetadata<Passage>());
        http.Features.Set(call);
        Exception? fault = null;
        try
        {
            await next(http);
        }
        catch (Exception e)
        {
            fault = e;
            throw;
        }
        finally
        {
            // What is refused early has no span until it was answered: refusing must cost as little as can be.
            if (call.Rpc is { } rpc)
                call.Span ??= _spans.Tell(rpc, http.Request, began);
            var status = Refusals.StatusOf(http);
            Metrics.Count(call, http, status, began);
            CallSpans.End(call, status is { } code ? Refusals.NameOf(code) : null, fault);
        }
    }

    /// <summary>Lets a request to its endpoint where there is room and, of an RPC of the contracts, where form and signature hold.
    /// </summary>
    public async Task Pass(HttpContext http, RequestDelegate serve)
    {
        var call = EdgeCall.Of(http) ?? throw new InvalidOperationException("the request has not come through the edge");
        // The ledger is the queue while the broker is down, but not without end.
        if (call.Rpc is { Writes: true } && _bus is { Overloaded: true } && call.Caller.Participant.Kind != ParticipantKind.Operator)
        {
            await Refusals.Answer(http, new Refusal(Reason.Overloaded));
            return;
        }
        // Whoever does not send his request, or does not take his answer, keeps his place and what is in memory for him no longer than that.
        // The web server's own rates of bytes do not see to it: they count a connection, on which others may go on. The timer is waited for
        // at the end, since the request's object may be another's then.
        await using var late = _time.CreateTimer(
            static cut => Refusals.Cut((HttpContext)cut!),
            http,
            _limits.CallTime,
            Timeout.InfiniteTimeSpan
        );
        if (await _checks.Enter(call, http) is { } full)
        {
            await Refusals.Answer(http, full);
            return;
        }
        try
        {
            if (call.Rpc is { } rpc)
            {
                call.Span = _spans.Begin(rpc, http.Request);
                if (await Check(rpc, call, http) is { } refusal)
                {
                    await Refusals.Answer(http, refusal);
                    return;
                }
            }
            // A stream's answer has limits of its own (Following).
            if (call.Streams)
                late.Change(Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan);
            await serve(http);
            // gRPC leaves an answer with the web server, which would hold all of it for as long as its reader likes and count it nowhere. So
            // a great one keeps its place until little of it is left.
            if (http.Response.BodyWriter is { CanGetUnflushedBytes: true, UnflushedBytes: > EdgeLimits.MaxUntakenBytes } answer)
                await answer.FlushAsync();
        }
        finally
        {
            _checks.Leave(call);
        }
    }

    // A write's signature is checked here, and what refuses it is carried: the request may have its answer already.
    private async ValueTask<Refusal?> Check(Rpc rpc, EdgeCall call, HttpContext http)
    {
        var (frame, refusal) = await _checks.Frame(http, _limits.MaxMessageBytes);
        if (refusal is not null)
            return refusal;
        var (request, faults) = Read(rpc.Method, frame!.AsSpan(RequestFrame.Prefix));
        if (faults.Count > 0 || request is null)
            return Refusals.Invalid(faults);
        call.Formed(http, frame!, request);
        if (rpc.Writes)
            call.Signed = SignedRequest.Check(call, http.Request, _checks);
        return null;

        (IMessage? Request, IReadOnlyList<FieldFault> Faults) Read(MethodDescriptor method, ReadOnlySpan<byte> message)
        {
            var ofBytes = _checks.Bytes(rpc, message);
            IMessage read;
            try
            {
                read = method.InputType.Parser.ParseFrom(message);
            }
            catch (InvalidProtocolBufferException)
            {
                return (null, ofBytes.Count > 0 ? ofBytes : [new FieldFault { Description = "the message cannot be read" }]);
            }
            var ofFields = _checks.Fields(read);
            if (ofBytes.Count == 0)
                return (read, ofFields);
            // What can be read in spite of the bytes' faults is checked, too, so that the caller learns everything at once.
            var named = ofBytes.Select(f => f.Field).ToHashSet();
            return (read, [.. ofBytes, .. ofFields.Where(f => !named.Contains(f.Field))]);
        }
    }
}

/// <summary>Gives a method the message that was checked, and turns what goes wrong into a status that says only what its reader may
/// know. Without a message that was checked there is no call of a method.</summary>
internal sealed partial class Guard(ILogger<Guard> log)
{
    public async Task<TResponse> Answer<TRequest, TResponse>(ServerCallContext context, UnaryServerMethod<TRequest, TResponse> method)
        where TRequest : class
        where TResponse : class
    {
        try
        {
            return await method((TRequest)EdgeCall.Of(context).Request, context);
        }
        catch (Exception e) when (e is not RpcException)
        {
            throw Translate(e, context);
        }
    }

    public async Task Follow<TRequest, TResponse>(
        IServerStreamWriter<TResponse> responses,
        ServerCallContext context,
        ServerStreamingServerMethod<TRequest, TResponse> method
    )
        where TRequest : class
        where TResponse : class
    {
        try
        {
            await method((TRequest)EdgeCall.Of(context).Request, responses, context);
        }
        catch (Exception e) when (e is not RpcException)
        {
            throw Translate(e, context);
        }
    }

    private RpcException Translate(Exception e, ServerCallContext context)
    {
        switch (e)
        {
            case OperationCanceledException when context.CancellationToken.IsCancellationRequested:
                return new RpcException(new Status(StatusCode.Cancelled, "the call was cancelled"));
            case LedgerOverloadedException:
                return Refused(Reason.Overloaded);
            case LedgerClosedException or LedgerUnavailableException or CommitOutcomeUnknownException or AgreementReplacedException:
                LogUnavailable(context.NameOf(), e.Message);
                return Refused(Reason.Unavailable, ("missing", "the service's ledger"));
            default:
                var id =
                    Activity.Current?.TraceId.ToHexString() is { } trace && trace.Trim('0').Length > 0
                        ? trace
                        : Guid.NewGuid().ToString("N");
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
            for (; e is not null; e = e.InnerException)
                yield return e.GetType().FullName!;
        }
    }

    [LoggerMessage(30, LogLevel.Error, "{Method} failed ({Id}): {Types}\n{Place}")]
    private partial void LogFault(string method, string id, string types, string place);

    [LoggerMessage(31, LogLevel.Warning, "{Method} was refused: {Why}")]
    private partial void LogUnavailable(string method, string why);
}

/// <summary>A gRPC service as its methods are called: past the guard, and with an answer that is kept (<see cref="Reads"/>) written once.
/// The contracts have no streams of requests.</summary>
internal sealed class Guarded(Guard guard, Reads reads) : ServiceBinderBase
{
    private readonly ServerServiceDefinition.Builder _methods = ServerServiceDefinition.CreateBuilder();

    public ServerServiceDefinition Definition => _methods.Build();

    public override void AddMethod<TRequest, TResponse>(Method<TRequest, TResponse> method, UnaryServerMethod<TRequest, TResponse>? handler)
    {
        var (own, write) = (method.ResponseMarshaller, method.ResponseMarshaller.ContextualSerializer);
        _methods.AddMethod(
            new Method<TRequest, TResponse>(
                method.Type,
                method.ServiceName,
                method.Name,
                method.RequestMarshaller,
                Marshallers.Create(
                    (response, context) =>
                    {
                        if (reads.Written(response) is { } bytes)
                            context.Complete(bytes);
                        else
                            write(response, context);
                    },
                    own.ContextualDeserializer
                )
            ),
            (TRequest _, ServerCallContext context) => guard.Answer(context, handler!)
        );
    }

    public override void AddMethod<TRequest, TResponse>(
        Method<TRequest, TResponse> method,
        ServerStreamingServerMethod<TRequest, TResponse>? handler
    ) =>
        _methods.AddMethod(
            method,
            (TRequest _, IServerStreamWriter<TResponse> responses, ServerCallContext context) => guard.Follow(responses, context, handler!)
        );
}
