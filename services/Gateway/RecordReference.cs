using System.Text.RegularExpressions;
using Google.Protobuf;
using Google.Protobuf.Reflection;

namespace Ministries.Gateway;

/// <summary>A record, by its id, and how it is read.</summary>
/// <param name="Id">Its id, such as <c>call_…</c>.</param>
/// <param name="Service">The service that keeps it.</param>
/// <param name="Get">The RPC that reads it.</param>
/// <param name="Request">That RPC's request.</param>
internal sealed partial record RecordReference(string Id, string Service, MethodDescriptor Get, IMessage Request)
{
    // The kind in the id, the service, the RPC, and the field of its request.
    private static readonly (string Kind, string Service, string Get, string Field)[] Kinds =
    [
        ("call", "calllog", "GetCall", "call"),
        ("case", "custody", "GetCase", "case"),
        ("pris", "custody", "GetPrisoner", "prisoner"),
        ("statement", "custody", "GetStatement", "statement"),
        ("access", "consular", "GetAccess", "access"),
        ("placevisit", "consular", "GetPlaceVisit", "place_visit"),
        ("transfer", "consular", "GetTransfer", "transfer"),
    ];

    // The fields of a write that name its record, which its etag is of: the first that it has.
    private static readonly string[] Targets = ["statement", "place_visit", "access", "transfer", "call", "record", "prisoner", "case"];

    /// <summary>The record with an id.</summary>
    /// <param name="id">The id.</param>
    /// <param name="case">Its case.</param>
    /// <returns>null: it is the id of no record.</returns>
    public static RecordReference? Of(string id, string @case)
    {
        if (!Form().IsMatch(id))
            return null;
        var kind = id[..id.IndexOf('_', StringComparison.Ordinal)];
        if (Kinds.FirstOrDefault(k => k.Kind == kind) is not { Service: { } service } found)
            return null;
        var get = Contract.Find(service, found.Get)!;
        var request = get.InputType.Parser.ParseFrom(ByteString.Empty);
        get.InputType.FindFieldByName("case")?.Accessor.SetValue(request, @case);
        get.InputType.FindFieldByName(found.Field)!.Accessor.SetValue(request, id);
        return new RecordReference(id, service, get, request);
    }

    /// <summary>The records of which a write must name the etag and does not, each with the field for it.</summary>
    /// <exception cref="GatewayRefusedException">The write names no record.</exception>
    public static IEnumerable<(FieldDescriptor Field, RecordReference Record)> WithoutEtag(IMessage write)
    {
        var type = write.Descriptor;
        foreach (var (etag, targets) in ((string, string[])[])[("etag", Targets), ("same_as_etag", ["same_as_call", "same_as_prisoner"])])
            if (
                type.FindFieldByName(etag) is { } field
                && (string)field.Accessor.GetValue(write) == ""
                && targets.Select(type.FindFieldByName).FirstOrDefault(t => t is not null) is { } target
            )
                yield return (
                    field,
                    Of((string)target.Accessor.GetValue(write), TextOf(write, "case"))
                        ?? throw new GatewayRefusedException(GatewayReason.BodyInvalid, "it must be the id of a record", target.Name)
                );
    }

    /// <summary>The records of a service that a message names, however deep, each once.</summary>
    public static IEnumerable<string> IdsIn(IMessage message) => Texts(message).Where(t => Form().IsMatch(t)).Distinct();

    /// <summary>The value of a message's text field; empty: it has none.</summary>
    public static string TextOf(IMessage message, string field) =>
        message.Descriptor.FindFieldByName(field) is { FieldType: FieldType.String, IsRepeated: false } f
            ? (string)f.Accessor.GetValue(message)
            : "";

    private static IEnumerable<string> Texts(IMessage message)
    {
        foreach (var field in message.Descriptor.Fields.InDeclarationOrder())
        {
            if (field.IsMap || field.FieldType is not (FieldType.String or FieldType.Message))
                continue;
            var value = field.Accessor.GetValue(message);
            foreach (var one in value as System.Collections.IList ?? new[] { value })
                if (one is string text)
                    yield return text;
                else if (one is IMessage inner)
                    foreach (var deeper in Texts(inner))
                        yield return deeper;
        }
    }

    [GeneratedRegex("^[a-z]{1,13}_[0-9a-hjkmnp-tv-z]{26}$")]
    private static partial Regex Form();
}
