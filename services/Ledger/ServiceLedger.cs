using Google.Protobuf;
using Ministries.Ledger.V1;

namespace Ministries.Ledger;

/// <summary>How a service's ledger is kept, and the limits on it.</summary>
public sealed class LedgerOptions
{
    /// <summary>The service's name, such as <c>calllog</c>. Messages of <c>ministries.calllog.v1</c> are its own events.</summary>
    public required string Service { get; init; }

    /// <summary>The kinds of streams that it keeps.</summary>
    public required IReadOnlyList<StreamKind> Kinds { get; init; }

    /// <summary>The database: <c>sqlite:</c> and a file's path, or an Npgsql connection string.</summary>
    public required string Connection { get; init; }

    /// <summary>The key that signs checkpoints.</summary>
    public required CheckpointKey Key { get; init; }

    /// <summary>The file that holds the last checkpoint, outside the database; each replica has its own.</summary>
    public required string CheckpointFile { get; init; }

    /// <summary>The clock.</summary>
    public TimeProvider Time { get; init; } = TimeProvider.System;

    /// <summary>The greatest number of commands that may wait.</summary>
    public int MaxQueued { get; init; } = 4096;

    /// <summary>The greatest number of commands of one participant that may wait.</summary>
    public int MaxQueuedPerParticipant { get; init; } = 1024;

    /// <summary>The greatest number of bytes of requests that may wait.</summary>
    public long MaxQueuedBytes { get; init; } = 64 << 20;

    /// <summary>The greatest number of commands that are committed together.</summary>
    public int MaxBatch { get; init; } = 256;

    /// <summary>The number of bytes of requests beyond which no more are committed together.</summary>
    public long MaxBatchBytes { get; init; } = 4 << 20;

    /// <summary>The greatest number of bytes of one entry's parts together.</summary>
    public int MaxEntryBytes { get; init; } = 4 << 20;

    /// <summary>The greatest number of events of one entry.</summary>
    public int MaxEvents { get; init; } = 256;

    /// <summary>The greatest number of bytes of one record's state.</summary>
    public int MaxStateBytes { get; init; } = 8 << 20;

    /// <summary>The greatest number of tokens or keys of one record or entry.</summary>
    public int MaxTokens { get; init; } = 256;

    /// <summary>How often a rule is run again because it asked for records that were not loaded yet.</summary>
    public int MaxRounds { get; init; } = 32;

    /// <summary>The greatest number of records that are held in memory between commits.</summary>
    public int MaxHeld { get; init; } = 10_000;

    /// <summary>How long a statement in the database may take.</summary>
    public TimeSpan StatementTimeout { get; init; } = TimeSpan.FromSeconds(10);

    /// <summary>How long a commit waits for another replica's.</summary>
    public TimeSpan LockTimeout { get; init; } = TimeSpan.FromSeconds(5);

    /// <summary>How often waiting readers look for entries of other replicas.</summary>
    public TimeSpan PollInterval { get; init; } = TimeSpan.FromMilliseconds(500);
}

/// <summary>A record as it is in the ledger.</summary>
/// <param name="Key">The record's key among its kind.</param>
/// <param name="State">Its state; not to be changed.</param>
/// <param name="Version">The number of entries that changed it.</param>
/// <param name="Number">Its number in the order in which the service's records came to be: the place in a list.</param>
/// <param name="Position">The position of the last entry that changed it.</param>
public sealed record Recorded<T>(string Key, T State, ulong Version, ulong Number, ulong Position) where T : IMessage;

/// <summary>An entry as stored.</summary>
/// <param name="Position">Its position, from 0.</param>
/// <param name="Participant">Whose command it is.</param>
/// <param name="Entry">Its header and all of its parts, the request's among them: leave out what the reader may not see.</param>
/// <param name="TraceState">The W3C tracestate under which it was committed.</param>
public sealed record StoredEntry(ulong Position, string Participant, Entry Entry, string TraceState);

/// <summary>Entries that a reader may see, and where to go on.</summary>
/// <param name="Entries">The entries in order.</param>
/// <param name="Next">The position to go on from: everything before it is here or not for the reader.</param>
/// <param name="Complete">True where there are no more at present.</param>
public sealed record EntryPage(IReadOnlyList<StoredEntry> Entries, ulong Next, bool Complete);

/// <summary>An event in the order in which the service publishes.</summary>
/// <param name="Number">Its number among all events that the service publishes, from 1 without gaps.</param>
/// <param name="Event">The event with all that a message about it carries.</param>
public sealed record NumberedEvent(ulong Number, RecordedEvent Event);

/// <summary>A record whose duty is due.</summary>
/// <param name="Stream">The record.</param>
/// <param name="Due">When it was due.</param>
public sealed record DueStream(StreamId Stream, DateTimeOffset Due);

/// <summary>The tree as it is, signed.</summary>
/// <param name="Size">The number of entries.</param>
/// <param name="Root">The root hash (RFC 6962), 32 bytes.</param>
/// <param name="Text">The checkpoint (C2SP tlog-checkpoint in a C2SP signed-note).</param>
public sealed record Checkpoint(ulong Size, byte[] Root, string Text);

/// <summary>A proof, with the root that it leads to.</summary>
/// <param name="Size">The size of the tree that it leads to.</param>
/// <param name="Root">That tree's root hash, 32 bytes.</param>
/// <param name="Hashes">The hashes.</param>
public sealed record TreeProof(ulong Size, byte[] Root, IReadOnlyList<byte[]> Hashes);

/// <summary>
/// A service's ledger: its store of record, its outbox and its audit log at once. Commands are committed in batches, one entry
/// each, at gapless positions; all that is read is what was committed. Safe for concurrent use.
/// </summary>
public sealed class ServiceLedger : IAsyncDisposable
{
    /// <summary>Opens the ledger: creates what is missing in the database, checks it against the last checkpoint, and begins to
    /// take commands.</summary>
    /// <exception cref="LedgerInconsistent">The database must not be served from; the text says what to do.</exception>
    /// <exception cref="LedgerUnavailable">The database cannot be reached.</exception>
    public static Task<ServiceLedger> Open(LedgerOptions options, CancellationToken cancel) => throw new NotImplementedException();

    /// <summary>The service's name.</summary>
    public string Service => throw new NotImplementedException();

    /// <summary>The number of entries that this process knows of.</summary>
    public ulong Size => throw new NotImplementedException();

    /// <summary>The number of commands that wait.</summary>
    public int Waiting => throw new NotImplementedException();

    /// <summary>Puts a command into the queue and returns when it is committed, refused or failed. Cancelling takes it out of
    /// the queue; once its commit has begun it is carried out.</summary>
    /// <exception cref="LedgerOverloaded">Too many wait.</exception>
    /// <exception cref="LedgerClosed">The ledger is being closed.</exception>
    /// <exception cref="LedgerUnavailable">The database cannot be used; nothing was recorded.</exception>
    /// <exception cref="CommitOutcomeUnknown">Whether it was recorded is not known.</exception>
    /// <exception cref="CommandFailed">Its rule failed.</exception>
    /// <exception cref="GapInEvents">Events before this one have not been taken in.</exception>
    /// <exception cref="FoldTooNew">It touches a record written by newer software.</exception>
    public Task<Outcome> Commit(Command command, CancellationToken cancel) => throw new NotImplementedException();

    /// <summary>The old answer to a request, or the refusal of its id where it was used for something else; null: the id is new.
    /// </summary>
    public Task<Outcome?> FindAnswer(
        string participant, string requestId, string method, ReadOnlyMemory<byte> bytes, CancellationToken cancel) =>
        throw new NotImplementedException();

    /// <summary>What proves that the outcome's entry is in the ledger.</summary>
    /// <exception cref="ArgumentException">The outcome has no entry.</exception>
    public ValueTask<Receipt> ReceiptOf(Outcome outcome, CancellationToken cancel) => throw new NotImplementedException();

    /// <summary>An entry with its parts; null: there is none, or the reader holds none of its tokens.</summary>
    /// <param name="position">Its position.</param>
    /// <param name="tokens">The reader's tokens; null: read for the service itself.</param>
    /// <param name="cancel">Cancels.</param>
    public Task<StoredEntry?> ReadEntry(ulong position, IReadOnlySet<string>? tokens, CancellationToken cancel) =>
        throw new NotImplementedException();

    /// <summary>Entries from a position on. A page may be empty though more follow: go on from its next position.</summary>
    /// <param name="from">The first position wanted.</param>
    /// <param name="case">Only entries of this case; null: of any.</param>
    /// <param name="tokens">The reader's tokens; null: read for the service itself.</param>
    /// <param name="limit">The greatest number of entries, 1 to 1000.</param>
    /// <param name="cancel">Cancels.</param>
    public Task<EntryPage> ReadEntries(
        ulong from, string? @case, IReadOnlySet<string>? tokens, int limit, CancellationToken cancel) =>
        throw new NotImplementedException();

    /// <summary>Returns when there are more entries than <paramref name="size"/>.</summary>
    public Task WaitForMore(ulong size, CancellationToken cancel) => throw new NotImplementedException();

    /// <summary>A record; null: there is none, or the reader holds none of its tokens.</summary>
    /// <param name="kind">The kind of record.</param>
    /// <param name="key">Its key.</param>
    /// <param name="tokens">The reader's tokens; null: read for the service itself.</param>
    /// <param name="cancel">Cancels.</param>
    /// <exception cref="FoldTooNew">It was written by newer software.</exception>
    public Task<Recorded<T>?> Find<T>(
        StreamKind<T> kind, string key, IReadOnlySet<string>? tokens, CancellationToken cancel) where T : class, IMessage<T>, new() =>
        throw new NotImplementedException();

    /// <summary>Records, oldest first, in an order that stays while others write.</summary>
    /// <param name="kind">The kind of records.</param>
    /// <param name="keys">Keys (<see cref="StreamKind.KeysOf"/>) that a record must all have, at most 16.</param>
    /// <param name="tokens">The reader's tokens; null: read for the service itself.</param>
    /// <param name="after">The number of the record to go on after; zero: from the first.</param>
    /// <param name="limit">The greatest number of records, 1 to 1000.</param>
    /// <param name="cancel">Cancels.</param>
    public Task<IReadOnlyList<Recorded<T>>> List<T>(
        StreamKind<T> kind, IReadOnlyCollection<string> keys, IReadOnlySet<string>? tokens, ulong after, int limit,
        CancellationToken cancel) where T : class, IMessage<T>, new() => throw new NotImplementedException();

    /// <summary>Records whose duty is due at <paramref name="now"/>, the longest due first.</summary>
    public Task<IReadOnlyList<DueStream>> ListDue(DateTimeOffset now, int limit, CancellationToken cancel) =>
        throw new NotImplementedException();

    /// <summary>The number of records whose duty is due.</summary>
    public Task<ulong> CountDue(DateTimeOffset now, CancellationToken cancel) => throw new NotImplementedException();

    /// <summary>The number of records of a kind that have all the keys.</summary>
    public Task<ulong> Count(StreamKind kind, IReadOnlyCollection<string> keys, CancellationToken cancel) =>
        throw new NotImplementedException();

    /// <summary>The service's own events in the order of the ledger, for the relay.</summary>
    /// <param name="number">The number of the event to go on after; zero: from the first.</param>
    /// <param name="limit">The greatest number of events, 1 to 1000.</param>
    /// <param name="cancel">Cancels.</param>
    public Task<IReadOnlyList<NumberedEvent>> EventsAfter(ulong number, int limit, CancellationToken cancel) =>
        throw new NotImplementedException();

    /// <summary>The service's own events of some types in the order of the ledger, for a consumer that fills a gap.</summary>
    /// <param name="after">Per event type the number of the event to go on after; zero: from the first. At most 64.</param>
    /// <param name="limit">The greatest number of events, 1 to 1000.</param>
    /// <param name="cancel">Cancels.</param>
    public Task<IReadOnlyList<NumberedEvent>> EventsAfter(
        IReadOnlyDictionary<string, ulong> after, int limit, CancellationToken cancel) => throw new NotImplementedException();

    /// <summary>The number of the service's own events: the number of the last one.</summary>
    public Task<ulong> CountEvents(CancellationToken cancel) => throw new NotImplementedException();

    /// <summary>How far a reader such as the relay has come; zero: nowhere.</summary>
    public Task<ulong> ReadCursor(string name, CancellationToken cancel) => throw new NotImplementedException();

    /// <summary>Says how far a reader has come. It never goes back.</summary>
    public Task MoveCursor(string name, ulong value, CancellationToken cancel) => throw new NotImplementedException();

    /// <summary>The number of the last event of a producer and type that was taken in; zero: none.</summary>
    public Task<ulong> LastTaken(string producer, string type, CancellationToken cancel) => throw new NotImplementedException();

    /// <summary>Becomes the one replica that does something, such as the relay; null: another one is.</summary>
    /// <param name="name">What is done.</param>
    /// <param name="cancel">Cancels.</param>
    public Task<Lead?> TryLead(string name, CancellationToken cancel) => throw new NotImplementedException();

    /// <summary>The tree as it is, signed.</summary>
    public Task<Checkpoint> ReadCheckpoint(CancellationToken cancel) => throw new NotImplementedException();

    /// <summary>Proves that an entry is in a tree (RFC 6962 2.1.1); null: there is no such entry or tree.</summary>
    /// <param name="position">The entry's position.</param>
    /// <param name="size">The tree's size, greater than the position; zero: the present one.</param>
    /// <param name="cancel">Cancels.</param>
    public Task<TreeProof?> ProveInclusion(ulong position, ulong size, CancellationToken cancel) =>
        throw new NotImplementedException();

    /// <summary>Proves that a tree is a prefix of a later one (RFC 6962 2.1.2); null: there are no such trees.</summary>
    /// <param name="from">The earlier size, at least 1.</param>
    /// <param name="to">The later size; zero: the present one.</param>
    /// <param name="cancel">Cancels.</param>
    public Task<TreeProof?> ProveConsistency(ulong from, ulong to, CancellationToken cancel) => throw new NotImplementedException();

    /// <summary>Erases the request part of an entry, with its salt. Every proof stays valid. A retry of that request is then
    /// refused as a reuse of its id. False: there is no such part, or it was erased.</summary>
    public Task<bool> EraseRequest(ulong position, CancellationToken cancel) => throw new NotImplementedException();

    /// <summary>Takes no more commands and returns when those that wait are answered.</summary>
    public Task Drain() => throw new NotImplementedException();

    /// <summary>Drains and closes.</summary>
    public ValueTask DisposeAsync() => throw new NotImplementedException();
}

/// <summary>Being the one replica that does something. Disposing gives it up.</summary>
public abstract class Lead : IAsyncDisposable
{
    private protected Lead() { }

    /// <summary>Whether it still is: asks the database. Ask before each step that only one replica may do.</summary>
    public abstract Task<bool> Holds(CancellationToken cancel);

    /// <inheritdoc/>
    public abstract ValueTask DisposeAsync();
}

internal sealed class TreeView;
