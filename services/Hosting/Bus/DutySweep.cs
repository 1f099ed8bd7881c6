using System.Globalization;
using Google.Protobuf;
using Microsoft.Extensions.Logging;
using Ministries.Errors.V1;
using Ministries.Ledger;
using Ministries.Serving;
using Cause = Ministries.Ledger.V1.Cause;

namespace Ministries.Hosting.Bus;

/// <summary>Finds duties that fell due and records each with a command of the service itself. The request id is the stream and the due
/// time, so several replicas may do this and each duty is still recorded once. One that is restored, such as by a correction, falls due at
/// the same time again. Its request id has a number, too.</summary>
internal sealed partial class DutySweep(
    Service service,
    ServiceLedger ledger,
    Func<Permissions> permissions,
    BusOptions options,
    BusStatus status,
    TimeProvider time,
    ILogger<DutySweep> log
) : SupervisedService(log)
{
    private enum Came
    {
        /// <summary>The duty is recorded or met, and no longer due.</summary>
        Settled,

        /// <summary>The duty stays due.</summary>
        Left,

        /// <summary>The duty stays due because something that all duties need is unavailable, such as the database.</summary>
        Away,
    }

    /// <summary>The method of the entries.</summary>
    internal const string Method = "duty";

    private const int Page = 200;

    // A duty that cannot be recorded is tried again at every sweep, so its log lines are limited.
    private readonly FewLines<(string Kind, string Why)> _lines = new(
        time,
        (kind, leftOut) => LogMore(log, service.Name, leftOut, kind.Kind, kind.Why)
    );

    /// <inheritdoc/>
    protected override async Task Work(CancellationToken stop)
    {
        using var timer = new PeriodicTimer(options.DutyInterval, time);
        do await Sweep(stop);
        while (await timer.WaitForNextTickAsync(stop));
    }

    private async Task Sweep(CancellationToken stop)
    {
        try
        {
            // With a clock that is ahead, duties would be recorded as due too early, and such a record stays for ever.
            if (ledger.ClockFault is { } wrong)
            {
                LogClock(log, service.Name, wrong);
                return;
            }
            var now = time.GetUtcNow();
            var seen = new HashSet<string>();
            var left = 0;
            while (true)
            {
                var due = await ledger.ListDue(now, left, Page, stop);
                status.LastDutySweep = time.GetUtcNow();
                // A duty that cannot be recorded stays due, and does not hold up others.
                var came = await Task.WhenAll(due.Select(async d => seen.Add(RequestIdOf(d)) ? await Record(d, stop) : Came.Left));
                left += came.Count(c => c != Came.Settled);
                // If nothing on this page could be recorded, the rest cannot be either. The next sweep tries again.
                if (due.Count < Page || came.All(c => c == Came.Away))
                    break;
            }
        }
        catch (Exception e) when (!stop.IsCancellationRequested)
        {
            LogFailed(log, service.Name, e.GetType().Name);
        }
    }

    private static string RequestIdOf(DueStream due) => $"{due.Stream}/{due.Due.UtcDateTime.ToString("O", CultureInfo.InvariantCulture)}";

    private async Task<Came> Record(DueStream due, CancellationToken stop)
    {
        if (service.Duties.FirstOrDefault(d => d.Kind.Name == due.Stream.Kind) is not { } duty)
            return Came.Left;
        try
        {
            for (var times = 1; ; times++)
            {
                var owed = false;
                var command = CommandOf(duty, due, times, d => owed = d.Changes.Any(c => !duty.Besides.Contains(c.Event.Descriptor)));
                var outcome = await ledger.Commit(command, stop);
                // Where few entries are committed at a time, recording takes longer than the sweep may seem to stand still.
                status.LastDutySweep = time.GetUtcNow();
                // It was recorded before. If it is due all the same, it was restored since; if not, the next one is refused.
                if (outcome.Repeated)
                    continue;
                if (outcome.Refusal is not { } refusal)
                {
                    if (owed)
                        Metrics.FellDue(due.Stream.Kind);
                    return Came.Settled;
                }
                var why = Refusals.NameOf(refusal.Reason);
                if (times == 1 && _lines.Writes((due.Stream.Kind, why)))
                    LogRefused(log, service.Name, due.Stream.Kind, why);
                // Another replica recorded the duty, or it was met: no page lists it any more.
                return refusal.Reason == Reason.NotFound ? Came.Settled : Came.Left;
            }
        }
        catch (Exception e) when (!stop.IsCancellationRequested)
        {
            if (_lines.Writes((due.Stream.Kind, e.GetType().Name)))
                LogNotRecorded(log, service.Name, due.Stream.Kind, e.GetType().Name);
            // Newer software has written this record, but perhaps no other record.
            return e is not NewerFoldException && EventCommands.IsTransient(e) ? Came.Away : Came.Left;
        }
    }

    private Command CommandOf(Duty duty, DueStream due, int times, Action<Decision> decided)
    {
        var (id, judged) = (times == 1 ? RequestIdOf(due) : $"{RequestIdOf(due)}/{times}", permissions());
        var cause = new Cause { Duty = id };
        var self = $"service/{service.Name}";
        return new Command
        {
            Participant = self,
            RequestId = id,
            Method = Method,
            Request = cause,
            Bytes = cause.ToByteArray(),
            Cause = cause,
            AgreementVersion = judged.Agreement.Version,
            StoresRefusal = false,
            Decide = (view, now) =>
            {
                var decision = duty.Record(
                    due.Stream.Key,
                    new RuleContext
                    {
                        View = view,
                        Caller = judged.Participant(self) ?? throw new InvalidOperationException("no such participant"),
                        Permissions = judged,
                        Method = Method,
                        RequestId = id,
                        Now = now,
                        Secrets = ledger.Secrets,
                    }
                );
                decided(decision);
                // The duty was met or postponed meanwhile, so there is nothing to record.
                return view.StateOf(due.Stream) is { } state && duty.Kind.DueOf(state) != due.Due
                    ? Decision.Refuse(Reason.NotFound)
                    : decision;
            },
        };
    }

    /// <inheritdoc/>
    public override void Dispose()
    {
        _lines.Dispose();
        base.Dispose();
    }

    [LoggerMessage(5, LogLevel.Information, "{Service}: {Count} more duties of kind {Kind} were not recorded, without a log line: {Why}")]
    private static partial void LogMore(ILogger log, string service, long count, string kind, string why);

    [LoggerMessage(1, LogLevel.Warning, "{Service} could not look for due duties: {Error}")]
    private static partial void LogFailed(ILogger log, string service, string error);

    [LoggerMessage(4, LogLevel.Warning, "{Service} looks for no due duties: {Wrong}")]
    private static partial void LogClock(ILogger log, string service, string wrong);

    [LoggerMessage(2, LogLevel.Information, "{Service}: a duty of kind {Kind} was not recorded: {Reason}")]
    private static partial void LogRefused(ILogger log, string service, string kind, string reason);

    [LoggerMessage(3, LogLevel.Error, "{Service}: a duty of kind {Kind} could not be recorded: {Error}")]
    private static partial void LogNotRecorded(ILogger log, string service, string kind, string error);
}
