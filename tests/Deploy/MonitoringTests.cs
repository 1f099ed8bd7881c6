using System.Diagnostics;
using System.Text.Json;
using System.Text.RegularExpressions;

namespace Ministries.Deploy.Tests;

/// <summary>What stands in <c>deploy/</c> for whoever watches the services.</summary>
public sealed partial class MonitoringTests
{
    private static readonly string Root = RootOf(AppContext.BaseDirectory);
    internal static readonly string Prometheus = Path.Combine(Root, "deploy", "prometheus");

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    [Fact]
    public async Task The_rules_fire_when_they_should_and_only_then()
    {
        await Run("promtool", Prometheus, "check", "config", "prometheus.yml");
        await Run("promtool", Prometheus, "test", "rules", "alerts.test.yml");
        // Each of them is seen to fire in some test, and to be still in another.
        var tests = await File.ReadAllTextAsync(Path.Combine(Prometheus, "alerts.test.yml"), Cancel);
        foreach (var alert in await Alerts("alerts.yml", "kubernetes.yml"))
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
        string[] files = ["alerts.yml", "kubernetes.yml"];
        Assert.Equal(await Alerts(files), sections);
        var rules = string.Concat(await Task.WhenAll(files.Select(f => File.ReadAllTextAsync(Path.Combine(Prometheus, f), Cancel))));
        Assert.Equal(
            (await Alerts(files)).Select(a => $"deploy/README.md#{a.ToLowerInvariant()}"),
            Runbook().Matches(rules).Select(m => m.Groups[1].Value)
        );
        // A section says what it means and what to do.
        Assert.All(sections, s => Assert.Matches($@"### {s}\n\n(?:.+\n)+\n\*\*Do:\*\* ", alerts));
    }

    [Fact]
    public async Task A_real_Prometheus_reads_the_real_services_and_finds_all_that_rules_and_dashboard_ask_for()
    {
        await using var scraped = new ScrapedServices();
        await scraped.Start();
        await scraped.Until(
            "every service is up and ready",
            async () => (await scraped.Query("up{job=\"ministries\"} == 1 and on(service) ministries_ready == 1")).Count == 3
        );
        var rules = await scraped.Rules();
        Assert.Equal((await Alerts("alerts.yml")).Order(), rules.Select(r => r.GetProperty("name").GetString()!).Order());
        await scraped.Until(
            "every rule has been looked at",
            async () => (await scraped.Rules()).All(r => r.GetProperty("health").GetString() == "ok")
        );
        // A service that has just started and is well raises none.
        Assert.Empty((await scraped.Query("ALERTS{alertstate=\"firing\"}")).Select(a => a.ToString()));
        await EveryMetricThatIsAskedForIsScraped(scraped, rules);
        await NothingPersonalIsScraped(scraped);
        // The alert of a stopped service waits for its minute.
        await scraped.Kill("calllog");
        await scraped.Until(
            "the alert of the stopped service is pending",
            async () => (await scraped.Query("ALERTS{alertname=\"ServiceDown\", service=\"calllog\"}")).Count == 1
        );
    }

    private static async Task EveryMetricThatIsAskedForIsScraped(ScrapedServices scraped, IEnumerable<JsonElement> rules)
    {
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
        await scraped
            .Until(
                "everything that is asked for is there",
                async () =>
                {
                    var names = (await scraped.Ask("api/v1/label/__name__/values"))
                        .EnumerateArray()
                        .Select(n => n.GetString()!)
                        .ToHashSet();
                    return (unknown = [.. asked.Where(a => !names.Contains(a))]).Count == 0;
                }
            )
            .ContinueWith(t => Assert.True(t.IsCompletedSuccessfully, $"not scraped: {string.Join(' ', unknown)}"), Cancel);
    }

    private static async Task NothingPersonalIsScraped(ScrapedServices scraped)
    {
        foreach (var text in await scraped.Metrics())
        {
            Assert.DoesNotContain(ScrapedServices.Poison, text, StringComparison.Ordinal);
            Assert.DoesNotContain(scraped.Case, text, StringComparison.Ordinal);
            Assert.DoesNotMatch("[a-z]_[0-9a-z]{26}", text);
        }
    }

    private static async Task<IReadOnlyList<string>> Alerts(params IEnumerable<string> files)
    {
        var texts = await Task.WhenAll(files.Select(f => File.ReadAllTextAsync(Path.Combine(Prometheus, f), Cancel)));
        return [.. texts.SelectMany(t => Alert().Matches(t)).Select(m => m.Groups[1].Value)];
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
