using Google.Protobuf;
using Ministries.CallLog.V1;
using Ministries.Consular.V1;
using Ministries.Custody.V1;
using Ministries.Errors.V1;
using Ministries.Fixtures;
using Ministries.Types.V1;
using static Ministries.CallLog.Tests.CaseFixture;

namespace Ministries.CallLog.Tests;

/// <summary>What the call log does on the others' events, in and out of their order.</summary>
public class ReactionTests
{
    private readonly CaseFixture _fixture = new();

    [Fact]
    public void Every_event_of_a_case_has_a_reaction() =>
        Assert.Equal(Cases.EventTypes.Order(), Reactions.All.Where(r => r.Producer == "custody").Select(r => r.Event.FullName).Order());

    [Fact]
    public void Every_event_type_has_one_reaction() =>
        Assert.Equal(Reactions.All.Count, Reactions.All.Select(r => r.Event.FullName).Distinct().Count());

    [Fact]
    public void Drafts_are_tied_to_the_commitment_and_submitting_all_of_them_keeps_it()
    {
        var logged = _fixture.Log();

        _fixture.Drafted(logged, "transfer_1", First);
        var tied = Assert.IsType<DraftsTied>(_fixture.RuleRunner.Events[^1]);
        Assert.Equal((logged.Call, logged.Commitments[0], "transfer_1"), (tied.Call, tied.Commitment, tied.Transfer));
        _fixture.Drafted(logged, "transfer_2", Second);
        _fixture.Submitted(logged, "transfer_1", First);
        Assert.Equal(CommitmentState.Open, _fixture.Commitment(logged).State);
        _fixture.Submitted(logged, "transfer_2", Second);

        Assert.Equal(CommitmentState.Kept, _fixture.Commitment(logged).State);
        var settled = Assert.IsType<CommitmentSettled>(_fixture.RuleRunner.Events[^1]);
        Assert.Equal((logged.Commitments[0], SettlementKind.Kept), (settled.Commitment, settled.Kind));
        Assert.Null(Calls.Kind.DueOf(_fixture.Call(logged)));
    }

    public static TheoryData<string, string> Orders =>
        new()
        {
            { "d1 d2 s1 s2", "Kept" },
            { "s2 s1 d1 d2", "Kept" },
            { "s1 d1 d2 s2", "Kept" },
            { "d1 d1 s1 s1 s2 s2 d2", "Kept" },
            { "s1 s1 s1", "Open" },
            { "d1 s1 d2 x2", "Open" },
            { "x2 d2 d1 s1", "Open" },
            { "d1 x1 s2", "Open" },
            { "x1 d1 s2", "Open" },
            { "s1 x1 s2", "Kept" },
        };

    [Theory, MemberData(nameof(Orders))]
    public void The_state_after_drafted_discarded_and_submitted_does_not_depend_on_their_order(string order, string state)
    {
        var logged = _fixture.Log();
        foreach (var step in order.Split(' '))
        {
            var (transfer, prisoner) = ($"transfer_{step[1]}", step[1] == '1' ? First : Second);
            var decision = step[0] switch
            {
                'd' => _fixture.Drafted(logged, transfer, prisoner),
                's' => _fixture.Submitted(logged, transfer, prisoner),
                _ => _fixture.Discarded(logged, transfer, prisoner),
            };
            Assert.Equal(Reason.Unspecified, RuleRunner.ReasonOf(decision));
        }
        var commitment = _fixture.Commitment(logged);
        Assert.Equal(state, $"{commitment.State}");
        Assert.Equal(commitment.Requests.Count, commitment.Requests.Select(r => r.Transfer).Distinct().Count());
        Assert.Equal(state == "Kept" ? 1 : 0, commitment.Settlements.Count);
    }

    [Fact]
    public void A_discarded_draft_is_untied_and_another_takes_its_place()
    {
        var logged = _fixture.Log();
        _fixture.Drafted(logged, "transfer_1", First);
        _fixture.Discarded(logged, "transfer_1", First);
        Assert.Equal(TiedRequestState.Discarded, _fixture.Commitment(logged).Requests[0].State);
        _fixture.Drafted(logged, "transfer_3", First);
        _fixture.Submitted(logged, "transfer_3", First);
        _fixture.Submitted(logged, "transfer_2", Second);
        Assert.Equal(CommitmentState.Kept, _fixture.Commitment(logged).State);
    }

    public static TheoryData<string> Unrelated =>
        ["no call", "a call that is not there", "no such commitment", "another prisoner", "the other side's participant", "another kind"];

    [Theory, MemberData(nameof(Unrelated))]
    public void A_request_that_is_none_of_the_commitments_is_taken_without_effect(string what)
    {
        var logged = _fixture.Log(but: r =>
            r.Account.Commitments.Add(
                new CommitmentTerms
                {
                    Participant = Kr,
                    Kind = CommitmentKind.GiveInformation,
                    Prisoners = { First },
                }
            )
        );
        var before = _fixture.Call(logged).Clone();
        var e = new TransferRequestSubmitted
        {
            Case = _fixture.Case,
            Transfer = "transfer_1",
            Prisoner = First,
            Participant = Kr,
            Call = logged.Call,
            Commitment = logged.Commitments[0],
        };
        switch (what)
        {
            case "no call":
                (e.Call, e.Commitment) = ("", "");
                break;
            case "a call that is not there":
                e.Call = Secret.OfTests.IdOf("a", "b", "call");
                break;
            case "no such commitment":
                e.Commitment = Secret.OfTests.IdOf("a", "b", "commitment");
                break;
            case "another prisoner":
                e.Prisoner = "pris_00000000000000000000000003";
                break;
            case "the other side's participant":
                e.Participant = Ua;
                break;
            case "another kind":
                e.Commitment = logged.Commitments[1];
                break;
        }

        var decision = _fixture.Happen(e);

        Assert.Equal(Reason.Unspecified, RuleRunner.ReasonOf(decision));
        Assert.Empty(decision.Changes);
        Assert.Equal(before, _fixture.Call(logged));
    }

    [Fact]
    public void An_overdue_commitment_is_kept_late()
    {
        var logged = _fixture.Log();
        _fixture.RuleRunner.Now += TimeSpan.FromDays(30);
        _fixture.Sweep(logged.Call);
        _fixture.Submitted(logged, "transfer_1", First);
        _fixture.Submitted(logged, "transfer_2", Second);
        Assert.Equal(CommitmentState.Kept, _fixture.Commitment(logged).State);
        Assert.NotNull(_fixture.Commitment(logged).OverdueTime);
    }

    // ---- the copy of the case ----------------------------------------------------------------------------------------------

    [Fact]
    public void The_copy_of_a_case_follows_custody()
    {
        _fixture.Happen(
            new StatusRecorded
            {
                Case = _fixture.Case,
                Prisoner = First,
                Held = true,
            }
        );
        _fixture.Happen(
            new CustodyTransferred
            {
                Case = _fixture.Case,
                Prisoner = First,
                FromPower = "UA",
                ToPower = "KR",
            }
        );
        _fixture.Happen(new DepartureRecorded { Case = _fixture.Case, Prisoner = Second });
        var @case = _fixture.RuleRunner.State(Cases.Kind, _fixture.Case)!;
        Assert.Equal(["KR", ""], @case.Prisoners.Select(p => p.DetainingPower));
        Assert.Equal([Headquarters, Ua, Kr, Icrc, Unification], @case.Parties.Select(p => p.Participant));
    }

    public static TheoryData<string> TooEarly =>
        ["PartyAdmitted", "PartyRemoved", "PrisonerRegistered", "CaseClosed", "CaseReopened", "StatusRecorded"];

    [Theory, MemberData(nameof(TooEarly))]
    public void An_event_of_a_case_that_comes_too_early_is_refused_so_that_it_comes_again(string what)
    {
        var other = Secret.OfTests.IdOf("other", "other", "case");
        IMessage e = what switch
        {
            "PartyAdmitted" => new PartyAdmitted
            {
                Case = other,
                Participant = Kr,
                Part = Part.RequestingState,
                State = "KR",
            },
            "PartyRemoved" => new PartyRemoved { Case = _fixture.Case, Participant = "ru/mfa" },
            "PrisonerRegistered" => new PrisonerRegistered
            {
                Case = other,
                Prisoner = First,
                DetainingPower = "UA",
            },
            "CaseClosed" => new CaseClosed { Case = other },
            "CaseReopened" => new CaseReopened { Case = other },
            _ => new StatusRecorded
            {
                Case = _fixture.Case,
                Prisoner = "pris_00000000000000000000000003",
                Held = true,
            },
        };
        var before = _fixture.RuleRunner.Position;
        Assert.Equal(Reason.StateNotAllowed, RuleRunner.ReasonOf(_fixture.Happen(e)));
        Assert.Equal(before, _fixture.RuleRunner.Position);
    }

    [Fact]
    public void A_case_is_opened_once() =>
        Assert.Equal(
            Reason.StateNotAllowed,
            RuleRunner.ReasonOf(
                _fixture.Happen(
                    new CaseOpened
                    {
                        Case = _fixture.Case,
                        DetainingPower = "KR",
                        Participant = Kr,
                    }
                )
            )
        );
}
