using Google.Protobuf.Collections;
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
            .On<AttestationRevoked>((p, e, entry) => StatementFold.Revoked(StatementOf(p, e.Statement), e, entry, withContent: false))
            .On<RiskAssessmentRecorded>(RiskAssessed)
            .On<FitnessRecorded>(Examined)
            .On<MoveAnnounced>(MoveTold)
            .On<BureauNotified>(Notified)
            .On<DuplicateProposed>(Proposed)
            .On<DuplicateLinked>(Linked)
            .On<InterestNoted>(InterestTaken)
            .On<TransferRequestSubmitted>(InterestSubmitted)
            .On<DraftDiscarded>(InterestGone)
            .On<TransitBegun>(SetOut)
            .On<HandoverAborted>(CameBack)
            .On<CustodyTransferred>(Passed)
            .On<DepartureRecorded>(Departed)
            .On<ProceedingsJoined>(Joined)
            .On<DutyFellDue>(FellDue)
            .On<RecordCorrected>(Corrected)
            .On<LinkUndone>(Parted);

    /// <summary>A prisoner's record as it is without an entry: the power that answers, whether the prisoner is held, and whether custody
    /// has ended.</summary>
    public static Prisoner Without(Prisoner prisoner, RecordCorrected e)
    {
        var without = prisoner.Clone();
        Mend(without, e);
        var last = without.Statuses.Last(s => !s.Corrected);
        (without.Held, without.Ended) = without.DuplicateOf.Length > 0 ? (false, true) : (CustodyStates.IsCustody(last.State), last.Ended);
        return without;
    }

    /// <summary>The record's hand-overs and returns that both sides confirmed under another reference of the person, in order.
    /// </summary>
    /// <param name="kept">The record that is kept.</param>
    /// <param name="reference">The other reference.</param>
    public static IReadOnlyList<StatusEntry> HandoversUnder(Prisoner kept, string reference) =>
        [
            .. kept
                .Statuses.Where(s =>
                    !s.Corrected && s.RecordedUnder == reference && (s.PassedTo.Length > 0 || s.Route != Route.Unspecified)
                )
                .OrderBy(s => s.Position),
        ];

    private static void Registered(Prisoner state, PrisonerRegistered e, FoldedEntry entry)
    {
        (state.Case, state.Prisoner_) = (e.Case, e.Prisoner);
        state.DetainingPower = state.LastDetainingPower = e.DetainingPower;
        (state.Held, state.RegisterTime) = (true, entry.Time);
        var status = CustodyState.Unspecified;
        if (entry.Request is RegisterPrisonerRequest request)
        {
            (status, state.CaptureTime) = (request.Status, request.CaptureTime);
            (state.Identity, state.IdentityParticipant) = (Seals.Keep(request.Identity, entry.Position), entry.Participant);
            state.Under18 = request.Under18;
        }
        Mark(state, entry);
        SetStatus(state, entry, status, state.CaptureTime ?? entry.Time, ended: false, []);
        SaySerious(state, entry.Request is RegisterPrisonerRequest { HasSerious: true } ill ? ill.Serious : null);
        SettleHealth(state, entry);
        Occur(state, entry, OccurrenceKind.Capture, e.BureauDueTime);
        if (status == CustodyState.Hospitalised)
            Occur(state, entry, OccurrenceKind.HospitalAdmission, e.BureauDueTime);
        Occur(state, entry, OccurrenceKind.CaptureCard, In(entry, days: 7));
    }

    private static void StatusChanged(Prisoner state, StatusRecorded e, FoldedEntry entry)
    {
        if (e.Prisoner != state.Prisoner_)
        {
            // Once the link is undone, this entry is about another prisoner.
            if (e.Prisoner == state.DuplicateOf)
                EndedElsewhere(state, e.Ended, entry);
            return;
        }
        // It comes with the link of duplicates, which is marked already.
        var linked = state.Entries[^1].Position == entry.Position;
        switch (entry.Request)
        {
            // A fact about the person that was recorded under another reference. Notice of it is owed there.
            case RecordStatusRequest request when request.Prisoner != state.Prisoner_:
                var after = CustodyStates.After(request.Status, request.EscapeSucceeded).Ended;
                SetStatus(state, entry, request.Status, request.StatusTime, after, e.Breaches);
                state.Statuses[^1].RecordedUnder = request.Prisoner;
                linked = true;
                break;
            case RecordStatusRequest request:
                if (
                    CustodyStates.OccurrenceOf(request.Status) is var kind and not OccurrenceKind.Unspecified
                    && !(request.Status == CustodyState.Escaped && state.State == CustodyState.Escaped)
                )
                    Occur(state, entry, kind, e.BureauDueTime);
                if (request.Status == CustodyState.Died)
                {
                    Occur(state, entry, OccurrenceKind.DeathCertificate, In(entry, days: 30));
                    Occur(state, entry, OccurrenceKind.Burial, In(entry, days: 30));
                }
                if (request.InquiryOwed)
                    Occur(state, entry, OccurrenceKind.Inquiry, In(entry, days: 60));
                // A record that is no longer kept never counts as held. The status takes effect once the link is undone.
                var ended = CustodyStates.After(request.Status, request.EscapeSucceeded).Ended;
                SetStatus(state, entry, request.Status, request.StatusTime, ended, e.Breaches);
                SaySerious(state, request.HasSerious ? request.Serious : null);
                break;
            case RecordProceedingsRequest request:
                ProceedingsTold(state, request, e, entry);
                break;
            case null when !linked:
                SetStatus(state, entry, CustodyState.Unspecified, entry.Time, e.Ended, e.Breaches);
                break;
        }
        (state.Held, state.Ended) = (e.Held, e.Ended);
        state.DetainingPower = e.Ended ? "" : state.LastDetainingPower;
        SettleHealth(state, entry);
        if (!linked && entry.Request is not CorrectRecordRequest)
            Mark(state, entry);
    }

    private static void ProceedingsTold(Prisoner state, RecordProceedingsRequest request, StatusRecorded e, FoldedEntry entry)
    {
        // The names of prisoners who are kept back for proceedings are communicated (GC III 119). Entries from before this rule are not
        // occurrences, so later occurrences keep their numbers.
        if (request.Delay && e.ProceedingsDueTime is not null && Prisoners.ProceedingsOf(state).LastOrDefault() is not { Delay: true })
            Occur(state, entry, OccurrenceKind.Proceedings, e.ProceedingsDueTime);
        state.Proceedings.Add(
            new Proceedings
            {
                Delay = request.Delay,
                Reason = request.Reason,
                Particulars = Seals.Keep(request.Particulars, entry.Position),
                Participant = entry.Participant,
                Time = entry.Time,
                Position = entry.Position,
                RecordedFor = state.LastDetainingPower,
                ConfinedSinceTime = request.ConfinedSinceTime,
                ConfinementEndTime = request.ConfinementEndTime,
                TrialTime = request.TrialTime,
                NotifiesTrial = request is { TrialTime: not null, Particulars: not null },
                Breaches = { e.Breaches },
            }
        );
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
            (claim.Instrument, claim.Evidence) = (request.Instrument, Seals.Keep(request.Evidence, entry.Position));
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
        StatementFold.Attested(StatementOf(state, e.Statement), e, entry, withContent: false);
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
            (assessment.Official, assessment.Grounds) = (request.Actor.Official, Seals.Keep(request.Grounds, entry.Position));
        }
        state.RiskAssessments.Add(assessment);
        Mark(state, entry);
    }

    private static void MoveTold(Prisoner state, MoveAnnounced e, FoldedEntry entry)
    {
        var request = entry.Request as AnnounceMoveRequest;
        state.Moves.Add(
            new Move
            {
                Move_ = e.Move,
                ToldTime = request?.ToldTime,
                PlannedTime = request?.PlannedTime,
                Place = Seals.Keep(request?.Place, entry.Position),
                Participant = entry.Participant,
                Position = entry.Position,
                RecordedFor = state.LastDetainingPower,
                Breaches = { e.Breaches },
            }
        );
        // A prisoner who was moved is reported on (122) and writes to his family (70). Announcements of earlier versions have neither time.
        if (e.BureauDueTime is not null)
            Occur(state, entry, OccurrenceKind.Move, e.BureauDueTime);
        if (e.CardDueTime is not null)
            Occur(state, entry, OccurrenceKind.CaptureCard, e.CardDueTime);
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
            (fitness.Fit, fitness.Physician) = (request.Fit, request.Physician);
            if (request.HasSerious)
                fitness.Serious = request.Serious;
            (fitness.ExamineTime, fitness.ExpireTime) = (request.ExamineTime, request.ExpireTime);
            fitness.Findings = Seals.Keep(request.Findings, entry.Position);
        }
        state.Fitness.Add(fitness);
        SettleHealth(state, entry);
        Mark(state, entry);
    }

    private static void Notified(Prisoner state, BureauNotified e, FoldedEntry entry)
    {
        if (e.Prisoner != state.Prisoner_)
        {
            if (entry.Request is not NotifyBureauRequest { HealthReport: true })
                return;
            state.ReportsElsewhere.Add(new HealthReport { Position = entry.Position, HealthDueTime = state.HealthDueTime });
            Report(state, entry);
            return;
        }
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
            notification.PowersOfOrigin.Add(Prisoners.PowersNamed(request));
            (notification.PowerOfOrigin, notification.Official) = (notification.PowersOfOrigin.FirstOrDefault("")!, request.Actor.Official);
            (notification.ConsultedObserver, notification.ReviewTime) = (request.ConsultedObserver, request.ReviewTime);
            notification.Releases.Add(request.Releases);
            notification.Data = Seals.Keep(request.Data, entry.Position);
            foreach (var told in state.Occurrences.Where(o => o.Occurrence_ == request.Occurrence))
                told.Notification = e.Notification;
            if (request.HealthReport)
            {
                notification.HealthDueTime = state.HealthDueTime;
                Report(state, entry);
            }
        }
        state.Notifications.Add(notification);
        Mark(state, entry);
    }

    // Both records are told. Nothing else changes until an observer confirms it.
    private static void Proposed(Prisoner state, DuplicateProposed e, FoldedEntry entry)
    {
        state.DuplicateProposals.Add(
            new DuplicateProposal
            {
                Prisoner = e.Prisoner,
                SameAsPrisoner = e.SameAsPrisoner,
                Participant = entry.Participant,
                Time = entry.Time,
                Position = entry.Position,
            }
        );
        if (e.Prisoner == state.Prisoner_)
            Mark(state, entry, otherPrisoner: e.SameAsPrisoner);
    }

    // Both records are told: the one that is no longer kept, and the other. The marks and clocks of the first stay where they are.
    private static void Linked(Prisoner state, DuplicateLinked e, FoldedEntry entry)
    {
        if (e.Prisoner != state.Prisoner_)
        {
            state.Duplicates.Add(e.Prisoner);
            return;
        }
        (state.DuplicateOf, state.EndedElsewhere) = (e.SameAsPrisoner, e.Ended);
        Mark(state, entry, otherPrisoner: e.SameAsPrisoner);
        state.Entries[^1].Confirms = true;
    }

    // Adds proceedings from a reference that is no longer kept to those of this one, because the clocks of proceedings are the person's.
    private static void Joined(Prisoner state, ProceedingsJoined e, FoldedEntry entry)
    {
        state.JoinedDuplicates.Add(e.Duplicate);
        state.Proceedings.Add(
            e.Proceedings.Select(p => new Proceedings
            {
                Position = p.Position,
                Time = p.Time,
                Participant = p.Participant,
                RecordedFor = p.RecordedFor,
                RecordedUnder = e.Duplicate,
                JoinedPosition = entry.Position,
                ConfinedSinceTime = p.ConfinedSinceTime,
                ConfinementEndTime = p.ConfinementEndTime,
                CustodyPassTime = p.CustodyPassTime,
                TrialTime = p.TrialTime,
                NotifiesTrial = p.NotifiesTrial,
                Breaches = { p.WithoutNotice ? (Invariant[])[Invariant.D12] : [] },
            })
        );
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

    private static void InterestGone(Prisoner state, DraftDiscarded e, FoldedEntry entry) =>
        state.Interests.Keep(i => i.Transfer != e.Transfer);

    private static void SetOut(Prisoner state, TransitBegun e, FoldedEntry entry)
    {
        // Custody passed after the answer on which the journey rests: it is not a journey of the power that has him now (D4).
        if (e.CustodyPosition > 0 && PassingsOf(state).LastOrDefault()?.Position >= e.CustodyPosition)
            return;
        // Custody may have heard before that he is not held any more. The accepting power is to confirm all the same (D1).
        state.Journeys.Add(new Journey { Transfer = e.Transfer, AcceptingPower = e.AcceptingPower });
        if (!CustodyStates.IsCustody(state.State))
            return;
        SetStatus(state, entry, CustodyState.InTransit, entry.Time, ended: false, []);
        state.Statuses[^1].AcceptingPower = e.AcceptingPower;
    }

    private static void CameBack(Prisoner state, HandoverAborted e, FoldedEntry entry)
    {
        state.Journeys.Keep(j => j.Transfer != e.Transfer);
        if (state.State == CustodyState.InTransit)
            SetStatus(state, entry, BeforeTransit(state.Statuses), entry.Time, ended: false, []);
        else if (LastOf(state, CustodyState.InTransit) is >= 0 and var transit && IsRecorded(state, state.Statuses[transit + 1]))
            SetStatusAt(transit + 1, state, entry, BeforeTransit(state.Statuses.Take(transit)), entry.Time, ended: false, []);
    }

    private static void Passed(Prisoner state, CustodyTransferred e, FoldedEntry entry)
    {
        if (e.Prisoner != state.Prisoner_)
        {
            PassedElsewhere(state, e, entry);
            return;
        }
        // Every other journey of his was called off, unless custody says only which powers answer for their transfers.
        if (!Cases.IsOfChainAlone(e))
            state.Journeys.Clear();
        if (e.Undone)
        {
            Cases.PassOn(state.FormerPowers, e);
            Answers(state, e.ToPower);
            // The wrongly recorded hand-over also called off this prisoner's own journey, so he is not in transit.
            if (state.State == CustodyState.InTransit && !Cases.IsOfChainAlone(e))
                SetStatus(state, entry, BeforeTransit(state.Statuses), entry.Time, ended: false, []);
            SettleHealth(state, entry);
            return;
        }
        var time = e.PassTime ?? TimeOf(entry);
        foreach (var proceedings in state.Proceedings)
            proceedings.CustodyPassTime ??= time;
        var died = state.State == CustodyState.Died;
        // A prisoner who comes back is interned again.
        var route = e.Returned ? Route.Article12Transfer : e.Route;
        var kind = route == Route.NeutralAccommodation ? OccurrenceKind.NeutralAccommodation : OccurrenceKind.Transfer;
        // Both powers owe notice of it (GC III 122).
        Occur(state, entry, kind, e.BureauDueTime, e.FromPower);
        Occur(state, entry, kind, e.BureauDueTime, e.ToPower);
        var passed = Left(state, entry, route, time, ended: false, e.Breaches);
        (passed.PassedTo, passed.Returned, passed.Route) = (e.ToPower, e.Returned, e.Route);
        // The entry is about the power that gave the prisoner, whichever power has held him since under another reference.
        if (e.PassTime is not null)
            passed.RecordedFor = e.FromPower;
        Cases.PassOn(state.FormerPowers, e);
        Answers(state, e.ToPower);
        (state.Held, state.Ended, state.DetainingPower) = (!died, died, died ? "" : e.ToPower);
        SettleHealth(state, entry);
    }

    // Custody passed under the kept reference, or a recorded passing turned out to be wrong.
    private static void PassedElsewhere(Prisoner state, CustodyTransferred e, FoldedEntry entry)
    {
        if (e.Prisoner != state.DuplicateOf)
            return;
        state.PassedElsewhere = e.ToPower != state.LastDetainingPower;
        if (!Cases.IsOfChainAlone(e))
            state.Journeys.Clear();
        if (e.Undone)
        {
            foreach (var proceedings in state.Proceedings.Where(p => e.PassTime is not null && e.PassTime.Equals(p.CustodyPassTime)))
                proceedings.CustodyPassTime = null;
            return;
        }
        foreach (var proceedings in state.Proceedings)
            proceedings.CustodyPassTime ??= TimeOf(entry);
        EndedElsewhere(state, e.Ended, entry);
    }

    private static void Answers(Prisoner state, string power)
    {
        state.TransferringPower = state.FormerPowers.LastOrDefault() ?? "";
        state.LastDetainingPower = power;
        if (state.DetainingPower.Length > 0)
            state.DetainingPower = power;
    }

    private static void Departed(Prisoner state, DepartureRecorded e, FoldedEntry entry)
    {
        if (e.Prisoner != state.Prisoner_)
        {
            if (e.Prisoner != state.DuplicateOf)
                return;
            EndedElsewhere(state, ended: true, entry);
            state.Journeys.Clear();
            return;
        }
        state.Journeys.Clear();
        var route = e.Route != Route.Unspecified ? e.Route : (entry.Request as HandoverConfirmed)?.Route ?? Route.Unspecified;
        Occur(state, entry, CustodyStates.OccurrenceOf(CustodyStates.After(route, CustodyState.InTransit)), e.BureauDueTime);
        Left(state, entry, route, e.HandoverTime ?? TimeOf(entry), ended: true, e.Breaches).Route = route;
        (state.Held, state.Ended, state.DetainingPower) = (false, true, "");
        SettleHealth(state, entry);
    }

    // A death that was recorded before the hand-over stays the last word; if it is corrected, the hand-over counts.
    private static StatusEntry Left(
        Prisoner state,
        FoldedEntry entry,
        Route route,
        Timestamp time,
        bool ended,
        IEnumerable<Invariant> breaches
    )
    {
        StatusEntry left;
        if (state.State != CustodyState.Died)
            left = SetStatus(state, entry, CustodyStates.After(route, state.State), time, ended, breaches);
        else
        {
            var death = LastOf(state, CustodyState.Died);
            var before = state.Statuses.Take(death).LastOrDefault(s => !s.Corrected)?.State ?? CustodyState.Unspecified;
            left = SetStatusAt(death, state, entry, CustodyStates.After(route, before), time, ended, breaches);
        }
        // Both sides confirmed the hand-over or return under another reference, which is linked to this one.
        var reference = entry.Request switch
        {
            HandoverConfirmed confirmed => confirmed.Prisoner,
            ReturnConfirmed confirmed => confirmed.Prisoner,
            _ => state.Prisoner_,
        };
        left.RecordedUnder = reference == state.Prisoner_ ? "" : reference;
        return left;
    }

    // It is noted so that it does not fall due again.
    private static void FellDue(Prisoner state, DutyFellDue e, FoldedEntry entry)
    {
        if (e.Duty == Duties.Validity)
        {
            state.ValidityReportedTime = e.DueTime;
            return;
        }
        if (e.Duty == Duties.Confinement)
        {
            foreach (var proceedings in state.Proceedings.Where(p => p.ConfinedSinceTime is not null))
                proceedings.ConfinementOverdue = true;
            return;
        }
        if (e.Duty == Duties.TrialNotice)
        {
            foreach (var trial in ProceedingsClocks.UnnoticedTrials(state).Where(p => ProceedingsClocks.NoticeDue(p) <= e.DueTime))
                trial.TrialNoticeOverdue = true;
            return;
        }
        if (e.Duty == Duties.DisclosureReview)
        {
            foreach (var withheld in state.Notifications.Where(n => n.ReviewTime is { } review && review <= e.DueTime))
                withheld.ReviewDue = true;
            return;
        }
        foreach (var occurrence in state.Occurrences.Where(o => Prisoners.IsOwed(o) && o.DueTime <= e.DueTime))
            occurrence.Overdue = true;
        if (state.HealthDueTime is { } health && health <= e.DueTime)
            state.HealthDueTime = (health.ToDateTimeOffset() + Prisoners.HealthEvery).ToTimestamp();
    }

    private static void Corrected(Prisoner state, RecordCorrected e, FoldedEntry entry)
    {
        string[] linked = [state.DuplicateOf, .. state.Duplicates];
        Mend(state, e);
        // An entry of an earlier version has no LinkUndone. Then only the directly linked reference is known.
        foreach (var other in linked.Where(other => other.Length > 0 && other != state.DuplicateOf))
            Remember(state, other, entry.Position);
        // If the prisoner was seriously ill all along, a report was due a week after the report that ended the clock (D14).
        if (state.HealthDueTime is null && LastReport(state) is { } report && report.Position > e.Position && IsSerious(state))
            state.HealthDueTime = (report.Time.ToDateTimeOffset() + Prisoners.HealthEvery).ToTimestamp();
        SettleHealth(state, entry);
        if (entry.Request is not CorrectRecordRequest request || e.Prisoner != state.Prisoner_ || !IsRegistration(state, e.Position))
            return;
        (state.Identity, state.IdentityParticipant) = (Seals.Keep(request.Identity, entry.Position), entry.Participant);
        // A power that held him before mends his identity. How old he is, on which his word rests, is for the one that holds him to say.
        if (entry.Participant != state.Statuses[0].Participant || state.Statuses[0].RecordedFor == state.LastDetainingPower)
            state.Under18 = request.Under18;
    }

    private static void Parted(Prisoner state, LinkUndone e, FoldedEntry entry)
    {
        foreach (var link in e.FormerLinks)
            Remember(state, link.Prisoner, link.Position > 0 ? link.Position : entry.Position);
    }

    // A link was undone. A participant that undoes it alone cannot remove the prisoner's statements by doing so (D9). If a reference was
    // linked several times, the last time includes the earlier statements.
    private static void Remember(Prisoner state, string other, ulong until)
    {
        if (other == state.Prisoner_ || state.Duplicates.Contains(other))
            return;
        var known = state.FormerLinks.FirstOrDefault(l => l.Prisoner == other);
        if (known is null)
            state.FormerLinks.Add(known = new FormerLink { Prisoner = other });
        known.Position = Math.Max(known.Position, until);
    }

    // Takes what rested on an entry out of the record.
    private static void Mend(Prisoner state, RecordCorrected e)
    {
        state.DuplicateProposals.Keep(p => p.Position != e.Position);
        if (e.Prisoner != state.Prisoner_)
        {
            MendElsewhere(state, e);
            return;
        }
        foreach (var mark in state.Entries.Where(m => m.Position == e.Position))
        {
            mark.Corrected = true;
            if (mark.OtherPrisoner.Length > 0 && mark.OtherPrisoner == state.DuplicateOf)
                Unlink(state);
            if (mark.Statement.Length > 0)
                StatementFold.Corrected(StatementOf(state, mark.Statement), e);
        }
        // A registration stays; what it said of the person is replaced.
        if (!IsRegistration(state, e.Position))
        {
            TakeOut(state, s => s.Position == e.Position);
            foreach (var occurrence in state.Occurrences.Where(o => o.Position == e.Position))
                if (DelayAfter(state, occurrence) is { } delay)
                    occurrence.Position = delay.Position;
                else
                    occurrence.Corrected = true;
        }
        foreach (var claim in state.Claims.Where(c => c.Position == e.Position))
            claim.Corrected = true;
        foreach (var assessment in state.RiskAssessments.Where(a => a.Position == e.Position))
            assessment.Corrected = true;
        foreach (var fitness in state.Fitness.Where(f => f.Position == e.Position))
            fitness.Corrected = true;
        foreach (var move in state.Moves.Where(m => m.Position == e.Position))
            move.Corrected = true;
        Recall(state, p => p.RecordedUnder.Length == 0 && p.Position == e.Position);
        foreach (var notification in state.Notifications.Where(n => n.Position == e.Position))
        {
            notification.Corrected = true;
            foreach (var occurrence in state.Occurrences.Where(o => o.Notification == notification.Notification_))
                (occurrence.Notification, occurrence.Overdue) = ("", false);
            if (notification.HealthReport)
                Unreport(state);
        }
        state.State = state.Statuses.Last(s => !s.Corrected).State;
    }

    // The next record by which he is still kept back, once the one is corrected at which the occurrence stands: the notice is owed all the
    // same (GC III 119). null: he is not, or notice of it is owed by an occurrence of its own.
    private static Proceedings? DelayAfter(Prisoner state, Occurrence occurrence) =>
        occurrence.Kind == OccurrenceKind.Proceedings
        && state.Proceedings.FirstOrDefault(p =>
            p is { Corrected: false, RecordedUnder: "" } && p.RecordedFor == occurrence.OwedBy && p.Position > occurrence.Position
        )
            is { Delay: true } next
        && state.Occurrences.All(o => o.Position != next.Position || o.Corrected)
            ? next
            : null;

    // Takes back a record of proceedings. The duties then fall due by the remaining records.
    private static void Recall(Prisoner state, Func<Proceedings, bool> which)
    {
        foreach (var proceedings in state.Proceedings.Where(which).ToArray())
        {
            proceedings.Corrected = true;
            foreach (var other in state.Proceedings)
                (other.ConfinementOverdue, other.TrialNoticeOverdue) = (false, false);
        }
    }

    // It was another man who was handed over under the reference that was kept: this one's confinement goes on.
    private static void Unlink(Prisoner state)
    {
        state.DuplicateOf = "";
        // The reports, and the end or new beginning of custody, did not concern this prisoner either.
        state.HealthDueTime = state.ElsewhereHealthDueTime ?? state.HealthDueTime;
        (state.EndedElsewhere, state.PassedElsewhere, state.ElsewhereHealthDueTime) = (false, false, null);
        Unreport(state, r => !r.Corrected);
        foreach (var proceedings in state.Proceedings)
            if (state.Statuses.All(s => !s.Time.Equals(proceedings.CustodyPassTime)))
                proceedings.CustodyPassTime = null;
    }

    // A correction under another reference of the person: of a fact that counted here, of a report, or of the link and so of every fact.
    private static void MendElsewhere(Prisoner state, RecordCorrected e)
    {
        Unreport(state, r => r.Position == e.Position);
        // A fact that an earlier end of the link took out already is still no link.
        var fact =
            state.Statuses.Any(s => s.RecordedUnder == e.Prisoner && s.Position == e.Position)
            || state.Proceedings.Any(p => p.RecordedUnder == e.Prisoner && p.Position == e.Position);
        if (!fact)
        {
            state.Duplicates.Remove(e.Prisoner);
            state.JoinedDuplicates.Remove(e.Prisoner);
        }
        Recall(state, p => p.RecordedUnder == e.Prisoner && !p.Corrected && (!fact || p.Position == e.Position));
        var handovers = HandoversUnder(state, e.Prisoner);
        TakeOut(state, s => s.RecordedUnder == e.Prisoner && (!fact || s.Position == e.Position));
        TakeBack(state, [.. handovers.Where(s => s.Corrected)]);
        state.State = state.Statuses.Last(s => !s.Corrected).State;
    }

    // Another prisoner was handed over, so nothing that followed from the hand-over concerns this one.
    private static void TakeBack(Prisoner state, IReadOnlyCollection<StatusEntry> handovers)
    {
        if (handovers.Count == 0)
            return;
        foreach (var occurrence in state.Occurrences.Where(o => handovers.Any(s => s.Position == o.Position)))
            occurrence.Corrected = true;
        var passed = PassingsOf(state);
        foreach (var proceedings in state.Proceedings.Where(p => handovers.Any(s => s.Time.Equals(p.CustodyPassTime))))
            proceedings.CustodyPassTime = passed.FirstOrDefault(s => s.Position > proceedings.Position)?.Time;
        state.FormerPowers.Clear();
        foreach (var status in passed)
            PassOn(state.FormerPowers, status);
        Answers(state, PowerAfter(state, passed.LastOrDefault()));
    }

    private static void PassOn(RepeatedField<string> chain, StatusEntry passed) =>
        Cases.PassOn(
            chain,
            new CustodyTransferred
            {
                FromPower = passed.RecordedFor,
                ToPower = passed.PassedTo,
                Returned = passed.Returned,
            }
        );

    /// <summary>The powers that transferred the person and still answer for their own transfer (12(3)), by the passings of custody in all of
    /// these records: the earliest first. What one record says stays in its order. Between the records the power that has him so far gives
    /// him on first, because both sides state the times; then the times count.</summary>
    internal static IReadOnlyList<string> ChainOf(IReadOnlyCollection<Prisoner> records)
    {
        var chain = new RepeatedField<string>();
        var power = records.MinBy(r => r.RegisterTime.ToDateTimeOffset())!.Statuses[0].RecordedFor;
        Queue<StatusEntry>[] passings = [.. records.Select(r => new Queue<StatusEntry>(PassingsOf(r)))];
        while (passings.Where(p => p.Count > 0).MinBy(p => OrderOf(p.Peek())) is { } next)
        {
            var passed = next.Dequeue();
            PassOn(chain, passed);
            power = passed.PassedTo;
        }
        return chain;

        (bool, DateTimeOffset, ulong) OrderOf(StatusEntry passed) =>
            (passed.RecordedFor != power, passed.Time.ToDateTimeOffset(), passed.Position);
    }

    // The passings of custody that were not corrected, in order. If one entry records several, the last one counts.
    internal static StatusEntry[] PassingsOf(Prisoner state) =>
        [.. state.Statuses.Where(s => !s.Corrected && s.PassedTo.Length > 0).OrderBy(s => s.Position)];

    // The power to which custody passed; if custody never passed, the power that registered the prisoner.
    private static string PowerAfter(Prisoner state, StatusEntry? passed) => passed?.PassedTo ?? state.Statuses[0].RecordedFor;

    private static void TakeOut(Prisoner state, Func<StatusEntry, bool> which)
    {
        foreach (var status in state.Statuses.Where(s => !s.Corrected && which(s)))
        {
            status.Corrected = true;
            state.HealthDueTime ??= status.HealthDueTime;
        }
    }

    /// <summary>Whether an entry is the registration, which can be corrected again.</summary>
    internal static bool IsRegistration(Prisoner state, ulong position) => state.Statuses[0].Position == position;

    /// <summary>The entry of the current status, if another power recorded it and the power that answers for the prisoner may still correct
    /// it. This is so for a death, after which nothing else can be recorded of him. It is also so for a status of a power that answered for
    /// him only through a link that was undone since. null: there is none.</summary>
    internal static EntryMark? OfAnother(Prisoner state)
    {
        if (state.Statuses.LastOrDefault(s => !s.Corrected) is not { } last || !IsRecorded(state, last))
            return null;
        if (last.State != CustodyState.Died || last.RecordedFor == state.LastDetainingPower)
        {
            var before = PassingsOf(state).LastOrDefault(s => s.Position < last.Position);
            if (last.RecordedFor == PowerAfter(state, before))
                return null;
        }
        // A status that was recorded under a linked reference has its entry in that record.
        return state.Entries.FirstOrDefault(m => m.Position == last.Position)
            ?? new EntryMark { Position = last.Position, Participant = last.Participant };
    }

    private static CustodyState BeforeTransit(IEnumerable<StatusEntry> statuses) =>
        statuses.LastOrDefault(s => !s.Corrected && s.State != CustodyState.InTransit)?.State ?? CustodyState.Interned;

    // The index of the latest such status that was not corrected; -1: there is none.
    private static int LastOf(Prisoner state, CustodyState status)
    {
        for (var i = state.Statuses.Count - 1; i >= 0; i--)
            if (!state.Statuses[i].Corrected && state.Statuses[i].State == status)
                return i;
        return -1;
    }

    // Whether the status was itself recorded, under this or a linked reference, and can be corrected. A status that follows from a
    // hand-over cannot.
    private static bool IsRecorded(Prisoner state, StatusEntry status) =>
        state.Entries.Any(m => m.Position == status.Position)
        || status is { RecordedUnder.Length: > 0, PassedTo: "", Route: Route.Unspecified };

    private static Timestamp TimeOf(FoldedEntry entry) =>
        entry.Request switch
        {
            HandoverConfirmed e => e.HandoverTime ?? entry.Time,
            ReturnConfirmed e => e.ReturnTime ?? entry.Time,
            _ => entry.Time,
        };

    private static StatusEntry SetStatus(
        Prisoner state,
        FoldedEntry entry,
        CustodyState status,
        Timestamp time,
        bool ended,
        IEnumerable<Invariant> breaches
    )
    {
        state.State = status;
        var set = new StatusEntry
        {
            State = status,
            Time = time,
            Position = entry.Position,
            Participant = entry.Participant,
            Ended = ended,
            RecordedFor = state.LastDetainingPower,
            Breaches = { breaches },
        };
        state.Statuses.Add(set);
        return set;
    }

    // A status that comes before others that were recorded first: it counts if they are corrected.
    private static StatusEntry SetStatusAt(
        int index,
        Prisoner state,
        FoldedEntry entry,
        CustodyState status,
        Timestamp time,
        bool ended,
        IEnumerable<Invariant> breaches
    )
    {
        var now = state.State;
        var set = SetStatus(state, entry, status, time, ended, breaches);
        state.Statuses.RemoveAt(state.Statuses.Count - 1);
        state.Statuses.Insert(index, set);
        state.State = now;
        return set;
    }

    // Notes on the last status whether the prisoner is seriously ill.
    private static void SaySerious(Prisoner state, bool? serious)
    {
        if (serious is { } said)
            state.Statuses[^1].Serious = said;
    }

    // The entry about the latest time says whether the prisoner is seriously ill or wounded. If he is, the clock of reports starts, unless
    // it runs already. The end of custody stops the clock, and a correction of that end starts it again (D14).
    private static void SettleHealth(Prisoner state, FoldedEntry entry)
    {
        var last = state.Statuses.LastOrDefault(s => !s.Corrected);
        state.Serious = IsSerious(state);
        if (last is { Ended: true } && state.HealthDueTime is { } due)
        {
            // A custody that followed and was taken back gains no time. Only a report in it does; one before it met no clock.
            if (last.HealthDueTime is null || LastReport(state) is { HealthDueTime: not null } report && report.Position > last.Position)
                last.HealthDueTime = due;
            state.HealthDueTime = null;
        }
        else if (state.Serious && !state.EndedElsewhere)
            state.HealthDueTime ??= Week(entry);
    }

    private static Notification? LastReport(Prisoner state) =>
        state.Notifications.LastOrDefault(n => n is { HealthReport: true, Corrected: false });

    private static bool IsSerious(Prisoner state) =>
        state.Statuses.LastOrDefault(s => !s.Corrected) is { Ended: false } && SaidSerious(state);

    private static bool SaidSerious(Prisoner state) =>
        state
            .Statuses.Where(s => !s.Corrected && s.HasSerious)
            .Select(s => (Of: s.Time, s.Position, s.Serious))
            .Concat(
                state
                    .Fitness.Where(f => f is { Corrected: false, ExamineTime: not null, HasSerious: true })
                    .Select(f => (Of: f.ExamineTime, f.Position, f.Serious))
            )
            .DefaultIfEmpty()
            .MaxBy(s => (s.Of?.ToDateTimeOffset(), s.Position))
            .Serious;

    // A report on his health restarts the clock; once he is no longer seriously ill or wounded it ends it.
    private static void Report(Prisoner state, FoldedEntry entry)
    {
        if (state.HealthDueTime is not null)
            state.HealthDueTime = state.Serious ? Week(entry) : null;
    }

    // Reports under the reference that is kept count here no more.
    private static void Unreport(Prisoner state, Func<HealthReport, bool> which)
    {
        var taken = state.ReportsElsewhere.Where(which).ToArray();
        foreach (var report in taken)
            report.Corrected = true;
        if (taken.Length > 0)
            Unreport(state);
    }

    // The clock as it was before the reports that were corrected since the last that counts.
    private static void Unreport(Prisoner state)
    {
        (ulong Position, Timestamp? Due, bool Corrected)[] reports =
        [
            .. state.Notifications.Where(n => n.HealthReport).Select(n => (n.Position, (Timestamp?)n.HealthDueTime, n.Corrected)),
            .. state.ReportsElsewhere.Select(r => (r.Position, (Timestamp?)r.HealthDueTime, r.Corrected)),
        ];
        var last = reports.Where(r => !r.Corrected).Select(r => (ulong?)r.Position).Max();
        var due = reports.Where(r => r is { Corrected: true, Due: not null } && !(r.Position < last)).Select(r => r.Due).Min();
        if (due is not null && (state.HealthDueTime is null || due < state.HealthDueTime))
            state.HealthDueTime = due;
    }

    // Custody of the person ended, or began again, under the kept reference.
    private static void EndedElsewhere(Prisoner state, bool ended, FoldedEntry entry)
    {
        if (!ended)
        {
            // An end that is corrected was none: the clock of his health runs on as if it had not been stopped (D14). A new custody begins
            // with a new clock; the old one counts again if the link is undone.
            if (entry.Request is CorrectRecordRequest && state.EndedElsewhere)
                (state.HealthDueTime, state.ElsewhereHealthDueTime) = (state.HealthDueTime ?? state.ElsewhereHealthDueTime, null);
            state.EndedElsewhere = false;
            SettleHealth(state, entry);
            return;
        }
        // An end after another one leaves what the first one stopped.
        if (!state.EndedElsewhere || state.HealthDueTime is not null)
            (state.ElsewhereHealthDueTime, state.HealthDueTime) = (state.HealthDueTime, null);
        state.EndedElsewhere = true;
    }

    private static Timestamp Week(FoldedEntry entry) => (entry.Time.ToDateTimeOffset() + Prisoners.HealthEvery).ToTimestamp();

    private static void Occur(Prisoner state, FoldedEntry entry, OccurrenceKind kind, Timestamp due, string? owedBy = null) =>
        state.Occurrences.Add(
            new Occurrence
            {
                Occurrence_ = (uint)state.Occurrences.Count + 1,
                Kind = kind,
                Time = entry.Time,
                DueTime = due,
                OwedBy = owedBy ?? state.LastDetainingPower,
                Position = entry.Position,
            }
        );

    private static Timestamp In(FoldedEntry entry, int days) => entry.Time.ToDateTimeOffset().AddDays(days).ToTimestamp();

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
