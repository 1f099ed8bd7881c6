using System.Text.Json.Nodes;

namespace Ministries.Ministry;

/// <summary>What differs between two forms of one record.</summary>
internal static class Changes
{
    /// <summary>The differences, each in a line: the path, what stood there, and what stands there.</summary>
    public static IEnumerable<string> Between(JsonNode before, JsonNode after)
    {
        var (old, now) = (
            Leaves(before, "").ToDictionary(l => l.Path, l => l.Text),
            Leaves(after, "").ToDictionary(l => l.Path, l => l.Text)
        );
        foreach (var path in old.Keys.Union(now.Keys).Order(StringComparer.Ordinal))
        {
            var (from, to) = (old.GetValueOrDefault(path), now.GetValueOrDefault(path));
            if (from != to)
                yield return from is null ? $"+ {path}: {to}"
                : to is null ? $"- {path}: {from}"
                : $"  {path}: {from} → {to}";
        }
    }

    private static IEnumerable<(string Path, string Text)> Leaves(JsonNode? node, string path) =>
        node switch
        {
            JsonObject fields => fields.SelectMany(f => Leaves(f.Value, path.Length == 0 ? f.Key : $"{path}.{f.Key}")),
            JsonArray items => items.SelectMany((item, i) => Leaves(item, $"{path}[{i}]")),
            null => [],
            _ => [(path, Terminal.Line(node.ToString()))],
        };
}
