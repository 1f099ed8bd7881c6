using Ministries.Fixtures;
using static Ministries.Ledger.Tests.Counting;

namespace Ministries.Ledger.Tests;

/// <summary>A lead is a lease: who hangs loses it, and cannot do afterwards what only its holder may.</summary>
public sealed class LeadTests
{
    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    private static async Task Run(string connection, string sql) => await (await Postgres.Shared).Execute(sql, connection);

    [Fact]
    public async Task Who_hangs_loses_the_lead_and_moves_no_cursor_any_more()
    {
        var connection = await new PostgreSql().Create();
        var clock = new Clock();
        await using var one = await ServiceLedger.Open(Options(connection, time: clock), Cancel);
        await using var two = await ServiceLedger.Open(Options(connection), Cancel);
        await using var hanging = (await one.TryLead("relay", Cancel))!;
        Assert.True(hanging.IsHeld && await hanging.Holds(Cancel));
        Assert.True(await one.MoveCursor("relay", 3, hanging, Cancel));
        Assert.Null(await two.TryLead("relay", Cancel));
        // Its time passes while it hangs. It knows that by itself, before it asks anybody.
        clock.Now += TimeSpan.FromSeconds(6);
        Assert.False(hanging.IsHeld);
        await Run(connection, "update leads set until = until - interval '6 s'");
        await using var next = (await two.TryLead("relay", Cancel))!;
        Assert.True(next.IsHeld && next.Fence > hanging.Fence);
        Assert.False(await hanging.Holds(Cancel));
        Assert.False(await one.MoveCursor("relay", 9, hanging, Cancel));
        Assert.Equal(3UL, await two.ReadCursor("relay", Cancel));
        Assert.True(await two.MoveCursor("relay", 4, next, Cancel));
        Assert.True(await next.Holds(Cancel));
    }

    [Fact]
    public async Task A_lead_that_ran_out_and_that_nobody_took_is_renewed()
    {
        var connection = await new PostgreSql().Create();
        var clock = new Clock();
        await using var one = await ServiceLedger.Open(Options(connection, time: clock), Cancel);
        await using var lead = (await one.TryLead("relay", Cancel))!;
        clock.Now += TimeSpan.FromSeconds(60);
        await Run(connection, "update leads set until = until - interval '60 s'");
        Assert.False(lead.IsHeld);
        Assert.True(await lead.Holds(Cancel));
        Assert.True(lead.IsHeld);
    }

    [Fact]
    public async Task A_lead_given_by_a_clock_that_was_days_ahead_is_taken_over()
    {
        var connection = await new PostgreSql().Create();
        await using var one = await ServiceLedger.Open(Options(connection), Cancel);
        await using var two = await ServiceLedger.Open(Options(connection), Cancel);
        await using var first = (await one.TryLead("relay", Cancel))!;
        await Run(connection, "update leads set until = until + interval '30 days'");
        await using var next = await two.TryLead("relay", Cancel);
        Assert.NotNull(next);
    }

    [Fact]
    public async Task Who_is_cut_off_from_the_database_does_not_hold_the_lead()
    {
        var server = await Postgres.Create();
        try
        {
            var clock = new Clock();
            await using var one = await ServiceLedger.Open(Options(await server.CreateDatabase(), time: clock), Cancel);
            var lead = (await one.TryLead("relay", Cancel))!;
            server.Crash();
            // Within a sixth of its time it is not asked again.
            Assert.True(await lead.Holds(Cancel));
            clock.Now += TimeSpan.FromSeconds(1);
            Assert.False(await lead.Holds(Cancel));
            Assert.False(lead.IsHeld);
            await lead.DisposeAsync();
        }
        finally
        {
            server.Stop();
        }
    }
}
