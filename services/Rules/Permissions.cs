using Ministries.Types.V1;

namespace Ministries.Rules;

/// <summary>One version of the agreement, ready to be asked. What it does not grant is refused.</summary>
public sealed class Permissions
{
    private readonly Dictionary<string, Participant> _participants;
    private readonly Dictionary<string, State> _states;
    private readonly Dictionary<string, GrantedParts> _grants = [];
    private readonly Dictionary<string, uint> _approvals;

    private readonly Dictionary<string, (Participant Owner, SigningKey Key)> _keys;
    private readonly HashSet<(string Participant, string Official)> _officials;
    private readonly HashSet<string> _ofAnybody;

    /// <summary>Reads the agreement.</summary>
    public Permissions(Agreement agreement)
    {
        Agreement = agreement;
        _participants = agreement.Participants.ToDictionary(p => p.Id);
        _states = agreement.States.ToDictionary(s => s.Code);
        foreach (var grant in agreement.Grants)
        foreach (var method in grant.Methods)
            _grants[method] = _grants.GetValueOrDefault(method).And(grant.Part);
        _keys = agreement.Participants.SelectMany(p => p.SigningKeys.Select(k => (Owner: p, Key: k))).ToDictionary(k => k.Key.Id);
        _approvals = agreement.ApprovalDemands.ToDictionary(d => d.Method, d => d.Officials);
        _officials =
        [
            .. agreement.Participants.SelectMany(p =>
                p.Officials.Concat(p.SigningKeys.Select(k => k.Official)).Where(o => o.Length > 0).Select(o => (p.Id, o))
            ),
        ];
        _ofAnybody = [.. _officials.Select(o => o.Official)];
    }

    /// <summary>The agreement itself.</summary>
    public Agreement Agreement { get; }

    /// <summary>The participant of this id, or null.</summary>
    public Participant? Participant(string id) => _participants.GetValueOrDefault(id);

    /// <summary>The state of this code, or null.</summary>
    public State? State(string code) => _states.GetValueOrDefault(code);

    /// <summary>The Central Tracing Agency: the neutral observer that the agreement names and that acts for no state; null: it names none
    /// such.</summary>
    public Participant? CentralTracingAgency =>
        Participant(Agreement.CentralTracingAgency) is { Kind: ParticipantKind.NeutralObserver, State: "" } agency ? agency : null;

    /// <summary>The national bureau of a state; null: the agreement names none.</summary>
    public string? BureauOf(string state) => Agreement.Bureaux.FirstOrDefault(b => b.State == state)?.Participant;

    /// <summary>The signing key of this id with its owner, or null.</summary>
    public (Participant Owner, SigningKey Key)? SigningKey(string id) => _keys.TryGetValue(id, out var found) ? found : null;

    /// <summary>Whether the agreement lists this code of an official, interpreter or physician.</summary>
    /// <param name="code">The code.</param>
    /// <param name="participant">The participant whose official it must be; null: anybody's.</param>
    public bool ListsOfficial(string code, string? participant = null) =>
        participant is null ? _ofAnybody.Contains(code) : _officials.Contains((participant, code));

    /// <summary>The codes of the officials, interpreters and physicians that the agreement lists for a participant, including those named
    /// only beside a key.</summary>
    /// <param name="participant">The participant's id.</param>
    public IEnumerable<string> OfficialsOf(string participant) =>
        _officials.Where(o => o.Participant == participant).Select(o => o.Official);

    /// <summary>The parts to which the method is granted; to none where the agreement does not name it.</summary>
    /// <param name="method">The full method name without a leading slash.</param>
    public GrantedParts PartsGranted(string method) => _grants.GetValueOrDefault(method);

    /// <summary>How many distinct officials, the actor not counted, must approve the method.</summary>
    public uint ApprovalsDemanded(string method) => _approvals.GetValueOrDefault(method);
}

/// <summary>The parts to which the agreement grants a method.</summary>
public readonly record struct GrantedParts
{
    private readonly ulong _parts;

    private GrantedParts(ulong parts) => _parts = parts;

    /// <summary>The same, and to this part.</summary>
    public GrantedParts And(Part part) => new(_parts | Bit(part));

    /// <summary>Whether it covers any of the parts.</summary>
    public bool CoversAny(IEnumerable<Part> parts)
    {
        foreach (var part in parts)
            if ((_parts & Bit(part)) != 0)
                return true;
        return false;
    }

    // Each part is a bit. A part of a number that this software does not know is granted nothing.
    private static ulong Bit(Part part) => (int)part is >= 0 and < 64 ? 1ul << (int)part : 0;
}
