using Ministries.Consular.V1;
using Ministries.Errors.V1;
using Ministries.Types.V1;
using State = Ministries.Consular.V1.TransferState;

namespace Ministries.Consular.Tests;

/// <summary>Every state × every command: what it leads to, or by which name it is refused.</summary>
public sealed class TransitionTests
{
    // The columns: drafted, discarded, submitted, under review, agreed, declined, scheduled, in transit, handed over, monitored,
    // return requested, returned, closed, suspended (from agreed), withdrawn. A state's letters: it leads there, or stays there.
    // "-": STATE_NOT_ALLOWED. "?": NOT_FOUND, a draft is not the detaining power's to know of. "x": NOT_GRANTED, since another
    // power
    // answers for the prisoner or none has handed him over yet. Other refusals stand with their names.
    private const string Table = """
                                             | DR | DI | SU | UR | AG | DE | SC | IT | HO | MO | RR | RT | CL | SP | WD
        DiscardDraft                         | DI | -  | -  | -  | -  | -  | -  | -  | -  | -  | -  | -  | -  | -  | -
        SubmitTransferRequest                | SU | -  | -  | -  | -  | -  | -  | -  | -  | -  | -  | -  | -  | -  | -
        BeginReview                          | ?  | ?  | UR | -  | -  | -  | -  | -  | -  | x  | x  | -  | -  | -  | -
        RecordTransfereeAssessment           | ?  | ?  | -  | UR | AG | -  | SC | IT | -  | x  | x  | -  | -  | SP | -
        GiveAssurance                        | -  | -  | SU | UR | AG | -  | SC | IT | -  | -  | -  | -  | -  | SP | -
        DecideTransfer                       | ?  | ?  | -  | AG | -  | -  | -  | -  | -  | x  | x  | -  | -  | AG | -
        DecideTransfer (declines)            | ?  | ?  | -  | DE | DE | -  | DE | -  | -  | x  | x  | -  | -  | DE | -
        ScheduleHandover                     | ?  | ?  | -  | -  | SC | -  | SC | -  | -  | x  | x  | -  | -  | -  | -
        BeginTransit                         | ?  | ?  | -  | -  | -  | -  | IT | -  | -  | x  | x  | -  | -  | -  | -
        AbortHandover                        | ?  | ?  | -  | -  | -  | -  | -  | AG | -  | x  | x  | -  | -  | -  | -
        ConfirmHandover                      | ?  | ?  | -  | -  | -  | -  | -  | IT | -  | x  | x  | -  | -  | -  | -
        ConfirmHandover (both)               | ?  | ?  | -  | -  | -  | -  | -  | HO | -  | x  | x  | -  | -  | -  | -
        ConfirmHandover (both, acknowledged) | ?  | ?  | HO | HO | HO | HO | HO | HO | -  | x  | x  | -  | -  | HO | HO
        SuspendTransfer                      | ?  | ?  | SP | SP | SP | -  | SP | SP | -  | x  | x  | -  | -  | -  | -
        ResumeTransfer                       | ?  | ?  | -  | -  | -  | -  | -  | -  | -  | x  | x  | -  | -  | AG | -
        WithdrawTransferRequest              | -  | -  | WD | WD | WD | -  | WD | -  | -  | -  | -  | -  | -  | WD | -
        ReportTreatmentFailure               | ?  | ?  | -  | -  | -  | -  | -  | -  | HO | MO | RR | RT | CL | -  | -
        RecordCorrectiveMeasures             | ?  | ?  | -  | -  | -  | -  | -  | -  | NoFailureReported | NoFailureReported | RR | RT | CL | -  | -
        RequestReturn                        | ?  | ?  | -  | -  | -  | -  | -  | -  | NoFailureReported | NoFailureReported | -  | -  | -  | -  | -
        WithdrawReturn                       | ?  | ?  | -  | -  | -  | -  | -  | -  | -  | -  | MO | -  | -  | -  | -
        ConfirmReturn                        | x  | x  | x  | x  | x  | x  | x  | x  | x  | -  | RR | x  | x  | x  | x
        ConfirmReturn (acknowledged)         | x  | x  | x  | x  | x  | x  | x  | x  | x  | MO | RR | x  | x  | x  | x
        CloseTransfer                        | x  | x  | -  | -  | -  | -  | -  | -  | -  | NotFinallyReleased | -  | CL | -  | -  | -
        CorrectRecord                        | DR | DI | SP | SP | SP | DE | SP | SP | HO | MO | RR | RT | CL | SP | WD
        """;

    private static readonly Dictionary<string, State> States = new()
    {
        ["DR"] = State.Drafted,
        ["DI"] = State.Discarded,
        ["SU"] = State.Submitted,
        ["UR"] = State.UnderReview,
        ["AG"] = State.Agreed,
        ["DE"] = State.Declined,
        ["SC"] = State.Scheduled,
        ["IT"] = State.InTransit,
        ["HO"] = State.HandedOver,
        ["MO"] = State.Monitored,
        ["RR"] = State.ReturnRequested,
        ["RT"] = State.Returned,
        ["CL"] = State.Closed,
        ["SP"] = State.Suspended,
        ["WD"] = State.Withdrawn,
    };

    private static readonly Dictionary<string, Func<CaseFixture, string, Reason>> Commands = new()
    {
        ["DiscardDraft"] = (s, t) => s.Try(CaseFixture.Kr, new DiscardDraftRequest { Transfer = t }, Transfers.DiscardDraft),
        ["SubmitTransferRequest"] = (s, t) =>
            s.Try(CaseFixture.Kr, new SubmitTransferRequestRequest { Transfer = t, NoteVerbale = "NV" }, Transfers.SubmitTransferRequest),
        ["BeginReview"] = (s, t) => s.Try(CaseFixture.Ua, new BeginReviewRequest { Transfer = t }, Transfers.BeginReview),
        ["RecordTransfereeAssessment"] = (s, t) => s.Try(CaseFixture.Ua, s.Assessment(t), Transfers.RecordTransfereeAssessment),
        ["GiveAssurance"] = (s, t) => s.Try(CaseFixture.Kr, s.Assurance(t), Transfers.GiveAssurance),
        ["DecideTransfer"] = (s, t) => s.TryDecide(t),
        ["DecideTransfer (declines)"] = (s, t) => s.TryDecide(t, agreed: false),
        ["ScheduleHandover"] = (s, t) => s.Try(CaseFixture.Ua, s.Schedule(t), Transfers.ScheduleHandover),
        ["BeginTransit"] = (s, t) => s.Try(CaseFixture.Ua, new BeginTransitRequest { Transfer = t }, Transfers.BeginTransit),
        ["AbortHandover"] = (s, t) => s.Try(CaseFixture.Ua, new AbortHandoverRequest { Transfer = t }, Transfers.AbortHandover),
        ["ConfirmHandover"] = (s, t) => Later(s).Try(CaseFixture.Ua, s.Confirmation(t), Transfers.ConfirmHandover),
        ["ConfirmHandover (both)"] = (s, t) => Both(s, t, () => s.Confirmation(t)),
        ["ConfirmHandover (both, acknowledged)"] = (s, t) => Both(s, t, () => s.Confirmation(t, Invariant.D1, Invariant.D2)),
        ["SuspendTransfer"] = (s, t) => s.Try(CaseFixture.Ua, new SuspendTransferRequest { Transfer = t }, Transfers.SuspendTransfer),
        ["ResumeTransfer"] = (s, t) => s.Try(CaseFixture.Ua, new ResumeTransferRequest { Transfer = t }, Transfers.ResumeTransfer),
        ["WithdrawTransferRequest"] = (s, t) =>
            s.Try(CaseFixture.Kr, new WithdrawTransferRequestRequest { Transfer = t }, Transfers.WithdrawTransferRequest),
        ["ReportTreatmentFailure"] = (s, t) =>
            s.Try(
                CaseFixture.Icrc,
                new ReportTreatmentFailureRequest { Transfer = t, Articles = { "13" } },
                Transfers.ReportTreatmentFailure
            ),
        ["RecordCorrectiveMeasures"] = (s, t) =>
            s.Try(
                CaseFixture.Ua,
                new RecordCorrectiveMeasuresRequest { Transfer = t, Failure = s.Transfer(t).Failures.FirstOrDefault()?.Id ?? "" },
                Transfers.RecordCorrectiveMeasures
            ),
        ["RequestReturn"] = (s, t) =>
            s.Try(CaseFixture.Ua, new RequestReturnRequest { Transfer = t, NoteVerbale = "NV" }, Transfers.RequestReturn),
        ["WithdrawReturn"] = (s, t) => s.Try(CaseFixture.Ua, new WithdrawReturnRequest { Transfer = t }, Transfers.WithdrawReturn),
        ["ConfirmReturn"] = (s, t) => Later(s).Try(CaseFixture.Kr, s.ReturnConfirmation(t), Transfers.ConfirmReturn),
        ["ConfirmReturn (acknowledged)"] = (s, t) =>
            Later(s).Try(CaseFixture.Kr, s.ReturnConfirmation(t, Invariant.D1), Transfers.ConfirmReturn),
        ["CloseTransfer"] = (s, t) => s.Try(CaseFixture.Kr, new CloseTransferRequest { Transfer = t }, Transfers.CloseTransfer),
        ["CorrectRecord"] = (s, t) =>
            s.Try(CaseFixture.Kr, new CorrectRecordRequest { Record = t, Position = s.Transfer(t).Acts[0].Position }, CaseFixture.Correct),
    };

    private static CaseFixture Later(CaseFixture fixture)
    {
        fixture.RuleRunner.Now += TimeSpan.FromHours(4);
        return fixture;
    }

    private static Reason Both(CaseFixture s, string t, Func<ConfirmHandoverRequest> confirmation) =>
        Later(s).Try(CaseFixture.Ua, confirmation(), Transfers.ConfirmHandover) is var first && first != Reason.Unspecified
            ? first
            : s.Try(CaseFixture.Kr, confirmation(), Transfers.ConfirmHandover);

    public static TheoryData<string, string, string> Rows()
    {
        var rows = new TheoryData<string, string, string>();
        var lines = Table
            .Split('\n', StringSplitOptions.RemoveEmptyEntries)
            .Select(l => l.Split('|').Select(c => c.Trim()).ToArray())
            .ToArray();
        foreach (var line in lines.Skip(1))
            for (var i = 1; i < line.Length; i++)
                rows.Add(line[0], lines[0][i], line[i]);
        return rows;
    }

    [Theory]
    [MemberData(nameof(Rows))]
    public void A_command_leads_on_or_is_refused_by_name(string command, string state, string expected)
    {
        Assert.Equal(expected, Outcome(command, state));
    }

    [Fact]
    public void The_table_has_every_state_and_every_command_on_a_transfer_request()
    {
        Assert.Equal(System.Enum.GetValues<State>().Where(s => s != State.Unspecified).Order(), States.Values.Order());
        var writes = V1
            .ConsularService.Descriptor.Methods.Where(m => m.InputType.FindFieldByName("etag") is not null)
            .Where(m => m.InputType.FindFieldByName("transfer") is not null || m.InputType.FindFieldByName("record") is not null)
            .Select(m => m.Name);
        Assert.Equal(writes.Order(), Commands.Keys.Select(c => c.Split(' ')[0]).Distinct().Order());
        Assert.Equal(
            Commands.Keys.SelectMany(c => States.Keys.Select(s => (c, s))).Order(),
            Rows().Select(r => r.Data).Select(r => (r.Item1, r.Item2)).Order()
        );
    }

    [Fact]
    public void The_table_agrees_with_the_states_that_the_rules_declare()
    {
        foreach (var command in Rows().Select(r => r.Data).GroupBy(r => r.Item1.Split(' ')[0]))
        {
            var rule = (Rule)typeof(Transfers).GetField(command.Key)!.GetValue(null)!;
            foreach (var cells in command.GroupBy(r => r.Item2, r => r.Item3))
            {
                var refused = cells.All(c => c is "-" or "?" or "x");
                // A hand-over is called off from SUSPENDED where it was on the way; the column's was agreed and no more.
                if (command.Key == "AbortHandover" && cells.Key == "SP")
                    Assert.Contains(State.Suspended, rule.States);
                else if (!rule.States.Contains(States[cells.Key]))
                    Assert.True(refused, $"{command.Key} is not declared from {cells.Key}");
                else
                    Assert.False(cells.All(c => c is "-"), $"{command.Key} is declared from {cells.Key}");
            }
        }
    }

    private static string Outcome(string command, string state)
    {
        var fixture = new CaseFixture();
        var transfer = fixture.To(States[state]);
        return Commands[command](fixture, transfer) switch
        {
            Reason.Unspecified => States.Single(s => s.Value == fixture.Transfer(transfer).State).Key,
            Reason.StateNotAllowed => "-",
            Reason.NotFound => "?",
            Reason.NotGranted => "x",
            var reason => reason.ToString(),
        };
    }
}
