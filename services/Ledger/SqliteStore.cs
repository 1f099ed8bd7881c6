using System.Text.Json;
using Microsoft.Data.Sqlite;
using Ministries.Ledger.V1;

namespace Ministries.Ledger;

/// <summary>A ledger in one SQLite file, for one process: write-ahead log, each commit on the disk before it is told.</summary>
internal sealed class SqliteStore : Store
{
    private const string Tables = """
        create table if not exists ledger_schema (
            one integer primary key check (one = 1), version integer not null, service text not null);
        create table if not exists head (
            one integer primary key check (one = 1), size integer not null, edge blob not null, last_time integer not null,
            streams integer not null, events integer not null);
        insert or ignore into head values (1, 0, x'', 0, 0, 0);
        create table if not exists entries (
            position integer primary key, participant text not null, case_id text not null, audience text not null,
            trace_parent text not null, trace_state text not null, header blob not null);
        create index if not exists entries_of_case on entries (case_id, position) where case_id <> '';
        create table if not exists parts (
            position integer not null, kind integer not null, type text not null, salt blob not null, data blob,
            primary key (position, kind)) without rowid;
        create table if not exists streams (
            number integer primary key, kind text not null, key text not null, version integer not null, fold integer not null,
            state blob not null, position integer not null, due integer, audience text not null, unique (kind, key));
        create unique index if not exists streams_of_kind on streams (kind, number);
        create index if not exists streams_due on streams (due) where due is not null;
        create table if not exists list_keys (
            kind text not null, token text not null, stream integer not null, primary key (kind, token, stream)) without rowid;
        create index if not exists list_keys_of_stream on list_keys (stream);
        create table if not exists changes (
            stream integer not null, version integer not null, position integer not null, events text not null,
            primary key (stream, version)) without rowid;
        create table if not exists requests (
            participant text not null, request_id text not null, digest blob not null, position integer not null,
            primary key (participant, request_id)) without rowid;
        create table if not exists events (
            number integer primary key, type text not null, sequence integer not null, position integer not null,
            idx integer not null, unique (type, sequence));
        create table if not exists tiles (
            level integer not null, idx integer not null, hashes blob not null, root blob not null, primary key (level, idx));
        create table if not exists cursors (name text primary key, value integer not null) without rowid;
        """;

    private static readonly Lock Leads = new();
    private static readonly HashSet<string> Led = [];

    private readonly string _path;
    private readonly string _connection;

    public SqliteStore(string path, LedgerOptions options)
    {
        _path = Path.GetFullPath(path);
        PrivateFiles.MakeFolder(Path.GetDirectoryName(_path)!);
        // SQLite gives what it makes beside it (-wal, -shm, -journal) the same mode. A file that is there is not opened: closing it would
        // end the locks that SQLite has on it in this process.
        try
        {
            if (!File.Exists(_path))
                PrivateFiles.Open(_path, FileMode.CreateNew).Dispose();
        }
        catch (IOException) when (File.Exists(_path)) { }
        _connection = new SqliteConnectionStringBuilder
        {
            DataSource = _path,
            DefaultTimeout = (int)Math.Ceiling(options.LockTimeout.TotalSeconds),
            Pooling = true,
        }.ToString();
    }

    public override async Task Prepare(string service, CancellationToken cancel)
    {
        await using var session = (SqliteSession)await Open(write: true, cancel);
        if (session.Scalar("pragma journal_mode = wal") is not "wal")
            throw new LedgerInconsistentException($"{_path} cannot keep a write-ahead log: put it on a local file system.");
        await using (var second = (SqliteSession)await Open(write: true, cancel))
            if (second.Scalar("pragma journal_mode") is not "wal" || second.Scalar("pragma synchronous") is not 2L)
                throw new LedgerInconsistentException(
                    $"{_path} would not be written to the disk at each commit (synchronous is not FULL)."
                );
        session.Begin();
        session.Run(Tables);
        session.Run("insert or ignore into ledger_schema values (1, @0, @1)", Schema, service);
        CheckSchema(
            service,
            (int)(long)session.Scalar("select version from ledger_schema")!,
            (string)session.Scalar("select service from ledger_schema")!
        );
        await session.Commit();
    }

    public override Task<Session> Open(bool write, CancellationToken cancel)
    {
        cancel.ThrowIfCancellationRequested();
        var connection = new SqliteConnection(_connection);
        try
        {
            connection.Open();
            var session = new SqliteSession(connection);
            if (write)
                session.Run("pragma synchronous = full");
            return Task.FromResult<Session>(session);
        }
        catch
        {
            connection.Dispose();
            throw;
        }
    }

    public override Task<Lead?> TryLead(string name, CancellationToken cancel)
    {
        var led = $"{_path}\n{name}";
        lock (Leads)
            return Task.FromResult<Lead?>(Led.Add(led) ? new Held(led) : null);
    }

    public override bool IsOutage(Exception fault) =>
        fault is SqliteException { SqliteErrorCode: 5 or 6 or 8 or 10 or 13 or 14 } or IOException or UnauthorizedAccessException;

    // Busy and full are said before anything is written to the log's end.
    public override bool IsNotCommitted(Exception fault) => fault is SqliteException { SqliteErrorCode: 5 or 13 or 19 };

    public override void Forget()
    {
        using var connection = new SqliteConnection(_connection);
        SqliteConnection.ClearPool(connection);
    }

    public override ValueTask DisposeAsync()
    {
        Forget();
        return ValueTask.CompletedTask;
    }

    private sealed class Held(string led) : Lead
    {
        private bool _given;

        public override Task<bool> Holds(CancellationToken cancel) => Task.FromResult(!_given);

        public override ValueTask DisposeAsync()
        {
            lock (Leads)
                if (!_given)
                    Led.Remove(led);
            _given = true;
            return ValueTask.CompletedTask;
        }
    }
}

internal sealed class SqliteSession(SqliteConnection connection) : Session
{
    private const string StreamColumns =
        "s.number, s.kind, s.key, s.version, s.fold, s.state, s.position, s.due, s.audience, "
        + "(select e.trace_parent from entries e where e.position = s.position)";

    private const string EventSources =
        "n.header, p.data, n.trace_parent, n.trace_state from e join entries n on n.position = e.position "
        + "join parts p on p.position = e.position and p.kind = 2 order by e.number";

    private SqliteTransaction? _transaction;

    public void Begin() => _transaction = connection.BeginTransaction(deferred: false);

    public override Task<Head> LockHead()
    {
        Begin();
        return ReadHead();
    }

    public override async Task<Head> ReadHead() =>
        (
            await Read(
                r => new Head(U(r, 0), B(r, 1), r.GetInt64(2), U(r, 3), U(r, 4)),
                "select size, edge, last_time, streams, events from head"
            )
        )[0];

    public override Task Write(Rows rows, Head head)
    {
        Run(
            "update head set size = @0, edge = @1, last_time = @2, streams = @3, events = @4",
            head.Size,
            head.Edge,
            head.Time,
            head.Streams,
            head.Events
        );
        Each(
            "insert into entries values (@0, @1, @2, @3, @4, @5, @6)",
            rows.Entries,
            e => [e.Position, e.Participant, e.Case, Json(e.Audience), e.TraceParent, e.TraceState, e.Header]
        );
        Each("insert into parts values (@0, @1, @2, @3, @4)", rows.Parts, p => [p.Position, (int)p.Kind, p.Type, p.Salt, p.Data]);
        Each(
            "insert into streams values (@0, @1, @2, @3, @4, @5, @6, @7, @8)",
            rows.Streams.Where(s => s.New),
            s => [s.Number, s.Id.Kind, s.Id.Key, s.Version, s.Fold, s.State, s.Position, s.Due, Json(s.Audience)]
        );
        Each(
            "update streams set version = @1, fold = @2, state = @3, position = @4, due = @5, audience = @6 where number = @0",
            rows.Streams.Where(s => !s.New),
            s => [s.Number, s.Version, s.Fold, s.State, s.Position, s.Due, Json(s.Audience)]
        );
        Each("insert into changes values (@0, @1, @2, @3)", rows.Changes, c => [c.Stream, c.Version, c.Position, c.Events]);
        Each("delete from list_keys where stream = @0", rows.Unlisted, u => [u]);
        Each("insert into list_keys values (@0, @1, @2)", rows.Keys, k => [k.Kind, k.Token, k.Stream]);
        Each("insert into requests values (@0, @1, @2, @3)", rows.Requests, r => [r.Participant, r.RequestId, r.Digest, r.Position]);
        Each("insert into events values (@0, @1, @2, @3, @4)", rows.Events, e => [e.Number, e.Type, e.Sequence, e.Position, e.Index]);
        Each("insert into tiles values (@0, @1, @2, @3)", rows.Tiles, t => [t.Level, t.Index, t.Hashes, t.Root]);
        Each(
            "insert into cursors values (@0, @1) on conflict (name) do update set value = excluded.value",
            rows.Cursors,
            c => [c.Key, c.Value]
        );
        return Task.CompletedTask;
    }

    public override Task Commit()
    {
        _transaction!.Commit();
        _transaction.Dispose();
        _transaction = null;
        return Task.CompletedTask;
    }

    public override async Task<Dictionary<(string Participant, string RequestId), FoundRequest>> FindRequests(
        IReadOnlyCollection<(string Participant, string RequestId)> ids
    )
    {
        var found = new Dictionary<(string, string), FoundRequest>();
        foreach (var id in ids)
        foreach (
            var row in await Read(
                r => new FoundRequest(B(r, 0), U(r, 1), B(r, 2), B(r, 3)),
                """
                select q.digest, q.position, e.header, p.data from requests q join entries e on e.position = q.position
                join parts p on p.position = q.position and p.kind = 5 where q.participant = @0 and q.request_id = @1
                """,
                id.Participant,
                id.RequestId
            )
        )
            found[id] = row;
        return found;
    }

    public override async Task<List<StreamRow>> FindStreams(IReadOnlyCollection<StreamId> ids)
    {
        var found = new List<StreamRow>();
        foreach (var id in ids)
            found.AddRange(
                await Read(StreamOf, $"select {StreamColumns} from streams s where s.kind = @0 and s.key = @1", id.Kind, id.Key)
            );
        return found;
    }

    public override async Task<List<StreamRow>> FindStates(IReadOnlyCollection<StreamId> ids)
    {
        // Its statements all see what the first of them saw.
        using (_transaction = connection.BeginTransaction(deferred: true))
        {
            var found = await FindStreams(ids);
            await Commit();
            return found;
        }
    }

    public override Task<List<HistoryRow>> History(ulong stream) =>
        Read(
            r => new HistoryRow(U(r, 0), B(r, 1), r.GetString(2), B(r, 3), r.GetString(4), r.IsDBNull(5) ? null : B(r, 5)),
            """
            select c.position, e.header, c.events, v.data, q.type, q.data from changes c join entries e on e.position = c.position
            join parts v on v.position = c.position and v.kind = 2 join parts q on q.position = c.position and q.kind = 1
            where c.stream = @0 order by c.version
            """,
            stream
        );

    public override Task<Dictionary<string, ulong>> LastOfTypes(IReadOnlyCollection<string> types) =>
        Numbers("select max(sequence) from events where type = @0", types);

    public override Task<Dictionary<string, ulong>> Cursors(IReadOnlyCollection<string> names) =>
        Numbers("select value from cursors where name = @0", names);

    public override Task<List<byte[]>> Headers(ulong from, ulong to) =>
        Read(r => B(r, 0), "select header from entries where position >= @0 and position < @1 order by position", from, to);

    public override async Task<byte[]?> ReadTile(int level, ulong index) =>
        (await Read(r => B(r, 0), "select hashes from tiles where level = @0 and idx = @1", level, index)).FirstOrDefault();

    public override Task<List<byte[]>> TileRoots(int level, ulong from, ulong to) =>
        Read(r => B(r, 0), "select root from tiles where level = @0 and idx >= @1 and idx < @2 order by idx", level, from, to);

    public override Task<List<EntryRow>> Entries(ulong from, ulong to, string? @case, IReadOnlyCollection<string>? tokens, int limit)
    {
        List<object?> values = [from, to, limit];
        var sql =
            "select position, participant, case_id, trace_parent, trace_state, header, audience, "
            + "(select coalesce(sum(length(p.data)), 0) from parts p where p.position = s.position) from entries s "
            + "where position >= @0 and position < @1";
        if (@case is not null)
        {
            sql += $" and case_id = @{values.Count} and case_id <> ''";
            values.Add(@case);
        }
        if (tokens is not null)
            sql += Visible(tokens, values);
        return Read(
            r =>
                EntryOf(
                    r.GetInt64(0),
                    r.GetString(1),
                    r.GetString(2),
                    r.GetString(3),
                    r.GetString(4),
                    B(r, 5),
                    JsonSerializer.Deserialize<string[]>(r.GetString(6))!,
                    r.GetInt64(7)
                ),
            sql + " order by position limit @2",
            [.. values]
        );
    }

    public override async Task<List<PartRow>> Parts(IReadOnlyCollection<ulong> positions)
    {
        var parts = new List<PartRow>();
        foreach (var position in positions)
            parts.AddRange(
                await Read(
                    r => new PartRow(position, (PartKind)r.GetInt32(0), r.GetString(1), B(r, 2), r.IsDBNull(3) ? null : B(r, 3)),
                    "select kind, type, salt, data from parts where position = @0 order by kind",
                    position
                )
            );
        return parts;
    }

    public override Task<List<StreamRow>> List(
        string kind,
        IReadOnlyList<string> keys,
        IReadOnlyCollection<string>? tokens,
        ulong after,
        int limit
    )
    {
        List<object?> values = [kind, after, limit];
        var sql = $"select {StreamColumns} from {Listed(keys, values)} and s.number > @1";
        if (tokens is not null)
            sql += Visible(tokens, values);
        return Read(StreamOf, sql + " order by s.number limit @2", [.. values]);
    }

    public override async Task<ulong> Count(string kind, IReadOnlyList<string> keys)
    {
        List<object?> values = [kind];
        return (await Read(r => U(r, 0), $"select count(*) from {Listed(keys, values)}", [.. values]))[0];
    }

    private static string Listed(IReadOnlyList<string> keys, List<object?> values)
    {
        var sql = "streams s where s.kind = @0";
        foreach (var key in keys)
        {
            sql += " and exists (select 1 from list_keys k " + $"where k.kind = @0 and k.token = @{values.Count} and k.stream = s.number)";
            values.Add(key);
        }
        return sql;
    }

    private static string Visible(IReadOnlyCollection<string> tokens, List<object?> values)
    {
        values.Add(Json(tokens));
        return $" and exists (select 1 from json_each(s.audience) a join json_each(@{values.Count - 1}) t on a.value = t.value)";
    }

    public override Task<List<(StreamId Id, long Due)>> Due(long now, int limit) =>
        Read(
            r => (new StreamId(r.GetString(0), r.GetString(1)), r.GetInt64(2)),
            "select kind, key, due from streams where due <= @0 order by due, number limit @1",
            now,
            limit
        );

    public override async Task<ulong> CountDue(long now) =>
        (await Read(r => U(r, 0), "select count(*) from streams where due <= @0", now))[0];

    public override Task<List<EventSource>> EventsAfter(ulong number, int limit) =>
        Read(
            EventOf,
            "with e as (select number, sequence, position, idx from events where number > @0 order by number limit @1) "
                + $"select e.number, e.sequence, e.position, e.idx, {EventSources}",
            number,
            limit
        );

    public override Task<List<EventSource>> EventsAfter(IReadOnlyDictionary<string, ulong> after, int limit)
    {
        List<object?> values = [limit];
        var each = new List<string>();
        foreach (var (type, sequence) in after)
        {
            each.Add(
                "select * from (select number, sequence, position, idx from events "
                    + $"where type = @{values.Count} and sequence > @{values.Count + 1} order by sequence limit @0)"
            );
            values.AddRange([type, sequence]);
        }
        return after.Count == 0
            ? Task.FromResult(new List<EventSource>())
            : Read(
                EventOf,
                $"with e as (select * from ({string.Join(" union all ", each)}) order by number limit @0) "
                    + $"select e.number, e.sequence, e.position, e.idx, {EventSources}",
                [.. values]
            );
    }

    public override Task MoveCursor(string name, ulong value)
    {
        Run("insert into cursors values (@0, @1) on conflict (name) do update set value = max(value, excluded.value)", name, value);
        return Task.CompletedTask;
    }

    public override async Task<bool> EraseRequest(ulong position)
    {
        if (await Headers(position, position + 1) is not [var header])
            return false;
        var entry = EntryHeader.Parser.ParseFrom(header);
        Begin();
        var erased = Run("update parts set data = null, salt = x'' where position = @0 and kind = 1 and data is not null", position);
        Run(
            "update requests set digest = x'' where participant = @0 and request_id = @1 and position = @2",
            entry.Participant,
            entry.RequestId,
            position
        );
        await Commit();
        return erased > 0;
    }

    public override ValueTask DisposeAsync()
    {
        _transaction?.Dispose();
        return connection.DisposeAsync();
    }

    public int Run(string sql, params object?[] values)
    {
        using var command = Command(sql, values);
        return command.ExecuteNonQuery();
    }

    public object? Scalar(string sql)
    {
        using var command = Command(sql, []);
        return command.ExecuteScalar();
    }

    private void Each<T>(string sql, IEnumerable<T> rows, Func<T, object?[]> columns)
    {
        using var command = Command(sql, []);
        foreach (var row in rows)
        {
            command.Parameters.Clear();
            Bind(command, columns(row));
            command.ExecuteNonQuery();
        }
    }

    private Task<List<T>> Read<T>(Func<SqliteDataReader, T> row, string sql, params object?[] values)
    {
        using var command = Command(sql, values);
        using var reader = command.ExecuteReader();
        var rows = new List<T>();
        while (reader.Read())
            rows.Add(row(reader));
        return Task.FromResult(rows);
    }

    private async Task<Dictionary<string, ulong>> Numbers(string sql, IReadOnlyCollection<string> names)
    {
        var numbers = new Dictionary<string, ulong>();
        foreach (var name in names.Distinct())
            numbers[name] = (await Read(r => r.IsDBNull(0) ? 0 : U(r, 0), sql, name)).FirstOrDefault();
        return numbers;
    }

    private SqliteCommand Command(string sql, object?[] values)
    {
        var command = new SqliteCommand(sql, connection, _transaction);
        Bind(command, values);
        return command;
    }

    private static void Bind(SqliteCommand command, object?[] values)
    {
        for (var i = 0; i < values.Length; i++)
            command.Parameters.AddWithValue(
                $"@{i}",
                values[i] switch
                {
                    null => DBNull.Value,
                    ulong u => (long)u,
                    var other => other,
                }
            );
    }

    private static StreamRow StreamOf(SqliteDataReader r) =>
        new(
            U(r, 0),
            new StreamId(r.GetString(1), r.GetString(2)),
            U(r, 3),
            r.GetInt32(4),
            B(r, 5),
            U(r, 6),
            r.IsDBNull(7) ? null : r.GetInt64(7),
            JsonSerializer.Deserialize<string[]>(r.GetString(8))!,
            false,
            r.GetString(9)
        );

    private static EventSource EventOf(SqliteDataReader r) =>
        new(U(r, 0), U(r, 1), U(r, 2), r.GetInt32(3), B(r, 4), B(r, 5), r.GetString(6), r.GetString(7));

    private static ulong U(SqliteDataReader reader, int column) => (ulong)reader.GetInt64(column);

    private static byte[] B(SqliteDataReader reader, int column) => reader.GetFieldValue<byte[]>(column);

    private static string Json(IReadOnlyCollection<string> tokens) => JsonSerializer.Serialize(tokens);
}
