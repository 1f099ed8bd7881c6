namespace Ministries.Ledger;

/// <summary>Entries that a reader may see, and where to go on.</summary>
/// <param name="Entries">The entries in order.</param>
/// <param name="Next">The position to go on from: everything before it is here or not for the reader.</param>
/// <param name="Complete">True where there are no more at present.</param>
/// <param name="TooGreat">True where the entry at <paramref name="Next"/> is for the reader and has by itself more bytes than a page
/// may: it is to be read alone.</param>
public sealed record EntryPage(IReadOnlyList<StoredEntry> Entries, ulong Next, bool Complete, bool TooGreat = false);
