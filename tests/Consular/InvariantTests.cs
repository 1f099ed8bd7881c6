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
    private readonly CaseFixture _fixture = new();

    // -------------------- D1: one power, one way

    [Fact]
    public void At_most_one_request_per_prisoner_is_agreed()
    {
        _fixture.To(State.Agreed);
        Assert.Equal(Reason.AnotherTransferStands, _fixture.TryDecide(_fixture.To(State.UnderReview)));
        Assert.Equal(Reason.Unspecified, _fixture.TryDecide(_fixture.To(State.UnderReview, CaseFixture.Second)));
    }

    [Theory]
    [InlineData(State.Scheduled)]
    [InlineData(State.InTransit)]
    [InlineData(State.HandedOver)]
    public void A_request_further_than_agreed_stands_in_the_way_too(State state)
    {
        var other = _fixture.To(State.UnderReview);
        _fixture.To(state);
        Assert.Equal(Reason.AnotherTransferStands, _fixture.TryDecide(other));
    }

    [Fact]
    public void A_request_withdrawn_stands_in_the_way_no_more()
    {
        var first = _fixture.To(State.Agreed);
        var second = _fixture.To(State.UnderReview);
        _fixture.Do(CaseFixture.Kr, new WithdrawTransferRequestRequest { Transfer = first }, Transfers.WithdrawTransferRequest);
        Assert.Equal(Reason.Unspecified, _fixture.TryDecide(second));
    }

    [Fact]
    public void One_side_alone_moves_nothing_and_the_clock_of_the_other_starts()
    {
        var transfer = _fixture.To(State.InTransit);
        _fixture.RuleRunner.Now += TimeSpan.FromHours(4);
        _fixture.Do(CaseFixture.Ua, _fixture.Confirmation(transfer), Transfers.ConfirmHandover);
        Assert.Equal(State.InTransit, _fixture.Transfer(transfer).State);
        Assert.DoesNotContain(_fixture.RuleRunner.Events, e => e is HandoverConfirmed);
        Assert.Equal(_fixture.Now.AddHours(72), _fixture.Transfer(transfer).SecondConfirmationDueTime.ToDateTimeOffset());
        _fixture.Do(CaseFixture.Kr, _fixture.Confirmation(transfer), Transfers.ConfirmHandover);
        var both = Assert.Single(_fixture.RuleRunner.Events.OfType<HandoverConfirmed>());
        Assert.Equal(
            ("UA", "KR", CaseFixture.Ua, CaseFixture.Kr),
            (both.FromPower, both.ToPower, both.DetainingParticipant, both.AcceptingParticipant)
        );
        Assert.Empty(both.Breaches);
        Assert.Null(_fixture.Transfer(transfer).SecondConfirmationDueTime);
    }

    [Fact]
    public void Each_side_confirms_once_and_for_itself()
    {
        var transfer = _fixture.To(State.InTransit);
        _fixture.RuleRunner.Now += TimeSpan.FromHours(4);
        _fixture.Do(CaseFixture.Kr, _fixture.Confirmation(transfer), Transfers.ConfirmHandover);
        Assert.Equal(Reason.AlreadyConfirmed, _fixture.Try(CaseFixture.Kr, _fixture.Confirmation(transfer), Transfers.ConfirmHandover));
        Assert.Equal(Reason.NotFound, _fixture.Try(CaseFixture.Ru, _fixture.Confirmation(transfer), Transfers.ConfirmHandover));
        Assert.Equal(Reason.NotGranted, _fixture.Try(CaseFixture.Icrc, _fixture.Confirmation(transfer), Transfers.ConfirmHandover));
        // D4: the detaining power's confirmation is a custody write.
        Assert.Equal(Reason.NoCapacity, _fixture.Try(CaseFixture.UaMfa, _fixture.Confirmation(transfer), Transfers.ConfirmHandover));
        Assert.Equal(Reason.Unspecified, _fixture.Try(CaseFixture.Ua, _fixture.Confirmation(transfer), Transfers.ConfirmHandover));
    }

    [Fact]
    public void Both_confirmations_agree_on_reference_and_time()
    {
        var transfer = _fixture.To(State.InTransit);
        _fixture.RuleRunner.Now += TimeSpan.FromHours(30);
        var wrong = _fixture.Confirmation(transfer);
        wrong.HandoverReference = "HO-18";
        Assert.Equal(Reason.ConfirmationsDiffer, _fixture.Try(CaseFixture.Ua, wrong, Transfers.ConfirmHandover));
        _fixture.Do(CaseFixture.Ua, _fixture.Confirmation(transfer), Transfers.ConfirmHandover);
        var earlier = _fixture.Confirmation(transfer);
        (earlier.WindowStartTime, earlier.WindowEndTime) = (_fixture.In(-10), _fixture.In(-9));
        Assert.Equal(Reason.ConfirmationsDiffer, _fixture.Try(CaseFixture.Kr, earlier, Transfers.ConfirmHandover));
        earlier.WindowEndTime = _fixture.In(-0.5);
        Assert.Equal(Reason.Unspecified, _fixture.Try(CaseFixture.Kr, earlier, Transfers.ConfirmHandover));
        Assert.Equal(_fixture.In(-1), _fixture.Transfer(transfer).HandoverTime);
    }

    [Fact]
    public void What_has_not_been_yet_is_not_confirmed()
    {
        var transfer = _fixture.To(State.InTransit);
        var ahead = _fixture.Confirmation(transfer);
        ahead.WindowEndTime = _fixture.In(1);
        Assert.Equal(Reason.TimeOutOfRange, _fixture.Try(CaseFixture.Ua, ahead, Transfers.ConfirmHandover));
    }

    [Theory]
    [InlineData(CaseFixture.Ua, State.InTransit, State.Agreed)]
    [InlineData(CaseFixture.Kr, State.InTransit, State.Agreed)]
    [InlineData(CaseFixture.Kr, State.Suspended, State.Suspended)]
    public void One_sides_confirmation_does_not_keep_the_detaining_power_from_taking_him_back(string side, State from, State to)
    {
        var transfer = _fixture.To(State.InTransit);
        _fixture.RuleRunner.Now += TimeSpan.FromHours(4);
        _fixture.Do(side, _fixture.Confirmation(transfer), Transfers.ConfirmHandover);
        if (from == State.Suspended)
            _fixture.Suspend(transfer);
        _fixture.Do(CaseFixture.Ua, new AbortHandoverRequest { Transfer = transfer }, Transfers.AbortHandover);
        var after = _fixture.Transfer(transfer);
        Assert.Equal(to, after.State);
        Assert.Empty(after.Confirmations);
        Assert.Null(after.SecondConfirmationDueTime);
        Assert.Contains(after.Acts, a => a.Method == "ConfirmHandover" && a.Participant == side);
        // Whoever says that it took place all the same says so again.
        _fixture.Do(side, _fixture.Confirmation(transfer, Invariant.D1), Transfers.ConfirmHandover);
        Assert.Equal(side, Assert.Single(_fixture.Transfer(transfer).Confirmations).Participant);
    }

    /// <summary>If the prisoner was never on the way by the request, the other side need not answer: it could neither call the hand-over
    /// off nor, if nothing took place, confirm it.</summary>
    [Theory]
    [InlineData(State.Submitted), InlineData(State.Scheduled), InlineData(State.Suspended)]
    [InlineData(State.Declined), InlineData(State.Withdrawn)]
    public void What_one_side_says_of_a_hand_over_off_the_way_is_recorded_and_starts_no_clock(State state)
    {
        foreach (var side in (string[])[CaseFixture.Ua, CaseFixture.Kr])
        {
            var fixture = new CaseFixture();
            var transfer = fixture.To(state);
            fixture.RuleRunner.Now += TimeSpan.FromHours(4);
            fixture.Do(side, fixture.Confirmation(transfer, [.. System.Enum.GetValues<Invariant>().Skip(1)]), Transfers.ConfirmHandover);
            Assert.Equal(side, Assert.Single(fixture.Transfer(transfer).Confirmations).Participant);
            Assert.Null(fixture.Transfer(transfer).SecondConfirmationDueTime);
            fixture.RuleRunner.Now += TimeSpan.FromHours(73);
            Assert.DoesNotContain(fixture.FallDue(transfer).Changes, c => c.Event is V1.DutyFellDue { Duty: Duties.SecondConfirmation });
        }
    }

    /// <summary>From then on the other side can answer: he arrives, or the hand-over is called off.</summary>
    [Theory]
    [InlineData(CaseFixture.Ua), InlineData(CaseFixture.Kr)]
    public void What_one_side_said_before_he_set_out_starts_the_clock_when_he_does(string side)
    {
        var transfer = _fixture.To(State.Scheduled);
        _fixture.RuleRunner.Now += TimeSpan.FromHours(4);
        _fixture.Do(side, _fixture.Confirmation(transfer, Invariant.D1), Transfers.ConfirmHandover);
        Assert.Null(_fixture.Transfer(transfer).SecondConfirmationDueTime);
        _fixture.Do(CaseFixture.Ua, new BeginTransitRequest { Transfer = transfer }, Transfers.BeginTransit);
        var due = _fixture.Transfer(transfer).SecondConfirmationDueTime.ToDateTimeOffset();
        Assert.Equal(_fixture.Now.AddHours(_fixture.RuleRunner.Permissions.Agreement.ConfirmationHours), due);
        _fixture.RuleRunner.Now = due;
        Assert.Contains(_fixture.FallDue(transfer).Changes, c => c.Event is V1.DutyFellDue { Duty: Duties.SecondConfirmation });
    }

    /// <summary>The requesting state can withdraw its request, whatever another side has confirmed.</summary>
    [Theory]
    [InlineData(CaseFixture.Ru), InlineData(CaseFixture.Ua)]
    public void A_request_is_withdrawn_though_another_side_says_that_it_was_carried_out(string other)
    {
        var transfer = _fixture.Draft(CaseFixture.Kr, route: Route.Exchange, destination: "RU");
        _fixture.Do(CaseFixture.Kr, new SubmitTransferRequestRequest { Transfer = transfer }, Transfers.SubmitTransferRequest);
        _fixture.RuleRunner.Now += TimeSpan.FromHours(4);
        Invariant[] all = [.. System.Enum.GetValues<Invariant>().Skip(1)];
        _fixture.Do(other, _fixture.Confirmation(transfer, all), Transfers.ConfirmHandover);
        _fixture.Do(CaseFixture.Kr, new WithdrawTransferRequestRequest { Transfer = transfer }, Transfers.WithdrawTransferRequest);
        // If the hand-over did take place, the other side can still confirm it.
        var second = other == CaseFixture.Ru ? CaseFixture.Ua : CaseFixture.Ru;
        _fixture.Do(second, _fixture.Confirmation(transfer, all), Transfers.ConfirmHandover);
        Assert.Equal(State.HandedOver, _fixture.Transfer(transfer).State);
    }

    [Fact]
    public void A_request_that_one_side_says_was_carried_out_is_not_withdrawn_until_that_side_corrects_itself()
    {
        var transfer = _fixture.To(State.Scheduled);
        _fixture.RuleRunner.Now += TimeSpan.FromHours(4);
        _fixture.Do(CaseFixture.Kr, _fixture.Confirmation(transfer, Invariant.D1), Transfers.ConfirmHandover);
        var withdraw = new WithdrawTransferRequestRequest { Transfer = transfer };
        Assert.Equal(Reason.ConfirmedByOneSide, _fixture.Try(CaseFixture.Kr, withdraw.Clone(), Transfers.WithdrawTransferRequest));
        var position = _fixture.Transfer(transfer).Confirmations.Single().Position;
        _fixture.Do(CaseFixture.Kr, new V1.CorrectRecordRequest { Record = transfer, Position = position }, CaseFixture.Correct);
        _fixture.Do(CaseFixture.Kr, withdraw.Clone(), Transfers.WithdrawTransferRequest);
    }

    [Fact]
    public void Nobody_leaves_who_is_not_held()
    {
        var transfer = _fixture.To(State.Agreed);
        _fixture.Change(ended: true);
        Assert.Equal(State.Suspended, _fixture.Transfer(transfer).State);
        Assert.Equal(
            Reason.PrisonerNotHeld,
            _fixture.Try(CaseFixture.Ua, new ResumeTransferRequest { Transfer = transfer }, Transfers.ResumeTransfer)
        );
        Assert.Equal(
            Reason.PrisonerNotHeld,
            _fixture.Try(
                CaseFixture.Kr,
                new DraftTransferRequestRequest
                {
                    Prisoner = CaseFixture.First,
                    Route = Route.Release,
                    Destination = "KR",
                },
                Transfers.DraftTransferRequest
            )
        );
        _fixture.Change(ended: false);
        Assert.Equal(
            Reason.Unspecified,
            _fixture.Try(CaseFixture.Ua, new ResumeTransferRequest { Transfer = transfer }, Transfers.ResumeTransfer)
        );
    }

    [Fact]
    public void No_departure_leads_to_the_power_that_holds_him_and_a_release_may()
    {
        foreach (var route in Routes.Except([Route.Release]))
            Assert.Equal(
                Reason.DestinationIsDetainingPower,
                _fixture.Try(
                    CaseFixture.Kr,
                    new DraftTransferRequestRequest
                    {
                        Prisoner = CaseFixture.First,
                        Route = route,
                        Destination = "UA",
                    },
                    Transfers.DraftTransferRequest
                )
            );
        var release = _fixture.Draft(route: Route.Release, destination: "UA");
        _fixture.Do(
            CaseFixture.Kr,
            new SubmitTransferRequestRequest { Transfer = release, NoteVerbale = "NV" },
            Transfers.SubmitTransferRequest
        );
        Assert.Equal("KR", _fixture.Transfer(release).AcceptingPower);
    }

    // ----------------------------------------------------------------- D2: the receiving state (by route: RouteTests)

    [Fact]
    public void An_assurance_is_in_force_while_its_time_runs_and_nobody_corrected_it()
    {
        var transfer = _fixture.To(State.UnderReview);
        _fixture.RuleRunner.Now += TimeSpan.FromDays(31);
        _fixture.Do(CaseFixture.Ua, _fixture.Assessment(transfer), Transfers.RecordTransfereeAssessment);
        Assert.Equal(Reason.AssuranceNotInForce, _fixture.TryDecide(transfer));
        _fixture.Do(CaseFixture.Kr, _fixture.Assurance(transfer), Transfers.GiveAssurance);
        Assert.Equal(Reason.Unspecified, _fixture.TryDecide(transfer));
    }

    [Theory]
    [InlineData(false, true)]
    [InlineData(true, false)]
    public void The_detaining_power_holds_the_receiving_state_willing_and_able(bool willing, bool able)
    {
        var transfer = _fixture.To(State.UnderReview);
        _fixture.Do(CaseFixture.Ua, _fixture.Assessment(transfer, willing, able), Transfers.RecordTransfereeAssessment);
        Assert.Equal(Reason.AssessmentNotInForce, _fixture.TryDecide(transfer));
        _fixture.Do(CaseFixture.Ua, _fixture.Assessment(transfer), Transfers.RecordTransfereeAssessment);
        Assert.Equal(Reason.Unspecified, _fixture.TryDecide(transfer));
        _fixture.Do(CaseFixture.Ua, _fixture.Assessment(transfer, willing, able), Transfers.RecordTransfereeAssessment);
        Assert.Equal(State.Suspended, _fixture.Transfer(transfer).State);
    }

    [Fact]
    public void An_assurance_is_the_accepting_powers_and_for_a_time()
    {
        var transfer = _fixture.To(State.Submitted);
        Assert.Equal(Reason.NotGranted, _fixture.Try(CaseFixture.Ua, _fixture.Assurance(transfer), Transfers.GiveAssurance));
        Assert.Equal(Reason.TimeOutOfRange, _fixture.Try(CaseFixture.Kr, _fixture.Assurance(transfer, -1), Transfers.GiveAssurance));
        Assert.Equal(Reason.TimeOutOfRange, _fixture.Try(CaseFixture.Kr, _fixture.Assurance(transfer, 24 * 4000), Transfers.GiveAssurance));
    }

    // --------------------------------------------------------------------------------------- D9 to D12: what custody is asked

    private static readonly Dictionary<string, (State From, State To, Func<CaseFixture, string, Reason> Try)> Steps = new()
    {
        ["DecideTransfer"] = (State.UnderReview, State.Agreed, (s, t) => s.TryDecide(t)),
        ["ScheduleHandover"] = (State.Agreed, State.Scheduled, (s, t) => s.Try(CaseFixture.Ua, s.Schedule(t), Transfers.ScheduleHandover)),
        ["BeginTransit"] = (
            State.Scheduled,
            State.InTransit,
            (s, t) => s.Try(CaseFixture.Ua, new BeginTransitRequest { Transfer = t }, Transfers.BeginTransit)
        ),
        ["ConfirmHandover"] = (
            State.InTransit,
            State.InTransit,
            (s, t) => s.Try(CaseFixture.Ua, s.Confirmation(t), Transfers.ConfirmHandover)
        ),
        ["ResumeTransfer"] = (
            State.Suspended,
            State.Agreed,
            (s, t) => s.Try(CaseFixture.Ua, new ResumeTransferRequest { Transfer = t }, Transfers.ResumeTransfer)
        ),
    };

    private static readonly Dictionary<Reason, DepartureCheck?> Answers = new()
    {
        [Reason.Unspecified] = CaseFixture.Answer(),
        [Reason.Unavailable] = null,
        [Reason.RouteNotFitting] = CaseFixture.Answer(fits: false),
        [Reason.StandingNotInForce] = CaseFixture.Lost,
        [Reason.FitnessNotRecorded] = CaseFixture.Answer(fit: false),
        [Reason.RiskNotAssessed] = CaseFixture.Answer(risk: false),
        [Reason.DepartureNotFree] = CaseFixture.Answer(free: false),
        [Reason.CustodyAnswerOutdated] = CaseFixture.Answer(position: 1),
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
        var transfer = _fixture.To(from, route: route);
        _fixture.Happen(new FitnessRecorded { Case = _fixture.Case, Prisoner = CaseFixture.First });
        _fixture.RuleRunner.Now += TimeSpan.FromHours(2);
        var checks = _fixture.Transfer(transfer).Checks.Count;
        _fixture.Custody = Answers[expected];
        Assert.Equal(expected, attempt(_fixture, transfer));
        Assert.Equal(expected == Reason.Unspecified ? to : from, _fixture.Transfer(transfer).State);
        if (expected != Reason.Unspecified)
            return;
        var check = _fixture.Transfer(transfer).Checks[checks];
        Assert.Equal((step, _fixture.CustodyEnd), (check.Step, check.CustodyPosition));
    }

    [Fact]
    public void A_standing_for_another_destination_is_none()
    {
        var transfer = _fixture.To(State.UnderReview);
        _fixture.Custody = CaseFixture.Answer("KP");
        Assert.Equal(Reason.StandingNotInForce, _fixture.TryDecide(transfer));
    }

    [Fact]
    public void A_release_where_he_is_held_is_no_departure_and_rests_on_nothing_of_custody()
    {
        _fixture.Custody = null;
        var release = _fixture.Draft(route: Route.Release, destination: "UA");
        _fixture.Do(
            CaseFixture.Kr,
            new SubmitTransferRequestRequest { Transfer = release, NoteVerbale = "NV" },
            Transfers.SubmitTransferRequest
        );
        _fixture.Do(CaseFixture.Ua, new BeginReviewRequest { Transfer = release }, Transfers.BeginReview);
        Assert.Equal(Reason.Unspecified, _fixture.TryDecide(release));
        _fixture.Happen(new StatementRecorded { Case = _fixture.Case, Prisoner = CaseFixture.First });
        Assert.Equal(State.Agreed, _fixture.Transfer(release).State);
    }

    [Fact]
    public void To_decline_or_to_suspend_custody_need_not_answer()
    {
        var transfer = _fixture.To(State.UnderReview);
        _fixture.Custody = null;
        Assert.Equal(Reason.Unspecified, _fixture.TryDecide(transfer, agreed: false));
    }

    // ----------------------------------------------------------------------------------------------- facts are never refused

    [Fact]
    public void A_hand_over_against_an_invariant_is_refused_until_it_is_acknowledged_and_then_recorded_and_marked()
    {
        var transfer = _fixture.To(State.InTransit);
        _fixture.RuleRunner.Now += TimeSpan.FromHours(4);
        _fixture.Custody = CaseFixture.Answer(standing: Standing.NotInForce, fit: false);
        Assert.Equal(Reason.StandingNotInForce, _fixture.Try(CaseFixture.Ua, _fixture.Confirmation(transfer), Transfers.ConfirmHandover));
        Assert.Equal(
            Reason.FitnessNotRecorded,
            _fixture.Try(CaseFixture.Ua, _fixture.Confirmation(transfer, Invariant.D9), Transfers.ConfirmHandover)
        );
        _fixture.Do(CaseFixture.Ua, _fixture.Confirmation(transfer, Invariant.D9, Invariant.D10), Transfers.ConfirmHandover);
        Assert.Equal(Reason.DepartureNotCleared, _fixture.Try(CaseFixture.Kr, _fixture.Confirmation(transfer), Transfers.ConfirmHandover));
        var (decision, _) = _fixture.Play(CaseFixture.Kr, _fixture.Confirmation(transfer, Invariant.D11), Transfers.ConfirmHandover);
        var both = Assert.Single(_fixture.RuleRunner.Events.OfType<HandoverConfirmed>());
        // The event is in the taking side's own entry, which tells it nothing of what the other side acknowledged of him.
        Assert.Equal([Invariant.D11], both.Breaches);
        Assert.True(_fixture.MaySee(CaseFixture.Icrc, [.. decision.Audience]));
        Assert.Equal([Invariant.D9, Invariant.D10, Invariant.D11], _fixture.Seen(CaseFixture.Icrc, transfer)!.Breaches);
        // Custody judges it once more; what it finds stands beside.
        _fixture.Pass("UA", "KR", breaches: [Invariant.D9, Invariant.D12]);
        Assert.Equal([Invariant.D9, Invariant.D10, Invariant.D11, Invariant.D12], _fixture.Transfer(transfer).Breaches);
    }

    [Fact]
    public void A_hand_over_that_took_place_is_recorded_though_custody_is_silent()
    {
        var transfer = _fixture.To(State.InTransit);
        _fixture.RuleRunner.Now += TimeSpan.FromHours(4);
        _fixture.Custody = null;
        Assert.Equal(Reason.Unavailable, _fixture.Try(CaseFixture.Ua, _fixture.Confirmation(transfer), Transfers.ConfirmHandover));
        _fixture.Do(CaseFixture.Ua, _fixture.Confirmation(transfer, Invariant.D9, Invariant.D10, Invariant.D11), Transfers.ConfirmHandover);
        _fixture.Do(CaseFixture.Kr, _fixture.Confirmation(transfer, Invariant.D9), Transfers.ConfirmHandover);
        Assert.Equal(State.HandedOver, _fixture.Transfer(transfer).State);
    }

    [Fact]
    public void A_hand_over_during_a_suspension_is_recorded_with_its_breach_of_d1()
    {
        var transfer = _fixture.To(State.Suspended, from: State.InTransit);
        _fixture.RuleRunner.Now += TimeSpan.FromHours(4);
        Assert.Equal(Reason.StateNotAllowed, _fixture.Try(CaseFixture.Ua, _fixture.Confirmation(transfer), Transfers.ConfirmHandover));
        _fixture.Do(CaseFixture.Ua, _fixture.Confirmation(transfer, Invariant.D1), Transfers.ConfirmHandover);
        Assert.Equal(Reason.StateNotAllowed, _fixture.Try(CaseFixture.Kr, _fixture.Confirmation(transfer), Transfers.ConfirmHandover));
        _fixture.Do(CaseFixture.Kr, _fixture.Confirmation(transfer, Invariant.D1), Transfers.ConfirmHandover);
        Assert.Equal([Invariant.D1], _fixture.RuleRunner.Events.OfType<HandoverConfirmed>().Single().Breaches);
    }

    [Fact]
    public void A_hand_over_before_anybody_asked_for_it_is_recorded_with_its_breach_of_d1()
    {
        var transfer = _fixture.To(State.InTransit);
        _fixture.RuleRunner.Now += TimeSpan.FromHours(4);
        ConfirmHandoverRequest Before(params Invariant[] acknowledged) =>
            new(_fixture.Confirmation(transfer, acknowledged)) { WindowStartTime = _fixture.In(-30), WindowEndTime = _fixture.In(-29) };
        Assert.Equal(Reason.TimeOutOfRange, _fixture.Try(CaseFixture.Ua, Before(), Transfers.ConfirmHandover));
        Assert.Equal(Reason.TimeOutOfRange, _fixture.Try(CaseFixture.Ua, Before(Invariant.D2), Transfers.ConfirmHandover));
        _fixture.Do(CaseFixture.Ua, Before(Invariant.D1), Transfers.ConfirmHandover);
        _fixture.Do(CaseFixture.Kr, Before(Invariant.D1), Transfers.ConfirmHandover);
        Assert.Equal((State.HandedOver, _fixture.In(-30)), (_fixture.Transfer(transfer).State, _fixture.Transfer(transfer).HandoverTime));
        Assert.Equal([Invariant.D1], _fixture.Transfer(transfer).Breaches);
    }

    [Theory]
    [InlineData("HO-18", -1, 0)]
    [InlineData(CaseFixture.Reference, -3, -2)]
    public void Where_the_sides_do_not_agree_on_it_both_accounts_stay_and_the_difference_is_marked(
        string reference,
        double start,
        double end
    )
    {
        var transfer = _fixture.To(State.InTransit);
        _fixture.RuleRunner.Now += TimeSpan.FromHours(4);
        _fixture.Do(CaseFixture.Ua, _fixture.Confirmation(transfer), Transfers.ConfirmHandover);
        ConfirmHandoverRequest Other(params Invariant[] acknowledged) =>
            new(_fixture.Confirmation(transfer, acknowledged))
            {
                HandoverReference = reference,
                WindowStartTime = _fixture.In(start),
                WindowEndTime = _fixture.In(end),
            };
        Assert.Equal(Reason.ConfirmationsDiffer, _fixture.Try(CaseFixture.Kr, Other(), Transfers.ConfirmHandover));
        Assert.Equal(Reason.ConfirmationsDiffer, _fixture.Try(CaseFixture.Kr, Other(Invariant.D9), Transfers.ConfirmHandover));
        _fixture.Do(CaseFixture.Kr, Other(Invariant.D1), Transfers.ConfirmHandover);
        Assert.Equal([Invariant.D1], Assert.Single(_fixture.RuleRunner.Events.OfType<HandoverConfirmed>()).Breaches);
        var seen = _fixture.Seen(CaseFixture.Icrc, transfer)!;
        Assert.Equal([Invariant.D1], seen.Breaches);
        Assert.Equal([CaseFixture.Reference, reference], seen.Confirmations.Select(c => c.HandoverReference));
        Assert.Equal([_fixture.In(-1), _fixture.In(start)], seen.Confirmations.Select(c => c.WindowStartTime));
    }

    [Fact]
    public void What_custody_lacks_is_told_to_the_detaining_power_alone()
    {
        foreach (var answer in Answers.Where(a => a.Key != Reason.Unspecified))
        {
            var fixture = new CaseFixture();
            var transfer = fixture.To(State.InTransit);
            fixture.Happen(new FitnessRecorded { Case = fixture.Case, Prisoner = CaseFixture.First });
            fixture.RuleRunner.Now += TimeSpan.FromHours(4);
            fixture.Custody = answer.Value;
            var (decision, _) = fixture.Play(CaseFixture.Kr, fixture.Confirmation(transfer), Transfers.ConfirmHandover);
            Assert.Equal(answer.Key == Reason.Unavailable ? Reason.Unavailable : Reason.DepartureNotCleared, decision.Refusal!.Reason);
            Assert.Null(decision.Refusal.Metadata);
        }
    }

    // --------------------------------------------------------------------------------------------------- D3: after the hand-over

    [Fact]
    public void A_failure_leads_to_measures_or_to_return_and_the_accepting_power_complies()
    {
        var transfer = _fixture.To(State.Monitored);
        _fixture.Report(transfer, CaseFixture.Swiss);
        var failure = _fixture.Transfer(transfer).Failures.Single().Id;
        Assert.Equal(
            Reason.NotGranted,
            _fixture.Try(
                CaseFixture.Kr,
                new RecordCorrectiveMeasuresRequest { Transfer = transfer, Failure = failure },
                Transfers.RecordCorrectiveMeasures
            )
        );
        _fixture.Do(
            CaseFixture.Ua,
            new RecordCorrectiveMeasuresRequest
            {
                Transfer = transfer,
                Failure = failure,
                Content = CaseFixture.Sealed(CaseFixture.Icrc),
            },
            Transfers.RecordCorrectiveMeasures
        );
        Assert.Single(_fixture.Transfer(transfer).Failures.Single().Measures);
        _fixture.Do(CaseFixture.Ua, new RequestReturnRequest { Transfer = transfer, NoteVerbale = "NV" }, Transfers.RequestReturn);
        _fixture.RuleRunner.Now += TimeSpan.FromHours(4);
        _fixture.Do(CaseFixture.Ua, _fixture.ReturnConfirmation(transfer), Transfers.ConfirmReturn);
        Assert.Equal(State.ReturnRequested, _fixture.Transfer(transfer).State);
        _fixture.Do(CaseFixture.Kr, _fixture.ReturnConfirmation(transfer), Transfers.ConfirmReturn);
        var returned = Assert.Single(_fixture.RuleRunner.Events.OfType<ReturnConfirmed>());
        Assert.Equal(("KR", "UA"), (returned.FromPower, returned.ToPower));
        Assert.Equal(State.Returned, _fixture.Transfer(transfer).State);
        _fixture.Do(CaseFixture.Ua, new CloseTransferRequest { Transfer = transfer }, Transfers.CloseTransfer);
    }

    [Fact]
    public void An_observer_reports_where_the_agreement_says_so()
    {
        var transfer = _fixture.To(State.Monitored);
        _fixture.RuleRunner.Permissions.Agreement.ObserverReportsTreatment = false;
        Assert.Equal(
            Reason.ObserverMayNotReport,
            _fixture.Try(
                CaseFixture.Icrc,
                new ReportTreatmentFailureRequest { Transfer = transfer, Articles = { "13" } },
                Transfers.ReportTreatmentFailure
            )
        );
        _fixture.Report(transfer, CaseFixture.Swiss);
        Assert.Equal(
            Reason.NotGranted,
            _fixture.Try(
                CaseFixture.Kr,
                new ReportTreatmentFailureRequest { Transfer = transfer, Articles = { "13" } },
                Transfers.ReportTreatmentFailure
            )
        );
    }

    [Fact]
    public void The_duties_of_12_3_belong_to_article_12_transfers()
    {
        var transfer = _fixture.To(State.Monitored, route: Route.Exchange);
        Assert.Equal(
            Reason.NotAnArticle12Transfer,
            _fixture.Try(
                CaseFixture.Icrc,
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
    [InlineData(Route.NeutralAccommodation, Reason.NotFinallyReleased)]
    public void Protection_ends_with_final_release_and_the_transfer_closes_then(Route route, Reason expected)
    {
        var transfer = _fixture.To(State.Monitored, route: route);
        Assert.Equal(expected, _fixture.Try(CaseFixture.Kr, new CloseTransferRequest { Transfer = transfer }, Transfers.CloseTransfer));
        if (expected == Reason.Unspecified)
            return;
        _fixture.Change(ended: true);
        Assert.Equal(
            Reason.Unspecified,
            _fixture.Try(CaseFixture.Kr, new CloseTransferRequest { Transfer = transfer }, Transfers.CloseTransfer)
        );
    }

    [Fact]
    public void Who_took_custody_may_agree_to_another_departure_though_the_first_is_monitored()
    {
        _fixture.To(State.Monitored);
        var next = _fixture.Draft(CaseFixture.Ru, route: Route.Repatriation, destination: "RU");
        _fixture.Do(
            CaseFixture.Ru,
            new SubmitTransferRequestRequest { Transfer = next, NoteVerbale = "NV" },
            Transfers.SubmitTransferRequest
        );
        Assert.Equal("KR", _fixture.Transfer(next).DetainingPower);
        Assert.Equal(Reason.NotFound, _fixture.Try(CaseFixture.Ua, new BeginReviewRequest { Transfer = next }, Transfers.BeginReview));
        _fixture.Do(CaseFixture.Kr, new BeginReviewRequest { Transfer = next }, Transfers.BeginReview);
        _fixture.Custody = CaseFixture.Answer("RU", origin: true);
        Assert.Equal(
            Reason.Unspecified,
            _fixture.Try(
                CaseFixture.Kr,
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
        var declined = _fixture.To(State.Declined);
        var again = _fixture.Draft();
        var submit = new SubmitTransferRequestRequest { Transfer = again, NoteVerbale = "NV" };
        Assert.Equal(Reason.PreviousRequestNotNamed, _fixture.Try(CaseFixture.Kr, submit, Transfers.SubmitTransferRequest));
        Assert.Equal(
            Reason.PreviousRequestNotNamed,
            _fixture.Try(
                CaseFixture.Kr,
                new SubmitTransferRequestRequest(submit) { PreviousTransfer = again },
                Transfers.SubmitTransferRequest
            )
        );
        _fixture.Do(
            CaseFixture.Kr,
            new SubmitTransferRequestRequest(submit) { PreviousTransfer = declined },
            Transfers.SubmitTransferRequest
        );
        Assert.Equal(declined, _fixture.Transfer(again).PreviousTransfer);
        // Another state's request, or one for another prisoner, was not declined before.
        var other = _fixture.Draft(CaseFixture.Ru, destination: "RU");
        _fixture.Do(
            CaseFixture.Ru,
            new SubmitTransferRequestRequest { Transfer = other, NoteVerbale = "NV" },
            Transfers.SubmitTransferRequest
        );
        Assert.Equal(
            Reason.PreviousRequestNotNamed,
            _fixture.Try(
                CaseFixture.Ru,
                new DraftTransferRequestRequest
                {
                    Prisoner = CaseFixture.First,
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
        var transfer = _fixture.To(State.Suspended, from: from);
        Assert.Equal(from, _fixture.Transfer(transfer).SuspendedFrom);
        Assert.Equal(
            Reason.NotGranted,
            _fixture.Try(CaseFixture.Kr, new ResumeTransferRequest { Transfer = transfer }, Transfers.ResumeTransfer)
        );
        _fixture.Custody = CaseFixture.Lost;
        var early = from is State.Submitted or State.UnderReview;
        Assert.Equal(
            early ? Reason.Unspecified : Reason.StandingNotInForce,
            _fixture.Try(CaseFixture.Ua, new ResumeTransferRequest { Transfer = transfer }, Transfers.ResumeTransfer)
        );
        if (early)
            return;
        _fixture.Custody = CaseFixture.Answer();
        _fixture.Do(CaseFixture.Ua, new ResumeTransferRequest { Transfer = transfer }, Transfers.ResumeTransfer);
        Assert.Equal(from, _fixture.Transfer(transfer).State);
    }

    /// <summary>The prisoner fled and was caught, or came to hospital: the reasons for the plan may be gone.</summary>
    [Fact]
    public void Whom_custody_has_on_no_way_any_more_does_not_go_on_without_a_new_plan()
    {
        var transfer = _fixture.To(State.InTransit);
        _fixture.Happen(new StatusRecorded { Case = _fixture.Case, Prisoner = CaseFixture.First });
        Assert.Equal(State.Suspended, _fixture.Transfer(transfer).State);
        _fixture.Custody = CaseFixture.Answer(onTheWay: false);
        _fixture.Change(ended: false);
        var resume = new ResumeTransferRequest { Transfer = transfer };
        Assert.Equal(Reason.StateNotAllowed, _fixture.Try(CaseFixture.Ua, resume.Clone(), Transfers.ResumeTransfer));
        _fixture.Do(CaseFixture.Ua, new AbortHandoverRequest { Transfer = transfer }, Transfers.AbortHandover);
        _fixture.Do(CaseFixture.Ua, resume.Clone(), Transfers.ResumeTransfer);
        Assert.Equal(State.Agreed, _fixture.Transfer(transfer).State);
        Assert.Null(_fixture.Transfer(transfer).Plan);
    }

    [Fact]
    public void A_transfer_on_the_way_is_suspended_when_custody_has_him_on_no_way_any_more()
    {
        var transfer = _fixture.To(State.InTransit);
        // Such as proceedings that delay nothing.
        _fixture.Change(ended: false);
        Assert.Equal(State.InTransit, _fixture.Transfer(transfer).State);
        _fixture.Custody = CaseFixture.Answer(onTheWay: false);
        _fixture.Change(ended: false);
        Assert.Equal((State.Suspended, State.InTransit), (_fixture.Transfer(transfer).State, _fixture.Transfer(transfer).SuspendedFrom));
    }

    [Fact]
    public void A_hand_over_suspended_on_the_way_is_called_off_and_only_then_withdrawn()
    {
        var transfer = _fixture.To(State.Suspended, from: State.InTransit);
        Assert.Equal(
            Reason.StateNotAllowed,
            _fixture.Try(CaseFixture.Kr, new WithdrawTransferRequestRequest { Transfer = transfer }, Transfers.WithdrawTransferRequest)
        );
        _fixture.Do(CaseFixture.Ua, new AbortHandoverRequest { Transfer = transfer }, Transfers.AbortHandover);
        Assert.Equal((State.Suspended, State.Agreed), (_fixture.Transfer(transfer).State, _fixture.Transfer(transfer).SuspendedFrom));
        _fixture.Do(CaseFixture.Kr, new WithdrawTransferRequestRequest { Transfer = transfer }, Transfers.WithdrawTransferRequest);
    }

    /// <summary>Otherwise custody has him on a journey that nobody can call off any more (D1).</summary>
    [Theory]
    [InlineData(false), InlineData(true)]
    public void A_hand_over_of_one_who_is_held_no_more_on_the_way_is_called_off_and_only_then_withdrawn(bool linked)
    {
        var transfer = _fixture.To(State.InTransit);
        if (linked)
        {
            _fixture.Happen(new StatusRecorded { Case = _fixture.Case, Prisoner = CaseFixture.First });
            _fixture.Link();
        }
        else
            _fixture.Change(ended: true);
        var withdraw = new WithdrawTransferRequestRequest { Transfer = transfer };
        Assert.Equal(Reason.StateNotAllowed, _fixture.Try(CaseFixture.Kr, withdraw.Clone(), Transfers.WithdrawTransferRequest));
        _fixture.Do(CaseFixture.Ua, new AbortHandoverRequest { Transfer = transfer }, Transfers.AbortHandover);
        _fixture.Do(CaseFixture.Kr, withdraw, Transfers.WithdrawTransferRequest);
    }

    [Fact]
    public void A_request_is_withdrawn_though_he_passed_elsewhere_on_the_way()
    {
        var transfer = _fixture.To(State.InTransit);
        _fixture.Pass("UA", "RU");
        _fixture.Do(CaseFixture.Kr, new WithdrawTransferRequestRequest { Transfer = transfer }, Transfers.WithdrawTransferRequest);
    }

    // -------------------- forms and limits

    [Fact]
    public void A_decision_on_what_is_no_longer_so_is_stale()
    {
        var transfer = _fixture.To(State.UnderReview);
        var seen = _fixture.Etag(CaseFixture.Ua, transfer);
        _fixture.Do(CaseFixture.Kr, _fixture.Assurance(transfer), Transfers.GiveAssurance);
        Assert.Equal(
            Reason.Stale,
            _fixture.Try(CaseFixture.Ua, new DecideTransferRequest { Transfer = transfer, Agreed = true }, Transfers.DecideTransfer, seen)
        );
    }

    [Fact]
    public void The_window_of_a_planned_hand_over_lies_ahead_and_is_bounded()
    {
        var transfer = _fixture.To(State.Agreed);
        foreach (var (start, end) in (ReadOnlySpan<(double, double)>)[(2, 1), (-3, -1), (1, 80), (1, 1)])
        {
            var schedule = _fixture.Schedule(transfer);
            (schedule.WindowStartTime, schedule.WindowEndTime) = (_fixture.In(start), _fixture.In(end));
            Assert.Equal(Reason.TimeOutOfRange, _fixture.Try(CaseFixture.Ua, schedule, Transfers.ScheduleHandover));
        }
        _fixture.Do(CaseFixture.Ua, _fixture.Schedule(transfer), Transfers.ScheduleHandover);
    }

    [Fact]
    public void A_closed_case_takes_facts_and_corrections_and_no_decisions()
    {
        var transfer = _fixture.To(State.InTransit);
        var other = _fixture.To(State.UnderReview, CaseFixture.Second);
        _fixture.Happen(new CaseClosed { Case = _fixture.Case });
        Assert.Equal(Reason.CaseClosed, _fixture.TryDecide(other));
        // Whose act it is comes before whether the case is open, and what is not there before both.
        Assert.Equal(Reason.NotGranted, _fixture.Try(CaseFixture.Ua, _fixture.Assurance(other), Transfers.GiveAssurance));
        Assert.Equal(
            Reason.NoCapacity,
            _fixture.Try(CaseFixture.UaMfa, new BeginTransitRequest { Transfer = other }, Transfers.BeginTransit)
        );
        Assert.Equal(
            Reason.NotFound,
            _fixture.Try(
                CaseFixture.Ua,
                new BeginReviewRequest { Transfer = Secret.OfTests.IdOf("nobody", "nothing", "transfer") },
                Transfers.BeginReview
            )
        );
        _fixture.RuleRunner.Now += TimeSpan.FromHours(4);
        _fixture.Do(CaseFixture.Ua, _fixture.Confirmation(transfer), Transfers.ConfirmHandover);
        _fixture.Do(CaseFixture.Kr, _fixture.Confirmation(transfer), Transfers.ConfirmHandover);
    }

    [Fact]
    public void The_record_of_one_transfer_is_bounded()
    {
        var transfer = _fixture.To(State.Submitted);
        while (_fixture.Transfer(transfer).Acts.Count(a => a.Method == "GiveAssurance") < Transfers.MaxActs)
            _fixture.Do(CaseFixture.Kr, _fixture.Assurance(transfer), Transfers.GiveAssurance);
        Assert.Equal(Reason.RecordFull, _fixture.Try(CaseFixture.Kr, _fixture.Assurance(transfer), Transfers.GiveAssurance));
    }

    // -------------------- corrections

    [Theory]
    [InlineData("GiveAssurance", Reason.AssuranceNotInForce)]
    [InlineData("RecordTransfereeAssessment", Reason.AssessmentNotInForce)]
    public void What_rested_on_a_corrected_act_is_suspended_until_it_is_made_anew(string method, Reason missing)
    {
        var transfer = _fixture.To(State.Scheduled);
        var act = _fixture.Transfer(transfer).Acts.Single(a => a.Method == method);
        var correct = new V1.CorrectRecordRequest
        {
            Record = transfer,
            Position = act.Position,
            Reason = CaseFixture.Sealed(CaseFixture.Icrc),
        };
        var other = act.Participant == CaseFixture.Kr ? CaseFixture.Ua : CaseFixture.Kr;
        Assert.Equal(Reason.NotCorrectable, _fixture.Try(other, new V1.CorrectRecordRequest(correct), CaseFixture.Correct));
        _fixture.Do(act.Participant, new V1.CorrectRecordRequest(correct), CaseFixture.Correct);
        Assert.Equal(State.Suspended, _fixture.Transfer(transfer).State);
        Assert.Equal(Reason.NotCorrectable, _fixture.Try(act.Participant, new V1.CorrectRecordRequest(correct), CaseFixture.Correct));
        Assert.Equal(missing, _fixture.Try(CaseFixture.Ua, new ResumeTransferRequest { Transfer = transfer }, Transfers.ResumeTransfer));
        if (method == "GiveAssurance")
            _fixture.Do(CaseFixture.Kr, _fixture.Assurance(transfer), Transfers.GiveAssurance);
        else
            _fixture.Do(CaseFixture.Ua, _fixture.Assessment(transfer), Transfers.RecordTransfereeAssessment);
        Assert.Equal(
            Reason.Unspecified,
            _fixture.Try(CaseFixture.Ua, new ResumeTransferRequest { Transfer = transfer }, Transfers.ResumeTransfer)
        );
    }

    /// <summary>To what stage a request is resumed after one of the acts that led to it was corrected; unspecified: to none.</summary>
    [Theory]
    [InlineData(State.Submitted, "DraftTransferRequest", State.Unspecified)]
    [InlineData(State.Submitted, "SubmitTransferRequest", State.Unspecified)]
    [InlineData(State.Submitted, "GiveAssurance", State.Submitted)]
    [InlineData(State.UnderReview, "SubmitTransferRequest", State.Unspecified)]
    [InlineData(State.UnderReview, "BeginReview", State.Submitted)]
    [InlineData(State.UnderReview, "GiveAssurance", State.UnderReview)]
    [InlineData(State.UnderReview, "RecordTransfereeAssessment", State.UnderReview)]
    [InlineData(State.Agreed, "SubmitTransferRequest", State.Unspecified)]
    [InlineData(State.Agreed, "BeginReview", State.Unspecified)]
    [InlineData(State.Agreed, "DecideTransfer", State.Unspecified)]
    [InlineData(State.Scheduled, "DraftTransferRequest", State.Unspecified)]
    [InlineData(State.Scheduled, "BeginReview", State.Unspecified)]
    [InlineData(State.Scheduled, "DecideTransfer", State.Unspecified)]
    [InlineData(State.Scheduled, "ScheduleHandover", State.Agreed)]
    [InlineData(State.InTransit, "BeginReview", State.Unspecified)]
    [InlineData(State.InTransit, "DecideTransfer", State.Unspecified)]
    [InlineData(State.InTransit, "ScheduleHandover", State.Unspecified)]
    [InlineData(State.InTransit, "BeginTransit", State.Unspecified)]
    public void Nothing_is_resumed_that_rested_on_a_corrected_act(State from, string method, State to)
    {
        var transfer = _fixture.To(from);
        if (from == State.Submitted)
            _fixture.Do(CaseFixture.Kr, _fixture.Assurance(transfer), Transfers.GiveAssurance);
        var act = _fixture.Transfer(transfer).Acts.Last(a => a.Method == method);
        _fixture.Do(act.Participant, new V1.CorrectRecordRequest { Record = transfer, Position = act.Position }, CaseFixture.Correct);
        Assert.Equal((State.Suspended, from), (_fixture.Transfer(transfer).State, _fixture.Transfer(transfer).SuspendedFrom));
        var resume = new ResumeTransferRequest { Transfer = transfer };
        Assert.Equal(
            to == State.Unspecified ? Reason.StateNotAllowed : Reason.Unspecified,
            _fixture.Try(CaseFixture.Ua, resume, Transfers.ResumeTransfer)
        );
        var takenBack = method is "DraftTransferRequest" or "SubmitTransferRequest";
        if (to != State.Unspecified)
        {
            Assert.Equal(to, _fixture.Transfer(transfer).State);
            Assert.Equal(from == State.Scheduled, _fixture.Transfer(transfer).Plan is null && from >= State.Scheduled);
            return;
        }
        if (from == State.InTransit)
        {
            _fixture.Do(CaseFixture.Ua, new AbortHandoverRequest { Transfer = transfer }, Transfers.AbortHandover);
            if (method is "ScheduleHandover" or "BeginTransit")
            {
                _fixture.Do(CaseFixture.Ua, new ResumeTransferRequest { Transfer = transfer }, Transfers.ResumeTransfer);
                Assert.Equal(State.Agreed, _fixture.Transfer(transfer).State);
                return;
            }
        }
        // An agreement is made anew, and is good then as any other; a request that was taken back has none.
        if (takenBack)
        {
            Assert.Equal(Reason.StateNotAllowed, _fixture.TryDecide(transfer));
            _fixture.Do(CaseFixture.Kr, new WithdrawTransferRequestRequest { Transfer = transfer }, Transfers.WithdrawTransferRequest);
            return;
        }
        Assert.Equal(Reason.Unspecified, _fixture.TryDecide(transfer));
        Assert.Null(_fixture.Transfer(transfer).Plan);
        _fixture.Suspend(transfer);
        _fixture.Do(CaseFixture.Ua, new ResumeTransferRequest { Transfer = transfer }, Transfers.ResumeTransfer);
        Assert.Equal(State.Agreed, _fixture.Transfer(transfer).State);
    }

    [Fact]
    public void A_confirmation_that_the_other_side_has_not_met_can_be_taken_back()
    {
        var transfer = _fixture.To(State.InTransit);
        _fixture.RuleRunner.Now += TimeSpan.FromHours(4);
        _fixture.Do(CaseFixture.Ua, _fixture.Confirmation(transfer), Transfers.ConfirmHandover);
        var position = _fixture.Transfer(transfer).Confirmations.Single().Position;
        _fixture.Do(CaseFixture.Ua, new V1.CorrectRecordRequest { Record = transfer, Position = position }, CaseFixture.Correct);
        Assert.Empty(_fixture.Transfer(transfer).Confirmations);
        Assert.Null(_fixture.Transfer(transfer).SecondConfirmationDueTime);
        Assert.Equal(State.Suspended, _fixture.Transfer(transfer).State);
        _fixture.Do(CaseFixture.Ua, new AbortHandoverRequest { Transfer = transfer }, Transfers.AbortHandover);
    }
}
