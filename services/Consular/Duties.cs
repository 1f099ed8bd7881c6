using Google.Protobuf.WellKnownTypes;
using Ministries.Consular.V1;
using Ministries.Hosting;
using Ministries.Ledger;
using Ministries.Trust;
using Ministries.Types.V1;
using Route = Ministries.Types.V1.Route;

namespace Ministries.Consular;

/// <summary>What is recorded when time runs out: a confirmation that the other side owes, an assurance or assessment that ends, a
/// decision on access, a denial that ends. Each once.</summary>
public static class Duties
{
    /// <summary>The duties, one for each kind of record.</summary>
    public static readonly IReadOnlyList<Duty> All = [new(Transfers.Kind, OfTransfer), new(Accesses.Kind, OfAccess)];

    /// <summary>Records what is due of a transfer request. An Article 12 transfer under way whose assurance or assessment ended
    /// is suspended (D2).</summary>
    public static Decision OfTransfer(View view, string key, RuleContext act)
    {
        if (view.Find(Transfers.Kind, key) is not { } transfer)
            return Decision.Accept("", [], []);
        var changes = new List<Change>();
        var suspends = false;
        foreach (var (duty, due) in Transfers.DutiesOf(transfer).Where(d => d.Due <= act.Now))
        {
            changes.Add(
                Transfers.On(
                    new DutyFellDue
                    {
                        Case = transfer.Case,
                        Record = transfer.Id,
                        Duty = duty,
                        DueTime = due.ToTimestamp(),
                    },
                    transfer
                )
            );
            suspends |= duty != Transfers.SecondConfirmation;
        }
        if (suspends && transfer.Route == Route.Article12Transfer && Transfers.IsUnderWay(transfer.State))
            changes.Add(Transfers.On(Transfers.Suspended(transfer), transfer));
        return Decision.Accept(transfer.Case, [], changes);
    }

    /// <summary>Records what is due of access: a decision that is overdue; the end of a denial, after which access is open again.
    /// </summary>
    public static Decision OfAccess(View view, string key, RuleContext act)
    {
        if (view.Find(Accesses.Kind, key) is not { } access)
            return Decision.Accept("", [], []);
        if (Accesses.DueOf(access) is not { } due || due > act.Now)
            return Decision.Accept(access.Case, [], []);
        var decisionDue = act.Now.AddDays(act.Permissions.Agreement.AccessDecisionDays).ToTimestamp();
        return Decision.Accept(
            access.Case,
            [.. Accesses.AudienceOf(access)],
            [
                access.State == AccessState.Denied
                    ? Accesses.On(
                        new AccessReopened
                        {
                            Case = access.Case,
                            Access = access.Id,
                            Prisoner = access.Prisoner,
                            DecisionDueTime = access.Kind == AccessKind.Consular ? decisionDue : null,
                        },
                        access
                    )
                    : Accesses.On(
                        new DutyFellDue
                        {
                            Case = access.Case,
                            Record = access.Id,
                            Duty = Accesses.DecisionDue,
                            DueTime = due.ToTimestamp(),
                        },
                        access
                    ),
            ]
        );
    }
}
