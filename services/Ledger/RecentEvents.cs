namespace Ministries.Ledger;

/// <summary>The last events that this process committed, so that the relay need not read them back. Older events, larger events and
/// events of other replicas are in the database alone.</summary>
internal sealed class RecentEvents
{
    private const int Kept = 2048;
    private const int MaxBytes = 16 << 10;

    private readonly NumberedEvent?[] _events = new NumberedEvent?[Kept];
    private volatile Tuple<ulong, ulong> _head = new(0, 0);

    /// <summary>Whether the relay reads them. Without it no event is kept.</summary>
    public bool Wanted { get; private set; }

    /// <summary>Keeps an event that is committed.</summary>
    public void Keep(NumberedEvent e)
    {
        if (e.Event.Event.Data.Length <= MaxBytes)
            Volatile.Write(ref _events[e.Number % Kept], e);
    }

    /// <summary>Notes how many entries and events there are.</summary>
    public void Come(ulong entries, ulong events) => _head = new(entries, events);

    /// <summary>The events that follow upon a number, as far as they are here without a gap; null: the database must be asked.</summary>
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
