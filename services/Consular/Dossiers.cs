using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Ministries.Consular.V1;
using Ministries.Custody.V1;

namespace Ministries.Consular;

/// <summary>What there is about one prisoner across requests: the ground of "at most one under way" (D1), of asking again, and of
/// telling a fresh answer of custody from an outdated one. Nobody reads it.</summary>
public static class Dossiers
{
    /// <summary>The greatest number of transfer requests of one state, and of accesses of one asker, for one prisoner. A state that makes
    /// many takes no room from others.</summary>
    public const int MaxRecords = 256;

    /// <summary>The stream of dossiers, one per prisoner.</summary>
    public static readonly StreamKind<Dossier> Kind = new(
        "dossier",
        8,
        new Folds<Dossier>()
            .On<TransferRequestDrafted>(Drafted)
            .On<DraftDiscarded>((d, e, _) => Move(d, e.Transfer, TransferState.Discarded))
            .On<TransferRequestSubmitted>(Submitted)
            .On<ReviewBegun>()
            .On<TransfereeAssessmentRecorded>()
            .On<AssuranceGiven>()
            .On<TransferDecided>(Decided)
            .On<HandoverScheduled>()
            .On<TransitBegun>((d, e, _) => Find(d, e.Transfer).State = TransferState.InTransit)
            .On<HandoverAborted>((d, e, _) => Aborted(d, e.Transfer))
            .On<HandoverConfirmedByOneSide>()
            .On<HandoverConfirmed>(HandedOver)
            .On<TransferSuspended>((d, e, _) => Suspended(d, e.Transfer))
            .On<TransferResumed>((d, e, _) => Resumed(d, e.Transfer))
            .On<TransferRequestWithdrawn>((d, e, _) => Move(d, e.Transfer, TransferState.Withdrawn, ends: true))
            .On<CustodyTransferred>(
                (d, e, entry) =>
                {
                    Passed(d, e, entry);
                    // What one power denied, another power decides on anew. A hand-over that was recorded of another reference before ended
                    // denials at that time. It does not end what was denied since, nor does it if he was with one power all along.
                    if (e.AnsweringPower.Length == 0 && !(e.Undone && e.FromPower == e.ToPower))
                        EndDenials(d, _ => true, entry);
                }
            )
            .On<DepartureRecorded>(Departed)
            .On<TreatmentFailureReported>()
            .On<CorrectiveMeasuresRecorded>()
            .On<ReturnRequested>(ReturnAsked)
            .On<ReturnWithdrawn>((d, e, _) => Move(d, e.Transfer, TransferState.Monitored, ends: true))
            .On<ReturnConfirmedByOneSide>()
            .On<ReturnConfirmed>(Returned)
            .On<TransferRestored>(Restored)
            .On<TransferClosed>((d, e, _) => Move(d, e.Transfer, TransferState.Closed, ends: true))
            .On<AccessRequested>((d, e, _) => Open(d, e.Access, e.RequestingState, AccessKind.Consular, AccessState.Requested))
            .On<VisitNotified>(Notified)
            .On<AccessDecided>(Decided)
            .On<AccessReopened>()
            .On<AccessPassed>(PassedOn)
            .On<VisitRecorded>()
            .On<AccessClosed>((d, e, _) => d.Accesses.Single(a => a.Access == e.Access).State = AccessState.Closed)
            .On<V1.DutyFellDue>(FellDue)
            .On<V1.RecordCorrected>((d, e, entry) => EndDenials(d, x => x.Access == e.Record && x.Position == e.Position, entry))
            .On<StatusRecorded>()
            .On<StatementRecorded>()
            .On<StatementAttested>()
            .On<AttestationRevoked>()
            .On<RiskAssessmentRecorded>()
            .On<FitnessRecorded>()
            .On<Custody.V1.RecordCorrected>()
            .On<Custody.V1.DutyFellDue>()
            .On<ClaimRecorded>()
            .On<BureauNotified>()
            .On<PartyAdmitted>()
            .On<DuplicateLinked>()
            .After(NotePosition)
    );

    /// <summary>The stream of the requests that rest on a call, one per call.</summary>
    public static readonly StreamKind<CallTransfers> Calls = new(
        "call-transfers",
        1,
        new Folds<CallTransfers>().On<TransferRequestDrafted>((calls, e, _) => calls.Transfers.Add(e.Transfer))
    );

    /// <summary>The stream of the links of references, one per case.</summary>
    public static readonly StreamKind<CaseLinks> Links = new(
        "case-links",
        1,
        new Folds<CaseLinks>()
            .On<DuplicateLinked>(
                (links, e, entry) =>
                    links.Links.Add(
                        new CaseLink
                        {
                            Prisoner = e.Prisoner,
                            KeptPrisoner = e.SameAsPrisoner,
                            CustodyPosition = Reactions.PositionOf(entry.RequestId) ?? 0,
                        }
                    )
            )
            .On<Custody.V1.RecordCorrected>((links, e, _) => links.Links.Keep(l => !IsUndone(l, e)))
    );

    /// <summary>Whether the correction of an entry of custody undoes a link.</summary>
    /// <param name="links">The links of the case; null: there are none.</param>
    /// <param name="e">The correction.</param>
    public static bool IsUndone(CaseLinks? links, Custody.V1.RecordCorrected e) => links?.Links.Any(l => IsUndone(l, e)) == true;

    private static bool IsUndone(CaseLink link, Custody.V1.RecordCorrected e) =>
        link.Prisoner == e.Prisoner && link.CustodyPosition == e.Position;

    /// <summary>The references under which a person is known: the one that is kept first.</summary>
    /// <param name="links">The links of the case; null: there are none.</param>
    /// <param name="prisoner">One of the references.</param>
    public static IReadOnlyList<string> PersonOf(CaseLinks? links, string prisoner)
    {
        var kept = links?.Links.FirstOrDefault(l => l.Prisoner == prisoner)?.KeptPrisoner ?? prisoner;
        return [kept, .. links?.Links.Where(l => l.KeptPrisoner == kept).Select(l => l.Prisoner) ?? []];
    }

    /// <summary>The key of a prisoner's dossier.</summary>
    public static string Key(string @case, string prisoner) => $"{@case}/{prisoner}";

    /// <summary>The key of the dossier to which the request belongs.</summary>
    public static string Key(Transfer transfer) => Key(transfer.Case, transfer.Prisoner);

    /// <summary>The requests of the state that were declined.</summary>
    public static IReadOnlyCollection<string> Declined(Dossier? dossier, string state) =>
        [.. (dossier?.Transfers ?? []).Where(t => t.RequestingState == state && t.State == TransferState.Declined).Select(t => t.Transfer)];

    /// <summary>Whether the state has made as many requests as it may.</summary>
    public static bool IsFullFor(Dossier? dossier, string state) => dossier?.Transfers.Count(t => t.RequestingState == state) >= MaxRecords;

    /// <summary>Whether who asks has had as many accesses as it may.</summary>
    public static bool HasNoRoomFor(Dossier? dossier, string asker) => dossier?.Accesses.Count(a => a.Asker == asker) >= MaxRecords;

    /// <summary>Whether who asks has access that is not closed.</summary>
    public static bool HasAccess(Dossier? dossier, string asker) =>
        dossier?.Accesses.Any(a => a.Asker == asker && a.State != AccessState.Closed) ?? false;

    /// <summary>The denial of the observer's visits that is in force; null: none is.</summary>
    public static DossierDenial? DenialInForce(Dossier? dossier, string observer, Timestamp time) =>
        dossier?.Denials.LastOrDefault(d => d.Asker == observer && d.EndTime > time);

    /// <summary>For how long a denial was in force up to a time.</summary>
    public static TimeSpan LengthOf(DossierDenial denial, DateTimeOffset time)
    {
        var end = denial.EndTime.ToDateTimeOffset();
        return (end < time ? end : time) - denial.StartTime.ToDateTimeOffset();
    }

    private static void Drafted(Dossier dossier, TransferRequestDrafted e, FoldedEntry entry)
    {
        dossier.Prisoner = e.Prisoner;
        dossier.Transfers.Add(
            new DossierTransfer
            {
                Transfer = e.Transfer,
                RequestingState = e.RequestingState,
                State = TransferState.Drafted,
            }
        );
    }

    private static void Decided(Dossier dossier, TransferDecided e, FoldedEntry entry) =>
        Move(dossier, e.Transfer, e.Agreed ? TransferState.Agreed : TransferState.Declined, begins: e.Agreed, ends: !e.Agreed);

    private static void Submitted(Dossier dossier, TransferRequestSubmitted e, FoldedEntry entry)
    {
        Move(dossier, e.Transfer, TransferState.Submitted);
        Find(dossier, e.Transfer).DetainingPower = e.DetainingPower;
    }

    private static void HandedOver(Dossier dossier, HandoverConfirmed e, FoldedEntry entry)
    {
        var transfer = Find(dossier, e.Transfer);
        (transfer.StateBeforeHandover, transfer.HandoverTime) = (transfer.State, e.HandoverTime);
        transfer.ToPower = TransferFold.PowerTakingCustody(e.Route, e.ToPower);
        Move(dossier, e.Transfer, TransferState.HandedOver, begins: true);
    }

    // From here on another power answers for the prisoner, or none, and agrees to other departures. A power that has him back no longer
    // answers for its transfer. Nor does a power to which he came after that one.
    private static void Passed(Dossier dossier, CustodyTransferred e, FoldedEntry entry)
    {
        if (e.Undone)
        {
            PassedBack(dossier, e);
            return;
        }
        string[] relieved = [.. e.RelievedPowers, e.ToPower];
        foreach (var transfer in dossier.Transfers)
        {
            if (IsUnrecordedReturn(transfer) && TransferFold.IsHandedOn(e, transfer.ReturningPower, transfer.DetainingPower))
                Restore(dossier, transfer);
            switch (transfer.State)
            {
                case TransferState.HandedOver
                    when e.PassTime is null && TransferFold.IsHandover(e, transfer.DetainingPower, transfer.ToPower):
                    Move(dossier, transfer.Transfer, TransferState.Monitored, ends: true);
                    break;
                case TransferState.HandedOver when e.PassTime is null && IsUnrecordedHandover(transfer, e.ToPower):
                    CallOff(dossier, transfer);
                    break;
                case TransferState.Monitored
                or TransferState.ReturnRequested
                    when relieved.Contains(transfer.DetainingPower) && !TransferFold.IsBefore(e.PassTime, transfer.HandoverTime):
                    (transfer.StateBeforeReturn, transfer.SuspendedBeforeReturn) = (transfer.State, transfer.Suspended);
                    transfer.ReturnTime = entry.Time;
                    Move(dossier, transfer.Transfer, TransferState.Returned, ends: true);
                    break;
                case TransferState.Returned
                or TransferState.Closed when IsUnrecordedReturn(transfer) && e.ToPower == transfer.DetainingPower:
                    (transfer.StateBeforeReturn, transfer.SuspendedBeforeReturn) = (TransferState.Unspecified, false);
                    (transfer.ReturnTime, transfer.ReturningPower) = (null, "");
                    break;
            }
        }
        CallOff(dossier);
    }

    private static void Departed(Dossier dossier, DepartureRecorded e, FoldedEntry entry)
    {
        foreach (
            var transfer in dossier.Transfers.Where(t =>
                t.State == TransferState.HandedOver && t.ToPower.Length == 0 && e.HandoverTime is null
            )
        )
            Move(dossier, transfer.Transfer, TransferState.Monitored, ends: true);
        CallOff(dossier);
    }

    // Another prisoner was handed over, or came back.
    private static void PassedBack(Dossier dossier, CustodyTransferred e)
    {
        foreach (var transfer in dossier.Transfers)
            if (IsUnrecordedHandover(transfer, e.ToPower))
                CallOff(dossier, transfer);
            else if (
                TransferFold.IsRelievedSince(transfer.ReturnTime, e)
                && TransferFold.AnswersAgain(dossier.Prisoner, transfer.DetainingPower, e)
                && transfer.ReturningPower != e.ToPower
            )
                Restore(dossier, transfer);
        if (!Cases.IsOfChainAlone(e))
            CallOff(dossier);
    }

    // Ends every other transfer of the prisoner that is under way.
    private static void CallOff(Dossier dossier)
    {
        foreach (var transfer in dossier.Transfers.Where(t => t.State == TransferState.InTransit))
        {
            (transfer.State, transfer.Suspended) = (TransferState.Agreed, true);
            StandAside(dossier, transfer.Transfer);
        }
    }

    // Custody cannot record that hand-over.
    private static void CallOff(Dossier dossier, DossierTransfer transfer)
    {
        var before = transfer.StateBeforeHandover == TransferState.InTransit ? TransferState.Agreed : transfer.StateBeforeHandover;
        (transfer.State, transfer.Suspended) = (before, !TransferFold.IsFinal(before));
        (transfer.StateBeforeHandover, transfer.HandoverTime, transfer.ToPower) = (TransferState.Unspecified, null, "");
        StandAside(dossier, transfer.Transfer);
    }

    private static bool IsUnrecordedHandover(DossierTransfer transfer, string power) =>
        transfer.State == TransferState.HandedOver && transfer.DetainingPower != power;

    /// <summary>Whether both sides confirmed that he is back, and custody has not recorded it.</summary>
    internal static bool IsUnrecordedReturn(DossierTransfer transfer) => transfer.ReturningPower.Length > 0;

    // A request that is made again may be overdue from the start. The return is owed, but blocks no other transfer.
    private static void ReturnAsked(Dossier dossier, ReturnRequested e, FoldedEntry entry)
    {
        var overdue = e.ReturnDueTime is { } due && due <= entry.Time;
        Move(dossier, e.Transfer, TransferState.ReturnRequested, begins: !overdue);
        Find(dossier, e.Transfer).Suspended = overdue;
    }

    private static void Returned(Dossier dossier, ReturnConfirmed e, FoldedEntry entry)
    {
        var transfer = Find(dossier, e.Transfer);
        var asked = transfer.State == TransferState.ReturnRequested;
        (transfer.StateBeforeReturn, transfer.SuspendedBeforeReturn) = (
            asked ? TransferState.ReturnRequested : TransferState.Monitored,
            asked && transfer.Suspended
        );
        (transfer.ReturnTime, transfer.ReturningPower) = (e.ReturnTime, e.FromPower);
        Move(dossier, e.Transfer, TransferState.Returned, ends: true);
    }

    private static void Restored(Dossier dossier, TransferRestored e, FoldedEntry entry)
    {
        var transfer = Find(dossier, e.Transfer);
        if (IsUnrecordedHandover(transfer, e.DetainingPower))
            CallOff(dossier, transfer);
        Restore(dossier, transfer);
    }

    private static void Restore(Dossier dossier, DossierTransfer transfer)
    {
        if (transfer.StateBeforeReturn == TransferState.Unspecified)
            return;
        (transfer.State, transfer.Suspended) = (transfer.StateBeforeReturn, transfer.SuspendedBeforeReturn);
        (transfer.StateBeforeReturn, transfer.SuspendedBeforeReturn) = (TransferState.Unspecified, false);
        (transfer.ReturnTime, transfer.ReturningPower) = (null, "");
        if (transfer is { State: TransferState.ReturnRequested, Suspended: false })
            dossier.ActiveTransfer = transfer.Transfer;
    }

    private static void Open(Dossier dossier, string access, string asker, AccessKind kind, AccessState state) =>
        dossier.Accesses.Add(
            new DossierAccess
            {
                Access = access,
                Asker = asker,
                Kind = kind,
                State = state,
            }
        );

    private static void Notified(Dossier dossier, VisitNotified e, FoldedEntry entry)
    {
        var denied = e.DenialExpireTime is not null;
        Open(dossier, e.Access, e.Participant, AccessKind.ObserverVisit, denied ? AccessState.Denied : AccessState.Granted);
        // The denial goes on, of this access from now on.
        if (denied && DenialInForce(dossier, e.Participant, entry.Time) is { } denial)
            denial.Access = e.Access;
    }

    private static void Decided(Dossier dossier, AccessDecided e, FoldedEntry entry)
    {
        var access = dossier.Accesses.Single(a => a.Access == e.Access);
        EndDenials(dossier, d => d.Access == e.Access, entry);
        var request = entry.Request as DecideAccessRequest;
        if (access.Kind != AccessKind.ObserverVisit || e.Granted || (e.DenialExpireTime ?? request?.DenialExpireTime) is not { } end)
            return;
        dossier.Denials.Add(
            new DossierDenial
            {
                Asker = access.Asker,
                Access = e.Access,
                Position = entry.Position,
                StartTime = entry.Time,
                EndTime = end,
                Reason = request?.DenialReason ?? "",
            }
        );
    }

    private static void PassedOn(Dossier dossier, AccessPassed e, FoldedEntry entry)
    {
        if (e.HandoverTime is not null)
            EndDenials(dossier, d => d.Access == e.Access, entry);
        var access = dossier.Accesses.Single(a => a.Access == e.Access);
        if (e.Undone && access.State == AccessState.Closed)
            access.State = AccessState.Requested;
    }

    // A denial that is ended early counts only until its end.
    private static void EndDenials(Dossier dossier, Func<DossierDenial, bool> which, FoldedEntry entry)
    {
        foreach (var denial in dossier.Denials.Where(which).Where(d => d.EndTime > entry.Time))
            denial.EndTime = entry.Time;
    }

    // Custody's answers are compared with the newest of its entries that is known here.
    private static void NotePosition(Dossier dossier, IMessage e, FoldedEntry entry)
    {
        if (e.Descriptor.File.Package == "ministries.custody.v1" && Reactions.PositionOf(entry.RequestId) is { } position)
            dossier.CustodyPosition = Math.Max(dossier.CustodyPosition, position + 1);
    }

    // A suspended transfer blocks no other (D8), unless the prisoner is on the way.
    private static void Suspended(Dossier dossier, string transfer)
    {
        var suspended = Find(dossier, transfer);
        suspended.Suspended = true;
        if (suspended.State == TransferState.Agreed)
            StandAside(dossier, transfer);
    }

    private static void Resumed(Dossier dossier, string transfer)
    {
        var resumed = Find(dossier, transfer);
        resumed.Suspended = false;
        if (resumed.State is TransferState.Agreed or TransferState.InTransit)
            dossier.ActiveTransfer = transfer;
    }

    private static void Aborted(Dossier dossier, string transfer)
    {
        var aborted = Find(dossier, transfer);
        aborted.State = TransferState.Agreed;
        if (aborted.Suspended)
            StandAside(dossier, transfer);
    }

    // An overdue return is still owed, but no longer blocks other transfers. Otherwise the power that requested it could keep the prisoner
    // held for ever (D8).
    private static void FellDue(Dossier dossier, V1.DutyFellDue e, FoldedEntry entry)
    {
        if (e.Duty != Duties.Return)
            return;
        Find(dossier, e.Record).Suspended = true;
        StandAside(dossier, e.Record);
    }

    // Another one that stands is in the way from then on: a request for return stands before a departure that was agreed meanwhile.
    private static void StandAside(Dossier dossier, string transfer)
    {
        if (dossier.ActiveTransfer == transfer)
            dossier.ActiveTransfer = dossier.Transfers.LastOrDefault(t => t.Transfer != transfer && Stands(t))?.Transfer ?? "";
    }

    private static bool Stands(DossierTransfer transfer) =>
        transfer
            is { State: TransferState.InTransit or TransferState.HandedOver }
                or { State: TransferState.Agreed or TransferState.ReturnRequested, Suspended: false };

    private static DossierTransfer Find(Dossier dossier, string transfer) => dossier.Transfers.Single(t => t.Transfer == transfer);

    private static void Move(Dossier dossier, string transfer, TransferState state, bool begins = false, bool ends = false)
    {
        var moved = Find(dossier, transfer);
        (moved.State, moved.Suspended) = (state, false);
        if (begins)
            dossier.ActiveTransfer = transfer;
        if (ends)
            StandAside(dossier, transfer);
    }
}
