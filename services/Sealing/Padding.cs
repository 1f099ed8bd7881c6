using System.Buffers.Binary;

namespace Ministries.Sealing;

/// <summary>Fields are padded to one of a few sizes, so that a size tells little.</summary>
internal static class Padding
{
    /// <summary>The most bytes that a field has.</summary>
    public const int MaxFieldBytes = 49152 - LengthBytes;

    private const int LengthBytes = 4;

    /// <summary>The sizes in bytes.</summary>
    public static readonly int[] Sizes = [64, 256, 1024, 4096, 16384, 49152];

    /// <summary>The size to which a field of this length is padded.</summary>
    public static int SizeFor(int length) => Array.Find(Sizes, size => size >= length + LengthBytes);

    /// <summary>Pads: the length in 4 bytes, the bytes, zeros.</summary>
    /// <returns>What the caller zeroes.</returns>
    public static byte[] Pad(ReadOnlySpan<byte> bytes)
    {
        var padded = new byte[SizeFor(bytes.Length)];
        BinaryPrimitives.WriteInt32BigEndian(padded, bytes.Length);
        bytes.CopyTo(padded.AsSpan(LengthBytes));
        return padded;
    }

    /// <summary>What was padded; false: it is not padded as <see cref="Pad"/> does it.</summary>
    public static bool TryUnpad(ReadOnlySpan<byte> padded, out ReadOnlySpan<byte> bytes)
    {
        bytes = default;
        var length = BinaryPrimitives.ReadUInt32BigEndian(padded);
        if (length > MaxFieldBytes || SizeFor((int)length) != padded.Length)
            return false;
        bytes = padded.Slice(LengthBytes, (int)length);
        return !padded[(LengthBytes + (int)length)..].ContainsAnyExcept((byte)0);
    }
}
