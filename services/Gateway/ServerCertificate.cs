using System.Net;
using System.Net.Security;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using Ministries.Keys;
using Ministries.Ledger;

namespace Ministries.Gateway;

/// <summary>
/// The certificate that the gateway shows: that of the settings, whose file is read again when it changes, or its own for this machine. The
/// gateway renews its own certificate a month before its end, or if the certificate is not valid yet by the clock. It does so also while it
/// runs. Its callers trust the file in the state folder, and must then read the file again.
/// </summary>
internal sealed class ServerCertificate
{
    private static readonly TimeSpan Before = TimeSpan.FromDays(30),
        Between = TimeSpan.FromDays(1);

    private readonly Lock _lock = new();
    private readonly TimeProvider _time;
    private readonly Action<string> _complain;
    private readonly bool _isOwn;
    private readonly string _file,
        _key;
    private readonly Reread<SslStreamCertificateContext> _read;
    private DateTimeOffset _looked;

    /// <summary>Makes the gateway's own certificate, unless the settings name one or the state folder has one.</summary>
    /// <exception cref="FormatException">The files hold no certificate with its key.</exception>
    /// <exception cref="IOException">The certificate cannot be written.</exception>
    public ServerCertificate(GatewaySettings settings, TimeProvider time, Action<string> complain)
    {
        (_time, _complain) = (time, complain);
        _isOwn = settings.Certificate is null || settings.CertificateKey is null;
        _file = _isOwn ? Path.Combine(settings.State, GatewayHost.OwnCertificate) : settings.Certificate!;
        _key = _isOwn ? Path.Combine(settings.State, "gateway.key") : settings.CertificateKey!;
        Renew();
        _read = new Reread<SslStreamCertificateContext>(
            [_file],
            () => CertificateFiles.ReadChain(_file, _key, settings.SecretsFolder),
            complain
        );
        _ = _read.Current;
    }

    /// <summary>The certificate to show now.</summary>
    public SslStreamCertificateContext Current
    {
        get
        {
            lock (_lock)
            {
                if (_isOwn && (_time.GetUtcNow() - _looked).Duration() >= Between)
                    try
                    {
                        Renew();
                    }
                    catch (Exception e) when (e is IOException or UnauthorizedAccessException or CryptographicException)
                    {
                        // The old certificate is shown until its end, and the next use tries again.
                        _complain($"{_file} must be made anew, and cannot be: {e.Message}");
                    }
                return _read.Current;
            }
        }
    }

    /// <summary>Until when the certificate is valid.</summary>
    public DateTimeOffset Until => new(Current.TargetCertificate.NotAfter.ToUniversalTime());

    private void Renew()
    {
        var now = _looked = _time.GetUtcNow();
        if (_isOwn && (!File.Exists(_file) || !File.Exists(_key) || IsOver(now)))
            Make(now);
    }

    private bool IsOver(DateTimeOffset now)
    {
        using var certificate = X509CertificateLoader.LoadCertificateFromFile(_file);
        // A certificate that is not valid yet was made while the clock was ahead.
        return certificate.NotAfter.ToUniversalTime() - now < Before || certificate.NotBefore.ToUniversalTime() > now;
    }

    // The certificate is for this machine alone. Callers name its file as trusted, so no authority is needed.
    private void Make(DateTimeOffset now)
    {
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var request = new CertificateRequest("CN=localhost", key, HashAlgorithmName.SHA256);
        var names = new SubjectAlternativeNameBuilder();
        names.AddDnsName("localhost");
        names.AddIpAddress(IPAddress.Loopback);
        names.AddIpAddress(IPAddress.IPv6Loopback);
        request.CertificateExtensions.Add(names.Build());
        request.CertificateExtensions.Add(new X509BasicConstraintsExtension(false, false, 0, true));
        request.CertificateExtensions.Add(new X509EnhancedKeyUsageExtension([new Oid("1.3.6.1.5.5.7.3.1")], false));
        using var certificate = request.CreateSelfSigned(now.AddHours(-1), now.AddDays(365));
        WholeFile.Write(_key, key.ExportPkcs8PrivateKeyPem() + "\n");
        WholeFile.Write(_file, certificate.ExportCertificatePem() + "\n");
    }
}
