namespace Ministries.Ledger;

/// <summary>An entry at the end of the ledger, and who may see it.</summary>
public sealed class TailEntry
{
    private readonly EntryRow _row;
    private readonly IReadOnlyList<PartRow>? _parts;

    internal TailEntry(EntryRow row, IReadOnlyList<PartRow>? parts)
    {
        (_row, _parts) = (row, parts);
        Bytes = row.Header.Length + row.PartBytes;
    }

    /// <summary>Its position.</summary>
    public ulong Position => _row.Position;

    /// <summary>The case that it belongs to; empty: none.</summary>
    public string Case => _row.Case;

    /// <summary>The tokens of those who may see it.</summary>
    public IReadOnlyCollection<string> Audience => _row.Audience;

    /// <summary>The number of bytes of its header and its parts.</summary>
    public long Bytes { get; }

    /// <summary>When it was committed or read, as a timestamp of <see cref="Environment.TickCount64"/>.</summary>
    internal long Since { get; } = Environment.TickCount64;

    /// <summary>The entry with its parts; null: they are not kept in memory.</summary>
    public StoredEntry? Stored => _parts is null ? null : ServiceLedger.EntryOf(_row, _parts);

    internal TailEntry WithoutParts() => new(_row, null);
}
