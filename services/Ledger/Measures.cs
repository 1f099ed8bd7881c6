using System.Diagnostics;
using System.Diagnostics.Metrics;

namespace Ministries.Ledger;

/// <summary>What the ledger measures of itself, under the meter <c>Ministries</c>.</summary>
internal static class Measures
{
    /// <summary>The name of every meter of the services.</summary>
    internal const string Name = "Ministries";

    /// <summary>The bounds of times, in seconds: from a commit on a fast disk to an outage of some minutes.</summary>
    internal static readonly InstrumentAdvice<double> Times = new()
    {
        HistogramBucketBoundaries = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300],
    };

    internal static readonly Meter Meter = new(Name);

    private static readonly Histogram<int> Batches = Meter.CreateHistogram(
        "ministries.batch.size",
        "{command}",
        "Commands that were committed together.",
        advice: new InstrumentAdvice<int> { HistogramBucketBoundaries = [1, 2, 4, 8, 16, 32, 64, 128, 256] }
    );

    private static readonly Histogram<double> Durations = Meter.CreateHistogram(
        "ministries.commit.duration",
        "s",
        "From the start of a batch until its commands are durable and answered.",
        advice: Times
    );

    private static readonly Histogram<double> Lags = Meter.CreateHistogram(
        "ministries.commit.lag",
        "s",
        "From a command's entry into the queue until it is durable and answered.",
        advice: Times
    );

    private static readonly Counter<long> Failures = Meter.CreateCounter<long>(
        "ministries.commit.failures",
        "{command}",
        "Commands that were not committed although no rule refused them. An inconsistent database must not be served."
    );

    private static readonly Counter<long> Covers = Meter.CreateCounter<long>(
        "ministries.cover.entries",
        "{entry}",
        "Cover entries that were committed. The metrics of commands and batches do not count them."
    );

    private static readonly Counter<long> UnwrittenCovers = Meter.CreateCounter<long>(
        "ministries.cover.failures",
        "{commit}",
        "Scheduled commits that were not made or whose outcome is not known, with or without commands."
    );

    // A counter is reported as 0 first, because its first increase would not be seen otherwise.
    static Measures()
    {
        Covers.Add(0);
        foreach (var reason in (string[])["unavailable", "unknown", "inconsistent", "clock", "failed"])
        {
            Failures.Add(0, Reason(reason));
            UnwrittenCovers.Add(0, Reason(reason));
        }
    }

    internal static void Batch(int commands, TimeSpan took)
    {
        Batches.Record(commands);
        Durations.Record(took.TotalSeconds);
    }

    internal static void Answered(long since) => Lags.Record(Stopwatch.GetElapsedTime(since).TotalSeconds);

    internal static void Failed(Exception fault) => Failures.Add(1, ReasonOf(fault));

    internal static void Covered(int entries)
    {
        if (entries > 0)
            Covers.Add(entries);
    }

    internal static void NotCovered(Exception fault) => UnwrittenCovers.Add(1, ReasonOf(fault));

    private static KeyValuePair<string, object?> ReasonOf(Exception fault) =>
        Reason(
            fault switch
            {
                LedgerUnavailableException => "unavailable",
                CommitOutcomeUnknownException => "unknown",
                LedgerInconsistentException => "inconsistent",
                ClockNotTrustedException => "clock",
                _ => "failed",
            }
        );

    private static KeyValuePair<string, object?> Reason(string reason) => new("reason", reason);
}
