using Grpc.Core;
using Grpc.Health.V1;
using Ministries.Client;
using Ministries.Hosting;
using Ministries.Trust;

namespace Ministries.Cluster;

/// <summary>The three services, a replica of each on each machine.</summary>
internal static class Service
{
    private static readonly Dictionary<string, (string Program, int Port)> Programs = new()
    {
        ["calllog"] = ("Ministries.CallLog.dll", 7101),
        ["custody"] = ("Ministries.Custody.dll", 7102),
        ["consular"] = ("Ministries.Consular.dll", 7103),
    };

    /// <summary>Their names.</summary>
    public static IReadOnlyCollection<string> Names => Programs.Keys;

    /// <summary>The address of a machine's services.</summary>
    /// <param name="machine">1 to 3.</param>
    public static string AddressOf(int machine) => $"10.77.0.2{machine}";

    /// <summary>Makes keys, certificates and the agreement.</summary>
    /// <param name="folder">The folder for the files of the test.</param>
    public static void MakeKeys(string folder) =>
        Pki.Init(
            KeysIn(folder),
            StandardAgreement.Read(),
            TimeProvider.System,
            sealing: null,
            hosts: [.. Enumerable.Range(1, Machine.Count).Select(AddressOf)]
        );

    /// <summary>A replica on a machine.</summary>
    public static Supervised Replica(string name, int number, Host host, string folder, Plan plan)
    {
        string Own(string file) => Path.Combine(KeysIn(folder), "service", name, file);
        var settings = new Dictionary<string, string>
        {
            ["Ledger__Connection"] = Database.Primary(name),
            ["Ledger__ExpectReplication"] = "true",
            ["Broker__Uri"] = Rabbit.Addresses(number),
            ["Listen"] = AddressOf(name, number).ToString(),
            ["Certificate"] = Own("system.pem"),
            ["CertificateKey"] = Own("system.key"),
            ["Checkpoint__Key"] = Own("checkpoint.key"),
            ["Checkpoint__File"] = Path.Combine(folder, $"machine{number}", $"{name}.checkpoint"),
            ["Agreement"] = Path.Combine(KeysIn(folder), "agreement.json"),
            ["DOTNET_TieredPGO"] = "0",
        };
        foreach (var peer in Names)
            settings[$"Peers__{peer}"] = string.Join(',', Enumerable.Range(1, Machine.Count).Select(n => AddressOf(peer, n)));
        string Program(string file) => Path.Combine(AppContext.BaseDirectory, file);
        string[] command =
            plan.Removed.Count == 0
                ? ["dotnet", "exec", Program(Programs[name].Program)]
                : ["dotnet", "exec", Program("Ministries.FaultHost.dll"), name, .. plan.Removed, "--"];
        return new Supervised(host, Path.Combine(folder, $"machine{number}", $"{name}.log"), "root", settings, command);
    }

    /// <summary>A participant's client, which knows all replicas.</summary>
    public static MinistryClient ClientOf(string participant, string folder) => Client(participant, folder, [1, 2, 3]);

    /// <summary>Whether all replicas are ready: they serve calls and pass messages through the broker.</summary>
    public static async Task<bool> AreReady(string folder)
    {
        foreach (var machine in Enumerable.Range(1, Machine.Count))
        {
            using var client = Client("operator", folder, [machine]);
            foreach (var name in Names)
                try
                {
                    var answer = await new Health.HealthClient(client[name]).CheckAsync(
                        new HealthCheckRequest { Service = ServiceHost.Ready },
                        deadline: DateTime.UtcNow.AddSeconds(3)
                    );
                    if (answer.Status != HealthCheckResponse.Types.ServingStatus.Serving)
                        return false;
                }
                catch (RpcException)
                {
                    return false;
                }
        }
        return true;
    }

    private static MinistryClient Client(string participant, string folder, int[] machines) =>
        new(
            MinistrySettings.In(KeysIn(folder), participant, Names.ToDictionary(n => n, n => AddressOf(n, machines[0]))) with
            {
                FurtherAddresses = Names.ToDictionary(n => n, n => (IReadOnlyList<Uri>)[.. machines.Skip(1).Select(m => AddressOf(n, m))]),
            }
        );

    private static Uri AddressOf(string name, int machine) => new($"https://{AddressOf(machine)}:{Programs[name].Port}");

    private static string KeysIn(string folder) => Path.Combine(folder, "keys");
}
