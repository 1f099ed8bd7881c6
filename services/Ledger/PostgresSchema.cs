using System.Data;
using Npgsql;

namespace Ministries.Ledger;

/// <summary>The tables of a ledger in PostgreSQL, and what the serving role may do with them if it does not own them.</summary>
internal static class PostgresSchema
{
    private const string Schema = """
        create table if not exists ledger_schema (
            one boolean primary key default true check (one), version int not null, service text not null)
        """;

    // A row of up to 8 KB stays whole in its page, here and in `streams`. Sealed data cannot be compressed, and trying costs as much as
    // writing them.
    private const string Entries = """
        create table if not exists entries (
            position bigint primary key, event_number bigint, event_sequence bigint, event_index int, participant text not null,
            request_id text not null, digest bytea not null, case_id text not null, audience text[] not null,
            trace_parent text not null, trace_state text not null, event_type text, header bytea not null,
            request_type text not null, request bytea, parts bytea not null) with (toast_tuple_target = 8160)
        """;

    private const string FurtherEvents = """
        create table if not exists further_events (
            number bigint primary key, type text not null, sequence bigint not null, position bigint not null, index int not null,
            unique (type, sequence))
        """;

    private static readonly string[] Tables =
    [
        """
            create table if not exists head (
                one boolean primary key default true check (one), size bigint not null, edge bytea not null,
                last_time bigint not null, streams bigint not null, events bigint not null)
            """,
        "insert into head (size, edge, last_time, streams, events) values (0, '', 0, 0, 0) on conflict do nothing",
        Entries,
        "create unique index if not exists entries_of_request on entries (participant, request_id)",
        "create unique index if not exists entries_of_event on entries (event_number) where event_number is not null",
        "create unique index if not exists entries_of_event_type on entries (event_type, event_sequence) where event_type is not null",
        "create index if not exists entries_of_case on entries (case_id, position) where case_id <> ''",
        FurtherEvents,
        """
            create table if not exists streams (
                number bigint not null, kind text not null, key text not null, version bigint not null, fold int not null,
                state bytea not null, position bigint not null, due bigint, audience text[] not null, keys text[] not null,
                primary key (kind, number), unique (kind, key)) with (toast_tuple_target = 8160)
            """,
        "create index if not exists streams_due on streams (due) where due is not null",
        """
            create table if not exists list_keys (
                kind text not null, token text not null, stream bigint not null, primary key (kind, token, stream))
            """,
        """
            create table if not exists changes (
                stream bigint not null, version bigint not null, position bigint not null, events text not null,
                primary key (stream, version))
            """,
        """
            create table if not exists tiles (
                level smallint not null, index bigint not null, hashes bytea not null, root bytea not null,
                primary key (level, index))
            """,
        "alter table tiles alter column hashes set storage external",
        "create table if not exists cursors (name text primary key, value bigint not null)",
        """
            create table if not exists leads (
                name text primary key, holder text not null, fence bigint not null, until timestamptz not null)
            """,
    ];

    // What the serving role may do if the tables belong to another role: it changes only the head, states and cursors, and deletes only the
    // keys of lists.
    private static readonly string[] Grants =
    [
        "revoke all on schema {0} from public",
        "grant usage on schema {0} to {1}",
        "revoke all on all tables in schema {0} from public, {1}",
        "revoke all on function {0}.erase_request from public",
        "grant select on ledger_schema to {1}",
        "grant select, insert on entries, further_events, changes, tiles to {1}",
        "grant select, update on head to {1}",
        "grant select, insert, update on streams, cursors, leads to {1}",
        "grant select, insert, delete on list_keys to {1}",
        "grant execute on function {0}.erase_request to {1}",
    ];

    // The only change of recorded data. The function runs with the rights of the tables' owner and can do nothing else. With a request, it
    // also erases the requests that opened its sealed data to others, because they hold secrets of the data. States that were folded with
    // the request are emptied, and folded again without it at their next use. The head's time moves by a tick (100 ns), which tells every
    // replica that states in its memory may hold erased data.
    private const string Erasure = """
        create or replace function {0}.erase_request(at_position bigint) returns boolean
        language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
        declare
            fallen bigint[];
        begin
            perform 1 from {0}.head for update;
            with erased as (
                update {0}.entries set request = null, digest = '' where request is not null and (position = at_position or position in (
                    select c.position from {0}.streams s join {0}.changes c on c.stream = s.number
                    where s.kind = '{1}' and s.key = at_position::text))
                returning position)
            select array_agg(position) into fallen from erased;
            if fallen is null then
                return false;
            end if;
            update {0}.streams set fold = 0, state = '' where number in (
                select c.stream from {0}.changes c where c.position = any (fallen));
            update {0}.head set last_time = last_time + 1;
            return true;
        end $$
        """;

    /// <summary>Makes the tables, or brings them up to date, and lets a role serve from them that does not own them.</summary>
    /// <param name="connection">A connection of their owner.</param>
    /// <param name="service">Whose ledger it is.</param>
    /// <param name="serving">The role that serves; null: the owner itself.</param>
    /// <param name="time">The clock.</param>
    /// <param name="progress">Receives lines about the progress of a long migration; null: nobody does.</param>
    /// <param name="cancel">Ends it; nothing is done then.</param>
    /// <exception cref="LedgerInconsistentException">The database has a newer schema, is another service's, or cannot be migrated.
    /// </exception>
    public static async Task Make(
        NpgsqlConnection connection,
        string service,
        string? serving,
        TimeProvider time,
        Action<string>? progress,
        CancellationToken cancel
    )
    {
        await using var transaction = await connection.BeginTransactionAsync(IsolationLevel.ReadCommitted, cancel);
        await Run("select pg_advisory_xact_lock(hashtextextended('ministries ledger schema', 0))");
        await Run(Schema);
        if (await Find(connection, cancel) is var (version, found))
        {
            Store.CheckSchema(service, version, found);
            if (version < Store.Schema)
                await new PostgresMigration(connection, new PostgresSession(connection, waits: false), cancel).Run(
                    service,
                    version,
                    time,
                    progress
                );
        }
        foreach (var sql in Tables)
            await Run(sql);
        var (schema, role) = await Quoted(connection, serving ?? "", cancel);
        await Run(Erasure.Replace("{0}", schema).Replace("{1}", Shares.StreamName));
        if (serving is not null)
            foreach (var grant in Grants)
                await Run(grant.Replace("{0}", schema).Replace("{1}", role));
        await Run(
            "insert into ledger_schema (version, service) values ($1, $2) on conflict (one) do update set version = excluded.version "
                + "where ledger_schema.version < excluded.version",
            Store.Schema,
            service
        );
        await transaction.CommitAsync(cancel);

        async Task Run(string sql, params object[] values)
        {
            // No time limit, because making an index of a large ledger takes longer than any other statement.
            await using var command = new NpgsqlCommand(sql, connection) { CommandTimeout = 0 };
            foreach (var value in values)
                command.Parameters.Add(new NpgsqlParameter { Value = value });
            await command.ExecuteNonQueryAsync(cancel);
        }
    }

    /// <summary>The schema that the database has, and whose ledger it is; null: it has none yet.</summary>
    public static async Task<(int Version, string Service)?> Find(NpgsqlConnection connection, CancellationToken cancel)
    {
        await using var select = new NpgsqlCommand("select version, service from ledger_schema", connection);
        await using var reader = await select.ExecuteReaderAsync(cancel);
        return await reader.ReadAsync(cancel) ? (reader.GetInt32(0), reader.GetString(1)) : null;
    }

    /// <summary>The tables that a migration fills, without further indexes, which would slow the writing.</summary>
    public static IReadOnlyList<string> Filled => [Entries, FurtherEvents];

    private static async Task<(string Schema, string Role)> Quoted(NpgsqlConnection connection, string role, CancellationToken cancel)
    {
        await using var select = new NpgsqlCommand("select quote_ident(current_schema()), quote_ident($1)", connection)
        {
            Parameters = { new() { Value = role } },
        };
        await using var reader = await select.ExecuteReaderAsync(cancel);
        await reader.ReadAsync(cancel);
        return (reader.GetString(0), reader.GetString(1));
    }
}
