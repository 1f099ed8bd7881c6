using System.Diagnostics;
using Ministries.Ledger.V1;

namespace Ministries.Hosting.Bus;

/// <summary>The spans of messages, named after what happens: <c>publish</c>, <c>process</c>, <c>set-aside</c> (an event becomes a dead
/// letter), <c>broker-outage</c> (an event waits for the broker between its commit and its publish).</summary>
internal static class Tracing
{
    internal static readonly ActivitySource Source = new(Telemetry.Source);

    /// <summary>Begins a span whose parent is the span that the event's trace context names; if it names none, a root span. The current
    /// span never becomes the parent.</summary>
    internal static Activity? Start(
        string name,
        ActivityKind kind,
        RecordedEvent recorded,
        DateTimeOffset begin = default,
        IEnumerable<ActivityLink>? links = null
    )
    {
        ActivityContext.TryParse(recorded.Traceparent, recorded.Tracestate, isRemote: true, out var parent);
        Activity.Current = null;
        return Source.StartActivity(name, kind, parent, links: links, startTime: begin);
    }

    internal static void Describe(Activity? span, RecordedEvent recorded, string operation)
    {
        if (span is null)
            return;
        span.SetTag("messaging.system", "rabbitmq");
        span.SetTag("messaging.operation.name", operation);
        span.SetTag("messaging.operation.type", operation == "publish" ? "send" : "process");
        span.SetTag("messaging.destination.name", recorded.Event.Type);
        span.SetTag("messaging.message.id", EventTypes.IdOf(recorded.Origin));
        span.SetTag("ministries.cause", EventTypes.IdOf(recorded.Origin));
        if (recorded.Event.Case.Length > 0)
            span.SetTag("ministries.case", recorded.Event.Case);
    }

    /// <summary>Marks the span as failed and says why: by a refusal reason's name or an error's type, never by its text.</summary>
    internal static void Fail(this Activity? span, string? reason, Exception? error)
    {
        if (span is null)
            return;
        span.SetStatus(ActivityStatusCode.Error);
        if (reason is not null)
            span.SetTag("ministries.refusal", reason);
        if (error is not null)
            span.SetTag("error.type", error.GetType().Name);
    }
}
