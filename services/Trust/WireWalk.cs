using System.Text.Unicode;
using Google.Protobuf;
using Google.Protobuf.Reflection;
using Ministries.Ledger.V1;

namespace Ministries.Trust;

/// <summary>
/// Checks a request's bytes before they are trusted, because every reader, in every language, must read signed bytes in the same way. It
/// refuses unknown fields, wrong wire types, a singular field given twice, a second member of a oneof, text that is not UTF-8 and bytes
/// that end too early. It also refuses numbers that are too large for the field's type, because readers cut them off in different ways. Any
/// field order and explicit default values are fine.
/// </summary>
public static class WireWalk
{
    /// <summary>The deepest nesting of messages: 16.</summary>
    public const int Deepest = 16;

    /// <summary>The greatest number of faults that are reported: 32.</summary>
    public const int MostFaults = 32;

    /// <summary>What is wrong with the bytes of a message; empty: nothing.</summary>
    /// <param name="type">The message's type.</param>
    /// <param name="bytes">Its bytes, as received.</param>
    public static IReadOnlyList<FieldFault> Walk(MessageDescriptor type, ReadOnlySpan<byte> bytes)
    {
        List<FieldFault>? faults = null;
        Walk(type, bytes, null, passesUnknown: false, ref faults);
        return faults ?? (IReadOnlyList<FieldFault>)[];
    }

    /// <summary>Whether a message's bytes read in one way only.</summary>
    /// <param name="type">The message's type.</param>
    /// <param name="bytes">Its bytes.</param>
    /// <param name="passesUnknown">Whether fields that the type does not list may stand at the top, because another type lists them.
    /// </param>
    public static bool IsStrict(MessageDescriptor type, ReadOnlySpan<byte> bytes, bool passesUnknown = false)
    {
        List<FieldFault>? faults = null;
        Walk(type, bytes, null, passesUnknown, ref faults);
        return faults is null;
    }

    /// <summary>A message's bytes without the top-level fields of one number. All other bytes stay as they are.</summary>
    /// <param name="message">The message's bytes.</param>
    /// <param name="number">The field's number.</param>
    /// <exception cref="FormatException">The bytes break off or hold no message.</exception>
    public static byte[] Without(ReadOnlySpan<byte> message, int number)
    {
        var kept = new byte[message.Length];
        var length = 0;
        while (message.Length > 0)
        {
            var rest = message;
            if (
                !Varint(ref rest, out var tag)
                || tag > uint.MaxValue
                || tag >> 3 == 0
                || !Value(ref rest, (WireFormat.WireType)(tag & 7), out _, out _)
            )
                throw new FormatException("the bytes are no message");
            var field = message[..^rest.Length];
            if (tag >> 3 != (ulong)number)
            {
                field.CopyTo(kept.AsSpan(length));
                length += field.Length;
            }
            message = rest;
        }
        return kept[..length];
    }

    // The path of a nested message. It becomes text only for a fault, because most requests have none.
    private sealed record Place(Place? Around, FieldDescriptor Field, int Index)
    {
        public int Depth { get; } = (Around?.Depth ?? 0) + 1;

        public override string ToString() => $"{Prefix(Around)}{Field.Name}{(Field.IsRepeated ? $"[{Index}]" : "")}";

        public static string Prefix(Place? place) => place is null ? "" : $"{place}.";
    }

    private static void Walk(
        MessageDescriptor type,
        ReadOnlySpan<byte> bytes,
        Place? place,
        bool passesUnknown,
        ref List<FieldFault>? faults
    )
    {
        if (place?.Depth > Deepest)
        {
            Fault(place.ToString(), $"nested deeper than {Deepest} messages", ref faults);
            return;
        }
        var fields = type.Fields.InDeclarationOrder();
        // How often each field was given; and of each choice, one more than the index of the field that was given.
        Span<int> counts = fields.Count <= 64 ? stackalloc int[fields.Count] : new int[fields.Count];
        Span<int> chosen = type.Oneofs.Count <= 16 ? stackalloc int[type.Oneofs.Count] : new int[type.Oneofs.Count];
        counts.Clear();
        chosen.Clear();
        while (bytes.Length > 0 && (faults?.Count ?? 0) < MostFaults)
        {
            if (!Tag(ref bytes, out var number, out var wire))
            {
                Fault(place?.ToString() ?? "", "the bytes break off or hold no field tag", ref faults);
                return;
            }
            var field = type.FindFieldByNumber(number);
            if (!Value(ref bytes, wire, out var value, out var whole))
            {
                Fault(NameOf(place, field, number), "the bytes break off or are of a wire type that is not used", ref faults);
                return;
            }
            if (field is null)
            {
                if (!passesUnknown)
                    Fault(NameOf(place, field, number), "there is no field of this number", ref faults);
                continue;
            }
            var expected = WireTypeOf(field);
            var packed = wire != expected && MayBePacked(field, wire);
            if (wire != expected && !packed)
            {
                Fault(NameOf(place, field, number), "the bytes are of another wire type than the field's", ref faults);
                continue;
            }
            var fits = packed || IsOf(field, wire, whole);
            if (packed && !IsPacked(field, value, expected, out fits))
            {
                Fault(NameOf(place, field, number), "the bytes break off", ref faults);
                return;
            }
            if (!fits)
                Fault(NameOf(place, field, number), "the number is none of the field's type", ref faults);
            var before = counts[field.Index]++;
            if (before > 0 && !field.IsRepeated)
                Fault(NameOf(place, field, number), "the field is given more than once", ref faults);
            if (field.RealContainingOneof is { } oneof)
                Choose(place, fields, field, ref chosen[oneof.Index], ref faults);
            if (field.FieldType == FieldType.Message)
                Walk(field.MessageType, value, new Place(place, field, before), passesUnknown: false, ref faults);
            else if (field.FieldType == FieldType.String && !Utf8.IsValid(value))
                Fault(NameOf(place, field, number), "the text is not UTF-8", ref faults);
        }
    }

    private static string NameOf(Place? place, FieldDescriptor? field, int number) => $"{Place.Prefix(place)}{field?.Name ?? $"#{number}"}";

    private static void Fault(string at, string what, ref List<FieldFault>? faults)
    {
        if ((faults ??= []).Count < MostFaults)
            faults.Add(new FieldFault { Field = at, Description = what });
    }

    private static void Choose(
        Place? place,
        IList<FieldDescriptor> fields,
        FieldDescriptor field,
        ref int choice,
        ref List<FieldFault>? faults
    )
    {
        if (choice == 0)
            choice = field.Index + 1;
        else if (choice != field.Index + 1)
            Fault(NameOf(place, field, field.FieldNumber), $"{fields[choice - 1].Name} of the same choice is given too", ref faults);
    }

    private static bool Tag(ref ReadOnlySpan<byte> bytes, out int number, out WireFormat.WireType wire)
    {
        var read = Varint(ref bytes, out var tag) && tag <= uint.MaxValue && tag >> 3 != 0;
        (number, wire) = ((int)(tag >> 3), (WireFormat.WireType)(tag & 7));
        return read;
    }

    // Elements of a fixed or variable width may stand together in one field of bytes.
    private static bool MayBePacked(FieldDescriptor field, WireFormat.WireType wire) =>
        field.IsRepeated
        && !field.IsMap
        && wire == WireFormat.WireType.LengthDelimited
        && WireTypeOf(field) != WireFormat.WireType.LengthDelimited;

    // Whether the bytes hold only elements, each a number in the range of the field's type.
    private static bool IsPacked(FieldDescriptor field, ReadOnlySpan<byte> elements, WireFormat.WireType type, out bool fits)
    {
        fits = true;
        while (elements.Length > 0)
        {
            if (!Value(ref elements, type, out _, out var number))
                return false;
            fits &= IsOf(field, type, number);
        }
        return true;
    }

    // Whether a varint is one that the field's type has. A negative number of 32 bits has all 64 (the encoding of protobuf, "Signed
    // Integers").
    private static bool IsOf(FieldDescriptor field, WireFormat.WireType wire, ulong number) =>
        wire != WireFormat.WireType.Varint
        || field.FieldType switch
        {
            FieldType.Bool => number <= 1,
            FieldType.UInt32 or FieldType.SInt32 => number <= uint.MaxValue,
            FieldType.Int32 or FieldType.Enum => (long)number is >= int.MinValue and <= int.MaxValue,
            _ => true,
        };

    private static WireFormat.WireType WireTypeOf(FieldDescriptor field) =>
        field.FieldType switch
        {
            FieldType.Double or FieldType.Fixed64 or FieldType.SFixed64 => WireFormat.WireType.Fixed64,
            FieldType.Float or FieldType.Fixed32 or FieldType.SFixed32 => WireFormat.WireType.Fixed32,
            FieldType.String or FieldType.Bytes or FieldType.Message => WireFormat.WireType.LengthDelimited,
            FieldType.Group => WireFormat.WireType.StartGroup,
            _ => WireFormat.WireType.Varint,
        };

    // The bytes of a value whose width is known, or the number of a varint.
    private static bool Value(ref ReadOnlySpan<byte> bytes, WireFormat.WireType wire, out ReadOnlySpan<byte> value, out ulong number)
    {
        value = default;
        number = 0;
        ulong length;
        switch (wire)
        {
            case WireFormat.WireType.Varint:
                return Varint(ref bytes, out number);
            case WireFormat.WireType.Fixed64:
                length = 8;
                break;
            case WireFormat.WireType.Fixed32:
                length = 4;
                break;
            case WireFormat.WireType.LengthDelimited:
                if (!Varint(ref bytes, out length))
                    return false;
                break;
            default:
                return false;
        }
        if (length > (ulong)bytes.Length)
            return false;
        value = bytes[..(int)length];
        bytes = bytes[(int)length..];
        return true;
    }

    private static bool Varint(ref ReadOnlySpan<byte> bytes, out ulong value)
    {
        value = 0;
        for (var i = 0; i < 10 && i < bytes.Length; i++)
        {
            value |= (ulong)(bytes[i] & 0x7f) << 7 * i;
            if (bytes[i] < 0x80)
            {
                // The tenth byte has room for one bit.
                if (i == 9 && bytes[i] > 1)
                    return false;
                bytes = bytes[(i + 1)..];
                return true;
            }
        }
        return false;
    }
}
