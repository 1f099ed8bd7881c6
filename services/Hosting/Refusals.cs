using System.Globalization;
using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Google.Rpc;
using Grpc.Core;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Ministries.Errors.V1;
using Ministries.Ledger.V1;
using Status = Google.Rpc.Status;

namespace Ministries.Hosting;

/// <summary>Refusals as callers receive them: <c>google.rpc.Status</c> with <c>ErrorInfo</c> and, where they help,
/// <c>BadRequest</c> and <c>RetryInfo</c> (AIP-193).</summary>
public static class Refusals
{
    /// <summary>The domain of every reason.</summary>
    public const string Domain = "ministries";

    /// <summary>When a caller should try again after OVERLOADED or UNAVAILABLE: after 1 second.</summary>
    public static readonly TimeSpan RetryAfter = TimeSpan.FromSeconds(1);

    /// <summary>The reason's name without its prefix, such as <c>NOT_FOUND</c>.</summary>
    public static string NameOf(Reason reason) => Reasons.NameOf(reason);

    /// <summary>A status as the gRPC specification writes it, in upper case with underscores.</summary>
    internal static string NameOf(StatusCode code) => Statuses[(int)code];

    private static readonly string[] Statuses =
    [
        .. System
            .Enum.GetValues<StatusCode>()
            .Select(code =>
                code == StatusCode.OK
                    ? "OK"
                    : string.Concat(code.ToString().Select((c, i) => i > 0 && char.IsUpper(c) ? $"_{c}" : $"{char.ToUpperInvariant(c)}"))
            ),
    ];

    /// <summary>The gRPC status that the response has, in its head or its tail; null: none, or one that gRPC does not know.</summary>
    internal static StatusCode? StatusOf(HttpContext http)
    {
        var status =
            http.Response.Headers.GrpcStatus is [{ } inHead] ? inHead
            : http.Features.Get<IHttpResponseTrailersFeature>()?.Trailers.GrpcStatus is [{ } inTail] ? inTail
            : null;
        return int.TryParse(status, NumberStyles.None, CultureInfo.InvariantCulture, out var code) && code < Statuses.Length
            ? (StatusCode)code
            : null;
    }

    /// <summary>Ends a call that can no longer be answered, with the code that gRPC takes for RESOURCE_EXHAUSTED: ENHANCE_YOUR_CALM (RFC
    /// 9113, 5.4.2 and 7).</summary>
    internal static void Cut(HttpContext http)
    {
        const int enhanceYourCalm = 11;
        http.Features.Get<IHttpResetFeature>()?.Reset(enhanceYourCalm);
    }

    /// <summary>What a refusal for this reason says.</summary>
    public static About AboutOf(Reason reason) => Reasons.AboutOf(reason);

    /// <summary>The refusal as a status.</summary>
    public static Status ToStatus(this Refusal refusal)
    {
        var (name, about) = (NameOf(refusal.Reason), AboutOf(refusal.Reason));
        var info = new ErrorInfo { Reason = name, Domain = Domain };
        info.Metadata["basis"] = about.Basis switch
        {
            Basis.Law => "LAW",
            Basis.Agreement => "AGREEMENT",
            _ => "FORM",
        };
        info.Metadata["source"] = about.Source;
        info.Metadata["missing"] = about.Missing;
        info.Metadata["supplier"] = about.Supplier;
        info.Metadata["unlock"] = about.Unlock;
        foreach (var (key, value) in refusal.Metadata ?? new Dictionary<string, string>())
            info.Metadata[key] = value;
        var status = new Status
        {
            Code = about.Code,
            Message = $"{name}; what is missing: {info.Metadata["missing"]} ({info.Metadata["source"]})",
        };
        status.Details.Add(Any.Pack(info));
        if (refusal.Faults is { Count: > 0 } faults)
            status.Details.Add(
                Any.Pack(
                    new BadRequest
                    {
                        FieldViolations =
                        {
                            faults.Select(f => new BadRequest.Types.FieldViolation { Field = f.Field, Description = f.Description }),
                        },
                    }
                )
            );
        if (refusal.Reason is Reason.Overloaded or Reason.Unavailable)
            status.Details.Add(Any.Pack(new RetryInfo { RetryDelay = Duration.FromTimeSpan(RetryAfter) }));
        return status;
    }

    /// <summary>The refusal as an exception that gRPC answers with.</summary>
    public static RpcException ToException(this Refusal refusal) => refusal.ToStatus().ToRpcException();

    /// <summary>A refusal of the request's form.</summary>
    public static Refusal Invalid(params IReadOnlyList<FieldFault> faults) => new(Reason.RequestInvalid, null, faults);

    /// <summary>A refusal of one field.</summary>
    public static Refusal Invalid(string field, string description) => Invalid(new FieldFault { Field = field, Description = description });

    /// <summary>The answer to a fault of the software. It says only the id under which the service's log has the fault.</summary>
    internal static RpcException Internal(string id)
    {
        var info = new ErrorInfo { Reason = "INTERNAL", Domain = Domain };
        info.Metadata["id"] = id;
        var status = new Status { Code = (int)Code.Internal, Message = $"the service failed; its log has the error under {id}" };
        status.Details.Add(Any.Pack(info));
        return status.ToRpcException();
    }

    /// <summary>A refusal that is prepared once and sent often.</summary>
    internal sealed record Prepared(Refusal Refusal, string Text, string Code, string Message, string Details);

    /// <summary>Prepares the answer of a refusal.</summary>
    internal static Prepared Prepare(Refusal refusal)
    {
        var status = refusal.ToStatus();
        return new Prepared(
            refusal,
            status.Message,
            status.Code.ToString(CultureInfo.InvariantCulture),
            Uri.EscapeDataString(status.Message),
            Convert.ToBase64String(status.ToByteArray()).TrimEnd('=')
        );
    }

    /// <summary>Answers a call that has not reached gRPC: a response of headers only.</summary>
    internal static Task Answer(HttpContext http, Refusal refusal) => Answer(http, Prepare(refusal));

    /// <summary>Answers a call that has not reached gRPC: a response of headers only.</summary>
    internal static Task Answer(HttpContext http, Prepared prepared)
    {
        var response = http.Response;
        Trace(http, prepared.Refusal);
        if (HttpMethods.IsGet(http.Request.Method) || HttpMethods.IsHead(http.Request.Method))
        {
            // Clients that read the log's files understand HTTP only.
            response.StatusCode = StatusCodes.Status403Forbidden;
            if (prepared.Refusal.Reason == Reason.Overloaded)
            {
                response.StatusCode = StatusCodes.Status429TooManyRequests;
                response.Headers.RetryAfter = RetryAfter.TotalSeconds.ToString(CultureInfo.InvariantCulture);
            }
            response.ContentType = "text/plain; charset=utf-8";
            return HttpMethods.IsGet(http.Request.Method) ? response.WriteAsync(prepared.Text + "\n") : Task.CompletedTask;
        }
        response.StatusCode = StatusCodes.Status200OK;
        response.ContentType = "application/grpc";
        response.Headers["grpc-status"] = prepared.Code;
        response.Headers["grpc-message"] = prepared.Message;
        response.Headers["grpc-status-details-bin"] = prepared.Details;
        return Task.CompletedTask;
    }

    /// <summary>Answers a request for something that is not served: UNIMPLEMENTED for a call, 404 for a file.</summary>
    internal static Task NotServed(HttpContext http)
    {
        if (HttpMethods.IsPost(http.Request.Method))
        {
            http.Response.ContentType = "application/grpc";
            http.Response.Headers["grpc-status"] = ((int)StatusCode.Unimplemented).ToString(CultureInfo.InvariantCulture);
            http.Response.Headers["grpc-message"] = "there is no such method";
        }
        else
            http.Response.StatusCode = StatusCodes.Status404NotFound;
        return Task.CompletedTask;
    }

    /// <summary>Notes the refusal for the call's span and its count.</summary>
    internal static void Trace(HttpContext http, Refusal refusal)
    {
        if (EdgeCall.Of(http) is { } call)
            call.Refused = refusal;
    }
}
