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

/// <summary>Transfer requests: their states and the rules that lead from one to another. What their events do to them stands in
/// <see cref="TransferFold"/>, who sees what of them in <see cref="TransferVisibility"/>, what a departure needs in
/// <see cref="Departures"/>.</summary>
public static class Transfers
{
    /// <summary>The greatest number of participants' acts on one transfer request.</summary>
    public const int MaxActs = 512;

    /// <summary>The longest time that a hand-over may take, from the start of its window to the end.</summary>
    public static readonly TimeSpan LongestWindow = TimeSpan.FromHours(72);

    /// <summary>The longest time for which an assessment of the receiving state holds.</summary>
    public static readonly TimeSpan LongestAssessment = TimeSpan.FromDays(366);

    /// <summary>The longest time for which an assurance holds.</summary>
    public static readonly TimeSpan LongestAssurance = TimeSpan.FromDays(3660);

    /// <summary>The stream of transfer requests.</summary>
    public static readonly StreamKind<Transfer> Kind = new(
        "transfer",
        1,
        TransferFold.All,
        TransferVisibility.AudienceOf,
        KeysOf,
        t => Duties.Of(t).Select(d => (DateTimeOffset?)d.Due).Min()
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

    private static readonly IReadOnlyList<System.Enum> AfterHandover = [State.HandedOver, State.Monitored, State.ReturnRequested];

    private static readonly IReadOnlyList<System.Enum> Everywhere = [.. System.Enum.GetValues<State>()];

    // What only the detaining power (an assessment: the observers too) may know to have happened.
    private static readonly string[] Reserved = ["SuspendTransfer", "ResumeTransfer", "CorrectRecord", "RecordTransfereeAssessment"];

    private static readonly Side<Transfer> Requesting = new("requesting state", (t, context) => Only(context.ActsFor(t.RequestingState)));

    private static readonly Side<Transfer> Detaining = new("detaining power", (t, context) => Only(context.ActsFor(t.DetainingPower)));

    // A draft is submitted to nobody yet: its state refuses it, not the side.
    private static readonly Side<Transfer> Accepting = new(
        "accepting power",
        (t, context) => Only(t.AcceptingPower.Length == 0 || context.ActsFor(t.AcceptingPower))
    );

    // What changes the custody of the caller's own state is a custody write (D4).
    private static readonly Side<Transfer> DetainingCustody = new(
        "detaining power's custody",
        (t, context) => Detaining.Check(t, context) ?? CustodyCapacity(context)
    );

    private static readonly Side<Transfer> EitherSide = new(
        "detaining power's custody or accepting power",
        (t, context) => context.ActsFor(t.DetainingPower) ? CustodyCapacity(context) : Accepting.Check(t, context)
    );

    private static readonly Side<Transfer> EitherSideOfReturn = new(
        "accepting power's custody or detaining power",
        (t, context) => context.ActsFor(t.AcceptingPower) ? CustodyCapacity(context) : Detaining.Check(t, context)
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
            if (Held(@case, request.Prisoner) is not { } held)
                return Reason.PrisonerNotHeld;
            if (request.Route == Route.Article12Transfer && request.Destination == held.DetainingPower)
                return Reason.DestinationIsDetainingPower;
            var dossier = context.Find(Dossiers.Kind, Dossiers.Key(request.Case, request.Prisoner));
            if (request.PreviousTransfer.Length > 0 && !Dossiers.Declined(dossier, context.Caller.State).Contains(request.PreviousTransfer))
                return Reason.PreviousRequestNotNamed;
            if (dossier?.Transfers.Count >= Dossiers.MaxRecords)
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
            if (Held(context.Find(Cases.Kind, transfer.Case)!, transfer.Prisoner) is not { } held)
                return Reason.PrisonerNotHeld;
            if (transfer.Route == Route.Article12Transfer && transfer.Destination == held.DetainingPower)
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
            var suspends = transfer.Route == Route.Article12Transfer && !(request.Willing && request.Able) && IsUnderWay(transfer.State);
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
        Decide = (_, request, context) =>
            !IsAhead(request.ExpireTime, context, LongestAssurance) ? RefuseField(Reason.TimeOutOfRange, "expire_time")
            : !request.Undertakings.Contains(Undertaking.ApplyConvention) || !request.Undertakings.Contains(Undertaking.NonRefoulement)
                ? Reason.AssuranceIncomplete
            : Accept(new AssuranceGiven { ExpireTime = request.ExpireTime }),
    };

    /// <summary>Decides on a request. Where it agrees, <see cref="RuleContext.Asked"/> is custody's answer.</summary>
    public static readonly Rule<Transfer, DecideTransferRequest, DecideTransferResponse> DecideTransfer = new(Record)
    {
        From = [State.UnderReview],
        By = Detaining,
        Decide = (transfer, request, context) =>
        {
            if (!request.Agreed)
                return Accept(new TransferDecided());
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
            Hindrance(transfer, context) ?? Accept(new TransitBegun { CustodyPosition = Departures.PositionOf(context.Asked) }),
    };

    /// <summary>Calls off a hand-over on the way.</summary>
    public static readonly Rule<Transfer, AbortHandoverRequest, AbortHandoverResponse> AbortHandover = new(Record)
    {
        From = [State.InTransit, State.Suspended],
        By = DetainingCustody,
        InClosedCase = true,
        Decide = (transfer, _, _) =>
            transfer.State == State.Suspended && transfer.SuspendedFrom != State.InTransit ? Record.NotAllowed(transfer)
            : transfer.Confirmations.Count > 0 ? Reason.ConfirmedByOneSide
            : Accept(new HandoverAborted()),
    };

    /// <summary>Confirms that the hand-over took place. <see cref="RuleContext.Asked"/> is custody's answer; null where it gave none. A
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
            if (Held(context, transfer) is null)
                return Reason.PrisonerNotHeld;
            var checks = IsUnderWay(transfer.SuspendedFrom);
            if (checks && Hindrance(transfer, context) is { } hindrance)
                return hindrance;
            return Accept(new TransferResumed { CustodyPosition = checks ? Departures.PositionOf(context.Asked) : 0 })
                .SeenBy(Audience.State(transfer.Case, transfer.DetainingPower));
        },
    };

    /// <summary>Withdraws a request.</summary>
    public static readonly Rule<Transfer, WithdrawTransferRequestRequest, WithdrawTransferRequestResponse> WithdrawTransferRequest = new(
        Record
    )
    {
        From = [State.Submitted, State.UnderReview, State.Agreed, State.Scheduled, State.Suspended],
        By = Requesting,
        Decide = (transfer, _, _) =>
            transfer.SuspendedFrom == State.InTransit ? Record.NotAllowed(transfer)
            : transfer.Confirmations.Count > 0 ? Reason.ConfirmedByOneSide
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
        Full = IsFull,
        Decide = (transfer, _, context) =>
            transfer.Route != Route.Article12Transfer ? Reason.NotAnArticle12Transfer
            : context.Caller.Kind != ParticipantKind.ProtectingPower && !context.Permissions.Agreement.ObserverReportsTreatment
                ? Reason.ObserverMayNotReport
            : Accept(new TreatmentFailureReported { Failure = context.NewId("failure") }),
    };

    /// <summary>Records what the transferring power did about a reported failure.</summary>
    public static readonly Rule<Transfer, RecordCorrectiveMeasuresRequest, RecordCorrectiveMeasuresResponse> RecordCorrectiveMeasures = new(
        Record
    )
    {
        From = AfterHandover,
        By = Detaining,
        InClosedCase = true,
        Full = IsFull,
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
        Decide = (transfer, _, _) =>
            transfer.Route != Route.Article12Transfer ? Reason.NotAnArticle12Transfer
            : transfer.Failures.Count == 0 ? Reason.NoFailureReported
            : Accept(new ReturnRequested()),
    };

    /// <summary>Confirms that the return took place. The accepting power of the hand-over gives back, the other one takes.</summary>
    public static readonly Rule<Transfer, ConfirmReturnRequest, ConfirmReturnResponse> ConfirmReturn = new(Record)
    {
        From = [State.ReturnRequested],
        By = EitherSideOfReturn,
        InClosedCase = true,
        Decide = (transfer, request, context) =>
        {
            var side = context.ActsFor(transfer.AcceptingPower) ? HandoverSide.Giving : HandoverSide.Taking;
            var other = transfer.ReturnConfirmations.SingleOrDefault();
            if (other?.Side == side)
                return Reason.AlreadyConfirmed;
            if (!IsWindow(request.WindowStartTime, request.WindowEndTime, transfer.HandoverTime, context))
                return RefuseField(Reason.TimeOutOfRange, "window_end_time");
            if (Differs(other, null, request.HandoverReference, request.WindowStartTime, request.WindowEndTime))
                return Reason.ConfirmationsDiffer;
            return other is null
                ? Accept(
                    new ReturnConfirmedByOneSide
                    {
                        Participant = context.Caller.Id,
                        Side = side,
                        SecondConfirmationDueTime = SecondConfirmationDue(context),
                    }
                )
                : Accept(
                    new ReturnConfirmed
                    {
                        FromPower = transfer.AcceptingPower,
                        ToPower = transfer.DetainingPower,
                        ReturnTime = Latest(other.WindowStartTime, request.WindowStartTime),
                    }
                );
        },
    };

    /// <summary>Closes a transfer.</summary>
    public static readonly Rule<Transfer, CloseTransferRequest, CloseTransferResponse> CloseTransfer = new(Record)
    {
        From = [State.Monitored, State.Returned],
        By = EitherPower,
        InClosedCase = true,
        Decide = (transfer, _, context) =>
            transfer.State == State.Monitored
            && context.Find(Cases.Kind, transfer.Case)!.Prisoners.Any(p => p.Prisoner == transfer.Prisoner && p.DetainingPower.Length > 0)
                ? Reason.NotFinallyReleased
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
            // Whoever else may see the record sees that it is suspended, not why.
            if (BeforeHandover.Contains(transfer.State) && transfer.State != State.Suspended)
                return Accept(corrected, new TransferSuspended()).SeenBy();
            return Reserved.Contains(act.Method) ? Accept(corrected).SeenBy() : Accept(corrected);
        },
    };

    // ------------------------------------------------------------------------------------------------------- what rules ask

    /// <summary>Whether the request stands where a planned departure is agreed and not yet done: at most one per
    /// prisoner.</summary>
    public static bool IsUnderWay(State state) => state is State.Agreed or State.Scheduled or State.InTransit;

    /// <summary>The entry of a prisoner in his case where he is held by the power to which the request was submitted; null: he is
    /// not.</summary>
    internal static CasePrisoner? Held(RuleContext context, Transfer transfer) =>
        context.Find(Cases.Kind, transfer.Case) is { } @case
        && Held(@case, transfer.Prisoner) is { } held
        && held.DetainingPower == transfer.DetainingPower
            ? held
            : null;

    private static CasePrisoner? Held(Case @case, string prisoner) =>
        @case.Prisoners.FirstOrDefault(p => p.Prisoner == prisoner) is { Held: true } held ? held : null;

    private static Ruling Confirm(Transfer transfer, ConfirmHandoverRequest request, RuleContext context)
    {
        var acknowledged = request.AcknowledgedBreaches;
        if (transfer.State != State.InTransit && !acknowledged.Contains(Invariant.D1))
            return Record.NotAllowed(transfer);
        var side = context.ActsFor(transfer.DetainingPower) ? HandoverSide.Giving : HandoverSide.Taking;
        var other = transfer.Confirmations.SingleOrDefault();
        if (other?.Side == side)
            return Reason.AlreadyConfirmed;
        if (!IsWindow(request.WindowStartTime, request.WindowEndTime, transfer.SubmitTime, context))
            return RefuseField(Reason.TimeOutOfRange, "window_end_time");
        if (Differs(other, transfer.Plan?.HandoverReference, request.HandoverReference, request.WindowStartTime, request.WindowEndTime))
            return Reason.ConfirmationsDiffer;
        if (Unacknowledged(transfer, request, side, context) is { } reason)
            return reason;
        if (other is null)
            return Accept(
                new HandoverConfirmedByOneSide
                {
                    Participant = context.Caller.Id,
                    Side = side,
                    SecondConfirmationDueTime = SecondConfirmationDue(context),
                    CustodyPosition = Departures.PositionOf(context.Asked),
                }
            );
        var both = new HandoverConfirmed
        {
            Route = transfer.Route,
            FromPower = transfer.DetainingPower,
            ToPower = transfer.Destination,
            HandoverTime = Latest(other.WindowStartTime, request.WindowStartTime),
            DetainingParticipant = side == HandoverSide.Giving ? context.Caller.Id : other.Participant,
            AcceptingParticipant = side == HandoverSide.Taking ? context.Caller.Id : other.Participant,
            CustodyPosition = Departures.PositionOf(context.Asked),
            Breaches = { other.AcknowledgedBreaches.Union(acknowledged).Order() },
        };
        // A breach is announced to the observers; to the accepting power it could tell what it may not know.
        return both.Breaches.Count == 0
            ? Accept(both)
            : Accept(both).SeenBy(Audience.State(transfer.Case, transfer.DetainingPower), Audience.Observers(transfer.Case));
    }

    // What stands against the hand-over and was not acknowledged.
    private static Reason? Unacknowledged(Transfer transfer, ConfirmHandoverRequest request, HandoverSide side, RuleContext context)
    {
        var obstacles = Departures.Obstacles(transfer, context);
        if (side == HandoverSide.Giving)
        {
            foreach (var obstacle in obstacles)
                if (!request.AcknowledgedBreaches.Contains(obstacle.Breach))
                    return obstacle.Reason;
            return null;
        }
        if (obstacles.Count == 0 || request.AcknowledgedBreaches.Count > 0)
            return null;
        // What is missing is not the accepting power's to know; that custody is silent tells nothing of it.
        return obstacles.Any(o => o.Reason == Reason.Unavailable) ? Reason.Unavailable : Reason.DepartureNotCleared;
    }

    private static Ruling? Hindrance(Transfer transfer, RuleContext context) =>
        Departures.Obstacles(transfer, context) is [var first, ..] ? first.Reason : null;

    private static Refusal? Only(bool allowed) => allowed ? null : new Refusal(Reason.NotGranted);

    private static Refusal? CustodyCapacity(RuleContext context) =>
        context.Caller.Capacities.Contains(Capacity.Custody) ? null : new Refusal(Reason.NoCapacity);

    private static bool IsFull<TRequest>(Transfer transfer, TRequest request) => transfer.Acts.Count >= MaxActs;

    private static bool IsAhead(Timestamp time, RuleContext context, TimeSpan atMost) =>
        time.ToDateTimeOffset() is var ahead && ahead > context.Now && ahead - context.Now <= atMost;

    private static bool IsWindow(Timestamp start, Timestamp end, Timestamp? notBefore, RuleContext context) =>
        start <= end
        && end <= context.Time
        && (notBefore is null || notBefore <= start)
        && end.ToDateTimeOffset() - start.ToDateTimeOffset() <= LongestWindow;

    private static bool Differs(Confirmation? other, string? planned, string reference, Timestamp start, Timestamp end) =>
        planned is { Length: > 0 } && planned != reference
        || other is not null && (other.HandoverReference != reference || start > other.WindowEndTime || end < other.WindowStartTime);

    private static Timestamp Latest(Timestamp one, Timestamp another) => one > another ? one : another;

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
