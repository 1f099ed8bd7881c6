using System.Security.Cryptography;
using Google.Protobuf;
using Ministries.Ledger.V1;

namespace Ministries.Ledger;

/// <summary>The digests by which requests, parts and audiences are told apart.</summary>
public static class Digests
{
    /// <summary>The commitment of an entry's header to its number in an audience: SHA-256 over the message's bytes, with its fields
    /// in the order of their numbers.</summary>
    public static ByteString OfAudience(AudienceNumber number) => ByteString.CopyFrom(SHA256.HashData(number.ToByteArray()));

    /// <summary>The order of such commitments in a header: that of their bytes.</summary>
    internal static readonly Comparer<ByteString> Order = Comparer<ByteString>.Create((a, b) => a.Span.SequenceCompareTo(b.Span));

    /// <summary>What tells a request from another of the same id: SHA-256 over method, a zero byte and message.</summary>
    public static byte[] OfRequest(string method, ReadOnlySpan<byte> bytes) =>
        Of([.. System.Text.Encoding.UTF8.GetBytes(method), 0], bytes);

    /// <summary>The digest of a part in an entry's header: SHA-256 over salt and bytes.</summary>
    public static byte[] OfPart(ReadOnlySpan<byte> salt, ReadOnlySpan<byte> bytes) => Of(salt, bytes);

    /// <summary>SHA-256 over two spans, one after the other.</summary>
    public static byte[] Of(ReadOnlySpan<byte> first, ReadOnlySpan<byte> second)
    {
        // In one step, because a hash in several steps creates and frees a handle each time.
        var length = first.Length + second.Length;
        var rented = length > 1024 ? System.Buffers.ArrayPool<byte>.Shared.Rent(length) : null;
        Span<byte> both = rented is null ? stackalloc byte[length] : rented.AsSpan(0, length);
        first.CopyTo(both);
        second.CopyTo(both[first.Length..]);
        var digest = SHA256.HashData(both);
        if (rented is not null)
            System.Buffers.ArrayPool<byte>.Shared.Return(rented, clearArray: true);
        return digest;
    }
}
