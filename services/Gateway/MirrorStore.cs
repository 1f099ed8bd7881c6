using System.Collections.Concurrent;
using System.Data.Common;
using System.Globalization;
using System.Net.Sockets;
using System.Security.Cryptography;
using System.Text;
using Google.Protobuf;
using Ministries.Ledger;
using Ministries.Ledger.V1;
using Ministries.Trust;

namespace Ministries.Gateway;

/// <summary>An entry that was verified.</summary>
internal sealed record MirroredEntry(Entry Entry, LedgerEntry Read);

/// <summary>A record as it was seen after an entry.</summary>
/// <param name="Record">The record.</param>
/// <param name="Position">The entry.</param>
/// <param name="Response">What the service answered; null: the participant may not see it.</param>
internal sealed record SeenRecord(RecordReference Record, ulong Position, byte[]? Response);

/// <summary>A record from the mirror.</summary>
/// <param name="Bytes">The answer; null: the participant could not see it then.</param>
/// <param name="SeenTime">Since when it was known so.</param>
internal sealed record StoredRecord(byte[]? Bytes, DateTimeOffset SeenTime);

/// <summary>An event that the participant may see.</summary>
/// <param name="Sequence">Its number in this mirror, from 1 without gaps.</param>
/// <param name="Service">The service that published it.</param>
/// <param name="Position">The position of its entry.</param>
/// <param name="Index">Its index in the entry, from 0.</param>
/// <param name="Type">Its type's full name.</param>
/// <param name="Case">Its case.</param>
/// <param name="Time">When it was committed.</param>
/// <param name="Trace">The W3C traceparent of the commit.</param>
/// <param name="Data">Its bytes.</param>
internal sealed record MirroredEvent(
    long Sequence,
    string Service,
    ulong Position,
    int Index,
    string Type,
    string Case,
    DateTimeOffset Time,
    string Trace,
    byte[] Data
)
{
    /// <summary>Its id, which is the same in every mirror.</summary>
    public string Id => string.Create(CultureInfo.InvariantCulture, $"{Service}/{Position}/{Index}");
}

/// <summary>Why a mirror has stopped.</summary>
internal sealed record MirrorAlarm(string Why, DateTimeOffset Time);

/// <summary>What the mirror keeps. Its tables are in SQLite or PostgreSQL (<see cref="MirrorDatabase"/>). <c>mirror.db</c> in the state
/// folder has what must not depend on another machine: alarms, how far the webhooks are, and what the database was last known to
/// hold.</summary>
/// <remarks>Each row is sealed (<see cref="RowSeals"/>), and the head counts them. So a row that is rewritten, invented or left out is
/// found: when it is read, and what is missing at the latest after <see cref="BetweenCounts"/>. A database that was put back to an earlier
/// state is behind the known revision, and is followed up again.</remarks>
internal sealed class MirrorStore : IDisposable
{
    private const int Version = 1;

    private const string Local = """
        create table if not exists noted (one integer primary key check (one = 1), head blob not null);
        create table if not exists alarms (service text primary key, why text not null, time integer not null) without rowid;
        """;

    // A service's texts are stored as bytes: PostgreSQL takes no text with a zero character, so a service could otherwise stop the mirror.
    private const string Schema = """
        create table if not exists mirror_head (
          one int primary key check (one = 1), version int not null, body bytea not null, seal bytea not null
        );
        create table if not exists mirror_numbers (
          service text not null, audience bytea not null, number bigint not null, position bigint not null, seal bytea not null,
          primary key (service, audience)
        );
        create table if not exists mirror_entries (
          number bigint primary key, service text not null, position bigint not null, seen_time bigint not null, bytes bytea not null,
          seal bytea not null, unique (service, position)
        );
        create table if not exists mirror_events (
          number bigint primary key, service text not null, position bigint not null, idx int not null, seal bytea not null,
          unique (service, position, idx)
        );
        create table if not exists mirror_records (
          number bigint primary key, method text not null, request bytea not null, position bigint not null, seen_time bigint not null,
          response bytea, seal bytea not null
        );
        create index if not exists mirror_record_times on mirror_records (method, request, seen_time, number);
        """;

    private const string Records = "number, method, request, position, seen_time, response, seal";

    private const string Event =
        "e.number, e.service, e.position, e.idx, e.seal, n.number, n.seen_time, n.bytes, n.seal from mirror_events e "
        + "join mirror_entries n on n.service = e.service and n.position = e.position";

    /// <summary>How often rows are counted.</summary>
    public static readonly TimeSpan BetweenCounts = TimeSpan.FromMinutes(10);

    private readonly MirrorDatabase _database;
    private readonly RowSeals _seals;
    private readonly string _participant;
    private readonly TimeProvider _time;
    private readonly SemaphoreSlim _one = new(1);
    private readonly ConcurrentDictionary<string, MirrorAlarm> _alarms;
    private volatile MirrorHead? _head;
    private volatile bool _open;
    private DateTimeOffset _counted;
    private long _opening;

    /// <summary>Opens it. A database that is not reached is opened later (<see cref="Open"/>).</summary>
    /// <exception cref="FormatException">The setting is wrong, or the database is not for this gateway.</exception>
    /// <exception cref="IOException">The state folder cannot be written.</exception>
    public MirrorStore(GatewaySettings settings, TimeProvider time)
    {
        (_participant, _time) = (settings.Participant, time);
        var path = Path.Combine(settings.State, "mirror.db");
        File = new Database(path, Local + Webhooks.Schema);
        try
        {
            _seals = new RowSeals(KeyIn(settings.State));
            _alarms = new(
                File.Read(c =>
                    Database.Rows(
                        c,
                        r => KeyValuePair.Create(r.GetString(0), new MirrorAlarm(r.GetString(1), Database.Time(r.GetInt64(2)))),
                        "select service, why, time from alarms"
                    )
                )
            );
            _database = settings.Mirror is { } at
                ? PostgresMirror.Make(at.Connection).GetAwaiter().GetResult()
                : new SqliteMirror(File, path);
            if (_database.IsApart && File.Read(c => Database.Scalar(c, "select head from noted")) is byte[] noted)
                _head = MirrorHead.Read(noted);
            Begin();
        }
        catch
        {
            _database?.Dispose();
            File.Dispose();
            throw;
        }
    }

    /// <summary>The file in the state folder.</summary>
    public Database File { get; }

    /// <summary>The engine of the database.</summary>
    public string Engine => _database.Engine;

    /// <summary>Since when the database cannot be used, and why; null: it can.</summary>
    public MirrorAlarm? Away { get; private set; }

    /// <summary>How often the database was found to be put back to an earlier state, or empty, since this process began, and was followed
    /// up again.</summary>
    public int TimesPutBack { get; private set; }

    /// <summary>The last head that is known: that of the database while it is open.</summary>
    public MirrorHead? Head => _head;

    /// <summary>The number of the last event; zero: there is none.</summary>
    public long LastEvent => _head?.Events ?? 0;

    /// <summary>Whether a fault is one of reaching the database.</summary>
    public static bool IsOutage(Exception e) => e is DbException or TimeoutException or IOException or SocketException or FormatException;

    /// <summary>Why the mirror of a ledger has stopped, or the whole mirror; null: it has not.</summary>
    public MirrorAlarm? AlarmOf(string service) => _alarms.GetValueOrDefault("") ?? _alarms.GetValueOrDefault(service);

    /// <summary>Why the whole mirror has stopped: what is in its database is not to be shown; null: it has not.</summary>
    public MirrorAlarm? WholeAlarm => _alarms.GetValueOrDefault("");

    /// <summary>How far a ledger's mirror has come, as far as is known.</summary>
    public MirrorProgress ProgressOf(string service)
    {
        var (mark, alarm) = (_head?.Ledgers.GetValueOrDefault(service), AlarmOf(service));
        return new MirrorProgress(
            service,
            mark?.Next ?? 0,
            mark?.TreeSize ?? 0,
            mark?.CosignedSize ?? 0,
            mark is null ? null : Database.Time(mark.CheckTime),
            alarm?.Why ?? "",
            alarm?.Time
        );
    }

    /// <summary>Opens the database unless it is open, and looks at what is in it.</summary>
    /// <returns>The number of this opening. What was read during another one is not to be added.</returns>
    /// <exception cref="MirrorChangedException">It is not what this gateway wrote.</exception>
    public async Task<long> Open(CancellationToken cancel)
    {
        await _one.WaitAsync(cancel);
        try
        {
            if (_open)
                return _opening;
            await _database.Open(Schema, cancel);
            var known = _head;
            var head = await _database.Write(c => Take(c, known), cancel);
            if (known is not null && known.Numbering != head.Numbering)
                TimesPutBack++;
            (_head, _counted, Away) = (head, _time.GetUtcNow(), null);
            _opening++;
            _open = true;
            return _opening;
        }
        catch (Exception e)
        {
            await Shut(e);
            throw;
        }
        finally
        {
            _one.Release();
        }
    }

    /// <summary>The numbers of the entries so far.</summary>
    public async Task<Completeness> Numbers(string service, CancellationToken cancel)
    {
        var complete = new Completeness(fromStart: true);
        var (head, rows) = await Read(
            c =>
                MirrorDatabase.Rows(
                    c,
                    r => (Audience: (byte[])r[0], Number: r.GetInt64(1), Position: r.GetInt64(2), Seal: (byte[])r[3]),
                    "select audience, number, position, seal from mirror_numbers where service = @0",
                    service
                ),
            cancel
        );
        foreach (var (audience, number, position, seal) in rows)
        {
            _seals.Demand(seal, "numbers", head.Id, service, audience, number, position);
            complete.Resume(Encoding.UTF8.GetString(audience), (ulong)number, (ulong)position);
        }
        return rows.Count == (head.Ledgers.GetValueOrDefault(service)?.Audiences ?? 0)
            ? complete
            : throw new MirrorChangedException("rows of numbers are missing");
    }

    /// <summary>Whether the entry at a position is kept.</summary>
    public async Task<bool> Has(string service, ulong position, CancellationToken cancel) =>
        (
            await Read(
                c =>
                    MirrorDatabase.Rows(
                        c,
                        r => r.GetInt64(0),
                        "select number from mirror_entries where service = @0 and position = @1",
                        service,
                        (long)position
                    ),
                cancel
            )
        )
            .Rows
            .Count > 0;

    /// <summary>The entry at a position; null: it is not kept.</summary>
    public async Task<LedgerEntry?> EntryAt(string service, ulong position, CancellationToken cancel)
    {
        var (head, rows) = await Read(
            c =>
                MirrorDatabase.Rows(
                    c,
                    r => (Number: r.GetInt64(0), Seen: r.GetInt64(1), Bytes: (byte[])r[2], Seal: (byte[])r[3]),
                    "select number, seen_time, bytes, seal from mirror_entries where service = @0 and position = @1",
                    service,
                    (long)position
                ),
            cancel
        );
        if (rows is not [var row])
            return null;
        _seals.Demand(row.Seal, "entries", head.Id, row.Number, service, (long)position, row.Seen, row.Bytes);
        return LedgerEntry.Read(Ledger.V1.Entry.Parser.ParseFrom(row.Bytes));
    }

    /// <summary>Adds what was verified, all or nothing.</summary>
    /// <param name="opening">The opening of the database since which it was read.</param>
    /// <param name="entries">The entries of a ledger.</param>
    /// <param name="records">The records, as they were seen after them.</param>
    /// <param name="numbers">The numbers of all entries so far.</param>
    /// <param name="progress">How far the ledger has come.</param>
    /// <param name="seen">When the last of the records had been read; before that not all of them were known.</param>
    /// <param name="cancel">Ends it before it is committed.</param>
    /// <exception cref="MirrorBehindException">The database was opened anew since then, or is not as it was left.</exception>
    public async Task Add(
        long opening,
        IReadOnlyList<MirroredEntry> entries,
        IReadOnlyList<SeenRecord> records,
        Completeness numbers,
        MirrorProgress progress,
        DateTimeOffset seen,
        CancellationToken cancel
    )
    {
        await _one.WaitAsync(cancel);
        try
        {
            if (WholeAlarm is not null || !_open || opening != _opening)
                throw new MirrorBehindException();
            await Add(entries, records, numbers, progress, seen, cancel);
        }
        finally
        {
            _one.Release();
        }
        if (_database.IsApart)
            await Note();
    }

    /// <summary>Notes that a ledger's mirror has stopped for good, or the whole mirror.</summary>
    /// <param name="service">The service; empty: the whole mirror.</param>
    /// <param name="why">Why.</param>
    public async Task Stop(string service, string why)
    {
        var alarm = new MirrorAlarm(why, _time.GetUtcNow());
        if (_alarms.TryAdd(service, alarm))
            await File.Write(c =>
                Database.Run(
                    c,
                    "insert into alarms values (@0, @1, @2) on conflict do nothing",
                    service,
                    alarm.Why,
                    Database.Stored(alarm.Time)
                )
            );
    }

    /// <summary>A record as it was known at a time; null: it was not known. Of several, the one that was seen last counts, also where the
    /// clock was put back meanwhile.</summary>
    public async Task<StoredRecord?> Record(string method, byte[] request, DateTimeOffset time, CancellationToken cancel)
    {
        var (head, rows) = await Read(
            c =>
                MirrorDatabase.Rows(
                    c,
                    RecordRow.Of,
                    $"select {Records} from mirror_records where number = (select max(number) from mirror_records "
                        + "where method = @0 and request = @1 and seen_time <= @2)",
                    method,
                    request,
                    Database.Stored(time)
                ),
            cancel
        );
        return rows.Select(r => r.Demand(_seals, head)).FirstOrDefault();
    }

    /// <summary>The numbers of all records of a kind that were known at a time, in the order in which they were first seen. A record that
    /// is seen later comes after them, so indexes in this list do not change.</summary>
    public async Task<IReadOnlyList<long>> NumbersOf(string method, DateTimeOffset time, CancellationToken cancel) =>
        (
            await Read(
                c =>
                    MirrorDatabase.Rows(
                        c,
                        r => r.GetInt64(0),
                        "select max(number) filter (where seen_time <= @1) from mirror_records where method = @0 group by request "
                            + "having min(seen_time) <= @1 order by min(number)",
                        method,
                        Database.Stored(time)
                    ),
                cancel
            )
        ).Rows;

    /// <summary>Records by their numbers, in their order. All of them are held in memory, so ask for few at once.</summary>
    /// <exception cref="MirrorBehindException">One of the records is no longer there.</exception>
    public async Task<IReadOnlyList<StoredRecord>> RecordsAt(IReadOnlyList<long> numbers, CancellationToken cancel)
    {
        if (numbers.Count == 0)
            return [];
        var (head, rows) = await Read(
            c =>
                MirrorDatabase.Rows(
                    c,
                    RecordRow.Of,
                    $"select {Records} from mirror_records where number in ({string.Join(", ", numbers.Select((_, i) => $"@{i}"))})",
                    [.. numbers.Cast<object>()]
                ),
            cancel
        );
        var found = rows.ToDictionary(r => r.Number);
        return [.. numbers.Select(n => found.TryGetValue(n, out var row) ? row.Demand(_seals, head) : throw new MirrorBehindException())];
    }

    /// <summary>Events in their order.</summary>
    /// <param name="numbering">The numbering of the number that is known.</param>
    /// <param name="after">The number of the last one that is known.</param>
    /// <param name="most">How many at most.</param>
    /// <param name="cancel">Ends it.</param>
    /// <exception cref="GatewayRefusedException">The event has another number now, or none.</exception>
    public async Task<IReadOnlyList<MirroredEvent>> Events(string numbering, long after, int most, CancellationToken cancel)
    {
        var (head, rows) = await Read(
            c => MirrorDatabase.Rows(c, EventRow.Of, $"select {Event} where e.number > @0 order by e.number limit @1", after, most),
            cancel
        );
        if (after > head.SharedWith(numbering))
            throw new GatewayRefusedException(GatewayReason.EventsRestarted, "the event is of another mirror", "Last-Event-ID");
        // Those that came meanwhile are more than the head counts.
        if (rows.Count < Math.Min(most, head.Events - after) || rows.Where((r, i) => r.Number != after + 1 + i).Any())
            throw new MirrorChangedException("an event is missing");
        return rows.ConvertAll(r => r.Demand(_seals, head));
    }

    /// <summary>An event by its id; null: it is not there.</summary>
    public async Task<MirroredEvent?> Find(string id, CancellationToken cancel)
    {
        if (id.Split('/') is not [var service, var position, var index])
            return null;
        var (head, rows) = await Read(
            c =>
                MirrorDatabase.Rows(
                    c,
                    EventRow.Of,
                    $"select {Event} where e.service = @0 and e.position = @1 and e.idx = @2",
                    service,
                    long.Parse(position, CultureInfo.InvariantCulture),
                    int.Parse(index, CultureInfo.InvariantCulture)
                ),
            cancel
        );
        return rows.Select(r => r.Demand(_seals, head)).FirstOrDefault();
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _database.Dispose();
        File.Dispose();
        _one.Dispose();
    }

    private void Begin()
    {
        try
        {
            Open(CancellationToken.None).GetAwaiter().GetResult();
        }
        catch (MirrorChangedException e)
        {
            Stop("", e.Message).GetAwaiter().GetResult();
        }
        catch (Exception e) when (IsOutage(e) && e is not FormatException)
        {
            // Writes do not wait for it: it is opened later.
        }
    }

    private async Task Shut(Exception e)
    {
        _open = false;
        if (e is not MirrorBehindException)
            // Only the first line of a database's message is kept, because it holds no value of a row.
            Away ??= new MirrorAlarm(e.Message.Split('\n')[0], _time.GetUtcNow());
        await _database.Close();
    }

    private async Task Add(
        IReadOnlyList<MirroredEntry> entries,
        IReadOnlyList<SeenRecord> records,
        Completeness numbers,
        MirrorProgress progress,
        DateTimeOffset seen,
        CancellationToken cancel
    )
    {
        var (known, now) = (_head!, _time.GetUtcNow());
        var count = now - _counted >= BetweenCounts;
        try
        {
            _head = await _database.Write(
                async c =>
                {
                    if (await HeadIn(c, _database.ForUpdate) is not { } found || found.Id != known.Id || found.Revision != known.Revision)
                        throw new MirrorBehindException();
                    if (count)
                        await Count(c, found);
                    return await Add(c, found, entries, records, numbers, progress, Database.Stored(seen));
                },
                cancel
            );
            if (count)
                _counted = now;
        }
        catch (Exception e)
        {
            // Whether it was committed is seen at the next opening.
            await Shut(e);
            throw;
        }
    }

    // The known content of the database, to notice that it was put back while this process did not run.
    private Task<int> Note() =>
        File.Write(c => Database.Run(c, "insert into noted values (1, @0) on conflict (one) do update set head = @0", _head!.ToBytes()));

    private async Task<MirrorHead> Take(DbConnection c, MirrorHead? known)
    {
        if (await HeadIn(c, _database.ForUpdate) is not { } head)
        {
            head = new MirrorHead
            {
                Participant = _participant,
                Key = _seals.KeyName,
                Numberings = [MirrorHead.NewNumbering(0)],
            };
            // Rows without their head are not of this mirror.
            await Count(c, head);
            await Put(c, head, "insert into mirror_head values (1, @0, @1, @2)");
            return head;
        }
        await Count(c, head);
        if (known is null || known.Id != head.Id || known.Revision <= head.Revision && known.Numbering == head.Numbering)
            return head;
        // The database was put back. Entries that come again may come in another order, and get other numbers.
        head = head with
        {
            Revision = Math.Max(known.Revision, head.Revision) + 1,
            Numberings = [.. head.Numberings, MirrorHead.NewNumbering(head.Events)],
        };
        await Put(c, head, Update);
        return head;
    }

    private const string Update = "update mirror_head set version = @0, body = @1, seal = @2";

    private Task Put(DbConnection c, MirrorHead head, string sql)
    {
        var body = head.ToBytes();
        return MirrorDatabase.Run(c, sql, Version, body, _seals.Of("head", "", Version, body));
    }

    // null: there is none.
    private async Task<MirrorHead?> HeadIn(DbConnection c, string forUpdate = "")
    {
        if (
            await MirrorDatabase.Rows(
                c,
                r => (Version: r.GetInt32(0), Body: (byte[])r[1], Seal: (byte[])r[2]),
                $"select version, body, seal from mirror_head{forUpdate}"
            )
            is not [var (version, body, seal)]
        )
            return null;
        if (version > Version)
            throw new FormatException(
                $"{_database.Name}: the mirror has schema {version}, and this program knows {Version}: use the later program"
            );
        MirrorHead head;
        try
        {
            head = MirrorHead.Read(body);
        }
        catch (System.Text.Json.JsonException)
        {
            throw new MirrorChangedException("its head cannot be read");
        }
        if (head.Participant != _participant)
            throw new FormatException($"{_database.Name}: it holds the mirror of another participant");
        if (head.Key != _seals.KeyName)
            throw new FormatException(
                $"{_database.Name}: it holds the mirror of another gateway, or of one that had another mirror.key in its state folder"
            );
        _seals.Demand(seal, "head", "", version, body);
        return head;
    }

    private static async Task Count(DbConnection c, MirrorHead head)
    {
        foreach (
            var (table, count) in ((string, long)[])
                [("mirror_entries", head.Entries), ("mirror_events", head.Events), ("mirror_records", head.Records)]
        )
            if ((await MirrorDatabase.Rows(c, r => r.GetInt64(0), $"select count(*) from {table}"))[0] != count)
                throw new MirrorChangedException($"it has not the {count} rows in {table} that were written");
    }

    // A read begins with the head: what is behind it is not shown.
    private async Task<(MirrorHead Head, List<T> Rows)> Read<T>(Func<DbConnection, Task<List<T>>> read, CancellationToken cancel)
    {
        if (!_open || _head is not { } known)
            throw new IOException("the mirror's database is not open");
        return await _database.Read(
            async c =>
                await HeadIn(c) is { } head && head.Id == known.Id && head.Revision >= known.Revision
                    ? (head, await read(c))
                    : throw new MirrorBehindException(),
            cancel
        );
    }

    private async Task<MirrorHead> Add(
        DbConnection c,
        MirrorHead head,
        IReadOnlyList<MirroredEntry> entries,
        IReadOnlyList<SeenRecord> records,
        Completeness numbers,
        MirrorProgress progress,
        long seen
    )
    {
        var service = progress.Service;
        var (entry, event_, record) = (head.Entries, head.Events, head.Records);
        object?[] Sealed(string table, params object?[] values) => [.. values, _seals.Of(table, head.Id, values)];
        await MirrorDatabase.Add(
            c,
            "mirror_entries",
            entries.Select(e => Sealed("entries", ++entry, service, (long)e.Read.Header.Position, seen, e.Entry.ToByteArray()))
        );
        await MirrorDatabase.Add(
            c,
            "mirror_events",
            from e in entries
            from index in Enumerable.Range(0, EventRow.In(e.Read).Count())
            select Sealed("events", ++event_, service, (long)e.Read.Header.Position, index)
        );
        await MirrorDatabase.Add(
            c,
            $"mirror_records ({Records})",
            records.Select(r =>
                Sealed(
                    "records",
                    ++record,
                    Contract.NameOf(r.Record.Get),
                    r.Record.Request.ToByteArray(),
                    (long)r.Position,
                    seen,
                    r.Response
                )
            )
        );
        var touched = entries.SelectMany(e => e.Entry.Audience.Select(a => a.Audience)).ToHashSet();
        await MirrorDatabase.Add(
            c,
            "mirror_numbers",
            numbers
                .Last.Where(l => touched.Contains(l.Audience))
                .Select(l => Sealed("numbers", service, Encoding.UTF8.GetBytes(l.Audience), (long)l.Number, (long)l.Position)),
            "on conflict (service, audience) do update set number = excluded.number, position = excluded.position, seal = excluded.seal"
        );
        var mark = new LedgerMark(
            progress.NextPosition,
            progress.TreeSize,
            Math.Max(progress.CosignedSize, head.Ledgers.GetValueOrDefault(service)?.CosignedSize ?? 0),
            Database.Stored(progress.CheckTime!.Value),
            numbers.Last.Count()
        );
        head = head with
        {
            Revision = head.Revision + 1,
            Entries = entry,
            Events = event_,
            Records = record,
            Ledgers = new Dictionary<string, LedgerMark>(head.Ledgers) { [service] = mark },
        };
        await Put(c, head, Update);
        return head;
    }

    private static byte[] KeyIn(string state)
    {
        var path = Path.Combine(state, "mirror.key");
        if (!System.IO.File.Exists(path))
            WholeFile.Write(path, Convert.ToBase64String(RandomNumberGenerator.GetBytes(32)));
        var key = new byte[32];
        return Convert.TryFromBase64String(OwnFile.ReadText(path).Trim(), key, out var length) && length == key.Length
            ? key
            : throw new FormatException($"{path} must hold 32 bytes in Base64");
    }

    private sealed record RecordRow(long Number, string Method, byte[] Request, long Position, long Seen, byte[]? Response, byte[] Seal)
    {
        public static RecordRow Of(DbDataReader r) =>
            new(
                r.GetInt64(0),
                r.GetString(1),
                (byte[])r[2],
                r.GetInt64(3),
                r.GetInt64(4),
                r.IsDBNull(5) ? null : (byte[])r[5],
                (byte[])r[6]
            );

        public StoredRecord Demand(RowSeals seals, MirrorHead head)
        {
            seals.Demand(Seal, "records", head.Id, Number, Method, Request, Position, Seen, Response);
            return new StoredRecord(Response, Database.Time(Seen));
        }
    }

    // An event is read from its entry, which is there once.
    private sealed record EventRow(
        long Number,
        string Service,
        long Position,
        int Index,
        byte[] Seal,
        long EntryNumber,
        long Seen,
        byte[] Bytes,
        byte[] EntrySeal
    )
    {
        public static IEnumerable<Ledger.V1.Event> In(LedgerEntry entry) =>
            entry.Parts.Select(p => p.Content).OfType<Events>().SelectMany(e => e.Events_);

        public static EventRow Of(DbDataReader r) =>
            new(
                r.GetInt64(0),
                r.GetString(1),
                r.GetInt64(2),
                r.GetInt32(3),
                (byte[])r[4],
                r.GetInt64(5),
                r.GetInt64(6),
                (byte[])r[7],
                (byte[])r[8]
            );

        public MirroredEvent Demand(RowSeals seals, MirrorHead head)
        {
            seals.Demand(Seal, "events", head.Id, Number, Service, Position, Index);
            seals.Demand(EntrySeal, "entries", head.Id, EntryNumber, Service, Position, Seen, Bytes);
            var entry = LedgerEntry.Read(Entry.Parser.ParseFrom(Bytes));
            var published = In(entry).ElementAt(Index);
            return new MirroredEvent(
                Number,
                Service,
                (ulong)Position,
                Index,
                published.Type,
                entry.Case,
                entry.Header.CommitTime.ToDateTimeOffset(),
                entry.TraceParent,
                published.Data.ToByteArray()
            );
        }
    }
}
