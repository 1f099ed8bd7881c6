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
    /// <summary>The greatest number of one participant's acts of one kind on one access.</summary>
    public const int MaxActs = 512;

    /// <summary>The size in bytes of one participant's visits on one access from which it records no more of them: 1 MiB.</summary>
    public const int FullOfVisitsAt = 1 << 20;

    /// <summary>The size in bytes of access from which nobody but the visiting side records visits: 6 MiB.</summary>
    public const int FullAt = 6 << 20;

    /// <summary>The size in bytes from which the visiting side does not either: 7 MiB. A state has at most 8: access is closed, passes with
    /// custody and is corrected whatever is in it.</summary>
    public const int FullForVisitingSideAt = 7 << 20;

    /// <summary>The longest time for which access is denied by one decision.</summary>
    public static readonly TimeSpan LongestDenial = TimeSpan.FromDays(90);

    /// <summary>The longest time for which one observer's visits to one prisoner are denied, all denials of all of its accesses taken
    /// together (D17). Two of the longest: what goes on for longer is no exception any more.</summary>
    public static readonly TimeSpan LongestDenials = TimeSpan.FromDays(180);

    /// <summary>The stream of accesses.</summary>
    public static readonly StreamKind<Access> Kind = new(
        "access",
        7,
        AccessFold.All,
        AccessVisibility.AudienceOf,
        a =>
            [
                $"case:{a.Case}",
                $"prisoner:{Dossiers.Key(a.Case, a.Prisoner)}",
                $"kind:{a.Kind}",
                .. AccessVisibility.StatesOf(a).Select(s => StateKey(s.Side, s.State)),
            ],
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
        Entries = access => AccessVisibility.EntriesOf(access, access.DetainingPower),
        Show = (access, _, context) => AccessVisibility.Show(access, context.Caller),
        Streams = (access, _) => StreamsOf(access.Id, access.Case, access.Prisoner),
        Sides = a => [a.RequestingState, .. AccessVisibility.PowersOf(a)],
        NamedInRefusals = true,
    };

    private static readonly Side<Access> Detaining = new("detaining power", (a, context) => Only(context.ActsFor(a.DetainingPower)));

    private static readonly Side<Access> VisitingSide = new("visiting side", (a, context) => Only(IsVisitingSide(a, context)));

    // A power from which custody passed tells still of the visits of its time.
    private static readonly Side<Access> EitherSideOfAnyTime = new(
        "visiting side or detaining power",
        (a, context) => Only(AccessVisibility.PowersOf(a).Any(context.ActsFor) || IsVisitingSide(a, context))
    );

    /// <summary>Asks for consular access.</summary>
    public static readonly Rule<Case, RequestAccessRequest, RequestAccessResponse> RequestAccess = new(Cases.Record)
    {
        Makes = Record,
        Decide = (@case, request, context) =>
        {
            var held = InCase(@case, request.Prisoner);
            if (held.DetainingPower.Length == 0)
                return Reason.PrisonerNotHeld;
            if (Hindrance(request.Case, request.Prisoner, context.Caller.State, context) is { } hindrance)
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
        InClosedCase = true,
        Decide = (@case, request, context) =>
        {
            if (Hindrance(request.Case, request.Prisoner, context.Caller.Id, context) is { } hindrance)
                return hindrance;
            var held = InCase(@case, request.Prisoner);
            // After the end of custody, a visit that took place before is notified so that it can be recorded.
            var power = held.DetainingPower.Length > 0 ? held.DetainingPower : held.LastDetainingPower;
            var dossier = context.Find(Dossiers.Kind, Dossiers.Key(request.Case, request.Prisoner));
            var notified = new VisitNotified
            {
                Case = request.Case,
                Access = context.NewId(Record.Prefix),
                Prisoner = request.Prisoner,
                Participant = context.Caller.Id,
                DetainingPower = power,
                // To notify anew ends no denial, nor does it begin one.
                DenialExpireTime = Dossiers.DenialInForce(dossier, context.Caller.Id, context.Time)?.EndTime,
            };
            return Accept(new Change(notified, StreamsOf(notified.Access, request.Case, request.Prisoner)))
                .SeenBy(Audience.State(request.Case, power), Audience.Observers(request.Case));
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
            // Granted access is not granted again. If the prisoner opposes consular visits, access is denied; the denial does not give the
            // reason.
            if (access.State == State.Granted && request.Granted)
                return Record.NotAllowed(access);
            if (!visit && ConsularFault(request, context) is { } reason)
                return reason;
            if (!request.Granted && DenialFault(access, request, context) is { } fault)
                return fault;
            var decided = Accept(
                new AccessDecided { Granted = request.Granted, DenialExpireTime = request.Granted ? null : request.DenialExpireTime }
            );
            return visit ? decided : decided.SeenBy(Audience.State(access.Case, access.DetainingPower), Audience.Observers(access.Case));
        },
    };

    /// <summary>Records a visit that took place. It is a fact: what was missing is acknowledged.</summary>
    public static readonly Rule<Access, RecordVisitRequest, RecordVisitResponse> RecordVisit = new(Record)
    {
        From = [State.Requested, State.Granted, State.Denied, State.Closed],
        By = EitherSideOfAnyTime,
        InClosedCase = true,
        Full = (access, request, context) =>
            IsFull(access, request, context)
            || access.Visits.Where(v => v.Participant == context.Caller.Id).Sum(v => v.CalculateSize()) >= FullOfVisitsAt
            || access.CalculateSize() >= (IsVisitingSide(access, context) ? FullForVisitingSideAt : FullAt),
        Decide = (access, request, context) =>
        {
            var (power, state) = At(access, request.StartTime);
            // First: what was decided in another power's custody is not told to one that held him before (D22).
            if (!IsVisitingSide(access, context) && !context.ActsFor(power))
                return Reason.VisitInOtherCustody;
            var breach = access.Kind == AccessKind.ObserverVisit ? Invariant.D17 : Invariant.D18;
            var breached = state != State.Granted;
            if (breached && !request.AcknowledgedBreaches.Contains(breach))
                return Record.NotAllowed(access);
            if (request.StartTime > context.Time)
                return RefuseField(Reason.TimeOutOfRange, "start_time");
            // For another to end an observer's visits would be to deny them for ever (D17).
            if (request.Last && !IsVisitingSide(access, context))
                return Reason.VisitsNotOwn;
            // A lawful visit is not marked, even if its recorder acknowledged a breach.
            var recorded = new VisitRecorded { Breaches = { breached ? request.AcknowledgedBreaches : [] }, DetainingPower = power };
            var ruling = request.Last && access.State != State.Closed ? Accept(recorded, new AccessClosed()) : Accept(recorded);
            return ruling.SeenBy(request.Last ? [] : AccessVisibility.EntriesOf(access, power));
        },
    };

    /// <summary>Closes access. The detaining power denies access and never closes it: a closing of its own could only mean that the person
    /// opposes the visits (D22).</summary>
    public static readonly Rule<Access, CloseAccessRequest, CloseAccessResponse> CloseAccess = new(Record)
    {
        From = [State.Requested, State.Granted, State.Denied],
        By = VisitingSide,
        InClosedCase = true,
        Decide = (_, _, _) => Accept(new AccessClosed()).SeenBy(),
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
                    DecisionDueTime = again ? DecisionDueOf(access, context) : null,
                }
            );
            return corrected.SeenBy(
                AccessVisibility.Reserved.Contains(act.Method)
                    ? []
                    : AccessVisibility.EntriesOf(access, AccessVisibility.PowerOf(access, act))
            );
        },
    };

    /// <summary>When a decision that is owed from now on is due; null: no decision is owed, because the access is not consular or no power
    /// answers for the person.</summary>
    internal static Timestamp? DecisionDueOf(Access access, RuleContext context) =>
        access.Kind == AccessKind.Consular && IsAnsweredFor(access, context) ? DecisionDue(context) : null;

    // When a decision is due on access that is requested now.
    private static Timestamp DecisionDue(RuleContext context) =>
        context.Now.AddDays(context.Permissions.Agreement.AccessDecisionDays).ToTimestamp();

    /// <summary>The key under which access is found by its state, as a side is shown it.</summary>
    /// <param name="side">The state for which the side acts; empty: the neutral.</param>
    /// <param name="state">The state that it is shown.</param>
    public static string StateKey(string side, State state) => $"state:{side}:{state}";

    /// <summary>Custody passed. From now on the power that took the prisoner decides on access that is not closed. A power that took him
    /// needs no consular access to him.</summary>
    internal static IEnumerable<Change> Pass(CustodyTransferred e, RuleContext context)
    {
        var passed = e.PassTime ?? PassTime(e, context);
        // One entry can record several hand-overs. None of them passes on access that already belongs to the power that answers after the
        // last one.
        var answering = e.AnsweringPower.Length > 0 ? e.AnsweringPower : e.ToPower;
        var due = e.Ended ? null : DecisionDue(context);
        foreach (var access in ThatPass(e.Case, e.Prisoner, context))
        {
            var own = OwnAfter(access, e, answering, passed);
            if (!IsOthers(access, answering))
            {
                if (CameBack(access, e))
                    yield return GiveBack(access, access.Decision is null ? own : null, due, passed);
            }
            // What is recorded of another reference than before took nothing from the power that has held him since.
            else if (own is not null)
                yield return GiveBack(access, own, due, e.Undone ? passed : null);
            else if (access.State != State.Closed && access.DetainingPower != e.ToPower)
                yield return PassTo(access, e.ToPower, passed, due);
        }
    }

    /// <summary>A link of references was undone. Access under the reference that is kept again belongs to the power that holds, or last
    /// held, the prisoner under that reference. Custody under the other reference no longer affects it. If the prisoner was handed over
    /// under this reference, the same entry also records the hand-over. The hand-over passes access to the power that took him, unless that
    /// power already has it.</summary>
    internal static IEnumerable<Change> PassBack(Custody.V1.RecordCorrected e, RuleContext context)
    {
        if (Transfers.InCase(context, e.Case, e.Prisoner) is not { } held)
            return [];
        var power = held.LastDetainingPower;
        if (e.AnsweringPower.Length > 0 && e.AnsweringPower != power)
            return [];
        var due = held.DetainingPower.Length > 0 ? DecisionDue(context) : null;
        return ThatPass(e.Case, e.Prisoner, context)
            .Where(a => a.Prisoner == e.Prisoner && IsOthers(a, power))
            .Select<Access, Change?>(a =>
                a.FormerCustodies.LastOrDefault(c => c.DetainingPower == power) is { } own ? GiveBack(a, own, due)
                : a.State != State.Closed ? PassTo(a, power, context.Time, due)
                : null
            )
            .OfType<Change>();
    }

    /// <summary>The accesses whose clocks stop because custody ended: nobody owes a decision on access to a person whom nobody
    /// holds.</summary>
    internal static IEnumerable<StreamId> Awaiting(string @case, string prisoner, RuleContext context) =>
        OpenOf(DossiersOf(@case, prisoner, context), context)
            .Where(a => a is { State: State.Requested, DecisionDueTime: not null })
            .Select(a => Kind.Id(a.Id));

    /// <summary>Custody goes on after its recorded end, so the decision is owed again, by the same time as before. A power gains no time by
    /// recording a release.</summary>
    /// <param name="e">What custody recorded.</param>
    /// <param name="kept">Whether the event is about the reference that is kept of the person. Otherwise it concerns access under its own
    /// reference alone.</param>
    /// <param name="context">The states and the time.</param>
    internal static IEnumerable<Change> GoOn(StatusRecorded e, bool kept, RuleContext context) =>
        OpenOf(DossiersOf(e.Case, e.Prisoner, context), context)
            .Where(a => a is { Kind: AccessKind.Consular, State: State.Requested, DecisionDueTime: null })
            .Where(a => kept || a.Prisoner == e.Prisoner)
            .Select(a => Record.On(a, new AccessReopened { DecisionDueTime = a.StoppedDecisionDueTime ?? DecisionDue(context) }));

    // Whether access that may pass to the power does not belong to it: that of another one, or that of a state, which was closed because it
    // took him itself.
    private static bool IsOthers(Access access, string power) =>
        access.State != State.Closed ? access.DetainingPower != power : AccessFold.IsClosedByPassing(access);

    // Whether open access of the power that holds him was said to be another one's because of another man, who came back since.
    private static bool CameBack(Access access, CustodyTransferred e) =>
        e is { Undone: true, PassTime: { } passed } && access.State != State.Closed && access.FormerCustodies.Any(c => c.EndTime >= passed);

    // The custody that the answering power never lost: a hand-over from it was recorded, but the undone link shows that it concerned
    // another prisoner. null: custody did pass. If several custodies of that power were recorded, its last decision counts.
    private static FormerCustody? OwnAfter(Access access, CustodyTransferred e, string answering, Timestamp passed)
    {
        if (!e.Undone && e.AnsweringPower.Length == 0)
            return null;
        FormerCustody[] own = [.. access.FormerCustodies.Where(c => c.DetainingPower == answering && c.EndTime >= passed)];
        return own.LastOrDefault(c => !e.Undone || c.Decision is not null) ?? own.FirstOrDefault();
    }

    // If the power has it already, and nothing that it had decided before is to count again, no custody of its own is named.
    private static Change GiveBack(Access access, FormerCustody? own, Timestamp? decisionDue, Timestamp? since = null) =>
        Record.On(
            access,
            new AccessPassed
            {
                FromPower = access.DetainingPower,
                ToPower = own?.DetainingPower ?? access.DetainingPower,
                HandoverTime = own?.EndTime,
                DecisionDueTime = access.Kind == AccessKind.Consular && own is not null ? decisionDue : null,
                Undone = true,
                SinceTime = since,
            }
        );

    private static Change PassTo(Access access, string toPower, Timestamp time, Timestamp? decisionDue)
    {
        var consular = access.Kind == AccessKind.Consular;
        return Record.On(
            access,
            consular && access.RequestingState == toPower
                ? new AccessClosed()
                : new AccessPassed
                {
                    FromPower = access.DetainingPower,
                    ToPower = toPower,
                    HandoverTime = time,
                    DecisionDueTime = consular ? decisionDue : null,
                }
        );
    }

    private static IEnumerable<Access> OpenOf(IEnumerable<Dossier> dossiers, RuleContext context) =>
        Found(dossiers, a => a.State != State.Closed, context);

    // The access to the person that can pass, under each of his references: what is open, and the last that each state had asked for.
    private static IEnumerable<Access> ThatPass(string @case, string prisoner, RuleContext context) =>
        DossiersOf(@case, prisoner, context)
            .SelectMany(d =>
                Found(
                    [d],
                    a => a.State != State.Closed || a.Kind == AccessKind.Consular && a == d.Accesses.Last(last => last.Asker == a.Asker),
                    context
                )
            );

    private static IEnumerable<Access> Found(IEnumerable<Dossier> dossiers, Func<DossierAccess, bool> which, RuleContext context) =>
        [.. dossiers.SelectMany(d => d.Accesses).Where(which).Select(a => context.Find(Kind, a.Access)).OfType<Access>()];

    // Whether a power answers for the person under any reference: only that power decides on access.
    private static bool IsAnsweredFor(Access access, RuleContext context)
    {
        var kept = Dossiers.PersonOf(context.Find(Dossiers.Links, access.Case), access.Prisoner)[0];
        return InCase(context.Find(Cases.Kind, access.Case)!, kept).DetainingPower.Length > 0;
    }

    // The time of the last hand-over that both sides confirmed, under any reference; if none is known, now.
    private static Timestamp PassTime(CustodyTransferred e, RuleContext context) =>
        DossiersOf(e.Case, e.Prisoner, context)
            .SelectMany(d => d.Transfers)
            .Where(t => t.State is TransferState.HandedOver or TransferState.Returned)
            .Select(t => context.Find(Transfers.Kind, t.Transfer))
            .Select(t => t?.ReturnTime ?? t?.HandoverTime)
            .OfType<Timestamp>()
            .Where(t => t <= context.Time)
            .Max()
        ?? context.Time;

    // The dossiers of the person, under each reference.
    private static IEnumerable<Dossier> DossiersOf(string @case, string prisoner, RuleContext context) =>
        Dossiers
            .PersonOf(context.Find(Dossiers.Links, @case), prisoner)
            .Select(r => context.Find(Dossiers.Kind, Dossiers.Key(@case, r)))
            .OfType<Dossier>();

    /// <summary>Whether it is granted or denied by the decision at this position.</summary>
    internal static bool RestsOn(Access access, ulong position) =>
        access.Decision?.Position == position && access.State is State.Granted or State.Denied;

    // The refusal of a request for access to a prisoner, or of a notice of visits.
    private static Reason? Hindrance(string @case, string prisoner, string asker, RuleContext context)
    {
        var dossier = context.Find(Dossiers.Kind, Dossiers.Key(@case, prisoner));
        return Dossiers.HasAccess(dossier, asker) ? Reason.AccessAlreadyOpen
            : Dossiers.HasNoRoomFor(dossier, asker) ? Reason.RecordFull
            : null;
    }

    private static CasePrisoner InCase(Case @case, string prisoner) => @case.Prisoners.First(p => p.Prisoner == prisoner);

    // The conditions that a decision on consular access does not meet (VCCR 36).
    private static Reason? ConsularFault(DecideAccessRequest request, RuleContext context)
    {
        if (request.SendingState == SendingStateDecision.Unspecified)
            return Reason.SendingStateNotDecided;
        if (!request.Granted)
            return null;
        if (request.SendingState == SendingStateDecision.DoesNotCount)
            return Reason.SendingStateDoesNotCount;
        return request is { PersonRequest: not null, RightsToldTime: not null } && request.RightsToldTime <= context.Time
            ? null
            : Reason.RightsNotRecorded;
    }

    // The conditions that a denial does not meet.
    private static Ruling? DenialFault(Access access, DecideAccessRequest request, RuleContext context)
    {
        var visit = access.Kind == AccessKind.ObserverVisit;
        if (request.DenialGround == DenialGround.Unspecified)
            return Reason.DenialWithoutGround;
        if (visit && request.DenialGround != DenialGround.ImperativeMilitaryNecessity)
            return Reason.DenialWithoutNecessity;
        if (visit && request.DenialReason.Length == 0)
            return Reason.DenialWithoutReason;
        if (request.DenialExpireTime is null)
            return Reason.DenialWithoutExpiry;
        var end = request.DenialExpireTime.ToDateTimeOffset();
        if (end <= context.Now || end - context.Now > LongestDenial)
            return RefuseField(Reason.TimeOutOfRange, "denial_expire_time");
        return visit ? RenewalFault(access, request, end, context) : null;
    }

    // The conditions that a denial of an observer's visits does not meet because of earlier denials, of any access, power and reference of
    // the person: such denials stay exceptional (D17).
    private static Ruling? RenewalFault(Access access, DecideAccessRequest request, DateTimeOffset end, RuleContext context)
    {
        var dossier = context.Find(Dossiers.Kind, Dossiers.Key(access.Case, access.Prisoner));
        var earlier = Dossiers
            .PersonOf(context.Find(Dossiers.Links, access.Case), access.Prisoner)
            .SelectMany(r => context.Find(Dossiers.Kind, Dossiers.Key(access.Case, r))?.Denials ?? [])
            .Where(d => d.Asker == access.Participant)
            .ToArray();
        if (earlier.Length > 0 && Gate.Approvals(context, request, atLeast: 1) is { } approvals)
            return approvals;
        if (earlier.Any(d => d.Reason.Equals(request.DenialReason, StringComparison.OrdinalIgnoreCase)))
            return Reason.DenialReasonUsed;
        var left = earlier.Aggregate(LongestDenials, (time, denial) => time - Dossiers.LengthOf(denial, context.Now));
        if (end > context.Now + left)
            return Refuse(
                Reason.DenialLimitReached,
                ("latest_expire_time", JsonFormatter.ToDiagnosticString((context.Now + left).ToTimestamp()).Trim('"'))
            );
        return dossier?.Denials.Count >= Dossiers.MaxRecords ? Reason.RecordFull : null;
    }

    // The power in whose custody he was, and the state that access to him had then, as it was decided by that time.
    private static (string Power, State State) At(Access access, Timestamp time) =>
        (AccessFold.PowerAt(access, time), AccessFold.StateAt(access, time));

    private static bool IsVisitingSide(Access access, RuleContext context) =>
        access.Kind == AccessKind.Consular ? context.ActsFor(access.RequestingState) : context.Caller.Id == access.Participant;

    private static Refusal? Only(bool allowed) => allowed ? null : new Refusal(Reason.NotGranted);

    private static bool IsFull<TRequest>(Access access, TRequest request, RuleContext context)
        where TRequest : IMessage => Acts.Of(access.Acts, request, context.Caller.Id) >= MaxActs;

    private static StreamId[] StreamsOf(string id, string @case, string prisoner) =>
        [Kind.Id(id), Dossiers.Kind.Id(Dossiers.Key(@case, prisoner))];
}
