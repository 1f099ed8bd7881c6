using Google.Protobuf;
using Microsoft.Extensions.DependencyInjection;
using Ministries.CallLog.V1;
using Ministries.Consular.V1;
using Ministries.Custody.V1;
using Ministries.Hosting;
using Ministries.Ledger;
using Ministries.Trust;
using State = Ministries.Consular.V1.TransferState;

namespace Ministries.Consular;

/// <summary>What the consular service does on other services' events. It refuses none: what it can record, it records.</summary>
public static class Reactions
{
    /// <summary>The reactions, one for each event type.</summary>
    public static readonly IReadOnlyList<Reaction> All =
    [
        Reaction.To<CaseOpened>("custody", Cases.Copy),
        Reaction.To<PartyAdmitted>("custody", Cases.Copy),
        Reaction.To<PartyRemoved>("custody", Cases.Copy),
        Reaction.To<CaseClosed>("custody", Cases.Copy),
        Reaction.To<PrisonerRegistered>("custody", Cases.Copy),
        Reaction.To<CustodyTransferred>("custody", (view, e, act) => Passed(view, e, act, e.Case, e.Prisoner)),
        Reaction.To<DepartureRecorded>("custody", (view, e, act) => Passed(view, e, act, e.Case, e.Prisoner)),
        Reaction.To<StatusRecorded>(
            "custody",
            (view, e, act) => StatusChanged(view, e, act),
            (e, services, cancel) => Ask(services, e.Case, e.Prisoner, cancel)
        ),
        Changed<StatementRecorded>(e => (e.Case, e.Prisoner)),
        Changed<StatementAttested>(e => (e.Case, e.Prisoner)),
        Changed<AttestationRevoked>(e => (e.Case, e.Prisoner)),
        Changed<RiskAssessmentRecorded>(e => (e.Case, e.Prisoner)),
        Changed<FitnessRecorded>(e => (e.Case, e.Prisoner)),
        Changed<Custody.V1.RecordCorrected>(e => (e.Case, e.Prisoner)),
        Changed<Custody.V1.DutyFellDue>(e => (e.Case, e.Prisoner)),
        Reaction.To<CallLogged>("calllog", (view, e, act) => Draft(view, e.Case, e.Call, e.TransferCommitments, act)),
        Reaction.To<ReadoutSubmitted>("calllog", (view, e, act) => Draft(view, e.Case, e.Call, e.TransferCommitments, act)),
        Reaction.To<ReadoutAmended>("calllog", (view, e, act) => Draft(view, e.Case, e.Call, e.TransferCommitments, act)),
        Reaction.To<CallLog.V1.RecordCorrected>("calllog", CallCorrected),
    ];

    /// <summary>The position of the entry that published an event, from the event's id (service/position/index); null where it is
    /// none.</summary>
    public static ulong? PositionOf(string eventId) =>
        eventId.Split('/') is [_, var position, _] && ulong.TryParse(position, out var number) ? number : null;

    // -------------------- from custody

    private static Reaction Changed<T>(Func<T, (string Case, string Prisoner)> of)
        where T : class, IMessage<T>, new() =>
        Reaction.To<T>(
            "custody",
            (view, e, act) => Recheck(view, e, act, of(e).Case, of(e).Prisoner),
            (e, services, cancel) => Ask(services, of(e).Case, of(e).Prisoner, cancel)
        );

    private static Task<IMessage?> Ask(IServiceProvider services, string @case, string prisoner, CancellationToken cancel) =>
        services.GetRequiredService<Departure>().AskAgain(@case, prisoner, cancel);

    /// <summary>Custody recorded something of the prisoner on which a departure may rest: the one that is under way goes on only
    /// where all that it needs is there still. What it was is told to nobody.</summary>
    private static Decision Recheck(View view, IMessage e, RuleContext act, string @case, string prisoner)
    {
        if (prisoner.Length == 0)
            return Decision.Accept(@case, [], []);
        var dossier = view.Find(Dossiers.Kind, Dossiers.Key(@case, prisoner));
        List<Change> changes = [new Change(e, [Dossiers.Kind.Id(Dossiers.Key(@case, prisoner))])];
        if (UnderWay(view, dossier) is { } transfer && !Knew(transfer, act) && Transfers.Obstacles(view, transfer, act).Count > 0)
            changes.Add(Transfers.On(Transfers.Suspended(transfer), transfer));
        return Decision.Accept(@case, [], changes);
    }

    private static Decision StatusChanged(View view, StatusRecorded e, RuleContext act)
    {
        var copied = Cases.Copy(view, e, act);
        if (copied.Refusal is not null)
            return copied;
        var dossier = view.Find(Dossiers.Kind, Dossiers.Key(e.Case, e.Prisoner));
        var recorded = new Change(e, [Cases.Kind.Id(e.Case), Dossiers.Kind.Id(Dossiers.Key(e.Case, e.Prisoner))]);
        Transfer[] lost =
            !e.Held ? [.. Open(view, dossier)]
            : UnderWay(view, dossier) is { } transfer && !Knew(transfer, act) && Transfers.Obstacles(view, transfer, act).Count > 0
                ? [transfer]
            : [];
        return Decision.Accept(e.Case, [], [recorded, .. lost.Select(t => Transfers.On(Transfers.Suspended(t), t))]);
    }

    /// <summary>Custody passed, or ended: the request that led there is monitored from now on; what else was asked of the power
    /// of before is suspended, for that power can no longer decide on it.</summary>
    private static Decision Passed(View view, IMessage e, RuleContext act, string @case, string prisoner)
    {
        var copied = Cases.Copy(view, e, act);
        if (copied.Refusal is not null)
            return copied;
        var dossier = view.Find(Dossiers.Kind, Dossiers.Key(@case, prisoner));
        List<StreamId> streams = [Cases.Kind.Id(@case), Dossiers.Kind.Id(Dossiers.Key(@case, prisoner))];
        if (
            dossier is { ActiveTransfer.Length: > 0 }
            && view.Find(Transfers.Kind, dossier.ActiveTransfer) is { State: State.HandedOver } done
        )
            streams.Add(Transfers.Kind.Id(done.Id));
        return Decision.Accept(
            @case,
            [],
            [new Change(e, streams), .. Open(view, dossier).Select(t => Transfers.On(Transfers.Suspended(t), t))]
        );
    }

    /// <summary>Whether the transfer's last step rests on an answer that custody gave after the event: it knew, and what was asked
    /// on behalf of the event is older.</summary>
    private static bool Knew(Transfer transfer, RuleContext act) =>
        PositionOf(act.RequestId) is { } position && transfer.Checks.LastOrDefault()?.CustodyPosition > position;

    private static Transfer? UnderWay(View view, Dossier? dossier) =>
        dossier is { ActiveTransfer.Length: > 0 }
        && view.Find(Transfers.Kind, dossier.ActiveTransfer) is { } transfer
        && Transfers.IsUnderWay(transfer.State)
            ? transfer
            : null;

    private static IEnumerable<Transfer> Open(View view, Dossier? dossier) =>
        (dossier?.Transfers ?? [])
            .Where(t => t.State is State.Submitted or State.Agreed)
            .Select(t => view.Find(Transfers.Kind, t.Transfer))
            .OfType<Transfer>()
            .Where(t => t.State is State.Submitted or State.UnderReview || Transfers.IsUnderWay(t.State));

    // -------------------- from the call log

    /// <summary>Drafts a request for each prisoner of each commitment to request a transfer, for the participant that is to request
    /// it and seen by it alone. The same event makes the same drafts.</summary>
    private static Decision Draft(
        View view,
        string @case,
        string call,
        IReadOnlyCollection<TransferCommitment> commitments,
        RuleContext act
    )
    {
        var changes = new List<Change>();
        var audience = new HashSet<string>();
        foreach (var commitment in commitments)
        {
            if (act.Permissions.Participant(commitment.Participant)?.State is not { Length: > 0 } state)
                continue;
            foreach (var prisoner in commitment.Prisoners)
            {
                var id = act.NewId("transfer", changes.Count);
                changes.Add(
                    new Change(
                        new TransferRequestDrafted
                        {
                            Case = @case,
                            Transfer = id,
                            Prisoner = prisoner,
                            Participant = commitment.Participant,
                            Route = commitment.Route,
                            Call = call,
                            Commitment = commitment.Commitment,
                            Destination = commitment.Destination,
                            RequestingState = state,
                        },
                        [Transfers.Kind.Id(id), Dossiers.Kind.Id(Dossiers.Key(@case, prisoner)), Dossiers.Calls.Id(call)]
                    )
                );
                audience.Add(Transfers.Drafter(@case, state, commitment.Participant));
            }
        }
        // An entry that drafts for two participants is neither's to see; each sees its own records.
        return Decision.Accept(@case, audience.Count == 1 ? [.. audience] : [], changes);
    }

    /// <summary>A side corrected what it had said: what was asked for on the ground of a commitment that nothing says any more is
    /// suspended.</summary>
    private static Decision CallCorrected(View view, CallLog.V1.RecordCorrected e, RuleContext act)
    {
        var suspended = new List<Change>();
        foreach (var id in view.Find(Dossiers.Calls, e.Record)?.Transfers ?? [])
        {
            if (view.Find(Transfers.Kind, id) is not { } transfer || !e.Commitments.Contains(transfer.Commitment))
                continue;
            if (transfer.State is State.Submitted or State.UnderReview || Transfers.IsUnderWay(transfer.State))
                suspended.Add(Transfers.On(Transfers.Suspended(transfer), transfer));
        }
        return Decision.Accept(e.Case, [], suspended);
    }
}
