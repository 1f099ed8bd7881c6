using Google.Protobuf;

namespace Ministries.Hosting.Tests;

/// <summary>A signature that one verifier would accept and another refuse never becomes an entry. With one such write in its history, a
/// case could never be proved again.</summary>
public sealed class SignatureFormTests : IAsyncLifetime
{
    private readonly Running _running = new();

    public ValueTask InitializeAsync() => _running.InitializeAsync();

    public ValueTask DisposeAsync() => _running.DisposeAsync();

    public static readonly TheoryData<string, string> Forms = new()
    {
        { "bits set in the padding", "SIGNATURE_MISSING" },
        { "white space in base64", "SIGNATURE_MISSING" },
        { "no padding", "SIGNATURE_MISSING" },
        { "a semicolon at the end", "SIGNATURE_MISSING" },
        { "the field twice", "SIGNATURE_MISSING" },
        { "a number with a leading zero", "SIGNATURE_INCOMPLETE" },
        { "another label", "SIGNATURE_INCOMPLETE" },
        { "a content type beyond ASCII", "SIGNATURE_INCOMPLETE" },
        { "a content type with a parameter", "SIGNATURE_INCOMPLETE" },
        { "no service in the tag", "SIGNATURE_INCOMPLETE" },
        { "another service in the tag", "SIGNATURE_WRONG" },
        { "another trust domain in the tag", "SIGNATURE_WRONG" },
    };

    [Theory]
    [MemberData(nameof(Forms))]
    public async Task A_signature_that_is_not_canonical_is_refused_and_not_recorded(string what, string reason)
    {
        var message = Running.Request();
        var frame = Running.FrameOf(message.ToByteArray());
        var type = what switch
        {
            "a content type beyond ASCII" => "application/grpc; x=\u00fc",
            "a content type with a parameter" => "application/grpc; x=y",
            _ => "application/grpc",
        };
        var tag = what switch
        {
            "no service in the tag" => "ministries",
            "another service in the tag" => Running.Tag.Replace("calllog", "custody"),
            "another trust domain in the tag" => Running.Tag.Replace("ministries.example", "other.example"),
            _ => Running.Tag,
        };
        var signed = _running.Signed(message.RequestId, frame, tag: tag, type: type).ToDictionary(h => h.Name, h => h.Value);
        var base64 = signed["Signature"]["sig1=:".Length..^1];
        signed["Signature"] = what switch
        {
            "bits set in the padding" => $"sig1=:{base64[..85]}{(char)(base64[85] + 1)}==:",
            "white space in base64" => $"sig1=:{base64[..8]} {base64[8..]}:",
            "no padding" => $"sig1=:{base64.TrimEnd('=')}:",
            "another label" => $"sig2=:{base64}:",
            _ => signed["Signature"],
        };
        signed["Signature-Input"] = what switch
        {
            "a semicolon at the end" => signed["Signature-Input"] + ";",
            "the field twice" => $"{signed["Signature-Input"]}, {signed["Signature-Input"]}",
            "a number with a leading zero" => signed["Signature-Input"].Replace("created=", "created=0"),
            "another label" => "sig2" + signed["Signature-Input"][4..],
            _ => signed["Signature-Input"],
        };
        if (type != "application/grpc")
            signed["Content-Type"] = type;
        var size = _running.Ledger.Size;
        Running.Is(reason, await _running.Post(frame, headers: [.. signed.Select(h => (h.Key, h.Value))]));
        Assert.Equal(size, _running.Ledger.Size);
        // The same request in canonical form is accepted.
        Assert.Equal(0, (await _running.Post(frame, headers: _running.Signed(message.RequestId, frame))).Code);
        Assert.Equal(size + 1, _running.Ledger.Size);
    }
}
