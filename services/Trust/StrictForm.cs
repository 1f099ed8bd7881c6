using System.Collections;
using Google.Protobuf;
using Google.Protobuf.Reflection;
using Google.Protobuf.WellKnownTypes;
using Ministries.Ledger;
using Ministries.Ledger.V1;

namespace Ministries.Trust;

/// <summary>
/// Checks that bytes, times and enum values read in one way only, in every language, because other software judges them again years later
/// (<c>protos/EVIDENCE.md</c>, section 1).
/// </summary>
public static class StrictForm
{
    /// <summary>Reads a message from its canonical bytes.</summary>
    /// <param name="parser">Reads the type.</param>
    /// <param name="bytes">The bytes.</param>
    /// <exception cref="FormatException">They are not canonical; the text says what is wrong.</exception>
    public static T Read<T>(MessageParser<T> parser, ReadOnlySpan<byte> bytes)
        where T : IMessage<T>
    {
        T read;
        try
        {
            read = parser.ParseFrom(bytes);
            // Unknown fields cannot be judged. Only one form is allowed, so that there is only one digest.
            if (!parser.WithDiscardUnknownFields(true).ParseFrom(bytes).ToByteArray().AsSpan().SequenceEqual(bytes))
                throw new FormatException("its bytes are not in the order of the fields, or hold fields that are not known here");
        }
        catch (InvalidProtocolBufferException e)
        {
            throw new FormatException(e.Message, e);
        }
        return Wrong(read) is { } wrong ? throw new FormatException(wrong) : read;
    }

    /// <summary>Reads an entry's header from its canonical bytes. It has a time, and names no kind of part twice.</summary>
    /// <param name="bytes">The header's bytes.</param>
    /// <exception cref="FormatException">It is no such header; the text says what is wrong.</exception>
    public static EntryHeader ReadHeader(ReadOnlySpan<byte> bytes)
    {
        var header = Read(EntryHeader.Parser, bytes);
        if (header.CommitTime is null)
            throw new FormatException("it has no time");
        return header.Parts.DistinctBy(p => p.Kind).Count() == header.Parts.Count
            ? header
            : throw new FormatException("it names a part twice");
    }

    /// <summary>What is wrong with the times and enum values in a message; null: nothing.</summary>
    /// <param name="message">The message.</param>
    public static string? Wrong(IMessage message)
    {
        if (message is Timestamp time)
            return IsTime(time) ? null : "a time is invalid, is outside 1970 to 9998, or is finer than 100 ns";
        foreach (var field in message.Descriptor.Fields.InDeclarationOrder())
        {
            if (field.FieldType is not (FieldType.Message or FieldType.Enum) || field.Accessor.GetValue(message) is not { } value)
                continue;
            foreach (var item in field.IsRepeated ? (IEnumerable)value : new[] { value })
                if (field.FieldType == FieldType.Message)
                {
                    if (Wrong((IMessage)item) is { } wrong)
                        return wrong;
                }
                else if (field.EnumType.FindValueByNumber((int)item) is null)
                    return $"{field.Name} has a value that is not known";
        }
        return null;
    }

    /// <summary>Whether it is a time that every reader has and compares alike: from 1970 to the end of 9998, in whole 100 ns.</summary>
    /// <param name="time">The time.</param>
    public static bool IsTime(Timestamp time) =>
        time is { Seconds: >= 0 and <= (long)CosignatureKey.LastSecond, Nanos: >= 0 and < 1_000_000_000 } && time.Nanos % 100 == 0;
}
