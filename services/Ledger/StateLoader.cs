using System.Data.Common;
using Google.Protobuf;

namespace Ministries.Ledger;

/// <summary>Reads from the database what a batch needs and the cache does not have.</summary>
internal sealed class StateLoader(CommitContext context, CommitCache cache, Session session)
{
    private readonly Dictionary<StreamId, Exception> _unreadable = [];

    /// <summary>Loads streams. A stream that does not exist is held as absent.</summary>
    public async Task Load(IEnumerable<StreamId> wanted)
    {
        var missing = wanted
            .Where(id => !cache.View.Holds(id) && !_unreadable.ContainsKey(id) && context.Kinds.ContainsKey(id.Kind))
            .ToHashSet();
        if (missing.Count == 0)
            return;
        foreach (var row in await session.FindStreams(missing))
        {
            missing.Remove(row.Id);
            var kind = context.KindOf(row.Id.Kind);
            try
            {
                Hold(row.Id, await Stored.StateOf(session, kind, row), row.Version);
            }
            catch (Exception e) when (e is not DbException && !context.Store.IsOutage(e))
            {
                // Only the commands that need this record fail.
                _unreadable[row.Id] = e;
                continue;
            }
            cache.Numbers[row.Id] = row.Number;
            cache.TraceParents[row.Id] = row.TraceParent;
            if (row.Fold != kind.Version)
                cache.KeysOfRebuilt[row.Id] = row.Keys;
        }
        foreach (var id in missing)
            Hold(id, null, 0);

        void Hold(StreamId id, IMessage? state, ulong version)
        {
            cache.View.Put(context.KindOf(id.Kind), id.Key, state, version);
            cache.Held++;
        }
    }

    /// <summary>Loads what a command missed, or says why it cannot be.</summary>
    /// <exception cref="LedgerException">There can be no such stream, or its state could not be rebuilt.</exception>
    public async Task LoadMissed(Command command, HashSet<StreamId> missed)
    {
        if (missed.FirstOrDefault(id => !context.Kinds.ContainsKey(id.Kind)) is { Kind: { } unknown })
            throw new CommandFailedException(command.Method, null, $"the service keeps no streams of kind {unknown}");
        if (missed.FirstOrDefault(id => id.Key.Length is 0 or > 200) is { Key: not null })
            throw new CommandFailedException(command.Method, null, "the key of a stream is 1 to 200 characters");
        await Load(missed);
        foreach (var id in missed)
            if (_unreadable.TryGetValue(id, out var why))
                throw why as LedgerException
                    ?? new CommandFailedException(command.Method, why, "a record that it needs could not be rebuilt");
    }

    /// <summary>Loads how far readers and consumers have come, and how many entries audiences may see.</summary>
    public Task LoadCursors(IEnumerable<string> names) => LoadNumbers(cache.Cursors, names, session.Cursors);

    /// <summary>Loads the numbers of the last events of types.</summary>
    public Task LoadLastOfTypes(IEnumerable<string> types) => LoadNumbers(cache.LastOfTypes, types, session.LastOfTypes);

    private static async Task LoadNumbers(
        Dictionary<string, ulong> known,
        IEnumerable<string> names,
        Func<IReadOnlyCollection<string>, Task<Dictionary<string, ulong>>> load
    )
    {
        var missing = names.Where(n => !known.ContainsKey(n)).ToHashSet();
        if (missing.Count == 0)
            return;
        var loaded = await load(missing);
        foreach (var name in missing)
            known[name] = loaded.GetValueOrDefault(name);
    }
}
