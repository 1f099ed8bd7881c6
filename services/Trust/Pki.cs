using System.Net;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;

namespace Ministries.Trust;

/// <summary>What a certificate says beside whose it is.</summary>
/// <param name="Uris">The URIs among its subject alternative names; one, where it is to be accepted.</param>
/// <param name="From">From when it holds.</param>
/// <param name="Until">Until when it holds.</param>
/// <param name="Client">Whether it may call.</param>
/// <param name="Server">Whether it may be called, at <c>localhost</c> and the loopback addresses.</param>
public sealed record CertificateTerms(
    IReadOnlyList<string> Uris, DateTimeOffset From, DateTimeOffset Until, bool Client = true, bool Server = false);

/// <summary>An authority for development and tests: ECDSA P-256, SHA-256. A ministry's own authority is its own affair; what the
/// services demand of its certificates is in <see cref="Authorities"/>.</summary>
public sealed class CertificateAuthority : IDisposable
{
    private readonly X509Certificate2 _certificate;

    private CertificateAuthority(X509Certificate2 certificate) => _certificate = certificate;

    /// <summary>The authority's certificate with its key.</summary>
    public X509Certificate2 Certificate => _certificate;

    /// <summary>Makes an authority.</summary>
    /// <param name="name">Its common name.</param>
    /// <param name="from">From when it holds.</param>
    /// <param name="until">Until when it holds.</param>
    public static CertificateAuthority Create(string name, DateTimeOffset from, DateTimeOffset until)
    {
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var request = new CertificateRequest(Name(name), key, HashAlgorithmName.SHA256);
        request.CertificateExtensions.Add(X509BasicConstraintsExtension.CreateForCertificateAuthority(0));
        request.CertificateExtensions.Add(
            new X509KeyUsageExtension(X509KeyUsageFlags.KeyCertSign | X509KeyUsageFlags.CrlSign, critical: true));
        request.CertificateExtensions.Add(new X509SubjectKeyIdentifierExtension(request.PublicKey, critical: false));
        return new(request.CreateSelfSigned(from, until));
    }

    /// <summary>Reads an authority from its files.</summary>
    /// <param name="certificate">Its certificate (PEM).</param>
    /// <param name="key">Its key (PEM).</param>
    public static CertificateAuthority Read(string certificate, string key) =>
        new(X509Certificate2.CreateFromPemFile(certificate, key));

    /// <summary>Issues a certificate with a new key.</summary>
    /// <param name="name">Its common name.</param>
    /// <param name="terms">What it says.</param>
    public X509Certificate2 Issue(string name, CertificateTerms terms)
    {
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var request = new CertificateRequest(Name(name), key, HashAlgorithmName.SHA256);
        request.CertificateExtensions.Add(X509BasicConstraintsExtension.CreateForEndEntity(critical: true));
        request.CertificateExtensions.Add(new X509KeyUsageExtension(X509KeyUsageFlags.DigitalSignature, critical: true));
        var uses = new OidCollection();
        if (terms.Client) uses.Add(new Oid("1.3.6.1.5.5.7.3.2"));
        if (terms.Server) uses.Add(new Oid("1.3.6.1.5.5.7.3.1"));
        if (uses.Count > 0) request.CertificateExtensions.Add(new X509EnhancedKeyUsageExtension(uses, critical: false));
        var names = new SubjectAlternativeNameBuilder();
        foreach (var uri in terms.Uris) names.AddUri(new Uri(uri));
        if (terms.Server)
        {
            names.AddDnsName("localhost");
            names.AddIpAddress(IPAddress.Loopback);
            names.AddIpAddress(IPAddress.IPv6Loopback);
        }
        if (terms.Uris.Count > 0 || terms.Server) request.CertificateExtensions.Add(names.Build());
        request.CertificateExtensions.Add(
            X509AuthorityKeyIdentifierExtension.CreateFromCertificate(_certificate, includeKeyIdentifier: true, includeIssuerAndSerial: false));
        // 127 random bits: positive, and never the same twice.
        var serial = RandomNumberGenerator.GetBytes(16);
        serial[0] = (byte)(serial[0] & 0x7f | 0x40);
        var until = terms.Until < _certificate.NotAfter ? terms.Until : new DateTimeOffset(_certificate.NotAfter);
        using var issued = request.Create(_certificate, terms.From, until, serial);
        return issued.CopyWithPrivateKey(key);
    }

    /// <inheritdoc/>
    public void Dispose() => _certificate.Dispose();

    private static X500DistinguishedName Name(string name)
    {
        var builder = new X500DistinguishedNameBuilder();
        builder.AddCommonName(name);
        return builder.Build();
    }
}
