using System.Collections;
using System.Globalization;
using Google.Protobuf;
using Google.Protobuf.Reflection;

namespace Ministries.Gateway;

/// <summary>Lists of records from the mirror, as the services' own lists: filters are fields of the request that the record has
/// too.</summary>
internal static class Lists
{
    private const int Most = 200,
        Usual = 50;

    // The number of records in memory at once besides those on the page, since a record may have megabytes.
    private const int Together = 16;

    /// <summary>Reads a page.</summary>
    /// <exception cref="GatewayRefusedException">The mirror has no such list, or cannot apply a filter.</exception>
    public static async Task<StoredRecord> Read(
        MirrorStore store,
        string service,
        MethodDescriptor method,
        IMessage request,
        DateTimeOffset time,
        CancellationToken cancel
    )
    {
        var items = method
            .OutputType.Fields.InDeclarationOrder()
            .FirstOrDefault(f => f is { IsRepeated: true, FieldType: FieldType.Message });
        var get = items is null ? null : Contract.MethodsOf(service).FirstOrDefault(m => IsGetOf(m, items.MessageType));
        if (!method.Name.StartsWith("List", StringComparison.Ordinal) || items is null || get is null)
            throw new GatewayRefusedException(GatewayReason.NotInMirror, $"the mirror does not answer {method.Name}");
        var record = get.OutputType.Fields.InDeclarationOrder().First(f => f.MessageType() == items.MessageType);
        var size = request.Descriptor.FindFieldByName("page_size")?.Accessor.GetValue(request) is int and > 0 and var wanted
            ? Math.Min(wanted, Most)
            : Usual;
        var response = method.OutputType.Parser.ParseFrom(ByteString.Empty);
        var list = (IList)items.Accessor.GetValue(response);
        var seen = DateTimeOffset.UnixEpoch;
        var numbers = await store.NumbersOf(Contract.NameOf(get), time, cancel);
        int? next = null;
        for (var from = FromOf(Contract.TextOf(request, "page_token")); from < numbers.Count && next is null; from += Together)
        {
            var rows = await store.RecordsAt([.. numbers.Skip(from).Take(Together)], cancel);
            for (var i = 0; i < rows.Count && next is null; i++)
            {
                if (rows[i].Bytes is not { } bytes)
                    continue;
                var message = (IMessage)record.Accessor.GetValue(get.OutputType.Parser.ParseFrom(bytes));
                if (!Passes(request, message))
                    continue;
                if (list.Count == size)
                {
                    next = from + i;
                    continue;
                }
                list.Add(message);
                if (seen < rows[i].SeenTime)
                    seen = rows[i].SeenTime;
            }
        }
        if (next is { } place)
            method
                .OutputType.FindFieldByName("next_page_token")
                ?.Accessor.SetValue(response, $"mirror-{place.ToString(CultureInfo.InvariantCulture)}");
        return new StoredRecord(response.ToByteArray(), seen);
    }

    private static bool IsGetOf(MethodDescriptor method, MessageDescriptor record) =>
        method.Name == $"Get{record.Name}" && method.OutputType.Fields.InDeclarationOrder().Any(f => f.MessageType() == record);

    // A field's message type; null: it holds no message. The library throws there.
    private static MessageDescriptor? MessageType(this FieldDescriptor field) =>
        field.FieldType == FieldType.Message ? field.MessageType : null;

    private static int FromOf(string token) =>
        token.Length == 0 ? 0
        : token.StartsWith("mirror-", StringComparison.Ordinal)
        && int.TryParse(token.AsSpan(7), NumberStyles.None, CultureInfo.InvariantCulture, out var from)
            ? from
        : throw new GatewayRefusedException(GatewayReason.ParameterInvalid, "the page token is not of the mirror", "page_token");

    private static bool Passes(IMessage request, IMessage record)
    {
        foreach (var filter in request.Descriptor.Fields.InDeclarationOrder())
        {
            if (filter.Name is "page_size" or "page_token" || IsDefault(filter.Accessor.GetValue(request)))
                continue;
            if (record.Descriptor.FindFieldByName(filter.Name) is not { IsRepeated: false } field || field.FieldType != filter.FieldType)
                throw new GatewayRefusedException(GatewayReason.NotInMirror, "the mirror cannot apply this filter", filter.Name);
            if (!Equals(field.Accessor.GetValue(record), filter.Accessor.GetValue(request)))
                return false;
        }
        return true;
    }

    private static bool IsDefault(object? value) =>
        value is null or "" or false or 0 or 0u or 0L or 0ul || value is Enum e && Convert.ToInt32(e, CultureInfo.InvariantCulture) == 0;
}
