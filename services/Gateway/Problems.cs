using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using Grpc.Core;
using Microsoft.AspNetCore.Http;

namespace Ministries.Gateway;

/// <summary>Refusals as RFC 9457 problem details. Beside its own members a problem has <c>reason</c>, <c>basis</c>, <c>article</c>,
/// <c>missing</c>, <c>supplier</c> and <c>remedy</c>, and where they help <c>request_id</c>, <c>faults</c> and <c>further</c>.</summary>
internal static class Problems
{
    /// <summary>The media type.</summary>
    public const string Type = "application/problem+json";

    /// <summary>The problem that an exception is; null: it is none, but a fault of the gateway.</summary>
    public static JsonObject? Of(Exception e) =>
        e switch
        {
            GatewayRefusedException refused => Of(refused),
            RpcException rpc when RefusedException.From(rpc) is { } refused => Of(refused),
            RpcException rpc => Of(
                new GatewayRefusedException(GatewayReason.ServiceUnreachable, $"the service did not answer ({rpc.StatusCode})")
            ),
            BadHttpRequestException bad => Of(
                new GatewayRefusedException(GatewayReason.RequestInvalid with { Status = bad.StatusCode }, "the request cannot be read")
            ),
            _ => null,
        };

    /// <summary>A problem of the gateway's own.</summary>
    public static JsonObject Of(GatewayRefusedException e)
    {
        var problem = New(e.Reason.Status, e.Reason.Name, e.Message);
        (problem["missing"], problem["supplier"], problem["remedy"]) = (e.Reason.Missing, e.Reason.Supplier, e.Reason.Remedy);
        if (e.Field.Length > 0)
            problem["faults"] = new JsonArray(new JsonObject { ["field"] = e.Field, ["description"] = e.Message });
        return problem;
    }

    /// <summary>A service's refusal.</summary>
    public static JsonObject Of(RefusedException e)
    {
        var problem = New(StatusOf(e), e.Reason, $"the service refused: {e.Reason}");
        foreach (
            var (name, value) in ((string, string)[])
                [("basis", e.Basis), ("article", e.Article), ("missing", e.Missing), ("supplier", e.Supplier), ("remedy", e.Unlock)]
        )
            if (value.Length > 0)
                problem[name] = value;
        if (e.Faults.Count > 0)
            problem["faults"] = new JsonArray([
                .. e.Faults.Select(f => new JsonObject { ["field"] = f.Field, ["description"] = f.Description }),
            ]);
        var further = e.Metadata.Where(m => m.Key is not ("basis" or "source" or "missing" or "supplier" or "unlock")).ToList();
        if (further.Count > 0)
            problem["further"] = new JsonObject(further.Select(m => KeyValuePair.Create(m.Key, (JsonNode?)m.Value)));
        if (e.RetryAfter is { } after)
            problem["retry_after_seconds"] = after.TotalSeconds;
        return problem;
    }

    // A problem without more than its reason.
    private static JsonObject New(int status, string reason, string detail) =>
        new()
        {
            ["type"] = $"urn:ministries:reason:{reason}",
            ["title"] = reason,
            ["status"] = status,
            ["detail"] = detail,
            ["reason"] = reason,
        };

    /// <summary>Answers with a problem.</summary>
    public static Task Answer(HttpContext http, JsonObject problem)
    {
        Telemetry.Refused((string?)problem["reason"]);
        http.Response.StatusCode = problem["status"]!.GetValue<int>();
        http.Response.ContentType = Type;
        http.Response.Headers.CacheControl = "no-store";
        if (problem["retry_after_seconds"]?.GetValue<double>() is { } seconds)
            http.Response.Headers.RetryAfter = Math.Max(1, (int)Math.Ceiling(seconds))
                .ToString(System.Globalization.CultureInfo.InvariantCulture);
        return http.Response.WriteAsync(problem.ToJsonString(Relaxed), Encoding.UTF8, http.RequestAborted);
    }

    /// <summary>Answers a status that the framework gave without a body, such as 403 and 404.</summary>
    public static Task Answer(HttpContext http) =>
        Answer(
            http,
            Of(
                http.Response.StatusCode switch
                {
                    401 => new(GatewayReason.CallerUnknown, "the caller has shown no token or certificate that counts"),
                    403 => new(GatewayReason.RoleMissing, "the caller has no role that may do it"),
                    404 => new(GatewayReason.NotFound, "there is nothing at this address"),
                    405 => new(GatewayReason.MethodNotAllowed, "the address takes another method"),
                    415 => new(GatewayReason.ContentTypeWrong, "the body must be application/json"),
                    var status => new GatewayRefusedException(
                        GatewayReason.RequestInvalid with
                        {
                            Status = status,
                        },
                        "the request cannot be served"
                    ),
                }
            )
        );

    // The answer is JSON and nothing else reads it, so letters of every script may stand as they are.
    internal static readonly JsonSerializerOptions Relaxed = new()
    {
        Encoder = System.Text.Encodings.Web.JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
    };

    // A full record stays full, so this is not 429 (try later), but a conflict with the record.
    private static int StatusOf(RefusedException e) =>
        e is { StatusCode: StatusCode.ResourceExhausted, RetryAfter: null } ? 409 : StatusOf(e.StatusCode);

    internal static int StatusOf(StatusCode code) =>
        code switch
        {
            StatusCode.InvalidArgument or StatusCode.OutOfRange => 400,
            StatusCode.Unauthenticated => 401,
            StatusCode.PermissionDenied => 403,
            StatusCode.NotFound => 404,
            StatusCode.AlreadyExists or StatusCode.Aborted => 409,
            StatusCode.FailedPrecondition => 422,
            StatusCode.ResourceExhausted => 429,
            StatusCode.Unavailable => 503,
            StatusCode.DeadlineExceeded => 504,
            _ => 502,
        };
}
