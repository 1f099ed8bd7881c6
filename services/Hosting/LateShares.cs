using Microsoft.Extensions.Logging;
using Ministries.Ledger;
using Ministries.Serving;

namespace Ministries.Hosting;

/// <summary>Erases what was given of a sealed datum that was erased at the same time. The call that gave it erases it at once, unless the
/// process dies or the database is out of reach just then. So this looks for it at the start, and every five minutes from then on.</summary>
internal sealed class LateShares(ServiceLedger ledger, TimeProvider time, ILogger<LateShares> log) : SupervisedService(log)
{
    /// <summary>How often it looks: every 5 minutes.</summary>
    public static readonly TimeSpan Interval = TimeSpan.FromMinutes(5);

    /// <inheritdoc/>
    protected override async Task Work(CancellationToken stop)
    {
        using var timer = new PeriodicTimer(Interval, time);
        do await ledger.EraseLateShares(stop);
        while (await timer.WaitForNextTickAsync(stop));
    }
}
