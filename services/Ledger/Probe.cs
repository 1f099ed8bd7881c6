namespace Ministries.Ledger;

/// <summary>Points at which a test may end the process, and protections that a test may take out. Nothing sets them in production, and no
/// configuration reaches them. They are static because a test takes them out for a whole process, and instances would have to be passed
/// through all constructors only for tests.</summary>
internal static class Probe
{
    /// <summary>What to do at a point, given its name; null: nothing.</summary>
    internal static Action<string>? Hook { get; set; }

    /// <summary>True to leave request ids unrecorded, so that a repeated request is not recognised.</summary>
    internal static bool SkipRequestIds { get; set; }

    /// <summary>True to publish without waiting for the broker's confirmation.</summary>
    internal static bool SkipConfirms { get; set; }

    /// <summary>True to acknowledge a message before its effect is committed, which happens one second later.</summary>
    internal static bool AcknowledgeFirst { get; set; }

    /// <summary>True not to read events whose messages never came from the producer's ledger.</summary>
    internal static bool LeaveGaps { get; set; }

    /// <summary>True to go on leading after the lead was lost.</summary>
    internal static bool SkipFences { get; set; }

    /// <summary>A point is reached. Named points: before-commit, before-keep (before a commit is kept in memory), after-commit,
    /// before-checkpoint, after-checkpoint, before-publish, after-publish, after-confirm, before-ack, after-ack, before-take (of commands
    /// by the thread that commits), after-rights (when a follower's rights to some entries are known).</summary>
    internal static void At(string point) => Hook?.Invoke(point);
}
