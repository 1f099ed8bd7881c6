using System.Collections;
using System.Globalization;
using System.Text;
using System.Text.RegularExpressions;
using Google.Protobuf;
using Google.Protobuf.Reflection;
using Google.Protobuf.WellKnownTypes;

namespace Ministries.Evidence.Tests;

/// <summary>Changes texts, bytes and messages in the ways in which implementations are known to differ, and at random.</summary>
/// <param name="random">The source of randomness: the same seed makes the same changes.</param>
public sealed partial class Mutator(Random random)
{
    private static readonly string[] Strange =
    [
        " ",
        "  ",
        "\t",
        "\n",
        "\r\n",
        "\r",
        "\0",
        "\u001f",
        "\u007f",
        "\u0085",
        "\u00a0",
        "\ufeff",
        "\u200b",
        "\u2028",
        "\u3000",
        "\u202e",
        "é",
        "e\u0301",
        "１",
        "٣",
        "—",
        "ß",
        "İ",
        "𝟙",
        "\ud83d\ude00",
        "+",
        "=",
        "==",
        ";",
        ",",
        ":",
        "::",
        "\"",
        "\\",
        "\\\"",
        "/",
        "_",
        "-",
        "%2F",
        "%00",
        "0",
        "00",
        "A",
        "?",
        "'",
    ];

    private static readonly string[] Numbers =
    [
        "0",
        "-0",
        "-1",
        "+1",
        "01",
        "1.0",
        "1e3",
        "0x1",
        "1_000",
        "NaN",
        "Infinity",
        "2147483648",
        "4294967296",
        "9007199254740993",
        "253370764799",
        "253370764800",
        "253402300799",
        "253402300800",
        "9223372036854775807",
        "9223372036854775808",
        "18446744073709551615",
        "18446744073709551616",
        "99999999999999999999",
        "",
    ];

    private static readonly long[] Times =
    [
        0,
        1,
        -1,
        253_370_764_799,
        253_370_764_800,
        253_402_300_799,
        253_402_300_800,
        long.MaxValue,
        long.MinValue,
        -62_135_596_800,
        -62_135_596_801,
    ];

    public int Next(int count) => random.Next(count);

    public bool Chance(double chance) => random.NextDouble() < chance;

    public T Of<T>(params IReadOnlyList<T> items) => items[random.Next(items.Count)];

    public byte[] Bytes(int length)
    {
        var bytes = new byte[length];
        random.NextBytes(bytes);
        return bytes;
    }

    /// <summary>A text changed in one to three ways.</summary>
    public string Text(string text)
    {
        for (var times = Of(1, 1, 1, 2, 3); times > 0; times--)
            text = Once(text);
        return text;
    }

    private string Once(string text)
    {
        var at = Chance(0.3) ? Of(0, text.Length) : random.Next(text.Length + 1);
        var end = Math.Min(text.Length, at + random.Next(1, 6));
        switch (random.Next(14))
        {
            case 0 or 1 or 2:
                return text.Insert(at, Of(Strange));
            case 3:
                return text[..at] + text[end..];
            case 4:
                return text[..end] + text[at..];
            case 5:
                return text[..at] + Of(Strange) + text[end..];
            case 6 when NumberRegex().Matches(text) is { Count: > 0 } numbers:
                var number = numbers[random.Next(numbers.Count)];
                return text[..number.Index] + Of(Numbers) + text[(number.Index + number.Length)..];
            case 7:
                return text[..at] + (Chance(0.5) ? text[at..end].ToUpperInvariant() : text[at..end].ToLowerInvariant()) + text[end..];
            // Base64 with padding removed, added, or with bits set in it.
            case 8:
                return PaddingRegex().Replace(text, m => Of("", "=", "==", "===", "%3D"), 1);
            case 9:
                return LastRegex().Replace(text, m => $"{(char)(m.Value[0] + 1)}{m.Value[1..]}", 1);
            case 10:
                return text.Replace(Of("+", "/"), Of("-", "_"), StringComparison.Ordinal);
            case 11:
                return text.Replace("\n", Of("\r\n", "\n\n", "\r", "\u0085", " "), StringComparison.Ordinal);
            case 12:
                return text.TrimEnd('\n', '=', ':', ';');
            default:
                return text + Of(Strange);
        }
    }

    [GeneratedRegex(@"\d+", RegexOptions.CultureInvariant)]
    private static partial Regex NumberRegex();

    [GeneratedRegex("=+", RegexOptions.CultureInvariant)]
    private static partial Regex PaddingRegex();

    [GeneratedRegex("[A-Ya-y0-8](?==)", RegexOptions.CultureInvariant)]
    private static partial Regex LastRegex();

    /// <summary>Changes JSON in ways that protobuf's readers read differently.</summary>
    public string Json(string text)
    {
        var colon = text.IndexOf("\":", random.Next(text.Length), StringComparison.Ordinal);
        var brace = text.IndexOf('{', random.Next(text.Length));
        var quote = text.IndexOf('"', random.Next(text.Length));
        switch (random.Next(12))
        {
            case 0 when brace >= 0:
                return text.Insert(
                    brace + 1,
                    Of("\"__proto__\":{},", "\"__proto__\":null,", "\"constructor\":1,", "\"\":1,", "\"toString\":\"x\",")
                );
            case 1 when brace >= 0 && PropertyRegex().Match(text, brace) is { Success: true } property:
                return text.Insert(brace + 1, property.Value + ",");
            case 2 when quote >= 0:
                return text.Insert(
                    quote + 1,
                    Of("\\u0061", "\\/", "\\ud800", "\\udc00\\ud800", "\\u0000", "\\u00e9", "\\b", "\\x41", "\\u007f", "\\u001F")
                );
            case 3 when colon >= 0:
                return text.Insert(colon + 2, Of("null,\"x\":", "[", "{", "true,", new string('[', 5000), "1e400,", "\"\","));
            case 4 when colon >= 0:
                return text.Insert(colon, Of("_", " ", "\\u005f", "X"));
            case 5:
                return text.Replace(":true", Of(":1", ":\"true\"", ":false", ":True"), StringComparison.Ordinal);
            case 6:
                return QuotedNumberRegex().Replace(text, m => $":{Of(Numbers)}", 1);
            case 7:
                return QuotedNumberRegex().Replace(text, m => $":\"{Of(Numbers)}\"", 1);
            case 8:
                return EnumRegex().Replace(text, m => Of("0", "1", "2", "99", "-1", "\"1\"", "\"PART_KIND_NONE\"", "null"), 1);
            case 9:
                return TimeRegex()
                    .Replace(
                        text,
                        m => Of("Z", ".1Z", ".000Z", ".000000001Z", ".1234567Z", "+00:00", ".999999999999Z", "z", "", "-00:00", "Z "),
                        1
                    );
            case 10:
                return Of(" ", "\t", "\n", "\ufeff", "//\n", "/**/") + text;
            default:
                return text + Of(" ", ",", "}", "\0", "\ufeff", "{}");
        }
    }

    [GeneratedRegex("\"[a-zA-Z]+\":\"[^\"]{0,40}\"", RegexOptions.CultureInvariant)]
    private static partial Regex PropertyRegex();

    [GeneratedRegex(":\"\\d+\"", RegexOptions.CultureInvariant)]
    private static partial Regex QuotedNumberRegex();

    [GeneratedRegex("\"[A-Z]+_[A-Z_]+\"", RegexOptions.CultureInvariant)]
    private static partial Regex EnumRegex();

    [GeneratedRegex(@"(\.\d+)?Z", RegexOptions.CultureInvariant)]
    private static partial Regex TimeRegex();

    /// <summary>Changes a message's bytes: flips them, cuts them, or adds what protobuf writers may add.</summary>
    public byte[] Wire(byte[] bytes)
    {
        byte[][] more =
        [
            [0x0a, 0],
            [0x0a, 1, 0x41],
            [0x0a, 1, 0xff],
            [0x08, 1],
            [0x12, 0],
            [0x22, 0],
            [0x20, 1],
            [0x2a, 0],
            [0xa0, 0x06, 1],
            [0x0b, 0x0c],
            [0x0b],
            [0x0c],
            [0x00, 0],
            [0x0a, 0x80, 0],
            [0x8a, 0, 0],
            [0x8a, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0],
            [0x0d, 1, 2, 3, 4],
            [0x09, 1, 2, 3, 4, 5, 6, 7, 8],
            [0x0e, 0],
            [0x0f],
            [0xfa, 0xff, 0xff, 0xff, 0x0f, 0],
            [0xfa, 0xff, 0xff, 0xff, 0x1f, 0],
            [0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
            [0x80, 0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
            [0x12, 3, 0x0a, 1, 0xff],
            [0x22, 2, 0x28, 1],
            [0x22, 4, 0x0a, 0, 0x0a, 0],
            [0x22, 2, 0x0b, 0x0c],
        ];
        if (bytes.Length == 0 || Chance(0.5))
            return Chance(0.5) ? [.. bytes, .. Of(more)] : [.. Of(more), .. bytes];
        var changed = (byte[])bytes.Clone();
        if (Chance(0.2))
            return changed[..random.Next(changed.Length)];
        changed[random.Next(changed.Length)] ^= (byte)(1 << random.Next(8));
        return changed;
    }

    /// <summary>Changes one field somewhere in a message.</summary>
    public void Field(IMessage message)
    {
        var fields = message.Descriptor.Fields.InFieldNumberOrder();
        var field = fields[random.Next(fields.Count)];
        var value = field.Accessor.GetValue(message);
        if (field.IsRepeated)
            List(field, (IList)value);
        else if (value is Timestamp or null && field.FieldType == FieldType.Message && field.MessageType == Timestamp.Descriptor)
            field.Accessor.SetValue(message, Chance(0.1) ? null : Time((Timestamp?)value));
        else if (field.FieldType == FieldType.Message && value is IMessage inner)
            Field(inner);
        else if (field.FieldType != FieldType.Message)
            field.Accessor.SetValue(message, Scalar(field, value!));
    }

    private Timestamp Time(Timestamp? time) =>
        Of(
            new Timestamp { Seconds = Of(Times), Nanos = Of(0, 1, 100, 999_999_999, 999_999_900, 1_000_000_000, -1) },
            new Timestamp { Seconds = time?.Seconds ?? 0, Nanos = Of(0, 1, 50, 99, 100, 1000, 123_456_789) },
            new Timestamp(),
            new Timestamp { Seconds = (time?.Seconds ?? 1_700_000_000) + random.Next(-100, 100) }
        );

    private void List(FieldDescriptor field, IList items)
    {
        if (items.Count == 0)
            return;
        var at = random.Next(items.Count);
        switch (random.Next(6))
        {
            case 0:
                items.RemoveAt(at);
                break;
            case 1:
                items.Add(items[at] is IMessage copied ? Clone(copied) : items[at]);
                break;
            case 2:
                var (one, other) = (items[at], items[random.Next(items.Count)]);
                items.Remove(one);
                items.Insert(random.Next(items.Count + 1), one);
                _ = other;
                break;
            default:
                if (items[at] is IMessage message)
                    Field(message);
                else
                    items[at] = Scalar(field, items[at]!);
                break;
        }
    }

    private static IMessage Clone(IMessage message) => message.Descriptor.Parser.ParseFrom(message.ToByteArray());

    private object Scalar(FieldDescriptor field, object value) =>
        value switch
        {
            // Half of a surrogate pair has no UTF-8, so a message with it could not be written.
            string text => Encoding.UTF8.GetString(Encoding.UTF8.GetBytes(Text(text))),
            ByteString bytes when bytes.IsEmpty || Chance(0.2) => ByteString.CopyFrom(Bytes(Of(0, 1, 31, 32, 33, 64))),
            ByteString bytes => ByteString.CopyFrom(Wire(bytes.ToByteArray())),
            bool yes => !yes,
            ulong number => Of<ulong>(0, 1, 2, number + 1, number - 1, 253_402_300_800, ulong.MaxValue),
            uint => Of(0u, 1u, uint.MaxValue),
            _ when field.FieldType == FieldType.Enum => System.Enum.ToObject(field.EnumType.ClrType, Of(0, 1, 2, 3, 5, 6, 7, 99, -1)),
            _ => value,
        };

    /// <summary>The text in UTF-8, without characters that have none.</summary>
    public static byte[] Utf8(string text) => Encoding.UTF8.GetBytes(text);

    public string Id() => random.Next().ToString(CultureInfo.InvariantCulture);
}
