using Ministries.Consular.V1;
using Ministries.Custody.V1;
using Ministries.Errors.V1;
using Ministries.Types.V1;
using CustodyContract = Ministries.Custody.V1.CustodyService;

namespace Ministries.Custody.Tests;

/// <summary>Every state × every command: accepted, or refused by name.</summary>
public class TransitionTests
{
    private static readonly Invariant[] All = [Invariant.D1, Invariant.D9, Invariant.D10, Invariant.D11, Invariant.D12];

    // Columns: what RecordStatus records. `+` accepted, `1` accepted as a fact and marked with D1, `.` STATE_NOT_ALLOWED.
    private const string Statuses = """
                                    Captured Registered Interned Hospitalised InTransit Escaped Recaptured Released Repatriated AccommodatedInNeutralCountry Died
        Captured                    .        +          .        +            .         +       1          +        +           +                            +
        Registered                  .        .          +        +            .         +       1          +        +           +                            +
        Interned                    .        .          .        +            .         +       1          +        +           +                            +
        Hospitalised                .        .          +        .            .         +       1          +        +           +                            +
        InTransit                   .        .          .        +            .         +       1          +        +           +                            +
        Escaped                     .        .          .        .            .         1       +          .        .           .                            +
        Recaptured                  .        .          +        +            .         +       1          +        +           +                            +
        Released                    .        .          .        .            .         1       1          .        .           .                            1
        Repatriated                 .        .          .        .            .         1       1          .        .           .                            1
        AccommodatedInNeutralCountry .       .          .        .            .         1       1          .        .           .                            1
        Died                        .        .          .        .            .         .       .          .        .           .                            .
        """;

    // Columns: the other commands on a prisoner. `+` accepted, `.` STATE_NOT_ALLOWED.
    private const string Commands = """
                                    RecordProceedings RecordClaim RecordStatement AttestStatement RevokeAttestation RecordRiskAssessment RecordFitness NotifyBureau LinkDuplicate CorrectRecord
        Captured                    +                 +           +               +               +                 +                    +             +            +             +
        Registered                  +                 +           +               +               +                 +                    +             +            +             +
        Interned                    +                 +           +               +               +                 +                    +             +            +             +
        Hospitalised                +                 +           +               +               +                 +                    +             +            +             +
        InTransit                   +                 +           +               +               +                 +                    +             +            +             +
        Escaped                     .                 +           .               +               +                 .                    .             +            +             +
        Recaptured                  +                 +           +               +               +                 +                    +             +            +             +
        Released                    .                 +           .               +               +                 .                    .             +            +             +
        Repatriated                 .                 +           .               +               +                 .                    .             +            +             +
        AccommodatedInNeutralCountry .                +           .               +               +                 .                    .             +            +             +
        Died                        .                 +           .               +               +                 .                    .             +            +             +
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
        AccommodatedInNeutralCountry =           =               Interned
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
        nameof(CustodyContract.CustodyServiceBase.NotifyBureau),
        nameof(CustodyContract.CustodyServiceBase.LinkDuplicate),
        nameof(CustodyContract.CustodyServiceBase.CorrectRecord),
    ];

    private static readonly string[] OnCases =
    [
        nameof(CustodyContract.CustodyServiceBase.AdmitParty),
        nameof(CustodyContract.CustodyServiceBase.RemoveParty),
        nameof(CustodyContract.CustodyServiceBase.CloseCase),
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
        var (scene, _) = In(from);
        var expected = Cell(Statuses, from, to.ToString());
        var reason = scene.Try(Scene.Hq, scene.StatusRequest(to, Scene.Hq, All), Prisoners.RecordStatus);
        Assert.Equal(expected == "." ? Reason.StateNotAllowed : Reason.Unspecified, reason);
        if (expected == ".")
        {
            Assert.Equal(from, scene.Prisoner.State);
            return;
        }
        Assert.Equal(to, scene.Prisoner.State);
        Assert.Equal(CustodyStates.IsCustody(to), scene.Prisoner.Held);
        Assert.Equal(expected == "1", scene.Prisoner.Statuses[^1].Breaches.Contains(Invariant.D1));
        Assert.Equal(scene.Prisoner.Ended ? "" : "UA", scene.Prisoner.DetainingPower);
        Assert.Equal(scene.Prisoner.Held, scene.TheCase.Prisoners.Single(p => p.Prisoner == Scene.P).Held);
        Assert.Equal(scene.Prisoner.DetainingPower, scene.TheCase.Prisoners.Single(p => p.Prisoner == Scene.P).DetainingPower);
    }

    [Theory, MemberData(nameof(CommandPairs))]
    public void A_command_is_accepted_or_refused_in_a_status(CustodyState state, string command)
    {
        var (scene, statement) = In(state);
        Assert.Equal(Cell(Commands, state, command) == "." ? Reason.StateNotAllowed : Reason.Unspecified, Run(scene, statement, command));
        Assert.Equal(state, scene.Prisoner.State);
    }

    [Theory, MemberData(nameof(EventPairs))]
    public void An_event_of_a_hand_over_is_recorded_in_every_status(CustodyState state, string @event)
    {
        var (scene, _) = In(state);
        var held = scene.Prisoner.Held;
        switch (@event)
        {
            case nameof(TransitBegun):
                scene.Begin();
                break;
            case nameof(HandoverAborted):
                scene.Abort();
                break;
            default:
                scene.HandOver();
                break;
        }
        var expected = Cell(Events, state, @event);
        Assert.Equal(expected == "=" ? state : System.Enum.Parse<CustodyState>(expected), scene.Prisoner.State);
        if (@event == nameof(HandoverConfirmed))
            Assert.Equal(!held, scene.Prisoner.Statuses[^1].Breaches.Contains(Invariant.D1));
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
        var scene = new Scene();
        scene.Register();
        var id = scene.Record(scene.StatementRequest(Scene.Icrc, "KR"));
        var position = scene.StatementOf(id).Position;
        if (state != StatementState.Recorded)
            scene.Attest(id, AttesterRole.Interviewer);
        if (state == StatementState.Corrected)
            scene.Correct(position, Scene.Icrc);
        Assert.Equal(state, scene.StatementOf(id).State);
        Assert.Equal(
            expected,
            command switch
            {
                "AttestStatement" => scene.Try(
                    Scene.Icrc,
                    scene.AttestRequest(id, AttesterRole.Observer, "i-3"),
                    Statements.AttestStatement
                ),
                "RevokeAttestation" => scene.Try(Scene.Icrc, scene.RevokeRequest(id), Statements.RevokeAttestation),
                _ => scene.Try(Scene.Icrc, scene.CorrectRequest(position, Scene.Icrc), Prisoners.CorrectRecord),
            }
        );
    }

    [Theory, MemberData(nameof(CaseCommands))]
    public void A_closed_case_takes_facts_duties_revocations_and_corrections_alone(string command)
    {
        var (scene, statement) = In(CustodyState.Released);
        Close(scene);
        var expected = command is "RecordStatus" or "NotifyBureau" or "RevokeAttestation" or "CorrectRecord"
            ? Reason.Unspecified
            : Reason.CaseClosed;
        Assert.Equal(expected, Run(scene, statement, command));
    }

    [Theory, MemberData(nameof(CaseCommands))]
    public void An_open_case_takes_every_command(string command)
    {
        var (scene, statement) = In(command == "CloseCase" ? CustodyState.Released : CustodyState.Interned);
        if (command == "CloseCase")
            Release(scene, Scene.Q);
        Assert.Equal(Reason.Unspecified, Run(scene, statement, command));
    }

    [Theory, MemberData(nameof(CommandPairs))]
    public void The_table_agrees_with_the_statuses_that_the_rules_declare(CustodyState state, string command)
    {
        var rule = (Rule)(typeof(Prisoners).GetField(command) ?? typeof(Statements).GetField(command))!.GetValue(null)!;
        // Those on statements are declared from states of statements.
        if (rule.States.All(s => s is CustodyState))
            Assert.Equal(Cell(Commands, state, command) == "+", rule.States.Count == 0 || rule.States.Contains(state));
    }

    private static (Scene Scene, string Statement) In(CustodyState state)
    {
        var scene = new Scene();
        scene.Register(
            Scene.P,
            state is CustodyState.Captured or CustodyState.Registered or CustodyState.Hospitalised ? state : CustodyState.Interned
        );
        scene.Register(Scene.Q);
        var statement = scene.Record(scene.StatementRequest(Scene.Icrc, "KR"));
        scene.Attest(statement, AttesterRole.Interviewer);
        if (state == CustodyState.InTransit)
            scene.Begin();
        if (state is CustodyState.Recaptured)
            scene.Status(CustodyState.Escaped);
        if (
            state
            is CustodyState.Escaped
                or CustodyState.Recaptured
                or CustodyState.Released
                or CustodyState.Repatriated
                or CustodyState.AccommodatedInNeutralCountry
                or CustodyState.Died
        )
            scene.Status(state, All);
        Assert.Equal(state, scene.Prisoner.State);
        return (scene, statement);
    }

    private static void Release(Scene scene, string reference)
    {
        var request = scene.StatusRequest(CustodyState.Released, Scene.Hq, All);
        (request.Prisoner, request.Etag) = (reference, scene.Etag(Scene.Hq, reference));
        scene.Do(Scene.Hq, request, Prisoners.RecordStatus);
    }

    private static void Close(Scene scene)
    {
        Release(scene, Scene.Q);
        scene.Do(Scene.Hq, CloseRequest(scene), CaseRules.CloseCase);
    }

    private static CloseCaseRequest CloseRequest(Scene scene) =>
        new()
        {
            Actor = Scene.Actor,
            Etag = scene.CaseEtag(Scene.Hq),
            Case = scene.Case,
        };

    private static Reason Run(Scene scene, string statement, string command) =>
        command switch
        {
            "AdmitParty" => scene.Try(Scene.Hq, scene.AdmitRequest(Scene.Ru, Part.RequestingState), CaseRules.AdmitParty),
            "RemoveParty" => scene.Try(
                Scene.Hq,
                new RemovePartyRequest
                {
                    Actor = Scene.Actor,
                    Etag = scene.CaseEtag(Scene.Hq),
                    Case = scene.Case,
                    Participant = Scene.Kr,
                },
                CaseRules.RemoveParty
            ),
            "CloseCase" => scene.Try(Scene.Hq, CloseRequest(scene), CaseRules.CloseCase),
            "RegisterPrisoner" => scene.Try(Scene.Hq, scene.RegisterRequest(), Prisoners.RegisterPrisoner),
            "RecordStatus" => scene.Try(Scene.Hq, scene.StatusRequest(CustodyState.Died), Prisoners.RecordStatus),
            "RecordProceedings" => scene.Try(Scene.Hq, scene.ProceedingsRequest(), Prisoners.RecordProceedings),
            "RecordClaim" => scene.Try(Scene.Kr, scene.ClaimRequest(Scene.Kr, "KR", "KR"), Prisoners.RecordClaim),
            "RecordStatement" => scene.Try(Scene.Icrc, scene.StatementRequest(Scene.Icrc, "KR"), Statements.RecordStatement),
            "AttestStatement" => scene.Try(
                Scene.Icrc,
                scene.AttestRequest(statement, AttesterRole.Observer, "i-3"),
                Statements.AttestStatement
            ),
            "RevokeAttestation" => scene.Try(Scene.Icrc, scene.RevokeRequest(statement), Statements.RevokeAttestation),
            "RecordRiskAssessment" => scene.Try(Scene.Hq, scene.RiskRequest(), Prisoners.RecordRiskAssessment),
            "RecordFitness" => scene.Try(Scene.Hq, scene.FitnessRequest(), Prisoners.RecordFitness),
            "NotifyBureau" => scene.Try(Scene.Hq, scene.NotifyRequest(1), Prisoners.NotifyBureau),
            "LinkDuplicate" => scene.Try(Scene.Hq, scene.LinkRequest(), Prisoners.LinkDuplicate),
            "CorrectRecord" => scene.Try(
                Scene.Icrc,
                scene.CorrectRequest(scene.StatementOf(statement).Position, Scene.Icrc),
                Prisoners.CorrectRecord
            ),
            _ => throw new ArgumentOutOfRangeException(nameof(command), command, "no such command"),
        };

    // The table's cell; a row or column that is missing fails.
    private static string Cell(string table, CustodyState row, string column)
    {
        var lines = table.Split('\n').Select(l => l.Split(' ', StringSplitOptions.RemoveEmptyEntries)).ToArray();
        return lines.Skip(1).Single(l => l[0] == row.ToString())[1 + Array.IndexOf(lines[0], column)];
    }
}
