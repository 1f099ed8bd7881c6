using System.Net.Security;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using Google.Protobuf;
using Ministries.Fixtures;
using Ministries.Hosting.Bus;
using Ministries.Ledger.V1;
using Ministries.Trust;
using Ministries.Types.V1;

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
        var context = SslStreamCertificateContext.Create(certificate, null, offline: true);
        var seal = new MessageSeal(() => context, (_, _, _) => version == 1, TimeProvider.System, () => version);
        var message = Sealed(seal);
        Assert.True(seal.Bears(message));
        version = 2;
        Assert.False(seal.Bears(message));
    }

    [Theory]
    [InlineData(0, true)]
    [InlineData(2, true)]
    [InlineData(2, false)]
    public void A_seal_counts_if_an_authority_of_the_service_issued_its_certificate_directly_or_not(int intermediates, bool own)
    {
        var now = DateTimeOffset.UtcNow;
        using var root = Chains.Make("root", null, now);
        using var other = Chains.Make("root", null, now);
        var chain = Chains.Below(own ? root : other, intermediates, "spiffe://ministries.example/service/calllog/system", now);
        var context = SslStreamCertificateContext.Create(chain[^1], [.. chain[1..^1]], offline: true);
        var known = new Authorities(
            new Agreement
            {
                TrustDomain = "ministries.example",
                Participants =
                {
                    new Participant { Id = "service/calllog", AuthorityCertificates = { root.ExportCertificatePem() } },
                },
            }
        );
        var seal = new MessageSeal(
            () => context,
            (_, shown, sent) => known.Identify(shown, sent, CertificateUse.Client, now).Identity is not null,
            TimeProvider.System,
            () => 1
        );
        Assert.Equal(own, seal.Bears(Sealed(seal)));
    }

    private static EventMessage Sealed(MessageSeal seal)
    {
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
        return EventKind
            .Of(recorded.Event.Type)!
            .Make([new PublishedEvent(recorded, new Dictionary<string, ulong>())], [], seal.Sign(recorded));
    }
}
