using System.Security.Cryptography;
using System.Text.Json;

namespace Ministries.Gateway;

/// <summary>What the whole mirror holds. Each change writes it anew, so that all rows together are one state.</summary>
internal sealed record MirrorHead
{
    /// <summary>The participant whose mirror it is.</summary>
    public required string Participant { get; init; }

    /// <summary>Which key sealed the rows (<see cref="RowSeals.KeyName"/>).</summary>
    public required string Key { get; init; }

    /// <summary>How often it was changed.</summary>
    public long Revision { get; init; }

    /// <summary>How many entries there are, numbered from 1.</summary>
    public long Entries { get; init; }

    /// <summary>How many events there are, numbered from 1.</summary>
    public long Events { get; init; }

    /// <summary>How many records there are as they were seen at a time, numbered from 1.</summary>
    public long Records { get; init; }

    /// <summary>The numberings of the events, the last of which counts. There are several after an event was lost and came back under
    /// another number.</summary>
    public required IReadOnlyList<Numbering> Numberings { get; init; }

    /// <summary>How far each ledger has come.</summary>
    public IReadOnlyDictionary<string, LedgerMark> Ledgers { get; init; } = new Dictionary<string, LedgerMark>();

    /// <summary>The name of this mirror: one that is built anew has another.</summary>
    public string Id => Numberings[0].Name;

    /// <summary>The numbering that counts.</summary>
    public string Numbering => Numberings[^1].Name;

    /// <summary>Up to which number an event has the same number in a numbering as it has now; zero: that numbering is not known.</summary>
    public long SharedWith(string numbering)
    {
        for (var (i, shared) = (Numberings.Count - 1, long.MaxValue); i >= 0; i--)
        {
            if (Numberings[i].Name == numbering)
                return shared;
            shared = Math.Min(shared, Numberings[i].Shared);
        }
        return 0;
    }

    /// <summary>A numbering that nothing else has.</summary>
    public static Numbering NewNumbering(long shared) => new(Convert.ToHexStringLower(RandomNumberGenerator.GetBytes(8)), shared);

    /// <summary>Its bytes.</summary>
    public byte[] ToBytes() => JsonSerializer.SerializeToUtf8Bytes(this);

    /// <summary>Reads them.</summary>
    public static MirrorHead Read(byte[] bytes) => JsonSerializer.Deserialize<MirrorHead>(bytes)!;
}
