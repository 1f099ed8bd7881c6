using System.Diagnostics;
using System.Globalization;
using System.Runtime.ExceptionServices;
using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Ministries.Ledger.V1;

namespace Ministries.Ledger;

/// <summary>How a service's ledger is kept, and the limits on it.</summary>
public sealed class LedgerOptions
{
    /// <summary>The service's name, such as <c>calllog</c>. Messages of <c>ministries.calllog.v1</c> are its own
    /// events.</summary>
    public required string Service { get; init; }

    /// <summary>The kinds of streams that it keeps.</summary>
    public required IReadOnlyList<StreamKind> Kinds { get; init; }

    /// <summary>The database: <c>sqlite:</c> and a file's path, or an Npgsql connection string.</summary>
    public required string Connection { get; init; }

    /// <summary>The key that signs checkpoints until another takes over (<see cref="ServiceLedger.SignWith"/>).</summary>
    public required CheckpointKey Key { get; init; }

    /// <summary>Whose a checkpoint is; null: those that the key signed with which the ledger signs at the moment are its own.</summary>
    public CheckpointJudge? Judge { get; init; }

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
    public int MaxHeld { get; init; } = 2_000;

    /// <summary>How long a statement in the database may take.</summary>
    public TimeSpan StatementTimeout { get; init; } = TimeSpan.FromSeconds(10);

    /// <summary>How long a commit waits for another replica's.</summary>
    public TimeSpan LockTimeout { get; init; } = TimeSpan.FromSeconds(5);

    /// <summary>How often waiting readers look for entries of other replicas.</summary>
    public TimeSpan PollInterval { get; init; } = TimeSpan.FromMilliseconds(500);

    /// <summary>Is told, a line at a time, how far a migration of the tables has come that takes longer than two seconds; null: nobody.
    /// </summary>
    public Action<string>? Progress { get; init; }
}

/// <summary>A record as it is in the ledger.</summary>
/// <param name="Key">The record's key among its kind.</param>
/// <param name="State">Its state; not to be changed.</param>
/// <param name="Version">The number of entries that changed it.</param>
/// <param name="Number">Its number in the order in which the service's records came to be: the place in a list.</param>
/// <param name="Position">The position of the last entry that changed it.</param>
public sealed record Recorded<T>(string Key, T State, ulong Version, ulong Number, ulong Position)
    where T : IMessage;

/// <summary>An entry as stored.</summary>
/// <param name="Position">Its position, from 0.</param>
/// <param name="Participant">Whose command it is.</param>
/// <param name="Entry">Its header, all of its parts, the request's among them, and its numbers in all of its audiences: leave out
/// what the reader may not see.</param>
/// <param name="TraceState">The W3C tracestate under which it was committed.</param>
public sealed record StoredEntry(ulong Position, string Participant, Entry Entry, string TraceState);

/// <summary>Entries that a reader may see, and where to go on.</summary>
/// <param name="Entries">The entries in order.</param>
/// <param name="Next">The position to go on from: everything before it is here or not for the reader.</param>
/// <param name="Complete">True where there are no more at present.</param>
/// <param name="TooGreat">True where the entry at <paramref name="Next"/> is for the reader and has by itself more bytes than a page
/// may: it is to be read alone.</param>
public sealed record EntryPage(IReadOnlyList<StoredEntry> Entries, ulong Next, bool Complete, bool TooGreat = false);

/// <summary>An event in the order in which the service publishes.</summary>
/// <param name="Number">Its number among all events that the service publishes, from 1 without gaps.</param>
/// <param name="Event">The event with all that a message about it carries.</param>
public sealed record NumberedEvent(ulong Number, RecordedEvent Event)
{
    /// <summary>A time as a <see cref="RecordedEvent"/> says it: RFC 3339, UTC, no more digits than it needs.</summary>
    public static string TimeText(DateTimeOffset time) =>
        time.UtcDateTime.ToString("yyyy-MM-ddTHH:mm:ss.FFFFFFFZ", CultureInfo.InvariantCulture);

    internal static NumberedEvent Of(
        string service,
        ulong number,
        ulong sequence,
        ulong position,
        int index,
        Event @event,
        string time,
        byte[] leaf,
        string traceParent,
        string traceState
    ) =>
        new(
            number,
            new RecordedEvent
            {
                Origin = new EventOrigin
                {
                    Service = service,
                    Position = position,
                    Index = (uint)index,
                    Type = @event.Type,
                    Sequence = sequence,
                },
                Event = @event,
                Time = time,
                Leaf = UnsafeByteOperations.UnsafeWrap(leaf),
                Traceparent = traceParent,
                Tracestate = traceState,
            }
        );
}

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
public sealed partial class ServiceLedger : IAsyncDisposable
{
    /// <summary>How many positions one page looks at, whether the reader may see them or not.</summary>
    private const ulong Window = 4096;

    /// <summary>The bytes of parts beyond which a page ends.</summary>
    private const long PageBytes = 8 << 20;

    private readonly LedgerOptions _options;
    private readonly Store _store;
    private readonly Checkpoints _checkpoints;
    private readonly Committer _committer;
    private readonly Finder _finder;
    private readonly RecentEvents _recent = new();
    private readonly SemaphoreSlim _look = new(1);
    private volatile TaskCompletionSource _grown = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private ulong _size;
    private volatile CheckpointJudge _judge;

    private ServiceLedger(LedgerOptions options, Store store, Checkpoints checkpoints)
    {
        _judge = options.Judge ?? (note => (checkpoints.Key.Verify(note), true));
        _options = options;
        _store = store;
        _checkpoints = checkpoints;
        Secrets = options.Key.Secrets;
        _tail = new RecentEntries();
        _committer = new Committer(options, store, checkpoints, Grow, _recent, _tail);
        _finder = new Finder(this);
    }

    /// <summary>Opens the ledger: creates what is missing in the database, migrates an older schema, checks it against the last checkpoint, and begins to
    /// take commands.</summary>
    /// <exception cref="LedgerInconsistentException">The database must not be served from; the text says what to do.</exception>
    /// <exception cref="LedgerUnavailableException">The database cannot be reached.</exception>
    public static async Task<ServiceLedger> Open(LedgerOptions options, CancellationToken cancel)
    {
        var store = Store.For(options);
        Checkpoints? checkpoints = null;
        try
        {
            await store.Prepare(options.Service, cancel);
            checkpoints = new Checkpoints(options.Key, options.CheckpointFile, options.Judge);
            await using (var session = await store.Open(write: false, cancel))
            {
                var head = await session.ReadHead();
                var cosigned = new CosignedFile(
                    options.Judge ?? (note => (options.Key.Verify(note), true)),
                    options.CheckpointFile + ".cosigned"
                );
                await CheckTree(session, head, checkpoints.Last, options.CheckpointFile, checkpoints.IsDoubtful);
                await CheckTree(session, head, cosigned.Enough, options.CheckpointFile + ".cosigned", doubtful: false);
                // Only now: else it would sign a tree that a former key's thief has made.
                checkpoints.Renew();
                cosigned.SignAgain(() => options.Key);
                if (head.Size > 0)
                    checkpoints.Advance(head.Size, TreeView.RootOf(head.Edge));
                var ledger = new ServiceLedger(options, store, checkpoints) { _size = head.Size, _cosigned = cosigned };
                ledger._tail.Saw(head.Size, 0);
                ledger._committer.Start();
                return ledger;
            }
        }
        catch (Exception e)
        {
            checkpoints?.Dispose();
            await store.DisposeAsync();
            if (store.IsOutage(e))
                throw new LedgerUnavailableException(e);
            throw;
        }
    }

    /// <summary>Makes the tables of a ledger in PostgreSQL, or brings them up to date, as their owner, and lets another role serve from
    /// them: one that adds to what was recorded, and neither changes nor deletes it but to erase a request.</summary>
    /// <param name="connection">How the owner reaches the database: a Npgsql connection string.</param>
    /// <param name="service">Whose ledger it is.</param>
    /// <param name="serving">The role that serves, of <see cref="LedgerOptions.Connection"/>.</param>
    /// <param name="cancel">Ends it; nothing is done then.</param>
    /// <param name="progress">Is told, a line at a time, how far a migration has come that takes longer than two seconds.</param>
    /// <exception cref="LedgerUnavailableException">The database cannot be reached, or refuses.</exception>
    /// <exception cref="LedgerInconsistentException">The database has a newer schema, is another service's, or is damaged.</exception>
    public static async Task MakeTables(
        string connection,
        string service,
        string serving,
        CancellationToken cancel,
        Action<string>? progress = null
    )
    {
        try
        {
            await using var open = new Npgsql.NpgsqlConnection(connection);
            await open.OpenAsync(cancel);
            await PostgresSchema.Make(open, service, serving, progress, cancel);
        }
        catch (Exception e) when (e is Npgsql.NpgsqlException or ArgumentException or System.Net.Sockets.SocketException)
        {
            throw new LedgerUnavailableException(e);
        }
    }

    /// <summary>Whether the role with which the service uses the database could change what was recorded, for it owns the tables: true of
    /// SQLite, and of PostgreSQL unless <see cref="MakeTables"/> was used.</summary>
    public bool OwnsTables => _store.OwnsTables;

    /// <summary>The service's name.</summary>
    public string Service => _options.Service;

    /// <summary>The key that signs checkpoints now.</summary>
    public CheckpointKey Key => _checkpoints.Key;

    /// <summary>What this service's ids and etags are made with: derived from the key with which the ledger was opened.</summary>
    public RecordSecrets Secrets { get; }

    /// <summary>Signs checkpoints with another key of the same name from now on; the last one, and those that were cosigned, at once.
    /// </summary>
    /// <param name="key">The key.</param>
    public void SignWith(CheckpointKey key)
    {
        if (key.Name != Key.Name)
            throw new ArgumentException($"the key's name must be {Key.Name}: it is the log's origin", nameof(key));
        _checkpoints.SignWith(key);
        _cosigned.SignAgain(() => _checkpoints.Key);
    }

    /// <summary>Judges checkpoints by another agreement from now on.</summary>
    /// <param name="judge">Says whose a checkpoint is.</param>
    public void JudgeWith(CheckpointJudge judge) => _judge = judge;

    /// <summary>The number of entries that this process knows of.</summary>
    public ulong Size => Volatile.Read(ref _size);

    /// <summary>The number of commands that wait.</summary>
    public int Waiting => _committer.Waiting;

    /// <summary>Puts a command into the queue and returns when it is committed, refused or failed. Cancelling takes it out of
    /// the queue; once its commit has begun it is carried out.</summary>
    /// <exception cref="LedgerOverloadedException">Too many wait.</exception>
    /// <exception cref="LedgerClosedException">The ledger is being closed.</exception>
    /// <exception cref="LedgerUnavailableException">The database cannot be used; nothing was recorded.</exception>
    /// <exception cref="CommitOutcomeUnknownException">Whether it was recorded is not known.</exception>
    /// <exception cref="CommandFailedException">Its rule failed.</exception>
    /// <exception cref="EventGapException">Events before this one have not been taken in.</exception>
    /// <exception cref="NewerFoldException">It touches a record written by newer software.</exception>
    public Task<Outcome> Commit(Command command, CancellationToken cancel) => _committer.Submit(command, cancel);

    /// <summary>The old answer to a request, or the refusal of its id where it was used for something else; null: the id is new.
    /// </summary>
    public Task<Outcome?> FindAnswer(
        string participant,
        string requestId,
        string method,
        ReadOnlyMemory<byte> bytes,
        CancellationToken cancel
    ) =>
        Read<Outcome?>(
            async session =>
            {
                var found = await session.FindRequests([(participant, requestId)]);
                if (!found.TryGetValue((participant, requestId), out var request))
                    return null;
                var outcome = Stored.OutcomeOf(request, Digests.OfRequest(method, bytes.Span), _options.Time);
                // Nobody is told of an entry before a checkpoint covers it.
                if (outcome.Position >= (_checkpoints.Last?.Size ?? 0))
                    await Signed(session);
                return outcome;
            },
            cancel
        );

    /// <summary>The position of the entry with a participant's request; null: there is none.</summary>
    public Task<ulong?> FindPosition(string participant, string requestId, CancellationToken cancel) =>
        Read<ulong?>(
            async session => (await session.FindRequests([(participant, requestId)])).GetValueOrDefault((participant, requestId))?.Position,
            cancel
        );

    /// <summary>What proves that the outcome's entry is in the ledger.</summary>
    /// <exception cref="ArgumentException">The outcome has no entry.</exception>
    public async ValueTask<Receipt> ReceiptOf(Outcome outcome, CancellationToken cancel)
    {
        var position = outcome.Position ?? throw new ArgumentException("the outcome has no entry", nameof(outcome));
        if (outcome is { Tree: { Checkpoint: { } checkpoint } tree, EntryHash: { } hash })
            return ReceiptFor(position, outcome.Time, hash, tree, checkpoint);
        return await Read(
            async session =>
            {
                var (head, signed) = await Signed(session);
                var headers = await session.Headers(position, position + 1);
                if (headers.Count == 0)
                    throw new ArgumentException("there is no such entry", nameof(outcome));
                var view = await Load(session, head.Size, head.Size, view => view.Inclusion(position));
                return ReceiptFor(position, Stored.TimeOf(headers[0]), TreeHash.Record(headers[0]), view, signed);
            },
            cancel
        );
    }

    private Receipt ReceiptFor(ulong position, DateTimeOffset time, byte[] hash, TreeView tree, Checkpoint checkpoint) =>
        new()
        {
            Service = Service,
            Position = position,
            CommitTime = time.ToTimestamp(),
            EntryHash = ByteString.CopyFrom(hash),
            TreeSize = tree.Size,
            RootHash = ByteString.CopyFrom(checkpoint.Root),
            InclusionProof = { tree.Inclusion(position).Select(h => ByteString.CopyFrom(h)) },
            Checkpoint = checkpoint.Text,
        };

    /// <summary>An entry with its parts; null: there is none, or the reader holds none of its tokens.</summary>
    /// <param name="position">Its position.</param>
    /// <param name="tokens">The reader's tokens; null: read for the service itself.</param>
    /// <param name="cancel">Cancels.</param>
    public async Task<StoredEntry?> ReadEntry(ulong position, IReadOnlySet<string>? tokens, CancellationToken cancel) =>
        position > long.MaxValue
            ? null
            : await Read(
                async session =>
                {
                    var rows = await session.Entries(position, position + 1, null, tokens, 1);
                    return rows.Count == 0 ? null : EntryOf(rows[0], await session.Parts([position]));
                },
                cancel
            );

    /// <summary>Entries from a position on. A page may be empty though more follow: go on from its next position.</summary>
    /// <param name="from">The first position wanted.</param>
    /// <param name="case">Only entries of this case; null: of any.</param>
    /// <param name="tokens">The reader's tokens; null: read for the service itself.</param>
    /// <param name="limit">The greatest number of entries, 1 to 1000.</param>
    /// <param name="cancel">Cancels.</param>
    /// <param name="bytes">The number of bytes that the page may take in memory, 1 KiB counted for each entry beside its own: 8 MiB,
    /// more than any entry has.</param>
    public Task<EntryPage> ReadEntries(
        ulong from,
        string? @case,
        IReadOnlySet<string>? tokens,
        int limit,
        CancellationToken cancel,
        long bytes = PageBytes
    )
    {
        CheckLimit(limit);
        return Read(
            async session =>
            {
                var size = (await session.ReadHead()).Size;
                if (from >= size)
                    return new EntryPage([], from, true);
                var to = Math.Min(from + Window, size);
                var rows = await session.Entries(from, to, @case, tokens, limit);
                var next = rows.Count == limit ? rows[^1].Position + 1 : to;
                // What does not fit is not read at all.
                var fitting = rows.TakeWhile(row => (bytes -= BytesOf(row)) >= 0).ToList();
                if (fitting.Count < rows.Count)
                    next = rows[fitting.Count].Position;
                var parts = (await session.Parts([.. fitting.Select(r => r.Position)])).ToLookup(p => p.Position);
                return new EntryPage(
                    [.. fitting.Select(row => EntryOf(row, parts[row.Position]))],
                    next,
                    next >= size,
                    fitting.Count == 0 && rows.Count > 0
                );
            },
            cancel
        );
    }

    private static long BytesOf(EntryRow row) => 1024 + row.Header.Length + row.PartBytes;

    internal static StoredEntry EntryOf(EntryRow row, IEnumerable<PartRow> parts)
    {
        var byAudience = parts.ToLookup(p => p.Kind == PartKind.Audience);
        var entry = new Entry
        {
            Header = UnsafeByteOperations.UnsafeWrap(row.Header),
            Case = row.Case,
            Traceparent = row.TraceParent,
            Parts =
            {
                byAudience[false]
                    .Select(p => new EntryPart
                    {
                        Kind = p.Kind,
                        Salt = UnsafeByteOperations.UnsafeWrap(p.Salt),
                        Data = p.Data is null ? ByteString.Empty : UnsafeByteOperations.UnsafeWrap(p.Data),
                        Erased = p.Data is null,
                    }),
            },
        };
        foreach (var numbers in byAudience[true])
            entry.Audience.AddRange(AudienceNumbers.Parser.ParseFrom(numbers.Data).Numbers);
        return new StoredEntry(row.Position, row.Participant, entry, row.TraceState);
    }

    /// <summary>Returns when there are more entries than <paramref name="size"/>.</summary>
    public async Task WaitForMore(ulong size, CancellationToken cancel)
    {
        while (true)
        {
            var grown = _grown.Task;
            if (Size > size)
                return;
            try
            {
                await grown.WaitAsync(_options.PollInterval, cancel);
            }
            catch (TimeoutException)
            {
                // Another replica may have written: whoever waits longest looks for all.
                if (!await _look.WaitAsync(0, cancel))
                    continue;
                try
                {
                    if (Environment.TickCount64 - _tail.Looked < _options.PollInterval.TotalMilliseconds / 2)
                        continue;
                    await LookNow(cancel);
                }
                catch (LedgerUnavailableException)
                {
                    // It goes on waiting: the database may come back.
                }
                finally
                {
                    _look.Release();
                }
            }
        }
    }

    /// <summary>A record; null: there is none, or the reader holds none of its tokens.</summary>
    /// <param name="kind">The kind of record.</param>
    /// <param name="key">Its key.</param>
    /// <param name="tokens">The reader's tokens; null: read for the service itself.</param>
    /// <param name="cancel">Cancels.</param>
    /// <exception cref="NewerFoldException">It was written by newer software.</exception>
    public async Task<Recorded<T>?> Find<T>(StreamKind<T> kind, string key, IReadOnlySet<string>? tokens, CancellationToken cancel)
        where T : class, IMessage<T>, new() =>
        (await _finder.Find(kind.Id(key), kind).WaitAsync(cancel)).Of(kind, key) is not { } found
        || tokens is not null && !kind.AudienceOf(found.State).Any(tokens.Contains)
            ? null
            : found;

    /// <summary>How often records were looked for by their keys since the ledger was opened.</summary>
    internal long Finds => _finder.Asked;

    /// <summary>Finds two records as they are at one moment, for the service itself. It takes no longer than the database may
    /// (<see cref="LedgerOptions.StatementTimeout"/>), and is not cancelled: others wait for the same answer.</summary>
    /// <param name="kind">The kind of the first.</param>
    /// <param name="key">Its key.</param>
    /// <param name="otherKind">The kind of the second.</param>
    /// <param name="otherKey">Its key.</param>
    public Task<FoundRecords> FindTogether(StreamKind kind, string key, StreamKind otherKind, string otherKey) =>
        _finder.Find(kind.Id(key), kind, otherKind.Id(otherKey), otherKind);

    /// <summary>Records, oldest first, in an order that stays while others write.</summary>
    /// <param name="kind">The kind of records.</param>
    /// <param name="keys">Keys (<see cref="StreamKind.KeysOf"/>) that a record must all have, at most 16.</param>
    /// <param name="tokens">The reader's tokens; null: read for the service itself.</param>
    /// <param name="after">The number of the record to go on after; zero: from the first.</param>
    /// <param name="limit">The greatest number of records, 1 to 1000.</param>
    /// <param name="cancel">Cancels.</param>
    public Task<IReadOnlyList<Recorded<T>>> List<T>(
        StreamKind<T> kind,
        IReadOnlyCollection<string> keys,
        IReadOnlySet<string>? tokens,
        ulong after,
        int limit,
        CancellationToken cancel
    )
        where T : class, IMessage<T>, new()
    {
        CheckLimit(limit);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(keys.Count, 16);
        return Read<IReadOnlyList<Recorded<T>>>(
            async session =>
            {
                var records = new List<Recorded<T>>();
                var wanted = limit;
                for (var last = Math.Min(after, long.MaxValue); wanted > 0; wanted = limit - records.Count)
                {
                    var rows = await session.List(kind.Name, [.. keys], tokens, last, wanted);
                    foreach (var row in rows)
                    {
                        var record = await RecordOf(session, kind, row);
                        // What another fold said of its audience does not count.
                        if (tokens is null || kind.AudienceOf(record.State).Any(tokens.Contains))
                            records.Add(record);
                    }
                    if (rows.Count < wanted)
                        break;
                    last = rows[^1].Number;
                }
                return records;
            },
            cancel
        );
    }

    private static async Task<Recorded<T>> RecordOf<T>(Session session, StreamKind<T> kind, StreamRow row)
        where T : class, IMessage<T>, new() =>
        new(row.Id.Key, (T)await Stored.StateOf(session, kind, row), row.Version, row.Number, row.Position);

    /// <summary>Records whose duty is due at <paramref name="now"/>, the longest due first.</summary>
    public Task<IReadOnlyList<DueStream>> ListDue(DateTimeOffset now, int limit, CancellationToken cancel)
    {
        CheckLimit(limit);
        return Read<IReadOnlyList<DueStream>>(
            async session =>
                [.. (await session.Due(now.UtcTicks, limit)).Select(d => new DueStream(d.Id, new DateTimeOffset(d.Due, TimeSpan.Zero)))],
            cancel
        );
    }

    /// <summary>The number of records whose duty is due.</summary>
    public Task<ulong> CountDue(DateTimeOffset now, CancellationToken cancel) => Read(session => session.CountDue(now.UtcTicks), cancel);

    /// <summary>The number of records of a kind that have all the keys, at most 16 of them.</summary>
    public Task<ulong> Count(StreamKind kind, IReadOnlyCollection<string> keys, CancellationToken cancel)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThan(keys.Count, 16);
        return Read(session => session.Count(kind.Name, [.. keys]), cancel);
    }

    /// <summary>The service's own events in the order of the ledger, for the relay.</summary>
    /// <param name="number">The number of the event to go on after; zero: from the first.</param>
    /// <param name="limit">The greatest number of events, 1 to 1000.</param>
    /// <param name="cancel">Cancels.</param>
    public Task<IReadOnlyList<NumberedEvent>> EventsAfter(ulong number, int limit, CancellationToken cancel)
    {
        CheckLimit(limit);
        return _recent.After(number, limit, Size) is { } recent
            ? Task.FromResult(recent)
            : Read(async session => Events(await session.EventsAfter(Math.Min(number, long.MaxValue), limit)), cancel);
    }

    /// <summary>The service's own events of some types in the order of the ledger, for a consumer that fills a gap.</summary>
    /// <param name="after">Per event type the number of the event to go on after; zero: from the first. At most 64.</param>
    /// <param name="limit">The greatest number of events, 1 to 1000.</param>
    /// <param name="cancel">Cancels.</param>
    public Task<IReadOnlyList<NumberedEvent>> EventsAfter(IReadOnlyDictionary<string, ulong> after, int limit, CancellationToken cancel)
    {
        CheckLimit(limit);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(after.Count, 64);
        var bounded = after.ToDictionary(a => a.Key, a => Math.Min(a.Value, long.MaxValue));
        return Read(async session => Events(await session.EventsAfter(bounded, limit)), cancel);
    }

    private IReadOnlyList<NumberedEvent> Events(List<EventSource> sources) =>
        [
            .. sources.Select(source =>
                NumberedEvent.Of(
                    Service,
                    source.Number,
                    source.Sequence,
                    source.Position,
                    source.Index,
                    V1.Events.Parser.ParseFrom(source.Events).Events_[source.Index],
                    NumberedEvent.TimeText(Stored.TimeOf(source.Header)),
                    TreeHash.Leaf(source.Header),
                    source.TraceParent,
                    source.TraceState
                )
            ),
        ];

    /// <summary>The number of the service's own events: the number of the last one.</summary>
    public Task<ulong> CountEvents(CancellationToken cancel) => Read(async session => (await session.ReadHead()).Events, cancel);

    /// <summary>How far a reader such as the relay has come; zero: nowhere.</summary>
    public Task<ulong> ReadCursor(string name, CancellationToken cancel) =>
        Read(async session => (await session.Cursors([name])).GetValueOrDefault(name), cancel);

    /// <summary>Says how far a reader has come. It never goes back.</summary>
    public Task MoveCursor(string name, ulong value, CancellationToken cancel) =>
        Read(
            async session =>
            {
                await session.MoveCursor(name, value);
                return true;
            },
            cancel,
            write: true
        );

    /// <summary>The number of the last event of a producer and type that was taken in; zero: none.</summary>
    public Task<ulong> LastTaken(string producer, string type, CancellationToken cancel) =>
        ReadCursor(new Intake(producer, type, 0).Cursor, cancel);

    /// <summary>Becomes the one replica that does something, such as the relay; null: another one is.</summary>
    /// <param name="name">What is done.</param>
    /// <param name="cancel">Cancels.</param>
    public async Task<Lead?> TryLead(string name, CancellationToken cancel)
    {
        try
        {
            return await _store.TryLead(name, cancel);
        }
        catch (Exception e) when (_store.IsOutage(e))
        {
            throw new LedgerUnavailableException(e);
        }
    }

    /// <summary>The tree as it is, signed, with the cosignatures that it has so far.</summary>
    public Task<Checkpoint> ReadCheckpoint(CancellationToken cancel) =>
        Read(async session => WithCosignatures((await Signed(session)).Checkpoint), cancel);

    /// <summary>Proves that an entry is in a tree (RFC 6962 2.1.1); null: there is no such entry or tree.</summary>
    /// <param name="position">The entry's position.</param>
    /// <param name="size">The tree's size, greater than the position; zero: the present one.</param>
    /// <param name="cancel">Cancels.</param>
    public Task<TreeProof?> ProveInclusion(ulong position, ulong size, CancellationToken cancel) =>
        Prove(size, to => position < to, view => view.Inclusion(position), cancel);

    /// <summary>Proves that a tree is a prefix of a later one (RFC 6962 2.1.2); null: there are no such trees.</summary>
    /// <param name="from">The earlier size, at least 1.</param>
    /// <param name="to">The later size; zero: the present one.</param>
    /// <param name="cancel">Cancels.</param>
    public Task<TreeProof?> ProveConsistency(ulong from, ulong to, CancellationToken cancel) =>
        Prove(to, to => from > 0 && from <= to, view => view.Consistency(from), cancel);

    private Task<TreeProof?> Prove(ulong size, Func<ulong, bool> possible, Func<TreeView, List<byte[]>> prove, CancellationToken cancel) =>
        Read(
            async session =>
            {
                var present = (await session.ReadHead()).Size;
                var to = size == 0 ? present : size;
                if (to > present || !possible(to))
                    return null;
                var view = await Load(
                    session,
                    to,
                    present,
                    view =>
                    {
                        view.Root();
                        prove(view);
                    }
                );
                return new TreeProof(to, view.Root(), prove(view));
            },
            cancel
        );

    /// <summary>Erases the request part of an entry, with its salt. Every proof stays valid. A retry of that request is then
    /// refused as a reuse of its id. False: there is no such part, or it was erased.</summary>
    public async Task<bool> EraseRequest(ulong position, CancellationToken cancel)
    {
        var erased = await Read(session => session.EraseRequest(Math.Min(position, long.MaxValue - 1)), cancel, write: true);
        _tail.Forget(position);
        return erased;
    }

    /// <summary>Ends when nothing is committed any more: in order after <see cref="Drain"/>; with its fault where the thread that commits
    /// failed. Then nothing is taken in any more either.</summary>
    public Task Committing => _committer.Running;

    /// <summary>Takes no more commands and returns when those that wait are answered.</summary>
    public Task Drain() => _committer.Drain();

    /// <summary>Drains and closes.</summary>
    public async ValueTask DisposeAsync()
    {
        await Drain();
        _checkpoints.Dispose();
        await _store.DisposeAsync();
    }

    /// <summary>The head, covered by a checkpoint.</summary>
    private async Task<(Head Head, Checkpoint Checkpoint)> Signed(Session session)
    {
        // A commit may sign a greater tree between the reading and the signing; a database that went back stays behind.
        for (var tries = 0; tries < 100; tries++)
        {
            var head = await session.ReadHead();
            if (_checkpoints.Advance(head.Size, TreeView.RootOf(head.Edge)) is { } signed)
                return (head, signed);
        }
        throw new LedgerInconsistentException(
            $"the database has fewer entries than the {_checkpoints.Last!.Size} that were signed: it was put back to an "
                + "earlier state. Stop the service and restore the newest state."
        );
    }

    private void Grow(ulong size)
    {
        lock (_look)
        {
            if (size <= _size)
                return;
            Volatile.Write(ref _size, size);
            Interlocked.Exchange(ref _grown, new(TaskCreationOptions.RunContinuationsAsynchronously)).SetResult();
        }
    }

    /// <summary>Finds records: what is asked for while the database answers is asked for together by the next query. A query begins
    /// after all that it answers came, so each sees what was committed before; and it is one statement, so all that one caller asked
    /// for is of one moment. Nothing of what it says is kept but <see cref="Parsed"/>.</summary>
    private sealed class Finder(ServiceLedger ledger)
    {
        private const int MostRecords = 256;

        // While one query is under way, what comes waits for it to end, so that the next one answers many: unless they are many already,
        // or it takes long.
        private const int MostQueries = 2,
            Many = 32;
        private static readonly TimeSpan Long = TimeSpan.FromMilliseconds(5);

        private long _asked;
        private readonly Lock _lock = new();
        private readonly Queue<Query> _full = [];
        private readonly Parsed _parsed = new();
        private Query _next = new();
        private int _running;
        private long _began;

        /// <summary>How often the database was asked.</summary>
        public long Asked => Interlocked.Read(ref _asked);

        /// <summary>What is asked for together.</summary>
        private sealed class Query
        {
            // A few who wait go on one after the other, in one piece of work: a piece for each would keep the threads busy with finding
            // it. More pieces than processors where many wait.
            private const int Together = 16;

            private readonly List<TaskCompletionSource<FoundRecords>> _waiting = [];
            private int _count;

            public readonly Dictionary<StreamId, StreamKind> Wanted = [];

            public Task<FoundRecords> Wait()
            {
                if (_count++ % Together == 0)
                    _waiting.Add(new());
                return _waiting[^1].Task;
            }

            /// <summary>Tells what came of it, which has ended.</summary>
            public void Tell(Task<FoundRecords> answer)
            {
                foreach (var waiting in _waiting)
                    ThreadPool.UnsafeQueueUserWorkItem(static w => w.waiting.SetFromTask(w.answer), (waiting, answer), preferLocal: true);
            }
        }

        public Task<FoundRecords> Find(StreamId id, StreamKind kind, StreamId other = default, StreamKind? otherKind = null)
        {
            Interlocked.Increment(ref _asked);
            lock (_lock)
            {
                if (_next.Wanted.Count > MostRecords - 2)
                {
                    _full.Enqueue(_next);
                    _next = new();
                }
                _next.Wanted[id] = kind;
                if (otherKind is not null)
                    _next.Wanted[other] = otherKind;
                if (
                    _running == 0
                    || _running < MostQueries && (_full.Count > 0 || _next.Wanted.Count >= Many || Stopwatch.GetElapsedTime(_began) > Long)
                )
                {
                    _running++;
                    _began = Stopwatch.GetTimestamp();
                    // It works for others too: not under the span of whoever came first.
                    using (ExecutionContext.SuppressFlow())
                        _ = Task.Run(Run);
                }
                return _next.Wait();
            }
        }

        private async Task Run()
        {
            while (true)
            {
                // Whoever is on his way already comes along: what this process has to do at the moment goes first.
                await Task.Yield();
                Query? query;
                lock (_lock)
                {
                    if (!_full.TryDequeue(out query))
                        (query, _next) = (_next, new());
                    if (query.Wanted.Count == 0)
                    {
                        (_next, _running) = (query, _running - 1);
                        return;
                    }
                    _began = Stopwatch.GetTimestamp();
                }
                var told = ledger.Read(
                    async session =>
                    {
                        var answer = new FoundRecords();
                        foreach (var row in await session.FindStates(query.Wanted.Keys))
                            try
                            {
                                var kind = query.Wanted[row.Id];
                                answer.Add(
                                    row,
                                    row.Fold == kind.Version ? _parsed.StateOf(kind, row) : await Stored.StateOf(session, kind, row),
                                    null
                                );
                            }
                            catch (Exception e) when (!ledger._store.IsOutage(e))
                            {
                                answer.Add(row, null, e);
                            }
                        return answer;
                    },
                    default
                );
                await ((Task)told).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
                query.Tell(told);
            }
        }
    }

    /// <summary>States that were read lately, by the very bytes that they were read from: a query that brings the same bytes again need
    /// not parse them again. So what is read of a record that nobody changes is the same object each time.</summary>
    private sealed class Parsed
    {
        // In each of two generations; a state counts with its bytes, and greater ones are not kept.
        private const int MostBytes = 2 << 20,
            Greatest = 64 << 10;

        private readonly Lock _lock = new();
        private Dictionary<StreamId, (byte[] Bytes, IMessage State)> _young = [],
            _old = [];
        private int _bytes;

        public IMessage StateOf(StreamKind kind, StreamRow row)
        {
            lock (_lock)
            {
                if (_young.TryGetValue(row.Id, out var known) && row.State.AsSpan().SequenceEqual(known.Bytes))
                    return known.State;
                if (_old.Remove(row.Id, out known) && row.State.AsSpan().SequenceEqual(known.Bytes))
                    return Keep(known.State);
            }
            var state = kind.Parse(row.State);
            lock (_lock)
                return Keep(state);

            IMessage Keep(IMessage state)
            {
                if (row.State.Length > Greatest)
                    return state;
                if ((_bytes += row.State.Length) > MostBytes)
                    (_old, _young, _bytes) = (_young, [], row.State.Length);
                _young[row.Id] = (row.State, state);
                return state;
            }
        }
    }

    private async Task<T> Read<T>(Func<Session, Task<T>> read, CancellationToken cancel, bool write = false)
    {
        for (var tries = 1; ; tries++)
            try
            {
                await using var session = await _store.Open(write, cancel);
                return await read(session);
            }
            catch (Exception e) when (_store.IsOutage(e))
            {
                // A connection may have died while it was idle; what is done here may be done twice.
                _store.Forget();
                if (tries == 2)
                    throw new LedgerUnavailableException(e);
            }
    }

    /// <summary>The tree with what <paramref name="ask"/> needs of it.</summary>
    private static async Task<TreeView> Load(Session session, ulong size, ulong present, Action<TreeView> ask)
    {
        var tiles = new Dictionary<(int Level, ulong Index), Tile>();
        var view = new TreeView(size, tiles);
        ask(view);
        foreach (var (level, index) in view.TakeMissed())
            tiles[(level, index)] = await Stored.TileOf(session, level, index, present);
        return view;
    }

    private static async Task CheckTree(Session session, Head head, Checkpoint? last, string file, bool doubtful)
    {
        // What a former key signed at a time that nobody knows proves nothing. It is a damaged file where the ledger does not bear it out.
        var by = doubtful
            ? " The key that signed it was revoked, or has ended, so that a thief may have made it: ask the witnesses (`ministry log verify`) "
                + "which history they have; where it is this one, remove the file."
            : "";
        var edge = await Load(session, head.Size, head.Size, view => view.Edge());
        if (!edge.Edge().SelectMany(h => h).SequenceEqual(head.Edge))
            throw new LedgerInconsistentException("the ledger's tree does not fit its entries: the database was damaged. Restore it.");
        if (last is null)
            return;
        if (last.Size > head.Size)
            throw new LedgerInconsistentException(
                $"the database has {head.Size} entries, but a checkpoint over {last.Size} was signed ({file}): acknowledged "
                    + "entries are missing. "
                    + (
                        doubtful
                            ? by
                            : "Restore the newest backup, or start against the replica that has them; do not " + "remove the checkpoint."
                    )
            );
        if (last.Size == 0)
            return;
        var earlier = await Load(session, last.Size, head.Size, view => view.Root());
        if (!earlier.Root().AsSpan().SequenceEqual(last.Root))
            throw new LedgerInconsistentException(
                $"the database's first {last.Size} entries are not those of the checkpoint that was signed ({file}): its "
                    + $"history was changed, or it is another ledger. Restore the database that fits the checkpoint.{by}"
            );
    }

    private static void CheckLimit(int limit)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(limit, 1);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(limit, 1000);
    }
}

/// <summary>The last events that this process committed, so that whoever publishes them need not read them back. What is not here is
/// in the database: events of other replicas, of before, of more bytes than are kept.</summary>
internal sealed class RecentEvents
{
    private const int Kept = 2048;
    private const int MaxBytes = 16 << 10;

    private readonly NumberedEvent?[] _events = new NumberedEvent?[Kept];
    private volatile Tuple<ulong, ulong> _head = new(0, 0);

    /// <summary>Whether somebody reads them: until then none are kept.</summary>
    public bool Wanted { get; private set; }

    /// <summary>Keeps an event that is committed.</summary>
    public void Keep(NumberedEvent e)
    {
        if (e.Event.Event.Data.Length <= MaxBytes)
            Volatile.Write(ref _events[e.Number % Kept], e);
    }

    /// <summary>Notes how many entries and events there are.</summary>
    public void Come(ulong entries, ulong events) => _head = new(entries, events);

    /// <summary>The events that follow upon a number, as far as they are here without a gap; null: who wants to know must ask the
    /// database.</summary>
    /// <param name="number">The number.</param>
    /// <param name="limit">The greatest number of events.</param>
    /// <param name="size">The number of entries that there are.</param>
    public IReadOnlyList<NumberedEvent>? After(ulong number, int limit, ulong size)
    {
        Wanted = true;
        var (head, found) = (_head, new List<NumberedEvent>());
        while (found.Count < limit && Volatile.Read(ref _events[(number + 1) % Kept]) is { } next && next.Number == number + 1)
        {
            found.Add(next);
            number++;
        }
        return found.Count > 0 || (head.Item2 == number && head.Item1 >= size && size > 0) ? found : null;
    }
}

/// <summary>Records as one query found them.</summary>
public sealed class FoundRecords
{
    private readonly Dictionary<StreamId, (StreamRow Row, IMessage? State, Exception? Fault)> _found = [];

    internal FoundRecords() { }

    /// <summary>One of the records that were asked for; null: there is none.</summary>
    /// <exception cref="NewerFoldException">It was written by newer software.</exception>
    public Recorded<T>? Of<T>(StreamKind<T> kind, string key)
        where T : class, IMessage<T>, new()
    {
        if (!_found.TryGetValue(kind.Id(key), out var found))
            return null;
        // Whoever wants this record fails, and nobody else.
        if (found.Fault is not null)
            ExceptionDispatchInfo.Throw(found.Fault);
        return new(key, (T)found.State!, found.Row.Version, found.Row.Number, found.Row.Position);
    }

    internal void Add(StreamRow row, IMessage? state, Exception? fault) => _found[row.Id] = (row, state, fault);
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
