using System.Security.Cryptography;
using System.Text;
using Google.Protobuf;
using Ministries.Ledger.V1;
using NSec.Cryptography;

namespace Ministries.Fixtures;

/// <summary>What a service that lies can make: receipts that its own key signs, of entries that its ledger never had. They are made from
/// the specifications, and not with the services' code.</summary>
public static class Forgery
{
    /// <summary>The receipt of an entry that stands last in a log.</summary>
    /// <param name="folder">Where the service's key and the agreement are.</param>
    /// <param name="like">The receipt from which it is made. It names the service; without a header, the entry begins empty.</param>
    /// <param name="change">Changes the entry's header, and what the receipt shows; the hash, the proof and the signature follow.</param>
    /// <param name="before">The leaves of the entries before it; null: it stands alone.</param>
    public static Receipt Of(
        string folder,
        Receipt like,
        Action<EntryHeader, Receipt>? change = null,
        IReadOnlyCollection<ByteString>? before = null
    )
    {
        var (receipt, header) = (like.Clone(), EntryHeader.Parser.ParseFrom(like.Header));
        header.Position = receipt.Position = (ulong)(before?.Count ?? 0);
        change?.Invoke(header, receipt);
        receipt.Header = header.ToByteString();
        return Signed(folder, receipt, before);
    }

    /// <summary>The receipt, with hash, proof and signature of the header that it shows, last in a log.</summary>
    public static Receipt Signed(string folder, Receipt like, IReadOnlyCollection<ByteString>? before = null)
    {
        var receipt = like.Clone();
        receipt.EntryHash = Hash(receipt.Header.ToByteArray());
        ByteString[] leaves = [.. before ?? [], LeafOf(receipt)];
        (receipt.TreeSize, receipt.RootHash) = ((ulong)leaves.Length, RootOf(leaves));
        receipt.InclusionProof.Clear();
        receipt.InclusionProof.Add(ProofOf(leaves.Length - 1, leaves));
        var origin = $"{Signing.Agreement(folder).TrustDomain}/{receipt.Service}";
        var text = $"{origin}\n{leaves.Length}\n{receipt.RootHash.ToBase64()}\n";
        using var key = Signing.KeyIn(Path.Combine(folder, "service", receipt.Service, "checkpoint.key"));
        receipt.Checkpoint = $"{text}\n{LineOf(origin, text, key)}\n";
        return receipt;
    }

    /// <summary>The leaf of a receipt's entry.</summary>
    public static ByteString LeafOf(Receipt receipt) => Hash([0], receipt.EntryHash.ToByteArray());

    /// <summary>The line with which a key signs the text of a checkpoint.</summary>
    /// <param name="origin">The name of the log.</param>
    /// <param name="text">The text.</param>
    /// <param name="key">The key.</param>
    public static string LineOf(string origin, string text, Key key)
    {
        var id = SHA256.HashData([.. Encoding.UTF8.GetBytes($"{origin}\n\u0001"), .. key.PublicKey.Export(KeyBlobFormat.RawPublicKey)])[
            ..4
        ];
        var signature = SignatureAlgorithm.Ed25519.Sign(key, Encoding.UTF8.GetBytes(text));
        return $"\u2014 {origin} {Convert.ToBase64String([.. id, .. signature])}";
    }

    /// <summary>Lets an entry hold another answer, and its receipt show it.</summary>
    public static void Answer(EntryHeader header, Receipt receipt, Answer answer) => Answer(header, receipt, answer.ToByteString());

    /// <summary>Lets an entry hold these bytes as its answer, and its receipt show them.</summary>
    public static void Answer(EntryHeader header, Receipt receipt, ByteString answer)
    {
        receipt.Answer = answer;
        receipt.AnswerSalt = Put(header, PartKind.Answer, answer.Span);
    }

    /// <summary>Lets an entry hold other bytes as one of its parts.</summary>
    /// <returns>The salt.</returns>
    public static ByteString Put(EntryHeader header, PartKind kind, ReadOnlySpan<byte> data)
    {
        var salt = RandomNumberGenerator.GetBytes(32);
        if (header.Parts.FirstOrDefault(p => p.Kind == kind) is not { } part)
            header.Parts.Add(part = new PartDigest { Kind = kind });
        part.Digest = ByteString.CopyFrom(SHA256.HashData([.. salt, .. data]));
        return ByteString.CopyFrom(salt);
    }

    /// <summary>The root over the leaves' hashes (RFC 6962, 2.1).</summary>
    public static ByteString RootOf(ReadOnlySpan<ByteString> leaves)
    {
        if (leaves.Length == 1)
            return leaves[0];
        var left = LeftOf(leaves.Length);
        return Hash([1], RootOf(leaves[..left]).ToByteArray(), RootOf(leaves[left..]).ToByteArray());
    }

    /// <summary>The proof that a leaf is among them (RFC 6962, 2.1.1).</summary>
    public static List<ByteString> ProofOf(int position, ReadOnlySpan<ByteString> leaves)
    {
        if (leaves.Length == 1)
            return [];
        var left = LeftOf(leaves.Length);
        return position < left
            ? [.. ProofOf(position, leaves[..left]), RootOf(leaves[left..])]
            : [.. ProofOf(position - left, leaves[left..]), RootOf(leaves[..left])];
    }

    // The greatest power of two that is less than the number of leaves.
    private static int LeftOf(int leaves) => 1 << System.Numerics.BitOperations.Log2((uint)leaves - 1);

    private static ByteString Hash(params byte[][] parts) => ByteString.CopyFrom(SHA256.HashData([.. parts.SelectMany(p => p)]));
}
