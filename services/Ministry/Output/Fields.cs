using System.Collections;
using System.Globalization;
using Google.Protobuf;
using Google.Protobuf.Reflection;
using Google.Protobuf.WellKnownTypes;
using Ministries.Types.V1;

namespace Ministries.Ministry;

/// <summary>Messages in words for a person: a field to a line under the name by which its flag goes, enum values as flags take them, times
/// in his own zone. A field that is withheld from him is shown as <c>·</c>.</summary>
/// <param name="screen">Where to.</param>
/// <param name="whole">Whether bytes are shown whole.</param>
internal sealed class Fields(Screen screen, bool whole)
{
    // The mark before each line of a long text, and the fewest columns that are left for the text, enough for the widest letter.
    private const string Mark = "| ";
    private const int Least = 2;

    /// <summary>Writes a message's fields that have a value or are withheld, and also each "no" that a caller gives.</summary>
    /// <param name="message">The message.</param>
    /// <param name="indent">The spaces before each line.</param>
    /// <param name="without">The names of fields that are not shown.</param>
    public void Write(IMessage message, int indent = 0, params IReadOnlyCollection<string> without)
    {
        var withheld = WithheldIn(message);
        foreach (var field in message.Descriptor.Fields.InFieldNumberOrder())
        {
            if (field.Name == "withheld" || without.Contains(field.Name))
                continue;
            var (value, hidden) = (field.Accessor.GetValue(message), withheld.Contains(field.Name));
            if (IsDefault(message, field) && !hidden && !IsNo(field))
                continue;
            if (value is IMessage inner && !IsLine(field, new[] { inner }))
            {
                Line(indent, Words.Of(field), hidden ? Screen.Withheld : "");
                Write(inner, indent + 2);
            }
            else if (value is IList { Count: > 0 } items && field.FieldType == FieldType.Message && !field.IsMap && !IsLine(field, items))
            {
                Line(indent, Words.Of(field), hidden ? Screen.Withheld : "");
                foreach (IMessage item in items)
                    Item(item, indent + 2);
            }
            else
                Line(indent, Words.Of(field), InLine(message, field, hidden));
        }
    }

    /// <summary>The value of a message's field in one line.</summary>
    public Span InLine(IMessage message, FieldDescriptor field, bool hidden)
    {
        if (hidden && IsDefault(message, field))
            return new Span(Screen.Withheld, Style.Dim);
        var value = field.Accessor.GetValue(message);
        var text = value switch
        {
            IDictionary pairs => Terminal.Line(string.Join(", ", pairs.Keys.Cast<object>().Select(k => $"{k}={pairs[k]}"))),
            IList items => string.Join(", ", items.Cast<object>().Select(i => One(field, i))),
            _ => One(field, value),
        };
        return hidden ? $"{text} {Screen.Withheld}" : text;
    }

    /// <summary>The names of the fields of a message that its reader may not see.</summary>
    public static IReadOnlyCollection<string> WithheldIn(IMessage message) =>
        message.Descriptor.FindFieldByName("withheld")?.Accessor.GetValue(message) is IEnumerable<string> names ? [.. names] : [];

    /// <summary>Whether a field of a message has no value. Where the contract tells no and zero from nothing, they are values.</summary>
    public static bool IsDefault(IMessage message, FieldDescriptor field) =>
        field.HasPresence
            ? !field.Accessor.HasValue(message)
            : field.Accessor.GetValue(message) switch
            {
                null or "" or false => true,
                ICollection items => items.Count == 0,
                ByteString bytes => bytes.IsEmpty,
                System.Enum one => Convert.ToInt32(one, CultureInfo.InvariantCulture) == 0,
                (int or uint or long or ulong) and var number => Convert.ToDecimal(number, CultureInfo.InvariantCulture) == 0,
                _ => false,
            };

    // A caller's "no" is a decision, and is signed as a "yes" is. A record's own flag is shown only if it is true.
    private static bool IsNo(FieldDescriptor field) =>
        field is { FieldType: FieldType.Bool, IsRepeated: false, HasPresence: false } && Flag.IsGiven(field);

    // Whether messages are best read in one line. A text with translations is not: each translation is signed and must be seen.
    private static bool IsLine(FieldDescriptor field, IList values) =>
        field.FieldType != FieldType.Message
        || field.IsMap
        || Flag.IsValue(field.MessageType)
        || field.MessageType == PartialDate.Descriptor
        || field.MessageType == Text.Descriptor && values.Cast<Text>().All(t => t.Translations.Count == 0);

    private void Line(int indent, string name, Span value)
    {
        var before = $"{new string(' ', indent)}{name}:";
        if (value.Text.Length == 0)
        {
            screen.Line(new Span(before, Style.Dim));
            return;
        }
        if (screen.Shell.Columns is not { } columns || before.Length + 1 + Screen.ColumnsOf(value.Text) <= columns)
        {
            screen.Line(new Span(before + " ", Style.Dim), value);
            return;
        }
        // Long texts continue below. If the terminal broke the lines, a text could pose as the next field. So each line begins with a mark
        // that no field has.
        screen.Line(new Span(before, Style.Dim));
        var margin = $"{new string(' ', indent + 2)}{Mark}";
        var width = Math.Max(columns - margin.Length, Least);
        foreach (var line in Screen.Wrap(value.Text, width).SelectMany(l => Pieces(l, width)))
            screen.Line(new Span(margin, Style.Dim), value with { Text = line });
    }

    // A word that is longer than a line.
    private static IEnumerable<string> Pieces(string word, int width)
    {
        while (Screen.ColumnsOf(word) > width)
        {
            // A cut text ends with a sign. The added space makes sure that the word is always cut, so removing the last character removes
            // only the sign.
            var piece = Screen.Cut(word + " ", width + 1)[..^1];
            yield return piece;
            word = word[piece.Length..];
        }
        yield return word;
    }

    private void Item(IMessage item, int indent)
    {
        var lines = new StringWriter();
        var beneath = new Screen(lines, screen.Shell with { IsTerminal = false, Columns = screen.Shell.Columns });
        new Fields(beneath, whole).Write(item, indent);
        var text = lines.ToString();
        // The first line of each item carries its dash.
        screen.Lines(text.Length > indent ? $"{new string(' ', indent - 2)}- {text[indent..]}" : $"{new string(' ', indent - 2)}-\n");
    }

    private string One(FieldDescriptor field, object? value) =>
        value switch
        {
            null => "",
            System.Enum one => Words.Of(field.EnumType, Convert.ToInt32(one, CultureInfo.InvariantCulture)),
            bool yes => yes ? "yes" : "no",
            ByteString bytes => whole || bytes.Length <= 8
                ? Convert.ToHexStringLower(bytes.Span)
                : $"{Convert.ToHexStringLower(bytes.Span[..8])}… ({bytes.Length} bytes)",
            Timestamp time => TimeOf(time),
            ZonedTime { Time: { } time } zoned => $"{TimeOf(time)} ({Terminal.Line(zoned.TimeZone)})",
            Text text => $"{Terminal.Line(text.Text_)} [{Terminal.Line(text.Language)}]",
            PartialDate date => OfDate(date),
            Sealed sealedData => OfSealed(sealedData),
            IMessage message => Terminal.Line(message.ToString()!),
            _ => Terminal.Line(Convert.ToString(value, CultureInfo.InvariantCulture)!),
        };

    // A message that others made may hold an impossible time.
    private string TimeOf(Timestamp time) => Printable.At(time) is { } at ? screen.Time(at) : "not a time";

    private static string OfDate(PartialDate date)
    {
        int[] numbers = [date.Year, date.Month, date.Day];
        var known = numbers[..(Array.FindLastIndex(numbers, n => n != 0) + 1)];
        return string.Join('-', known.Select(n => $"{n:00}")) + (date.Assessed ? " (assessed)" : "");
    }

    private static string OfSealed(Sealed sealedData) =>
        sealedData.Withheld.Count > 0
            ? $"sealed, not for you {Screen.Withheld}"
            : $"sealed to {Terminal.Line(string.Join(", ", sealedData.Recipients))}";
}
