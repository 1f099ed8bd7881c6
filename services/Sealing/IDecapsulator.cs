namespace Ministries.Sealing;

/// <summary>The private half of an X-Wing key, wherever it lives.</summary>
/// <remarks>
/// The two halves of X-Wing may live apart, because few tokens have ML-KEM. Then <see cref="XWingPrivateKey"/> is made of the 64 bytes of
/// the ML-KEM half, from a file, and of a delegate that asks the token for X25519 (PKCS#11: <c>C_DeriveKey</c> with
/// <c>CKM_ECDH1_DERIVE</c>, <c>CKD_NULL</c> and the given 32 bytes). A thief of only the file or only the token opens nothing: X-Wing is
/// secure while one of its halves is. A sender does not see where the halves live. A token that has both implements this interface itself,
/// and so does an agent that keeps the key in another process.
/// </remarks>
public interface IDecapsulator : IDisposable
{
    /// <summary>The public key: 1216 bytes.</summary>
    XWingPublicKey PublicKey { get; }

    /// <summary>Computes the shared secret of an encapsulation. An encapsulation to another key gives another secret and no
    /// error.</summary>
    /// <param name="encapsulation">1120 bytes.</param>
    /// <param name="sharedSecret">Takes the 32 bytes. The caller zeroes them.</param>
    /// <returns>False if its X25519 half is a point of low order, which gives no secret.</returns>
    /// <exception cref="ArgumentException">A length is wrong.</exception>
    bool TryDecapsulate(ReadOnlySpan<byte> encapsulation, Span<byte> sharedSecret);
}
