using System.Data;
using System.Globalization;
using Ministries.Ledger.V1;
using Npgsql;

namespace Ministries.Ledger;

/// <summary>A connection to PostgreSQL that is in use.</summary>
internal sealed class PostgresSession : Session
{
    private const string StreamColumns =
        "s.number, s.kind, s.key, s.version, s.fold, s.state, s.position, s.due, array_to_string(s.audience, E'\\n'), "
        + "array_to_string(s.keys, E'\\n'), (select e.trace_parent from entries e where e.position = s.position)";

    private const string EventSources =
        "n.header, n.parts, n.trace_parent, n.trace_state from e join entries n on n.position = e.position order by e.number";

    // The statements of a commit, applied to no row. The database refuses them if a table or a right is missing, and otherwise does
    // nothing.
    private const string WritesNoRow = """
        with entries_made as (insert into entries select * from entries where false),
            events_made as (insert into further_events select * from further_events where false),
            streams_made as (insert into streams select * from streams where false),
            streams_changed as (update streams set version = version where false),
            changes_made as (insert into changes select * from changes where false),
            keys_made as (insert into list_keys select * from list_keys where false),
            keys_removed as (delete from list_keys where false),
            tiles_made as (insert into tiles select * from tiles where false),
            cursors_made as (insert into cursors select * from cursors where false),
            cursors_moved as (update cursors set value = value where false),
            head_moved as (update head set size = size where false)
        """;

    private const string Nothing = "pg_logical_emit_message(true, 'ministries', '')";

    private readonly NpgsqlConnection _connection;
    private readonly bool _waits;
    private readonly Commits? _commits;
    private readonly CancellationToken _replaced;
    private NpgsqlTransaction? _transaction;
    private DateTimeOffset? _time;
    private string? _warning;
    private bool _abandoned;

    /// <param name="connection">The connection.</param>
    /// <param name="waits">Whether the caller's thread waits for each answer, as the committer's does, which alone locks the head.</param>
    /// <param name="commits">Sends COMMIT; null: the session makes single changes alone.</param>
    /// <param name="replaced">Ends what has not been answered when another server becomes the primary. Only for a session whose thread does
    /// not wait.</param>
    public PostgresSession(NpgsqlConnection connection, bool waits, Commits? commits = null, CancellationToken replaced = default)
    {
        (_connection, _waits, _commits, _replaced) = (connection, waits, commits, replaced);
        _connection.Notice += (_, e) => _warning = e.Notice.SqlState;
    }

    /// <summary>The number of the server's process at the other end.</summary>
    public int Process => _connection.ProcessID;

    public override Task<Head> LockHead()
    {
        _transaction = _connection.BeginTransaction(IsolationLevel.ReadCommitted);
        return LockedHead();
    }

    private async Task<Head> LockedHead()
    {
        var (head, time) = (
            await Read(
                r => (HeadOf(r), TimeOf(r, 5)),
                "select size, edge, last_time, streams, events, clock_timestamp() from head for update"
            )
        )[0];
        _time = time;
        return head;
    }

    public override DateTimeOffset? DatabaseTime => _time;

    public override async Task<Head> ReadHead() => (await Read(HeadOf, "select size, edge, last_time, streams, events from head"))[0];

    public override async Task<Pulse> Pulse(bool failing)
    {
        _warning = null;
        if (failing)
            await Run("insert into cursors values ('probe', 0) on conflict (name) do update set value = cursors.value");
        var (pulse, readOnly) = (
            await Read(
                r => (new Pulse(HeadOf(r), TimeOf(r, 5), r.GetBoolean(6), r.GetInt64(7)), r.GetBoolean(8)),
                $"""
                {WritesNoRow}
                select size, edge, last_time, streams, events, clock_timestamp(),
                    current_setting('synchronous_standby_names') <> '' and current_setting('synchronous_commit') not in ('off', 'local'),
                    (select count(*) from pg_stat_replication), current_setting('transaction_read_only') = 'on', {Nothing}::text
                from head
                """
            )
        )[0];
        DemandNoWarning();
        // A statement that changes nothing is allowed there too.
        return readOnly ? throw new CommitDoubtfulException("the database is read-only") : pulse;
    }

    private static Head HeadOf(NpgsqlDataReader r) => new(U(r, 0), r.GetFieldValue<byte[]>(1), r.GetInt64(2), U(r, 3), U(r, 4));

    private static DateTimeOffset TimeOf(NpgsqlDataReader r, int column) => new(r.GetDateTime(column), TimeSpan.Zero);

    public override Task Write(Rows rows, Head head)
    {
        using var batch = new NpgsqlBatch(_connection, _transaction);
        Add(
            batch,
            "update head set size = $1, edge = $2, last_time = $3, streams = $4, events = $5",
            (long)head.Size,
            head.Edge,
            head.Time,
            (long)head.Streams,
            (long)head.Events
        );
        AddEntries(batch, rows.Entries);
        AddStreams(batch, rows);
        AddKeys(batch, rows);
        AddTilesAndCursors(batch, rows);
        batch.ExecuteNonQuery();
        return Task.CompletedTask;
    }

    /// <summary>Writes entries alone, as a migration does.</summary>
    public async Task WriteEntries(Rows rows)
    {
        await using var batch = new NpgsqlBatch(_connection, _transaction);
        AddEntries(batch, rows.Entries);
        await batch.ExecuteNonQueryAsync();
    }

    private static void AddEntries(NpgsqlBatch batch, List<NewEntry> entries)
    {
        if (entries.Count == 0)
            return;
        Add(
            batch,
            """
            insert into entries (position, participant, request_id, digest, case_id, audience, trace_parent, trace_state, header,
                request_type, request, parts, event_number, event_type, event_sequence, event_index)
            select position, participant, request_id, digest, case_id, string_to_array(audience, E'\n'), trace_parent, trace_state, header,
                request_type, request, parts, event_number, event_type, event_sequence, event_index
            from unnest($1::bigint[], $2::text[], $3::text[], $4::bytea[], $5::text[], $6::text[], $7::text[], $8::text[], $9::bytea[],
                $10::text[], $11::bytea[], $12::bytea[], $13::bigint[], $14::text[], $15::bigint[], $16::int[])
            as u(position, participant, request_id, digest, case_id, audience, trace_parent, trace_state, header,
                request_type, request, parts, event_number, event_type, event_sequence, event_index)
            """,
            L(entries, e => e.Row.Position),
            A(entries, e => e.Row.Participant),
            A(entries, e => e.RequestId),
            A(entries, e => e.Digest),
            A(entries, e => e.Row.Case),
            A(entries, e => Joined(e.Row.Audience)),
            A(entries, e => e.Row.TraceParent),
            A(entries, e => e.Row.TraceState),
            A(entries, e => e.Row.Header),
            A(entries, e => e.RequestType),
            A(entries, e => e.EncodedRequest!),
            A(entries, e => e.EncodedParts),
            A(entries, e => (long?)e.FirstEvent?.Number),
            A(entries, e => e.FirstEvent?.Type!),
            A(entries, e => (long?)e.FirstEvent?.Sequence),
            A(entries, e => e.FirstEvent?.Index)
        );
        var further = entries.SelectMany(e => e.Events.Skip(1)).ToList();
        if (further.Count > 0)
            Add(
                batch,
                "insert into further_events select * from unnest($1::bigint[], $2::text[], $3::bigint[], $4::bigint[], $5::int[])",
                L(further, e => e.Number),
                A(further, e => e.Type),
                L(further, e => e.Sequence),
                L(further, e => e.Position),
                A(further, e => e.Index)
            );
    }

    private static void AddStreams(NpgsqlBatch batch, Rows rows)
    {
        if (rows.Streams.Where(s => s.New).ToList() is { Count: > 0 } made)
            Add(
                batch,
                """
                insert into streams (number, kind, key, version, fold, state, position, due, audience, keys)
                select number, kind, key, version, fold, state, position, due, string_to_array(audience, E'\n'), string_to_array(keys, E'\n')
                from unnest($1::bigint[], $2::text[], $3::text[], $4::bigint[], $5::int[], $6::bytea[], $7::bigint[], $8::bigint[],
                    $9::text[], $10::text[])
                as u(number, kind, key, version, fold, state, position, due, audience, keys)
                """,
                L(made, s => s.Number),
                A(made, s => s.Id.Kind),
                A(made, s => s.Id.Key),
                L(made, s => s.Version),
                A(made, s => s.Fold),
                A(made, s => s.State),
                L(made, s => s.Position),
                A(made, s => s.Due),
                A(made, s => Joined(s.Audience)),
                A(made, s => Joined(s.Keys))
            );
        if (rows.Streams.Where(s => !s.New).ToList() is { Count: > 0 } changed)
            Add(
                batch,
                """
                update streams s set version = u.version, fold = u.fold, state = u.state, position = u.position, due = u.due,
                    audience = string_to_array(u.audience, E'\n'), keys = string_to_array(u.keys, E'\n')
                from unnest($1::text[], $2::bigint[], $3::bigint[], $4::int[], $5::bytea[], $6::bigint[], $7::bigint[], $8::text[], $9::text[])
                as u(kind, number, version, fold, state, position, due, audience, keys) where s.kind = u.kind and s.number = u.number
                """,
                A(changed, s => s.Id.Kind),
                L(changed, s => s.Number),
                L(changed, s => s.Version),
                A(changed, s => s.Fold),
                A(changed, s => s.State),
                L(changed, s => s.Position),
                A(changed, s => s.Due),
                A(changed, s => Joined(s.Audience)),
                A(changed, s => Joined(s.Keys))
            );
        if (rows.Changes is { Count: > 0 } changes)
            Add(
                batch,
                "insert into changes select * from unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::text[])",
                L(changes, c => c.Stream),
                L(changes, c => c.Version),
                L(changes, c => c.Position),
                A(changes, c => c.Events)
            );
    }

    private static void AddKeys(NpgsqlBatch batch, Rows rows)
    {
        if (rows.RemovedKeys.Count > 0)
            Add(
                batch,
                """
                delete from list_keys k using unnest($1::text[], $2::text[], $3::bigint[]) as u(kind, token, stream)
                where k.kind = u.kind and k.token = u.token and k.stream = u.stream
                """,
                Columns(rows.RemovedKeys)
            );
        if (rows.Keys.Count > 0)
            Add(batch, "insert into list_keys select * from unnest($1::text[], $2::text[], $3::bigint[])", Columns(rows.Keys));

        static object[] Columns(List<KeyRow> keys) => [A(keys, k => k.Kind), A(keys, k => k.Token), L(keys, k => k.Stream)];
    }

    private static void AddTilesAndCursors(NpgsqlBatch batch, Rows rows)
    {
        if (rows.Tiles is { Count: > 0 } tiles)
            Add(
                batch,
                "insert into tiles select * from unnest($1::smallint[], $2::bigint[], $3::bytea[], $4::bytea[])",
                A(tiles, t => (short)t.Level),
                L(tiles, t => t.Index),
                A(tiles, t => t.Hashes),
                A(tiles, t => t.Root)
            );
        if (rows.Cursors is { Count: > 0 } cursors)
            Add(
                batch,
                """
                insert into cursors select * from unnest($1::text[], $2::bigint[])
                on conflict (name) do update set value = excluded.value
                """,
                cursors.Keys.ToArray(),
                cursors.Values.Select(v => (long)v).ToArray()
            );
    }

    private static void Add(NpgsqlBatch batch, string sql, params object[] values)
    {
        var command = new NpgsqlBatchCommand(sql);
        foreach (var value in values)
            command.Parameters.Add(new NpgsqlParameter { Value = value });
        batch.BatchCommands.Add(command);
    }

    public override Task Commit()
    {
        _warning = null;
        try
        {
            var commits = _commits ?? throw new InvalidOperationException("the session makes single changes alone");
            commits.Thread.Run(SendCommit, _connection.Dispose, commits.IsReplaced);
        }
        catch (CommitDoubtfulException)
        {
            // The thread of the commit has the connection from now on.
            _abandoned = true;
            throw;
        }
        DemandNoWarning();
        return Task.CompletedTask;
    }

    // Without a time limit, since Npgsql would send a cancellation when it passes.
    private void SendCommit()
    {
        using var commit = new NpgsqlCommand("commit", _connection, _transaction) { CommandTimeout = 0 };
        commit.ExecuteNonQuery();
    }

    // PostgreSQL answers a commit whose wait for the standbys was cancelled as done, with a warning (01000) before it. Any other notice is
    // as little expected here.
    private void DemandNoWarning()
    {
        if (_warning is { } warning)
            throw new CommitDoubtfulException($"the database answered the commit with the notice {warning}");
    }

    public override async Task CommitNothing()
    {
        await Read(r => r.GetValue(0), $"select {Nothing}::text");
        await Commit();
    }

    public override async Task<ulong> Replicated()
    {
        _warning = null;
        var size = (await Read(r => U(r, 0), $"select size, {Nothing}::text from head"))[0];
        DemandNoWarning();
        return size;
    }

    public override async Task<Dictionary<(string Participant, string RequestId), FoundRequest>> FindRequests(
        IReadOnlyCollection<(string Participant, string RequestId)> ids
    ) => (
            await Read(
                r =>
                    (
                        Id: (r.GetString(0), r.GetString(1)),
                        Found: new FoundRequest(
                            r.GetFieldValue<byte[]>(2),
                            U(r, 3),
                            r.GetFieldValue<byte[]>(4),
                            Part(r, 3, 5, PartKind.Answer)
                        )
                    ),
                """
                select participant, request_id, e.digest, e.position, e.header, e.parts
                from unnest($1::text[], $2::text[]) as u(participant, request_id) join entries e using (participant, request_id)
                """,
                A(ids, i => i.Participant),
                A(ids, i => i.RequestId)
            )
        ).DistinctBy(f => f.Id).ToDictionary(f => f.Id, f => f.Found);

    public override Task<List<StreamRow>> FindStreams(IReadOnlyCollection<StreamId> ids) =>
        Read(
            StreamOf,
            $"select {StreamColumns} from unnest($1::text[], $2::text[]) as u(kind, key) join streams s using (kind, key)",
            A(ids, i => i.Kind),
            A(ids, i => i.Key)
        );

    public override Task<List<StreamRow>> FindStates(IReadOnlyCollection<StreamId> ids) =>
        Read(
            r => new StreamRow(
                U(r, 0),
                new StreamId(r.GetString(1), r.GetString(2)),
                U(r, 3),
                r.GetInt32(4),
                r.GetFieldValue<byte[]>(5),
                U(r, 6),
                null,
                [],
                [],
                false
            ),
            """
            select s.number, s.kind, s.key, s.version, s.fold, s.state, s.position
            from unnest($1::text[], $2::text[]) as u(kind, key) join streams s using (kind, key)
            """,
            A(ids, i => i.Kind),
            A(ids, i => i.Key)
        );

    public override Task<List<HistoryRow>> History(ulong stream) =>
        Read(
            r => new HistoryRow(
                U(r, 0),
                r.GetFieldValue<byte[]>(1),
                r.GetString(2),
                Part(r, 0, 3, PartKind.Events),
                r.GetString(4),
                PartColumns.ToRequest(U(r, 0), "", r.IsDBNull(5) ? null : r.GetFieldValue<byte[]>(5)).Data
            ),
            """
            select c.position, e.header, c.events, e.parts, e.request_type, e.request
            from changes c join entries e on e.position = c.position where c.stream = $1 order by c.version
            """,
            (long)stream
        );

    public override Task<Dictionary<string, ulong>> LastOfTypes(IReadOnlyCollection<string> types) =>
        Numbers(
            """
            select u.type, greatest(
                (select e.event_sequence from entries e where e.event_type = u.type order by e.event_sequence desc limit 1),
                (select e.sequence from further_events e where e.type = u.type order by e.sequence desc limit 1))
            from unnest($1::text[]) as u(type)
            """,
            types
        );

    public override Task<Dictionary<string, ulong>> Cursors(IReadOnlyCollection<string> names) =>
        Numbers("select u.name, c.value from unnest($1::text[]) as u(name) left join cursors c using (name)", names);

    public override Task<List<byte[]>> Headers(ulong from, ulong to) =>
        Read(
            r => r.GetFieldValue<byte[]>(0),
            "select header from entries where position >= $1 and position < $2 order by position",
            (long)from,
            (long)to
        );

    public override async Task<byte[]?> ReadTile(int level, ulong index) =>
        (
            await Read(
                r => r.GetFieldValue<byte[]>(0),
                "select hashes from tiles where level = $1 and index = $2",
                (short)level,
                (long)index
            )
        ).FirstOrDefault();

    public override Task<List<byte[]>> TileRoots(int level, ulong from, ulong to) =>
        Read(
            r => r.GetFieldValue<byte[]>(0),
            "select root from tiles where level = $1 and index >= $2 and index < $3 order by index",
            (short)level,
            (long)from,
            (long)to
        );

    public override Task<List<EntryRow>> Entries(ulong from, ulong to, string? @case, Viewer? viewer, int limit)
    {
        List<object> values = [(long)from, (long)to, limit];
        var sql =
            "select position, participant, case_id, trace_parent, trace_state, header, audience, "
            + "octet_length(parts) + coalesce(octet_length(request), 0) from entries s where position >= $1 and position < $2";
        if (@case is not null)
        {
            values.Add(@case);
            sql += $" and case_id = ${values.Count} and case_id <> ''";
        }
        if (viewer is not null)
            sql += Visible(viewer, values);
        return Read(
            r =>
                EntryOf(
                    r.GetInt64(0),
                    r.GetString(1),
                    r.GetString(2),
                    r.GetString(3),
                    r.GetString(4),
                    r.GetFieldValue<byte[]>(5),
                    r.GetFieldValue<string[]>(6),
                    r.GetInt32(7)
                ),
            sql + " order by position limit $3",
            [.. values]
        );
    }

    public override async Task<List<PartRow>> Parts(IReadOnlyCollection<ulong> positions) =>
        [
            .. (
                await Read(
                    r =>
                        PartColumns
                            .Decode(U(r, 0), r.GetFieldValue<byte[]>(3))
                            .Prepend(PartColumns.ToRequest(U(r, 0), r.GetString(1), r.IsDBNull(2) ? null : r.GetFieldValue<byte[]>(2))),
                    "select position, request_type, request, parts from entries where position = any($1) order by position",
                    L(positions, p => p)
                )
            ).SelectMany(p => p),
        ];

    public override Task<List<StreamRow>> List(string kind, IReadOnlyList<string> keys, Viewer? viewer, ulong after, int limit)
    {
        List<object> values = [kind, (long)after, limit];
        var sql = $"select {StreamColumns} from {Listed(kind, keys, values)} and s.number > $2";
        if (viewer is not null)
            sql += Visible(viewer, values);
        return Read(StreamOf, sql + " order by s.number limit $3", [.. values]);
    }

    private static string Visible(Viewer viewer, List<object> values)
    {
        values.Add(viewer.Tokens.ToArray());
        var own = $"s.audience && ${values.Count}";
        if (viewer.PartyKey is null)
            return $" and {own}";
        values.AddRange([Cases.Kind.Name, viewer.PartyKey, viewer.Endings.ToArray()]);
        var (kind, party, endings) = (values.Count - 2, values.Count - 1, values.Count);
        return $"""
             and ({own} or exists (
                select 1 from unnest(s.audience) a(token)
                join streams c on c.kind = ${kind} and c.key = substring(a.token from '^c:([^:=]+)')
                join list_keys l on l.kind = c.kind and l.token = ${party} and l.stream = c.number
                where substr(a.token, 3 + length(c.key)) = any(${endings})))
            """;
    }

    public override async Task<ulong> Count(string kind, IReadOnlyList<string> keys)
    {
        List<object> values = [kind];
        return (await Read(r => U(r, 0), $"select count(*) from {Listed(kind, keys, values)}", [.. values]))[0];
    }

    private static string Listed(string kind, IReadOnlyList<string> keys, List<object> values)
    {
        var sql = "streams s where s.kind = $1";
        foreach (var key in keys)
        {
            values.Add(key);
            sql += " and exists (select 1 from list_keys k " + $"where k.kind = $1 and k.token = ${values.Count} and k.stream = s.number)";
        }
        return sql;
    }

    public override Task<List<(StreamId Id, long Due)>> Due(long now, int skip, int limit) =>
        Read(
            r => (new StreamId(r.GetString(0), r.GetString(1)), r.GetInt64(2)),
            "select kind, key, due from streams where due <= $1 order by due, number limit $2 offset $3",
            now,
            limit,
            skip
        );

    public override async Task<bool> HasCase(ulong from, ulong to) =>
        (
            await Read(
                r => r.GetBoolean(0),
                "select exists (select from entries where position >= $1 and position < $2 and case_id <> '')",
                (long)from,
                (long)to
            )
        )[0];

    public override async Task<ulong> CountDue(long now) =>
        (await Read(r => U(r, 0), "select count(*) from streams where due <= $1", now))[0];

    public override Task<List<EventSource>> EventsAfter(ulong number, int limit) =>
        Read(
            EventOf,
            $"""
            with e as materialized (
                (select event_number as number, event_sequence as sequence, position, event_index as index from entries
                    where event_number > $1 order by event_number limit $2)
                union all (select number, sequence, position, index from further_events where number > $1 order by number limit $2)
                order by number limit $2)
            select e.number, e.sequence, e.position, e.index, {EventSources}
            """,
            (long)number,
            limit
        );

    public override Task<List<EventSource>> EventsAfter(IReadOnlyDictionary<string, ulong> after, int limit) =>
        Read(
            EventOf,
            $"""
            with e as materialized (
                select f.* from unnest($1::text[], $2::bigint[]) as u(type, after) cross join lateral (
                    (select g.event_number as number, g.event_sequence as sequence, g.position, g.event_index as index from entries g
                        where g.event_type = u.type and g.event_sequence > u.after order by g.event_sequence limit $3)
                    union all (select g.number, g.sequence, g.position, g.index from further_events g
                        where g.type = u.type and g.sequence > u.after order by g.sequence limit $3)) f
                order by f.number limit $3)
            select e.number, e.sequence, e.position, e.index, {EventSources}
            """,
            after.Keys.ToArray(),
            after.Values.Select(v => (long)v).ToArray(),
            limit
        );

    public override Task MoveCursor(string name, ulong value) =>
        Run(
            """
            insert into cursors values ($1, $2) on conflict (name) do update set value = greatest(cursors.value, excluded.value)
            """,
            name,
            (long)value
        );

    // The lock on the lead's row keeps a successor waiting until the cursor is stored: it then reads the cursor that its predecessor left.
    public override async Task<bool> MoveCursor(string name, ulong value, LeaseMark lead) =>
        await Run(
            """
            with held as (select from leads where name = $3 and holder = $4 and fence = $5 for share)
            insert into cursors select $1, $2 from held
            on conflict (name) do update set value = greatest(cursors.value, excluded.value)
            """,
            name,
            (long)value,
            lead.Name,
            lead.Holder,
            (long)lead.Fence
        ) > 0;

    // A lease that ends later than any lease can was given by a wrong clock, and counts as ended. A replica that finds that another one
    // holds the lead writes nothing.
    public override async Task<ulong?> TakeLead(string name, string holder, TimeSpan time)
    {
        _warning = null;
        var fence = await Unless(async () =>
        {
            await using var take = Command(
                """
                insert into leads select $1, $2, 1, clock_timestamp() + $3 where not exists (
                    select from leads where name = $1 and until > clock_timestamp() and until <= clock_timestamp() + $3)
                on conflict (name) do update set holder = excluded.holder, fence = leads.fence + 1, until = excluded.until
                    where leads.until <= clock_timestamp() or leads.until > clock_timestamp() + $3
                returning fence
                """,
                [name, holder, time]
            );
            take.CommandTimeout = Within(time);
            return await take.ExecuteScalarAsync();
        });
        DemandNoWarning();
        return fence is long taken ? (ulong)taken : null;
    }

    public override async Task<bool> RenewLead(LeaseMark lead, TimeSpan time)
    {
        _warning = null;
        var renewed = await Unless(async () =>
        {
            await using var renew = Command(
                "update leads set until = clock_timestamp() + $4 where name = $1 and holder = $2 and fence = $3",
                [lead.Name, lead.Holder, (long)lead.Fence, time]
            );
            renew.CommandTimeout = Within(time);
            return await renew.ExecuteNonQueryAsync() > 0;
        });
        DemandNoWarning();
        return renewed;
    }

    // An answer that takes longer than the lease lasts comes too late. In whole seconds, of which 0 would mean no limit.
    private static int Within(TimeSpan lease) => Math.Max(1, (int)lease.TotalSeconds);

    public override Task GiveLead(LeaseMark lead) =>
        Run(
            "update leads set until = clock_timestamp() where name = $1 and holder = $2 and fence = $3",
            lead.Name,
            lead.Holder,
            (long)lead.Fence
        );

    public override async Task<bool> EraseRequest(ulong position)
    {
        _warning = null;
        var erased = (await Read(r => r.GetBoolean(0), "select erase_request($1)", (long)position))[0];
        DemandNoWarning();
        return erased;
    }

    public override Task<List<ulong>> SharesOf(ulong position) =>
        Read(
            r => (ulong)r.GetInt64(0),
            "select c.position from streams s join changes c on c.stream = s.number where s.kind = $1 and s.key = $2",
            Shares.StreamName,
            Shares.KeyOf(position)
        );

    // The keys of other kinds are no numbers, and PostgreSQL may read the conditions in any order.
    public override async Task<bool> IsErased(ulong position) =>
        (await Read(r => r.GetBoolean(0), "select request is null from entries where position = $1", (long)position)).SingleOrDefault();

    public override Task<List<SharedRow>> Shared(long after, int count) =>
        Read(
            r => new SharedRow(r.GetInt64(0), ulong.Parse(r.GetString(1), CultureInfo.InvariantCulture), r.GetBoolean(2)),
            """
            with page as (select number, key from streams where kind = $1 and number > $2 order by number limit $3)
            select p.number, p.key, exists (select from entries e where e.position = p.key::bigint and e.request is null)
                and exists (select from changes c join entries g on g.position = c.position where c.stream = p.number and g.request is not null)
            from page p order by p.number
            """,
            Shares.StreamName,
            after,
            count
        );

    public override async ValueTask DisposeAsync()
    {
        if (_abandoned)
            return;
        try
        {
            _transaction?.Dispose();
        }
        catch (Exception e) when (e is NpgsqlException or IOException or ObjectDisposedException or InvalidOperationException)
        {
            // The connection is gone, and its transaction with it.
        }
        if (_waits)
            _connection.Dispose();
        else
            await _connection.DisposeAsync();
    }

    internal async Task<List<T>> Read<T>(Func<NpgsqlDataReader, T> row, string sql, params object[] values)
    {
        var rows = new List<T>();
        if (_waits)
        {
            using var asked = Command(sql, values);
            using var answer = asked.ExecuteReader();
            while (answer.Read())
                rows.Add(row(answer));
            return rows;
        }
        return await Unless(async () =>
        {
            await using var command = Command(sql, values);
            await using var reader = await command.ExecuteReaderAsync();
            while (await reader.ReadAsync())
                rows.Add(row(reader));
            return rows;
        });
    }

    /// <summary>Waits for an answer unless another server becomes the primary. Then nobody waits for the statement any more, and its
    /// connection is closed when it ends. It is not cancelled: to send a cancellation, Npgsql would wait for the server that hangs, on a
    /// thread that others need.</summary>
    private async Task<T> Unless<T>(Func<Task<T>> ask)
    {
        var asked = ask();
        try
        {
            return await asked.WaitAsync(_replaced);
        }
        catch (OperationCanceledException e) when (_replaced.IsCancellationRequested)
        {
            _abandoned = true;
            _ = asked.ContinueWith(_ => _connection.DisposeAsync().AsTask(), TaskScheduler.Default);
            throw new NpgsqlException("another server is the primary now", e);
        }
    }

    private async Task<int> Run(string sql, params object[] values)
    {
        _warning = null;
        var rows = await Unless(async () =>
        {
            await using var command = Command(sql, values);
            return await command.ExecuteNonQueryAsync();
        });
        DemandNoWarning();
        return rows;
    }

    private NpgsqlCommand Command(string sql, object[] values)
    {
        var command = new NpgsqlCommand(sql, _connection);
        foreach (var value in values)
            command.Parameters.Add(new NpgsqlParameter { Value = value });
        return command;
    }

    private async Task<Dictionary<string, ulong>> Numbers(string sql, IReadOnlyCollection<string> names) =>
        (await Read(r => (Name: r.GetString(0), Last: r.IsDBNull(1) ? 0 : U(r, 1)), sql, (object)names.Distinct().ToArray())).ToDictionary(
            n => n.Name,
            n => n.Last
        );

    private static StreamRow StreamOf(NpgsqlDataReader r) =>
        new(
            U(r, 0),
            new StreamId(r.GetString(1), r.GetString(2)),
            U(r, 3),
            r.GetInt32(4),
            r.GetFieldValue<byte[]>(5),
            U(r, 6),
            r.IsDBNull(7) ? null : r.GetInt64(7),
            Split(r, 8),
            Split(r, 9),
            false,
            r.GetString(10)
        );

    private static string[] Split(NpgsqlDataReader reader, int column) =>
        reader.GetString(column).Split('\n', StringSplitOptions.RemoveEmptyEntries);

    private static byte[] Part(NpgsqlDataReader reader, int position, int parts, PartKind kind) =>
        PartColumns.Find(U(reader, position), reader.GetFieldValue<byte[]>(parts), kind);

    private static EventSource EventOf(NpgsqlDataReader r) =>
        new(
            U(r, 0),
            U(r, 1),
            U(r, 2),
            r.GetInt32(3),
            r.GetFieldValue<byte[]>(4),
            Part(r, 2, 5, PartKind.Events),
            r.GetString(6),
            r.GetString(7)
        );

    private static ulong U(NpgsqlDataReader reader, int column) => (ulong)reader.GetInt64(column);

    private static string Joined(IReadOnlyCollection<string> tokens) => string.Join('\n', tokens);

    private static long[] L<T>(IReadOnlyCollection<T> rows, Func<T, ulong> column) => [.. rows.Select(r => (long)column(r))];

    private static TColumn[] A<T, TColumn>(IReadOnlyCollection<T> rows, Func<T, TColumn> column) => [.. rows.Select(column)];
}
