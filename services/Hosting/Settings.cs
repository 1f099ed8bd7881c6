using System.Globalization;
using Microsoft.Extensions.Configuration;
using Ministries.Keys;
using Ministries.Ledger;

namespace Ministries.Hosting;

/// <summary>The settings of a service process. They come from <c>appsettings.json</c>, environment variables (<c>Ledger__Connection</c>)
/// and the command line (<c>--Ledger:Connection=…</c>); a later one of these overrides an earlier one. The folder that
/// <c>SettingsFolder</c> names may hold one file for each setting (<c>Ledger__Connection</c>), which overrides all of them.</summary>
public sealed record Settings
{
    /// <summary><c>Ledger:Connection</c>: <c>sqlite:</c> and a file, or a Npgsql connection string.</summary>
    public required string Ledger { get; init; }

    /// <summary><c>Ledger:ExpectReplication</c>: whether it is reported that the database does not replicate synchronously, even while it
    /// has no standby. With a standby it is reported always. Default: no.</summary>
    public bool ExpectReplication { get; init; }

    /// <summary><c>Ledger:CoverInterval</c>: every how many seconds the ledger commits, 1 to 5, so that nobody learns from its size how
    /// much was recorded and when (<see cref="LedgerOptions.CoverInterval"/>). Default: 0, which means whenever there is something to
    /// record.
    /// </summary>
    public TimeSpan CoverInterval { get; init; }

    /// <summary><c>Ledger:CoverLeaves</c>: the number of entries of each of these commits, 1 to 256. Default: 8.</summary>
    public int CoverLeaves { get; init; } = 8;

    /// <summary><c>Broker:Uri</c>: <c>amqp://user:password@host:port/vhost</c>, <c>amqps://…</c>, or <c>memory:</c> for one process.
    /// Several nodes of one cluster are separated by commas; user, password and virtual host are the same in all.</summary>
    public required Uri Broker { get; init; }

    /// <summary>The second and further addresses of <c>Broker:Uri</c>.</summary>
    public IReadOnlyList<Uri> FurtherBrokers { get; init; } = [];

    /// <summary><c>Broker:Authority</c>: file of the authority that vouches for the broker's certificate (PEM); null: those that
    /// the system trusts.</summary>
    public string? BrokerAuthority { get; init; }

    /// <summary><c>Listen</c>: the address to serve at, such as <c>https://127.0.0.1:7101</c>; port 0: any free one. <c>localhost</c> is
    /// 127.0.0.1. Any other name: every address of the machine, of IPv4 and IPv6.</summary>
    public required Uri Listen { get; init; }

    /// <summary><c>Certificate</c>: file of the service's certificate chain (PEM).</summary>
    public required string Certificate { get; init; }

    /// <summary><c>CertificateKey</c>: where the certificate's key is (PEM): a file, or <c>secrets:NAME</c>.</summary>
    public required string CertificateKey { get; init; }

    /// <summary><c>Agreement</c>: file of the agreement (JSON form of <c>ministries.type.v1.Agreement</c>).</summary>
    public required string Agreement { get; init; }

    /// <summary><c>Checkpoint:File</c>: file in which the last checkpoint is kept outside the database.</summary>
    public required string Checkpoint { get; init; }

    /// <summary><c>Checkpoint:Key</c>: where the Ed25519 key is that signs checkpoints (<see cref="KeySource"/>): a file (PKCS #8, PEM),
    /// <c>secrets:NAME</c>, or <c>pkcs11:…</c> of a key in a token.</summary>
    public required string CheckpointKey { get; init; }

    /// <summary><c>SecretsFolder</c>: the folder of <c>secrets:NAME</c>. Default: <c>/run/secrets</c>.</summary>
    public string SecretsFolder { get; init; } = KeySource.DefaultSecretsFolder;

    /// <summary><c>Peers:&lt;service&gt;</c>: the addresses of the other services, by name. A service of several replicas has several, with
    /// commas between them.</summary>
    public IReadOnlyDictionary<string, Uri> Peers { get; init; } = new Dictionary<string, Uri>();

    /// <summary>The second and further addresses of <c>Peers:&lt;service&gt;</c>.</summary>
    public IReadOnlyDictionary<string, IReadOnlyList<Uri>> FurtherPeers { get; init; } = new Dictionary<string, IReadOnlyList<Uri>>();

    /// <summary><c>Reflection</c>: whether gRPC reflection is served. Default: no.</summary>
    public bool Reflection { get; init; }

    /// <summary><c>Drain:Seconds</c>: how long a stop waits for running calls, their commits and the relay, 1 to 300 s.
    /// Default: 20.</summary>
    public TimeSpan Drain { get; init; } = TimeSpan.FromSeconds(20);

    /// <summary><c>OTEL_EXPORTER_OTLP_ENDPOINT</c>: where traces and metrics are sent by OTLP/gRPC; null: they are not sent.</summary>
    public Uri? Otlp { get; init; }

    /// <summary><c>Metrics:Listen</c>: the address at which metrics are served to Prometheus, and nothing else, such as
    /// <c>http://0.0.0.0:9464</c>. It has no TLS and serves whoever reaches it, so it belongs inside the deployment's network only. A host
    /// name stands for its addresses, and for no others. null: metrics are not served.</summary>
    public Uri? Metrics { get; init; }

    /// <summary>Reads and checks the settings.</summary>
    /// <param name="configuration">The sources of the settings.</param>
    /// <param name="peers">The other services whose addresses are needed.</param>
    /// <exception cref="SettingsException">Something is missing or wrong; it names everything at once.</exception>
    public static Settings Read(IConfiguration configuration, params IEnumerable<string> peers)
    {
        var (settings, wrong) = Gather(configuration, peers);
        return wrong.Count == 0 ? settings : throw new SettingsException(wrong);
    }

    /// <summary>Reads and checks the settings. Returns them as far as they can be read, and everything that is missing or wrong.</summary>
    internal static (Settings Settings, IReadOnlyList<string> Wrong) Gather(IConfiguration configuration, IEnumerable<string> peers)
    {
        List<string> wrong = [.. peers.Where(p => configuration[$"Peers:{p}"] is null).Select(p => $"Peers:{p} is not set")];
        var values = new Values(configuration, wrong);
        // Faults are told in the order of these lines.
        var (seconds, reflection) = (values.Whole("Drain:Seconds", 20, 1, 300), values.Flag("Reflection"));
        var expect = values.Flag("Ledger:ExpectReplication");
        var interval = values.Whole("Ledger:CoverInterval", 0, 0, (int)LedgerOptions.MaxCoverInterval.TotalSeconds);
        var leaves = values.Whole("Ledger:CoverLeaves", 8, 1, LedgerOptions.MostCoverLeaves);
        var ledger = values.Text("Ledger:Connection");
        var brokers = values.Brokers("Broker:Uri");
        Dictionary<string, List<Uri>> others = [];
        var settings = new Settings
        {
            Ledger = ledger,
            ExpectReplication = expect,
            CoverInterval = TimeSpan.FromSeconds(interval),
            CoverLeaves = leaves,
            Broker = brokers[0],
            FurtherBrokers = brokers[1..],
            BrokerAuthority = values.Has("Broker:Authority") ? values.Readable("Broker:Authority") : null,
            Listen = values.Address("Listen", "https"),
            Certificate = values.Readable("Certificate"),
            CertificateKey = values.KeyAt("CertificateKey"),
            Agreement = values.Readable("Agreement"),
            Checkpoint = values.Text("Checkpoint:File"),
            CheckpointKey = values.KeyAt("Checkpoint:Key"),
            SecretsFolder = values.SecretsFolder,
            Peers = (others = values.Peers()).ToDictionary(p => p.Key, p => p.Value[0]),
            FurtherPeers = others.ToDictionary(p => p.Key, p => (IReadOnlyList<Uri>)p.Value[1..]),
            Reflection = reflection,
            Drain = TimeSpan.FromSeconds(seconds),
            Otlp = values.Has("OTEL_EXPORTER_OTLP_ENDPOINT") ? values.Address("OTEL_EXPORTER_OTLP_ENDPOINT", "http", "https") : null,
            Metrics = values.Has("Metrics:Listen") ? values.Address("Metrics:Listen", "http") : null,
        };
        return (settings, wrong);
    }

    /// <summary>Reads values, and collects what is missing or wrong. Where a value cannot be read it returns one that nobody
    /// uses.</summary>
    private sealed class Values(IConfiguration configuration, List<string> wrong)
    {
        private static readonly Uri Unread = new("none:");

        public string SecretsFolder { get; } =
            configuration["SecretsFolder"] is { Length: > 0 } folder ? folder : KeySource.DefaultSecretsFolder;

        public bool Has(string key) => configuration[key] is { Length: > 0 };

        public string Text(string key)
        {
            if (configuration[key] is { Length: > 0 } value)
                return value;
            wrong.Add($"{key} is not set");
            return "";
        }

        /// <summary>The path of a file that is there.</summary>
        public string Readable(string key)
        {
            var path = Text(key);
            if (path.Length > 0 && !File.Exists(path))
                wrong.Add($"{key}: there is no file {path}");
            return path;
        }

        /// <summary>The location of a key that can be opened.</summary>
        public string KeyAt(string key)
        {
            var location = Text(key);
            if (location.Length > 0 && KeySource.Wrong(location, SecretsFolder) is { } why)
                wrong.Add($"{key}: {why}");
            return location;
        }

        public int Whole(string key, int otherwise, int least, int greatest)
        {
            if (configuration[key] is not { } text)
                return otherwise;
            if (int.TryParse(text, CultureInfo.InvariantCulture, out var value) && value >= least && value <= greatest)
                return value;
            wrong.Add($"{key} must be a whole number from {least} to {greatest}");
            return otherwise;
        }

        /// <summary>True or false; not set: false.</summary>
        public bool Flag(string key)
        {
            var value = false;
            if (configuration[key] is { } text && !bool.TryParse(text, out value))
                wrong.Add($"{key} must be true or false");
            return value;
        }

        public Uri Address(string key, params string[] schemes) => Parse(key, Text(key), schemes);

        /// <summary>Addresses with commas between them, at least one. A comma in a password is written %2C.</summary>
        public List<Uri> Addresses(string key, params string[] schemes)
        {
            var before = wrong.Count;
            List<Uri> read = [.. Text(key).Split(',', StringSplitOptions.TrimEntries).Select(a => Parse(key, a, schemes)).Distinct()];
            return wrong.Count == before ? read : [Unread];
        }

        /// <summary>The nodes of one broker.</summary>
        public List<Uri> Brokers(string key)
        {
            var read = Addresses(key, "amqp", "amqps", "memory");
            if (read.Select(b => (b.Scheme, b.UserInfo, b.AbsolutePath)).Distinct().Count() > 1)
                wrong.Add($"{key}: all addresses must have the same scheme, user, password and virtual host");
            return read;
        }

        /// <summary>The addresses of the other services, by name.</summary>
        public Dictionary<string, List<Uri>> Peers() =>
            configuration.GetSection("Peers").GetChildren().ToDictionary(p => p.Key, p => Addresses($"Peers:{p.Key}", "https"));

        private Uri Parse(string key, string text, string[] schemes)
        {
            if (Uri.TryCreate(text, UriKind.Absolute, out var uri) && schemes.Contains(uri.Scheme))
                return uri;
            if (text.Length > 0)
                wrong.Add($"{key} must be an address that begins with {string.Join(" or ", schemes.Select(s => s + ":"))}");
            return Unread;
        }
    }
}

/// <summary>A service cannot run with these settings.</summary>
/// <param name="wrong">What is wrong, one sentence each.</param>
public sealed class SettingsException(IReadOnlyList<string> wrong) : Exception(string.Join("; ", wrong))
{
    /// <summary>What is wrong, one sentence each.</summary>
    public IReadOnlyList<string> Wrong => wrong;
}
