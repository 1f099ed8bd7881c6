using System.Diagnostics;
using Ministries.Ledger.V1;

namespace Ministries.Hosting.Bus;

/// <summary>The spans of messages.</summary>
internal static class Tracing
{
    internal static readonly ActivitySource Source = new(Telemetry.Source);

    internal static void Describe(Activity? span, RecordedEvent recorded, string operation)
    {
        if (span is null) return;
        span.SetTag("messaging.system", "rabbitmq");
        span.SetTag("messaging.operation.name", operation);
        span.SetTag("messaging.operation.type", operation == "publish" ? "send" : "process");
        span.SetTag("messaging.destination.name", recorded.Event.Type);
        span.SetTag("messaging.message.id", EventTypes.IdOf(recorded.Origin));
        span.SetTag("ministries.cause", EventTypes.IdOf(recorded.Origin));
        if (recorded.Event.Case.Length > 0) span.SetTag("ministries.case", recorded.Event.Case);
    }
}
