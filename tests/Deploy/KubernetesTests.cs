using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using k8s;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.Primitives;
using Ministries.Hosting;
using Ministries.Trust;
using YamlDotNet.Core;

namespace Ministries.Deploy.Tests;

/// <summary>What stands in <c>deploy/kubernetes</c>: read strictly, and held to what the rest of <c>deploy/</c> and the services
/// say.</summary>
public sealed partial class KubernetesTests
{
    private static readonly string[] Services = ["calllog", "custody", "consular"];
    private static readonly string Base = Path.Combine(Manifests.Folder, "base");

    /// <summary>What is applied: the base as it stands, and the example.</summary>
    public static TheoryData<string> Applied => ["base", "overlays/example"];

    private static bool IsBuiltIn(Manifest m) => m.ApiVersion is "v1" or "apps/v1" or "batch/v1" or "policy/v1" or "networking.k8s.io/v1";

    [Fact]
    public void Kubernetes_own_objects_have_no_field_that_they_do_not_know()
    {
        List<string> kinds = [];
        foreach (var file in Directory.EnumerateFiles(Manifests.Folder, "*.yaml", SearchOption.AllDirectories))
        foreach (var text in Documents().Split(File.ReadAllText(file)))
            if (Manifests.Parse(text).Single() is var content && content["kind"] is { } kind && (string)kind! != "Kustomization")
                if (IsBuiltIn(new Manifest(file, content)))
                {
                    var read = KubernetesYaml.LoadAllFromString(text, strict: true).Single();
                    Assert.Equal($"V1{kind}", read.GetType().Name);
                    kinds.Add((string)kind!);
                }
        Assert.Equal(
            ["ConfigMap", "Job", "Namespace", "NetworkPolicy", "PodDisruptionBudget", "Service", "ServiceAccount", "StatefulSet"],
            kinds.Distinct().Order()
        );
    }

    [Fact]
    public void A_field_that_is_not_known_would_be_found()
    {
        var text = File.ReadAllText(Path.Combine(Base, "network.yaml"));
        Assert.ThrowsAny<YamlException>(() =>
            KubernetesYaml.LoadAllFromString(text.Replace("podSelector: {}", "podSelectors: {}"), strict: true)
        );
        var definition = Manifests.Parse(
            """
            kind: CustomResourceDefinition
            spec:
              group: example
              names: { kind: Thing }
              versions:
                - name: v1
                  schema:
                    openAPIV3Schema:
                      type: object
                      required: [spec]
                      properties:
                        spec:
                          type: object
                          required: [size]
                          properties:
                            size: { type: integer, minimum: 1 }
                            kinds: { type: array, items: { type: string, enum: [a, b] } }
                            names: { type: object, additionalProperties: { type: string, pattern: ^x } }
            """
        );
        var (key, schema) = Schemas.Of(definition.Single()).Single();
        Assert.Equal("example/v1/Thing", key);
        IEnumerable<string> Faults(string spec) =>
            Schemas.Faults(Manifests.Parse($"apiVersion: example/v1\nkind: Thing\nmetadata: {{ name: x }}\n{spec}").Single(), schema);
        Assert.Empty(Faults("spec: { size: 1, kinds: [a], names: { n: xy } }"));
        Assert.Equal([".spec: is missing"], Faults("other: 1").Take(1));
        Assert.Equal([".spec.size: is missing"], Faults("spec: {}"));
        Assert.Equal([".spec.size: no number"], Faults("spec: { size: one }"));
        Assert.Equal([".spec.size: 0 is less than 1"], Faults("spec: { size: 0 }"));
        Assert.Equal([".spec.sizes: no such field"], Faults("spec: { size: 1, sizes: 2 }"));
        Assert.Equal([""".spec.kinds[1]: "c" is none of ["a","b"]"""], Faults("spec: { size: 1, kinds: [a, c] }"));
        Assert.Equal([".spec.names.n: ab does not match ^x"], Faults("spec: { size: 1, names: { n: ab } }"));
        Assert.Equal([".spec.names: no object"], Faults("spec: { size: 1, names: [a] }"));
        Assert.Throws<FormatException>(() => Manifests.Parse("a: on"));
    }

    [Theory]
    [MemberData(nameof(Applied))]
    public void The_operators_objects_have_the_fields_that_their_operators_know(string folder)
    {
        var fields = Manifests.Read(Path.Combine(Manifests.Root, "tests", "Deploy", "fields.yml")).Single();
        // The operators' own definitions: none of them is part of this project.
        var definitions = Environment.GetEnvironmentVariable("MINISTRIES_CRDS") is { Length: > 0 } place ? Schemas.In(place) : null;
        var custom = Manifests.Of(folder).Where(m => !IsBuiltIn(m)).ToList();
        Assert.Equal(fields.Select(f => f.Key).Order(), custom.Select(m => $"{m.ApiVersion}/{m.Kind}").Distinct().Order());
        foreach (var manifest in custom)
        {
            var key = $"{manifest.ApiVersion}/{manifest.Kind}";
            var faults = Schemas.Faults(manifest.Spec, SchemaOf(fields[key]!), ".spec");
            if (definitions is not null)
                faults = faults.Concat(Schemas.Faults(manifest.Content, definitions[key]));
            Assert.True(!faults.Any(), $"{manifest}: {string.Join("; ", faults)}");
        }
    }

    // The form of fields.yml as a schema.
    private static JsonObject SchemaOf(JsonNode field) =>
        field switch
        {
            JsonObject map when map["*"] is { } each => new() { ["type"] = "object", ["additionalProperties"] = SchemaOf(each) },
            JsonObject map => new()
            {
                ["type"] = "object",
                ["required"] = new JsonArray([.. map.Where(f => f.Key.EndsWith('!')).Select(f => JsonValue.Create(f.Key.TrimEnd('!')))]),
                ["properties"] = new JsonObject(map.Select(f => KeyValuePair.Create(f.Key.TrimEnd('!'), (JsonNode?)SchemaOf(f.Value!)))),
            },
            JsonArray list => new() { ["type"] = "array", ["items"] = SchemaOf(list.Single()!) },
            _ => (string)field! switch
            {
                "text" => new() { ["type"] = "string" },
                "number" => new() { ["type"] = "integer" },
                "boolean" => new() { ["type"] = "boolean" },
                var words => new()
                {
                    ["type"] = "string",
                    ["enum"] = new JsonArray([.. words.Split('|').Select(w => JsonValue.Create(w))]),
                },
            },
        };

    [Fact]
    public void The_three_services_differ_in_their_names_alone()
    {
        static string Generic(string service, string program) =>
            Regex
                .Replace(File.ReadAllText(Path.Combine(Base, $"{service}.yaml")), "Peers__[a-z]+", "Peers__")
                .Replace(program, "PROGRAM", StringComparison.Ordinal)
                .Replace(service, "service", StringComparison.Ordinal);
        var first = Generic("calllog", "CallLog");
        Assert.Equal(first, Generic("custody", "Custody"));
        Assert.Equal(first, Generic("consular", "Consular"));
    }

    [Theory]
    [MemberData(nameof(Applied))]
    public void Every_setting_is_one_that_the_services_read_and_none_is_missing(string folder)
    {
        var all = Manifests.Of(folder);
        var shared = all.Single(m => m is { Kind: "ConfigMap", Name: "settings" }).Content["data"]!.AsObject();
        foreach (var service in Services)
        {
            var pods = all.Single(m => m.Kind == "StatefulSet" && m.Name == service).Pods!;
            var sources = pods["spec"]!["volumes"]!.AsArray().Single(v => (string)v!["name"]! == "secrets")!["projected"]!["sources"]!
                .AsArray()
                .SelectMany(s =>
                    ((s!["configMap"] ?? s["secret"])!["items"]?.AsArray() ?? []).Select(i =>
                        (From: (string)(s["configMap"] ?? s["secret"])!["name"]!, Key: (string)i!["key"]!, Path: (string)i["path"]!)
                    )
                )
                .ToList();
            var settings = sources.Where(s => s.Path.StartsWith("settings/", StringComparison.Ordinal)).ToList();
            Assert.All(settings, s => Assert.Equal($"settings/{s.Key}", s.Path));
            // Each shared one is given to it, and those with a password come from a Secret of its own.
            Assert.Equal(shared.Select(s => s.Key), settings.Where(s => s.From == "settings").Select(s => s.Key));
            var secret = new[] { "Ledger__Connection", "Broker__Uri" };
            Assert.Equal(secret, settings.Where(s => s.From == $"{service}-settings").Select(s => s.Key));

            var asked = new Asked(
                shared.ToDictionary(s => s.Key.Replace("__", ":"), s => (string?)s.Value),
                ("Ledger:Connection", "Host=db"),
                ("Broker:Uri", $"amqps://{service}:secret@rabbitmq-server-0.rabbitmq-nodes:5671/ministries")
            );
            var wrong = Assert.Throws<SettingsException>(() => Settings.Read(new ConfigurationRoot([asked]), Services)).Wrong;
            // The files are in the pod, each under its name.
            var files = sources.Select(s => s.Path).Append("agreement.json").ToHashSet();
            Assert.All(wrong, w => Assert.Contains(MissingFile().Match(w).Groups[1].Value, files));
            Assert.Empty(asked.Unread);
            Assert.Equal("/data/checkpoint", (string)shared["Checkpoint__File"]!);

            var environment = pods["spec"]!["containers"]![0]!["env"]!.AsArray().Select(e => (string)e!["name"]!);
            Assert.Equal(["SettingsFolder", "ASPNETCORE_HTTP_PORTS", "DOTNET_EnableDiagnostics"], environment);
        }
    }

    /// <summary>Settings that know which of them were asked for.</summary>
    private sealed class Asked : IConfigurationProvider
    {
        private readonly Dictionary<string, string?> _values;
        private readonly HashSet<string> _read = [];

        public Asked(Dictionary<string, string?> values, params IEnumerable<(string Key, string Value)> more)
        {
            _values = values;
            foreach (var (key, value) in more)
                _values[key] = value;
        }

        public IEnumerable<string> Unread => _values.Keys.Except(_read);

        public bool TryGet(string key, out string? value)
        {
            _read.Add(key);
            return _values.TryGetValue(key, out value);
        }

        public void Set(string key, string? value) => _values[key] = value;

        public IChangeToken GetReloadToken() => new CancellationChangeToken(CancellationToken.None);

        public void Load() { }

        public IEnumerable<string> GetChildKeys(IEnumerable<string> earlierKeys, string? parentPath) =>
            earlierKeys.Concat(
                _values.Keys.Where(k => k.StartsWith($"{parentPath}:", StringComparison.Ordinal)).Select(k => k[(parentPath!.Length + 1)..])
            );
    }

    [Theory]
    [MemberData(nameof(Applied))]
    public void Every_pod_of_ours_is_confined(string folder)
    {
        var all = Manifests.Of(folder);
        var pods = all.Where(m => m.Pods is not null).ToList();
        Assert.Equal([.. Services, "tables"], pods.Select(m => m.Name).OrderBy(n => n == "tables"));
        foreach (var manifest in pods)
        {
            var spec = manifest.Pods!["spec"]!.AsObject();
            Assert.False((bool)spec["automountServiceAccountToken"]!);
            Assert.False((bool)spec["enableServiceLinks"]!);
            var account = all.Single(m => m.Kind == "ServiceAccount" && m.Name == (string)spec["serviceAccountName"]!);
            Assert.False((bool)account.Content["automountServiceAccountToken"]!);
            foreach (var forbidden in new[] { "hostNetwork", "hostPID", "hostIPC", "initContainers" })
                Assert.Null(spec[forbidden]);
            var user = spec["securityContext"]!;
            Assert.True((bool)user["runAsNonRoot"]!);
            Assert.Equal((1654, 1654, 1654), ((int)user["runAsUser"]!, (int)user["runAsGroup"]!, (int)user["fsGroup"]!));
            Assert.Equal("RuntimeDefault", (string)user["seccompProfile"]!["type"]!);
            var container = Assert.Single(spec["containers"]!.AsArray())!;
            var confined = container["securityContext"]!;
            Assert.False((bool)confined["allowPrivilegeEscalation"]!);
            Assert.True((bool)confined["readOnlyRootFilesystem"]!);
            Assert.Equal(["ALL"], confined["capabilities"]!["drop"]!.AsArray().Select(c => (string)c!));
            Assert.Null(confined["capabilities"]!["add"]);
            Assert.NotNull(container["resources"]!["requests"]!["cpu"]);
            Assert.NotNull(container["resources"]!["requests"]!["memory"]);
            Assert.NotNull(container["resources"]!["limits"]!["memory"]);
            Assert.True((bool)container["volumeMounts"]!.AsArray().Single(v => (string)v!["name"]! == "secrets")!["readOnly"]!);
            // A key file that others may read is refused, and one that the group may read must be root's: Kubernetes makes it so.
            Assert.All(
                spec["volumes"]!.AsArray().Where(v => v!["projected"] is not null),
                v => Assert.Equal(Convert.ToInt32("440", 8), (int)v!["projected"]!["defaultMode"]!)
            );
            Assert.All(container["env"]!.AsArray(), e => Assert.Null(e!["valueFrom"]));
            Assert.Null(container["envFrom"]);
        }
        Assert.Equal(
            "restricted",
            (string)all.Single(m => m.Kind == "Namespace").Content["metadata"]!["labels"]!["pod-security.kubernetes.io/enforce"]!
        );
    }

    [Theory]
    [MemberData(nameof(Applied))]
    public void The_brokers_pods_are_confined_as_their_namespace_demands(string folder)
    {
        // The operator's own pods have a user and a group, and nothing else that the namespace demands (pod security standard
        // "restricted").
        var broker = Manifests.Of(folder).Single(m => m.Kind == "RabbitmqCluster");
        var spec = broker.Spec["override"]!["statefulSet"]!["spec"]!["template"]!["spec"]!;
        var pod = spec["securityContext"]!;
        Assert.True((bool)pod["runAsNonRoot"]!);
        Assert.Equal((999, 999, 999), ((int)pod["runAsUser"]!, (int)pod["runAsGroup"]!, (int)pod["fsGroup"]!));
        Assert.Equal("RuntimeDefault", (string)pod["seccompProfile"]!["type"]!);
        // The containers that the operator makes: strategic merge goes by their names.
        Assert.Equal(["setup-container"], spec["initContainers"]!.AsArray().Select(c => (string)c!["name"]!));
        Assert.Equal(["rabbitmq"], spec["containers"]!.AsArray().Select(c => (string)c!["name"]!));
        Assert.All(
            spec["initContainers"]!.AsArray().Concat(spec["containers"]!.AsArray()),
            container =>
            {
                var confined = container!["securityContext"]!;
                Assert.False((bool)confined["allowPrivilegeEscalation"]!);
                Assert.True((bool)confined["readOnlyRootFilesystem"]!);
                Assert.Equal(["ALL"], confined["capabilities"]!["drop"]!.AsArray().Select(c => (string)c!));
                Assert.Null(confined["capabilities"]!["add"]);
            }
        );
    }

    [Fact]
    public void Each_service_is_on_three_machines_and_may_lose_one()
    {
        var all = Manifests.Of("base");
        foreach (var service in Services)
        {
            var set = all.Single(m => m.Kind == "StatefulSet" && m.Name == service);
            Assert.Equal(3, (int)set.Spec["replicas"]!);
            var labels = set.Pods!["metadata"]!["labels"]!;
            Assert.Equal(service, (string)labels["app.kubernetes.io/name"]!);
            var spread = set.Pods!["spec"]!["topologySpreadConstraints"]!.AsArray();
            var nodes = spread.Single(s => (string)s!["topologyKey"]! == "kubernetes.io/hostname")!;
            Assert.Equal((1, "DoNotSchedule"), ((int)nodes["maxSkew"]!, (string)nodes["whenUnsatisfiable"]!));
            Assert.All(spread, s => Assert.Equal(service, (string)s!["labelSelector"]!["matchLabels"]!["app.kubernetes.io/name"]!));
            var budget = all.Single(m => m.Kind == "PodDisruptionBudget" && m.Name == service).Spec;
            Assert.Equal(1, (int)budget["maxUnavailable"]!);
            Assert.Equal(service, (string)budget["selector"]!["matchLabels"]!["app.kubernetes.io/name"]!);
            // What each replica knows of checkpoints outlives its pod.
            var data = Assert.Single(set.Spec["volumeClaimTemplates"]!.AsArray())!;
            Assert.Equal("data", (string)data["metadata"]!["name"]!);
            Assert.Equal("Retain", (string)set.Spec["persistentVolumeClaimRetentionPolicy"]!["whenScaled"]!);
            var mounts = set.Pods!["spec"]!["containers"]![0]!["volumeMounts"]!.AsArray();
            Assert.Equal("/data", (string)mounts.Single(m => (string)m!["name"]! == "data")!["mountPath"]!);

            var database = all.Single(m => m.Kind == "Cluster" && m.Name == $"{service}-db").Spec;
            Assert.Equal(3, (int)database["instances"]!);
            var synchronous = database["postgresql"]!["synchronous"]!;
            Assert.Equal(("any", 1), ((string)synchronous["method"]!, (int)synchronous["number"]!));
            Assert.Equal(("required", true), ((string)synchronous["dataDurability"]!, (bool)synchronous["failoverQuorum"]!));
            Assert.Equal("on", (string)database["postgresql"]!["parameters"]!["synchronous_commit"]!);
            Assert.Equal("required", (string)database["affinity"]!["podAntiAffinityType"]!);
            var store = (string)database["plugins"]![0]!["parameters"]!["barmanObjectName"]!;
            Assert.Contains(all, m => m.Kind == "ObjectStore" && m.Name == store);
            Assert.Contains(all, m => m.Kind == "ScheduledBackup" && (string)m.Spec["cluster"]!["name"]! == $"{service}-db");
        }
        var broker = all.Single(m => m.Kind == "RabbitmqCluster");
        Assert.Equal(3, (int)broker.Spec["replicas"]!);
        Assert.True((bool)broker.Spec["tls"]!["disableNonTLSListeners"]!);
        Assert.Equal(1, (int)all.Single(m => m is { Kind: "PodDisruptionBudget", Name: "rabbitmq" }).Spec["maxUnavailable"]!);
    }

    [Fact]
    public void Probes_ask_the_health_service_with_the_services_own_program()
    {
        foreach (var set in Manifests.Of("base").Where(m => m.Kind == "StatefulSet"))
        {
            var container = set.Pods!["spec"]!["containers"]![0]!;
            string[] program = [.. container["command"]!.AsArray().Select(c => (string)c!)];
            Assert.True(File.Exists(Path.Combine(AppContext.BaseDirectory, Path.GetFileName(program[1]))), program[1]);
            foreach (var (probe, asked) in new[] { ("startup", "alive"), ("readiness", "ledger"), ("liveness", "alive") })
            {
                var does = container[$"{probe}Probe"]!;
                Assert.Equal([.. program, "health", asked], does["exec"]!["command"]!.AsArray().Select(c => (string)c!));
                // The program itself gives up after 20 s.
                Assert.True((int)does["timeoutSeconds"]! > 20);
            }
        }
    }

    [Fact]
    public void Images_are_those_of_compose_and_ours_has_one_version()
    {
        var pinned = File.ReadAllLines(Path.Combine(Manifests.Root, ".env"))
            .Where(l => l.Contains("_IMAGE=", StringComparison.Ordinal))
            .ToDictionary(l => l[..l.IndexOf('=', StringComparison.Ordinal)], l => l[(l.IndexOf('=', StringComparison.Ordinal) + 1)..]);
        var all = Manifests.Of("overlays/example");
        var postgres = pinned["POSTGRES_IMAGE"].Split(':')[1];
        Assert.All(
            all.Where(m => m.Kind == "Cluster"),
            m => Assert.Equal($"ghcr.io/cloudnative-pg/postgresql:{postgres}", (string)m.Spec["imageName"]!)
        );
        Assert.Equal(pinned["RABBITMQ_IMAGE"], (string)all.Single(m => m.Kind == "RabbitmqCluster").Spec["image"]!);
        var ours = all.Where(m => m.Pods is not null)
            .SelectMany(m => m.Pods!["spec"]!["containers"]!.AsArray())
            .Select(c => (string)c!["image"]!);
        Assert.Equal("registry.example/ministries:2026.11.29", Assert.Single(ours.Distinct()));
    }

    [Fact]
    public void The_broker_is_configured_as_that_of_compose()
    {
        static Dictionary<string, string> Read(IEnumerable<string> lines) =>
            lines
                .Select(l => l.Trim())
                .Where(l => l.Length > 0 && !l.StartsWith('#'))
                .Select(l => l.Split(" = ", 2))
                .ToDictionary(l => l[0], l => l[1]);
        var here = Read(
            ((string)Manifests.Of("base").Single(m => m.Kind == "RabbitmqCluster").Spec["rabbitmq"]!["additionalConfig"]!).Split('\n')
        );
        var there = Read(
            new[] { "rabbitmq.conf", "tls.conf" }.SelectMany(f => File.ReadAllLines(Path.Combine(Manifests.Root, "deploy", "rabbitmq", f)))
        );
        // The operator sets listeners, log and files; the disk is larger.
        string[] other =
        [
            "load_definitions",
            "log.console",
            "log.file",
            "disk_free_limit.absolute",
            "listeners.tcp",
            "listeners.ssl.default",
        ];
        foreach (var (key, value) in there)
            if (!other.Contains(key) && !key.EndsWith("file", StringComparison.Ordinal))
                Assert.Equal((key, value), (key, here.GetValueOrDefault(key)));
        Assert.Equal("pause_minority", here["cluster_partition_handling"]);
    }

    [Fact]
    public async Task The_alert_rules_are_the_ones_of_Prometheus()
    {
        var path = Path.Combine(Base, "rules.yaml");
        var text = await File.ReadAllTextAsync(path, TestContext.Current.CancellationToken);
        async Task<string> GroupsOf(string file)
        {
            var alerts = await File.ReadAllTextAsync(
                Path.Combine(Manifests.Root, "deploy", "prometheus", file),
                TestContext.Current.CancellationToken
            );
            return alerts[(alerts.IndexOf("groups:\n", StringComparison.Ordinal) + "groups:\n".Length)..];
        }
        var groups = $"groups:\n{await GroupsOf("alerts.yml")}\n{await GroupsOf("kubernetes.yml")}"
            .Split('\n')
            .Select(l => l.Trim().Length > 0 ? $"  {l}" : l);
        var same = text[..(text.IndexOf("spec:\n", StringComparison.Ordinal) + 6)] + string.Join('\n', groups);
        if (Environment.GetEnvironmentVariable("RULES") == "write")
            await File.WriteAllTextAsync(path, same, TestContext.Current.CancellationToken);
        else
            Assert.Equal(same, text);
        // Prometheus' operator gives them the labels that prometheus.yml gives them.
        var monitor = Manifests.Of("base").Single(m => m is { Kind: "PodMonitor", Name: "services" }).Spec;
        Assert.Equal("app.kubernetes.io/part-of", (string)monitor["jobLabel"]!);
        Assert.Equal("ministries", (string)monitor["selector"]!["matchLabels"]!["app.kubernetes.io/part-of"]!);
        var relabeled = monitor["podMetricsEndpoints"]![0]!["relabelings"]![0]!;
        Assert.Equal("service", (string)relabeled["targetLabel"]!);
        Assert.Equal("__meta_kubernetes_pod_label_app_kubernetes_io_name", (string)relabeled["sourceLabels"]![0]!);
    }

    [Theory]
    [MemberData(nameof(Applied))]
    public void No_secret_stands_in_a_manifest_and_each_has_an_origin(string folder)
    {
        var all = Manifests.Of(folder);
        Assert.DoesNotContain(all, m => m.Kind == "Secret");
        foreach (var file in Directory.EnumerateFiles(Manifests.Folder, "*.yaml", SearchOption.AllDirectories))
        {
            var text = File.ReadAllText(file);
            Assert.DoesNotContain("-----BEGIN", text, StringComparison.Ordinal);
            Assert.DoesNotMatch(@"(?i)password\s*=|passphrase|://[^/\s]+:[^/\s]+@|(?i)PASSWORD '", text);
        }
        // cert-manager makes them, or the operator does, as the table says.
        var table = SecretRow()
            .Matches(File.ReadAllText(Path.Combine(Manifests.Folder, "README.md")))
            .SelectMany(m =>
                m.Groups[1].Value.Contains('…') ? Services.Select(s => m.Groups[1].Value.Replace("…", s)) : [m.Groups[1].Value]
            )
            .ToHashSet();
        var made = all.Where(m => m.Kind == "Certificate").Select(m => (string)m.Spec["secretName"]!).ToList();
        var asked = all.SelectMany(m => SecretsOf(m.Content)).Distinct().ToList();
        Assert.Equal(asked.Except(made).Order(), table.Order());
    }

    // The names of Secrets, wherever a field refers to one.
    private static IEnumerable<string> SecretsOf(JsonNode? node, string name = "") =>
        node switch
        {
            JsonObject map when name is "secret" or "passwordSecret" or "accessKeyId" or "secretAccessKey" && map["name"] is { } named =>
            [
                (string)named!,
            ],
            JsonObject map => map.SelectMany(p => SecretsOf(p.Value, p.Key)),
            JsonArray list => list.SelectMany(e => SecretsOf(e)),
            JsonValue value when name is "secretName" or "serverTLSSecret" or "serverCASecret" => [(string)value!],
            _ => [],
        };

    [Fact]
    public void Certificates_are_for_the_names_by_which_callers_call()
    {
        var all = Manifests.Of("base");
        var settings = all.Single(m => m is { Kind: "ConfigMap", Name: "settings" }).Content["data"]!;
        var domain = StandardAgreement.Read().TrustDomain;
        string[] NamesOf(string certificate) =>
            [.. all.Single(m => m.Kind == "Certificate" && m.Name == certificate).Spec["dnsNames"]!.AsArray().Select(n => (string)n!)];
        foreach (var service in Services)
        {
            var addresses = ((string)settings[$"Peers__{service}"]!).Split(',').Select(a => new Uri(a)).ToList();
            Assert.All(addresses, a => Assert.Equal(7100, a.Port));
            // Each replica of the StatefulSet, under its headless Service.
            Assert.Equal(Enumerable.Range(0, 3).Select(i => $"{service}-{i}.{service}-replicas"), addresses.Select(a => a.Host));
            var headless = all.Single(m => m.Kind == "Service" && m.Name == $"{service}-replicas").Spec;
            Assert.Equal(("None", true), ((string)headless["clusterIP"]!, (bool)headless["publishNotReadyAddresses"]!));
            Assert.Subset(NamesOf(service).ToHashSet(), addresses.Select(a => a.Host).Append(service).ToHashSet());
            var own = all.Single(m => m.Kind == "Certificate" && m.Name == service).Spec;
            Assert.Equal([$"spiffe://{domain}/service/{service}/system"], own["uris"]!.AsArray().Select(u => (string)u!));
            Assert.Equal(["digital signature", "server auth", "client auth"], own["usages"]!.AsArray().Select(u => (string)u!));
            Assert.Contains($"{service}-db-rw", NamesOf($"{service}-db"));
        }
        Assert.Subset(
            NamesOf("rabbitmq").ToHashSet(),
            Enumerable.Range(0, 3).Select(i => $"rabbitmq-server-{i}.rabbitmq-nodes").ToHashSet()
        );
        // Renewed before the alert at thirty days.
        Assert.All(
            all.Where(m => m.Kind == "Certificate"),
            m => Assert.True(int.Parse(((string)m.Spec["renewBefore"]!).TrimEnd('h'), null) > 30 * 24)
        );
    }

    [GeneratedRegex(@"^---$\n", RegexOptions.Multiline)]
    private static partial Regex Documents();

    [GeneratedRegex(@"^[A-Za-z:]+: there is no file /secrets/(\S+)$")]
    private static partial Regex MissingFile();

    [GeneratedRegex(@"^\| Secret `([^`]+)`", RegexOptions.Multiline)]
    private static partial Regex SecretRow();
}
