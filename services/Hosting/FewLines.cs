namespace Ministries.Hosting;

/// <summary>Limits a log: for each kind, one line a minute is written, and later the number of lines that were left out. So nobody can fill
/// the disk by causing log lines.</summary>
/// <typeparam name="TKind">The kinds of lines, of which there are few.</typeparam>
/// <param name="time">The clock.</param>
/// <param name="more">Writes how many lines of a kind were left out.</param>
internal sealed class FewLines<TKind>(TimeProvider time, Action<TKind, long> more) : IDisposable
    where TKind : notnull
{
    private static readonly TimeSpan Interval = TimeSpan.FromMinutes(1);

    private readonly Lock _lock = new();
    private readonly Dictionary<TKind, (long Since, long LeftOut)> _told = [];
    private ITimer? _timer;
    private bool _disposed;

    /// <summary>Whether a line is written now; if not, it is counted.</summary>
    /// <param name="kind">The kind of the line.</param>
    public bool Writes(TKind kind)
    {
        long leftOut;
        lock (_lock)
        {
            if (_told.TryGetValue(kind, out var told) && time.GetElapsedTime(told.Since) < Interval)
            {
                _told[kind] = (told.Since, told.LeftOut + 1);
                if (!_disposed)
                    _timer ??= time.CreateTimer(_ => WriteOver(), null, Interval, Interval);
                return false;
            }
            leftOut = told.LeftOut;
            _told[kind] = (time.GetTimestamp(), 0);
        }
        if (leftOut > 0)
            more(kind, leftOut);
        return true;
    }

    /// <summary>Writes how many lines were left out in the minutes that are over. A timer calls this, so the number is written about a
    /// minute late at most.</summary>
    public void WriteOver() => Write(told => time.GetElapsedTime(told) >= Interval);

    /// <summary>Writes how many lines were left out, and stops the timer.</summary>
    public void Dispose()
    {
        lock (_lock)
        {
            _disposed = true;
            _timer?.Dispose();
            _timer = null;
        }
        Write(_ => true);
    }

    private void Write(Func<long, bool> isOver)
    {
        List<(TKind Kind, long LeftOut)> over = [];
        lock (_lock)
        {
            foreach (var (kind, told) in _told)
                if (told.LeftOut > 0 && isOver(told.Since))
                    over.Add((kind, told.LeftOut));
            // Lines from here on count for the next minute.
            foreach (var (kind, _) in over)
                _told[kind] = (time.GetTimestamp(), 0);
            if (_told.Values.All(t => t.LeftOut == 0))
            {
                _timer?.Dispose();
                _timer = null;
            }
        }
        foreach (var (kind, leftOut) in over)
            more(kind, leftOut);
    }
}
