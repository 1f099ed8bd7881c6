using System.Collections.Concurrent;
using System.Net;
using Google.Protobuf;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Ministries.Client;
using Ministries.Custody.V1;
using Ministries.Fixtures;
using Ministries.Gateway;
using Ministries.Hosting;
using Ministries.Hosting.Bus;
using Ministries.Ledger;
using Ministries.Trust;
using Ministries.Types.V1;

namespace Ministries.Witness.Tests;

/// <summary>Custody, run by its real host, and the witnesses of three participants, two of whom the agreement demands.</summary>
public sealed class Hub : IAsyncDisposable
{
    public static readonly IReadOnlyList<string> Names = ["icrc", "kr/mfa", "ua/mfa"];

    private readonly Dictionary<string, WebApplication> _witnesses = [];
    private readonly List<IDisposable> _open = [];
    private readonly MemoryBroker _broker = new();

    private Hub() { }

    public string Folder { get; } = Directory.CreateTempSubdirectory("witness").FullName;

    public Uri Address { get; } = new($"https://127.0.0.1:{Ports.Free()}");

    public WebApplication? Host { get; private set; }

    public ServiceLedger Ledger => Host!.Services.GetRequiredService<ServiceLedger>();

    public Witnessing Witnessing => Host!.Services.GetRequiredService<Witnessing>();

    public int ExitCode => Host!.Services.GetRequiredService<Lifecycle>().ExitCode;

    /// <summary>Whether the service is being stopped, by itself or by the test.</summary>
    public bool Stopping => Host!.Lifetime.ApplicationStopping.IsCancellationRequested;

    /// <summary>Puts the next version of the agreement in place. Returns when the service has adopted it.</summary>
    public async Task<Agreement> Next(Action<Agreement> change, params string[] signers)
    {
        var next = Signing.Next(Folder, change, signers.Length == 0 ? null : signers);
        await Until(
            () => Host!.Services.GetRequiredService<Agreements>().InForce.Permissions.Agreement.Version == next.Version,
            $"version {next.Version} is in force"
        );
        return next;
    }

    /// <summary>What was logged as a warning or worse.</summary>
    public ConcurrentQueue<string> Warnings { get; } = [];

    public Agreement Agreement => JsonParser.Default.Parse<Agreement>(File.ReadAllText(Path.Combine(Folder, "agreement.json")));

    public string Database => Path.Combine(Folder, "custody.db");

    public string Checkpoint => Path.Combine(Folder, "custody.checkpoint");

    public static CancellationToken Cancel => TestContext.Current.CancellationToken;

    /// <summary>Makes the files; starts nothing.</summary>
    public static Hub Make(uint demanded = 2, uint seconds = 60)
    {
        var hub = new Hub();
        var agreement = StandardAgreement.Read();
        agreement.Witnesses.Clear();
        agreement.Witnesses.Add(
            Names.Select(n => new Types.V1.Witness { Participant = n, Address = $"https://127.0.0.1:{Ports.Free()}/" })
        );
        (agreement.CosignaturesDemanded, agreement.CosignatureSeconds) = (demanded, seconds);
        Pki.Init(hub.Folder, agreement, TimeProvider.System);
        return hub;
    }

    /// <summary>The hub with its service and the witnesses that are named.</summary>
    public static async Task<Hub> Start(uint demanded, uint seconds, params string[] witnesses)
    {
        var hub = Make(demanded, seconds);
        foreach (var witness in witnesses)
            await hub.StartWitness(witness);
        await hub.StartService();
        return hub;
    }

    public async Task StartService(
        string? database = null,
        string? checkpoint = null,
        WitnessingOptions? options = null,
        ILoggerProvider? log = null
    )
    {
        var builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders().AddProvider(new Heard(Warnings));
        if (log is not null)
            builder.Logging.AddProvider(log);
        Host = await ServiceHost.Build(
            Custody.CustodyService.Definition.Registering(services =>
            {
                services.AddSingleton(new EdgeLimits { ReloadInterval = TimeSpan.FromMilliseconds(50) });
                services.AddSingleton(
                    options
                        ?? new WitnessingOptions { Pause = TimeSpan.FromMilliseconds(20), LongestPause = TimeSpan.FromMilliseconds(100) }
                );
            }),
            ServiceSetup.SettingsIn(Folder, "custody", Address) with
            {
                Ledger = $"sqlite:{database ?? Database}",
                Checkpoint = checkpoint ?? Checkpoint,
            },
            builder,
            _broker,
            Cancel
        );
        await Host.StartAsync(Cancel);
    }

    public async Task StopService()
    {
        if (Host is null)
            return;
        await Host.StopAsync(CancellationToken.None);
        await Host.DisposeAsync();
        Host = null;
        Microsoft.Data.Sqlite.SqliteConnection.ClearAllPools();
    }

    public Uri AddressOf(string witness) => new(Agreement.Witnesses.Single(w => w.Participant == witness).Address);

    public string StateOf(string witness) => Path.Combine(Folder, witness, "witness-state");

    public async Task StartWitness(string participant, string? state = null, string? agreement = null)
    {
        var settings = WitnessSettings.In(Folder, participant, state ?? StateOf(participant), AddressOf(participant));
        var host = WitnessServer.Build(settings with { Agreement = agreement ?? settings.Agreement }, TimeProvider.System);
        await host.StartAsync(Cancel);
        _witnesses[participant] = host;
    }

    /// <summary>Another server at the address of a witness, with its certificate.</summary>
    public async Task<WebApplication> StartFalseWitness(string participant, RequestDelegate answer)
    {
        var home = Path.Combine(Folder, participant);
        var builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        builder.WebHost.UseKestrelHttpsConfiguration();
        builder.WebHost.ConfigureKestrel(kestrel =>
            kestrel.Listen(
                IPAddress.Loopback,
                AddressOf(participant).Port,
                listen =>
                    listen.UseHttps(
                        System.Security.Cryptography.X509Certificates.X509Certificate2.CreateFromPemFile(
                            Path.Combine(home, $"{Pki.Witness}.pem"),
                            Path.Combine(home, $"{Pki.Witness}.key")
                        ),
                        https => https.SslProtocols = System.Security.Authentication.SslProtocols.Tls13
                    )
            )
        );
        var host = builder.Build();
        host.Run(answer);
        await host.StartAsync(Cancel);
        return host;
    }

    public Client.Witness WitnessOf(string participant) => _witnesses[participant].Services.GetRequiredService<Client.Witness>();

    public async Task StopWitness(string participant)
    {
        await _witnesses[participant].StopAsync(CancellationToken.None);
        await _witnesses[participant].DisposeAsync();
        _witnesses.Remove(participant);
    }

    public MinistryClient As(string participant, Func<MinistrySettings, MinistrySettings>? but = null)
    {
        var settings = MinistrySettings.In(Folder, participant, new Dictionary<string, Uri> { ["custody"] = Address });
        var client = new MinistryClient(but is null ? settings : but(settings));
        _open.Add(client);
        return client;
    }

    /// <summary>Opens cases: entries of the ledger.</summary>
    public async Task Write(int count = 1, MinistryClient? client = null)
    {
        client ??= As("ua/coordination-hq");
        await Parallel.ForEachAsync(
            Enumerable.Range(0, count),
            new ParallelOptions { MaxDegreeOfParallelism = 32, CancellationToken = Cancel },
            async (_, cancel) =>
                await client.Custody.OpenCaseAsync(
                    new OpenCaseRequest
                    {
                        Actor = new Actor
                        {
                            Office = "headquarters",
                            Official = "o-1",
                            Authority = "order-1",
                        },
                    },
                    cancellationToken: cancel
                )
        );
    }

    /// <summary>A plain HTTP client with a participant's certificate, as any tool has it; no participant: without one.</summary>
    public HttpClient Http(string? participant)
    {
        var client = new HttpClient(
            new SocketsHttpHandler
            {
                SslOptions = new System.Net.Security.SslClientAuthenticationOptions
                {
                    ClientCertificates = participant is null
                        ? null
                        :
                        [
                            System.Security.Cryptography.X509Certificates.X509Certificate2.CreateFromPemFile(
                                Path.Combine(Folder, participant, "system.pem"),
                                Path.Combine(Folder, participant, "system.key")
                            ),
                        ],
                    RemoteCertificateValidationCallback = (_, server, _, _) => server is not null,
                },
            }
        )
        {
            BaseAddress = Address,
            DefaultRequestVersion = HttpVersion.Version20,
            DefaultVersionPolicy = HttpVersionPolicy.RequestVersionExact,
        };
        _open.Add(client);
        return client;
    }

    /// <summary>Waits until it is so, at most 30 s.</summary>
    public static async Task Until(Func<bool> so, string what)
    {
        using var late = CancellationTokenSource.CreateLinkedTokenSource(Cancel);
        late.CancelAfter(TimeSpan.FromSeconds(30));
        using var timer = new PeriodicTimer(TimeSpan.FromMilliseconds(10));
        while (!so())
        {
            Assert.False(late.IsCancellationRequested, what);
            await timer.WaitForNextTickAsync(Cancel);
        }
    }

    /// <summary>Waits until all that is in the ledger is under a cosigned checkpoint.</summary>
    public async Task<Checkpoint> Cosigned()
    {
        await Until(() => Ledger.Cosigned?.Size >= Ledger.Size, "the demanded cosignatures did not come");
        return Ledger.Cosigned!;
    }

    public async ValueTask DisposeAsync()
    {
        foreach (var open in _open)
            open.Dispose();
        await StopService();
        foreach (var witness in _witnesses.Keys.ToArray())
            await StopWitness(witness);
        await _broker.DisposeAsync();
        Directory.Delete(Folder, recursive: true);
    }
}
