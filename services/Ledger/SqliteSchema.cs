namespace Ministries.Ledger;

/// <summary>The tables of a ledger in a SQLite file: those of <see cref="PostgresSchema"/>, with lists of tokens as JSON.</summary>
internal static class SqliteSchema
{
    public const string Schema = """
        create table if not exists ledger_schema (
            one integer primary key check (one = 1), version integer not null, service text not null);
        """;

    /// <summary>The tables that a migration fills, without further indexes, which would slow the writing.</summary>
    public const string Filled = """
        create table if not exists entries (
            position integer primary key, event_number integer, event_sequence integer, event_index integer, participant text not null,
            request_id text not null, digest blob not null, case_id text not null, audience text not null, trace_parent text not null,
            trace_state text not null, event_type text, header blob not null, request_type text not null, request blob,
            parts blob not null);
        create table if not exists further_events (
            number integer primary key, type text not null, sequence integer not null, position integer not null,
            idx integer not null, unique (type, sequence));
        """;

    public const string Tables =
        Filled
        + """
            create table if not exists head (
                one integer primary key check (one = 1), size integer not null, edge blob not null, last_time integer not null,
                streams integer not null, events integer not null);
            insert or ignore into head values (1, 0, x'', 0, 0, 0);
            create unique index if not exists entries_of_request on entries (participant, request_id);
            create unique index if not exists entries_of_event on entries (event_number) where event_number is not null;
            create unique index if not exists entries_of_event_type on entries (event_type, event_sequence)
                where event_type is not null;
            create index if not exists entries_of_case on entries (case_id, position) where case_id <> '';
            create table if not exists streams (
                number integer primary key, kind text not null, key text not null, version integer not null, fold integer not null,
                state blob not null, position integer not null, due integer, audience text not null, keys text not null,
                unique (kind, key));
            create unique index if not exists streams_of_kind on streams (kind, number);
            create index if not exists streams_due on streams (due) where due is not null;
            create table if not exists list_keys (
                kind text not null, token text not null, stream integer not null, primary key (kind, token, stream)) without rowid;
            create table if not exists changes (
                stream integer not null, version integer not null, position integer not null, events text not null,
                primary key (stream, version)) without rowid;
            create table if not exists tiles (
                level integer not null, idx integer not null, hashes blob not null, root blob not null, primary key (level, idx));
            create table if not exists cursors (name text primary key, value integer not null) without rowid;
            """;
}
