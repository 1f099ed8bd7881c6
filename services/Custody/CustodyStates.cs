using Ministries.Custody.V1;
using Route = Ministries.Types.V1.Route;

namespace Ministries.Custody;

/// <summary>The statuses of custody: CAPTURED → REGISTERED → INTERNED ⇄ HOSPITALISED, from each of these HOSPITALISED; IN_TRANSIT and back
/// by hand-overs alone; ESCAPED ⇄ RECAPTURED; at the end RELEASED, REPATRIATED, ACCOMMODATED_IN_NEUTRAL_COUNTRY, DIED.</summary>
public static class CustodyStates
{
    /// <summary>The statuses in which a prisoner is in custody.</summary>
    public static readonly IReadOnlyList<Enum> InCustody = [.. Enum.GetValues<CustodyState>().Where(IsCustody)];

    /// <summary>Whether a status is one of custody.</summary>
    public static bool IsCustody(CustodyState state) =>
        state switch
        {
            CustodyState.Captured
            or CustodyState.Registered
            or CustodyState.Interned
            or CustodyState.Hospitalised
            or CustodyState.InTransit
            or CustodyState.Recaptured => true,
            CustodyState.Unspecified
            or CustodyState.Escaped
            or CustodyState.Released
            or CustodyState.Repatriated
            or CustodyState.AccommodatedInNeutralCountry
            or CustodyState.Died => false,
        };

    /// <summary>Whether a status may be recorded after another.</summary>
    /// <param name="from">The status that it follows; unspecified where its entry was erased.</param>
    /// <param name="to">The status to record.</param>
    public static bool Leads(CustodyState from, CustodyState to) =>
        (from, to) switch
        {
            // Where the status is no longer known, each can be the next but those that are never recorded.
            (CustodyState.Unspecified, _) => to is not (CustodyState.Unspecified or CustodyState.InTransit or CustodyState.Captured),
            // Facts. A record of death that was wrong is corrected.
            (not CustodyState.Died, CustodyState.Died or CustodyState.Escaped or CustodyState.Recaptured) => true,
            (CustodyState.Captured, CustodyState.Registered) => true,
            (CustodyState.Registered or CustodyState.Hospitalised or CustodyState.Recaptured, CustodyState.Interned) => true,
            (
                CustodyState.Captured
                    or CustodyState.Registered
                    or CustodyState.Interned
                    or CustodyState.InTransit
                    or CustodyState.Recaptured,
                CustodyState.Hospitalised
            ) => true,
            (_, CustodyState.Released or CustodyState.Repatriated or CustodyState.AccommodatedInNeutralCountry) => IsCustody(from),
            _ => false,
        };

    /// <summary>The route of a departure that a status records; unspecified: it is none.</summary>
    public static Route RouteOf(CustodyState state) =>
        state switch
        {
            CustodyState.Released => Route.Release,
            CustodyState.Repatriated => Route.Repatriation,
            CustodyState.AccommodatedInNeutralCountry => Route.NeutralAccommodation,
            _ => Route.Unspecified,
        };

    /// <summary>The status after a departure by a route.</summary>
    public static CustodyState After(Route route) =>
        route switch
        {
            Route.Repatriation => CustodyState.Repatriated,
            Route.NeutralAccommodation => CustodyState.AccommodatedInNeutralCountry,
            _ => CustodyState.Released,
        };

    /// <summary>Whether a prisoner is held, and whether custody has ended, after a status.</summary>
    public static (bool Held, bool Ended) After(CustodyState state, bool escapeSucceeded) =>
        (
            IsCustody(state),
            state switch
            {
                CustodyState.Escaped => escapeSucceeded,
                CustodyState.Released or CustodyState.Repatriated or CustodyState.AccommodatedInNeutralCountry or CustodyState.Died => true,
                _ => false,
            }
        );

    /// <summary>The occurrence of which a status gives notice; unspecified: of none.</summary>
    public static OccurrenceKind OccurrenceOf(CustodyState state) =>
        state switch
        {
            CustodyState.Hospitalised => OccurrenceKind.HospitalAdmission,
            CustodyState.Escaped => OccurrenceKind.Escape,
            CustodyState.Recaptured => OccurrenceKind.Capture,
            CustodyState.Released => OccurrenceKind.Release,
            CustodyState.Repatriated => OccurrenceKind.Repatriation,
            CustodyState.AccommodatedInNeutralCountry => OccurrenceKind.NeutralAccommodation,
            CustodyState.Died => OccurrenceKind.Death,
            _ => OccurrenceKind.Unspecified,
        };
}
