namespace Ministries.Ledger;

/// <summary>
/// The right to be the only replica that does something, for a limited time: a lease of <see cref="LedgerOptions.LeadTime"/>, which each
/// <see cref="Holds"/> renews. A replica that hangs, is stopped or is cut off from the database loses it, and another one takes over.
/// Disposing gives it up. Whoever held it before may still be in the middle of a step: so the effects of each step must be harmless if they
/// come late, or depend on the lead (<see cref="ServiceLedger.MoveCursor(string, ulong, Lead, CancellationToken)"/>).
/// </summary>
public abstract class Lead : IAsyncDisposable
{
    private protected Lead() { }

    /// <summary>The number of the replica among those that have led: each has a greater number than the previous one.</summary>
    public abstract ulong Fence { get; }

    /// <summary>Whether this replica renewed it so recently that nobody else can have it, by the clock that only goes forward. Ask before
    /// each step that only one replica should do; it costs nothing.</summary>
    public abstract bool IsHeld { get; }

    /// <summary>Renews it in the database if that was last done longer ago than a sixth of its time. False: another replica has it, or
    /// the database did not answer. Then it is lost for good.</summary>
    public abstract Task<bool> Holds(CancellationToken cancel);

    /// <inheritdoc/>
    public abstract ValueTask DisposeAsync();
}

/// <summary>Who has a lead in the database.</summary>
/// <param name="Name">What is done.</param>
/// <param name="Holder">Names the replica that took it. No other lease has this name.</param>
/// <param name="Fence">Counts how often the lease was taken.</param>
internal sealed record LeaseMark(string Name, string Holder, ulong Fence);

/// <summary>A lead that is a row of the database.</summary>
/// <param name="store">The database.</param>
/// <param name="mark">The row's content.</param>
/// <param name="time">How long the lease lasts.</param>
/// <param name="clock">Measures time.</param>
/// <param name="asked">When the lease was asked for, as a timestamp of the clock.</param>
internal sealed class Lease(Store store, LeaseMark mark, TimeSpan time, TimeProvider clock, long asked) : Lead
{
    private readonly SemaphoreSlim _one = new(1);
    private long _asked = asked;
    private volatile bool _lost;

    public LeaseMark Mark => mark;

    public override ulong Fence => mark.Fence;

    // The database counts from when it got the request, which is later. So for this replica the lease ends before it ends in the database.
    public override bool IsHeld => Probe.SkipFences || !_lost && clock.GetElapsedTime(Interlocked.Read(ref _asked)) < time;

    public override async Task<bool> Holds(CancellationToken cancel)
    {
        if (IsHeld && clock.GetElapsedTime(Interlocked.Read(ref _asked)) < time / 6)
            return true;
        await _one.WaitAsync(cancel);
        try
        {
            if (_lost && !Probe.SkipFences)
                return false;
            // A lease that ran out unnoticed by others may be renewed: nobody took it, and its number is still the last one.
            var asked = clock.GetTimestamp();
            await using var session = await store.Open(write: true, cancel);
            if (!await session.RenewLead(mark, time))
                _lost = true;
            else
                Interlocked.Exchange(ref _asked, asked);
            return IsHeld;
        }
        catch (Exception e) when (store.IsOutage(e) || e is LedgerInconsistentException)
        {
            _lost = true;
            return false;
        }
        finally
        {
            _one.Release();
        }
    }

    public override async ValueTask DisposeAsync()
    {
        if (_lost)
            return;
        _lost = true;
        try
        {
            await using var session = await store.Open(write: true, default);
            await session.GiveLead(mark);
        }
        catch (Exception e) when (store.IsOutage(e) || e is LedgerInconsistentException)
        {
            // The lease runs out by itself.
        }
    }
}
