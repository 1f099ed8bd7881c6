using Google.Protobuf;
using Ministries.Consular.V1;
using Ministries.Custody.V1;
using Ministries.Errors.V1;
using Ministries.Fixtures;
using Ministries.Ledger;
using Ministries.Trust;
using Ministries.Types.V1;
using State = Ministries.Consular.V1.TransferState;

namespace Ministries.Consular.Tests;

/// <summary>Who sees what (D22), and that nothing betrays what its reader may not know (D9, D16).</summary>
public sealed class VisibilityTests
{
    private static readonly string[] Everybody =
    [
        Scene.Ua,
        Scene.UaMfa,
        Scene.Kr,
        Scene.Ru,
        Scene.Xx,
        Scene.Icrc,
        Scene.Swiss,
        Scene.Stranger,
    ];

    private readonly Scene _scene = new();

    public static TheoryData<State> States() => [.. System.Enum.GetValues<State>().Where(s => s != State.Unspecified)];

    [Theory]
    [MemberData(nameof(States))]
    public void A_draft_is_seen_by_its_participant_alone_and_what_was_submitted_by_both_sides_and_the_neutral(State state)
    {
        var transfer = _scene.To(state);
        string[] expected = state is State.Drafted or State.Discarded
            ? [Scene.Kr]
            : [Scene.Ua, Scene.UaMfa, Scene.Kr, Scene.Icrc, Scene.Swiss];
        Assert.Equal(expected, Everybody.Where(p => _scene.Seen(p, transfer) is not null));
    }

    [Theory]
    [MemberData(nameof(States))]
    public void What_a_reader_is_not_shown_is_marked_and_not_false_or_zero_or_nothing(State state)
    {
        var id = _scene.To(state);
        var whole = _scene.Stage.State(Transfers.Kind, id)!;
        foreach (var reader in Everybody)
            if (_scene.Seen(reader, id) is { } seen)
                Assert.Empty(Withholding.Unmarked(whole, seen));
    }

    [Fact]
    public void Another_organ_of_the_requesting_state_sees_a_request_from_its_submission_on()
    {
        _scene.Admit(Scene.Stranger, Part.RequestingState, "KR");
        var transfer = _scene.To(State.Drafted);
        Assert.Equal([Scene.Kr], Everybody.Where(p => _scene.Seen(p, transfer) is not null));
        Assert.Equal(
            Reason.NotFound,
            _scene.Try(Scene.Stranger, new SubmitTransferRequestRequest { Transfer = transfer }, Transfers.SubmitTransferRequest)
        );
        _scene.Do(Scene.Kr, new SubmitTransferRequestRequest { Transfer = transfer }, Transfers.SubmitTransferRequest);
        Assert.NotNull(_scene.Seen(Scene.Stranger, transfer));
        _scene.Happen(new PartyRemoved { Case = _scene.Case, Participant = Scene.Stranger });
        Assert.Null(_scene.Seen(Scene.Stranger, transfer));
    }

    [Fact]
    public void A_draft_is_no_longer_seen_by_who_was_removed_from_the_case()
    {
        var transfer = _scene.To(State.Drafted);
        _scene.Happen(new PartyRemoved { Case = _scene.Case, Participant = Scene.Kr });
        Assert.Null(_scene.Seen(Scene.Kr, transfer));
    }

    [Theory]
    [MemberData(nameof(States))]
    public void To_others_a_request_that_is_there_looks_like_one_that_is_not(State state)
    {
        var transfer = _scene.To(state);
        var missing = Secret.OfTests.IdOf("nobody", "nothing", "transfer");
        foreach (var outsider in (string[])[Scene.Ru, Scene.Xx, Scene.Stranger])
        foreach (var (there, absent) in ((string, string)[])[(transfer, missing)])
        {
            var refused = Refusals(outsider, there);
            Assert.Equal(Refusals(outsider, absent), refused);
            Assert.DoesNotContain(Reason.StateNotAllowed, refused);
            Assert.DoesNotContain(Reason.Stale, refused);
        }

        Reason[] Refusals(string participant, string id) =>
            [
                _scene.Try(participant, new WithdrawTransferRequestRequest { Transfer = id }, Transfers.WithdrawTransferRequest),
                _scene.Try(participant, _scene.Assurance(id), Transfers.GiveAssurance),
                _scene.Try(participant, _scene.Confirmation(id, Invariant.D1), Transfers.ConfirmHandover),
                _scene.Try(participant, new DecideTransferRequest { Transfer = id, Agreed = true }, Transfers.DecideTransfer),
                _scene.Try(participant, new SubmitTransferRequestRequest { Transfer = id }, Transfers.SubmitTransferRequest),
                _scene.Try(participant, new V1.CorrectRecordRequest { Record = id }, Scene.Correct),
            ];
    }

    [Fact]
    public void The_detaining_power_cannot_tell_a_draft_from_nothing()
    {
        var transfer = _scene.To(State.Drafted);
        foreach (var id in (string[])[transfer, Secret.OfTests.IdOf("nobody", "nothing", "transfer")])
            Assert.Equal(Reason.NotFound, _scene.Try(Scene.Ua, new BeginReviewRequest { Transfer = id }, Transfers.BeginReview));
    }

    [Fact]
    public void What_the_detaining_power_weighs_is_not_shown_to_the_requesting_side()
    {
        var transfer = _scene.To(State.Scheduled);
        var (kr, ua, icrc) = (_scene.Seen(Scene.Kr, transfer)!, _scene.Seen(Scene.Ua, transfer)!, _scene.Seen(Scene.Icrc, transfer)!);
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
        var transfer = _scene.To(State.Agreed);
        var (kr, ua) = (_scene.Etag(Scene.Kr, transfer), _scene.Etag(Scene.Ua, transfer));
        _scene.Do(Scene.Ua, _scene.Assessment(transfer), Transfers.RecordTransfereeAssessment);
        Assert.Equal(kr, _scene.Etag(Scene.Kr, transfer));
        Assert.NotEqual(ua, _scene.Etag(Scene.Ua, transfer));
    }

    [Fact]
    public void Sealed_content_reaches_its_sender_and_recipients_and_others_see_only_that_it_is_there()
    {
        var transfer = _scene.To(State.Scheduled);
        Assert.Equal("sealed-bytes", _scene.Seen(Scene.Kr, transfer)!.Content.Content.ToStringUtf8());
        Assert.Equal("sealed-bytes", _scene.Seen(Scene.Icrc, transfer)!.Content.Content.ToStringUtf8());
        Assert.Equal("sealed-bytes", _scene.Seen(Scene.Kr, transfer)!.Plan.Place.Content.ToStringUtf8());
        Assert.Equal("sealed-bytes", _scene.Seen(Scene.UaMfa, transfer)!.Assessment.Content.Content.ToStringUtf8());
        foreach (
            var seen in (Sealed[])
                [
                    _scene.Seen(Scene.Ua, transfer)!.Content,
                    _scene.Seen(Scene.Icrc, transfer)!.Plan.Place,
                    _scene.Seen(Scene.UaMfa, transfer)!.Plan.Place,
                    _scene.Seen(Scene.Icrc, transfer)!.Assessment.Content,
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
        var transfer = _scene.To(State.InTransit);
        _scene.Stage.Now += TimeSpan.FromHours(4);
        _scene.Do(Scene.Ua, _scene.Confirmation(transfer, Invariant.D12), Transfers.ConfirmHandover);
        var seen = _scene.Seen(Scene.Kr, transfer)!.Confirmations.Single();
        Assert.Equal((Scene.Ua, HandoverSide.Giving, ""), (seen.Participant, seen.Side, seen.HandoverReference));
        Assert.Null(seen.WindowStartTime);
        Assert.Empty(seen.AcknowledgedBreaches);
        Assert.Equal(Scene.Reference, _scene.Seen(Scene.UaMfa, transfer)!.Confirmations.Single().HandoverReference);
        var (decision, _) = _scene.Play(Scene.Kr, _scene.Confirmation(transfer), Transfers.ConfirmHandover);
        Assert.Equal(Scene.Reference, _scene.Seen(Scene.Kr, transfer)!.Confirmations[0].HandoverReference);
        Assert.Empty(_scene.Seen(Scene.Kr, transfer)!.Confirmations[0].AcknowledgedBreaches);
        // What it breached is announced to the observers, and not to the power that took him.
        Assert.Empty(_scene.Seen(Scene.Kr, transfer)!.Breaches);
        Assert.Equal([Invariant.D12], _scene.Seen(Scene.Icrc, transfer)!.Breaches);
        Assert.False(_scene.MaySee(Scene.Stranger, [.. decision.Audience]));
        Assert.DoesNotContain(Audience.State(_scene.Case, "KR"), decision.Audience);
    }

    [Fact]
    public void However_a_transfer_comes_to_be_suspended_the_other_sides_see_the_same()
    {
        var seen = new HashSet<string>();
        foreach (
            var way in (Action<Scene, string>[])
                [
                    (s, t) => s.Suspend(t),
                    (s, _) => Lose(s, new StatementRecorded { Case = s.Case, Prisoner = Scene.First }),
                    (s, _) => Lose(s, new StatementAttested { Case = s.Case, Prisoner = Scene.First }),
                    (s, _) => Lose(s, new AttestationRevoked { Case = s.Case, Prisoner = Scene.First }),
                    (s, _) => Lose(s, new FitnessRecorded { Case = s.Case, Prisoner = Scene.First }),
                    (s, _) =>
                        Lose(
                            s,
                            new StatusRecorded
                            {
                                Case = s.Case,
                                Prisoner = Scene.First,
                                Held = true,
                            }
                        ),
                    (s, t) => s.Do(Scene.Ua, s.Assessment(t, willing: false), Transfers.RecordTransfereeAssessment),
                ]
        )
        {
            var scene = new Scene();
            var transfer = scene.To(State.InTransit);
            way(scene, transfer);
            Assert.Equal(State.Suspended, scene.Transfer(transfer).State);
            foreach (var reader in (string[])[Scene.Kr, Scene.Swiss])
            {
                var shown = scene.Seen(reader, transfer)!;
                shown.Assessment = null;
                for (var i = shown.Acts.Count - 1; i >= 0; i--)
                    if (shown.Acts[i].Method == "RecordTransfereeAssessment")
                        shown.Acts.RemoveAt(i);
                seen.Add(reader + JsonFormatter.Default.Format(shown));
            }
        }
        Assert.Equal(2, seen.Count);

        static void Lose(Scene scene, IMessage e)
        {
            scene.Custody = Scene.Lost;
            scene.Happen(e);
        }
    }

    [Fact]
    public void The_entry_of_a_suspension_is_shown_to_the_detaining_power_at_most()
    {
        var transfer = _scene.To(State.InTransit);
        var (byHand, _) = _scene.Play(Scene.Ua, new SuspendTransferRequest { Transfer = transfer }, Transfers.SuspendTransfer);
        Assert.Equal([Audience.State(_scene.Case, "UA")], byHand.Audience);
        _scene.Do(Scene.Ua, new ResumeTransferRequest { Transfer = transfer }, Transfers.ResumeTransfer);
        _scene.Custody = Scene.Lost;
        var byItself = _scene.Happen(new StatementRecorded { Case = _scene.Case, Prisoner = Scene.First });
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
            "from_power",
            "to_power",
            "handover_time",
            "detaining_participant",
            "accepting_participant",
            "breaches",
            "return_time",
            "failure",
            "side",
            "record",
            "duty",
            "due_time",
            "position",
            "decision_due_time",
            "second_confirmation_due_time",
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
            .. System.Enum.GetNames<DenialGround>(),
            .. System.Enum.GetValues<Reason>().Where(r => (int)r is >= 300 and < 400).Select(r => r.ToString()),
            .. V1.EventsReflection.Descriptor.MessageTypes.Select(m => m.Name),
        ];
        Assert.DoesNotContain(names, n => words.Any(w => n.Contains(w, StringComparison.OrdinalIgnoreCase)));
    }
}
