using System.Security.Cryptography;
using Google.Protobuf;
using Ministries.Custody.V1;
using Ministries.Keys;
using Ministries.Sealing;
using Ministries.Trust;
using Ministries.Types.V1;
using NSec.Cryptography;

namespace Ministries.Client;

/// <content>Statements are committed to and attested (protos/SEALED.md, section 6).</content>
public sealed partial class MinistryClient
{
    // An official's key that the client vouches for itself is for this attestation.
    private static readonly TimeSpan ConfirmedFor = TimeSpan.FromDays(1),
        VouchedBefore = TimeSpan.FromMinutes(1);

    /// <summary>Completes an attestation with the signature of an official who was present, after all that he must be sure of. It reads the
    /// statement, opens what is sealed in it, makes its 16 commitments again and compares them, and computes the digest itself. It fills in
    /// the case, the prisoner and the etag if they are not set. Nothing is sent: let the official read what is returned first.</summary>
    /// <param name="request">The request, with the statement, the role and the official as its actor.</param>
    /// <param name="key">Where the official's key is (<see cref="KeySource"/>).</param>
    /// <param name="vouched">The participant's signature that certifies that key; null: the client certifies it for a day, with the
    /// participant's key for requests.</param>
    /// <param name="cancel">Ends it.</param>
    /// <returns>What is sealed in the statement.</returns>
    /// <exception cref="SealException">Nothing was signed: the statement is not sealed to the participant, so that the official could not
    /// know what he attests (<see cref="SealFault.WrongRecipient"/>); it does not open; or its commitments are not those to the
    /// destinations that are sealed in it (<see cref="SealFault.CommitmentDiffers"/>).</exception>
    /// <exception cref="FormatException">There is no such key, or the client has no key for requests with which to vouch.</exception>
    /// <exception cref="IOException">The file of the key cannot be read or is exposed, or the token cannot be used.</exception>
    /// <exception cref="RefusedException">The statement cannot be read.</exception>
    /// <exception cref="InvalidEntryException">As <see cref="OpenIn"/>.</exception>
    public async Task<Opened<StatementContent>> Attest(
        AttestStatementRequest request,
        string key,
        OfficialKey? vouched = null,
        CancellationToken cancel = default
    )
    {
        using var official = KeySource.Open(key, _settings.SecretsFolder);
        return await Attest(request, official, vouched, cancel);
    }

    /// <summary>As the other, with a key that the caller has.</summary>
    /// <param name="request">The request.</param>
    /// <param name="key">The official's key.</param>
    /// <param name="vouched">The participant's signature that certifies that key; null: the client makes it.</param>
    /// <param name="cancel">Ends it.</param>
    internal async Task<Opened<StatementContent>> Attest(
        AttestStatementRequest request,
        Signer key,
        OfficialKey? vouched = null,
        CancellationToken cancel = default
    )
    {
        ArgumentNullException.ThrowIfNull(key);
        var (opened, digest) = await OpenToAttest(request, cancel);
        Attest(request, digest, key, vouched);
        return opened;
    }

    /// <summary>The first half of <see cref="Attest(AttestStatementRequest, string, OfficialKey?, CancellationToken)"/>: everything but the
    /// signature, so that the official reads the statement before he signs.</summary>
    /// <param name="request">The request.</param>
    /// <param name="cancel">Ends it.</param>
    /// <returns>The sealed content of the statement, and the digest that the official signs.</returns>
    internal async Task<(Opened<StatementContent> Opened, ByteString Digest)> OpenToAttest(
        AttestStatementRequest request,
        CancellationToken cancel
    )
    {
        ArgumentNullException.ThrowIfNull(request);
        var get = new GetStatementRequest { Statement = request.Statement };
        var read = await Custody.GetStatementAsync(get, cancellationToken: cancel);
        var statement = read.Statement;
        if (statement.Content is not { Content.IsEmpty: false } content)
            throw new SealException(
                SealFault.WrongRecipient,
                "content",
                $"it is not sealed to {Participant.Id}, so its official cannot know what he would attest."
            );
        var opened = await OpenIn<StatementContent>(statement, content, cancel);
        var said = opened.Message;
        if (!AreCommitted(statement.Commitments, statement.Case, statement.Prisoner, said))
            throw new SealException(
                SealFault.CommitmentDiffers,
                "commitments",
                "they are not those to the destinations that are sealed in the statement and to nothing else."
            );
        if (request.Case.Length == 0)
            request.Case = statement.Case;
        if (request.Prisoner.Length == 0)
            request.Prisoner = statement.Prisoner;
        if (request.Etag.Length == 0)
            request.Etag = read.Etag;
        return (opened, StatementDigests.Of(statement, ByteString.CopyFrom(SHA256.HashData(content.Content.Span))));
    }

    /// <summary>The second half: the signature.</summary>
    /// <param name="request">The request.</param>
    /// <param name="digest">The digest.</param>
    /// <param name="key">The official's key.</param>
    /// <param name="vouched">The participant's signature that certifies that key; null: the client makes it.</param>
    internal void Attest(AttestStatementRequest request, ByteString digest, Signer key, OfficialKey? vouched = null) =>
        Attestations.Sign(request, digest, Agreement.TrustDomain, Participant.Id, key, vouched ?? CertifyKey(request.Actor.Official, key));

    private OfficialKey CertifyKey(string official, Signer key)
    {
        var now = _time.GetUtcNow();
        var own = _key ?? throw new FormatException("the participant's key for requests is needed to vouch for an official's key");
        return own.Use(requests =>
            Attestations.CertifyKey(
                Agreement.TrustDomain,
                Listed(Participant.Id) ?? Participant,
                requests.Key,
                official,
                PublicKey.Import(SignatureAlgorithm.Ed25519, key.PublicKey.Span, KeyBlobFormat.RawPublicKey),
                now - VouchedBefore,
                now + ConfirmedFor
            )
        );
    }

    // The commitments to the destinations in the sealed content, which nobody makes by hand.
    private static void Commit(IMessage request, IMessage message)
    {
        if (request is not RecordStatementRequest statement || message is not StatementContent said)
            return;
        if (said.WishSecret.IsEmpty && statement.Commitments.Count == 0)
            said.WishSecret = ByteString.CopyFrom(RandomNumberGenerator.GetBytes(WishCommitments.Bytes));
        if (said.WishSecret.Length != WishCommitments.Bytes)
            throw new SealException(SealFault.NotAsDeclared, "content.wish_secret", $"it must be {WishCommitments.Bytes} bytes.");
        if (statement.Commitments.Count == 0)
            statement.Commitments.Add(
                WishCommitments.Make(statement.Case, statement.Prisoner, said.AcceptedDestinations, said.WishSecret.Span)
            );
        else if (!AreCommitted(statement.Commitments, statement.Case, statement.Prisoner, said))
            throw new ArgumentException("the commitments are not those to the destinations that are sealed", nameof(request));
    }

    /// <summary>Whether the commitments are those to the destinations that the prisoner stated, and to nothing else.</summary>
    internal static bool AreCommitted(IReadOnlyList<ByteString> commitments, string @case, string prisoner, StatementContent said) =>
        WishCommitments.Verify(commitments, @case, prisoner, said.AcceptedDestinations, said.WishSecret.Span);
}
