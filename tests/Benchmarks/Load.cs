using System.Diagnostics;
using Grpc.Core;

namespace Ministries.Benchmarks;

/// <summary>What was measured in one round.</summary>
/// <param name="Count">How many calls were completed.</param>
/// <param name="Elapsed">How long it took.</param>
/// <param name="Latencies">How long each call took, in milliseconds, sorted.</param>
/// <param name="Refused">How many were refused for too much load.</param>
internal sealed record Measured(int Count, TimeSpan Elapsed, double[] Latencies, int Refused = 0)
{
    public double Rate => Count / Elapsed.TotalSeconds;

    /// <summary>The latency that a share of them did not exceed, in milliseconds.</summary>
    public double At(double share) => Of(Latencies, share);

    public static double Of(IReadOnlyList<double> sorted, double share) =>
        sorted.Count == 0 ? double.NaN : sorted[Math.Clamp((int)Math.Ceiling(share * sorted.Count) - 1, 0, sorted.Count - 1)];
}

/// <summary>Makes load.</summary>
internal static class Load
{
    /// <summary>Load by callers who each wait for their answer before they call again.</summary>
    public static async Task<Measured> Closed(int callers, TimeSpan time, Func<int, CancellationToken, Task> call)
    {
        var began = Stopwatch.GetTimestamp();
        var latencies = await Task.WhenAll(
            Enumerable
                .Range(0, callers)
                .Select(caller =>
                    Task.Run(async () =>
                    {
                        var own = new List<double>();
                        while (Stopwatch.GetElapsedTime(began) < time)
                        {
                            var since = Stopwatch.GetTimestamp();
                            await call(caller, default);
                            own.Add(Stopwatch.GetElapsedTime(since).TotalMilliseconds);
                        }
                        return own;
                    })
                )
        );
        var elapsed = Stopwatch.GetElapsedTime(began);
        var all = latencies.SelectMany(l => l).Order().ToArray();
        return new Measured(all.Length, elapsed, all);
    }

    /// <summary>Makes a call; false: it was refused for too much load.</summary>
    public static async Task<bool> HasRoom(Func<Task> call)
    {
        try
        {
            await call();
            return true;
        }
        catch (RpcException e) when (e.StatusCode == StatusCode.ResourceExhausted)
        {
            return false;
        }
    }

    /// <summary>Load by calls that come whether earlier ones were answered or not, at random times with a given rate (a Poisson process). A
    /// call's latency counts from the time at which it was due, so that waiting is included.</summary>
    /// <param name="rate">Calls per second.</param>
    /// <param name="time">How long they come.</param>
    /// <param name="call">The call; false: it was refused for too much load.</param>
    /// <param name="seed">The seed of the random times.</param>
    public static async Task<Measured> Open(double rate, TimeSpan time, Func<int, CancellationToken, Task<bool>> call, int seed = 1)
    {
        var random = new Random(seed);
        var running = new List<Task<double>>();
        var began = Stopwatch.GetTimestamp();
        var next = TimeSpan.Zero;
        var number = 0;
        while (next < time)
        {
            var elapsed = Stopwatch.GetElapsedTime(began);
            if (next > elapsed)
            {
                await Task.Delay(1);
                continue;
            }
            var (due, own) = (next, number++);
            running.Add(
                Task.Run(async () => await call(own, default) ? (Stopwatch.GetElapsedTime(began) - due).TotalMilliseconds : double.NaN)
            );
            next += TimeSpan.FromSeconds(-Math.Log(1 - random.NextDouble()) / rate);
        }
        var done = await Task.WhenAll(running);
        var answered = done.Where(d => !double.IsNaN(d)).Order().ToArray();
        return new Measured(answered.Length, Stopwatch.GetElapsedTime(began), answered, done.Length - answered.Length);
    }
}

/// <summary>The median of some figures and their range.</summary>
internal sealed record Figures(double Median, double Least, double Greatest)
{
    public static Figures Of(IEnumerable<double> values)
    {
        var sorted = values.Order().ToArray();
        var middle = sorted.Length / 2;
        return new Figures(sorted.Length % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2, sorted[0], sorted[^1]);
    }
}

/// <summary>One line of the table.</summary>
/// <param name="Row">Its letter.</param>
/// <param name="Work">What was done.</param>
/// <param name="Baseline">What it is compared with; empty: nothing.</param>
/// <param name="Ratio">The ratio of the two, round by round; null: there is none.</param>
/// <param name="Goal">The goal, in words.</param>
/// <param name="Reached">Whether the goal was reached; null: it was not measured.</param>
/// <param name="Figure">The figures behind the ratio, in words.</param>
/// <param name="P50">Latency that half of the calls did not exceed, in milliseconds.</param>
/// <param name="P99">Latency that 99 of 100 calls did not exceed, in milliseconds.</param>
internal sealed record Line(
    string Row,
    string Work,
    string Baseline,
    Figures? Ratio,
    string Goal,
    bool? Reached,
    string Figure,
    double? P50 = null,
    double? P99 = null
);
