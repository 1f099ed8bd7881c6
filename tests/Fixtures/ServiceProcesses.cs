using System.Diagnostics;
using Ministries.Trust;

namespace Ministries.Fixtures;

/// <summary>The three services as processes of their own, run from their programs, with files in a folder of their own. Disposed, they are
/// killed, what they wrote is in the test's output, and the folder is gone.</summary>
public sealed class ServiceProcesses : IAsyncDisposable
{
    private static readonly Dictionary<string, string> Programs = new()
    {
        ["calllog"] = "Ministries.CallLog.dll",
        ["consular"] = "Ministries.Consular.dll",
        ["custody"] = "Ministries.Custody.dll",
    };

    private readonly Dictionary<string, (Process Process, Task<string> Output)> _started = [];

    public ServiceProcesses() => Pki.Init(Certificates, StandardAgreement.Read(), TimeProvider.System, SealedForm.Key);

    /// <summary>The services by name, and where each listens.</summary>
    public IReadOnlyDictionary<string, Uri> Addresses { get; } =
        Programs.Keys.ToDictionary(s => s, _ => new Uri($"https://127.0.0.1:{Ports.Free()}"));

    /// <summary>The folder in which the services run.</summary>
    public string Folder { get; } = Directory.CreateTempSubdirectory("ministries-processes-").FullName;

    /// <summary>The folder of the keys, certificates and the agreement.</summary>
    public string Certificates => Path.Combine(Folder, "certificates");

    /// <summary>Starts a service.</summary>
    /// <param name="service">The service, such as <c>calllog</c>.</param>
    /// <param name="ledger">The connection string of its ledger.</param>
    /// <param name="broker">The broker's address.</param>
    /// <param name="more">Names and values of further environment variables.</param>
    public void Start(string service, string ledger, Uri broker, params IEnumerable<(string Name, string Value)> more)
    {
        var keys = Path.Combine(Certificates, "service", service);
        var start = new ProcessStartInfo("dotnet", [Path.Combine(AppContext.BaseDirectory, Programs[service])])
        {
            RedirectStandardOutput = true,
            WorkingDirectory = Folder,
            Environment =
            {
                ["Ledger__Connection"] = ledger,
                ["Broker__Uri"] = broker.ToString(),
                ["Listen"] = Addresses[service].ToString(),
                ["Agreement"] = Path.Combine(Certificates, "agreement.json"),
                ["Certificate"] = Path.Combine(keys, "system.pem"),
                ["CertificateKey"] = Path.Combine(keys, "system.key"),
                ["Checkpoint__File"] = Path.Combine(Folder, $"{service}.checkpoint"),
                ["Checkpoint__Key"] = Path.Combine(keys, "checkpoint.key"),
            },
        };
        foreach (var (peer, address) in Addresses)
            start.Environment[$"Peers__{peer}"] = address.ToString();
        foreach (var (name, value) in more)
            start.Environment[name] = value;
        var process = Process.Start(start)!;
        _started[service] = (process, process.StandardOutput.ReadToEndAsync(CancellationToken.None));
    }

    /// <summary>Ends a service at once (SIGKILL).</summary>
    public async Task Kill(string service, CancellationToken cancel)
    {
        var process = _started[service].Process;
        process.Kill();
        await process.WaitForExitAsync(cancel);
    }

    /// <summary>Tells all services to stop (SIGTERM) and waits for their ends. Returns their exit codes and what each wrote to its standard
    /// output.</summary>
    public async Task<IReadOnlyList<(int ExitCode, string Output)>> Stop(CancellationToken cancel)
    {
        foreach (var (process, _) in _started.Values)
            using (var kill = Process.Start("/bin/sh", ["-c", $"kill -TERM {process.Id}"]))
                await kill.WaitForExitAsync(cancel);
        var ended = new List<(int, string)>();
        foreach (var (process, output) in _started.Values)
        {
            await process.WaitForExitAsync(cancel);
            ended.Add((process.ExitCode, await output));
        }
        return ended;
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        foreach (var (process, output) in _started.Values)
        {
            if (!process.HasExited)
                process.Kill();
            await process.WaitForExitAsync(CancellationToken.None);
            TestContext.Current.TestOutputHelper?.WriteLine(await output);
            process.Dispose();
        }
        Directory.Delete(Folder, recursive: true);
    }
}
