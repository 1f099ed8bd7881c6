using Ministries.Consular.V1;
using Ministries.Custody.V1;
using Ministries.Errors.V1;
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

    /// <summary>Notes the interest of the participant that drafted a transfer request. Until the request is submitted, only that
    /// participant sees it.</summary>
    public static Decision Drafted(TransferRequestDrafted e, RuleContext context)
    {
        if (Prisoners.Find(context, e.Case, e.Prisoner) is not { } prisoner)
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
    public static Decision Submitted(TransferRequestSubmitted e, RuleContext context) =>
        Prisoners.Find(context, e.Case, e.Prisoner) is not { } prisoner
            ? Decision.Refuse(Reason.NotFound)
            : Decision.Accept(
                e.Case,
                [.. Prisoners.SideOf(prisoner), Audience.Of(e.Participant)],
                [new Change(e, [Prisoners.IdOf(prisoner)])]
            );

    /// <summary>The interest is gone, as if it had never been.</summary>
    public static Decision Discarded(DraftDiscarded e, RuleContext context) =>
        Prisoners.Find(context, e.Case, e.Prisoner) is not { } prisoner
            ? Decision.Refuse(Reason.NotFound)
            : Decision.Accept(
                e.Case,
                [.. prisoner.Interests.Where(i => i.Transfer == e.Transfer).Select(i => Audience.Of(i.Participant)).Distinct()],
                [new Change(e, [Prisoners.IdOf(prisoner)])]
            );

    /// <summary>The prisoner is on the way.</summary>
    public static Decision Departed(TransitBegun e, RuleContext context) =>
        Prisoners.Find(context, e.Case, e.Prisoner) is not { } prisoner
            ? Decision.Refuse(Reason.NotFound)
            : Decision.Accept(e.Case, Prisoners.SideOf(prisoner), [new Change(e, [Prisoners.IdOf(prisoner)])]);

    /// <summary>The prisoner is back where he was before.</summary>
    public static Decision Aborted(HandoverAborted e, RuleContext context) =>
        Prisoners.Find(context, e.Case, e.Prisoner) is not { } prisoner
            ? Decision.Refuse(Reason.NotFound)
            : Decision.Accept(e.Case, Prisoners.SideOf(prisoner), [new Change(e, [Prisoners.IdOf(prisoner)])]);

    /// <summary>
    /// Both sides confirmed a hand-over. The detaining power's own confirmation changes custody (D4), and is judged now. The hand-over took
    /// place, so it is recorded and marked even if it breached an invariant. After an Article 12 transfer, and in a neutral country, the
    /// accepting power answers for the prisoner (D1); on every other route custody has ended. Both states are or were party to the case: a
    /// state that was removed meanwhile has taken him all the same. A hand-over under a reference that is no longer kept is recorded under
    /// the kept one, because nobody is held twice.
    /// </summary>
    public static Decision HandedOver(HandoverConfirmed e, RuleContext context)
    {
        if (context.Find(Cases.Kind, e.Case) is not { } @case || FindKept(context, e.Case, e.Prisoner) is not { } prisoner)
            return Decision.Refuse(Reason.NotFound);
        var passes = e.Route.PassesCustody();
        if (
            e.FromPower != prisoner.LastDetainingPower
            || !Confirms(context, @case, e.DetainingParticipant, e.FromPower)
            || passes && (e.ToPower == e.FromPower || !Confirms(context, @case, e.AcceptingParticipant, e.ToPower))
        )
            return Decision.Refuse(Reason.NotConfirmedByDetainingPower);
        var found = BreachesOf(prisoner, new Departure(e.Route, e.ToPower), e.StandingBasis, context);
        Invariant[] breaches = [.. e.Breaches.Concat(found).Distinct().Order()];
        // The power that departed from the rule and the observers may know of a breach.
        var audience = breaches.Length == 0 ? [Audience.Case(e.Case)] : Prisoners.SideOf(prisoner);
        var due = Prisoners.BureauDue(context);
        return Decision.Accept(
            e.Case,
            audience,
            [
                new Change(
                    passes
                        ? new CustodyTransferred
                        {
                            Case = e.Case,
                            Prisoner = prisoner.Prisoner_,
                            FromPower = e.FromPower,
                            ToPower = e.ToPower,
                            Route = e.Route,
                            Breaches = { breaches },
                            BureauDueTime = due,
                            Ended = prisoner.State == CustodyState.Died,
                            RelievedPowers = { RelievedBy(e.ToPower, prisoner, context) },
                        }
                        : new DepartureRecorded
                        {
                            Case = e.Case,
                            Prisoner = prisoner.Prisoner_,
                            Breaches = { breaches },
                            BureauDueTime = due,
                        },
                    [Cases.Kind.Id(e.Case), .. Prisoners.PersonOf(prisoner)]
                ),
            ]
        );
    }

    /// <summary>Both sides confirmed the return after an Article 12 transfer: custody passes back (12(3)). It took place, so it is
    /// recorded even where it breached an invariant, such as the return of one who was free already, and marked.</summary>
    public static Decision Returned(ReturnConfirmed e, RuleContext context)
    {
        if (FindKept(context, e.Case, e.Prisoner) is not { } prisoner)
            return Decision.Refuse(Reason.NotFound);
        // A power that handed the prisoner over under another of his references can take him back, too.
        var former = Readiness.Records(context, prisoner).SelectMany(r => r.FormerPowers);
        if (e.FromPower != prisoner.LastDetainingPower || !former.Contains(e.ToPower))
            return Decision.Refuse(Reason.NotConfirmedByDetainingPower);
        var found = BreachesOf(prisoner, new Departure(Route.Article12Transfer, e.ToPower), e.StandingBasis, context);
        Invariant[] breaches = [.. e.Breaches.Concat(found).Distinct().Order()];
        var moved = new CustodyTransferred
        {
            Case = e.Case,
            Prisoner = prisoner.Prisoner_,
            FromPower = e.FromPower,
            ToPower = e.ToPower,
            Returned = true,
            Breaches = { breaches },
            BureauDueTime = Prisoners.BureauDue(context),
            Ended = prisoner.State == CustodyState.Died,
            RelievedPowers = { RelievedBy(e.ToPower, prisoner, context) },
        };
        var audience = breaches.Length == 0 ? [Audience.Case(e.Case)] : Prisoners.SideOf(prisoner);
        return Decision.Accept(e.Case, audience, [new Change(moved, [Cases.Kind.Id(e.Case), .. Prisoners.PersonOf(prisoner)])]);
    }

    // A power that gave him on under one of his references came after each power that had given him before under another one. The chain of
    // a reference that is no longer kept stays as it was at the link, so it alone says nothing of what happened since.
    private static IEnumerable<string> RelievedBy(string toPower, Prisoner prisoner, RuleContext context) =>
        Cases
            .Relieved(prisoner.FormerPowers, toPower)
            .Concat(Cases.Relieved(PrisonerFold.ChainOf(Readiness.Records(context, prisoner)), toPower))
            .Distinct();

    // The hand-over is judged now. Events carry no openings, so custody compares the basis of its own earlier answer about the prisoner's
    // statements.
    private static Invariant[] BreachesOf(Prisoner prisoner, Departure departure, string basis, RuleContext context)
    {
        var records = Readiness.Records(context, prisoner);
        return Readiness.Breaches(records, departure, context, @case => Standings.StillHolds(records, @case, departure, basis, context));
    }

    // The record that is kept of the person.
    private static Prisoner? FindKept(RuleContext context, string @case, string prisoner) =>
        Prisoners.Find(context, @case, prisoner) is { DuplicateOf.Length: > 0 } duplicate
            ? Prisoners.Find(context, @case, duplicate.DuplicateOf)
            : Prisoners.Find(context, @case, prisoner);

    // Whether a participant confirmed for a state that is or was party to the case. The state for which it acted was checked when it
    // confirmed. The agreement may no longer list it when the other side confirms or when custody hears of it; the confirmed act stands all
    // the same.
    private static bool Confirms(RuleContext context, Case @case, string participant, string state) =>
        participant.Length > 0
        && context.Permissions.Participant(participant) is var known
        && (known is null || known.ActsFor(state))
        && @case.InvolvedStates.Contains(state);
}
