using System.Diagnostics.CodeAnalysis;

namespace Ministries.Ledger;

/// <summary>When a ledger that hides how much is recorded commits: at the end of each interval since it was opened. An interval whose end
/// comes while an earlier commit still runs is made up for at once; several of them, by one commit.</summary>
/// <param name="time">The clock. Its time that only goes forward counts.</param>
/// <param name="interval">The interval.</param>
[SuppressMessage("Design", "CA1001", Justification = "A SemaphoreSlim whose wait handle nobody asks for holds nothing to free.")]
internal sealed class CoverSchedule(TimeProvider time, TimeSpan interval)
{
    private readonly SemaphoreSlim _woken = new(0);
    private readonly long _began = time.GetTimestamp();
    private long _past;

    /// <summary>Waits for the end of the next interval, or until there is no need for it.</summary>
    /// <param name="isOver">Whether there is none any more. It is looked at after each <see cref="Wake"/>.</param>
    public void Wait(Func<bool> isOver)
    {
        // The thread waits by itself, because a timer's callback would wait behind calls for a thread of the pool. The timer is for a clock
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

    /// <summary>Has the thread that waits look again.</summary>
    public void Wake() => _woken.Release();

    private TimeSpan Left() => interval * (_past + 1) - time.GetElapsedTime(_began);
}
