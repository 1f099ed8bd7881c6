using Ministries.Types.V1;

namespace Ministries.Rules;

/// <summary>The tokens that a participant holds: its own, those that everybody holds, and those that follow from its part in cases. Of a
/// case only the id is stored here.</summary>
public sealed class HeldTokens
{
    // The length of the text before the id in a case's tokens.
    private static readonly int Before = Audience.Case("").Length;

    private readonly HashSet<string> _own;
    private readonly HashSet<string>.AlternateLookup<ReadOnlySpan<char>> _cases,
        _endings;

    /// <summary>The tokens of a participant.</summary>
    /// <param name="participant">The participant; null: nobody, who holds none.</param>
    /// <param name="cases">The ids of the cases to which it is a party.</param>
    public HeldTokens(Participant? participant, HashSet<string> cases)
    {
        _own = participant is null ? [] : Own(participant);
        _cases = cases.GetAlternateLookup<ReadOnlySpan<char>>();
        _endings = (participant is null ? new HashSet<string>() : Endings(participant)).GetAlternateLookup<ReadOnlySpan<char>>();
    }

    private HeldTokens(HeldTokens same, HashSet<string> cases) =>
        (_own, _cases, _endings) = (same._own, cases.GetAlternateLookup<ReadOnlySpan<char>>(), same._endings);

    /// <summary>The tokens of the same participant as a party to other cases.</summary>
    /// <param name="cases">The ids of these cases.</param>
    public HeldTokens In(HashSet<string> cases) => new(this, cases);

    /// <summary>Whether it holds a token.</summary>
    public bool Contains(string token)
    {
        if (_own.Contains(token))
            return true;
        var @case = Audience.SpanOfCase(token);
        return @case.Length > 0 && _cases.Contains(@case) && _endings.Contains(token.AsSpan(Before + @case.Length));
    }

    /// <summary>The tokens that a participant holds without a case.</summary>
    internal static HashSet<string> Own(Participant participant) => [Audience.Everybody, Audience.Of(participant.Id)];

    /// <summary>The endings of the tokens that a participant holds as a party to a case. For each level up to its clearance there is one
    /// without a name and one with its own name (<see cref="Audience.Marked"/>).</summary>
    internal static HashSet<string> Endings(Participant participant)
    {
        var side = participant.IsNeutral() ? Audience.Observers("") : Audience.State("", participant.State);
        var endings = new HashSet<string>();
        foreach (var audience in (string[])[Audience.Case(""), side])
            for (var level = Level.Restricted; level == Level.Restricted || level <= participant.Clearance; level++)
            {
                var cleared = Audience.Cleared(audience, level);
                endings.Add(cleared[Before..]);
                endings.Add(Audience.Named(cleared, participant.Id)[Before..]);
            }
        return endings;
    }
}
