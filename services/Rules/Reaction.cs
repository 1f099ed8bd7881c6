using Google.Protobuf;
using Google.Protobuf.Reflection;

namespace Ministries.Rules;

/// <summary>What a service does on another service's event: a command into its own ledger, whose request id is the event's id.
/// </summary>
/// <param name="Producer">The other service's name.</param>
/// <param name="Event">The event's type.</param>
/// <param name="Decide">The rule; it never refuses what it can record.</param>
/// <param name="Ask">Asks another service before the command is queued; null: nothing is asked. Where it cannot be asked for long
/// (the setting <c>AskPatience</c>), the rule decides without an answer, on the safe side.</param>
/// <param name="About">What the event is about, if the reaction asks another service. The question depends only on the effects of events
/// about the same thing, so events about different things are committed together. null: not known.</param>
public sealed record Reaction(
    string Producer,
    MessageDescriptor Event,
    Func<IMessage, RuleContext, Decision> Decide,
    Func<IMessage, IServiceProvider, CancellationToken, Task<IMessage?>>? Ask = null,
    Func<IMessage, string>? About = null
)
{
    /// <summary>A reaction to events of the type.</summary>
    public static Reaction To<T>(
        string producer,
        Func<T, RuleContext, Decision> decide,
        Func<T, IServiceProvider, CancellationToken, Task<IMessage?>>? ask = null,
        Func<T, string>? about = null
    )
        where T : IMessage<T>, new() =>
        new(
            producer,
            new T().Descriptor,
            (e, context) => decide((T)e, context),
            ask is null ? null : (e, services, cancel) => ask((T)e, services, cancel),
            about is null ? null : e => about((T)e)
        );
}

/// <summary>What a service records when a duty of one of its records falls due. The record's <see cref="StreamKind.DueOf"/> says
/// when; the rule records it, so that the state afterwards has another due time or none.</summary>
/// <param name="Kind">The kind of record.</param>
/// <param name="Record">Given the record's key and the time, makes the events.</param>
public sealed record Duty(StreamKind Kind, Func<string, RuleContext, Decision> Record)
{
    /// <summary>The rule's events that announce no duty but another term that has passed. They are not counted as duties.</summary>
    public IReadOnlyList<MessageDescriptor> Besides { get; init; } = [];
}
