using System.Collections.Concurrent;
using Microsoft.Extensions.Diagnostics.HealthChecks;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

namespace Ministries.Hosting;

/// <summary>
/// Whether the service is ready, and how its process ends. Alive means that it answers. Ready means that a call is served in full: the
/// ledger is open and its version of the agreement is in force here, the broker's topology is declared, and the broker accepts and delivers
/// messages. A service that is not ready still answers. It even commits if only the broker is missing, because events wait in the ledger.
/// </summary>
/// <param name="lifetime">The process's life.</param>
/// <param name="log">Where each change of readiness is logged once.</param>
public sealed partial class Lifecycle(IHostApplicationLifetime lifetime, ILogger<Lifecycle> log) : IHealthCheck
{
    /// <summary>The parts that must be ready.</summary>
    public static readonly IReadOnlyList<string> Parts = ["ledger", "broker"];

    private readonly ConcurrentDictionary<string, bool> _ready = [];
    private readonly Dictionary<string, string?> _why = [];
    private string? _told;
    private readonly Lock _saying = new();
    private bool _said;

    /// <summary>Cancelled as soon as the service is told to stop: streams end with UNAVAILABLE.</summary>
    public CancellationToken Stopping => lifetime.ApplicationStopping;

    /// <summary>Whether every part is ready and the service has not been told to stop.</summary>
    public bool Ready => !Stopping.IsCancellationRequested && Parts.All(p => _ready.GetValueOrDefault(p));

    /// <summary>Whether calls are served: the ledger is open, commits are answered, and the service has not been told to stop.</summary>
    public bool Serves => !Stopping.IsCancellationRequested && _ready.GetValueOrDefault("ledger");

    /// <summary>The process's exit code so far.</summary>
    public int ExitCode { get; private set; } = ServiceHost.Stopped;

    /// <summary>Says that a part is ready, or not any more.</summary>
    /// <param name="part">One of <see cref="Parts"/>.</param>
    /// <param name="ready">Whether it is.</param>
    /// <param name="why">Why it is not, where that is known. It is logged whenever it changes.</param>
    public void Say(string part, bool ready, string? why = null)
    {
        lock (_saying)
        {
            (_ready[part], _why[part]) = (ready, ready ? null : why);
            if (Stopping.IsCancellationRequested)
                return;
            var missing = string.Join(", ", Parts.Where(p => !_ready.GetValueOrDefault(p)).Select(Told));
            var changed = Ready != _said || !Ready && _why.Values.Any(w => w is not null) && missing != _told;
            if (!changed)
                return;
            (_said, _told) = (Ready, missing);
            if (_said)
                LogReady(log);
            else
                LogNotReady(log, missing);
        }
    }

    private string Told(string part) => _why.GetValueOrDefault(part) is { } why ? $"{part}: {why}" : part;

    /// <summary>Ends the process in order, so that whoever supervises it starts it again.</summary>
    /// <param name="exitCode">One of the exit codes of <see cref="ServiceHost"/>.</param>
    public void End(int exitCode)
    {
        ExitCode = exitCode;
        lifetime.StopApplication();
    }

    /// <inheritdoc/>
    public Task<HealthCheckResult> CheckHealthAsync(HealthCheckContext context, CancellationToken cancellationToken = default) =>
        Task.FromResult(Ready ? HealthCheckResult.Healthy() : HealthCheckResult.Unhealthy());

    [LoggerMessage(1, LogLevel.Information, "ready: calls are served in full")]
    private static partial void LogReady(ILogger log);

    [LoggerMessage(2, LogLevel.Warning, "not ready: {Parts}")]
    private static partial void LogNotReady(ILogger log, string parts);
}

/// <summary>Tells the health service <see cref="Lifecycle.Serves"/>.</summary>
internal sealed class ServesCalls(Lifecycle life) : IHealthCheck
{
    /// <inheritdoc/>
    public Task<HealthCheckResult> CheckHealthAsync(HealthCheckContext context, CancellationToken cancellationToken = default) =>
        Task.FromResult(life.Serves ? HealthCheckResult.Healthy() : HealthCheckResult.Unhealthy());
}
