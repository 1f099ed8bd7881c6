using Google.Protobuf;
using Ministries.Errors.V1;

namespace Ministries.Rules;

/// <summary>What a rule's own part decides: events, or a refusal. <see cref="Rule{TRecord, TRequest, TResponse}"/> completes it to a
/// <see cref="Decision"/>.</summary>
public readonly struct Ruling
{
    /// <summary>Why it is refused; null: it is accepted.</summary>
    public Refusal? Refusal { get; private init; }

    /// <summary>What happened. A change without streams is one of the record that the rule is on.</summary>
    internal Change[] Changes { get; private init; }

    /// <summary>Who may see the entry beside its participant; null: who may see entries on the record.</summary>
    internal IEnumerable<string>? Audience { get; private init; }

    /// <summary>It is accepted.</summary>
    /// <param name="events">What happened to the record. Its case, id and prisoner are filled in.</param>
    public static Ruling Accept(params IMessage[] events) => new() { Changes = Array.ConvertAll(events, e => new Change(e, [])) };

    /// <summary>It is accepted.</summary>
    /// <param name="changes">What happened; those without streams to the record, those with streams as they are.</param>
    public static Ruling Accept(params IEnumerable<Change> changes) => new() { Changes = [.. changes] };

    /// <summary>It is refused.</summary>
    /// <param name="reason">The reason.</param>
    /// <param name="metadata">What the refusal adds, by name.</param>
    public static Refusal Refuse(Reason reason, params (string Name, string Value)[] metadata) =>
        new(reason, metadata.Length == 0 ? null : metadata.ToDictionary(m => m.Name, m => m.Value));

    /// <summary>It is refused for a field.</summary>
    /// <param name="reason">The reason.</param>
    /// <param name="field">The field's path.</param>
    public static Refusal RefuseField(Reason reason, string field) => Refuse(reason, ("field", field));

    /// <summary>It is refused for the form of fields that do not go together.</summary>
    /// <param name="faults">The fields and what is wrong with each.</param>
    public static Refusal Invalid(params IEnumerable<(string Field, string Description)> faults) =>
        new(
            Reason.RequestInvalid,
            null,
            [.. faults.Select(f => new Ledger.V1.FieldFault { Field = f.Field, Description = f.Description })]
        );

    /// <summary>The same, and seen by these beside its participant.</summary>
    public Ruling SeenBy(params IEnumerable<string> audience) => this with { Audience = audience };

    /// <summary>It is refused for the reason.</summary>
    public static implicit operator Ruling(Reason reason) => new Refusal(reason);

    /// <summary>It is refused.</summary>
    public static implicit operator Ruling(Refusal refusal) => new() { Refusal = refusal };
}
