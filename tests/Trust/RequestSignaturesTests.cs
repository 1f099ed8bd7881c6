using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Ministries.Errors.V1;
using Ministries.Ledger.V1;
using Ministries.Types.V1;
using NSec.Cryptography;

namespace Ministries.Trust.Tests;

public sealed class RequestSignaturesTests : IDisposable
{
    private const string Method = "ministries.calllog.v1.CallLogService/LogCall";
    private const string RequestId = "request-00000001";
    private const string Tag = "ministries/ministries.example/calllog";
    private static readonly DateTimeOffset Now = new(2025, 3, 17, 9, 0, 0, TimeSpan.Zero);
    private static readonly byte[] Message = [10, 16, .. System.Text.Encoding.ASCII.GetBytes(RequestId)];
    private readonly Key _key = Key.Create(SignatureAlgorithm.Ed25519);
    private readonly Agreement _agreement = StandardAgreement.Read();
    private readonly SigningKey _listed;

    public RequestSignaturesTests()
    {
        _listed = new SigningKey
        {
            Id = "kr-mfa-1",
            Use = SigningKeyUse.Requests,
            ValidFromTime = Now.AddDays(-1).ToTimestamp(),
            PublicKey = ByteString.CopyFrom(_key.PublicKey.Export(KeyBlobFormat.RawPublicKey)),
        };
        _agreement.Participants.Single(p => p.Id == "kr/mfa").SigningKeys.Add(_listed);
    }

    public void Dispose() => _key.Dispose();

    private RequestSignature Sign(
        Func<string, string>? input = null,
        string nonce = RequestId,
        DateTimeOffset? created = null,
        TimeSpan? life = null,
        string keyId = "kr-mfa-1",
        Key? key = null,
        byte[]? body = null,
        string tag = Tag,
        string type = "application/grpc",
        string authority = "calllog:7100"
    )
    {
        var values = new Dictionary<string, string>
        {
            ["@method"] = "POST",
            ["@path"] = "/" + Method,
            ["@authority"] = authority,
            ["content-type"] = type,
            ["content-digest"] = HttpSignature.ContentDigestOfFrame(body ?? Message),
        };
        var (fields, signature) = HttpSignature.Sign(
            key ?? _key,
            keyId,
            nonce,
            created ?? Now,
            life ?? TimeSpan.FromMinutes(2),
            tag,
            values
        );
        return new RequestSignature
        {
            Authority = values["@authority"],
            ContentType = values["content-type"],
            ContentDigest = values["content-digest"],
            SignatureInput = input?.Invoke(fields) ?? fields,
            Signature = signature,
        };
    }

    private Reason Judge(
        RequestSignature? signature,
        string caller = "kr/mfa",
        string method = Method,
        bool answered = false,
        string service = "calllog"
    )
    {
        var (refusal, whereAnswered) = RequestSignatures.Check(
            signature,
            method,
            Message,
            RequestId,
            _agreement.Participants.Single(p => p.Id == caller),
            new Permissions(_agreement),
            Now,
            service
        );
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
    [InlineData(";tag=\"ministries/ministries.example/calllog\"", "")]
    [InlineData("/ministries.example/calllog\"", "\"")]
    [InlineData(";tag=\"ministries/", ";tag=\"other/")]
    [InlineData(";tag=", ";alg=\"rsa-pss-sha512\";tag=")]
    [InlineData(";tag=", ";alg=\"ed25519\";tag=")]
    [InlineData("created=", "created=0")]
    [InlineData("created=1742202000;expires=1742202120", "expires=1742202120;created=1742202000")]
    [InlineData("created=1742202000", "created=0")]
    [InlineData("expires=1742202120", "expires=253402300799")]
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
        Assert.Equal(
            Reason.SignatureWrong,
            Judge(
                Sign(input =>
                    input.Replace($"expires={Now.AddMinutes(2).ToUnixTimeSeconds()}", $"expires={Now.AddMinutes(3).ToUnixTimeSeconds()}")
                )
            )
        );

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
        _agreement.Participants.Single(p => p.Id == "service/calllog").Addresses[0] = "calllog:7101";
        Assert.Equal(Reason.SignatureWrong, Of("calllog"));

        Reason Of(string service) =>
            RequestSignatures
                .Check(
                    Sign(),
                    Method,
                    Message,
                    RequestId,
                    _agreement.Participants.Single(p => p.Id == "kr/mfa"),
                    new Permissions(_agreement),
                    Now,
                    service
                )
                .WhereAnswered?.Reason
            ?? Reason.Unspecified;
    }

    [Fact]
    public void A_signature_holds_for_one_service_of_one_trust_domain_whatever_the_agreement_says_of_addresses()
    {
        Assert.Equal(Reason.Unspecified, Judge(Sign()));
        Assert.Equal(Reason.SignatureWrong, Judge(Sign(), service: "custody"));
        Assert.Equal(Reason.SignatureWrong, Judge(Sign(), service: "custody", answered: true));
        Assert.Equal(Reason.SignatureWrong, Judge(Sign(tag: "ministries/other.example/calllog")));
        Assert.Equal(Reason.SignatureWrong, Judge(Sign(input: i => i.Replace("/calllog", "/custody")), service: "custody"));
    }

    // Each of them is signed as it stands: what is refused is the form.
    [Theory]
    [InlineData("application/grpc+json"), InlineData("application/grpc; charset=utf-8"), InlineData("application/gr\u00fcc")]
    [InlineData("Application/grpc"), InlineData("application/grpc "), InlineData("application/grpc,application/grpc"), InlineData("")]
    public void A_content_type_of_another_form_is_refused_even_where_it_is_signed(string type) =>
        Assert.Equal(Reason.SignatureIncomplete, Judge(Sign(type: type)));

    [Theory]
    [InlineData(""), InlineData("Calllog:7100"), InlineData("calllog:7100 "), InlineData("c\u00e4lllog"), InlineData("user@calllog:7100")]
    [InlineData("calllog:7100,calllog:7100"), InlineData("calllog:7100\n")]
    public void An_authority_of_another_form_is_refused_even_where_it_is_signed(string authority) =>
        Assert.Equal(Reason.SignatureIncomplete, Judge(Sign(authority: authority)));

    /// <summary>What other implementations would write, or read without complaint: base64 in another form, header fields that a proxy
    /// or a library joined, folded or gave twice, parameters of other types of RFC 8941.</summary>
    [Theory]
    [InlineData("padding bits that are set")]
    [InlineData("no padding"), InlineData("white space in base64"), InlineData("a line feed after base64"), InlineData("base64 for URLs")]
    [InlineData("hexadecimal digits"), InlineData("a second signature after a comma"), InlineData("the field twice, joined by a comma")]
    [
        InlineData("a folded line"),
        InlineData("a semicolon at the end"),
        InlineData("a space after a semicolon"),
        InlineData("a parameter of the signature")
    ]
    [InlineData("two spaces between components"), InlineData("an escaped quotation mark"), InlineData("a number with a sign")]
    [
        InlineData("a number with a decimal point"),
        InlineData("a label in capitals"),
        InlineData("another label"),
        InlineData("no-break space")
    ]
    public void Fields_that_others_write_or_read_are_refused_before_they_are_kept(string what)
    {
        var good = Sign();
        var (bytes, input) = (good.Signature[6..^1], good.SignatureInput);
        (good.SignatureInput, good.Signature) = what switch
        {
            "padding bits that are set" => (input, $"sig1=:{bytes[..85]}{(char)(bytes[85] + 1)}==:"),
            "no padding" => (input, $"sig1=:{bytes.TrimEnd('=')}:"),
            "white space in base64" => (input, $"sig1=:{bytes[..40]} {bytes[40..]}:"),
            "a line feed after base64" => (input, $"sig1=:{bytes}\n:"),
            "base64 for URLs" => (input, $"sig1=:-_{bytes[2..]}:"),
            "hexadecimal digits" => (input, $"sig1=:{Convert.ToHexString(Convert.FromBase64String(bytes))}:"),
            "a second signature after a comma" => ($"{input}, sig2=();created=1", $"sig1=:{bytes}:, sig2=:{bytes}:"),
            "the field twice, joined by a comma" => ($"{input}, {input}", $"sig1=:{bytes}:, sig1=:{bytes}:"),
            "a folded line" => (input.Replace(";keyid", ";\r\n keyid"), good.Signature),
            "a semicolon at the end" => ($"{input};", good.Signature),
            "a space after a semicolon" => (input.Replace(";keyid", "; keyid"), good.Signature),
            "a parameter of the signature" => (input, $"{good.Signature};x=1"),
            "two spaces between components" => (input.Replace("\" \"@path", "\"  \"@path"), good.Signature),
            "an escaped quotation mark" => (input.Replace("kr-mfa-1", "kr-mfa-1\\\""), good.Signature),
            "a number with a sign" => (input.Replace("created=", "created=+"), good.Signature),
            "a number with a decimal point" => (input.Replace(";expires", ".0;expires"), good.Signature),
            "a label in capitals" => ($"SIG1{input[4..]}", $"SIG1{good.Signature[4..]}"),
            "another label" => ($"sig2{input[4..]}", $"sig2{good.Signature[4..]}"),
            _ => (input.Replace("kr-mfa-1", "kr-mfa-1\u00a0"), good.Signature),
        };
        Assert.Contains(Judge(good), (Reason[])[Reason.SignatureMissing, Reason.SignatureIncomplete]);
    }

    [Fact]
    public void Another_body_than_the_signed_one_is_refused() => Assert.Equal(Reason.ContentDigestWrong, Judge(Sign(body: [10, 0])));

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
