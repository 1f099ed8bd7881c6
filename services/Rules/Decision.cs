using Google.Protobuf;
using Ministries.Errors.V1;
using Ministries.Ledger.V1;

namespace Ministries.Rules;

/// <summary>An event and the streams that it belongs to.</summary>
/// <param name="Event">The event, a message with the option <c>published</c>.</param>
/// <param name="Streams">The streams whose states it changes, at least one.</param>
public readonly record struct Change(IMessage Event, IReadOnlyList<StreamId> Streams);

/// <summary>Why a command was refused. What it says to its reader is in the reason's <see cref="About"/>.</summary>
/// <param name="Reason">The reason.</param>
/// <param name="Metadata">What it adds, by name; nothing that its reader may not know.</param>
/// <param name="Faults">The fields at fault, where it is the request's form.</param>
public sealed record Refusal(Reason Reason, IReadOnlyDictionary<string, string>? Metadata = null, IReadOnlyList<FieldFault>? Faults = null);

/// <summary>What came of a command: events and an answer, or a refusal. Made by rules, which are pure: the same state, command
/// and time give the same decision.</summary>
public sealed class Decision
{
    private Decision() { }

    /// <summary>The refusal; null where the command was accepted.</summary>
    public Refusal? Refusal { get; private init; }

    /// <summary>What happened, in order; none where nothing did.</summary>
    public IReadOnlyList<Change> Changes { get; private init; } = [];

    /// <summary>The case that the entry belongs to; empty: none.</summary>
    public string Case { get; private init; } = "";

    /// <summary>Who may see the entry beside its participant (<see cref="Rules.Audience"/>).</summary>
    public IReadOnlyList<string> Audience { get; private init; } = [];

    /// <summary>Makes the answer, without its receipt, from the states as they are after the changes.</summary>
    public Func<View, IMessage>? Answer { get; private init; }

    /// <summary>The command is accepted.</summary>
    /// <param name="case">The case; empty: none.</param>
    /// <param name="audience">Who may see the entry beside its participant.</param>
    /// <param name="changes">What happened.</param>
    /// <param name="answer">Makes the answer from the states after the changes; null: there is none.</param>
    public static Decision Accept(
        string @case,
        IReadOnlyList<string> audience,
        IReadOnlyList<Change> changes,
        Func<View, IMessage>? answer = null
    ) =>
        new()
        {
            Case = @case,
            Audience = audience,
            Changes = changes,
            Answer = answer,
        };

    /// <summary>The command is refused.</summary>
    public static implicit operator Decision(Refusal refusal) => new() { Refusal = refusal };

    /// <summary>The command is refused.</summary>
    public static Decision Refuse(Reason reason, params (string Name, string Value)[] metadata) =>
        new Refusal(reason, metadata.Length == 0 ? null : metadata.ToDictionary(m => m.Name, m => m.Value));
}
