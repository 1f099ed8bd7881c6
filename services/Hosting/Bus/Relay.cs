using System.Collections.Concurrent;
using System.Collections.Frozen;
using System.Diagnostics;
using Google.Protobuf;
using MassTransit;
using Microsoft.Extensions.Logging;
using Ministries.Ledger;
using Ministries.Ledger.V1;
using Ministries.Serving;

namespace Ministries.Hosting.Bus;

/// <summary>
/// Publishes the ledger's events to the broker in order. It moves its cursor only over events that the broker has confirmed without a
/// gap. Events after the cursor may be sent again, and consumers recognise them by their id. Only the replica that holds the lead relays,
/// and only it moves the cursor. What a replica still sends after it lost the lead without noticing is what its successor reads from the
/// same ledger and sends too: a repetition, which changes nothing.
/// </summary>
internal sealed partial class Relay(
    ServiceLedger ledger,
    Broker broker,
    MessageSeal seal,
    BusOptions options,
    BusStatus status,
    ILogger<Relay> log
) : SupervisedService(log)
{
    internal const string Name = "relay";
    private const int Page = 256;
    private const int Memory = 1000;

    /// <summary>The greatest number of bytes of one message's events.</summary>
    private const int MessageBytes = 256 << 10;

    /// <summary>The greatest number of pages that are on their way at once.</summary>
    private const int Pages = 16;

    /// <summary>How long the stored cursor may lag behind. After a crash, events of that time are published again.</summary>
    private static readonly TimeSpan Lag = TimeSpan.FromMilliseconds(200);

    private readonly Dictionary<string, ulong> _last = [];
    private readonly ConcurrentDictionary<string, byte> _received = [];
    private readonly ConcurrentDictionary<string, long> _returned = [];
    private readonly SemaphoreSlim _window = new(options.PublishWindow);
    private volatile string? _error;
    private volatile bool _failed;
    private volatile Lead? _lead;
    private (DateTimeOffset From, DateTimeOffset? Until)? _outage;

    /// <inheritdoc/>
    protected override Task Work(CancellationToken stop) => Together([Lead, Measure], stop);

    private async Task Lead(CancellationToken stop)
    {
        while (!stop.IsCancellationRequested)
            try
            {
                await using var lead = await ledger.TryLead(Name, stop);
                if (lead is not null)
                    await Run(lead, stop);
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

    /// <summary>Events on their way to the broker.</summary>
    /// <param name="Events">The events, in order.</param>
    /// <param name="Began">When they were sent.</param>
    /// <param name="Confirmed">How many of them the broker confirmed in a row.</param>
    private sealed record Sent(IReadOnlyList<NumberedEvent> Events, DateTimeOffset Began, Task<int> Confirmed);

    /// <summary>The relay's progress while it holds the lead.</summary>
    private sealed class Course(ulong cursor, TimeSpan delay, Dictionary<string, ulong> last)
    {
        /// <summary>The number of the last event that was read.</summary>
        public ulong Read { get; set; } = cursor;

        /// <summary>The number of the last event that the broker confirmed, with all before it.</summary>
        public ulong Confirmed { get; set; } = cursor;

        /// <summary>The stored value of <see cref="Confirmed"/>.</summary>
        public ulong Stored { get; set; } = cursor;

        /// <summary>How long the next attempt waits after a failure.</summary>
        public TimeSpan Delay { get; set; } = delay;

        /// <summary>The pages that are on their way, the oldest first.</summary>
        public Queue<Sent> Sent { get; } = new();

        /// <summary>Per event type the number of the last event that was read.</summary>
        public Dictionary<string, ulong> After { get; set; } = new(last);
    }

    private async Task Run(Lead lead, CancellationToken stop)
    {
        _lead = lead;
        var cursor = await ledger.ReadCursor(Name, stop);
        await RememberBefore(cursor, stop);
        var course = new Course(cursor, options.FirstDelay, _last);
        var looked = 0L;
        try
        {
            while (true)
            {
                await TakeConfirmed(course, stop);
                await SendNext(course, stop);
                if (Stopwatch.GetElapsedTime(looked) < Lag)
                    continue;
                if (!await lead.Holds(stop))
                {
                    LogDeposed(log, ledger.Service);
                    return;
                }
                if (course.Stored < course.Confirmed && !await ledger.MoveCursor(Name, course.Stored = course.Confirmed, lead, stop))
                {
                    LogDeposed(log, ledger.Service);
                    return;
                }
                looked = Stopwatch.GetTimestamp();
            }
        }
        finally
        {
            foreach (var page in course.Sent)
                await ((Task)page.Confirmed).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            if (course.Stored < course.Confirmed)
                await Store(course.Confirmed, lead);
        }
    }

    /// <summary>Remembers which event of each type was the last before the cursor.</summary>
    private async Task RememberBefore(ulong cursor, CancellationToken stop)
    {
        _last.Clear();
        var first = cursor > Memory ? cursor - Memory : 0;
        if (cursor > 0)
            foreach (var before in await ledger.EventsAfter(first, (int)(cursor - first), stop))
                Remember(before.Event.Origin);
    }

    /// <summary>Removes the pages that the broker has answered from the queue, and waits for the oldest page if too many are on their way.
    /// After a failure, the events from the failed one on are read again.</summary>
    private async Task TakeConfirmed(Course course, CancellationToken stop)
    {
        while (course.Sent.TryPeek(out var oldest) && (oldest.Confirmed.IsCompleted || course.Sent.Count == Pages))
        {
            var confirmed = await Confirmed(course.Sent.Dequeue());
            if (confirmed > 0)
                (course.Confirmed, course.Delay) = (oldest.Events[confirmed - 1].Number, options.FirstDelay);
            if (confirmed == oldest.Events.Count)
                continue;
            // The events after it are sent again in order, once nothing is on its way any more.
            foreach (var behind in course.Sent)
                await behind.Confirmed;
            course.Sent.Clear();
            (course.Read, course.After, _error, _failed) = (course.Confirmed, new(_last), null, false);
            await Pause(course, stop);
        }
    }

    /// <summary>Sends the next page of events, or waits: for events, or for the broker.</summary>
    private async Task SendNext(Course course, CancellationToken stop)
    {
        var size = ledger.Size;
        // The page that ends an outage is sent alone, because later events did not wait for the broker.
        var alone = course.Sent.Count > 0 && _outage is (_, null);
        var events = alone ? [] : await ledger.EventsAfter(course.Read, Page, stop);
        if (events.Count == 0)
            await WaitForEvents(course, alone, size, stop);
        else if (broker.Bus is { } bus && status.BrokerReady)
        {
            course.Sent.Enqueue(await Send(bus, events, course.After, stop));
            course.Read = events[^1].Number;
        }
        else if (course.Sent.Count > 0)
            await Task.WhenAny(course.Sent.Peek().Confirmed);
        else
        {
            if (_outage is not (_, null))
                _outage = (DateTimeOffset.UtcNow, null);
            await Pause(course, stop);
        }
    }

    /// <summary>Returns when the ledger has grown, the broker has answered the oldest page, or it is time to check the lead
    /// again.</summary>
    private async Task WaitForEvents(Course course, bool alone, ulong size, CancellationToken stop)
    {
        using var look = CancellationTokenSource.CreateLinkedTokenSource(stop);
        look.CancelAfter(course.Stored < course.Confirmed || course.Sent.Count > 0 ? Lag : options.MaxDelay);
        var more = alone ? Task.Delay(Timeout.Infinite, look.Token) : ledger.WaitForMore(size, look.Token);
        await Task.WhenAny([more, .. course.Sent.Take(1).Select(s => s.Confirmed)]);
        await look.CancelAsync();
        await more.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        stop.ThrowIfCancellationRequested();
    }

    /// <summary>Waits after a failure, twice as long each time.</summary>
    private async Task Pause(Course course, CancellationToken stop)
    {
        await Task.Delay(course.Delay, stop);
        course.Delay = course.Delay * 2 < options.MaxDelay ? course.Delay * 2 : options.MaxDelay;
    }

    /// <summary>Stores the cursor at the end. If that fails, the events after the stored cursor are published again.</summary>
    private async Task Store(ulong cursor, Lead lead)
    {
        try
        {
            using var late = new CancellationTokenSource(TimeSpan.FromSeconds(1));
            await ledger.MoveCursor(Name, cursor, lead, late.Token);
        }
        catch (Exception e)
        {
            LogFailed(log, ledger.Service, e.GetType().Name);
        }
    }

    private void Remember(EventOrigin e) => _last[e.Type] = Math.Max(_last.GetValueOrDefault(e.Type), e.Sequence);

    /// <summary>Waits for the broker's answer. Returns how many events it confirmed in a row.</summary>
    private async Task<int> Confirmed(Sent sent)
    {
        var count = await sent.Confirmed;
        if (count > 0 && _outage is (var from, null))
            _outage = (from, sent.Began);
        if (count < sent.Events.Count && _error is { } error)
        {
            if (_outage is not (_, null))
                _outage = (DateTimeOffset.UtcNow, null);
            LogNotPublished(log, ledger.Service, sent.Events.Count - count, EventTypes.IdOf(sent.Events[count].Event.Origin), error);
        }
        foreach (var done in sent.Events.Take(count))
            Remember(done.Event.Origin);
        return count;
    }

    /// <summary>Sends events, those of one type together, in order and a window of messages at a time. Returns when all are sent.
    /// </summary>
    /// <param name="bus">The way out.</param>
    /// <param name="events">The events, in order.</param>
    /// <param name="last">Per event type the number of the last event so far; updated with these events.</param>
    /// <param name="stop">Stops.</param>
    private async Task<Sent> Send(IBus bus, IReadOnlyList<NumberedEvent> events, Dictionary<string, ulong> last, CancellationToken stop)
    {
        var began = DateTimeOffset.UtcNow;
        var (messages, sent) = (MessagesOf(events, last), new List<Task<bool>>());
        foreach (var message in messages)
        {
            await _window.WaitAsync(stop);
            sent.Add(Send(message));
        }
        return new Sent(events, began, InRow());

        async Task<bool> Send(Outgoing message)
        {
            var confirmed = false;
            try
            {
                // After a failure nothing more is sent, because everything after it is sent again. Without the lead, another replica sends
                // it.
                return confirmed = !_failed && _lead is { IsHeld: true } && await Publish(bus, message, stop);
            }
            finally
            {
                _window.Release();
                if (!confirmed)
                    _failed = true;
            }
        }

        async Task<int> InRow()
        {
            var confirmed = await Task.WhenAll(sent);
            var failed = messages.Where((_, i) => !confirmed[i]).SelectMany(m => m.Numbers).ToHashSet();
            return failed.Count == 0 ? events.Count : events.TakeWhile(e => !failed.Contains(e.Number)).Count();
        }
    }

    /// <summary>Events of one type that go in one message.</summary>
    private sealed class Outgoing(EventKind kind)
    {
        public EventKind Kind => kind;
        public List<PublishedEvent> Events { get; } = [];
        public List<ulong> Numbers { get; } = [];
        public int Bytes { get; set; }

        /// <summary>How many events of the page were seen when the last one was added, that one included.</summary>
        public int Seen { get; set; }
    }

    private static List<Outgoing> MessagesOf(IReadOnlyList<NumberedEvent> events, Dictionary<string, ulong> last)
    {
        var (messages, open) = (new List<Outgoing>(), new Dictionary<string, Outgoing>());
        for (var i = 0; i < events.Count; i++)
        {
            var (recorded, e) = (events[i].Event, events[i].Event.Event);
            if (EventKind.Of(e.Type) is not { } kind)
                continue;
            IReadOnlyDictionary<string, ulong> after;
            if (
                open.TryGetValue(e.Type, out var message)
                && message.Events.Count < Wire.MaxEvents
                && message.Bytes + e.Data.Length <= MessageBytes
            )
            {
                // What has changed since the event before it in the same message.
                Dictionary<string, ulong>? changed = null;
                for (var j = message.Seen; j < i; j++)
                    if (events[j].Event.Origin is var between && between.Type != e.Type)
                        (changed ??= [])[between.Type] = between.Sequence;
                after = changed ?? (IReadOnlyDictionary<string, ulong>)FrozenDictionary<string, ulong>.Empty;
            }
            else
            {
                messages.Add(open[e.Type] = message = new Outgoing(kind));
                after = last.Where(l => l.Key != e.Type).ToDictionary();
            }
            message.Events.Add(new PublishedEvent(recorded, after));
            message.Numbers.Add(events[i].Number);
            message.Bytes += e.Data.Length;
            message.Seen = i + 1;
            last[e.Type] = recorded.Origin.Sequence;
        }
        return messages;
    }

    /// <summary>Publishes a message and waits until the broker has it. Returns whether it need not be sent again.</summary>
    private async Task<bool> Publish(IBus bus, Outgoing outgoing, CancellationToken stop)
    {
        var (outside, began) = (Activity.Current, DateTimeOffset.UtcNow);
        var type = outgoing.Events[0].Recorded.Event.Type;
        List<Activity?> spans = [];
        var events = Tracing.Source.HasListeners() ? Traced(outgoing.Events, type, spans) : outgoing.Events;
        using var deadline = CancellationTokenSource.CreateLinkedTokenSource(stop);
        deadline.CancelAfter(options.PublishDeadline);
        try
        {
            Probe.At("before-publish");
            var message = outgoing.Kind.Make(events, Wire.BodyOf(events));
            var signed = seal.Sign(message);
            var publishing = outgoing.Kind.Publish(
                bus,
                message,
                context =>
                {
                    context.Mandatory = true;
                    context.Durable = true;
                    context.ContentType = Wire.ContentTypeOf(message);
                    Wire.Write(message, context.Headers, signed);
                },
                deadline.Token
            );
            Activity.Current = outside;
            Probe.At("after-publish");
            // The client may hang for ever on a lost connection, even when its token is cancelled: so the wait has its own limit.
            if (!Probe.SkipConfirms)
                await publishing.WaitAsync(deadline.Token);
            Probe.At("after-confirm");
            var now = DateTimeOffset.UtcNow;
            foreach (var (recorded, _) in outgoing.Events)
            {
                Metrics.Published(recorded, now);
                TellOutage(recorded, began);
            }
            _received.TryAdd(type, 0);
            _returned.TryRemove(type, out _);
            return true;
        }
        catch (MessageReturnedException)
        {
            return Returned(type);
        }
        catch (Exception e) when (!stop.IsCancellationRequested)
        {
            foreach (var span in spans)
                span.Fail(null, e);
            foreach (var _ in outgoing.Events)
                Metrics.NotPublished();
            _error = e.GetType().Name;
            return false;
        }
        finally
        {
            foreach (var span in spans)
                span?.Dispose();
            Activity.Current = outside;
        }
    }

    /// <summary>Starts a span for each event. Returns the events with their spans as the context that receivers continue.</summary>
    private static List<PublishedEvent> Traced(List<PublishedEvent> events, string type, List<Activity?> spans)
    {
        var traced = new List<PublishedEvent>(events.Count);
        foreach (var published in events)
        {
            var recorded = published.Recorded;
            var span = Tracing.Start($"publish {type}", ActivityKind.Producer, recorded);
            Tracing.Describe(span, recorded, "publish");
            if (events.Count > 1)
                span?.SetTag("messaging.batch.message_count", events.Count);
            spans.Add(span);
            if (span is not null)
            {
                recorded = recorded.Clone();
                (recorded.Traceparent, recorded.Tracestate) = (span.Id, span.TraceStateString ?? "");
            }
            traced.Add(span is null ? published : published with { Recorded = recorded });
        }
        return traced;
    }

    /// <summary>The wait for the broker between an event's commit and its publish gets a span of its own, so that its trace has no
    /// unexplained gap.</summary>
    private void TellOutage(RecordedEvent recorded, DateTimeOffset began)
    {
        if (_outage is not var (from, until) || recorded.CommittedAt() is not { } committed || committed >= (until ?? began))
            return;
        var outside = Activity.Current;
        using (
            var span = Tracing.Start(
                $"broker-outage {ledger.Service}",
                ActivityKind.Internal,
                recorded,
                committed > from ? committed : from
            )
        )
        {
            Tracing.Describe(span, recorded, "publish");
            span?.SetStatus(ActivityStatusCode.Error);
            span?.SetEndTime((until ?? began).UtcDateTime);
        }
        Activity.Current = outside;
    }

    /// <summary>Handles a message that no queue received. If a queue was bound before, the message is sent again until one is bound. If
    /// none ever was, or none has been for too long, the message is dropped, and later consumers read the event from the ledger.</summary>
    /// <returns>Whether the message need not be sent again.</returns>
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
            do try
            {
                var (events, cursor) = (await ledger.CountEvents(stop), await ledger.ReadCursor(Name, stop));
                status.Backlog = events > cursor ? events - cursor : 0;
                status.Overloaded = status.Backlog > options.MaxBacklog;
                status.OldestUnpublished =
                    status.Backlog == 0 || await ledger.EventsAfter(cursor, 1, stop) is not [var oldest]
                        ? null
                        : oldest.Event.CommittedAt();
            }
            catch (Exception e) when (e is LedgerException or InvalidProtocolBufferException)
            {
                // The database cannot be reached, so no events are recorded meanwhile either; or the oldest event cannot be read.
            }
            while (await timer.WaitForNextTickAsync(stop));
        }
        catch (OperationCanceledException) { }
    }

    [LoggerMessage(1, LogLevel.Warning, "{Service}: the relay failed and starts again: {Error}")]
    private static partial void LogFailed(ILogger log, string service, string error);

    [LoggerMessage(2, LogLevel.Warning, "{Service}: {Count} events from {Event} on were not confirmed and will be sent again: {Error}")]
    private static partial void LogNotPublished(ILogger log, string service, int count, string @event, string error);

    [LoggerMessage(4, LogLevel.Warning, "{Service}: this replica lost the lead of the relay; the one that took it goes on from its cursor")]
    private static partial void LogDeposed(ILogger log, string service);

    [LoggerMessage(3, LogLevel.Warning, "{Service}: no queue receives {Type} any more; the event will be sent again")]
    private static partial void LogReturned(ILogger log, string service, string type);
}
