using Google.Protobuf;
using Microsoft.Data.Sqlite;

namespace Ministries.Ledger;

/// <summary>A ledger in one SQLite file, for one process: write-ahead log, each commit is on the disk before it is reported.</summary>
internal sealed class SqliteStore : Store
{
    // Static, because only one of all the stores of the same file in this process may hold a lead.
    private static readonly Lock Leads = new();
    private static readonly HashSet<string> Led = [];
    private static ulong _taken;

    private readonly string _path;
    private readonly string _connection;
    private readonly Action<string>? _progress;
    private readonly TimeProvider _time;

    public SqliteStore(string path, LedgerOptions options)
    {
        _path = Path.GetFullPath(path);
        (_progress, _time) = (options.Progress, options.Time);
        PrivateFiles.MakeFolder(Path.GetDirectoryName(_path)!);
        // SQLite gives the files that it makes beside it (-wal, -shm, -journal) the same mode. An existing file is not opened, because
        // closing it would end the locks that SQLite has on it in this process.
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
        session.Run(SqliteSchema.Schema);
        if (session.Scalar("select version from ledger_schema") is long version)
        {
            CheckSchema(service, (int)version, (string)session.Scalar("select service from ledger_schema")!);
            if (version < Schema)
                await new SqliteMigration(session, cancel).Run(service, (int)version, _time, _progress);
        }
        session.Run(SqliteSchema.Tables);
        session.Run("insert into ledger_schema values (1, @0, @1) on conflict (one) do update set version = @0", Schema, service);
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
            // The answer comes at once, for SQLite has no server.
            Check?.Invoke(session, false).GetAwaiter().GetResult();
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

    // A row that cannot be read is damaged, although Google.Protobuf derives its exception from IOException.
    public override bool IsOutage(Exception fault) =>
        fault
            is SqliteException { SqliteErrorCode: 5 or 6 or 8 or 10 or 13 or 14 }
                or UnauthorizedAccessException
                or IOException
                and not InvalidProtocolBufferException;

    // A command's own content can cause these errors: too big, a constraint, a type or a range.
    public override bool IsDamage(Exception fault) =>
        fault is SqliteException { SqliteErrorCode: not (18 or 19 or 20 or 25) } && !IsOutage(fault);

    // SQLite reports busy and full before it writes anything to the log's end.
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

    // One process has the file, so its lead needs no time: it ends with the process.
    private sealed class Held(string led) : Lead
    {
        private volatile bool _given;

        public override ulong Fence { get; } = Interlocked.Increment(ref _taken);

        public override bool IsHeld => !_given;

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
