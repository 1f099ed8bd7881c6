using System.Collections;
using Google.Protobuf;
using Google.Protobuf.Reflection;

namespace Ministries.Client;

/// <summary>Reads a list page by page.</summary>
internal static class Pages
{
    /// <summary>How many pages a list may have: a million records at 200 a page. A service that always names one more would keep its reader
    /// for ever.</summary>
    public const int Most = 5000;

    /// <summary>Reads all pages.</summary>
    /// <param name="method">The RPC that lists.</param>
    /// <param name="request">Its request; the pages' tokens are put into it.</param>
    /// <param name="read">Makes one call.</param>
    /// <param name="enough">After how many records no further page is read.</param>
    /// <exception cref="InvalidDataException">There are more than <see cref="Most"/> pages.</exception>
    public static async Task<List<IMessage>> Read(
        MethodDescriptor method,
        IMessage request,
        Func<IMessage, Task<IMessage>> read,
        int enough = int.MaxValue
    )
    {
        var (records, items) = (new List<IMessage>(), Records.ListIn(method));
        for (var page = 1; page <= Most; page++)
        {
            var answer = await read(request);
            records.AddRange(((IEnumerable)items.Accessor.GetValue(answer)).Cast<IMessage>());
            var next = Contract.TextOf(answer, "next_page_token");
            if (next.Length == 0 || records.Count >= enough)
                return records;
            method.InputType.FindFieldByName("page_token").Accessor.SetValue(request, next);
        }
        throw new InvalidDataException($"the list of {method.Name} does not end after {Most} pages: ask the service's operator");
    }
}
