using System.Net;
using System.Text.RegularExpressions;
using Ministries.Fixtures;
using Ministries.Ministry.Tests;
using static Ministries.Ministry.Tests.Services;

namespace Ministries.Gateway.Tests;

/// <summary>What runs beside a gateway, and how it is set.</summary>
public class BesideTests(Services services)
{
    [Fact]
    public async Task It_runs_its_participants_witness_and_keeps_its_state()
    {
        var witness = new Uri($"https://127.0.0.1:{Ports.Free()}");
        await using var gateway = await RunningGateway.Start(services, "kr/mfa", s => s with { Witness = witness });
        // Anybody may ask a witness. Whose it is, its certificate says, which the tests of witnesses check.
        using var handler = new SocketsHttpHandler
        {
            SslOptions = new() { RemoteCertificateValidationCallback = (_, certificate, _, _) => certificate is not null },
        };
        using var http = new HttpClient(handler) { BaseAddress = witness };

        using var unknown = await http.GetAsync($"/{new string('0', 64)}/checkpoint", Cancel);
        using var refused = await http.PostAsync("/add-checkpoint", new StringContent("old 0\n\nnothing\n"), Cancel);

        Assert.Equal(HttpStatusCode.NotFound, unknown.StatusCode);
        Assert.InRange((int)refused.StatusCode, 400, 499);
        Assert.True(Directory.Exists(Path.Combine(gateway.State, "witness")));

        // What a service has signed it cosigns, and shows from then on.
        var shown = await services.As("kr/mfa").LedgerOf("calllog").GetCheckpointAsync(new(), cancellationToken: Cancel);
        using var cosigned = await http.PostAsync("/add-checkpoint", new StringContent($"old 0\n\n{shown.Checkpoint}"), Cancel);

        var agreement = Signing.Agreement(services.Folder);
        var line = await cosigned.Content.ReadAsStringAsync(Cancel);
        Assert.True(cosigned.StatusCode == HttpStatusCode.OK, line);
        var text = shown.Checkpoint[..(shown.Checkpoint.IndexOf("\n\n", StringComparison.Ordinal) + 2)];
        Assert.Equal(["kr/mfa"], Trust.Cosigners.Of(text + line, agreement));
        var kept = await http.GetStringAsync($"/{Witness.HashOf($"{agreement.TrustDomain}/calllog")}/checkpoint", Cancel);
        Assert.StartsWith(text, kept);
        Assert.Equal(["kr/mfa"], Trust.Cosigners.Of(kept, agreement));
        // Another tree of the same size it does not cosign.
        var origin = $"{agreement.TrustDomain}/calllog";
        var forked = $"{origin}\n{shown.TreeSize}\n{Convert.ToBase64String(new byte[32])}\n";
        using var key = Signing.KeyIn(Path.Combine(services.Folder, "service/calllog/checkpoint.key"));
        using var fork = await http.PostAsync(
            "/add-checkpoint",
            new StringContent($"old {shown.TreeSize}\n\n{forked}\n{Forgery.LineOf(origin, forked, key)}\n"),
            Cancel
        );
        Assert.InRange((int)fork.StatusCode, 400, 499);
    }

    [Fact]
    public async Task Its_metrics_are_at_a_listener_of_their_own_and_name_no_record()
    {
        var metrics = new Uri($"http://127.0.0.1:{Ports.Free()}");
        await using var gateway = await RunningGateway.Start(services, "kr/mfa", s => s with { Metrics = metrics });
        await gateway.Post("/v1/calllog/LogCall", PlainJson.Write(services.Call()));
        using var http = new HttpClient { BaseAddress = metrics };

        var text = await http.GetStringAsync("/metrics", Cancel);

        Assert.Contains("ministries_gateway_outbox_waiting", text);
        Assert.Contains("ministries_gateway_mirror_alarm{", text);
        Assert.Empty(Regex.Matches(text, "[{,]([a-z_]+)=").Select(m => m.Groups[1].Value).Distinct().Except(["service", "webhook"]));
        Assert.DoesNotMatch("(call|case|pris)_[0-9a-z]{26}", text);
        using var other = await http.GetAsync("/status", Cancel);
        Assert.Equal(HttpStatusCode.NotFound, other.StatusCode);
    }

    [Fact]
    public void The_READMEs_settings_are_settings_and_an_unknown_name_is_a_fault()
    {
        var readme = File.ReadAllText(Path.Combine(AccessTests.Root(), "README.md"));
        var example = Regex.Match(readme, "```json\n(\\{\n  \"participant\".*?)```", RegexOptions.Singleline).Groups[1].Value;
        var file = Path.Combine(Directory.CreateTempSubdirectory("settings").FullName, "gateway.json");
        File.WriteAllText(file, example);

        var settings = GatewaySettings.Read(file);

        Assert.Equal(("kr/mfa", 7110, "cases"), (settings.Participant, settings.Witness!.Port, settings.Webhooks[0].Name));
        Assert.Equal("clerk", settings.Officials!.Roles["desk"]);
        Assert.Equal(10_000, settings.OutboxRequests);
        File.WriteAllText(file, example.Replace("\"tokens\"", "\"tokns\""));
        Assert.Contains("tokns", Assert.Throws<FormatException>(() => GatewaySettings.Read(file)).Message);
    }

    [Theory]
    [InlineData("http://registry.example/events")]
    [InlineData("ftp://127.0.0.1/events")]
    public void A_webhook_goes_to_https_or_to_this_machine(string address)
    {
        var settings = RunningGateway.SettingsFor(services, "kr/mfa", Directory.CreateTempSubdirectory("gateway").FullName) with
        {
            Webhooks =
            [
                new WebhookSettings
                {
                    Name = "cases",
                    Url = new Uri(address),
                    Secret = "secret",
                },
            ],
        };
        Assert.Contains("https", Assert.Throws<FormatException>(() => GatewayHost.Build(settings)).Message);
    }
}
