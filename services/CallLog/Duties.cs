using Google.Protobuf.WellKnownTypes;
using Ministries.CallLog.V1;

namespace Ministries.CallLog;

/// <summary>What the call log records when duties fall due.</summary>
public static class Duties
{
    /// <summary>The duty to keep a commitment in time.</summary>
    public const string Commitment = "commitment-overdue";

    /// <summary>All of them: commitments fall overdue.</summary>
    public static readonly IReadOnlyList<Duty> All = [new Duty(Calls.Kind, FallDue)];

    /// <summary>Commitments fall overdue.</summary>
    /// <param name="id">The call.</param>
    /// <param name="context">When, and the states.</param>
    public static Decision FallDue(string id, RuleContext context)
    {
        var call = context.Find(Calls.Kind, id);
        var due = call?.Commitments.Where(c => Commitments.DueOf(c) <= context.Now).ToArray() ?? [];
        if (call is null || due.Length == 0)
            return Decision.Accept(call?.Case ?? "", [], []);
        var fell = new DutyFellDue
        {
            Duty = Commitment,
            DueTime = due.Min(Commitments.DueOf)!.Value.ToTimestamp(),
            Commitments = { due.Select(c => c.Id) },
        };
        return Decision.Accept(call.Case, [.. CallVisibility.AudienceOf(call)], [Calls.Record.On(call, fell)]);
    }
}
