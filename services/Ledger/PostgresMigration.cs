using Ministries.Ledger.V1;
using Npgsql;

namespace Ministries.Ledger;

/// <summary>Migrates a ledger in PostgreSQL, in the transaction of a connection of its tables' owner.</summary>
internal sealed class PostgresMigration(NpgsqlConnection connection, PostgresSession session, CancellationToken cancel) : Migration
{
    private static readonly string[] Before =
    [
        // Every step finds its rows by key, as the service does, and has no time limit.
        "set local enable_hashjoin = off",
        "set local enable_mergejoin = off",
        "set local enable_seqscan = off",
        "set local statement_timeout = 0",
        "set local idle_in_transaction_session_timeout = 0",
        // Waits for a commit that is under way.
        "select from head for update",
        "alter table entries rename to entries_1",
        "alter index entries_pkey rename to entries_1_pkey",
        "drop index entries_of_case",
        .. PostgresSchema.Filled,
    ];

    private static readonly string[] After =
    [
        "alter table streams add column keys text[] not null default '{}'",
        "update streams s set keys = array(select k.token from list_keys k where k.stream = s.number order by k.token)",
        "alter table streams alter column keys drop default",
        "alter table streams drop constraint streams_pkey",
        "alter table streams add constraint streams_pkey primary key using index streams_of_kind",
        "drop index list_keys_of_stream",
        "drop function if exists erase_request(bigint, text, text)",
        "drop table parts, requests, events, entries_1",
    ];

    protected override async Task<Head> Begin()
    {
        foreach (var sql in Before)
            await Run(sql);
        return await session.ReadHead();
    }

    protected override async Task End()
    {
        foreach (var sql in After)
            await Run(sql);
    }

    protected override Task Write(IReadOnlyList<NewEntry> entries)
    {
        cancel.ThrowIfCancellationRequested();
        var rows = new Rows();
        rows.Entries.AddRange(entries);
        return session.WriteEntries(rows);
    }

    protected override Task<List<EntryRow>> ReadEntries(ulong from, ulong to) =>
        session.Read(
            r => new EntryRow(
                (ulong)r.GetInt64(0),
                r.GetString(1),
                r.GetString(2),
                r.GetFieldValue<string[]>(3),
                r.GetString(4),
                r.GetString(5),
                r.GetFieldValue<byte[]>(6),
                PartBytes: 0
            ),
            """
            select position, participant, case_id, audience, trace_parent, trace_state, header from entries_1
            where position >= $1 and position < $2 order by position
            """,
            (long)from,
            (long)to
        );

    protected override Task<List<PartRow>> ReadParts(ulong from, ulong to) =>
        session.Read(
            r => new PartRow(
                (ulong)r.GetInt64(0),
                (PartKind)r.GetInt16(1),
                r.GetString(2),
                r.GetFieldValue<byte[]>(3),
                r.IsDBNull(4) ? null : r.GetFieldValue<byte[]>(4)
            ),
            "select position, kind, type, salt, data from parts where position >= $1 and position < $2 order by position, kind",
            (long)from,
            (long)to
        );

    protected override async Task<Dictionary<(string Participant, string RequestId), byte[]>> ReadDigests(
        IReadOnlyCollection<(string Participant, string RequestId)> ids
    ) =>
        (
            await session.Read(
                r => (Id: (r.GetString(0), r.GetString(1)), Digest: r.GetFieldValue<byte[]>(2)),
                """
                select participant, request_id, q.digest
                from unnest($1::text[], $2::text[]) as u(participant, request_id) join requests q using (participant, request_id)
                """,
                ids.Select(i => i.Participant).ToArray(),
                ids.Select(i => i.RequestId).ToArray()
            )
        ).ToDictionary(f => f.Id, f => f.Digest);

    protected override Task<List<EventRow>> ReadEvents(ulong after, int limit) =>
        session.Read(
            r => new EventRow((ulong)r.GetInt64(0), r.GetString(1), (ulong)r.GetInt64(2), (ulong)r.GetInt64(3), r.GetInt32(4)),
            "select number, type, sequence, position, index from events where number > $1 order by number limit $2",
            (long)after,
            limit
        );

    private async Task Run(string sql)
    {
        await using var command = new NpgsqlCommand(sql, connection) { CommandTimeout = 0 };
        await command.ExecuteNonQueryAsync(cancel);
    }
}
