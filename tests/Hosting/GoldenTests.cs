using Google.Protobuf;
using Ministries.CallLog.V1;
using Ministries.Ledger;
using Ministries.Ledger.V1;

namespace Ministries.Hosting.Tests;

/// <summary>One request as others' libraries wrote it (<c>Golden/make</c>): explicit default values of protobufjs, what Java and Go
/// write, and fields in another order. What was sent is what was signed, is what is kept.</summary>
public sealed class GoldenTests : IAsyncLifetime
{
    private readonly Running _running = new();

    public ValueTask InitializeAsync() => _running.InitializeAsync();

    public ValueTask DisposeAsync() => _running.DisposeAsync();

    private static byte[] Golden(string name) => File.ReadAllBytes(Path.Combine(AppContext.BaseDirectory, "Golden", $"{name}.bin"));

    [Fact]
    public void They_are_one_request_in_three_forms()
    {
        var (js, java, go, parts) = (Golden("protobufjs"), Golden("java"), Golden("go"), Golden("go-parts"));
        var request = LogCallRequest.Parser.ParseFrom(java);
        Assert.All([js, go, parts], other => Assert.Equal(request, LogCallRequest.Parser.ParseFrom(other)));
        Assert.Equal(java, go);
        Assert.Equal(java, request.ToByteArray());
        Assert.NotEqual(java, js);
        Assert.NotEqual(java, parts);
        // protobufjs says that the first attendee's official, its third field, is the empty text.
        Assert.True(js.AsSpan().IndexOf("\u0012\u0008minister\u001a\0"u8) > 0);
        Assert.Equal(WireFormat.MakeTag(11, WireFormat.WireType.LengthDelimited), (uint)parts[0]);
    }

    [Theory]
    [InlineData("protobufjs", "java")]
    [InlineData("java", "protobufjs")]
    [InlineData("go", "go-parts")]
    [InlineData("go-parts", "go")]
    public async Task What_another_library_wrote_and_signed_is_kept_to_the_byte_and_is_not_the_same_in_other_bytes(
        string name,
        string other
    )
    {
        var sent = Golden(name);
        var frame = Running.FrameOf(sent);
        var id = LogCallRequest.Parser.ParseFrom(sent).RequestId;
        var signed = _running.Signed(id, frame);
        Assert.Equal(0, (await _running.Post(frame, headers: signed)).Code);
        var position = _running.Ledger.Size - 1;
        var entry = (await _running.Ledger.ReadEntry(position, null, Running.Cancel))!.Entry;
        Assert.Equal(sent, entry.Parts.Single(p => p.Kind == PartKind.Request).Data.ToByteArray());
        var kept = RequestSignature.Parser.ParseFrom(entry.Parts.Single(p => p.Kind == PartKind.Signature).Data);
        Assert.Equal(signed.Select(s => s.Value), [kept.ContentDigest, kept.SignatureInput, kept.Signature]);
        // Again it gets its answer; the same content written otherwise is another request under the same id.
        Assert.Equal(0, (await _running.Post(frame, headers: signed)).Code);
        var again = Running.FrameOf(Golden(other));
        Running.Is("REQUEST_ID_REUSED", await _running.Post(again, headers: _running.Signed(id, again)));
        // And the one's signature is not the other's.
        Running.Is("CONTENT_DIGEST_WRONG", await _running.Post(again, headers: signed));
        Assert.Equal(position + 1, _running.Ledger.Size);
    }
}
