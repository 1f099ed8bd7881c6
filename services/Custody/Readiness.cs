using Ministries.Custody.V1;
using Ministries.Types.V1;
using Route = Ministries.Types.V1.Route;

namespace Ministries.Custody;

/// <summary>What custody has recorded that a departure needs, and which invariants a departure would breach.</summary>
public static class Readiness
{
    /// <summary>What custody has recorded for a departure beside standing (D1, D10, D11, D12); the position is left to the
    /// caller.</summary>
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
        var power = prisoner.LastDetainingPower;
        var assessment = prisoner.RiskAssessments.LastOrDefault(a =>
            !a.Corrected && a.RecordedFor == power && a.Destination == destination
        );
        var fitness = prisoner.Fitness.LastOrDefault(f => !f.Corrected && f.RecordedFor == power);
        var admitted = prisoner.Statuses.LastOrDefault(s => !s.Corrected && s.State == CustodyState.Hospitalised);
        var proceedings = prisoner.Proceedings.LastOrDefault(p => !p.Corrected && p.RecordedFor == power);
        return new CheckReadinessResponse
        {
            RiskAssessed = assessment is { Finding: RiskFinding.NoSubstantialRisk } && assessment.ExpireTime.ToDateTimeOffset() > at,
            FitRecorded =
                fitness is { Fit: true } && fitness.ExpireTime.ToDateTimeOffset() > at && !(admitted?.Position > fitness.Position),
            FreeToDepart = prisoner.Held && proceedings is not { Delay: true },
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
                !c.Corrected
                && c.Basis is ClaimBasis.Nationality or ClaimBasis.ArmedForces or ClaimBasis.SideFoughtOn
                && permissions.Participant(c.Participant)?.ActsFor(power) == true
                && (c.Claimant == power || c.RecognisedBy.Contains(power))
            );
    }

    /// <summary>The invariants that a departure would breach, in the order in which they are refused: D1, D2, D9, D10, D11, D12. A
    /// release where he is held is no departure and breaches none.</summary>
    /// <param name="records">The prisoner's record and those of the same person that are no longer kept.</param>
    /// <param name="route">The way in which he leaves.</param>
    /// <param name="destination">The destination (ISO 3166-1 alpha-2).</param>
    /// <param name="context">The states and the time.</param>
    /// <param name="assured">Whether the consular service has asked for the receiving state's assurance where one is needed.</param>
    internal static Invariant[] Breaches(
        IReadOnlyList<Prisoner> records,
        Route route,
        string destination,
        RuleContext context,
        bool assured = true
    )
    {
        var prisoner = records[0];
        if (route == Route.Release && destination == prisoner.LastDetainingPower)
            return [];
        var @case = context.Find(Cases.Kind, prisoner.Case)!;
        var standing = Standings.Of(records, @case, route, destination, context.Now, context.Permissions).Standing;
        var ready = Of(records, route, destination, context.Now, context.Permissions);
        // No sick or wounded prisoner goes home against his will during hostilities (109(3)).
        var unwilling =
            standing != V1.Standing.InForce
            && route is Route.Repatriation or Route.Exchange
            && context.Permissions.Agreement.Hostilities
            && records.Any(r => r.Serious);
        return
        [
            .. prisoner.Held ? (Invariant[])[] : [Invariant.D1],
            .. ready.RouteFits && (assured || ready.DestinationIsOrigin) ? (Invariant[])[] : [Invariant.D2],
            .. standing == V1.Standing.InForce ? (Invariant[])[] : [Invariant.D9],
            .. ready.FitRecorded && !unwilling ? (Invariant[])[] : [Invariant.D10],
            .. ready.RiskAssessed ? (Invariant[])[] : [Invariant.D11],
            .. ready.FreeToDepart || !prisoner.Held ? (Invariant[])[] : [Invariant.D12],
        ];
    }

    /// <summary>The prisoner's record and those of the same person that are no longer kept, whose statements count too.</summary>
    internal static IReadOnlyList<Prisoner> Records(RuleContext context, Prisoner prisoner) =>
        [prisoner, .. prisoner.Duplicates.Select(d => context.Find(Prisoners.Kind, Prisoners.KeyOf(prisoner.Case, d))).OfType<Prisoner>()];
}
