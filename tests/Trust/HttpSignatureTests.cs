using NSec.Cryptography;

namespace Ministries.Trust.Tests;

public class HttpSignatureTests
{
    // RFC 9421, B.1.4 (test-key-ed25519) and B.2.6.
    private const string PublicKeyText = "MCowBQYDK2VwAyEAJrQLj5P/89iXES9+vFgrIy29clF9CC/oPPsw3c5D0bs=";
    private const string B26Input =
        "sig-b26=(\"date\" \"@method\" \"@path\" \"@authority\" \"content-type\" \"content-length\");created=1618884473"
        + ";keyid=\"test-key-ed25519\"";
    private const string B26Signature =
        "sig-b26=:wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw==:";

    private static readonly Dictionary<string, string> B26Values = new()
    {
        ["date"] = "Tue, 20 Apr 2021 02:07:55 GMT",
        ["@method"] = "POST",
        ["@path"] = "/foo",
        ["@authority"] = "example.com",
        ["content-type"] = "application/json",
        ["content-length"] = "18",
    };

    private static readonly byte[] B26Key = PublicKey
        .Import(SignatureAlgorithm.Ed25519, Convert.FromBase64String(PublicKeyText), KeyBlobFormat.PkixPublicKey)
        .Export(KeyBlobFormat.RawPublicKey);

    [Fact]
    public void The_RFCs_own_Ed25519_case_verifies()
    {
        var fields = SignatureFields.Read(B26Input, B26Signature);
        Assert.NotNull(fields);
        Assert.Equal("test-key-ed25519", fields.KeyId);
        Assert.Equal(DateTimeOffset.FromUnixTimeSeconds(1618884473), fields.Created);
        Assert.True(fields.IsBy(B26Key, B26Values.GetValueOrDefault));
    }

    [Theory]
    [InlineData("date"), InlineData("@method"), InlineData("@path"), InlineData("@authority"), InlineData("content-type")]
    [InlineData("content-length")]
    public void A_covered_component_that_was_changed_or_left_out_breaks_the_signature(string component)
    {
        var fields = SignatureFields.Read(B26Input, B26Signature)!;
        Assert.False(fields.IsBy(B26Key, c => c == component ? B26Values[c] + "x" : B26Values[c]));
        Assert.False(fields.IsBy(B26Key, c => c == component ? null : B26Values[c]));
    }

    [Theory]
    [InlineData("created=1618884473", "created=1618884474")]
    [InlineData("test-key-ed25519", "test-key-ed25518")]
    [InlineData("\"date\" \"@method\"", "\"@method\" \"date\"")]
    public void A_parameter_that_was_changed_breaks_the_signature(string original, string changed)
    {
        var fields = SignatureFields.Read(B26Input.Replace(original, changed), B26Signature)!;
        Assert.False(fields.IsBy(B26Key, B26Values.GetValueOrDefault));
    }

    [Theory]
    [InlineData("sig1")]
    [InlineData("sig1=")]
    [InlineData("sig1=(")]
    [InlineData("sig1=(\"a\"")]
    [InlineData("sig1=(\"a\" \"a\");created=1")]
    [InlineData("sig1=(\"a\"\"b\");created=1")]
    [InlineData("sig1=(\"a\");created=1;created=1")]
    [InlineData("sig1=(\"a\");created=\"1\"")]
    [InlineData("sig1=(\"a\");keyid=1")]
    [InlineData("sig1=(\"a\");unheard=1")]
    [InlineData("sig1=(\"a\";sf);created=1")]
    [InlineData("sig1=(\"a\");created=1, sig2=(\"a\");created=1")]
    [InlineData("sig1=(\"a\");created=1 ")]
    [InlineData("Sig1=(\"a\");created=1")]
    [InlineData("sig1=(\"a\\\"\");created=1")]
    public void Fields_of_any_other_form_are_not_read(string input) =>
        Assert.Null(SignatureFields.Read(input, "sig1=:" + Convert.ToBase64String(new byte[64]) + ":"));

    [Theory]
    [InlineData("")]
    [InlineData("sig2=::")]
    [InlineData("sig1=::")]
    [InlineData("sig1=:AAAA:")]
    [InlineData("sig1=AAAA")]
    public void A_signature_of_another_label_or_length_is_not_read(string signature) =>
        Assert.Null(SignatureFields.Read("sig1=(\"a\");created=1", signature));

    [Fact]
    public void A_signed_request_verifies_and_covers_what_it_must()
    {
        using var key = Key.Create(SignatureAlgorithm.Ed25519);
        var body = new byte[] { 0, 0, 0, 0, 2, 10, 0 };
        var values = new Dictionary<string, string>
        {
            ["@method"] = "POST",
            ["@path"] = "/ministries.calllog.v1.CallLogService/LogCall",
            ["@authority"] = "127.0.0.1:7101",
            ["content-type"] = "application/grpc",
            ["content-digest"] = HttpSignature.ContentDigest(body),
        };
        var (now, tag) = (DateTimeOffset.FromUnixTimeSeconds(1742202000), HttpSignature.TagOf("ministries.example", "calllog"));
        var (input, signature) = HttpSignature.Sign(key, "kr-mfa-1", "request-00000001", now, TimeSpan.FromMinutes(1), tag, values);
        var fields = SignatureFields.Read(input, signature)!;
        Assert.Equal(HttpSignature.Covered, fields.Components);
        Assert.Equal((now, now.AddMinutes(1)), (fields.Created!.Value, fields.Expires!.Value));
        Assert.Equal(("kr-mfa-1", "request-00000001", "ministries/ministries.example/calllog"), (fields.KeyId, fields.Nonce, fields.Tag));
        Assert.True(fields.IsBy(key.PublicKey.Export(KeyBlobFormat.RawPublicKey), values.GetValueOrDefault));
        Assert.Equal(values["content-digest"], HttpSignature.ContentDigestOfFrame(body.AsSpan(5)));
    }
}
