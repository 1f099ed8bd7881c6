using Google.Protobuf.WellKnownTypes;
using Ministries.Consular.V1;
using Ministries.Custody.V1;
using State = Ministries.Consular.V1.AccessState;

namespace Ministries.Consular;

/// <summary>What each event does to access.</summary>
internal static class AccessFold
{
    public static Folds<Access> All =>
        new Folds<Access>()
            .On<AccessRequested>(Requested)
            .On<VisitNotified>(Notified)
            .On<AccessDecided>(Decided)
            .On<AccessReopened>(Reopened)
            .On<AccessPassed>(Passed)
            .On<CustodyTransferred>((access, _, _) => CustodyEnded(access))
            .On<DepartureRecorded>((access, _, _) => CustodyEnded(access))
            .On<StatusRecorded>((access, _, _) => CustodyEnded(access))
            .On<VisitRecorded>(Visited)
            .On<AccessClosed>(Closed)
            .On<V1.DutyFellDue>((access, _, _) => access.DecisionOverdue = true)
            .On<V1.RecordCorrected>(Corrected)
            .After((access, _, entry) => Acts.Note(access.Acts, entry));

    /// <summary>The state that access had at a time, by what is recorded now. Before it began, it was as it began: an observer's visits
    /// need no notice to be lawful.</summary>
    public static State StateAt(Access access, Timestamp time) =>
        (access.Periods.LastOrDefault(p => p.StartTime <= time) ?? access.Periods[0]) switch
        {
            { State: State.Denied, ExpireTime: { } expires } when expires <= time => OpenState(access.Kind),
            var period => period.State,
        };

    private static void Begin(Access access, State state, Timestamp start, FoldedEntry entry, Timestamp? expires = null) =>
        access.Periods.Add(
            new AccessPeriod
            {
                State = state,
                StartTime = start,
                ExpireTime = expires,
                Position = entry.Position,
            }
        );

    // The state of access before any decision.
    private static State OpenState(AccessKind kind) => kind == AccessKind.Consular ? State.Requested : State.Granted;

    private static void Requested(Access access, AccessRequested e, FoldedEntry entry)
    {
        (access.Id, access.Case, access.Prisoner, access.Kind) = (e.Access, e.Case, e.Prisoner, AccessKind.Consular);
        (access.Participant, access.RequestingState, access.DetainingPower) = (e.Participant, e.RequestingState, e.DetainingPower);
        (access.State, access.RequestTime, access.DecisionDueTime) = (State.Requested, entry.Time, e.DecisionDueTime);
        access.NoteVerbale = (entry.Request as RequestAccessRequest)?.NoteVerbale ?? "";
        Begin(access, State.Requested, entry.Time, entry);
    }

    private static void Notified(Access access, VisitNotified e, FoldedEntry entry)
    {
        (access.Id, access.Case, access.Prisoner, access.Kind) = (e.Access, e.Case, e.Prisoner, AccessKind.ObserverVisit);
        (access.Participant, access.DetainingPower) = (e.Participant, e.DetainingPower);
        (access.State, access.RequestTime) = (State.Granted, entry.Time);
        Begin(access, e.DenialExpireTime is null ? State.Granted : State.Denied, entry.Time, entry, e.DenialExpireTime);
        if (entry.Request is NotifyVisitRequest notice)
            (access.NoteVerbale, access.PlannedTime) = (notice.NoteVerbale, notice.PlannedTime);
        if (e.DenialExpireTime is null)
            return;
        access.State = State.Denied;
        access.Decision = new AccessDecision
        {
            DenialGround = DenialGround.ImperativeMilitaryNecessity,
            DenialExpireTime = e.DenialExpireTime,
        };
    }

    private static void Decided(Access access, AccessDecided e, FoldedEntry entry)
    {
        access.State = e.Granted ? State.Granted : State.Denied;
        StopClock(access);
        access.Decision = new AccessDecision
        {
            Granted = e.Granted,
            Participant = entry.Participant,
            DecideTime = entry.Time,
            Position = entry.Position,
        };
        var expires = e.Granted ? null : e.DenialExpireTime ?? (entry.Request as DecideAccessRequest)?.DenialExpireTime;
        access.Decision.DenialExpireTime = expires;
        Begin(access, access.State, entry.Time, entry, expires);
        if (entry.Request is not DecideAccessRequest request)
            return;
        (access.Decision.NoteVerbale, access.Decision.SendingState) = (request.NoteVerbale, request.SendingState);
        access.Decision.DenialGround = request.DenialGround;
        (access.Decision.RightsToldTime, access.Decision.PersonRequest) = (
            request.RightsToldTime,
            Seals.Keep(request.PersonRequest, entry.Position)
        );
        // Of consular access a denial does not say more than its ground.
        if (access.Kind == AccessKind.ObserverVisit && !e.Granted)
            access.Decision.DenialReason = request.DenialReason;
    }

    // The access is open to a decision again, because a denial ended or custody goes on.
    private static void Reopened(Access access, AccessReopened e, FoldedEntry entry)
    {
        if (access.State == State.Denied)
            access.Decision.DenialExpired = true;
        Reopen(access);
        (access.DecisionDueTime, access.StoppedDecisionDueTime) = (e.DecisionDueTime, null);
    }

    // No power is left to decide, so no decision falls due. A decision that was not made in time stays marked.
    private static void CustodyEnded(Access access)
    {
        if (access is { DecisionDueTime: { } due, DecisionOverdue: false })
            (access.StoppedDecisionDueTime, access.DecisionDueTime) = (due, null);
    }

    private static void Passed(Access access, AccessPassed e, FoldedEntry entry)
    {
        if (e.Undone)
        {
            PassedBack(access, e, entry);
            return;
        }
        Leave(access, e.HandoverTime, entry);
        // The previous power's decision does not bind the power that took the prisoner.
        (access.DetainingPower, access.Decision) = (e.ToPower, null);
        Reopen(access);
        StopClock(access);
        access.DecisionDueTime = e.DecisionDueTime;
        // A decision that the previous power made after the hand-over does not count for the new one.
        access.Periods.Keep(p => p.StartTime < e.HandoverTime);
        Begin(access, OpenState(access.Kind), e.HandoverTime, entry);
        // These visits were recorded before this service heard of the hand-over.
        foreach (var visit in access.Visits.Where(v => v.StartTime >= e.HandoverTime))
            visit.DetainingPower = e.ToPower;
    }

    // Keeps what the previous power decided, with the time at which its custody ended.
    private static void Leave(Access access, Timestamp time, FoldedEntry entry) =>
        access.FormerCustodies.Add(
            new FormerCustody
            {
                DetainingPower = access.DetainingPower,
                EndTime = time,
                State = access.State,
                Decision = access.Decision?.Clone(),
                Position = entry.Position,
                DecisionDueTime = access.DecisionDueTime,
                DecisionOverdue = access.DecisionOverdue,
                StoppedDecisionDueTime = access.StoppedDecisionDueTime,
            }
        );

    // Another prisoner was handed over; this one stayed with his power. That power's decision still counts, and each visit took place in
    // its custody.
    private static void PassedBack(Access access, AccessPassed e, FoldedEntry entry)
    {
        var since = e.SinceTime ?? e.HandoverTime;
        // What another power decided since, and that access passed, is not so. But no denial of an observer's visits is renewed (D17).
        var wrong = access
            .Periods.Where(p => p.StartTime >= since && (access.Kind == AccessKind.Consular || p.State != State.Granted))
            .Where(p => PowerAt(access, p.StartTime) != e.ToPower || access.FormerCustodies.Any(c => c.Position == p.Position))
            .ToHashSet();
        if (wrong.Count < access.Periods.Count)
            access.Periods.Keep(p => !wrong.Contains(p));
        if (e.HandoverTime is not null)
            GivenBack(access, e, entry);
        foreach (var former in access.FormerCustodies.Where(c => c.EndTime > since))
            former.EndTime = since;
        foreach (var visit in access.Visits.Where(v => v.StartTime >= since))
        {
            visit.DetainingPower = e.ToPower;
            // It was lawful.
            if (StateAt(access, visit.StartTime) == State.Granted)
                visit.Breaches.Clear();
        }
    }

    private static void GivenBack(Access access, AccessPassed e, FoldedEntry entry)
    {
        var own = access.FormerCustodies.Last(c => c.DetainingPower == e.ToPower && c.EndTime.Equals(e.HandoverTime)).Clone();
        if (access.State != State.Closed)
            Leave(access, e.HandoverTime, entry);
        (access.DetainingPower, access.State, access.Decision, access.CloseTime) = (e.ToPower, own.State, own.Decision, null);
        (access.DecisionDueTime, access.DecisionOverdue) = (own.DecisionDueTime, own.DecisionOverdue);
        access.StoppedDecisionDueTime = own.StoppedDecisionDueTime;
        // A decision that was corrected meanwhile stays corrected. A denial of an observer's visits ended when the hand-over was recorded;
        // to deny them again, the power decides again (D17).
        if (IsCorrected(access, own.Decision) || access is { Kind: AccessKind.ObserverVisit, State: State.Denied })
        {
            Reopen(access);
            StopClock(access);
        }
        if (access is { Kind: AccessKind.Consular, State: State.Requested, DecisionOverdue: false })
        {
            access.DecisionDueTime ??= own.StoppedDecisionDueTime ?? e.DecisionDueTime;
            access.StoppedDecisionDueTime = null;
            // No power answers for the prisoner, so no decision falls due.
            if (e.DecisionDueTime is null)
                CustodyEnded(access);
        }
        access.Periods.Keep(p => p.StartTime < e.HandoverTime);
        if (access.Periods.Count == 0 || StateAt(access, e.HandoverTime) != access.State)
            access.Periods.Add(
                new AccessPeriod
                {
                    State = access.State,
                    StartTime = access.Decision?.DecideTime is { } decided && decided > e.HandoverTime ? decided : e.HandoverTime,
                    ExpireTime = access.State == State.Denied ? access.Decision?.DenialExpireTime : null,
                    Position = access.Decision?.Position ?? entry.Position,
                }
            );
    }

    /// <summary>The power in whose custody he was at a time, by what is recorded now.</summary>
    internal static string PowerAt(Access access, Timestamp time) =>
        access.FormerCustodies.FirstOrDefault(c => time < c.EndTime)?.DetainingPower ?? access.DetainingPower;

    private static bool IsCorrected(Access access, AccessDecision? decision) =>
        decision is not null && access.Acts.Any(a => a.Corrected && a.Position == decision.Position);

    /// <summary>Whether the access was closed because a hand-over to the requesting state was recorded.</summary>
    internal static bool IsClosedByPassing(Access access) =>
        access.State == State.Closed
        && access.FormerCustodies.LastOrDefault() is { } last
        && access.Periods[^1] is { State: State.Closed } closed
        && closed.Position == last.Position;

    private static void Visited(Access access, VisitRecorded e, FoldedEntry entry)
    {
        var visit = new Visit
        {
            Participant = entry.Participant,
            Position = entry.Position,
            Breaches = { e.Breaches },
            DetainingPower = e.DetainingPower.Length > 0 ? e.DetainingPower : access.DetainingPower,
        };
        if (entry.Request is RecordVisitRequest made)
        {
            (visit.StartTime, visit.DurationMinutes) = (made.StartTime, made.DurationMinutes);
            (visit.WithoutWitnesses, visit.Language) = (made.WithoutWitnesses, made.Language);
            (visit.Interpreter, visit.Report) = (made.Interpreter, Seals.Keep(made.Report, entry.Position));
        }
        access.Visits.Add(visit);
    }

    private static void Closed(Access access, AccessClosed e, FoldedEntry entry)
    {
        if (entry.Request is CustodyTransferred passed)
            Leave(access, passed.PassTime ?? entry.Time, entry);
        (access.State, access.CloseTime) = (State.Closed, entry.Time);
        Begin(access, State.Closed, entry.Time, entry);
        StopClock(access);
    }

    private static void Corrected(Access access, V1.RecordCorrected e, FoldedEntry entry)
    {
        foreach (var act in access.Acts)
            act.Corrected |= act.Position == e.Position;
        foreach (var wrong in access.Visits)
            wrong.Corrected |= wrong.Position == e.Position;
        // A decision that was a mistake counts as never made. A notice is no decision: if it began with a denial, only the power takes that
        // denial back.
        if (e.Position != access.Acts[0].Position)
            foreach (var period in access.Periods.Where(p => p.Position == e.Position && p.State is State.Granted or State.Denied))
                (period.State, period.ExpireTime) = (OpenState(access.Kind), null);
        // The effects of a corrected decision are taken back.
        if (!Accesses.RestsOn(access, e.Position))
            return;
        Reopen(access);
        (access.DecisionDueTime, access.DecisionOverdue) = (e.DecisionDueTime, false);
    }

    private static void Reopen(Access access) => access.State = OpenState(access.Kind);

    private static void StopClock(Access access) =>
        (access.DecisionDueTime, access.DecisionOverdue, access.StoppedDecisionDueTime) = (null, false, null);
}
