using Ministries.Consular.V1;
using Ministries.Custody.V1;
using Ministries.Errors.V1;
using Ministries.Types.V1;
using CustodyContract = Ministries.Custody.V1.CustodyService;
using Route = Ministries.Types.V1.Route;

namespace Ministries.Custody.Tests;

/// <summary>Every state × every command: accepted, or refused by name.</summary>
public class TransitionTests
{
    private static readonly Invariant[] All = [Invariant.D1, Invariant.D2, Invariant.D9, Invariant.D10, Invariant.D11, Invariant.D12];

    // Columns: what RecordStatus records. `+` accepted, `1` accepted as a fact and marked with D1, `.` STATE_NOT_ALLOWED.
    private const string Statuses = """
                                    Captured Registered Interned Hospitalised InTransit Escaped Recaptured Released Repatriated AccommodatedInNeutralCountry Died
        Captured                    .        +          .        +            .         +       1          +        +           .                            +
        Registered                  .        .          +        +            .         +       1          +        +           .                            +
        Interned                    .        .          .        +            .         +       1          +        +           .                            +
        Hospitalised                .        .          +        .            .         +       1          +        +           .                            +
        InTransit                   .        .          .        +            .         +       1          +        +           .                            +
        Escaped                     .        .          .        .            .         1       +          .        .           .                            +
        Recaptured                  .        .          +        +            .         +       1          +        +           .                            +
        Released                    .        .          .        .            .         1       1          .        .           .                            +
        Repatriated                 .        .          .        .            .         1       1          .        .           .                            +
        AccommodatedInNeutralCountry .       .          .        +            .         +       1          +        +           .                            +
        Died                        .        .          .        .            .         .       .          .        .           .                            .
        """;

    // Columns: the other commands on a prisoner. `+` accepted, `.` STATE_NOT_ALLOWED, `2` NOT_GRANTED and then `3`
    // LINK_NOT_PROPOSED: two powers hold the two. `4` STATE_NOT_ALLOWED of what is ahead, which a fact is not.
    private const string Commands = """
                                    RecordProceedings RecordClaim RecordStatement AttestStatement RevokeAttestation RecordRiskAssessment RecordFitness NotifyBureau LinkDuplicate ConfirmDuplicate CorrectRecord AnnounceMove
        Captured                    +                 +           +               +               +                 +                    +             +            +             +                +             +
        Registered                  +                 +           +               +               +                 +                    +             +            +             +                +             +
        Interned                    +                 +           +               +               +                 +                    +             +            +             +                +             +
        Hospitalised                +                 +           +               +               +                 +                    +             +            +             +                +             +
        InTransit                   +                 +           +               +               +                 +                    +             +            +             .                +             +
        Escaped                     .                 +           .               +               +                 .                    .             +            +             +                +             4
        Recaptured                  +                 +           +               +               +                 +                    +             +            +             +                +             +
        Released                    .                 +           .               +               +                 .                    .             +            +             +                +             4
        Repatriated                 .                 +           .               +               +                 .                    .             +            +             +                +             4
        AccommodatedInNeutralCountry +                +           +               +               +                 +                    +             +            2             3                +             +
        Died                        .                 +           .               +               +                 .                    .             +            +             +                +             4
        """;

    // Columns: the consular service's events. The status afterwards: `=` as before.
    private const string Events = """
                                    TransitBegun HandoverAborted HandoverConfirmed
        Captured                    InTransit    =               Interned
        Registered                  InTransit    =               Interned
        Interned                    InTransit    =               Interned
        Hospitalised                InTransit    =               Hospitalised
        InTransit                   InTransit    Interned        Interned
        Escaped                     =            =               Interned
        Recaptured                  InTransit    =               Interned
        Released                    =            =               Interned
        Repatriated                 =            =               Interned
        AccommodatedInNeutralCountry InTransit =             Interned
        Died                        =            =               =
        """;

    private static readonly CustodyState[] States = [.. System.Enum.GetValues<CustodyState>().Except([CustodyState.Unspecified])];

    private static readonly string[] OnPrisoners =
    [
        nameof(CustodyContract.CustodyServiceBase.RecordProceedings),
        nameof(CustodyContract.CustodyServiceBase.RecordClaim),
        nameof(CustodyContract.CustodyServiceBase.RecordStatement),
        nameof(CustodyContract.CustodyServiceBase.AttestStatement),
        nameof(CustodyContract.CustodyServiceBase.RevokeAttestation),
        nameof(CustodyContract.CustodyServiceBase.RecordRiskAssessment),
        nameof(CustodyContract.CustodyServiceBase.RecordFitness),
        nameof(CustodyContract.CustodyServiceBase.AnnounceMove),
        nameof(CustodyContract.CustodyServiceBase.NotifyBureau),
        nameof(CustodyContract.CustodyServiceBase.LinkDuplicate),
        nameof(CustodyContract.CustodyServiceBase.ConfirmDuplicate),
        nameof(CustodyContract.CustodyServiceBase.CorrectRecord),
    ];

    private static readonly string[] OnCases =
    [
        nameof(CustodyContract.CustodyServiceBase.AdmitParty),
        nameof(CustodyContract.CustodyServiceBase.RemoveParty),
        nameof(CustodyContract.CustodyServiceBase.CloseCase),
        nameof(CustodyContract.CustodyServiceBase.ReopenCase),
        nameof(CustodyContract.CustodyServiceBase.RegisterPrisoner),
    ];

    public static TheoryData<CustodyState, CustodyState> StatusPairs => [.. from s in States from t in States select (s, t)];

    public static TheoryData<CustodyState, string> CommandPairs => [.. from s in States from c in OnPrisoners select (s, c)];

    public static TheoryData<CustodyState, string> EventPairs =>
        [.. from s in States from e in (string[])["TransitBegun", "HandoverAborted", "HandoverConfirmed"] select (s, e)];

    public static TheoryData<string> CaseCommands => [.. OnCases, .. OnPrisoners, "RecordStatus"];

    [Fact]
    public void Every_write_of_the_service_is_in_a_table()
    {
        var writes = CustodyContract
            .Descriptor.Methods.Where(m => m.InputType.FindFieldByName("request_id") is not null)
            .Select(m => m.Name)
            .Order();
        Assert.Equal(writes, OnPrisoners.Concat(OnCases).Append("RecordStatus").Append("OpenCase").Order());
    }

    [Theory, MemberData(nameof(StatusPairs))]
    public void A_status_leads_to_another_or_is_refused(CustodyState from, CustodyState to)
    {
        var (fixture, _) = In(from);
        var expected = Cell(Statuses, from, to.ToString());
        var reason = fixture.Try(fixture.Holder, fixture.StatusRequest(to, null, All), Prisoners.RecordStatus);
        Assert.Equal(expected == "." ? Reason.StateNotAllowed : Reason.Unspecified, reason);
        if (expected == ".")
        {
            Assert.Equal(from, fixture.Prisoner.State);
            return;
        }
        Assert.Equal(to, fixture.Prisoner.State);
        Assert.Equal(CustodyStates.IsCustody(to), fixture.Prisoner.Held);
        Assert.Equal(expected == "1", fixture.Prisoner.Statuses[^1].Breaches.Contains(Invariant.D1));
        Assert.Equal(fixture.Prisoner.Ended ? "" : fixture.Prisoner.LastDetainingPower, fixture.Prisoner.DetainingPower);
        Assert.Equal(fixture.Prisoner.Held, fixture.TheCase.Prisoners.Single(p => p.Prisoner == CaseFixture.P).Held);
        Assert.Equal(fixture.Prisoner.DetainingPower, fixture.TheCase.Prisoners.Single(p => p.Prisoner == CaseFixture.P).DetainingPower);
    }

    [Theory, MemberData(nameof(CommandPairs))]
    public void A_command_is_accepted_or_refused_in_a_status(CustodyState state, string command)
    {
        var (fixture, statement) = In(state);
        var expected = Cell(Commands, state, command) switch
        {
            "." => Reason.StateNotAllowed,
            "2" => Reason.NotGranted,
            "4" => Reason.StateNotAllowed,
            "3" => Reason.LinkNotProposed,
            _ => Reason.Unspecified,
        };
        Assert.Equal(expected, Run(fixture, statement, command));
        Assert.Equal(state, fixture.Prisoner.State);
    }

    [Theory, MemberData(nameof(EventPairs))]
    public void An_event_of_a_hand_over_is_recorded_in_every_status(CustodyState state, string @event)
    {
        var (fixture, _) = In(state);
        var held = fixture.Prisoner.Held;
        switch (@event)
        {
            case nameof(TransitBegun):
                fixture.Begin();
                break;
            case nameof(HandoverAborted):
                fixture.Abort();
                break;
            default:
                fixture.HandOver();
                break;
        }
        var expected = Cell(Events, state, @event);
        Assert.Equal(expected == "=" ? state : System.Enum.Parse<CustodyState>(expected), fixture.Prisoner.State);
        if (@event == nameof(HandoverConfirmed))
            // A death that was recorded before stays the last word.
            Assert.Equal(!held, fixture.Prisoner.Statuses[state == CustodyState.Died ? ^2 : ^1].Breaches.Contains(Invariant.D1));
    }

    [Theory]
    [InlineData(StatementState.Recorded, "AttestStatement", Reason.Unspecified)]
    [InlineData(StatementState.Recorded, "RevokeAttestation", Reason.StateNotAllowed)]
    [InlineData(StatementState.Recorded, "CorrectRecord", Reason.Unspecified)]
    [InlineData(StatementState.Attested, "AttestStatement", Reason.Unspecified)]
    [InlineData(StatementState.Attested, "RevokeAttestation", Reason.Unspecified)]
    [InlineData(StatementState.Attested, "CorrectRecord", Reason.Unspecified)]
    [InlineData(StatementState.Corrected, "AttestStatement", Reason.StateNotAllowed)]
    [InlineData(StatementState.Corrected, "RevokeAttestation", Reason.StateNotAllowed)]
    [InlineData(StatementState.Corrected, "CorrectRecord", Reason.NotCorrectable)]
    public void A_statement_takes_a_command_or_refuses_it(StatementState state, string command, Reason expected)
    {
        var fixture = new CaseFixture();
        fixture.Register();
        var id = fixture.Record(fixture.StatementRequest(CaseFixture.Icrc, "KR"));
        var position = fixture.StatementOf(id).Position;
        if (state != StatementState.Recorded)
            fixture.Attest(id, AttesterRole.Interviewer);
        if (state == StatementState.Corrected)
            fixture.Correct(position, CaseFixture.Icrc);
        Assert.Equal(state, fixture.StatementOf(id).State);
        Assert.Equal(
            expected,
            command switch
            {
                "AttestStatement" => fixture.Try(
                    CaseFixture.Icrc,
                    fixture.AttestRequest(id, AttesterRole.Observer, "i-3"),
                    Statements.AttestStatement
                ),
                "RevokeAttestation" => fixture.Try(CaseFixture.Icrc, fixture.RevokeRequest(id), Statements.RevokeAttestation),
                _ => fixture.Try(CaseFixture.Icrc, fixture.CorrectRequest(position, CaseFixture.Icrc), Prisoners.CorrectRecord),
            }
        );
    }

    [Theory, MemberData(nameof(CaseCommands))]
    public void A_closed_case_takes_facts_duties_revocations_and_corrections_alone(string command)
    {
        var (fixture, statement) = In(CustodyState.Released);
        Close(fixture);
        var expected =
            command is "RecordStatus" or "NotifyBureau" or "RevokeAttestation" or "CorrectRecord" or "ReopenCase" ? Reason.Unspecified
            // Of a move a closed case takes the fact.
            : command == "AnnounceMove" ? Reason.StateNotAllowed
            : Reason.CaseClosed;
        Assert.Equal(expected, Run(fixture, statement, command));
    }

    [Theory, MemberData(nameof(CaseCommands))]
    public void An_open_case_takes_every_command(string command)
    {
        var (fixture, statement) = In(command == "CloseCase" ? CustodyState.Released : CustodyState.Interned);
        if (command == "CloseCase")
            Release(fixture, CaseFixture.Q);
        Assert.Equal(command == "ReopenCase" ? Reason.StateNotAllowed : Reason.Unspecified, Run(fixture, statement, command));
    }

    /// <summary>Nobody is held in it, so that no fact opens it again.</summary>
    [Theory]
    [InlineData(CaseFixture.Hq, Reason.Unspecified)]
    [InlineData(CaseFixture.Kr, Reason.NotGranted)]
    [InlineData(CaseFixture.Icrc, Reason.NotGranted)]
    public void A_case_that_was_closed_by_mistake_is_opened_again_by_who_manages_it(string who, Reason expected)
    {
        var (fixture, _) = In(CustodyState.Released);
        Close(fixture);
        Assert.Equal(expected, fixture.Try(who, ReopenRequest(fixture, who), CaseRules.ReopenCase));
        Assert.Equal(expected == Reason.Unspecified ? CaseState.Open : CaseState.Closed, fixture.TheCase.State);
        if (expected == Reason.Unspecified)
            fixture.Do(CaseFixture.Hq, CloseRequest(fixture), CaseRules.CloseCase);
    }

    [Theory, MemberData(nameof(CommandPairs))]
    public void The_table_agrees_with_the_statuses_that_the_rules_declare(CustodyState state, string command)
    {
        var rule = (Rule)(typeof(Prisoners).GetField(command) ?? typeof(Statements).GetField(command))!.GetValue(null)!;
        // Those on statements are declared from states of statements.
        if (rule.States.All(s => s is CustodyState))
            Assert.Equal(Cell(Commands, state, command) != ".", rule.States.Count == 0 || rule.States.Contains(state));
    }

    private static (CaseFixture CaseFixture, string Statement) In(CustodyState state)
    {
        var fixture = new CaseFixture();
        fixture.Register(
            CaseFixture.P,
            state is CustodyState.Captured or CustodyState.Registered or CustodyState.Hospitalised ? state : CustodyState.Interned
        );
        fixture.Register(CaseFixture.Q);
        var statement = fixture.Record(fixture.StatementRequest(CaseFixture.Icrc, "KR"));
        fixture.Attest(statement, AttesterRole.Interviewer);
        if (state == CustodyState.InTransit)
            fixture.Begin();
        if (state is CustodyState.Recaptured)
            fixture.Status(CustodyState.Escaped);
        if (
            state
            is CustodyState.Escaped
                or CustodyState.Recaptured
                or CustodyState.Released
                or CustodyState.Repatriated
                or CustodyState.Died
        )
            fixture.Status(state, All);
        if (state == CustodyState.AccommodatedInNeutralCountry)
            fixture.HandOver(Route.NeutralAccommodation);
        Assert.Equal(state, fixture.Prisoner.State);
        return (fixture, statement);
    }

    private static void Release(CaseFixture fixture, string reference)
    {
        var request = fixture.StatusRequest(CustodyState.Released, CaseFixture.Hq, All);
        (request.Prisoner, request.Etag) = (reference, fixture.Etag(CaseFixture.Hq, reference));
        fixture.Do(CaseFixture.Hq, request, Prisoners.RecordStatus);
    }

    private static void Close(CaseFixture fixture)
    {
        Release(fixture, CaseFixture.Q);
        fixture.Do(CaseFixture.Hq, CloseRequest(fixture), CaseRules.CloseCase);
    }

    private static CloseCaseRequest CloseRequest(CaseFixture fixture) =>
        new()
        {
            Actor = CaseFixture.Actor,
            Etag = fixture.CaseEtag(CaseFixture.Hq),
            Case = fixture.Case,
        };

    private static ReopenCaseRequest ReopenRequest(CaseFixture fixture, string who = CaseFixture.Hq) =>
        new()
        {
            Actor = CaseFixture.Actor,
            Etag = fixture.CaseEtag(who),
            Case = fixture.Case,
        };

    private static Reason Run(CaseFixture fixture, string statement, string command) =>
        command switch
        {
            "AdmitParty" => fixture.Try(CaseFixture.Hq, fixture.AdmitRequest(CaseFixture.Ru, Part.RequestingState), CaseRules.AdmitParty),
            "RemoveParty" => fixture.Try(
                CaseFixture.Hq,
                new RemovePartyRequest
                {
                    Actor = CaseFixture.Actor,
                    Etag = fixture.CaseEtag(CaseFixture.Hq),
                    Case = fixture.Case,
                    Participant = CaseFixture.Kr,
                },
                CaseRules.RemoveParty
            ),
            "CloseCase" => fixture.Try(CaseFixture.Hq, CloseRequest(fixture), CaseRules.CloseCase),
            "ReopenCase" => fixture.Try(CaseFixture.Hq, ReopenRequest(fixture), CaseRules.ReopenCase),
            "RegisterPrisoner" => fixture.Try(CaseFixture.Hq, fixture.RegisterRequest(), Prisoners.RegisterPrisoner),
            "RecordStatus" => fixture.Try(fixture.Holder, fixture.StatusRequest(CustodyState.Died), Prisoners.RecordStatus),
            "RecordProceedings" => fixture.Try(fixture.Holder, fixture.ProceedingsRequest(), Prisoners.RecordProceedings),
            "RecordClaim" => fixture.Try(CaseFixture.Kr, fixture.ClaimRequest(CaseFixture.Kr, "KR", "KR"), Prisoners.RecordClaim),
            "RecordStatement" => fixture.Try(
                CaseFixture.Icrc,
                fixture.StatementRequest(CaseFixture.Icrc, "KR"),
                Statements.RecordStatement
            ),
            "AttestStatement" => fixture.Try(
                CaseFixture.Icrc,
                fixture.AttestRequest(statement, AttesterRole.Observer, "i-3"),
                Statements.AttestStatement
            ),
            "RevokeAttestation" => fixture.Try(CaseFixture.Icrc, fixture.RevokeRequest(statement), Statements.RevokeAttestation),
            "RecordRiskAssessment" => fixture.Try(fixture.Holder, fixture.RiskRequest(), Prisoners.RecordRiskAssessment),
            "RecordFitness" => fixture.Try(fixture.Holder, fixture.FitnessRequest(), Prisoners.RecordFitness),
            "AnnounceMove" => fixture.Try(fixture.Holder, fixture.MoveRequest(), Prisoners.AnnounceMove),
            "NotifyBureau" => fixture.Try(CaseFixture.Hq, fixture.NotifyRequest(1), Prisoners.NotifyBureau),
            "LinkDuplicate" => fixture.Try(CaseFixture.Hq, fixture.LinkRequest(), Prisoners.LinkDuplicate),
            "ConfirmDuplicate" => ProposedAndConfirmed(fixture),
            "CorrectRecord" => fixture.Try(
                CaseFixture.Icrc,
                fixture.CorrectRequest(fixture.StatementOf(statement).Position, CaseFixture.Icrc),
                Prisoners.CorrectRecord
            ),
            _ => throw new ArgumentOutOfRangeException(nameof(command), command, "no such command"),
        };

    private static Reason ProposedAndConfirmed(CaseFixture fixture)
    {
        // A dead man is linked to a dead man.
        if (fixture.Prisoner.State == CustodyState.Died)
            fixture.Try(CaseFixture.Hq, fixture.DeathOfQ(), Prisoners.RecordStatus);
        fixture.Try(CaseFixture.Hq, fixture.LinkRequest(), Prisoners.LinkDuplicate);
        return fixture.Try(CaseFixture.Icrc, fixture.ConfirmRequest(), Prisoners.ConfirmDuplicate);
    }

    // The table's cell; a row or column that is missing fails.
    private static string Cell(string table, CustodyState row, string column)
    {
        var lines = table.Split('\n').Select(l => l.Split(' ', StringSplitOptions.RemoveEmptyEntries)).ToArray();
        return lines.Skip(1).Single(l => l[0] == row.ToString())[1 + Array.IndexOf(lines[0], column)];
    }
}
