using System.Collections.Concurrent;
using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using Grpc.Core;
using Grpc.Health.V1;
using Microsoft.AspNetCore.Builder;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Ministries.CallLog;
using Ministries.Consular;
using Ministries.Custody;
using Ministries.Hosting;
using Ministries.Hosting.Bus;
using Ministries.Ledger;
using Ministries.Ledger.V1;
using Ministries.Ministry;
using Ministries.Trust;

namespace Ministries.Local;

/// <summary>Everybody who takes part in the agreement, each with a certificate of its own authority, and the three services that
/// they call: started in this process, each with its own port, certificate, ledger and key, or running elsewhere.</summary>
public sealed class Cast : IAsyncDisposable
{
    /// <summary>The services, in the order in which they are shown.</summary>
    public static readonly IReadOnlyList<string> Services = ["calllog", "consular", "custody"];

    /// <summary>Those who witness the services' logs: one side, and who is on none.</summary>
    private static readonly IReadOnlyList<string> Witnesses = ["kr/mfa", "icrc"];

    private TimeSpan _patience = TimeSpan.FromSeconds(60);

    private readonly MemoryBroker _broker = new();
    private readonly List<WebApplication> _hosts = [];
    private readonly ConcurrentDictionary<string, Uri> _addresses = [];
    private readonly Dictionary<string, Party> _parties = [];
    private readonly string _certificates;
    private readonly string? _receipts;

    private Cast(string certificates, string? receipts)
    {
        (_certificates, _receipts) = (certificates, receipts);
        var agreement = AgreementFile.Trust(Path.Combine(certificates, "agreement.json"), null, DateTimeOffset.UtcNow).Agreement;
        Everybody = [.. agreement.Participants.Select(p => p.Id)];
        Participants = [.. Everybody.Where(p => !p.StartsWith("service/", StringComparison.Ordinal) && p != "operator")];
    }

    /// <summary>Where each service is, by its name.</summary>
    public IReadOnlyDictionary<string, Uri> Addresses => _addresses;

    /// <summary>The participants that are no services and no operator, in the agreement's order.</summary>
    public IReadOnlyList<string> Participants { get; }

    /// <summary>Everybody, services and operator too.</summary>
    public IReadOnlyList<string> Everybody { get; }

    /// <summary>A participant.</summary>
    public Party this[string id] => _parties.TryGetValue(id, out var party) ? party : _parties[id] = Enter(id);

    /// <summary>Makes what is missing in the folder, and starts the services on it.</summary>
    /// <param name="folder">The folder.</param>
    /// <param name="reflection">Whether they serve gRPC reflection.</param>
    /// <param name="otlp">Where they export their traces; null: nowhere.</param>
    /// <param name="cancel">Ends it.</param>
    public static async Task<Cast> Assemble(string folder, bool reflection, Uri? otlp, CancellationToken cancel)
    {
        var certificates = Path.Combine(folder, "certificates");
        var agreement = StandardAgreement.Read();
        var ports = FreePorts(Witnesses.Count);
        foreach (var (witness, port) in Witnesses.Zip(ports))
            agreement.Witnesses.Add(new Types.V1.Witness { Participant = witness, Address = $"https://127.0.0.1:{port}/" });
        (agreement.CosignaturesDemanded, agreement.CosignatureSeconds) = ((uint)Witnesses.Count, 60);
        Pki.Init(certificates, agreement, TimeProvider.System);
        var cast = new Cast(certificates, Path.Combine(folder, "receipts"));
        try
        {
            foreach (var (witness, port) in Witnesses.Zip(ports))
            {
                var home = Path.Combine(folder, $"witness-{witness.Replace('/', '-')}");
                cast._hosts.Add(
                    WitnessCommand.Build(
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
                    // Filled as they start; each is called only when all have.
                    Peers = cast._addresses,
                    Reflection = reflection,
                    Otlp = otlp,
                };
                var builder = WebApplication.CreateSlimBuilder();
                builder.Logging.ClearProviders().AddProvider(new FileLog(Path.Combine(folder, service.Name + ".log")));
                cast._hosts.Add(await ServiceHost.Build(service, settings, builder, cast._broker, cancel));
            }
            await Task.WhenAll(cast._hosts.Select(h => h.StartAsync(cancel)));
            foreach (var host in cast._hosts.Skip(Witnesses.Count))
                cast._addresses[host.Services.GetRequiredService<Service>().Name] = new Uri(host.Urls.Single());
            await cast.Ready(cancel);
            return cast;
        }
        catch
        {
            await cast.DisposeAsync();
            throw;
        }
    }

    /// <summary>Takes part in services that run elsewhere.</summary>
    /// <param name="certificates">The folder of certificates and agreement that they were started with.</param>
    /// <param name="addresses">Where each service is, by its name.</param>
    /// <param name="patience">How long to wait for what must come to be so, their readiness too.</param>
    /// <param name="cancel">Ends it.</param>
    /// <param name="receipts">The folder in which each participant keeps its receipts; null: none does.</param>
    public static async Task<Cast> Join(
        string certificates,
        IReadOnlyDictionary<string, Uri> addresses,
        TimeSpan patience,
        CancellationToken cancel,
        string? receipts = null
    )
    {
        var cast = new Cast(certificates, receipts) { _patience = patience };
        foreach (var (service, address) in addresses)
            cast._addresses[service] = address;
        await cast.Ready(cancel);
        return cast;
    }

    private Task Ready(CancellationToken cancel) =>
        Until(
            "the services are ready",
            async () =>
            {
                try
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
                }
                catch (RpcException e) when (e.StatusCode == StatusCode.Unavailable)
                {
                    return false;
                }
            },
            cancel
        );

    /// <summary>Everybody's requests are about this case from now on.</summary>
    public void TakeUp(string @case)
    {
        foreach (var id in Everybody)
            this[id].Case = @case;
    }

    /// <summary>Returns when a service has taken in what another one recorded at a position.</summary>
    /// <exception cref="StoryException">It does not.</exception>
    public async Task Heard(string service, string producer, ulong position, CancellationToken cancel) =>
        await Until(
            $"{service} hears of entry {position} of {producer}",
            async () => (await Causes(service, producer, cancel)).Contains(position),
            cancel
        );

    /// <summary>Returns when something is so.</summary>
    /// <param name="what">What is to be so.</param>
    /// <param name="isSo">Whether it is.</param>
    /// <param name="cancel">Ends it.</param>
    /// <exception cref="StoryException">It does not come to be so.</exception>
    public async Task Until(string what, Func<Task<bool>> isSo, CancellationToken cancel)
    {
        var begun = Stopwatch.GetTimestamp();
        while (!await isSo())
        {
            if (Stopwatch.GetElapsedTime(begun) > _patience)
                throw new StoryException($"it did not come to be that {what}");
            await Task.Delay(10, cancel);
        }
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        foreach (var party in _parties.Values)
            party.Dispose();
        await Task.WhenAll(_hosts.Select(h => h.StopAsync()));
        foreach (var host in _hosts)
            await host.DisposeAsync();
        await _broker.DisposeAsync();
    }

    // The positions in the producer's ledger that caused entries in the service's: such an entry is the producer's own command.
    private async Task<HashSet<ulong>> Causes(string service, string producer, CancellationToken cancel)
    {
        var causes = new HashSet<ulong>();
        await foreach (var response in this[$"service/{producer}"].Client.Follow(service, untilNow: true, cancel: cancel))
        foreach (var part in response.Entry?.Parts.Where(p => p.Kind == PartKind.Cause) ?? [])
            if (Cause.Parser.ParseFrom(part.Data).Event is { } e)
                causes.Add(e.Position);
        return causes;
    }

    private Party Enter(string id) =>
        new(
            new MinistryClient(
                MinistrySettings.In(_certificates, id, _addresses) with
                {
                    ReceiptFolder = _receipts is null ? null : Path.Combine(_receipts, id),
                    PassesTrace = false,
                }
            ),
            id switch
            {
                "ua/coordination-hq" => "prisoners-department",
                "icrc" => "delegation",
                _ => "consular-department",
            },
            Path.Combine(_certificates, id)
        );

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

    // A service's log goes to a file beside its ledger: the screen is the story's.
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

/// <summary>The story did not go as it must.</summary>
/// <param name="what">What went otherwise.</param>
public sealed class StoryException(string what) : Exception(what);
