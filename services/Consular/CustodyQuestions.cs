using Google.Protobuf;
using Google.Protobuf.Collections;
using Google.Protobuf.WellKnownTypes;
using Grpc.Core;
using Ministries.Consular.V1;
using Ministries.Custody.V1;
using Ministries.Hosting;
using Ministries.Types.V1;
using Route = Ministries.Types.V1.Route;

namespace Ministries.Consular;

/// <summary>Asks custody, before a command queues, what a planned departure or a return needs (D9 to D12). Silence is
/// refusal.</summary>
/// <param name="peers">The other services.</param>
/// <param name="reads">The way of reads.</param>
/// <param name="time">The clock.</param>
public sealed class CustodyQuestions(Peers peers, Reads reads, TimeProvider time)
{
    /// <summary>Custody's answer for the transfer request; null where there is none that the caller may see, which its rule then
    /// refuses, or where it is no planned departure. Custody is not asked about what the caller may not see: he would know by the time
    /// that it is there (D22).</summary>
    /// <param name="case">The case that the request names.</param>
    /// <param name="transfer">The transfer request.</param>
    /// <param name="caller">Who asks.</param>
    /// <param name="cancel">Gives up.</param>
    /// <param name="openings">The openings that the request names in the place of those that are kept; none: those that are kept.</param>
    /// <exception cref="RpcException">Custody cannot be asked.</exception>
    public async Task<IMessage?> Ask(
        string @case,
        string transfer,
        Participant caller,
        CancellationToken cancel,
        params IReadOnlyCollection<ByteString> openings
    ) =>
        await Seen(@case, transfer, caller) is (var record, _) && Departures.IsPlanned(record)
            ? await Ask(record, record.Route, record.Destination, openings.Count > 0 ? openings : KeptOf(record), cancel)
            : null;

    /// <summary>Whether an answer becomes a part of the entry. An entry shows its participant all of its parts, and what is answered for
    /// another side than the power that holds him is not that side's to know: it would tell why a request was suspended (D9).
    /// </summary>
    public static bool IsKept(IMessage asked) => asked is not DepartureCheck { Clearance: not null };

    /// <summary>Custody's answer for a hand-over that a side confirms. Another than the detaining power is judged by one answer for all
    /// of it, which it does not see (<see cref="IsKept"/>). Where the hand-over took place all the same, silence is no refusal.
    /// </summary>
    /// <param name="request">The confirmation.</param>
    /// <param name="caller">Who confirms.</param>
    /// <param name="permissions">The agreement by which the confirmation is judged.</param>
    /// <param name="cancel">Gives up.</param>
    /// <exception cref="RpcException">Custody cannot be asked.</exception>
    public async Task<IMessage?> Ask(ConfirmHandoverRequest request, Participant caller, Permissions permissions, CancellationToken cancel)
    {
        if (await Seen(request.Case, request.Transfer, caller) is not (var transfer, _) || !Departures.IsPlanned(transfer))
            return null;
        var asked = Ask(transfer, transfer.Route, transfer.Destination, KeptOf(transfer), cancel);
        return await OfFact(asked, request.AcknowledgedBreaches, cancel) switch
        {
            { } check when !caller.ActsFor(transfer.DetainingPower) => ClearanceOf(
                check,
                transfer.Destination,
                Departures.OfAnswer(transfer, check, permissions, time.GetUtcNow().ToTimestamp()).Count == 0
            ),
            var check => check,
        };
    }

    /// <summary>Custody's answer for a return that a side confirms: whether the prisoner may travel to the power that takes him back. The
    /// power that holds him gets the whole answer. For the other power one summary is used, which that power does not see.</summary>
    /// <param name="request">The confirmation.</param>
    /// <param name="caller">Who confirms.</param>
    /// <param name="cancel">Gives up.</param>
    /// <exception cref="RpcException">Custody cannot be asked.</exception>
    public async Task<IMessage?> Ask(ConfirmReturnRequest request, Participant caller, CancellationToken cancel)
    {
        if (await Seen(request.Case, request.Transfer, caller) is not (var transfer, var @case))
            return null;
        var links = await reads.Peek(Dossiers.Links, transfer.Case, cancel);
        var person = new Transfer(transfer) { Prisoner = Dossiers.PersonOf(links, transfer.Prisoner)[0] };
        var to = transfer.DetainingPower;
        // The openings of either side count for both.
        ByteString[] openings = [.. request.Openings.Concat(transfer.ReturnConfirmations.SelectMany(c => c.Openings)).Distinct()];
        var asked = Ask(person, Route.Article12Transfer, to, openings, cancel);
        return await OfFact(asked, request.AcknowledgedBreaches, cancel) switch
        {
            { } check when !Transfers.Holds(transfer, @case, links, caller) => ClearanceOf(
                check,
                to,
                Departures.OfJourney(check, to).Count == 0
            ),
            var check => check,
        };
    }

    /// <summary>Custody's answer for the request that is under way for the prisoner, under the reference that is kept of him; null where
    /// none is.</summary>
    /// <exception cref="RpcException">Custody cannot be asked.</exception>
    public async Task<IMessage?> AskAgain(string @case, string prisoner, CancellationToken cancel)
    {
        var kept = Dossiers.PersonOf(await reads.Peek(Dossiers.Links, @case, cancel), prisoner)[0];
        return
            await reads.Peek(Dossiers.Kind, Dossiers.Key(@case, kept), cancel) is { ActiveTransfer.Length: > 0 } dossier
            && await reads.Peek(Transfers.Kind, dossier.ActiveTransfer, cancel) is { } transfer
            && Transfers.IsUnderWay(transfer.State)
            && Departures.IsPlanned(transfer)
            ? await Ask(transfer, transfer.Route, transfer.Destination, KeptOf(transfer), cancel)
            : null;
    }

    /// <summary>Custody's answers for all requests that are under way in a case; null where none is.</summary>
    /// <exception cref="RpcException">Custody cannot be asked.</exception>
    public async Task<IMessage?> AskAgain(string @case, CancellationToken cancel)
    {
        var prisoners = (await reads.Peek(Cases.Kind, @case, cancel))?.Prisoners.Select(p => p.Prisoner).ToArray() ?? [];
        var answers = new IMessage?[prisoners.Length];
        await Parallel.ForEachAsync(
            Enumerable.Range(0, prisoners.Length),
            new ParallelOptions { MaxDegreeOfParallelism = AtOnce, CancellationToken = cancel },
            async (i, stop) => answers[i] = await AskAgain(@case, prisoners[i], stop)
        );
        var checks = prisoners
            .Zip(answers)
            .Where(a => a.Second is not null)
            .Select(a => new PrisonerCheck { Prisoner = a.First, Check = (DepartureCheck)a.Second! })
            .ToArray();
        return checks.Length > 0 ? new CaseCheck { Checks = { checks } } : null;
    }

    // The number of prisoners about whom custody is asked at once. Each takes two calls, and custody always has places for that many
    // (EdgeLimits.OwnPlaces). A case may have 64 prisoners of each power; to ask about all of them at once would be refused every time.
    private const int AtOnce = 4;

    private static RepeatedField<ByteString> KeptOf(Transfer transfer) => transfer.Decision?.Openings ?? [];

    private static DepartureCheck ClearanceOf(DepartureCheck check, string destination, bool cleared) =>
        new()
        {
            Clearance = new Clearance
            {
                Cleared = cleared,
                Position = Departures.PositionOf(check),
                StandingBasis = Departures.BasisOf(check, destination),
            },
        };

    private async Task<(Transfer Transfer, Case Case)?> Seen(string @case, string id, Participant caller)
    {
        var (transfer, open) = await reads.PeekWithCase(Transfers.Kind, id, @case);
        return
            transfer is not null
            && transfer.Case == @case
            && open is not null
            && Cases.MaySee(caller, open, [.. TransferVisibility.AudienceOf(transfer)])
            ? (transfer, open)
            : null;
    }

    // A return that took place is recorded if its breach is acknowledged, even if custody does not answer.
    private static async Task<DepartureCheck?> OfFact(
        Task<DepartureCheck> asked,
        RepeatedField<Invariant> acknowledged,
        CancellationToken cancel
    )
    {
        try
        {
            return await asked;
        }
        catch (RpcException) when (acknowledged.Count > 0 && !cancel.IsCancellationRequested)
        {
            return null;
        }
    }

    private async Task<DepartureCheck> Ask(
        Transfer transfer,
        Route route,
        string destination,
        IEnumerable<ByteString> openings,
        CancellationToken cancel
    )
    {
        var custody = new CustodyService.CustodyServiceClient(peers["custody"]);
        var standing = custody.CheckStandingAsync(
            new CheckStandingRequest
            {
                Case = transfer.Case,
                Prisoner = transfer.Prisoner,
                Route = route,
                Destinations = { destination },
                Openings = { openings },
            },
            cancellationToken: cancel
        );
        var readiness = custody.CheckReadinessAsync(
            new CheckReadinessRequest
            {
                Case = transfer.Case,
                Prisoner = transfer.Prisoner,
                Route = route,
                Destination = destination,
            },
            cancellationToken: cancel
        );
        return new DepartureCheck { Standing = await standing, Readiness = await readiness };
    }
}
