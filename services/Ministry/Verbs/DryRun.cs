using System.Buffers.Binary;
using System.Net.Http.Headers;
using System.Text;
using System.Text.Json.Nodes;
using Google.Protobuf;
using Ministries.Trust;

namespace Ministries.Ministry;

/// <summary>Shows what would be signed, by the code that signs. Nothing is sent.</summary>
internal static class DryRun
{
    /// <summary>Shows a write.</summary>
    /// <returns>The exit code.</returns>
    public static int Show(Connection connection, TypedVerb verb, IMessage request)
    {
        var client = connection.Client;
        if (client.RequestsKey is not { } key)
            throw new FormatException("there is no key that signs requests: --requests-key");
        var address = connection.AddressesOf(verb.Service).Addresses[0];
        var uri = new Uri(address, $"/{Contract.NameOf(verb.Method)}");
        var kept = new Kept();
        using var signing = new SigningHandler(
            key.Key,
            key.Id,
            HttpSignature.TagOf(client.Agreement.TrustDomain, verb.Service),
            connection.Shell.Time
        )
        {
            InnerHandler = kept,
        };
        using var invoker = new HttpMessageInvoker(signing);
        using var message = new HttpRequestMessage(HttpMethod.Post, uri) { Content = new ByteArrayContent(Frame(request)) };
        message.Content.Headers.ContentType = new MediaTypeHeaderValue("application/grpc");
        invoker.SendAsync(message, CancellationToken.None).GetAwaiter().GetResult().Dispose();
        var input = Header(message, "Signature-Input");
        var digest = Header(message, "Content-Digest");
        var fields = SignatureFields.Read(input, Header(message, "Signature"))!;
        var values = new Dictionary<string, string>
        {
            ["@method"] = "POST",
            ["@path"] = uri.AbsolutePath,
            ["@authority"] = SigningHandler.AuthorityOf(uri),
            ["content-type"] = "application/grpc",
            ["content-digest"] = digest,
        };
        var text = Encoding.ASCII.GetString(
            HttpSignature.Base(fields.Components.Select(c => KeyValuePair.Create(c, values[c])), fields.Parameters)
        );
        var data = new JsonObject
        {
            ["service"] = verb.Service,
            ["method"] = Contract.NameOf(verb.Method),
            ["request"] = Answers.InJson(request),
            ["content_digest"] = digest,
            ["signature_base"] = text,
            ["key"] = key.Id,
            ["signature_input"] = input,
            ["signature"] = Header(message, "Signature"),
        };
        if (Answers.WriteData(connection, data))
            return ExitCodes.Done;
        var screen = connection.Screen;
        screen.Line(new Span("nothing is sent", Style.Bold), $"; this would be signed with {key.Id}");
        new Fields(screen, whole: true).Write(request, 2);
        screen.Line(new Span("content-digest: ", Style.Dim), digest);
        screen.Line(new Span("signature base (RFC 9421), as of now:", Style.Dim));
        foreach (var line in text.Split('\n'))
            screen.Line($"  {line}");
        return ExitCodes.Done;
    }

    private static byte[] Frame(IMessage request)
    {
        var body = request.ToByteArray();
        var frame = new byte[5 + body.Length];
        BinaryPrimitives.WriteUInt32BigEndian(frame.AsSpan(1), (uint)body.Length);
        body.CopyTo(frame, 5);
        return frame;
    }

    private static string Header(HttpRequestMessage message, string name) => message.Headers.GetValues(name).Single();

    // Takes the signed request, which goes nowhere.
    private sealed class Kept : HttpMessageHandler
    {
        protected override Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken) =>
            Task.FromResult(new HttpResponseMessage());
    }
}
