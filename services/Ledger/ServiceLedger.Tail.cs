namespace Ministries.Ledger;

/// <content>Following the end of the ledger.</content>
public sealed partial class ServiceLedger
{
    private readonly RecentEntries _recentEntries;

    /// <summary>Whether the entries that are committed are kept in memory for a while, for those who follow them.</summary>
    public bool KeepsTail
    {
        get => _recentEntries.Wanted;
        set => _recentEntries.Wanted = value;
    }

    /// <summary>The entries from a position on, for one who tells all others of them; at most 256, none: there are no more at present.
    /// </summary>
    /// <param name="from">The position.</param>
    /// <param name="cancel">Cancels.</param>
    public async ValueTask<IReadOnlyList<TailEntry>> ReadTail(ulong from, CancellationToken cancel)
    {
        // No entry is told before a checkpoint covers it. So entries without one are left out, in memory and in the database.
        var size = Size;
        if (from >= size)
            return [];
        var most = (int)Math.Min(256, size - from);
        return _recentEntries.From(from, most)
            ?? await Read(
                async session =>
                    (await session.Entries(from, from + (ulong)most, null, null, most)).Select(row => new TailEntry(row, null)).ToArray(),
                cancel
            );
    }

    /// <summary>An entry that was committed so lately that it is still in memory; null: it is to be read.</summary>
    /// <param name="position">Its position.</param>
    public TailEntry? Recent(ulong position) => _recentEntries.Find(position);

    /// <summary>The number of entries at which a record of this kind may have come under other keys last
    /// (<see cref="StreamKind.KeysOf"/>), as far as this process knows (<see cref="Look"/>): while it stays the same, each key leads to
    /// the same records. It is known before whoever changed one is told.</summary>
    /// <param name="kind">The kind of records.</param>
    public ulong RelistedAt(StreamKind kind) => _recentEntries.RelistedAt(kind.Name);

    /// <summary>Looks whether other replicas wrote, unless somebody has looked within the last <paramref name="age"/>, as each commit
    /// does.</summary>
    /// <param name="age">The age.</param>
    /// <param name="cancel">Cancels.</param>
    public ValueTask Look(TimeSpan age, CancellationToken cancel)
    {
        return Environment.TickCount64 - _recentEntries.Looked <= age.TotalMilliseconds ? default : new(Now());

        async Task Now()
        {
            await _look.WaitAsync(cancel);
            try
            {
                if (Environment.TickCount64 - _recentEntries.Looked > age.TotalMilliseconds)
                    await LookNow(cancel);
            }
            finally
            {
                _look.Release();
            }
        }
    }

    // Only one caller looks at a time. The others get its result.
    private async Task LookNow(CancellationToken cancel)
    {
        var began = Environment.TickCount64;
        var size = (await Read(session => session.ReadHead(), cancel)).Size;
        _recentEntries.Saw(size, began);
        Grow(size);
    }
}
