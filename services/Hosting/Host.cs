using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;

namespace Ministries.Hosting;

/// <summary>Runs a service: the one line of every <c>Program.cs</c>.</summary>
public static class ServiceHost
{
    /// <summary>Exit code: stopped as asked.</summary>
    public const int Stopped = 0;

    /// <summary>Exit code: the settings are wrong; standard error says what.</summary>
    public const int WrongSettings = 2;

    /// <summary>Runs the service until it is told to stop (SIGTERM, SIGINT).</summary>
    /// <param name="args">The command line: settings as <c>--Name=value</c>.</param>
    /// <param name="service">The service.</param>
    /// <returns>The process's exit code.</returns>
    public static async Task<int> Run(string[] args, Service service)
    {
        var builder = WebApplication.CreateSlimBuilder(args);
        Settings settings;
        try
        {
            settings = Settings.Read(builder.Configuration);
        }
        catch (SettingsException e)
        {
            foreach (var wrong in e.Wrong) await Console.Error.WriteLineAsync($"{service.Name}: {wrong}");
            return WrongSettings;
        }
        await using var host = Build(service, settings, builder);
        await host.RunAsync();
        return Stopped;
    }

    /// <summary>Builds the service's host without starting it.</summary>
    /// <param name="service">The service.</param>
    /// <param name="settings">What it is told.</param>
    /// <param name="builder">What to build on; null: a new one.</param>
    public static WebApplication Build(Service service, Settings settings, WebApplicationBuilder? builder = null)
    {
        builder ??= WebApplication.CreateSlimBuilder();
        builder.WebHost.UseKestrelHttpsConfiguration();
        builder.WebHost.ConfigureKestrel(kestrel => kestrel.AddServerHeader = false);
        var services = builder.Services;
        services.AddSingleton(service);
        services.AddSingleton(settings);
        services.AddSingleton(TimeProvider.System);
        services.AddSingleton<Writes>();
        services.AddSingleton<Reads>();
        services.AddSingleton<Peers>();
        services.AddGrpc();
        services.AddGrpcHealthChecks();
        if (settings.Reflection) services.AddGrpcReflection();
        Telemetry.Add(services, service.Name, settings);
        service.Register?.Invoke(services);
        var host = builder.Build();
        service.Map(host);
        host.MapGrpcHealthChecksService();
        if (settings.Reflection) host.MapGrpcReflectionService();
        return host;
    }
}
