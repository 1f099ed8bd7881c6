using Google.Protobuf;
using Google.Protobuf.Reflection;
using Ministries.Sealing;
using Ministries.Types.V1;

namespace Ministries.Client;

/// <summary>Something sealed in a record, and what the record says of where it came from.</summary>
/// <param name="Record">The record.</param>
/// <param name="Kind">Its kind.</param>
/// <param name="Sealed">What is sealed.</param>
/// <param name="Path">Its path in the outermost record, such as <c>claims[0].evidence</c>.</param>
/// <param name="Name">The name of the field, which is that of the request's too.</param>
/// <param name="Beside">The position of the entry that the record names beside it; zero: it names none, or another entry.</param>
internal sealed record SealedInRecord(IMessage Record, RecordType Kind, Sealed Sealed, string Path, string Name, ulong Beside)
{
    /// <summary>All sealed data in records, at any depth of a message. Data in a record within another record belong to the inner
    /// record.</summary>
    public static IEnumerable<SealedInRecord> In(IMessage message) => In(message, null, null, "", 0);

    private static IEnumerable<SealedInRecord> In(IMessage message, IMessage? record, RecordType? kind, string path, ulong beside)
    {
        if (Records.Kinds.FirstOrDefault(k => k.Type == message.Descriptor) is { } own)
            (record, kind, path, beside) = (message, own, record is null ? "" : path, 0);
        if (message.Descriptor.FindFieldByName("position") is { FieldType: FieldType.UInt64 } position)
            beside = (ulong)position.Accessor.GetValue(message);
        foreach (var field in message.Descriptor.Fields.InFieldNumberOrder())
        {
            if (field.FieldType != FieldType.Message || field.IsMap)
                continue;
            var value = field.Accessor.GetValue(message);
            var name = path.Length == 0 ? field.Name : $"{path}.{field.Name}";
            if (value is Sealed @sealed)
            {
                if (record is not null && kind is not null)
                    yield return new(record, kind, @sealed, name, field.Name, NamesAnother(field) ? 0 : beside);
            }
            else if (value is System.Collections.IList items)
            {
                for (var i = 0; i < items.Count && Seals.CanBeIn(field.MessageType); i++)
                    foreach (var inner in In((IMessage)items[i]!, record, kind, $"{name}[{i}]", beside))
                        yield return inner;
            }
            else if (value is IMessage one && Seals.CanBeIn(field.MessageType))
                foreach (var inner in In(one, record, kind, name, beside))
                    yield return inner;
        }
    }

    // The reason for a revocation or correction stands beside the position of the entry that it revokes or corrects.
    private static bool NamesAnother(FieldDescriptor field) =>
        field.Name == "revoke_details" || field.ContainingType == CallLog.V1.Correction.Descriptor;

    /// <summary>Where what is sealed belongs, by an entry that was verified.</summary>
    /// <param name="message">The message inside.</param>
    /// <param name="entry">The entry at its position; null: the participant is shown none there.</param>
    /// <exception cref="SealException">It is of another record or field.</exception>
    public SealContext ContextBy(MessageDescriptor message, SealingEntry? entry)
    {
        if (entry is null)
            throw Fault(SealFault.OtherRecord, "no entry is shown from which the record has it.");
        if (Beside != 0 && Beside != Sealed.Position)
            throw Fault(SealFault.OtherRecord, "the record shows it beside another entry than that from which it is.");
        if (!entry.Named.Contains(Kind.IdOf(Record)))
            throw Fault(SealFault.OtherRecord, "the entry from which it is belongs to another record.");
        if (SealingEntry.ContextFor(entry.Header, message, Contract.TextOf(Record, "case")) is not { } context)
            throw Fault(SealFault.OtherMessage, "the request from which it is holds no such message.");
        if (context.Field[(context.Field.LastIndexOf('.') + 1)..] != Name)
            throw Fault(SealFault.OtherField, "it is from another field of the request.");
        if (entry.Contents is { } contents && contents.GetValueOrDefault(context.Field) != SealingEntry.DigestOf(Sealed))
            throw Fault(SealFault.NotAuthentic, "the signed request holds something else.");
        return context;
    }

    private SealException Fault(SealFault fault, string why) => new(fault, Path, why);
}
