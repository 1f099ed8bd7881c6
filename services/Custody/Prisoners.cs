using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Ministries.Custody.V1;
using Ministries.Errors.V1;
using Ministries.Types.V1;
using static Ministries.Rules.Ruling;
using Route = Ministries.Types.V1.Route;

namespace Ministries.Custody;

/// <summary>
/// Prisoners: custody status, claims, what a departure needs, whom to notify, corrections. Only the detaining power writes (D4); custody
/// passes when both sides confirmed a hand-over (D1), see <see cref="Reactions"/>. Escapes, recaptures and deaths are facts and are never
/// refused. <see cref="CustodyStates"/> has the transitions between statuses, <see cref="PrisonerFold"/> applies events to a record, and
/// <see cref="PrisonerVisibility"/> decides what each reader sees.
/// </summary>
public static class Prisoners
{
    /// <summary>The greatest number of prisoners of a case that one power registers. A power that registers many takes no room from
    /// others.</summary>
    public const int MaxPrisoners = 64;

    /// <summary>The greatest number of records linked to one as duplicates.</summary>
    public const int MaxDuplicates = 8;

    /// <summary>The size in bytes of what a power recorded of the person, its notifications with it, from which it records no more but
    /// facts and notifications: 1 MiB.</summary>
    public const int FullAt = 1 << 20;

    /// <summary>The same size from which it records no more notifications either: 1.5 MiB.</summary>
    public const int FullForNotificationsAt = 3 << 19;

    /// <summary>The size in bytes of a whole record from which it takes facts, statements and corrections alone: 6 MiB. A state has at most
    /// 8 (<see cref="Ministries.Ledger.LedgerOptions.MaxStateBytes"/>), and those are never to be refused.</summary>
    public const int FullForAllAt = 6 << 20;

    /// <summary>The size in bytes of its claims to one person from which a state records no more of them.</summary>
    public const int FullOfClaimsAt = 256 << 10;

    /// <summary>The size in bytes of the statements that a participant recorded of one person from which it records no more.</summary>
    public const int FullOfStatementsAt = 512 << 10;

    /// <summary>How often the health of the seriously ill or wounded is reported (GC III 122): weekly.</summary>
    public static readonly TimeSpan HealthEvery = TimeSpan.FromDays(7);

    /// <summary>How long a risk assessment may hold: 365 days.</summary>
    public static readonly TimeSpan LongestAssessment = TimeSpan.FromDays(365);

    /// <summary>After what time a decision to withhold data is reviewed at the latest: 180 days.</summary>
    public static readonly TimeSpan LongestReview = TimeSpan.FromDays(180);

    /// <summary>How long after he came to a camp he has been able to write to his family (GC III 70): a week.</summary>
    public static readonly TimeSpan CardWithin = TimeSpan.FromDays(7);

    /// <summary>How far ahead a move is announced at most: 90 days. Otherwise the duties after the move would never fall due.</summary>
    public static readonly TimeSpan LongestBeforeMove = TimeSpan.FromDays(90);

    /// <summary>How long a record of fitness may hold: 90 days.</summary>
    public static readonly TimeSpan LongestFitness = TimeSpan.FromDays(90);

    /// <summary>The stream of prisoners.</summary>
    public static readonly StreamKind<Prisoner> Kind = new(
        "prisoner",
        9,
        PrisonerFold.All,
        p => [Audience.Case(p.Case)],
        p => p.DetainingPower.Length > 0 ? [CaseKey(p.Case), HeldKey(true)] : [CaseKey(p.Case)],
        Duties.DueOf
    );

    /// <summary>Prisoners as rules need to know them.</summary>
    public static readonly RecordKind<Prisoner> Record = new()
    {
        Prefix = "pris",
        Stream = Kind,
        Field = "prisoner",
        Id = p => p.Prisoner_,
        Case = p => p.Case,
        Prisoner = p => p.Prisoner_,
        State = p => (int)p.State,
        Key = KeyOf,
        Entries = p => SideOf(p),
        Show = (prisoner, @case, context) => PrisonerVisibility.Show(prisoner, Cases.ReaderOf(context.Caller, @case)),
        Streams = StreamsOf,
        Origins = PowersOfOriginFor,
    };

    // A power that gave him back owes notice of it still, though it has no other part in what concerns him.
    private static readonly Side<Prisoner> Notifying = new(
        "detaining power of now or before",
        (prisoner, context) =>
            context.ActsFor(prisoner.LastDetainingPower) || prisoner.Occurrences.Any(o => context.ActsFor(o.OwedBy))
                ? null
                : new Refusal(Reason.NotGranted)
    );

    // An observer's consent checks the power that proposes. A Protecting Power of the same state would only repeat that state's own
    // consent.
    private static readonly Side<Prisoner> Independent = new(
        "observer of no power that holds him",
        (prisoner, context) => IsIndependent(prisoner, context) ? null : new Refusal(Reason.NotGranted)
    );

    /// <summary>Registers a prisoner: the case's detaining power answers for him from now on. The reference by which all others know
    /// him is the service's, so that nobody can put into it what he must not know (D16).</summary>
    public static readonly Rule<Case, RegisterPrisonerRequest, RegisterPrisonerResponse> RegisterPrisoner = new(Cases.Record)
    {
        Makes = Record,
        Decide = (@case, request, context) =>
        {
            if (@case.Prisoners.Count(p => p.RegisteringPower == context.Caller.State) >= MaxPrisoners)
                return Reason.RecordFull;
            if (
                request.Status
                is not (CustodyState.Captured or CustodyState.Registered or CustodyState.Interned or CustodyState.Hospitalised)
            )
                return Reason.StateNotAllowed;
            if (request.CaptureTime.ToDateTimeOffset() > context.Now)
                return RefuseField(Reason.TimeOutOfRange, "capture_time");
            var registered = new PrisonerRegistered
            {
                Case = @case.Id,
                Prisoner = context.NewId(Record.Prefix),
                DetainingPower = context.Caller.State,
                BureauDueTime = BureauDue(context),
            };
            return Accept(new Change(registered, [Cases.Kind.Id(@case.Id), Kind.Id(KeyOf(@case.Id, registered.Prisoner))]));
        },
    };

    /// <summary>Records a custody status. A departure that breaches an invariant is refused unless it took place all the same;
    /// facts that do not fit the record are marked with D1.</summary>
    public static readonly Rule<Prisoner, RecordStatusRequest, RecordStatusResponse> RecordStatus = new(Record)
    {
        InClosedCase = true,
        Decide = (prisoner, request, context) =>
        {
            var fact = request.Status is CustodyState.Died or CustodyState.Escaped or CustodyState.Recaptured;
            if (!fact && Duplicate(prisoner) is { } duplicate)
                return duplicate;
            if (
                !CustodyStates.Leads(prisoner.State, request.Status)
                || request.Status == CustodyState.AccommodatedInNeutralCountry
                    && context.Permissions.State(prisoner.LastDetainingPower) is not { Neutral: true }
            )
                return Reason.StateNotAllowed;
            if (FormFault(request) is { } fault)
                return fault;
            var time = request.StatusTime.ToDateTimeOffset();
            var beforeCapture = time < CaptureOf(prisoner, context);
            if (time > context.Now || beforeCapture && !fact)
                return RefuseField(Reason.TimeOutOfRange, "status_time");
            // The end of custody and an admission to hospital are too grave to find no room.
            if (
                request.Status is CustodyState.Registered or CustodyState.Interned or CustodyState.AccommodatedInNeutralCountry
                && IsFull(prisoner)
            )
                return Reason.RecordFull;
            Invariant[] breaches = fact && (beforeCapture || !Fits(prisoner, request)) ? [Invariant.D1] : [];
            if (CustodyStates.RouteOf(request.Status) is not Route.Unspecified and var route)
            {
                breaches = BreachesOf(prisoner, new Departure(route, request.Destination), request.Openings, context);
                if (breaches.Except(request.AcknowledgedBreaches).ToArray() is [var first, ..])
                    return first == Invariant.D2 && !Readiness.IsParty(request.Destination, context.Permissions)
                        ? Reason.ReceivingStateNotParty
                        : ReasonOf(first);
            }
            // Under a reference that is no longer kept nobody is held.
            var (held, ended) =
                prisoner.DuplicateOf.Length > 0 ? (false, true) : CustodyStates.After(request.Status, request.EscapeSucceeded);
            var recorded = StatusOf(context, held, ended);
            recorded.Breaches.Add(breaches);
            // The power that departed from the rule and the observers may know of a breach.
            var everybody = ended != prisoner.Ended && breaches.Length == 0;
            // It is a fact about the person: he is under the kept reference what he is under this one. Once another power holds him under
            // that, it is another's to record (D4).
            if (
                !fact
                || KeptOf(prisoner, context) is not { } kept
                || kept.LastDetainingPower != prisoner.LastDetainingPower
                || !CustodyStates.Leads(kept.State, request.Status)
            )
                return Accept(recorded).SeenBy(SideOf(prisoner, everybody));
            (held, ended) = CustodyStates.After(request.Status, request.EscapeSucceeded);
            var reached = StatusOf(context, held, ended);
            reached.Breaches.Add(Fits(kept, request) ? [] : [Invariant.D1]);
            everybody |= ended != kept.Ended && reached.Breaches.Count == 0;
            return Accept(Record.On(prisoner, recorded), Record.On(kept, reached)).SeenBy(SideOf(prisoner, everybody));
        },
    };

    /// <summary>Records criminal proceedings: what they mean for a departure (D12), confinement before trial and when the trial opens
    /// (GC III 103, 104). A trial without notice is refused unless it opens all the same.</summary>
    public static readonly Rule<Prisoner, RecordProceedingsRequest, RecordProceedingsResponse> RecordProceedings = new(Record)
    {
        From = CustodyStates.InCustody,
        Unless = Duplicate,
        Full = (prisoner, _, _) => IsFull(prisoner),
        Decide = (prisoner, request, context) =>
        {
            if (request.Delay && request.Reason.Length == 0)
                return Reason.ProceedingsReasonMissing;
            if (request.ConfinedSinceTime is { } since && since > context.Time)
                return RefuseField(Reason.TimeOutOfRange, "confined_since_time");
            if (request.ConfinementEndTime is { } end && (end > context.Time || !IsConfinedBefore(prisoner, request, end)))
                return RefuseField(Reason.TimeOutOfRange, "confinement_end_time");
            var unnoticed = request.TrialTime is { } trial && !(IsNoticed(prisoner, trial, context) && ReachesObserver(request, context));
            if (unnoticed && !request.AcknowledgedBreaches.Contains(Invariant.D12))
                return Reason.TrialWithoutNotice;
            var recorded = StatusOf(context, prisoner.Held, prisoner.Ended);
            if (unnoticed)
                recorded.Breaches.Add(Invariant.D12);
            return Accept(recorded);
        },
    };

    /// <summary>Announces a move within the custody of one power (GC III 48). One that took place without notice is recorded and marked.
    /// </summary>
    public static readonly Rule<Prisoner, AnnounceMoveRequest, AnnounceMoveResponse> AnnounceMove = new(Record)
    {
        InClosedCase = true,
        Unless = Duplicate,
        Full = (prisoner, _, _) => IsFull(prisoner),
        Decide = (prisoner, request, context) =>
        {
            var tookPlace = request.PlannedTime <= context.Time;
            var stands = tookPlace && request.AcknowledgedBreaches.Contains(Invariant.D14);
            if (!tookPlace && !CustodyStates.IsCustody(prisoner.State))
                return Record.NotAllowed(prisoner);
            if (!stands && !(request.ToldTime is { } told && told <= context.Time && told <= request.PlannedTime))
                return Reason.MoveNotTold;
            var moves = request.PlannedTime.ToDateTimeOffset();
            if (tookPlace && !stands || moves > context.Now + LongestBeforeMove)
                return RefuseField(Reason.TimeOutOfRange, "planned_time");
            var announced = new MoveAnnounced
            {
                Move = context.NewId("move"),
                BureauDueTime = BureauDue(context, moves > context.Now ? moves : context.Now),
                CardDueTime = (moves + CardWithin).ToTimestamp(),
            };
            if (stands)
                announced.Breaches.Add(Invariant.D14);
            return Accept(announced);
        },
        Answer = (response, _, context) => response.Move = context.NewId("move"),
    };

    /// <summary>Records a claim to the person beside those that are there (D5).</summary>
    public static readonly Rule<Prisoner, RecordClaimRequest, RecordClaimResponse> RecordClaim = new(Record)
    {
        Unless = Duplicate,
        Decide = (prisoner, request, context) =>
            context.Caller.State != prisoner.LastDetainingPower && context.Caller.State != request.Claimant ? Reason.ClaimNotOwn
            : ClaimsOf(prisoner, context) >= FullOfClaimsAt || IsFullForAll(prisoner) ? Reason.RecordFull
            : Accept(new ClaimRecorded { Claim = context.NewId("claim") }),
        Answer = (response, _, context) => response.Claim = context.NewId("claim"),
    };

    /// <summary>Records a risk assessment; the actor answers for it (D11).</summary>
    public static readonly Rule<Prisoner, RecordRiskAssessmentRequest, RecordRiskAssessmentResponse> RecordRiskAssessment = new(Record)
    {
        From = CustodyStates.InCustody,
        Unless = Duplicate,
        Full = (prisoner, _, _) => IsFull(prisoner),
        Decide = (prisoner, request, context) =>
            !IsValid(request.AssessTime, request.ExpireTime, LongestAssessment, prisoner, context)
                ? RefuseField(Reason.TimeOutOfRange, "assess_time, expire_time")
                : Accept(new RiskAssessmentRecorded { Assessment = context.NewId("assessment") })
                    .SeenBy(Audience.State(prisoner.Case, prisoner.LastDetainingPower)),
        Answer = (response, _, context) => response.Assessment = context.NewId("assessment"),
    };

    /// <summary>Records whether the prisoner may travel (D10).</summary>
    public static readonly Rule<Prisoner, RecordFitnessRequest, RecordFitnessResponse> RecordFitness = new(Record)
    {
        From = CustodyStates.InCustody,
        Unless = Duplicate,
        Full = (prisoner, _, _) => IsFull(prisoner),
        Decide = (prisoner, request, context) =>
            !IsValid(request.ExamineTime, request.ExpireTime, LongestFitness, prisoner, context)
                ? RefuseField(Reason.TimeOutOfRange, "examine_time, expire_time")
                : Accept(new FitnessRecorded { Fitness = context.NewId("fitness") }),
        Answer = (response, _, context) => response.Fitness = context.NewId("fitness"),
    };

    /// <summary>Records a notification and hands on its data (D14, D15).</summary>
    public static readonly Rule<Prisoner, NotifyBureauRequest, NotifyBureauResponse> NotifyBureau = new(Record)
    {
        InClosedCase = true,
        Releases = true,
        By = Notifying,
        Full = (prisoner, _, context) => IsFullForAll(prisoner) || SizeOf(prisoner, context.Caller.State) >= FullForNotificationsAt,
        Decide = (prisoner, request, context) =>
        {
            if (!Owes(prisoner, request, context.Caller))
                return Reason.OccurrenceNotOwed;
            if ((RecipientsFault(prisoner, request, context) ?? ReviewFault(prisoner, request, context)) is { } fault)
                return fault;
            return Accept(new BureauNotified { Notification = context.NewId("notification"), State = context.Caller.State })
                .SeenBy([
                    Audience.State(prisoner.Case, context.Caller.State),
                    Audience.Observers(prisoner.Case),
                    .. request.Releases.Select(r => Audience.Of(r.Recipient)),
                ]);
        },
        Answer = (response, _, context) => response.Notification = context.NewId("notification"),
    };

    /// <summary>Proposes that two references are one person. Two officials of the detaining power propose it, and nothing changes until
    /// an observer confirms it (D19).</summary>
    public static readonly Rule<Prisoner, LinkDuplicateRequest, LinkDuplicateResponse> LinkDuplicate = new(Record)
    {
        Approvals = 1,
        Unless = Duplicate,
        Decide = (prisoner, request, context) =>
        {
            if (request.SameAsPrisoner == request.Prisoner)
                return Invalid(("same_as_prisoner", "must be another reference"));
            var kept = Find(context, request.Case, request.SameAsPrisoner)!;
            if (kept.DuplicateOf.Length > 0 || prisoner.Duplicates.Count > 0)
                return Reason.DuplicateRecord;
            if (IsProposed(prisoner, kept.Prisoner_, context))
                return Reason.LinkAlreadyProposed;
            if (kept.Duplicates.Count >= MaxDuplicates || IsFull(prisoner) || IsFull(kept))
                return Reason.RecordFull;
            return Accept(new DuplicateProposed { SameAsPrisoner = kept.Prisoner_ });
        },
    };

    /// <summary>Confirms that two references are one person: the first is no longer kept, and what is recorded under either counts for
    /// the other. For an observer (D19): he who is held under a reference is visited under it.</summary>
    public static readonly Rule<Prisoner, ConfirmDuplicateRequest, ConfirmDuplicateResponse> ConfirmDuplicate = new(Record)
    {
        By = Independent,
        // On the way custody may pass under one reference and not under the other.
        From = [.. System.Enum.GetValues<CustodyState>().Where(s => s is not (CustodyState.Unspecified or CustodyState.InTransit))],
        Unless = Duplicate,
        Decide = (prisoner, request, context) =>
        {
            var kept = Find(context, request.Case, request.SameAsPrisoner)!;
            if (kept.DuplicateOf.Length > 0 || prisoner.Duplicates.Count > 0)
                return Reason.DuplicateRecord;
            if (!IsProposed(prisoner, kept.Prisoner_, context) || prisoner.LastDetainingPower != kept.LastDetainingPower)
                return Reason.LinkNotProposed;
            // A dead prisoner is dead under both references, so his death is first recorded under the other one. The link ends custody
            // under the reference that is not kept. So the reference under which a prisoner is held, or has fled while a power answers for
            // him, must be the kept one.
            if (
                kept.State == CustodyState.InTransit
                || (prisoner.State == CustodyState.Died) != (kept.State == CustodyState.Died)
                || prisoner.Held && !kept.Held
                || !prisoner.Ended && kept.Ended
            )
                return Record.NotAllowed(kept);
            if (kept.Duplicates.Count >= MaxDuplicates)
                return Reason.RecordFull;
            return Accept(
                    new DuplicateLinked { SameAsPrisoner = kept.Prisoner_, Ended = kept.Ended },
                    StatusOf(context, held: false, ended: true)
                )
                .SeenBy(Audience.Case(prisoner.Case));
        },
    };

    /// <summary>Corrects an entry of the caller's own: it no longer counts, and neither does what rested on it.</summary>
    public static readonly Rule<Prisoner, CorrectRecordRequest, CorrectRecordResponse> CorrectRecord = new(Record)
    {
        InClosedCase = true,
        Decide = Correct,
    };

    /// <summary>The record's key among prisoners.</summary>
    public static string KeyOf(string @case, string prisoner) => $"{@case}/{prisoner}";

    /// <summary>The record of this reference in a case; null: there is none.</summary>
    internal static Prisoner? Find(RuleContext context, string @case, string prisoner) => context.Find(Kind, KeyOf(@case, prisoner));

    /// <summary>The key under which the prisoners of a case are listed; empty: of every case.</summary>
    public static string CaseKey(string @case) => @case.Length == 0 ? "" : $"case:{@case}";

    /// <summary>The key under which those are listed whose custody has not ended; empty: all.</summary>
    public static string HeldKey(bool held) => held ? "held:true" : "";

    /// <summary>The stream of a prisoner.</summary>
    internal static StreamId IdOf(Prisoner prisoner) => Kind.Id(KeyOf(prisoner.Case, prisoner.Prisoner_));

    /// <summary>Why a record takes no more writes: it is no longer kept beside another one of the same person.</summary>
    internal static Reason? Duplicate(Prisoner prisoner) => prisoner.DuplicateOf.Length > 0 ? Reason.DuplicateRecord : null;

    /// <summary>Whether the power that holds him records no more of him but facts and notifications. Claims and statements have limits of
    /// their own: nobody who only claims the person takes the room of what his departure needs, and nobody that of his objection (D9). Each
    /// power has its own room, and one that held him before leaves the next one room for its own.</summary>
    internal static bool IsFull(Prisoner prisoner) => IsFullForAll(prisoner) || SizeOf(prisoner, prisoner.LastDetainingPower) >= FullAt;

    // However many powers wrote, there is room for what happens to him and for what he says.
    private static bool IsFullForAll(Prisoner prisoner) => prisoner.CalculateSize() >= FullForAllAt;

    // The size of what a power recorded of him that it may be refused.
    private static int SizeOf(Prisoner prisoner, string power) =>
        prisoner.Fitness.Where(f => f.RecordedFor == power).Sum(f => f.CalculateSize())
        + prisoner.RiskAssessments.Where(a => a.RecordedFor == power).Sum(a => a.CalculateSize())
        + prisoner.Proceedings.Where(p => p.RecordedFor == power).Sum(p => p.CalculateSize())
        + prisoner.Moves.Where(m => m.RecordedFor == power).Sum(m => m.CalculateSize())
        + prisoner.Notifications.Where(n => n.RecordedFor == power).Sum(n => n.CalculateSize());

    /// <summary>Whether the participant records no more statements of the person; others may.</summary>
    /// <param name="prisoner">The prisoner.</param>
    /// <param name="participant">The participant's id.</param>
    public static bool IsFullOfStatements(Prisoner prisoner, string participant) =>
        prisoner.Statements.Where(s => s.Participant == participant).Sum(s => s.CalculateSize()) >= FullOfStatementsAt;

    /// <summary>Whether a notification of the occurrence is still owed.</summary>
    internal static bool IsOwed(Occurrence occurrence) => occurrence is { Corrected: false, Notification: "" };

    /// <summary>Who may see an entry on custody: the side that holds or held him last and the observers, or every party where it
    /// changes what every party may know.</summary>
    internal static string[] SideOf(Prisoner prisoner, bool everybody = false) =>
        everybody
            ? [Audience.Case(prisoner.Case)]
            : [Audience.State(prisoner.Case, prisoner.LastDetainingPower), Audience.Observers(prisoner.Case)];

    /// <summary>By when bureau and Central Tracing Agency are to be notified of something recorded now (D14).</summary>
    internal static Timestamp BureauDue(RuleContext context) => BureauDue(context, context.Now);

    private static Timestamp BureauDue(RuleContext context, DateTimeOffset from) =>
        from.AddHours(context.Permissions.Agreement.BureauNotificationHours).ToTimestamp();

    /// <summary>What the power that holds him, or held him last, recorded of proceedings under this reference, and did not correct.
    /// </summary>
    internal static IEnumerable<Proceedings> ProceedingsOf(Prisoner prisoner) =>
        prisoner.Proceedings.Where(p => p is { Corrected: false, RecordedUnder: "" } && p.RecordedFor == prisoner.LastDetainingPower);

    /// <summary>The streams of the prisoner's record and of those of the same person that are no longer kept: their clocks hear of
    /// reports on his health and of the end of custody.</summary>
    internal static IEnumerable<StreamId> PersonOf(Prisoner prisoner) =>
        prisoner.Duplicates.Select(d => Kind.Id(KeyOf(prisoner.Case, d))).Prepend(IdOf(prisoner));

    // The record that is kept of the person instead of this one; null: this one is.
    private static Prisoner? KeptOf(Prisoner prisoner, RuleContext context) =>
        prisoner.DuplicateOf.Length > 0 ? Find(context, prisoner.Case, prisoner.DuplicateOf) : null;

    // Whether the caller is an observer of a state other than the one that holds, or last held, the prisoner.
    private static bool IsIndependent(Prisoner prisoner, RuleContext context) =>
        context.Caller.IsNeutral() && (context.Caller.State.Length == 0 || context.Caller.State != prisoner.LastDetainingPower);

    // Whether a beginning of confinement is recorded, or named now, that is before a time.
    private static bool IsConfinedBefore(Prisoner prisoner, RecordProceedingsRequest request, Timestamp end) =>
        prisoner
            .Proceedings.Where(p => !p.Corrected && p.RecordedFor == prisoner.LastDetainingPower)
            .Select(p => p.ConfinedSinceTime)
            .Append(request.ConfinedSinceTime)
            .Any(since => since is not null && since < end);

    // Whether the opening of a trial is known three weeks before it: it is as far ahead now, or was when it was first recorded.
    private static bool IsNoticed(Prisoner prisoner, Timestamp trial, RuleContext context) =>
        Readiness
            .Records(context, prisoner)
            .SelectMany(r => r.Proceedings)
            .Where(p => !p.Corrected && p.TrialTime == trial && p.RecordedFor == prisoner.LastDetainingPower)
            .Select(p => p.Time.ToDateTimeOffset())
            .Append(context.Now)
            .Any(known => known + ProceedingsClocks.TrialNotice <= trial.ToDateTimeOffset());

    // Whether the particulars of a trial, if there are any, are sealed to a participant that must know of the trial before it opens (GC III
    // 104).
    private static bool ReachesObserver(RecordProceedingsRequest request, RuleContext context) =>
        request.Particulars is not { } particulars
        || context.Find(Cases.Kind, request.Case)!.Parties.Select(p => p.Participant).Intersect(particulars.Recipients) is var told
            && told.Any(p => context.Permissions.Participant(p)?.IsNeutral() == true);

    // Whether the power that holds the prisoner has an uncorrected proposal to keep another record instead of this one. A former power's
    // proposal does not bind it (D4).
    private static bool IsProposed(Prisoner prisoner, string kept, RuleContext context) =>
        prisoner.DuplicateProposals.Any(p =>
            p.Prisoner == prisoner.Prisoner_
            && p.SameAsPrisoner == kept
            && context.Permissions.Participant(p.Participant)?.ActsFor(prisoner.LastDetainingPower) == true
        );

    // The size of the claims that the caller's state recorded. The state may not learn others' claims (D22).
    private static int ClaimsOf(Prisoner prisoner, RuleContext context) =>
        prisoner
            .Claims.Where(c => context.Permissions.Participant(c.Participant) is { } author && context.ActsFor(author.State))
            .Sum(c => c.CalculateSize());

    /// <summary>The powers of origin that a notification names.</summary>
    internal static IEnumerable<string> PowersNamed(NotifyBureauRequest request) =>
        request.PowersOfOrigin.Prepend(request.PowerOfOrigin).Where(p => p.Length > 0).Distinct();

    private static StreamId[] StreamsOf(Prisoner prisoner, IMessage @event) =>
        @event switch
        {
            StatusRecorded => [Cases.Kind.Id(prisoner.Case), .. PersonOf(prisoner)],
            StatementRecorded e => [Statements.Kind.Id(e.Statement), IdOf(prisoner)],
            BureauNotified => [.. PersonOf(prisoner)],
            DuplicateProposed e => [IdOf(prisoner), Kind.Id(KeyOf(prisoner.Case, e.SameAsPrisoner))],
            DuplicateLinked e => [IdOf(prisoner), Kind.Id(KeyOf(prisoner.Case, e.SameAsPrisoner))],
            _ => [IdOf(prisoner)],
        };

    private static StatusRecorded StatusOf(RuleContext context, bool held, bool ended) =>
        new()
        {
            Held = held,
            Ended = ended,
            BureauDueTime = BureauDue(context),
            ProceedingsDueTime = BureauDue(context),
        };

    private static Invariant[] BreachesOf(
        Prisoner prisoner,
        Departure departure,
        IReadOnlyCollection<ByteString> openings,
        RuleContext context
    )
    {
        var records = Readiness.Records(context, prisoner);
        return Readiness.Breaches(
            records,
            departure,
            context,
            @case =>
                Standings
                    .Of(
                        records,
                        Readiness.SaidBefore(context, records),
                        @case,
                        departure,
                        openings,
                        context.Now,
                        context.Permissions,
                        context.Secrets
                    )
                    .Standing == Standing.InForce,
            assured: false
        );
    }

    // Fields of a status that do not go together.
    private static Refusal? FormFault(RecordStatusRequest request)
    {
        var departs = CustodyStates.RouteOf(request.Status) is not Route.Unspecified;
        if (departs != request.Destination.Length > 0)
            return Invalid(("destination", departs ? "is required with this status" : "does not go with this status"));
        if (request.Openings.Count > 0 && !departs)
            return Invalid(("openings", "does not go with this status"));
        if (request.HasSerious && request.Status != CustodyState.Hospitalised)
            return Invalid(("serious", "does not go with this status"));
        if (request.InquiryOwed && request.Status is not (CustodyState.Died or CustodyState.Hospitalised))
            return Invalid(("inquiry_owed", "does not go with this status"));
        if (request.EscapeSucceeded && request.Status != CustodyState.Escaped)
            return Invalid(("escape_succeeded", "does not go with this status"));
        return null;
    }

    // Whether a fact follows from the record as it is.
    private static bool Fits(Prisoner prisoner, RecordStatusRequest request) =>
        request.Status switch
        {
            CustodyState.Recaptured => prisoner.State == CustodyState.Escaped,
            CustodyState.Escaped => CustodyStates.IsCustody(prisoner.State)
                || prisoner.State == CustodyState.Escaped && !prisoner.Statuses.Last(s => !s.Corrected).Ended && request.EscapeSucceeded,
            // Everybody dies, wherever he is.
            _ => true,
        };

    private static Reason ReasonOf(Invariant breach) =>
        breach switch
        {
            Invariant.D2 => Reason.DepartureWithoutAssurance,
            Invariant.D9 => Reason.DepartureWithoutStanding,
            Invariant.D10 => Reason.DepartureWithoutFitness,
            Invariant.D11 => Reason.DepartureWithoutRiskAssessment,
            _ => Reason.DepartureDuringProceedings,
        };

    private static bool IsValid(Timestamp made, Timestamp expires, TimeSpan longest, Prisoner prisoner, RuleContext context)
    {
        var (from, to) = (made.ToDateTimeOffset(), expires.ToDateTimeOffset());
        return from <= context.Now && !(from < CaptureOf(prisoner, context)) && to > context.Now && to - from <= longest;
    }

    /// <summary>Since when the prisoner has been held: the earliest capture recorded under any of his references, because statements and
    /// assessments under each of them are his. null: under one of them the capture is not known.</summary>
    internal static DateTimeOffset? CaptureOf(Prisoner prisoner, RuleContext context)
    {
        var captures = Readiness.PersonOf(context, prisoner).Select(r => r.CaptureTime?.ToDateTimeOffset()).ToArray();
        return captures.Contains(null) ? null : captures.Min();
    }

    private static bool Owes(Prisoner prisoner, NotifyBureauRequest request, Participant caller)
    {
        var holds = caller.State == prisoner.LastDetainingPower;
        return request.Occurrence == 0
            ? holds
            : prisoner.Occurrences.Any(o => o.Occurrence_ == request.Occurrence && o.OwedBy == caller.State && IsOwed(o))
                && (holds || !request.HealthReport);
    }

    // The refusal if the data go to a recipient that must not have them, or not to one that must (D15).
    private static Refusal? RecipientsFault(Prisoner prisoner, NotifyBureauRequest request, RuleContext context)
    {
        var known = request.Data.Recipients.Select(context.Permissions.Participant).OfType<Participant>().ToArray();
        if (known.Length < request.Data.Recipients.Count)
            return RefuseField(Reason.ParticipantUnknown, "data.recipients");
        var agency = context.Permissions.CentralTracingAgency;
        if (agency is null || known.All(r => r.Id != agency.Id))
            return new Refusal(Reason.TracingAgencyMissing);
        var bureau = context.Permissions.BureauOf(context.Caller.State);
        if (bureau is not null && bureau != context.Caller.Id && known.All(r => r.Id != bureau))
            return new Refusal(Reason.BureauMissing);
        // An observer that acts for a state is told as that state is.
        var others = known
            .Where(r => r.Id != context.Caller.Id && r.Id != bureau && r is not { Kind: ParticipantKind.NeutralObserver, State: "" })
            .ToArray();
        if (!others.Select(r => r.Id).ToHashSet().SetEquals(request.Releases.Select(r => r.Recipient)))
            return new Refusal(Reason.ReleaseNotNamed);
        var named = PowersNamed(request).ToHashSet();
        var released = request.Disclosure == Disclosure.Released;
        if (released && named.Count == 0)
            return new Refusal(Reason.PowerOfOriginMissing);
        // He may depend on several powers: what is released to one is withheld from the others. Where none is named, nobody knows to
        // whose organs the data would go.
        var origins = PowersOfOrigin(prisoner, context).Concat(named).ToHashSet();
        // A power that held him before does not learn by a refusal whom others claimed him for since. To it each state but the one that
        // holds him may be such a power.
        var knows = context.ActsFor(prisoner.LastDetainingPower);
        bool MayBeOrigin(Participant r) =>
            knows ? origins.Contains(r.State) : r.State.Length > 0 && !r.ActsFor(prisoner.LastDetainingPower);
        return others.Any(r =>
            !context.ActsFor(r.State) && (named.Count == 0 && !r.IsNeutral() || MayBeOrigin(r) && !(released && named.Contains(r.State)))
        )
            ? new Refusal(Reason.DataWithheld)
            : null;
    }

    /// <summary>The powers on which the person depends, as claimed or named under any reference. Before a release, an organ or a Protecting
    /// Power of such a state learns nothing of the prisoner (D15).</summary>
    internal static IEnumerable<string> PowersOfOrigin(Prisoner prisoner, RuleContext context)
    {
        var records = Readiness.PersonOf(context, prisoner);
        return records
            .SelectMany(PowersClaimed)
            .Concat(records.SelectMany(r => r.Notifications).Where(n => !n.Corrected).SelectMany(n => n.PowersOfOrigin))
            .Distinct();
    }

    /// <summary>The same, as far as the caller may know them: a refusal tells of no claim and of no power that was named (D22).</summary>
    internal static IEnumerable<string> PowersOfOriginFor(Prisoner prisoner, RuleContext context)
    {
        if (context.Caller.IsNeutral() || context.ActsFor(prisoner.LastDetainingPower))
            return PowersOfOrigin(prisoner, context);
        return prisoner
            .Claims.Where(c => c.Participant == context.Caller.Id && SaysOrigin(c))
            .Select(c => c.StateClaimed)
            .Concat(prisoner.Notifications.Where(n => !n.Corrected && context.ActsFor(n.RecordedFor)).SelectMany(n => n.PowersOfOrigin))
            .Distinct();
    }

    // The powers on which the prisoner depends by uncorrected claims; no claim decides the question (D5).
    private static IEnumerable<string> PowersClaimed(Prisoner prisoner) => prisoner.Claims.Where(SaysOrigin).Select(c => c.StateClaimed);

    /// <summary>Whether a claim says on which power he depends: by nationality, or by the forces with which he fought.</summary>
    internal static bool SaysOrigin(Claim claim) =>
        claim is { Corrected: false, Basis: ClaimBasis.Nationality or ClaimBasis.ArmedForces or ClaimBasis.SideFoughtOn };

    // The refusal if a decision to withhold data has no consulted observer, or no date of review (D15).
    private static Refusal? ReviewFault(Prisoner prisoner, NotifyBureauRequest request, RuleContext context)
    {
        if (request.Disclosure == Disclosure.Released)
            return request.ConsultedObserver.Length > 0 ? Invalid(("consulted_observer", "does not go with data that are released"))
                : request.ReviewTime is not null ? Invalid(("review_time", "does not go with data that are released"))
                : null;
        var parties = context.Find(Cases.Kind, prisoner.Case)!.Parties;
        if (
            context.Permissions.Participant(request.ConsultedObserver)?.IsNeutral() != true
            || parties.All(p => p.Participant != request.ConsultedObserver)
        )
            return new Refusal(Reason.ObserverNotConsulted);
        var review = request.ReviewTime?.ToDateTimeOffset();
        return review > context.Now && review <= context.Now + LongestReview ? null : RefuseField(Reason.TimeOutOfRange, "review_time");
    }

    private static Ruling Correct(Prisoner prisoner, CorrectRecordRequest request, RuleContext context)
    {
        if (CorrectableBy(context, prisoner, request.Position) is not { } mark)
            return Reason.NotCorrectable;
        // A power that held him before mends his identity; it does not take away what every departure rests on (D4).
        if (
            PrisonerFold.IsRegistration(prisoner, mark.Position)
            && request.Identity is null
            && context.Caller.State != prisoner.LastDetainingPower
        )
            return Invalid(("identity", "is required where another power holds the person"));
        var streams = new List<StreamId> { IdOf(prisoner) };
        var touched = new List<Prisoner> { prisoner };
        IEnumerable<string> audience = SideOf(prisoner);
        IReadOnlyList<StatusEntry> handedOver = [];
        if (KeptOf(prisoner, context) is { } kept && CountsUnder(kept, prisoner, mark.Position))
            touched.Add(kept);
        if (mark.Statement.Length > 0)
        {
            if (context.Find(Statements.Kind, mark.Statement) is not { } statement)
                return Reason.NotFound;
            // His word is taken back only with the consent of those who attested it (D7).
            if (statement.Position == request.Position && Statements.IsAttestedByOthers(statement, context.Caller.Id))
                return Reason.AttestedByOthers;
            streams.Add(Statements.Kind.Id(mark.Statement));
            audience = StatementVisibility.AudienceOf(statement);
        }
        var linked = mark.OtherPrisoner.Length > 0 && prisoner.DuplicateOf == mark.OtherPrisoner;
        if (mark.OtherPrisoner.Length > 0)
        {
            if (Find(context, prisoner.Case, mark.OtherPrisoner) is not { } other)
                return Reason.NotFound;
            // What the prisoner said under either reference counts for the other (D9). The power that holds him cannot undo that alone, nor
            // through a Protecting Power of its own state.
            if (linked && !(IsIndependent(prisoner, context) && IsIndependent(other, context)))
                return Reason.LinkConfirmed;
            touched.Add(other);
            // Every party knows of a link, but not of a proposal.
            if (linked)
                (audience, handedOver) = ([Audience.Case(prisoner.Case)], PrisonerFold.HandoversUnder(other, prisoner.Prisoner_));
        }
        streams.AddRange(touched.Skip(1).Select(IdOf));
        // A report on his health also moved the clocks of the same person's other references.
        if (prisoner.Notifications.Any(n => n.HealthReport && n.Position == mark.Position))
            streams.AddRange(PersonOf(prisoner).Skip(1));
        var corrected = new RecordCorrected { Position = request.Position, Participant = context.Caller.Id };
        if (linked)
            corrected.AnsweringPower = AnsweringAfter(prisoner, handedOver);
        List<Change> changes = [Record.On(prisoner, corrected) with { Streams = streams }];
        // Of the other record, only the statuses and hand-overs that were recorded here change. So does the chain of powers that a return
        // relieved.
        foreach (var record in touched.Where(r => r == prisoner || linked || r.Statuses.Any(s => s.RecordedUnder == prisoner.Prisoner_)))
        {
            var without = PrisonerFold.Without(record, corrected);
            if (record != prisoner && linked)
                changes.AddRange(TakenBack(record, prisoner, without, mark.Position, context));
            else if (record == prisoner && handedOver is [.., var last])
                (without.Held, without.Ended) =
                    last.PassedTo.Length > 0 && record.State != CustodyState.Died ? (true, false) : (false, true);
            if (without.Held == record.Held && without.Ended == record.Ended)
                continue;
            changes.Add(Record.On(record, StatusOf(context, without.Held, without.Ended)));
            if (without.Ended != record.Ended)
                audience = [Audience.Case(prisoner.Case)];
        }
        Change[] anew = [.. HandedOver(prisoner, handedOver, context)];
        changes.AddRange(anew);
        if (linked)
            changes.Add(Parted(prisoner, streams, context));
        // Those who are told of a breach when a hand-over is recorded are told of it.
        var breached = anew.Any(c => c.Event is CustodyTransferred { Breaches.Count: > 0 } or DepartureRecorded { Breaches.Count: > 0 });
        return Accept(changes).SeenBy(breached ? SideOf(prisoner) : audience);
    }

    // Keeps the references that counted for the person until the link was undone. So undoing the link removes no statement (D9).
    private static Change Parted(Prisoner prisoner, IReadOnlyList<StreamId> streams, RuleContext context)
    {
        var links = Readiness.Counting(Readiness.PersonOf(context, prisoner));
        return Record.On(prisoner, new LinkUndone { FormerLinks = { links } }) with { Streams = streams };
    }

    // The power that answers for him again under the reference that was kept, if another man was handed over, and the powers that answer for
    // their transfers again, if it was another man whom one of them had given before. A man who was handed over and came back leaves the
    // record as it was; other services still hear that it was another man, because they took back what rested on him.
    private static IEnumerable<Change> TakenBack(Prisoner kept, Prisoner other, Prisoner without, ulong linked, RuleContext context)
    {
        Prisoner[] others = [.. Readiness.Records(context, kept).Where(r => r != kept && r.Prisoner_ != other.Prisoner_)];
        var chain = PrisonerFold.ChainOf([without, .. others]);
        string[] own = [.. PrisonerFold.ChainOf([without]).Where(chain.Contains)];
        StatusEntry[] passed = [.. PrisonerFold.HandoversUnder(kept, other.Prisoner_).Where(s => s.PassedTo.Length > 0)];
        if (
            passed.Length == 0
            && without.LastDetainingPower == kept.LastDetainingPower
            && own.SequenceEqual(kept.FormerPowers)
            && own.SequenceEqual(without.FormerPowers)
            && chain.SequenceEqual(PrisonerFold.ChainOf([kept, .. others]))
        )
            yield break;
        var undone = new CustodyTransferred
        {
            FromPower = kept.LastDetainingPower,
            ToPower = without.LastDetainingPower,
            Undone = true,
            Ended = without.Ended,
            FormerPowers = { own },
            TransferringPowers = { chain },
            RelievedSinceTime = PrisonerFold.PassingsOf(kept).Where(s => s.Position > linked).MinBy(s => s.Time.ToDateTimeOffset())?.Time,
            // What the other man's hand-overs changed before he was himself handed over is no longer of his present custody.
            PassTime = passed.FirstOrDefault(s => s.Position > (PrisonerFold.PassingsOf(without).LastOrDefault()?.Position ?? 0))?.Time,
            BureauDueTime = BureauDue(context),
        };
        yield return Record.On(kept, undone) with
        {
            Streams = [Cases.Kind.Id(kept.Case), .. PersonOf(kept).Where(s => s != IdOf(other))],
        };
    }

    // Hand-overs that had been recorded under the reference that was kept belong to the man whom both sides named. Where another power held
    // him by his own record than the one that gave him, that power confirmed nothing: the hand-over is marked (D1).
    private static IEnumerable<Change> HandedOver(Prisoner prisoner, IReadOnlyList<StatusEntry> handedOver, RuleContext context)
    {
        var chain = prisoner.FormerPowers.Clone();
        var (answering, power) = (AnsweringAfter(prisoner, handedOver), prisoner.LastDetainingPower);
        foreach (var status in handedOver)
        {
            IMessage happened;
            Invariant[] breaches =
                status.RecordedFor == power ? [.. status.Breaches] : [.. status.Breaches.Append(Invariant.D1).Distinct().Order()];
            if (status.PassedTo.Length > 0)
            {
                var passed = new CustodyTransferred
                {
                    FromPower = status.RecordedFor,
                    ToPower = status.PassedTo,
                    Route = status.Route,
                    Returned = status.Returned,
                    Breaches = { breaches },
                    BureauDueTime = BureauDue(context),
                    Ended = prisoner.State == CustodyState.Died,
                    RelievedPowers = { Cases.Relieved(chain, status.PassedTo) },
                    PassTime = status.Time,
                    AnsweringPower = answering,
                };
                Cases.PassOn(chain, passed);
                (happened, power) = (passed, passed.ToPower);
            }
            else
                happened = new DepartureRecorded
                {
                    Route = status.Route,
                    HandoverTime = status.Time,
                    Breaches = { breaches },
                    BureauDueTime = BureauDue(context),
                };
            yield return Record.On(prisoner, happened) with
            {
                Streams = [Cases.Kind.Id(prisoner.Case), IdOf(prisoner)],
            };
        }
    }

    // The power that answers, or last answered, for the prisoner once these hand-overs are recorded.
    private static string AnsweringAfter(Prisoner prisoner, IReadOnlyList<StatusEntry> handedOver) =>
        handedOver.LastOrDefault(s => s.PassedTo.Length > 0)?.PassedTo ?? prisoner.LastDetainingPower;

    // Whether an entry on a record that is no longer kept counts for the kept record.
    private static bool CountsUnder(Prisoner kept, Prisoner prisoner, ulong position) =>
        kept.Statuses.Any(s => s.RecordedUnder == prisoner.Prisoner_ && s.Position == position)
        || kept.Proceedings.Any(p => p.RecordedUnder == prisoner.Prisoner_ && p.Position == position);

    // The mark of an entry that the caller may correct; null: it may not, or there is none.
    private static EntryMark? CorrectableBy(RuleContext context, Prisoner prisoner, ulong position)
    {
        if (context.ActsFor(prisoner.LastDetainingPower) && PrisonerFold.OfAnother(prisoner) is { } another && another.Position == position)
            return another;
        return
            prisoner.Entries.FirstOrDefault(e => e.Position == position) is { } mark
            && (!mark.Corrected || PrisonerFold.IsRegistration(prisoner, position))
            && (mark.Participant == context.Caller.Id || MayCorrectForAnother(prisoner, mark, context))
            ? mark
            : null;
    }

    // Any observer that may confirm a link may also undo it, because the observer that confirmed it may have left (D19). The power that
    // answers for the prisoner corrects his identity and age, whichever power registered him.
    private static bool MayCorrectForAnother(Prisoner prisoner, EntryMark mark, RuleContext context) =>
        context.Caller.IsNeutral()
            ? mark is { Confirms: true, Corrected: false } && IsIndependent(prisoner, context)
            : context.ActsFor(prisoner.LastDetainingPower) && PrisonerFold.IsRegistration(prisoner, mark.Position);
}
