using Ministries.Consular.V1;
using Ministries.Custody.V1;
using Ministries.Errors.V1;
using Ministries.Types.V1;
using AccessState = Ministries.Consular.V1.AccessState;
using State = Ministries.Consular.V1.TransferState;

namespace Ministries.Consular.Tests;

/// <summary>What no participant, alone or with another one, brings about by a sequence of requests that are each accepted.</summary>
public sealed class AttackTests
{
    private readonly CaseFixture _fixture = new();

    // ------------------------------------------------------------------------------------------------ one way at a time (D1, D8)

    [Fact]
    public void A_departure_that_was_agreed_stands_again_when_a_request_for_return_is_withdrawn()
    {
        var (first, next) = AgreedOnward();
        RequestReturn(first);
        _fixture.Do(CaseFixture.Ua, new WithdrawReturnRequest { Transfer = first }, Transfers.WithdrawReturn);
        Assert.Equal(State.Agreed, _fixture.Transfer(next).State);
        var third = Onward(CaseFixture.Ru);
        Assert.Equal(Reason.AnotherTransferStands, Agree(third));
        Assert.Equal(Reason.Unspecified, _fixture.Try(CaseFixture.Kr, _fixture.Schedule(next), Transfers.ScheduleHandover));
    }

    [Theory]
    [InlineData(State.Agreed)]
    [InlineData(State.InTransit)]
    public void A_departure_under_way_is_suspended_by_an_objection_though_a_return_is_requested(State from)
    {
        var (first, next) = AgreedOnward();
        if (from == State.InTransit)
            SetOut(next);
        RequestReturn(first);
        _fixture.Custody = CaseFixture.Answer("RU", standing: Standing.NotInForce, origin: true);
        _fixture.Happen(new StatementRecorded { Case = _fixture.Case, Prisoner = CaseFixture.First });
        Assert.Equal((State.Suspended, from), (_fixture.Transfer(next).State, _fixture.Transfer(next).SuspendedFrom));
    }

    [Fact]
    public void One_on_the_way_is_in_the_way_though_a_return_was_requested_and_withdrawn()
    {
        var (first, next) = AgreedOnward();
        SetOut(next);
        RequestReturn(first);
        _fixture.Do(CaseFixture.Ua, new WithdrawReturnRequest { Transfer = first }, Transfers.WithdrawReturn);
        Assert.Equal(Reason.AnotherTransferStands, Agree(Onward(CaseFixture.Ru)));
    }

    [Fact]
    public void Nobody_sets_out_while_custody_has_not_recorded_that_he_was_given_back()
    {
        var (first, next) = AgreedOnward();
        _fixture.Do(CaseFixture.Kr, _fixture.Schedule(next), Transfers.ScheduleHandover);
        _fixture.RuleRunner.Now += TimeSpan.FromHours(4);
        foreach (var side in (string[])[CaseFixture.Kr, CaseFixture.Ua])
            _fixture.Do(
                side,
                _fixture.ReturnConfirmation(first, Invariant.D1, Invariant.D9, Invariant.D10, Invariant.D11, Invariant.D12),
                Transfers.ConfirmReturn
            );
        Assert.Equal(
            Reason.AnotherTransferStands,
            _fixture.Try(CaseFixture.Kr, new BeginTransitRequest { Transfer = next }, Transfers.BeginTransit)
        );
        // It stands in the way of no journey from there.
        _fixture.Pass("KR", "UA", returned: true);
        _fixture.Custody = CaseFixture.Answer();
        _fixture.To(State.InTransit);
    }

    [Fact]
    public void A_request_for_return_ends_when_he_is_back_by_another_way()
    {
        var first = _fixture.To(State.Monitored);
        _fixture.Report(first);
        _fixture.Pass("KR", "UA");
        Assert.Equal(State.Returned, _fixture.Transfer(first).State);
        // If he is handed over once more, his return is requested by the present transfer.
        var second = _fixture.To(State.Monitored);
        Assert.Equal(
            Reason.StateNotAllowed,
            _fixture.Try(CaseFixture.Ua, new RequestReturnRequest { Transfer = first }, Transfers.RequestReturn)
        );
        RequestReturn(second);
        _fixture.Pass("KR", "UA");
        foreach (var transfer in (string[])[first, second])
        {
            Assert.Equal(State.Returned, _fixture.Transfer(transfer).State);
            Assert.Null(Transfers.Kind.DueOf(_fixture.Transfer(transfer)));
        }
        // He may leave again.
        Assert.Equal(Reason.Unspecified, _fixture.TryDecide(_fixture.To(State.UnderReview)));
        _fixture.Do(CaseFixture.Kr, new CloseTransferRequest { Transfer = second }, Transfers.CloseTransfer);
    }

    [Fact]
    public void What_one_side_confirmed_completes_nothing_after_he_passed_to_another_power()
    {
        var old = _fixture.To(State.UnderReview);
        _fixture.RuleRunner.Now += TimeSpan.FromHours(4);
        _fixture.Do(CaseFixture.Ua, _fixture.Confirmation(old, Invariant.D1), Transfers.ConfirmHandover);
        _fixture.Pass("UA", "RU");
        _fixture.Do(CaseFixture.Kr, _fixture.Confirmation(old, Invariant.D1), Transfers.ConfirmHandover);
        // It stands as that side's account, and custody is told of no hand-over by one who does not hold him.
        Assert.Equal(CaseFixture.Kr, Assert.Single(_fixture.Transfer(old).Confirmations).Participant);
        Assert.DoesNotContain(_fixture.RuleRunner.Events, e => e is HandoverConfirmed);
        Assert.Equal(Reason.NotGranted, _fixture.Try(CaseFixture.Ua, _fixture.Confirmation(old, Invariant.D1), Transfers.ConfirmHandover));
    }

    [Fact]
    public void One_who_comes_back_is_not_on_the_way_where_he_once_was()
    {
        var transfer = _fixture.To(State.InTransit);
        _fixture.Pass("UA", "RU");
        _fixture.Pass("RU", "UA");
        var after = _fixture.Transfer(transfer);
        Assert.Equal((State.Suspended, State.Agreed), (after.State, after.SuspendedFrom));
        _fixture.Do(CaseFixture.Ua, new ResumeTransferRequest { Transfer = transfer }, Transfers.ResumeTransfer);
        Assert.Equal(State.Agreed, _fixture.Transfer(transfer).State);
    }

    // --------------------------------------------------------------------------------------------------- nobody fills another's room

    [Fact]
    public void No_sides_acts_leave_another_side_without_room_for_its_own()
    {
        var transfer = _fixture.To(State.InTransit);
        while (_fixture.Try(CaseFixture.Kr, _fixture.Assurance(transfer), Transfers.GiveAssurance) != Reason.RecordFull)
        {
            // The record fills.
        }
        _fixture.Suspend(transfer);
        _fixture.Do(CaseFixture.Ua, _fixture.Assessment(transfer), Transfers.RecordTransfereeAssessment);
        _fixture.Do(CaseFixture.Ua, new ResumeTransferRequest { Transfer = transfer }, Transfers.ResumeTransfer);
        _fixture.RuleRunner.Now += TimeSpan.FromHours(4);
        _fixture.Do(CaseFixture.Ua, _fixture.Confirmation(transfer), Transfers.ConfirmHandover);
        _fixture.Do(CaseFixture.Kr, _fixture.Confirmation(transfer), Transfers.ConfirmHandover);
        _fixture.Pass("UA", "KR");
        _fixture.Report(transfer);
    }

    [Fact]
    public void Where_the_record_is_full_tells_nobody_how_many_acts_he_may_not_see()
    {
        var room = new HashSet<int>();
        foreach (var hidden in (int[])[0, 3])
        {
            var fixture = new CaseFixture();
            var transfer = fixture.To(State.Agreed);
            for (var i = 0; i < hidden; i++)
                fixture.Do(CaseFixture.Ua, fixture.Assessment(transfer), Transfers.RecordTransfereeAssessment);
            var given = 0;
            while (fixture.Try(CaseFixture.Kr, fixture.Assurance(transfer), Transfers.GiveAssurance) == Reason.Unspecified)
                given++;
            room.Add(given);
        }
        Assert.Single(room);
    }

    [Fact]
    public void Who_visits_often_leaves_room_to_end_his_visits()
    {
        var access = RequestAccess();
        _fixture.Do(
            CaseFixture.Ua,
            new DecideAccessRequest
            {
                Access = access,
                Granted = true,
                SendingState = SendingStateDecision.Counts,
                RightsToldTime = _fixture.In(-1),
                PersonRequest = CaseFixture.Sealed(CaseFixture.Icrc),
            },
            Accesses.DecideAccess
        );
        _fixture.RuleRunner.Now += TimeSpan.FromHours(3);
        while (
            _fixture.Try(CaseFixture.Kr, new RecordVisitRequest { Access = access, StartTime = _fixture.In(-2) }, Accesses.RecordVisit)
            != Reason.RecordFull
        )
        {
            // The record fills.
        }
        _fixture.Do(
            CaseFixture.Ua,
            new DecideAccessRequest
            {
                Access = access,
                SendingState = SendingStateDecision.Counts,
                DenialGround = DenialGround.ConditionsNotMet,
                DenialExpireTime = _fixture.In(48),
            },
            Accesses.DecideAccess
        );
        Assert.Equal(AccessState.Denied, _fixture.Access(access).State);
    }

    /// <summary>A visit and a failure are facts, which more than one may record.</summary>
    [Fact]
    public void Who_records_often_leaves_room_to_whoever_else_records_the_same()
    {
        var visits = (
            (NotifyVisitResponse)
                _fixture.Do(CaseFixture.Icrc, new NotifyVisitRequest { Prisoner = CaseFixture.First }, Accesses.NotifyVisit)
        ).Access;
        _fixture.RuleRunner.Now += TimeSpan.FromHours(3);
        while (Visit(CaseFixture.Ua) != Reason.RecordFull)
        {
            // The record fills.
        }
        Assert.Equal(Reason.Unspecified, Visit(CaseFixture.Icrc));
        var transfer = _fixture.To(State.Monitored, CaseFixture.Second);
        while (Report(CaseFixture.Icrc) != Reason.RecordFull)
        {
            // The record fills.
        }
        Assert.Equal(Reason.Unspecified, Report(CaseFixture.Swiss));

        Reason Visit(string who) =>
            _fixture.Try(who, new RecordVisitRequest { Access = visits, StartTime = _fixture.In(-2) }, Accesses.RecordVisit);

        Reason Report(string who) =>
            _fixture.Try(
                who,
                new ReportTreatmentFailureRequest { Transfer = transfer, Articles = { "13" } },
                Transfers.ReportTreatmentFailure
            );
    }

    /// <summary>A ledger keeps no state of more than 8 MiB, and refuses whatever would make it larger.</summary>
    [Fact]
    public void Whoever_fills_access_with_reports_leaves_room_to_the_visiting_side_and_to_what_happens()
    {
        _fixture.Admit(CaseFixture.Stranger, Part.RequestingState, "KR");
        var visits = (
            (NotifyVisitResponse)
                _fixture.Do(CaseFixture.Icrc, new NotifyVisitRequest { Prisoner = CaseFixture.First }, Accesses.NotifyVisit)
        ).Access;
        Fill(CaseFixture.Ua, CaseFixture.UaMfa);
        _fixture.Pass("UA", "KR");
        Fill(CaseFixture.Kr, CaseFixture.Stranger);
        _fixture.Pass("KR", "RU");
        Fill(CaseFixture.Ru);
        _fixture.Pass("RU", "XX");
        Fill(CaseFixture.Xx);
        Assert.Equal(Reason.Unspecified, Visit(CaseFixture.Icrc));
        Fill(CaseFixture.Icrc);
        _fixture.Pass("XX", "UA");
        Assert.Equal("UA", _fixture.Access(visits).DetainingPower);
        _fixture.Do(
            CaseFixture.Icrc,
            new V1.CorrectRecordRequest { Record = visits, Position = _fixture.Access(visits).Visits[^1].Position },
            CaseFixture.Correct
        );
        _fixture.Do(CaseFixture.Icrc, new CloseAccessRequest { Access = visits }, Accesses.CloseAccess);

        void Fill(params string[] all)
        {
            foreach (var who in all)
            {
                _fixture.RuleRunner.Now += TimeSpan.FromHours(3);
                while (Visit(who) is var reason && reason != Reason.RecordFull)
                    Assert.Equal(Reason.Unspecified, reason);
            }
        }

        Reason Visit(string who) =>
            _fixture.Try(
                who,
                new RecordVisitRequest
                {
                    Access = visits,
                    StartTime = _fixture.In(0),
                    Report = Large(),
                },
                Accesses.RecordVisit
            );
    }

    [Fact]
    public void Whoever_fills_a_transfer_with_measures_or_reports_leaves_room_to_another_observers_report_and_to_what_happens()
    {
        var transfer = _fixture.To(State.Monitored);
        _fixture.Report(transfer);
        var failure = _fixture.Transfer(transfer).Failures[0].Id;
        foreach (var who in (string[])[CaseFixture.Ua, CaseFixture.UaMfa])
            Fill(() =>
                _fixture.Try(
                    who,
                    new RecordCorrectiveMeasuresRequest
                    {
                        Transfer = transfer,
                        Failure = failure,
                        Content = Large(),
                    },
                    Transfers.RecordCorrectiveMeasures
                )
            );
        Fill(() => Report(CaseFixture.Icrc));
        Assert.Equal(Reason.Unspecified, Report(CaseFixture.Swiss));
        Fill(() => Report(CaseFixture.Swiss));
        _fixture.Do(CaseFixture.Ua, new RequestReturnRequest { Transfer = transfer, NoteVerbale = "NV-4" }, Transfers.RequestReturn);
        _fixture.Pass("KR", "UA");
        Assert.Equal(State.Returned, _fixture.Transfer(transfer).State);

        static void Fill(Func<Reason> next)
        {
            while (next() is var reason && reason != Reason.RecordFull)
                Assert.Equal(Reason.Unspecified, reason);
        }

        Reason Report(string who) =>
            _fixture.Try(
                who,
                new ReportTreatmentFailureRequest
                {
                    Transfer = transfer,
                    Articles = { "13" },
                    Content = Large(),
                },
                Transfers.ReportTreatmentFailure
            );
    }

    private static Sealed Large() => Fixtures.SealedForm.OfBytes(65536, CaseFixture.Icrc);

    [Fact]
    public void Who_asks_often_leaves_room_to_the_observers_and_to_other_states()
    {
        for (var i = 0; i < Dossiers.MaxRecords; i++)
        {
            var access = RequestAccess();
            _fixture.Do(CaseFixture.Kr, new CloseAccessRequest { Access = access }, Accesses.CloseAccess);
            var draft = _fixture.Draft();
            _fixture.Do(CaseFixture.Kr, new DiscardDraftRequest { Transfer = draft }, Transfers.DiscardDraft);
        }
        Assert.Equal(
            Reason.RecordFull,
            _fixture.Try(CaseFixture.Kr, new RequestAccessRequest { Prisoner = CaseFixture.First }, Accesses.RequestAccess)
        );
        Assert.Equal(
            Reason.RecordFull,
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
        _fixture.Do(CaseFixture.Icrc, new NotifyVisitRequest { Prisoner = CaseFixture.First }, Accesses.NotifyVisit);
        _fixture.Draft(CaseFixture.Ua, route: Route.Repatriation, destination: "RU");
        _fixture.Draft(CaseFixture.Ru, route: Route.Exchange, destination: "RU");
    }

    // ------------------------------------------------------------------------------------------------------- after a transfer (D3)

    [Fact]
    public void A_transfer_that_was_closed_with_the_end_of_custody_is_watched_again_where_custody_goes_on()
    {
        var transfer = _fixture.To(State.Monitored);
        Status(held: false, ended: true);
        _fixture.Do(CaseFixture.Kr, new CloseTransferRequest { Transfer = transfer }, Transfers.CloseTransfer);
        // The release is corrected, or he is recaptured: the power that took him holds him still.
        Status(held: true, ended: false);
        Assert.Equal((State.Monitored, null), (_fixture.Transfer(transfer).State, _fixture.Transfer(transfer).CloseTime));
        RequestReturn(transfer);
        Assert.Equal(
            Reason.StateNotAllowed,
            _fixture.Try(CaseFixture.Kr, new CloseTransferRequest { Transfer = transfer }, Transfers.CloseTransfer)
        );
    }

    [Fact]
    public void A_transfer_that_was_closed_after_a_return_stays_closed()
    {
        var transfer = _fixture.To(State.Closed);
        Status(held: true, ended: false);
        Assert.Equal(State.Closed, _fixture.Transfer(transfer).State);
    }

    [Fact]
    public void Measures_that_were_corrected_leave_the_failure_open()
    {
        var transfer = _fixture.To(State.Monitored);
        _fixture.Report(transfer);
        var failure = _fixture.Transfer(transfer).Failures.Single();
        var due = Transfers.Kind.DueOf(_fixture.Transfer(transfer));
        _fixture.Do(
            CaseFixture.Ua,
            new RecordCorrectiveMeasuresRequest { Transfer = transfer, Failure = failure.Id },
            Transfers.RecordCorrectiveMeasures
        );
        Assert.Null(Transfers.Kind.DueOf(_fixture.Transfer(transfer)));
        Correct(CaseFixture.Ua, transfer, "RecordCorrectiveMeasures");
        Assert.Equal(due, Transfers.Kind.DueOf(_fixture.Transfer(transfer)));
        Assert.True(_fixture.Seen(CaseFixture.Icrc, transfer)!.Failures.Single().Measures.Single().Corrected);
    }

    [Fact]
    public void A_failure_that_its_reporter_corrected_asks_for_nothing()
    {
        var transfer = _fixture.To(State.Monitored);
        _fixture.Report(transfer);
        Correct(CaseFixture.Icrc, transfer, "ReportTreatmentFailure");
        Assert.Null(Transfers.Kind.DueOf(_fixture.Transfer(transfer)));
        Assert.Equal(
            Reason.NoFailureReported,
            _fixture.Try(CaseFixture.Ua, new RequestReturnRequest { Transfer = transfer }, Transfers.RequestReturn)
        );
        RequestReturn(transfer);
    }

    // ----------------------------------------------------------------------------------------------------------- his word (D9)

    [Theory]
    [InlineData(CaseFixture.Kr)]
    [InlineData(CaseFixture.Ua)]
    public void A_confirmation_does_not_keep_an_objection_that_was_recorded_before_it_from_suspending(string side)
    {
        var transfer = _fixture.To(State.InTransit);
        _fixture.RuleRunner.Now += TimeSpan.FromHours(4);
        // Custody has recorded the objection, and its event is still on its way.
        _fixture.Custody = CaseFixture.Answer(standing: Standing.NotInForce, position: _fixture.CustodyEnd + 1);
        _fixture.Do(side, _fixture.Confirmation(transfer, Invariant.D9), Transfers.ConfirmHandover);
        _fixture.Happen(new StatementRecorded { Case = _fixture.Case, Prisoner = CaseFixture.First });
        Assert.Equal(State.Suspended, _fixture.Transfer(transfer).State);
    }

    // --------------------------------------------------------------------------------------------------------------- corrections

    [Theory]
    [InlineData(State.Agreed)]
    [InlineData(State.Scheduled)]
    [InlineData(State.InTransit)]
    public void An_agreement_that_was_corrected_is_made_anew_with_all_its_approvals(State from)
    {
        var transfer = _fixture.To(from);
        Correct(CaseFixture.Ua, transfer, "DecideTransfer");
        var resume = new ResumeTransferRequest { Transfer = transfer };
        Assert.Equal(Reason.StateNotAllowed, _fixture.Try(CaseFixture.Ua, resume.Clone(), Transfers.ResumeTransfer));
        if (from == State.InTransit)
        {
            Assert.Equal(Reason.StateNotAllowed, _fixture.TryDecide(transfer));
            _fixture.Do(CaseFixture.Ua, new AbortHandoverRequest { Transfer = transfer }, Transfers.AbortHandover);
            Assert.Equal(Reason.StateNotAllowed, _fixture.Try(CaseFixture.Ua, resume.Clone(), Transfers.ResumeTransfer));
        }
        var approved = _fixture.RuleRunner.Approved;
        _fixture.RuleRunner.Approved = new HashSet<string>();
        Assert.Equal(Reason.ApprovalsMissing, _fixture.TryDecide(transfer));
        _fixture.RuleRunner.Approved = approved;
        _fixture.Custody = CaseFixture.Lost;
        Assert.Equal(Reason.StandingNotInForce, _fixture.TryDecide(transfer));
        _fixture.Custody = CaseFixture.Answer();
        Assert.Equal(Reason.Unspecified, _fixture.TryDecide(transfer));
        Assert.Equal((State.Agreed, State.Unspecified), (_fixture.Transfer(transfer).State, _fixture.Transfer(transfer).SuspendedFrom));
        Assert.Equal(Reason.AnotherTransferStands, _fixture.TryDecide(_fixture.To(State.UnderReview)));
    }

    // ------------------------------------------------------------------------------------------------------------------- helpers

    private string RequestAccess() =>
        (
            (RequestAccessResponse)
                _fixture.Do(CaseFixture.Kr, new RequestAccessRequest { Prisoner = CaseFixture.First }, Accesses.RequestAccess)
        ).Access;

    private void Status(bool held, bool ended) =>
        _fixture.Happen(
            new StatusRecorded
            {
                Case = _fixture.Case,
                Prisoner = CaseFixture.First,
                Held = held,
                Ended = ended,
            }
        );

    private void RequestReturn(string transfer)
    {
        _fixture.Report(transfer);
        _fixture.Do(CaseFixture.Ua, new RequestReturnRequest { Transfer = transfer }, Transfers.RequestReturn);
    }

    private void Correct(string participant, string transfer, string method) =>
        _fixture.Do(
            participant,
            new V1.CorrectRecordRequest
            {
                Record = transfer,
                Position = _fixture.Transfer(transfer).Acts.Last(a => a.Method == method).Position,
            },
            CaseFixture.Correct
        );

    // Ukraine transferred him to the Republic of Korea, which agreed that he goes on to his power of origin.
    private (string First, string Next) AgreedOnward()
    {
        var first = _fixture.To(State.Monitored);
        var next = Onward(CaseFixture.Ru);
        Assert.Equal(Reason.Unspecified, Agree(next));
        return (first, next);
    }

    private string Onward(string participant)
    {
        var next = _fixture.Draft(participant, route: Route.Exchange, destination: "RU");
        _fixture.Do(participant, new SubmitTransferRequestRequest { Transfer = next }, Transfers.SubmitTransferRequest);
        _fixture.Do(CaseFixture.Kr, new BeginReviewRequest { Transfer = next }, Transfers.BeginReview);
        return next;
    }

    private Reason Agree(string transfer)
    {
        _fixture.Custody = CaseFixture.Answer("RU", origin: true);
        return _fixture.Try(CaseFixture.Kr, new DecideTransferRequest { Transfer = transfer, Agreed = true }, Transfers.DecideTransfer);
    }

    private void SetOut(string transfer)
    {
        _fixture.Do(CaseFixture.Kr, _fixture.Schedule(transfer), Transfers.ScheduleHandover);
        _fixture.Do(CaseFixture.Kr, new BeginTransitRequest { Transfer = transfer }, Transfers.BeginTransit);
    }
}
