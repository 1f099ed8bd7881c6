using System.Diagnostics;
using System.Net.Security;
using System.Security.Authentication;
using System.Security.Cryptography.X509Certificates;
using Grpc.Core;
using Grpc.Net.Client;
using Microsoft.AspNetCore.Builder;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Ministries.CallLog;
using Ministries.Consular;
using Ministries.Custody;
using Ministries.Errors.V1;
using Ministries.Hosting;
using Ministries.Hosting.Bus;
using Ministries.Ledger.V1;
using Ministries.Trust;

namespace Ministries.Local;

/// <summary>The three services in this process, each with its own port, certificate, ledger and key, and everybody who takes part
/// in the agreement, each with a certificate of its own authority.</summary>
public sealed class Cast : IAsyncDisposable
{
    /// <summary>The services, in the order in which they are shown.</summary>
    public static readonly IReadOnlyList<string> Services = ["calllog", "consular", "custody"];

    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(20);

    private readonly MemoryBroker _broker = new();
    private readonly List<WebApplication> _hosts = [];
    private readonly Dictionary<string, Uri> _addresses = [];
    private readonly Dictionary<string, Party> _parties = [];
    private readonly string _folder;
    private readonly Authorities _authorities;

    private Cast(string folder, Authorities authorities) => (_folder, _authorities) = (folder, authorities);

    /// <summary>Where each service is, by its name.</summary>
    public IReadOnlyDictionary<string, Uri> Addresses => _addresses;

    /// <summary>The participants that are no services and no operator, in the agreement's order.</summary>
    public IReadOnlyList<string> Participants { get; private init; } = [];

    /// <summary>Everybody, services and operator too.</summary>
    public IReadOnlyList<string> Everybody { get; private init; } = [];

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
        Pki.Init(certificates, StandardAgreement.Read(), TimeProvider.System);
        var agreementFile = Path.Combine(certificates, "agreement.json");
        var (agreement, terms) = Agreements.Read(await File.ReadAllBytesAsync(agreementFile, cancel));
        var cast = new Cast(folder, terms.Authorities)
        {
            Everybody = [.. agreement.Participants.Select(p => p.Id)],
            Participants = [.. agreement.Participants.Where(p => !p.Id.StartsWith("service/", StringComparison.Ordinal) && p.Id != "operator").Select(p => p.Id)],
        };
        try
        {
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
                    Agreement = agreementFile,
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
            foreach (var host in cast._hosts)
                cast._addresses[host.Services.GetRequiredService<Service>().Name] = new Uri(host.Urls.Single());
            await cast.Until("the services are ready", () => Task.FromResult(
                cast._hosts.All(h => h.Services.GetRequiredService<Lifecycle>().Ready)), cancel);
            return cast;
        }
        catch
        {
            await cast.DisposeAsync();
            throw;
        }
    }

    /// <summary>Everybody's requests are about this case from now on.</summary>
    public void TakeUp(string @case)
    {
        foreach (var id in Everybody) this[id].Case = @case;
    }

    /// <summary>Returns when a service has taken in what another one recorded at a position.</summary>
    /// <exception cref="StoryBroke">It does not.</exception>
    public async Task Heard(string service, string producer, ulong position, CancellationToken cancel) =>
        await Until($"{service} hears of entry {position} of {producer}", async () =>
            (await Causes(service, producer, cancel)).Contains(position), cancel);

    /// <summary>Returns when something is so.</summary>
    /// <param name="what">What is to be so.</param>
    /// <param name="isSo">Whether it is.</param>
    /// <param name="cancel">Ends it.</param>
    /// <exception cref="StoryBroke">It does not come to be so.</exception>
    public async Task Until(string what, Func<Task<bool>> isSo, CancellationToken cancel)
    {
        var begun = Stopwatch.GetTimestamp();
        while (!await isSo())
        {
            if (Stopwatch.GetElapsedTime(begun) > Patience) throw new StoryBroke($"it did not come to be that {what}");
            await Task.Delay(10, cancel);
        }
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        foreach (var party in _parties.Values) party.Dispose();
        await Task.WhenAll(_hosts.Select(h => h.StopAsync()));
        foreach (var host in _hosts) await host.DisposeAsync();
        await _broker.DisposeAsync();
    }

    // The positions in the producer's ledger that caused entries in the service's: such an entry is the producer's own command.
    private async Task<HashSet<ulong>> Causes(string service, string producer, CancellationToken cancel)
    {
        var causes = new HashSet<ulong>();
        using var call = this[$"service/{producer}"].LedgerOf(service)
            .FollowEntries(new FollowEntriesRequest { UntilNow = true }, cancellationToken: cancel);
        await foreach (var response in call.ResponseStream.ReadAllAsync(cancel))
            foreach (var part in response.Entry?.Parts.Where(p => p.Kind == PartKind.Cause) ?? [])
                if (Cause.Parser.ParseFrom(part.Data).Event is { } e) causes.Add(e.Position);
        return causes;
    }

    private Party Enter(string id) => new(
        id, id switch
        {
            "ua/coordination-hq" => "prisoners-department",
            "icrc" => "delegation",
            _ => "consular-department",
        },
        Services.ToDictionary(s => s, s => GrpcChannel.ForAddress(_addresses[s], new GrpcChannelOptions
        {
            HttpHandler = Handler(id, s), DisposeHttpClient = true,
        })));

    private HttpMessageHandler Handler(string participant, string service)
    {
        var home = Path.Combine(_folder, "certificates", participant);
        var own = X509Certificate2.CreateFromPemFile(Path.Combine(home, "system.pem"), Path.Combine(home, "system.key"));
        return new Untraced
        {
            InnerHandler = new SocketsHttpHandler
            {
                // A ministry's own spans are its own affair: a trace begins where its call arrives.
                ActivityHeadersPropagator = DistributedContextPropagator.CreateNoOutputPropagator(),
                SslOptions = new SslClientAuthenticationOptions
                {
                    EnabledSslProtocols = SslProtocols.Tls13,
                    LocalCertificateSelectionCallback = (_, _, _, _, _) => own,
                    RemoteCertificateValidationCallback = (_, certificate, chain, errors) =>
                        certificate is not null && !errors.HasFlag(SslPolicyErrors.RemoteCertificateNameMismatch) &&
                        Is($"service/{service}", certificate, chain),
                },
            },
        };
    }

    private bool Is(string participant, X509Certificate certificate, X509Chain? chain)
    {
        using var presented = X509CertificateLoader.LoadCertificate(certificate.GetRawCertData());
        var identified = _authorities.Identify(
            presented, chain?.ChainPolicy.ExtraStore ?? [], CertificateUse.Server, DateTimeOffset.UtcNow);
        return identified.Refused == Reason.Unspecified && identified.Identity!.Participant.Id == participant;
    }

    private sealed class Untraced : DelegatingHandler
    {
        protected override Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken)
        {
            request.Headers.Remove("traceparent");
            request.Headers.Remove("tracestate");
            if (Activity.Current is { } span) span.ActivityTraceFlags &= ~ActivityTraceFlags.Recorded;
            return base.SendAsync(request, cancellationToken);
        }
    }

    // A service's log goes to a file beside its ledger: the screen is the story's.
    private sealed class FileLog(string path) : ILoggerProvider
    {
        private readonly StreamWriter _file = new(path, append: true) { AutoFlush = true };

        public ILogger CreateLogger(string categoryName) => new Log(_file, categoryName);

        public void Dispose() => _file.Dispose();

        private sealed class Log(StreamWriter file, string category) : ILogger
        {
            public IDisposable? BeginScope<TState>(TState state) where TState : notnull => null;

            public bool IsEnabled(LogLevel logLevel) => logLevel >= LogLevel.Information;

            void ILogger.Log<TState>(
                LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter)
            {
                if (!IsEnabled(logLevel)) return;
                lock (file) file.WriteLine($"{DateTime.UtcNow:O} {logLevel} {category}: {formatter(state, exception)}{(exception is null ? "" : "\n" + exception)}");
            }
        }
    }
}

/// <summary>The story did not go as it must.</summary>
/// <param name="what">What went otherwise.</param>
public sealed class StoryBroke(string what) : Exception(what);
