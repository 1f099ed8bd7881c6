using System.Collections.Frozen;
using Google.Protobuf;
using Google.Protobuf.Reflection;

namespace Ministries.Rules;

/// <summary>How a state follows from events: one method for each type of event, and what is done after each of them. It is given to a
/// <see cref="StreamKind{T}"/>, which keeps it as it is then.</summary>
/// <typeparam name="T">The state.</typeparam>
public sealed class Folds<T>
    where T : class, IMessage<T>, new()
{
    private readonly Dictionary<MessageDescriptor, Action<T, IMessage, FoldedEntry>> _byEvent = [];
    private Action<T, IMessage, FoldedEntry>? _after;

    internal IReadOnlyCollection<MessageDescriptor> Types => _byEvent.Keys;

    /// <summary>What an event of this type does to the state.</summary>
    public Folds<T> On<TEvent>(Action<T, TEvent, FoldedEntry> fold)
        where TEvent : class, IMessage<TEvent>, new()
    {
        _byEvent.Add(new TEvent().Descriptor, (state, e, entry) => fold(state, (TEvent)e, entry));
        return this;
    }

    /// <summary>An event of this type does nothing to the state beside what every event does.</summary>
    public Folds<T> On<TEvent>()
        where TEvent : class, IMessage<TEvent>, new() => On<TEvent>(static (_, _, _) => { });

    /// <summary>What is done after each event, whatever its type.</summary>
    public Folds<T> After(Action<T, IMessage, FoldedEntry> fold)
    {
        _after = fold;
        return this;
    }

    internal Action<T, IMessage, FoldedEntry> Build(string kind)
    {
        var (folds, after) = (_byEvent.ToFrozenDictionary(), _after);
        return (state, e, entry) =>
        {
            if (!folds.TryGetValue(e.Descriptor, out var fold))
                throw new InvalidOperationException($"{kind} has no fold for {e.Descriptor.FullName}");
            fold(state, e, entry);
            after?.Invoke(state, e, entry);
        };
    }
}
