using Google.Protobuf;
using Grpc.Core;
using Ministries.Consular.V1;
using Ministries.Custody.V1;
using Ministries.Errors.V1;
using Ministries.Hosting;
using Ministries.Trust;
using Ministries.Types.V1;
using Route = Ministries.Types.V1.Route;

namespace Ministries.Consular;

/// <summary>Asks custody, before a command queues, what a planned departure needs (D9 to D12). Silence is refusal.</summary>
public sealed class Departure(Peers peers, Reads reads)
{
    /// <summary>Whether what is asked for is a planned departure (D9 to D12): a release where he is held is none.</summary>
    public static bool IsPlanned(Transfer transfer) =>
        !(transfer.Route == Route.Release && transfer.Destination == transfer.DetainingPower);

    /// <summary>Custody's answer for the transfer request; null where there is none that the caller may see, which its rule then
    /// refuses, or where it is no planned departure. Custody is not asked about what the caller may not see: he would know by the time
    /// that it is there (D22).</summary>
    /// <param name="case">The case that the request names.</param>
    /// <param name="transfer">The transfer request.</param>
    /// <param name="act">Who asks.</param>
    /// <param name="cancel">Gives up.</param>
    /// <exception cref="RpcException">Custody cannot be asked.</exception>
    public async Task<IMessage?> Ask(string @case, string transfer, RuleContext act, CancellationToken cancel) =>
        await Seen(@case, transfer, act) is { } record && IsPlanned(record) ? await Ask(record, cancel) : null;

    private async Task<Transfer?> Seen(string @case, string id, RuleContext act)
    {
        var (transfer, open) = await reads.PeekWithCase(Transfers.Kind, id, @case);
        return
            transfer is not null
            && transfer.Case == @case
            && open is not null
            && Cases.MaySee(act.Caller, open, [.. Transfers.AudienceOf(transfer)])
            ? transfer
            : null;
    }

    /// <summary>Custody's answer for a hand-over that a side confirms. An entry shows its participant what was answered, so
    /// another than the detaining power gets one answer for all of it. Where the hand-over took place all the same, silence is no
    /// refusal. </summary>
    /// <param name="request">The confirmation.</param>
    /// <param name="act">Who confirms.</param>
    /// <param name="cancel">Gives up.</param>
    /// <exception cref="RpcException">Custody cannot be asked.</exception>
    public async Task<IMessage?> Ask(ConfirmHandoverRequest request, RuleContext act, CancellationToken cancel)
    {
        if (await Seen(request.Case, request.Transfer, act) is not { } transfer || !IsPlanned(transfer))
            return null;
        try
        {
            var check = await Ask(transfer, cancel);
            return Acts.ActsFor(act.Caller, transfer.DetainingPower)
                ? check
                : new DepartureCheck
                {
                    Clearance = new Clearance { Cleared = Obstacles(check, transfer.Destination).Count == 0, Position = PositionOf(check) },
                };
        }
        catch (RpcException) when (request.AcknowledgedBreaches.Count > 0 && !cancel.IsCancellationRequested)
        {
            return null;
        }
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

    /// <summary>Custody's answer for the request that is under way for the prisoner; null where none is.</summary>
    /// <exception cref="RpcException">Custody cannot be asked.</exception>
    public async Task<IMessage?> AskAgain(string @case, string prisoner, CancellationToken cancel) =>
        await reads.Peek(Dossiers.Kind, Dossiers.Key(@case, prisoner), cancel) is { ActiveTransfer.Length: > 0 } dossier
        && await reads.Peek(Transfers.Kind, dossier.ActiveTransfer, cancel) is { } transfer
        && Transfers.IsUnderWay(transfer.State)
        && IsPlanned(transfer)
            ? await Ask(transfer, cancel)
            : null;

    private async Task<DepartureCheck> Ask(Transfer transfer, CancellationToken cancel)
    {
        var custody = new CustodyService.CustodyServiceClient(peers["custody"]);
        var standing = custody.CheckStandingAsync(
            new CheckStandingRequest
            {
                Case = transfer.Case,
                Prisoner = transfer.Prisoner,
                Route = transfer.Route,
                Destinations = { transfer.Destination },
            },
            cancellationToken: cancel
        );
        var readiness = custody.CheckReadinessAsync(
            new CheckReadinessRequest
            {
                Case = transfer.Case,
                Prisoner = transfer.Prisoner,
                Route = transfer.Route,
                Destination = transfer.Destination,
            },
            cancellationToken: cancel
        );
        return new DepartureCheck { Standing = await standing, Readiness = await readiness };
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
