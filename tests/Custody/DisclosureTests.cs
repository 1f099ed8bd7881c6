using Google.Protobuf;
using Ministries.Custody.V1;
using Ministries.Errors.V1;
using Ministries.Types.V1;
using CorrectRecordRequest = Ministries.Custody.V1.CorrectRecordRequest;

namespace Ministries.Custody.Tests;

/// <summary>To whom content is sealed (D13) and Article 122 data go (D15).</summary>
public class DisclosureTests
{
    private readonly CaseFixture _fixture = new();

    public DisclosureTests()
    {
        _fixture.Admit(CaseFixture.Ru, Part.RequestingState);
        _fixture.Admit(CaseFixture.Swiss, Part.ProtectingPower);
        _fixture.Register();
    }

    public static TheoryData<string, string, bool> Recipients =>
        new()
        {
            { CaseFixture.Hq, CaseFixture.Icrc, true },
            { CaseFixture.Hq, CaseFixture.Swiss, true },
            { CaseFixture.Hq, CaseFixture.Hq, true },
            { CaseFixture.Hq, CaseFixture.Mfa, true },
            { CaseFixture.Hq, CaseFixture.Ru, false },
            { CaseFixture.Hq, CaseFixture.Kr, false },
            { CaseFixture.Hq, "kp/mfa", false },
            { CaseFixture.Hq, "operator", false },
            { CaseFixture.Icrc, CaseFixture.Hq, true },
            { CaseFixture.Icrc, CaseFixture.Icrc, true },
            { CaseFixture.Icrc, CaseFixture.Swiss, true },
            { CaseFixture.Icrc, CaseFixture.Kr, false },
            { CaseFixture.Kr, CaseFixture.Hq, true },
            { CaseFixture.Kr, CaseFixture.Unification, true },
            { CaseFixture.Kr, CaseFixture.Icrc, true },
            { CaseFixture.Kr, CaseFixture.Ru, false },
        };

    [Theory, MemberData(nameof(Recipients))]
    public void D15_content_is_sealed_to_whom_it_may_be_told_alone(string who, string recipient, bool allowed)
    {
        var expected = allowed ? Reason.Unspecified : Reason.RecipientNotReleased;
        var seal = CaseFixture.Seal(CaseFixture.Icrc, recipient);
        if (recipient == CaseFixture.Icrc)
            seal = CaseFixture.Seal(recipient);
        if (who == CaseFixture.Hq)
            Assert.Equal(
                expected,
                _fixture.Try(who, new RegisterPrisonerRequest(_fixture.RegisterRequest()) { Identity = seal }, Prisoners.RegisterPrisoner)
            );
        if (who == CaseFixture.Icrc)
            Assert.Equal(
                expected,
                _fixture.Try(
                    who,
                    new RecordStatementRequest(_fixture.StatementRequest(who, "KR")) { Content = seal },
                    Statements.RecordStatement
                )
            );
        if (who == CaseFixture.Kr)
            Assert.Equal(
                expected,
                _fixture.Try(who, new RecordClaimRequest(_fixture.ClaimRequest(who, "KR", "KR")) { Evidence = seal }, Prisoners.RecordClaim)
            );
    }

    /// <summary>A Protecting Power is neutral, and its own state may be the one on which he depends.</summary>
    [Theory]
    [InlineData("nobody says so", Reason.Unspecified)]
    [InlineData("a claim", Reason.RecipientNotReleased)]
    [InlineData("a claim under a linked reference", Reason.RecipientNotReleased)]
    [InlineData("a claim under the kept reference", Reason.RecipientNotReleased)]
    [InlineData("a claim that was corrected", Reason.Unspecified)]
    [InlineData("a claim by family", Reason.Unspecified)]
    public void D15_nothing_is_sealed_to_a_protecting_power_of_his_power_of_origin(string what, Reason expected)
    {
        _fixture.Register(CaseFixture.Q);
        var under = what == "a claim under the kept reference" ? CaseFixture.Q : CaseFixture.P;
        var claim = _fixture.ClaimRequest(CaseFixture.Hq, "UA", "CH");
        (claim.Prisoner, claim.Etag) = (under, _fixture.Etag(CaseFixture.Hq, under));
        claim.Basis = what == "a claim by family" ? ClaimBasis.Family : ClaimBasis.Nationality;
        if (what != "nobody says so")
            _fixture.Do(CaseFixture.Hq, claim, Prisoners.RecordClaim);
        if (what == "a claim that was corrected")
            _fixture.Correct(_fixture.Prisoner.Claims[0].Position);
        if (what.Contains("reference", StringComparison.Ordinal))
            _fixture.Link();
        var (reference, linked) = what switch
        {
            "a claim under a linked reference" => (CaseFixture.Q, ""),
            "a claim under the kept reference" => (CaseFixture.P, CaseFixture.P),
            _ => (CaseFixture.P, ""),
        };
        // Under a reference that is no longer kept nothing but notices is written.
        if (linked.Length == 0)
        {
            var seal = CaseFixture.Seal(CaseFixture.Icrc, CaseFixture.Swiss);
            var fitness = new RecordFitnessRequest(_fixture.FitnessRequest()) { Prisoner = reference, Findings = seal };
            fitness.Etag = _fixture.Etag(CaseFixture.Hq, reference);
            Assert.Equal(expected, _fixture.Try(CaseFixture.Hq, fitness, Prisoners.RecordFitness));
        }
        var notice = _fixture.NotifyRequest(1);
        (notice.Prisoner, notice.Etag) = (reference, _fixture.Etag(CaseFixture.Hq, reference));
        notice.Data = CaseFixture.Seal(CaseFixture.Icrc, CaseFixture.Swiss);
        notice.Releases.Add(new Release { Recipient = CaseFixture.Swiss, Reason = "protection" });
        Assert.Equal(
            expected == Reason.Unspecified ? Reason.Unspecified : Reason.DataWithheld,
            _fixture.Try(CaseFixture.Hq, notice, Prisoners.NotifyBureau)
        );
    }

    /// <summary>A state that claims him learns by no refusal who else does, nor which powers were named (D22).</summary>
    [Theory]
    [InlineData("nobody says so", Reason.Unspecified)]
    [InlineData("a claim of another", Reason.Unspecified)]
    [InlineData("a notification names it", Reason.Unspecified)]
    [InlineData("its own claim", Reason.RecipientNotReleased)]
    public void D22_who_claims_him_is_refused_a_recipient_for_nothing_of_which_it_may_not_know(string what, Reason expected)
    {
        var claim = _fixture.ClaimRequest(what == "its own claim" ? CaseFixture.Kr : CaseFixture.Hq, "UA", "CH");
        claim.Claimant = what == "its own claim" ? "KR" : "UA";
        if (what.Contains("claim", StringComparison.Ordinal))
            _fixture.Do(what == "its own claim" ? CaseFixture.Kr : CaseFixture.Hq, claim, Prisoners.RecordClaim);
        if (what == "a notification names it")
            _fixture.Do(
                CaseFixture.Hq,
                new NotifyBureauRequest(_fixture.NotifyRequest(1)) { PowersOfOrigin = { "CH" } },
                Prisoners.NotifyBureau
            );
        var evidence = new RecordClaimRequest(_fixture.ClaimRequest(CaseFixture.Kr, "KR", "KR"))
        {
            Evidence = CaseFixture.Seal(CaseFixture.Icrc, CaseFixture.Swiss),
        };
        Assert.Equal(expected, _fixture.Try(CaseFixture.Kr, evidence, Prisoners.RecordClaim));
    }

    /// <summary>Such as a national society of his power of origin.</summary>
    [Theory]
    [InlineData(false, false, Reason.ReleaseNotNamed)]
    [InlineData(false, true, Reason.DataWithheld)]
    [InlineData(true, true, Reason.Unspecified)]
    public void D15_an_observer_that_acts_for_a_state_is_told_as_that_state_is(bool released, bool named, Reason expected)
    {
        const string Society = "kp/society";
        var agreement = CaseFixture.Agreement();
        agreement.Participants.Add(
            new Participant
            {
                Id = Society,
                Name = Society,
                Kind = ParticipantKind.NeutralObserver,
                State = "KP",
                Clearance = Level.Secret,
            }
        );
        var fixture = new CaseFixture();
        fixture.RuleRunner.Permissions = new Permissions(agreement);
        fixture.Register();
        var request = released ? fixture.ReleaseRequest(1) : fixture.NotifyRequest(1);
        request.Data = CaseFixture.Seal(CaseFixture.Icrc, Society);
        if (named)
            request.Releases.Add(new Release { Recipient = Society, Reason = "article-122" });
        Assert.Equal(expected, fixture.Try(CaseFixture.Hq, request, Prisoners.NotifyBureau));
    }

    [Fact]
    public void D15_a_claim_under_the_kept_reference_withholds_what_is_notified_under_the_other()
    {
        _fixture.Register(CaseFixture.Q);
        var claim = _fixture.ClaimRequest(CaseFixture.Hq, "UA", "RU");
        (claim.Prisoner, claim.Etag) = (CaseFixture.Q, _fixture.Etag(CaseFixture.Hq, CaseFixture.Q));
        _fixture.Do(CaseFixture.Hq, claim, Prisoners.RecordClaim);
        _fixture.Link();
        var notice = _fixture.NotifyRequest(1);
        notice.Data = CaseFixture.Seal(CaseFixture.Icrc, CaseFixture.Ru);
        notice.Releases.Add(new Release { Recipient = CaseFixture.Ru, Reason = "article-122" });
        Assert.Equal(Reason.DataWithheld, _fixture.Try(CaseFixture.Hq, notice, Prisoners.NotifyBureau));
    }

    public static TheoryData<string> Writes =>
        ["identity", "particulars", "evidence", "content", "grounds", "findings", "corrected", "explanation"];

    [Theory, MemberData(nameof(Writes))]
    public void D15_no_write_of_custody_seals_to_a_power_of_origin_and_the_refusal_names_the_field(string field)
    {
        var (hq, seal) = (CaseFixture.Hq, CaseFixture.Seal(CaseFixture.Icrc, CaseFixture.Ru));
        var registration = _fixture.Prisoner.Statuses[0].Position;
        var decision = field switch
        {
            "identity" => Play(new RegisterPrisonerRequest(_fixture.RegisterRequest()) { Identity = seal }, Prisoners.RegisterPrisoner),
            "particulars" => Play(
                new RecordProceedingsRequest(_fixture.ProceedingsRequest()) { Particulars = seal },
                Prisoners.RecordProceedings
            ),
            "evidence" => Play(new RecordClaimRequest(_fixture.ClaimRequest(hq, "RU", "RU")) { Evidence = seal }, Prisoners.RecordClaim),
            "content" => Play(
                new RecordStatementRequest(_fixture.StatementRequest(hq, "KR")) { Content = seal },
                Statements.RecordStatement
            ),
            "grounds" => Play(new RecordRiskAssessmentRequest(_fixture.RiskRequest()) { Grounds = seal }, Prisoners.RecordRiskAssessment),
            "findings" => Play(new RecordFitnessRequest(_fixture.FitnessRequest()) { Findings = seal }, Prisoners.RecordFitness),
            "corrected" => Play(
                new CorrectRecordRequest(_fixture.CorrectRequest(registration)) { Identity = seal },
                Prisoners.CorrectRecord
            ),
            _ => Play(new CorrectRecordRequest(_fixture.CorrectRequest(registration)) { Explanation = seal }, Prisoners.CorrectRecord),
        };
        Assert.Equal(Reason.RecipientNotReleased, decision.Refusal?.Reason);
        Assert.Equal(field == "corrected" ? "identity" : field, decision.Refusal!.Metadata!["field"]);
        Assert.DoesNotContain("ru", string.Join(' ', decision.Refusal.Metadata.Values), StringComparison.OrdinalIgnoreCase);

        Decision Play<T, TResponse>(T request, Rule<T, TResponse> rule)
            where T : class, IMessage<T>, new()
            where TResponse : class, IMessage<TResponse>, new() => _fixture.Play(hq, request, rule).Decision;
    }

    [Fact]
    public void D15_after_a_transfer_content_is_for_the_power_that_holds_him()
    {
        _fixture.HandOver();
        Assert.Equal(Reason.Unspecified, Said(CaseFixture.Kr));
        Assert.Equal(Reason.RecipientNotReleased, Said(CaseFixture.Hq));

        Reason Said(string recipient) =>
            _fixture.Try(
                CaseFixture.Icrc,
                new RecordStatementRequest(_fixture.StatementRequest(CaseFixture.Icrc, "CH")) { Content = CaseFixture.Seal(recipient) },
                Statements.RecordStatement
            );
    }

    // Whom somebody claims (nationality) and whom the request names, the decision, who receives (each as a named release), what comes of
    // it.
    [Theory]
    [InlineData("", "KP", Disclosure.Withheld, "", Reason.Unspecified)]
    [InlineData("", "KP", Disclosure.Withheld, CaseFixture.Kr, Reason.Unspecified)]
    [InlineData("", "KP,RU", Disclosure.Withheld, CaseFixture.Ru, Reason.DataWithheld)]
    [InlineData("", "RU,KP", Disclosure.Withheld, CaseFixture.Ru, Reason.DataWithheld)]
    [InlineData("RU", "KP", Disclosure.Withheld, CaseFixture.Ru, Reason.DataWithheld)]
    [InlineData("RU", "KP", Disclosure.Withheld, CaseFixture.Kr, Reason.Unspecified)]
    [InlineData("", "", Disclosure.Withheld, "", Reason.Unspecified)]
    [InlineData("", "", Disclosure.Withheld, CaseFixture.Mfa, Reason.Unspecified)]
    [InlineData("", "", Disclosure.Withheld, CaseFixture.Swiss, Reason.Unspecified)]
    [InlineData("", "", Disclosure.Withheld, CaseFixture.Kr, Reason.DataWithheld)]
    [InlineData("", "", Disclosure.Withheld, "kp/mfa", Reason.ParticipantUnknown)]
    [InlineData("", "", Disclosure.Released, "", Reason.PowerOfOriginMissing)]
    [InlineData("RU", "", Disclosure.Released, CaseFixture.Ru, Reason.PowerOfOriginMissing)]
    [InlineData("", "RU", Disclosure.Released, CaseFixture.Ru, Reason.Unspecified)]
    [InlineData("", "KP,RU", Disclosure.Released, CaseFixture.Ru, Reason.Unspecified)]
    [InlineData("RU", "KP", Disclosure.Released, "", Reason.Unspecified)]
    [InlineData("RU", "KP", Disclosure.Released, CaseFixture.Ru, Reason.DataWithheld)]
    [InlineData("RU", "KP", Disclosure.Released, CaseFixture.Kr, Reason.Unspecified)]
    public void D15_data_reach_no_power_of_origin_but_those_to_which_they_are_released(
        string claimed,
        string named,
        Disclosure disclosure,
        string recipient,
        Reason expected
    )
    {
        if (claimed.Length > 0)
            _fixture.Do(CaseFixture.Hq, _fixture.ClaimRequest(CaseFixture.Hq, claimed, claimed), Prisoners.RecordClaim);
        var request = _fixture.NotifyRequest(1);
        request.PowersOfOrigin.Clear();
        request.PowersOfOrigin.Add(named.Split(',', StringSplitOptions.RemoveEmptyEntries));
        request.Disclosure = disclosure;
        if (disclosure == Disclosure.Released)
            (request.ConsultedObserver, request.ReviewTime) = ("", null);
        if (recipient.Length > 0)
        {
            request.Data.Recipients.Add(recipient);
            request.Releases.Add(new Release { Recipient = recipient, Reason = "family" });
        }
        Assert.Equal(expected, _fixture.Try(CaseFixture.Hq, request, Prisoners.NotifyBureau));
    }

    [Theory]
    [InlineData(ClaimBasis.Nationality, true)]
    [InlineData(ClaimBasis.ArmedForces, true)]
    [InlineData(ClaimBasis.SideFoughtOn, true)]
    [InlineData(ClaimBasis.Constitution, false)]
    [InlineData(ClaimBasis.Residence, false)]
    [InlineData(ClaimBasis.Family, false)]
    public void D15_a_power_of_origin_is_whom_a_claim_that_was_not_corrected_makes_one(ClaimBasis basis, bool origin)
    {
        var claim = _fixture.ClaimRequest(CaseFixture.Ru, "RU", "RU");
        claim.Basis = basis;
        _fixture.Do(CaseFixture.Ru, claim, Prisoners.RecordClaim);
        Assert.Equal(origin ? Reason.DataWithheld : Reason.Unspecified, Told());
        _fixture.Correct(_fixture.Prisoner.Claims[0].Position, CaseFixture.Ru);
        _fixture.Status(CustodyState.Escaped);
        Assert.Equal(Reason.Unspecified, Told(3));

        Reason Told(uint occurrence = 1)
        {
            var request = _fixture.NotifyRequest(occurrence);
            request.Data.Recipients.Add(CaseFixture.Ru);
            request.Releases.Add(new Release { Recipient = CaseFixture.Ru, Reason = "family" });
            return _fixture.Try(CaseFixture.Hq, request, Prisoners.NotifyBureau);
        }
    }

    [Theory]
    [InlineData(CaseFixture.Icrc, Reason.Unspecified)]
    [InlineData(CaseFixture.Swiss, Reason.Unspecified)]
    [InlineData("", Reason.ObserverNotConsulted)]
    [InlineData(CaseFixture.Hq, Reason.ObserverNotConsulted)]
    [InlineData(CaseFixture.Kr, Reason.ObserverNotConsulted)]
    [InlineData("unknown", Reason.ObserverNotConsulted)]
    public void D15_to_withhold_an_observer_is_consulted(string who, Reason expected)
    {
        var request = _fixture.NotifyRequest(1);
        request.ConsultedObserver = who;
        Assert.Equal(expected, _fixture.Try(CaseFixture.Hq, request, Prisoners.NotifyBureau));
    }

    [Fact]
    public void D15_the_observer_who_was_consulted_is_party_to_the_case()
    {
        var fixture = new CaseFixture();
        fixture.Register();
        var request = fixture.NotifyRequest(1);
        request.ConsultedObserver = CaseFixture.Swiss;
        Assert.Equal(Reason.ObserverNotConsulted, fixture.Try(CaseFixture.Hq, request, Prisoners.NotifyBureau));
    }

    [Theory]
    [InlineData(-1, Reason.TimeOutOfRange)]
    [InlineData(0, Reason.TimeOutOfRange)]
    [InlineData(1, Reason.Unspecified)]
    [InlineData(180 * 24, Reason.Unspecified)]
    [InlineData(180 * 24 + 1, Reason.TimeOutOfRange)]
    public void D15_a_decision_to_withhold_has_a_date_of_review(double hours, Reason expected)
    {
        var request = _fixture.NotifyRequest(1);
        request.ReviewTime = null;
        Assert.Equal(Reason.TimeOutOfRange, _fixture.Try(CaseFixture.Hq, request, Prisoners.NotifyBureau));
        request.ReviewTime = _fixture.In(hours);
        Assert.Equal(expected, _fixture.Try(CaseFixture.Hq, request, Prisoners.NotifyBureau));
    }

    [Fact]
    public void D15_what_is_released_has_neither()
    {
        foreach (
            var wrong in (Action<NotifyBureauRequest>[])[r => r.ConsultedObserver = CaseFixture.Icrc, r => r.ReviewTime = _fixture.In(24)]
        )
        {
            var request = _fixture.ReleaseRequest(1);
            wrong(request);
            Assert.Equal(Reason.RequestInvalid, _fixture.Try(CaseFixture.Hq, request, Prisoners.NotifyBureau));
        }
    }

    [Fact]
    public void D15_the_record_shows_the_decision_as_it_was_made()
    {
        var request = _fixture.NotifyRequest(1);
        request.PowerOfOrigin = "RU";
        _fixture.Do(CaseFixture.Hq, request, Prisoners.NotifyBureau);
        var shown = _fixture.Seen(CaseFixture.Icrc).Notifications[0];
        Assert.Equal(["RU", "KP"], shown.PowersOfOrigin);
        Assert.Equal(("RU", CaseFixture.Icrc, _fixture.In(24 * 30)), (shown.PowerOfOrigin, shown.ConsultedObserver, shown.ReviewTime));
    }
}
