using System.Diagnostics;
using System.Text.Json;
using System.Text.RegularExpressions;
using Google.Protobuf.WellKnownTypes;
using Microsoft.AspNetCore.Builder;
using Microsoft.Extensions.Logging;
using Ministries.Custody.V1;
using Ministries.Fixtures;
using Ministries.Gateway;
using Ministries.Local;
using Ministries.Types.V1;

namespace Ministries.Deploy.Tests;

/// <summary>The real services with a case of one prisoner, a gateway, and a real Prometheus that reads them as <c>deploy/</c> configures
/// it.</summary>
internal sealed class ScrapedServices : IAsyncDisposable
{
    /// <summary>The prisoner's name: what no metric may show.</summary>
    public const string Poison = "KWON-POISONED-7";

    private readonly ServiceProcesses _services = new();
    private readonly Dictionary<string, int> _metrics;
    private readonly HttpClient _http = new() { BaseAddress = new Uri($"http://127.0.0.1:{Ports.Free()}") };
    private readonly int _gatewayMetrics = Ports.Free();
    private WebApplication? _gateway;
    private RabbitMq? _broker;
    private Participants? _participants;
    private Process? _prometheus;

    public ScrapedServices() => _metrics = _services.Addresses.Keys.ToDictionary(s => s, _ => Ports.Free());

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    /// <summary>The case's id.</summary>
    public string Case => _participants!["kr/mfa"].Case;

    /// <summary>Starts everything and plays the case.</summary>
    public async Task Start()
    {
        _broker = await RabbitMq.Create();
        foreach (var (service, port) in _metrics)
            _services.Start(
                service,
                $"sqlite:{Path.Combine(_services.Folder, $"{service}.db")}",
                _broker.Uri,
                ("Metrics__Listen", $"http://127.0.0.1:{port}")
            );
        _participants = await Participants.Join(_services.Certificates, _services.Addresses, TimeSpan.FromMinutes(2), Cancel);
        await PlayCase(_participants);
        _gateway = GatewayHost.Build(
            new GatewaySettings
            {
                Participant = "kr/mfa",
                Folder = _services.Certificates,
                State = Path.Combine(_services.Folder, "gateway"),
                Services = _services.Addresses.ToDictionary(a => a.Key, a => (IReadOnlyList<Uri>)[a.Value]),
                Listen = new Uri($"https://127.0.0.1:{Ports.Free()}"),
                Metrics = new Uri($"http://127.0.0.1:{_gatewayMetrics}"),
            },
            logging: logging => logging.ClearProviders()
        );
        await _gateway.StartAsync(Cancel);
        await StartPrometheus();
    }

    private static async Task PlayCase(Participants participants)
    {
        var custody = participants["ua/coordination-hq"].Custody;
        participants.SetCase((await custody.OpenCaseAsync(new(), cancellationToken: Cancel)).Case);
        await custody.RegisterPrisonerAsync(
            new()
            {
                Status = CustodyState.Interned,
                CaptureTime = Timestamp.FromDateTime(DateTime.UtcNow.AddDays(-60)),
                Identity = ParticipantClient.Seal(
                    new PersonIdentity
                    {
                        Name = new PersonName { Original = "Ga Na-da", Script = "Latn" },
                        Rank = Poison,
                    },
                    "ua/coordination-hq"
                ),
            },
            cancellationToken: Cancel
        );
        var admitted = await custody.AdmitPartyAsync(
            new() { Participant = "kr/mfa", Part = Part.RequestingState },
            cancellationToken: Cancel
        );
        foreach (var service in new[] { "calllog", "consular" })
            await participants.WaitUntilProcessed(service, "custody", admitted.Receipt.Position, Cancel);
    }

    // With the configuration as it stands, but the targets that there are here.
    private async Task StartPrometheus()
    {
        var configuration = await File.ReadAllTextAsync(Path.Combine(MonitoringTests.Prometheus, "prometheus.yml"), Cancel);
        foreach (var (service, port) in _metrics)
        {
            Assert.Contains($"\"{service}-metrics:9464\"", configuration);
            configuration = configuration.Replace($"\"{service}-metrics:9464\"", $"\"127.0.0.1:{port}\"");
        }
        // One gateway stands for all of them.
        configuration = Regex.Replace(configuration, @"""gateway-[a-z-]+-metrics:9464""", $"\"127.0.0.1:{_gatewayMetrics}\"");
        configuration = configuration.Replace("_interval: 15s", "_interval: 1s");
        await File.WriteAllTextAsync(Path.Combine(_services.Folder, "prometheus.yml"), configuration, Cancel);
        File.Copy(Path.Combine(MonitoringTests.Prometheus, "alerts.yml"), Path.Combine(_services.Folder, "alerts.yml"));
        _prometheus = Process.Start(
            new ProcessStartInfo(
                "prometheus",
                [
                    "--config.file=prometheus.yml",
                    "--storage.tsdb.path=data",
                    $"--web.listen-address={_http.BaseAddress!.Authority}",
                    "--log.level=warn",
                ]
            )
            {
                WorkingDirectory = _services.Folder,
            }
        );
    }

    /// <summary>Ends a service at once.</summary>
    public Task Kill(string service) => _services.Kill(service, Cancel);

    /// <summary>Waits until a condition holds, for two minutes at most.</summary>
    public Task Until(string what, Func<Task<bool>> isSo) => _participants!.WaitUntil(what, isSo, Cancel);

    /// <summary>What Prometheus knows of each of its rules.</summary>
    public async Task<List<JsonElement>> Rules() =>
        [.. (await Ask("api/v1/rules")).GetProperty("groups").EnumerateArray().SelectMany(g => g.GetProperty("rules").EnumerateArray())];

    /// <summary>Prometheus' answer to a query in PromQL.</summary>
    public async Task<List<JsonElement>> Query(string query) =>
        [.. (await Ask($"api/v1/query?query={Uri.EscapeDataString(query)}")).GetProperty("result").EnumerateArray()];

    /// <summary>The data that Prometheus has at a path.</summary>
    public async Task<JsonElement> Ask(string path)
    {
        for (var left = 200; ; left--)
            try
            {
                return JsonDocument.Parse(await _http.GetStringAsync(path, Cancel)).RootElement.GetProperty("data");
            }
            catch (HttpRequestException) when (left > 0)
            {
                // It begins to answer some moments after its start.
                await Task.Delay(50, Cancel);
            }
    }

    /// <summary>What each service and a gateway show to Prometheus.</summary>
    public Task<string[]> Metrics() =>
        Task.WhenAll(
            _metrics.Values.Append(_gatewayMetrics).Select(port => _http.GetStringAsync($"http://127.0.0.1:{port}/metrics", Cancel))
        );

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        _http.Dispose();
        if (_participants is not null)
            await _participants.DisposeAsync();
        if (_prometheus is not null)
        {
            if (!_prometheus.HasExited)
                _prometheus.Kill();
            await _prometheus.WaitForExitAsync(CancellationToken.None);
            _prometheus.Dispose();
        }
        if (_gateway is not null)
            await _gateway.DisposeAsync();
        await _services.DisposeAsync();
        _broker?.Stop();
    }
}
