using Google.Protobuf;
using Ministries.CallLog.V1;
using Ministries.Errors.V1;
using Ministries.Fixtures;
using Ministries.Ledger;
using Ministries.Trust;
using Ministries.Types.V1;
using static Ministries.CallLog.Tests.Scene;

namespace Ministries.CallLog.Tests;

/// <summary>Who sees of a call what (D22), and what is never in what others get (D16).</summary>
public class VisibilityTests
{
    private readonly Scene _scene = new();

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
        var logged = _scene.Log(but: r =>
            r.Classification = new Classification
            {
                Level = level,
                ReleasableTo = { releasable.Split(' ', StringSplitOptions.RemoveEmptyEntries) },
            }
        );
        var all = _scene.Stage.Permissions.Agreement.Participants.Select(p => p.Id);
        Assert.Equal(readers.Split(' ').Order(), all.Where(p => _scene.Seen(p, logged.Call) is not null).Order());
    }

    [Fact]
    public void What_a_reader_is_not_shown_is_marked_and_not_false_or_zero_or_nothing()
    {
        var logged = _scene.Log(but: r =>
            r.Account.Minutes = new Sealed
            {
                Scheme = "test",
                Recipients = { Kr },
                Content = ByteString.CopyFromUtf8("invented"),
            }
        );
        var whole = _scene.Stage.State(Calls.Kind, logged.Call)!;
        foreach (var reader in _scene.Stage.Permissions.Agreement.Participants.Select(p => p.Id))
            if (_scene.Seen(reader, logged.Call) is { } seen)
                Assert.Empty(Withholding.Unmarked(whole, seen));
    }

    [Fact]
    public void A_level_above_a_sides_clearance_is_refused()
    {
        _scene.Stage.Permissions.Agreement.Participants.Single(p => p.Id == Ua).Clearance = Level.Confidential;
        var refusal = _scene
            .Try(Kr, _scene.LogRequest(but: r => r.Classification = new Classification { Level = Level.Secret }))
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
        _scene.Stage.Permissions = new Permissions(agreement);
        _scene.Admit("ru/mfa", Part.RequestingState, "RU");
        var open = _scene.Log();
        var named = _scene.Log(but: r => r.Classification = new Classification { ReleasableTo = { Kr, Ua, "ru/mfa" } });
        Assert.Null(_scene.Seen("ru/mfa", open.Call));
        Assert.Null(_scene.Seen("ru/mfa", named.Call));
        Assert.Equal(Reason.NotFound, _scene.Why("ru/mfa", _scene.SettleRequest("ru/mfa", open.Call, open.Commitments[0])));
    }

    [Fact]
    public void A_party_that_was_removed_sees_nothing_any_more_and_one_that_is_no_party_learns_nothing()
    {
        var scene = new Scene(withUnification: false);
        var logged = scene.Log();
        Assert.Null(scene.Seen(Unification, logged.Call));
        Assert.Equal(Reason.NotFound, scene.Why(Unification, scene.AmendRequest(Unification, logged.Call)));
        Assert.Equal(Reason.NotFound, scene.Why(Unification, scene.AmendRequest(Unification, Secret.OfTests.IdOf("a", "b", "call"))));

        scene.Happen(new Custody.V1.PartyRemoved { Case = scene.Case, Participant = Kr });

        Assert.Null(scene.Seen(Kr, logged.Call));
        Assert.Equal(Reason.NotFound, scene.Why(Kr, scene.AmendRequest(Kr, logged.Call)));
    }

    [Fact]
    public void A_call_of_another_case_is_not_there()
    {
        var logged = _scene.Log();
        var other = Secret.OfTests.IdOf("other", "other", "case");
        _scene.Happen(
            new Custody.V1.CaseOpened
            {
                Case = other,
                DetainingPower = "UA",
                Participant = Ua,
            }
        );
        var request = _scene.SettleRequest(Ua, logged.Call, logged.Commitments[0], but: r => r.Case = other);
        Assert.Equal(Reason.NotFound, _scene.Why(Ua, request));
    }

    [Fact]
    public void Others_of_a_side_read_and_do_not_speak_for_it()
    {
        _scene.Stage.Permissions.Agreement.Participants.Single(p => p.Id == Headquarters).Capacities.Add(Capacity.Calls);
        var logged = _scene.Log();
        Assert.NotNull(_scene.Seen(Headquarters, logged.Call));
        Assert.Equal(Reason.NotASide, _scene.Why(Headquarters, _scene.SubmitRequest(Headquarters, logged.Call)));
        Assert.Equal(Reason.NotASide, _scene.Why(Headquarters, _scene.SettleRequest(Headquarters, logged.Call, logged.Commitments[0])));
    }

    [Fact]
    public void Who_has_no_capacity_for_calls_or_no_grant_writes_none()
    {
        var logged = _scene.Log();
        Assert.Equal(Reason.NoCapacity, _scene.Why(Unification, _scene.AmendRequest(Unification, logged.Call)));
        Assert.Equal(Reason.NoCapacity, _scene.Why(Icrc, _scene.ContestRequest(Icrc, logged.Call, Kr)));
        _scene.Stage.Permissions.Agreement.Participants.Single(p => p.Id == Icrc).Capacities.Add(Capacity.Calls);
        Assert.Equal(Reason.NotGranted, _scene.Why(Icrc, _scene.ContestRequest(Icrc, logged.Call, Kr)));
    }

    [Fact]
    public void Minutes_go_to_their_sender_and_recipients_alone()
    {
        var minutes = new Sealed
        {
            Scheme = "ministries-sealed-v1",
            Recipients = { Ua },
            Content = ByteString.CopyFromUtf8("sealed"),
        };
        var logged = _scene.Log(but: r => r.Account.Minutes = minutes);

        foreach (var reader in (string[])[Kr, Ua])
            Assert.Equal(minutes.Content, MinutesSeenBy(reader).Content);
        foreach (var reader in (string[])[Icrc, Headquarters, Unification])
        {
            var seen = MinutesSeenBy(reader);
            Assert.True(seen.Content.IsEmpty);
            Assert.Empty(seen.Recipients);
            Assert.Equal(32, seen.Digest.Length);
        }

        Sealed MinutesSeenBy(string reader) => _scene.Seen(reader, logged.Call)!.Readouts[0].Versions[0].Account.Minutes;
    }

    [Fact]
    public void A_draft_is_known_to_its_participant_alone_and_changes_nobody_elses_etag()
    {
        var logged = _scene.Log();
        var others = (string[])[Ua, Icrc, Headquarters, Unification];
        var before = others.Select(p => _scene.Etag(p, logged.Call)).ToArray();
        var own = _scene.Etag(Kr, logged.Call);

        var decision = _scene.Drafted(logged, "transfer_1", First);

        Assert.Equal(before, others.Select(p => _scene.Etag(p, logged.Call)));
        Assert.NotEqual(own, _scene.Etag(Kr, logged.Call));
        Assert.Single(_scene.Seen(Kr, logged.Call)!.Commitments[0].Requests);
        Assert.Equal([Kr], EntryReaders(decision));
        // What the other side saw is what there is for it: its write goes through.
        Assert.Equal(Reason.Unspecified, _scene.Why(Ua, _scene.SubmitRequest(Ua, logged.Call)));

        _scene.Submitted(logged, "transfer_1", First);
        Assert.Single(_scene.Seen(Icrc, logged.Call)!.Commitments[0].Requests);
    }

    [Fact]
    public void A_link_to_a_record_that_is_not_for_the_reader_is_not_shown()
    {
        var one = _scene.Log();
        var two = _scene.Log(Ua, r => r.Classification = new Classification { Level = Level.Secret, ReleasableTo = { Kr, Ua } });
        var before = _scene.Seen(Icrc, one.Call)!;

        _scene.Link(Kr, one.Call, two.Call);

        var after = _scene.Seen(Icrc, one.Call)!;
        Assert.Empty(after.Links);
        Assert.Null(_scene.Seen(Icrc, two.Call));
        Assert.Single(_scene.Seen(Ua, one.Call)!.Links);
        Assert.Equal((CallState.OneSided, CallState.Mutual), (before.State, after.State));
    }

    [Fact]
    public void An_entry_is_seen_by_who_sees_the_call()
    {
        var decision = _scene.Try(Kr, _scene.LogRequest(but: r => r.Classification = new Classification { Level = Level.Secret })).Decision;
        Assert.Equal([Icrc, Kr, Headquarters, Ua], EntryReaders(decision));
    }

    [Fact]
    public void A_stale_etag_is_refused_after_the_call_is_known_to_be_the_callers()
    {
        var logged = _scene.Log();
        var stale = _scene.SubmitRequest(Ua, logged.Call);
        _scene.Amend(Kr, logged.Call);
        Assert.Equal(Reason.Stale, _scene.Why(Ua, stale));
        var link = _scene.LinkRequest(Kr, logged.Call, _scene.Log(Ua).Call);
        link.SameAsEtag = "old";
        Assert.Equal(Reason.Stale, _scene.Why(Kr, link));
    }

    [Fact]
    public void No_event_holds_what_the_account_says_in_words_or_under_seal()
    {
        var logged = _scene.Log(but: r =>
        {
            r.Account.Summary = Text("SECRETWORD");
            r.Account.Minutes = new Sealed
            {
                Scheme = "s",
                Recipients = { Ua },
                Content = ByteString.CopyFromUtf8("SECRETWORD"),
            };
        });
        _scene.Submit(Ua, logged.Call, Account(a => a.Summary = Text("SECRETWORD")));
        _scene.Contest(Ua, logged.Call, Kr);
        Assert.DoesNotContain(_scene.Stage.Events, e => e.ToString()!.Contains("SECRETWORD") || e.ToString()!.Contains("constitution"));
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
                Case = _scene.Case,
                Call = id,
                Participant = Kr,
                Sides =
                {
                    new Side { Participant = Kr, State = "KR" },
                    new Side { Participant = Ua, State = "UA" },
                },
            },
            new FoldedEntry(7, new Google.Protobuf.WellKnownTypes.Timestamp(), Kr, _scene.Id(), null)
        );
        var @case = _scene.Stage.State(Cases.Kind, _scene.Case)!;
        Assert.Equal(
            [Kr, Ua],
            _scene
                .Stage.Permissions.Agreement.Participants.Where(p => Cases.MaySee(p, @case, Calls.Kind.AudienceOf(call)))
                .Select(p => p.Id)
                .Order()
        );
        Assert.Null(call.Readouts[0].Versions[0].Account);
        Assert.Null(CallComparison.Compare(call));
    }

    private IEnumerable<string> EntryReaders(Decision decision)
    {
        var @case = _scene.Stage.State(Cases.Kind, _scene.Case)!;
        return _scene
            .Stage.Permissions.Agreement.Participants.Where(p => Cases.MaySee(p, @case, [.. decision.Audience]))
            .Select(p => p.Id)
            .Order();
    }
}
