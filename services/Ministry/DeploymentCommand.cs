using System.CommandLine;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using Ministries.Gateway;
using Ministries.Trust;
using Ministries.Types.V1;

namespace Ministries.Ministry;

/// <summary>
/// The verb <c>deployment</c>: makes what a set of containers needs before its first start. Each container has a folder of its
/// own, so that it can be given only that one:
/// <code>
/// authorities/             the authorities and their keys: kept away from every service
/// participants/            what each participant needs, but for its authority: certificates, keys of its system, its officials and
///                          its witness; agreement.json
/// calllog/ custody/ consular/
///                          server.pem, server.key, checkpoint.key, agreement.json and settings/ with a file for each secret setting
/// postgres/                the passwords that the databases' roles are made with
/// tables/                  for each service, how the owner of its tables reaches them; only the command that makes them gets it
/// witness-kr-mfa/ …        for each witness: agreement.json, and its key and certificate in a folder named after the participant
/// gateway-kr-mfa/ …        for each gateway: gateway.json (its settings), its certificate, the digest of its system's token,
///                          agreement.json, and its participant's keys in a folder named after the participant; the token is in the
///                          participant's own folder
/// rabbitmq/                definitions.json: users with hashed passwords, permissions, the virtual host
/// </code>
/// With an operator's authority, it issues certificates for the database and the broker (server.pem, server.key). Each service gets the
/// authority's certificate (operator-authority.pem) and talks to both over TLS only. Grafana gets its administrator's password
/// (grafana/password). Existing files stay, except certificates that end soon.
/// </summary>
internal static class DeploymentCommand
{
    private const UnixFileMode Secret = UnixFileMode.UserRead | UnixFileMode.UserWrite;
    private const UnixFileMode Open = Secret | UnixFileMode.GroupRead | UnixFileMode.OtherRead;
    private static readonly string[] Services = ["calllog", "custody", "consular"];
    private static readonly JsonSerializerOptions Indented = new() { WriteIndented = true };

    public static Command Create() => new("deployment", "Secrets and tables of a set of containers.") { InitVerb(), TablesVerb() };

    private static Command InitVerb()
    {
        var folder = new Option<DirectoryInfo>("--out")
        {
            Required = true,
            Description = "The folder; it is created if it does not exist.",
        };
        var authority = new Option<DirectoryInfo?>("--operator-authority")
        {
            Description =
                "The folder of the operator's authority (authority.pem, authority.key; made where there is none). With it, "
                + "PostgreSQL and RabbitMQ get certificates, and the services accept no others.",
        };
        var witness = Several(
            "--witness",
            "A participant that witnesses the services' logs, such as kr/mfa; may be given again. Used only if there is no "
                + "agreement yet; later, witnesses join or leave by a new version of it."
        );
        var gateway = Several("--gateway", "A participant that calls by a gateway, such as kr/mfa; may be given again.");
        var host = Several(
            "--host",
            "A host at which other ministries call the services, for certificates that are issued now. One that is named after a service, "
                + "such as custody-2, is a replica of it, which gateways call, too. May be given again."
        );
        var database = Several(
            "--database",
            "A host of PostgreSQL; given again for each further server, of which one is the primary. Default: postgres.",
            "postgres"
        );
        var broker = Several(
            "--broker",
            "A host of RabbitMQ; given again for each further node of the cluster. Default: rabbitmq.",
            "rabbitmq"
        );
        var init = new Command("init", "Makes what is missing of certificates, keys, passwords and definitions. What is there stays.")
        {
            folder,
            authority,
            witness,
            gateway,
            host,
            database,
            broker,
            Options.Output,
            Options.Json,
        };
        init.SetAction(result =>
        {
            try
            {
                using var connection = Connection.Of(result, readsProfile: false);
                var to = result.GetRequiredValue(folder).FullName;
                string[] Of(Option<string[]> option) => result.GetValue(option)!;
                var (operators, servers) = (result.GetValue(authority)?.FullName, new Servers(Of(database), Of(broker)));
                var made = Init(to, operators, Of(witness), Of(gateway), Of(host), servers, TimeProvider.System);
                return Say(connection, to, made);
            }
            catch (Exception e)
                when (e is FormatException or IOException or UnauthorizedAccessException or CryptographicException or ArgumentException)
            {
                return CallCommands.Failed(result, null, ExitCodes.WrongInput, e.Message);
            }
        });
        return init;
    }

    private static int Say(Connection connection, string folder, int made)
    {
        if (!Answers.WriteData(connection, new JsonObject { ["folder"] = folder, ["made"] = made }))
            connection.Screen.Line(made == 0 ? $"nothing is missing in {folder}" : $"made {made} files under {folder}");
        return ExitCodes.Done;
    }

    private static Option<string[]> Several(string name, string description, params string[] unlessGiven) =>
        new(name) { DefaultValueFactory = _ => unlessGiven, Description = description };

    private static Command TablesVerb()
    {
        var connections = new Option<DirectoryInfo>("--connections")
        {
            Required = true,
            Description = "The folder with one file per service: the connection string of the owner of its tables.",
        };
        var tables = new Command(
            "tables",
            "Makes the tables of the services' ledgers in PostgreSQL, or brings them up to date, as their owner. The role that "
                + "serves, named like the service, can then add to them, but not change or delete what is there."
        )
        {
            connections,
            Options.Output,
            Options.Json,
        };
        tables.SetAction(
            async (result, cancel) =>
            {
                try
                {
                    using var screens = Connection.Of(result, readsProfile: false);
                    var data = new JsonArray();
                    foreach (var service in Services)
                    {
                        var connection = await File.ReadAllTextAsync(
                            Path.Combine(result.GetRequiredValue(connections).FullName, service),
                            cancel
                        );
                        var steps = new JsonArray();
                        void Told(string step)
                        {
                            steps.Add(step);
                            if (screens.Format is OutputFormat.Table or OutputFormat.Wide)
                                screens.Screen.Line(step);
                        }
                        await Ledger.ServiceLedger.MakeTables(connection, service, service, cancel, Told);
                        Told($"the tables of {service} are made and up to date");
                        data.Add(new JsonObject { ["service"] = service, ["steps"] = steps });
                    }
                    Answers.WriteData(screens, data);
                    return ExitCodes.Done;
                }
                catch (Exception e) when (e is IOException or UnauthorizedAccessException or Ledger.LedgerException)
                {
                    var why = e.InnerException is { } inner ? $"{e.Message}: {inner.Message}" : e.Message;
                    return CallCommands.Failed(result, null, CodeOf(e), why);
                }
            }
        );
        return tables;
    }

    // A database that answered has refused.
    private static int CodeOf(Exception e) =>
        e switch
        {
            IOException or UnauthorizedAccessException or { InnerException: ArgumentException } => ExitCodes.WrongInput,
            Ledger.LedgerUnavailableException { InnerException: not Npgsql.PostgresException } => ExitCodes.NotReached,
            _ => ExitCodes.WasRefused,
        };

    /// <summary>Where the services find what they use.</summary>
    /// <param name="Databases">The hosts of PostgreSQL.</param>
    /// <param name="Brokers">The hosts of RabbitMQ.</param>
    private sealed record Servers(string[] Databases, string[] Brokers)
    {
        /// <summary>The part of a connection string that says where. One that hangs or is gone is noticed by keep-alive.</summary>
        public string Hosts =>
            $"Host={string.Join(',', Databases)};{(Databases.Length > 1 ? "Target Session Attributes=primary;" : "")}"
            + "Timeout=5;Tcp Keepalive=true;Tcp Keepalive Time=2;Tcp Keepalive Interval=1";

        /// <summary>The addresses of all nodes of the broker.</summary>
        public string Uri(string scheme, string user, string password, int port) =>
            string.Join(',', Brokers.Select(b => $"{scheme}://{user}:{password}@{b}:{port}/ministries"));
    }

    private static int Init(
        string folder,
        string? operatorAuthority,
        string[] witnesses,
        string[] gateways,
        string[] hosts,
        Servers servers,
        TimeProvider time
    )
    {
        var authorities = Path.Combine(folder, "authorities");
        var made = Pki.Init(authorities, Witnessed(StandardAgreement.Read(), witnesses), time, SealingKeyFile.Make, hosts);
        var issued = operatorAuthority is null ? 0 : IssueServers(folder, operatorAuthority, time.GetUtcNow());
        foreach (var service in Services)
        {
            var home = Path.Combine(authorities, "service", service);
            var to = Path.Combine(folder, service);
            Copy(Path.Combine(home, "system.pem"), Path.Combine(to, "server.pem"), Open);
            Copy(Path.Combine(home, "system.key"), Path.Combine(to, "server.key"), Secret);
            Copy(Path.Combine(home, "checkpoint.key"), Path.Combine(to, "checkpoint.key"), Secret);
            Copy(Path.Combine(authorities, "agreement.json"), Path.Combine(to, "agreement.json"), Open);
            // The containers of the database and the broker run under accounts of their images, so their files are readable by all. No
            // other container gets their folders.
            var database = Password(Path.Combine(folder, "postgres", $"{service}.password"), Open);
            var owner = Password(Path.Combine(folder, "postgres", $"{service}_owner.password"), Open);
            var broker = Password(Path.Combine(authorities, $"{service}.broker-password"), Secret);
            var (tls, uri) = ("", servers.Uri("amqp", service, broker, 5672));
            if (operatorAuthority is not null)
            {
                Copy(Path.Combine(operatorAuthority, "authority.pem"), Path.Combine(to, "operator-authority.pem"), Open);
                tls = ";SSL Mode=VerifyFull;Root Certificate=/secrets/operator-authority.pem";
                Copy(Path.Combine(operatorAuthority, "authority.pem"), Path.Combine(folder, "tables", "operator-authority.pem"), Open);
                uri = servers.Uri("amqps", service, broker, 5671);
                Write(Path.Combine(to, "settings", "Broker__Authority"), "/secrets/operator-authority.pem", Open);
            }
            Write(
                Path.Combine(to, "settings", "Ledger__Connection"),
                $"{servers.Hosts};Database={service};Username={service};Password={database};Maximum Pool Size=12;GSS Encryption Mode=Disable{tls}",
                Secret
            );
            Write(
                Path.Combine(folder, "tables", service),
                $"{servers.Hosts};Database={service};Username={service}_owner;Password={owner};GSS Encryption Mode=Disable{tls}",
                Secret
            );
            Write(Path.Combine(to, "settings", "Broker__Uri"), uri, Secret);
            if (operatorAuthority is null)
                File.Delete(Path.Combine(to, "settings", "Broker__Authority"));
        }
        foreach (var participant in gateways)
            issued += MakeGateway(folder, authorities, participant, hosts, time);
        CopyForParticipants(folder, authorities);
        CopyForWitnesses(folder, authorities, witnesses);
        Password(Path.Combine(folder, "postgres", "password"), Open);
        // Standbys copy the primary with the one; the nodes of a cluster know each other by the other.
        if (servers.Databases.Length > 1)
            Password(Path.Combine(folder, "postgres", "replicator.password"), Open);
        if (servers.Brokers.Length > 1)
            Password(Path.Combine(folder, "rabbitmq", "cookie"), Open);
        if (operatorAuthority is not null)
            Password(Path.Combine(folder, "grafana", "password"), Open);
        Definitions(folder, authorities);
        return made.Count + issued;
    }

    private static void CopyForParticipants(string folder, string authorities)
    {
        foreach (
            var participant in StandardAgreement.Read().Participants.Where(p => !p.Id.StartsWith("service/", StringComparison.Ordinal))
        )
        {
            var home = Path.Combine(authorities, participant.Id);
            foreach (var file in Directory.EnumerateFiles(home, "*", SearchOption.AllDirectories))
                if (Path.GetFileName(file) is not ("authority.pem" or "authority.key"))
                    Copy(
                        file,
                        Path.Combine(folder, "participants", participant.Id, Path.GetRelativePath(home, file)),
                        file.EndsWith(".key", StringComparison.Ordinal) ? Secret : Open
                    );
        }
        Copy(Path.Combine(authorities, "agreement.json"), Path.Combine(folder, "participants", "agreement.json"), Open);
    }

    private static void CopyForWitnesses(string folder, string authorities, string[] witnesses)
    {
        foreach (var witness in witnesses)
        {
            var to = Path.Combine(folder, HostOf(witness));
            Copy(Path.Combine(authorities, "agreement.json"), Path.Combine(to, "agreement.json"), Open);
            foreach (var file in new[] { "cosignatures.key", "witness.pem", "witness.key" })
                Copy(Path.Combine(authorities, witness, file), Path.Combine(to, witness, file), Secret);
        }
    }

    /// <summary>What a participant's gateway needs, and its system the token by which it calls the gateway. Beside the participant's own
    /// keys it gets nobody's.</summary>
    /// <returns>How many files were made.</returns>
    /// <exception cref="FormatException">The agreement has no such participant.</exception>
    private static int MakeGateway(string folder, string authorities, string participant, string[] hosts, TimeProvider time)
    {
        var (name, home) = ($"gateway-{participant.Replace('/', '-')}", Path.Combine(authorities, participant));
        if (!File.Exists(Path.Combine(home, "requests.key")))
            throw new FormatException($"{participant} is not a participant that may write");
        var to = Path.Combine(folder, name);
        Copy(Path.Combine(authorities, "agreement.json"), Path.Combine(to, "agreement.json"), Open);
        foreach (var file in (string[])["system.pem", "system.key", "requests.key", "sealing.key"])
            if (File.Exists(Path.Combine(home, file)))
                Copy(
                    Path.Combine(home, file),
                    Path.Combine(to, participant, file),
                    file.EndsWith(".pem", StringComparison.Ordinal) ? Open : Secret
                );
        // A name that has an address in the network of the participant's systems alone, and one in that of its metrics.
        var (host, metrics) = ($"gateway.{participant.Replace('/', '-')}", $"{name}-metrics");
        var settings = new
        {
            participant,
            folder = "/secrets",
            state = "/data",
            services = Services.ToDictionary(
                s => s,
                s =>
                    string.Join(
                        ',',
                        hosts.Where(h => h.StartsWith($"{s}-", StringComparison.Ordinal)).Prepend(s).Select(h => $"https://{h}:7100")
                    )
            ),
            listen = $"https://{host}:7120",
            certificate = "/secrets/gateway.pem",
            certificateKey = "/secrets/gateway.key",
            tokens = "/secrets/tokens.json",
            metrics = $"http://{metrics}:9464",
            sharesCollector = true,
        };
        Write(Path.Combine(to, "gateway.json"), JsonSerializer.Serialize(settings, Indented), Open);
        var made = 0;
        var (token, tokens) = (Path.Combine(home, "gateway.token"), Path.Combine(to, "tokens.json"));
        if (!File.Exists(token) || !File.Exists(tokens))
        {
            File.Delete(tokens);
            Write(token, TokenFile.Create(tokens, "ministry", [Roles.Official, Roles.Approver]), Secret);
            made += 2;
        }
        using var authority = CertificateAuthority.Read(Path.Combine(home, "authority.pem"), Path.Combine(home, "authority.key"));
        return made + IssueServer(to, "gateway", host, authority, [authority.Certificate], Secret, time.GetUtcNow());
    }

    /// <summary>The agreement with its witnesses: all but one of them must cosign, so that one may be away.</summary>
    private static Agreement Witnessed(Agreement agreement, string[] witnesses)
    {
        foreach (var witness in witnesses)
        {
            if (!agreement.Participants.Any(p => p.Id == witness && AgreementVersions.Signs(p)))
                throw new FormatException($"{witness} is no ministry, observer or Protecting Power of the agreement");
            agreement.Witnesses.Add(new Types.V1.Witness { Participant = witness, Address = $"https://{HostOf(witness)}:7110/" });
        }
        if (witnesses.Length == 0)
            return agreement;
        agreement.CosignaturesDemanded = (uint)Math.Max(1, witnesses.Length - 1);
        agreement.CosignatureSeconds = 60;
        return agreement;
    }

    // The name in its certificate.
    private static string HostOf(string witness) => $"{Pki.Witness}-{witness.Replace('/', '-')}";

    /// <summary>Certificates of the operator's authority for the database and the broker, under their names in the set of containers. A
    /// certificate that is of this authority and valid for long enough stays.</summary>
    /// <returns>How many files were made.</returns>
    private static int IssueServers(string folder, string home, DateTimeOffset now)
    {
        var (certificate, key) = (Path.Combine(home, "authority.pem"), Path.Combine(home, "authority.key"));
        var made = 0;
        if (!File.Exists(certificate) && !File.Exists(key))
        {
            using var created = CertificateAuthority.Create("operator authority", now.AddMinutes(-5), now + Pki.AuthorityLife);
            Write(key, created.Certificate.GetECDsaPrivateKey()!.ExportPkcs8PrivateKeyPem() + "\n", Secret);
            Write(certificate, created.Certificate.ExportCertificatePem() + "\n", Open);
            made += 2;
        }
        using var authority = CertificateAuthority.Read(certificate, key);
        var above = new X509Certificate2Collection();
        above.ImportFromPemFile(certificate);
        // The broker's container reads its key under an account of its image. No other container gets this folder.
        foreach (var server in new[] { "postgres", "rabbitmq" })
            made += IssueServer(Path.Combine(folder, server), "server", server, authority, above, Open, now);
        Copy(certificate, Path.Combine(folder, "rabbitmq", "authority.pem"), Open);
        return made;
    }

    /// <summary>A certificate for being called under a name. One that is of this authority and valid for long enough stays.</summary>
    /// <param name="folder">The folder of its two files.</param>
    /// <param name="file">Their name without the end.</param>
    /// <param name="host">The name at which it is called.</param>
    /// <param name="authority">Who issues it.</param>
    /// <param name="above">The certificates above it; those that are not signed by themselves come after it in its file.</param>
    /// <param name="keyMode">Who may read its key.</param>
    /// <param name="now">The time.</param>
    /// <returns>How many files were made.</returns>
    private static int IssueServer(
        string folder,
        string file,
        string host,
        CertificateAuthority authority,
        X509Certificate2Collection above,
        UnixFileMode keyMode,
        DateTimeOffset now
    )
    {
        var (to, toKey) = (Path.Combine(folder, $"{file}.pem"), Path.Combine(folder, $"{file}.key"));
        if (File.Exists(to) && File.Exists(toKey))
        {
            using var old = X509CertificateLoader.LoadCertificateFromFile(to);
            if (old.NotAfter > now + Pki.RenewBefore && IsOf(old, authority.Certificate))
                return 0;
        }
        using var issued = authority.Issue(
            host,
            new CertificateTerms([], now.AddMinutes(-5), now + Pki.SystemLife, Client: false, Hosts: [host, "localhost"])
        );
        Write(toKey, issued.GetECDsaPrivateKey()!.ExportPkcs8PrivateKeyPem() + "\n", keyMode);
        Write(
            to,
            string.Concat(
                above
                    .Where(c => !c.SubjectName.RawData.AsSpan().SequenceEqual(c.IssuerName.RawData))
                    .Prepend(issued)
                    .Select(c => c.ExportCertificatePem() + "\n")
            ),
            Open
        );
        return 2;

        static bool IsOf(X509Certificate2 issued, X509Certificate2 by) =>
            issued.Extensions.OfType<X509AuthorityKeyIdentifierExtension>().FirstOrDefault()?.KeyIdentifier is { } named
            && by.Extensions.OfType<X509SubjectKeyIdentifierExtension>().FirstOrDefault()?.SubjectKeyIdentifierBytes is { } own
            && named.Span.SequenceEqual(own.Span);
    }

    /// <summary>The broker's users: each service has what is its own and reads events; the operator sees the broker's pages and touches
    /// nothing. The events' exchanges are made with them, so that a service can bind to another's before that one has started.</summary>
    private static void Definitions(string folder, string authorities)
    {
        var path = Path.Combine(folder, "rabbitmq", "definitions.json");
        if (File.Exists(path))
            return;
        var operatorPassword = Password(Path.Combine(authorities, "operator.broker-password"), Secret);
        Write(Path.Combine(folder, "participants", "operator", "broker-password"), operatorPassword, Secret);
        var users = Services
            .Select(s => (Name: s, Password: File.ReadAllText(Path.Combine(authorities, $"{s}.broker-password")), Tags: ""))
            .Append((Name: "operator", Password: operatorPassword, Tags: "monitoring"));
        var definitions = new
        {
            vhosts = new[] { new { name = "ministries" } },
            users = users.Select(u => new
            {
                name = u.Name,
                password_hash = Hash(u.Password),
                hashing_algorithm = "rabbit_password_hashing_sha256",
                tags = u.Tags,
            }),
            permissions = Services.Select(s => Permission(s, PermissionsOf(s))).Append(Permission("operator", ("^$", "^$", "^$"))),
            exchanges = Contracts
                .Descriptors.Files.SelectMany(f => f.MessageTypes)
                .Where(m => m.GetOptions()?.GetExtension(OptionsExtensions.Published) == true)
                .Select(m => new
                {
                    name = m.FullName,
                    vhost = "ministries",
                    type = "fanout",
                    durable = true,
                    auto_delete = false,
                    @internal = false,
                    arguments = new Dictionary<string, string>(),
                }),
        };
        Write(path, JsonSerializer.Serialize(definitions, Indented), Open);

        static object Permission(string user, (string Configure, string Write, string Read) allowed) =>
            new
            {
                user,
                vhost = "ministries",
                configure = allowed.Configure,
                write = allowed.Write,
                read = allowed.Read,
            };
    }

    // A service declares, deletes and writes only its own queues and exchanges. It reads its own queues and every event. Who may read a
    // queue may empty it, but no queue has an event's name.
    private static (string Configure, string Write, string Read) PermissionsOf(string service)
    {
        var own = $@"ministries\.{service}(\.dead|\.canary(\.[0-9a-f]+)?|\.v1\.[A-Za-z0-9]+)?";
        return ($"^{own}$", $"^{own}$", $@"^({own}|ministries\.[a-z]+\.v1\.[A-Za-z0-9]+)$");
    }

    /// <summary>The broker's form of a password: salt of 4 bytes, then SHA-256 over salt and password.</summary>
    private static string Hash(string password)
    {
        var salt = RandomNumberGenerator.GetBytes(4);
        return Convert.ToBase64String([.. salt, .. SHA256.HashData([.. salt, .. Encoding.UTF8.GetBytes(password)])]);
    }

    private static string Password(string path, UnixFileMode mode)
    {
        if (!File.Exists(path))
            Write(path, Convert.ToHexStringLower(RandomNumberGenerator.GetBytes(24)), mode);
        return File.ReadAllText(path);
    }

    private static void Copy(string from, string to, UnixFileMode mode)
    {
        var text = File.ReadAllText(from);
        if (!File.Exists(to) || File.ReadAllText(to) != text)
            Write(to, text, mode);
    }

    private static void Write(string path, string text, UnixFileMode mode)
    {
        Ledger.PrivateFiles.MakeOpenFolder(Path.GetDirectoryName(path)!);
        Ledger.WholeFile.Write(path, text, mode: mode);
    }
}
