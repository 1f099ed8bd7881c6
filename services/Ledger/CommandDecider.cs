using System.Globalization;
using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;

namespace Ministries.Ledger;

/// <summary>What is stored beside a state, so that the record is found by it.</summary>
internal sealed record StateIndex(
    IMessage State,
    IReadOnlyCollection<string> Audience,
    IReadOnlyCollection<string> Keys,
    DateTimeOffset? Due
);

/// <summary>Decides the commands of a batch, one after the other, each on the states that those before it left.</summary>
/// <param name="context">What every batch works with.</param>
/// <param name="cache">The states.</param>
/// <param name="loader">Loads what a rule misses.</param>
/// <param name="now">The time of the batch.</param>
internal sealed class CommandDecider(CommitContext context, CommitCache cache, StateLoader loader, DateTimeOffset now)
{
    private readonly Dictionary<StreamId, StateIndex> _indices = [];

    /// <summary>The states as they were before the batch changed them, of the streams that it changed.</summary>
    public Dictionary<StreamId, IMessage?> Before { get; } = [];

    /// <summary>Decides one command and applies what it changed, or throws and leaves the states as they were.</summary>
    /// <param name="command">The command.</param>
    /// <param name="preview">What was decided before the lock was held; null: nothing.</param>
    /// <param name="position">The position that its entry gets.</param>
    /// <exception cref="LedgerException">Its rule failed, or its entry would be larger than allowed.</exception>
    public async Task<Effect> Decide(Command command, Preview? preview, ulong position)
    {
        var entry = new FoldedEntry(position, now.ToTimestamp(), command.Participant, command.RequestId, command.Request);
        for (var round = 0; round < context.Options.MaxRounds; round++)
        {
            var missed = new HashSet<StreamId>();
            if (Attempt(command, round == 0 ? preview : null, entry, missed) is { } effect)
                return effect;
            await loader.LoadMissed(command, missed);
        }
        throw new CommandFailedException(command.Method, null, "its rule keeps asking for more records");
    }

    /// <summary>What is stored beside a state.</summary>
    public StateIndex IndexOf(StreamId id, IMessage state)
    {
        // The index may belong to a state that was undone.
        if (_indices.TryGetValue(id, out var index) && ReferenceEquals(index.State, state))
            return index;
        var kind = context.KindOf(id.Kind);
        return _indices[id] = new(state, kind.AudienceOf(state), kind.KeysOf(state), kind.DueOf(state));
    }

    /// <summary>Decides with the states that are loaded; null: a state is missing.</summary>
    private Effect? Attempt(Command command, Preview? preview, FoldedEntry entry, HashSet<StreamId> missed)
    {
        var view = cache.View;
        List<(StreamId Stream, IMessage? State, ulong Version)> undo = [];
        Effect? effect = null;
        try
        {
            var decision = preview?.Stands(view, now) == true ? preview.Decision : command.Decide(view, now);
            missed.UnionWith(view.TakeMissed());
            var touched = Touched(decision);
            missed.UnionWith(touched.Select(t => t.Stream).Where(id => !view.Holds(id)));
            if (missed.Count > 0)
                return null;
            if (decision.Refusal is not null)
                return effect = new Effect(decision, null, null, [], []);
            undo = [.. touched.Select(t => (t.Stream, view.StateOf(t.Stream), view.VersionOf(t.Stream)))];
            effect = Apply(command, decision, touched, entry, missed);
        }
        catch (Exception e) when (e is not LedgerException)
        {
            // A rule that fails because a state was not loaded yet is run again once it is loaded.
            missed.UnionWith(view.TakeMissed());
            if (missed.Count == 0)
                throw new CommandFailedException(command.Method, e);
        }
        finally
        {
            view.TakeMissed();
            foreach (var (id, state, version) in undo)
                if (effect is null)
                    view.Put(context.KindOf(id.Kind), id.Key, state, version);
                else
                    Before.TryAdd(id, state);
        }
        return effect;
    }

    /// <summary>Applies what was decided, and answers; null: the answer needs something that is missing.</summary>
    private Effect? Apply(
        Command command,
        Decision decision,
        List<(StreamId Stream, string Indices)> touched,
        FoldedEntry entry,
        HashSet<StreamId> missed
    )
    {
        cache.View.Apply(context.Kinds, decision.Changes, entry);
        var answer = decision.Answer?.Invoke(cache.View);
        missed.UnionWith(cache.View.TakeMissed());
        if (missed.Count > 0)
            return null;
        var effect = new Effect(
            decision,
            answer,
            answer is null ? null : Any.Pack(answer),
            [.. decision.Changes.Select(c => c.Event.ToByteString())],
            touched
        );
        CheckLimits(command, effect);
        return effect;
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
        var options = context.Options;
        if (effect.Events.Count > options.MaxEvents)
            throw new CommandFailedException(command.Method, null, "it has more events than an entry may have");
        var bytes =
            command.Bytes.Length
            + (effect.Packed?.Value.Length ?? 0)
            + (command.Asked?.CalculateSize() ?? 0)
            + effect.Events.Sum(e => e.Length);
        if (bytes > options.MaxEntryBytes)
            throw new CommandFailedException(command.Method, null, "its entry is larger than allowed");
        CheckTokens(effect.Decision.Audience);
        foreach (var (id, _) in effect.Touched)
        {
            var state = cache.View.StateOf(id)!;
            if (state.CalculateSize() > options.MaxStateBytes)
                throw new CommandFailedException(command.Method, null, "a record grew larger than allowed");
            var index = IndexOf(id, state);
            CheckTokens(index.Audience);
            CheckTokens(index.Keys);
        }

        void CheckTokens(IReadOnlyCollection<string> tokens)
        {
            if (tokens.Count > options.MaxTokens || tokens.Any(t => t.Length is 0 or > 300 || t.Contains('\n')))
                throw new CommandFailedException(
                    command.Method,
                    null,
                    "tokens and keys must be 1 to 300 characters in one line, and no more of them than allowed"
                );
        }
    }
}
