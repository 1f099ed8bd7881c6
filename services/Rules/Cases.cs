using Google.Protobuf;
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
        1,
        new Folds<Case>()
            .On<CaseOpened>(Opened)
            .On<PartyAdmitted>((state, e, entry) => Admit(state, e.Participant, e.Part, e.State, entry))
            .On<PartyRemoved>(Removed)
            .On<CaseClosed>((state, _, _) => state.State = CaseState.Closed)
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
        var admitted = @case.Parties.Where(p => p.Participant == caller.Id).Select(p => p.Part).ToHashSet();
        if (admitted.Count == 0 || caller.State.Length == 0)
            return admitted;
        var held = prisoner is null ? null : @case.Prisoners.FirstOrDefault(p => p.Prisoner == prisoner);
        if (held is null)
            return admitted;
        // With respect to one prisoner the part follows the responsibility, wherever the case began; who held him last still
        // notifies and corrects after the end of custody.
        admitted.Remove(Part.DetainingPower);
        if (held.LastDetainingPower == caller.State)
            admitted.Add(Part.DetainingPower);
        if (held.TransferringPower == caller.State)
            admitted.Add(Part.TransferringPower);
        return admitted;
    }

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

    /// <summary>The tokens that a participant holds through its part in a case: for every level up to its clearance, as one of
    /// many and by its own name (<see cref="Audience.Marked"/>).</summary>
    public static IEnumerable<string> TokensIn(Participant reader, Case @case)
    {
        if (@case.Parties.All(p => p.Participant != reader.Id))
            yield break;
        var side = reader.Kind is ParticipantKind.NeutralObserver or ParticipantKind.ProtectingPower
            ? Audience.Observers(@case.Id)
            : Audience.State(@case.Id, reader.State);
        foreach (var audience in (string[])[Audience.Case(@case.Id), side])
            for (var level = Level.Restricted; level == Level.Restricted || level <= reader.Clearance; level++)
            {
                var cleared = Audience.Cleared(audience, level);
                yield return cleared;
                yield return Audience.Named(cleared, reader.Id);
            }
    }

    /// <summary>Whether a participant may see a record of the case (D22).</summary>
    /// <param name="reader">The participant.</param>
    /// <param name="case">The case.</param>
    /// <param name="audience">The record's tokens (<see cref="StreamKind.AudienceOf"/>).</param>
    public static bool MaySee(Participant reader, Case @case, IReadOnlyCollection<string> audience) =>
        audience.Contains(Audience.Everybody)
        || audience.Contains(Audience.Of(reader.Id))
        || TokensIn(reader, @case).Any(audience.Contains);

    /// <summary>A case as a reader sees it: a requesting state does not see which other states request, nor when which of their
    /// organs was admitted (D22).</summary>
    public static Case Show(Case @case, Reader reader)
    {
        var shown = @case.Clone();
        if (reader.Tokens.Contains(Audience.Observers(@case.Id)) || reader.Tokens.Contains(Audience.State(@case.Id, @case.DetainingPower)))
            return shown;
        shown.Parties.Clear();
        shown.Parties.Add(@case.Parties.Where(p => p.Part != Part.RequestingState || p.State == reader.Participant.State));
        shown.Withheld.Add("parties");
        return shown;
    }

    /// <summary>A participant with the tokens that it holds through cases.</summary>
    public static Reader ReaderOf(Participant participant, params IEnumerable<Case> cases) =>
        new(
            participant,
            new HashSet<string>(cases.SelectMany(c => TokensIn(participant, c))) { Audience.Everybody, Audience.Of(participant.Id) }
        );

    /// <summary>What another service than custody does on an event of <see cref="EventTypes"/>: it changes its copy of the case.
    /// One that came before those that it rests on, such as a removal before the admission, is refused, so that it is tried
    /// again after them.</summary>
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
        return Decision.Accept(id, [Audience.Case(id)], [new Change(@event, [Kind.Id(id)])]);
    }

    private static void Opened(Case state, CaseOpened e, FoldedEntry entry)
    {
        (state.Id, state.DetainingPower, state.State, state.OpenTime) = (e.Case, e.DetainingPower, CaseState.Open, entry.Time);
        Admit(state, e.Participant, Part.DetainingPower, e.DetainingPower, entry);
    }

    private static void Admit(Case state, string participant, Part part, string power, FoldedEntry entry) =>
        state.Parties.Add(
            new CaseParty
            {
                Participant = participant,
                Part = part,
                AdmitTime = entry.Time,
                State = power,
            }
        );

    private static void Removed(Case state, PartyRemoved e, FoldedEntry entry)
    {
        for (var i = state.Parties.Count - 1; i >= 0; i--)
            if (state.Parties[i].Participant == e.Participant)
                state.Parties.RemoveAt(i);
    }

    private static void Registered(Case state, PrisonerRegistered e, FoldedEntry entry) =>
        state.Prisoners.Add(
            new CasePrisoner
            {
                Prisoner = e.Prisoner,
                DetainingPower = e.DetainingPower,
                LastDetainingPower = e.DetainingPower,
                Held = true,
            }
        );

    private static void StatusChanged(Case state, StatusRecorded e, FoldedEntry entry)
    {
        var prisoner = PrisonerOf(state, e.Prisoner);
        (prisoner.Held, prisoner.DetainingPower) = (e.Held, e.Ended ? "" : prisoner.LastDetainingPower);
    }

    private static void Passed(Case state, CustodyTransferred e, FoldedEntry entry)
    {
        var prisoner = PrisonerOf(state, e.Prisoner);
        prisoner.TransferringPower = e.Returned ? "" : e.FromPower;
        prisoner.DetainingPower = prisoner.LastDetainingPower = e.ToPower;
        prisoner.Held = true;
    }

    private static void Departed(Case state, DepartureRecorded e, FoldedEntry entry)
    {
        var prisoner = PrisonerOf(state, e.Prisoner);
        (prisoner.DetainingPower, prisoner.Held) = ("", false);
    }

    private static CasePrisoner PrisonerOf(Case state, string prisoner) => state.Prisoners.Single(p => p.Prisoner == prisoner);
}
