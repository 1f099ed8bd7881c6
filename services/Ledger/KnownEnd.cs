namespace Ministries.Ledger;

/// <summary>What this process knows of the ledger's end: up to where it is replicated, and the greatest tree that anybody has signed or
/// seen. No entry is answered, shown or signed before it is known to be replicated, and nothing is served from a database that is behind
/// that tree. See decision 0058.</summary>
internal sealed class KnownEnd
{
    private readonly Lock _lock = new();
    private ulong _replicated;
    private volatile Checkpoint? _seen;
    private volatile string? _contradiction;

    /// <summary>The number of entries that are known to be replicated: a commit of this process that began after them was answered without
    /// a warning.</summary>
    public ulong Replicated => Volatile.Read(ref _replicated);

    /// <summary>The greatest tree that was heard of; null: none was.</summary>
    public Checkpoint? Seen => _seen;

    /// <summary>How the database that was looked at last contradicts what was signed or seen; null: it does not.</summary>
    public string? Contradiction
    {
        get => _contradiction;
        set => _contradiction = value;
    }

    /// <summary>Notes that the first entries are replicated.</summary>
    /// <param name="size">How many.</param>
    public void Replicate(ulong size)
    {
        lock (_lock)
            if (size > _replicated)
                Volatile.Write(ref _replicated, size);
    }

    /// <summary>Notes a tree that a replica or a witness has signed. The caller has verified that the log's key signed it.</summary>
    public void See(Checkpoint seen)
    {
        lock (_lock)
            if (seen.Size > (_seen?.Size ?? 0))
                _seen = seen;
    }
}
