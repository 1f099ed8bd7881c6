using System.Data.Common;
using Ministries.Ledger;
using Npgsql;

namespace Ministries.Gateway;

/// <summary>Where the mirror's tables are. Both engines take the same statements: here is only how they are reached.</summary>
internal abstract class MirrorDatabase : IDisposable
{
    /// <summary>What a fault's message calls it: the setting, or the file.</summary>
    public abstract string Name { get; }

    /// <summary>Its engine, as <c>/status</c> says it.</summary>
    public abstract string Engine { get; }

    /// <summary>Whether it is another thing than the state folder, so that one may be lost, or put back, without the other.</summary>
    public abstract bool IsApart { get; }

    /// <summary>What a statement ends with that locks the rows that it reads.</summary>
    public abstract string ForUpdate { get; }

    /// <summary>Opens the connection that writes, which no other gateway has while it is open, and makes the tables.</summary>
    /// <param name="schema">Makes them.</param>
    /// <param name="cancel">Ends it.</param>
    /// <exception cref="FormatException">Another gateway writes there, or the role may not do what it must.</exception>
    /// <exception cref="DbException">It is not reached.</exception>
    public abstract Task Open(string schema, CancellationToken cancel);

    /// <summary>Closes that connection. What was not committed is undone.</summary>
    public abstract Task Close();

    /// <summary>Writes in one transaction, all or nothing. What an exception leaves open is seen after the next opening.</summary>
    public abstract Task<T> Write<T>(Func<DbConnection, Task<T>> write, CancellationToken cancel);

    /// <summary>Reads from what is committed.</summary>
    public abstract Task<T> Read<T>(Func<DbConnection, Task<T>> read, CancellationToken cancel);

    /// <inheritdoc/>
    public abstract void Dispose();

    /// <summary>Runs a statement, whose parameters are <c>@0</c>, <c>@1</c> and so on.</summary>
    public static async Task Run(DbConnection connection, string sql, params object?[] values)
    {
        await using var command = Database.Command(connection, sql, values);
        await command.ExecuteNonQueryAsync();
    }

    /// <summary>All rows.</summary>
    public static async Task<List<T>> Rows<T>(DbConnection connection, Func<DbDataReader, T> read, string sql, params object?[] values)
    {
        await using var command = Database.Command(connection, sql, values);
        await using var reader = await command.ExecuteReaderAsync();
        var rows = new List<T>();
        while (await reader.ReadAsync())
            rows.Add(read(reader));
        return rows;
    }

    /// <summary>Adds rows, many with one statement: a database across a network answers each statement late.</summary>
    /// <param name="connection">The connection.</param>
    /// <param name="into">The table, and its columns.</param>
    /// <param name="rows">The rows, as many values in each as there are columns.</param>
    /// <param name="otherwise">What happens to a row that is already there.</param>
    public static async Task Add(DbConnection connection, string into, IEnumerable<object?[]> rows, string otherwise = "")
    {
        foreach (var some in rows.Chunk(100))
        {
            var width = some[0].Length;
            var places = some.Select((_, r) => $"({string.Join(", ", Enumerable.Range(r * width, width).Select(i => $"@{i}"))})");
            await Run(connection, $"insert into {into} values {string.Join(", ", places)} {otherwise}", [.. some.SelectMany(r => r)]);
        }
    }
}

/// <summary>The mirror's tables in an SQLite file of the state folder, which one gateway alone uses (<see cref="StateLock"/>).</summary>
/// <param name="file">The file.</param>
/// <param name="name">Its path.</param>
internal sealed class SqliteMirror(Database file, string name) : MirrorDatabase
{
    /// <inheritdoc/>
    public override string Name => name;

    /// <inheritdoc/>
    public override string Engine => "sqlite";

    /// <inheritdoc/>
    public override bool IsApart => false;

    /// <inheritdoc/>
    public override string ForUpdate => "";

    /// <inheritdoc/>
    public override Task Open(string schema, CancellationToken cancel) => file.Write(c => Database.Run(c, schema));

    /// <inheritdoc/>
    public override Task Close() => Task.CompletedTask;

    // SQLite has no answer to wait for: its asynchronous calls end where they begin.
    /// <inheritdoc/>
    public override Task<T> Write<T>(Func<DbConnection, Task<T>> write, CancellationToken cancel) =>
        file.Write(c => write(c).GetAwaiter().GetResult());

    /// <inheritdoc/>
    public override Task<T> Read<T>(Func<DbConnection, Task<T>> read, CancellationToken cancel) =>
        Task.FromResult(file.Read(c => read(c).GetAwaiter().GetResult()));

    /// <inheritdoc/>
    public override void Dispose()
    {
        // The file is of who opened it.
    }
}

/// <summary>
/// The mirror's tables in PostgreSQL. One connection writes, and holds an advisory lock of the schema as long as it lives. So no two
/// gateways write there, and a gateway that lost its connection has lost the right to write with it.
/// </summary>
internal sealed class PostgresMirror : MirrorDatabase
{
    private const string Setting = "mirror.connection";

    /// <summary>How many connections may read at a time.</summary>
    private const int Readers = 16;

    // How long a connection may take to open; an answer; a lock that another holds. A server that has gone is noticed by then, too. The
    // server notices after 5 s that a gateway's machine is gone or cut off: it says nothing, and its lock would stay.
    private const int OpenSeconds = 5,
        AnswerSeconds = 15;

    private const string Limits =
        "-c synchronous_commit=on -c lock_timeout=5000 -c statement_timeout=15000 -c idle_in_transaction_session_timeout=15000 "
        + "-c tcp_keepalives_idle=2 -c tcp_keepalives_interval=1 -c tcp_keepalives_count=3";

    private readonly PostgresServers _servers;
    private readonly IReadOnlyList<NpgsqlDataSource> _readers;
    private NpgsqlConnection? _writer;
    private int _server;

    private PostgresMirror(NpgsqlConnectionStringBuilder text)
    {
        (text.Timeout, text.CommandTimeout, text.MaxPoolSize) = (OpenSeconds, AnswerSeconds, Readers);
        // A server that hangs does not answer a cancellation either.
        text.CancellationTimeout = -1;
        text.Options = $"{text.Options} {Limits}";
        _servers = new PostgresServers(text);
        _readers = [.. _servers.Connections.Select(NpgsqlDataSource.Create)];
    }

    /// <summary>Checks a connection string, and where its server is reached, whether it can hold a mirror.</summary>
    /// <exception cref="FormatException">It cannot.</exception>
    public static async Task<PostgresMirror> Make(string connection)
    {
        if (await LedgerConnection.Faults(connection, Faults, CancellationToken.None) is [var fault, ..])
            throw new FormatException($"{Setting}: {fault}");
        return new PostgresMirror(new NpgsqlConnectionStringBuilder(connection));
    }

    /// <inheritdoc/>
    public override string Name => Setting;

    /// <inheritdoc/>
    public override string Engine => "postgresql";

    /// <inheritdoc/>
    public override bool IsApart => true;

    /// <inheritdoc/>
    public override string ForUpdate => " for update";

    /// <inheritdoc/>
    public override async Task Open(string schema, CancellationToken cancel)
    {
        try
        {
            _server = await _servers.Primary(cancel);
            _writer = new NpgsqlConnection(
                new NpgsqlConnectionStringBuilder(_servers.Connections[_server]) { Pooling = false }.ConnectionString
            );
            await _writer.OpenAsync(cancel);
            if (await Faults(_writer, cancel) is [var fault, ..])
                throw new FormatException($"{Setting}: {fault}");
            await Run(_writer, "select pg_advisory_lock(1835627634, hashtext(current_schema()))");
            if ((await Rows(_writer, r => r.GetBoolean(0), "select to_regclass('mirror_head') is null"))[0])
                await Run(_writer, schema);
        }
        catch (PostgresException e) when (e.SqlState == PostgresErrorCodes.LockNotAvailable)
        {
            throw new FormatException($"{Setting}: another gateway writes in this database", e);
        }
    }

    /// <inheritdoc/>
    public override async Task Close()
    {
        if (Interlocked.Exchange(ref _writer, null) is not { } writer)
            return;
        await writer.DisposeAsync();
        if (!_servers.Forget())
            return;
        foreach (var source in _readers)
            source.Clear();
    }

    /// <inheritdoc/>
    public override async Task<T> Write<T>(Func<DbConnection, Task<T>> write, CancellationToken cancel)
    {
        var writer = _writer ?? throw new NpgsqlException("the connection is closed");
        await using var transaction = await writer.BeginTransactionAsync(cancel);
        var result = await write(writer);
        // Not cancelled: then nobody would know whether it is done.
        await transaction.CommitAsync(CancellationToken.None);
        return result;
    }

    /// <inheritdoc/>
    public override async Task<T> Read<T>(Func<DbConnection, Task<T>> read, CancellationToken cancel)
    {
        await using var connection = await _readers[_server].OpenConnectionAsync(cancel);
        return await read(connection);
    }

    /// <inheritdoc/>
    public override void Dispose()
    {
        _writer?.Dispose();
        foreach (var source in _readers)
            source.Dispose();
    }

    // Faults that another attempt does not mend.
    private static async Task<IReadOnlyList<string>> Faults(NpgsqlConnection open, CancellationToken cancel)
    {
        await using var ask = new NpgsqlCommand(
            """
            select current_user::text, current_schema()::text, to_regclass('ledger_schema') is not null, to_regclass('mirror_head') is not null,
              coalesce(has_schema_privilege(current_schema(), 'create'), false),
              (select bool_and(has_table_privilege(to_regclass(t)::oid, p)) from
                unnest(array['mirror_head', 'mirror_numbers', 'mirror_entries', 'mirror_events', 'mirror_records']) t
                cross join unnest(array['select', 'insert', 'update']) p)
            """,
            open
        );
        await using var answer = await ask.ExecuteReaderAsync(cancel);
        await answer.ReadAsync(cancel);
        var role = answer.GetString(0);
        if (answer.IsDBNull(1))
            return [LedgerConnection.NoSchema(role)];
        if (answer.GetBoolean(2))
            return ["the database holds a service's ledger: the mirror needs one of its own"];
        if (!answer.GetBoolean(3) && !answer.GetBoolean(4))
            return [$"the database has no tables of a mirror, and the role {role} may not make them: grant it CREATE on the schema"];
        if (answer.GetBoolean(3) && (answer.IsDBNull(5) || !answer.GetBoolean(5)))
            return [$"the role {role} may not read and write the mirror's tables: they are another role's"];
        return [];
    }
}
