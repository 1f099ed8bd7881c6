using System.Security.Cryptography;
using Google.Protobuf;
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

/// <summary>A stream: its number in the order in which streams came to be, from 1; the version of the fold that made its state;
/// the position of the last entry that changed it; when it is due, in ticks of UTC; the keys under which it is listed; as read, the
/// traceparent of that entry.</summary>
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

internal sealed record KeyRow(string Kind, string Token, ulong Stream);

/// <summary>One of the service's own events: its number among all of them and among those of its type, and where it stands.</summary>
internal sealed record EventRow(ulong Number, string Type, ulong Sequence, ulong Position, int Index);

/// <summary>An entry with all that its row holds.</summary>
internal sealed class NewEntry
{
    /// <param name="row">The entry; its number of bytes of parts is found out here.</param>
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
        StoredRequest = StoredParts.OfRequest(request);
        Stored = StoredParts.Encode(Parts);
        Row = row with { PartBytes = Stored.Length + (StoredRequest?.Length ?? 0) };
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
    public byte[]? StoredRequest { get; }

    /// <summary>The column of all other parts.</summary>
    public byte[] Stored { get; }
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

/// <summary>A database that holds one service's ledger. One for each engine; all that is not SQL is outside.</summary>
internal abstract class Store : IAsyncDisposable
{
    /// <summary>The schema that this software knows: lesser ones are migrated (<see cref="Migration"/>), greater ones refused.</summary>
    internal const int Schema = 2;

    public static Store For(LedgerOptions options) =>
        options.Connection.StartsWith("sqlite:", StringComparison.Ordinal)
            ? new SqliteStore(options.Connection["sqlite:".Length..], options)
            : new PostgresStore(options);

    /// <summary>Creates what is missing, whoever else does the same, and checks what must hold.</summary>
    public abstract Task Prepare(string service, CancellationToken cancel);

    /// <summary>A session.</summary>
    public abstract Task<Session> Open(bool write, CancellationToken cancel);

    /// <summary>A session that writes, for a thread that waits for each answer; it begins a transaction with
    /// <see cref="Session.LockHead"/>.</summary>
    public virtual Task<Session> OpenWaiting() => Open(write: true, default);

    public abstract Task<Lead?> TryLead(string name, CancellationToken cancel);

    /// <summary>Whether the role that serves could change and delete what was recorded: it owns the tables. Known once prepared.</summary>
    public bool OwnsTables { get; protected set; } = true;

    /// <summary>Whether the fault says that the database cannot be used now, not that it refused what it was asked.</summary>
    public abstract bool IsOutage(Exception fault);

    /// <summary>Whether a fault of a commit says that it was not done.</summary>
    public abstract bool IsNotCommitted(Exception fault);

    /// <summary>Gives up the connections that wait for use: they may have died with the server.</summary>
    public abstract void Forget();

    public abstract ValueTask DisposeAsync();

    /// <summary>Refuses a database of a newer schema, or another service's.</summary>
    internal static void CheckSchema(string service, int version, string found)
    {
        if (version > Schema)
            throw new LedgerInconsistentException(
                $"the database has schema {version}, this software knows {Schema}: start the newer version of the service."
            );
        if (found != service)
            throw new LedgerInconsistentException($"the database is the ledger of {found}, not of {service}: correct Ledger:Connection.");
    }
}

/// <summary>One use of the database. Lists of ids may hold repetitions.</summary>
internal abstract class Session : IAsyncDisposable
{
    // ---- one transaction at a time ----
    public abstract Task<Head> LockHead();
    public abstract Task Write(Rows rows, Head head);
    public abstract Task Commit();

    // ---- what a commit reads ----
    public abstract Task<Dictionary<(string Participant, string RequestId), FoundRequest>> FindRequests(
        IReadOnlyCollection<(string Participant, string RequestId)> ids
    );
    public abstract Task<List<StreamRow>> FindStreams(IReadOnlyCollection<StreamId> ids);

    /// <summary>Streams as they all are at one moment, for a read: without due time, audience and traceparent.</summary>
    public abstract Task<List<StreamRow>> FindStates(IReadOnlyCollection<StreamId> ids);
    public abstract Task<List<HistoryRow>> History(ulong stream);
    public abstract Task<Dictionary<string, ulong>> LastOfTypes(IReadOnlyCollection<string> types);
    public abstract Task<Dictionary<string, ulong>> Cursors(IReadOnlyCollection<string> names);

    // ---- the tree ----
    public abstract Task<Head> ReadHead();
    public abstract Task<List<byte[]>> Headers(ulong from, ulong to);
    public abstract Task<byte[]?> ReadTile(int level, ulong index);
    public abstract Task<List<byte[]>> TileRoots(int level, ulong from, ulong to);

    // ---- reading ----
    public abstract Task<List<EntryRow>> Entries(ulong from, ulong to, string? @case, IReadOnlyCollection<string>? tokens, int limit);
    public abstract Task<List<PartRow>> Parts(IReadOnlyCollection<ulong> positions);
    public abstract Task<List<StreamRow>> List(
        string kind,
        IReadOnlyList<string> keys,
        IReadOnlyCollection<string>? tokens,
        ulong after,
        int limit
    );
    public abstract Task<ulong> Count(string kind, IReadOnlyList<string> keys);
    public abstract Task<List<(StreamId Id, long Due)>> Due(long now, int limit);
    public abstract Task<ulong> CountDue(long now);
    public abstract Task<List<EventSource>> EventsAfter(ulong number, int limit);
    public abstract Task<List<EventSource>> EventsAfter(IReadOnlyDictionary<string, ulong> after, int limit);

    // ---- single changes, each its own transaction ----
    public abstract Task MoveCursor(string name, ulong value);
    public abstract Task<bool> EraseRequest(ulong position);

    public abstract ValueTask DisposeAsync();

    protected static EntryRow EntryOf(
        long position,
        string participant,
        string @case,
        string traceParent,
        string traceState,
        byte[] header,
        IReadOnlyCollection<string> audience,
        long partBytes
    ) => new((ulong)position, participant, @case, audience, traceParent, traceState, header, partBytes);
}

/// <summary>The digests by which requests, parts and audiences are told apart.</summary>
public static class Digests
{
    /// <summary>The commitment of an entry's header to its number in an audience: SHA-256 over the message's bytes, with its fields
    /// in the order of their numbers.</summary>
    public static ByteString OfAudience(AudienceNumber number) => ByteString.CopyFrom(SHA256.HashData(number.ToByteArray()));

    /// <summary>The order of such commitments in a header: that of their bytes.</summary>
    internal static readonly Comparer<ByteString> Order = Comparer<ByteString>.Create((a, b) => a.Span.SequenceCompareTo(b.Span));

    /// <summary>What tells a request from another of the same id: SHA-256 over method, a zero byte and message.</summary>
    public static byte[] OfRequest(string method, ReadOnlySpan<byte> bytes) =>
        Of([.. System.Text.Encoding.UTF8.GetBytes(method), 0], bytes);

    /// <summary>The digest of a part in an entry's header: SHA-256 over salt and bytes.</summary>
    public static byte[] OfPart(ReadOnlySpan<byte> salt, ReadOnlySpan<byte> bytes) => Of(salt, bytes);

    /// <summary>SHA-256 over two spans, one after the other.</summary>
    public static byte[] Of(ReadOnlySpan<byte> first, ReadOnlySpan<byte> second)
    {
        // In one step: a hash in steps has a handle that is made and given up each time.
        var length = first.Length + second.Length;
        var rented = length > 1024 ? System.Buffers.ArrayPool<byte>.Shared.Rent(length) : null;
        Span<byte> both = rented is null ? stackalloc byte[length] : rented.AsSpan(0, length);
        first.CopyTo(both);
        second.CopyTo(both[first.Length..]);
        var digest = SHA256.HashData(both);
        if (rented is not null)
            System.Buffers.ArrayPool<byte>.Shared.Return(rented, clearArray: true);
        return digest;
    }
}
