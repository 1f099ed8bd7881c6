using System.Diagnostics.Metrics;
using Microsoft.Extensions.Logging;
using Ministries.Ledger;
using Ministries.Serving;

namespace Ministries.Hosting;

/// <summary>
/// Asks the ledger every two seconds whether it can be served in full: whether a commit is answered, the clock is trusted, the database is
/// not behind what was signed, and the ledger's version of the agreement is in force here. Readiness and metrics follow the answer. A
/// database that takes no commits still answers reads, so the reads of <see cref="Vitals"/> do not show it.
/// </summary>
internal sealed partial class LedgerWatch : SupervisedService
{
    /// <summary>How often it asks, and how long an answer may take: 2 and 5 seconds.</summary>
    private static readonly TimeSpan Interval = TimeSpan.FromSeconds(2),
        Patience = TimeSpan.FromSeconds(5);

    private readonly ServiceLedger _ledger;
    private readonly Agreements _agreements;
    private readonly Lifecycle _life;
    private readonly ILogger<LedgerWatch> _log;
    private readonly Meter _meter = new(Measures.Name);
    private volatile LedgerCondition _condition = new(true, null, null, false);
    private string _said = "";

    // Which version of the agreement the ledger has, as far as this replica has seen.
    private ulong? _recorded;
    private bool _saidAsynchronous;

    public LedgerWatch(ServiceLedger ledger, Agreements agreements, Lifecycle life, ILogger<LedgerWatch> log)
        : base(log)
    {
        (_ledger, _agreements, _life, _log) = (ledger, agreements, life, log);
        Gauge(
            "ministries.ledger.writable",
            "1 where the last commit was answered and the database takes commits, else 0.",
            () => _condition.Writable
        );
        Gauge(
            "ministries.clock.trusted",
            "1 where this machine's clock agrees with the database's and with the time that only goes forward, else 0.",
            () => _condition.Clock is null
        );
        Gauge(
            "ministries.ledger.behind",
            "1 where the database is behind what was signed, or has another history, so that nothing is served from it, else 0.",
            () => _condition.Contradiction is not null
        );
        Gauge(
            "ministries.replication.asynchronous",
            "1 where commits wait for no standby although there is one or one is expected, else 0.",
            () => _condition.IsAsynchronous
        );
    }

    private void Gauge(string name, string description, Func<bool> value) =>
        _meter.CreateObservableGauge(name, () => value() ? 1 : 0, description: description);

    /// <inheritdoc/>
    protected override async Task Work(CancellationToken stop)
    {
        using var timer = new PeriodicTimer(Interval);
        do await Look(stop);
        while (await timer.WaitForNextTickAsync(stop));
    }

    private async Task Look(CancellationToken stop)
    {
        using var late = CancellationTokenSource.CreateLinkedTokenSource(stop);
        late.CancelAfter(Patience);
        var condition = _condition = await _ledger.Examine(late.Token);
        var wrong = condition.IsGood ? await LaterAgreement(stop) : condition.Wrong;
        stop.ThrowIfCancellationRequested();
        // The reason is in the log before readiness falls.
        if (wrong != _said)
        {
            _said = wrong;
            if (_said.Length > 0)
                LogWrong(_log, _ledger.Service, _said);
            else
                LogRight(_log, _ledger.Service);
        }
        _life.Say("ledger", wrong.Length == 0);
        if (condition.IsAsynchronous && !_saidAsynchronous)
            LogAsynchronous(_log, _ledger.Service);
        _saidAsynchronous = condition.IsAsynchronous;
    }

    // Every write is judged by the ledger's version, so this replica refuses all writes while its own version is earlier.
    private async Task<string> LaterAgreement(CancellationToken stop)
    {
        if (!_agreements.IsInForce)
            return "";
        using var late = CancellationTokenSource.CreateLinkedTokenSource(stop);
        late.CancelAfter(Patience);
        try
        {
            _recorded = (await _ledger.List(Agreements.Kind, [], null, 0, 1, late.Token)).SingleOrDefault()?.State.Version;
        }
        catch (Exception e) when (e is LedgerUnavailableException or LedgerInconsistentException or OperationCanceledException)
        {
            // The last answer stays, because versions only grow. The next look says what is wrong with the ledger.
        }
        catch (Exception)
        {
            // The agreement's record is damaged, or newer software has written it.
            return "the ledger's version of the agreement cannot be read";
        }
        var here = _agreements.InForce.Permissions.Agreement.Version;
        return _recorded > here
            ? $"the ledger has version {_recorded} of the agreement, and version {here} is in force here: give this replica the file of version {_recorded}"
            : "";
    }

    public override void Dispose()
    {
        _meter.Dispose();
        base.Dispose();
    }

    [LoggerMessage(70, LogLevel.Error, "{Service} is not fully served: {Wrong}")]
    private static partial void LogWrong(ILogger log, string service, string wrong);

    [LoggerMessage(71, LogLevel.Information, "{Service} is fully served again")]
    private static partial void LogRight(ILogger log, string service);

    [LoggerMessage(
        72,
        LogLevel.Warning,
        "the database of {Service} does not replicate synchronously (synchronous_standby_names, synchronous_commit): a failover would lose "
            + "what was answered"
    )]
    private static partial void LogAsynchronous(ILogger log, string service);
}
