using System.Buffers.Binary;
using System.Security.Cryptography;

namespace Ministries.Sealing;

/// <summary>HPKE (RFC 9180) in base mode, one message per encapsulation, for one suite: X-Wing (0x647A), HKDF-SHA256 (0x0001),
/// ChaCha20-Poly1305 (0x0003).</summary>
internal static class Hpke
{
    /// <summary>How many bytes a ciphertext has more than its plaintext.</summary>
    public const int TagBytes = 16;

    private const int ContextBytes = 65;

    // "HPKE-v1", then the suite: "HPKE", KEM, KDF, AEAD.
    private static readonly byte[] Prefix = [.. "HPKE-v1HPKE"u8, 0x64, 0x7A, 0x00, 0x01, 0x00, 0x03];
    private static readonly byte[] PskIdHash = LabeledExtract([], "psk_id_hash"u8, []);

    /// <summary>The key schedule's context of an <c>info</c>. It is the same for every recipient.</summary>
    public static byte[] ContextOf(ReadOnlySpan<byte> info)
    {
        var context = new byte[ContextBytes];
        PskIdHash.CopyTo(context, 1);
        LabeledExtract([], "info_hash"u8, info).CopyTo(context, 33);
        return context;
    }

    /// <summary>Encrypts to a public key.</summary>
    /// <param name="key">The public key.</param>
    /// <param name="context">Of <see cref="ContextOf"/>.</param>
    /// <param name="associated">The associated data.</param>
    /// <param name="plaintext">What is encrypted.</param>
    /// <param name="encapsulation">Takes 1120 bytes.</param>
    /// <param name="ciphertext">Takes the plaintext's length and 16 bytes.</param>
    /// <returns>False if the public key is a point of low order.</returns>
    public static bool TrySeal(
        XWingPublicKey key,
        ReadOnlySpan<byte> context,
        ReadOnlySpan<byte> associated,
        ReadOnlySpan<byte> plaintext,
        Span<byte> encapsulation,
        Span<byte> ciphertext
    )
    {
        Span<byte> secrets = stackalloc byte[32 + 32];
        Span<byte> nonce = stackalloc byte[12];
        try
        {
            if (!XWing.TryEncapsulate(key, encapsulation, secrets[..32]))
                return false;
            Schedule(secrets[..32], context, secrets[32..], nonce);
            using var aead = new ChaCha20Poly1305(secrets[32..]);
            aead.Encrypt(nonce, plaintext, ciphertext[..^TagBytes], ciphertext[^TagBytes..], associated);
            return true;
        }
        finally
        {
            CryptographicOperations.ZeroMemory(secrets);
        }
    }

    /// <summary>Decrypts with a private key.</summary>
    /// <returns>False if it is not authentic; nothing is left in <paramref name="plaintext"/> then.</returns>
    public static bool TryOpen(
        IDecapsulator key,
        ReadOnlySpan<byte> encapsulation,
        ReadOnlySpan<byte> context,
        ReadOnlySpan<byte> associated,
        ReadOnlySpan<byte> ciphertext,
        Span<byte> plaintext
    )
    {
        Span<byte> secrets = stackalloc byte[32 + 32];
        Span<byte> nonce = stackalloc byte[12];
        try
        {
            if (!key.TryDecapsulate(encapsulation, secrets[..32]))
                return false;
            Schedule(secrets[..32], context, secrets[32..], nonce);
            using var aead = new ChaCha20Poly1305(secrets[32..]);
            aead.Decrypt(nonce, ciphertext[..^TagBytes], ciphertext[^TagBytes..], plaintext, associated);
            return true;
        }
        catch (AuthenticationTagMismatchException)
        {
            CryptographicOperations.ZeroMemory(plaintext);
            return false;
        }
        finally
        {
            CryptographicOperations.ZeroMemory(secrets);
        }
    }

    /// <summary>The key schedule (RFC 9180, 5.1) in base mode.</summary>
    public static void Schedule(ReadOnlySpan<byte> sharedSecret, ReadOnlySpan<byte> context, Span<byte> key, Span<byte> nonce)
    {
        var secret = LabeledExtract(sharedSecret, "secret"u8, []);
        LabeledExpand(secret, "key"u8, context, key);
        LabeledExpand(secret, "base_nonce"u8, context, nonce);
        CryptographicOperations.ZeroMemory(secret);
    }

    private static byte[] LabeledExtract(ReadOnlySpan<byte> salt, ReadOnlySpan<byte> label, ReadOnlySpan<byte> input)
    {
        Span<byte> labeled = stackalloc byte[Prefix.Length + label.Length + input.Length];
        Prefix.CopyTo(labeled);
        label.CopyTo(labeled[Prefix.Length..]);
        input.CopyTo(labeled[(Prefix.Length + label.Length)..]);
        var key = new byte[32];
        HKDF.Extract(HashAlgorithmName.SHA256, labeled, salt, key);
        return key;
    }

    private static void LabeledExpand(ReadOnlySpan<byte> key, ReadOnlySpan<byte> label, ReadOnlySpan<byte> info, Span<byte> output)
    {
        Span<byte> labeled = stackalloc byte[2 + Prefix.Length + label.Length + info.Length];
        BinaryPrimitives.WriteUInt16BigEndian(labeled, (ushort)output.Length);
        Prefix.CopyTo(labeled[2..]);
        label.CopyTo(labeled[(2 + Prefix.Length)..]);
        info.CopyTo(labeled[(2 + Prefix.Length + label.Length)..]);
        HKDF.Expand(HashAlgorithmName.SHA256, key, output, labeled);
    }
}
