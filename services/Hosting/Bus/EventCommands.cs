using System.Data.Common;
using System.Diagnostics;
using Google.Protobuf;
using Grpc.Core;
using Microsoft.Extensions.Logging;
using Ministries.Ledger;
using Ministries.Ledger.V1;
using Cause = Ministries.Ledger.V1.Cause;

namespace Ministries.Hosting.Bus;

/// <summary>Turns other services' events into commands: asks other services for what a reaction needs, queues the command and reports its
/// outcome.</summary>
internal sealed partial class EventCommands(
    Service service,
    ServiceLedger ledger,
    Func<Permissions> permissions,
    IServiceProvider services,
    BusOptions options,
    TimeProvider time,
    ILogger<EventCommands> log
)
{
    // The reasons why an attempt with a sound event had no effect: something that it needs is out of reach, or an earlier event failed.
    private const string Unavailable = "UNAVAILABLE",
        HeldBack = "HELD_BACK";

    private readonly Dictionary<string, Reaction> _reactions = service.Reactions.ToDictionary(r => r.Event.FullName);

    /// <summary>Whether the service reacts to events of the type.</summary>
    public bool Handles(string type) => _reactions.ContainsKey(type);

    /// <summary>Whether the reaction to events of the type asks another service.</summary>
    public bool Asks(string type) => _reactions[type].Ask is not null;

    /// <summary>What an event is about (<see cref="Reaction.About"/>); null: that is not known.</summary>
    public string? AboutOf(RecordedEvent recorded)
    {
        if (_reactions[recorded.Event.Type] is not { About: { } about } reaction)
            return null;
        try
        {
            return about(reaction.Event.Parser.ParseFrom(recorded.Event.Data));
        }
        catch (InvalidProtocolBufferException)
        {
            return null;
        }
    }

    /// <summary>The number of the last event of a producer's type that has had its effect; zero: none.</summary>
    public Task<ulong> LastTaken(string producer, string type, CancellationToken cancel) => ledger.LastTaken(producer, type, cancel);

    /// <summary>Whether a fault passes by itself: the database, the network or another service is out of reach, or a replica with newer
    /// software takes over. Damage of the database that affects only this command does not pass.</summary>
    public static bool IsTransient(Exception e) =>
        e
            is LedgerOverloadedException
                or LedgerClosedException
                or LedgerUnavailableException { OfOne: false }
                or CommitOutcomeUnknownException
                or ClockNotTrustedException
                or LedgerInconsistentException
                or CommandHeldBackException
                or NewerFoldException
                or RpcException
                or DbException
                or IOException
                and not InvalidProtocolBufferException
                or TimeoutException
                or OperationCanceledException;

    /// <summary>Begins the span of an event.</summary>
    public Activity? Start(RecordedEvent recorded, IEnumerable<ActivityLink>? links = null, string operation = "process")
    {
        var span = Tracing.Start($"{operation} {recorded.Event.Type}", ActivityKind.Consumer, recorded, links: links);
        Tracing.Describe(span, recorded, operation);
        span?.SetTag("messaging.consumer.group.name", Broker.QueueOf(service.Name));
        return span;
    }

    /// <summary>Puts an event's command into the ledger's queue.</summary>
    /// <param name="recorded">The event.</param>
    /// <param name="previous">The previous step, if it is still running; null: it is not.</param>
    /// <param name="patience">How much longer its question to another service may stay unanswered.</param>
    /// <param name="hurried">Whether its question has a short time, because an earlier one stayed unanswered.</param>
    /// <param name="describe">Adds to its span how the event came and how often it was tried.</param>
    /// <param name="stop">Stops.</param>
    /// <returns>The step, and why it had no effect where that is known already.</returns>
    public async ValueTask<(EventStep Step, StepFailure? Failure)> Begin(
        RecordedEvent recorded,
        EventStep? previous,
        TimeSpan patience,
        bool hurried,
        Action<Activity?> describe,
        CancellationToken stop
    )
    {
        var step = new EventStep(_reactions[recorded.Event.Type], recorded, previous)
        {
            Patience = patience,
            IsHurried = hurried,
            Span = Start(recorded),
        };
        describe(step.Span);
        try
        {
            await Prepare(step, stop);
            step.Commit = ledger.Commit(CommandOf(step, replay: false), stop);
            return (step, null);
        }
        catch (Exception e)
        {
            return (step, Failed(step, e));
        }
        finally
        {
            Activity.Current = null;
        }
    }

    /// <summary>Waits for a step's commit and ends its span. Returns why the step had no effect; null: it had its effect, now or
    /// earlier.</summary>
    /// <exception cref="EventGapException">The event is not the next one of its type.</exception>
    public async ValueTask<StepFailure?> End(EventStep step)
    {
        Outcome outcome;
        try
        {
            outcome = await step.Commit!;
        }
        catch (EventGapException e)
        {
            step.Span.Fail(HeldBack, e);
            step.Span?.Dispose();
            throw;
        }
        catch (Exception e)
        {
            return Failed(step, e);
        }
        using var span = step.Span;
        if (outcome.Refusal is { } refusal)
        {
            var reason = Refusals.NameOf(refusal.Reason);
            span.Fail(reason, null);
            return new StepFailure(step, reason);
        }
        span?.SetTag("ministries.position", (long?)outcome.Position);
        if (outcome.Repeated)
            span?.SetTag("ministries.repeated", true);
        else
            Metrics.TakenIn(step.Recorded, time.GetUtcNow());
        return null;
    }

    /// <summary>Processes a dead letter again. Returns why that failed; null: the event had its effect.</summary>
    /// <param name="recorded">The event; <see cref="Handles"/> its type.</param>
    /// <param name="links">The spans to which its span is linked.</param>
    /// <param name="cancel">Cancels.</param>
    public async Task<string?> Replay(RecordedEvent recorded, IEnumerable<ActivityLink> links, CancellationToken cancel)
    {
        using var span = Start(recorded, links);
        span?.SetTag("ministries.replayed", true);
        var step = new EventStep(_reactions[recorded.Event.Type], recorded, null) { Span = span };
        try
        {
            await Prepare(step, cancel);
            var outcome = await ledger.Commit(CommandOf(step, replay: true), cancel);
            var reason = outcome.Refusal is { } refusal ? Refusals.NameOf(refusal.Reason) : null;
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

    /// <summary>Records an event as a dead letter, so that those behind it can go on.</summary>
    public async Task SetAside(EventStep step, string reason, int attempts, CancellationToken cancel)
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
        await ledger.Commit(
            new Command
            {
                Participant = $"service/{service.Name}",
                RequestId = $"dead-letter/{id}",
                Method = DeadLetters.SetAsideMethod,
                Request = aside,
                Bytes = aside.ToByteArray(),
                AgreementVersion = permissions().Agreement.Version,
                StoresRefusal = false,
                Cause = new Cause { Event = recorded.Origin, Leaf = recorded.Leaf },
                Intake = NumberOf(recorded),
                TraceParent = span?.Id ?? recorded.Traceparent,
                TraceState = span?.TraceStateString ?? recorded.Tracestate,
                Decide = (_, _) => Decision.Accept(recorded.Event.Case, [], [new Change(aside, [DeadLetters.Kind.Id(id)])]),
            },
            cancel
        );
        Metrics.SetAside(recorded.Origin.Service);
        LogSetAside(log, service.Name, recorded.Event.Type, id, reason, attempts);
    }

    private static IntakeNumber NumberOf(RecordedEvent recorded) =>
        new(recorded.Origin.Service, recorded.Event.Type, recorded.Origin.Sequence);

    private static StepFailure Failed(EventStep step, Exception e)
    {
        var failure = new StepFailure(step, IsTransient(e) ? null : step.Failed ?? "PROCESSING_FAILED");
        step.Span.Fail(failure.Reason ?? (e is CommandHeldBackException ? HeldBack : Unavailable), e);
        step.Span?.Dispose();
        return failure;
    }

    private async Task Prepare(EventStep step, CancellationToken cancel)
    {
        try
        {
            step.Message = step.Reaction.Event.Parser.ParseFrom(step.Recorded.Event.Data);
            step.About = step.Reaction.About?.Invoke(step.Message);
        }
        catch (InvalidProtocolBufferException)
        {
            step.Failed = "UNREADABLE";
            throw;
        }
        if (step.Reaction.Ask is not { } ask)
            return;
        using var deadline = CancellationTokenSource.CreateLinkedTokenSource(cancel);
        var isLast = step.Patience is { } patience && patience <= TimeSpan.Zero;
        deadline.CancelAfter(step.IsHurried ? options.AskDeadline / 10 : options.AskDeadline);
        try
        {
            step.Asked = await ask(step.Message, services, deadline.Token).WaitAsync(deadline.Token);
        }
        catch (Exception e) when (isLast && IsTransient(e) && !cancel.IsCancellationRequested)
        {
            step.Unanswered = true;
            LogUnanswered(log, service.Name, step.Recorded.Event.Type, EventTypes.IdOf(step.Recorded.Origin));
        }
    }

    private Command CommandOf(EventStep step, bool replay)
    {
        var (recorded, inForce) = (step.Recorded, permissions());
        return new Command
        {
            Participant = $"service/{recorded.Origin.Service}",
            RequestId = EventTypes.IdOf(recorded.Origin),
            Method = recorded.Event.Type,
            Request = step.Message!,
            Bytes = recorded.Event.Data.Memory,
            AgreementVersion = inForce.Agreement.Version,
            Asked = step.Asked,
            Cause = new Cause { Event = recorded.Origin, Leaf = recorded.Leaf },
            StoresRefusal = false,
            Intake = replay ? null : NumberOf(recorded),
            Link = step.Link,
            TraceParent = step.Span?.Id ?? recorded.Traceparent,
            TraceState = step.Span?.TraceStateString ?? recorded.Tracestate,
            Decide = (view, now) => Decide(step, view, now, inForce, replay),
        };
    }

    private Decision Decide(EventStep step, View view, DateTimeOffset now, Permissions inForce, bool replay)
    {
        // A rule may run more than once (decision 0004), and only its last run counts.
        step.Failed = null;
        var recorded = step.Recorded;
        try
        {
            var context = new RuleContext
            {
                View = view,
                Caller =
                    inForce.Participant($"service/{recorded.Origin.Service}") ?? throw new InvalidOperationException("no such participant"),
                Permissions = inForce,
                Method = recorded.Event.Type,
                RequestId = EventTypes.IdOf(recorded.Origin),
                Now = now,
                Asked = step.Asked,
                Secrets = ledger.Secrets,
            };
            var decision = step.Reaction.Decide(step.Message!, context);
            return replay && decision.Refusal is null ? DeadLetters.Settle(decision, recorded.Origin) : decision;
        }
        catch (Exception)
        {
            step.Failed = "RULE_FAILED";
            throw;
        }
    }

    [LoggerMessage(1, LogLevel.Error, "{Service} set {Type} {Event} aside after {Attempts} attempts: {Reason}")]
    private static partial void LogSetAside(ILogger log, string service, string type, string @event, string reason, int attempts);

    [LoggerMessage(8, LogLevel.Error, "{Service} got no answer to its question about {Type} {Event}, and decides without it")]
    private static partial void LogUnanswered(ILogger log, string service, string type, string @event);
}
