namespace Ministries.Cluster;

/// <summary>
/// The network of the test: a bridge in the network namespace that the command made for itself, and one more namespace for each host. The
/// addresses exist only there. Cutting two hosts off from each other discards what arrives, so that neither notices anything but silence.
/// </summary>
internal static class Network
{
    /// <summary>The address of the clients, which run in the command's own namespace.</summary>
    public const string Client = "10.77.0.1";

    private static readonly List<Host> Hosts = [];

    /// <summary>Makes the bridge.</summary>
    public static async Task Make()
    {
        await Ip("link set lo up");
        await Ip("link add cluster type bridge");
        await Ip($"address add {Client}/24 dev cluster");
        await Ip("link set cluster up");
    }

    /// <summary>Adds a host.</summary>
    /// <param name="name">The name of its namespace.</param>
    /// <param name="address">Its address.</param>
    public static async Task<Host> Add(string name, string address)
    {
        await Ip($"netns add {name}");
        await Ip($"link add {name} type veth peer name eth0 netns {name}");
        await Ip($"link set {name} master cluster up");
        await Ip($"-n {name} link set lo up");
        await Ip($"-n {name} address add {address}/24 dev eth0");
        await Ip($"-n {name} link set eth0 up");
        var host = new Host(name, address);
        Hosts.Add(host);
        return host;
    }

    /// <summary>Cuts hosts off from others, in both directions.</summary>
    /// <param name="some">The hosts.</param>
    /// <param name="others">Those that they do not reach any more.</param>
    /// <param name="client">Whether they do not reach the clients any more either.</param>
    public static async Task Cut(IReadOnlyCollection<Host> some, IReadOnlyCollection<Host> others, bool client)
    {
        foreach (var one in some)
        {
            foreach (var other in others)
            {
                await Discard(one, other.Address);
                await Discard(other, one.Address);
            }
            if (!client)
                continue;
            await Discard(one, Client);
            await Tool.Run("iptables", "-w", "-A", "INPUT", "-s", one.Address, "-j", "DROP");
        }
    }

    /// <summary>All hosts but these.</summary>
    public static IReadOnlyList<Host> AllBut(params IReadOnlyCollection<Host> these) => [.. Hosts.Except(these)];

    /// <summary>Lets all reach each other again.</summary>
    public static async Task Heal()
    {
        await Tool.Run("iptables", "-w", "-F", "INPUT");
        foreach (var host in Hosts)
            await host.Run("iptables", "-w", "-F", "INPUT");
    }

    private static Task Discard(Host at, string from) => at.Run("iptables", "-w", "-A", "INPUT", "-s", from, "-j", "DROP");

    private static Task Ip(string arguments) => Tool.Run("ip", arguments.Split(' '));
}
