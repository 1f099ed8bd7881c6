using System.Globalization;
using System.Net.Http.Headers;
using Google.Protobuf;
using Ministries.Keys;
using Ministries.Types.V1;

namespace Ministries.Trust;

/// <summary>
/// Signs every write that a gRPC client sends: put it before the channel's handler, and the generated client stays as it is.
/// A write is a call whose first field is a request id, as the contracts declare it; its nonce is that id.
/// </summary>
/// <param name="key">The participant's key for requests, and its id in the agreement; asked for at each write.</param>
/// <param name="tag">Which service the channel leads to (<see cref="HttpSignature.TagOf"/>): a signature is valid only there.</param>
/// <param name="time">The clock.</param>
public sealed class SigningHandler(Func<(Signer Key, string Id)> key, string tag, TimeProvider time) : DelegatingHandler
{
    /// <summary>Signs with one key.</summary>
    /// <param name="key">The participant's key for requests.</param>
    /// <param name="keyId">The key's id in the agreement.</param>
    /// <param name="tag">Which service the channel leads to (<see cref="HttpSignature.TagOf"/>): a signature is valid only there.</param>
    /// <param name="time">The clock.</param>
    public SigningHandler(Signer key, string keyId, string tag, TimeProvider time)
        : this(() => (key, keyId), tag, time) { }

    /// <summary>Signs with the key for requests of which the agreement lists the public half.</summary>
    /// <param name="key">The key.</param>
    /// <param name="owner">The participant whose key it is.</param>
    /// <param name="tag">Which service the channel leads to (<see cref="HttpSignature.TagOf"/>): a signature is valid only there.</param>
    /// <param name="time">The clock.</param>
    /// <exception cref="FormatException">The agreement lists no such key of the participant.</exception>
    public SigningHandler(Signer key, Participant owner, string tag, TimeProvider time)
        : this(key, SigningKeys.Listed(owner, SigningKeyUse.Requests, key).Id, tag, time) { }

    private static readonly TimeSpan Life = TimeSpan.FromMinutes(2);

    /// <inheritdoc/>
    protected override Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken) =>
        Methods.At(request.RequestUri!.AbsolutePath) is { Writes: true } && request.Content is { } content
            ? Send(request, content, cancellationToken)
            : base.SendAsync(request, cancellationToken);

    private async Task<HttpResponseMessage> Send(HttpRequestMessage request, HttpContent content, CancellationToken cancellationToken)
    {
        var uri = request.RequestUri!;
        // The frame is written once, signed as it is, and sent as it was signed.
        var frame = await content.ReadAsByteArrayAsync(cancellationToken);
        var type = content.Headers.ContentType?.ToString() ?? "application/grpc";
        var values = new Dictionary<string, string>
        {
            ["@method"] = request.Method.Method,
            ["@path"] = uri.AbsolutePath,
            ["@authority"] = request.Headers.Host ?? AuthorityOf(uri),
            ["content-type"] = type,
            ["content-digest"] = HttpSignature.ContentDigest(frame),
        };
        var own = key();
        var signed = HttpSignature.Sign(own.Key, own.Id, RequestIdIn(frame), time.GetUtcNow(), Life, tag, values);
        var body = new ByteArrayContent(frame);
        body.Headers.ContentType = MediaTypeHeaderValue.Parse(type);
        request.Content = body;
        request.Headers.TryAddWithoutValidation("Content-Digest", values["content-digest"]);
        request.Headers.TryAddWithoutValidation("Signature-Input", signed.Input);
        request.Headers.TryAddWithoutValidation("Signature", signed.Signature);
        return await base.SendAsync(request, cancellationToken);
    }

    /// <summary>The value of <c>@authority</c> (RFC 9421, 2.2.3): host in lower case, the port unless it is the scheme's own.
    /// </summary>
    public static string AuthorityOf(Uri uri) =>
        uri.IsDefaultPort
            ? uri.IdnHost.ToLowerInvariant()
            : string.Create(CultureInfo.InvariantCulture, $"{uri.IdnHost.ToLowerInvariant()}:{uri.Port}");

    private static string RequestIdIn(byte[] frame)
    {
        if (frame.Length < 5)
            return "";
        var input = new CodedInputStream(frame, 5, frame.Length - 5);
        for (var tag = input.ReadTag(); tag != 0; tag = input.ReadTag())
        {
            if (tag == WireFormat.MakeTag(1, WireFormat.WireType.LengthDelimited))
                return input.ReadString();
            input.SkipLastField();
        }
        return "";
    }
}
