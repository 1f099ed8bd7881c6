using System.Collections.Concurrent;
using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using Grpc.Core;
using Grpc.Health.V1;
using Ministries.CallLog;
using Ministries.Client;
using Ministries.Consular;
using Ministries.Custody;
using Ministries.Gateway;
using Ministries.Hosting;
using Ministries.Hosting.Bus;
using Ministries.Ledger;
using Ministries.Ledger.V1;
using Ministries.Trust;

namespace Ministries.Local;

/// <summary>The agreement's participants: a client for each, with a certificate of its own authority; some call by their gateways. It
/// starts the three services and the witnesses in this process, or joins services that run elsewhere.</summary>
public sealed class Participants : IAsyncDisposable
{
    /// <summary>The services, in the order in which they are shown.</summary>
    public static readonly IReadOnlyList<string> Services = ["calllog", "consular", "custody"];

    /// <summary>The participants that witness the services' logs: a party and the neutral observer.</summary>
    private static readonly IReadOnlyList<string> Witnesses = ["kr/mfa", "icrc"];

    private TimeSpan _patience = TimeSpan.FromSeconds(60);

    private readonly MemoryBroker _broker = new();
    private readonly List<WebApplication> _hosts = [];
    private readonly ConcurrentDictionary<string, Uri> _addresses = [];
    private readonly Dictionary<string, IReadOnlyList<Uri>> _further = [];
    private readonly Dictionary<string, ParticipantClient> _clients = [];
    private readonly string _certificates;
    private readonly string? _receipts;
    private readonly IReadOnlyDictionary<string, Uri> _gateways;

    private Participants(string certificates, string? receipts, IReadOnlyDictionary<string, Uri>? gateways = null)
    {
        (_certificates, _receipts, _gateways) = (certificates, receipts, gateways ?? new Dictionary<string, Uri>());
        var agreement = AgreementFile.Trust(Path.Combine(certificates, "agreement.json"), null, DateTimeOffset.UtcNow).Agreement;
        Ids = [.. agreement.Participants.Select(p => p.Id)];
        Parties = [.. Ids.Where(p => !p.StartsWith("service/", StringComparison.Ordinal) && p != "operator")];
    }

    /// <summary>Where each service is, by its name.</summary>
    public IReadOnlyDictionary<string, Uri> Addresses => _addresses;

    /// <summary>The ids of the participants except services and the operator, in the agreement's order.</summary>
    public IReadOnlyList<string> Parties { get; }

    /// <summary>The ids of all participants, services and the operator among them.</summary>
    public IReadOnlyList<string> Ids { get; }

    /// <summary>A participant's client.</summary>
    public ParticipantClient this[string id] => _clients.TryGetValue(id, out var client) ? client : _clients[id] = Connect(id);

    /// <summary>Makes the files that are missing in the folder, starts the witnesses and the services on it, and connects.</summary>
    /// <param name="folder">The folder.</param>
    /// <param name="reflection">Whether they serve gRPC reflection.</param>
    /// <param name="otlp">Where they export their traces; null: nowhere.</param>
    /// <param name="cancel">Ends it.</param>
    public static async Task<Participants> Start(string folder, bool reflection, Uri? otlp, CancellationToken cancel)
    {
        var certificates = Path.Combine(folder, "certificates");
        var agreement = StandardAgreement.Read();
        var ports = FreePorts(Witnesses.Count);
        foreach (var (witness, port) in Witnesses.Zip(ports))
            agreement.Witnesses.Add(new Types.V1.Witness { Participant = witness, Address = $"https://127.0.0.1:{port}/" });
        (agreement.CosignaturesDemanded, agreement.CosignatureSeconds) = ((uint)Witnesses.Count, 60);
        Pki.Init(certificates, agreement, TimeProvider.System, SealingKeyFile.Make);
        var participants = new Participants(certificates, Path.Combine(folder, "receipts"));
        try
        {
            foreach (var (witness, port) in Witnesses.Zip(ports))
            {
                var home = Path.Combine(folder, $"witness-{witness.Replace('/', '-')}");
                participants._hosts.Add(
                    WitnessServer.Build(
                        WitnessSettings.In(certificates, witness, home, new Uri($"https://127.0.0.1:{port}")),
                        TimeProvider.System,
                        log => log.AddProvider(new FileLog(home + ".log"))
                    )
                );
            }
            foreach (var service in new[] { CallLogService.Definition, ConsularService.Definition, CustodyService.Definition })
            {
                var keys = Path.Combine(certificates, "service", service.Name);
                var settings = new Settings
                {
                    Ledger = $"sqlite:{Path.Combine(folder, service.Name + ".db")}",
                    Broker = new Uri("memory:"),
                    Listen = new Uri("https://127.0.0.1:0"),
                    Certificate = Path.Combine(keys, "system.pem"),
                    CertificateKey = Path.Combine(keys, "system.key"),
                    Agreement = Path.Combine(certificates, "agreement.json"),
                    Checkpoint = Path.Combine(folder, service.Name + ".checkpoint"),
                    CheckpointKey = Path.Combine(keys, "checkpoint.key"),
                    // The addresses are filled in as the services start. No service calls another before all have started.
                    Peers = participants._addresses,
                    Reflection = reflection,
                    Otlp = otlp,
                };
                var builder = WebApplication.CreateSlimBuilder();
                builder.Logging.ClearProviders().AddProvider(new FileLog(Path.Combine(folder, service.Name + ".log")));
                participants._hosts.Add(await ServiceHost.Build(service, settings, builder, participants._broker, cancel));
            }
            await Task.WhenAll(participants._hosts.Select(h => h.StartAsync(cancel)));
            foreach (var host in participants._hosts.Skip(Witnesses.Count))
                participants._addresses[host.Services.GetRequiredService<Service>().Name] = new Uri(host.Urls.Single());
            await participants.WaitUntilReady(cancel);
            return participants;
        }
        catch
        {
            await participants.DisposeAsync();
            throw;
        }
    }

    /// <summary>As the other method, to services with one replica each.</summary>
    public static Task<Participants> Join(
        string certificates,
        IReadOnlyDictionary<string, Uri> addresses,
        TimeSpan patience,
        CancellationToken cancel,
        string? receipts = null,
        IReadOnlyDictionary<string, Uri>? gateways = null
    ) => Join(certificates, addresses.ToDictionary(a => a.Key, a => (IReadOnlyList<Uri>)[a.Value]), patience, cancel, receipts, gateways);

    /// <summary>Connects to services that run elsewhere.</summary>
    /// <param name="certificates">The folder of certificates and agreement that they were started with.</param>
    /// <param name="addresses">Where the replicas of each service are, by its name.</param>
    /// <param name="patience">How long to wait for a condition, such as that the services are ready.</param>
    /// <param name="cancel">Ends it.</param>
    /// <param name="receipts">The folder in which each participant keeps its receipts; null: none does.</param>
    /// <param name="gateways">Where the gateways are, by their participants. A participant that has none calls the services itself. The
    /// folder of certificates has the token of each, <c>gateway.token</c> in the participant's folder.</param>
    public static async Task<Participants> Join(
        string certificates,
        IReadOnlyDictionary<string, IReadOnlyList<Uri>> addresses,
        TimeSpan patience,
        CancellationToken cancel,
        string? receipts = null,
        IReadOnlyDictionary<string, Uri>? gateways = null
    )
    {
        var participants = new Participants(certificates, receipts, gateways) { _patience = patience };
        foreach (var (service, replicas) in addresses)
            (participants._addresses[service], participants._further[service]) = (replicas[0], [.. replicas.Skip(1)]);
        await participants.WaitUntilReady(cancel);
        return participants;
    }

    private Task WaitUntilReady(CancellationToken cancel) =>
        WaitUntil(
            "the services are ready",
            async () =>
            {
                foreach (var service in Services)
                    if (
                        (
                            await this["operator"]
                                .HealthOf(service)
                                .CheckAsync(new HealthCheckRequest { Service = ServiceHost.Ready }, cancellationToken: cancel)
                        ).Status != HealthCheckResponse.Types.ServingStatus.Serving
                    )
                        return false;
                return true;
            },
            cancel
        );

    /// <summary>Sets the case that all participants' requests are about.</summary>
    public void SetCase(string @case)
    {
        foreach (var id in Ids)
            this[id].Case = @case;
    }

    /// <summary>Waits until a service has processed an event that another one recorded at a position.</summary>
    /// <exception cref="StoryException">It does not process it in time.</exception>
    public async Task WaitUntilProcessed(string service, string producer, ulong position, CancellationToken cancel) =>
        await WaitUntil(
            $"{service} hears of entry {position} of {producer}",
            async () => (await CausesOf(service, producer, cancel)).Contains(position),
            cancel
        );

    /// <summary>Waits until a condition holds.</summary>
    /// <param name="what">The condition in words.</param>
    /// <param name="isSo">Whether it holds now.</param>
    /// <param name="cancel">Ends it.</param>
    /// <exception cref="StoryException">It does not hold in time.</exception>
    public async Task WaitUntil(string what, Func<Task<bool>> isSo, CancellationToken cancel)
    {
        var begun = Stopwatch.GetTimestamp();
        while (!await Holds())
        {
            if (Stopwatch.GetElapsedTime(begun) > _patience)
                throw new StoryException($"this did not happen within {_patience.TotalSeconds:F0} seconds: {what}");
            await Task.Delay(10, cancel);
        }

        async Task<bool> Holds()
        {
            try
            {
                return await isSo();
            }
            catch (RpcException e) when (e.StatusCode == StatusCode.Unavailable)
            {
                // A service that cannot be asked now is asked later.
                return false;
            }
        }
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        foreach (var client in _clients.Values)
            client.Dispose();
        await Task.WhenAll(_hosts.Select(h => h.StopAsync()));
        foreach (var host in _hosts)
            await host.DisposeAsync();
        await _broker.DisposeAsync();
    }

    // The positions in the producer's ledger whose events caused entries in the service's ledger. The producer may read these entries.
    private async Task<HashSet<ulong>> CausesOf(string service, string producer, CancellationToken cancel)
    {
        var causes = new HashSet<ulong>();
        await foreach (var response in this[$"service/{producer}"].Client.Follow(service, untilNow: true, cancel: cancel))
        foreach (var part in response.Entry?.Parts.Where(p => p.Kind == PartKind.Cause) ?? [])
            if (Cause.Parser.ParseFrom(part.Data).Event is { } e)
                causes.Add(e.Position);
        return causes;
    }

    private ParticipantClient Connect(string id)
    {
        var (home, receipts) = (Path.Combine(_certificates, id), _receipts is null ? null : Path.Combine(_receipts, id));
        var client = new MinistryClient(
            MinistrySettings.In(_certificates, id, _addresses) with
            {
                FurtherAddresses = _further,
                ReceiptFolder = receipts,
                PassesTrace = false,
            }
        );
        return new(
            client,
            _gateways.TryGetValue(id, out var gateway)
                ? new GatewayConnection(gateway, Path.Combine(home, "gateway.token"), Path.Combine(home, "authority.pem"), receipts)
                : new DirectConnection(client),
            id switch
            {
                "ua/coordination-hq" => "prisoners-department",
                "icrc" => "delegation",
                _ => "consular-department",
            },
            home,
            _patience
        );
    }

    // The agreement names the witnesses' addresses before they listen.
    private static List<int> FreePorts(int count)
    {
        var held = Enumerable.Range(0, count).Select(_ => new TcpListener(IPAddress.Loopback, 0)).ToList();
        foreach (var listener in held)
            listener.Start();
        var ports = held.Select(l => ((IPEndPoint)l.LocalEndpoint).Port).ToList();
        foreach (var listener in held)
            listener.Dispose();
        return ports;
    }

    // A service's log goes to a file beside its ledger, so that the terminal shows the steps of the case alone.
    private sealed class FileLog(string path) : ILoggerProvider
    {
        private readonly StreamWriter _file = new(PrivateFiles.Open(path, FileMode.Append, FileAccess.Write, FileShare.Read))
        {
            AutoFlush = true,
        };

        public ILogger CreateLogger(string categoryName) => new Log(_file, categoryName);

        public void Dispose() => _file.Dispose();

        private sealed class Log(StreamWriter file, string category) : ILogger
        {
            public IDisposable? BeginScope<TState>(TState state)
                where TState : notnull => null;

            public bool IsEnabled(LogLevel logLevel) => logLevel >= LogLevel.Information;

            void ILogger.Log<TState>(
                LogLevel logLevel,
                EventId eventId,
                TState state,
                Exception? exception,
                Func<TState, Exception?, string> formatter
            )
            {
                if (!IsEnabled(logLevel))
                    return;
                lock (file)
                    file.WriteLine(
                        $"{DateTime.UtcNow:O} {logLevel} {category}: {formatter(state, exception)}{(exception is null ? "" : "\n" + exception)}"
                    );
            }
        }
    }
}

/// <summary>A step of the story failed, and it cannot go on.</summary>
/// <param name="what">What failed.</param>
public sealed class StoryException(string what) : Exception(what);
