using Ministries.CallLog.V1;
using Ministries.Fixtures;
using Ministries.Hosting.Bus;
using Ministries.Ledger;

namespace Ministries.Bus.Tests;

/// <summary>Two replicas of a service, of which one hangs: the other one does its work, and what the first does late has no
/// effect.</summary>
[Collection("RabbitMQ")]
public sealed class ReplicaTests : IAsyncLifetime
{
    private readonly Dictionary<string, string> _databases = [];
    private Uri _broker = null!;

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    public async ValueTask InitializeAsync()
    {
        _broker = await Node.Clean();
        foreach (var service in new[] { "calllog", "consular" })
            _databases[service] = await (await Postgres.Shared).CreateDatabase();
    }

    public ValueTask DisposeAsync()
    {
        Probe.Hook = null;
        return ValueTask.CompletedTask;
    }

    private BusFixture Replica(BusFixture? of = null, Func<BusOptions, BusOptions>? with = null) =>
        new(
            _broker,
            o =>
                (with ?? (other => other))(
                    o with
                    {
                        // Without the broker nothing comes in.
                        FillInterval = TimeSpan.FromMinutes(30),
                        HoldPatience = TimeSpan.FromSeconds(2),
                    }
                )
        )
        {
            DatabaseOf = service => _databases[service],
            Seal = of?.Seal ?? BusFixture.NewSeal(),
        };

    /// <summary>Those behind it go on, and it is processed again once the record is repaired.</summary>
    [Fact]
    public async Task An_event_that_changes_a_damaged_record_is_set_aside()
    {
        await using var fixture = Replica(with: o => o with { FirstDelay = TimeSpan.FromMilliseconds(5), Attempts = 3 });
        fixture.Decides = (e, context) =>
            e is ReadoutSubmitted readout ? BusFixture.Note(readout.Case, readout.Call, context, record: "damaged") : null;
        await fixture.StartBoth();
        await BusFixture.Begin(await fixture.Ledger(fixture.Consular), BusFixture.Noted, "damaged", "begun");
        // Imitates a damaged page: a change of the row fails with the error that PostgreSQL gives then.
        await (await Postgres.Shared).Execute(
            """
            create function damaged() returns trigger language plpgsql as $$ begin raise exception 'damaged' using errcode = 'XX001'; end $$;
            create trigger damaged before insert or update on streams for each row when (new.key = 'damaged') execute function damaged()
            """,
            _databases["consular"]
        );
        List<string> events = [await fixture.Log(), await fixture.Submit(), await fixture.Log()];
        await fixture.UntilEffects(events[0], events[2]);
        var letter = Assert.Single(await fixture.OpenLetters());
        Assert.Equal((events[1], "PROCESSING_FAILED", 3u), (letter.Id, letter.Reason, letter.Attempts));
        Assert.True((await (await fixture.Ledger(fixture.Consular)).Examine(TestContext.Current.CancellationToken)).IsGood);
    }

    [Fact]
    public async Task A_relay_that_hangs_loses_the_lead_and_what_it_sends_late_has_no_effect()
    {
        await using var one = Replica();
        await one.StartReady(one.Consular);
        await one.StartReady(one.CallLog);
        List<string> sent = [await one.Log()];
        await one.UntilEffects(sent);
        await using var two = Replica(one);
        await two.StartReady(two.CallLog);

        // Only the first relay leads, so it is the first to get there.
        using var hangs = new ManualResetEventSlim();
        using var goesOn = new ManualResetEventSlim();
        var (reached, published) = (0, 0);
        Probe.Hook = point =>
        {
            if (point == "after-confirm")
                Interlocked.Increment(ref published);
            if (point != "before-publish" || Interlocked.Increment(ref reached) != 1)
                return;
            hangs.Set();
            goesOn.Wait();
        };
        sent.Add(await one.Log());
        hangs.Wait(Cancel);
        for (var i = 0; i < 3; i++)
            sent.Add(await one.Log());
        await one.UntilEffects(sent);
        var cursor = await (await two.Ledger(two.CallLog)).ReadCursor("relay", Cancel);

        // It goes on in the middle of its step, and sends what its successor has sent.
        var before = Volatile.Read(ref published);
        goesOn.Set();
        await BusFixture.Until(() => Volatile.Read(ref published) > before, "the late publish");
        sent.Add(await one.Log());
        await one.UntilEffects(sent);
        Assert.Equal(sent, await one.Effects());
        Assert.True(await (await two.Ledger(two.CallLog)).ReadCursor("relay", Cancel) >= cursor);
    }

    [Fact]
    public async Task A_consumer_that_hangs_gives_its_messages_back_and_another_one_takes_them_in()
    {
        await using var one = Replica();
        var hanging = new TaskCompletionSource();
        one.OnAsk = cancel => hanging.Task.WaitAsync(cancel);
        await one.StartReady(one.Consular);
        await one.StartReady(one.CallLog);
        await using var two = Replica(one);
        await two.Ledger(two.CallLog);
        await two.StartReady(two.Consular);
        var sent = await one.Submit();
        await two.UntilEffects(sent);
        // What hung goes on, and finds that its event had its effect.
        hanging.SetResult();
        var more = await one.Log();
        await two.UntilEffects(sent, more);
    }

    [Fact]
    public async Task What_one_replica_takes_in_is_not_missing_to_another_one()
    {
        await using var one = Replica();
        await one.StartReady(one.Consular);
        await one.StartReady(one.CallLog);
        // No event is ever old enough for it to take it from the ledger.
        await using var two = Replica(
            one,
            o =>
                o with
                {
                    FillInterval = TimeSpan.FromMilliseconds(50),
                    MaxDelay = TimeSpan.FromMilliseconds(50),
                    FillAge = TimeSpan.FromHours(1),
                }
        );
        await two.Ledger(two.CallLog);
        await two.StartReady(two.Consular);
        List<string> sent = [await one.Log(), await one.Log()];
        await one.UntilEffects(sent);
        await BusFixture.Until(() => two.AskedAfter == 2, "it asks for later events alone");
    }

    [Fact]
    public async Task A_replica_that_starts_on_a_database_behind_hears_it_from_another_one_and_serves_nothing()
    {
        await using var one = Replica();
        await one.StartReady(one.CallLog);
        await one.Log();
        var kept = _databases["calllog"];
        _databases["calllog"] = await (await Postgres.Shared).CreateDatabase();
        await using var two = Replica(one);
        var refused = await Assert.ThrowsAsync<LedgerInconsistentException>(() => two.Ledger(two.CallLog));
        Assert.Contains("the database has 0 entries, but a checkpoint over 1 was signed (another replica has it)", refused.Message);
        // What it heard it knows from now on, though nobody is there who tells it.
        await one.Close(one.CallLog);
        await Assert.ThrowsAsync<LedgerInconsistentException>(() => two.Ledger(two.CallLog));
        _databases["calllog"] = kept;
        Assert.Equal(1UL, (await two.Ledger(two.CallLog)).Size);
    }

    [Fact]
    public async Task A_replica_that_started_first_with_an_older_file_hears_it_from_one_that_may_not_start()
    {
        await using var newer = Replica();
        await newer.Ledger(newer.CallLog);
        await newer.Log();
        await newer.Close(newer.CallLog);
        var kept = _databases["calllog"];
        _databases["calllog"] = await (await Postgres.Shared).CreateDatabase();
        // Nobody is there who knows better.
        await using var older = Replica(newer);
        await older.StartReady(older.CallLog);
        var ledger = await older.Ledger(older.CallLog);
        Assert.Null(await ledger.Find(BusFixture.Calls, "call-000001", null, Cancel));
        await Assert.ThrowsAsync<LedgerInconsistentException>(() => newer.Ledger(newer.CallLog));
        await UntilRefused(ledger);
        _databases["calllog"] = kept;
    }

    private static Task UntilRefused(ServiceLedger ledger) =>
        BusFixture.Until(
            async () =>
            {
                try
                {
                    await ledger.Find(BusFixture.Calls, "call-000001", null, Cancel);
                    return false;
                }
                catch (LedgerInconsistentException)
                {
                    return true;
                }
            },
            () => "the refusal"
        );

    [Fact]
    public async Task A_replica_whose_database_falls_behind_hears_it_from_another_one_and_serves_no_more()
    {
        await using var one = Replica();
        await one.StartReady(one.CallLog);
        var kept = _databases["calllog"];
        _databases["calllog"] = await (await Postgres.Shared).CreateDatabase();
        await using var two = Replica(one);
        // Nobody has signed more yet.
        var behind = await two.Ledger(two.CallLog);
        Assert.Null(await behind.Find(BusFixture.Calls, "call-000001", null, Cancel));
        await one.Log();
        await two.StartReady(two.CallLog);
        await UntilRefused(behind);
        Assert.False((await behind.Examine(Cancel)).IsGood);
        Assert.True((await (await one.Ledger(one.CallLog)).Examine(Cancel)).IsGood);
        _databases["calllog"] = kept;
    }
}
