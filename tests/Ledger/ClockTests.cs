using static Ministries.Ledger.Tests.Counting;

namespace Ministries.Ledger.Tests;

/// <summary>A clock that disagrees with the time that only goes forward, with the database's or with the ledger commits nothing.</summary>
public sealed class ClockTests
{
    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    /// <summary>A clock that can be set apart from the time that only goes forward.</summary>
    private sealed class Settable(DateTimeOffset start) : TimeProvider
    {
        public TimeSpan Ran { get; set; } = TimeSpan.Zero;

        public TimeSpan Set { get; set; } = TimeSpan.Zero;

        public override DateTimeOffset GetUtcNow() => start + Ran + Set;

        public override long TimestampFrequency => TimeSpan.TicksPerSecond;

        public override long GetTimestamp() => TimeSpan.TicksPerDay + Ran.Ticks;
    }

    private static readonly DateTimeOffset Start = new(2026, 3, 17, 9, 0, 0, TimeSpan.Zero);

    [Theory]
    [InlineData("sqlite")]
    [InlineData("postgres")]
    public async Task A_clock_that_is_ahead_for_some_seconds_dates_no_entry(string name)
    {
        Engine engine = name == "sqlite" ? new Sqlite() : new PostgreSql();
        var clock = new Settable(Start);
        await using var ledger = await ServiceLedger.Open(Options(await engine.Create(), time: clock), Cancel);
        await ledger.Commit(Add("a", "1", "c"), Cancel);
        clock.Ran += TimeSpan.FromSeconds(1);
        clock.Set = TimeSpan.FromDays(30);
        // No duty may be looked for either.
        Assert.Contains("jumped by 2592000 s", ledger.ClockFault);
        var refused = await Assert.ThrowsAsync<ClockNotTrustedException>(() => ledger.Commit(Add("a", "2", "c"), Cancel));
        Assert.Contains("jumped by 2592000 s", refused.Message);
        Assert.False((await ledger.Examine(Cancel)).IsGood);
        clock.Ran += TimeSpan.FromSeconds(12);
        await Assert.ThrowsAsync<ClockNotTrustedException>(() => ledger.Commit(Add("a", "2", "c"), Cancel));
        // Then it is right again, and so is the next entry's time.
        clock.Set = TimeSpan.Zero;
        var outcome = await ledger.Commit(Add("a", "2", "c"), Cancel);
        Assert.Equal(Start + TimeSpan.FromSeconds(13), outcome.Time);
        Assert.Null(ledger.ClockFault);
        Assert.True((await ledger.Examine(Cancel)).IsGood);
        await LedgerTests.Audit(ledger);
    }

    [Fact]
    public async Task A_clock_that_is_set_back_commits_nothing_and_small_corrections_are_followed()
    {
        var clock = new Settable(Start);
        await using var ledger = await ServiceLedger.Open(Options(await new Sqlite().Create(), time: clock), Cancel);
        for (var i = 0; i < 5; i++)
        {
            clock.Set += TimeSpan.FromSeconds(1.9);
            await ledger.Commit(Add("a", $"{i}", "c"), Cancel);
        }
        clock.Set -= TimeSpan.FromSeconds(2.1);
        await Assert.ThrowsAsync<ClockNotTrustedException>(() => ledger.Commit(Add("a", "more", "c"), Cancel));
    }

    [Fact]
    public async Task A_clock_that_is_not_the_databases_commits_nothing()
    {
        var connection = await new PostgreSql().Create();
        var now = DateTimeOffset.UtcNow;
        await using var ledger = await Open(new Settable(now + TimeSpan.FromMinutes(10)));
        var refused = await Assert.ThrowsAsync<ClockNotTrustedException>(() => ledger.Commit(Add("a", "1", "c"), Cancel));
        Assert.Contains("the database's differ by", refused.Message);
        var condition = await ledger.Examine(Cancel);
        Assert.Contains("the database's differ by", condition.Clock);
        await using var right = await ServiceLedger.Open(Options(connection), Cancel);
        await right.Commit(Add("a", "1", "c"), Cancel);
        Assert.True((await right.Examine(Cancel)).IsGood);

        Task<ServiceLedger> Open(TimeProvider time)
        {
            var options = Options(connection);
            return ServiceLedger.Open(
                new LedgerOptions
                {
                    Service = options.Service,
                    Kinds = options.Kinds,
                    Connection = options.Connection,
                    Key = options.Key,
                    CheckpointFile = options.CheckpointFile,
                    Time = time,
                },
                Cancel
            );
        }
    }

    [Fact]
    public void A_step_that_the_database_confirms_for_a_minute_is_followed()
    {
        var clock = new Settable(Start);
        var guard = new ClockGuard(clock, compares: true);
        clock.Set = TimeSpan.FromSeconds(30);
        for (var i = 0; i < 6; i++)
        {
            Assert.NotNull(guard.Look(clock.GetUtcNow(), clock.GetUtcNow(), 0));
            clock.Ran += TimeSpan.FromSeconds(10);
        }
        Assert.Null(guard.Look(clock.GetUtcNow(), clock.GetUtcNow(), 0));
        // A step back within the minute begins a new minute.
        clock.Set = TimeSpan.FromSeconds(60);
        Assert.NotNull(guard.Look(clock.GetUtcNow(), clock.GetUtcNow(), 0));
        clock.Ran += TimeSpan.FromSeconds(50);
        clock.Set = TimeSpan.FromSeconds(90);
        Assert.NotNull(guard.Look(clock.GetUtcNow(), clock.GetUtcNow(), 0));
        clock.Ran += TimeSpan.FromSeconds(50);
        Assert.NotNull(guard.Look(clock.GetUtcNow(), clock.GetUtcNow(), 0));
        // Where nothing confirms it, it is never followed.
        var alone = new ClockGuard(clock, compares: false);
        clock.Set = TimeSpan.Zero;
        clock.Ran += TimeSpan.FromHours(1);
        Assert.NotNull(alone.Look(clock.GetUtcNow(), null, 0));
    }

    [Theory]
    [InlineData("sqlite")]
    [InlineData("postgres")]
    public async Task A_ledger_whose_last_entry_is_ahead_of_the_clock_is_not_opened(string name)
    {
        Engine engine = name == "sqlite" ? new Sqlite() : new PostgreSql();
        var (connection, checkpoint) = (await engine.Create(), Engine.NewFile("checkpoint"));
        await using (var ledger = await ServiceLedger.Open(Options(connection, checkpoint, new Settable(Start)), Cancel))
            await ledger.Commit(Add("a", "1", "c"), Cancel);
        var refused = await Assert.ThrowsAsync<ClockNotTrustedException>(() =>
            ServiceLedger.Open(Options(connection, checkpoint, new Settable(Start - TimeSpan.FromSeconds(6))), Cancel)
        );
        Assert.Contains("the ledger's last entry is 6 s ahead of this machine's clock", refused.Message);
        await using var again = await ServiceLedger.Open(
            Options(connection, checkpoint, new Settable(Start - TimeSpan.FromSeconds(4))),
            Cancel
        );
        Assert.Equal(1UL, again.Size);
    }
}
