using Ministries.CallLog.V1;
using Ministries.Errors.V1;
using static Ministries.Rules.Ruling;
using Route = Ministries.Types.V1.Route;

namespace Ministries.CallLog;

/// <summary>A side's accounts of a call.</summary>
public static class Accounts
{
    /// <summary>The version of a readout that counts, which is the last that was not corrected; null: none does.</summary>
    public static ReadoutVersion? Counting(Readout readout) => readout.Versions.LastOrDefault(v => !v.Corrected);

    /// <summary>What is wrong with an account beyond what its fields' declarations say; null: nothing.</summary>
    public static Refusal? FaultOf(Account account, Call call, RuleContext context)
    {
        var @case = context.Find(Cases.Kind, call.Case)!;
        var faults = Faults(account).ToArray();
        if (faults.Length > 0)
            return Invalid(faults);
        if (account.Prisoners.Any(p => @case.Prisoners.All(known => known.Prisoner != p)))
            return RefuseField(Reason.NotFound, "account.prisoners");
        var start = account.StartTime.Time;
        if (start > context.Time)
            return RefuseField(Reason.TimeOutOfRange, "account.start_time");
        for (var i = 0; i < account.Commitments.Count; i++)
            if (account.Commitments[i].DueTime is { } due && (due <= start || (due - start).ToTimeSpan() > Commitments.LongestDue))
                return RefuseField(Reason.TimeOutOfRange, $"account.commitments[{i}].due_time");
        var outsiders = account
            .Attendees.Select((a, i) => (a.Participant, Path: $"account.attendees[{i}].participant"))
            .Concat(account.Positions.Select((p, i) => (p.Participant, Path: $"account.positions[{i}].participant")))
            .Concat(account.Commitments.Select((c, i) => (c.Participant, Path: $"account.commitments[{i}].participant")))
            .Where(named => !@case.Parties.Any(p => p.Participant == named.Participant && call.Sides.Any(s => s.State == p.State)));
        if (outsiders.FirstOrDefault() is { Path: { } path })
            return RefuseField(Reason.AccountNamesOutsider, path);
        var more = account.Commitments.Count(c => Commitments.Said(call, c) is null);
        var named = call.Commitments.Count(c => c.Sayings.FirstOrDefault()?.Participant == context.Caller.Id);
        return named + more > Calls.MaxCommitments ? new Refusal(Reason.RecordFull) : null;
    }

    private static IEnumerable<(string Field, string Description)> Faults(Account account)
    {
        for (var i = 0; i < account.Attendees.Count; i++)
            if (account.Attendees.Take(i).Contains(account.Attendees[i]))
                yield return ($"account.attendees[{i}]", "is named twice");
        for (var i = 0; i < account.Positions.Count; i++)
        {
            var position = account.Positions[i];
            if (account.Positions.Take(i).Any(p => p.Participant == position.Participant && p.Subject == position.Subject))
                yield return ($"account.positions[{i}]", "is a second position of the participant on the subject");
            if (!account.Subjects.Contains(position.Subject))
                yield return ($"account.positions[{i}].subject", "is not one of the account's subjects");
            if (position.Prisoners.Except(account.Prisoners).Any())
                yield return ($"account.positions[{i}].prisoners", "names somebody who is not one of the account's prisoners");
        }
        for (var i = 0; i < account.Commitments.Count; i++)
        {
            var (terms, path) = (account.Commitments[i], $"account.commitments[{i}]");
            if (account.Commitments.Take(i).Any(c => Commitments.Same(c, terms)))
                yield return (path, "is said twice");
            if (terms.Prisoners.Except(account.Prisoners).Any())
                yield return ($"{path}.prisoners", "names somebody who is not one of the account's prisoners");
            if (terms.Kind == CommitmentKind.RequestTransfer)
            {
                if (terms.Route == Route.Unspecified)
                    yield return ($"{path}.route", "is needed to request a transfer");
                if (terms.Destination.Length == 0)
                    yield return ($"{path}.destination", "is needed to request a transfer");
                if (terms.Prisoners.Count == 0)
                    yield return ($"{path}.prisoners", "is needed to request a transfer");
            }
            else
            {
                if (terms.Route != Route.Unspecified)
                    yield return ($"{path}.route", "is allowed only to request a transfer");
                if (terms.Destination.Length > 0)
                    yield return ($"{path}.destination", "is allowed only to request a transfer");
            }
        }
    }

    /// <summary>Whether two lists name the same, in whatever order.</summary>
    internal static bool SameSet(IEnumerable<string> a, IEnumerable<string> b) => a.ToHashSet().SetEquals(b);
}
