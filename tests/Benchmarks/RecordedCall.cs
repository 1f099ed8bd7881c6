using Ministries.Ledger;
using Npgsql;
using LedgerRows = Ministries.Ledger.Rows;

namespace Ministries.Benchmarks;

/// <summary>An entry of a logged call as a service recorded it, with the rows that belong to it.</summary>
internal sealed record RecordedCall(NewEntry Entry, StreamRow Stream, IReadOnlyList<string> Keys)
{
    /// <summary>The last entry of a ledger in which calls were logged.</summary>
    public static async Task<RecordedCall> Last(string database)
    {
        await using var source = NpgsqlDataSource.Create(database);
        await using var select = source.CreateCommand(
            """
            select e.position, e.participant, e.case_id, e.audience, e.trace_parent, e.trace_state, e.header, e.request_id, e.digest,
                e.request_type, e.request, e.parts, e.event_type, s.number, s.kind, s.key, s.fold, s.state, s.audience, s.keys
            from entries e join streams s using (position) where s.kind = 'call' order by e.position desc limit 1
            """
        );
        await using var r = await select.ExecuteReaderAsync();
        await r.ReadAsync();
        var position = (ulong)r.GetInt64(0);
        var row = new EntryRow(
            position,
            r.GetString(1),
            r.GetString(2),
            r.GetFieldValue<string[]>(3),
            r.GetString(4),
            r.GetString(5),
            r.GetFieldValue<byte[]>(6),
            PartBytes: 0
        );
        PartRow[] parts =
        [
            PartColumns.ToRequest(position, r.GetString(9), r.GetFieldValue<byte[]>(10)),
            .. PartColumns.Decode(position, r.GetFieldValue<byte[]>(11)),
        ];
        var entry = new NewEntry(
            row,
            r.GetString(7),
            r.GetFieldValue<byte[]>(8),
            parts,
            [new EventRow(1, r.GetString(12), 1, position, 0)]
        );
        var keys = r.GetFieldValue<string[]>(19);
        var stream = new StreamRow(
            (ulong)r.GetInt64(13),
            new StreamId(r.GetString(14), r.GetString(15)),
            1,
            r.GetInt32(16),
            r.GetFieldValue<byte[]>(17),
            position,
            null,
            r.GetFieldValue<string[]>(18),
            keys,
            New: true
        );
        return new RecordedCall(entry, stream, keys);
    }

    /// <summary>The same call repeated, as a committer writes several together.</summary>
    /// <param name="from">The first position, which is also the number of streams and of events so far.</param>
    /// <param name="count">How many.</param>
    public LedgerRows Again(ulong from, int count)
    {
        var rows = new LedgerRows();
        for (var position = from; position < from + (ulong)count; position++)
        {
            var number = position + 1;
            rows.Entries.Add(
                new NewEntry(
                    Entry.Row with
                    {
                        Position = position,
                    },
                    Guid.NewGuid().ToString(),
                    Entry.Digest,
                    Entry.Parts,
                    [new EventRow(number, Entry.FirstEvent!.Type, number, position, 0)]
                )
            );
            rows.Streams.Add(
                Stream with
                {
                    Number = number,
                    Id = new StreamId(Stream.Id.Kind, $"{Stream.Id.Key[..5]}{Guid.NewGuid():N}"),
                    Position = position,
                }
            );
            rows.Changes.Add(new ChangeRow(number, 1, position, "0"));
            rows.Keys.AddRange(Keys.Select(k => new KeyRow(Stream.Id.Kind, k, number)));
        }
        return rows;
    }
}
