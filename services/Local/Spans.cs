using System.Collections.Concurrent;
using System.Diagnostics;
using Ministries.Hosting;
using OpenTelemetry;
using OpenTelemetry.Trace;

namespace Ministries.Local;

/// <summary>The spans of all three services, as they would be exported, kept in this process.</summary>
public sealed class Spans : IDisposable
{
    private readonly ConcurrentQueue<Activity> _ended = [];
    private readonly TracerProvider _provider;

    /// <summary>Begins to collect.</summary>
    public Spans() => _provider = Telemetry.Traces(Sdk.CreateTracerProviderBuilder())
        .AddProcessor(new SimpleActivityExportProcessor(new Keeper(_ended))).Build();

    /// <summary>What has ended so far.</summary>
    public IReadOnlyList<Activity> Ended => [.. _ended];

    /// <summary>The trace of a call, by its request id; null: not seen.</summary>
    public string? TraceOf(string requestId) => _ended
        .FirstOrDefault(s => s.Kind == ActivityKind.Server && s.GetTagItem("ministries.request_id") as string == requestId)?.TraceId.ToHexString();

    /// <summary>The links from one trace to another; a batch's own trace is left out.</summary>
    public IReadOnlyList<TraceLink> Links()
    {
        var names = _ended.ToLookup(s => s.SpanId);
        return
        [
            .. _ended.SelectMany(s => s.Links.Select(l => (Span: s, l.Context)))
                .Where(l => l.Context.TraceId != l.Span.TraceId && names[l.Context.SpanId].All(s => !s.DisplayName.StartsWith("batch ", StringComparison.Ordinal)))
                .Select(l => new TraceLink(
                    l.Span.DisplayName, l.Span.TraceId.ToHexString(), l.Context.TraceId.ToHexString(),
                    names[l.Context.SpanId].FirstOrDefault()?.DisplayName)),
        ];
    }

    /// <summary>The spans of a trace, a parent before its children, children by their start.</summary>
    /// <param name="trace">The trace's id, in hexadecimal.</param>
    public IReadOnlyList<TraceSpan> Trace(string trace)
    {
        var spans = _ended.Where(s => s.TraceId.ToHexString() == trace).OrderBy(s => s.StartTimeUtc).ToList();
        var shown = new List<TraceSpan>();
        if (spans.Count == 0) return shown;
        var known = spans.Select(s => s.SpanId).ToHashSet();
        var start = spans[0].StartTimeUtc;
        foreach (var root in spans.Where(s => !known.Contains(s.ParentSpanId))) Add(root, 0, "");
        return shown;

        void Add(Activity span, int depth, string around)
        {
            var children = spans.Where(s => s.ParentSpanId == span.SpanId).ToList();
            var service = Telemetry.ServiceOf(span) ?? children.Select(Telemetry.ServiceOf).FirstOrDefault(s => s is not null) ?? around;
            shown.Add(new TraceSpan(
                trace, span.DisplayName, depth, span.SpanId.ToHexString(),
                span.ParentSpanId == default ? null : span.ParentSpanId.ToHexString(), service,
                (span.StartTimeUtc - start).TotalMilliseconds, span.Duration.TotalMilliseconds,
                span.TagObjects.ToDictionary(t => t.Key, t => $"{t.Value}")));
            foreach (var child in children) Add(child, depth + 1, service);
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _provider.Dispose();

    private sealed class Keeper(ConcurrentQueue<Activity> ended) : BaseExporter<Activity>
    {
        public override ExportResult Export(in Batch<Activity> batch)
        {
            foreach (var span in batch) ended.Enqueue(span);
            return ExportResult.Success;
        }
    }
}
