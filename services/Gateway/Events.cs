using System.Globalization;
using System.Text.Json.Nodes;
using Microsoft.AspNetCore.Http;

namespace Ministries.Gateway;

/// <summary>Events to the ministry's systems: each that the participant may see, in one order, after the mirror has verified its entry. They hold
/// ids and public facts, and nothing about a person (D16).</summary>
/// <param name="mirror">The mirror.</param>
/// <param name="client">Says the trust domain.</param>
/// <param name="time">The clock.</param>
internal sealed class EventStream(Mirror mirror, MinistryClient client, TimeProvider time)
{
    private const int Page = 100;

    // A line that says nothing, so that whoever lies between does not end an idle stream.
    private static readonly TimeSpan Beat = TimeSpan.FromSeconds(15);

    /// <summary>An event as CloudEvents 1.0 in JSON.</summary>
    public JsonObject ToJson(MirroredEvent e) =>
        new()
        {
            ["specversion"] = "1.0",
            ["id"] = e.Id,
            ["source"] = $"{client.Agreement.TrustDomain}/{e.Service}",
            ["type"] = e.Type,
            ["subject"] = e.Case.Length > 0 ? e.Case : null,
            ["time"] = e.Time.ToString("yyyy-MM-dd'T'HH:mm:ss.fff'Z'", CultureInfo.InvariantCulture),
            ["datacontenttype"] = "application/json",
            ["traceparent"] = e.Trace,
            ["data"] = Contract.Types.Find(e.Type)?.Parser.ParseFrom(e.Data) is { } message ? PlainJson.Write(message) : null,
        };

    /// <summary>Writes server-sent events until the caller goes. Each has an id by which he goes on (<c>Last-Event-ID</c>).</summary>
    public async Task Write(HttpContext http)
    {
        var after = After(http);
        var types = http.Request.Query["type"];
        http.Response.ContentType = "text/event-stream";
        http.Response.Headers.CacheControl = "no-store";
        var cancel = http.RequestAborted;
        await http.Response.StartAsync(cancel);
        while (true)
        {
            // Asked for before the events are read, so that none that comes meanwhile is waited for in vain.
            var grown = mirror.Grown;
            var events = mirror.Store.Events(after, Page);
            foreach (var e in events)
            {
                after = e.Sequence;
                if (types.Count == 0 || types.Contains(e.Type))
                    await http.Response.WriteAsync($"id: {IdOf(after)}\nevent: {e.Type}\ndata: {ToJson(e).ToJsonString()}\n\n", cancel);
            }
            await http.Response.Body.FlushAsync(cancel);
            if (events.Count == Page)
                continue;
            if (await Task.WhenAny(grown, Task.Delay(Beat, time, cancel)) != grown)
                await http.Response.WriteAsync(": \n\n", cancel);
            cancel.ThrowIfCancellationRequested();
        }
    }

    private string IdOf(long sequence) => string.Create(CultureInfo.InvariantCulture, $"{mirror.Store.Epoch}-{sequence}");

    private long After(HttpContext http)
    {
        if ((string?)http.Request.Headers["Last-Event-ID"] is not { Length: > 0 } last)
            return (string?)http.Request.Query["from"] switch
            {
                "now" => mirror.Store.LastEvent,
                null or "start" => 0,
                _ => throw new GatewayRefusedException(GatewayReason.ParameterInvalid, "from is start or now", "from"),
            };
        if (
            last.Split('-') is not [var epoch, var text]
            || !long.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var number)
        )
            throw new GatewayRefusedException(
                GatewayReason.ParameterInvalid,
                "it must be the id of an event that was received",
                "Last-Event-ID"
            );
        if (epoch != mirror.Store.Epoch || number > mirror.Store.LastEvent)
            throw new GatewayRefusedException(GatewayReason.EventsRestarted, "the event is of another mirror", "Last-Event-ID");
        return number;
    }
}
