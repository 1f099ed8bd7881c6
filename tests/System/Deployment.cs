using System.Diagnostics;
using System.Net.Http.Headers;
using System.Runtime.InteropServices;
using System.Text;
using System.Text.Json;
using Ministries.Fixtures;
using Ministries.Local;

namespace Ministries.Containers.Tests;

/// <summary>What a command wrote, and how it ended.</summary>
/// <param name="Code">Its exit code.</param>
/// <param name="Output">Standard output.</param>
/// <param name="Error">Standard error.</param>
internal sealed record Ended(int Code, string Output, string Error)
{
    public string All => $"{Output}\n{Error}";
}

/// <summary>The compose project, brought up under a name and on ports of its own. Disposed, nothing of it is left: no container, no
/// volume, no network.</summary>
internal sealed class Deployment : IAsyncDisposable
{
    public static readonly IReadOnlyList<string> Services = ["calllog", "consular", "custody"];

    /// <summary>The gateways of the participants that act in the case.</summary>
    public static readonly IReadOnlyList<string> Gateways =
    [
        "gateway-icrc",
        "gateway-kr-mfa",
        "gateway-ua-coordination-hq",
        "gateway-ua-mfa",
    ];

    private static readonly TimeSpan Patience = TimeSpan.FromMinutes(5);
    private static readonly Lazy<string[]> ComposeCommand = new(() =>
        Execute("docker", "compose", "version").GetAwaiter().GetResult().Code == 0 ? ["docker", "compose"] : ["docker-compose"]
    );

    private readonly Dictionary<string, int> _ports = new[]
    {
        "CALLLOG_PORT",
        "CUSTODY_PORT",
        "CONSULAR_PORT",
        "JAEGER_PORT",
        "POSTGRES_PORT",
        "RABBITMQ_PORT",
        "RABBITMQ_PAGE_PORT",
        "OTLP_PORT",
        "PROMETHEUS_PORT",
        "GRAFANA_PORT",
    }.ToDictionary(p => p, _ => Ports.Free());

    private readonly Dictionary<string, string> _environment;

    private readonly string _folder = Directory.CreateTempSubdirectory("ministries-system-").FullName;
    private readonly string[] _files,
        _more;
    private readonly List<PosixSignalRegistration> _signals = [];
    private HttpClient? _broker;

    private Deployment(string name, string[] files, string[] more)
    {
        _more = more;
        // The command that runs these tests gives the beginning of the name, and checks afterwards whether something is left.
        Name = $"{Environment.GetEnvironmentVariable("MINISTRIES_PROJECT") ?? $"ministries-test-{Environment.ProcessId}"}-{name}";
        _files = files;
        _environment = _ports.ToDictionary(p => p.Key, p => $"{p.Value}");
        AppDomain.CurrentDomain.ProcessExit += (_, _) => Remove().GetAwaiter().GetResult();
        // Whoever ends the test program ends what it started.
        foreach (var signal in new[] { PosixSignal.SIGTERM, PosixSignal.SIGINT, PosixSignal.SIGHUP })
            _signals.Add(PosixSignalRegistration.Create(signal, _ => Remove().GetAwaiter().GetResult()));
    }

    /// <summary>Why there can be no containers here; null: there can.</summary>
    public static async Task<string?> Absent()
    {
        try
        {
            var engine = await Execute("docker", "info", "--format", "{{.ServerVersion}}");
            if (engine.Code != 0)
                return $"no Docker engine answers: {engine.Error.Trim()}";
            var compose = await Execute([.. ComposeCommand.Value, "version"]);
            return compose.Code == 0 ? null : "neither `docker compose` nor `docker-compose` is installed";
        }
        catch (System.ComponentModel.Win32Exception e)
        {
            return $"Docker is not installed: {e.Message}";
        }
    }

    public string Name { get; }

    /// <summary>The folder with everybody's certificates and keys, taken out of the volume that only the played case sees.</summary>
    public string Certificates => Path.Combine(_folder, "authorities");

    public Uri Jaeger => new($"http://127.0.0.1:{_ports["JAEGER_PORT"]}");

    public IReadOnlyDictionary<string, Uri> Addresses =>
        Services.ToDictionary(s => s, s => new Uri($"https://127.0.0.1:{_ports[$"{s.ToUpperInvariant()}_PORT"]}"));

    /// <summary>Builds and starts the project, and returns when its services are healthy.</summary>
    /// <param name="name">What it is called, beside the name of this run.</param>
    /// <param name="files">What stands beside docker-compose.yml.</param>
    /// <param name="more">What is started beside the services and what they need.</param>
    /// <param name="cancel">Ends it.</param>
    public static async Task<Deployment> Start(string name, string[] files, string[] more, CancellationToken cancel)
    {
        var deployment = new Deployment(name, ["docker-compose.yml", .. files], more);
        try
        {
            await deployment.Compose("build", "--quiet", "secrets");
            await deployment.Up(cancel);
            Directory.CreateDirectory(deployment._folder);
            foreach (var folder in new[] { "authorities", "participants" })
                Expect(await Execute("docker", "cp", $"{await deployment.Container("secrets")}:/secrets/{folder}", deployment._folder));
            return deployment;
        }
        catch (Exception e)
        {
            var logs = await deployment.TryCompose("logs", "--no-color", "--tail", "40");
            await deployment.DisposeAsync();
            throw new InvalidOperationException($"{e.Message}\n{logs.All}", e);
        }
    }

    /// <summary>Starts what is not running, and returns when the services are healthy.</summary>
    public async Task Up(CancellationToken cancel)
    {
        await Compose(["up", "--detach", "jaeger", .. Services, .. Gateways, .. _more]);
        await Healthy(cancel);
    }

    /// <summary>Runs a compose command on the project.</summary>
    public async Task<string> Compose(params string[] command) => Expect(await TryCompose(command)).Output;

    /// <summary>Runs a compose command on the project that may fail.</summary>
    public Task<Ended> TryCompose(params string[] command) =>
        Execute(
            [.. ComposeCommand.Value, "--project-name", Name, .. _files.SelectMany(f => new[] { "--file", f }), .. command],
            _environment
        );

    /// <summary>Runs commands of a document at a terminal, on this project.</summary>
    /// <param name="script">The commands. They say <c>docker compose</c>; where only docker-compose is installed, they get that.</param>
    /// <param name="folder">Where they run, with this project's files; null: in the repository, with the files that they name.</param>
    public async Task Shell(string script, string? folder = null)
    {
        var programs = Directory.CreateDirectory(Path.Combine(_folder, "bin")).FullName;
        if (ComposeCommand.Value is ["docker-compose"])
        {
            var docker = Path.Combine(programs, "docker");
            await File.WriteAllTextAsync(
                docker,
                $"#!/usr/bin/env bash\nPATH=${{PATH#{programs}:}}\nif [[ $1 == compose ]]; then shift; exec docker-compose \"$@\"; fi\nexec docker \"$@\"\n"
            );
            Expect(await Execute("chmod", "755", docker));
        }
        var file = Path.Combine(_folder, "commands.sh");
        await File.WriteAllTextAsync(file, $"set -eo pipefail\ncd '{folder ?? Root()}'\n{script}");
        var variables = new Dictionary<string, string>(_environment)
        {
            ["COMPOSE_PROJECT_NAME"] = Name,
            ["PATH"] = $"{programs}:{Environment.GetEnvironmentVariable("PATH")}",
        };
        if (folder is not null)
            variables["COMPOSE_FILE"] = string.Join(':', _files.Select(f => Path.Combine(Root(), f)));
        Expect(await Execute(["script", "--quiet", "--return", "--command", $"bash '{file}'", "/dev/null"], variables));
    }

    /// <summary>The id of a service's container.</summary>
    public async Task<string> Container(string service) =>
        Expect(
            await Execute(
                "docker",
                "ps",
                "--all",
                "--quiet",
                "--filter",
                $"label=com.docker.compose.project={Name}",
                "--filter",
                $"label=com.docker.compose.service={service}"
            )
        )
            .Output.Trim()
            .Split('\n')[0];

    /// <summary>Runs a shell's line in a container that has every secret.</summary>
    public Task<string> Secrets(string line) => Compose("run", "--rm", "-T", "secrets", "bash", "-euc", line);

    /// <summary>The containers in one of the project's networks.</summary>
    public async Task<IReadOnlyList<string>> MembersOf(string network) =>
        Expect(await Execute("docker", "network", "inspect", "--format", "{{range .Containers}}{{.Name}} {{end}}", $"{Name}_{network}"))
            .Output.Split(' ', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries);

    /// <summary>Throws one of the project's volumes away.</summary>
    public Task<Ended> RemoveVolume(string volume) => Execute("docker", "volume", "rm", $"{Name}_{volume}");

    /// <summary>Ends a container at once, as a crash would, and keeps it down.</summary>
    public async Task Kill(string service) => Expect(await Execute("docker", "kill", await Container(service)));

    /// <summary>Tells a container to stop, and returns its exit code.</summary>
    public async Task<int> Stop(string service)
    {
        var container = await Container(service);
        Expect(await Execute("docker", "stop", container));
        return (await Inspect(container)).GetProperty("State").GetProperty("ExitCode").GetInt32();
    }

    public async Task StartAgain(string service) => Expect(await Execute("docker", "start", await Container(service)));

    /// <summary>What the engine says of a container.</summary>
    public static async Task<JsonElement> Inspect(string container) =>
        JsonDocument.Parse(Expect(await Execute("docker", "inspect", container)).Output).RootElement[0];

    /// <summary>Runs a program in a service's running container.</summary>
    public async Task<Ended> In(string service, params string[] command) =>
        await Execute(["docker", "exec", await Container(service), .. command]);

    /// <summary>Runs a program as the database's administrator, whom the server knows by the account.</summary>
    public Task<Ended> AsPostgres(params string[] command) => AsPostgresIn("postgres", command);

    /// <summary>The same in one of several servers.</summary>
    public async Task<Ended> AsPostgresIn(string server, params string[] command) =>
        await Execute(["docker", "exec", "--user", "postgres", await Container(server), .. command]);

    /// <summary>What a service wrote to its log.</summary>
    public async Task<string> Log(string service) => (await Execute("docker", "logs", await Container(service))).All;

    /// <summary>Whether a service's container is healthy, by its own check.</summary>
    public async Task<bool> IsHealthy(string service) =>
        (await Inspect(await Container(service))).GetProperty("State") is var state
        && state.TryGetProperty("Health", out var health)
        && health.GetProperty("Status").GetString() == "healthy";

    /// <summary>Returns when the services, the gateways, the database and the broker are healthy, each by its own check.</summary>
    public async Task Healthy(CancellationToken cancel)
    {
        foreach (var service in Services.Concat(["postgres", "rabbitmq"]).Concat(Gateways))
            await Until($"{service} is healthy", () => IsHealthy(service), cancel, () => Log(service));
    }

    /// <summary>Returns when something is so.</summary>
    public static async Task Until(string what, Func<Task<bool>> isSo, CancellationToken cancel, Func<Task<string>>? look = null)
    {
        var begun = Stopwatch.GetTimestamp();
        while (!await isSo())
        {
            if (Stopwatch.GetElapsedTime(begun) > Patience)
                Assert.Fail($"It did not come to be that {what}.\n{(look is null ? "" : await look())}");
            await Task.Delay(200, cancel);
        }
    }

    /// <summary>Asks the broker's management API.</summary>
    public async Task<JsonElement> AskBroker(string path, CancellationToken cancel)
    {
        if (_broker is null)
        {
            var password = await File.ReadAllTextAsync(Path.Combine(_folder, "participants", "operator", "broker-password"), cancel);
            _broker = new HttpClient { BaseAddress = new Uri($"http://127.0.0.1:{_ports["RABBITMQ_PAGE_PORT"]}") };
            _broker.DefaultRequestHeaders.Authorization = new AuthenticationHeaderValue(
                "Basic",
                Convert.ToBase64String(Encoding.UTF8.GetBytes($"operator:{password}"))
            );
        }
        return JsonDocument.Parse(await _broker.GetStringAsync(new Uri(path, UriKind.Relative), cancel)).RootElement;
    }

    /// <summary>Asks Jaeger's query API.</summary>
    public async Task<JsonElement> AskJaeger(string path, CancellationToken cancel)
    {
        using var jaeger = new HttpClient { BaseAddress = Jaeger };
        return JsonDocument.Parse(await jaeger.GetStringAsync(new Uri(path, UriKind.Relative), cancel)).RootElement.GetProperty("data");
    }

    /// <summary>Asks Prometheus' API.</summary>
    public async Task<JsonElement> AskPrometheus(string path, CancellationToken cancel)
    {
        using var prometheus = new HttpClient { BaseAddress = new Uri($"http://127.0.0.1:{_ports["PROMETHEUS_PORT"]}") };
        try
        {
            return JsonDocument
                .Parse(await prometheus.GetStringAsync(new Uri(path, UriKind.Relative), cancel))
                .RootElement.GetProperty("data");
        }
        catch (HttpRequestException)
        {
            return JsonDocument.Parse("""{"result":[]}""").RootElement;
        }
    }

    /// <summary>Whether there is a Prometheus: its image, or else an image made here of Debian's program.</summary>
    public async Task<bool> HasPrometheus()
    {
        var pinned = (await File.ReadAllLinesAsync(Path.Combine(Root(), ".env"))).Single(l =>
            l.StartsWith("PROMETHEUS_IMAGE=", StringComparison.Ordinal)
        )["PROMETHEUS_IMAGE=".Length..];
        if ((await Execute("docker", "image", "inspect", pinned)).Code == 0)
            return true;
        const string program = "/usr/bin/prometheus";
        if (!File.Exists(program))
            return false;
        var folder = Directory.CreateDirectory(Path.Combine(_folder, "prometheus")).FullName;
        File.Copy(program, Path.Combine(folder, "prometheus"));
        await File.WriteAllTextAsync(
            Path.Combine(folder, "Dockerfile"),
            """
            FROM ministries
            USER root
            COPY prometheus /bin/prometheus
            RUN mkdir /prometheus && chown 65534:65534 /prometheus
            ENTRYPOINT ["/bin/prometheus"]
            """
        );
        _environment["PROMETHEUS_IMAGE"] = "ministries-test-prometheus";
        Expect(await Execute("docker", "build", "--quiet", "--tag", "ministries-test-prometheus", folder));
        return true;
    }

    /// <summary>Takes part as every participant.</summary>
    public Task<Participants> Join(CancellationToken cancel) => Participants.Join(Certificates, Addresses, Patience, cancel);

    public async ValueTask DisposeAsync()
    {
        _broker?.Dispose();
        await Remove();
        foreach (var signal in _signals)
            signal.Dispose();
        if (Directory.Exists(_folder))
            Directory.Delete(_folder, recursive: true);
    }

    // Everything is found by its label, so what a failed start has left is removed too.
    private async Task Remove()
    {
        var label = $"label=com.docker.compose.project={Name}";
        await Each(await Execute("docker", "ps", "--all", "--quiet", "--filter", label), "rm", "--force", "--volumes");
        await Each(await Execute("docker", "network", "ls", "--quiet", "--filter", label), "network", "rm");
        await Each(await Execute("docker", "volume", "ls", "--quiet", "--filter", label), "volume", "rm");

        static async Task Each(Ended listed, params string[] remove)
        {
            var ids = listed.Output.Split('\n', StringSplitOptions.RemoveEmptyEntries);
            if (ids.Length > 0)
                await Execute(["docker", .. remove, .. ids]);
        }
    }

    private static Ended Expect(Ended ended) =>
        ended.Code == 0 ? ended : throw new InvalidOperationException($"exit code {ended.Code}\n{ended.All}");

    private static Task<Ended> Execute(params string[] command) => Execute(command, []);

    private static async Task<Ended> Execute(string[] command, Dictionary<string, string> environment)
    {
        var start = new ProcessStartInfo(command[0], command[1..])
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            WorkingDirectory = Root(),
        };
        foreach (var (name, value) in environment)
            start.Environment[name] = value;
        using var process = Process.Start(start)!;
        var output = process.StandardOutput.ReadToEndAsync();
        var error = process.StandardError.ReadToEndAsync();
        await process.WaitForExitAsync();
        return new Ended(process.ExitCode, await output, await error);
    }

    private static string Root()
    {
        var folder = AppContext.BaseDirectory;
        while (!File.Exists(Path.Combine(folder, "docker-compose.yml")))
            folder = Path.GetDirectoryName(folder)!;
        return folder;
    }
}
