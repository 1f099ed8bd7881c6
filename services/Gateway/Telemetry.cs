using System.Diagnostics;
using System.Diagnostics.Metrics;
using System.Net;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using OpenTelemetry.Metrics;

namespace Ministries.Gateway;

/// <summary>What the gateway measures, and the caller's trace. No label names a case, a record, a request or a person (D16).</summary>
internal static class Telemetry
{
    /// <summary>The name of the gateway's meter.</summary>
    public const string Meter = "Ministries.Gateway";

    /// <summary>Goes on with the caller's trace (W3C <c>traceparent</c>), whether or not the web server makes a span.</summary>
    public static async Task Trace(HttpContext http, RequestDelegate next)
    {
        if (Activity.Current is not null)
        {
            await next(http);
            return;
        }
        using var span = new Activity("gateway");
        if (
            (string?)http.Request.Headers.TraceParent is { } parent
            && ActivityContext.TryParse(parent, http.Request.Headers.TraceState, out var context)
        )
        {
            span.SetParentId(context.TraceId, context.SpanId, context.TraceFlags);
            span.TraceStateString = context.TraceState;
        }
        span.Start();
        await next(http);
    }
}

/// <summary>Serves the gateway's metrics to Prometheus, at a listener of their own that serves nothing else. It has neither TLS nor callers'
/// identities, so it belongs within the ministry's own network.</summary>
internal sealed class MetricsBeside(GatewaySettings settings, Outbox outbox, Mirror mirror, Webhooks webhooks, TimeProvider time)
    : IHostedService,
        IAsyncDisposable
{
    private Meter? _meter;
    private WebApplication? _host;

    /// <inheritdoc/>
    public Task StartAsync(CancellationToken cancellationToken)
    {
        _meter = new Meter(Telemetry.Meter);
        Measure(_meter);
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
            kestrel.Limits.MaxConcurrentConnections = 16;
            kestrel.Limits.MaxRequestBodySize = 0;
            var at = settings.Metrics!;
            kestrel.Listen(
                IPAddress.TryParse(at.Host.Trim('[', ']'), out var address) ? address : IPAddress.Loopback,
                at.Port,
                listen => listen.Protocols = HttpProtocols.Http1
            );
        });
        _host = builder.Build();
        _host.UseOpenTelemetryPrometheusScrapingEndpoint("/metrics");
        return _host.StartAsync(cancellationToken);
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
            () => outbox.Waiting,
            description: "Writes that wait for an answer."
        );
        meter.CreateObservableGauge("ministries.gateway.outbox.waiting_bytes", () => outbox.WaitingBytes, description: "Their bytes.");
        meter.CreateObservableGauge(
            "ministries.gateway.outbox.waiting_seconds",
            () => outbox.WaitingSince is { } since ? (time.GetUtcNow() - since).TotalSeconds : 0,
            description: "How long the oldest has waited."
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
            () => webhooks.Waiting.Select(w => new Measurement<long>(w.Value, Of("webhook", w.Key))),
            description: "Events that wait for a webhook."
        );
        meter.CreateObservableGauge("ministries.gateway.dead_letters", () => webhooks.Dead, description: "Events that no webhook took.");
    }

    private static KeyValuePair<string, object?> Of(string label, string value) => new(label, value);
}
