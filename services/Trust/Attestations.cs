using System.Text;
using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Ministries.Custody.V1;
using Ministries.Errors.V1;
using Ministries.Types.V1;
using NSec.Cryptography;

namespace Ministries.Trust;

/// <summary>
/// Attestations of statements (D7): each a signature by the key of an official who was present, under a pseudonym, over the digest of the
/// statement. The participant that answers for the official vouches for that key with its own key for requests, which the agreement lists.
/// The services and whoever verifies an agreement call this same code.
/// </summary>
public static class Attestations
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
    /// <returns><see cref="Reason.OfficialKeyNotValid"/>, <see cref="Reason.AttestationWrong"/> or null.</returns>
    public static Reason? Fault(
        ByteString digest,
        AttesterRole role,
        string official,
        OfficialKey? key,
        ByteString signature,
        Participant participant,
        Permissions permissions,
        DateTimeOffset at
    )
    {
        var domain = permissions.Agreement.TrustDomain;
        if (key is null || !IsVouchedFor(key, official, participant, permissions, at))
            return Reason.OfficialKeyNotValid;
        return SigningKeys.Verifies(key.PublicKey, Text(domain, digest, role, participant.Id, official), signature)
            ? null
            : Reason.AttestationWrong;
    }

    /// <summary>Vouches for an official's key.</summary>
    /// <param name="trustDomain">The agreement's trust domain.</param>
    /// <param name="owner">The participant that answers for the official, as the agreement lists it.</param>
    /// <param name="requests">The participant's key for requests.</param>
    /// <param name="official">The official's pseudonymous id.</param>
    /// <param name="key">The official's key.</param>
    /// <param name="from">From when it holds, in whole seconds.</param>
    /// <param name="until">Until when it holds, in whole seconds; at most <see cref="LongestLife"/> later.</param>
    /// <exception cref="FormatException">The agreement lists no such key for requests of the participant.</exception>
    public static OfficialKey Vouch(
        string trustDomain,
        Participant owner,
        Key requests,
        string official,
        PublicKey key,
        DateTimeOffset from,
        DateTimeOffset until
    )
    {
        var vouched = new OfficialKey
        {
            Official = official,
            PublicKey = ByteString.CopyFrom(key.Export(KeyBlobFormat.RawPublicKey)),
            ValidFromTime = new Timestamp { Seconds = from.ToUnixTimeSeconds() },
            ValidUntilTime = new Timestamp { Seconds = until.ToUnixTimeSeconds() },
            KeyId = SigningKeys.Listed(owner, SigningKeyUse.Requests, requests).Id,
        };
        vouched.Signature = ByteString.CopyFrom(SignatureAlgorithm.Ed25519.Sign(requests, TextOf(vouched, trustDomain, owner.Id)));
        return vouched;
    }

    /// <summary>Signs a request to attest a statement, in the name of its actor. Who signs has read what is sealed in it, made its
    /// commitments again and computed its digest himself.</summary>
    /// <param name="request">The request, with its role and actor.</param>
    /// <param name="digest">The digest of the statement (<see cref="StatementDigests"/>).</param>
    /// <param name="trustDomain">The agreement's trust domain.</param>
    /// <param name="participant">The participant that answers for the official.</param>
    /// <param name="key">The official's key.</param>
    /// <param name="vouched">The participant's word for that key.</param>
    public static void Sign(
        AttestStatementRequest request,
        ByteString digest,
        string trustDomain,
        string participant,
        Key key,
        OfficialKey vouched
    )
    {
        (request.Digest, request.OfficialKey) = (digest, vouched);
        request.Signature = ByteString.CopyFrom(
            SignatureAlgorithm.Ed25519.Sign(key, Text(trustDomain, digest, request.Role, participant, request.Actor.Official))
        );
    }

    private static bool IsVouchedFor(
        OfficialKey key,
        string official,
        Participant participant,
        Permissions permissions,
        DateTimeOffset at
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
        && RequestSignatures.IsValidAt(voucher.Key, at)
        && SigningKeys.Verifies(voucher.Key.PublicKey, TextOf(key, permissions.Agreement.TrustDomain, participant.Id), key.Signature);

    private static byte[] Text(string trustDomain, ByteString digest, AttesterRole role, string participant, string official) =>
        Lines("ministries.attestation.v1", trustDomain, digest.ToBase64(), $"{(int)role}", participant, official);

    private static byte[] TextOf(OfficialKey key, string trustDomain, string participant) =>
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
