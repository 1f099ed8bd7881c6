using System.Data.Common;
using System.Diagnostics;
using System.Diagnostics.CodeAnalysis;
using System.Globalization;
using System.Security.Cryptography;
using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Ministries.Errors.V1;
using Ministries.Ledger.V1;

namespace Ministries.Ledger;

/// <summary>A command that waits, and who waits for it.</summary>
internal sealed class Waiting(Command command, long since)
{
    private readonly TaskCompletionSource<Outcome> _done = new(TaskCreationOptions.RunContinuationsAsynchronously);

    public Command Command { get; } = command;

    /// <summary>When it came, for its span.</summary>
    public long Since { get; } = since;

    public Activity? Span { get; set; }

    public Task<Outcome> Task => _done.Task;

    public void Answer(Outcome outcome)
    {
        if (_done.TrySetResult(outcome))
            Measures.Answered(Since);
    }

    public void Fail(Exception fault) => _done.TrySetException(fault);

    public void Cancel(CancellationToken cancel) => _done.TrySetCanceled(cancel);
}

/// <summary>The commands that wait: by precedence, then in turn by participant, then in the order in which they came.</summary>
[SuppressMessage("Design", "CA1001", Justification = "A SemaphoreSlim whose wait handle nobody asks for holds nothing to free.")]
internal sealed class Queue(LedgerOptions options)
{
    private readonly Lock _lock = new();
    private readonly SemaphoreSlim _some = new(0);

    /// <summary>Per precedence, greatest first, those who wait in the order of their turns.</summary>
    private readonly SortedDictionary<int, LinkedList<(string Participant, LinkedList<Waiting> Commands)>> _ranks = new(
        Comparer<int>.Create((a, b) => b.CompareTo(a))
    );

    private readonly Dictionary<string, int> _perParticipant = [];
    private int _count;
    private long _bytes;
    private bool _closed;

    public int Count => Volatile.Read(ref _count);

    public void Add(Waiting waiting)
    {
        var command = waiting.Command;
        lock (_lock)
        {
            if (_closed)
                throw new LedgerClosedException();
            var own = _perParticipant.GetValueOrDefault(command.Participant);
            if (
                _count >= options.MaxQueued
                || own >= options.MaxQueuedPerParticipant
                || _bytes + command.Bytes.Length > options.MaxQueuedBytes
            )
                throw new LedgerOverloadedException();
            if (!_ranks.TryGetValue(command.Precedence, out var rank))
                _ranks[command.Precedence] = rank = [];
            var turn = rank.FirstOrDefault(t => t.Participant == command.Participant);
            if (turn.Commands is null)
                rank.AddLast(turn = (command.Participant, []));
            turn.Commands.AddLast(waiting);
            Counted(waiting, 1);
        }
        _some.Release();
    }

    /// <summary>Takes a command out; false: it is no longer there.</summary>
    public bool Remove(Waiting waiting)
    {
        lock (_lock)
        {
            if (!_ranks.TryGetValue(waiting.Command.Precedence, out var rank))
                return false;
            var turn = rank.FirstOrDefault(t => t.Participant == waiting.Command.Participant);
            if (turn.Commands is null || !turn.Commands.Remove(waiting))
                return false;
            if (turn.Commands.Count == 0)
                rank.Remove(turn);
            if (rank.Count == 0)
                _ranks.Remove(waiting.Command.Precedence);
            Counted(waiting, -1);
            return true;
        }
    }

    /// <summary>Takes the next commands, at least one; none: the queue is closed and empty.</summary>
    public List<Waiting> Take()
    {
        var taken = new List<Waiting>();
        while (true)
        {
            lock (_lock)
            {
                var bytes = 0L;
                while (_ranks.Count > 0 && taken.Count < options.MaxBatch && bytes < options.MaxBatchBytes)
                {
                    var (precedence, rank) = _ranks.First();
                    var turn = rank.First!.Value;
                    var next = turn.Commands.First!.Value;
                    if (taken.Count > 0 && bytes + next.Command.Bytes.Length > options.MaxBatchBytes)
                        break;
                    turn.Commands.RemoveFirst();
                    rank.RemoveFirst();
                    if (turn.Commands.Count > 0)
                        rank.AddLast(turn);
                    if (rank.Count == 0)
                        _ranks.Remove(precedence);
                    Counted(next, -1);
                    bytes += next.Command.Bytes.Length;
                    taken.Add(next);
                }
                if (taken.Count > 0 || _closed)
                    return taken;
            }
            _some.Wait();
            // One look answers for all that came until now.
            while (_some.Wait(0)) { }
        }
    }

    public void Close()
    {
        lock (_lock)
            _closed = true;
        _some.Release();
    }

    private void Counted(Waiting waiting, int sign)
    {
        _count += sign;
        _bytes += sign * waiting.Command.Bytes.Length;
        var participant = waiting.Command.Participant;
        var own = _perParticipant.GetValueOrDefault(participant) + sign;
        if (own == 0)
            _perParticipant.Remove(participant);
        else
            _perParticipant[participant] = own;
    }
}

/// <summary>Takes what waits, decides it one after the other, commits it together, answers. One at a time in a process; the head
/// row's lock orders those of several replicas.</summary>
internal sealed class Committer
{
    private static readonly ActivitySource Spans = new(Measures.Name);

    private readonly LedgerOptions _options;
    private readonly Store _store;
    private readonly Checkpoints _checkpoints;
    private readonly Action<ulong> _grown;
    private readonly RecentEvents _recent;
    private readonly RecentEntries _tail;
    private readonly Queue _queue;
    private readonly Dictionary<string, StreamKind> _kinds;
    private readonly string _package;
    private Task _running = Task.CompletedTask;
    private Memory _memory = new();

    public Committer(
        LedgerOptions options,
        Store store,
        Checkpoints checkpoints,
        Action<ulong> grown,
        RecentEvents recent,
        RecentEntries tail
    )
    {
        _options = options;
        _store = store;
        _checkpoints = checkpoints;
        _grown = grown;
        _recent = recent;
        _tail = tail;
        _queue = new Queue(options);
        _kinds = options.Kinds.ToDictionary(k => k.Name);
        _package = $"ministries.{options.Service}.v1.";
    }

    public int Waiting => _queue.Count;

    /// <summary>What is known of the database as this process left it; forgotten when another replica wrote, and at any fault.
    /// </summary>
    private sealed class Memory
    {
        public View View { get; } = new();
        public Dictionary<StreamId, ulong> Numbers { get; } = [];

        /// <summary>Streams whose states another fold made, with the keys under which it listed them.</summary>
        public Dictionary<StreamId, IReadOnlyCollection<string>> Rebuilt { get; } = [];

        /// <summary>The traceparent of the last entry that changed a stream.</summary>
        public Dictionary<StreamId, string> TraceParents { get; } = [];
        public Dictionary<string, ulong> LastOfTypes { get; } = [];
        public Dictionary<string, ulong> Cursors { get; } = [];
        public TreeEdge? Tree { get; set; }

        /// <summary>The last entry's time, in ticks of UTC.</summary>
        public long Time { get; set; }
        public int Held { get; set; }
    }

    public void Start()
    {
        var ended = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        _running = ended.Task;
        // A thread of its own, which waits for the database: everybody's commit must not wait behind everybody's calls for a thread of
        // the pool, several times in each batch. It serves all: it must not run under the span of whoever opened the ledger.
        new Thread(() =>
        {
            try
            {
                Run();
                ended.SetResult();
            }
            catch (Exception e)
            {
                // Of a thread of its own an exception would end the process at once. Nobody waits for ever, and whoever watches is told.
                Abandon(e);
                ended.SetException(e);
            }
        })
        {
            IsBackground = true,
            Name = $"ledger {_options.Service}",
        }.UnsafeStart();
    }

    public async Task<Outcome> Submit(Command command, CancellationToken cancel)
    {
        cancel.ThrowIfCancellationRequested();
        var waiting = new Waiting(command, Stopwatch.GetTimestamp());
        _queue.Add(waiting);
        await using var registration = cancel.UnsafeRegister(
            (state, token) =>
            {
                var (queue, waiting) = ((Queue, Waiting))state!;
                if (queue.Remove(waiting))
                    waiting.Cancel(token);
            },
            (_queue, waiting)
        );
        return await waiting.Task;
    }

    /// <summary>Ends with the thread that commits.</summary>
    public Task Running => _running;

    public async Task Drain()
    {
        _queue.Close();
        // Whoever watches has been told of its fault.
        await _running.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
    }

    private void Abandon(Exception fault)
    {
        try
        {
            _queue.Close();
            while (_queue.Take() is { Count: > 0 } rest)
                FailAll(rest, () => new LedgerUnavailableException(fault));
        }
        catch (Exception)
        {
            // The queue itself is what failed: those who wait have a deadline.
        }
    }

    private void Run()
    {
        while (Next() is { Count: > 0 } batch)
        {
            try
            {
                Commit(batch).GetAwaiter().GetResult();
            }
            catch (Exception e)
            {
                // Nobody must wait for ever, whatever happened.
                _memory = new();
                FailAll(batch, () => new CommitOutcomeUnknownException(e));
            }
        }

        List<Waiting> Next()
        {
            Probe.At("before-take");
            return _queue.Take();
        }
    }

    private async Task Commit(List<Waiting> batch)
    {
        Activity.Current = null;
        using var span = Spans.StartActivity($"batch {_options.Service}", ActivityKind.Internal, default(ActivityContext));
        span?.SetTag("db.operation.batch.size", batch.Count);
        var (started, began) = (DateTime.UtcNow, Stopwatch.GetTimestamp());
        foreach (var waiting in batch)
        {
            var command = waiting.Command;
            ActivityContext.TryParse(command.TraceParent, command.TraceState, isRemote: false, out var parent);
            // Without a parent it is a root, not a child of whatever runs here.
            Activity.Current = null;
            waiting.Span ??= Spans.StartActivity(
                $"commit {_options.Service}",
                ActivityKind.Internal,
                parent,
                [
                    new("ministries.method", command.Method),
                    new("ministries.participant", command.Participant),
                    new("ministries.request_id", command.RequestId),
                ],
                span is null ? null : [new ActivityLink(span.Context)],
                started - Stopwatch.GetElapsedTime(waiting.Since)
            );
        }
        try
        {
            await Commit(batch, span);
        }
        finally
        {
            foreach (var waiting in batch)
                waiting.Span?.Dispose();
            Measures.Batch(batch.Count, Stopwatch.GetElapsedTime(began));
            Activity.Current = span;
        }
    }

    private async Task Commit(List<Waiting> batch, Activity? span)
    {
        Activity.Current = span;
        for (var tries = 1; ; tries++)
        {
            var stage = new Stage();
            try
            {
                await new Batch(this, batch).Run(stage);
                return;
            }
            catch (Exception e)
            {
                _memory = new();
                if (stage.Committing && !(stage.Committed is false && _store.IsNotCommitted(e)))
                {
                    FailAll(batch, () => new CommitOutcomeUnknownException(e));
                    return;
                }
                if (_store.IsOutage(e))
                {
                    // A connection may have died while it was idle: what never began is tried again.
                    _store.Forget();
                    if (!stage.Locked && tries == 1)
                        continue;
                    FailAll(batch, () => new LedgerUnavailableException(e));
                    return;
                }
                if (e is LedgerInconsistentException inconsistent)
                {
                    FailAll(batch, () => inconsistent);
                    return;
                }
                if (batch.Count == 1)
                {
                    FailAll(batch, () => new CommandFailedException(batch[0].Command.Method, e, "its entry could not be written"));
                    return;
                }
            }
            foreach (var waiting in batch)
                if (!waiting.Task.IsCompleted)
                    await Commit([waiting], span);
            return;
        }
    }

    private static void FailAll(List<Waiting> batch, Func<Exception> fault)
    {
        foreach (var waiting in batch)
            Fail(waiting, fault());
    }

    private static void Fail(Waiting waiting, Exception fault)
    {
        waiting.Span?.SetStatus(ActivityStatusCode.Error);
        waiting.Span?.SetTag("error.type", fault.GetType().Name);
        waiting.Span?.Dispose();
        // A gap is filled, not a fault.
        if (fault is not EventGapException)
            Measures.Failed(fault);
        waiting.Fail(fault);
    }

    /// <summary>How far a batch has come, for whoever must tell what its fault means.</summary>
    private sealed class Stage
    {
        public bool Locked { get; set; }
        public bool Committing { get; set; }
        public bool Committed { get; set; }
    }

    /// <summary>A command that was decided and has an entry.</summary>
    private sealed class Decided(Waiting waiting, byte[] digest, ulong position, Effect effect)
    {
        public Waiting Waiting { get; } = waiting;
        public byte[] Digest { get; } = digest;
        public ulong Position { get; } = position;
        public Effect Effect { get; } = effect;
        public Decision Decision => Effect.Decision;
        public byte[] EntryHash { get; set; } = [];
    }

    /// <summary>What a decision led to.</summary>
    /// <param name="Decision">The decision.</param>
    /// <param name="Answer">Its answer; null: there is none.</param>
    /// <param name="Packed">The answer as it is stored.</param>
    /// <param name="Events">The bytes of each of its events.</param>
    /// <param name="Touched">The streams that it changed, with the indices, separated by commas, of the events that did.</param>
    private sealed record Effect(
        Decision Decision,
        IMessage? Answer,
        Any? Packed,
        IReadOnlyList<ByteString> Events,
        IReadOnlyList<(StreamId Stream, string Indices)> Touched
    );

    /// <summary>A decision made before anything was locked, and what it rests on.</summary>
    private sealed record Rehearsed(Decision Decision, IReadOnlyList<(StreamId Id, IMessage? State)> Seen, DateTimeOffset Time);

    /// <summary>What is kept beside a state.</summary>
    private sealed record Shown(
        IMessage State,
        IReadOnlyCollection<string> Audience,
        IReadOnlyCollection<string> Keys,
        DateTimeOffset? Due
    );

    /// <summary>One attempt at committing some commands together.</summary>
    private sealed class Batch(Committer committer, List<Waiting> batch)
    {
        private readonly LedgerOptions _options = committer._options;
        private readonly List<Decided> _decided = [];
        private readonly Dictionary<(string, string), Decided> _new = [];
        private readonly Dictionary<Waiting, Rehearsed> _rehearsed = [];
        private readonly Dictionary<StreamId, Shown> _shown = [];
        private readonly Dictionary<StreamId, IMessage?> _before = [];
        private readonly Dictionary<StreamId, List<(Decided Decided, ulong Version, string Indices)>> _changes = [];
        private readonly Dictionary<string, ulong> _cursors = [];
        private readonly HashSet<string> _relisted = [];
        private readonly List<(EventRow Row, Event Event)> _published = [];
        private readonly Dictionary<StreamId, Exception> _unreadable = [];
        private readonly List<(Waiting Waiting, Func<Outcome> Outcome)> _answers = [];
        private readonly List<(Waiting Waiting, Exception Fault)> _faults = [];
        private Memory _memory = committer._memory;
        private Session _session = null!;
        private Head _head = null!;
        private DateTimeOffset _now;
        private Timestamp _time = null!;

        private StreamKind Kind(string name) =>
            committer._kinds.TryGetValue(name, out var kind)
                ? kind
                : throw new ArgumentException($"the service keeps no streams of kind {name}");

        public async Task Run(Stage stage)
        {
            // Rules are pure: what they ask for can be learnt before anything is locked, and what they decide stands if all that they
            // saw is still so.
            var (wanted, began) = (new HashSet<StreamId>(), _options.Time.GetTimestamp());
            _now = Later(_options.Time.GetUtcNow(), _memory.Time);
            if (batch.Count > 1)
                foreach (var waiting in batch)
                    Rehearse(waiting, wanted);

            await using (_session = await committer._store.OpenWaiting())
            {
                _head = await _session.LockHead();
                stage.Locked = true;
                committer._tail.Saw(_head.Size, Environment.TickCount64);
                if (_memory.Tree is null || _memory.Tree.Size != _head.Size || _memory.Held > _options.MaxHeld)
                {
                    committer._memory = _memory = new() { Tree = await Stored.EdgeOf(_session, _head), Time = _head.Time };
                }
                // A batch that waited for the lock has the time at which it got it.
                if (_options.Time.GetElapsedTime(began) > SameTime)
                    _now = _options.Time.GetUtcNow();
                _now = Later(_now, _head.Time);
                _time = _now.ToTimestamp();

                var found = await _session.FindRequests([.. batch.Select(w => (w.Command.Participant, w.Command.RequestId)).Distinct()]);
                await LoadNumbers(_memory.Cursors, batch.Select(w => w.Command.Intake?.Cursor).OfType<string>(), _session.Cursors);
                await Load(wanted);
                foreach (var waiting in batch)
                    await Take(waiting, found);

                if (_decided.Count > 0)
                    await Write(stage);
            }
            Sign();
            foreach (var (waiting, fault) in _faults)
                Fail(waiting, fault);
            foreach (var (waiting, outcome) in _answers)
                Answer(waiting, outcome());
        }

        /// <summary>For how long a batch's time stands from when it was taken.</summary>
        private static readonly TimeSpan SameTime = TimeSpan.FromMilliseconds(50);

        private static DateTimeOffset Later(DateTimeOffset time, long ticks) => new(Math.Max(time.UtcTicks, ticks), TimeSpan.Zero);

        private void Rehearse(Waiting waiting, HashSet<StreamId> wanted)
        {
            var view = _memory.View;
            view.Note();
            try
            {
                var decision = waiting.Command.Decide(view, _now);
                foreach (var change in decision.Changes)
                    wanted.UnionWith(change.Streams);
                _rehearsed[waiting] = new(decision, view.TakeSeen(), _now);
            }
            catch (Exception)
            {
                // It is told when it happens with everything loaded.
                view.TakeSeen();
            }
            wanted.UnionWith(view.TakeMissed());
        }

        private async Task Load(IEnumerable<StreamId> wanted)
        {
            var missing = wanted
                .Where(id => !_memory.View.Holds(id) && !_unreadable.ContainsKey(id) && committer._kinds.ContainsKey(id.Kind))
                .ToHashSet();
            if (missing.Count == 0)
                return;
            foreach (var row in await _session.FindStreams(missing))
            {
                missing.Remove(row.Id);
                var kind = Kind(row.Id.Kind);
                try
                {
                    Hold(row.Id, await Stored.StateOf(_session, kind, row), row.Version);
                }
                catch (Exception e) when (e is not DbException && !committer._store.IsOutage(e))
                {
                    // Whoever needs this record fails, and nobody else.
                    _unreadable[row.Id] = e;
                    continue;
                }
                _memory.Numbers[row.Id] = row.Number;
                _memory.TraceParents[row.Id] = row.TraceParent;
                if (row.Fold != kind.Version)
                    _memory.Rebuilt[row.Id] = row.Keys;
            }
            foreach (var id in missing)
                Hold(id, null, 0);

            void Hold(StreamId id, IMessage? state, ulong version)
            {
                _memory.View.Put(Kind(id.Kind), id.Key, state, version);
                _memory.Held++;
            }
        }

        private static async Task LoadNumbers(
            Dictionary<string, ulong> known,
            IEnumerable<string> names,
            Func<IReadOnlyCollection<string>, Task<Dictionary<string, ulong>>> load
        )
        {
            var missing = names.Where(n => !known.ContainsKey(n)).ToHashSet();
            if (missing.Count == 0)
                return;
            var loaded = await load(missing);
            foreach (var name in missing)
                known[name] = loaded.GetValueOrDefault(name);
        }

        private async Task Take(Waiting waiting, Dictionary<(string, string), FoundRequest> found)
        {
            var command = waiting.Command;
            var id = (command.Participant, command.RequestId);
            var digest = Digests.OfRequest(command.Method, command.Bytes.Span);
            if (found.TryGetValue(id, out var old))
            {
                try
                {
                    var outcome = Stored.OutcomeOf(old, digest, _options.Time);
                    _answers.Add((waiting, () => outcome));
                }
                catch (LedgerInconsistentException e)
                {
                    _faults.Add((waiting, e));
                }
                return;
            }
            if (_new.TryGetValue(id, out var twin))
            {
                if (!twin.Digest.AsSpan().SequenceEqual(digest))
                    _answers.Add((waiting, () => Stored.Reused(_now)));
                else
                    _answers.Add((waiting, () => OutcomeOf(twin) with { Repeated = true }));
                return;
            }
            if (command.Intake is { } intake)
            {
                var last = _cursors.GetValueOrDefault(intake.Cursor, _memory.Cursors[intake.Cursor]);
                if (intake.Sequence <= last)
                {
                    _answers.Add((waiting, () => new Outcome(null, _now, null, null, Repeated: true)));
                    return;
                }
                if (intake.Sequence > last + 1)
                {
                    _faults.Add((waiting, new EventGapException(intake.Producer, intake.Type, last, intake.Sequence)));
                    return;
                }
            }
            try
            {
                var effect = await Decide(waiting);
                if (effect.Decision.Refusal is { } refusal && !(command.StoresRefusal && Reasons.IsKept(refusal.Reason)))
                {
                    _answers.Add((waiting, () => new Outcome(null, _now, null, refusal, Repeated: false)));
                    return;
                }
                var decided = new Decided(waiting, digest, _head.Size + (ulong)_decided.Count, effect);
                foreach (var (stream, indices) in effect.Touched)
                {
                    if (!_changes.TryGetValue(stream, out var changes))
                        _changes[stream] = changes = [];
                    changes.Add((decided, _memory.View.VersionOf(stream), indices));
                }
                Link(waiting, effect.Touched);
                _decided.Add(decided);
                _new[id] = decided;
                if (command.Intake is not null)
                    _cursors[command.Intake.Cursor] = command.Intake.Sequence;
                _answers.Add((waiting, () => OutcomeOf(decided)));
            }
            catch (LedgerException e)
            {
                _faults.Add((waiting, e));
            }
        }

        /// <summary>Links a command's span to the entries that changed its streams last: to what it answers, where it is not of
        /// the same trace. An event's span needs none, for its trace is its cause's.</summary>
        private void Link(Waiting waiting, IReadOnlyList<(StreamId Stream, string Indices)> touched)
        {
            var (command, span) = (waiting.Command, waiting.Span);
            foreach (var (stream, _) in touched)
            {
                if (
                    span is not null
                    && command.Intake is null
                    && span.Links.Count() < MaxLinks
                    && _memory.TraceParents.TryGetValue(stream, out var before)
                    && ActivityContext.TryParse(before, null, isRemote: true, out var cause)
                    && cause.TraceId != span.TraceId
                    && span.Links.All(l => l.Context.SpanId != cause.SpanId)
                )
                    span.AddLink(new ActivityLink(cause));
                _memory.TraceParents[stream] = span?.Id ?? command.TraceParent;
            }
            // A record's id is its stream's key and names its kind; a prisoner's reference does not.
            if (
                touched.FirstOrDefault(t => t.Stream.Key.StartsWith($"{t.Stream.Kind}_", StringComparison.Ordinal)).Stream.Key is { } record
            )
                span?.SetTag("ministries.record", record);
        }

        private const int MaxLinks = 8;

        /// <summary>Decides one command on the view and applies what it changed, or throws and leaves the view as it
        /// was.</summary>
        private async Task<Effect> Decide(Waiting waiting)
        {
            var (command, view) = (waiting.Command, _memory.View);
            for (var round = 0; round < _options.MaxRounds; round++)
            {
                var missed = new HashSet<StreamId>();
                List<(StreamId Stream, IMessage? State, ulong Version)>? undo = null;
                var kept = false;
                try
                {
                    var decision =
                        round == 0
                        && _rehearsed.TryGetValue(waiting, out var rehearsed)
                        && rehearsed.Time == _now
                        && view.IsStill(rehearsed.Seen)
                            ? rehearsed.Decision
                            : command.Decide(view, _now);
                    missed.UnionWith(view.TakeMissed());
                    var touched = Touched(decision);
                    foreach (var (id, _) in touched)
                        if (!view.Holds(id))
                            missed.Add(id);
                    if (missed.Count == 0)
                    {
                        if (decision.Refusal is not null)
                            return new(decision, null, null, [], []);
                        undo = [.. touched.Select(t => (t.Stream, view.StateOf(t.Stream), view.VersionOf(t.Stream)))];
                        var entry = new FoldedEntry(
                            _head.Size + (ulong)_decided.Count,
                            _time,
                            command.Participant,
                            command.RequestId,
                            command.Request
                        );
                        view.Apply(committer._kinds, decision.Changes, entry);
                        var answer = decision.Answer?.Invoke(view);
                        missed.UnionWith(view.TakeMissed());
                        if (missed.Count == 0)
                        {
                            var effect = new Effect(
                                decision,
                                answer,
                                answer is null ? null : Any.Pack(answer),
                                [.. decision.Changes.Select(c => c.Event.ToByteString())],
                                touched
                            );
                            CheckLimits(command, effect);
                            kept = true;
                            foreach (var (id, state, _) in undo)
                                _before.TryAdd(id, state);
                            return effect;
                        }
                    }
                }
                catch (Exception e) when (e is not LedgerException)
                {
                    // A rule that trips over what was not loaded yet is no fault.
                    missed.UnionWith(view.TakeMissed());
                    if (missed.Count == 0)
                        throw new CommandFailedException(command.Method, e);
                }
                finally
                {
                    view.TakeMissed();
                    if (!kept)
                        foreach (var (id, state, version) in undo ?? [])
                            view.Put(Kind(id.Kind), id.Key, state, version);
                }
                if (missed.FirstOrDefault(id => !committer._kinds.ContainsKey(id.Kind)) is { Kind: { } unknown })
                    throw new CommandFailedException(command.Method, null, $"the service keeps no streams of kind {unknown}");
                if (missed.FirstOrDefault(id => id.Key.Length is 0 or > 200) is { Key: not null })
                    throw new CommandFailedException(command.Method, null, "the key of a stream is 1 to 200 characters");
                await Load(missed);
                foreach (var id in missed)
                    if (_unreadable.TryGetValue(id, out var why))
                        throw why as LedgerException
                            ?? new CommandFailedException(command.Method, why, "a record that it needs could not be rebuilt");
            }
            throw new CommandFailedException(command.Method, null, "its rule asks for more records without end");
        }

        private Shown ShownOf(StreamId id, IMessage state)
        {
            // Of a state that was not kept there may be something left.
            if (_shown.TryGetValue(id, out var shown) && ReferenceEquals(shown.State, state))
                return shown;
            var kind = Kind(id.Kind);
            return _shown[id] = new(state, kind.AudienceOf(state), kind.KeysOf(state), kind.DueOf(state));
        }

        private static List<(StreamId Stream, string Indices)> Touched(Decision decision)
        {
            var touched = new List<(StreamId Stream, string Indices)>();
            foreach (var (index, change) in decision.Changes.Index())
            foreach (var stream in change.Streams.Distinct())
                if (touched.FindIndex(t => t.Stream == stream) is >= 0 and var at)
                    touched[at] = (stream, $"{touched[at].Indices},{index}");
                else
                    touched.Add((stream, index.ToString(CultureInfo.InvariantCulture)));
            return touched;
        }

        private void CheckLimits(Command command, Effect effect)
        {
            if (effect.Events.Count > _options.MaxEvents)
                throw new CommandFailedException(command.Method, null, "more events than an entry may have");
            var bytes =
                command.Bytes.Length
                + (effect.Packed?.Value.Length ?? 0)
                + (command.Asked?.CalculateSize() ?? 0)
                + effect.Events.Sum(e => e.Length);
            if (bytes > _options.MaxEntryBytes)
                throw new CommandFailedException(command.Method, null, "its entry is greater than it may be");
            CheckTokens(effect.Decision.Audience);
            foreach (var (id, _) in effect.Touched)
            {
                var state = _memory.View.StateOf(id)!;
                if (state.CalculateSize() > _options.MaxStateBytes)
                    throw new CommandFailedException(command.Method, null, "a record grew greater than it may be");
                var shown = ShownOf(id, state);
                CheckTokens(shown.Audience);
                CheckTokens(shown.Keys);
            }

            void CheckTokens(IReadOnlyCollection<string> tokens)
            {
                if (tokens.Count > _options.MaxTokens || tokens.Any(t => t.Length is 0 or > 300 || t.Contains('\n')))
                    throw new CommandFailedException(
                        command.Method,
                        null,
                        "tokens and keys are 1 to 300 characters of one line, and not more than may be"
                    );
            }
        }

        private async Task Write(Stage stage)
        {
            await LoadNumbers(
                _memory.LastOfTypes,
                _decided.SelectMany(d => d.Decision.Changes).Select(c => c.Event.Descriptor.FullName).Where(Own).Distinct(),
                _session.LastOfTypes
            );
            var known = _memory.Cursors.Count;
            await LoadNumbers(_memory.Cursors, _decided.SelectMany(AudienceOf).Select(AudienceCursor), _session.Cursors);
            _memory.Held += _memory.Cursors.Count - known;

            var rows = new Rows();
            var events = _head.Events;
            foreach (var decided in _decided)
                Entry(decided, rows, ref events);
            var streams = _head.Streams;
            foreach (var (id, changes) in _changes)
                Stream(id, changes, rows, ref streams);
            foreach (var (name, value) in _cursors)
                rows.Cursors[name] = _memory.Cursors[name] = value;

            var tree = _memory.Tree!;
            List<byte[]> leaves = [.. rows.Entries.Select(e => TreeHash.Leaf(e.Row.Header))];
            foreach (var leaf in leaves)
                tree.Add(leaf, rows.Tiles);
            _tree = tree.TakeView();
            var edge = _tree.Edge();
            var head = new Head(tree.Size, [.. edge.SelectMany(h => h)], _now.UtcTicks, streams, events);
            await _session.Write(rows, head);
            Probe.At("before-commit");
            stage.Committing = true;
            await _session.Commit();
            stage.Committed = true;
            committer._tail.Keep(rows, head.Size, _relisted);
            KeepPublished(rows, leaves, head);
            _head = head;
            _memory.Time = head.Time;
            Probe.At("after-commit");
        }

        private void KeepPublished(Rows rows, List<byte[]> leaves, Head head)
        {
            committer._recent.Come(head.Size, head.Events);
            if (_published.Count == 0)
                return;
            var time = NumberedEvent.TimeText(_now);
            foreach (var (row, e) in _published)
            {
                var place = (int)(row.Position - _head.Size);
                committer._recent.Keep(
                    NumberedEvent.Of(
                        _options.Service,
                        row.Number,
                        row.Sequence,
                        row.Position,
                        row.Index,
                        e,
                        time,
                        leaves[place],
                        rows.Entries[place].Row.TraceParent,
                        rows.Entries[place].Row.TraceState
                    )
                );
            }
        }

        private TreeView? _tree;

        // How many entries an audience may see, kept beside the other numbers that readers and consumers have come to.
        private static string AudienceCursor(string audience) => $"audience/{audience}";

        // Who may see an entry: among them whoever's command it is.
        private static HashSet<string> AudienceOf(Decided decided) =>
            [.. decided.Decision.Audience, Audience.Of(decided.Waiting.Command.Participant)];

        private static ulong Next(Dictionary<string, ulong> last, string name) => last[name] = last.GetValueOrDefault(name) + 1;

        private bool Own(string type) => type.StartsWith(committer._package, StringComparison.Ordinal);

        private void Entry(Decided decided, Rows rows, ref ulong eventNumber)
        {
            var (command, decision, span) = (decided.Waiting.Command, decided.Decision, decided.Waiting.Span);
            var events = new Events();
            var (own, parts) = (new List<EventRow>(), new List<PartRow>());
            foreach (var (index, change) in decision.Changes.Index())
            {
                var type = change.Event.Descriptor.FullName;
                events.Events_.Add(
                    new Event
                    {
                        Type = type,
                        Data = decided.Effect.Events[index],
                        Case = decision.Case,
                    }
                );
                if (!Own(type))
                    continue;
                own.Add(new EventRow(++eventNumber, type, Next(_memory.LastOfTypes, type), decided.Position, index));
                if (committer._recent.Wanted)
                    _published.Add((own[^1], events.Events_[^1]));
            }
            var audience = AudienceOf(decided);
            var random = RandomNumberGenerator.GetBytes(32 * (6 + audience.Count));
            var used = 0;
            var header = new EntryHeader
            {
                Position = decided.Position,
                CommitTime = _time,
                Participant = command.Participant,
                RequestId = command.RequestId,
                Method = command.Method,
                AgreementVersion = command.AgreementVersion,
            };
            Part(PartKind.Request, command.Bytes.ToArray(), command.Request.Descriptor.FullName);
            if (command.Signature is { } signature)
                Part(PartKind.Signature, signature.ToByteArray());
            Part(PartKind.Events, events.ToByteArray());
            if (command.Asked is not null)
                Part(PartKind.Asked, Any.Pack(command.Asked).ToByteArray());
            if (command.Cause is not null)
                Part(PartKind.Cause, command.Cause.ToByteArray());
            Part(PartKind.Answer, AnswerOf(decided).ToByteArray());
            Number();

            var bytes = header.ToByteArray();
            decided.EntryHash = TreeHash.Record(bytes);
            span?.SetTag("ministries.position", (long)decided.Position);
            if (decision.Case.Length > 0)
                span?.SetTag("ministries.case", decision.Case);
            rows.Entries.Add(
                new NewEntry(
                    new EntryRow(
                        decided.Position,
                        command.Participant,
                        decision.Case,
                        audience,
                        span?.Id ?? command.TraceParent,
                        span is null ? command.TraceState : span.TraceStateString ?? "",
                        bytes,
                        PartBytes: 0
                    ),
                    Probe.SkipRequestIds ? Guid.NewGuid().ToString() : command.RequestId,
                    decided.Digest,
                    parts,
                    own
                )
            );

            // In no order that tells anything: the commitments are sorted.
            void Number()
            {
                var numbers = new AudienceNumbers();
                foreach (var token in audience)
                {
                    var name = AudienceCursor(token);
                    numbers.Numbers.Add(
                        new AudienceNumber
                        {
                            Audience = token,
                            Number = rows.Cursors[name] = Next(_memory.Cursors, name),
                            Salt = ByteString.CopyFrom(Salt()),
                        }
                    );
                }
                header.Audience.AddRange(numbers.Numbers.Select(Digests.OfAudience).OrderBy(d => d, Digests.Order));
                parts.Add(new PartRow(decided.Position, PartKind.Audience, "", [], numbers.ToByteArray()));
            }

            void Part(PartKind kind, byte[] data, string type = "")
            {
                var salt = Salt();
                header.Parts.Add(new PartDigest { Kind = kind, Digest = ByteString.CopyFrom(Digests.OfPart(salt, data)) });
                parts.Add(new PartRow(decided.Position, kind, type, salt, data));
            }

            byte[] Salt() => random[used..(used += 32)];
        }

        private static Answer AnswerOf(Decided decided) =>
            decided switch
            {
                { Decision.Refusal: { } refusal } => new Answer
                {
                    Refusal = new StoredRefusal
                    {
                        Reason = Reasons.NameOf(refusal.Reason),
                        Metadata = { refusal.Metadata?.ToDictionary() ?? [] },
                        Faults = { refusal.Faults ?? [] },
                    },
                },
                _ => new Answer { Response = decided.Effect.Packed },
            };

        private void Stream(StreamId id, List<(Decided Decided, ulong Version, string Indices)> changes, Rows rows, ref ulong streams)
        {
            var kind = Kind(id.Kind);
            var state = _memory.View.StateOf(id)!;
            var shown = ShownOf(id, state);
            var keys = shown.Keys.ToHashSet();
            var isNew = !_memory.Numbers.TryGetValue(id, out var number);
            if (isNew)
                _memory.Numbers[id] = number = ++streams;
            rows.Streams.Add(
                new StreamRow(
                    number,
                    id,
                    changes[^1].Version,
                    kind.Version,
                    state.ToByteArray(),
                    changes[^1].Decided.Position,
                    shown.Due?.UtcTicks,
                    shown.Audience.ToHashSet(),
                    keys,
                    isNew
                )
            );
            rows.Changes.AddRange(changes.Select(c => new ChangeRow(number, c.Version, c.Decided.Position, c.Indices)));
            // Under another fold the record may have been listed under other keys.
            if (!_memory.Rebuilt.Remove(id, out var before))
                before = isNew || _before[id] is not { } earlier ? [] : kind.KeysOf(earlier).ToHashSet();
            else
                _relisted.Add(id.Kind);
            if (!isNew && keys.SetEquals(before))
                return;
            _relisted.Add(id.Kind);
            rows.RemovedKeys.AddRange(before.Where(k => !keys.Contains(k)).Select(k => new KeyRow(id.Kind, k, number)));
            rows.Keys.AddRange(keys.Except(before).Select(k => new KeyRow(id.Kind, k, number)));
        }

        /// <summary>Nobody is told of an entry before a signed checkpoint that covers it is on the disk.</summary>
        private void Sign()
        {
            var last = committer._checkpoints.Last?.Size ?? 0;
            if (last < _head.Size)
                Probe.At("before-checkpoint");
            // Another replica may have gone further and a reader have signed that: then this tree needs no checkpoint of its own.
            if (last <= _head.Size && _head.Size > 0)
            {
                var signed = committer._checkpoints.Advance(_head.Size, TreeView.RootOf(_head.Edge));
                if (_tree is not null)
                    _tree.Checkpoint = signed;
            }
            if (last < _head.Size)
                Probe.At("after-checkpoint");
            committer._grown(_head.Size);
        }

        private Outcome OutcomeOf(Decided decided) =>
            new(decided.Position, _now, decided.Effect.Answer, decided.Decision.Refusal, Repeated: false)
            {
                Tree = _tree,
                EntryHash = decided.EntryHash,
            };

        private static void Answer(Waiting waiting, Outcome outcome)
        {
            if (outcome.Position is { } position)
                waiting.Span?.SetTag("ministries.position", (long)position);
            if (outcome.Refusal is { } refusal)
                waiting.Span?.SetTag("ministries.refusal", Reasons.NameOf(refusal.Reason));
            if (outcome.Repeated)
                waiting.Span?.SetTag("ministries.repeated", true);
            waiting.Span?.Dispose();
            waiting.Answer(outcome);
        }
    }
}
