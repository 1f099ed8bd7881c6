using Google.Protobuf.WellKnownTypes;
using Ministries.Consular.V1;
using Ministries.Custody.V1;
using Ministries.Errors.V1;
using Ministries.Fixtures;
using Ministries.Types.V1;
using State = Ministries.Consular.V1.AccessState;

namespace Ministries.Consular.Tests;

/// <summary>Access: every state × every command, D17, D18, and who sees what.</summary>
public sealed class AccessTests
{
    private readonly CaseFixture _fixture = new();

    private string Request(string participant = CaseFixture.Kr) =>
        (
            (RequestAccessResponse)
                _fixture.Do(
                    participant,
                    new RequestAccessRequest { Prisoner = CaseFixture.First, NoteVerbale = "NV-1" },
                    Accesses.RequestAccess
                )
        ).Access;

    private string Notify(string participant = CaseFixture.Icrc) =>
        (
            (NotifyVisitResponse)
                _fixture.Do(
                    participant,
                    new NotifyVisitRequest { Prisoner = CaseFixture.First, PlannedTime = _fixture.In(24) },
                    Accesses.NotifyVisit
                )
        ).Access;

    private DecideAccessRequest Grant(string access) =>
        new()
        {
            Access = access,
            Granted = true,
            SendingState = SendingStateDecision.DoesNotCount,
            RightsToldTime = _fixture.In(-1),
            PersonRequest = CaseFixture.Sealed(CaseFixture.Icrc),
            NoteVerbale = "NV-2",
        };

    private DecideAccessRequest Denial(string access) =>
        new()
        {
            Access = access,
            SendingState = SendingStateDecision.DoesNotCount,
            DenialGround = DenialGround.ImperativeMilitaryNecessity,
            DenialExpireTime = _fixture.In(48),
            NoteVerbale = "NV-2",
        };

    private RecordVisitRequest Visit(string access, params Invariant[] breaches) =>
        new()
        {
            Access = access,
            StartTime = _fixture.In(-2),
            DurationMinutes = 60,
            WithoutWitnesses = true,
            Language = "ko",
            Interpreter = "i-1",
            Report = CaseFixture.Sealed(),
            AcknowledgedBreaches = { breaches },
        };

    private string To(AccessKind kind, State state)
    {
        var consular = kind == AccessKind.Consular;
        var access = consular ? Request() : Notify();
        switch (state)
        {
            case State.Granted when consular:
                _fixture.Do(CaseFixture.Ua, Grant(access), Accesses.DecideAccess);
                break;
            case State.Denied:
                _fixture.Do(CaseFixture.Ua, Denial(access), Accesses.DecideAccess);
                break;
            case State.Closed:
                _fixture.Do(consular ? CaseFixture.Kr : CaseFixture.Icrc, new CloseAccessRequest { Access = access }, Accesses.CloseAccess);
                break;
        }
        Assert.Equal(state, _fixture.Access(access).State);
        return access;
    }

    // Requested, granted, denied, closed. "-": STATE_NOT_ALLOWED. An observer's visit is never merely requested.
    private const string Table = """
        Consular      | RE | GR | DE | CL
        grant         | GR | -  | GR | -
        deny          | DE | -  | DE | -
        visit         | -  | GR | -  | -
        visit, breach | RE | GR | DE | CL
        last visit    | -  | CL | -  | -
        close         | CL | CL | CL | -
        correct       | RE | GR | DE | CL
        ObserverVisit |    | GR | DE | CL
        grant         |    | -  | GR | -
        deny          |    | DE | DE | -
        visit         |    | GR | -  | -
        visit, breach |    | GR | DE | CL
        last visit    |    | CL | -  | -
        close         |    | CL | CL | -
        correct       |    | GR | DE | CL
        """;

    private static readonly Dictionary<string, State> States = new()
    {
        ["RE"] = State.Requested,
        ["GR"] = State.Granted,
        ["DE"] = State.Denied,
        ["CL"] = State.Closed,
    };

    private static readonly Dictionary<string, (string Method, Func<AccessTests, string, Reason> Try)> Commands = new()
    {
        ["grant"] = ("DecideAccess", (t, a) => t._fixture.Try(CaseFixture.Ua, t.Grant(a), Accesses.DecideAccess)),
        ["deny"] = ("DecideAccess", (t, a) => t._fixture.Try(CaseFixture.Ua, t.Denial(a), Accesses.DecideAccess)),
        ["visit"] = ("RecordVisit", (t, a) => t._fixture.Try(t._fixture.Access(a).Participant, t.Visit(a), Accesses.RecordVisit)),
        ["visit, breach"] = (
            "RecordVisit",
            (t, a) => t._fixture.Try(CaseFixture.Ua, t.Visit(a, Invariant.D17, Invariant.D18), Accesses.RecordVisit)
        ),
        ["last visit"] = (
            "RecordVisit",
            (t, a) =>
                t._fixture.Try(t._fixture.Access(a).Participant, new RecordVisitRequest(t.Visit(a)) { Last = true }, Accesses.RecordVisit)
        ),
        ["close"] = (
            "CloseAccess",
            (t, a) => t._fixture.Try(t._fixture.Access(a).Participant, new CloseAccessRequest { Access = a }, Accesses.CloseAccess)
        ),
        ["correct"] = (
            "CorrectRecord",
            (t, a) =>
                t._fixture.Try(
                    t._fixture.Access(a).Participant,
                    new V1.CorrectRecordRequest { Record = a, Position = t._fixture.Access(a).Acts[0].Position },
                    CaseFixture.Correct
                )
        ),
    };

    public static TheoryData<AccessKind, string, string, string> Rows()
    {
        var rows = new TheoryData<AccessKind, string, string, string>();
        var (kind, columns) = (AccessKind.Unspecified, Array.Empty<string>());
        foreach (var line in Table.Split('\n').Select(l => l.Split('|').Select(c => c.Trim()).ToArray()))
            if (System.Enum.TryParse(line[0], out AccessKind next))
                (kind, columns) = (next, line);
            else
                for (var i = 1; i < line.Length; i++)
                    if (columns[i].Length > 0)
                        rows.Add(kind, line[0], columns[i], line[i]);
        return rows;
    }

    [Theory]
    [MemberData(nameof(Rows))]
    public void A_command_leads_on_or_is_refused_by_name(AccessKind kind, string command, string state, string expected)
    {
        var access = To(kind, States[state]);
        var refused = Commands[command].Try(this, access);
        Assert.Equal(
            expected,
            refused switch
            {
                Reason.Unspecified => States.Single(s => s.Value == _fixture.Access(access).State).Key,
                Reason.StateNotAllowed => "-",
                _ => refused.ToString(),
            }
        );
    }

    [Fact]
    public void The_table_has_every_state_and_every_command_on_access()
    {
        Assert.Equal(System.Enum.GetValues<State>().Where(s => s != State.Unspecified).Order(), States.Values.Order());
        var writes = V1
            .ConsularService.Descriptor.Methods.Where(m => m.InputType.FindFieldByName("etag") is not null)
            .Where(m => m.InputType.FindFieldByName("access") is not null || m.InputType.FindFieldByName("record") is not null)
            .Select(m => m.Name);
        Assert.Equal(writes.Order(), Commands.Values.Select(c => c.Method).Distinct().Order());
        Assert.Equal(Commands.Count * (4 + 3), Rows().Count);
    }

    // -------------------- D18: consular access

    [Fact]
    public void Whether_the_requester_counts_as_the_sending_state_is_decided_and_recorded()
    {
        var access = Request();
        foreach (var decide in (DecideAccessRequest[])[Grant(access), Denial(access)])
        {
            decide.SendingState = SendingStateDecision.Unspecified;
            Assert.Equal(Reason.SendingStateNotDecided, _fixture.Try(CaseFixture.Ua, decide, Accesses.DecideAccess));
        }
        _fixture.Do(CaseFixture.Ua, Grant(access), Accesses.DecideAccess);
        Assert.Equal(SendingStateDecision.DoesNotCount, _fixture.SeenAccess(CaseFixture.Kr, access)!.Decision.SendingState);
    }

    [Fact]
    public void Access_is_granted_where_the_person_was_told_of_his_rights_and_asked_himself()
    {
        var access = Request();
        foreach (
            var change in (Action<DecideAccessRequest>[])
                [r => r.RightsToldTime = null, r => r.PersonRequest = null, r => r.RightsToldTime = _fixture.In(1)]
        )
        {
            var grant = Grant(access);
            change(grant);
            Assert.Equal(Reason.RightsNotRecorded, _fixture.Try(CaseFixture.Ua, grant, Accesses.DecideAccess));
        }
        _fixture.Do(CaseFixture.Ua, Grant(access), Accesses.DecideAccess);
    }

    [Fact]
    public void What_the_person_asked_for_is_its_recipients_to_know()
    {
        var access = To(AccessKind.Consular, State.Granted);
        Assert.NotNull(_fixture.SeenAccess(CaseFixture.Ua, access)!.Decision.PersonRequest);
        Assert.NotNull(_fixture.SeenAccess(CaseFixture.Icrc, access)!.Decision.PersonRequest);
        Assert.Null(_fixture.SeenAccess(CaseFixture.Kr, access)!.Decision.PersonRequest);
        Assert.Null(_fixture.SeenAccess(CaseFixture.Kr, access)!.Decision.RightsToldTime);
    }

    [Fact]
    public void Visits_end_and_nobody_is_told_who_wished_it()
    {
        var seen = new HashSet<Access>();
        foreach (
            var end in (Action<AccessTests, string>[])
                [
                    (t, a) => t._fixture.Do(CaseFixture.Ua, new CloseAccessRequest { Access = a }, Accesses.CloseAccess),
                    (t, a) => t._fixture.Do(CaseFixture.UaMfa, new CloseAccessRequest { Access = a }, Accesses.CloseAccess),
                ]
        )
        {
            var test = new AccessTests();
            var access = test.To(AccessKind.Consular, State.Granted);
            end(test, access);
            seen.Add(test._fixture.SeenAccess(CaseFixture.Kr, access)!);
        }
        Assert.Equal(State.Closed, Assert.Single(seen).State);
    }

    // -------------------- D17: observers' visits

    [Fact]
    public void An_observers_visit_is_notified_and_not_petitioned()
    {
        Assert.Equal(State.Granted, _fixture.Access(Notify()).State);
        Assert.Equal(State.Granted, _fixture.Access(Notify(CaseFixture.Swiss)).State);
        Assert.Equal(
            Reason.NotGranted,
            _fixture.Try(CaseFixture.Icrc, new RequestAccessRequest { Prisoner = CaseFixture.First }, Accesses.RequestAccess)
        );
        Assert.Equal(
            Reason.NotGranted,
            _fixture.Try(CaseFixture.Kr, new NotifyVisitRequest { Prisoner = CaseFixture.First }, Accesses.NotifyVisit)
        );
    }

    [Fact]
    public void An_observers_visit_is_denied_for_imperative_military_necessity_and_for_a_time_only()
    {
        var access = Notify();
        foreach (
            var (change, expected) in (ReadOnlySpan<(Action<DecideAccessRequest>, Reason)>)
                [
                    (r => r.DenialGround = DenialGround.Unspecified, Reason.DenialWithoutGround),
                    (r => r.DenialGround = DenialGround.ConditionsNotMet, Reason.DenialWithoutNecessity),
                    (r => r.DenialExpireTime = null, Reason.DenialWithoutExpiry),
                    (r => r.DenialExpireTime = _fixture.In(-1), Reason.TimeOutOfRange),
                    (r => r.DenialExpireTime = _fixture.In(24 * 91), Reason.TimeOutOfRange),
                ]
        )
        {
            var denial = Denial(access);
            change(denial);
            Assert.Equal(expected, _fixture.Try(CaseFixture.Ua, denial, Accesses.DecideAccess));
        }
        // To close it would deny it for ever.
        Assert.Equal(
            Reason.DenialWithoutNecessity,
            _fixture.Try(CaseFixture.Ua, new CloseAccessRequest { Access = access }, Accesses.CloseAccess)
        );
        _fixture.Do(CaseFixture.Ua, Denial(access), Accesses.DecideAccess);
        Assert.Equal(_fixture.Now.AddHours(48), Accesses.Kind.DueOf(_fixture.Access(access)));
        _fixture.RuleRunner.Now += TimeSpan.FromHours(48);
        Assert.IsType<AccessReopened>(Assert.Single(_fixture.AccessFallsDue(access).Changes).Event);
        Assert.Equal(State.Granted, _fixture.Access(access).State);
        Assert.Empty(_fixture.AccessFallsDue(access).Changes);
    }

    [Fact]
    public void A_denial_of_consular_access_ends_and_the_decision_is_owed_again()
    {
        var access = To(AccessKind.Consular, State.Denied);
        Assert.Equal(
            Reason.AccessAlreadyOpen,
            _fixture.Try(CaseFixture.Kr, new RequestAccessRequest { Prisoner = CaseFixture.First }, Accesses.RequestAccess)
        );
        _fixture.RuleRunner.Now += TimeSpan.FromHours(48);
        _fixture.AccessFallsDue(access);
        Assert.Equal(State.Requested, _fixture.Access(access).State);
        Assert.Equal(_fixture.Now.AddDays(14), Accesses.Kind.DueOf(_fixture.Access(access)));
    }

    [Fact]
    public void A_decision_falls_due_once()
    {
        var access = Request();
        _fixture.RuleRunner.Now += TimeSpan.FromDays(14);
        Assert.Equal(Duties.DecisionDue, Assert.IsType<V1.DutyFellDue>(Assert.Single(_fixture.AccessFallsDue(access).Changes).Event).Duty);
        Assert.True(_fixture.SeenAccess(CaseFixture.Kr, access)!.DecisionOverdue);
        Assert.Null(Accesses.Kind.DueOf(_fixture.Access(access)));
        _fixture.Do(CaseFixture.Ua, Grant(access), Accesses.DecideAccess);
        Assert.False(_fixture.Access(access).DecisionOverdue);
    }

    [Fact]
    public void A_corrected_decision_is_owed_again()
    {
        var access = To(AccessKind.Consular, State.Granted);
        _fixture.Do(
            CaseFixture.Ua,
            new V1.CorrectRecordRequest { Record = access, Position = _fixture.Access(access).Decision.Position },
            CaseFixture.Correct
        );
        Assert.Equal(State.Requested, _fixture.Access(access).State);
        Assert.Equal(_fixture.Now.AddDays(14), Accesses.Kind.DueOf(_fixture.Access(access)));
    }

    [Fact]
    public void Who_asks_has_one_access_to_a_prisoner_at_a_time()
    {
        var access = Request();
        Assert.Equal(
            Reason.AccessAlreadyOpen,
            _fixture.Try(CaseFixture.Kr, new RequestAccessRequest { Prisoner = CaseFixture.First }, Accesses.RequestAccess)
        );
        Request(CaseFixture.Ru);
        _fixture.Do(CaseFixture.Kr, new CloseAccessRequest { Access = access }, Accesses.CloseAccess);
        Request();
    }

    [Fact]
    public void A_visit_that_has_not_been_yet_is_not_recorded()
    {
        var access = Notify();
        Assert.Equal(
            Reason.TimeOutOfRange,
            _fixture.Try(CaseFixture.Icrc, new RecordVisitRequest(Visit(access)) { StartTime = _fixture.In(1) }, Accesses.RecordVisit)
        );
        _fixture.Happen(new CaseClosed { Case = _fixture.Case });
        Assert.Equal(Reason.Unspecified, _fixture.Try(CaseFixture.Icrc, Visit(access), Accesses.RecordVisit));
    }

    [Fact]
    public void Access_is_seen_by_who_asked_the_detaining_power_and_the_neutral()
    {
        string[] everybody =
        [
            CaseFixture.Ua,
            CaseFixture.UaMfa,
            CaseFixture.Kr,
            CaseFixture.Ru,
            CaseFixture.Icrc,
            CaseFixture.Swiss,
            CaseFixture.Stranger,
        ];
        var (consular, visit) = (Request(), Notify());
        Assert.Equal(
            [CaseFixture.Ua, CaseFixture.UaMfa, CaseFixture.Kr, CaseFixture.Icrc, CaseFixture.Swiss],
            everybody.Where(p => _fixture.SeenAccess(p, consular) is not null)
        );
        Assert.Equal(
            [CaseFixture.Ua, CaseFixture.UaMfa, CaseFixture.Icrc, CaseFixture.Swiss],
            everybody.Where(p => _fixture.SeenAccess(p, visit) is not null)
        );
        Assert.Equal(Reason.NotFound, _fixture.Try(CaseFixture.Ru, new CloseAccessRequest { Access = consular }, Accesses.CloseAccess));
        Assert.Equal(Reason.NotGranted, _fixture.Try(CaseFixture.Swiss, new CloseAccessRequest { Access = visit }, Accesses.CloseAccess));
    }
}
