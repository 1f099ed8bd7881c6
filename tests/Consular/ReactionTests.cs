using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Ministries.CallLog.V1;
using Ministries.Consular.V1;
using Ministries.Custody.V1;
using Ministries.Errors.V1;
using Ministries.Fixtures;
using Part = Ministries.Types.V1.Part;
using Route = Ministries.Types.V1.Route;
using State = Ministries.Consular.V1.TransferState;

namespace Ministries.Consular.Tests;

/// <summary>What the consular service does on other services' events, and when its own duties fall due.</summary>
public sealed class ReactionTests
{
    private readonly CaseFixture _fixture = new();

    private static string Call => Secret.OfTests.IdOf("kr/mfa", "request", "call");

    private static string Commitment => Secret.OfTests.IdOf("kr/mfa", "request", "commitment");

    private CallLogged Logged(params string[] prisoners) =>
        new()
        {
            Case = _fixture.Case,
            Call = Call,
            Participant = CaseFixture.Kr,
            Prisoners = { prisoners },
            TransferCommitments =
            {
                new TransferCommitment
                {
                    Commitment = Commitment,
                    Participant = CaseFixture.Kr,
                    Prisoners = { prisoners },
                    Route = Route.Article12Transfer,
                    Destination = "KR",
                },
            },
        };

    private IEnumerable<Transfer> RequestsFor(string prisoner = CaseFixture.First) =>
        (_fixture.RuleRunner.State(Dossiers.Kind, Dossiers.Key(_fixture.Case, prisoner))?.Transfers ?? []).Select(t =>
            _fixture.Transfer(t.Transfer)
        );

    [Fact]
    public void Every_event_that_changes_a_case_changes_the_copy()
    {
        Assert.Empty(Cases.EventTypes.Except(Reactions.All.Where(r => r.Producer == "custody").Select(r => r.Event.FullName)));
        var @case = _fixture.RuleRunner.State(Cases.Kind, _fixture.Case)!;
        Assert.Equal([CaseFixture.First, CaseFixture.Second], @case.Prisoners.Select(p => p.Prisoner));
        Assert.Equal(
            Reason.StateNotAllowed,
            RuleRunner.ReasonOf(
                _fixture.Happen(
                    new StatusRecorded
                    {
                        Case = _fixture.Case,
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
        _fixture.Admit(CaseFixture.Stranger, Part.RequestingState, "KR");
        var decision = _fixture.Happen(Logged(CaseFixture.First, CaseFixture.Second));
        var drafted = decision.Changes.Select(c => c.Event).Cast<TransferRequestDrafted>().ToArray();
        Assert.Equal([CaseFixture.First, CaseFixture.Second], drafted.Select(d => d.Prisoner));
        Assert.True(_fixture.MaySee(CaseFixture.Kr, [.. decision.Audience]));
        Assert.False(_fixture.MaySee(CaseFixture.Stranger, [.. decision.Audience]));
        foreach (var draft in drafted)
        {
            var transfer = _fixture.Transfer(draft.Transfer);
            Assert.Equal(
                (State.Drafted, CaseFixture.Kr, "KR", Call),
                (transfer.State, transfer.Participant, transfer.RequestingState, transfer.Call)
            );
            Assert.NotNull(_fixture.Seen(CaseFixture.Kr, draft.Transfer));
            foreach (var other in (string[])[CaseFixture.Stranger, CaseFixture.Ua, CaseFixture.Ru, CaseFixture.Icrc, CaseFixture.Swiss])
                Assert.Null(_fixture.Seen(other, draft.Transfer));
        }
        _fixture.Do(
            CaseFixture.Kr,
            new SubmitTransferRequestRequest { Transfer = drafted[0].Transfer, NoteVerbale = "NV" },
            Transfers.SubmitTransferRequest
        );
        var submitted = _fixture.RuleRunner.Events.OfType<TransferRequestSubmitted>().Single();
        Assert.Equal((Call, drafted[0].Commitment), (submitted.Call, submitted.Commitment));
    }

    [Fact]
    public void The_same_event_names_the_same_drafts_and_another_event_others()
    {
        var first = _fixture
            .Happen(Logged(CaseFixture.First), "calllog/5/0")
            .Changes.Select(c => ((TransferRequestDrafted)c.Event).Transfer);
        var again = new CaseFixture()
            .Happen(Logged(CaseFixture.First), "calllog/5/0")
            .Changes.Select(c => ((TransferRequestDrafted)c.Event).Transfer);
        var another = new CaseFixture()
            .Happen(Logged(CaseFixture.First), "calllog/6/0")
            .Changes.Select(c => ((TransferRequestDrafted)c.Event).Transfer);
        Assert.Equal(first, again);
        Assert.Empty(first.Intersect(another));
    }

    [Fact]
    public void What_a_side_says_later_is_drafted_too()
    {
        var commitments = Logged(CaseFixture.First).TransferCommitments;
        _fixture.Happen(
            new ReadoutSubmitted
            {
                Case = _fixture.Case,
                Call = Call,
                Participant = CaseFixture.Kr,
                TransferCommitments = { commitments },
            }
        );
        _fixture.Happen(
            new ReadoutAmended
            {
                Case = _fixture.Case,
                Call = Call,
                Participant = CaseFixture.Kr,
                TransferCommitments = { commitments },
            }
        );
        Assert.Equal([State.Drafted, State.Drafted], RequestsFor().Select(t => t.State));
    }

    [Fact]
    public void A_call_without_a_commitment_drafts_nothing_and_is_not_refused()
    {
        Assert.Empty(
            _fixture
                .Happen(
                    new CallLogged
                    {
                        Case = _fixture.Case,
                        Call = Call,
                        Participant = CaseFixture.Kr,
                    }
                )
                .Changes
        );
        var unknown = Logged(CaseFixture.First);
        unknown.TransferCommitments[0].Participant = "nobody/here";
        Assert.Empty(_fixture.Happen(unknown).Changes);
    }

    public static TheoryData<string> Changing() =>
        [.. Reactions.All.Where(r => r.Producer == "custody" && r.Ask is not null).Select(r => r.Event.Name)];

    private IMessage Event(string name)
    {
        var e = (IMessage)
            Activator.CreateInstance(Reactions.All.Single(r => r.Producer == "custody" && r.Event.Name == name).Event.ClrType)!;
        e.Descriptor.FindFieldByName("case").Accessor.SetValue(e, _fixture.Case);
        e.Descriptor.FindFieldByName("prisoner")?.Accessor.SetValue(e, e is DuplicateLinked ? Linked : CaseFixture.First);
        e.Descriptor.FindFieldByName("same_as_prisoner")?.Accessor.SetValue(e, CaseFixture.First);
        e.Descriptor.FindFieldByName("held")?.Accessor.SetValue(e, true);
        return e;
    }

    private const string Linked = "pris_00000000000000000000000004";

    // What custody publishes on which no departure rests.
    private static readonly Dictionary<string, string> LetBe = new()
    {
        [nameof(CaseOpened)] = "nobody is in the case yet",
        [nameof(CaseClosed)] = "a case is closed when nobody is in custody",
        [nameof(CaseReopened)] = "nobody is in custody when it is opened again by hand",
        [nameof(PartyRemoved)] = "a state that was involved stays so; that the accepting power is there is asked at each step",
        [nameof(PrisonerRegistered)] = "nobody has asked for him yet",
        [nameof(CustodyTransferred)] = "the departure is done, and what else was agreed is suspended whatever custody answers",
        [nameof(DepartureRecorded)] = "the departure is done, and what else was agreed is suspended whatever custody answers",
        [nameof(MoveAnnounced)] = "he stays with the same power",
        [nameof(DuplicateProposed)] = "it changes nothing until an observer confirms it",
        [nameof(InterestNoted)] = "it is of the consular service itself",
    };

    [Fact]
    public void Whatever_custody_publishes_is_asked_about_again_or_there_is_a_reason_why_not()
    {
        var published = CaseOpened
            .Descriptor.File.MessageTypes.Where(t => t.GetOptions()?.GetExtension(Types.V1.OptionsExtensions.Published) == true)
            .Select(t => t.Name)
            .ToHashSet();
        Assert.Equal(published.Order(), Changing().Select(r => r.Data).Concat(LetBe.Keys).Order());
    }

    /// <summary>Questions about different persons are asked together. Who is one with whom, and who is party to the case, concerns more
    /// than one of them.</summary>
    [Fact]
    public void Each_question_waits_for_a_link_and_an_admission_before_it() =>
        Assert.Equal(
            [nameof(DuplicateLinked), nameof(PartyAdmitted)],
            Reactions.All.Where(r => r is { Ask: not null, About: null }).Select(r => r.Event.Name).Order()
        );

    /// <summary>What he said under a reference that is no longer kept counts for the kept one (D9).</summary>
    public static TheoryData<string> UnderAnotherReference =>
        [
            nameof(DuplicateLinked),
            nameof(StatementRecorded),
            nameof(StatementAttested),
            nameof(AttestationRevoked),
            nameof(Custody.V1.RecordCorrected),
            nameof(Custody.V1.DutyFellDue),
            "the link undone",
        ];

    [Theory]
    [MemberData(nameof(UnderAnotherReference))]
    public void What_happens_under_a_linked_reference_is_asked_about_under_the_kept_one(string what)
    {
        foreach (var from in (State[])[State.Agreed, State.Scheduled, State.InTransit])
        {
            var test = new ReactionTests();
            var transfer = test._fixture.To(from);
            if (what != nameof(DuplicateLinked))
                test._fixture.Happen(test.Event(nameof(DuplicateLinked)), "custody/40/0");
            Assert.Equal(from, test._fixture.Transfer(transfer).State);
            test._fixture.Custody = CaseFixture.Lost;
            var e =
                what == "the link undone" ? new Custody.V1.RecordCorrected { Case = test._fixture.Case, Position = 40 } : test.Event(what);
            e.Descriptor.FindFieldByName("prisoner").Accessor.SetValue(e, Linked);
            test._fixture.Happen(e, "custody/50/0");
            Assert.Equal(State.Suspended, test._fixture.Transfer(transfer).State);
            // An answer from before is of no use for the kept one either.
            Assert.Equal(
                51ul,
                test._fixture.RuleRunner.State(Dossiers.Kind, Dossiers.Key(test._fixture.Case, CaseFixture.First))!.CustodyPosition
            );
        }
    }

    [Fact]
    public void Once_a_link_is_undone_what_happens_under_the_other_reference_concerns_nobody_else()
    {
        var transfer = _fixture.To(State.Agreed);
        _fixture.CustodyEnd = 60;
        _fixture.Happen(Event(nameof(DuplicateLinked)), "custody/40/0");
        _fixture.Happen(
            new Custody.V1.RecordCorrected
            {
                Case = _fixture.Case,
                Prisoner = Linked,
                Position = 40,
            },
            "custody/41/0"
        );
        _fixture.Custody = CaseFixture.Lost;
        _fixture.Happen(new StatementRecorded { Case = _fixture.Case, Prisoner = Linked }, "custody/50/0");
        Assert.Equal(State.Agreed, _fixture.Transfer(transfer).State);
    }

    [Theory]
    [MemberData(nameof(Changing))]
    public void A_departure_under_way_is_suspended_when_what_it_rests_on_is_lost(string name)
    {
        foreach (var runner in (State[])[State.Agreed, State.Scheduled, State.InTransit])
        foreach (
            var answer in (DepartureCheck?[])
                [
                    CaseFixture.Lost,
                    CaseFixture.Answer(fit: false),
                    CaseFixture.Answer(risk: false),
                    CaseFixture.Answer(free: false),
                    CaseFixture.Answer(position: 3),
                    null,
                ]
        )
        {
            var test = new ReactionTests();
            var transfer = test._fixture.To(runner);
            test._fixture.Happen(test.Event(name));
            Assert.Equal(runner, test._fixture.Transfer(transfer).State);
            test._fixture.Custody = answer;
            var decision = test._fixture.Happen(test.Event(name));
            Assert.Equal(
                (State.Suspended, runner),
                (test._fixture.Transfer(transfer).State, test._fixture.Transfer(transfer).SuspendedFrom)
            );
            var suspended = Assert.Single(decision.Changes.Select(c => c.Event).OfType<TransferSuspended>());
            Assert.Equal(
                new TransferSuspended
                {
                    Case = test._fixture.Case,
                    Transfer = transfer,
                    Prisoner = CaseFixture.First,
                },
                suspended
            );
            // Nothing more comes of another event.
            Assert.Single(test._fixture.Happen(test.Event(name)).Changes);
        }
    }

    [Fact]
    public void An_event_that_custody_knew_of_when_the_last_step_asked_it_suspends_nothing()
    {
        var transfer = _fixture.To(State.Scheduled);
        var before = $"custody/{_fixture.CustodyEnd - 1}/0";
        _fixture.Custody = CaseFixture.Lost;
        _fixture.Happen(new StatementRecorded { Case = _fixture.Case, Prisoner = CaseFixture.First }, before);
        Assert.Equal(State.Scheduled, _fixture.Transfer(transfer).State);
        _fixture.Happen(new StatementRecorded { Case = _fixture.Case, Prisoner = CaseFixture.First });
        Assert.Equal(State.Suspended, _fixture.Transfer(transfer).State);
    }

    [Theory]
    [MemberData(nameof(Changing))]
    public void A_request_that_is_not_agreed_or_of_another_prisoner_is_let_be(string name)
    {
        var early = _fixture.To(State.UnderReview);
        var other = _fixture.To(State.Agreed, CaseFixture.Second);
        _fixture.Custody = CaseFixture.Lost;
        _fixture.Happen(Event(name));
        Assert.Equal(State.UnderReview, _fixture.Transfer(early).State);
        // A party that is admitted is one for everybody in the case.
        Assert.Equal(name == nameof(PartyAdmitted) ? State.Suspended : State.Agreed, _fixture.Transfer(other).State);
    }

    [Fact]
    public void An_answer_from_before_custodys_latest_event_lets_nobody_go()
    {
        var transfer = _fixture.To(State.UnderReview);
        _fixture.Happen(new StatementRecorded { Case = _fixture.Case, Prisoner = CaseFixture.First }, "custody/500/0");
        _fixture.Custody = CaseFixture.Answer(position: 500);
        Assert.Equal(Reason.CustodyAnswerOutdated, _fixture.TryDecide(transfer));
        _fixture.Custody = CaseFixture.Answer(position: 501);
        Assert.Equal(Reason.Unspecified, _fixture.TryDecide(transfer));
    }

    [Fact]
    public void Whoever_asks_is_not_told_of_an_escape_before_custody_has_ended()
    {
        var submitted = _fixture.To(State.Submitted);
        var agreed = _fixture.To(State.Agreed);
        var draft = _fixture.To(State.Drafted);
        Happens(ended: false);
        // As after anything else on which a departure rests.
        Assert.Equal([State.Submitted, State.Suspended, State.Drafted], States());
        Happens(ended: true);
        Assert.Equal([State.Suspended, State.Suspended, State.Drafted], States());

        void Happens(bool ended) =>
            _fixture.Happen(
                new StatusRecorded
                {
                    Case = _fixture.Case,
                    Prisoner = CaseFixture.First,
                    Held = false,
                    Ended = ended,
                }
            );

        IEnumerable<State> States() => ((string[])[submitted, agreed, draft]).Select(t => _fixture.Transfer(t).State);
    }

    [Fact]
    public void Once_custody_has_passed_the_transfer_is_monitored_and_what_else_was_asked_of_the_former_power_is_suspended()
    {
        var other = _fixture.To(State.UnderReview);
        var transfer = _fixture.To(State.HandedOver);
        _fixture.Pass("UA", "KR");
        Assert.Equal(State.Monitored, _fixture.Transfer(transfer).State);
        Assert.Equal(State.Suspended, _fixture.Transfer(other).State);
        Assert.Equal(
            Reason.NotGranted,
            _fixture.Try(CaseFixture.Ua, new ResumeTransferRequest { Transfer = other }, Transfers.ResumeTransfer)
        );
        _fixture.Do(CaseFixture.Kr, new WithdrawTransferRequestRequest { Transfer = other }, Transfers.WithdrawTransferRequest);
    }

    [Fact]
    public void A_commitment_that_nothing_says_any_more_suspends_what_was_asked_on_the_ground_of_it()
    {
        _fixture.Happen(Logged(CaseFixture.First, CaseFixture.Second));
        var (first, second) = (RequestsFor().Single().Id, RequestsFor(CaseFixture.Second).Single().Id);
        _fixture.Do(
            CaseFixture.Kr,
            new SubmitTransferRequestRequest { Transfer = first, NoteVerbale = "NV" },
            Transfers.SubmitTransferRequest
        );
        _fixture.Happen(
            new CallLog.V1.RecordCorrected
            {
                Case = _fixture.Case,
                Record = Call,
                Position = 4,
                Participant = CaseFixture.Kr,
            }
        );
        Assert.Equal(State.Submitted, _fixture.Transfer(first).State);
        _fixture.Happen(
            new CallLog.V1.RecordCorrected
            {
                Case = _fixture.Case,
                Record = Call,
                Position = 3,
                Participant = CaseFixture.Kr,
                Commitments = { Commitment },
            }
        );
        Assert.Equal((State.Suspended, State.Drafted), (_fixture.Transfer(first).State, _fixture.Transfer(second).State));
    }

    // -------------------- duties

    private DateTimeOffset? Due(string transfer) => Transfers.Kind.DueOf(_fixture.Transfer(transfer));

    [Fact]
    public void The_second_confirmation_falls_due_once()
    {
        var transfer = _fixture.To(State.InTransit);
        _fixture.RuleRunner.Now += TimeSpan.FromHours(4);
        _fixture.Do(CaseFixture.Ua, _fixture.Confirmation(transfer), Transfers.ConfirmHandover);
        var due = _fixture.Now.AddHours(72);
        Assert.Equal(due, Due(transfer));
        Assert.Empty(_fixture.FallDue(transfer).Changes);
        _fixture.RuleRunner.Now = due;
        var fallen = Assert.IsType<V1.DutyFellDue>(Assert.Single(_fixture.FallDue(transfer).Changes).Event);
        Assert.Equal((Duties.SecondConfirmation, due.ToTimestamp(), transfer), (fallen.Duty, fallen.DueTime, fallen.Record));
        Assert.True(_fixture.Seen(CaseFixture.Icrc, transfer)!.SecondConfirmationOverdue);
        Assert.True(Due(transfer) > due);
        Assert.Empty(_fixture.FallDue(transfer).Changes);
        // It may still be confirmed, and the clock is gone then.
        _fixture.Do(
            CaseFixture.Kr,
            new ConfirmHandoverRequest(_fixture.Confirmation(transfer))
            {
                WindowStartTime = _fixture.Transfer(transfer).Confirmations[0].WindowStartTime,
                WindowEndTime = _fixture.Transfer(transfer).Confirmations[0].WindowEndTime,
            },
            Transfers.ConfirmHandover
        );
        Assert.Null(Due(transfer));
    }

    [Fact]
    public void The_second_confirmation_of_a_return_falls_due_too()
    {
        var transfer = _fixture.To(State.ReturnRequested);
        _fixture.RuleRunner.Now += TimeSpan.FromHours(4);
        _fixture.Do(CaseFixture.Kr, _fixture.ReturnConfirmation(transfer), Transfers.ConfirmReturn);
        _fixture.RuleRunner.Now = Due(transfer)!.Value;
        Assert.IsType<V1.DutyFellDue>(Assert.Single(_fixture.FallDue(transfer).Changes).Event);
        Assert.Equal(_fixture.Transfer(transfer).ReturnDueTime.ToDateTimeOffset(), Due(transfer));
    }

    [Theory]
    [InlineData(State.UnderReview, Route.Article12Transfer, State.UnderReview)]
    [InlineData(State.Agreed, Route.Article12Transfer, State.Suspended)]
    [InlineData(State.InTransit, Route.Article12Transfer, State.Suspended)]
    [InlineData(State.Suspended, Route.Article12Transfer, State.Suspended)]
    [InlineData(State.Agreed, Route.NeutralAccommodation, State.Suspended)]
    [InlineData(State.Agreed, Route.Exchange, State.Suspended)]
    public void When_assurance_and_assessment_end_a_transfer_under_way_is_suspended(State from, Route route, State expected)
    {
        var transfer = _fixture.To(from, route: route);
        Assert.Equal(_fixture.Now.AddDays(30), Due(transfer));
        _fixture.RuleRunner.Now += TimeSpan.FromDays(30);
        var decision = _fixture.FallDue(transfer);
        Assert.Equal(
            [Duties.AssuranceExpiry, Duties.AssessmentExpiry],
            decision.Changes.Select(c => c.Event).OfType<V1.DutyFellDue>().Select(d => d.Duty)
        );
        Assert.Empty(decision.Audience);
        Assert.Equal(expected, _fixture.Transfer(transfer).State);
        Assert.Null(Due(transfer));
        Assert.Empty(_fixture.FallDue(transfer).Changes);
    }
}
