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
using Ministries.Contracts;
using Ministries.Errors.V1;
using Ministries.Hosting.Bus;
using Ministries.Ledger;
using Ministries.Ledger.V1;
using Ministries.Serving;
using Ministries.Types.V1;

namespace Ministries.Hosting;

/// <summary>What runs before and after every endpoint. ASP.NET Core decides who may reach it (<see cref="Access"/>). Then the call needs
/// a free place (<see cref="Admission"/>), and the form and signature of an RPC of the contracts are checked (<see cref="Checks"/>). These
/// checks are wrapped around the endpoint where it is mapped, so that no path bypasses them.</summary>
public static class Edge
{
    /// <summary>Registers <see cref="Writes"/>, <see cref="Reads"/>, <see cref="Peers"/> and gRPC itself with its limits.</summary>
    public static IServiceCollection AddWrites(this IServiceCollection services)
    {
        services.TryAddSingleton(EdgeLimits.For(ProcessLimits.Descriptors()));
        Access.Add(services);
        services.AddSingleton<Admission>();
        services.AddSingleton<Passing>();
        services.AddSingleton(p => new Writes(
            p.GetRequiredService<ServiceLedger>(),
            p.GetRequiredService<Access>(),
            p.GetRequiredService<Admission>(),
            p.GetRequiredService<TimeProvider>()
        ));
        services.AddSingleton(p => new Reads(p.GetRequiredService<ServiceLedger>(), p.GetRequiredService<PageTokens>()));
        services.AddSingleton<Peers>();
        services.AddSingleton<Guard>();
        services.AddSingleton<Followers>();
        services.AddHostedService(s => s.GetRequiredService<Followers>());
        services.AddHostedService<LateShares>();
        services.AddSingleton<LedgerEndpoint>();
        services.AddGrpc(grpc =>
        {
            grpc.EnableDetailedErrors = false;
            // The fallback policy answers paths that are not mapped. An endpoint for them would have no policy.
            grpc.IgnoreUnknownServices = true;
        });
        services
            .AddOptions<GrpcServiceOptions>()
            .Configure<EdgeLimits>((grpc, limits) => grpc.MaxReceiveMessageSize = limits.MaxMessageBytes);
        return services;
    }

    /// <summary>Puts routing, authentication and authorization before the endpoints. Each request is counted, and each call of the
    /// contracts gets a span, wherever it ends.</summary>
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
                Validation.Prepare(SealedContent.Descriptor);
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

/// <summary>Takes a request through the checks of the edge.</summary>
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

    /// <summary>Counts the outcome of a request, and ends its span with it.</summary>
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
            // Early refusals are traced only after they are answered, to keep them cheap.
            if (call.Rpc is { } rpc)
                call.Span ??= _spans.BeginRefused(rpc, http.Request, began);
            var status = Refusals.StatusOf(http);
            Metrics.Count(call, http, status, began);
            CallSpans.End(call, status is { } code ? Refusals.NameOf(code) : null, fault);
        }
    }

    /// <summary>Passes a request on to its endpoint if there is a free place for it. An RPC of the contracts must also have the declared
    /// form, and the result of its signature check is kept for the write.</summary>
    public async Task Pass(HttpContext http, RequestDelegate serve)
    {
        var call = EdgeCall.Of(http) ?? throw new InvalidOperationException("the request has not come through the edge");
        // While the broker is down, events wait in the ledger. When too many wait, each participant has a few more writes, and further ones
        // are refused.
        if (
            call.Rpc is { Writes: true }
            && call.Caller.Participant is { Kind: not ParticipantKind.Operator } participant
            && _bus?.Takes(participant.Id) == false
        )
        {
            await Refusals.Answer(http, new Refusal(Reason.Overloaded));
            return;
        }
        // A caller that does not send its request or does not read its answer loses its place, and its memory is freed, at this limit. The
        // web server's minimum data rates do not ensure this: they count per connection, where other calls may go on. The timer is awaited
        // at the end, because the request object may be reused for another request afterwards.
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
            // Streams have limits of their own (Following).
            if (call.Streams)
                late.Change(Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan);
            await serve(http);
            // gRPC hands the answer to the web server, which buffers all of it until the caller has read it and counts it nowhere. So a
            // large answer keeps its place until most of it is sent.
            if (http.Response.BodyWriter is { CanGetUnflushedBytes: true, UnflushedBytes: > EdgeLimits.MaxUntakenBytes } answer)
                await answer.FlushAsync();
        }
        finally
        {
            _checks.Leave(call);
        }
    }

    // A write's signature is checked here, but a refusal is only carried: the request may have been answered before.
    private async ValueTask<Refusal?> Check(Rpc rpc, EdgeCall call, HttpContext http)
    {
        var (frame, refusal) = await _checks.Frame(call, http, _limits.MaxMessageBytes);
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
            // Fields that can be read in spite of the faults are checked too, so that the caller gets all faults at once.
            var named = ofBytes.Select(f => f.Field).ToHashSet();
            return (read, [.. ofBytes, .. ofFields.Where(f => !named.Contains(f.Field))]);
        }
    }
}

/// <summary>Calls a method with the message that was checked, and turns exceptions into a status that says only what the caller may
/// know. A method is never called with a message that was not checked.</summary>
internal sealed partial class Guard : IDisposable
{
    private readonly ILogger<Guard> _log;

    // A database that is out of reach, or one fault of the software, may end every call. So the log lines are limited.
    private readonly FewLines<(string Method, string Types, string Place)> _lines;

    public Guard(TimeProvider time, ILogger<Guard> log) =>
        (_log, _lines) = (log, new(time, (kind, leftOut) => LogMore(kind.Method, leftOut, kind.Types)));

    public void Dispose() => _lines.Dispose();

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
            case LedgerClosedException
            or LedgerUnavailableException
            or CommitOutcomeUnknownException
            or AgreementReplacedException
            or ClockNotTrustedException
            or LedgerInconsistentException
            or NewerFoldException:
                if (_lines.Writes((context.NameOf(), e.GetType().FullName!, "")))
                    LogUnavailable(context.NameOf(), e.Message);
                return Refused(Reason.Unavailable, ("missing", "the service's ledger"));
            default:
                var id =
                    Activity.Current?.TraceId.ToHexString() is { } trace && trace.Trim('0').Length > 0
                        ? trace
                        : Guid.NewGuid().ToString("N");
                // Only the exception's type and place are logged. Its message may contain personal data (D16).
                var (types, place) = (string.Join(" < ", Types(e)), e.StackTrace ?? "");
                if (_lines.Writes((context.NameOf(), types, place)))
                    LogFault(context.NameOf(), id, types, place);
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

    [LoggerMessage(32, LogLevel.Warning, "{Method} failed {Count} more times in the same way, without a log line: {Types}")]
    private partial void LogMore(string method, long count, string types);
}

/// <summary>Binds a gRPC service so that its methods are called through the guard, and an answer that is kept (<see cref="Reads"/>) is
/// serialized only once. The contracts have no streams of requests.</summary>
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
