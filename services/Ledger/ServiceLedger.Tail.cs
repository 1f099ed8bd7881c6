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

    /// <summary>The entries from a position on, for the one reader that notifies all others; at most 256. None: there are no more at
    /// present.</summary>
    /// <param name="from">The position.</param>
    /// <param name="cancel">Cancels.</param>
    public async ValueTask<IReadOnlyList<TailEntry>> ReadTail(ulong from, CancellationToken cancel)
    {
        // No entry is shown before a checkpoint covers it. So entries without one are left out, in memory and in the database.
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

    /// <summary>An entry that is still in memory since its commit; null: it must be read.</summary>
    /// <param name="position">Its position.</param>
    public TailEntry? Recent(ulong position) => _recentEntries.Find(position);

    /// <summary>The number of entries when the records under a key (<see cref="StreamKind.KeysOf"/>) may last have changed, as far as this
    /// process knows (<see cref="Look"/>). While the number stays the same, the key leads to the same records. It changes before the caller
    /// that changed a record is answered.</summary>
    /// <param name="kind">The kind of records. Only entries of a case may change their keys.</param>
    /// <param name="key">The key.</param>
    public ulong RelistedAt(StreamKind kind, string key) => _recentEntries.RelistedAt(kind.Name, key);

    /// <summary>The number of entries whose changes <see cref="RelistedAt"/> takes into account. Records that are read afterwards show all
    /// of these changes. So a list that was read holds as long as <see cref="RelistedAt"/> is not greater.</summary>
    public ulong NotedSize => _recentEntries.Known;

    /// <summary>Looks whether other replicas wrote, unless this process has looked within the last <paramref name="age"/>. Each commit
    /// looks too.</summary>
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
        var size = await Read(
            async session =>
            {
                var head = await session.ReadHead();
                await Replicate(session, head.Size);
                _recentEntries.NoteHead(head, await _recentEntries.MayRelist(session, head), began);
                return head.Size;
            },
            cancel
        );
        Grow(size);
    }
}
