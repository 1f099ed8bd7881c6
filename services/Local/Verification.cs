using System.Security.Cryptography;
using Google.Protobuf;
using Grpc.Core;
using Ministries.Ledger.V1;

namespace Ministries.Local;

/// <summary>Verifies a ledger from its entries alone. The entries are fetched as every participant that may see one, and the tree is
/// computed again here, without the ledger's code.</summary>
public static class Verification
{
    /// <summary>Fetches a service's ledger with each identity, puts the entries together and computes the tree.</summary>
    /// <param name="service">The service.</param>
    /// <param name="readers">A client for each identity that may see entries.</param>
    /// <param name="cancel">Ends it.</param>
    public static async Task<LedgerCheck> Of(
        string service,
        IReadOnlyCollection<LedgerService.LedgerServiceClient> readers,
        CancellationToken cancel
    )
    {
        var wrong = new List<string>();
        var headers = new SortedDictionary<ulong, ByteString>();
        var parts = new HashSet<(ulong, PartKind)>();
        foreach (var reader in readers)
        {
            using var call = reader.FollowEntries(new FollowEntriesRequest { UntilNow = true }, cancellationToken: cancel);
            await foreach (var response in call.ResponseStream.ReadAllAsync(cancel))
            {
                if (response.Entry is not { } entry)
                    continue;
                var header = EntryHeader.Parser.ParseFrom(entry.Header);
                if (!headers.TryAdd(header.Position, entry.Header) && headers[header.Position] != entry.Header)
                    wrong.Add($"entry {header.Position} is not the same for all who see it");
                foreach (var part in entry.Parts.Where(p => !p.Erased && !entry.Privileged))
                {
                    var digest = SHA256.HashData([.. part.Salt.Span, .. part.Data.Span]);
                    if (header.Parts.Any(p => p.Kind == part.Kind && p.Digest.Span.SequenceEqual(digest)))
                        parts.Add((header.Position, part.Kind));
                    else
                        wrong.Add($"entry {header.Position}: part {part.Kind} is not the one its header names");
                }
            }
        }
        var checkpoint = await readers.First().GetCheckpointAsync(new GetCheckpointRequest(), cancellationToken: cancel);
        var gapless = headers.Keys.Select((position, index) => position == (ulong)index).All(x => x);
        if (!gapless)
            wrong.Add("positions are missing");
        var root = Root([.. headers.Values.Select(h => SHA256.HashData([0, .. SHA256.HashData(h.Span)]))]);
        var agrees =
            checkpoint.TreeSize == (ulong)headers.Count
            && checkpoint.RootHash.Span.SequenceEqual(root)
            && HasSizeAndRoot(checkpoint.Checkpoint, root, headers.Count);
        if (!agrees)
            wrong.Add($"the checkpoint is of {checkpoint.TreeSize} entries and another tree than the {headers.Count} entries fetched");
        return new LedgerCheck(
            service,
            headers.Count,
            gapless,
            wrong.Count == 0 ? parts.Count : null,
            Convert.ToHexStringLower(root),
            agrees,
            wrong
        );
    }

    // C2SP tlog-checkpoint: origin, size, root in base64, a line each.
    private static bool HasSizeAndRoot(string checkpoint, byte[] root, int size) =>
        checkpoint.Split('\n') is [_, var lineOfSize, var lineOfRoot, ..]
        && lineOfSize == $"{size}"
        && lineOfRoot == Convert.ToBase64String(root);

    // RFC 6962, 2.1: the left subtree is the largest power of two that is less than the whole.
    private static byte[] Root(ReadOnlySpan<byte[]> leaves)
    {
        if (leaves.Length == 0)
            return SHA256.HashData([]);
        if (leaves.Length == 1)
            return leaves[0];
        var left = 1;
        while (left * 2 < leaves.Length)
            left *= 2;
        return SHA256.HashData([1, .. Root(leaves[..left]), .. Root(leaves[left..])]);
    }
}
