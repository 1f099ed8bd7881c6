using System.Collections.Frozen;
using Google.Protobuf;
using Google.Protobuf.Collections;
using Microsoft.AspNetCore.Http;
using Ministries.Contracts;
using Ministries.Errors.V1;
using Ministries.Ledger.V1;
using Ministries.Trust;
using Ministries.Types.V1;

namespace Ministries.Hosting;

/// <summary>
/// The checks that a call passes before its method runs, in the order of the members. Each check is made only here, and the call keeps its
/// result (<see cref="EdgeCall"/>). The checks are virtual only so that a test can take out one at a time and show that other tests fail
/// then. No shipped class derives from this one, and no setting replaces it.
/// </summary>
internal class Checks(Service service, Admission admission, TimeProvider time)
{
    // Headers in which proxies pass on a client's certificate or address (RFC 9440 and older conventions). Services are not behind a
    // proxy, so a request with one of these headers tries to impersonate somebody.
    private static readonly string[] ForwardedBy =
    [
        "X-ARR-ClientCert",
        "X-Forwarded-Client-Cert",
        "X-Client-Cert",
        "X-Client-Certificate",
        "X-Client-DN",
        "X-SSL-Cert",
        "X-SSL-Client-Cert",
        "X-SSL-Client-DN",
        "X-SSL-Client-S-DN",
        "X-SSL-Client-Verify",
        "SSL-Client-Cert",
        "SSL_CLIENT_CERT",
        "Client-Cert",
        "Client-Cert-Chain",
        "X-Amzn-Mtls-Clientcert",
        "X-Amzn-Mtls-Clientcert-Leaf",
        "X-Spiffe-Id",
    ];

    /// <summary>Refuses a request that claims to come through a proxy; null: it does not.</summary>
    public virtual Refusal? Forwarded(HttpContext http)
    {
        foreach (var name in ForwardedBy)
            if (http.Request.Headers.ContainsKey(name))
                return new Refusal(Reason.CertificateNotAccepted, new Dictionary<string, string> { ["header"] = name });
        return null;
    }

    /// <summary>Whose certificate opened the connection, and whether it is valid now under this version of the agreement.</summary>
    public virtual Identified Identity(Peer? peer, ParsedAgreement agreement) => Peer.Identify(peer, agreement.Authorities, time);

    /// <summary>Whether the agreement grants the method to any part that the caller could have in a case. Which part it has in
    /// the case at hand is known only with the record: the rule and the read ask <see cref="EdgeCall.Granted"/> then.</summary>
    public virtual bool Granted(GrantedParts granted, Participant caller) => granted.CoversAny(Cases.PartsEverOf(caller));

    /// <summary>Takes a place for the request. <see cref="Leave"/> gives it back.</summary>
    /// <returns>The refusal, given after a pause; null: the request has its place.</returns>
    public virtual ValueTask<Refusals.Prepared?> Enter(EdgeCall call, HttpContext http) => admission.Enter(call, http);

    /// <summary>Gives the request's place back, however the request ended.</summary>
    public virtual void Leave(EdgeCall call) => admission.Leave(call);

    /// <summary>Reads the body as one gRPC message (<see cref="RequestFrame"/>), if there is room for it.</summary>
    /// <returns>The frame with its prefix of five bytes, or the refusal.</returns>
    public virtual ValueTask<(byte[]? Frame, Refusal? Refusal)> Frame(EdgeCall call, HttpContext http, int limit) =>
        RequestFrame.Read(http, limit, length => admission.TakeRoom(call, http, length));

    /// <summary>Whether the message's bytes can be read in one way only: no unknown field, no repeated singular field, no wrong
    /// wire type, no second member of a oneof.</summary>
    public virtual IReadOnlyList<FieldFault> Bytes(Rpc rpc, ReadOnlySpan<byte> message) => WireWalk.Walk(rpc.Method.InputType, message);

    /// <summary>Whether each field holds what its declaration allows.</summary>
    public virtual IReadOnlyList<FieldFault> Fields(IMessage request) => Validation.Check(request);

    /// <summary>Whether the caller signed the write, now and for this service (RFC 9421).</summary>
    /// <returns>The refusal of a new request, and the refusal that also applies to a request that was answered before. A repeated request
    /// whose signature has expired still gets its old answer.</returns>
    public virtual (Refusal? Refusal, Refusal? WhereAnswered) Signature(EdgeCall call, RequestSignature? signature, string requestId) =>
        RequestSignatures.Check(
            signature,
            call.Rpc!.Name,
            call.Message.Span,
            requestId,
            call.Caller.Participant,
            call.Agreement.Permissions,
            time.GetUtcNow(),
            service.Name
        );

    /// <summary>Whether the officials whom the write names as having approved it signed it.</summary>
    public virtual (IReadOnlySet<string> Officials, Refusal? Refusal) Approved(EdgeCall call, RepeatedField<Approval> approvals) =>
        Approvals.Check(
            approvals,
            call.Rpc!.Name,
            call.Message.Span,
            call.Caller.Participant,
            call.Agreement.Permissions,
            time.GetUtcNow(),
            service.Name
        );

    /// <summary>Whether the agreement lists the people whom the write names by codes. This is checked after the form: a write that was
    /// answered before gets the same answer again, even where somebody is no longer listed.</summary>
    public virtual Refusal? Named(EdgeCall call) =>
        Officials.Check(call.Request, call.Agreement.Permissions, call.Caller.Participant) is { Count: > 0 } faults
            ? Refusals.Invalid(faults)
            : null;

    /// <summary>Whether what the write seals belongs to it and can be opened by its recipients, as far as that is known without opening it.
    /// This is checked last, for the same reason: a recipient's key may have ended since.</summary>
    public virtual Refusal? Sealed(EdgeCall call) =>
        SealForm.Check(call.Request, call.Caller.Participant, call.Agreement.Permissions, time.GetUtcNow());
}

/// <summary>The result of checking a write's signatures. A request that was answered before gets its old answer even if its signature has
/// expired since. So a refusal is kept here until it is known whether there is an old answer.</summary>
/// <param name="RequestId">The request id that the message carries.</param>
/// <param name="Signature">The signature's fields as received; null: one is missing, or the method is a read.</param>
/// <param name="Refused">The refusal if the request is new; null: none.</param>
/// <param name="WhereAnswered">The refusal even if the request was answered before; null: none.</param>
/// <param name="Approved">The officials whose approvals are valid.</param>
/// <param name="Keys">The keys that signed: they must still be valid when the write is committed.</param>
/// <param name="Created">When the signature was made; null: there is none.</param>
/// <param name="Expires">Until when the signature holds; null: there is none.</param>
internal sealed record SignedRequest(
    string RequestId,
    RequestSignature? Signature,
    Refusal? Refused,
    Refusal? WhereAnswered,
    IReadOnlySet<string> Approved,
    IReadOnlyList<SigningKey> Keys,
    DateTimeOffset? Created,
    DateTimeOffset? Expires
)
{
    /// <summary>Whether every verifier accepts an entry with this commit time. The commit time can be ahead of this clock, because it is
    /// never before the last entry's: another replica's clock may be ahead, or this one's may have been set back. And it can be before the
    /// time of the check, if the clock was set back in between, by less than is noticed.</summary>
    public bool HoldsAt(DateTimeOffset commit) =>
        Keys.All(k => RequestSignatures.IsValidAt(k, commit))
        && !(Created > commit + HttpSignature.ClockSkew)
        && !(Expires + KeyHistory.LongestWait < commit);

    /// <summary>Checks the signatures of a write that has passed all other checks.</summary>
    public static SignedRequest Check(EdgeCall call, HttpRequest http, Checks checks)
    {
        var shape = RequestShape.Of(call.Request.Descriptor);
        var requestId = RequestShape.Text(shape.RequestId, call.Request);
        var signature = SignatureOf(http);
        var (refused, whereAnswered) = checks.Signature(call, signature, requestId);
        IReadOnlySet<string> approved = FrozenSet<string>.Empty;
        if (refused is null && shape.Approvals is { } field)
            (approved, refused) = checks.Approved(call, (RepeatedField<Approval>)field.Accessor.GetValue(call.Request));
        refused ??= checks.Named(call) ?? checks.Sealed(call);
        var fields = signature is null ? null : SignatureFields.Read(signature.SignatureInput, signature.Signature);
        return new(
            requestId,
            signature,
            refused,
            whereAnswered,
            approved,
            refused is null ? KeysOf(call, fields, shape) : [],
            refused is null ? fields?.Created : null,
            refused is null ? fields?.Expires : null
        );
    }

    // A field that is given twice can be read in two ways, so it counts as missing.
    private static RequestSignature? SignatureOf(HttpRequest request)
    {
        if (One("Signature-Input") is not { } input || One("Signature") is not { } signature || One("Content-Digest") is not { } digest)
            return null;
        return new RequestSignature
        {
            Authority = request.Host.Value?.ToLowerInvariant() ?? "",
            ContentType = request.ContentType ?? "",
            ContentDigest = digest,
            SignatureInput = input,
            Signature = signature,
        };

        string? One(string name) => request.Headers[name] is [{ Length: > 0 and <= HttpSignature.LongestField } value] ? value : null;
    }

    private static SigningKey[] KeysOf(EdgeCall call, SignatureFields? fields, RequestShape shape)
    {
        if (fields is null)
            return [];
        IEnumerable<string?> ids = [fields.KeyId];
        if (shape.Approvals is { } approvals)
            ids = ids.Concat(((RepeatedField<Approval>)approvals.Accessor.GetValue(call.Request)).Select(a => a.KeyId));
        return [.. ids.Select(i => call.Agreement.Permissions.SigningKey(i ?? "")).Where(k => k is not null).Select(k => k!.Value.Key)];
    }
}
