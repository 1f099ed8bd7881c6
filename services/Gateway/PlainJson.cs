using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;
using Google.Protobuf;
using Google.Protobuf.Reflection;
using Ministries.Ledger;
using Ministries.Sealing;
using Ministries.Types.V1;

namespace Ministries.Gateway;

/// <summary>
/// Messages as JSON (the ProtoJSON mapping, with the contract's own field names), in which a field that is sealed on the wire is the plain
/// message that the contract declares for it. Within the gateway such a field is a <c>Sealed</c> of the scheme <see cref="Scheme"/>, whose
/// content is the plain message.
/// </summary>
/// <remarks>A caller may name recipients in <c>"@sealed": { "recipients": […] }</c> beside the plain fields. What a caller sealed itself is
/// known by its member <c>scheme</c>, and stays as it is. In an answer <c>@sealed</c> names the recipients and the digest, <c>fields</c> if
/// these alone were opened, and <c>faults</c> where what was opened is not as the contract declares it.</remarks>
internal static class PlainJson
{
    /// <summary>The scheme of what is not sealed yet, or was opened. No service accepts it.</summary>
    public const string Scheme = "plain";

    /// <summary>Whether content is plain: the scheme, alone or with a slash and the full name of the message, as it is in
    /// answers.</summary>
    public static bool IsPlain(string scheme) => scheme == Scheme || scheme.StartsWith(Typed, StringComparison.Ordinal);

    /// <summary>The scheme of a plain message that says what it is; and, behind a second slash, the numbers of its fields if these alone
    /// were opened. Such a part is no whole message, and is never sealed as one.</summary>
    public static string SchemeOf(MessageDescriptor type, IReadOnlyList<uint>? fields = null) =>
        Typed + type.FullName + (fields is null ? "" : $"/{string.Join(',', fields)}");

    /// <summary>The whole message that a scheme says; null: it says none.</summary>
    public static MessageDescriptor? TypeOf(string scheme) => ShownBy(scheme) is (var type, null) ? type : null;

    /// <summary>The scheme in the place of what did not open: the fault's name stands behind a slash.</summary>
    public static string SchemeOf(SealFault fault) => Faulty + fault;

    /// <summary>The name of the fault that a scheme says; null: it says none.</summary>
    public static string? FaultOf(string scheme) => scheme.StartsWith(Faulty, StringComparison.Ordinal) ? scheme[Faulty.Length..] : null;

    /// <summary>Whether a scheme is one that the gateway alone writes.</summary>
    public static bool IsOwn(string scheme) => IsPlain(scheme) || FaultOf(scheme) is not null;

    // Null fields: all of it is there.
    private static (MessageDescriptor? Type, IReadOnlyList<uint>? Fields) ShownBy(string scheme)
    {
        if (!scheme.StartsWith(Typed, StringComparison.Ordinal))
            return (null, null);
        var parts = scheme[Typed.Length..].Split('/', 2);
        if (parts.Length == 1)
            return (Seals.MessageNamed(parts[0]), null);
        // A caller may have written it.
        uint?[] numbers =
        [
            .. parts[1]
                .Split(',', StringSplitOptions.RemoveEmptyEntries)
                .Select(n => uint.TryParse(n, NumberStyles.None, CultureInfo.InvariantCulture, out var number) ? number : (uint?)null),
        ];
        return numbers.Contains(null) ? (null, null) : (Seals.MessageNamed(parts[0]), [.. numbers.Select(n => n!.Value)]);
    }

    private const string Typed = $"{Scheme}/";

    private const string Faulty = "fault/";

    /// <summary>The member beside the plain fields that says to whom they are sealed.</summary>
    public const string About = "@sealed";

    private static readonly JsonFormatter Formatter = new(
        JsonFormatter.Settings.Default.WithTypeRegistry(Contract.Types).WithPreserveProtoFieldNames(true)
    );

    private static readonly JsonDocumentOptions Strict = new() { AllowDuplicateProperties = false, MaxDepth = 32 };

    /// <summary>Parses a JSON object, each of whose names is there once.</summary>
    /// <exception cref="GatewayRefusedException">It is none, or not UTF-8, or a text has half of a surrogate pair.</exception>
    public static JsonObject Parse(ReadOnlySpan<byte> json)
    {
        if (json.IsEmpty)
            return [];
        try
        {
            // The parser reads texts when they are asked for, and replaces what is no text. Then a name would be sealed with a letter lost.
            var parsed = JsonNode.Parse(PlainText.Strict.GetString(json), documentOptions: Strict);
            _ = parsed?.ToJsonString();
            return parsed as JsonObject ?? throw Wrong("", "the body must be a JSON object");
        }
        catch (Exception e) when (e is JsonException or ArgumentException or InvalidOperationException)
        {
            throw Wrong("", "the body is not JSON in UTF-8, or a name occurs twice in an object");
        }
    }

    /// <summary>Reads a message.</summary>
    /// <exception cref="GatewayRefusedException">A field is unknown, occurs twice, or has a value of another type.</exception>
    public static IMessage Read(JsonObject json, MessageDescriptor type) => Parse(Rewritten(json, type, ""), type, "");

    /// <summary>Writes a message.</summary>
    public static JsonObject Write(IMessage message)
    {
        var json = JsonNode.Parse(Formatter.Format(message))!.AsObject();
        Show(json, message.Descriptor);
        return json;
    }

    /// <summary>Writes a message that others made: a service's answer, or opened content. An impossible time in it is left out. Otherwise
    /// one such record would make its whole page unreadable.</summary>
    public static JsonObject WriteRead(IMessage message) => Write(Printable.Of(message));

    // The parser reads only what was written here, so the two cannot disagree.
    private static IMessage Parse(JsonObject json, MessageDescriptor type, string path)
    {
        try
        {
            return Contract.Parser.Parse(json.ToJsonString(), type);
        }
        catch (Exception e) when (e is InvalidProtocolBufferException or InvalidJsonException or FormatException or OverflowException)
        {
            // The parser's own message repeats values.
            throw Wrong(path, $"a value has not the form that {type.FullName} demands");
        }
    }

    private static JsonObject Rewritten(JsonObject json, MessageDescriptor type, string path)
    {
        var written = new JsonObject();
        foreach (var (name, value) in json)
        {
            var at = path.Length == 0 ? name : $"{path}.{name}";
            if (Find(type, name) is not { } field)
                throw Wrong(at, "there is no such field");
            if (written.ContainsKey(field.Name))
                throw Wrong(at, "the field is there twice");
            if (value is null)
                continue;
            if (!field.IsRepeated)
                written[field.Name] = Value(value, field, at);
            else if (field.IsMap)
                written[field.Name] = value.DeepClone();
            else if (value is JsonArray items)
                written[field.Name] = new JsonArray([.. items.Select((item, i) => Value(item, field, $"{at}[{i}]"))]);
            else
                throw Wrong(at, "the field takes a list");
        }
        return written;
    }

    private static FieldDescriptor? Find(MessageDescriptor type, string name) =>
        type.FindFieldByName(name) ?? type.Fields.InDeclarationOrder().FirstOrDefault(f => f.JsonName == name);

    private static JsonNode Value(JsonNode? value, FieldDescriptor field, string path)
    {
        if (value is null)
            throw Wrong(path, "a list holds no null");
        if (field.FieldType == FieldType.Message)
        {
            if (field.MessageType.File.Package == "google.protobuf")
                return value.DeepClone();
            if (value is not JsonObject inner)
                throw Wrong(path, "the field takes an object");
            return field.MessageType == Sealed.Descriptor && !inner.ContainsKey("scheme")
                ? Plain(inner, field, path)
                : Rewritten(inner, field.MessageType, path);
        }
        var kind = value.GetValueKind();
        var wrong = field.FieldType switch
        {
            FieldType.Bool => kind is JsonValueKind.True or JsonValueKind.False ? null : "the field takes true or false",
            FieldType.String or FieldType.Bytes => kind == JsonValueKind.String ? null : "the field takes a text",
            FieldType.Enum => kind == JsonValueKind.String && field.EnumType.FindValueByName(value.GetValue<string>()) is not null
                ? null
                : $"the field takes the name of a value of {field.EnumType.FullName}",
            _ => kind is JsonValueKind.Number or JsonValueKind.String ? null : "the field takes a number",
        };
        return wrong is null ? value.DeepClone() : throw Wrong(path, wrong);
    }

    private static JsonObject Plain(JsonObject json, FieldDescriptor field, string path)
    {
        var type = TypeIn(field) ?? throw Wrong(path, "the contract declares no message for the field");
        var fields = new JsonObject();
        var recipients = new JsonArray();
        foreach (var (name, value) in json)
            if (name != About)
                fields[name] = value?.DeepClone();
            else if (value is JsonObject about && about.Count == 1 && about["recipients"] is JsonArray named)
                recipients = named.DeepClone().AsArray();
            else
                throw Wrong($"{path}.{About}", "it takes recipients, and nothing else");
        if (recipients.Any(r => r?.GetValueKind() != JsonValueKind.String))
            throw Wrong($"{path}.{About}.recipients", "the field takes a list of texts");
        var message = Parse(Rewritten(fields, type, path), type, path);
        return new JsonObject
        {
            ["scheme"] = Scheme,
            ["recipients"] = recipients,
            ["content"] = Convert.ToBase64String(message.ToByteArray()),
        };
    }

    private static void Show(JsonObject json, MessageDescriptor type)
    {
        foreach (var (name, value) in json.ToList())
        {
            if (type.FindFieldByName(name) is not { FieldType: FieldType.Message, IsMap: false } field)
                continue;
            if (value is JsonArray items)
                for (var i = 0; i < items.Count; i++)
                    items[i] = PlainOf(items[i], field);
            else
                json[name] = PlainOf(value, field);
        }
    }

    private static JsonNode? PlainOf(JsonNode? value, FieldDescriptor field)
    {
        if (value is not JsonObject json || field.MessageType.File.Package == "google.protobuf")
            return value?.DeepClone();
        var scheme = field.MessageType == Sealed.Descriptor ? json["scheme"]?.GetValue<string>() ?? "" : "";
        if (FaultOf(scheme) is { } fault)
            return new JsonObject
            {
                [About] = new JsonObject
                {
                    ["fault"] = fault,
                    ["recipients"] = json["recipients"]?.DeepClone(),
                    ["digest"] = json["digest"]?.DeepClone(),
                    ["position"] = json["position"]?.DeepClone(),
                },
            };
        if (ShownBy(scheme) is not ({ } type, var fields))
        {
            Show(json, field.MessageType);
            return json.DeepClone();
        }
        var message = type.Parser.ParseFrom(Convert.FromBase64String(json["content"]?.GetValue<string>() ?? ""));
        // The faults name an impossible time. The rest is written without it.
        var plain = WriteRead(message);
        var about = new JsonObject
        {
            ["recipients"] = json["recipients"]?.DeepClone(),
            ["digest"] = json["digest"]?.DeepClone(),
            ["position"] = json["position"]?.DeepClone(),
        };
        if (fields is not null)
            about["fields"] = new JsonArray([.. fields.Select(n => (JsonNode?)type.FindFieldByNumber((int)n)?.Name)]);
        // No service has read it, so nobody has refused a text that deceives.
        if (MinistryClient.FaultsOf(message, fields).Where(f => !Openings.IsKeptBack(type, f.Field)).ToList() is { Count: > 0 } faults)
            about["faults"] = new JsonArray([
                .. faults.Select(f => new JsonObject { ["field"] = f.Field, ["description"] = f.Description }),
            ]);
        plain[About] = about;
        return plain;
    }

    private static GatewayRefusedException Wrong(string field, string description) => new(GatewayReason.BodyInvalid, description, field);

    /// <summary>The message that is sealed in a field; null: none is declared.</summary>
    public static MessageDescriptor? TypeIn(FieldDescriptor field) =>
        field.GetOptions()?.GetExtension(OptionsExtensions.Seals) is { } declared ? Seals.MessageNamed(declared.Message) : null;
}
