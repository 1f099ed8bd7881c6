using System.Net.Sockets;
using System.Text.Json;

namespace Ministries.Cluster;

/// <summary>RabbitMQ: three nodes that form one cluster.</summary>
internal static class Rabbit
{
    private const string Binaries = "/usr/lib/rabbitmq/bin";

    /// <summary>All nodes, as the setting of a service names them.</summary>
    /// <param name="first">The node that is tried first.</param>
    public static string Addresses(int first) =>
        string.Join(',', Enumerable.Range(0, Machine.Count).Select(i => AddressOf((first - 1 + i) % Machine.Count + 1)));

    /// <summary>A node's address.</summary>
    /// <param name="machine">1 to 3.</param>
    public static string AddressOf(int machine) => $"amqp://guest:guest@{Service.AddressOf(machine)}:5672";

    /// <summary>Whether a process of the services' host is a part of RabbitMQ.</summary>
    /// <param name="process">Its name.</param>
    public static bool IsPart(string process) =>
        process is "beam.smp" or "epmd" or "erl_child_setup" or "inet_gethost" || process.StartsWith("rabbitmq", StringComparison.Ordinal);

    /// <summary>A node on a machine.</summary>
    public static Supervised Node(int number, Host host, string folder)
    {
        var own = Directory.CreateDirectory(Path.Combine(folder, "broker")).FullName;
        File.WriteAllText(Path.Combine(own, ".erlang.cookie"), "ministries");
        File.SetUnixFileMode(Path.Combine(own, ".erlang.cookie"), UnixFileMode.UserRead | UnixFileMode.UserWrite);
        File.WriteAllText(Path.Combine(own, "plugins"), "[].");
        File.WriteAllText(
            Path.Combine(own, "rabbitmq.conf"),
            $"""
            listeners.tcp.1 = {host.Address}:5672
            loopback_users = none
            disk_free_limit.absolute = 50MB
            log.console.level = warning
            cluster_partition_handling = pause_minority
            net_ticktime = 8
            cluster_formation.peer_discovery_backend = classic_config
            {string.Join('\n', Enumerable.Range(1, Machine.Count).Select(n => $"cluster_formation.classic_config.nodes.{n} = {NameOf(n)}"))}

            """
        );
        return new Supervised(
            host,
            Path.Combine(folder, "broker.log"),
            "root",
            Environment(number, own),
            Path.Combine(Binaries, "rabbitmq-server")
        );
    }

    /// <summary>How long a node may not serve before it is started again, as deploy/README.md tells operators.</summary>
    public static readonly TimeSpan Patience = TimeSpan.FromMinutes(2);

    /// <summary>Whether a node takes connections.</summary>
    /// <param name="machine">1 to 3.</param>
    public static async Task<bool> Serves(int machine)
    {
        using var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        using var late = new CancellationTokenSource(TimeSpan.FromSeconds(3));
        try
        {
            await socket.ConnectAsync(Service.AddressOf(machine), 5672, late.Token);
            // A node that was stopped still has connections made for it by the kernel, and greets nobody.
            await socket.SendAsync("AMQP\0\0\u0009\u0001"u8.ToArray(), late.Token);
            return await socket.ReceiveAsync(new byte[1], late.Token) > 0;
        }
        catch (Exception e) when (e is SocketException or OperationCanceledException)
        {
            return false;
        }
    }

    /// <summary>Whether all nodes are there.</summary>
    /// <param name="ask">The machine whose node is asked.</param>
    public static async Task<bool> IsWhole(Machine ask)
    {
        try
        {
            using var status = JsonDocument.Parse(await Control(ask, "cluster_status", "--formatter", "json"));
            return status.RootElement.GetProperty("running_nodes").GetArrayLength() == Machine.Count;
        }
        catch (Exception e) when (e is InvalidOperationException or JsonException)
        {
            return false;
        }
    }

    /// <summary>The number of the machine that leads the queue of a service.</summary>
    public static async Task<int> LeaderOf(string service, Machine ask)
    {
        using var queues = JsonDocument.Parse(await Control(ask, "list_queues", "name", "leader", "--formatter", "json"));
        var queue = queues.RootElement.EnumerateArray().Single(q => q.GetProperty("name").GetString() == $"ministries.{service}");
        return queue.GetProperty("leader").GetString()![^1] - '0';
    }

    private static async Task<string> Control(Machine machine, params string[] arguments)
    {
        var environment = Environment(machine.Number, Path.Combine(machine.Folder, "broker")).Select(e => $"{e.Key}={e.Value}");
        return await machine.Services.Run(
            "env",
            [.. environment, Path.Combine(Binaries, "rabbitmqctl"), "--quiet", "--longnames", "--timeout", "20", .. arguments]
        );
    }

    private static string NameOf(int machine) => $"rabbit@{Service.AddressOf(machine)}";

    private static Dictionary<string, string> Environment(int number, string folder) =>
        new()
        {
            ["HOME"] = folder,
            ["RABBITMQ_NODENAME"] = NameOf(number),
            ["RABBITMQ_USE_LONGNAME"] = "true",
            ["RABBITMQ_LOGS"] = "-",
            ["RABBITMQ_MNESIA_BASE"] = Path.Combine(folder, "mnesia"),
            ["RABBITMQ_CONF_ENV_FILE"] = "/dev/null",
            ["RABBITMQ_CONFIG_FILE"] = Path.Combine(folder, "rabbitmq"),
            ["RABBITMQ_PID_FILE"] = Path.Combine(folder, "pid"),
            ["RABBITMQ_ENABLED_PLUGINS_FILE"] = Path.Combine(folder, "plugins"),
            ["RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS"] = "+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none",
            ["RABBITMQ_CTL_ERL_ARGS"] = "+S 1:1 +sbwt none",
            ["LC_ALL"] = "C.UTF-8",
            // Without a shell in between, so that the started process is the one that serves.
            ["RUNNING_UNDER_SYSTEMD"] = "true",
        };
}
