using System.Diagnostics;

namespace Ministries.Cluster;

/// <summary>A program on a host that is started again when it ends, as systemd or Docker would do, unless it is held down.</summary>
/// <param name="host">Where it runs.</param>
/// <param name="log">The file to which its output is added.</param>
/// <param name="user">As whom it runs.</param>
/// <param name="environment">Its environment variables, beside those of this process.</param>
/// <param name="command">The program and its arguments.</param>
internal sealed class Supervised(
    Host host,
    string log,
    string user,
    IReadOnlyDictionary<string, string> environment,
    params string[] command
)
{
    private static readonly TimeSpan Pause = TimeSpan.FromSeconds(1);

    private readonly object _access = new();
    private Process? _process;
    private bool _held = true;

    /// <summary>Starts it, unless it runs.</summary>
    public void Start()
    {
        lock (_access)
        {
            _held = false;
            if (_process is not null)
                return;
            // Each program of this chain takes its predecessor's place, so the process is the program itself.
            var start = new ProcessStartInfo(
                "/bin/sh",
                ["-c", $"exec \"$@\" >>'{log}' 2>&1", "sh", "ip", "netns", "exec", host.Name, .. As(user), .. command]
            )
            {
                RedirectStandardInput = true,
                WorkingDirectory = Path.GetDirectoryName(log)!,
            };
            foreach (var (name, value) in environment)
                start.Environment[name] = value;
            var process = new Process { StartInfo = start, EnableRaisingEvents = true };
            process.Exited += (_, _) => Ended(process);
            _process = process;
            process.Start();
        }
    }

    /// <summary>When it ends, or has ended, it stays down until it is started.</summary>
    public void Hold()
    {
        lock (_access)
            _held = true;
    }

    /// <summary>Ends it at once (SIGKILL).</summary>
    public void Kill()
    {
        lock (_access)
            _process?.Kill();
    }

    /// <summary>Ends it, so that it is started again, whenever it has not served for a while: a program that hangs does not end by itself.
    /// Never returns.</summary>
    /// <param name="serves">Whether it serves now.</param>
    /// <param name="patience">How long it may not serve.</param>
    public async Task Watch(Func<Task<bool>> serves, TimeSpan patience)
    {
        var last = Stopwatch.GetTimestamp();
        while (true)
        {
            await Task.Delay(5 * Pause);
            if (_held || await serves())
                last = Stopwatch.GetTimestamp();
            else if (Stopwatch.GetElapsedTime(last) > patience)
            {
                File.AppendAllText(log, "--- does not serve, and is ended\n");
                Kill();
                last = Stopwatch.GetTimestamp();
            }
        }
    }

    /// <summary>Stops it from doing anything (SIGSTOP).</summary>
    public Task Freeze() => Signal("STOP");

    private Task Signal(string name)
    {
        lock (_access)
            return _process is null ? Task.CompletedTask : Tool.Run("/bin/kill", $"-{name}", $"{_process.Id}");
    }

    private static string[] As(string user) => user == "root" ? [] : ["setpriv", $"--reuid={user}", $"--regid={user}", "--init-groups"];

    private void Ended(Process process)
    {
        lock (_access)
        {
            if (_process != process)
                return;
            File.AppendAllText(log, $"--- ended with {process.ExitCode}\n");
            _process = null;
            process.Dispose();
            if (_held)
                return;
        }
        _ = Again();
    }

    private async Task Again()
    {
        await Task.Delay(Pause);
        lock (_access)
            if (_held)
                return;
        Start();
    }
}
