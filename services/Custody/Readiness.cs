using Ministries.Custody.V1;
using Ministries.Types.V1;
using Route = Ministries.Types.V1.Route;

namespace Ministries.Custody;

/// <summary>What custody has recorded that a departure needs, and which invariants a departure would breach.</summary>
public static class Readiness
{
    /// <summary>Custody's answer about a departure, except standing (D1, D10, D11, D12). The caller sets the position. Entries under any
    /// reference of the person count.</summary>
    /// <param name="records">The prisoner's record and those of the same person that are no longer kept.</param>
    /// <param name="route">The way in which he is to leave.</param>
    /// <param name="destination">The destination (ISO 3166-1 alpha-2).</param>
    /// <param name="at">The time.</param>
    /// <param name="permissions">The agreement.</param>
    public static CheckReadinessResponse Of(
        IReadOnlyList<Prisoner> records,
        Route route,
        string destination,
        DateTimeOffset at,
        Permissions permissions
    )
    {
        var prisoner = records[0];
        if (prisoner.Identity is null)
            return new CheckReadinessResponse();
        return new CheckReadinessResponse
        {
            RiskAssessed = IsRiskAssessed(records, destination, at),
            FitRecorded = IsFit(records, at),
            FreeToDepart = prisoner.Held && !IsDelayed(records),
            InTransit = prisoner.State == CustodyState.InTransit,
            RouteFits = Fits(route, destination, records, permissions),
            DestinationIsOrigin = PowersOfOrigin(records, permissions).Any(c => c.StateClaimed == destination),
        };
    }

    // Whether the destination fits the route (D2).
    private static bool Fits(Route route, string destination, IReadOnlyList<Prisoner> records, Permissions permissions) =>
        route switch
        {
            Route.Repatriation => PowersOfOrigin(records, permissions).Any(c => c.StateClaimed == destination),
            Route.Exchange => PowersOfOrigin(records, permissions)
                .Any(c => c.StateClaimed == destination && c.Basis is ClaimBasis.ArmedForces or ClaimBasis.SideFoughtOn),
            Route.NeutralAccommodation => permissions.State(destination) is { Neutral: true },
            Route.Unspecified => false,
            _ => true,
        };

    // The claims by which he depends on a power: those that the power that holds him recorded as its own view or as recognised by it. The
    // software never decides who is whose citizen.
    private static IEnumerable<Claim> PowersOfOrigin(IReadOnlyList<Prisoner> records, Permissions permissions)
    {
        var power = records[0].LastDetainingPower;
        return records
            .SelectMany(r => r.Claims)
            .Where(c =>
                Prisoners.SaysOrigin(c)
                && permissions.Participant(c.Participant)?.ActsFor(power) == true
                && (c.Claimant == power || c.RecognisedBy.Contains(power))
            );
    }

    // The present power's assessment that was made last (D11). Of an erased assessment only the time of recording is known, so it counts
    // from then on against every destination.
    private static bool IsRiskAssessed(IReadOnlyList<Prisoner> records, string destination, DateTimeOffset at) =>
        records
            .SelectMany(r => r.RiskAssessments)
            .Where(a => !a.Corrected && a.RecordedFor == records[0].LastDetainingPower)
            .Where(a => a.AssessTime is null || a.Destination == destination)
            .MaxBy(a => ((a.AssessTime ?? a.ExpireTime).ToDateTimeOffset(), a.Position))
            is { AssessTime: not null, Finding: RiskFinding.NoSubstantialRisk } latest
        && latest.ExpireTime.ToDateTimeOffset() > at;

    // The examination that was made last (D10). Only the present power's finding that he is fit counts. A finding that he is unfit, or an
    // admission to hospital, counts whichever power recorded it. An erased examination counts as a finding that he was unfit when it was
    // recorded.
    private static bool IsFit(IReadOnlyList<Prisoner> records, DateTimeOffset at) =>
        records
            .SelectMany(r => r.Fitness)
            .Where(f => !f.Corrected && (!f.Fit || f.RecordedFor == records[0].LastDetainingPower))
            .MaxBy(f => ((f.ExamineTime ?? f.ExpireTime).ToDateTimeOffset(), f.Position))
            is { Fit: true } latest
        && latest.ExpireTime.ToDateTimeOffset() > at
        && !records
            .SelectMany(r => r.Statuses)
            .Any(s =>
                s is { Corrected: false, State: CustodyState.Hospitalised or CustodyState.Unspecified }
                && s.Time.ToDateTimeOffset() >= latest.ExamineTime.ToDateTimeOffset()
            );

    // Whether proceedings delay a departure (D12). Proceedings that were pending under another reference at the time of the link are lifted
    // only by a later record under the kept reference.
    private static bool IsDelayed(IReadOnlyList<Prisoner> records)
    {
        var word = Latest(records[0]);
        return word is { Delay: true }
            || records.Skip(1).Any(other => Latest(other) is { Delay: true } && !(word?.Position > LinkedAt(other)));

        Proceedings? Latest(Prisoner record) =>
            record.Proceedings.LastOrDefault(p =>
                p is { Corrected: false, RecordedUnder: "" } && p.RecordedFor == records[0].LastDetainingPower
            );
    }

    // The entry by which the record is no longer kept: the observer's, which is later than the proposal.
    private static ulong LinkedAt(Prisoner duplicate) =>
        duplicate.Entries.LastOrDefault(e => !e.Corrected && e.OtherPrisoner == duplicate.DuplicateOf)?.Position ?? ulong.MaxValue;

    /// <summary>The invariants that a departure would breach, in the order in which they are refused: D1, D2, D9, D10, D11, D12. A
    /// release where he is held is no departure and breaches none.</summary>
    /// <param name="records">The prisoner's record and those of the same person that are no longer kept.</param>
    /// <param name="departure">The departure.</param>
    /// <param name="context">The states and the time.</param>
    /// <param name="stands">Given the case, whether his word stands for the departure.</param>
    /// <param name="assured">Whether the consular service has asked for the receiving state's assurance where one is needed.</param>
    internal static Invariant[] Breaches(
        IReadOnlyList<Prisoner> records,
        Departure departure,
        RuleContext context,
        Func<Case, bool> stands,
        bool assured = true
    )
    {
        var (route, destination) = departure;
        var prisoner = records[0];
        if (route == Route.Release && destination == prisoner.LastDetainingPower)
            return [];
        var standing = stands(context.Find(Cases.Kind, prisoner.Case)!);
        var ready = Of(records, route, destination, context.Now, context.Permissions);
        // No sick or wounded prisoner goes home against his will during hostilities (109(3)).
        var unwilling =
            !standing
            && route is Route.Repatriation or Route.Exchange
            && context.Permissions.Agreement.Hostilities
            && records.Any(r => r.Serious);
        return
        [
            .. prisoner.Held ? (Invariant[])[] : [Invariant.D1],
            .. ready.RouteFits && (assured || ready.DestinationIsOrigin) && IsParty(destination, context.Permissions)
                ? (Invariant[])[]
                : [Invariant.D2],
            .. standing ? (Invariant[])[] : [Invariant.D9],
            .. ready.FitRecorded && !unwilling ? (Invariant[])[] : [Invariant.D10],
            .. ready.RiskAssessed ? (Invariant[])[] : [Invariant.D11],
            .. ready.FreeToDepart || !prisoner.Held ? (Invariant[])[] : [Invariant.D12],
        ];
    }

    /// <summary>Whether a state is a party to the Convention, as the agreement has it (D2).</summary>
    internal static bool IsParty(string state, Permissions permissions) => permissions.State(state) is { PartyToGc3: true };

    /// <summary>All records of the person, found from any of his references.</summary>
    internal static IReadOnlyList<Prisoner> PersonOf(RuleContext context, Prisoner prisoner) =>
        prisoner.DuplicateOf.Length > 0 && Prisoners.Find(context, prisoner.Case, prisoner.DuplicateOf) is { } kept
            ? Records(context, kept)
            : Records(context, prisoner);

    /// <summary>The prisoner's record and those of the same person that are no longer kept, whose statements count too.</summary>
    internal static IReadOnlyList<Prisoner> Records(RuleContext context, Prisoner prisoner) =>
        [prisoner, .. prisoner.Duplicates.Select(d => Prisoners.Find(context, prisoner.Case, d)).OfType<Prisoner>()];

    /// <summary>The statements under the references that counted for the person, each made before its link was undone. They still count, so
    /// that a participant that undoes a link alone cannot hide a statement that stopped a departure (D9).</summary>
    /// <param name="context">The states.</param>
    /// <param name="records">The prisoner's record and those of the same person that are no longer kept.</param>
    internal static IReadOnlyList<Statement> SaidBefore(RuleContext context, IReadOnlyList<Prisoner> records) =>
        SaidBefore(records, reference => Prisoners.Find(context, records[0].Case, reference));

    /// <summary>The same, given how a record of the case is found by its reference.</summary>
    public static IReadOnlyList<Statement> SaidBefore(IReadOnlyList<Prisoner> records, Func<string, Prisoner?> find) =>
        [
            .. records
                .SelectMany(r => r.FormerLinks)
                .SelectMany(link => find(link.Prisoner)?.Statements.Where(s => s.Position < link.Position) ?? [])
                .Where(s => records.All(r => r.Prisoner_ != s.Prisoner))
                .DistinctBy(s => s.Statement_),
        ];

    /// <summary>The references that count for a person, and those that counted until a link was undone. Those that still count have no
    /// position yet.</summary>
    /// <param name="records">The prisoner's record and those of the same person that are no longer kept.</param>
    internal static IEnumerable<FormerLink> Counting(IReadOnlyList<Prisoner> records) =>
        records
            .Select(r => new FormerLink { Prisoner = r.Prisoner_ })
            .Concat(records.SelectMany(r => r.FormerLinks).Where(l => records.All(r => r.Prisoner_ != l.Prisoner)))
            .GroupBy(l => l.Prisoner, (_, links) => links.MaxBy(l => l.Position)!);
}
