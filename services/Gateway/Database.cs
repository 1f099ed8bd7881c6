using System.Collections.Concurrent;
using System.Data.Common;
using System.Globalization;
using Microsoft.Data.Sqlite;
using Ministries.Ledger;

namespace Ministries.Gateway;

/// <summary>
/// An SQLite file of the gateway. One thread writes: it commits the writes that wait together, so that they share one flush to the disk,
/// and answers each after the commit (write-ahead log, <c>synchronous=FULL</c>). Readers have connections of their own.
/// </summary>
internal sealed class Database : IDisposable
{
    private const int Together = 256,
        MaxWaiting = 65_536;

    private readonly BlockingCollection<Work> _work = new(MaxWaiting);
    private readonly string _connection;
    private readonly Thread _thread;
    private bool _disposed;

    private sealed record Work(Func<SqliteConnection, object?> Do, TaskCompletionSource<object?> Done);

    /// <summary>Opens the file, or makes it for its owner alone.</summary>
    /// <param name="path">The file.</param>
    /// <param name="schema">Makes the tables unless they are there.</param>
    /// <exception cref="IOException">It cannot be opened, or would not be written to the disk at each commit.</exception>
    public Database(string path, string schema)
    {
        PrivateFiles.MakeFolder(Path.GetDirectoryName(Path.GetFullPath(path))!);
        if (!File.Exists(path))
            PrivateFiles.Open(path, FileMode.CreateNew).Dispose();
        _connection = new SqliteConnectionStringBuilder
        {
            DataSource = path,
            DefaultTimeout = 30,
            Pooling = true,
        }.ToString();
        SqliteConnection writer;
        try
        {
            writer = Open();
            if (Scalar(writer, "pragma journal_mode = wal") is not "wal" || Scalar(writer, "pragma synchronous") is not 2L)
                throw new IOException($"{path} cannot keep a write-ahead log: put it on a local file system");
            Run(writer, schema);
        }
        catch (SqliteException e)
        {
            throw new IOException($"{path} cannot be opened: {e.Message}", e);
        }
        _thread = new Thread(() => WriteAll(writer)) { IsBackground = true, Name = Path.GetFileName(path) };
        _thread.Start();
    }

    /// <summary>Writes. The task ends after the commit.</summary>
    /// <param name="write">Runs on the thread that writes; it may run a second time if the first was not committed.</param>
    /// <exception cref="SqliteException">It was not written: the disk is full, for example.</exception>
    public async Task<T> Write<T>(Func<SqliteConnection, T> write)
    {
        var done = new TaskCompletionSource<object?>(TaskCreationOptions.RunContinuationsAsynchronously);
        _work.Add(new Work(c => write(c), done));
        return (T)(await done.Task)!;
    }

    /// <inheritdoc cref="Write{T}"/>
    public Task Write(Action<SqliteConnection> write) =>
        Write(c =>
        {
            write(c);
            return true;
        });

    /// <summary>Reads from what is committed.</summary>
    public T Read<T>(Func<SqliteConnection, T> read)
    {
        using var connection = Open();
        Run(connection, "begin");
        try
        {
            return read(connection);
        }
        finally
        {
            Run(connection, "rollback");
        }
    }

    /// <summary>Runs a statement, whose parameters are <c>@0</c>, <c>@1</c> and so on.</summary>
    /// <returns>How many rows it changed.</returns>
    public static int Run(DbConnection connection, string sql, params ReadOnlySpan<object?> values)
    {
        using var command = Command(connection, sql, values);
        return command.ExecuteNonQuery();
    }

    /// <summary>The first value of the first row; null: there is none.</summary>
    public static object? Scalar(DbConnection connection, string sql, params ReadOnlySpan<object?> values)
    {
        using var command = Command(connection, sql, values);
        return command.ExecuteScalar() is { } value and not DBNull ? value : null;
    }

    /// <summary>All rows.</summary>
    public static List<T> Rows<T>(DbConnection connection, Func<DbDataReader, T> read, string sql, params ReadOnlySpan<object?> values)
    {
        using var command = Command(connection, sql, values);
        using var reader = command.ExecuteReader();
        var rows = new List<T>();
        while (reader.Read())
            rows.Add(read(reader));
        return rows;
    }

    /// <summary>A time as it is stored: Unix milliseconds, rounded down.</summary>
    public static long Stored(DateTimeOffset time) => time.ToUnixTimeMilliseconds();

    /// <summary>A stored time.</summary>
    public static DateTimeOffset Time(long stored) => DateTimeOffset.FromUnixTimeMilliseconds(stored);

    /// <inheritdoc/>
    public void Dispose()
    {
        if (Interlocked.Exchange(ref _disposed, true))
            return;
        _work.CompleteAdding();
        _thread.Join();
        _work.Dispose();
        using var connection = new SqliteConnection(_connection);
        SqliteConnection.ClearPool(connection);
    }

    // The texts are constants of this project; values are parameters.
#pragma warning disable CA2100
    internal static DbCommand Command(DbConnection connection, string sql, ReadOnlySpan<object?> values)
    {
        var command = connection.CreateCommand();
        command.CommandText = sql;
        for (var i = 0; i < values.Length; i++)
        {
            var parameter = command.CreateParameter();
            (parameter.ParameterName, parameter.Value) = (string.Create(CultureInfo.InvariantCulture, $"@{i}"), values[i] ?? DBNull.Value);
            command.Parameters.Add(parameter);
        }
        return command;
    }
#pragma warning restore CA2100

    private SqliteConnection Open()
    {
        var connection = new SqliteConnection(_connection);
        connection.Open();
        Run(connection, "pragma synchronous = full");
        return connection;
    }

    private void WriteAll(SqliteConnection connection)
    {
        using (connection)
            while (_work.TryTake(out var first, Timeout.Infinite))
            {
                var batch = new List<Work> { first };
                while (batch.Count < Together && _work.TryTake(out var next))
                    batch.Add(next);
                if (!Commit(connection, batch) && batch.Count > 1)
                    // Whatever fails then fails alone.
                    foreach (var one in batch)
                        Commit(connection, [one]);
            }
    }

    private static bool Commit(SqliteConnection connection, List<Work> batch)
    {
        var results = new object?[batch.Count];
        try
        {
            // Begun by hand: `Command` binds no transaction object.
            Run(connection, "begin immediate");
            for (var i = 0; i < batch.Count; i++)
                results[i] = batch[i].Do(connection);
            Run(connection, "commit");
        }
        catch (Exception e)
        {
            try
            {
                Run(connection, "rollback");
            }
            catch (SqliteException)
            {
                // SQLite has rolled it back itself.
            }
            if (batch.Count == 1)
                batch[0].Done.TrySetException(e);
            return false;
        }
        for (var i = 0; i < batch.Count; i++)
            batch[i].Done.TrySetResult(results[i]);
        return true;
    }
}
