using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;

namespace Ministries.Fixtures;

/// <summary>Makes certificates that <c>CertificateAuthority</c> does not make: intermediate authorities and wrong certificates.</summary>
public static class Chains
{
    /// <summary>Makes a certificate with a new key, ECDSA P-256, that holds from an hour ago.</summary>
    /// <param name="name">Its common name.</param>
    /// <param name="issuer">Who issues it, with its key; null: it is self-signed.</param>
    /// <param name="now">The present time.</param>
    /// <param name="uri">The URI among its alternative names; null: it is an authority's.</param>
    /// <param name="authority">Whether it is an authority's although it has a URI.</param>
    public static X509Certificate2 Make(
        string name,
        X509Certificate2? issuer,
        DateTimeOffset now,
        string? uri = null,
        bool authority = false
    )
    {
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var request = new CertificateRequest($"CN={name}", key, HashAlgorithmName.SHA256);
        request.CertificateExtensions.Add(new X509BasicConstraintsExtension(uri is null || authority, false, 0, critical: true));
        if (uri is not null)
        {
            request.CertificateExtensions.Add(new X509EnhancedKeyUsageExtension([new Oid("1.3.6.1.5.5.7.3.2")], critical: false));
            var names = new SubjectAlternativeNameBuilder();
            names.AddUri(new Uri(uri));
            request.CertificateExtensions.Add(names.Build());
        }
        var (from, until) = (now.AddHours(-1), now.AddHours(1));
        if (issuer is null)
            return request.CreateSelfSigned(from, until);
        var signer = X509SignatureGenerator.CreateForECDsa(issuer.GetECDsaPrivateKey()!);
        var serial = RandomNumberGenerator.GetBytes(16);
        serial[0] = (byte)(serial[0] & 0x7f | 0x40);
        using var issued = request.Create(issuer.SubjectName, signer, from, until, serial);
        return issued.CopyWithPrivateKey(key);
    }

    /// <summary>The root, this number of intermediate authorities, each below the previous one, and a system's certificate, in this
    /// order.</summary>
    public static X509Certificate2[] Below(X509Certificate2 root, int intermediates, string uri, DateTimeOffset now)
    {
        var chain = new List<X509Certificate2> { root };
        for (var i = 0; i < intermediates; i++)
            chain.Add(Make($"authority {i}", chain[^1], now));
        return [.. chain, Make("system", chain[^1], now, uri)];
    }
}
