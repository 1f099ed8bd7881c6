using Google.Protobuf;
using Google.Protobuf.Reflection;

namespace Ministries.Client;

/// <summary>A kind of record that one service keeps.</summary>
/// <param name="Name">Its name, such as <c>place-visit</c>.</param>
/// <param name="Service">The service that keeps it.</param>
/// <param name="Get">The method that reads one.</param>
/// <param name="List">The method that lists them.</param>
internal sealed record RecordType(string Name, string Service, MethodDescriptor Get, MethodDescriptor List)
{
    /// <summary>The field of a request that holds the record's id, such as <c>place_visit</c>: the last one that reading it
    /// takes.</summary>
    public string IdField => Get.InputType.Fields.InFieldNumberOrder()[^1].Name;

    /// <summary>The type of the record.</summary>
    public MessageDescriptor Type =>
        Get.OutputType.Fields.InFieldNumberOrder().First(f => f is { FieldType: FieldType.Message, IsRepeated: false }).MessageType;

    /// <summary>The type of what is listed: the record, or a summary of it.</summary>
    public MessageDescriptor ItemType => Records.ListIn(List).MessageType;

    /// <summary>The record in the answer of <see cref="Get"/>.</summary>
    public IMessage In(IMessage answer) =>
        (IMessage)
            answer
                .Descriptor.Fields.InFieldNumberOrder()
                .First(f => f.FieldType == FieldType.Message && f.MessageType == Type)
                .Accessor.GetValue(answer);

    /// <summary>The id of a record of this kind, or of a summary of it.</summary>
    public string IdOf(IMessage record) => (string)IdIn(record.Descriptor).Accessor.GetValue(record);

    /// <summary>The field with the id in a record of this kind, or in a summary of it.</summary>
    public FieldDescriptor IdIn(MessageDescriptor type) => type.FindFieldByName("id") ?? type.FindFieldByName(IdField);
}

/// <summary>The kinds of records, from the contracts: each that can be both read and listed.</summary>
internal static class Records
{
    /// <summary>All of them.</summary>
    public static readonly IReadOnlyList<RecordType> Kinds =
    [
        .. from service in Contract.Services
        from get in Contract.MethodsOf(service)
        where get.Name.StartsWith("Get", StringComparison.Ordinal)
        let name = get.Name["Get".Length..]
        let list = Contract
            .MethodsOf(service)
            .FirstOrDefault(m => m.Name.StartsWith("List", StringComparison.Ordinal) && Words.Singular(m.Name["List".Length..]) == name)
        where list is not null
        select new RecordType(Words.Kebab(name), service, get, list),
    ];

    /// <summary>The list in the answer of a method that lists.</summary>
    public static FieldDescriptor ListIn(MethodDescriptor list) => list.OutputType.Fields.InFieldNumberOrder().First(f => f.IsRepeated);

    /// <summary>The kind of this name, one or many; null: there is none.</summary>
    public static RecordType? Named(string name) =>
        Kinds.FirstOrDefault(k =>
            string.Equals(k.Name, Plain(name), StringComparison.Ordinal)
            || string.Equals(Words.Kebab(k.List.Name["List".Length..]), Plain(name), StringComparison.Ordinal)
            || k.Name.Replace("-", "", StringComparison.Ordinal) == Plain(name).Replace("-", "", StringComparison.Ordinal)
        );

    /// <summary>The kind of the record that an id names by what stands before its underscore; null: of none.</summary>
    public static RecordType? OfId(string id) =>
        id.IndexOf('_', StringComparison.Ordinal) is > 0 and var end
            ? Named(
                id[..end] switch
                {
                    "pris" => "prisoner",
                    var prefix => prefix,
                }
            )
            : null;

    private static string Plain(string name) => name.Replace('_', '-').ToLowerInvariant();
}
