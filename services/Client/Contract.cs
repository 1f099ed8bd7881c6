using Google.Protobuf;
using Google.Protobuf.Reflection;
using Ministries.Contracts;

namespace Ministries.Client;

/// <summary>The contracts, asked by name: which methods there are, and how their messages are written as JSON.</summary>
public static class Contract
{
    /// <summary>The services that keep records, by name.</summary>
    public static readonly IReadOnlyList<string> Services = ["calllog", "custody", "consular"];

    /// <summary>All message types, to write and read <c>google.protobuf.Any</c> and events.</summary>
    public static readonly TypeRegistry Types;

    /// <summary>Reads messages from JSON; a field that the contract does not know is an error.</summary>
    public static readonly JsonParser Parser;

    /// <summary>Writes messages as JSON, with the contract's own field names.</summary>
    public static readonly JsonFormatter Formatter;

    static Contract()
    {
        Types = TypeRegistry.FromFiles(Descriptors.Files);
        Parser = new JsonParser(JsonParser.Settings.Default.WithTypeRegistry(Types));
        Formatter = new JsonFormatter(
            JsonFormatter.Settings.Default.WithTypeRegistry(Types).WithPreserveProtoFieldNames(true).WithIndentation()
        );
    }

    /// <summary>The full method name without a leading slash, such as <c>ministries.calllog.v1.CallLogService/LogCall</c>.
    /// </summary>
    public static string NameOf(MethodDescriptor method) => $"{method.Service.FullName}/{method.Name}";

    /// <summary>Whether a method is a write: its request carries a request id.</summary>
    public static bool IsWrite(MethodDescriptor method) => Methods.Writes.Contains(NameOf(method));

    /// <summary>The value of a message's text field; empty: it has none.</summary>
    internal static string TextOf(IMessage message, string field) =>
        message.Descriptor.FindFieldByName(field) is { FieldType: FieldType.String, IsRepeated: false } text
            ? (string)text.Accessor.GetValue(message)
            : "";

    /// <summary>The path of a field, such as <c>account.minutes</c>.</summary>
    /// <param name="fields">The fields that lead to it, and the field itself.</param>
    internal static string PathOf(IEnumerable<FieldDescriptor> fields) => string.Join('.', fields.Select(f => f.Name));

    /// <summary>Every text that is set in a message, however deep.</summary>
    internal static IEnumerable<string> TextsIn(IMessage message)
    {
        foreach (var field in message.Descriptor.Fields.InDeclarationOrder())
        {
            if (field.IsMap || field.FieldType is not (FieldType.String or FieldType.Message))
                continue;
            var value = field.Accessor.GetValue(message);
            foreach (var one in value as System.Collections.IList ?? new[] { value })
                if (one is string { Length: > 0 } text)
                    yield return text;
                else if (one is IMessage inner)
                    foreach (var deeper in TextsIn(inner))
                        yield return deeper;
        }
    }

    /// <summary>The methods that a service serves: its own, those of its ledger and those for its operator.</summary>
    /// <param name="service">The service's name, such as <c>calllog</c>.</param>
    public static IReadOnlyList<MethodDescriptor> MethodsOf(string service) =>
        [
            .. ((string[])[$"ministries.{service}.v1", "ministries.ledger.v1", "ministries.operations.v1"]).SelectMany(package =>
                Methods.All.Where(m => m.File.Package == package).OrderBy(m => m.Service.Name, StringComparer.Ordinal).ThenBy(m => m.Index)
            ),
        ];

    /// <summary>The method of a service by its name, full or short, in any case; null: there is none.</summary>
    /// <param name="service">The service's name, such as <c>calllog</c>.</param>
    /// <param name="method">The method's name, such as <c>LogCall</c>.</param>
    public static MethodDescriptor? Find(string service, string method) =>
        MethodsOf(service)
            .FirstOrDefault(m => string.Equals(m.Name, method, StringComparison.OrdinalIgnoreCase) || NameOf(m) == method.TrimStart('/'));

    /// <summary>The method of this full name, without a leading slash; null: there is none.</summary>
    public static MethodDescriptor? Find(string name) => Methods.Find(name);
}
