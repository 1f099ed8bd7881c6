namespace Ministries.Ministry.Tests;

/// <summary>A clock on which the two seconds are over at once after which it is said what takes so long. All else takes its time.</summary>
internal sealed class HastyClock : TimeProvider
{
    public override ITimer CreateTimer(TimerCallback callback, object? state, TimeSpan dueTime, TimeSpan period)
    {
        if (dueTime != TimeSpan.FromSeconds(2))
            return base.CreateTimer(callback, state, dueTime, period);
        callback(state);
        return base.CreateTimer(_ => { }, null, Timeout.InfiniteTimeSpan, period);
    }
}
