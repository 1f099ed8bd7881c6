using Ministries.Errors.V1;
using Ministries.Fixtures;
using static Ministries.Ledger.Tests.Counting;

namespace Ministries.Ledger.Tests;

public sealed class SqliteCoverTests : CoverTests
{
    protected override Engine Engine { get; } = new Sqlite();
}

public sealed class PostgresCoverTests : CoverTests
{
    protected override Engine Engine { get; } = new PostgreSql();
}

/// <summary>Where each goes.</summary>
public sealed class CoverPlaceTests
{
    private static IReadOnlyList<PendingCommand> Wait(params IEnumerable<(string Participant, string Id)> commands) =>
        [.. commands.Select(c => new PendingCommand(Add(c.Participant, c.Id, "c"), 0))];

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(4)]
    public void The_first_of_a_commit_is_in_each_place_equally_often_however_many_follow(int commands)
    {
        const int Leaves = 4,
            Draws = 4000;
        var waiting = Wait(Enumerable.Range(0, commands).Select(i => ($"p/{i}", "1")));
        var found = new int[Leaves];
        for (var i = 0; i < Draws; i++)
            found[Cover.Draw(waiting, Leaves).Index().Single(p => p.Item == waiting[0]).Index]++;
        // A thousand each, with a deviation of 27: six of them.
        Assert.All(found, count => Assert.InRange(count, 836, 1164));
    }

    [Fact]
    public void The_events_of_a_producer_keep_their_order_and_nothing_is_left_out_or_doubled()
    {
        PendingCommand Event(string producer, ulong sequence) =>
            new(Add($"service/{producer}", $"{sequence}", "c", intake: new IntakeNumber(producer, $"type-{sequence % 2}", sequence)), 0);
        IReadOnlyList<PendingCommand> waiting =
        [
            Event("x", 1),
            Event("y", 1),
            Event("x", 2),
            Event("y", 2),
            Event("x", 3),
            .. Wait(("a", "1")),
        ];
        var orders = new HashSet<string>();
        for (var i = 0; i < 2000; i++)
        {
            var drawn = Cover.Draw(waiting, 8);
            Assert.Equal(8, drawn.Count);
            var placed = drawn.OfType<PendingCommand>().Select(p => p.Command).ToList();
            Assert.Equal(["1", "2", "3"], placed.Where(c => c.Participant == "service/x").Select(c => c.RequestId));
            Assert.Equal(["1", "2"], placed.Where(c => c.Participant == "service/y").Select(c => c.RequestId));
            Assert.Single(placed, c => c.Participant == "a");
            orders.Add(string.Join(' ', placed.Select(c => c.Participant)));
        }
        // Every other order comes: 6! / (3! 2! 1!).
        Assert.Equal(60, orders.Count);
    }

    [Theory]
    [InlineData(-1, 8)]
    [InlineData(6, 8)]
    [InlineData(1, 0)]
    [InlineData(1, 257)]
    public async Task A_schedule_beyond_its_limits_is_refused(int seconds, int leaves) =>
        await Assert.ThrowsAsync<ArgumentOutOfRangeException>(async () =>
            await ServiceLedger.Open(
                Options(await new Sqlite().Create(), cover: TimeSpan.FromSeconds(seconds), leaves: leaves),
                TestContext.Current.CancellationToken
            )
        );
}

/// <summary>A ledger that commits by a schedule shows nothing of how much is recorded, and does all that it does otherwise.</summary>
public abstract class CoverTests
{
    internal static readonly TimeSpan Interval = TimeSpan.FromSeconds(1);

    protected abstract Engine Engine { get; }

    private readonly SteppedClock _clock = new();

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    private async Task<ServiceLedger> Open(int leaves = 8) =>
        await ServiceLedger.Open(Options(await Engine.Create(), time: _clock, cover: Interval, leaves: leaves), Cancel);

    /// <summary>The next scheduled commit; returns when it is made.</summary>
    internal static async Task Tick(ServiceLedger ledger, SteppedClock clock)
    {
        var size = ledger.Size;
        clock.Step(Interval);
        await ledger.WaitForMore(size, Cancel);
    }

    private Task Tick(ServiceLedger ledger) => Tick(ledger, _clock);

    private static async Task<List<StoredEntry>> Recorded(ServiceLedger ledger) =>
        [.. (await LedgerTests.ReadAll(ledger)).Where(e => e.HeaderOf().Method != Cover.Method)];

    [Fact]
    public async Task Each_commit_has_the_same_number_of_entries_whatever_is_recorded()
    {
        await using var ledger = await Open();
        var (ticks, recorded) = (0UL, 0);
        foreach (var load in (int[])[0, 1, 3, 8, 20, 0])
        {
            var running = Enumerable
                .Range(recorded, load)
                .Select(i => ledger.Commit(Add($"p/{i % 3}", $"{i}", $"c{i % 2}"), Cancel))
                .ToList();
            recorded += load;
            for (var left = load; left > 0 || left == load; left -= 8)
            {
                await Tick(ledger);
                Assert.Equal(8 * ++ticks, ledger.Size);
                var checkpoint = await ledger.ReadCheckpoint(Cancel);
                Assert.Equal(8 * ticks, checkpoint.Size);
            }
            foreach (var outcome in await Task.WhenAll(running))
                LedgerTests.CheckReceipt(await ledger.ReceiptOf(outcome, Cancel));
        }
        var entries = await Recorded(ledger);
        Assert.Equal(recorded, entries.Count);
        // No number of what a participant sent is missing.
        foreach (var own in entries.GroupBy(e => e.Participant))
            Assert.Equal(
                Enumerable.Range(1, own.Count()).Select(n => (ulong)n),
                own.Select(e => e.Entry.Audience.Single(a => a.Audience == Audience.Of(own.Key)).Number)
            );
        Assert.Equal(32UL, (await ledger.List(Kind, ["all"], null, 0, 10, Cancel)).Aggregate(0UL, (sum, c) => sum + c.State.Sequence));
        await LedgerTests.Audit(ledger);
    }

    [Fact]
    public async Task What_makes_no_entry_is_covered()
    {
        await using var ledger = await Open();
        Command Old(string content = "") => Add("a", "1", "c", content: content);
        var first = ledger.Commit(Old(), Cancel);
        await Tick(ledger);
        var position = (await first).Position;
        var repeated = ledger.Commit(Old(), Cancel);
        var reused = ledger.Commit(Old("other"), Cancel);
        var twins = new[] { ledger.Commit(Add("a", "2", "c"), Cancel), ledger.Commit(Add("a", "2", "c"), Cancel) };
        var refused = ledger.Commit(Decides("b", "1", (_, _) => Decision.Refuse(Refused.Reason)), Cancel);
        var passing = ledger.Commit(Decides("b", "2", (_, _) => Decision.Refuse(Refused.Reason), storesRefusal: false), Cancel);
        var failing = ledger.Commit(Decides("b", "3", (_, _) => throw new InvalidOperationException("its rule fails")), Cancel);
        await Tick(ledger);
        Assert.Equal((true, position), ((await repeated).Repeated, (await repeated).Position));
        Assert.Equal(Reason.RequestIdReused, (await reused).Refusal!.Reason);
        Assert.Equal([2UL, 2UL], (await Task.WhenAll(twins)).Select(t => t.CountOf()));
        Assert.NotNull((await refused).Position);
        Assert.Null((await passing).Position);
        await Assert.ThrowsAsync<CommandFailedException>(() => failing);
        Assert.Equal(16UL, ledger.Size);
        Assert.Equal(["1", "1", "2"], (await Recorded(ledger)).Select(e => e.HeaderOf().RequestId).Order());
        await LedgerTests.Audit(ledger);
    }

    [Fact]
    public async Task Events_that_wait_together_are_taken_in_in_their_order()
    {
        await using var ledger = await Open();
        for (var round = 0UL; round < 5; round++)
        {
            var running = Enumerable
                .Range(1, 5)
                .Select(i => 5 * round + (ulong)i)
                .Select(i => ledger.Commit(Add("service/x", $"x/{i}/0", "c", intake: new IntakeNumber("x", "type", i)), Cancel))
                .Append(ledger.Commit(Add("a", $"{round}", "d"), Cancel))
                .ToList();
            await Tick(ledger);
            var positions = (await Task.WhenAll(running)).Select(o => o.Position!.Value).ToList();
            Assert.Equal(positions[..5].Order(), positions[..5]);
        }
        Assert.Equal(25UL, await ledger.LastTaken("x", "type", Cancel));
        await LedgerTests.Audit(ledger);
    }

    [Fact]
    public async Task A_commands_place_takes_every_value()
    {
        await using var ledger = await Open(leaves: 4);
        var (alone, followed) = (new HashSet<ulong>(), new HashSet<ulong>());
        for (var i = 0; i < 300 && (alone.Count < 4 || followed.Count < 4); i++)
        {
            var first = ledger.Commit(Add("a", $"{i}", "c"), Cancel);
            var second = i % 2 == 0 ? null : ledger.Commit(Add("b", $"{i}", "c"), Cancel);
            await Tick(ledger);
            (second is null ? alone : followed).Add((await first).Position!.Value % 4);
        }
        Assert.Equal([0UL, 1UL, 2UL, 3UL], alone.Order());
        Assert.Equal([0UL, 1UL, 2UL, 3UL], followed.Order());
    }

    [Fact]
    public async Task Those_who_wait_when_it_is_closed_are_answered_by_the_schedule()
    {
        await using var ledger = await Open(leaves: 2);
        var running = Enumerable.Range(0, 5).Select(i => ledger.Commit(Add("a", $"{i}", "c"), Cancel)).ToList();
        var drained = ledger.Drain();
        await Assert.ThrowsAsync<LedgerClosedException>(() => ledger.Commit(Add("a", "late", "c"), Cancel));
        for (var i = 0; i < 3; i++)
        {
            Assert.False(drained.IsCompleted);
            await Tick(ledger);
        }
        Assert.Equal([1UL, 2UL, 3UL, 4UL, 5UL], (await Task.WhenAll(running)).Select(o => o.CountOf()).Order());
        await drained;
        Assert.Equal(6UL, ledger.Size);
        await LedgerTests.Audit(ledger);
    }

    [Fact]
    public async Task The_urgent_and_each_participant_in_turn_come_first_where_not_all_fit()
    {
        await using var ledger = await Open(leaves: 2);
        List<Task<Outcome>> running =
        [
            ledger.Commit(Add("a", "a1", "c"), Cancel),
            ledger.Commit(Add("a", "a2", "c"), Cancel),
            ledger.Commit(Add("a", "a3", "c"), Cancel),
            ledger.Commit(Add("b", "b1", "c"), Cancel),
            ledger.Commit(Add("d", "d1", "c", precedence: 4), Cancel),
            ledger.Commit(Add("b", "b2", "c"), Cancel),
        ];
        for (var i = 0; i < 3; i++)
            await Tick(ledger);
        var places = (await Task.WhenAll(running)).Select(o => o.Position / 2);
        Assert.Equal([0UL, 1UL, 2UL, 1UL, 0UL, 2UL], places.Select(p => p!.Value));
    }

    [Fact]
    public async Task Several_replicas_have_a_schedule_each_and_lose_and_repeat_nothing()
    {
        var connection = await Engine.Create();
        await using var one = await ServiceLedger.Open(Options(connection, time: _clock, cover: Interval), Cancel);
        await using var two = await ServiceLedger.Open(Options(connection, time: _clock, cover: Interval), Cancel);
        for (var i = 0UL; i < 5; i++)
        {
            var same = Add("s", $"{i}", "c");
            var running = new[] { one, two }.Select((l, n) => l.Commit(Add($"p/{n}", $"{i}", "c"), Cancel)).ToList();
            var both = new[] { one.Commit(same, Cancel), two.Commit(same, Cancel) };
            _clock.Step(Interval);
            await Task.WhenAll([.. running, .. both]);
            while (one.Size < 16 * (i + 1))
                await one.WaitForMore(one.Size, Cancel);
            Assert.Equal(16 * (i + 1), one.Size);
            Assert.Single(await Task.WhenAll(both), o => !o.Repeated);
            Assert.Single((await Task.WhenAll(both)).Select(o => o.Position).Distinct());
        }
        Assert.Equal(15UL, (await two.Find(Kind, "c", null, Cancel))!.State.Sequence);
        await LedgerTests.Audit(one);
    }

    [Fact]
    public async Task Nobody_sees_a_cover_entry_and_nothing_else_notices_it()
    {
        await using var ledger = await Open();
        ledger.KeepsTail = true;
        await Tick(ledger);
        var relisted = ledger.RelistedAt(Kind, "all");
        var outcome = ledger.Commit(Add("a", "1", "c"), Cancel);
        await Tick(ledger);
        await outcome;
        var changed = ledger.RelistedAt(Kind, "all");
        Assert.NotEqual(relisted, changed);
        await Tick(ledger);
        Assert.Equal(changed, ledger.RelistedAt(Kind, "all"));
        // A reader gets what is his and how far it reaches.
        var page = await ledger.ReadEntries(0, null, new HashSet<string> { Audience.Of("a") }, 100, Cancel);
        Assert.Equal((1, 24UL, true), (page.Entries.Count, page.Next, page.Complete));
        page = await ledger.ReadEntries(0, null, new HashSet<string> { Audience.Of("b"), Audience.Everybody }, 100, Cancel);
        Assert.Equal((0, 24UL, true), (page.Entries.Count, page.Next, page.Complete));
        for (var position = 0UL; position < 24; position++)
        {
            var seen = await ledger.ReadEntry(position, new HashSet<string> { Audience.Of("a"), Audience.Everybody }, Cancel);
            Assert.Equal(position == (await outcome).Position, seen is not null);
            // Nothing is sealed in it, and nothing of it can be erased.
            if (seen is null)
            {
                Assert.Null(Shares.Look((await ledger.ReadEntry(position, null, Cancel))!.Entry, "content"));
                Assert.False(await ledger.EraseRequest(position, Cancel));
            }
            var proof = (await ledger.ProveInclusion(position, 0, Cancel))!;
            Assert.Equal(24UL, proof.Size);
        }
        // Whoever follows is told of none.
        var tail = await ledger.ReadTail(0, Cancel);
        Assert.Equal(24, tail.Count);
        Assert.All(tail.Where(t => t.Position != outcome.Result.Position), t => Assert.Empty(t.Audience));
        // The relay and consumers number the events without them.
        var events = await ledger.EventsAfter(0, 10, Cancel);
        Assert.Equal((1UL, 1UL), (Assert.Single(events).Number, await ledger.CountEvents(Cancel)));
        Assert.Equal((await outcome).Position, events[0].Event.Origin.Position);
        await LedgerTests.Audit(ledger);
    }

    [Fact]
    public async Task A_ledger_goes_on_with_cover_without_it_and_with_it_again()
    {
        var (connection, checkpoint) = (await Engine.Create(), Engine.NewFile("checkpoint"));
        foreach (var (run, cover) in new[] { TimeSpan.Zero, Interval, TimeSpan.Zero, Interval }.Index())
        {
            await using var ledger = await ServiceLedger.Open(Options(connection, checkpoint, _clock, cover: cover), Cancel);
            var outcome = ledger.Commit(Add("a", $"{run}", "c"), Cancel);
            if (cover > TimeSpan.Zero)
                await Tick(ledger);
            Assert.Equal((ulong)run + 1, (await outcome).CountOf());
            // A repetition waits for a commit, too.
            var again = ledger.Commit(Add("a", $"{run}", "c"), Cancel);
            if (cover > TimeSpan.Zero)
                _clock.Step(Interval);
            Assert.True((await again).Repeated);
            await LedgerTests.Audit(ledger);
        }
    }

    [Fact]
    public async Task A_clock_that_is_not_trusted_commits_nothing_and_the_schedule_goes_on_once_it_is()
    {
        await using var ledger = await Open();
        await Tick(ledger);
        _clock.Set = TimeSpan.FromDays(30);
        var refused = ledger.Commit(Add("a", "1", "c"), Cancel);
        _clock.Step(Interval);
        await Assert.ThrowsAsync<ClockNotTrustedException>(() => refused);
        // The database is not to blame.
        var condition = await ledger.Examine(Cancel);
        Assert.Equal((false, true), (condition.IsGood, condition.Writable));
        Assert.NotNull(condition.Clock);
        Assert.Equal(8UL, ledger.Size);
        _clock.Set = TimeSpan.Zero;
        var accepted = ledger.Commit(Add("a", "1", "c"), Cancel);
        await Tick(ledger);
        Assert.Equal(1UL, (await accepted).CountOf());
        Assert.Equal(16UL, ledger.Size);
        Assert.True((await ledger.Examine(Cancel)).IsGood);
        await LedgerTests.Audit(ledger);
    }
}
