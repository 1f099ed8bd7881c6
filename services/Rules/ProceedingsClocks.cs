using Google.Protobuf.WellKnownTypes;
using Ministries.Custody.V1;
using Ministries.Types.V1;

namespace Ministries.Rules;

/// <summary>The clocks of criminal proceedings (D12): the end of confinement before trial (GC III 103) and the notice of a trial (GC III
/// 104). They are computed from a prisoner's record alone, so that a reader of the record sees them run as the custody service
/// does.</summary>
public static class ProceedingsClocks
{
    /// <summary>How many months a prisoner is confined awaiting trial at most (GC III 103).</summary>
    public const int ConfinementMonths = 3;

    /// <summary>How long before it opens a trial is notified (GC III 104): three weeks.</summary>
    public static readonly TimeSpan TrialNotice = TimeSpan.FromDays(21);

    /// <summary>What is recorded of the proceedings of the present power. Another power's are that power's to answer for.</summary>
    /// <param name="prisoner">The record.</param>
    public static IEnumerable<Proceedings> OfPower(Prisoner prisoner) =>
        prisoner.Proceedings.Where(p => !p.Corrected && p.RecordedFor == prisoner.LastDetainingPower);

    /// <summary>The records of the present power that name a trial of which there is no notice: none that says in time what he is charged
    /// with, and none that is marked. One trial may be named more than once.</summary>
    /// <param name="prisoner">The record.</param>
    public static IEnumerable<Proceedings> UnnoticedTrials(Prisoner prisoner) =>
        OfPower(prisoner)
            .Where(p => p.TrialTime is not null)
            .GroupBy(p => p.TrialTime)
            .Where(trial => !trial.Any(p => IsNotice(p) || p.Breaches.Contains(Invariant.D12)))
            .SelectMany(trial => trial);

    /// <summary>When the notice of a trial is due that a record names.</summary>
    /// <param name="trial">The record of the trial.</param>
    public static Timestamp NoticeDue(Proceedings trial) => (trial.TrialTime.ToDateTimeOffset() - TrialNotice).ToTimestamp();

    // What is told later than that is no notice, whatever was told before and corrected since.
    private static bool IsNotice(Proceedings trial) => trial.NotifiesTrial && trial.Time <= NoticeDue(trial);

    /// <summary>When the present power will have confined him for three months in all while he awaits trial (GC III 103); null: what is
    /// recorded has ended before. Spells are added up, those under linked references, too; what two of them have in common counts once.
    /// </summary>
    /// <param name="prisoner">The record.</param>
    public static DateTimeOffset? ConfinementDue(Prisoner prisoner)
    {
        var spells = Spells(prisoner);
        if (spells.Length == 0)
            return null;
        var begun = spells[0].Start;
        var (left, until) = (begun.AddMonths(ConfinementMonths) - begun, DateTimeOffset.MinValue);
        foreach (var (start, end) in spells)
        {
            var from = start < until ? until : start;
            if (end <= from)
                continue;
            if (end - from >= left)
                return from + left;
            (left, until) = (left - (end - from), end);
        }
        return null;
    }

    /// <summary>Whether the present power confines him now, as far as is recorded: a spell has begun, and nothing says that it ended.
    /// </summary>
    /// <param name="prisoner">The record.</param>
    public static bool IsConfined(Prisoner prisoner) => Spells(prisoner).Any(s => s.End == DateTimeOffset.MaxValue);

    private static (DateTimeOffset Start, DateTimeOffset End)[] Spells(Prisoner prisoner)
    {
        var told = OfPower(prisoner).ToArray();
        return [.. told.GroupBy(p => p.RecordedUnder).SelectMany(p => Spells([.. p], told)).OrderBy(s => s.Start)];
    }

    // The spells of confinement that are recorded under one reference. One lasts from the earliest beginning that is recorded until an end
    // that is, whatever was recorded first. What was recorded under the kept reference since the link may be the end of either.
    private static IEnumerable<(DateTimeOffset Start, DateTimeOffset End)> Spells(
        IReadOnlyList<Proceedings> under,
        IEnumerable<Proceedings> all
    )
    {
        var joined = under[0].RecordedUnder.Length > 0 ? under[0].JoinedPosition : ulong.MaxValue;
        var ends = under
            .Concat(all.Where(p => p.RecordedUnder.Length == 0 && p.Position > joined))
            .SelectMany(p => (Timestamp?[])[p.ConfinementEndTime, p.CustodyPassTime])
            .OfType<Timestamp>()
            .Select(t => t.ToDateTimeOffset())
            .Order()
            .ToArray();
        var until = DateTimeOffset.MinValue;
        foreach (var start in under.Select(p => p.ConfinedSinceTime).OfType<Timestamp>().Select(t => t.ToDateTimeOffset()).Order())
        {
            // A beginning within a spell begins none.
            if (start < until)
                continue;
            until = ends.FirstOrDefault(e => e > start, DateTimeOffset.MaxValue);
            yield return (start, until);
        }
    }
}
