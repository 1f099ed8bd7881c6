namespace Ministries.Cluster;

/// <summary>
/// One of the three machines. It is two hosts, so that its database can be cut off from the other databases and not from the services: one
/// has etcd, Patroni and PostgreSQL, the other one RabbitMQ and a replica of each service.
/// </summary>
internal sealed class Machine
{
    /// <summary>How many there are.</summary>
    public const int Count = 3;

    private Machine(int number, Host data, Host services, string folder) =>
        (Number, Data, Services, Folder) = (number, data, services, folder);

    /// <summary>1 to 3.</summary>
    public int Number { get; }

    /// <summary>The host of etcd and the database.</summary>
    public Host Data { get; }

    /// <summary>The host of the broker and the services.</summary>
    public Host Services { get; }

    /// <summary>Its files.</summary>
    public string Folder { get; }

    /// <summary>etcd.</summary>
    public required Supervised Etcd { get; init; }

    /// <summary>Patroni, which runs PostgreSQL.</summary>
    public required Supervised Patroni { get; init; }

    /// <summary>RabbitMQ.</summary>
    public required Supervised Broker { get; init; }

    /// <summary>The replicas, by the service's name.</summary>
    public required IReadOnlyDictionary<string, Supervised> Replicas { get; init; }

    private IEnumerable<Supervised> All => [Etcd, Patroni, Broker, .. Replicas.Values];

    /// <summary>Makes one.</summary>
    /// <param name="number">1 to 3.</param>
    /// <param name="folder">The folder for the files of the test.</param>
    /// <param name="plan">What is asked for.</param>
    public static async Task<Machine> Make(int number, string folder, Plan plan)
    {
        var own = Directory.CreateDirectory(Path.Combine(folder, $"machine{number}")).FullName;
        var data = await Network.Add($"data{number}", Database.AddressOf(number));
        var services = await Network.Add($"services{number}", Service.AddressOf(number));
        return new Machine(number, data, services, own)
        {
            Etcd = Database.Etcd(number, data, own),
            Patroni = Database.Patroni(number, data, own, plan),
            Broker = Rabbit.Node(number, services, own),
            Replicas = Service.Names.ToDictionary(name => name, name => Service.Replica(name, number, services, folder, plan)),
        };
    }

    /// <summary>Starts whatever does not run, and lets whatever was stopped go on.</summary>
    public async Task Start()
    {
        await Data.Thaw();
        await Services.Thaw();
        foreach (var one in All)
            one.Start();
    }

    /// <summary>Ends the database, Patroni included, at once, and keeps it down.</summary>
    public Task KillDatabase()
    {
        Patroni.Hold();
        return Data.Kill(IsDatabase);
    }

    /// <summary>Stops the database, Patroni included, from doing anything.</summary>
    public Task FreezeDatabase() => Data.Freeze(IsDatabase);

    /// <summary>Ends the broker at once, and keeps it down.</summary>
    public Task KillBroker()
    {
        Broker.Hold();
        return Services.Kill(Rabbit.IsPart);
    }

    /// <summary>Stops the broker from doing anything.</summary>
    public Task FreezeBroker() => Services.Freeze(Rabbit.IsPart);

    /// <summary>Ends everything at once, as if the power failed, and keeps it down.</summary>
    public async Task Kill()
    {
        foreach (var one in All)
            one.Hold();
        await Task.WhenAll(Data.Kill(_ => true), Services.Kill(_ => true));
    }

    private static bool IsDatabase(string process) => process != "etcd";
}
