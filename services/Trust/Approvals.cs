using System.Collections.Frozen;
using System.Security.Cryptography;
using System.Text;
using Google.Protobuf;
using Google.Protobuf.Collections;
using Ministries.Errors.V1;
using Ministries.Keys;
using Ministries.Types.V1;

namespace Ministries.Trust;

/// <summary>Officials' approvals: each a signature over one request's content, by a key that the agreement lists for the official.
/// </summary>
public static class Approvals
{
    /// <summary>The number of the field <c>approvals</c> in every write that has it.</summary>
    public const int Field = 4;

    private static readonly IReadOnlySet<string> None = FrozenSet<string>.Empty;

    /// <summary>Judges the approvals of a request. A wrong approval refuses the request, because its sender cannot have meant it.</summary>
    /// <param name="approvals">The approvals that the request carries.</param>
    /// <param name="method">The full method name without a leading slash.</param>
    /// <param name="message">The request's exact bytes, checked by <see cref="WireWalk"/>.</param>
    /// <param name="caller">The participant that calls.</param>
    /// <param name="permissions">The agreement by which they are judged.</param>
    /// <param name="now">The time by which they are judged.</param>
    /// <param name="service">The service that judges, such as <c>consular</c>: an approval is for one service and method only.</param>
    /// <returns>The officials who approved, each once; or nobody, and the refusal.</returns>
    public static (IReadOnlySet<string> Officials, Refusal? Refusal) Check(
        IReadOnlyList<Approval> approvals,
        string method,
        ReadOnlySpan<byte> message,
        Participant caller,
        Permissions permissions,
        DateTimeOffset now,
        string service
    )
    {
        if (approvals.Count == 0)
            return (None, null);
        var (log, digest) = ($"{permissions.Agreement.TrustDomain}/{service}", DigestOf(message));
        var officials = new HashSet<string>();
        for (var i = 0; i < approvals.Count; i++)
        {
            var approval = approvals[i];
            var why = Wrong(approval, Text(caller.Id, log, method, digest, approval.Official, approval.Office), caller, permissions, now);
            if (why != Reason.Unspecified)
                return (None, new Refusal(why, new Dictionary<string, string> { ["field"] = $"approvals[{i}]" }));
            officials.Add(approval.Official);
        }
        return (officials, null);
    }

    /// <summary>Whether officials have approved a request: then it must not change any more.</summary>
    public static bool IsIn(IMessage request) =>
        request.Descriptor.FindFieldByNumber(Field) is { Name: "approvals" } field
        && field.Accessor.GetValue(request) is RepeatedField<Approval> { Count: > 0 };

    /// <summary>Adds an official's approval to a request. Afterwards nothing of the request may change but its approvals.</summary>
    /// <param name="request">The request of a write, with its request id.</param>
    /// <param name="trustDomain">The agreement's trust domain.</param>
    /// <param name="owner">The participant that will call, as the agreement lists it.</param>
    /// <param name="key">The official's key. The agreement says whose it is.</param>
    /// <param name="office">The office in which the official approves.</param>
    /// <param name="at">The service that is called, such as <c>custody</c>, for a write that all services have; null: the only one that has
    /// it.</param>
    /// <exception cref="ArgumentException">The request is of no write that has approvals, or has no request id yet.</exception>
    /// <exception cref="FormatException">The agreement lists no such key for approvals of the participant.</exception>
    public static void Add(IMessage request, string trustDomain, Participant owner, Signer key, string office, string? at = null)
    {
        if (
            request.Descriptor.FindFieldByNumber(Field) is not { Name: "approvals" } field
            || Methods.NameFor(request.Descriptor) is not { } method
            || (Methods.ServiceOf(method) ?? at) is not { } service
        )
            throw new ArgumentException($"{request.Descriptor.Name} has no approvals", nameof(request));
        if (request.Descriptor.FindFieldByNumber(1).Accessor.GetValue(request) is "")
            throw new ArgumentException("an approval is for one request only, and this request has no request id yet", nameof(request));
        var listed = SigningKeys.Listed(owner, SigningKeyUse.Approvals, key);
        var text = Text(owner.Id, $"{trustDomain}/{service}", method, DigestOf(request.ToByteArray()), listed.Official, office);
        ((RepeatedField<Approval>)field.Accessor.GetValue(request)).Add(
            new Approval
            {
                Official = listed.Official,
                Office = office,
                KeyId = listed.Id,
                Signature = ByteString.CopyFrom(key.Sign(text)),
            }
        );
    }

    private static Reason Wrong(Approval approval, byte[] text, Participant caller, Permissions permissions, DateTimeOffset now)
    {
        if (permissions.SigningKey(approval.KeyId) is not { } found || found.Key.Use != SigningKeyUse.Approvals)
            return Reason.ApprovalKeyUnknown;
        if (found.Owner.Id != caller.Id)
            return Reason.ApprovalNotOfCaller;
        if (found.Key.Official.Length == 0 || found.Key.Official != approval.Official)
            return Reason.ApprovalNotOfOfficial;
        if (!RequestSignatures.IsValidAt(found.Key, now))
            return Reason.ApprovalKeyNotValid;
        return SigningKeys.Verifies(found.Key.PublicKey, text, approval.Signature) ? Reason.Unspecified : Reason.ApprovalWrong;
    }

    private static string DigestOf(ReadOnlySpan<byte> message) => Convert.ToBase64String(SHA256.HashData(WireWalk.Without(message, Field)));

    private static byte[] Text(params ReadOnlySpan<string> lines) =>
        Encoding.UTF8.GetBytes($"ministries.approval.v1\n{string.Join('\n', lines)}\n");
}
