using Ministries.Types.V1;

namespace Ministries.Rules;

/// <summary>On whose behalf a participant acts.</summary>
public static class ParticipantExtensions
{
    /// <summary>Whether the participant is neutral: an observer or a Protecting Power, whatever state it acts for.</summary>
    public static bool IsNeutral(this Participant participant) =>
        participant.Kind is ParticipantKind.NeutralObserver or ParticipantKind.ProtectingPower;

    /// <summary>Whether the participant acts for the state in its own matter.</summary>
    public static bool ActsFor(this Participant participant, string state) =>
        state.Length > 0 && participant.State == state && !participant.IsNeutral();
}
