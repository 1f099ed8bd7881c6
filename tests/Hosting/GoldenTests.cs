using Google.Protobuf;
using Ministries.CallLog.V1;
using Ministries.Ledger.V1;

namespace Ministries.Hosting.Tests;

/// <summary>One request as other libraries wrote it (<c>Golden/make</c>): with explicit default values by protobufjs, as Java and Go write
/// it, and with fields in another order. The bytes that were sent are the bytes that were signed and are kept.</summary>
public sealed class GoldenTests : IAsyncLifetime
{
    private readonly Running _running = new();

    public ValueTask InitializeAsync() => _running.InitializeAsync();

    public ValueTask DisposeAsync() => _running.DisposeAsync();

    private static byte[] Golden(string name) => File.ReadAllBytes(Path.Combine(AppContext.BaseDirectory, "Golden", $"{name}.bin"));

    [Fact]
    public void The_golden_requests_are_one_request_in_three_forms()
    {
        var (js, java, go, parts) = (Golden("protobufjs"), Golden("java"), Golden("go"), Golden("go-parts"));
        var request = LogCallRequest.Parser.ParseFrom(java);
        Assert.All([js, go, parts], other => Assert.Equal(request, LogCallRequest.Parser.ParseFrom(other)));
        Assert.Equal(java, go);
        Assert.Equal(java, request.ToByteArray());
        Assert.NotEqual(java, js);
        Assert.NotEqual(java, parts);
        // protobufjs writes the first attendee's official, its third field, as an empty text.
        Assert.True(js.AsSpan().IndexOf("\u0012\u0008minister\u001a\0"u8) > 0);
        Assert.Equal(WireFormat.MakeTag(11, WireFormat.WireType.LengthDelimited), (uint)parts[0]);
    }

    [Theory]
    [InlineData("protobufjs", "java")]
    [InlineData("java", "protobufjs")]
    [InlineData("go", "go-parts")]
    [InlineData("go-parts", "go")]
    public async Task A_request_of_another_library_is_kept_to_the_byte_and_is_another_request_in_other_bytes(string name, string other)
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
        // The same bytes get the same answer. The same content in other bytes is another request under the same id.
        Assert.Equal(0, (await _running.Post(frame, headers: signed)).Code);
        var again = Running.FrameOf(Golden(other));
        Running.Is("REQUEST_ID_REUSED", await _running.Post(again, headers: _running.Signed(id, again)));
        // And the signature of one is not valid for the other.
        Running.Is("CONTENT_DIGEST_WRONG", await _running.Post(again, headers: signed));
        Assert.Equal(position + 1, _running.Ledger.Size);
    }
}
