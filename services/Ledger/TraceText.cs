namespace Ministries.Ledger;

/// <summary>A trace context that comes from others (W3C Trace Context). It is not always signed, so it may be any text, and nothing depends
/// on it.</summary>
public static class TraceText
{
    /// <summary>The longest text that is kept, in characters: the length of a <c>tracestate</c> that every party must at least pass
    /// on.</summary>
    public const int MaxLength = 512;

    /// <summary>The text, if every database and header takes it: printable ASCII of at most <see cref="MaxLength"/> characters. Otherwise
    /// the empty text.</summary>
    /// <param name="text">A <c>traceparent</c> or <c>tracestate</c>.</param>
    public static string OrNothing(string text) =>
        text.Length <= MaxLength && !text.AsSpan().ContainsAnyExceptInRange(' ', '~') ? text : "";
}
