using System.Net;
using System.Security.Claims;
using System.Security.Cryptography.X509Certificates;
using System.Text.Encodings.Web;
using System.Threading.RateLimiting;
using Microsoft.AspNetCore.Authentication;
using Microsoft.AspNetCore.Authentication.JwtBearer;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Options;
using Microsoft.IdentityModel.Tokens;

namespace Ministries.Gateway;

/// <summary>Who calls, found out by ASP.NET Core's own authentication: a token of the file, a certificate, or a provider's access token.
/// Each gives the same claims. Nothing that a browser adds by itself counts: there are no cookies.</summary>
internal static class Callers
{
    private const string Tokens = "token",
        Certificates = "certificate",
        Selected = "caller",
        Official = "official",
        Office = "office";

    // What a provider may sign with; never a shared secret, and never nothing.
    private static readonly string[] Algorithms = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512"];

    // Tokens of a provider for other uses have other types, such as logout+jwt (OpenID Connect Back-Channel Logout 1.0) and dpop+jwt (RFC
    // 9449).
    private static readonly string[] Types = ["JWT", "at+jwt", "application/at+jwt"];

    /// <summary>Registers the schemes that the settings name.</summary>
    /// <param name="services">The gateway's services.</param>
    /// <param name="settings">The settings.</param>
    /// <param name="tokens">The tokens; null: none count.</param>
    public static void Add(IServiceCollection services, GatewaySettings settings, TokenFile? tokens)
    {
        services.AddSingleton(_ => new ConcurrencyLimiter(new() { PermitLimit = MostJudged }));
        var builder = services.AddAuthentication(Selected);
        builder.AddPolicyScheme(Selected, null, options => options.ForwardDefaultSelector = http => SchemeOf(http, settings));
        builder.AddScheme<TokenOptions, TokenAuthentication>(Tokens, options => options.File = tokens);
        if (settings.Systems is { } systems)
            builder.AddScheme<SystemOptions, SystemAuthentication>(Certificates, options => options.Names = systems.Names);
        if (settings.Officials is { } officials)
            builder.AddJwtBearer(options => Configure(options, officials));
    }

    /// <summary>Who calls; the caller is authenticated.</summary>
    public static Caller Of(HttpContext http) =>
        new(
            http.User.Identity?.Name ?? "",
            http.User.FindFirstValue(Official),
            http.User.FindFirstValue(Office),
            http.User.IsInRole(Roles.Approver)
        );

    /// <summary>How many tokens of officials may be judged at once: 64. While the provider cannot be asked, each waits for it.</summary>
    internal const int MostJudged = 64;

    /// <summary>Refuses a token of the provider while too many wait to be judged, so that strangers cannot pile up calls while the provider
    /// is away.</summary>
    public static async Task Limit(HttpContext http, RequestDelegate next)
    {
        var services = http.RequestServices;
        if (SchemeOf(http, services.GetRequiredService<GatewaySettings>()) == JwtBearerDefaults.AuthenticationScheme)
        {
            using var place = services.GetRequiredService<ConcurrencyLimiter>().AttemptAcquire();
            if (!place.IsAcquired)
            {
                var refusal = new GatewayRefusedException(GatewayReason.Overloaded, "as many tokens wait for the provider as may");
                await Problems.Answer(http, Problems.Of(refusal));
                return;
            }
            // What it finds is kept for the call.
            await http.AuthenticateAsync(JwtBearerDefaults.AuthenticationScheme);
        }
        await next(http);
    }

    private static string SchemeOf(HttpContext http, GatewaySettings settings)
    {
        if (BearerOf(http) is { } bearer)
            return settings.Officials is not null && !bearer.StartsWith(TokenFile.Prefix, StringComparison.Ordinal)
                ? JwtBearerDefaults.AuthenticationScheme
                : Tokens;
        return settings.Systems is not null ? Certificates : Tokens;
    }

    private static string? BearerOf(HttpContext http) =>
        (string?)http.Request.Headers.Authorization is { } value && value.StartsWith("Bearer ", StringComparison.OrdinalIgnoreCase)
            ? value[7..].Trim()
            : null;

    private static ClaimsPrincipal Principal(string name, IEnumerable<string> roles, string scheme, string? official, string? office)
    {
        var identity = new ClaimsIdentity(scheme, ClaimTypes.Name, ClaimTypes.Role);
        identity.AddClaim(new Claim(ClaimTypes.Name, name));
        identity.AddClaims(roles.Where(Roles.All.Contains).Select(r => new Claim(ClaimTypes.Role, r)));
        if (official is not null)
            identity.AddClaim(new Claim(Official, official));
        if (office is not null)
            identity.AddClaim(new Claim(Office, office));
        return new ClaimsPrincipal(identity);
    }

    private static void Configure(JwtBearerOptions options, OfficialSettings officials)
    {
        options.Authority = officials.Authority.ToString();
        options.Audience = officials.Audience;
        options.MapInboundClaims = false;
        options.TokenValidationParameters.ValidAlgorithms = Algorithms;
        options.TokenValidationParameters.TypeValidator = (type, _, _) =>
            string.IsNullOrEmpty(type) || Types.Contains(type, StringComparer.OrdinalIgnoreCase)
                ? type
                : throw new SecurityTokenInvalidTypeException("the token is no access token");
        options.TokenValidationParameters.ClockSkew = TimeSpan.FromSeconds(30);
        options.TokenValidationParameters.RequireSignedTokens = options.TokenValidationParameters.RequireExpirationTime = true;
        var handler = new SocketsHttpHandler { ConnectTimeout = TimeSpan.FromSeconds(5), AllowAutoRedirect = false };
        if (officials.Authorities is { } authorities)
            handler.SslOptions = Webhooks.Trust(authorities);
        options.BackchannelHttpHandler = handler;
        options.BackchannelTimeout = TimeSpan.FromSeconds(10);
        options.Events = new JwtBearerEvents
        {
            OnTokenValidated = context =>
            {
                string? Claim(string name) => context.Principal?.FindFirstValue(name);
                // Without a code in the agreement he could not act, and without a subject nobody could say later who it was.
                if (Claim("sub") is not { Length: > 0 } subject || Claim(officials.OfficialClaim) is not { } official)
                {
                    context.Fail($"the token has no claim {officials.OfficialClaim}");
                    return Task.CompletedTask;
                }
                var roles = context.Principal!.FindAll(officials.RoleClaim).Select(c => officials.Roles.GetValueOrDefault(c.Value, ""));
                context.Principal = Principal(subject, roles, context.Scheme.Name, official, Claim(officials.OfficeClaim));
                return Task.CompletedTask;
            },
        };
    }

    // A caller who is not known is told how to become it.
    private static Task Challenge(HttpResponse response)
    {
        response.StatusCode = (int)HttpStatusCode.Unauthorized;
        response.Headers.WWWAuthenticate = "Bearer";
        return Task.CompletedTask;
    }

    internal sealed class SystemOptions : AuthenticationSchemeOptions
    {
        public IReadOnlyDictionary<string, IReadOnlyList<string>> Names { get; set; } = new Dictionary<string, IReadOnlyList<string>>();
    }

    // Not ASP.NET Core's handler for certificates: it forgets what the caller has sent with its certificate, and fetches it from wherever
    // the certificate says, so that a stranger could have the gateway call any address. Here, the handshake has judged the chain.
    private sealed class SystemAuthentication(
        IOptionsMonitor<SystemOptions> options,
        ILoggerFactory logger,
        UrlEncoder encoder,
        TimeProvider time
    ) : AuthenticationHandler<SystemOptions>(options, logger, encoder)
    {
        protected override Task<AuthenticateResult> HandleAuthenticateAsync()
        {
            if (Connections.CertificateOf(Context) is not { } certificate)
                return Task.FromResult(AuthenticateResult.NoResult());
            // It may have ended since the handshake.
            if (certificate.NotAfter.ToUniversalTime() < time.GetUtcNow())
                return Task.FromResult(AuthenticateResult.Fail("the certificate has ended"));
            // Without the extension a certificate is good for everything, which nobody meant to give.
            if (
                !certificate
                    .Extensions.OfType<X509EnhancedKeyUsageExtension>()
                    .Any(e => e.EnhancedKeyUsages[SystemSettings.ClientUse] is not null)
            )
                return Task.FromResult(AuthenticateResult.Fail("the certificate is not one of a client"));
            var names = certificate.Extensions.OfType<X509SubjectAlternativeNameExtension>().SelectMany(e => e.EnumerateDnsNames());
            return Task.FromResult(
                names.FirstOrDefault(Options.Names.ContainsKey) is { } name
                    ? AuthenticateResult.Success(
                        new AuthenticationTicket(Principal(name, Options.Names[name], Scheme.Name, null, null), Scheme.Name)
                    )
                    : AuthenticateResult.Fail("the certificate names no system of the settings")
            );
        }

        protected override Task HandleChallengeAsync(AuthenticationProperties properties) => Challenge(Response);
    }

    internal sealed class TokenOptions : AuthenticationSchemeOptions
    {
        public TokenFile? File { get; set; }
    }

    private sealed class TokenAuthentication(IOptionsMonitor<TokenOptions> options, ILoggerFactory logger, UrlEncoder encoder)
        : AuthenticationHandler<TokenOptions>(options, logger, encoder)
    {
        protected override Task<AuthenticateResult> HandleAuthenticateAsync()
        {
            if (BearerOf(Context) is not { Length: <= 256 } token)
                return Task.FromResult(AuthenticateResult.NoResult());
            return Task.FromResult(
                Options.File?.Find(token) is { } system
                    ? AuthenticateResult.Success(
                        new AuthenticationTicket(Principal(system.Name, system.Roles, Scheme.Name, null, null), Scheme.Name)
                    )
                    : AuthenticateResult.Fail("the token is not known")
            );
        }

        protected override Task HandleChallengeAsync(AuthenticationProperties properties) => Challenge(Response);
    }
}
