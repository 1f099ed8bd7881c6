using System.Net;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Ministries.Keys;
using Ministries.Types.V1;
using NSec.Cryptography;

namespace Ministries.Trust;

/// <summary>What a certificate says, besides whose it is.</summary>
/// <param name="Uris">The URIs among its subject alternative names; one, where it is to be accepted.</param>
/// <param name="From">From when it holds.</param>
/// <param name="Until">Until when it holds.</param>
/// <param name="Client">Whether it may call.</param>
/// <param name="Hosts">At which hosts it may be called, by name or address; none: it may not be called.</param>
public sealed record CertificateTerms(
    IReadOnlyList<string> Uris,
    DateTimeOffset From,
    DateTimeOffset Until,
    bool Client = true,
    IReadOnlyList<string>? Hosts = null
);

/// <summary>An authority for development and tests: ECDSA P-256, SHA-256. A ministry runs an authority of its own choice;
/// <see cref="Authorities"/> says what the services demand of its certificates.</summary>
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
            new X509KeyUsageExtension(X509KeyUsageFlags.KeyCertSign | X509KeyUsageFlags.CrlSign, critical: true)
        );
        request.CertificateExtensions.Add(new X509SubjectKeyIdentifierExtension(request.PublicKey, critical: false));
        return new(request.CreateSelfSigned(from, until));
    }

    /// <summary>Reads an authority from its files.</summary>
    /// <param name="certificate">Its certificate (PEM).</param>
    /// <param name="key">Its key (PEM).</param>
    public static CertificateAuthority Read(string certificate, string key) => new(CertificateFiles.Read(certificate, key));

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
        if (terms.Client)
            uses.Add(new Oid("1.3.6.1.5.5.7.3.2"));
        if (terms.Hosts is { Count: > 0 })
            uses.Add(new Oid("1.3.6.1.5.5.7.3.1"));
        if (uses.Count > 0)
            request.CertificateExtensions.Add(new X509EnhancedKeyUsageExtension(uses, critical: false));
        var names = new SubjectAlternativeNameBuilder();
        foreach (var uri in terms.Uris)
            names.AddUri(new Uri(uri));
        foreach (var host in terms.Hosts ?? [])
            if (IPAddress.TryParse(host, out var address))
                names.AddIpAddress(address);
            else
                names.AddDnsName(host);
        if (terms.Uris.Count > 0 || terms.Hosts is { Count: > 0 })
            request.CertificateExtensions.Add(names.Build());
        request.CertificateExtensions.Add(
            X509AuthorityKeyIdentifierExtension.CreateFromCertificate(
                _certificate,
                includeKeyIdentifier: true,
                includeIssuerAndSerial: false
            )
        );
        // 127 random bits: positive, and never the same twice.
        var serial = RandomNumberGenerator.GetBytes(16);
        serial[0] = (byte)(serial[0] & 0x7f | 0x40);
        // Within the authority's own time.
        var from = terms.From > _certificate.NotBefore ? terms.From : new DateTimeOffset(_certificate.NotBefore);
        var until = terms.Until < _certificate.NotAfter ? terms.Until : new DateTimeOffset(_certificate.NotAfter);
        using var issued = request.Create(_certificate.SubjectName, Signer(), from, until, serial);
        return issued.CopyWithPrivateKey(key);
    }

    // Authorities that are made here use ECDSA; an operator's may use RSA.
    private X509SignatureGenerator Signer() =>
        _certificate.GetECDsaPrivateKey() is { } ecdsa ? X509SignatureGenerator.CreateForECDsa(ecdsa)
        : _certificate.GetRSAPrivateKey() is { } rsa ? X509SignatureGenerator.CreateForRSA(rsa, RSASignaturePadding.Pkcs1)
        : throw new FormatException($"the key of {_certificate.Subject} is neither of ECDSA nor of RSA");

    /// <inheritdoc/>
    public void Dispose() => _certificate.Dispose();

    private static X500DistinguishedName Name(string name)
    {
        var builder = new X500DistinguishedNameBuilder();
        builder.AddCommonName(name);
        return builder.Build();
    }
}

/// <summary>
/// Makes what a development set-up needs: an authority and a system certificate for every participant, a key with which each
/// ministry signs its requests, each service its checkpoints and each witness its cosignatures, and the agreement that names them.
/// Files that exist already stay as they are.
/// <code>
/// agreement.json
/// &lt;participant id&gt;/authority.pem  authority.key   its authority
///                  system.pem     system.key      its system's certificate; a service's is for calling and being called
///                  requests.key                   Ed25519, of one that writes: signs its requests
///                  agreements.key                 Ed25519, of a ministry, an observer or a Protecting Power: signs versions of
///                                                 the agreement; a real participant's never comes near a system that calls
///                  officials/&lt;official&gt;.key       Ed25519, of each of its three officials: signs approvals
///                  checkpoint.key                 Ed25519, of a service: signs its checkpoints
///                  cosignatures.key               Ed25519, of one that may witness: cosigns the services' checkpoints
///                  sealing.key                    X-Wing, where it can be made: opens what is sealed to the participant
///                  witness.pem    witness.key     the certificate of its witness, for being called
/// </code>
/// Every version of the agreement is signed with the keys for agreements of all who have one, since a development set-up has them
/// all. Private keys are readable by their owner alone.
/// </summary>
public static class Pki
{
    /// <summary>How long an authority holds: 10 years.</summary>
    public static readonly TimeSpan AuthorityLife = TimeSpan.FromDays(3650);

    /// <summary>How long a system's certificate holds: a year.</summary>
    public static readonly TimeSpan SystemLife = TimeSpan.FromDays(365);

    /// <summary>A certificate that ends sooner than this is issued again: 30 days.</summary>
    public static readonly TimeSpan RenewBefore = TimeSpan.FromDays(30);

    /// <summary>The name of the one system that each participant has.</summary>
    public const string System = "system";

    /// <summary>The name of the system that is a participant's witness.</summary>
    public const string Witness = "witness";

    /// <summary>The pseudonymous id of an official for whom a key is made.</summary>
    /// <param name="participant">The participant, such as <c>kr/mfa</c>.</param>
    /// <param name="number">Which of them, from 1.</param>
    public static string OfficialOf(string participant, int number) => $"{participant.Replace('/', '-')}-official-{number}";

    /// <summary>How many officials of each participant have a key for approvals: 3, <c>kr-mfa-official-1</c> and so on.</summary>
    public const int Officials = 3;

    /// <summary>Makes what is missing.</summary>
    /// <param name="folder">Where; it is made too.</param>
    /// <param name="agreement">The agreement to start from, where the folder has none.</param>
    /// <param name="time">The clock.</param>
    /// <param name="sealing">Makes a participant's key for sealing; null: none gets one. It is given the key's file, which it makes if it
    /// is missing, readable by its owner alone, and returns the public key (1216 bytes). It comes from outside, because the services' own
    /// libraries cannot seal.</param>
    /// <param name="hosts">At which hosts services may be called, beside <c>localhost</c>, the loopback addresses and the
    /// service's own name.</param>
    /// <returns>The files that were made or changed, relative to the folder.</returns>
    /// <exception cref="FormatException">The folder's agreement cannot be read.</exception>
    public static IReadOnlyList<string> Init(
        string folder,
        Agreement agreement,
        TimeProvider time,
        Func<string, byte[]>? sealing = null,
        params IReadOnlyList<string> hosts
    )
    {
        var made = new List<string>();
        var now = time.GetUtcNow();
        var path = Path.Combine(folder, "agreement.json");
        var there = File.Exists(path);
        agreement = there ? ReadAgreement(path) : agreement.Clone();
        var before = agreement.Clone();
        foreach (var participant in agreement.Participants)
        {
            var home = Path.Combine(folder, participant.Id);
            Ledger.PrivateFiles.MakeOpenFolder(home);
            using var authority = AuthorityOf(participant, home, now, made);
            Issue(agreement.TrustDomain, participant, System, home, authority, now, hosts, made);
            if (participant.Kind == ParticipantKind.Service)
            {
                AddKey(participant, Path.Combine(home, "checkpoint.key"), "checkpoint", SigningKeyUse.Checkpoints, now, made);
                continue;
            }
            AddKey(participant, Path.Combine(home, "requests.key"), "requests", SigningKeyUse.Requests, now, made);
            if (!AgreementVersions.Signs(participant))
                continue;
            Issue(agreement.TrustDomain, participant, Witness, home, authority, now, hosts, made);
            AddKey(participant, Path.Combine(home, "cosignatures.key"), "cosignatures", SigningKeyUse.Cosignatures, now, made);
            AddKey(participant, Path.Combine(home, "agreements.key"), "agreements", SigningKeyUse.Agreements, now, made);
            if (sealing is not null)
                AddSealingKey(participant, Path.Combine(home, "sealing.key"), sealing, now, made);
            for (var i = 1; i <= Officials; i++)
            {
                var official = OfficialOf(participant.Id, i);
                AddKey(
                    participant,
                    Path.Combine(home, "officials", $"{official}.key"),
                    "approvals",
                    SigningKeyUse.Approvals,
                    now,
                    made,
                    official
                );
            }
        }
        if (there && agreement.Equals(before))
            return Relative();
        // A change needs a new version, because services refuse another agreement of a version that they know. The previous version is kept
        // for those who missed it.
        if (there)
        {
            AgreementVersions.Follow(before, agreement);
            Write(AgreementFile.PathOf(path, before.Version), File.ReadAllText(path), secret: false, made);
        }
        foreach (var participant in agreement.Participants.Where(AgreementVersions.Signs))
            Sign(there ? before : null, agreement, participant.Id, Path.Combine(folder, participant.Id, "agreements.key"));
        Write(path, new JsonFormatter(JsonFormatter.Settings.Default.WithIndentation()).Format(agreement) + "\n", secret: false, made);
        return Relative();

        string[] Relative() => [.. made.Select(m => Path.GetRelativePath(folder, m))];
    }

    /// <summary>Signs a version of the agreement with a participant's key for agreements.</summary>
    /// <param name="previous">The version before, which says which of its keys counts; null: there is none.</param>
    /// <param name="agreement">The version.</param>
    /// <param name="participant">The participant.</param>
    /// <param name="location">Where the key is (<see cref="KeySource"/>).</param>
    /// <param name="secretsFolder">The secrets folder; null: the usual one.</param>
    /// <exception cref="FormatException">Neither version lists the key as one of the participant's for agreements.</exception>
    /// <exception cref="IOException">The key cannot be used.</exception>
    public static void Sign(Agreement? previous, Agreement agreement, string participant, string location, string? secretsFolder = null)
    {
        using var key = KeySource.Open(location, secretsFolder);
        var bytes = ByteString.CopyFrom(key.PublicKey.Span);
        var listed =
            new[] { previous, agreement }
                .SelectMany(a => a?.Participants.Where(p => p.Id == participant).SelectMany(p => p.SigningKeys) ?? [])
                .FirstOrDefault(k => k.Use == SigningKeyUse.Agreements && k.PublicKey == bytes)
            ?? throw new FormatException($"{location} is not one of {participant}'s keys for agreements");
        AgreementVersions.Sign(agreement, participant, listed.Id, key);
    }

    private static Agreement ReadAgreement(string path)
    {
        try
        {
            return AgreementFile.Load(path).Agreement;
        }
        catch (AgreementRefusedException e)
        {
            throw new FormatException($"{path}: {e.Message}", e);
        }
    }

    private static CertificateAuthority AuthorityOf(Participant participant, string home, DateTimeOffset now, List<string> made)
    {
        var (certificate, key) = (Path.Combine(home, "authority.pem"), Path.Combine(home, "authority.key"));
        if (!File.Exists(certificate) || !File.Exists(key))
        {
            using var created = CertificateAuthority.Create(
                $"{participant.Id} development authority",
                now.AddMinutes(-5),
                now + AuthorityLife
            );
            Write(key, created.Certificate.GetECDsaPrivateKey()!.ExportPkcs8PrivateKeyPem() + "\n", secret: true, made);
            Write(certificate, created.Certificate.ExportCertificatePem() + "\n", secret: false, made);
        }
        var authority = CertificateAuthority.Read(certificate, key);
        var pem = authority.Certificate.ExportCertificatePem();
        if (!participant.AuthorityCertificates.Contains(pem))
            participant.AuthorityCertificates.Add(pem);
        return authority;
    }

    private static void Issue(
        string domain,
        Participant participant,
        string system,
        string home,
        CertificateAuthority authority,
        DateTimeOffset now,
        IReadOnlyList<string> hosts,
        List<string> made
    )
    {
        var (certificate, key) = (Path.Combine(home, $"{system}.pem"), Path.Combine(home, $"{system}.key"));
        if (File.Exists(certificate) && File.Exists(key))
        {
            using var old = X509CertificateLoader.LoadCertificateFromFile(certificate);
            if (
                old.NotAfter > now + RenewBefore
                && old.IssuerName.RawData.AsSpan().SequenceEqual(authority.Certificate.SubjectName.RawData)
                && File.GetLastWriteTimeUtc(certificate) >= File.GetLastWriteTimeUtc(Path.Combine(home, "authority.pem"))
            )
                return;
        }
        // A service is known by its own name, a witness by its participant's: kr/mfa as witness-kr-mfa.
        var host =
            system == Witness ? $"{Witness}-{participant.Id.Replace('/', '-')}"
            : participant.Kind == ParticipantKind.Service ? participant.Id[(participant.Id.IndexOf('/') + 1)..]
            : null;
        using var issued = authority.Issue(
            $"{participant.Id}/{system}",
            new CertificateTerms(
                [$"spiffe://{domain}/{participant.Id}/{system}"],
                now.AddMinutes(-5),
                now + SystemLife,
                Client: system != Witness,
                Hosts: host is null ? null : [.. new[] { "localhost", "127.0.0.1", "::1", host }.Union(hosts)]
            )
        );
        Write(key, issued.GetECDsaPrivateKey()!.ExportPkcs8PrivateKeyPem() + "\n", secret: true, made);
        Write(certificate, issued.ExportCertificatePem() + "\n", secret: false, made);
    }

    private static void AddKey(
        Participant participant,
        string path,
        string name,
        SigningKeyUse use,
        DateTimeOffset now,
        List<string> made,
        string official = ""
    )
    {
        Ledger.PrivateFiles.MakeOpenFolder(Path.GetDirectoryName(Path.GetFullPath(path))!);
        using var key = MakeKey(path, made);
        var bytes = ByteString.CopyFrom(key.PublicKey.Span);
        if (participant.SigningKeys.Any(k => k.PublicKey == bytes))
            return;
        participant.SigningKeys.Add(
            new SigningKey
            {
                Id = $"{participant.Id}/{name}-{participant.SigningKeys.Count(k => k.Use == use) + 1}",
                Use = use,
                PublicKey = bytes,
                ValidFromTime = Timestamp.FromDateTimeOffset(now.AddMinutes(-5)),
                Official = official,
            }
        );
    }

    private static void AddSealingKey(
        Participant participant,
        string path,
        Func<string, byte[]> sealing,
        DateTimeOffset now,
        List<string> made
    )
    {
        if (!File.Exists(path))
            made.Add(path);
        var publicKey = ByteString.CopyFrom(sealing(path));
        if (participant.SealingKeys.All(k => k.PublicKey != publicKey))
            participant.SealingKeys.Add(
                new SealingKey
                {
                    Id = $"{participant.Id}/sealing-{participant.SealingKeys.Count + 1}",
                    PublicKey = publicKey,
                    ValidFromTime = Timestamp.FromDateTimeOffset(now.AddMinutes(-5)),
                }
            );
    }

    /// <summary>Lists a key of a participant in a version of the agreement. The key's file is created if missing, readable only by its
    /// owner. In a token and in the secrets folder, nothing is created.</summary>
    /// <param name="agreement">The version, which is changed.</param>
    /// <param name="participant">The participant.</param>
    /// <param name="use">What the key signs.</param>
    /// <param name="location">Where the key is (<see cref="KeySource"/>).</param>
    /// <param name="from">From when it may sign, rounded down to a whole second.</param>
    /// <param name="official">Of a key for approvals: the official's pseudonymous id.</param>
    /// <param name="secretsFolder">The secrets folder; null: the usual one.</param>
    /// <returns>The key as it is listed, with its id.</returns>
    /// <exception cref="FormatException">There is no such participant, or it has the key already.</exception>
    public static SigningKey ListKey(
        Agreement agreement,
        string participant,
        SigningKeyUse use,
        string location,
        DateTimeOffset from,
        string official = "",
        string? secretsFolder = null
    )
    {
        var owner =
            agreement.Participants.FirstOrDefault(p => p.Id == participant)
            ?? throw new FormatException($"{participant} is not a participant of the agreement");
        using var key =
            KeySource.PathOf(location, secretsFolder) == location ? MakeKey(location, []) : KeySource.Open(location, secretsFolder);
        var bytes = ByteString.CopyFrom(key.PublicKey.Span);
        if (agreement.Participants.SelectMany(p => p.SigningKeys).FirstOrDefault(k => k.PublicKey == bytes) is { } known)
            throw new FormatException($"{location} is listed already, as {known.Id}; a key cannot be listed again");
        var name = $"{participant}/{(use == SigningKeyUse.Checkpoints ? "checkpoint" : use.ToString().ToLowerInvariant())}-";
        var number = 1;
        while (owner.SigningKeys.Any(k => k.Id == $"{name}{number}"))
            number++;
        var listed = new SigningKey
        {
            // A signature says in whole seconds when it was made: with a fraction here, the first second of the key would be refused.
            Id = $"{name}{number}",
            Use = use,
            PublicKey = bytes,
            Official = official,
            ValidFromTime = Timestamp.FromDateTimeOffset(DateTimeOffset.FromUnixTimeSeconds(from.ToUnixTimeSeconds())),
        };
        owner.SigningKeys.Add(listed);
        return listed;
    }

    private static Signer MakeKey(string path, List<string> made)
    {
        if (File.Exists(path))
            return KeySource.Open(path);
        using var created = Key.Create(
            SignatureAlgorithm.Ed25519,
            new KeyCreationParameters { ExportPolicy = KeyExportPolicies.AllowPlaintextArchiving }
        );
        Write(path, global::System.Text.Encoding.ASCII.GetString(created.Export(KeyBlobFormat.PkixPrivateKeyText)), secret: true, made);
        return KeySource.Open(path);
    }

    private static void Write(string path, string text, bool secret, List<string> made)
    {
        // Written atomically, because a service may be reading the file.
        Ledger.WholeFile.Write(
            path,
            text,
            mode: UnixFileMode.UserRead | UnixFileMode.UserWrite | (secret ? 0 : UnixFileMode.GroupRead | UnixFileMode.OtherRead)
        );
        made.Add(path);
    }
}
