using Ministries.Ledger.V1;

namespace Ministries.Ledger;

/// <summary>The one row that each commit locks.</summary>
/// <param name="Size">The number of entries.</param>
/// <param name="Edge">The right edge of the tree: the complete subtrees of which it consists, 32 bytes each.</param>
/// <param name="Time">The last entry's time, in ticks of UTC; zero: none.</param>
/// <param name="Streams">The number of streams.</param>
/// <param name="Events">The number of events of the service itself.</param>
internal sealed record Head(ulong Size, byte[] Edge, long Time, ulong Streams, ulong Events);

/// <summary>An entry without its parts.</summary>
/// <param name="Position">Its position.</param>
/// <param name="Participant">Whose command it is.</param>
/// <param name="Case">The case that it belongs to; empty: none.</param>
/// <param name="Audience">The tokens of those who may see it.</param>
/// <param name="TraceParent">The W3C traceparent under which it was committed.</param>
/// <param name="TraceState">The W3C tracestate under which it was committed.</param>
/// <param name="Header">The header's bytes.</param>
/// <param name="PartBytes">The number of bytes of its parts, as they are stored.</param>
internal sealed record EntryRow(
    ulong Position,
    string Participant,
    string Case,
    IReadOnlyCollection<string> Audience,
    string TraceParent,
    string TraceState,
    byte[] Header,
    long PartBytes
);

/// <summary>A part.</summary>
/// <param name="Position">The entry's position.</param>
/// <param name="Kind">Which part.</param>
/// <param name="Type">Of a request the message type, which no other part needs; empty elsewhere.</param>
/// <param name="Salt">Its salt; empty: it has none, or was erased.</param>
/// <param name="Data">Its bytes; null: erased.</param>
internal sealed record PartRow(ulong Position, PartKind Kind, string Type, byte[] Salt, byte[]? Data);

/// <summary>A stream: its number in the order in which streams were created, from 1; the version of the fold that made its state; the
/// position of the last entry that changed it; when it is due, in ticks of UTC; the keys under which it is listed; as read, the traceparent
/// of that entry.</summary>
internal sealed record StreamRow(
    ulong Number,
    StreamId Id,
    ulong Version,
    int Fold,
    byte[] State,
    ulong Position,
    long? Due,
    IReadOnlyCollection<string> Audience,
    IReadOnlyCollection<string> Keys,
    bool New,
    string TraceParent = ""
);

/// <summary>One version of a stream: the indices, separated by commas, of the entry's events that made it.</summary>
internal sealed record ChangeRow(ulong Stream, ulong Version, ulong Position, string Events);

/// <summary>The number of a stream of shares, the position of the entry whose sealed data they open, and whether that entry's request was
/// erased but a request that opened its data was not.</summary>
internal sealed record SharedRow(long Stream, ulong Position, bool IsLate);

internal sealed record KeyRow(string Kind, string Token, ulong Stream);

/// <summary>One of the service's own events: its number among all of them and among those of its type, and where it stands.</summary>
internal sealed record EventRow(ulong Number, string Type, ulong Sequence, ulong Position, int Index);

/// <summary>An entry with all that its row holds.</summary>
internal sealed class NewEntry
{
    /// <param name="row">The entry. Its parts' bytes are counted here.</param>
    /// <param name="requestId">The participant's id of the request.</param>
    /// <param name="digest">The digest that tells the request from another of the same id; empty: it was erased.</param>
    /// <param name="parts">All of its parts, the request among them, in any order.</param>
    /// <param name="events">The service's own events among the entry's, in order.</param>
    public NewEntry(EntryRow row, string requestId, byte[] digest, IEnumerable<PartRow> parts, IReadOnlyList<EventRow> events)
    {
        Parts = [.. parts.OrderBy(p => p.Kind)];
        if (Parts is not [{ Kind: PartKind.Request } request, ..])
            throw new LedgerInconsistentException($"entry {row.Position} has no request.");
        (RequestId, Digest, Events, RequestType) = (requestId, digest, events, request.Type);
        EncodedRequest = PartColumns.OfRequest(request);
        EncodedParts = PartColumns.Encode(Parts);
        Row = row with { PartBytes = EncodedParts.Length + (EncodedRequest?.Length ?? 0) };
    }

    public EntryRow Row { get; }
    public string RequestId { get; }
    public byte[] Digest { get; }

    /// <summary>The parts in the order of their kinds, as they are read again.</summary>
    public IReadOnlyList<PartRow> Parts { get; }
    public IReadOnlyList<EventRow> Events { get; }

    /// <summary>The first of the events, which stands in the entry's own row; null: there is none.</summary>
    public EventRow? FirstEvent => Events.Count == 0 ? null : Events[0];
    public string RequestType { get; }

    /// <summary>The column of the request; null: it was erased.</summary>
    public byte[]? EncodedRequest { get; }

    /// <summary>The column of all other parts.</summary>
    public byte[] EncodedParts { get; }
}

internal sealed record TileRow(int Level, ulong Index, byte[] Hashes, byte[] Root);

/// <summary>What one transaction writes.</summary>
internal sealed class Rows
{
    public List<NewEntry> Entries { get; } = [];
    public List<StreamRow> Streams { get; } = [];
    public List<ChangeRow> Changes { get; } = [];

    /// <summary>Keys under which a stream is listed no more.</summary>
    public List<KeyRow> RemovedKeys { get; } = [];

    /// <summary>Keys under which a stream is listed from now on, and was not before.</summary>
    public List<KeyRow> Keys { get; } = [];
    public List<TileRow> Tiles { get; } = [];
    public Dictionary<string, ulong> Cursors { get; } = [];
}

/// <summary>A stored request: its digest (empty once it was erased), the entry's header, and the answer part.</summary>
internal sealed record FoundRequest(byte[] Digest, ulong Position, byte[] Header, byte[] Answer);

/// <summary>One entry's part in a stream's history.</summary>
internal sealed record HistoryRow(ulong Position, byte[] Header, string Indices, byte[] Events, string RequestType, byte[]? Request);

internal sealed record EventSource(
    ulong Number,
    ulong Sequence,
    ulong Position,
    int Index,
    byte[] Header,
    byte[] Events,
    string TraceParent,
    string TraceState
);
