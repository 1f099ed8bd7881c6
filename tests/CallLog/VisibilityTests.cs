using Google.Protobuf;
using Ministries.CallLog.V1;
using Ministries.Errors.V1;
using Ministries.Fixtures;
using Ministries.Trust;
using Ministries.Types.V1;
using static Ministries.CallLog.Tests.CaseFixture;

namespace Ministries.CallLog.Tests;

/// <summary>Who sees of a call what (D22), and what is never in what others get (D16).</summary>
public class VisibilityTests
{
    private readonly CaseFixture _fixture = new();

    /// <summary>The marking, and who sees the call under it. kr/unification is cleared for CONFIDENTIAL, all others for SECRET.
    /// </summary>
    public static TheoryData<Level, string, string> Markings =>
        new()
        {
            { Level.Unspecified, "", "kr/mfa ua/mfa kr/unification ua/coordination-hq icrc" },
            { Level.Restricted, "", "kr/mfa ua/mfa kr/unification ua/coordination-hq icrc" },
            { Level.Confidential, "", "kr/mfa ua/mfa kr/unification ua/coordination-hq icrc" },
            { Level.Secret, "", "kr/mfa ua/mfa ua/coordination-hq icrc" },
            { Level.Restricted, "kr/mfa ua/mfa", "kr/mfa ua/mfa" },
            { Level.Secret, "kr/mfa ua/mfa kr/unification", "kr/mfa ua/mfa" },
            { Level.Confidential, "kr/mfa ua/mfa kr/unification", "kr/mfa ua/mfa kr/unification" },
            { Level.Secret, "kr/mfa ua/mfa icrc", "kr/mfa ua/mfa icrc" },
        };

    [Theory, MemberData(nameof(Markings))]
    public void A_call_is_seen_as_its_marking_allows(Level level, string releasable, string readers)
    {
        var logged = _fixture.Log(but: r =>
            r.Classification = new Classification
            {
                Level = level,
                ReleasableTo = { releasable.Split(' ', StringSplitOptions.RemoveEmptyEntries) },
            }
        );
        var all = _fixture.RuleRunner.Permissions.Agreement.Participants.Select(p => p.Id);
        Assert.Equal(readers.Split(' ').Order(), all.Where(p => _fixture.Seen(p, logged.Call) is not null).Order());
    }

    [Fact]
    public void What_a_reader_is_not_shown_is_marked_and_not_false_or_zero_or_nothing()
    {
        var logged = _fixture.Log(but: r => r.Account.Minutes = SealedForm.To(Kr));
        var whole = _fixture.RuleRunner.State(Calls.Kind, logged.Call)!;
        foreach (var reader in _fixture.RuleRunner.Permissions.Agreement.Participants.Select(p => p.Id))
            if (_fixture.Seen(reader, logged.Call) is { } seen)
                Assert.Empty(Withholding.Unmarked(whole, seen));
    }

    [Fact]
    public void A_level_above_a_sides_clearance_is_refused()
    {
        _fixture.RuleRunner.Permissions.Agreement.Participants.Single(p => p.Id == Ua).Clearance = Level.Confidential;
        var refusal = _fixture
            .Try(Kr, _fixture.LogRequest(but: r => r.Classification = new Classification { Level = Level.Secret }))
            .Decision.Refusal!;
        Assert.Equal((Reason.MarkingExcludesSide, Ua), (refusal.Reason, refusal.Metadata!["participant"]));
    }

    [Fact]
    public void A_party_of_a_third_state_does_not_see_a_call_even_where_it_is_named()
    {
        var agreement = StandardAgreement.Read();
        var third = agreement.Participants.Single(p => p.Id == Kr).Clone();
        (third.Id, third.State) = ("ru/mfa", "RU");
        agreement.Participants.Add(third);
        _fixture.RuleRunner.Permissions = new Permissions(agreement);
        _fixture.Admit("ru/mfa", Part.RequestingState, "RU");
        var open = _fixture.Log();
        var named = _fixture.Log(but: r => r.Classification = new Classification { ReleasableTo = { Kr, Ua, "ru/mfa" } });
        Assert.Null(_fixture.Seen("ru/mfa", open.Call));
        Assert.Null(_fixture.Seen("ru/mfa", named.Call));
        Assert.Equal(Reason.NotFound, _fixture.Why("ru/mfa", _fixture.SettleRequest("ru/mfa", open.Call, open.Commitments[0])));
    }

    [Fact]
    public void A_party_that_was_removed_sees_nothing_any_more_and_one_that_is_no_party_learns_nothing()
    {
        var fixture = new CaseFixture(withUnification: false);
        var logged = fixture.Log();
        Assert.Null(fixture.Seen(Unification, logged.Call));
        Assert.Equal(Reason.NotFound, fixture.Why(Unification, fixture.AmendRequest(Unification, logged.Call)));
        Assert.Equal(Reason.NotFound, fixture.Why(Unification, fixture.AmendRequest(Unification, Secret.OfTests.IdOf("a", "b", "call"))));

        fixture.Happen(new Custody.V1.PartyRemoved { Case = fixture.Case, Participant = Kr });

        Assert.Null(fixture.Seen(Kr, logged.Call));
        Assert.Equal(Reason.NotFound, fixture.Why(Kr, fixture.AmendRequest(Kr, logged.Call)));
    }

    [Fact]
    public void A_call_of_another_case_is_not_there()
    {
        var logged = _fixture.Log();
        var other = Secret.OfTests.IdOf("other", "other", "case");
        _fixture.Happen(
            new Custody.V1.CaseOpened
            {
                Case = other,
                DetainingPower = "UA",
                Participant = Ua,
            }
        );
        var request = _fixture.SettleRequest(Ua, logged.Call, logged.Commitments[0], but: r => r.Case = other);
        Assert.Equal(Reason.NotFound, _fixture.Why(Ua, request));
    }

    [Fact]
    public void Others_of_a_side_read_and_do_not_speak_for_it()
    {
        _fixture.RuleRunner.Permissions.Agreement.Participants.Single(p => p.Id == Headquarters).Capacities.Add(Capacity.Calls);
        var logged = _fixture.Log();
        Assert.NotNull(_fixture.Seen(Headquarters, logged.Call));
        Assert.Equal(Reason.NotASide, _fixture.Why(Headquarters, _fixture.SubmitRequest(Headquarters, logged.Call)));
        Assert.Equal(Reason.NotASide, _fixture.Why(Headquarters, _fixture.SettleRequest(Headquarters, logged.Call, logged.Commitments[0])));
    }

    [Fact]
    public void Who_has_no_capacity_for_calls_or_no_grant_writes_none()
    {
        var logged = _fixture.Log();
        Assert.Equal(Reason.NoCapacity, _fixture.Why(Unification, _fixture.AmendRequest(Unification, logged.Call)));
        Assert.Equal(Reason.NoCapacity, _fixture.Why(Icrc, _fixture.ContestRequest(Icrc, logged.Call, Kr)));
        _fixture.RuleRunner.Permissions.Agreement.Participants.Single(p => p.Id == Icrc).Capacities.Add(Capacity.Calls);
        Assert.Equal(Reason.NotGranted, _fixture.Why(Icrc, _fixture.ContestRequest(Icrc, logged.Call, Kr)));
    }

    [Fact]
    public void Minutes_go_to_their_sender_and_recipients_alone()
    {
        var minutes = SealedForm.To(Ua);
        var logged = _fixture.Log(but: r => r.Account.Minutes = minutes);

        foreach (var reader in (string[])[Kr, Ua])
            Assert.Equal(minutes.Content, MinutesSeenBy(reader).Content);
        foreach (var reader in (string[])[Icrc, Headquarters, Unification])
        {
            var seen = MinutesSeenBy(reader);
            Assert.True(seen.Content.IsEmpty);
            Assert.Empty(seen.Recipients);
            Assert.Equal(32, seen.Digest.Length);
        }

        Sealed MinutesSeenBy(string reader) => _fixture.Seen(reader, logged.Call)!.Readouts[0].Versions[0].Account.Minutes;
    }

    [Fact]
    public void Why_a_side_amends_contests_or_corrects_goes_to_its_sender_and_recipients_alone()
    {
        var logged = _fixture.Log();
        _fixture.Submit(Ua, logged.Call);
        _fixture.Amend(Kr, logged.Call);
        _fixture.Contest(Kr, logged.Call, Ua);
        _fixture.Correct(Kr, logged.Call, _fixture.Call(logged).Contests[0].Position);

        // Headquarters and the ministry of unification are parties of both sides' states, and nobody sealed to them.
        Assert.All(ReasonsSeenBy(Icrc).Concat(ReasonsSeenBy(Kr)), reason => Assert.False(reason.Content.IsEmpty));
        foreach (var reader in (string[])[Headquarters, Unification])
            Assert.All(
                ReasonsSeenBy(reader),
                reason =>
                {
                    Assert.True(reason.Content.IsEmpty);
                    Assert.Empty(reason.Recipients);
                    Assert.Equal(32, reason.Digest.Length);
                }
            );

        Sealed[] ReasonsSeenBy(string reader)
        {
            var call = _fixture.Seen(reader, logged.Call)!;
            return
            [
                call.Readouts.Single(r => r.Participant == Kr).Versions[1].Explanation,
                call.Contests[0].Explanation,
                call.Corrections[0].Explanation,
            ];
        }
    }

    [Fact]
    public void A_draft_is_known_to_its_participant_alone_and_changes_nobody_elses_etag()
    {
        var logged = _fixture.Log();
        var others = (string[])[Ua, Icrc, Headquarters, Unification];
        var before = others.Select(p => _fixture.Etag(p, logged.Call)).ToArray();
        var own = _fixture.Etag(Kr, logged.Call);

        var decision = _fixture.Drafted(logged, "transfer_1", First);

        Assert.Equal(before, others.Select(p => _fixture.Etag(p, logged.Call)));
        Assert.NotEqual(own, _fixture.Etag(Kr, logged.Call));
        Assert.Single(_fixture.Seen(Kr, logged.Call)!.Commitments[0].Requests);
        Assert.Equal([Kr], EntryReaders(decision));
        // What the other side saw is what there is for it: its write goes through.
        Assert.Equal(Reason.Unspecified, _fixture.Why(Ua, _fixture.SubmitRequest(Ua, logged.Call)));

        _fixture.Submitted(logged, "transfer_1", First);
        Assert.Single(_fixture.Seen(Icrc, logged.Call)!.Commitments[0].Requests);
    }

    [Fact]
    public void A_link_to_a_record_that_is_not_for_the_reader_is_not_shown()
    {
        var one = _fixture.Log();
        var two = _fixture.Log(Ua, r => r.Classification = new Classification { Level = Level.Secret, ReleasableTo = { Kr, Ua } });
        var before = _fixture.Seen(Icrc, one.Call)!;

        _fixture.Link(Kr, one.Call, two.Call);

        var after = _fixture.Seen(Icrc, one.Call)!;
        Assert.Empty(after.Links);
        Assert.Null(_fixture.Seen(Icrc, two.Call));
        Assert.Single(_fixture.Seen(Ua, one.Call)!.Links);
        Assert.Equal((CallState.OneSided, CallState.Mutual), (before.State, after.State));
    }

    [Fact]
    public void An_entry_is_seen_by_who_sees_the_call()
    {
        var decision = _fixture
            .Try(Kr, _fixture.LogRequest(but: r => r.Classification = new Classification { Level = Level.Secret }))
            .Decision;
        Assert.Equal([Icrc, Kr, Headquarters, Ua], EntryReaders(decision));
    }

    [Fact]
    public void A_stale_etag_is_refused_after_the_call_is_known_to_be_the_callers()
    {
        var logged = _fixture.Log();
        var stale = _fixture.SubmitRequest(Ua, logged.Call);
        _fixture.Amend(Kr, logged.Call);
        Assert.Equal(Reason.Stale, _fixture.Why(Ua, stale));
        var link = _fixture.LinkRequest(Kr, logged.Call, _fixture.Log(Ua).Call);
        link.SameAsEtag = "old";
        Assert.Equal(Reason.Stale, _fixture.Why(Kr, link));
    }

    [Fact]
    public void No_event_holds_what_the_account_says_under_seal()
    {
        var minutes = SealedForm.To(Ua);
        minutes.Content = ByteString.CopyFromUtf8("SECRETWORD");
        var logged = _fixture.Log(but: r => r.Account.Minutes = minutes);
        _fixture.Submit(Ua, logged.Call, Account(a => a.Minutes = minutes));
        var contest = _fixture.ContestRequest(Ua, logged.Call, Kr);
        contest.Explanation = minutes;
        Assert.Equal(Reason.Unspecified, _fixture.Why(Ua, contest));
        Assert.DoesNotContain(
            _fixture.RuleRunner.Events,
            e => e.ToString()!.Contains("SECRETWORD") || e.ToString()!.Contains("constitution")
        );
    }

    [Fact]
    public void A_call_whose_request_was_erased_is_shown_to_its_sides_alone()
    {
        var call = new Call();
        var id = Secret.OfTests.IdOf("a", "b", "call");
        Calls.Kind.Apply(
            call,
            new CallLogged
            {
                Case = _fixture.Case,
                Call = id,
                Participant = Kr,
                Sides =
                {
                    new Side { Participant = Kr, State = "KR" },
                    new Side { Participant = Ua, State = "UA" },
                },
            },
            new FoldedEntry(7, new Google.Protobuf.WellKnownTypes.Timestamp(), Kr, _fixture.Id(), null)
        );
        var @case = _fixture.RuleRunner.State(Cases.Kind, _fixture.Case)!;
        Assert.Equal(
            [Kr, Ua],
            _fixture
                .RuleRunner.Permissions.Agreement.Participants.Where(p => Cases.MaySee(p, @case, Calls.Kind.AudienceOf(call)))
                .Select(p => p.Id)
                .Order()
        );
        Assert.Null(call.Readouts[0].Versions[0].Account);
        Assert.Null(CallComparison.Compare(call));
    }

    /// <summary>What a call promised is spoken of by later entries, whose request may be there still.</summary>
    [Fact]
    public void A_call_whose_request_was_erased_takes_what_comes_after_it()
    {
        var logged = _fixture.Log();
        var events = _fixture.RuleRunner.Events.OfType<CallLogged>().Single();
        var call = new Call();
        Fold(events, Kr, null);
        var id = Assert.Single(call.Commitments).Id;
        Assert.Equal(logged.Commitments[0], id);
        Fold(
            new Consular.V1.TransferRequestDrafted
            {
                Call = call.Id,
                Commitment = id,
                Transfer = "transfer_1",
                Prisoner = First,
                Participant = Kr,
            },
            Kr,
            null
        );
        Fold(
            new CommitmentSettled
            {
                Call = call.Id,
                Commitment = id,
                Kind = SettlementKind.Kept,
            },
            "service/consular",
            null
        );
        Assert.Equal((CommitmentState.Kept, 1), (call.Commitments[0].State, call.Commitments[0].Requests.Count));
        // The other side says the same, and its account was not erased.
        var submit = _fixture.SubmitRequest(Ua, logged.Call);
        Fold(
            new ReadoutSubmitted
            {
                Call = call.Id,
                Participant = Ua,
                Commitments = { id },
            },
            Ua,
            submit
        );
        Assert.Equal(submit.Account.Commitments[0], Assert.Single(call.Commitments).Terms);

        void Fold(Google.Protobuf.IMessage e, string who, Google.Protobuf.IMessage? request) =>
            Calls.Kind.Apply(call, e, new FoldedEntry(7, new Google.Protobuf.WellKnownTypes.Timestamp(), who, _fixture.Id(), request));
    }

    /// <summary>Which other states request is not told (D22): not by whether a call with one of their organs is logged either.</summary>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_refusal_does_not_tell_which_other_states_request(bool admitted)
    {
        var agreement = StandardAgreement.Read();
        var third = agreement.Participants.Single(p => p.Id == Kr).Clone();
        (third.Id, third.State) = ("ru/mfa", "RU");
        agreement.Participants.Add(third);
        _fixture.RuleRunner.Permissions = new Permissions(agreement);
        if (admitted)
            _fixture.Admit("ru/mfa", Part.RequestingState, "RU");
        var request = _fixture.LogRequest(Kr, r => r.Counterpart = "ru/mfa");
        Assert.Equal(Reason.CounterpartNotASide, _fixture.Why(Kr, request));
        // The power that manages the case knows its parties.
        Assert.Equal(admitted ? Reason.Unspecified : Reason.CounterpartNotASide, _fixture.Why(Ua, With("ru/mfa", Ua)));
        // Whoever holds him is known to all, whatever part it was admitted in.
        _fixture.Happen(
            new Custody.V1.CustodyTransferred
            {
                Case = _fixture.Case,
                Prisoner = First,
                FromPower = "UA",
                ToPower = "RU",
            }
        );
        Assert.Equal(admitted ? Reason.Unspecified : Reason.CounterpartNotASide, _fixture.Why(Kr, With("ru/mfa", Kr)));

        LogCallRequest With(string counterpart, string by) =>
            _fixture.LogRequest(
                by,
                r =>
                {
                    r.Counterpart = counterpart;
                    r.Account.Attendees.Clear();
                    r.Account.Attendees.Add(new Attendee { Participant = by, Office = "minister" });
                    r.Account.Positions.Clear();
                    r.Account.Commitments.Clear();
                }
            );
    }

    private IEnumerable<string> EntryReaders(Decision decision)
    {
        var @case = _fixture.RuleRunner.State(Cases.Kind, _fixture.Case)!;
        return _fixture
            .RuleRunner.Permissions.Agreement.Participants.Where(p => Cases.MaySee(p, @case, [.. decision.Audience]))
            .Select(p => p.Id)
            .Order();
    }
}
