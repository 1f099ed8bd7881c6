using System.Diagnostics;
using System.Text.Json;
using System.Text.RegularExpressions;
using Ministries.Custody.V1;
using Ministries.Fixtures;
using Ministries.Local;
using Ministries.Trust;
using Ministries.Types.V1;

namespace Ministries.Deploy.Tests;

/// <summary>What stands in <c>deploy/</c> for whoever watches the services.</summary>
public sealed partial class MonitoringTests
{
    private static readonly string Root = RootOf(AppContext.BaseDirectory);
    private static readonly string Prometheus = Path.Combine(Root, "deploy", "prometheus");

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    [Fact]
    public async Task The_rules_fire_when_they_should_and_only_then()
    {
        await Run("promtool", Prometheus, "check", "config", "prometheus.yml");
        await Run("promtool", Prometheus, "test", "rules", "alerts.test.yml");
        // Each of them is seen to fire in some test, and to be still in another.
        var tests = await File.ReadAllTextAsync(Path.Combine(Prometheus, "alerts.test.yml"), Cancel);
        foreach (var alert in await Alerts())
        {
            Assert.Matches($@"alertname: {alert}\n\s+exp_alerts:\n\s+- exp_labels", tests);
            Assert.Matches($@"alertname: {alert}\n\s+exp_alerts: \[\]", tests);
        }
    }

    [Fact]
    public async Task Each_alert_has_its_section_in_the_guide_and_each_section_its_alert()
    {
        var guide = await File.ReadAllTextAsync(Path.Combine(Root, "deploy", "README.md"), Cancel);
        var alerts = guide[guide.IndexOf("\n## Alerts", StringComparison.Ordinal)..];
        if (alerts.IndexOf("\n## ", 1, StringComparison.Ordinal) is > 0 and var end)
            alerts = alerts[..end];
        var sections = Section().Matches(alerts).Select(m => m.Groups[1].Value).ToList();
        Assert.Equal(await Alerts(), sections);
        var rules = await File.ReadAllTextAsync(Path.Combine(Prometheus, "alerts.yml"), Cancel);
        Assert.Equal(
            (await Alerts()).Select(a => $"deploy/README.md#{a.ToLowerInvariant()}"),
            Runbook().Matches(rules).Select(m => m.Groups[1].Value)
        );
        // A section says what it means and what to do.
        Assert.All(sections, s => Assert.Matches($@"### {s}\n\n(?:.+\n)+\n\*\*Do:\*\* ", alerts));
    }

    [Fact]
    public async Task A_real_Prometheus_reads_the_real_services_and_finds_all_that_rules_and_dashboard_ask_for()
    {
        var folder = Directory.CreateTempSubdirectory("ministries-monitoring-").FullName;
        var broker = await RabbitMq.Create();
        var processes = new List<Process>();
        try
        {
            var certificates = Path.Combine(folder, "certificates");
            Pki.Init(certificates, StandardAgreement.Read(), TimeProvider.System, SealingKeyFile.Make);
            var addresses = Participants.Services.ToDictionary(s => s, _ => new Uri($"https://127.0.0.1:{Ports.Free()}"));
            var scraped = Participants.Services.ToDictionary(s => s, _ => Ports.Free());
            foreach (var (service, program) in new[] { ("calllog", "CallLog"), ("consular", "Consular"), ("custody", "Custody") })
                processes.Add(Start(folder, certificates, service, program, addresses, scraped[service], broker.Uri));
            await using var participants = await Participants.Join(certificates, addresses, TimeSpan.FromMinutes(2), Cancel);
            const string poison = "KWON-POISONED-7";
            var custody = participants["ua/coordination-hq"].Custody;
            participants.SetCase((await custody.OpenCaseAsync(new(), cancellationToken: Cancel)).Case);
            await custody.RegisterPrisonerAsync(
                new()
                {
                    Status = CustodyState.Interned,
                    CaptureTime = Google.Protobuf.WellKnownTypes.Timestamp.FromDateTime(DateTime.UtcNow.AddDays(-60)),
                    Identity = ParticipantClient.Seal(new PersonIdentity { Rank = poison }, "ua/coordination-hq"),
                },
                cancellationToken: Cancel
            );
            var admitted = await custody.AdmitPartyAsync(
                new() { Participant = "kr/mfa", Part = Part.RequestingState },
                cancellationToken: Cancel
            );
            foreach (var service in new[] { "calllog", "consular" })
                await participants.WaitUntilProcessed(service, "custody", admitted.Receipt.Position, Cancel);

            // The configuration as it stands, with the targets that there are here.
            var configuration = await File.ReadAllTextAsync(Path.Combine(Prometheus, "prometheus.yml"), Cancel);
            foreach (var (service, port) in scraped)
            {
                Assert.Contains($"\"{service}-metrics:9464\"", configuration);
                configuration = configuration.Replace($"\"{service}-metrics:9464\"", $"\"127.0.0.1:{port}\"");
            }
            configuration = configuration.Replace("_interval: 15s", "_interval: 1s");
            await File.WriteAllTextAsync(Path.Combine(folder, "prometheus.yml"), configuration, Cancel);
            File.Copy(Path.Combine(Prometheus, "alerts.yml"), Path.Combine(folder, "alerts.yml"));
            var prometheus = new Uri($"http://127.0.0.1:{Ports.Free()}");
            processes.Add(
                Process.Start(
                    new ProcessStartInfo(
                        "prometheus",
                        [
                            "--config.file=prometheus.yml",
                            "--storage.tsdb.path=data",
                            $"--web.listen-address={prometheus.Authority}",
                            "--log.level=warn",
                        ]
                    )
                    {
                        WorkingDirectory = folder,
                    }
                )!
            );
            using var http = new HttpClient { BaseAddress = prometheus };

            await participants.WaitUntil(
                "every service is up and ready",
                async () => (await Query(http, "up{job=\"ministries\"} == 1 and on(service) ministries_ready == 1")).Count == 3,
                Cancel
            );
            var rules = (await Ask(http, "api/v1/rules"))
                .GetProperty("groups")
                .EnumerateArray()
                .SelectMany(g => g.GetProperty("rules").EnumerateArray())
                .ToList();
            Assert.Equal((await Alerts()).Order(), rules.Select(r => r.GetProperty("name").GetString()!).Order());
            await participants.WaitUntil(
                "every rule has been looked at",
                async () =>
                    (await Ask(http, "api/v1/rules"))
                        .GetProperty("groups")
                        .EnumerateArray()
                        .SelectMany(g => g.GetProperty("rules").EnumerateArray())
                        .All(r => r.GetProperty("health").GetString() == "ok"),
                Cancel
            );
            // A service that has just started and is well raises none.
            var raised = (await Query(http, "ALERTS{alertstate=\"firing\"}")).Select(a => a.ToString());
            Assert.Empty(raised);

            var dashboard = await File.ReadAllTextAsync(Path.Combine(Root, "deploy", "grafana", "ministries.json"), Cancel);
            JsonDocument.Parse(dashboard).Dispose();
            var asked = Metric()
                .Matches(dashboard)
                .Concat(rules.SelectMany(r => Metric().Matches(r.GetProperty("query").GetString()!)))
                .Select(m => m.Value)
                .Distinct()
                .Order()
                .ToList();
            Assert.True(asked.Count > 30, string.Join(' ', asked));
            List<string> unknown = [];
            await participants
                .WaitUntil(
                    "everything that is asked for is there",
                    async () =>
                    {
                        var names = (await Ask(http, "api/v1/label/__name__/values"))
                            .EnumerateArray()
                            .Select(n => n.GetString()!)
                            .ToHashSet();
                        return (unknown = [.. asked.Where(a => !names.Contains(a))]).Count == 0;
                    },
                    Cancel
                )
                .ContinueWith(t => Assert.True(t.IsCompletedSuccessfully, $"not scraped: {string.Join(' ', unknown)}"), Cancel);

            foreach (var port in scraped.Values)
            {
                var text = await http.GetStringAsync($"http://127.0.0.1:{port}/metrics", Cancel);
                Assert.DoesNotContain(poison, text, StringComparison.Ordinal);
                Assert.DoesNotContain(participants["kr/mfa"].Case, text, StringComparison.Ordinal);
                Assert.DoesNotMatch("[a-z]_[0-9a-z]{26}", text);
            }

            // One is stopped: its alert waits for its minute.
            await Stop(processes[0]);
            await participants.WaitUntil(
                "the alert of the stopped service is pending",
                async () => (await Query(http, "ALERTS{alertname=\"ServiceDown\", service=\"calllog\"}")).Count == 1,
                Cancel
            );
        }
        finally
        {
            foreach (var process in processes)
            {
                if (!process.HasExited)
                    process.Kill();
                await process.WaitForExitAsync(CancellationToken.None);
                process.Dispose();
            }
            broker.Stop();
            Directory.Delete(folder, recursive: true);
        }
    }

    private static Process Start(
        string folder,
        string certificates,
        string service,
        string program,
        Dictionary<string, Uri> addresses,
        int metrics,
        Uri broker
    )
    {
        var keys = Path.Combine(certificates, "service", service);
        var start = new ProcessStartInfo("dotnet", [Path.Combine(AppContext.BaseDirectory, $"Ministries.{program}.dll")])
        {
            WorkingDirectory = folder,
            Environment =
            {
                ["Ledger__Connection"] = $"sqlite:{Path.Combine(folder, $"{service}.db")}",
                ["Broker__Uri"] = broker.ToString(),
                ["Listen"] = addresses[service].ToString(),
                ["Agreement"] = Path.Combine(certificates, "agreement.json"),
                ["Certificate"] = Path.Combine(keys, "system.pem"),
                ["CertificateKey"] = Path.Combine(keys, "system.key"),
                ["Checkpoint__File"] = Path.Combine(folder, $"{service}.checkpoint"),
                ["Checkpoint__Key"] = Path.Combine(keys, "checkpoint.key"),
                ["Metrics__Listen"] = $"http://127.0.0.1:{metrics}",
            },
        };
        foreach (var (peer, address) in addresses)
            start.Environment[$"Peers__{peer}"] = address.ToString();
        return Process.Start(start)!;
    }

    private static async Task Stop(Process process)
    {
        process.Kill();
        await process.WaitForExitAsync(Cancel);
    }

    private static async Task<IReadOnlyList<string>> Alerts() =>
        [.. Alert().Matches(await File.ReadAllTextAsync(Path.Combine(Prometheus, "alerts.yml"), Cancel)).Select(m => m.Groups[1].Value)];

    private static async Task<List<JsonElement>> Query(HttpClient http, string query) =>
        [.. (await Ask(http, $"api/v1/query?query={Uri.EscapeDataString(query)}")).GetProperty("result").EnumerateArray()];

    private static async Task<JsonElement> Ask(HttpClient http, string path)
    {
        for (var left = 200; ; left--)
            try
            {
                return JsonDocument.Parse(await http.GetStringAsync(path, Cancel)).RootElement.GetProperty("data");
            }
            catch (HttpRequestException) when (left > 0)
            {
                // It begins to answer some moments after its start.
                await Task.Delay(50, Cancel);
            }
    }

    private static async Task Run(string program, string folder, params string[] arguments)
    {
        using var process = Process.Start(
            new ProcessStartInfo(program, arguments)
            {
                WorkingDirectory = folder,
                RedirectStandardOutput = true,
                RedirectStandardError = true,
            }
        )!;
        var said = await Task.WhenAll(process.StandardOutput.ReadToEndAsync(Cancel), process.StandardError.ReadToEndAsync(Cancel));
        await process.WaitForExitAsync(Cancel);
        Assert.True(process.ExitCode == 0, string.Join('\n', said));
    }

    private static string RootOf(string folder) =>
        File.Exists(Path.Combine(folder, "Ministries.sln")) ? folder : RootOf(Path.GetDirectoryName(folder)!);

    [GeneratedRegex(@"- alert: (\w+)")]
    private static partial Regex Alert();

    [GeneratedRegex(@"runbook: (\S+)")]
    private static partial Regex Runbook();

    [GeneratedRegex(@"^### (\w+)$", RegexOptions.Multiline)]
    private static partial Regex Section();

    [GeneratedRegex(@"\b(?:ministries|dotnet|kestrel)_[a-z_0-9]+\b")]
    private static partial Regex Metric();
}
