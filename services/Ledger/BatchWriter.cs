using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Ministries.Ledger.V1;

namespace Ministries.Ledger;

/// <summary>Writes what a batch decided, and what covers it: entries, states, numbers and the tree, in the transaction that holds the
/// head's lock.</summary>
internal sealed class BatchWriter(
    CommitContext context,
    CommitCache cache,
    StateLoader loader,
    CommandDecider decider,
    Session session,
    DateTimeOffset now
)
{
    private readonly Rows _rows = new();
    private readonly List<(DecidedCommand Decided, NewEntry Entry, Events Events)> _published = [];

    /// <summary>Writes and commits.</summary>
    /// <param name="decided">The commands that were decided, in the order of their positions.</param>
    /// <param name="intakes">Per producer and event type, the number of the last event that the batch takes in.</param>
    /// <param name="head">The head as it was.</param>
    /// <param name="progress">Records how far it has come.</param>
    /// <returns>The head as it is now, and the tree.</returns>
    public async Task<(Head Head, TreeView Tree)> Write(
        IReadOnlyList<DecidedCommand> decided,
        IReadOnlyDictionary<string, ulong> intakes,
        Head head,
        BatchProgress progress
    )
    {
        await LoadNumbers(decided);
        var (events, streams) = (head.Events, head.Streams);
        var time = now.ToTimestamp();
        AddEntries(decided, head.Size, time, ref events);
        foreach (var stream in decided.SelectMany(d => d.Effect.Touched.Select(t => (t.Stream, d, t.Indices))).GroupBy(c => c.Stream))
            AddStream(stream.Key, [.. stream.Select(c => (c.d, c.Indices))], ref streams);
        foreach (var (name, value) in intakes)
            _rows.Cursors[name] = cache.Cursors[name] = value;

        var leaves = _rows.Entries.ConvertAll(e => TreeHash.Leaf(e.Row.Header));
        foreach (var leaf in leaves)
            cache.Tree!.Add(leaf, _rows.Tiles);
        var tree = cache.Tree!.TakeView();
        var written = new Head(cache.Tree.Size, [.. tree.Edge().SelectMany(h => h)], now.UtcTicks, streams, events);
        await session.Write(_rows, written);
        Probe.At("before-commit");
        progress.Committing = true;
        context.RecentEntries.Begin(_rows, written);
        await session.Commit();
        progress.Committed = true;
        Probe.At("before-keep");
        context.RecentEntries.Keep(_rows, written.Size);
        Measures.Covered(leaves.Count - decided.Count);
        KeepPublished(leaves, head, written);
        cache.Time = written.Time;
        Probe.At("after-commit");
        return (written, tree);
    }

    private async Task LoadNumbers(IReadOnlyList<DecidedCommand> decided)
    {
        await loader.LoadLastOfTypes(
            decided.SelectMany(d => d.Decision.Changes).Select(c => c.Event.Descriptor.FullName).Where(context.IsOwn).Distinct()
        );
        var known = cache.Cursors.Count;
        await loader.LoadCursors(decided.SelectMany(d => d.Audience).Select(EntryBuilder.CursorOf));
        cache.Held += cache.Cursors.Count - known;
    }

    /// <summary>Adds what was decided, and cover entries at the places that are left.</summary>
    private void AddEntries(IReadOnlyList<DecidedCommand> decided, ulong from, Timestamp time, ref ulong eventNumber)
    {
        var next = 0;
        for (var position = from; position < from + (ulong)(context.Leaves ?? decided.Count); position++)
            if (next < decided.Count && decided[next].Position == position)
                AddEntry(decided[next++], time, ref eventNumber);
            else
                _rows.Entries.Add(Cover.Entry(context.Options.Service, position, time));
    }

    private void AddEntry(DecidedCommand decided, Timestamp time, ref ulong eventNumber)
    {
        var builder = new EntryBuilder(context, cache, decided, time);
        var entry = builder.Build(ref eventNumber, _rows.Cursors);
        _rows.Entries.Add(entry);
        if (entry.Events.Count > 0 && context.RecentEvents.Wanted)
            _published.Add((decided, entry, builder.Events));
        var span = decided.Pending.Span;
        span?.SetTag("ministries.position", (long)decided.Position);
        if (decided.Decision.Case.Length > 0)
            span?.SetTag("ministries.case", decided.Decision.Case);
    }

    private void AddStream(StreamId id, List<(DecidedCommand Decided, string Indices)> changes, ref ulong streams)
    {
        var kind = context.KindOf(id.Kind);
        var state = cache.View.StateOf(id)!;
        var index = decider.IndexOf(id, state);
        var keys = index.Keys.ToHashSet();
        var isNew = !cache.Numbers.TryGetValue(id, out var number);
        if (isNew)
            cache.Numbers[id] = number = ++streams;
        var version = cache.View.VersionOf(id);
        _rows.Streams.Add(
            new StreamRow(
                number,
                id,
                version,
                kind.Version,
                state.ToByteArray(),
                changes[^1].Decided.Position,
                index.Due?.UtcTicks,
                index.Audience.ToHashSet(),
                keys,
                isNew
            )
        );
        // Each entry made one version of the stream, and the last of them is the present version.
        var before = version - (ulong)changes.Count;
        foreach (var (decided, indices) in changes)
            _rows.Changes.Add(new ChangeRow(number, ++before, decided.Position, indices));
        ChangeKeys(id, number, isNew, keys);
    }

    private void ChangeKeys(StreamId id, ulong number, bool isNew, HashSet<string> keys)
    {
        // An older fold may have listed the record under other keys.
        var rebuilt = cache.KeysOfRebuilt.Remove(id, out var before);
        if (!rebuilt)
            before = isNew || decider.Before[id] is not { } earlier ? [] : context.KindOf(id.Kind).KeysOf(earlier).ToHashSet();
        if (!isNew && !rebuilt && keys.SetEquals(before!))
            return;
        _rows.RemovedKeys.AddRange(before!.Where(k => !keys.Contains(k)).Select(k => new KeyRow(id.Kind, k, number)));
        _rows.Keys.AddRange(keys.Except(before!).Select(k => new KeyRow(id.Kind, k, number)));
    }

    private void KeepPublished(List<byte[]> leaves, Head before, Head head)
    {
        context.RecentEvents.Come(head.Size, head.Events);
        var time = NumberedEvent.TimeText(now);
        foreach (var (decided, entry, events) in _published)
        foreach (var row in entry.Events)
            context.RecentEvents.Keep(
                NumberedEvent.Of(
                    context.Options.Service,
                    row.Number,
                    row.Sequence,
                    row.Position,
                    row.Index,
                    events.Events_[row.Index],
                    time,
                    leaves[(int)(decided.Position - before.Size)],
                    entry.Row.TraceParent,
                    entry.Row.TraceState
                )
            );
    }
}
