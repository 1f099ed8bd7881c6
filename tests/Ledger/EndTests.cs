using Ministries.Fixtures;
using Npgsql;
using static Ministries.Ledger.Tests.Counting;

namespace Ministries.Ledger.Tests;

/// <summary>Nothing is served from a database that is behind what was signed, though it comes while the service runs.</summary>
public sealed class EndTests
{
    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    private static string NameOf(string connection) => new NpgsqlConnectionStringBuilder(connection).Database!;

    // As after a failover or a restore: connections end, and new ones lead to another database.
    private static async Task Swap(string one, string other)
    {
        var server = await Postgres.Shared;
        var (a, b) = (NameOf(one), NameOf(other));
        await server.Execute($"alter database {a} allow_connections false");
        await server.Execute($"select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = '{a}'");
        await server.Execute($"alter database {a} rename to {a}_kept");
        await server.Execute($"alter database {b} rename to {a}");
        await server.Execute($"alter database {a}_kept rename to {b}");
        await server.Execute($"alter database {b} allow_connections true");
    }

    [Fact]
    public async Task Yesterdays_database_that_comes_under_a_running_service_is_not_served_and_todays_is_again()
    {
        var (connection, checkpoint) = (await (await Postgres.Shared).CreateDatabase(), Engine.NewFile("checkpoint"));
        await using (var yesterday = await ServiceLedger.Open(Options(connection, checkpoint), Cancel))
            await yesterday.Commit(Add("a", "1", "c"), Cancel);
        NpgsqlConnection.ClearAllPools();
        var copy = await (await Postgres.Shared).Copy(connection);
        await using var ledger = await ServiceLedger.Open(Options(connection, checkpoint), Cancel);
        await ledger.Commit(Add("a", "2", "c"), Cancel);
        Assert.Equal(2UL, (await ledger.Find(Kind, "c", null, Cancel))!.State.Sequence);

        await Swap(connection, copy);
        Func<Task>[] uses =
        [
            () => ledger.Find(Kind, "c", null, Cancel),
            () => ledger.List(Kind, [], null, 0, 10, Cancel),
            () => ledger.ReadEntry(0, null, Cancel),
            () => ledger.ReadEntries(0, null, null, 10, Cancel),
            () => ledger.EventsAfter(new Dictionary<string, ulong> { ["ministries.custody.v1.PartyAdmitted"] = 0 }, 10, Cancel),
            () => ledger.FindAnswer("a", "1", "test/Add", Add("a", "1", "c").Bytes, Cancel),
            () => ledger.ReadCursor("relay", Cancel),
            () => ledger.ProveInclusion(0, 0, Cancel),
            () => ledger.ReadCheckpoint(Cancel),
            () => ledger.Commit(Add("a", "1", "c"), Cancel),
            () => ledger.Commit(Add("a", "3", "c"), Cancel),
            () => ledger.TryLead("relay", Cancel),
        ];
        foreach (var use in uses)
            await Assert.ThrowsAsync<LedgerInconsistentException>(use);
        var condition = await ledger.Examine(Cancel);
        // It would take commits, so that is not what is told.
        Assert.Equal((false, true), (condition.IsGood, condition.Writable));
        Assert.StartsWith("the database has 1 entries, and a checkpoint over 2 was signed", condition.Contradiction);

        await Swap(connection, copy);
        Assert.Equal(2UL, (await ledger.Find(Kind, "c", null, Cancel))!.State.Sequence);
        Assert.Equal(3UL, (await ledger.Commit(Add("a", "3", "c"), Cancel)).CountOf());
        Assert.True((await ledger.Examine(Cancel)).IsGood);
        await LedgerTests.Audit(ledger);
    }

    [Fact]
    public async Task A_database_of_another_history_that_is_longer_is_not_served_either()
    {
        var server = await Postgres.Shared;
        var (connection, other) = (await server.CreateDatabase(), await server.CreateDatabase());
        await using (var second = await ServiceLedger.Open(Options(other), Cancel))
            for (var i = 0; i < 3; i++)
                await second.Commit(Add("b", $"{i}", "c"), Cancel);
        NpgsqlConnection.ClearAllPools();
        await using var ledger = await ServiceLedger.Open(Options(connection), Cancel);
        await ledger.Commit(Add("a", "1", "c"), Cancel);
        await Swap(connection, other);
        await Assert.ThrowsAsync<LedgerInconsistentException>(() => ledger.Find(Kind, "c", null, Cancel));
        await Assert.ThrowsAsync<LedgerInconsistentException>(() => ledger.Commit(Add("a", "2", "c"), Cancel));
    }

    [Theory]
    [InlineData("sqlite")]
    [InlineData("postgres")]
    public async Task What_another_replica_signed_counts_for_one_that_is_connected_to_a_server_behind_it(string name)
    {
        Engine engine = name == "sqlite" ? new Sqlite() : new PostgreSql();
        var connection = await engine.Create();
        await using (var first = await ServiceLedger.Open(Options(connection), Cancel))
            await first.Commit(Add("a", "1", "c"), Cancel);
        NpgsqlConnection.ClearAllPools();
        var behind = await engine.Copy(connection);
        await using var one = await ServiceLedger.Open(Options(connection), Cancel);
        await using var two = await ServiceLedger.Open(Options(behind), Cancel);
        await one.Commit(Add("a", "2", "c"), Cancel);
        Assert.Equal(1UL, (await two.Find(Kind, "c", null, Cancel))!.State.Sequence);
        Assert.True(two.See(one.LastSigned!.Text));
        await Assert.ThrowsAsync<LedgerInconsistentException>(() => two.Find(Kind, "c", null, Cancel));
        await Assert.ThrowsAsync<LedgerInconsistentException>(() => two.Commit(Add("a", "2", "c"), Cancel));
        // Nobody can stop a replica with a checkpoint that the log's key did not sign.
        Assert.False(one.See(CheckpointKey.Generate(Key.Name).Sign(9, new byte[32]).Text));
        Assert.Equal(2UL, (await one.Find(Kind, "c", null, Cancel))!.State.Sequence);
    }

    // A ledger with two entries, and a copy of it as it was with the first one.
    private static async Task<(string Connection, string Behind, string Signed)> Grown(Engine engine)
    {
        var connection = await engine.Create();
        await using (var first = await ServiceLedger.Open(Options(connection), Cancel))
            await first.Commit(Add("a", "1", "c"), Cancel);
        NpgsqlConnection.ClearAllPools();
        var behind = await engine.Copy(connection);
        await using var one = await ServiceLedger.Open(Options(connection), Cancel);
        await one.Commit(Add("a", "2", "c"), Cancel);
        return (connection, behind, one.LastSigned!.Text);
    }

    [Theory]
    [InlineData("sqlite")]
    [InlineData("postgres")]
    public async Task What_a_replica_heard_is_known_at_its_next_start_though_nobody_tells_it_again(string name)
    {
        var (connection, behind, signed) = await Grown(name == "sqlite" ? new Sqlite() : new PostgreSql());
        var checkpoint = Engine.NewFile("checkpoint");
        await using (var two = await ServiceLedger.Open(Options(behind, checkpoint), Cancel))
        {
            Assert.Equal(1UL, (await two.Find(Kind, "c", null, Cancel))!.State.Sequence);
            Assert.True(two.See(signed));
            // It tells others what it heard.
            Assert.Equal(signed, two.Known);
        }
        Assert.Equal(signed, ServiceLedger.KnownIn(checkpoint));
        if (!OperatingSystem.IsWindows())
            Assert.Equal(PrivateFiles.Mode, File.GetUnixFileMode($"{checkpoint}.seen"));
        for (var starts = 0; starts < 2; starts++)
        {
            var refused = await Assert.ThrowsAsync<LedgerInconsistentException>(() =>
                ServiceLedger.Open(Options(behind, checkpoint), Cancel)
            );
            Assert.Contains("the database has 1 entries, but a checkpoint over 2 was signed", refused.Message);
        }
        await using var again = await ServiceLedger.Open(Options(connection, checkpoint), Cancel);
        Assert.Equal(2UL, (await again.Find(Kind, "c", null, Cancel))!.State.Sequence);
        // Its own checkpoint tells as much.
        Assert.Equal(2UL, again.LastSigned!.Size);
        Assert.False(File.Exists($"{checkpoint}.seen"));
    }

    /// <summary>Such as one of another replica that was there before keys were changed.</summary>
    [Theory]
    [InlineData(2, true)]
    [InlineData(3, false)]
    public async Task What_was_heard_under_a_key_that_is_not_listed_any_more_counts_for_nothing_once_it_is_overtaken(ulong size, bool opens)
    {
        var (connection, _, _) = await Grown(new Sqlite());
        var checkpoint = Engine.NewFile("checkpoint");
        await (await ServiceLedger.Open(Options(connection, checkpoint), Cancel)).DisposeAsync();
        await File.WriteAllTextAsync($"{checkpoint}.seen", CheckpointKey.Generate(Key.Name).Sign(size, new byte[32]).Text, Cancel);
        var opening = ServiceLedger.Open(Options(connection, checkpoint), Cancel);
        if (!opens)
        {
            await Assert.ThrowsAsync<LedgerInconsistentException>(() => opening);
            return;
        }
        await using var again = await opening;
        Assert.Equal(2UL, again.LastSigned!.Size);
    }

    [Theory]
    [InlineData("sqlite")]
    [InlineData("postgres")]
    public async Task Nothing_is_signed_on_a_database_behind_what_somebody_else_shows_or_of_another_history(string name)
    {
        Engine engine = name == "sqlite" ? new Sqlite() : new PostgreSql();
        var (connection, behind, signed) = await Grown(engine);
        var other = await engine.Create();
        await using (var second = await ServiceLedger.Open(Options(other), Cancel))
            for (var i = 0; i < 3; i++)
                await second.Commit(Add("b", $"{i}", "c"), Cancel);
        var heard = new HeardCheckpoint("the witness w has it", signed);
        foreach (var database in (string[])[behind, other])
        {
            var checkpoint = Engine.NewFile("checkpoint");
            var refused = await Assert.ThrowsAsync<LedgerInconsistentException>(() =>
                ServiceLedger.Open(Options(database, checkpoint, heard: [heard]), Cancel)
            );
            Assert.Contains(heard.By, refused.Message);
            // It knows it from now on, and has signed nothing of its own.
            Assert.Equal(signed, ServiceLedger.KnownIn(checkpoint));
            Assert.Equal(0, new FileInfo(checkpoint).Length);
        }
        // Nobody can keep a replica from starting with a checkpoint that the log's key did not sign.
        HeardCheckpoint[] shown = [heard, new("x", CheckpointKey.Generate(Key.Name).Sign(9, new byte[32]).Text), new("y", "no checkpoint")];
        await using var right = await ServiceLedger.Open(Options(connection, heard: shown), Cancel);
        Assert.Equal(2UL, (await right.Find(Kind, "c", null, Cancel))!.State.Sequence);
    }
}
