using Ministries.Consular.V1;
using Ministries.Types.V1;

namespace Ministries.Consular;

/// <summary>Who sees access, and what of it.</summary>
public static class AccessVisibility
{
    /// <summary>What would tell who wished an end, or what was corrected, is its author's alone to know.</summary>
    internal static readonly string[] Reserved = ["CloseAccess", "CorrectRecord"];

    /// <summary>Who may see it: beside the visiting side and the neutral every power that answered for it.</summary>
    public static IEnumerable<string> AudienceOf(Access access) => SeenBy(access, PowersOf(access));

    /// <summary>Who may see an entry on it that was of the time of one power.</summary>
    /// <param name="access">The access.</param>
    /// <param name="power">The power.</param>
    public static IEnumerable<string> EntriesOf(Access access, string power) => SeenBy(access, [power]);

    /// <summary>The power that answers for it and those that did before, each once.</summary>
    public static IEnumerable<string> PowersOf(Access access) =>
        access.FormerCustodies.Select(c => c.DetainingPower).Prepend(access.DetainingPower).Distinct();

    /// <summary>The power of whose time an act is; a visit is of the time when it took place, whenever it was recorded.</summary>
    public static string PowerOf(Access access, RecordedAct act) =>
        access.Visits.FirstOrDefault(v => v.Position == act.Position)?.DetainingPower
        ?? access.FormerCustodies.FirstOrDefault(c => act.Position < c.Position)?.DetainingPower
        ?? access.DetainingPower;

    /// <summary>The state that it shows to each side, by the state for which the side acts; empty: to the neutral.</summary>
    public static IEnumerable<(string Side, AccessState State)> StatesOf(Access access) =>
        (access.Kind == AccessKind.Consular ? (string[])["", access.RequestingState] : [""])
            .Select(side => (side, access.State))
            .Concat(PowersOf(access).Select(power => (power, StateFor(access, power))));

    private static IEnumerable<string> SeenBy(Access access, IEnumerable<string> powers)
    {
        if (access.Kind == AccessKind.Consular)
            yield return Audience.State(access.Case, access.RequestingState);
        foreach (var power in powers)
            yield return Audience.State(access.Case, power);
        yield return Audience.Observers(access.Case);
    }

    // A power from which custody passed knows no more than what there was then.
    private static AccessState StateFor(Access access, string power) =>
        power == access.DetainingPower ? access.State : access.FormerCustodies.Last(c => c.DetainingPower == power).State;

    /// <summary>Access as the reader may know it.</summary>
    /// <param name="access">The access.</param>
    /// <param name="reader">Who reads; one who may see it.</param>
    public static Access Show(Access access, Participant reader)
    {
        var shown = access.Clone();
        ShowDecision(shown.Decision, access.DetainingPower, reader);
        foreach (var former in shown.FormerCustodies)
            ShowDecision(former.Decision, former.DetainingPower, reader);
        foreach (var visit in shown.Visits)
            visit.Report = Seals.Show(visit.Report, visit.Participant, reader.Id);
        shown.Acts.Keep(a => a.Participant == reader.Id || !Reserved.Contains(a.Method));
        shown.Periods.Clear();
        shown.Withheld.Add(["acts", "periods"]);
        if (!reader.ActsFor(access.RequestingState) && PowersOf(access).FirstOrDefault(reader.ActsFor) is { } power)
            ShowToPower(shown, access, power, reader);
        return shown;
    }

    private static void ShowDecision(AccessDecision? decision, string power, Participant reader)
    {
        if (decision is null)
            return;
        if (!reader.IsNeutral() && !reader.ActsFor(power))
        {
            decision.RightsToldTime = null;
            decision.Withheld.Add("rights_told_time");
            // A denial to one who counts as the sending State could only mean that the person does not want it.
            if (!decision.Granted)
            {
                decision.SendingState = SendingStateDecision.Unspecified;
                decision.Withheld.Add("sending_state");
            }
        }
        if (reader.Id != decision.Participant && decision.PersonRequest?.Recipients.Contains(reader.Id) != true)
        {
            decision.PersonRequest = null;
            decision.Withheld.Add("person_request");
        }
    }

    // A power sees what was of its own time.
    private static void ShowToPower(Access shown, Access access, string power, Participant reader)
    {
        shown.Acts.Keep(a => a.Participant == reader.Id || PowerOf(access, a) == power);
        shown.Visits.Keep(v => v.DetainingPower == power);
        shown.FormerCustodies.Keep(c => c.DetainingPower == power);
        shown.Withheld.Add(["visits", "former_custodies"]);
        if (power == access.DetainingPower)
            return;
        (shown.State, shown.DetainingPower) = (StateFor(access, power), power);
        (shown.Decision, shown.DecisionDueTime, shown.DecisionOverdue, shown.CloseTime) = (null, null, false, null);
        shown.StoppedDecisionDueTime = null;
        shown.Withheld.Add(["state", "detaining_power", "decision", "decision_due_time", "decision_overdue", "close_time"]);
        shown.Withheld.Add("stopped_decision_due_time");
    }
}
