using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Ministries.CallLog.V1;
using Ministries.Consular.V1;
using Ministries.Custody.V1;
using Ministries.Errors.V1;
using Ministries.Fixtures;
using Ministries.Ledger;
using Ministries.Trust;
using Part = Ministries.Types.V1.Part;
using Route = Ministries.Types.V1.Route;
using State = Ministries.Consular.V1.TransferState;

namespace Ministries.Consular.Tests;

/// <summary>What the consular service does on other services' events, and when its own duties fall due.</summary>
public sealed class ReactionTests
{
    private readonly Scene _scene = new();

    private static string Call => Secret.OfTests.IdOf("kr/mfa", "request", "call");

    private static string Commitment => Secret.OfTests.IdOf("kr/mfa", "request", "commitment");

    private CallLogged Logged(params string[] prisoners) =>
        new()
        {
            Case = _scene.Case,
            Call = Call,
            Participant = Scene.Kr,
            Prisoners = { prisoners },
            TransferCommitments =
            {
                new TransferCommitment
                {
                    Commitment = Commitment,
                    Participant = Scene.Kr,
                    Prisoners = { prisoners },
                    Route = Route.Article12Transfer,
                    Destination = "KR",
                },
            },
        };

    private IEnumerable<Transfer> RequestsFor(string prisoner = Scene.First) =>
        (_scene.Stage.State(Dossiers.Kind, Dossiers.Key(_scene.Case, prisoner))?.Transfers ?? []).Select(t => _scene.Transfer(t.Transfer));

    [Fact]
    public void Every_event_that_changes_a_case_changes_the_copy()
    {
        Assert.Empty(Cases.EventTypes.Except(Reactions.All.Where(r => r.Producer == "custody").Select(r => r.Event.FullName)));
        var @case = _scene.Stage.State(Cases.Kind, _scene.Case)!;
        Assert.Equal([Scene.First, Scene.Second], @case.Prisoners.Select(p => p.Prisoner));
        Assert.Equal(
            Reason.StateNotAllowed,
            Stage.ReasonOf(
                _scene.Happen(
                    new StatusRecorded
                    {
                        Case = _scene.Case,
                        Prisoner = "pris_00000000000000000000009999",
                        Held = true,
                    }
                )
            )
        );
    }

    [Fact]
    public void There_is_at_most_one_reaction_for_an_event_type() =>
        Assert.Equal(Reactions.All.Count, Reactions.All.Select(r => r.Event.FullName).Distinct().Count());

    [Fact]
    public void A_logged_commitment_drafts_one_request_for_each_prisoner_seen_by_the_committing_participant_alone()
    {
        _scene.Admit(Scene.Stranger, Part.RequestingState, "KR");
        var decision = _scene.Happen(Logged(Scene.First, Scene.Second));
        var drafted = decision.Changes.Select(c => c.Event).Cast<TransferRequestDrafted>().ToArray();
        Assert.Equal([Scene.First, Scene.Second], drafted.Select(d => d.Prisoner));
        Assert.True(_scene.MaySee(Scene.Kr, [.. decision.Audience]));
        Assert.False(_scene.MaySee(Scene.Stranger, [.. decision.Audience]));
        foreach (var draft in drafted)
        {
            var transfer = _scene.Transfer(draft.Transfer);
            Assert.Equal(
                (State.Drafted, Scene.Kr, "KR", Call),
                (transfer.State, transfer.Participant, transfer.RequestingState, transfer.Call)
            );
            Assert.NotNull(_scene.Seen(Scene.Kr, draft.Transfer));
            foreach (var other in (string[])[Scene.Stranger, Scene.Ua, Scene.Ru, Scene.Icrc, Scene.Swiss])
                Assert.Null(_scene.Seen(other, draft.Transfer));
        }
        _scene.Do(
            Scene.Kr,
            new SubmitTransferRequestRequest { Transfer = drafted[0].Transfer, NoteVerbale = "NV" },
            Transfers.SubmitTransferRequest
        );
        var submitted = _scene.Stage.Events.OfType<TransferRequestSubmitted>().Single();
        Assert.Equal((Call, drafted[0].Commitment), (submitted.Call, submitted.Commitment));
    }

    [Fact]
    public void The_same_event_names_the_same_drafts_and_another_event_others()
    {
        var first = _scene.Happen(Logged(Scene.First), "calllog/5/0").Changes.Select(c => ((TransferRequestDrafted)c.Event).Transfer);
        var again = new Scene().Happen(Logged(Scene.First), "calllog/5/0").Changes.Select(c => ((TransferRequestDrafted)c.Event).Transfer);
        var another = new Scene()
            .Happen(Logged(Scene.First), "calllog/6/0")
            .Changes.Select(c => ((TransferRequestDrafted)c.Event).Transfer);
        Assert.Equal(first, again);
        Assert.Empty(first.Intersect(another));
    }

    [Fact]
    public void What_a_side_says_later_is_drafted_too()
    {
        var commitments = Logged(Scene.First).TransferCommitments;
        _scene.Happen(
            new ReadoutSubmitted
            {
                Case = _scene.Case,
                Call = Call,
                Participant = Scene.Kr,
                TransferCommitments = { commitments },
            }
        );
        _scene.Happen(
            new ReadoutAmended
            {
                Case = _scene.Case,
                Call = Call,
                Participant = Scene.Kr,
                TransferCommitments = { commitments },
            }
        );
        Assert.Equal([State.Drafted, State.Drafted], RequestsFor().Select(t => t.State));
    }

    [Fact]
    public void A_call_without_a_commitment_drafts_nothing_and_is_not_refused()
    {
        Assert.Empty(
            _scene
                .Happen(
                    new CallLogged
                    {
                        Case = _scene.Case,
                        Call = Call,
                        Participant = Scene.Kr,
                    }
                )
                .Changes
        );
        var unknown = Logged(Scene.First);
        unknown.TransferCommitments[0].Participant = "nobody/here";
        Assert.Empty(_scene.Happen(unknown).Changes);
    }

    public static TheoryData<string> Changing() =>
        [.. Reactions.All.Where(r => r.Producer == "custody" && r.Ask is not null).Select(r => r.Event.Name)];

    private IMessage Event(string name)
    {
        var e = (IMessage)
            Activator.CreateInstance(Reactions.All.Single(r => r.Producer == "custody" && r.Event.Name == name).Event.ClrType)!;
        e.Descriptor.FindFieldByName("case").Accessor.SetValue(e, _scene.Case);
        e.Descriptor.FindFieldByName("prisoner").Accessor.SetValue(e, Scene.First);
        e.Descriptor.FindFieldByName("held")?.Accessor.SetValue(e, true);
        return e;
    }

    [Fact]
    public void Whatever_custody_records_on_which_a_departure_may_rest_is_asked_about_again() =>
        Assert.Superset(
            new HashSet<string>
            {
                nameof(StatementRecorded),
                nameof(StatementAttested),
                nameof(AttestationRevoked),
                nameof(RiskAssessmentRecorded),
                nameof(FitnessRecorded),
                nameof(StatusRecorded),
                nameof(Custody.V1.RecordCorrected),
                nameof(Custody.V1.DutyFellDue),
            },
            Changing().Select(r => r.Data).ToHashSet()
        );

    [Theory]
    [MemberData(nameof(Changing))]
    public void A_departure_under_way_is_suspended_when_what_it_rests_on_is_lost(string name)
    {
        foreach (var stage in (State[])[State.Agreed, State.Scheduled, State.InTransit])
        foreach (
            var answer in (DepartureCheck?[])
                [
                    Scene.Lost,
                    Scene.Answer(fit: false),
                    Scene.Answer(risk: false),
                    Scene.Answer(free: false),
                    Scene.Answer(position: 3),
                    null,
                ]
        )
        {
            var test = new ReactionTests();
            var transfer = test._scene.To(stage);
            test._scene.Happen(test.Event(name));
            Assert.Equal(stage, test._scene.Transfer(transfer).State);
            test._scene.Custody = answer;
            var decision = test._scene.Happen(test.Event(name));
            Assert.Equal((State.Suspended, stage), (test._scene.Transfer(transfer).State, test._scene.Transfer(transfer).SuspendedFrom));
            var suspended = Assert.Single(decision.Changes.Select(c => c.Event).OfType<TransferSuspended>());
            Assert.Equal(
                new TransferSuspended
                {
                    Case = test._scene.Case,
                    Transfer = transfer,
                    Prisoner = Scene.First,
                },
                suspended
            );
            // Nothing more comes of another event.
            Assert.Single(test._scene.Happen(test.Event(name)).Changes);
        }
    }

    [Fact]
    public void An_event_that_custody_knew_of_when_the_last_step_asked_it_suspends_nothing()
    {
        var transfer = _scene.To(State.Scheduled);
        var before = $"custody/{_scene.CustodyEnd - 1}/0";
        _scene.Custody = Scene.Lost;
        _scene.Happen(new StatementRecorded { Case = _scene.Case, Prisoner = Scene.First }, before);
        Assert.Equal(State.Scheduled, _scene.Transfer(transfer).State);
        _scene.Happen(new StatementRecorded { Case = _scene.Case, Prisoner = Scene.First });
        Assert.Equal(State.Suspended, _scene.Transfer(transfer).State);
    }

    [Theory]
    [MemberData(nameof(Changing))]
    public void A_request_that_is_not_agreed_or_of_another_prisoner_is_let_be(string name)
    {
        var early = _scene.To(State.UnderReview);
        var other = _scene.To(State.Agreed, Scene.Second);
        _scene.Custody = Scene.Lost;
        _scene.Happen(Event(name));
        Assert.Equal(State.UnderReview, _scene.Transfer(early).State);
        Assert.Equal(State.Agreed, _scene.Transfer(other).State);
    }

    [Fact]
    public void An_answer_from_before_custodys_latest_event_lets_nobody_go()
    {
        var transfer = _scene.To(State.UnderReview);
        _scene.Happen(new StatementRecorded { Case = _scene.Case, Prisoner = Scene.First }, "custody/500/0");
        _scene.Custody = Scene.Answer(position: 500);
        Assert.Equal(Reason.CustodyAnswerOutdated, _scene.TryDecide(transfer));
        _scene.Custody = Scene.Answer(position: 501);
        Assert.Equal(Reason.Unspecified, _scene.TryDecide(transfer));
    }

    [Fact]
    public void When_he_is_held_no_more_every_open_request_is_suspended()
    {
        var submitted = _scene.To(State.Submitted);
        var agreed = _scene.To(State.Agreed);
        var draft = _scene.To(State.Drafted);
        _scene.Happen(
            new StatusRecorded
            {
                Case = _scene.Case,
                Prisoner = Scene.First,
                Held = false,
            }
        );
        Assert.Equal(
            [State.Suspended, State.Suspended, State.Drafted],
            ((string[])[submitted, agreed, draft]).Select(t => _scene.Transfer(t).State)
        );
    }

    [Fact]
    public void Once_custody_has_passed_the_transfer_is_monitored_and_what_else_was_asked_of_the_former_power_is_suspended()
    {
        var other = _scene.To(State.UnderReview);
        var transfer = _scene.To(State.HandedOver);
        _scene.Happen(
            new CustodyTransferred
            {
                Case = _scene.Case,
                Prisoner = Scene.First,
                FromPower = "UA",
                ToPower = "KR",
            }
        );
        Assert.Equal(State.Monitored, _scene.Transfer(transfer).State);
        Assert.Equal(State.Suspended, _scene.Transfer(other).State);
        Assert.Equal(Reason.NotGranted, _scene.Try(Scene.Ua, new ResumeTransferRequest { Transfer = other }, Transfers.ResumeTransfer));
        _scene.Do(Scene.Kr, new WithdrawTransferRequestRequest { Transfer = other }, Transfers.WithdrawTransferRequest);
    }

    [Fact]
    public void A_commitment_that_nothing_says_any_more_suspends_what_was_asked_on_the_ground_of_it()
    {
        _scene.Happen(Logged(Scene.First, Scene.Second));
        var (first, second) = (RequestsFor().Single().Id, RequestsFor(Scene.Second).Single().Id);
        _scene.Do(Scene.Kr, new SubmitTransferRequestRequest { Transfer = first, NoteVerbale = "NV" }, Transfers.SubmitTransferRequest);
        _scene.Happen(
            new CallLog.V1.RecordCorrected
            {
                Case = _scene.Case,
                Record = Call,
                Position = 4,
                Participant = Scene.Kr,
            }
        );
        Assert.Equal(State.Submitted, _scene.Transfer(first).State);
        _scene.Happen(
            new CallLog.V1.RecordCorrected
            {
                Case = _scene.Case,
                Record = Call,
                Position = 3,
                Participant = Scene.Kr,
                Commitments = { Commitment },
            }
        );
        Assert.Equal((State.Suspended, State.Drafted), (_scene.Transfer(first).State, _scene.Transfer(second).State));
    }

    // -------------------- duties

    private DateTimeOffset? Due(string transfer) => Transfers.Kind.DueOf(_scene.Transfer(transfer));

    [Fact]
    public void The_second_confirmation_falls_due_once()
    {
        var transfer = _scene.To(State.InTransit);
        _scene.Stage.Now += TimeSpan.FromHours(4);
        _scene.Do(Scene.Ua, _scene.Confirmation(transfer), Transfers.ConfirmHandover);
        var due = _scene.Now.AddHours(72);
        Assert.Equal(due, Due(transfer));
        Assert.Empty(_scene.FallDue(transfer).Changes);
        _scene.Stage.Now = due;
        var fallen = Assert.IsType<V1.DutyFellDue>(Assert.Single(_scene.FallDue(transfer).Changes).Event);
        Assert.Equal((Duties.SecondConfirmation, due.ToTimestamp(), transfer), (fallen.Duty, fallen.DueTime, fallen.Record));
        Assert.True(_scene.Seen(Scene.Icrc, transfer)!.SecondConfirmationOverdue);
        Assert.True(Due(transfer) > due);
        Assert.Empty(_scene.FallDue(transfer).Changes);
        // It may still be confirmed, and the clock is gone then.
        _scene.Do(
            Scene.Kr,
            new ConfirmHandoverRequest(_scene.Confirmation(transfer))
            {
                WindowStartTime = _scene.Transfer(transfer).Confirmations[0].WindowStartTime,
                WindowEndTime = _scene.Transfer(transfer).Confirmations[0].WindowEndTime,
            },
            Transfers.ConfirmHandover
        );
        Assert.Null(Due(transfer));
    }

    [Fact]
    public void The_second_confirmation_of_a_return_falls_due_too()
    {
        var transfer = _scene.To(State.ReturnRequested);
        _scene.Stage.Now += TimeSpan.FromHours(4);
        _scene.Do(Scene.Kr, _scene.ReturnConfirmation(transfer), Transfers.ConfirmReturn);
        _scene.Stage.Now = Due(transfer)!.Value;
        Assert.IsType<V1.DutyFellDue>(Assert.Single(_scene.FallDue(transfer).Changes).Event);
        Assert.Null(Due(transfer));
    }

    [Theory]
    [InlineData(State.UnderReview, Route.Article12Transfer, State.UnderReview)]
    [InlineData(State.Agreed, Route.Article12Transfer, State.Suspended)]
    [InlineData(State.InTransit, Route.Article12Transfer, State.Suspended)]
    [InlineData(State.Suspended, Route.Article12Transfer, State.Suspended)]
    [InlineData(State.Agreed, Route.Exchange, State.Agreed)]
    public void When_assurance_and_assessment_end_a_transfer_under_way_is_suspended(State from, Route route, State expected)
    {
        var transfer = _scene.To(from, route: route);
        Assert.Equal(_scene.Now.AddDays(30), Due(transfer));
        _scene.Stage.Now += TimeSpan.FromDays(30);
        var decision = _scene.FallDue(transfer);
        Assert.Equal(
            [Duties.AssuranceExpiry, Duties.AssessmentExpiry],
            decision.Changes.Select(c => c.Event).OfType<V1.DutyFellDue>().Select(d => d.Duty)
        );
        Assert.Empty(decision.Audience);
        Assert.Equal(expected, _scene.Transfer(transfer).State);
        Assert.Null(Due(transfer));
        Assert.Empty(_scene.FallDue(transfer).Changes);
    }
}
