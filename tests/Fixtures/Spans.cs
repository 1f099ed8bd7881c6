using System.Collections.Concurrent;
using System.Diagnostics;

namespace Ministries.Fixtures;

/// <summary>Records every span of the services in this process, from now until it is disposed.</summary>
public sealed class Spans : IDisposable
{
    private readonly ConcurrentQueue<Activity> _ended = new();
    private readonly ActivityListener _listener;

    public Spans()
    {
        _listener = new ActivityListener
        {
            ShouldListenTo = source => source.Name == "Ministries",
            Sample = (ref ActivityCreationOptions<ActivityContext> _) => ActivitySamplingResult.AllDataAndRecorded,
            ActivityStopped = _ended.Enqueue,
        };
        ActivitySource.AddActivityListener(_listener);
    }

    /// <summary>The spans that have ended so far, in the order of their ends. Other tests of the process may have some among
    /// them.</summary>
    public IReadOnlyList<Activity> Ended => [.. _ended];

    public void Dispose() => _listener.Dispose();
}
