namespace Ministries.Sealing;

/// <summary>The private half of an X-Wing key, wherever it lives.</summary>
/// <remarks>
/// The two halves of X-Wing may live apart, because few tokens have ML-KEM. The decapsulator of such a key asks the token for X25519
/// (PKCS#11: <c>C_DeriveKey</c> with <c>CKM_ECDH1_DERIVE</c>, <c>CKD_NULL</c> and the last 32 bytes of the encapsulation), computes
/// ML-KEM-768 from a seed in a file, and joins both with <see cref="XWing.Combine"/>. Whoever steals the file alone or the token alone
/// opens nothing: X-Wing is secure while one of its halves is. Such a key is made half by half. Its public key is the ML-KEM-768
/// encapsulation key, followed by the X25519 public key, so a sender does not see where the halves live.
/// </remarks>
public interface IDecapsulator : IDisposable
{
    /// <summary>The public key: 1216 bytes.</summary>
    XWingPublicKey PublicKey { get; }

    /// <summary>Computes the shared secret of an encapsulation. An encapsulation to another key gives another secret and no error.</summary>
    /// <param name="encapsulation">1120 bytes.</param>
    /// <param name="sharedSecret">Takes the 32 bytes. The caller zeroes them.</param>
    /// <returns>False if its X25519 half is a point of low order, which gives no secret.</returns>
    /// <exception cref="ArgumentException">A length is wrong.</exception>
    bool TryDecapsulate(ReadOnlySpan<byte> encapsulation, Span<byte> sharedSecret);
}
