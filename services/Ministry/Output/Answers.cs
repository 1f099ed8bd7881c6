using System.Text.Json.Nodes;
using Google.Protobuf;
using Google.Protobuf.Reflection;
using Google.Protobuf.WellKnownTypes;

namespace Ministries.Ministry;

/// <summary>Writes answers in the form that was asked for.</summary>
internal static class Answers
{
    /// <summary>A message as JSON, with the contract's own names. An impossible time is left out.</summary>
    public static JsonNode InJson(IMessage message) => JsonNode.Parse(Contract.Formatter.Format(Printable.Of(message)))!;

    /// <summary>Writes one message.</summary>
    public static void Write(Connection connection, IMessage message)
    {
        if (!WriteData(connection, InJson(message)))
            new Fields(connection.Screen, connection.Format == OutputFormat.Wide).Write(message);
    }

    /// <summary>Writes data as JSON or YAML; false: a person asked, and nothing was written.</summary>
    public static bool WriteData(Connection connection, JsonNode data) => WriteData(connection.Screen, connection.Format, data);

    /// <summary>As the other, where there is no connection.</summary>
    public static bool WriteData(Screen screen, OutputFormat format, JsonNode data)
    {
        if (format is OutputFormat.Json)
            screen.Lines(data.ToJsonString(Json.Indented) + "\n");
        else if (format is OutputFormat.Yaml)
            screen.Lines("---\n" + Yaml.Of(data));
        else
            return false;
        return true;
    }

    /// <summary>Writes records as a table: the id first, then the state, then short values, then the ids of other records, as far as there
    /// is room.</summary>
    public static void WriteTable(Connection connection, MessageDescriptor type, IReadOnlyList<IMessage> records)
    {
        if (records.Count == 0)
        {
            connection.Error.Line(new Span("nothing that you may see", Style.Dim));
            return;
        }
        var id = Records.Kinds.FirstOrDefault(k => k.Type == type || k.ItemType == type)?.IdIn(type) ?? type.Fields.InFieldNumberOrder()[0];
        var words = new Fields(connection.Screen, whole: true);
        var columns = type
            .Fields.InFieldNumberOrder()
            .Where(f => !f.IsRepeated && (f.FieldType != FieldType.Message || f.MessageType == Timestamp.Descriptor))
            .Select(f => (Field: f, Cells: records.Select(r => Cell(words, f, r)).ToArray()))
            .OrderBy(c =>
                c.Field == id ? 0
                : c.Field.Name == "state" ? 1
                : c.Field.FieldType == FieldType.Bytes || c.Field.Name == "etag" ? 4
                : c.Cells.Any(cell => Records.OfId(cell.Text) is not null) ? 3
                : 2
            )
            .ToArray();
        var left = Table.Write(
            connection.Screen,
            [.. columns.Select(c => new Column(Words.Of(c.Field).ToUpperInvariant(), Whole: true))],
            [.. records.Select((_, row) => (IReadOnlyList<Span>)[.. columns.Select(c => c.Cells[row])])],
            connection.Format == OutputFormat.Wide
        );
        if (left.Count > 0)
            connection.Error.Paragraph($"not shown: {string.Join(", ", left)}; -o wide shows all", style: Style.Dim);
    }

    private static Span Cell(Fields words, FieldDescriptor field, IMessage record)
    {
        var hidden = Fields.WithheldIn(record).Contains(field.Name);
        return Fields.IsDefault(record, field) && !hidden ? new Span("") : words.InLine(record, field, hidden);
    }
}
