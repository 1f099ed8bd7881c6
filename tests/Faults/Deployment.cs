using System.Collections.Concurrent;
using System.Diagnostics;
using Grpc.Core;
using Grpc.Core.Interceptors;
using Grpc.Health.V1;
using Grpc.Net.Client;
using Ministries.Fixtures;
using Ministries.Trust;
using Npgsql;

namespace Ministries.Faults.Tests;

/// <summary>A service as a process of its own. It is restarted when it ends, as a supervisor would, unless it is held down.</summary>
internal sealed class ServiceProcess(string name, string removed, IReadOnlyList<string> settings, string log)
{
    private readonly Lock _lock = new();
    private readonly ConcurrentDictionary<string, int> _points = [];
    private Process? _process;
    private TaskCompletionSource _ended = new(),
        _reached = new();
    private bool _held;

    public string Name => name;

    /// <summary>Exit codes other than those of a kill, in order.</summary>
    public ConcurrentQueue<int> ExitCodes { get; } = [];

    /// <summary>How often the process ended at which named point.</summary>
    public IReadOnlyDictionary<string, int> Points => _points;

    /// <summary>When it was last started, as a <see cref="Stopwatch"/> timestamp.</summary>
    public long Started { get; private set; }

    public void Start()
    {
        lock (_lock)
        {
            if (_process is not null)
                return;
            _held = false;
            Started = Stopwatch.GetTimestamp();
            var host = Path.Combine(AppContext.BaseDirectory, "Ministries.FaultHost.dll");
            var start = new ProcessStartInfo("dotnet", ["exec", host, name])
            {
                RedirectStandardInput = true,
                RedirectStandardOutput = true,
                RedirectStandardError = true,
            };
            if (removed.Length > 0)
                start.ArgumentList.Add(removed);
            start.ArgumentList.Add("--");
            foreach (var setting in settings)
                start.ArgumentList.Add(setting);
            start.Environment["DOTNET_TieredPGO"] = "0";
            var process = new Process { StartInfo = start, EnableRaisingEvents = true };
            process.OutputDataReceived += (_, e) => Heard(e.Data);
            process.ErrorDataReceived += (_, e) => Heard(e.Data);
            process.Exited += (_, _) => Exited(process);
            _ended = new(TaskCreationOptions.RunContinuationsAsynchronously);
            process.Start();
            process.BeginOutputReadLine();
            process.BeginErrorReadLine();
            _process = process;
        }
    }

    /// <summary>Ends it at once (SIGKILL).</summary>
    public Task Kill() => End(process => process.Kill());

    /// <summary>Ends it at once, and keeps it down until it is started.</summary>
    public Task HoldDown()
    {
        lock (_lock)
            _held = true;
        return Kill();
    }

    /// <summary>Once it has ended, keeps it down until it is started.</summary>
    public void HoldAtEnd()
    {
        lock (_lock)
            _held = true;
    }

    /// <summary>Stops it from doing anything for a time (SIGSTOP, SIGCONT): connections stay open, and nothing is answered.</summary>
    public async Task Pause(TimeSpan time)
    {
        Signal("STOP");
        await Task.Delay(time);
        Signal("CONT");
    }

    private void Signal(string signal)
    {
        lock (_lock)
            if (_process is { HasExited: false })
                Process.Start("/bin/sh", ["-c", $"kill -{signal} {_process.Id}"]).WaitForExit();
    }

    /// <summary>Tells it to stop (SIGTERM) and keeps it down.</summary>
    public Task Stop()
    {
        lock (_lock)
            _held = true;
        return End(process => Process.Start("/bin/sh", ["-c", $"kill -TERM {process.Id}"]).WaitForExit());
    }

    /// <summary>Makes it end at a hit of a named point, as SIGKILL would. Returns a task that ends with it.</summary>
    public Task Arm(string point, int hits)
    {
        lock (_lock)
        {
            Order($"kill {point} {hits}");
            return _ended.Task;
        }
    }

    /// <summary>Returns a task that ends when the process reaches a named point, where it goes on.</summary>
    public Task Tell(string point)
    {
        lock (_lock)
        {
            _reached = new(TaskCreationOptions.RunContinuationsAsynchronously);
            Order($"tell {point} 1");
            return _reached.Task;
        }
    }

    private void Order(string order)
    {
        try
        {
            _process?.StandardInput.WriteLine(order);
            _process?.StandardInput.Flush();
        }
        catch (IOException)
        {
            // The process has just ended.
        }
    }

    private Task End(Action<Process> how)
    {
        lock (_lock)
        {
            if (_process is null)
                return Task.CompletedTask;
            try
            {
                how(_process);
            }
            catch (InvalidOperationException)
            {
                // It has ended already.
            }
            return _ended.Task;
        }
    }

    private void Heard(string? line)
    {
        if (line is null)
            return;
        if (line.StartsWith("came to ", StringComparison.Ordinal))
            _reached.TrySetResult();
        if (line.StartsWith("killed at ", StringComparison.Ordinal))
            _points.AddOrUpdate(line["killed at ".Length..], 1, (_, n) => n + 1);
        lock (_points)
            File.AppendAllText(log, line + "\n");
    }

    private void Exited(Process process)
    {
        // Waits until its last output has been read.
        process.WaitForExit();
        bool again;
        TaskCompletionSource ended;
        lock (_lock)
        {
            if (_process != process)
                return;
            if (process.ExitCode != 137)
                ExitCodes.Enqueue(process.ExitCode);
            (_process, again, ended) = (null, !_held, _ended);
        }
        process.Dispose();
        if (again)
            Start();
        ended.TrySetResult();
    }
}

/// <summary>Three services as processes, a database for each, and a broker.</summary>
internal sealed class Deployment : IAsyncDisposable
{
    public static readonly IReadOnlyList<string> Names = ["calllog", "consular", "custody"];

    private static readonly TimeSpan Patience = TimeSpan.FromMinutes(3);

    private readonly string _folder;
    private readonly Dictionary<string, Uri> _addresses = [];
    private readonly ConcurrentDictionary<(string, string), GrpcChannel> _channels = [];

    private Deployment(string folder, RabbitMq broker) => (_folder, Broker) = (folder, broker);

    public RabbitMq Broker { get; }

    public Dictionary<string, ServiceProcess> Services { get; } = [];

    public Dictionary<string, string> Databases { get; } = [];

    /// <summary>The folder of the services' logs.</summary>
    public string Logs => _folder;

    /// <summary>Whether the folder is kept, to examine a failure.</summary>
    public bool KeepsLogs { get; set; }

    /// <summary>Each service's way to its database, and to the broker.</summary>
    public Dictionary<string, (Gate Database, Gate Broker)> Ways { get; } = [];

    /// <summary>Where each service is, by its name.</summary>
    public IReadOnlyDictionary<string, Uri> Addresses => _addresses;

    /// <summary>The folder of the keys, certificates and the agreement.</summary>
    public string Certificates => Path.Combine(_folder, "pki");

    /// <summary>Starts everything and returns when all services are ready.</summary>
    /// <param name="removed">The protection to take out; empty: none.</param>
    /// <param name="cancel">Cancels.</param>
    /// <param name="postgres">The server of their databases; null: the one that all tests share.</param>
    public static async Task<Deployment> Start(string removed, CancellationToken cancel, Postgres? postgres = null)
    {
        postgres ??= await Postgres.Shared;
        var broker = await RabbitMq.Shared;
        broker.Kill();
        broker.Wipe();
        await broker.Start();
        var deployment = new Deployment(Directory.CreateTempSubdirectory("ministries-faults-").FullName, broker);
        Pki.Init(deployment.Certificates, StandardAgreement.Read(), TimeProvider.System, SealedForm.Key);
        foreach (var name in Names)
            deployment._addresses[name] = new Uri($"https://127.0.0.1:{Ports.Free()}");
        foreach (var name in Names)
        {
            var database = new NpgsqlConnectionStringBuilder(deployment.Databases[name] = await postgres.CreateDatabase());
            var ways = deployment.Ways[name] = (new Gate(database.Port), new Gate(broker.Uri.Port));
            database.Port = ways.Database.Port;
            string Own(string file) => Path.Combine(deployment.Certificates, "service", name, file);
            deployment.Services[name] = new ServiceProcess(
                name,
                removed,
                [
                    $"--Ledger:Connection={database}",
                    $"--Broker:Uri={new UriBuilder(broker.Uri) { Port = ways.Broker.Port }.Uri}",
                    $"--Listen={deployment._addresses[name]}",
                    $"--Certificate={Own("system.pem")}",
                    $"--CertificateKey={Own("system.key")}",
                    $"--Checkpoint:Key={Own("checkpoint.key")}",
                    $"--Checkpoint:File={Path.Combine(deployment._folder, name + ".checkpoint")}",
                    $"--Agreement={Path.Combine(deployment.Certificates, "agreement.json")}",
                    .. Names.Where(n => n != name).Select(n => $"--Peers:{n}={deployment._addresses[n]}"),
                ],
                Path.Combine(deployment._folder, name + ".log")
            );
        }
        foreach (var service in deployment.Services.Values)
            service.Start();
        await deployment.Ready(cancel);
        return deployment;
    }

    /// <summary>A participant's channel to a service.</summary>
    public CallInvoker Reach(string participant, string service) =>
        _channels
            .GetOrAdd((participant, service), _ => Open(participant, service))
            .CreateCallInvoker()
            .Intercept(SealedForm.Sealing(participant, () => Signing.Agreement(Certificates)));

    /// <summary>Waits until every service says that it is ready.</summary>
    public async Task Ready(CancellationToken cancel)
    {
        var began = Stopwatch.GetTimestamp();
        foreach (var name in Names)
            while (true)
            {
                try
                {
                    var answer = await new Health.HealthClient(Reach("operator", name)).CheckAsync(
                        new HealthCheckRequest { Service = "ready" },
                        deadline: DateTime.UtcNow.AddSeconds(5),
                        cancellationToken: cancel
                    );
                    if (answer.Status == HealthCheckResponse.Types.ServingStatus.Serving)
                        break;
                }
                catch (RpcException) when (!cancel.IsCancellationRequested)
                {
                    // Not there yet.
                }
                if (Stopwatch.GetElapsedTime(began) > Patience)
                    throw new TimeoutException($"{name} is not ready; see {_folder}");
                await Task.Delay(50, cancel);
            }
    }

    /// <summary>Ends all services at once and keeps them down.</summary>
    public Task Blackout() => Task.WhenAll(Services.Values.Select(s => s.HoldDown()));

    /// <summary>Ends the broker at once, wipes its disk if asked to, and starts it again.</summary>
    public async Task RestartBroker(bool wipe = false)
    {
        Broker.Kill();
        if (wipe)
            Broker.Wipe();
        await Broker.Start();
    }

    public async ValueTask DisposeAsync()
    {
        await Blackout();
        foreach (var channel in _channels.Values)
            channel.Dispose();
        foreach (var (database, broker) in Ways.Values)
        {
            database.Dispose();
            broker.Dispose();
        }
        if (KeepsLogs)
            return;
        try
        {
            Directory.Delete(_folder, recursive: true);
        }
        catch (IOException)
        {
            // A log is still being written.
        }
    }

    private GrpcChannel Open(string participant, string service) =>
        GrpcChannel.ForAddress(
            _addresses[service],
            new GrpcChannelOptions
            {
                HttpHandler = Signing.Handler(Certificates, participant, service),
                DisposeHttpClient = true,
                MaxRetryAttempts = 1,
                InitialReconnectBackoff = TimeSpan.FromMilliseconds(50),
                MaxReconnectBackoff = TimeSpan.FromMilliseconds(500),
            }
        );
}
