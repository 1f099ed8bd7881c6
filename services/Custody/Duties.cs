using Google.Protobuf.WellKnownTypes;
using Ministries.Custody.V1;
using Ministries.Errors.V1;

namespace Ministries.Custody;

/// <summary>
/// What custody records when its time has come, each once: a notification that bureau and Central Tracing Agency have not had (D14), the
/// weekly report on one seriously ill or wounded, the review of a decision to withhold data (D15), and the end of the validity of what a
/// departure rests on, upon which the consular service asks for standing again. The event does not tell whose health or wish it is about
/// (D16).
/// </summary>
public static class Duties
{
    /// <summary>The duty to notify bureau and Central Tracing Agency.</summary>
    public const string Notification = "bureau-notification";

    /// <summary>The end of a statement's, an assessment's or a fitness record's validity.</summary>
    public const string Validity = "validity";

    /// <summary>The duty to review a decision to withhold data from a power of origin.</summary>
    public const string DisclosureReview = "disclosure-review";

    /// <summary>The end of confinement awaiting trial, which lasts three months at most (GC III 103).</summary>
    public const string Confinement = "confinement";

    /// <summary>All of them.</summary>
    public static readonly IReadOnlyList<Duty> All = [new Duty(Prisoners.Kind, FallDue)];

    /// <summary>Records what has fallen due by now; refused where nothing has.</summary>
    public static Decision FallDue(string key, RuleContext context)
    {
        if (context.Find(Prisoners.Kind, key) is not { } prisoner)
            return Decision.Refuse(Reason.NotFound);
        var due = Running(prisoner)
            .Where(d => d.Due.ToDateTimeOffset() <= context.Now)
            .Distinct()
            .OrderBy(d => d.Due)
            .ThenBy(d => d.Duty)
            .Select(d => Prisoners.Record.On(prisoner, new DutyFellDue { Duty = d.Duty, DueTime = d.Due }))
            .ToArray();
        return due.Length == 0 ? Decision.Refuse(Reason.StateNotAllowed) : Decision.Accept(prisoner.Case, Prisoners.SideOf(prisoner), due);
    }

    /// <summary>When the record's next duty falls due; null: none runs.</summary>
    internal static DateTimeOffset? DueOf(Prisoner prisoner) =>
        Running(prisoner).Select(d => (DateTimeOffset?)d.Due.ToDateTimeOffset()).Min();

    private static IEnumerable<(string Duty, Timestamp Due)> Running(Prisoner prisoner)
    {
        foreach (var occurrence in prisoner.Occurrences.Where(o => Prisoners.IsOwed(o) && !o.Overdue))
            yield return (Notification, occurrence.DueTime);
        if (prisoner.HealthDueTime is { } health)
            yield return (Notification, health);
        foreach (var withheld in prisoner.Notifications.Where(n => n is { Corrected: false, ReviewDue: false, ReviewTime: not null }))
            yield return (DisclosureReview, withheld.ReviewTime);
        // Under a reference that is no longer kept nobody is held: what was recorded there runs until custody has ended.
        if (prisoner.DuplicateOf.Length > 0 ? prisoner.EndedElsewhere : !prisoner.Held)
            yield break;
        if (
            ConfinedFor(prisoner).Any(p => p is { ConfinedSinceTime: not null, ConfinementOverdue: false })
            && ConfinementDue(prisoner) is { } end
        )
            yield return (Confinement, end.ToTimestamp());
        foreach (
            var expires in prisoner
                .Statements.Where(s => s.State == StatementState.Attested)
                .Select(s => s.ExpireTime)
                .Concat(prisoner.RiskAssessments.Where(a => !a.Corrected).Select(a => a.ExpireTime))
                .Concat(prisoner.Fitness.Where(f => !f.Corrected).Select(f => f.ExpireTime))
        )
            if (prisoner.ValidityReportedTime is null || expires > prisoner.ValidityReportedTime)
                yield return (Validity, expires);
    }

    /// <summary>When the present power will have confined him for three months in all while he awaits trial (GC III 103); null: what is
    /// recorded has ended before. A spell lasts from the earliest beginning that is recorded until an end that is, whatever was recorded
    /// first, and spells are added up.</summary>
    private static DateTimeOffset? ConfinementDue(Prisoner prisoner)
    {
        var told = ConfinedFor(prisoner).ToArray();
        var starts = told.Select(p => p.ConfinedSinceTime).OfType<Timestamp>().Select(t => t.ToDateTimeOffset()).Order().ToArray();
        if (starts.Length == 0)
            return null;
        var ends = told.SelectMany(p => (Timestamp?[])[p.ConfinementEndTime, p.CustodyPassTime])
            .OfType<Timestamp>()
            .Select(t => t.ToDateTimeOffset())
            .Order()
            .ToArray();
        var (left, until) = (starts[0].AddMonths(Prisoners.ConfinementMonths) - starts[0], DateTimeOffset.MinValue);
        foreach (var start in starts)
        {
            // A beginning within a spell begins none.
            if (start < until)
                continue;
            var end = ends.FirstOrDefault(e => e > start);
            if (end == default || end - start >= left)
                return start + left;
            (left, until) = (left - (end - start), end);
        }
        return null;
    }

    // Another power's confinement is that power's to answer for.
    private static IEnumerable<Proceedings> ConfinedFor(Prisoner prisoner) =>
        prisoner.Proceedings.Where(p => !p.Corrected && p.RecordedFor == prisoner.LastDetainingPower);
}
