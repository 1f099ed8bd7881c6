using System.Collections.Concurrent;
using System.Net;
using System.Net.Sockets;
using System.Security.Cryptography;
using System.Text;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Ministries.Fixtures;
using Ministries.Hosting.Bus;
using Ministries.Ledger;
using Ministries.Trust;
using Npgsql;

namespace Ministries.Hosting.Tests;

/// <summary>What a service says when it cannot start, through the function that its program is.</summary>
public sealed class StartTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("start").FullName;

    public StartTests() => Pki.Init(_folder, StandardAgreement.Read(), TimeProvider.System);

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private string File(string name) => Path.Combine(_folder, name);

    private string Home(string name) => Path.Combine(_folder, "service", "calllog", name);

    private string Write(string name, byte[] content)
    {
        var path = File(name);
        using (var file = PrivateFiles.Open(path, FileMode.Create))
            file.Write(content);
        return path;
    }

    private string Write(string name, string content) => Write(name, Encoding.UTF8.GetBytes(content));

    // Starts the service as its program does. If it serves, it is stopped at once.
    private async Task<(int Code, string[] Lines)> Start(
        Action<IServiceProvider>? serving = null,
        params (string Setting, string Value)[] others
    )
    {
        var settings = new Dictionary<string, string>
        {
            ["Ledger:Connection"] = $"sqlite:{File("calllog.db")}",
            ["Broker:Uri"] = "amqp://127.0.0.1:1",
            ["Listen"] = "https://127.0.0.1:0",
            ["Agreement"] = File("agreement.json"),
            ["Certificate"] = Home("system.pem"),
            ["CertificateKey"] = Home("system.key"),
            ["Checkpoint:File"] = File("calllog.checkpoint"),
            ["Checkpoint:Key"] = Home("checkpoint.key"),
        };
        foreach (var (setting, value) in others)
            settings[setting] = value;
        using var errors = new StringWriter();
        var code = await ServiceHost.Run(
            [.. settings.Select(s => $"--{s.Key}={s.Value}")],
            new Service
            {
                Name = "calllog",
                Streams = [Cases.Kind],
                Map = endpoints =>
                {
                    var life = endpoints.ServiceProvider.GetRequiredService<IHostApplicationLifetime>();
                    life.ApplicationStarted.Register(() =>
                    {
                        serving?.Invoke(endpoints.ServiceProvider);
                        life.StopApplication();
                    });
                },
            },
            errors
        );
        return (code, errors.ToString().Split('\n', StringSplitOptions.RemoveEmptyEntries));
    }

    [Fact]
    public async Task All_that_keeps_a_service_from_starting_is_told_at_once_with_its_setting_and_file()
    {
        using var taken = new TcpListener(IPAddress.Loopback, 0);
        taken.Start();
        var port = ((IPEndPoint)taken.LocalEndpoint).Port;
        using var rsa = RSA.Create(2048);
        var text = Write("no-certificate.pem", "nothing");
        var foreign = Write("rsa.key", rsa.ExportPkcs8PrivateKeyPem());
        var wide = Write(
            "wide.json",
            [.. Encoding.Unicode.Preamble, .. Encoding.Unicode.GetBytes(System.IO.File.ReadAllText(File("agreement.json")))]
        );
        var (code, lines) = await Start(
            null,
            ("Ledger:Connection", "Hsot=db;Username=calllog;Password=secret"),
            ("Listen", $"https://127.0.0.1:{port}"),
            ("Drain:Seconds", "0"),
            ("Agreement", wide),
            ("Broker:Authority", text),
            ("Certificate", text),
            ("Checkpoint:Key", foreign),
            ("Checkpoint:File", Path.Combine(text, "below", "calllog.checkpoint"))
        );
        Assert.Equal(ServiceHost.WrongSettings, code);
        string[] begins =
        [
            "calllog: Drain:Seconds must be",
            $"calllog: Certificate: {text}: ",
            $"calllog: Agreement: {wide}: the agreement is refused: it is not UTF-8",
            $"calllog: Checkpoint:Key: {foreign}: the key is of the algorithm 1.2.840.113549.1.1.1",
            $"calllog: Broker:Authority: {text}: there is no certificate",
            $"calllog: Checkpoint:File: {text}/below/calllog.checkpoint cannot be written: ",
            "calllog: Ledger:Connection: the connection string cannot be read: Npgsql knows no keyword 'hsot'",
            $"calllog: Listen: another process uses port {port} of 127.0.0.1",
        ];
        Assert.Equal(begins.Length, lines.Length);
        Assert.All(lines.Zip(begins), pair => Assert.StartsWith(pair.Second, pair.First, StringComparison.Ordinal));
        Assert.DoesNotContain(lines, l => l.Contains("secret", StringComparison.Ordinal) || l.Contains("   at ", StringComparison.Ordinal));
    }

    [Fact]
    public async Task A_port_that_another_process_uses_alone_is_exit_code_1_because_that_process_may_end()
    {
        using var taken = new TcpListener(IPAddress.Loopback, 0);
        taken.Start();
        var port = ((IPEndPoint)taken.LocalEndpoint).Port;
        var (code, lines) = await Start(null, ("Metrics:Listen", $"http://127.0.0.1:{port}"));
        Assert.Equal(ServiceHost.Failed, code);
        Assert.Equal([$"calllog: Metrics:Listen: another process uses port {port} of 127.0.0.1"], lines);
    }

    [Theory]
    [InlineData("Password=a;b=c", "Npgsql knows no keyword 'b'")]
    [InlineData("Host=db;Password=a;4f/7=c", "does not know one of its keywords")]
    [InlineData("Host=db;Port=many", "one of its values is not of its keyword's kind")]
    [InlineData("Host", "it is not of the form")]
    [InlineData("Username=calllog", "names no Host")]
    public async Task A_connection_string_that_cannot_be_read_is_told_without_what_may_be_a_password(string text, string why)
    {
        var (code, lines) = await Start(null, ("Ledger:Connection", text));
        Assert.Equal(ServiceHost.WrongSettings, code);
        Assert.Contains(why, Assert.Single(lines), StringComparison.Ordinal);
        Assert.DoesNotContain("4f/7", lines[0], StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_role_that_the_database_refuses_or_that_has_no_schema_or_tables_is_a_wrong_setting()
    {
        var server = await Postgres.Shared;
        var database = new NpgsqlConnectionStringBuilder(await server.CreateDatabase()) { Pooling = false };
        await server.Execute("create role unschooled login; create role serving login", database.ConnectionString);
        await server.Execute("revoke all on schema public from public; grant usage on schema public to serving", database.ConnectionString);
        foreach (
            var (role, name, why) in new[]
            {
                ("unschooled", database.Database!, "the role unschooled finds no schema"),
                ("serving", database.Database!, "the role serving, which serves, must not make them: `ministry deployment tables` does"),
                ("nobody", database.Database!, "the database refuses: role \"nobody\" does not exist (28000)"),
                ("serving", "elsewhere", "the database refuses: database \"elsewhere\" does not exist (3D000)"),
            }
        )
        {
            (database.Username, var before, database.Database) = (role, database.Database, name);
            var (code, lines) = await Start(null, ("Ledger:Connection", database.ConnectionString));
            database.Database = before;
            Assert.Equal(ServiceHost.WrongSettings, code);
            Assert.StartsWith("calllog: Ledger:Connection: ", Assert.Single(lines), StringComparison.Ordinal);
            Assert.Contains(why, lines[0], StringComparison.Ordinal);
        }
        // One that does not answer may come back.
        (database.Username, database.Port) = ("postgres", Ports.Free());
        Assert.Equal(ServiceHost.Failed, (await Start(null, ("Ledger:Connection", database.ConnectionString))).Code);
    }

    [Fact]
    public async Task A_database_of_several_hosts_is_used_where_its_primary_is()
    {
        var database = new NpgsqlConnectionStringBuilder(await (await Postgres.Shared).CreateDatabase()) { Pooling = true };
        var settings =
            $"Host=127.0.0.1:{Ports.Free()},127.0.0.1:{database.Port};Database={database.Database};Username=postgres;"
            + "Target Session Attributes=primary;Timeout=5;Tcp Keepalive=true;Tcp Keepalive Time=2;Tcp Keepalive Interval=1";
        var (code, lines) = await Start(null, ("Ledger:Connection", settings));
        Assert.Equal((ServiceHost.Stopped, 0), (code, lines.Length));
    }

    [Fact]
    public async Task A_database_that_does_not_replicate_though_it_is_expected_to_is_logged()
    {
        var warned = new ConcurrentQueue<string>();
        await using var broker = new MemoryBroker();
        var service = new Service
        {
            Name = "calllog",
            Streams = [Cases.Kind],
            Map = _ => { },
        }.Registering(services => services.AddSingleton<ILoggerProvider>(new Heard(warned, LogLevel.Warning)));
        var settings = ServiceSetup.SettingsIn(_folder, "calllog") with
        {
            Ledger = await (await Postgres.Shared).CreateDatabase(),
            ExpectReplication = true,
        };
        await using var host = await ServiceHost.Build(service, settings, memory: broker, cancel: TestContext.Current.CancellationToken);
        await host.StartAsync(TestContext.Current.CancellationToken);
        await Running.Until(
            () => Task.FromResult(warned.Any(w => w.Contains("calllog does not replicate synchronously", StringComparison.Ordinal))),
            "it is logged"
        );
        await host.StopAsync(TestContext.Current.CancellationToken);
    }

    [Fact]
    public async Task An_agreement_with_a_byte_order_mark_serves()
    {
        var marked = Write("marked.json", "\ufeff" + System.IO.File.ReadAllText(File("agreement.json")));
        var (code, lines) = await Start(null, ("Agreement", marked));
        Assert.Equal((ServiceHost.Stopped, 0), (code, lines.Length));
    }

    public static TheoryData<string> KeysOfLegalForm =>
        ["text before", "carriage returns", "byte order mark", "one line", "another key before", "public key behind"];

    [Theory]
    [MemberData(nameof(KeysOfLegalForm))]
    public async Task A_key_of_any_legal_form_serves(string form)
    {
        var pem = System.IO.File.ReadAllText(Home("checkpoint.key"));
        var der = Convert.FromBase64String(string.Concat(pem.Split('\n').Where(l => !l.StartsWith('-'))));
        using var other = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        // RFC 5958: version 1 has the public key, [1], behind the private one.
        byte[] longer = [0x30, (byte)(der.Length - 2 + 35), 2, 1, 1, .. der[5..], 0x81, 33, 0, .. new byte[32]];
        var changed = form switch
        {
            "text before" => $"Bag Attributes\n    friendlyName: checkpoints\n{pem}",
            "carriage returns" => pem.ReplaceLineEndings("\r\n"),
            "byte order mark" => "\ufeff" + pem,
            "one line" => $"-----BEGIN PRIVATE KEY-----\n{Convert.ToBase64String(der)}\n-----END PRIVATE KEY-----",
            "another key before" => $"{other.ExportSubjectPublicKeyInfoPem()}\n{pem}",
            _ => PemEncoding.WriteString("PRIVATE KEY", longer),
        };
        var (code, lines) = await Start(null, ("Checkpoint:Key", Write("changed.key", changed)));
        Assert.Equal((ServiceHost.Stopped, 0), (code, lines.Length));
    }

    [Theory]
    [InlineData("", "there is no key in PEM")]
    [InlineData("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n", "the key is encrypted")]
    [InlineData("-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n", "OPENSSH PRIVATE KEY")]
    [InlineData("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "the key is no PKCS #8")]
    public async Task A_key_of_another_form_is_told_with_what_it_is(string text, string why)
    {
        var file = Write("odd.key", text);
        var (code, lines) = await Start(null, ("Checkpoint:Key", file));
        Assert.Equal(ServiceHost.WrongSettings, code);
        Assert.StartsWith($"calllog: Checkpoint:Key: {file}: ", Assert.Single(lines), StringComparison.Ordinal);
        Assert.Contains(why, lines[0], StringComparison.Ordinal);
    }

    [Fact]
    public async Task What_stands_in_the_place_of_a_file_beside_the_checkpoints_is_told_with_its_name()
    {
        Directory.CreateDirectory(File("calllog.checkpoint.cosigned"));
        Write("calllog.checkpoint.seen", new byte[SignedNote.MaxLength * 3 + 1]);
        var (code, lines) = await Start();
        Assert.Equal(ServiceHost.WrongSettings, code);
        Assert.Equal(
            [
                $"calllog: Checkpoint:File: {File("calllog.checkpoint.cosigned")} cannot be used: it is a folder",
                $"calllog: Checkpoint:File: {File("calllog.checkpoint.seen")} cannot be used: it is larger than 196608 bytes, and so no checkpoint",
            ],
            lines
        );
    }

    [Fact]
    public async Task A_settings_source_that_cannot_be_read_is_a_wrong_setting()
    {
        Write("appsettings.json", "{");
        var (code, lines) = await Start(null, ("contentRoot", _folder), ("Drain:Seconds", "0"));
        Assert.Equal((ServiceHost.WrongSettings, 2), (code, lines.Length));
        Assert.Contains(File("appsettings.json"), lines[0], StringComparison.Ordinal);
        Assert.Contains("Drain:Seconds", lines[1], StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_host_name_to_listen_at_stands_for_every_address_of_both_families()
    {
        var reached = new List<string>();
        var (code, _) = await Start(
            services =>
            {
                var address = new Uri(services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!.Addresses.Single());
                foreach (var ip in (IPAddress[])[IPAddress.Loopback, IPAddress.IPv6Loopback])
                {
                    using var client = new TcpClient(ip.AddressFamily);
                    client.Connect(ip, address.Port);
                    reached.Add(ip.ToString());
                }
            },
            ("Listen", "https://hub.example:0")
        );
        Assert.Equal((ServiceHost.Stopped, "127.0.0.1 ::1"), (code, string.Join(' ', reached)));
    }
}
