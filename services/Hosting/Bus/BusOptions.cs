using System.Collections.Concurrent;
using Ministries.Ledger.V1;

namespace Ministries.Hosting.Bus;

/// <summary>How a service is bound to the others, and the limits on it.</summary>
public sealed record BusOptions
{
    /// <summary>The broker: <c>amqp://user:password@host:port/vhost</c>, <c>amqps://</c>, or <c>memory:</c> for one process.
    /// </summary>
    public required Uri Broker { get; init; }

    /// <summary>Further nodes of the broker's cluster, tried in turn when one cannot be reached. User, password and virtual host are those
    /// of <see cref="Broker"/>.</summary>
    public IReadOnlyList<Uri> FurtherBrokers { get; init; } = [];

    /// <summary>All nodes of the broker.</summary>
    internal IReadOnlyList<Uri> Brokers => [Broker, .. FurtherBrokers];

    /// <summary>File of the authority that vouches for the broker's certificate (PEM); null: those of the system.</summary>
    public string? BrokerAuthority { get; init; }

    /// <summary>The greatest number of messages that are published and not confirmed, 1 to 64.</summary>
    public int PublishWindow { get; init; } = 64;

    /// <summary>How long the broker may take to confirm one message.</summary>
    public TimeSpan PublishDeadline { get; init; } = TimeSpan.FromSeconds(10);

    /// <summary>How long a message that no queue receives any more is sent again. After that, consumers read its events from the
    /// ledger.</summary>
    public TimeSpan ReturnPatience { get; init; } = TimeSpan.FromSeconds(10);

    /// <summary>The number of unpublished events past which writes are refused (RESOURCE_EXHAUSTED), but for
    /// <see cref="OwnBacklog"/>.</summary>
    public ulong MaxBacklog { get; init; } = 100_000;

    /// <summary>How many writes of each participant a replica still takes while the backlog is past <see cref="MaxBacklog"/>, so that a
    /// participant that fills it silences no other: 1,000.</summary>
    public int OwnBacklog { get; init; } = 1_000;

    /// <summary>How many messages, each of up to 256 events, a consumer has in hand at once.</summary>
    public ushort Prefetch { get; init; } = 64;

    /// <summary>The greatest number of commands of one producer's events that wait for their commit at once: two of the ledger's
    /// batches, so that one is ready when the other is committed.</summary>
    public int CommitWindow { get; init; } = 512;

    /// <summary>How often an event is tried before it becomes a dead letter. An attempt does not count where something is only out of
    /// reach: the database is waited for without limit, another service for up to <see cref="AskPatience"/>.</summary>
    public int Attempts { get; init; } = 5;

    /// <summary>How long to wait before something is tried again, the first time; doubled each time.</summary>
    public TimeSpan FirstDelay { get; init; } = TimeSpan.FromMilliseconds(100);

    /// <summary>The longest wait before something is tried again.</summary>
    public TimeSpan MaxDelay { get; init; } = TimeSpan.FromSeconds(2);

    /// <summary>How long one question to another service on behalf of an event may take.</summary>
    public TimeSpan AskDeadline { get; init; } = TimeSpan.FromSeconds(10);

    /// <summary>How long an event waits for an answer of a service that cannot be asked, before its reaction decides without one. Events
    /// behind it do not wait again: each asks once, for a tenth of <see cref="AskDeadline"/>, until a question is answered.</summary>
    public TimeSpan AskPatience { get; init; } = TimeSpan.FromSeconds(60);

    /// <summary>How long an event waits for missing earlier events to arrive by themselves. After that, they are read from the producer's
    /// ledger.</summary>
    public TimeSpan GapPatience { get; init; } = TimeSpan.FromMilliseconds(300);

    /// <summary>How often the producers' ledgers are asked for events whose messages never came.</summary>
    public TimeSpan FillInterval { get; init; } = TimeSpan.FromSeconds(5);

    /// <summary>How old an event must be before it is read from the producer's ledger without a sign that its message was lost.</summary>
    public TimeSpan FillAge { get; init; } = TimeSpan.FromSeconds(3);

    /// <summary>How often the broker delivers a message again before it sets it aside.</summary>
    public int DeliveryLimit { get; init; } = 20;

    /// <summary>How long the service keeps messages in hand of which it can take in no event, before it gives all of them back by ending
    /// its connection, so that another replica receives them. Doubled each time up to <see cref="LongestHold"/>, since the broker counts
    /// deliveries (<see cref="DeliveryLimit"/>).</summary>
    public TimeSpan HoldPatience { get; init; } = TimeSpan.FromSeconds(10);

    /// <summary>The longest such time.</summary>
    public TimeSpan LongestHold { get; init; } = TimeSpan.FromMinutes(5);

    /// <summary>How often exchanges and bindings are declared again, because somebody may have removed them. Sooner than
    /// <see cref="ReturnPatience"/>, so that a removed binding loses no message.</summary>
    public TimeSpan DeclareInterval { get; init; } = TimeSpan.FromSeconds(5);

    /// <summary>How often due duties are looked for.</summary>
    public TimeSpan DutyInterval { get; init; } = TimeSpan.FromSeconds(5);

    /// <summary>How often a canary is sent.</summary>
    public TimeSpan CanaryInterval { get; init; } = TimeSpan.FromSeconds(1);

    /// <summary>How long no canary may come back before the broker counts as not ready.</summary>
    public TimeSpan CanaryDeadline { get; init; } = TimeSpan.FromSeconds(4);

    /// <summary>How long it may take to connect and to declare the topology, before it is tried again.</summary>
    public TimeSpan StartDeadline { get; init; } = TimeSpan.FromSeconds(10);

    /// <summary>How long the client may stall while the broker takes and delivers messages over another connection, before a new client is
    /// made.</summary>
    public TimeSpan RenewAfter { get; init; } = TimeSpan.FromSeconds(3);

    /// <summary>How long a new client may stall while the broker takes and delivers messages over another connection, before the process
    /// ends.</summary>
    public TimeSpan EndAfter { get; init; } = TimeSpan.FromSeconds(18);

    /// <summary>Whether a stalled client ends the process at once when an orderly end takes too long. Services that share a process may
    /// switch this off.</summary>
    public bool EndsProcess { get; init; } = true;
}

/// <summary>Reads events from a producer's ledger (<c>LedgerService.ListEvents</c>).</summary>
/// <param name="producer">The producer's name.</param>
/// <param name="request">After which events.</param>
/// <param name="cancel">Cancels.</param>
public delegate Task<ListEventsResponse> ReadEvents(string producer, ListEventsRequest request, CancellationToken cancel);

/// <summary>The state of the service's relay, broker and duties, for health checks, limits on writes and operators.</summary>
public sealed class BusStatus(int ownBacklog)
{
    private readonly ConcurrentDictionary<string, DateTimeOffset> _waiting = new();
    private long _backlog;
    private long _sweep;
    private long _oldest;

    /// <summary>Whether the topology is declared and the broker takes and delivers messages: the last canary came back in time.
    /// </summary>
    public bool BrokerReady { get; internal set; }

    /// <summary>Why the broker does not take or deliver messages of this service although it answers, such as an alarm or a missing
    /// permission; null: no such reason is known.</summary>
    public string? BrokerObstacle { get; internal set; }

    /// <summary>The number of events that the relay has not handed to the broker yet.</summary>
    public ulong Backlog
    {
        get => (ulong)Interlocked.Read(ref _backlog);
        internal set => Interlocked.Exchange(ref _backlog, (long)value);
    }

    /// <summary>When the oldest event was committed that the relay has not handed to the broker yet; null: there is none.</summary>
    public DateTimeOffset? OldestUnpublished
    {
        get => TimeOf(ref _oldest);
        internal set => Interlocked.Exchange(ref _oldest, value?.UtcTicks ?? 0);
    }

    /// <summary>Whether so many events are unpublished that writes of participants are refused.</summary>
    public bool Overloaded
    {
        get => _overloaded;
        internal set
        {
            _overloaded = value;
            if (!value)
                _beyond.Clear();
        }
    }

    private volatile bool _overloaded;

    // How many writes of each participant were taken while the backlog was past its limit.
    private readonly ConcurrentDictionary<string, int> _beyond = new();

    /// <summary>Whether another write of a participant is taken.</summary>
    /// <param name="participant">The participant's id.</param>
    internal bool Takes(string participant) =>
        !_overloaded || _beyond.AddOrUpdate(participant, 1, (_, n) => Math.Min(n, ownBacklog) + 1) <= ownBacklog;

    /// <summary>Since when an event of another service cannot be taken in, because what it needs is out of reach or its rule fails; null:
    /// none waits.</summary>
    public DateTimeOffset? WaitingSince => _waiting.Values.Select(w => (DateTimeOffset?)w).Min();

    /// <summary>Notes that an event of a producer waits, from the first time on.</summary>
    internal void Waits(string producer, DateTimeOffset now) => _waiting.TryAdd(producer, now);

    /// <summary>Notes that an event of a producer was taken in.</summary>
    internal void Goes(string producer) => _waiting.TryRemove(producer, out _);

    /// <summary>When due duties were last looked for, or one that was found was last recorded; null: not yet.</summary>
    public DateTimeOffset? LastDutySweep
    {
        get => TimeOf(ref _sweep);
        internal set => Interlocked.Exchange(ref _sweep, value?.UtcTicks ?? 0);
    }

    private static DateTimeOffset? TimeOf(ref long ticks) =>
        Interlocked.Read(ref ticks) is var set and > 0 ? new DateTimeOffset(set, TimeSpan.Zero) : null;
}
