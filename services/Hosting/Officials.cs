using System.Collections;
using System.Collections.Concurrent;
using Google.Protobuf;
using Google.Protobuf.Reflection;
using Ministries.Contracts;
using Ministries.Ledger.V1;
using Ministries.Types.V1;

namespace Ministries.Hosting;

/// <summary>Checks that the agreement lists the officials, interpreters and physicians whom a request names (<c>MEANING_OFFICIAL</c>). So a
/// field for a code cannot hold a person's name: every allowed code was agreed on before.</summary>
internal static class Officials
{
    private static readonly ConcurrentDictionary<MessageDescriptor, FieldDescriptor[]> Known = new();

    /// <summary>The fields of a request that name somebody who is not listed; empty: none.</summary>
    /// <param name="request">The request, whose form was checked.</param>
    /// <param name="permissions">The agreement.</param>
    /// <param name="caller">The caller. The official who acts must be one of its own.</param>
    public static IReadOnlyList<FieldFault> Check(IMessage request, Permissions permissions, Participant caller)
    {
        List<FieldFault> faults = [];
        Look(request, "");
        return faults;

        void Look(IMessage message, string path)
        {
            foreach (var field in FieldsOf(message.Descriptor))
            {
                var (value, name) = (field.Accessor.GetValue(message), path + field.Name);
                if (field.IsRepeated)
                {
                    var items = (IList)value;
                    for (var i = 0; i < items.Count; i++)
                        Look((IMessage)items[i]!, $"{name}[{i}].");
                }
                else if (value is IMessage inner)
                    Look(inner, $"{name}.");
                else if (value is string { Length: > 0 } code && !Listed(message, code) && faults.Count < Validation.MostFaults)
                    faults.Add(
                        new FieldFault
                        {
                            Field = name,
                            Description =
                                message is Actor
                                    ? "must be the code of an official whom the agreement lists for the caller"
                                    : "must be the code of an official, interpreter or physician whom the agreement lists",
                        }
                    );
            }
        }

        bool Listed(IMessage message, string code) => permissions.ListsOfficial(code, message is Actor ? caller.Id : null);
    }

    // The fields that are such codes, or messages that contain some.
    private static FieldDescriptor[] FieldsOf(MessageDescriptor type) =>
        Known.GetOrAdd(
            type,
            static t =>
                [
                    .. t
                        .Fields.InFieldNumberOrder()
                        .Where(f => !f.IsMap && (IsOfficial(f) || f.FieldType == FieldType.Message && Holds(f.MessageType, []))),
                ]
        );

    private static bool Holds(MessageDescriptor type, HashSet<MessageDescriptor> above) =>
        above.Add(type)
        && type.Fields.InFieldNumberOrder()
            .Any(f => IsOfficial(f) || f.FieldType == FieldType.Message && !f.IsMap && Holds(f.MessageType, above));

    private static bool IsOfficial(FieldDescriptor field) =>
        field is { FieldType: FieldType.String, IsRepeated: false } && StringForms.MeaningOf(field) == Meaning.Official;
}
