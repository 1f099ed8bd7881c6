using System.Collections.Concurrent;
using System.Diagnostics;
using MassTransit;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Ministries.Ledger;
using Ministries.Ledger.V1;

namespace Ministries.Hosting.Bus;

/// <summary>
/// Hands the ledger's events to the broker in their order. It says that it has come further only when the broker has confirmed
/// all up to there; what it sent beyond is sent again, and known by its id. One replica relays, the one that holds the lead.
/// </summary>
internal sealed partial class Relay(
    ServiceLedger ledger, Broker broker, MessageSeal seal, BusOptions options, BusStatus status, ILogger<Relay> log) : BackgroundService
{
    internal const string Name = "relay";
    private const int Page = 256;
    private const int Memory = 1000;

    private readonly Dictionary<string, ulong> _last = [];
    private readonly ConcurrentDictionary<string, byte> _received = [];
    private readonly ConcurrentDictionary<string, long> _returned = [];
    private volatile string? _error;
    private (DateTimeOffset From, DateTimeOffset? Until)? _outage;

    protected override Task ExecuteAsync(CancellationToken stoppingToken) =>
        Task.WhenAll(Lead(stoppingToken), Measure(stoppingToken));

    private async Task Lead(CancellationToken stop)
    {
        while (!stop.IsCancellationRequested)
            try
            {
                await using var lead = await ledger.TryLead(Name, stop);
                if (lead is not null) await Run(lead, stop);
                await Task.Delay(options.MaxDelay, stop);
            }
            catch (Exception e) when (e is not OperationCanceledException || !stop.IsCancellationRequested)
            {
                LogFailed(log, ledger.Service, e.GetType().Name);
                await Task.Delay(options.MaxDelay, stop).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            }
            catch (OperationCanceledException)
            {
                return;
            }
    }

    private async Task Run(Lead lead, CancellationToken stop)
    {
        var cursor = await ledger.ReadCursor(Name, stop);
        _last.Clear();
        var first = cursor > Memory ? cursor - Memory : 0;
        if (cursor > 0)
            foreach (var before in await ledger.EventsAfter(first, (int)(cursor - first), stop)) Remember(before.Event.Event);
        var delay = options.FirstDelay;
        while (await lead.Holds(stop))
        {
            var size = ledger.Size;
            var events = await ledger.EventsAfter(cursor, Page, stop);
            if (events.Count == 0)
            {
                using var look = CancellationTokenSource.CreateLinkedTokenSource(stop);
                look.CancelAfter(options.MaxDelay);
                await ledger.WaitForMore(size, look.Token).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
                stop.ThrowIfCancellationRequested();
                continue;
            }
            var (published, began, away) = (0, DateTimeOffset.UtcNow, true);
            if (broker.Bus is { } bus && status.BrokerReady) (published, away) = await Publish(bus, events, stop);
            if (published > 0 && _outage is (var from, null)) _outage = (from, began);
            if (away && _outage is not (_, null)) _outage = (DateTimeOffset.UtcNow, null);
            if (published > 0)
            {
                cursor = events[published - 1].Number;
                foreach (var done in events.Take(published)) Remember(done.Event.Event);
                await ledger.MoveCursor(Name, cursor, stop);
                delay = options.FirstDelay;
            }
            if (published == events.Count) continue;
            await Task.Delay(delay, stop);
            delay = delay * 2 < options.MaxDelay ? delay * 2 : options.MaxDelay;
        }
    }

    private void Remember(Ledger.V1.Event e) => _last[e.Type] = Math.Max(_last.GetValueOrDefault(e.Type), e.Sequence);

    /// <summary>Publishes in order, a window at a time. Returns how many were confirmed in a row, and whether the broker failed.
    /// </summary>
    private async Task<(int InRow, bool Away)> Publish(IBus bus, IReadOnlyList<NumberedEvent> events, CancellationToken stop)
    {
        using var window = new SemaphoreSlim(options.PublishWindow);
        var after = new Dictionary<string, ulong>(_last);
        var sent = new List<Task<bool>>(events.Count);
        var failed = false;

        async Task<bool> Send(NumberedEvent e, IReadOnlyDictionary<string, ulong> before)
        {
            var confirmed = false;
            try
            {
                confirmed = await Publish(bus, e.Event, before, stop);
                return confirmed;
            }
            finally
            {
                if (!confirmed) Volatile.Write(ref failed, true);
                window.Release();
            }
        }

        foreach (var e in events)
        {
            await window.WaitAsync(stop);
            if (Volatile.Read(ref failed)) break;
            var type = e.Event.Event.Type;
            sent.Add(Send(e, after.Where(a => a.Key != type).ToDictionary()));
            after[type] = e.Event.Event.Sequence;
        }
        var inRow = 0;
        var row = true;
        foreach (var one in sent)
        {
            row &= await one;
            if (row) inRow++;
        }
        var error = Interlocked.Exchange(ref _error, null);
        if (error is not null)
            LogNotPublished(log, ledger.Service, sent.Count - inRow, EventTypes.IdOf(events[inRow].Event.Origin), error);
        return (inRow, error is not null);
    }

    private async Task<bool> Publish(
        IBus bus, RecordedEvent recorded, IReadOnlyDictionary<string, ulong> after, CancellationToken stop)
    {
        if (EventKind.Of(recorded.Event.Type) is not { } kind) return true;
        var (outside, began) = (Activity.Current, DateTimeOffset.UtcNow);
        using var span = Tracing.Start($"publish {recorded.Event.Type}", ActivityKind.Producer, recorded);
        Tracing.Describe(span, recorded, "publish");
        using var deadline = CancellationTokenSource.CreateLinkedTokenSource(stop);
        deadline.CancelAfter(options.PublishDeadline);
        try
        {
            Probe.At("before-publish");
            var message = kind.Make(recorded, after);
            var signed = seal.Sign(recorded);
            var publishing = kind.Publish(bus, message, context =>
            {
                context.Mandatory = true;
                context.Durable = true;
                Wire.Write(
                    message, context.Headers, signed, span?.Id ?? recorded.Traceparent, span?.TraceStateString ?? recorded.Tracestate);
            }, deadline.Token);
            Activity.Current = outside;
            Probe.At("after-publish");
            // The client has been seen to hang for ever on a lost connection: its own cancellation is not relied upon.
            if (!Probe.SkipConfirms) await publishing.WaitAsync(deadline.Token);
            Probe.At("after-confirm");
            Metrics.Published(recorded, DateTimeOffset.UtcNow);
            TellOutage(recorded, began);
            _received.TryAdd(recorded.Event.Type, 0);
            _returned.TryRemove(recorded.Event.Type, out _);
            return true;
        }
        catch (MessageReturnedException)
        {
            return Returned(recorded.Event.Type);
        }
        catch (Exception e) when (!stop.IsCancellationRequested)
        {
            span.Fail(null, e);
            Metrics.NotPublished();
            _error = e.GetType().Name;
            return false;
        }
    }

    /// <summary>What an event waited for between its commit and its publish is a span of its own, so that its trace has no hole
    /// that nothing explains.</summary>
    private void TellOutage(RecordedEvent recorded, DateTimeOffset began)
    {
        if (_outage is not var (from, until) || recorded.CommittedAt() is not { } committed || committed >= (until ?? began)) return;
        var outside = Activity.Current;
        using (var span = Tracing.Start(
            $"broker-outage {ledger.Service}", ActivityKind.Internal, recorded, committed > from ? committed : from))
        {
            Tracing.Describe(span, recorded, "publish");
            span?.SetStatus(ActivityStatusCode.Error);
            span?.SetEndTime((until ?? began).UtcDateTime);
        }
        Activity.Current = outside;
    }

    /// <summary>Nobody's queue is bound to the event type. Where somebody's was, the message is sent again until it is again;
    /// where nobody's ever was, or for too long, it is left to the ledger, from which who comes later fills its gaps.</summary>
    /// <returns>Whether the message is done with.</returns>
    private bool Returned(string type)
    {
        var now = Stopwatch.GetTimestamp();
        if (_received.ContainsKey(type) && Stopwatch.GetElapsedTime(_returned.GetOrAdd(type, now), now) < options.ReturnPatience)
        {
            LogReturned(log, ledger.Service, type);
            return false;
        }
        _received.TryRemove(type, out _);
        return true;
    }

    private async Task Measure(CancellationToken stop)
    {
        using var timer = new PeriodicTimer(TimeSpan.FromSeconds(1));
        try
        {
            do
                try
                {
                    var (events, cursor) = (await ledger.CountEvents(stop), await ledger.ReadCursor(Name, stop));
                    status.Backlog = events > cursor ? events - cursor : 0;
                    status.Overloaded = status.Backlog > options.MaxBacklog;
                    status.OldestUnpublished = status.Backlog == 0 || await ledger.EventsAfter(cursor, 1, stop) is not [var oldest]
                        ? null : oldest.Event.CommittedAt();
                }
                catch (LedgerException)
                {
                    // The database is away: nothing is written either.
                }
            while (await timer.WaitForNextTickAsync(stop));
        }
        catch (OperationCanceledException)
        {
        }
    }

    [LoggerMessage(1, LogLevel.Warning, "{Service}: the relay failed and begins anew: {Error}")]
    private static partial void LogFailed(ILogger log, string service, string error);

    [LoggerMessage(2, LogLevel.Warning, "{Service}: {Count} events from {Event} on were not confirmed and will be sent again: {Error}")]
    private static partial void LogNotPublished(ILogger log, string service, int count, string @event, string error);

    [LoggerMessage(3, LogLevel.Warning, "{Service}: nobody receives {Type} any more; it will be sent again")]
    private static partial void LogReturned(ILogger log, string service, string type);
}
