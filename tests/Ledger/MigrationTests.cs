using System.Text;
using Microsoft.Data.Sqlite;
using Ministries.Errors.V1;
using Ministries.Ledger.V1;
using Npgsql;
using static Ministries.Ledger.Tests.Counting;

namespace Ministries.Ledger.Tests;

public sealed class SqliteMigrationTests : MigrationTests
{
    protected override string Name => "sqlite";

    protected override Engine Engine { get; } = new Sqlite();

    protected override async Task<string> Restore()
    {
        var path = Engine.NewFile("ledger.db");
        await File.WriteAllBytesAsync(path, EarlierLedger.Read("sqlite.db.gz"), Cancel);
        return $"sqlite:{path}";
    }

    protected override async Task<object?> Run(string connection, string sql)
    {
        await using var open = new SqliteConnection($"Data Source={connection["sqlite:".Length..]};Pooling=false");
        await open.OpenAsync(Cancel);
        await using var command = open.CreateCommand();
        command.CommandText = sql;
        return await command.ExecuteScalarAsync(Cancel);
    }

    protected override string TablesAndIndexes =>
        "select group_concat(name, ' ') from (select name from sqlite_master where name not like 'sqlite_%' order by name)";
}

public sealed class PostgresMigrationTests : MigrationTests
{
    protected override string Name => "postgres";

    protected override Engine Engine { get; } = new PostgreSql();

    protected override async Task<string> Restore()
    {
        var connection = await Engine.Create();
        await Run(connection, Encoding.UTF8.GetString(EarlierLedger.Read("postgres.sql.gz")));
        return connection;
    }

    protected override async Task<object?> Run(string connection, string sql)
    {
        await using var open = new NpgsqlConnection(new NpgsqlConnectionStringBuilder(connection) { Pooling = false }.ConnectionString);
        await open.OpenAsync(Cancel);
        await using var command = new NpgsqlCommand(sql, open);
        return await command.ExecuteScalarAsync(Cancel);
    }

    protected override string TablesAndIndexes =>
        "select string_agg(relname, ' ' order by relname) from pg_class where relnamespace = 'public'::regnamespace";

    [Fact]
    public async Task Tables_of_another_role_are_migrated_by_their_owner_and_the_role_that_serves_says_so()
    {
        var (_, owner, serving) = await ServingRoleTests.Roles();
        await Run(owner, Encoding.UTF8.GetString(EarlierLedger.Read("postgres.sql.gz")));
        var role = ServingRoleTests.RoleOf(serving);
        await Run(owner, $"grant select on ledger_schema to {role}");
        var checkpoint = Checkpoint();
        var refused = await Assert.ThrowsAsync<LedgerUnavailableException>(() => ServiceLedger.Open(Options(serving, checkpoint), Cancel));
        Assert.Equal(
            "the database has schema 1 and this software needs 2, and the role that serves must not change tables: "
                + "`ministry deployment tables` migrates them as their owner, while no service uses them",
            refused.InnerException!.Message
        );
        await ServiceLedger.MakeTables(owner, "custody", role, Cancel);
        await using var ledger = await ServiceLedger.Open(Options(serving, checkpoint), Cancel);
        Assert.False(ledger.OwnsTables);
        Assert.Equal(Described(), await EarlierLedger.Describe(ledger, Cancel));
        Assert.True(await ledger.EraseRequest(4, Cancel));
        Assert.Equal(269UL, 1 + (await ledger.Commit(Add("a", "new", "c0"), Cancel)).Position);
    }
}

/// <summary>A ledger of an earlier version of the software is the same ledger after its migration, in other tables.</summary>
public abstract class MigrationTests
{
    protected abstract string Name { get; }

    protected abstract Engine Engine { get; }

    /// <summary>A database as the earlier version left it.</summary>
    protected abstract Task<string> Restore();

    protected abstract Task<object?> Run(string connection, string sql);

    protected abstract string TablesAndIndexes { get; }

    protected static CancellationToken Cancel => TestContext.Current.CancellationToken;

    protected string Checkpoint()
    {
        var path = Engine.NewFile("checkpoint");
        File.WriteAllBytes(path, EarlierLedger.Read($"{Name}.checkpoint"));
        return path;
    }

    protected string Described() => Encoding.UTF8.GetString(EarlierLedger.Read($"{Name}.txt.gz"));

    [Fact]
    public async Task A_ledger_of_schema_1_answers_after_its_migration_as_before()
    {
        var (connection, checkpoint) = (await Restore(), Checkpoint());
        // The second time, there is nothing left to migrate.
        for (var opened = 0; opened < 2; opened++)
        {
            await using var ledger = await ServiceLedger.Open(Options(connection, checkpoint), Cancel);
            Assert.Equal(Described(), await EarlierLedger.Describe(ledger, Cancel));
            await LedgerTests.Audit(ledger);
        }
        var made = await Engine.Create();
        await (await ServiceLedger.Open(Options(made), Cancel)).DisposeAsync();
        Assert.Equal(await Run(made, TablesAndIndexes), await Run(connection, TablesAndIndexes));
        Assert.Equal("2", $"{await Run(connection, "select version from ledger_schema")}");
    }

    [Fact]
    public async Task A_migration_that_takes_long_says_how_far_it_has_come()
    {
        var (lines, options) = (new List<string>(), Options(await Restore(), Checkpoint()));
        await (
            await ServiceLedger.Open(
                new LedgerOptions
                {
                    Service = options.Service,
                    Kinds = options.Kinds,
                    Connection = options.Connection,
                    Key = Key,
                    CheckpointFile = options.CheckpointFile,
                    Time = new Slow(),
                    Progress = lines.Add,
                },
                Cancel
            )
        ).DisposeAsync();
        Assert.Equal(
            [
                "custody: the ledger's tables are migrated from schema 1 to 2: 256 of 268 entries",
                "custody: the ledger's tables are migrated from schema 1 to 2: 268 of 268 entries",
                "custody: the ledger's tables are migrated from schema 1 to 2: the indexes are being made",
            ],
            lines.Select(l => l[..l.LastIndexOf(" (", StringComparison.Ordinal)])
        );
    }

    /// <summary>A clock that advances by three seconds with each reading.</summary>
    private sealed class Slow : TimeProvider
    {
        private long _now;

        public override long TimestampFrequency => 1;

        public override long GetTimestamp() => _now += 3;
    }

    [Fact]
    public async Task A_ledger_of_schema_1_goes_on_where_it_was()
    {
        var (connection, checkpoint) = (await Restore(), Checkpoint());
        await using var ledger = await ServiceLedger.Open(Options(connection, checkpoint), Cancel);
        foreach (var (index, command) in EarlierLedger.Commands.Index())
        {
            var outcome = await ledger.Commit(command, Cancel);
            if (index == EarlierLedger.Commands.Count - 1 || EarlierLedger.Erased.Contains((ulong)index))
                Assert.Equal(Reason.RequestIdReused, outcome.Refusal!.Reason);
            else
                Assert.Equal(((ulong)index, true), (outcome.Position!.Value, outcome.Repeated));
        }
        var size = ledger.Size;
        Assert.Equal(268UL, size);
        // Keys from before the migration can be removed and added.
        var (even, odd) = (await ledger.Count(Kind, ["even"], Cancel), await ledger.Count(Kind, ["odd"], Cancel));
        var (count, events) = ((await ledger.Find(Kind, "c0", null, Cancel))!.State.Sequence, await ledger.CountEvents(Cancel));
        Assert.Equal(count + 1, (await ledger.Commit(Add("p/0", "new", "c0"), Cancel)).CountOf());
        var sign = count % 2 == 0 ? 1 : -1;
        Assert.Equal(
            ((long)even - sign, (long)odd + sign),
            ((long)await ledger.Count(Kind, ["even"], Cancel), (long)await ledger.Count(Kind, ["odd"], Cancel))
        );
        Assert.Equal(events + 1, (await ledger.EventsAfter(events, 10, Cancel)).Single().Number);
        // An entry from before the migration, and one from after it.
        foreach (var position in new ulong[] { 5, size })
        {
            Assert.True(await ledger.EraseRequest(position, Cancel));
            Assert.False(await ledger.EraseRequest(position, Cancel));
            var request = (await ledger.ReadEntry(position, null, Cancel))!.Entry.Parts.Single(p => p.Kind == PartKind.Request);
            Assert.Equal((true, 0, 0), (request.Erased, request.Data.Length, request.Salt.Length));
        }
        Assert.Equal(Reason.RequestIdReused, (await ledger.Commit(Add("p/0", "new", "c0"), Cancel)).Refusal!.Reason);
        await LedgerTests.Audit(ledger);
    }

    [Fact]
    public async Task States_of_before_a_migration_are_rebuilt_by_a_newer_fold_and_listed_under_its_keys()
    {
        var second = Version(2, 10);
        await using var ledger = await ServiceLedger.Open(Options(await Restore(), Checkpoint(), kind: second), Cancel);
        var listed = await ledger.Count(second, ["v1"], Cancel);
        await ledger.Commit(Add("p/0", "new", "c3", kind: second), Cancel);
        Assert.Equal((listed - 1, 1UL), (await ledger.Count(second, ["v1"], Cancel), await ledger.Count(second, ["v2"], Cancel)));
        Assert.Equal(listed, await ledger.Count(second, ["all"], Cancel));
    }

    [Theory]
    [InlineData("delete from parts where position = 200 and kind = 1")]
    [InlineData("delete from requests where request_id = 'r200'")]
    [InlineData("delete from events where number = 200")]
    [InlineData("delete from entries where position = 200")]
    public async Task A_ledger_that_contradicts_itself_is_not_migrated_and_stays_unchanged(string damage)
    {
        var connection = await Restore();
        await Run(connection, damage);
        var before = await Run(connection, TablesAndIndexes);
        var refused = await Assert.ThrowsAsync<LedgerInconsistentException>(() =>
            ServiceLedger.Open(Options(connection, Checkpoint()), Cancel)
        );
        Assert.NotEmpty(refused.Message);
        Assert.Equal(before, await Run(connection, TablesAndIndexes));
        Assert.Equal("1", $"{await Run(connection, "select version from ledger_schema")}");
    }

    [Fact]
    public async Task A_newer_schema_is_refused_by_name_and_left_alone()
    {
        var connection = await Engine.Create();
        var checkpoint = Engine.NewFile("checkpoint");
        await (await ServiceLedger.Open(Options(connection, checkpoint), Cancel)).DisposeAsync();
        await Run(connection, "update ledger_schema set version = 3");
        await Run(connection, "drop table further_events");
        var before = await Run(connection, TablesAndIndexes);
        var refused = await Assert.ThrowsAsync<LedgerInconsistentException>(() =>
            ServiceLedger.Open(Options(connection, checkpoint), Cancel)
        );
        Assert.Equal("the database has schema 3, this software knows 2: start the newer version of the service.", refused.Message);
        Assert.Equal(before, await Run(connection, TablesAndIndexes));
    }

    [Fact]
    public async Task A_ledger_of_schema_1_of_another_service_is_refused_and_not_migrated()
    {
        var connection = await Restore();
        await Run(connection, "update ledger_schema set service = 'consular'");
        await Assert.ThrowsAsync<LedgerInconsistentException>(() => ServiceLedger.Open(Options(connection, Checkpoint()), Cancel));
        Assert.Equal("1", $"{await Run(connection, "select version from ledger_schema")}");
    }
}
