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

/// <summary>An entry without its parts; as read, the number of bytes of these.</summary>
internal sealed record EntryRow(
    ulong Position,
    string Participant,
    string Case,
    IReadOnlyCollection<string> Audience,
    string TraceParent,
    string TraceState,
    byte[] Header,
    long PartBytes = 0
);

/// <summary>A part: its bytes with their message type; no bytes: erased, with its salt.</summary>
internal sealed record PartRow(ulong Position, PartKind Kind, string Type, byte[] Salt, byte[]? Data);

/// <summary>A stream: its number in the order in which streams came to be, from 1; the version of the fold that made its state;
/// the position of the last entry that changed it; when it is due, in ticks of UTC; as read, the traceparent of that entry.
/// </summary>
internal sealed record StreamRow(
    ulong Number,
    StreamId Id,
    ulong Version,
    int Fold,
    byte[] State,
    ulong Position,
    long? Due,
    IReadOnlyCollection<string> Audience,
    bool New,
    string TraceParent = ""
);

/// <summary>One version of a stream: the indices, separated by commas, of the entry's events that made it.</summary>
internal sealed record ChangeRow(ulong Stream, ulong Version, ulong Position, string Events);

internal sealed record KeyRow(string Kind, string Token, ulong Stream);

internal sealed record RequestRow(string Participant, string RequestId, byte[] Digest, ulong Position);

internal sealed record EventRow(ulong Number, string Type, ulong Sequence, ulong Position, int Index);

internal sealed record TileRow(int Level, ulong Index, byte[] Hashes, byte[] Root);

/// <summary>What one transaction writes.</summary>
internal sealed class Rows
{
    public List<EntryRow> Entries { get; } = [];
    public List<PartRow> Parts { get; } = [];
    public List<StreamRow> Streams { get; } = [];
    public List<ChangeRow> Changes { get; } = [];

    /// <summary>Streams all of whose keys are replaced.</summary>
    public List<ulong> Unlisted { get; } = [];
    public List<KeyRow> Keys { get; } = [];
    public List<RequestRow> Requests { get; } = [];
    public List<EventRow> Events { get; } = [];
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
    /// <summary>The schema that this software knows; greater ones are refused.</summary>
    protected const int Schema = 1;

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

    protected static void CheckSchema(string service, int version, string found)
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
