using Ministries.Types.V1;

namespace Ministries.Trust;

/// <summary>One version of the agreement, ready to be asked. What it does not grant is refused.</summary>
public sealed class Permissions
{
    private readonly Dictionary<string, Participant> _participants;
    private readonly Dictionary<string, State> _states;
    private readonly Dictionary<string, ulong> _grants = [];
    private readonly Dictionary<string, uint> _approvals;

    private readonly Dictionary<string, (Participant Owner, SigningKey Key)> _keys;

    /// <summary>Reads the agreement.</summary>
    public Permissions(Agreement agreement)
    {
        Agreement = agreement;
        _participants = agreement.Participants.ToDictionary(p => p.Id);
        _states = agreement.States.ToDictionary(s => s.Code);
        foreach (var grant in agreement.Grants)
            foreach (var method in grant.Methods) _grants[method] = _grants.GetValueOrDefault(method) | Bit(grant.Part);
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
    public bool Grants(IEnumerable<Part> parts, string method)
    {
        if (!_grants.TryGetValue(method, out var granted)) return false;
        foreach (var part in parts)
            if ((granted & Bit(part)) != 0) return true;
        return false;
    }

    // Each part that a method is granted to is a bit. A part of a number that this software does not know is granted nothing.
    private static ulong Bit(Part part) => (int)part is >= 0 and < 64 ? 1ul << (int)part : 0;

    /// <summary>How many distinct officials, the actor not counted, must approve the method.</summary>
    public uint ApprovalsDemanded(string method) => _approvals.GetValueOrDefault(method);
}
