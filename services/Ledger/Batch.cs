using System.Diagnostics;

namespace Ministries.Ledger;

/// <summary>One attempt at committing some commands together.</summary>
/// <param name="context">What every batch works with.</param>
/// <param name="cache">What this process knows of the database.</param>
/// <param name="commands">The commands, in the order in which they are decided. Where entries are covered, that order and their places are
/// drawn (<see cref="Cover.Draw"/>), and there may be none.</param>
internal sealed class Batch(CommitContext context, CommitCache cache, IReadOnlyList<PendingCommand> commands)
{
    /// <summary>How old the time of a batch may be when its commands are decided.</summary>
    private static readonly TimeSpan SameTime = TimeSpan.FromMilliseconds(50);

    /// <summary>The greatest number of earlier entries that the span of a command is linked to.</summary>
    private const int MaxLinks = 8;

    private readonly List<DecidedCommand> _decided = [];
    private readonly Dictionary<(string Participant, string RequestId), DecidedCommand> _new = [];
    private readonly Dictionary<string, ulong> _intakes = [];
    private readonly List<(PendingCommand Pending, Func<Outcome> Outcome)> _answers = [];
    private readonly List<(PendingCommand Pending, Exception Fault)> _faults = [];
    private CommitCache _cache = cache;
    private CommandDecider _decider = null!;
    private Head _head = null!;
    private TreeView? _tree;
    private DateTimeOffset _now;

    /// <summary>Decides the commands, commits the accepted ones, signs the tree and answers every caller.</summary>
    /// <param name="progress">Records how far it has come.</param>
    /// <param name="replaced">Receives a new cache if another replica has written, because the given one is then outdated.</param>
    public async Task Run(BatchProgress progress, Action<CommitCache> replaced)
    {
        var began = context.Options.Time.GetTimestamp();
        _now = NotBefore(context.Options.Time.GetUtcNow(), _cache.Time);
        var (wanted, previews) = (new HashSet<StreamId>(), new Dictionary<PendingCommand, Preview?>());
        // A preview finds the states that several commands need, so that one query loads them. One command needs none.
        if (commands.Count > 1)
            foreach (var pending in commands)
                previews[pending] = Preview.Of(pending.Command, _cache.View, _now, wanted);

        await using (var session = await context.Store.OpenWaiting())
        {
            await Lock(session, began, replaced);
            progress.Locked = true;
            var loader = new StateLoader(context, _cache, session);
            _decider = new CommandDecider(context, _cache, loader, _now);
            var ids = commands.Select(p => (p.Command.Participant, p.Command.RequestId)).ToHashSet();
            var answered = ids.Count == 0 ? [] : await session.FindRequests(ids);
            await loader.LoadCursors(commands.Select(p => p.Command.Intake?.Cursor).OfType<string>());
            await loader.Load(wanted);
            foreach (var (place, pending) in (context.Leaves is { } leaves ? Cover.Draw(commands, leaves) : commands).Index())
                if (pending is not null)
                    await Take(pending, place, previews.GetValueOrDefault(pending), answered);
            if (_decided.Count > 0 || context.Leaves is not null)
            {
                (_head, _tree) = await new BatchWriter(context, _cache, loader, _decider, session, _now).Write(
                    _decided,
                    _intakes,
                    _head,
                    progress
                );
                progress.Recorded = _decided.Count > 0;
            }
            else if (_head.Size > context.End.Replicated)
            {
                // Others wrote, and what is answered now rests on it. Their commit may be one that was not replicated.
                progress.Committing = true;
                await session.CommitNothing();
            }
        }
        context.End.Replicate(_head.Size);
        Sign();
        foreach (var (pending, fault) in _faults)
            pending.Fail(fault);
        foreach (var (pending, outcome) in _answers)
            pending.Answer(outcome());
    }

    private static DateTimeOffset NotBefore(DateTimeOffset time, long ticks) => new(Math.Max(time.UtcTicks, ticks), TimeSpan.Zero);

    /// <summary>Takes the head's lock. From then on nobody else writes, and the cache holds if its tree has the head's size, and its time
    /// that of the head: an erasure moves the head's time.</summary>
    private async Task Lock(Session session, long began, Action<CommitCache> replaced)
    {
        var before = context.Options.Time.GetUtcNow();
        _head = await session.LockHead();
        // The holder of the lock sees all commits.
        if (context.Greatest is { } known && _head.Size < known.Size)
            throw ServiceLedger.Behind(_head.Size, known.Size);
        if (context.Clock.Look(before, session.DatabaseTime, _head.Time) is { } wrong)
            throw new ClockNotTrustedException(wrong);
        var mayRelist = await context.RecentEntries.MayRelist(session, _head);
        context.RecentEntries.NoteHead(_head, mayRelist, Environment.TickCount64);
        if (_cache.Tree is null || (_cache.Tree.Size, _cache.Time) != (_head.Size, _head.Time) || _cache.Held > context.Options.MaxHeld)
            replaced(_cache = new CommitCache { Tree = await Stored.EdgeOf(session, _head), Time = _head.Time });
        // A batch that waited long for the lock takes the time at which it got the lock.
        if (context.Options.Time.GetElapsedTime(began) > SameTime)
            _now = context.Options.Time.GetUtcNow();
        _now = NotBefore(_now, _head.Time);
    }

    /// <summary>Answers what was answered before, and decides the rest.</summary>
    private async Task Take(PendingCommand pending, int place, Preview? preview, Dictionary<(string, string), FoundRequest> answered)
    {
        var command = pending.Command;
        var id = (command.Participant, command.RequestId);
        var digest = Digests.OfRequest(command.Method, command.Bytes.Span);
        pending.Note(hasFailed: false);
        try
        {
            if (answered.TryGetValue(id, out var old))
            {
                var outcome = Stored.OutcomeOf(old, digest, context.Options.Time);
                _answers.Add((pending, () => outcome));
            }
            else if (_new.TryGetValue(id, out var twin))
                _answers.Add(
                    (
                        pending,
                        twin.Digest.AsSpan().SequenceEqual(digest)
                            ? () => OutcomeOf(twin) with { Repeated = true }
                            : () => Stored.Reused(_now)
                    )
                );
            else if (WasTakenIn(command))
                _answers.Add((pending, () => new Outcome(null, _now, null, null, Repeated: true)));
            else if (command.Link is { Previous.HasFailed: true })
                throw new CommandHeldBackException();
            else
                await Decide(pending, place, preview, digest);
        }
        catch (LedgerException e)
        {
            pending.Note(hasFailed: true);
            _faults.Add((pending, e));
        }
    }

    /// <summary>Whether the command is an event that was settled before.</summary>
    /// <exception cref="EventGapException">Events before this one have not been taken in.</exception>
    private bool WasTakenIn(Command command)
    {
        if (command.Intake is not { } intake)
            return false;
        var last = _intakes.GetValueOrDefault(intake.Cursor, _cache.Cursors[intake.Cursor]);
        return intake.Sequence > last + 1
            ? throw new EventGapException(intake.Producer, intake.Type, last, intake.Sequence)
            : intake.Sequence <= last;
    }

    private async Task Decide(PendingCommand pending, int place, Preview? preview, byte[] digest)
    {
        var command = pending.Command;
        // Where nothing is covered, the entries follow one upon the other. A place whose command makes no entry is covered.
        var position = _head.Size + (ulong)(context.Leaves is null ? _decided.Count : place);
        var effect = await _decider.Decide(command, preview, position);
        if (effect.Decision.Refusal is { } refusal && !(command.StoresRefusal && Reasons.IsKept(refusal.Reason)))
        {
            pending.Note(hasFailed: true);
            _answers.Add((pending, () => new Outcome(null, _now, null, refusal, Repeated: false)));
            return;
        }
        var decided = new DecidedCommand(pending, digest, position, effect);
        Link(pending, effect.Touched);
        _decided.Add(decided);
        _new[(command.Participant, command.RequestId)] = decided;
        if (command.Intake is { } intake)
            _intakes[intake.Cursor] = intake.Sequence;
        _answers.Add((pending, () => OutcomeOf(decided)));
    }

    /// <summary>Links a command's span to the entries that last changed its streams, if these belong to other traces. The span
    /// of an event needs no link, because it is in the trace of its cause.</summary>
    private void Link(PendingCommand pending, IReadOnlyList<(StreamId Stream, string Indices)> touched)
    {
        var (command, span) = (pending.Command, pending.Span);
        foreach (var (stream, _) in touched)
        {
            if (
                span is not null
                && command.Intake is null
                && span.Links.Count() < MaxLinks
                && _cache.TraceParents.TryGetValue(stream, out var before)
                && ActivityContext.TryParse(before, null, isRemote: true, out var cause)
                && cause.TraceId != span.TraceId
                && span.Links.All(l => l.Context.SpanId != cause.SpanId)
            )
                span.AddLink(new ActivityLink(cause));
            _cache.TraceParents[stream] = span?.Id ?? command.TraceParent;
        }
        // The key of a record's stream is the record's id and begins with its kind. A prisoner's reference does not, and stays out of
        // traces.
        if (touched.FirstOrDefault(t => t.Stream.Key.StartsWith($"{t.Stream.Kind}_", StringComparison.Ordinal)).Stream.Key is { } record)
            span?.SetTag("ministries.record", record);
    }

    /// <summary>Signs a checkpoint and stores it. No entry is answered before a checkpoint that covers it is on the disk.</summary>
    private void Sign()
    {
        var last = context.Checkpoints.Last?.Size ?? 0;
        if (last < _head.Size)
            Probe.At("before-checkpoint");
        // If a reader has signed the larger tree of another replica meanwhile, this tree needs no checkpoint of its own.
        if (last <= _head.Size && _head.Size > 0)
        {
            var signed = context.Checkpoints.Advance(_head.Size, TreeView.RootOf(_head.Edge));
            if (_tree is not null)
                _tree.Checkpoint = signed;
        }
        if (last < _head.Size)
            Probe.At("after-checkpoint");
        context.Grown(_head.Size);
    }

    private Outcome OutcomeOf(DecidedCommand decided) =>
        new(decided.Position, _now, decided.Effect.Answer, decided.Decision.Refusal, Repeated: false)
        {
            Tree = _tree,
            Entry = decided.Entry,
        };
}
