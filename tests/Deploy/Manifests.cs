using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using YamlDotNet.Core;
using YamlDotNet.RepresentationModel;

namespace Ministries.Deploy.Tests;

/// <summary>One object of Kubernetes as it stands in a file.</summary>
/// <param name="File">The file, from <c>deploy/kubernetes</c> on.</param>
/// <param name="Content">What it says.</param>
public sealed record Manifest(string File, JsonObject Content)
{
    public string Kind => (string)Content["kind"]!;

    public string ApiVersion => (string)Content["apiVersion"]!;

    public string Name => (string)Content["metadata"]!["name"]!;

    public JsonObject Spec => Content["spec"]!.AsObject();

    /// <summary>The template of its pods; null: it has none.</summary>
    public JsonObject? Pods => Kind is "StatefulSet" or "Deployment" or "DaemonSet" or "Job" ? Spec["template"]!.AsObject() : null;

    /// <inheritdoc/>
    public override string ToString() => $"{File}: {Kind} {Name}";
}

/// <summary>
/// Reads <c>deploy/kubernetes</c> as kustomize does, as far as it is used there: resources, one namespace, images, and patches that add
/// (RFC 6902). Anything else in a <c>kustomization.yaml</c> is an error, so that nothing is tested in another form than it is applied.
/// </summary>
public static partial class Manifests
{
    public static readonly string Root = RootOf(AppContext.BaseDirectory);
    public static readonly string Folder = Path.Combine(Root, "deploy", "kubernetes");

    /// <summary>What stands in a folder with a <c>kustomization.yaml</c>, <c>base</c> or <c>overlays/example</c>.</summary>
    public static IReadOnlyList<Manifest> Of(string folder)
    {
        var home = Path.GetFullPath(Path.Combine(Folder, folder));
        var kustomization = Read(Path.Combine(home, "kustomization.yaml")).Single();
        var unknown = kustomization
            .Select(p => p.Key)
            .Except(["apiVersion", "kind", "namespace", "resources", "images", "patches"])
            .ToList();
        if (unknown.Count > 0)
            throw new FormatException($"{folder}/kustomization.yaml: not known to these tests: {string.Join(", ", unknown)}");
        List<Manifest> all = [];
        foreach (var resource in kustomization["resources"]!.AsArray().Select(r => (string)r!))
            if (Directory.Exists(Path.Combine(home, resource)))
                all.AddRange(Of(Path.Combine(home, resource)));
            else
                all.AddRange(
                    Read(Path.Combine(home, resource))
                        .Select(o => new Manifest(Path.GetRelativePath(Folder, Path.Combine(home, resource)), o))
                );
        foreach (var manifest in all)
            if (manifest.Kind != "Namespace")
                manifest.Content["metadata"]!["namespace"] = (string?)kustomization["namespace"];
        foreach (var image in kustomization["images"]?.AsArray() ?? [])
            SetImage(all, image!.AsObject());
        foreach (var patch in kustomization["patches"]?.AsArray() ?? [])
            Patch(all, patch!.AsObject());
        return all;
    }

    /// <summary>The documents of a file.</summary>
    /// <exception cref="FormatException">A scalar means one thing in YAML 1.1, which Kubernetes reads, and another one in YAML 1.2.
    /// </exception>
    public static IReadOnlyList<JsonObject> Read(string file) => Parse(File.ReadAllText(file));

    /// <summary>The documents of a text.</summary>
    public static IReadOnlyList<JsonObject> Parse(string text)
    {
        var stream = new YamlStream();
        stream.Load(new StringReader(text));
        return [.. stream.Documents.Select(d => ToJson(d.RootNode)!.AsObject())];
    }

    private static JsonNode? ToJson(YamlNode node) =>
        node switch
        {
            YamlMappingNode map => new JsonObject(map.Select(p => KeyValuePair.Create(((YamlScalarNode)p.Key).Value!, ToJson(p.Value)))),
            YamlSequenceNode list => new JsonArray([.. list.Select(ToJson)]),
            YamlScalarNode { Style: not ScalarStyle.Plain } quoted => JsonValue.Create(quoted.Value),
            YamlScalarNode plain => OfPlain(plain.Value!),
            _ => throw new FormatException($"{node.Start}: neither a map, a list nor a scalar"),
        };

    private static JsonNode? OfPlain(string text) =>
        Ambiguous().IsMatch(text) ? throw new FormatException($"{text} must be quoted: YAML 1.1 does not read it as text")
        : text is "" or "null" or "~" ? null
        : Typed().IsMatch(text) ? JsonNode.Parse(text)
        : JsonValue.Create(text);

    private static void SetImage(List<Manifest> all, JsonObject image)
    {
        foreach (var container in all.Where(m => m.Pods is not null).SelectMany(m => m.Pods!["spec"]!["containers"]!.AsArray()))
            if ((string)container!["image"]! == (string)image["name"]!)
                container["image"] = $"{image["newName"]}:{image["newTag"]}";
    }

    private static void Patch(List<Manifest> all, JsonObject patch)
    {
        var target = patch["target"]!.AsObject();
        var name = target["name"] is { } n ? $"^(?:{n})$" : "";
        var met = all.Where(m => m.Kind == (string)target["kind"]! && Regex.IsMatch(m.Name, name)).ToList();
        if (met.Count == 0)
            throw new FormatException($"a patch meets nothing: {target}");
        var stream = new YamlStream();
        stream.Load(new StringReader((string)patch["patch"]!));
        foreach (var manifest in met)
        foreach (var step in ToJson(stream.Documents.Single().RootNode)!.AsArray())
            Add(manifest, step!.AsObject());
    }

    private static void Add(Manifest manifest, JsonObject step)
    {
        if ((string)step["op"]! != "add")
            throw new FormatException($"not known to these tests: a patch that does {step["op"]}");
        var path = ((string)step["path"]!).Split('/')[1..];
        JsonNode at = manifest.Content;
        foreach (var part in path[..^1])
            at = at[part] ?? throw new FormatException($"{manifest} has no {step["path"]}");
        if (at is JsonArray list && path[^1] == "-")
            list.Add(step["value"]!.DeepClone());
        else
            at[path[^1]] = step["value"]!.DeepClone();
    }

    private static string RootOf(string folder) =>
        File.Exists(Path.Combine(folder, "Ministries.sln")) ? folder : RootOf(Path.GetDirectoryName(folder)!);

    // A boolean or a whole number.
    [GeneratedRegex(@"^(?:true|false|-?(?:0|[1-9][0-9]*))$")]
    private static partial Regex Typed();

    // Booleans, numbers with other bases or parts of sixty, and dates of YAML 1.1.
    [GeneratedRegex(
        @"^(?:y|n|yes|no|on|off|0[0-9_]+|0x[0-9a-f_]+|[0-9][0-9_]*(?::[0-5]?[0-9])+|[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}.*|[0-9]+\.[0-9]*)$",
        RegexOptions.IgnoreCase
    )]
    private static partial Regex Ambiguous();
}
