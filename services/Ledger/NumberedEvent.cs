using System.Globalization;
using Google.Protobuf;
using Ministries.Ledger.V1;

namespace Ministries.Ledger;

/// <summary>An event in the order in which the service publishes.</summary>
/// <param name="Number">Its number among all events that the service publishes, from 1 without gaps.</param>
/// <param name="Event">The event with all that a message about it carries.</param>
public sealed record NumberedEvent(ulong Number, RecordedEvent Event)
{
    /// <summary>A time as a <see cref="RecordedEvent"/> says it: RFC 3339, UTC, no more digits than it needs.</summary>
    public static string TimeText(DateTimeOffset time) =>
        time.UtcDateTime.ToString("yyyy-MM-ddTHH:mm:ss.FFFFFFFZ", CultureInfo.InvariantCulture);

    internal static NumberedEvent Of(
        string service,
        ulong number,
        ulong sequence,
        ulong position,
        int index,
        Event @event,
        string time,
        byte[] leaf,
        string traceParent,
        string traceState
    ) =>
        new(
            number,
            new RecordedEvent
            {
                Origin = new EventOrigin
                {
                    Service = service,
                    Position = position,
                    Index = (uint)index,
                    Type = @event.Type,
                    Sequence = sequence,
                },
                Event = @event,
                Time = time,
                Leaf = UnsafeByteOperations.UnsafeWrap(leaf),
                Traceparent = traceParent,
                Tracestate = traceState,
            }
        );
}
