using System.Net;
using System.Net.Sockets;
using System.Text.Json.Nodes;
using System.Threading.RateLimiting;
using Grpc.AspNetCore.Server.Model;
using Microsoft.AspNetCore.Authorization;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Ministries.Ledger;
using Ministries.Serving;

namespace Ministries.Gateway;

/// <summary>What a participant runs within its own walls: its systems and officials use the services by it, and it holds the participant's
/// keys.
/// </summary>
public static partial class GatewayHost
{
    /// <summary>How many calls may be in progress: in total; of one caller.</summary>
    internal const int Calls = 256,
        CallsOfOne = 64;

    /// <summary>How many of callers who are not known may be: 16, such as of those who read the document.</summary>
    internal const int CallsOfStrangers = 16;

    /// <summary>How long a stream goes on: 10 min. Its reader comes again, goes on where he was, and shows again who he is.</summary>
    internal static readonly TimeSpan StreamTime = TimeSpan.FromMinutes(10);

    /// <summary>How many streams of events and entries may be open: in total; of one caller. They last as long as their readers want, so
    /// they take no place of a call.</summary>
    internal const int Streams = 64,
        StreamsOfOne = 16;

    /// <summary>How many of the streams may follow a service's ledger by gRPC: 32, half of what the service has for the participant, so
    /// that the gateway's mirror and the participant's other systems have places left.</summary>
    internal const int Followers = 32;

    /// <summary>The file of the certificate that it makes for this machine, in <see cref="GatewaySettings.State"/>.</summary>
    public const string OwnCertificate = "gateway.pem";

    /// <summary>Marks an endpoint whose answer is a stream.</summary>
    /// <param name="FromService">Whether it holds a stream of a service.</param>
    internal sealed record Lasting(bool FromService);

    /// <summary>Builds a gateway without starting it.</summary>
    /// <param name="settings">The settings.</param>
    /// <param name="time">The clock; null: the system's.</param>
    /// <param name="logging">Where its log goes; null: to the console.</param>
    /// <exception cref="FormatException">A setting is wrong, a file does not hold what it should, or the mirror's database is another's.
    /// </exception>
    /// <exception cref="IOException">A file cannot be read, or another gateway uses the state folder.</exception>
    public static WebApplication Build(GatewaySettings settings, TimeProvider? time = null, Action<ILoggingBuilder>? logging = null)
    {
        settings.Check();
        time ??= TimeProvider.System;
        var builder = WebApplication.CreateSlimBuilder();
        builder
            .Logging.ClearProviders()
            .AddFilter("Microsoft", LogLevel.Warning)
            .AddFilter("Grpc", LogLevel.Warning)
            // It would log the message of the exception that ends the host, which may hold personal data; Run says its type.
            .AddFilter("Microsoft.Extensions.Hosting.Internal.Host", LogLevel.None)
            // While it could log, it makes a span for each request; but RPCs have spans of their own (Telemetry.Trace).
            .AddFilter("Microsoft.AspNetCore.Hosting.Diagnostics", LogLevel.None)
            // Any caller that reaches the gateway can fail its authentication as often as it likes, and must not fill the disk with log
            // lines.
            .AddFilter(typeof(Callers).FullName, LogLevel.Warning);
        (logging ?? ToConsole)(builder.Logging);
        var services = builder.Services;
        services.AddSingleton(settings);
        services.AddSingleton(time);
        services.AddSingleton(_ => new StateLock(settings.State));
        ILogger? log = null;
        void Complain(string text) => LogComplaint(log!, text);
        services.AddSingleton(_ => new MinistryClient(settings.Client with { Complain = Complain }, time));
        services.AddSingleton<Outbox>().AddHostedService(s => s.GetRequiredService<Outbox>());
        services.AddSingleton<Mirror>().AddHostedService(s => s.GetRequiredService<Mirror>());
        services.AddSingleton<Webhooks>().AddHostedService(s => s.GetRequiredService<Webhooks>());
        services.AddSingleton<EventStream>().AddSingleton<Exchange>().AddSingleton<Condition>();
        services.AddGrpc(options =>
            // Otherwise an endpoint without a policy would answer each RPC that is not served.
            (options.MaxReceiveMessageSize, options.EnableDetailedErrors, options.IgnoreUnknownServices) = (1 << 20, false, true)
        );
        services.AddSingleton<GrpcRelay>().AddSingleton<IServiceMethodProvider<GrpcRelay>, GrpcRelay.Methods>();
        Callers.Add(services, settings, TokensOf(settings));
        services.AddAuthorization(Roles.AddPolicies);
        services.AddHostFiltering(options =>
            (options.AllowedHosts, options.AllowEmptyHosts, options.IncludeFailureMessage) = (NamesOf(settings), false, false)
        );
        services.AddRateLimiter(Limit);
        Telemetry.Add(services, settings);
        if (settings.Metrics is not null)
            services.AddHostedService<MetricsBeside>();
        if (settings.Witness is not null)
            services.AddHostedService<WitnessBeside>();
        var connections = new Connections(time, ProcessLimits.Descriptors(), settings.Witness is not null);
        services.AddSingleton(connections);
        var certificate = new ServerCertificate(settings, time, Complain);
        services.AddSingleton(certificate);
        Listen(builder.WebHost, settings, connections, certificate);
        var app = builder.Build();
        log = app.Services.GetRequiredService<ILoggerFactory>().CreateLogger("Ministries.Gateway");
        try
        {
            // Opened now, so that what is wrong is told before anything listens.
            _ = app.Services.GetRequiredService<StateLock>();
            _ = app.Services.GetRequiredService<MinistryClient>();
            _ = app.Services.GetRequiredService<Exchange>();
            _ = app.Services.GetRequiredService<Webhooks>();
            Map(app, settings);
            return app;
        }
        catch
        {
            ((IDisposable)app).Dispose();
            throw;
        }
    }

    /// <summary>Starts a host, and runs it until it is told to stop.</summary>
    /// <param name="listen">Where it listens.</param>
    /// <param name="host">The host.</param>
    /// <param name="started">Done once it has started.</param>
    /// <param name="error">Where a background service that failed for good is named, with the type of what failed.</param>
    /// <param name="cancel">Stops it.</param>
    /// <exception cref="IOException">The gateway cannot listen at the address.</exception>
    /// <returns>Whether it was told to stop; false: background work that nothing restarts has failed.</returns>
    public static async Task<bool> Run(Uri listen, WebApplication host, Func<Task> started, TextWriter error, CancellationToken cancel)
    {
        var failed = await SupervisedService.Run(
            host,
            async () =>
            {
                await StartAt(listen, host, cancel);
                await started();
                await host.WaitForShutdownAsync(cancel);
            }
        );
        if (failed is null)
            return true;
        await error.WriteLineAsync($"gateway: {failed}");
        return false;
    }

    /// <summary>Starts a host.</summary>
    /// <param name="listen">Where it listens.</param>
    /// <param name="host">The host.</param>
    /// <param name="cancel">Ends it.</param>
    /// <exception cref="IOException">The host cannot listen at the address.</exception>
    internal static async Task StartAt(Uri listen, WebApplication host, CancellationToken cancel)
    {
        try
        {
            await host.StartAsync(cancel);
        }
        // Kestrel reports an address in use by itself. It passes on other errors, such as an address that the machine does not have.
        catch (SocketException e)
        {
            throw new IOException($"{listen} cannot be listened at: {e.Message}", e);
        }
    }

    private static void Map(WebApplication app, GatewaySettings settings)
    {
        app.UseHostFiltering();
        app.UseStatusCodePages(context => Problems.Answer(context.HttpContext));
        app.Use(RefuseBrowsers);
        app.UseRouting();
        app.Use(Callers.Limit);
        app.UseAuthentication();
        app.Use(app.Services.GetRequiredService<Connections>().Know);
        app.UseAuthorization();
        app.UseRateLimiter();
        app.Use((http, next) => Telemetry.Trace(settings, http, next));
        app.MapGrpcService<GrpcRelay>();
        JsonEndpoints.Map(app);
        OpenApi.Map(app);
        // A monitor need not be a known caller; the answers are only yes or no. Health checks take no call's place: a stranger that holds
        // all of the strangers' places must not make the gateway look dead.
        app.MapGet("/health/live", () => Results.StatusCode(200)).AllowAnonymous().DisableRateLimiting();
        app.MapGet("/health/ready", (Condition condition) => Results.StatusCode(condition.IsReady ? 200 : 503))
            .AllowAnonymous()
            .DisableRateLimiting();
        app.MapGet("/status", (HttpContext http, Condition condition) => JsonEndpoints.Json(http, 200, condition.ToJson()))
            .RequireAuthorization(Roles.PolicyOf("gateway/status"));
        DemandPolicies(app);
    }

    /// <summary>Makes sure that each endpoint says who may call it.</summary>
    /// <exception cref="InvalidOperationException">One does not.</exception>
    internal static void DemandPolicies(IEndpointRouteBuilder endpoints)
    {
        foreach (var endpoint in endpoints.DataSources.SelectMany(s => s.Endpoints))
            if (
                endpoint.Metadata.GetMetadata<IAllowAnonymous>() is null
                && endpoint.Metadata.GetMetadata<IAuthorizeData>()?.Policy is not { Length: > 0 }
            )
                throw new InvalidOperationException(
                    $"the endpoint {endpoint.DisplayName} says neither who may call it nor that everybody may"
                );
    }

    // A page of another site cannot send application/json without asking first, and nobody answers that here. These refuse it before
    // anything is read, also where it would send a client certificate by itself.
    private static Task RefuseBrowsers(HttpContext http, RequestDelegate next)
    {
        var headers = http.Request.Headers;
        if (
            (string?)headers["Sec-Fetch-Site"] is { } site and not ("same-origin" or "none")
            || (string?)headers.Origin is { } origin && origin != $"https://{http.Request.Host}"
        )
            return Problems.Answer(
                http,
                Problems.Of(new GatewayRefusedException(GatewayReason.OriginForeign, "a page of another site may not call the gateway"))
            );
        if (
            HttpMethods.IsPost(http.Request.Method)
            && http.Request.ContentType?.Split(';')[0].Trim().ToLowerInvariant()
                is not ("application/json" or "application/grpc" or "application/grpc+proto")
        )
            http.Response.StatusCode = StatusCodes.Status415UnsupportedMediaType;
        else
            return next(http);
        return Task.CompletedTask;
    }

    private static void Limit(Microsoft.AspNetCore.RateLimiting.RateLimiterOptions options)
    {
        static Lasting? Lasts(HttpContext http) => http.GetEndpoint()?.Metadata.GetMetadata<Lasting>();
        static PartitionedRateLimiter<HttpContext> Places(Func<HttpContext, (string Of, int Most)> places) =>
            PartitionedRateLimiter.Create<HttpContext, string>(http =>
                places(http) is var (of, most) && most == int.MaxValue
                    ? RateLimitPartition.GetNoLimiter(of)
                    : RateLimitPartition.GetConcurrencyLimiter(of, _ => new ConcurrencyLimiterOptions { PermitLimit = most })
            );
        options.GlobalLimiter = PartitionedRateLimiter.CreateChained(
            Places(http =>
                http.User.Identity?.IsAuthenticated != true ? ("strangers", CallsOfStrangers)
                : Lasts(http) is null ? ("calls", Calls)
                : ("streams", Streams)
            ),
            Places(http => Lasts(http) is { FromService: true } ? ("followers", Followers) : ("others", int.MaxValue)),
            Places(http =>
                Lasts(http) is null
                    ? ($"calls {Connections.KeyOf(http)}", CallsOfOne)
                    : ($"streams {Connections.KeyOf(http)}", StreamsOfOne)
            )
        );
        options.OnRejected = (context, _) =>
            new ValueTask(
                Problems.Answer(
                    context.HttpContext,
                    Problems.Of(new GatewayRefusedException(GatewayReason.Overloaded, "as many calls are in progress as may be"))
                )
            );
    }

    private static string[] NamesOf(GatewaySettings settings) =>
        [settings.Listen.Host, .. settings.Names, .. settings.IsLocal ? (string[])["localhost", "127.0.0.1", "[::1]"] : []];

    private static TokenFile? TokensOf(GatewaySettings settings)
    {
        if (settings.Tokens is { } file)
            return new TokenFile(file);
        if (!settings.IsLocal || settings.Systems is not null || settings.Officials is not null)
            return null;
        // Whoever can read the state folder is the user who runs the gateway, and so has the keys themselves.
        var (list, token) = (Path.Combine(settings.State, "local.tokens.json"), Path.Combine(settings.State, "local.token"));
        if (!File.Exists(list) || !File.Exists(token))
        {
            File.Delete(list);
            WholeFile.Write(token, TokenFile.Create(list, "local", Roles.All) + "\n");
        }
        return new TokenFile(list);
    }

    private static void Listen(IWebHostBuilder web, GatewaySettings settings, Connections connections, ServerCertificate certificate)
    {
        web.UseKestrelHttpsConfiguration();
        var addresses = AddressesOf(settings.Listen);
        web.ConfigureKestrel(kestrel =>
        {
            kestrel.AddServerHeader = false;
            kestrel.Limits.MaxRequestBodySize = JsonEndpoints.MaxBody;
            kestrel.Limits.RequestHeadersTimeout = TimeSpan.FromSeconds(10);
            kestrel.Limits.Http2.MaxStreamsPerConnection = 100;
            foreach (var at in addresses)
                kestrel.Listen(at, listen => connections.Use(listen, () => certificate.Current, settings.Systems));
        });
    }

    /// <summary>Where an address listens. A host's name is resolved to its addresses. On a machine with several networks this selects one
    /// of them.</summary>
    /// <exception cref="FormatException">The name has no address.</exception>
    internal static IReadOnlyList<IPEndPoint> AddressesOf(Uri listen)
    {
        try
        {
            return Addresses.OwnOf(listen);
        }
        catch (SocketException)
        {
            throw new FormatException($"{listen.Host} has no address: name one at which {listen} can listen");
        }
    }

    [LoggerMessage(1, LogLevel.Error, "{Text}")]
    private static partial void LogComplaint(ILogger log, string text);

    private static void ToConsole(ILoggingBuilder logging) =>
        logging.AddSimpleConsole(o => (o.SingleLine, o.UseUtcTimestamp, o.TimestampFormat) = (true, true, "yyyy-MM-ddTHH:mm:ss.fffZ "));
}

/// <summary>Holds the state folder, so that no second gateway uses it.</summary>
internal sealed class StateLock : IDisposable
{
    private readonly FileStream _file;

    /// <summary>Takes it.</summary>
    /// <exception cref="IOException">Another gateway has it.</exception>
    public StateLock(string folder)
    {
        var path = Path.Combine(folder, "lock");
        try
        {
            _file = PrivateFiles.Open(path, FileMode.OpenOrCreate);
        }
        catch (IOException e)
        {
            throw new IOException($"another gateway uses {folder}", e);
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _file.Dispose();
}

/// <summary>How the gateway is.</summary>
internal sealed class Condition(Outbox outbox, Mirror mirror, Webhooks webhooks, MinistryClient client, ServerCertificate certificate)
{
    /// <summary>Whether nothing has stopped for good.</summary>
    public bool IsReady => mirror.Progress.All(p => p.Alarm.Length == 0);

    /// <summary>All that is known of it, and nothing of any record.</summary>
    public JsonObject ToJson() =>
        new()
        {
            ["participant"] = client.Participant.Id,
            ["certificate_until"] = JsonEndpoints.Time(certificate.Until),
            ["outbox"] = new JsonObject
            {
                ["waiting"] = outbox.PendingCount,
                ["waiting_bytes"] = outbox.PendingBytes,
                ["waiting_since"] = outbox.PendingSince is { } since ? JsonEndpoints.Time(since) : null,
                ["hindrances"] = new JsonArray([
                    .. outbox.Hindrances.Select(h => new JsonObject
                    {
                        ["service"] = h.Service,
                        ["reason"] = h.Reason,
                        ["remedy"] = h.Remedy,
                        ["since"] = JsonEndpoints.Time(h.Since),
                        ["writes"] = h.Writes,
                    }),
                ]),
            },
            ["mirror"] = new JsonArray([
                .. mirror.Progress.Select(p => new JsonObject
                {
                    ["service"] = p.Service,
                    ["next_position"] = p.NextPosition,
                    ["tree_size"] = p.TreeSize,
                    ["cosigned_size"] = p.CosignedSize,
                    ["check_time"] = p.CheckTime is { } time ? JsonEndpoints.Time(time) : null,
                    ["alarm"] = p.Alarm.Length > 0 ? p.Alarm : null,
                }),
            ]),
            ["mirror_database"] = new JsonObject
            {
                ["engine"] = mirror.Store.Engine,
                ["away_since"] = mirror.Store.Away is { } away ? JsonEndpoints.Time(away.Time) : null,
                ["why"] = mirror.Store.Away?.Why,
                ["times_put_back"] = mirror.Store.TimesPutBack,
            },
            ["webhooks"] = new JsonObject(webhooks.Pending.Select(w => KeyValuePair.Create(w.Key, (JsonNode?)w.Value))),
            ["dead_letters"] = webhooks.Dead,
        };
}
