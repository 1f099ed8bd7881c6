using System.Security.Cryptography.X509Certificates;
using Google.Protobuf;
using Ministries.Ledger;
using Ministries.Trust;
using Ministries.Types.V1;
using NSec.Cryptography;

namespace Ministries.Fixtures;

/// <summary>Signs the requests of a test's plain gRPC client, and versions of the agreement, with the keys that <see cref="Pki.Init"/>
/// made.</summary>
public static class Signing
{
    /// <summary>A handler that signs writes before it hands them on.</summary>
    /// <param name="folder">Where the keys are.</param>
    /// <param name="participant">The participant. Without a key for requests, it can only read.</param>
    /// <param name="inner">What sends them.</param>
    /// <param name="service">The service to which it leads, such as <c>calllog</c>.</param>
    /// <param name="time">The clock; null: the system's.</param>
    public static HttpMessageHandler Handler(
        string folder,
        string participant,
        HttpMessageHandler inner,
        string service,
        TimeProvider? time = null
    )
    {
        var key = Path.Combine(folder, participant, "requests.key");
        return File.Exists(key)
            ? new SigningHandler(
                KeyIn(key),
                $"{participant}/requests-1",
                HttpSignature.TagOf(Agreement(folder).TrustDomain, service),
                time ?? TimeProvider.System
            )
            {
                InnerHandler = inner,
            }
            : inner;
    }

    /// <summary>A handler with the participant's certificate that knows the service by the agreement, as every client of this project
    /// does, and signs writes.</summary>
    /// <param name="folder">Where the certificates, keys and agreement are.</param>
    /// <param name="participant">The participant.</param>
    /// <param name="service">The service that is called, such as <c>calllog</c>.</param>
    public static HttpMessageHandler Handler(string folder, string participant, string service)
    {
        var certificate = X509Certificate2.CreateFromPemFile(
            Path.Combine(folder, participant, "system.pem"),
            Path.Combine(folder, participant, "system.key")
        );
        var authorities = new Authorities(Agreement(folder));
        return Handler(
            folder,
            participant,
            ServiceChannel.Handler(service, () => certificate, () => authorities, TimeSpan.FromSeconds(5), TimeProvider.System),
            service
        );
    }

    /// <summary>Signs the next version of the folder's agreement and puts it in place atomically.</summary>
    /// <param name="folder">Where the agreement and the keys are.</param>
    /// <param name="change">What it changes.</param>
    /// <param name="signers">Who signs; null: everybody who may.</param>
    public static Agreement Next(string folder, Action<Agreement> change, IEnumerable<string>? signers = null)
    {
        var previous = Agreement(folder);
        var next = previous.Clone();
        change(next);
        AgreementVersions.Follow(previous, next);
        foreach (var signer in signers ?? previous.Participants.Where(AgreementVersions.Signs).Select(p => p.Id))
            Pki.Sign(previous, next, signer, Path.Combine(folder, signer, "agreements.key"));
        var path = Path.Combine(folder, "agreement.json");
        File.Copy(path, AgreementFile.PathOf(path, previous.Version), overwrite: true);
        Put(folder, next);
        return next;
    }

    /// <summary>A participant of an agreement.</summary>
    public static Participant Of(Agreement agreement, string id) => agreement.Participants.Single(p => p.Id == id);

    /// <summary>A new key that can be written to a file.</summary>
    public static Key NewKey() =>
        Key.Create(SignatureAlgorithm.Ed25519, new KeyCreationParameters { ExportPolicy = KeyExportPolicies.AllowPlaintextArchiving });

    /// <summary>The key in a file, with which a test can do more than sign.</summary>
    public static Key KeyIn(string path) =>
        Key.Import(SignatureAlgorithm.Ed25519, File.ReadAllBytes(path), KeyBlobFormat.PkixPrivateKeyText);

    /// <summary>A key as an agreement lists it.</summary>
    public static SigningKey Listed(string id, SigningKeyUse use, Key key, string official = "") =>
        new()
        {
            Id = id,
            Use = use,
            PublicKey = ByteString.CopyFrom(key.PublicKey.Export(KeyBlobFormat.RawPublicKey)),
            Official = official,
        };

    /// <summary>Replaces the key in a file atomically.</summary>
    public static void Replace(string path, Key key) =>
        WholeFile.Write(path, System.Text.Encoding.ASCII.GetString(key.Export(KeyBlobFormat.PkixPrivateKeyText)), mode: PrivateFiles.Mode);

    /// <summary>The folder's agreement.</summary>
    public static Agreement Agreement(string folder) =>
        JsonParser.Default.Parse<Agreement>(File.ReadAllText(Path.Combine(folder, "agreement.json")));

    /// <summary>Replaces the folder's agreement, without signing.</summary>
    public static void Put(string folder, Agreement agreement)
    {
        var path = Path.Combine(folder, "agreement.json");
        File.WriteAllText(path + ".next", JsonFormatter.Default.Format(agreement));
        File.Move(path + ".next", path, overwrite: true);
    }
}
