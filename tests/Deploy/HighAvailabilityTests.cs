using System.CommandLine;
using Ministries.Gateway;
using Ministries.Ministry;
using YamlDotNet.Core;
using YamlDotNet.Serialization;

namespace Ministries.Deploy.Tests;

/// <summary><c>deploy/compose.ha.yml</c>: three database servers, three nodes of the broker, two replicas of each service, each as
/// <c>docker-compose.yml</c> has the first one.</summary>
public sealed class HighAvailabilityTests
{
    private static readonly string[] Services = ["calllog", "custody", "consular"];

    private static readonly Dictionary<object, object> Base = Read("docker-compose.yml");
    private static readonly Dictionary<object, object> More = Read("deploy/compose.ha.yml");

    public static TheoryData<string, string> Twins =>
        new(
            ("calllog", "calllog-2"),
            ("custody", "custody-2"),
            ("consular", "consular-2"),
            ("postgres", "postgres-2"),
            ("postgres", "postgres-3"),
            ("rabbitmq", "rabbitmq-2"),
            ("rabbitmq", "rabbitmq-3")
        );

    [Theory]
    [MemberData(nameof(Twins))]
    public void Each_further_one_is_as_the_first_one_but_for_its_name_and_its_volume(string first, string further)
    {
        // Only the first replica is published, by compose; the first server begins a new database.
        string[] own = ["ports", "hostname"];
        var (one, other) = (Merged(first), Merged(further));
        Assert.Equal(one.Keys.Except(own).Order(), other.Keys.Except(own).Order());
        foreach (var key in one.Keys.Except(own))
            Assert.Equal((key, Renamed(Text(one[key]), first)), (key, Renamed(Text(other[key]), further)));
        Assert.NotEqual(Volumes(one, "-data"), Volumes(other, "-data"));
        Assert.All(Volumes(other, "-data"), v => Assert.Contains(v, Map(More, "volumes").Keys));
    }

    [Fact]
    public void Each_server_waits_for_one_of_the_two_others()
    {
        string[] servers = ["postgres", "postgres-2", "postgres-3"];
        foreach (var server in servers)
        {
            var others = string.Join(',', servers.Except([server]).Select(s => $"\"{s}\""));
            Assert.Equal($"synchronous_standby_names=ANY 1 ({others})", ((List<object>)Merged(server)["command"])[^1]);
            Assert.Equal(server, Merged(server)["hostname"]);
        }
    }

    [Fact]
    public void A_gateway_calls_every_replica()
    {
        var folder = Directory.CreateTempSubdirectory("ha").FullName;
        var command = ((List<object>)Merged("secrets")["command"])
            .Cast<string>()
            .SkipWhile(a => a != "deployment")
            .Select(a => a == "--out=/secrets" ? $"--out={folder}" : a);
        Assert.Equal(
            0,
            new RootCommand { DeploymentCommand.Create() }
                .Parse([.. command])
                .Invoke()
        );
        var called = GatewaySettings.Read(Path.Combine(folder, "gateway-kr-mfa", "gateway.json")).Services;
        var environment = Map(More, "x-environment");
        foreach (var service in Services)
            Assert.Equal(
                (string)environment[$"Peers__{service}"],
                string.Join(',', called[service].Select(a => a.GetLeftPart(UriPartial.Authority)))
            );
        Directory.Delete(folder, recursive: true);
    }

    [Fact]
    public void The_addresses_that_are_given_out_are_those_of_containers()
    {
        var containers = Map(Base, "services").Keys.Concat(Map(More, "services").Keys).ToHashSet();
        var given = ((List<object>)Merged("secrets")["command"])
            .Cast<string>()
            .Where(a => a.StartsWith("--database=", StringComparison.Ordinal) || a.StartsWith("--broker=", StringComparison.Ordinal))
            .Select(a => a.Split('=')[1])
            .ToList();
        Assert.Equal(["postgres", "postgres-2", "postgres-3", "rabbitmq", "rabbitmq-2", "rabbitmq-3"], given);
        Assert.All(given, g => Assert.Contains(g, containers));
        var nodes = File.ReadAllLines(Path.Combine(Manifests.Root, "deploy", "rabbitmq", "cluster.conf"))
            .Where(l => l.Contains(".nodes.", StringComparison.Ordinal))
            .Select(l => l.Split('@')[1]);
        Assert.Equal(given[3..], nodes);
        foreach (var service in Services)
        {
            var peers = (string)((Dictionary<object, object>)Merged(service)["environment"])[$"Peers__{service}"];
            Assert.Equal($"https://{service}:7100,https://{service}-2:7100", peers);
        }
    }

    private static List<string> Volumes(Dictionary<object, object> container, string end) =>
        [
            .. ((List<object>)container["volumes"])
                .Select(v => ((string)v).Split(':')[0])
                .Where(v => v.EndsWith(end, StringComparison.Ordinal) && !v.StartsWith('.')),
        ];

    // What is the container's own stands under its name.
    private static string Renamed(string text, string name) =>
        text.Replace($"{name}-data", "own-data", StringComparison.Ordinal)
            .Replace($"{name}-metrics", "own-metrics", StringComparison.Ordinal)
            .Replace("\"postgres\"", "other", StringComparison.Ordinal)
            .Replace("\"postgres-2\"", "other", StringComparison.Ordinal)
            .Replace("\"postgres-3\"", "other", StringComparison.Ordinal);

    private static string Text(object value) =>
        value switch
        {
            Dictionary<object, object> map => string.Join(
                '\n',
                map.OrderBy(e => (string)e.Key, StringComparer.Ordinal).Select(e => $"{e.Key}: {Text(e.Value)}")
            ),
            List<object> list => string.Join('\n', list.Select(Text).Order(StringComparer.Ordinal)),
            _ => $"{value}",
        };

    // As compose merges two files: maps are merged, lists of volumes are put together, everything else is replaced.
    private static Dictionary<object, object> Merged(string container)
    {
        var first = Map(Base, "services").TryGetValue(container, out var there) ? (Dictionary<object, object>)there : [];
        var second = Map(More, "services").TryGetValue(container, out var more) ? (Dictionary<object, object>)more : [];
        var merged = new Dictionary<object, object>(first);
        foreach (var (key, value) in second)
            merged[key] = (merged.GetValueOrDefault(key), value) switch
            {
                (Dictionary<object, object> a, Dictionary<object, object> b) => a.Concat(b)
                    .GroupBy(e => e.Key)
                    .ToDictionary(g => g.Key, g => g.Last().Value),
                (List<object> a, List<object> b) when key is "volumes" or "networks" => a.Concat(b).Distinct().ToList(),
                _ => value,
            };
        // Only the first start makes databases.
        if (merged.TryGetValue("volumes", out var volumes))
            merged["volumes"] = ((List<object>)volumes)
                .Where(v => !((string)v).Contains("docker-entrypoint-initdb.d", StringComparison.Ordinal))
                .ToList();
        return merged;
    }

    private static Dictionary<object, object> Map(Dictionary<object, object> file, string key) => (Dictionary<object, object>)file[key];

    private static Dictionary<object, object> Read(string file)
    {
        using var text = File.OpenText(Path.Combine(Manifests.Root, file));
        return new DeserializerBuilder().Build().Deserialize<Dictionary<object, object>>(new MergingParser(new Parser(text)));
    }
}
