namespace Ministries.Ledger;

/// <summary>A record whose duty is due.</summary>
/// <param name="Stream">The record.</param>
/// <param name="Due">When it was due.</param>
public sealed record DueStream(StreamId Stream, DateTimeOffset Due);
