using System.Security.Cryptography;
using NSec.Cryptography;

namespace Ministries.Sealing;

/// <summary>The KEM X-Wing (draft-connolly-cfrg-xwing-kem; 0x647A in HPKE): ML-KEM-768 and X25519, joined by SHA3-256. It is secure while
/// one of the two is.</summary>
/// <remarks>The draft accepts a point of low order. This code refuses it and returns no shared secret.</remarks>
public static class XWing
{
    /// <summary>The size of a private key, which is a seed.</summary>
    public const int SeedBytes = 32;

    /// <summary>The size of a public key.</summary>
    public const int PublicKeyBytes = MLKemKeyBytes + X25519Bytes;

    /// <summary>The size of an encapsulation.</summary>
    public const int EncapsulationBytes = MLKemEncapsulationBytes + X25519Bytes;

    /// <summary>The size of a shared secret.</summary>
    public const int SharedSecretBytes = 32;

    internal const int MLKemKeyBytes = 1184;
    internal const int MLKemEncapsulationBytes = 1088;
    private const int X25519Bytes = 32;

    /// <summary>Makes a shared secret and its encapsulation for a public key.</summary>
    /// <param name="key">The public key.</param>
    /// <param name="encapsulation">Takes 1120 bytes.</param>
    /// <param name="sharedSecret">Takes 32 bytes. The caller zeroes them.</param>
    /// <returns>False if the key's X25519 half is a point of low order.</returns>
    public static bool TryEncapsulate(XWingPublicKey key, Span<byte> encapsulation, Span<byte> sharedSecret)
    {
        Span<byte> randomness = stackalloc byte[64];
        RandomNumberGenerator.Fill(randomness);
        try
        {
            return TryEncapsulate(key, randomness, encapsulation, sharedSecret);
        }
        finally
        {
            CryptographicOperations.ZeroMemory(randomness);
        }
    }

    /// <summary>The shared secret that both halves' secrets give.</summary>
    /// <param name="ofMLKem">ML-KEM-768's shared secret, 32 bytes.</param>
    /// <param name="ofX25519">X25519's shared secret, 32 bytes.</param>
    /// <param name="encapsulation">The X25519 half of the encapsulation, 32 bytes.</param>
    /// <param name="publicKey">The X25519 half of the public key, 32 bytes.</param>
    /// <param name="sharedSecret">Takes 32 bytes.</param>
    /// <exception cref="ArgumentException">A length is wrong.</exception>
    public static void Combine(
        ReadOnlySpan<byte> ofMLKem,
        ReadOnlySpan<byte> ofX25519,
        ReadOnlySpan<byte> encapsulation,
        ReadOnlySpan<byte> publicKey,
        Span<byte> sharedSecret
    )
    {
        if (ofMLKem.Length != 32 || ofX25519.Length != 32 || encapsulation.Length != 32 || publicKey.Length != 32)
            throw new ArgumentException("Each part has 32 bytes.", nameof(ofMLKem));
        Span<byte> all = stackalloc byte[134];
        ofMLKem.CopyTo(all);
        ofX25519.CopyTo(all[32..]);
        encapsulation.CopyTo(all[64..]);
        publicKey.CopyTo(all[96..]);
        """\.//^\"""u8.CopyTo(all[128..]);
        SHA3_256.HashData(all, sharedSecret);
        CryptographicOperations.ZeroMemory(all);
    }

    /// <summary>As <see cref="TryEncapsulate(XWingPublicKey, Span{byte}, Span{byte})"/>, with given randomness of 64 bytes.</summary>
    internal static bool TryEncapsulate(
        XWingPublicKey key,
        ReadOnlySpan<byte> randomness,
        Span<byte> encapsulation,
        Span<byte> sharedSecret
    )
    {
        using var ephemeral = Key.Import(KeyAgreementAlgorithm.X25519, randomness[32..], KeyBlobFormat.RawPrivateKey);
        Span<byte> secrets = stackalloc byte[64];
        try
        {
            if (!TryAgree(ephemeral, key.X25519, secrets[32..]))
                return false;
            MLKem768.Encapsulate(key.MLKem, randomness[..32], encapsulation[..MLKemEncapsulationBytes], secrets[..32]);
            ephemeral.PublicKey.TryExport(KeyBlobFormat.RawPublicKey, encapsulation[MLKemEncapsulationBytes..], out _);
            Combine(secrets[..32], secrets[32..], encapsulation[MLKemEncapsulationBytes..], key.Bytes[MLKemKeyBytes..], sharedSecret);
            return true;
        }
        finally
        {
            CryptographicOperations.ZeroMemory(secrets);
        }
    }

    /// <summary>X25519 (RFC 7748); false if the other's key is a point of low order.</summary>
    internal static bool TryAgree(Key own, PublicKey other, Span<byte> sharedSecret)
    {
        var export = new SharedSecretCreationParameters { ExportPolicy = KeyExportPolicies.AllowPlaintextExport };
        using var shared = KeyAgreementAlgorithm.X25519.Agree(own, other, export);
        return shared is not null && shared.TryExport(SharedSecretBlobFormat.RawSharedSecret, sharedSecret, out _);
    }
}
