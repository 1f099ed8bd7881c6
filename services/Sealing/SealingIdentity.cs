using System.Security.Cryptography;

namespace Ministries.Sealing;

/// <summary>A participant's own key for sealing: what is sealed to it is opened with this. Zeroed when disposed of; never
/// printed.</summary>
public sealed class SealingIdentity : IDisposable
{
    /// <summary>An identity whose private half lives elsewhere, such as in a token.</summary>
    /// <param name="id">The key's id in the agreement.</param>
    /// <param name="privateHalf">The private half; disposed of with this.</param>
    public SealingIdentity(string id, IDecapsulator privateHalf) => (Id, PrivateHalf) = (id, privateHalf);

    /// <summary>The key's id in the agreement.</summary>
    public string Id { get; }

    /// <summary>The public key, as it stands in the agreement.</summary>
    public XWingPublicKey PublicKey => PrivateHalf.PublicKey;

    internal IDecapsulator PrivateHalf { get; }

    /// <summary>A new seed: 32 random bytes, which are all of the private key. The caller stores them and zeroes them.</summary>
    public static byte[] NewSeed() => RandomNumberGenerator.GetBytes(XWing.SeedBytes);

    /// <summary>The identity of a seed. The seed is not kept; the caller zeroes it.</summary>
    /// <param name="id">The key's id in the agreement.</param>
    /// <param name="seed">32 bytes.</param>
    /// <exception cref="ArgumentException">The seed has not 32 bytes.</exception>
    public static SealingIdentity FromSeed(string id, ReadOnlySpan<byte> seed) => new(id, XWingPrivateKey.FromSeed(seed));

    /// <summary>Says which key it is, and nothing of its private half.</summary>
    public override string ToString() => $"sealing key {Id}";

    /// <inheritdoc/>
    public void Dispose() => PrivateHalf.Dispose();
}
