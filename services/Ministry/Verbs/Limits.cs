using System.Collections;
using System.Globalization;
using System.Text;
using System.Text.RegularExpressions;
using Buf.Validate;
using Google.Protobuf;
using Google.Protobuf.Reflection;
using Google.Protobuf.WellKnownTypes;
using Ministries.Contracts;
using Ministries.Types.V1;

namespace Ministries.Ministry;

/// <summary>The limits that the contracts declare by <c>buf.validate</c>: in words for a help, and checked before a request is sent, so
/// that a mistake is named by its flag. The services check them again; a limit that is not known here is left to them.</summary>
internal static class Limits
{
    /// <summary>What a field's value may be, each in a few words.</summary>
    public static IEnumerable<string> InWords(FieldDescriptor field)
    {
        var rules = StringForms.RulesOf(field) ?? new FieldRules();
        var value = field.IsRepeated ? rules.Repeated?.Items ?? new FieldRules() : rules;
        if (field.FieldType == FieldType.Enum)
            yield return $"one of {string.Join(", ", Words.Named(field.EnumType).Select(Words.Of))}";
        if (value.String is { In.Count: > 0 } among)
            yield return $"one of {string.Join(", ", among.In)}";
        if (value.String is { MaxBytes: > 0 } text && StringForms.Of(field) is not { MaxBytes: > 0 })
            yield return $"at most {text.MaxBytes} bytes";
        if (value.Bytes is { Len: > 0 } exact)
            yield return $"{exact.Len} bytes";
        if (value.Bytes is { MaxLen: > 0 } bytes)
            yield return $"at most {bytes.MaxLen} bytes";
        if (value.Int32 is { } number)
            yield return $"{number.Gte} to {number.Lte}";
        if (value.Uint32 is { } size)
            yield return $"{size.Gte} to {size.Lte}";
        if (rules.Repeated is { MaxItems: > 0 } list)
            yield return $"at most {list.MaxItems}{(list.Unique ? ", all different" : "")}";
    }

    /// <summary>What is wrong with a request, each with the path of its field, such as <c>account.attendees[0].office</c>.</summary>
    /// <param name="request">The request.</param>
    /// <param name="filled">The paths of fields that are filled in later; they may be missing.</param>
    public static IReadOnlyList<(string Path, string What)> Faults(IMessage request, IReadOnlySet<string> filled)
    {
        var faults = new List<(string, string)>();
        Check(request, "", filled, faults);
        return faults;
    }

    private static void Check(IMessage message, string above, IReadOnlySet<string> filled, List<(string, string)> faults)
    {
        foreach (var field in message.Descriptor.Fields.InFieldNumberOrder())
        {
            var path = above.Length == 0 ? field.Name : $"{above}.{field.Name}";
            if (Flag.IsOutputOnly(field) || filled.Contains(path))
                continue;
            var (value, rules) = (field.Accessor.GetValue(message), StringForms.RulesOf(field) ?? new FieldRules());
            if (IsEmpty(field, value))
            {
                if (!rules.Required && !Flag.IsRequiredField(field))
                    continue;
                // Of a message, what must be given is named.
                if (field is { FieldType: FieldType.Message, IsRepeated: false } && !Flag.IsValue(field.MessageType))
                    Check((IMessage)Activator.CreateInstance(field.MessageType.ClrType)!, path, filled, faults);
                else
                    faults.Add((path, "is missing"));
                continue;
            }
            if (field.IsMap)
                continue;
            if (!field.IsRepeated)
            {
                One(field, value, rules, path, filled, faults);
                continue;
            }
            var items = ((IList)value).Cast<object>().ToList();
            if (rules.Repeated is { MaxItems: > 0 and var most } && (ulong)items.Count > most)
                faults.Add((path, $"has {items.Count} items; at most {most}"));
            if (rules.Repeated is { Unique: true } && items.Distinct().Count() < items.Count)
                faults.Add((path, "has an item twice"));
            foreach (var (item, i) in items.Select((item, i) => (item, i)))
                One(field, item, rules.Repeated?.Items ?? new FieldRules(), $"{path}[{i}]", filled, faults);
        }
    }

    private static void One(
        FieldDescriptor field,
        object value,
        FieldRules rules,
        string path,
        IReadOnlySet<string> filled,
        List<(string, string)> faults
    )
    {
        var fault = value switch
        {
            string text => OfText(field, text, rules.String),
            ByteString bytes => OfBytes(bytes, rules.Bytes),
            int number when rules.Int32 is { } limits && (number < limits.Gte || number > limits.Lte) =>
                $"is {limits.Gte} to {limits.Lte}, not {number}",
            uint number when rules.Uint32 is { } limits && (number < limits.Gte || number > limits.Lte) =>
                $"is {limits.Gte} to {limits.Lte}, not {number}",
            Timestamp time when rules.Timestamp is { } limits && (time < limits.Gte || time >= limits.Lt) => "is no time from 1900 to 2199",
            System.Enum one when field.EnumType.FindValueByNumber(Convert.ToInt32(one, CultureInfo.InvariantCulture)) is null =>
                "is no value of the contract",
            _ => null,
        };
        if (fault is not null)
            faults.Add((path, fault));
        // What is sealed was made by the library.
        if (value is IMessage inner and not (Timestamp or Sealed))
            Check(inner, path, filled, faults);
    }

    private static string? OfText(FieldDescriptor field, string text, StringRules? rules)
    {
        var form = StringForms.Of(field)?.Rule;
        if (rules is null)
            return null;
        if (rules.In.Count > 0 && !rules.In.Contains(text))
            return $"must be one of {string.Join(", ", rules.In)}";
        if (rules.Pattern.Length > 0 && !Regex.IsMatch(text, $"{rules.Pattern[..^1]}\\z", RegexOptions.NonBacktracking))
            return $"{form ?? $"must match {rules.Pattern}"}, not {text}";
        if (rules.MaxBytes > 0 && (ulong)Encoding.UTF8.GetByteCount(text) > rules.MaxBytes)
            return $"has more than {rules.MaxBytes} bytes";
        return rules.NotContains.Length > 0 && text.Contains(rules.NotContains, StringComparison.Ordinal) ? form ?? "is another id" : null;
    }

    private static string? OfBytes(ByteString bytes, BytesRules? rules) =>
        rules is { Len: > 0 } exact && (ulong)bytes.Length != exact.Len ? $"has {bytes.Length} bytes, not {exact.Len}"
        : rules is { MaxLen: > 0 } most && (ulong)bytes.Length > most.MaxLen ? $"has {bytes.Length} bytes; at most {most.MaxLen}"
        : null;

    private static bool IsEmpty(FieldDescriptor field, object? value) =>
        value switch
        {
            null or "" => true,
            ByteString bytes => bytes.IsEmpty,
            ICollection items => items.Count == 0,
            System.Enum one => Convert.ToInt32(one, CultureInfo.InvariantCulture) == 0,
            // False and zero are values of a field without presence. A required number is judged by its limits.
            bool => false,
            _ => !field.HasPresence && value is 0 or 0u && StringForms.RulesOf(field) is { Required: true },
        };
}
