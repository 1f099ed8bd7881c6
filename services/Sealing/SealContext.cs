using System.Buffers.Binary;
using System.Security.Cryptography;
using System.Text;

namespace Ministries.Sealing;

/// <summary>Where something sealed belongs. It opens nowhere else.</summary>
/// <param name="Case">The case of the request that carries it; empty if the request has none.</param>
/// <param name="Record">That request's <c>request_id</c>.</param>
/// <param name="Field">The path of the field in that request, such as <c>identity</c>.</param>
/// <param name="Sender">The participant that sealed it.</param>
public sealed record SealContext(string Case, string Record, string Field, string Sender)
{
    internal const string Scheme = "ministries-sealed-v1";

    // The hash of all of it, of the message inside and of the recipients: in every derived key and in all associated data.
    internal byte[] Hash(string message, IReadOnlyCollection<string> recipients)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        Span<byte> number = stackalloc byte[4];
        foreach (var text in (ReadOnlySpan<string>)[Scheme, Case, Record, Field, Sender, message])
            hash.AppendData(Prefixed(text));
        BinaryPrimitives.WriteInt32BigEndian(number, recipients.Count);
        hash.AppendData(number);
        foreach (var recipient in recipients)
            hash.AppendData(Prefixed(recipient));
        return hash.GetHashAndReset();
    }

    internal static byte[] Prefixed(string text)
    {
        var bytes = new byte[4 + Encoding.UTF8.GetByteCount(text)];
        BinaryPrimitives.WriteInt32BigEndian(bytes, bytes.Length - 4);
        Encoding.UTF8.GetBytes(text, bytes.AsSpan(4));
        return bytes;
    }
}
