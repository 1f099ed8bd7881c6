using System.Diagnostics;
using System.Diagnostics.Metrics;
using Microsoft.AspNetCore.Authorization;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Ministries.Serving;
using OpenTelemetry.Metrics;
using OpenTelemetry.Resources;

namespace Ministries.Gateway;

/// <summary>What the gateway measures, and its spans. No label names a case, a record, a request or a person (D16).</summary>
internal static class Telemetry
{
    /// <summary>The name of the gateway's meter.</summary>
    public const string Meter = "Ministries.Gateway";

    private static readonly ActivitySource Source = new(SpanExport.Source);

    /// <summary>The name by which its spans are found, such as <c>gateway-kr-mfa</c>.</summary>
    public static string NameOf(GatewaySettings settings) => $"gateway-{settings.Participant.Replace('/', '-')}";

    /// <summary>Exports the gateway's spans where the settings name a collector.</summary>
    public static void Add(IServiceCollection services, GatewaySettings settings)
    {
        if (settings.Otlp is { } collector)
            services
                .AddOpenTelemetry()
                .ConfigureResource(resource => resource.Clear().AddService(NameOf(settings)))
                .WithTracing(traces => SpanExport.To(SpanExport.Select(traces), NameOf(settings), collector));
    }

    /// <summary>Begins the span of each RPC that is let in. It goes on with the caller's trace (W3C <c>traceparent</c>). What else the
    /// caller says of it, in <c>tracestate</c> and baggage, may be any text, so it goes no further.</summary>
    public static async Task Trace(GatewaySettings settings, HttpContext http, RequestDelegate next)
    {
        if (http.GetEndpoint()?.Metadata.GetMetadata<IAuthorizeData>()?.Policy is not { } rpc || Contract.Find(rpc) is null)
        {
            await next(http);
            return;
        }
        using var span = Begin(SpanExport.OperationOf(NameOf(settings)), ActivityKind.Server, http.Request.Headers.TraceParent);
        span.DisplayName = rpc;
        span.SetTag("rpc.method", rpc);
        span.SetTag("ministries.participant", settings.Participant);
        await next(http);
    }

    /// <summary>Begins the span of a write on its way to its service. The caller's span may have ended long ago, or before a
    /// restart.</summary>
    public static Activity Outbox(GatewaySettings settings, OutboxItem item)
    {
        var span = Begin($"outbox {NameOf(settings)}", ActivityKind.Internal, item.Trace);
        span.SetTag("ministries.method", item.Method);
        Makes(item.RequestId);
        return span;
    }

    /// <summary>Notes in the span of the call which write it makes. Anything but a UUID may be a caller's words.</summary>
    public static void Makes(string requestId)
    {
        if (Guid.TryParseExact(requestId, "D", out _))
            Activity.Current?.SetTag("ministries.request_id", requestId);
    }

    /// <summary>Notes in the span of the call why it was refused.</summary>
    public static void Refused(string? reason)
    {
        if (reason is not null)
            Activity.Current?.SetTag("ministries.refusal", reason);
    }

    // Where nobody collects spans, the trace still goes on: the ledger keeps the trace context of each entry.
    private static Activity Begin(string name, ActivityKind kind, string? traceparent)
    {
        ActivityContext.TryParse(traceparent, null, isRemote: true, out var parent);
        // Without a parent the span is a root, not a child of what is current here.
        Activity.Current = null;
        if (Source.StartActivity(name, kind, parent) is { } recorded)
            return recorded;
        var span = new Activity(name);
        if (parent != default)
            span.SetParentId(parent.TraceId, parent.SpanId, parent.TraceFlags);
        return span.Start();
    }
}

/// <summary>Writes the trace context of a call to a service: of the gateway's own span, because those that the framework makes for a
/// connection are not exported. Where the gateway shares the services' collector, the service's span is a child of it.</summary>
internal sealed class OwnSpans(GatewaySettings settings) : DistributedContextPropagator
{
    private readonly bool _continues = settings is { SharesCollector: true, Otlp: not null };

    /// <inheritdoc/>
    public override IReadOnlyCollection<string> Fields => ["traceparent", SpanExport.Continues];

    /// <inheritdoc/>
    public override void Inject(Activity? activity, object? carrier, PropagatorSetterCallback? setter)
    {
        var span = activity;
        while (span is not null && span.Source.Name != SpanExport.Source)
            span = span.Parent;
        // Without a collector there are no own spans, and the trace goes on all the same. What the mirror reads is no step of a case.
        if ((span ?? (settings.Otlp is null ? activity : null))?.Id is { } id)
            setter?.Invoke(carrier, "traceparent", id);
        if (_continues && span is { IsAllDataRequested: true })
            setter?.Invoke(carrier, SpanExport.Continues, "continued");
    }

    /// <inheritdoc/>
    public override void ExtractTraceIdAndState(
        object? carrier,
        PropagatorGetterCallback? getter,
        out string? traceId,
        out string? traceState
    ) => (traceId, traceState) = (null, null);

    /// <inheritdoc/>
    public override IEnumerable<KeyValuePair<string, string?>>? ExtractBaggage(object? carrier, PropagatorGetterCallback? getter) => null;
}

/// <summary>Serves the gateway's metrics to Prometheus, at a listener of their own that serves nothing else. It has neither TLS nor
/// callers' identities, so it belongs within the ministry's own network.</summary>
internal sealed class MetricsBeside(GatewaySettings settings, Outbox outbox, Mirror mirror, Webhooks webhooks, TimeProvider time)
    : IHostedService,
        IAsyncDisposable
{
    /// <summary>How many connections there may be: 16. For one more, the oldest is closed.</summary>
    private const int MaxConnections = 16;

    private Meter? _meter;
    private WebApplication? _host;

    /// <inheritdoc/>
    public Task StartAsync(CancellationToken cancellationToken)
    {
        _meter = new Meter(Telemetry.Meter);
        Measure(_meter);
        var addresses = GatewayHost.AddressesOf(settings.Metrics!);
        var builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        builder
            .Services.AddOpenTelemetry()
            .WithMetrics(metrics =>
                metrics.AddMeter(Telemetry.Meter).AddPrometheusExporter(o => o.ScopeInfoEnabled = o.TargetInfoEnabled = false)
            );
        builder.WebHost.ConfigureKestrel(kestrel =>
        {
            kestrel.AddServerHeader = false;
            kestrel.Limits.MaxRequestBodySize = 0;
            foreach (var at in addresses)
                kestrel.Listen(
                    at,
                    listen =>
                    {
                        listen.Protocols = HttpProtocols.Http1;
                        listen.Use(new StrangersLimit(MaxConnections, MaxConnections).Hold);
                    }
                );
        });
        _host = builder.Build();
        _host.UseOpenTelemetryPrometheusScrapingEndpoint("/metrics");
        return GatewayHost.StartAt(settings.Metrics!, _host, cancellationToken);
    }

    /// <inheritdoc/>
    public Task StopAsync(CancellationToken cancellationToken) => _host?.StopAsync(cancellationToken) ?? Task.CompletedTask;

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        _meter?.Dispose();
        if (_host is not null)
            await _host.DisposeAsync();
    }

    private void Measure(Meter meter)
    {
        meter.CreateObservableGauge(
            "ministries.gateway.outbox.waiting",
            () => outbox.PendingCount,
            description: "Writes that wait for an answer."
        );
        meter.CreateObservableGauge("ministries.gateway.outbox.waiting_bytes", () => outbox.PendingBytes, description: "Their bytes.");
        meter.CreateObservableGauge(
            "ministries.gateway.outbox.waiting_seconds",
            () => outbox.PendingSince is { } since ? (time.GetUtcNow() - since).TotalSeconds : 0,
            description: "How long the oldest has waited."
        );
        meter.CreateObservableGauge(
            "ministries.gateway.outbox.hindered",
            () =>
                outbox.Hindrances.Select(h => new Measurement<int>(
                    h.Writes,
                    [Of("service", h.Service), Of("reason", h.Reason.ToLowerInvariant())]
                )),
            description: "Writes that wait for what somebody must mend, such as the gateway's certificate."
        );
        meter.CreateObservableGauge(
            "ministries.gateway.mirror.alarm",
            () => mirror.Progress.Select(p => new Measurement<int>(p.Alarm.Length > 0 ? 1 : 0, Of("service", p.Service))),
            description: "1 where the mirror of a ledger has stopped for what its service showed."
        );
        meter.CreateObservableGauge(
            "ministries.gateway.mirror.age_seconds",
            () =>
                mirror
                    .Progress.Where(p => p.CheckTime is not null)
                    .Select(p => new Measurement<double>((time.GetUtcNow() - p.CheckTime!.Value).TotalSeconds, Of("service", p.Service))),
            description: "Since when the mirror of a ledger was not known to be complete and right."
        );
        meter.CreateObservableGauge(
            "ministries.gateway.mirror.away",
            () => mirror.Store.Away is null ? 0 : 1,
            description: "1 while the mirror's database cannot be used."
        );
        meter.CreateObservableGauge(
            "ministries.gateway.webhook.waiting",
            () => webhooks.Pending.Select(w => new Measurement<long>(w.Value, Of("webhook", w.Key))),
            description: "Events that wait for a webhook."
        );
        meter.CreateObservableGauge("ministries.gateway.dead_letters", () => webhooks.Dead, description: "Events that no webhook took.");
    }

    private static KeyValuePair<string, object?> Of(string label, string value) => new(label, value);
}
