using Ministries.Hosting;

namespace Ministries.CallLog;

/// <summary>What the call log records when its time has come.</summary>
public static class Duties
{
    /// <summary>All of them: commitments fall overdue.</summary>
    public static readonly IReadOnlyList<Duty> All = [new Duty(Calls.Kind, Calls.FallDue)];
}
