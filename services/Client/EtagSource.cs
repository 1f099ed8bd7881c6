using Google.Protobuf;
using Google.Protobuf.Reflection;

namespace Ministries.Client;

/// <summary>An etag of a request, and the record that shows it. It follows from the contracts: of the records that the request names, it is
/// the one whose id has the greatest number, because what a write is about stands behind the case and the prisoner to which it
/// belongs.</summary>
/// <param name="Field">The field of the etag, such as <c>same_as_etag</c>.</param>
/// <param name="Kind">The kind of record.</param>
/// <param name="IdField">The field with the record's id.</param>
internal sealed record EtagSource(FieldDescriptor Field, RecordType Kind, FieldDescriptor IdField)
{
    /// <summary>The field that names a record of any kind. If a request has it, no other field counts.</summary>
    public const string AnyKind = "record";

    private const string Name = "etag";

    /// <summary>The fields of a request that hold an etag.</summary>
    public static IEnumerable<FieldDescriptor> FieldsOf(MessageDescriptor request) =>
        request.Fields.InFieldNumberOrder().Where(f => f.Name.EndsWith(Name, StringComparison.Ordinal));

    /// <summary>The etags of a request.</summary>
    /// <param name="service">The service that is called.</param>
    /// <param name="request">The request. If a field can name several kinds of record, the id decides which. No etag is found if the id is
    /// of no record.</param>
    public static IEnumerable<EtagSource> In(string service, IMessage request)
    {
        foreach (var field in FieldsOf(request.Descriptor))
        {
            var prefix = field.Name[..^Name.Length];
            var any = request.Descriptor.FindFieldByName($"{prefix}{AnyKind}");
            var named =
                from kind in Records.Kinds.Where(k => k.Service == service)
                from id in request.Descriptor.Fields.InFieldNumberOrder()
                where
                    id.FieldType == FieldType.String
                    && !id.IsRepeated
                    && (
                        any is null
                            ? id.Name == prefix + kind.IdField
                            : id == any && Records.OfId((string)id.Accessor.GetValue(request)) == kind
                    )
                orderby id.FieldNumber descending
                select new EtagSource(field, kind, id);
            if (named.FirstOrDefault() is { } source)
                yield return source;
        }
    }

    /// <summary>The request that reads the record; null: the request does not say enough.</summary>
    public IMessage? ReadRequest(IMessage request)
    {
        var prefix = Field.Name[..^Name.Length];
        var get = (IMessage)Activator.CreateInstance(Kind.Get.InputType.ClrType)!;
        foreach (var field in Kind.Get.InputType.Fields.InFieldNumberOrder())
        {
            var from =
                field.Name == Kind.IdField
                    ? IdField
                    : request.Descriptor.FindFieldByName(prefix + field.Name) ?? request.Descriptor.FindFieldByName(field.Name);
            if (from?.Accessor.GetValue(request) is not string { Length: > 0 } value)
                return null;
            field.Accessor.SetValue(get, value);
        }
        return get;
    }
}
