using System.Diagnostics;
using Microsoft.Extensions.DependencyInjection;
using Ministries.Serving;
using OpenTelemetry.Exporter;
using OpenTelemetry.Metrics;
using OpenTelemetry.Resources;
using OpenTelemetry.Trace;

namespace Ministries.Hosting;

/// <summary>Exports a service's traces and metrics. Only attributes on a list leave the process.</summary>
public static class Telemetry
{
    /// <summary>The name of the meter and of the activity source of a service.</summary>
    public const string Source = SpanExport.Source;

    /// <summary>Exports a service's traces and metrics by OTLP/gRPC where the settings name an endpoint, and lets Prometheus read its
    /// metrics where they name a listener for it.</summary>
    /// <param name="services">The service's services.</param>
    /// <param name="service">The service's name: the resource's <c>service.name</c>.</param>
    /// <param name="settings">The settings.</param>
    public static void Add(IServiceCollection services, string service, Settings settings)
    {
        services.AddSingleton<DistributedContextPropagator>(new Boundary(collects: settings.Otlp is not null));
        if (settings.Otlp is null && settings.Metrics is null)
            return;
        services.AddHostedService<Vitals>();
        services
            .AddOpenTelemetry()
            .ConfigureResource(resource => resource.Clear().AddService(service))
            .WithMetrics(metrics =>
            {
                Metrics.Read(metrics);
                if (settings.Otlp is { } endpoint)
                    metrics.AddOtlpExporter(o => (o.Endpoint, o.Protocol) = (endpoint, OtlpExportProtocol.Grpc));
                if (settings.Metrics is not null)
                    metrics.AddPrometheusExporter(o => o.ScopeInfoEnabled = o.TargetInfoEnabled = false);
            });
        if (settings.Otlp is { } collector)
            services.AddOpenTelemetry().WithTracing(traces => SpanExport.To(Traces(traces), service, collector));
    }

    /// <summary>Selects the spans of a service, of its calls and of its database, and the attributes that they keep.</summary>
    /// <param name="traces">The builder; exporters are added to it afterwards.</param>
    public static TracerProviderBuilder Traces(TracerProviderBuilder traces) =>
        SpanExport
            .Select(traces)
            .AddSource("Npgsql")
            .AddGrpcClientInstrumentation(options => options.SuppressDownstreamInstrumentation = true);
}

/// <summary>
/// Where a trace begins: with a participant's call. The participant's own spans are in another collector, where a parent could not be
/// found. So its span is linked instead. A call between services continues its trace, and so does a call of a participant that says that it
/// shares the collector. Where nobody collects spans, each call continues its caller's trace. Every caller's tracestate and baggage are
/// dropped: they may be any text, and the ledger and the messages would keep it.
/// </summary>
/// <param name="collects">Whether spans are exported.</param>
internal sealed class Boundary(bool collects) : DistributedContextPropagator
{
    private static readonly DistributedContextPropagator W3C = CreateW3CPropagator();

    public override IReadOnlyCollection<string> Fields => W3C.Fields;

    public override void Inject(Activity? activity, object? carrier, PropagatorSetterCallback? setter) =>
        W3C.Inject(activity, carrier, setter);

    public override void ExtractTraceIdAndState(
        object? carrier,
        PropagatorGetterCallback? getter,
        out string? traceId,
        out string? traceState
    )
    {
        (traceId, traceState) = (null, null);
        string? continues = null;
        getter?.Invoke(carrier, SpanExport.Continues, out continues, out _);
        if (continues is not null || !collects)
            W3C.ExtractTraceIdAndState(carrier, getter, out traceId, out _);
    }

    public override IEnumerable<KeyValuePair<string, string?>>? ExtractBaggage(object? carrier, PropagatorGetterCallback? getter) => null;
}
