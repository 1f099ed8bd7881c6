using Ministries.Consular.V1;
using Ministries.Custody.V1;
using Ministries.Errors.V1;
using Ministries.Types.V1;
using State = Ministries.Consular.V1.TransferState;

namespace Ministries.Consular.Tests;

/// <summary>What each route needs of the receiving state (D1, D2), who may open one, and that no request stands in another's way
/// without need (D8).</summary>
public sealed class RouteTests
{
    private readonly CaseFixture _fixture = new();

    public static TheoryData<Route> Routes => [.. InvariantTests.Routes];

    // ------------------------------------------------------------------------------------------- D2: party, assurance, assessment

    [Theory]
    [MemberData(nameof(Routes))]
    public void Every_departure_leads_to_a_party_to_the_convention(Route route)
    {
        var transfer = Reviewed(route, "XX", CaseFixture.Xx);
        _fixture.Custody = CaseFixture.Answer("XX", origin: true);
        Assert.Equal(Reason.ReceivingStateNotParty, _fixture.TryDecide(transfer));
        _fixture.RuleRunner.Permissions.State("XX")!.PartyToGc3 = true;
        Assert.Equal(Reason.Unspecified, _fixture.TryDecide(transfer));
    }

    [Theory]
    [MemberData(nameof(Routes))]
    public void The_route_fits_its_destination_as_custody_has_it(Route route)
    {
        var transfer = _fixture.To(State.UnderReview, route: route);
        _fixture.Custody = CaseFixture.Answer(fits: false);
        Assert.Equal(Reason.RouteNotFitting, _fixture.TryDecide(transfer));
        Advises(Reason.RouteNotFitting, "RecordClaim");
        _fixture.Custody = CaseFixture.Answer();
        Assert.Equal(Reason.Unspecified, _fixture.TryDecide(transfer));
    }

    [Theory]
    [InlineData(Route.Article12Transfer, false, Reason.AssuranceNotInForce)]
    [InlineData(Route.Release, false, Reason.AssuranceNotInForce)]
    [InlineData(Route.Repatriation, false, Reason.AssuranceNotInForce)]
    [InlineData(Route.Exchange, false, Reason.AssuranceNotInForce)]
    [InlineData(Route.NeutralAccommodation, false, Reason.AssuranceNotInForce)]
    [InlineData(Route.Article12Transfer, true, Reason.AssuranceNotInForce)]
    [InlineData(Route.NeutralAccommodation, true, Reason.AssuranceNotInForce)]
    [InlineData(Route.Release, true, Reason.Unspecified)]
    [InlineData(Route.Repatriation, true, Reason.Unspecified)]
    [InlineData(Route.Exchange, true, Reason.Unspecified)]
    public void Who_is_not_the_power_of_origin_or_answers_for_him_from_then_on_gives_an_assurance(Route route, bool origin, Reason expected)
    {
        var transfer = Reviewed(route, "KR", CaseFixture.Kr, assured: false);
        _fixture.Custody = CaseFixture.Answer(origin: origin);
        Assert.Equal(expected, _fixture.TryDecide(transfer));
        if (expected == Reason.Unspecified)
            return;
        Advises(expected, "GiveAssurance");
        _fixture.Do(CaseFixture.Kr, _fixture.Assurance(transfer), Transfers.GiveAssurance);
        Assert.Equal(Reason.Unspecified, _fixture.TryDecide(transfer));
    }

    [Theory]
    [InlineData(Route.Article12Transfer, Reason.AssessmentNotInForce)]
    [InlineData(Route.NeutralAccommodation, Reason.AssessmentNotInForce)]
    [InlineData(Route.Release, Reason.Unspecified)]
    [InlineData(Route.Repatriation, Reason.Unspecified)]
    [InlineData(Route.Exchange, Reason.Unspecified)]
    public void Who_answers_for_him_from_then_on_was_held_willing_and_able(Route route, Reason expected)
    {
        var transfer = Reviewed(route, "KR", CaseFixture.Kr, assessed: false);
        Assert.Equal(expected, _fixture.TryDecide(transfer));
    }

    [Theory]
    [InlineData(Route.Article12Transfer, Undertaking.ApplyConvention, Undertaking.NonRefoulement)]
    [InlineData(Route.NeutralAccommodation, Undertaking.ApplyConvention, Undertaking.NonRefoulement)]
    [InlineData(Route.Release, Undertaking.NonRefoulement, Undertaking.RightToStay)]
    [InlineData(Route.Repatriation, Undertaking.NonRefoulement, Undertaking.NonRefoulement)]
    [InlineData(Route.Exchange, Undertaking.NonRefoulement, Undertaking.NonRefoulement)]
    public void An_assurance_holds_what_its_route_needs(Route route, Undertaking one, Undertaking another)
    {
        var transfer = _fixture.To(State.Submitted, route: route);
        foreach (var missing in (Undertaking[])[one, another])
        {
            var incomplete = _fixture.Assurance(transfer);
            incomplete.Undertakings.Remove(missing);
            Assert.Equal(Reason.AssuranceIncomplete, _fixture.Try(CaseFixture.Kr, incomplete, Transfers.GiveAssurance));
        }
        var just = _fixture.Assurance(transfer);
        just.Undertakings.Clear();
        just.Undertakings.Add(((Undertaking[])[one, another]).Distinct());
        Assert.Equal(Reason.Unspecified, _fixture.Try(CaseFixture.Kr, just, Transfers.GiveAssurance));
    }

    [Theory]
    [InlineData(Route.Article12Transfer, 12u, true)]
    [InlineData(Route.Article12Transfer, 118u, false)]
    [InlineData(Route.NeutralAccommodation, 109u, true)]
    [InlineData(Route.NeutralAccommodation, 110u, true)]
    [InlineData(Route.NeutralAccommodation, 111u, true)]
    [InlineData(Route.NeutralAccommodation, 12u, false)]
    [InlineData(Route.Release, 118u, false)]
    [InlineData(Route.Exchange, 118u, false)]
    [InlineData(Route.Repatriation, 118u, false)]
    [InlineData(Route.Repatriation, 85u, false)]
    public void A_state_with_a_reservation_on_the_article_of_the_route_goes_without_it(Route route, uint article, bool needed)
    {
        var transfer = _fixture.To(State.UnderReview, route: route);
        _fixture.RuleRunner.Permissions.State("KR")!.Reservations.Add(article);
        // What was given before the agreement listed it is not enough.
        Assert.Equal(needed ? Reason.AssuranceNotInForce : Reason.Unspecified, _fixture.TryDecide(transfer));
        if (!needed)
            return;
        Assert.Equal(Reason.AssuranceIncomplete, _fixture.Try(CaseFixture.Kr, _fixture.Assurance(transfer), Transfers.GiveAssurance));
        var without = _fixture.Assurance(transfer);
        without.Undertakings.Add(Undertaking.WithoutReservation);
        _fixture.Do(CaseFixture.Kr, without, Transfers.GiveAssurance);
        Assert.Equal(Reason.Unspecified, _fixture.TryDecide(transfer));
    }

    /// <summary>What a receiving state must undertake that one of these treaties does not bind. The detaining power is bound by both.
    /// </summary>
    [Theory]
    [InlineData(Route.Article12Transfer, true, true)]
    [InlineData(Route.NeutralAccommodation, true, true)]
    [InlineData(Route.Release, true, false)]
    [InlineData(Route.Repatriation, false, false)]
    [InlineData(Route.Exchange, false, false)]
    public void A_state_that_a_treaty_does_not_bind_undertakes_what_it_guarantees(Route route, bool refugees, bool protocol)
    {
        Bound(s => s.PartyToRefugeeConvention = false, Undertaking.RefugeeProtection, refugees);
        Bound(s => s.PartyToAp1 = false, Undertaking.ProtocolI, protocol);

        void Bound(Action<Types.V1.State> leave, Undertaking undertaking, bool needed)
        {
            var fixture = new CaseFixture();
            var transfer = fixture.To(State.UnderReview, route: route);
            leave(fixture.RuleRunner.Permissions.State("KR")!);
            // What was given before the agreement said so is not enough.
            Assert.Equal(needed ? Reason.AssuranceNotInForce : Reason.Unspecified, fixture.TryDecide(transfer));
            if (!needed)
                return;
            Assert.Equal(Reason.AssuranceIncomplete, fixture.Try(CaseFixture.Kr, fixture.Assurance(transfer), Transfers.GiveAssurance));
            var whole = fixture.Assurance(transfer);
            whole.Undertakings.Add(undertaking);
            fixture.Do(CaseFixture.Kr, whole, Transfers.GiveAssurance);
            Assert.Equal(Reason.Unspecified, fixture.TryDecide(transfer));
        }
    }

    [Fact]
    public void A_power_that_the_protocol_does_not_bind_hands_on_nothing_of_it()
    {
        foreach (var code in (string[])["UA", "KR"])
            _fixture.RuleRunner.Permissions.State(code)!.PartyToAp1 = false;
        Assert.Equal(Reason.Unspecified, _fixture.TryDecide(_fixture.To(State.UnderReview)));
    }

    [Theory]
    [MemberData(nameof(Routes))]
    public void Where_custody_is_silent_his_origin_is_not_known_and_the_assurance_counts_as_needed(Route route)
    {
        var transfer = Reviewed(route, "KR", CaseFixture.Kr, assured: false);
        _fixture.Custody = null;
        Assert.Equal(Reason.Unavailable, _fixture.TryDecide(transfer));
        _fixture.RuleRunner.Now += TimeSpan.FromHours(4);
        Assert.Equal(
            Reason.AssuranceNotInForce,
            _fixture.Try(
                CaseFixture.Ua,
                _fixture.Confirmation(transfer, Invariant.D1, Invariant.D9, Invariant.D10, Invariant.D11),
                Transfers.ConfirmHandover
            )
        );
    }

    [Theory]
    [InlineData(true, Reason.Unspecified)]
    [InlineData(false, Reason.DepartureNotCleared)]
    public void The_accepting_power_is_not_told_whether_it_counts_as_the_power_of_origin(bool origin, Reason expected)
    {
        var transfer = Reviewed(Route.Repatriation, "KR", CaseFixture.Kr, assured: false);
        _fixture.Custody = CaseFixture.Answer(origin: true);
        Assert.Equal(Reason.Unspecified, _fixture.TryDecide(transfer));
        _fixture.Do(CaseFixture.Ua, _fixture.Schedule(transfer), Transfers.ScheduleHandover);
        _fixture.Do(CaseFixture.Ua, new BeginTransitRequest { Transfer = transfer }, Transfers.BeginTransit);
        _fixture.RuleRunner.Now += TimeSpan.FromHours(4);
        _fixture.Custody = CaseFixture.Answer(origin: origin);
        Assert.Equal(expected, _fixture.Try(CaseFixture.Kr, _fixture.Confirmation(transfer), Transfers.ConfirmHandover));
    }

    [Theory]
    [InlineData(Route.Article12Transfer, State.Suspended)]
    [InlineData(Route.NeutralAccommodation, State.Suspended)]
    [InlineData(Route.Release, State.Agreed)]
    [InlineData(Route.Repatriation, State.Agreed)]
    [InlineData(Route.Exchange, State.Agreed)]
    public void An_assessment_that_is_bad_suspends_what_rests_on_it(Route route, State expected)
    {
        var transfer = _fixture.To(State.Agreed, route: route);
        _fixture.Do(CaseFixture.Ua, _fixture.Assessment(transfer, willing: false), Transfers.RecordTransfereeAssessment);
        Assert.Equal(expected, _fixture.Transfer(transfer).State);
    }

    [Theory]
    [MemberData(nameof(Routes))]
    public void A_departure_whose_assurance_ended_is_suspended_and_resumed_where_it_needs_none(Route route)
    {
        var transfer = _fixture.To(State.Agreed, route: route);
        _fixture.Do(CaseFixture.Ua, _fixture.Assessment(transfer, hours: 24 * 60), Transfers.RecordTransfereeAssessment);
        _fixture.RuleRunner.Now += TimeSpan.FromDays(30);
        _fixture.FallDue(transfer);
        Assert.Equal(State.Suspended, _fixture.Transfer(transfer).State);
        Assert.Equal(Reason.AssuranceNotInForce, Resume(transfer));
        _fixture.Custody = CaseFixture.Answer(origin: true);
        Assert.Equal(route.PassesCustody() ? Reason.AssuranceNotInForce : Reason.Unspecified, Resume(transfer));
    }

    // ---------------------------------------------------------------------------------------------- D1: the accepting power is there

    [Theory]
    [InlineData(State.UnderReview)]
    [InlineData(State.Agreed)]
    [InlineData(State.Scheduled)]
    [InlineData(State.Suspended)]
    public void Nobody_leaves_for_a_power_that_is_not_party_to_the_case(State from)
    {
        var transfer = _fixture.To(from);
        _fixture.Happen(new PartyRemoved { Case = _fixture.Case, Participant = CaseFixture.Kr });
        Assert.Equal(Reason.AcceptingPowerAbsent, Next());
        Advises(Reason.AcceptingPowerAbsent, "AdmitParty");
        _fixture.Admit(CaseFixture.Stranger, Part.RequestingState, "KR");
        Assert.Equal(Reason.Unspecified, Next());

        Reason Next() =>
            from switch
            {
                State.UnderReview => _fixture.TryDecide(transfer),
                State.Agreed => _fixture.Try(CaseFixture.Ua, _fixture.Schedule(transfer), Transfers.ScheduleHandover),
                State.Scheduled => _fixture.Try(CaseFixture.Ua, new BeginTransitRequest { Transfer = transfer }, Transfers.BeginTransit),
                _ => Resume(transfer),
            };
    }

    [Fact]
    public void A_protecting_power_accepts_nobody_for_the_state_whose_it_is()
    {
        var transfer = Submitted(CaseFixture.Ua, Route.NeutralAccommodation, "CH");
        _fixture.Do(CaseFixture.Ua, new BeginReviewRequest { Transfer = transfer }, Transfers.BeginReview);
        _fixture.Custody = CaseFixture.Answer("CH");
        Assert.Equal(Reason.AcceptingPowerAbsent, _fixture.TryDecide(transfer));
    }

    // ------------------------------------------------------------------------------- the detaining power's own request, by any route

    [Theory]
    [MemberData(nameof(Routes))]
    public void The_detaining_power_opens_a_request_for_any_route_and_the_accepting_power_assures_and_confirms(Route route)
    {
        var transfer = _fixture.Draft(CaseFixture.Ua, route: route);
        Assert.Null(_fixture.Seen(CaseFixture.Kr, transfer));
        Assert.Equal("UA", _fixture.Transfer(transfer).RequestingState);
        _fixture.Do(CaseFixture.Ua, new SubmitTransferRequestRequest { Transfer = transfer }, Transfers.SubmitTransferRequest);
        Assert.Equal(("UA", "KR"), (_fixture.Transfer(transfer).DetainingPower, _fixture.Transfer(transfer).AcceptingPower));
        _fixture.Do(CaseFixture.Kr, _fixture.Assurance(transfer), Transfers.GiveAssurance);
        _fixture.Do(CaseFixture.Ua, new BeginReviewRequest { Transfer = transfer }, Transfers.BeginReview);
        _fixture.Do(CaseFixture.Ua, _fixture.Assessment(transfer), Transfers.RecordTransfereeAssessment);
        Assert.Equal(Reason.Unspecified, _fixture.TryDecide(transfer));
        _fixture.Do(CaseFixture.Ua, _fixture.Schedule(transfer), Transfers.ScheduleHandover);
        _fixture.Do(CaseFixture.Ua, new BeginTransitRequest { Transfer = transfer }, Transfers.BeginTransit);
        _fixture.RuleRunner.Now += TimeSpan.FromHours(4);
        _fixture.Do(CaseFixture.Ua, _fixture.Confirmation(transfer), Transfers.ConfirmHandover);
        Assert.Equal(State.InTransit, _fixture.Transfer(transfer).State);
        _fixture.Do(CaseFixture.Kr, _fixture.Confirmation(transfer), Transfers.ConfirmHandover);
        Assert.Equal(State.HandedOver, _fixture.Transfer(transfer).State);
    }

    [Fact]
    public void The_detaining_power_discards_and_withdraws_its_own_request_and_no_other()
    {
        var draft = _fixture.Draft(CaseFixture.Ua, route: Route.Exchange);
        _fixture.Do(CaseFixture.Ua, new DiscardDraftRequest { Transfer = draft }, Transfers.DiscardDraft);
        var own = Submitted(CaseFixture.Ua, Route.Exchange, "KR");
        Assert.Equal(
            Reason.NotGranted,
            _fixture.Try(CaseFixture.Kr, new WithdrawTransferRequestRequest { Transfer = own }, Transfers.WithdrawTransferRequest)
        );
        _fixture.Do(CaseFixture.Ua, new WithdrawTransferRequestRequest { Transfer = own }, Transfers.WithdrawTransferRequest);
        var others = _fixture.To(State.Submitted);
        Assert.Equal(
            Reason.NotGranted,
            _fixture.Try(CaseFixture.Ua, new WithdrawTransferRequestRequest { Transfer = others }, Transfers.WithdrawTransferRequest)
        );
    }

    [Fact]
    public void A_release_where_he_is_held_that_the_detaining_power_asked_for_needs_no_other_side()
    {
        var release = Submitted(CaseFixture.Ua, Route.Release, "UA");
        _fixture.Custody = null;
        _fixture.Do(CaseFixture.Ua, new BeginReviewRequest { Transfer = release }, Transfers.BeginReview);
        Assert.Equal(Reason.Unspecified, _fixture.TryDecide(release));
        // Where he is let go is nobody's to know who is no side of it.
        var plan = new ScheduleHandoverRequest(_fixture.Schedule(release)) { Place = CaseFixture.Sealed(CaseFixture.Icrc) };
        _fixture.Do(CaseFixture.Ua, plan, Transfers.ScheduleHandover);
        _fixture.Do(CaseFixture.Ua, new BeginTransitRequest { Transfer = release }, Transfers.BeginTransit);
        _fixture.RuleRunner.Now += TimeSpan.FromHours(4);
        _fixture.Do(CaseFixture.Ua, _fixture.Confirmation(release), Transfers.ConfirmHandover);
        var done = Assert.Single(_fixture.RuleRunner.Events.OfType<HandoverConfirmed>());
        Assert.Equal(("UA", "UA", CaseFixture.Ua), (done.FromPower, done.ToPower, done.DetainingParticipant));
        Assert.Null(_fixture.Transfer(release).SecondConfirmationDueTime);
        Assert.Equal(State.HandedOver, _fixture.Transfer(release).State);
    }

    [Fact]
    public void A_power_that_transferred_him_is_asked_to_take_him_as_any_other_and_takes_its_own_request_back()
    {
        var own = Submitted(CaseFixture.Ua, Route.Exchange, "RU");
        var draft = _fixture.Draft(CaseFixture.Ua, route: Route.Exchange, destination: "RU");
        _fixture.To(State.Monitored);
        _fixture.Do(CaseFixture.Ua, new DiscardDraftRequest { Transfer = draft }, Transfers.DiscardDraft);
        Assert.Equal(State.Suspended, _fixture.Transfer(own).State);
        _fixture.Do(CaseFixture.Ua, new WithdrawTransferRequestRequest { Transfer = own }, Transfers.WithdrawTransferRequest);
        var back = Submitted(CaseFixture.Kr, Route.Article12Transfer, "UA");
        Assert.Equal(("KR", "UA"), (_fixture.Transfer(back).DetainingPower, _fixture.Transfer(back).AcceptingPower));
        _fixture.Do(CaseFixture.Ua, _fixture.Assurance(back), Transfers.GiveAssurance);
        _fixture.RuleRunner.Now += TimeSpan.FromHours(4);
        _fixture.Do(CaseFixture.Ua, _fixture.Confirmation(back, Invariant.D1), Transfers.ConfirmHandover);
    }

    // ----------------------------------------------------------------------------- D8: a request that is suspended blocks no other one

    [Theory]
    [InlineData(State.Agreed)]
    [InlineData(State.Scheduled)]
    public void A_suspended_request_stands_in_nobodys_way_and_waits_then_for_the_other(State from)
    {
        var first = _fixture.To(State.Suspended, from: from);
        var second = _fixture.To(State.UnderReview);
        Assert.Equal(Reason.Unspecified, _fixture.TryDecide(second));
        Assert.Equal(Reason.AnotherTransferStands, Resume(first));
        // The advice works: the detaining power declines the other one.
        Advises(Reason.AnotherTransferStands, "DecideTransfer", "AbortHandover", "WithdrawReturn");
        Assert.Equal(Reason.Unspecified, _fixture.TryDecide(second, agreed: false));
        Assert.Equal(Reason.Unspecified, Resume(first));
        Assert.Equal(from, _fixture.Transfer(first).State);
        Assert.Equal(Reason.AnotherTransferStands, _fixture.TryDecide(Again(second)));
    }

    [Fact]
    public void A_request_suspended_on_the_way_stands_in_the_way_until_it_is_called_off()
    {
        var first = _fixture.To(State.Suspended, from: State.InTransit);
        var second = _fixture.To(State.UnderReview);
        Assert.Equal(Reason.AnotherTransferStands, _fixture.TryDecide(second));
        _fixture.Do(CaseFixture.Ua, new AbortHandoverRequest { Transfer = first }, Transfers.AbortHandover);
        Assert.Equal(Reason.Unspecified, _fixture.TryDecide(second));
        Assert.Equal(Reason.AnotherTransferStands, Resume(first));
    }

    [Fact]
    public void What_the_power_of_before_had_under_way_stands_not_in_the_way_of_who_holds_him_now()
    {
        var first = _fixture.To(State.InTransit);
        var second = Submitted(CaseFixture.Ru, Route.Article12Transfer, "RU");
        _fixture.RuleRunner.Now += TimeSpan.FromHours(4);
        foreach (var side in (string[])[CaseFixture.Ua, CaseFixture.Ru])
            _fixture.Do(
                side,
                _fixture.Confirmation(second, Invariant.D1, Invariant.D2, Invariant.D9, Invariant.D10, Invariant.D11, Invariant.D12),
                Transfers.ConfirmHandover
            );
        _fixture.Pass("UA", "RU");
        // He is on no other way any more.
        Assert.Equal((State.Suspended, State.Agreed), (_fixture.Transfer(first).State, _fixture.Transfer(first).SuspendedFrom));
        _fixture.Do(CaseFixture.Kr, new WithdrawTransferRequestRequest { Transfer = first }, Transfers.WithdrawTransferRequest);
        var next = Submitted(CaseFixture.Kr, Route.Repatriation, "KR");
        _fixture.Do(CaseFixture.Ru, new BeginReviewRequest { Transfer = next }, Transfers.BeginReview);
        _fixture.Custody = CaseFixture.Answer(origin: true);
        _fixture.Do(
            CaseFixture.Ru,
            new DecideTransferRequest
            {
                Transfer = next,
                Agreed = true,
                NoteVerbale = "NV-6",
            },
            Transfers.DecideTransfer
        );
    }

    [Theory]
    [InlineData(State.UnderReview, State.UnderReview)]
    [InlineData(State.Agreed, State.Agreed)]
    [InlineData(State.Scheduled, State.Scheduled)]
    [InlineData(State.Suspended, State.Submitted)]
    [InlineData(State.Suspended, State.UnderReview)]
    [InlineData(State.Suspended, State.Agreed)]
    [InlineData(State.Suspended, State.Scheduled)]
    public void The_detaining_power_ends_a_request_until_he_sets_out(State state, State from)
    {
        var transfer = _fixture.To(state, from: from);
        _fixture.Custody = null;
        Assert.Equal(Reason.Unspecified, _fixture.TryDecide(transfer, agreed: false));
        Assert.Equal((State.Declined, State.Unspecified), (_fixture.Transfer(transfer).State, _fixture.Transfer(transfer).SuspendedFrom));
        _fixture.Custody = CaseFixture.Answer();
        Assert.Equal(Reason.Unspecified, _fixture.TryDecide(Again(transfer)));
    }

    [Fact]
    public void A_request_on_the_way_is_called_off_before_it_is_declined_or_agreed_to_anew()
    {
        var transfer = _fixture.To(State.Suspended, from: State.InTransit);
        Assert.Equal(Reason.StateNotAllowed, _fixture.TryDecide(transfer, agreed: false));
        Assert.Equal(Reason.StateNotAllowed, _fixture.TryDecide(transfer));
        _fixture.Do(CaseFixture.Ua, new AbortHandoverRequest { Transfer = transfer }, Transfers.AbortHandover);
        Assert.Equal(Reason.Unspecified, _fixture.TryDecide(transfer));
        Assert.Equal(Reason.StateNotAllowed, _fixture.TryDecide(transfer));
        Assert.Equal(Reason.Unspecified, _fixture.TryDecide(transfer, agreed: false));
    }

    // ------------------------------------------------------------------------------------------------------------- advice

    [Theory]
    [InlineData(Reason.DepartureNotFree, "RecordProceedings")]
    [InlineData(Reason.FitnessNotRecorded, "RecordFitness")]
    [InlineData(Reason.RiskNotAssessed, "RecordRiskAssessment")]
    [InlineData(Reason.AssessmentNotInForce, "RecordTransfereeAssessment")]
    [InlineData(Reason.AssuranceIncomplete, "GiveAssurance")]
    [InlineData(Reason.PrisonerNotHeld, "RecordStatus")]
    [InlineData(Reason.DestinationIsDetainingPower, "RELEASE")]
    [InlineData(Reason.ConfirmationsDiffer, "D1")]
    public void A_refusal_names_what_unlocks_it(Reason reason, string name) => Advises(reason, name);

    private static void Advises(Reason reason, params string[] names) =>
        Assert.All(names, n => Assert.Contains(n, Reasons.AboutOf(reason).Unlock));

    private Reason Resume(string transfer) =>
        _fixture.Try(CaseFixture.Ua, new ResumeTransferRequest { Transfer = transfer }, Transfers.ResumeTransfer);

    // The same is asked for once more, after it was declined.
    private string Again(string declined)
    {
        var again = _fixture.Draft(previous: declined);
        _fixture.Do(CaseFixture.Kr, new SubmitTransferRequestRequest { Transfer = again }, Transfers.SubmitTransferRequest);
        _fixture.Do(CaseFixture.Kr, _fixture.Assurance(again), Transfers.GiveAssurance);
        _fixture.Do(CaseFixture.Ua, new BeginReviewRequest { Transfer = again }, Transfers.BeginReview);
        _fixture.Do(CaseFixture.Ua, _fixture.Assessment(again), Transfers.RecordTransfereeAssessment);
        return again;
    }

    private string Submitted(string participant, Route route, string destination)
    {
        var transfer = _fixture.Draft(participant, route: route, destination: destination);
        _fixture.Do(participant, new SubmitTransferRequestRequest { Transfer = transfer }, Transfers.SubmitTransferRequest);
        return transfer;
    }

    private string Reviewed(Route route, string destination, string participant, bool assured = true, bool assessed = true)
    {
        var transfer = Submitted(participant, route, destination);
        if (assured)
            _fixture.Do(participant, _fixture.Assurance(transfer), Transfers.GiveAssurance);
        _fixture.Do(CaseFixture.Ua, new BeginReviewRequest { Transfer = transfer }, Transfers.BeginReview);
        if (assessed)
            _fixture.Do(CaseFixture.Ua, _fixture.Assessment(transfer), Transfers.RecordTransfereeAssessment);
        return transfer;
    }
}
