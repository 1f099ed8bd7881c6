using System.Security.Cryptography;
using Ministries.Keys;
using Org.BouncyCastle.Crypto.Parameters;

namespace Ministries.Sealing;

/// <summary>Private keys for sealing, wherever they are (<see cref="KeySource"/>): a file or a secret with X-Wing's seed; or a token with the
/// X25519 half, and a file or a secret with the ML-KEM half, which few tokens have.</summary>
public static class SealingKeys
{
    /// <summary>The PEM label of a file with the whole key: 32 bytes, X-Wing's seed.</summary>
    public const string Label = "X-WING PRIVATE KEY";

    /// <summary>The PEM label of a file with the ML-KEM half: 64 bytes, <c>d || z</c> (FIPS 203).</summary>
    public const string MLKemLabel = "ML-KEM-768 PRIVATE KEY";

    /// <summary>The size of the seed of ML-KEM-768's half: <c>d || z</c>.</summary>
    public const int MLKemSeedBytes = 64;

    /// <summary>Opens a key.</summary>
    /// <param name="location">Where it is. A key in a token names the file of its other half: <c>…&amp;ml-kem-source=file:PATH</c>.</param>
    /// <param name="secretsFolder">The secrets folder; null: <see cref="KeySource.DefaultSecretsFolder"/>.</param>
    /// <exception cref="FormatException">The location is none, or a file holds no such key. The message repeats nothing of the file.
    /// </exception>
    /// <exception cref="IOException">A file cannot be read or is exposed, or the token cannot be used (<see cref="TokenException"/>).
    /// </exception>
    public static IDecapsulator Open(string location, string? secretsFolder = null)
    {
        if (KeySource.OpenHalf(location, secretsFolder) is not var (x25519, mlKem))
            return KeySource.Read(
                location,
                Label,
                seed => (IDecapsulator)new XWing.PrivateKey(Sized(seed, XWing.SeedBytes)),
                secretsFolder
            );
        try
        {
            return KeySource.Read(mlKem, MLKemLabel, seed => Join(x25519, seed), secretsFolder);
        }
        catch
        {
            x25519.Dispose();
            throw;
        }
    }

    /// <summary>Joins two halves that live apart. The X25519 half is disposed of with the key.</summary>
    /// <param name="x25519">The X25519 half.</param>
    /// <param name="mlKemSeed">The 64 bytes of the ML-KEM half. They are not kept; the caller zeroes them.</param>
    /// <exception cref="FormatException">The seed has not 64 bytes.</exception>
    public static IDecapsulator Join(IKeyAgreement x25519, ReadOnlySpan<byte> mlKemSeed)
    {
        var seed = Sized(mlKemSeed, MLKemSeedBytes).ToArray();
        try
        {
            return new Joined(x25519, MLKemPrivateKeyParameters.FromSeed(MLKemParameters.ml_kem_768, seed));
        }
        finally
        {
            CryptographicOperations.ZeroMemory(seed);
        }
    }

    private static ReadOnlySpan<byte> Sized(ReadOnlySpan<byte> seed, int size) =>
        seed.Length == size ? seed : throw new FormatException($"the seed must have {size} bytes and has {seed.Length}");

    private sealed class Joined(IKeyAgreement x25519, MLKemPrivateKeyParameters mlKem) : IDecapsulator
    {
        public XWingPublicKey PublicKey { get; } = XWingPublicKey.TryRead([.. mlKem.GetPublicKeyEncoded(), .. x25519.PublicKey.Span])!;

        public bool TryDecapsulate(ReadOnlySpan<byte> encapsulation, Span<byte> sharedSecret)
        {
            if (encapsulation.Length != XWing.EncapsulationBytes || sharedSecret.Length != XWing.SharedSecretBytes)
                throw new ArgumentException("An encapsulation has 1120 bytes and its secret 32.", nameof(encapsulation));
            var point = encapsulation[XWing.MLKemEncapsulationBytes..];
            Span<byte> secrets = stackalloc byte[64];
            try
            {
                if (!x25519.TryAgree(point, secrets[32..]))
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

        public void Dispose() => x25519.Dispose();
    }
}
