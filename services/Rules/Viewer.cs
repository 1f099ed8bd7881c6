using System.Diagnostics.CodeAnalysis;
using Ministries.Types.V1;

namespace Ministries.Rules;

/// <summary>The reader for whom the ledger selects entries, by its tokens (<see cref="Audience"/>). Tokens that follow from its part in
/// cases are not listed. Instead, the ledger looks up whether the reader is a party to the case of each entry. So the cost does not depend
/// on the number of its cases.</summary>
/// <param name="Tokens">The tokens that the reader holds without a case.</param>
/// <param name="PartyKey">The key under which the reader's cases are listed (<see cref="Cases.PartyKey"/>); null: it has none.</param>
/// <param name="Endings">The endings of the tokens that the reader holds as a party to a case.</param>
public sealed record Viewer(IReadOnlyCollection<string> Tokens, string? PartyKey, IReadOnlyCollection<string> Endings)
{
    /// <summary>A reader that holds these tokens and no others.</summary>
    [return: NotNullIfNotNull(nameof(tokens))]
    public static implicit operator Viewer?(HashSet<string>? tokens) => tokens is null ? null : new(tokens, null, []);

    /// <summary>A participant as reader.</summary>
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
