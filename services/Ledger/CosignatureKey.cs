using System.Buffers.Binary;
using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using Ministries.Keys;

namespace Ministries.Ledger;

/// <summary>
/// The Ed25519 key with which a witness cosigns checkpoints (C2SP tlog-cosignature, signature type 0x04): a statement that of all
/// trees of the log that the witness has seen this was the greatest at the time, and that all of them are prefixes of it.
/// </summary>
public sealed class CosignatureKey : IDisposable
{
    /// <summary>The first second at which anything can be cosigned, in Unix time.</summary>
    public const ulong FirstSecond = 1;

    /// <summary>The last such second, which ends the year 9998. So adding to a time cannot leave the calendar.</summary>
    public const ulong LastSecond = 253_370_764_799;

    private const byte Type = 4;
    private readonly Signer? _key;
    private readonly byte[] _public;
    private readonly byte[] _id;

    private CosignatureKey(string name, Signer? key, byte[] @public)
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
    public static CosignatureKey FromSeed(string name, ReadOnlySpan<byte> seed) => Of(name, Signer.FromSeed(seed));

    /// <summary>A key that signs, wherever it lives; disposed of with this.</summary>
    /// <param name="name">The name.</param>
    /// <param name="signer">The key.</param>
    public static CosignatureKey Of(string name, Signer signer) => new(name, signer, signer.PublicKey.ToArray());

    /// <summary>Zeroes the private key, or leaves its token. It verifies as before.</summary>
    public void Dispose() => _key?.Dispose();

    /// <summary>The key of a PEM text (PKCS #8, the label <c>PRIVATE KEY</c>).</summary>
    /// <exception cref="FormatException">It holds no such key (<see cref="KeyText"/>).</exception>
    public static CosignatureKey FromPem(string name, string pem) => Of(name, Signer.FromPem(pem));

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
        var signature = (_key ?? throw new InvalidOperationException("this key verifies only")).Sign(Message(note, (ulong)seconds));
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
