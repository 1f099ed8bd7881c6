using Ministries.Consular.V1;
using Ministries.Custody.V1;
using Ministries.Errors.V1;
using Ministries.Fixtures;
using Ministries.Types.V1;
using State = Ministries.Consular.V1.TransferState;

namespace Ministries.Consular.Tests;

/// <summary>Each invariant from both sides: what it refuses, and what it lets pass.</summary>
public sealed class InvariantTests
{
    private readonly Scene _scene = new();

    // -------------------- D1: one power, one way

    [Fact]
    public void At_most_one_request_per_prisoner_is_agreed()
    {
        _scene.To(State.Agreed);
        Assert.Equal(Reason.AnotherTransferStands, _scene.TryDecide(_scene.To(State.UnderReview)));
        Assert.Equal(Reason.Unspecified, _scene.TryDecide(_scene.To(State.UnderReview, Scene.Second)));
    }

    [Theory]
    [InlineData(State.Scheduled)]
    [InlineData(State.InTransit)]
    [InlineData(State.HandedOver)]
    [InlineData(State.Suspended)]
    public void A_request_further_than_agreed_stands_in_the_way_too(State state)
    {
        var other = _scene.To(State.UnderReview);
        _scene.To(state);
        Assert.Equal(Reason.AnotherTransferStands, _scene.TryDecide(other));
    }

    [Fact]
    public void A_request_withdrawn_stands_in_the_way_no_more()
    {
        var first = _scene.To(State.Agreed);
        var second = _scene.To(State.UnderReview);
        _scene.Do(Scene.Kr, new WithdrawTransferRequestRequest { Transfer = first }, Transfers.WithdrawTransferRequest);
        Assert.Equal(Reason.Unspecified, _scene.TryDecide(second));
    }

    [Fact]
    public void One_side_alone_moves_nothing_and_the_clock_of_the_other_starts()
    {
        var transfer = _scene.To(State.InTransit);
        _scene.Stage.Now += TimeSpan.FromHours(4);
        _scene.Do(Scene.Ua, _scene.Confirmation(transfer), Transfers.ConfirmHandover);
        Assert.Equal(State.InTransit, _scene.Transfer(transfer).State);
        Assert.DoesNotContain(_scene.Stage.Events, e => e is HandoverConfirmed);
        Assert.Equal(_scene.Now.AddHours(72), _scene.Transfer(transfer).SecondConfirmationDueTime.ToDateTimeOffset());
        _scene.Do(Scene.Kr, _scene.Confirmation(transfer), Transfers.ConfirmHandover);
        var both = Assert.Single(_scene.Stage.Events.OfType<HandoverConfirmed>());
        Assert.Equal(
            ("UA", "KR", Scene.Ua, Scene.Kr),
            (both.FromPower, both.ToPower, both.DetainingParticipant, both.AcceptingParticipant)
        );
        Assert.Empty(both.Breaches);
        Assert.Null(_scene.Transfer(transfer).SecondConfirmationDueTime);
    }

    [Fact]
    public void Each_side_confirms_once_and_for_itself()
    {
        var transfer = _scene.To(State.InTransit);
        _scene.Stage.Now += TimeSpan.FromHours(4);
        _scene.Do(Scene.Kr, _scene.Confirmation(transfer), Transfers.ConfirmHandover);
        Assert.Equal(Reason.AlreadyConfirmed, _scene.Try(Scene.Kr, _scene.Confirmation(transfer), Transfers.ConfirmHandover));
        Assert.Equal(Reason.NotFound, _scene.Try(Scene.Ru, _scene.Confirmation(transfer), Transfers.ConfirmHandover));
        Assert.Equal(Reason.NotGranted, _scene.Try(Scene.Icrc, _scene.Confirmation(transfer), Transfers.ConfirmHandover));
        // D4: the detaining power's confirmation is a custody write.
        Assert.Equal(Reason.NoCapacity, _scene.Try(Scene.UaMfa, _scene.Confirmation(transfer), Transfers.ConfirmHandover));
        Assert.Equal(Reason.Unspecified, _scene.Try(Scene.Ua, _scene.Confirmation(transfer), Transfers.ConfirmHandover));
    }

    [Fact]
    public void Both_confirmations_agree_on_reference_and_time()
    {
        var transfer = _scene.To(State.InTransit);
        _scene.Stage.Now += TimeSpan.FromHours(30);
        var wrong = _scene.Confirmation(transfer);
        wrong.HandoverReference = "HO-18";
        Assert.Equal(Reason.ConfirmationsDiffer, _scene.Try(Scene.Ua, wrong, Transfers.ConfirmHandover));
        _scene.Do(Scene.Ua, _scene.Confirmation(transfer), Transfers.ConfirmHandover);
        var earlier = _scene.Confirmation(transfer);
        (earlier.WindowStartTime, earlier.WindowEndTime) = (_scene.In(-10), _scene.In(-9));
        Assert.Equal(Reason.ConfirmationsDiffer, _scene.Try(Scene.Kr, earlier, Transfers.ConfirmHandover));
        earlier.WindowEndTime = _scene.In(-0.5);
        Assert.Equal(Reason.Unspecified, _scene.Try(Scene.Kr, earlier, Transfers.ConfirmHandover));
        Assert.Equal(_scene.In(-1), _scene.Transfer(transfer).HandoverTime);
    }

    [Fact]
    public void What_has_not_been_yet_is_not_confirmed()
    {
        var transfer = _scene.To(State.InTransit);
        var ahead = _scene.Confirmation(transfer);
        ahead.WindowEndTime = _scene.In(1);
        Assert.Equal(Reason.TimeOutOfRange, _scene.Try(Scene.Ua, ahead, Transfers.ConfirmHandover));
    }

    [Fact]
    public void A_hand_over_that_one_side_confirmed_is_neither_called_off_nor_withdrawn()
    {
        var transfer = _scene.To(State.InTransit);
        _scene.Stage.Now += TimeSpan.FromHours(4);
        _scene.Do(Scene.Kr, _scene.Confirmation(transfer), Transfers.ConfirmHandover);
        Assert.Equal(
            Reason.ConfirmedByOneSide,
            _scene.Try(Scene.Ua, new AbortHandoverRequest { Transfer = transfer }, Transfers.AbortHandover)
        );
    }

    [Fact]
    public void Nobody_leaves_who_is_not_held()
    {
        var transfer = _scene.To(State.UnderReview);
        _scene.Happen(
            new StatusRecorded
            {
                Case = _scene.Case,
                Prisoner = Scene.First,
                Held = false,
            }
        );
        Assert.Equal(State.Suspended, _scene.Transfer(transfer).State);
        Assert.Equal(
            Reason.PrisonerNotHeld,
            _scene.Try(Scene.Ua, new ResumeTransferRequest { Transfer = transfer }, Transfers.ResumeTransfer)
        );
        Assert.Equal(
            Reason.PrisonerNotHeld,
            _scene.Try(
                Scene.Kr,
                new DraftTransferRequestRequest
                {
                    Prisoner = Scene.First,
                    Route = Route.Release,
                    Destination = "KR",
                },
                Transfers.DraftTransferRequest
            )
        );
        _scene.Happen(
            new StatusRecorded
            {
                Case = _scene.Case,
                Prisoner = Scene.First,
                Held = true,
            }
        );
        Assert.Equal(Reason.Unspecified, _scene.Try(Scene.Ua, new ResumeTransferRequest { Transfer = transfer }, Transfers.ResumeTransfer));
    }

    [Fact]
    public void An_article_12_transfer_does_not_lead_to_the_power_that_holds_him_and_a_release_may()
    {
        Assert.Equal(
            Reason.DestinationIsDetainingPower,
            _scene.Try(
                Scene.Kr,
                new DraftTransferRequestRequest
                {
                    Prisoner = Scene.First,
                    Route = Route.Article12Transfer,
                    Destination = "UA",
                },
                Transfers.DraftTransferRequest
            )
        );
        var release = _scene.Draft(route: Route.Release, destination: "UA");
        _scene.Do(Scene.Kr, new SubmitTransferRequestRequest { Transfer = release, NoteVerbale = "NV" }, Transfers.SubmitTransferRequest);
        Assert.Equal("KR", _scene.Transfer(release).AcceptingPower);
    }

    // ------------------------------------------------------------------------------------------------- D2: the receiving state

    [Fact]
    public void A_transfer_needs_a_party_to_the_convention()
    {
        var transfer = _scene.Draft(Scene.Xx, destination: "XX");
        _scene.Do(Scene.Xx, new SubmitTransferRequestRequest { Transfer = transfer, NoteVerbale = "NV" }, Transfers.SubmitTransferRequest);
        _scene.Do(Scene.Xx, _scene.Assurance(transfer), Transfers.GiveAssurance);
        _scene.Do(Scene.Ua, new BeginReviewRequest { Transfer = transfer }, Transfers.BeginReview);
        _scene.Do(Scene.Ua, _scene.Assessment(transfer), Transfers.RecordTransfereeAssessment);
        _scene.Custody = Scene.Answer("XX");
        Assert.Equal(Reason.ReceivingStateNotParty, _scene.TryDecide(transfer));
    }

    [Theory]
    [InlineData(Route.Article12Transfer, Reason.AssuranceNotInForce)]
    [InlineData(Route.Release, Reason.Unspecified)]
    [InlineData(Route.Repatriation, Reason.Unspecified)]
    [InlineData(Route.Exchange, Reason.Unspecified)]
    [InlineData(Route.NeutralAccommodation, Reason.Unspecified)]
    public void Assurance_and_assessment_are_asked_of_article_12_transfers(Route route, Reason expected)
    {
        var transfer = _scene.To(State.Submitted, route: route);
        _scene.Do(Scene.Ua, new BeginReviewRequest { Transfer = transfer }, Transfers.BeginReview);
        Assert.Equal(expected, _scene.TryDecide(transfer));
    }

    [Fact]
    public void An_assurance_is_in_force_while_its_time_runs_and_nobody_corrected_it()
    {
        var transfer = _scene.To(State.UnderReview);
        _scene.Stage.Now += TimeSpan.FromDays(31);
        _scene.Do(Scene.Ua, _scene.Assessment(transfer), Transfers.RecordTransfereeAssessment);
        Assert.Equal(Reason.AssuranceNotInForce, _scene.TryDecide(transfer));
        _scene.Do(Scene.Kr, _scene.Assurance(transfer), Transfers.GiveAssurance);
        Assert.Equal(Reason.Unspecified, _scene.TryDecide(transfer));
    }

    [Theory]
    [InlineData(false, true)]
    [InlineData(true, false)]
    public void The_detaining_power_holds_the_receiving_state_willing_and_able(bool willing, bool able)
    {
        var transfer = _scene.To(State.UnderReview);
        _scene.Do(Scene.Ua, _scene.Assessment(transfer, willing, able), Transfers.RecordTransfereeAssessment);
        Assert.Equal(Reason.AssessmentNotInForce, _scene.TryDecide(transfer));
        _scene.Do(Scene.Ua, _scene.Assessment(transfer), Transfers.RecordTransfereeAssessment);
        Assert.Equal(Reason.Unspecified, _scene.TryDecide(transfer));
        _scene.Do(Scene.Ua, _scene.Assessment(transfer, willing, able), Transfers.RecordTransfereeAssessment);
        Assert.Equal(State.Suspended, _scene.Transfer(transfer).State);
    }

    [Fact]
    public void An_assurance_holds_both_undertakings_that_each_must_hold()
    {
        var transfer = _scene.To(State.Submitted);
        var incomplete = _scene.Assurance(transfer);
        incomplete.Undertakings.Remove(Undertaking.NonRefoulement);
        Assert.Equal(Reason.AssuranceIncomplete, _scene.Try(Scene.Kr, incomplete, Transfers.GiveAssurance));
        Assert.Equal(Reason.NotGranted, _scene.Try(Scene.Ua, _scene.Assurance(transfer), Transfers.GiveAssurance));
        Assert.Equal(Reason.TimeOutOfRange, _scene.Try(Scene.Kr, _scene.Assurance(transfer, -1), Transfers.GiveAssurance));
        Assert.Equal(Reason.TimeOutOfRange, _scene.Try(Scene.Kr, _scene.Assurance(transfer, 24 * 4000), Transfers.GiveAssurance));
    }

    // --------------------------------------------------------------------------------------- D9 to D12: what custody is asked

    private static readonly Dictionary<string, (State From, State To, Func<Scene, string, Reason> Try)> Steps = new()
    {
        ["DecideTransfer"] = (State.UnderReview, State.Agreed, (s, t) => s.TryDecide(t)),
        ["ScheduleHandover"] = (State.Agreed, State.Scheduled, (s, t) => s.Try(Scene.Ua, s.Schedule(t), Transfers.ScheduleHandover)),
        ["BeginTransit"] = (
            State.Scheduled,
            State.InTransit,
            (s, t) => s.Try(Scene.Ua, new BeginTransitRequest { Transfer = t }, Transfers.BeginTransit)
        ),
        ["ConfirmHandover"] = (State.InTransit, State.InTransit, (s, t) => s.Try(Scene.Ua, s.Confirmation(t), Transfers.ConfirmHandover)),
        ["ResumeTransfer"] = (
            State.Suspended,
            State.Agreed,
            (s, t) => s.Try(Scene.Ua, new ResumeTransferRequest { Transfer = t }, Transfers.ResumeTransfer)
        ),
    };

    private static readonly Dictionary<Reason, DepartureCheck?> Answers = new()
    {
        [Reason.Unspecified] = Scene.Answer(),
        [Reason.Unavailable] = null,
        [Reason.StandingNotInForce] = Scene.Lost,
        [Reason.FitnessNotRecorded] = Scene.Answer(fit: false),
        [Reason.RiskNotAssessed] = Scene.Answer(risk: false),
        [Reason.DepartureNotFree] = Scene.Answer(free: false),
        [Reason.CustodyAnswerOutdated] = Scene.Answer(position: 1),
    };

    public static TheoryData<string, Route, Reason> EachStep() =>
        [.. from step in Steps.Keys from route in Routes from reason in Answers.Keys select (step, route, reason)];

    public static readonly Route[] Routes =
    [
        Route.Article12Transfer,
        Route.Release,
        Route.Repatriation,
        Route.Exchange,
        Route.NeutralAccommodation,
    ];

    [Theory]
    [MemberData(nameof(EachStep))]
    public void Each_step_of_a_departure_asks_custody_anew(string step, Route route, Reason expected)
    {
        var (from, to, attempt) = Steps[step];
        var transfer = _scene.To(from, route: route);
        _scene.Happen(new FitnessRecorded { Case = _scene.Case, Prisoner = Scene.First });
        _scene.Stage.Now += TimeSpan.FromHours(2);
        var checks = _scene.Transfer(transfer).Checks.Count;
        _scene.Custody = Answers[expected];
        Assert.Equal(expected, attempt(_scene, transfer));
        Assert.Equal(expected == Reason.Unspecified ? to : from, _scene.Transfer(transfer).State);
        if (expected != Reason.Unspecified)
            return;
        var check = _scene.Transfer(transfer).Checks[checks];
        Assert.Equal((step, _scene.CustodyEnd), (check.Step, check.CustodyPosition));
    }

    [Fact]
    public void A_standing_for_another_destination_is_none()
    {
        var transfer = _scene.To(State.UnderReview);
        _scene.Custody = Scene.Answer("KP");
        Assert.Equal(Reason.StandingNotInForce, _scene.TryDecide(transfer));
    }

    [Fact]
    public void A_release_where_he_is_held_is_no_departure_and_rests_on_nothing_of_custody()
    {
        _scene.Custody = null;
        var release = _scene.Draft(route: Route.Release, destination: "UA");
        _scene.Do(Scene.Kr, new SubmitTransferRequestRequest { Transfer = release, NoteVerbale = "NV" }, Transfers.SubmitTransferRequest);
        _scene.Do(Scene.Ua, new BeginReviewRequest { Transfer = release }, Transfers.BeginReview);
        Assert.Equal(Reason.Unspecified, _scene.TryDecide(release));
        _scene.Happen(new StatementRecorded { Case = _scene.Case, Prisoner = Scene.First });
        Assert.Equal(State.Agreed, _scene.Transfer(release).State);
    }

    [Fact]
    public void To_decline_or_to_suspend_custody_need_not_answer()
    {
        var transfer = _scene.To(State.UnderReview);
        _scene.Custody = null;
        Assert.Equal(Reason.Unspecified, _scene.TryDecide(transfer, agreed: false));
    }

    // ----------------------------------------------------------------------------------------------- facts are never refused

    [Fact]
    public void A_hand_over_against_an_invariant_is_refused_until_it_is_acknowledged_and_then_recorded_and_marked()
    {
        var transfer = _scene.To(State.InTransit);
        _scene.Stage.Now += TimeSpan.FromHours(4);
        _scene.Custody = Scene.Answer(standing: Standing.NotInForce, fit: false);
        Assert.Equal(Reason.StandingNotInForce, _scene.Try(Scene.Ua, _scene.Confirmation(transfer), Transfers.ConfirmHandover));
        Assert.Equal(
            Reason.FitnessNotRecorded,
            _scene.Try(Scene.Ua, _scene.Confirmation(transfer, Invariant.D9), Transfers.ConfirmHandover)
        );
        _scene.Do(Scene.Ua, _scene.Confirmation(transfer, Invariant.D9, Invariant.D10), Transfers.ConfirmHandover);
        Assert.Equal(Reason.DepartureNotCleared, _scene.Try(Scene.Kr, _scene.Confirmation(transfer), Transfers.ConfirmHandover));
        var (decision, _) = _scene.Play(Scene.Kr, _scene.Confirmation(transfer, Invariant.D11), Transfers.ConfirmHandover);
        var both = Assert.Single(_scene.Stage.Events.OfType<HandoverConfirmed>());
        Assert.Equal([Invariant.D9, Invariant.D10, Invariant.D11], both.Breaches);
        Assert.True(_scene.MaySee(Scene.Icrc, [.. decision.Audience]));
        Assert.Equal([Invariant.D9, Invariant.D10, Invariant.D11], _scene.Seen(Scene.Icrc, transfer)!.Breaches);
        // Custody judges it once more; what it finds stands beside.
        _scene.Happen(
            new CustodyTransferred
            {
                Case = _scene.Case,
                Prisoner = Scene.First,
                FromPower = "UA",
                ToPower = "KR",
                Breaches = { Invariant.D9, Invariant.D12 },
            }
        );
        Assert.Equal([Invariant.D9, Invariant.D10, Invariant.D11, Invariant.D12], _scene.Transfer(transfer).Breaches);
    }

    [Fact]
    public void A_hand_over_that_took_place_is_recorded_though_custody_is_silent()
    {
        var transfer = _scene.To(State.InTransit);
        _scene.Stage.Now += TimeSpan.FromHours(4);
        _scene.Custody = null;
        Assert.Equal(Reason.Unavailable, _scene.Try(Scene.Ua, _scene.Confirmation(transfer), Transfers.ConfirmHandover));
        _scene.Do(Scene.Ua, _scene.Confirmation(transfer, Invariant.D9, Invariant.D10, Invariant.D11), Transfers.ConfirmHandover);
        _scene.Do(Scene.Kr, _scene.Confirmation(transfer, Invariant.D9), Transfers.ConfirmHandover);
        Assert.Equal(State.HandedOver, _scene.Transfer(transfer).State);
    }

    [Fact]
    public void A_hand_over_during_a_suspension_is_recorded_with_its_breach_of_d1()
    {
        var transfer = _scene.To(State.Suspended, from: State.InTransit);
        _scene.Stage.Now += TimeSpan.FromHours(4);
        Assert.Equal(Reason.StateNotAllowed, _scene.Try(Scene.Ua, _scene.Confirmation(transfer), Transfers.ConfirmHandover));
        _scene.Do(Scene.Ua, _scene.Confirmation(transfer, Invariant.D1), Transfers.ConfirmHandover);
        Assert.Equal(Reason.StateNotAllowed, _scene.Try(Scene.Kr, _scene.Confirmation(transfer), Transfers.ConfirmHandover));
        _scene.Do(Scene.Kr, _scene.Confirmation(transfer, Invariant.D1), Transfers.ConfirmHandover);
        Assert.Equal([Invariant.D1], _scene.Stage.Events.OfType<HandoverConfirmed>().Single().Breaches);
    }

    [Fact]
    public void What_custody_lacks_is_told_to_the_detaining_power_alone()
    {
        foreach (var answer in Answers.Where(a => a.Key != Reason.Unspecified))
        {
            var scene = new Scene();
            var transfer = scene.To(State.InTransit);
            scene.Happen(new FitnessRecorded { Case = scene.Case, Prisoner = Scene.First });
            scene.Stage.Now += TimeSpan.FromHours(4);
            scene.Custody = answer.Value;
            var (decision, _) = scene.Play(Scene.Kr, scene.Confirmation(transfer), Transfers.ConfirmHandover);
            Assert.Equal(answer.Key == Reason.Unavailable ? Reason.Unavailable : Reason.DepartureNotCleared, decision.Refusal!.Reason);
            Assert.Null(decision.Refusal.Metadata);
        }
    }

    // --------------------------------------------------------------------------------------------------- D3: after the hand-over

    [Fact]
    public void A_failure_leads_to_measures_or_to_return_and_the_accepting_power_complies()
    {
        var transfer = _scene.To(State.Monitored);
        _scene.Report(transfer, Scene.Swiss);
        var failure = _scene.Transfer(transfer).Failures.Single().Id;
        Assert.Equal(
            Reason.NotGranted,
            _scene.Try(
                Scene.Kr,
                new RecordCorrectiveMeasuresRequest { Transfer = transfer, Failure = failure },
                Transfers.RecordCorrectiveMeasures
            )
        );
        _scene.Do(
            Scene.Ua,
            new RecordCorrectiveMeasuresRequest
            {
                Transfer = transfer,
                Failure = failure,
                Content = Scene.Sealed(Scene.Icrc),
            },
            Transfers.RecordCorrectiveMeasures
        );
        Assert.Single(_scene.Transfer(transfer).Failures.Single().Measures);
        _scene.Do(Scene.Ua, new RequestReturnRequest { Transfer = transfer, NoteVerbale = "NV" }, Transfers.RequestReturn);
        _scene.Stage.Now += TimeSpan.FromHours(4);
        _scene.Do(Scene.Ua, _scene.ReturnConfirmation(transfer), Transfers.ConfirmReturn);
        Assert.Equal(State.ReturnRequested, _scene.Transfer(transfer).State);
        _scene.Do(Scene.Kr, _scene.ReturnConfirmation(transfer), Transfers.ConfirmReturn);
        var returned = Assert.Single(_scene.Stage.Events.OfType<ReturnConfirmed>());
        Assert.Equal(("KR", "UA"), (returned.FromPower, returned.ToPower));
        Assert.Equal(State.Returned, _scene.Transfer(transfer).State);
        _scene.Do(Scene.Ua, new CloseTransferRequest { Transfer = transfer }, Transfers.CloseTransfer);
    }

    [Fact]
    public void An_observer_reports_where_the_agreement_says_so()
    {
        var transfer = _scene.To(State.Monitored);
        _scene.Stage.Permissions.Agreement.ObserverReportsTreatment = false;
        Assert.Equal(
            Reason.ObserverMayNotReport,
            _scene.Try(
                Scene.Icrc,
                new ReportTreatmentFailureRequest { Transfer = transfer, Articles = { "13" } },
                Transfers.ReportTreatmentFailure
            )
        );
        _scene.Report(transfer, Scene.Swiss);
        Assert.Equal(
            Reason.NotGranted,
            _scene.Try(
                Scene.Kr,
                new ReportTreatmentFailureRequest { Transfer = transfer, Articles = { "13" } },
                Transfers.ReportTreatmentFailure
            )
        );
    }

    [Fact]
    public void The_duties_of_12_3_belong_to_article_12_transfers()
    {
        var transfer = _scene.To(State.Monitored, route: Route.Exchange);
        Assert.Equal(
            Reason.NotAnArticle12Transfer,
            _scene.Try(
                Scene.Icrc,
                new ReportTreatmentFailureRequest { Transfer = transfer, Articles = { "13" } },
                Transfers.ReportTreatmentFailure
            )
        );
    }

    [Theory]
    [InlineData(Route.Article12Transfer, Reason.NotFinallyReleased)]
    [InlineData(Route.Release, Reason.Unspecified)]
    [InlineData(Route.Repatriation, Reason.Unspecified)]
    [InlineData(Route.Exchange, Reason.Unspecified)]
    [InlineData(Route.NeutralAccommodation, Reason.Unspecified)]
    public void Protection_ends_with_final_release_and_the_transfer_closes_then(Route route, Reason expected)
    {
        var transfer = _scene.To(State.Monitored, route: route);
        Assert.Equal(expected, _scene.Try(Scene.Kr, new CloseTransferRequest { Transfer = transfer }, Transfers.CloseTransfer));
        if (expected == Reason.Unspecified)
            return;
        _scene.Happen(
            new StatusRecorded
            {
                Case = _scene.Case,
                Prisoner = Scene.First,
                Held = false,
                Ended = true,
            }
        );
        Assert.Equal(Reason.Unspecified, _scene.Try(Scene.Kr, new CloseTransferRequest { Transfer = transfer }, Transfers.CloseTransfer));
    }

    [Fact]
    public void Who_took_custody_may_agree_to_another_departure_though_the_first_is_monitored()
    {
        _scene.To(State.Monitored);
        var next = _scene.Draft(Scene.Ru, route: Route.Repatriation, destination: "RU");
        _scene.Do(Scene.Ru, new SubmitTransferRequestRequest { Transfer = next, NoteVerbale = "NV" }, Transfers.SubmitTransferRequest);
        Assert.Equal("KR", _scene.Transfer(next).DetainingPower);
        Assert.Equal(Reason.NotFound, _scene.Try(Scene.Ua, new BeginReviewRequest { Transfer = next }, Transfers.BeginReview));
        _scene.Do(Scene.Kr, new BeginReviewRequest { Transfer = next }, Transfers.BeginReview);
        _scene.Custody = Scene.Answer("RU");
        Assert.Equal(
            Reason.Unspecified,
            _scene.Try(
                Scene.Kr,
                new DecideTransferRequest
                {
                    Transfer = next,
                    Agreed = true,
                    NoteVerbale = "NV",
                },
                Transfers.DecideTransfer
            )
        );
    }

    // -------------------- asking again

    [Fact]
    public void Asking_again_after_a_refusal_names_the_request_that_was_declined()
    {
        var declined = _scene.To(State.Declined);
        var again = _scene.Draft();
        var submit = new SubmitTransferRequestRequest { Transfer = again, NoteVerbale = "NV" };
        Assert.Equal(Reason.PreviousRequestNotNamed, _scene.Try(Scene.Kr, submit, Transfers.SubmitTransferRequest));
        Assert.Equal(
            Reason.PreviousRequestNotNamed,
            _scene.Try(Scene.Kr, new SubmitTransferRequestRequest(submit) { PreviousTransfer = again }, Transfers.SubmitTransferRequest)
        );
        _scene.Do(Scene.Kr, new SubmitTransferRequestRequest(submit) { PreviousTransfer = declined }, Transfers.SubmitTransferRequest);
        Assert.Equal(declined, _scene.Transfer(again).PreviousTransfer);
        // Another state's request, or one for another prisoner, was not declined before.
        var other = _scene.Draft(Scene.Ru, destination: "RU");
        _scene.Do(Scene.Ru, new SubmitTransferRequestRequest { Transfer = other, NoteVerbale = "NV" }, Transfers.SubmitTransferRequest);
        Assert.Equal(
            Reason.PreviousRequestNotNamed,
            _scene.Try(
                Scene.Ru,
                new DraftTransferRequestRequest
                {
                    Prisoner = Scene.First,
                    Route = Route.Exchange,
                    Destination = "RU",
                    PreviousTransfer = declined,
                },
                Transfers.DraftTransferRequest
            )
        );
    }

    // -------------------- suspension and resumption

    [Theory]
    [InlineData(State.Submitted)]
    [InlineData(State.UnderReview)]
    [InlineData(State.Agreed)]
    [InlineData(State.Scheduled)]
    [InlineData(State.InTransit)]
    public void A_suspended_transfer_goes_back_by_decision_to_the_stage_that_it_left(State from)
    {
        var transfer = _scene.To(State.Suspended, from: from);
        Assert.Equal(from, _scene.Transfer(transfer).SuspendedFrom);
        Assert.Equal(Reason.NotGranted, _scene.Try(Scene.Kr, new ResumeTransferRequest { Transfer = transfer }, Transfers.ResumeTransfer));
        _scene.Custody = Scene.Lost;
        var early = from is State.Submitted or State.UnderReview;
        Assert.Equal(
            early ? Reason.Unspecified : Reason.StandingNotInForce,
            _scene.Try(Scene.Ua, new ResumeTransferRequest { Transfer = transfer }, Transfers.ResumeTransfer)
        );
        if (early)
            return;
        _scene.Custody = Scene.Answer();
        _scene.Do(Scene.Ua, new ResumeTransferRequest { Transfer = transfer }, Transfers.ResumeTransfer);
        Assert.Equal(from, _scene.Transfer(transfer).State);
    }

    [Fact]
    public void A_hand_over_suspended_on_the_way_is_called_off_and_only_then_withdrawn()
    {
        var transfer = _scene.To(State.Suspended, from: State.InTransit);
        Assert.Equal(
            Reason.StateNotAllowed,
            _scene.Try(Scene.Kr, new WithdrawTransferRequestRequest { Transfer = transfer }, Transfers.WithdrawTransferRequest)
        );
        _scene.Do(Scene.Ua, new AbortHandoverRequest { Transfer = transfer }, Transfers.AbortHandover);
        Assert.Equal((State.Suspended, State.Agreed), (_scene.Transfer(transfer).State, _scene.Transfer(transfer).SuspendedFrom));
        _scene.Do(Scene.Kr, new WithdrawTransferRequestRequest { Transfer = transfer }, Transfers.WithdrawTransferRequest);
    }

    // -------------------- forms and limits

    [Fact]
    public void A_decision_on_what_is_no_longer_so_is_stale()
    {
        var transfer = _scene.To(State.UnderReview);
        var seen = _scene.Etag(Scene.Ua, transfer);
        _scene.Do(Scene.Kr, _scene.Assurance(transfer), Transfers.GiveAssurance);
        Assert.Equal(
            Reason.Stale,
            _scene.Try(Scene.Ua, new DecideTransferRequest { Transfer = transfer, Agreed = true }, Transfers.DecideTransfer, seen)
        );
    }

    [Fact]
    public void The_window_of_a_planned_hand_over_lies_ahead_and_is_bounded()
    {
        var transfer = _scene.To(State.Agreed);
        foreach (var (start, end) in (ReadOnlySpan<(double, double)>)[(2, 1), (-3, -1), (1, 80), (1, 1)])
        {
            var schedule = _scene.Schedule(transfer);
            (schedule.WindowStartTime, schedule.WindowEndTime) = (_scene.In(start), _scene.In(end));
            Assert.Equal(Reason.TimeOutOfRange, _scene.Try(Scene.Ua, schedule, Transfers.ScheduleHandover));
        }
        _scene.Do(Scene.Ua, _scene.Schedule(transfer), Transfers.ScheduleHandover);
    }

    [Fact]
    public void A_closed_case_takes_facts_and_corrections_and_no_decisions()
    {
        var transfer = _scene.To(State.InTransit);
        var other = _scene.To(State.UnderReview, Scene.Second);
        _scene.Happen(new CaseClosed { Case = _scene.Case });
        Assert.Equal(Reason.CaseClosed, _scene.TryDecide(other));
        // Whose act it is comes before whether the case is open, and what is not there before both.
        Assert.Equal(Reason.NotGranted, _scene.Try(Scene.Ua, _scene.Assurance(other), Transfers.GiveAssurance));
        Assert.Equal(Reason.NoCapacity, _scene.Try(Scene.UaMfa, new BeginTransitRequest { Transfer = other }, Transfers.BeginTransit));
        Assert.Equal(
            Reason.NotFound,
            _scene.Try(
                Scene.Ua,
                new BeginReviewRequest { Transfer = Secret.OfTests.IdOf("nobody", "nothing", "transfer") },
                Transfers.BeginReview
            )
        );
        _scene.Stage.Now += TimeSpan.FromHours(4);
        _scene.Do(Scene.Ua, _scene.Confirmation(transfer), Transfers.ConfirmHandover);
        _scene.Do(Scene.Kr, _scene.Confirmation(transfer), Transfers.ConfirmHandover);
    }

    [Fact]
    public void The_record_of_one_transfer_is_bounded()
    {
        var transfer = _scene.To(State.Submitted);
        while (_scene.Transfer(transfer).Acts.Count < Transfers.MaxActs)
            _scene.Do(Scene.Kr, _scene.Assurance(transfer), Transfers.GiveAssurance);
        Assert.Equal(Reason.RecordFull, _scene.Try(Scene.Kr, _scene.Assurance(transfer), Transfers.GiveAssurance));
    }

    // -------------------- corrections

    [Theory]
    [InlineData("GiveAssurance", Reason.AssuranceNotInForce)]
    [InlineData("RecordTransfereeAssessment", Reason.AssessmentNotInForce)]
    public void What_rested_on_a_corrected_act_is_suspended_until_it_is_made_anew(string method, Reason missing)
    {
        var transfer = _scene.To(State.Scheduled);
        var act = _scene.Transfer(transfer).Acts.Single(a => a.Method == method);
        var correct = new V1.CorrectRecordRequest
        {
            Record = transfer,
            Position = act.Position,
            Reason = Scene.Sealed(Scene.Icrc),
        };
        var other = act.Participant == Scene.Kr ? Scene.Ua : Scene.Kr;
        Assert.Equal(Reason.NotCorrectable, _scene.Try(other, new V1.CorrectRecordRequest(correct), Scene.Correct));
        _scene.Do(act.Participant, new V1.CorrectRecordRequest(correct), Scene.Correct);
        Assert.Equal(State.Suspended, _scene.Transfer(transfer).State);
        Assert.Equal(Reason.NotCorrectable, _scene.Try(act.Participant, new V1.CorrectRecordRequest(correct), Scene.Correct));
        Assert.Equal(missing, _scene.Try(Scene.Ua, new ResumeTransferRequest { Transfer = transfer }, Transfers.ResumeTransfer));
        if (method == "GiveAssurance")
            _scene.Do(Scene.Kr, _scene.Assurance(transfer), Transfers.GiveAssurance);
        else
            _scene.Do(Scene.Ua, _scene.Assessment(transfer), Transfers.RecordTransfereeAssessment);
        Assert.Equal(Reason.Unspecified, _scene.Try(Scene.Ua, new ResumeTransferRequest { Transfer = transfer }, Transfers.ResumeTransfer));
    }

    [Fact]
    public void A_confirmation_that_the_other_side_has_not_met_can_be_taken_back()
    {
        var transfer = _scene.To(State.InTransit);
        _scene.Stage.Now += TimeSpan.FromHours(4);
        _scene.Do(Scene.Ua, _scene.Confirmation(transfer), Transfers.ConfirmHandover);
        var position = _scene.Transfer(transfer).Confirmations.Single().Position;
        _scene.Do(Scene.Ua, new V1.CorrectRecordRequest { Record = transfer, Position = position }, Scene.Correct);
        Assert.Empty(_scene.Transfer(transfer).Confirmations);
        Assert.Null(_scene.Transfer(transfer).SecondConfirmationDueTime);
        Assert.Equal(State.Suspended, _scene.Transfer(transfer).State);
        _scene.Do(Scene.Ua, new AbortHandoverRequest { Transfer = transfer }, Transfers.AbortHandover);
    }
}
