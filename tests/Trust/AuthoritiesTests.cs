using System.Security.Cryptography.X509Certificates;
using Ministries.Errors.V1;
using Ministries.Types.V1;

namespace Ministries.Trust.Tests;

/// <summary>Whose a certificate is: by the chain of that participant's own authority, and by its one SPIFFE id.</summary>
public sealed class AuthoritiesTests : IDisposable
{
    private static readonly DateTimeOffset Now = new(2025, 3, 17, 9, 0, 0, TimeSpan.Zero);
    private readonly CertificateAuthority _kr = CertificateAuthority.Create("kr", Now.AddYears(-1), Now.AddYears(9));
    private readonly CertificateAuthority _ua = CertificateAuthority.Create("ua", Now.AddYears(-1), Now.AddYears(9));
    private readonly CertificateAuthority _custody = CertificateAuthority.Create("custody", Now.AddYears(-1), Now.AddYears(9));

    public void Dispose()
    {
        _kr.Dispose();
        _ua.Dispose();
        _custody.Dispose();
    }

    public static TheoryData<string, Reason> Names => new()
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
        using var certificate = Issue(
            _kr, "spiffe://ministries.example/kr/mfa/system", "spiffe://ministries.example/kr/mfa/other");
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
        using var authorities = Known();
        Assert.True(authorities.Vouch(certificate, []));
        Assert.Equal(Reason.CallerUnknown, Identify(certificate).Refused);
    }

    [Fact]
    public void A_stranger_is_not_vouched_for()
    {
        using var other = CertificateAuthority.Create("kr", Now.AddYears(-1), Now.AddYears(9));
        using var certificate = Issue(other, "spiffe://ministries.example/kr/mfa/system");
        using var authorities = Known();
        Assert.False(authorities.Vouch(certificate, []));
        Assert.Equal(Reason.CallerUnknown, Identify(certificate).Refused);
    }

    [Fact]
    public void An_authoritys_own_certificate_is_no_systems()
    {
        using var authorities = Known();
        Assert.False(authorities.Vouch(_kr.Certificate, []));
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
            "x", Terms(["spiffe://ministries.example/service/custody/system"]) with { Client = false, Hosts = ["localhost"] });
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

    private static X509Certificate2 Issue(CertificateAuthority authority, params string[] uris) =>
        authority.Issue("system", Terms(uris));

    private Agreement Agreement() => new()
    {
        Version = 1, TrustDomain = "ministries.example",
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
