namespace Ministries.Ledger;

/// <summary>
/// A service's ledger: its store of record, its outbox and its audit log at once. Commands are committed in batches, one entry
/// each, at gapless positions; all that is read is what was committed. Safe for concurrent use.
/// </summary>
public sealed partial class ServiceLedger : IAsyncDisposable
{
    private readonly LedgerOptions _options;
    private readonly Store _store;
    private readonly Checkpoints _checkpoints;
    private readonly CommitContext _context;
    private readonly Committer _committer;
    private readonly RecordFinder _finder;
    private readonly RecentEvents _recentEvents = new();
    private readonly SemaphoreSlim _look = new(1);
    private readonly SemaphoreSlim _replicating = new(1);
    private readonly KnownEnd _end;
    private volatile TaskCompletionSource _grown = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private ulong _size;
    private volatile CheckpointJudge _judge;

    private ServiceLedger(LedgerOptions options, Store store, Checkpoints checkpoints, KnownEnd end, ClockGuard clock)
    {
        _end = end;
        _judge = options.Judge ?? (note => (checkpoints.Key.Verify(note), true));
        _options = options;
        _store = store;
        _checkpoints = checkpoints;
        Secrets = options.Key.Secrets;
        _recentEntries = new RecentEntries();
        _context = new CommitContext(options, store, checkpoints, Grow, _recentEvents, _recentEntries, _end, clock);
        _committer = new Committer(_context);
        _finder = new RecordFinder(this, store);
    }

    /// <summary>Opens the ledger: creates what is missing in the database, migrates an older schema, checks it against the last
    /// checkpoint and against those that others have (<see cref="LedgerOptions.Heard"/>), and begins to take commands. Nothing is signed,
    /// committed or answered before.</summary>
    /// <exception cref="LedgerInconsistentException">The database must not be served from; the text says what to do.</exception>
    /// <exception cref="LedgerUnavailableException">The database cannot be reached.</exception>
    /// <exception cref="ClockNotTrustedException">The ledger's last entry is ahead of this machine's clock.</exception>
    /// <exception cref="ArgumentOutOfRangeException"><see cref="LedgerOptions.CoverInterval"/> or <see cref="LedgerOptions.CoverLeaves"/>
    /// is.
    /// </exception>
    public static async Task<ServiceLedger> Open(LedgerOptions options, CancellationToken cancel)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(options.CoverInterval, TimeSpan.Zero);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(options.CoverInterval, LedgerOptions.MaxCoverInterval);
        ArgumentOutOfRangeException.ThrowIfLessThan(options.CoverLeaves, 1);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(options.CoverLeaves, LedgerOptions.MostCoverLeaves);
        var store = Store.For(options);
        Checkpoints? checkpoints = null;
        try
        {
            await store.Prepare(options.Service, cancel);
            checkpoints = new Checkpoints(options.Key, options.CheckpointFile, options.Judge);
            CheckpointJudge judge = options.Judge ?? (note => (options.Key.Verify(note), true));
            var end = new KnownEnd(KnownEnd.FileBeside(options.CheckpointFile), judge, checkpoints.Last);
            var heard = Hear(options.Heard, judge, end, checkpoints.Last);
            await using (var session = await store.Open(write: false, cancel))
            {
                var head = await session.ReadHead();
                var clock = new ClockGuard(options.Time, options.ComparesDatabaseClock);
                if (ClockGuard.Ahead(head.Time, options.Time.GetUtcNow()) is { } ahead)
                    throw new ClockNotTrustedException(ahead);
                var cosigned = new CosignedFile(judge, CosignedBeside(options.CheckpointFile));
                await CheckTree(session, head, checkpoints.Last, options.CheckpointFile, checkpoints.IsDoubtful);
                await CheckTree(session, head, cosigned.Enough, CosignedBeside(options.CheckpointFile), doubtful: false);
                foreach (var (by, tree) in heard)
                    await CheckTree(session, head, tree, by, doubtful: false);
                await CheckTree(session, head, end.Seen, KnownEnd.FileBeside(options.CheckpointFile), end.IsDoubtful);
                // The key signs only after these checks. Otherwise it could sign a tree that the thief of a former key has made.
                checkpoints.Renew();
                cosigned.SignAgain(() => options.Key);
                // Only a replicated head is signed. A head that is already signed is replicated.
                if (head.Size > (checkpoints.Last?.Size ?? 0))
                    await session.Replicated();
                if (head.Size > 0)
                    checkpoints.Advance(head.Size, TreeView.RootOf(head.Edge));
                // The own checkpoint covers all that is known now.
                end.Forget(head.Size);
                var ledger = new ServiceLedger(options, store, checkpoints, end, clock) { _size = head.Size, _cosigned = cosigned };
                ledger._end.Replicate(head.Size);
                store.Check = ledger.CheckEnd;
                ledger._recentEntries.NoteHead(head, mayRelist: true, 0);
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

    /// <summary>The checkpoints of others that count. The greatest is kept first, because nobody may be there to tell it the next time.
    /// </summary>
    private static List<(string By, Checkpoint Tree)> Hear(
        IEnumerable<HeardCheckpoint> heard,
        CheckpointJudge judge,
        KnownEnd end,
        Checkpoint? own
    )
    {
        var counted = new List<(string By, Checkpoint Tree)>();
        foreach (var (by, note) in heard)
            if (note.Length <= SignedNote.MaxLength && judge(note) is ({ } tree, true))
                counted.Add((by, tree));
        if (counted.Select(c => c.Tree).MaxBy(t => t.Size) is { } greatest && greatest.Size > (own?.Size ?? 0))
            end.See(greatest);
        return counted;
    }

    /// <summary>How often tables are made again if the server answers with a fault that passes: 10, a second apart.</summary>
    private const int MakeTries = 10;

    /// <summary>Makes the tables of a ledger in PostgreSQL, or brings them up to date, as their owner, and lets another role serve from
    /// them: that role can add to what was recorded, but not change or delete it, except to erase a request.</summary>
    /// <param name="connection">How the owner reaches the database: a Npgsql connection string.</param>
    /// <param name="service">Whose ledger it is.</param>
    /// <param name="serving">The role that serves, of <see cref="LedgerOptions.Connection"/>.</param>
    /// <param name="cancel">Ends it; nothing is done then.</param>
    /// <param name="progress">Receives lines about the progress of a migration that takes longer than two seconds.</param>
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
            for (var tries = 1; ; tries++)
                try
                {
                    await using var open = new Npgsql.NpgsqlConnection(connection);
                    await open.OpenAsync(cancel);
                    await PostgresSchema.Make(open, service, serving, TimeProvider.System, progress, cancel);
                    return;
                }
                // Nothing was done, for example because of a deadlock with a service that uses the tables, or because the server is
                // starting.
                catch (Npgsql.PostgresException e) when (e.IsTransient && tries < MakeTries)
                {
                    await Task.Delay(TimeSpan.FromSeconds(1), cancel);
                }
        }
        catch (Exception e) when (e is Npgsql.NpgsqlException or ArgumentException or System.Net.Sockets.SocketException)
        {
            throw new LedgerUnavailableException(e);
        }
    }

    /// <summary>Whether the role with which the service uses the database could change what was recorded, because it owns the tables: true
    /// of SQLite, and of PostgreSQL unless <see cref="MakeTables"/> was used.</summary>
    public bool OwnsTables => _store.OwnsTables;

    /// <summary>The service's name.</summary>
    public string Service => _options.Service;

    /// <summary>The key that signs checkpoints now.</summary>
    public CheckpointKey Key => _checkpoints.Key;

    /// <summary>What this service's ids and etags are made with: derived from the key with which the ledger was opened.</summary>
    public RecordSecrets Secrets { get; }

    /// <summary>Signs checkpoints with another key of the same name from now on. The last checkpoint and the cosigned ones are signed again
    /// at once. Afterwards the previous key signs nothing, and the caller disposes of it. If this fails, call it again.</summary>
    /// <param name="key">The key.</param>
    public void SignWith(CheckpointKey key)
    {
        if (key.Name != Key.Name)
            throw new ArgumentException($"the key's name must be {Key.Name}: it is the log's origin", nameof(key));
        _checkpoints.SignWith(key);
        _end.Forget(_checkpoints.Last?.Size ?? 0);
        _cosigned.SignAgain(() => _checkpoints.Key);
    }

    /// <summary>Judges checkpoints by another agreement from now on.</summary>
    /// <param name="judge">Says whose a checkpoint is.</param>
    public void JudgeWith(CheckpointJudge judge) => _judge = judge;

    /// <summary>The number of entries that this process knows of.</summary>
    public ulong Size => Volatile.Read(ref _size);

    /// <summary>The number of commands that wait.</summary>
    public int QueueLength => _committer.QueueLength;

    /// <summary>Puts a command into the queue and returns when it is committed, refused or failed. Cancelling takes it out of
    /// the queue; once its commit has begun it is carried out.</summary>
    /// <exception cref="LedgerOverloadedException">Too many wait.</exception>
    /// <exception cref="LedgerClosedException">The ledger is being closed.</exception>
    /// <exception cref="LedgerUnavailableException">The database cannot be used; nothing was recorded.</exception>
    /// <exception cref="CommitOutcomeUnknownException">Whether it was recorded is not known.</exception>
    /// <exception cref="ClockNotTrustedException">This machine's clock is not trusted; nothing was recorded.</exception>
    /// <exception cref="LedgerInconsistentException">The database must not be served from; nothing was recorded.</exception>
    /// <exception cref="CommandFailedException">Its rule failed.</exception>
    /// <exception cref="EventGapException">Events before this one have not been taken in.</exception>
    /// <exception cref="CommandHeldBackException">The previous command in its chain has failed.</exception>
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
                // No entry is shown before a checkpoint covers it.
                if (outcome.Position >= (_checkpoints.Last?.Size ?? 0))
                    await Signed(session);
                return outcome;
            },
            cancel
        );

    /// <summary>The position of the entry with a participant's request; null: there is none.</summary>
    public Task<ulong?> FindPosition(string participant, string requestId, CancellationToken cancel) =>
        Read<ulong?>(
            async session =>
                await OnceReplicated(
                    session,
                    (await session.FindRequests([(participant, requestId)])).GetValueOrDefault((participant, requestId))?.Position,
                    position => position + 1
                ),
            cancel
        );

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

    /// <summary>Notes the position of a reader that only one replica runs at a time. The position never goes back.</summary>
    /// <param name="name">The cursor.</param>
    /// <param name="value">Its value.</param>
    /// <param name="lead">What this replica was given by <see cref="TryLead"/>.</param>
    /// <param name="cancel">Cancels.</param>
    /// <returns>False: another replica has taken the lead, and nothing was changed.</returns>
    public Task<bool> MoveCursor(string name, ulong value, Lead lead, CancellationToken cancel) =>
        Read(
            async session =>
            {
                if (lead is Lease lease && !Probe.SkipFences)
                    return await session.MoveCursor(name, value, lease.Mark);
                if (lead.IsHeld)
                    await session.MoveCursor(name, value);
                return lead.IsHeld;
            },
            cancel,
            write: true
        );

    /// <summary>The number of the last event of a producer and type that was taken in; zero: none.</summary>
    public Task<ulong> LastTaken(string producer, string type, CancellationToken cancel) =>
        ReadCursor(new IntakeNumber(producer, type, 0).Cursor, cancel);

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

    /// <summary>Erases the request part of an entry, with its salt, and those of the entries by which sealed data of it were opened to
    /// others (<see cref="Shares"/>), all in one transaction. States that hold something of them are folded again without them, at every
    /// replica. Every proof stays valid. A retry of such a request is then refused as a reuse of its id. False: there is no such part, or
    /// all were erased.</summary>
    public async Task<bool> EraseRequest(ulong position, CancellationToken cancel)
    {
        position = Math.Min(position, long.MaxValue - 1);
        var (erased, shares) = await Read(
            async session =>
            {
                var erased = await session.EraseRequest(position);
                // An earlier erasure may not be replicated, and its caller was told so.
                if (!erased)
                    await session.Replicated();
                return (erased, await session.SharesOf(position));
            },
            cancel,
            write: true
        );
        foreach (var forgotten in shares.Prepend(position))
            _recentEntries.Forget(forgotten);
        return erased;
    }

    /// <summary>Whether the request of an entry was erased.</summary>
    public Task<bool> IsErased(ulong position, CancellationToken cancel) => Read(session => session.IsErased(position), cancel);

    /// <summary>Erases the requests that opened sealed data of erased requests. Opening and erasing can happen at once, and the process can
    /// die before it erases the opening. Returns for how many erased requests it did so. It reads 500 at a time, so that no read takes
    /// long.</summary>
    public async Task<int> EraseLateShares(CancellationToken cancel)
    {
        const int page = 500;
        for (var (last, erased) = (0L, 0); ; )
        {
            var after = last;
            var shared = await Read(session => session.Shared(after, page), cancel);
            foreach (var late in shared.Where(s => s.IsLate))
            {
                await EraseRequest(late.Position, cancel);
                erased++;
            }
            if (shared.Count < page)
                return erased;
            last = shared[^1].Stream;
        }
    }

    /// <summary>Ends when nothing is committed any more: normally after <see cref="Drain"/>, or with the fault of the committing thread.
    /// Then no more commands are accepted either.</summary>
    public Task Committing => _committer.Running;

    /// <summary>How often it commits, so that it shows nothing of how many entries are recorded and when; zero: whenever there is something
    /// to record.</summary>
    public TimeSpan CoverInterval => _options.CoverInterval;

    /// <summary>Takes no more commands, and returns when the waiting ones are answered. With a cover interval, they are committed by its
    /// schedule.
    /// </summary>
    public Task Drain() => _committer.Drain();

    /// <summary>Drains and closes.</summary>
    public async ValueTask DisposeAsync()
    {
        await Drain();
        _checkpoints.Dispose();
        await _store.DisposeAsync();
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

    /// <summary>Uses the database once, and once more if it cannot be reached.</summary>
    internal async Task<T> Read<T>(Func<Session, Task<T>> read, CancellationToken cancel, bool write = false)
    {
        for (var tries = 1; ; tries++)
            try
            {
                await using var session = await _store.Open(write, cancel);
                return await read(session);
            }
            catch (Exception e) when (_store.IsOutage(e))
            {
                // A connection may have died while it was idle. The work may be done twice, so it is tried once more.
                _store.Forget();
                if (tries == 2)
                    throw new LedgerUnavailableException(e);
            }
    }

    private static void CheckLimit(int limit)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(limit, 1);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(limit, 1000);
    }
}
