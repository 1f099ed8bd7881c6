using Microsoft.Extensions.Logging;
using Ministries.Ledger;
using Ministries.Serving;

namespace Ministries.Hosting;

/// <summary>Erases a share of a sealed datum if the datum was erased while the share was made. The call that made the share erases it at
/// once, unless the process dies or the database is out of reach at that moment. So this service looks for such shares at the start and
/// every five minutes.</summary>
internal sealed class LateShares(ServiceLedger ledger, TimeProvider time, ILogger<LateShares> log) : SupervisedService(log)
{
    /// <summary>The time between two searches: 5 minutes.</summary>
    public static readonly TimeSpan Interval = TimeSpan.FromMinutes(5);

    /// <inheritdoc/>
    protected override async Task Work(CancellationToken stop)
    {
        using var timer = new PeriodicTimer(Interval, time);
        do await ledger.EraseLateShares(stop);
        while (await timer.WaitForNextTickAsync(stop));
    }
}
