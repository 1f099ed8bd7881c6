using System.Diagnostics;

namespace Ministries.Cluster;

/// <summary>How long something did not happen.</summary>
/// <param name="What">What it is.</param>
/// <param name="Time">The longest time without it.</param>
/// <param name="From">When that time began, from the beginning of the measurement on.</param>
internal sealed record Outage(string What, TimeSpan Time, TimeSpan From);

/// <summary>Measures the longest time in which something that should happen all the time did not.</summary>
/// <param name="what">What should happen.</param>
internal sealed class Silence(string what)
{
    private readonly object _access = new();
    private long _began = Stopwatch.GetTimestamp();
    private long _last = Stopwatch.GetTimestamp();
    private Outage _longest = new(what, TimeSpan.Zero, TimeSpan.Zero);

    /// <summary>The longest time since the measurement began, the present one included.</summary>
    public Outage Longest
    {
        get
        {
            lock (_access)
                return Until(Stopwatch.GetTimestamp());
        }
    }

    /// <summary>It happened.</summary>
    public void End()
    {
        lock (_access)
        {
            var now = Stopwatch.GetTimestamp();
            (_longest, _last) = (Until(now), now);
        }
    }

    /// <summary>Begins a measurement, from which on the time counts.</summary>
    public void Begin()
    {
        lock (_access)
            (_began, _last, _longest) = (Stopwatch.GetTimestamp(), Stopwatch.GetTimestamp(), new(what, TimeSpan.Zero, TimeSpan.Zero));
    }

    private Outage Until(long now) =>
        Stopwatch.GetElapsedTime(_last, now) is var time && time > _longest.Time
            ? new(what, time, Stopwatch.GetElapsedTime(_began, _last))
            : _longest;
}
