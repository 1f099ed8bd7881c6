using System.Globalization;
using System.Text.Json;
using Microsoft.Data.Sqlite;
using Ministries.Ledger.V1;

namespace Ministries.Ledger;

internal sealed class SqliteSession(SqliteConnection connection) : Session
{
    private const string StreamColumns =
        "s.number, s.kind, s.key, s.version, s.fold, s.state, s.position, s.due, s.audience, s.keys, "
        + "(select e.trace_parent from entries e where e.position = s.position)";

    private const string EventSources =
        "n.header, n.parts, n.trace_parent, n.trace_state from e join entries n on n.position = e.position order by e.number";

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

    // The statements of a commit, applied to no row: SQLite refuses them if a table is missing.
    private static readonly string WritesNoRow = string.Concat(
        ((string[])["entries", "further_events", "streams", "changes", "list_keys", "tiles", "cursors"]).Select(table =>
            $"insert into {table} select * from {table} where false;"
        )
    );

    public override async Task<Pulse> Pulse(bool failing)
    {
        Begin();
        Run(WritesNoRow);
        if (failing)
            Run("update head set size = size");
        await Commit();
        return new Pulse(await ReadHead(), null, true, 0);
    }

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
        WriteEntries(rows.Entries);
        WriteStreams(rows);
        Each("insert into tiles values (@0, @1, @2, @3)", rows.Tiles, t => [t.Level, t.Index, t.Hashes, t.Root]);
        Each(
            "insert into cursors values (@0, @1) on conflict (name) do update set value = excluded.value",
            rows.Cursors,
            c => [c.Key, c.Value]
        );
        return Task.CompletedTask;
    }

    /// <summary>Writes entries alone, as a migration does.</summary>
    public void WriteEntries(IReadOnlyList<NewEntry> entries)
    {
        Each(
            """
            insert into entries (position, participant, request_id, digest, case_id, audience, trace_parent, trace_state, header,
                request_type, request, parts, event_number, event_type, event_sequence, event_index)
            values (@0, @1, @2, @3, @4, @5, @6, @7, @8, @9, @10, @11, @12, @13, @14, @15)
            """,
            entries,
            e =>
                [
                    e.Row.Position,
                    e.Row.Participant,
                    e.RequestId,
                    e.Digest,
                    e.Row.Case,
                    Json(e.Row.Audience),
                    e.Row.TraceParent,
                    e.Row.TraceState,
                    e.Row.Header,
                    e.RequestType,
                    e.EncodedRequest,
                    e.EncodedParts,
                    e.FirstEvent?.Number,
                    e.FirstEvent?.Type,
                    e.FirstEvent?.Sequence,
                    e.FirstEvent?.Index,
                ]
        );
        Each(
            "insert into further_events values (@0, @1, @2, @3, @4)",
            entries.SelectMany(e => e.Events.Skip(1)),
            e => [e.Number, e.Type, e.Sequence, e.Position, e.Index]
        );
    }

    private void WriteStreams(Rows rows)
    {
        Each(
            "insert into streams values (@0, @1, @2, @3, @4, @5, @6, @7, @8, @9)",
            rows.Streams.Where(s => s.New),
            s => [s.Number, s.Id.Kind, s.Id.Key, s.Version, s.Fold, s.State, s.Position, s.Due, Json(s.Audience), Json(s.Keys)]
        );
        Each(
            "update streams set version = @1, fold = @2, state = @3, position = @4, due = @5, audience = @6, keys = @7 where number = @0",
            rows.Streams.Where(s => !s.New),
            s => [s.Number, s.Version, s.Fold, s.State, s.Position, s.Due, Json(s.Audience), Json(s.Keys)]
        );
        Each("insert into changes values (@0, @1, @2, @3)", rows.Changes, c => [c.Stream, c.Version, c.Position, c.Events]);
        Each("delete from list_keys where kind = @0 and token = @1 and stream = @2", rows.RemovedKeys, k => [k.Kind, k.Token, k.Stream]);
        Each("insert into list_keys values (@0, @1, @2)", rows.Keys, k => [k.Kind, k.Token, k.Stream]);
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
                r => new FoundRequest(B(r, 0), U(r, 1), B(r, 2), PartColumns.Find(U(r, 1), B(r, 3), PartKind.Answer)),
                "select digest, position, header, parts from entries where participant = @0 and request_id = @1",
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
            r => new HistoryRow(
                U(r, 0),
                B(r, 1),
                r.GetString(2),
                PartColumns.Find(U(r, 0), B(r, 3), PartKind.Events),
                r.GetString(4),
                PartColumns.ToRequest(U(r, 0), "", r.IsDBNull(5) ? null : B(r, 5)).Data
            ),
            """
            select c.position, e.header, c.events, e.parts, e.request_type, e.request
            from changes c join entries e on e.position = c.position where c.stream = @0 order by c.version
            """,
            stream
        );

    public override Task<Dictionary<string, ulong>> LastOfTypes(IReadOnlyCollection<string> types) =>
        Numbers(
            """
            select max(
                coalesce((select max(event_sequence) from entries where event_type = @0), 0),
                coalesce((select max(sequence) from further_events where type = @0), 0))
            """,
            types
        );

    public override Task<Dictionary<string, ulong>> Cursors(IReadOnlyCollection<string> names) =>
        Numbers("select value from cursors where name = @0", names);

    public override Task<List<byte[]>> Headers(ulong from, ulong to) =>
        Read(r => B(r, 0), "select header from entries where position >= @0 and position < @1 order by position", from, to);

    public override async Task<byte[]?> ReadTile(int level, ulong index) =>
        (await Read(r => B(r, 0), "select hashes from tiles where level = @0 and idx = @1", level, index)).FirstOrDefault();

    public override Task<List<byte[]>> TileRoots(int level, ulong from, ulong to) =>
        Read(r => B(r, 0), "select root from tiles where level = @0 and idx >= @1 and idx < @2 order by idx", level, from, to);

    public override Task<List<EntryRow>> Entries(ulong from, ulong to, string? @case, Viewer? viewer, int limit)
    {
        List<object?> values = [from, to, limit];
        var sql =
            "select position, participant, case_id, trace_parent, trace_state, header, audience, "
            + "length(parts) + coalesce(length(request), 0) from entries s where position >= @0 and position < @1";
        if (@case is not null)
        {
            sql += $" and case_id = @{values.Count} and case_id <> ''";
            values.Add(@case);
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
                (
                    await Read(
                        r =>
                            PartColumns
                                .Decode(position, B(r, 2))
                                .Prepend(PartColumns.ToRequest(position, r.GetString(0), r.IsDBNull(1) ? null : B(r, 1))),
                        "select request_type, request, parts from entries where position = @0",
                        position
                    )
                ).SelectMany(p => p)
            );
        return parts;
    }

    public override Task<List<StreamRow>> List(string kind, IReadOnlyList<string> keys, Viewer? viewer, ulong after, int limit)
    {
        List<object?> values = [kind, after, limit];
        var sql = $"select {StreamColumns} from {Listed(keys, values)} and s.number > @1";
        if (viewer is not null)
            sql += Visible(viewer, values);
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

    // The case of a token ends at the first colon or equals sign.
    private const string CaseOfToken = "substr(a.value, 3, instr(replace(substr(a.value, 3), '=', ':') || ':', ':') - 1)";

    private static string Visible(Viewer viewer, List<object?> values)
    {
        values.Add(Json(viewer.Tokens));
        var own = $"a.value in (select value from json_each(@{values.Count - 1}))";
        if (viewer.PartyKey is null)
            return $" and exists (select 1 from json_each(s.audience) a where {own})";
        values.AddRange([Cases.Kind.Name, viewer.PartyKey, Json(viewer.Endings)]);
        var (kind, party, endings) = (values.Count - 3, values.Count - 2, values.Count - 1);
        return $"""
             and exists (select 1 from json_each(s.audience) a where {own} or exists (
                select 1 from streams c join list_keys l on l.kind = c.kind and l.token = @{party} and l.stream = c.number
                where a.value like 'c:%' and c.kind = @{kind} and c.key = {CaseOfToken}
                    and substr(a.value, 3 + length(c.key)) in (select value from json_each(@{endings}))))
            """;
    }

    public override Task<List<(StreamId Id, long Due)>> Due(long now, int skip, int limit) =>
        Read(
            r => (new StreamId(r.GetString(0), r.GetString(1)), r.GetInt64(2)),
            "select kind, key, due from streams where due <= @0 order by due, number limit @1 offset @2",
            now,
            limit,
            skip
        );

    public override async Task<bool> HasCase(ulong from, ulong to) =>
        (
            await Read(
                r => r.GetBoolean(0),
                "select exists (select 1 from entries where position >= @0 and position < @1 and case_id <> '')",
                from,
                to
            )
        )[0];

    public override async Task<ulong> CountDue(long now) =>
        (await Read(r => U(r, 0), "select count(*) from streams where due <= @0", now))[0];

    public override Task<List<EventSource>> EventsAfter(ulong number, int limit) =>
        Read(
            EventOf,
            $"""
            with e as (
                select * from (select event_number as number, event_sequence as sequence, position, event_index as idx from entries
                    where event_number > @0 order by event_number limit @1)
                union all select * from (select number, sequence, position, idx from further_events
                    where number > @0 order by number limit @1)
                order by number limit @1)
            select e.number, e.sequence, e.position, e.idx, {EventSources}
            """,
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
                $"""
                select * from (select event_number as number, event_sequence as sequence, position, event_index as idx from entries
                    where event_type = @{values.Count} and event_sequence > @{values.Count + 1} order by event_sequence limit @0)
                union all select * from (select number, sequence, position, idx from further_events
                    where type = @{values.Count} and sequence > @{values.Count + 1} order by sequence limit @0)
                """
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

    // As the function of PostgreSQL does it (PostgresSchema).
    public override async Task<bool> EraseRequest(ulong position)
    {
        Begin();
        var fallen = await Read(
            r => (ulong)r.GetInt64(0),
            """
            update entries set request = null, digest = x'' where request is not null and (position = @0 or position in (
                select c.position from streams s join changes c on c.stream = s.number where s.kind = @1 and s.key = @2))
            returning position
            """,
            position,
            Shares.StreamName,
            Shares.KeyOf(position)
        );
        foreach (var one in fallen)
            Run("update streams set fold = 0, state = x'' where number in (select stream from changes where position = @0)", one);
        if (fallen.Count > 0)
            Run("update head set last_time = last_time + 1");
        await Commit();
        return fallen.Count > 0;
    }

    public override Task<List<ulong>> SharesOf(ulong position) =>
        Read(
            r => (ulong)r.GetInt64(0),
            "select c.position from streams s join changes c on c.stream = s.number where s.kind = @0 and s.key = @1",
            Shares.StreamName,
            Shares.KeyOf(position)
        );

    public override async Task<bool> IsErased(ulong position) =>
        (await Read(r => r.GetBoolean(0), "select request is null from entries where position = @0", (long)position)).SingleOrDefault();

    public override Task<List<SharedRow>> Shared(long after, int count) =>
        Read(
            r => new SharedRow(r.GetInt64(0), ulong.Parse(r.GetString(1), CultureInfo.InvariantCulture), r.GetBoolean(2)),
            """
            with page as (select number, key from streams where kind = @0 and number > @1 order by number limit @2)
            select p.number, p.key, exists (select 1 from entries e where e.position = cast(p.key as integer) and e.request is null)
                and exists (select 1 from changes c join entries g on g.position = c.position where c.stream = p.number and g.request is not null)
            from page p order by p.number
            """,
            Shares.StreamName,
            after,
            count
        );

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

    public Task<List<T>> Read<T>(Func<SqliteDataReader, T> row, string sql, params object?[] values)
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
            JsonSerializer.Deserialize<string[]>(r.GetString(9))!,
            false,
            r.GetString(10)
        );

    private static EventSource EventOf(SqliteDataReader r) =>
        new(
            U(r, 0),
            U(r, 1),
            U(r, 2),
            r.GetInt32(3),
            B(r, 4),
            PartColumns.Find(U(r, 2), B(r, 5), PartKind.Events),
            r.GetString(6),
            r.GetString(7)
        );

    private static ulong U(SqliteDataReader reader, int column) => (ulong)reader.GetInt64(column);

    private static byte[] B(SqliteDataReader reader, int column) => reader.GetFieldValue<byte[]>(column);

    private static string Json(IReadOnlyCollection<string> tokens) => JsonSerializer.Serialize(tokens);
}
