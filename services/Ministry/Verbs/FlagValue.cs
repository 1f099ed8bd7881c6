using System.Globalization;
using System.Text.RegularExpressions;
using Google.Protobuf;
using Google.Protobuf.Reflection;
using Google.Protobuf.WellKnownTypes;
using Ministries.Contracts;
using Ministries.Types.V1;

namespace Ministries.Ministry;

/// <summary>Reads the values of flags: the one place that knows how a field is written on a command line.</summary>
/// <param name="zone">The zone of a side's local time that names none.</param>
/// <param name="now">The moment of which <c>now</c> and <c>+2h</c> speak.</param>
/// <param name="read">Reads the text of a file; <c>-</c> is standard input.</param>
internal sealed partial class FlagValue(TimeZoneInfo zone, DateTimeOffset now, Func<string, string> read)
{
    /// <summary>How a field's value is written, for a help.</summary>
    public static string HintFor(FieldDescriptor field) =>
        field.FieldType switch
        {
            _ when field.IsMap => "key=value",
            FieldType.Bool => "true|false",
            FieldType.Enum => "value",
            FieldType.Bytes => "base64",
            FieldType.String => StringForms.Of(field)?.Name.Replace(' ', '-').Replace("'s", "", StringComparison.Ordinal) ?? "text",
            FieldType.Message when field.MessageType == Timestamp.Descriptor => "time",
            FieldType.Message when field.MessageType == ZonedTime.Descriptor => "time",
            FieldType.Message when field.MessageType == Duration.Descriptor => "duration",
            FieldType.Message when field.MessageType == Sealed.Descriptor => "@file|-",
            FieldType.Message when field.IsRepeated => "field=value,…",
            FieldType.Message => "@file",
            FieldType.Double or FieldType.Float => "number",
            _ => "n",
        };

    /// <summary>The text of a file; <c>-</c> is standard input.</summary>
    public string Read(string file) => read(file);

    /// <summary>Sets a field of a message.</summary>
    /// <param name="message">The message.</param>
    /// <param name="field">The field.</param>
    /// <param name="texts">The value; of a list its items, of a map its pairs.</param>
    /// <exception cref="FormatException">A text is no such value.</exception>
    public void Set(IMessage message, FieldDescriptor field, IReadOnlyList<string> texts)
    {
        if (!field.IsRepeated)
        {
            // A message of which some fields were given already keeps them.
            if (
                field.FieldType == FieldType.Message
                && field.Accessor.GetValue(message) is IMessage there
                && !Flag.IsValue(field.MessageType)
            )
                Fill(there, texts[^1]);
            else
                field.Accessor.SetValue(message, Parse(field, texts[^1]));
            return;
        }
        if (field.IsMap)
        {
            var map = (System.Collections.IDictionary)field.Accessor.GetValue(message);
            foreach (var text in texts)
                map[Parse(field.MessageType.Fields[1], Before(text, '='))] = Parse(field.MessageType.Fields[2], After(text, '='));
            return;
        }
        var list = (System.Collections.IList)field.Accessor.GetValue(message);
        foreach (var text in texts.SelectMany(t => Items(field, t)))
            list.Add(Parse(field, text));
    }

    // Codes and ids hold no comma, so several may stand in one value.
    private static string[] Items(FieldDescriptor field, string text) =>
        field.FieldType == FieldType.Enum
        || field.FieldType == FieldType.String && StringForms.Of(field) is { } form && form != StringForms.Text
            ? text.Split(',', StringSplitOptions.TrimEntries)
            : [text];

    private object Parse(FieldDescriptor field, string text) =>
        field.FieldType switch
        {
            FieldType.String => text.StartsWith("@@", StringComparison.Ordinal) ? text[1..]
            : text.StartsWith('@') ? read(text[1..])
            : text,
            FieldType.Bool => text switch
            {
                "true" or "yes" => true,
                "false" or "no" => false,
                _ => throw new FormatException($"is true or false, not {text}"),
            },
            FieldType.Enum => Words.Find(field.EnumType, text) is { } value
                ? System.Enum.ToObject(field.EnumType.ClrType, value.Number)
                : throw NoSuch(field.EnumType, text),
            FieldType.Bytes => BytesOf(text),
            FieldType.Int32 or FieldType.SInt32 or FieldType.SFixed32 => Number<int>(text),
            FieldType.UInt32 or FieldType.Fixed32 => Number<uint>(text),
            FieldType.Int64 or FieldType.SInt64 or FieldType.SFixed64 => Number<long>(text),
            FieldType.UInt64 or FieldType.Fixed64 => Number<ulong>(text),
            FieldType.Double => Number<double>(text),
            FieldType.Float => Number<float>(text),
            FieldType.Message when field.MessageType == Timestamp.Descriptor => TimeOf(text, zoned: false).Time,
            FieldType.Message when field.MessageType == ZonedTime.Descriptor => TimeOf(text, zoned: true),
            FieldType.Message when field.MessageType == Duration.Descriptor => SpanOf(text).ToDuration(),
            FieldType.Message => Fill((IMessage)Activator.CreateInstance(field.MessageType.ClrType)!, text),
            _ => throw new FormatException($"cannot be given as a flag ({field.FieldType})"),
        };

    // A message: JSON in a file, JSON, or some of its fields.
    private IMessage Fill(IMessage message, string text)
    {
        if (text is "-" || text.StartsWith('@'))
            return Merge(message, read(text.TrimStart('@')));
        if (text.StartsWith('{'))
            return Merge(message, text);
        foreach (var group in Pairs(text).GroupBy(p => p.Name, p => p.Value))
        {
            var (target, names) = (message, group.Key.Split('.'));
            foreach (var name in names[..^1])
                target = Inner(target, FieldOf(target.Descriptor, name));
            var field = FieldOf(target.Descriptor, names[^1]);
            try
            {
                Set(target, field, [.. group]);
            }
            catch (FormatException e)
            {
                throw new FormatException($"{group.Key} {e.Message}", e);
            }
        }
        return message;
    }

    /// <summary>The message in a field, made if there is none.</summary>
    public static IMessage Inner(IMessage message, FieldDescriptor field)
    {
        if (field.FieldType != FieldType.Message || field.IsRepeated)
            throw new FormatException($"{Words.Of(field)} has no fields");
        if (field.Accessor.GetValue(message) is IMessage there)
            return there;
        var made = (IMessage)Activator.CreateInstance(field.MessageType.ClrType)!;
        field.Accessor.SetValue(message, made);
        return made;
    }

    private static FieldDescriptor FieldOf(MessageDescriptor type, string name) =>
        type.Fields.InFieldNumberOrder()
            .FirstOrDefault(f => Words.Of(f) == name.Replace('_', '-') || f.IsRepeated && Words.Singular(Words.Of(f)) == name)
        ?? throw new FormatException(
            $"has no {name}: it takes {string.Join(", ", type.Fields.InFieldNumberOrder().Select(Words.Of))}, each as field=value"
        );

    // A comma begins the next field if the name of a field follows; a list's items follow each other as they are.
    private static IEnumerable<(string Name, string Value)> Pairs(string text)
    {
        var found = NextPair().Matches(text).ToArray();
        if (found.Length == 0 || found[0].Index != 0)
            throw new FormatException($"is written field=value,field=value or @file, not {text}");
        for (var i = 0; i < found.Length; i++)
        {
            var end = i + 1 < found.Length ? found[i + 1].Index : text.Length;
            var start = found[i].Index + found[i].Length;
            yield return (found[i].Groups["name"].Value, text[start..end]);
        }
    }

    private static IMessage Merge(IMessage message, string json)
    {
        try
        {
            message.MergeFrom(Contract.Parser.Parse(json, message.Descriptor).ToByteArray());
            return message;
        }
        catch (Exception e) when (e is InvalidProtocolBufferException or InvalidJsonException)
        {
            throw new FormatException($"is no {message.Descriptor.Name} in JSON: {e.Message}", e);
        }
    }

    private ByteString BytesOf(string text)
    {
        try
        {
            return text.StartsWith('@') ? ByteString.FromBase64(read(text[1..]).Trim())
                : text.StartsWith("hex:", StringComparison.Ordinal) ? ByteString.CopyFrom(Convert.FromHexString(text[4..]))
                : ByteString.FromBase64(text);
        }
        catch (FormatException)
        {
            throw new FormatException("is Base64, hex:… or @file with Base64");
        }
    }

    private static T Number<T>(string text)
        where T : IParsable<T> =>
        T.TryParse(text, CultureInfo.InvariantCulture, out var number) ? number : throw new FormatException($"is a number, not {text}");

    private static FormatException NoSuch(EnumDescriptor type, string text)
    {
        var names = Words.Named(type).Select(Words.Of).ToArray();
        var meant = Suggestion.Nearest(text, names) is { } near ? $"; did you mean {near}?" : "";
        return new FormatException($"is one of {string.Join(", ", names)}, not {text}{meant}");
    }

    // ---- times -----------------------------------------------------------------------------------------------------------------

    private const string TimeForm =
        "is a time with its zone, such as 2025-03-17T10:00+09:00, 2025-03-17T01:00Z or 2025-03-17T10:00[Asia/Seoul]; or now, +2h, -3d";

    private ZonedTime TimeOf(string text, bool zoned)
    {
        if (text is "now")
            return Zoned(now, zone, zoned);
        if (text.Length > 1 && text[0] is '+' or '-')
            return Zoned(text[0] == '+' ? now + SpanOf(text[1..]) : now - SpanOf(text[1..]), zone, zoned);
        if (!WrittenTime().IsMatch(text))
            throw new FormatException($"{TimeForm}, not {text}");
        var (clock, name) = text.IndexOf('[', StringComparison.Ordinal) is > 0 and var at ? (text[..at], text[(at + 1)..^1]) : (text, null);
        var named = name is null ? null : ZoneNamed(name);
        if (named is not null && WithoutZone().IsMatch(clock))
        {
            var local = Moment(clock + "Z").DateTime;
            if (named.IsInvalidTime(local) || named.IsAmbiguousTime(local))
                throw new FormatException(
                    $"does not name one moment: in {name} that time is skipped or comes twice; add the offset from UTC"
                );
            return Zoned(new DateTimeOffset(local, named.GetUtcOffset(local)), named, zoned);
        }
        if (WithoutZone().IsMatch(clock))
            throw new FormatException($"{TimeForm}: {text} has no zone");
        var moment = Moment(clock);
        var used = named ?? (clock.EndsWith('Z') ? TimeZoneInfo.Utc : zone);
        if (zoned && used.GetUtcOffset(moment) != moment.Offset)
            throw new FormatException(
                named is null
                    ? $"needs the name of its zone, such as {clock}[Asia/Seoul]: {moment:zzz} is not the offset of {used.Id} then (`ministry config set zone Asia/Seoul` sets yours)"
                    : $"contradicts itself: {moment:zzz} is not the offset of {name} then"
            );
        return Zoned(moment, used, zoned);
    }

    private static ZonedTime Zoned(DateTimeOffset moment, TimeZoneInfo zone, bool zoned) =>
        new() { Time = moment.ToTimestamp(), TimeZone = zoned ? (zone.Id is "Etc/UTC" or "Etc/UCT" or "UCT" ? "UTC" : zone.Id) : "" };

    private static DateTimeOffset Moment(string clock) =>
        DateTimeOffset.TryParse(clock, CultureInfo.InvariantCulture, DateTimeStyles.AssumeUniversal, out var moment)
            ? moment
            : throw new FormatException($"{TimeForm}, not {clock}");

    /// <summary>The zone of this name in the IANA database.</summary>
    public static TimeZoneInfo ZoneNamed(string name) =>
        TimeZoneInfo.TryFindSystemTimeZoneById(name, out var found) ? found : throw new FormatException($"has an unknown zone: {name}");

    private static TimeSpan SpanOf(string text)
    {
        if (!WrittenSpan().IsMatch(text))
            throw new FormatException($"is a duration such as 90m, 2h30m or 14d, not {text}");
        var span = TimeSpan.Zero;
        foreach (Match part in SpanPart().Matches(text))
        {
            var number = double.Parse(part.Groups[1].Value, CultureInfo.InvariantCulture);
            span += part.Groups[2].Value switch
            {
                "d" => TimeSpan.FromDays(number),
                "h" => TimeSpan.FromHours(number),
                "m" => TimeSpan.FromMinutes(number),
                _ => TimeSpan.FromSeconds(number),
            };
        }
        return span;
    }

    private static string Before(string text, char mark) =>
        text.IndexOf(mark, StringComparison.Ordinal) is > 0 and var at
            ? text[..at]
            : throw new FormatException($"is written key=value, not {text}");

    private static string After(string text, char mark) => text[(text.IndexOf(mark, StringComparison.Ordinal) + 1)..];

    [GeneratedRegex(@"(?:^|,)(?<name>[a-z][a-z0-9_.-]*)=")]
    private static partial Regex NextPair();

    [GeneratedRegex(@"^\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d(\.\d{1,7})?)?)?(Z|[+-]\d\d:\d\d)?(\[[A-Za-z0-9_+/-]+\])?$")]
    private static partial Regex WrittenTime();

    [GeneratedRegex(@"^\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d(\.\d{1,7})?)?)?$")]
    private static partial Regex WithoutZone();

    [GeneratedRegex(@"^(\d{1,6}(\.\d{1,3})?[dhms]){1,4}$")]
    private static partial Regex WrittenSpan();

    [GeneratedRegex(@"([\d.]+)([dhms])")]
    private static partial Regex SpanPart();
}
