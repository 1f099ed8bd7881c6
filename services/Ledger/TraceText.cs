namespace Ministries.Ledger;

/// <summary>The trace context of what comes from others (W3C Trace Context). It is not always signed, so it may be anything, and nothing
/// depends on it.</summary>
public static class TraceText
{
    /// <summary>The longest that is kept, in characters: what every party must pass on of a <c>tracestate</c> at least.</summary>
    public const int MaxLength = 512;

    /// <summary>The text if it is one that every database and header takes: printable ASCII of at most <see cref="MaxLength"/>; else the
    /// empty text.</summary>
    /// <param name="text">A <c>traceparent</c> or <c>tracestate</c>.</param>
    public static string OrNothing(string text) =>
        text.Length <= MaxLength && !text.AsSpan().ContainsAnyExceptInRange(' ', '~') ? text : "";
}
