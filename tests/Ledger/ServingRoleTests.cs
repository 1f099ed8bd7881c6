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
    public async Task Tables_that_a_service_uses_are_made_again_when_the_server_gave_up_waiting_for_them()
    {
        var (admin, owner, serving) = await Roles();
        await ServiceLedger.MakeTables(owner, "custody", RoleOf(serving), Cancel);
        await using var user = new NpgsqlConnection(admin);
        await user.OpenAsync(Cancel);
        var transaction = await user.BeginTransactionAsync(Cancel);
        await Sql("lock table tiles in access exclusive mode");
        var impatient = new NpgsqlConnectionStringBuilder(owner) { Options = "-c lock_timeout=100ms", Pooling = false };
        var made = ServiceLedger.MakeTables(impatient.ToString(), "custody", RoleOf(serving), Cancel);
        var tried = new HashSet<int>();
        while (tried.Count < 2)
        {
            Assert.False(made.IsFaulted, made.Exception?.ToString());
            await using var waiting = new NpgsqlCommand(
                "select pid from pg_locks join pg_database d on d.oid = database where not granted and datname = current_database()",
                user
            );
            await using var reader = await waiting.ExecuteReaderAsync(Cancel);
            while (await reader.ReadAsync(Cancel))
                tried.Add(reader.GetInt32(0));
        }
        await transaction.RollbackAsync(Cancel);
        await made;

        async Task Sql(string sql)
        {
            await using var command = new NpgsqlCommand(sql, user);
            await command.ExecuteNonQueryAsync(Cancel);
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

    // For each table that holds what was recorded, a change of one of its columns.
    private static readonly Dictionary<string, string> Recorded = new()
    {
        ["entries"] = "request = null",
        ["further_events"] = "position = 0",
        ["tiles"] = "root = ''",
        ["changes"] = "position = 0",
        ["ledger_schema"] = "version = 99",
    };

    private static string[] AttacksOn(string table, string serving) =>
        [
            $"update {table} set {Recorded[table]}",
            $"delete from {table}",
            $"truncate {table}",
            $"drop table {table}",
            $"alter table {table} add column more int",
            $"alter table {table} owner to {serving}",
            $"alter table {table} disable trigger all",
            $"do $$ begin lock table {table} in access exclusive mode; end $$",
            $"create trigger t before insert on {table} for each row execute function suppress_redundant_updates_trigger()",
            $"create rule r as on insert to {table} do instead nothing",
        ];

    private static string[] OtherAttacks(string owner) =>
        [
            "truncate head",
            "delete from head",
            "delete from streams",
            "truncate cursors",
            "create table more (x int)",
            "create temp table more (x int)",
            "create schema more",
            "drop function erase_request",
            $"set role {owner}",
            "create or replace function erase_request(bigint) returns boolean language sql as 'select true'",
            "alter function erase_request set search_path = public",
            "copy entries to program 'cat'",
            "drop schema public cascade",
            "alter role current_user superuser",
            "set session_replication_role = replica",
        ];

    [Fact]
    public async Task The_role_that_serves_changes_and_deletes_nothing_that_was_recorded()
    {
        var (admin, owner, serving) = await Roles();
        await ServiceLedger.MakeTables(owner, "custody", RoleOf(serving), Cancel);
        await using (var ledger = await ServiceLedger.Open(Options(serving), Cancel))
            await Task.WhenAll(Enumerable.Range(0, 300).Select(i => ledger.Commit(Add("a", $"{i}", "c"), Cancel)));
        const string denied = PostgresErrorCodes.InsufficientPrivilege;
        foreach (var table in Recorded.Keys)
        {
            foreach (var sql in AttacksOn(table, RoleOf(serving)))
                await IsDenied(sql);
            // A grant by a role that may not grant gives a warning and changes nothing.
            await Try(serving, $"grant all on {table} to {RoleOf(serving)}");
            await IsDenied($"delete from {table}");
        }
        foreach (var sql in OtherAttacks(RoleOf(owner)))
            await IsDenied(sql);
        // VACUUM and REINDEX of another role's tables are skipped with a warning, or refused.
        Assert.True(await Try(serving, "vacuum full entries") is null or denied);
        Assert.NotNull(await Try(serving, "reindex table entries"));
        await using (var ledger = await ServiceLedger.Open(Options(serving), Cancel))
            Assert.Equal(300ul, ledger.Size);
        await AnErasureRemovesARequestsContentAndNothingElse(admin, serving);

        async Task IsDenied(string sql)
        {
            var state = await Try(serving, sql);
            Assert.True(state == denied, $"{sql}: {state}");
        }
    }

    // The one function that the serving role may call cannot be misused.
    private static async Task AnErasureRemovesARequestsContentAndNothingElse(string admin, string serving)
    {
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
