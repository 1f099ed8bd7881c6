using System.Collections.Concurrent;
using System.Diagnostics;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using Google.Protobuf;
using Grpc.Core;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Ministries.CallLog.V1;
using Ministries.Consular.V1;
using Ministries.Fixtures;
using Ministries.Hosting;
using Ministries.Hosting.Bus;
using Ministries.Ledger;
using Ministries.Ledger.V1;
using Ministries.Operations.V1;
using Ministries.Trust;

namespace Ministries.Bus.Tests;

/// <summary>Two services with only what the bus needs: a call log that publishes, and a consular service that notes what comes, in order.
/// Each has a ledger of its own in a temporary folder.</summary>
public sealed class BusFixture : IAsyncDisposable
{
    /// <summary>A state that is a list: every event that had its effect on it, in order.</summary>
    public static readonly StreamKind<CallLogged> Noted = new("noted", 1, (state, _, entry) => state.Prisoners.Add(entry.RequestId));

    /// <summary>What the call log keeps.</summary>
    public static readonly StreamKind<CallLogged> Calls = new("call", 1, (state, _, entry) => state.Call = entry.RequestId);

    private readonly string _folder = Directory.CreateTempSubdirectory("ministries-bus-").FullName;
    private readonly Dictionary<string, ServiceLedger> _ledgers = [];
    private readonly Dictionary<string, IHost> _hosts = [];
    private readonly BusOptions _options;
    private readonly MemoryBroker? _memory;
    private int _next;

    public BusFixture(Uri? broker, Func<BusOptions, BusOptions>? with = null)
    {
        _memory = broker is null ? new MemoryBroker() : null;
        _options = new BusOptions
        {
            Broker = broker ?? new Uri("memory:"),
            FillAge = TimeSpan.FromSeconds(2),
            EndsProcess = false,
        };
        _options = with?.Invoke(_options) ?? _options;
    }

    /// <summary>The broker's address with the user of a service; null: all use <see cref="Uri"/>.</summary>
    public Func<string, Uri>? BrokerOf { get; init; }

    /// <summary>Signs as every service of the fixture.</summary>
    internal MessageSeal Seal { get; init; } = NewSeal();

    /// <summary>How often a service commits by <see cref="Clock"/>.</summary>
    public static readonly TimeSpan Interval = TimeSpan.FromSeconds(1);

    /// <summary>The clock of one service, by which it commits at fixed times; null: that of the machine, and it commits at once.</summary>
    public SteppedClock? Clock { get; init; }

    /// <summary>Whose <see cref="Clock"/> is.</summary>
    public string Clocked { get; init; } = "consular";

    /// <summary>How many entries each of these commits has.</summary>
    public int Leaves { get; init; } = 8;

    /// <summary>What was logged as a warning or worse.</summary>
    public ConcurrentQueue<string> Warnings { get; } = [];

    /// <summary>The database of a service, which other replicas use too; null: each service has a file of its own.</summary>
    public Func<string, string>? DatabaseOf { get; init; }

    internal static MessageSeal NewSeal()
    {
        var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var certificate = new CertificateRequest("CN=services", key, HashAlgorithmName.SHA256).CreateSelfSigned(
            DateTimeOffset.UtcNow.AddDays(-1),
            DateTimeOffset.UtcNow.AddDays(1)
        );
        var context = System.Net.Security.SslStreamCertificateContext.Create(certificate, null, offline: true);
        return new MessageSeal(
            () => context,
            (_, shown, _) => shown.RawDataMemory.Span.SequenceEqual(certificate.RawData),
            TimeProvider.System,
            () => 1
        );
    }

    /// <summary>Where the broker is.</summary>
    public Uri Uri => _options.Broker;

    /// <summary>Decides on a call in the consular service; null: the call is noted.</summary>
    public Func<CallLogged, Refusal?>? OnCall { get; set; }

    /// <summary>Decides on an event in the consular service; null: as ever.</summary>
    public Func<IMessage, RuleContext, Decision?>? Decides { get; set; }

    /// <summary>The version of <see cref="Noted"/> that the consular service has.</summary>
    public StreamKind<CallLogged> NotedKind { get; set; } = Noted;

    /// <summary>What the consular service asks before it notes a readout.</summary>
    public Func<CancellationToken, Task>? OnAsk { get; set; }

    /// <summary>What the service that is asked answers; null: there was nothing to ask.</summary>
    public IMessage? Answer { get; set; } = new CallLogged();

    /// <summary>Whether the producer's ledger can be reached by gRPC.</summary>
    public bool LedgerReachable { get; set; } = true;

    /// <summary>Changes what the producer's ledger answers; null: it is as it is.</summary>
    public Action<RecordedEvent>? OnRead { get; set; }

    /// <summary>How often the producer's ledger was asked.</summary>
    public int Asked => Volatile.Read(ref _asked);

    private int _asked;

    /// <summary>After which call it was asked for the next ones last.</summary>
    public ulong AskedAfter => Volatile.Read(ref _askedAfter);

    private ulong _askedAfter;

    /// <summary>The duties of the call log, by their record's due time.</summary>
    public IReadOnlyList<Duty> Duties { get; set; } = [];

    public IReadOnlyList<StreamKind> MoreStreams { get; set; } = [];

    public Service CallLog =>
        new()
        {
            Name = "calllog",
            Streams = [Calls, .. MoreStreams],
            Map = _ => { },
            Duties = Duties,
        };

    public Service Consular =>
        new()
        {
            Name = "consular",
            Streams = [NotedKind],
            Map = _ => { },
            Reactions =
            [
                Reaction.To<CallLogged>(
                    "calllog",
                    (e, context) =>
                        Decides?.Invoke(e, context) is { } decision ? decision
                        : OnCall?.Invoke(e) is { } refusal ? refusal
                        : Note(e.Case, e.Call, context)
                ),
                Reaction.To<ReadoutSubmitted>(
                    "calllog",
                    (e, context) => Decides?.Invoke(e, context) is { } decision ? decision : Note(e.Case, e.Call, context),
                    async (_, _, cancel) =>
                    {
                        if (OnAsk is { } ask)
                            await ask(cancel);
                        return Answer;
                    },
                    e => e.Call
                ),
            ],
        };

    /// <summary>The events that the consumer set aside and nobody has settled.</summary>
    public async Task<IReadOnlyList<DeadLetter>> OpenLetters() =>
        [
            .. (
                await (await Ledger(Consular)).List(
                    DeadLetters.Kind,
                    [DeadLetters.Open],
                    null,
                    0,
                    10,
                    TestContext.Current.CancellationToken
                )
            ).Select(l => l.State),
        ];

    public async Task<ServiceLedger> Ledger(Service service)
    {
        if (_ledgers.TryGetValue(service.Name, out var ledger))
            return ledger;
        var checkpoint = Path.Combine(_folder, service.Name + ".checkpoint");
        return _ledgers[service.Name] = await ServiceLedger.Open(
            new LedgerOptions
            {
                Service = service.Name,
                Kinds = [.. service.Streams, .. BusRegistration.Streams],
                Connection = DatabaseOf?.Invoke(service.Name) ?? $"sqlite:{Path.Combine(_folder, service.Name + ".db")}",
                LeadTime = TimeSpan.FromSeconds(2),
                CheckpointFile = checkpoint,
                Heard = DatabaseOf is null ? [] : await Ask(service, checkpoint),
                Key = CheckpointKey.FromSeed($"ministries.example/{service.Name}", new byte[32]),
                Time = TimeOf(service),
                // A test's clock does not agree with the database's.
                ComparesDatabaseClock = TimeOf(service) != Clock,
                CoverInterval = TimeOf(service) == Clock ? Interval : default,
                CoverLeaves = Leaves,
            },
            CancellationToken.None
        );
    }

    private async Task<IReadOnlyList<HeardCheckpoint>> Ask(Service service, string checkpoint)
    {
        using var patience = new CancellationTokenSource(StartInquiry.Patience);
        var key = CheckpointKey.FromSeed($"ministries.example/{service.Name}", new byte[32]);
        return (
            await StartInquiry.AskReplicas(
                service,
                _options,
                ServiceLedger.KnownIn(checkpoint),
                note => (key.Verify(note), true),
                patience.Token
            )
        ).Heard;
    }

    /// <summary>Ends a service and closes its ledger, as a process that ends.</summary>
    public async Task Close(Service service)
    {
        await Stop(service);
        if (_ledgers.Remove(service.Name, out var ledger))
            await ledger.DisposeAsync();
    }

    private TimeProvider TimeOf(Service service) => service.Name == Clocked && Clock is not null ? Clock : TimeProvider.System;

    public async Task<IHost> Start(Service service)
    {
        var ledger = await Ledger(service);
        var builder = Host.CreateEmptyApplicationBuilder(null);
        builder.Services.AddSingleton(service);
        builder.Services.AddSingleton(ledger);
        builder.Services.AddSingleton(TimeOf(service));
        builder.Services.AddSingleton<Lifecycle>();
        builder.Services.AddSingleton<ReadEvents>(Read);
        builder.Services.AddSingleton(Seal);
        var permissions = new Permissions(StandardAgreement.Read());
        builder.Services.AddSingleton<Func<Permissions>>(() => permissions);
        builder.Services.AddBus(BrokerOf is { } of ? _options with { Broker = of(service.Name) } : _options, _memory);
        builder.Logging.AddProvider(new Heard(Warnings));
        if (Environment.GetEnvironmentVariable("BUS_LOG") is not null)
            builder.Logging.AddSimpleConsole(o => o.SingleLine = true);
        var host = builder.Build();
        await host.StartAsync();
        _hosts[service.Name] = host;
        return host;
    }

    public async Task<IHost> StartReady(Service service)
    {
        var host = await Start(service);
        await Until(() => Status(service).BrokerReady, "the broker is ready");
        return host;
    }

    /// <summary>Starts both services, the consumer first, and returns when both reach the broker.</summary>
    public async Task StartBoth()
    {
        await StartReady(Consular);
        await StartReady(CallLog);
    }

    /// <summary>Restarts a service that ended because its broker client stalled, as a supervisor does.</summary>
    public async Task Supervise(Service service)
    {
        if (HostOf(service).Services.GetRequiredService<Lifecycle>().ExitCode != ServiceHost.Stalled)
            return;
        await Stop(service);
        await Start(service);
    }

    public BusStatus Status(Service service) => _hosts[service.Name].Services.GetRequiredService<BusStatus>();

    public IHost HostOf(Service service) => _hosts[service.Name];

    /// <summary>Stops a service; its ledger stays open, as another process's would be.</summary>
    public async Task Stop(Service service)
    {
        if (!_hosts.Remove(service.Name, out var host))
            return;
        await host.StopAsync();
        host.Dispose();
    }

    /// <summary>Commits a call to the call log's ledger, as a participant's write would.</summary>
    public Task<string> Log(string traceParent = "") => Publish(call => new CallLogged { Case = "case_1", Call = call }, traceParent);

    /// <summary>Commits a readout.</summary>
    public Task<string> Submit() => Publish(call => new ReadoutSubmitted { Case = "case_1", Call = call });

    public async Task<string> Publish(Func<string, IMessage> make, string traceParent = "")
    {
        var id = $"call-{Interlocked.Increment(ref _next):000000}";
        var e = make(id);
        var outcome = await (await Ledger(CallLog)).Commit(
            new Command
            {
                Participant = "kr/mfa",
                RequestId = id,
                Method = "test",
                Request = e,
                Bytes = e.ToByteArray(),
                AgreementVersion = 1,
                TraceParent = traceParent,
                Decide = (view, _) =>
                {
                    view.Find(Calls, id);
                    return Decision.Accept("case_1", [], [new Change(e, [Calls.Id(id)])]);
                },
            },
            TestContext.Current.CancellationToken
        );
        return $"calllog/{outcome.Position}/0";
    }

    /// <summary>The events that had their effect in the consular service, in order.</summary>
    public async Task<IReadOnlyList<string>> Effects() =>
        [.. (await (await Ledger(Consular)).Find(NotedKind, "all", null, TestContext.Current.CancellationToken))?.State.Prisoners ?? []];

    public async Task UntilEffects(params IReadOnlyList<string> expected)
    {
        IReadOnlyList<string> seen = [];
        await Until(
            async () => (seen = await Effects()).Count >= expected.Count,
            () => $"{expected.Count} effects, there are {seen.Count}",
            60
        );
        Assert.Equal(expected, seen);
    }

    public static Task Until(Func<bool> condition, string what, int seconds = 40) =>
        Until(() => Task.FromResult(condition()), () => what, seconds);

    public static async Task Until(Func<Task<bool>> condition, Func<string> what, int seconds = 40)
    {
        var since = Stopwatch.StartNew();
        while (!await condition())
        {
            if (since.Elapsed > TimeSpan.FromSeconds(seconds))
                Assert.Fail($"not within {seconds} s: {what()}");
            await Task.Delay(20, TestContext.Current.CancellationToken);
        }
    }

    public async Task<ListEventsResponse> Read(string producer, ListEventsRequest request, CancellationToken cancel)
    {
        Interlocked.Increment(ref _asked);
        Volatile.Write(ref _askedAfter, request.After.FirstOrDefault(a => a.Type == CallLogged.Descriptor.FullName)?.Sequence ?? 0);
        if (!LedgerReachable)
            throw new RpcException(new Status(StatusCode.Unavailable, ""));
        var size = request.PageSize == 0 ? 200 : request.PageSize;
        var events = await _ledgers[producer].EventsAfter(request.After.ToDictionary(a => a.Type, a => a.Sequence), size, cancel);
        var response = new ListEventsResponse { Complete = events.Count < size };
        response.Events.AddRange(events.Select(e => e.Event.Clone()));
        foreach (var recorded in response.Events)
            OnRead?.Invoke(recorded);
        return response;
    }

    /// <summary>Commits what begins a record of a kind, whose state then says when it is due.</summary>
    public static Task Begin(ServiceLedger ledger, StreamKind<CallLogged> kind, string key, string requestId)
    {
        var begun = new CallLogged { Case = "case_1", Call = key };
        return ledger.Commit(
            new Command
            {
                Participant = "kr/mfa",
                RequestId = requestId,
                Method = "test",
                Request = begun,
                Bytes = begun.ToByteArray(),
                AgreementVersion = 1,
                Decide = (view, _) =>
                {
                    view.Find(kind, key);
                    return Decision.Accept("case_1", [], [new Change(begun, [kind.Id(key)])]);
                },
            },
            TestContext.Current.CancellationToken
        );
    }

    public async ValueTask DisposeAsync()
    {
        foreach (var host in _hosts.Values)
        {
            await host.StopAsync();
            host.Dispose();
        }
        if (_memory is not null)
            await _memory.DisposeAsync();
        var closed = Task.WhenAll(_ledgers.Values.Select(l => l.DisposeAsync().AsTask()));
        // After a test that fails, commands may wait for their time.
        while (Clock is not null && !closed.IsCompleted)
        {
            Clock.Step(Interval);
            await Task.WhenAny(closed, Task.Delay(20));
        }
        await closed;
        Directory.Delete(_folder, recursive: true);
    }

    /// <summary>Notes an event in a record.</summary>
    public static Decision Note(
        string @case,
        string call,
        RuleContext context,
        string record = "all",
        params IReadOnlyList<string> audience
    )
    {
        context.Find(Noted, record);
        return Decision.Accept(
            @case,
            audience,
            [new Change(new TransferRequestDrafted { Case = @case, Transfer = call }, [Noted.Id(record)])]
        );
    }
}
