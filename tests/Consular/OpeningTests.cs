using Google.Protobuf;
using Ministries.Consular.V1;
using Ministries.Custody.V1;
using Ministries.Errors.V1;
using Route = Ministries.Types.V1.Route;
using State = Ministries.Consular.V1.TransferState;

namespace Ministries.Consular.Tests;

/// <summary>The openings by which the detaining power shows that the prisoner accepts a destination.</summary>
public sealed class OpeningTests
{
    private readonly CaseFixture _fixture = new() { Opens = false };

    [Fact]
    public void An_agreement_without_an_opening_is_refused_by_name_and_a_refusal_needs_none()
    {
        var transfer = UnderReview();
        Assert.Equal(Reason.OpeningMissing, _fixture.TryDecide(transfer));
        Assert.Equal(State.UnderReview, _fixture.Transfer(transfer).State);
        Assert.Equal(Reason.Unspecified, _fixture.TryDecide(transfer, agreed: false));
        Assert.Empty(_fixture.Transfer(transfer).Decision.Openings);
    }

    [Fact]
    public void A_release_where_he_is_held_needs_none()
    {
        var transfer = _fixture.Draft(CaseFixture.Kr, route: Route.Release, destination: "UA");
        _fixture.Do(CaseFixture.Kr, new SubmitTransferRequestRequest { Transfer = transfer }, Transfers.SubmitTransferRequest);
        _fixture.Do(CaseFixture.Ua, new BeginReviewRequest { Transfer = transfer }, Transfers.BeginReview);
        Assert.Equal(Reason.Unspecified, _fixture.TryDecide(transfer));
    }

    [Fact]
    public void Every_side_sees_what_was_opened_and_nothing_else_of_his_word()
    {
        var transfer = Agreed(1);
        Assert.All(
            (string[])[CaseFixture.Ua, CaseFixture.Kr, CaseFixture.Icrc],
            who => Assert.Equal([Opening(1)], _fixture.Seen(who, transfer)!.Decision.Openings)
        );
        Assert.DoesNotContain(_fixture.RuleRunner.Events, e => e.ToByteString().Span.IndexOf(Opening(1).Span) >= 0);
    }

    [Theory]
    [InlineData(State.Agreed)]
    [InlineData(State.Scheduled)]
    public void What_was_suspended_is_agreed_to_anew_with_the_openings_of_what_he_said_since(State from)
    {
        var transfer = Agreed(1);
        if (from == State.Scheduled)
            _fixture.Do(CaseFixture.Ua, _fixture.Schedule(transfer), Transfers.ScheduleHandover);
        SaysSomething();
        Assert.Equal(State.Suspended, _fixture.Transfer(transfer).State);
        Assert.Equal(Reason.StandingNotInForce, TryDecide(transfer, 1));
        _fixture.Custody = CaseFixture.Answer();
        Assert.Equal(Reason.Unspecified, TryDecide(transfer, 1, 2));
        var after = _fixture.Transfer(transfer);
        Assert.Equal((State.Agreed, State.Unspecified), (after.State, after.SuspendedFrom));
        Assert.Equal([Opening(1), Opening(2)], after.Decision.Openings);
    }

    [Fact]
    public void On_the_way_it_is_resumed_with_the_openings_of_what_he_said_since()
    {
        var transfer = Agreed(1);
        _fixture.Do(CaseFixture.Ua, _fixture.Schedule(transfer), Transfers.ScheduleHandover);
        _fixture.Do(CaseFixture.Ua, new BeginTransitRequest { Transfer = transfer }, Transfers.BeginTransit);
        SaysSomething();
        Assert.Equal(Reason.StateNotAllowed, TryDecide(transfer, 1, 2));
        _fixture.Custody = CaseFixture.Answer();
        var resume = new ResumeTransferRequest { Transfer = transfer, Openings = { Opening(1), Opening(2) } };
        _fixture.Do(CaseFixture.Ua, resume, Transfers.ResumeTransfer);
        Assert.Equal(State.InTransit, _fixture.Transfer(transfer).State);
        Assert.Equal([Opening(1), Opening(2)], _fixture.Transfer(transfer).Decision.Openings);
        // Without any, those of before still count.
        _fixture.Suspend(transfer);
        _fixture.Do(CaseFixture.Ua, new ResumeTransferRequest { Transfer = transfer }, Transfers.ResumeTransfer);
        Assert.Equal(2, _fixture.Transfer(transfer).Decision.Openings.Count);
    }

    [Fact]
    public void What_was_suspended_before_it_was_agreed_to_is_resumed_first()
    {
        var transfer = UnderReview();
        _fixture.Suspend(transfer);
        Assert.Equal(Reason.StateNotAllowed, TryDecide(transfer, 1));
    }

    [Fact]
    public void Custody_gets_its_own_answer_back_with_a_hand_over()
    {
        _fixture.Opens = true;
        _fixture.To(State.HandedOver);
        var both = Assert.Single(_fixture.RuleRunner.Events.OfType<HandoverConfirmed>());
        Assert.Equal("basis-KR", both.StandingBasis);
    }

    [Fact]
    public void The_openings_of_a_return_are_kept_with_its_confirmation_and_shown_once_both_have_confirmed()
    {
        _fixture.Opens = true;
        var transfer = _fixture.To(State.ReturnRequested);
        _fixture.RuleRunner.Now += TimeSpan.FromHours(4);
        var confirmation = _fixture.ReturnConfirmation(transfer);
        confirmation.Openings.Add(Opening(3));
        _fixture.Do(CaseFixture.Kr, confirmation, Transfers.ConfirmReturn);
        Assert.Equal([Opening(3)], _fixture.Transfer(transfer).ReturnConfirmations[0].Openings);
        Assert.Empty(_fixture.Seen(CaseFixture.Ua, transfer)!.ReturnConfirmations[0].Openings);
        _fixture.Do(CaseFixture.Ua, _fixture.ReturnConfirmation(transfer), Transfers.ConfirmReturn);
        Assert.Equal("basis-UA", Assert.Single(_fixture.RuleRunner.Events.OfType<ReturnConfirmed>()).StandingBasis);
        Assert.Equal([Opening(3)], _fixture.Seen(CaseFixture.Ua, transfer)!.ReturnConfirmations[0].Openings);
    }

    // An opening; whether it opens anything, custody alone says.
    private static ByteString Opening(byte number) => ByteString.CopyFrom(Enumerable.Repeat(number, 32).ToArray());

    private string UnderReview() => _fixture.To(State.UnderReview);

    private string Agreed(params byte[] openings)
    {
        var transfer = UnderReview();
        Assert.Equal(Reason.Unspecified, TryDecide(transfer, openings));
        return transfer;
    }

    private Reason TryDecide(string transfer, params byte[] openings) =>
        _fixture.Try(
            CaseFixture.Ua,
            new DecideTransferRequest
            {
                Transfer = transfer,
                Agreed = true,
                NoteVerbale = "NV-3",
                Openings = { openings.Select(Opening) },
            },
            Transfers.DecideTransfer
        );

    // He says something that nothing of what was opened opens.
    private void SaysSomething()
    {
        _fixture.Custody = CaseFixture.Lost;
        _fixture.Happen(
            new StatementRecorded
            {
                Case = _fixture.Case,
                Prisoner = CaseFixture.First,
                Statement = "statement_1",
            }
        );
    }
}
