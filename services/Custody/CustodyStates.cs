using Ministries.Custody.V1;
using Route = Ministries.Types.V1.Route;

namespace Ministries.Custody;

/// <summary>The statuses of custody: CAPTURED → REGISTERED → INTERNED ⇄ HOSPITALISED, from each of these HOSPITALISED; IN_TRANSIT and back
/// by hand-overs alone; ESCAPED ⇄ RECAPTURED; ACCOMMODATED_IN_NEUTRAL_COUNTRY under a neutral power, by a hand-over and after a stay in
/// hospital there; at the end RELEASED, REPATRIATED, DIED.</summary>
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
            or CustodyState.Recaptured
            or CustodyState.AccommodatedInNeutralCountry => true,
            CustodyState.Unspecified or CustodyState.Escaped or CustodyState.Released or CustodyState.Repatriated or CustodyState.Died =>
                false,
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
                    or CustodyState.Recaptured
                    or CustodyState.AccommodatedInNeutralCountry,
                CustodyState.Hospitalised
            ) => true,
            // Nobody comes to a neutral country by a record of one power (D1): he is there, and comes back from hospital or flight.
            (CustodyState.Hospitalised or CustodyState.Recaptured, CustodyState.AccommodatedInNeutralCountry) => true,
            (_, CustodyState.Released or CustodyState.Repatriated) => IsCustody(from),
            _ => false,
        };

    /// <summary>The route of a departure that a status records; unspecified: it is none.</summary>
    public static Route RouteOf(CustodyState state) =>
        state switch
        {
            CustodyState.Released => Route.Release,
            CustodyState.Repatriated => Route.Repatriation,
            _ => Route.Unspecified,
        };

    /// <summary>The status after a hand-over by a route, given the status before it.</summary>
    public static CustodyState After(Route route, CustodyState before) =>
        (route, before) switch
        {
            (_, CustodyState.Died) => CustodyState.Died,
            (Route.Repatriation or Route.Exchange, _) => CustodyState.Repatriated,
            (Route.Release, _) => CustodyState.Released,
            (_, CustodyState.Hospitalised) => CustodyState.Hospitalised,
            (Route.NeutralAccommodation, _) => CustodyState.AccommodatedInNeutralCountry,
            (Route.Article12Transfer, _) => CustodyState.Interned,
            // The route is not known any more: its entry was erased.
            _ => CustodyState.Released,
        };

    /// <summary>Whether a prisoner is held, and whether custody has ended, after a status.</summary>
    public static (bool Held, bool Ended) After(CustodyState state, bool escapeSucceeded) =>
        (
            IsCustody(state),
            state switch
            {
                CustodyState.Escaped => escapeSucceeded,
                CustodyState.Released or CustodyState.Repatriated or CustodyState.Died => true,
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
            CustodyState.Died => OccurrenceKind.Death,
            _ => OccurrenceKind.Unspecified,
        };
}
