using Microsoft.Extensions.DependencyInjection;
using Ministries.CallLog.V1;
using Ministries.Errors.V1;
using Ministries.Fixtures;
using Ministries.Hosting.Bus;
using Ministries.Ledger;

namespace Ministries.Bus.Tests;

/// <summary>A consumer whose ledger commits at fixed times, few entries each, takes longer for a message, and is not one that
/// hangs.</summary>
[Collection("RabbitMQ")]
public sealed class CoverTests
{
    private readonly SteppedClock _clock = new();

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    private static async Task Tick(ServiceLedger ledger, SteppedClock clock)
    {
        var size = ledger.Size;
        clock.Step(BusFixture.Interval);
        await ledger.WaitForMore(size, Cancel);
    }

    [Fact]
    public async Task A_message_whose_events_are_committed_one_by_one_is_not_given_back()
    {
        await using var fixture = new BusFixture(await Node.Clean()) { Clock = _clock, Leaves = 1 };
        await fixture.Ledger(fixture.CallLog);
        await fixture.StartReady(fixture.Consular);
        var ledger = await fixture.Ledger(fixture.Consular);
        var broker = fixture.HostOf(fixture.Consular).Services.GetRequiredService<Broker>();
        // They wait together, so they go in one message. One a second is committed, so it takes longer than a message may be held.
        var sent = new List<string>();
        for (var i = 0; i < 15; i++)
            sent.Add(await fixture.Log());
        await fixture.StartReady(fixture.CallLog);
        await BusFixture.Until(() => ledger.QueueLength == sent.Count, "all wait for their commit");
        for (var done = 1; done <= sent.Count; done++)
        {
            await Tick(ledger, _clock);
            Assert.Equal(sent.Take(done), await fixture.Effects());
            await BusFixture.Until(() => broker.Held == TimeSpan.Zero, "what was committed is noted", 10);
        }
        Assert.DoesNotContain(fixture.Warnings, w => w.Contains("gives its messages back", StringComparison.Ordinal));
    }

    [Fact]
    public async Task Events_whose_questions_are_about_different_things_are_committed_together()
    {
        await using var fixture = new BusFixture(null) { Clock = _clock, Leaves = 8 };
        var before = new List<int>();
        fixture.OnAsk = async _ => before.Add((await fixture.Effects()).Count);
        await fixture.Ledger(fixture.CallLog);
        await fixture.StartReady(fixture.Consular);
        var ledger = await fixture.Ledger(fixture.Consular);
        Task<string> Submit(string about) => fixture.Publish(_ => new ReadoutSubmitted { Case = "case_1", Call = about });
        List<string> sent =
        [
            await Submit("call-a"),
            await Submit("call-b"),
            await Submit("call-c"),
            // What it asks may rest on what the first of them changed.
            await Submit("call-a"),
        ];
        await fixture.StartReady(fixture.CallLog);
        await BusFixture.Until(() => ledger.QueueLength == 3, "three are asked about and wait");
        await Tick(ledger, _clock);
        await BusFixture.Until(() => ledger.QueueLength == 1, "the last one is asked about");
        await Tick(ledger, _clock);
        Assert.Equal(sent, await fixture.Effects());
        Assert.Equal([0, 0, 0, 3], before);
    }

    // The consumer takes in together the events that wait in the producer's ledger. By its own clock, they would not be old enough
    // otherwise.
    private BusFixture Reading(int leaves = 8) =>
        new(null, o => o with { FillAge = TimeSpan.FromDays(-3650), FirstDelay = TimeSpan.FromMilliseconds(5) })
        {
            Clock = _clock,
            Leaves = leaves,
        };

    /// <summary>Before the lock is held, a rule decides on what is in memory, to find what it needs. If a record is not in memory, this
    /// decision differs from the later one, and must hold up no other command.</summary>
    [Fact]
    public async Task Events_about_records_that_are_not_in_memory_are_committed_together()
    {
        const int Cases = 20;
        await using var fixture = Reading(leaves: 32);
        fixture.Decides = (e, context) =>
            e is not CallLogged call ? null
            : context.Find(BusFixture.Noted, call.Case) is null ? Decision.Refuse(Reason.NotFound)
            : BusFixture.Note(call.Case, call.Call, context, call.Case);
        var ledger = await fixture.Ledger(fixture.Consular);
        for (var i = 0; i < Cases; i++)
            await Begin(ledger, BusFixture.Noted, $"case_{i}");
        await fixture.Close(fixture.Consular);

        for (var i = 0; i < Cases; i++)
            await fixture.Publish(call => new CallLogged { Case = $"case_{i}", Call = call });
        await fixture.Start(fixture.Consular);
        ledger = await fixture.Ledger(fixture.Consular);
        await BusFixture.Until(() => ledger.QueueLength == Cases, "all wait for their commit");
        await Tick(ledger, _clock);
        for (var i = 0; i < Cases; i++)
            Assert.Equal(2, (await ledger.Find(BusFixture.Noted, $"case_{i}", null, Cancel))!.State.Prisoners.Count);
        Assert.DoesNotContain(fixture.Warnings, w => w.Contains("cannot take in", StringComparison.Ordinal));
    }

    /// <summary>A command that its rule accepts can still fail: in its record's fold, or at a limit of the store.</summary>
    [Fact]
    public async Task No_event_overtakes_one_that_fails_after_its_rule_accepted_it()
    {
        await using var fixture = Reading();
        var fails = true;
        fixture.Decides = (e, context) =>
            e is ReadoutSubmitted readout && Volatile.Read(ref fails)
                ? BusFixture.Note(readout.Case, readout.Call, context, "all", new string('x', 301))
                : null;
        List<string> sent = [await fixture.Submit(), await fixture.Log()];
        await FailsAndIsTriedAgain(fixture, sent, () => Volatile.Write(ref fails, false));
    }

    /// <summary>The second one fails because it is not the next one of its type. The third one, of another type, is the next one of
    /// its own.</summary>
    [Fact]
    public async Task No_event_overtakes_one_that_fails_because_one_before_it_failed()
    {
        await using var fixture = Reading();
        var refuses = true;
        fixture.Decides = (e, _) => e is ReadoutSubmitted && Volatile.Read(ref refuses) ? Decision.Refuse(Reason.NotFound) : null;
        List<string> sent = [await fixture.Submit(), await fixture.Submit(), await fixture.Log()];
        await FailsAndIsTriedAgain(fixture, sent, () => Volatile.Write(ref refuses, false));
    }

    private async Task FailsAndIsTriedAgain(BusFixture fixture, IReadOnlyList<string> sent, Action mend)
    {
        await fixture.Start(fixture.Consular);
        var ledger = await fixture.Ledger(fixture.Consular);
        await BusFixture.Until(() => ledger.QueueLength == sent.Count, "all wait for their commit");
        await Tick(ledger, _clock);
        Assert.Empty(await fixture.Effects());
        mend();
        await BusFixture.Until(() => ledger.QueueLength == sent.Count, "all are tried again");
        await Tick(ledger, _clock);
        Assert.Equal(sent, await fixture.Effects());
    }

    // A record whose duty fell due at the time, and the duty that records it.
    private static (StreamKind<CallLogged> Kind, Duty Duty) Due(DateTimeOffset at)
    {
        var kind = new StreamKind<CallLogged>(
            "reminder",
            1,
            (state, e, _) => state.Call = e is ReadoutSubmitted ? "done" : "waits",
            due: state => state.Call == "waits" ? at : null
        );
        return (
            kind,
            new Duty(
                kind,
                (key, context) =>
                {
                    context.Find(kind, key);
                    return Decision.Accept(
                        "case_1",
                        [],
                        [new Change(new ReadoutSubmitted { Case = "case_1", Call = key }, [kind.Id(key)])]
                    );
                }
            )
        );
    }

    private async Task Begin(ServiceLedger ledger, StreamKind<CallLogged> kind, string key)
    {
        var outcome = BusFixture.Begin(ledger, kind, key, key);
        await Tick(ledger, _clock);
        await outcome;
    }

    [Fact]
    public async Task A_sweep_whose_duties_are_committed_one_by_one_does_not_seem_to_stand_still()
    {
        var (kind, duty) = Due(_clock.GetUtcNow());
        await using var fixture = new BusFixture(null)
        {
            Clock = _clock,
            Clocked = "calllog",
            Leaves = 1,
            MoreStreams = [kind],
            Duties = [duty],
        };
        var ledger = await fixture.Ledger(fixture.CallLog);
        for (var i = 0; i < 3; i++)
            await Begin(ledger, kind, $"one-{i}");
        await fixture.Start(fixture.CallLog);
        await BusFixture.Until(() => ledger.QueueLength == 3, "the duties wait for their commits");
        for (var i = 0; i < 3; i++)
        {
            await BusFixture.Until(() => fixture.Status(fixture.CallLog).LastDutySweep == _clock.GetUtcNow(), "it was looked", 10);
            await Tick(ledger, _clock);
        }
        await BusFixture.Until(() => fixture.Status(fixture.CallLog).LastDutySweep == _clock.GetUtcNow(), "the last one counts", 10);
        Assert.Equal(6UL, ledger.Size);
    }

    [Fact]
    public async Task No_duty_is_looked_for_while_the_clock_is_not_trusted()
    {
        var (kind, duty) = Due(_clock.GetUtcNow() + TimeSpan.FromDays(10));
        await using var fixture = new BusFixture(null)
        {
            Clock = _clock,
            Clocked = "calllog",
            MoreStreams = [kind],
            Duties = [duty],
        };
        var ledger = await fixture.Ledger(fixture.CallLog);
        await Begin(ledger, kind, "one");
        _clock.Set = TimeSpan.FromDays(30);
        await fixture.Start(fixture.CallLog);
        await BusFixture.Until(
            () => fixture.Warnings.Any(w => w.Contains("looks for no due duties", StringComparison.Ordinal)),
            "it says that it looks for none"
        );
        Assert.Null(fixture.Status(fixture.CallLog).LastDutySweep);
        Assert.Equal(0, ledger.QueueLength);
        // By the clock that is right, none is due.
        _clock.Set = TimeSpan.Zero;
        Assert.Empty(await ledger.ListDue(_clock.GetUtcNow(), 0, 10, Cancel));
        await Tick(ledger, _clock);
        Assert.Equal("waits", (await ledger.Find(kind, "one", null, Cancel))!.State.Call);
    }
}
