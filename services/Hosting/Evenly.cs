using System.Diagnostics;
using Grpc.Core;

namespace Ministries.Hosting;

/// <summary>
/// Answers "not there" so that the time of the answer reveals nothing (D22). A record that does not exist and one that the caller may not
/// see take the same reads and the same code path. Remaining differences, such as a larger record that is parsed or a page that is in
/// memory, are hidden by answering at whole ticks since the call began.
/// </summary>
internal static class Evenly
{
    /// <summary>How far apart the times are at which "not there" is answered: 20 ms. It is far more than what can differ, and less than
    /// what a person notices.</summary>
    public static readonly TimeSpan Tick = TimeSpan.FromMilliseconds(20);

    /// <summary>Returns at the next whole tick since the call began.</summary>
    public static Task Wait(ServerCallContext context)
    {
        var call = EdgeCall.Of(context);
        // A timer counts whole milliseconds. If it were started only here, the answer would still show by which fraction of a millisecond the
        // reads took longer.
        if (!call.FirstTick.IsCompleted)
            return call.FirstTick.WaitAsync(context.CancellationToken);
        var elapsed = Stopwatch.GetElapsedTime(call.Began);
        return Task.Delay(Tick - TimeSpan.FromTicks(elapsed.Ticks % Tick.Ticks), context.CancellationToken);
    }
}
