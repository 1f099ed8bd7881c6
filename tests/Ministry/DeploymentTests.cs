using System.CommandLine;
using System.Diagnostics;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using Ministries.Gateway;
using Npgsql;

namespace Ministries.Ministry.Tests;

/// <summary>The files that a set of containers gets before its first start.</summary>
public sealed class DeploymentTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("ministries-deployment-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public void With_an_operators_authority_the_database_and_the_broker_are_known_by_its_certificates_and_by_no_others()
    {
        Init("--operator-authority", In("operator"));

        foreach (var server in new[] { "postgres", "rabbitmq" })
        {
            Assert.True(Verifies($"{server}/server.pem", "operator/authority.pem"));
            using var certificate = X509CertificateLoader.LoadCertificateFromFile(In($"{server}/server.pem"));
            Assert.True(certificate.MatchesHostname(server));
            Assert.False(certificate.MatchesHostname("calllog"));
        }
        foreach (var service in new[] { "calllog", "custody", "consular" })
        {
            var database = Read($"{service}/settings/Ledger__Connection");
            Assert.Contains(";SSL Mode=VerifyFull;Root Certificate=/secrets/operator-authority.pem", database);
            Assert.StartsWith($"amqps://{service}:", Read($"{service}/settings/Broker__Uri"), StringComparison.Ordinal);
            Assert.Equal("/secrets/operator-authority.pem", Read($"{service}/settings/Broker__Authority"));
            Assert.Equal(Read("operator/authority.pem"), Read($"{service}/operator-authority.pem"));
            Assert.False(File.Exists(In($"{service}/authority.key")));
        }
    }

    [Fact]
    public void Existing_files_stay_and_another_authority_means_new_certificates()
    {
        Init("--operator-authority", In("operator"));
        var (before, key) = (Read("postgres/server.pem"), Read("calllog/server.key"));
        Init("--operator-authority", In("operator"));
        Assert.Equal(before, Read("postgres/server.pem"));

        // An authority of RSA, such as many operators have.
        using var rsa = RSA.Create(2048);
        var request = new CertificateRequest("CN=the ministry's own authority", rsa, HashAlgorithmName.SHA256, RSASignaturePadding.Pkcs1);
        request.CertificateExtensions.Add(X509BasicConstraintsExtension.CreateForCertificateAuthority());
        request.CertificateExtensions.Add(new X509SubjectKeyIdentifierExtension(request.PublicKey, critical: false));
        using var authority = request.CreateSelfSigned(DateTimeOffset.UtcNow.AddDays(-1), DateTimeOffset.UtcNow.AddYears(5));
        Directory.CreateDirectory(In("other"));
        File.WriteAllText(In("other/authority.pem"), authority.ExportCertificatePem());
        Ministries.Ledger.WholeFile.Write(In("other/authority.key"), rsa.ExportPkcs8PrivateKeyPem());
        Init("--operator-authority", In("other"));
        Assert.True(Verifies("postgres/server.pem", "other/authority.pem"));
        Assert.False(Verifies("postgres/server.pem", "operator/authority.pem"));
        Assert.Equal(Read("other/authority.pem"), Read("custody/operator-authority.pem"));
        Assert.Equal(key, Read("calllog/server.key"));

        // Without an operator's authority, the internal network is trusted, as in development.
        Init();
        Assert.False(File.Exists(In("calllog/settings/Broker__Authority")));
        Assert.DoesNotContain("SSL Mode", Read("calllog/settings/Ledger__Connection"));
        Assert.StartsWith("amqp://", Read("calllog/settings/Broker__Uri"), StringComparison.Ordinal);
    }

    [Fact]
    public void Services_are_known_by_the_hosts_they_are_called_at_and_witnesses_get_their_own_keys_and_no_others()
    {
        Init("--host", "hub.example", "--witness", "icrc", "--witness", "kr/mfa", "--witness", "ua/mfa");

        using var certificate = X509CertificateLoader.LoadCertificateFromFile(In("calllog/server.pem"));
        Assert.All(["hub.example", "calllog", "localhost"], h => Assert.True(certificate.MatchesHostname(h)));
        var agreement = Google.Protobuf.JsonParser.Default.Parse<Types.V1.Agreement>(Read("calllog/agreement.json"));
        Assert.Equal(
            ["https://witness-icrc:7110/", "https://witness-kr-mfa:7110/", "https://witness-ua-mfa:7110/"],
            agreement.Witnesses.Select(w => w.Address)
        );
        Assert.Equal(2u, agreement.CosignaturesDemanded);
        Assert.Equal(
            ["agreement.json", "kr/mfa/cosignatures.key", "kr/mfa/witness.key", "kr/mfa/witness.pem"],
            Directory
                .GetFiles(In("witness-kr-mfa"), "*", SearchOption.AllDirectories)
                .Select(f => Path.GetRelativePath(In("witness-kr-mfa"), f))
                .Order()
        );
        Assert.DoesNotContain(Directory.GetFiles(In("participants"), "*", SearchOption.AllDirectories), f => f.EndsWith("authority.key"));
    }

    [Fact]
    public void A_gateway_calls_every_replica_that_has_a_host()
    {
        Init("--gateway", "kr/mfa", "--host", "custody-2", "--host", "custody-3", "--host", "services.example.org");
        var services = GatewaySettings.Read(In("gateway-kr-mfa/gateway.json")).Services;
        Assert.Equal(["custody", "custody-2", "custody-3"], services["custody"].Select(a => a.Host));
        Assert.Equal(["calllog"], services["calllog"].Select(a => a.Host));
    }

    [Fact]
    public void A_gateway_gets_its_own_participants_keys_and_no_others_and_its_system_a_token()
    {
        Init("--gateway", "kr/mfa", "--gateway", "icrc");

        Assert.Equal(
            [
                "agreement.json",
                "gateway.json",
                "gateway.key",
                "gateway.pem",
                "kr/mfa/requests.key",
                "kr/mfa/sealing.key",
                "kr/mfa/system.key",
                "kr/mfa/system.pem",
                "tokens.json",
            ],
            Directory
                .GetFiles(In("gateway-kr-mfa"), "*", SearchOption.AllDirectories)
                .Select(f => Path.GetRelativePath(In("gateway-kr-mfa"), f))
                .Order(StringComparer.Ordinal)
        );
        var settings = GatewaySettings.Read(In("gateway-kr-mfa/gateway.json"));
        Assert.Equal(("kr/mfa", "gateway.kr-mfa", 7120), (settings.Participant, settings.Listen.Host, settings.Listen.Port));
        using var certificate = X509CertificateLoader.LoadCertificateFromFile(In("gateway-kr-mfa/gateway.pem"));
        Assert.True(certificate.MatchesHostname(settings.Listen.Host));
        Assert.True(Verifies("gateway-kr-mfa/gateway.pem", "authorities/kr/mfa/authority.pem"));
        var token = Read("authorities/kr/mfa/gateway.token");
        Assert.Equal([Gateway.Roles.Official, Gateway.Roles.Approver], new TokenFile(In("gateway-kr-mfa/tokens.json")).Find(token)!.Roles);
        Assert.Null(new TokenFile(In("gateway-icrc/tokens.json")).Find(token));
        Assert.Equal(token, Read("participants/kr/mfa/gateway.token"));

        // What is there stays.
        var made = Read("gateway-kr-mfa/gateway.pem");
        Init("--gateway", "kr/mfa", "--gateway", "icrc");
        Assert.Equal((token, made), (Read("authorities/kr/mfa/gateway.token"), Read("gateway-kr-mfa/gateway.pem")));
    }

    [Fact]
    public void Services_get_the_addresses_of_several_databases_and_brokers_and_these_the_secrets_that_they_share()
    {
        Init("--database=a", "--database=b", "--broker=x", "--broker=y");
        var ledger = File.ReadAllText(In("custody/settings/Ledger__Connection"));
        Assert.StartsWith("Host=a,b;Target Session Attributes=primary;", ledger);
        Assert.StartsWith("Host=a,b;", File.ReadAllText(In("tables/custody")));
        var brokers = File.ReadAllText(In("custody/settings/Broker__Uri")).Split(',');
        Assert.Equal(["x", "y"], brokers.Select(b => new Uri(b).Host));
        Assert.Single(brokers.Select(b => new Uri(b).UserInfo).Distinct());
        Assert.Equal(48, File.ReadAllText(In("postgres/replicator.password")).Length);
        Assert.Equal(48, File.ReadAllText(In("rabbitmq/cookie")).Length);
    }

    [Theory]
    [InlineData("--database=a")]
    [InlineData("--database=a", "--database=b")]
    public void A_database_that_is_silent_is_noticed_whether_it_is_one_server_or_several(params string[] databases)
    {
        Init(databases);
        foreach (var file in (string[])["calllog/settings/Ledger__Connection", "tables/calllog"])
        {
            var text = new NpgsqlConnectionStringBuilder(Read(file));
            Assert.Equal((5, true, 2, 1), (text.Timeout, text.TcpKeepAlive, text.TcpKeepAliveTime, text.TcpKeepAliveInterval));
        }
    }

    [Fact]
    public async Task A_folder_or_an_option_that_cannot_be_used_is_wrong_input_and_a_database_that_is_away_was_not_reached()
    {
        var (file, connections) = (In("file"), Directory.CreateDirectory(In("connections")).FullName);
        await File.WriteAllTextAsync(file, "", TestContext.Current.CancellationToken);
        Assert.Equal(ExitCodes.WrongInput, Run("pki", "init", "--out", file));
        Assert.Equal(ExitCodes.WrongInput, Run("deployment", "init", "--out", file));
        Assert.Equal(ExitCodes.WrongInput, Run("deployment", "init", "--out", In("made"), "--gateway", "kr/nobody"));
        Assert.Equal(ExitCodes.WrongInput, Run("deployment", "tables", "--connections", In("none")));
        Assert.Equal(ExitCodes.WrongInput, Tables("no connection string"));
        Assert.Equal(ExitCodes.NotReached, Tables($"Host=127.0.0.1;Port={Fixtures.Ports.Free()};Username=nobody;Database=none"));

        int Tables(string connection)
        {
            File.WriteAllText(Path.Combine(connections, "calllog"), connection);
            return Run("deployment", "tables", "--connections", connections);
        }

        static int Run(params string[] words) =>
            new RootCommand { PkiCommand.Create(), DeploymentCommand.Create() }
                .Parse(words)
                .Invoke();
    }

    [Theory]
    [InlineData("pki"), InlineData("deployment")]
    public async Task Nobody_else_can_put_a_file_in_a_folder_that_is_made_whatever_the_umask(string verb)
    {
        if (OperatingSystem.IsWindows())
            return;
        var start = new ProcessStartInfo("/bin/sh") { RedirectStandardOutput = true, RedirectStandardError = true };
        foreach (
            var argument in (string[])
                [
                    "-c",
                    "umask 000; exec dotnet \"$@\"",
                    "sh",
                    Path.Combine(AppContext.BaseDirectory, "ministry.dll"),
                    verb,
                    "init",
                    "--out",
                    In("made"),
                ]
        )
            start.ArgumentList.Add(argument);
        var cancel = TestContext.Current.CancellationToken;
        using var process = Process.Start(start)!;
        var said = await Task.WhenAll(process.StandardOutput.ReadToEndAsync(cancel), process.StandardError.ReadToEndAsync(cancel));
        await process.WaitForExitAsync(cancel);
        Assert.True(process.ExitCode == 0, string.Concat(said));
        foreach (var path in Directory.GetFileSystemEntries(In("made"), "*", SearchOption.AllDirectories).Append(In("made")))
            Assert.True(
                (File.GetUnixFileMode(path) & (UnixFileMode.GroupWrite | UnixFileMode.OtherWrite)) == 0,
                $"{path} {File.GetUnixFileMode(path)}"
            );
    }

    private void Init(params string[] more) =>
        Assert.Equal(
            0,
            new RootCommand { DeploymentCommand.Create() }
                .Parse(["deployment", "init", "--out", _folder, .. more])
                .Invoke()
        );

    private bool Verifies(string certificate, string authority)
    {
        using var presented = X509CertificateLoader.LoadCertificateFromFile(In(certificate));
        using var chain = new X509Chain();
        chain.ChainPolicy.TrustMode = X509ChainTrustMode.CustomRootTrust;
        chain.ChainPolicy.RevocationMode = X509RevocationMode.NoCheck;
        chain.ChainPolicy.CustomTrustStore.ImportFromPemFile(In(authority));
        return chain.Build(presented);
    }

    private string In(string path) => Path.Combine(_folder, path);

    private string Read(string path) => File.ReadAllText(In(path));
}
