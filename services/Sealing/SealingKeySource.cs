using Ministries.Keys;

namespace Ministries.Sealing;

/// <summary>Private keys for sealing, wherever they are (<see cref="KeySource"/>): a file or a secret with X-Wing's seed; or a token with
/// the X25519 half, and a file or a secret with the ML-KEM half, which few tokens have.</summary>
public static class SealingKeySource
{
    /// <summary>The PEM label of a file with the whole key: 32 bytes, X-Wing's seed.</summary>
    public const string Label = "X-WING PRIVATE KEY";

    /// <summary>The PEM label of a file with the ML-KEM half: 64 bytes, <c>d || z</c> (FIPS 203).</summary>
    public const string MLKemLabel = "ML-KEM-768 PRIVATE KEY";

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
                IDecapsulator (seed) => XWingPrivateKey.FromSeed(Sized(seed, XWing.SeedBytes)),
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
    public static IDecapsulator Join(IKeyAgreement x25519, ReadOnlySpan<byte> mlKemSeed) =>
        new XWingPrivateKey(Sized(mlKemSeed, XWingPrivateKey.MLKemSeedBytes), x25519.PublicKey.Span, x25519.TryAgree, x25519);

    private static ReadOnlySpan<byte> Sized(ReadOnlySpan<byte> seed, int size) =>
        seed.Length == size ? seed : throw new FormatException($"the seed must have {size} bytes and has {seed.Length}");
}
