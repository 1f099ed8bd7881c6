using Ministries.Errors.V1;
using Ministries.Keys;
using Ministries.Ledger;
using Ministries.Ledger.V1;
using Ministries.Types.V1;

namespace Ministries.Trust;

/// <summary>A version of the agreement as a ledger took it over.</summary>
/// <param name="Bytes">Its bytes, signatures included: the request part of the entry.</param>
/// <param name="Time">The entry's commit time.</param>
public sealed record AdoptedAgreement(ReadOnlyMemory<byte> Bytes, DateTimeOffset Time);

/// <summary>A version of the agreement in a ledger cannot be relied on, and neither can those after it.</summary>
/// <param name="version">The version; zero where it cannot be read.</param>
/// <param name="index">Its place among the versions that were given, from 0.</param>
/// <param name="why">What is wrong.</param>
/// <param name="fault">The fault, where it is of the signatures; null: the bytes are no agreement.</param>
public sealed class KeyHistoryException(ulong version, int index, string why, AgreementFault? fault = null)
    : Exception($"version {version} of the agreement does not hold: {why}")
{
    /// <summary>The version; zero where it cannot be read.</summary>
    public ulong Version => version;

    /// <summary>Its place among the versions that were given, from 0.</summary>
    public int Index => index;

    /// <summary>The fault, where it is of the signatures; null: the bytes are no agreement.</summary>
    public AgreementFault? Fault => fault;
}

/// <summary>
/// The keys of all participants as the versions of the agreement listed them, one version after the other. An entry names the version that
/// it was judged by, so a signature is judged by the keys of that time, whatever happened to its key later.
/// </summary>
public sealed class KeyHistory
{
    /// <summary>How long a request may have waited for its commit after its signature was checked: 1 minute.</summary>
    public static readonly TimeSpan LongestWait = TimeSpan.FromMinutes(1);

    private readonly SortedDictionary<ulong, Permissions> _versions = [];
    private readonly Dictionary<ulong, DateTimeOffset> _adopted = [];

    private KeyHistory() { }

    /// <summary>Reads the versions of one ledger in their order, and checks that each follows from the one before and is signed by
    /// those whom it affects.</summary>
    /// <param name="adopted">The versions, the first one first.</param>
    /// <exception cref="KeyHistoryException">A version is not signed so, does not follow, or cannot be read.</exception>
    public static KeyHistory Read(IEnumerable<AdoptedAgreement> adopted)
    {
        var history = new KeyHistory();
        Agreement? previous = null;
        var index = 0;
        foreach (var (bytes, time) in adopted)
        {
            Agreement next;
            try
            {
                next = StrictForm.Read(Agreement.Parser, bytes.Span);
                if (AgreementVersions.Check(previous, next, time) is { } fault)
                    throw new KeyHistoryException(next.Version, index, fault.ToString(), fault);
                history._versions.Add(next.Version, new Permissions(next));
                history._adopted[next.Version] = time;
            }
            catch (FormatException e)
            {
                throw new KeyHistoryException(0, index, e.Message);
            }
            previous = next;
            index++;
        }
        return history;
    }

    /// <summary>The versions, in order.</summary>
    public IEnumerable<Agreement> Versions => _versions.Values.Select(p => p.Agreement);

    /// <summary>The permissions of a version; null: it is not among these.</summary>
    public Permissions? Version(ulong version) => _versions.GetValueOrDefault(version);

    /// <summary>Whether a version no longer applies to what is committed at a moment, because the next version was recorded more than a
    /// minute before. That is longer than a request waits. Without this limit, a revoked key could go on signing under the version before
    /// its revocation.</summary>
    /// <param name="version">The version.</param>
    /// <param name="at">When it was committed.</param>
    public bool IsOver(ulong version, DateTimeOffset at) => _adopted.TryGetValue(version + 1, out var next) && next + LongestWait < at;

    /// <summary>When the ledger took a version over; null: it has not.</summary>
    /// <param name="version">The version.</param>
    internal DateTimeOffset? AdoptedAt(ulong version) => _adopted.TryGetValue(version, out var time) ? time : null;

    /// <summary>A key with its owner as a version lists it; null: it does not.</summary>
    /// <param name="keyId">The key's id.</param>
    /// <param name="agreementVersion">The version.</param>
    public (Participant Owner, SigningKey Key)? Key(string keyId, ulong agreementVersion) => Version(agreementVersion)?.SigningKey(keyId);

    /// <summary>The version that first listed a key as it stands in a version; null: that one does not list it.</summary>
    /// <param name="keyId">The key's id.</param>
    /// <param name="agreementVersion">The version.</param>
    public ulong? Since(string keyId, ulong agreementVersion)
    {
        if (Key(keyId, agreementVersion)?.Key is not { } key)
            return null;
        return _versions
            .Keys.Where(v => v <= agreementVersion)
            .Reverse()
            .TakeWhile(v => Key(keyId, v)?.Key.PublicKey == key.PublicKey)
            .Last();
    }

    /// <summary>The keys with which a service's checkpoints were signed under a version.</summary>
    /// <param name="service">The service's name, such as <c>calllog</c>.</param>
    /// <param name="agreementVersion">The version.</param>
    public IReadOnlyList<CheckpointKey> CheckpointKeys(string service, ulong agreementVersion) =>
        Version(agreementVersion) is { } permissions ? CheckpointKeysOf(permissions.Agreement, service) : [];

    /// <summary>The keys for checkpoints that an agreement lists for a service.</summary>
    /// <param name="agreement">The agreement.</param>
    /// <param name="service">The service's name, such as <c>calllog</c>.</param>
    /// <param name="at">Only those that are valid then; null: ended ones too.</param>
    public static IReadOnlyList<CheckpointKey> CheckpointKeysOf(Agreement agreement, string service, DateTimeOffset? at = null) =>
        [
            .. agreement
                .Participants.Where(p => p.Id == $"service/{service}")
                .SelectMany(p => p.SigningKeys)
                .Where(k =>
                    k.Use == SigningKeyUse.Checkpoints
                    && StrictEd25519.IsKey(k.PublicKey.Span)
                    && (at is not { } moment || RequestSignatures.IsValidAt(k, moment))
                )
                .Select(k => CheckpointKey.FromPublic($"{agreement.TrustDomain}/{service}", k.PublicKey.Span)),
        ];

    /// <summary>Judges the signature of a committed request by the keys of its commit time. Returns what is wrong; null: it is the
    /// participant's own, over these bytes, with a key that was valid then.</summary>
    /// <param name="header">The entry's header.</param>
    /// <param name="signature">The signature part.</param>
    /// <param name="request">The request part.</param>
    /// <param name="requestId">The request id that the request carries.</param>
    /// <param name="service">The service whose entry it is.</param>
    public Reason? WrongRequest(
        EntryHeader header,
        RequestSignature? signature,
        ReadOnlySpan<byte> request,
        string requestId,
        string service
    )
    {
        if (Version(header.AgreementVersion) is not { } permissions || permissions.Participant(header.Participant) is not { } caller)
            return Reason.CallerUnknown;
        var (_, wrong) = RequestSignatures.Check(
            signature,
            header.Method,
            request,
            requestId,
            caller,
            permissions,
            header.CommitTime.ToDateTimeOffset(),
            service
        );
        if (wrong is not null)
            return wrong.Reason;
        if (requestId != header.RequestId)
            return Reason.SignatureNonceWrong;
        var (fields, committed) = (
            SignatureFields.Read(signature!.SignatureInput, signature.Signature)!,
            header.CommitTime.ToDateTimeOffset()
        );
        if (!RequestSignatures.IsValidAt(permissions.SigningKey(fields.KeyId!)!.Value.Key, committed))
            return Reason.SignatureKeyNotValid;
        return fields.Expires + LongestWait >= committed ? null : Reason.SignatureExpired;
    }

    /// <summary>Judges the approvals of a committed request by the keys of its commit time.</summary>
    /// <param name="header">The entry's header.</param>
    /// <param name="approvals">The approvals that the request carries.</param>
    /// <param name="request">The request part.</param>
    /// <param name="service">The service whose entry it is.</param>
    /// <returns>The officials who approved, and what was wrong; null: nothing.</returns>
    public (IReadOnlySet<string> Officials, Refusal? Wrong) Approved(
        EntryHeader header,
        IReadOnlyList<Approval> approvals,
        ReadOnlySpan<byte> request,
        string service
    ) =>
        Version(header.AgreementVersion) is { } permissions && permissions.Participant(header.Participant) is { } caller
            ? Approvals.Check(approvals, header.Method, request, caller, permissions, header.CommitTime.ToDateTimeOffset(), service)
            : (new HashSet<string>(), new Refusal(Reason.CallerUnknown));
}
