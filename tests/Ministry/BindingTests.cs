using System.Buffers.Binary;
using System.Net;
using System.Security.Cryptography.X509Certificates;
using Google.Protobuf;
using Ministries.Ledger.V1;
using Ministries.Trust;
using Ministries.Types.V1;
using static Ministries.Ministry.Tests.Services;

namespace Ministries.Ministry.Tests;

/// <summary>A signature is valid for one service. <c>LedgerService</c> is the same at all services, and this agreement lists no addresses,
/// so only the signature itself names the service.</summary>
public class BindingTests(Services services) : IClassFixture<Services>
{
    [Fact]
    public async Task A_signed_permission_is_accepted_by_the_service_for_which_it_was_signed_and_by_no_other()
    {
        Assert.All(
            JsonParser
                .Default.Parse<Agreement>(await File.ReadAllTextAsync(Path.Combine(services.Folder, "agreement.json"), Cancel))
                .Participants,
            p => Assert.Empty(p.Addresses)
        );
        foreach (var meant in (string[])["custody", "calllog", "consular"])
        {
            var message = new PermitDisclosureRequest
            {
                RequestId = Guid.NewGuid().ToString(),
                Actor = Services.Actor,
                Position = 0,
            }.ToByteArray();
            var frame = new byte[message.Length + 5];
            BinaryPrimitives.WriteInt32BigEndian(frame.AsSpan(1), message.Length);
            message.CopyTo(frame, 5);
            var signed = Signed(meant, PermitDisclosureRequest.Parser.ParseFrom(message).RequestId, frame);
            foreach (var called in (string[])["calllog", "custody", "consular"])
            {
                var reason = await Post(called, frame, signed);
                // At the right service, the request reaches the rule, which refuses because the entry is not an observer's.
                if (called == meant)
                    Assert.DoesNotContain("SIGNATURE", reason);
                else
                    Assert.Equal("SIGNATURE_WRONG", reason);
            }
        }
    }

    private const string Permit = "/ministries.ledger.v1.LedgerService/PermitDisclosure";
    private const string Authority = "services.example:443";

    private Dictionary<string, string> Signed(string service, string requestId, byte[] frame)
    {
        using var key = Fixtures.Signing.KeyIn(Path.Combine(services.Folder, "icrc", "requests.key"));
        var digest = HttpSignature.ContentDigest(frame);
        var (input, signature) = HttpSignature.Sign(
            key,
            "icrc/requests-1",
            requestId,
            DateTimeOffset.UtcNow,
            TimeSpan.FromMinutes(1),
            HttpSignature.TagOf(StandardAgreement.Read().TrustDomain, service),
            new Dictionary<string, string>
            {
                ["@method"] = "POST",
                ["@path"] = Permit,
                ["@authority"] = Authority,
                ["content-type"] = "application/grpc",
                ["content-digest"] = digest,
            }
        );
        return new()
        {
            ["Content-Digest"] = digest,
            ["Signature-Input"] = input,
            ["Signature"] = signature,
        };
    }

    // Sends the same bytes to any service; only the connection differs.
    private async Task<string> Post(string service, byte[] frame, Dictionary<string, string> signed)
    {
        using var certificate = X509Certificate2.CreateFromPemFile(
            Path.Combine(services.Folder, "icrc", "system.pem"),
            Path.Combine(services.Folder, "icrc", "system.key")
        );
        using var handler = new SocketsHttpHandler();
        handler.SslOptions.LocalCertificateSelectionCallback = (_, _, _, _, _) => certificate;
        handler.SslOptions.RemoteCertificateValidationCallback = (_, _, _, _) => true;
        using var client = new HttpClient(handler);
        using var request = new HttpRequestMessage(HttpMethod.Post, new Uri(services.Addresses[service], Permit))
        {
            Version = HttpVersion.Version20,
            VersionPolicy = HttpVersionPolicy.RequestVersionExact,
            Content = new ByteArrayContent(frame),
        };
        request.Headers.Host = Authority;
        request.Headers.TE.Add(new("trailers"));
        request.Content.Headers.ContentType = new("application/grpc");
        foreach (var (name, value) in signed)
            request.Headers.TryAddWithoutValidation(name, value);
        using var response = await client.SendAsync(request, Cancel);
        await response.Content.ReadAsByteArrayAsync(Cancel);
        var details = response
            .Headers.Concat(response.TrailingHeaders)
            .FirstOrDefault(h => h.Key == "grpc-status-details-bin")
            .Value?.Single();
        Assert.True(details is not null, $"{service} answered {response.StatusCode} without a reason");
        return Google
            .Rpc.Status.Parser.ParseFrom(Convert.FromBase64String(details.PadRight((details.Length + 3) / 4 * 4, '=')))
            .Details[0]
            .Unpack<Google.Rpc.ErrorInfo>()
            .Reason;
    }
}
