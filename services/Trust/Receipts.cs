using System.Security.Cryptography;
using Ministries.Ledger;
using Ministries.Ledger.V1;
using Ministries.Types.V1;

namespace Ministries.Trust;

/// <summary>Verifies the receipt of an accepted write. A valid receipt proves that the service recorded the write, and at which position.
/// The service cannot deny it.</summary>
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
            return $"it is of the service {receipt.Service}, not of {service}";
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
}
