using System.Text.Json.Nodes;

namespace Ministries.Deploy.Tests;

/// <summary>What the network policies of <c>deploy/kubernetes</c> let talk to what, computed as Kubernetes computes it.</summary>
public sealed class NetworkPolicyTests
{
    private sealed record Group(string Name, string Namespace, params (string Key, string Value)[] Labels);

    private static readonly string[] Services = ["calllog", "custody", "consular"];

    // The labels are those that the manifests, the operators and Kubernetes give.
    private static readonly Group[] Groups =
    [
        .. Services.Select(s => new Group(s, "ministries", ("app.kubernetes.io/name", s), ("app.kubernetes.io/part-of", "ministries"))),
        .. Services.Select(s => new Group($"{s}-db", "ministries", ("cnpg.io/cluster", $"{s}-db"), ("cnpg.io/podRole", "instance"))),
        new("rabbitmq", "ministries", ("app.kubernetes.io/name", "rabbitmq"), ("app.kubernetes.io/part-of", "rabbitmq")),
        new("tables", "ministries", ("app.kubernetes.io/name", "tables")),
        new("another pod", "ministries", ("app.kubernetes.io/name", "another")),
        new("prometheus", "monitoring", ("app.kubernetes.io/name", "prometheus")),
        new("another of monitoring", "monitoring", ("app.kubernetes.io/name", "another")),
        new("cloudnative-pg", "cnpg-system", ("app.kubernetes.io/name", "cloudnative-pg")),
        new("cluster-operator", "rabbitmq-system", ("app.kubernetes.io/name", "rabbitmq-cluster-operator")),
        new("names", "kube-system", ("k8s-app", "kube-dns")),
        new("elsewhere", "default"),
    ];

    private static readonly int[] Ports =
    [
        53,
        443,
        4369,
        5432,
        5671,
        5672,
        6443,
        7100,
        8000,
        8080,
        9187,
        9464,
        15671,
        15672,
        15691,
        25672,
        35672,
    ];

    [Fact]
    public void Only_what_must_talks_to_what_it_must()
    {
        var policies = Manifests.Of("base").Where(m => m.Kind == "NetworkPolicy").ToList();
        var found = (
            from source in Groups
            from target in Groups
            from port in Ports
            where source.Namespace == "ministries" || target.Namespace == "ministries"
            where Allows(policies, source, target, port, "egress") && Allows(policies, target, source, port, "ingress")
            select $"{source.Name} to {target.Name}:{port}"
        ).ToHashSet();
        var ours = Groups.Where(g => g.Namespace == "ministries").Select(g => g.Name).ToList();
        string[] outside = ["another of monitoring", "cloudnative-pg", "cluster-operator", "names", "elsewhere", "prometheus"];
        HashSet<string> expected =
        [
            .. from a in Services from b in Services select $"{a} to {b}:7100",
            .. Services.SelectMany(s =>
                new[]
                {
                    $"{s} to {s}-db:5432",
                    $"tables to {s}-db:5432",
                    $"{s} to rabbitmq:5671",
                    $"{s}-db to {s}-db:5432",
                    $"{s}-db to {s}-db:8000",
                    $"cloudnative-pg to {s}-db:5432",
                    $"cloudnative-pg to {s}-db:8000",
                    $"prometheus to {s}:9464",
                    $"prometheus to {s}-db:9187",
                }
            ),
            .. new[] { 4369, 25672, 35672 }.Select(p => $"rabbitmq to rabbitmq:{p}"),
            "cluster-operator to rabbitmq:15671",
            "prometheus to rabbitmq:15691",
            .. ours.Select(g => $"{g} to names:53"),
            // Kubernetes' API and the store of the backups, whose addresses an overlay knows. They are outside this namespace.
            .. from g in Services.Select(s => $"{s}-db").Append("rabbitmq")
            from o in outside
            from p in new[] { 443, 6443 }
            select $"{g} to {o}:{p}",
        ];
        Assert.Equal(expected.Order(), found.Order());
    }

    [Fact]
    public void Every_pod_has_a_policy_of_its_own_in_both_directions()
    {
        var policies = Manifests.Of("base").Where(m => m.Kind == "NetworkPolicy").ToList();
        Assert.All(
            policies.Where(p => p.Name != "names"),
            p => Assert.Equal(["Ingress", "Egress"], p.Spec["policyTypes"]!.AsArray().Select(t => (string)t!))
        );
        var nothing = policies.Single(p => p.Name == "nothing").Spec;
        Assert.Empty(nothing["podSelector"]!.AsObject());
        Assert.Null(nothing["ingress"]);
        Assert.Null(nothing["egress"]);
        foreach (var name in new[] { "calllog", "custody", "consular", "calllog-db", "custody-db", "consular-db", "rabbitmq", "tables" })
            Assert.Contains(policies, p => p.Name == name && Selects(p.Spec["podSelector"], Groups.Single(g => g.Name == name)));
    }

    private static bool Allows(List<Manifest> policies, Group of, Group other, int port, string direction)
    {
        if (of.Namespace != "ministries")
            return true;
        var about = policies
            .Where(p =>
                Selects(p.Spec["podSelector"], of)
                && p.Spec["policyTypes"]!.AsArray().Any(t => string.Equals((string)t!, direction, StringComparison.OrdinalIgnoreCase))
            )
            .ToList();
        return about.Count == 0
            || about
                .SelectMany(p => p.Spec[direction]?.AsArray() ?? [])
                .Any(rule =>
                    IsPeer(rule![direction == "egress" ? "to" : "from"]?.AsArray(), other) && IsPort(rule["ports"]?.AsArray(), port)
                );
    }

    private static bool IsPeer(JsonArray? peers, Group other) =>
        peers is null
        || peers.Any(p =>
            p!["ipBlock"] is null
            && (
                p["namespaceSelector"] is { } place
                    ? Selects(place, new("", "", ("kubernetes.io/metadata.name", other.Namespace)))
                    : other.Namespace == "ministries"
            )
            && Selects(p["podSelector"], other)
        );

    private static bool IsPort(JsonArray? ports, int port) =>
        ports is null || ports.Any(p => port >= (int)p!["port"]! && port <= (int)(p["endPort"] ?? p["port"])!);

    private static bool Selects(JsonNode? selector, Group group)
    {
        string? Of(string key) => group.Labels.FirstOrDefault(l => l.Key == key).Value;
        return selector is null
            || (selector["matchLabels"]?.AsObject() ?? []).All(l => Of(l.Key) == (string)l.Value!)
                && (selector["matchExpressions"]?.AsArray() ?? []).All(e =>
                    e!["values"]!.AsArray().Any(v => (string)v! == Of((string)e["key"]!))
                );
    }
}
