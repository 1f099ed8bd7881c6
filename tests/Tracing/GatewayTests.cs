using System.Diagnostics;
using System.Net.Http.Headers;
using System.Security.Cryptography.X509Certificates;
using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Microsoft.AspNetCore.Builder;
using Microsoft.Extensions.Logging;
using Ministries.CallLog.V1;
using Ministries.Client;
using Ministries.Custody.V1;
using Ministries.Fixtures;
using Ministries.Gateway;
using Ministries.Local;
using Ministries.Trust;
using Ministries.Types.V1;

namespace Ministries.Tracing.Tests;

/// <summary>Three services as processes, and a gateway for each participant that acts in the case; all send their spans to one collector.
/// </summary>
public sealed class Gateways : IAsyncLifetime
{
    private readonly ServiceProcesses _services = new();
    private readonly Dictionary<string, WebApplication> _hosts = [];
    private RabbitMq? _broker;

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    public OtlpReceiver Receiver { get; private set; } = null!;

    /// <summary>The gateways' addresses by their participants.</summary>
    public Dictionary<string, Uri> Addresses { get; } = [];

    public async ValueTask InitializeAsync()
    {
        _broker = await RabbitMq.Create();
        Receiver = await OtlpReceiver.Start(Cancel);
        foreach (var service in _services.Addresses.Keys)
            _services.Start(
                service,
                $"sqlite:{Path.Combine(_services.Folder, $"{service}.db")}",
                _broker.Uri,
                ("OTEL_EXPORTER_OTLP_ENDPOINT", Receiver.Endpoint.ToString())
            );
        foreach (var participant in (string[])["icrc", "kr/mfa", "ua/coordination-hq", "ua/mfa"])
            await Start(participant, participant, shares: true);
    }

    /// <summary>Starts a gateway, with a certificate of its participant's authority and a token for the participant's system.</summary>
    /// <param name="name">The name by which its address is found.</param>
    /// <param name="participant">Whose it is.</param>
    /// <param name="shares">Whether it says that its collector is the services'.</param>
    public async Task Start(string name, string participant, bool shares)
    {
        var home = Path.Combine(_services.Certificates, participant);
        var state = Directory.CreateDirectory(Path.Combine(_services.Folder, $"gateway-{name.Replace('/', '-')}")).FullName;
        using (var authority = CertificateAuthority.Read(Path.Combine(home, "authority.pem"), Path.Combine(home, "authority.key")))
        using (
            var issued = authority.Issue(
                "gateway",
                new CertificateTerms(
                    [],
                    DateTimeOffset.UtcNow.AddMinutes(-5),
                    DateTimeOffset.UtcNow.AddDays(1),
                    Client: false,
                    ["127.0.0.1"]
                )
            )
        )
        {
            Ledger.WholeFile.Write(Path.Combine(state, "own.pem"), issued.ExportCertificatePem());
            Ledger.WholeFile.Write(Path.Combine(state, "own.key"), issued.GetECDsaPrivateKey()!.ExportPkcs8PrivateKeyPem());
        }
        var tokens = Path.Combine(state, "tokens.json");
        Ledger.WholeFile.Write(
            Path.Combine(home, "gateway.token"),
            TokenFile.Add(tokens, "ministry", [Gateway.Roles.Official, Gateway.Roles.Approver])
        );
        var settings = new GatewaySettings
        {
            Participant = participant,
            Folder = _services.Certificates,
            State = state,
            Services = _services.Addresses.ToDictionary(a => a.Key, a => (IReadOnlyList<Uri>)[a.Value]),
            Listen = Addresses[name] = new Uri($"https://127.0.0.1:{Ports.Free()}"),
            Certificate = Path.Combine(state, "own.pem"),
            CertificateKey = Path.Combine(state, "own.key"),
            Tokens = tokens,
            Otlp = Receiver.Endpoint,
            SharesCollector = shares,
        };
        _hosts[name] = GatewayHost.Build(settings, logging: logging => logging.ClearProviders());
        await _hosts[name].StartAsync(Cancel);
    }

    public Task<Participants> Join() =>
        Participants.Join(_services.Certificates, _services.Addresses, TimeSpan.FromMinutes(3), Cancel, gateways: Addresses);

    /// <summary>The receipts that a gateway has kept.</summary>
    public int Receipts(string participant) =>
        Directory.GetFiles(Path.Combine(_services.Folder, $"gateway-{participant.Replace('/', '-')}", "receipts")).Length;

    /// <summary>Calls a gateway as a system with a trace of its own does.</summary>
    /// <returns>Its status and its answer, in JSON.</returns>
    public async Task<(int Status, string Text)> Post(string name, string participant, string path, IMessage request, string traceparent)
    {
        var home = Path.Combine(_services.Certificates, participant);
        var policy = new X509ChainPolicy { TrustMode = X509ChainTrustMode.CustomRootTrust, RevocationMode = X509RevocationMode.NoCheck };
        policy.CustomTrustStore.ImportFromPemFile(Path.Combine(home, "authority.pem"));
        using var handler = new SocketsHttpHandler
        {
            SslOptions = { CertificateChainPolicy = policy },
            ActivityHeadersPropagator = DistributedContextPropagator.CreateNoOutputPropagator(),
        };
        using var http = new HttpClient(handler);
        using var message = new HttpRequestMessage(HttpMethod.Post, new Uri(Addresses[name], path))
        {
            Content = new StringContent(Contract.Formatter.Format(request), new MediaTypeHeaderValue("application/json")),
        };
        message.Headers.Add("Authorization", $"Bearer {await File.ReadAllTextAsync(Path.Combine(home, "gateway.token"), Cancel)}");
        message.Headers.Add("traceparent", traceparent);
        message.Headers.Add("tracestate", "official=kwon");
        message.Headers.Add("baggage", "official=kwon");
        using var answer = await http.SendAsync(message, Cancel);
        var text = await answer.Content.ReadAsStringAsync(Cancel);
        return ((int)answer.StatusCode, text);
    }

    public async ValueTask DisposeAsync()
    {
        foreach (var host in _hosts.Values)
            await host.DisposeAsync();
        await _services.DisposeAsync();
        await Receiver.DisposeAsync();
        _broker?.Stop();
    }
}

/// <summary>What a collector sees of calls that go by a gateway.</summary>
[Collection(OperatorTests.SpansOfThisProcess)]
public sealed partial class GatewayTests(Gateways gateways) : IClassFixture<Gateways>
{
    // From the gateway to the services' own steps, as TracingTests has them.
    private static readonly string[] ToTheDraft =
    [
        "ministries.calllog.v1.CallLogService/LogCall [gateway-kr-mfa]",
        "outbox gateway-kr-mfa [gateway-kr-mfa]",
        "ministries.calllog.v1.CallLogService/LogCall [calllog]",
        "commit calllog [calllog]",
        "publish ministries.calllog.v1.CallLogged [calllog]",
        "process ministries.calllog.v1.CallLogged [consular]",
        "commit consular [consular]",
        "publish ministries.consular.v1.TransferRequestDrafted [consular]",
    ];

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    [System.Text.RegularExpressions.GeneratedRegex("pris_[0-9a-z]{26}")]
    private static partial System.Text.RegularExpressions.Regex Reference();

    [Fact]
    public async Task The_case_is_played_by_gateways_and_nothing_personal_leaves_them()
    {
        await using var participants = await gateways.Join();
        var timeline = new Timeline(new Screen(TextWriter.Null, redirected: true, brief: true), Stopwatch.GetTimestamp());
        var story = new Story(participants, timeline);
        await story.Play(Cancel);
        Assert.All(timeline.Checks, c => Assert.True(c.Holds, $"{c.What}: {c.Found}"));

        // Each gateway made its own participant's writes, and none was made beside it.
        await participants.WaitUntil(
            "each gateway keeps a receipt of each write",
            () =>
                Task.FromResult(
                    timeline
                        .Steps.Where(s => s.Step.Refusal is null)
                        .GroupBy(s => s.Step.Participant)
                        .All(steps => gateways.Receipts(steps.Key) >= steps.Count())
                ),
            Cancel
        );
        var spans = await gateways.Receiver.WaitFor(
            all => timeline.Steps.All(s => OfGateway(all, s.RequestId).Any()),
            TimeSpan.FromMinutes(1),
            Cancel
        );
        Assert.All(
            timeline.Steps,
            s => Assert.All(OfGateway(spans, s.RequestId), g => Assert.Equal($"gateway-{s.Step.Participant.Replace('/', '-')}", g.Service))
        );
        var refused = timeline.Steps.First(s => s.Step.Refusal is not null);
        Assert.Contains(
            OfGateway(spans, refused.RequestId),
            g => g.Attributes.GetValueOrDefault("ministries.refusal") == refused.Step.Refusal!.Reason
        );
        IsFreeOfPersons(spans);
    }

    [Fact]
    public async Task The_callers_trace_leads_through_the_gateway_and_the_services_to_the_drafted_transfer_request()
    {
        await using var participants = await gateways.Join();
        var request = await OpenCase(participants);
        var (trace, parent) = (ActivityTraceId.CreateRandom().ToString(), ActivitySpanId.CreateRandom().ToString());
        var answered = await gateways.Post("kr/mfa", "kr/mfa", "/v1/calllog/LogCall", request, $"00-{trace}-{parent}-01");
        Assert.True(answered.Status == 200, answered.Text);
        // What a caller writes where an id belongs may be anything.
        var (refused, reference) = (ActivityTraceId.CreateRandom().ToString(), request.Account.Prisoners[0]);
        await gateways.Post(
            "kr/mfa",
            "kr/mfa",
            "/v1/custody/GetPrisoner",
            new GetPrisonerRequest { Case = reference, Prisoner = reference },
            $"00-{refused}-{parent}-01"
        );

        var spans = await gateways.Receiver.WaitFor(all => IsThere(all, trace), TimeSpan.FromMinutes(1), Cancel);
        var at = Assert.Single(spans, s => s.Trace == trace && s.Parent == parent);
        foreach (var name in ToTheDraft[1..])
            at = Assert.Single(spans, s => s.Trace == trace && s.Parent == at.Id && $"{s.Name} [{s.Service}]" == name);
        // What else a caller says of his trace may be about a person.
        Assert.All(spans.Where(s => s.Trace == trace), s => Assert.Equal("", s.Raw.TraceState));
        IsFreeOfPersons(spans);
    }

    [Fact]
    public async Task The_trace_of_a_gateway_with_another_collector_ends_there_and_the_services_links_to_it()
    {
        await gateways.Start("elsewhere", "kr/unification", shares: false);
        var (trace, parent) = (ActivityTraceId.CreateRandom().ToString(), ActivitySpanId.CreateRandom().ToString());
        await gateways.Post("elsewhere", "kr/unification", "/v1/custody/ListCases", new ListCasesRequest(), $"00-{trace}-{parent}-00");

        var spans = await gateways.Receiver.WaitFor(
            all => all.Any(s => s.Links.Any(l => l.Trace == trace)) && all.Any(s => s.Trace == trace),
            TimeSpan.FromMinutes(1),
            Cancel
        );
        var gateway = Assert.Single(spans, s => s.Trace == trace);
        Assert.Equal(("gateway-kr-unification", parent), (gateway.Service, gateway.Parent));
        var service = Assert.Single(spans, s => s.Links.Contains((trace, gateway.Id)));
        Assert.Equal(("custody", ""), (service.Service, service.Parent));
    }

    private static bool IsThere(IReadOnlyList<ReceivedSpan> all, string trace) =>
        ToTheDraft.All(name => all.Any(s => s.Trace == trace && $"{s.Name} [{s.Service}]" == name));

    private static IEnumerable<ReceivedSpan> OfGateway(IReadOnlyList<ReceivedSpan> spans, string requestId) =>
        spans.Where(s =>
            s.Service.StartsWith("gateway-", StringComparison.Ordinal)
            && s.Name.Contains('/')
            && s.Attributes.GetValueOrDefault("ministries.request_id") == requestId
        );

    private static void IsFreeOfPersons(IReadOnlyList<ReceivedSpan> spans)
    {
        var known = TracingTests.Exported.ToHashSet();
        foreach (var span in spans.Where(s => s.Service.StartsWith("gateway-", StringComparison.Ordinal)))
        {
            Assert.Empty(span.Attributes.Keys.Except(known));
            Assert.Empty(span.Raw.Events);
            Assert.DoesNotMatch(Reference(), span.Everything);
            Assert.DoesNotContain("kwon", span.Everything);
            Assert.DoesNotContain(InventedIdentities.Of("P-1").Name.Transliteration, span.Everything);
        }
    }

    // A case of one prisoner, and Seoul's account of a call in which it promised to ask for him.
    private static async Task<LogCallRequest> OpenCase(Participants participants)
    {
        var headquarters = participants["ua/coordination-hq"];
        participants.SetCase((await headquarters.Custody.OpenCaseAsync(new())).Case);
        var prisoner = (
            await headquarters.Custody.RegisterPrisonerAsync(
                new()
                {
                    Status = CustodyState.Interned,
                    CaptureTime = Timestamp.FromDateTime(DateTime.UtcNow.AddDays(-60)),
                    Identity = ParticipantClient.Seal(InventedIdentities.Of("P-1"), "ua/coordination-hq"),
                }
            )
        ).Prisoner;
        await headquarters.Custody.AdmitPartyAsync(new() { Participant = "ua/mfa", Part = Part.DetainingPower });
        var admitted = await headquarters.Custody.AdmitPartyAsync(new() { Participant = "kr/mfa", Part = Part.RequestingState });
        foreach (var service in new[] { "calllog", "consular" })
            await participants.WaitUntilProcessed(service, "custody", admitted.Receipt.Position, Cancel);
        return new LogCallRequest
        {
            Case = headquarters.Case,
            Actor = participants["kr/mfa"].Actor,
            Counterpart = "ua/mfa",
            Account = LoggedCalls.About(DateTimeOffset.UtcNow.AddDays(-1), DateTimeOffset.UtcNow.AddDays(30), prisoner),
        };
    }
}
