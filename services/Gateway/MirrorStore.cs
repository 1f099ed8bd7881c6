using System.Globalization;
using System.Security.Cryptography;
using Google.Protobuf;
using Microsoft.Data.Sqlite;
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

/// <summary>The mirror's file.</summary>
internal sealed class MirrorStore : IDisposable
{
    private const string Schema = """
        create table if not exists facts (name text primary key, value text not null) without rowid;
        create table if not exists progress (
          service text primary key, next_position integer not null, tree_size integer not null, cosigned_size integer not null,
          check_time integer, alarm text not null, alarm_time integer
        ) without rowid;
        create table if not exists numbers (
          service text not null, audience text not null, number integer not null, position integer not null,
          primary key (service, audience)
        ) without rowid;
        create table if not exists entries (
          service text not null, position integer not null, case_id text not null, commit_time integer not null, seen_time integer not null,
          bytes blob not null, primary key (service, position)
        ) without rowid;
        create table if not exists events (
          sequence integer primary key autoincrement, service text not null, position integer not null, idx integer not null,
          type text not null, case_id text not null, commit_time integer not null, trace text not null, data blob not null
        );
        create table if not exists records (
          number integer primary key, method text not null, request blob not null, service text not null, position integer not null,
          seen_time integer not null, response blob
        );
        create index if not exists record_times on records (method, request, seen_time, number);
        """;

    private const string Event = "sequence, service, position, idx, type, case_id, commit_time, trace, data";

    private readonly Database _database;

    public MirrorStore(string path)
    {
        _database = new Database(path, Schema + Webhooks.Schema);
        var epoch = Convert.ToHexStringLower(RandomNumberGenerator.GetBytes(8));
        Epoch = _database
            .Write(c =>
            {
                Database.Run(c, "insert into facts values ('epoch', @0) on conflict do nothing", epoch);
                return (string)Database.Scalar(c, "select value from facts where name = 'epoch'")!;
            })
            .GetAwaiter()
            .GetResult();
    }

    /// <summary>The name of this mirror: another one numbers events anew.</summary>
    public string Epoch { get; }

    /// <summary>The file, for what is kept beside.</summary>
    public Database Database => _database;

    /// <summary>How far a ledger's mirror has come.</summary>
    public MirrorProgress ProgressOf(string service) =>
        _database
            .Read(c =>
                Database.Rows(
                    c,
                    r => new MirrorProgress(
                        service,
                        (ulong)r.GetInt64(0),
                        (ulong)r.GetInt64(1),
                        (ulong)r.GetInt64(2),
                        r.IsDBNull(3) ? null : Database.Time(r.GetInt64(3)),
                        r.GetString(4),
                        r.IsDBNull(5) ? null : Database.Time(r.GetInt64(5))
                    ),
                    "select next_position, tree_size, cosigned_size, check_time, alarm, alarm_time from progress where service = @0",
                    service
                )
            )
            .FirstOrDefault()
        ?? new MirrorProgress(service, 0, 0, 0, null, "", null);

    /// <summary>The numbers of the entries so far.</summary>
    public Completeness Numbers(string service)
    {
        var complete = new Completeness(fromStart: true);
        foreach (
            var (audience, number, position) in _database.Read(c =>
                Database.Rows(
                    c,
                    r => (r.GetString(0), (ulong)r.GetInt64(1), (ulong)r.GetInt64(2)),
                    "select audience, number, position from numbers where service = @0",
                    service
                )
            )
        )
            complete.Resume(audience, number, position);
        return complete;
    }

    /// <summary>Whether the entry at a position is kept.</summary>
    public bool Has(string service, ulong position) =>
        _database.Read(c =>
            Database.Scalar(c, "select 1 from entries where service = @0 and position = @1", service, (long)position) is not null
        );

    /// <summary>Adds what was verified, all or nothing.</summary>
    public Task Add(
        string service,
        IReadOnlyList<MirroredEntry> entries,
        IReadOnlyList<SeenRecord> records,
        Completeness numbers,
        MirrorProgress progress
    ) =>
        _database.Write(c =>
        {
            var seen = Database.Stored(progress.CheckTime!.Value);
            foreach (var entry in entries)
                Add(c, service, entry, seen);
            foreach (var record in records)
                Database.Run(
                    c,
                    "insert into records (method, request, service, position, seen_time, response) values (@0, @1, @2, @3, @4, @5)",
                    Contract.NameOf(record.Record.Get),
                    record.Record.Request.ToByteArray(),
                    service,
                    (long)record.Position,
                    seen,
                    record.Response
                );
            if (entries.Count > 0)
                foreach (var (audience, number, position) in numbers.Last)
                    Database.Run(
                        c,
                        "insert into numbers values (@0, @1, @2, @3) on conflict (service, audience) do update set "
                            + "number = excluded.number, position = excluded.position",
                        service,
                        audience,
                        (long)number,
                        (long)position
                    );
            Database.Run(
                c,
                "insert into progress values (@0, @1, @2, @3, @4, '', null) on conflict (service) do update set next_position = @1, "
                    + "tree_size = @2, cosigned_size = max(cosigned_size, @3), check_time = @4",
                service,
                (long)progress.NextPosition,
                (long)progress.TreeSize,
                (long)progress.CosignedSize,
                seen
            );
        });

    /// <summary>Notes that a ledger's mirror has stopped.</summary>
    public Task Stop(string service, string why, DateTimeOffset time) =>
        _database.Write(c =>
            Database.Run(
                c,
                "insert into progress values (@0, 0, 0, 0, null, @1, @2) on conflict (service) do update set alarm = @1, alarm_time = @2",
                service,
                why,
                Database.Stored(time)
            )
        );

    /// <summary>A record as it was known at a time; null: it was not known.</summary>
    public StoredRecord? Record(string method, byte[] request, DateTimeOffset time) =>
        _database
            .Read(c =>
                Database.Rows(
                    c,
                    Stored,
                    "select response, seen_time from records where method = @0 and request = @1 and seen_time <= @2 "
                        + "order by seen_time desc, number desc limit 1",
                    method,
                    request,
                    Database.Stored(time)
                )
            )
            .FirstOrDefault();

    /// <summary>All records of a kind as they were known at a time, in the order in which they were first seen.</summary>
    public IReadOnlyList<StoredRecord> Records(string method, DateTimeOffset time) =>
        _database.Read(c =>
            Database.Rows(
                c,
                Stored,
                "select response, seen_time from records r where method = @0 and number = (select number from records l where "
                    + "l.method = r.method and l.request = r.request and l.seen_time <= @1 order by seen_time desc, number desc limit 1) "
                    + "and response is not null order by (select min(number) from records f where f.method = r.method and "
                    + "f.request = r.request)",
                method,
                Database.Stored(time)
            )
        );

    /// <summary>Events in their order.</summary>
    /// <param name="after">The number of the last one that is known.</param>
    /// <param name="most">How many at most.</param>
    public IReadOnlyList<MirroredEvent> Events(long after, int most) =>
        _database.Read(c =>
            Database.Rows(c, ReadEvent, $"select {Event} from events where sequence > @0 order by sequence limit @1", after, most)
        );

    /// <summary>The number of the last event; zero: there is none.</summary>
    public long LastEvent => _database.Read(c => (long)Database.Scalar(c, "select coalesce(max(sequence), 0) from events")!);

    /// <inheritdoc/>
    public void Dispose() => _database.Dispose();

    private static void Add(SqliteConnection c, string service, MirroredEntry entry, long seen)
    {
        var header = entry.Read.Header;
        var committed = Database.Stored(header.CommitTime.ToDateTimeOffset());
        Database.Run(
            c,
            "insert into entries values (@0, @1, @2, @3, @4, @5)",
            service,
            (long)header.Position,
            entry.Read.Case,
            committed,
            seen,
            entry.Entry.ToByteArray()
        );
        var index = 0;
        foreach (var published in entry.Read.Parts.Select(p => p.Content).OfType<Events>().SelectMany(e => e.Events_))
            Database.Run(
                c,
                "insert into events (service, position, idx, type, case_id, commit_time, trace, data) "
                    + "values (@0, @1, @2, @3, @4, @5, @6, @7)",
                service,
                (long)header.Position,
                index++,
                published.Type,
                entry.Read.Case,
                committed,
                entry.Read.TraceParent,
                published.Data.ToByteArray()
            );
    }

    private static StoredRecord Stored(SqliteDataReader r) => new(r.IsDBNull(0) ? null : (byte[])r[0], Database.Time(r.GetInt64(1)));

    private static MirroredEvent ReadEvent(SqliteDataReader r) =>
        new(
            r.GetInt64(0),
            r.GetString(1),
            (ulong)r.GetInt64(2),
            r.GetInt32(3),
            r.GetString(4),
            r.GetString(5),
            Database.Time(r.GetInt64(6)),
            r.GetString(7),
            (byte[])r[8]
        );
}
