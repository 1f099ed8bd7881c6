using Google.Protobuf;
using Ministries.Ledger.V1;

namespace Ministries.Ledger;

/// <summary>A command on its way into the ledger: a participant's request, another service's event or a duty that fell due.
/// </summary>
public sealed class Command
{
    /// <summary>Whose command it is: an organisation, or a service such as <c>service/consular</c>.</summary>
    public required string Participant { get; init; }

    /// <summary>The participant's id of the request. The same id with the same content gets the same answer (D21).</summary>
    public required string RequestId { get; init; }

    /// <summary>The full method name, an event's type name, or the name of the service's own command.</summary>
    public required string Method { get; init; }

    /// <summary>The request, parsed.</summary>
    public required IMessage Request { get; init; }

    /// <summary>The request's exact bytes, stored as they are.</summary>
    public required ReadOnlyMemory<byte> Bytes { get; init; }

    /// <summary>Decides on the command. It must be pure, because it is called again whenever more states were loaded.</summary>
    public required Func<View, DateTimeOffset, Decision> Decide { get; init; }

    /// <summary>The version of the agreement by which it is judged.</summary>
    public required ulong AgreementVersion { get; init; }

    /// <summary>The participant's signature over the request; null: the service's own command.</summary>
    public RequestSignature? Signature { get; init; }

    /// <summary>What another service answered before the command was queued; null: nothing was asked.</summary>
    public IMessage? Asked { get; init; }

    /// <summary>What caused it, where no participant sent it.</summary>
    public Cause? Cause { get; init; }

    /// <summary>Whether a refusal is stored and answered again: true for participants, false for events and duties, so that they can be
    /// tried again after a repair. A refusal that its sender can correct (<see cref="Reasons.IsKept"/>) is never stored.</summary>
    public bool StoresRefusal { get; init; } = true;

    /// <summary>How soon it is taken: greater before lesser, FLASH the greatest.</summary>
    public int Precedence { get; init; }

    /// <summary>The place of the event among those that this service takes in, where the command is the first handling of
    /// another service's event; null: it takes no part in the numbering (a participant's request, a duty, a replay).</summary>
    public IntakeNumber? Intake { get; init; }

    /// <summary>The command's place in a chain, in which no command overtakes the previous one; null: it is in no chain.</summary>
    public ChainLink? Link { get; init; }

    /// <summary>The W3C traceparent of the span that submits it.</summary>
    public string TraceParent { get; init; } = "";

    /// <summary>The W3C tracestate of the span that submits it.</summary>
    public string TraceState { get; init; } = "";
}

/// <summary>
/// The number of an event that a service takes in. The last number of each producer and type is stored in the commit of its effect. A
/// number up to the last one is a repetition: it gets its old answer. If another command settled the event (a dead letter), it gets an
/// empty repeated outcome. A number beyond the next one causes an <see cref="EventGapException"/>.
/// </summary>
/// <param name="Producer">The service that published it, such as <c>custody</c>.</param>
/// <param name="Type">The event type's full name.</param>
/// <param name="Sequence">Its number among the producer's events of this type, from 1.</param>
public sealed record IntakeNumber(string Producer, string Type, ulong Sequence)
{
    internal string Cursor => $"intake/{Producer}/{Type}";
}

/// <summary>The outcome of a command, once it is durable.</summary>
/// <param name="Position">The entry's position; null where nothing was stored: a refusal that is not kept, a request id that was
/// used for something else, an event that was settled before.</param>
/// <param name="Time">When it was committed.</param>
/// <param name="Answer">The answer without its receipt; null where it was refused or has none.</param>
/// <param name="Refusal">The refusal; null where it was accepted.</param>
/// <param name="Repeated">True where the answer is an old one, to a request seen before.</param>
public sealed record Outcome(ulong? Position, DateTimeOffset Time, IMessage? Answer, Refusal? Refusal, bool Repeated)
{
    /// <summary>The tree in which the entry was committed, so that its receipt needs no database; null for an old
    /// answer.</summary>
    internal TreeView? Tree { get; init; }

    /// <summary>What the receipt shows of the entry; null for an old answer.</summary>
    internal RecordedEntry? Entry { get; init; }
}
