using System.Diagnostics;
using Npgsql;

namespace Ministries.Cluster;

/// <summary>Three machines with everything that a deployment has.</summary>
internal sealed class Cluster
{
    private readonly string _folder;
    private readonly Plan _plan;

    private Cluster(string folder, Plan plan, IReadOnlyList<Machine> machines) => (_folder, _plan, Machines) = (folder, plan, machines);

    /// <summary>The machines.</summary>
    public IReadOnlyList<Machine> Machines { get; }

    /// <summary>The machine of a number.</summary>
    /// <param name="number">1 to 3.</param>
    public Machine this[int number] => Machines[number - 1];

    /// <summary>Builds it and returns when everything is ready.</summary>
    /// <param name="folder">For its files.</param>
    /// <param name="plan">What is asked for.</param>
    /// <exception cref="TimeoutException">It does not become ready.</exception>
    public static async Task<Cluster> Build(string folder, Plan plan)
    {
        Service.MakeKeys(folder);
        await Network.Make();
        var machines = new List<Machine>();
        for (var number = 1; number <= Machine.Count; number++)
            machines.Add(await Machine.Make(number, folder, plan));
        var cluster = new Cluster(folder, plan, machines);
        foreach (var machine in machines)
        {
            machine.Etcd.Start();
            machine.Broker.Start();
            _ = machine.Broker.Watch(() => Rabbit.Serves(machine.Number), Rabbit.Patience);
            machine.Patroni.Start();
        }
        await cluster.Until("the databases", () => Database.IsWhole(plan.Replicates), TimeSpan.FromMinutes(3));
        await cluster.MakeDatabases();
        foreach (var replica in machines.SelectMany(m => m.Replicas.Values))
            replica.Start();
        await cluster.Join(TimeSpan.FromMinutes(4));
        return cluster;
    }

    /// <summary>Switches the primary to the synchronous standby, as an operator does before he works on a machine.</summary>
    public async Task SwitchOver()
    {
        var (primary, _, _) = await Roles();
        await Database.SwitchOver(this[primary].Data, _folder);
    }

    /// <summary>The machine whose database is the primary, the one whose database confirms its commits, and the other one.</summary>
    public async Task<(int Primary, int Synchronous, int Other)> Roles()
    {
        (int, int, int)? roles = null;
        await Until("a primary with a standby", async () => (roles = await Database.Roles()) is not null, TimeSpan.FromSeconds(60));
        return roles!.Value;
    }

    /// <summary>The machine whose replica of a service was the last one to run a statement of some kind.</summary>
    /// <param name="service">The service, whose database is asked.</param>
    /// <param name="statement">How the statement begins.</param>
    /// <exception cref="TimeoutException">There is none.</exception>
    public async Task<int> LastToRun(string service, string statement)
    {
        var machine = 0;
        await Until(
            $"a replica of {service} that runs '{statement}'",
            async () =>
            {
                var (primary, _, _) = await Roles();
                await using var source = NpgsqlDataSource.Create(Database.At(primary, service));
                await using var command = source.CreateCommand(
                    "select host(client_addr) from pg_stat_activity where datname = current_database() and query like $1 "
                        + "order by state_change desc limit 1"
                );
                command.Parameters.Add(new NpgsqlParameter { Value = statement + "%" });
                machine = await command.ExecuteScalarAsync() is string address ? address[^1] - '0' : 0;
                return machine > 0;
            },
            TimeSpan.FromSeconds(60)
        );
        return machine;
    }

    /// <summary>Mends everything, and returns when all of it is there again.</summary>
    /// <param name="patience">How long that may take.</param>
    /// <exception cref="TimeoutException">Something does not join by itself.</exception>
    public async Task Join(TimeSpan patience)
    {
        await Network.Heal();
        foreach (var machine in Machines)
            await machine.Start();
        var began = Stopwatch.GetTimestamp();
        TimeSpan Left() => patience - Stopwatch.GetElapsedTime(began);
        await Until("the databases", () => Database.IsWhole(_plan.Replicates), Left());
        await Until("the services", () => Service.AreReady(_folder), Left());
        await Until("the brokers", () => Rabbit.IsWhole(this[1]), Left());
    }

    private async Task Until(string what, Func<Task<bool>> holds, TimeSpan patience)
    {
        var began = Stopwatch.GetTimestamp();
        while (true)
        {
            try
            {
                if (await holds())
                    return;
            }
            catch (Exception e) when (e is NpgsqlException or TimeoutException or HttpRequestException)
            {
                // Not yet.
            }
            if (Stopwatch.GetElapsedTime(began) > patience)
                throw new TimeoutException($"{what}: not there after {patience.TotalSeconds:F0} s; the logs are in {_folder}");
            await Task.Delay(250);
        }
    }

    private async Task MakeDatabases()
    {
        var (primary, _, _) = await Roles();
        await using var source = NpgsqlDataSource.Create(Database.At(primary, "postgres"));
        string[] statements = ["create role ministries login", .. Service.Names.Select(name => $"create database {name} owner ministries")];
        foreach (var statement in statements)
        {
            await using var command = source.CreateCommand(statement);
            command.CommandTimeout = 30;
            await command.ExecuteNonQueryAsync();
        }
    }
}
