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

    // Positions are kept only for list keys that were asked for. These are participants' keys, so there are few.
    private readonly ConcurrentDictionary<(string Kind, string Key), ulong> _relisted = [];

    // The current or last commit of this process: the head that it makes, and the keys that it changes. It is kept after a commit whose
    // outcome is unknown, because the tree shows later whether the commit took place.
    private (Head? Head, IReadOnlyList<(string Kind, string Key)> Changed) _committing = (null, []);

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

    /// <summary>The number of entries whose changes <see cref="RelistedAt"/> takes into account. Whatever is read afterwards shows all of
    /// these changes.</summary>
    public ulong Known
    {
        get
        {
            lock (_lock)
                return _known;
        }
    }

    // A key counts as changed when it is first asked for. The call waits for a commit that is just being noted.
    public ulong RelistedAt(string kind, string key)
    {
        if (!_relisted.TryGetValue((kind, key), out var at))
            lock (_lock)
                at = _relisted.GetOrAdd((kind, key), _known);
        return Math.Max(at, Volatile.Read(ref _others));
    }

    /// <summary>Whether others committed entries that may have changed records' keys. Only entries of a case may; other entries change only
    /// keys of the service's own records.</summary>
    /// <param name="session">The session in which the entries were seen.</param>
    /// <param name="head">The head that was seen.</param>
    public async ValueTask<bool> MayRelist(Session session, Head head)
    {
        ulong known;
        lock (_lock)
        {
            if (head.Size <= _known || IsCommitting(head))
                return false;
            known = _known;
        }
        return await session.HasCase(known, head.Size);
    }

    /// <summary>Notes that the database had this head.</summary>
    /// <param name="head">The head.</param>
    /// <param name="mayRelist">Whether one of the entries that were not known may have changed the keys of records
    /// (<see cref="MayRelist"/>).</param>
    /// <param name="at">When the head was read.</param>
    public void NoteHead(Head head, bool mayRelist, long at)
    {
        lock (_lock)
        {
            if (head.Size > _known && IsCommitting(head))
                Relist(head.Size);
            else if (mayRelist && head.Size > _known)
                _others = head.Size;
            _known = Math.Max(_known, head.Size);
            _looked = Math.Max(_looked, at);
        }
    }

    /// <summary>Notes the rows that are about to be committed. Another connection may see them before <see cref="Keep"/>.</summary>
    /// <param name="rows">What was written.</param>
    /// <param name="head">The head that it makes.</param>
    public void Begin(Rows rows, Head head)
    {
        List<(string, string)> changed = [.. rows.Keys.Concat(rows.RemovedKeys).Select(k => (k.Kind, k.Token))];
        lock (_lock)
            _committing = (head, changed);
    }

    /// <summary>Keeps the rows that were just committed.</summary>
    /// <param name="rows">The rows, as given to <see cref="Begin"/>.</param>
    /// <param name="size">The number of entries now.</param>
    public void Keep(Rows rows, ulong size)
    {
        List<TailEntry> entries = [];
        if (_wanted)
            foreach (var added in rows.Entries)
            {
                var entry = new TailEntry(added.Row, added.Parts);
                entries.Add(entry.Bytes > MaxBytes ? entry.WithoutParts() : entry);
            }
        lock (_lock)
        {
            Relist(size);
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

    // The tree's edge distinguishes the own commit from another replica's commit with equally many entries.
    private bool IsCommitting(Head head) =>
        _committing.Head is { } own && own.Size == head.Size && own.Edge.AsSpan().SequenceEqual(head.Edge);

    // Notes that the own commit changed records' keys.
    private void Relist(ulong size)
    {
        foreach (var changed in _committing.Changed)
            if (_relisted.ContainsKey(changed))
                _relisted[changed] = size;
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
