using System.Collections.Concurrent;
using Google.Protobuf;
using Grpc.Core;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Ministries.Fixtures.Otlp;

namespace Ministries.Fixtures;

/// <summary>Receives spans by OTLP/gRPC as a collector would, and keeps them.</summary>
public sealed class OtlpReceiver : IAsyncDisposable
{
    private readonly WebApplication _host;
    private readonly ConcurrentQueue<ReceivedSpan> _spans;

    private OtlpReceiver(WebApplication host, ConcurrentQueue<ReceivedSpan> spans) => (_host, _spans) = (host, spans);

    /// <summary>The address for <c>OTEL_EXPORTER_OTLP_ENDPOINT</c>.</summary>
    public Uri Endpoint => ServiceSetup.AddressOf(_host);

    /// <summary>The spans so far, in the order of their arrival.</summary>
    public IReadOnlyList<ReceivedSpan> Spans => [.. _spans];

    /// <summary>Starts one at a free port.</summary>
    public static async Task<OtlpReceiver> Start(CancellationToken cancel)
    {
        var builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        builder.WebHost.ConfigureKestrel(kestrel =>
            kestrel.Listen(System.Net.IPAddress.Loopback, 0, o => o.Protocols = HttpProtocols.Http2)
        );
        var spans = new ConcurrentQueue<ReceivedSpan>();
        builder.Services.AddSingleton(spans);
        builder.Services.AddGrpc(o => o.MaxReceiveMessageSize = 64 << 20);
        var host = builder.Build();
        host.MapGrpcService<Traces>();
        await host.StartAsync(cancel);
        return new OtlpReceiver(host, spans);
    }

    /// <summary>Waits until the spans that came satisfy the condition.</summary>
    /// <exception cref="TimeoutException">They do not within the time.</exception>
    public async Task<IReadOnlyList<ReceivedSpan>> WaitFor(
        Func<IReadOnlyList<ReceivedSpan>, bool> condition,
        TimeSpan within,
        CancellationToken cancel
    )
    {
        var end = DateTime.UtcNow + within;
        for (var spans = Spans; ; spans = Spans)
        {
            if (condition(spans))
                return spans;
            if (DateTime.UtcNow > end)
                throw new TimeoutException($"The spans did not come; there are {spans.Count}:\n{Tree(spans)}");
            await Task.Delay(50, cancel);
        }
    }

    /// <summary>The spans as an indented text: a trace begins with its root.</summary>
    public static string Tree(IEnumerable<ReceivedSpan> spans)
    {
        var all = spans.ToList();
        var text = new System.Text.StringBuilder();
        void Write(ReceivedSpan span, int depth)
        {
            text.Append(' ', depth * 2).Append(span.Name).Append("  [").Append(span.Service).Append("]\n");
            foreach (var child in all.Where(s => s.Trace == span.Trace && s.Parent == span.Id).OrderBy(s => s.Start))
                Write(child, depth + 1);
        }
        foreach (var root in all.Where(s => s.Parent.Length == 0 || all.All(p => p.Id != s.Parent)).OrderBy(s => s.Start))
            Write(root, 0);
        return text.ToString();
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync() => await _host.DisposeAsync();

    private sealed class Traces(ConcurrentQueue<ReceivedSpan> spans) : TraceService.TraceServiceBase
    {
        public override Task<ExportTraceServiceResponse> Export(ExportTraceServiceRequest request, ServerCallContext context)
        {
            foreach (var resource in request.ResourceSpans)
            foreach (var span in resource.ScopeSpans.SelectMany(s => s.Spans))
                spans.Enqueue(new ReceivedSpan(resource.Resource, span));
            return Task.FromResult(new ExportTraceServiceResponse());
        }
    }
}

/// <summary>A span as it came.</summary>
/// <param name="resource">The resource that made it.</param>
/// <param name="span">The span.</param>
public sealed class ReceivedSpan(Resource resource, Span span)
{
    /// <summary>The resource's <c>service.name</c>.</summary>
    public string Service { get; } = resource.Attributes.FirstOrDefault(a => a.Key == "service.name")?.Value.StringValue ?? "";

    /// <summary>The name.</summary>
    public string Name => span.Name;

    /// <summary>The trace's id, in hexadecimal.</summary>
    public string Trace { get; } = Hex(span.TraceId);

    /// <summary>The span's id, in hexadecimal.</summary>
    public string Id { get; } = Hex(span.SpanId);

    /// <summary>The parent's id, in hexadecimal; empty: it is a root.</summary>
    public string Parent { get; } = Hex(span.ParentSpanId);

    /// <summary>The start, in nanoseconds since 1970.</summary>
    public ulong Start => span.StartTimeUnixNano;

    /// <summary>The attributes, as text.</summary>
    public IReadOnlyDictionary<string, string> Attributes { get; } =
        span.Attributes.ToDictionary(
            a => a.Key,
            a => a.Value.ValueCase == AnyValue.ValueOneofCase.StringValue ? a.Value.StringValue : a.Value.ToString()
        );

    /// <summary>The links, as trace and span id.</summary>
    public IReadOnlyList<(string Trace, string Span)> Links { get; } = [.. span.Links.Select(l => (Hex(l.TraceId), Hex(l.SpanId)))];

    /// <summary>The whole span with its resource as text, to be searched.</summary>
    public string Everything => $"{resource} {span}";

    /// <summary>The span as it came.</summary>
    public Span Raw => span;

    private static string Hex(ByteString bytes) => Convert.ToHexStringLower(bytes.Span);
}
