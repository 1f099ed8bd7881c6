using System.Text;
using Google.Protobuf;
using Ministries.Custody.V1;
using Ministries.Errors.V1;
using Ministries.Types.V1;

namespace Ministries.Rules;

/// <summary>Whether a signature is the key's over the text: strict Ed25519, as <c>Ministries.Keys.StrictEd25519</c> verifies it.</summary>
/// <param name="publicKey">The public key.</param>
/// <param name="text">What was signed.</param>
/// <param name="signature">The signature.</param>
public delegate bool SignatureVerifier(ByteString publicKey, ReadOnlySpan<byte> text, ByteString signature);

/// <summary>
/// Attestations of statements (D7): each a signature by the key of an official who was present, under a pseudonym, over the digest of the
/// statement. The participant that answers for the official vouches for that key with its own key for requests, which the agreement lists.
/// The rule and the verifiers of an agreement call this same code.
/// </summary>
public static class AttestationChecks
{
    /// <summary>The longest time for which an official's key may hold: 400 days.</summary>
    public static readonly TimeSpan LongestLife = TimeSpan.FromDays(400);

    /// <summary>What is wrong with an attestation; null: nothing.</summary>
    /// <param name="digest">The digest of the statement.</param>
    /// <param name="role">The role in which the official was present.</param>
    /// <param name="official">The official's pseudonymous id.</param>
    /// <param name="key">The official's key.</param>
    /// <param name="signature">The signature.</param>
    /// <param name="participant">The participant that answers for the official.</param>
    /// <param name="permissions">The agreement.</param>
    /// <param name="at">When it was given.</param>
    /// <param name="verifies">Verifies signatures.</param>
    /// <returns><see cref="Reason.OfficialKeyNotValid"/>, <see cref="Reason.AttestationWrong"/> or null.</returns>
    public static Reason? Fault(
        ByteString digest,
        AttesterRole role,
        string official,
        OfficialKey? key,
        ByteString signature,
        Participant participant,
        Permissions permissions,
        DateTimeOffset at,
        SignatureVerifier verifies
    )
    {
        var domain = permissions.Agreement.TrustDomain;
        if (key is null || !IsVouchedFor(key, official, participant, permissions, at, verifies))
            return Reason.OfficialKeyNotValid;
        return verifies(key.PublicKey, Text(domain, digest, role, participant.Id, official), signature) ? null : Reason.AttestationWrong;
    }

    private static bool IsVouchedFor(
        OfficialKey key,
        string official,
        Participant participant,
        Permissions permissions,
        DateTimeOffset at,
        SignatureVerifier verifies
    ) =>
        key.Official == official
        && key is { ValidFromTime: { Nanos: 0 } from, ValidUntilTime: { Nanos: 0 } until }
        && from.ToDateTimeOffset() is var begin
        && until.ToDateTimeOffset() is var end
        && begin <= at
        && at < end
        && end - begin <= LongestLife
        && permissions.SigningKey(key.KeyId) is { } voucher
        && voucher.Owner.Id == participant.Id
        && voucher.Key.Use == SigningKeyUse.Requests
        && voucher.Key.IsValidAt(at)
        && verifies(voucher.Key.PublicKey, TextOf(key, permissions.Agreement.TrustDomain, participant.Id), key.Signature);

    /// <summary>What an official signs.</summary>
    /// <param name="trustDomain">The agreement's trust domain.</param>
    /// <param name="digest">The digest of the statement.</param>
    /// <param name="role">The role in which the official was present.</param>
    /// <param name="participant">The participant that answers for the official.</param>
    /// <param name="official">The official's pseudonymous id.</param>
    public static byte[] Text(string trustDomain, ByteString digest, AttesterRole role, string participant, string official) =>
        Lines("ministries.attestation.v1", trustDomain, digest.ToBase64(), $"{(int)role}", participant, official);

    /// <summary>What a participant signs that vouches for a key.</summary>
    /// <param name="key">The key.</param>
    /// <param name="trustDomain">The agreement's trust domain.</param>
    /// <param name="participant">The participant.</param>
    public static byte[] TextOf(OfficialKey key, string trustDomain, string participant) =>
        Lines(
            "ministries.official-key.v1",
            trustDomain,
            participant,
            key.Official,
            key.PublicKey.ToBase64(),
            $"{key.ValidFromTime.Seconds}",
            $"{key.ValidUntilTime.Seconds}",
            key.KeyId
        );

    private static byte[] Lines(params ReadOnlySpan<string> lines) => Encoding.UTF8.GetBytes($"{string.Join('\n', lines)}\n");
}
