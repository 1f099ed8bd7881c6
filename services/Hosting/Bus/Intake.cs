using System.Diagnostics;
using Microsoft.Extensions.Logging;
using Ministries.Ledger;
using Ministries.Ledger.V1;
using Ministries.Serving;

namespace Ministries.Hosting.Bus;

/// <summary>
/// Takes other services' events into this service's ledger: each event once, in the order of its producer, none left out. A
/// message is the fast way for an event to come, and the producer's ledger is the sure one. The numbers that an event carries tell
/// which events come before it. Missing events are read from the producer's ledger.
/// </summary>
internal sealed partial class Intake : SupervisedService
{
    private readonly Service _service;
    private readonly EventCommands _commands;
    private readonly MessageSeal _seal;
    private readonly TimeProvider _time;
    private readonly ILogger<Intake> _log;
    private readonly Dictionary<string, IntakeLane> _lanes;

    // A peer that can write to the broker can send any number of wrong messages, and each is delivered several times. So the log lines are
    // limited.
    private readonly FewLines<(string Reason, string Producer)> _lines;
    private volatile bool _stopped;

    public Intake(
        Service service,
        EventCommands commands,
        ReadEvents read,
        MessageSeal seal,
        BusOptions options,
        BusStatus status,
        TimeProvider time,
        ILogger<Intake> log
    )
        : base(log)
    {
        (_service, _commands, _seal, _time, _log) = (service, commands, seal, time, log);
        _lines = new(time, (kind, leftOut) => LogMore(log, service.Name, leftOut, kind.Producer, kind.Reason));
        _lanes = service
            .Reactions.GroupBy(r => r.Producer)
            .ToDictionary(
                group => group.Key,
                group => new IntakeLane(
                    service,
                    commands,
                    read,
                    options,
                    status,
                    time,
                    log,
                    _lines,
                    group.Key,
                    [.. group.Select(r => r.Event.FullName)]
                )
            );
    }

    /// <summary>Whether no message is in hand. Then this service is not the cause of a stalled endpoint.</summary>
    internal bool Idle => _lanes.Values.All(lane => lane.InHand == 0);

    /// <summary>How long messages have been in hand while no event had its effect; zero: none is in hand.</summary>
    internal TimeSpan Held => _lanes.Values.Select(lane => lane.Held).DefaultIfEmpty().Max();

    /// <summary>Gives the messages that are in hand now back to the broker.</summary>
    internal void GiveBack()
    {
        foreach (var lane in _lanes.Values)
            lane.GiveBack();
    }

    /// <summary>Takes a message; returns when its effect is durable, or when it was set aside as a dead letter.</summary>
    /// <exception cref="OperationCanceledException">The service stops: the broker keeps the message.</exception>
    /// <exception cref="InvalidDataException">The message does not bear its producer's signature, or the producer's ledger does not
    /// have the event.</exception>
    internal async Task Take(EventMessage message)
    {
        if (_stopped || !_lanes.TryGetValue(message.Origin.Service, out var lane))
            throw new OperationCanceledException();
        if (!_seal.Bears(message))
        {
            Metrics.Rejected(Metrics.Forged);
            if (_lines.Writes((Metrics.Forged, message.Origin.Service)))
                LogForged(_log, _service.Name, message.Type, message.Origin.Service);
            throw new InvalidDataException("the message does not bear its producer's signature");
        }
        if (Probe.AcknowledgeFirst)
            _ = Later();
        else
            await lane.Take(message);
        Probe.At("before-ack");

        async Task Later()
        {
            await Task.Delay(TimeSpan.FromSeconds(1), _time);
            await lane.Take(message);
        }
    }

    /// <summary>Processes a dead letter again. Returns why that failed; null: the event had its effect.</summary>
    internal async Task<string?> Replay(RecordedEvent recorded, CancellationToken cancel)
    {
        // The span belongs to the event's own trace and is linked to the operator's call.
        var links = Activity.Current is { } call ? [new ActivityLink(call.Context)] : Array.Empty<ActivityLink>();
        return _commands.Handles(recorded.Event.Type) ? await _commands.Replay(recorded, links, cancel) : "UNKNOWN_TYPE";
    }

    /// <inheritdoc/>
    protected override Task Work(CancellationToken stop) =>
        Together(_lanes.Values.Select(lane => (Func<CancellationToken, Task>)lane.Run), stop);

    /// <inheritdoc/>
    protected override Task Ended()
    {
        _stopped = true;
        foreach (var lane in _lanes.Values)
            lane.Abandon();
        return Task.CompletedTask;
    }

    /// <inheritdoc/>
    public override void Dispose()
    {
        _lines.Dispose();
        base.Dispose();
    }

    [LoggerMessage(9, LogLevel.Error, "{Service} gave back {Count} more messages in the name of {Producer} without a log line: {Reason}")]
    private static partial void LogMore(ILogger log, string service, long count, string producer, string reason);

    [LoggerMessage(6, LogLevel.Error, "{Service} gave back a message of type {Type} that does not bear the signature of {Producer}")]
    private static partial void LogForged(ILogger log, string service, string type, string producer);
}
