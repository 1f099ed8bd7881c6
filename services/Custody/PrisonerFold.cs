using Google.Protobuf.WellKnownTypes;
using Ministries.Consular.V1;
using Ministries.Custody.V1;
using Ministries.Types.V1;
using CorrectRecordRequest = Ministries.Custody.V1.CorrectRecordRequest;
using DutyFellDue = Ministries.Custody.V1.DutyFellDue;
using RecordCorrected = Ministries.Custody.V1.RecordCorrected;
using Route = Ministries.Types.V1.Route;

namespace Ministries.Custody;

/// <summary>What each event does to a prisoner's record.</summary>
internal static class PrisonerFold
{
    public static Folds<Prisoner> All =>
        new Folds<Prisoner>()
            .On<PrisonerRegistered>(Registered)
            .On<StatusRecorded>(StatusChanged)
            .On<ClaimRecorded>(Claimed)
            .On<StatementRecorded>(Stated)
            .On<StatementAttested>(Attested)
            .On<AttestationRevoked>((p, e, entry) => StatementFold.Revoked(StatementOf(p, e.Statement), e, entry))
            .On<RiskAssessmentRecorded>(RiskAssessed)
            .On<FitnessRecorded>(Examined)
            .On<BureauNotified>(Notified)
            .On<DuplicateLinked>(Linked)
            .On<InterestNoted>(InterestTaken)
            .On<TransferRequestSubmitted>(InterestSubmitted)
            .On<DraftDiscarded>(InterestGone)
            .On<TransitBegun>(SetOut)
            .On<HandoverAborted>(CameBack)
            .On<CustodyTransferred>(Passed)
            .On<DepartureRecorded>(Departed)
            .On<DutyFellDue>(FellDue)
            .On<RecordCorrected>(Corrected);

    /// <summary>Whether a prisoner would be held, and custody have ended, without what rested on an entry.</summary>
    public static (bool Held, bool Ended) CustodyWithout(Prisoner prisoner, RecordCorrected e)
    {
        var before = prisoner.Clone();
        Mend(before, e);
        var last = before.Statuses.Last(s => !s.Corrected);
        return before.DuplicateOf.Length > 0 ? (false, true) : (CustodyStates.IsCustody(last.State), last.Ended);
    }

    private static void Registered(Prisoner state, PrisonerRegistered e, FoldedEntry entry)
    {
        (state.Case, state.Prisoner_) = (e.Case, e.Prisoner);
        state.DetainingPower = state.LastDetainingPower = e.DetainingPower;
        (state.Held, state.RegisterTime) = (true, entry.Time);
        var status = CustodyState.Unspecified;
        if (entry.Request is RegisterPrisonerRequest request)
        {
            (status, state.CaptureTime) = (request.Status, request.CaptureTime);
            (state.Identity, state.IdentityParticipant) = (Seals.Keep(request.Identity), entry.Participant);
            state.Under18 = request.Under18;
            SetSerious(state, request.Serious, entry);
        }
        Mark(state, entry);
        SetStatus(state, entry, status, state.CaptureTime ?? entry.Time, ended: false, []);
        Occur(state, entry, OccurrenceKind.Capture, e.BureauDueTime);
        if (status == CustodyState.Hospitalised)
            Occur(state, entry, OccurrenceKind.HospitalAdmission, e.BureauDueTime);
    }

    private static void StatusChanged(Prisoner state, StatusRecorded e, FoldedEntry entry)
    {
        switch (entry.Request)
        {
            case RecordStatusRequest request:
                if (
                    CustodyStates.OccurrenceOf(request.Status) is var kind and not OccurrenceKind.Unspecified
                    && !(request.Status == CustodyState.Escaped && state.State == CustodyState.Escaped)
                )
                    Occur(state, entry, kind, e.BureauDueTime);
                SetStatus(state, entry, request.Status, request.StatusTime, e.Ended, e.Breaches);
                if (request.Status == CustodyState.Hospitalised)
                    SetSerious(state, request.Serious, entry);
                break;
            case RecordProceedingsRequest request:
                state.Proceedings.Add(
                    new Proceedings
                    {
                        Delay = request.Delay,
                        Reason = request.Reason,
                        Particulars = Seals.Keep(request.Particulars),
                        Participant = entry.Participant,
                        Time = entry.Time,
                        Position = entry.Position,
                        RecordedFor = state.LastDetainingPower,
                    }
                );
                break;
            case null:
                SetStatus(state, entry, CustodyState.Unspecified, entry.Time, e.Ended, e.Breaches);
                break;
        }
        (state.Held, state.Ended) = (e.Held, e.Ended);
        state.DetainingPower = e.Ended ? "" : state.LastDetainingPower;
        if (e.Ended)
            SetSerious(state, false, entry);
        if (entry.Request is not (LinkDuplicateRequest or CorrectRecordRequest))
            Mark(state, entry);
    }

    private static void Claimed(Prisoner state, ClaimRecorded e, FoldedEntry entry)
    {
        var claim = new Claim
        {
            Claim_ = e.Claim,
            Participant = entry.Participant,
            Time = entry.Time,
            Position = entry.Position,
        };
        if (entry.Request is RecordClaimRequest request)
        {
            (claim.Claimant, claim.StateClaimed, claim.Basis) = (request.Claimant, request.StateClaimed, request.Basis);
            (claim.Instrument, claim.Evidence) = (request.Instrument, Seals.Keep(request.Evidence));
            claim.RecognisedBy.Add(request.RecognisedBy);
        }
        state.Claims.Add(claim);
        Mark(state, entry);
    }

    private static void Stated(Prisoner state, StatementRecorded e, FoldedEntry entry)
    {
        var statement = new Statement();
        StatementFold.Recorded(statement, e, entry, withContent: false);
        state.Statements.Add(statement);
        Mark(state, entry, e.Statement);
    }

    private static void Attested(Prisoner state, StatementAttested e, FoldedEntry entry)
    {
        StatementFold.Attested(StatementOf(state, e.Statement), e, entry);
        Mark(state, entry, e.Statement);
    }

    private static void RiskAssessed(Prisoner state, RiskAssessmentRecorded e, FoldedEntry entry)
    {
        var assessment = new RiskAssessment
        {
            Assessment = e.Assessment,
            Participant = entry.Participant,
            Position = entry.Position,
            RecordedFor = state.LastDetainingPower,
            ExpireTime = entry.Time,
        };
        if (entry.Request is RecordRiskAssessmentRequest request)
        {
            (assessment.Destination, assessment.Finding) = (request.Destination, request.Finding);
            (assessment.AssessTime, assessment.ExpireTime) = (request.AssessTime, request.ExpireTime);
            (assessment.Official, assessment.Grounds) = (request.Actor.Official, Seals.Keep(request.Grounds));
        }
        state.RiskAssessments.Add(assessment);
        Mark(state, entry);
    }

    private static void Examined(Prisoner state, FitnessRecorded e, FoldedEntry entry)
    {
        var fitness = new Fitness
        {
            Fitness_ = e.Fitness,
            Participant = entry.Participant,
            Position = entry.Position,
            RecordedFor = state.LastDetainingPower,
            ExpireTime = entry.Time,
        };
        if (entry.Request is RecordFitnessRequest request)
        {
            (fitness.Fit, fitness.Serious, fitness.Physician) = (request.Fit, request.Serious, request.Physician);
            (fitness.ExamineTime, fitness.ExpireTime) = (request.ExamineTime, request.ExpireTime);
            fitness.Findings = Seals.Keep(request.Findings);
            SetSerious(state, request.Serious, entry);
        }
        state.Fitness.Add(fitness);
        Mark(state, entry);
    }

    private static void Notified(Prisoner state, BureauNotified e, FoldedEntry entry)
    {
        var notification = new Notification
        {
            Notification_ = e.Notification,
            Participant = entry.Participant,
            Time = entry.Time,
            Position = entry.Position,
            RecordedFor = e.State,
        };
        if (entry.Request is NotifyBureauRequest request)
        {
            (notification.Occurrence, notification.HealthReport) = (request.Occurrence, request.HealthReport);
            (notification.Disclosure, notification.DisclosureReason) = (request.Disclosure, request.DisclosureReason);
            (notification.PowerOfOrigin, notification.Official) = (request.PowerOfOrigin, request.Actor.Official);
            notification.Releases.Add(request.Releases);
            notification.Data = Seals.Keep(request.Data);
            foreach (var told in state.Occurrences.Where(o => o.Occurrence_ == request.Occurrence))
                told.Notification = e.Notification;
            if (request.HealthReport && state.HealthDueTime is not null)
                state.HealthDueTime = (entry.Time.ToDateTimeOffset() + Prisoners.HealthEvery).ToTimestamp();
        }
        state.Notifications.Add(notification);
        Mark(state, entry);
    }

    // Both records are told: the one that is no longer kept, and the other.
    private static void Linked(Prisoner state, DuplicateLinked e, FoldedEntry entry)
    {
        if (e.Prisoner != state.Prisoner_)
        {
            state.Duplicates.Add(e.Prisoner);
            return;
        }
        state.DuplicateOf = e.SameAsPrisoner;
        Mark(state, entry, otherPrisoner: e.SameAsPrisoner);
    }

    private static void InterestTaken(Prisoner state, InterestNoted e, FoldedEntry entry)
    {
        var interest = InterestOf(state, e.Transfer, entry);
        if (entry.Request is TransferRequestDrafted drafted)
            interest.Participant = drafted.Participant;
    }

    private static void InterestSubmitted(Prisoner state, TransferRequestSubmitted e, FoldedEntry entry)
    {
        var interest = InterestOf(state, e.Transfer, entry);
        (interest.Participant, interest.Submitted) = (e.Participant, true);
    }

    private static void InterestGone(Prisoner state, DraftDiscarded e, FoldedEntry entry)
    {
        for (var i = state.Interests.Count - 1; i >= 0; i--)
            if (state.Interests[i].Transfer == e.Transfer)
                state.Interests.RemoveAt(i);
    }

    private static void SetOut(Prisoner state, TransitBegun e, FoldedEntry entry)
    {
        if (CustodyStates.IsCustody(state.State))
            SetStatus(state, entry, CustodyState.InTransit, entry.Time, ended: false, []);
    }

    private static void CameBack(Prisoner state, HandoverAborted e, FoldedEntry entry)
    {
        if (state.State == CustodyState.InTransit)
            SetStatus(state, entry, BeforeTransit(state), entry.Time, ended: false, []);
    }

    private static void Passed(Prisoner state, CustodyTransferred e, FoldedEntry entry)
    {
        var died = state.State == CustodyState.Died;
        // Who comes back is interned again.
        var route = e.Returned ? Route.Article12Transfer : e.Route;
        var kind = route == Route.NeutralAccommodation ? OccurrenceKind.NeutralAccommodation : OccurrenceKind.Transfer;
        Occur(state, entry, kind, e.BureauDueTime);
        SetStatus(state, entry, CustodyStates.After(route, state.State), TimeOf(entry), ended: died, e.Breaches);
        Cases.PassOn(state.FormerPowers, e);
        state.TransferringPower = state.FormerPowers.LastOrDefault() ?? "";
        state.LastDetainingPower = e.ToPower;
        (state.Held, state.Ended, state.DetainingPower) = (!died, died, died ? "" : e.ToPower);
    }

    private static void Departed(Prisoner state, DepartureRecorded e, FoldedEntry entry)
    {
        var route = (entry.Request as HandoverConfirmed)?.Route ?? Route.Unspecified;
        Occur(state, entry, CustodyStates.OccurrenceOf(CustodyStates.After(route, CustodyState.InTransit)), e.BureauDueTime);
        SetStatus(state, entry, CustodyStates.After(route, state.State), TimeOf(entry), ended: true, e.Breaches);
        (state.Held, state.Ended, state.DetainingPower) = (false, true, "");
        SetSerious(state, false, entry);
    }

    // It is noted so that it does not fall due again.
    private static void FellDue(Prisoner state, DutyFellDue e, FoldedEntry entry)
    {
        if (e.Duty == Duties.Validity)
        {
            state.ValidityReportedTime = e.DueTime;
            return;
        }
        foreach (var occurrence in state.Occurrences.Where(o => Prisoners.IsOwed(o) && o.DueTime <= e.DueTime))
            occurrence.Overdue = true;
        if (state.HealthDueTime is { } health && health <= e.DueTime)
            state.HealthDueTime = (health.ToDateTimeOffset() + Prisoners.HealthEvery).ToTimestamp();
    }

    private static void Corrected(Prisoner state, RecordCorrected e, FoldedEntry entry)
    {
        Mend(state, e);
        if (entry.Request is not CorrectRecordRequest request || e.Prisoner != state.Prisoner_ || !IsRegistration(state, e.Position))
            return;
        (state.Identity, state.IdentityParticipant) = (Seals.Keep(request.Identity), entry.Participant);
        state.Under18 = request.Under18;
    }

    // Takes what rested on an entry out of the record.
    private static void Mend(Prisoner state, RecordCorrected e)
    {
        if (e.Prisoner != state.Prisoner_)
        {
            state.Duplicates.Remove(e.Prisoner);
            return;
        }
        foreach (var mark in state.Entries.Where(m => m.Position == e.Position))
        {
            mark.Corrected = true;
            if (mark.OtherPrisoner.Length > 0)
                state.DuplicateOf = "";
            if (mark.Statement.Length > 0)
                StatementFold.Corrected(StatementOf(state, mark.Statement), e);
        }
        // A registration stays; what it said of the person is replaced.
        if (!IsRegistration(state, e.Position))
        {
            foreach (var status in state.Statuses.Where(s => s.Position == e.Position))
                status.Corrected = true;
            foreach (var occurrence in state.Occurrences.Where(o => o.Position == e.Position))
                occurrence.Corrected = true;
        }
        foreach (var claim in state.Claims.Where(c => c.Position == e.Position))
            claim.Corrected = true;
        foreach (var assessment in state.RiskAssessments.Where(a => a.Position == e.Position))
            assessment.Corrected = true;
        foreach (var fitness in state.Fitness.Where(f => f.Position == e.Position))
            fitness.Corrected = true;
        foreach (var proceedings in state.Proceedings.Where(p => p.Position == e.Position))
            proceedings.Corrected = true;
        foreach (var notification in state.Notifications.Where(n => n.Position == e.Position))
        {
            notification.Corrected = true;
            foreach (var occurrence in state.Occurrences.Where(o => o.Notification == notification.Notification_))
                occurrence.Notification = "";
        }
        state.State = state.Statuses.Last(s => !s.Corrected).State;
    }

    private static bool IsRegistration(Prisoner state, ulong position) => state.Statuses[0].Position == position;

    private static CustodyState BeforeTransit(Prisoner state) =>
        state.Statuses.LastOrDefault(s => !s.Corrected && s.State != CustodyState.InTransit)?.State ?? CustodyState.Interned;

    private static Timestamp TimeOf(FoldedEntry entry) =>
        entry.Request switch
        {
            HandoverConfirmed e => e.HandoverTime ?? entry.Time,
            ReturnConfirmed e => e.ReturnTime ?? entry.Time,
            _ => entry.Time,
        };

    private static void SetStatus(
        Prisoner state,
        FoldedEntry entry,
        CustodyState status,
        Timestamp time,
        bool ended,
        IEnumerable<Invariant> breaches
    )
    {
        state.State = status;
        state.Statuses.Add(
            new StatusEntry
            {
                State = status,
                Time = time,
                Position = entry.Position,
                Participant = entry.Participant,
                Ended = ended,
                RecordedFor = state.LastDetainingPower,
                Breaches = { breaches },
            }
        );
    }

    private static void SetSerious(Prisoner state, bool serious, FoldedEntry entry)
    {
        if (serious && !state.Serious)
            state.HealthDueTime = (entry.Time.ToDateTimeOffset() + Prisoners.HealthEvery).ToTimestamp();
        if (!serious)
            state.HealthDueTime = null;
        state.Serious = serious;
    }

    private static void Occur(Prisoner state, FoldedEntry entry, OccurrenceKind kind, Timestamp due) =>
        state.Occurrences.Add(
            new Occurrence
            {
                Occurrence_ = (uint)state.Occurrences.Count + 1,
                Kind = kind,
                Time = entry.Time,
                DueTime = due,
                OwedBy = state.LastDetainingPower,
                Position = entry.Position,
            }
        );

    private static void Mark(Prisoner state, FoldedEntry entry, string statement = "", string otherPrisoner = "") =>
        state.Entries.Add(
            new EntryMark
            {
                Position = entry.Position,
                Participant = entry.Participant,
                Statement = statement,
                OtherPrisoner = otherPrisoner,
            }
        );

    // The interest in a transfer request, noted now where it was not.
    private static Interest InterestOf(Prisoner state, string transfer, FoldedEntry entry)
    {
        var interest = state.Interests.FirstOrDefault(i => i.Transfer == transfer);
        if (interest is null)
            state.Interests.Add(interest = new Interest { Transfer = transfer, Time = entry.Time });
        return interest;
    }

    private static Statement StatementOf(Prisoner state, string id) => state.Statements.Single(s => s.Statement_ == id);
}
