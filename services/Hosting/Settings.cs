using System.Globalization;
using Microsoft.Extensions.Configuration;
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

    /// <summary><c>Broker:Uri</c>: <c>amqp://user:password@host:port/vhost</c>, <c>amqps://…</c>, or <c>memory:</c> for one process. Several
    /// nodes of one cluster are separated by commas; user, password and virtual host are the same in all.</summary>
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

    /// <summary><c>CertificateKey</c>: file of the certificate's key (PEM).</summary>
    public required string CertificateKey { get; init; }

    /// <summary><c>Agreement</c>: file of the agreement (JSON form of <c>ministries.type.v1.Agreement</c>).</summary>
    public required string Agreement { get; init; }

    /// <summary><c>Checkpoint:File</c>: file in which the last checkpoint is kept outside the database.</summary>
    public required string Checkpoint { get; init; }

    /// <summary><c>Checkpoint:Key</c>: file of the Ed25519 key that signs checkpoints (PKCS #8, PEM).</summary>
    public required string CheckpointKey { get; init; }

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
        string Text(string key)
        {
            if (configuration[key] is { Length: > 0 } value)
                return value;
            wrong.Add($"{key} is not set");
            return "";
        }
        string Readable(string key)
        {
            var path = Text(key);
            if (path.Length > 0 && !File.Exists(path))
                wrong.Add($"{key}: there is no file {path}");
            return path;
        }
        string KeyFile(string key)
        {
            var path = Readable(key);
            try
            {
                if (File.Exists(path))
                    _ = PrivateFiles.ReadKey(path);
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                wrong.Add($"{key}: {e.Message}");
            }
            return path;
        }
        Uri Parsed(string key, string text, string[] schemes)
        {
            if (Uri.TryCreate(text, UriKind.Absolute, out var uri) && schemes.Contains(uri.Scheme))
                return uri;
            if (text.Length > 0)
                wrong.Add($"{key} must be an address that begins with {string.Join(" or ", schemes.Select(s => s + ":"))}");
            return new Uri("none:");
        }
        Uri Address(string key, params string[] schemes) => Parsed(key, Text(key), schemes);
        // A comma in a password is written %2C.
        List<Uri> Addresses(string key, params string[] schemes)
        {
            var before = wrong.Count;
            List<Uri> read = [.. Text(key).Split(',', StringSplitOptions.TrimEntries).Select(a => Parsed(key, a, schemes)).Distinct()];
            return wrong.Count == before ? read : [new Uri("none:")];
        }
        List<Uri> Brokers()
        {
            var read = Addresses("Broker:Uri", "amqp", "amqps", "memory");
            if (read.Select(b => (b.Scheme, b.UserInfo, b.AbsolutePath)).Distinct().Count() > 1)
                wrong.Add("Broker:Uri: all addresses must have the same scheme, user, password and virtual host");
            return read;
        }
        var seconds = 20;
        if (
            configuration["Drain:Seconds"] is { } drain
            && (!int.TryParse(drain, CultureInfo.InvariantCulture, out seconds) || seconds is < 1 or > 300)
        )
            wrong.Add("Drain:Seconds must be a whole number from 1 to 300");
        var reflection = false;
        if (configuration["Reflection"] is { } said && !bool.TryParse(said, out reflection))
            wrong.Add("Reflection must be true or false");
        var expect = false;
        if (configuration["Ledger:ExpectReplication"] is { } expected && !bool.TryParse(expected, out expect))
            wrong.Add("Ledger:ExpectReplication must be true or false");
        // Faults are told in this order.
        List<Uri> brokers = [];
        Dictionary<string, List<Uri>> others = [];
        var settings = new Settings
        {
            Ledger = Text("Ledger:Connection"),
            ExpectReplication = expect,
            Broker = (brokers = Brokers())[0],
            FurtherBrokers = brokers[1..],
            BrokerAuthority = configuration["Broker:Authority"] is { Length: > 0 } ? Readable("Broker:Authority") : null,
            Listen = Address("Listen", "https"),
            Certificate = Readable("Certificate"),
            CertificateKey = KeyFile("CertificateKey"),
            Agreement = Readable("Agreement"),
            Checkpoint = Text("Checkpoint:File"),
            CheckpointKey = KeyFile("Checkpoint:Key"),
            Peers = (
                others = configuration.GetSection("Peers").GetChildren().ToDictionary(p => p.Key, p => Addresses($"Peers:{p.Key}", "https"))
            ).ToDictionary(p => p.Key, p => p.Value[0]),
            FurtherPeers = others.ToDictionary(p => p.Key, p => (IReadOnlyList<Uri>)p.Value[1..]),
            Reflection = reflection,
            Drain = TimeSpan.FromSeconds(seconds),
            Otlp = configuration["OTEL_EXPORTER_OTLP_ENDPOINT"] is { Length: > 0 }
                ? Address("OTEL_EXPORTER_OTLP_ENDPOINT", "http", "https")
                : null,
            Metrics = configuration["Metrics:Listen"] is { Length: > 0 } ? Address("Metrics:Listen", "http") : null,
        };
        return (settings, wrong);
    }
}

/// <summary>A service cannot run with these settings.</summary>
/// <param name="wrong">What is wrong, one sentence each.</param>
public sealed class SettingsException(IReadOnlyList<string> wrong) : Exception(string.Join("; ", wrong))
{
    /// <summary>What is wrong, one sentence each.</summary>
    public IReadOnlyList<string> Wrong => wrong;
}
