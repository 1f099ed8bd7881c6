using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;
using Google.Protobuf;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Hosting;

namespace Ministries.Gateway;

/// <summary>Events to the ministry's systems: each that the participant may see, in one order, after the mirror has verified its entry.
/// They hold ids and public facts, and nothing about a person (D16).</summary>
/// <param name="mirror">The mirror.</param>
/// <param name="client">Says the trust domain.</param>
/// <param name="time">The clock.</param>
/// <param name="lifetime">Says when the gateway stops.</param>
internal sealed class EventStream(Mirror mirror, MinistryClient client, TimeProvider time, IHostApplicationLifetime lifetime)
{
    private const int Page = 100;

    // An empty comment line, so that no proxy on the way ends an idle stream.
    private static readonly TimeSpan Beat = TimeSpan.FromSeconds(15);

    /// <summary>How long a stream may last whose reader takes nothing, so that a write to him does not end.</summary>
    internal static readonly TimeSpan Longest = GatewayHost.StreamTime + Beat;

    /// <summary>An event as CloudEvents 1.0 in JSON. An event that this version cannot read has its bytes as <c>data_base64</c>, so it does
    /// not hold up later events.</summary>
    public JsonObject ToJson(MirroredEvent e)
    {
        var json = new JsonObject
        {
            ["specversion"] = "1.0",
            ["id"] = e.Id,
            ["source"] = $"{client.Agreement.TrustDomain}/{e.Service}",
            ["type"] = e.Type,
            ["subject"] = e.Case.Length > 0 ? e.Case : null,
            ["time"] = e.Time.ToString("yyyy-MM-dd'T'HH:mm:ss.fff'Z'", CultureInfo.InvariantCulture),
            ["traceparent"] = e.Trace,
        };
        if (DataOf(e) is { } data)
            (json["datacontenttype"], json["data"]) = ("application/json", data);
        else
            (json["datacontenttype"], json["data_base64"]) = ("application/protobuf", Convert.ToBase64String(e.Data));
        return json;
    }

    // null: the type is no event of this contract, the bytes are not of that type, or they hold an impossible time.
    private static JsonObject? DataOf(MirroredEvent e)
    {
        try
        {
            return LedgerEntry.EventOf(e.Type, ByteString.CopyFrom(e.Data)) is { } message ? PlainJson.Write(message) : null;
        }
        catch (Exception fault) when (fault is InvalidOperationException or InvalidProtocolBufferException or JsonException)
        {
            return null;
        }
    }

    /// <summary>Writes server-sent events until the caller goes, or the gateway stops. Each has an id by which he goes on
    /// (<c>Last-Event-ID</c>).</summary>
    public async Task Write(HttpContext http)
    {
        // A stream would go on for minutes, and no gateway stops in order while a request is in progress.
        using var either = CancellationTokenSource.CreateLinkedTokenSource(http.RequestAborted, lifetime.ApplicationStopping);
        try
        {
            await Write(http, either.Token);
        }
        catch (OperationCanceledException) when (!http.RequestAborted.IsCancellationRequested)
        {
            // Its reader comes again.
        }
    }

    private async Task Write(HttpContext http, CancellationToken cancel)
    {
        var (numbering, after) = (mirror.Head.Numbering, After(http));
        JsonEndpoints.Demand(http.Request.Query, "type", "from");
        var types = http.Request.Query["type"];
        if (types.Any(t => Contract.Types.Find(t ?? "") is null))
            throw new GatewayRefusedException(
                GatewayReason.ParameterInvalid,
                "it must be the full name of an event's type, such as ministries.calllog.v1.CallLogged",
                "type"
            );
        http.Response.ContentType = "text/event-stream";
        http.Response.Headers.CacheControl = "no-store";
        var began = time.GetTimestamp();
        // A copy that cannot be read at all is reported before the stream begins.
        var events = await mirror.Events(numbering, after, Page, cancel);
        await http.Response.StartAsync(cancel);
        using var late = time.CreateTimer(_ => http.Abort(), null, Longest, Timeout.InfiniteTimeSpan);
        while (time.GetElapsedTime(began) < GatewayHost.StreamTime)
        {
            foreach (var e in events)
            {
                after = e.Sequence;
                if (types.Count == 0 || types.Contains(e.Type))
                    await http.Response.WriteAsync($"id: {numbering}-{after}\n{NameOf(e)}data: {ToJson(e).ToJsonString()}\n\n", cancel);
            }
            await http.Response.Body.FlushAsync(cancel);
            // Asked for before the events are read, so that none that comes meanwhile is waited for in vain.
            var grown = mirror.Grown;
            if (await Next(numbering, after, cancel) is not { } next)
                return;
            events = next;
            if (events.Count > 0)
                continue;
            if (await Task.WhenAny(grown, Task.Delay(Beat, time, cancel)) != grown)
                await http.Response.WriteAsync(": \n\n", cancel);
            cancel.ThrowIfCancellationRequested();
        }
    }

    // An earlier version kept any name that a service gave an event. A name with a line feed would make further lines of the stream.
    private static string NameOf(MirroredEvent e) => LedgerEntry.IsEventType(e.Type) ? $"event: {e.Type}\n" : "";

    // null: the stream ends. Its reader comes again, and is told why. While the database is away nothing comes.
    private async Task<IReadOnlyList<MirroredEvent>?> Next(string numbering, long after, CancellationToken cancel)
    {
        try
        {
            var next = await mirror.Events(numbering, after, Page, cancel);
            return mirror.Head.Numbering == numbering ? next : null;
        }
        catch (GatewayRefusedException e)
        {
            return e.Reason == GatewayReason.MirrorUnreachable ? [] : null;
        }
    }

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
            last.Split('-') is not [var numbering, var text]
            || !long.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var number)
        )
            throw new GatewayRefusedException(
                GatewayReason.ParameterInvalid,
                "it must be the id of an event that was received",
                "Last-Event-ID"
            );
        if (number > Math.Min(mirror.Head.SharedWith(numbering), mirror.Head.Events))
            throw new GatewayRefusedException(GatewayReason.EventsRestarted, "the event is of another mirror", "Last-Event-ID");
        return number;
    }
}
