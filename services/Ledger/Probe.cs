namespace Ministries.Ledger;

/// <summary>Points at which a test may end the process or take a protection out, and a benchmark what it measures the cost of. Nothing registers in production, and no
/// configuration reaches it.</summary>
internal static class Probe
{
    /// <summary>What happens at a point, by its name; null: nothing.</summary>
    internal static Action<string>? Hook { get; set; }

    /// <summary>True to leave request ids unrecorded: a protection taken out, to show that a test sees it.</summary>
    internal static bool SkipRequestIds { get; set; }

    /// <summary>True to go on with a publish without the broker's confirmation.</summary>
    internal static bool SkipConfirms { get; set; }

    /// <summary>True to acknowledge a message before its effect is committed, which then follows a while later.</summary>
    internal static bool AcknowledgeFirst { get; set; }

    /// <summary>True to leave out what a producer's ledger has and no message brought.</summary>
    internal static bool LeaveGaps { get; set; }

    /// <summary>True to write without what makes a write provable, to measure what that costs: no signature is checked, parts get no
    /// salt and no digest, no checkpoint is signed, no receipt is given. The rows written are the same but for the signature's.
    /// </summary>
    internal static bool WithoutTrust { get; set; }

    /// <summary>A point is reached. Named points: before-commit, after-commit, before-checkpoint, after-checkpoint,
    /// before-publish, after-publish, after-confirm, before-ack, after-ack, before-take (of commands by the thread that commits), and
    /// background- with the name of what works beside the calls.</summary>
    internal static void At(string point) => Hook?.Invoke(point);
}
