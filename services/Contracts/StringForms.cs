using System.Collections.Frozen;
using Buf.Validate;
using Google.Protobuf.Reflection;
using Ministries.Types.V1;

namespace Ministries.Contracts;

/// <summary>A form that strings of the contracts have. Each contract declares it in full by the standard rules of <c>buf.validate</c>, so a
/// client needs nothing else. This list gives each form a name and a description.</summary>
/// <param name="Name">What a string of the form is, such as <c>record id</c>.</param>
/// <param name="Rule">What is demanded of it, as a text that follows the field's path.</param>
/// <param name="Pattern">The regular expression (RE2) that declares it; empty: none.</param>
/// <param name="MaxBytes">The greatest number of bytes of UTF-8; zero: the pattern limits it.</param>
/// <param name="NotContains">A text that it must not hold; empty: none.</param>
/// <param name="Meaning">What the services check beyond the standard rules.</param>
public sealed record StringForm(
    string Name,
    string Rule,
    string Pattern = "",
    int MaxBytes = 0,
    string NotContains = "",
    Meaning Meaning = Meaning.Unspecified
);

/// <summary>All forms of strings in the contracts.</summary>
public static class StringForms
{
    // Constants, because they are compiled (ValueRules.cs).
    /// <summary>The pattern of <see cref="RequestId"/>.</summary>
    public const string RequestIdPattern = "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$";

    /// <summary>The pattern of <see cref="RecordId"/>.</summary>
    public const string RecordIdPattern = "^[a-z]{1,13}_[0-9a-hjkmnp-tv-z]{26}$";

    /// <summary>The pattern of <see cref="Prisoner"/>.</summary>
    public const string PrisonerPattern = "^pris_[0-9a-hjkmnp-tv-z]{26}$";

    /// <summary>The pattern of <see cref="Participant"/>.</summary>
    public const string ParticipantPattern = "^[a-z0-9]+(-[a-z0-9]+)*(/[a-z0-9]+(-[a-z0-9]+)*)?$";

    /// <summary>The pattern of <see cref="State"/>.</summary>
    public const string StatePattern = "^[A-Z]{2}$";

    /// <summary>The pattern of <see cref="Language"/>.</summary>
    public const string LanguagePattern =
        "^(([A-Za-z]{2,3}(-[A-Za-z]{3}){0,3}|[A-Za-z]{4,8})(-[A-Za-z]{4})?(-([A-Za-z]{2}|[0-9]{3}))?"
        + "(-([A-Za-z0-9]{5,8}|[0-9][A-Za-z0-9]{3}))*(-[0-9A-WY-Za-wy-z](-[A-Za-z0-9]{2,8})+)*(-[xX](-[A-Za-z0-9]{1,8})+)?"
        + "|[xX](-[A-Za-z0-9]{1,8})+)$";

    /// <summary>The pattern of <see cref="TimeZone"/>.</summary>
    public const string TimeZonePattern = "^(UTC|[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)+)$";

    /// <summary>The pattern of <see cref="Code"/>.</summary>
    public const string CodePattern = "^[A-Za-z0-9._/-]{1,64}$";

    /// <summary>The pattern of <see cref="Etag"/>.</summary>
    public const string EtagPattern = "^[A-Za-z0-9_-]{1,64}$";

    /// <summary>The pattern of <see cref="PageToken"/>.</summary>
    public const string PageTokenPattern = "^[A-Za-z0-9_-]{1,512}$";

    /// <summary>The pattern of <see cref="FieldPath"/>.</summary>
    public const string FieldPathPattern = "^[a-z][a-z0-9_]*([.][a-z][a-z0-9_]*)*$";

    /// <summary>The pattern of <see cref="MessageName"/>.</summary>
    public const string MessageNamePattern = "^[a-z][a-z0-9_]*([.][a-z0-9_]+)*[.][A-Z][A-Za-z0-9]*$";

    /// <summary>A caller's id of a write: a UUID (RFC 9562, section 4) in lower case, so that each id has one spelling.</summary>
    public static readonly StringForm RequestId = new(
        "request id",
        "must be a UUID in lower case, such as 0190163d-8694-739b-aea5-966c26f8ad91",
        RequestIdPattern
    );

    /// <summary>An id that a service gave to a record, at most 40 characters. Record ids appear in traces and a prisoner's reference must
    /// not (D16), so the two forms must differ.</summary>
    public static readonly StringForm RecordId = new(
        "record id",
        "must be an id that a service gave: letters, an underscore and 26 characters of base 32",
        RecordIdPattern,
        NotContains: "pris_"
    );

    /// <summary>A prisoner's reference within a case, as custody gave it.</summary>
    public static readonly StringForm Prisoner = new(
        "prisoner",
        "must be a reference that custody gave: pris_ and 26 characters of base 32",
        PrisonerPattern
    );

    /// <summary>A participant's id: words in lower case with at most one slash.</summary>
    public static readonly StringForm Participant = new(
        "participant",
        "must be a participant's id such as kr/mfa, at most 64 characters",
        ParticipantPattern,
        64
    );

    /// <summary>A state's code (ISO 3166-1 alpha-2).</summary>
    public static readonly StringForm State = new(
        "state",
        "must be a state's code of two letters in upper case (ISO 3166-1 alpha-2)",
        StatePattern
    );

    /// <summary>A language tag (BCP 47; RFC 5646, section 2.1): a langtag or privateuse. Grandfathered tags are not allowed, because all of
    /// them have a successor.</summary>
    public static readonly StringForm Language = new(
        "language",
        "must be a language tag (BCP 47) of at most 35 characters",
        LanguagePattern,
        35
    );

    /// <summary>The name of a time zone.</summary>
    public static readonly StringForm TimeZone = new(
        "time zone",
        "must be UTC or the name of a time zone in the IANA database, by area and place, such as Asia/Seoul",
        TimeZonePattern,
        64,
        Meaning: Meaning.TimeZone
    );

    /// <summary>A code that the parties agreed on.</summary>
    public static readonly StringForm Code = new("code", "must be 1 to 64 characters of A-Z a-z 0-9 . _ / -", CodePattern);

    /// <summary>The code of an official, interpreter, translator or physician. Whether the agreement lists it is checked when the caller is
    /// known.</summary>
    public static readonly StringForm Official = Code with { Name = "official's code", Meaning = Meaning.Official };

    /// <summary>An etag.</summary>
    public static readonly StringForm Etag = new("etag", "must be an etag as it was returned", EtagPattern);

    /// <summary>A page token.</summary>
    public static readonly StringForm PageToken = new("page token", "must be a page token as it was returned", PageTokenPattern);

    /// <summary>The path of a field in a message.</summary>
    public static readonly StringForm FieldPath = new(
        "field path",
        "must be the path of a field, such as account.minutes, at most 128 characters",
        FieldPathPattern,
        128
    );

    /// <summary>The full name of a message.</summary>
    public static readonly StringForm MessageName = new(
        "message name",
        "must be the full name of a message, at most 128 characters",
        MessageNamePattern,
        128
    );

    /// <summary>Text for a person; each field limits its length.</summary>
    public static readonly StringForm Text = new("text", "must be readable text", Meaning: Meaning.Text);

    /// <summary>All of them.</summary>
    public static readonly IReadOnlyList<StringForm> All =
    [
        RequestId,
        RecordId,
        Prisoner,
        Participant,
        State,
        Language,
        TimeZone,
        Code,
        Official,
        Etag,
        PageToken,
        FieldPath,
        MessageName,
        Text,
    ];

    private static readonly FrozenDictionary<(string, Meaning), StringForm> Declared = All.ToFrozenDictionary(f => (f.Pattern, f.Meaning));

    /// <summary>The form that rules declare; null: none, or one without a name.</summary>
    /// <param name="rules">The rules of a string.</param>
    /// <param name="meaning">What the field says beyond them.</param>
    public static StringForm? Of(StringRules rules, Meaning meaning) => Declared.GetValueOrDefault((rules.Pattern, meaning));

    /// <summary>The form of a string field, or of the elements of a list of strings; null: none, or one without a name.</summary>
    public static StringForm? Of(FieldDescriptor field) =>
        RulesOf(field) is { } rules && (field.IsRepeated ? rules.Repeated?.Items?.String : rules.String) is { } strings
            ? Of(strings, MeaningOf(field))
        : MeaningOf(field) == Meaning.Text ? Text
        : null;

    /// <summary>What <c>buf.validate</c> says of a field; null: nothing.</summary>
    public static FieldRules? RulesOf(FieldDescriptor field) => field.GetOptions()?.GetExtension(ValidateExtensions.Field);

    /// <summary>What the field says beyond its rules.</summary>
    public static Meaning MeaningOf(FieldDescriptor field) =>
        field.GetOptions()?.GetExtension(OptionsExtensions.Meaning) ?? Meaning.Unspecified;
}
