using System.Buffers.Binary;
using System.Collections.Concurrent;
using System.Net.Security;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using Ministries.Ledger.V1;
using Ministries.Trust;

namespace Ministries.Hosting.Bus;

/// <summary>
/// Signs messages and verifies them, because the broker is not trusted. A message carries its service's certificate, with the intermediate
/// authorities that issued it, and a signature over the event's bytes, origin, number and leaf. The trace context is not signed, because it
/// is harmless. Nor are the numbers of earlier events, which can only make a consumer read the producer's ledger. In a message of several
/// events everything is signed.
/// </summary>
/// <param name="own">This service's certificate with its key (ECDSA), and the intermediate authorities that it sends in TLS.</param>
/// <param name="belongs">Whether a certificate belongs to the service of this name now, given the authorities that came with it.</param>
/// <param name="time">The clock.</param>
/// <param name="version">The version of the agreement that decides whether a certificate belongs to a service.</param>
public sealed class MessageSeal(
    Func<SslStreamCertificateContext> own,
    Func<string, X509Certificate2, IReadOnlyList<X509Certificate2>, bool> belongs,
    TimeProvider time,
    Func<ulong> version
)
{
    private const int MaxKnown = 256;
    private static readonly TimeSpan Trust = TimeSpan.FromMinutes(1);
    private readonly ConcurrentDictionary<(string Service, string Certificate, ulong Version), Known> _known = [];
    private volatile Signer? _signer;

    private sealed record Known(ECDsa? Key, DateTimeOffset Until);

    private sealed record Signer(X509Certificate2 Certificate, ECDsa Key, string Text);

    /// <summary>Signs a message.</summary>
    /// <returns>The signature (ECDSA with SHA-256, IEEE P1363) and the certificate (DER), both in Base64. After the certificate come its
    /// intermediate authorities, with commas between them.</returns>
    internal (string Signature, string Certificate) Sign(EventMessage message) => Sign(Digest(message));

    /// <summary>Signs a message about one event.</summary>
    internal (string Signature, string Certificate) Sign(RecordedEvent recorded) => Sign(Digest(recorded));

    private (string Signature, string Certificate) Sign(byte[] digest)
    {
        var context = own();
        var (certificate, signer) = (context.TargetCertificate, _signer);
        if (signer is null || !ReferenceEquals(signer.Certificate, certificate))
            _signer = signer = new Signer(
                certificate,
                certificate.GetECDsaPrivateKey() ?? throw new CryptographicException("the service's key is not for ECDSA"),
                string.Join(',', context.IntermediateCertificates.Prepend(certificate).Select(c => Convert.ToBase64String(c.RawData)))
            );
        lock (signer)
            return (Convert.ToBase64String(signer.Key.SignHash(digest)), signer.Text);
    }

    /// <summary>Whether the message is signed by the service that its events name as their origin.</summary>
    internal bool Bears(EventMessage message)
    {
        var (service, (signature, certificate)) = (message.Origin.Service, message.Seal);
        // When a new version of the agreement denies the certificate, it is refused from then on.
        var key = (service, certificate, version());
        if (!_known.TryGetValue(key, out var known) || known.Until < time.GetUtcNow())
        {
            if (_known.Count >= MaxKnown)
                _known.Clear();
            _known[key] = known = new Known(KeyOf(service, certificate), time.GetUtcNow() + Trust);
        }
        var bytes = new byte[256];
        if (known.Key is not { } verifier || !Convert.TryFromBase64String(signature, bytes, out var length))
            return false;
        lock (verifier)
            return verifier.VerifyHash(Digest(message), bytes.AsSpan(0, length));
    }

    private ECDsa? KeyOf(string service, string certificates)
    {
        var presented = new List<X509Certificate2>();
        try
        {
            // At most one certificate too many is decoded, which is enough to refuse the message.
            foreach (var text in certificates.Split(',', Authorities.MaxChain + 1))
                presented.Add(X509CertificateLoader.LoadCertificate(Convert.FromBase64String(text)));
            return belongs(service, presented[0], presented[1..]) ? presented[0].GetECDsaPublicKey() : null;
        }
        catch (Exception e) when (e is FormatException or CryptographicException)
        {
            return null;
        }
        finally
        {
            foreach (var one in presented)
                one.Dispose();
        }
    }

    private static byte[] Digest(EventMessage message)
    {
        if (message.Events is [var single])
            return Digest(single.Recorded);
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        Add(hash, "ministries events v1"u8);
        Add(hash, message.Body);
        return hash.GetHashAndReset();
    }

    /// <summary>SHA-256 over a domain name and each field with its length before it, so that no two messages have the same.
    /// </summary>
    private static byte[] Digest(RecordedEvent recorded)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        Add(hash, "ministries event v1"u8);
        Add(hash, Encoding.UTF8.GetBytes(EventTypes.IdOf(recorded.Origin)));
        Add(hash, Encoding.UTF8.GetBytes(recorded.Event.Type));
        Add(hash, Encoding.UTF8.GetBytes(recorded.Event.Case));
        Add(hash, Encoding.UTF8.GetBytes(recorded.Time));
        Add(hash, Encoding.UTF8.GetBytes(recorded.Origin.Sequence.ToString(System.Globalization.CultureInfo.InvariantCulture)));
        Add(hash, recorded.Leaf.Span);
        Add(hash, recorded.Event.Data.Span);
        return hash.GetHashAndReset();
    }

    private static void Add(IncrementalHash hash, ReadOnlySpan<byte> field)
    {
        Span<byte> length = stackalloc byte[8];
        BinaryPrimitives.WriteInt64BigEndian(length, field.Length);
        hash.AppendData(length);
        hash.AppendData(field);
    }
}
