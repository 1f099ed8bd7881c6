using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Ministries.Ledger.V1;
using Ministries.Types.V1;

namespace Ministries.Rules;

/// <summary>The name of a stream: the entries that tell the history of one record.</summary>
/// <param name="Kind">The kind of record, such as <c>transfer</c>.</param>
/// <param name="Key">The record's key among its kind, at most 200 characters.</param>
public readonly record struct StreamId(string Kind, string Key)
{
    /// <summary>The name as text: kind/key.</summary>
    public override string ToString() => $"{Kind}/{Key}";
}

/// <summary>The entry that a state is folded over: what a fold may take from it beside the event itself.</summary>
/// <param name="Position">The entry's position, from 0.</param>
/// <param name="Time">When it was committed.</param>
/// <param name="Participant">Whose command it is.</param>
/// <param name="RequestId">The participant's id of the request.</param>
/// <param name="Request">The request, an event of another service where that was the command. What it holds sealed or coded
/// stays out of events (D16); null once the request part was erased.</param>
public sealed record FoldedEntry(ulong Position, Timestamp Time, string Participant, string RequestId, IMessage? Request);

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

/// <summary>
/// Tokens that say who may see a record or an entry. A record carries the tokens of those who may; a reader holds tokens; one in
/// common is enough. Membership in a case is looked up when somebody reads, so a party that was removed sees nothing any more.
/// </summary>
public static class Audience
{
    /// <summary>One participant.</summary>
    public static string Of(string participant) => $"p:{participant}";

    /// <summary>Every party to the case.</summary>
    public static string Case(string @case) => $"c:{@case}";

    /// <summary>The parties to the case that act for the state.</summary>
    public static string State(string @case, string state) => $"c:{@case}:{state}";

    /// <summary>The neutral observers and Protecting Powers of the case.</summary>
    public static string Observers(string @case) => $"c:{@case}:observers";

    /// <summary>Whether an audience is one of the case.</summary>
    public static bool IsOf(string audience, string @case) =>
        audience.StartsWith(Case(@case), StringComparison.Ordinal)
        && (audience.Length == Case(@case).Length || audience[Case(@case).Length] is ':' or '=');

    /// <summary>Of an audience, those for whom a marking allows it: who is cleared for its level and, where it names anybody, is
    /// named.</summary>
    /// <param name="audience">The audience: the case, a state's side of it, or its observers.</param>
    /// <param name="marking">The marking; null: none.</param>
    public static IEnumerable<string> Marked(string audience, Classification? marking)
    {
        var cleared = Cleared(audience, marking?.Level ?? Level.Unspecified);
        return marking is { ReleasableTo.Count: > 0 } ? marking.ReleasableTo.Select(p => Named(cleared, p)) : [cleared];
    }

    /// <summary>Of an audience, those who are cleared for the level.</summary>
    public static string Cleared(string audience, Level level) => level <= Level.Restricted ? audience : $"{audience}:{(int)level}";

    /// <summary>Of an audience, one participant.</summary>
    public static string Named(string audience, string participant) => $"{audience}={participant}";

    /// <summary>Every participant of the agreement.</summary>
    public const string Everybody = "*";
}
