using System.Data.Common;
using System.Diagnostics;
using System.Threading.Channels;
using Google.Protobuf;
using Google.Protobuf.Reflection;
using Grpc.Core;
using Microsoft.Extensions.Logging;
using Ministries.Ledger;
using Ministries.Ledger.V1;
using Ministries.Trust;
using OpenTelemetry;
using Cause = Ministries.Ledger.V1.Cause;

namespace Ministries.Hosting.Bus;

/// <summary>
/// Takes other services' events into this service's ledger: each event once, in the order of its producer, none left out. A
/// message is a fast way for an event to come; the producer's ledger is the sure one. What came before an event is known by the
/// numbers that it carries; what is missing is read from the producer.
/// </summary>
internal sealed partial class Intake : SupervisedService
{
    private readonly Service _service;
    private readonly ServiceLedger _ledger;
    private readonly Func<Permissions> _permissions;
    private readonly ReadEvents _read;
    private readonly MessageSeal _seal;
    private readonly IServiceProvider _services;
    private readonly BusOptions _options;
    private readonly BusStatus _status;
    private readonly TimeProvider _time;
    private readonly ILogger<Intake> _log;
    private readonly Dictionary<string, Reaction> _reactions;
    private readonly Dictionary<string, Lane> _lanes;
    private volatile bool _stopped;

    public Intake(
        Service service,
        ServiceLedger ledger,
        Func<Permissions> permissions,
        ReadEvents read,
        MessageSeal seal,
        IServiceProvider services,
        BusOptions options,
        BusStatus status,
        TimeProvider time,
        ILogger<Intake> log
    )
        : base(log)
    {
        (_service, _ledger, _permissions, _read, _seal, _services, _options, _status, _time, _log) = (
            service,
            ledger,
            permissions,
            read,
            seal,
            services,
            options,
            status,
            time,
            log
        );
        _reactions = service.Reactions.ToDictionary(r => r.Event.FullName);
        _lanes = service.Reactions.GroupBy(r => r.Producer).ToDictionary(g => g.Key, g => new Lane(this, g.Key, [.. g]));
    }

    /// <summary>Whether every message in hand has been settled: then a stalled endpoint is not this service's own doing.</summary>
    internal bool Idle => _lanes.Values.All(l => l.Held == 0);

    /// <summary>Takes a message; returns when its effect is durable, or when it was set aside as a dead letter.</summary>
    /// <exception cref="OperationCanceledException">The service stops: the broker keeps the message.</exception>
    internal async Task Take(EventMessage message)
    {
        if (_stopped || !_lanes.TryGetValue(message.Origin.Service, out var lane))
            throw new OperationCanceledException();
        if (!_seal.Bears(message))
        {
            Metrics.Rejected(Metrics.Forged);
            LogForged(_log, _service.Name, message.Type, message.Origin.Service);
            throw new InvalidDataException("the message does not bear its producer's signature");
        }
        if (Probe.AcknowledgeFirst)
            _ = Later();
        else
            await lane.Take(message);
        Probe.At("before-ack");

        async Task Later()
        {
            await Task.Delay(TimeSpan.FromSeconds(1), _time);
            await lane.Take(message);
        }
    }

    /// <inheritdoc/>
    protected override Task Work(CancellationToken stop) =>
        Together(_lanes.Values.Select(lane => (Func<CancellationToken, Task>)lane.Run), stop);

    /// <inheritdoc/>
    protected override Task Ended()
    {
        _stopped = true;
        foreach (var lane in _lanes.Values)
            lane.Abandon();
        return Task.CompletedTask;
    }

    /// <summary>Processes an event that was set aside once more. Returns null where it had its effect, else the reason.</summary>
    internal async Task<string?> Replay(RecordedEvent recorded, CancellationToken cancel)
    {
        if (!_reactions.TryGetValue(recorded.Event.Type, out var reaction))
            return "UNKNOWN_TYPE";
        var step = new Step(reaction, recorded, null);
        // In the trace that the event was lost from, linked to the operator's call.
        using var span = Start(recorded, Activity.Current is { } call ? [new ActivityLink(call.Context)] : null);
        span?.SetTag("ministries.replayed", true);
        try
        {
            await Prepare(step, cancel);
            var outcome = await _ledger.Commit(CommandOf(step, span, replay: true), cancel);
            var reason = outcome.Refusal is { } refusal ? step.Failed ?? Refusals.NameOf(refusal.Reason) : null;
            if (reason is not null)
                span.Fail(reason, null);
            return reason;
        }
        catch (Exception e) when (e is not OperationCanceledException && !IsTransient(e))
        {
            var reason = step.Failed ?? "PROCESSING_FAILED";
            span.Fail(reason, e);
            return reason;
        }
    }

    /// <summary>What passes by itself: the database, the network, another service.</summary>
    private static bool IsTransient(Exception e) =>
        e
            is LedgerOverloadedException
                or LedgerClosedException
                or LedgerUnavailableException
                or CommitOutcomeUnknownException
                or RpcException
                or DbException
                or IOException
                or TimeoutException
                or OperationCanceledException;

    private Activity? Start(RecordedEvent recorded, IEnumerable<ActivityLink>? links = null, string operation = "process")
    {
        var span = Tracing.Start($"{operation} {recorded.Event.Type}", ActivityKind.Consumer, recorded, links: links);
        Tracing.Describe(span, recorded, operation);
        span?.SetTag("messaging.consumer.group.name", Broker.QueueOf(_service.Name));
        return span;
    }

    private async Task Prepare(Step step, CancellationToken cancel)
    {
        IMessage message;
        try
        {
            message = step.Message ??= step.Reaction.Event.Parser.ParseFrom(step.Recorded.Event.Data);
        }
        catch (InvalidProtocolBufferException)
        {
            step.Failed = "UNREADABLE";
            throw;
        }
        if (step.Reaction.Ask is not { } ask)
            return;
        using var deadline = CancellationTokenSource.CreateLinkedTokenSource(cancel);
        deadline.CancelAfter(_options.AskDeadline);
        try
        {
            step.Asked = await ask(message, _services, deadline.Token).WaitAsync(deadline.Token);
        }
        catch (Exception e)
            when (step.Patience is { } patience && patience <= TimeSpan.Zero && IsTransient(e) && !cancel.IsCancellationRequested)
        {
            LogUnanswered(_log, _service.Name, step.Recorded.Event.Type, EventTypes.IdOf(step.Recorded.Origin));
        }
    }

    private Command CommandOf(Step step, Activity? span, bool replay)
    {
        var (recorded, permissions) = (step.Recorded, _permissions());
        var (id, producer) = (EventTypes.IdOf(recorded.Origin), $"service/{recorded.Origin.Service}");
        return new Command
        {
            Participant = producer,
            RequestId = id,
            Method = recorded.Event.Type,
            Request = step.Message!,
            Bytes = recorded.Event.Data.Memory,
            AgreementVersion = permissions.Agreement.Version,
            Asked = step.Asked,
            Cause = new Cause { Event = recorded.Origin, Leaf = recorded.Leaf },
            StoresRefusal = false,
            Intake = replay ? null : new Ministries.Ledger.Intake(recorded.Origin.Service, recorded.Event.Type, recorded.Origin.Sequence),
            TraceParent = span?.Id ?? recorded.Traceparent,
            TraceState = span?.TraceStateString ?? recorded.Tracestate,
            Decide = (view, now) =>
            {
                // The last run counts.
                (step.HeldBack, step.Failed) = (false, null);
                // One that went before failed: this one must wait for it, or it would overtake.
                if (step.Behind is { HasFailed: true })
                    return Hold(step);
                try
                {
                    var context = new RuleContext
                    {
                        View = view,
                        Caller = permissions.Participant(producer) ?? throw new InvalidOperationException("no such participant"),
                        Permissions = permissions,
                        Method = recorded.Event.Type,
                        RequestId = id,
                        Now = now,
                        Asked = step.Asked,
                        Secrets = _ledger.Secrets,
                    };
                    var decision = step.Reaction.Decide(step.Message!, context);
                    step.Refused = decision.Refusal is not null;
                    return replay && decision.Refusal is null ? DeadLetters.Settle(decision, recorded.Origin) : decision;
                }
                catch (Exception)
                {
                    (step.Refused, step.Failed) = (true, "RULE_FAILED");
                    throw;
                }
            },
        };
    }

    private static Decision Hold(Step step)
    {
        (step.Refused, step.HeldBack) = (true, true);
        return Decision.Refuse(Errors.V1.Reason.Unavailable);
    }

    private async Task SetAside(Step step, string reason, int attempts, CancellationToken cancel)
    {
        var recorded = step.Recorded;
        var id = EventTypes.IdOf(recorded.Origin);
        var aside = new Operations.V1.EventSetAside
        {
            Origin = recorded.Origin,
            Reason = reason,
            Attempts = (uint)attempts,
        };
        using var span = Start(recorded, operation: "set-aside");
        span.Fail(reason, null);
        span?.SetTag("ministries.attempt", attempts);
        await _ledger.Commit(
            new Command
            {
                Participant = $"service/{_service.Name}",
                RequestId = $"dead-letter/{id}",
                Method = DeadLetters.SetAsideMethod,
                Request = aside,
                Bytes = aside.ToByteArray(),
                AgreementVersion = _permissions().Agreement.Version,
                StoresRefusal = false,
                Cause = new Cause { Event = recorded.Origin, Leaf = recorded.Leaf },
                Intake = new Ministries.Ledger.Intake(recorded.Origin.Service, recorded.Event.Type, recorded.Origin.Sequence),
                TraceParent = span?.Id ?? recorded.Traceparent,
                TraceState = span?.TraceStateString ?? recorded.Tracestate,
                Decide = (_, _) => Decision.Accept(recorded.Event.Case, [], [new Change(aside, [DeadLetters.Kind.Id(id)])]),
            },
            cancel
        );
        Metrics.SetAside(recorded.Origin.Service);
        LogSetAside(_log, _service.Name, recorded.Event.Type, id, reason, attempts);
    }

    /// <summary>One event on its way into the ledger.</summary>
    private sealed class Step(Reaction reaction, RecordedEvent recorded, Step? behind)
    {
        public Reaction Reaction => reaction;
        public RecordedEvent Recorded => recorded;
        public Step? Behind { get; set; } = behind;
        public IMessage? Message { get; set; }
        public IMessage? Asked { get; set; }

        /// <summary>How long its question may go unanswered still; null: for ever.</summary>
        public TimeSpan? Patience { get; init; }
        public Task<Outcome>? Commit { get; set; }

        /// <summary>Set by the rule's last run: the committer runs rules in order, so the next step's rule sees it.</summary>
        public volatile bool Refused;

        /// <summary>True where the rule was not asked, for one before it failed.</summary>
        public volatile bool HeldBack;

        /// <summary>Why it could not be processed; null: it was not the software's fault.</summary>
        public volatile string? Failed;

        public bool HasFailed => Refused || Commit is { IsCompleted: true, IsCompletedSuccessfully: false };
    }

    /// <summary>A message that is in hand until each of its events is settled.</summary>
    private sealed class Message(EventMessage message)
    {
        private readonly TaskCompletionSource _done = new(TaskCreationOptions.RunContinuationsAsynchronously);
        private int _left = message.Events.Count;

        public EventMessage Content => message;
        public long Arrived { get; } = Stopwatch.GetTimestamp();
        public Task Done => _done.Task;

        /// <summary>One of its events is done with, or never will be.</summary>
        public void Settle(Exception? fault = null)
        {
            if (fault is not null)
                _done.TrySetException(fault);
            else if (--_left == 0)
                _done.TrySetResult();
        }

        public void Abandon() => _done.TrySetCanceled();
    }

    /// <summary>An event of a message.</summary>
    private sealed record Delivery(Message Message, PublishedEvent Published)
    {
        public RecordedEvent Recorded => Published.Recorded;
    }

    /// <summary>An event whose turn it is.</summary>
    /// <param name="Recorded">The event.</param>
    /// <param name="Redelivered">Whether the broker gave its message before.</param>
    private readonly record struct Next(RecordedEvent Recorded, bool Redelivered);

    /// <summary>One producer's events, in order.</summary>
    private sealed class Lane(Intake intake, string producer, IReadOnlyList<Reaction> reactions)
    {
        private readonly Channel<Message> _arrivals = Channel.CreateUnbounded<Message>();
        private readonly Dictionary<string, SortedDictionary<ulong, List<Delivery>>> _held = reactions.ToDictionary(
            r => r.Event.FullName,
            _ => new SortedDictionary<ulong, List<Delivery>>()
        );
        private readonly Dictionary<string, ulong> _taken = [];
        private int _count;

        public int Held => Volatile.Read(ref _count);

        public async Task Take(EventMessage content)
        {
            var message = new Message(content);
            Interlocked.Increment(ref _count);
            try
            {
                if (!_arrivals.Writer.TryWrite(message))
                    throw new OperationCanceledException();
                await message.Done;
            }
            finally
            {
                Interlocked.Decrement(ref _count);
            }
        }

        public void Abandon()
        {
            _arrivals.Writer.TryComplete();
            while (_arrivals.Reader.TryRead(out var message))
                message.Abandon();
            foreach (var delivery in _held.Values.SelectMany(h => h.Values).SelectMany(d => d))
                delivery.Message.Abandon();
        }

        public async Task Run(CancellationToken stop)
        {
            var fillAt = 0L;
            while (!stop.IsCancellationRequested)
            {
                try
                {
                    await ReadTaken(stop);
                    while (true)
                    {
                        Accept();
                        if (Stopwatch.GetTimestamp() >= fillAt)
                        {
                            // Soon again where the producer could not be asked or has what is too young yet.
                            var asked = await Fill(null, stop);
                            fillAt = Stopwatch.GetTimestamp() + Ticks(asked ? intake._options.FillInterval : intake._options.MaxDelay);
                        }
                        await Advance(stop);
                        if (Oldest() is { } oldest)
                        {
                            if (Stopwatch.GetElapsedTime(oldest.Message.Arrived) >= intake._options.GapPatience)
                            {
                                var asked = await Fill(oldest.Recorded.Origin.Position, stop);
                                // What the producer's ledger does not bear out is not an event of it.
                                if (asked && Oldest() is { } still && still == oldest)
                                    Reject(still);
                                continue;
                            }
                            await Arrival(intake._options.GapPatience / 3, stop);
                        }
                        else
                            await Arrival(Stopwatch.GetElapsedTime(Stopwatch.GetTimestamp(), fillAt), stop);
                    }
                }
                catch (Exception e) when (!stop.IsCancellationRequested)
                {
                    LogLaneFailed(intake._log, intake._service.Name, producer, e.GetType().Name);
                    fillAt = 0;
                    await Task.Delay(intake._options.MaxDelay, intake._time, stop).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
                }
            }
        }

        private static long Ticks(TimeSpan time) => (long)(time.TotalSeconds * Stopwatch.Frequency);

        private async Task ReadTaken(CancellationToken cancel)
        {
            foreach (var reaction in reactions)
                _taken[reaction.Event.FullName] = await intake._ledger.LastTaken(producer, reaction.Event.FullName, cancel);
        }

        private async Task Arrival(TimeSpan atMost, CancellationToken stop)
        {
            using var patience = CancellationTokenSource.CreateLinkedTokenSource(stop);
            patience.CancelAfter(atMost < TimeSpan.FromMilliseconds(1) ? TimeSpan.FromMilliseconds(1) : atMost);
            try
            {
                await _arrivals.Reader.WaitToReadAsync(patience.Token);
            }
            catch (OperationCanceledException) when (!stop.IsCancellationRequested) { }
        }

        private void Accept()
        {
            while (_arrivals.Reader.TryRead(out var message))
            {
                var held = _held[message.Content.Type];
                if (message.Content.Redelivered)
                    Metrics.Redelivered();
                foreach (var published in message.Content.Events)
                {
                    var sequence = published.Recorded.Origin.Sequence;
                    if (message.Content.Redelivered && sequence <= _taken[message.Content.Type])
                        TellRepeated(published.Recorded);
                    if (!held.TryGetValue(sequence, out var same))
                        held[sequence] = same = new(1);
                    same.Add(new Delivery(message, published));
                }
            }
            Settle();
        }

        /// <summary>What the broker gives again after it had its effect has none, and its trace says so.</summary>
        private void TellRepeated(RecordedEvent recorded)
        {
            using var span = intake.Start(recorded);
            span?.SetTag("ministries.redelivered", true);
            span?.SetTag("ministries.repeated", true);
        }

        /// <summary>Answers what has been taken in already.</summary>
        private void Settle()
        {
            foreach (var (type, held) in _held)
                while (held.Count > 0 && held.First() is var (sequence, same) && sequence <= _taken[type])
                {
                    held.Remove(sequence);
                    foreach (var delivery in same)
                        delivery.Message.Settle();
                }
        }

        private void Reject(Delivery delivery)
        {
            var type = delivery.Recorded.Event.Type;
            if (!_held[type].Remove(delivery.Recorded.Origin.Sequence, out var same))
                return;
            Metrics.Rejected(Metrics.NotInLedger);
            LogRejected(intake._log, intake._service.Name, type, producer);
            foreach (var one in same)
                one.Message.Settle(new InvalidDataException("the producer's ledger has no such event"));
        }

        private Delivery? Oldest() => _held.Values.SelectMany(h => h.Values).SelectMany(d => d).MinBy(d => d.Message.Arrived);

        /// <summary>Processes what is there as far as nothing is missing. A window of events waits for commits, so that while some are
        /// committed those behind them are ready; what comes meanwhile joins. Where one fails, those behind it are held back and
        /// tried again behind it.</summary>
        private async Task Advance(CancellationToken stop)
        {
            var waiting = new Queue<(Step Step, Activity? Span, Next Next)>();
            var (reached, last) = (new Dictionary<string, ulong>(_taken), (Step?)null);
            while (true)
            {
                var (failure, again) = ((Failure?)null, new List<Next>());
                while (waiting.Count < intake._options.CommitWindow && Ready(reached) is { } next)
                {
                    // What asks another service reads what those before it did: they are committed first.
                    if (waiting.Count > 0 && intake._reactions[next.Recorded.Event.Type].Ask is not null)
                        break;
                    (var step, var span, failure) = await Begin(
                        next,
                        waiting.Count > 0 ? last : null,
                        1,
                        false,
                        intake._options.AskPatience,
                        stop
                    );
                    reached[next.Recorded.Event.Type]++;
                    if (failure is null)
                        waiting.Enqueue((last = step, span, next));
                    else
                        again.Add(next);
                    if (failure is not null)
                        break;
                }
                if (waiting.Count == 0 && failure is null)
                    return;
                if (failure is null)
                    await ((Task)waiting.Peek().Step.Commit!).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
                // What one commit has committed is answered together; behind a failure nothing is left on its way.
                var behind = new List<Next>();
                var went = false;
                Failure? before = null;
                while (waiting.TryPeek(out var oldest) && (failure is not null || before is not null || oldest.Step.Commit!.IsCompleted))
                {
                    waiting.Dequeue();
                    var own = await End(oldest.Step, oldest.Span, stop);
                    before ??= own;
                    if (before is not null)
                    {
                        behind.Add(oldest.Next);
                        continue;
                    }
                    went = true;
                    // What is done holds nothing back, nor in memory.
                    if (waiting.TryPeek(out var following))
                        following.Step.Behind = null;
                }
                if (went)
                    intake._status.Goes(producer);
                Settle();
                if ((before ?? failure) is { } first)
                {
                    await Process([.. behind, .. again], stop, first: first);
                    reached = new(_taken);
                }
                Accept();
            }
        }

        /// <summary>The next event in order: one whose predecessors are reached; null: there is none at present.</summary>
        private Next? Ready(Dictionary<string, ulong> reached)
        {
            Delivery? next = null;
            foreach (var (type, held) in _held)
            {
                if (held.Count == 0 || !held.TryGetValue(reached[type] + 1, out var same))
                    continue;
                var (here, there) = (same[0].Recorded.Origin, next?.Recorded.Origin);
                if (there is not null && (here.Position, here.Index).CompareTo((there.Position, there.Index)) > 0)
                    continue;
                if (same[0].Published.After.All(a => !reached.TryGetValue(a.Key, out var at) || at >= a.Value))
                    next = same[0];
            }
            return next is null ? null : new Next(next.Recorded, next.Message.Content.Redelivered);
        }

        /// <summary>Reads what is missing from the producer's ledger and processes it.</summary>
        /// <param name="before">Up to which position a message shows that events are missing; null: nothing shows it, and only what
        /// is old enough is taken.</param>
        /// <param name="stop">Stops.</param>
        /// <returns>Whether the producer could be asked and all that it has was taken.</returns>
        private async Task<bool> Fill(ulong? before, CancellationToken stop)
        {
            if (Probe.LeaveGaps)
            {
                if (before is not null)
                    await Arrival(intake._options.MaxDelay, stop);
                return false;
            }
            while (true)
            {
                var request = new ListEventsRequest();
                request.After.AddRange(_taken.Select(t => new EventCursor { Type = t.Key, Sequence = t.Value }));
                ListEventsResponse response;
                try
                {
                    // Looked every few seconds: no trace of its own.
                    using var untold = SuppressInstrumentationScope.Begin();
                    response = await intake._read(producer, request, stop).WaitAsync(intake._options.AskDeadline, stop);
                }
                catch (Exception e) when (IsTransient(e) && !stop.IsCancellationRequested)
                {
                    LogProducerAway(intake._log, intake._service.Name, producer);
                    if (before is not null)
                        await Arrival(intake._options.MaxDelay, stop);
                    return false;
                }
                var youngest = intake._time.GetUtcNow() - intake._options.FillAge;
                List<RecordedEvent> missing =
                [
                    .. response.Events.TakeWhile(e => before is { } limit ? e.Origin.Position <= limit : IsOlder(e, youngest)),
                ];
                for (var i = 0; i < missing.Count; i += intake._options.CommitWindow)
                    await Process(
                        [.. missing.Skip(i).Take(intake._options.CommitWindow).Select(e => new Next(e, false))],
                        stop,
                        filled: true
                    );
                if (missing.Count > 0)
                    LogFilled(intake._log, intake._service.Name, missing.Count, producer);
                Accept();
                if (missing.Count < response.Events.Count)
                    return before is not null;
                if (response.Complete)
                    return true;
            }
        }

        private static bool IsOlder(RecordedEvent recorded, DateTimeOffset than) => recorded.CommittedAt() is not { } time || time <= than;

        /// <summary>Commits a run of events in order. They wait for their commit together; where one fails, those after it are held
        /// back and tried again behind it.</summary>
        /// <param name="run">The events.</param>
        /// <param name="stop">Stops.</param>
        /// <param name="filled">Whether they were read from the producer's ledger, for no message had come.</param>
        /// <param name="first">How the first of them has failed, where it was tried already.</param>
        private async Task Process(IReadOnlyList<Next> run, CancellationToken stop, bool filled = false, Failure? first = null)
        {
            var (done, attempts, tries) = (0, 0, 0);
            var since = Stopwatch.GetTimestamp();
            while (done < run.Count)
            {
                var (succeeded, failure) = first is not null
                    ? (0, first)
                    : await Attempt(
                        run,
                        done,
                        tries + 1,
                        filled,
                        intake._options.AskPatience - (tries > 0 ? Stopwatch.GetElapsedTime(since) : TimeSpan.Zero),
                        stop
                    );
                first = null;
                if (succeeded > 0)
                    Went();
                done += succeeded;
                Settle();
                if (failure is null)
                    continue;
                stop.ThrowIfCancellationRequested();
                if (tries == 0)
                {
                    since = Stopwatch.GetTimestamp();
                    intake._status.Waits(producer, intake._time.GetUtcNow());
                    var waiting = failure.Step.Recorded;
                    LogWaits(
                        intake._log,
                        intake._service.Name,
                        waiting.Event.Type,
                        EventTypes.IdOf(waiting.Origin),
                        failure.Reason ?? "UNAVAILABLE"
                    );
                }
                if (failure.Reason is { } reason && ++attempts >= intake._options.Attempts)
                {
                    if (!await TrySetAside(failure.Step, reason, attempts, stop))
                        continue;
                    Took(run[done].Recorded);
                    done++;
                    Went();
                    Settle();
                    continue;
                }
                var delay = TimeSpan.FromTicks(
                    Math.Min(intake._options.MaxDelay.Ticks, intake._options.FirstDelay.Ticks << Math.Min(tries++, 10))
                );
                await Task.Delay(delay, stop);
            }

            void Went()
            {
                (attempts, tries) = (0, 0);
                intake._status.Goes(producer);
            }
        }

        private async Task<bool> TrySetAside(Step step, string reason, int attempts, CancellationToken stop)
        {
            try
            {
                await intake.SetAside(step, reason, attempts, stop);
                return true;
            }
            catch (Exception e) when (IsTransient(e) && !stop.IsCancellationRequested)
            {
                await Task.Delay(intake._options.MaxDelay, stop);
                return false;
            }
        }

        // Why an attempt had no effect though nothing is wrong with the event: what it needs is out of reach; one before it failed.
        private const string Waiting = "UNAVAILABLE",
            HeldBack = "HELD_BACK";

        private sealed record Failure(Step Step, string? Reason);

        /// <summary>Tries the events from one on. Returns how many succeeded in a row, and what ended the row; the reason is null
        /// where it passes by itself.</summary>
        /// <param name="run">The events.</param>
        /// <param name="from">The first one to try.</param>
        /// <param name="attempt">How often that one has been tried, this time included.</param>
        /// <param name="filled">Whether they were read from the producer's ledger, for no message had come.</param>
        /// <param name="patience">How long its question may go unanswered still.</param>
        /// <param name="stop">Stops.</param>
        private async Task<(int Succeeded, Failure? Failure)> Attempt(
            IReadOnlyList<Next> run,
            int from,
            int attempt,
            bool filled,
            TimeSpan patience,
            CancellationToken stop
        )
        {
            var steps = new List<(Step Step, Activity? Span)>();
            Failure? failure = null;
            for (var i = from; i < run.Count && failure is null; i++)
            {
                var recorded = run[i].Recorded;
                if (recorded.Origin.Sequence <= _taken[recorded.Event.Type] && steps.Count == 0 && i == from)
                    return (1, null);
                // What asks another service reads what those before it did: they are committed first.
                if (steps.Count > 0 && intake._reactions[recorded.Event.Type].Ask is not null)
                    break;
                (var step, var span, failure) = await Begin(
                    run[i],
                    steps.Count > 0 ? steps[^1].Step : null,
                    i == from ? attempt : 1,
                    filled,
                    patience,
                    stop
                );
                if (failure is null)
                    steps.Add((step, span));
            }
            var succeeded = 0;
            var row = true;
            foreach (var (step, span) in steps)
            {
                var own = await End(step, span, stop);
                if (own is null && row)
                    succeeded++;
                else if (row)
                    (row, failure) = (false, own);
            }
            return (succeeded, failure);
        }

        /// <summary>Puts an event's command into the ledger's queue.</summary>
        /// <param name="next">The event.</param>
        /// <param name="behind">The one before it, where that waits too.</param>
        /// <param name="attempt">How often it has been tried, this time included.</param>
        /// <param name="filled">Whether it was read from the producer's ledger, for no message had come.</param>
        /// <param name="patience">How long its question may go unanswered still.</param>
        /// <param name="stop">Stops.</param>
        private async ValueTask<(Step Step, Activity? Span, Failure? Failure)> Begin(
            Next next,
            Step? behind,
            int attempt,
            bool filled,
            TimeSpan patience,
            CancellationToken stop
        )
        {
            var recorded = next.Recorded;
            var step = new Step(intake._reactions[recorded.Event.Type], recorded, behind) { Patience = patience };
            var span = intake.Start(recorded);
            if (filled)
                span?.SetTag("ministries.filled", true);
            if (next.Redelivered)
                span?.SetTag("ministries.redelivered", true);
            if (attempt > 1)
                span?.SetTag("ministries.attempt", attempt);
            try
            {
                await intake.Prepare(step, stop);
                step.Commit = intake._ledger.Commit(intake.CommandOf(step, span, replay: false), stop);
                return (step, span, null);
            }
            catch (Exception e)
            {
                var failure = new Failure(step, IsTransient(e) ? null : step.Failed ?? "PROCESSING_FAILED");
                span.Fail(failure.Reason ?? Waiting, e);
                span?.Dispose();
                return (step, span, failure);
            }
            finally
            {
                Activity.Current = null;
            }
        }

        /// <summary>Waits for an event's commit. Returns why it had no effect; null: it had, now or before.</summary>
        private async ValueTask<Failure?> End(Step step, Activity? span, CancellationToken stop)
        {
            Failure? failure = null;
            try
            {
                var outcome = await step.Commit!;
                if (outcome.Refusal is { } refusal)
                {
                    failure = new Failure(step, step.HeldBack ? null : step.Failed ?? Refusals.NameOf(refusal.Reason));
                    span.Fail(step.HeldBack ? HeldBack : failure.Reason, null);
                }
                else
                {
                    span?.SetTag("ministries.position", (long?)outcome.Position);
                    if (outcome.Repeated)
                        span?.SetTag("ministries.repeated", true);
                    if (!outcome.Repeated)
                        Metrics.TakenIn(step.Recorded, intake._time.GetUtcNow());
                    Took(step.Recorded);
                }
            }
            catch (EventGapException e)
            {
                failure = new Failure(step, null);
                span.Fail(HeldBack, e);
                if (step.Behind is null)
                    await ReadTaken(stop);
            }
            catch (Exception e)
            {
                failure = new Failure(step, IsTransient(e) ? null : step.Failed ?? "PROCESSING_FAILED");
                span.Fail(failure.Reason ?? Waiting, e);
            }
            span?.Dispose();
            return failure;
        }

        private void Took(RecordedEvent recorded) =>
            _taken[recorded.Event.Type] = Math.Max(_taken[recorded.Event.Type], recorded.Origin.Sequence);
    }

    [LoggerMessage(1, LogLevel.Error, "{Service} set {Type} {Event} aside after {Attempts} attempts: {Reason}")]
    private static partial void LogSetAside(ILogger log, string service, string type, string @event, string reason, int attempts);

    [LoggerMessage(2, LogLevel.Warning, "{Service} cannot take in events of {Producer} at present: {Error}")]
    private static partial void LogLaneFailed(ILogger log, string service, string producer, string error);

    [LoggerMessage(3, LogLevel.Information, "{Service} took {Count} events from the ledger of {Producer}")]
    private static partial void LogFilled(ILogger log, string service, int count, string producer);

    [LoggerMessage(4, LogLevel.Information, "{Service} cannot reach the ledger of {Producer}")]
    private static partial void LogProducerAway(ILogger log, string service, string producer);

    [LoggerMessage(7, LogLevel.Warning, "{Service} cannot take in {Type} {Event} yet: {Reason}")]
    private static partial void LogWaits(ILogger log, string service, string type, string @event, string reason);

    [LoggerMessage(8, LogLevel.Error, "{Service} had no answer to what it had to ask for {Type} {Event}, and goes on without")]
    private static partial void LogUnanswered(ILogger log, string service, string type, string @event);

    [LoggerMessage(6, LogLevel.Error, "{Service} gave back a message of type {Type} that does not bear the signature of {Producer}")]
    private static partial void LogForged(ILogger log, string service, string type, string producer);

    [LoggerMessage(5, LogLevel.Error, "{Service} gave back a message of type {Type} that the ledger of {Producer} does not have")]
    private static partial void LogRejected(ILogger log, string service, string type, string producer);
}
