using System.Diagnostics.CodeAnalysis;

namespace Ministries.Ledger;

/// <summary>The times at which a ledger commits that hides how much is recorded: the end of each interval since it was opened. If an
/// interval ends while an earlier commit still runs, the next commit follows at once. One commit makes up for several such
/// intervals.</summary>
/// <param name="time">The clock. Its time that only goes forward counts.</param>
/// <param name="interval">The interval.</param>
[SuppressMessage("Design", "CA1001", Justification = "A SemaphoreSlim whose wait handle nobody asks for holds nothing to free.")]
internal sealed class CoverSchedule(TimeProvider time, TimeSpan interval)
{
    private readonly SemaphoreSlim _woken = new(0);
    private readonly long _began = time.GetTimestamp();
    private long _past;

    /// <summary>Waits for the end of the next interval, or until waiting is no longer needed.</summary>
    /// <param name="isOver">Whether waiting is no longer needed. It is asked after each <see cref="Wake"/>.</param>
    public void Wait(Func<bool> isOver)
    {
        // The thread itself waits, because a timer's callback would wait behind calls for a thread of the pool. The timer serves a clock
        // that is not the machine's.
        using var timer = time.CreateTimer(_ => Wake(), null, Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan);
        while (!isOver() && Left() is var left && left > TimeSpan.Zero)
        {
            timer.Change(left, Timeout.InfiniteTimeSpan);
            if (Left() > TimeSpan.Zero)
                _woken.Wait(left);
        }
        _past = time.GetElapsedTime(_began).Ticks / interval.Ticks;
    }

    /// <summary>Makes the waiting thread look again.</summary>
    public void Wake() => _woken.Release();

    private TimeSpan Left() => interval * (_past + 1) - time.GetElapsedTime(_began);
}
