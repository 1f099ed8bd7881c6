using System.Security.Cryptography;
using Google.Protobuf;
using Grpc.Core;
using Ministries.Ledger.V1;

namespace Ministries.Local;

/// <summary>Verifies a ledger from its entries alone. The entries are fetched as every participant that may see one, and the tree is
/// computed again here, without the ledger's code.</summary>
public static class Verification
{
    /// <summary>How long a ledger may take to grow by itself, if it commits by a schedule: longer than the longest interval.</summary>
    private static readonly TimeSpan Growing = TimeSpan.FromSeconds(7);

    // What was fetched: headers by position, the parts that fit them, and the numbers in each audience.
    private sealed class Fetched
    {
        public SortedDictionary<ulong, ByteString> Headers { get; } = [];
        public HashSet<(ulong, PartKind)> Parts { get; } = [];
        public HashSet<(string Audience, ulong Number)> Numbers { get; } = [];
        public List<string> Wrong { get; } = [];
    }

    /// <summary>Fetches a service's ledger with each identity, puts the entries together and computes the tree.</summary>
    /// <param name="service">The service.</param>
    /// <param name="readers">A client for each identity that may see entries.</param>
    /// <param name="mayBeCovered">Whether the ledger may have cover entries, which nobody sees. If it grows by itself it has, and then each
    /// entry is proved to be in the tree instead of computing the tree, and the numbers in each audience must have no gap.</param>
    /// <param name="cancel">Ends it.</param>
    public static async Task<LedgerCheck> Of(
        string service,
        IReadOnlyCollection<LedgerService.LedgerServiceClient> readers,
        bool mayBeCovered,
        CancellationToken cancel
    )
    {
        var fetched = new Fetched();
        foreach (var reader in readers)
            await Fetch(reader, fetched, cancel);
        var (headers, wrong, log) = (fetched.Headers, fetched.Wrong, readers.First());
        var checkpoint = await log.GetCheckpointAsync(new GetCheckpointRequest(), cancellationToken: cancel);
        var gapless = headers.Keys.Select((position, index) => position == (ulong)index).All(x => x);
        var root = Root([.. headers.Values.Select(LeafOf)]);
        bool agrees;
        if (checkpoint.TreeSize != (ulong)headers.Count && mayBeCovered && await Grows(log, checkpoint.TreeSize, cancel))
        {
            gapless = fetched.Numbers.GroupBy(n => n.Audience).All(a => a.Max(n => n.Number) == (ulong)a.Count());
            root = checkpoint.RootHash.ToByteArray();
            agrees = HasSizeAndRoot(checkpoint.Checkpoint, root, checkpoint.TreeSize);
            foreach (var (position, header) in headers)
                agrees &= await IsIn(log, checkpoint, position, LeafOf(header), cancel);
            if (!gapless)
                wrong.Add("numbers in an audience are missing");
            if (!agrees)
                wrong.Add($"an entry is not in the tree of {checkpoint.TreeSize} entries under the checkpoint");
        }
        else
        {
            agrees =
                checkpoint.TreeSize == (ulong)headers.Count
                && checkpoint.RootHash.Span.SequenceEqual(root)
                && HasSizeAndRoot(checkpoint.Checkpoint, root, checkpoint.TreeSize);
            if (!gapless)
                wrong.Add("positions are missing");
            if (!agrees)
                wrong.Add($"the checkpoint is of {checkpoint.TreeSize} entries and another tree than the {headers.Count} entries fetched");
        }
        return new LedgerCheck(
            service,
            headers.Count,
            gapless,
            wrong.Count == 0 ? fetched.Parts.Count : null,
            Convert.ToHexStringLower(root),
            agrees,
            wrong
        );
    }

    private static async Task Fetch(LedgerService.LedgerServiceClient reader, Fetched fetched, CancellationToken cancel)
    {
        using var call = reader.FollowEntries(new FollowEntriesRequest { UntilNow = true }, cancellationToken: cancel);
        await foreach (var response in call.ResponseStream.ReadAllAsync(cancel))
        {
            if (response.Entry is not { } entry)
                continue;
            var header = EntryHeader.Parser.ParseFrom(entry.Header);
            if (!fetched.Headers.TryAdd(header.Position, entry.Header) && fetched.Headers[header.Position] != entry.Header)
                fetched.Wrong.Add($"entry {header.Position} is not the same for all who see it");
            fetched.Numbers.UnionWith(entry.Audience.Select(a => (a.Audience, a.Number)));
            foreach (var part in entry.Parts)
            {
                // Nothing proves a request that was erased, or the events of a neutral observer's entry.
                if (
                    part.Erased
                        ? part is { Kind: PartKind.Request, Salt.IsEmpty: true, Data.IsEmpty: true }
                        : entry.Privileged && part is { Kind: PartKind.Events, Salt.IsEmpty: true }
                )
                    continue;
                var digest = SHA256.HashData([.. part.Salt.Span, .. part.Data.Span]);
                if (header.Parts.Any(p => p.Kind == part.Kind && p.Digest.Span.SequenceEqual(digest)))
                    fetched.Parts.Add((header.Position, part.Kind));
                else
                    fetched.Wrong.Add($"entry {header.Position}: part {part.Kind} is not the one its header names");
            }
        }
    }

    private static async Task<bool> Grows(LedgerService.LedgerServiceClient log, ulong size, CancellationToken cancel)
    {
        using var late = CancellationTokenSource.CreateLinkedTokenSource(cancel);
        late.CancelAfter(Growing);
        try
        {
            using var timer = new PeriodicTimer(TimeSpan.FromMilliseconds(500));
            while ((await log.GetCheckpointAsync(new GetCheckpointRequest(), cancellationToken: cancel)).TreeSize == size)
                await timer.WaitForNextTickAsync(late.Token);
            return true;
        }
        catch (OperationCanceledException) when (!cancel.IsCancellationRequested)
        {
            return false;
        }
    }

    // RFC 9162, 2.1.3.2.
    private static async Task<bool> IsIn(
        LedgerService.LedgerServiceClient log,
        GetCheckpointResponse checkpoint,
        ulong position,
        byte[] leaf,
        CancellationToken cancel
    )
    {
        var request = new GetInclusionProofRequest { Position = position, TreeSize = checkpoint.TreeSize };
        var proof = (await log.GetInclusionProofAsync(request, cancellationToken: cancel)).Proof;
        var (index, last, hash) = (position, checkpoint.TreeSize - 1, leaf);
        foreach (var sibling in proof)
        {
            if (last == 0)
                return false;
            if ((index & 1) == 1 || index == last)
            {
                hash = SHA256.HashData([1, .. sibling.Span, .. hash]);
                while ((index & 1) == 0 && index != 0)
                    (index, last) = (index >> 1, last >> 1);
            }
            else
                hash = SHA256.HashData([1, .. hash, .. sibling.Span]);
            (index, last) = (index >> 1, last >> 1);
        }
        return last == 0 && checkpoint.RootHash.Span.SequenceEqual(hash);
    }

    private static byte[] LeafOf(ByteString header) => SHA256.HashData([0, .. SHA256.HashData(header.Span)]);

    // C2SP tlog-checkpoint: origin, size, root in base64, a line each.
    private static bool HasSizeAndRoot(string checkpoint, byte[] root, ulong size) =>
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
