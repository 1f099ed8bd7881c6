using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Ministries.Consular.V1;
using Ministries.Custody.V1;
using Ministries.Errors.V1;
using Ministries.Types.V1;
using static Ministries.Rules.Ruling;
using Route = Ministries.Types.V1.Route;
using State = Ministries.Consular.V1.TransferState;

namespace Ministries.Consular;

/// <summary>Transfer requests: their states and the rules that lead from one to another. <see cref="TransferFold"/> applies their events,
/// <see cref="TransferVisibility"/> decides what each reader sees, and <see cref="Departures"/> has the conditions of a
/// departure.</summary>
public static class Transfers
{
    /// <summary>The greatest number of one participant's acts of one kind on one transfer request. Each has its own room, so that no
    /// side's acts leave none for another's, nor tell by their number what it may not see.</summary>
    public const int MaxActs = 512;

    /// <summary>The size in bytes of the failures that a participant reported on one transfer request, and of the measures that it recorded
    /// there, from which it records no more of them: 1 MiB of each.</summary>
    public const int FullOfReportsAt = 1 << 20;

    /// <summary>The size in bytes of a transfer request from which no more measures are recorded: 6 MiB.</summary>
    public const int FullForMeasuresAt = 6 << 20;

    /// <summary>The size in bytes from which no more failures are reported either: 7 MiB. A state has at most 8: what happens to him is
    /// recorded whatever is in it.</summary>
    public const int FullAt = 7 << 20;

    /// <summary>The longest time that a hand-over may take, from the start of its window to the end.</summary>
    public static readonly TimeSpan LongestWindow = TimeSpan.FromHours(72);

    /// <summary>The longest time for which an assessment of the receiving state holds.</summary>
    public static readonly TimeSpan LongestAssessment = TimeSpan.FromDays(366);

    /// <summary>The longest time for which an assurance holds.</summary>
    public static readonly TimeSpan LongestAssurance = TimeSpan.FromDays(3660);

    /// <summary>The time for a return after it was requested (12(3)).</summary>
    public static readonly TimeSpan TimeForReturn = TimeSpan.FromDays(30);

    /// <summary>The time for corrective measures, or a request for return, after a failure was reported (12(3)).</summary>
    public static readonly TimeSpan TimeForMeasures = TimeSpan.FromDays(14);

    /// <summary>The stream of transfer requests.</summary>
    public static readonly StreamKind<Transfer> Kind = new(
        "transfer",
        10,
        TransferFold.All,
        TransferVisibility.AudienceOf,
        KeysOf,
        t => Duties.Of(t).Select(d => (DateTimeOffset?)d.DueTime.ToDateTimeOffset()).Min()
    );

    /// <summary>Transfer requests as rules need to know them.</summary>
    public static readonly RecordKind<Transfer> Record = new()
    {
        Prefix = "transfer",
        Stream = Kind,
        Field = "transfer",
        Id = t => t.Id,
        Case = t => t.Case,
        Prisoner = t => t.Prisoner,
        State = t => (int)t.State,
        SeenBy = TransferVisibility.AudienceOf,
        Entries = TransferVisibility.AudienceOf,
        Show = (transfer, _, context) => TransferVisibility.Show(transfer, context.Caller),
        Streams = (transfer, _) => StreamsOf(transfer.Id, transfer.Case, transfer.Prisoner),
        Sides = t => [t.RequestingState, t.DetainingPower, t.AcceptingPower, t.ReturningPower, t.Destination],
        NamedInRefusals = true,
    };

    /// <summary>The states in which custody has not passed yet and may still pass.</summary>
    internal static readonly State[] BeforeHandover =
    [
        State.Submitted,
        State.UnderReview,
        State.Agreed,
        State.Scheduled,
        State.InTransit,
        State.Suspended,
    ];

    private static readonly IReadOnlyList<System.Enum> AfterHandover =
    [
        State.HandedOver,
        State.Monitored,
        State.ReturnRequested,
        State.Returned,
        State.Closed,
    ];

    private static readonly IReadOnlyList<System.Enum> Everywhere = [.. System.Enum.GetValues<State>()];

    // The acts that only the detaining power may know (an assessment: the observers too).
    private static readonly string[] Reserved = ["SuspendTransfer", "ResumeTransfer", "CorrectRecord", "RecordTransfereeAssessment"];

    private static readonly Side<Transfer> Requesting = new("requesting state", (t, context) => Only(context.ActsFor(t.RequestingState)));

    private static readonly Side<Transfer> Detaining = new("detaining power", (t, context) => Only(context.ActsFor(t.DetainingPower)));

    // A draft is submitted to nobody yet: its state refuses it, not the side.
    private static readonly Side<Transfer> Accepting = new(
        "accepting power",
        (t, context) => Only(t.AcceptingPower.Length == 0 || context.ActsFor(t.AcceptingPower))
    );

    // A write that changes the custody of the caller's own state needs the capacity for custody (D4).
    private static readonly Side<Transfer> DetainingCustody = new(
        "detaining power's custody",
        (t, context) => Detaining.Check(t, context) ?? CustodyCapacity(context)
    );

    // A power that no longer holds him has nobody to hand over.
    private static readonly Side<Transfer> EitherSide = new(
        "detaining power's custody or accepting power",
        (t, context) =>
            !context.ActsFor(t.DetainingPower) ? Accepting.Check(t, context)
            : Holds(t, context) ? CustodyCapacity(context)
            : Only(false)
    );

    private static readonly Side<Transfer> EitherSideOfReturn = new(
        "holding power's custody or detaining power",
        (t, context) => Holds(t, context) ? CustodyCapacity(context) : Detaining.Check(t, context)
    );

    private static readonly Side<Transfer> EitherPower = new(
        "detaining power or accepting power",
        (t, context) => Only(context.ActsFor(t.DetainingPower) || context.ActsFor(t.AcceptingPower))
    );

    // ------------------------------------------------------------------------------------------------------------------ drafts

    /// <summary>Drafts a request for a prisoner.</summary>
    public static readonly Rule<Case, DraftTransferRequestRequest, DraftTransferRequestResponse> DraftTransferRequest = new(Cases.Record)
    {
        Makes = Record,
        Decide = (@case, request, context) =>
        {
            if (AnsweredFor(@case, request.Prisoner) is not { } held)
                return Reason.PrisonerNotHeld;
            if (request.Route != Route.Release && request.Destination == held.DetainingPower)
                return Reason.DestinationIsDetainingPower;
            var dossier = context.Find(Dossiers.Kind, Dossiers.Key(request.Case, request.Prisoner));
            if (request.PreviousTransfer.Length > 0 && !Dossiers.Declined(dossier, context.Caller.State).Contains(request.PreviousTransfer))
                return Reason.PreviousRequestNotNamed;
            if (Dossiers.IsFullFor(dossier, context.Caller.State))
                return Reason.RecordFull;
            var drafted = new TransferRequestDrafted
            {
                Case = request.Case,
                Transfer = context.NewId(Record.Prefix),
                Prisoner = request.Prisoner,
                Participant = context.Caller.Id,
                Route = request.Route,
                Destination = request.Destination,
                RequestingState = context.Caller.State,
            };
            return Accept(new Change(drafted, StreamsOf(drafted.Transfer, drafted.Case, drafted.Prisoner)))
                .SeenBy(TransferVisibility.Drafter(request.Case, context.Caller.State, context.Caller.Id));
        },
    };

    /// <summary>Discards a draft.</summary>
    public static readonly Rule<Transfer, DiscardDraftRequest, DiscardDraftResponse> DiscardDraft = new(Record)
    {
        From = [State.Drafted],
        By = Requesting,
        Decide = (transfer, _, _) => Accept(new DraftDiscarded { Call = transfer.Call, Commitment = transfer.Commitment }),
    };

    /// <summary>Submits a draft to the detaining power of that moment.</summary>
    public static readonly Rule<Transfer, SubmitTransferRequestRequest, SubmitTransferRequestResponse> SubmitTransferRequest = new(Record)
    {
        From = [State.Drafted],
        By = Requesting,
        Decide = (transfer, request, context) =>
        {
            if (AnsweredFor(context.Find(Cases.Kind, transfer.Case)!, transfer.Prisoner) is not { } held)
                return Reason.PrisonerNotHeld;
            if (transfer.Route != Route.Release && transfer.Destination == held.DetainingPower)
                return Reason.DestinationIsDetainingPower;
            var previous = request.PreviousTransfer.Length > 0 ? request.PreviousTransfer : transfer.PreviousTransfer;
            var declined = Dossiers.Declined(context.Find(Dossiers.Kind, Dossiers.Key(transfer)), transfer.RequestingState);
            if (previous.Length > 0 ? !declined.Contains(previous) : declined.Count > 0)
                return Reason.PreviousRequestNotNamed;
            var submitted = new TransferRequestSubmitted
            {
                Participant = context.Caller.Id,
                Call = transfer.Call,
                Commitment = transfer.Commitment,
                DetainingPower = held.DetainingPower,
                AcceptingPower = transfer.Destination == held.DetainingPower ? transfer.RequestingState : transfer.Destination,
            };
            string[] sides = [transfer.RequestingState, submitted.DetainingPower, submitted.AcceptingPower];
            return Accept(submitted).SeenBy(TransferVisibility.Sides(transfer.Case, sides));
        },
    };

    // ------------------------------------------------------------------------------------------------------------------ review

    /// <summary>Begins to review a request.</summary>
    public static readonly Rule<Transfer, BeginReviewRequest, BeginReviewResponse> BeginReview = new(Record)
    {
        From = [State.Submitted],
        By = Detaining,
        Decide = (transfer, _, context) => Held(context, transfer) is null ? Reason.PrisonerNotHeld : Accept(new ReviewBegun()),
    };

    /// <summary>Records the detaining power's assessment of the receiving state (12(2)).</summary>
    public static readonly Rule<
        Transfer,
        RecordTransfereeAssessmentRequest,
        RecordTransfereeAssessmentResponse
    > RecordTransfereeAssessment = new(Record)
    {
        From = [State.UnderReview, State.Agreed, State.Scheduled, State.InTransit, State.Suspended],
        By = Detaining,
        Full = IsFull,
        Decide = (transfer, request, context) =>
        {
            if (!IsAhead(request.ExpireTime, context, LongestAssessment))
                return RefuseField(Reason.TimeOutOfRange, "expire_time");
            var suspends = transfer.Route.PassesCustody() && !(request.Willing && request.Able) && IsUnderWay(transfer.State);
            var recorded = new TransfereeAssessmentRecorded();
            return (suspends ? Accept(recorded, new TransferSuspended()) : Accept(recorded)).SeenBy(
                Audience.State(transfer.Case, transfer.DetainingPower),
                Audience.Observers(transfer.Case)
            );
        },
    };

    /// <summary>Gives the receiving state's assurance.</summary>
    public static readonly Rule<Transfer, GiveAssuranceRequest, GiveAssuranceResponse> GiveAssurance = new(Record)
    {
        From = [.. BeforeHandover],
        By = Accepting,
        Full = IsFull,
        Decide = (transfer, request, context) =>
            !IsAhead(request.ExpireTime, context, LongestAssurance) ? RefuseField(Reason.TimeOutOfRange, "expire_time")
            : Departures.Undertakings(transfer, context.Permissions).Except(request.Undertakings).Any() ? Reason.AssuranceIncomplete
            : Accept(new AssuranceGiven { ExpireTime = request.ExpireTime }),
    };

    /// <summary>Decides on a request. Where it agrees, <see cref="RuleContext.Asked"/> is custody's answer. An agreed request may be
    /// declined until the prisoner sets out. If it was suspended, it may be agreed to again, with the openings of his later
    /// statements.</summary>
    public static readonly Rule<Transfer, DecideTransferRequest, DecideTransferResponse> DecideTransfer = new(Record)
    {
        From = [State.UnderReview, State.Agreed, State.Scheduled, State.Suspended],
        By = Detaining,
        Decide = (transfer, request, context) =>
        {
            if (
                transfer.SuspendedFrom == State.InTransit
                || request.Agreed
                    && transfer.State != State.UnderReview
                    && !(transfer.State == State.Suspended && IsUnderWay(transfer.SuspendedFrom) && !IsTakenBack(transfer))
            )
                return Record.NotAllowed(transfer);
            if (!request.Agreed)
                return Accept(new TransferDecided());
            if (request.Openings.Count == 0 && Departures.IsPlanned(transfer))
                return RefuseField(Reason.OpeningMissing, "openings");
            return Hindrance(transfer, context)
                ?? Accept(new TransferDecided { Agreed = true, CustodyPosition = Departures.PositionOf(context.Asked) });
        },
    };

    // --------------------------------------------------------------------------------------------------------------- hand-over

    /// <summary>Schedules the hand-over. <see cref="RuleContext.Asked"/> is custody's answer.</summary>
    public static readonly Rule<Transfer, ScheduleHandoverRequest, ScheduleHandoverResponse> ScheduleHandover = new(Record)
    {
        From = [State.Agreed, State.Scheduled],
        By = Detaining,
        Full = IsFull,
        Decide = (transfer, request, context) =>
        {
            var (start, end) = (request.WindowStartTime.ToDateTimeOffset(), request.WindowEndTime.ToDateTimeOffset());
            if (end <= start || end <= context.Now || end - start > LongestWindow)
                return RefuseField(Reason.TimeOutOfRange, "window_end_time");
            return Hindrance(transfer, context) ?? Accept(new HandoverScheduled { CustodyPosition = Departures.PositionOf(context.Asked) });
        },
    };

    /// <summary>Records that the prisoner set out. <see cref="RuleContext.Asked"/> is custody's answer.</summary>
    public static readonly Rule<Transfer, BeginTransitRequest, BeginTransitResponse> BeginTransit = new(Record)
    {
        From = [State.Scheduled],
        By = DetainingCustody,
        Decide = (transfer, _, context) =>
            Hindrance(transfer, context)
            ?? Accept(
                new TransitBegun
                {
                    CustodyPosition = Departures.PositionOf(context.Asked),
                    AcceptingPower = transfer.AcceptingPower,
                    SecondConfirmationDueTime = transfer.Confirmations.Count > 0 ? SecondConfirmationDue(context) : null,
                }
            ),
    };

    /// <summary>Calls off a hand-over on the way. Where one side has confirmed it, no responsibility has passed, and the detaining
    /// power takes him back (D1).</summary>
    public static readonly Rule<Transfer, AbortHandoverRequest, AbortHandoverResponse> AbortHandover = new(Record)
    {
        From = [State.InTransit, State.Suspended],
        By = DetainingCustody,
        InClosedCase = true,
        Decide = (transfer, _, _) =>
            transfer.State == State.Suspended && transfer.SuspendedFrom != State.InTransit
                ? Record.NotAllowed(transfer)
                : Accept(new HandoverAborted()),
    };

    /// <summary>Confirms that the hand-over took place. <see cref="RuleContext.Asked"/> is custody's answer; null if custody gave none. A
    /// fact is never refused for good: what is missing can be acknowledged.</summary>
    public static readonly Rule<Transfer, ConfirmHandoverRequest, ConfirmHandoverResponse> ConfirmHandover = new(Record)
    {
        From = [.. BeforeHandover, State.Declined, State.Withdrawn],
        By = EitherSide,
        InClosedCase = true,
        Decide = Confirm,
    };

    // ----------------------------------------------------------------------------------- suspension, resumption, withdrawal

    /// <summary>Suspends a transfer.</summary>
    public static readonly Rule<Transfer, SuspendTransferRequest, SuspendTransferResponse> SuspendTransfer = new(Record)
    {
        From = [State.Submitted, State.UnderReview, State.Agreed, State.Scheduled, State.InTransit],
        By = Detaining,
        Full = IsFull,
        Decide = (transfer, _, _) => Accept(new TransferSuspended()).SeenBy(Audience.State(transfer.Case, transfer.DetainingPower)),
    };

    /// <summary>Resumes a transfer. <see cref="RuleContext.Asked"/> is custody's answer where the stage that it left needs it.</summary>
    public static readonly Rule<Transfer, ResumeTransferRequest, ResumeTransferResponse> ResumeTransfer = new(Record)
    {
        From = [State.Suspended],
        By = Detaining,
        Decide = (transfer, _, context) =>
        {
            if (ResumesTo(transfer) is null || IsOffTheWay(transfer, context.Asked))
                return Record.NotAllowed(transfer);
            if (Held(context, transfer) is null)
                return Reason.PrisonerNotHeld;
            var checks = IsUnderWay(transfer.SuspendedFrom);
            if (checks && Hindrance(transfer, context) is { } hindrance)
                return hindrance;
            return Accept(new TransferResumed { CustodyPosition = checks ? Departures.PositionOf(context.Asked) : 0 })
                .SeenBy(Audience.State(transfer.Case, transfer.DetainingPower));
        },
    };

    /// <summary>Withdraws a request. If he set out by it, the power that answers for him, or did last, calls the hand-over off first:
    /// custody ends no journey of his otherwise. Once he has passed elsewhere, nobody can. What the other side says of a hand-over binds
    /// nobody to the request: it stays, and can be confirmed still.</summary>
    public static readonly Rule<Transfer, WithdrawTransferRequestRequest, WithdrawTransferRequestResponse> WithdrawTransferRequest = new(
        Record
    )
    {
        From = [State.Submitted, State.UnderReview, State.Agreed, State.Scheduled, State.Suspended],
        By = Requesting,
        Decide = (transfer, _, context) =>
            transfer.SuspendedFrom == State.InTransit && InCase(context, transfer)?.LastDetainingPower == transfer.DetainingPower
                ? Record.NotAllowed(transfer)
            : transfer.Confirmations.Any(c => PowerOf(transfer, c) == transfer.RequestingState) ? Reason.ConfirmedByOneSide
            : Accept(new TransferRequestWithdrawn()),
    };

    // ------------------------------------------------------------------------------------------- after the hand-over (12(3))

    /// <summary>Reports a serious failure to carry out the Convention.</summary>
    public static readonly Rule<Transfer, ReportTreatmentFailureRequest, ReportTreatmentFailureResponse> ReportTreatmentFailure = new(
        Record
    )
    {
        From = AfterHandover,
        InClosedCase = true,
        Full = (transfer, request, context) =>
            IsFull(transfer, request, context)
            || transfer.Failures.Where(f => f.Participant == context.Caller.Id).Sum(SizeOfReport) >= FullOfReportsAt
            || transfer.CalculateSize() >= FullAt,
        Decide = (transfer, _, context) =>
            transfer.Route != Route.Article12Transfer ? Reason.NotAnArticle12Transfer
            : context.Caller.Kind != ParticipantKind.ProtectingPower && !context.Permissions.Agreement.ObserverReportsTreatment
                ? Reason.ObserverMayNotReport
            : Accept(
                new TreatmentFailureReported
                {
                    Failure = context.NewId("failure"),
                    MeasuresDueTime = (context.Now + TimeForMeasures).ToTimestamp(),
                }
            ),
    };

    /// <summary>Records what the transferring power did about a reported failure.</summary>
    public static readonly Rule<Transfer, RecordCorrectiveMeasuresRequest, RecordCorrectiveMeasuresResponse> RecordCorrectiveMeasures = new(
        Record
    )
    {
        From = AfterHandover,
        By = Detaining,
        InClosedCase = true,
        Full = (transfer, request, context) =>
            IsFull(transfer, request, context)
            || transfer.Failures.SelectMany(f => f.Measures).Where(m => m.Participant == context.Caller.Id).Sum(m => m.CalculateSize())
                >= FullOfReportsAt
            || transfer.CalculateSize() >= FullForMeasuresAt,
        Decide = (transfer, request, _) =>
            transfer.Route != Route.Article12Transfer ? Reason.NotAnArticle12Transfer
            : transfer.Failures.All(f => f.Id != request.Failure) ? Reason.NoFailureReported
            : Accept(new CorrectiveMeasuresRecorded { Failure = request.Failure }),
    };

    /// <summary>Requests return after a reported failure.</summary>
    public static readonly Rule<Transfer, RequestReturnRequest, RequestReturnResponse> RequestReturn = new(Record)
    {
        From = [State.HandedOver, State.Monitored],
        By = Detaining,
        InClosedCase = true,
        Decide = (transfer, _, context) =>
            transfer.Route != Route.Article12Transfer ? Reason.NotAnArticle12Transfer
            : transfer.Failures.All(f => f.Corrected) ? Reason.NoFailureReported
            : Person(context, transfer) is not { DetainingPower: { Length: > 0 } holder } ? Reason.PrisonerNotHeld
            : holder == transfer.DetainingPower ? Reason.DestinationIsDetainingPower
            : Accept(new ReturnRequested { ReturningPower = holder, ReturnDueTime = ReturnDue(transfer, context) }),
    };

    /// <summary>Withdraws a request for return, unless the requesting power itself confirmed that the prisoner is back. The other side's
    /// confirmation of a return stays, and can still be answered.</summary>
    public static readonly Rule<Transfer, WithdrawReturnRequest, WithdrawReturnResponse> WithdrawReturn = new(Record)
    {
        From = [State.ReturnRequested],
        By = Detaining,
        InClosedCase = true,
        Decide = (transfer, _, _) =>
            transfer.ReturnConfirmations.Any(c => c.Side == HandoverSide.Taking)
                ? Reason.ConfirmedByOneSide
                : Accept(new ReturnWithdrawn()),
    };

    /// <summary>Confirms that the return took place. The power that holds the prisoner gives him back, and the transferring power takes
    /// him. <see cref="RuleContext.Asked"/> is custody's answer; null if custody gave none.</summary>
    public static readonly Rule<Transfer, ConfirmReturnRequest, ConfirmReturnResponse> ConfirmReturn = new(Record)
    {
        From = [State.Monitored, State.ReturnRequested, State.Closed],
        By = EitherSideOfReturn,
        InClosedCase = true,
        Decide = ConfirmBack,
    };

    /// <summary>Closes a transfer. To close it ends no duty that either power still has because of a reported failure.</summary>
    public static readonly Rule<Transfer, CloseTransferRequest, CloseTransferResponse> CloseTransfer = new(Record)
    {
        From = [State.Monitored, State.Returned],
        By = EitherPower,
        InClosedCase = true,
        Decide = (transfer, _, context) =>
            transfer.State == State.Returned ? Accept(new TransferClosed())
            : Person(context, transfer) is { DetainingPower.Length: > 0 } ? Reason.NotFinallyReleased
            : transfer.Failures.Any(Duties.IsUnanswered) ? Reason.MeasuresNotRecorded
            : Accept(new TransferClosed()),
    };

    /// <summary>Corrects an act of the caller's own, where the record is a transfer request.</summary>
    public static readonly Rule<Transfer, V1.CorrectRecordRequest, V1.CorrectRecordResponse> CorrectRecord = new(Record)
    {
        From = Everywhere,
        InClosedCase = true,
        Decide = (transfer, request, context) =>
        {
            if (Acts.Correctable(transfer.Acts, request.Position, context) is not { } act)
                return Reason.NotCorrectable;
            var corrected = new V1.RecordCorrected { Position = request.Position, Participant = context.Caller.Id };
            // Other readers of the record see that it is suspended, but not why.
            if (BeforeHandover.Contains(transfer.State) && transfer.State != State.Suspended)
                return Accept(corrected, new TransferSuspended()).SeenBy();
            return Reserved.Contains(act.Method) ? Accept(corrected).SeenBy() : Accept(corrected);
        },
    };

    // ------------------------------------------------------------------------------------------------------- what rules ask

    /// <summary>Whether the request stands where a planned departure is agreed and not yet done: at most one per
    /// prisoner.</summary>
    public static bool IsUnderWay(State state) => state is State.Agreed or State.Scheduled or State.InTransit;

    /// <summary>The stage to which a suspended request is resumed; null: none. A step that rested on a corrected act must be made again. A
    /// request that was withdrawn as a mistake is not resumed. An agreement must be made again if it, or the review on which it rests, was
    /// corrected. A hand-over on the way whose plan or departure was corrected must first be called off.</summary>
    internal static State? ResumesTo(Transfer transfer) =>
        transfer.SuspendedFrom switch
        {
            _ when IsTakenBack(transfer) => null,
            State.UnderReview when IsCorrected(transfer, nameof(BeginReview)) => State.Submitted,
            State.Agreed or State.Scheduled or State.InTransit when IsToDecideAnew(transfer) => null,
            State.Scheduled when IsCorrected(transfer, nameof(ScheduleHandover)) => State.Agreed,
            State.InTransit when IsCorrected(transfer, nameof(ScheduleHandover)) || IsCorrected(transfer, nameof(BeginTransit)) => null,
            var stage => stage,
        };

    /// <summary>Whether the prisoner set out by this request, was not brought back by it, and custody no longer records him in transit. The
    /// reason may have changed everything on which the plan rested, so the hand-over must first be called off.</summary>
    /// <param name="transfer">The transfer request.</param>
    /// <param name="asked">Custody's answer; null: nothing is known of his transit.</param>
    internal static bool IsOffTheWay(Transfer transfer, IMessage? asked) =>
        IsOnTheWay(transfer) && asked is DepartureCheck { Readiness.InTransit: false };

    /// <summary>Whether the prisoner set out by this request and was neither handed over nor brought back. The request may be suspended
    /// meanwhile.</summary>
    internal static bool IsOnTheWay(Transfer transfer) =>
        transfer.State == State.InTransit || transfer is { State: State.Suspended, SuspendedFrom: State.InTransit };

    // The requesting participant withdrew the request as a mistake.
    private static bool IsTakenBack(Transfer transfer) =>
        IsCorrected(transfer, nameof(DraftTransferRequest)) || IsCorrected(transfer, nameof(SubmitTransferRequest));

    // Only a new agreement, with all its approvals, leads on: none was made since it, or the review, was corrected.
    private static bool IsToDecideAnew(Transfer transfer) =>
        IsCorrected(transfer, nameof(DecideTransfer))
        || IsCorrected(transfer, nameof(BeginReview))
            && !(LastOf(transfer, nameof(DecideTransfer))?.Position > LastOf(transfer, nameof(CorrectRecord))?.Position);

    private static bool IsCorrected(Transfer transfer, string method) => LastOf(transfer, method) is { Corrected: true };

    private static RecordedAct? LastOf(Transfer transfer, string method) => transfer.Acts.LastOrDefault(a => a.Method == method);

    /// <summary>The entry of a prisoner in his case where he is held by the power to which the request was submitted; null: he is
    /// not.</summary>
    internal static CasePrisoner? Held(RuleContext context, Transfer transfer) =>
        InCase(context, transfer) is { Held: true } held && held.DetainingPower == transfer.DetainingPower ? held : null;

    // The case's prisoner, if a power answers for him. A state that asks for him is not told whether he has fled (D22).
    private static CasePrisoner? AnsweredFor(Case @case, string prisoner) =>
        @case.Prisoners.FirstOrDefault(p => p.Prisoner == prisoner) is { DetainingPower.Length: > 0 } held ? held : null;

    /// <summary>The case's prisoner, whichever power holds him; null: there is none.</summary>
    internal static CasePrisoner? InCase(RuleContext context, Transfer transfer) => InCase(context, transfer.Case, transfer.Prisoner);

    /// <summary>The case's prisoner with this reference; null: there is none.</summary>
    internal static CasePrisoner? InCase(RuleContext context, string @case, string prisoner) =>
        context.Find(Cases.Kind, @case)?.Prisoners.FirstOrDefault(p => p.Prisoner == prisoner);

    /// <summary>The case's prisoner under the kept reference, whichever power holds him; null: there is none. The duties after a transfer
    /// concern the person, even if the reference under which he was handed over is no longer kept (12(3)).</summary>
    internal static CasePrisoner? Person(RuleContext context, Transfer transfer) =>
        Person(transfer, context.Find(Cases.Kind, transfer.Case), context.Find(Dossiers.Links, transfer.Case));

    private static CasePrisoner? Person(Transfer transfer, Case? @case, CaseLinks? links)
    {
        var kept = Dossiers.PersonOf(links, transfer.Prisoner)[0];
        return @case?.Prisoners.FirstOrDefault(p => p.Prisoner == kept);
    }

    /// <summary>Whether the participant acts for the power that holds the person now, or held him last.</summary>
    /// <param name="transfer">The transfer request.</param>
    /// <param name="case">Its case.</param>
    /// <param name="links">The links of references in the case; null: there are none.</param>
    /// <param name="participant">The participant.</param>
    public static bool Holds(Transfer transfer, Case? @case, CaseLinks? links, Participant participant) =>
        participant.ActsFor(Person(transfer, @case, links)?.LastDetainingPower ?? "");

    private static bool Holds(Transfer transfer, RuleContext context) =>
        Holds(transfer, context.Find(Cases.Kind, transfer.Case), context.Find(Dossiers.Links, transfer.Case), context.Caller);

    private static Ruling Confirm(Transfer transfer, ConfirmHandoverRequest request, RuleContext context)
    {
        if (transfer.State != State.InTransit && !request.AcknowledgedBreaches.Contains(Invariant.D1))
            return Record.NotAllowed(transfer);
        var account = new Account(
            context.ActsFor(transfer.DetainingPower) ? HandoverSide.Giving : HandoverSide.Taking,
            request.WindowStartTime,
            request.WindowEndTime,
            request.HandoverReference,
            request.AcknowledgedBreaches
        );
        var other = transfer.Confirmations.SingleOrDefault();
        if (Fault(account, other, transfer.Plan?.HandoverReference ?? "", transfer.SubmitTime, context) is { } fault)
            return fault;
        if (Unacknowledged(account, Departures.Obstacles(transfer, context)) is { } reason)
            return reason;
        // A release where he is held that the detaining power asked for itself concerns no other power.
        if (other is null && transfer.AcceptingPower != transfer.DetainingPower)
            return Accept(
                new HandoverConfirmedByOneSide
                {
                    Participant = context.Caller.Id,
                    Side = account.Side,
                    // If the prisoner was never on the way, the other side need not answer, and nobody can call the hand-over off. So no
                    // clock starts.
                    SecondConfirmationDueTime = IsOnTheWay(transfer) ? SecondConfirmationDue(context) : null,
                    CustodyPosition = Departures.PositionOf(context.Asked),
                }
            );
        var second = other?.Participant ?? context.Caller.Id;
        var both = new HandoverConfirmed
        {
            Route = transfer.Route,
            FromPower = transfer.DetainingPower,
            ToPower = transfer.Destination,
            HandoverTime = TimeOf(account, other),
            DetainingParticipant = account.Side == HandoverSide.Giving ? context.Caller.Id : second,
            AcceptingParticipant = account.Side == HandoverSide.Taking ? context.Caller.Id : second,
            CustodyPosition = Departures.PositionOf(context.Asked),
            StandingBasis = Departures.BasisOf(context.Asked, transfer.Destination),
            Breaches = { BreachesFor(account, other) },
        };
        // A breach is announced to the observers; to the accepting power it could tell what it may not know.
        return !BreachesOf(account, other).Any()
            ? Accept(both)
            : Accept(both).SeenBy(Audience.State(transfer.Case, transfer.DetainingPower), Audience.Observers(transfer.Case));
    }

    // A return can take place that nobody requested, or whose request was withdrawn.
    private static bool IsOpenToReturn(Transfer transfer, ConfirmReturnRequest request, RuleContext context) =>
        transfer.State == State.ReturnRequested
        || transfer is { Route: Route.Article12Transfer, ReturnTime: null }
            && Person(context, transfer)?.LastDetainingPower != transfer.DetainingPower
            && (transfer.ReturnConfirmations.Count > 0 || request.AcknowledgedBreaches.Contains(Invariant.D1));

    private static Ruling ConfirmBack(Transfer transfer, ConfirmReturnRequest request, RuleContext context)
    {
        if (!IsOpenToReturn(transfer, request, context))
            return Record.NotAllowed(transfer);
        var account = new Account(
            Holds(transfer, context) ? HandoverSide.Giving : HandoverSide.Taking,
            request.WindowStartTime,
            request.WindowEndTime,
            request.HandoverReference,
            request.AcknowledgedBreaches
        );
        var other = transfer.ReturnConfirmations.SingleOrDefault();
        if (Fault(account, other, "", transfer.HandoverTime, context) is { } fault)
            return fault;
        if (Unacknowledged(account, Departures.ObstaclesToReturn(transfer, context)) is { } reason)
            return reason;
        if (other is null)
            return Accept(
                new ReturnConfirmedByOneSide
                {
                    Participant = context.Caller.Id,
                    Side = account.Side,
                    // If nobody requested the return, the other side need not answer, so no clock starts.
                    SecondConfirmationDueTime = transfer.State == State.ReturnRequested ? SecondConfirmationDue(context) : null,
                    ReturningPower = Person(context, transfer)!.LastDetainingPower,
                }
            );
        var back = new ReturnConfirmed
        {
            FromPower = Person(context, transfer)!.LastDetainingPower,
            ToPower = transfer.DetainingPower,
            ReturnTime = TimeOf(account, other),
            StandingBasis = Departures.BasisOf(context.Asked, transfer.DetainingPower),
            Breaches = { BreachesFor(account, other) },
        };
        return !BreachesOf(account, other).Any()
            ? Accept(back)
            : Accept(back).SeenBy(Audience.State(transfer.Case, back.FromPower), Audience.Observers(transfer.Case));
    }

    // One side's account of the hand-over or return.
    private readonly record struct Account(
        HandoverSide Side,
        Timestamp Start,
        Timestamp End,
        string Reference,
        IReadOnlyCollection<Invariant> Acknowledged
    );

    // The fault of an account by itself, or compared with the other side's. Each side's account is recorded: one that acknowledges D1
    // stands although it differs, and although its time is before the request.
    private static Ruling? Fault(Account account, Confirmation? other, string planned, Timestamp? notBefore, RuleContext context)
    {
        if (other?.Side == account.Side)
            return Reason.AlreadyConfirmed;
        var stands = account.Acknowledged.Contains(Invariant.D1);
        if (!IsWindow(account.Start, account.End, stands ? null : notBefore, context))
            return RefuseField(Reason.TimeOutOfRange, "window_end_time");
        return !stands && Differs(account, other, planned) ? Reason.ConfirmationsDiffer : null;
    }

    // The unmet conditions of the hand-over or return that were not acknowledged.
    private static Reason? Unacknowledged(Account account, IReadOnlyList<(Invariant Breach, Reason Reason)> obstacles)
    {
        if (account.Side == HandoverSide.Giving)
        {
            foreach (var obstacle in obstacles)
                if (!account.Acknowledged.Contains(obstacle.Breach))
                    return obstacle.Reason;
            return null;
        }
        if (obstacles.Count == 0 || account.Acknowledged.Count > 0)
            return null;
        // The taking side may not know which condition is not met. That custody does not answer reveals nothing of it.
        return obstacles.Any(o => o.Reason == Reason.Unavailable) ? Reason.Unavailable : Reason.DepartureNotCleared;
    }

    private static Timestamp TimeOf(Account account, Confirmation? other) =>
        other is null || account.Start > other.WindowStartTime ? account.Start : other.WindowStartTime;

    private static IEnumerable<Invariant> BreachesOf(Account account, Confirmation? other) =>
        account.Acknowledged.Union(other?.AcknowledgedBreaches ?? []).Order();

    // The breaches in the event. The side that confirms last sees them in its own entry. The taking side may not know the breaches that the
    // giving side acknowledged, except D1, which shows in the record. The record has all of them, and custody judges by its own.
    private static IEnumerable<Invariant> BreachesFor(Account account, Confirmation? other) =>
        account.Side == HandoverSide.Giving
            ? BreachesOf(account, other)
            : account.Acknowledged.Union(other?.AcknowledgedBreaches.Where(b => b == Invariant.D1) ?? []).Order();

    private static Ruling? Hindrance(Transfer transfer, RuleContext context) =>
        Departures.Obstacles(transfer, context) is [var first, ..] ? first.Reason : null;

    private static Refusal? Only(bool allowed) => allowed ? null : new Refusal(Reason.NotGranted);

    private static Refusal? CustodyCapacity(RuleContext context) =>
        context.Caller.Capacities.Contains(Capacity.Custody) ? null : new Refusal(Reason.NoCapacity);

    private static bool IsFull<TRequest>(Transfer transfer, TRequest request, RuleContext context)
        where TRequest : IMessage => Acts.Of(transfer.Acts, request, context.Caller.Id) >= MaxActs;

    // Without what the transferring power did about it.
    private static int SizeOfReport(TreatmentFailure failure) => failure.CalculateSize() - failure.Measures.Sum(m => m.CalculateSize());

    private static bool IsAhead(Timestamp time, RuleContext context, TimeSpan atMost) =>
        time.ToDateTimeOffset() is var ahead && ahead > context.Now && ahead - context.Now <= atMost;

    private static bool IsWindow(Timestamp start, Timestamp end, Timestamp? notBefore, RuleContext context) =>
        start <= end
        && end <= context.Time
        && (notBefore is null || notBefore <= start)
        && end.ToDateTimeOffset() - start.ToDateTimeOffset() <= LongestWindow;

    private static bool Differs(Account account, Confirmation? other, string planned) =>
        planned.Length > 0 && planned != account.Reference
        || other is not null
            && (other.HandoverReference != account.Reference || account.Start > other.WindowEndTime || account.End < other.WindowStartTime);

    // The power for which a side confirmed the hand-over.
    private static string PowerOf(Transfer transfer, Confirmation confirmation) =>
        confirmation.Side == HandoverSide.Giving ? transfer.DetainingPower : transfer.AcceptingPower;

    // When the prisoner must be returned. A request that was withdrawn and is made again keeps the first request's time, unless a new
    // failure was reported since. Otherwise the requesting power could block his journey for ever (D8).
    private static Timestamp ReturnDue(Transfer transfer, RuleContext context) =>
        transfer.WithdrawnReturnDueTime is { } due
        && !transfer.Failures.Any(f => !f.Corrected && f.Position > transfer.ReturnRequestPosition)
            ? due
            : (context.Now + TimeForReturn).ToTimestamp();

    private static Timestamp SecondConfirmationDue(RuleContext context) =>
        context.Now.AddHours(context.Permissions.Agreement.ConfirmationHours).ToTimestamp();

    private static StreamId[] StreamsOf(string id, string @case, string prisoner) =>
        [Kind.Id(id), Dossiers.Kind.Id(Dossiers.Key(@case, prisoner))];

    private static IEnumerable<string> KeysOf(Transfer transfer)
    {
        yield return $"case:{transfer.Case}";
        yield return $"prisoner:{Dossiers.Key(transfer)}";
        yield return $"state:{transfer.State}";
        yield return $"route:{transfer.Route}";
        if (transfer.Call.Length > 0)
            yield return $"call:{transfer.Call}";
    }
}
