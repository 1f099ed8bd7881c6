using System.CommandLine;
using System.Security.Cryptography.X509Certificates;
using Grpc.Core;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Ministries.Client;
using Ministries.Custody.V1;
using Ministries.Fixtures;
using Ministries.Hosting;
using Ministries.Ledger;
using Ministries.Ministry;
using Ministries.Trust;
using Ministries.Types.V1;

namespace Ministries.Witness.Tests;

/// <summary>Every kind of key and certificate is changed and then revoked as the README describes, with its commands, while a service, two
/// witnesses and clients run. No call fails, and afterwards nothing accepts what was revoked.</summary>
public sealed class EveryKeyTests
{
    private const string Writer = "ua/coordination-hq",
        Service = "service/custody",
        Cosigner = "icrc";

    /// <summary>A kind of key.</summary>
    /// <param name="Change">Changes it. When it returns, the new one is in use, and the old one has ended or is no longer listed.</param>
    /// <param name="Revoke">Revokes the old one, which a thief has.</param>
    /// <param name="Stolen">Tries to use the old one, which must fail everywhere.</param>
    private sealed record Kind(Func<KeyChanges, Task> Change, Func<KeyChanges, Task> Revoke, Func<KeyChanges, Task> Stolen);

    private static readonly Dictionary<string, Kind> Kinds = new()
    {
        ["requests"] = new(
            async s =>
            {
                await s.Agree(
                    [Writer],
                    next => KeyChanges.Ministry("add-key", next, "--of", Writer, "--use", "requests", "--key", s.File("new.key"))
                );
                await s.Use(m => m with { RequestsKey = s.File("new.key") });
                await s.Agree([Writer], next => KeyChanges.Ministry("end-key", next, $"{Writer}/requests-1"));
            },
            s => s.Agree([Writer], next => KeyChanges.Ministry("revoke-key", next, $"{Writer}/requests-1")),
            async s => await s.Refused("SIGNATURE_KEY_NOT_VALID", m => m)
        ),
        ["requests, replaced under a client that stays"] = new(
            async s =>
            {
                await s.Stay();
                await s.Agree(
                    [Writer],
                    next => KeyChanges.Ministry("add-key", next, "--of", Writer, "--use", "requests", "--key", s.File("new.key"))
                );
                File.Move(s.File("new.key"), s.File("own-requests.key"), overwrite: true);
                await Hub.Until(() => s.Current.RequestsKey?.Id != $"{Writer}/requests-1", "the client signs with its new key");
                await s.Agree([Writer], next => KeyChanges.Ministry("end-key", next, $"{Writer}/requests-1"));
            },
            s => s.Agree([Writer], next => KeyChanges.Ministry("revoke-key", next, $"{Writer}/requests-1")),
            async s => await s.Refused("SIGNATURE_KEY_NOT_VALID", m => m)
        ),
        ["approvals"] = new(
            async s =>
            {
                var official = Pki.OfficialOf(Writer, 2);
                await s.Agree(
                    [Writer],
                    next =>
                        KeyChanges.Ministry(
                            "add-key",
                            next,
                            "--of",
                            Writer,
                            "--use",
                            "approvals",
                            "--key",
                            s.File("new.key"),
                            "--official",
                            official
                        )
                );
                s.Official = s.File("new.key");
                await s.Agree(
                    [Writer],
                    next =>
                        KeyChanges.Ministry("end-key", next, s.ListedAs(Path.Combine(s.Hub.Folder, Writer, "officials", $"{official}.key")))
                );
            },
            s => s.Agree([Writer], next => KeyChanges.Ministry("revoke-key", next, s.ListedAs(s.FirstOfficial))),
            async s =>
            {
                s.Official = s.FirstOfficial;
                await s.Refused("APPROVAL_KEY_NOT_VALID", m => m);
            }
        ),
        ["agreements"] = new(
            async s =>
            {
                await s.Agree(
                    [Writer],
                    next => KeyChanges.Ministry("add-key", next, "--of", Writer, "--use", "agreements", "--key", s.File("new.key"))
                );
                s.Agreements[Writer] = s.File("new.key");
                await s.Agree([Writer], next => KeyChanges.Ministry("end-key", next, $"{Writer}/agreements-1"));
            },
            s => s.Agree([Writer], next => KeyChanges.Ministry("revoke-key", next, $"{Writer}/agreements-1")),
            async s =>
            {
                s.Agreements[Writer] = Path.Combine(s.Hub.Folder, Writer, "agreements.key");
                var next = s.Draft(n => KeyChanges.Ministry("deny", n, "0A", "--of", Writer), [Writer]);
                var (code, output) = KeyChanges.Run("agreement", "check", next, "--previous", s.InPlace);
                Assert.Equal(ExitCodes.WasRefused, code);
                Assert.Contains("SignatureKeyNotValid", output);
                File.Move(next, s.InPlace + ".thief");
                await Assert.ThrowsAsync<AgreementRefusedException>(() => s.Adopt(s.InPlace + ".thief"));
            }
        ),
        ["checkpoint"] = new(
            async s =>
            {
                await s.Agree(
                    [],
                    next => KeyChanges.Ministry("add-key", next, "--of", Service, "--use", "checkpoints", "--key", s.File("new.key"))
                );
                await s.Use(m => m);
                File.Copy(s.CheckpointKey, s.File("old.key"));
                File.Move(s.File("new.key"), s.CheckpointKey, overwrite: true);
                await Hub.Until(
                    () => s.Hub.Ledger.Key.Verifier == KeyChanges.KeyOf(s.CheckpointKey).Verifier,
                    "the new key was not taken over"
                );
                await s.Agree([], next => KeyChanges.Ministry("end-key", next, $"{Service}/checkpoint-1"));
            },
            s => s.Agree([], next => KeyChanges.Ministry("revoke-key", next, $"{Service}/checkpoint-1")),
            async s =>
            {
                // The thief signs a tree of his own, of any size.
                var forged = KeyChanges.KeyOf(s.File("old.key")).Sign(1_000_000, new byte[32]).Text;
                Assert.Null(await s.Hub.Ledger.Contradicts(forged, Hub.Cancel));
                Assert.Equal(403, s.Hub.WitnessOf(Cosigner).AddCheckpoint($"old 0\n\n{forged}").Status);
                Assert.False(LogKeys.Of(s.Hub.Agreement, "custody").Judge(forged, DateTimeOffset.UtcNow).Counts);
                Assert.Null(LogKeys.Of(s.Hub.Agreement, "custody").Present(forged, DateTimeOffset.UtcNow));
            }
        ),
        ["cosignature"] = new(
            async s =>
            {
                await s.Agree(
                    [Cosigner],
                    next => KeyChanges.Ministry("add-key", next, "--of", Cosigner, "--use", "cosignatures", "--key", s.File("new.key"))
                );
                File.Copy(s.CosignaturesKey, s.File("old.key"));
                File.Move(s.File("new.key"), s.CosignaturesKey, overwrite: true);
                await s.Going();
                await s.Agree([Cosigner], next => KeyChanges.Ministry("end-key", next, $"{Cosigner}/cosignatures-1"));
            },
            s => s.Agree([Cosigner], next => KeyChanges.Ministry("revoke-key", next, $"{Cosigner}/cosignatures-1")),
            async s =>
            {
                var cosigned = await s.Hub.Cosigned();
                Assert.Contains(Cosigner, LogKeys.Of(s.Hub.Agreement, "custody").Judge(cosigned.Text, DateTimeOffset.UtcNow).Cosigners);
                // The thief claims that it was signed long ago.
                var bare = SignedNote.Read(cosigned.Text)!;
                bare = bare with { Signatures = [.. bare.Signatures.Where(l => l.Name == bare.Origin)] };
                var line = CosignatureKey
                    .FromPem(CosignatureKey.NameOf("ministries.example", Cosigner), File.ReadAllText(s.File("old.key")))
                    .Cosign(bare, DateTimeOffset.UtcNow.AddMinutes(-1));
                Assert.Empty(LogKeys.Of(s.Hub.Agreement, "custody").Judge(bare + line, DateTimeOffset.UtcNow).Cosigners);
            }
        ),
        ["certificate of a client"] = new(
            async s =>
            {
                s.Issue(Writer, "authority", "new", client: true);
                await s.Use(m => m with { Certificate = s.File("new.pem"), CertificateKey = s.File("new.key") });
            },
            s =>
                s.Agree(
                    [Writer],
                    next => KeyChanges.Ministry("deny", next, Path.Combine(s.Hub.Folder, Writer, "system.pem"), "--of", Writer)
                ),
            s => s.Closed(m => m)
        ),
        ["certificate of a client, replaced under one that stays"] = new(
            async s =>
            {
                await s.Stay();
                s.Issue(Writer, "authority", "new", client: true);
                File.Move(s.File("new.key"), s.File("own.key"), overwrite: true);
                File.Move(s.File("new.pem"), s.File("own.pem"), overwrite: true);
                await Hub.Until(
                    () => s.Current.Certificate.SerialNumber == KeyChanges.SerialOf(s.File("own.pem")),
                    "the client shows its new certificate"
                );
                await s.Going();
            },
            s =>
                s.Agree(
                    [Writer],
                    next => KeyChanges.Ministry("deny", next, Path.Combine(s.Hub.Folder, Writer, "system.pem"), "--of", Writer)
                ),
            s => s.Closed(m => m)
        ),
        ["certificate of a service"] = new(
            async s =>
            {
                s.KeepOld();
                s.Issue(Service, "authority", "new", client: true);
                await s.Replace();
            },
            s => s.Agree([], next => KeyChanges.Ministry("deny", next, s.File("old.pem"), "--of", Service)),
            s => s.NobodyCallsTheThief()
        ),
        ["authority of a service"] = new(
            async s =>
            {
                s.KeepOld();
                s.MakeAuthority();
                await s.Agree([], next => KeyChanges.Ministry("add-authority", next, s.File("next-authority.pem"), "--of", Service));
                s.Issue(Service, s.File("next-authority"), "new", client: true);
                await s.Replace();
            },
            s =>
                s.Agree(
                    [],
                    next =>
                        KeyChanges.Ministry("remove-authority", next, Path.Combine(s.Hub.Folder, Service, "authority.pem"), "--of", Service)
                ),
            // Whatever the old authority issues, and not that certificate alone.
            async s =>
            {
                await s.NobodyCallsTheThief();
                s.Issue(Service, "authority", "old", client: true);
                await s.NobodyCallsTheThief();
            }
        ),
        ["certificate of a witness"] = new(
            async s =>
            {
                File.Copy(s.Witness("pem"), s.File("old.pem"));
                File.Copy(s.Witness("key"), s.File("old.key"));
                s.Issue(Cosigner, "authority", "new", client: false, Pki.Witness);
                File.Move(s.File("new.key"), s.Witness("key"), overwrite: true);
                File.Move(s.File("new.pem"), s.Witness("pem"), overwrite: true);
                await Hub.Until(() => s.ShownByWitness() == KeyChanges.SerialOf(s.Witness("pem")), "the witness shows the new certificate");
            },
            s => s.Agree([Cosigner], next => KeyChanges.Ministry("deny", next, s.File("old.pem"), "--of", Cosigner)),
            async s =>
            {
                // The thief stands at the witness's address.
                await s.Hub.StopWitness(Cosigner);
                File.Move(s.Witness("pem"), s.File("good.pem"));
                File.Move(s.Witness("key"), s.File("good.key"));
                File.Copy(s.File("old.pem"), s.Witness("pem"));
                File.Copy(s.File("old.key"), s.Witness("key"));
                var asked = 0;
                await using (
                    var thief = await s.Hub.StartFalseWitness(
                        Cosigner,
                        _ =>
                        {
                            Interlocked.Increment(ref asked);
                            return Task.CompletedTask;
                        }
                    )
                )
                {
                    var audit = await s.Hub.As("ua/mfa").Audit("custody", cancel: Hub.Cancel);
                    Assert.Contains(Cosigner, audit.NotCompared.Keys);
                    // The service asks the witnesses for each new checkpoint.
                    await s.Hub.Write(3, s.Current);
                    Assert.Equal(0, Volatile.Read(ref asked));
                    await thief.StopAsync(Hub.Cancel);
                }
                File.Move(s.File("good.pem"), s.Witness("pem"), overwrite: true);
                File.Move(s.File("good.key"), s.Witness("key"), overwrite: true);
                await s.Hub.StartWitness(Cosigner);
            }
        ),
        ["authority"] = new(
            async s =>
            {
                s.MakeAuthority();
                await s.Agree([Writer], next => KeyChanges.Ministry("add-authority", next, s.File("next-authority.pem"), "--of", Writer));
                s.Issue(Writer, s.File("next-authority"), "new", client: true);
                await s.Use(m => m with { Certificate = s.File("new.pem"), CertificateKey = s.File("new.key") });
            },
            s =>
                s.Agree(
                    [Writer],
                    next =>
                        KeyChanges.Ministry("remove-authority", next, Path.Combine(s.Hub.Folder, Writer, "authority.pem"), "--of", Writer)
                ),
            s => s.Closed(m => m)
        ),
    };

    public static TheoryData<string> Names() => [.. Kinds.Keys];

    [Theory]
    [MemberData(nameof(Names))]
    public async Task Is_changed_and_revoked_under_load_and_no_call_fails(string name)
    {
        await using var hub = await Hub.Start(2, 60, Cosigner, "kr/mfa");
        await using var changes = new KeyChanges(hub);
        await changes.Going();
        await Kinds[name].Change(changes);
        await changes.Going();
        await Kinds[name].Revoke(changes);
        await changes.Going();
        await changes.End();
        await Kinds[name].Stolen(changes);
        await hub.Write(1, changes.Current);
        var cosigned = await hub.Cosigned();
        Assert.Equal([Cosigner, "kr/mfa"], LogKeys.Of(hub.Agreement, "custody").Judge(cosigned.Text, DateTimeOffset.UtcNow).Cosigners);
        Assert.Equal((0, false), (hub.ExitCode, hub.Stopping));
        var audit = await hub.As("ua/mfa").Audit("custody", whole: true, cancel: Hub.Cancel);
        Assert.Equal((2, 0), (audit.Cosigners.Count, audit.Doubtful.Count));
    }

    /// <summary>The service, its witnesses, callers that never pause, and the commands.</summary>
    private sealed class KeyChanges : IAsyncDisposable
    {
        private readonly CancellationTokenSource _enough = new();
        private readonly List<Task> _load;
        private Func<MinistrySettings, MinistrySettings> _settings = m => m;
        private volatile MinistryClient _current;
        private volatile string _official;
        private long _done;
        private long _followed;
        private bool _stays;

        public KeyChanges(Hub hub)
        {
            Hub = hub;
            Directory.CreateDirectory(File(""));
            _current = hub.As(Writer);
            _official = FirstOfficial;
            foreach (var signer in hub.Agreement.Participants.Where(AgreementVersions.Signs))
                Agreements[signer.Id] = Path.Combine(hub.Folder, signer.Id, "agreements.key");
            _load = [.. Enumerable.Range(0, 3).Select(_ => Task.Run(Call))];
        }

        public Hub Hub { get; }

        public Dictionary<string, string> Agreements { get; } = [];

        public MinistryClient Current => _current;

        public string Official
        {
            set => _official = value;
        }

        public string FirstOfficial => Path.Combine(Hub.Folder, Writer, "officials", $"{Pki.OfficialOf(Writer, 2)}.key");

        public string InPlace => Path.Combine(Hub.Folder, "agreement.json");

        public string CheckpointKey => Path.Combine(Hub.Folder, Service, "checkpoint.key");

        public string CosignaturesKey => Path.Combine(Hub.Folder, Cosigner, "cosignatures.key");

        public string Certificate => Path.Combine(Hub.Folder, Service, "system.pem");

        public string File(string name) => Path.Combine(Hub.Folder, "changes", name);

        private async Task Call()
        {
            while (!_enough.IsCancellationRequested)
            {
                await Open(_current);
                Interlocked.Increment(ref _done);
            }
        }

        private async Task Open(MinistryClient client)
        {
            var request = new OpenCaseRequest
            {
                Actor = new Actor
                {
                    Office = "headquarters",
                    Official = "o-1",
                    Authority = "order-1",
                },
            };
            client.Approve(request, _official, "legal");
            await client.Custody.OpenCaseAsync(request, cancellationToken: Hub.Cancel);
        }

        /// <summary>From now on one client makes all calls and follows the ledger, with copies of the writer's files that are replaced
        /// under it.</summary>
        public async Task Stay()
        {
            var home = Path.Combine(Hub.Folder, Writer);
            foreach (var (from, to) in new[] { ("system.pem", "own.pem"), ("system.key", "own.key"), ("requests.key", "own-requests.key") })
                System.IO.File.Copy(Path.Combine(home, from), File(to));
            await Use(m =>
                m with
                {
                    Certificate = File("own.pem"),
                    CertificateKey = File("own.key"),
                    RequestsKey = File("own-requests.key"),
                }
            );
            _stays = true;
            _load.Add(Task.Run(() => Follow(_current)));
            await Going();
        }

        private async Task Follow(MinistryClient client)
        {
            try
            {
                await foreach (var _ in client.Follow("custody", cancel: _enough.Token))
                    Interlocked.Increment(ref _followed);
            }
            catch (OperationCanceledException) when (_enough.IsCancellationRequested)
            {
                // The test has seen enough.
            }
        }

        /// <summary>Returns when calls have gone on for a while. A failed call ends the test.</summary>
        public async Task Going()
        {
            var (from, read) = (Interlocked.Read(ref _done), Interlocked.Read(ref _followed));
            using var late = CancellationTokenSource.CreateLinkedTokenSource(Hub.Cancel);
            late.CancelAfter(TimeSpan.FromSeconds(60));
            while (Interlocked.Read(ref _done) < from + 10 || _stays && Interlocked.Read(ref _followed) < read + 10)
            {
                foreach (var ended in _load.Where(l => l.IsCompleted))
                    await ended;
                await Task.Delay(10, late.Token);
            }
        }

        public async Task End()
        {
            await _enough.CancelAsync();
            await Task.WhenAll(_load);
        }

        /// <summary>Runs the command; it must succeed.</summary>
        public static string Ministry(string verb, params string[] args)
        {
            var (code, output) = Run(["agreement", verb, .. args]);
            Assert.True(code == 0, output);
            return output;
        }

        public static (int Code, string Output) Run(params string[] args)
        {
            var root = new RootCommand("ministry") { AgreementCommand.Create() };
            var output = new StringWriter();
            var code = root.Parse(args).Invoke(new InvocationConfiguration { Output = output, Error = output });
            return (code, output.ToString());
        }

        /// <summary>Makes a version as the README describes: a copy that is edited, drafted and signed. No signers: everybody
        /// signs.</summary>
        public string Draft(Func<string, string> edit, IReadOnlyList<string> signers)
        {
            var next = File("next.json");
            System.IO.File.Copy(InPlace, next, overwrite: true);
            edit(next);
            Ministry("draft", InPlace, next);
            foreach (var signer in signers.Count > 0 ? signers : [.. Agreements.Keys])
                Run("agreement", "sign", next, "--previous", InPlace, "--as", signer, "--key", Agreements[signer]);
            return next;
        }

        /// <summary>Makes such a version and puts it in place, with the previous one beside it. Returns when the service has it, and then
        /// the clients.</summary>
        public async Task Agree(IReadOnlyList<string> signers, Func<string, string> edit)
        {
            var next = Draft(edit, signers);
            Ministry("put", next, InPlace);
            var version = Hub.Agreement.Version;
            await Hub.Until(
                () => Hub.Host!.Services.GetRequiredService<Agreements>().InForce.Permissions.Agreement.Version == version,
                $"version {version} in force"
            );
            if (_stays)
            {
                await Hub.Until(() => _current.Agreement.Version == version, $"the client has version {version}");
                await Going();
            }
            else
                await Use(_settings);
        }

        /// <summary>Replaces the clients by new ones, which read their files again.</summary>
        public async Task Use(Func<MinistrySettings, MinistrySettings> settings)
        {
            _settings = settings;
            _current = Hub.As(Writer, settings);
            await Going();
        }

        public async Task Adopt(string agreement) =>
            await new Agreements(
                Hub.Host!.Services.GetRequiredService<Settings>() with
                {
                    Agreement = agreement,
                },
                TimeProvider.System
            ).Adopt(Hub.Ledger, Hub.Cancel);

        /// <summary>A client with the original files is refused with this reason.</summary>
        public async Task Refused(string reason, Func<MinistrySettings, MinistrySettings> settings) =>
            Assert.Equal(reason, (await Assert.ThrowsAsync<RefusedException>(() => Open(Hub.As(Writer, settings)))).Reason);

        /// <summary>A client with the original certificate cannot connect; even its own library refuses to start.</summary>
        public async Task Closed(Func<MinistrySettings, MinistrySettings> settings)
        {
            Assert.Throws<FormatException>(() => Hub.As(Writer, settings));
            using var http = Hub.Http(Writer);
            try
            {
                using var answer = await http.GetAsync(new Uri("/checkpoint", UriKind.Relative), Hub.Cancel);
                Assert.False(answer.IsSuccessStatusCode);
            }
            catch (HttpRequestException)
            {
                // The handshake failed.
            }
        }

        public string ListedAs(string key)
        {
            using var read = Signing.KeyIn(key);
            var bytes = read.PublicKey.Export(NSec.Cryptography.KeyBlobFormat.RawPublicKey);
            return Hub.Agreement.Participants.SelectMany(p => p.SigningKeys).Single(k => k.PublicKey.Span.SequenceEqual(bytes)).Id;
        }

        public static CheckpointKey KeyOf(string file) =>
            Ministries.Ledger.CheckpointKey.FromPem("ministries.example/custody", System.IO.File.ReadAllText(file));

        public static string SerialOf(string file)
        {
            using var certificate = X509CertificateLoader.LoadCertificateFromFile(file);
            return certificate.SerialNumber;
        }

        /// <summary>Issues a certificate as the participant's authority does.</summary>
        public void Issue(string participant, string authority, string name, bool client, string system = "system")
        {
            var from = Path.Combine(Hub.Folder, participant, authority);
            using var issuer = CertificateAuthority.Read($"{from}.pem", $"{from}.key");
            using var issued = issuer.Issue(
                participant,
                new CertificateTerms(
                    [$"spiffe://ministries.example/{participant}/{system}"],
                    DateTimeOffset.UtcNow.AddMinutes(-5),
                    DateTimeOffset.UtcNow.AddDays(30),
                    client,
                    participant == Service || system == Pki.Witness ? ["localhost", "127.0.0.1"] : null
                )
            );
            System.IO.File.WriteAllText(File($"{name}.pem"), issued.ExportCertificatePem());
            WholeFile.Write(File($"{name}.key"), issued.GetECDsaPrivateKey()!.ExportPkcs8PrivateKeyPem(), mode: PrivateFiles.Mode);
        }

        public void MakeAuthority()
        {
            var now = DateTimeOffset.UtcNow;
            using var authority = CertificateAuthority.Create("the next", now.AddHours(-1), now.AddYears(1));
            System.IO.File.WriteAllText(File("next-authority.pem"), authority.Certificate.ExportCertificatePem());
            WholeFile.Write(
                File("next-authority.key"),
                authority.Certificate.GetECDsaPrivateKey()!.ExportPkcs8PrivateKeyPem(),
                mode: PrivateFiles.Mode
            );
        }

        /// <summary>What the thief has of the service: its certificate and key from before the change.</summary>
        public void KeepOld()
        {
            System.IO.File.Copy(Certificate, File("old.pem"));
            System.IO.File.Copy(Path.ChangeExtension(Certificate, ".key"), File("old.key"));
        }

        /// <summary>Puts the service's new certificate in its place, the key first. Returns when it is served.</summary>
        public async Task Replace()
        {
            System.IO.File.Move(File("new.key"), Path.ChangeExtension(Certificate, ".key"), overwrite: true);
            System.IO.File.Move(File("new.pem"), Certificate, overwrite: true);
            await Hub.Until(
                () => Hub.Host!.Services.GetRequiredService<Credentials>().Certificate.SerialNumber == SerialOf(Certificate),
                "the new certificate is served"
            );
            await Use(_settings);
        }

        public string Witness(string kind) => Path.Combine(Hub.Folder, Cosigner, $"{Pki.Witness}.{kind}");

        /// <summary>The serial number of the certificate that the running witness shows.</summary>
        public string ShownByWitness()
        {
            using var tcp = new System.Net.Sockets.TcpClient();
            var address = Hub.AddressOf(Cosigner);
            tcp.Connect(address.Host, address.Port);
            using var tls = new System.Net.Security.SslStream(tcp.GetStream());
            tls.AuthenticateAsClient(
                new System.Net.Security.SslClientAuthenticationOptions
                {
                    TargetHost = address.Host,
                    RemoteCertificateValidationCallback = (_, server, _, _) => server is not null,
                }
            );
            return ((X509Certificate2)tls.RemoteCertificate!).SerialNumber;
        }

        /// <summary>A client calls a server in the service's place if it shows the service's certificate, and not if it shows the old
        /// one.</summary>
        public async Task NobodyCallsTheThief()
        {
            Assert.NotEqual(0, await Reached(Certificate, Path.ChangeExtension(Certificate, ".key")));
            Assert.Equal(0, await Reached(File("old.pem"), File("old.key")));
        }

        private async Task<int> Reached(string certificate, string key)
        {
            var (reached, address) = (0, new Uri($"https://127.0.0.1:{Ports.Free()}"));
            var builder = WebApplication.CreateSlimBuilder();
            builder.Logging.ClearProviders();
            builder.WebHost.UseKestrelHttpsConfiguration();
            builder.WebHost.ConfigureKestrel(kestrel =>
                kestrel.Listen(
                    System.Net.IPAddress.Loopback,
                    address.Port,
                    listen =>
                        listen.UseHttps(
                            X509Certificate2.CreateFromPemFile(certificate, key),
                            https => https.SslProtocols = System.Security.Authentication.SslProtocols.Tls13
                        )
                )
            );
            await using var server = builder.Build();
            server.Run(_ =>
            {
                Interlocked.Increment(ref reached);
                return Task.CompletedTask;
            });
            await server.StartAsync(Hub.Cancel);
            var client = Hub.As(Writer, m => m with { Services = new Dictionary<string, Uri> { ["custody"] = address } });
            await Assert.ThrowsAnyAsync<RpcException>(() => Open(client));
            await server.StopAsync(Hub.Cancel);
            return reached;
        }

        public async ValueTask DisposeAsync()
        {
            await _enough.CancelAsync();
            await Task.WhenAll(_load).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            _enough.Dispose();
        }
    }
}
