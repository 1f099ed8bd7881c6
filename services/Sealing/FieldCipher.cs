using System.Buffers.Binary;
using System.Security.Cryptography;

namespace Ministries.Sealing;

/// <summary>What a field key does: it commits, encrypts and decrypts.</summary>
internal static class FieldCipher
{
    /// <summary>The commitment to a field key and the key of its AEAD.</summary>
    public static void Derive(ReadOnlySpan<byte> fieldKey, Span<byte> commitment, Span<byte> aeadKey)
    {
        // HKDF-Expand for 32 bytes is one HMAC over the info and a 1.
        using var mac = IncrementalHash.CreateHMAC(HashAlgorithmName.SHA256, fieldKey);
        mac.AppendData("commitment\u0001"u8);
        mac.GetHashAndReset(commitment);
        mac.AppendData("key\u0001"u8);
        mac.GetHashAndReset(aeadKey);
    }

    /// <summary>Encrypts a padded field. The key is used once, so the nonce is zero.</summary>
    public static byte[] Encrypt(ReadOnlySpan<byte> aeadKey, ReadOnlySpan<byte> context, uint number, ReadOnlySpan<byte> padded)
    {
        var ciphertext = new byte[padded.Length + Hpke.TagBytes];
        using var aead = new ChaCha20Poly1305(aeadKey);
        aead.Encrypt(
            stackalloc byte[12],
            padded,
            ciphertext.AsSpan(0, padded.Length),
            ciphertext.AsSpan(padded.Length),
            Associated(context, number, stackalloc byte[36])
        );
        return ciphertext;
    }

    /// <summary>Decrypts a field.</summary>
    /// <returns>False if it is not authentic.</returns>
    public static bool TryDecrypt(
        ReadOnlySpan<byte> aeadKey,
        ReadOnlySpan<byte> context,
        uint number,
        ReadOnlySpan<byte> ciphertext,
        Span<byte> padded
    )
    {
        try
        {
            using var aead = new ChaCha20Poly1305(aeadKey);
            aead.Decrypt(
                stackalloc byte[12],
                ciphertext[..padded.Length],
                ciphertext[padded.Length..],
                padded,
                Associated(context, number, stackalloc byte[36])
            );
            return true;
        }
        catch (AuthenticationTagMismatchException)
        {
            return false;
        }
    }

    private static Span<byte> Associated(ReadOnlySpan<byte> context, uint number, Span<byte> associated)
    {
        context.CopyTo(associated);
        BinaryPrimitives.WriteUInt32BigEndian(associated[32..], number);
        return associated;
    }
}
