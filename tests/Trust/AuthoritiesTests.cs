using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using Ministries.Errors.V1;
using Ministries.Fixtures;
using Ministries.Types.V1;

namespace Ministries.Trust.Tests;

/// <summary>Whose a certificate is: by the chain of that participant's own authority, and by its one SPIFFE id.</summary>
public sealed class AuthoritiesTests : IDisposable
{
    private static readonly DateTimeOffset Now = new(2025, 3, 17, 9, 0, 0, TimeSpan.Zero);
    private const string System = "spiffe://ministries.example/kr/mfa/system";
    private static readonly Identified Stranger = new(null, Reason.CallerUnknown);
    private readonly CertificateAuthority _kr = CertificateAuthority.Create("kr", Now.AddYears(-1), Now.AddYears(9));
    private readonly CertificateAuthority _ua = CertificateAuthority.Create("ua", Now.AddYears(-1), Now.AddYears(9));
    private readonly CertificateAuthority _custody = CertificateAuthority.Create("custody", Now.AddYears(-1), Now.AddYears(9));

    public void Dispose()
    {
        _kr.Dispose();
        _ua.Dispose();
        _custody.Dispose();
    }

    public static TheoryData<string, Reason> Names =>
        new()
        {
            { "spiffe://ministries.example/kr/mfa/system", Reason.Unspecified },
            { "spiffe://ministries.example/kr/mfa/gateway-2", Reason.Unspecified },
            { "spiffe://ministries.example/ua/mfa/system", Reason.CallerUnknown },
            { "spiffe://ministries.example/kr/mfa", Reason.CallerUnknown },
            { "spiffe://ministries.example/kr/mfa/", Reason.CallerUnknown },
            { "spiffe://ministries.example/kr/mfa/a/b", Reason.CallerUnknown },
            { "spiffe://ministries.example/kr/nobody/system", Reason.CallerUnknown },
            { "spiffe://ministries.example/kr/MFA/system", Reason.CallerUnknown },
            { "spiffe://elsewhere.example/kr/mfa/system", Reason.CallerUnknown },
            { "https://ministries.example/kr/mfa/system", Reason.CallerUnknown },
        };

    [Theory]
    [MemberData(nameof(Names))]
    public void A_certificate_names_a_system_of_its_own_authority(string uri, Reason expected)
    {
        using var certificate = Issue(_kr, uri);
        Assert.Equal(expected, Identify(certificate).Refused);
    }

    [Fact]
    public void The_identity_is_the_participants_and_the_systems()
    {
        using var certificate = Issue(_kr, "spiffe://ministries.example/kr/mfa/system");
        var identity = Identify(certificate).Identity!;
        Assert.Equal(("kr/mfa", "kr/mfa/system"), (identity.Participant.Id, identity.System));
        Assert.Equal(Now.AddHours(1), identity.Until);
    }

    [Fact]
    public void Two_URIs_are_nobodys()
    {
        using var certificate = Issue(_kr, "spiffe://ministries.example/kr/mfa/system", "spiffe://ministries.example/kr/mfa/other");
        Assert.Equal(Reason.CallerUnknown, Identify(certificate).Refused);
    }

    [Fact]
    public void No_URI_is_nobodys()
    {
        using var certificate = Issue(_kr);
        Assert.Equal(Reason.CallerUnknown, Identify(certificate).Refused);
    }

    [Fact]
    public void An_authority_that_names_another_participant_is_not_believed_though_known()
    {
        using var certificate = Issue(_ua, "spiffe://ministries.example/kr/mfa/system");
        Assert.Equal(Stranger, Identify(certificate));
    }

    [Fact]
    public void A_stranger_is_not_vouched_for()
    {
        using var other = CertificateAuthority.Create("kr", Now.AddYears(-1), Now.AddYears(9));
        using var certificate = Issue(other, "spiffe://ministries.example/kr/mfa/system");
        Assert.Equal(Stranger, Identify(certificate));
    }

    [Fact]
    public void An_authoritys_own_certificate_is_no_systems()
    {
        using var root = Chains.Make("kr", null, Now, System, authority: true);
        using var authorities = Known(a => a.Participants[0].AuthorityCertificates.Add(root.ExportCertificatePem()));
        Assert.Equal(Stranger, authorities.Identify(root, [], CertificateUse.Client, Now));
    }

    // How many authorities there are between the root and the system; whether the root and the certificate itself are sent too.
    public static TheoryData<int, bool, bool> Lengths =>
        new()
        {
            { 0, false, true },
            { 0, true, true },
            { 1, false, true },
            { 2, false, true },
            { 2, true, true },
            { 3, false, false },
            { 60, true, false },
        };

    [Theory]
    [MemberData(nameof(Lengths))]
    public void A_chain_has_at_most_four_certificates(int intermediates, bool allSent, bool known)
    {
        using var root = Chains.Make("root", null, Now);
        var chain = Chains.Below(root, intermediates, System, Now);
        using var authorities = Known(a => a.Participants[0].AuthorityCertificates.Add(root.ExportCertificatePem()));
        var identified = authorities.Identify(chain[^1], allSent ? chain : chain[1..^1], CertificateUse.Client, Now);
        Assert.Equal((known, known ? "kr/mfa" : null), (identified.Issued, identified.Identity?.Participant.Id));
    }

    [Fact]
    public void More_certificates_than_a_chain_has_are_not_looked_at_though_a_chain_is_among_them()
    {
        using var root = Chains.Make("root", null, Now);
        var chain = Chains.Below(root, 1, System, Now);
        using var authorities = Known(a => a.Participants[0].AuthorityCertificates.Add(root.ExportCertificatePem()));
        var padding = Enumerable.Range(0, 3).Select(i => Chains.Make($"padding {i}", null, Now)).ToArray();
        Assert.True(authorities.Identify(chain[^1], [chain[1], .. padding[..2]], CertificateUse.Client, Now).Issued);
        Assert.Equal(Stranger, authorities.Identify(chain[^1], [chain[1], .. padding], CertificateUse.Client, Now));
    }

    [Fact]
    public void A_name_like_an_authoritys_is_not_its_key()
    {
        using var root = Chains.Make("root", null, Now);
        using var same = Chains.Make("root", null, Now);
        using var authorities = Known(a => a.Participants[0].AuthorityCertificates.Add(root.ExportCertificatePem()));
        var chain = Chains.Below(same, 1, System, Now);
        Assert.Equal(Stranger, authorities.Identify(chain[^1], [chain[1], same], CertificateUse.Client, Now));
        // An intermediate authority's key that is larger than any in use is not verified with.
        using var large = RSA.Create(new RSAParameters { Modulus = [.. Enumerable.Repeat<byte>(0xff, 1024)], Exponent = [1, 0, 1] });
        var request = new CertificateRequest(new X500DistinguishedName("CN=authority 0"), new PublicKey(large), HashAlgorithmName.SHA256);
        using var costly = request.Create(
            root.SubjectName,
            X509SignatureGenerator.CreateForECDsa(root.GetECDsaPrivateKey()!),
            Now.AddHours(-1),
            Now.AddHours(1),
            [1]
        );
        Assert.Equal(Stranger, authorities.Identify(chain[^1], [costly], CertificateUse.Client, Now));
    }

    // What is wrong with a certificate that the participant's own authority has issued: it is known whose it is, and its holder is told.
    [Fact]
    public void What_the_participants_own_authority_issued_is_no_strangers_though_it_is_not_accepted()
    {
        using var certificate = Issue(_kr, System);
        using var server = _kr.Issue("x", Terms([System]) with { Client = false, Hosts = ["localhost"] });
        using var authorities = Known();
        Assert.Equal(
            new Identified(null, Reason.CallerUnknown, Issued: true),
            authorities.Identify(server, [], CertificateUse.Client, Now)
        );
        Assert.True(Identify(certificate, at: Now.AddDays(1)).Issued);
        Assert.True(Identify(certificate, a => a.Participants[0].DeniedCertificates.Add(certificate.SerialNumber)).Issued);
        Assert.Equal(
            new Identified(null, Reason.CallerUnknown, Issued: true),
            Identify(certificate, a => a.Participants[0].Systems.Add("kr/mfa/other"))
        );
    }

    [Theory]
    [InlineData(-90, Reason.CertificateNotAccepted)]
    [InlineData(0, Reason.Unspecified)]
    [InlineData(61, Reason.CertificateNotAccepted)]
    public void A_certificate_holds_for_its_time(int minutes, Reason expected)
    {
        using var certificate = Issue(_kr, "spiffe://ministries.example/kr/mfa/system");
        Assert.Equal(expected, Identify(certificate, at: Now.AddMinutes(minutes)).Refused);
    }

    [Fact]
    public void A_denied_certificate_is_not_accepted()
    {
        using var certificate = Issue(_kr, "spiffe://ministries.example/kr/mfa/system");
        var serial = string.Join(':', certificate.SerialNumber.ToLowerInvariant().Chunk(2).Select(c => new string(c)));
        Assert.Equal(Reason.CertificateNotAccepted, Identify(certificate, a => a.Participants[0].DeniedCertificates.Add(serial)).Refused);
    }

    [Fact]
    public void Only_listed_systems_speak_where_any_is_listed()
    {
        using var certificate = Issue(_kr, "spiffe://ministries.example/kr/mfa/system");
        Assert.Equal(Reason.CallerUnknown, Identify(certificate, a => a.Participants[0].Systems.Add("kr/mfa/other")).Refused);
        Assert.Equal(Reason.Unspecified, Identify(certificate, a => a.Participants[0].Systems.Add("kr/mfa/system")).Refused);
    }

    [Fact]
    public void A_certificate_for_calling_is_not_one_for_being_called()
    {
        using var authorities = Known();
        using var client = _custody.Issue("x", Terms(["spiffe://ministries.example/service/custody/system"]));
        using var both = _custody.Issue("x", Terms(["spiffe://ministries.example/service/custody/system"]) with { Hosts = ["localhost"] });
        using var server = _custody.Issue(
            "x",
            Terms(["spiffe://ministries.example/service/custody/system"]) with
            {
                Client = false,
                Hosts = ["localhost"],
            }
        );
        Assert.Equal(Reason.CallerUnknown, authorities.Identify(client, [], CertificateUse.Server, Now).Refused);
        Assert.Equal(Reason.Unspecified, authorities.Identify(both, [], CertificateUse.Server, Now).Refused);
        Assert.Equal(Reason.CallerUnknown, authorities.Identify(server, [], CertificateUse.Client, Now).Refused);
    }

    [Fact]
    public void An_agreement_with_one_authority_for_two_is_refused()
    {
        var agreement = Agreement();
        agreement.Participants[1].AuthorityCertificates.Add(agreement.Participants[0].AuthorityCertificates[0]);
        Assert.Throws<FormatException>(() => new Authorities(agreement));
    }

    private static CertificateTerms Terms(string[] uris) => new(uris, Now.AddHours(-1), Now.AddHours(1));

    private static X509Certificate2 Issue(CertificateAuthority authority, params string[] uris) => authority.Issue("system", Terms(uris));

    private Agreement Agreement() =>
        new()
        {
            Version = 1,
            TrustDomain = "ministries.example",
            Participants =
            {
                new Participant { Id = "kr/mfa", AuthorityCertificates = { _kr.Certificate.ExportCertificatePem() } },
                new Participant { Id = "ua/mfa", AuthorityCertificates = { _ua.Certificate.ExportCertificatePem() } },
                new Participant { Id = "service/custody", AuthorityCertificates = { _custody.Certificate.ExportCertificatePem() } },
            },
        };

    private Authorities Known(Action<Agreement>? change = null)
    {
        var agreement = Agreement();
        change?.Invoke(agreement);
        return new Authorities(agreement);
    }

    private Identified Identify(X509Certificate2 certificate, Action<Agreement>? change = null, DateTimeOffset? at = null)
    {
        using var authorities = Known(change);
        return authorities.Identify(certificate, [], CertificateUse.Client, at ?? Now);
    }
}
