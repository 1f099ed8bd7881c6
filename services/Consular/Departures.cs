using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Ministries.Consular.V1;
using Ministries.Custody.V1;
using Ministries.Errors.V1;
using Ministries.Types.V1;
using Route = Ministries.Types.V1.Route;

namespace Ministries.Consular;

/// <summary>What a planned departure needs (D1, D2, D9 to D12), and what stands against it.</summary>
public static class Departures
{
    /// <summary>Whether what is asked for is a planned departure (D9 to D12): a release where he is held is none.</summary>
    public static bool IsPlanned(Transfer transfer) =>
        !(transfer.Route == Route.Release && transfer.Destination == transfer.DetainingPower);

    /// <summary>The undertakings that an assurance of the receiving state must hold (D2).</summary>
    /// <param name="transfer">The transfer request.</param>
    /// <param name="permissions">The agreement, which lists reservations.</param>
    public static IEnumerable<Undertaking> Undertakings(Transfer transfer, Permissions permissions)
    {
        yield return Undertaking.NonRefoulement;
        if (transfer.Route.PassesCustody())
            yield return Undertaking.ApplyConvention;
        if (transfer.Route == Route.Release)
            yield return Undertaking.RightToStay;
        var receiving = permissions.State(transfer.AcceptingPower);
        // A person who goes home is protected by his own word (D9). Elsewhere he is a foreigner, whom Article 33 would protect.
        if (transfer.Route is not (Route.Repatriation or Route.Exchange) && receiving is not { PartyToRefugeeConvention: true })
            yield return Undertaking.RefugeeProtection;
        // A power does not rid itself of what it owes him by handing him on (GC III 12(2), 7).
        if (
            transfer.Route.PassesCustody()
            && permissions.State(transfer.DetainingPower) is { PartyToAp1: true }
            && receiving is not { PartyToAp1: true }
        )
            yield return Undertaking.ProtocolI;
        if (receiving?.Reservations.Intersect(Articles(transfer.Route)).Any() == true)
            yield return Undertaking.WithoutReservation;
    }

    /// <summary>What stands against a planned departure now, in the order of the refusals. Each with the invariant that a
    /// departure all the same would breach.</summary>
    /// <param name="transfer">The transfer request.</param>
    /// <param name="context">The states; <see cref="RuleContext.Asked"/> is custody's answer or null.</param>
    public static IReadOnlyList<(Invariant Breach, Reason Reason)> Obstacles(Transfer transfer, RuleContext context)
    {
        var obstacles = new List<(Invariant, Reason)>();
        var dossier = context.Find(Dossiers.Kind, Dossiers.Key(transfer));
        if (Transfers.Held(context, transfer) is null)
            obstacles.Add((Invariant.D1, Reason.PrisonerNotHeld));
        if (AnotherStands(transfer, context))
            obstacles.Add((Invariant.D1, Reason.AnotherTransferStands));
        if (!IsPlanned(transfer))
            return obstacles;
        if (!IsPresent(transfer.AcceptingPower, context.Find(Cases.Kind, transfer.Case), context.Permissions))
            obstacles.Add((Invariant.D1, Reason.AcceptingPowerAbsent));
        if (context.Permissions.State(transfer.AcceptingPower) is not { PartyToGc3: true })
            obstacles.Add((Invariant.D2, Reason.ReceivingStateNotParty));
        obstacles.AddRange(OfSilence(context.Asked, dossier));
        var answer = Unusable(context.Asked, dossier) is null ? (DepartureCheck)context.Asked! : null;
        obstacles.AddRange(OfAnswer(transfer, answer, context.Permissions, context.Time));
        return obstacles;
    }

    /// <summary>What stands against a return (12(3)), in the order of the refusals: it is a journey as any other, to a power that
    /// answered for him before.</summary>
    /// <param name="transfer">The transfer request.</param>
    /// <param name="context">The states; <see cref="RuleContext.Asked"/> is custody's answer or null.</param>
    public static IReadOnlyList<(Invariant Breach, Reason Reason)> ObstaclesToReturn(Transfer transfer, RuleContext context)
    {
        var obstacles = new List<(Invariant, Reason)>();
        var person = Transfers.Person(context, transfer);
        var dossier = person is null ? null : context.Find(Dossiers.Kind, Dossiers.Key(transfer.Case, person.Prisoner));
        if (person is not { Held: true })
            obstacles.Add((Invariant.D1, Reason.PrisonerNotHeld));
        obstacles.AddRange(OfSilence(context.Asked, dossier));
        if (Unusable(context.Asked, dossier) is null)
            obstacles.AddRange(OfJourney((DepartureCheck)context.Asked!, transfer.DetainingPower));
        return obstacles;
    }

    /// <summary>What stands against a departure as far as it depends on custody's answer, in the order of the refusals.</summary>
    /// <param name="transfer">The transfer request.</param>
    /// <param name="answer">Custody's answer; null: there is none of use. His origin is not known then, and the assurance counts as
    /// needed.</param>
    /// <param name="permissions">The agreement.</param>
    /// <param name="at">The time.</param>
    public static IReadOnlyList<(Invariant Breach, Reason Reason)> OfAnswer(
        Transfer transfer,
        DepartureCheck? answer,
        Permissions permissions,
        Timestamp at
    )
    {
        var obstacles = new List<(Invariant, Reason)>();
        if (answer is { Readiness.RouteFits: false })
            obstacles.Add((Invariant.D2, Reason.RouteNotFitting));
        // A clearance has weighed the origin, which its reader may not know.
        var origin = answer is { Clearance: not null } or { Readiness.DestinationIsOrigin: true };
        if ((transfer.Route.PassesCustody() || !origin) && !IsAssured(transfer, permissions, at))
            obstacles.Add((Invariant.D2, Reason.AssuranceNotInForce));
        if (transfer.Route.PassesCustody() && !IsAssessed(transfer, at))
            obstacles.Add((Invariant.D2, Reason.AssessmentNotInForce));
        if (answer is not null)
            obstacles.AddRange(OfJourney(answer, transfer.Destination));
        return obstacles;
    }

    /// <summary>What in custody's answer stands against a journey (D9 to D12), in the order of the refusals.</summary>
    public static IReadOnlyList<(Invariant Breach, Reason Reason)> OfJourney(DepartureCheck check, string destination)
    {
        var obstacles = new List<(Invariant, Reason)>();
        if (check.Clearance is { } clearance)
        {
            if (!clearance.Cleared)
                obstacles.Add((Invariant.D9, Reason.DepartureNotCleared));
            return obstacles;
        }
        if (check.Standing.Standings.FirstOrDefault(s => s.Destination == destination)?.Standing != Standing.InForce)
            obstacles.Add((Invariant.D9, Reason.StandingNotInForce));
        if (!check.Readiness.FitRecorded)
            obstacles.Add((Invariant.D10, Reason.FitnessNotRecorded));
        if (!check.Readiness.RiskAssessed)
            obstacles.Add((Invariant.D11, Reason.RiskNotAssessed));
        if (!check.Readiness.FreeToDepart)
            obstacles.Add((Invariant.D12, Reason.DepartureNotFree));
        return obstacles;
    }

    /// <summary>The number of entries in custody's ledger when it answered; zero where it did not.</summary>
    public static ulong PositionOf(IMessage? asked) =>
        asked switch
        {
            DepartureCheck { Clearance: { } clearance } => clearance.Position,
            DepartureCheck { Standing: { } standing, Readiness: { } readiness } => Math.Min(standing.Position, readiness.Position),
            _ => 0,
        };

    /// <summary>On what custody's answer about the standing rests, as custody gave it; empty where it did not answer.</summary>
    /// <param name="asked">The answer.</param>
    /// <param name="destination">The destination (ISO 3166-1 alpha-2).</param>
    public static string BasisOf(IMessage? asked, string destination) =>
        asked switch
        {
            DepartureCheck { Clearance: { } clearance } => clearance.StandingBasis,
            DepartureCheck { Standing: { } standing } => standing.Standings.FirstOrDefault(s => s.Destination == destination)?.Basis ?? "",
            _ => "",
        };

    /// <summary>Why an answer of custody is of no use: it did not answer, or recorded more of the prisoner since; null: it is of
    /// use.</summary>
    public static Reason? Unusable(IMessage? asked, Dossier? dossier) =>
        asked is not (DepartureCheck { Clearance: not null } or DepartureCheck { Standing: not null, Readiness: not null })
            ? Reason.Unavailable
        : PositionOf(asked) < (dossier?.CustodyPosition ?? 0) ? Reason.CustodyAnswerOutdated
        : null;

    private static IEnumerable<(Invariant, Reason)> OfSilence(IMessage? asked, Dossier? dossier) =>
        Unusable(asked, dossier) is { } unusable ? [(Invariant.D9, unusable), (Invariant.D10, unusable), (Invariant.D11, unusable)] : [];

    // Whether another transfer of the person is active, under any reference: a person has one journey at a time.
    private static bool AnotherStands(Transfer transfer, RuleContext context)
    {
        var references = Dossiers.PersonOf(context.Find(Dossiers.Links, transfer.Case), transfer.Prisoner);
        var dossiers = references.Select(r => context.Find(Dossiers.Kind, Dossiers.Key(transfer.Case, r))).OfType<Dossier>().ToArray();
        return dossiers.Any(d => d.ActiveTransfer.Length > 0 && d.ActiveTransfer != transfer.Id)
            || dossiers.SelectMany(d => d.Transfers).Any(IsGivenBack);

        // Both sides said so, and custody is about to record it. It does so if the power that has him back is in his chain.
        bool IsGivenBack(DossierTransfer other) =>
            Dossiers.IsUnrecordedReturn(other)
            && context
                .Find(Cases.Kind, transfer.Case)!
                .Prisoners.Any(p => references.Contains(p.Prisoner) && p.FormerPowers.Contains(other.DetainingPower));
    }

    // Whether the case has a party that can accept the prisoner for the power.
    private static bool IsPresent(string power, Case? @case, Permissions permissions) =>
        @case?.Parties.Any(p => permissions.Participant(p.Participant)?.ActsFor(power) == true) == true;

    private static bool IsAssured(Transfer transfer, Permissions permissions, Timestamp at) =>
        transfer.Assurance is { Corrected: false, Expired: false } assurance
        && assurance.ExpireTime > at
        && !Undertakings(transfer, permissions).Except(assurance.Undertakings).Any();

    private static bool IsAssessed(Transfer transfer, Timestamp at) =>
        transfer.Assessment is { Corrected: false, Expired: false, Willing: true, Able: true } assessment && assessment.ExpireTime > at;

    // The articles that make the receiving state answerable for the prisoner, and whose effect a reservation would remove. A reservation on
    // 118 does not matter: the existing ones say, as D9 does, that nobody is repatriated against his will.
    private static uint[] Articles(Route route) =>
        route switch
        {
            Route.Article12Transfer => [12],
            Route.NeutralAccommodation => [109, 110, 111],
            _ => [],
        };
}
