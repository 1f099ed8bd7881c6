using Ministries.Fixtures;
using static Ministries.Ledger.Tests.Counting;

namespace Ministries.Ledger.Tests;

/// <summary>A database that answers but takes no command, because something in it is missing or damaged.</summary>
public sealed class DamageTests
{
    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    public static TheoryData<string, string> Tables
    {
        get
        {
            var tables = new TheoryData<string, string>();
            foreach (var engine in (string[])["sqlite", "postgres"])
            foreach (var table in (string[])["entries", "further_events", "streams", "changes", "list_keys", "tiles", "cursors"])
                tables.Add(engine, table);
            return tables;
        }
    }

    [Theory]
    [MemberData(nameof(Tables))]
    public async Task A_database_without_a_table_that_a_commit_writes_takes_no_commits_and_that_passes(string name, string table)
    {
        Engine engine = name == "sqlite" ? new Sqlite() : new PostgreSql();
        var (connection, clock) = (await engine.Create(), new Clock());
        await using var ledger = await ServiceLedger.Open(Options(connection, time: clock), Cancel);
        await ledger.Commit(Add("a", "1", "c"), Cancel);
        Assert.True((await ledger.Examine(Cancel)).IsGood);
        await engine.Run(connection, $"alter table {table} rename to gone");
        Assert.False((await ledger.Examine(Cancel)).IsGood);
        if (table is "entries" or "streams" or "changes" or "list_keys")
            await Assert.ThrowsAsync<LedgerUnavailableException>(() => ledger.Commit(Add("a", "2", "c"), Cancel));
        Assert.False((await ledger.Examine(Cancel)).IsGood);
        await engine.Run(connection, $"alter table gone rename to {table}");
        // It counts as mended some time after the last failure, or as soon as a command is committed.
        clock.Now += TimeSpan.FromSeconds(10);
        Assert.True((await ledger.Examine(Cancel)).IsGood);
        await ledger.Commit(Add("a", "2", "c"), Cancel);
    }

    [Fact]
    public async Task A_role_that_may_not_write_what_a_commit_writes_takes_no_commits()
    {
        var (_, owner, serving) = await ServingRoleTests.Roles();
        await ServiceLedger.MakeTables(owner, "custody", ServingRoleTests.RoleOf(serving), Cancel);
        await using var ledger = await ServiceLedger.Open(Options(serving), Cancel);
        Assert.True((await ledger.Examine(Cancel)).IsGood);
        var server = await Postgres.Shared;
        await server.Execute($"revoke insert on changes from {ServingRoleTests.RoleOf(serving)}", owner);
        Assert.False((await ledger.Examine(Cancel)).IsGood);
        await server.Execute($"grant insert on changes to {ServingRoleTests.RoleOf(serving)}", owner);
        Assert.True((await ledger.Examine(Cancel)).IsGood);
    }

    // Imitates a damaged page: a change of the row fails with the error that PostgreSQL gives then.
    private const string Damage = """
        create function damaged() returns trigger language plpgsql as $$ begin raise exception 'damaged' using errcode = 'XX001'; end $$;
        create trigger damaged before insert or update on streams for each row execute function damaged()
        """;

    /// <summary>A command that changes nothing, and a scheduled commit without commands, touch less, and succeed.</summary>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_damaged_table_takes_no_commits_until_a_command_is_recorded(bool covered)
    {
        var (engine, clock) = (new PostgreSql(), new SteppedClock());
        var connection = await engine.Create();
        await using var ledger = await ServiceLedger.Open(
            Options(connection, time: clock, cover: covered ? CoverTests.Interval : default),
            Cancel
        );
        await Commit(Add("a", "1", "c"));
        await engine.Run(connection, Damage);
        foreach (var id in (string[])["2", "3"])
            await Assert.ThrowsAsync<LedgerUnavailableException>(() => Commit(Add("a", id, "c")));
        Assert.False((await ledger.Examine(Cancel)).IsGood);
        Assert.NotNull((await Commit(Decides("a", "refused", (_, _) => Refused, storesRefusal: false))).Refusal);
        Assert.True((await Commit(Add("a", "1", "c"))).Repeated);
        if (covered)
            await CoverTests.Tick(ledger, clock);
        Assert.False((await ledger.Examine(Cancel)).IsGood);
        await engine.Run(connection, "drop trigger damaged on streams");
        Assert.False((await ledger.Examine(Cancel)).IsGood);
        await Commit(Add("a", "2", "c"));
        Assert.True((await ledger.Examine(Cancel)).IsGood);

        Task<Outcome> Commit(Command command) => DamageTests.Commit(ledger, command, covered ? clock : null);
    }

    /// <summary>A caller that writes to such a record again and again, as the intake of events does, does not make the service
    /// unready.</summary>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_damaged_record_keeps_only_those_commands_out_that_write_to_it(bool covered)
    {
        var (engine, clock) = (new PostgreSql(), new SteppedClock());
        var connection = await engine.Create();
        await using var ledger = await ServiceLedger.Open(
            Options(connection, time: clock, cover: covered ? CoverTests.Interval : default),
            Cancel
        );
        await Commit(Add("a", "1", "c"));
        await Commit(Add("a", "2", "d"));
        await engine.Run(connection, Damage.Replace("for each row", "for each row when (new.key = 'c')", StringComparison.Ordinal));
        foreach (var id in (string[])["3", "3", "4", "5", "3", "4", "5"])
        {
            await Assert.ThrowsAsync<LedgerUnavailableException>(() => Commit(Add("a", id, "c")));
            Assert.True((await ledger.Examine(Cancel)).IsGood);
            await Commit(Add("b", $"beside {id}", "d"));
        }
        // Two that are new, with none between them that succeeds, look like more than one damaged record.
        foreach (var (id, good) in (IEnumerable<(string, bool)>)[("6", true), ("6", true), ("7", false)])
        {
            await Assert.ThrowsAsync<LedgerUnavailableException>(() => Commit(Add("a", id, "c")));
            Assert.Equal(good, (await ledger.Examine(Cancel)).IsGood);
        }
        // Those that are tried again are no new failures.
        clock.Step(TimeSpan.FromSeconds(9));
        await Assert.ThrowsAsync<LedgerUnavailableException>(() => Commit(Add("a", "6", "c")));
        clock.Step(TimeSpan.FromSeconds(1));
        Assert.True((await ledger.Examine(Cancel)).IsGood);

        Task<Outcome> Commit(Command command) => DamageTests.Commit(ledger, command, covered ? clock : null);
    }

    [Theory]
    [InlineData("sqlite")]
    [InlineData("postgres")]
    public async Task A_record_that_cannot_be_read_keeps_only_those_commands_out_that_need_it(string name)
    {
        Engine engine = name == "sqlite" ? new Sqlite() : new PostgreSql();
        var connection = await engine.Create();
        await using (var before = await ServiceLedger.Open(Options(connection), Cancel))
        {
            await before.Commit(Add("a", "1", "c"), Cancel);
            await before.Commit(Add("a", "2", "d"), Cancel);
        }
        await engine.Run(connection, $"update streams set state = {(name == "sqlite" ? "x'ff'" : @"'\xff'")} where key = 'c'");
        await using var ledger = await ServiceLedger.Open(Options(connection), Cancel);
        var (damaged, beside) = (ledger.Commit(Add("a", "3", "c"), Cancel), ledger.Commit(Add("b", "1", "d"), Cancel));
        await Assert.ThrowsAsync<CommandFailedException>(() => damaged);
        Assert.Null((await beside).Refusal);
        Assert.True((await ledger.Examine(Cancel)).IsGood);
    }

    /// <summary>No caller can make a service seem unable to commit by the content that it sends.</summary>
    [Fact]
    public async Task A_command_that_the_database_refuses_for_what_it_says_shows_no_damage()
    {
        var engine = new PostgreSql();
        await using var ledger = await ServiceLedger.Open(Options(await engine.Create()), Cancel);
        await Assert.ThrowsAsync<CommandFailedException>(() => ledger.Commit(Add("a", "1", "c", @case: "case\0"), Cancel));
        Assert.True((await ledger.Examine(Cancel)).IsGood);
        await ledger.Commit(Add("a", "2", "c"), Cancel);
    }

    // Where commits are covered, the clock leads to the next one.
    private static async Task<Outcome> Commit(ServiceLedger ledger, Command command, SteppedClock? covered)
    {
        var outcome = ledger.Commit(command, Cancel);
        if (covered is not null)
            await CoverTests.Tick(ledger, covered);
        return await outcome;
    }
}
