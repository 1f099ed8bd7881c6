using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Ministries.Consular.V1;
using Ministries.Custody.V1;
using Ministries.Errors.V1;
using Ministries.Types.V1;
using static Ministries.Rules.Ruling;
using State = Ministries.Consular.V1.AccessState;

namespace Ministries.Consular;

/// <summary>Access to prisoners: consular access (VCCR 36), which is requested, and observers' visits (GC III 126), which are
/// notified. Its rules; what its events do to it stands in <see cref="AccessFold"/>, who sees what of it in
/// <see cref="AccessVisibility"/>.</summary>
public static class Accesses
{
    /// <summary>The greatest number of participants' acts on one access.</summary>
    public const int MaxActs = 512;

    /// <summary>The longest time for which access is denied by one decision.</summary>
    public static readonly TimeSpan LongestDenial = TimeSpan.FromDays(90);

    /// <summary>The stream of accesses.</summary>
    public static readonly StreamKind<Access> Kind = new(
        "access",
        1,
        AccessFold.All,
        AccessVisibility.AudienceOf,
        a => [$"case:{a.Case}", $"prisoner:{Dossiers.Key(a.Case, a.Prisoner)}", $"state:{a.State}", $"kind:{a.Kind}"],
        Duties.DueOf
    );

    /// <summary>Accesses as rules need to know them.</summary>
    public static readonly RecordKind<Access> Record = new()
    {
        Prefix = "access",
        Stream = Kind,
        Field = "access",
        Id = a => a.Id,
        Case = a => a.Case,
        Prisoner = a => a.Prisoner,
        State = a => (int)a.State,
        SeenBy = AccessVisibility.AudienceOf,
        Entries = AccessVisibility.AudienceOf,
        Show = (access, _, context) => AccessVisibility.Show(access, context.Caller),
        Streams = (access, _) => StreamsOf(access.Id, access.Case, access.Prisoner),
        NamedInRefusals = true,
    };

    private static readonly Side<Access> Detaining = new("detaining power", (a, context) => Only(context.ActsFor(a.DetainingPower)));

    private static readonly Side<Access> EitherSide = new(
        "visiting side or detaining power",
        (a, context) =>
            Only(
                context.ActsFor(a.DetainingPower)
                    || (a.Kind == AccessKind.Consular ? context.ActsFor(a.RequestingState) : context.Caller.Id == a.Participant)
            )
    );

    /// <summary>Asks for consular access.</summary>
    public static readonly Rule<Case, RequestAccessRequest, RequestAccessResponse> RequestAccess = new(Cases.Record)
    {
        Makes = Record,
        Decide = (@case, request, context) =>
        {
            if (Hindrance(@case, request.Prisoner, context.Caller.State, context, out var held) is { } hindrance)
                return hindrance;
            var requested = new AccessRequested
            {
                Case = request.Case,
                Access = context.NewId(Record.Prefix),
                Prisoner = request.Prisoner,
                Participant = context.Caller.Id,
                RequestingState = context.Caller.State,
                DetainingPower = held.DetainingPower,
                DecisionDueTime = DecisionDue(context),
            };
            return Accept(new Change(requested, StreamsOf(requested.Access, request.Case, request.Prisoner)))
                .SeenBy(
                    Audience.State(request.Case, context.Caller.State),
                    Audience.State(request.Case, held.DetainingPower),
                    Audience.Observers(request.Case)
                );
        },
    };

    /// <summary>Notifies visits of a neutral observer or Protecting Power.</summary>
    public static readonly Rule<Case, NotifyVisitRequest, NotifyVisitResponse> NotifyVisit = new(Cases.Record)
    {
        Makes = Record,
        Decide = (@case, request, context) =>
        {
            if (Hindrance(@case, request.Prisoner, context.Caller.Id, context, out var held) is { } hindrance)
                return hindrance;
            var notified = new VisitNotified
            {
                Case = request.Case,
                Access = context.NewId(Record.Prefix),
                Prisoner = request.Prisoner,
                Participant = context.Caller.Id,
                DetainingPower = held.DetainingPower,
            };
            return Accept(new Change(notified, StreamsOf(notified.Access, request.Case, request.Prisoner)))
                .SeenBy(Audience.State(request.Case, held.DetainingPower), Audience.Observers(request.Case));
        },
    };

    /// <summary>Decides on access (D17, D18).</summary>
    public static readonly Rule<Access, DecideAccessRequest, DecideAccessResponse> DecideAccess = new(Record)
    {
        From = [State.Requested, State.Granted, State.Denied],
        By = Detaining,
        Full = IsFull,
        Decide = (access, request, context) =>
        {
            var visit = access.Kind == AccessKind.ObserverVisit;
            // An observer's visit needs no grant; consular access that was granted is closed, not denied.
            if (access.State == State.Granted && (!visit || request.Granted))
                return Record.NotAllowed(access);
            if (!visit && request.SendingState == SendingStateDecision.Unspecified)
                return Reason.SendingStateNotDecided;
            var rightsRecorded = request is { PersonRequest: not null, RightsToldTime: not null } && request.RightsToldTime <= context.Time;
            if (!visit && request.Granted && !rightsRecorded)
                return Reason.RightsNotRecorded;
            if (!request.Granted && DenialFault(visit, request, context) is { } fault)
                return fault;
            var decided = Accept(new AccessDecided { Granted = request.Granted });
            return visit ? decided : decided.SeenBy(Audience.State(access.Case, access.DetainingPower), Audience.Observers(access.Case));
        },
    };

    /// <summary>Records a visit that took place. It is a fact: what was missing is acknowledged.</summary>
    public static readonly Rule<Access, RecordVisitRequest, RecordVisitResponse> RecordVisit = new(Record)
    {
        From = [State.Requested, State.Granted, State.Denied, State.Closed],
        By = EitherSide,
        InClosedCase = true,
        Full = IsFull,
        Decide = (access, request, context) =>
        {
            var breach = access.Kind == AccessKind.ObserverVisit ? Invariant.D17 : Invariant.D18;
            if (access.State != State.Granted && !request.AcknowledgedBreaches.Contains(breach))
                return Record.NotAllowed(access);
            if (request.StartTime > context.Time)
                return RefuseField(Reason.TimeOutOfRange, "start_time");
            var recorded = new VisitRecorded { Breaches = { request.AcknowledgedBreaches } };
            var ruling = request.Last && access.State != State.Closed ? Accept(recorded, new AccessClosed()) : Accept(recorded);
            return request.Last ? ruling.SeenBy() : ruling;
        },
    };

    /// <summary>Closes access.</summary>
    public static readonly Rule<Access, CloseAccessRequest, CloseAccessResponse> CloseAccess = new(Record)
    {
        From = [State.Requested, State.Granted, State.Denied],
        By = EitherSide,
        InClosedCase = true,
        Decide = (access, _, context) =>
            access.Kind == AccessKind.ObserverVisit && context.Caller.Id != access.Participant
                ? Reason.DenialWithoutNecessity
                : Accept(new AccessClosed()).SeenBy(),
    };

    /// <summary>Corrects an act of the caller's own, where the record is access.</summary>
    public static readonly Rule<Access, V1.CorrectRecordRequest, V1.CorrectRecordResponse> CorrectRecord = new(Record)
    {
        From = [.. System.Enum.GetValues<State>()],
        InClosedCase = true,
        Decide = (access, request, context) =>
        {
            if (Acts.Correctable(access.Acts, request.Position, context) is not { } act)
                return Reason.NotCorrectable;
            var again = access.Kind == AccessKind.Consular && RestsOn(access, request.Position);
            var corrected = Accept(
                new V1.RecordCorrected
                {
                    Position = request.Position,
                    Participant = context.Caller.Id,
                    DecisionDueTime = again ? DecisionDue(context) : null,
                }
            );
            return AccessVisibility.Reserved.Contains(act.Method) ? corrected.SeenBy() : corrected;
        },
    };

    /// <summary>When a decision on access is due that is asked for now.</summary>
    internal static Timestamp DecisionDue(RuleContext context) =>
        context.Now.AddDays(context.Permissions.Agreement.AccessDecisionDays).ToTimestamp();

    /// <summary>Whether it is granted or denied by the decision at this position.</summary>
    internal static bool RestsOn(Access access, ulong position) =>
        access.Decision?.Position == position && access.State is State.Granted or State.Denied;

    // What stands against asking for access to a prisoner, or notifying visits.
    private static Reason? Hindrance(Case @case, string prisoner, string asker, RuleContext context, out CasePrisoner held)
    {
        var dossier = context.Find(Dossiers.Kind, Dossiers.Key(@case.Id, prisoner));
        held = @case.Prisoners.First(p => p.Prisoner == prisoner);
        return !held.Held ? Reason.PrisonerNotHeld
            : Dossiers.HasAccess(dossier, asker) ? Reason.AccessAlreadyOpen
            : dossier?.Accesses.Count >= Dossiers.MaxRecords ? Reason.RecordFull
            : null;
    }

    // What a denial lacks.
    private static Ruling? DenialFault(bool visit, DecideAccessRequest request, RuleContext context)
    {
        if (request.DenialGround == DenialGround.Unspecified)
            return Reason.DenialWithoutGround;
        if (visit && request.DenialGround != DenialGround.ImperativeMilitaryNecessity)
            return Reason.DenialWithoutNecessity;
        if (request.DenialExpireTime is null)
            return Reason.DenialWithoutExpiry;
        var end = request.DenialExpireTime.ToDateTimeOffset();
        if (end <= context.Now || end - context.Now > LongestDenial)
            return RefuseField(Reason.TimeOutOfRange, "denial_expire_time");
        return null;
    }

    private static Refusal? Only(bool allowed) => allowed ? null : new Refusal(Reason.NotGranted);

    private static bool IsFull<TRequest>(Access access, TRequest request) => access.Acts.Count >= MaxActs;

    private static StreamId[] StreamsOf(string id, string @case, string prisoner) =>
        [Kind.Id(id), Dossiers.Kind.Id(Dossiers.Key(@case, prisoner))];
}
