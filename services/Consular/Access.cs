using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Ministries.Consular.V1;
using Ministries.Custody.V1;
using Ministries.Errors.V1;
using Ministries.Ledger;
using Ministries.Trust;
using Ministries.Types.V1;
using State = Ministries.Consular.V1.AccessState;

namespace Ministries.Consular;

/// <summary>Access to prisoners: consular access (VCCR 36), which is requested, and observers' visits (GC III 126), which are
/// notified.</summary>
public static class Accesses
{
    /// <summary>The greatest number of participants' acts on one access.</summary>
    public const int MaxActs = 512;

    /// <summary>The longest time for which access is denied by one decision.</summary>
    public static readonly TimeSpan LongestDenial = TimeSpan.FromDays(90);

    /// <summary>The duty to decide on a request.</summary>
    public const string DecisionDue = "access-decision";

    /// <summary>The stream of accesses.</summary>
    public static readonly StreamKind<Access> Kind = new("access", 1, Apply, AudienceOf, KeysOf, DueOf);

    // What would tell who wished an end, or what was corrected, is its author's alone to know.
    private static readonly string[] Reserved = ["CloseAccess", "CorrectRecord"];

    /// <summary>The rule of RequestAccess.</summary>
    public static Decision Request(View view, RequestAccessRequest request, RuleContext act)
    {
        if (Ask(view, request, act, request.Case, request.Prisoner, act.Caller.State, out var held) is { } refusal)
            return refusal;
        var id = act.NewId("access");
        var requested = new AccessRequested
        {
            Case = request.Case,
            Access = id,
            Prisoner = request.Prisoner,
            Participant = act.Caller.Id,
            RequestingState = act.Caller.State,
            DetainingPower = held.DetainingPower,
            DecisionDueTime = act.Now.AddDays(act.Permissions.Agreement.AccessDecisionDays).ToTimestamp(),
        };
        return Decision.Accept(
            request.Case,
            [
                Audience.State(request.Case, act.Caller.State),
                Audience.State(request.Case, held.DetainingPower),
                Audience.Observers(request.Case),
            ],
            [On(requested, id, request.Case, request.Prisoner)],
            Answer(
                id,
                act,
                (access, etag, state) =>
                    new RequestAccessResponse
                    {
                        Access = access,
                        Etag = etag,
                        State = state,
                    }
            )
        );
    }

    /// <summary>The rule of NotifyVisit.</summary>
    public static Decision Notify(View view, NotifyVisitRequest request, RuleContext act)
    {
        if (Ask(view, request, act, request.Case, request.Prisoner, act.Caller.Id, out var held) is { } refusal)
            return refusal;
        var id = act.NewId("access");
        var notified = new VisitNotified
        {
            Case = request.Case,
            Access = id,
            Prisoner = request.Prisoner,
            Participant = act.Caller.Id,
            DetainingPower = held.DetainingPower,
        };
        return Decision.Accept(
            request.Case,
            [Audience.State(request.Case, held.DetainingPower), Audience.Observers(request.Case)],
            [On(notified, id, request.Case, request.Prisoner)],
            Answer(
                id,
                act,
                (access, etag, state) =>
                    new NotifyVisitResponse
                    {
                        Access = access,
                        Etag = etag,
                        State = state,
                    }
            )
        );
    }

    /// <summary>The rule of DecideAccess (D17, D18).</summary>
    public static Decision Decide(View view, DecideAccessRequest request, RuleContext act)
    {
        if (
            Enter(
                view,
                request,
                act,
                request.Case,
                request.Access,
                request.Etag,
                Detaining,
                [State.Requested, State.Granted, State.Denied],
                out var access
            ) is
            { } refusal
        )
            return refusal;
        var visit = access.Kind == AccessKind.ObserverVisit;
        // An observer's visit needs no grant; consular access that was granted is closed, not denied.
        if (access.State == State.Granted && (!visit || request.Granted))
            return NotAllowed(access);
        if (!visit && request.SendingState == SendingStateDecision.Unspecified)
            return Decision.Refuse(Reason.SendingStateNotDecided);
        if (
            !visit
            && request.Granted
            && (request.PersonRequest is null || request.RightsToldTime is null || request.RightsToldTime > act.Time)
        )
            return Decision.Refuse(Reason.RightsNotRecorded);
        if (!request.Granted)
        {
            if (request.DenialGround == DenialGround.Unspecified)
                return Decision.Refuse(Reason.DenialWithoutGround);
            if (visit && request.DenialGround != DenialGround.ImperativeMilitaryNecessity)
                return Decision.Refuse(Reason.DenialWithoutNecessity);
            if (request.DenialExpireTime is null)
                return Decision.Refuse(Reason.DenialWithoutExpiry);
            var end = request.DenialExpireTime.ToDateTimeOffset();
            if (end <= act.Now || end - act.Now > LongestDenial)
                return Decision.Refuse(Reason.TimeOutOfRange, ("field", "denial_expire_time"));
        }
        if (access.Acts.Count >= MaxActs)
            return Decision.Refuse(Reason.RecordFull);
        return Accept(
            access,
            act,
            [
                new AccessDecided
                {
                    Case = access.Case,
                    Access = access.Id,
                    Prisoner = access.Prisoner,
                    Granted = request.Granted,
                },
            ],
            visit ? AudienceOf(access) : [Audience.State(access.Case, access.DetainingPower), Audience.Observers(access.Case)],
            (id, etag, state) =>
                new DecideAccessResponse
                {
                    Access = id,
                    Etag = etag,
                    State = state,
                }
        );
    }

    /// <summary>The rule of RecordVisit. A visit that took place is a fact: what was missing is acknowledged.</summary>
    public static Decision RecordVisit(View view, RecordVisitRequest request, RuleContext act)
    {
        if (
            Enter(
                view,
                request,
                act,
                request.Case,
                request.Access,
                request.Etag,
                EitherSide,
                [State.Requested, State.Granted, State.Denied, State.Closed],
                out var access,
                closedToo: true
            ) is
            { } refusal
        )
            return refusal;
        var breach = access.Kind == AccessKind.ObserverVisit ? Invariant.D17 : Invariant.D18;
        if (access.State != State.Granted && !request.AcknowledgedBreaches.Contains(breach))
            return NotAllowed(access);
        if (request.StartTime > act.Time)
            return Decision.Refuse(Reason.TimeOutOfRange, ("field", "start_time"));
        if (access.Acts.Count >= MaxActs)
            return Decision.Refuse(Reason.RecordFull);
        var recorded = new VisitRecorded
        {
            Case = access.Case,
            Access = access.Id,
            Prisoner = access.Prisoner,
        };
        recorded.Breaches.Add(request.AcknowledgedBreaches);
        List<IMessage> events = [recorded];
        if (request.Last && access.State != State.Closed)
            events.Add(Closed(access));
        return Accept(
            access,
            act,
            events,
            request.Last ? [] : AudienceOf(access),
            (id, etag, state) =>
                new RecordVisitResponse
                {
                    Access = id,
                    Etag = etag,
                    State = state,
                }
        );
    }

    /// <summary>The rule of CloseAccess.</summary>
    public static Decision Close(View view, CloseAccessRequest request, RuleContext act)
    {
        if (
            Enter(
                view,
                request,
                act,
                request.Case,
                request.Access,
                request.Etag,
                EitherSide,
                [State.Requested, State.Granted, State.Denied],
                out var access,
                closedToo: true
            ) is
            { } refusal
        )
            return refusal;
        if (access.Kind == AccessKind.ObserverVisit && act.Caller.Id != access.Participant)
            return Decision.Refuse(Reason.DenialWithoutNecessity);
        return Accept(
            access,
            act,
            [Closed(access)],
            [],
            (id, etag, state) =>
                new CloseAccessResponse
                {
                    Access = id,
                    Etag = etag,
                    State = state,
                }
        );
    }

    /// <summary>The rule of CorrectRecord, where the record is access.</summary>
    public static Decision Correct(View view, V1.CorrectRecordRequest request, RuleContext act)
    {
        if (
            Enter(
                view,
                request,
                act,
                request.Case,
                request.Record,
                request.Etag,
                (_, _) => null,
                System.Enum.GetValues<State>(),
                out var access,
                closedToo: true
            ) is
            { } refusal
        )
            return refusal;
        var corrected = access.Acts.FirstOrDefault(a => a.Position == request.Position);
        if (corrected is null || corrected.Corrected || corrected.Participant != act.Caller.Id || corrected.Method == "CorrectRecord")
            return Decision.Refuse(Reason.NotCorrectable);
        var again = access.Kind == AccessKind.Consular && RestsOn(access, request.Position);
        return Accept(
            access,
            act,
            [
                new V1.RecordCorrected
                {
                    Case = access.Case,
                    Record = access.Id,
                    Position = request.Position,
                    Participant = act.Caller.Id,
                    DecisionDueTime = again ? act.Now.AddDays(act.Permissions.Agreement.AccessDecisionDays).ToTimestamp() : null,
                },
            ],
            Reserved.Contains(corrected.Method) ? [] : AudienceOf(access),
            (id, etag, _) => new V1.CorrectRecordResponse { Record = id, Etag = etag }
        );
    }

    // Whether it is granted or denied by the decision at this position.
    private static bool RestsOn(Access access, ulong position) =>
        access.Decision?.Position == position && access.State is State.Granted or State.Denied;

    /// <summary>A change of the access and of its prisoner's dossier.</summary>
    public static Change On(IMessage @event, Access access) => On(@event, access.Id, access.Case, access.Prisoner);

    private static Change On(IMessage @event, string id, string @case, string prisoner) =>
        new(@event, [Kind.Id(id), Dossiers.Kind.Id(Dossiers.Key(@case, prisoner))]);

    private static AccessClosed Closed(Access access) =>
        new()
        {
            Case = access.Case,
            Access = access.Id,
            Prisoner = access.Prisoner,
        };

    private static Refusal NotAllowed(Access access) =>
        new(Reason.StateNotAllowed, new Dictionary<string, string> { ["record"] = access.Id });

    private static Refusal? Detaining(Access access, RuleContext act) =>
        Acts.ActsFor(act.Caller, access.DetainingPower) ? null : new Refusal(Reason.NotGranted);

    private static Refusal? EitherSide(Access access, RuleContext act) =>
        (access.Kind == AccessKind.Consular ? Acts.ActsFor(act.Caller, access.RequestingState) : act.Caller.Id == access.Participant)
            ? null
            : Detaining(access, act);

    private static Refusal? Ask(
        View view,
        IMessage request,
        RuleContext act,
        string @case,
        string prisoner,
        string asker,
        out CasePrisoner held
    )
    {
        var open = view.Find(Cases.Kind, @case);
        var dossier = view.Find(Dossiers.Kind, Dossiers.Key(@case, prisoner));
        held = open?.Prisoners.FirstOrDefault(p => p.Prisoner == prisoner)!;
        if (Gate.Check(act, request, open, prisoner) is { } refusal)
            return refusal;
        if (!held.Held)
            return new Refusal(Reason.PrisonerNotHeld);
        if (Dossiers.HasAccess(dossier, asker))
            return new Refusal(Reason.AccessAlreadyOpen);
        return dossier?.Accesses.Count >= Dossiers.MaxRecords ? new Refusal(Reason.RecordFull) : null;
    }

    private static Refusal? Enter(
        View view,
        IMessage request,
        RuleContext act,
        string @case,
        string id,
        string etag,
        Func<Access, RuleContext, Refusal?> side,
        State[] from,
        out Access access,
        bool closedToo = false
    )
    {
        var open = view.Find(Cases.Kind, @case);
        access = view.Find(Kind, id)!;
        // What the caller may not see takes the same way as what is not there.
        if (access is not null && (access.Case != @case || open is null || !Cases.MaySee(act.Caller, open, [.. AudienceOf(access)])))
            access = null!;
        if (access is null)
            return new Refusal(Reason.NotFound);
        var found = access;
        return Gate.Check(act, request, open, found.Prisoner, closedToo: closedToo, side: () => side(found, act))
            ?? Gate.Saw(act, etag, Show(access, act.Caller))
            ?? (from.Contains(access.State) ? null : NotAllowed(access));
    }

    private static Decision Accept(
        Access access,
        RuleContext act,
        IReadOnlyList<IMessage> events,
        IEnumerable<string> audience,
        Func<string, string, State, IMessage> answer
    ) => Decision.Accept(access.Case, [.. audience], [.. events.Select(e => On(e, access))], Answer(access.Id, act, answer));

    private static Func<View, IMessage> Answer(string id, RuleContext act, Func<string, string, State, IMessage> answer) =>
        after =>
        {
            var access = after.Find(Kind, id)!;
            return answer(id, act.EtagOf(Show(access, act.Caller)), access.State);
        };

    private static void Apply(Access access, IMessage @event, FoldedEntry entry)
    {
        switch (@event)
        {
            case AccessRequested e:
                (access.Id, access.Case, access.Prisoner, access.Kind) = (e.Access, e.Case, e.Prisoner, AccessKind.Consular);
                (access.Participant, access.RequestingState, access.DetainingPower) = (e.Participant, e.RequestingState, e.DetainingPower);
                (access.State, access.RequestTime, access.DecisionDueTime) = (State.Requested, entry.Time, e.DecisionDueTime);
                access.NoteVerbale = (entry.Request as RequestAccessRequest)?.NoteVerbale ?? "";
                break;
            case VisitNotified e:
                (access.Id, access.Case, access.Prisoner, access.Kind) = (e.Access, e.Case, e.Prisoner, AccessKind.ObserverVisit);
                (access.Participant, access.DetainingPower) = (e.Participant, e.DetainingPower);
                (access.State, access.RequestTime) = (State.Granted, entry.Time);
                if (entry.Request is NotifyVisitRequest notice)
                    (access.NoteVerbale, access.PlannedTime) = (notice.NoteVerbale, notice.PlannedTime);
                break;
            case AccessDecided e:
                access.State = e.Granted ? State.Granted : State.Denied;
                (access.DecisionDueTime, access.DecisionOverdue) = (null, false);
                access.Decision = new AccessDecision
                {
                    Granted = e.Granted,
                    Participant = entry.Participant,
                    DecideTime = entry.Time,
                    Position = entry.Position,
                };
                if (entry.Request is DecideAccessRequest decide)
                {
                    (access.Decision.NoteVerbale, access.Decision.SendingState) = (decide.NoteVerbale, decide.SendingState);
                    (access.Decision.DenialGround, access.Decision.DenialExpireTime) = (decide.DenialGround, decide.DenialExpireTime);
                    (access.Decision.RightsToldTime, access.Decision.PersonRequest) = (
                        decide.RightsToldTime,
                        Acts.Kept(decide.PersonRequest)
                    );
                }
                break;
            case AccessReopened e:
                Reopen();
                access.DecisionDueTime = e.DecisionDueTime;
                access.Decision.DenialExpired = true;
                break;
            case VisitRecorded e:
                var visit = new Visit { Participant = entry.Participant, Position = entry.Position };
                visit.Breaches.Add(e.Breaches);
                if (entry.Request is RecordVisitRequest made)
                {
                    (visit.StartTime, visit.DurationMinutes, visit.WithoutWitnesses) = (
                        made.StartTime,
                        made.DurationMinutes,
                        made.WithoutWitnesses
                    );
                    (visit.Language, visit.Interpreter, visit.Report) = (made.Language, made.Interpreter, Acts.Kept(made.Report));
                }
                access.Visits.Add(visit);
                break;
            case AccessClosed:
                (access.State, access.CloseTime) = (State.Closed, entry.Time);
                (access.DecisionDueTime, access.DecisionOverdue) = (null, false);
                break;
            case V1.DutyFellDue:
                access.DecisionOverdue = true;
                break;
            case V1.RecordCorrected e:
                foreach (var act in access.Acts)
                    act.Corrected |= act.Position == e.Position;
                foreach (var wrong in access.Visits)
                    wrong.Corrected |= wrong.Position == e.Position;
                // What rested on a decision is as before it.
                if (!RestsOn(access, e.Position))
                    break;
                Reopen();
                (access.DecisionDueTime, access.DecisionOverdue) = (e.DecisionDueTime, false);
                break;
        }
        Acts.Note(access.Acts, entry);

        void Reopen() => access.State = access.Kind == AccessKind.Consular ? State.Requested : State.Granted;
    }

    /// <summary>Who may see it.</summary>
    public static IEnumerable<string> AudienceOf(Access access)
    {
        if (access.Kind == AccessKind.Consular)
            yield return Audience.State(access.Case, access.RequestingState);
        yield return Audience.State(access.Case, access.DetainingPower);
        yield return Audience.Observers(access.Case);
    }

    /// <summary>Access as the reader may know it.</summary>
    /// <param name="access">The access.</param>
    /// <param name="reader">Who reads; one who may see it.</param>
    public static Access Show(Access access, Participant reader)
    {
        var shown = access.Clone();
        if (shown.Decision is { } decision)
        {
            if (!Acts.IsNeutral(reader) && !Acts.ActsFor(reader, access.DetainingPower))
            {
                decision.RightsToldTime = null;
                decision.Withheld.Add("rights_told_time");
            }
            if (reader.Id != decision.Participant && decision.PersonRequest?.Recipients.Contains(reader.Id) != true)
            {
                decision.PersonRequest = null;
                decision.Withheld.Add("person_request");
            }
        }
        foreach (var visit in shown.Visits)
            visit.Report = Acts.Opened(visit.Report, visit.Participant, reader);
        Acts.Show(shown.Acts, a => a.Participant == reader.Id || !Reserved.Contains(a.Method));
        shown.Withheld.Add("acts");
        return shown;
    }

    private static IEnumerable<string> KeysOf(Access access) =>
        [$"case:{access.Case}", $"prisoner:{Dossiers.Key(access.Case, access.Prisoner)}", $"state:{access.State}", $"kind:{access.Kind}"];

    /// <summary>When its next duty falls due; null: none runs.</summary>
    public static DateTimeOffset? DueOf(Access access) =>
        access.State switch
        {
            State.Requested when !access.DecisionOverdue => access.DecisionDueTime?.ToDateTimeOffset(),
            State.Denied => access.Decision.DenialExpireTime?.ToDateTimeOffset(),
            _ => null,
        };
}
