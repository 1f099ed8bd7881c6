using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Ministries.Errors.V1;
using Ministries.Trust;
using Ministries.Types.V1;

namespace Ministries.Fixtures;

/// <summary>A command that a rule accepted.</summary>
/// <param name="Participant">Whose.</param>
/// <param name="Method">Its method, or the type of the event.</param>
/// <param name="RequestId">Its id.</param>
/// <param name="Request">The request.</param>
/// <param name="Decision">What the rule decided.</param>
/// <param name="Answer">The answer; null: there is none.</param>
/// <param name="Asked">What another service answered, where it becomes a part of the entry; null: nothing does.</param>
public sealed record Played(
    string Participant,
    string Method,
    string RequestId,
    IMessage Request,
    Decision Decision,
    IMessage? Answer,
    IMessage? Asked = null
);

/// <summary>Runs rules without a ledger, on states in memory and at given times. It applies a decision's changes as the ledger
/// would.</summary>
public sealed class RuleRunner(IEnumerable<StreamKind> kinds, Agreement? agreement = null)
{
    private readonly Dictionary<string, StreamKind> _kinds = kinds.ToDictionary(k => k.Name);
    private readonly List<(StreamId Id, IMessage? State, ulong Version)> _states = [];

    // The size of a state that a ledger takes unless it is set up otherwise (LedgerOptions.MaxStateBytes).
    private const int MaxStateBytes = 8 << 20;

    private int _requests;

    /// <summary>The agreement in force.</summary>
    public Permissions Permissions { get; set; } = new(agreement ?? StandardAgreement.Read());

    /// <summary>The officials who approve every command. Their signatures are checked elsewhere, at the edge.</summary>
    public IReadOnlySet<string> Approved { get; set; } = new HashSet<string> { "approver-1", "approver-2" };

    /// <summary>The time of the next command.</summary>
    public DateTimeOffset Now { get; set; } = new(2025, 3, 17, 9, 0, 0, TimeSpan.Zero);

    /// <summary>The position of the next entry.</summary>
    public ulong Position { get; private set; }

    /// <summary>Entries that are not played here take the positions before this one.</summary>
    public void Cover(ulong position) => Position = Math.Max(Position, position);

    /// <summary>What the entries published, in order.</summary>
    public List<IMessage> Events { get; } = [];

    /// <summary>The commands that were accepted, in order.</summary>
    public List<Played> Accepted { get; } = [];

    /// <summary>The state of a record, or null.</summary>
    public T? State<T>(StreamKind<T> kind, string key)
        where T : class, IMessage<T>, new() => (T?)_states.FirstOrDefault(s => s.Id == kind.Id(key)).State;

    /// <summary>Whether another service's answer becomes a part of the entry.</summary>
    public Func<IMessage, bool> Keeps { get; set; } = static _ => true;

    /// <summary>Runs a rule as a participant; what it accepts is applied.</summary>
    public (Decision Decision, IMessage? Answer) Play<TRequest>(
        string participant,
        TRequest request,
        Func<TRequest, RuleContext, Decision> rule,
        string method,
        IMessage? asked = null,
        string? requestId = null
    )
        where TRequest : IMessage
    {
        var view = new View();
        var context = new RuleContext
        {
            View = view,
            Caller = Permissions.Participant(participant) ?? throw new ArgumentException($"no participant {participant}"),
            Permissions = Permissions,
            Method = method,
            Now = Now,
            Asked = asked,
            Approved = Approved,
            Verifies = SigningKeys.Verifies,
            Secrets = Secret.OfTests,
            RequestId = requestId ?? $"request-{_requests++:00000000}",
        };
        foreach (var (id, state, version) in _states)
            view.Put(_kinds[id.Kind], id.Key, state, version);
        var decision = rule(request, context);
        for (var missed = view.TakeMissed(); missed.Count > 0; missed = view.TakeMissed())
        {
            foreach (var id in missed)
                view.Put(_kinds[id.Kind], id.Key, null, 0);
            decision = rule(request, context);
        }
        if (decision.Refusal is not null)
            return (decision, null);
        var entry = new FoldedEntry(Position++, Now.ToTimestamp(), participant, context.RequestId, request);
        foreach (var id in view.Apply(_kinds, decision.Changes, entry))
        {
            // The ledger refuses a state that is larger, and with it whatever wrote it.
            if (view.StateOf(id)?.CalculateSize() > MaxStateBytes)
                throw new InvalidOperationException($"{method}: the {id.Kind} grew larger than a ledger takes");
            _states.RemoveAll(s => s.Id == id);
            _states.Add((id, view.StateOf(id), view.VersionOf(id)));
        }
        Events.AddRange(decision.Changes.Select(c => c.Event));
        var answer = decision.Answer?.Invoke(view);
        var kept = asked is not null && Keeps(asked) ? asked : null;
        Accepted.Add(new(participant, method, context.RequestId, request, decision, answer, kept));
        return (decision, answer);
    }

    /// <summary>The reason of a refusal, or <see cref="Reason.Unspecified"/> where the command was accepted.</summary>
    public static Reason ReasonOf(Decision decision) => decision.Refusal?.Reason ?? Reason.Unspecified;
}
