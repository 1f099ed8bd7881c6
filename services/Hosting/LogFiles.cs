using System.Globalization;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.DependencyInjection.Extensions;
using Ministries.Ledger;

namespace Ministries.Hosting;

/// <summary>
/// Serves the service's log for other tools (C2SP tlog-tiles), at the service's own address and to the participants of the agreement:
/// <c>/checkpoint</c>, <c>/tile/&lt;L&gt;/&lt;N&gt;[.p/&lt;W&gt;]</c> and <c>/tile/entries/&lt;N&gt;[.p/&lt;W&gt;]</c>. In addition,
/// <c>/checkpoint/cosigned</c> is the greatest checkpoint with the cosignatures that the agreement demands. A log record is the SHA-256 of
/// an entry's header, so it reveals nothing.
/// </summary>
internal static class LogFiles
{
    // A tile or bundle never changes. Access is checked with each call, so shared caches may not store it.
    private const string Lasting = "private, max-age=31536000, immutable",
        Passing = "no-store";

    /// <summary>The greatest number of groups of three digits in a tile's index: enough for 64 bits.</summary>
    private const int MaxGroups = 7;

    /// <summary>Registers what asks the agreement's witnesses for cosignatures.</summary>
    public static IServiceCollection AddWitnessing(this IServiceCollection services)
    {
        services.TryAddSingleton(new WitnessingOptions());
        services.AddSingleton<Witnessing>();
        services.AddHostedService(s => s.GetRequiredService<Witnessing>());
        return services;
    }

    /// <summary>Maps the log's files.</summary>
    public static IEndpointRouteBuilder MapLog(this IEndpointRouteBuilder endpoints)
    {
        string[] methods = [HttpMethods.Get, HttpMethods.Head];
        endpoints
            .MapMethods(
                "/checkpoint",
                methods,
                async (HttpContext http, ServiceLedger ledger) =>
                {
                    if (await Read(http, async () => (await ledger.ReadCheckpoint(http.RequestAborted)).Text) is (true, var note))
                        await WriteNote(http, note);
                }
            )
            .Guarded(endpoints);
        endpoints
            .MapMethods("/checkpoint/cosigned", methods, (HttpContext http, ServiceLedger ledger) => WriteNote(http, ledger.Cosigned?.Text))
            .Guarded(endpoints);
        endpoints.MapMethods("/tile/{level}/{**index}", methods, Tile).Guarded(endpoints);
        return endpoints;
    }

    private static async Task Tile(HttpContext http, string level, string? index, ServiceLedger ledger)
    {
        var (can, bytes) = await Read(
            http,
            async () =>
                Read(index ?? "") is not var (number, width) ? null
                : level == "entries" ? await ledger.ReadRecords(number, width, http.RequestAborted)
                : Number(level, 63) is { } at ? await ledger.ReadTile((int)at, number, width, http.RequestAborted)
                : null
        );
        if (!can)
            return;
        if (bytes is null)
        {
            await Say(http, StatusCodes.Status404NotFound, "there is no such tile, or not yet");
            return;
        }
        http.Response.ContentType = "application/octet-stream";
        http.Response.ContentLength = bytes.Length;
        http.Response.Headers.CacheControl = Lasting;
        if (HttpMethods.IsGet(http.Request.Method))
            await http.Response.Body.WriteAsync(bytes, http.RequestAborted);
    }

    // Reads from the ledger, and returns whether that succeeded. If not, the caller gets an answer that says so, and the web server logs
    // nothing.
    private static async Task<(bool Can, T? Found)> Read<T>(HttpContext http, Func<Task<T?>> read)
        where T : class
    {
        try
        {
            return (true, await read());
        }
        catch (Exception e) when (e is LedgerUnavailableException or LedgerInconsistentException)
        {
            await Say(http, StatusCodes.Status503ServiceUnavailable, "the ledger cannot be read at present");
            return (false, null);
        }
    }

    /// <summary>The index and width that a tile's path names; null: it names none.</summary>
    internal static (ulong Index, int Width)? Read(string path)
    {
        var parts = path.Split('/');
        var width = Ministries.Ledger.Tile.Full;
        if (parts.Length > 1 && parts[^2].EndsWith(".p", StringComparison.Ordinal))
        {
            if (Number(parts[^1], 255) is not (> 0 and { } partial))
                return null;
            width = (int)partial;
            parts = [.. parts[..^2], parts[^2][..^2]];
        }
        if (parts.Length > MaxGroups)
            return null;
        UInt128 index = 0;
        for (var i = 0; i < parts.Length; i++)
        {
            var group = parts[i];
            if (i < parts.Length - 1)
            {
                if (!group.StartsWith('x'))
                    return null;
                group = group[1..];
            }
            if (group.Length != 3 || !group.All(char.IsAsciiDigit))
                return null;
            index = index * 1000 + UInt128.Parse(group, CultureInfo.InvariantCulture);
        }
        // A first group of zeros would be a second name for the same tile.
        return index > ulong.MaxValue || parts.Length > 1 && parts[0] == "x000" ? null : ((ulong)index, width);
    }

    private static ulong? Number(string text, ulong max) =>
        ulong.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var number)
        && number <= max
        && text == number.ToString(CultureInfo.InvariantCulture)
            ? number
            : null;

    private static Task WriteNote(HttpContext http, string? checkpoint)
    {
        if (checkpoint is null)
            return Say(http, StatusCodes.Status404NotFound, "there is no such checkpoint yet");
        http.Response.Headers.CacheControl = Passing;
        http.Response.ContentType = "text/plain; charset=utf-8";
        return Write(http, checkpoint);
    }

    private static Task Say(HttpContext http, int status, string text)
    {
        http.Response.StatusCode = status;
        http.Response.Headers.CacheControl = Passing;
        http.Response.ContentType = "text/plain; charset=utf-8";
        return Write(http, text + "\n");
    }

    private static Task Write(HttpContext http, string text) =>
        HttpMethods.IsGet(http.Request.Method) ? http.Response.WriteAsync(text, http.RequestAborted) : Task.CompletedTask;
}
