using System.Collections.Concurrent;
using System.Collections.Frozen;
using System.Diagnostics;
using System.Diagnostics.Metrics;
using System.Runtime.CompilerServices;
using System.Security.Cryptography.X509Certificates;
using System.Text.Json;
using Grpc.Core;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Connections.Features;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.Extensions.Logging;
using Ministries.Hosting.Bus;
using Ministries.Ledger;
using Ministries.Ledger.V1;
using Ministries.Serving;
using Ministries.Trust;
using Ministries.Types.V1;
using OpenTelemetry.Metrics;
using Counters = System.Diagnostics.Metrics.Counter<long>;

namespace Ministries.Hosting;

/// <summary>What a service counts and measures, and where Prometheus reads it. No label names a case, a record, a request or a person
/// (D16): every label is one of <see cref="Labels"/>, each of which has values known beforehand.</summary>
public static class Metrics
{
    /// <summary>The labels that may leave the process; every other label is removed, whoever attached it.</summary>
    public static readonly FrozenSet<string> Labels = FrozenSet.Create(
        // An RPC of the contracts; the outcome of a call: OK, a refusal's reason, or a gRPC status.
        "rpc.method",
        "outcome",
        // Why something was refused, given back or failed: one of an enumeration.
        "reason",
        // The service whose events are meant; the kind of record; own or authority; a participant of the agreement.
        "producer",
        "kind",
        "certificate",
        "participant",
        // Of the runtime and the web server.
        "gc.heap.generation",
        "cpu.mode"
    );

    /// <summary>The path at which metrics are served.</summary>
    public const string Path = "/metrics";

    // Counted here and read by an observable counter, because a counter looks its labels up with each addition. It is static like all
    // instruments here, because metrics are exported for a process, and a process runs one service. Where several share a process, as in
    // tests, their counts are added up.
    private static readonly ConcurrentDictionary<(string Method, string Outcome), StrongBox<long>> Calls = new();

    private static readonly ObservableCounter<long> CallsByOutcome = Measures.Meter.CreateObservableCounter(
        "ministries.calls",
        () =>
            Calls.Select(c => new Measurement<long>(
                Volatile.Read(ref c.Value.Value),
                Tag("rpc.method", c.Key.Method),
                Tag("outcome", c.Key.Outcome)
            )),
        "{call}",
        "Calls by RPC and outcome."
    );

    private static readonly Histogram<double> CallDurations = Measures.Meter.CreateHistogram(
        "ministries.call.duration",
        "s",
        "Duration of calls that are not streams.",
        advice: Measures.Times
    );

    private static readonly Counters RefusalCount = Measures.Meter.CreateCounter<long>(
        "ministries.refusals",
        "{call}",
        "Refused calls by reason."
    );

    private static readonly Counters Faults = Measures.Meter.CreateCounter<long>(
        "ministries.faults",
        "{call}",
        "Calls that a fault of the software ended."
    );

    private static readonly Counters RepeatedRequests = Measures.Meter.CreateCounter<long>(
        "ministries.requests.repeated",
        "{call}",
        "Repeated requests, which got their earlier answer again."
    );

    private static readonly Histogram<double> RelayLags = Measures.Meter.CreateHistogram(
        "ministries.relay.lag",
        "s",
        "From an event's commit until the broker confirmed it.",
        advice: Measures.Times
    );

    private static readonly Counters PublishFailures = Measures.Meter.CreateCounter<long>(
        "ministries.relay.failures",
        "{message}",
        "Messages that the broker did not confirm; they are sent again."
    );

    private static readonly Histogram<double> IntakeLags = Measures.Meter.CreateHistogram(
        "ministries.intake.lag",
        "s",
        "From an event's commit by its producer until it is taken in here.",
        advice: Measures.Times
    );

    private static readonly Counters FilledEvents = Measures.Meter.CreateCounter<long>(
        "ministries.events.filled",
        "{event}",
        "Events that no message brought, so that they were read from their producer's ledger."
    );

    private static readonly Counters Redeliveries = Measures.Meter.CreateCounter<long>(
        "ministries.messages.redelivered",
        "{message}",
        "Messages that the broker delivered again."
    );

    private static readonly Counters Rejections = Measures.Meter.CreateCounter<long>(
        "ministries.messages.rejected",
        "{message}",
        "Messages given back: not signed by their producer, or not in its ledger."
    );

    private static readonly Counters SetAsideEvents = Measures.Meter.CreateCounter<long>(
        "ministries.events.set_aside",
        "{event}",
        "Events that could not be processed and became dead letters."
    );

    private static readonly Counters FallenDuties = Measures.Meter.CreateCounter<long>(
        "ministries.duties.fell_due",
        "{record}",
        "Duties that fell due unmet, by kind of record."
    );

    private static readonly Counters RejectedConnections = Measures.Meter.CreateCounter<long>(
        "ministries.connections.rejected",
        "{connection}",
        "Connections that were refused or closed, by reason."
    );

    internal const string Forged = "forged",
        NotInLedger = "not_in_ledger";

    // A counter is reported as 0 before its first increase, because Prometheus sees an increase only between two values.
    internal static void Begin(Service service)
    {
        foreach (var reason in Reasons.All)
            RefusalCount.Add(0, Tag("reason", Reasons.NameOf(reason)));
        foreach (var why in Enum.GetValues<Rejection>())
            RejectedConnections.Add(0, Tag("reason", NameOf(why)));
        foreach (var reason in (string[])[Forged, NotInLedger])
            Rejections.Add(0, Tag("reason", reason));
        foreach (var counter in (Counters[])[Faults, RepeatedRequests, PublishFailures, Redeliveries])
            counter.Add(0);
        foreach (var producer in service.Reactions.Select(r => r.Producer).Distinct())
        {
            SetAsideEvents.Add(0, Tag("producer", producer));
            FilledEvents.Add(0, Tag("producer", producer));
        }
        foreach (var duty in service.Duties)
            FallenDuties.Add(0, Tag("kind", duty.Kind.Name));
    }

    internal static void Repeated() => RepeatedRequests.Add(1);

    internal static void Published(RecordedEvent recorded, DateTimeOffset now) => Lag(RelayLags, recorded, now);

    internal static void NotPublished() => PublishFailures.Add(1);

    internal static void TakenIn(RecordedEvent recorded, DateTimeOffset now) =>
        Lag(IntakeLags, recorded, now, Tag("producer", recorded.Origin.Service));

    internal static void Filled(string producer, int count) => FilledEvents.Add(count, Tag("producer", producer));

    internal static void Redelivered() => Redeliveries.Add(1);

    internal static void Rejected(string reason) => Rejections.Add(1, Tag("reason", reason));

    internal static void Rejected(Rejection why) => RejectedConnections.Add(1, Tag("reason", NameOf(why)));

    internal static string NameOf(Rejection why) => RejectionNames[(int)why];

    private static readonly string[] RejectionNames = [.. Enum.GetNames<Rejection>().Select(JsonNamingPolicy.SnakeCaseLower.ConvertName)];

    internal static void SetAside(string producer) => SetAsideEvents.Add(1, Tag("producer", producer));

    internal static void FellDue(string kind) => FallenDuties.Add(1, Tag("kind", kind));

    private static void Lag(
        Histogram<double> lags,
        RecordedEvent recorded,
        DateTimeOffset now,
        params ReadOnlySpan<KeyValuePair<string, object?>> tags
    )
    {
        if (recorded.CommittedAt() is { } then)
            lags.Record(Math.Max(0, (now - then).TotalSeconds), tags);
    }

    internal static KeyValuePair<string, object?> Tag(string name, string value) => new(name, value);

    /// <summary>Selects the meters that are exported and the labels that they keep.</summary>
    internal static MeterProviderBuilder Read(MeterProviderBuilder metrics) =>
        metrics
            .AddMeter(Measures.Name, "System.Runtime", "Microsoft.AspNetCore.Server.Kestrel")
            .AddView(instrument =>
                instrument.Meter.Name == Measures.Name || Foreign.Contains(instrument.Name)
                    ? new MetricStreamConfiguration { TagKeys = [.. Labels], CardinalityLimit = 2000 }
                    : MetricStreamConfiguration.Drop
            );

    // The metrics of the runtime and the web server that an operator needs.
    private static readonly FrozenSet<string> Foreign = FrozenSet.Create(
        "dotnet.process.cpu.time",
        "dotnet.process.memory.working_set",
        "dotnet.gc.collections",
        "dotnet.gc.pause.time",
        "dotnet.gc.last_collection.heap.size",
        "dotnet.exceptions",
        "kestrel.active_connections",
        "kestrel.queued_requests",
        "kestrel.tls_handshake.duration"
    );

    /// <summary>Serves metrics at a listener of their own, which serves nothing else. It must come first in the pipeline.</summary>
    internal static void UseMetrics(this WebApplication host, Settings settings)
    {
        if (settings.Metrics is not null)
            host.MapWhen(
                IsScrape,
                scraped =>
                {
                    scraped.UseOpenTelemetryPrometheusScrapingEndpoint(http => http.Request.Path == Path);
                    scraped.Run(http =>
                    {
                        http.Response.StatusCode = StatusCodes.Status404NotFound;
                        return Task.CompletedTask;
                    });
                }
            );
    }

    /// <summary>How many connections the listener for metrics may have: 16. For one more, the oldest is closed.</summary>
    private const int MaxConnections = 16;

    /// <summary>Marks the connections of the listener for metrics, HTTP/1.1 without TLS, and limits how many there are.</summary>
    internal static void ForMetrics(this ListenOptions listen)
    {
        listen.Protocols = HttpProtocols.Http1;
        listen.Use(new StrangersLimit(MaxConnections, MaxConnections).Hold);
        listen.Use(next =>
            connection =>
            {
                connection.Items[typeof(Metrics)] = true;
                return next(connection);
            }
        );
    }

    /// <summary>Whether the request came to the listener for metrics.</summary>
    internal static bool IsScrape(HttpContext http) =>
        http.Features.Get<IConnectionItemsFeature>()?.Items.ContainsKey(typeof(Metrics)) == true;

    /// <summary>Counts a call that has ended.</summary>
    /// <param name="call">The call.</param>
    /// <param name="http">Its request.</param>
    /// <param name="status">The status that was answered; null: none was.</param>
    /// <param name="began">When it began, as a timestamp of <see cref="Stopwatch"/>.</param>
    internal static void Count(EdgeCall call, HttpContext http, StatusCode? status, long began)
    {
        var refused = call.Refused is { } refusal ? Refusals.NameOf(refusal.Reason) : null;
        var outcome =
            refused
            ?? Refusals.NameOf(
                status == StatusCode.OK ? StatusCode.OK
                : http.RequestAborted.IsCancellationRequested ? StatusCode.Cancelled
                : status ?? OfHttp(call, http.Response.StatusCode)
            );
        var name = Tag("rpc.method", call.Name);
        Interlocked.Increment(ref Calls.GetOrAdd((call.Name, outcome), static _ => new()).Value);
        if (outcome is "INTERNAL" or "UNKNOWN")
            Faults.Add(1);
        if (refused is not null)
            RefusalCount.Add(1, Tag("reason", refused));
        if (!call.Streams)
            CallDurations.Record(Stopwatch.GetElapsedTime(began).TotalSeconds, name);
    }

    // The outcome of a request that is no RPC: for a file of the log, or for a path that is not served.
    private static StatusCode OfHttp(EdgeCall call, int status) =>
        status switch
        {
            _ when call.Rpc is not null => StatusCode.Unknown,
            < 400 => StatusCode.OK,
            StatusCodes.Status404NotFound => StatusCode.NotFound,
            StatusCodes.Status503ServiceUnavailable => StatusCode.Unavailable,
            < 500 => StatusCode.InvalidArgument,
            _ => StatusCode.Unknown,
        };
}

/// <summary>The gauges of a service. Those that need the database, such as dead letters and due duties, are read every few seconds; the
/// others when metrics are collected.</summary>
internal sealed class Vitals : SupervisedService
{
    private static readonly TimeSpan Interval = TimeSpan.FromSeconds(5);

    private readonly ServiceLedger _ledger;
    private readonly BusStatus _bus;
    private readonly Agreements _agreements;
    private readonly TimeProvider _time;
    private readonly Meter _meter = new(Measures.Name);
    private readonly long _started = Stopwatch.GetTimestamp();
    private (ParsedAgreement Agreement, IReadOnlyList<(string Participant, DateTimeOffset End)> Ends)? _authorities;
    private volatile bool _database = true;
    private long _deadLetters;
    private long _due;

    public Vitals(
        Service service,
        ServiceLedger ledger,
        BusStatus bus,
        Lifecycle life,
        Agreements agreements,
        Credentials credentials,
        TimeProvider time,
        ILogger<Vitals> log
    )
        : base(log)
    {
        (_ledger, _bus, _agreements, _time) = (ledger, bus, agreements, time);
        Metrics.Begin(service);
        ObserveReadiness(life);
        ObserveWaiting();
        ObserveTrust(credentials);
    }

    private void Gauge(string name, string? unit, string description, Func<double> value) =>
        _meter.CreateObservableGauge(name, value, unit, description);

    /// <summary>What the service needs to serve calls.</summary>
    private void ObserveReadiness(Lifecycle life)
    {
        Gauge("ministries.ready", null, "1 where a call would be served in full, else 0.", () => life.Ready ? 1 : 0);
        Gauge(
            "ministries.database.reachable",
            null,
            "1 where the ledger's database answered when it was asked last, else 0.",
            () => _database ? 1 : 0
        );
        Gauge(
            "ministries.broker.reachable",
            null,
            "1 where test messages come back through the broker, else 0.",
            () => _bus.BrokerReady ? 1 : 0
        );
        Gauge(
            "ministries.broker.refusing",
            null,
            "1 where the broker answers and takes no messages, because of an alarm or a missing permission, else 0.",
            () => _bus.BrokerObstacle is null ? 0 : 1
        );
    }

    /// <summary>The ledger, and what waits to be written, sent, taken in or done.</summary>
    private void ObserveWaiting()
    {
        Gauge("ministries.ledger.size", "{entry}", "Entries of the ledger.", () => _ledger.Size);
        Gauge("ministries.queue.length", "{command}", "Commands that wait for their commit.", () => _ledger.QueueLength);
        Gauge(
            "ministries.cover.interval",
            "s",
            "How often the ledger commits, so that its size tells nothing; 0: whenever there is something to record.",
            () => _ledger.CoverInterval.TotalSeconds
        );
        Gauge("ministries.relay.backlog", "{event}", "Events that the broker has not got yet.", () => _bus.Backlog);
        Gauge(
            "ministries.relay.oldest.age",
            "s",
            "Age of the oldest event that the broker has not got yet; 0: it has all.",
            () => Since(_bus.OldestUnpublished)
        );
        Gauge(
            "ministries.intake.waiting.age",
            "s",
            "How long an event of another service has waited to be taken in; 0: none waits.",
            () => Since(_bus.WaitingSince)
        );
        Gauge(
            "ministries.dead.letters",
            "{event}",
            "Events that could not be processed and wait for an operator.",
            () => Interlocked.Read(ref _deadLetters)
        );
        Gauge("ministries.duties.due", "{record}", "Duties that are due and not recorded yet.", () => Interlocked.Read(ref _due));
        Gauge(
            "ministries.duties.sweep.age",
            "s",
            "Time since due duties were last looked for; if they never were, time since the start.",
            () =>
                _bus.LastDutySweep is { } last
                    ? Math.Max(0, (_time.GetUtcNow() - last).TotalSeconds)
                    : Stopwatch.GetElapsedTime(_started).TotalSeconds
        );
    }

    /// <summary>The agreement and the certificates.</summary>
    private void ObserveTrust(Credentials credentials)
    {
        Gauge(
            "ministries.agreement.version",
            null,
            "The version of the agreement that is in force here.",
            () => _agreements.IsInForce ? _agreements.InForce.Permissions.Agreement.Version : 0
        );
        _meter.CreateObservableGauge(
            "ministries.certificate.remaining",
            () => Ends(credentials),
            "s",
            "Time until a certificate ends: the service's own, and of each participant's authorities the one that ends last."
        );
    }

    /// <inheritdoc/>
    protected override async Task Work(CancellationToken stop)
    {
        using var timer = new PeriodicTimer(Interval);
        do try
        {
            using var late = CancellationTokenSource.CreateLinkedTokenSource(stop);
            late.CancelAfter(Interval);
            var letters = await _ledger.Count(DeadLetters.Kind, [DeadLetters.Open], late.Token);
            var due = await _ledger.CountDue(_time.GetUtcNow(), late.Token);
            Interlocked.Exchange(ref _deadLetters, (long)letters);
            Interlocked.Exchange(ref _due, (long)due);
            _database = true;
        }
        catch (Exception) when (!stop.IsCancellationRequested)
        {
            // Any failure is reported as a database that does not answer. The previous numbers stay.
            _database = false;
        }
        while (await timer.WaitForNextTickAsync(stop));
    }

    public override void Dispose()
    {
        _meter.Dispose();
        base.Dispose();
    }

    private double Since(DateTimeOffset? then) => then is { } since ? Math.Max(0, (_time.GetUtcNow() - since).TotalSeconds) : 0;

    private List<Measurement<double>> Ends(Credentials credentials)
    {
        var now = _time.GetUtcNow();
        var ends = new List<Measurement<double>>
        {
            new((credentials.Certificate.NotAfter.ToUniversalTime() - now).TotalSeconds, Metrics.Tag("certificate", "own")),
        };
        if (!_agreements.IsInForce)
            return ends;
        var agreement = _agreements.InForce;
        if (_authorities is not { } known || !ReferenceEquals(known.Agreement, agreement))
            _authorities = known = (agreement, [.. agreement.Permissions.Agreement.Participants.SelectMany(EndOf)]);
        ends.AddRange(
            known.Ends.Select(e => new Measurement<double>(
                (e.End - now).TotalSeconds,
                Metrics.Tag("certificate", "authority"),
                Metrics.Tag("participant", e.Participant)
            ))
        );
        return ends;
    }

    private static IEnumerable<(string Participant, DateTimeOffset End)> EndOf(Participant participant)
    {
        List<DateTimeOffset> ends = [];
        foreach (var pem in participant.AuthorityCertificates)
        {
            using var certificate = X509Certificate2.CreateFromPem(pem);
            ends.Add(certificate.NotAfter.ToUniversalTime());
        }
        return ends.Count == 0 ? [] : [(participant.Id, ends.Max())];
    }
}
