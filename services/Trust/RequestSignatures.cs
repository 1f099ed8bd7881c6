using Ministries.Errors.V1;
using Ministries.Ledger.V1;
using Ministries.Types.V1;

namespace Ministries.Trust;

/// <summary>Judges the signature that every write of a participant carries.</summary>
public static class RequestSignatures
{
    /// <summary>Checks a signature, in the order of the reasons.</summary>
    /// <param name="signature">The fields as received; null: one of them is missing.</param>
    /// <param name="method">The full method name without a leading slash.</param>
    /// <param name="message">The request's exact bytes.</param>
    /// <param name="requestId">The request id that the message carries.</param>
    /// <param name="caller">The participant whose certificate opened the channel.</param>
    /// <param name="permissions">The agreement by which it is judged.</param>
    /// <param name="now">The time by which it is judged.</param>
    /// <param name="service">The service that judges, such as <c>calllog</c>. A request that was signed for another service is refused. If
    /// the agreement lists the service's addresses, so is a request that was sent to another address.</param>
    /// <returns>The refusal of a new request, and the refusal of a request that was answered before; null: the signature is the caller's
    /// over this request. For a request that was answered before, a signature whose time is over is accepted. No nonce is stored for this,
    /// because the request id is the nonce.</returns>
    public static (Refusal? Refusal, Refusal? WhereAnswered) Check(
        RequestSignature? signature,
        string method,
        ReadOnlySpan<byte> message,
        string requestId,
        Participant caller,
        Permissions permissions,
        DateTimeOffset now,
        string service
    )
    {
        if (signature is null || SignatureFields.Read(signature.SignatureInput, signature.Signature) is not { } fields)
            return Never(Reason.SignatureMissing);
        if (
            !fields.IsCanonical
            || fields is not { Created: { } created, Expires: { } expires, KeyId: { } keyId, Nonce: { } nonce }
            || !fields.Tag!.StartsWith($"{HttpSignature.Tag}/", StringComparison.Ordinal)
            || !HttpSignature.ContentTypes.Contains(signature.ContentType)
            || !HttpSignature.IsAuthority(signature.Authority)
        )
            return Never(Reason.SignatureIncomplete);
        if (permissions.SigningKey(keyId) is not { } found || found.Key.Use != SigningKeyUse.Requests)
            return Never(Reason.SignatureKeyUnknown);
        if (found.Owner.Id != caller.Id)
            return Never(Reason.SignatureNotOfCaller);
        if (!IsValidAt(found.Key, created))
            return Never(Reason.SignatureKeyNotValid);
        var late =
            !IsValidAt(found.Key, now) ? Reason.SignatureKeyNotValid
            : expires < now ? Reason.SignatureExpired
            : Reason.Unspecified;
        var ever =
            created > now + HttpSignature.ClockSkew || expires <= created || expires - created > HttpSignature.LongestLife
                ? Reason.SignatureExpired
            : nonce != requestId ? Reason.SignatureNonceWrong
            : signature.ContentDigest != HttpSignature.ContentDigestOfFrame(message) ? Reason.ContentDigestWrong
            : fields.Tag != HttpSignature.TagOf(permissions.Agreement.TrustDomain, service)
            || !Verifies(fields, found.Key, signature, method)
            || permissions.Participant($"service/{service}") is { Addresses: { Count: > 0 } own } && !own.Contains(signature.Authority)
                ? Reason.SignatureWrong
            : Reason.Unspecified;
        return (Of(late != Reason.Unspecified ? late : ever), Of(ever));

        static (Refusal?, Refusal?) Never(Reason reason) => (Of(reason), Of(reason));
        static Refusal? Of(Reason reason) => reason == Reason.Unspecified ? null : new Refusal(reason);
    }

    /// <summary>Whether a key may sign at a moment.</summary>
    public static bool IsValidAt(SigningKey key, DateTimeOffset moment) => SigningKeyExtensions.IsValidAt(key, moment);

    /// <summary>Whether the signature is the key's over the method and the signed fields, whatever the time.</summary>
    public static bool Verifies(SignatureFields fields, SigningKey key, RequestSignature signature, string method) =>
        fields.IsBy(
            key.PublicKey.Span,
            component =>
                component switch
                {
                    "@method" => "POST",
                    "@path" => $"/{method}",
                    "@authority" => signature.Authority,
                    "content-type" => signature.ContentType,
                    "content-digest" => signature.ContentDigest,
                    _ => null,
                }
        );
}
