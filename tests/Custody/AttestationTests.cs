using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Ministries.Contracts;
using Ministries.Custody.V1;
using Ministries.Errors.V1;
using Ministries.Trust;
using Ministries.Types.V1;

namespace Ministries.Custody.Tests;

/// <summary>Each who was present signs the same content with a key of his own, for which his participant vouches (D7).</summary>
public class AttestationTests
{
    private readonly CaseFixture _fixture = new();
    private readonly string _statement;

    public AttestationTests()
    {
        _fixture.Register();
        _statement = _fixture.Record(_fixture.StatementRequest(CaseFixture.Icrc, "KR"));
    }

    [Fact]
    public void It_takes_effect_when_all_who_must_have_signed_the_same_content()
    {
        _fixture.Attest(_statement, AttesterRole.Interviewer, AttesterRole.Interpreter);
        Assert.False(_fixture.Stands("KR"));
        _fixture.Attest(_statement, AttesterRole.Observer);
        Assert.True(_fixture.Stands("KR"));
        Assert.All(
            _fixture.StatementOf(_statement).Attestations,
            a => Assert.Equal((64, a.Official), (a.Signature.Length, a.OfficialKey.Official))
        );
    }

    [Theory]
    [InlineData("the digest of another statement", Reason.AttestationOfOtherContent)]
    [InlineData("a digest cut short", Reason.AttestationOfOtherContent)]
    [InlineData("signed for another role", Reason.AttestationWrong)]
    [InlineData("signed by another official", Reason.AttestationWrong)]
    [InlineData("signed in another trust domain", Reason.AttestationWrong)]
    [InlineData("a signature cut short", Reason.AttestationWrong)]
    [InlineData("the key of another official", Reason.OfficialKeyNotValid)]
    [InlineData("a key that is not yet valid", Reason.OfficialKeyNotValid)]
    [InlineData("a key that ended", Reason.OfficialKeyNotValid)]
    [InlineData("a key that holds for too long", Reason.OfficialKeyNotValid)]
    [InlineData("a key that was changed after it was vouched for", Reason.OfficialKeyNotValid)]
    [InlineData("a key for which another participant vouches", Reason.OfficialKeyNotValid)]
    [InlineData("a key for which a revoked key vouches", Reason.OfficialKeyNotValid)]
    [InlineData("a key for which a key for approvals vouches", Reason.OfficialKeyNotValid)]
    public void What_is_not_signed_as_it_must_be_is_refused_by_name(string what, Reason expected)
    {
        var request = _fixture.AttestRequest(_statement, AttesterRole.Observer, "i-3");
        switch (what)
        {
            case "the digest of another statement":
                var other = _fixture.Record(_fixture.StatementRequest(CaseFixture.Icrc, "KR"));
                request = _fixture.AttestRequest(other, AttesterRole.Observer, "i-3");
                (request.Statement, request.Etag) = (_statement, _fixture.StatementEtag(CaseFixture.Icrc, _statement));
                break;
            case "a digest cut short":
                request.Digest = ByteString.CopyFrom(request.Digest.Span[..31]);
                break;
            case "signed for another role":
                request.Signature = _fixture.AttestRequest(_statement, AttesterRole.Guardian, "i-3").Signature;
                break;
            case "signed by another official":
                request.Signature = Signed("i-1").Signature;
                break;
            case "signed in another trust domain":
                request.Signature = Signed("i-3", domain: "elsewhere.example").Signature;
                break;
            case "a signature cut short":
                request.Signature = ByteString.CopyFrom(request.Signature.Span[..63]);
                break;
            case "the key of another official":
                request.OfficialKey = _fixture.AttestRequest(_statement, AttesterRole.Observer, "i-1").OfficialKey;
                break;
            case "a key that is not yet valid":
                request = Signed("i-3", from: 1, until: 30);
                break;
            case "a key that ended":
                request = Signed("i-3", from: -30, until: 0);
                break;
            case "a key that holds for too long":
                request = Signed("i-3", from: -1, until: 400);
                break;
            case "a key that was changed after it was vouched for":
                request.OfficialKey.ValidUntilTime.Seconds++;
                break;
            case "a key for which another participant vouches":
                request = Signed("i-3", by: CaseFixture.Swiss);
                break;
            default:
                var agreement = _fixture.RuleRunner.Permissions.Agreement.Clone();
                var key = agreement.Participants.Single(p => p.Id == CaseFixture.Icrc).SigningKeys[^1];
                if (what.Contains("revoked", StringComparison.Ordinal))
                    key.RevokeTime = _fixture.Ago(1);
                else
                    key.Use = SigningKeyUse.Approvals;
                _fixture.RuleRunner.Permissions = new Permissions(agreement);
                break;
        }
        var decision = _fixture.Play(CaseFixture.Icrc, request, Statements.AttestStatement).Decision;
        Assert.Equal(expected, decision.Refusal?.Reason);
        Assert.Equal(
            expected switch
            {
                Reason.AttestationOfOtherContent => "digest",
                Reason.AttestationWrong => "signature",
                _ => "official_key",
            },
            decision.Refusal?.Metadata?["field"]
        );
        Assert.Empty(_fixture.StatementOf(_statement).Attestations);
    }

    [Fact]
    public void The_digest_is_the_one_that_another_implementation_computed()
    {
        var statement = new Statement
        {
            Statement_ = "statement_1",
            Case = "case_1",
            Prisoner = "pris_1",
            Participant = "icrc",
            RecordedFor = "UA",
            StatementTime = new Timestamp { Seconds = 1742202000, Nanos = 5 },
            ExpireTime = new Timestamp { Seconds = 1749978000 },
            Language = "ko",
            Interpreter = "i-2",
            Interview = new Interview { WithoutWitnesses = true },
            Commitments = { Enumerable.Range(0, 16).Select(i => Filled((byte)i)) },
        };
        Assert.Equal(
            "EB0F93C5E0E6D9EAFEB73508F3937D07E78D937E1B2FCD3C0F8422AA98E6DF64",
            Convert.ToHexString(StatementDigests.Of(statement, Filled(9)).Span)
        );
    }

    [Theory]
    [InlineData("case")]
    [InlineData("prisoner")]
    [InlineData("statement")]
    [InlineData("participant")]
    [InlineData("recorded_for")]
    [InlineData("statement_time")]
    [InlineData("expire_time")]
    [InlineData("language")]
    [InlineData("interpreter")]
    [InlineData("under_18")]
    [InlineData("interview")]
    [InlineData("classification")]
    [InlineData("commitments")]
    [InlineData("content")]
    public void The_digest_covers_all_that_is_attested(string field)
    {
        var statement = _fixture.StatementOf(_statement);
        var changed = statement.Clone();
        var content = statement.Content.Digest;
        switch (field)
        {
            case "content":
                content = Filled(1);
                break;
            case "commitments":
                changed.Commitments[3] = Filled(1);
                break;
            case "interview":
                changed.Interview.PlaceKind = PlaceKind.Transit;
                break;
            case "classification":
                changed.Classification = new Classification { Level = Level.Secret };
                break;
            case "under_18":
                changed.Under18 = true;
                break;
            case "statement_time":
                changed.StatementTime.Nanos++;
                break;
            case "expire_time":
                changed.ExpireTime.Seconds++;
                break;
            default:
                var accessor = Statement.Descriptor.FindFieldByName(field).Accessor;
                accessor.SetValue(changed, (string)accessor.GetValue(changed) + "x");
                break;
        }
        Assert.Equal(statement.Digest, StatementDigests.Of(statement, statement.Content.Digest));
        Assert.NotEqual(statement.Digest, StatementDigests.Of(changed, content));
    }

    [Fact]
    public void An_attestation_is_revoked_with_a_reason_and_details_for_those_to_whom_they_are_sealed()
    {
        _fixture.Attest(_statement, AttesterRole.Observer);
        var revoke = _fixture.RevokeRequest(_statement, AttesterRole.Observer);
        (revoke.Reason, revoke.RevokeDetails) = (RevocationReason.InterviewNotFree, CaseFixture.Seal(CaseFixture.Hq));
        _fixture.Do(CaseFixture.Icrc, revoke, Statements.RevokeAttestation);
        Assert.All(
            (string[])[CaseFixture.Hq, CaseFixture.Icrc],
            who =>
            {
                var seen = StatementVisibility.Show(_fixture.StatementOf(_statement), _fixture.Reader(who)).Attestations[0];
                Assert.Equal(RevocationReason.InterviewNotFree, seen.RevokeReason);
                Assert.NotEmpty(seen.RevokeDetails.Content);
            }
        );
        _fixture.Admit(CaseFixture.Swiss, Part.ProtectingPower);
        var other = StatementVisibility.Show(_fixture.StatementOf(_statement), _fixture.Reader(CaseFixture.Swiss)).Attestations[0];
        Assert.Empty(other.RevokeDetails.Content);
        Assert.Null(_fixture.Prisoner.Statements[0].Attestations[0].RevokeDetails);
        revoke.Reason = RevocationReason.Unspecified;
        Assert.Contains(Validation.Check(revoke), f => f.Field == "reason");
    }

    [Fact]
    public void No_code_of_a_revocation_tells_a_wish()
    {
        string[] words = ["mind", "wish", "want", "accept", "destination", "objection"];
        Assert.DoesNotContain(
            System.Enum.GetNames<RevocationReason>(),
            name => words.Any(w => name.Contains(w, StringComparison.OrdinalIgnoreCase))
        );
    }

    private static ByteString Filled(byte value) => ByteString.CopyFrom([.. Enumerable.Repeat(value, 32)]);

    // An attestation as observer by i-3, with the key of an official and other terms.
    private AttestStatementRequest Signed(
        string keyOf,
        double from = -1,
        double until = 30,
        string by = CaseFixture.Icrc,
        string? domain = null
    )
    {
        var request = _fixture.AttestRequest(_statement, AttesterRole.Observer, "i-3");
        var permissions = _fixture.RuleRunner.Permissions;
        using var key = CaseFixture.KeyOf($"{CaseFixture.Icrc} {keyOf}");
        using var requests = CaseFixture.KeyOf(by);
        var now = _fixture.RuleRunner.Now;
        var vouched = Attestations.CertifyKey(
            permissions.Agreement.TrustDomain,
            permissions.Participant(by)!,
            requests,
            "i-3",
            key.PublicKey,
            now.AddDays(from),
            now.AddDays(until)
        );
        Attestations.Sign(request, request.Digest, domain ?? permissions.Agreement.TrustDomain, CaseFixture.Icrc, key, vouched);
        return request;
    }
}
