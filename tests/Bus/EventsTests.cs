using System.Diagnostics;
using Google.Protobuf;
using Microsoft.Extensions.Logging.Abstractions;
using Ministries.CallLog.V1;
using Ministries.Errors.V1;
using Ministries.Fixtures;
using Ministries.Hosting.Bus;
using Ministries.Ledger;
using Ministries.Ledger.V1;
using Ministries.Trust;

namespace Ministries.Bus.Tests;

/// <summary>What must hold whatever carries the messages.</summary>
public abstract class EventsTests
{
    protected abstract Task<BusFixture> NewFixture(Func<BusOptions, BusOptions>? with = null);

    [Fact]
    public async Task Every_event_has_its_effect_once_and_in_the_order_of_its_producer()
    {
        await using var fixture = await NewFixture();
        await fixture.StartBoth();
        var events = new List<string>();
        for (var i = 0; i < 200; i++)
            events.Add(i % 3 == 0 ? await fixture.Submit() : await fixture.Log());
        await fixture.UntilEffects(events);
    }

    [Fact]
    public async Task Events_from_before_a_consumer_was_there_come_from_the_ledger()
    {
        await using var fixture = await NewFixture();
        await fixture.StartReady(fixture.CallLog);
        List<string> events = [await fixture.Log(), await fixture.Submit(), await fixture.Log()];
        await BusFixture.Until(() => fixture.Status(fixture.CallLog).Backlog == 0, "all is published");
        await fixture.StartReady(fixture.Consular);
        await fixture.UntilEffects(events);
    }

    [Theory]
    [InlineData("another service's")]
    [InlineData("of another service's type")]
    [InlineData("of another type than its origin says")]
    public async Task A_producers_ledger_names_no_event_in_the_name_of_another_service(string what)
    {
        await using var fixture = await NewFixture();
        await fixture.StartReady(fixture.CallLog);
        var first = await fixture.Log();
        await BusFixture.Until(() => fixture.Status(fixture.CallLog).Backlog == 0, "all is published");
        fixture.OnRead = recorded =>
        {
            if (what == "another service's")
                recorded.Origin.Service = "custody";
            else if (what == "of another service's type")
                recorded.Origin.Type = recorded.Event.Type = Custody.V1.StatusRecorded.Descriptor.FullName;
            else
                recorded.Event.Type = ReadoutSubmitted.Descriptor.FullName;
        };
        await fixture.StartReady(fixture.Consular);
        await BusFixture.Until(() => fixture.Warnings.Any(w => w.Contains("ForeignEventException")), "the lie is told");
        Assert.Empty(await fixture.Effects());
        Assert.Equal(0ul, (await fixture.Ledger(fixture.Consular)).Size);
        // Once the ledger is as it was, everything goes on.
        fixture.OnRead = null;
        await fixture.UntilEffects(first);
    }

    [Fact]
    public async Task A_consumer_that_was_away_goes_on_where_it_was()
    {
        await using var fixture = await NewFixture();
        await fixture.StartBoth();
        List<string> events = [await fixture.Log(), await fixture.Submit()];
        await fixture.UntilEffects(events);
        await fixture.Stop(fixture.Consular);
        for (var i = 0; i < 20; i++)
            events.Add(await fixture.Log());
        await fixture.StartReady(fixture.Consular);
        events.Add(await fixture.Submit());
        await fixture.UntilEffects(events);
    }

    [Fact]
    public async Task An_event_of_a_later_contract_has_its_effect_and_nothing_of_it_is_lost()
    {
        await using var fixture = await NewFixture();
        await fixture.StartBoth();
        // An unknown route in a commitment, and an unknown field in both messages.
        var later = new CallLogged
        {
            TransferCommitments = { Later(new TransferCommitment { Participant = "kr/mfa", Route = (Types.V1.Route)99 }) },
        };
        var sent = new CallLogged();
        List<string> events =
        [
            await fixture.Log(),
            await fixture.Publish(call =>
            {
                later.Call = call;
                return sent = Later(later);
            }),
            await fixture.Log(),
        ];
        await fixture.UntilEffects(events);

        var ledger = await fixture.Ledger(fixture.Consular);
        var taken = new List<byte[]>();
        // An effect is visible once it is committed; the ledger's size changes only once it is signed.
        var size = (await ledger.ReadCheckpoint(TestContext.Current.CancellationToken)).Size;
        for (var position = 0ul; position < size; position++)
            if (
                (await ledger.ReadEntry(position, null, TestContext.Current.CancellationToken))!.Entry.Parts.FirstOrDefault(p =>
                    p.Kind == PartKind.Request
                ) is
                { } part
            )
                taken.Add(part.Data.ToByteArray());
        Assert.Contains(sent.ToByteArray(), taken);

        static T Later<T>(T message)
            where T : IMessage<T> => (T)message.Descriptor.Parser.ParseFrom([.. message.ToByteArray(), 0x9a, 0x06, 0x02, 0x08, 0x01]);
    }

    [Fact]
    public async Task An_event_that_a_rule_cannot_process_is_set_aside_and_later_ones_go_on()
    {
        await using var fixture = await NewFixture(o => o with { FirstDelay = TimeSpan.FromMilliseconds(5), Attempts = 3 });
        var poison = true;
        fixture.OnCall = e => !poison || e.Call != "call-000002" ? null : throw new InvalidOperationException("a secret of the message");
        await fixture.StartBoth();
        List<string> events = [await fixture.Log(), await fixture.Log(), await fixture.Log(), await fixture.Submit()];
        await fixture.UntilEffects(events[0], events[2], events[3]);

        var letter = Assert.Single(await fixture.OpenLetters());
        Assert.Equal((events[1], "RULE_FAILED", 3u), (letter.Id, letter.Reason, letter.Attempts));
        Assert.DoesNotContain("secret", letter.ToString());

        // Delivered again, the event is already settled; replayed, it has its effect.
        var intake = (Intake)fixture.HostOf(fixture.Consular).Services.GetService(typeof(Intake))!;
        var recorded = (await fixture.Read("calllog", After(nameof(CallLogged), 1), TestContext.Current.CancellationToken)).Events[0];
        Assert.Equal("RULE_FAILED", await intake.Replay(recorded, TestContext.Current.CancellationToken));
        poison = false;
        Assert.Null(await intake.Replay(recorded, TestContext.Current.CancellationToken));
        Assert.Null(await intake.Replay(recorded, TestContext.Current.CancellationToken));
        await fixture.UntilEffects(events[0], events[2], events[3], events[1]);
        Assert.Empty(await fixture.OpenLetters());
    }

    [Fact]
    public async Task An_event_that_cannot_be_read_is_set_aside_and_later_ones_go_on()
    {
        await using var fixture = await NewFixture(o => o with { FirstDelay = TimeSpan.FromMilliseconds(5), Attempts = 3 });
        await fixture.StartReady(fixture.CallLog);
        List<string> events = [await fixture.Log(), await fixture.Log(), await fixture.Log()];
        await BusFixture.Until(() => fixture.Status(fixture.CallLog).Backlog == 0, "all is published");
        fixture.OnRead = recorded =>
        {
            if (recorded.Origin.Sequence == 2)
                recorded.Event.Data = ByteString.CopyFrom(0xff);
        };
        await fixture.StartReady(fixture.Consular);
        await fixture.UntilEffects(events[0], events[2]);
        var letter = Assert.Single(await fixture.OpenLetters());
        Assert.Equal((events[1], "UNREADABLE", 3u), (letter.Id, letter.Reason, letter.Attempts));
    }

    /// <summary>Such as while replicas are replaced one after the other: the new ones write records that the old ones would
    /// misread.</summary>
    [Fact]
    public async Task An_event_about_a_record_of_newer_software_waits_for_that_software()
    {
        await using var fixture = await NewFixture(o =>
            o with
            {
                FirstDelay = TimeSpan.FromMilliseconds(5),
                MaxDelay = TimeSpan.FromMilliseconds(20),
                Attempts = 2,
            }
        );
        var newer = new StreamKind<CallLogged>("noted", 2, (state, _, entry) => state.Prisoners.Add(entry.RequestId));
        fixture.NotedKind = newer;
        await BusFixture.Begin(await fixture.Ledger(fixture.Consular), newer, "all", "begun");
        await fixture.Close(fixture.Consular);
        fixture.NotedKind = BusFixture.Noted;
        var tried = 0;
        fixture.OnCall = _ =>
        {
            Interlocked.Increment(ref tried);
            return null;
        };
        await fixture.StartBoth();
        List<string> events = [await fixture.Log(), await fixture.Log()];
        var ledger = await fixture.Ledger(fixture.Consular);
        await BusFixture.Until(() => Volatile.Read(ref tried) > 20 || ledger.Size > 1, "it is tried again and again");
        Assert.Equal(0ul, await ledger.Count(DeadLetters.Kind, [DeadLetters.Open], TestContext.Current.CancellationToken));
        Assert.Equal(1ul, ledger.Size);
        await fixture.Close(fixture.Consular);
        fixture.NotedKind = newer;
        await fixture.StartReady(fixture.Consular);
        await fixture.UntilEffects("begun", events[0], events[1]);
    }

    [Fact]
    public async Task A_refused_event_is_set_aside_under_the_name_of_the_refusal()
    {
        await using var fixture = await NewFixture(o => o with { FirstDelay = TimeSpan.FromMilliseconds(5), Attempts = 2 });
        fixture.OnCall = e => e.Call == "call-000001" ? new Refusal(Reason.NotFound) : null;
        await fixture.StartBoth();
        List<string> events = [await fixture.Log(), await fixture.Log()];
        await fixture.UntilEffects(events[1]);
        Assert.Equal("NOT_FOUND", Assert.Single(await fixture.OpenLetters()).Reason);
    }

    private static Grpc.Core.RpcException Away() => new(new(Grpc.Core.StatusCode.Unavailable, ""));

    [Fact]
    public async Task An_event_waits_for_the_answer_of_another_service()
    {
        await using var fixture = await NewFixture(o =>
            o with
            {
                FirstDelay = TimeSpan.FromMilliseconds(5),
                MaxDelay = TimeSpan.FromMilliseconds(20),
                Attempts = 2,
            }
        );
        var (asked, away) = (0, true);
        fixture.OnAsk = _ => Interlocked.Increment(ref asked) > 0 && Volatile.Read(ref away) ? throw Away() : Task.CompletedTask;
        await fixture.StartBoth();
        List<string> events = [await fixture.Log(), await fixture.Submit(), await fixture.Log()];
        await BusFixture.Until(() => Volatile.Read(ref asked) > 10, "it asks again and again");
        Assert.Equal([events[0]], await fixture.Effects());
        Assert.NotNull(fixture.Status(fixture.Consular).WaitingSince);
        Volatile.Write(ref away, false);
        await fixture.UntilEffects(events);
        await BusFixture.Until(() => fixture.Status(fixture.Consular).WaitingSince is null, "nothing waits any more");
    }

    [Fact]
    public async Task If_no_answer_comes_for_long_the_rule_decides_without_it_and_later_events_go_on()
    {
        await using var fixture = await NewFixture(o =>
            o with
            {
                FirstDelay = TimeSpan.FromMilliseconds(5),
                MaxDelay = TimeSpan.FromMilliseconds(20),
                AskPatience = TimeSpan.FromMilliseconds(200),
            }
        );
        var asked = 0;
        fixture.OnAsk = _ => Interlocked.Increment(ref asked) > 0 ? throw Away() : Task.CompletedTask;
        await fixture.StartBoth();
        await fixture.UntilEffects([await fixture.Log(), await fixture.Submit(), await fixture.Log()]);
        Assert.True(asked > 1, "it was asked once only");
        Assert.Equal(
            0ul,
            await (await fixture.Ledger(fixture.Consular)).Count(
                DeadLetters.Kind,
                [DeadLetters.Open],
                TestContext.Current.CancellationToken
            )
        );
    }

    [Fact]
    public async Task After_one_event_went_on_without_an_answer_those_behind_it_ask_once_each_until_there_is_one()
    {
        var patience = TimeSpan.FromSeconds(2);
        await using var fixture = await NewFixture(o =>
            o with
            {
                FirstDelay = TimeSpan.FromMilliseconds(5),
                MaxDelay = TimeSpan.FromMilliseconds(20),
                AskPatience = patience,
            }
        );
        var (asked, away) = (0, true);
        fixture.OnAsk = _ => Interlocked.Increment(ref asked) > 0 && Volatile.Read(ref away) ? throw Away() : Task.CompletedTask;
        await fixture.StartBoth();
        List<string> events = [await fixture.Submit()];
        await fixture.UntilEffects(events);
        Assert.True(asked > 1, "the first one was asked for once only");
        asked = 0;
        for (var i = 0; i < 10; i++)
            events.Add(await fixture.Submit());
        await fixture.UntilEffects(events);
        Assert.Equal(10, asked);
        // An event about which there was nothing to ask is no answer.
        Volatile.Write(ref away, false);
        fixture.Answer = null;
        events.Add(await fixture.Submit());
        await fixture.UntilEffects(events);
        Volatile.Write(ref away, true);
        asked = 0;
        events.Add(await fixture.Submit());
        await fixture.UntilEffects(events);
        Assert.Equal(1, asked);
        fixture.Answer = new CallLogged();
        // Once there was an answer, an event waits for its own as long as ever.
        Volatile.Write(ref away, false);
        events.Add(await fixture.Submit());
        await fixture.UntilEffects(events);
        Volatile.Write(ref away, true);
        asked = 0;
        events.Add(await fixture.Submit());
        await fixture.UntilEffects(events);
        Assert.True(asked > 1, "the last one was asked for once only");
    }

    [Fact]
    public void Past_the_limit_of_waiting_events_each_participant_has_some_writes_of_its_own()
    {
        var status = new BusStatus(ownBacklog: 2);
        Assert.Equal([true, true, true], Tried("a", 3));
        status.Overloaded = true;
        Assert.Equal([true, true, false, false], Tried("a", 4));
        Assert.Equal([true, true, false], Tried("b", 3));
        status.Overloaded = true;
        Assert.Equal([false], Tried("a", 1));
        status.Overloaded = false;
        status.Overloaded = true;
        Assert.Equal([true, true, false], Tried("a", 3));

        bool[] Tried(string participant, int times) => [.. Enumerable.Range(0, times).Select(_ => status.Takes(participant))];
    }

    [Fact]
    public async Task A_trace_goes_from_the_commit_over_the_message_to_the_effect()
    {
        using var spans = new Spans();
        await using var fixture = await NewFixture();
        await fixture.StartBoth();
        var trace = ActivityTraceId.CreateRandom();
        var id = await fixture.Log($"00-{trace}-00f067aa0ba902b7-01");
        await fixture.UntilEffects(id);
        List<Activity> Of() => [.. spans.Ended.Where(s => s.TraceId == trace)];
        await BusFixture.Until(() => Of().Any(s => s.OperationName.StartsWith("process ", StringComparison.Ordinal)), "the span has ended");
        var publish = Assert.Single(Of(), s => s.OperationName == "publish ministries.calllog.v1.CallLogged");
        var process = Assert.Single(Of(), s => s.OperationName == "process ministries.calllog.v1.CallLogged");
        Assert.Equal(publish.SpanId, process.ParentSpanId);
        Assert.Contains(Of(), s => s.SpanId == publish.ParentSpanId || publish.ParentSpanId.ToString() == "00f067aa0ba902b7");
    }

    [Fact]
    public async Task A_duty_that_falls_due_is_recorded_once_and_published()
    {
        await using var fixture = await NewFixture(o => o with { DutyInterval = TimeSpan.FromMilliseconds(50) });
        var due = DateTimeOffset.UtcNow.AddSeconds(1);
        // Its state has a due time until the readout that the duty records.
        var kind = new StreamKind<CallLogged>(
            "reminder",
            1,
            (state, e, _) => state.Call = e is ReadoutSubmitted ? "done" : "waits",
            due: state => state.Call == "waits" ? due : null
        );
        fixture.MoreStreams = [kind];
        fixture.Duties =
        [
            new Duty(
                kind,
                (key, context) =>
                {
                    Assert.True(context.Now >= due);
                    context.Find(kind, key);
                    return Decision.Accept(
                        "case_1",
                        [],
                        [new Change(new ReadoutSubmitted { Case = "case_1", Call = key }, [kind.Id(key)])]
                    );
                }
            ),
        ];
        await fixture.StartBoth();
        var ledger = await fixture.Ledger(fixture.CallLog);
        await BusFixture.Begin(ledger, kind, "one", "begun");
        await fixture.UntilEffects("calllog/0/0", "calllog/1/0");
        await BusFixture.Until(() => fixture.Status(fixture.CallLog).LastDutySweep > due.AddSeconds(1), "it is looked again");
        Assert.Equal(2ul, ledger.Size);
    }

    /// <summary>A duty whose rule fails stays due, and so does one whose record newer software has written. A participant with many such
    /// duties does not hold up other participants' duties.</summary>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Duties_that_cannot_be_recorded_keep_back_none_of_the_others(bool newer)
    {
        await using var fixture = await NewFixture(o => o with { DutyInterval = TimeSpan.FromMilliseconds(50) });
        var due = DateTimeOffset.UtcNow.AddSeconds(-1);
        var kind = new StreamKind<CallLogged>(
            "reminder",
            1,
            (state, e, entry) => state.Call = e is ReadoutSubmitted ? "done" : entry.RequestId,
            due: state =>
                state.Call == "done" ? null
                : state.Call == "good" ? due
                : due.AddSeconds(-1)
        );
        fixture.MoreStreams = [kind];
        fixture.Duties =
        [
            new Duty(
                kind,
                (key, context) =>
                    context.Find(kind, key)!.Call == "good"
                        ? Decision.Accept("case_1", [], [new Change(new ReadoutSubmitted { Case = "case_1" }, [kind.Id(key)])])
                    : newer ? throw new NewerFoldException(kind.Name, 2, 1)
                    : Decision.Refuse(Reason.RecordFull)
            ),
        ];
        // More than are looked for at once.
        const int bad = 250;
        var ledger = await fixture.Ledger(fixture.CallLog);
        await Task.WhenAll(Enumerable.Range(0, bad).Select(i => BusFixture.Begin(ledger, kind, $"bad-{i}", $"bad-{i}")));
        await BusFixture.Begin(ledger, kind, "good", "good");
        await fixture.StartBoth();
        await BusFixture.Until(() => ledger.Size == bad + 2, "the duty that can be recorded is recorded");
    }

    [Fact]
    public async Task Duties_that_fail_for_the_same_reason_are_told_of_in_few_lines()
    {
        await using var fixture = await NewFixture(o => o with { DutyInterval = TimeSpan.FromMilliseconds(50) });
        var due = DateTimeOffset.UtcNow.AddSeconds(-1);
        var kind = new StreamKind<CallLogged>("reminder", 1, (state, _, entry) => state.Call = entry.RequestId, due: _ => due);
        fixture.MoreStreams = [kind];
        var tried = 0;
        fixture.Duties =
        [
            new Duty(
                kind,
                (key, context) =>
                {
                    context.Find(kind, key);
                    Interlocked.Increment(ref tried);
                    throw new InvalidOperationException();
                }
            ),
        ];
        const int bad = 50;
        var ledger = await fixture.Ledger(fixture.CallLog);
        await Task.WhenAll(Enumerable.Range(0, bad).Select(i => BusFixture.Begin(ledger, kind, $"bad-{i}", $"bad-{i}")));
        await fixture.StartBoth();
        // Twice in each sweep at least: before the lock is held, and under it.
        await BusFixture.Until(() => Volatile.Read(ref tried) > 4 * bad, "each is tried more than once");
        Assert.InRange(fixture.Warnings.Count(w => w.Contains("could not be recorded", StringComparison.Ordinal)), 1, 2);
    }

    [Fact]
    public async Task Duties_that_another_replica_records_keep_back_none_of_the_others()
    {
        await using var fixture = await NewFixture();
        var due = DateTimeOffset.UtcNow.AddSeconds(-1);
        var kind = new StreamKind<CallLogged>(
            "reminder",
            1,
            (state, e, _) => state.Call = e is ReadoutSubmitted ? "done" : "waits",
            due: state => state.Call == "waits" ? due : null
        );
        BusStatus[] replicas = [new(0), new(0)];
        fixture.MoreStreams = [kind];
        fixture.Duties =
        [
            new Duty(
                kind,
                (key, context) =>
                {
                    context.Find(kind, key);
                    // Both have found the first ones before any is recorded.
                    SpinWait.SpinUntil(() => replicas.All(r => r.LastDutySweep is not null));
                    return Decision.Accept("case_1", [], [new Change(new ReadoutSubmitted { Case = "case_1" }, [kind.Id(key)])]);
                }
            ),
        ];
        const int duties = 500;
        var ledger = await fixture.Ledger(fixture.CallLog);
        await Task.WhenAll(Enumerable.Range(0, duties).Select(i => BusFixture.Begin(ledger, kind, $"{i}", $"{i}")));
        // Half of the first ones are recorded by either. The commands of one come after half of those of the other, and before the rest.
        var permissions = new Permissions(StandardAgreement.Read());
        var commands = new int[replicas.Length];
        Permissions Turn(int replica)
        {
            var number = Interlocked.Increment(ref commands[replica]);
            if ((replica, number) is (0, 101))
                SpinWait.SpinUntil(() => Volatile.Read(ref commands[1]) >= 200);
            else if ((replica, number) is (1, 1))
                SpinWait.SpinUntil(() => Volatile.Read(ref commands[0]) > 100);
            return permissions;
        }

        // Each looks once only.
        var options = new BusOptions { Broker = fixture.Uri, DutyInterval = TimeSpan.FromHours(1) };
        List<DutySweep> sweeps =
        [
            .. replicas.Select(
                (status, replica) =>
                    new DutySweep(
                        fixture.CallLog,
                        ledger,
                        () => Turn(replica),
                        options,
                        status,
                        TimeProvider.System,
                        NullLogger<DutySweep>.Instance
                    )
            ),
        ];
        await Task.WhenAll(sweeps.Select(s => s.StartAsync(TestContext.Current.CancellationToken)));
        await BusFixture.Until(() => ledger.Size == 2 * duties, "all are recorded");
        foreach (var sweep in sweeps)
        {
            await sweep.StopAsync(TestContext.Current.CancellationToken);
            sweep.Dispose();
        }
    }

    /// <summary>Such as a notification that was missed, made late and then corrected.</summary>
    [Fact]
    public async Task A_duty_that_is_restored_falls_due_again_at_the_same_time()
    {
        await using var fixture = await NewFixture(o => o with { DutyInterval = TimeSpan.FromMilliseconds(50) });
        var due = DateTimeOffset.UtcNow.AddSeconds(-1);
        var kind = new StreamKind<CallLogged>(
            "reminder",
            1,
            (state, e, _) => state.Call = e is ReadoutSubmitted ? "done" : "waits",
            due: state => state.Call == "waits" ? due : null
        );
        fixture.MoreStreams = [kind];
        fixture.Duties =
        [
            new Duty(
                kind,
                (key, context) =>
                {
                    context.Find(kind, key);
                    return Decision.Accept("case_1", [], [new Change(new ReadoutSubmitted { Case = "case_1" }, [kind.Id(key)])]);
                }
            ),
        ];
        await fixture.StartBoth();
        var ledger = await fixture.Ledger(fixture.CallLog);
        for (var times = 1ul; times <= 3; times++)
        {
            await BusFixture.Begin(ledger, kind, "one", $"begun-{times}");
            await BusFixture.Until(() => ledger.Size == 2 * times, $"it is recorded {times} times");
        }
    }

    /// <summary>Such as what is added to a record after a link.</summary>
    [Fact]
    public async Task What_is_recorded_beside_duties_is_counted_as_none()
    {
        await using var fixture = await NewFixture(o => o with { DutyInterval = TimeSpan.FromMilliseconds(50) });
        var due = DateTimeOffset.UtcNow.AddSeconds(-1);
        // Of its own, because a process counts for all its services.
        var name = $"reminder-{Guid.NewGuid():N}";
        var kind = new StreamKind<CallLogged>(
            name,
            1,
            (state, e, entry) => state.Call = e is ReadoutSubmitted or CommitmentSettled ? "done" : entry.RequestId,
            due: state => state.Call == "done" ? null : due
        );
        fixture.MoreStreams = [kind];
        fixture.Duties =
        [
            new Duty(
                kind,
                (key, context) =>
                {
                    IMessage recorded = context.Find(kind, key)!.Call == "beside" ? new CommitmentSettled() : new ReadoutSubmitted();
                    return Decision.Accept("case_1", [], [new Change(recorded, [kind.Id(key)])]);
                }
            )
            {
                Besides = [CommitmentSettled.Descriptor],
            },
        ];
        long counted = 0;
        using var listener = new System.Diagnostics.Metrics.MeterListener
        {
            InstrumentPublished = (instrument, to) =>
            {
                if (instrument.Name == "ministries.duties.fell_due")
                    to.EnableMeasurementEvents(instrument);
            },
        };
        listener.SetMeasurementEventCallback<long>(
            (_, value, tags, _) =>
            {
                if (tags.ToArray().Any(t => Equals(t.Value, name)))
                    Interlocked.Add(ref counted, value);
            }
        );
        listener.Start();
        var ledger = await fixture.Ledger(fixture.CallLog);
        await BusFixture.Begin(ledger, kind, "one", "owed");
        await BusFixture.Begin(ledger, kind, "other", "beside");
        await fixture.StartBoth();
        await BusFixture.Until(() => ledger.Size == 4, "both are recorded");
        await BusFixture.Until(() => Interlocked.Read(ref counted) > 0, "what was owed is counted");
        // The next look comes after all that the first one counted.
        var looked = DateTimeOffset.UtcNow;
        await BusFixture.Until(() => fixture.Status(fixture.CallLog).LastDutySweep > looked.AddSeconds(1), "it is looked again");
        Assert.Equal(1, Interlocked.Read(ref counted));
    }

    protected static Ministries.Ledger.V1.ListEventsRequest After(string type, ulong sequence)
    {
        var request = new Ministries.Ledger.V1.ListEventsRequest { PageSize = 1 };
        request.After.Add(new Ministries.Ledger.V1.EventCursor { Type = $"ministries.calllog.v1.{type}", Sequence = sequence });
        return request;
    }
}

/// <summary>Services in one process, over memory.</summary>
public sealed class MemoryTests : EventsTests
{
    protected override Task<BusFixture> NewFixture(Func<BusOptions, BusOptions>? with = null) =>
        Task.FromResult(new BusFixture(null, with));
}

/// <summary>Services over a real RabbitMQ.</summary>
[Collection("RabbitMQ")]
public sealed class RabbitTests : EventsTests
{
    protected override async Task<BusFixture> NewFixture(Func<BusOptions, BusOptions>? with = null) => new(await Node.Clean(), with);
}
