using System.Collections.Concurrent;
using System.Net;
using System.Net.Http.Headers;
using System.Security.Claims;
using Google.Protobuf.WellKnownTypes;
using Microsoft.AspNetCore.Authorization;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Connections.Features;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using Microsoft.Extensions.DependencyInjection;
using Ministries.Custody.V1;
using Ministries.Fixtures;
using Ministries.Ministry.Tests;
using Ministries.Sealing;
using Ministries.Types.V1;
using static Ministries.Ministry.Tests.Services;

namespace Ministries.Gateway.Tests;

/// <summary>What a gateway serves, to whom, however it is asked for; and who keeps his place.</summary>
public class EndpointTests(Services services)
{
    private sealed record Target(string Path, string Verb, bool Rpc, string Policy);

    private static readonly PathVariant Exact = new("exact", p => p, null, null);

    private static readonly PathVariant[] Variants =
    [
        .. PathVariant.Of("/health", null),
        new("JSON", p => p, "POST", "application/json"),
        new("gRPC", p => p, "POST", "application/grpc"),
        new("gRPC-Web", p => p, "POST", "application/grpc-web"),
        new("text", p => p, "POST", "text/plain"),
    ];

    private static List<Target> TargetsOf(RunningGateway gateway) =>
        [
            .. from endpoint in gateway.Host.Services.GetRequiredService<EndpointDataSource>().Endpoints.OfType<RouteEndpoint>()
            where endpoint.Metadata.GetMetadata<IAllowAnonymous>() is null
            let rpc = endpoint.Metadata.GetMetadata<Grpc.AspNetCore.Server.GrpcMethodMetadata>() is not null
            select new Target(
                "/" + endpoint.RoutePattern.RawText!.TrimStart('/').Replace("{", "").Replace("}", ""),
                endpoint.Metadata.GetMetadata<HttpMethodMetadata>()?.HttpMethods[0] ?? "POST",
                rpc,
                endpoint.Metadata.GetMetadata<IAuthorizeData>()!.Policy!
            ),
        ];

    [Fact]
    public async Task No_spelling_of_a_path_gives_what_the_exact_path_refuses()
    {
        var file = Path.Combine(Directory.CreateTempSubdirectory("tokens").FullName, "tokens.json");
        var clerk = TokenFile.Add(file, "desk", [Roles.Clerk]);
        await using var gateway = await RunningGateway.Start(services, "kr/mfa", s => s with { Tokens = file });
        var targets = TargetsOf(gateway);
        Assert.True(targets.Count > 150, $"{targets.Count} endpoints");
        var wrong = new ConcurrentQueue<string>();
        foreach (var (token, refusal) in ((string?, int)[])[(null, 401), (clerk, 403)])
        {
            using var http = gateway.Client(token);
            await Parallel.ForEachAsync(
                targets.Where(t => token is null || !Roles.Of(t.Policy).Contains(Roles.Clerk)),
                new ParallelOptions { MaxDegreeOfParallelism = 8, CancellationToken = Cancel },
                async (target, _) =>
                {
                    if (await Ask(http, gateway, target, Exact) is var exact && exact != refusal)
                        wrong.Enqueue($"{target.Path}: {exact}");
                    foreach (var variant in Variants)
                        if (
                            await Ask(http, gateway, target, variant) is var status
                            && status != refusal
                            && status is not (400 or 404 or 405 or 415)
                        )
                            wrong.Enqueue($"{variant.Name} {target.Path}: {status} and not {refusal}");
                }
            );
        }
        Assert.True(wrong.IsEmpty, string.Join('\n', wrong.Take(20)));
    }

    private static async Task<int> Ask(HttpClient http, RunningGateway gateway, Target target, PathVariant variant)
    {
        for (var again = 5; ; again--)
            try
            {
                return await AskOnce(http, gateway, target, variant);
            }
            // The web server asks a client to be calm whose requests were answered before they were read.
            catch (HttpRequestException) when (again > 0) { }
    }

    private static async Task<int> AskOnce(HttpClient http, RunningGateway gateway, Target target, PathVariant variant)
    {
        var verb = variant.Verb ?? target.Verb;
        using var request = new HttpRequestMessage(
            new HttpMethod(verb),
            new Uri(
                gateway.Settings.Listen.GetLeftPart(UriPartial.Authority) + variant.Path(target.Path),
                new UriCreationOptions { DangerousDisablePathAndQueryCanonicalization = true }
            )
        )
        {
            Version = HttpVersion.Version20,
            VersionPolicy = HttpVersionPolicy.RequestVersionExact,
        };
        if (verb is not ("GET" or "HEAD"))
        {
            request.Content = target.Rpc ? new ByteArrayContent(new byte[5]) : new StringContent("{}");
            request.Content.Headers.ContentType = new MediaTypeHeaderValue(
                variant.ContentType ?? (target.Rpc ? "application/grpc" : "application/json")
            );
        }
        using var answer = await http.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, Cancel);
        return (int)answer.StatusCode;
    }

    [Theory]
    [InlineData(null, 401)]
    [InlineData("", 403)]
    public async Task An_RPC_that_is_not_served_is_answered_as_any_other_address_is(string? token, int expected)
    {
        await using var gateway = await RunningGateway.Start(services, "kr/mfa");
        using var stranger = gateway.Client(null);
        foreach (var path in (string[])["/ministries.nothing.v1.Nothing/Nothing", "/ministries.calllog.v1.CallLogService/Nothing"])
            Assert.Equal(expected, await Ask(token is null ? stranger : gateway.Http, gateway, new Target(path, "POST", true, ""), Exact));
    }

    [Fact]
    public async Task An_endpoint_that_does_not_say_who_may_call_it_keeps_the_gateway_from_starting()
    {
        var builder = WebApplication.CreateSlimBuilder();
        builder.Services.AddAuthorization();
        await using var app = builder.Build();
        app.MapGet("/open", () => "").AllowAnonymous();
        app.MapGet("/named", () => "").RequireAuthorization("gateway/status");
        GatewayHost.DemandPolicies(app);
        app.MapGet("/forgotten", () => "");
        Assert.Contains("/forgotten", Assert.Throws<InvalidOperationException>(() => GatewayHost.DemandPolicies(app)).Message);
    }

    [Fact]
    public async Task A_connection_that_was_displaced_takes_nobodys_place()
    {
        var time = new MovedStopwatch();
        var connections = new Connections(time, null, witness: false);
        var enough = new TaskCompletionSource();
        var (held, aborted) = (new List<Task>(), new ConcurrentBag<int>());
        DefaultConnectionContext Open(int number)
        {
            var connection = new Noted(() => aborted.Add(number)) { RemoteEndPoint = new IPEndPoint(IPAddress.Loopback, 0) };
            held.Add(connections.Hold(_ => enough.Task)(connection));
            return connection;
        }
        async Task<int> Call(DefaultConnectionContext connection)
        {
            var http = new DefaultHttpContext
            {
                User = new ClaimsPrincipal(new ClaimsIdentity([new(ClaimTypes.Name, "a"), new(ClaimTypes.Role, Roles.Clerk)], "test")),
            };
            http.Features.Set<IConnectionItemsFeature>(connection);
            await connections.Know(http, _ => Task.CompletedTask);
            return http.Response.StatusCode;
        }
        for (var i = 0; i < Connections.MaxOfCaller; i++)
            Assert.Equal(200, await Call(Open(i)));
        time.By = Connections.Unused + TimeSpan.FromSeconds(1);
        // As many newer strangers from the address displace it while its call is on its way.
        var displaced = Open(1000);
        var newer = Enumerable.Range(1001, Connections.MaxStrangersOfAddress).Select(Open).ToList();
        Assert.Equal([1000], aborted);
        Assert.Equal(503, await Call(displaced));
        Assert.Equal([1000], aborted);
        // The next one takes the place of one that nobody uses, because all places are still held.
        Assert.Equal(200, await Call(newer[0]));
        Assert.Equal(2, aborted.Count);
        enough.SetResult();
        await Task.WhenAll(held);
    }

    private sealed class Noted(Action aborted) : DefaultConnectionContext
    {
        public override void Abort(ConnectionAbortedException abortReason) => aborted();
    }

    [Fact]
    public async Task What_was_sealed_against_its_declaration_is_shown_with_a_mark()
    {
        const string owner = "ua/coordination-hq",
            reader = "icrc";
        var client = services.As(owner);
        var seen = await client.Custody.GetCaseAsync(new GetCaseRequest { Case = services.Case }, cancellationToken: Cancel);
        var request = new RegisterPrisonerRequest
        {
            RequestId = MinistryClient.NewRequestId(),
            Actor = Services.Actor,
            Etag = seen.Etag,
            Case = services.Case,
            Status = CustodyState.Registered,
            CaptureTime = Timestamp.FromDateTime(new DateTime(2025, 1, 9, 0, 0, 0, DateTimeKind.Utc)),
        };
        var identity = Services.Identity;
        identity.Name.Original = "Ga \u202eNa-da";
        // This project's client refuses to seal it, and another need not.
        Assert.Throws<SealException>(() => client.Seal(request, identity, [owner, reader]));
        request.Identity = Sealer.Seal(
            identity,
            new SealContext(services.Case, request.RequestId, "identity", owner),
            [
                .. ((string[])[owner, reader]).Select(r =>
                    Recipient.Of(client.Agreement.Participants.Single(p => p.Id == r), Timestamp.FromDateTime(DateTime.UtcNow), "identity")
                ),
            ]
        );
        var prisoner = (await client.Custody.RegisterPrisonerAsync(request, cancellationToken: Cancel)).Prisoner;

        var get = new GetPrisonerRequest { Case = services.Case, Prisoner = prisoner };
        var direct = (await services.As(reader).Custody.GetPrisonerAsync(get, cancellationToken: Cancel)).Prisoner.Identity;
        var opened = services.As(reader).Open<PersonIdentity>(direct);
        Assert.Equal((identity, "name.original"), (opened.Message, Assert.Single(opened.Faults).Field));
        await using var gateway = await RunningGateway.Start(services, reader);
        var path = $"/v1/custody/GetPrisoner?case={services.Case}&prisoner={prisoner}";
        var fault = (await gateway.Get(path)).Body["prisoner"]!["identity"]!["@sealed"]!["faults"]!.AsArray().Single()!;
        Assert.Equal("name.original", (string?)fault["field"]);
        Assert.NotEmpty((string)fault["description"]!);
        // What is in order has no such mark.
        var other = await gateway.Get($"/v1/custody/GetPrisoner?case={services.Case}&prisoner={services.Prisoners[0]}");
        Assert.Null(other.Body["prisoner"]!["identity"]!["@sealed"]!["faults"]);
    }
}
