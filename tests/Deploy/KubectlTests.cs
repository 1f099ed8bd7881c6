using System.Diagnostics;
using System.Text.Json.Nodes;
using Ministries.Fixtures;

namespace Ministries.Deploy.Tests;

/// <summary>kubectl's commands of the documents, as they stand there, against a server that takes what it is given. So what kubectl makes
/// of the manifests is seen to be what the other tests read.</summary>
public sealed class KubectlTests : IDisposable
{
    private const string Guide = "deploy/kubernetes/README.md";

    private readonly string _home = Directory.CreateTempSubdirectory("ministries-kubectl-").FullName;

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    private static IEnumerable<(string, string)> Kinds => Manifests.Of("overlays/example").Select(m => (m.ApiVersion, m.Kind));

    public void Dispose() => Directory.Delete(_home, recursive: true);

    [Fact]
    public async Task The_guide_applies_the_example_whole_and_as_the_other_tests_read_it()
    {
        await using var server = await ApiServer.Start(Kinds);
        var ran = new RanBlocks();

        await Run(server, ran.Take(Guide, "kubectl apply --server-side"), Documents.Root);

        var meant = Manifests.Of("overlays/example").ToDictionary(m => ApiServer.PathOf(m.Content), m => m.Content);
        Assert.Equal(meant.Keys.Order(StringComparer.Ordinal), server.Kept.Keys.Order(StringComparer.Ordinal));
        Assert.All(meant, m => Assert.True(JsonNode.DeepEquals(m.Value, server.Kept[m.Key]), $"{m.Value}\n{server.Kept[m.Key]}"));
        // A server looks for fields that it does not know, and two who apply notice each other.
        Assert.All(
            server.Written,
            w =>
            {
                Assert.Equal("PATCH", w.Method);
                Assert.Contains("fieldValidation=Strict", w.Query);
                Assert.Contains("force=false", w.Query);
            }
        );
        ran.AreAll("Deploy/KubectlTests", nameof(The_guide_applies_the_example_whole_and_as_the_other_tests_read_it));
    }

    [Fact]
    public async Task The_guide_keeps_the_operators_definitions_in_files_that_the_tests_read()
    {
        await using var server = await ApiServer.Start([("apiextensions.k8s.io/v1", "CustomResourceDefinition")]);
        foreach (var name in (string[])["things.example", "others.example"])
        {
            var definition = Manifests
                .Parse(
                    $$"""
                    apiVersion: apiextensions.k8s.io/v1
                    kind: CustomResourceDefinition
                    metadata: { name: {{name}} }
                    spec:
                      group: example
                      names: { kind: {{name.Split('.')[0]}} }
                      versions:
                        - name: v1
                          schema: { openAPIV3Schema: { type: object, properties: { spec: { type: object } } } }
                    """
                )
                .Single();
            server.Kept[ApiServer.PathOf(definition)] = definition;
        }
        var ran = new RanBlocks();
        // What the last line runs is this test, among others; the list says so.
        var lines = ran.Take(Guide, "mkdir -p crds").Split('\n').Where(l => !l.Contains("tests/run", StringComparison.Ordinal));

        await Run(server, string.Join('\n', lines), _home);

        var read = Schemas.In(Path.Combine(_home, "crds"));
        Assert.Equal(["example/v1/others", "example/v1/things"], read.Keys.Order(StringComparer.Ordinal));
        ran.AreAll("Deploy/KubectlTests", nameof(The_guide_keeps_the_operators_definitions_in_files_that_the_tests_read));
    }

    [Fact]
    public async Task A_secret_of_the_guide_is_made_and_the_services_are_restarted()
    {
        await using var server = await ApiServer.Start(Kinds);
        var spans = Documents.Spans(Guide);
        var key = Directory.CreateDirectory(Path.Combine(_home, "F/calllog")).FullName;
        await File.WriteAllTextAsync(Path.Combine(key, "checkpoint.key"), "a key", Cancel);
        await Run(server, Documents.Script(Guide, "kubectl apply --server-side"), Documents.Root);

        // Only this is sent in a form of Go's: what would be sent is shown.
        var create = spans.Single(s => s.StartsWith("kubectl create secret", StringComparison.Ordinal));
        var secret = JsonNode.Parse(await Run(server, $"{create} --dry-run=client -o json", _home))!;
        await Run(server, spans.Single(s => s.StartsWith("kubectl rollout restart", StringComparison.Ordinal)), _home);

        Assert.Equal(("Secret", "calllog-checkpoint-key"), ((string)secret["kind"]!, (string)secret["metadata"]!["name"]!));
        Assert.Equal("a key"u8.ToArray(), Convert.FromBase64String((string)secret["data"]!["checkpoint.key"]!));
        var restarted = server.Kept["/apis/apps/v1/namespaces/ministries/statefulsets/calllog"];
        Assert.NotNull(restarted["spec"]!["template"]!["metadata"]!["annotations"]!["kubectl.kubernetes.io/restartedAt"]);
    }

    [Theory]
    [InlineData("base")]
    [InlineData("overlays/example")]
    public async Task Kustomize_renders_what_the_other_tests_read(string folder)
    {
        var rendered = Manifests.Parse(await Run(null, $"kubectl kustomize deploy/kubernetes/{folder}", Documents.Root));

        var meant = Manifests.Of(folder).ToDictionary(m => ApiServer.PathOf(m.Content), m => m.Content);
        Assert.Equal(meant.Keys.Order(StringComparer.Ordinal), rendered.Select(ApiServer.PathOf).Order(StringComparer.Ordinal));
        Assert.All(rendered, r => Assert.True(JsonNode.DeepEquals(meant[ApiServer.PathOf(r)], r), $"{meant[ApiServer.PathOf(r)]}\n{r}"));
    }

    private async Task<string> Run(ApiServer? server, string script, string folder)
    {
        Assert.SkipUnless(
            Environment.GetEnvironmentVariable("PATH")!.Split(':').Any(p => File.Exists(Path.Combine(p, "kubectl"))),
            "this machine has no kubectl"
        );
        var configuration = Path.Combine(_home, "config");
        await File.WriteAllTextAsync(
            configuration,
            $$"""
            { "apiVersion": "v1", "kind": "Config", "current-context": "test", "users": [{ "name": "test", "user": {} }],
              "clusters": [{ "name": "test", "cluster": { "server": "{{server?.Address}}" } }],
              "contexts": [{ "name": "test", "context": { "cluster": "test", "user": "test", "namespace": "ministries" } }] }
            """,
            Cancel
        );
        using var process = Process.Start(
            new ProcessStartInfo("bash", ["-euo", "pipefail", "-c", script])
            {
                RedirectStandardOutput = true,
                RedirectStandardError = true,
                WorkingDirectory = folder,
                Environment = { ["KUBECONFIG"] = configuration, ["HOME"] = _home },
            }
        )!;
        var (output, error) = (process.StandardOutput.ReadToEndAsync(Cancel), process.StandardError.ReadToEndAsync(Cancel));
        await process.WaitForExitAsync(Cancel);
        Assert.True(process.ExitCode == 0, $"{script}\n{await output}\n{await error}");
        return await output;
    }
}
