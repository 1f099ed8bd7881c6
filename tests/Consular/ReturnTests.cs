using Google.Protobuf.WellKnownTypes;
using Ministries.Consular.V1;
using Ministries.Custody.V1;
using Ministries.Errors.V1;
using Ministries.Types.V1;
using State = Ministries.Consular.V1.TransferState;

namespace Ministries.Consular.Tests;

/// <summary>The duties after a transfer (D3, GC III 12(3)): along a chain of powers, by the clock, and as a journey of its own.</summary>
public sealed class ReturnTests
{
    private static readonly Invariant[] AllOfHim = [Invariant.D9, Invariant.D10, Invariant.D11, Invariant.D12];

    private readonly CaseFixture _fixture = new();

    // ------------------------------------------------------------------------------------------------------- along a chain

    [Fact]
    public void Each_power_of_a_chain_answers_for_its_own_transfer_and_who_holds_him_returns_him()
    {
        var (first, second) = Chain();
        _fixture.Report(first);
        _fixture.Report(second);
        foreach (var (power, own, other) in ((string, string, string)[])[(CaseFixture.Ua, first, second), (CaseFixture.Kr, second, first)])
        {
            Assert.Equal(Reason.Unspecified, Measures(power, own));
            // The other's is not his to know of, or not his to act on.
            Assert.Contains(Measures(power, other), (Reason[])[Reason.NotFound, Reason.NotGranted]);
        }
        Assert.Null(_fixture.Seen(CaseFixture.Ru, first));
        Request(first);
        Assert.Equal("RU", _fixture.Seen(CaseFixture.Ru, first)!.ReturningPower);
        _fixture.RuleRunner.Now += TimeSpan.FromHours(4);
        Assert.Equal(Reason.NotGranted, _fixture.Try(CaseFixture.Kr, _fixture.ReturnConfirmation(first), Transfers.ConfirmReturn));
        _fixture.Do(CaseFixture.Ru, _fixture.ReturnConfirmation(first), Transfers.ConfirmReturn);
        Assert.Equal(HandoverSide.Giving, Assert.Single(_fixture.Seen(CaseFixture.Ru, first)!.ReturnConfirmations).Side);
        _fixture.Do(CaseFixture.Ua, _fixture.ReturnConfirmation(first), Transfers.ConfirmReturn);
        var returned = Assert.Single(_fixture.RuleRunner.Events.OfType<ReturnConfirmed>());
        Assert.Equal(("RU", "UA"), (returned.FromPower, returned.ToPower));
        Assert.Empty(returned.Breaches);
        Assert.Equal(State.Returned, _fixture.Transfer(first).State);
        Assert.Equal(State.Monitored, _fixture.Transfer(second).State);
        // From now on the first power itself answers for the prisoner, and the second one no longer does.
        _fixture.Pass("RU", "UA", returned: true);
        Assert.Equal(State.Returned, _fixture.Transfer(second).State);
    }

    /// <summary>Every duty to or of a power in the middle of a chain, when the prisoner comes to an earlier power (D3, D8).</summary>
    [Theory]
    [InlineData(State.Monitored, true)]
    [InlineData(State.Monitored, false)]
    [InlineData(State.ReturnRequested, true)]
    [InlineData(State.ReturnRequested, false)]
    public void Who_has_him_back_ends_the_duties_of_all_that_came_after_it(State of, bool returned)
    {
        var (first, second) = Chain();
        _fixture.Report(first);
        _fixture.Report(second);
        if (of == State.ReturnRequested)
        {
            Request(second, CaseFixture.Kr);
            _fixture.RuleRunner.Now += TimeSpan.FromHours(4);
            _fixture.Do(CaseFixture.Ru, _fixture.ReturnConfirmation(second), Transfers.ConfirmReturn);
        }
        _fixture.Pass("RU", "UA", returned: returned);
        foreach (var transfer in (string[])[first, second])
        {
            Assert.Equal(State.Returned, _fixture.Transfer(transfer).State);
            Assert.Null(Due(transfer));
            Assert.Empty(_fixture.Transfer(transfer).ReturnConfirmations);
        }
        // Nothing of it blocks his journey home.
        var home = _fixture.Draft(CaseFixture.Ru, route: Route.Repatriation, destination: "RU");
        _fixture.Do(CaseFixture.Ru, new SubmitTransferRequestRequest { Transfer = home }, Transfers.SubmitTransferRequest);
        _fixture.Do(CaseFixture.Ua, new BeginReviewRequest { Transfer = home }, Transfers.BeginReview);
        _fixture.Custody = CaseFixture.Answer("RU", origin: true);
        Assert.Equal(Reason.Unspecified, _fixture.TryDecide(home));
        // Protection may end for good, and each power closes its own transfer.
        _fixture.Do(CaseFixture.Ru, new CloseTransferRequest { Transfer = second }, Transfers.CloseTransfer);
    }

    [Fact]
    public void A_power_before_the_one_that_has_him_back_answers_still()
    {
        var (first, second) = Chain();
        _fixture.Report(first);
        _fixture.Pass("RU", "KR", returned: true);
        Assert.Equal((State.Monitored, State.Returned), (_fixture.Transfer(first).State, _fixture.Transfer(second).State));
        Assert.NotNull(Due(first));
        Request(first);
        Assert.Equal("KR", _fixture.Transfer(first).ReturningPower);
    }

    [Fact]
    public void The_second_power_of_a_chain_requests_return_too()
    {
        var (_, second) = Chain();
        _fixture.Report(second);
        Request(second, CaseFixture.Kr);
        _fixture.Custody = CaseFixture.Answer();
        _fixture.RuleRunner.Now += TimeSpan.FromHours(4);
        _fixture.Do(CaseFixture.Kr, _fixture.ReturnConfirmation(second), Transfers.ConfirmReturn);
        _fixture.Do(CaseFixture.Ru, _fixture.ReturnConfirmation(second), Transfers.ConfirmReturn);
        var returned = Assert.Single(_fixture.RuleRunner.Events.OfType<ReturnConfirmed>());
        Assert.Equal(("RU", "KR"), (returned.FromPower, returned.ToPower));
    }

    [Fact]
    public void Whoever_he_passes_to_after_the_request_owes_the_return()
    {
        var transfer = Requested();
        _fixture.RuleRunner.Now += TimeSpan.FromHours(4);
        _fixture.Do(CaseFixture.Kr, _fixture.ReturnConfirmation(transfer), Transfers.ConfirmReturn);
        _fixture.Pass("KR", "RU");
        Assert.Empty(_fixture.Transfer(transfer).ReturnConfirmations);
        Assert.Null(_fixture.Transfer(transfer).SecondConfirmationDueTime);
        Assert.Equal("RU", _fixture.Seen(CaseFixture.Ru, transfer)!.ReturningPower);
        _fixture.RuleRunner.Now += TimeSpan.FromHours(4);
        Assert.Equal(Reason.NotGranted, _fixture.Try(CaseFixture.Kr, _fixture.ReturnConfirmation(transfer), Transfers.ConfirmReturn));
        _fixture.Do(CaseFixture.Ru, _fixture.ReturnConfirmation(transfer), Transfers.ConfirmReturn);
    }

    [Fact]
    public void No_return_is_requested_of_one_who_is_back_or_whose_custody_ended()
    {
        var transfer = _fixture.To(State.Monitored);
        _fixture.Report(transfer);
        _fixture.Change(ended: true);
        Assert.Equal(Reason.PrisonerNotHeld, TryRequest(transfer));
    }

    /// <summary>A link of references ends no duty of a power that transferred him (12(3)): he is held under the kept one.</summary>
    [Fact]
    public void Who_was_handed_over_under_a_linked_reference_is_returned_and_watched_over_under_the_kept_one()
    {
        var transfer = _fixture.To(State.Monitored);
        _fixture.Pass("UA", "KR", prisoner: CaseFixture.Second);
        _fixture.Link();
        _fixture.Report(transfer);
        foreach (var power in (string[])[CaseFixture.Ua, CaseFixture.Kr])
            Assert.Equal(
                Reason.NotFinallyReleased,
                _fixture.Try(power, new CloseTransferRequest { Transfer = transfer }, Transfers.CloseTransfer)
            );
        Request(transfer);
        Assert.Equal("KR", _fixture.Transfer(transfer).ReturningPower);
        // Who holds him now gives him back, under whichever reference he came.
        _fixture.Pass("KR", "RU", prisoner: CaseFixture.Second);
        Assert.Equal("RU", _fixture.Transfer(transfer).ReturningPower);
        _fixture.RuleRunner.Now += TimeSpan.FromHours(4);
        Assert.Equal(Reason.NotGranted, _fixture.Try(CaseFixture.Kr, _fixture.ReturnConfirmation(transfer), Transfers.ConfirmReturn));
        _fixture.Do(CaseFixture.Ru, _fixture.ReturnConfirmation(transfer), Transfers.ConfirmReturn);
        _fixture.Do(CaseFixture.Ua, _fixture.ReturnConfirmation(transfer), Transfers.ConfirmReturn);
        var returned = Assert.Single(_fixture.RuleRunner.Events.OfType<ReturnConfirmed>());
        Assert.Equal(("RU", "UA"), (returned.FromPower, returned.ToPower));
        Assert.Empty(returned.Breaches);
    }

    /// <summary>Custody records it under the reference that is kept.</summary>
    [Fact]
    public void A_hand_over_under_a_linked_reference_is_monitored_once_custody_has_passed()
    {
        var transfer = _fixture.To(State.Scheduled);
        _fixture.Link();
        Assert.Equal(State.Suspended, _fixture.Transfer(transfer).State);
        _fixture.RuleRunner.Now += TimeSpan.FromHours(4);
        foreach (var side in (string[])[CaseFixture.Ua, CaseFixture.Kr])
            _fixture.Do(side, _fixture.Confirmation(transfer, Invariant.D1), Transfers.ConfirmHandover);
        Assert.Equal(State.HandedOver, _fixture.Transfer(transfer).State);
        _fixture.Pass("UA", "KR", prisoner: CaseFixture.Second);
        Assert.Equal(State.Monitored, _fixture.Transfer(transfer).State);
        // Under that reference nobody else held him after the transferring power. It does all that 12(3) asks of it.
        _fixture.Report(transfer);
        Assert.Equal(Reason.Unspecified, Measures(CaseFixture.Ua, transfer));
        Request(transfer);
        _fixture.Do(CaseFixture.Ua, new WithdrawReturnRequest { Transfer = transfer }, Transfers.WithdrawReturn);
        Assert.Equal(Reason.NotGranted, Measures(CaseFixture.Kr, transfer));
        Assert.Equal(Reason.NotGranted, TryRequest(transfer, CaseFixture.Kr));
    }

    /// <summary>Custody then finds that the named prisoner was handed over, not the other one (D1, D3).</summary>
    [Fact]
    public void Once_a_link_is_undone_his_return_is_asked_of_the_power_that_holds_him_and_not_of_the_other_mans()
    {
        var transfer = _fixture.To(State.Scheduled);
        var others = _fixture.Draft(CaseFixture.Ru, CaseFixture.Second, Route.Exchange, "RU");
        _fixture.Link();
        _fixture.RuleRunner.Now += TimeSpan.FromHours(4);
        foreach (var side in (string[])[CaseFixture.Ua, CaseFixture.Kr])
            _fixture.Do(side, _fixture.Confirmation(transfer, Invariant.D1), Transfers.ConfirmHandover);
        _fixture.Pass("UA", "KR", prisoner: CaseFixture.Second);
        _fixture.Do(CaseFixture.Ru, new SubmitTransferRequestRequest { Transfer = others }, Transfers.SubmitTransferRequest);
        Assert.Equal("KR", _fixture.Transfer(others).DetainingPower);
        Undo(new CustodyTransferred { FromPower = "KR", ToPower = "UA" });
        _fixture.Pass("UA", "KR");
        Assert.Equal([("KR", true, "UA"), ("UA", true, "")], [Of(CaseFixture.First), Of(CaseFixture.Second)]);
        Assert.Equal((State.Monitored, State.Suspended), (_fixture.Transfer(transfer).State, _fixture.Transfer(others).State));
        _fixture.Report(transfer);
        Request(transfer);
        Assert.Equal("KR", _fixture.Transfer(transfer).ReturningPower);

        (string, bool, string) Of(string reference) =>
            _fixture.RuleRunner.State(Cases.Kind, _fixture.Case)!.Prisoners.Single(p => p.Prisoner == reference) is var held
                ? (held.DetainingPower, held.Held, held.TransferringPower)
                : default;
    }

    /// <summary>The prisoner was not given back, so the power that transferred him answers for that again (12(3)).</summary>
    [Theory]
    [InlineData(State.Monitored, false), InlineData(State.Monitored, true)]
    [InlineData(State.ReturnRequested, false), InlineData(State.ReturnRequested, true)]
    public void Once_a_link_is_undone_the_other_mans_return_relieves_no_power_of_its_own_transfer(State was, bool closed)
    {
        var (returned, stays) = (_fixture.To(State.Monitored), _fixture.To(was, CaseFixture.Second));
        var before = _fixture.Transfer(stays).Clone();
        _fixture.Link();
        var passed = _fixture.RuleRunner.Now.ToTimestamp();
        _fixture.RuleRunner.Now += TimeSpan.FromHours(4);
        _fixture.Pass("KR", "UA", returned: true, prisoner: CaseFixture.Second);
        Assert.Equal(State.Returned, _fixture.Transfer(stays).State);
        if (closed)
            Assert.Equal(Reason.Unspecified, Close(stays));
        Undo(
            new CustodyTransferred
            {
                FromPower = "UA",
                ToPower = "KR",
                FormerPowers = { "UA" },
                PassTime = passed,
            }
        );
        _fixture.Pass("KR", "UA", returned: true);
        Assert.Equal((State.Returned, was), (_fixture.Transfer(returned).State, _fixture.Transfer(stays).State));
        var after = _fixture.Transfer(stays);
        Assert.Equal((before.ReturnDueTime, before.ReturningPower), (after.ReturnDueTime, after.ReturningPower));
        Assert.Equal((null, null), (after.ReturnTime, after.CloseTime));
        // The request blocks another departure, as before.
        var dossier = _fixture.RuleRunner.State(Dossiers.Kind, Dossiers.Key(_fixture.Case, CaseFixture.Second))!;
        Assert.Equal(was == State.ReturnRequested ? stays : "", dossier.ActiveTransfer);
        if (was == State.ReturnRequested)
            return;
        _fixture.Report(stays);
        Request(stays);
    }

    /// <summary>No hand-over of him was confirmed while the references were linked, so custody reports none that was another prisoner's.
    /// </summary>
    [Theory]
    [InlineData(State.Monitored, false), InlineData(State.Monitored, true)]
    [InlineData(State.ReturnRequested, false), InlineData(State.ReturnRequested, true)]
    public void Once_a_link_is_undone_the_return_of_the_man_whose_reference_was_kept_relieves_no_power_of_this_ones_transfer(
        State was,
        bool closed
    )
    {
        var (stays, returned) = (_fixture.To(was), _fixture.To(State.Monitored, CaseFixture.Second));
        var before = _fixture.Transfer(stays).Clone();
        var link = _fixture.Link();
        _fixture.RuleRunner.Now += TimeSpan.FromHours(4);
        _fixture.Pass("KR", "UA", returned: true, prisoner: CaseFixture.Second);
        Assert.Equal(State.Returned, _fixture.Transfer(stays).State);
        if (closed)
            Assert.Equal(Reason.Unspecified, Close(stays));
        _fixture.Undo(link);
        Assert.Equal((was, State.Returned), (_fixture.Transfer(stays).State, _fixture.Transfer(returned).State));
        var after = _fixture.Transfer(stays);
        Assert.Equal((before.ReturnDueTime, before.ReturningPower), (after.ReturnDueTime, after.ReturningPower));
        Assert.Equal((null, null), (after.ReturnTime, after.CloseTime));
        var dossier = _fixture.RuleRunner.State(Dossiers.Kind, Dossiers.Key(_fixture.Case, CaseFixture.First))!;
        Assert.Equal(was == State.ReturnRequested ? stays : "", dossier.ActiveTransfer);
        if (was == State.Monitored)
        {
            _fixture.Report(stays);
            Request(stays);
        }
        _fixture.RuleRunner.Now += TimeSpan.FromHours(4);
        _fixture.Do(CaseFixture.Kr, _fixture.ReturnConfirmation(stays), Transfers.ConfirmReturn);
        _fixture.Do(CaseFixture.Ua, _fixture.ReturnConfirmation(stays), Transfers.ConfirmReturn);
    }

    /// <summary>He was handed over while the references were linked, and the prisoner with the kept reference was handed on afterwards
    /// (12(3)).
    /// </summary>
    [Theory]
    [InlineData(false), InlineData(true)]
    public void Once_a_link_is_undone_who_was_handed_over_by_it_is_watched_over_whoever_came_back_under_the_kept_reference(bool requested)
    {
        var transfer = _fixture.To(State.Scheduled);
        var link = _fixture.Link();
        var passed = ConfirmBothSides(transfer);
        _fixture.Pass("UA", "KR", prisoner: CaseFixture.Second);
        if (requested)
        {
            _fixture.Report(transfer);
            Request(transfer);
        }
        var due = Due(transfer);
        _fixture.RuleRunner.Now += TimeSpan.FromHours(4);
        _fixture.Pass("KR", "UA", prisoner: CaseFixture.Second);
        Assert.Equal(State.Returned, _fixture.Transfer(transfer).State);
        // Ukraine holds the prisoner with the kept reference before and after, so custody reports no hand-over that was another prisoner's.
        _fixture.Undo(link, "KR");
        _fixture.PassAnew("UA", "KR", passed, "KR");
        Assert.Equal(requested ? State.ReturnRequested : State.Monitored, _fixture.Transfer(transfer).State);
        Assert.Equal(due, Due(transfer));
        Assert.Equal(requested ? transfer : "", ActiveOf(CaseFixture.First));
        if (!requested)
        {
            _fixture.Report(transfer);
            Request(transfer);
        }
        Assert.Equal("KR", _fixture.Transfer(transfer).ReturningPower);
    }

    /// <summary>The man whose reference was kept stayed where he was (12(3)).</summary>
    [Fact]
    public void Once_a_link_is_undone_a_power_answers_again_whom_the_other_mans_way_there_and_back_had_relieved()
    {
        _fixture.To(State.Monitored, CaseFixture.Second);
        var transfer = Submitted(CaseFixture.Ua, "UA", CaseFixture.Second);
        _fixture.RuleRunner.Now += TimeSpan.FromHours(4);
        Confirm(transfer, CaseFixture.Kr, CaseFixture.Ua);
        _fixture.Pass("KR", "UA", prisoner: CaseFixture.Second);
        Assert.Equal(State.Monitored, _fixture.Transfer(transfer).State);
        var link = _fixture.Link();
        _fixture.RuleRunner.Now += TimeSpan.FromHours(4);
        var passed = _fixture.RuleRunner.Now.ToTimestamp();
        _fixture.Pass("UA", "KR", prisoner: CaseFixture.Second);
        _fixture.Pass("KR", "UA", prisoner: CaseFixture.Second);
        Assert.Equal(State.Returned, _fixture.Transfer(transfer).State);
        _fixture.Undo(link, "UA");
        NotHandedOver("UA", "UA", passed, "KR");
        Assert.Equal(State.Monitored, _fixture.Transfer(transfer).State);
        _fixture.Report(transfer);
        Request(transfer, CaseFixture.Kr);
        Assert.Equal("UA", _fixture.Transfer(transfer).ReturningPower);
    }

    /// <summary>Of two transfers of his, he came back from the first one alone.</summary>
    [Fact]
    public void Once_a_link_is_undone_a_return_before_his_last_hand_over_relieves_nobody_of_that_one()
    {
        var (first, second) = (_fixture.To(State.Scheduled), _fixture.To(State.Submitted));
        var link = _fixture.Link();
        var there = ConfirmBothSides(first);
        _fixture.Pass("UA", "KR", prisoner: CaseFixture.Second);
        _fixture.RuleRunner.Now += TimeSpan.FromHours(4);
        var back = _fixture.RuleRunner.Now.ToTimestamp();
        _fixture.Pass("KR", "UA", returned: true, prisoner: CaseFixture.Second);
        var again = ConfirmBothSides(second);
        _fixture.Pass("UA", "KR", prisoner: CaseFixture.Second);
        _fixture.Report(second);
        Request(second);
        _fixture.RuleRunner.Now += TimeSpan.FromHours(4);
        _fixture.Pass("KR", "UA", prisoner: CaseFixture.Second);
        Assert.Equal(State.Returned, _fixture.Transfer(second).State);
        _fixture.Undo(link, "KR");
        _fixture.PassAnew("UA", "KR", there, "KR");
        _fixture.PassAnew("KR", "UA", back, "KR", returned: true);
        _fixture.PassAnew("UA", "KR", again, "KR");
        Assert.Equal((State.Returned, State.ReturnRequested), (_fixture.Transfer(first).State, _fixture.Transfer(second).State));
        Assert.Equal(second, ActiveOf(CaseFixture.First));
    }

    /// <summary>The power transferred him under a third reference, which stays linked (12(3)).</summary>
    [Theory]
    [InlineData(State.Monitored), InlineData(State.ReturnRequested)]
    public void Once_a_link_is_undone_a_power_answers_again_for_a_transfer_under_another_reference_of_the_person(State was)
    {
        const string third = "pris_00000000000000000000000003";
        _fixture.Happen(
            new PrisonerRegistered
            {
                Case = _fixture.Case,
                Prisoner = third,
                DetainingPower = "UA",
            }
        );
        var transfer = _fixture.To(was, third);
        var due = Due(transfer);
        foreach (var reference in (string[])[CaseFixture.First, CaseFixture.Second])
            _fixture.Pass("UA", "KR", prisoner: reference);
        var link = _fixture.Link();
        _fixture.Link(third);
        _fixture.RuleRunner.Now += TimeSpan.FromHours(4);
        var passed = _fixture.RuleRunner.Now.ToTimestamp();
        _fixture.Pass("KR", "UA", returned: true, prisoner: CaseFixture.Second);
        Assert.Equal(State.Returned, _fixture.Transfer(transfer).State);
        _fixture.Undo(link, "UA");
        _fixture.Happen(
            new CustodyTransferred
            {
                Case = _fixture.Case,
                Prisoner = CaseFixture.Second,
                FromPower = "UA",
                ToPower = "KR",
                Undone = true,
                PassTime = passed,
                RelievedSinceTime = passed,
                TransferringPowers = { "UA" },
            }
        );
        Assert.Equal((was, due), (_fixture.Transfer(transfer).State, Due(transfer)));
        Assert.Equal(was == State.ReturnRequested ? transfer : "", ActiveOf(third));
    }

    /// <summary>The recorded hand-over of this prisoner took place, but relieved no power: the power had given another prisoner before. So
    /// his journey goes on (12(3)).</summary>
    [Fact]
    public void Once_a_link_is_undone_a_power_answers_again_whom_another_mans_chain_had_relieved_and_no_journey_is_called_off()
    {
        var transfer = _fixture.To(State.Monitored, CaseFixture.Second);
        _fixture.Pass("UA", "KR");
        var link = _fixture.Link();
        _fixture.RuleRunner.Now += TimeSpan.FromHours(4);
        var passed = _fixture.RuleRunner.Now.ToTimestamp();
        _fixture.Pass("KR", "RU", prisoner: CaseFixture.Second, relieved: ["UA"]);
        Assert.Equal(State.Returned, _fixture.Transfer(transfer).State);
        var next = _fixture.Draft(CaseFixture.Kr, CaseFixture.Second);
        _fixture.Do(CaseFixture.Kr, new SubmitTransferRequestRequest { Transfer = next }, Transfers.SubmitTransferRequest);
        _fixture.Undo(link, "KR");
        _fixture.Happen(
            new CustodyTransferred
            {
                Case = _fixture.Case,
                Prisoner = CaseFixture.Second,
                FromPower = "RU",
                ToPower = "RU",
                Undone = true,
                FormerPowers = { "UA", "KR" },
                TransferringPowers = { "UA", "KR" },
                RelievedSinceTime = passed,
            }
        );
        Assert.Equal((State.Monitored, State.Submitted), (_fixture.Transfer(transfer).State, _fixture.Transfer(next).State));
    }

    /// <summary>Custody refuses the hand-over, because by its records another power then answers for him (D1).</summary>
    [Theory]
    [InlineData(State.Agreed), InlineData(State.Submitted), InlineData(State.Withdrawn)]
    public void Once_a_link_is_undone_a_hand_over_that_custody_has_not_recorded_and_cannot_stands_in_nobodys_way(State was)
    {
        var link = _fixture.Link();
        var passed = _fixture.RuleRunner.Now.ToTimestamp();
        _fixture.Pass("UA", "KR", prisoner: CaseFixture.Second);
        var transfer = _fixture.Draft(CaseFixture.Ru, CaseFixture.Second, destination: "RU");
        _fixture.Do(CaseFixture.Ru, new SubmitTransferRequestRequest { Transfer = transfer }, Transfers.SubmitTransferRequest);
        if (was == State.Agreed)
        {
            _fixture.Custody = CaseFixture.Answer("RU");
            _fixture.Do(CaseFixture.Ru, _fixture.Assurance(transfer), Transfers.GiveAssurance);
            _fixture.Do(CaseFixture.Kr, new BeginReviewRequest { Transfer = transfer }, Transfers.BeginReview);
            _fixture.Do(
                CaseFixture.Kr,
                new RecordTransfereeAssessmentRequest(_fixture.Assessment(transfer)) { Content = CaseFixture.Sealed(CaseFixture.Kr) },
                Transfers.RecordTransfereeAssessment
            );
            _fixture.Do(
                CaseFixture.Kr,
                new DecideTransferRequest
                {
                    Transfer = transfer,
                    Agreed = true,
                    NoteVerbale = "NV-3",
                },
                Transfers.DecideTransfer
            );
        }
        else if (was == State.Withdrawn)
            _fixture.Do(CaseFixture.Ru, new WithdrawTransferRequestRequest { Transfer = transfer }, Transfers.WithdrawTransferRequest);
        _fixture.RuleRunner.Now += TimeSpan.FromHours(4);
        foreach (var side in (string[])[CaseFixture.Kr, CaseFixture.Ru])
            _fixture.Do(side, _fixture.Confirmation(transfer, [Invariant.D1, Invariant.D2, .. AllOfHim]), Transfers.ConfirmHandover);
        Assert.Equal((State.HandedOver, transfer), (_fixture.Transfer(transfer).State, ActiveOf(CaseFixture.Second)));
        _fixture.Undo(link, "KR");
        NotHandedOver("KR", "UA", passed);
        var after = _fixture.Transfer(transfer);
        Assert.Equal(was == State.Withdrawn ? (was, State.Unspecified) : (State.Suspended, was), (after.State, after.SuspendedFrom));
        Assert.Empty(after.Confirmations);
        Assert.Empty(after.Breaches);
        Assert.Equal((null, ""), (after.HandoverTime, ActiveOf(CaseFixture.Second)));
        // He goes on another way.
        _fixture.Custody = CaseFixture.Answer();
        _fixture.To(State.Agreed, CaseFixture.Second);
    }

    /// <summary>A hand-over that custody can record is left to custody.</summary>
    [Fact]
    public void Once_a_link_is_undone_a_hand_over_by_the_power_that_holds_him_waits_for_custody()
    {
        var (transfer, others) = (_fixture.To(State.HandedOver), _fixture.To(State.HandedOver, CaseFixture.Second));
        var link = _fixture.Link();
        _fixture.Undo(link, "UA");
        Assert.All((string[])[transfer, others], t => Assert.Equal(State.HandedOver, _fixture.Transfer(t).State));
        _fixture.Pass("UA", "KR");
        Assert.Equal(State.Monitored, _fixture.Transfer(transfer).State);
    }

    /// <summary>The same for a return: another power holds him by custody's records, and the power that transferred him answers for that as
    /// before (12(3)).
    /// </summary>
    [Theory]
    [InlineData(false), InlineData(true)]
    public void Once_a_link_is_undone_a_return_that_custody_has_not_recorded_and_cannot_ends_no_duty(bool requested)
    {
        var transfer = _fixture.To(State.Monitored, CaseFixture.Second);
        _fixture.Pass("UA", "KR");
        if (requested)
        {
            _fixture.Report(transfer);
            Request(transfer);
        }
        var due = Due(transfer);
        var link = _fixture.Link();
        _fixture.RuleRunner.Now += TimeSpan.FromHours(4);
        var passed = _fixture.RuleRunner.Now.ToTimestamp();
        _fixture.Pass("KR", "RU", prisoner: CaseFixture.Second);
        _fixture.RuleRunner.Now += TimeSpan.FromHours(4);
        foreach (var side in (string[])[CaseFixture.Ua, CaseFixture.Ru])
            _fixture.Do(side, _fixture.ReturnConfirmation(transfer, [Invariant.D1, .. AllOfHim]), Transfers.ConfirmReturn);
        Assert.Equal((State.Returned, ""), (_fixture.Transfer(transfer).State, ActiveOf(CaseFixture.Second)));
        _fixture.Undo(link, "RU");
        NotHandedOver("RU", "KR", passed, "UA");
        var after = _fixture.Transfer(transfer);
        Assert.Equal(
            requested ? (State.ReturnRequested, "KR", transfer) : (State.Monitored, "", ""),
            (after.State, after.ReturningPower, ActiveOf(CaseFixture.Second))
        );
        Assert.Equal((null, due), (after.ReturnTime, Due(transfer)));
        Assert.Empty(after.ReturnConfirmations);
        Assert.Empty(after.ReturnBreaches);
        if (!requested)
        {
            _fixture.Report(transfer);
            Request(transfer);
        }
        _fixture.RuleRunner.Now += TimeSpan.FromHours(4);
        foreach (var side in (string[])[CaseFixture.Kr, CaseFixture.Ua])
            _fixture.Do(side, _fixture.ReturnConfirmation(transfer, [Invariant.D1, .. AllOfHim]), Transfers.ConfirmReturn);
        // Custody's record stays.
        _fixture.Pass("KR", "UA", returned: true, prisoner: CaseFixture.Second);
        link = _fixture.Link();
        _fixture.Undo(link, "KR");
        NotHandedOver("UA", "RU", passed, "UA");
        Assert.Equal(State.Returned, _fixture.Transfer(transfer).State);
    }

    // ------------------------------------------------------------------------------- what custody records of what both sides confirmed

    /// <summary>He went one way. Custody refuses the other hand-over, because another power answers for him by then (D1, D3).</summary>
    [Fact]
    public void Of_two_hand_overs_that_both_sides_confirmed_the_one_is_monitored_that_custody_records()
    {
        var (first, second) = (_fixture.To(State.InTransit), Submitted(CaseFixture.Ru, "RU"));
        ConfirmBothSides(first);
        Confirm(second, CaseFixture.Ua, CaseFixture.Ru);
        Assert.Equal(second, ActiveOf(CaseFixture.First));
        _fixture.Pass("UA", "KR");
        Assert.Equal((State.Monitored, State.Suspended), (_fixture.Transfer(first).State, _fixture.Transfer(second).State));
        Assert.Equal(State.Submitted, _fixture.Transfer(second).SuspendedFrom);
        Assert.Empty(_fixture.Transfer(second).Confirmations);
        Assert.Equal("", ActiveOf(CaseFixture.First));
    }

    /// <summary>Custody can record the hand-over after it, as one of a man who was free (D1).</summary>
    [Fact]
    public void A_departure_is_no_hand_over_to_another_power()
    {
        var (first, second) = (_fixture.To(State.InTransit, route: Route.Release), Submitted(CaseFixture.Ru, "RU"));
        ConfirmBothSides(first);
        Confirm(second, CaseFixture.Ua, CaseFixture.Ru);
        _fixture.Happen(new DepartureRecorded { Case = _fixture.Case, Prisoner = CaseFixture.First });
        Assert.Equal((State.Monitored, State.HandedOver), (_fixture.Transfer(first).State, _fixture.Transfer(second).State));
        Assert.Equal(second, ActiveOf(CaseFixture.First));
        _fixture.Pass("UA", "RU");
        Assert.Equal((State.Monitored, ""), (_fixture.Transfer(second).State, ActiveOf(CaseFixture.First)));
    }

    /// <summary>The power that gave him back answers for no transfer of its own (D3).</summary>
    [Fact]
    public void A_return_is_no_hand_over_by_which_he_was_transferred_back()
    {
        var (first, second) = (_fixture.To(State.Monitored), Submitted(CaseFixture.Ua, "UA"));
        Confirm(second, CaseFixture.Kr, CaseFixture.Ua);
        _fixture.Pass("KR", "UA", returned: true);
        Assert.Equal((State.Returned, State.Suspended), (_fixture.Transfer(first).State, _fixture.Transfer(second).State));
        Assert.Equal("", ActiveOf(CaseFixture.First));
    }

    /// <summary>Custody has him elsewhere, and the power that transferred him answers for that as before (12(3)).</summary>
    [Theory]
    [InlineData(false), InlineData(true)]
    public void A_return_that_custody_cannot_record_because_he_was_handed_on_ends_no_duty(bool requested)
    {
        var first = _fixture.To(State.Monitored);
        if (requested)
        {
            _fixture.Report(first);
            Request(first);
        }
        var (due, second) = (Due(first), Submitted(CaseFixture.Ru, "RU"));
        _fixture.RuleRunner.Now += TimeSpan.FromHours(4);
        Confirm(second, CaseFixture.Kr, CaseFixture.Ru);
        foreach (var side in (string[])[CaseFixture.Kr, CaseFixture.Ua])
            _fixture.Do(side, _fixture.ReturnConfirmation(first, [Invariant.D1, .. AllOfHim]), Transfers.ConfirmReturn);
        Assert.Equal((State.Returned, second), (_fixture.Transfer(first).State, ActiveOf(CaseFixture.First)));
        _fixture.Pass("KR", "RU");
        var after = _fixture.Transfer(first);
        Assert.Equal(
            (requested ? State.ReturnRequested : State.Monitored, State.Monitored),
            (after.State, _fixture.Transfer(second).State)
        );
        Assert.Equal((null, due), (after.ReturnTime, Due(first)));
        if (!requested)
        {
            _fixture.Report(first);
            Request(first);
        }
        Assert.Equal(("RU", first), (_fixture.Transfer(first).ReturningPower, ActiveOf(CaseFixture.First)));
        _fixture.RuleRunner.Now += TimeSpan.FromHours(4);
        foreach (var side in (string[])[CaseFixture.Ru, CaseFixture.Ua])
            _fixture.Do(side, _fixture.ReturnConfirmation(first, [Invariant.D1, .. AllOfHim]), Transfers.ConfirmReturn);
    }

    private string Submitted(string participant, string destination, string prisoner = CaseFixture.First)
    {
        var transfer = _fixture.Draft(participant, prisoner, destination: destination);
        _fixture.Do(participant, new SubmitTransferRequestRequest { Transfer = transfer }, Transfers.SubmitTransferRequest);
        return transfer;
    }

    private void Confirm(string transfer, params string[] sides)
    {
        foreach (var side in sides)
            _fixture.Do(side, _fixture.Confirmation(transfer, [Invariant.D1, Invariant.D2, .. AllOfHim]), Transfers.ConfirmHandover);
        Assert.Equal(State.HandedOver, _fixture.Transfer(transfer).State);
    }

    [Fact]
    public void Who_came_back_himself_before_a_link_is_back_once_it_is_undone()
    {
        var first = _fixture.To(State.Monitored);
        _fixture.Pass("KR", "UA", returned: true);
        var second = _fixture.To(State.Monitored);
        _fixture.Undo(_fixture.Link());
        Assert.Equal((State.Returned, State.Monitored), (_fixture.Transfer(first).State, _fixture.Transfer(second).State));
    }

    [Fact]
    public void Once_a_link_is_undone_the_power_that_took_the_other_man_owes_this_ones_return_no_more()
    {
        var transfer = Requested();
        _fixture.Pass("UA", "KR", prisoner: CaseFixture.Second);
        var link = _fixture.Link();
        _fixture.Pass("KR", "RU", prisoner: CaseFixture.Second);
        Assert.Equal("RU", _fixture.Transfer(transfer).ReturningPower);
        _fixture.Undo(link);
        Assert.Equal("KR", _fixture.Transfer(transfer).ReturningPower);
        Assert.Null(_fixture.Seen(CaseFixture.Ru, transfer));
    }

    /// <summary>Otherwise one side alone could hand over a prisoner whose return nobody else has confirmed (D1).</summary>
    [Theory]
    [InlineData(false), InlineData(true)]
    public void A_confirmation_of_a_return_that_was_corrected_meanwhile_counts_no_more_once_a_link_is_undone(bool withdrawn)
    {
        var (_, stays) = (_fixture.To(State.Monitored), _fixture.To(State.ReturnRequested, CaseFixture.Second));
        _fixture.RuleRunner.Now += TimeSpan.FromHours(4);
        _fixture.Do(CaseFixture.Kr, _fixture.ReturnConfirmation(stays), Transfers.ConfirmReturn);
        if (withdrawn)
            _fixture.Do(CaseFixture.Ua, new WithdrawReturnRequest { Transfer = stays }, Transfers.WithdrawReturn);
        var position = Assert.Single(_fixture.Transfer(stays).ReturnConfirmations).Position;
        _fixture.Link();
        var passed = _fixture.RuleRunner.Now.ToTimestamp();
        _fixture.Pass("KR", "UA", returned: true, prisoner: CaseFixture.Second);
        Assert.Equal(State.Returned, _fixture.Transfer(stays).State);
        _fixture.Do(CaseFixture.Kr, new V1.CorrectRecordRequest { Record = stays, Position = position }, CaseFixture.Correct);
        Undo(
            new CustodyTransferred
            {
                FromPower = "UA",
                ToPower = "KR",
                FormerPowers = { "UA" },
                PassTime = passed,
            }
        );
        var after = _fixture.Transfer(stays);
        Assert.Empty(after.ReturnConfirmations);
        Assert.Null(after.SecondConfirmationDueTime);
        Assert.Equal(withdrawn ? (State.Monitored, "") : (State.ReturnRequested, "KR"), (after.State, after.ReturningPower));
        _fixture.RuleRunner.Now += TimeSpan.FromHours(4);
        _fixture.Do(CaseFixture.Ua, _fixture.ReturnConfirmation(stays, Invariant.D1), Transfers.ConfirmReturn);
        Assert.Empty(_fixture.RuleRunner.Events.OfType<ReturnConfirmed>());
    }

    /// <summary>An earlier release removed the first confirmation from the record when the request was withdrawn. Such histories can still
    /// be read.
    /// </summary>
    [Fact]
    public void Of_two_confirmations_of_a_return_by_one_side_the_last_one_counts()
    {
        var transfer = Requested();
        _fixture.RuleRunner.Now += TimeSpan.FromHours(4);
        foreach (var reference in (string[])["RET-0", "RET-1"])
            _fixture.Do<ConfirmReturnRequest>(
                CaseFixture.Kr,
                new(_fixture.ReturnConfirmation(transfer)) { HandoverReference = reference },
                (_, context) =>
                    Decision.Accept(
                        _fixture.Case,
                        [],
                        [
                            Transfers.Record.On(
                                _fixture.Transfer(transfer),
                                new ReturnConfirmedByOneSide
                                {
                                    Participant = context.Caller.Id,
                                    Side = HandoverSide.Giving,
                                    ReturningPower = "KR",
                                }
                            ),
                        ]
                    )
            );
        Assert.Equal("RET-1", Assert.Single(_fixture.Transfer(transfer).ReturnConfirmations).HandoverReference);
        _fixture.Do(CaseFixture.Ua, _fixture.ReturnConfirmation(transfer), Transfers.ConfirmReturn);
        Assert.Equal(State.Returned, _fixture.Transfer(transfer).State);
    }

    // Both sides confirm that Ukraine handed him over to the Republic of Korea. Returns the time in custody's record.
    private Timestamp ConfirmBothSides(string transfer)
    {
        _fixture.RuleRunner.Now += TimeSpan.FromHours(4);
        foreach (var side in (string[])[CaseFixture.Ua, CaseFixture.Kr])
            _fixture.Do(side, _fixture.Confirmation(transfer, [Invariant.D1, Invariant.D2, .. AllOfHim]), Transfers.ConfirmHandover);
        Assert.Equal(State.HandedOver, _fixture.Transfer(transfer).State);
        return _fixture.Transfer(transfer).HandoverTime;
    }

    private string ActiveOf(string prisoner) =>
        _fixture.RuleRunner.State(Dossiers.Kind, Dossiers.Key(_fixture.Case, prisoner))!.ActiveTransfer;

    // Once a link is undone: the prisoner with the kept reference is where he was, and these powers answer for having transferred him.
    private void NotHandedOver(string from, string to, Timestamp passed, params string[] former) =>
        _fixture.Happen(
            new CustodyTransferred
            {
                Case = _fixture.Case,
                Prisoner = CaseFixture.Second,
                FromPower = from,
                ToPower = to,
                Undone = true,
                FormerPowers = { former },
                TransferringPowers = { former },
                PassTime = passed,
                RelievedSinceTime = passed,
            }
        );

    // The first event that custody publishes when an observer undoes the link after both sides confirmed.
    private void Undo(CustodyTransferred undone)
    {
        _fixture.Undo(_fixture.RuleRunner.State(Dossiers.Links, _fixture.Case)!.Links.Single().CustodyPosition);
        _fixture.Happen(
            new CustodyTransferred(undone)
            {
                Case = _fixture.Case,
                Prisoner = CaseFixture.Second,
                Undone = true,
            }
        );
    }

    [Fact]
    public void A_request_for_return_under_a_linked_reference_stands_in_the_way_of_a_departure_under_the_kept_one()
    {
        var transfer = _fixture.To(State.Monitored);
        _fixture.Pass("UA", "KR", prisoner: CaseFixture.Second);
        var next = _fixture.Draft(CaseFixture.Ru, CaseFixture.Second, Route.Exchange, "RU");
        _fixture.Do(CaseFixture.Ru, new SubmitTransferRequestRequest { Transfer = next }, Transfers.SubmitTransferRequest);
        _fixture.Do(CaseFixture.Kr, new BeginReviewRequest { Transfer = next }, Transfers.BeginReview);
        _fixture.Link();
        _fixture.Report(transfer);
        Request(transfer);
        StandsInTheWayUntilWithdrawn(transfer, next);
    }

    // ------------------------------------------------------------------------------------------- a return is a journey as any other

    public static TheoryData<Reason> Lacking =>
        [
            Reason.StandingNotInForce,
            Reason.FitnessNotRecorded,
            Reason.RiskNotAssessed,
            Reason.DepartureNotFree,
            Reason.Unavailable,
            Reason.CustodyAnswerOutdated,
        ];

    [Theory]
    [MemberData(nameof(Lacking))]
    public void A_return_needs_what_every_journey_needs_and_only_who_holds_him_is_told_what(Reason reason)
    {
        var transfer = Requested();
        _fixture.Happen(new FitnessRecorded { Case = _fixture.Case, Prisoner = CaseFixture.First });
        _fixture.RuleRunner.Now += TimeSpan.FromHours(4);
        _fixture.Custody = reason switch
        {
            Reason.StandingNotInForce => CaseFixture.Lost,
            Reason.FitnessNotRecorded => CaseFixture.Answer(fit: false),
            Reason.RiskNotAssessed => CaseFixture.Answer(risk: false),
            Reason.DepartureNotFree => CaseFixture.Answer(free: false),
            Reason.CustodyAnswerOutdated => CaseFixture.Answer(position: 1),
            _ => null,
        };
        Assert.Equal(reason, _fixture.Try(CaseFixture.Kr, _fixture.ReturnConfirmation(transfer), Transfers.ConfirmReturn));
        Assert.Equal(
            reason == Reason.Unavailable ? reason : Reason.DepartureNotCleared,
            _fixture.Try(CaseFixture.Ua, _fixture.ReturnConfirmation(transfer), Transfers.ConfirmReturn)
        );
        // It is a fact, and is recorded where what is missing is acknowledged.
        _fixture.Do(CaseFixture.Kr, _fixture.ReturnConfirmation(transfer, AllOfHim), Transfers.ConfirmReturn);
        var (decision, _) = _fixture.Play(CaseFixture.Ua, _fixture.ReturnConfirmation(transfer, Invariant.D9), Transfers.ConfirmReturn);
        Assert.Equal([Invariant.D9], Assert.Single(_fixture.RuleRunner.Events.OfType<ReturnConfirmed>()).Breaches);
        // It is announced to the observers, and told to nobody else but who held him.
        Assert.True(_fixture.MaySee(CaseFixture.Icrc, [.. decision.Audience]));
        Assert.DoesNotContain(Audience.State(_fixture.Case, "UA"), decision.Audience);
        Assert.Equal(AllOfHim, _fixture.Seen(CaseFixture.Icrc, transfer)!.ReturnBreaches);
        Assert.Equal(AllOfHim, _fixture.Seen(CaseFixture.Kr, transfer)!.ReturnBreaches);
        var seen = _fixture.Seen(CaseFixture.Ua, transfer)!;
        Assert.Empty(seen.ReturnBreaches);
        Assert.Contains("return_breaches", seen.Withheld);
    }

    [Fact]
    public void One_who_was_released_in_the_meantime_is_returned_only_as_a_breach_of_d1()
    {
        var transfer = Requested();
        _fixture.Change(ended: true);
        _fixture.RuleRunner.Now += TimeSpan.FromHours(4);
        Assert.Equal(Reason.PrisonerNotHeld, _fixture.Try(CaseFixture.Kr, _fixture.ReturnConfirmation(transfer), Transfers.ConfirmReturn));
        Assert.Equal(
            Reason.DepartureNotCleared,
            _fixture.Try(CaseFixture.Ua, _fixture.ReturnConfirmation(transfer), Transfers.ConfirmReturn)
        );
        _fixture.Do(CaseFixture.Kr, _fixture.ReturnConfirmation(transfer, Invariant.D1), Transfers.ConfirmReturn);
        _fixture.Do(CaseFixture.Ua, _fixture.ReturnConfirmation(transfer, Invariant.D1), Transfers.ConfirmReturn);
        Assert.Equal([Invariant.D1], Assert.Single(_fixture.RuleRunner.Events.OfType<ReturnConfirmed>()).Breaches);
    }

    [Theory]
    [InlineData("RET-2", -1, 0)]
    [InlineData("RET-1", -3, -2)]
    [InlineData("RET-1", -300, -299)]
    public void Where_the_sides_do_not_agree_on_a_return_both_accounts_stay(string reference, double start, double end)
    {
        var transfer = Requested();
        _fixture.RuleRunner.Now += TimeSpan.FromHours(4);
        _fixture.Do(CaseFixture.Kr, _fixture.ReturnConfirmation(transfer), Transfers.ConfirmReturn);
        ConfirmReturnRequest Other(params Invariant[] acknowledged) =>
            new(_fixture.ReturnConfirmation(transfer, acknowledged))
            {
                HandoverReference = reference,
                WindowStartTime = _fixture.In(start),
                WindowEndTime = _fixture.In(end),
            };
        Assert.Equal(
            start < -200 ? Reason.TimeOutOfRange : Reason.ConfirmationsDiffer,
            _fixture.Try(CaseFixture.Ua, Other(), Transfers.ConfirmReturn)
        );
        _fixture.Do(CaseFixture.Ua, Other(Invariant.D1), Transfers.ConfirmReturn);
        Assert.Equal([Invariant.D1], Assert.Single(_fixture.RuleRunner.Events.OfType<ReturnConfirmed>()).Breaches);
        Assert.Equal(["RET-1", reference], _fixture.Transfer(transfer).ReturnConfirmations.Select(c => c.HandoverReference));
    }

    [Fact]
    public void The_power_that_holds_him_confirms_by_its_organ_for_custody()
    {
        var transfer = Requested();
        _fixture.RuleRunner.Now += TimeSpan.FromHours(4);
        _fixture.Participant(CaseFixture.Kr).Capacities.Remove(Capacity.Custody);
        Assert.Equal(Reason.NoCapacity, _fixture.Try(CaseFixture.Kr, _fixture.ReturnConfirmation(transfer), Transfers.ConfirmReturn));
        _fixture.Do(CaseFixture.UaMfa, _fixture.ReturnConfirmation(transfer), Transfers.ConfirmReturn);
    }

    // ---------------------------------------------------------------------------------------------------------------- withdrawal

    [Fact]
    public void A_request_for_return_is_withdrawn_unless_who_asked_for_it_has_confirmed_it()
    {
        var transfer = Requested();
        _fixture.RuleRunner.Now += TimeSpan.FromHours(4);
        _fixture.Do(CaseFixture.Ua, _fixture.ReturnConfirmation(transfer), Transfers.ConfirmReturn);
        var withdraw = new WithdrawReturnRequest { Transfer = transfer, NoteVerbale = "NV-5" };
        Assert.Equal(Reason.ConfirmedByOneSide, _fixture.Try(CaseFixture.Ua, withdraw.Clone(), Transfers.WithdrawReturn));
        // The advice works: it corrects its confirmation.
        var position = _fixture.Transfer(transfer).ReturnConfirmations.Single().Position;
        _fixture.Do(CaseFixture.Ua, new V1.CorrectRecordRequest { Record = transfer, Position = position }, CaseFixture.Correct);
        Assert.Equal(Reason.NotGranted, _fixture.Try(CaseFixture.Kr, withdraw.Clone(), Transfers.WithdrawReturn));
        // The other side's confirmation does not keep the request open.
        _fixture.Do(CaseFixture.Kr, _fixture.ReturnConfirmation(transfer), Transfers.ConfirmReturn);
        _fixture.Do(CaseFixture.Ua, withdraw.Clone(), Transfers.WithdrawReturn);
        var after = _fixture.Transfer(transfer);
        Assert.Equal((State.Monitored, "KR", 1), (after.State, after.ReturningPower, after.ReturnConfirmations.Count));
        Assert.Null(after.ReturnDueTime);
        // It stands in nobody's way any more, and may be requested again.
        Request(transfer);
    }

    /// <summary>The request keeps when it was made (D3, D8).</summary>
    [Theory]
    [InlineData(false), InlineData(true)]
    public void A_request_for_return_that_was_erased_counts_as_any_other_when_it_is_made_again(bool reported)
    {
        var transfer = Requested();
        _fixture.Do(CaseFixture.Ua, new WithdrawReturnRequest { Transfer = transfer }, Transfers.WithdrawReturn);
        _fixture.RuleRunner.Now += TimeSpan.FromDays(9);
        _fixture.Report(transfer);
        // An entry whose request was erased does not name the method.
        var due = _fixture.In(24 * 30);
        _fixture.Do(
            CaseFixture.Ua,
            new GetTransferRequest { Transfer = transfer },
            (_, _) =>
                Decision.Accept(
                    _fixture.Case,
                    [],
                    [Transfers.Record.On(_fixture.Transfer(transfer), new ReturnRequested { ReturningPower = "KR", ReturnDueTime = due })]
                )
        );
        _fixture.RuleRunner.Now += TimeSpan.FromDays(9);
        if (reported)
            _fixture.Report(transfer);
        _fixture.Do(CaseFixture.Ua, new WithdrawReturnRequest { Transfer = transfer }, Transfers.WithdrawReturn);
        Request(transfer);
        Assert.Equal(reported ? _fixture.In(24 * 30) : due, _fixture.Transfer(transfer).ReturnDueTime);
    }

    /// <summary>Otherwise the power that requested his return could block his journey home for ever (D3, D8, D9).</summary>
    [Fact]
    public void Who_withdraws_a_request_for_return_and_makes_it_again_on_the_same_failure_gains_no_time()
    {
        var transfer = Requested();
        var due = Due(transfer);
        _fixture.Do(
            CaseFixture.Ua,
            new RecordCorrectiveMeasuresRequest { Transfer = transfer, Failure = _fixture.Transfer(transfer).Failures[0].Id },
            Transfers.RecordCorrectiveMeasures
        );
        var next = _fixture.Draft(CaseFixture.Ru, route: Route.Exchange, destination: "RU");
        _fixture.Do(CaseFixture.Ru, new SubmitTransferRequestRequest { Transfer = next }, Transfers.SubmitTransferRequest);
        _fixture.Do(CaseFixture.Kr, new BeginReviewRequest { Transfer = next }, Transfers.BeginReview);
        for (var i = 0; i < 3; i++)
        {
            _fixture.RuleRunner.Now += TimeSpan.FromDays(9);
            Again();
            Assert.Equal((due, false), (Due(transfer), _fixture.Transfer(transfer).ReturnOverdue));
        }
        Assert.Equal(Reason.AnotherTransferStands, Decide());
        // The time passes while no request stands, and it is overdue once it is made again.
        _fixture.Do(CaseFixture.Ua, new WithdrawReturnRequest { Transfer = transfer }, Transfers.WithdrawReturn);
        Assert.Null(Due(transfer));
        _fixture.RuleRunner.Now += TimeSpan.FromDays(9);
        Request(transfer);
        Assert.Equal("", ActiveOf(CaseFixture.First));
        Assert.Equal(Duties.Return, Assert.IsType<V1.DutyFellDue>(Assert.Single(_fixture.FallDue(transfer).Changes).Event).Duty);
        // A missed term stays marked, and falls due once.
        Again();
        Assert.True(_fixture.Seen(CaseFixture.Icrc, transfer)!.ReturnOverdue);
        Assert.Empty(_fixture.FallDue(transfer).Changes);
        Assert.Equal(Reason.Unspecified, Decide());

        void Again()
        {
            _fixture.Do(CaseFixture.Ua, new WithdrawReturnRequest { Transfer = transfer }, Transfers.WithdrawReturn);
            Assert.False(_fixture.Transfer(transfer).ReturnOverdue);
            Request(transfer);
        }
        Reason Decide()
        {
            _fixture.Custody = CaseFixture.Answer("RU", origin: true);
            return _fixture.Try(
                CaseFixture.Kr,
                new DecideTransferRequest
                {
                    Transfer = next,
                    Agreed = true,
                    NoteVerbale = "NV-6",
                },
                Transfers.DecideTransfer
            );
        }
    }

    /// <summary>A new failure is a new ground, unless its report was a mistake.</summary>
    [Theory]
    [InlineData(false), InlineData(true)]
    public void A_request_for_return_on_a_failure_that_was_reported_since_has_its_own_time(bool corrected)
    {
        var transfer = Requested();
        var due = Due(transfer);
        _fixture.RuleRunner.Now += TimeSpan.FromDays(20);
        _fixture.Report(transfer);
        if (corrected)
            _fixture.Do(
                CaseFixture.Icrc,
                new V1.CorrectRecordRequest { Record = transfer, Position = _fixture.Transfer(transfer).Failures[1].Position },
                CaseFixture.Correct
            );
        _fixture.Do(CaseFixture.Ua, new WithdrawReturnRequest { Transfer = transfer }, Transfers.WithdrawReturn);
        Request(transfer);
        var again = corrected ? due : _fixture.Now + Transfers.TimeForReturn;
        Assert.Equal(again, Due(transfer));
        // Once, and not each time.
        _fixture.RuleRunner.Now += TimeSpan.FromDays(1);
        _fixture.Do(CaseFixture.Ua, new WithdrawReturnRequest { Transfer = transfer }, Transfers.WithdrawReturn);
        Request(transfer);
        Assert.Equal(again, Due(transfer));
    }

    /// <summary>A return that took place is recorded, even if the request for it was withdrawn (D1).</summary>
    [Fact]
    public void Who_withdraws_a_request_for_return_takes_nobodys_account_of_it_away()
    {
        var transfer = Requested();
        _fixture.RuleRunner.Now += TimeSpan.FromHours(4);
        _fixture.Do(CaseFixture.Kr, _fixture.ReturnConfirmation(transfer), Transfers.ConfirmReturn);
        var due = _fixture.Transfer(transfer).SecondConfirmationDueTime;
        _fixture.Do(CaseFixture.Ua, new WithdrawReturnRequest { Transfer = transfer }, Transfers.WithdrawReturn);
        Assert.Equal(due, _fixture.Transfer(transfer).SecondConfirmationDueTime);
        Assert.Equal("RET-1", Assert.Single(_fixture.Seen(CaseFixture.Kr, transfer)!.ReturnConfirmations).HandoverReference);
        // Its author can correct it and record it again.
        var position = _fixture.Transfer(transfer).ReturnConfirmations.Single().Position;
        _fixture.Do(CaseFixture.Kr, new V1.CorrectRecordRequest { Record = transfer, Position = position }, CaseFixture.Correct);
        Assert.Equal("", _fixture.Transfer(transfer).ReturningPower);
        Assert.Equal(Reason.StateNotAllowed, _fixture.Try(CaseFixture.Kr, _fixture.ReturnConfirmation(transfer), Transfers.ConfirmReturn));
        _fixture.Do(CaseFixture.Kr, _fixture.ReturnConfirmation(transfer, Invariant.D1), Transfers.ConfirmReturn);
        _fixture.Do(CaseFixture.Ua, _fixture.ReturnConfirmation(transfer), Transfers.ConfirmReturn);
        Assert.Equal(
            ("KR", "UA"),
            Assert.Single(_fixture.RuleRunner.Events.OfType<ReturnConfirmed>()) is var e ? (e.FromPower, e.ToPower) : default
        );
        Assert.Equal(State.Returned, _fixture.Transfer(transfer).State);
    }

    /// <summary>A return can take place that nobody requested (D1).</summary>
    [Theory]
    [InlineData(CaseFixture.Kr, false), InlineData(CaseFixture.Ua, false)]
    [InlineData(CaseFixture.Kr, true), InlineData(CaseFixture.Ua, true)]
    public void A_return_that_nobody_requested_is_recorded_and_starts_no_clock(string first, bool closed)
    {
        var transfer = _fixture.To(State.Monitored);
        if (closed)
        {
            _fixture.Change(ended: true);
            Assert.Equal(Reason.Unspecified, Close(transfer));
        }
        _fixture.RuleRunner.Now += TimeSpan.FromHours(4);
        Assert.Equal(Reason.StateNotAllowed, _fixture.Try(first, _fixture.ReturnConfirmation(transfer), Transfers.ConfirmReturn));
        _fixture.Do(first, _fixture.ReturnConfirmation(transfer, Invariant.D1), Transfers.ConfirmReturn);
        Assert.Null(_fixture.Transfer(transfer).SecondConfirmationDueTime);
        Assert.Equal("KR", _fixture.Seen(CaseFixture.Kr, transfer)!.ReturningPower);
        var second = first == CaseFixture.Kr ? CaseFixture.Ua : CaseFixture.Kr;
        _fixture.Do(second, _fixture.ReturnConfirmation(transfer, closed ? [Invariant.D1] : []), Transfers.ConfirmReturn);
        Assert.Equal(State.Returned, _fixture.Transfer(transfer).State);
        Assert.Equal([Invariant.D1], _fixture.Transfer(transfer).ReturnBreaches);
    }

    [Fact]
    public void A_request_for_return_stands_in_the_way_of_another_departure_until_it_is_withdrawn()
    {
        var transfer = Requested();
        var next = _fixture.Draft(CaseFixture.Ru, route: Route.Exchange, destination: "RU");
        _fixture.Do(CaseFixture.Ru, new SubmitTransferRequestRequest { Transfer = next }, Transfers.SubmitTransferRequest);
        _fixture.Do(CaseFixture.Kr, new BeginReviewRequest { Transfer = next }, Transfers.BeginReview);
        StandsInTheWayUntilWithdrawn(transfer, next);
    }

    [Fact]
    public void A_return_that_is_overdue_stands_in_nobodys_way_and_is_owed_still()
    {
        var transfer = Requested();
        var next = _fixture.Draft(CaseFixture.Ru, route: Route.Exchange, destination: "RU");
        _fixture.Do(CaseFixture.Ru, new SubmitTransferRequestRequest { Transfer = next }, Transfers.SubmitTransferRequest);
        _fixture.Do(CaseFixture.Kr, new BeginReviewRequest { Transfer = next }, Transfers.BeginReview);
        _fixture.Custody = CaseFixture.Answer("RU", origin: true);
        _fixture.RuleRunner.Now = _fixture.Now.AddDays(30);
        _fixture.FallDue(transfer);
        _fixture.Do(
            CaseFixture.Kr,
            new DecideTransferRequest
            {
                Transfer = next,
                Agreed = true,
                NoteVerbale = "NV-6",
            },
            Transfers.DecideTransfer
        );
        Assert.Equal(State.ReturnRequested, _fixture.Transfer(transfer).State);
    }

    // --------------------------------------------------------------------------------------------------------------------- clocks

    [Fact]
    public void A_return_falls_due_once_and_the_observers_see_that_it_is_overdue()
    {
        var transfer = Requested();
        var due = _fixture.Now.AddDays(30);
        Assert.Equal(due, Due(transfer));
        _fixture.RuleRunner.Now = due.AddSeconds(-1);
        Assert.Empty(_fixture.FallDue(transfer).Changes);
        _fixture.RuleRunner.Now = due;
        var fallen = Assert.IsType<V1.DutyFellDue>(Assert.Single(_fixture.FallDue(transfer).Changes).Event);
        Assert.Equal((Duties.Return, due.ToTimestamp(), transfer), (fallen.Duty, fallen.DueTime, fallen.Record));
        Assert.Empty(_fixture.FallDue(transfer).Changes);
        Assert.All((string[])[CaseFixture.Icrc, CaseFixture.Swiss], o => Assert.True(_fixture.Seen(o, transfer)!.ReturnOverdue));
        Assert.Null(Due(transfer));
        _fixture.Do(CaseFixture.Kr, _fixture.ReturnConfirmation(transfer), Transfers.ConfirmReturn);
        _fixture.Do(CaseFixture.Ua, _fixture.ReturnConfirmation(transfer), Transfers.ConfirmReturn);
        Assert.Null(Due(transfer));
    }

    /// <summary>A prisoner whom nobody holds cannot be returned (D3).</summary>
    [Theory]
    [InlineData("a release", false)]
    [InlineData("a release", true)]
    [InlineData("a departure", false)]
    [InlineData("a departure", true)]
    public void No_clock_of_a_return_runs_once_custody_has_ended(string end, bool confirmed)
    {
        var transfer = Requested();
        _fixture.RuleRunner.Now += TimeSpan.FromHours(4);
        if (confirmed)
            _fixture.Do(CaseFixture.Kr, _fixture.ReturnConfirmation(transfer), Transfers.ConfirmReturn);
        var (due, back) = (Due(transfer), _fixture.Transfer(transfer).ReturnDueTime);
        if (end == "a release")
            _fixture.Change(ended: true);
        else
            _fixture.Happen(new DepartureRecorded { Case = _fixture.Case, Prisoner = CaseFixture.First });
        Assert.Null(Due(transfer));
        _fixture.RuleRunner.Now += TimeSpan.FromDays(31);
        Assert.Empty(_fixture.FallDue(transfer).Changes);
        // Custody goes on, and so do the duties, with the same due times as before.
        _fixture.Change(ended: false);
        Assert.Equal((due, back), (Due(transfer), _fixture.Transfer(transfer).ReturnDueTime));
        _fixture.Change(ended: true);
        _fixture.Do(CaseFixture.Ua, new WithdrawReturnRequest { Transfer = transfer }, Transfers.WithdrawReturn);
        // A reported failure still demands measures, and after these the record can be closed.
        Assert.Equal(Reason.MeasuresNotRecorded, Close(transfer));
        Assert.Equal(Reason.Unspecified, Measures(CaseFixture.Ua, transfer));
        Assert.Equal(Reason.Unspecified, Close(transfer));
    }

    /// <summary>Otherwise the power that holds him would never return him, and the power that requested his return would block his journey
    /// home (D3, D8).</summary>
    [Fact]
    public void Who_holds_him_gains_no_time_for_a_return_by_a_release_that_it_takes_back()
    {
        var transfer = Requested();
        var due = Due(transfer);
        for (var i = 0; i < 3; i++)
        {
            _fixture.RuleRunner.Now += TimeSpan.FromDays(9);
            _fixture.Change(ended: true);
            _fixture.RuleRunner.Now += TimeSpan.FromHours(1);
            _fixture.Change(ended: false);
            Assert.Equal(due, Due(transfer));
        }
        _fixture.Change(ended: true);
        _fixture.RuleRunner.Now += TimeSpan.FromDays(9);
        _fixture.Change(ended: false);
        Assert.Equal(Duties.Return, Assert.IsType<V1.DutyFellDue>(Assert.Single(_fixture.FallDue(transfer).Changes).Event).Duty);
        Assert.True(_fixture.Seen(CaseFixture.Icrc, transfer)!.ReturnOverdue);
    }

    /// <summary>A prisoner who is handed over after the recorded end of custody was still in custody (D3, D8).</summary>
    [Theory]
    [InlineData(false), InlineData(true)]
    public void Whoever_takes_him_after_the_end_of_custody_owes_what_was_owed(bool closed)
    {
        var transfer = closed ? _fixture.To(State.Monitored) : Requested();
        var due = Due(transfer);
        _fixture.Change(ended: true);
        if (closed)
            Assert.Equal(Reason.Unspecified, Close(transfer));
        _fixture.RuleRunner.Now += TimeSpan.FromDays(2);
        _fixture.Pass("KR", "RU");
        var after = _fixture.Transfer(transfer);
        Assert.Equal((closed ? State.Monitored : State.ReturnRequested, due), (after.State, Due(transfer)));
        Assert.Equal(closed ? "" : "RU", after.ReturningPower);
        if (!closed)
            return;
        _fixture.Report(transfer);
        Request(transfer);
        Assert.Equal("RU", _fixture.Transfer(transfer).ReturningPower);
    }

    [Fact]
    public void A_return_that_was_overdue_when_custody_ended_stays_so()
    {
        var transfer = Requested();
        _fixture.RuleRunner.Now += TimeSpan.FromDays(30);
        _fixture.FallDue(transfer);
        _fixture.Change(ended: true);
        Assert.True(_fixture.Transfer(transfer).ReturnOverdue);
        Assert.Null(Due(transfer));
    }

    /// <summary>He is held under the reference that is kept.</summary>
    [Fact]
    public void A_link_stops_no_clock_of_a_return()
    {
        var transfer = _fixture.To(State.Monitored);
        _fixture.Pass("UA", "KR", prisoner: CaseFixture.Second);
        _fixture.Report(transfer);
        Request(transfer);
        var due = Due(transfer);
        _fixture.Link();
        Assert.Equal(due, Due(transfer));
        _fixture.Change(ended: true, CaseFixture.Second);
        Assert.Null(Due(transfer));
    }

    /// <summary>A power that releases him does not end the duties for earlier failures (D3).</summary>
    [Fact]
    public void A_failure_is_reported_and_answered_after_the_transfer_was_closed()
    {
        var transfer = _fixture.To(State.Monitored);
        _fixture.Change(ended: true);
        Assert.Equal(Reason.Unspecified, Close(transfer));
        _fixture.Report(transfer);
        var due = _fixture.Now + Transfers.TimeForMeasures;
        Assert.Equal(due, Due(transfer));
        _fixture.RuleRunner.Now = due;
        Assert.Single(_fixture.FallDue(transfer).Changes);
        Assert.True(_fixture.Seen(CaseFixture.Icrc, transfer)!.Failures[0].MeasuresOverdue);
        Assert.Equal(Reason.Unspecified, Measures(CaseFixture.Ua, transfer));
        Assert.Equal(State.Closed, _fixture.Transfer(transfer).State);
    }

    [Theory]
    [InlineData(CaseFixture.Ua), InlineData(CaseFixture.Kr)]
    public void No_power_closes_a_transfer_while_a_failure_stands_about_which_nothing_was_done(string by)
    {
        var transfer = _fixture.To(State.Monitored);
        _fixture.Report(transfer);
        var due = Due(transfer);
        _fixture.Change(ended: true);
        Assert.Equal(Reason.MeasuresNotRecorded, Close(transfer, by));
        Assert.Equal(due, Due(transfer));
        Assert.Equal(Reason.Unspecified, Measures(CaseFixture.Ua, transfer));
        Assert.Equal(Reason.Unspecified, Close(transfer, by));
    }

    [Fact]
    public void Each_failure_falls_due_once_while_nothing_was_done_about_it()
    {
        var transfer = _fixture.To(State.Monitored);
        _fixture.Report(transfer);
        var due = _fixture.Now.AddDays(14);
        Assert.Equal(due, Due(transfer));
        _fixture.RuleRunner.Now += TimeSpan.FromDays(1);
        _fixture.Report(transfer);
        var failures = _fixture.Transfer(transfer).Failures.Select(f => f.Id).ToArray();
        _fixture.RuleRunner.Now = due;
        var fallen = Assert.IsType<V1.DutyFellDue>(Assert.Single(_fixture.FallDue(transfer).Changes).Event);
        Assert.Equal((Duties.Measures, failures[0], due.ToTimestamp()), (fallen.Duty, fallen.Failure, fallen.DueTime));
        Assert.Equal([true, false], _fixture.Seen(CaseFixture.Icrc, transfer)!.Failures.Select(f => f.MeasuresOverdue));
        Assert.Empty(_fixture.FallDue(transfer).Changes);
        Assert.Equal(due.AddDays(1), Due(transfer));
        Assert.Equal(Reason.Unspecified, Measures(CaseFixture.Ua, transfer, failures[1]));
        Assert.Null(Due(transfer));
    }

    [Fact]
    public void To_request_return_is_to_do_something_about_a_failure_until_it_is_withdrawn()
    {
        var transfer = _fixture.To(State.Monitored);
        _fixture.Report(transfer);
        var due = Due(transfer);
        Request(transfer);
        Assert.Equal(_fixture.Now + Transfers.TimeForReturn, Due(transfer));
        _fixture.Do(CaseFixture.Ua, new WithdrawReturnRequest { Transfer = transfer }, Transfers.WithdrawReturn);
        Assert.Equal(due, Due(transfer));
    }

    private Reason Close(string transfer, string by = CaseFixture.Kr) =>
        _fixture.Try(by, new CloseTransferRequest { Transfer = transfer }, Transfers.CloseTransfer);

    private DateTimeOffset? Due(string transfer) => Transfers.Kind.DueOf(_fixture.Transfer(transfer));

    private Reason Measures(string power, string transfer, string? failure = null) =>
        _fixture.Try(
            power,
            new RecordCorrectiveMeasuresRequest { Transfer = transfer, Failure = failure ?? _fixture.Transfer(transfer).Failures[0].Id },
            Transfers.RecordCorrectiveMeasures
        );

    private Reason TryRequest(string transfer, string power = CaseFixture.Ua) =>
        _fixture.Try(power, new RequestReturnRequest { Transfer = transfer, NoteVerbale = "NV-4" }, Transfers.RequestReturn);

    private void Request(string transfer, string power = CaseFixture.Ua) => Assert.Equal(Reason.Unspecified, TryRequest(transfer, power));

    private string Requested() => _fixture.To(State.ReturnRequested);

    // Ukraine transferred him to the Republic of Korea, and that state to Russia.
    private (string First, string Second) Chain()
    {
        var first = _fixture.To(State.Monitored);
        var second = _fixture.Draft(CaseFixture.Ru, destination: "RU");
        _fixture.Do(CaseFixture.Ru, new SubmitTransferRequestRequest { Transfer = second }, Transfers.SubmitTransferRequest);
        _fixture.RuleRunner.Now += TimeSpan.FromHours(4);
        foreach (var side in (string[])[CaseFixture.Kr, CaseFixture.Ru])
            _fixture.Do(side, _fixture.Confirmation(second, [Invariant.D1, Invariant.D2, .. AllOfHim]), Transfers.ConfirmHandover);
        _fixture.Pass("KR", "RU");
        Assert.Equal(State.Monitored, _fixture.Transfer(second).State);
        return (first, second);
    }

    private void StandsInTheWayUntilWithdrawn(string transfer, string next)
    {
        _fixture.Custody = CaseFixture.Answer("RU", origin: true);
        var agree = new DecideTransferRequest
        {
            Transfer = next,
            Agreed = true,
            NoteVerbale = "NV-6",
        };
        Assert.Equal(Reason.AnotherTransferStands, _fixture.Try(CaseFixture.Kr, agree.Clone(), Transfers.DecideTransfer));
        _fixture.Do(CaseFixture.Ua, new WithdrawReturnRequest { Transfer = transfer }, Transfers.WithdrawReturn);
        _fixture.Do(CaseFixture.Kr, agree.Clone(), Transfers.DecideTransfer);
    }
}
