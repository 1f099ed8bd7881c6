namespace Ministries.Ledger;

/// <summary>Points at which a test may end the process or take a protection out. Nothing registers in production, and no configuration
/// reaches it.</summary>
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

    /// <summary>A point is reached. Named points: before-commit, after-commit, before-checkpoint, after-checkpoint,
    /// before-publish, after-publish, after-confirm, before-ack, after-ack, before-take (of commands by the thread that commits), and
    /// background- with the name of what works beside the calls.</summary>
    internal static void At(string point) => Hook?.Invoke(point);
}
