using System.Diagnostics;

namespace Ministries.Ledger;

/// <summary>Finds records. Requests that arrive while a query runs are answered together by the next query. A query begins after all
/// requests that it answers, so each request sees everything that was committed before it. A query is one statement, so the records of
/// one request are of one moment. Only <see cref="ParsedStates"/> keeps anything of the result.</summary>
internal sealed class RecordFinder(ServiceLedger ledger, Store store)
{
    private const int MostRecords = 256;

    // Requests wait until the running query ends, so that the next query answers many of them. If many wait already, or the query
    // takes long, another query begins.
    private const int MostQueries = 2,
        Many = 32;
    private static readonly TimeSpan Long = TimeSpan.FromMilliseconds(5);

    private long _asked;
    private readonly Lock _lock = new();
    private readonly Queue<Query> _full = [];
    private readonly ParsedStates _parsed = new();
    private Query _next = new();
    private int _running;
    private long _began;

    /// <summary>How often the database was asked.</summary>
    public long Asked => Interlocked.Read(ref _asked);

    /// <summary>What is asked for together.</summary>
    private sealed class Query
    {
        // Up to this many waiting callers continue one after the other in one work item. One item each would keep the threads busy with
        // finding them.
        private const int Together = 16;

        private readonly List<TaskCompletionSource<FoundRecords>> _waiting = [];
        private int _count;

        public readonly Dictionary<StreamId, StreamKind> Wanted = [];

        public Task<FoundRecords> Wait()
        {
            if (_count++ % Together == 0)
                _waiting.Add(new());
            return _waiting[^1].Task;
        }

        /// <summary>Passes the ended query's result on.</summary>
        public void Answer(Task<FoundRecords> answer)
        {
            foreach (var waiting in _waiting)
                ThreadPool.UnsafeQueueUserWorkItem(static w => w.waiting.SetFromTask(w.answer), (waiting, answer), preferLocal: true);
        }
    }

    public Task<FoundRecords> Find(StreamId id, StreamKind kind, StreamId other = default, StreamKind? otherKind = null)
    {
        Interlocked.Increment(ref _asked);
        lock (_lock)
        {
            if (_next.Wanted.Count > MostRecords - 2)
            {
                _full.Enqueue(_next);
                _next = new();
            }
            _next.Wanted[id] = kind;
            if (otherKind is not null)
                _next.Wanted[other] = otherKind;
            if (
                _running == 0
                || _running < MostQueries && (_full.Count > 0 || _next.Wanted.Count >= Many || Stopwatch.GetElapsedTime(_began) > Long)
            )
            {
                _running++;
                _began = Stopwatch.GetTimestamp();
                // The query works for several callers, so it must not run under the span of the first one.
                using (ExecutionContext.SuppressFlow())
                    _ = Task.Run(Run);
            }
            return _next.Wait();
        }
    }

    private async Task Run()
    {
        while (true)
        {
            // Yields once, so that requests that are about to be made join this query.
            await Task.Yield();
            Query? query;
            lock (_lock)
            {
                if (!_full.TryDequeue(out query))
                    (query, _next) = (_next, new());
                if (query.Wanted.Count == 0)
                {
                    (_next, _running) = (query, _running - 1);
                    return;
                }
                _began = Stopwatch.GetTimestamp();
            }
            var told = ledger.Read(
                async session =>
                {
                    var answer = new FoundRecords();
                    var rows = await session.FindStates(query.Wanted.Keys);
                    if (rows.Count > 0)
                        await ledger.Replicate(session, rows.Max(r => r.Position) + 1);
                    foreach (var row in rows)
                        try
                        {
                            var kind = query.Wanted[row.Id];
                            answer.Add(
                                row,
                                row.Fold == kind.Version ? _parsed.StateOf(kind, row) : await Stored.StateOf(session, kind, row),
                                null
                            );
                        }
                        catch (Exception e) when (!store.IsOutage(e))
                        {
                            answer.Add(row, null, e);
                        }
                    return answer;
                },
                default
            );
            await ((Task)told).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            query.Answer(told);
        }
    }
}
