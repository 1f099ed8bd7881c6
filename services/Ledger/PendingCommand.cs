using System.Diagnostics;

namespace Ministries.Ledger;

/// <summary>A command that waits for its commit, and what tells its caller of the outcome.</summary>
/// <param name="command">The command.</param>
/// <param name="since">When it came, as a <see cref="Stopwatch"/> timestamp.</param>
internal sealed class PendingCommand(Command command, long since)
{
    private readonly TaskCompletionSource<Outcome> _done = new(TaskCreationOptions.RunContinuationsAsynchronously);

    public Command Command { get; } = command;

    /// <summary>When it came, as a <see cref="Stopwatch"/> timestamp.</summary>
    public long Since { get; } = since;

    /// <summary>Whether the command waits in the room that is kept for FLASH. That room is separate, so that neither takes room from the
    /// other.</summary>
    public bool IsBeyond { get; set; }

    /// <summary>The span of its commit; null: nobody listens, or the commit has not begun.</summary>
    public Activity? Span { get; set; }

    /// <summary>Ends with the outcome, the fault or the cancellation.</summary>
    public Task<Outcome> Task => _done.Task;

    /// <summary>Ends the span and tells the outcome.</summary>
    public void Answer(Outcome outcome)
    {
        if (outcome.Position is { } position)
            Span?.SetTag("ministries.position", (long)position);
        if (outcome.Refusal is { } refusal)
            Span?.SetTag("ministries.refusal", Reasons.NameOf(refusal.Reason));
        if (outcome.Repeated)
            Span?.SetTag("ministries.repeated", true);
        Span?.Dispose();
        if (_done.TrySetResult(outcome))
            Measures.Answered(Since);
    }

    /// <summary>Ends the span and tells the fault.</summary>
    public void Fail(Exception fault)
    {
        Span?.SetStatus(ActivityStatusCode.Error);
        Span?.SetTag("error.type", fault.GetType().Name);
        Span?.Dispose();
        // Neither is a failure: the consumer fills the gap, or waits for the previous event, and sends the event again.
        if (fault is not (EventGapException or CommandHeldBackException))
            Measures.Failed(fault);
        Note(hasFailed: true);
        _done.TrySetException(fault);
    }

    public void Cancel(CancellationToken cancel)
    {
        Note(hasFailed: true);
        _done.TrySetCanceled(cancel);
    }

    /// <summary>Tells later commands of its chain at once whether this one has failed.</summary>
    public void Note(bool hasFailed)
    {
        if (Command.Link is { } link)
            link.HasFailed = hasFailed;
    }
}
