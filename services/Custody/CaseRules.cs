using Ministries.Custody.V1;
using Ministries.Errors.V1;
using Ministries.Types.V1;
using static Ministries.Rules.Ruling;

namespace Ministries.Custody;

/// <summary>
/// Cases: who opens, admits, removes, closes and opens again. Their fold is in <see cref="Cases"/>, which every service shares. A case is
/// OPEN, then CLOSED, and back; in each state every write but those listed at its method is refused by name.
/// </summary>
public static class CaseRules
{
    /// <summary>The greatest number of organs of one state that are party to a case. Observers that act for no state have no such limit:
    /// each is one participant of the agreement, and takes no other one's place.</summary>
    public const int MaxParties = 32;

    /// <summary>Opens a case: the caller's state is its detaining power (GC III 12; D1: a state, never a unit).</summary>
    public static readonly Rule<Case, OpenCaseRequest, OpenCaseResponse> OpenCase = new(Cases.Record)
    {
        Makes = Cases.Record,
        Decide = (_, _, context) =>
        {
            var opened = new CaseOpened
            {
                Case = context.NewId(Cases.Record.Prefix),
                DetainingPower = context.Caller.State,
                Participant = context.Caller.Id,
            };
            return Accept(new Change(opened, [Cases.Kind.Id(opened.Case)])).SeenBy(Audience.Case(opened.Case));
        },
    };

    /// <summary>Admits a party: an organ of the detaining power or of another state, a neutral observer, a Protecting
    /// Power.</summary>
    public static readonly Rule<Case, AdmitPartyRequest, AdmitPartyResponse> AdmitParty = new(Cases.Record)
    {
        From = [CaseState.Open],
        Full = (@case, request, context) =>
            context.Permissions.Participant(request.Participant) is { State.Length: > 0 } party
            && @case.Parties.Count(p => p.State == party.State) >= MaxParties,
        Decide = (@case, request, context) =>
        {
            if (
                context.Permissions.Participant(request.Participant) is not { } party
                || party.Kind is ParticipantKind.Service or ParticipantKind.Operator
            )
                return Reason.ParticipantUnknown;
            if (!Fits(request.Part, party, @case))
                return Reason.PartNotFitting;
            if (@case.Parties.Any(p => p.Participant == party.Id))
                return Reason.AlreadyExists;
            var admitted = new PartyAdmitted
            {
                Participant = party.Id,
                Part = request.Part,
                State = party.State,
            };
            return Accept(admitted).SeenBy(AudienceOf(@case, party.Id, party.State, request.Part));
        },
    };

    /// <summary>Removes a party. Nobody but an observer itself makes it leave (D17), and it removes nobody else. A caller that does not
    /// manage the case is told nothing of a party that the case does not show it (D22). An organ of a power that holds or ever held
    /// somebody is removed by its own state alone, so that two powers that manage a case do not shut each other out. While another power
    /// holds somebody, the last organ of any state is also removed by its own state alone, so that a refusal does not tell whether he is on
    /// the way to that state (D22). Where the agreement lists no organ for custody of that state, which could do so, the power that admitted
    /// it removes it. The last organ of a power stays while the power answers for somebody, is to accept him, or owes notice of him. The last
    /// observer that does not act for a power that holds him stays too, and so does the last one that can undo a link of his references
    /// (GC III 12, 122, 126).</summary>
    public static readonly Rule<Case, RemovePartyRequest, RemovePartyResponse> RemoveParty = new(Cases.Record)
    {
        From = [CaseState.Open],
        Decide = (@case, request, context) =>
        {
            var own = request.Participant == context.Caller.Id;
            if (context.Caller.IsNeutral() && !own)
                return Reason.NotGranted;
            var known = Cases.Show(@case, Cases.ReaderOf(context.Caller, @case)).Parties;
            if (known.FirstOrDefault(p => p.Participant == request.Participant) is not { } party)
                return Reason.NotAParty;
            if (IsObserver(party.Part) && !own)
                return Reason.ObserverLeavesByItself;
            if (!context.Caller.IsNeutral() && party.State != context.Caller.State)
            {
                // A power that no longer manages the case admits and removes only its own organs.
                if (!Cases.Manages(@case, context.Caller.State))
                    return Reason.NotGranted;
                if (
                    EverHeldSomebody(@case, party.State, context)
                    || IsHeldByOthers(@case, context) && IsLastOrgan(party, @case, context) && !MayTakeBack(party, context)
                )
                    return Reason.OrganOfAnotherPower;
            }
            if (IsNeeded(party, @case, context))
                return Reason.PartyNeeded;
            return Accept(new PartyRemoved { Participant = party.Participant })
                .SeenBy(AudienceOf(@case, party.Participant, party.State, party.Part));
        },
    };

    /// <summary>Closes a case in which nobody is in custody any more (D19: protection runs until final release and repatriation).
    /// </summary>
    public static readonly Rule<Case, CloseCaseRequest, CloseCaseResponse> CloseCase = new(Cases.Record)
    {
        From = [CaseState.Open],
        Decide = (@case, _, _) => @case.Prisoners.Any(p => p.DetainingPower.Length > 0) ? Reason.CustodyNotEnded : Accept(new CaseClosed()),
    };

    /// <summary>Opens a case again that was closed by mistake: nothing that was recorded in it is lost by that.</summary>
    public static readonly Rule<Case, ReopenCaseRequest, ReopenCaseResponse> ReopenCase = new(Cases.Record)
    {
        From = [CaseState.Closed],
        InClosedCase = true,
        Decide = (_, _, _) => Accept(new CaseReopened()),
    };

    /// <summary>The key under which cases in a state are listed; empty: in every state.</summary>
    public static string StateKey(CaseState state) => state == CaseState.Unspecified ? "" : $"state:{state}";

    private static bool Fits(Part part, Participant party, Case @case) =>
        part switch
        {
            Part.DetainingPower => party.Kind == ParticipantKind.Ministry && Cases.Manages(@case, party.State),
            Part.RequestingState => party.Kind == ParticipantKind.Ministry && party.State.Length > 0 && !Cases.Manages(@case, party.State),
            Part.NeutralObserver => party.Kind == ParticipantKind.NeutralObserver,
            Part.ProtectingPower => party.Kind == ParticipantKind.ProtectingPower,
            _ => false,
        };

    // Whether without this party nobody would be left to do the state's or the observers' duties.
    private static bool IsNeeded(CaseParty party, Case @case, RuleContext context)
    {
        if (IsObserver(party.Part))
            return @case
                .Prisoners.Where(p => p.DetainingPower.Length > 0)
                .SelectMany(p => PowersWatched(p, @case, context))
                .Any(powers => IsLastObserver(party, @case, powers));
        // What becomes of another power's prisoner is not told.
        var heldByOthers = !context.ActsFor(party.State) && IsHeldByOthers(@case, context);
        var answers =
            Cases.Manages(@case, party.State)
            || @case.Prisoners.Any(p => Prisoners.Find(context, @case.Id, p.Prisoner) is { } record && Answers(party.State, record));
        return answers && IsLastOrgan(party, @case, context);

        bool Answers(string state, Prisoner record)
        {
            // A person with a linked reference is held under the kept one.
            var kept = @case.Prisoners.Single(p => p.Prisoner == KeptOf(record));
            if (heldByOthers && !context.ActsFor(kept.LastDetainingPower))
                return false;
            var held = kept.DetainingPower.Length > 0;
            return held && PrisonerFold.ChainOf(Readiness.PersonOf(context, record)).Contains(state)
                || (held || !context.ActsFor(state)) && record.Journeys.Any(j => j.AcceptingPower == state)
                || record.Occurrences.Any(o => o.OwedBy == state && Prisoners.IsOwed(o));
        }
    }

    private static string KeptOf(Prisoner prisoner) => prisoner.DuplicateOf.Length > 0 ? prisoner.DuplicateOf : prisoner.Prisoner_;

    // Whether no other custody organ of the state is left. An organ without that capacity does not do the state's duties, and neither does
    // a Protecting Power of the same state. If the agreement lists no custody organ of the state, each of its organs counts.
    private static bool IsLastOrgan(CaseParty party, Case @case, RuleContext context)
    {
        var custody = KeepsCustody(party.State, context);
        return !@case.Parties.Any(other =>
            other.Participant != party.Participant
            && context.Permissions.Participant(other.Participant) is { } organ
            && (custody ? KeepsCustody(organ, party.State) : organ.ActsFor(party.State))
        );
    }

    private static bool KeepsCustody(Participant organ, string state) =>
        organ.ActsFor(state) && organ.Capacities.Contains(Capacity.Custody);

    private static bool KeepsCustody(string state, RuleContext context) =>
        context.Permissions.Agreement.Participants.Any(p => KeepsCustody(p, state));

    // Whether the caller's state admitted this organ, and the organ's own state has no organ that could remove it.
    private static bool MayTakeBack(CaseParty party, RuleContext context) =>
        !KeepsCustody(party.State, context) && party.AdmittedFor.Length > 0 && context.ActsFor(party.AdmittedFor);

    // The powers for none of which an observer of a prisoner acts: the one that holds him; and, for each reference that is linked to him, also
    // the last one that answered under it, because only an observer of neither undoes the link (D19).
    private static IEnumerable<string[]> PowersWatched(CasePrisoner prisoner, Case @case, RuleContext context) =>
        (Prisoners.Find(context, @case.Id, prisoner.Prisoner)?.Duplicates ?? [])
            .Select(linked => (string[])[prisoner.DetainingPower, @case.Prisoners.Single(p => p.Prisoner == linked).LastDetainingPower])
            .Prepend([prisoner.DetainingPower]);

    // Whether no other observer is left that acts for none of these powers. A Protecting Power of the state that holds him does not count as
    // the observer that remains. It may leave itself while there is another one.
    private static bool IsLastObserver(CaseParty party, Case @case, string[] powers)
    {
        CaseParty[] others = [.. @case.Parties.Where(p => p.Participant != party.Participant && IsObserver(p.Part))];
        return others.Length == 0 || IsIndependent(party) && !others.Any(IsIndependent);

        bool IsIndependent(CaseParty observer) => !powers.Contains(observer.State);
    }

    // Whether the state holds a prisoner, or ever did. Other states must not see from this whether it gave him back or still owes notice.
    private static bool EverHeldSomebody(Case @case, string state, RuleContext context) =>
        Cases.HeldSomebody(@case, state)
        || @case.Prisoners.Any(p => Prisoners.Find(context, @case.Id, p.Prisoner)?.Occurrences.Any(o => o.OwedBy == state) == true);

    // Whether a power other than the caller's holds a prisoner. The caller does not know where that prisoner is to go.
    private static bool IsHeldByOthers(Case @case, RuleContext context) =>
        @case.Prisoners.Any(p => p.DetainingPower.Length > 0 && p.DetainingPower != context.Caller.State);

    private static bool IsObserver(Part part) => part is Part.NeutralObserver or Part.ProtectingPower;

    private static string[] AudienceOf(Case @case, string participant, string state, Part part) =>
        part == Part.RequestingState
            ?
            [
                .. Cases.ManagersOf(@case).Select(power => Audience.State(@case.Id, power)),
                Audience.Observers(@case.Id),
                Audience.State(@case.Id, state),
                Audience.Of(participant),
            ]
            : [Audience.Case(@case.Id), Audience.Of(participant)];
}
