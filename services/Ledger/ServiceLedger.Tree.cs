using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Ministries.Ledger.V1;

namespace Ministries.Ledger;

/// <content>The Merkle tree: checkpoints, proofs and receipts.</content>
public sealed partial class ServiceLedger
{
    /// <summary>The receipt. It proves that the outcome's entry is in the ledger, and that the entry holds this request and this answer. It
    /// is for the caller alone.</summary>
    /// <exception cref="ArgumentException">The outcome has no entry.</exception>
    public async ValueTask<Receipt> ReceiptOf(Outcome outcome, CancellationToken cancel)
    {
        var position = outcome.Position ?? throw new ArgumentException("the outcome has no entry", nameof(outcome));
        if (outcome is { Tree: { Checkpoint: { } checkpoint } tree, Entry: { } entry })
            return ReceiptFor(position, outcome.Time, entry, tree, checkpoint);
        return await Read(
            async session =>
            {
                var (head, signed) = await Signed(session);
                var headers = await session.Headers(position, position + 1);
                if (headers.Count == 0)
                    throw new ArgumentException("there is no such entry", nameof(outcome));
                var view = await Load(session, head.Size, head.Size, view => view.Inclusion(position));
                var parts = (await session.Parts([position])).ToDictionary(p => p.Kind);
                var entry = new RecordedEntry(headers[0], parts[PartKind.Request].Salt, parts[PartKind.Answer]);
                return ReceiptFor(position, Stored.TimeOf(headers[0]), entry, view, signed);
            },
            cancel
        );
    }

    private Receipt ReceiptFor(ulong position, DateTimeOffset time, RecordedEntry entry, TreeView tree, Checkpoint checkpoint) =>
        new()
        {
            Service = Service,
            Position = position,
            CommitTime = time.ToTimestamp(),
            EntryHash = UnsafeByteOperations.UnsafeWrap(TreeHash.Record(entry.Header)),
            TreeSize = tree.Size,
            RootHash = ByteString.CopyFrom(checkpoint.Root),
            InclusionProof = { tree.Inclusion(position).Select(h => ByteString.CopyFrom(h)) },
            Checkpoint = checkpoint.Text,
            Header = UnsafeByteOperations.UnsafeWrap(entry.Header),
            RequestSalt = UnsafeByteOperations.UnsafeWrap(entry.RequestSalt),
            AnswerSalt = UnsafeByteOperations.UnsafeWrap(entry.Answer.Salt),
            Answer = UnsafeByteOperations.UnsafeWrap(entry.Answer.Data),
        };

    /// <summary>The tree as it is, signed, with the cosignatures that it has so far.</summary>
    public Task<Checkpoint> ReadCheckpoint(CancellationToken cancel) =>
        Read(async session => WithCosignatures((await Signed(session)).Checkpoint), cancel);

    /// <summary>Proves that an entry is in a tree (RFC 6962 2.1.1); null: there is no such entry or tree.</summary>
    /// <param name="position">The entry's position.</param>
    /// <param name="size">The tree's size, greater than the position; zero: the present one.</param>
    /// <param name="cancel">Cancels.</param>
    public Task<TreeProof?> ProveInclusion(ulong position, ulong size, CancellationToken cancel) =>
        Prove(size, to => position < to, view => view.Inclusion(position), cancel);

    /// <summary>Proves that a tree is a prefix of a later one (RFC 6962 2.1.2); null: there are no such trees.</summary>
    /// <param name="from">The earlier size, at least 1.</param>
    /// <param name="to">The later size; zero: the present one.</param>
    /// <param name="cancel">Cancels.</param>
    public Task<TreeProof?> ProveConsistency(ulong from, ulong to, CancellationToken cancel) =>
        Prove(to, to => from > 0 && from <= to, view => view.Consistency(from), cancel);

    private Task<TreeProof?> Prove(ulong size, Func<ulong, bool> possible, Func<TreeView, List<byte[]>> prove, CancellationToken cancel) =>
        Read(
            async session =>
            {
                var present = (await session.ReadHead()).Size;
                await Replicate(session, present);
                var to = size == 0 ? present : size;
                if (to > present || !possible(to))
                    return null;
                var view = await Load(
                    session,
                    to,
                    present,
                    view =>
                    {
                        view.Root();
                        prove(view);
                    }
                );
                return new TreeProof(to, view.Root(), prove(view));
            },
            cancel
        );

    /// <summary>The head, covered by a checkpoint.</summary>
    private async Task<(Head Head, Checkpoint Checkpoint)> Signed(Session session)
    {
        // A commit may sign a greater tree between reading and signing, so this is tried again. A database that went back stays behind at
        // every try.
        for (var tries = 0; tries < 100; tries++)
        {
            var head = await session.ReadHead();
            await Replicate(session, head.Size);
            if (_checkpoints.Advance(head.Size, TreeView.RootOf(head.Edge)) is { } signed)
                return (head, signed);
        }
        throw Behind((await session.ReadHead()).Size, _checkpoints.Last!.Size);
    }

    /// <summary>The tree with what <paramref name="ask"/> needs of it.</summary>
    private static async Task<TreeView> Load(Session session, ulong size, ulong present, Action<TreeView> ask)
    {
        var tiles = new Dictionary<(int Level, ulong Index), Tile>();
        var view = new TreeView(size, tiles);
        ask(view);
        foreach (var (level, index) in view.TakeMissed())
            tiles[(level, index)] = await Stored.TileOf(session, level, index, present);
        return view;
    }

    private static async Task CheckTree(Session session, Head head, Checkpoint? last, string file, bool doubtful)
    {
        // A signature by a former key at an unknown time proves nothing. If the ledger does not confirm it, the file counts as damaged.
        var by = doubtful
            ? " The key that signed it was revoked, or has ended, so that a thief may have made it: ask the witnesses (`ministry log verify`) "
                + "which history they have; where it is this one, remove the file."
            : "";
        var edge = await Load(session, head.Size, head.Size, view => view.Edge());
        if (!edge.Edge().SelectMany(h => h).SequenceEqual(head.Edge))
            throw new LedgerInconsistentException("the ledger's tree does not fit its entries: the database was damaged. Restore it.");
        if (last is null)
            return;
        if (last.Size > head.Size)
            throw new LedgerInconsistentException(
                $"the database has {head.Size} entries, but a checkpoint over {last.Size} was signed ({file}): acknowledged "
                    + "entries are missing. "
                    + (
                        doubtful
                            ? by
                            : "Restore the newest backup, or start against the replica that has them; do not " + "remove the checkpoint."
                    )
            );
        if (last.Size == 0)
            return;
        var earlier = await Load(session, last.Size, head.Size, view => view.Root());
        if (!earlier.Root().AsSpan().SequenceEqual(last.Root))
            throw new LedgerInconsistentException(
                $"the database's first {last.Size} entries are not those of the checkpoint that was signed ({file}): its "
                    + $"history was changed, or it is another ledger. Restore the database that fits the checkpoint.{by}"
            );
    }
}
