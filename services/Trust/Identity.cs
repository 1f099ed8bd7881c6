using System.Formats.Asn1;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using Ministries.Errors.V1;
using Ministries.Types.V1;

namespace Ministries.Trust;

/// <summary>A system that an authority of the agreement vouches for.</summary>
/// <param name="Participant">For whom it speaks.</param>
/// <param name="System">Its SPIFFE path without the leading slash: the participant's id, a slash, the system's own name.</param>
/// <param name="From">From when its certificate and every authority above it hold.</param>
/// <param name="Until">Until when they all hold.</param>
public sealed record Identity(Participant Participant, string System, DateTimeOffset From, DateTimeOffset Until)
{
    /// <summary>Whether the certificate holds at the time.</summary>
    public bool HoldsAt(DateTimeOffset time) => From <= time && time <= Until;
}

/// <summary>The result of identifying a certificate.</summary>
/// <param name="Identity">Whose it is; null: nobody's in the agreement.</param>
/// <param name="Refused">Why it is not accepted; <see cref="Reason.Unspecified"/>: it is.</param>
/// <param name="Issued">Whether an authority of the participant that it names has issued it, even if it is not accepted. Any other
/// certificate is a stranger's.</param>
public readonly record struct Identified(Identity? Identity, Reason Refused, bool Issued = false);

/// <summary>What a certificate is used for: RFC 5280, 4.2.1.12.</summary>
public enum CertificateUse
{
    /// <summary>To call (<c>id-kp-clientAuth</c>).</summary>
    Client,

    /// <summary>To be called (<c>id-kp-serverAuth</c>).</summary>
    Server,
}

/// <summary>
/// The authorities of one version of the agreement. A system's certificate names it by exactly one URI among its subject
/// alternative names, <c>spiffe://&lt;trust domain&gt;/&lt;participant id&gt;/&lt;system&gt;</c> (an X.509-SVID). The path without
/// its last segment must be a participant's id, and the chain must lead to an authority of that very participant: a certificate of
/// another participant's authority that names it is nobody's. Anybody may show any certificate, so what costs little comes first: the
/// id, the number of certificates and the names of their issuers are looked at before a signature is verified.
/// </summary>
public sealed class Authorities : IDisposable
{
    private const string ClientAuth = "1.3.6.1.5.5.7.3.2",
        ServerAuth = "1.3.6.1.5.5.7.3.1",
        AlternativeNames = "2.5.29.17";

    /// <summary>The most certificates of a chain: 4, which are the system's, at most two intermediate ones, and the root.</summary>
    public const int MaxChain = 4;

    // The size of the SubjectPublicKeyInfo of an RSA key with 4096 bits and a usual exponent. A signature by a larger key takes
    // milliseconds to verify.
    private const int MaxKeyBytes = 550;

    private static readonly Identified Stranger = new(null, Reason.CallerUnknown);

    private readonly Dictionary<string, Known> _known = [];
    private readonly string _prefix;

    private readonly record struct Link(DateTimeOffset From, DateTimeOffset Until, string Serial);

    private sealed record Known(Participant Participant, X509Certificate2Collection Roots, HashSet<string> Denied);

    /// <summary>Reads the agreement's certificates.</summary>
    /// <exception cref="FormatException">The agreement has no trust domain, a certificate that cannot be read or is no
    /// self-signed authority, or one authority for two participants.</exception>
    public Authorities(Agreement agreement)
    {
        if (agreement.TrustDomain.Length == 0)
            throw new FormatException("the agreement names no trust domain");
        _prefix = $"spiffe://{agreement.TrustDomain}/";
        var owners = new Dictionary<string, string>();
        foreach (var participant in agreement.Participants)
        {
            var roots = new X509Certificate2Collection();
            foreach (var pem in participant.AuthorityCertificates)
            {
                X509Certificate2 root;
                try
                {
                    root = X509Certificate2.CreateFromPem(pem);
                }
                catch (CryptographicException)
                {
                    throw new FormatException($"a certificate of {participant.Id}'s authority cannot be read");
                }
                roots.Add(root);
                if (!root.SubjectName.RawData.AsSpan().SequenceEqual(root.IssuerName.RawData))
                    throw new FormatException($"a certificate of {participant.Id}'s authority is not self-signed");
                // Authorities are compared by key, not by name: one that two participants share could issue certificates of either.
                var key = Convert.ToHexString(SHA256.HashData(root.PublicKey.ExportSubjectPublicKeyInfo()));
                if (!owners.TryAdd(key, participant.Id) && owners[key] != participant.Id)
                    throw new FormatException(
                        $"{participant.Id} and {owners[key]} list the same authority; each participant needs its own"
                    );
            }
            _known[participant.Id] = new Known(participant, roots, [.. participant.DeniedCertificates.Select(Serial)]);
        }
    }

    /// <summary>Says whose the certificate is.</summary>
    /// <param name="certificate">The peer's certificate.</param>
    /// <param name="sent">The certificates that the peer sent with it. A stranger may send any number of them, with any content.</param>
    /// <param name="use">What it is used for.</param>
    /// <param name="now">The time.</param>
    public Identified Identify(X509Certificate2 certificate, IEnumerable<X509Certificate2> sent, CertificateUse use, DateTimeOffset now)
    {
        try
        {
            return Judge(certificate, sent, use == CertificateUse.Client ? ClientAuth : ServerAuth, now);
        }
        catch (CryptographicException)
        {
            // The certificate cannot be parsed.
            return Stranger;
        }
    }

    private Identified Judge(X509Certificate2 certificate, IEnumerable<X509Certificate2> sent, string use, DateTimeOffset now)
    {
        if (
            PathOf(certificate) is not { } path
            || path.LastIndexOf('/') is var slash && slash <= 0
            || !_known.TryGetValue(path[..slash], out var known)
            || known.Roots.Count == 0
            || !IsShort(certificate, sent, out var others)
            || !NamesLead(certificate, others, known.Roots)
            || ChainOf(certificate, others, known.Roots, use, out var usable) is not { } chain
        )
            return Stranger;
        if (!usable || known.Participant.Systems.Count > 0 && !known.Participant.Systems.Contains(path))
            return new(null, Reason.CallerUnknown, Issued: true);
        var identity = new Identity(known.Participant, path, chain.Max(c => c.From), chain.Min(c => c.Until));
        var denied = chain.Any(c => known.Denied.Contains(c.Serial));
        return new(identity, denied || !identity.HoldsAt(now) ? Reason.CertificateNotAccepted : Reason.Unspecified, Issued: true);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (var root in _known.Values.SelectMany(k => k.Roots))
            root.Dispose();
    }

    // The path of the one SPIFFE id; null: there is none, more than one URI, or it is of another trust domain or form.
    private string? PathOf(X509Certificate2 certificate)
    {
        var uris = UrisOf(certificate);
        if (uris is not [var uri] || !uri.StartsWith(_prefix, StringComparison.Ordinal))
            return null;
        var path = uri[_prefix.Length..];
        var segments = path.Split('/');
        return segments.Length is >= 2 and <= 4 && path.Length <= 128 && segments.All(s => s.Length > 0 && s.All(IsSegmentCharacter))
            ? path
            : null;
    }

    // SPIFFE-ID, 2.2, without upper case: an id has one spelling only.
    private static bool IsSegmentCharacter(char c) => char.IsAsciiLetterLower(c) || char.IsAsciiDigit(c) || c is '-' or '_';

    /// <summary>The URIs among a certificate's subject alternative names (RFC 5280, 4.2.1.6); empty where they cannot be read.
    /// </summary>
    public static IReadOnlyList<string> UrisOf(X509Certificate2 certificate)
    {
        var uris = new List<string>();
        try
        {
            foreach (var extension in certificate.Extensions)
            {
                if (extension.Oid?.Value != AlternativeNames)
                    continue;
                var names = new AsnReader(extension.RawData, AsnEncodingRules.DER).ReadSequence();
                var uri = new Asn1Tag(TagClass.ContextSpecific, 6);
                while (names.HasData)
                    if (names.PeekTag() == uri)
                        uris.Add(names.ReadCharacterString(UniversalTagNumber.IA5String, uri));
                    else
                        names.ReadEncodedValue();
            }
            return uris;
        }
        catch (AsnContentException)
        {
            return [];
        }
    }

    // Whether the peer sent no more certificates than a chain has and no key that is too large to verify with. Also returns the
    // certificates that it sent beside its own.
    private static bool IsShort(X509Certificate2 certificate, IEnumerable<X509Certificate2> sent, out X509Certificate2[] others)
    {
        others = [.. sent.Where(s => !s.RawDataMemory.Span.SequenceEqual(certificate.RawDataMemory.Span)).Take(MaxChain)];
        return others.Length < MaxChain && others.All(o => o.PublicKey.ExportSubjectPublicKeyInfo().Length <= MaxKeyBytes);
    }

    // Whether the issuers' names lead to one of the roots. An authority's name is the same, byte for byte, in its own certificate and in
    // those that it issues (RFC 5280, 4.1.2.6).
    private static bool NamesLead(X509Certificate2 certificate, X509Certificate2[] others, X509Certificate2Collection roots)
    {
        for (var length = 2; length <= MaxChain; length++)
        {
            var issuer = certificate.IssuerName.RawData;
            if (roots.Any(r => r.SubjectName.RawData.AsSpan().SequenceEqual(issuer)))
                return true;
            if (others.FirstOrDefault(o => o.SubjectName.RawData.AsSpan().SequenceEqual(issuer)) is not { } next)
                return false;
            certificate = next;
        }
        return false;
    }

    // The chain to one of the roots, leaf first, whatever the time; null: there is none.
    private static IReadOnlyList<Link>? ChainOf(
        X509Certificate2 certificate,
        X509Certificate2[] sent,
        X509Certificate2Collection roots,
        string use,
        out bool usable
    )
    {
        using var chain = new X509Chain();
        var policy = chain.ChainPolicy;
        policy.TrustMode = X509ChainTrustMode.CustomRootTrust;
        policy.CustomTrustStore.AddRange(roots);
        policy.ExtraStore.AddRange(sent);
        policy.RevocationMode = X509RevocationMode.NoCheck;
        policy.DisableCertificateDownloads = true;
        policy.VerificationFlags = X509VerificationFlags.IgnoreNotTimeValid | X509VerificationFlags.IgnoreWrongUsage;
        policy.ApplicationPolicy.Add(new Oid(use));
        try
        {
            // An authority's own certificate is no system's: a chain has at least two.
            if (!chain.Build(certificate) || chain.ChainElements.Count is < 2 or > MaxChain)
            {
                usable = false;
                return null;
            }
            usable = !chain.ChainStatus.Any(s => s.Status.HasFlag(X509ChainStatusFlags.NotValidForUsage));
            return
            [
                .. chain.ChainElements.Select(e => new Link(
                    e.Certificate.NotBefore,
                    e.Certificate.NotAfter,
                    Serial(e.Certificate.SerialNumber)
                )),
            ];
        }
        finally
        {
            foreach (var element in chain.ChainElements)
                element.Certificate.Dispose();
        }
    }

    private static string Serial(string hexadecimal) =>
        hexadecimal.Replace(":", "", StringComparison.Ordinal).Replace(" ", "", StringComparison.Ordinal).TrimStart('0').ToUpperInvariant();
}
