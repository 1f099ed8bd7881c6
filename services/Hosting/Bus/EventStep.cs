using System.Diagnostics;
using Google.Protobuf;
using Ministries.Ledger;
using Ministries.Ledger.V1;

namespace Ministries.Hosting.Bus;

/// <summary>One attempt to take an event into the ledger.</summary>
/// <param name="reaction">What the service does about the event.</param>
/// <param name="recorded">The event.</param>
/// <param name="previous">The previous step, if it is still running; null: it is not.</param>
internal sealed class EventStep(Reaction reaction, RecordedEvent recorded, EventStep? previous)
{
    /// <summary>What the service does about the event.</summary>
    public Reaction Reaction => reaction;

    /// <summary>The event.</summary>
    public RecordedEvent Recorded => recorded;

    /// <summary>The step's place in its chain: it must not overtake the previous step.</summary>
    public ChainLink Link { get; } = new(previous?.Link);

    /// <summary>The event, parsed.</summary>
    public IMessage? Message { get; set; }

    /// <summary>What the event is about (<see cref="Reaction.About"/>); null: that is not known.</summary>
    public string? About { get; set; }

    /// <summary>What another service answered; null: nothing was asked, or nothing was answered in time.</summary>
    public IMessage? Asked { get; set; }

    /// <summary>How much longer its question to another service may stay unanswered; null: for ever.</summary>
    public TimeSpan? Patience { get; init; }

    /// <summary>Whether its question has a short time, because an earlier one stayed unanswered.</summary>
    public bool IsHurried { get; init; }

    /// <summary>Whether its reaction decides without the answer that it asked for.</summary>
    public bool Unanswered { get; set; }

    /// <summary>Its span.</summary>
    public Activity? Span { get; init; }

    /// <summary>Its commit, once it is queued.</summary>
    public Task<Outcome>? Commit { get; set; }

    /// <summary>Why it could not be processed; null: the software was not at fault.</summary>
    public volatile string? Failed;
}

/// <summary>Why a step had no effect.</summary>
/// <param name="Step">The step.</param>
/// <param name="Reason">The reason's name; null: nothing is wrong with the event, and the fault passes by itself.</param>
internal sealed record StepFailure(EventStep Step, string? Reason);
