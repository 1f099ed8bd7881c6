using System.Buffers.Binary;
using System.Security.Cryptography;

namespace Ministries.Sealing;

/// <summary>The key of one sealed field. Its holder can open that field and no other. The commitment in the signed content shows that it is
/// the key that the sender used. Zeroed when disposed of.</summary>
public sealed class FieldKey : IDisposable
{
    /// <summary>The size of a field key with its number.</summary>
    public const int Bytes = 4 + 32;

    private readonly byte[] _key;

    internal FieldKey(uint number, ReadOnlySpan<byte> key) => (Number, _key) = (number, key.ToArray());

    /// <summary>The field's number in the message inside.</summary>
    public uint Number { get; }

    internal ReadOnlySpan<byte> Key => _key;

    /// <summary>Reads what <see cref="CopyTo"/> wrote.</summary>
    /// <exception cref="ArgumentException">It has not 36 bytes.</exception>
    public static FieldKey Read(ReadOnlySpan<byte> bytes) =>
        bytes.Length == Bytes
            ? new(BinaryPrimitives.ReadUInt32BigEndian(bytes), bytes[4..])
            : throw new ArgumentException("A field key has 36 bytes.", nameof(bytes));

    /// <summary>Writes the number in 4 bytes, big-endian, and the key in 32. The caller zeroes them.</summary>
    public void CopyTo(Span<byte> bytes)
    {
        BinaryPrimitives.WriteUInt32BigEndian(bytes, Number);
        _key.CopyTo(bytes[4..]);
    }

    /// <summary>Says which field it is of, and not the key.</summary>
    public override string ToString() => $"key of field {Number}";

    /// <inheritdoc/>
    public void Dispose() => CryptographicOperations.ZeroMemory(_key);
}
