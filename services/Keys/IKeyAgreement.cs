namespace Ministries.Keys;

/// <summary>An X25519 private key (RFC 7748), wherever it lives: the half of a key for sealing that a token can keep.</summary>
public interface IKeyAgreement : IDisposable
{
    /// <summary>The public key: 32 bytes.</summary>
    ReadOnlyMemory<byte> PublicKey { get; }

    /// <summary>Computes the secret that this key and another's public key give.</summary>
    /// <param name="other">The other's public key, 32 bytes.</param>
    /// <param name="secret">Takes 32 bytes. The caller zeroes them.</param>
    /// <returns>False if the other's key is a point of low order, which gives no secret.</returns>
    /// <exception cref="TokenException">The token does not compute it, for example because it was removed.</exception>
    bool TryAgree(ReadOnlySpan<byte> other, Span<byte> secret);
}
