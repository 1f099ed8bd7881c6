using System.Diagnostics;

namespace Ministries.Ledger;

/// <summary>How a transaction is committed.</summary>
/// <param name="Thread">Sends COMMIT.</param>
/// <param name="IsReplaced">Given how long the server has not answered, says whether another one is the primary now.</param>
internal sealed record Commits(CommitThread Thread, Func<TimeSpan, bool> IsReplaced);

/// <summary>
/// Runs COMMIT on a thread of its own, so that the caller can stop waiting without cancelling it. A cancelled COMMIT ends PostgreSQL's wait
/// for the standbys: the transaction stays committed where it was sent, and a failover loses it. Npgsql sends such a cancellation at every
/// time limit, even where its setting <c>Cancellation Timeout</c> is -1. So COMMIT has no time limit of Npgsql's, and one that takes too
/// long is abandoned: its connection is used for nothing else, and is closed when the server answers at last or the connection breaks.
/// </summary>
/// <remarks>An abandoned transaction still holds the head's lock. So at most one of them waits for each server.</remarks>
/// <param name="patience">How long a caller waits.</param>
internal sealed class CommitThread(TimeSpan patience)
{
    private Worker? _idle;

    /// <summary>Runs a commit and returns when it has ended. Only one caller at a time.</summary>
    /// <param name="commit">Sends COMMIT and waits for its answer.</param>
    /// <param name="late">Runs when an abandoned commit has ended.</param>
    /// <param name="isReplaced">Given how long the commit has taken, says whether another server is the primary now; it returns at
    /// once.</param>
    /// <exception cref="CommitDoubtfulException">It takes longer than the patience, or the server was replaced.</exception>
    public void Run(Action commit, Action late, Func<TimeSpan, bool> isReplaced)
    {
        var worker = Interlocked.Exchange(ref _idle, null) ?? new Worker();
        if (!worker.Run(commit, late, waited => waited >= patience || isReplaced(waited)))
            throw new CommitDoubtfulException(
                $"the database has not answered COMMIT for {patience.TotalSeconds:F0} s, or another one is the primary now"
            );
        if (Interlocked.Exchange(ref _idle, worker) is { } second)
            second.End();
        if (worker.Fault is { } fault)
            System.Runtime.ExceptionServices.ExceptionDispatchInfo.Throw(fault);
    }

    /// <summary>Ends the thread that waits for work.</summary>
    public void End() => Interlocked.Exchange(ref _idle, null)?.End();

    private sealed class Worker
    {
        /// <summary>How often a waiting caller looks whether it still should wait.</summary>
        private static readonly TimeSpan Look = TimeSpan.FromMilliseconds(250);

        private enum Phase
        {
            Idle,
            Running,
            Abandoned,
            Ended,
        }

        private readonly object _access = new();
        private Action _work = () => { };
        private Action _late = () => { };
        private Phase _phase;

        public Worker() => new Thread(Loop) { IsBackground = true, Name = "commit" }.UnsafeStart();

        /// <summary>What the last work failed with; null: nothing.</summary>
        public Exception? Fault { get; private set; }

        public bool Run(Action work, Action late, Func<TimeSpan, bool> isTooLate)
        {
            var began = Stopwatch.GetTimestamp();
            lock (_access)
            {
                (_work, _late, Fault, _phase) = (work, late, null, Phase.Running);
                Monitor.PulseAll(_access);
                while (_phase == Phase.Running && !isTooLate(Stopwatch.GetElapsedTime(began)))
                    Monitor.Wait(_access, Look);
                if (_phase != Phase.Running)
                    return true;
                _phase = Phase.Abandoned;
                return false;
            }
        }

        public void End()
        {
            lock (_access)
            {
                _phase = Phase.Ended;
                Monitor.PulseAll(_access);
            }
        }

        private void Loop()
        {
            while (true)
            {
                lock (_access)
                {
                    while (_phase == Phase.Idle)
                        Monitor.Wait(_access);
                    if (_phase == Phase.Ended)
                        return;
                }
                Exception? fault = null;
                try
                {
                    _work();
                }
                catch (Exception e)
                {
                    fault = e;
                }
                lock (_access)
                {
                    if (_phase == Phase.Running)
                    {
                        (Fault, _phase) = (fault, Phase.Idle);
                        Monitor.PulseAll(_access);
                        continue;
                    }
                }
                Close();
                return;
            }
        }

        private void Close()
        {
            try
            {
                _late();
            }
            catch (Exception)
            {
                // The connection broke. Nobody waits for it any more.
            }
        }
    }
}
