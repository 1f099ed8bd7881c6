using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Ministries.CallLog.V1;
using Ministries.Errors.V1;
using Ministries.Fixtures;
using Ministries.Types.V1;
using static Ministries.CallLog.Tests.CaseFixture;
using DutyFellDue = Ministries.CallLog.V1.DutyFellDue;
using RecordCorrected = Ministries.CallLog.V1.RecordCorrected;

namespace Ministries.CallLog.Tests;

/// <summary>What each side said stays what it said (D20); what was promised has its clock.</summary>
public class CallTests
{
    private readonly CaseFixture _fixture = new();

    [Fact]
    public void Logging_the_call_publishes_the_commitment_to_request_the_transfers()
    {
        var logged = _fixture.Log();

        var published = Assert.IsType<CallLogged>(_fixture.RuleRunner.Events[^1]);
        Assert.Equal((_fixture.Case, logged.Call, Kr), (published.Case, published.Call, published.Participant));
        Assert.Equal([First, Second], published.Prisoners);
        var commitment = Assert.Single(published.TransferCommitments);
        Assert.Equal(logged.Commitments[0], commitment.Commitment);
        Assert.Equal((Kr, Route.Article12Transfer, "KR"), (commitment.Participant, commitment.Route, commitment.Destination));
        Assert.Equal([First, Second], commitment.Prisoners);
        Assert.Equal(CallState.OneSided, logged.State);
        Assert.Equal(_fixture.Etag(Kr, logged.Call), logged.Etag);
    }

    [Fact]
    public void A_promise_that_only_the_other_side_reports_leads_to_no_draft_until_it_is_the_promising_sides_own_word()
    {
        var logged = _fixture.Log(by: Ua);
        Assert.Empty(Assert.IsType<CallLogged>(_fixture.RuleRunner.Events[^1]).TransferCommitments);

        var submitted = _fixture.Submit(Kr, logged.Call);

        var published = Assert.IsType<ReadoutSubmitted>(_fixture.RuleRunner.Events[^1]);
        Assert.Equal(logged.Commitments, published.TransferCommitments.Select(c => c.Commitment));
        Assert.Equal(logged.Commitments, submitted.Commitments);
        Assert.Equal([Ua, Kr], _fixture.Commitment(logged).Sayings.Select(s => s.Participant));
        _fixture.Amend(Kr, logged.Call);
        Assert.Empty(Assert.IsType<ReadoutAmended>(_fixture.RuleRunner.Events[^1]).TransferCommitments);
    }

    [Theory]
    [InlineData(Kr, Ua)]
    [InlineData(Ua, Kr)]
    public void Neither_side_can_change_what_the_other_said(string one, string other)
    {
        var logged = _fixture.Log(by: one);
        var said = Readout(logged, one).Clone();

        _fixture.Submit(other, logged.Call, Account(a => a.Channel = Channel.Video));
        _fixture.Amend(other, logged.Call, Account(a => a.Channel = Channel.InPerson));
        _fixture.Contest(other, logged.Call, one);
        _fixture.Correct(other, logged.Call, Readout(logged, other).Versions[0].Position);

        Assert.Equal(said, Readout(logged, one));
        Assert.Equal([Channel.Video, Channel.InPerson], Readout(logged, other).Versions.Select(v => v.Account.Channel));
        Assert.Equal(
            Reason.NotCorrectable,
            _fixture.Why(other, _fixture.CorrectRequest(other, logged.Call, Readout(logged, one).Versions[0].Position))
        );
        Assert.Equal(Reason.OwnReadout, _fixture.Why(one, _fixture.ContestRequest(one, logged.Call, one)));
    }

    [Fact]
    public void An_amendment_is_a_version_beside_the_one_before()
    {
        var logged = _fixture.Log();

        var amended = _fixture.Amend(Kr, logged.Call, Account(a => a.Subjects.Add(Subject.Access)));

        Assert.Equal(2u, amended.Version);
        var versions = Readout(logged, Kr).Versions;
        Assert.Equal([1u, 2u], versions.Select(v => v.Number));
        Assert.DoesNotContain(Subject.Access, versions[0].Account.Subjects);
        Assert.Contains(Subject.Access, versions[1].Account.Subjects);
        Assert.Null(versions[0].Explanation);
        Assert.Equal(32, versions[1].Explanation.Digest.Length);
        Assert.Equal(logged.Commitments, amended.Commitments);
    }

    [Fact]
    public void Accounts_that_differ_contest_nothing()
    {
        var logged = _fixture.Log();
        var submitted = _fixture.Submit(Ua, logged.Call, Account(a => a.Channel = Channel.Video));
        Assert.Equal(CallState.Mutual, submitted.State);
    }

    [Fact]
    public void A_contest_stands_until_the_side_corrects_it()
    {
        var logged = _fixture.Log();
        _fixture.Submit(Ua, logged.Call);
        Assert.Equal(CallState.Contested, _fixture.Contest(Ua, logged.Call, Kr).State);
        Assert.Equal(CallState.Contested, _fixture.Amend(Kr, logged.Call).State);

        var corrected = _fixture.Correct(Ua, logged.Call, _fixture.Call(logged).Contests[0].Position);

        Assert.Equal(CallState.Mutual, corrected.State);
        Assert.Equal(CallState.Contested, _fixture.Contest(Ua, logged.Call, Kr, version: 2).State);
        Assert.Equal(2, _fixture.Call(logged).Contests.Count);
    }

    [Fact]
    public void Only_the_version_that_counts_is_contested()
    {
        var logged = _fixture.Log();
        _fixture.Amend(Kr, logged.Call);
        Assert.Equal(Reason.NoReadoutToContest, _fixture.Why(Ua, _fixture.ContestRequest(Ua, logged.Call, Kr, version: 1)));
        _fixture.Contest(Ua, logged.Call, Kr, version: 2);
    }

    [Fact]
    public void A_corrected_readout_counts_no_more_and_stays()
    {
        var logged = _fixture.Log();
        _fixture.Submit(Ua, logged.Call);
        var position = Readout(logged, Kr).Versions[0].Position;

        var corrected = _fixture.Correct(Kr, logged.Call, position);

        Assert.Equal(CallState.OneSided, corrected.State);
        var published = Assert.IsType<RecordCorrected>(_fixture.RuleRunner.Events[^1]);
        Assert.Equal((logged.Call, position, Kr), (published.Record, published.Position, published.Participant));
        Assert.Empty(published.Commitments);
        Assert.True(Readout(logged, Kr).Versions[0].Corrected);
        Assert.NotNull(Readout(logged, Kr).Versions[0].Account);
        Assert.Null(CallComparison.Compare(_fixture.Call(logged)));
        Assert.Equal(Reason.NotCorrectable, _fixture.Why(Kr, _fixture.CorrectRequest(Kr, logged.Call, position)));
        Assert.Equal(CallState.Mutual, _fixture.Amend(Kr, logged.Call).State);
    }

    [Fact]
    public void A_commitment_that_only_a_corrected_entry_said_is_suspended_and_one_that_both_said_is_not()
    {
        var logged = _fixture.Log();
        _fixture.Correct(Kr, logged.Call, Readout(logged, Kr).Versions[0].Position);
        Assert.Equal(CommitmentState.Suspended, _fixture.Commitment(logged).State);
        Assert.Equal(logged.Commitments, Assert.IsType<RecordCorrected>(_fixture.RuleRunner.Events[^1]).Commitments);
        Assert.Null(Calls.Kind.DueOf(_fixture.Call(logged)));
        // What nothing says already is not told again.
        _fixture.Amend(Kr, logged.Call, Account(a => a.Commitments.Clear()));
        _fixture.Correct(Kr, logged.Call, Readout(logged, Kr).Versions[1].Position);
        Assert.Empty(Assert.IsType<RecordCorrected>(_fixture.RuleRunner.Events[^1]).Commitments);

        _fixture.Amend(Kr, logged.Call);
        Assert.Equal(CommitmentState.Open, _fixture.Commitment(logged).State);
        _fixture.Submit(Ua, logged.Call);
        _fixture.Correct(Kr, logged.Call, Readout(logged, Kr).Versions[2].Position);

        Assert.Equal(CommitmentState.Open, _fixture.Commitment(logged).State);
        Assert.Single(_fixture.Call(logged).Commitments);
    }

    // ---- linking -----------------------------------------------------------------------------------------------------------

    [Fact]
    public void Two_records_of_one_call_name_each_other_and_are_mutual()
    {
        var (one, two) = (_fixture.Log(Kr), _fixture.Log(Ua));

        var linked = _fixture.Link(Ua, one.Call, two.Call);

        Assert.Equal(CallState.Mutual, linked.State);
        Assert.Equal(two.Call, Assert.Single(_fixture.Call(one).Links).Call);
        Assert.Equal(one.Call, Assert.Single(_fixture.Call(two).Links).Call);
        Assert.Equal(CallState.Mutual, _fixture.Call(two).State);
        Assert.Equal(_fixture.Etag(Ua, two.Call), linked.SameAsEtag);
        var three = _fixture.Log(Ua);
        Assert.Equal(Reason.AlreadyLinked, _fixture.Why(Kr, _fixture.LinkRequest(Kr, one.Call, three.Call)));
        Assert.Equal(Reason.ReadoutAlreadyGiven, _fixture.Why(Ua, _fixture.SubmitRequest(Ua, one.Call)));
    }

    [Fact]
    public void Records_that_one_side_logged_are_not_linked()
    {
        var (one, two) = (_fixture.Log(Kr), _fixture.Log(Kr));
        Assert.Equal(Reason.CallsNotOfBothSides, _fixture.Why(Kr, _fixture.LinkRequest(Kr, one.Call, two.Call)));
        Assert.Equal(Reason.CallsNotOfBothSides, _fixture.Why(Kr, _fixture.LinkRequest(Kr, one.Call, one.Call)));
    }

    [Fact]
    public void A_link_is_undone_in_both_records_by_who_made_it()
    {
        var (one, two) = (_fixture.Log(Kr), _fixture.Log(Ua));
        _fixture.Link(Ua, one.Call, two.Call);
        var position = _fixture.Call(one).Links[0].Position;
        Assert.Equal(Reason.NotCorrectable, _fixture.Why(Kr, _fixture.CorrectRequest(Kr, one.Call, position)));

        _fixture.Correct(Ua, one.Call, position);

        Assert.Equal(CallState.OneSided, _fixture.Call(one).State);
        Assert.Equal(CallState.OneSided, _fixture.Call(two).State);
        Assert.True(_fixture.Call(two).Links[0].Corrected);
        _fixture.Link(Kr, two.Call, one.Call);
        Assert.Equal(CallState.Mutual, _fixture.Call(one).State);
    }

    // ---- commitments -------------------------------------------------------------------------------------------------------

    [Fact]
    public void A_commitment_falls_overdue_once_and_when_it_is_due()
    {
        var logged = _fixture.Log();
        var due = Began + TimeSpan.FromDays(14);
        Assert.Equal(due, Calls.Kind.DueOf(_fixture.Call(logged)));

        _fixture.RuleRunner.Now = due - TimeSpan.FromTicks(1);
        Assert.Empty(_fixture.Sweep(logged.Call).Changes);
        _fixture.RuleRunner.Now = due;
        _fixture.Sweep(logged.Call);

        var fell = Assert.IsType<DutyFellDue>(_fixture.RuleRunner.Events[^1]);
        Assert.Equal("commitment-overdue", fell.Duty);
        Assert.Equal(due.ToTimestamp(), fell.DueTime);
        Assert.Equal(logged.Commitments, fell.Commitments);
        Assert.Equal(CommitmentState.Overdue, _fixture.Commitment(logged).State);
        Assert.Null(Calls.Kind.DueOf(_fixture.Call(logged)));
        Assert.Empty(_fixture.Sweep(logged.Call).Changes);
    }

    [Fact]
    public void Commitments_fall_overdue_each_at_its_own_time()
    {
        var logged = _fixture.Log(but: r =>
            r.Account.Commitments.Add(
                new CommitmentTerms
                {
                    Participant = Ua,
                    Kind = CommitmentKind.ArrangeAccess,
                    DueTime = (Began + TimeSpan.FromDays(3)).ToTimestamp(),
                }
            )
        );
        _fixture.RuleRunner.Now = Began + TimeSpan.FromDays(4);
        _fixture.Sweep(logged.Call);
        Assert.Equal([CommitmentState.Open, CommitmentState.Overdue], _fixture.Call(logged).Commitments.Select(c => c.State));
        Assert.Equal(Began + TimeSpan.FromDays(14), Calls.Kind.DueOf(_fixture.Call(logged)));
    }

    [Fact]
    public void A_commitment_that_opens_again_after_its_time_is_due_then_and_not_at_a_time_that_was_recorded_before()
    {
        var logged = _fixture.Log();
        _fixture.Settle(Ua, logged.Call, logged.Commitments[0]);
        _fixture.RuleRunner.Now = Began + TimeSpan.FromDays(20);
        _fixture.Correct(Ua, logged.Call, _fixture.Commitment(logged).Settlements[0].Position);
        Assert.Equal(CommitmentState.Open, _fixture.Commitment(logged).State);
        Assert.Equal(_fixture.RuleRunner.Now, Calls.Kind.DueOf(_fixture.Call(logged)));
        _fixture.Sweep(logged.Call);
        Assert.Equal(CommitmentState.Overdue, _fixture.Commitment(logged).State);
    }

    [Fact]
    public void A_commitment_is_superseded_by_one_of_the_same_sides_that_stands()
    {
        var logged = _fixture.Log();
        var later = _fixture.Log(Ua, r => r.Account.Commitments[0].Route = Route.Release);
        Reason Try(Action<SettleCommitmentRequest> but) =>
            _fixture.Why(Ua, _fixture.SettleRequest(Ua, logged.Call, logged.Commitments[0], SettlementKind.Superseded, but));

        Assert.Equal(Reason.SupersedingCommitmentMissing, Try(_ => { }));
        Assert.Equal(Reason.SupersedingCommitmentMissing, Try(r => r.SupersededBy = logged.Commitments[0]));
        Assert.Equal(Reason.SupersedingCommitmentMissing, Try(r => r.SupersededBy = later.Commitments[0]));
        Assert.Equal(
            Reason.Unspecified,
            Try(r =>
            {
                r.SupersededBy = later.Commitments[0];
                r.SupersededByCall = later.Call;
            })
        );
        Assert.Equal(later.Commitments[0], _fixture.Commitment(logged).Settlements[0].SupersededBy);
        Assert.Equal(SettlementKind.Superseded, Assert.IsType<CommitmentSettled>(_fixture.RuleRunner.Events[^1]).Kind);
    }

    [Fact]
    public void A_settlement_that_names_another_call_is_seen_by_those_who_may_see_both()
    {
        var logged = _fixture.Log();
        var closed = _fixture.Log(
            Ua,
            r =>
            {
                r.Account.Commitments[0].Route = Route.Release;
                r.Classification = new Classification { ReleasableTo = { Kr, Ua } };
            }
        );
        var (decision, _) = _fixture.Try(
            Ua,
            _fixture.SettleRequest(
                Ua,
                logged.Call,
                logged.Commitments[0],
                SettlementKind.Superseded,
                r =>
                {
                    r.SupersededBy = closed.Commitments[0];
                    r.SupersededByCall = closed.Call;
                }
            )
        );
        Assert.Null(decision.Refusal);
        Assert.Equal(
            Calls.Kind.AudienceOf(_fixture.Call(logged)).Intersect(Calls.Kind.AudienceOf(_fixture.Call(closed))),
            decision.Audience
        );
        Assert.DoesNotContain(Ministries.Rules.Audience.Observers(_fixture.Case), decision.Audience);
    }

    /// <summary>One side can close the case, but not shut out the other side's account of an earlier call (D20).</summary>
    [Fact]
    public void A_closed_case_takes_what_each_side_says_of_a_call_that_was_logged_and_no_other_call()
    {
        var (logged, own) = (_fixture.Log(), _fixture.Log(Ua));
        _fixture.Happen(new Custody.V1.CaseClosed { Case = _fixture.Case });
        Assert.Equal(Reason.CaseClosed, _fixture.Why(Kr, _fixture.LogRequest()));
        Assert.Equal(Reason.Unspecified, _fixture.Why(Ua, _fixture.ContestRequest(Ua, logged.Call, Kr)));
        Assert.Equal(Reason.Unspecified, _fixture.Why(Ua, _fixture.SubmitRequest(Ua, logged.Call)));
        Assert.Equal(Reason.Unspecified, _fixture.Why(Kr, _fixture.AmendRequest(Kr, logged.Call)));
        Assert.Equal(Reason.Unspecified, _fixture.Why(Kr, _fixture.LinkRequest(Kr, logged.Call, own.Call)));
        _fixture.Happen(new Custody.V1.CaseReopened { Case = _fixture.Case });
        Assert.Equal(Reason.Unspecified, _fixture.Why(Kr, _fixture.LogRequest()));
        _fixture.Settle(Ua, logged.Call, logged.Commitments[0]);
        _fixture.Correct(Kr, logged.Call, Readout(logged, Kr).Versions[0].Position);
    }

    // ---- what a request may say --------------------------------------------------------------------------------------------

    public static TheoryData<string, Reason, string> Requests =>
        new()
        {
            { "counterpart of the same state", Reason.CounterpartNotASide, "counterpart" },
            { "counterpart that is no party", Reason.CounterpartNotASide, "counterpart" },
            { "counterpart that is an observer", Reason.CounterpartNotASide, "counterpart" },
            { "released to the caller alone", Reason.MarkingExcludesSide, "" },
            { "prisoner unknown to the case", Reason.NotFound, "account.prisoners" },
            { "call in the future", Reason.TimeOutOfRange, "account.start_time" },
            { "due before the call", Reason.TimeOutOfRange, "account.commitments[0].due_time" },
            { "due in ten years", Reason.TimeOutOfRange, "account.commitments[0].due_time" },
            { "attendee of an observer", Reason.AccountNamesOutsider, "account.attendees[0].participant" },
            { "position of a stranger", Reason.AccountNamesOutsider, "account.positions[0].participant" },
            { "commitment of an observer", Reason.AccountNamesOutsider, "account.commitments[0].participant" },
            { "attendee twice", Reason.RequestInvalid, "account.attendees[2]" },
            { "position twice", Reason.RequestInvalid, "account.positions[1]" },
            { "position off the subjects", Reason.RequestInvalid, "account.positions[0].subject" },
            { "position on another prisoner", Reason.RequestInvalid, "account.positions[0].prisoners" },
            { "commitment twice", Reason.RequestInvalid, "account.commitments[1]" },
            { "commitment for another prisoner", Reason.RequestInvalid, "account.commitments[0].prisoners" },
            { "transfer without a route", Reason.RequestInvalid, "account.commitments[0].route" },
            { "transfer without a destination", Reason.RequestInvalid, "account.commitments[0].destination" },
            { "transfer without prisoners", Reason.RequestInvalid, "account.commitments[0].prisoners" },
            { "meeting with a route", Reason.RequestInvalid, "account.commitments[0].route" },
            { "meeting with a destination", Reason.RequestInvalid, "account.commitments[0].destination" },
        };

    [Theory, MemberData(nameof(Requests))]
    public void What_a_request_may_not_say_is_refused_with_its_field(string what, Reason reason, string field)
    {
        var request = _fixture.LogRequest();
        var account = request.Account;
        switch (what)
        {
            case "counterpart of the same state":
                request.Counterpart = Unification;
                break;
            case "counterpart that is no party":
                request.Counterpart = "nobody/mfa";
                break;
            case "counterpart that is an observer":
                request.Counterpart = Icrc;
                break;
            case "released to the caller alone":
                request.Classification = new Classification { ReleasableTo = { Kr } };
                break;
            case "prisoner unknown to the case":
                account.Prisoners.Add("pris_00000000000000000000009999");
                break;
            case "call in the future":
                account.StartTime.Time = (_fixture.RuleRunner.Now + TimeSpan.FromSeconds(1)).ToTimestamp();
                break;
            case "due before the call":
                account.Commitments[0].DueTime = Began.ToTimestamp();
                break;
            case "due in ten years":
                account.Commitments[0].DueTime = Began.AddYears(10).ToTimestamp();
                break;
            case "attendee of an observer":
                account.Attendees[0].Participant = Icrc;
                break;
            case "position of a stranger":
                account.Positions[0].Participant = "nobody/mfa";
                break;
            case "commitment of an observer":
                account.Commitments[0].Participant = Icrc;
                break;
            case "attendee twice":
                account.Attendees.Add(account.Attendees[0].Clone());
                break;
            case "position twice":
                account.Positions.Add(account.Positions[0].Clone());
                account.Positions[1].Stance = Stance.Reserved;
                break;
            case "position off the subjects":
                account.Positions[0].Subject = Subject.Exchange;
                break;
            case "position on another prisoner":
                account.Positions[0].Prisoners.Add("pris_00000000000000000000000003");
                break;
            case "commitment twice":
                account.Commitments.Add(Terms(t => t.DueTime = null));
                break;
            case "commitment for another prisoner":
                account.Commitments[0].Prisoners.Add("pris_00000000000000000000000003");
                break;
            case "transfer without a route":
                account.Commitments[0].Route = Route.Unspecified;
                break;
            case "transfer without a destination":
                account.Commitments[0].Destination = "";
                break;
            case "transfer without prisoners":
                account.Commitments[0].Prisoners.Clear();
                break;
            case "meeting with a route":
                account.Commitments[0].Kind = CommitmentKind.Meet;
                account.Commitments[0].Destination = "";
                break;
            case "meeting with a destination":
                account.Commitments[0].Kind = CommitmentKind.Meet;
                account.Commitments[0].Route = Route.Unspecified;
                break;
            default:
                throw new ArgumentException(what);
        }

        var refusal = _fixture.Try(Kr, request).Decision.Refusal!;

        Assert.Equal(reason, refusal.Reason);
        if (reason == Reason.RequestInvalid)
            Assert.Contains(refusal.Faults!, f => f.Field == field);
        else if (field.Length > 0)
            Assert.Equal(field, refusal.Metadata!["field"]);
        Assert.Empty(_fixture.RuleRunner.Events.OfType<CallLogged>());
    }

    [Fact]
    public void Every_fault_of_an_account_is_told_at_once()
    {
        var request = _fixture.LogRequest();
        request.Account.Commitments[0].Route = Route.Unspecified;
        request.Account.Commitments[0].Destination = "";
        request.Account.Positions[0].Subject = Subject.Exchange;
        Assert.Equal(3, _fixture.Try(Kr, request).Decision.Refusal!.Faults!.Count);
    }

    [Fact]
    public void A_record_grows_to_its_limit_and_can_still_be_corrected()
    {
        var logged = _fixture.Log();
        var position = Readout(logged, Kr).Versions[0].Position;
        var large = Account(a => a.Minutes = SealedForm.OfBytes(65536, Kr));
        var amended = 0;
        while (_fixture.Why(Kr, _fixture.AmendRequest(Kr, logged.Call, large)) == Reason.Unspecified)
            amended++;
        Assert.InRange(amended, 8, Calls.MaxItems - 1);
        Assert.Equal(Reason.RecordFull, _fixture.Why(Kr, _fixture.AmendRequest(Kr, logged.Call, large)));
        _fixture.Correct(Kr, logged.Call, position);
    }

    /// <summary>Whatever one side writes, the other gives its account, contests, links and settles (D20).</summary>
    [Fact]
    public void No_side_fills_a_call_so_that_the_other_has_no_room_for_its_own_account()
    {
        var logged = _fixture.Log();
        var large = Account(a => a.Minutes = SealedForm.OfBytes(65536, Kr));
        while (_fixture.Why(Kr, _fixture.AmendRequest(Kr, logged.Call, large)) == Reason.Unspecified)
        {
            // The record fills.
        }
        _fixture.Submit(Ua, logged.Call, Account(a => a.Minutes = SealedForm.OfBytes(65536, Ua)));
        var own = _fixture.Log(Ua);
        Assert.Equal(Reason.Unspecified, _fixture.Why(Ua, _fixture.LinkRequest(Ua, logged.Call, own.Call)));
    }

    [Fact]
    public void No_side_contests_so_often_that_the_other_cannot()
    {
        var logged = _fixture.Log();
        _fixture.Submit(Ua, logged.Call);
        for (var i = 0; i < Calls.MaxItems; i++)
        {
            _fixture.Contest(Kr, logged.Call, Ua);
            _fixture.Correct(Kr, logged.Call, _fixture.Call(logged).Contests[^1].Position);
        }
        Assert.Equal(Reason.RecordFull, _fixture.Why(Kr, _fixture.ContestRequest(Kr, logged.Call, Ua)));
        _fixture.Contest(Ua, logged.Call, Kr);
    }

    [Fact]
    public void No_side_names_so_many_commitments_that_the_other_cannot_name_its_own()
    {
        var logged = _fixture.Log();
        for (var reason = Reason.Unspecified; reason != Reason.RecordFull; )
            reason = _fixture.Why(Kr, _fixture.AmendRequest(Kr, logged.Call, Many(_fixture.Call(logged).Commitments.Count)));
        _fixture.Submit(Ua, logged.Call, Many(1000));

        static Account Many(int from) =>
            Account(a =>
            {
                a.Commitments.Clear();
                foreach (var i in Enumerable.Range(from, 16))
                    a.Commitments.Add(Terms(t => t.Destination = $"{(char)('A' + i / 26 % 26)}{(char)('A' + i % 26)}"));
            });
    }

    [Fact]
    public void Commitments_of_a_call_are_bounded()
    {
        var logged = _fixture.Log();
        for (var version = 0; version < 4; version++)
        {
            var account = Account(a =>
            {
                a.Commitments.Clear();
                foreach (var _ in Enumerable.Range(0, 16))
                    a.Commitments.Add(Terms(t => t.Destination = $"{(char)('A' + version)}{(char)('A' + a.Commitments.Count)}"));
            });
            Assert.Equal(
                version == 3 ? Reason.RecordFull : Reason.Unspecified,
                _fixture.Why(Kr, _fixture.AmendRequest(Kr, logged.Call, account))
            );
        }
    }

    [Fact]
    public void The_same_request_names_the_same_records()
    {
        var request = _fixture.LogRequest();
        var twice = new[] { new CaseFixture(), new CaseFixture() }
            .Select(s => (LogCallResponse)s.Try(Kr, request.Clone()).Answer!)
            .ToArray();
        Assert.Equal(twice[0], twice[1]);
    }

    [Fact]
    public void A_state_is_the_same_however_its_record_is_read_back()
    {
        var logged = _fixture.Log(but: r => r.Account.Minutes = SealedForm.To(Ua));
        var call = _fixture.Call(logged);
        Assert.Equal(call, Calls.Kind.Parse(call.ToByteArray()));
        Assert.Equal(32, call.Readouts[0].Versions[0].Account.Minutes.Digest.Length);
        Assert.InRange(Calls.Kind.KeysOf(call).Count, 1, 256);
    }

    private Readout Readout(LogCallResponse logged, string participant) =>
        _fixture.Call(logged).Readouts.Single(r => r.Participant == participant);
}
