using Google.Protobuf;
using Ministries.Keys;
using Ministries.Types.V1;

namespace Ministries.Trust;

/// <summary>The agreement's signing keys, and what they sign (Ed25519, RFC 8032).</summary>
public static class SigningKeys
{
    /// <summary>Whether a signature is the key's over the text; false also if one of the two has a wrong length.</summary>
    /// <param name="publicKey">The public key.</param>
    /// <param name="text">What was signed.</param>
    /// <param name="signature">The signature.</param>
    public static bool Verifies(ByteString publicKey, ReadOnlySpan<byte> text, ByteString signature) =>
        StrictEd25519.Verifies(publicKey.Span, text, signature.Span);

    /// <summary>A participant's key as the agreement lists it.</summary>
    /// <param name="owner">The participant.</param>
    /// <param name="use">What it signs.</param>
    /// <param name="key">The key.</param>
    /// <exception cref="FormatException">The agreement lists no such key of the participant.</exception>
    public static SigningKey Listed(Participant owner, SigningKeyUse use, Signer key)
    {
        var bytes = ByteString.CopyFrom(key.PublicKey.Span);
        return owner.SigningKeys.FirstOrDefault(k => k.Use == use && k.PublicKey == bytes)
            ?? throw new FormatException(
                $"the key is not one of {owner.Id}'s keys for {use.ToString().ToLowerInvariant()} in the agreement"
            );
    }
}
