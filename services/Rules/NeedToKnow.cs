using System.Collections.Frozen;
using Google.Protobuf;
using Google.Protobuf.Reflection;
using Ministries.Contracts;
using Ministries.Custody.V1;
using Ministries.Errors.V1;
using Ministries.Types.V1;

namespace Ministries.Rules;

/// <summary>Whether a participant may read a record (D22). A message says by its fields <c>case</c> and <c>prisoner</c> what it is about.
/// </summary>
public static class NeedToKnow
{
    private static readonly FrozenDictionary<MessageDescriptor, Shape> Shapes = Descriptors.Messages.Values.ToFrozenDictionary(
        type => type,
        type => new Shape(type)
    );

    /// <summary>The case that a record or request is about; empty: it names none.</summary>
    public static string CaseOf(IMessage message) => Of(message).CaseOf(message);

    /// <summary>Judges whether a participant may read a record. The tokens say whether it may see the record. Then the grants to the parts
    /// that it has in the record's case say whether it may read it.</summary>
    /// <param name="record">The record.</param>
    /// <param name="kind">Its kind.</param>
    /// <param name="reader">Who reads, with the tokens of these cases.</param>
    /// <param name="granted">The parts to which the agreement grants the RPC by which it is read.</param>
    /// <param name="cases">The cases that the record is about, by id.</param>
    /// <returns><see cref="Reason.NotFound"/> where it may not see the record, <see cref="Reason.NotGranted"/> where it may see it and not
    /// read it so; unspecified: it may.</returns>
    public static Reason Judge(
        IMessage record,
        StreamKind kind,
        Reader reader,
        GrantedParts granted,
        IReadOnlyDictionary<string, Case> cases
    )
    {
        if (!kind.AudienceOf(record).Any(reader.Tokens.Contains))
            return Reason.NotFound;
        var shape = Of(record);
        var @case = cases.GetValueOrDefault(shape.CaseOf(record));
        IEnumerable<Part> parts = Cases.PartsOf(reader.Participant, @case);
        if (@case is not null && shape.PrisonerOf(record) is { Length: > 0 } prisoner)
            parts = parts.Union(Cases.PartsOf(reader.Participant, @case, prisoner));
        return MayRead(granted, reader.Participant, parts) ? Reason.Unspecified : Reason.NotGranted;
    }

    /// <summary>Whether a grant covers a reader of a record. The reader may be no party to the record's case, such as its author that has
    /// left the case: then all parts that it could have count.</summary>
    /// <param name="granted">The parts to which the agreement grants the RPC.</param>
    /// <param name="reader">Who reads.</param>
    /// <param name="parts">The parts that it has in the case.</param>
    public static bool MayRead(GrantedParts granted, Participant reader, IEnumerable<Part> parts) =>
        granted.CoversAny(parts.Any() ? parts : Cases.PartsEverOf(reader));

    private static Shape Of(IMessage message) => Shapes[message.Descriptor];

    /// <summary>Where a record says which case and prisoner it is about.</summary>
    private sealed class Shape(MessageDescriptor type)
    {
        private readonly FieldDescriptor? _case = Text(type, type == Case.Descriptor ? "id" : "case");
        private readonly FieldDescriptor? _prisoner = Text(type, "prisoner");

        public string CaseOf(IMessage record) => (string?)_case?.Accessor.GetValue(record) ?? "";

        public string PrisonerOf(IMessage record) => (string?)_prisoner?.Accessor.GetValue(record) ?? "";

        private static FieldDescriptor? Text(MessageDescriptor type, string name) =>
            type.FindFieldByName(name) is { FieldType: FieldType.String, IsRepeated: false } field ? field : null;
    }
}
