using System.Globalization;
using Ministries.Ledger.V1;

namespace Ministries.Ledger;

/// <summary>
/// Brings a ledger of schema 1 to schema 2, in the transaction that the caller has begun: either all of it is done or nothing. Schema 1 had
/// tables of parts, requests and events; in schema 2 they stand in the entry's row, except the second and further events of an entry. No
/// byte of a header or a part changes, so every proof stays valid.
/// </summary>
internal abstract class Migration
{
    private const ulong Page = 256;
    private static readonly TimeSpan Quiet = TimeSpan.FromSeconds(2);

    /// <summary>Migrates.</summary>
    /// <param name="service">Whose ledger it is.</param>
    /// <param name="version">The schema that it has.</param>
    /// <param name="time">The clock.</param>
    /// <param name="progress">Receives lines about the progress if it takes longer than two seconds.</param>
    /// <exception cref="LedgerInconsistentException">The tables contradict each other; nothing was changed.</exception>
    public async Task Run(string service, int version, TimeProvider time, Action<string>? progress)
    {
        if (version != 1)
            throw new LedgerInconsistentException($"the database has schema {version}, from which this software cannot migrate.");
        var began = time.GetTimestamp();
        var told = began;
        var head = await Begin();
        ulong events = 0;
        for (ulong from = 0; from < head.Size; from += Page)
        {
            var entries = await Read(from, Math.Min(from + Page, head.Size), events);
            events += (ulong)entries.Sum(e => e.Events.Count);
            await Write(entries);
            Report(
                string.Create(
                    CultureInfo.InvariantCulture,
                    $"{service}: the ledger's tables are migrated from schema 1 to {Store.Schema}: {from + (ulong)entries.Count} of {head.Size} entries"
                )
            );
        }
        if (events != head.Events)
            throw new LedgerInconsistentException(
                $"the ledger should have {head.Events} events, and {events} were found: the database was damaged. Restore it."
            );
        Report($"{service}: the ledger's tables are migrated from schema 1 to {Store.Schema}: the indexes are being made", since: began);
        await End();

        void Report(string text, long? since = null)
        {
            if (time.GetElapsedTime(since ?? told) < Quiet)
                return;
            told = time.GetTimestamp();
            progress?.Invoke($"{text} ({time.GetElapsedTime(began).TotalSeconds:F0} s)");
        }
    }

    /// <summary>Renames the tables of schema 1, creates the tables that are filled, and locks the head, so that nothing else is
    /// committed.</summary>
    protected abstract Task<Head> Begin();

    /// <summary>Drops the tables of schema 1 and alters the tables that stay.</summary>
    protected abstract Task End();

    protected abstract Task Write(IReadOnlyList<NewEntry> entries);

    // Reads some entries from the tables of schema 1.
    protected abstract Task<List<EntryRow>> ReadEntries(ulong from, ulong to);
    protected abstract Task<List<PartRow>> ReadParts(ulong from, ulong to);
    protected abstract Task<Dictionary<(string Participant, string RequestId), byte[]>> ReadDigests(
        IReadOnlyCollection<(string Participant, string RequestId)> ids
    );
    protected abstract Task<List<EventRow>> ReadEvents(ulong after, int limit);

    private async Task<List<NewEntry>> Read(ulong from, ulong to, ulong eventsBefore)
    {
        var rows = await ReadEntries(from, to);
        if (rows.Count != (int)(to - from))
            throw new LedgerInconsistentException(
                $"of the entries {from} to {to - 1} only {rows.Count} are there: the database was damaged. Restore it."
            );
        var parts = (await ReadParts(from, to)).ToLookup(p => p.Position);
        var ids = rows.ToDictionary(r => r.Position, r => (r.Participant, EntryHeader.Parser.ParseFrom(r.Header).RequestId));
        var digests = await ReadDigests([.. ids.Values]);
        // Schema 1 finds events only by their numbers. The entries have at most this many, because their parts also hold events of others.
        var most = rows.Sum(r =>
            parts[r.Position].FirstOrDefault(p => p.Kind == PartKind.Events)?.Data is { } data
                ? Events.Parser.ParseFrom(data).Events_.Count
                : 0
        );
        var events = (most == 0 ? [] : await ReadEvents(eventsBefore, most)).ToLookup(e => e.Position);
        return
        [
            .. rows.Select(row => new NewEntry(
                row,
                ids[row.Position].RequestId,
                digests.TryGetValue(ids[row.Position], out var digest)
                    ? digest
                    : throw new LedgerInconsistentException(
                        $"the request id of entry {row.Position} is missing: the database was damaged. Restore it."
                    ),
                parts[row.Position],
                [.. events[row.Position]]
            )),
        ];
    }
}
