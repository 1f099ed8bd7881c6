using System.Net.Http.Headers;
using System.Net.Security;
using System.Security.Cryptography.X509Certificates;
using System.Text.Json.Nodes;
using Microsoft.AspNetCore.Builder;
using Microsoft.Extensions.Logging;
using Ministries.Fixtures;
using Ministries.Ministry.Tests;
using static Ministries.Ministry.Tests.Services;

[assembly: AssemblyFixture(typeof(Services))]

namespace Ministries.Gateway.Tests;

/// <summary>Services of a class of tests that stops and starts them.</summary>
public sealed class OwnServices : IAsyncLifetime
{
    public Services Services { get; } = new();

    public ValueTask InitializeAsync() => Services.InitializeAsync();

    public ValueTask DisposeAsync() => Services.DisposeAsync();
}

/// <summary>A gateway over the real services, with a state folder of its own unless one is given.</summary>
internal sealed class RunningGateway : IAsyncDisposable
{
    private readonly bool _ownState;

    private RunningGateway(WebApplication host, GatewaySettings settings, bool ownState) =>
        (Host, Settings, _ownState) = (host, settings, ownState);

    public WebApplication Host { get; }

    public GatewaySettings Settings { get; }

    public string State => Settings.State;

    /// <summary>With the token of this machine, which has every role.</summary>
    public HttpClient Http { get; private set; } = null!;

    public static async Task<RunningGateway> Start(
        Services services,
        string participant,
        Func<GatewaySettings, GatewaySettings>? but = null,
        string? state = null
    )
    {
        var settings = SettingsFor(services, participant, state ?? Directory.CreateTempSubdirectory("gateway").FullName);
        settings = but?.Invoke(settings) ?? settings;
        var running = new RunningGateway(
            GatewayHost.Build(settings, logging: logging => logging.ClearProviders()),
            settings,
            state is null
        );
        await running.Host.StartAsync(Cancel);
        var token = Path.Combine(settings.State, "local.token");
        running.Http = running.Client(File.Exists(token) ? (await File.ReadAllTextAsync(token, Cancel)).Trim() : null);
        return running;
    }

    public static GatewaySettings SettingsFor(Services services, string participant, string state) =>
        new()
        {
            Participant = participant,
            Folder = services.Folder,
            State = state,
            Services = services.Addresses,
            Listen = new Uri($"https://127.0.0.1:{Ports.Free()}"),
        };

    /// <summary>A client with a token, or none, that trusts the certificate that the gateway made.</summary>
    public HttpClient Client(string? token, X509Certificate2? own = null)
    {
        var handler = new SocketsHttpHandler { SslOptions = Trusting(Path.Combine(State, "gateway.pem")) };
        if (own is not null)
            handler.SslOptions.ClientCertificates = [own];
        var client = new HttpClient(handler) { BaseAddress = Settings.Listen };
        if (token is not null)
            client.DefaultRequestHeaders.Authorization = new AuthenticationHeaderValue("Bearer", token);
        return client;
    }

    public static SslClientAuthenticationOptions Trusting(string root)
    {
        var policy = new X509ChainPolicy { TrustMode = X509ChainTrustMode.CustomRootTrust, RevocationMode = X509RevocationMode.NoCheck };
        policy.CustomTrustStore.ImportFromPemFile(root);
        return new SslClientAuthenticationOptions { CertificateChainPolicy = policy };
    }

    /// <summary>Sends JSON and reads JSON.</summary>
    public async Task<(int Status, JsonObject Body, HttpResponseMessage Answer)> Post(
        string path,
        JsonNode body,
        string? key = null,
        HttpClient? http = null
    )
    {
        using var request = new HttpRequestMessage(HttpMethod.Post, path) { Content = Json(body.ToJsonString()) };
        if (key is not null)
            request.Headers.Add("Idempotency-Key", key);
        return await Read(await (http ?? Http).SendAsync(request, Cancel));
    }

    public async Task<(int Status, JsonObject Body, HttpResponseMessage Answer)> Get(string path, HttpClient? http = null) =>
        await Read(await (http ?? Http).GetAsync(path, Cancel));

    public static StringContent Json(string text) => new(text, new MediaTypeHeaderValue("application/json"));

    private static async Task<(int, JsonObject, HttpResponseMessage)> Read(HttpResponseMessage answer)
    {
        var text = await answer.Content.ReadAsStringAsync(Cancel);
        return ((int)answer.StatusCode, text.Length == 0 ? [] : JsonNode.Parse(text)!.AsObject(), answer);
    }

    public async ValueTask DisposeAsync()
    {
        Http.Dispose();
        await Host.StopAsync(CancellationToken.None);
        await Host.DisposeAsync();
        if (_ownState)
            Directory.Delete(State, recursive: true);
    }
}
