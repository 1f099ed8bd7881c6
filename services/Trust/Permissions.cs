using Ministries.Types.V1;

namespace Ministries.Trust;

/// <summary>One version of the agreement, ready to be asked. What it does not grant is refused.</summary>
public sealed class Permissions
{
    private readonly Dictionary<string, Participant> _participants;
    private readonly Dictionary<string, State> _states;
    private readonly HashSet<(Part, string)> _grants;
    private readonly Dictionary<string, uint> _approvals;

    private readonly Dictionary<string, (Participant Owner, SigningKey Key)> _keys;

    /// <summary>Reads the agreement.</summary>
    public Permissions(Agreement agreement)
    {
        Agreement = agreement;
        _participants = agreement.Participants.ToDictionary(p => p.Id);
        _states = agreement.States.ToDictionary(s => s.Code);
        _grants = [.. agreement.Grants.SelectMany(g => g.Methods.Select(m => (g.Part, m)))];
        _keys = agreement.Participants.SelectMany(p => p.SigningKeys.Select(k => (Owner: p, Key: k))).ToDictionary(k => k.Key.Id);
        _approvals = agreement.ApprovalDemands.ToDictionary(d => d.Method, d => d.Officials);
    }

    /// <summary>The agreement itself.</summary>
    public Agreement Agreement { get; }

    /// <summary>The participant of this id, or null.</summary>
    public Participant? Participant(string id) => _participants.GetValueOrDefault(id);

    /// <summary>The state of this code, or null.</summary>
    public State? State(string code) => _states.GetValueOrDefault(code);

    /// <summary>The signing key of this id with its owner, or null.</summary>
    public (Participant Owner, SigningKey Key)? SigningKey(string id) => _keys.TryGetValue(id, out var found) ? found : null;

    /// <summary>Whether any of the parts may call the method.</summary>
    /// <param name="parts">The caller's parts.</param>
    /// <param name="method">The full method name without a leading slash.</param>
    public bool Grants(IEnumerable<Part> parts, string method) => parts.Any(p => _grants.Contains((p, method)));

    /// <summary>How many distinct officials, the actor not counted, must approve the method.</summary>
    public uint ApprovalsDemanded(string method) => _approvals.GetValueOrDefault(method);
}
