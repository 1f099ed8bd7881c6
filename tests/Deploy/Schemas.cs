using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;

namespace Ministries.Deploy.Tests;

/// <summary>Checks an object of Kubernetes by the schema of its definition (OpenAPI v3 as in a CustomResourceDefinition), strictly: a field
/// that the schema does not name is a fault, where Kubernetes would drop it.</summary>
public static class Schemas
{
    /// <summary>The schemas in the definitions of a folder, by <c>apiVersion/kind</c>.</summary>
    public static IReadOnlyDictionary<string, JsonObject> In(string folder) =>
        Directory
            .EnumerateFiles(folder, "*.yaml")
            .SelectMany(f => Manifests.Read(f))
            .Where(d => (string?)d["kind"] == "CustomResourceDefinition")
            .SelectMany(Of)
            .ToDictionary();

    /// <summary>The schemas of one definition.</summary>
    public static IEnumerable<(string Key, JsonObject Schema)> Of(JsonObject definition) =>
        definition["spec"]!["versions"]!
            .AsArray()
            .Select(v =>
                (
                    $"{definition["spec"]!["group"]}/{v!["name"]}/{definition["spec"]!["names"]!["kind"]}",
                    v["schema"]!["openAPIV3Schema"]!.AsObject()
                )
            );

    /// <summary>What is wrong, each with its path; empty: nothing.</summary>
    public static IEnumerable<string> Faults(JsonNode? value, JsonObject schema, string path = "")
    {
        if (value is null)
            return schema["nullable"]?.GetValue<bool>() == true ? [] : [$"{path}: null"];
        if (schema["x-kubernetes-int-or-string"]?.GetValue<bool>() == true)
            return value.GetValueKind() is JsonValueKind.Number or JsonValueKind.String ? [] : [$"{path}: neither number nor text"];
        var faults = ((string?)schema["type"]) switch
        {
            "object" => value is JsonObject map ? OfObject(map, schema, path) : [$"{path}: no object"],
            "array" => value is JsonArray list
                ? list.SelectMany((e, i) => Faults(e, schema["items"]!.AsObject(), $"{path}[{i}]"))
                : [$"{path}: no list"],
            "string" => value.GetValueKind() == JsonValueKind.String ? [] : [$"{path}: no text"],
            "boolean" => value.GetValueKind() is JsonValueKind.True or JsonValueKind.False ? [] : [$"{path}: neither true nor false"],
            "integer" or "number" => value.GetValueKind() == JsonValueKind.Number ? [] : [$"{path}: no number"],
            _ => [],
        };
        return faults.Concat(OfValue(value, schema, path));
    }

    private static IEnumerable<string> OfObject(JsonObject map, JsonObject schema, string path)
    {
        foreach (var required in schema["required"]?.AsArray() ?? [])
            if (!map.ContainsKey((string)required!))
                yield return $"{path}.{required}: is missing";
        var free = schema["x-kubernetes-preserve-unknown-fields"]?.GetValue<bool>() == true;
        foreach (var (name, value) in map)
        {
            if (schema["properties"]?[name] is JsonObject known)
            {
                foreach (var fault in Faults(value, known, $"{path}.{name}"))
                    yield return fault;
            }
            else if (schema["additionalProperties"] is JsonObject each)
            {
                foreach (var fault in Faults(value, each, $"{path}.{name}"))
                    yield return fault;
            }
            // What every object has is not part of its definition.
            else if (!free && !(path == ".metadata" || path.Length == 0 && name is "apiVersion" or "kind" or "metadata"))
                yield return $"{path}.{name}: no such field";
        }
    }

    private static IEnumerable<string> OfValue(JsonNode value, JsonObject schema, string path)
    {
        if (schema["enum"] is JsonArray allowed && !allowed.Any(a => JsonNode.DeepEquals(a, value)))
            yield return $"{path}: {value.ToJsonString()} is none of {allowed.ToJsonString()}";
        if (
            schema["pattern"] is { } pattern
            && value.GetValueKind() == JsonValueKind.String
            && !Regex.IsMatch((string)value!, (string)pattern!)
        )
            yield return $"{path}: {value} does not match {pattern}";
        if (value.GetValueKind() == JsonValueKind.Number)
        {
            var number = value.GetValue<long>();
            if (schema["minimum"] is { } least && number < least.GetValue<long>())
                yield return $"{path}: {number} is less than {least}";
            if (schema["maximum"] is { } most && number > most.GetValue<long>())
                yield return $"{path}: {number} is more than {most}";
        }
    }
}
