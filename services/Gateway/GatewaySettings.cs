using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text.Json;
using System.Text.Json.Serialization;
using Ministries.Keys;
using Ministries.Ledger;
using Ministries.Trust;

namespace Ministries.Gateway;

/// <summary>What a gateway is told at its start, as its settings file says it (JSON, names in camelCase). A name that is not known is a
/// fault.
/// </summary>
public sealed record GatewaySettings
{
    /// <summary>The participant whose gateway it is, such as <c>kr/mfa</c>.</summary>
    public required string Participant { get; init; }

    /// <summary>The folder with the participant's files, as <c>ministry pki init</c> makes it.</summary>
    public required string Folder { get; init; }

    /// <summary>The folder of what it keeps: outbox, mirror, receipts, checkpoints seen. Never restore it from a backup, and never let two
    /// gateways use it.</summary>
    public required string State { get; init; }

    /// <summary>The services' addresses by name. A service of several replicas has several, at most <see cref="ServiceAddresses.Most"/>; in
    /// the file they are one text with commas between them.</summary>
    public IReadOnlyDictionary<string, IReadOnlyList<Uri>> Services { get; init; } = StandardServices;

    /// <summary>Where the participant's key for requests is; null: the folder's <c>requests.key</c>.</summary>
    public string? RequestsKey { get; init; }

    /// <summary>The folder of <c>secrets:NAME</c>. Default: <c>/run/secrets</c>.</summary>
    public string SecretsFolder { get; init; } = KeySource.DefaultSecretsFolder;

    /// <summary>Where it listens (HTTPS): an address, or a name, at all addresses of which it listens. Default: port 7120 of this machine
    /// alone. At any other address, <see cref="Certificate"/> and at least one of <see cref="Tokens"/>, <see cref="Systems"/> and
    /// <see cref="Officials"/> must be set.</summary>
    public Uri Listen { get; init; } = new("https://127.0.0.1:7120");

    /// <summary>The names by which it may be called beside the name in <see cref="Listen"/>. A request for another name is refused, so that
    /// no page in a browser reaches it by a name of its own (DNS rebinding).</summary>
    public IReadOnlyList<string> Names { get; init; } = [];

    /// <summary>File of its certificate chain (PEM); null: it makes one for this machine alone, <c>gateway.pem</c> in <see cref="State"/>.
    /// </summary>
    public string? Certificate { get; init; }

    /// <summary>Where the certificate's key is (PEM): a file, or <c>secrets:NAME</c>.</summary>
    public string? CertificateKey { get; init; }

    /// <summary>File of the tokens of systems (<see cref="TokenFile"/>); null: it makes one token for this machine, <c>local.token</c> in
    /// <see cref="State"/>, unless systems or officials are set.</summary>
    public string? Tokens { get; init; }

    /// <summary>The systems that call with a certificate; null: none.</summary>
    public SystemSettings? Systems { get; init; }

    /// <summary>The provider that says who an official is; null: none.</summary>
    public OfficialSettings? Officials { get; init; }

    /// <summary>The systems to which events are sent.</summary>
    public IReadOnlyList<WebhookSettings> Webhooks { get; init; } = [];

    /// <summary>Where the mirror is; null: in SQLite, <c>mirror.db</c> in <see cref="State"/>. Outbox and webhooks stay in
    /// <see cref="State"/>.
    /// </summary>
    public MirrorSettings? Mirror { get; init; }

    /// <summary>Where its participant's witness listens; null: it runs none.</summary>
    public Uri? Witness { get; init; }

    /// <summary>Where Prometheus reads <c>/metrics</c> (HTTP), such as <c>http://127.0.0.1:9465</c>; null: nowhere.</summary>
    public Uri? Metrics { get; init; }

    /// <summary>Where its spans are sent by OTLP/gRPC, such as <c>http://127.0.0.1:4317</c>; null: nowhere. At most 16,384 spans wait for
    /// the collector; more are dropped. They hold ids, names of RPCs and reasons of refusals, and nothing about a person.</summary>
    public Uri? Otlp { get; init; }

    /// <summary>Whether that collector is the services' own. The trace then goes on in the services; otherwise theirs begin anew with a
    /// link to the gateway's. Default: false.</summary>
    public bool SharesCollector { get; init; }

    /// <summary>How long a write waits for its answer before it is answered 202, 0 to 30 s. Default: 5 s.</summary>
    public double AnswerSeconds { get; init; } = 5;

    /// <summary>How many writes may wait for an answer. Default: 10,000.</summary>
    public int OutboxRequests { get; init; } = 10_000;

    /// <summary>How many bytes of writes may wait. Default: 256 MiB.</summary>
    public long OutboxBytes { get; init; } = 256 << 20;

    /// <summary>For how many days an answer stays in the outbox, 1 to 3,650. Default: 90.</summary>
    public int AnswerDays { get; init; } = 90;

    /// <summary>Ports 7101, 7102 and 7103 of this machine.</summary>
    public static readonly IReadOnlyDictionary<string, IReadOnlyList<Uri>> StandardServices = new Dictionary<string, IReadOnlyList<Uri>>
    {
        ["calllog"] = [new("https://127.0.0.1:7101")],
        ["custody"] = [new("https://127.0.0.1:7102")],
        ["consular"] = [new("https://127.0.0.1:7103")],
    };

    private static readonly JsonSerializerOptions Form = new(JsonSerializerDefaults.Web)
    {
        UnmappedMemberHandling = JsonUnmappedMemberHandling.Disallow,
        AllowDuplicateProperties = false,
        PropertyNameCaseInsensitive = false,
        NumberHandling = JsonNumberHandling.Strict,
        ReadCommentHandling = JsonCommentHandling.Skip,
        RespectNullableAnnotations = true,
        Converters = { new AddressesForm() },
    };

    private sealed class AddressesForm : JsonConverter<IReadOnlyList<Uri>>
    {
        public override IReadOnlyList<Uri> Read(ref Utf8JsonReader reader, Type type, JsonSerializerOptions options) =>
            reader.TokenType == JsonTokenType.String && ServiceAddresses.Read(reader.GetString()!) is { } addresses
                ? addresses
                : throw new JsonException("an address of a service must be such as https://custody:7100; separate several with commas");

        public override void Write(Utf8JsonWriter writer, IReadOnlyList<Uri> value, JsonSerializerOptions options) =>
            writer.WriteStringValue(string.Join(',', value));
    }

    /// <summary>Reads a settings file. Paths in it are relative to the folder in which the process runs.</summary>
    /// <exception cref="FormatException">It holds what is no setting, or a password, and others than its owner may read it.</exception>
    /// <exception cref="IOException">It cannot be read.</exception>
    public static GatewaySettings Read(string path)
    {
        try
        {
            var settings =
                JsonSerializer.Deserialize<GatewaySettings>(File.ReadAllBytes(path), Form)
                ?? throw new FormatException($"{path} holds no settings");
            if (settings.Mirror is { HasPassword: true })
                OwnFile.ReadText(path);
            settings.CheckListen();
            return settings;
        }
        catch (JsonException e)
        {
            throw new FormatException($"{path}: {e.Message}", e);
        }
    }

    /// <summary>The client's settings.</summary>
    internal MinistrySettings Client
    {
        get
        {
            var client = MinistrySettings.In(Folder, Participant, Services);
            return client with
            {
                RequestsKey = RequestsKey ?? client.RequestsKey,
                SecretsFolder = SecretsFolder,
                SeenFolder = Path.Combine(State, "seen"),
                Propagator = new OwnSpans(this),
                // The outbox repeats them, and has a place for other writes meanwhile.
                RepeatsWrites = false,
                WriteDeadline = client.Deadline,
            };
        }
    }

    /// <summary>The folder with the receipt of each accepted write, as <see cref="MinistrySettings.ReceiptFolder"/> has them: the command
    /// finds them there for evidence.</summary>
    internal string Receipts => Path.Combine(State, "receipts");

    /// <summary>Whether only this machine reaches it.</summary>
    internal bool IsLocal => Listen.IsLoopback;

    /// <summary>Looks for what no start mends.</summary>
    /// <exception cref="FormatException">A setting is wrong, or misses another.</exception>
    internal void Check()
    {
        CheckListen();
        Demand(
            Witness is null or { IsAbsoluteUri: true, Scheme: "https" },
            $"witness must be an address such as https://0.0.0.0:7110, not {Witness}"
        );
        Demand(
            Metrics is null or { IsAbsoluteUri: true, Scheme: "http" },
            $"metrics must be an address such as http://127.0.0.1:9465, not {Metrics}"
        );
        Demand(
            Otlp is null or { IsAbsoluteUri: true, Scheme: "http" or "https" },
            $"otlp must be an address such as http://127.0.0.1:4317, not {Otlp}"
        );
        Demand(AnswerSeconds is >= 0 and <= 30, "answerSeconds must be 0 to 30");
        Demand(OutboxRequests is >= 1 and <= 1_000_000, "outboxRequests must be 1 to 1000000");
        Demand(OutboxBytes >= 1 << 20, "outboxBytes must be at least 1048576");
        Demand(AnswerDays is >= 1 and <= 3650, "answerDays must be 1 to 3650");
        Demand(Certificate is null == CertificateKey is null, "certificate and certificateKey are set together");
        Demand(
            IsLocal || Certificate is not null && (Tokens ?? (object?)Systems ?? Officials) is not null,
            $"{Listen} is reached from other machines: set certificate, certificateKey, and one of tokens, systems, officials"
        );
        foreach (var service in Services.Keys.Where(s => !Contract.Services.Contains(s)))
            Demand(false, $"services names {service}; it must be one of {string.Join(", ", Contract.Services)}");
        foreach (var (role, of) in (Systems?.Names ?? NoSystems).SelectMany(s => s.Value.Select(r => (r, $"the system {s.Key}"))))
            Demand(Gateway.Roles.All.Contains(role), $"{of} has the role {role}; it must be one of {string.Join(", ", Gateway.Roles.All)}");
        Officials?.Check();
        Demand(Webhooks.Select(w => w.Name).Distinct().Count() == Webhooks.Count, "two webhooks have one name");
        Demand(Webhooks.Count <= 16, "there are more than 16 webhooks");
        foreach (var webhook in Webhooks)
            webhook.Check();
        PrivateFiles.MakeFolder(State);
    }

    // The health check reads no other address of the settings.
    private void CheckListen() =>
        Demand(
            Listen is { IsAbsoluteUri: true, Scheme: "https" },
            $"listen must be an address such as https://127.0.0.1:7120, not {Listen}"
        );

    private static readonly IReadOnlyDictionary<string, IReadOnlyList<string>> NoSystems = new Dictionary<string, IReadOnlyList<string>>();

    internal static void Demand(bool so, string otherwise)
    {
        if (!so)
            throw new FormatException(otherwise);
    }
}

/// <summary>Where the mirror is.</summary>
public sealed record MirrorSettings
{
    /// <summary>A Npgsql connection string of a PostgreSQL database that no other gateway uses, as the services' <c>Ledger:Connection</c>.
    /// It may name several servers, of which the primary is found. A password may stand in a file that it names
    /// (<c>Passfile</c>).</summary>
    public required string Connection { get; init; }

    // Any keyword that looks like a password counts: an unreadable connection string is reported later.
    internal bool HasPassword =>
        Connection.Contains("password", StringComparison.OrdinalIgnoreCase)
        || Connection.Contains("pwd", StringComparison.OrdinalIgnoreCase);
}

/// <summary>The systems that call with a certificate (mutual TLS).</summary>
public sealed record SystemSettings
{
    /// <summary>File of the authorities that vouch for them (PEM), read at the start. No other authority of the machine counts.</summary>
    public required string Authorities { get; init; }

    /// <summary>The roles of each system, by a DNS name in its certificate.</summary>
    public required IReadOnlyDictionary<string, IReadOnlyList<string>> Names { get; init; }

    /// <summary>The use of a certificate by a client (RFC 5280, 4.2.1.12).</summary>
    internal const string ClientUse = "1.3.6.1.5.5.7.3.2";

    /// <summary>How a system's certificate is judged: for use by a client, by these authorities and what the system has sent, without
    /// asking anybody on the network.</summary>
    internal X509ChainPolicy Policy()
    {
        var policy = ServiceChannel.Offline();
        policy.CustomTrustStore.ImportFromPemFile(Authorities);
        policy.ApplicationPolicy.Add(new Oid(ClientUse));
        return policy;
    }
}

/// <summary>An OpenID Connect provider, whose access tokens (JWT) say who an official is.</summary>
public sealed record OfficialSettings
{
    /// <summary>The provider's issuer, under which its configuration is found (HTTPS).</summary>
    public required Uri Authority { get; init; }

    /// <summary>The audience that a token must name.</summary>
    public required string Audience { get; init; }

    /// <summary>File of the authorities that vouch for the provider's own certificate (PEM); null: the machine's.</summary>
    public string? Authorities { get; init; }

    /// <summary>The claim with his roles. Default: <c>roles</c>.</summary>
    public string RoleClaim { get; init; } = "roles";

    /// <summary>What a value of that claim means, such as <c>"mfa-desk": "clerk"</c>. Other values mean nothing. Default: the roles' own
    /// names.
    /// </summary>
    public IReadOnlyDictionary<string, string> Roles { get; init; } = Gateway.Roles.All.ToDictionary(r => r);

    /// <summary>The claim with his code, as the agreement lists it (<c>Participant.officials</c>). Default:
    /// <c>ministries_official</c>.</summary>
    public string OfficialClaim { get; init; } = "ministries_official";

    /// <summary>The claim with his office. Default: <c>ministries_office</c>.</summary>
    public string OfficeClaim { get; init; } = "ministries_office";

    internal void Check()
    {
        GatewaySettings.Demand(
            Authority is { IsAbsoluteUri: true, Scheme: "https" },
            $"the authority of officials must be an address such as https://login.mfa.example/, not {Authority}"
        );
        foreach (var (value, role) in Roles)
            GatewaySettings.Demand(
                Gateway.Roles.All.Contains(role),
                $"the roles of officials say that {value} is {role}; it must be one of {string.Join(", ", Gateway.Roles.All)}"
            );
    }
}

/// <summary>A system to which events are sent (Standard Webhooks).</summary>
public sealed record WebhookSettings
{
    /// <summary>Its name in the list of dead letters: 1 to 64 letters, digits and hyphens.</summary>
    public required string Name { get; init; }

    /// <summary>Where it takes them (HTTPS; HTTP on this machine alone).</summary>
    public required Uri Url { get; init; }

    /// <summary>File of the secret that signs them: <c>whsec_</c> and 24 to 64 bytes in Base64. Its owner alone may read it.</summary>
    public required string Secret { get; init; }

    /// <summary>File of the authorities that vouch for its certificate (PEM); null: the machine's.</summary>
    public string? Authorities { get; init; }

    /// <summary>The types of event that it gets, such as <c>ministries.calllog.v1.CallLogged</c>; none: all.</summary>
    public IReadOnlyList<string> Types { get; init; } = [];

    /// <summary>How often an event is sent before it is set aside as a dead letter, 1 to 1,000. Default: 20, which is about a
    /// day.</summary>
    public int Attempts { get; init; } = 20;

    internal void Check()
    {
        GatewaySettings.Demand(
            Name.Length is >= 1 and <= 64 && Name.All(c => char.IsAsciiLetterOrDigit(c) || c == '-'),
            "a webhook's name has 1 to 64 letters, digits and hyphens"
        );
        GatewaySettings.Demand(
            Url.IsAbsoluteUri && (Url.Scheme == "https" || Url.Scheme == "http" && Url.IsLoopback),
            $"the webhook {Name} must have an address with https"
        );
        // It would get nothing, and nobody would miss it.
        foreach (var type in Types.Where(t => Contract.Types.Find(t) is null))
            GatewaySettings.Demand(false, $"the webhook {Name} is to get {type}, which the contracts do not know");
        GatewaySettings.Demand(Attempts is >= 1 and <= 1000, $"the attempts of the webhook {Name} must be 1 to 1000");
    }
}
