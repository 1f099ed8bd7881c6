using System.Runtime.CompilerServices;
using System.Security.Claims;
using Grpc.AspNetCore.Server;
using Grpc.Core;
using Microsoft.AspNetCore.Authentication;
using Microsoft.AspNetCore.Authorization;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.DependencyInjection.Extensions;
using Ministries.Errors.V1;
using Ministries.Trust;

namespace Ministries.Hosting;

/// <summary>
/// Who may reach which endpoint. ASP.NET Core's authentication and authorization decide it on the endpoint that routing selected. No
/// paths are compared: however a path is spelled, its endpoint carries the policy. The fallback policy denies endpoints without a policy,
/// and a service that maps one does not start.
/// </summary>
/// <param name="agreements">The agreement in force.</param>
/// <param name="checks">The checks themselves.</param>
internal sealed class Access(Agreements agreements, Checks checks)
{
    /// <summary>The authentication scheme: the client certificate of the connection, vouched for by its participant's authority.
    /// The framework's own certificate scheme builds one chain to one store for everybody; here each participant has its own
    /// authority, which speaks for nobody else.</summary>
    public const string Scheme = "participant-certificate";

    /// <summary>The policy of what every participant may call, such as health and the log's files.</summary>
    public static readonly AuthorizationPolicy Participants = new AuthorizationPolicyBuilder().RequireAuthenticatedUser().Build();

    // A requirement that no request meets.
    private static readonly AuthorizationPolicy Nobody = new AuthorizationPolicyBuilder().RequireAssertion(_ => false).Build();

    // While the same version of the agreement is in force, a valid certificate always gives the same principal.
    private static readonly ConditionalWeakTable<Identity, AuthenticateResult> Authenticated = [];

    /// <summary>Registers authentication and authorization.</summary>
    public static void Add(IServiceCollection services)
    {
        services.TryAddSingleton<Checks>();
        services.AddSingleton<Access>();
        services.AddTransient<ParticipantAuthentication>();
        services.AddAuthenticationCore(options =>
        {
            options.AddScheme<ParticipantAuthentication>(Scheme, null);
            options.DefaultScheme = Scheme;
        });
        services.AddAuthorization(options => (options.DefaultPolicy, options.FallbackPolicy) = (Participants, Nobody));
    }

    /// <summary>The policy of an RPC of the contracts: a participant to whom the agreement could grant it.</summary>
    public static AuthorizationPolicy Granted(Rpc rpc) => new AuthorizationPolicyBuilder().AddRequirements(new Grant(rpc)).Build();

    /// <summary>Makes sure that each endpoint has a policy and passes the edge.</summary>
    /// <exception cref="InvalidOperationException">An endpoint has no policy, or lets everybody in.</exception>
    public static void DemandPolicies(IEndpointRouteBuilder endpoints)
    {
        foreach (var endpoint in endpoints.DataSources.SelectMany(s => s.Endpoints))
            if (
                endpoint.Metadata.GetMetadata<Passage>() is null
                || endpoint.Metadata.GetMetadata<AuthorizationPolicy>() is null
                || endpoint.Metadata.GetMetadata<IAuthorizeData>() is null
                || endpoint.Metadata.GetMetadata<IAllowAnonymous>() is not null
            )
                throw new InvalidOperationException(
                    $"the endpoint {endpoint.DisplayName} has no policy: map it with {nameof(Edge)}.{nameof(Edge.Serve)} or "
                        + $"{nameof(Edge)}.{nameof(Edge.Guarded)}"
                );
    }

    /// <summary>Finds out who calls.</summary>
    /// <returns>The refusal; null: <see cref="EdgeCall.Caller"/> is known.</returns>
    public Refusal? Identify(EdgeCall call, HttpContext http)
    {
        var agreement = agreements.InForce;
        if (checks.Forwarded(http) is { } forwarded)
            return forwarded;
        var identified = checks.Identity(Peer.Of(http), agreement);
        if (identified.Refused != Reason.Unspecified || identified.Identity is not { } caller)
            return new Refusal(identified.Refused);
        call.Identified(agreement, caller);
        return null;
    }

    /// <summary>Whether the agreement could grant the call to its caller.</summary>
    public bool Grants(EdgeCall call) =>
        call is { Rpc: not null, IsIdentified: true } && checks.Granted(call.Granted, call.Caller.Participant);

    /// <summary>Checks again who calls and what is granted, by the agreement that is in force now: for streams, which outlive
    /// certificates and agreements, and for a write that met a new version.</summary>
    /// <exception cref="RpcException">The caller may not go on.</exception>
    public void Renew(EdgeCall call, HttpContext http)
    {
        var refusal = Identify(call, http);
        if (refusal is null && !Grants(call))
            refusal = new Refusal(Reason.NotGranted);
        if (refusal is not null)
        {
            Refusals.Trace(http, refusal);
            throw refusal.ToException();
        }
        if (call.Rpc!.Writes)
            call.Signed = SignedRequest.Check(call, http.Request, checks);
    }

    // Grants also checks that the caller is known. The requirement is its own handler, as the framework's own requirements are.
    private sealed class Grant(Rpc rpc) : IAuthorizationRequirement, IAuthorizationHandler
    {
        public Task HandleAsync(AuthorizationHandlerContext context)
        {
            if (
                context.Resource is HttpContext http
                && EdgeCall.Of(http) is { } call
                && call.Rpc == rpc
                && http.RequestServices.GetRequiredService<Access>().Grants(call)
            )
                context.Succeed(this);
            return Task.CompletedTask;
        }
    }

    /// <summary>Authenticates a request by its connection's certificate, and answers those that are refused.</summary>
    private sealed class ParticipantAuthentication(Access access) : IAuthenticationHandler
    {
        private HttpContext _http = null!;
        private Refusal? _refusal;

        public Task InitializeAsync(AuthenticationScheme scheme, HttpContext context)
        {
            _http = context;
            return Task.CompletedTask;
        }

        public Task<AuthenticateResult> AuthenticateAsync()
        {
            if (EdgeCall.Of(_http) is not { } call)
                return Task.FromResult(AuthenticateResult.NoResult());
            _refusal = access.Identify(call, _http);
            return Task.FromResult(
                _refusal is null ? Authenticated.GetValue(call.Caller, Ticket) : AuthenticateResult.Fail(Refusals.NameOf(_refusal.Reason))
            );
        }

        public Task ChallengeAsync(AuthenticationProperties? properties) =>
            Refusals.Answer(_http, _refusal ?? new Refusal(Reason.CallerUnknown));

        // No endpoint is mapped for the path, or none for this verb.
        public Task ForbidAsync(AuthenticationProperties? properties) =>
            _http.GetEndpoint()?.Metadata.GetMetadata<Passage>() is null
                ? Refusals.NotServed(_http)
                : Refusals.Answer(_http, new Refusal(Reason.NotGranted));

        private static AuthenticateResult Ticket(Identity caller) =>
            AuthenticateResult.Success(
                new AuthenticationTicket(
                    new ClaimsPrincipal(new ClaimsIdentity([new Claim(ClaimTypes.NameIdentifier, caller.Participant.Id)], Scheme)),
                    Scheme
                )
            );
    }
}

/// <summary>What the edge knows of an endpoint.</summary>
/// <param name="Name">Its name in metrics: the RPC, or the route's pattern.</param>
/// <param name="Rpc">The RPC of the contracts; null: it is none.</param>
/// <param name="Streams">Whether its answer is a stream, which lasts as long as its reader wants.</param>
internal sealed record Passage(string Name, Rpc? Rpc, bool Streams)
{
    /// <summary>Reads it from the endpoint's metadata.</summary>
    public static Passage Of(EndpointBuilder endpoint)
    {
        if (endpoint.Metadata.OfType<GrpcMethodMetadata>().LastOrDefault() is not { } grpc)
            return new(((RouteEndpointBuilder)endpoint).RoutePattern.RawText ?? "_OTHER", null, false);
        var name = grpc.Method.FullName.TrimStart('/');
        return new(name, Methods.At(grpc.Method.FullName), grpc.Method.Type is MethodType.ServerStreaming or MethodType.DuplexStreaming);
    }
}
