using Ministries.Errors.V1;
using Ministries.Fixtures;
using Ministries.Ledger.V1;
using Npgsql;
using static Ministries.Ledger.Tests.Counting;

namespace Ministries.Ledger.Tests;

/// <summary>One role makes and owns the tables, another serves from them: whoever has the service's credentials can add to what was
/// recorded, but change nothing of it.</summary>
public sealed class ServingRoleTests
{
    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    /// <summary>A database with its two roles, as deploy/postgres/databases.sh makes them.</summary>
    internal static async Task<(string Admin, string Owner, string Serving)> Roles()
    {
        var server = await Postgres.Shared;
        var admin = await server.CreateDatabase();
        var name = new NpgsqlConnectionStringBuilder(admin).Database!;
        foreach (var role in new[] { name, $"{name}_owner" })
            await server.Execute($"create role {role} login nosuperuser nocreatedb nocreaterole noreplication");
        await server.Execute($"alter database {name} owner to {name}_owner");
        await server.Execute($"revoke all on database {name} from public");
        await server.Execute($"grant connect on database {name} to {name}");
        string As(string role) => new NpgsqlConnectionStringBuilder(admin) { Username = role }.ToString();
        return (admin, As($"{name}_owner"), As(name));
    }

    internal static string RoleOf(string connection) => new NpgsqlConnectionStringBuilder(connection).Username!;

    private static async Task<string?> Try(string connection, string sql)
    {
        try
        {
            await (await Postgres.Shared).Execute(sql, connection);
            return null;
        }
        catch (PostgresException e)
        {
            return e.SqlState;
        }
    }

    [Fact]
    public async Task A_service_does_all_it_does_with_the_role_that_owns_nothing()
    {
        var (_, owner, serving) = await Roles();
        await ServiceLedger.MakeTables(owner, "custody", RoleOf(serving), Cancel);
        // Made again, as at every start of the containers.
        await ServiceLedger.MakeTables(owner, "custody", RoleOf(serving), Cancel);
        var checkpoint = Engine.NewFile("checkpoint");
        await using (var ledger = await ServiceLedger.Open(Options(serving, checkpoint), Cancel))
        {
            Assert.False(ledger.OwnsTables);
            // More than fills a tile.
            await Task.WhenAll(Enumerable.Range(0, 300).Select(i => ledger.Commit(Add("a", $"{i}", $"c{i % 7}"), Cancel)));
            Assert.Equal(300ul, ledger.Size);
            await using (var lead = await ledger.TryLead("relay", Cancel))
                Assert.True(await lead!.Holds(Cancel));
            await ledger.MoveCursor("relay", 5, Cancel);
            await ledger.MoveCursor("relay", 7, Cancel);
            Assert.Equal(7ul, await ledger.ReadCursor("relay", Cancel));
            Assert.True(await ledger.EraseRequest(3, Cancel));
            Assert.False(await ledger.EraseRequest(3, Cancel));
            var part = (await ledger.ReadEntry(3, null, Cancel))!.Entry.Parts.Single(p => p.Kind == PartKind.Request);
            Assert.Equal((true, 0, 0), (part.Erased, part.Data.Length, part.Salt.Length));
        }
        // Another version of the fold rebuilds all states.
        var second = Version(2, 10);
        await using var rebuilt = await ServiceLedger.Open(Options(serving, checkpoint, kind: second), Cancel);
        Assert.NotNull(await rebuilt.Find(second, "c1", null, Cancel));
        Assert.Equal(
            Reason.Unspecified,
            (await rebuilt.Commit(Add("a", "more", "c1", kind: second), Cancel)).Refusal?.Reason ?? Reason.Unspecified
        );
    }

    [Fact]
    public async Task The_role_that_serves_changes_and_deletes_nothing_that_was_recorded()
    {
        var (admin, owner, serving) = await Roles();
        await ServiceLedger.MakeTables(owner, "custody", RoleOf(serving), Cancel);
        await using (var ledger = await ServiceLedger.Open(Options(serving), Cancel))
            await Task.WhenAll(Enumerable.Range(0, 300).Select(i => ledger.Commit(Add("a", $"{i}", "c"), Cancel)));
        const string denied = PostgresErrorCodes.InsufficientPrivilege;
        foreach (var table in new[] { "entries", "further_events", "tiles", "changes", "ledger_schema" })
        {
            var column = table switch
            {
                "entries" => "request = null",
                "tiles" => "root = ''",
                "ledger_schema" => "version = 99",
                _ => "position = 0",
            };
            foreach (
                var sql in new[]
                {
                    $"update {table} set {column}",
                    $"delete from {table}",
                    $"truncate {table}",
                    $"drop table {table}",
                    $"alter table {table} add column more int",
                    $"alter table {table} owner to {RoleOf(serving)}",
                    $"alter table {table} disable trigger all",
                    $"do $$ begin lock table {table} in access exclusive mode; end $$",
                    $"create trigger t before insert on {table} for each row execute function suppress_redundant_updates_trigger()",
                    $"create rule r as on insert to {table} do instead nothing",
                    $"grant all on {table} to {RoleOf(serving)}",
                }
            )
                // A grant by a role that may not grant gives a warning and changes nothing.
                if (await Try(serving, sql) is var state && sql.StartsWith("grant", StringComparison.Ordinal))
                    continue;
                else
                    Assert.True(state == denied, $"{sql}: {state}");
            Assert.Equal(denied, await Try(serving, $"delete from {table}"));
        }
        foreach (
            var sql in new[]
            {
                "truncate head",
                "delete from head",
                "delete from streams",
                "truncate cursors",
                "create table more (x int)",
                "create temp table more (x int)",
                "create schema more",
                "drop function erase_request",
                $"set role {RoleOf(owner)}",
                "create or replace function erase_request(bigint) returns boolean language sql as 'select true'",
                "alter function erase_request set search_path = public",
                "copy entries to program 'cat'",
                "vacuum full entries",
                "reindex table entries",
                "drop schema public cascade",
                "alter role current_user superuser",
                "set session_replication_role = replica",
            }
        )
        {
            var state = await Try(serving, sql);
            // VACUUM and REINDEX of another role's tables are skipped with a warning, or refused.
            Assert.True(
                state == denied
                    || sql.StartsWith("vacuum", StringComparison.Ordinal) && state is null
                    || sql.StartsWith("reindex", StringComparison.Ordinal) && state is not null,
                $"{sql}: {state}"
            );
        }
        // Its one function cannot be misused: an erasure removes a request's content and nothing else.
        await using (var ledger = await ServiceLedger.Open(Options(serving), Cancel))
            Assert.Equal(300ul, ledger.Size);
        Assert.Null(await Try(serving, "select erase_request(5)"));
        Assert.Null(await Try(serving, "select erase_request('6')"));
        Assert.NotNull(await Try(serving, "select erase_request('6 or true')"));
        await using var open = new NpgsqlConnection(admin);
        await open.OpenAsync(Cancel);
        async Task<long> Count(string sql)
        {
            await using var command = new NpgsqlCommand(sql, open);
            return (long)(await command.ExecuteScalarAsync(Cancel))!;
        }
        Assert.Equal(2, await Count("select count(*) from entries where request is null"));
        Assert.Equal(2, await Count("select count(*) from entries where digest = '' and request is null"));
        Assert.Equal(2, await Count("select count(*) from entries where digest = ''"));
        Assert.Equal(0, await Count("select count(*) from entries where parts = '' or request_id = '' or request_type = ''"));
        Assert.Equal(0, await Count("select count(*) from entries where header = ''"));
    }

    [Fact]
    public async Task Without_tables_the_role_that_serves_makes_none_and_says_who_does()
    {
        var (_, _, serving) = await Roles();
        var e = await Assert.ThrowsAsync<LedgerUnavailableException>(() => ServiceLedger.Open(Options(serving), Cancel));
        Assert.Contains("`ministry deployment tables`", e.InnerException!.Message);
    }

    [Fact]
    public async Task One_role_for_both_makes_its_tables_and_is_reported_as_their_owner()
    {
        await using var ledger = await ServiceLedger.Open(Options(await (await Postgres.Shared).CreateDatabase()), Cancel);
        Assert.True(ledger.OwnsTables);
    }
}
