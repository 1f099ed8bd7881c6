using System.Collections.Concurrent;
using System.Diagnostics;

namespace Ministries.Ledger;

/// <summary>Takes the commands that wait, decides them one after the other, commits them together, and answers. There is one in a
/// process; the head row's lock orders those of several replicas. Where entries are covered (<see cref="LedgerOptions.CoverInterval"/>),
/// it commits by a schedule, whether commands wait or not.</summary>
internal sealed class Committer(CommitContext context)
{
    private static readonly ActivitySource Spans = new(Measures.Name);

    private readonly CommandQueue _queue = new(context.Options);
    private readonly string _service = context.Options.Service;
    private readonly CoverSchedule? _schedule = context.Leaves is null
        ? null
        : new CoverSchedule(context.Options.Time, context.Options.CoverInterval);

    // Commands of a scheduled commit that failed because of one of them. Each has a later one to itself.
    private readonly ConcurrentQueue<PendingCommand> _alone = [];
    private CommitCache _cache = new();

    /// <summary>The number of commands that wait.</summary>
    public int QueueLength => _queue.Count + _alone.Count;

    /// <summary>Ends with the thread that commits.</summary>
    public Task Running { get; private set; } = Task.CompletedTask;

    /// <summary>Begins to commit.</summary>
    public void Start()
    {
        var ended = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        Running = ended.Task;
        // The committer has a thread of its own, because a commit must not wait behind calls for a thread of the pool. The thread must
        // not inherit the span of the caller that opened the ledger.
        new Thread(() =>
        {
            try
            {
                Run();
                ended.SetResult();
            }
            catch (Exception e)
            {
                // Uncaught, an exception of this thread would end the process at once. Instead the waiting callers get it, and so does
                // whoever awaits Running.
                Abandon(e);
                ended.SetException(e);
            }
        })
        {
            IsBackground = true,
            Name = $"ledger {_service}",
        }.UnsafeStart();
    }

    /// <summary>Puts a command into the queue and returns its outcome.</summary>
    public async Task<Outcome> Submit(Command command, CancellationToken cancel)
    {
        var pending = new PendingCommand(command, Stopwatch.GetTimestamp());
        try
        {
            cancel.ThrowIfCancellationRequested();
            _queue.Add(pending);
        }
        catch (Exception)
        {
            // Later commands of its chain may find room, but must not overtake this one.
            pending.Note(hasFailed: true);
            throw;
        }
        await using var registration = cancel.UnsafeRegister(
            (state, token) =>
            {
                var (queue, pending) = ((CommandQueue, PendingCommand))state!;
                if (queue.Remove(pending))
                    pending.Cancel(token);
            },
            (_queue, pending)
        );
        return await pending.Task;
    }

    /// <summary>How long after the last failure a commit of the probe counts as a recovery: 10 seconds. A probe can succeed where a commit
    /// does not.</summary>
    private static readonly TimeSpan RecoveredAfter = TimeSpan.FromSeconds(10);

    private long _failingSince,
        _failedLast;

    // The commands that the database did not take even alone, and how many of them failed since a command was recorded.
    private const int MostFailedOnes = 1024;
    private readonly HashSet<(string Participant, string RequestId)> _failedOnes = [];
    private int _newFailedOnes;

    /// <summary>Since when commits fail for other reasons than their commands, as a timestamp of the clock; null: the last one did not.
    /// </summary>
    public long? FailingSince => Interlocked.Read(ref _failingSince) is not 0 and var since ? since : null;

    /// <summary>Notes that a commit without a command succeeded.</summary>
    public void Recover()
    {
        if (context.Options.Time.GetElapsedTime(Interlocked.Read(ref _failedLast)) >= RecoveredAfter)
            Interlocked.Exchange(ref _failingSince, 0);
    }

    private void NoteFailure()
    {
        Interlocked.Exchange(ref _failedLast, Math.Max(1, context.Options.Time.GetTimestamp()));
        Interlocked.CompareExchange(ref _failingSince, Interlocked.Read(ref _failedLast), 0);
    }

    /// <summary>Whether the failure of a single command shows a fault beyond one damaged record. It does if a second, different command has
    /// failed since a command was recorded. A repeated command does not count again, so a caller that repeats it cannot make the service
    /// unready.</summary>
    private bool ShowsMore(Command command)
    {
        if (_failedOnes.Count >= MostFailedOnes)
            _failedOnes.Clear();
        return _failedOnes.Add((command.Participant, command.RequestId)) && ++_newFailedOnes > 1;
    }

    /// <summary>Takes no more commands, and returns when those that wait are answered.</summary>
    public async Task Drain()
    {
        _queue.Close();
        _schedule?.Wake();
        // The supervisor has received the fault already.
        await Running.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
    }

    private void Abandon(Exception fault)
    {
        try
        {
            _queue.Close();
            FailAll([.. _alone], () => new LedgerUnavailableException(fault));
            while (_queue.Take() is { Count: > 0 } rest)
                FailAll(rest, () => new LedgerUnavailableException(fault));
        }
        catch (Exception)
        {
            // The queue itself failed. The callers that wait have a deadline.
        }
    }

    private void Run()
    {
        while (Next() is { } commands)
        {
            try
            {
                Commit(commands).GetAwaiter().GetResult();
            }
            catch (Exception e)
            {
                // No caller may wait for ever, whatever failed.
                _cache = new();
                FailAll(commands, () => new CommitOutcomeUnknownException(e));
            }
        }
    }

    /// <summary>The next commands to commit, which may be none where entries are covered; null: there will be no more.</summary>
    private List<PendingCommand>? Next()
    {
        Probe.At("before-take");
        if (_schedule is null)
            return _queue.Take() is { Count: > 0 } taken ? taken : null;
        _schedule.Wait(IsOver);
        return IsOver() ? null
            : _alone.TryDequeue(out var alone) ? [alone]
            : _queue.TakeWaiting(context.Options.CoverLeaves);

        bool IsOver() => _queue.IsOver && _alone.IsEmpty;
    }

    /// <summary>Commits some commands under a span of the batch, with a span for each of them in its own trace.</summary>
    private async Task Commit(List<PendingCommand> commands)
    {
        Activity.Current = null;
        if (commands.Count == 0)
        {
            // Spans and measures are about commands.
            await Commit([], null);
            return;
        }
        using var span = Spans.StartActivity($"batch {_service}", ActivityKind.Internal, default(ActivityContext));
        span?.SetTag("db.operation.batch.size", commands.Count);
        var (started, began) = (DateTime.UtcNow, Stopwatch.GetTimestamp());
        foreach (var pending in commands)
            StartSpan(pending, span, started);
        try
        {
            await Commit(commands, span);
        }
        finally
        {
            // The others have a commit of their own still before them.
            var done = commands.FindAll(p => p.Task.IsCompleted);
            foreach (var pending in done)
                pending.Span?.Dispose();
            if (done.Count > 0)
                Measures.Batch(done.Count, Stopwatch.GetElapsedTime(began));
            Activity.Current = span;
        }
    }

    private void StartSpan(PendingCommand pending, Activity? batch, DateTime started)
    {
        var command = pending.Command;
        ActivityContext.TryParse(command.TraceParent, command.TraceState, isRemote: false, out var parent);
        // Without a parent the span is a root, not a child of the current span.
        Activity.Current = null;
        pending.Span ??= Spans.StartActivity(
            $"commit {_service}",
            ActivityKind.Internal,
            parent,
            [
                new("ministries.method", command.Method),
                new("ministries.participant", command.Participant),
                new("ministries.request_id", command.RequestId),
            ],
            batch is null ? null : [new ActivityLink(batch.Context)],
            started - Stopwatch.GetElapsedTime(pending.Since)
        );
    }

    /// <summary>Commits some commands together; where that fails because of one of them, each by itself: at once, or where entries are
    /// covered in a scheduled commit of its own. The present one is then made without commands, so that it is not missing.</summary>
    private async Task Commit(List<PendingCommand> commands, Activity? span)
    {
        Activity.Current = span;
        for (var tries = 1; ; tries++)
        {
            var progress = new BatchProgress();
            try
            {
                await new Batch(context, _cache, commands).Run(progress, cache => _cache = cache);
                if (progress.Recorded)
                    _newFailedOnes = 0;
                // A command that records nothing touches fewer tables, so its success does not show that recording works.
                if (_newFailedOnes <= 1)
                    (_failingSince, _failedLast) = (0, 0);
                return;
            }
            catch (Exception e)
            {
                _cache = new();
                // A connection may have died while it was idle. A batch that has not begun is tried again.
                if (context.Store.IsOutage(e) && !progress.Committing && !progress.Locked && tries == 1)
                {
                    context.Store.Forget();
                    continue;
                }
                if (FaultOf(e, progress, commands) is var (fault, ofOne))
                {
                    // A wrong clock and a database that must not be served from are states of their own.
                    if (
                        fault() is not CommandFailedException
                        && e is not (ClockNotTrustedException or LedgerInconsistentException)
                        && (!ofOne || ShowsMore(commands[0].Command))
                    )
                        NoteFailure();
                    FailAll(commands, fault);
                    if (ofOne && _schedule is not null)
                        break;
                    if (_schedule is not null)
                        Measures.NotCovered(fault());
                    return;
                }
            }
            foreach (var pending in commands.Where(p => !p.Task.IsCompleted))
                if (_schedule is null)
                    await Commit([pending], span);
                else
                    _alone.Enqueue(pending);
            break;
        }
        if (_schedule is not null)
            await Commit([], span);
    }

    /// <summary>The fault for all commands of a batch, and whether it is the fault of the batch's only command, so that other commands may
    /// succeed; null: each command must be tried alone.</summary>
    private (Func<Exception> Fault, bool OfOne)? FaultOf(Exception fault, BatchProgress progress, List<PendingCommand> commands)
    {
        if (progress.Committing && (progress.Committed || !context.Store.IsNotCommitted(fault)))
        {
            // Its connection is used no more. The caller's repetition finds the outcome on whichever server is the primary then.
            context.Store.Forget();
            return (() => new CommitOutcomeUnknownException(fault), false);
        }
        if (context.Store.IsOutage(fault))
        {
            context.Store.Forget();
            return (() => new LedgerUnavailableException(fault), false);
        }
        if (fault is ClockNotTrustedException)
            return (() => fault, false);
        if (fault is LedgerInconsistentException)
        {
            context.Store.Forget();
            return (() => fault, false);
        }
        return commands switch
        {
            // No command is to blame.
            [] => (() => new LedgerUnavailableException(fault), false),
            [_] when context.Store.IsDamage(fault) => (() => new LedgerUnavailableException(fault, ofOne: true), true),
            [{ Command.Method: var method }] => (() => new CommandFailedException(method, fault, "its entry could not be written"), true),
            _ => null,
        };
    }

    private static void FailAll(List<PendingCommand> commands, Func<Exception> fault)
    {
        foreach (var pending in commands)
            pending.Fail(fault());
    }
}
