using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Ministries.Consular.V1;
using Ministries.Custody.V1;
using Ministries.Errors.V1;
using Ministries.Ledger;
using Ministries.Trust;
using Ministries.Types.V1;
using Route = Ministries.Types.V1.Route;
using State = Ministries.Consular.V1.TransferState;

namespace Ministries.Consular;

/// <summary>Transfer requests: their states, what leads from one to another, what is refused on the way, and who may see it.
/// </summary>
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

    /// <summary>The duty of the side that has not confirmed what the other one did.</summary>
    public const string SecondConfirmation = "second-confirmation";

    /// <summary>The duty to renew an assurance.</summary>
    public const string AssuranceExpiry = "assurance-expiry";

    /// <summary>The duty to renew an assessment of the receiving state.</summary>
    public const string AssessmentExpiry = "assessment-expiry";

    /// <summary>The stream of transfer requests.</summary>
    public static readonly StreamKind<Transfer> Kind = new("transfer", 1, Apply, AudienceOf, KeysOf, DueOf);

    private static readonly State[] BeforeHandover =
    [
        State.Submitted,
        State.UnderReview,
        State.Agreed,
        State.Scheduled,
        State.InTransit,
        State.Suspended,
    ];

    private static readonly State[] AfterHandover = [State.HandedOver, State.Monitored, State.ReturnRequested];

    // What only the detaining power (an assessment: the observers too) may know to have happened.
    private static readonly string[] Reserved = ["SuspendTransfer", "ResumeTransfer", "CorrectRecord", "RecordTransfereeAssessment"];

    /// <summary>Whether the request stands where a planned departure is agreed and not yet done: at most one per
    /// prisoner.</summary>
    public static bool IsUnderWay(State state) => state is State.Agreed or State.Scheduled or State.InTransit;

    // ------------------------------------------------------------------------------------------------------------------ drafts

    /// <summary>The rule of DraftTransferRequest.</summary>
    public static Decision Draft(View view, DraftTransferRequestRequest request, RuleContext act)
    {
        var @case = view.Find(Cases.Kind, request.Case);
        if (Gate.Check(act, request, @case, request.Prisoner) is { } refusal)
            return refusal;
        var held = Held(@case!, request.Prisoner);
        if (held is null)
            return Decision.Refuse(Reason.PrisonerNotHeld);
        if (request.Route == Route.Article12Transfer && request.Destination == held.DetainingPower)
            return Decision.Refuse(Reason.DestinationIsDetainingPower);
        var dossier = view.Find(Dossiers.Kind, Dossiers.Key(request.Case, request.Prisoner));
        if (request.PreviousTransfer.Length > 0 && !Dossiers.Declined(dossier, act.Caller.State).Contains(request.PreviousTransfer))
            return Decision.Refuse(Reason.PreviousRequestNotNamed);
        if (dossier?.Transfers.Count >= Dossiers.MaxRecords)
            return Decision.Refuse(Reason.RecordFull);
        var id = act.NewId("transfer");
        var drafted = new TransferRequestDrafted
        {
            Case = request.Case,
            Transfer = id,
            Prisoner = request.Prisoner,
            Participant = act.Caller.Id,
            Route = request.Route,
            Destination = request.Destination,
            RequestingState = act.Caller.State,
        };
        return Decision.Accept(
            request.Case,
            [Drafter(request.Case, act.Caller.State, act.Caller.Id)],
            [On(drafted, id, request.Case, request.Prisoner)],
            Answer(
                id,
                act,
                (transfer, etag, state) =>
                    new DraftTransferRequestResponse
                    {
                        Transfer = transfer,
                        Etag = etag,
                        State = state,
                    }
            )
        );
    }

    /// <summary>The rule of DiscardDraft.</summary>
    public static Decision Discard(View view, DiscardDraftRequest request, RuleContext act)
    {
        if (
            Enter(view, request, act, request.Case, request.Transfer, request.Etag, Requesting, [State.Drafted], out var transfer) is
            { } refusal
        )
            return refusal;
        var discarded = new DraftDiscarded
        {
            Case = transfer.Case,
            Transfer = transfer.Id,
            Prisoner = transfer.Prisoner,
            Call = transfer.Call,
            Commitment = transfer.Commitment,
        };
        return Accept(
            transfer,
            act,
            discarded,
            AudienceOf(transfer),
            (id, etag, state) =>
                new DiscardDraftResponse
                {
                    Transfer = id,
                    Etag = etag,
                    State = state,
                }
        );
    }

    /// <summary>The rule of SubmitTransferRequest.</summary>
    public static Decision Submit(View view, SubmitTransferRequestRequest request, RuleContext act)
    {
        if (
            Enter(view, request, act, request.Case, request.Transfer, request.Etag, Requesting, [State.Drafted], out var transfer) is
            { } refusal
        )
            return refusal;
        var held = Held(view.Find(Cases.Kind, transfer.Case)!, transfer.Prisoner);
        if (held is null)
            return Decision.Refuse(Reason.PrisonerNotHeld);
        if (transfer.Route == Route.Article12Transfer && transfer.Destination == held.DetainingPower)
            return Decision.Refuse(Reason.DestinationIsDetainingPower);
        var previous = request.PreviousTransfer.Length > 0 ? request.PreviousTransfer : transfer.PreviousTransfer;
        var declined = Dossiers.Declined(view.Find(Dossiers.Kind, Dossiers.Key(transfer)), transfer.RequestingState);
        if (previous.Length > 0 ? !declined.Contains(previous) : declined.Count > 0)
            return Decision.Refuse(Reason.PreviousRequestNotNamed);
        var submitted = new TransferRequestSubmitted
        {
            Case = transfer.Case,
            Transfer = transfer.Id,
            Prisoner = transfer.Prisoner,
            Participant = act.Caller.Id,
            Call = transfer.Call,
            Commitment = transfer.Commitment,
            DetainingPower = held.DetainingPower,
            AcceptingPower = transfer.Destination == held.DetainingPower ? transfer.RequestingState : transfer.Destination,
        };
        return Accept(
            transfer,
            act,
            submitted,
            Sides(transfer.Case, transfer.RequestingState, submitted.DetainingPower, submitted.AcceptingPower),
            (id, etag, state) =>
                new SubmitTransferRequestResponse
                {
                    Transfer = id,
                    Etag = etag,
                    State = state,
                }
        );
    }

    // ------------------------------------------------------------------------------------------------------------------ review

    /// <summary>The rule of BeginReview.</summary>
    public static Decision Review(View view, BeginReviewRequest request, RuleContext act)
    {
        if (
            Enter(view, request, act, request.Case, request.Transfer, request.Etag, Detaining, [State.Submitted], out var transfer) is
            { } refusal
        )
            return refusal;
        if (Held(view, transfer) is null)
            return Decision.Refuse(Reason.PrisonerNotHeld);
        return Accept(
            transfer,
            act,
            new ReviewBegun
            {
                Case = transfer.Case,
                Transfer = transfer.Id,
                Prisoner = transfer.Prisoner,
            },
            AudienceOf(transfer),
            (id, etag, state) =>
                new BeginReviewResponse
                {
                    Transfer = id,
                    Etag = etag,
                    State = state,
                }
        );
    }

    /// <summary>The rule of RecordTransfereeAssessment.</summary>
    public static Decision Assess(View view, RecordTransfereeAssessmentRequest request, RuleContext act)
    {
        if (
            Enter(
                view,
                request,
                act,
                request.Case,
                request.Transfer,
                request.Etag,
                Detaining,
                [State.UnderReview, State.Agreed, State.Scheduled, State.InTransit, State.Suspended],
                out var transfer
            ) is
            { } refusal
        )
            return refusal;
        if (!IsAhead(request.ExpireTime, act, LongestAssessment))
            return Decision.Refuse(Reason.TimeOutOfRange, ("field", "expire_time"));
        if (transfer.Acts.Count >= MaxActs)
            return Decision.Refuse(Reason.RecordFull);
        List<IMessage> events =
        [
            new TransfereeAssessmentRecorded
            {
                Case = transfer.Case,
                Transfer = transfer.Id,
                Prisoner = transfer.Prisoner,
            },
        ];
        if (transfer.Route == Route.Article12Transfer && !(request.Willing && request.Able) && IsUnderWay(transfer.State))
            events.Add(Suspended(transfer));
        return Accept(
            transfer,
            act,
            events,
            [Audience.State(transfer.Case, transfer.DetainingPower), Audience.Observers(transfer.Case)],
            (id, etag, state) =>
                new RecordTransfereeAssessmentResponse
                {
                    Transfer = id,
                    Etag = etag,
                    State = state,
                }
        );
    }

    /// <summary>The rule of GiveAssurance.</summary>
    public static Decision Assure(View view, GiveAssuranceRequest request, RuleContext act)
    {
        if (
            Enter(view, request, act, request.Case, request.Transfer, request.Etag, Accepting, BeforeHandover, out var transfer) is
            { } refusal
        )
            return refusal;
        if (!IsAhead(request.ExpireTime, act, LongestAssurance))
            return Decision.Refuse(Reason.TimeOutOfRange, ("field", "expire_time"));
        if (!request.Undertakings.Contains(Undertaking.ApplyConvention) || !request.Undertakings.Contains(Undertaking.NonRefoulement))
            return Decision.Refuse(Reason.AssuranceIncomplete);
        if (transfer.Acts.Count >= MaxActs)
            return Decision.Refuse(Reason.RecordFull);
        return Accept(
            transfer,
            act,
            new AssuranceGiven
            {
                Case = transfer.Case,
                Transfer = transfer.Id,
                Prisoner = transfer.Prisoner,
                ExpireTime = request.ExpireTime,
            },
            AudienceOf(transfer),
            (id, etag, state) =>
                new GiveAssuranceResponse
                {
                    Transfer = id,
                    Etag = etag,
                    State = state,
                }
        );
    }

    /// <summary>The rule of DecideTransfer. Where it agrees, <see cref="RuleContext.Asked"/> is custody's answer.</summary>
    public static Decision Decide(View view, DecideTransferRequest request, RuleContext act)
    {
        if (
            Enter(view, request, act, request.Case, request.Transfer, request.Etag, Detaining, [State.UnderReview], out var transfer) is
            { } refusal
        )
            return refusal;
        if (request.Agreed && Hindrance(view, transfer, act) is { } hindrance)
            return hindrance;
        return Accept(
            transfer,
            act,
            new TransferDecided
            {
                Case = transfer.Case,
                Transfer = transfer.Id,
                Prisoner = transfer.Prisoner,
                Agreed = request.Agreed,
                CustodyPosition = request.Agreed ? Departure.PositionOf(act.Asked) : 0,
            },
            AudienceOf(transfer),
            (id, etag, state) =>
                new DecideTransferResponse
                {
                    Transfer = id,
                    Etag = etag,
                    State = state,
                }
        );
    }

    // --------------------------------------------------------------------------------------------------------------- hand-over

    /// <summary>The rule of ScheduleHandover. <see cref="RuleContext.Asked"/> is custody's answer.</summary>
    public static Decision Schedule(View view, ScheduleHandoverRequest request, RuleContext act)
    {
        if (
            Enter(
                view,
                request,
                act,
                request.Case,
                request.Transfer,
                request.Etag,
                Detaining,
                [State.Agreed, State.Scheduled],
                out var transfer
            ) is
            { } refusal
        )
            return refusal;
        var start = request.WindowStartTime.ToDateTimeOffset();
        var end = request.WindowEndTime.ToDateTimeOffset();
        if (end <= start || end <= act.Now || end - start > LongestWindow)
            return Decision.Refuse(Reason.TimeOutOfRange, ("field", "window_end_time"));
        if (Hindrance(view, transfer, act) is { } hindrance)
            return hindrance;
        if (transfer.Acts.Count >= MaxActs)
            return Decision.Refuse(Reason.RecordFull);
        return Accept(
            transfer,
            act,
            new HandoverScheduled
            {
                Case = transfer.Case,
                Transfer = transfer.Id,
                Prisoner = transfer.Prisoner,
                CustodyPosition = Departure.PositionOf(act.Asked),
            },
            AudienceOf(transfer),
            (id, etag, state) =>
                new ScheduleHandoverResponse
                {
                    Transfer = id,
                    Etag = etag,
                    State = state,
                }
        );
    }

    /// <summary>The rule of BeginTransit. <see cref="RuleContext.Asked"/> is custody's answer.</summary>
    public static Decision Begin(View view, BeginTransitRequest request, RuleContext act)
    {
        if (
            Enter(
                view,
                request,
                act,
                request.Case,
                request.Transfer,
                request.Etag,
                DetainingCustody,
                [State.Scheduled],
                out var transfer
            ) is
            { } refusal
        )
            return refusal;
        if (Hindrance(view, transfer, act) is { } hindrance)
            return hindrance;
        return Accept(
            transfer,
            act,
            new TransitBegun
            {
                Case = transfer.Case,
                Transfer = transfer.Id,
                Prisoner = transfer.Prisoner,
                CustodyPosition = Departure.PositionOf(act.Asked),
            },
            AudienceOf(transfer),
            (id, etag, state) =>
                new BeginTransitResponse
                {
                    Transfer = id,
                    Etag = etag,
                    State = state,
                }
        );
    }

    /// <summary>The rule of AbortHandover.</summary>
    public static Decision Abort(View view, AbortHandoverRequest request, RuleContext act)
    {
        if (
            Enter(
                view,
                request,
                act,
                request.Case,
                request.Transfer,
                request.Etag,
                DetainingCustody,
                [State.InTransit, State.Suspended],
                out var transfer,
                closedToo: true
            ) is
            { } refusal
        )
            return refusal;
        if (transfer.State == State.Suspended && transfer.SuspendedFrom != State.InTransit)
            return NotAllowed(transfer);
        if (transfer.Confirmations.Count > 0)
            return Decision.Refuse(Reason.ConfirmedByOneSide);
        return Accept(
            transfer,
            act,
            new HandoverAborted
            {
                Case = transfer.Case,
                Transfer = transfer.Id,
                Prisoner = transfer.Prisoner,
            },
            AudienceOf(transfer),
            (id, etag, state) =>
                new AbortHandoverResponse
                {
                    Transfer = id,
                    Etag = etag,
                    State = state,
                }
        );
    }

    /// <summary>The rule of ConfirmHandover. <see cref="RuleContext.Asked"/> is custody's answer; null where it gave none. A fact is
    /// never refused for good: what is missing can be acknowledged.</summary>
    public static Decision Confirm(View view, ConfirmHandoverRequest request, RuleContext act)
    {
        if (
            Enter(
                view,
                request,
                act,
                request.Case,
                request.Transfer,
                request.Etag,
                EitherSide,
                [.. BeforeHandover, State.Declined, State.Withdrawn],
                out var transfer,
                closedToo: true
            ) is
            { } refusal
        )
            return refusal;
        var acknowledged = request.AcknowledgedBreaches;
        if (transfer.State != State.InTransit && !acknowledged.Contains(Invariant.D1))
            return NotAllowed(transfer);
        var side = SideOf(transfer, act.Caller);
        var other = transfer.Confirmations.SingleOrDefault();
        if (other?.Side == side)
            return Decision.Refuse(Reason.AlreadyConfirmed);
        if (!IsWindow(request.WindowStartTime, request.WindowEndTime, transfer.SubmitTime, act))
            return Decision.Refuse(Reason.TimeOutOfRange, ("field", "window_end_time"));
        if (Differs(other, transfer.Plan?.HandoverReference, request.HandoverReference, request.WindowStartTime, request.WindowEndTime))
            return Decision.Refuse(Reason.ConfirmationsDiffer);
        var obstacles = Obstacles(view, transfer, act);
        if (side == HandoverSide.Giving)
        {
            foreach (var obstacle in obstacles)
                if (!acknowledged.Contains(obstacle.Breach))
                    return Decision.Refuse(obstacle.Reason);
        }
        // What is missing is not the accepting power's to know; that custody is silent tells nothing of it.
        else if (obstacles.Count > 0 && acknowledged.Count == 0)
            return Decision.Refuse(obstacles.Any(o => o.Reason == Reason.Unavailable) ? Reason.Unavailable : Reason.DepartureNotCleared);

        var position = Departure.PositionOf(act.Asked);
        if (other is null)
        {
            var confirmed = new HandoverConfirmedByOneSide
            {
                Case = transfer.Case,
                Transfer = transfer.Id,
                Prisoner = transfer.Prisoner,
                Participant = act.Caller.Id,
                Side = side,
                SecondConfirmationDueTime = act.Now.AddHours(act.Permissions.Agreement.ConfirmationHours).ToTimestamp(),
                CustodyPosition = position,
            };
            return Accept(
                transfer,
                act,
                confirmed,
                AudienceOf(transfer),
                (id, etag, state) =>
                    new ConfirmHandoverResponse
                    {
                        Transfer = id,
                        Etag = etag,
                        State = state,
                    }
            );
        }
        Invariant[] breaches = [.. other.AcknowledgedBreaches.Union(acknowledged).Order()];
        var both = new HandoverConfirmed
        {
            Case = transfer.Case,
            Transfer = transfer.Id,
            Prisoner = transfer.Prisoner,
            Route = transfer.Route,
            FromPower = transfer.DetainingPower,
            ToPower = transfer.Destination,
            HandoverTime = Latest(other.WindowStartTime, request.WindowStartTime),
            DetainingParticipant = side == HandoverSide.Giving ? act.Caller.Id : other.Participant,
            AcceptingParticipant = side == HandoverSide.Taking ? act.Caller.Id : other.Participant,
            CustodyPosition = position,
        };
        both.Breaches.Add(breaches);
        // A breach is announced to the observers; to the accepting power it could tell what it may not know.
        string[] audience =
            breaches.Length == 0
                ? [.. AudienceOf(transfer)]
                : [Audience.State(transfer.Case, transfer.DetainingPower), Audience.Observers(transfer.Case)];
        return Accept(
            transfer,
            act,
            both,
            audience,
            (id, etag, state) =>
                new ConfirmHandoverResponse
                {
                    Transfer = id,
                    Etag = etag,
                    State = state,
                }
        );
    }

    // -------------------- suspension, resumption, withdrawal

    /// <summary>The rule of SuspendTransfer.</summary>
    public static Decision Suspend(View view, SuspendTransferRequest request, RuleContext act)
    {
        if (
            Enter(
                view,
                request,
                act,
                request.Case,
                request.Transfer,
                request.Etag,
                Detaining,
                [State.Submitted, State.UnderReview, State.Agreed, State.Scheduled, State.InTransit],
                out var transfer
            ) is
            { } refusal
        )
            return refusal;
        if (transfer.Acts.Count >= MaxActs)
            return Decision.Refuse(Reason.RecordFull);
        return Accept(
            transfer,
            act,
            Suspended(transfer),
            [Audience.State(transfer.Case, transfer.DetainingPower)],
            (id, etag, state) =>
                new SuspendTransferResponse
                {
                    Transfer = id,
                    Etag = etag,
                    State = state,
                }
        );
    }

    /// <summary>The rule of ResumeTransfer. <see cref="RuleContext.Asked"/> is custody's answer where the stage that it left needs
    /// it.</summary>
    public static Decision Resume(View view, ResumeTransferRequest request, RuleContext act)
    {
        if (
            Enter(view, request, act, request.Case, request.Transfer, request.Etag, Detaining, [State.Suspended], out var transfer) is
            { } refusal
        )
            return refusal;
        if (Held(view, transfer) is null)
            return Decision.Refuse(Reason.PrisonerNotHeld);
        var checks = IsUnderWay(transfer.SuspendedFrom);
        if (checks && Hindrance(view, transfer, act) is { } hindrance)
            return hindrance;
        return Accept(
            transfer,
            act,
            new TransferResumed
            {
                Case = transfer.Case,
                Transfer = transfer.Id,
                Prisoner = transfer.Prisoner,
                CustodyPosition = checks ? Departure.PositionOf(act.Asked) : 0,
            },
            [Audience.State(transfer.Case, transfer.DetainingPower)],
            (id, etag, state) =>
                new ResumeTransferResponse
                {
                    Transfer = id,
                    Etag = etag,
                    State = state,
                }
        );
    }

    /// <summary>The rule of WithdrawTransferRequest.</summary>
    public static Decision Withdraw(View view, WithdrawTransferRequestRequest request, RuleContext act)
    {
        if (
            Enter(
                view,
                request,
                act,
                request.Case,
                request.Transfer,
                request.Etag,
                Requesting,
                [State.Submitted, State.UnderReview, State.Agreed, State.Scheduled, State.Suspended],
                out var transfer
            ) is
            { } refusal
        )
            return refusal;
        if (transfer.SuspendedFrom == State.InTransit)
            return NotAllowed(transfer);
        if (transfer.Confirmations.Count > 0)
            return Decision.Refuse(Reason.ConfirmedByOneSide);
        return Accept(
            transfer,
            act,
            new TransferRequestWithdrawn
            {
                Case = transfer.Case,
                Transfer = transfer.Id,
                Prisoner = transfer.Prisoner,
            },
            AudienceOf(transfer),
            (id, etag, state) =>
                new WithdrawTransferRequestResponse
                {
                    Transfer = id,
                    Etag = etag,
                    State = state,
                }
        );
    }

    // -------------------- after the hand-over (12(3))

    /// <summary>The rule of ReportTreatmentFailure.</summary>
    public static Decision ReportFailure(View view, ReportTreatmentFailureRequest request, RuleContext act)
    {
        if (
            Enter(
                view,
                request,
                act,
                request.Case,
                request.Transfer,
                request.Etag,
                Anybody,
                AfterHandover,
                out var transfer,
                closedToo: true
            ) is
            { } refusal
        )
            return refusal;
        if (transfer.Route != Route.Article12Transfer)
            return Decision.Refuse(Reason.NotAnArticle12Transfer);
        if (act.Caller.Kind != ParticipantKind.ProtectingPower && !act.Permissions.Agreement.ObserverReportsTreatment)
            return Decision.Refuse(Reason.ObserverMayNotReport);
        if (transfer.Acts.Count >= MaxActs)
            return Decision.Refuse(Reason.RecordFull);
        return Accept(
            transfer,
            act,
            new TreatmentFailureReported
            {
                Case = transfer.Case,
                Transfer = transfer.Id,
                Prisoner = transfer.Prisoner,
                Failure = act.NewId("failure"),
            },
            AudienceOf(transfer),
            (id, etag, state) =>
                new ReportTreatmentFailureResponse
                {
                    Transfer = id,
                    Etag = etag,
                    State = state,
                }
        );
    }

    /// <summary>The rule of RecordCorrectiveMeasures.</summary>
    public static Decision RecordMeasures(View view, RecordCorrectiveMeasuresRequest request, RuleContext act)
    {
        if (
            Enter(
                view,
                request,
                act,
                request.Case,
                request.Transfer,
                request.Etag,
                Detaining,
                AfterHandover,
                out var transfer,
                closedToo: true
            ) is
            { } refusal
        )
            return refusal;
        if (transfer.Route != Route.Article12Transfer)
            return Decision.Refuse(Reason.NotAnArticle12Transfer);
        if (transfer.Failures.All(f => f.Id != request.Failure))
            return Decision.Refuse(Reason.NoFailureReported);
        if (transfer.Acts.Count >= MaxActs)
            return Decision.Refuse(Reason.RecordFull);
        return Accept(
            transfer,
            act,
            new CorrectiveMeasuresRecorded
            {
                Case = transfer.Case,
                Transfer = transfer.Id,
                Prisoner = transfer.Prisoner,
                Failure = request.Failure,
            },
            AudienceOf(transfer),
            (id, etag, state) =>
                new RecordCorrectiveMeasuresResponse
                {
                    Transfer = id,
                    Etag = etag,
                    State = state,
                }
        );
    }

    /// <summary>The rule of RequestReturn.</summary>
    public static Decision RequestReturn(View view, RequestReturnRequest request, RuleContext act)
    {
        if (
            Enter(
                view,
                request,
                act,
                request.Case,
                request.Transfer,
                request.Etag,
                Detaining,
                [State.HandedOver, State.Monitored],
                out var transfer,
                closedToo: true
            ) is
            { } refusal
        )
            return refusal;
        if (transfer.Route != Route.Article12Transfer)
            return Decision.Refuse(Reason.NotAnArticle12Transfer);
        if (transfer.Failures.Count == 0)
            return Decision.Refuse(Reason.NoFailureReported);
        return Accept(
            transfer,
            act,
            new ReturnRequested
            {
                Case = transfer.Case,
                Transfer = transfer.Id,
                Prisoner = transfer.Prisoner,
            },
            AudienceOf(transfer),
            (id, etag, state) =>
                new RequestReturnResponse
                {
                    Transfer = id,
                    Etag = etag,
                    State = state,
                }
        );
    }

    /// <summary>The rule of ConfirmReturn. The accepting power of the hand-over gives back, the other one takes.</summary>
    public static Decision ConfirmReturn(View view, ConfirmReturnRequest request, RuleContext act)
    {
        if (
            Enter(
                view,
                request,
                act,
                request.Case,
                request.Transfer,
                request.Etag,
                EitherSideOfReturn,
                [State.ReturnRequested],
                out var transfer,
                closedToo: true
            ) is
            { } refusal
        )
            return refusal;
        var side = Acts.ActsFor(act.Caller, transfer.AcceptingPower) ? HandoverSide.Giving : HandoverSide.Taking;
        var other = transfer.ReturnConfirmations.SingleOrDefault();
        if (other?.Side == side)
            return Decision.Refuse(Reason.AlreadyConfirmed);
        if (!IsWindow(request.WindowStartTime, request.WindowEndTime, transfer.HandoverTime, act))
            return Decision.Refuse(Reason.TimeOutOfRange, ("field", "window_end_time"));
        if (Differs(other, null, request.HandoverReference, request.WindowStartTime, request.WindowEndTime))
            return Decision.Refuse(Reason.ConfirmationsDiffer);
        IMessage confirmed = other is null
            ? new ReturnConfirmedByOneSide
            {
                Case = transfer.Case,
                Transfer = transfer.Id,
                Prisoner = transfer.Prisoner,
                Participant = act.Caller.Id,
                Side = side,
                SecondConfirmationDueTime = act.Now.AddHours(act.Permissions.Agreement.ConfirmationHours).ToTimestamp(),
            }
            : new ReturnConfirmed
            {
                Case = transfer.Case,
                Transfer = transfer.Id,
                Prisoner = transfer.Prisoner,
                FromPower = transfer.AcceptingPower,
                ToPower = transfer.DetainingPower,
                ReturnTime = Latest(other.WindowStartTime, request.WindowStartTime),
            };
        return Accept(
            transfer,
            act,
            confirmed,
            AudienceOf(transfer),
            (id, etag, state) =>
                new ConfirmReturnResponse
                {
                    Transfer = id,
                    Etag = etag,
                    State = state,
                }
        );
    }

    /// <summary>The rule of CloseTransfer.</summary>
    public static Decision Close(View view, CloseTransferRequest request, RuleContext act)
    {
        if (
            Enter(
                view,
                request,
                act,
                request.Case,
                request.Transfer,
                request.Etag,
                EitherPower,
                [State.Monitored, State.Returned],
                out var transfer,
                closedToo: true
            ) is
            { } refusal
        )
            return refusal;
        if (
            transfer.State == State.Monitored
            && view.Find(Cases.Kind, transfer.Case)!.Prisoners.Any(p => p.Prisoner == transfer.Prisoner && p.DetainingPower.Length > 0)
        )
            return Decision.Refuse(Reason.NotFinallyReleased);
        return Accept(
            transfer,
            act,
            new TransferClosed
            {
                Case = transfer.Case,
                Transfer = transfer.Id,
                Prisoner = transfer.Prisoner,
            },
            AudienceOf(transfer),
            (id, etag, state) =>
                new CloseTransferResponse
                {
                    Transfer = id,
                    Etag = etag,
                    State = state,
                }
        );
    }

    /// <summary>The rule of CorrectRecord, where the record is a transfer request.</summary>
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
                Anybody,
                System.Enum.GetValues<State>(),
                out var transfer,
                closedToo: true
            ) is
            { } refusal
        )
            return refusal;
        var corrected = transfer.Acts.FirstOrDefault(a => a.Position == request.Position);
        if (corrected is null || corrected.Corrected || corrected.Participant != act.Caller.Id || corrected.Method == "CorrectRecord")
            return Decision.Refuse(Reason.NotCorrectable);
        List<IMessage> events =
        [
            new V1.RecordCorrected
            {
                Case = transfer.Case,
                Record = transfer.Id,
                Position = request.Position,
                Participant = act.Caller.Id,
            },
        ];
        var suspends = BeforeHandover.Contains(transfer.State) && transfer.State != State.Suspended;
        if (suspends)
            events.Add(Suspended(transfer));
        // Whoever else may see the record sees that it is suspended, not why.
        return Accept(
            transfer,
            act,
            events,
            suspends || Reserved.Contains(corrected.Method) ? [] : AudienceOf(transfer),
            (id, etag, _) => new V1.CorrectRecordResponse { Record = id, Etag = etag }
        );
    }

    // -------------------- what is asked

    /// <summary>What stands against a planned departure now, in the order of the refusals. Each with the invariant that a
    /// departure all the same would breach.</summary>
    /// <param name="view">The states.</param>
    /// <param name="transfer">The transfer request.</param>
    /// <param name="act">The act; <see cref="RuleContext.Asked"/> is custody's answer or null.</param>
    public static IReadOnlyList<(Invariant Breach, Reason Reason)> Obstacles(View view, Transfer transfer, RuleContext act)
    {
        var obstacles = new List<(Invariant, Reason)>();
        var dossier = view.Find(Dossiers.Kind, Dossiers.Key(transfer));
        if (Held(view, transfer) is null)
            obstacles.Add((Invariant.D1, Reason.PrisonerNotHeld));
        if (dossier is { ActiveTransfer.Length: > 0 } && dossier.ActiveTransfer != transfer.Id)
            obstacles.Add((Invariant.D1, Reason.AnotherTransferStands));
        if (transfer.Route == Route.Article12Transfer)
        {
            if (act.Permissions.State(transfer.AcceptingPower) is not { PartyToGc3: true })
                obstacles.Add((Invariant.D2, Reason.ReceivingStateNotParty));
            if (transfer.Assurance is not { Corrected: false, Expired: false } assurance || assurance.ExpireTime <= act.Time)
                obstacles.Add((Invariant.D2, Reason.AssuranceNotInForce));
            if (
                transfer.Assessment is not { Corrected: false, Expired: false, Willing: true, Able: true } assessment
                || assessment.ExpireTime <= act.Time
            )
                obstacles.Add((Invariant.D2, Reason.AssessmentNotInForce));
        }
        if (!Departure.IsPlanned(transfer))
            return obstacles;
        if (Departure.Unusable(act.Asked, dossier) is { } unusable)
        {
            obstacles.AddRange([(Invariant.D9, unusable), (Invariant.D10, unusable), (Invariant.D11, unusable)]);
            return obstacles;
        }
        obstacles.AddRange(Departure.Obstacles((DepartureCheck)act.Asked!, transfer.Destination));
        return obstacles;
    }

    private static Refusal? Hindrance(View view, Transfer transfer, RuleContext act) =>
        Obstacles(view, transfer, act) is [var first, ..] ? new Refusal(first.Reason) : null;

    /// <summary>The neutral event of a suspension.</summary>
    public static TransferSuspended Suspended(Transfer transfer) =>
        new()
        {
            Case = transfer.Case,
            Transfer = transfer.Id,
            Prisoner = transfer.Prisoner,
        };

    /// <summary>A change of the request and of its prisoner's dossier.</summary>
    public static Change On(IMessage @event, Transfer transfer) => On(@event, transfer.Id, transfer.Case, transfer.Prisoner);

    private static Change On(IMessage @event, string id, string @case, string prisoner) =>
        new(@event, [Kind.Id(id), Dossiers.Kind.Id(Dossiers.Key(@case, prisoner))]);

    private static CasePrisoner? Held(Case @case, string prisoner) =>
        @case.Prisoners.FirstOrDefault(p => p.Prisoner == prisoner) is { Held: true } held ? held : null;

    private static CasePrisoner? Held(View view, Transfer transfer) =>
        view.Find(Cases.Kind, transfer.Case) is { } @case
        && Held(@case, transfer.Prisoner) is { } held
        && held.DetainingPower == transfer.DetainingPower
            ? held
            : null;

    private static Refusal? Requesting(Transfer transfer, RuleContext act) =>
        Acts.ActsFor(act.Caller, transfer.RequestingState) ? null : new Refusal(Reason.NotGranted);

    // A draft is submitted to nobody yet: its state, not the side, is what refuses.
    private static Refusal? Accepting(Transfer transfer, RuleContext act) =>
        transfer.AcceptingPower.Length == 0 || Acts.ActsFor(act.Caller, transfer.AcceptingPower) ? null : new Refusal(Reason.NotGranted);

    private static Refusal? Detaining(Transfer transfer, RuleContext act) =>
        Acts.ActsFor(act.Caller, transfer.DetainingPower) ? null : new Refusal(Reason.NotGranted);

    // What changes the custody of the caller's own state is a custody write (D4).
    private static Refusal? DetainingCustody(Transfer transfer, RuleContext act) => Detaining(transfer, act) ?? CustodyCapacity(act);

    private static Refusal? CustodyCapacity(RuleContext act) =>
        act.Caller.Capacities.Contains(Capacity.Custody) ? null : new Refusal(Reason.NoCapacity);

    private static Refusal? EitherSide(Transfer transfer, RuleContext act) =>
        Acts.ActsFor(act.Caller, transfer.DetainingPower) ? CustodyCapacity(act) : Accepting(transfer, act);

    private static Refusal? EitherSideOfReturn(Transfer transfer, RuleContext act) =>
        Acts.ActsFor(act.Caller, transfer.AcceptingPower) ? CustodyCapacity(act) : Detaining(transfer, act);

    private static Refusal? EitherPower(Transfer transfer, RuleContext act) =>
        Acts.ActsFor(act.Caller, transfer.AcceptingPower) ? null : Detaining(transfer, act);

    private static Refusal? Anybody(Transfer transfer, RuleContext act) => null;

    private static HandoverSide SideOf(Transfer transfer, Participant caller) =>
        Acts.ActsFor(caller, transfer.DetainingPower) ? HandoverSide.Giving : HandoverSide.Taking;

    private static Refusal NotAllowed(Transfer transfer) =>
        new(Reason.StateNotAllowed, new Dictionary<string, string> { ["record"] = transfer.Id });

    private static bool IsAhead(Timestamp time, RuleContext act, TimeSpan atMost) =>
        time.ToDateTimeOffset() is var ahead && ahead > act.Now && ahead - act.Now <= atMost;

    private static bool IsWindow(Timestamp start, Timestamp end, Timestamp? notBefore, RuleContext act) =>
        start <= end
        && end <= act.Time
        && (notBefore is null || notBefore <= start)
        && end.ToDateTimeOffset() - start.ToDateTimeOffset() <= LongestWindow;

    private static bool Differs(Confirmation? other, string? planned, string reference, Timestamp start, Timestamp end) =>
        planned is { Length: > 0 } && planned != reference
        || other is not null && (other.HandoverReference != reference || start > other.WindowEndTime || end < other.WindowStartTime);

    private static Timestamp Latest(Timestamp one, Timestamp another) => one > another ? one : another;

    /// <summary>What every act on an existing request is asked first: the gate, need to know, the caller's side, what it saw, the
    /// state.</summary>
    private static Refusal? Enter(
        View view,
        IMessage request,
        RuleContext act,
        string @case,
        string id,
        string etag,
        Func<Transfer, RuleContext, Refusal?> side,
        State[] from,
        out Transfer transfer,
        bool closedToo = false
    )
    {
        var open = view.Find(Cases.Kind, @case);
        transfer = view.Find(Kind, id)!;
        // What the caller may not see takes the same way as what is not there.
        if (transfer is not null && (transfer.Case != @case || open is null || !Cases.MaySee(act.Caller, open, [.. AudienceOf(transfer)])))
            transfer = null!;
        if (transfer is null)
            return new Refusal(Reason.NotFound);
        var found = transfer;
        return Gate.Check(act, request, open, found.Prisoner, closedToo: closedToo, side: () => side(found, act))
            ?? Gate.Saw(act, etag, Show(transfer, act.Caller))
            ?? (from.Contains(transfer.State) ? null : NotAllowed(transfer));
    }

    private static Decision Accept(
        Transfer transfer,
        RuleContext act,
        IMessage @event,
        IEnumerable<string> audience,
        Func<string, string, State, IMessage> answer
    ) => Accept(transfer, act, [@event], audience, answer);

    private static Decision Accept(
        Transfer transfer,
        RuleContext act,
        IReadOnlyList<IMessage> events,
        IEnumerable<string> audience,
        Func<string, string, State, IMessage> answer
    ) => Decision.Accept(transfer.Case, [.. audience], [.. events.Select(e => On(e, transfer))], Answer(transfer.Id, act, answer));

    private static Func<View, IMessage> Answer(string id, RuleContext act, Func<string, string, State, IMessage> answer) =>
        after =>
        {
            var transfer = after.Find(Kind, id)!;
            return answer(id, act.EtagOf(Show(transfer, act.Caller)), transfer.State);
        };

    // -------------------- the fold

    private static void Apply(Transfer transfer, IMessage @event, FoldedEntry entry)
    {
        switch (@event)
        {
            case TransferRequestDrafted e:
                (transfer.Id, transfer.Case, transfer.Prisoner, transfer.Route) = (e.Transfer, e.Case, e.Prisoner, e.Route);
                (transfer.Destination, transfer.Participant, transfer.RequestingState) = (e.Destination, e.Participant, e.RequestingState);
                (transfer.Call, transfer.Commitment, transfer.DraftTime) = (e.Call, e.Commitment, entry.Time);
                transfer.State = State.Drafted;
                if (entry.Request is DraftTransferRequestRequest draft)
                    (transfer.PreviousTransfer, transfer.Content) = (draft.PreviousTransfer, Acts.Kept(draft.Content));
                break;
            case DraftDiscarded:
                transfer.State = State.Discarded;
                break;
            case TransferRequestSubmitted e:
                (transfer.DetainingPower, transfer.AcceptingPower, transfer.SubmitTime) = (e.DetainingPower, e.AcceptingPower, entry.Time);
                transfer.State = State.Submitted;
                if (entry.Request is SubmitTransferRequestRequest submit)
                {
                    if (submit.PreviousTransfer.Length > 0)
                        transfer.PreviousTransfer = submit.PreviousTransfer;
                    if (submit.Content is not null)
                        transfer.Content = Acts.Kept(submit.Content);
                }
                break;
            case ReviewBegun:
                transfer.State = State.UnderReview;
                break;
            case TransfereeAssessmentRecorded:
                var assess = entry.Request as RecordTransfereeAssessmentRequest;
                transfer.Assessment = new TransfereeAssessment
                {
                    Participant = entry.Participant,
                    Official = assess?.Actor?.Official ?? "",
                    Willing = assess?.Willing ?? false,
                    Able = assess?.Able ?? false,
                    RecordTime = entry.Time,
                    ExpireTime = assess?.ExpireTime ?? entry.Time,
                    Content = Acts.Kept(assess?.Content),
                    Position = entry.Position,
                };
                break;
            case AssuranceGiven e:
                var assure = entry.Request as GiveAssuranceRequest;
                transfer.Assurance = new Assurance
                {
                    Participant = entry.Participant,
                    NoteVerbale = assure?.NoteVerbale ?? "",
                    GiveTime = entry.Time,
                    ExpireTime = e.ExpireTime,
                    Position = entry.Position,
                };
                if (assure is not null)
                    transfer.Assurance.Undertakings.Add(assure.Undertakings);
                break;
            case TransferDecided e:
                transfer.State = e.Agreed ? State.Agreed : State.Declined;
                transfer.Decision = new TransferDecision
                {
                    Agreed = e.Agreed,
                    Participant = entry.Participant,
                    DecideTime = entry.Time,
                    NoteVerbale = (entry.Request as DecideTransferRequest)?.NoteVerbale ?? "",
                };
                Checked(e.CustodyPosition);
                break;
            case HandoverScheduled e:
                transfer.State = State.Scheduled;
                if (entry.Request is ScheduleHandoverRequest plan)
                    transfer.Plan = new HandoverPlan
                    {
                        HandoverReference = plan.HandoverReference,
                        WindowStartTime = plan.WindowStartTime,
                        WindowEndTime = plan.WindowEndTime,
                        Place = Acts.Kept(plan.Place),
                        Participant = entry.Participant,
                    };
                Checked(e.CustodyPosition);
                break;
            case TransitBegun e:
                transfer.State = State.InTransit;
                Checked(e.CustodyPosition);
                break;
            case HandoverAborted:
                if (transfer.State == State.Suspended)
                    transfer.SuspendedFrom = State.Agreed;
                else
                    transfer.State = State.Agreed;
                transfer.Plan = null;
                break;
            case HandoverConfirmedByOneSide e:
                transfer.Confirmations.Add(Confirmed(e.Side, entry));
                transfer.SecondConfirmationDueTime = e.SecondConfirmationDueTime;
                Checked(e.CustodyPosition);
                break;
            case HandoverConfirmed e:
                transfer.Confirmations.Add(
                    Confirmed(entry.Participant == e.DetainingParticipant ? HandoverSide.Giving : HandoverSide.Taking, entry)
                );
                (transfer.State, transfer.SuspendedFrom, transfer.HandoverTime) = (State.HandedOver, State.Unspecified, e.HandoverTime);
                transfer.Breaches.Add(e.Breaches);
                ClockStops();
                Checked(e.CustodyPosition);
                break;
            case TransferSuspended when transfer.State != State.Suspended:
                (transfer.SuspendedFrom, transfer.State) = (transfer.State, State.Suspended);
                break;
            case TransferResumed e:
                (transfer.State, transfer.SuspendedFrom) = (transfer.SuspendedFrom, State.Unspecified);
                Checked(e.CustodyPosition);
                break;
            case TransferRequestWithdrawn:
                (transfer.State, transfer.SuspendedFrom) = (State.Withdrawn, State.Unspecified);
                break;
            case CustodyTransferred e when transfer.State == State.HandedOver:
                Monitored(e.Breaches);
                break;
            case DepartureRecorded e when transfer.State == State.HandedOver:
                Monitored(e.Breaches);
                break;
            case TreatmentFailureReported e:
                var report = entry.Request as ReportTreatmentFailureRequest;
                var failure = new TreatmentFailure
                {
                    Id = e.Failure,
                    Participant = entry.Participant,
                    ReportTime = entry.Time,
                    Content = Acts.Kept(report?.Content),
                };
                if (report is not null)
                    failure.Articles.Add(report.Articles);
                transfer.Failures.Add(failure);
                break;
            case CorrectiveMeasuresRecorded e:
                transfer
                    .Failures.Single(f => f.Id == e.Failure)
                    .Measures.Add(
                        new CorrectiveMeasures
                        {
                            Participant = entry.Participant,
                            RecordTime = entry.Time,
                            Content = Acts.Kept((entry.Request as RecordCorrectiveMeasuresRequest)?.Content),
                        }
                    );
                break;
            case ReturnRequested:
                transfer.State = State.ReturnRequested;
                break;
            case ReturnConfirmedByOneSide e:
                transfer.ReturnConfirmations.Add(Confirmed(e.Side, entry));
                transfer.SecondConfirmationDueTime = e.SecondConfirmationDueTime;
                break;
            case ReturnConfirmed e:
                transfer.ReturnConfirmations.Add(
                    Confirmed(
                        transfer.ReturnConfirmations[0].Side == HandoverSide.Giving ? HandoverSide.Taking : HandoverSide.Giving,
                        entry
                    )
                );
                (transfer.State, transfer.ReturnTime) = (State.Returned, e.ReturnTime);
                ClockStops();
                break;
            case TransferClosed:
                (transfer.State, transfer.CloseTime) = (State.Closed, entry.Time);
                break;
            case V1.DutyFellDue e:
                if (e.Duty == SecondConfirmation)
                    transfer.SecondConfirmationOverdue = true;
                else if (e.Duty == AssuranceExpiry)
                    transfer.Assurance.Expired = true;
                else if (e.Duty == AssessmentExpiry)
                    transfer.Assessment.Expired = true;
                break;
            case V1.RecordCorrected e:
                Void(e.Position);
                break;
        }
        Acts.Note(transfer.Acts, entry);

        void Checked(ulong position)
        {
            if (position > 0)
                transfer.Checks.Add(
                    new CustodyCheck
                    {
                        Step = Acts.MethodOf(entry),
                        CheckTime = entry.Time,
                        CustodyPosition = position,
                    }
                );
        }

        // Custody judges the hand-over once more in the commit that records it.
        void Monitored(IEnumerable<Invariant> breaches)
        {
            transfer.State = State.Monitored;
            transfer.Breaches.Add(breaches.Except(transfer.Breaches).ToArray());
        }

        void ClockStops() => (transfer.SecondConfirmationDueTime, transfer.SecondConfirmationOverdue) = (null, false);

        void Void(ulong position)
        {
            foreach (var act in transfer.Acts)
                act.Corrected |= act.Position == position;
            if (transfer.Assurance?.Position == position)
                transfer.Assurance.Corrected = true;
            if (transfer.Assessment?.Position == position)
                transfer.Assessment.Corrected = true;
            // Once both sides have confirmed, custody has passed, and what was said stands beside its correction.
            if (BeforeHandover.Contains(transfer.State) || transfer.State is State.Declined or State.Withdrawn)
                TakeBack(transfer.Confirmations);
            if (transfer.State == State.ReturnRequested)
                TakeBack(transfer.ReturnConfirmations);

            void TakeBack(Google.Protobuf.Collections.RepeatedField<Confirmation> confirmations)
            {
                if (confirmations.SingleOrDefault(c => c.Position == position) is not { } taken)
                    return;
                confirmations.Remove(taken);
                ClockStops();
            }
        }
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
                break;
        }
        return confirmation;
    }

    // ------------------------------------------------------------------------------------------------------------- who sees what

    private static IEnumerable<string> Sides(string @case, params string[] states) =>
        [.. states.Distinct().Select(s => Audience.State(@case, s)), Audience.Observers(@case)];

    /// <summary>Who sees a draft: the participant for which it was made, while it is party to the case.</summary>
    public static string Drafter(string @case, string state, string participant) =>
        Audience.Named(Audience.State(@case, state), participant);

    internal static IEnumerable<string> AudienceOf(Transfer transfer) =>
        transfer.DetainingPower.Length == 0
            ? [Drafter(transfer.Case, transfer.RequestingState, transfer.Participant)]
            : Sides(transfer.Case, transfer.RequestingState, transfer.DetainingPower, transfer.AcceptingPower);

    /// <summary>The request as the reader may know it: what is another's to know is left out, as if it were not there.</summary>
    /// <param name="transfer">The request.</param>
    /// <param name="reader">Who reads; one who may see the request.</param>
    public static Transfer Show(Transfer transfer, Participant reader)
    {
        var shown = transfer.Clone();
        var requesting = Acts.ActsFor(reader, transfer.RequestingState);
        var detaining = Acts.ActsFor(reader, transfer.DetainingPower);
        var observing = Acts.IsNeutral(reader);
        if (!requesting)
        {
            shown.DraftTime = null;
            shown.Withheld.Add("draft_time");
        }
        if (!detaining)
        {
            shown.Checks.Clear();
            shown.Withheld.Add("checks");
            if (!observing)
            {
                shown.Assessment = null;
                shown.Breaches.Clear();
                shown.Withheld.Add(["assessment", "breaches"]);
            }
        }
        shown.Withheld.Add("acts");
        ShowConfirmations(shown.Confirmations, transfer.AcceptingPower, transfer.DetainingPower);
        ShowConfirmations(shown.ReturnConfirmations, transfer.DetainingPower, transfer.AcceptingPower);
        shown.Content = Acts.Opened(shown.Content, transfer.Participant, reader);
        if (shown.Assessment is { } assessment)
            assessment.Content = Acts.Opened(assessment.Content, assessment.Participant, reader);
        if (shown.Plan is { } plan)
            plan.Place = Acts.Opened(plan.Place, plan.Participant, reader);
        foreach (var failure in shown.Failures)
        {
            failure.Content = Acts.Opened(failure.Content, failure.Participant, reader);
            foreach (var measures in failure.Measures)
                measures.Content = Acts.Opened(measures.Content, measures.Participant, reader);
        }
        Acts.Show(
            shown.Acts,
            act =>
                act.Participant == reader.Id
                || act.Method switch
                {
                    "DraftTransferRequest" => requesting,
                    "RecordTransfereeAssessment" => detaining || observing,
                    "SuspendTransfer" or "ResumeTransfer" => detaining,
                    "CorrectRecord" => false,
                    _ => true,
                }
        );
        return shown;

        void ShowConfirmations(IEnumerable<Confirmation> confirmations, string taking, string giving)
        {
            var both = confirmations.Count() == 2;
            foreach (var confirmation in confirmations)
            {
                var own = Acts.ActsFor(reader, confirmation.Side == HandoverSide.Giving ? giving : taking);
                if (own || observing)
                    continue;
                confirmation.AcknowledgedBreaches.Clear();
                confirmation.Withheld.Add("acknowledged_breaches");
                if (both)
                    continue;
                (confirmation.WindowStartTime, confirmation.WindowEndTime, confirmation.HandoverReference) = (null, null, "");
                confirmation.Withheld.Add(["window_start_time", "window_end_time", "handover_reference"]);
            }
        }
    }

    private static IEnumerable<string> KeysOf(Transfer transfer)
    {
        yield return $"case:{transfer.Case}";
        yield return $"prisoner:{Dossiers.Key(transfer)}";
        yield return $"state:{transfer.State}";
        yield return $"route:{transfer.Route}";
        if (transfer.Call.Length > 0)
            yield return $"call:{transfer.Call}";
    }

    /// <summary>The duties of the request that have not been recorded yet, with the times at which they fall due.</summary>
    public static IEnumerable<(string Duty, DateTimeOffset Due)> DutiesOf(Transfer transfer)
    {
        if (transfer is { SecondConfirmationDueTime: { } due, SecondConfirmationOverdue: false })
            yield return (SecondConfirmation, due.ToDateTimeOffset());
        if (!BeforeHandover.Contains(transfer.State))
            yield break;
        if (transfer.Assurance is { Corrected: false, Expired: false } assurance)
            yield return (AssuranceExpiry, assurance.ExpireTime.ToDateTimeOffset());
        if (transfer.Assessment is { Corrected: false, Expired: false } assessment)
            yield return (AssessmentExpiry, assessment.ExpireTime.ToDateTimeOffset());
    }

    private static DateTimeOffset? DueOf(Transfer transfer) => DutiesOf(transfer).Select(d => (DateTimeOffset?)d.Due).Min();
}
