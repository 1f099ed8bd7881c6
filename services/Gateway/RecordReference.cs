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
    /// <summary>The record with an id.</summary>
    /// <param name="id">The id.</param>
    /// <param name="case">Its case.</param>
    /// <returns>null: it is the id of no record.</returns>
    public static RecordReference? Of(string id, string @case)
    {
        if (!Form().IsMatch(id))
            return null;
        if (Records.OfId(id) is not { } type)
            return null;
        var request = type.Get.InputType.Parser.ParseFrom(ByteString.Empty);
        type.Get.InputType.FindFieldByName("case")?.Accessor.SetValue(request, @case);
        type.Get.InputType.FindFieldByName(type.IdField)!.Accessor.SetValue(request, id);
        return new RecordReference(id, type.Service, type.Get, request);
    }

    /// <summary>The records of which a write must name the etag and does not, each with the field for it.</summary>
    /// <exception cref="GatewayRefusedException">The write names no record.</exception>
    public static IEnumerable<(FieldDescriptor Field, RecordReference Record)> WithoutEtag(string service, IMessage write)
    {
        var sources = EtagSource.In(service, write).ToDictionary(s => s.Field);
        foreach (var field in EtagSource.FieldsOf(write.Descriptor).Where(f => (string)f.Accessor.GetValue(write) == ""))
            if ((sources.GetValueOrDefault(field)?.IdField ?? write.Descriptor.FindFieldByName(EtagSource.AnyKind)) is { } named)
                yield return (
                    field,
                    Of((string)named.Accessor.GetValue(write), Contract.TextOf(write, "case"))
                        ?? throw new GatewayRefusedException(GatewayReason.BodyInvalid, "it must be the id of a record", named.Name)
                );
    }

    /// <summary>The records of a service that a message names, however deep, each once.</summary>
    public static IEnumerable<string> IdsIn(IMessage message) => Contract.TextsIn(message).Where(t => Form().IsMatch(t)).Distinct();

    [GeneratedRegex("^[a-z]{1,13}_[0-9a-hjkmnp-tv-z]{26}$")]
    private static partial Regex Form();
}
