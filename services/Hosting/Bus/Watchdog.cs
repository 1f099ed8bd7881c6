using System.Diagnostics;
using Microsoft.Extensions.Logging;
using Ministries.Serving;

namespace Ministries.Hosting.Bus;

/// <summary>
/// Starts the connection to the broker and watches it: a canary message must return through the broker, and the service's queue must have a
/// consumer. The client's own health report is not used, because the client may hang and still report itself healthy. Where it stalls while
/// the broker takes and delivers messages over another connection, a new client is made. Where that does not help, the process ends, unless
/// no client of it ever worked. A broker that takes or delivers no messages there either, for instance because of an alarm or a missing
/// permission, is a state of its own: the service is not ready, says why, keeps its connection, and waits. A new process would do no
/// better.
/// </summary>
internal sealed partial class Watchdog(
    Service service,
    Broker broker,
    BusOptions options,
    BusStatus status,
    Lifecycle lifecycle,
    ILogger<Watchdog> log,
    MemoryBroker? memory = null
) : SupervisedService(log)
{
    private readonly BrokerInquiry _inquiry = new(service, broker, options, log);
    private string? _complained;
    private long _gaveBack;
    private TimeSpan _allowed = options.HoldPatience;
    private BrokerInquiry.Obstacle? _obstacle;
    private bool _proven;

    // Whether a client of this process ever worked. If none did, a new process does no better: it is new itself. So it is where the
    // service's queue has no leader, for instance.
    private bool _worked;

    /// <inheritdoc/>
    protected override async Task Work(CancellationToken stop)
    {
        try
        {
            await Watch(stop);
        }
        finally
        {
            Say(false);
            await _inquiry.Close();
            await broker.Stop();
        }
    }

    private async Task Watch(CancellationToken stop)
    {
        await Start(stop);
        var (number, renewed) = (0L, false);
        var lastCanary = Stopwatch.GetTimestamp();
        long? stalledSince = null;
        while (true)
        {
            // While the broker takes or delivers no messages, further messages would only wait in its memory and in ours.
            if (!IsBroken && await GoesRound(++number, stop))
                lastCanary = Stopwatch.GetTimestamp();
            stop.ThrowIfCancellationRequested();
            var round = Stopwatch.GetElapsedTime(lastCanary) < options.CanaryDeadline;
            var answer = memory is null ? await _inquiry.Ask(stop) : new BrokerInquiry.Answer(true, true);
            await FindObstacle(round, answer, stop);
            Say(round && _obstacle is null && (answer.Consumed || !answer.Reached));
            // The broker's own obstacle is no fault of the client, and neither a new client nor a new process would mend it.
            if (!answer.Reached || IsBroken || (round && answer.Consumed))
                (stalledSince, renewed) = (null, renewed && !round);
            else
            {
                stalledSince ??= Stopwatch.GetTimestamp();
                var stalled = Stopwatch.GetElapsedTime(stalledSince.Value);
                if (stalled > options.EndAfter && _worked && _obstacle is null)
                {
                    LogStalled(log, service.Name, stalled.TotalSeconds);
                    End();
                    return;
                }
                if (stalled > (renewed ? options.EndAfter : options.RenewAfter))
                {
                    LogRenewed(log, service.Name);
                    renewed = true;
                    await broker.Stop();
                    await Start(stop);
                    stalledSince = lastCanary = Stopwatch.GetTimestamp();
                }
            }
            if (memory is null)
                await GiveBack(stop);
            await Task.Delay(options.CanaryInterval, stop);
        }
    }

    /// <summary>Gives messages back that the service holds and cannot take in. The queue has one consumer at a time, and this connection
    /// is alive, so the broker would leave them here. The next connection is the last in turn: another replica's consumer comes first.
    /// </summary>
    private async Task GiveBack(CancellationToken stop)
    {
        if (broker.Held == TimeSpan.Zero && Stopwatch.GetElapsedTime(_gaveBack) > _allowed * 2)
            _allowed = options.HoldPatience;
        if (broker.Held <= _allowed || Stopwatch.GetElapsedTime(_gaveBack) <= _allowed)
            return;
        LogGivesBack(log, service.Name, broker.Held.TotalSeconds);
        _allowed = _allowed * 2 < options.LongestHold ? _allowed * 2 : options.LongestHold;
        await broker.GiveBack();
        await Start(stop);
        _gaveBack = Stopwatch.GetTimestamp();
    }

    private async Task Start(CancellationToken stop)
    {
        _proven = false;
        using var deadline = CancellationTokenSource.CreateLinkedTokenSource(stop);
        deadline.CancelAfter(options.StartDeadline);
        try
        {
            await Broker.Aside(() => broker.Start(deadline.Token)).WaitAsync(deadline.Token);
            _complained = null;
            LogStarted(log, service.Name);
        }
        catch (Exception e) when (!stop.IsCancellationRequested)
        {
            // The start is tried about every second, so the same failure is logged once.
            if (_complained != e.GetType().Name)
                LogNotStarted(log, service.Name, _complained = e.GetType().Name);
            await broker.Stop();
        }
    }

    private async Task<bool> GoesRound(long number, CancellationToken stop)
    {
        if (broker.Bus is null)
        {
            await Start(stop);
            if (broker.Bus is null)
                return false;
        }
        using var deadline = CancellationTokenSource.CreateLinkedTokenSource(stop);
        deadline.CancelAfter(options.CanaryDeadline);
        try
        {
            await Broker.Aside(() => broker.SendCanary(number, deadline.Token)).WaitAsync(deadline.Token);
            while (await broker.Canaries.ReadAsync(deadline.Token) < number) { }
            return true;
        }
        catch (Exception)
        {
            return false;
        }
    }

    // An inquiry that failed proves nothing: the fault may be in this process.
    private bool IsBroken => _obstacle is { Kind: not BrokerInquiry.ObstacleKind.Unclear };

    // A new connection counts only when the broker has taken several messages from it: during an alarm, it takes the first.
    private async Task FindObstacle(bool round, BrokerInquiry.Answer answer, CancellationToken stop)
    {
        var works = round && answer.Consumed;
        var asks = memory is null && answer.Reached && !(works && _proven);
        var found = asks ? await _inquiry.FindObstacle(stop) : null;
        _proven |= works && found is null;
        _worked |= _proven;
        // What only the plain client meets does not concern a client whose own message went round.
        _obstacle = works && found is { Kind: not BrokerInquiry.ObstacleKind.Barred } ? null : found;
        status.BrokerObstacle = _obstacle?.Text;
    }

    private void Say(bool ready)
    {
        status.BrokerReady = ready;
        lifecycle.Say("broker", ready, _obstacle?.Text);
    }

    /// <summary>Ends the process: in order if possible, at once where the stalled client prevents that.</summary>
    private void End()
    {
        lifecycle.End(ServiceHost.Stalled);
        if (!options.EndsProcess)
            return;
        new Thread(() =>
        {
            Thread.Sleep(TimeSpan.FromSeconds(5));
            Environment.Exit(ServiceHost.Stalled);
        })
        {
            IsBackground = true,
            Name = "end of a stalled process",
        }.Start();
    }

    [LoggerMessage(1, LogLevel.Information, "{Service} is connected to the broker")]
    private static partial void LogStarted(ILogger log, string service);

    [LoggerMessage(2, LogLevel.Warning, "{Service} cannot reach the broker: {Error}")]
    private static partial void LogNotStarted(ILogger log, string service, string error);

    [LoggerMessage(3, LogLevel.Warning, "{Service}: the broker answers but delivers no test message; the service reconnects")]
    private static partial void LogRenewed(ILogger log, string service);

    [LoggerMessage(
        6,
        LogLevel.Warning,
        "{Service} has taken in no event for {Seconds:F0} s and gives its messages back, so that another replica receives them"
    )]
    private static partial void LogGivesBack(ILogger log, string service, double seconds);

    [LoggerMessage(
        4,
        LogLevel.Critical,
        "{Service}: the broker answers but has delivered no test message for {Seconds:F0} s; the process ends"
    )]
    private static partial void LogStalled(ILogger log, string service, double seconds);
}
