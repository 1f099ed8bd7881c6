using Google.Protobuf;
using Ministries.Custody.V1;
using Ministries.Errors.V1;
using Ministries.Hosting;
using Ministries.Ledger;
using Ministries.Trust;
using Ministries.Types.V1;

namespace Ministries.Custody;

/// <summary>
/// Cases: who opens, admits, removes and closes. Their fold is <see cref="Cases"/>, which every service shares. A case is OPEN,
/// then CLOSED; in each state every write but those listed at its method is refused by name.
/// </summary>
public static class CaseRules
{
    /// <summary>The greatest number of parties of a case.</summary>
    public const int MaxParties = 32;

    /// <summary>The key under which cases in a state are listed; empty: in every state.</summary>
    public static string StateKey(CaseState state) => state == CaseState.Unspecified ? "" : $"state:{state}";

    /// <summary>Opens a case: the caller's state is its detaining power (GC III 12; D1: a state, never a unit).</summary>
    public static Decision Open(View view, OpenCaseRequest request, RuleContext act)
    {
        if (Gate.Check(act, request, null, opensCase: true) is { } refusal)
            return refusal;
        var id = act.NewId("case");
        var opened = new CaseOpened
        {
            Case = id,
            DetainingPower = act.Caller.State,
            Participant = act.Caller.Id,
        };
        return Decision.Accept(
            id,
            [Audience.Case(id)],
            [new Change(opened, [Cases.Kind.Id(id)])],
            after =>
                Answer<OpenCaseResponse>(
                    after,
                    id,
                    act,
                    (shown, etag) =>
                        new()
                        {
                            Case = id,
                            Etag = etag,
                            State = shown.State,
                        }
                )
        );
    }

    /// <summary>Admits a party: an organ of the detaining power or of another state, a neutral observer, a Protecting
    /// Power.</summary>
    public static Decision Admit(View view, AdmitPartyRequest request, RuleContext act)
    {
        var @case = view.Find(Cases.Kind, request.Case);
        if (Gate.Check(act, request, @case) is { } refusal)
            return refusal;
        if (Gate.Saw(act, request.Etag, Show(@case!, ReaderOf(act.Caller, @case!))) is { } stale)
            return stale;
        if (
            act.Permissions.Participant(request.Participant) is not { } party
            || party.Kind is ParticipantKind.Service or ParticipantKind.Operator
        )
            return Decision.Refuse(Reason.ParticipantUnknown);
        var fits = request.Part switch
        {
            Part.DetainingPower => party.Kind == ParticipantKind.Ministry && party.State == @case!.DetainingPower,
            Part.RequestingState => party.Kind == ParticipantKind.Ministry
                && party.State.Length > 0
                && party.State != @case!.DetainingPower,
            Part.NeutralObserver => party.Kind == ParticipantKind.NeutralObserver,
            Part.ProtectingPower => party.Kind == ParticipantKind.ProtectingPower,
            _ => false,
        };
        if (!fits)
            return Decision.Refuse(Reason.PartNotFitting);
        if (@case!.Parties.Any(p => p.Participant == party.Id))
            return Decision.Refuse(Reason.AlreadyExists);
        if (@case.Parties.Count >= MaxParties)
            return Decision.Refuse(Reason.RecordFull);
        var admitted = new PartyAdmitted
        {
            Case = @case.Id,
            Participant = party.Id,
            Part = request.Part,
            State = party.State,
        };
        return Decision.Accept(
            @case.Id,
            AudienceOf(@case, party.Id, party.State, request.Part),
            [new Change(admitted, [Cases.Kind.Id(@case.Id)])],
            after =>
                Answer<AdmitPartyResponse>(
                    after,
                    @case.Id,
                    act,
                    (shown, etag) =>
                        new()
                        {
                            Case = shown.Id,
                            Etag = etag,
                            State = shown.State,
                        }
                )
        );
    }

    /// <summary>Removes a party. While somebody is in custody, the last organ of a power that answers for him and the last
    /// neutral observer stay (GC III 12, 126).</summary>
    public static Decision Remove(View view, RemovePartyRequest request, RuleContext act)
    {
        var @case = view.Find(Cases.Kind, request.Case);
        if (Gate.Check(act, request, @case) is { } refusal)
            return refusal;
        if (Gate.Saw(act, request.Etag, Show(@case!, ReaderOf(act.Caller, @case!))) is { } stale)
            return stale;
        if (@case!.Parties.FirstOrDefault(p => p.Participant == request.Participant) is not { } party)
            return Decision.Refuse(Reason.NotAParty);
        var others = @case.Parties.Where(p => p.Participant != party.Participant).ToArray();
        var answers =
            @case.DetainingPower == party.State
            || @case.Prisoners.Any(p =>
                p.DetainingPower.Length > 0
                && party.State.Length > 0
                && (p.DetainingPower == party.State || p.TransferringPower == party.State)
            );
        var watches = IsObserver(party.Part) && @case.Prisoners.Any(p => p.DetainingPower.Length > 0);
        if (answers && others.All(p => p.State != party.State) || watches && !others.Any(p => IsObserver(p.Part)))
            return Decision.Refuse(Reason.PartyNeeded);
        var removed = new PartyRemoved { Case = @case.Id, Participant = party.Participant };
        return Decision.Accept(
            @case.Id,
            AudienceOf(@case, party.Participant, party.State, party.Part),
            [new Change(removed, [Cases.Kind.Id(@case.Id)])],
            after =>
                Answer<RemovePartyResponse>(
                    after,
                    @case.Id,
                    act,
                    (shown, etag) =>
                        new()
                        {
                            Case = @case.Id,
                            Etag = etag,
                            State = shown.State,
                        }
                )
        );
    }

    /// <summary>Closes a case in which nobody is in custody any more (D19: protection runs until final release and repatriation).
    /// </summary>
    public static Decision Close(View view, CloseCaseRequest request, RuleContext act)
    {
        var @case = view.Find(Cases.Kind, request.Case);
        if (Gate.Check(act, request, @case) is { } refusal)
            return refusal;
        if (Gate.Saw(act, request.Etag, Show(@case!, ReaderOf(act.Caller, @case!))) is { } stale)
            return stale;
        if (@case!.Prisoners.Any(p => p.DetainingPower.Length > 0))
            return Decision.Refuse(Reason.CustodyNotEnded);
        return Decision.Accept(
            @case.Id,
            [Audience.Case(@case.Id)],
            [new Change(new CaseClosed { Case = @case.Id }, [Cases.Kind.Id(@case.Id)])],
            after =>
                Answer<CloseCaseResponse>(
                    after,
                    @case.Id,
                    act,
                    (shown, etag) =>
                        new()
                        {
                            Case = shown.Id,
                            Etag = etag,
                            State = shown.State,
                        }
                )
        );
    }

    /// <summary>A case as a reader sees it: a requesting state does not see which other states request, nor when which of their
    /// organs was admitted (D22).</summary>
    public static Case Show(Case @case, Reader reader)
    {
        var shown = @case.Clone();
        if (SeesAll(@case, reader))
            return shown;
        shown.Parties.Clear();
        shown.Parties.Add(@case.Parties.Where(p => p.Part != Part.RequestingState || p.State == reader.Participant.State));
        shown.Withheld.Add("parties");
        return shown;
    }

    /// <summary>A participant with the tokens that it holds through one case.</summary>
    public static Reader ReaderOf(Participant participant, Case @case) =>
        new(participant, new HashSet<string>(Cases.TokensIn(participant, @case)) { Audience.Everybody, Audience.Of(participant.Id) });

    private static bool SeesAll(Case @case, Reader reader) =>
        reader.Tokens.Contains(Audience.Observers(@case.Id)) || reader.Tokens.Contains(Audience.State(@case.Id, @case.DetainingPower));

    private static bool IsObserver(Part part) => part is Part.NeutralObserver or Part.ProtectingPower;

    private static string[] AudienceOf(Case @case, string participant, string state, Part part) =>
        part == Part.RequestingState
            ?
            [
                Audience.State(@case.Id, @case.DetainingPower),
                Audience.Observers(@case.Id),
                Audience.State(@case.Id, state),
                Audience.Of(participant),
            ]
            : [Audience.Case(@case.Id), Audience.Of(participant)];

    private static T Answer<T>(View after, string id, RuleContext act, Func<Case, string, T> make)
        where T : IMessage
    {
        var @case = after.Find(Cases.Kind, id)!;
        var shown = Show(@case, ReaderOf(act.Caller, @case));
        return make(shown, act.EtagOf(shown));
    }
}
