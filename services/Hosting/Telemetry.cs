using System.Collections.Frozen;
using System.Diagnostics;
using System.Text.RegularExpressions;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.DependencyInjection;
using Ministries.Trust;
using OpenTelemetry;
using OpenTelemetry.Context.Propagation;
using OpenTelemetry.Exporter;
using OpenTelemetry.Metrics;
using OpenTelemetry.Resources;
using OpenTelemetry.Trace;
using StatusCode = Grpc.Core.StatusCode;

namespace Ministries.Hosting;

/// <summary>What leaves a service as traces and metrics: names that say what happened, and only attributes that may be told.
/// </summary>
public static class Telemetry
{
    /// <summary>The name of the activity source of every span that a service makes itself: <c>commit</c>, <c>publish</c>,
    /// <c>process</c> and batches.</summary>
    public const string Source = "Ministries";

    /// <summary>Exports a service's traces and metrics by OTLP/gRPC where the settings name an endpoint, and lets Prometheus read its
    /// metrics where they name a listener for it.</summary>
    /// <param name="services">The service's services.</param>
    /// <param name="service">The service's name: the resource's <c>service.name</c>.</param>
    /// <param name="settings">The settings.</param>
    public static void Add(IServiceCollection services, string service, Settings settings)
    {
        if (settings.Otlp is null && settings.Metrics is null) return;
        services.AddHostedService<Vitals>();
        services.AddOpenTelemetry()
            .ConfigureResource(resource => resource.Clear().AddService(service))
            .WithMetrics(metrics =>
            {
                Metrics.Read(metrics);
                if (settings.Otlp is { } endpoint) metrics.AddOtlpExporter(o => (o.Endpoint, o.Protocol) = (endpoint, OtlpExportProtocol.Grpc));
                if (settings.Metrics is not null) metrics.AddPrometheusExporter(o => o.ScopeInfoEnabled = o.TargetInfoEnabled = false);
            });
        if (settings.Otlp is not null) AddTraces(services, service, settings.Otlp);
    }

    private static void AddTraces(IServiceCollection services, string service, Uri endpoint)
    {
        // Both for the web server's span and for what a library would read beside it: no baggage, and only what services send.
        services.AddSingleton<DistributedContextPropagator>(new Boundary());
        Sdk.SetDefaultTextMapPropagator(new TraceContextPropagator());
        var otlp = new OtlpExporterOptions { Endpoint = endpoint, Protocol = OtlpExportProtocol.Grpc };
        services.AddOpenTelemetry().WithTracing(traces => Traces(traces).AddProcessor(_ =>
            new OfService(service, new BatchActivityExportProcessor(new OtlpTraceExporter(otlp), scheduledDelayMilliseconds: 1000))));
    }

    /// <summary>Says which spans are made and what is left of them, whoever exports them. Every trace is taken, also where a caller's
    /// says that it was not: the volume is small, and a case may be asked about years later.</summary>
    /// <param name="traces">The builder; exporters are added to it afterwards.</param>
    public static TracerProviderBuilder Traces(TracerProviderBuilder traces) => traces
        .SetSampler(new AlwaysOnSampler())
        .AddSource(Source, "Npgsql")
        .AddAspNetCoreInstrumentation(options =>
        {
            options.Filter = http => !Metrics.IsScrape(http) && TellsSomething(http.Request.Path);
            options.EnrichWithHttpRequest = (span, request) =>
            {
                span.SetCustomProperty(ServiceProperty, request.HttpContext.RequestServices.GetService<Service>()?.Name);
                // Where several services run in one process, each enriches.
                if (span.ParentSpanId == default && !span.Links.Any() &&
                    ActivityContext.TryParse(request.Headers.TraceParent, null, out var caller))
                    span.AddLink(new ActivityLink(caller));
            };
        })
        .AddGrpcClientInstrumentation(options => options.SuppressDownstreamInstrumentation = true)
        .AddProcessor(new AllowList());

    /// <summary>The service that a span happened in; null where the span does not say.</summary>
    public static string? ServiceOf(Activity span) => span.DisplayName.Split(' ') switch
    {
        ["commit" or "batch" or "broker-outage", var service] => service,
        ["publish", var type] when type.Split('.') is ["ministries", var service, ..] => service,
        ["process" or "set-aside", ..] when (span.GetTagItem("messaging.consumer.group.name") as string)?.Split('.') is ["ministries", var service] => service,
        _ => span.GetCustomProperty(ServiceProperty) as string,
    };

    private const string ServiceProperty = "service";

    // Several services may run in one process, and each sees every span: it exports its own and those that nobody claims.
    private sealed class OfService(string service, BaseProcessor<Activity> export) : CompositeProcessor<Activity>([export])
    {
        public override void OnEnd(Activity span)
        {
            if ((ServiceOf(span) ?? service) == service) base.OnEnd(span);
        }
    }

    // Health, tiles and what else is no call of the contracts is no step in a case; nor is a service's look, every few seconds,
    // whether events of another one never came. What it finds is told by the spans of their processing.
    private static bool TellsSomething(PathString path) => path.Value is { Length: > 1 } value &&
        Methods.Find(value[1..]) is { } method && method.FullName != "ministries.ledger.v1.LedgerService.ListEvents";
}

/// <summary>
/// Where a trace begins: with the call of a participant. Its own spans are in another collector, so one of them as parent would be
/// a parent that nobody here finds, and what it sends along (tracestate, baggage) is not this system's to keep; its span is linked.
/// A call between services goes on in the trace that it is part of.
/// </summary>
internal sealed class Boundary : DistributedContextPropagator
{
    /// <summary>The header by which a service says that its spans are found where this one's are.</summary>
    internal const string Header = "ministries-trace";

    private static readonly DistributedContextPropagator W3C = CreateW3CPropagator();

    public override IReadOnlyCollection<string> Fields => W3C.Fields;

    public override void Inject(Activity? activity, object? carrier, PropagatorSetterCallback? setter) =>
        W3C.Inject(activity, carrier, setter);

    public override void ExtractTraceIdAndState(
        object? carrier, PropagatorGetterCallback? getter, out string? traceId, out string? traceState)
    {
        (traceId, traceState) = (null, null);
        string? continues = null;
        getter?.Invoke(carrier, Header, out continues, out _);
        if (continues is not null) W3C.ExtractTraceIdAndState(carrier, getter, out traceId, out traceState);
    }

    public override IEnumerable<KeyValuePair<string, string?>>? ExtractBaggage(object? carrier, PropagatorGetterCallback? getter) => null;
}

/// <summary>
/// The last thing before export: gives RPC spans their names and drops every attribute that is not on the list or has not the
/// form that the list gives it, every event, and every status text. So nothing that a library chose to attach leaves the
/// process, and no prisoner's reference (D16): a record's id has a form that no reference has.
/// </summary>
internal sealed partial class AllowList : BaseProcessor<Activity>
{
    /// <summary>The attributes that may leave, and the form that a text must have; null: any.</summary>
    internal static readonly FrozenDictionary<string, Regex?> Allowed = new Dictionary<string, Regex?>
    {
        ["ministries.case"] = RecordId(),
        ["ministries.record"] = RecordId(),
        ["ministries.request_id"] = RequestId(),
        ["ministries.participant"] = Word(),
        ["ministries.method"] = Word(),
        ["ministries.position"] = null,
        ["ministries.cause"] = EventId(),
        ["ministries.refusal"] = Word(),
        ["ministries.article"] = Source(),
        ["ministries.repeated"] = Word(),
        ["ministries.redelivered"] = Word(),
        ["ministries.replayed"] = Word(),
        ["ministries.filled"] = Word(),
        ["ministries.attempt"] = Word(),
        ["db.operation.batch.size"] = null,
        ["rpc.system.name"] = null,
        ["rpc.method"] = Word(),
        ["rpc.response.status_code"] = Word(),
        ["messaging.system"] = null,
        ["messaging.operation.name"] = null,
        ["messaging.operation.type"] = null,
        ["messaging.destination.name"] = Word(),
        ["messaging.consumer.group.name"] = Word(),
        ["messaging.message.id"] = EventId(),
        ["db.system.name"] = null,
        ["db.response.status_code"] = null,
        ["error.type"] = Word(),
        ["server.address"] = null,
        ["server.port"] = null,
    }.ToFrozenDictionary();

    private static readonly ActivitySource Replaced = new(Telemetry.Source);

    public override void OnEnd(Activity span)
    {
        if (!span.Recorded) return;
        if (span.Source.Name is "Microsoft.AspNetCore" or "Grpc.Net.Client" or "OpenTelemetry.Instrumentation.GrpcNetClient")
            NameByMethod(span);
        foreach (var (key, value) in span.TagObjects.ToArray())
            if (!Allowed.TryGetValue(key, out var form) || value is string text && form?.IsMatch(text) == false)
                span.SetTag(key, null);
        span.SetStatus(span.Status);
        if (span.Events.Any()) Replace(span);
    }

    private static void NameByMethod(Activity span)
    {
        // Where several services run in one process, each has a list, and the first has named it.
        if (span.GetTagItem("rpc.system.name") is "grpc") return;
        var known = span.GetTagItem("grpc.method") as string;
        var status = span.GetTagItem("grpc.status_code") as string;
        span.DisplayName = known?.TrimStart('/') ?? "_OTHER";
        span.SetTag("rpc.system.name", "grpc");
        span.SetTag("rpc.method", span.DisplayName);
        if (int.TryParse(status, out var code)) span.SetTag("rpc.response.status_code", Refusals.NameOf((StatusCode)code));
    }

    // Events cannot be taken off a span. The spans that have any are a library's (a database command that failed) and have no
    // children, so one without events takes its place.
    private static void Replace(Activity span)
    {
        span.ActivityTraceFlags &= ~ActivityTraceFlags.Recorded;
        var parent = new ActivityContext(span.TraceId, span.ParentSpanId, ActivityTraceFlags.Recorded);
        var current = Activity.Current;
        using var other = Replaced.StartActivity(
            span.OperationName, span.Kind, parent, span.TagObjects, span.Links, span.StartTimeUtc);
        if (other is not null)
        {
            other.DisplayName = span.DisplayName;
            other.SetStatus(span.Status);
            other.SetEndTime(span.StartTimeUtc + span.Duration);
            other.Stop();
        }
        Activity.Current = current;
    }

    [GeneratedRegex("^[a-z]{1,13}_[0-9a-z]{26}$")] private static partial Regex RecordId();
    [GeneratedRegex("^(?:[A-Za-z0-9_-]{16,64}|[a-z]+/[0-9]+/[0-9]+)$")] private static partial Regex RequestId();
    [GeneratedRegex("^[a-z]+/[0-9]+/[0-9]+$")] private static partial Regex EventId();
    [GeneratedRegex("^[A-Za-z0-9._/-]{1,128}$")] private static partial Regex Word();
    [GeneratedRegex("^[A-Za-z0-9 .,;()-]{1,128}$")] private static partial Regex Source();
}
