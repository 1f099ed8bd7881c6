using Google.Protobuf;
using Google.Protobuf.Reflection;

namespace Ministries.Sealing;

/// <summary>The top-level fields of a serialized message, without reading what is in them.</summary>
internal static class Fields
{
    /// <summary>The bytes of each field of a message, by the field's number, in number order.</summary>
    /// <returns>Null: the message has fields that its contract does not know, so something would be lost.</returns>
    public static List<(FieldDescriptor Field, Range Bytes)>? Split(MessageDescriptor message, ReadOnlySpan<byte> bytes)
    {
        var split = new List<(FieldDescriptor, Range)>(message.Fields.InFieldNumberOrder().Count);
        var at = 0;
        foreach (var field in message.Fields.InFieldNumberOrder())
        {
            var start = at;
            while (TryNext(bytes, at, out var number, out var end) && number == field.FieldNumber)
                at = end;
            split.Add((field, start..at));
        }
        return at == bytes.Length ? split : null;
    }

    /// <summary>Whether bytes hold a field of one number and nothing else.</summary>
    public static bool HoldOnly(ReadOnlySpan<byte> bytes, uint number)
    {
        var at = 0;
        while (TryNext(bytes, at, out var next, out var end) && next == number)
            at = end;
        return at == bytes.Length;
    }

    /// <summary>Whether a serialized message ends within a field.</summary>
    public static bool AreCut(ReadOnlySpan<byte> bytes)
    {
        var at = 0;
        while (TryNext(bytes, at, out _, out var end))
            at = end;
        return at != bytes.Length;
    }

    private static bool TryNext(ReadOnlySpan<byte> bytes, int at, out uint number, out int end)
    {
        (number, end) = (0, at);
        if (!TryVarint(bytes, ref end, out var tag) || tag > uint.MaxValue)
            return false;
        number = (uint)(tag >> 3);
        ulong length;
        switch ((WireFormat.WireType)(tag & 7))
        {
            case WireFormat.WireType.Varint:
                return TryVarint(bytes, ref end, out _);
            case WireFormat.WireType.Fixed64:
                length = 8;
                break;
            case WireFormat.WireType.Fixed32:
                length = 4;
                break;
            case WireFormat.WireType.LengthDelimited when TryVarint(bytes, ref end, out length):
                break;
            default:
                return false;
        }
        if (length > (ulong)(bytes.Length - end))
            return false;
        end += (int)length;
        return true;
    }

    private static bool TryVarint(ReadOnlySpan<byte> bytes, ref int at, out ulong value)
    {
        value = 0;
        for (var shift = 0; shift < 64 && at < bytes.Length; shift += 7)
        {
            var next = bytes[at++];
            value |= (ulong)(next & 127) << shift;
            if (next < 128)
                return true;
        }
        return false;
    }
}
