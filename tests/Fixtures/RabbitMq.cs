using System.Diagnostics;
using System.Net;
using System.Net.Sockets;

namespace Ministries.Fixtures;

/// <summary>A RabbitMQ node of its own for the test process, in a temporary folder and on ports of its own, with RabbitMQ's default user.
/// It ends with the process, however that ends.</summary>
public sealed class RabbitMq
{
    private static readonly Lazy<Task<RabbitMq>> One = new(() => Create());

    private readonly string _folder;
    private readonly int _port,
        _distribution,
        _names;
    private Process? _epmd,
        _server;
    private int _pid;

    private RabbitMq(string folder, int port, int distribution, int names)
    {
        _folder = folder;
        _port = port;
        _distribution = distribution;
        _names = names;
    }

    /// <summary>The node of this process; started when first asked for.</summary>
    public static Task<RabbitMq> Shared => One.Value;

    /// <summary>Where its files are: queues, their messages, and its log.</summary>
    public string Folder => _folder;

    /// <summary>Its address.</summary>
    public Uri Uri => new($"amqp://guest:guest@127.0.0.1:{_port}");

    /// <summary>A separate node, which a test may kill.</summary>
    /// <param name="settings">More lines of its configuration.</param>
    public static async Task<RabbitMq> Create(string settings = "")
    {
        const string program = "/usr/lib/rabbitmq/bin/rabbitmq-server";
        if (!File.Exists(program))
            throw new InvalidOperationException($"RabbitMQ is not installed: no {program}");
        var node = new RabbitMq(
            Directory.CreateTempSubdirectory("ministries-rabbitmq-").FullName,
            Ports.Free(),
            Ports.Free(),
            Ports.Free()
        );
        AppDomain.CurrentDomain.ProcessExit += (_, _) => node.Stop();
        await File.WriteAllTextAsync(Path.Combine(node._folder, "plugins"), "[].");
        await File.WriteAllTextAsync(
            Path.Combine(node._folder, "rabbitmq.conf"),
            $"""
            listeners.tcp.1 = 127.0.0.1:{node._port}
            loopback_users = none
            disk_free_limit.absolute = 50MB
            log.console.level = warning
            {settings}

            """
        );
        // The node's name service. Without it, the node would start one that outlives the tests.
        node._epmd = node.Run($"epmd -address 127.0.0.1 -port {node._names}", "epmd.log");
        await node.Start();
        return node;
    }

    /// <summary>Starts the node, with what it has on its disk, and returns when it takes connections.</summary>
    public async Task Start()
    {
        _server = Run("/usr/lib/rabbitmq/bin/rabbitmq-server", "log");
        _pid = int.Parse((await _server.StandardOutput.ReadLineAsync())!);
        var deadline = Stopwatch.StartNew();
        while (!await Answers())
        {
            if (deadline.Elapsed > TimeSpan.FromSeconds(120) || !Directory.Exists($"/proc/{_pid}"))
                throw new InvalidOperationException(
                    $"RabbitMQ did not start:\n{await File.ReadAllTextAsync(Path.Combine(_folder, "log"))}"
                );
            await Task.Delay(50);
        }
    }

    /// <summary>Ends the node at once (SIGKILL): what is not on its disk is lost.</summary>
    public void Kill()
    {
        if (_server is null)
            return;
        Signals.Send(_pid, Signals.Kill);
        _server.StandardInput.Close();
        _server.WaitForExit();
        _server = null;
    }

    /// <summary>Stops it from doing anything (SIGSTOP): connections stay open, and nothing is answered.</summary>
    public void Freeze() => Signals.Send(_pid, Signals.Stop);

    /// <summary>Lets it go on (SIGCONT).</summary>
    public void Thaw() => Signals.Send(_pid, Signals.Continue);

    /// <summary>Deletes what is on its disk. Call it only while the node does not run.</summary>
    public void Wipe() => Directory.Delete(Path.Combine(_folder, "mnesia"), recursive: true);

    /// <summary>Runs <c>rabbitmqctl</c> against the node. Returns what it writes.</summary>
    public async Task<string> Control(params string[] arguments)
    {
        var start = new ProcessStartInfo("/usr/lib/rabbitmq/bin/rabbitmqctl", ["--quiet", .. arguments])
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            WorkingDirectory = _folder,
        };
        Set(start);
        using var process = Process.Start(start)!;
        var error = process.StandardError.ReadToEndAsync();
        var output = await process.StandardOutput.ReadToEndAsync();
        await process.WaitForExitAsync();
        return process.ExitCode == 0
            ? output
            : throw new InvalidOperationException($"rabbitmqctl {string.Join(' ', arguments)}: {output}{await error}");
    }

    /// <summary>Ends it and removes its folder.</summary>
    public void Stop()
    {
        Kill();
        _epmd?.StandardInput.Close();
        _epmd?.WaitForExit();
        _epmd = null;
        if (Directory.Exists(_folder))
            Directory.Delete(_folder, recursive: true);
    }

    // The shell waits for the end of its input, which comes when this process ends, and then ends the program.
    private Process Run(string program, string log)
    {
        var start = new ProcessStartInfo(
            "/bin/sh",
            [
                "-c",
                $"exec 2>/dev/null; {program} >{_folder}/{log} 2>&1 </dev/null & echo $!; trap '' INT TERM; cat >/dev/null; kill -KILL $! 2>/dev/null; wait $!",
            ]
        )
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            WorkingDirectory = _folder,
        };
        Set(start);
        return Process.Start(start)!;
    }

    private void Set(ProcessStartInfo start)
    {
        foreach (
            var (name, value) in new Dictionary<string, string>
            {
                ["HOME"] = _folder,
                ["RABBITMQ_NODENAME"] = $"ministries{_port}@localhost",
                ["RABBITMQ_LOGS"] = "-",
                ["RABBITMQ_MNESIA_BASE"] = Path.Combine(_folder, "mnesia"),
                ["RABBITMQ_CONF_ENV_FILE"] = "/dev/null",
                ["RABBITMQ_CONFIG_FILE"] = Path.Combine(_folder, "rabbitmq"),
                ["RABBITMQ_PID_FILE"] = Path.Combine(_folder, "pid"),
                ["RABBITMQ_ENABLED_PLUGINS_FILE"] = Path.Combine(_folder, "plugins"),
                ["RABBITMQ_DIST_PORT"] = $"{_distribution}",
                ["RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS"] = "-kernel inet_dist_use_interface {127,0,0,1}",
                ["ERL_EPMD_PORT"] = $"{_names}",
                ["ERL_EPMD_ADDRESS"] = "127.0.0.1",
                // Without a shell in between, so that the started process is the one that serves.
                ["RUNNING_UNDER_SYSTEMD"] = "true",
            }
        )
            start.Environment[name] = value;
    }

    private async Task<bool> Answers()
    {
        try
        {
            using var socket = new Socket(SocketType.Stream, ProtocolType.Tcp) { ReceiveTimeout = 5000 };
            await socket.ConnectAsync(IPAddress.Loopback, _port);
            await socket.SendAsync("AMQP\0\0\u0009\u0001"u8.ToArray());
            return await socket.ReceiveAsync(new byte[1]).WaitAsync(TimeSpan.FromSeconds(5)) == 1;
        }
        catch (Exception e) when (e is SocketException or TimeoutException)
        {
            return false;
        }
    }
}
