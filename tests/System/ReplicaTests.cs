using System.Globalization;
using System.Text.Json;

namespace Ministries.Containers.Tests;

/// <summary>Three of everything on one machine: brought up once for all its tests.</summary>
public sealed class Replicated() : Deployed("ha", "deploy/compose.ha.yml", [.. ReplicaTests.Further]);

/// <summary><c>deploy/compose.ha.yml</c>: a case goes on whichever container is killed, and what was killed joins again.</summary>
public sealed class ReplicaTests(Replicated replicated) : IClassFixture<Replicated>
{
    private static readonly string[] Servers = ["postgres", "postgres-2", "postgres-3"];
    private static readonly string[] Nodes = ["rabbitmq", "rabbitmq-2", "rabbitmq-3"];

    /// <summary>What stands beside the containers of <c>docker-compose.yml</c>.</summary>
    internal static IEnumerable<string> Further =>
        [.. Servers.Skip(1), .. Nodes.Skip(1), .. Ministries.Containers.Tests.Deployment.Services.Select(s => $"{s}-2")];

    private Deployment Deployment => replicated.Deployment;

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    [Fact]
    public async Task Each_commit_waits_for_a_standby_and_each_queue_is_on_three_nodes()
    {
        await Whole();
        await Play();
        var queues = (
            await Deployment.In(
                "rabbitmq",
                "rabbitmqctl",
                "-q",
                "list_queues",
                "-p",
                "ministries",
                "name",
                "type",
                "members",
                "--formatter",
                "json"
            )
        ).Output;
        var listed = JsonDocument.Parse(queues).RootElement.EnumerateArray().ToList();
        Assert.NotEmpty(listed);
        foreach (var queue in listed.Where(q => q.GetProperty("type").ToString().Contains("quorum", StringComparison.Ordinal)))
            Assert.Equal(Nodes.Length, queue.GetProperty("members").GetArrayLength());
        foreach (var service in Deployment.Services)
            Assert.Contains(listed, q => q.GetProperty("name").GetString()!.Contains(service, StringComparison.Ordinal));
    }

    [Fact]
    public async Task A_case_goes_on_without_a_replica_of_each_service_and_a_node_of_the_broker()
    {
        await Whole();
        string[] killed = ["rabbitmq-2", "custody", "calllog-2", "consular"];
        foreach (var container in killed)
            await Deployment.Kill(container);
        await Play();
        foreach (var container in killed)
            await Deployment.StartAgain(container);
        await Whole();
        await Play();
    }

    [Fact]
    public async Task A_promoted_standby_is_found_and_the_former_primary_joins_as_a_standby()
    {
        await Whole();
        var former = await Primary();
        await Deployment.Kill(former);
        var promoted = await Newest([.. Servers.Except([former])]);
        var promoting = await Deployment.AsPostgresIn(promoted, "pg_ctl", "promote", "-D", "/var/lib/postgresql/data/pgdata");
        Assert.True(promoting.Code == 0, promoting.All);
        await Play();

        await Deployment.Compose("rm", "--force", former);
        var removed = await Deployment.RemoveVolume($"{former}-data");
        Assert.True(removed.Code == 0, removed.All);
        await Deployment.Compose("up", "--detach", "--no-deps", former);
        await Whole();
        Assert.Equal(promoted, await Primary());
        await Play();
    }

    [Fact]
    public async Task A_node_of_the_broker_that_hangs_is_started_again()
    {
        await Whole();
        var container = await Deployment.Container("rabbitmq-3");
        var before = await Starts();
        var stopped = await Deployment.In("rabbitmq-3", "setpriv", "--reuid=rabbitmq", "--clear-groups", "bash", "-c", "kill -STOP -1");
        Assert.True(stopped.Code == 0, stopped.All);
        await Play();
        await Deployment.Until(
            "the node is started again",
            async () => await Starts() > before,
            Cancel,
            () => Deployment.Log("rabbitmq-3")
        );
        await Whole();

        async Task<int> Starts() => (await Deployment.Inspect(container)).GetProperty("RestartCount").GetInt32();
    }

    private async Task Play()
    {
        var played = await Deployment.TryCompose("run", "--rm", "-T", "--no-deps", "play");
        Assert.True(played.Code == 0, played.All);
    }

    // Everything is healthy by its own check, two standbys confirm, and three nodes run.
    private async Task Whole()
    {
        await Deployment.Healthy(Cancel);
        foreach (var container in Further)
            await Deployment.Until(
                $"{container} is healthy",
                () => Deployment.IsHealthy(container),
                Cancel,
                () => Deployment.Log(container)
            );
        await Deployment.Until(
            "two standbys confirm",
            async () => await Asked(await Primary(), "select count(*) from pg_stat_replication where sync_state = 'quorum'") == "2",
            Cancel
        );
        await Deployment.Until(
            "three nodes run",
            async () =>
            {
                var asked = await Deployment.In("rabbitmq", "rabbitmqctl", "-q", "cluster_status", "--formatter", "json");
                return asked.Code == 0
                    && JsonDocument.Parse(asked.Output).RootElement.GetProperty("running_nodes").GetArrayLength() == Nodes.Length;
            },
            Cancel
        );
    }

    private async Task<string> Primary()
    {
        foreach (var server in Servers)
            if (await Asked(server, "select pg_is_in_recovery()") == "f")
                return server;
        throw new InvalidOperationException("no server is the primary");
    }

    // Only one of two standbys has surely all that was answered.
    private async Task<string> Newest(string[] standbys)
    {
        const string behind = "select pg_wal_lsn_diff(pg_last_wal_receive_lsn(), '0/0')";
        var received = new Dictionary<string, decimal>();
        foreach (var standby in standbys)
            received[standby] = decimal.Parse(await Asked(standby, behind), CultureInfo.InvariantCulture);
        return received.MaxBy(r => r.Value).Key;
    }

    private async Task<string> Asked(string server, string sql) =>
        (await Deployment.AsPostgresIn(server, "psql", "-Atc", sql)).Output.Trim();
}
