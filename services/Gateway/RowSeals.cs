using System.Buffers.Binary;
using System.Security.Cryptography;
using System.Text;

namespace Ministries.Gateway;

/// <summary>Seals the mirror's rows with a key of the state folder (HMAC-SHA256 over all that a row says), so that nobody who has the
/// database alone can change or invent one.</summary>
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
