using Ministries.CallLog.V1;
using Ministries.Errors.V1;
using Ministries.Fixtures;
using static Ministries.CallLog.Tests.CaseFixture;

namespace Ministries.CallLog.Tests;

/// <summary>Every state and every write of the call log, by each side; and every state of a commitment with all that may happen to
/// it. A state or a write without a row fails.</summary>
public class TransitionTests
{
    private static readonly CallState[] States = Enum.GetValues<CallState>();

    /// <summary>What becomes of each write; the columns are the states of the call, in the order of <see cref="CallState"/>, the
    /// first being that there is none. The call is kr/mfa's, and what is CONTESTED is its readout.</summary>
    private const string Writes = """
        LogCall          kr/mfa  ok         ok                     ok                     ok
        LogCall          ua/mfa  ok         ok                     ok                     ok
        SubmitReadout    kr/mfa  NotFound   ReadoutAlreadyGiven    ReadoutAlreadyGiven    ReadoutAlreadyGiven
        SubmitReadout    ua/mfa  NotFound   ok                     ReadoutAlreadyGiven    ok
        AmendReadout     kr/mfa  NotFound   ok                     ok                     ok
        AmendReadout     ua/mfa  NotFound   ReadoutNotGiven        ok                     ReadoutNotGiven
        ContestReadout   kr/mfa  NotFound   NoReadoutToContest     ok                     NoReadoutToContest
        ContestReadout   ua/mfa  NotFound   ok                     ok                     AlreadyContested
        LinkCalls        kr/mfa  NotFound   ok                     ok                     ok
        LinkCalls        ua/mfa  NotFound   ok                     ok                     ok
        SettleCommitment kr/mfa  NotFound   NotOwedToCaller        NotOwedToCaller        NotOwedToCaller
        SettleCommitment ua/mfa  NotFound   ok                     ok                     ok
        CorrectRecord    kr/mfa  NotFound   ok                     ok                     ok
        CorrectRecord    ua/mfa  NotFound   NotCorrectable         ok                     ok
        """;

    public static TheoryData<CallState, string, string> EveryWrite =>
        [
            .. from method in V1.CallLogService.Descriptor.Methods
            where !method.Name.StartsWith("Get") && !method.Name.StartsWith("List")
            from side in (string[])[Kr, Ua]
            from state in States
            select (state, method.Name, side),
        ];

    [Theory, MemberData(nameof(EveryWrite))]
    public void A_write_is_legal_or_refused_by_name(CallState state, string method, string side)
    {
        var row = Assert.Single(
            Writes.Split('\n').Select(r => r.Split(' ', StringSplitOptions.RemoveEmptyEntries)),
            r => r[0] == method && r[1] == side
        );
        Assert.Equal(2 + States.Length, row.Length);
        var expected = row[2 + (int)state] is var cell && cell == "ok" ? Reason.Unspecified : Enum.Parse<Reason>(cell);
        var fixture = new CaseFixture();
        var (call, own, commitment) = Reach(fixture, state, side);
        var twin = fixture.Log(Ua, r => r.Account = Account(a => a.Commitments.Clear())).Call;

        var before = fixture.RuleRunner.Position;
        var reason = fixture.Why(
            side,
            method switch
            {
                "LogCall" => fixture.LogRequest(side),
                "SubmitReadout" => fixture.SubmitRequest(side, call),
                "AmendReadout" => fixture.AmendRequest(side, call),
                "ContestReadout" => fixture.ContestRequest(side, call, side == Kr ? Ua : Kr),
                "LinkCalls" => fixture.LinkRequest(side, call, twin),
                "SettleCommitment" => fixture.SettleRequest(side, call, commitment),
                "CorrectRecord" => fixture.CorrectRequest(side, call, own),
                _ => throw new ArgumentException($"how is {method} called?"),
            }
        );

        Assert.Equal(expected, reason);
        Assert.Equal(reason == Reason.Unspecified ? before + 1 : before, fixture.RuleRunner.Position);
    }

    [Fact]
    public void Every_row_is_of_a_write_that_there_is() =>
        Assert.All(Writes.Split('\n'), r => Assert.Contains(EveryWrite, w => w.Data.Item2 == r.Split(' ')[0]));

    /// <summary>A call in the state, the position of an entry of the side's own, and a commitment of kr/mfa's.</summary>
    private static (string Call, ulong Own, string Commitment) Reach(CaseFixture fixture, CallState state, string side)
    {
        if (state == CallState.Unspecified)
            return (Secret.OfTests.IdOf("nobody", "nothing", "call"), 0, Secret.OfTests.IdOf("nobody", "nothing", "commitment"));
        var logged = fixture.Log();
        var own = fixture.Call(logged).Readouts[0].Versions[0].Position;
        switch (state)
        {
            case CallState.Mutual:
                fixture.Submit(Ua, logged.Call);
                if (side == Ua)
                    own = fixture.Call(logged).Readouts[1].Versions[0].Position;
                break;
            case CallState.Contested:
                fixture.Contest(Ua, logged.Call, Kr);
                if (side == Ua)
                    own = fixture.Call(logged).Contests[0].Position;
                break;
        }
        Assert.Equal(state, fixture.Call(logged).State);
        return (logged.Call, own, logged.Commitments[0]);
    }

    // ---- commitments -------------------------------------------------------------------------------------------------------

    private static readonly CommitmentState[] CommitmentStates = Enum.GetValues<CommitmentState>()[1..];

    /// <summary>Where each happening leads a commitment of kr/mfa's, or why it is refused; the columns are its states, from OPEN.
    /// </summary>
    private const string Happenings = """
        kept-by-owed        Kept      Kept      CommitmentAlreadySettled CommitmentAlreadySettled CommitmentAlreadySettled Kept
        released-by-owed    Released  Released  CommitmentAlreadySettled CommitmentAlreadySettled CommitmentAlreadySettled Released
        superseded-by-owed  Superseded Superseded CommitmentAlreadySettled CommitmentAlreadySettled CommitmentAlreadySettled Superseded
        kept-by-maker       NotOwedToCaller NotOwedToCaller NotOwedToCaller NotOwedToCaller      NotOwedToCaller          NotOwedToCaller
        time-passes         Overdue   Overdue   Kept                     Released                 Superseded               Suspended
        one-draft-submitted Open      Overdue   Kept                     Released                 Superseded               Suspended
        all-drafts-submitted Kept     Kept      Kept                     Released                 Superseded               Kept
        drafts-discarded    Open      Overdue   Kept                     Released                 Superseded               Suspended
        said-by-other-side  Open      Overdue   Kept                     Released                 Superseded               Open
        settling-corrected  NotCorrectable NotCorrectable Open           Open                     Open                     NotCorrectable
        saying-corrected    Suspended Suspended Kept                     Released                 Superseded               NotCorrectable
        """;

    public static TheoryData<CommitmentState, string> EveryHappening =>
        [.. from row in Happenings.Split('\n') from state in CommitmentStates select (state, row.Split(' ')[0])];

    [Theory, MemberData(nameof(EveryHappening))]
    public void A_commitment_goes_where_its_row_says(CommitmentState state, string happening)
    {
        var row = Happenings.Split('\n').Select(r => r.Split(' ', StringSplitOptions.RemoveEmptyEntries)).Single(r => r[0] == happening);
        Assert.Equal(1 + CommitmentStates.Length, row.Length);
        var expected = row[(int)state];
        var fixture = new CaseFixture();
        var logged = fixture.Log(but: r => r.Account.Commitments.Add(Other()));
        var (call, id, other) = (logged.Call, logged.Commitments[0], logged.Commitments[1]);
        var said = fixture.Call(call).Readouts[0].Versions[0].Position;
        ReachCommitment(fixture, logged, state);

        var reason = Reason.Unspecified;
        switch (happening)
        {
            case "kept-by-owed":
                reason = fixture.Why(Ua, fixture.SettleRequest(Ua, call, id));
                break;
            case "released-by-owed":
                reason = fixture.Why(Ua, fixture.SettleRequest(Ua, call, id, SettlementKind.Released));
                break;
            case "superseded-by-owed":
                reason = fixture.Why(Ua, fixture.SettleRequest(Ua, call, id, SettlementKind.Superseded, r => r.SupersededBy = other));
                break;
            case "kept-by-maker":
                reason = fixture.Why(Kr, fixture.SettleRequest(Kr, call, id));
                break;
            case "time-passes":
                fixture.RuleRunner.Now += TimeSpan.FromDays(60);
                fixture.Sweep(call);
                break;
            case "one-draft-submitted":
                fixture.Drafted(logged, "transfer_1", First);
                fixture.Submitted(logged, "transfer_1", First);
                break;
            case "all-drafts-submitted":
                fixture.Submitted(logged, "transfer_1", First);
                fixture.Submitted(logged, "transfer_2", Second);
                break;
            case "drafts-discarded":
                fixture.Drafted(logged, "transfer_1", First);
                fixture.Discarded(logged, "transfer_1", First);
                break;
            case "said-by-other-side":
                fixture.Submit(Ua, call);
                break;
            case "settling-corrected":
                var settled = fixture.Call(call).Commitments[0].Settlements.FirstOrDefault()?.Position ?? 999;
                reason = fixture.Why(Ua, fixture.CorrectRequest(Ua, call, settled));
                break;
            case "saying-corrected":
                reason = fixture.Why(Kr, fixture.CorrectRequest(Kr, call, said));
                break;
            default:
                throw new ArgumentException(happening);
        }

        Assert.Equal(expected, reason == Reason.Unspecified ? $"{fixture.Call(call).Commitments[0].State}" : $"{reason}");
    }

    private static CommitmentTerms Other() => new() { Participant = Kr, Kind = CommitmentKind.Meet };

    private static void ReachCommitment(CaseFixture fixture, LogCallResponse logged, CommitmentState state)
    {
        var (call, id) = (logged.Call, logged.Commitments[0]);
        switch (state)
        {
            case CommitmentState.Overdue:
                fixture.RuleRunner.Now = Began + TimeSpan.FromDays(15);
                fixture.Sweep(call);
                break;
            case CommitmentState.Kept:
                fixture.Settle(Ua, call, id);
                break;
            case CommitmentState.Released:
                fixture.Settle(Ua, call, id, SettlementKind.Released);
                break;
            case CommitmentState.Superseded:
                fixture.Settle(Ua, call, id, SettlementKind.Superseded, r => r.SupersededBy = logged.Commitments[1]);
                break;
            case CommitmentState.Suspended:
                fixture.Correct(Kr, call, fixture.Call(call).Readouts[0].Versions[0].Position);
                break;
        }
        Assert.Equal(state, fixture.Call(call).Commitments[0].State);
    }
}
