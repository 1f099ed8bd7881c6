using Google.Protobuf;
using Ministries.Consular.V1;
using Ministries.Custody.V1;
using Ministries.Errors.V1;
using Ministries.Fixtures;
using Ministries.Types.V1;
using State = Ministries.Consular.V1.TransferState;

namespace Ministries.Consular.Tests;

/// <summary>Who sees what (D22), and that nothing betrays what its reader may not know (D9, D16).</summary>
public sealed class VisibilityTests
{
    private static readonly string[] Everybody =
    [
        CaseFixture.Ua,
        CaseFixture.UaMfa,
        CaseFixture.Kr,
        CaseFixture.Ru,
        CaseFixture.Xx,
        CaseFixture.Icrc,
        CaseFixture.Swiss,
        CaseFixture.Stranger,
    ];

    private readonly CaseFixture _fixture = new();

    public static TheoryData<State> States() => [.. System.Enum.GetValues<State>().Where(s => s != State.Unspecified)];

    [Theory]
    [MemberData(nameof(States))]
    public void A_draft_is_seen_by_its_participant_alone_and_what_was_submitted_by_both_sides_and_the_neutral(State state)
    {
        var transfer = _fixture.To(state);
        string[] expected = state is State.Drafted or State.Discarded
            ? [CaseFixture.Kr]
            : [CaseFixture.Ua, CaseFixture.UaMfa, CaseFixture.Kr, CaseFixture.Icrc, CaseFixture.Swiss];
        Assert.Equal(expected, Everybody.Where(p => _fixture.Seen(p, transfer) is not null));
    }

    [Theory]
    [MemberData(nameof(States))]
    public void What_a_reader_is_not_shown_is_marked_and_not_false_or_zero_or_nothing(State state)
    {
        var id = _fixture.To(state);
        var whole = _fixture.RuleRunner.State(Transfers.Kind, id)!;
        foreach (var reader in Everybody)
            if (_fixture.Seen(reader, id) is { } seen)
                Assert.Empty(Withholding.Unmarked(whole, seen));
    }

    [Fact]
    public void Another_organ_of_the_requesting_state_sees_a_request_from_its_submission_on()
    {
        _fixture.Admit(CaseFixture.Stranger, Part.RequestingState, "KR");
        var transfer = _fixture.To(State.Drafted);
        Assert.Equal([CaseFixture.Kr], Everybody.Where(p => _fixture.Seen(p, transfer) is not null));
        Assert.Equal(
            Reason.NotFound,
            _fixture.Try(CaseFixture.Stranger, new SubmitTransferRequestRequest { Transfer = transfer }, Transfers.SubmitTransferRequest)
        );
        _fixture.Do(CaseFixture.Kr, new SubmitTransferRequestRequest { Transfer = transfer }, Transfers.SubmitTransferRequest);
        Assert.NotNull(_fixture.Seen(CaseFixture.Stranger, transfer));
        _fixture.Happen(new PartyRemoved { Case = _fixture.Case, Participant = CaseFixture.Stranger });
        Assert.Null(_fixture.Seen(CaseFixture.Stranger, transfer));
    }

    [Fact]
    public void A_draft_is_no_longer_seen_by_who_was_removed_from_the_case()
    {
        var transfer = _fixture.To(State.Drafted);
        _fixture.Happen(new PartyRemoved { Case = _fixture.Case, Participant = CaseFixture.Kr });
        Assert.Null(_fixture.Seen(CaseFixture.Kr, transfer));
    }

    [Theory]
    [MemberData(nameof(States))]
    public void To_others_a_request_that_is_there_looks_like_one_that_is_not(State state)
    {
        var transfer = _fixture.To(state);
        var missing = Secret.OfTests.IdOf("nobody", "nothing", "transfer");
        foreach (var outsider in (string[])[CaseFixture.Ru, CaseFixture.Xx, CaseFixture.Stranger])
        foreach (var (there, absent) in ((string, string)[])[(transfer, missing)])
        {
            var refused = Refusals(outsider, there);
            Assert.Equal(Refusals(outsider, absent), refused);
            Assert.DoesNotContain(Reason.StateNotAllowed, refused);
            Assert.DoesNotContain(Reason.Stale, refused);
        }

        Reason[] Refusals(string participant, string id) =>
            [
                _fixture.Try(participant, new WithdrawTransferRequestRequest { Transfer = id }, Transfers.WithdrawTransferRequest),
                _fixture.Try(participant, _fixture.Assurance(id), Transfers.GiveAssurance),
                _fixture.Try(participant, _fixture.Confirmation(id, Invariant.D1), Transfers.ConfirmHandover),
                _fixture.Try(participant, new DecideTransferRequest { Transfer = id, Agreed = true }, Transfers.DecideTransfer),
                _fixture.Try(participant, new SubmitTransferRequestRequest { Transfer = id }, Transfers.SubmitTransferRequest),
                _fixture.Try(participant, new V1.CorrectRecordRequest { Record = id }, CaseFixture.Correct),
            ];
    }

    [Fact]
    public void The_detaining_power_cannot_tell_a_draft_from_nothing()
    {
        var transfer = _fixture.To(State.Drafted);
        foreach (var id in (string[])[transfer, Secret.OfTests.IdOf("nobody", "nothing", "transfer")])
            Assert.Equal(Reason.NotFound, _fixture.Try(CaseFixture.Ua, new BeginReviewRequest { Transfer = id }, Transfers.BeginReview));
    }

    [Fact]
    public void What_the_detaining_power_weighs_is_not_shown_to_the_requesting_side()
    {
        var transfer = _fixture.To(State.Scheduled);
        var (kr, ua, icrc) = (
            _fixture.Seen(CaseFixture.Kr, transfer)!,
            _fixture.Seen(CaseFixture.Ua, transfer)!,
            _fixture.Seen(CaseFixture.Icrc, transfer)!
        );
        Assert.Null(kr.Assessment);
        Assert.Empty(kr.Checks);
        Assert.True(ua.Assessment.Willing);
        Assert.NotEmpty(ua.Checks);
        Assert.NotNull(icrc.Assessment);
        Assert.Empty(icrc.Checks);
        Assert.DoesNotContain(kr.Acts, a => a.Method == "RecordTransfereeAssessment");
        // When it was drafted is the requesting side's matter, even later.
        Assert.NotNull(kr.DraftTime);
        Assert.Null(ua.DraftTime);
        Assert.DoesNotContain(ua.Acts, a => a.Method == "DraftTransferRequest");
    }

    [Fact]
    public void An_etag_does_not_move_by_what_its_reader_may_not_see()
    {
        var transfer = _fixture.To(State.Agreed);
        var (kr, ua) = (_fixture.Etag(CaseFixture.Kr, transfer), _fixture.Etag(CaseFixture.Ua, transfer));
        _fixture.Do(CaseFixture.Ua, _fixture.Assessment(transfer), Transfers.RecordTransfereeAssessment);
        Assert.Equal(kr, _fixture.Etag(CaseFixture.Kr, transfer));
        Assert.NotEqual(ua, _fixture.Etag(CaseFixture.Ua, transfer));
    }

    [Fact]
    public void Sealed_content_reaches_its_sender_and_recipients_and_others_see_only_that_it_is_there()
    {
        var transfer = _fixture.To(State.Scheduled);
        Assert.NotEmpty(_fixture.Seen(CaseFixture.Kr, transfer)!.Content.Content);
        Assert.NotEmpty(_fixture.Seen(CaseFixture.Icrc, transfer)!.Content.Content);
        Assert.NotEmpty(_fixture.Seen(CaseFixture.Kr, transfer)!.Plan.Place.Content);
        Assert.NotEmpty(_fixture.Seen(CaseFixture.UaMfa, transfer)!.Assessment.Content.Content);
        foreach (
            var seen in (Sealed[])
                [
                    _fixture.Seen(CaseFixture.Ua, transfer)!.Content,
                    _fixture.Seen(CaseFixture.Icrc, transfer)!.Plan.Place,
                    _fixture.Seen(CaseFixture.UaMfa, transfer)!.Plan.Place,
                    _fixture.Seen(CaseFixture.Icrc, transfer)!.Assessment.Content,
                ]
        )
        {
            Assert.Empty(seen.Content);
            Assert.Empty(seen.Recipients);
            Assert.Equal(32, seen.Digest.Length);
        }
    }

    [Fact]
    public void What_one_side_confirmed_is_no_help_to_the_other()
    {
        var transfer = _fixture.To(State.InTransit);
        _fixture.RuleRunner.Now += TimeSpan.FromHours(4);
        _fixture.Do(CaseFixture.Ua, _fixture.Confirmation(transfer, Invariant.D12), Transfers.ConfirmHandover);
        var seen = _fixture.Seen(CaseFixture.Kr, transfer)!.Confirmations.Single();
        Assert.Equal((CaseFixture.Ua, HandoverSide.Giving, ""), (seen.Participant, seen.Side, seen.HandoverReference));
        Assert.Null(seen.WindowStartTime);
        Assert.Empty(seen.AcknowledgedBreaches);
        Assert.Equal(CaseFixture.Reference, _fixture.Seen(CaseFixture.UaMfa, transfer)!.Confirmations.Single().HandoverReference);
        var (decision, _) = _fixture.Play(CaseFixture.Kr, _fixture.Confirmation(transfer), Transfers.ConfirmHandover);
        Assert.Equal(CaseFixture.Reference, _fixture.Seen(CaseFixture.Kr, transfer)!.Confirmations[0].HandoverReference);
        Assert.Empty(_fixture.Seen(CaseFixture.Kr, transfer)!.Confirmations[0].AcknowledgedBreaches);
        // What it breached is announced to the observers, and not to the power that took him.
        Assert.Empty(_fixture.Seen(CaseFixture.Kr, transfer)!.Breaches);
        Assert.Equal([Invariant.D12], _fixture.Seen(CaseFixture.Icrc, transfer)!.Breaches);
        Assert.False(_fixture.MaySee(CaseFixture.Stranger, [.. decision.Audience]));
        Assert.DoesNotContain(Audience.State(_fixture.Case, "KR"), decision.Audience);
    }

    [Fact]
    public void However_a_transfer_comes_to_be_suspended_the_other_sides_see_the_same()
    {
        var seen = new HashSet<string>();
        foreach (
            var way in (Action<CaseFixture, string>[])
                [
                    (s, t) => s.Suspend(t),
                    (s, _) => Lose(s, new StatementRecorded { Case = s.Case, Prisoner = CaseFixture.First }),
                    (s, _) => Lose(s, new StatementAttested { Case = s.Case, Prisoner = CaseFixture.First }),
                    (s, _) => Lose(s, new AttestationRevoked { Case = s.Case, Prisoner = CaseFixture.First }),
                    (s, _) => Lose(s, new FitnessRecorded { Case = s.Case, Prisoner = CaseFixture.First }),
                    (s, _) =>
                        Lose(
                            s,
                            new StatusRecorded
                            {
                                Case = s.Case,
                                Prisoner = CaseFixture.First,
                                Held = true,
                            }
                        ),
                    (s, t) => s.Do(CaseFixture.Ua, s.Assessment(t, willing: false), Transfers.RecordTransfereeAssessment),
                ]
        )
        {
            var fixture = new CaseFixture();
            var transfer = fixture.To(State.InTransit);
            way(fixture, transfer);
            Assert.Equal(State.Suspended, fixture.Transfer(transfer).State);
            foreach (var reader in (string[])[CaseFixture.Kr, CaseFixture.Swiss])
            {
                var shown = fixture.Seen(reader, transfer)!;
                shown.Assessment = null;
                for (var i = shown.Acts.Count - 1; i >= 0; i--)
                    if (shown.Acts[i].Method == "RecordTransfereeAssessment")
                        shown.Acts.RemoveAt(i);
                seen.Add(reader + JsonFormatter.Default.Format(shown));
            }
        }
        Assert.Equal(2, seen.Count);

        static void Lose(CaseFixture fixture, IMessage e)
        {
            fixture.Custody = CaseFixture.Lost;
            fixture.Happen(e);
        }
    }

    [Fact]
    public void The_entry_of_a_suspension_is_shown_to_the_detaining_power_at_most()
    {
        var transfer = _fixture.To(State.InTransit);
        var (byHand, _) = _fixture.Play(CaseFixture.Ua, new SuspendTransferRequest { Transfer = transfer }, Transfers.SuspendTransfer);
        Assert.Equal([Audience.State(_fixture.Case, "UA")], byHand.Audience);
        _fixture.Do(CaseFixture.Ua, new ResumeTransferRequest { Transfer = transfer }, Transfers.ResumeTransfer);
        _fixture.Custody = CaseFixture.Lost;
        var byItself = _fixture.Happen(new StatementRecorded { Case = _fixture.Case, Prisoner = CaseFixture.First });
        Assert.Contains(byItself.Changes, c => c.Event is TransferSuspended);
        Assert.Empty(byItself.Audience);
    }

    [Fact]
    public void No_event_holds_anything_but_ids_times_and_public_facts()
    {
        string[] known =
        [
            "case",
            "transfer",
            "access",
            "prisoner",
            "participant",
            "route",
            "call",
            "commitment",
            "destination",
            "requesting_state",
            "detaining_power",
            "accepting_power",
            "expire_time",
            "agreed",
            "granted",
            "custody_position",
            "standing_basis",
            "from_power",
            "to_power",
            "handover_time",
            "since_time",
            "detaining_participant",
            "accepting_participant",
            "breaches",
            "return_time",
            "returning_power",
            "return_due_time",
            "measures_due_time",
            "failure",
            "side",
            "record",
            "duty",
            "denial_expire_time",
            "place_visit",
            "detaining_powers",
            "due_time",
            "position",
            "decision_due_time",
            "second_confirmation_due_time",
            "undone",
        ];
        foreach (var type in V1.EventsReflection.Descriptor.MessageTypes)
        {
            Assert.True(type.GetOptions()?.GetExtension(OptionsExtensions.Published), type.Name);
            Assert.Empty(type.Fields.InDeclarationOrder().Select(f => f.Name).Except(known));
        }
    }

    [Fact]
    public void No_name_of_a_method_state_or_reason_tells_a_wish()
    {
        string[] words = ["wish", "consent", "willing", "asylum", "defect", "objection", "refus", "opposed", "statement"];
        IEnumerable<string> names =
        [
            .. V1.ConsularService.Descriptor.Methods.Select(m => m.Name),
            .. System.Enum.GetNames<State>(),
            .. System.Enum.GetNames<AccessState>(),
            .. System.Enum.GetNames<PlaceVisitState>(),
            .. System.Enum.GetNames<DenialGround>(),
            .. System.Enum.GetValues<Reason>().Where(r => (int)r is >= 300 and < 400).Select(r => r.ToString()),
            .. V1.EventsReflection.Descriptor.MessageTypes.Select(m => m.Name),
        ];
        Assert.DoesNotContain(names, n => words.Any(w => n.Contains(w, StringComparison.OrdinalIgnoreCase)));
    }
}
