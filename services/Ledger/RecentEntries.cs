using System.Collections.Concurrent;

namespace Ministries.Ledger;

/// <summary>The last entries that this process committed, with their parts, and the positions at which records changed their list keys.
/// Older entries, larger entries and entries of other replicas are in the database alone.</summary>
internal sealed class RecentEntries
{
    // The limits: number of entries, bytes of one entry with its parts, bytes in all, and age. The age is limited because another replica
    // may have erased a part.
    private const int Kept = 1024,
        MaxBytes = 64 << 10;
    private const long AllBytes = 8 << 20,
        MaxAge = 5_000;

    private readonly Lock _lock = new();
    private readonly TailEntry?[] _entries = new TailEntry?[Kept];

    // The positions are kept for the list keys that somebody asked for. These are participants' keys, of which there are few.
    private readonly ConcurrentDictionary<(string Kind, string Key), ulong> _relisted = [];

    // A ring of the entries from _first to before _next, each at its position modulo the length.
    private ulong _first,
        _next,
        _others,
        _known;
    private long _bytes,
        _looked;
    private volatile bool _wanted;

    /// <summary>Whether somebody follows the ledger. Without followers no entry is kept.</summary>
    public bool Wanted
    {
        get => _wanted;
        set
        {
            lock (_lock)
            {
                _wanted = value;
                if (!value)
                    Clear(_next);
            }
        }
    }

    /// <summary>When the database was looked at last.</summary>
    public long Looked => Volatile.Read(ref _looked);

    // A key counts as changed when it is first asked for. Whoever asks reads the records after that.
    public ulong RelistedAt(string kind, string key) =>
        Math.Max(_relisted.GetOrAdd((kind, key), _ => Volatile.Read(ref _known)), Volatile.Read(ref _others));

    /// <summary>Whether others committed entries that may have changed the keys of records: those of a case. What is of no case changes no
    /// keys but those of the service's own records.</summary>
    /// <param name="session">Where the entries were seen.</param>
    /// <param name="size">How many.</param>
    public async ValueTask<bool> MayRelist(Session session, ulong size)
    {
        ulong known;
        lock (_lock)
            known = _known;
        return size > known && await session.HasCase(known, size);
    }

    /// <summary>Notes that the database had this many entries.</summary>
    /// <param name="size">How many.</param>
    /// <param name="mayRelist">Whether one of those that were not known may have changed the keys of records.</param>
    /// <param name="at">When they were looked for.</param>
    public void NoteSize(ulong size, bool mayRelist, long at)
    {
        lock (_lock)
        {
            if (mayRelist && size > _known)
                _others = size;
            _known = Math.Max(_known, size);
            _looked = Math.Max(_looked, at);
        }
    }

    /// <summary>Keeps what was just committed.</summary>
    /// <param name="rows">What was written.</param>
    /// <param name="size">The number of entries now.</param>
    public void Keep(Rows rows, ulong size)
    {
        foreach (var changed in rows.Keys.Concat(rows.RemovedKeys).Select(k => (k.Kind, k.Token)))
            if (_relisted.ContainsKey(changed))
                _relisted[changed] = size;
        List<TailEntry> entries = [];
        if (_wanted)
            foreach (var added in rows.Entries)
            {
                var entry = new TailEntry(added.Row, added.Parts);
                entries.Add(entry.Bytes > MaxBytes ? entry.WithoutParts() : entry);
            }
        lock (_lock)
        {
            _known = Math.Max(_known, size);
            _looked = Environment.TickCount64;
            if (!_wanted || entries.Count == 0)
                return;
            // The kept entries have no gaps.
            if (_next != entries[0].Position)
                Clear(entries[0].Position);
            foreach (var entry in entries)
            {
                if (_next - _first == Kept)
                    DropFirst();
                _entries[_next++ % Kept] = entry;
                _bytes += entry.Bytes;
                while (_bytes > AllBytes)
                    DropFirst();
            }
        }
    }

    /// <summary>Forgets an entry's parts: one of them was erased.</summary>
    public void Forget(ulong position)
    {
        lock (_lock)
            if (position >= _first && position < _next)
                Clear(_next);
    }

    /// <summary>Entries from a position on; null: it is not here.</summary>
    public IReadOnlyList<TailEntry>? From(ulong position, int most)
    {
        lock (_lock)
        {
            if (position < _first || position >= _next)
                return null;
            var found = new TailEntry[(int)Math.Min((ulong)most, _next - position)];
            for (var i = 0; i < found.Length; i++)
                found[i] = _entries[(position + (ulong)i) % Kept]!;
            return found;
        }
    }

    public TailEntry? Find(ulong position)
    {
        lock (_lock)
            return
                position >= _first
                && position < _next
                && _entries[position % Kept] is { } found
                && Environment.TickCount64 - found.Since <= MaxAge
                ? found
                : null;
    }

    private void DropFirst()
    {
        var place = _first++ % Kept;
        _bytes -= _entries[place]!.Bytes;
        _entries[place] = null;
    }

    private void Clear(ulong next)
    {
        Array.Clear(_entries);
        (_first, _next, _bytes) = (next, next, 0);
    }
}
