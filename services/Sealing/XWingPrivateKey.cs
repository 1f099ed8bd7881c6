using System.Security.Cryptography;
using NSec.Cryptography;
using Org.BouncyCastle.Crypto.Parameters;

namespace Ministries.Sealing;

/// <summary>Computes X25519 (RFC 7748) with a private key that is kept elsewhere.</summary>
/// <param name="other">The other's public key, 32 bytes.</param>
/// <param name="sharedSecret">Takes 32 bytes.</param>
/// <returns>False if there is no secret, because the other's key is a point of low order.</returns>
public delegate bool X25519Agreement(ReadOnlySpan<byte> other, Span<byte> sharedSecret);

/// <summary>A private key of X-Wing whose ML-KEM half is in this process. Its X25519 half is too, in memory that NSec protects, or it is
/// in a token.</summary>
public sealed class XWingPrivateKey : IDecapsulator
{
    /// <summary>The size of the seed of the ML-KEM half.</summary>
    public const int MLKemSeedBytes = 64;

    private readonly X25519Agreement _agree;
    private readonly IDisposable _x25519;
    private MLKemPrivateKeyParameters? _mlKem;

    /// <summary>A key of two halves.</summary>
    /// <param name="mlKemSeed">The seed of the ML-KEM half, 64 bytes: d and z of FIPS 203. It is not kept; the caller zeroes it.</param>
    /// <param name="x25519PublicKey">The public key of the X25519 half, 32 bytes.</param>
    /// <param name="agree">Computes X25519 with the private half.</param>
    /// <param name="x25519">The private half; disposed of with this.</param>
    /// <exception cref="ArgumentException">A length is wrong.</exception>
    public XWingPrivateKey(ReadOnlySpan<byte> mlKemSeed, ReadOnlySpan<byte> x25519PublicKey, X25519Agreement agree, IDisposable x25519)
    {
        ArgumentOutOfRangeException.ThrowIfNotEqual(mlKemSeed.Length, MLKemSeedBytes);
        ArgumentOutOfRangeException.ThrowIfNotEqual(x25519PublicKey.Length, 32);
        var seed = mlKemSeed.ToArray();
        _mlKem = MLKemPrivateKeyParameters.FromSeed(MLKemParameters.ml_kem_768, seed);
        CryptographicOperations.ZeroMemory(seed);
        (_agree, _x25519) = (agree, x25519);
        PublicKey = XWingPublicKey.TryRead([.. _mlKem.GetPublicKeyEncoded(), .. x25519PublicKey])!;
    }

    /// <inheritdoc/>
    public XWingPublicKey PublicKey { get; }

    /// <summary>The key that a seed stands for.</summary>
    /// <param name="seed">32 bytes. It is not kept; the caller zeroes it.</param>
    /// <exception cref="ArgumentException">It has another length.</exception>
    public static XWingPrivateKey FromSeed(ReadOnlySpan<byte> seed)
    {
        ArgumentOutOfRangeException.ThrowIfNotEqual(seed.Length, XWing.SeedBytes);
        Span<byte> expanded = stackalloc byte[MLKemSeedBytes + 32];
        try
        {
            Shake256.HashData(seed, expanded);
            var x25519 = Key.Import(KeyAgreementAlgorithm.X25519, expanded[MLKemSeedBytes..], KeyBlobFormat.RawPrivateKey);
            return new XWingPrivateKey(
                expanded[..MLKemSeedBytes],
                x25519.PublicKey.Export(KeyBlobFormat.RawPublicKey),
                (other, sharedSecret) =>
                    XWing.TryAgree(
                        x25519,
                        NSec.Cryptography.PublicKey.Import(KeyAgreementAlgorithm.X25519, other, KeyBlobFormat.RawPublicKey),
                        sharedSecret
                    ),
                x25519
            );
        }
        finally
        {
            CryptographicOperations.ZeroMemory(expanded);
        }
    }

    /// <summary>The ML-KEM half, as BouncyCastle keeps it; null: it was disposed of.</summary>
    internal MLKemPrivateKeyParameters? MLKem => _mlKem;

    /// <inheritdoc/>
    public bool TryDecapsulate(ReadOnlySpan<byte> encapsulation, Span<byte> sharedSecret)
    {
        var mlKem = _mlKem;
        ObjectDisposedException.ThrowIf(mlKem is null, this);
        if (encapsulation.Length != XWing.EncapsulationBytes || sharedSecret.Length != XWing.SharedSecretBytes)
            throw new ArgumentException("An encapsulation has 1120 bytes and its secret 32.", nameof(encapsulation));
        var point = encapsulation[XWing.MLKemEncapsulationBytes..];
        Span<byte> secrets = stackalloc byte[64];
        try
        {
            // A token may give zeros for a point of low order instead of an error.
            if (!_agree(point, secrets[32..]) || !secrets[32..].ContainsAnyExcept((byte)0))
                return false;
            MLKem768.Decapsulate(mlKem, encapsulation[..XWing.MLKemEncapsulationBytes], secrets[..32]);
            XWing.Combine(secrets[..32], secrets[32..], point, PublicKey.Bytes[XWing.MLKemKeyBytes..], sharedSecret);
            return true;
        }
        finally
        {
            CryptographicOperations.ZeroMemory(secrets);
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _x25519.Dispose();
        if (Interlocked.Exchange(ref _mlKem, null) is { } key)
            MLKem768.Zero(key);
    }
}
