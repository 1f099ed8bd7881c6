using Google.Protobuf.Collections;
using Google.Protobuf.WellKnownTypes;
using Ministries.Consular.V1;
using Ministries.Custody.V1;
using Ministries.Types.V1;
using Route = Ministries.Types.V1.Route;
using State = Ministries.Consular.V1.TransferState;

namespace Ministries.Consular;

/// <summary>What each event does to a transfer request.</summary>
internal static class TransferFold
{
    public static Folds<Transfer> All =>
        new Folds<Transfer>()
            .On<TransferRequestDrafted>(Drafted)
            .On<DraftDiscarded>((transfer, _, _) => transfer.State = State.Discarded)
            .On<TransferRequestSubmitted>(Submitted)
            .On<ReviewBegun>((transfer, _, _) => transfer.State = State.UnderReview)
            .On<TransfereeAssessmentRecorded>(Assessed)
            .On<AssuranceGiven>(Assured)
            .On<TransferDecided>(Decided)
            .On<HandoverScheduled>(Scheduled)
            .On<TransitBegun>(SetOut)
            .On<HandoverAborted>(Aborted)
            .On<HandoverConfirmedByOneSide>(ConfirmedByOneSide)
            .On<HandoverConfirmed>(HandedOver)
            .On<TransferSuspended>(Suspended)
            .On<TransferResumed>(Resumed)
            .On<TransferRequestWithdrawn>(Withdrawn)
            .On<CustodyTransferred>(Passed)
            .On<StatusRecorded>(CustodyChanged)
            .On<DepartureRecorded>(Departed)
            .On<TreatmentFailureReported>(FailureReported)
            .On<CorrectiveMeasuresRecorded>(MeasuresRecorded)
            .On<ReturnRequested>(ReturnAsked)
            .On<ReturnWithdrawn>(ReturnTakenBack)
            .On<ReturnConfirmedByOneSide>(ReturnConfirmedByOneSide)
            .On<ReturnConfirmed>(Returned)
            .On<TransferRestored>(Restored)
            .On<TransferClosed>((transfer, _, entry) => (transfer.State, transfer.CloseTime) = (State.Closed, entry.Time))
            .On<V1.DutyFellDue>(FellDue)
            .On<V1.RecordCorrected>(Corrected)
            .After((transfer, _, entry) => Acts.Note(transfer.Acts, entry));

    private static void Drafted(Transfer transfer, TransferRequestDrafted e, FoldedEntry entry)
    {
        (transfer.Id, transfer.Case, transfer.Prisoner, transfer.Route) = (e.Transfer, e.Case, e.Prisoner, e.Route);
        (transfer.Destination, transfer.Participant, transfer.RequestingState) = (e.Destination, e.Participant, e.RequestingState);
        (transfer.Call, transfer.Commitment, transfer.DraftTime) = (e.Call, e.Commitment, entry.Time);
        transfer.State = State.Drafted;
        if (entry.Request is DraftTransferRequestRequest draft)
            (transfer.PreviousTransfer, transfer.Content) = (draft.PreviousTransfer, Seals.Keep(draft.Content, entry.Position));
    }

    private static void Submitted(Transfer transfer, TransferRequestSubmitted e, FoldedEntry entry)
    {
        (transfer.DetainingPower, transfer.AcceptingPower, transfer.SubmitTime) = (e.DetainingPower, e.AcceptingPower, entry.Time);
        transfer.State = State.Submitted;
        if (entry.Request is not SubmitTransferRequestRequest submit)
            return;
        if (submit.PreviousTransfer.Length > 0)
            transfer.PreviousTransfer = submit.PreviousTransfer;
        if (submit.Content is not null)
            transfer.Content = Seals.Keep(submit.Content, entry.Position);
    }

    private static void Assessed(Transfer transfer, TransfereeAssessmentRecorded e, FoldedEntry entry)
    {
        var request = entry.Request as RecordTransfereeAssessmentRequest;
        transfer.Assessment = new TransfereeAssessment
        {
            Participant = entry.Participant,
            Official = request?.Actor?.Official ?? "",
            Willing = request?.Willing ?? false,
            Able = request?.Able ?? false,
            RecordTime = entry.Time,
            ExpireTime = request?.ExpireTime ?? entry.Time,
            Content = Seals.Keep(request?.Content, entry.Position),
            Position = entry.Position,
        };
    }

    private static void Assured(Transfer transfer, AssuranceGiven e, FoldedEntry entry)
    {
        var request = entry.Request as GiveAssuranceRequest;
        transfer.Assurance = new Assurance
        {
            Participant = entry.Participant,
            NoteVerbale = request?.NoteVerbale ?? "",
            GiveTime = entry.Time,
            ExpireTime = e.ExpireTime,
            Position = entry.Position,
            Undertakings = { request?.Undertakings ?? [] },
        };
    }

    private static void Decided(Transfer transfer, TransferDecided e, FoldedEntry entry)
    {
        transfer.Decision = new TransferDecision
        {
            Agreed = e.Agreed,
            Participant = entry.Participant,
            DecideTime = entry.Time,
            NoteVerbale = (entry.Request as DecideTransferRequest)?.NoteVerbale ?? "",
        };
        if (e.Agreed && entry.Request is DecideTransferRequest agreed)
            transfer.Decision.Openings.Add(agreed.Openings);
        // The plan rested on an earlier agreement.
        (transfer.SuspendedFrom, transfer.Plan) = (State.Unspecified, null);
        Reach(transfer, e.Agreed ? State.Agreed : State.Declined, e.CustodyPosition, entry);
    }

    private static void Scheduled(Transfer transfer, HandoverScheduled e, FoldedEntry entry)
    {
        if (entry.Request is ScheduleHandoverRequest plan)
            transfer.Plan = new HandoverPlan
            {
                HandoverReference = plan.HandoverReference,
                WindowStartTime = plan.WindowStartTime,
                WindowEndTime = plan.WindowEndTime,
                Place = Seals.Keep(plan.Place, entry.Position),
                Participant = entry.Participant,
            };
        Reach(transfer, State.Scheduled, e.CustodyPosition, entry);
    }

    // The other side can now confirm a hand-over that one side confirmed before the departure was recorded.
    private static void SetOut(Transfer transfer, TransitBegun e, FoldedEntry entry)
    {
        transfer.SecondConfirmationDueTime ??= e.SecondConfirmationDueTime;
        Reach(transfer, State.InTransit, e.CustodyPosition, entry);
    }

    private static void Aborted(Transfer transfer, HandoverAborted e, FoldedEntry entry)
    {
        Back(transfer);
    }

    // The hand-over of this request did not take place. The confirmations no longer count; the acts stay recorded.
    private static void Back(Transfer transfer)
    {
        if (transfer.State == State.HandedOver)
        {
            // A request that was final before is final again. Every other request is suspended until the power that holds the prisoner
            // resumes it.
            var before = transfer.StateBeforeHandover;
            (transfer.State, transfer.SuspendedFrom) = IsFinal(before) ? (before, State.Unspecified) : (State.Suspended, before);
            (transfer.StateBeforeHandover, transfer.Plan, transfer.HandoverTime) = (State.Unspecified, null, null);
            transfer.Breaches.Clear();
        }
        if (transfer.SuspendedFrom == State.InTransit)
            (transfer.SuspendedFrom, transfer.Plan) = (State.Agreed, null);
        else if (transfer.State == State.InTransit)
            (transfer.State, transfer.Plan) = (State.Agreed, null);
        transfer.Confirmations.Clear();
        StopClock(transfer);
    }

    /// <summary>Whether only a hand-over that took place changes the state any more.</summary>
    internal static bool IsFinal(State state) => state is State.Declined or State.Withdrawn;

    private static void ConfirmedByOneSide(Transfer transfer, HandoverConfirmedByOneSide e, FoldedEntry entry)
    {
        transfer.Confirmations.Add(Confirmed(e.Side, entry));
        transfer.SecondConfirmationDueTime = e.SecondConfirmationDueTime;
        Reach(transfer, transfer.State, e.CustodyPosition, entry);
    }

    private static void HandedOver(Transfer transfer, HandoverConfirmed e, FoldedEntry entry)
    {
        var giving = entry.Participant == e.DetainingParticipant;
        transfer.Confirmations.Add(Confirmed(giving ? HandoverSide.Giving : HandoverSide.Taking, entry));
        var stage = transfer.State == State.Suspended ? transfer.SuspendedFrom : transfer.State;
        transfer.StateBeforeHandover = Transfers.IsUnderWay(stage) ? State.Agreed : stage;
        (transfer.SuspendedFrom, transfer.HandoverTime) = (State.Unspecified, e.HandoverTime);
        transfer.Breaches.Add(BreachesOf(e.Breaches, transfer.Confirmations));
        StopClock(transfer);
        Reach(transfer, State.HandedOver, e.CustodyPosition, entry);
    }

    // The event does not tell all that a side acknowledged.
    private static IEnumerable<Invariant> BreachesOf(IEnumerable<Invariant> told, IEnumerable<Confirmation> confirmations) =>
        [.. told.Union(confirmations.SelectMany(c => c.AcknowledgedBreaches)).Order()];

    private static void Suspended(Transfer transfer, TransferSuspended e, FoldedEntry entry)
    {
        if (transfer.State != State.Suspended)
            (transfer.SuspendedFrom, transfer.State) = (transfer.State, State.Suspended);
    }

    private static void Resumed(Transfer transfer, TransferResumed e, FoldedEntry entry)
    {
        if (transfer.Decision is { } decision && entry.Request is ResumeTransferRequest { Openings: { Count: > 0 } openings })
        {
            decision.Openings.Clear();
            decision.Openings.Add(openings);
        }
        var stage = Transfers.ResumesTo(transfer) ?? transfer.SuspendedFrom;
        if (stage == State.Agreed)
            transfer.Plan = null;
        Reach(transfer, stage, e.CustodyPosition, entry);
        transfer.SuspendedFrom = State.Unspecified;
    }

    private static void Withdrawn(Transfer transfer, TransferRequestWithdrawn e, FoldedEntry entry) =>
        (transfer.State, transfer.SuspendedFrom) = (State.Withdrawn, State.Unspecified);

    // The power that holds the prisoner now must return him. A return that another power confirmed does not count for this one.
    private static void Passed(Transfer transfer, CustodyTransferred e, FoldedEntry entry)
    {
        if (e.Undone)
        {
            PassedBack(transfer, e);
            return;
        }
        if (transfer.BeforeReturn is { Prisoner.Length: 0 } before)
        {
            // Custody now records the return that both sides confirmed.
            if (e.ToPower == transfer.DetainingPower)
                transfer.BeforeReturn = null;
            if (!IsHandedOn(e, transfer.ReturningPower, transfer.DetainingPower))
                return;
            Restore(transfer, before);
        }
        // A prisoner who is handed over is in custody, whatever end of custody was recorded before.
        if (!e.Ended)
            CustodyGoesOn(transfer);
        // The prisoner is back with this power, or with a power that had transferred him earlier. His return is no longer owed, and this
        // power no longer answers for what happens to him.
        if (
            IsWatched(transfer)
            && e.RelievedPowers.Append(e.ToPower).Contains(transfer.DetainingPower)
            && !IsBefore(e.PassTime, transfer.HandoverTime)
        )
        {
            Relieve(transfer, e, entry);
            return;
        }
        // A hand-over that was first recorded under another reference is older than what both sides confirmed since, so it starts no
        // monitoring here.
        if (e.PassTime is null && IsHandover(e, transfer.DetainingPower, PowerTakingCustody(transfer.Route, transfer.Destination)))
            Monitored(transfer, e.Breaches);
        else if (e.PassTime is null && IsUnrecordedHandover(transfer, e.ToPower))
            Back(transfer);
        // The power gave the prisoner to another power, so the hand-over that was confirmed here cannot have taken place.
        if (IsOvertaken(transfer))
            Back(transfer);
        if (e.Ended)
            CustodyEnded(transfer);
        ReturnedBy(transfer, e.ToPower);
    }

    /// <summary>The power to which custody passes by a hand-over; empty: by that route to none.</summary>
    internal static string PowerTakingCustody(Route route, string destination) => route.PassesCustody() ? destination : "";

    /// <summary>Whether a passing of custody is the hand-over between these powers. A return is none: the power that gave him back does not
    /// answer for it as for a transfer of its own.</summary>
    internal static bool IsHandover(CustodyTransferred e, string from, string to) => !e.Returned && e.FromPower == from && e.ToPower == to;

    /// <summary>Whether he passed to another power than a return led to that both sides confirmed. Custody cannot record that return any
    /// more, unless he came to the power that gave him back.</summary>
    /// <param name="e">The passing of custody.</param>
    /// <param name="returning">The power that gave him back.</param>
    /// <param name="back">The power that has him back.</param>
    internal static bool IsHandedOn(CustodyTransferred e, string returning, string back) =>
        e.PassTime is null && e.ToPower != back && e.ToPower != returning;

    /// <summary>Whether a passing of custody, recorded again because a link was undone, is older than a hand-over. A return relieves no
    /// power of a later hand-over.</summary>
    internal static bool IsBefore(Timestamp? passing, Timestamp? handover) =>
        passing is not null && handover is not null && passing < handover;

    private static void Relieve(Transfer transfer, CustodyTransferred e, FoldedEntry entry)
    {
        transfer.BeforeReturn = Before(transfer);
        transfer.BeforeReturn.Prisoner = e.Prisoner;
        transfer.BeforeReturn.ReturnConfirmations.Add(transfer.ReturnConfirmations);
        transfer.BeforeReturn.SecondConfirmationDueTime = transfer.SecondConfirmationDueTime;
        transfer.BeforeReturn.SecondConfirmationOverdue = transfer.SecondConfirmationOverdue;
        transfer.BeforeReturn.StoppedSecondConfirmationDueTime = transfer.StoppedSecondConfirmationDueTime;
        (transfer.State, transfer.ReturnTime) = (State.Returned, entry.Time);
        transfer.ReturnConfirmations.Clear();
        StopClock(transfer);
        StopClockOfReturn(transfer);
    }

    // What counts again if the prisoner turns out not to be back, without the confirmations of either side.
    private static BeforeReturn Before(Transfer transfer) =>
        new()
        {
            State = IsWatched(transfer) ? transfer.State : State.Monitored,
            ReturningPower = transfer.ReturningPower,
            ReturnDueTime = transfer.ReturnDueTime,
            ReturnOverdue = transfer.ReturnOverdue,
            StoppedReturnDueTime = transfer.StoppedReturnDueTime,
        };

    // Another prisoner was handed over, and this one is where he was. A power that the hand-over had relieved answers for him again.
    private static void PassedBack(Transfer transfer, CustodyTransferred e)
    {
        if (IsOvertaken(transfer) && !Cases.IsOfChainAlone(e) || IsUnrecordedHandover(transfer, e.ToPower))
            Back(transfer);
        if (
            transfer.BeforeReturn is { } before
            && IsRelievedSince(transfer.ReturnTime, e)
            && AnswersAgain(transfer.Prisoner, transfer.DetainingPower, e)
            && (!IsUnrecordedReturn(transfer) || transfer.ReturningPower != e.ToPower)
        )
            Restore(transfer, before);
        if (e.Ended)
            CustodyEnded(transfer);
        else if (IsWatched(transfer))
            CustodyGoesOn(transfer);
        ReturnedBy(transfer, e.ToPower);
    }

    /// <summary>Whether a power was relieved since the link that is undone.</summary>
    /// <param name="relieved">When the prisoner's return was recorded; null: it was not.</param>
    /// <param name="e">What custody says once the link is undone.</param>
    internal static bool IsRelievedSince(Timestamp? relieved, CustodyTransferred e) =>
        (e.RelievedSinceTime ?? e.PassTime) is { } since && relieved is not null && relieved >= since;

    /// <summary>Whether a power still answers for a transfer once a link is undone. Each reference of the person has a chain of its own.
    /// Events of earlier versions contain only the chain of the kept reference.</summary>
    /// <param name="prisoner">The reference under which the power transferred him.</param>
    /// <param name="power">The power.</param>
    /// <param name="e">What custody says once the link is undone.</param>
    internal static bool AnswersAgain(string prisoner, string power, CustodyTransferred e) =>
        (prisoner == e.Prisoner || e.TransferringPowers.Count == 0 ? e.FormerPowers : e.TransferringPowers).Contains(power);

    // The return or hand-over under the kept reference concerned another prisoner.
    private static void Restored(Transfer transfer, TransferRestored e, FoldedEntry entry)
    {
        if (IsUnrecordedHandover(transfer, e.DetainingPower))
            Back(transfer);
        if (transfer.BeforeReturn is { } before)
            Restore(transfer, before);
        ReturnedBy(transfer, e.DetainingPower);
    }

    /// <summary>Whether the transfer must be restored because a link of two references was undone. Either a passing of custody under the
    /// other reference had relieved the transferring power, or custody cannot record what both sides confirmed.
    /// </summary>
    /// <param name="transfer">The transfer request.</param>
    /// <param name="power">The power that answers for him now, or did last.</param>
    internal static bool IsToRestore(Transfer transfer, string power) =>
        transfer.BeforeReturn is { Prisoner.Length: > 0 } before && before.Prisoner != transfer.Prisoner
        || IsUnrecordedHandover(transfer, power)
        || IsUnrecordedReturn(transfer) && transfer.ReturningPower != power && transfer.DetainingPower != power;

    // Both sides confirmed the hand-over, but custody has not recorded it and cannot, because another power answers for the prisoner.
    private static bool IsUnrecordedHandover(Transfer transfer, string power) =>
        transfer.State == State.HandedOver && transfer.DetainingPower != power;

    /// <summary>Whether both sides confirmed the return, and custody has not recorded it. Custody cannot record it if the power that gave
    /// the prisoner back is not the one that answers for him.</summary>
    internal static bool IsUnrecordedReturn(Transfer transfer) => transfer.BeforeReturn is { Prisoner.Length: 0 };

    // Every duty is owed as before, even if the record was closed meanwhile.
    private static void Restore(Transfer transfer, BeforeReturn before)
    {
        (transfer.State, transfer.ReturnTime, transfer.CloseTime) = (before.State, null, null);
        transfer.ReturningPower = before.ReturningPower;
        transfer.ReturnConfirmations.Clear();
        transfer.ReturnBreaches.Clear();
        transfer.ReturnConfirmations.Add(before.ReturnConfirmations);
        (transfer.ReturnDueTime, transfer.ReturnOverdue) = (before.ReturnDueTime, before.ReturnOverdue);
        transfer.SecondConfirmationDueTime = before.SecondConfirmationDueTime;
        transfer.SecondConfirmationOverdue = before.SecondConfirmationOverdue;
        transfer.StoppedReturnDueTime = before.StoppedReturnDueTime;
        transfer.StoppedSecondConfirmationDueTime = before.StoppedSecondConfirmationDueTime;
        transfer.BeforeReturn = null;
    }

    private static void ReturnedBy(Transfer transfer, string power)
    {
        // Without a request or a confirmation no power is named.
        if (!IsWatched(transfer) || transfer.ReturningPower.Length == 0 || transfer.ReturningPower == power)
            return;
        transfer.ReturningPower = transfer.State == State.ReturnRequested ? power : "";
        transfer.ReturnConfirmations.Clear();
        StopClock(transfer);
    }

    /// <summary>Whether the transferring power still answers for the transfer (12(3)).</summary>
    internal static bool IsWatched(Transfer transfer) => transfer.State is State.Monitored or State.ReturnRequested;

    // A transfer that was closed because custody had ended opens again when custody goes on, and with it the duties after the transfer
    // (12(3)).
    private static void CustodyChanged(Transfer transfer, StatusRecorded e, FoldedEntry entry)
    {
        if (e.Ended)
            CustodyEnded(transfer);
        else
            CustodyGoesOn(transfer);
    }

    // A prisoner whom nobody holds cannot be returned, so the clocks of a return stop. A missed term stays marked. The request stays too,
    // so that a return that did take place can be recorded on it.
    private static void CustodyEnded(Transfer transfer)
    {
        if (!IsWatched(transfer))
            return;
        if (transfer is { ReturnDueTime: { } back, ReturnOverdue: false })
            (transfer.StoppedReturnDueTime, transfer.ReturnDueTime) = (back, null);
        if (transfer is { SecondConfirmationDueTime: { } second, SecondConfirmationOverdue: false })
            (transfer.StoppedSecondConfirmationDueTime, transfer.SecondConfirmationDueTime) = (second, null);
    }

    // A stopped clock runs again to the same time, even if that time has passed. A power gains no time by recording a release.
    private static void CustodyGoesOn(Transfer transfer)
    {
        if (transfer is { State: State.Closed, ReturnTime: null })
            (transfer.State, transfer.CloseTime) = (State.Monitored, null);
        if (!IsWatched(transfer))
            return;
        transfer.ReturnDueTime ??= transfer.StoppedReturnDueTime;
        transfer.SecondConfirmationDueTime ??= transfer.StoppedSecondConfirmationDueTime;
        (transfer.StoppedReturnDueTime, transfer.StoppedSecondConfirmationDueTime) = (null, null);
    }

    /// <summary>Whether a clock of a return runs; the end of custody stops it.</summary>
    internal static bool Runs(Transfer transfer) =>
        IsWatched(transfer) && (transfer.ReturnDueTime is not null || transfer.SecondConfirmationDueTime is not null);

    /// <summary>Whether a clock of a return was stopped by the end of custody.</summary>
    internal static bool IsStopped(Transfer transfer) =>
        transfer.StoppedReturnDueTime is not null || transfer.StoppedSecondConfirmationDueTime is not null;

    /// <summary>Whether the request is overtaken by another departure of the prisoner: he was on the way, or one side said that he had
    /// arrived.</summary>
    internal static bool IsOvertaken(Transfer transfer) =>
        IsOpenToFacts(transfer)
        && (transfer.Confirmations.Count > 0 || State.InTransit == transfer.State || State.InTransit == transfer.SuspendedFrom);

    // Whether the sides may still say that the hand-over took place.
    private static bool IsOpenToFacts(Transfer transfer) => Transfers.BeforeHandover.Contains(transfer.State) || IsFinal(transfer.State);

    // Custody judges the hand-over once more in the commit that records it.
    private static void Monitored(Transfer transfer, IEnumerable<Invariant> breaches)
    {
        if (transfer.State != State.HandedOver)
            return;
        (transfer.State, transfer.StateBeforeHandover) = (State.Monitored, State.Unspecified);
        transfer.Breaches.Add(breaches.Except(transfer.Breaches).ToArray());
    }

    private static void Departed(Transfer transfer, DepartureRecorded e, FoldedEntry entry)
    {
        // A hand-over to another power custody can still record after it.
        if (e.HandoverTime is null && !transfer.Route.PassesCustody())
            Monitored(transfer, e.Breaches);
        CustodyEnded(transfer);
    }

    private static void FailureReported(Transfer transfer, TreatmentFailureReported e, FoldedEntry entry)
    {
        var request = entry.Request as ReportTreatmentFailureRequest;
        transfer.Failures.Add(
            new TreatmentFailure
            {
                Id = e.Failure,
                Participant = entry.Participant,
                ReportTime = entry.Time,
                MeasuresDueTime = e.MeasuresDueTime,
                Position = entry.Position,
                Content = Seals.Keep(request?.Content, entry.Position),
                Articles = { request?.Articles ?? [] },
            }
        );
    }

    private static void MeasuresRecorded(Transfer transfer, CorrectiveMeasuresRecorded e, FoldedEntry entry) =>
        transfer
            .Failures.Single(f => f.Id == e.Failure)
            .Measures.Add(
                new CorrectiveMeasures
                {
                    Participant = entry.Participant,
                    RecordTime = entry.Time,
                    Content = Seals.Keep((entry.Request as RecordCorrectiveMeasuresRequest)?.Content, entry.Position),
                    Position = entry.Position,
                }
            );

    private static void ReturnAsked(Transfer transfer, ReturnRequested e, FoldedEntry entry)
    {
        transfer.State = State.ReturnRequested;
        (transfer.ReturningPower, transfer.ReturnDueTime) = (e.ReturningPower, e.ReturnDueTime);
        transfer.ReturnRequestPosition = entry.Position;
        // If the same request is made again, a missed term stays marked.
        transfer.ReturnOverdue = transfer.WithdrawnReturnOverdue && Equals(e.ReturnDueTime, transfer.WithdrawnReturnDueTime);
        (transfer.WithdrawnReturnDueTime, transfer.WithdrawnReturnOverdue) = (null, false);
    }

    private static void ReturnTakenBack(Transfer transfer, ReturnWithdrawn e, FoldedEntry entry)
    {
        transfer.State = State.Monitored;
        transfer.WithdrawnReturnDueTime = transfer.ReturnDueTime ?? transfer.StoppedReturnDueTime;
        transfer.WithdrawnReturnOverdue = transfer.ReturnOverdue;
        StopClockOfReturn(transfer);
        // The other side's confirmation stays, and can still be answered.
        if (transfer.ReturnConfirmations.Count == 0)
            transfer.ReturningPower = "";
    }

    private static void ReturnConfirmedByOneSide(Transfer transfer, ReturnConfirmedByOneSide e, FoldedEntry entry)
    {
        // In older histories a withdrawn request lost its first confirmation, and the same side confirmed again.
        transfer.ReturnConfirmations.Keep(c => c.Side != e.Side);
        transfer.ReturnConfirmations.Add(Confirmed(e.Side, entry));
        transfer.SecondConfirmationDueTime = e.SecondConfirmationDueTime;
        if (transfer.ReturningPower.Length == 0)
            transfer.ReturningPower = e.ReturningPower;
    }

    private static void Returned(Transfer transfer, ReturnConfirmed e, FoldedEntry entry)
    {
        var first = transfer.ReturnConfirmations[0].Side;
        transfer.BeforeReturn = Before(transfer);
        transfer.ReturningPower = e.FromPower;
        transfer.ReturnConfirmations.Add(Confirmed(first == HandoverSide.Giving ? HandoverSide.Taking : HandoverSide.Giving, entry));
        (transfer.State, transfer.ReturnTime, transfer.CloseTime) = (State.Returned, e.ReturnTime, null);
        transfer.ReturnBreaches.Add(BreachesOf(e.Breaches, transfer.ReturnConfirmations));
        StopClock(transfer);
        StopClockOfReturn(transfer);
    }

    private static void FellDue(Transfer transfer, V1.DutyFellDue e, FoldedEntry entry)
    {
        switch (e.Duty)
        {
            case Duties.SecondConfirmation:
                transfer.SecondConfirmationOverdue = true;
                break;
            case Duties.AssuranceExpiry:
                transfer.Assurance.Expired = true;
                break;
            case Duties.AssessmentExpiry:
                transfer.Assessment.Expired = true;
                break;
            case Duties.Return:
                transfer.ReturnOverdue = true;
                break;
            case Duties.Measures:
                transfer.Failures.Single(f => f.Id == e.Failure).MeasuresOverdue = true;
                break;
        }
    }

    private static void Corrected(Transfer transfer, V1.RecordCorrected e, FoldedEntry entry)
    {
        foreach (var act in transfer.Acts)
            act.Corrected |= act.Position == e.Position;
        if (transfer.Assurance?.Position == e.Position)
            transfer.Assurance.Corrected = true;
        if (transfer.Assessment?.Position == e.Position)
            transfer.Assessment.Corrected = true;
        foreach (var failure in transfer.Failures)
        {
            failure.Corrected |= failure.Position == e.Position;
            foreach (var measures in failure.Measures)
                measures.Corrected |= measures.Position == e.Position;
        }
        // Once both sides have confirmed, custody has passed, and what was said stands beside its correction.
        if (IsOpenToFacts(transfer))
            TakeBack(transfer, transfer.Confirmations, e.Position);
        if (transfer.BeforeReturn is { } before)
            TakeBack(before, e.Position);
        if (transfer.ReturnTime is not null)
            return;
        TakeBack(transfer, transfer.ReturnConfirmations, e.Position);
        if (transfer.State != State.ReturnRequested && transfer.ReturnConfirmations.Count == 0)
            transfer.ReturningPower = "";
    }

    private static void TakeBack(Transfer transfer, RepeatedField<Confirmation> confirmations, ulong position)
    {
        if (confirmations.SingleOrDefault(c => c.Position == position) is not { } taken)
            return;
        confirmations.Remove(taken);
        StopClock(transfer);
    }

    // The corrected confirmation must not count again if the return is undone.
    private static void TakeBack(BeforeReturn before, ulong position)
    {
        if (before.ReturnConfirmations.All(c => c.Position != position))
            return;
        before.ReturnConfirmations.Keep(c => c.Position != position);
        (before.SecondConfirmationDueTime, before.SecondConfirmationOverdue) = (null, false);
        before.StoppedSecondConfirmationDueTime = null;
        if (before.State != State.ReturnRequested && before.ReturnConfirmations.Count == 0)
            before.ReturningPower = "";
    }

    private static void StopClock(Transfer transfer)
    {
        (transfer.SecondConfirmationDueTime, transfer.SecondConfirmationOverdue) = (null, false);
        transfer.StoppedSecondConfirmationDueTime = null;
    }

    private static void StopClockOfReturn(Transfer transfer) =>
        (transfer.ReturnDueTime, transfer.ReturnOverdue, transfer.StoppedReturnDueTime) = (null, false, null);

    // A step of which custody was asked is noted with the place in its ledger from which it answered.
    private static void Reach(Transfer transfer, State state, ulong custodyPosition, FoldedEntry entry)
    {
        transfer.State = state;
        if (custodyPosition > 0)
            transfer.Checks.Add(
                new CustodyCheck
                {
                    Step = Acts.MethodOf(entry),
                    CheckTime = entry.Time,
                    CustodyPosition = custodyPosition,
                }
            );
    }

    private static Confirmation Confirmed(HandoverSide side, FoldedEntry entry)
    {
        var confirmation = new Confirmation
        {
            Side = side,
            Participant = entry.Participant,
            ConfirmTime = entry.Time,
            Position = entry.Position,
        };
        switch (entry.Request)
        {
            case ConfirmHandoverRequest r:
                (confirmation.WindowStartTime, confirmation.WindowEndTime) = (r.WindowStartTime, r.WindowEndTime);
                confirmation.HandoverReference = r.HandoverReference;
                confirmation.AcknowledgedBreaches.Add(r.AcknowledgedBreaches);
                break;
            case ConfirmReturnRequest r:
                (confirmation.WindowStartTime, confirmation.WindowEndTime) = (r.WindowStartTime, r.WindowEndTime);
                confirmation.HandoverReference = r.HandoverReference;
                confirmation.AcknowledgedBreaches.Add(r.AcknowledgedBreaches);
                confirmation.Openings.Add(r.Openings);
                break;
        }
        return confirmation;
    }
}
