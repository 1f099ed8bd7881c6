using Google.Protobuf;
using Google.Protobuf.Collections;
using Ministries.Custody.V1;
using Ministries.Errors.V1;
using Ministries.Types.V1;

namespace Ministries.Rules;

/// <summary>
/// Who is party to a case and in which part: the ground of need to know (D22) in every service. The custody service writes the
/// case; the others fold the same events into a copy of their own.
/// </summary>
public static class Cases
{
    /// <summary>The stream of cases.</summary>
    public static readonly StreamKind<Case> Kind = new(
        "case",
        6,
        new Folds<Case>()
            .On<CaseOpened>(Opened)
            .On<PartyAdmitted>((state, e, entry) => Admit(state, e.Participant, e.Part, e.State, entry))
            .On<PartyRemoved>(Removed)
            .On<CaseClosed>((state, _, _) => state.State = CaseState.Closed)
            .On<CaseReopened>((state, _, _) => state.State = CaseState.Open)
            .On<PrisonerRegistered>(Registered)
            .On<StatusRecorded>(StatusChanged)
            .On<CustodyTransferred>(Passed)
            .On<DepartureRecorded>(Departed),
        audience: c => [Audience.Case(c.Id)],
        keys: c => [.. c.Parties.Select(p => PartyKey(p.Participant)), $"state:{c.State}"]
    );

    /// <summary>Cases as rules need to know them.</summary>
    public static readonly RecordKind<Case> Record = new()
    {
        Prefix = "case",
        Stream = Kind,
        Field = "case",
        Id = c => c.Id,
        Case = c => c.Id,
        State = c => (int)c.State,
        Entries = c => [Audience.Case(c.Id)],
        Show = (@case, _, context) => Show(@case, ReaderOf(context.Caller, @case)),
        Streams = (@case, _) => [Kind.Id(@case.Id)],
    };

    /// <summary>The events of the custody service that change a case.</summary>
    public static readonly IReadOnlyList<string> EventTypes = [.. Kind.Events.Select(e => e.FullName)];

    /// <summary>The key under which the cases of a participant are listed.</summary>
    public static string PartyKey(string participant) => $"party:{participant}";

    /// <summary>The parts that a participant has in a case, or with respect to one prisoner of it; none: it may not know of it.
    /// </summary>
    /// <param name="caller">The participant.</param>
    /// <param name="case">The case; null: no case is spoken of.</param>
    /// <param name="prisoner">The prisoner's reference; null: the case as a whole.</param>
    public static IReadOnlyCollection<Part> PartsOf(Participant caller, Case? @case, string? prisoner = null)
    {
        switch (caller.Kind)
        {
            case ParticipantKind.Service:
                return [Part.Service];
            case ParticipantKind.Operator:
                return [Part.Operator];
        }
        if (@case is null)
            return caller.Kind == ParticipantKind.Ministry ? [Part.Ministry] : [];
        var parts = @case.Parties.Where(p => p.Participant == caller.Id).Select(p => p.Part).ToHashSet();
        // A Protecting Power observes, whatever part its own state has in the case.
        if (parts.Count == 0 || caller.State.Length == 0 || caller.IsNeutral())
            return parts;
        // The part follows the responsibility, wherever the case began (D1).
        parts.Remove(Part.DetainingPower);
        if (prisoner is not null && @case.Prisoners.FirstOrDefault(p => p.Prisoner == prisoner) is { } held)
        {
            // The last power to hold the prisoner still notifies and corrects after the end of custody.
            if (held.LastDetainingPower == caller.State)
                parts.Add(Part.DetainingPower);
            if (held.FormerPowers.Contains(caller.State))
                parts.Add(Part.TransferringPower);
        }
        else if (Manages(@case, caller.State))
            parts.Add(Part.DetainingPower);
        else if (HeldSomebody(@case, caller.State))
            parts.Add(Part.TransferringPower);
        // A power that holds or held others asks for this one as any other state does, and so does one that holds nobody any more.
        if (parts.Count == 0)
            parts.Add(Part.RequestingState);
        return parts;
    }

    /// <summary>Whether the state manages the case: it holds a prisoner in it (D1). If nobody is in custody, the states that last held a
    /// prisoner manage it, and so does the state that opened it.</summary>
    public static bool Manages(Case @case, string state)
    {
        var somebodyIsHeld = false;
        foreach (var prisoner in @case.Prisoners)
        {
            if (prisoner.DetainingPower.Length == 0)
                continue;
            if (prisoner.DetainingPower == state)
                return true;
            somebodyIsHeld = true;
        }
        return !somebodyIsHeld && (@case.DetainingPower == state || @case.Prisoners.Any(p => p.LastDetainingPower == state));
    }

    /// <summary>The states that manage the case.</summary>
    public static IEnumerable<string> ManagersOf(Case @case) =>
        @case.Prisoners.Select(p => p.LastDetainingPower).Append(@case.DetainingPower).Distinct().Where(state => Manages(@case, state));

    /// <summary>The parts that a participant could have in some case: what is granted to none of them, it may never call.</summary>
    public static IReadOnlyCollection<Part> PartsEverOf(Participant caller) =>
        caller.Kind switch
        {
            ParticipantKind.Service => OfService,
            ParticipantKind.Operator => OfOperator,
            ParticipantKind.Ministry => OfMinistry,
            ParticipantKind.NeutralObserver or ParticipantKind.ProtectingPower => InCases,
            _ => [],
        };

    private static readonly Part[] InCases =
    [
        Part.DetainingPower,
        Part.RequestingState,
        Part.NeutralObserver,
        Part.ProtectingPower,
        Part.TransferringPower,
    ];

    private static readonly Part[] OfService = [Part.Service],
        OfOperator = [Part.Operator],
        OfMinistry = [Part.Ministry, .. InCases];

    /// <summary>Whether a participant may see a record of the case (D22).</summary>
    /// <param name="reader">The participant.</param>
    /// <param name="case">The case.</param>
    /// <param name="audience">The record's tokens (<see cref="StreamKind.AudienceOf"/>).</param>
    public static bool MaySee(Participant reader, Case @case, IReadOnlyCollection<string> audience) =>
        audience.Any(ReaderOf(reader, @case).Tokens.Contains);

    /// <summary>A case as a reader sees it: a requesting state does not see which other states request, nor when which of their
    /// organs was admitted (D22).</summary>
    public static Case Show(Case @case, Reader reader)
    {
        var shown = @case.Clone();
        if (
            reader.Tokens.Contains(Audience.Observers(@case.Id))
            || ManagersOf(@case).Any(power => reader.Tokens.Contains(Audience.State(@case.Id, power)))
        )
            return shown;
        shown.Parties.Clear();
        shown.Parties.Add(
            @case
                .Parties.Where(p => p.Part != Part.RequestingState || p.State == reader.Participant.State)
                .Select(p => new CaseParty(p) { AdmittedBy = "", AdmittedFor = "" })
        );
        shown.InvolvedStates.Clear();
        // A power still answers for a prisoner who has fled and is not yet recaptured. Nobody else may know that he fled (D22).
        foreach (var prisoner in shown.Prisoners)
            prisoner.Held = prisoner.DetainingPower.Length > 0;
        shown.Withheld.Add(["parties", "involved_states"]);
        return shown;
    }

    /// <summary>A participant with the tokens that it holds through cases.</summary>
    public static Reader ReaderOf(Participant participant, params IEnumerable<Case> cases) =>
        new(participant, new HeldTokens(participant, [.. cases.Where(c => IsParty(participant, c)).Select(c => c.Id)]));

    /// <summary>The participants that are parties to a case; null: there is none.</summary>
    public static IEnumerable<string> PartiesOf(Case? @case) => @case?.Parties.Select(p => p.Participant) ?? [];

    /// <summary>Whether a participant is a party to a case.</summary>
    public static bool IsParty(Participant participant, Case @case) => @case.Parties.Any(p => p.Participant == participant.Id);

    /// <summary>What a service other than custody does on an event of <see cref="EventTypes"/>: it changes its copy of the case. An event
    /// that arrives before those on which it rests, such as a removal before the admission, is refused. It is then tried again
    /// later.</summary>
    public static Decision Copy(IMessage @event, RuleContext context)
    {
        var id = (string)@event.Descriptor.FindFieldByName("case").Accessor.GetValue(@event);
        var @case = context.Find(Kind, id);
        var prisoner = @event switch
        {
            StatusRecorded e => e.Prisoner,
            CustodyTransferred e => e.Prisoner,
            DepartureRecorded e => e.Prisoner,
            _ => null,
        };
        if (
            (@event is CaseOpened) != (@case is null)
            || prisoner is not null && @case!.Prisoners.All(p => p.Prisoner != prisoner)
            || @event is PartyRemoved removed && @case!.Parties.All(p => p.Participant != removed.Participant)
        )
            return new Refusal(Reason.StateNotAllowed);
        // Custody's own entry has the readers that may know of it; the copy is the service's alone (D22).
        return Decision.Accept(id, [], [new Change(@event, [Kind.Id(id)])]);
    }

    private static void Opened(Case state, CaseOpened e, FoldedEntry entry)
    {
        (state.Id, state.DetainingPower, state.State, state.OpenTime) = (e.Case, e.DetainingPower, CaseState.Open, entry.Time);
        Admit(state, e.Participant, Part.DetainingPower, e.DetainingPower, entry);
    }

    private static void Admit(Case state, string participant, Part part, string power, FoldedEntry entry)
    {
        // The party that admits it is known by the entry, so neither an erasure nor another agreement takes its state from the record.
        var admitting = state.Parties.FirstOrDefault(p => p.Participant == entry.Participant);
        state.Parties.Add(
            new CaseParty
            {
                Participant = participant,
                Part = part,
                AdmitTime = entry.Time,
                State = power,
                AdmittedBy = entry.Request is AdmitPartyRequest ? entry.Participant : "",
                AdmittedFor = admitting?.State ?? "",
            }
        );
        if (part is Part.DetainingPower or Part.RequestingState && !state.InvolvedStates.Contains(power))
            state.InvolvedStates.Add(power);
    }

    private static void Removed(Case state, PartyRemoved e, FoldedEntry entry) => state.Parties.Keep(p => p.Participant != e.Participant);

    private static void Registered(Case state, PrisonerRegistered e, FoldedEntry entry) =>
        state.Prisoners.Add(
            new CasePrisoner
            {
                Prisoner = e.Prisoner,
                DetainingPower = e.DetainingPower,
                LastDetainingPower = e.DetainingPower,
                RegisteringPower = e.DetainingPower,
                Held = true,
            }
        );

    private static void StatusChanged(Case state, StatusRecorded e, FoldedEntry entry)
    {
        var prisoner = PrisonerOf(state, e.Prisoner);
        (prisoner.Held, prisoner.DetainingPower) = (e.Held, e.Ended ? "" : prisoner.LastDetainingPower);
        ReopenWhileHeld(state);
    }

    private static void Passed(Case state, CustodyTransferred e, FoldedEntry entry)
    {
        var prisoner = PrisonerOf(state, e.Prisoner);
        PassOn(prisoner.FormerPowers, e);
        prisoner.TransferringPower = prisoner.FormerPowers.LastOrDefault() ?? "";
        prisoner.LastDetainingPower = e.ToPower;
        // Nobody was handed over. The rest depends on which prisoners are held.
        if (e.Undone)
            prisoner.DetainingPower = prisoner.DetainingPower.Length > 0 ? e.ToPower : "";
        else
            (prisoner.DetainingPower, prisoner.Held) = e.Ended ? ("", false) : (e.ToPower, true);
        ReopenWhileHeld(state);
    }

    /// <summary>Keeps the chain of powers that transferred a prisoner and still answer for their own transfer (12(3)). A power that has the
    /// prisoner back leaves the chain, and so do the powers that transferred him on in the meantime.</summary>
    /// <param name="formerPowers">The chain, the earliest first.</param>
    /// <param name="e">The passing of custody.</param>
    public static void PassOn(RepeatedField<string> formerPowers, CustodyTransferred e)
    {
        if (e.Undone)
        {
            formerPowers.Clear();
            formerPowers.Add(e.FormerPowers);
            return;
        }
        // A second reference of the person can show that he came to a power after one that has him back.
        foreach (var relieved in Relieved(formerPowers, e.ToPower).Concat(e.RelievedPowers).ToArray())
            formerPowers.Remove(relieved);
        if (!e.Returned && !formerPowers.Contains(e.FromPower))
            formerPowers.Add(e.FromPower);
    }

    /// <summary>Whether custody says, once a link is undone, only which powers answer for their transfers: nobody was said to have been handed
    /// over who was not.</summary>
    public static bool IsOfChainAlone(CustodyTransferred e) => e is { Undone: true, PassTime: null } && e.FromPower == e.ToPower;

    /// <summary>The powers of a chain that no longer answer for their transfers once custody passes to one of them: that power, and those
    /// to which the prisoner came after it.</summary>
    /// <param name="formerPowers">The chain, the earliest first.</param>
    /// <param name="toPower">The power to which custody passes.</param>
    public static IEnumerable<string> Relieved(IReadOnlyList<string> formerPowers, string toPower) =>
        formerPowers.SkipWhile(power => power != toPower);

    // Protection runs while somebody is in custody (D19), and so does the case.
    private static void ReopenWhileHeld(Case state)
    {
        if (state.Prisoners.Any(p => p.DetainingPower.Length > 0))
            state.State = CaseState.Open;
    }

    /// <summary>Whether the state holds a prisoner in the case, held one last, or transferred one and still answers for that. The state
    /// that opened the case counts too.</summary>
    public static bool HeldSomebody(Case @case, string state) =>
        @case.DetainingPower == state || @case.Prisoners.Any(p => p.LastDetainingPower == state || p.FormerPowers.Contains(state));

    private static void Departed(Case state, DepartureRecorded e, FoldedEntry entry)
    {
        var prisoner = PrisonerOf(state, e.Prisoner);
        (prisoner.DetainingPower, prisoner.Held) = ("", false);
    }

    private static CasePrisoner PrisonerOf(Case state, string prisoner) => state.Prisoners.Single(p => p.Prisoner == prisoner);
}
