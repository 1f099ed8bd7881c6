using Google.Protobuf;
using Google.Protobuf.Reflection;

namespace Ministries.Rules;

/// <summary>What the ledger needs to know of a kind of stream. The state is a protobuf message.</summary>
public abstract class StreamKind
{
    private protected StreamKind(string name, int version)
    {
        Name = name;
        Version = version;
    }

    /// <summary>The kind's name, such as <c>transfer</c>.</summary>
    public string Name { get; }

    /// <summary>The version of the fold. A state folded by an older one is rebuilt when touched; by a newer one, refused.</summary>
    public int Version { get; }

    /// <summary>The stream of the record with this key.</summary>
    public StreamId Id(string key) => new(Name, key);

    /// <summary>A state before its first event.</summary>
    public abstract IMessage Empty();

    /// <summary>Reads a state from its bytes.</summary>
    public abstract IMessage Parse(ReadOnlySpan<byte> bytes);

    /// <summary>A copy of a state that may be changed.</summary>
    public abstract IMessage Clone(IMessage state);

    /// <summary>Changes the state by one event.</summary>
    public abstract void Apply(IMessage state, IMessage @event, FoldedEntry entry);

    /// <summary>Who may see the record: tokens, of which a reader must hold one. See <see cref="Audience"/>.</summary>
    public abstract IReadOnlyCollection<string> AudienceOf(IMessage state);

    /// <summary>The keys under which the record is found in lists, such as <c>state:SUBMITTED</c>.</summary>
    public abstract IReadOnlyCollection<string> KeysOf(IMessage state);

    /// <summary>When the record's next duty falls due; null: none runs.</summary>
    public abstract DateTimeOffset? DueOf(IMessage state);

    /// <summary>The types of events that change a state, where each has a method of its own (<see cref="Folds{T}"/>).</summary>
    public virtual IReadOnlyCollection<MessageDescriptor> Events => [];
}

/// <summary>A kind of stream with its state's type.</summary>
/// <typeparam name="T">The state.</typeparam>
/// <param name="name">The kind's name.</param>
/// <param name="version">The fold's version, from 1.</param>
/// <param name="apply">Changes the state by one event of an entry.</param>
/// <param name="audience">Who may see the record; none: nobody but by way of another record.</param>
/// <param name="keys">Under which keys it is listed; none: not listed.</param>
/// <param name="due">When its next duty falls due; none: it has no duties.</param>
public sealed class StreamKind<T>(
    string name,
    int version,
    Action<T, IMessage, FoldedEntry> apply,
    Func<T, IEnumerable<string>>? audience = null,
    Func<T, IEnumerable<string>>? keys = null,
    Func<T, DateTimeOffset?>? due = null
) : StreamKind(name, version)
    where T : class, IMessage<T>, new()
{
    private static readonly MessageParser<T> Parser = new(() => new T());

    /// <summary>A kind of stream whose events have a method each.</summary>
    /// <param name="name">The kind's name.</param>
    /// <param name="version">The fold's version, from 1.</param>
    /// <param name="folds">What each type of event does to the state. An event of any other type is an error of the software.</param>
    /// <param name="audience">Who may see the record; none: nobody but by way of another record.</param>
    /// <param name="keys">Under which keys it is listed; none: not listed.</param>
    /// <param name="due">When its next duty falls due; none: it has no duties.</param>
    public StreamKind(
        string name,
        int version,
        Folds<T> folds,
        Func<T, IEnumerable<string>>? audience = null,
        Func<T, IEnumerable<string>>? keys = null,
        Func<T, DateTimeOffset?>? due = null
    )
        : this(name, version, folds.Build(name), audience, keys, due) => Events = [.. folds.Types];

    /// <inheritdoc/>
    public override IReadOnlyCollection<MessageDescriptor> Events { get; } = [];

    /// <inheritdoc/>
    public override IMessage Empty() => new T();

    /// <inheritdoc/>
    public override IMessage Parse(ReadOnlySpan<byte> bytes) => Parser.ParseFrom(bytes);

    /// <inheritdoc/>
    public override IMessage Clone(IMessage state) => ((T)state).Clone();

    /// <inheritdoc/>
    public override void Apply(IMessage state, IMessage @event, FoldedEntry entry) => apply((T)state, @event, entry);

    /// <inheritdoc/>
    public override IReadOnlyCollection<string> AudienceOf(IMessage state) => [.. audience?.Invoke((T)state) ?? []];

    /// <inheritdoc/>
    public override IReadOnlyCollection<string> KeysOf(IMessage state) => [.. keys?.Invoke((T)state) ?? []];

    /// <inheritdoc/>
    public override DateTimeOffset? DueOf(IMessage state) => due?.Invoke((T)state);
}
