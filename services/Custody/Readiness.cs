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
    /// <param name="destination">The destination (ISO 3166-1 alpha-2).</param>
    /// <param name="at">The time.</param>
    public static CheckReadinessResponse Of(IReadOnlyList<Prisoner> records, string destination, DateTimeOffset at)
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
        };
    }

    /// <summary>The invariants that a departure would breach, in the order in which they are refused: D1, D9, D10, D11, D12. A
    /// release where he is held is no departure and breaches none.</summary>
    internal static Invariant[] Breaches(IReadOnlyList<Prisoner> records, Route route, string destination, RuleContext context)
    {
        var prisoner = records[0];
        if (route == Route.Release && destination == prisoner.LastDetainingPower)
            return [];
        var standing = Standings.Of(records, route, destination, context.Now, context.Permissions).Standing;
        var ready = Of(records, destination, context.Now);
        return
        [
            .. prisoner.Held ? (Invariant[])[] : [Invariant.D1],
            .. standing == V1.Standing.InForce ? (Invariant[])[] : [Invariant.D9],
            .. ready.FitRecorded ? (Invariant[])[] : [Invariant.D10],
            .. ready.RiskAssessed ? (Invariant[])[] : [Invariant.D11],
            .. ready.FreeToDepart || !prisoner.Held ? (Invariant[])[] : [Invariant.D12],
        ];
    }

    /// <summary>The prisoner's record and those of the same person that are no longer kept, whose statements count too.</summary>
    internal static IReadOnlyList<Prisoner> Records(RuleContext context, Prisoner prisoner) =>
        [prisoner, .. prisoner.Duplicates.Select(d => context.Find(Prisoners.Kind, Prisoners.KeyOf(prisoner.Case, d))).OfType<Prisoner>()];
}
