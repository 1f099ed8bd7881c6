namespace Ministries.Ledger;

/// <summary>One use of the database. Lists of ids may hold repetitions.</summary>
internal abstract class Session : IAsyncDisposable
{
    // ---- one transaction at a time ----
    public abstract Task<Head> LockHead();
    public abstract Task Write(Rows rows, Head head);

    /// <exception cref="CommitDoubtfulException">The answer does not say that it is replicated.</exception>
    public abstract Task Commit();

    /// <summary>Commits, in the transaction that locked the head, something that leaves no trace. When it returns, all that was committed
    /// before is replicated.</summary>
    /// <exception cref="CommitDoubtfulException">The answer does not say that it is replicated.</exception>
    public virtual Task CommitNothing() => Task.CompletedTask;

    /// <summary>What the database's clock said when the head was locked; null: it has none of its own.</summary>
    public virtual DateTimeOffset? DatabaseTime => null;

    /// <summary>Outside of a transaction: commits something that leaves no trace, and reads what the database says of itself.</summary>
    /// <param name="failing">Whether commits failed lately. Then a write is made that costs more and shows more.</param>
    public abstract Task<Pulse> Pulse(bool failing);

    /// <summary>Outside of a transaction: reads the number of entries and commits something that leaves no trace. When it returns, that
    /// many entries are replicated.</summary>
    /// <exception cref="CommitDoubtfulException">The answer does not say that it is replicated.</exception>
    public virtual async Task<ulong> Replicated() => (await ReadHead()).Size;

    // ---- what a commit reads ----
    public abstract Task<Dictionary<(string Participant, string RequestId), FoundRequest>> FindRequests(
        IReadOnlyCollection<(string Participant, string RequestId)> ids
    );
    public abstract Task<List<StreamRow>> FindStreams(IReadOnlyCollection<StreamId> ids);

    /// <summary>The states of streams, all at one moment, for a read: without due time, audience and traceparent.</summary>
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
    public abstract Task<List<EntryRow>> Entries(ulong from, ulong to, string? @case, Viewer? viewer, int limit);

    /// <summary>Whether any entry from one position to before another one is of a case.</summary>
    public abstract Task<bool> HasCase(ulong from, ulong to);
    public abstract Task<List<PartRow>> Parts(IReadOnlyCollection<ulong> positions);
    public abstract Task<List<StreamRow>> List(string kind, IReadOnlyList<string> keys, Viewer? viewer, ulong after, int limit);
    public abstract Task<ulong> Count(string kind, IReadOnlyList<string> keys);
    public abstract Task<List<(StreamId Id, long Due)>> Due(long now, int skip, int limit);
    public abstract Task<ulong> CountDue(long now);
    public abstract Task<List<EventSource>> EventsAfter(ulong number, int limit);
    public abstract Task<List<EventSource>> EventsAfter(IReadOnlyDictionary<string, ulong> after, int limit);

    // ---- single changes, each its own transaction ----
    public abstract Task MoveCursor(string name, ulong value);

    /// <summary>Moves a cursor only if the lead is still the given one's. False: it is not.</summary>
    public virtual async Task<bool> MoveCursor(string name, ulong value, LeaseMark lead)
    {
        await MoveCursor(name, value);
        return true;
    }

    /// <summary>Takes a lead that nobody holds. Returns how many took it so far; null: somebody holds it.</summary>
    public virtual Task<ulong?> TakeLead(string name, string holder, TimeSpan time) => throw new NotSupportedException();

    /// <summary>Makes a lead last from now on. False: somebody else took it.</summary>
    public virtual Task<bool> RenewLead(LeaseMark lead, TimeSpan time) => throw new NotSupportedException();

    /// <summary>Ends a lead, unless somebody else took it.</summary>
    public virtual Task GiveLead(LeaseMark lead) => throw new NotSupportedException();

    /// <summary>Erases a request, and those by which its sealed data were opened to others (<see cref="Shares"/>), and empties the states
    /// that were folded with them, so that they are folded again. Whether any of them was there.</summary>
    public abstract Task<bool> EraseRequest(ulong position);

    /// <summary>The positions of the entries by which an entry's sealed data were opened to others.</summary>
    public abstract Task<List<ulong>> SharesOf(ulong position);

    /// <summary>Whether the request of an entry was erased.</summary>
    public abstract Task<bool> IsErased(ulong position);

    /// <summary>The next streams of shares (<see cref="Shares"/>), each with the position of the entry whose sealed data were opened to
    /// others, and whether its request was erased but a request that opened them was not.</summary>
    /// <param name="after">The number of the last stream that was read; 0 for the first.</param>
    /// <param name="count">How many at most.</param>
    public abstract Task<List<SharedRow>> Shared(long after, int count);

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
