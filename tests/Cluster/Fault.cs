namespace Ministries.Cluster;

/// <summary>Something that happens to the cluster.</summary>
/// <param name="Name">By which the command line names it.</param>
/// <param name="What">What it is, in words.</param>
/// <param name="Begin">Makes it happen.</param>
internal sealed record Fault(string Name, string What, Func<Cluster, Task> Begin)
{
    /// <summary>How long it lasts.</summary>
    public TimeSpan Lasts { get; private init; } = TimeSpan.FromSeconds(35);

    /// <summary>The longest time that there may be without a successful write.</summary>
    public TimeSpan Writes { get; private init; } = TimeSpan.FromSeconds(15);

    /// <summary>The longest time that relay and consumers may stand still.</summary>
    public TimeSpan Effects { get; private init; } = TimeSpan.FromSeconds(20);

    /// <summary>All of them.</summary>
    public static readonly IReadOnlyList<Fault> All =
    [
        new("primary-killed", "primary killed", async c => await c[(await c.Roles()).Primary].KillDatabase()),
        new("primary-stopped", "primary stopped (SIGSTOP)", async c => await c[(await c.Roles()).Primary].FreezeDatabase()),
        new("primary-cut-off", "primary cut off from its peers, not from the services", CutPrimaryOffFromPeers),
        new("standbys-stopped", "both standbys stopped for 20 s", StopStandbys)
        {
            Lasts = S(20),
            Writes = S(35),
            Effects = S(40),
        },
        new("standby-killed", "synchronous standby killed", async c => await c[(await c.Roles()).Synchronous].KillDatabase()),
        new("standby-stopped", "synchronous standby stopped", async c => await c[(await c.Roles()).Synchronous].FreezeDatabase()),
        new("etcd-killed", "etcd leader killed", KillEtcd),
        new("etcd-stopped", "etcd leader stopped (SIGSTOP)", async c => await c[await Database.EtcdLeader()].Etcd.Freeze()),
        new(
            "broker-killed",
            "RabbitMQ node of the queues' leader killed",
            async c => await c[await Rabbit.LeaderOf("consular", c[1])].KillBroker()
        ),
        new("brokers-killed", "all of RabbitMQ killed for 10 s", c => Task.WhenAll(c.Machines.Select(m => m.KillBroker())))
        {
            Lasts = S(10),
            // Three nodes that were killed together need 20 s to be a cluster again; the goal counts from then.
            Effects = S(60),
        },
        new(
            "broker-hangs",
            "RabbitMQ node of the queues' leader hangs (SIGSTOP) until it is started again",
            async c => await c[await Rabbit.LeaderOf("consular", c[1])].FreezeBroker()
        )
        {
            Lasts = Rabbit.Patience + S(20),
        },
        new("broker-cut-off", "RabbitMQ node of the queues' leader, and the replicas beside it, cut off from the others", CutBrokerOff),
        new("relay-killed", "replica that leads the relay killed", async c => (await Relay(c)).Kill()),
        new("relay-stopped", "replica that leads the relay stopped", async c => await (await Relay(c)).Freeze()),
        new("relay-cut-off", "replica that leads the relay cut off from the databases", CutRelayOff),
        new("consumer-killed", "replica that takes events in killed", async c => (await Consumer(c)).Kill()),
        new("consumer-stopped", "replica that takes events in stopped", async c => await (await Consumer(c)).Freeze()),
        new("replica-killed", "replica that leads nothing killed", async c => (await Other(c)).Kill()),
        new("replica-stopped", "replica that leads nothing stopped", async c => await (await Other(c)).Freeze()),
        new("switchover", "planned switchover", c => c.SwitchOver()) { Writes = S(5) },
        new("machine-killed", "machine of the primary killed", async c => await c[(await c.Roles()).Primary].Kill()),
        new("machine-cut-off", "machine of the primary cut off", async c => await CutOff(c[(await c.Roles()).Primary])),
        new(
            "standby-machine-cut-off",
            "machine of the synchronous standby cut off",
            async c => await CutOff(c[(await c.Roles()).Synchronous])
        ),
    ];

    private static TimeSpan S(double seconds) => TimeSpan.FromSeconds(seconds);

    private static async Task CutPrimaryOffFromPeers(Cluster cluster)
    {
        var (primary, first, second) = await cluster.Roles();
        await Network.Cut([cluster[primary].Data], [cluster[first].Data, cluster[second].Data], client: false);
    }

    // Its node of RabbitMQ and its machine's other replicas are at the same address. All of them still reach the brokers and each other.
    private static async Task CutRelayOff(Cluster cluster)
    {
        var relay = cluster[await LeaderOfRelay(cluster)];
        await Network.Cut([relay.Services], [.. cluster.Machines.Select(m => m.Data)], client: false);
    }

    // The databases and the clients still reach what is cut off.
    private static async Task CutBrokerOff(Cluster cluster)
    {
        var leader = cluster[await Rabbit.LeaderOf("consular", cluster[1])];
        await Network.Cut([leader.Services], [.. cluster.Machines.Except([leader]).Select(m => m.Services)], client: false);
    }

    private static async Task StopStandbys(Cluster cluster)
    {
        var (_, first, second) = await cluster.Roles();
        await Task.WhenAll(cluster[first].FreezeDatabase(), cluster[second].FreezeDatabase());
    }

    private static async Task KillEtcd(Cluster cluster)
    {
        var machine = cluster[await Database.EtcdLeader()];
        machine.Etcd.Hold();
        machine.Etcd.Kill();
    }

    private static Task CutOff(Machine machine)
    {
        Host[] own = [machine.Data, machine.Services];
        return Network.Cut(own, Network.AllBut(own), client: true);
    }

    // The replica that leads renews its lease each second.
    private static async Task<Supervised> Relay(Cluster cluster) => cluster[await LeaderOfRelay(cluster)].Replicas["calllog"];

    private static Task<int> LeaderOfRelay(Cluster cluster) => cluster.LastToRun("calllog", "update leads set until");

    // Under this load, consular writes what its consumer takes in, and nothing else.
    private static async Task<Supervised> Consumer(Cluster cluster) =>
        cluster[await cluster.LastToRun("consular", "commit")].Replicas["consular"];

    private static async Task<Supervised> Other(Cluster cluster) =>
        cluster[await LeaderOfRelay(cluster) % Machine.Count + 1].Replicas["calllog"];
}
