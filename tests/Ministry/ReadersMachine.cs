using System.Collections.Concurrent;
using System.Diagnostics;
using System.Threading.Channels;
using Ministries.Fixtures;
using static Ministries.Ministry.Tests.Services;

namespace Ministries.Ministry.Tests;

/// <summary>The machine of somebody who copies commands from a document. Network, processes and mounts are its own, so that addresses and
/// ports are those of the document, and whatever was started ends with the machine. A reader on it has a home, and in it a copy of the
/// repository.
/// </summary>
[System.Runtime.Versioning.UnsupportedOSPlatform("windows")]
public sealed class ReadersMachine : IAsyncLifetime
{
    // Everything that runs ends with this process, whose input ends with ours.
    private const string First = "ip link set lo up && echo up && exec cat";

    private static readonly bool IsRoot = Environment.UserName == "root";

    private readonly string _home = Directory.CreateTempSubdirectory("reader-").FullName;
    private readonly ConcurrentQueue<Terminal> _terminals = [];
    private readonly Lazy<Task> _servers;
    private Process? _first;
    private string _inside = "";
    private string? _absent;
    private int _opened;

    public ReadersMachine() => _servers = new(StartServers);

    /// <summary>PostgreSQL and RabbitMQ at their usual ports of 127.0.0.1. Ready when this is.</summary>
    public Task Servers => _servers.Value;

    public async ValueTask InitializeAsync()
    {
        // An account of another name than root needs a namespace of users to have the others.
        string[] users = IsRoot ? [] : ["--user", "--map-current-user", "--keep-caps"];
        _first = Process.Start(
            new ProcessStartInfo("unshare", [.. users, "--net", "--pid", "--mount-proc", "--fork", "--kill-child", "sh", "-c", First])
            {
                RedirectStandardInput = true,
                RedirectStandardOutput = true,
                RedirectStandardError = true,
            }
        )!;
        if (await _first.StandardOutput.ReadLineAsync(Cancel) != "up")
            _absent = $"this machine admits no namespaces: {await _first.StandardError.ReadToEndAsync(Cancel)}";
        else
            _inside = (await File.ReadAllTextAsync($"/proc/{_first.Id}/task/{_first.Id}/children", Cancel)).Trim();
        MakeHome();
    }

    /// <summary>Opens a terminal in the copy of the repository, with the programs that a reader has.</summary>
    /// <param name="variables">Names and values of variables.</param>
    internal Terminal Open(params (string Name, string Value)[] variables) => OpenIn("ministries", variables);

    /// <summary>Opens a terminal in another folder of the home, which is made.</summary>
    /// <param name="folder">The folder, from the home.</param>
    /// <param name="variables">Names and values of variables.</param>
    internal Terminal OpenIn(string folder, params (string Name, string Value)[] variables)
    {
        Assert.SkipWhen(_absent is not null, _absent ?? "");
        var start = new ProcessStartInfo(
            "nsenter",
            [
                .. IsRoot ? (string[])[] : ["--user", "--preserve-credentials"],
                "--target",
                _inside,
                "--net",
                "--pid",
                "--mount",
                "bash",
                "--noprofile",
                "--norc",
            ]
        )
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        // Nothing of who runs the tests is a reader's.
        foreach (var name in start.Environment.Keys.Where(n => n.StartsWith("MINISTRIES_", StringComparison.Ordinal)).ToArray())
            start.Environment.Remove(name);
        start.Environment.Remove("OTEL_EXPORTER_OTLP_ENDPOINT");
        start.Environment.Remove("XDG_CONFIG_HOME");
        start.Environment["HOME"] = start.Environment["DOTNET_CLI_HOME"] = _home;
        start.Environment["TMPDIR"] = Directory.CreateDirectory(Path.Combine(_home, "tmp")).FullName;
        start.Environment["PATH"] = $"{Path.Combine(_home, "bin")}:{start.Environment["PATH"]}";
        start.Environment["DOTNET_CLI_TELEMETRY_OPTOUT"] = start.Environment["DOTNET_NOLOGO"] = "1";
        foreach (var (name, value) in variables)
            start.Environment[name] = value;
        var at = Directory.CreateDirectory(Path.Combine(_home, folder)).FullName;
        var terminal = new Terminal(start, at, Path.Combine(_home, $"terminal-{Interlocked.Increment(ref _opened)}"));
        _terminals.Enqueue(terminal);
        return terminal;
    }

    /// <summary>A path in the home.</summary>
    public string In(string path) => Path.Combine(_home, path);

    public async ValueTask DisposeAsync()
    {
        if (_first is not null)
        {
            _first.StandardInput.Close();
            await _first.WaitForExitAsync(CancellationToken.None);
            _first.Dispose();
        }
        foreach (var terminal in _terminals)
            terminal.Dispose();
        Directory.Delete(_home, recursive: true);
    }

    // The copy is of links, but for what the commands write.
    private void MakeHome()
    {
        var copy = Directory.CreateDirectory(In("ministries")).FullName;
        foreach (
            var entry in Directory.EnumerateFileSystemEntries(Documents.Root).Where(e => Path.GetFileName(e) is not ("data" or ".git"))
        )
            File.CreateSymbolicLink(Path.Combine(copy, Path.GetFileName(entry)), entry);
        Directory.CreateDirectory(In("bin"));
        var built = AppContext.BaseDirectory;
        Program(
            "dotnet",
            $$"""
            # What `dotnet run` would build was built with the tests. The first run of a project goes by the SDK, which so is seen to find it, and
            # to start it where the reader stands. Later ones start its program directly, which saves a second each.
            dotnet={{Which("dotnet")}}
            case "${1-} ${2-}" in
              'publish tests/Benchmarks') exit ;;
              'exec tests/Benchmarks/bin/published/Ministries.Benchmarks.dll') shift 2; exec "$dotnet" '{{Benchmarks}}' "$@" ;;
            esac
            [[ ${1-} == run ]] || exec "$dotnet" "$@"
            shift; project=
            while (($#)); do
              case $1 in
                --project) project=$2; shift 2 ;;
                --no-build) shift ;;
                --) shift; break ;;
                *) echo "dotnet run $1: not known here" >&2; exit 1 ;;
              esac
            done
            name=${project##*/}
            case $name in Ministry) run=$name ;; *) run="$name with $#" ;; esac
            if mkdir "$HOME/$run" 2>/dev/null; then exec "$dotnet" run --no-build --project "$project" -- "$@"; fi
            case $name in Ministry) program=ministry.dll ;; *) program=Ministries.$name.dll ;; esac
            exec "$dotnet" "{{built}}/$program" "$@"
            """
        );
        Program("ministry", $"exec dotnet '{built}/ministry.dll' \"$@\"");
        Program(
            "docker",
            """
            # No engine belongs to this machine: what would be started is shown.
            [[ ${1-} == compose ]] || { echo "docker ${1-}: not known here" >&2; exit 1; }
            shift; named=()
            while [[ $1 != up ]]; do named+=("$1"); shift; done
            exec docker-compose "${named[@]}" config
            """
        );

        void Program(string name, string script)
        {
            var file = Path.Combine(In("bin"), name);
            File.WriteAllText(file, $"#!/usr/bin/env bash\nset -euo pipefail\n{script}\n");
            File.SetUnixFileMode(file, (UnixFileMode)Convert.ToInt32("755", 8));
        }
    }

    /// <summary>The program of the benchmarks, where the solution is built.</summary>
    internal static string Benchmarks { get; } =
        Path.Combine(
            Documents.Root,
            "tests/Benchmarks",
            Path.GetRelativePath(Path.Combine(Documents.Root, "tests/Ministry"), AppContext.BaseDirectory),
            "Ministries.Benchmarks.dll"
        );

    private static string Which(string program) =>
        Environment.GetEnvironmentVariable("PATH")!.Split(':').Select(f => Path.Combine(f, program)).First(File.Exists);

    private async Task StartServers()
    {
        await OpenIn("servers")
            .Run(
                """
                as=()
                if [[ $(id -un) == root ]]; then as=(setpriv --reuid=postgres --regid=postgres --init-groups); chmod 711 "$HOME"; fi
                data=$PWD/postgres; mkdir "$data"
                if ((${#as[@]})); then chown postgres "$data"; fi
                programs=$(ls -d /usr/lib/postgresql/*/bin | tail -n 1)
                (cd "$data" && "${as[@]}" "$programs/initdb" -D "$data/data" -A trust -U postgres -E UTF8 --no-sync)
                (cd "$data" && exec "${as[@]}" "$programs/postgres" -D "$data/data" -c listen_addresses=127.0.0.1 \
                  -c unix_socket_directories="$data" -c max_connections=200) >postgres.log 2>&1 &
                echo '[].' >plugins
                printf 'disk_free_limit.absolute = 50MB\nlog.console.level = warning\n' >rabbitmq.conf
                HOME=$PWD RABBITMQ_NODENAME=rabbit@localhost RABBITMQ_LOGS=- RABBITMQ_MNESIA_BASE=$PWD/mnesia RABBITMQ_CONF_ENV_FILE=/dev/null \
                  RABBITMQ_CONFIG_FILE=$PWD/rabbitmq RABBITMQ_PID_FILE=$PWD/pid RABBITMQ_ENABLED_PLUGINS_FILE=$PWD/plugins \
                  RUNNING_UNDER_SYSTEMD=true /usr/lib/rabbitmq/bin/rabbitmq-server >rabbitmq.log 2>&1 </dev/null &
                until pg_isready --quiet --host 127.0.0.1 && (exec 3<>/dev/tcp/127.0.0.1/5672) 2>/dev/null; do sleep 0.1; done
                """
            );
    }

    /// <summary>A terminal. What is typed stays in force, as variables and functions do.</summary>
    internal sealed class Terminal : IDisposable
    {
        private const string Mark = "--- the next, please ---";
        private static readonly TimeSpan Longest = TimeSpan.FromMinutes(5);

        private readonly Process _shell;
        private readonly Channel<string> _lines = Channel.CreateUnbounded<string>();
        private readonly string _typed;
        private int _count;
        private bool _ended;

        public Terminal(ProcessStartInfo start, string folder, string typed)
        {
            _typed = typed;
            _shell = Process.Start(start)!;
            _ = Read();
            // A command that fails ends the terminal.
            _shell.StandardInput.WriteLine($"exec 2>&1; set -eo pipefail; cd '{folder}'");
        }

        /// <summary>Runs a script. Each of its commands must succeed.</summary>
        /// <returns>What was written.</returns>
        public async Task<string> Run(string script) => string.Join('\n', await Lines(script, l => l == Mark));

        /// <summary>Begins a script that goes on until it is stopped, and returns when it has written a line.</summary>
        /// <returns>What was written, that line included.</returns>
        public Task<IReadOnlyList<string>> Begin(string script, Func<string, bool> line) => Lines(script, line);

        /// <summary>Ends what runs in it.</summary>
        public void Dispose()
        {
            if (_ended)
                return;
            _ended = true;
            _shell.Kill(entireProcessTree: true);
            _shell.Dispose();
        }

        private async Task<IReadOnlyList<string>> Lines(string script, Func<string, bool> last)
        {
            var file = $"{_typed}-{++_count}.sh";
            await File.WriteAllTextAsync(file, script, Cancel);
            await _shell.StandardInput.WriteLineAsync($". '{file}' </dev/null; printf '\\n%s\\n' '{Mark}'");
            await _shell.StandardInput.FlushAsync(Cancel);
            using var deadline = CancellationTokenSource.CreateLinkedTokenSource(Cancel);
            deadline.CancelAfter(Longest);
            var lines = new List<string>();
            try
            {
                await foreach (var line in _lines.Reader.ReadAllAsync(deadline.Token))
                {
                    lines.Add(line);
                    if (last(line))
                        return lines[^1] == Mark ? lines[..^1] : lines;
                    if (line == Mark)
                        break;
                }
            }
            catch (OperationCanceledException) when (!Cancel.IsCancellationRequested)
            {
                lines.Add("(and it went on)");
            }
            Assert.Fail($"{script}\n--- wrote\n{string.Join('\n', lines)}");
            return lines;
        }

        private async Task Read()
        {
            while (await _shell.StandardOutput.ReadLineAsync() is { } line)
                _lines.Writer.TryWrite(line);
            _lines.Writer.Complete();
        }
    }
}
