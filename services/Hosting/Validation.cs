using System.Buffers;
using System.Collections;
using System.Collections.Concurrent;
using System.Collections.Frozen;
using System.Globalization;
using System.Text;
using System.Text.RegularExpressions;
using Google.Api;
using Google.Protobuf;
using Google.Protobuf.Reflection;
using Google.Protobuf.WellKnownTypes;
using Ministries.Ledger.V1;
using Ministries.Types.V1;
using NodaTime.TimeZones;
using Enum = System.Enum;

namespace Ministries.Hosting;

/// <summary>
/// Whether a request is as its contract declares it: <c>google.api.field_behavior</c> and <c>ministries.type.v1.limits</c>, known
/// enum values, times in range. What a message type demands is worked out once; every violation of a request is told at once, each
/// with its field's path and never with the value.
/// </summary>
public static partial class Validation
{
    /// <summary>The greatest number of faults that are told: 100.</summary>
    public const int MostFaults = 100;

    /// <summary>The earliest time that a request may name: 1900-01-01T00:00:00Z.</summary>
    public static readonly DateTimeOffset Earliest = new(1900, 1, 1, 0, 0, 0, TimeSpan.Zero);

    /// <summary>The time that every time in a request must be before: 2200-01-01T00:00:00Z.</summary>
    public static readonly DateTimeOffset Latest = new(2200, 1, 1, 0, 0, 0, TimeSpan.Zero);

    private static readonly ConcurrentDictionary<MessageDescriptor, MessagePlan> Plans = new();

    /// <summary>What is wrong with the request; empty: nothing.</summary>
    public static IReadOnlyList<FieldFault> Check(IMessage request)
    {
        List<FieldFault>? faults = null;
        PlanOf(request.Descriptor).Check(request, "", ref faults);
        return faults ?? (IReadOnlyList<FieldFault>)[];
    }

    /// <summary>What is wrong with a text of the format; null: nothing.</summary>
    public static string? CheckFormat(Format format, string text) =>
        format switch
        {
            Format.Unspecified => null,
            Format.RequestId => text.Length == 36 && Uuid().IsMatch(text)
                ? null
                : "must be a UUID in lower case, such as 0190163d-8694-739b-aea5-966c26f8ad91",
            // What names a record goes into traces, where a prisoner's reference must not (D16): so one is not taken for the other.
            Format.RecordId => text.Length <= 40 && RecordId().IsMatch(text) && !PrisonerReference().IsMatch(text)
                ? null
                : "must be an id that a service gave: letters, an underscore and 26 characters of base 32",
            Format.Prisoner => text.Length == 31 && PrisonerReference().IsMatch(text)
                ? null
                : "must be a reference that custody gave: pris_ and 26 characters of base 32",
            Format.Participant => text.Length <= 64 && Participant().IsMatch(text)
                ? null
                : "must be a participant's id such as kr/mfa, at most 64 characters",
            Format.State => text.Length == 2 && char.IsAsciiLetterUpper(text[0]) && char.IsAsciiLetterUpper(text[1])
                ? null
                : "must be a state's code of two letters in upper case (ISO 3166-1 alpha-2)",
            Format.Language => text.Length <= 35 && Language().IsMatch(text)
                ? null
                : "must be a language tag (BCP 47) of at most 35 characters",
            Format.TimeZone => TimeZones.Contains(text)
                ? null
                : "must be UTC or the name of a time zone in the IANA database, by area and place, such as Asia/Seoul",
            // Whether the agreement lists an official's code is asked when the caller is known (Officials).
            Format.Code or Format.Official => text.Length is >= 1 and <= 64 && Only(text, Code)
                ? null
                : "must be 1 to 64 characters of A-Z a-z 0-9 . _ / -",
            Format.Text => Texts.Fault(text),
            Format.Etag => text.Length is >= 1 and <= 64 && Only(text, Base64Url) ? null : "must be an etag as it was returned",
            Format.PageToken => text.Length is >= 1 and <= 512 && Only(text, Base64Url) ? null : "must be a page token as it was returned",
            _ => "is of a form that this service does not know",
        };

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

    private static bool Only(string text, SearchValues<char> allowed) => text.AsSpan().IndexOfAnyExcept(allowed) < 0;

    [GeneratedRegex(@"\A[a-z]+_[0-9a-hjkmnp-tv-z]{26}\z", RegexOptions.CultureInvariant)]
    private static partial Regex RecordId();

    // RFC 9562, 4: 8-4-4-4-12, in lower case so that one id is written in one way.
    [GeneratedRegex(@"\A[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\z", RegexOptions.CultureInvariant)]
    private static partial Regex Uuid();

    [GeneratedRegex(@"\Apris_[0-9a-hjkmnp-tv-z]{26}\z", RegexOptions.CultureInvariant)]
    private static partial Regex PrisonerReference();

    [GeneratedRegex(@"\A[a-z0-9]+(-[a-z0-9]+)*(/[a-z0-9]+(-[a-z0-9]+)*)?\z", RegexOptions.CultureInvariant)]
    private static partial Regex Participant();

    // RFC 5646, 2.1: langtag or privateuse; none of the grandfathered tags, which all have a successor.
    [GeneratedRegex(
        @"\A(([A-Za-z]{2,3}(-[A-Za-z]{3}){0,3}|[A-Za-z]{4,8})(-[A-Za-z]{4})?(-([A-Za-z]{2}|[0-9]{3}))?"
            + @"(-([A-Za-z0-9]{5,8}|[0-9][A-Za-z0-9]{3}))*(-[0-9A-WY-Za-wy-z](-[A-Za-z0-9]{2,8})+)*(-[xX](-[A-Za-z0-9]{1,8})+)?"
            + @"|[xX](-[A-Za-z0-9]{1,8})+)\z",
        RegexOptions.CultureInvariant
    )]
    private static partial Regex Language();

    private static MessagePlan PlanOf(MessageDescriptor type) => Plans.GetOrAdd(type, static t => new MessagePlan(t));

    private static void Fault(ref List<FieldFault>? faults, string path, string what)
    {
        if ((faults ??= []).Count < MostFaults)
            faults.Add(new FieldFault { Field = path, Description = what });
    }

    /// <summary>What one message type demands.</summary>
    private sealed class MessagePlan(MessageDescriptor type)
    {
        private readonly FieldPlan[] _fields = [.. type.Fields.InFieldNumberOrder().Select(f => new FieldPlan(f))];

        public void Check(IMessage message, string path, ref List<FieldFault>? faults)
        {
            switch (message)
            {
                case Timestamp time:
                    if (time.Seconds < Earliest.ToUnixTimeSeconds() || time.Seconds >= Latest.ToUnixTimeSeconds())
                        Fault(ref faults, path, "must be a time from 1900 to 2199");
                    if (time.Nanos is < 0 or > 999_999_999)
                        Fault(ref faults, path, "must have nanos from 0 to 999999999");
                    return;
                case Duration duration:
                    if (
                        duration.Seconds is < -315_576_000_000 or > 315_576_000_000
                        || duration.Nanos is < -999_999_999 or > 999_999_999
                        || Math.Sign(duration.Seconds) * Math.Sign(duration.Nanos) < 0
                    )
                        Fault(ref faults, path, "must be a duration");
                    return;
                case PartialDate { Year: >= 1 and <= 9999, Month: >= 0 and <= 12 } date when date.Day > 0:
                    if (date.Month == 0)
                        Fault(ref faults, Join(path, "day"), "must be zero where the month is not known");
                    else if (date.Day <= 31 && date.Day > DateTime.DaysInMonth(date.Year, date.Month))
                        Fault(ref faults, Join(path, "day"), "must be a day of the month");
                    break;
            }
            foreach (var field in _fields)
                field.Check(message, path, ref faults);
        }
    }

    private static string Join(string path, string name) => path.Length == 0 ? name : $"{path}.{name}";

    /// <summary>What one field demands.</summary>
    private sealed class FieldPlan
    {
        private readonly FieldDescriptor _field;
        private readonly bool _required,
            _outputOnly;
        private readonly Limits _limits;
        private readonly HashSet<int>? _numbers;
        private readonly FieldDescriptor? _entryValue;

        public FieldPlan(FieldDescriptor field)
        {
            _field = field;
            var options = field.GetOptions();
            var behaviors = options?.GetExtension(FieldBehaviorExtensions.FieldBehavior);
            _required = behaviors?.Contains(FieldBehavior.Required) ?? false;
            _outputOnly = behaviors?.Contains(FieldBehavior.OutputOnly) ?? false;
            _limits = options?.GetExtension(LimitsExtensions.Limits) ?? new Limits();
            if (field.IsMap)
                _entryValue = field.MessageType.FindFieldByNumber(2);
            else if (field.FieldType == FieldType.Enum)
                _numbers = [.. field.EnumType.Values.Select(v => v.Number)];
        }

        public void Check(IMessage message, string path, ref List<FieldFault>? faults)
        {
            if (_field.IsMap)
                CheckMap((IDictionary)_field.Accessor.GetValue(message), path, ref faults);
            else if (_field.IsRepeated)
                CheckList((IList)_field.Accessor.GetValue(message), path, ref faults);
            else if (!IsSet(message, out var value))
            {
                if (_required && _field.RealContainingOneof is null)
                    Fault(ref faults, Name(path), "is required");
            }
            else if (_outputOnly)
                Fault(ref faults, Name(path), "is set by the service and must be left out");
            else if (value is IMessage inner)
                PlanOf(_field.MessageType).Check(inner, Name(path), ref faults);
            else if (Wrong(value!) is { } what)
                Fault(ref faults, Name(path), what);
        }

        private void CheckMap(IDictionary map, string path, ref List<FieldFault>? faults)
        {
            if (map.Count == 0)
            {
                if (_required)
                    Fault(ref faults, Name(path), "is required");
                return;
            }
            if (_outputOnly)
                Fault(ref faults, Name(path), "is set by the service and must be left out");
            else if (map.Count > _limits.MaxItems && _limits.MaxItems > 0)
                Fault(ref faults, Name(path), $"must have at most {_limits.MaxItems} elements");
            else if (_entryValue!.FieldType == FieldType.Message)
                foreach (DictionaryEntry entry in map)
                    PlanOf(_entryValue.MessageType).Check((IMessage)entry.Value!, $"{Name(path)}[]", ref faults);
        }

        private void CheckList(IList list, string path, ref List<FieldFault>? faults)
        {
            if (list.Count == 0)
            {
                if (_required)
                    Fault(ref faults, Name(path), "is required");
                return;
            }
            var name = Name(path);
            if (_outputOnly)
            {
                Fault(ref faults, name, "is set by the service and must be left out");
                return;
            }
            if (_limits.MaxItems > 0 && list.Count > _limits.MaxItems)
            {
                // Its elements are not looked at: what is refused for its number costs no more than counting.
                Fault(ref faults, name, $"must have at most {_limits.MaxItems} elements");
                return;
            }
            var seen = _limits.Unique ? new HashSet<object>() : null;
            for (var i = 0; i < list.Count; i++)
            {
                var at = new Element(name, i);
                if (seen?.Add(list[i]!) == false)
                    Fault(ref faults, at.ToString(), "must not equal another element");
                CheckElement(list[i]!, at, ref faults);
            }
        }

        // A path is written out only where it is needed: most requests are without fault.
        private void CheckElement(object value, Element at, ref List<FieldFault>? faults)
        {
            if (value is IMessage message)
            {
                PlanOf(_field.MessageType).Check(message, at.ToString(), ref faults);
                return;
            }
            if (Wrong(value) is { } what)
                Fault(ref faults, at.ToString(), what);
        }

        private readonly record struct Element(string Name, int Index)
        {
            public override string ToString() => string.Create(CultureInfo.InvariantCulture, $"{Name}[{Index}]");
        }

        private string? Wrong(object value)
        {
            switch (value)
            {
                case string text:
                    return _limits.MaxBytes > 0 && Encoding.UTF8.GetByteCount(text) > _limits.MaxBytes
                        ? $"must be at most {_limits.MaxBytes} bytes of UTF-8"
                        : CheckFormat(_limits.Format, text);
                case ByteString bytes:
                    return _limits.MaxBytes > 0 && bytes.Length > _limits.MaxBytes ? $"must be at most {_limits.MaxBytes} bytes" : null;
                case bool:
                    return null;
                case double number:
                    return double.IsFinite(number) ? OutOfRange(number) : "must be a finite number";
                case float number:
                    return float.IsFinite(number) ? OutOfRange(number) : "must be a finite number";
                case ulong number:
                    return OutOfRange((decimal)number);
                case Enum or int or long or uint:
                    var integer = Convert.ToInt64(value, CultureInfo.InvariantCulture);
                    if (_numbers is null)
                        return OutOfRange((decimal)integer);
                    return _numbers.Contains((int)integer)
                        ? _field.IsRepeated && integer == 0
                            ? "must be a value that says something"
                            : null
                        : "is of a number that the contract does not know";
                default:
                    return null;
            }
        }

        private string? OutOfRange(decimal number) =>
            _limits.HasMin && number < _limits.Min ? $"must be at least {_limits.Min}"
            : _limits.HasMax && number > _limits.Max ? $"must be at most {_limits.Max}"
            : null;

        private string? OutOfRange(double number) =>
            _limits.HasMin && number < _limits.Min ? $"must be at least {_limits.Min}"
            : _limits.HasMax && number > _limits.Max ? $"must be at most {_limits.Max}"
            : null;

        // Whether the field says anything: set where it knows of it, otherwise other than its default.
        private bool IsSet(IMessage message, out object? value)
        {
            if (_field.HasPresence && !_field.Accessor.HasValue(message))
            {
                value = null;
                return false;
            }
            value = _field.Accessor.GetValue(message);
            if (_field.HasPresence)
                // An optional text or enum that is there and says nothing is not there.
                return value is not null && (!_required || value is not (string { Length: 0 } or ByteString { Length: 0 }));
            return value switch
            {
                null => false,
                string text => text.Length > 0,
                ByteString bytes => bytes.Length > 0,
                // A plain bool that is left out says no.
                bool flag => flag || _required,
                ulong number => number != 0,
                double number => number != 0,
                float number => number != 0,
                _ => Convert.ToInt64(value, CultureInfo.InvariantCulture) != 0,
            };
        }

        private string Name(string path) => Join(path, _field.Name);
    }
}
