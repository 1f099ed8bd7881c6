using Ministries.CallLog.V1;
using Ministries.Custody.V1;

namespace Ministries.CallLog;

/// <summary>Who sees a call, and what of it.</summary>
public static class CallVisibility
{
    /// <summary>Who sees it: both sides and the observers, as far as its marking allows.</summary>
    public static IEnumerable<string> AudienceOf(Call call) =>
        call
            .Sides.Select(s => Audience.State(call.Case, s.State))
            .Append(Audience.Observers(call.Case))
            .SelectMany(a => Audience.Marked(a, call.Classification));

    /// <summary>The call as the caller may see it, by the states that its rule sees.</summary>
    public static Call Show(Call call, Case @case, RuleContext context) =>
        Show(
            call,
            context.Caller.Id,
            id => context.Find(Calls.Kind, id) is { } other && Cases.MaySee(context.Caller, @case, Calls.Kind.AudienceOf(other))
        );

    /// <summary>The call as a participant may see it. Of data that are sealed to others it sees only that they exist. It sees its own
    /// unsubmitted transfer requests, but not others', and only links to records that it may see.</summary>
    /// <param name="call">The call, which the participant may see.</param>
    /// <param name="participant">The participant.</param>
    /// <param name="sees">Whether it may see the call of this id.</param>
    public static Call Show(Call call, string participant, Func<string, bool> sees)
    {
        var shown = call.Clone();
        foreach (var readout in shown.Readouts)
        foreach (var version in readout.Versions)
        {
            if (version.Account is { } account)
                account.Minutes = Seals.Show(account.Minutes, readout.Participant, participant);
            version.Explanation = Seals.Show(version.Explanation, readout.Participant, participant);
        }
        foreach (var contest in shown.Contests)
            contest.Explanation = Seals.Show(contest.Explanation, contest.Participant, participant);
        foreach (var correction in shown.Corrections)
            correction.Explanation = Seals.Show(correction.Explanation, correction.Participant, participant);
        foreach (var commitment in shown.Commitments)
        {
            commitment.Requests.Keep(r => r.State == TiedRequestState.Submitted || r.Participant == participant);
            commitment.Withheld.Add("requests");
        }
        shown.Links.Keep(l => sees(l.Call));
        shown.Withheld.Add("links");
        return shown;
    }

    /// <summary>A call in short.</summary>
    /// <param name="shown">The call as its reader may see it.</param>
    /// <param name="secrets">What etags are made with.</param>
    public static CallSummary Summary(Call shown, RecordSecrets secrets) =>
        new()
        {
            Call = shown.Id,
            Case = shown.Case,
            Etag = secrets.EtagOf(shown),
            State = shown.State,
            Sides = { shown.Sides },
            Level = shown.Classification.Level,
            LogTime = shown.LogTime,
            OpenCommitments = (uint)shown.Commitments.Count(c => c.State == CommitmentState.Open),
            OverdueCommitments = (uint)shown.Commitments.Count(c => c.State == CommitmentState.Overdue),
        };
}
