using System.Diagnostics;
using System.Security.Cryptography.X509Certificates;
using Grpc.Core;
using Grpc.Net.Client;
using Microsoft.AspNetCore.Builder;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Ministries.CallLog.V1;
using Ministries.Client;
using Ministries.Custody.V1;
using Ministries.Fixtures;
using Ministries.Hosting;
using Ministries.Hosting.Bus;
using Ministries.Local;
using Ministries.Operations.V1;
using Ministries.Trust;
using Ministries.Types.V1;
using CallLogService = Ministries.CallLog.CallLogService;
using ConsularService = Ministries.Consular.ConsularService;
using CustodyService = Ministries.Custody.CustodyService;
using V1Client = Ministries.CallLog.V1.CallLogService.CallLogServiceClient;

namespace Ministries.Tracing.Tests;

/// <summary>The three services in one process, with a broker of their own and a collector. The consular service's rule on logged calls can
/// be made to fail.</summary>
public sealed class OperatorFixture : IAsyncLifetime
{
    private readonly string _folder = Directory.CreateTempSubdirectory("ministries-operator-").FullName;
    private readonly List<WebApplication> _hosts = [];
    private readonly List<IDisposable> _open = [];
    private TaskCompletionSource _failed = new();
    private Dictionary<string, Uri> _addresses = [];
    private volatile bool _fails;

    public RabbitMq Broker { get; private set; } = null!;

    public OtlpReceiver Receiver { get; private set; } = null!;

    public Participants Participants { get; private set; } = null!;

    /// <summary>The reference of the case's prisoner.</summary>
    public string Prisoner { get; private set; } = "";

    /// <summary>The rule fails from now on.</summary>
    public void Fail() => (_failed, _fails) = (new(TaskCreationOptions.RunContinuationsAsynchronously), true);

    /// <summary>The rule works again.</summary>
    public void FailNoMore() => _fails = false;

    /// <summary>Completes when the rule has failed once.</summary>
    public Task Failed => _failed.Task;

    public BusStatus BusOf(string service) =>
        _hosts.Single(h => h.Services.GetRequiredService<Service>().Name == service).Services.GetRequiredService<BusStatus>();

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    public async ValueTask InitializeAsync()
    {
        Broker = await RabbitMq.Create();
        Receiver = await OtlpReceiver.Start(Cancel);
        Pki.Init(_folder, StandardAgreement.Read(), TimeProvider.System, SealingKeyFile.Make);
        _addresses = Participants.Services.ToDictionary(s => s, _ => new Uri($"https://127.0.0.1:{Ports.Free()}"));
        foreach (var service in new[] { CallLogService.Definition, Failing(ConsularService.Definition), CustodyService.Definition })
        {
            var builder = WebApplication.CreateSlimBuilder();
            builder.Logging.ClearProviders();
            var host = await ServiceHost.Build(
                service,
                ServiceSetup.SettingsIn(_folder, service.Name, _addresses[service.Name]) with
                {
                    Broker = Broker.Uri,
                    Peers = _addresses,
                    Otlp = Receiver.Endpoint,
                },
                builder,
                cancel: Cancel
            );
            _hosts.Add(host);
            await host.StartAsync(Cancel);
        }
        Participants = await Participants.Join(_folder, _addresses, TimeSpan.FromMinutes(2), Cancel);
        var headquarters = Participants["ua/coordination-hq"];
        Participants.SetCase((await headquarters.Custody.OpenCaseAsync(new())).Case);
        Prisoner = (
            await headquarters.Custody.RegisterPrisonerAsync(
                new()
                {
                    Status = CustodyState.Interned,
                    CaptureTime = Google.Protobuf.WellKnownTypes.Timestamp.FromDateTime(DateTime.UtcNow.AddDays(-60)),
                    Identity = ParticipantClient.Seal(InventedIdentities.Of("P-1"), "ua/coordination-hq"),
                }
            )
        ).Prisoner;
        await headquarters.Custody.AdmitPartyAsync(new() { Participant = "ua/mfa", Part = Part.DetainingPower });
        var admitted = await headquarters.Custody.AdmitPartyAsync(new() { Participant = "kr/mfa", Part = Part.RequestingState });
        foreach (var service in new[] { "calllog", "consular" })
            await Participants.WaitUntilProcessed(service, "custody", admitted.Receipt.Position, Cancel);
    }

    private Service Failing(Service service) =>
        service with
        {
            Reactions =
            [
                .. service.Reactions.Select(r =>
                    r.Event != CallLogged.Descriptor
                        ? r
                        : r with
                        {
                            Decide = (e, context) =>
                            {
                                if (!_fails)
                                    return r.Decide(e, context);
                                _failed.TrySetResult();
                                throw new InvalidOperationException(Prisoner);
                            },
                        }
                ),
            ],
        };

    /// <summary>The call log as a plain client of kr/mfa calls it.</summary>
    /// <param name="authority">The name by which it calls the service (`:authority`); null: the address.</param>
    public V1Client Plain(string? authority = null)
    {
        string Own(string file) => Path.Combine(_folder, "kr/mfa", file);
        var certificate = X509Certificate2.CreateFromPemFile(Own("system.pem"), Own("system.key"));
        _open.Add(certificate);
        // The library checks the service's certificate against the name by which it calls the service.
        var tls = new SocketsHttpHandler
        {
            SslOptions =
            {
                LocalCertificateSelectionCallback = (_, _, _, _, _) => certificate,
                RemoteCertificateValidationCallback = (_, server, _, _) => server is not null,
            },
        };
        var channel = GrpcChannel.ForAddress(
            _addresses["calllog"],
            new GrpcChannelOptions
            {
                DisposeHttpClient = true,
                HttpHandler = new Calling(authority) { InnerHandler = Signing.Handler(_folder, "kr/mfa", tls, "calllog") },
            }
        );
        _open.Add(channel);
        return new V1Client(channel);
    }

    private sealed class Calling(string? authority) : DelegatingHandler
    {
        protected override Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancel)
        {
            request.Headers.Host = authority;
            return base.SendAsync(request, cancel);
        }
    }

    /// <summary>A call of kr/mfa about the prisoner, after which the consular service drafts a request.</summary>
    public LogCallRequest Request() =>
        new()
        {
            RequestId = Guid.CreateVersion7().ToString(),
            Counterpart = "ua/mfa",
            Account = LoggedCalls.About(new(2025, 3, 17, 9, 0, 0, TimeSpan.Zero), DateTimeOffset.UtcNow.AddDays(30), Prisoner),
        };

    public async ValueTask DisposeAsync()
    {
        foreach (var open in _open)
            open.Dispose();
        if (Participants is not null)
            await Participants.DisposeAsync();
        await Task.WhenAll(_hosts.Select(h => h.StopAsync(CancellationToken.None)));
        foreach (var host in _hosts)
            await host.DisposeAsync();
        if (Receiver is not null)
            await Receiver.DisposeAsync();
        Broker?.Stop();
        Directory.Delete(_folder, recursive: true);
    }
}

/// <summary>What an operator who does not know the code can see of failures, in the traces that they concern.</summary>
[Collection(OperatorTests.SpansOfThisProcess)]
public sealed class OperatorTests(OperatorFixture fixture) : IClassFixture<OperatorFixture>
{
    /// <summary>Tests whose hosts run in this process. Each host's instrumentation gets the spans of all, so these tests run one after the
    /// other.</summary>
    internal const string SpansOfThisProcess = "spans of this process";

    private const string CallLogged = "ministries.calllog.v1.CallLogged",
        Log = "ministries.calllog.v1.CallLogService/LogCall";

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    [Fact]
    public async Task A_calls_id_leads_to_its_trace_and_a_drafts_id_to_where_it_was_drafted_and_to_what_was_done_with_it_later()
    {
        var (call, _) = await Logged();
        var trace = await TraceOf(call, Ends("process", "TransferRequestDrafted", "custody"));
        // One search by tag: the call itself, and where its draft was tied to it.
        Assert.Equal(Log, Assert.Single(trace, s => s.Parent.Length == 0).Name);
        var drafted = Assert.Single(trace, s => s.Name == "commit consular");
        var draft = drafted.Attributes["ministries.record"];
        Assert.StartsWith("transfer_", draft);
        // No participant's call caused it, and the span says what did.
        Assert.Equal(CallLogged, drafted.Attributes["ministries.method"]);
        Everything_has_its_parent(trace);

        await fixture
            .Participants["kr/mfa"]
            .Consular.SubmitTransferRequestAsync(
                new()
                {
                    Transfer = draft,
                    NoteVerbale = "KR-1",
                    Content = ParticipantClient.Seal(new RequestAccount { Account = ParticipantClient.Words("In words.") }, "kr/mfa"),
                },
                cancellationToken: Cancel
            );
        // The step of weeks later: another trace, found by the draft's id, that links back to the one that caused it.
        var spans = await fixture.Receiver.WaitFor(
            s =>
                s.Any(x =>
                    x.Trace != trace[0].Trace && x.Name == "commit consular" && x.Attributes.GetValueOrDefault("ministries.record") == draft
                ),
            Patience,
            Cancel
        );
        var submitted = spans.Single(x =>
            x.Trace != trace[0].Trace && x.Name == "commit consular" && x.Attributes.GetValueOrDefault("ministries.record") == draft
        );
        Assert.Contains((drafted.Trace, drafted.Id), submitted.Links);
    }

    [Fact]
    public async Task A_refusal_has_its_reason_and_article()
    {
        var (call, _) = await Logged();
        // Tying the draft changes the call once more.
        await fixture.Participants.WaitUntil(
            "the draft is tied",
            async () =>
                (await fixture.Participants["kr/mfa"].Calls.GetCallAsync(new() { Call = call }, cancellationToken: Cancel))
                    .Call.Commitments.Single()
                    .Requests.Count == 1,
            Cancel
        );
        var request = new SubmitReadoutRequest
        {
            Call = call,
            Account = fixture.Request().Account,
            RequestId = Guid.NewGuid().ToString(),
        };
        await Assert.ThrowsAnyAsync<RpcException>(async () =>
            await fixture.Participants["kr/mfa"].Calls.SubmitReadoutAsync(request, cancellationToken: Cancel)
        );
        var spans = await With("ministries.request_id", request.RequestId, 2);
        var rpc = spans.Single(s => s.Parent.Length == 0);
        Assert.EndsWith("/SubmitReadout", rpc.Name);
        Assert.Equal("READOUT_ALREADY_GIVEN", rpc.Attributes["ministries.refusal"]);
        Assert.Equal(Refusals.AboutOf(Errors.V1.Reason.ReadoutAlreadyGiven).Source, rpc.Attributes["ministries.article"]);
        Assert.Equal("kr/mfa", rpc.Attributes["ministries.participant"]);
        // The commit's span says what the ledger keeps.
        var commit = spans.Single(s => s.Name == "commit calllog");
        Assert.Equal(("READOUT_ALREADY_GIVEN", rpc.Id), (commit.Attributes["ministries.refusal"], commit.Parent));
    }

    [Fact]
    public async Task A_repeated_request_says_so_and_names_the_entry_that_it_had_made()
    {
        var (_, request) = await Logged();
        await fixture.Participants["kr/mfa"].Calls.LogCallAsync(request, cancellationToken: Cancel);
        var spans = (await With("ministries.request_id", request.RequestId, 4)).Where(s => s.Name == Log).OrderBy(s => s.Start).ToList();
        Assert.Equal(2, spans.Count);
        Assert.NotEqual(spans[0].Trace, spans[1].Trace);
        Assert.DoesNotContain("ministries.repeated", spans[0].Attributes.Keys);
        Assert.Contains("true", spans[1].Attributes["ministries.repeated"]);
        Assert.Equal(spans[0].Attributes["ministries.position"], spans[1].Attributes["ministries.position"]);
        Assert.Equal(spans[0].Attributes["ministries.record"], spans[1].Attributes["ministries.record"]);
    }

    [Fact]
    public async Task A_trace_begins_with_the_call_of_a_participant_and_links_to_its_own()
    {
        using var source = new ActivitySource("a ministry's own");
        using var listener = new ActivityListener
        {
            ShouldListenTo = s => s.Name == source.Name,
            // The ministry does not sample, but the services record the trace anyway.
            Sample = (ref ActivityCreationOptions<ActivityContext> _) => ActivitySamplingResult.PropagationData,
        };
        ActivitySource.AddActivityListener(listener);
        var request = fixture.Request();
        using var own = source.StartActivity("a minister's afternoon")!;
        var headers = new Metadata
        {
            { "traceparent", own.Id! },
            { "tracestate", "official=kwon" },
            { "baggage", "prisoner=P-1" },
        };
        (request.Case, request.Actor) = (fixture.Participants["kr/mfa"].Case, fixture.Participants["kr/mfa"].Actor);
        await fixture.Plain("kwon.example:7").LogCallAsync(request, headers, cancellationToken: Cancel);
        var root = (await With("ministries.request_id", request.RequestId, 2)).Single(s => s.Name == Log);
        Assert.Empty(root.Parent);
        Assert.NotEqual(own.TraceId.ToHexString(), root.Trace);
        Assert.Equal(own.TraceId.ToHexString(), Assert.Single(root.Links).Trace);
        Assert.DoesNotContain(fixture.Receiver.Spans, s => s.Everything.Contains("kwon", StringComparison.Ordinal));
    }

    [Fact]
    public async Task An_event_that_cannot_be_processed_shows_its_attempts_its_dead_letter_and_its_replay()
    {
        fixture.Fail();
        var (call, _) = await Logged(drafted: false);
        var trace = await TraceOf(call, Ends("set-aside", "CallLogged"));
        fixture.FailNoMore();
        var publish = trace.Single(s => s.Name == $"publish {CallLogged}");
        var attempts = trace.Where(s => s.Name == $"process {CallLogged}").OrderBy(s => s.Start).ToList();
        Assert.Equal(5, attempts.Count);
        Assert.All(
            attempts,
            a => Assert.Equal((publish.Id, "RULE_FAILED", 2), (a.Parent, a.Attributes["ministries.refusal"], a.Raw.Status.Code))
        );
        Assert.Equal(["2", "3", "4", "5"], attempts.Skip(1).Select(a => Number(a.Attributes["ministries.attempt"])));
        var aside = trace.Single(s => s.Name == $"set-aside {CallLogged}");
        Assert.Equal(
            (publish.Id, "consular", "RULE_FAILED", "5"),
            (aside.Parent, aside.Service, aside.Attributes["ministries.refusal"], Number(aside.Attributes["ministries.attempt"]))
        );
        Assert.Contains(trace, s => s.Name == "commit consular" && s.Parent == aside.Id);
        Everything_has_its_parent(trace);

        var operations = fixture.Participants["operator"].OperationsOf("consular");
        var letter = Assert.Single((await operations.ListDeadLettersAsync(new(), cancellationToken: Cancel)).DeadLetters);
        var replay = new ReplayDeadLetterRequest { RequestId = Guid.NewGuid().ToString(), Id = letter.Id };
        Assert.True((await operations.ReplayDeadLetterAsync(replay, cancellationToken: Cancel)).Processed);
        trace = await TraceOf(call, Ends("process", "TransferRequestDrafted", "custody"));
        var replayed = trace.Single(s => s.Attributes.ContainsKey("ministries.replayed"));
        Assert.Equal($"process {CallLogged}", replayed.Name);
        var operatorsCall = (await With("ministries.request_id", replay.RequestId, 2)).Single(s => s.Parent.Length == 0);
        Assert.Contains((operatorsCall.Trace, operatorsCall.Id), replayed.Links);
        Everything_has_its_parent(trace);
        Assert.DoesNotContain(fixture.Receiver.Spans, s => s.Everything.Contains(fixture.Prisoner, StringComparison.Ordinal));
    }

    [Fact]
    public async Task A_redelivered_message_is_shown_as_such_and_as_repeated_if_it_had_its_effect()
    {
        // The broker dies while the consular service has the message in hand. The service takes the event in, but cannot acknowledge it.
        fixture.Fail();
        var (call, _) = await Logged(drafted: false);
        await fixture.Failed.WaitAsync(Cancel);
        fixture.Broker.Kill();
        fixture.FailNoMore();
        await Drafted(call);
        await fixture.Broker.Start();
        var trace = await TraceOf(call, s => s.Attributes.ContainsKey("ministries.redelivered"));
        var again = trace.Single(s => s.Attributes.ContainsKey("ministries.redelivered"));
        Assert.Equal($"process {CallLogged}", again.Name);
        Assert.Contains("ministries.repeated", again.Attributes.Keys);
        Assert.Equal(trace.Single(s => s.Name == $"publish {CallLogged}").Id, again.Parent);
        Everything_has_its_parent(trace);
    }

    [Fact]
    public async Task An_outage_of_the_broker_is_a_span_between_the_commit_and_the_publish()
    {
        fixture.Broker.Kill();
        await fixture.Participants.WaitUntil("the outage is noticed", () => Task.FromResult(!fixture.BusOf("calllog").BrokerReady), Cancel);
        var (call, _) = await Logged(drafted: false);
        await fixture.Participants.WaitUntil("the event waits", () => Task.FromResult(fixture.BusOf("calllog").Backlog > 0), Cancel);
        // No message comes, but the draft is made from the producer's ledger, and its span says so.
        await Drafted(call);
        var filled = (await TraceOf(call, Ends("commit", "consular"))).Single(s => s.Name == $"process {CallLogged}");
        Assert.Contains("ministries.filled", filled.Attributes.Keys);
        await fixture.Broker.Start();
        var trace = await TraceOf(call, Ends("broker-outage", "calllog"));
        var commit = trace.Single(s => s.Name == "commit calllog" && trace.Single(p => p.Id == s.Parent).Name == Log);
        var outage = trace.Single(s => s.Name == "broker-outage calllog");
        var publish = trace.Last(s => s.Name == $"publish {CallLogged}");
        Assert.Equal((commit.Id, commit.Id, "calllog"), (outage.Parent, publish.Parent, outage.Service));
        Assert.Equal(2, outage.Raw.Status.Code);
        Assert.InRange(outage.Start, commit.Start, publish.Start);
        Assert.InRange(outage.Raw.EndTimeUnixNano, outage.Start + 100_000_000, publish.Start + 50_000_000);
        Everything_has_its_parent(trace);
        // Calls that no participant caused have no trace: health checks, and searches for missing events.
        const int client = 3;
        // Only this test's own client, in the same process, asks for health.
        Assert.Empty(
            fixture
                .Receiver.Spans.Where(s =>
                    s.Name == "_OTHER"
                    || (s.Raw.Kind != client && s.Name.Contains("health", StringComparison.Ordinal))
                    || (s.Parent.Length == 0 && s.Name.EndsWith("/ListEvents", StringComparison.Ordinal))
                )
                .Select(s => $"{s.Service} {s.Name}")
        );
    }

    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    private async Task<(string Call, LogCallRequest Request)> Logged(bool drafted = true)
    {
        var seoul = fixture.Participants["kr/mfa"];
        var request = fixture.Request();
        var call = (await seoul.Calls.LogCallAsync(request, cancellationToken: Cancel)).Call;
        if (drafted)
            await Drafted(call);
        return (call, request);
    }

    private Task Drafted(string call) =>
        fixture.Participants.WaitUntil(
            "a request is drafted",
            async () =>
                (
                    await fixture
                        .Participants["kr/mfa"]
                        .Consular.ListTransfersAsync(
                            new() { Case = fixture.Participants["kr/mfa"].Case, Call = call },
                            cancellationToken: Cancel
                        )
                )
                    .Transfers
                    .Count == 1,
            Cancel
        );

    private static Func<ReceivedSpan, bool> Ends(string begin, string end, string? service = null) =>
        s =>
            s.Name.StartsWith(begin, StringComparison.Ordinal)
            && s.Name.EndsWith(end, StringComparison.Ordinal)
            && (service is null || s.Service == service);

    // What an operator does: one search by tag for the call's id, then the whole trace.
    private async Task<List<ReceivedSpan>> TraceOf(string call, Func<ReceivedSpan, bool> has)
    {
        List<ReceivedSpan> trace = [];
        await fixture.Receiver.WaitFor(
            spans =>
            {
                var root = spans.FirstOrDefault(s => s.Parent.Length == 0 && s.Attributes.GetValueOrDefault("ministries.record") == call);
                trace = [.. spans.Where(s => s.Trace == root?.Trace)];
                return trace.Any(has) && trace.All(s => s.Parent.Length == 0 || trace.Any(p => p.Id == s.Parent));
            },
            Patience,
            Cancel
        );
        return trace;
    }

    private async Task<List<ReceivedSpan>> With(string tag, string value, int count)
    {
        bool Has(ReceivedSpan s) => s.Attributes.GetValueOrDefault(tag) == value;
        return [.. (await fixture.Receiver.WaitFor(spans => spans.Count(Has) >= count, Patience, Cancel)).Where(Has)];
    }

    private static string Number(string attribute) => new([.. attribute.Where(char.IsDigit)]);

    private static void Everything_has_its_parent(List<ReceivedSpan> trace)
    {
        var known = trace.ToDictionary(s => s.Id);
        Assert.Single(trace, s => s.Parent.Length == 0);
        foreach (var span in trace.Where(s => s.Parent.Length > 0))
        {
            Assert.True(known.TryGetValue(span.Parent, out var parent), span.Name);
            // No child begins before its parent, which a trace viewer would take for differing clocks.
            Assert.True(span.Start + 1_000_000 >= parent.Start, $"{span.Name} begins before {parent.Name}");
        }
    }
}
