using Google.Protobuf;
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
        if (dossier is { ActiveTransfer.Length: > 0 } && dossier.ActiveTransfer != transfer.Id)
            obstacles.Add((Invariant.D1, Reason.AnotherTransferStands));
        if (transfer.Route == Route.Article12Transfer)
        {
            if (context.Permissions.State(transfer.AcceptingPower) is not { PartyToGc3: true })
                obstacles.Add((Invariant.D2, Reason.ReceivingStateNotParty));
            if (transfer.Assurance is not { Corrected: false, Expired: false } assurance || assurance.ExpireTime <= context.Time)
                obstacles.Add((Invariant.D2, Reason.AssuranceNotInForce));
            if (
                transfer.Assessment is not { Corrected: false, Expired: false, Willing: true, Able: true } assessment
                || assessment.ExpireTime <= context.Time
            )
                obstacles.Add((Invariant.D2, Reason.AssessmentNotInForce));
        }
        if (!IsPlanned(transfer))
            return obstacles;
        if (Unusable(context.Asked, dossier) is { } unusable)
            obstacles.AddRange([(Invariant.D9, unusable), (Invariant.D10, unusable), (Invariant.D11, unusable)]);
        else
            obstacles.AddRange(Obstacles((DepartureCheck)context.Asked!, transfer.Destination));
        return obstacles;
    }

    /// <summary>What in custody's answer stands against a departure, in the order of the refusals.</summary>
    public static IReadOnlyList<(Invariant Breach, Reason Reason)> Obstacles(DepartureCheck check, string destination)
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

    /// <summary>Why an answer of custody is of no use: it did not answer, or recorded more of the prisoner since; null: it is of
    /// use.</summary>
    public static Reason? Unusable(IMessage? asked, Dossier? dossier) =>
        asked is not (DepartureCheck { Clearance: not null } or DepartureCheck { Standing: not null, Readiness: not null })
            ? Reason.Unavailable
        : PositionOf(asked) < (dossier?.CustodyPosition ?? 0) ? Reason.CustodyAnswerOutdated
        : null;
}
