using System.Net.Http.Headers;
using System.Net.Security;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text.Json.Nodes;
using Microsoft.AspNetCore.Builder;
using Microsoft.Extensions.DependencyInjection;
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

/// <summary>Where a gateway's mirror is.</summary>
public enum Engine
{
    Sqlite,
    Postgres,
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
        string? state = null,
        TimeProvider? time = null
    )
    {
        var settings = SettingsFor(services, participant, state ?? Directory.CreateTempSubdirectory("gateway").FullName);
        settings = but?.Invoke(settings) ?? settings;
        var running = new RunningGateway(
            GatewayHost.Build(settings, time, logging: logging => logging.ClearProviders()),
            settings,
            state is null
        );
        await running.Host.StartAsync(Cancel);
        var token = Path.Combine(settings.State, "local.token");
        running.Http = running.Client(File.Exists(token) ? (await File.ReadAllTextAsync(token, Cancel)).Trim() : null);
        return running;
    }

    /// <summary>A mirror that has nothing yet.</summary>
    public static async Task<MirrorSettings?> MirrorOn(Engine engine) =>
        engine == Engine.Sqlite ? null : new MirrorSettings { Connection = await (await Postgres.Shared).CreateDatabase() };

    /// <summary>All events that the mirror has; none while its database is away.</summary>
    public async Task<IReadOnlyList<MirroredEvent>> Events()
    {
        try
        {
            var mirror = Host.Services.GetRequiredService<Mirror>();
            return await mirror.Events(mirror.Head.Numbering, 0, int.MaxValue, Cancel);
        }
        catch (GatewayRefusedException e) when (e.Reason == GatewayReason.MirrorUnreachable)
        {
            return [];
        }
    }

    /// <summary>Waits until the mirror has all that the services show now, and demands that it has it once, and in order.</summary>
    public async Task HasAll(Services services)
    {
        var (client, shown) = (services.As(Settings.Participant), new List<string>());
        foreach (var service in Contract.Services)
        await foreach (var response in client.Follow(service, untilNow: true, cancel: Cancel))
            if (response.Entry is { } entry && LedgerEntry.Read(entry) is var read)
                shown.AddRange(read.Published.Select((_, i) => $"{service}/{read.Header.Position}/{i}"));
        IReadOnlyList<MirroredEvent> kept = [];
        await Until(async () => !shown.Except((kept = await Events()).Select(e => e.Id)).Any());
        Assert.Equal(kept.Select((_, i) => i + 1L), kept.Select(e => e.Sequence));
        Assert.Equal(kept.Count, kept.DistinctBy(e => e.Id).Count());
        foreach (var service in kept.GroupBy(e => e.Service))
            Assert.Equal(service.OrderBy(e => (e.Position, e.Index)), service);
    }

    /// <summary>Writes a webhook's secret of 32 bytes, by chance unless it is given.</summary>
    /// <returns>The path.</returns>
    public static string SecretAt(string path, byte[]? secret = null)
    {
        Ledger.WholeFile.Write(path, $"whsec_{Convert.ToBase64String(secret ?? RandomNumberGenerator.GetBytes(32))}\n");
        return path;
    }

    public static GatewaySettings SettingsFor(Services services, string participant, string state) =>
        new()
        {
            Participant = participant,
            Folder = services.Folder,
            State = state,
            Services = services.Addresses.ToDictionary(a => a.Key, a => (IReadOnlyList<Uri>)[a.Value]),
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
