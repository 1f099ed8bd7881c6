using System.Diagnostics;
using Google.Protobuf;
using Ministries.Ledger;
using Ministries.Ledger.V1;

namespace Ministries.Hosting.Bus;

/// <summary>One attempt to take an event into the ledger.</summary>
/// <param name="reaction">What the service does about the event.</param>
/// <param name="recorded">The event.</param>
/// <param name="behind">The step before it, if that is still running; null: none is.</param>
internal sealed class EventStep(Reaction reaction, RecordedEvent recorded, EventStep? behind)
{
    /// <summary>What the service does about the event.</summary>
    public Reaction Reaction => reaction;

    /// <summary>The event.</summary>
    public RecordedEvent Recorded => recorded;

    /// <summary>The step before it, if that is still running; null: none is.</summary>
    public EventStep? Behind { get; set; } = behind;

    /// <summary>The event, parsed.</summary>
    public IMessage? Message { get; set; }

    /// <summary>What the event is about (<see cref="Reaction.About"/>); null: that is not known.</summary>
    public string? About { get; set; }

    /// <summary>What another service answered; null: nothing was asked, or nothing was answered in time.</summary>
    public IMessage? Asked { get; set; }

    /// <summary>How much longer its question to another service may stay unanswered; null: for ever.</summary>
    public TimeSpan? Patience { get; init; }

    /// <summary>Its span.</summary>
    public Activity? Span { get; init; }

    /// <summary>Its commit, once it is queued.</summary>
    public Task<Outcome>? Commit { get; set; }

    /// <summary>Set by the rule's last run: the committer runs rules in order, so the next step's rule sees it.</summary>
    public volatile bool Refused;

    /// <summary>True where the rule did not run, because the step before it failed.</summary>
    public volatile bool HeldBack;

    /// <summary>Why it could not be processed; null: the software was not at fault.</summary>
    public volatile string? Failed;

    /// <summary>Whether the step has failed. Then no step behind it may have its effect.</summary>
    public bool HasFailed => Refused || Commit is { IsCompleted: true, IsCompletedSuccessfully: false };
}

/// <summary>Why a step had no effect.</summary>
/// <param name="Step">The step.</param>
/// <param name="Reason">The reason's name; null: nothing is wrong with the event, and the fault passes by itself.</param>
internal sealed record StepFailure(EventStep Step, string? Reason);
