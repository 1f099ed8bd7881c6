namespace Ministries.Rules;

/// <summary>The name of a stream: the entries that tell the history of one record.</summary>
/// <param name="Kind">The kind of record, such as <c>transfer</c>.</param>
/// <param name="Key">The record's key among its kind, at most 200 characters.</param>
public readonly record struct StreamId(string Kind, string Key)
{
    /// <summary>The name as text: kind/key.</summary>
    public override string ToString() => $"{Kind}/{Key}";
}
