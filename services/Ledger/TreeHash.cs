using System.Security.Cryptography;

namespace Ministries.Ledger;

/// <summary>The hashes of RFC 6962 section 2.1, over SHA-256.</summary>
internal static class TreeHash
{
    /// <summary>The hash of a tree without leaves.</summary>
    public static readonly byte[] Empty = SHA256.HashData([]);

    /// <summary>The log record of an entry: SHA-256 of its header's bytes.</summary>
    public static byte[] Record(ReadOnlySpan<byte> header) => SHA256.HashData(header);

    /// <summary>The leaf of an entry: SHA-256(0x00 ‖ record).</summary>
    public static byte[] Leaf(ReadOnlySpan<byte> header)
    {
        Span<byte> bytes = stackalloc byte[33];
        bytes[0] = 0;
        SHA256.HashData(header, bytes[1..]);
        return SHA256.HashData(bytes);
    }

    /// <summary>The node above two: SHA-256(0x01 ‖ left ‖ right).</summary>
    public static byte[] Node(ReadOnlySpan<byte> left, ReadOnlySpan<byte> right)
    {
        Span<byte> bytes = stackalloc byte[65];
        bytes[0] = 1;
        left.CopyTo(bytes[1..]);
        right.CopyTo(bytes[33..]);
        return SHA256.HashData(bytes);
    }
}
