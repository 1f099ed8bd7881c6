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
    private int _reasons;

    private string Request(string participant = CaseFixture.Kr, string prisoner = CaseFixture.First) =>
        (
            (RequestAccessResponse)
                _fixture.Do(participant, new RequestAccessRequest { Prisoner = prisoner, NoteVerbale = "NV-1" }, Accesses.RequestAccess)
        ).Access;

    private string Notify(string participant = CaseFixture.Icrc, string prisoner = CaseFixture.First) =>
        (
            (NotifyVisitResponse)
                _fixture.Do(
                    participant,
                    new NotifyVisitRequest { Prisoner = prisoner, PlannedTime = _fixture.In(24) },
                    Accesses.NotifyVisit
                )
        ).Access;

    private DecideAccessRequest Grant(string access) =>
        new()
        {
            Access = access,
            Granted = true,
            SendingState = SendingStateDecision.Counts,
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
            DenialReason = $"necessity/{_reasons++}",
            NoteVerbale = "NV-2",
        };

    private DecideAccessRequest Denial(string access, double days) => new(Denial(access)) { DenialExpireTime = _fixture.In(24 * days) };

    private void Deny(string access, double days) => _fixture.Do(CaseFixture.Ua, Denial(access, days), Accesses.DecideAccess);

    private Reason TryToDeny(string access, double days, string by = CaseFixture.Ua) =>
        _fixture.Try(by, Denial(access, days), Accesses.DecideAccess);

    private void Close(string access) =>
        _fixture.Do(_fixture.Access(access).Participant, new CloseAccessRequest { Access = access }, Accesses.CloseAccess);

    // The denial runs out.
    private void Elapse(string access, double days)
    {
        _fixture.RuleRunner.Now += TimeSpan.FromDays(days);
        _fixture.AccessFallsDue(access);
    }

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
        // A visit is judged by what was decided before it.
        _fixture.RuleRunner.Now += TimeSpan.FromHours(3);
        return access;
    }

    /// <summary>What happened, each a day after the one before and the visit in its place, and whether the visit was against access.
    /// </summary>
    [Theory]
    [InlineData(AccessKind.ObserverVisit, "visit, deny", false)]
    [InlineData(AccessKind.ObserverVisit, "deny, visit", true)]
    [InlineData(AccessKind.ObserverVisit, "deny, visit, reopen", true)]
    [InlineData(AccessKind.ObserverVisit, "deny, reopen, visit, deny", false)]
    [InlineData(AccessKind.ObserverVisit, "deny, correct, visit", false)]
    [InlineData(AccessKind.ObserverVisit, "deny, visit, correct", false)]
    [InlineData(AccessKind.ObserverVisit, "visit, close", false)]
    [InlineData(AccessKind.ObserverVisit, "close, visit", true)]
    [InlineData(AccessKind.ObserverVisit, "visit, last", false)]
    [InlineData(AccessKind.ObserverVisit, "deny, expire, visit, deny", false)]
    [InlineData(AccessKind.ObserverVisit, "visit, deny, close", false)]
    [InlineData(AccessKind.Consular, "visit, reopen", true)]
    [InlineData(AccessKind.Consular, "reopen, visit, deny", false)]
    [InlineData(AccessKind.Consular, "reopen, visit, close", false)]
    [InlineData(AccessKind.Consular, "reopen, visit, correct", true)]
    [InlineData(AccessKind.Consular, "deny, visit, reopen", true)]
    public void A_visit_is_judged_by_what_was_decided_when_it_took_place(AccessKind kind, string happened, bool breached)
    {
        var visitor = kind == AccessKind.Consular ? CaseFixture.Kr : CaseFixture.Icrc;
        var access = kind == AccessKind.Consular ? Request() : Notify();
        var visited = _fixture.Now;
        foreach (var one in happened.Split(", "))
        {
            _fixture.RuleRunner.Now += TimeSpan.FromDays(1);
            switch (one)
            {
                case "visit":
                    visited = _fixture.Now;
                    break;
                case "deny":
                    Deny(access, 2);
                    break;
                case "reopen":
                    _fixture.Do(CaseFixture.Ua, Grant(access), Accesses.DecideAccess);
                    break;
                case "expire":
                    _fixture.RuleRunner.Now += TimeSpan.FromDays(2);
                    break;
                case "correct":
                    var position = _fixture.Access(access).Acts.Last(a => a.Method == "DecideAccess").Position;
                    _fixture.Do(CaseFixture.Ua, new V1.CorrectRecordRequest { Record = access, Position = position }, CaseFixture.Correct);
                    break;
                case "close":
                    Close(access);
                    break;
                case "last":
                    _fixture.Do(visitor, new RecordVisitRequest(Visit(access)) { Last = true }, Accesses.RecordVisit);
                    break;
            }
        }
        _fixture.RuleRunner.Now += TimeSpan.FromDays(1);
        var visit = new RecordVisitRequest(Visit(access)) { StartTime = visited.ToTimestamp() };
        Assert.Equal(
            breached ? Reason.StateNotAllowed : Reason.Unspecified,
            _fixture.Try(visitor, new RecordVisitRequest(visit), Accesses.RecordVisit)
        );
        // What was lawful is not marked though its recorder feared that it was not.
        var breach = kind == AccessKind.Consular ? Invariant.D18 : Invariant.D17;
        _fixture.Do(visitor, new RecordVisitRequest(visit) { AcknowledgedBreaches = { breach } }, Accesses.RecordVisit);
        Assert.Equal(breached ? [breach] : (Invariant[])[], _fixture.Access(access).Visits[^1].Breaches);
    }

    /// <summary>A denial is the power's to take back. To notify visits anew ends none, and neither does to correct that notice.</summary>
    [Fact]
    public void Who_corrects_its_notice_ends_no_denial_with_which_that_began()
    {
        var first = Notify();
        Deny(first, 20);
        Close(first);
        var access = Notify();
        var notice = _fixture.Access(access).Acts[0].Position;
        _fixture.Do(CaseFixture.Icrc, new V1.CorrectRecordRequest { Record = access, Position = notice }, CaseFixture.Correct);
        _fixture.RuleRunner.Now += TimeSpan.FromHours(3);
        Assert.Equal(State.Denied, _fixture.Access(access).State);
        Assert.Equal(Reason.StateNotAllowed, _fixture.Try(CaseFixture.Icrc, Visit(access), Accesses.RecordVisit));
        _fixture.Do(CaseFixture.Icrc, Visit(access, Invariant.D17), Accesses.RecordVisit);
        Assert.Equal([Invariant.D17], _fixture.Access(access).Visits.Single().Breaches);
    }

    /// <summary>A visit is a fact, though it was not notified before custody ended.</summary>
    [Fact]
    public void A_visit_that_was_never_notified_is_recorded_after_the_end_of_custody()
    {
        var visited = _fixture.Now;
        _fixture.RuleRunner.Now += TimeSpan.FromDays(1);
        foreach (var prisoner in (string[])[CaseFixture.First, CaseFixture.Second])
            _fixture.Change(ended: true, prisoner);
        _fixture.Happen(new CaseClosed { Case = _fixture.Case });
        var access = Notify();
        Assert.Equal("UA", _fixture.Access(access).DetainingPower);
        _fixture.Do(CaseFixture.Icrc, new RecordVisitRequest(Visit(access)) { StartTime = visited.ToTimestamp() }, Accesses.RecordVisit);
        Assert.Empty(_fixture.Access(access).Visits.Single().Breaches);
        Assert.Equal(
            Reason.CaseClosed,
            _fixture.Try(CaseFixture.Kr, new RequestAccessRequest { Prisoner = CaseFixture.First }, Accesses.RequestAccess)
        );
    }

    /// <summary>Two references of one person give his power no second time to deny visits to him.</summary>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Denials_under_linked_references_are_counted_together(bool underTheKept)
    {
        var access = Notify();
        Deny(access, 90);
        Elapse(access, 90);
        Deny(access, 80);
        Elapse(access, 80);
        var (gone, kept) = underTheKept ? (CaseFixture.Second, CaseFixture.First) : (CaseFixture.First, CaseFixture.Second);
        _fixture.Happen(
            new DuplicateLinked
            {
                Case = _fixture.Case,
                Prisoner = gone,
                SameAsPrisoner = kept,
            },
            "custody/900/0"
        );
        var other = Notify(prisoner: CaseFixture.Second);
        Assert.Equal(Reason.DenialLimitReached, TryToDeny(other, 11));
        Assert.Equal(Reason.Unspecified, TryToDeny(other, 9));
        _fixture.Happen(
            new Custody.V1.RecordCorrected
            {
                Case = _fixture.Case,
                Prisoner = gone,
                Position = 900,
            }
        );
        Elapse(other, 9);
        Assert.Equal(Reason.Unspecified, TryToDeny(other, 60));
    }

    /// <summary>Whoever takes him decides on access to him from then on, under whichever reference it was asked for.</summary>
    [Theory]
    [InlineData("UA", "KR", CaseFixture.Kr)]
    [InlineData("KR", "UA", CaseFixture.Ua)]
    public void Access_under_a_linked_reference_passes_with_custody(string from, string to, string taker)
    {
        // The power that takes him transferred him before under that reference, or never held him under it.
        if (from == "KR")
            foreach (var reference in (string[])[CaseFixture.First, CaseFixture.Second])
                _fixture.Pass("UA", "KR", prisoner: reference);
        var visits = Notify();
        var asked = (
            (RequestAccessResponse)
                _fixture.Do(CaseFixture.Ru, new RequestAccessRequest { Prisoner = CaseFixture.First }, Accesses.RequestAccess)
        ).Access;
        // A power that transferred him asks for no access of its own.
        var own = from == "UA" ? Request() : null;
        _fixture.Link();
        _fixture.Pass(from, to, prisoner: CaseFixture.Second);
        Assert.All((string[])[visits, asked], a => Assert.Equal(to, _fixture.Access(a).DetainingPower));
        if (own is not null)
            Assert.Equal(State.Closed, _fixture.Access(own).State);
        // Neither who asks nor who held him before decides.
        foreach (var other in (string[])[CaseFixture.Ru, taker == CaseFixture.Ua ? CaseFixture.Kr : CaseFixture.Ua])
            Assert.Equal(Reason.NotGranted, _fixture.Try(other, Grant(asked), Accesses.DecideAccess));
        Assert.Equal(Reason.Unspecified, _fixture.Try(taker, Grant(asked), Accesses.DecideAccess));
        Assert.Equal(Reason.Unspecified, TryToDeny(visits, 10, taker));
    }

    // Requested, granted, denied, closed. "-": STATE_NOT_ALLOWED. An observer's visit is never merely requested. "Its": the
    // detaining power's.
    private const string Table = """
        Consular      | RE | GR | DE | CL
        grant         | GR | -  | GR | -
        deny          | DE | DE | DE | -
        visit         | -  | GR | -  | -
        visit, breach | RE | GR | DE | CL
        last visit    | -  | CL | -  | -
        its last      | -  | VisitsNotOwn | - | -
        close         | CL | CL | CL | -
        its close     | NotGranted | NotGranted | NotGranted | NotGranted
        correct       | RE | GR | DE | CL
        ObserverVisit |    | GR | DE | CL
        grant         |    | -  | GR | -
        deny          |    | DE | DE | -
        visit         |    | GR | -  | -
        visit, breach |    | GR | DE | CL
        last visit    |    | CL | -  | -
        its last      |    | VisitsNotOwn | - | -
        close         |    | CL | CL | -
        its close     |    | NotGranted | NotGranted | NotGranted
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
        ["its last"] = (
            "RecordVisit",
            (t, a) => t._fixture.Try(CaseFixture.Ua, new RecordVisitRequest(t.Visit(a)) { Last = true }, Accesses.RecordVisit)
        ),
        ["close"] = (
            "CloseAccess",
            (t, a) => t._fixture.Try(t._fixture.Access(a).Participant, new CloseAccessRequest { Access = a }, Accesses.CloseAccess)
        ),
        ["its close"] = (
            "CloseAccess",
            (t, a) => t._fixture.Try(CaseFixture.Ua, new CloseAccessRequest { Access = a }, Accesses.CloseAccess)
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
        Assert.Equal(SendingStateDecision.Counts, _fixture.SeenAccess(CaseFixture.Kr, access)!.Decision.SendingState);
    }

    [Fact]
    public void Access_is_not_granted_to_a_state_that_does_not_count_as_the_sending_state()
    {
        var access = Request();
        var grant = new DecideAccessRequest(Grant(access)) { SendingState = SendingStateDecision.DoesNotCount };
        Assert.Equal(Reason.SendingStateDoesNotCount, _fixture.Try(CaseFixture.Ua, grant, Accesses.DecideAccess));
        // The advice: to decide otherwise, or to deny.
        _fixture.Do(CaseFixture.Ua, Denial(access), Accesses.DecideAccess);
        _fixture.Do(CaseFixture.Ua, Grant(access), Accesses.DecideAccess);
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

    /// <summary>Visits end because he opposes them, or because the requester is held not to be the sending State after all.</summary>
    [Fact]
    public void Consular_visits_end_and_nobody_is_told_why()
    {
        var seen = new HashSet<Access>();
        foreach (var decision in (SendingStateDecision[])[SendingStateDecision.Counts, SendingStateDecision.DoesNotCount])
        {
            var test = new AccessTests();
            var access = test.To(AccessKind.Consular, State.Granted);
            var denial = test.Denial(access);
            denial.SendingState = decision;
            test._fixture.Do(CaseFixture.Ua, denial, Accesses.DecideAccess);
            seen.Add(test._fixture.SeenAccess(CaseFixture.Kr, access)!);
        }
        Assert.Equal(State.Denied, Assert.Single(seen).State);
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
                    (r => r.DenialReason = "", Reason.DenialWithoutReason),
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
        _fixture.Do(CaseFixture.Ua, Denial(access), Accesses.DecideAccess);
        Assert.Equal(_fixture.Now.AddHours(48), Accesses.Kind.DueOf(_fixture.Access(access)));
        _fixture.RuleRunner.Now += TimeSpan.FromHours(48);
        Assert.IsType<AccessReopened>(Assert.Single(_fixture.AccessFallsDue(access).Changes).Event);
        Assert.Equal(State.Granted, _fixture.Access(access).State);
        Assert.Empty(_fixture.AccessFallsDue(access).Changes);
    }

    [Theory]
    [InlineData(CaseFixture.Ua), InlineData(CaseFixture.UaMfa), InlineData(CaseFixture.Swiss)]
    public void Nobody_but_the_observer_that_notified_them_ends_its_visits(string other)
    {
        // To end them would be to deny them for ever.
        var access = Notify();
        var last = new RecordVisitRequest(Visit(access, Invariant.D17)) { Last = true };
        var expected = other == CaseFixture.Swiss ? Reason.NotGranted : Reason.VisitsNotOwn;
        Assert.Equal(expected, _fixture.Try(other, last, Accesses.RecordVisit));
        Assert.Equal(Reason.NotGranted, _fixture.Try(other, new CloseAccessRequest { Access = access }, Accesses.CloseAccess));
        Assert.Equal((State.Granted, 0), (_fixture.Access(access).State, _fixture.Access(access).Visits.Count));
        // The advice: the visit is a fact, and the observer ends its visits.
        if (other != CaseFixture.Swiss)
            _fixture.Do(other, Visit(access), Accesses.RecordVisit);
        _fixture.Do(CaseFixture.Icrc, new RecordVisitRequest(Visit(access)) { Last = true }, Accesses.RecordVisit);
        Assert.Equal(State.Closed, _fixture.Access(access).State);
    }

    [Theory]
    [
        InlineData("in force"),
        InlineData("over"),
        InlineData("ended early"),
        InlineData("corrected"),
        InlineData("of an access closed since")
    ]
    public void A_denial_after_another_needs_a_second_official_and_a_new_reason(string earlier)
    {
        var access = Notify();
        // The first needs neither.
        _fixture.RuleRunner.Approved = new HashSet<string>();
        var first = Denial(access, days: 2);
        _fixture.Do(CaseFixture.Ua, first.Clone(), Accesses.DecideAccess);
        switch (earlier)
        {
            case "over":
                Elapse(access, days: 2);
                break;
            case "ended early":
                _fixture.Do(CaseFixture.Ua, Grant(access), Accesses.DecideAccess);
                break;
            case "corrected":
                _fixture.Do(
                    CaseFixture.Ua,
                    new V1.CorrectRecordRequest { Record = access, Position = _fixture.Access(access).Decision.Position },
                    CaseFixture.Correct
                );
                break;
            case "of an access closed since":
                Close(access);
                access = Notify();
                break;
        }
        Assert.Equal(Reason.ApprovalsMissing, TryToDeny(access, days: 1));
        // Who acts is no second official.
        _fixture.RuleRunner.Approved = new HashSet<string> { "official-1" };
        Assert.Equal(Reason.ApprovalsMissing, TryToDeny(access, days: 1));
        _fixture.RuleRunner.Approved = new HashSet<string> { "official-1", "approver-1" };
        foreach (var reason in (string[])[first.DenialReason, first.DenialReason.ToUpperInvariant()])
            Assert.Equal(
                Reason.DenialReasonUsed,
                _fixture.Try(
                    CaseFixture.Ua,
                    new DecideAccessRequest(Denial(access, days: 1)) { DenialReason = reason },
                    Accesses.DecideAccess
                )
            );
        Assert.Equal(Reason.Unspecified, TryToDeny(access, days: 1));
        Assert.Equal(State.Denied, _fixture.Access(access).State);
        // Another observer's visits were not denied before.
        _fixture.RuleRunner.Approved = new HashSet<string>();
        Assert.Equal(Reason.Unspecified, TryToDeny(Notify(CaseFixture.Swiss), days: 1));
    }

    [Fact]
    public void All_denials_of_an_observers_visits_together_have_a_limit()
    {
        Assert.Equal(2 * Accesses.LongestDenial, Accesses.LongestDenials);
        var access = Notify();
        Deny(access, days: 90);
        Elapse(access, days: 90);
        // A year later it counts still, and whatever access it was of.
        _fixture.RuleRunner.Now += TimeSpan.FromDays(365);
        Close(access);
        access = Notify();
        Deny(access, days: 80);
        Elapse(access, days: 80);
        var (decision, _) = _fixture.Play(CaseFixture.Ua, Denial(access, days: 10.1), Accesses.DecideAccess);
        Assert.Equal(Reason.DenialLimitReached, decision.Refusal!.Reason);
        Assert.Equal(_fixture.In(24 * 10), Timestamp.Parser.ParseJson($"\"{decision.Refusal.Metadata!["latest_expire_time"]}\""));
        // The advice.
        Deny(access, days: 10);
        Elapse(access, days: 10);
        (decision, _) = _fixture.Play(CaseFixture.Ua, Denial(access, days: 0.01), Accesses.DecideAccess);
        Assert.Equal(Reason.DenialLimitReached, decision.Refusal!.Reason);
        Assert.Equal(_fixture.In(0), Timestamp.Parser.ParseJson($"\"{decision.Refusal.Metadata!["latest_expire_time"]}\""));
        Assert.Equal(State.Granted, _fixture.Access(access).State);
        Assert.Equal(Reason.Unspecified, TryToDeny(Notify(CaseFixture.Swiss), days: 90));
    }

    [Theory]
    [InlineData("granted"), InlineData("denied anew"), InlineData("corrected")]
    public void A_denial_that_ends_early_counts_only_until_then(string how)
    {
        var access = Notify();
        Deny(access, days: 90);
        Elapse(access, days: 30);
        switch (how)
        {
            case "granted":
                _fixture.Do(CaseFixture.Ua, Grant(access), Accesses.DecideAccess);
                break;
            case "denied anew":
                Deny(access, days: 0.001);
                _fixture.RuleRunner.Now += TimeSpan.FromDays(0.001);
                break;
            case "corrected":
                _fixture.Do(
                    CaseFixture.Ua,
                    new V1.CorrectRecordRequest { Record = access, Position = _fixture.Access(access).Decision.Position },
                    CaseFixture.Correct
                );
                break;
        }
        Deny(access, days: 89);
        Elapse(access, days: 89);
        Assert.Equal(Reason.DenialLimitReached, TryToDeny(access, days: 62));
        Assert.Equal(Reason.Unspecified, TryToDeny(access, days: 60.99));
    }

    [Fact]
    public void To_close_visits_and_notify_them_anew_ends_no_denial_and_begins_none()
    {
        var access = Notify();
        Deny(access, days: 20);
        var end = _fixture.In(24 * 20);
        _fixture.RuleRunner.Now += TimeSpan.FromDays(5);
        Close(access);
        // Another observer's are not denied by that.
        Assert.Equal(State.Granted, _fixture.Access(Notify(CaseFixture.Swiss)).State);
        var (decision, answer) = _fixture.Play(
            CaseFixture.Icrc,
            new NotifyVisitRequest { Prisoner = CaseFixture.First },
            Accesses.NotifyVisit
        );
        Assert.Equal(end, Assert.IsType<VisitNotified>(Assert.Single(decision.Changes).Event).DenialExpireTime);
        var again = (NotifyVisitResponse)answer!;
        Assert.Equal(State.Denied, again.State);
        foreach (var reader in (string[])[CaseFixture.Icrc, CaseFixture.Ua])
        {
            var shown = _fixture.SeenAccess(reader, again.Access)!.Decision;
            Assert.Equal((end, DenialGround.ImperativeMilitaryNecessity), (shown.DenialExpireTime, shown.DenialGround));
        }
        // What corrects the decision of before is of an access that is closed.
        _fixture.Do(
            CaseFixture.Ua,
            new V1.CorrectRecordRequest { Record = access, Position = _fixture.Access(access).Decision.Position },
            CaseFixture.Correct
        );
        Assert.Equal(State.Denied, _fixture.Access(again.Access).State);
        Elapse(again.Access, days: 15);
        Assert.Equal(State.Granted, _fixture.Access(again.Access).State);
        Deny(again.Access, days: 90);
        Elapse(again.Access, days: 90);
        Assert.Equal(Reason.DenialLimitReached, TryToDeny(again.Access, days: 71));
        // Now none is in force.
        Close(again.Access);
        Assert.Equal(State.Granted, _fixture.Access(Notify()).State);
    }

    [Fact]
    public void A_denial_of_visits_notified_anew_is_ended_early_too()
    {
        var access = Notify();
        Deny(access, days: 20);
        Close(access);
        access = Notify();
        _fixture.Do(CaseFixture.Ua, Grant(access), Accesses.DecideAccess);
        Assert.Equal(State.Granted, _fixture.Access(access).State);
        Close(access);
        Assert.Equal(State.Granted, _fixture.Access(Notify()).State);
    }

    // -------------------- custody passes, and access with it

    [Fact]
    public void Access_passes_with_custody_and_what_was_decided_ends_with_it()
    {
        var (visits, denied, granted, asked) = (Notify(), Notify(CaseFixture.Swiss), Request(CaseFixture.Ru), Request(CaseFixture.Xx));
        Deny(denied, days: 20);
        _fixture.Do(CaseFixture.Ua, Grant(granted), Accesses.DecideAccess);
        var own = Request();
        _fixture.To(TransferState.Monitored);
        foreach (var access in (string[])[visits, denied])
            Assert.Equal((State.Granted, "KR"), (_fixture.Access(access).State, _fixture.Access(access).DetainingPower));
        // Whether its requester counts as the sending State is the new power's to decide.
        foreach (var access in (string[])[granted, asked])
        {
            Assert.Equal((State.Requested, "KR"), (_fixture.Access(access).State, _fixture.Access(access).DetainingPower));
            Assert.Equal(_fixture.Now.AddDays(14), Accesses.Kind.DueOf(_fixture.Access(access)));
        }
        // A state that holds him itself has no consular post to send to him.
        Assert.Equal(State.Closed, _fixture.Access(own).State);
        Assert.Equal(Reason.NotGranted, TryToDeny(visits, days: 1));
        Assert.Equal(Reason.NotGranted, _fixture.Try(CaseFixture.Ua, new CloseAccessRequest { Access = granted }, Accesses.CloseAccess));
        _fixture.Do(CaseFixture.Kr, Grant(granted), Accesses.DecideAccess);
        _fixture.RuleRunner.Approved = new HashSet<string>();
        Assert.Equal(Reason.Unspecified, TryToDeny(visits, days: 1, CaseFixture.Kr));
        // Those of before count whoever held him.
        Assert.Equal(Reason.ApprovalsMissing, TryToDeny(denied, days: 1, CaseFixture.Kr));
    }

    [Fact]
    public void A_denial_ends_with_custody_though_the_visits_were_closed_meanwhile()
    {
        var access = Notify();
        Deny(access, days: 20);
        Close(access);
        _fixture.To(TransferState.Monitored);
        Assert.Equal((State.Closed, "UA"), (_fixture.Access(access).State, _fixture.Access(access).DetainingPower));
        Assert.Equal(State.Granted, _fixture.Access(Notify()).State);
    }

    [Fact]
    public void Access_comes_back_with_a_return()
    {
        var access = Notify();
        _fixture.To(TransferState.Returned);
        Assert.Equal("UA", _fixture.Access(access).DetainingPower);
        Assert.Equal(["UA", "KR"], _fixture.Access(access).FormerCustodies.Select(c => c.DetainingPower));
        Assert.Equal(Reason.Unspecified, TryToDeny(access, days: 1));
    }

    [Fact]
    public void The_end_of_custody_changes_nothing_of_access_but_that_no_decision_falls_due()
    {
        var (visits, denied, asked) = (Notify(), Notify(CaseFixture.Swiss), Request());
        Deny(denied, days: 20);
        var before = new[] { visits, denied, asked }.Select(a => _fixture.Access(a).Clone()).ToArray();
        _fixture.Happen(new DepartureRecorded { Case = _fixture.Case, Prisoner = CaseFixture.First });
        (before[2].StoppedDecisionDueTime, before[2].DecisionDueTime) = (before[2].DecisionDueTime, null);
        Assert.Equal(before, new[] { visits, denied, asked }.Select(_fixture.Access));
    }

    public static TheoryData<string> Ends => ["a release", "a departure", "a death on the way to another power"];

    /// <summary>No power is left to decide, so no decision is marked (D18).</summary>
    [Theory]
    [MemberData(nameof(Ends))]
    public void No_decision_on_consular_access_falls_due_after_custody_has_ended(string end)
    {
        var (asked, denied, decided) = (Request(), Request(CaseFixture.Ru), Request(CaseFixture.Xx));
        var due = Accesses.Kind.DueOf(_fixture.Access(asked));
        Deny(denied, days: 20);
        Deny(decided, days: 20);
        End(end);
        Assert.Null(Accesses.Kind.DueOf(_fixture.Access(asked)));
        Elapse(denied, days: 20);
        Assert.Equal(State.Requested, _fixture.Access(denied).State);
        Correct(decided);
        Assert.Equal(State.Requested, _fixture.Access(decided).State);
        foreach (var access in (string[])[asked, denied, decided])
        {
            Assert.Null(Accesses.Kind.DueOf(_fixture.Access(access)));
            Assert.Empty(_fixture.AccessFallsDue(access).Changes);
            Assert.False(_fixture.Access(access).DecisionOverdue);
        }
        // The power that has the prisoner in custody again decides, with the same term as any power. A time that ran before is still the
        // same.
        _fixture.Change(ended: false);
        foreach (var access in (string[])[denied, decided])
            Assert.Equal(_fixture.Now.AddDays(14), Accesses.Kind.DueOf(_fixture.Access(access)));
        Assert.Equal(due, Accesses.Kind.DueOf(_fixture.Access(asked)));
        _fixture.AccessFallsDue(asked);
        Assert.True(_fixture.SeenAccess(CaseFixture.Icrc, asked)!.DecisionOverdue);
    }

    [Fact]
    public void A_decision_that_was_overdue_when_custody_ended_stays_so()
    {
        var access = Request();
        Elapse(access, days: 14);
        _fixture.Change(ended: true);
        Assert.True(_fixture.Access(access).DecisionOverdue);
    }

    /// <summary>A power still answers for a prisoner who is held under another reference.</summary>
    [Fact]
    public void A_link_stops_no_clock_of_a_decision_on_access()
    {
        var access = Request();
        var due = Accesses.Kind.DueOf(_fixture.Access(access));
        _fixture.Link();
        Assert.Equal(due, Accesses.Kind.DueOf(_fixture.Access(access)));
        _fixture.Happen(new DepartureRecorded { Case = _fixture.Case, Prisoner = CaseFixture.Second });
        Assert.Null(Accesses.Kind.DueOf(_fixture.Access(access)));
    }

    private void Correct(string access)
    {
        var position = _fixture.Access(access).Acts.Last(a => a.Method == "DecideAccess").Position;
        _fixture.Do(CaseFixture.Ua, new V1.CorrectRecordRequest { Record = access, Position = position }, CaseFixture.Correct);
    }

    private void End(string how)
    {
        switch (how)
        {
            case "a release":
                _fixture.Change(ended: true);
                break;
            case "a departure":
                _fixture.Happen(new DepartureRecorded { Case = _fixture.Case, Prisoner = CaseFixture.First });
                break;
            default:
                // A hand-over to the power that holds him, so that it answers for the same access before and after.
                _fixture.Pass("UA", "UA", ended: true);
                break;
        }
    }

    // Once a link is undone: the prisoner with the kept reference was never handed over, and Ukraine answers for him again.
    private CustodyTransferred NotHandedOver(string from, Timestamp passed) =>
        new()
        {
            Case = _fixture.Case,
            Prisoner = CaseFixture.Second,
            FromPower = from,
            ToPower = "UA",
            Undone = true,
            PassTime = passed,
        };

    // Once a link is undone: the hand-over was of the prisoner with the other reference.
    private CustodyTransferred HandedOver(string from, string to, Timestamp passed, string answering = "") =>
        new()
        {
            Case = _fixture.Case,
            Prisoner = CaseFixture.First,
            FromPower = from,
            ToPower = to,
            Route = Types.V1.Route.Article12Transfer,
            PassTime = passed,
            AnsweringPower = answering,
        };

    /// <summary>The hand-over was recorded under the kept reference, but was of the other prisoner (D4, D17).</summary>
    [Fact]
    public void Once_a_link_is_undone_access_is_the_business_of_the_power_that_has_held_each_man_since_the_hand_over()
    {
        var (his, others) = (Notify(), Notify(prisoner: CaseFixture.Second));
        var link = _fixture.Link();
        _fixture.RuleRunner.Now += TimeSpan.FromDays(1);
        _fixture.Pass("UA", "KR", prisoner: CaseFixture.Second);
        var passed = _fixture.RuleRunner.Now.ToTimestamp();
        _fixture.RuleRunner.Now += TimeSpan.FromDays(1);
        foreach (var access in (string[])[his, others])
            _fixture.Do(CaseFixture.Icrc, Visit(access), Accesses.RecordVisit);
        _fixture.Undo(link);
        _fixture.Happen(NotHandedOver("KR", passed));
        _fixture.Happen(HandedOver("UA", "KR", passed));
        foreach (var (access, power) in ((string, string)[])[(his, "KR"), (others, "UA")])
        {
            Assert.Equal(power, _fixture.Access(access).DetainingPower);
            Assert.Equal(power, Assert.Single(_fixture.Access(access).Visits).DetainingPower);
        }
        Assert.Equal(("UA", passed), _fixture.Access(his).FormerCustodies.Select(c => (c.DetainingPower, c.EndTime)).Last());
    }

    /// <summary>Both sides named this prisoner, so the power that took him holds him before and after (D17, D18).</summary>
    [Theory]
    [InlineData("KR"), InlineData("KR", "RU")]
    public void Once_a_link_is_undone_what_the_power_decided_that_holds_him_stands(params string[] powers)
    {
        var (visits, asked) = (Notify(), Request(CaseFixture.Xx));
        var link = _fixture.Link();
        foreach (var (from, to) in powers.Prepend("UA").Zip(powers))
        {
            _fixture.RuleRunner.Now += TimeSpan.FromDays(1);
            _fixture.Pass(from, to, prisoner: CaseFixture.Second);
        }
        var passed = _fixture.RuleRunner.Now.ToTimestamp();
        var by = powers[^1] == "KR" ? CaseFixture.Kr : CaseFixture.Ru;
        _fixture.RuleRunner.Now += TimeSpan.FromDays(1);
        Assert.Equal(Reason.Unspecified, TryToDeny(visits, days: 20, by));
        Elapse(asked, days: 14);
        (Access Visits, Access Asked) before = (_fixture.Access(visits).Clone(), _fixture.Access(asked).Clone());
        Assert.True(before.Asked.DecisionOverdue);
        _fixture.Happen(
            new Custody.V1.RecordCorrected
            {
                Case = _fixture.Case,
                Prisoner = CaseFixture.First,
                Position = link,
                AnsweringPower = powers[^1],
            }
        );
        _fixture.Change(ended: false);
        _fixture.Happen(NotHandedOver(powers[^1], passed));
        foreach (var (from, to) in powers.Prepend("UA").Zip(powers))
            _fixture.Happen(HandedOver(from, to, passed, powers[^1]));
        Assert.Equal(before, (_fixture.Access(visits), _fixture.Access(asked)));
        // A new notification of the visits ends no denial.
        Close(visits);
        Assert.Equal(State.Denied, _fixture.Access(Notify()).State);
    }

    /// <summary>A power that never held the prisoner decides on no visit to him (D4, D17, D18).</summary>
    [Fact]
    public void Once_a_link_is_undone_access_is_the_business_of_the_power_that_holds_him_under_the_reference()
    {
        var (visits, asked, closed) = (Notify(), Request(CaseFixture.Ru), Notify(CaseFixture.Swiss));
        var due = Accesses.Kind.DueOf(_fixture.Access(asked));
        var link = _fixture.Link();
        _fixture.RuleRunner.Now += TimeSpan.FromDays(1);
        _fixture.Pass("UA", "KR", prisoner: CaseFixture.Second);
        var passed = _fixture.Now;
        Assert.Equal("KR", _fixture.Access(visits).DetainingPower);
        _fixture.RuleRunner.Now += TimeSpan.FromDays(1);
        Assert.Equal(Reason.Unspecified, TryToDeny(visits, days: 90, CaseFixture.Kr));
        Close(closed);
        _fixture.Do(CaseFixture.Icrc, Visit(visits, Invariant.D17), Accesses.RecordVisit);
        _fixture.Undo(link);
        foreach (var access in (string[])[visits, asked])
            Assert.Equal("UA", _fixture.Access(access).DetainingPower);
        Assert.Equal((State.Granted, State.Requested), (_fixture.Access(visits).State, _fixture.Access(asked).State));
        // The power gains no time by the undone hand-over.
        Assert.Equal(due, Accesses.Kind.DueOf(_fixture.Access(asked)));
        // The access was the power's all along, and nobody had denied the visit.
        Assert.Equal("UA", Assert.Single(_fixture.Access(visits).Visits).DetainingPower);
        Assert.Empty(_fixture.Access(visits).Visits[0].Breaches);
        Assert.Equal(passed, _fixture.Access(visits).FormerCustodies[^1].EndTime.ToDateTimeOffset());
        Assert.Equal(Reason.NotGranted, TryToDeny(visits, days: 1, CaseFixture.Kr));
        // The other power's denial is no longer in force, not even for visits that are notified anew.
        Close(visits);
        Assert.Equal(State.Granted, _fixture.Access(Notify()).State);
        _fixture.Do(CaseFixture.Ua, Grant(asked), Accesses.DecideAccess);
    }

    public static MatrixTheoryData<State, bool, string> Decided =>
        new([State.Granted, State.Denied, State.Requested], [false, true], [CaseFixture.Ru, CaseFixture.Kr]);

    /// <summary>Access is as if nobody had been handed over (D18). This holds if it was granted, denied or requested, under the kept
    /// reference or the linked one, and by the state that takes the other prisoner or by another state.</summary>
    [Theory]
    [MemberData(nameof(Decided))]
    public void Once_a_link_is_undone_consular_access_is_what_the_power_decided_that_held_him_all_along(State decided, bool kept, string by)
    {
        var access = Request(by, kept ? CaseFixture.Second : CaseFixture.First);
        var link = _fixture.Link();
        if (decided == State.Granted)
            _fixture.Do(CaseFixture.Ua, Grant(access), Accesses.DecideAccess);
        else if (decided == State.Denied)
            Deny(access, days: 20);
        var before = _fixture.Access(access).Clone();
        _fixture.RuleRunner.Now += TimeSpan.FromDays(1);
        var passed = _fixture.RuleRunner.Now.ToTimestamp();
        _fixture.Pass("UA", "KR", prisoner: CaseFixture.Second);
        Assert.Equal(by == CaseFixture.Kr ? State.Closed : State.Requested, _fixture.Access(access).State);
        _fixture.RuleRunner.Now += TimeSpan.FromDays(1);
        _fixture.Do(by, Visit(access, Invariant.D18), Accesses.RecordVisit);
        if (kept)
        {
            // The other prisoner was handed over.
            _fixture.Undo(link, "KR");
            _fixture.Happen(NotHandedOver("KR", passed));
            _fixture.Happen(HandedOver("UA", "KR", passed, "KR"));
        }
        else
            _fixture.Undo(link, "UA");
        var after = _fixture.Access(access);
        Assert.Equal(("UA", decided, null), (after.DetainingPower, after.State, after.CloseTime));
        Assert.Equal((before.Decision, Accesses.Kind.DueOf(before)), (after.Decision, Accesses.Kind.DueOf(after)));
        // A lawful visit is not marked.
        Assert.Equal(decided == State.Granted ? [] : [Invariant.D18], Assert.Single(after.Visits).Breaches);
        Assert.Equal("UA", after.Visits[0].DetainingPower);
        _fixture.RuleRunner.Now += TimeSpan.FromDays(1);
        Assert.Equal(
            decided == State.Granted ? Reason.Unspecified : Reason.StateNotAllowed,
            _fixture.Try(by, Visit(access), Accesses.RecordVisit)
        );
        // One at a time.
        Assert.Equal(
            Reason.AccessAlreadyOpen,
            _fixture.Try(by, new RequestAccessRequest { Prisoner = after.Prisoner }, Accesses.RequestAccess)
        );
    }

    /// <summary>Only acts that were not corrected are restored.</summary>
    [Fact]
    public void Once_a_link_is_undone_a_decision_that_was_corrected_meanwhile_is_owed_again()
    {
        var access = Request(CaseFixture.Ru);
        _fixture.Do(CaseFixture.Ua, Grant(access), Accesses.DecideAccess);
        var link = _fixture.Link();
        _fixture.RuleRunner.Now += TimeSpan.FromDays(1);
        _fixture.Pass("UA", "KR", prisoner: CaseFixture.Second);
        Correct(access);
        _fixture.Undo(link, "UA");
        Assert.Equal(State.Requested, _fixture.Access(access).State);
        Assert.Equal(_fixture.Now.AddDays(14), Accesses.Kind.DueOf(_fixture.Access(access)));
        _fixture.RuleRunner.Now += TimeSpan.FromDays(1);
        Assert.Equal(Reason.StateNotAllowed, _fixture.Try(CaseFixture.Ru, Visit(access), Accesses.RecordVisit));
    }

    /// <summary>The prisoner with the kept reference was handed on afterwards (D4, D18).</summary>
    [Fact]
    public void Once_a_link_is_undone_what_the_power_granted_that_took_him_counts_though_the_other_man_was_handed_on()
    {
        var access = Request(CaseFixture.Xx);
        var link = _fixture.Link();
        _fixture.RuleRunner.Now += TimeSpan.FromDays(1);
        var passed = _fixture.RuleRunner.Now.ToTimestamp();
        _fixture.Pass("UA", "KR", prisoner: CaseFixture.Second);
        _fixture.Do(CaseFixture.Kr, Grant(access), Accesses.DecideAccess);
        _fixture.RuleRunner.Now += TimeSpan.FromDays(1);
        _fixture.Pass("KR", "RU", prisoner: CaseFixture.Second);
        Assert.Equal(("RU", State.Requested), (_fixture.Access(access).DetainingPower, _fixture.Access(access).State));
        _fixture.Undo(link, "KR");
        _fixture.Happen(HandedOver("UA", "KR", passed, "KR"));
        Assert.Equal(("KR", State.Granted), (_fixture.Access(access).DetainingPower, _fixture.Access(access).State));
        _fixture.RuleRunner.Now += TimeSpan.FromDays(1);
        _fixture.Do(CaseFixture.Xx, Visit(access), Accesses.RecordVisit);
    }

    /// <summary>The other man was handed over and came back. This one was with the same power all along (D4, D18, D22).</summary>
    [Theory]
    [InlineData(State.Granted), InlineData(State.Denied), InlineData(State.Requested)]
    public void Once_a_link_is_undone_what_the_power_decided_counts_though_the_other_man_came_back(State decided)
    {
        var (access, visits) = (Request(CaseFixture.Ru, CaseFixture.Second), Notify(prisoner: CaseFixture.Second));
        if (decided == State.Granted)
            _fixture.Do(CaseFixture.Ua, Grant(access), Accesses.DecideAccess);
        else if (decided == State.Denied)
            Deny(access, days: 20);
        var before = _fixture.Access(access).Clone();
        var link = _fixture.Link();
        _fixture.RuleRunner.Now += TimeSpan.FromDays(1);
        var passed = _fixture.RuleRunner.Now.ToTimestamp();
        _fixture.Pass("UA", "KR", prisoner: CaseFixture.Second);
        _fixture.RuleRunner.Now += TimeSpan.FromDays(1);
        _fixture.Do(CaseFixture.Ru, Visit(access, Invariant.D18), Accesses.RecordVisit);
        _fixture.Do(CaseFixture.Icrc, Visit(visits), Accesses.RecordVisit);
        _fixture.Pass("KR", "UA", returned: true, prisoner: CaseFixture.Second);
        _fixture.Undo(link, "UA");
        _fixture.Happen(NotHandedOver("UA", passed));
        var after = _fixture.Access(access);
        Assert.Equal(("UA", decided, before.Decision), (after.DetainingPower, after.State, after.Decision));
        Assert.Equal(Accesses.Kind.DueOf(before), Accesses.Kind.DueOf(after));
        Assert.Equal(decided == State.Granted ? [] : [Invariant.D18], Assert.Single(after.Visits).Breaches);
        foreach (var of in (string[])[access, visits])
        {
            Assert.Equal("UA", Assert.Single(_fixture.Access(of).Visits).DetainingPower);
            Assert.Empty(_fixture.SeenAccess(CaseFixture.Kr, of)!.Visits);
            Assert.Equal(
                Reason.VisitInOtherCustody,
                _fixture.Try(CaseFixture.Kr, Visit(of, Invariant.D17, Invariant.D18), Accesses.RecordVisit)
            );
        }
    }

    /// <summary>He passed as it was said, whatever the sides say of the time.</summary>
    [Fact]
    public void Once_a_link_is_undone_no_access_changes_where_custody_only_says_who_answers_again()
    {
        var access = Request(prisoner: CaseFixture.Second);
        var transfer = _fixture.To(TransferState.Monitored, CaseFixture.Second);
        Assert.Equal(State.Closed, _fixture.Access(access).State);
        _fixture.RuleRunner.Now += TimeSpan.FromHours(4);
        foreach (var side in (string[])[CaseFixture.Kr, CaseFixture.Ua])
            _fixture.Do(
                side,
                new ConfirmReturnRequest(_fixture.ReturnConfirmation(transfer, Invariant.D1))
                {
                    WindowStartTime = _fixture.In(-31),
                    WindowEndTime = _fixture.In(-30),
                },
                Transfers.ConfirmReturn
            );
        _fixture.Pass("KR", "UA", returned: true, prisoner: CaseFixture.Second);
        _fixture.Happen(
            new CustodyTransferred
            {
                Case = _fixture.Case,
                Prisoner = CaseFixture.Second,
                FromPower = "UA",
                ToPower = "UA",
                Undone = true,
                RelievedSinceTime = _fixture.In(-1),
            }
        );
        Assert.Equal(State.Closed, _fixture.Access(access).State);
    }

    /// <summary>The power decided after the other man had come back, and before he was handed over again, or stayed (D4, D18, D22).
    /// </summary>
    [Theory]
    [InlineData(false, false), InlineData(false, true), InlineData(true, false), InlineData(true, true)]
    public void Once_a_link_is_undone_each_visit_was_in_the_custody_of_the_power_that_held_him_all_along(bool before, bool again)
    {
        var (access, visits) = (Request(CaseFixture.Ru, CaseFixture.Second), Notify(prisoner: CaseFixture.Second));
        if (before)
            _fixture.Do(CaseFixture.Ua, Grant(access), Accesses.DecideAccess);
        var link = _fixture.Link();
        _fixture.RuleRunner.Now += TimeSpan.FromDays(1);
        var passed = _fixture.RuleRunner.Now.ToTimestamp();
        _fixture.Pass("UA", "KR", prisoner: CaseFixture.Second);
        Assert.Equal(Reason.Unspecified, TryToDeny(visits, days: 20, CaseFixture.Kr));
        VisitBoth();
        _fixture.Pass("KR", "UA", returned: true, prisoner: CaseFixture.Second);
        VisitBoth();
        _fixture.RuleRunner.Now += TimeSpan.FromHours(4);
        _fixture.Do(CaseFixture.Ua, Grant(access), Accesses.DecideAccess);
        var decision = _fixture.Access(access).Decision.Clone();
        VisitBoth();
        if (again)
        {
            _fixture.Pass("UA", "KR", prisoner: CaseFixture.Second);
            VisitBoth();
        }
        _fixture.Undo(link, again ? "KR" : "UA");
        _fixture.Happen(NotHandedOver(again ? "KR" : "UA", passed));
        var after = _fixture.Access(access);
        Assert.Equal(("UA", State.Granted, decision), (after.DetainingPower, after.State, after.Decision));
        foreach (var of in (string[])[access, visits])
        {
            Assert.All(_fixture.Access(of).Visits, v => Assert.Equal("UA", v.DetainingPower));
            Assert.Empty(_fixture.SeenAccess(CaseFixture.Kr, of)!.Visits);
        }
        // What was lawful is not marked. Before its first decision the power had granted nothing.
        Invariant[] marks = before ? [] : [Invariant.D18, Invariant.D18];
        Assert.Equal(marks, after.Visits.SelectMany(v => v.Breaches));
        Assert.Empty(_fixture.Access(visits).Visits.SelectMany(v => v.Breaches));

        void VisitBoth()
        {
            _fixture.RuleRunner.Now += TimeSpan.FromDays(1);
            _fixture.Do(CaseFixture.Ru, Visit(access, Invariant.D18), Accesses.RecordVisit);
            _fixture.Do(CaseFixture.Icrc, Visit(visits, Invariant.D17), Accesses.RecordVisit);
        }
    }

    /// <summary>It was that power's own, and of the time when the other man was back (D17).</summary>
    [Fact]
    public void Once_a_link_is_undone_what_the_power_denied_after_the_other_man_came_back_is_denied()
    {
        var visits = Notify(prisoner: CaseFixture.Second);
        var link = _fixture.Link();
        _fixture.RuleRunner.Now += TimeSpan.FromDays(1);
        var passed = _fixture.RuleRunner.Now.ToTimestamp();
        _fixture.Pass("UA", "KR", prisoner: CaseFixture.Second);
        _fixture.RuleRunner.Now += TimeSpan.FromDays(1);
        _fixture.Pass("KR", "UA", returned: true, prisoner: CaseFixture.Second);
        Deny(visits, days: 20);
        _fixture.Undo(link, "UA");
        _fixture.Happen(NotHandedOver("UA", passed));
        Assert.Equal(State.Denied, _fixture.Access(visits).State);
        Close(visits);
        Assert.Equal(State.Denied, _fixture.Access(Notify(prisoner: CaseFixture.Second)).State);
    }

    /// <summary>It was asked for while the other man was said to be there (D4, D22).</summary>
    [Fact]
    public void Once_a_link_is_undone_access_that_was_asked_of_another_power_is_of_the_one_that_held_him_all_along()
    {
        var link = _fixture.Link();
        _fixture.RuleRunner.Now += TimeSpan.FromDays(1);
        var passed = _fixture.RuleRunner.Now.ToTimestamp();
        _fixture.Pass("UA", "KR", prisoner: CaseFixture.Second);
        var access = Request(CaseFixture.Ru, CaseFixture.Second);
        _fixture.RuleRunner.Now += TimeSpan.FromDays(1);
        _fixture.Do(CaseFixture.Ru, Visit(access, Invariant.D18), Accesses.RecordVisit);
        _fixture.Pass("KR", "UA", returned: true, prisoner: CaseFixture.Second);
        var due = Accesses.Kind.DueOf(_fixture.Access(access));
        _fixture.Undo(link, "UA");
        _fixture.Happen(NotHandedOver("UA", passed));
        var after = _fixture.Access(access);
        Assert.Equal((State.Requested, due), (after.State, Accesses.Kind.DueOf(after)));
        var visit = Assert.Single(after.Visits);
        Assert.Equal("UA", visit.DetainingPower);
        Assert.Equal([Invariant.D18], visit.Breaches);
    }

    [Theory]
    [InlineData(AccessKind.ObserverVisit), InlineData(AccessKind.Consular)]
    public void A_power_sees_the_visits_and_decisions_of_its_own_time_and_the_others_see_all(AccessKind kind)
    {
        var consular = kind == AccessKind.Consular;
        var (access, visitor) = consular ? (Request(CaseFixture.Ru), CaseFixture.Ru) : (Notify(), CaseFixture.Icrc);
        if (consular)
            _fixture.Do(CaseFixture.Ua, Grant(access), Accesses.DecideAccess);
        _fixture.RuleRunner.Now += TimeSpan.FromHours(3);
        _fixture.Do(visitor, Visit(access), Accesses.RecordVisit);
        if (!consular)
            Deny(access, days: 20);
        _fixture.To(TransferState.Monitored);
        var (first, decided) = (_fixture.SeenAccess(CaseFixture.Ua, access)!, consular ? State.Granted : State.Denied);
        Assert.Equal((1, decided, "UA"), (first.Visits.Count, first.State, first.DetainingPower));
        Assert.NotNull(Assert.Single(first.FormerCustodies).Decision);
        var taken = _fixture.SeenAccess(CaseFixture.Kr, access)!;
        Assert.Equal((0, 0, 0, "KR"), (taken.Visits.Count, taken.FormerCustodies.Count, taken.Acts.Count, taken.DetainingPower));
        Assert.Null(taken.Decision);

        if (consular)
            _fixture.Do(CaseFixture.Kr, Grant(access), Accesses.DecideAccess);
        _fixture.RuleRunner.Now += TimeSpan.FromHours(3);
        var (visit, _) = _fixture.Play(visitor, Visit(access), Accesses.RecordVisit);
        Assert.DoesNotContain(Audience.State(_fixture.Case, "UA"), visit.Audience);
        Assert.Contains(Audience.State(_fixture.Case, "KR"), visit.Audience);
        if (!consular)
            _fixture.Do(CaseFixture.Kr, Denial(access), Accesses.DecideAccess);
        Assert.Equal(first, _fixture.SeenAccess(CaseFixture.Ua, access));
        taken = _fixture.SeenAccess(CaseFixture.Kr, access)!;
        Assert.Equal("KR", Assert.Single(taken.Visits).DetainingPower);
        Assert.NotNull(taken.Decision);
        foreach (var reader in (string[])[visitor, CaseFixture.Icrc, CaseFixture.Swiss])
        {
            var all = _fixture.SeenAccess(reader, access)!;
            Assert.Equal(["UA", "KR"], all.Visits.Select(v => v.DetainingPower));
            Assert.NotNull(Assert.Single(all.FormerCustodies).Decision);
        }
        // A list says no more than the record.
        var keys = Accesses.Kind.KeysOf(_fixture.Access(access));
        Assert.Contains(Accesses.StateKey("UA", decided), keys);
        Assert.Contains(Accesses.StateKey("KR", _fixture.Access(access).State), keys);
    }

    [Fact]
    public void A_visit_is_of_the_custody_in_which_it_took_place_whenever_it_is_recorded()
    {
        var access = Notify();
        _fixture.To(TransferState.HandedOver);
        // After the hand-over, and before it is known here that custody passed.
        _fixture.Do(CaseFixture.Icrc, new RecordVisitRequest(Visit(access)) { StartTime = _fixture.In(-0.5) }, Accesses.RecordVisit);
        _fixture.Pass("UA", "KR");
        var (late, _) = _fixture.Play(CaseFixture.Icrc, Visit(access), Accesses.RecordVisit);
        Assert.Contains(Audience.State(_fixture.Case, "UA"), late.Audience);
        Assert.DoesNotContain(Audience.State(_fixture.Case, "KR"), late.Audience);
        Assert.Equal(["KR", "UA"], _fixture.Access(access).Visits.Select(v => v.DetainingPower));
        // Each power tells of its own.
        var after = new RecordVisitRequest(Visit(access)) { StartTime = _fixture.In(0) };
        Assert.Equal(Reason.VisitInOtherCustody, _fixture.Try(CaseFixture.Ua, after.Clone(), Accesses.RecordVisit));
        Assert.Equal(Reason.VisitInOtherCustody, _fixture.Try(CaseFixture.Kr, Visit(access), Accesses.RecordVisit));
        _fixture.Do(CaseFixture.Ua, Visit(access), Accesses.RecordVisit);
        _fixture.Do(CaseFixture.Kr, after.Clone(), Accesses.RecordVisit);
        Assert.Equal(2, _fixture.SeenAccess(CaseFixture.Ua, access)!.Visits.Count);
        Assert.Equal(2, _fixture.SeenAccess(CaseFixture.Kr, access)!.Visits.Count);
    }

    /// <summary>A power from which custody passed knows no more than what there was then (D22).</summary>
    [Theory]
    [InlineData(State.Requested)]
    [InlineData(State.Granted)]
    [InlineData(State.Denied)]
    [InlineData(State.Closed)]
    public void A_power_that_held_him_before_is_refused_for_one_reason_whatever_the_next_one_decided(State decided)
    {
        var access = Request(CaseFixture.Ru);
        _fixture.To(TransferState.Monitored);
        if (decided is State.Granted or State.Denied)
            _fixture.Do(CaseFixture.Kr, decided == State.Granted ? Grant(access) : Denial(access), Accesses.DecideAccess);
        if (decided == State.Closed)
            Close(access);
        Assert.Equal(decided, _fixture.Access(access).State);
        _fixture.RuleRunner.Now += TimeSpan.FromHours(3);
        foreach (var hours in (double[])[-1, 1])
            Assert.Equal(
                Reason.VisitInOtherCustody,
                _fixture.Try(CaseFixture.Ua, new RecordVisitRequest(Visit(access)) { StartTime = _fixture.In(hours) }, Accesses.RecordVisit)
            );
    }

    [Fact]
    public void A_visit_before_custody_passed_is_judged_by_the_access_of_that_time()
    {
        var (granted, denied) = (Request(CaseFixture.Ru), Notify());
        _fixture.Do(CaseFixture.Ua, Grant(granted), Accesses.DecideAccess);
        Deny(denied, days: 20);
        _fixture.To(TransferState.Monitored);
        Assert.Equal(Reason.Unspecified, _fixture.Try(CaseFixture.Ru, Visit(granted), Accesses.RecordVisit));
        Assert.Equal(Reason.StateNotAllowed, _fixture.Try(CaseFixture.Icrc, Visit(denied), Accesses.RecordVisit));
        Assert.Equal(Reason.Unspecified, _fixture.Try(CaseFixture.Icrc, Visit(denied, Invariant.D17), Accesses.RecordVisit));
        Assert.Equal(
            Reason.VisitsNotOwn,
            _fixture.Try(CaseFixture.Ua, new RecordVisitRequest(Visit(granted)) { Last = true }, Accesses.RecordVisit)
        );
    }

    [Fact]
    public void What_a_reader_is_not_shown_of_access_is_marked()
    {
        var (visits, consular) = (Notify(), Request(CaseFixture.Ru));
        Deny(visits, days: 20);
        _fixture.Do(CaseFixture.Ua, Grant(consular), Accesses.DecideAccess);
        _fixture.RuleRunner.Now += TimeSpan.FromHours(3);
        _fixture.Do(CaseFixture.Ru, Visit(consular), Accesses.RecordVisit);
        _fixture.To(TransferState.Monitored);
        _fixture.Do(CaseFixture.Kr, Denial(visits), Accesses.DecideAccess);
        foreach (var access in (string[])[visits, consular])
        foreach (
            var reader in (string[])[CaseFixture.Ua, CaseFixture.UaMfa, CaseFixture.Kr, CaseFixture.Ru, CaseFixture.Icrc, CaseFixture.Swiss]
        )
            if (_fixture.SeenAccess(reader, access) is { } seen)
                Assert.Empty(Withholding.Unmarked(_fixture.Access(access), seen));
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
