using Ministries.Types.V1;

namespace Ministries.Rules;

/// <summary>Who reads, and what he holds.</summary>
/// <param name="Participant">The participant.</param>
/// <param name="Tokens">The tokens that the participant holds (<see cref="Audience"/>).</param>
public sealed record Reader(Participant Participant, HeldTokens Tokens);
