using Ministries.CallLog.V1;
using Ministries.Custody.V1;
using Ministries.Errors.V1;
using Ministries.Fixtures;
using Ministries.Trust;
using Ministries.Types.V1;
using static Ministries.CallLog.Tests.CaseFixture;
using Route = Ministries.Types.V1.Route;

namespace Ministries.CallLog.Tests;

/// <summary>Whoever does what a refusal of the call log advises is refused for it no longer.</summary>
public class AdviceTests
{
    private const string Ru = "ru/mfa";

    private static readonly IReadOnlyList<Reason> Range = Advice.ReasonsOf(200, 299);

    private static readonly Dictionary<Reason, string> NothingToFollow = [];

    private static readonly Advice<CaseFixture>[] Plays =
    [
        new(Reason.NotASide, "another organ of a side's state calls; a side does", NotASide),
        new(Reason.CounterpartNotASide, "an observer; another is named", AnotherCounterpart),
        new(Reason.CounterpartNotASide, "no party to the case; it is admitted", CounterpartAdmitted),
        new(Reason.MarkingExcludesSide, "released to one side; to both, with sealed minutes", MarkedForBoth),
        new(Reason.MarkingExcludesSide, "above a side's clearance; marked lower", MarkedLower),
        new(Reason.AccountNamesOutsider, "a third state took part; that is logged apart", ThirdStateApart),
        new(Reason.AccountNamesOutsider, "an organ of a side's state that is no party; it is admitted", OrganAdmitted),
        new(Reason.ReadoutAlreadyGiven, "its own account stands; it is amended", ReadoutAmended),
        new(Reason.ReadoutAlreadyGiven, "it logged the call itself and linked it; its own record is amended", LinkedReadoutAmended),
        new(Reason.ReadoutNotGiven, "no account yet; it is submitted", ReadoutSubmitted),
        new(Reason.ReadoutNotGiven, "its account is in the linked record; that one is amended", AccountInLinkedRecord),
        new(Reason.OwnReadout, "it was wrong itself; it amends", OwnReadoutAmended),
        new(Reason.OwnReadout, "it was wrong itself; it corrects", OwnReadoutCorrected),
        new(Reason.OwnReadout, "the other side was meant; it is named", OtherSideMeant),
        new(Reason.NoReadoutToContest, "an earlier version; the one that counts", VersionThatCounts),
        new(Reason.NoReadoutToContest, "no account yet; the other side submits one", ContestedOnceGiven),
        new(Reason.NoReadoutToContest, "it is in the linked record; contested there", ContestedWhereItIs),
        new(Reason.AlreadyContested, "its contest stands; it is corrected first", ContestCorrected),
        new(Reason.AlreadyContested, "its contest stands; the other side amends", ContestOfTheNextVersion),
        new(Reason.CallsNotOfBothSides, "both logged by one side; the other logs its own", OtherSideLogs),
        new(Reason.AlreadyLinked, "linked with another; who linked them corrects", LinkCorrected),
        new(Reason.NotOwedToCaller, "who promised settles; the other side does", OwedSideSettles),
        new(Reason.CommitmentAlreadySettled, "settled by a side; that side corrects", SettlementCorrected),
        new(Reason.SupersedingCommitmentMissing, "nobody said it; a readout says it", SupersedingSaid),
        new(Reason.SupersedingCommitmentMissing, "said on another call; that call is named", SupersedingCallNamed),
    ];

    public static TheoryData<Reason, string> Rows => [.. Plays.Select(p => (p.Reason, p.Cause))];

    [Theory, MemberData(nameof(Rows))]
    public void What_a_refusal_advises_unlocks_it(Reason reason, string cause) =>
        Advice.AssertWorks(reason, Plays.Single(p => p.Reason == reason && p.Cause == cause).Play(new CaseFixture()));

    [Fact]
    public void Every_reason_of_the_call_log_has_a_play() => Advice.AssertComplete(Range, Plays.Select(p => p.Reason), NothingToFollow);

    [Fact]
    public void What_the_advice_names_is_there() => Advice.AssertNamesExist(Range);

    /// <summary>That is why COMMITMENT_ALREADY_SETTLED says whose settlements stand.</summary>
    [Fact]
    public void A_commitment_that_submitted_requests_kept_stays_settled()
    {
        var f = new CaseFixture();
        var logged = f.Log();
        f.Submitted(logged, "transfer_1", First);
        f.Submitted(logged, "transfer_2", Second);
        var position = Assert.Single(f.Commitment(logged).Settlements).Position;
        Assert.All((string[])[Kr, Ua], by => Assert.Equal(Reason.NotCorrectable, f.Why(by, f.CorrectRequest(by, logged.Call, position))));
        Assert.Contains("stands", Reasons.AboutOf(Reason.CommitmentAlreadySettled).Unlock);
    }

    /// <summary>That is why NOT_OWED_TO_CALLER says what nobody settles.</summary>
    [Fact]
    public void A_commitment_whose_entry_was_erased_is_settled_by_nobody()
    {
        var f = new CaseFixture();
        var logged = f.Log();
        var call = new Call();
        Calls.Kind.Apply(
            call,
            f.RuleRunner.Events.OfType<CallLogged>().Single(),
            new FoldedEntry(7, new Google.Protobuf.WellKnownTypes.Timestamp(), Kr, f.Id(), null)
        );
        Assert.All(
            (string[])[Kr, Ua],
            by =>
                Assert.Equal(
                    Reason.NotOwedToCaller,
                    Calls
                        .SettleCommitment.Decide(
                            call,
                            new SettleCommitmentRequest { Commitment = logged.Commitments[0], Settlement = SettlementKind.Kept },
                            new RuleContext
                            {
                                View = new View(),
                                Caller = f.RuleRunner.Permissions.Participant(by)!,
                                Permissions = f.RuleRunner.Permissions,
                                Method = Calls.SettleCommitment.Method,
                                Now = f.RuleRunner.Now,
                                Secrets = Secret.OfTests,
                                RequestId = "r",
                            }
                        )
                        .Refusal?.Reason
                )
        );
        Assert.Contains("erased", Reasons.AboutOf(Reason.NotOwedToCaller).Unlock);
    }

    // ---- who may speak of a call, and what it may name ---------------------------------------------------------------------

    private static Advised NotASide(CaseFixture f)
    {
        f.RuleRunner.Permissions.Agreement.Participants.Single(p => p.Id == Headquarters).Capacities.Add(Capacity.Calls);
        var (call, by) = (f.Log().Call, Headquarters);
        return new(() => f.Why(by, f.SubmitRequest(by, call)), () => by = Ua);
    }

    private static Advised AnotherCounterpart(CaseFixture f)
    {
        var counterpart = Icrc;
        return new(() => f.Why(Kr, f.LogRequest(but: r => r.Counterpart = counterpart)), () => counterpart = Ua);
    }

    private static Advised CounterpartAdmitted(CaseFixture f)
    {
        f.Happen(new PartyRemoved { Case = f.Case, Participant = Unification });
        return new(
            () => f.Why(Ua, f.LogRequest(Ua, r => r.Counterpart = Unification)),
            () => f.Admit(Unification, Part.RequestingState, "KR")
        );
    }

    private static Advised MarkedForBoth(CaseFixture f)
    {
        var request = f.LogRequest(but: r => r.Classification = new Classification { ReleasableTo = { Kr } });
        return new(
            () => f.Why(Kr, new LogCallRequest(request) { RequestId = f.Id() }),
            () =>
            {
                request.Classification.ReleasableTo.Add(Ua);
                request.Account.Minutes = SealedForm.To(Kr);
            }
        );
    }

    private static Advised MarkedLower(CaseFixture f)
    {
        var level = Level.Secret;
        return new(
            () => f.Why(Ua, f.LogRequest(Ua, r => (r.Counterpart, r.Classification) = (Unification, new Classification { Level = level }))),
            () => level = Level.Confidential
        );
    }

    private static Advised ThirdStateApart(CaseFixture f)
    {
        f.RuleRunner.Permissions = new(WithRussia());
        f.Admit(Ru, Part.RequestingState, "RU");
        var attendees = new List<Attendee>
        {
            new() { Participant = Ru, Office = "minister" },
        };
        var account = Account(a => a.Commitments.Clear());
        return new(
            () => f.Why(Ua, f.LogRequest(Ua, r => r.Account = new Account(account) { Attendees = { attendees } })),
            () =>
            {
                var apart = new Account(account) { Attendees = { attendees } };
                (apart.Attendees[0].Participant, apart.Positions[0].Participant) = (Ua, Ru);
                f.Log(Ua, r => (r.Counterpart, r.Account) = (Ru, apart));
                attendees.Clear();
            }
        );
    }

    private static Agreement WithRussia()
    {
        var agreement = StandardAgreement.Read();
        agreement.Participants.Add(
            new Participant
            {
                Id = Ru,
                Kind = ParticipantKind.Ministry,
                State = "RU",
                Clearance = Level.Secret,
                Capacities = { Capacity.Calls },
            }
        );
        return agreement;
    }

    private static Advised OrganAdmitted(CaseFixture f)
    {
        f.Happen(new PartyRemoved { Case = f.Case, Participant = Unification });
        return new(
            () => f.Why(Kr, f.LogRequest(but: r => r.Account.Attendees[0].Participant = Unification)),
            () => f.Admit(Unification, Part.RequestingState, "KR")
        );
    }

    // ---- readouts ----------------------------------------------------------------------------------------------------------

    private static Advised ReadoutAmended(CaseFixture f)
    {
        var (call, amend) = (f.Log().Call, false);
        return new(() => f.Why(Kr, amend ? f.AmendRequest(Kr, call) : f.SubmitRequest(Kr, call)), () => amend = true);
    }

    private static Advised LinkedReadoutAmended(CaseFixture f)
    {
        var (one, two) = Linked(f);
        var amend = false;
        return new(() => f.Why(Ua, amend ? f.AmendRequest(Ua, two) : f.SubmitRequest(Ua, one)), () => amend = true);
    }

    private static Advised ReadoutSubmitted(CaseFixture f)
    {
        var call = f.Log().Call;
        return new(() => f.Why(Ua, f.AmendRequest(Ua, call)), () => f.Submit(Ua, call));
    }

    private static Advised AccountInLinkedRecord(CaseFixture f)
    {
        var (call, two) = Linked(f);
        return new(() => f.Why(Ua, f.AmendRequest(Ua, call)), () => call = two);
    }

    private static Advised OwnReadoutAmended(CaseFixture f)
    {
        var (call, amend) = (f.Log().Call, false);
        return new(() => f.Why(Kr, amend ? f.AmendRequest(Kr, call) : f.ContestRequest(Kr, call, Kr)), () => amend = true);
    }

    private static Advised OwnReadoutCorrected(CaseFixture f)
    {
        var (call, correct) = (f.Log().Call, false);
        var position = f.Call(call).Readouts[0].Versions[0].Position;
        return new(() => f.Why(Kr, correct ? f.CorrectRequest(Kr, call, position) : f.ContestRequest(Kr, call, Kr)), () => correct = true);
    }

    private static Advised OtherSideMeant(CaseFixture f)
    {
        var (call, whose) = (f.Log().Call, Ua);
        return new(() => f.Why(Ua, f.ContestRequest(Ua, call, whose)), () => whose = Kr);
    }

    private static Advised VersionThatCounts(CaseFixture f)
    {
        var (call, version) = (f.Log().Call, 1u);
        f.Amend(Kr, call);
        return new(
            () => f.Why(Ua, f.ContestRequest(Ua, call, Kr, version)),
            () => version = f.Seen(Ua, call)!.Readouts[0].Versions.Last(v => !v.Corrected).Number
        );
    }

    private static Advised ContestedOnceGiven(CaseFixture f)
    {
        var call = f.Log().Call;
        return new(() => f.Why(Kr, f.ContestRequest(Kr, call, Ua)), () => f.Submit(Ua, call));
    }

    private static Advised ContestedWhereItIs(CaseFixture f)
    {
        var (call, two) = Linked(f);
        return new(() => f.Why(Kr, f.ContestRequest(Kr, call, Ua)), () => call = two);
    }

    private static Advised ContestCorrected(CaseFixture f)
    {
        var call = f.Log().Call;
        f.Contest(Ua, call, Kr);
        return new(() => f.Why(Ua, f.ContestRequest(Ua, call, Kr)), () => f.Correct(Ua, call, f.Call(call).Contests[0].Position));
    }

    private static Advised ContestOfTheNextVersion(CaseFixture f)
    {
        var call = f.Log().Call;
        f.Contest(Ua, call, Kr);
        return new(() => f.Why(Ua, f.ContestRequest(Ua, call, Kr, f.Call(call).Readouts[0].Versions[^1].Number)), () => f.Amend(Kr, call));
    }

    // ---- links and commitments ---------------------------------------------------------------------------------------------

    private static Advised OtherSideLogs(CaseFixture f)
    {
        var (one, two) = (f.Log(Kr).Call, f.Log(Kr).Call);
        return new(() => f.Why(Kr, f.LinkRequest(Kr, one, two)), () => two = f.Log(Ua).Call);
    }

    private static Advised LinkCorrected(CaseFixture f)
    {
        var (one, _) = Linked(f);
        var three = f.Log(Ua).Call;
        return new(() => f.Why(Kr, f.LinkRequest(Kr, one, three)), () => f.Correct(Ua, one, f.Call(one).Links[0].Position));
    }

    private static Advised OwedSideSettles(CaseFixture f)
    {
        var (logged, by) = (f.Log(), Kr);
        return new(() => f.Why(by, f.SettleRequest(by, logged.Call, logged.Commitments[0])), () => by = Ua);
    }

    private static Advised SettlementCorrected(CaseFixture f)
    {
        var logged = f.Log();
        f.Settle(Ua, logged.Call, logged.Commitments[0]);
        return new(
            () => f.Why(Ua, f.SettleRequest(Ua, logged.Call, logged.Commitments[0], SettlementKind.Released)),
            () => f.Correct(Ua, logged.Call, f.Commitment(logged).Settlements[0].Position)
        );
    }

    private static Advised SupersedingSaid(CaseFixture f)
    {
        var (logged, by) = (f.Log(), "");
        return new(
            () => Supersede(f, logged, r => r.SupersededBy = by),
            () => by = f.Amend(Kr, logged.Call, Account(a => a.Commitments[0].Route = Route.Release)).Commitments[0]
        );
    }

    private static Advised SupersedingCallNamed(CaseFixture f)
    {
        var (logged, later) = (f.Log(), f.Log(Ua, r => r.Account.Commitments[0].Route = Route.Release));
        var call = "";
        return new(
            () => Supersede(f, logged, r => (r.SupersededBy, r.SupersededByCall) = (later.Commitments[0], call)),
            () => call = later.Call
        );
    }

    private static Reason Supersede(CaseFixture f, LogCallResponse logged, Action<SettleCommitmentRequest> by) =>
        f.Why(Ua, f.SettleRequest(Ua, logged.Call, logged.Commitments[0], SettlementKind.Superseded, by));

    /// <summary>A record of each side, linked by the second.</summary>
    private static (string One, string Two) Linked(CaseFixture f)
    {
        var (one, two) = (f.Log(Kr).Call, f.Log(Ua).Call);
        f.Link(Ua, one, two);
        return (one, two);
    }
}
