using System.Text.Json;
using Ministries.Ledger.V1;

namespace Ministries.Ledger;

/// <summary>Migrates a ledger in a SQLite file, in the transaction that its session has begun. The space of the tables that are dropped
/// stays in the file and is used again.</summary>
internal sealed class SqliteMigration(SqliteSession session, CancellationToken cancel) : Migration
{
    protected override Task<Head> Begin()
    {
        session.Run("alter table entries rename to entries_1");
        session.Run("drop index entries_of_case");
        session.Run(SqliteSchema.Filled);
        return session.ReadHead();
    }

    protected override Task End()
    {
        session.Run("alter table streams add column keys text not null default '[]'");
        session.Run(
            """
            update streams set keys = (
                select json_group_array(token) from (select k.token from list_keys k where k.stream = streams.number order by k.token))
            """
        );
        session.Run("drop index list_keys_of_stream");
        foreach (var table in new[] { "parts", "requests", "events", "entries_1" })
            session.Run($"drop table {table}");
        return Task.CompletedTask;
    }

    protected override Task Write(IReadOnlyList<NewEntry> entries)
    {
        cancel.ThrowIfCancellationRequested();
        session.WriteEntries(entries);
        return Task.CompletedTask;
    }

    protected override Task<List<EntryRow>> ReadEntries(ulong from, ulong to) =>
        session.Read(
            r => new EntryRow(
                (ulong)r.GetInt64(0),
                r.GetString(1),
                r.GetString(2),
                JsonSerializer.Deserialize<string[]>(r.GetString(3))!,
                r.GetString(4),
                r.GetString(5),
                r.GetFieldValue<byte[]>(6),
                PartBytes: 0
            ),
            """
            select position, participant, case_id, audience, trace_parent, trace_state, header from entries_1
            where position >= @0 and position < @1 order by position
            """,
            from,
            to
        );

    protected override Task<List<PartRow>> ReadParts(ulong from, ulong to) =>
        session.Read(
            r => new PartRow(
                (ulong)r.GetInt64(0),
                (PartKind)r.GetInt32(1),
                r.GetString(2),
                r.GetFieldValue<byte[]>(3),
                r.IsDBNull(4) ? null : r.GetFieldValue<byte[]>(4)
            ),
            "select position, kind, type, salt, data from parts where position >= @0 and position < @1 order by position, kind",
            from,
            to
        );

    protected override async Task<Dictionary<(string Participant, string RequestId), byte[]>> ReadDigests(
        IReadOnlyCollection<(string Participant, string RequestId)> ids
    )
    {
        var digests = new Dictionary<(string, string), byte[]>();
        foreach (var id in ids)
        foreach (
            var digest in await session.Read(
                r => r.GetFieldValue<byte[]>(0),
                "select digest from requests where participant = @0 and request_id = @1",
                id.Participant,
                id.RequestId
            )
        )
            digests[id] = digest;
        return digests;
    }

    protected override Task<List<EventRow>> ReadEvents(ulong after, int limit) =>
        session.Read(
            r => new EventRow((ulong)r.GetInt64(0), r.GetString(1), (ulong)r.GetInt64(2), (ulong)r.GetInt64(3), r.GetInt32(4)),
            "select number, type, sequence, position, idx from events where number > @0 order by number limit @1",
            after,
            limit
        );
}
