using System.Globalization;

namespace Ministries.Ledger;

/// <summary>
/// Compares this machine's clock with the time that only goes forward, with the database's clock and with the ledger's last entry. Where
/// they disagree nothing is committed, because one entry with a wrong time would date all later ones: a ledger's time never goes back.
/// </summary>
/// <param name="time">The clock, and the time that only goes forward.</param>
/// <param name="compares">Whether the database's clock is compared too.</param>
internal sealed class ClockGuard(TimeProvider time, bool compares)
{
    /// <summary>How far the clock may deviate from the monotonic time between two looks: 2 seconds. While a ledger is open, the clock is
    /// looked at every two seconds and at each commit.</summary>
    internal static readonly TimeSpan Step = TimeSpan.FromSeconds(2);

    /// <summary>How far the clock may be from the database's, and behind the ledger's last entry: 5 seconds.</summary>
    internal static readonly TimeSpan Difference = TimeSpan.FromSeconds(5);

    /// <summary>How long the clock must run evenly and agree with the database's clock after a step before it is trusted again: 60 seconds.
    /// Without a database's clock, a changed clock is trusted only after a restart, unless it goes back to where it was.</summary>
    internal static readonly TimeSpan Steady = TimeSpan.FromSeconds(60);

    private readonly Lock _access = new();

    // Where the clock stood when it was last trusted, and where it stood when it first agreed with the database after a step.
    private (DateTimeOffset Wall, long At) _trusted = (time.GetUtcNow(), time.GetTimestamp());
    private (DateTimeOffset Wall, long At)? _candidate;
    private volatile string? _fault;

    /// <summary>What was wrong when the clock was looked at last; null: nothing.</summary>
    public string? Fault => _fault;

    /// <summary>Compares with the time that only goes forward alone.</summary>
    /// <returns>What is wrong; null: nothing.</returns>
    public string? Look()
    {
        lock (_access)
            return _fault is not null || Moved(_trusted) > Step ? _fault ??= Jumped(Moved(_trusted)) : null;
    }

    /// <summary>Compares all clocks.</summary>
    /// <param name="before">What this clock said before the database was asked.</param>
    /// <param name="database">What the database's clock said; null: it has none of its own.</param>
    /// <param name="last">The time of the ledger's last entry, in ticks of UTC.</param>
    /// <returns>What is wrong; null: nothing.</returns>
    public string? Look(DateTimeOffset before, DateTimeOffset? database, long last)
    {
        lock (_access)
        {
            var (now, at) = (time.GetUtcNow(), time.GetTimestamp());
            bool? agrees = compares && database is { } there ? there >= before - Difference && there <= now + Difference : null;
            var moved = Moved(_trusted);
            if (moved > Step && !IsSteady(agrees, (now, at)))
                return _fault = Jumped(moved);
            (_trusted, _candidate) = ((now, at), null);
            return _fault =
                agrees == false
                    ? $"this machine's clock and the database's differ by {Seconds((now - database!.Value).Duration())} s"
                    : Ahead(last, now);
        }
    }

    /// <summary>How far ahead of a clock the ledger's last entry is, if that is too far; null: it is not.</summary>
    internal static string? Ahead(long last, DateTimeOffset now) =>
        last - now.UtcTicks > Difference.Ticks
            ? $"the ledger's last entry is {Seconds(TimeSpan.FromTicks(last - now.UtcTicks))} s ahead of this machine's clock"
            : null;

    private bool IsSteady(bool? agrees, (DateTimeOffset Wall, long At) now)
    {
        if (agrees != true)
        {
            _candidate = null;
            return false;
        }
        if (_candidate is not { } since || Moved(since) > Step)
        {
            _candidate = now;
            return false;
        }
        return time.GetElapsedTime(since.At, now.At) >= Steady;
    }

    // How far the clock moved against the time that only goes forward.
    private TimeSpan Moved((DateTimeOffset Wall, long At) since) =>
        (time.GetUtcNow() - since.Wall - time.GetElapsedTime(since.At)).Duration();

    private static string Jumped(TimeSpan moved) => $"this machine's clock jumped by {Seconds(moved)} s";

    private static string Seconds(TimeSpan time) => time.TotalSeconds.ToString("F0", CultureInfo.InvariantCulture);
}
