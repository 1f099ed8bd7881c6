using System.Collections;
using Google.Protobuf;
using Google.Protobuf.Reflection;
using Google.Protobuf.WellKnownTypes;

namespace Ministries.Client;

/// <summary>Makes any message writable as JSON or in words. Sealed content and a service's own texts were checked by nobody, so they may
/// hold an impossible time. A formatter would throw at that time, and the rest of the message could not be read either.
/// </summary>
internal static class Printable
{
    /// <summary>A time as a .NET value; null: there is no time, or it is impossible.</summary>
    public static DateTimeOffset? At(Timestamp? time) => time is not null && IsTime(time) ? time.ToDateTimeOffset() : null;

    /// <summary>Whether a duration can be written: at most 10,000 years, with nanoseconds of the same sign.</summary>
    public static bool IsDuration(Duration duration) =>
        duration is { Seconds: >= -315_576_000_000 and <= 315_576_000_000, Nanos: >= -999_999_999 and <= 999_999_999 }
        && Math.Sign(duration.Seconds) * Math.Sign(duration.Nanos) >= 0;

    /// <summary>A message without its impossible times and durations. <see cref="MinistryClient.FaultsOf"/> names them in the original
    /// message.</summary>
    /// <param name="message">The message. It is not changed.</param>
    /// <returns>The message itself, or a copy without such times and durations.</returns>
    public static IMessage Of(IMessage message)
    {
        if (!Clear(message, only: true))
            return message;
        var copy = message.Descriptor.Parser.ParseFrom(message.ToByteString());
        Clear(copy, only: false);
        return copy;
    }

    // From the year 1 to 9999, with nanoseconds of a second.
    private static bool IsTime(Timestamp time) =>
        time is { Seconds: >= -62_135_596_800 and <= 253_402_300_799, Nanos: >= 0 and <= 999_999_999 };

    // Clears impossible times and durations, and returns whether there were any. If `only` is true, it only looks for them.
    private static bool Clear(IMessage message, bool only)
    {
        var found = false;
        foreach (var field in message.Descriptor.Fields.InDeclarationOrder())
        {
            if ((field.IsMap ? field.MessageType.FindFieldByNumber(2) : field).FieldType != FieldType.Message)
                continue;
            var value = field.Accessor.GetValue(message);
            if (value is IDictionary pairs)
                foreach (var key in pairs.Keys.Cast<object>().ToList())
                    found |= One((IMessage)pairs[key]!, only, () => pairs.Remove(key));
            else if (value is IList items)
                for (var i = items.Count - 1; i >= 0; i--)
                {
                    var at = i;
                    found |= One((IMessage)items[at]!, only, () => items.RemoveAt(at));
                }
            else if (value is IMessage inner)
                found |= One(inner, only, () => field.Accessor.Clear(message));
        }
        return found;
    }

    private static bool One(IMessage value, bool only, Action clear)
    {
        if (value is Timestamp time ? IsTime(time) : value is Duration duration && IsDuration(duration))
            return false;
        if (value is not (Timestamp or Duration))
            return Clear(value, only);
        if (!only)
            clear();
        return true;
    }
}
