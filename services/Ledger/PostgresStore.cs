using System.Collections.Concurrent;
using System.Diagnostics;
using Google.Protobuf;
using Npgsql;

namespace Ministries.Ledger;

/// <summary>A ledger in PostgreSQL: READ COMMITTED, the head row's lock in a statement of its own, rows written as
/// arrays.</summary>
internal sealed class PostgresStore : Store
{
    private readonly PostgresServers _servers;

    /// <summary>Connections to each server.</summary>
    private readonly IReadOnlyList<NpgsqlDataSource> _sources;

    /// <summary>Connections for the committer alone, whose thread waits for each answer. A connection that is only used so waits in the
    /// operating system, not for a pool thread behind all incoming calls.</summary>
    private readonly IReadOnlyList<NpgsqlDataSource> _own;
    private readonly CommitThread _commits;

    /// <summary>When a connection, named by its server's process, was last compared with what was signed or seen.</summary>
    private readonly ConcurrentDictionary<int, long> _checked = [];
    private readonly Action<string>? _progress;
    private readonly TimeProvider _time;
    private readonly TimeSpan _leadTime;

    public PostgresStore(LedgerOptions options)
    {
        (_progress, _time) = (options.Progress, options.Time);
        ArgumentOutOfRangeException.ThrowIfLessThan(options.LeadTime, TimeSpan.FromSeconds(1), nameof(options));
        ArgumentOutOfRangeException.ThrowIfGreaterThan(options.LeadTime, TimeSpan.FromSeconds(10), nameof(options));
        _leadTime = options.LeadTime;
        _commits = new CommitThread(options.CommitPatience);
        var text = new NpgsqlConnectionStringBuilder(options.Connection);
        if (text.MaxPoolSize == 100)
            text.MaxPoolSize = 16;
        // Sessions leave their connection's state unchanged, so it needs no reset. A lead has a connection of its own.
        text.NoResetOnClose = true;
        text.MaxAutoPrepare = 100;
        text.AutoPrepareMinUsages = 2;
        text.CommandTimeout = (int)options.StatementTimeout.TotalSeconds + 5;
        // A statement that is cancelled ends its connection: the cancellation may come late, and would then hit the next statement.
        text.CancellationTimeout = -1;
        var timeout = (long)options.StatementTimeout.TotalMilliseconds;
        // Every statement finds its rows by key. Left to itself the planner, which knows nothing yet of a table that has just grown, reads
        // all of it for the few rows that a batch asks for. And it plans once: otherwise it would rate a plan for arrays of unknown length
        // too low and make the same plan again for each execution.
        var common =
            $"{text.Options} -c enable_hashjoin=off -c enable_mergejoin=off -c enable_seqscan=off -c jit=off "
            + "-c plan_cache_mode=force_generic_plan "
            + $"-c synchronous_commit=on -c default_transaction_isolation=read\\ committed "
            + $"-c idle_in_transaction_session_timeout={timeout} "
            + $"-c lock_timeout={(long)options.LockTimeout.TotalMilliseconds}";
        text.Options = $"{common} -c statement_timeout={timeout}";
        _servers = new PostgresServers(text);
        _sources = [.. _servers.Connections.Select(Source)];
        // The server must not cancel a commit either. The committer's other statements have the client's limit. It is little more than that
        // of waiting for the lock on the head, because nobody writes while one of them waits for a server that hangs.
        text.Options = $"{common} -c statement_timeout=0";
        text.CommandTimeout = (int)options.LockTimeout.TotalSeconds + 1;
        _own = [.. new PostgresServers(text).Connections.Select(Source)];
    }

    /// <summary>A pool whose every new connection is compared with what was signed or seen before anything else is read from it: it may
    /// lead to another server than the one before.</summary>
    private NpgsqlDataSource Source(string connection) =>
        new NpgsqlDataSourceBuilder(connection)
            .ConfigureTracing(Traced)
            .UsePhysicalConnectionInitializer(
                opened => CheckNew(opened, waits: true).GetAwaiter().GetResult(),
                opened => CheckNew(opened, waits: false)
            )
            .Build();

    private async Task CheckNew(NpgsqlConnection opened, bool waits)
    {
        if (Check is not { } check)
            return;
        await check(new PostgresSession(opened, waits), true);
        _checked[opened.ProcessID] = Environment.TickCount64;
    }

    // Only a batch's statements are traced, named by their first word. Reads and polling would flood the traces.
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
        await using var connection = await _sources[await _servers.Primary(cancel)].OpenConnectionAsync(cancel);
        // null: there are no tables; false: they are another role's, which makes them and brings them up to date.
        var (owns, mayMake) = await Rights(connection, cancel);
        if (owns is null && !mayMake)
            throw new LedgerUnavailableException(
                new InvalidOperationException(
                    "the database has no tables, and the role that serves must not make them: `ministry deployment tables` does"
                )
            );
        OwnsTables = owns != false;
        if (OwnsTables)
        {
            await PostgresSchema.Make(connection, service, null, _time, _progress, cancel);
            return;
        }
        if (await PostgresSchema.Find(connection, cancel) is not var (version, found))
            throw new LedgerInconsistentException("the database does not say what its tables are: restore it.");
        CheckSchema(service, version, found);
        if (version < Schema || !await HasLeads(connection, cancel))
            throw new LedgerUnavailableException(
                new InvalidOperationException(
                    $"the database has schema {version} and this software needs {Schema}, and the role that serves must not change tables: "
                        + "`ministry deployment tables` migrates them as their owner, while no service uses them"
                )
            );
    }

    // A database that was made before leads were leases has the same schema without their table.
    private static async Task<bool> HasLeads(NpgsqlConnection connection, CancellationToken cancel)
    {
        await using var ask = new NpgsqlCommand("select to_regclass('leads') is not null", connection);
        return await ask.ExecuteScalarAsync(cancel) is true;
    }

    /// <summary>Whether the role owns the tables, null where there are none, and whether it may make some.</summary>
    private static async Task<(bool? Owns, bool MayMake)> Rights(NpgsqlConnection connection, CancellationToken cancel)
    {
        await using var ask = new NpgsqlCommand(
            "select (select pg_has_role(relowner, 'usage') from pg_class where oid = to_regclass('ledger_schema')), "
                + "has_schema_privilege(current_schema(), 'create')",
            connection
        );
        await using var answer = await ask.ExecuteReaderAsync(cancel);
        await answer.ReadAsync(cancel);
        return (answer.IsDBNull(0) ? null : answer.GetBoolean(0), !answer.IsDBNull(1) && answer.GetBoolean(1));
    }

    public override async Task<Session> Open(bool write, CancellationToken cancel)
    {
        var session = await NewSession(cancel);
        try
        {
            await CheckAgain(session);
            return session;
        }
        catch
        {
            await session.DisposeAsync();
            Forget();
            throw;
        }
    }

    // A server that refuses connections may no longer be the primary.
    private async Task<PostgresSession> NewSession(CancellationToken cancel)
    {
        try
        {
            var server = await _servers.Primary(cancel);
            var replaced = _servers.Replaced(server);
            return new PostgresSession(await _sources[server].OpenConnectionAsync(cancel), waits: false, replaced: replaced);
        }
        catch (Exception e) when (IsOutage(e))
        {
            _servers.Forget();
            throw;
        }
    }

    /// <summary>Looks at a connection again that was used for a while: its server may have been replaced by another one.</summary>
    private async Task CheckAgain(PostgresSession session)
    {
        if (
            Check is not { } check
            || _checked.TryGetValue(session.Process, out var last) && Environment.TickCount64 - last < CheckedFor.TotalMilliseconds
        )
            return;
        await check(session, false);
        _checked[session.Process] = Environment.TickCount64;
    }

    // A commit compares the head that it locked.
    public override Task<Session> OpenWaiting()
    {
        var server = _servers.Primary(default).AsTask().GetAwaiter().GetResult();
        return Task.FromResult<Session>(
            new PostgresSession(
                _own[server].OpenConnection(),
                waits: true,
                new Commits(_commits, waited => _servers.IsReplaced(server, waited))
            )
        );
    }

    public override async Task<Lead?> TryLead(string name, CancellationToken cancel)
    {
        var (holder, asked) = (Guid.NewGuid().ToString("N"), _time.GetTimestamp());
        await using var session = await Open(write: true, cancel);
        return await session.TakeLead(name, holder, _leadTime) is { } fence
            ? new Lease(this, new LeaseMark(name, holder, fence), _leadTime, _time, asked)
            : null;
    }

    public override bool IsOutage(Exception fault) =>
        fault switch
        {
            PostgresException e => e.IsTransient
                || e.Severity is "FATAL" or "PANIC"
                || e.SqlState is PostgresErrorCodes.LockNotAvailable or PostgresErrorCodes.QueryCanceled
                || e.SqlState[..2] is "08" or "25" or "53" or "57" or "58",
            // A row that cannot be read is damaged, although Google.Protobuf derives its exception from IOException.
            IOException and not InvalidProtocolBufferException => true,
            CommitDoubtfulException or NpgsqlException or TimeoutException or System.Net.Sockets.SocketException => true,
            _ => false,
        };

    // A command's own content can cause the errors of these classes: a value, a constraint or a limit. Other classes are the database's
    // fault, such as 42 (a table or a right is missing) and XX (an internal error, or damaged data).
    public override bool IsDamage(Exception fault) =>
        fault is PostgresException e && !IsOutage(e) && e.SqlState[..2] is not ("21" or "22" or "23" or "54");

    // A statement's error ends its transaction; the end of the connection says nothing about it.
    public override bool IsNotCommitted(Exception fault) => fault is PostgresException { Severity: "ERROR" };

    public override void CheckAll() => _checked.Clear();

    public override void Forget()
    {
        _checked.Clear();
        if (!_servers.Forget())
            return;
        foreach (var source in _sources.Concat(_own))
            source.Clear();
    }

    public override async ValueTask DisposeAsync()
    {
        foreach (var source in _sources.Concat(_own))
            await source.DisposeAsync();
        _commits.End();
    }
}
