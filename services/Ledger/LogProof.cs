using System.Globalization;
using System.Text;

namespace Ministries.Ledger;

/// <summary>A proof that an entry is in a log, as one text that can be verified offline (C2SP tlog-proof).</summary>
/// <param name="Index">The entry's position.</param>
/// <param name="Hashes">The inclusion proof (RFC 6962 2.1.1), leaf to root, 32 bytes each; at most 63.</param>
/// <param name="Checkpoint">The checkpoint to whose root they lead, with its signatures and cosignatures.</param>
/// <param name="Extra">Any other data, which nothing authenticates; null: none.</param>
public sealed record LogProof(ulong Index, IReadOnlyList<byte[]> Hashes, string Checkpoint, byte[]? Extra = null)
{
    private const string First = "c2sp.org/tlog-proof@v1";

    /// <summary>The proof's text.</summary>
    public override string ToString()
    {
        var text = new StringBuilder(First).Append('\n');
        if (Extra is not null)
            text.Append("extra ").Append(Convert.ToBase64String(Extra)).Append('\n');
        text.Append("index ").Append(Index.ToString(CultureInfo.InvariantCulture)).Append('\n');
        foreach (var hash in Hashes)
            text.Append(Convert.ToBase64String(hash)).Append('\n');
        return text.Append('\n').Append(Checkpoint).ToString();
    }

    /// <summary>Reads a proof without verifying it (<see cref="Proofs.Includes"/>).</summary>
    /// <exception cref="FormatException">It is not a proof; the text says at which line it fails.</exception>
    public static LogProof Read(string text)
    {
        if (text.Length > SignedNote.MaxLength)
            throw new FormatException("the proof is too long");
        var end = text.IndexOf("\n\n", StringComparison.Ordinal);
        if (end < 0)
            throw new FormatException("the proof has no empty line before its checkpoint");
        var lines = text[..end].Split('\n');
        if (lines[0] != First)
            throw new FormatException($"line 1 must be {First}");
        var at = 1;
        byte[]? extra = null;
        if (lines.Length > at && lines[at].StartsWith("extra ", StringComparison.Ordinal))
            extra = SignedNote.Base64(lines[at++]["extra ".Length..]) ?? throw new FormatException("line 2: what is extra is not base64");
        if (
            lines.Length <= at
            || !lines[at].StartsWith("index ", StringComparison.Ordinal)
            || !ulong.TryParse(lines[at].AsSpan("index ".Length), NumberStyles.None, CultureInfo.InvariantCulture, out var index)
            || lines[at] != $"index {index.ToString(CultureInfo.InvariantCulture)}"
        )
            throw new FormatException($"line {at + 1} must be the entry's index");
        if (lines.Length - ++at > 63)
            throw new FormatException("the proof has more than 63 hashes");
        var hashes = new List<byte[]>();
        for (; at < lines.Length; at++)
            hashes.Add(
                SignedNote.Base64(lines[at]) is { Length: 32 } hash
                    ? hash
                    : throw new FormatException($"line {at + 1} is no hash of 32 bytes")
            );
        return new LogProof(index, hashes, text[(end + 2)..], extra);
    }
}
