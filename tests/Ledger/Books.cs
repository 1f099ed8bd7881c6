using Google.Protobuf;
using Microsoft.Data.Sqlite;
using Ministries.CallLog.V1;
using Ministries.Custody.V1;
using Ministries.Errors.V1;
using Ministries.Fixtures;
using Ministries.Ledger.V1;

namespace Ministries.Ledger.Tests;

/// <summary>A clock that stands still until it is set.</summary>
public sealed class Clock : TimeProvider
{
    public DateTimeOffset Now { get; set; } = new(2025, 3, 17, 9, 0, 0, TimeSpan.Zero);

    public override DateTimeOffset GetUtcNow() => Now;

    public override long TimestampFrequency => TimeSpan.TicksPerSecond;

    public override long GetTimestamp() => Now.UtcTicks;
}

/// <summary>Where tests keep ledgers: a database engine, and how to copy a database.</summary>
public abstract class Engine
{
    public abstract Task<string> Create();

    /// <summary>A copy of a database that is closed.</summary>
    public abstract Task<string> Copy(string connection);

    /// <summary>Runs a statement beside the ledger.</summary>
    public abstract Task Run(string connection, string sql);

    /// <summary>A path in a folder of its own, which is removed with the process.</summary>
    public static string NewFile(string name) =>
        Path.Combine(Directory.CreateDirectory(Path.Combine(Folder.Value, Guid.NewGuid().ToString())).FullName, name);

    private static readonly Lazy<string> Folder = new(() =>
    {
        var folder = Directory.CreateTempSubdirectory("ministries-ledger-").FullName;
        AppDomain.CurrentDomain.ProcessExit += (_, _) => Directory.Delete(folder, recursive: true);
        return folder;
    });
}

public sealed class Sqlite : Engine
{
    public override Task<string> Create() => Task.FromResult($"sqlite:{NewFile("ledger.db")}");

    public override Task<string> Copy(string connection)
    {
        var copy = NewFile("ledger.db");
        File.Copy(connection["sqlite:".Length..], copy);
        return Task.FromResult($"sqlite:{copy}");
    }

    public override async Task Run(string connection, string sql)
    {
        await using var open = new SqliteConnection($"Data Source={connection["sqlite:".Length..]};Pooling=false");
        await open.OpenAsync();
        await using var command = open.CreateCommand();
        command.CommandText = sql;
        await command.ExecuteNonQueryAsync();
    }
}

public sealed class PostgreSql : Engine
{
    public override async Task<string> Create() => await (await Postgres.Shared).CreateDatabase();

    public override async Task<string> Copy(string connection) => await (await Postgres.Shared).Copy(connection);

    public override async Task Run(string connection, string sql) => await (await Postgres.Shared).Execute(sql, connection);
}

/// <summary>
/// A small service to test the ledger with: its streams count what happened to them. The state's <c>type</c> is the stream's key
/// and the state's <c>sequence</c> the count; an event's <c>participant</c> is its author.
/// </summary>
public static class Counting
{
    public static readonly StreamKind<EventCursor> Kind = Version(1, 1);

    public static readonly CheckpointKey Key = CheckpointKey.FromSeed("ministries.example/custody", new byte[32]);

    /// <summary>The fold of a version, which counts each event so many times.</summary>
    public static StreamKind<EventCursor> Version(int version, ulong each) =>
        new(
            "counter",
            version,
            (state, e, entry) =>
            {
                state.Type = entry.Request is PartyAdmitted request ? request.Case : "erased";
                if (e is CaseClosed)
                    throw new InvalidOperationException("the fold of a closed case fails");
                state.Sequence += each;
            },
            audience: state => [Audience.Of($"reader/{state.Type}"), Audience.Everybody],
            keys: state => ["all", $"v{version}", state.Sequence % (2 * each) == 0 ? "even" : "odd"],
            due: state => state.Sequence % (3 * each) == 0 ? new DateTimeOffset(2025, 3, 18, 0, 0, 0, TimeSpan.Zero) : null
        );

    public static LedgerOptions Options(
        string connection,
        string? checkpoint = null,
        TimeProvider? time = null,
        StreamKind? kind = null,
        TimeSpan cover = default,
        int leaves = 8,
        params IReadOnlyList<HeardCheckpoint> heard
    ) =>
        new()
        {
            Service = "custody",
            Kinds = [kind ?? Kind, Shares.Kind],
            Connection = connection,
            Key = Key,
            CheckpointFile = checkpoint ?? Engine.NewFile("checkpoint"),
            Time = time ?? TimeProvider.System,
            // A test's clock does not agree with the database's.
            ComparesDatabaseClock = time is null,
            PollInterval = TimeSpan.FromMilliseconds(100),
            CoverInterval = cover,
            CoverLeaves = leaves,
            Heard = heard,
        };

    /// <summary>Opens sealed data of the entry at a position to somebody else.</summary>
    public static Command Share(string participant, string requestId, ulong position)
    {
        var request = new ShareSealedRequest { RequestId = requestId, Position = position };
        return new()
        {
            Participant = participant,
            RequestId = requestId,
            Method = "ministries.ledger.v1.LedgerService/ShareSealed",
            Request = request,
            Bytes = request.ToByteArray(),
            AgreementVersion = 7,
            Decide = (_, _) =>
                Decision.Accept(
                    "case_1",
                    [Audience.Case("case_1")],
                    [new Change(new SealedShared { Position = position }, [Shares.Kind.Id(Shares.KeyOf(position))])]
                ),
        };
    }

    /// <summary>Counts one more; answers with the count.</summary>
    public static Command Add(
        string participant,
        string requestId,
        string counter,
        IReadOnlyList<string>? audience = null,
        int precedence = 0,
        Action? before = null,
        string content = "",
        IntakeNumber? intake = null,
        string traceParent = "",
        StreamKind<EventCursor>? kind = null,
        string @case = "case_1",
        string traceState = "",
        ChainLink? link = null
    )
    {
        var request = new PartyAdmitted { Case = counter, Participant = content };
        return new()
        {
            Participant = participant,
            RequestId = requestId,
            Method = "test/Add",
            Request = request,
            Bytes = request.ToByteArray(),
            AgreementVersion = 7,
            Precedence = precedence,
            Intake = intake,
            Link = link,
            TraceParent = traceParent,
            TraceState = traceState,
            Decide = (view, now) =>
            {
                before?.Invoke();
                view.Find(kind ?? Kind, counter);
                return Decision.Accept(
                    @case,
                    audience ?? [Audience.Case(@case)],
                    [new Change(new PartyAdmitted { Case = counter, Participant = participant }, [Kind.Id(counter)])],
                    after => after.Find(kind ?? Kind, counter)!
                );
            },
        };
    }

    /// <summary>A command with a rule of its own.</summary>
    public static Command Decides(
        string participant,
        string requestId,
        Func<View, DateTimeOffset, Decision> rule,
        bool storesRefusal = true,
        IntakeNumber? intake = null,
        ChainLink? link = null
    )
    {
        var request = new PartyAdmitted { Case = "decides" };
        return new()
        {
            Participant = participant,
            RequestId = requestId,
            Method = "test/Decides",
            Request = request,
            Bytes = request.ToByteArray(),
            AgreementVersion = 7,
            Decide = rule,
            StoresRefusal = storesRefusal,
            Intake = intake,
            Link = link,
        };
    }

    public static Change Change(string counter) => new(new PartyAdmitted { Case = counter }, [Kind.Id(counter)]);

    public static ulong CountOf(this Outcome outcome) => ((EventCursor)outcome.Answer!).Sequence;

    public static EntryHeader HeaderOf(this StoredEntry entry) => EntryHeader.Parser.ParseFrom(entry.Entry.Header);

    public static Refusal Refused => new(Reason.StateNotAllowed, new Dictionary<string, string> { ["state"] = "CLOSED" });

    /// <summary>An event of another service.</summary>
    public static IMessage Foreign => new CallLogged();
}
