using System.Buffers.Binary;
using System.Security.Cryptography;
using System.Text;
using Google.Protobuf;

namespace Ministries.Rules;

/// <summary>
/// Commitments to the states to which a prisoner wishes to go (protos/SEALED.md). A statement carries exactly <see cref="Count"/> of them,
/// so nobody sees from them which states he accepts or how many: a wish to stay looks like any other. An opening shows that he accepts one
/// state and tells nothing of another. A holder of the secret of the wish makes all <see cref="Count"/> again and so knows that the
/// prisoner accepts no other state.
/// </summary>
/// <remarks>HKDF-Expand (RFC 5869) and HMAC (RFC 2104), both with SHA-256.</remarks>
public static class WishCommitments
{
    /// <summary>How many commitments a statement has.</summary>
    public const int Count = 16;

    /// <summary>The size in bytes of a commitment, of an opening and of the secret of a wish.</summary>
    public const int Bytes = 32;

    /// <summary>The commitments to a wish, with fillers up to <see cref="Count"/>.</summary>
    /// <param name="case">The case's id.</param>
    /// <param name="prisoner">The prisoner's id.</param>
    /// <param name="destinations">The states that he accepts, each once; 0 to 16.</param>
    /// <param name="secret">The secret of the wish: 32 random bytes, new for each statement.</param>
    /// <returns><see cref="Count"/> values of 32 bytes in ascending order, none of them twice.</returns>
    /// <exception cref="ArgumentException">A destination is named twice, there are more than 16, one is empty, or the secret is not 32
    /// bytes long.</exception>
    public static IReadOnlyList<ByteString> Make(
        string @case,
        string prisoner,
        IReadOnlyCollection<string> destinations,
        ReadOnlySpan<byte> secret
    )
    {
        if (!IsWish(destinations))
            throw new ArgumentException("A wish names 0 to 16 destinations, each once.", nameof(destinations));
        var made = new List<byte[]>(Count);
        Span<byte> opening = stackalloc byte[Bytes];
        try
        {
            foreach (var destination in destinations)
            {
                Open(secret, @case, prisoner, destination, opening);
                made.Add(Commitment(opening, @case, prisoner, destination));
            }
            for (var i = 0; made.Count < Count; i++)
                made.Add(Filler(secret, i, opening));
        }
        finally
        {
            CryptographicOperations.ZeroMemory(opening);
        }
        made.Sort((a, b) => a.AsSpan().SequenceCompareTo(b));
        return [.. made.Select(ByteString.CopyFrom)];
    }

    /// <summary>The opening for one destination: 32 bytes. It shows that the prisoner accepts this destination, and nothing of others. If
    /// he does not accept it, no commitment matches and the opening tells nothing.</summary>
    /// <param name="case">The case's id.</param>
    /// <param name="prisoner">The prisoner's id.</param>
    /// <param name="destination">The state.</param>
    /// <param name="secret">The secret of the wish, 32 bytes.</param>
    /// <exception cref="ArgumentException">The destination is empty or the secret is not 32 bytes long.</exception>
    public static ByteString OpeningOf(string @case, string prisoner, string destination, ReadOnlySpan<byte> secret)
    {
        var opening = new byte[Bytes];
        Open(secret, @case, prisoner, destination, opening);
        return UnsafeByteOperations.UnsafeWrap(opening);
    }

    /// <summary>Whether an opening shows that one of the commitments is to a destination. An opening of another length matches
    /// none.</summary>
    /// <param name="commitments">The statement's commitments.</param>
    /// <param name="opening">What is to show it.</param>
    /// <param name="case">The case's id.</param>
    /// <param name="prisoner">The prisoner's id.</param>
    /// <param name="destination">The state.</param>
    public static bool Matches(IEnumerable<ByteString> commitments, ByteString opening, string @case, string prisoner, string destination)
    {
        // A shorter key would be the same key for HMAC as that with zeros behind it.
        if (opening.Length != Bytes || destination.Length == 0)
            return false;
        var expected = Commitment(opening.Span, @case, prisoner, destination);
        var found = false;
        foreach (var commitment in commitments)
            found |= CryptographicOperations.FixedTimeEquals(commitment.Span, expected);
        return found;
    }

    /// <summary>Whether the commitments are those to a wish and to nothing else. A participant that opens the sealed statement checks this.
    /// An attester checks it before signing.</summary>
    /// <param name="commitments">The statement's commitments.</param>
    /// <param name="case">The case's id.</param>
    /// <param name="prisoner">The prisoner's id.</param>
    /// <param name="destinations">The destinations in the sealed statement.</param>
    /// <param name="secret">The secret in the sealed statement.</param>
    public static bool Verify(
        IReadOnlyList<ByteString> commitments,
        string @case,
        string prisoner,
        IReadOnlyCollection<string> destinations,
        ReadOnlySpan<byte> secret
    )
    {
        if (secret.Length != Bytes || commitments.Count != Count || !IsWish(destinations))
            return false;
        var same = true;
        foreach (var (given, made) in commitments.Zip(Make(@case, prisoner, destinations, secret)))
            same &= CryptographicOperations.FixedTimeEquals(given.Span, made.Span);
        return same;
    }

    /// <summary>Whether values have the form that every statement's commitments have: <see cref="Count"/> of them, 32 bytes each, in
    /// ascending order, none twice. The form tells nothing of the wish.</summary>
    public static bool HaveForm(IReadOnlyList<ByteString> commitments) =>
        commitments.Count == Count
        && commitments.All(c => c.Length == Bytes)
        && commitments.Zip(commitments.Skip(1)).All(pair => pair.First.Span.SequenceCompareTo(pair.Second.Span) < 0);

    private static bool IsWish(IReadOnlyCollection<string> destinations) =>
        destinations.Count <= Count
        && destinations.All(d => d.Length > 0)
        && destinations.Distinct(StringComparer.Ordinal).Count() == destinations.Count;

    private static void Open(ReadOnlySpan<byte> secret, string @case, string prisoner, string destination, Span<byte> opening)
    {
        if (secret.Length != Bytes)
            throw new ArgumentException("The secret of a wish has 32 bytes.", nameof(secret));
        ArgumentException.ThrowIfNullOrEmpty(destination);
        HKDF.Expand(HashAlgorithmName.SHA256, secret, opening, About("ministries-wish-v1 opening"u8, @case, prisoner, destination));
    }

    private static byte[] Commitment(ReadOnlySpan<byte> opening, string @case, string prisoner, string destination) =>
        HMACSHA256.HashData(opening, About("ministries-wish-v1 commitment"u8, @case, prisoner, destination));

    private static byte[] Filler(ReadOnlySpan<byte> secret, int index, Span<byte> key)
    {
        if (secret.Length != Bytes)
            throw new ArgumentException("The secret of a wish has 32 bytes.", nameof(secret));
        var label = "ministries-wish-v1 filler"u8;
        Span<byte> info = stackalloc byte[label.Length + 4];
        label.CopyTo(info);
        BinaryPrimitives.WriteInt32BigEndian(info[label.Length..], index);
        HKDF.Expand(HashAlgorithmName.SHA256, secret, key, info);
        return HMACSHA256.HashData(key, label);
    }

    // The label, then each text behind its length in 4 bytes: no two lists of texts give the same bytes.
    private static byte[] About(ReadOnlySpan<byte> label, string @case, string prisoner, string destination)
    {
        using var bytes = new MemoryStream();
        bytes.Write(label);
        Span<byte> length = stackalloc byte[4];
        foreach (var text in (string[])[@case, prisoner, destination])
        {
            var utf8 = Encoding.UTF8.GetBytes(text);
            BinaryPrimitives.WriteInt32BigEndian(length, utf8.Length);
            bytes.Write(length);
            bytes.Write(utf8);
        }
        return bytes.ToArray();
    }
}
