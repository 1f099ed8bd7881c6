using System.Collections;
using System.Collections.Concurrent;
using System.Globalization;
using Buf.Validate;
using Google.Api;
using Google.Protobuf;
using Google.Protobuf.Reflection;
using Google.Protobuf.WellKnownTypes;
using Ministries.Ledger.V1;
using Ministries.Types.V1;

namespace Ministries.Contracts;

/// <summary>
/// Checks a request against the declarations of its contract: <c>google.api.field_behavior</c>, the standard rules of <c>buf.validate</c>
/// (protovalidate) and <c>ministries.type.v1.meaning</c>. The rules of a message type are compiled once. All violations of a request are
/// reported together, each with its field's path and never with the value.
/// </summary>
public static class Validation
{
    /// <summary>The greatest number of faults that are reported: 100.</summary>
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

    /// <summary>Compiles the rules of a request's type.</summary>
    /// <param name="type">The type.</param>
    /// <exception cref="NotSupportedException">The contract declares a rule that is not enforced here.</exception>
    public static void Prepare(MessageDescriptor type)
    {
        if (!Plans.TryAdd(type, new MessagePlan(type)))
            return;
        foreach (var field in type.Fields.InFieldNumberOrder().Where(f => f.FieldType == FieldType.Message))
            Prepare(field.MessageType);
    }

    private static MessagePlan PlanOf(MessageDescriptor type) => Plans.GetOrAdd(type, static t => new MessagePlan(t));

    private static void Fault(ref List<FieldFault>? faults, string path, string what)
    {
        if ((faults ??= []).Count < MostFaults)
            faults.Add(new FieldFault { Field = path, Description = what });
    }

    /// <summary>The compiled rules of one message type.</summary>
    private sealed class MessagePlan(MessageDescriptor type)
    {
        private readonly FieldPlan[] _fields =
            type.GetOptions()?.GetExtension(ValidateExtensions.Message) is null
            && type.Oneofs.All(o => o.GetOptions()?.GetExtension(ValidateExtensions.Oneof) is null)
                ? [.. type.Fields.InFieldNumberOrder().Select(f => new FieldPlan(f))]
                : throw new NotSupportedException($"{type.FullName}: a rule is declared that is not enforced");

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

    /// <summary>The compiled rules of one field.</summary>
    private sealed class FieldPlan
    {
        private readonly FieldDescriptor _field;
        private readonly bool _required,
            _outputOnly,
            _unique;
        private readonly ulong _mostItems;
        private readonly Func<object, string?>? _wrong;
        private readonly FieldDescriptor? _entryValue;

        public FieldPlan(FieldDescriptor field)
        {
            _field = field;
            var behaviors = field.GetOptions()?.GetExtension(FieldBehaviorExtensions.FieldBehavior);
            _required = behaviors?.Contains(FieldBehavior.Required) ?? false;
            _outputOnly = behaviors?.Contains(FieldBehavior.OutputOnly) ?? false;
            var rules = StringForms.RulesOf(field) ?? new FieldRules();
            ValueRules.CheckEnforced(field, rules);
            _mostItems = field.IsMap ? rules.Map?.MaxPairs ?? 0 : rules.Repeated?.MaxItems ?? 0;
            _unique = rules.Repeated?.Unique ?? false;
            if (field.IsMap)
                _entryValue = field.MessageType.FindFieldByNumber(2);
            else
                _wrong = ValueRules.Of(field, field.IsRepeated ? rules.Repeated?.Items ?? new FieldRules() : rules);
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
            else if (_wrong?.Invoke(value!) is { } what)
                Fault(ref faults, Name(path), what);
        }

        private void CheckMap(IDictionary map, string path, ref List<FieldFault>? faults)
        {
            if (IsCounted(map.Count, path, ref faults) && _entryValue!.FieldType == FieldType.Message)
                foreach (DictionaryEntry entry in map)
                    PlanOf(_entryValue.MessageType).Check((IMessage)entry.Value!, $"{Name(path)}[]", ref faults);
        }

        private void CheckList(IList list, string path, ref List<FieldFault>? faults)
        {
            if (!IsCounted(list.Count, path, ref faults))
                return;
            var name = Name(path);
            var seen = _unique ? new HashSet<object>() : null;
            for (var i = 0; i < list.Count; i++)
            {
                var at = new Element(name, i);
                if (seen?.Add(list[i]!) == false)
                    Fault(ref faults, at.ToString(), "must not equal another element");
                CheckElement(list[i]!, at, ref faults);
            }
        }

        // Whether there are elements to check. A list that is too long is refused after counting, so it costs no more than that.
        private bool IsCounted(int count, string path, ref List<FieldFault>? faults)
        {
            var fault =
                count == 0
                    ? _required
                        ? "is required"
                        : null
                    : _outputOnly
                        ? "is set by the service and must be left out"
                        : _mostItems > 0 && (ulong)count > _mostItems
                            ? $"must have at most {_mostItems} elements"
                            : null;
            if (fault is not null)
                Fault(ref faults, Name(path), fault);
            return count > 0 && fault is null;
        }

        // The path is made only for a fault, because most requests have none.
        private void CheckElement(object value, Element at, ref List<FieldFault>? faults)
        {
            if (value is IMessage message)
            {
                PlanOf(_field.MessageType).Check(message, at.ToString(), ref faults);
                return;
            }
            if (_wrong?.Invoke(value) is { } what)
                Fault(ref faults, at.ToString(), what);
        }

        private readonly record struct Element(string Name, int Index)
        {
            public override string ToString() => string.Create(CultureInfo.InvariantCulture, $"{Name}[{Index}]");
        }

        // Whether the field has a value: a field with presence is set, any other differs from its default.
        private bool IsSet(IMessage message, out object? value)
        {
            if (_field.HasPresence && !_field.Accessor.HasValue(message))
            {
                value = null;
                return false;
            }
            value = _field.Accessor.GetValue(message);
            if (_field.HasPresence)
                // A required text that is present but empty counts as missing.
                return value is not null && (!_required || value is not (string { Length: 0 } or ByteString { Length: 0 }));
            return value switch
            {
                null => false,
                string text => text.Length > 0,
                ByteString bytes => bytes.Length > 0,
                // A plain bool that is left out means no, so a required one is never missing.
                bool flag => flag || _required,
                ulong number => number != 0,
                _ => Convert.ToInt64(value, CultureInfo.InvariantCulture) != 0,
            };
        }

        private string Name(string path) => Join(path, _field.Name);
    }
}
