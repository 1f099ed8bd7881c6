using Google.Protobuf;

namespace Ministries.Rules;

/// <summary>
/// The states that a rule sees. A rule asks for what it needs; what was not loaded reads as absent and is noted, and the rule is
/// run again with it loaded, so rules need not say beforehand what they touch. States are never changed by a rule.
/// </summary>
public sealed class View
{
    private readonly Dictionary<StreamId, Held> _states = [];
    private HashSet<StreamId>? _missed;
    private List<(StreamId Id, IMessage? State)>? _seen;

    private readonly record struct Held(StreamKind Kind, IMessage? State, ulong Version);

    /// <summary>The state of a record, or null where there is none.</summary>
    public T? Find<T>(StreamKind<T> kind, string key)
        where T : class, IMessage<T>, new()
    {
        var id = kind.Id(key);
        if (!Holds(id))
            (_missed ??= []).Add(id);
        return (T?)StateOf(id);
    }

    /// <summary>The streams that a rule asked for and that were not loaded; empties the list.</summary>
    public IReadOnlyCollection<StreamId> TakeMissed()
    {
        var missed = _missed;
        _missed = null;
        return (IReadOnlyCollection<StreamId>?)missed ?? [];
    }

    /// <summary>Whether the stream is loaded, absent ones included.</summary>
    public bool Holds(StreamId id) => _states.ContainsKey(id);

    /// <summary>The version of a loaded stream: the number of entries that changed it; zero where there is none.</summary>
    public ulong VersionOf(StreamId id) => _states.TryGetValue(id, out var held) ? held.Version : 0;

    /// <summary>The state of a loaded stream, or null where there is none.</summary>
    public IMessage? StateOf(StreamId id)
    {
        var state = _states.TryGetValue(id, out var held) ? held.State : null;
        _seen?.Add((id, state));
        return state;
    }

    /// <summary>Notes from now on what is seen.</summary>
    internal void Note() => _seen = [];

    /// <summary>What was seen since <see cref="Note"/>, which ends.</summary>
    internal IReadOnlyList<(StreamId Id, IMessage? State)> TakeSeen()
    {
        var seen = _seen;
        _seen = null;
        return seen ?? [];
    }

    /// <summary>Whether all states that were seen are loaded and unchanged, so that the decision would be the same now. States are never
    /// changed in place, so the same object is an unchanged state.</summary>
    internal bool IsStill(IReadOnlyList<(StreamId Id, IMessage? State)> seen)
    {
        foreach (var (id, state) in seen)
            if (!_states.TryGetValue(id, out var held) || !ReferenceEquals(held.State, state))
                return false;
        return true;
    }

    /// <summary>Puts a state as it was loaded; null: there is none.</summary>
    public void Put(StreamKind kind, string key, IMessage? state, ulong version) => _states[kind.Id(key)] = new Held(kind, state, version);

    /// <summary>
    /// Applies what a decision changed. Every stream named in it must be loaded or new. Returns the streams that changed.
    /// </summary>
    /// <param name="kinds">The kinds of streams of the service, by name.</param>
    /// <param name="changes">What happened.</param>
    /// <param name="entry">The entry that the changes belong to.</param>
    public IReadOnlyCollection<StreamId> Apply(
        IReadOnlyDictionary<string, StreamKind> kinds,
        IReadOnlyList<Change> changes,
        FoldedEntry entry
    )
    {
        var touched = new Dictionary<StreamId, IMessage>();
        foreach (var change in changes)
        foreach (var id in change.Streams)
        {
            var kind = kinds[id.Kind];
            if (!touched.TryGetValue(id, out var state))
                touched[id] = state = StateOf(id) is { } before ? kind.Clone(before) : kind.Empty();
            kind.Apply(state, change.Event, entry);
        }
        foreach (var (id, state) in touched)
            _states[id] = new Held(kinds[id.Kind], state, VersionOf(id) + 1);
        return touched.Keys;
    }
}
