using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;

namespace Ministries.Ministry;

/// <summary>Writes JSON as YAML (1.2) in block form. A text that YAML could read as something else stands in quotes.</summary>
internal static partial class Yaml
{
    /// <summary>The YAML of a value, ended by a line feed.</summary>
    public static string Of(JsonNode? node)
    {
        var output = new StringWriter();
        if (IsLeaf(node))
            output.Write(Leaf(node) + "\n");
        else
            Block(node!, "", "", output);
        return output.ToString();
    }

    private static void Block(JsonNode node, string first, string indent, StringWriter output)
    {
        IEnumerable<(string Before, JsonNode? Value)> items = node is JsonArray array
            ? array.Select(i => ("-", i))
            : node.AsObject().Select(f => (Quoted(f.Key) + ":", f.Value));
        foreach (var (before, value) in items)
        {
            output.Write(first + before);
            first = indent;
            if (IsLeaf(value))
                output.Write($" {Leaf(value)}\n");
            else if (before == "-")
                Block(value!, " ", indent + "  ", output);
            else
            {
                output.Write("\n");
                Block(value!, indent + "  ", indent + "  ", output);
            }
        }
    }

    private static bool IsLeaf(JsonNode? node) => node is null or JsonValue or JsonArray { Count: 0 } or JsonObject { Count: 0 };

    private static string Leaf(JsonNode? node) =>
        node switch
        {
            null => "null",
            JsonArray => "[]",
            JsonObject => "{}",
            _ when node.GetValueKind() == JsonValueKind.String => Quoted(node.GetValue<string>()),
            _ => node.ToJsonString(),
        };

    private static string Quoted(string text)
    {
        if (Plain().IsMatch(text) && !Special().IsMatch(text))
            return text;
        var quoted = new StringBuilder("\"");
        foreach (var rune in text.EnumerateRunes())
            quoted.Append(
                rune.Value switch
                {
                    '"' or '\\' => $"\\{rune}",
                    '\n' => "\\n",
                    '\t' => "\\t",
                    // YAML knows no pairs of surrogates, so what acts on a terminal is escaped here and not by the terminal.
                    > 0xFFFF when IsHidden(rune) => $"\\U{rune.Value:x8}",
                    _ when IsHidden(rune) => $"\\u{rune.Value:x4}",
                    _ => rune.ToString(),
                }
            );
        return quoted.Append('"').ToString();
    }

    // What deceives a reader, and what YAML does not allow as it is.
    private static bool IsHidden(Rune rune) => (rune.Value & 0xFFFE) == 0xFFFE || Terminal.Escape(rune.ToString()) != rune.ToString();

    [GeneratedRegex("^[A-Za-z][A-Za-z0-9_./-]*$")]
    private static partial Regex Plain();

    [GeneratedRegex("^(true|false|null|yes|no|on|off|y|n)$", RegexOptions.IgnoreCase)]
    private static partial Regex Special();
}
