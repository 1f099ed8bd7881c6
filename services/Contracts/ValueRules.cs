using System.Collections.Frozen;
using System.Globalization;
using System.Text;
using System.Text.RegularExpressions;
using Buf.Validate;
using Google.Protobuf;
using Google.Protobuf.Reflection;
using Ministries.Types.V1;
using NodaTime.TimeZones;

namespace Ministries.Contracts;

/// <summary>The standard rules of <c>buf.validate</c> for one value, compiled once to a function. The package that evaluates them by CEL
/// takes longer than the rest of a write (decision 0051); tests compare the two on generated requests. A rule that is not supported here
/// stops the service at its start, so that no declared rule goes unenforced.</summary>
public static partial class ValueRules
{
    // The names come from NodaTime's copy of the time zone database, because an image may have none, and its files are not only zones.
    // Names without an area (EST, ROK) are left out: such abbreviations and names of countries do not say whose time is meant, or are no
    // longer maintained.
    private static readonly FrozenSet<string> TimeZones = TzdbDateTimeZoneSource
        .Default.GetIds()
        .Where(id => id.Contains('/') || id == "UTC")
        .ToFrozenSet(StringComparer.Ordinal);

    private static readonly FrozenDictionary<string, Regex> Patterns = new Dictionary<string, Regex>
    {
        [StringForms.RequestIdPattern] = RequestId(),
        [StringForms.RecordIdPattern] = RecordId(),
        [StringForms.PrisonerPattern] = Prisoner(),
        [StringForms.ParticipantPattern] = Participant(),
        [StringForms.StatePattern] = State(),
        [StringForms.LanguagePattern] = Language(),
        [StringForms.TimeZonePattern] = TimeZone(),
        [StringForms.CodePattern] = Code(),
        [StringForms.EtagPattern] = Etag(),
        [StringForms.PageTokenPattern] = PageToken(),
        [StringForms.FieldPathPattern] = FieldPath(),
        [StringForms.MessageNamePattern] = MessageName(),
    }.ToFrozenDictionary();

    /// <summary>Compiles the rules of a field's value to a function that returns what is wrong with a value (null: nothing).</summary>
    /// <param name="field">The field; if it is a list, the rules are those of its elements.</param>
    /// <param name="rules">The rules of the value.</param>
    /// <returns>The function; null: any value is allowed.</returns>
    public static Func<object, string?>? Of(FieldDescriptor field, FieldRules rules) =>
        field.FieldType switch
        {
            FieldType.String => OfString(rules.String ?? new StringRules(), StringForms.MeaningOf(field)),
            FieldType.Bytes => OfBytes(rules.Bytes ?? new BytesRules()),
            FieldType.Enum => OfEnum(rules.Enum ?? new EnumRules(), field.EnumType),
            FieldType.Int32 when rules.Int32 is { } r => Between(r.HasGte ? r.Gte : null, r.HasLte ? r.Lte : null),
            FieldType.UInt32 when rules.Uint32 is { } r => Between(r.HasGte ? r.Gte : null, r.HasLte ? r.Lte : null),
            FieldType.Int32 or FieldType.UInt32 or FieldType.Int64 or FieldType.UInt64 => null,
            FieldType.Message or FieldType.Bool => null,
            _ => throw new NotSupportedException($"{field.FullName}: no rules are known for {field.FieldType}"),
        };

    /// <summary>What is wrong with a text of a form; null: nothing.</summary>
    public static string? Check(StringForm form, string text)
    {
        if (form.MaxBytes > 0 && Encoding.UTF8.GetByteCount(text) > form.MaxBytes)
            return form.Rule;
        // RE2's $ is the end of the text; .NET's also matches before a last line feed, which no form may hold.
        if (form.Pattern.Length > 0 && (text.EndsWith('\n') || !Patterns[form.Pattern].IsMatch(text)))
            return form.Rule;
        if (form.NotContains.Length > 0 && text.Contains(form.NotContains, StringComparison.Ordinal))
            return form.Rule;
        return form.Meaning switch
        {
            Meaning.TimeZone when !TimeZones.Contains(text) => form.Rule,
            Meaning.Text => Texts.Fault(text),
            // Whether the agreement lists an official's code is asked when the caller is known (Officials).
            _ => null,
        };
    }

    /// <summary>Checks that all rules of a field are enforced here or by <see cref="Validation"/>. It removes the enforced rules from a
    /// copy, and no other may be left.</summary>
    /// <param name="field">The field.</param>
    /// <param name="rules">Its rules.</param>
    /// <exception cref="NotSupportedException">A rule is left.</exception>
    public static void CheckEnforced(FieldDescriptor field, FieldRules rules)
    {
        var left = rules.Clone();
        left.ClearRequired();
        if (left.Ignore == Ignore.IfZeroValue)
            left.ClearIgnore();
        if (field.IsMap)
            left.Map?.ClearMaxPairs();
        else if (!field.IsRepeated)
            TakeValueRules(field, left);
        else if (left.Repeated is { } list)
        {
            list.ClearMaxItems();
            list.ClearUnique();
            if (list.Items is { } items)
            {
                TakeValueRules(field, items);
                if (items.CalculateSize() == 0)
                    list.Items = null;
            }
        }
        if (left.Map?.CalculateSize() == 0 || left.Repeated?.CalculateSize() == 0)
            left.ClearType();
        if (left.CalculateSize() > 0)
            throw new NotSupportedException($"{field.FullName}: a rule is declared that is not enforced: {left}");
    }

    private static void TakeValueRules(FieldDescriptor field, FieldRules rules)
    {
        switch (field.FieldType)
        {
            case FieldType.String when rules.String is { } text:
                var form = StringForms.Of(text, StringForms.MeaningOf(field));
                if (text.Pattern == (form?.Pattern ?? "") && text.NotContains == (form?.NotContains ?? ""))
                {
                    text.ClearPattern();
                    text.ClearNotContains();
                }
                text.ClearMaxBytes();
                text.In.Clear();
                break;
            case FieldType.Bytes when rules.Bytes is { } bytes:
                bytes.ClearMaxLen();
                bytes.ClearMinLen();
                bytes.ClearLen();
                break;
            case FieldType.Enum when rules.Enum is { } number:
                number.ClearDefinedOnly();
                number.NotIn.Clear();
                break;
            case FieldType.Int32 when rules.Int32 is { } number:
                number.ClearGte();
                number.ClearLte();
                break;
            case FieldType.UInt32 when rules.Uint32 is { } number:
                number.ClearGte();
                number.ClearLte();
                break;
            case FieldType.Message when rules.Timestamp is { } time:
                if (time.Gte?.ToDateTimeOffset() == Validation.Earliest && time.Lt?.ToDateTimeOffset() == Validation.Latest)
                    rules.Timestamp = new TimestampRules();
                break;
            default:
                return;
        }
        IMessage?[] types = [rules.String, rules.Bytes, rules.Enum, rules.Int32, rules.Uint32, rules.Timestamp];
        if (types.All(t => t is null || t.CalculateSize() == 0))
            rules.ClearType();
    }

    private static Func<object, string?>? OfString(StringRules rules, Meaning meaning)
    {
        var formed = OfForm(rules, meaning);
        if (rules.In.Count == 0)
            return formed;
        var (known, rule) = (rules.In.ToFrozenSet(StringComparer.Ordinal), $"must be {string.Join(" or ", rules.In)}");
        return value => formed?.Invoke(value) ?? (known.Contains((string)value) ? null : rule);
    }

    private static Func<object, string?>? OfForm(StringRules rules, Meaning meaning)
    {
        var form = StringForms.Of(rules, meaning);
        var most = rules.MaxBytes;
        if (most > 0 && form?.MaxBytes != (int)most)
            return value =>
                (ulong)Encoding.UTF8.GetByteCount((string)value) > most ? $"must be at most {most} bytes of UTF-8"
                : form is null ? null
                : Check(form, (string)value);
        return form is null ? null : value => Check(form, (string)value);
    }

    private static Func<object, string?>? OfBytes(BytesRules rules)
    {
        var (least, most) = rules.HasLen ? (rules.Len, rules.Len) : (rules.MinLen, rules.HasMaxLen ? rules.MaxLen : ulong.MaxValue);
        if (least == 0 && most == ulong.MaxValue)
            return null;
        return value =>
            (ulong)((ByteString)value).Length is var length && length >= least && length <= most ? null
            : least == most ? $"must be {most} bytes"
            : length < least ? $"must be at least {least} bytes"
            : $"must be at most {most} bytes";
    }

    private static Func<object, string?> OfEnum(EnumRules rules, EnumDescriptor type)
    {
        var (known, not) = (type.Values.Select(v => v.Number).ToFrozenSet(), rules.NotIn.ToFrozenSet());
        return value =>
            (int)value is var number && !known.Contains(number) ? "has a number that the contract does not know"
            : not.Contains(number) ? "must not be the unspecified value"
            : null;
    }

    private static Func<object, string?> Between(long? least, long? greatest) =>
        value =>
            Convert.ToInt64(value, CultureInfo.InvariantCulture) is var number && number < least ? $"must be at least {least}"
            : number > greatest ? $"must be at most {greatest}"
            : null;

    [GeneratedRegex(StringForms.RequestIdPattern, RegexOptions.CultureInvariant)]
    private static partial Regex RequestId();

    [GeneratedRegex(StringForms.RecordIdPattern, RegexOptions.CultureInvariant)]
    private static partial Regex RecordId();

    [GeneratedRegex(StringForms.PrisonerPattern, RegexOptions.CultureInvariant)]
    private static partial Regex Prisoner();

    [GeneratedRegex(StringForms.ParticipantPattern, RegexOptions.CultureInvariant)]
    private static partial Regex Participant();

    [GeneratedRegex(StringForms.StatePattern, RegexOptions.CultureInvariant)]
    private static partial Regex State();

    [GeneratedRegex(StringForms.LanguagePattern, RegexOptions.CultureInvariant)]
    private static partial Regex Language();

    [GeneratedRegex(StringForms.TimeZonePattern, RegexOptions.CultureInvariant)]
    private static partial Regex TimeZone();

    [GeneratedRegex(StringForms.CodePattern, RegexOptions.CultureInvariant)]
    private static partial Regex Code();

    [GeneratedRegex(StringForms.EtagPattern, RegexOptions.CultureInvariant)]
    private static partial Regex Etag();

    [GeneratedRegex(StringForms.PageTokenPattern, RegexOptions.CultureInvariant)]
    private static partial Regex PageToken();

    [GeneratedRegex(StringForms.FieldPathPattern, RegexOptions.CultureInvariant)]
    private static partial Regex FieldPath();

    [GeneratedRegex(StringForms.MessageNamePattern, RegexOptions.CultureInvariant)]
    private static partial Regex MessageName();
}
