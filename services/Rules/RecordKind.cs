using System.Collections.Frozen;
using Google.Protobuf;
using Google.Protobuf.Reflection;
using Ministries.Custody.V1;
using Ministries.Errors.V1;

namespace Ministries.Rules;

/// <summary>A kind of record, as rules need to know it.</summary>
public abstract class RecordKind
{
    private protected RecordKind() { }

    /// <summary>The first part of the ids of its records, such as <c>transfer</c>.</summary>
    public required string Prefix { get; init; }

    /// <summary>A record as the caller may see it, and the state that it shows.</summary>
    internal abstract (IMessage Record, object State) ShownTo(RuleContext context, string @case, string id);
}

/// <summary>A kind of record, as rules need to know it: where it is found, who sees what of it, what its events have in common.
/// </summary>
/// <typeparam name="TRecord">The record's state, a message with a field <c>state</c>.</typeparam>
public sealed class RecordKind<TRecord> : RecordKind
    where TRecord : class, IMessage<TRecord>, new()
{
    private static readonly IFieldAccessor StateField = new TRecord().Descriptor.FindFieldByName("state").Accessor;
    private readonly Lazy<FrozenDictionary<MessageDescriptor, (IFieldAccessor Field, Func<TRecord, string> Value)[]>> _names;

    /// <summary>A kind of record.</summary>
    public RecordKind() => _names = new(() => Stream!.Events.ToFrozenDictionary(e => e, e => NamesIn(e).ToArray()));

    /// <summary>The stream of its records.</summary>
    public required StreamKind<TRecord> Stream { get; init; }

    /// <summary>The name of the field by which requests and events name a record of this kind, such as <c>transfer</c>; where they have
    /// none, it is <c>record</c>.</summary>
    public required string Field { get; init; }

    /// <summary>The record's id.</summary>
    public required Func<TRecord, string> Id { get; init; }

    /// <summary>The record's case.</summary>
    public required Func<TRecord, string> Case { get; init; }

    /// <summary>The reference of the prisoner that the record is about; null: it is about no one prisoner.</summary>
    public Func<TRecord, string>? Prisoner { get; init; }

    /// <summary>The number of the record's state, 0 to 63.</summary>
    public required Func<TRecord, int> State { get; init; }

    /// <summary>The stream's key of the record with this case and id.</summary>
    public Func<string, string, string> Key { get; init; } = static (_, id) => id;

    /// <summary>Who may see the record; null: every party to its case.</summary>
    public Func<TRecord, IEnumerable<string>>? SeenBy { get; init; }

    /// <summary>Who may see an entry on the record where its rule does not say otherwise.</summary>
    public required Func<TRecord, IEnumerable<string>> Entries { get; init; }

    /// <summary>The record as the caller may see it.</summary>
    public required Func<TRecord, Case, RuleContext, TRecord> Show { get; init; }

    /// <summary>The streams that an event on the record changes.</summary>
    public required Func<TRecord, IMessage, IReadOnlyList<StreamId>> Streams { get; init; }

    /// <summary>The powers of origin of the person whom the record is about, as far as the service knows them: not even a Protecting Power
    /// of theirs learns of him before a release (D15). Null: it knows none.</summary>
    public Func<TRecord, RuleContext, IEnumerable<string>>? Origins { get; init; }

    /// <summary>The states that are sides of the record: what is sealed in a write on it may be for their organs, too. Null: none is.
    /// </summary>
    public Func<TRecord, IEnumerable<string>>? Sides { get; init; }

    /// <summary>Whether a refusal for the record's state names the record.</summary>
    public bool NamedInRefusals { get; init; }

    /// <summary>A change of the record. What all its events have in common is filled in: its case, its id, its prisoner.</summary>
    /// <param name="record">The record.</param>
    /// <param name="event">The event, of a type that the stream folds.</param>
    public Change On(TRecord record, IMessage @event)
    {
        foreach (var (field, value) in _names.Value[@event.Descriptor])
            field.SetValue(@event, value(record));
        return new Change(@event, Streams(record, @event));
    }

    /// <summary>The refusal for the state that the record is in.</summary>
    public Refusal NotAllowed(TRecord record) =>
        new(Reason.StateNotAllowed, NamedInRefusals ? new Dictionary<string, string> { ["record"] = Id(record) } : null);

    internal override (IMessage Record, object State) ShownTo(RuleContext context, string @case, string id)
    {
        var shown = Show(context.Find(Stream, Key(@case, id))!, context.Find(Cases.Kind, @case)!, context);
        return (shown, StateField.GetValue(shown));
    }

    private IEnumerable<(IFieldAccessor, Func<TRecord, string>)> NamesIn(MessageDescriptor @event)
    {
        foreach (
            var (name, value) in ((string, Func<TRecord, string>?)[])[("case", Case), ("prisoner", Prisoner), (Field, Id), ("record", Id)]
        )
            if (value is not null && @event.FindFieldByName(name) is { FieldType: FieldType.String, IsRepeated: false } field)
                yield return (field.Accessor, value);
    }
}

/// <summary>The side of a record that alone may do something.</summary>
/// <typeparam name="TRecord">The record's state.</typeparam>
/// <param name="Name">Its name, as the contract has it, such as <c>detaining power</c>.</param>
/// <param name="Check">Why the caller is not of that side; null: he is.</param>
public sealed record Side<TRecord>(string Name, Func<TRecord, RuleContext, Refusal?> Check);
