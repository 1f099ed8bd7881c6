using Ministries.Consular.V1;
using Ministries.Custody.V1;
using Ministries.Errors.V1;
using Ministries.Hosting;
using Ministries.Ledger;
using Ministries.Trust;
using Ministries.Types.V1;
using Route = Ministries.Types.V1.Route;

namespace Ministries.Custody;

/// <summary>What custody does on the consular service's events. Nothing that can be recorded is refused: what is refused waits
/// for the operator.</summary>
public static class Reactions
{
    private const string Consular = "consular";

    /// <summary>All of them.</summary>
    public static readonly IReadOnlyList<Reaction> All =
    [
        Reaction.To<TransferRequestDrafted>(Consular, Drafted),
        Reaction.To<TransferRequestSubmitted>(Consular, Submitted),
        Reaction.To<DraftDiscarded>(Consular, Discarded),
        Reaction.To<TransitBegun>(Consular, Departed),
        Reaction.To<HandoverAborted>(Consular, Aborted),
        Reaction.To<HandoverConfirmed>(Consular, HandedOver),
        Reaction.To<ReturnConfirmed>(Consular, Returned),
    ];

    /// <summary>Notes the interest of whom a transfer request was drafted for; until it is submitted, for its eyes
    /// alone.</summary>
    public static Decision Drafted(View view, TransferRequestDrafted e, RuleContext act)
    {
        if (Find(view, e.Case, e.Prisoner) is not { } prisoner)
            return Decision.Refuse(Reason.NotFound);
        var noted = new InterestNoted
        {
            Case = e.Case,
            Prisoner = e.Prisoner,
            Transfer = e.Transfer,
        };
        return Decision.Accept(e.Case, [Audience.Of(e.Participant)], [new Change(noted, [Prisoners.IdOf(prisoner)])]);
    }

    /// <summary>The interest is now seen by the detaining power and the observers.</summary>
    public static Decision Submitted(View view, TransferRequestSubmitted e, RuleContext act) =>
        Find(view, e.Case, e.Prisoner) is not { } prisoner
            ? Decision.Refuse(Reason.NotFound)
            : Decision.Accept(
                e.Case,
                [.. Prisoners.SideOf(prisoner), Audience.Of(e.Participant)],
                [new Change(e, [Prisoners.IdOf(prisoner)])]
            );

    /// <summary>The interest is gone, as if it had never been.</summary>
    public static Decision Discarded(View view, DraftDiscarded e, RuleContext act) =>
        Find(view, e.Case, e.Prisoner) is not { } prisoner
            ? Decision.Refuse(Reason.NotFound)
            : Decision.Accept(
                e.Case,
                [.. prisoner.Interests.Where(i => i.Transfer == e.Transfer).Select(i => Audience.Of(i.Participant)).Distinct()],
                [new Change(e, [Prisoners.IdOf(prisoner)])]
            );

    /// <summary>The prisoner is on the way.</summary>
    public static Decision Departed(View view, TransitBegun e, RuleContext act) =>
        Find(view, e.Case, e.Prisoner) is not { } prisoner
            ? Decision.Refuse(Reason.NotFound)
            : Decision.Accept(e.Case, Prisoners.SideOf(prisoner), [new Change(e, [Prisoners.IdOf(prisoner)])]);

    /// <summary>The prisoner is back where he was before.</summary>
    public static Decision Aborted(View view, HandoverAborted e, RuleContext act) =>
        Find(view, e.Case, e.Prisoner) is not { } prisoner
            ? Decision.Refuse(Reason.NotFound)
            : Decision.Accept(e.Case, Prisoners.SideOf(prisoner), [new Change(e, [Prisoners.IdOf(prisoner)])]);

    /// <summary>
    /// Both sides confirmed a hand-over: the detaining power's own confirmation is what writes custody (D4), judged now. It took
    /// place, so it is recorded even where it breached an invariant, and marked. After an Article 12 transfer the accepting power
    /// answers for the prisoner (D1); on every other route custody has ended.
    /// </summary>
    public static Decision HandedOver(View view, HandoverConfirmed e, RuleContext act)
    {
        if (view.Find(Cases.Kind, e.Case) is not { } @case || Find(view, e.Case, e.Prisoner) is not { } prisoner)
            return Decision.Refuse(Reason.NotFound);
        var transfer = e.Route == Route.Article12Transfer;
        if (
            e.FromPower != prisoner.LastDetainingPower
            || !ActsFor(act, @case, e.DetainingParticipant, e.FromPower)
            || transfer && (e.ToPower == e.FromPower || !ActsFor(act, @case, e.AcceptingParticipant, e.ToPower))
        )
            return Decision.Refuse(Reason.NotConfirmedByDetainingPower);
        var found = Prisoners.Breaches(Prisoners.Records(view, prisoner), e.Route, e.ToPower, act);
        Invariant[] breaches = [.. e.Breaches.Concat(found).Distinct().Order()];
        // Who may know of a breach are the power that departed from the rule and the observers.
        var audience = breaches.Length == 0 ? [Audience.Case(e.Case)] : Prisoners.SideOf(prisoner);
        var due = Prisoners.BureauDue(act);
        return Decision.Accept(
            e.Case,
            audience,
            [
                new Change(
                    transfer
                        ? new CustodyTransferred
                        {
                            Case = e.Case,
                            Prisoner = e.Prisoner,
                            FromPower = e.FromPower,
                            ToPower = e.ToPower,
                            Breaches = { breaches },
                            BureauDueTime = due,
                        }
                        : new DepartureRecorded
                        {
                            Case = e.Case,
                            Prisoner = e.Prisoner,
                            Breaches = { breaches },
                            BureauDueTime = due,
                        },
                    [Cases.Kind.Id(e.Case), Prisoners.IdOf(prisoner)]
                ),
            ]
        );
    }

    /// <summary>Both sides confirmed the return after an Article 12 transfer: custody passes back (12(3)).</summary>
    public static Decision Returned(View view, ReturnConfirmed e, RuleContext act)
    {
        if (Find(view, e.Case, e.Prisoner) is not { } prisoner)
            return Decision.Refuse(Reason.NotFound);
        if (e.FromPower != prisoner.LastDetainingPower || e.ToPower != prisoner.TransferringPower)
            return Decision.Refuse(Reason.NotConfirmedByDetainingPower);
        var moved = new CustodyTransferred
        {
            Case = e.Case,
            Prisoner = e.Prisoner,
            FromPower = e.FromPower,
            ToPower = e.ToPower,
            Returned = true,
            BureauDueTime = Prisoners.BureauDue(act),
        };
        return Decision.Accept(e.Case, [Audience.Case(e.Case)], [new Change(moved, [Cases.Kind.Id(e.Case), Prisoners.IdOf(prisoner)])]);
    }

    private static Prisoner? Find(View view, string @case, string prisoner) => view.Find(Prisoners.Kind, Prisoners.KeyOf(@case, prisoner));

    private static bool ActsFor(RuleContext act, Case @case, string participant, string state) =>
        state.Length > 0
        && act.Permissions.Participant(participant)?.State == state
        && @case.Parties.Any(p => p.Participant == participant);
}
