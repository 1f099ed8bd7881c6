using System.Collections.Concurrent;
using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
using Ministries.Hosting;
using Ministries.Serving;
using OpenTelemetry;
using OpenTelemetry.Trace;

namespace Ministries.Local;

/// <summary>The spans of all three services: collected in this process as they would be exported, or fetched from Jaeger.</summary>
public sealed class Spans : IDisposable
{
    // By span id: Jaeger may return a span more than once.
    private readonly ConcurrentDictionary<string, EndedSpan> _ended = [];
    private readonly TracerProvider? _provider;
    private readonly HttpClient? _jaeger;

    private sealed record EndedSpan(
        string Trace,
        string Span,
        string? Parent,
        string Name,
        string? Service,
        DateTime Start,
        double Milliseconds,
        IReadOnlyDictionary<string, string> Attributes,
        IReadOnlyList<(string Trace, string Span)> Links
    );

    /// <summary>Collects the spans of this process.</summary>
    public Spans() =>
        _provider = Telemetry
            .Traces(Sdk.CreateTracerProviderBuilder())
            .AddProcessor(new SimpleActivityExportProcessor(new SpanExporter(this)))
            .Build();

    /// <summary>Asks Jaeger for the spans of services that run elsewhere.</summary>
    /// <param name="jaeger">Its query address, such as <c>http://127.0.0.1:16686</c>.</param>
    public Spans(Uri jaeger) => _jaeger = new HttpClient { BaseAddress = jaeger, Timeout = TimeSpan.FromSeconds(10) };

    /// <summary>Fetches the spans of a request from Jaeger. Spans of this process are collected as they end.</summary>
    /// <param name="requestId">The request whose trace is wanted.</param>
    /// <param name="cancel">Ends it.</param>
    public async Task Fetch(string requestId, CancellationToken cancel)
    {
        if (_jaeger is null)
            return;
        var tags = Uri.EscapeDataString(JsonSerializer.Serialize(new Dictionary<string, string> { ["ministries.request_id"] = requestId }));
        foreach (var service in Participants.Services)
        {
            var address = new Uri($"/api/traces?service={service}&tags={tags}&limit=20&lookback=1h", UriKind.Relative);
            using var answer = JsonDocument.Parse(await _jaeger.GetStringAsync(address, cancel));
            foreach (var trace in answer.RootElement.GetProperty("data").EnumerateArray())
            foreach (var span in trace.GetProperty("spans").EnumerateArray())
                Add(Read(trace, span));
        }
    }

    /// <summary>The trace of a call, by its request id; null: not seen. It is the trace in which the service answered, because a gateway
    /// that is asked again begins another.</summary>
    public string? TraceOf(string requestId) =>
        _ended
            .Values.FirstOrDefault(s =>
                s.Name.Contains('/')
                && Participants.Services.Contains(s.Service)
                && s.Attributes.GetValueOrDefault("ministries.request_id") == requestId
            )
            ?.Trace;

    /// <summary>The links from one trace to another, without those to a batch's own trace.</summary>
    public IReadOnlyList<TraceLink> Links() =>
        [
            .. _ended
                .Values.SelectMany(s => s.Links.Select(l => (Span: s, Cause: _ended.GetValueOrDefault(l.Span), l.Trace)))
                .Where(l => l.Trace != l.Span.Trace && l.Cause?.Name.StartsWith("batch ", StringComparison.Ordinal) != true)
                .Select(l => new TraceLink(l.Span.Name, l.Span.Trace, l.Trace, l.Cause?.Name)),
        ];

    /// <summary>The spans of a trace, a parent before its children, children by their start.</summary>
    /// <param name="trace">The trace's id, in hexadecimal.</param>
    public IReadOnlyList<TraceSpan> Trace(string trace)
    {
        var spans = _ended.Values.Where(s => s.Trace == trace).OrderBy(s => s.Start).ToList();
        var shown = new List<TraceSpan>();
        if (spans.Count == 0)
            return shown;
        var known = spans.Select(s => s.Span).ToHashSet();
        var start = spans[0].Start;
        foreach (var root in spans.Where(s => s.Parent is null || !known.Contains(s.Parent)))
            AddBranch(root, 0, "");
        return shown;

        void AddBranch(EndedSpan span, int depth, string around)
        {
            var children = spans.Where(s => s.Parent == span.Span).ToList();
            var service = span.Service ?? children.Select(s => s.Service).FirstOrDefault(s => s is not null) ?? around;
            shown.Add(
                new TraceSpan(
                    trace,
                    span.Name,
                    depth,
                    span.Span,
                    span.Parent,
                    service,
                    (span.Start - start).TotalMilliseconds,
                    span.Milliseconds,
                    span.Attributes
                )
            );
            foreach (var child in children)
                AddBranch(child, depth + 1, service);
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _provider?.Dispose();
        _jaeger?.Dispose();
    }

    private void Add(EndedSpan span) => _ended[span.Span] = span;

    private static EndedSpan Read(JsonElement trace, JsonElement span)
    {
        var id = span.GetProperty("traceID").GetString()!;
        var references = span.GetProperty("references")
            .EnumerateArray()
            .Select(r =>
                (
                    Type: r.GetProperty("refType").GetString(),
                    Trace: r.GetProperty("traceID").GetString()!,
                    Span: r.GetProperty("spanID").GetString()!
                )
            )
            .ToList();
        return new EndedSpan(
            id,
            span.GetProperty("spanID").GetString()!,
            references.FirstOrDefault(r => r.Type == "CHILD_OF" && r.Trace == id).Span,
            span.GetProperty("operationName").GetString()!,
            trace.GetProperty("processes").GetProperty(span.GetProperty("processID").GetString()!).GetProperty("serviceName").GetString(),
            DateTime.UnixEpoch.AddMicroseconds(span.GetProperty("startTime").GetInt64()),
            span.GetProperty("duration").GetInt64() / 1000.0,
            span.GetProperty("tags")
                .EnumerateArray()
                .GroupBy(t => t.GetProperty("key").GetString()!)
                .ToDictionary(t => t.Key, t => t.First().GetProperty("value").ToString()),
            [.. references.Where(r => r.Type == "FOLLOWS_FROM").Select(r => (r.Trace, r.Span))]
        );
    }

    private sealed class SpanExporter(Spans spans) : BaseExporter<Activity>
    {
        public override ExportResult Export(in Batch<Activity> batch)
        {
            foreach (var span in batch)
                spans.Add(
                    new EndedSpan(
                        span.TraceId.ToHexString(),
                        span.SpanId.ToHexString(),
                        span.ParentSpanId == default ? null : span.ParentSpanId.ToHexString(),
                        span.DisplayName,
                        SpanExport.ServiceOf(span),
                        span.StartTimeUtc,
                        span.Duration.TotalMilliseconds,
                        span.TagObjects.ToDictionary(t => t.Key, t => Convert.ToString(t.Value, CultureInfo.InvariantCulture) ?? ""),
                        [.. span.Links.Select(l => (l.Context.TraceId.ToHexString(), l.Context.SpanId.ToHexString()))]
                    )
                );
            return ExportResult.Success;
        }
    }
}
