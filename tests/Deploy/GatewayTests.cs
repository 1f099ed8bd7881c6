using System.CommandLine;
using Ministries.Gateway;
using Ministries.Ministry;
using YamlDotNet.Core;
using YamlDotNet.Serialization;

namespace Ministries.Deploy.Tests;

/// <summary>The gateways of <c>docker-compose.yml</c>: each participant that the played case calls by one has one, with its own keys, in
/// networks that nobody else needs. And the networks of the services.</summary>
public sealed class GatewayTests : IDisposable
{
    private static readonly Dictionary<object, object> Base = Read("docker-compose.yml");
    private static readonly Dictionary<object, object> Production = Read("deploy/compose.prod.yml");

    // As `play` names them: the participant, and the address at which it calls.
    private static readonly Dictionary<string, Uri> Played = Arguments(Base, "play", "--gateway=")
        .Select(a => a.Split('=', 2))
        .ToDictionary(a => a[0], a => new Uri(a[1]));

    private readonly string _secrets = Directory.CreateTempSubdirectory("ministries-gateways-").FullName;

    public static TheoryData<string> Participants => [.. Played.Keys];

    public void Dispose() => Directory.Delete(_secrets, recursive: true);

    [Fact]
    public void Whoever_acts_in_the_case_has_a_gateway_wherever_secrets_are_made()
    {
        string[] acting = ["icrc", "kr/mfa", "ua/coordination-hq", "ua/mfa"];
        Assert.Equal(acting, Played.Keys.Order());
        foreach (var file in (Dictionary<object, object>[])[Base, Production, Read("deploy/compose.ha.yml")])
            Assert.Equal(acting, Arguments(file, "secrets", "--gateway=").Order());
        Assert.Equal(
            Played.Keys.Select(NameOf).Order(),
            Map(Base, "services").Keys.Cast<string>().Where(s => s.StartsWith("gateway-", StringComparison.Ordinal)).Order()
        );
        Assert.All(Played.Keys, p => Assert.Contains(NameOf(p), Map(Container(Base, "play"), "depends_on").Keys));
    }

    [Theory]
    [MemberData(nameof(Participants))]
    public void A_gateway_is_in_the_networks_that_it_needs_and_listens_in_two_of_its_own(string participant)
    {
        var (name, systems) = (NameOf(participant), $"systems-{participant.Replace('/', '-')}");
        Assert.Equal(
            new[] { $"metrics-{name}", "services", systems, "traces" }.Order(),
            Map(Container(Base, name), "networks").Keys.Cast<string>().Order()
        );
        // What is published from this machine or shared with others would be another way in.
        Assert.DoesNotContain("ports", Container(Base, name).Keys);
        Assert.Equal([name, "play"], MembersOf(Base, systems));
        Assert.Equal([name], MembersOf(Base, $"metrics-{name}"));
        Assert.Equal(["prometheus"], MembersOf(Production, $"metrics-{name}"));
        Assert.Empty(MembersOf(Production, systems));
        foreach (var own in (string[])[systems, $"metrics-{name}"])
            Assert.Equal("true", (string)Map(Map(Base, "networks"), own)["internal"]);
    }

    [Theory]
    [InlineData("calllog")]
    [InlineData("custody")]
    [InlineData("consular")]
    public void A_service_shares_its_database_its_broker_and_its_metrics_with_no_other_service(string name)
    {
        string[] own = [$"broker-{name}", $"database-{name}", $"metrics-{name}"];
        Assert.Equal(own.Concat(["services", "traces"]).Order(), Map(Container(Base, name), "networks").Keys.Cast<string>().Order());
        Assert.Equal([name, "rabbitmq"], MembersOf(Base, own[0]));
        Assert.Equal([name, "postgres"], MembersOf(Base, own[1]));
        Assert.Equal([name], MembersOf(Base, own[2]));
        Assert.Equal([$"{name}-metrics"], AliasesOf(name, own[2]));
        Assert.Equal(["prometheus"], MembersOf(Production, own[2]));
        Assert.All(own[..2], n => Assert.Empty(MembersOf(Production, n)));
        Assert.All(own, n => Assert.Equal("true", (string)Map(Map(Base, "networks"), n)["internal"]));
    }

    [Theory]
    [MemberData(nameof(Participants))]
    public void It_listens_where_play_calls_and_Prometheus_reads_by_names_that_it_has_there_alone(string participant)
    {
        var name = NameOf(participant);
        var made = new RootCommand { DeploymentCommand.Create() }
            .Parse(["deployment", "init", "--out", _secrets, "--gateway", participant])
            .Invoke();
        Assert.Equal(0, made);
        var settings = GatewaySettings.Read(Path.Combine(_secrets, name, "gateway.json"));
        Assert.Equal((participant, Played[participant]), (settings.Participant, settings.Listen));
        Assert.Equal([settings.Listen.Host], AliasesOf(name, $"systems-{participant.Replace('/', '-')}"));
        Assert.Equal([settings.Metrics!.Host], AliasesOf(name, $"metrics-{name}"));
        Assert.Contains(
            $"- targets: [\"{settings.Metrics.Authority}\"]\n        labels: {{ participant: {participant} }}",
            File.ReadAllText(Path.Combine(Manifests.Root, "deploy", "prometheus", "prometheus.yml"))
        );
        Assert.All(
            settings.Services,
            s => Assert.Equal(Assert.Single(s.Value), new Uri(Assert.Single(Arguments(Base, "play", $"--at={s.Key}="))))
        );
    }

    [Theory]
    [MemberData(nameof(Participants))]
    public void It_has_its_own_secrets_and_its_own_state_and_nobody_else_has_them(string participant)
    {
        var (name, container) = (NameOf(participant), Container(Base, NameOf(participant)));
        Assert.Equal([$"secrets-{name}:/secrets:ro", $"{name}-data:/data"], ((List<object>)container["volumes"]).Cast<string>());
        foreach (var file in (Dictionary<object, object>[])[Base, Production])
        foreach (var (other, its) in Map(file, "services"))
            if ((string)other != name && ((Dictionary<object, object>)its).TryGetValue("volumes", out var volumes))
                Assert.DoesNotContain(
                    (List<object>)volumes,
                    v =>
                        ((string)v).StartsWith($"{name}-data:", StringComparison.Ordinal)
                        || ((string)v).StartsWith($"secrets-{name}:", StringComparison.Ordinal) && (string)other != "secrets"
                );
        // A volume that is mounted for the first time takes the owner of the image's folder.
        Assert.Matches($@"\b{name}\b", File.ReadAllText(Path.Combine(Manifests.Root, "deploy", "Dockerfile")));
        // Hardened like the services.
        var service = Container(Base, "calllog");
        foreach (var key in (string[])["image", "user", "read_only", "cap_drop", "security_opt", "tmpfs", "logging", "ulimits"])
            Assert.Equivalent(service[key], container[key], strict: true);
        Assert.Equal("256m", container["mem_limit"]);
        Assert.Equal(
            ["CMD", "dotnet", "/app/ministry.dll", "serve", "health", "--settings", "/secrets/gateway.json"],
            ((List<object>)Map(container, "healthcheck")["test"]).Cast<string>()
        );
    }

    [Fact]
    public void The_networks_fit_in_the_standard_address_pools_of_one_machine()
    {
        var networks = Map(Base, "networks").Count;
        // As deploy/README.md says; the engine has one of its own.
        var production = networks + Map(Production, "networks").Count;
        Assert.Contains(
            $"There are {networks} networks, in production {production}.",
            File.ReadAllText(Path.Combine(Manifests.Root, "deploy", "README.md"))
        );
        Assert.True(production < 31, $"{production}");
    }

    private static string NameOf(string participant) => $"gateway-{participant.Replace('/', '-')}";

    private static IEnumerable<string> AliasesOf(string container, string network) =>
        ((List<object>)Map(Map(Container(Base, container), "networks"), network)["aliases"]).Cast<string>();

    private static IEnumerable<string> MembersOf(Dictionary<object, object> file, string network) =>
        Map(file, "services")
            .Where(s =>
                ((Dictionary<object, object>)s.Value).GetValueOrDefault("networks") switch
                {
                    Dictionary<object, object> map => map.ContainsKey(network),
                    List<object> list => list.Contains(network),
                    _ => false,
                }
            )
            .Select(s => (string)s.Key)
            .Order();

    private static IEnumerable<string> Arguments(Dictionary<object, object> file, string container, string begin) =>
        ((List<object>)Container(file, container)["command"])
            .Cast<string>()
            .Where(a => a.StartsWith(begin, StringComparison.Ordinal))
            .Select(a => a[begin.Length..]);

    private static Dictionary<object, object> Container(Dictionary<object, object> file, string name) => Map(Map(file, "services"), name);

    private static Dictionary<object, object> Map(Dictionary<object, object> file, string key) => (Dictionary<object, object>)file[key];

    private static Dictionary<object, object> Read(string file)
    {
        using var text = File.OpenText(Path.Combine(Manifests.Root, file));
        return new DeserializerBuilder().Build().Deserialize<Dictionary<object, object>>(new MergingParser(new Parser(text)));
    }
}
