using Microsoft.AspNetCore.Builder;
using Microsoft.Extensions.Logging;
using Ministries.Fixtures;
using Ministries.Gateway;

namespace Ministries.Leaks.Tests;

/// <summary>A gateway for each of some participants, with its state folder and its log in what is searched, and its spans at the services'
/// collector.</summary>
internal sealed class Gateways : IAsyncDisposable
{
    private readonly List<(WebApplication Host, string Folder)> _running = [];
    private readonly Dictionary<string, Uri> _addresses = [];

    /// <summary>Where they are, by their participants.</summary>
    public IReadOnlyDictionary<string, Uri> Addresses => _addresses;

    /// <summary>Their state folders.</summary>
    public IEnumerable<string> Folders => _running.Select(r => r.Folder);

    /// <summary>Starts them. Their participants' folders get the token of each, and trust its certificate.</summary>
    public static async Task<Gateways> Start(Playground ground, IReadOnlyList<string> participants, CancellationToken cancel)
    {
        var gateways = new Gateways();
        foreach (var id in participants)
        {
            var folder = Directory.CreateDirectory(Path.Combine(ground.Written, "gateways", id.Replace('/', '-'))).FullName;
            var settings = new GatewaySettings
            {
                Participant = id,
                Folder = ground.Certificates,
                State = folder,
                Services = ground.Addresses.ToDictionary(a => a.Key, a => (IReadOnlyList<Uri>)[a.Value]),
                Listen = new Uri($"https://127.0.0.1:{Ports.Free()}"),
                Otlp = ground.Collector.Endpoint,
            };
            var log = new LogFile(Path.Combine(folder, "log"));
            var host = GatewayHost.Build(settings, logging: l => l.SetMinimumLevel(LogLevel.Debug).AddProvider(log));
            await host.StartAsync(cancel);
            gateways._running.Add((host, folder));
            gateways._addresses[id] = settings.Listen;
            var home = Path.Combine(ground.Certificates, id);
            File.Copy(Path.Combine(folder, "local.token"), Path.Combine(home, "gateway.token"));
            await File.AppendAllTextAsync(
                Path.Combine(home, "authority.pem"),
                await File.ReadAllTextAsync(Path.Combine(folder, GatewayHost.OwnCertificate), cancel),
                cancel
            );
        }
        return gateways;
    }

    /// <summary>Ends them, so that all is written.</summary>
    public async Task End()
    {
        foreach (var (host, _) in _running)
            await host.StopAsync(CancellationToken.None);
    }

    public async ValueTask DisposeAsync()
    {
        foreach (var (host, _) in _running)
            await host.DisposeAsync();
    }

    // All that is logged, with what was logged beside the text.
    private sealed class LogFile(string path) : ILoggerProvider
    {
        private readonly Lock _one = new();

        public ILogger CreateLogger(string categoryName) => new Logger(this, categoryName);

        public void Dispose() { }

        private void Write(string line)
        {
            lock (_one)
                File.AppendAllText(path, line + "\n");
        }

        private sealed class Logger(LogFile file, string category) : ILogger
        {
            public IDisposable? BeginScope<TState>(TState state)
                where TState : notnull => null;

            public bool IsEnabled(LogLevel logLevel) => true;

            public void Log<TState>(
                LogLevel logLevel,
                EventId eventId,
                TState state,
                Exception? exception,
                Func<TState, Exception?, string> formatter
            )
            {
                var values = state is IEnumerable<KeyValuePair<string, object?>> pairs ? string.Join(' ', pairs) : "";
                file.Write($"{logLevel} {category} {formatter(state, exception)} {values} {exception}");
            }
        }
    }
}
