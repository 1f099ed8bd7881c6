using System.Buffers;
using System.Collections.Frozen;
using System.Diagnostics;
using System.Text.Json;
using OpenTelemetry;
using OpenTelemetry.Context.Propagation;
using OpenTelemetry.Exporter;
using OpenTelemetry.Trace;
using StatusCode = Grpc.Core.StatusCode;

namespace Ministries.Serving;

/// <summary>Exports the spans of a service or of a gateway. Only attributes on a list leave the process.</summary>
public static class SpanExport
{
    /// <summary>The name of the activity source of every span that this project makes itself: calls, <c>commit</c>, <c>publish</c>,
    /// <c>process</c>, <c>outbox</c> and batches.</summary>
    public const string Source = "Ministries";

    /// <summary>The header by which a caller says that its spans are found where the called service's are. The service's span is then a
    /// child of the caller's, and not a link to it.</summary>
    public const string Continues = "ministries-trace";

    // How many spans may wait for the collector, about 1 KiB each (more are dropped), and how many are sent at once.
    private const int MaxQueuedSpans = 16_384,
        SpansAtOnce = 2048;

    /// <summary>Selects the spans that are made and the attributes that they keep. Every trace is recorded, even if the caller did not
    /// record it, because the volume is small and somebody may ask about a case years later.</summary>
    /// <param name="traces">The builder; exporters are added to it afterwards.</param>
    public static TracerProviderBuilder Select(TracerProviderBuilder traces) =>
        traces.SetSampler(new AlwaysOnSampler()).AddSource(Source).AddProcessor(new AllowList());

    /// <summary>Sends what is selected to a collector by OTLP/gRPC, at most a second later. At most 16,384 spans wait for it; more are
    /// dropped.
    /// </summary>
    /// <param name="traces">The builder, after <see cref="Select"/>.</param>
    /// <param name="name">Whose spans are sent: a service's name, or <c>gateway-</c> and a participant.</param>
    /// <param name="endpoint">The collector.</param>
    public static TracerProviderBuilder To(TracerProviderBuilder traces, string name, Uri endpoint)
    {
        // Libraries use this propagator. It reads and writes no baggage.
        Sdk.SetDefaultTextMapPropagator(new TraceContextPropagator());
        var otlp = new OtlpExporterOptions { Endpoint = endpoint, Protocol = OtlpExportProtocol.Grpc };
        return traces.AddProcessor(_ => new Own(
            name,
            new BatchActivityExportProcessor(
                new OtlpTraceExporter(otlp),
                MaxQueuedSpans,
                scheduledDelayMilliseconds: 1000,
                maxExportBatchSize: SpansAtOnce
            )
        ));
    }

    /// <summary>The service or gateway that made a span; null: the span does not say.</summary>
    public static string? ServiceOf(Activity span)
    {
        var text = span.OperationName.StartsWith(CallOf, StringComparison.Ordinal) ? span.OperationName : span.DisplayName;
        if (text.IndexOf(' ') is not (> 0 and var space))
            return null;
        var rest = text[(space + 1)..];
        return text.AsSpan(0, space) switch
        {
            "call" or "commit" or "batch" or "broker-outage" or "outbox" => rest,
            "publish" when rest.Split('.') is ["ministries", var service, ..] => service,
            "process"
            or "set-aside" when (span.GetTagItem("messaging.consumer.group.name") as string)?.Split('.') is ["ministries", var service] =>
                service,
            _ => null,
        };
    }

    private const string CallOf = "call ";

    /// <summary>The operation name of a call's span. It holds who was called, while the span's display name is the RPC.</summary>
    public static string OperationOf(string name) => CallOf + name;

    // Several services may run in one process, and each gets every span. It exports its own spans and those that do not say whose they are.
    private sealed class Own(string name, BaseProcessor<Activity> export) : CompositeProcessor<Activity>([export])
    {
        public override void OnEnd(Activity span)
        {
            if ((ServiceOf(span) ?? name) == name)
                base.OnEnd(span);
        }
    }
}

/// <summary>
/// The last step before export. It names RPC spans, and drops events, status texts and every attribute that is not on the list or does not
/// have the form that the list prescribes. So attributes that a library attaches never leave the process, and no prisoner's reference does
/// (D16): a record's id has another form than a reference.
/// </summary>
internal sealed class AllowList : BaseProcessor<Activity>
{
    /// <summary>The attributes that may leave, and the form that a text must have; null: any.</summary>
    private static readonly FrozenDictionary<string, Func<string, bool>?> Allowed = new Dictionary<string, Func<string, bool>?>
    {
        ["ministries.case"] = IsRecordId,
        ["ministries.record"] = IsRecordId,
        ["ministries.request_id"] = IsRequestId,
        ["ministries.participant"] = IsWord,
        ["ministries.method"] = IsWord,
        ["ministries.position"] = null,
        ["ministries.cause"] = IsEventId,
        ["ministries.refusal"] = IsWord,
        ["ministries.article"] = IsSource,
        ["ministries.repeated"] = IsWord,
        ["ministries.redelivered"] = IsWord,
        ["ministries.replayed"] = IsWord,
        ["ministries.filled"] = IsWord,
        ["ministries.attempt"] = IsWord,
        ["db.operation.batch.size"] = null,
        ["rpc.system.name"] = null,
        ["rpc.method"] = IsWord,
        ["rpc.response.status_code"] = IsWord,
        ["messaging.system"] = null,
        ["messaging.operation.name"] = null,
        ["messaging.operation.type"] = null,
        ["messaging.destination.name"] = IsWord,
        ["messaging.consumer.group.name"] = IsWord,
        ["messaging.message.id"] = IsEventId,
        ["db.system.name"] = null,
        ["db.response.status_code"] = null,
        ["error.type"] = IsWord,
        ["server.address"] = null,
        ["server.port"] = null,
    }.ToFrozenDictionary();

    private static readonly ActivitySource Replaced = new(SpanExport.Source);

    public override void OnEnd(Activity span)
    {
        if (!span.Recorded)
            return;
        if (span.Source.Name is "Grpc.Net.Client" or "OpenTelemetry.Instrumentation.GrpcNetClient")
            NameByMethod(span);
        List<string>? dropped = null;
        foreach (ref readonly var tag in span.EnumerateTagObjects())
            if (!Allowed.TryGetValue(tag.Key, out var form) || tag.Value is string text && form?.Invoke(text) == false)
                (dropped ??= []).Add(tag.Key);
        foreach (var key in dropped ?? [])
            span.SetTag(key, null);
        if (span.StatusDescription is not null)
            span.SetStatus(span.Status);
        if (span.EnumerateEvents().GetEnumerator().MoveNext())
            Replace(span);
    }

    private static void NameByMethod(Activity span)
    {
        // Where several services run in one process, each has this processor, and the first one has named the span.
        if (span.GetTagItem("rpc.system.name") is "grpc")
            return;
        var known = span.GetTagItem("grpc.method") as string;
        var status = span.GetTagItem("grpc.status_code") as string;
        span.DisplayName = known?.TrimStart('/') ?? "_OTHER";
        span.SetTag("rpc.system.name", "grpc");
        span.SetTag("rpc.method", span.DisplayName);
        if (int.TryParse(status, out var code))
            span.SetTag("rpc.response.status_code", JsonNamingPolicy.SnakeCaseUpper.ConvertName($"{(StatusCode)code}"));
    }

    // Events cannot be taken off a span. The spans that have any are a library's (a database command that failed) and have no
    // children, so one without events takes its place.
    private static void Replace(Activity span)
    {
        span.ActivityTraceFlags &= ~ActivityTraceFlags.Recorded;
        var parent = new ActivityContext(span.TraceId, span.ParentSpanId, ActivityTraceFlags.Recorded);
        var current = Activity.Current;
        using var other = Replaced.StartActivity(span.OperationName, span.Kind, parent, span.TagObjects, span.Links, span.StartTimeUtc);
        if (other is not null)
        {
            other.DisplayName = span.DisplayName;
            other.SetStatus(span.Status);
            other.SetEndTime(span.StartTimeUtc + span.Duration);
            other.Stop();
        }
        Activity.Current = current;
    }

    private static readonly SearchValues<char> Word = SearchValues.Create(
            "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._/-"
        ),
        Sources = SearchValues.Create("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789 .,;()-"),
        Base64Url = SearchValues.Create("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"),
        Id = SearchValues.Create("abcdefghijklmnopqrstuvwxyz0123456789"),
        Lower = SearchValues.Create("abcdefghijklmnopqrstuvwxyz"),
        Digits = SearchValues.Create("0123456789");

    private static bool IsWord(string text) => text.Length is >= 1 and <= 128 && Only(text, Word);

    private static bool IsSource(string text) => text.Length is >= 1 and <= 128 && Only(text, Sources);

    // A kind of up to 13 letters, an underscore, 26 characters of base 32.
    private static bool IsRecordId(string text) =>
        text.Length is >= 28 and <= 40
        && text[^27] == '_'
        && Only(text.AsSpan(0, text.Length - 27), Lower)
        && Only(text.AsSpan(text.Length - 26), Id);

    private static bool IsRequestId(string text) => text.Length is >= 16 and <= 64 && Only(text, Base64Url) || IsEventId(text);

    // A service, a position and an index.
    private static bool IsEventId(string text)
    {
        var (first, last) = (text.IndexOf('/'), text.LastIndexOf('/'));
        return first > 0
            && last > first + 1
            && last < text.Length - 1
            && Only(text.AsSpan(0, first), Lower)
            && Only(text.AsSpan(first + 1, last - first - 1), Digits)
            && Only(text.AsSpan(last + 1), Digits);
    }

    private static bool Only(ReadOnlySpan<char> text, SearchValues<char> allowed) => text.IndexOfAnyExcept(allowed) < 0;
}
