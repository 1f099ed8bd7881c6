using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Ministries.Custody.V1;
using Ministries.Errors.V1;
using Ministries.Keys;
using Ministries.Types.V1;
using NSec.Cryptography;

namespace Ministries.Trust;

/// <summary>
/// Signs attestations of statements, vouches for the keys of officials, and verifies what was signed (<see cref="AttestationChecks"/>).
/// </summary>
public static class Attestations
{
    /// <summary>What is wrong with an attestation; null: nothing (<see cref="AttestationChecks"/>).</summary>
    /// <param name="given">The attestation.</param>
    /// <param name="digest">The digest of the statement.</param>
    /// <param name="participant">The participant that answers for the official.</param>
    /// <param name="permissions">The agreement.</param>
    public static Reason? Fault(Attestation given, ByteString digest, Participant participant, Permissions permissions) =>
        AttestationChecks.Fault(
            digest,
            given.Role,
            given.Official,
            given.OfficialKey,
            given.Signature,
            participant,
            permissions,
            given.Time?.ToDateTimeOffset() ?? default,
            SigningKeys.Verifies
        );

    /// <summary>Vouches for an official's key.</summary>
    /// <param name="trustDomain">The agreement's trust domain.</param>
    /// <param name="owner">The participant that answers for the official, as the agreement lists it.</param>
    /// <param name="requests">The participant's key for requests.</param>
    /// <param name="official">The official's pseudonymous id.</param>
    /// <param name="key">The official's key.</param>
    /// <param name="from">From when it holds, in whole seconds.</param>
    /// <param name="until">Until when it holds, in whole seconds; at most <see cref="AttestationChecks.LongestLife"/> later.</param>
    /// <exception cref="FormatException">The agreement lists no such key for requests of the participant.</exception>
    public static OfficialKey CertifyKey(
        string trustDomain,
        Participant owner,
        Signer requests,
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
        vouched.Signature = ByteString.CopyFrom(requests.Sign(AttestationChecks.TextOf(vouched, trustDomain, owner.Id)));
        return vouched;
    }

    /// <summary>Signs a request to attest a statement, in the name of its actor. The signer must first have read the sealed content,
    /// recomputed its commitments and computed its digest himself.</summary>
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
        Signer key,
        OfficialKey vouched
    )
    {
        (request.Digest, request.OfficialKey) = (digest, vouched);
        request.Signature = ByteString.CopyFrom(
            key.Sign(AttestationChecks.Text(trustDomain, digest, request.Role, participant, request.Actor.Official))
        );
    }
}
