using System.Data;
using System.Diagnostics;
using Ministries.Ledger.V1;
using Npgsql;

namespace Ministries.Ledger;

/// <summary>A ledger in PostgreSQL: READ COMMITTED, the head row's lock in a statement of its own, rows written as
/// arrays.</summary>
internal sealed class PostgresStore : Store
{
    private static readonly string[] Tables =
    [
        """
            create table if not exists ledger_schema (
                one boolean primary key default true check (one), version int not null, service text not null)
            """,
        """
            create table if not exists head (
                one boolean primary key default true check (one), size bigint not null, edge bytea not null,
                last_time bigint not null, streams bigint not null, events bigint not null)
            """,
        "insert into head (size, edge, last_time, streams, events) values (0, '', 0, 0, 0) on conflict do nothing",
        """
            create table if not exists entries (
                position bigint primary key, participant text not null, case_id text not null, audience text[] not null,
                trace_parent text not null, trace_state text not null, header bytea not null)
            """,
        "create index if not exists entries_of_case on entries (case_id, position) where case_id <> ''",
        """
            create table if not exists parts (
                position bigint not null, kind smallint not null, type text not null, salt bytea not null, data bytea,
                primary key (position, kind))
            """,
        """
            create table if not exists streams (
                number bigint primary key, kind text not null, key text not null, version bigint not null, fold int not null,
                state bytea not null, position bigint not null, due bigint, audience text[] not null, unique (kind, key))
            """,
        "create unique index if not exists streams_of_kind on streams (kind, number)",
        "create index if not exists streams_due on streams (due) where due is not null",
        """
            create table if not exists list_keys (
                kind text not null, token text not null, stream bigint not null, primary key (kind, token, stream))
            """,
        "create index if not exists list_keys_of_stream on list_keys (stream)",
        """
            create table if not exists changes (
                stream bigint not null, version bigint not null, position bigint not null, events text not null,
                primary key (stream, version))
            """,
        """
            create table if not exists requests (
                participant text not null, request_id text not null, digest bytea not null, position bigint not null,
                primary key (participant, request_id))
            """,
        """
            create table if not exists events (
                number bigint primary key, type text not null, sequence bigint not null, position bigint not null, index int not null,
                unique (type, sequence))
            """,
        """
            create table if not exists tiles (
                level smallint not null, index bigint not null, hashes bytea not null, root bytea not null,
                primary key (level, index))
            """,
        "alter table tiles alter column hashes set storage external",
        "create table if not exists cursors (name text primary key, value bigint not null)",
    ];

    // What the role that serves may do, where the tables are another's: nothing is changed but the head, states and cursors, and nothing
    // is deleted but the keys of lists.
    private static readonly string[] Grants =
    [
        "revoke all on schema {0} from public",
        "grant usage on schema {0} to {1}",
        "revoke all on all tables in schema {0} from public, {1}",
        "revoke all on function {0}.erase_request from public",
        "grant select on ledger_schema to {1}",
        "grant select, insert on entries, parts, changes, requests, events, tiles to {1}",
        "grant select, update on head to {1}",
        "grant select, insert, update on streams, cursors to {1}",
        "grant select, insert, delete on list_keys to {1}",
        "grant execute on function {0}.erase_request to {1}",
    ];

    // The one change to what was recorded: with the rights of the tables' owner, and of no use for anything else.
    private const string Erasure = """
        create or replace function {0}.erase_request(at_position bigint, of_participant text, of_request text) returns boolean
        language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
        declare
            erased boolean;
        begin
            update {0}.parts set data = null, salt = '' where position = at_position and kind = 1 and data is not null;
            erased := found;
            update {0}.requests set digest = ''
            where participant = of_participant and request_id = of_request and position = at_position;
            return erased;
        end $$
        """;

    private readonly NpgsqlDataSource _source;

    /// <summary>For the committer, whose thread waits for each answer: what is used in that way alone waits in the system, not for a
    /// thread of the pool behind all the calls that come.</summary>
    private readonly NpgsqlDataSource _own;
    private readonly NpgsqlDataSource _unpooled;

    public PostgresStore(LedgerOptions options)
    {
        var text = new NpgsqlConnectionStringBuilder(options.Connection);
        if (text.MaxPoolSize == 100)
            text.MaxPoolSize = 16;
        // No session is left in another state than it was found in: what leads has a connection of its own.
        text.NoResetOnClose = true;
        text.MaxAutoPrepare = 100;
        text.AutoPrepareMinUsages = 2;
        text.CommandTimeout = (int)options.StatementTimeout.TotalSeconds + 5;
        var timeout = (long)options.StatementTimeout.TotalMilliseconds;
        // Every statement finds its rows by key. Left to itself the planner, which knows nothing yet of a table that has just grown,
        // reads all of it for the few rows that a batch asks for. And it plans once: it thinks less of a plan for arrays whose length it
        // does not know, and would make another one, which is the same, for each execution.
        text.Options =
            $"{text.Options} -c enable_hashjoin=off -c enable_mergejoin=off -c enable_seqscan=off -c jit=off "
            + "-c plan_cache_mode=force_generic_plan "
            + $"-c synchronous_commit=on -c default_transaction_isolation=read\\ committed "
            + $"-c statement_timeout={timeout} -c idle_in_transaction_session_timeout={timeout} "
            + $"-c lock_timeout={(long)options.LockTimeout.TotalMilliseconds}";
        _source = new NpgsqlDataSourceBuilder(text.ConnectionString).ConfigureTracing(Traced).Build();
        _own = new NpgsqlDataSourceBuilder(text.ConnectionString).ConfigureTracing(Traced).Build();
        text.Pooling = false;
        text.KeepAlive = 10;
        _unpooled = new NpgsqlDataSourceBuilder(text.ConnectionString).ConfigureTracing(Traced).Build();
    }

    // A batch's trace has its statements, named by their first word; reading and looking for work would drown it.
    private static void Traced(NpgsqlTracingOptionsBuilder tracing) =>
        tracing
            .ConfigureCommandFilter(_ => InBatch)
            .ConfigureBatchFilter(_ => InBatch)
            .ConfigureCommandSpanNameProvider(command => $"postgresql {command.CommandText.TrimStart().Split(' ', '\n')[0]}")
            .ConfigureBatchSpanNameProvider(_ => "postgresql batch")
            .EnableFirstResponseEvent(false)
            .EnablePhysicalOpenTracing(false);

    private static bool InBatch => Activity.Current?.OperationName.StartsWith("batch ", StringComparison.Ordinal) == true;

    public override async Task Prepare(string service, CancellationToken cancel)
    {
        await using var connection = await _source.OpenConnectionAsync(cancel);
        // null: there are no tables; false: they are another role's, which makes them and brings them up to date.
        await using (
            var ask = new NpgsqlCommand(
                "select (select pg_has_role(relowner, 'usage') from pg_class where oid = to_regclass('ledger_schema')), "
                    + "has_schema_privilege(current_schema(), 'create')",
                connection
            )
        )
        await using (var answer = await ask.ExecuteReaderAsync(cancel))
        {
            await answer.ReadAsync(cancel);
            var there = !answer.IsDBNull(0);
            if (!there && (answer.IsDBNull(1) || !answer.GetBoolean(1)))
                throw new LedgerUnavailableException(
                    new InvalidOperationException(
                        "the database has no tables, and the role that serves must not make them: `ministry deployment tables` does"
                    )
                );
            OwnsTables = !there || answer.GetBoolean(0);
        }
        if (OwnsTables)
            await MakeTables(connection, service, null, cancel);
        await using var select = new NpgsqlCommand("select version, service from ledger_schema", connection);
        await using var reader = await select.ExecuteReaderAsync(cancel);
        await reader.ReadAsync(cancel);
        CheckSchema(service, reader.GetInt32(0), reader.GetString(1));
    }

    /// <summary>Makes the tables, or brings them up to date, and lets a role serve from them that does not own them.</summary>
    /// <param name="connection">A connection of their owner.</param>
    /// <param name="service">Whose ledger it is.</param>
    /// <param name="serving">The role that serves; null: the owner itself.</param>
    /// <param name="cancel">Ends it; nothing is done then.</param>
    internal static async Task MakeTables(NpgsqlConnection connection, string service, string? serving, CancellationToken cancel)
    {
        await using var transaction = await connection.BeginTransactionAsync(IsolationLevel.ReadCommitted, cancel);
        await Run("select pg_advisory_xact_lock(hashtextextended('ministries ledger schema', 0))");
        foreach (var sql in Tables)
            await Run(sql);
        await using (
            var name = new NpgsqlCommand("select quote_ident(current_schema()), quote_ident($1)", connection)
            {
                Parameters = { new() { Value = serving ?? "" } },
            }
        )
        {
            string schema,
                role;
            await using (var answer = await name.ExecuteReaderAsync(cancel))
            {
                await answer.ReadAsync(cancel);
                (schema, role) = (answer.GetString(0), answer.GetString(1));
            }
            await Run(Erasure.Replace("{0}", schema));
            if (serving is not null)
                foreach (var grant in Grants)
                    await Run(grant.Replace("{0}", schema).Replace("{1}", role));
        }
        await using (
            var insert = new NpgsqlCommand(
                "insert into ledger_schema (version, service) values ($1, $2) on conflict do nothing",
                connection
            )
            {
                Parameters =
                {
                    new() { Value = Schema },
                    new() { Value = service },
                },
            }
        )
            await insert.ExecuteNonQueryAsync(cancel);
        await transaction.CommitAsync(cancel);

        async Task Run(string sql)
        {
            await using var command = new NpgsqlCommand(sql, connection);
            await command.ExecuteNonQueryAsync(cancel);
        }
    }

    public override async Task<Session> Open(bool write, CancellationToken cancel) =>
        new PostgresSession(await _source.OpenConnectionAsync(cancel), waits: false);

    public override Task<Session> OpenWaiting() => Task.FromResult<Session>(new PostgresSession(_own.OpenConnection(), waits: true));

    public override async Task<Lead?> TryLead(string name, CancellationToken cancel)
    {
        var connection = _unpooled.CreateConnection();
        try
        {
            await connection.OpenAsync(cancel);
            await using var command = new NpgsqlCommand("select pg_try_advisory_lock(hashtextextended($1, 0))", connection)
            {
                Parameters = { new() { Value = $"ministries lead {name}" } },
            };
            if (await command.ExecuteScalarAsync(cancel) is true)
                return new Held(connection);
        }
        catch
        {
            await connection.DisposeAsync();
            throw;
        }
        await connection.DisposeAsync();
        return null;
    }

    public override bool IsOutage(Exception fault) =>
        fault switch
        {
            PostgresException e => e.IsTransient
                || e.Severity is "FATAL" or "PANIC"
                || e.SqlState is PostgresErrorCodes.LockNotAvailable or PostgresErrorCodes.QueryCanceled
                || e.SqlState[..2] is "08" or "25" or "53" or "57" or "58",
            NpgsqlException or TimeoutException or IOException or System.Net.Sockets.SocketException => true,
            _ => false,
        };

    // A statement's error ends its transaction; the end of the connection tells nothing.
    public override bool IsNotCommitted(Exception fault) => fault is PostgresException { Severity: "ERROR" };

    public override void Forget()
    {
        _source.Clear();
        _own.Clear();
    }

    public override async ValueTask DisposeAsync()
    {
        await _source.DisposeAsync();
        await _own.DisposeAsync();
        await _unpooled.DisposeAsync();
    }

    private sealed class Held(NpgsqlConnection connection) : Lead
    {
        private readonly SemaphoreSlim _one = new(1);

        public override async Task<bool> Holds(CancellationToken cancel)
        {
            await _one.WaitAsync(cancel);
            try
            {
                // The lock lasts as long as the connection's session: a session that answers has it.
                await using var command = new NpgsqlCommand("select 1", connection);
                await command.ExecuteScalarAsync(cancel);
                return true;
            }
            catch (Exception e) when (e is NpgsqlException or InvalidOperationException or IOException or TimeoutException)
            {
                return false;
            }
            finally
            {
                _one.Release();
            }
        }

        public override async ValueTask DisposeAsync()
        {
            try
            {
                // The server notices the end of a connection when it gets round to it; the next one need not wait for that.
                await using var command = new NpgsqlCommand("select pg_advisory_unlock_all()", connection);
                await command.ExecuteNonQueryAsync();
            }
            catch (Exception e) when (e is NpgsqlException or InvalidOperationException or IOException or TimeoutException)
            {
                // The session has ended, and the lock with it.
            }
            await connection.DisposeAsync();
        }
    }
}

/// <param name="connection">The connection.</param>
/// <param name="waits">Whether the caller's thread waits for each answer, as the committer's does, who alone locks the head.</param>
internal sealed class PostgresSession(NpgsqlConnection connection, bool waits) : Session
{
    private const string StreamColumns =
        "s.number, s.kind, s.key, s.version, s.fold, s.state, s.position, s.due, array_to_string(s.audience, E'\\n'), "
        + "(select e.trace_parent from entries e where e.position = s.position)";

    private const string EventSources = """
        n.header, p.data, n.trace_parent, n.trace_state from e
        join entries n on n.position = e.position join parts p on p.position = e.position and p.kind = 2 order by e.number
        """;

    private NpgsqlTransaction? _transaction;

    public override Task<Head> LockHead()
    {
        _transaction = connection.BeginTransaction(IsolationLevel.ReadCommitted);
        return ReadHead("select size, edge, last_time, streams, events from head for update");
    }

    public override Task<Head> ReadHead() => ReadHead("select size, edge, last_time, streams, events from head");

    private async Task<Head> ReadHead(string sql) =>
        (await Read(r => new Head(U(r, 0), r.GetFieldValue<byte[]>(1), r.GetInt64(2), U(r, 3), U(r, 4)), sql))[0];

    public override Task Write(Rows rows, Head head)
    {
        using var batch = new NpgsqlBatch(connection, _transaction);
        Add(
            "update head set size = $1, edge = $2, last_time = $3, streams = $4, events = $5",
            (long)head.Size,
            head.Edge,
            head.Time,
            (long)head.Streams,
            (long)head.Events
        );
        if (rows.Entries is { Count: > 0 } entries)
            Add(
                """
                insert into entries select position, participant, case_id, string_to_array(audience, E'\n'), parent,
                state, header from unnest(
                $1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bytea[])
                as u(position, participant, case_id, audience, parent, state, header)
                """,
                L(entries, e => e.Position),
                A(entries, e => e.Participant),
                A(entries, e => e.Case),
                A(entries, e => Joined(e.Audience)),
                A(entries, e => e.TraceParent),
                A(entries, e => e.TraceState),
                A(entries, e => e.Header)
            );
        if (rows.Parts is { Count: > 0 } parts)
            Add(
                "insert into parts select * from unnest($1::bigint[], $2::smallint[], $3::text[], $4::bytea[], $5::bytea[])",
                L(parts, p => p.Position),
                A(parts, p => (short)p.Kind),
                A(parts, p => p.Type),
                A(parts, p => p.Salt),
                A(parts, p => p.Data!)
            );
        var made = rows.Streams.Where(s => s.New).ToList();
        if (made.Count > 0)
            Add(
                """
                insert into streams
                select number, kind, key, version, fold, state, position, due, string_to_array(audience, E'\n') from unnest(
                $1::bigint[], $2::text[], $3::text[], $4::bigint[], $5::int[], $6::bytea[], $7::bigint[], $8::bigint[],
                $9::text[])
                as u(number, kind, key, version, fold, state, position, due, audience)
                """,
                L(made, s => s.Number),
                A(made, s => s.Id.Kind),
                A(made, s => s.Id.Key),
                L(made, s => s.Version),
                A(made, s => s.Fold),
                A(made, s => s.State),
                L(made, s => s.Position),
                A(made, s => s.Due),
                A(made, s => Joined(s.Audience))
            );
        var changed = rows.Streams.Where(s => !s.New).ToList();
        if (changed.Count > 0)
            Add(
                """
                update streams s set version = u.version, fold = u.fold, state = u.state, position = u.position, due = u.due,
                audience = string_to_array(u.audience, E'\n')
                from unnest($1::bigint[], $2::bigint[], $3::int[], $4::bytea[], $5::bigint[], $6::bigint[], $7::text[])
                as u(number, version, fold, state, position, due, audience) where s.number = u.number
                """,
                L(changed, s => s.Number),
                L(changed, s => s.Version),
                A(changed, s => s.Fold),
                A(changed, s => s.State),
                L(changed, s => s.Position),
                A(changed, s => s.Due),
                A(changed, s => Joined(s.Audience))
            );
        if (rows.Changes is { Count: > 0 } changes)
            Add(
                "insert into changes select * from unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::text[])",
                L(changes, c => c.Stream),
                L(changes, c => c.Version),
                L(changes, c => c.Position),
                A(changes, c => c.Events)
            );
        if (rows.Unlisted is { Count: > 0 } unlisted)
            Add("delete from list_keys where stream = any($1)", L(unlisted, u => u));
        if (rows.Keys is { Count: > 0 } keys)
            Add(
                "insert into list_keys select * from unnest($1::text[], $2::text[], $3::bigint[])",
                A(keys, k => k.Kind),
                A(keys, k => k.Token),
                L(keys, k => k.Stream)
            );
        if (rows.Requests is { Count: > 0 } requests)
            Add(
                "insert into requests select * from unnest($1::text[], $2::text[], $3::bytea[], $4::bigint[])",
                A(requests, r => r.Participant),
                A(requests, r => r.RequestId),
                A(requests, r => r.Digest),
                L(requests, r => r.Position)
            );
        if (rows.Events is { Count: > 0 } events)
            Add(
                "insert into events select * from unnest($1::bigint[], $2::text[], $3::bigint[], $4::bigint[], $5::int[])",
                L(events, e => e.Number),
                A(events, e => e.Type),
                L(events, e => e.Sequence),
                L(events, e => e.Position),
                A(events, e => e.Index)
            );
        if (rows.Tiles is { Count: > 0 } tiles)
            Add(
                "insert into tiles select * from unnest($1::smallint[], $2::bigint[], $3::bytea[], $4::bytea[])",
                A(tiles, t => (short)t.Level),
                L(tiles, t => t.Index),
                A(tiles, t => t.Hashes),
                A(tiles, t => t.Root)
            );
        if (rows.Cursors is { Count: > 0 } cursors)
            Add(
                """
                insert into cursors select * from unnest($1::text[], $2::bigint[])
                on conflict (name) do update set value = excluded.value
                """,
                cursors.Keys.ToArray(),
                cursors.Values.Select(v => (long)v).ToArray()
            );
        batch.ExecuteNonQuery();
        return Task.CompletedTask;

        void Add(string sql, params object[] values)
        {
            var command = new NpgsqlBatchCommand(sql);
            foreach (var value in values)
                command.Parameters.Add(new NpgsqlParameter { Value = value });
            batch.BatchCommands.Add(command);
        }
    }

    public override Task Commit()
    {
        _transaction!.Commit();
        return Task.CompletedTask;
    }

    public override async Task<Dictionary<(string Participant, string RequestId), FoundRequest>> FindRequests(
        IReadOnlyCollection<(string Participant, string RequestId)> ids
    ) => (
            await Read(
                r =>
                    (
                        Id: (r.GetString(0), r.GetString(1)),
                        Found: new FoundRequest(r.GetFieldValue<byte[]>(2), U(r, 3), r.GetFieldValue<byte[]>(4), r.GetFieldValue<byte[]>(5))
                    ),
                """
                select q.participant, q.request_id, q.digest, q.position, e.header, p.data
                from unnest($1::text[], $2::text[]) as u(participant, request_id) join requests q using (participant, request_id)
                join entries e on e.position = q.position join parts p on p.position = q.position and p.kind = 5
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
                r.GetFieldValue<byte[]>(3),
                r.GetString(4),
                r.IsDBNull(5) ? null : r.GetFieldValue<byte[]>(5)
            ),
            """
            select c.position, e.header, c.events, v.data, q.type, q.data from changes c join entries e on e.position = c.position
            join parts v on v.position = c.position and v.kind = 2 join parts q on q.position = c.position and q.kind = 1
            where c.stream = $1 order by c.version
            """,
            (long)stream
        );

    public override Task<Dictionary<string, ulong>> LastOfTypes(IReadOnlyCollection<string> types) =>
        Numbers(
            """
            select u.type, (select e.sequence from events e where e.type = u.type order by e.sequence desc limit 1)
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

    public override Task<List<EntryRow>> Entries(ulong from, ulong to, string? @case, IReadOnlyCollection<string>? tokens, int limit)
    {
        List<object> values = [(long)from, (long)to, limit];
        var sql =
            "select position, participant, case_id, trace_parent, trace_state, header, audience, "
            + "(select coalesce(sum(octet_length(p.data)), 0) from parts p where p.position = e.position) from entries e "
            + "where position >= $1 and position < $2";
        if (@case is not null)
        {
            values.Add(@case);
            sql += $" and case_id = ${values.Count} and case_id <> ''";
        }
        if (tokens is not null)
        {
            values.Add(tokens.ToArray());
            sql += $" and audience && ${values.Count}";
        }
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
                    r.GetInt64(7)
                ),
            sql + " order by position limit $3",
            [.. values]
        );
    }

    public override Task<List<PartRow>> Parts(IReadOnlyCollection<ulong> positions) =>
        Read(
            r => new PartRow(
                U(r, 0),
                (PartKind)r.GetInt16(1),
                r.GetString(2),
                r.GetFieldValue<byte[]>(3),
                r.IsDBNull(4) ? null : r.GetFieldValue<byte[]>(4)
            ),
            "select position, kind, type, salt, data from parts where position = any($1) order by position, kind",
            L(positions, p => p)
        );

    public override Task<List<StreamRow>> List(
        string kind,
        IReadOnlyList<string> keys,
        IReadOnlyCollection<string>? tokens,
        ulong after,
        int limit
    )
    {
        List<object> values = [kind, (long)after, limit];
        var sql = $"select {StreamColumns} from {Listed(kind, keys, values)} and s.number > $2";
        if (tokens is not null)
        {
            values.Add(tokens.ToArray());
            sql += $" and s.audience && ${values.Count}";
        }
        return Read(StreamOf, sql + " order by s.number limit $3", [.. values]);
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

    public override Task<List<(StreamId Id, long Due)>> Due(long now, int limit) =>
        Read(
            r => (new StreamId(r.GetString(0), r.GetString(1)), r.GetInt64(2)),
            "select kind, key, due from streams where due <= $1 order by due, number limit $2",
            now,
            limit
        );

    public override async Task<ulong> CountDue(long now) =>
        (await Read(r => U(r, 0), "select count(*) from streams where due <= $1", now))[0];

    public override Task<List<EventSource>> EventsAfter(ulong number, int limit) =>
        Read(
            EventOf,
            $"""
            with e as materialized (select number, sequence, position, index from events where number > $1 order by number limit $2)
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
                    select g.number, g.sequence, g.position, g.index from events g where g.type = u.type and g.sequence > u.after
                    order by g.sequence limit $3) f
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

    public override async Task<bool> EraseRequest(ulong position)
    {
        if (await Headers(position, position + 1) is not [var header])
            return false;
        var entry = EntryHeader.Parser.ParseFrom(header);
        return (await Read(r => r.GetBoolean(0), "select erase_request($1, $2, $3)", (long)position, entry.Participant, entry.RequestId))[
            0
        ];
    }

    public override async ValueTask DisposeAsync()
    {
        try
        {
            _transaction?.Dispose();
        }
        catch (Exception e) when (e is NpgsqlException or IOException or ObjectDisposedException or InvalidOperationException)
        {
            // The connection is gone, and its transaction with it.
        }
        if (waits)
            connection.Dispose();
        else
            await connection.DisposeAsync();
    }

    private async Task<List<T>> Read<T>(Func<NpgsqlDataReader, T> row, string sql, params object[] values)
    {
        var rows = new List<T>();
        if (waits)
        {
            using var asked = Command(sql, values);
            using var answer = asked.ExecuteReader();
            while (answer.Read())
                rows.Add(row(answer));
            return rows;
        }
        await using var command = Command(sql, values);
        await using var reader = await command.ExecuteReaderAsync();
        while (await reader.ReadAsync())
            rows.Add(row(reader));
        return rows;
    }

    private async Task<int> Run(string sql, params object[] values)
    {
        await using var command = Command(sql, values);
        return await command.ExecuteNonQueryAsync();
    }

    private NpgsqlCommand Command(string sql, object[] values)
    {
        var command = new NpgsqlCommand(sql, connection);
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
            r.GetString(8).Split('\n', StringSplitOptions.RemoveEmptyEntries),
            false,
            r.GetString(9)
        );

    private static EventSource EventOf(NpgsqlDataReader r) =>
        new(
            U(r, 0),
            U(r, 1),
            U(r, 2),
            r.GetInt32(3),
            r.GetFieldValue<byte[]>(4),
            r.GetFieldValue<byte[]>(5),
            r.GetString(6),
            r.GetString(7)
        );

    private static ulong U(NpgsqlDataReader reader, int column) => (ulong)reader.GetInt64(column);

    private static string Joined(IReadOnlyCollection<string> tokens) => string.Join('\n', tokens);

    private static long[] L<T>(IReadOnlyCollection<T> rows, Func<T, ulong> column) => [.. rows.Select(r => (long)column(r))];

    private static TColumn[] A<T, TColumn>(IReadOnlyCollection<T> rows, Func<T, TColumn> column) => [.. rows.Select(column)];
}
