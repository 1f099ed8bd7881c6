using System.Diagnostics;
using Grpc.Core;

namespace Ministries.Hosting;

/// <summary>
/// Answers "not there" so that its time tells nothing (D22). What is not there and what is not for the caller take the same reads and
/// the same way; what is left of a difference, such as a greater record that is parsed or a page that is in memory, is hidden by answering
/// at whole ticks since the call began.
/// </summary>
internal static class Evenly
{
    /// <summary>How far apart the times are at which "not there" is answered: 20 ms. It is far more than what can differ, and less than
    /// what a person notices.</summary>
    public static readonly TimeSpan Tick = TimeSpan.FromMilliseconds(20);

    /// <summary>Returns at the next whole tick since the call began.</summary>
    public static Task Wait(ServerCallContext context)
    {
        var elapsed = Stopwatch.GetElapsedTime(EdgeCall.Of(context).Began);
        return Task.Delay(Tick - TimeSpan.FromTicks(elapsed.Ticks % Tick.Ticks), context.CancellationToken);
    }
}
