using Google.Protobuf;
using Grpc.Core;
using Ministries.Consular.V1;
using Ministries.Custody.V1;
using Ministries.Hosting;
using Ministries.Types.V1;

namespace Ministries.Consular;

/// <summary>Asks custody, before a command queues, what a planned departure needs (D9 to D12). Silence is refusal.</summary>
public sealed class CustodyQuestions(Peers peers, Reads reads)
{
    /// <summary>Custody's answer for the transfer request; null where there is none that the caller may see, which its rule then
    /// refuses, or where it is no planned departure. Custody is not asked about what the caller may not see: he would know by the time
    /// that it is there (D22).</summary>
    /// <param name="case">The case that the request names.</param>
    /// <param name="transfer">The transfer request.</param>
    /// <param name="caller">Who asks.</param>
    /// <param name="cancel">Gives up.</param>
    /// <exception cref="RpcException">Custody cannot be asked.</exception>
    public async Task<IMessage?> Ask(string @case, string transfer, Participant caller, CancellationToken cancel) =>
        await Seen(@case, transfer, caller) is { } record && Departures.IsPlanned(record) ? await Ask(record, cancel) : null;

    private async Task<Transfer?> Seen(string @case, string id, Participant caller)
    {
        var (transfer, open) = await reads.PeekWithCase(Transfers.Kind, id, @case);
        return
            transfer is not null
            && transfer.Case == @case
            && open is not null
            && Cases.MaySee(caller, open, [.. TransferVisibility.AudienceOf(transfer)])
            ? transfer
            : null;
    }

    /// <summary>Custody's answer for a hand-over that a side confirms. An entry shows its participant what was answered, so
    /// another than the detaining power gets one answer for all of it. Where the hand-over took place all the same, silence is no
    /// refusal.</summary>
    /// <param name="request">The confirmation.</param>
    /// <param name="caller">Who confirms.</param>
    /// <param name="cancel">Gives up.</param>
    /// <exception cref="RpcException">Custody cannot be asked.</exception>
    public async Task<IMessage?> Ask(ConfirmHandoverRequest request, Participant caller, CancellationToken cancel)
    {
        if (await Seen(request.Case, request.Transfer, caller) is not { } transfer || !Departures.IsPlanned(transfer))
            return null;
        try
        {
            var check = await Ask(transfer, cancel);
            return caller.ActsFor(transfer.DetainingPower)
                ? check
                : new DepartureCheck
                {
                    Clearance = new Clearance
                    {
                        Cleared = Departures.Obstacles(check, transfer.Destination).Count == 0,
                        Position = Departures.PositionOf(check),
                    },
                };
        }
        catch (RpcException) when (request.AcknowledgedBreaches.Count > 0 && !cancel.IsCancellationRequested)
        {
            return null;
        }
    }

    /// <summary>Custody's answer for the request that is under way for the prisoner; null where none is.</summary>
    /// <exception cref="RpcException">Custody cannot be asked.</exception>
    public async Task<IMessage?> AskAgain(string @case, string prisoner, CancellationToken cancel) =>
        await reads.Peek(Dossiers.Kind, Dossiers.Key(@case, prisoner), cancel) is { ActiveTransfer.Length: > 0 } dossier
        && await reads.Peek(Transfers.Kind, dossier.ActiveTransfer, cancel) is { } transfer
        && Transfers.IsUnderWay(transfer.State)
        && Departures.IsPlanned(transfer)
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
}
