using System.Buffers.Binary;
using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using NSec.Cryptography;

namespace Ministries.Ledger;

/// <summary>A line of a signed note that holds a signature.</summary>
/// <param name="Name">The key's name.</param>
/// <param name="KeyId">The key's id, 4 bytes.</param>
/// <param name="Bytes">The signature, without the key's id.</param>
/// <param name="Line">The line as it stands in the note, with its end.</param>
public sealed record NoteSignature(string Name, byte[] KeyId, byte[] Bytes, string Line);

/// <summary>A note with its signatures (C2SP signed-note), which are not verified.</summary>
/// <param name="Text">What is signed, with its last line's end.</param>
/// <param name="Signatures">The signatures in their order.</param>
public sealed record SignedNote(string Text, IReadOnlyList<NoteSignature> Signatures)
{
    /// <summary>The greatest length of a note, in characters.</summary>
    public const int MaxLength = 64 << 10;

    /// <summary>The greatest number of a note's signatures.</summary>
    public const int MaxSignatures = 64;

    internal const string Mark = "— ";

    /// <summary>The first line: of a checkpoint, its origin.</summary>
    public string Origin => Text[..Text.IndexOf('\n')];

    /// <summary>The tree that the text describes if it is a checkpoint's (C2SP tlog-checkpoint), whoever signed it; null: it is no
    /// checkpoint.</summary>
    public Checkpoint? Tree => TreeOf(Text) is var (size, root) ? new Checkpoint(size, root, ToString()) : null;

    /// <summary>Reads a note; null: it is none.</summary>
    public static SignedNote? Read(string note)
    {
        var end = note.LastIndexOf("\n\n", StringComparison.Ordinal);
        if (end < 0 || note.Length > MaxLength || !note.EndsWith('\n') || note.Any(c => c < ' ' && c != '\n'))
            return null;
        return ReadLines(note[(end + 2)..]) is { Count: > 0 } signatures ? new(note[..(end + 1)], signatures) : null;
    }

    /// <summary>Reads signature lines, such as those of a witness's answer; null: a line is not a signature line.</summary>
    public static IReadOnlyList<NoteSignature>? ReadLines(string lines)
    {
        if (lines.Length is 0 or > MaxLength || !lines.EndsWith('\n'))
            return null;
        var read = new List<NoteSignature>();
        foreach (var line in lines[..^1].Split('\n'))
        {
            if (
                !line.StartsWith(Mark, StringComparison.Ordinal)
                || line[Mark.Length..].Split(' ') is not [var name, var encoded]
                || !IsName(name)
                || Base64(encoded) is not { Length: > 4 } bytes
                || read.Count == MaxSignatures
            )
                return null;
            read.Add(new NoteSignature(name, bytes[..4], bytes[4..], line + "\n"));
        }
        return read;
    }

    /// <summary>The note's text.</summary>
    public override string ToString() => $"{Text}\n{string.Concat(Signatures.Select(s => s.Line))}";

    // Exactly three lines. More are allowed by tlog-checkpoint, but other readers would not understand them.
    private static (ulong Size, byte[] Root)? TreeOf(string text)
    {
        var lines = text.Split('\n');
        if (
            lines.Length != 4
            || !IsName(lines[0])
            || !ulong.TryParse(lines[1], NumberStyles.None, CultureInfo.InvariantCulture, out var size)
            || lines[1] != size.ToString(CultureInfo.InvariantCulture)
        )
            return null;
        return Base64(lines[2]) is { Length: 32 } root ? (size, root) : null;
    }

    internal const string NameRule = "a key name is 1 to 256 printable ASCII characters without spaces and plus signs";

    // C2SP signed-note forbids Unicode's spaces, but languages disagree on which characters those are. On ASCII they agree.
    internal static bool IsName(string name) => name.Length is > 0 and <= 256 && name.All(c => c is > ' ' and <= '~' and not '+');

    /// <summary>The bytes of a base64 text in its one right form (RFC 4648, 4): padded, no white space, no bits set in the padding;
    /// null: it is not in it.</summary>
    /// <param name="text">The text.</param>
    public static byte[]? Base64(string text)
    {
        var bytes = new byte[text.Length / 4 * 3];
        return Convert.TryFromBase64String(text, bytes, out var length) && Convert.ToBase64String(bytes, 0, length) == text
            ? bytes[..length]
            : null;
    }
}

/// <summary>
/// The Ed25519 key with which a witness cosigns checkpoints (C2SP tlog-cosignature, signature type 0x04): a statement that of all
/// trees of the log that the witness has seen this was the greatest at the time, and that all of them are prefixes of it.
/// </summary>
public sealed class CosignatureKey
{
    /// <summary>The first second at which anything can be cosigned, in Unix time.</summary>
    public const ulong FirstSecond = 1;

    /// <summary>The last such second, which ends the year 9998. So adding to a time cannot leave the calendar.</summary>
    public const ulong LastSecond = 253_370_764_799;

    private const byte Type = 4;
    private readonly Key? _key;
    private readonly byte[] _public;
    private readonly byte[] _id;

    private CosignatureKey(string name, Key? key, byte[] @public)
    {
        if (!SignedNote.IsName(name))
            throw new ArgumentException(SignedNote.NameRule, nameof(name));
        (Name, _key, _public) = (name, key, @public);
        _id = SHA256.HashData([.. Encoding.UTF8.GetBytes(name), (byte)'\n', Type, .. _public])[..4];
    }

    /// <summary>The witness's name, such as <c>ministries.example/witness/kr/mfa</c>.</summary>
    public string Name { get; }

    /// <summary>The public key in the form that verifiers are given: name, key id and key (C2SP signed-note, verifier keys).</summary>
    public string Verifier => $"{Name}+{Convert.ToHexStringLower(_id)}+{Convert.ToBase64String([Type, .. _public])}";

    /// <summary>The name under which a participant cosigns: <c>&lt;trust domain&gt;/witness/&lt;participant id&gt;</c>.</summary>
    public static string NameOf(string trustDomain, string participant) => $"{trustDomain}/witness/{participant}";

    /// <summary>The key of a seed.</summary>
    /// <param name="name">The name.</param>
    /// <param name="seed">The 32 bytes of an Ed25519 private key (RFC 8032).</param>
    public static CosignatureKey FromSeed(string name, ReadOnlySpan<byte> seed)
    {
        var key = Key.Import(SignatureAlgorithm.Ed25519, seed, KeyBlobFormat.RawPrivateKey);
        return new(name, key, key.PublicKey.Export(KeyBlobFormat.RawPublicKey));
    }

    /// <summary>The key of a PEM text (PKCS #8, the label <c>PRIVATE KEY</c>).</summary>
    /// <exception cref="FormatException">It holds no such key (<see cref="KeyText"/>).</exception>
    public static CosignatureKey FromPem(string name, string pem) => FromSeed(name, KeyText.SeedOf(pem));

    /// <summary>The key of a public key: it verifies and cannot sign.</summary>
    /// <param name="name">The name.</param>
    /// <param name="bytes">The 32 bytes of an Ed25519 public key (RFC 8032).</param>
    public static CosignatureKey FromPublic(string name, ReadOnlySpan<byte> bytes) => new(name, null, bytes.ToArray());

    /// <summary>The key that a verifier's text names (<see cref="Verifier"/>): it verifies and cannot sign.</summary>
    /// <exception cref="FormatException">It is not such a text, or of another type of signature.</exception>
    public static CosignatureKey FromVerifier(string verifier)
    {
        var parts = verifier.Split('+', 3);
        if (parts.Length != 3 || SignedNote.Base64(parts[2]) is not [Type, .. { Length: 32 } bytes] || !SignedNote.IsName(parts[0]))
            throw new FormatException("not a verifier's key of cosignature/v1");
        var key = FromPublic(parts[0], bytes);
        return key.Verifier == verifier ? key : throw new FormatException("the key id is not that of the key");
    }

    /// <summary>Cosigns a checkpoint.</summary>
    /// <param name="note">The checkpoint; its signatures are not part of what is signed.</param>
    /// <param name="time">When; whole seconds count.</param>
    /// <returns>The signature line, with its end.</returns>
    public string Cosign(SignedNote note, DateTimeOffset time)
    {
        var seconds = time.ToUnixTimeSeconds();
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(seconds, nameof(time));
        var signature = SignatureAlgorithm.Ed25519.Sign(
            _key ?? throw new InvalidOperationException("this key verifies only"),
            Message(note, (ulong)seconds)
        );
        var stamp = new byte[8];
        BinaryPrimitives.WriteInt64BigEndian(stamp, seconds);
        return $"{SignedNote.Mark}{Name} {Convert.ToBase64String([.. _id, .. stamp, .. signature])}\n";
    }

    /// <summary>Whether the line names this key, by name and key id. Other lines must be ignored.</summary>
    public bool Names(NoteSignature signature) => signature.Name == Name && signature.KeyId.AsSpan().SequenceEqual(_id);

    /// <summary>When the key cosigned the note by this signature; null: the signature is not this key's over this note.</summary>
    /// <param name="note">The checkpoint.</param>
    /// <param name="signature">A signature that <see cref="Names"/> this key.</param>
    public DateTimeOffset? Verify(SignedNote note, NoteSignature signature)
    {
        if (!Names(signature) || signature.Bytes.Length != 8 + 64)
            return null;
        var seconds = BinaryPrimitives.ReadUInt64BigEndian(signature.Bytes);
        if (seconds is < FirstSecond or > LastSecond)
            return null;
        return StrictEd25519.Verifies(_public, Message(note, seconds), signature.Bytes.AsSpan(8))
            ? DateTimeOffset.FromUnixTimeSeconds((long)seconds)
            : null;
    }

    private static byte[] Message(SignedNote note, ulong seconds) =>
        Encoding.UTF8.GetBytes($"cosignature/v1\ntime {seconds.ToString(CultureInfo.InvariantCulture)}\n{note.Text}");
}

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
