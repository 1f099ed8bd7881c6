using System.Globalization;
using System.Text.Json.Nodes;
using Google.Protobuf;
using Google.Protobuf.Reflection;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;

namespace Ministries.Gateway;

/// <summary>
/// The contracts as JSON over HTTPS: each RPC at <c>/v1/&lt;service&gt;/&lt;RPC&gt;</c>, such as <c>/v1/calllog/LogCall</c>. A write is a
/// POST, a read a GET with the request's fields in the query, or a POST. The endpoints are made from the descriptors, so a new RPC needs
/// nothing here.
/// </summary>
internal static class JsonEndpoints
{
    /// <summary>The header with the request id.</summary>
    public const string IdempotencyKey = "Idempotency-Key";

    /// <summary>The parameter that says whose wish a request is to show, and for which destination: <c>pris_…=KR</c>.</summary>
    public const string Opens = "opens";

    /// <summary>The parameter that says where the page before ended.</summary>
    public const string After = "after";

    /// <summary>The greatest body: 2 MiB.</summary>
    public const int MaxBody = 2 << 20;

    /// <summary>Maps them.</summary>
    public static void Map(IEndpointRouteBuilder app)
    {
        foreach (var (service, method) in Rpcs())
            app.MapMethods(
                    $"/v1/{service}/{method.Name}",
                    Contract.IsWrite(method) ? ["POST"] : ["GET", "POST"],
                    (HttpContext http, Exchange exchange) => Answer(http, exchange, service, method)
                )
                .RequireAuthorization(Roles.PolicyOf(Contract.NameOf(method)))
                .DisableAntiforgery();
        app.MapGet("/outbox/{id}", (HttpContext http, Outbox outbox, Exchange exchange, string id) => Status(http, outbox, exchange, id))
            .RequireAuthorization(Roles.PolicyOf("gateway/outbox"));
        app.MapGet("/events", (HttpContext http, EventStream events) => Guarded(http, () => events.Write(http)))
            .RequireAuthorization(Roles.PolicyOf("gateway/events"))
            .WithMetadata(new GatewayHost.Lasting(FromService: false));
        app.MapGet("/webhooks/{name}/dead-letters", (HttpContext http, Webhooks hooks, string name) => Dead(http, hooks, name))
            .RequireAuthorization(Roles.PolicyOf("gateway/webhooks"));
        app.MapPost(
                "/webhooks/{name}/replay",
                (HttpContext http, Webhooks hooks, string name) => Guarded(http, () => Replay(http, hooks, name))
            )
            .RequireAuthorization(Roles.PolicyOf("gateway/replay"));
    }

    /// <summary>The RPCs that answer once, with the service that is asked.</summary>
    public static IEnumerable<(string Service, MethodDescriptor Method)> Rpcs() =>
        Contract.Services.SelectMany(s =>
            Contract.MethodsOf(s).Where(m => !m.IsServerStreaming && !m.IsClientStreaming).Select(m => (s, m))
        );

    /// <summary>Runs an endpoint, and answers what it refuses.</summary>
    public static async Task Guarded(HttpContext http, Func<Task> run)
    {
        try
        {
            await run();
        }
        catch (Exception e) when (!http.Response.HasStarted && Problems.Of(e) is not null)
        {
            await Problems.Answer(http, Problems.Of(e)!);
        }
        catch (OperationCanceledException) when (http.RequestAborted.IsCancellationRequested)
        {
            // The caller has gone.
        }
    }

    private static Task Answer(HttpContext http, Exchange exchange, string service, MethodDescriptor method) =>
        Guarded(
            http,
            async () =>
            {
                var request = await Request(http, method);
                if (Contract.IsWrite(method))
                    await Write(http, exchange, service, method, request);
                else
                    await Read(http, exchange, service, method, request);
            }
        );

    private static async Task Write(HttpContext http, Exchange exchange, string service, MethodDescriptor method, IMessage request)
    {
        Name(http, request);
        var wish = WishIn(http);
        if ((string?)http.Request.Query["prepare"] is { } prepare)
        {
            if (prepare != "true")
                throw Wrong("prepare", "prepare is true, or is left out");
            await Json(http, 200, PlainJson.Write(await exchange.Prepare(service, request, Callers.Of(http), wish, http.RequestAborted)));
            return;
        }
        var status = await exchange.Write(service, method, request, Callers.Of(http), wish, http.RequestAborted);
        http.Response.Headers[IdempotencyKey] = status.Item.RequestId;
        if (status.State == OutboxState.Answered)
            await Json(http, 200, PlainJson.WriteRead(Exchange.AnswerIn(status)));
        else if (status.State == OutboxState.Waiting)
        {
            http.Response.Headers.Location = $"/outbox/{status.Item.RequestId}";
            http.Response.Headers.RetryAfter = "1";
            await Json(http, 202, StatusOf(status, exchange));
        }
        else
            await Problems.Answer(http, ProblemOf(status));
    }

    private static async Task Read(HttpContext http, Exchange exchange, string service, MethodDescriptor method, IMessage request)
    {
        DateTimeOffset? asOf = null;
        if ((string?)http.Request.Query["as_of"] is { } text)
            asOf = DateTimeOffset.TryParseExact(
                text.Replace(' ', '+'),
                Forms,
                CultureInfo.InvariantCulture,
                DateTimeStyles.AssumeUniversal,
                out var time
            )
                ? time
                : throw Wrong("as_of", "as_of is a time with its offset (RFC 3339), such as 2025-04-03T14:00:00Z");
        var read = await exchange.Read(service, method, request, asOf, http.RequestAborted);
        Say(http, read);
        await Json(http, 200, PlainJson.WriteRead(read.Message));
    }

    /// <summary>Says in the answer's headers who answered, and how old it is.</summary>
    public static void Say(HttpContext http, Reading read)
    {
        http.Response.Headers["Ministries-Source"] = read.SeenTime is null ? "service" : "mirror";
        if (read.SeenTime is { } seen)
            http.Response.Headers["Ministries-Seen"] = Time(seen);
        if (read.CheckTime is { } check)
            http.Response.Headers["Ministries-Checked"] = Time(check);
    }

    private static readonly string[] Forms =
    [
        .. ((string[])["yyyy-MM-dd'T'HH:mm:ss", "yyyy-MM-dd'T'HH:mm:ss.FFFFFFF", "yyyy-MM-dd'T'HH:mm"]).SelectMany(f =>
            (string[])[$"{f}'Z'", $"{f}zzz"]
        ),
    ];

    /// <summary>A time as the gateway writes it.</summary>
    public static string Time(DateTimeOffset time) =>
        time.ToUniversalTime().ToString("yyyy-MM-dd'T'HH:mm:ss.fff'Z'", CultureInfo.InvariantCulture);

    private static GatewayRefusedException Wrong(string field, string what) => new(GatewayReason.ParameterInvalid, what, field);

    // The header and the field are one id.
    private static void Name(HttpContext http, IMessage request)
    {
        if ((string?)http.Request.Headers[IdempotencyKey] is not { } key)
            return;
        // Some write it as a structured field, which is a quoted text.
        key = key.Trim('"');
        var field = request.Descriptor.FindFieldByName("request_id");
        if (!Guid.TryParseExact(key, "D", out var id))
            throw Wrong(IdempotencyKey, "it must be a UUID");
        var given = Contract.TextOf(request, "request_id");
        if (given.Length > 0 && given != id.ToString())
            throw Wrong(IdempotencyKey, "it is another than request_id");
        field.Accessor.SetValue(request, id.ToString());
    }

    private static async Task<IMessage> Request(HttpContext http, MethodDescriptor method)
    {
        if (HttpMethods.IsGet(http.Request.Method))
            return PlainJson.Read(FromQuery(http.Request.Query, method.InputType), method.InputType);
        Demand(http.Request.Query, ParametersOf(method));
        using var body = new MemoryStream();
        await http.Request.Body.CopyToAsync(body, http.RequestAborted);
        return PlainJson.Read(PlainJson.Parse(body.GetBuffer().AsSpan(0, (int)body.Length)), method.InputType);
    }

    /// <summary>The parameters of an RPC beside its request.</summary>
    public static string[] ParametersOf(MethodDescriptor method) =>
        !Contract.IsWrite(method) ? ["as_of"]
        : MinistryClient.TakesOpenings(method.InputType) ? ["prepare", Opens]
        : ["prepare"];

    private static WishToShow? WishIn(HttpContext http)
    {
        try
        {
            return WishToShow.Read([.. http.Request.Query[Opens].OfType<string>()]);
        }
        catch (FormatException e)
        {
            throw Wrong(Opens, e.Message);
        }
    }

    /// <summary>Refuses a parameter that is not known. A write of which prepare is misspelled would be made, and stay for ever.</summary>
    public static void Demand(IQueryCollection query, params string[] known)
    {
        if (query.Keys.FirstOrDefault(k => !known.Contains(k)) is { } unknown)
            throw Wrong(unknown, $"there is no such parameter; there is {string.Join(", ", known)}");
    }

    private static JsonObject FromQuery(IQueryCollection query, MessageDescriptor type)
    {
        var json = new JsonObject();
        foreach (var (name, values) in query)
        {
            if (name == "as_of")
                continue;
            var field =
                type.FindFieldByName(name) ?? throw new GatewayRefusedException(GatewayReason.BodyInvalid, "there is no such field", name);
            if (field.FieldType == FieldType.Message)
                throw new GatewayRefusedException(GatewayReason.BodyInvalid, "send this field in the body of a POST", name);
            if (!field.IsRepeated && values.Count != 1)
                throw new GatewayRefusedException(GatewayReason.BodyInvalid, "the field is there twice", name);
            JsonNode One(string? text) =>
                field.FieldType == FieldType.Bool && text is "true" or "false"
                    ? JsonValue.Create(text == "true")
                    : JsonValue.Create(text ?? "");
            json[name] = field.IsRepeated ? new JsonArray([.. values.Select(One)]) : One(values[0]);
        }
        return json;
    }

    private static Task Status(HttpContext http, Outbox outbox, Exchange exchange, string id) =>
        Guarded(
            http,
            () =>
                outbox.Find(id) is { } status
                    ? Json(http, 200, StatusOf(status, exchange))
                    : throw new GatewayRefusedException(GatewayReason.NotFound, "the outbox has no such write")
        );

    private static JsonObject StatusOf(OutboxStatus status, Exchange exchange)
    {
        var json = new JsonObject
        {
            ["request_id"] = status.Item.RequestId,
            ["state"] = status.State.ToString().ToUpperInvariant(),
            ["service"] = status.Item.Service,
            ["method"] = status.Item.Method,
            ["caller"] = status.Item.Caller,
            ["accept_time"] = Time(status.Item.AcceptTime),
        };
        if (status.EndTime is { } end)
            json["end_time"] = Time(end);
        if (status.State == OutboxState.Waiting && exchange.HindranceOf(status) is { } hindrance)
            json["hindrance"] = hindrance;
        if (status.State == OutboxState.Answered)
            json["answer"] = PlainJson.WriteRead(Exchange.AnswerIn(status));
        else if (status.State != OutboxState.Waiting)
            json["problem"] = ProblemOf(status);
        return json;
    }

    private static JsonObject ProblemOf(OutboxStatus status)
    {
        var problem =
            status.State == OutboxState.Unproved
                ? Problems.Of(new GatewayRefusedException(GatewayReason.AnswerUnproved, System.Text.Encoding.UTF8.GetString(status.Answer)))
                : Problems.Of(status.Refusal)!;
        problem["request_id"] = status.Item.RequestId;
        return problem;
    }

    private static Task Dead(HttpContext http, Webhooks hooks, string name) =>
        Guarded(
            http,
            () =>
            {
                Demand(http.Request.Query, After);
                var page =
                    hooks.DeadLetters(name, http.Request.Query[After])
                    ?? throw new GatewayRefusedException(GatewayReason.NotFound, "there is no such webhook");
                var json = new JsonObject
                {
                    ["dead_letters"] = new JsonArray([
                        .. page.Letters.Select(d => new JsonObject
                        {
                            ["id"] = d.Event,
                            ["type"] = d.Type,
                            ["attempts"] = d.Attempts,
                            ["error"] = d.Error,
                            ["time"] = Time(d.Time),
                        }),
                    ]),
                    ["total"] = page.Total,
                };
                if (page.Next is { } next)
                    json["next"] = next;
                return Json(http, 200, json);
            }
        );

    private static async Task Replay(HttpContext http, Webhooks hooks, string name)
    {
        using var body = new MemoryStream();
        await http.Request.Body.CopyToAsync(body, http.RequestAborted);
        var json = PlainJson.Parse(body.GetBuffer().AsSpan(0, (int)body.Length));
        if (json["id"] is not JsonValue id || !id.TryGetValue<string>(out var text))
            throw new GatewayRefusedException(GatewayReason.BodyInvalid, "the id of the dead letter", "id");
        var error =
            await hooks.Replay(name, text, http.RequestAborted)
            ?? throw new GatewayRefusedException(GatewayReason.NotFound, "there is no such dead letter");
        await Json(
            http,
            200,
            new JsonObject
            {
                ["id"] = text,
                ["taken"] = error.Length == 0,
                ["error"] = error,
            }
        );
    }

    /// <summary>Answers with JSON. What is in it may be about a person, so nobody keeps it on the way.</summary>
    public static Task Json(HttpContext http, int status, JsonNode json)
    {
        http.Response.StatusCode = status;
        http.Response.ContentType = "application/json";
        http.Response.Headers.CacheControl = "no-store";
        return http.Response.WriteAsync(json.ToJsonString(Problems.Relaxed), http.RequestAborted);
    }
}
