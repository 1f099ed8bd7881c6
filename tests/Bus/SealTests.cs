using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using Google.Protobuf;
using Ministries.Hosting.Bus;
using Ministries.Ledger.V1;

namespace Ministries.Bus.Tests;

/// <summary>Whose seal a message bears.</summary>
public sealed class SealTests
{
    [Fact]
    public void A_certificate_that_a_version_denies_is_refused_from_the_next_message_on()
    {
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        using var certificate = new CertificateRequest("CN=calllog", key, HashAlgorithmName.SHA256).CreateSelfSigned(
            DateTimeOffset.UtcNow.AddDays(-1),
            DateTimeOffset.UtcNow.AddDays(1)
        );
        var version = 1ul;
        var seal = new MessageSeal(() => certificate, (_, _) => version == 1, TimeProvider.System, () => version);
        var recorded = new RecordedEvent
        {
            Origin = new EventOrigin
            {
                Service = "calllog",
                Position = 7,
                Sequence = 3,
            },
            Event = new Event
            {
                Type = "ministries.calllog.v1.CallLogged",
                Data = ByteString.CopyFromUtf8("x"),
                Case = "case",
            },
            Time = "2025-03-17T09:00:00Z",
            Leaf = ByteString.CopyFrom(new byte[32]),
        };
        var message = EventKind
            .Of(recorded.Event.Type)!
            .Make([new PublishedEvent(recorded, new Dictionary<string, ulong>())], [], seal.Sign(recorded));
        Assert.True(seal.Bears(message));
        version = 2;
        Assert.False(seal.Bears(message));
    }
}
