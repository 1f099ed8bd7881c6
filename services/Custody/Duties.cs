using Google.Protobuf.WellKnownTypes;
using Ministries.Custody.V1;
using Ministries.Errors.V1;
using Ministries.Types.V1;

namespace Ministries.Custody;

/// <summary>
/// The duties that custody records, each once, when they fall due: a notification to bureau and Central Tracing Agency (D14), the weekly
/// report on a seriously ill or wounded prisoner, the review of a decision to withhold data (D15), the end of confinement before trial and
/// the notice of a trial (D12). Custody also records when a document on which a departure rests is no longer valid. The consular service
/// then asks for standing again. The event does not tell whose health or wish it is about (D16). After a link, custody also copies
/// proceedings from the other record to the kept one.
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

    /// <summary>The notice of a trial, three weeks before it opens (GC III 104).</summary>
    public const string TrialNotice = "trial-notice";

    /// <summary>All of them.</summary>
    public static readonly IReadOnlyList<Duty> All = [new Duty(Prisoners.Kind, FallDue) { Besides = [ProceedingsJoined.Descriptor] }];

    /// <summary>Records what has fallen due by now; refused where nothing has.</summary>
    public static Decision FallDue(string key, RuleContext context)
    {
        if (context.Find(Prisoners.Kind, key) is not { } prisoner)
            return Decision.Refuse(Reason.NotFound);
        // The due times of proceedings are known only once the proceedings are joined.
        if (UnjoinedOf(prisoner, context) is { Length: > 0 } unjoined)
            return Decision.Accept(
                prisoner.Case,
                AudienceOf(prisoner, unjoined),
                Array.ConvertAll(unjoined, d => Prisoners.Record.On(prisoner, Join(d)))
            );
        // The former power must not learn from its old reference whether the new power reports on the prisoner's health in time (D22). Only
        // the observers see that.
        var hidden = prisoner.PassedElsewhere && prisoner.HealthDueTime?.ToDateTimeOffset() <= context.Now ? prisoner.HealthDueTime : null;
        var owed = hidden is null ? Running(prisoner) : Others(prisoner).Where(d => d.Due <= hidden);
        Change[] due =
        [
            .. owed.Where(d => d.Due.ToDateTimeOffset() <= context.Now)
                .Distinct()
                .OrderBy(d => d.Due)
                .ThenBy(d => d.Duty)
                .Select(d => Fell(prisoner, d.Duty, d.Due)),
        ];
        return due.Length > 0 ? Decision.Accept(prisoner.Case, Prisoners.SideOf(prisoner), due)
            : hidden is null ? Decision.Refuse(Reason.StateNotAllowed)
            : Decision.Accept(prisoner.Case, [Audience.Observers(prisoner.Case)], [Fell(prisoner, Notification, hidden)]);
    }

    private static Change Fell(Prisoner prisoner, string duty, Timestamp due) =>
        Prisoners.Record.On(prisoner, new DutyFellDue { Duty = duty, DueTime = due });

    /// <summary>When the record's next duty falls due; null: none runs.</summary>
    internal static DateTimeOffset? DueOf(Prisoner prisoner) =>
        Running(prisoner)
            .Select(d => d.Due)
            // Proceedings are joined at once, so their due time has already passed.
            .Concat(NotJoined(prisoner).Select(_ => prisoner.RegisterTime))
            .Select(d => (DateTimeOffset?)d.ToDateTimeOffset())
            .Min();

    private static IEnumerable<string> NotJoined(Prisoner prisoner) => prisoner.Duplicates.Except(prisoner.JoinedDuplicates);

    private static Prisoner[] UnjoinedOf(Prisoner prisoner, RuleContext context) =>
        [.. NotJoined(prisoner).Select(d => Prisoners.Find(context, prisoner.Case, d)).OfType<Prisoner>()];

    // The audience of the event that joins proceedings. If another power held the prisoner under the other reference, the present power
    // does not learn what that power recorded (D22). It then never sees this event, so that a missing event tells nothing either.
    private static string[] AudienceOf(Prisoner prisoner, IEnumerable<Prisoner> joined) =>
        joined.SelectMany(d => d.Statuses).All(s => s.RecordedFor == prisoner.LastDetainingPower)
            ? Prisoners.SideOf(prisoner)
            : [Audience.Observers(prisoner.Case)];

    private static ProceedingsJoined Join(Prisoner duplicate) =>
        new()
        {
            Duplicate = duplicate.Prisoner_,
            Proceedings =
            {
                duplicate
                    .Proceedings.Where(p => p is { Corrected: false, RecordedUnder: "" })
                    .Select(p => new JoinedProceedings
                    {
                        Position = p.Position,
                        Time = p.Time,
                        Participant = p.Participant,
                        RecordedFor = p.RecordedFor,
                        ConfinedSinceTime = p.ConfinedSinceTime,
                        ConfinementEndTime = p.ConfinementEndTime,
                        CustodyPassTime = p.CustodyPassTime,
                        TrialTime = p.TrialTime,
                        NotifiesTrial = p.NotifiesTrial,
                        WithoutNotice = p.Breaches.Contains(Invariant.D12),
                    }),
            },
        };

    private static IEnumerable<(string Duty, Timestamp Due)> Running(Prisoner prisoner) =>
        prisoner.HealthDueTime is { } health ? Others(prisoner).Prepend((Notification, health)) : Others(prisoner);

    // All duties except the health reports.
    private static IEnumerable<(string Duty, Timestamp Due)> Others(Prisoner prisoner)
    {
        foreach (var occurrence in prisoner.Occurrences.Where(o => Prisoners.IsOwed(o) && !o.Overdue))
            yield return (Notification, occurrence.DueTime);
        foreach (var withheld in prisoner.Notifications.Where(n => n is { Corrected: false, ReviewDue: false, ReviewTime: not null }))
            yield return (DisclosureReview, withheld.ReviewTime);
        // Under a reference that is no longer kept nobody is held: what was recorded there runs until custody has ended.
        if (prisoner.DuplicateOf.Length > 0 ? prisoner.EndedElsewhere : !prisoner.Held)
            yield break;
        // The clocks of proceedings are the person's, and run on the record that is kept.
        if (prisoner.DuplicateOf.Length == 0)
        {
            if (
                ProceedingsClocks.OfPower(prisoner).Any(p => p is { ConfinedSinceTime: not null, ConfinementOverdue: false })
                && ProceedingsClocks.ConfinementDue(prisoner) is { } end
            )
                yield return (Confinement, end.ToTimestamp());
            var trials = ProceedingsClocks.UnnoticedTrials(prisoner).GroupBy(p => p.TrialTime);
            foreach (var trial in trials.Where(t => !t.Any(p => p.TrialNoticeOverdue)))
                yield return (TrialNotice, ProceedingsClocks.NoticeDue(trial.First()));
        }
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
}
