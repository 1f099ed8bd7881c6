using Ministries.Custody.V1;
using Ministries.Types.V1;
using Route = Ministries.Types.V1.Route;

namespace Ministries.Custody;

/// <summary>What a person said that stands behind a departure (D8, D9).</summary>
public static class Standings
{
    /// <summary>Whether a statement counts as privately verified (D7): an interview without witnesses, attested by the set that
    /// the agreement demands, a neutral observer always among them, a guardian for one under 18.</summary>
    public static bool PrivatelyVerified(Statement statement, bool under18, Permissions permissions)
    {
        if (statement.State != StatementState.Attested || statement.Interview is not { WithoutWitnesses: true })
            return false;
        var demanded = permissions.Agreement.AttestersDemanded.Append(AttesterRole.Observer).ToHashSet();
        // Where none was needed, there is nobody to attest it.
        if (statement.Interpreter.Length == 0)
            demanded.Remove(AttesterRole.Interpreter);
        if (under18 || statement.Under18)
            demanded.Add(AttesterRole.Guardian);
        return demanded.All(role =>
            statement.Attestations.Any(a =>
                Statements.InForce(a)
                && a.Role == role
                && (role != AttesterRole.Observer || permissions.Participant(a.Participant)?.IsNeutral() == true)
            )
        );
    }

    /// <summary>
    /// The standing for a destination at a time (D8, D9), from the person's latest statement that was not corrected: a transfer
    /// needs it to be privately verified, not stale, and to accept the destination; every other route needs that it does not
    /// object. A release where he is held is no departure. Anything unclear is not in force.
    /// </summary>
    /// <param name="records">The prisoner's record and those of the same person that are no longer kept.</param>
    /// <param name="route">The way in which he is to leave.</param>
    /// <param name="destination">The destination (ISO 3166-1 alpha-2).</param>
    /// <param name="at">The time.</param>
    /// <param name="permissions">The agreement.</param>
    public static DestinationStanding Of(
        IReadOnlyList<Prisoner> records,
        Route route,
        string destination,
        DateTimeOffset at,
        Permissions permissions
    )
    {
        var none = new DestinationStanding { Destination = destination, Standing = Standing.NotInForce };
        // Nothing rests on a registration that was corrected without a right one.
        if (destination.Length == 0 || records[0].Identity is null)
            return none;
        var latest = records
            .SelectMany(r => r.Statements)
            .Where(s => s.State != StatementState.Corrected)
            .MaxBy(s => (s.StatementTime?.ToDateTimeOffset() ?? DateTimeOffset.MaxValue, s.Position));
        var verified =
            latest is not null
            && latest.ExpireTime.ToDateTimeOffset() > at
            && PrivatelyVerified(latest, records.Any(r => r.Under18), permissions);
        var accepts = latest?.AcceptedDestinations.Contains(destination) == true;
        var inForce = route switch
        {
            Route.Article12Transfer => verified && accepts,
            Route.Release when destination == records[0].DetainingPower => true,
            Route.Release or Route.Repatriation or Route.Exchange or Route.NeutralAccommodation => latest is null || accepts,
            _ => false,
        };
        if (!inForce)
            return none;
        var standing = new DestinationStanding { Destination = destination, Standing = Standing.InForce };
        if (verified && accepts)
            standing.AttestedBy.Add(latest!.Attestations.Where(Statements.InForce).Select(a => a.Role).Distinct().Order());
        return standing;
    }
}
