using Ministries.Custody.V1;
using Ministries.Errors.V1;
using Ministries.Types.V1;
using Route = Ministries.Types.V1.Route;

namespace Ministries.Custody.Tests;

/// <summary>His verified word holds against the will of any one side (D7 to D9). Each row is an attempt to get around it.</summary>
public class WordTests
{
    private readonly CaseFixture _fixture = new();

    public WordTests() => _fixture.Register();

    public static TheoryData<string> Attempts =>
        [
            "the detaining power records that he accepts, without an interview",
            "the same, marked for its own eyes",
            "the detaining power records an interview that nobody attests",
            "an acceptance recorded late that he had given before",
            "an acceptance that only some of those present attest",
            "the detaining power corrects its own record of his objection",
            "the observer's attestation of an objection is revoked by one role",
        ];

    /// <summary>He objected to KP in private, and all who must attested it.</summary>
    [Theory, MemberData(nameof(Attempts))]
    public void A_verified_objection_yields_to_a_later_verified_word_alone(string attempt)
    {
        var theirs = _fixture.StatementRequest(CaseFixture.Hq, "KR");
        theirs.Content = CaseFixture.Seal(CaseFixture.Icrc);
        var objection = _fixture.Record(theirs, CaseFixture.Hq);
        _fixture.Attest(objection, AttesterRole.Interviewer, AttesterRole.Interpreter, AttesterRole.Observer);
        Assert.True(_fixture.Stands("KR"));
        Next();
        var request = _fixture.StatementRequest(CaseFixture.Hq, "KP");
        request.Content = CaseFixture.Seal(CaseFixture.Icrc);
        var expected = Reason.Unspecified;
        switch (attempt)
        {
            case "the detaining power records that he accepts, without an interview":
                request.Interview = null;
                _fixture.Record(request, CaseFixture.Hq);
                break;
            case "the same, marked for its own eyes":
                request.Interview = null;
                request.Classification = new Classification { Level = Level.Restricted, ReleasableTo = { CaseFixture.Hq } };
                var hidden = _fixture.Record(request, CaseFixture.Hq);
                Assert.Contains(_fixture.Seen(CaseFixture.Icrc).Statements, s => s.Statement_ == hidden);
                break;
            case "the detaining power records an interview that nobody attests":
                _fixture.Record(request, CaseFixture.Hq);
                break;
            case "an acceptance recorded late that he had given before":
                (request.StatementTime, request.Interview.InterviewTime) = (_fixture.Ago(20), _fixture.Ago(21));
                var earlier = _fixture.Record(request, CaseFixture.Hq);
                _fixture.Attest(earlier, AttesterRole.Interviewer, AttesterRole.Interpreter, AttesterRole.Observer);
                break;
            case "an acceptance that only some of those present attest":
                _fixture.Attest(_fixture.Record(request, CaseFixture.Hq), AttesterRole.Interviewer, AttesterRole.Observer);
                break;
            case "the detaining power corrects its own record of his objection":
                expected = _fixture.Try(
                    CaseFixture.Hq,
                    _fixture.CorrectRequest(_fixture.StatementOf(objection).Position),
                    Prisoners.CorrectRecord
                );
                Assert.Equal(Reason.AttestedByOthers, expected);
                break;
            default:
                _fixture.Do(CaseFixture.Icrc, _fixture.RevokeRequest(objection, AttesterRole.Observer), Statements.RevokeAttestation);
                break;
        }
        Assert.All(Enum.GetValues<Route>(), route => Assert.False(_fixture.Stands("KP", route)));
    }

    [Fact]
    public void A_statement_is_corrected_once_those_who_attested_it_consent()
    {
        var request = _fixture.StatementRequest(CaseFixture.Hq, "KR");
        var id = _fixture.Record(request, CaseFixture.Hq);
        _fixture.Attest(id, AttesterRole.Interviewer, AttesterRole.Observer);
        var correction = _fixture.StatementOf(id).Position;
        Assert.Equal(Reason.AttestedByOthers, Try());
        _fixture.Do(CaseFixture.Icrc, _fixture.RevokeRequest(id), Statements.RevokeAttestation);
        Assert.Equal(Reason.AttestedByOthers, Try());
        _fixture.Do(CaseFixture.Icrc, _fixture.RevokeRequest(id, AttesterRole.Observer), Statements.RevokeAttestation);
        Assert.Equal(Reason.Unspecified, Try());

        Reason Try() => _fixture.Try(CaseFixture.Hq, _fixture.CorrectRequest(correction), Prisoners.CorrectRecord);
    }

    /// <summary>What is recorded beside a verified acceptance of KR, and whether a departure there still has his word.</summary>
    [Theory]
    [InlineData("a newspaper says that he wants it", true)]
    [InlineData("a newspaper says that he wants something else", false)]
    [InlineData("a guard heard before the interview that he does not want it", true)]
    [InlineData("he objects in an interview that nobody has attested yet", false)]
    [InlineData("he only wants to wait", false)]
    public void An_objection_stops_whoever_recorded_it_and_an_unverified_acceptance_changes_nothing(string what, bool stands)
    {
        _fixture.Says("KR");
        Next();
        var request = _fixture.StatementRequest(CaseFixture.Hq, what.EndsWith("wants it", StringComparison.Ordinal) ? ["KR"] : ["KP"]);
        request.Interview = null;
        switch (what)
        {
            case "a guard heard before the interview that he does not want it":
                request.StatementTime = _fixture.Ago(20);
                break;
            case "he objects in an interview that nobody has attested yet":
                request = _fixture.StatementRequest(CaseFixture.Icrc, "KP");
                break;
            case "he only wants to wait":
                _fixture.Wish(request);
                break;
        }
        var who = request.Interview is null ? CaseFixture.Hq : CaseFixture.Icrc;
        var recorded = _fixture.Record(request, who);
        Assert.Equal(stands, _fixture.Stands("KR"));
        if (stands)
            return;
        // Who recorded an objection that was none takes it back; a later verified word overrides it.
        _fixture.Correct(_fixture.StatementOf(recorded).Position, who);
        Assert.True(_fixture.Stands("KR"));
    }

    [Fact]
    public void An_acceptance_that_is_stale_or_not_verified_suffices_on_no_route()
    {
        var request = _fixture.StatementRequest(CaseFixture.Hq, "KR");
        request.Interview = null;
        _fixture.Record(request, CaseFixture.Hq);
        Assert.All(Enum.GetValues<Route>(), route => Assert.False(_fixture.Stands("KR", route)));
        _fixture.Says("KR");
        Assert.True(_fixture.Stands("KR", Route.Repatriation));
        Next(24 * 190);
        Assert.All(Enum.GetValues<Route>(), route => Assert.False(_fixture.Stands("KR", route)));
    }

    /// <summary>Who sits in on the interview, and what makes his state one that may not.</summary>
    [Theory]
    [InlineData("a state that is admitted afterwards")]
    [InlineData("a state that was party and was removed")]
    [InlineData("a state that claims him")]
    [InlineData("a state of which another recorded that he is its national")]
    public void An_interview_with_an_official_of_an_involved_state_is_not_private_whenever_it_became_one(string what)
    {
        if (what == "a state that was party and was removed")
        {
            _fixture.Admit(CaseFixture.Ru, Part.RequestingState);
            _fixture.Do(
                CaseFixture.Hq,
                new RemovePartyRequest
                {
                    Actor = CaseFixture.Actor,
                    Etag = _fixture.CaseEtag(CaseFixture.Hq),
                    Case = _fixture.Case,
                    Participant = CaseFixture.Ru,
                },
                CaseRules.RemoveParty
            );
        }
        var request = _fixture.StatementRequest(CaseFixture.Icrc, "KR");
        request.Interview.Attendants[1].Participant = CaseFixture.Ru;
        if (what == "a state that was party and was removed")
        {
            Assert.Equal(Reason.WitnessOfAParty, _fixture.Try(CaseFixture.Icrc, request, Statements.RecordStatement));
            return;
        }
        // The interpreter is one of a ministry that has no part in the case yet.
        var id = _fixture.Record(request);
        var agreement = _fixture.RuleRunner.Permissions.Agreement.Clone();
        agreement.AttestersDemanded.Remove(AttesterRole.Interpreter);
        _fixture.RuleRunner.Permissions = new Permissions(agreement);
        _fixture.Attest(id, AttesterRole.Interviewer, AttesterRole.Observer);
        Assert.True(_fixture.Stands("KR"));
        switch (what)
        {
            case "a state that is admitted afterwards":
                _fixture.Admit(CaseFixture.Ru, Part.RequestingState);
                break;
            case "a state that claims him":
                _fixture.Do(CaseFixture.Hq, _fixture.ClaimRequest(CaseFixture.Hq, "RU", "RU"), Prisoners.RecordClaim);
                break;
            default:
                _fixture.Do(CaseFixture.Hq, _fixture.ClaimRequest(CaseFixture.Hq, "UA", "RU"), Prisoners.RecordClaim);
                break;
        }
        Assert.False(_fixture.Stands("KR"));
    }

    [Fact]
    public void A_claim_for_the_state_of_a_protecting_power_undoes_nothing_that_it_attested()
    {
        _fixture.Admit(CaseFixture.Swiss, Part.ProtectingPower);
        var request = _fixture.StatementRequest(CaseFixture.Icrc, "KR");
        request.Interview.Attendants[1].Participant = CaseFixture.Swiss;
        var agreement = _fixture.RuleRunner.Permissions.Agreement.Clone();
        agreement.AttestersDemanded.Remove(AttesterRole.Interpreter);
        _fixture.RuleRunner.Permissions = new Permissions(agreement);
        _fixture.Attest(_fixture.Record(request), AttesterRole.Interviewer, AttesterRole.Observer);
        _fixture.Do(CaseFixture.Kr, _fixture.ClaimRequest(CaseFixture.Kr, "KR", "CH"), Prisoners.RecordClaim);
        Assert.True(_fixture.Stands("KR"));
        // But nobody of the state to which he would go is there.
        Assert.False(_fixture.Stands("CH"));
    }

    /// <summary>A former power still owes notice, but its notice hides none of the prisoner's later statements (D9).</summary>
    [Theory]
    [InlineData(CaseFixture.Hq), InlineData(CaseFixture.Kr)]
    public void A_notice_that_names_the_state_of_a_protecting_power_undoes_nothing_that_it_attested(string who)
    {
        _fixture.Admit(CaseFixture.Swiss, Part.ProtectingPower);
        _fixture.HandOver();
        var request = _fixture.StatementRequest(CaseFixture.Icrc, "UA");
        request.Interview.Attendants[1].Participant = CaseFixture.Swiss;
        var agreement = _fixture.RuleRunner.Permissions.Agreement.Clone();
        agreement.AttestersDemanded.Remove(AttesterRole.Interpreter);
        _fixture.RuleRunner.Permissions = new Permissions(agreement);
        _fixture.Attest(_fixture.Record(request), AttesterRole.Interviewer, AttesterRole.Observer);
        var owed = _fixture.Prisoner.Occurrences.Last(o => _fixture.RuleRunner.Permissions.Participant(who)!.ActsFor(o.OwedBy));
        var notice = _fixture.NotifyRequest(owed.Occurrence_, who);
        notice.PowersOfOrigin.Add("CH");
        _fixture.Do(who, notice, Prisoners.NotifyBureau);
        Assert.True(_fixture.Stands("UA"));
        // A later interview that the Protecting Power attends is still private.
        request.Etag = _fixture.Etag(CaseFixture.Icrc);
        Assert.Equal(Reason.Unspecified, _fixture.Try(CaseFixture.Icrc, request, Statements.RecordStatement));
    }

    [Fact]
    public void An_official_of_the_state_to_which_he_would_go_makes_the_interview_no_private_one()
    {
        var request = _fixture.StatementRequest(CaseFixture.Icrc, "KR", "RU");
        request.Interview.Attendants[1].Participant = CaseFixture.Ru;
        var agreement = _fixture.RuleRunner.Permissions.Agreement.Clone();
        agreement.AttestersDemanded.Remove(AttesterRole.Interpreter);
        _fixture.RuleRunner.Permissions = new Permissions(agreement);
        _fixture.Attest(_fixture.Record(request), AttesterRole.Interviewer, AttesterRole.Observer);
        Assert.True(_fixture.Stands("KR"));
        Assert.False(_fixture.Stands("RU"));
    }

    [Fact]
    public void A_guardian_attends_the_interview_of_a_minor_and_of_nobody_else()
    {
        var request = _fixture.StatementRequest(CaseFixture.Icrc, "KR");
        request.Interview.Attendants.Add(
            new Attendant
            {
                Role = AttesterRole.Guardian,
                Participant = CaseFixture.Icrc,
                Official = "i-4",
            }
        );
        Assert.Equal(Reason.GuardianOfAnAdult, _fixture.Try(CaseFixture.Icrc, request, Statements.RecordStatement));
        request.Under18 = true;
        Assert.Equal(Reason.Unspecified, _fixture.Try(CaseFixture.Icrc, request, Statements.RecordStatement));
    }

    private void Next(double hours = 1) => _fixture.RuleRunner.Now = _fixture.RuleRunner.Now.AddHours(hours);
}
