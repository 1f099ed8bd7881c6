using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Ministries.Contracts;
using Ministries.Errors.V1;
using Ministries.Ledger.V1;

namespace Ministries.Ledger;

/// <summary>Turns what is stored back into messages, outcomes, states and tiles.</summary>
internal static class Stored
{
    public static IMessage Parse(string type, ReadOnlySpan<byte> bytes) =>
        Descriptors.Messages.TryGetValue(type, out var message) ? message.Parser.ParseFrom(bytes)
        : type == Empty.Descriptor.FullName ? Empty.Parser.ParseFrom(bytes)
        : throw new LedgerInconsistentException($"the ledger holds a message of type {type}, which this software does not know.");

    public static DateTimeOffset TimeOf(ReadOnlySpan<byte> header) => EntryHeader.Parser.ParseFrom(header).CommitTime.ToDateTimeOffset();

    /// <summary>The old answer to a request with this digest, or the refusal of its id.</summary>
    public static Outcome OutcomeOf(FoundRequest request, ReadOnlySpan<byte> digest, TimeProvider time)
    {
        if (!digest.SequenceEqual(request.Digest))
            return Reused(time.GetUtcNow());
        var answer = Answer.Parser.ParseFrom(request.Answer);
        var refusal = answer.Refusal is not { } stored
            ? null
            : new Refusal(
                ReasonOf(stored.Reason),
                stored.Metadata.Count == 0 ? null : stored.Metadata.ToDictionary(),
                stored.Faults.Count == 0 ? null : [.. stored.Faults]
            );
        return new(
            request.Position,
            TimeOf(request.Header),
            answer.Response is { } any ? Parse(Any.GetTypeName(any.TypeUrl), any.Value.Span) : null,
            refusal,
            Repeated: true
        );
    }

    public static Outcome Reused(DateTimeOffset now) => new(null, now, null, new Refusal(Reason.RequestIdReused), Repeated: false);

    private static Reason ReasonOf(string name) =>
        Reasons.Find(name)
        ?? throw new LedgerInconsistentException($"the ledger holds a refusal for {name}, which this software does not know.");

    /// <summary>A stream's state, rebuilt from its entries where an older fold made it.</summary>
    /// <exception cref="NewerFoldException">A newer fold made it.</exception>
    public static async Task<IMessage> StateOf(Session session, StreamKind kind, StreamRow row)
    {
        if (row.Fold == kind.Version)
            return kind.Parse(row.State);
        if (row.Fold > kind.Version)
            throw new NewerFoldException(kind.Name, row.Fold, kind.Version);
        var state = kind.Empty();
        // Entries that were committed after the row was read are left out.
        foreach (var change in (await session.History(row.Number)).Take((int)row.Version))
        {
            var header = EntryHeader.Parser.ParseFrom(change.Header);
            var entry = new FoldedEntry(
                change.Position,
                header.CommitTime,
                header.Participant,
                header.RequestId,
                change.Request is null ? null : Parse(change.RequestType, change.Request)
            );
            var events = Events.Parser.ParseFrom(change.Events).Events_;
            foreach (var index in change.Indices.Split(',').Select(int.Parse))
                kind.Apply(state, Parse(events[index].Type, events[index].Data.Span), entry);
        }
        return state;
    }

    /// <summary>A tile with its hashes so far. A full tile is read as stored; a tile at the right edge is made from the hashes below
    /// it.</summary>
    /// <param name="session">The database.</param>
    /// <param name="level">The tile level.</param>
    /// <param name="index">The tile's index.</param>
    /// <param name="size">The present size of the tree.</param>
    public static async Task<Tile> TileOf(Session session, int level, ulong index, ulong size)
    {
        var hashes = level > 7 ? 0 : size >> (8 * level);
        if (index < hashes >> 8)
            return Tile.Of(
                await session.ReadTile(level, index)
                    ?? throw new LedgerInconsistentException(
                        $"tile {level}/{index} of the ledger's tree is missing: the database was damaged. Restore it."
                    )
            );
        var tile = new Tile();
        var parts =
            level == 0
                ? (await session.Headers(index << 8, hashes)).Select(h => TreeHash.Leaf(h))
                : await session.TileRoots(level - 1, index << 8, hashes);
        foreach (var hash in parts)
            tile.Add(hash);
        return tile.Width == (int)(hashes - (index << 8))
            ? tile
            : throw new LedgerInconsistentException("the ledger's tree does not fit its entries: the database was damaged. Restore it.");
    }

    /// <summary>The right side of the tree, to go on from.</summary>
    public static async Task<TreeEdge> EdgeOf(Session session, Head head)
    {
        var levels = new List<Tile>();
        for (var level = 0; level < 8 && (level == 0 || head.Size >> (8 * level) > 0); level++)
            levels.Add(await TileOf(session, level, head.Size >> (8 * level) >> 8, head.Size));
        return new TreeEdge(head.Size, levels);
    }
}
