using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Ministries.Errors.V1;
using Ministries.Ledger.V1;
using Ministries.Trust;
using Ministries.Types.V1;
using NSec.Cryptography;

namespace Ministries.Trust.Tests;

public sealed class RequestSignaturesTests : IDisposable
{
    private const string Method = "ministries.calllog.v1.CallLogService/LogCall";
    private const string RequestId = "request-00000001";
    private static readonly DateTimeOffset Now = new(2025, 3, 17, 9, 0, 0, TimeSpan.Zero);
    private static readonly byte[] Message = [10, 16, .. System.Text.Encoding.ASCII.GetBytes(RequestId)];
    private readonly Key _key = Key.Create(SignatureAlgorithm.Ed25519);
    private readonly Agreement _agreement = StandardAgreement.Read();
    private readonly SigningKey _listed;

    public RequestSignaturesTests()
    {
        _listed = new SigningKey
        {
            Id = "kr-mfa-1", Use = SigningKeyUse.Requests, ValidFromTime = Now.AddDays(-1).ToTimestamp(),
            PublicKey = ByteString.CopyFrom(_key.PublicKey.Export(KeyBlobFormat.RawPublicKey)),
        };
        _agreement.Participants.Single(p => p.Id == "kr/mfa").SigningKeys.Add(_listed);
    }

    public void Dispose() => _key.Dispose();

    private RequestSignature Sign(
        Func<string, string>? input = null, string nonce = RequestId, DateTimeOffset? created = null, TimeSpan? life = null,
        string keyId = "kr-mfa-1", Key? key = null, byte[]? body = null)
    {
        var values = new Dictionary<string, string>
        {
            ["@method"] = "POST", ["@path"] = "/" + Method, ["@authority"] = "calllog:7100",
            ["content-type"] = "application/grpc", ["content-digest"] = HttpSignature.ContentDigestOfFrame(body ?? Message),
        };
        var (fields, signature) = HttpSignature.Sign(
            key ?? _key, keyId, nonce, created ?? Now, life ?? TimeSpan.FromMinutes(2), values);
        return new RequestSignature
        {
            Authority = values["@authority"], ContentType = values["content-type"], ContentDigest = values["content-digest"],
            SignatureInput = input?.Invoke(fields) ?? fields, Signature = signature,
        };
    }

    private Reason Judge(RequestSignature? signature, string caller = "kr/mfa", string method = Method, bool answered = false)
    {
        var (refusal, whereAnswered) = RequestSignatures.Check(
            signature, method, Message, RequestId, _agreement.Participants.Single(p => p.Id == caller),
            new Permissions(_agreement), Now);
        return (answered ? whereAnswered : refusal)?.Reason ?? Reason.Unspecified;
    }

    [Fact]
    public void A_callers_own_signature_over_the_request_is_accepted() => Assert.Equal(Reason.Unspecified, Judge(Sign()));

    [Fact]
    public void An_unsigned_request_is_refused() => Assert.Equal(Reason.SignatureMissing, Judge(null));

    [Theory]
    [InlineData("\"@method\" ", "")]
    [InlineData("\"@path\" ", "")]
    [InlineData("\"@authority\" ", "")]
    [InlineData("\"content-type\" ", "")]
    [InlineData(" \"content-digest\"", "")]
    [InlineData(";tag=\"ministries\"", "")]
    [InlineData(";tag=\"ministries\"", ";tag=\"other\"")]
    [InlineData(";tag=\"ministries\"", ";tag=\"ministries\";alg=\"rsa-pss-sha512\"")]
    [InlineData(";nonce=\"request-00000001\"", "")]
    [InlineData(";keyid=\"kr-mfa-1\"", "")]
    public void A_signature_that_leaves_out_what_it_must_cover_is_refused(string part, string instead) =>
        Assert.Equal(Reason.SignatureIncomplete, Judge(Sign(input => input.Replace(part, instead))));

    [Theory]
    [InlineData("created=", "createt=")]
    [InlineData("(\"@method\"", "[\"@method\"")]
    public void A_signature_that_cannot_be_read_is_refused(string part, string instead) =>
        Assert.Equal(Reason.SignatureMissing, Judge(Sign(input => input.Replace(part, instead))));

    [Fact]
    public void A_parameter_that_was_altered_after_signing_is_refused() =>
        Assert.Equal(Reason.SignatureWrong, Judge(Sign(input => input.Replace(
            $"expires={Now.AddMinutes(2).ToUnixTimeSeconds()}", $"expires={Now.AddMinutes(3).ToUnixTimeSeconds()}"))));

    [Fact]
    public void A_component_that_was_altered_after_signing_is_refused()
    {
        Assert.Equal(Reason.SignatureWrong, Judge(Sign(), method: Method + "2"));
        var authority = Sign();
        authority.Authority = "custody:7100";
        Assert.Equal(Reason.SignatureWrong, Judge(authority));
        var type = Sign();
        type.ContentType = "application/grpc+proto";
        Assert.Equal(Reason.SignatureWrong, Judge(type));
    }

    [Fact]
    public void One_for_another_address_than_the_services_own_is_refused_where_the_agreement_says_which_they_are()
    {
        Assert.Equal(Reason.Unspecified, Of("calllog"));
        _agreement.Participants.Single(p => p.Id == "service/calllog").Addresses.Add("calllog:7100");
        _agreement.Participants.Single(p => p.Id == "service/custody").Addresses.Add("custody:7100");
        Assert.Equal(Reason.Unspecified, Of("calllog"));
        Assert.Equal(Reason.SignatureWrong, Of("custody"));

        Reason Of(string service) => RequestSignatures.Check(
            Sign(), Method, Message, RequestId, _agreement.Participants.Single(p => p.Id == "kr/mfa"), new Permissions(_agreement), Now,
            service).WhereAnswered?.Reason ?? Reason.Unspecified;
    }

    [Fact]
    public void Another_body_than_the_signed_one_is_refused() =>
        Assert.Equal(Reason.ContentDigestWrong, Judge(Sign(body: [10, 0])));

    [Fact]
    public void A_key_that_is_not_listed_or_is_for_something_else_is_refused()
    {
        Assert.Equal(Reason.SignatureKeyUnknown, Judge(Sign(keyId: "kr-mfa-9")));
        _listed.Use = SigningKeyUse.Approvals;
        Assert.Equal(Reason.SignatureKeyUnknown, Judge(Sign()));
    }

    [Fact]
    public void Another_participants_key_is_refused() => Assert.Equal(Reason.SignatureNotOfCaller, Judge(Sign(), caller: "ua/mfa"));

    [Fact]
    public void A_forged_signature_under_a_listed_keys_name_is_refused()
    {
        using var other = Key.Create(SignatureAlgorithm.Ed25519);
        Assert.Equal(Reason.SignatureWrong, Judge(Sign(key: other)));
    }

    [Fact]
    public void A_key_that_is_not_yet_valid_or_no_longer_or_revoked_is_refused()
    {
        _listed.ValidFromTime = Now.AddSeconds(1).ToTimestamp();
        Assert.Equal(Reason.SignatureKeyNotValid, Judge(Sign()));
        _listed.ValidFromTime = null;
        _listed.ValidUntilTime = Now.ToTimestamp();
        Assert.Equal(Reason.SignatureKeyNotValid, Judge(Sign()));
        _listed.ValidUntilTime = null;
        _listed.RevokeTime = Now.ToTimestamp();
        Assert.Equal(Reason.SignatureKeyNotValid, Judge(Sign()));
    }

    [Fact]
    public void A_signature_that_is_expired_or_from_the_future_or_holds_too_long_is_refused()
    {
        Assert.Equal(Reason.SignatureExpired, Judge(Sign(created: Now.AddMinutes(-3))));
        Assert.Equal(Reason.SignatureExpired, Judge(Sign(created: Now.AddSeconds(31))));
        Assert.Equal(Reason.SignatureExpired, Judge(Sign(life: TimeSpan.FromMinutes(6))));
        Assert.Equal(Reason.SignatureExpired, Judge(Sign(life: TimeSpan.Zero)));
        Assert.Equal(Reason.Unspecified, Judge(Sign(created: Now.AddSeconds(29))));
    }

    [Fact]
    public void A_request_that_has_its_answer_gets_it_after_the_signature_expired_and_the_key_was_revoked_but_not_when_forged()
    {
        var old = Sign(created: Now.AddHours(-3));
        Assert.Equal(Reason.SignatureExpired, Judge(old));
        Assert.Equal(Reason.Unspecified, Judge(old, answered: true));
        _listed.RevokeTime = Now.AddHours(-1).ToTimestamp();
        Assert.Equal(Reason.Unspecified, Judge(old, answered: true));
        old.ContentDigest = HttpSignature.ContentDigestOfFrame([10, 0]);
        Assert.Equal(Reason.ContentDigestWrong, Judge(old, answered: true));
    }

    [Fact]
    public void A_nonce_other_than_the_request_id_is_refused() =>
        Assert.Equal(Reason.SignatureNonceWrong, Judge(Sign(nonce: "request-00000002")));
}
