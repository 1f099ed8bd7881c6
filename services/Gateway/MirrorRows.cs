using System.Buffers.Binary;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;

namespace Ministries.Gateway;

/// <summary>The mirror's database holds what this gateway has not written, or no longer what it has.</summary>
/// <param name="what">What. It names no record.</param>
internal sealed class MirrorChangedException(string what)
    : Exception($"the mirror's database was changed by another than this gateway: {what}");

/// <summary>The mirror's database is behind what this gateway knows of it: it was put back, and is looked at anew.</summary>
internal sealed class MirrorBehindException() : IOException("the mirror's database was put back to an earlier state");

/// <summary>How the events of a mirror are numbered.</summary>
/// <param name="Name">A name of its own: 16 hexadecimal digits.</param>
/// <param name="Shared">How many of its first events have the same numbers as in the numbering before.</param>
internal sealed record Numbering(string Name, long Shared);

/// <summary>How far one ledger has come in the mirror; see <see cref="MirrorProgress"/>.</summary>
/// <param name="Next">The position from which it goes on.</param>
/// <param name="TreeSize">The greatest tree that was verified.</param>
/// <param name="CosignedSize">The greatest cosigned tree that was verified.</param>
/// <param name="CheckTime">When it last had everything, as <see cref="Database.Stored"/> has it.</param>
/// <param name="Audiences">How many audiences have numbers.</param>
internal sealed record LedgerMark(ulong Next, ulong TreeSize, ulong CosignedSize, long CheckTime, int Audiences);

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

    /// <summary>The numberings of the events, the last of which counts. There are several after an event was lost and came back under another
    /// number.</summary>
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

/// <summary>Seals the mirror's rows with a key of the state folder (HMAC-SHA256 over all that a row says), so that nobody who has the database
/// alone can change or invent one.</summary>
/// <param name="key">The key, 32 bytes.</param>
internal sealed class RowSeals(byte[] key)
{
    /// <summary>A name of the key, which tells nothing of it.</summary>
    public string KeyName => Convert.ToHexStringLower(Of("key", "").AsSpan(0, 8));

    /// <summary>The seal of a row.</summary>
    /// <param name="table">The table.</param>
    /// <param name="mirror">The mirror (<see cref="MirrorHead.Id"/>): a row of another is none of this.</param>
    /// <param name="values">Its values: texts, numbers, bytes or null.</param>
    public byte[] Of(string table, string mirror, params ReadOnlySpan<object?> values)
    {
        using var hash = IncrementalHash.CreateHMAC(HashAlgorithmName.SHA256, key);
        Append(hash, 't', Encoding.UTF8.GetBytes(table));
        Append(hash, 't', Encoding.UTF8.GetBytes(mirror));
        Span<byte> number = stackalloc byte[8];
        foreach (var value in values)
            switch (value)
            {
                case null:
                    Append(hash, 'n', []);
                    break;
                case byte[] bytes:
                    Append(hash, 'b', bytes);
                    break;
                case string text:
                    Append(hash, 't', Encoding.UTF8.GetBytes(text));
                    break;
                default:
                    BinaryPrimitives.WriteInt64BigEndian(number, Convert.ToInt64(value, System.Globalization.CultureInfo.InvariantCulture));
                    Append(hash, 'i', number);
                    break;
            }
        return hash.GetHashAndReset();
    }

    /// <summary>Checks a row that was read.</summary>
    /// <exception cref="MirrorChangedException">It is not one that was sealed.</exception>
    public void Demand(byte[] seal, string table, string mirror, params ReadOnlySpan<object?> values)
    {
        if (!CryptographicOperations.FixedTimeEquals(seal, Of(table, mirror, values)))
            throw new MirrorChangedException($"a row of {table} is not as it was written");
    }

    // The kind and the length before the bytes: no two rows are the same bytes.
    private static void Append(IncrementalHash hash, char kind, ReadOnlySpan<byte> bytes)
    {
        Span<byte> before = stackalloc byte[5];
        before[0] = (byte)kind;
        BinaryPrimitives.WriteInt32BigEndian(before[1..], bytes.Length);
        hash.AppendData(before);
        hash.AppendData(bytes);
    }
}
