using System.Security.Cryptography;
using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Ministries.Ledger;
using Ministries.Ledger.V1;
using Ministries.Types.V1;

namespace Ministries.Trust;

/// <summary>Verifies the receipt of an accepted write. A valid receipt proves that the service recorded the write, at which position, and
/// with which answer. The service cannot deny it.</summary>
public static class Receipts
{
    /// <summary>What is wrong with a receipt; null: the service's own signature covers a tree that contains the entry.</summary>
    /// <param name="receipt">The receipt; null: there is none.</param>
    /// <param name="service">The service that was called, such as <c>calllog</c>.</param>
    /// <param name="agreement">The agreement, which names the service's keys for checkpoints.</param>
    /// <param name="at">When the receipt was given: the key must be valid then; null: that is not known, and a revoked key counts only as
    /// <see cref="LogKeys"/> says.</param>
    public static string? Wrong(Receipt? receipt, string service, Agreement agreement, DateTimeOffset? at = null)
    {
        if (receipt is null)
            return "there is no receipt";
        var keys = LogKeys.Of(agreement, service);
        var signed =
            at is { } moment ? keys.Present(receipt.Checkpoint, moment)
            : keys.Judge(receipt.Checkpoint, null) is { Counts: true } judged ? judged.Tree
            : null;
        return WrongProof(receipt, service, signed);
    }

    /// <summary>What is wrong with what a receipt proves, given the tree of its checkpoint; null: nothing.</summary>
    /// <param name="receipt">The receipt.</param>
    /// <param name="service">The service that was called, such as <c>calllog</c>.</param>
    /// <param name="signed">The tree of its checkpoint (<see cref="LogKeys"/>); null: it is not signed, or does not count.</param>
    public static string? WrongProof(Receipt receipt, string service, Checkpoint? signed)
    {
        if (receipt.Service != service)
            return $"it is of another service than {service}";
        if (receipt.EntryHash.Length != 32)
            return "its entry hash is not of 32 bytes";
        // RFC 6962, 2.1: a leaf is the hash of a zero byte and the log record, which is the hash of the entry's header.
        var leaf = SHA256.HashData([0, .. receipt.EntryHash.Span]);
        if (
            !Proofs.Includes(
                leaf,
                receipt.Position,
                receipt.TreeSize,
                receipt.RootHash.Span,
                [.. receipt.InclusionProof.Select(h => h.ToByteArray())]
            )
        )
            return "its proof does not lead from the entry to the root";
        if (signed is null)
            return "its checkpoint is not signed with a key that the agreement lists for the service";
        return signed.Size == receipt.TreeSize && signed.Root.AsSpan().SequenceEqual(receipt.RootHash.Span)
            ? null
            : "its checkpoint is of another tree than its proof";
    }

    /// <summary>What is wrong with what a receipt shows of its entry; null: the entry holds this request of this participant, and this
    /// answer. Only a receipt whose proof is valid says so (<see cref="Wrong"/>). The text repeats nothing that the service
    /// wrote.</summary>
    /// <param name="receipt">The receipt.</param>
    /// <param name="participant">The participant that called, such as <c>kr/mfa</c>.</param>
    /// <param name="method">The full method name, such as <c>ministries.calllog.v1.CallLogService/LogCall</c>.</param>
    /// <param name="requestId">The id of the request; a request without one has no receipt.</param>
    /// <param name="request">The request's bytes, as they were sent.</param>
    /// <param name="response">The response that carried the receipt.</param>
    public static string? WrongEntry(
        Receipt receipt,
        string participant,
        string method,
        string requestId,
        ReadOnlySpan<byte> request,
        IMessage response
    )
    {
        if (receipt.Header.Length == 0)
            return "it does not show its entry's header";
        if (!SHA256.HashData(receipt.Header.Span).AsSpan().SequenceEqual(receipt.EntryHash.Span))
            return "its header is of another entry";
        EntryHeader header;
        try
        {
            header = StrictForm.ReadHeader(receipt.Header.Span);
        }
        catch (FormatException)
        {
            return "its header is not in its one form, so that evidence of its entry would not hold";
        }
        if (header.Position != receipt.Position || !header.CommitTime.Equals(receipt.CommitTime))
            return "its position or time is not that of its header";
        if (header.Participant != participant)
            return "its entry is of another participant";
        if (header.Method != method)
            return "its entry is of another method";
        if (requestId.Length == 0 || header.RequestId != requestId)
            return "its entry is of another request id";
        if (receipt.RequestSalt.Length == 0)
            return "the request was erased from its entry since, or is kept back: nothing shows which request it was";
        if (!Holds(header, PartKind.Request, receipt.RequestSalt.Span, request))
            return "its entry holds another request";
        if (!Holds(header, PartKind.Answer, receipt.AnswerSalt.Span, receipt.Answer.Span))
            return "its entry holds another answer than it shows";
        return IsAnswered(receipt.Answer.Span, response) ? null : "its entry holds another answer than the one received";
    }

    /// <summary>Removes from a receipt what shows its entry, once that has been checked. The rest still proves that the entry is in the
    /// ledger. The salts must not stay: with them, somebody could test guesses against a request that was erased later, or prove what an
    /// observer may keep to itself.</summary>
    public static void Shorten(Receipt receipt) =>
        receipt.Header = receipt.RequestSalt = receipt.Answer = receipt.AnswerSalt = ByteString.Empty;

    /// <summary>Whether a receipt shows nothing of its entry, as one that is kept or disclosed must not.</summary>
    public static bool IsShort(Receipt receipt) =>
        receipt.Header.IsEmpty && receipt.RequestSalt.IsEmpty && receipt.Answer.IsEmpty && receipt.AnswerSalt.IsEmpty;

    // The header has each kind of part once.
    private static bool Holds(EntryHeader header, PartKind kind, ReadOnlySpan<byte> salt, ReadOnlySpan<byte> data) =>
        salt.Length == 32
        && header.Parts.FirstOrDefault(p => p.Kind == kind) is { } part
        && part.Digest.Span.SequenceEqual(Digests.OfPart(salt, data));

    // They are compared as messages: a later version of the service may write the same response in other bytes.
    private static bool IsAnswered(ReadOnlySpan<byte> part, IMessage response)
    {
        try
        {
            if (
                !WireWalk.IsStrict(Answer.Descriptor, part)
                || Answer.Parser.ParseFrom(part).Response is not { } packed
                || Any.GetTypeName(packed.TypeUrl) != response.Descriptor.FullName
                || response.Descriptor.FindFieldByName("receipt") is not { } field
            )
                return false;
            var recorded = response.Descriptor.Parser.ParseFrom(packed.Value);
            if (field.Accessor.GetValue(recorded) is not null)
                return false;
            field.Accessor.SetValue(recorded, field.Accessor.GetValue(response));
            return recorded.Equals(response);
        }
        catch (InvalidProtocolBufferException)
        {
            return false;
        }
    }
}
