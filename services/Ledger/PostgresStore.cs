using System.Diagnostics;
using Npgsql;

namespace Ministries.Ledger;

/// <summary>A ledger in PostgreSQL: READ COMMITTED, the head row's lock in a statement of its own, rows written as
/// arrays.</summary>
internal sealed class PostgresStore : Store
{
    private readonly NpgsqlDataSource _source;

    /// <summary>Connections for the committer alone, whose thread waits for each answer. A connection that is only used so waits in the
    /// operating system, not for a pool thread behind all incoming calls.</summary>
    private readonly NpgsqlDataSource _own;
    private readonly NpgsqlDataSource _unpooled;
    private readonly Action<string>? _progress;
    private readonly TimeProvider _time;

    public PostgresStore(LedgerOptions options)
    {
        (_progress, _time) = (options.Progress, options.Time);
        var text = new NpgsqlConnectionStringBuilder(options.Connection);
        if (text.MaxPoolSize == 100)
            text.MaxPoolSize = 16;
        // Sessions leave their connection's state unchanged, so it needs no reset. A lead has a connection of its own.
        text.NoResetOnClose = true;
        text.MaxAutoPrepare = 100;
        text.AutoPrepareMinUsages = 2;
        text.CommandTimeout = (int)options.StatementTimeout.TotalSeconds + 5;
        var timeout = (long)options.StatementTimeout.TotalMilliseconds;
        // Every statement finds its rows by key. Left to itself the planner, which knows nothing yet of a table that has just grown, reads
        // all of it for the few rows that a batch asks for. And it plans once: otherwise it would rate a plan for arrays of unknown length
        // too low and make the same plan again for each execution.
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
        await using var connection = await _source.OpenConnectionAsync(cancel);
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
        if (version < Schema)
            throw new LedgerUnavailableException(
                new InvalidOperationException(
                    $"the database has schema {version} and this software needs {Schema}, and the role that serves must not change tables: "
                        + "`ministry deployment tables` migrates them as their owner, while no service uses them"
                )
            );
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

    // A statement's error ends its transaction; the end of the connection says nothing about it.
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
                // The lock is released here, because the server may notice the end of the connection late and the next leader need not wait
                // for that.
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
