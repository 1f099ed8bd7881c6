using NSec.Cryptography;
using Org.BouncyCastle.Crypto.Parameters;

namespace Ministries.Sealing;

/// <summary>A public key of X-Wing that has been checked and is ready for use.</summary>
public sealed class XWingPublicKey
{
    private readonly byte[] _bytes;

    private XWingPublicKey(byte[] bytes)
    {
        _bytes = bytes;
        MLKem = MLKemPublicKeyParameters.FromEncoding(MLKemParameters.ml_kem_768, bytes[..XWing.MLKemKeyBytes]);
        X25519 = NSec.Cryptography.PublicKey.Import(
            KeyAgreementAlgorithm.X25519,
            bytes.AsSpan(XWing.MLKemKeyBytes),
            KeyBlobFormat.RawPublicKey
        );
    }

    /// <summary>The 1216 bytes: the ML-KEM-768 encapsulation key, then the X25519 public key.</summary>
    public ReadOnlySpan<byte> Bytes => _bytes;

    internal MLKemPublicKeyParameters MLKem { get; }

    internal NSec.Cryptography.PublicKey X25519 { get; }

    /// <summary>Reads a public key and checks it: its length, and the modulus of its ML-KEM half (FIPS 203, 7.2). A point of low order
    /// is found when something is encapsulated.</summary>
    /// <param name="bytes">1216 bytes.</param>
    /// <returns>Null: it is not valid.</returns>
    public static XWingPublicKey? TryRead(ReadOnlySpan<byte> bytes) =>
        bytes.Length == XWing.PublicKeyBytes && MLKem768.HasModulus(bytes[..XWing.MLKemKeyBytes]) ? new(bytes.ToArray()) : null;
}
