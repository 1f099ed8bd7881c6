using System.Buffers;
using System.Collections.Frozen;
using System.Globalization;
using System.Text;
using System.Text.RegularExpressions;
using Buf.Validate;
using Google.Protobuf;
using Google.Protobuf.Reflection;
using Ministries.Contracts;
using Ministries.Types.V1;
using NodaTime.TimeZones;

namespace Ministries.Hosting;

/// <summary>The standard rules of <c>buf.validate</c> for one value, made into a function once. The package that evaluates them by CEL
/// takes longer than all the rest of a write (decision 0051); tests compare the two on generated requests. A rule that is not here
/// stops the service at its start, so that none is declared and not enforced.</summary>
public static partial class ValueRules
{
    private static readonly SearchValues<char> Base64Url = SearchValues.Create(
            "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"
        ),
        Code = SearchValues.Create("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._/-");

    // From the copy of the database that NodaTime carries: an image need not have one, and what is there would not only hold names of
    // zones. Names without an area are abbreviations and countries (EST, ROK): they do not say whose time it is, or are not kept.
    private static readonly FrozenSet<string> TimeZones = TzdbDateTimeZoneSource
        .Default.GetIds()
        .Where(id => id.Contains('/') || id == "UTC")
        .ToFrozenSet(StringComparer.Ordinal);

    private static readonly FrozenDictionary<string, Func<string, bool>> Matchers = new Dictionary<string, Func<string, bool>>
    {
        [StringForms.RequestId.Pattern] = text => text.Length == 36 && Uuid().IsMatch(text),
        [StringForms.RecordId.Pattern] = text => text.Length <= 40 && RecordId().IsMatch(text),
        [StringForms.Prisoner.Pattern] = text => text.Length == 31 && PrisonerReference().IsMatch(text),
        [StringForms.Participant.Pattern] = Participant().IsMatch,
        [StringForms.State.Pattern] = text => text.Length == 2 && char.IsAsciiLetterUpper(text[0]) && char.IsAsciiLetterUpper(text[1]),
        [StringForms.Language.Pattern] = Language().IsMatch,
        [StringForms.TimeZone.Pattern] = TimeZone().IsMatch,
        [StringForms.Code.Pattern] = text => text.Length is >= 1 and <= 64 && !text.AsSpan().ContainsAnyExcept(Code),
        [StringForms.Etag.Pattern] = text => text.Length is >= 1 and <= 64 && !text.AsSpan().ContainsAnyExcept(Base64Url),
        [StringForms.PageToken.Pattern] = text => text.Length is >= 1 and <= 512 && !text.AsSpan().ContainsAnyExcept(Base64Url),
    }.ToFrozenDictionary();

    /// <summary>What a value of the field is asked: a function from the value to what is wrong with it (null: nothing).</summary>
    /// <param name="field">The field; of a list, its elements are meant.</param>
    /// <param name="rules">The rules of the value.</param>
    /// <returns>The function; null: any value will do.</returns>
    /// <exception cref="NotSupportedException">A rule is not known here.</exception>
    public static Func<object, string?>? Of(FieldDescriptor field, FieldRules rules) =>
        field.FieldType switch
        {
            FieldType.String => OfString(rules.String ?? new StringRules(), StringForms.MeaningOf(field), field),
            FieldType.Bytes => OfBytes(rules.Bytes ?? new BytesRules(), field),
            FieldType.Enum => OfEnum(rules.Enum ?? new EnumRules(), field),
            FieldType.Int32 => OfNumber(rules.Int32, r => r.HasGte ? r.Gte : null, r => r.HasLte ? r.Lte : null, field),
            FieldType.UInt32 => OfNumber(rules.Uint32, r => r.HasGte ? r.Gte : null, r => r.HasLte ? r.Lte : null, field),
            FieldType.Int64 => OfNumber(rules.Int64, r => r.HasGte ? r.Gte : null, r => r.HasLte ? r.Lte : null, field),
            FieldType.UInt64 => OfNumber(rules.Uint64, r => r.HasGte ? r.Gte : null, r => r.HasLte ? r.Lte : null, field),
            FieldType.Message or FieldType.Bool => null,
            _ => throw new NotSupportedException($"{field.FullName}: no rules are known for {field.FieldType}"),
        };

    /// <summary>What is wrong with a text of a form; null: nothing.</summary>
    public static string? Check(StringForm form, string text)
    {
        if (form.MaxBytes > 0 && Encoding.UTF8.GetByteCount(text) > form.MaxBytes)
            return form.Rule;
        if (form.Pattern.Length > 0 && !Matchers[form.Pattern](text))
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

    private static Func<object, string?>? OfString(StringRules rules, Meaning meaning, FieldDescriptor field)
    {
        var form = StringForms.Of(rules, meaning);
        Only(
            rules,
            new StringRules
            {
                Pattern = form?.Pattern ?? "",
                MaxBytes = rules.MaxBytes,
                NotContains = form?.NotContains ?? "",
            },
            field
        );
        var most = rules.MaxBytes;
        if (most > 0 && form?.MaxBytes != (int)most)
            return value =>
                (ulong)Encoding.UTF8.GetByteCount((string)value) > most ? $"must be at most {most} bytes of UTF-8"
                : form is null ? null
                : Check(form, (string)value);
        return form is null ? null : value => Check(form, (string)value);
    }

    private static Func<object, string?>? OfBytes(BytesRules rules, FieldDescriptor field)
    {
        Only(rules, new BytesRules { MaxLen = rules.MaxLen }, field);
        var most = rules.MaxLen;
        return most == 0 ? null : value => (ulong)((ByteString)value).Length > most ? $"must be at most {most} bytes" : null;
    }

    private static Func<object, string?> OfEnum(EnumRules rules, FieldDescriptor field)
    {
        Only(rules, new EnumRules { DefinedOnly = rules.DefinedOnly, NotIn = { rules.NotIn } }, field);
        var (known, not) = (field.EnumType.Values.Select(v => v.Number).ToFrozenSet(), rules.NotIn.ToFrozenSet());
        return value =>
            (int)value is var number && !known.Contains(number) ? "is of a number that the contract does not know"
            : not.Contains(number) ? "must be a value that says something"
            : null;
    }

    private static Func<object, string?>? OfNumber<TRules>(
        TRules? rules,
        Func<TRules, decimal?> least,
        Func<TRules, decimal?> greatest,
        FieldDescriptor field
    )
        where TRules : class, IMessage<TRules>, new()
    {
        if (rules is null)
            return null;
        foreach (var set in rules.Descriptor.Fields.InDeclarationOrder().Where(f => f.HasPresence && f.Accessor.HasValue(rules)))
            if (set.Name is not ("gte" or "lte"))
                throw Unknown(field);
        var (min, max) = (least(rules), greatest(rules));
        return value =>
            Convert.ToDecimal(value, CultureInfo.InvariantCulture) is var number && number < min ? $"must be at least {min}"
            : number > max ? $"must be at most {max}"
            : null;
    }

    // Proto2 tells a rule that is not set from one that is set to its default; both say the same.
    private static void Only<T>(T rules, T known, FieldDescriptor field)
        where T : IMessage<T>
    {
        foreach (var rule in rules.Descriptor.Fields.InDeclarationOrder())
            if (!Equals(rule.Accessor.GetValue(rules), rule.Accessor.GetValue(known)))
                throw Unknown(field);
    }

    private static NotSupportedException Unknown(FieldDescriptor field) =>
        new($"{field.FullName}: a rule is declared that is not enforced");

    [GeneratedRegex(@"\A[a-z]+_[0-9a-hjkmnp-tv-z]{26}\z", RegexOptions.CultureInvariant)]
    private static partial Regex RecordId();

    [GeneratedRegex(@"\A[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\z", RegexOptions.CultureInvariant)]
    private static partial Regex Uuid();

    [GeneratedRegex(@"\Apris_[0-9a-hjkmnp-tv-z]{26}\z", RegexOptions.CultureInvariant)]
    private static partial Regex PrisonerReference();

    [GeneratedRegex(@"\A[a-z0-9]+(-[a-z0-9]+)*(/[a-z0-9]+(-[a-z0-9]+)*)?\z", RegexOptions.CultureInvariant)]
    private static partial Regex Participant();

    [GeneratedRegex(@"\A(UTC|[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)+)\z", RegexOptions.CultureInvariant)]
    private static partial Regex TimeZone();

    [GeneratedRegex(
        @"\A(([A-Za-z]{2,3}(-[A-Za-z]{3}){0,3}|[A-Za-z]{4,8})(-[A-Za-z]{4})?(-([A-Za-z]{2}|[0-9]{3}))?"
            + @"(-([A-Za-z0-9]{5,8}|[0-9][A-Za-z0-9]{3}))*(-[0-9A-WY-Za-wy-z](-[A-Za-z0-9]{2,8})+)*(-[xX](-[A-Za-z0-9]{1,8})+)?"
            + @"|[xX](-[A-Za-z0-9]{1,8})+)\z",
        RegexOptions.CultureInvariant
    )]
    private static partial Regex Language();
}
