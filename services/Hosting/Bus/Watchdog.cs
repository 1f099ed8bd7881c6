using System.Diagnostics;
using Microsoft.Extensions.Logging;
using RabbitMQ.Client;

namespace Ministries.Hosting.Bus;

/// <summary>
/// Starts the connection to the broker and watches it: a canary message must return through the broker, and the service's queue must have
/// a consumer. The client's own health report is not used, because the client may hang and still report itself healthy. Where it stalls
/// while the broker answers another connection, a new client is made. Where that does not help, the process ends.
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
    private IConnection? _plain;
    private IChannel? _channel;
    private string? _complained;
    private string? _unbound;
    private bool _bound;
    private long _gaveBack;
    private TimeSpan _allowed = options.HoldPatience;

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
            await Close();
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
            if (await GoesRound(++number, stop))
                lastCanary = Stopwatch.GetTimestamp();
            stop.ThrowIfCancellationRequested();
            var round = Stopwatch.GetElapsedTime(lastCanary) < options.CanaryDeadline;
            var answer = memory is null ? await Ask(stop) : new Answer(true, true);
            Say(round && (answer.Consumed || !answer.Reached));
            if (!answer.Reached || (round && answer.Consumed))
                (stalledSince, renewed) = (null, renewed && !round);
            else
            {
                stalledSince ??= Stopwatch.GetTimestamp();
                var stalled = Stopwatch.GetElapsedTime(stalledSince.Value);
                if (stalled > options.EndAfter)
                {
                    LogStalled(log, service.Name, stalled.TotalSeconds);
                    End();
                    return;
                }
                if (!renewed && stalled > options.RenewAfter)
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

    private readonly record struct Answer(bool Reached, bool Consumed);

    /// <summary>Asks the broker itself, over a connection of the plain client.</summary>
    private async Task<Answer> Ask(CancellationToken stop)
    {
        using var deadline = CancellationTokenSource.CreateLinkedTokenSource(stop);
        deadline.CancelAfter(TimeSpan.FromSeconds(3));
        try
        {
            if (_plain is { IsOpen: false } || _channel is { IsOpen: false })
                await Close();
            _plain ??= await Broker.Aside(() => broker.PlainConnection().CreateConnectionAsync(deadline.Token)).WaitAsync(deadline.Token);
            var plain = _plain;
            _channel ??= await Broker.Aside(() => plain.CreateChannelAsync(cancellationToken: deadline.Token)).WaitAsync(deadline.Token);
            if (!_bound && broker.Bus is not null)
                await Bind(plain, deadline.Token);
            if (service.Reactions.Count == 0)
            {
                await _channel.ExchangeDeclarePassiveAsync(Broker.CanaryExchangeOf(service.Name), deadline.Token).WaitAsync(deadline.Token);
                return new Answer(true, true);
            }
            var queue = await _channel.QueueDeclarePassiveAsync(Broker.QueueOf(service.Name), deadline.Token).WaitAsync(deadline.Token);
            return new Answer(true, queue.ConsumerCount > 0);
        }
        catch (RabbitMQ.Client.Exceptions.OperationInterruptedException e) when (e.ShutdownReason?.ReplyCode == 404)
        {
            await Close();
            return new Answer(true, false);
        }
        catch (Exception)
        {
            stop.ThrowIfCancellationRequested();
            await Close();
            return new Answer(false, false);
        }
    }

    // A broker that lost its disk lost its bindings and this connection, so each new connection binds again. Events of an exchange that is
    // not bound are read from the producer's ledger.
    private async Task Bind(IConnection plain, CancellationToken cancel)
    {
        var missing = await Broker.Aside(() => broker.Bind(plain, cancel)).WaitAsync(cancel);
        _bound = missing.Count == 0;
        var said = string.Join(", ", missing);
        if (said.Length > 0 && said != _unbound)
            LogUnbound(log, service.Name, said);
        _unbound = said;
    }

    private async Task Close()
    {
        _bound = false;
        var plain = _plain;
        (_plain, _channel) = (null, null);
        if (plain is null)
            return;
        try
        {
            await Broker
                .Aside(() => plain.CloseAsync(200, "done", TimeSpan.FromSeconds(1), abort: true))
                .WaitAsync(TimeSpan.FromSeconds(2));
        }
        catch (Exception)
        {
            // It is gone already.
        }
    }

    private void Say(bool ready)
    {
        status.BrokerReady = ready;
        lifecycle.Say("broker", ready);
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

    [LoggerMessage(
        5,
        LogLevel.Warning,
        "{Service} cannot receive these events yet, because no service has declared their exchanges: {Exchanges}"
    )]
    private static partial void LogUnbound(ILogger log, string service, string exchanges);

    [LoggerMessage(3, LogLevel.Warning, "{Service}: the broker answers but delivers no test message; the service reconnects")]
    private static partial void LogRenewed(ILogger log, string service);

    [LoggerMessage(
        6,
        LogLevel.Warning,
        "{Service} could take in none of its messages for {Seconds:F0} s, and gives them back to the broker: another replica receives them"
    )]
    private static partial void LogGivesBack(ILogger log, string service, double seconds);

    [LoggerMessage(
        4,
        LogLevel.Critical,
        "{Service}: the broker answers but has delivered no test message for {Seconds:F0} s; the process ends"
    )]
    private static partial void LogStalled(ILogger log, string service, double seconds);
}
