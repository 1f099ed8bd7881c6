using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.Extensions.DependencyInjection;
using Ministries.Hosting;
using Ministries.Trust;

namespace Ministries.Fixtures;

/// <summary>How a test sets up a service in its own process.</summary>
public static class ServiceSetup
{
    /// <summary>The settings of a service for which <see cref="Pki.Init"/> made the files. Its ledger and its checkpoint are in the same
    /// folder, as <c>calllog.db</c> and <c>calllog.checkpoint</c>; its broker is in memory; it has no peers.</summary>
    /// <param name="folder">Where the files are.</param>
    /// <param name="service">The service, such as <c>calllog</c>.</param>
    /// <param name="listen">Where it listens; null: at any free port.</param>
    public static Settings SettingsIn(string folder, string service, Uri? listen = null)
    {
        var home = Path.Combine(folder, "service", service);
        return new Settings
        {
            Ledger = $"sqlite:{Path.Combine(folder, $"{service}.db")}",
            Broker = new Uri("memory:"),
            Listen = listen ?? new Uri("https://127.0.0.1:0"),
            Certificate = Path.Combine(home, "system.pem"),
            CertificateKey = Path.Combine(home, "system.key"),
            Agreement = Path.Combine(folder, "agreement.json"),
            Checkpoint = Path.Combine(folder, $"{service}.checkpoint"),
            CheckpointKey = Path.Combine(home, "checkpoint.key"),
            Drain = TimeSpan.FromSeconds(5),
        };
    }

    /// <summary>The same service, which registers more.</summary>
    /// <param name="service">The service.</param>
    /// <param name="more">Registers it, after all that the service registers itself.</param>
    public static Service Registering(this Service service, Action<IServiceCollection> more) =>
        service with
        {
            Register = services =>
            {
                service.Register?.Invoke(services);
                more(services);
            },
        };

    /// <summary>Where a host listens that has one address.</summary>
    public static Uri AddressOf(WebApplication host) =>
        new(host.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!.Addresses.Single());
}
