using Grpc.Core;

namespace Ministries.Gateway;

/// <summary>Why the gateway itself refuses, before a service is asked. What a service refuses has the services' own reasons.</summary>
/// <param name="Name">Its name, such as <c>OUTBOX_FULL</c>.</param>
/// <param name="Status">The HTTP status.</param>
/// <param name="Code">The gRPC status.</param>
/// <param name="Missing">What is missing.</param>
/// <param name="Supplier">Who can supply it.</param>
/// <param name="Remedy">What would unlock it.</param>
public sealed record GatewayReason(string Name, int Status, StatusCode Code, string Missing, string Supplier, string Remedy)
{
    /// <summary>The body or the query is not the JSON of the request.</summary>
    public static readonly GatewayReason BodyInvalid = new(
        "BODY_INVALID",
        400,
        StatusCode.InvalidArgument,
        "a body that is the request in JSON",
        "the caller",
        "Correct the field that is named. The document at /openapi.json says what it takes."
    );

    /// <summary>A header or a parameter beside the request has a wrong form.</summary>
    public static readonly GatewayReason ParameterInvalid = new(
        "PARAMETER_INVALID",
        400,
        StatusCode.InvalidArgument,
        "a header or parameter of the right form",
        "the caller",
        "Correct what the detail names."
    );

    /// <summary>The request id was used for another request.</summary>
    public static readonly GatewayReason IdempotencyKeyReused = new(
        "IDEMPOTENCY_KEY_REUSED",
        422,
        StatusCode.FailedPrecondition,
        "a request id of its own",
        "the caller",
        "Send the same request again, or another request with a new Idempotency-Key."
    );

    /// <summary>The request was approved, and is not complete.</summary>
    public static readonly GatewayReason ApprovedIncomplete = new(
        "APPROVED_REQUEST_INCOMPLETE",
        422,
        StatusCode.FailedPrecondition,
        "a request that has its request id, etag and seals, because its approvals are signatures over all of them",
        "the caller",
        "Ask for the complete request with ?prepare=true, have it approved, and send it unchanged."
    );

    /// <summary>The actor is not the official who calls.</summary>
    public static readonly GatewayReason ActorNotCaller = new(
        "ACTOR_NOT_CALLER",
        403,
        StatusCode.PermissionDenied,
        "an actor who is the official that calls",
        "the official who acts",
        "Leave the actor's official and office out, or let that official call."
    );

    /// <summary>The caller has no role that may do it.</summary>
    public static readonly GatewayReason RoleMissing = new(
        "ROLE_MISSING",
        403,
        StatusCode.PermissionDenied,
        "a role that may do it",
        "whoever gives out the gateway's roles",
        "Have somebody with a role that may do it call. /openapi.json says at each operation for whom it is."
    );

    /// <summary>As many writes wait as may.</summary>
    public static readonly GatewayReason OutboxFull = new(
        "OUTBOX_FULL",
        503,
        StatusCode.ResourceExhausted,
        "room for a write that waits",
        "the services, by answering those that wait",
        "Send it again once the services answer. GET /status says how many writes wait."
    );

    /// <summary>The disk takes no more.</summary>
    public static readonly GatewayReason OutboxDiskFull = new(
        "OUTBOX_DISK_FULL",
        507,
        StatusCode.ResourceExhausted,
        "room on the gateway's disk",
        "the gateway's administrator",
        "Make room on the disk of the gateway's state folder, and send it again."
    );

    /// <summary>The service is not reached, and nothing else knows the answer.</summary>
    public static readonly GatewayReason ServiceUnreachable = new(
        "SERVICE_UNREACHABLE",
        503,
        StatusCode.Unavailable,
        "an answer of the service",
        "the service's operator",
        "Ask again later."
    );

    /// <summary>The mirror has not what was asked for.</summary>
    public static readonly GatewayReason NotInMirror = new(
        "NOT_IN_MIRROR",
        404,
        StatusCode.NotFound,
        "a copy of it from that time",
        "nobody, if the gateway had not seen it by then",
        "Ask for a later time, or without as_of."
    );

    /// <summary>The mirror has stopped, because what a service showed is wrong, or its database was changed.</summary>
    public static readonly GatewayReason MirrorStopped = new(
        "MIRROR_STOPPED",
        503,
        StatusCode.DataLoss,
        "a ledger that only grows and keeps nothing back, and a database that nobody else changes",
        "the service's operator and the other participants, or the gateway's administrator",
        "See GET /status for the alarm. Compare with the witnesses and the other side before you rely on the service or the copy."
    );

    /// <summary>The mirror's database is away.</summary>
    public static readonly GatewayReason MirrorUnreachable = new(
        "MIRROR_UNREACHABLE",
        503,
        StatusCode.Unavailable,
        "the mirror's database",
        "the gateway's administrator",
        "See GET /status for what is wrong. The mirror goes on by itself when its database is there again. Writes do not wait for it."
    );

    /// <summary>The events that were asked for are of another mirror.</summary>
    public static readonly GatewayReason EventsRestarted = new(
        "EVENTS_RESTARTED",
        409,
        StatusCode.OutOfRange,
        "an event id of this mirror: it was built again, or its database was put back to an earlier state",
        "the caller",
        "Begin without Last-Event-ID. Events keep their own ids, so that those that you have are known again."
    );

    /// <summary>There is no such thing.</summary>
    public static readonly GatewayReason NotFound = new(
        "NOT_FOUND",
        404,
        StatusCode.NotFound,
        "something at this address",
        "the caller",
        "See the document at /openapi.json."
    );

    /// <summary>As many calls or streams are in progress as may.</summary>
    public static readonly GatewayReason Overloaded = new(
        "OVERLOADED",
        503,
        StatusCode.ResourceExhausted,
        "a free place",
        "the gateway, when other calls end",
        "Try again after a second."
    );

    /// <summary>The caller has shown nothing that counts.</summary>
    public static readonly GatewayReason CallerUnknown = new(
        "CALLER_UNKNOWN",
        401,
        StatusCode.Unauthenticated,
        "a token or certificate that counts",
        "whoever gives out the gateway's tokens",
        "Send a token that is in force in the header Authorization, or show a client certificate that the gateway accepts."
    );

    /// <summary>The address takes another method.</summary>
    public static readonly GatewayReason MethodNotAllowed = new(
        "METHOD_NOT_ALLOWED",
        405,
        StatusCode.Unimplemented,
        "the method that the address takes",
        "the caller",
        "Send what changes nothing as a GET or POST, and a write as a POST. The document at /openapi.json says it at each operation."
    );

    /// <summary>The body is of another type.</summary>
    public static readonly GatewayReason ContentTypeWrong = new(
        "CONTENT_TYPE_WRONG",
        415,
        StatusCode.InvalidArgument,
        "a body in JSON that says that it is JSON",
        "the caller",
        "Send the header Content-Type: application/json."
    );

    /// <summary>The request cannot be read or served. The status says which of the ways it is.</summary>
    public static readonly GatewayReason RequestInvalid = new(
        "REQUEST_INVALID",
        400,
        StatusCode.InvalidArgument,
        "a request that HTTP allows and that is no longer than the gateway takes",
        "the caller",
        "Correct what the status says of the request, such as its length. The document at /openapi.json says what the address takes."
    );

    /// <summary>A page of another site called.</summary>
    public static readonly GatewayReason OriginForeign = new(
        "ORIGIN_FOREIGN",
        403,
        StatusCode.PermissionDenied,
        "a call of a program, or of the gateway's own page",
        "the caller",
        "Call from a program, or from the page at the gateway's own address."
    );

    /// <summary>The service answered nothing that proves what became of the write.</summary>
    public static readonly GatewayReason AnswerUnproved = new(
        "ANSWER_UNPROVED",
        502,
        StatusCode.DataLoss,
        "an answer that proves what became of the write",
        "the service's operator",
        "Send the same request under the same key: the gateway sends the same bytes again and so learns whether they were recorded."
    );
}

/// <summary>The gateway refused.</summary>
/// <param name="reason">Why.</param>
/// <param name="detail">What exactly. It repeats nothing of what the caller wrote but names of fields.</param>
/// <param name="field">The path of the field at fault; empty: none.</param>
public sealed class GatewayRefusedException(GatewayReason reason, string detail, string field = "") : Exception(detail)
{
    /// <summary>Why.</summary>
    public GatewayReason Reason { get; } = reason;

    /// <summary>The path of the field at fault, such as <c>account.channel</c>; empty: none.</summary>
    public string Field { get; } = field;
}
