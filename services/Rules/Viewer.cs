using System.Diagnostics.CodeAnalysis;
using Ministries.Types.V1;

namespace Ministries.Rules;

/// <summary>Whom the ledger shows something to, by the tokens that he holds (<see cref="Audience"/>). Those that follow from his part in
/// cases are not listed: the ledger looks up, for the cases of what it shows, whether he is a party to them. So it costs the same however
/// many cases he has.</summary>
/// <param name="Tokens">The tokens that he holds by himself.</param>
/// <param name="PartyKey">The key under which his cases are listed (<see cref="Cases.PartyKey"/>); null: he holds nothing through
/// cases.</param>
/// <param name="Endings">What follows the id of a case in the tokens that he holds as a party to it.</param>
public sealed record Viewer(IReadOnlyCollection<string> Tokens, string? PartyKey, IReadOnlyCollection<string> Endings)
{
    /// <summary>One who holds these tokens and no others.</summary>
    [return: NotNullIfNotNull(nameof(tokens))]
    public static implicit operator Viewer?(HashSet<string>? tokens) => tokens is null ? null : new(tokens, null, []);

    /// <summary>A participant.</summary>
    public static Viewer Of(Participant participant) =>
        new(
            HeldTokens.Own(participant),
            // Neither a service nor the operator is a party to a case.
            participant.Kind
                is ParticipantKind.Service
                    or ParticipantKind.Operator
                ? null
                : Cases.PartyKey(participant.Id),
            HeldTokens.Endings(participant)
        );
}
