using System.Data.Common;
using Npgsql;

namespace Ministries.Ledger;

/// <summary>Checks <see cref="LedgerOptions.Connection"/>, or another connection to PostgreSQL, before something is opened with it.
/// </summary>
public static class LedgerConnection
{
    // This is longer than a running server needs to answer. If no server answers, the settings are not at fault.
    private const int Seconds = 5;

    /// <summary>What is wrong with the connection for good, so that another attempt is of no use; empty: nothing is, or the server cannot
    /// be reached now. It names no password.</summary>
    /// <param name="connection">A Npgsql connection string.</param>
    /// <param name="cancel">Ends it.</param>
    public static Task<IReadOnlyList<string>> Faults(string connection, CancellationToken cancel) => Faults(connection, OfRole, cancel);

    /// <summary>As the other, for a database that holds no ledger.</summary>
    /// <param name="connection">A Npgsql connection string.</param>
    /// <param name="ofRole">What is wrong for good with what the role may do there.</param>
    /// <param name="cancel">Ends it.</param>
    internal static async Task<IReadOnlyList<string>> Faults(
        string connection,
        Func<NpgsqlConnection, CancellationToken, Task<IReadOnlyList<string>>> ofRole,
        CancellationToken cancel
    )
    {
        NpgsqlConnectionStringBuilder text;
        try
        {
            text = new NpgsqlConnectionStringBuilder(connection);
        }
        catch (Exception e) when (e is ArgumentException or FormatException or InvalidCastException)
        {
            return [Unreadable(connection)];
        }
        if (string.IsNullOrEmpty(text.Host))
            return ["the connection string names no Host"];
        (text.Pooling, text.Timeout, text.CommandTimeout) = (false, Seconds, Seconds);
        try
        {
            await using var open = new NpgsqlConnection(text.ConnectionString);
            await open.OpenAsync(cancel);
            return await ofRole(open, cancel);
        }
        // The server refuses the role, its password, the database, or the role's right to it.
        catch (PostgresException e) when (e.SqlState[..2] is "28" or "3D" or "3F" or "42")
        {
            return [$"the database refuses: {e.MessageText} ({e.SqlState})"];
        }
        catch (Exception e) when (e is ArgumentException or NotSupportedException)
        {
            return [$"the connection string is refused: {e.Message}"];
        }
        catch (Exception e) when (e is NpgsqlException or TimeoutException or IOException or System.Net.Sockets.SocketException)
        {
            return [];
        }
    }

    /// <summary>What is told of a role that finds no schema.</summary>
    internal static string NoSchema(string role) =>
        $"the role {role} finds no schema: its search_path names none that exists and that it may use";

    private static async Task<IReadOnlyList<string>> OfRole(NpgsqlConnection open, CancellationToken cancel)
    {
        await using var ask = new NpgsqlCommand(
            "select current_user::text, current_schema()::text, to_regclass('ledger_schema') is not null, "
                + "coalesce(has_schema_privilege(current_schema(), 'create'), false)",
            open
        );
        await using var answer = await ask.ExecuteReaderAsync(cancel);
        await answer.ReadAsync(cancel);
        var role = answer.GetString(0);
        if (answer.IsDBNull(1))
            return [NoSchema(role)];
        if (!answer.GetBoolean(2) && !answer.GetBoolean(3))
            return
            [
                $"the database has no tables, and the role {role}, which serves, must not make them: `ministry deployment tables` does",
            ];
        return [];
    }

    // Values are never reported. An unknown keyword may be the rest of a password that is not quoted, so only a short one of letters is
    // named.
    private static string Unreadable(string connection)
    {
        const string advice = "the connection string cannot be read";
        try
        {
            var known = new NpgsqlConnectionStringBuilder();
            foreach (string keyword in new DbConnectionStringBuilder { ConnectionString = connection }.Keys)
                if (!known.ContainsKey(keyword))
                    return keyword.All(c => char.IsAsciiLetter(c) || c == ' ') && keyword.Length <= 40
                        ? $"{advice}: Npgsql knows no keyword '{keyword}'"
                        : $"{advice}: Npgsql does not know one of its keywords (a value with ; or = must be quoted)";
        }
        catch (ArgumentException)
        {
            return $"{advice}: it is not of the form Host=…;Username=…";
        }
        return $"{advice}: one of its values is not of its keyword's kind";
    }
}
