using System.Collections.Concurrent;
using Google.Protobuf;
using Google.Protobuf.Reflection;

namespace Ministries.Hosting;

/// <summary>Finds the fields that the requests, and the responses, of all writes have in common.</summary>
internal sealed class RequestShape
{
    private static readonly ConcurrentDictionary<MessageDescriptor, RequestShape> Known = new();

    private RequestShape(MessageDescriptor type)
    {
        RequestId = Find(type, "request_id", FieldType.String);
        Case = Find(type, "case", FieldType.String);
        Precedence = Find(type, "precedence", FieldType.Enum);
        Approvals = type.FindFieldByNumber(Trust.Approvals.Field) is { Name: "approvals" } approvals ? approvals : null;
        Receipt = Find(type, "receipt", FieldType.Message);
        Record = type.FindFieldByNumber(2) is { FieldType: FieldType.String, IsRepeated: false, Name: not "prisoner" } record
            ? record
            : null;
    }

    public FieldDescriptor? RequestId { get; }

    public FieldDescriptor? Case { get; }

    public FieldDescriptor? Precedence { get; }

    public FieldDescriptor? Approvals { get; }

    /// <summary>Of a response: its receipt.</summary>
    public FieldDescriptor? Receipt { get; }

    /// <summary>Of a response: the record's id, which is field 2. A prisoner's reference does not count as one, because it must not be in a
    /// trace (D16).</summary>
    public FieldDescriptor? Record { get; }

    public static RequestShape Of(MessageDescriptor type) => Known.GetOrAdd(type, static d => new RequestShape(d));

    public static string Text(FieldDescriptor? field, IMessage message) => (string?)field?.Accessor.GetValue(message) ?? "";

    private static FieldDescriptor? Find(MessageDescriptor type, string name, FieldType kind) =>
        type.FindFieldByName(name) is { IsRepeated: false } field && field.FieldType == kind ? field : null;
}
