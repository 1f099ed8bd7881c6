using System.Diagnostics;
using Microsoft.Extensions.Logging;
using Ministries.Ledger;
using Ministries.Ledger.V1;
using OpenTelemetry;

namespace Ministries.Hosting.Bus;

/// <summary>Takes in one producer's events in order. Messages bring them; missing ones are read from the producer's ledger.</summary>
internal sealed partial class IntakeLane(
    Service service,
    EventCommands commands,
    ReadEvents read,
    BusOptions options,
    BusStatus status,
    TimeProvider time,
    ILogger log,
    FewLines<(string Reason, string Producer)> lines,
    string producer,
    IReadOnlyList<string> types
)
{
    private readonly IntakeMessages _messages = new(types, time);

    /// <summary>Per type the number of the last event that has had its effect.</summary>
    private readonly Dictionary<string, ulong> _taken = [];

    // An event went on without an answer: since when there was none, and when the last question had none (Stopwatch). null: the last question
    // was answered.
    private (long Since, long Last)? _silent;

    /// <summary>How many messages are in hand.</summary>
    public int InHand => _messages.Count;

    /// <summary>How long messages have been in hand while no event had its effect; zero: none is in hand.</summary>
    public TimeSpan Held => _messages.Held;

    /// <summary>Takes a message; returns when each of its events has had its effect or was set aside.</summary>
    public Task Take(EventMessage message) => _messages.Add(message);

    /// <summary>Gives the messages that are in hand now back to the broker.</summary>
    public void GiveBack() => _messages.GiveBack();

    /// <summary>Gives all messages back to the broker.</summary>
    public void Abandon() => _messages.Abandon();

    /// <summary>Takes events in until it is stopped.</summary>
    public async Task Run(CancellationToken stop)
    {
        while (!stop.IsCancellationRequested)
        {
            try
            {
                await ReadTaken(stop);
                await TakeInAll(stop);
            }
            catch (Exception e) when (!stop.IsCancellationRequested)
            {
                if (e is ForeignEventException)
                    Metrics.Rejected(Metrics.Forged);
                LogLaneFailed(log, service.Name, producer, e.GetType().Name);
                await Task.Delay(options.MaxDelay, time, stop).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            }
        }
    }

    private async Task TakeInAll(CancellationToken stop)
    {
        var fillAt = 0L;
        while (true)
        {
            Sort();
            if (Stopwatch.GetTimestamp() >= fillAt)
            {
                // Events that another replica has taken in meanwhile are not missing.
                await ReadTaken(stop);
                // Ask again soon if the producer could not be reached or its events are still too young.
                var asked = await Fill(null, stop);
                fillAt = Stopwatch.GetTimestamp() + Ticks(asked ? options.FillInterval : options.MaxDelay);
            }
            await TakeIn(fromLedger: null, stop);
            if (_messages.Oldest() is not { } oldest)
            {
                await _messages.Arrival(Stopwatch.GetElapsedTime(Stopwatch.GetTimestamp(), fillAt), stop);
                continue;
            }
            if (Stopwatch.GetElapsedTime(oldest.Message.Arrived) < options.GapPatience)
            {
                await _messages.Arrival(options.GapPatience / 3, stop);
                continue;
            }
            // An event that the producer's ledger does not have was not made by the producer.
            if (await Fill(oldest.Published.Recorded.Origin.Position, stop) && _messages.Oldest() == oldest)
                Reject(oldest);
        }
    }

    private static long Ticks(TimeSpan time) => (long)(time.TotalSeconds * Stopwatch.Frequency);

    private async Task ReadTaken(CancellationToken cancel)
    {
        foreach (var type in types)
            _taken[type] = await commands.LastTaken(producer, type, cancel);
    }

    private void Sort()
    {
        _messages.Sort(_taken, Repeated);
        _messages.Settle(_taken);
    }

    // An event that is delivered again after it had its effect has no further effect. Its trace shows that.
    private void Repeated(IntakeMessages.Delivery delivery)
    {
        using var span = commands.Start(delivery.Published.Recorded);
        span?.SetTag("ministries.redelivered", true);
        span?.SetTag("ministries.repeated", true);
    }

    private void Reject(IntakeMessages.Delivery delivery)
    {
        if (!_messages.Reject(delivery))
            return;
        Metrics.Rejected(Metrics.NotInLedger);
        if (lines.Writes((Metrics.NotInLedger, producer)))
            LogRejected(log, service.Name, delivery.Type, producer);
    }

    /// <summary>Reads missing events from the producer's ledger and takes them in.</summary>
    /// <param name="before">The position up to which a message shows that events are missing; null: no message shows it, so only events
    /// that are old enough are taken.</param>
    /// <param name="stop">Stops.</param>
    /// <returns>Whether the producer answered and all of its events were taken.</returns>
    private async Task<bool> Fill(ulong? before, CancellationToken stop)
    {
        if (Probe.LeaveGaps)
        {
            if (before is not null)
                await _messages.Arrival(options.MaxDelay, stop);
            return false;
        }
        while (true)
        {
            if (await ReadFromLedger(stop) is not { } response)
            {
                if (before is not null)
                    await _messages.Arrival(options.MaxDelay, stop);
                return false;
            }
            var youngest = time.GetUtcNow() - options.FillAge;
            var missing = response
                .Events.TakeWhile(e => before is { } limit ? e.Origin.Position <= limit : e.CommittedAt() is not { } at || at <= youngest)
                .ToList();
            await TakeIn(new Queue<RecordedEvent>(missing), stop);
            Metrics.Filled(producer, missing.Count);
            if (missing.Count > 0)
                LogFilled(log, service.Name, missing.Count, producer);
            Sort();
            if (missing.Count < response.Events.Count)
                return before is not null;
            if (response.Complete)
                return true;
        }
    }

    private async Task<ListEventsResponse?> ReadFromLedger(CancellationToken stop)
    {
        var request = new ListEventsRequest();
        request.After.AddRange(_taken.Select(t => new EventCursor { Type = t.Key, Sequence = t.Value }));
        try
        {
            // This call repeats every few seconds, so it is not traced.
            using var untold = SuppressInstrumentationScope.Begin();
            var response = await read(producer, request, stop).WaitAsync(options.AskDeadline, stop);
            // The peer that answers is the producer, so it must not name another service's events, as its messages cannot.
            return response.Events.FirstOrDefault(e => !e.IsOf(producer) || !_taken.ContainsKey(e.Event.Type)) is { } foreign
                ? throw new ForeignEventException(producer, foreign)
                : response;
        }
        catch (Exception e) when (EventCommands.IsTransient(e) && !stop.IsCancellationRequested)
        {
            LogProducerAway(log, service.Name, producer);
            return null;
        }
    }

    /// <summary>Takes events in up to the first gap. Several events wait for their commits at once (the window), so that the next ones are
    /// ready while some are committed. When one fails, those behind it have no effect either. It is tried again, and they follow
    /// it.</summary>
    /// <param name="fromLedger">Events that were read from the producer's ledger; null: those that messages brought, including messages
    /// that arrive meanwhile.</param>
    /// <param name="stop">Stops.</param>
    private async Task TakeIn(Queue<RecordedEvent>? fromLedger, CancellationToken stop)
    {
        var (window, retry) = (new Window(), new Retry());
        var turns = new Turns(this, fromLedger, passedOver: () => Goes(retry));
        while (true)
        {
            var failed = await FillWindow(window, turns, retry, stop);
            if (window.Count == 0 && failed is null)
                return;
            if (failed is null)
                await ((Task)window.Oldest.Commit!).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            var (succeeded, first, behind) = await Drain(window, hasFailed: failed is not null, stop);
            if (succeeded)
                Goes(retry);
            if (failed is { } begun)
            {
                first ??= begun.Failure;
                behind.Add(begun.Turn);
            }
            if (fromLedger is null)
                Sort();
            else
                _messages.Settle(_taken);
            if (first is null)
                continue;
            stop.ThrowIfCancellationRequested();
            turns.PutBack(behind);
            await WaitOrSetAside(first, retry, stop);
        }
    }

    /// <summary>Begins events until the window is full, none is ready or one fails at once.</summary>
    private async ValueTask<(StepFailure Failure, Turn Turn)?> FillWindow(Window window, Turns turns, Retry retry, CancellationToken stop)
    {
        while (window.Count < options.CommitWindow && turns.Peek(restart: window.Count == 0) is { } turn)
        {
            if (window.Count > 0 && commands.Asks(turn.Recorded.Event.Type) && AsksLater(turn.Recorded, window))
                return null;
            turns.Take(turn);
            var tries = window.Count == 0 ? retry.Tries : 0;
            var (step, failure) = await commands.Begin(
                turn.Recorded,
                window.Newest,
                options.AskPatience - Unanswered(retry, tries),
                hurried: SilentSince is not null,
                span => Describe(span, turn, tries + 1),
                stop
            );
            if (failure is not null)
                return (failure, turn);
            if (step.Unanswered)
                _silent = (SilentSince ?? retry.Since, Stopwatch.GetTimestamp());
            else if (step.Asked is not null)
                _silent = null;
            window.Add(step, turn);
        }
        return null;
    }

    // Since when the service that is asked has not answered (Stopwatch). null: it answered, or it was not asked for so long that nothing is
    // known of it.
    private long? SilentSince => _silent is { } silent && Stopwatch.GetElapsedTime(silent.Last) < options.AskPatience ? silent.Since : null;

    // How long this event has waited for an answer. If the service did not answer an earlier event, the wait is counted from there. Otherwise
    // each event would wait anew, and would hold back those behind it, such as the removal of a party.
    private TimeSpan Unanswered(Retry retry, int tries) =>
        SilentSince is { } since ? Stopwatch.GetElapsedTime(since)
        : tries > 0 ? Stopwatch.GetElapsedTime(retry.Since)
        : TimeSpan.Zero;

    // A question may wait long for its answer, so what is committed already is ended first. And it rests on the effects of earlier events
    // about the same thing, so those are committed first.
    private bool AsksLater(RecordedEvent recorded, Window window) =>
        window.Oldest.Commit!.IsCompleted
        || commands.AboutOf(recorded) is not { } about
        || window.Steps.Any(earlier => earlier.About is not { } other || other == about);

    private static void Describe(Activity? span, Turn turn, int attempt)
    {
        if (turn.Filled)
            span?.SetTag("ministries.filled", true);
        if (turn.Redelivered)
            span?.SetTag("ministries.redelivered", true);
        if (attempt > 1)
            span?.SetTag("ministries.attempt", attempt);
    }

    /// <summary>Ends the steps that were committed together; after a failure, all steps of the window.</summary>
    private async ValueTask<(bool Succeeded, StepFailure? First, List<Turn> Behind)> Drain(
        Window window,
        bool hasFailed,
        CancellationToken stop
    )
    {
        var (succeeded, first, behind) = (false, (StepFailure?)null, new List<Turn>());
        while (window.Count > 0 && (hasFailed || first is not null || window.Oldest.Commit!.IsCompleted))
        {
            var (step, turn) = window.Remove();
            var failure = await End(step, stop);
            first ??= failure;
            if (first is not null)
            {
                behind.Add(turn);
                continue;
            }
            succeeded = true;
            Took(turn.Recorded);
            // A step that has ended holds nothing back, and its memory can be freed.
            if (window.Count > 0)
                window.Oldest.Link.Release();
        }
        return (succeeded, first, behind);
    }

    private async ValueTask<StepFailure?> End(EventStep step, CancellationToken stop)
    {
        try
        {
            return await commands.End(step);
        }
        catch (EventGapException)
        {
            // Another replica may have taken events in, so the ledger is asked again.
            if (step.Link.Previous is null)
                await ReadTaken(stop);
            return new StepFailure(step, null);
        }
    }

    private async Task WaitOrSetAside(StepFailure failure, Retry retry, CancellationToken stop)
    {
        var recorded = failure.Step.Recorded;
        if (retry.Tries == 0)
        {
            retry.Since = Stopwatch.GetTimestamp();
            status.Waits(producer, time.GetUtcNow());
            LogWaits(log, service.Name, recorded.Event.Type, EventTypes.IdOf(recorded.Origin), failure.Reason ?? "UNAVAILABLE");
        }
        if (failure.Reason is { } reason && ++retry.Attempts >= options.Attempts)
        {
            if (!await TrySetAside(failure.Step, reason, retry.Attempts, stop))
                return;
            Took(recorded);
            _messages.Settle(_taken);
            return;
        }
        var delay = Math.Min(options.MaxDelay.Ticks, options.FirstDelay.Ticks << Math.Min(retry.Tries++, 10));
        await Task.Delay(TimeSpan.FromTicks(delay), stop);
    }

    private async Task<bool> TrySetAside(EventStep step, string reason, int attempts, CancellationToken stop)
    {
        try
        {
            await commands.SetAside(step, reason, attempts, stop);
            return true;
        }
        catch (Exception e) when ((e is LedgerUnavailableException || EventCommands.IsTransient(e)) && !stop.IsCancellationRequested)
        {
            // The event is not at fault: the ledger could not even record that it was set aside. So it is tried again later.
            await Task.Delay(options.MaxDelay, stop);
            return false;
        }
    }

    private void Goes(Retry retry)
    {
        retry.Reset();
        status.Goes(producer);
    }

    private void Took(RecordedEvent recorded)
    {
        _taken[recorded.Event.Type] = Math.Max(_taken[recorded.Event.Type], recorded.Origin.Sequence);
        _messages.Move();
    }

    /// <summary>The failures so far of the event that is first in line.</summary>
    private sealed class Retry
    {
        /// <summary>How often it was put off.</summary>
        public int Tries { get; set; }

        /// <summary>How often it failed for a reason that does not pass by itself.</summary>
        public int Attempts { get; set; }

        /// <summary>When it failed first, as a <see cref="Stopwatch"/> timestamp.</summary>
        public long Since { get; set; }

        public void Reset() => (Tries, Attempts) = (0, 0);
    }

    /// <summary>The steps whose commits are awaited, in order.</summary>
    private sealed class Window
    {
        private readonly Queue<(EventStep Step, Turn Turn)> _steps = [];
        private EventStep? _newest;

        public int Count => _steps.Count;

        public EventStep Oldest => _steps.Peek().Step;

        public IEnumerable<EventStep> Steps => _steps.Select(s => s.Step);

        public EventStep? Newest => _steps.Count > 0 ? _newest : null;

        public void Add(EventStep step, Turn turn) => _steps.Enqueue((_newest = step, turn));

        public (EventStep Step, Turn Turn) Remove() => _steps.Dequeue();
    }

    /// <summary>An event whose turn it is.</summary>
    /// <param name="Recorded">The event.</param>
    /// <param name="Redelivered">Whether the broker had delivered its message before.</param>
    /// <param name="Filled">Whether it was read from the producer's ledger, because no message had come.</param>
    private sealed record Turn(RecordedEvent Recorded, bool Redelivered, bool Filled);

    /// <summary>The events in the order of their turns: first those behind a failure, then new ones.</summary>
    private sealed class Turns(IntakeLane lane, Queue<RecordedEvent>? fromLedger, Action passedOver)
    {
        private readonly LinkedList<Turn> _again = [];
        private Dictionary<string, ulong> _reached = new(lane._taken);

        /// <summary>The next event; null: there is none at present. If the window is empty, events that have had their effect meanwhile are
        /// skipped.</summary>
        /// <param name="restart">True where the window is empty.</param>
        public Turn? Peek(bool restart)
        {
            if (restart)
                PassOver();
            if (_again.First is { } again)
                return again.Value;
            if (fromLedger is not null)
                return fromLedger.TryPeek(out var next) ? new Turn(next, Redelivered: false, Filled: true) : null;
            return lane._messages.Next(_reached) is { } delivery
                ? new Turn(delivery.Published.Recorded, delivery.Message.Content.Redelivered, Filled: false)
                : null;
        }

        /// <summary>Takes the event that <see cref="Peek"/> showed.</summary>
        public void Take(Turn turn)
        {
            if (_again.First is not null)
                _again.RemoveFirst();
            else if (fromLedger is not null)
                fromLedger.Dequeue();
            else
                _reached[turn.Recorded.Event.Type]++;
        }

        /// <summary>Puts events before all others, in their order.</summary>
        public void PutBack(IReadOnlyList<Turn> turns)
        {
            foreach (var turn in turns.Reverse())
                _again.AddFirst(turn);
        }

        private void PassOver()
        {
            while (_again.First is { } first && IsTaken(first.Value.Recorded))
            {
                _again.RemoveFirst();
                passedOver();
            }
            if (_again.Count > 0)
                return;
            _reached = new(lane._taken);
            while (fromLedger is not null && fromLedger.TryPeek(out var read) && IsTaken(read))
                fromLedger.Dequeue();
        }

        private bool IsTaken(RecordedEvent recorded) => recorded.Origin.Sequence <= lane._taken[recorded.Event.Type];
    }

    [LoggerMessage(2, LogLevel.Warning, "{Service} cannot take in events of {Producer} at present: {Error}")]
    private static partial void LogLaneFailed(ILogger log, string service, string producer, string error);

    [LoggerMessage(3, LogLevel.Information, "{Service} took {Count} events from the ledger of {Producer}")]
    private static partial void LogFilled(ILogger log, string service, int count, string producer);

    [LoggerMessage(4, LogLevel.Information, "{Service} cannot reach the ledger of {Producer}")]
    private static partial void LogProducerAway(ILogger log, string service, string producer);

    [LoggerMessage(7, LogLevel.Warning, "{Service} cannot take in {Type} {Event} yet: {Reason}")]
    private static partial void LogWaits(ILogger log, string service, string type, string @event, string reason);

    [LoggerMessage(5, LogLevel.Error, "{Service} gave back a message of type {Type} that the ledger of {Producer} does not have")]
    private static partial void LogRejected(ILogger log, string service, string type, string producer);
}
