using System.Runtime.CompilerServices;
using System.Security.Cryptography;
using Org.BouncyCastle.Crypto.Kems;
using Org.BouncyCastle.Crypto.Parameters;
using Org.BouncyCastle.Crypto.Prng;
using Org.BouncyCastle.Security;

namespace Ministries.Sealing;

/// <summary>ML-KEM-768 (FIPS 203) as X-Wing uses it, by BouncyCastle.</summary>
internal static class MLKem768
{
    private const int Modulus = 3329;
    private const int VectorBytes = 1152;

    /// <summary>Whether every coefficient of an encapsulation key is below the modulus (FIPS 203, 7.2).</summary>
    public static bool HasModulus(ReadOnlySpan<byte> encapsulationKey)
    {
        for (var i = 0; i < VectorBytes; i += 3)
            if (
                (encapsulationKey[i] | (encapsulationKey[i + 1] & 15) << 8) >= Modulus
                || (encapsulationKey[i + 1] >> 4 | encapsulationKey[i + 2] << 4) >= Modulus
            )
                return false;
        return true;
    }

    /// <summary>Encapsulates with given randomness.</summary>
    public static void Encapsulate(
        MLKemPublicKeyParameters key,
        ReadOnlySpan<byte> randomness,
        Span<byte> encapsulation,
        Span<byte> sharedSecret
    )
    {
        var given = new Given(randomness);
        try
        {
            var encapsulator = new MLKemEncapsulator(MLKemParameters.ml_kem_768);
            encapsulator.Init(new ParametersWithRandom(key, new SecureRandom(given)));
            encapsulator.Encapsulate(encapsulation, sharedSecret);
        }
        finally
        {
            given.Zero();
        }
    }

    /// <summary>Decapsulates. A ciphertext that is not of this key gives a pseudorandom secret (implicit rejection).</summary>
    public static void Decapsulate(MLKemPrivateKeyParameters key, ReadOnlySpan<byte> encapsulation, Span<byte> sharedSecret)
    {
        ArgumentOutOfRangeException.ThrowIfNotEqual(encapsulation.Length, XWing.MLKemEncapsulationBytes);
        var decapsulator = new MLKemDecapsulator(MLKemParameters.ml_kem_768);
        decapsulator.Init(key);
        decapsulator.Decapsulate(encapsulation, sharedSecret);
    }

    /// <summary>Overwrites a private key with zeros in place: its seed and the values expanded from it. An operation that uses the key at
    /// that moment gets a wrong secret, with which nothing opens.</summary>
    public static void Zero(MLKemPrivateKeyParameters key)
    {
        CryptographicOperations.ZeroMemory(SeedOf(key));
        CryptographicOperations.ZeroMemory(EncodingOf(key));
    }

    // The library returns only copies, which cannot be zeroed, so its private fields are used. If a version of the library names them
    // differently, this fails, and so do the tests.
    [UnsafeAccessor(UnsafeAccessorKind.Field, Name = "m_seed")]
    private static extern ref byte[] SeedOf(MLKemPrivateKeyParameters key);

    [UnsafeAccessor(UnsafeAccessorKind.Field, Name = "m_encoding")]
    private static extern ref byte[] EncodingOf(MLKemPrivateKeyParameters key);

    // Gives exactly the bytes that it was made with, once. So this code chooses the randomness, and published test vectors take the same
    // path as messages.
    private sealed class Given(ReadOnlySpan<byte> bytes) : IRandomGenerator
    {
        private readonly byte[] _bytes = bytes.ToArray();
        private int _at;

        public void AddSeedMaterial(byte[] seed) { }

        public void AddSeedMaterial(ReadOnlySpan<byte> seed) { }

        public void AddSeedMaterial(long seed) { }

        public void NextBytes(byte[] bytes) => NextBytes(bytes.AsSpan());

        public void NextBytes(byte[] bytes, int start, int len) => NextBytes(bytes.AsSpan(start, len));

        public void NextBytes(Span<byte> bytes)
        {
            // It throws rather than give a byte twice.
            _bytes.AsSpan(_at, bytes.Length).CopyTo(bytes);
            _at += bytes.Length;
        }

        public void Zero() => CryptographicOperations.ZeroMemory(_bytes);
    }
}
