using Google.Protobuf;
using Ministries.Custody.V1;
using Ministries.Errors.V1;
using Ministries.Types.V1;
using Route = Ministries.Types.V1.Route;

namespace Ministries.Custody.Tests;

/// <summary>Custody weighs what a prisoner wants without reading it: by the openings with which it is asked.</summary>
public class WishTests
{
    private readonly CaseFixture _fixture = new();

    public WishTests()
    {
        _fixture.Register();
        _fixture.Register(CaseFixture.Q);
    }

    public static TheoryData<string> Causes =>
        [
            "he said nothing",
            "he wants to go elsewhere",
            "he wants to stay",
            "he wants to wait",
            "he accepts, and nothing is opened",
            "he accepts, and another destination is opened",
            "he accepts, and another statement is opened",
            "he accepts, and another prisoner's statement is opened",
            "he accepts, and an opening is cut short",
            "he accepts, and changed his mind since",
            "he accepts, and it is too old",
            "he accepts, and one who attests it revoked that",
            "he accepts, and nobody attests it",
        ];

    /// <summary>The answer is the same to the byte whatever the cause, for every route.</summary>
    [Theory, MemberData(nameof(Causes))]
    public void No_answer_tells_why_his_word_does_not_stand(string cause)
    {
        var openings = OpeningsWhere(cause);
        // Of one who said nothing, at the same time.
        var silent = new WishTests();
        silent._fixture.RuleRunner.Now = _fixture.RuleRunner.Now;
        Assert.Equal(silent.Answers([]), Answers(openings));
        // The row is about what it says: with the right openings he accepts, or does not.
        Assert.Equal(
            cause.Contains("opened", StringComparison.Ordinal) || cause.Contains("short", StringComparison.Ordinal),
            _fixture.Stands("KR")
        );
    }

    [Fact]
    public void The_commitments_to_any_wish_look_alike()
    {
        string[][] wishes =
        [
            ["KR"],
            ["KP"],
            ["UA"],
            [],
            ["KR", "KP", "UA", "CH"],
        ];
        Assert.All(
            wishes,
            wish =>
            {
                var request = _fixture.StatementRequest(CaseFixture.Icrc, wish);
                Assert.Equal(_fixture.StatementRequest(CaseFixture.Icrc, "KR").CalculateSize(), request.CalculateSize());
                Assert.True(WishCommitments.HaveForm(request.Commitments));
            }
        );
    }

    [Theory]
    [InlineData("one too few")]
    [InlineData("one twice")]
    [InlineData("not in order")]
    [InlineData("one of 31 bytes")]
    public void Commitments_in_another_form_are_refused_by_name(string what)
    {
        var request = _fixture.StatementRequest(CaseFixture.Icrc, "KR");
        var commitments = request.Commitments;
        switch (what)
        {
            case "one too few":
                commitments.RemoveAt(15);
                break;
            case "one twice":
                commitments[5] = commitments[4];
                break;
            case "not in order":
                (commitments[0], commitments[1]) = (commitments[1], commitments[0]);
                break;
            default:
                commitments[15] = ByteString.CopyFrom(commitments[15].Span[..31]);
                break;
        }
        var decision = _fixture.Play(CaseFixture.Icrc, request, Statements.RecordStatement).Decision;
        Assert.Equal(Reason.CommitmentsNotInForm, decision.Refusal?.Reason);
        Assert.Equal("commitments", decision.Refusal?.Metadata?["field"]);
        Assert.Empty(_fixture.Prisoner.Statements);
    }

    [Fact]
    public void A_later_statement_that_is_not_opened_objects_until_it_is_opened_too()
    {
        _fixture.Says("KR");
        var first = _fixture.Openings("KR");
        Assert.Equal(Standing.InForce, With(first));
        Next();
        _fixture.Says("KR");
        Assert.Equal(Standing.NotInForce, With(first));
        Assert.Equal(Standing.InForce, With(_fixture.Openings("KR")));
        // One that nobody attests stops him as well, and so does one recorded late that he made since.
        Next();
        _fixture.Record(_fixture.StatementRequest(CaseFixture.Icrc, "KR"));
        Assert.Equal(Standing.NotInForce, With([.. _fixture.Openings("KR").Take(2)]));
        Assert.Equal(Standing.InForce, With(_fixture.Openings("KR")));
    }

    [Fact]
    public void A_release_where_he_is_held_needs_no_opening()
    {
        _fixture.Says("KR");
        Assert.Equal(Standing.InForce, _fixture.StandingFor([_fixture.Prisoner], "UA", Route.Release, []).Standing);
        Assert.Equal(Standing.NotInForce, _fixture.StandingFor([_fixture.Prisoner], "UA", Route.Exchange, []).Standing);
    }

    [Fact]
    public void What_he_said_under_another_reference_is_opened_under_that_reference()
    {
        _fixture.Says("KR");
        _fixture.Link();
        var kept = _fixture.PrisonerOf(CaseFixture.Q);
        Assert.Equal(Standing.InForce, _fixture.StandingFor([kept, .. kept.Duplicates.Select(_fixture.PrisonerOf)], "KR").Standing);
    }

    /// <summary>A party sees the basis of a hand-over to which it agreed.</summary>
    [Fact]
    public void Two_answers_on_the_same_statements_cannot_be_compared_and_both_hold()
    {
        _fixture.Ready();
        var first = _fixture.Confirmed().StandingBasis;
        Assert.Equal(first, _fixture.Confirmed().StandingBasis);
        Next();
        Assert.NotEqual(first, _fixture.Confirmed().StandingBasis);
        _fixture.Begin();
        _fixture.Admit(CaseFixture.Mfa, Part.DetainingPower);
        var confirmed = _fixture.Confirmed();
        confirmed.StandingBasis = first;
        Assert.Empty(((CustodyTransferred)_fixture.Do(CaseFixture.Consular, confirmed, Reactions.HandedOver).Changes[0].Event).Breaches);
    }

    /// <summary>What happens between custody's answer to the last confirmation and its arrival, and whether the hand-over counts as one
    /// against his word.</summary>
    [Theory]
    [InlineData("nothing", false)]
    [InlineData("he says something", true)]
    [InlineData("he said something before", false)]
    [InlineData("an attestation is revoked", true)]
    [InlineData("his later word is revoked and an older one remains", true)]
    [InlineData("it becomes too old", true)]
    [InlineData("the answer was for another destination", true)]
    [InlineData("custody did not answer", true)]
    public void A_hand_over_is_weighed_by_what_custody_itself_had_answered(string what, bool breached)
    {
        _fixture.Ready();
        if (what == "his later word is revoked and an older one remains")
            _fixture.Says("KR");
        var word = _fixture.Prisoner.Statements[^1].Statement_;
        _fixture.Begin();
        _fixture.Admit(CaseFixture.Mfa, Part.DetainingPower);
        var confirmed = _fixture.Confirmed();
        switch (what)
        {
            case "he says something":
                Next();
                _fixture.Record(_fixture.StatementRequest(CaseFixture.Icrc, "KR"));
                break;
            case "he said something before":
                var before = _fixture.StatementRequest(CaseFixture.Icrc, "KP");
                (before.StatementTime, before.Interview.InterviewTime) = (_fixture.Ago(20), _fixture.Ago(21));
                _fixture.Record(before);
                break;
            case "an attestation is revoked":
            case "his later word is revoked and an older one remains":
                _fixture.Do(CaseFixture.Icrc, _fixture.RevokeRequest(word), Statements.RevokeAttestation);
                break;
            case "it becomes too old":
                Next(24 * 90);
                break;
            case "the answer was for another destination":
                confirmed.StandingBasis = _fixture.StandingFor("UA").Basis;
                break;
            case "custody did not answer":
                confirmed.StandingBasis = "";
                break;
        }
        var passed = (CustodyTransferred)_fixture.Do(CaseFixture.Consular, confirmed, Reactions.HandedOver).Changes[0].Event;
        Assert.Equal(breached, passed.Breaches.Contains(Invariant.D9));
    }

    private IReadOnlyList<ByteString> OpeningsWhere(string cause)
    {
        switch (cause)
        {
            case "he said nothing":
                break;
            case "he wants to go elsewhere":
                _fixture.Says("KP", "CH");
                break;
            case "he wants to stay":
                _fixture.Says("UA");
                break;
            case "he wants to wait":
                _fixture.Says();
                break;
            case "he accepts, and nothing is opened":
                _fixture.Says("KR");
                return [];
            case "he accepts, and another destination is opened":
                _fixture.Says("KR", "KP");
                return _fixture.Openings("KP");
            case "he accepts, and another statement is opened":
                _fixture.Says("KR");
                var earlier = _fixture.Openings("KR");
                Next();
                _fixture.Says("KR");
                return earlier;
            case "he accepts, and another prisoner's statement is opened":
                var request = _fixture.StatementRequest(CaseFixture.Icrc, "KR");
                (request.Prisoner, request.Etag) = (CaseFixture.Q, _fixture.Etag(CaseFixture.Icrc, CaseFixture.Q));
                _fixture.Record(_fixture.Wish(request, "KR"));
                var others = _fixture.Openings("KR").TakeLast(1).ToArray();
                _fixture.Says("KR");
                return others;
            case "he accepts, and an opening is cut short":
                _fixture.Says("KR");
                return [.. _fixture.Openings("KR").Select(o => ByteString.CopyFrom(o.Span[..31]))];
            case "he accepts, and changed his mind since":
                _fixture.Says("KR");
                Next();
                _fixture.Says("UA");
                break;
            case "he accepts, and it is too old":
                _fixture.Says("KR");
                Next(24 * 90);
                break;
            case "he accepts, and one who attests it revoked that":
                _fixture.Do(CaseFixture.Icrc, _fixture.RevokeRequest(_fixture.Says("KR")), Statements.RevokeAttestation);
                break;
            default:
                _fixture.Record(_fixture.StatementRequest(CaseFixture.Icrc, "KR"));
                break;
        }
        return _fixture.Openings("KR");
    }

    private DestinationStanding[] Answers(IReadOnlyList<ByteString> openings) =>
        [.. Enum.GetValues<Route>().Select(route => _fixture.StandingFor([_fixture.Prisoner], "KR", route, openings))];

    private Standing With(IReadOnlyList<ByteString> openings) =>
        _fixture.StandingFor([_fixture.Prisoner], "KR", Route.Article12Transfer, openings).Standing;

    private void Next(double hours = 1) => _fixture.RuleRunner.Now = _fixture.RuleRunner.Now.AddHours(hours);
}
