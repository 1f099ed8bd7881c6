using System.Text.Json;

namespace Ministries.Cluster;

/// <summary>PostgreSQL under Patroni, with etcd: one cluster with a database for each service.</summary>
internal static class Database
{
    private const string Superuser = "postgres";

    /// <summary>The address of a machine's database.</summary>
    /// <param name="machine">1 to 3.</param>
    public static string AddressOf(int machine) => $"10.77.0.1{machine}";

    /// <summary>A connection string that leads to whichever server is the primary: what deploy/README.md tells operators.</summary>
    /// <param name="database">The database.</param>
    public static string Primary(string database) =>
        $"Host={string.Join(',', Enumerable.Range(1, Machine.Count).Select(AddressOf))};Username=ministries;Database={database};"
        + "Target Session Attributes=primary;Timeout=3;"
        + "Tcp Keepalive=true;Tcp Keepalive Time=2;Tcp Keepalive Interval=1";

    /// <summary>A connection string that leads to one server, whatever it is.</summary>
    /// <param name="machine">1 to 3.</param>
    /// <param name="database">The database.</param>
    public static string At(int machine, string database) =>
        $"Host={AddressOf(machine)};Username={Superuser};Database={database};Timeout=2;Command Timeout=3;Cancellation Timeout=-1;"
        + "Tcp Keepalive=true;Tcp Keepalive Time=1;Tcp Keepalive Interval=1";

    /// <summary>etcd on a machine.</summary>
    public static Supervised Etcd(int number, Host host, string folder)
    {
        var peers = Enumerable.Range(1, Machine.Count).Select(n => $"etcd{n}=http://{AddressOf(n)}:2380");
        return new Supervised(
            host,
            Path.Combine(folder, "etcd.log"),
            "root",
            new Dictionary<string, string>(),
            "etcd",
            "--name",
            $"etcd{number}",
            "--data-dir",
            Path.Combine(folder, "etcd"),
            "--listen-client-urls",
            $"http://{host.Address}:2379",
            "--advertise-client-urls",
            $"http://{host.Address}:2379",
            "--listen-peer-urls",
            $"http://{host.Address}:2380",
            "--initial-advertise-peer-urls",
            $"http://{host.Address}:2380",
            "--initial-cluster",
            string.Join(',', peers),
            "--initial-cluster-state",
            "new",
            "--enable-v2",
            "--log-level",
            "warn"
        );
    }

    /// <summary>Patroni on a machine.</summary>
    public static Supervised Patroni(int number, Host host, string folder, Plan plan)
    {
        var own = Directory.CreateDirectory(Path.Combine(folder, "database")).FullName;
        var settings = Path.Combine(own, "patroni.yml");
        File.WriteAllText(settings, Settings(number, own, plan));
        Tool.Run("chown", "-R", Superuser, own).GetAwaiter().GetResult();
        return new Supervised(
            host,
            Path.Combine(folder, "patroni.log"),
            Superuser,
            new Dictionary<string, string> { ["HOME"] = own },
            "patroni",
            settings
        );
    }

    /// <summary>The number of the machine whose database is the primary, the one that confirms its commits, and the others.</summary>
    /// <returns>null: there is no such state now.</returns>
    public static async Task<(int Primary, int Synchronous, int Other)?> Roles()
    {
        if (await Members() is not { } members)
            return null;
        int Of(string role) => members.FirstOrDefault(m => m.Role == role).Machine;
        var primary = Of("leader");
        // Without synchronous replication, either of the two counts.
        var synchronous = Of("sync_standby") is var standby and > 0 ? standby : Of("replica");
        return primary == 0 || synchronous == 0 ? null : (primary, synchronous, 6 - primary - synchronous);
    }

    /// <summary>Whether all three are there, and the standbys follow the primary.</summary>
    public static async Task<bool> IsWhole(bool replicates) =>
        await Members() is { Count: Machine.Count } members
        && members.Count(m => m.Role == "leader") == 1
        && (!replicates || members.Any(m => m.Role == "sync_standby"))
        && members.All(m => m.State is "running" or "streaming" && m.Timeline == members[0].Timeline);

    /// <summary>Hands the primary's part to another one, as an operator does before he works on a machine.</summary>
    public static async Task SwitchOver(Host from, string folder)
    {
        var (primary, synchronous, _) = await Roles() ?? throw new InvalidOperationException("there is no primary to switch over from");
        await from.Run(
            "patronictl",
            "-c",
            Path.Combine(folder, "machine1", "database", "patroni.yml"),
            "switchover",
            "--force",
            "--master",
            $"db{primary}",
            "--candidate",
            $"db{synchronous}"
        );
    }

    /// <summary>The number of the machine whose etcd leads.</summary>
    public static async Task<int> EtcdLeader()
    {
        for (var machine = 1; machine <= Machine.Count; machine++)
            try
            {
                using var response = await Http.Post($"http://{AddressOf(machine)}:2379/v3/maintenance/status", "{}");
                var status = response.RootElement;
                if (status.GetProperty("leader").GetString() == status.GetProperty("header").GetProperty("member_id").GetString())
                    return machine;
            }
            catch (HttpRequestException)
            {
                // It does not run.
            }
        throw new InvalidOperationException("etcd has no leader");
    }

    private static async Task<IReadOnlyList<(int Machine, string Role, string State, int Timeline)>?> Members()
    {
        for (var machine = 1; machine <= Machine.Count; machine++)
            try
            {
                using var document = await Http.Get($"http://{AddressOf(machine)}:8008/cluster");
                return
                [
                    .. document
                        .RootElement.GetProperty("members")
                        .EnumerateArray()
                        .Select(m =>
                            (
                                m.GetProperty("name").GetString()![^1] - '0',
                                m.GetProperty("role").GetString()!,
                                m.GetProperty("state").GetString()!,
                                m.TryGetProperty("timeline", out var timeline) && timeline.ValueKind == JsonValueKind.Number
                                    ? timeline.GetInt32()
                                    : 0
                            )
                        ),
                ];
            }
            catch (Exception e) when (e is HttpRequestException or OperationCanceledException or JsonException or KeyNotFoundException)
            {
                // The next machine is asked.
            }
        return null;
    }

    // By version 3 of etcd's interface, Patroni 3.0 renews the primary's key without asking whose it is. One that was stopped and goes on
    // then takes the part of primary back from its successor, and what the successor answered is lost. By version 2 it asks.
    //
    // A primary that hangs is replaced after `ttl`. Patroni demands ttl >= loop_wait + 2 * retry_timeout. With walsender and walreceiver at
    // 5 s a standby that is silent is out of the count before that.
    //
    // A slot for each standby would be made on a new primary only seconds after it was promoted, and no commit is confirmed until then.
    // Kept segments take their place. A copy of the primary waits for a checkpoint, which PostgreSQL spreads over minutes unless it is told
    // not to.
    private static string Settings(int number, string folder, Plan plan) =>
        $$"""
            scope: ministries
            name: db{{number}}
            restapi: { listen: "{{AddressOf(number)}}:8008", connect_address: "{{AddressOf(number)}}:8008" }
            etcd: { hosts: "{{Hosts}}" }
            bootstrap:
              dcs:
                ttl: 9
                loop_wait: 1
                retry_timeout: 4
                synchronous_mode: {{(plan.Replicates ? "true" : "false")}}
                synchronous_node_count: 2
                synchronous_mode_strict: {{(plan.Replicates ? "true" : "false")}}
                maximum_lag_on_failover: {{(plan.Replicates ? 1048576 : int.MaxValue)}}
                postgresql:
                  use_pg_rewind: true
                  use_slots: false
                  parameters:
                    max_connections: 200
                    shared_buffers: 64MB
                    wal_sender_timeout: 5s
                    wal_receiver_timeout: 5s
                    wal_retrieve_retry_interval: 200ms
                    wal_keep_size: 1GB
              initdb: [ encoding: UTF8, locale: C, data-checksums ]
              pg_hba: [ "local all all trust", "host all all 10.77.0.0/24 trust", "host replication all 10.77.0.0/24 trust" ]
            postgresql:
              listen: "{{AddressOf(number)}}:5432"
              connect_address: "{{AddressOf(number)}}:5432"
              data_dir: "{{folder}}/data"
              bin_dir: "{{Binaries()}}"
              pgpass: "{{folder}}/pgpass"
              basebackup: [ checkpoint: fast ]
              remove_data_directory_on_rewind_failure: true
              remove_data_directory_on_diverged_timelines: true
              authentication:
                superuser: { username: {{Superuser}} }
                replication: { username: replicator }
              parameters: { unix_socket_directories: "{{folder}}" }
            watchdog: { mode: off }

            """;

    private static string Hosts => string.Join(',', Enumerable.Range(1, Machine.Count).Select(n => $"{AddressOf(n)}:2379"));

    private static string Binaries() =>
        Directory
            .GetDirectories("/usr/lib/postgresql")
            .Select(d => Path.Combine(d, "bin"))
            .Where(d => File.Exists(Path.Combine(d, "initdb")))
            .Order()
            .Last();
}
