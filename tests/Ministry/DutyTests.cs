using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Ministries.Consular.V1;

namespace Ministries.Ministry.Tests;

/// <summary>What a record asks for next, and that it asks for nothing that nobody owes.</summary>
public class DutyTests
{
    private static readonly Timestamp Due = new() { Seconds = 1 };

    [Theory]
    [InlineData(TransferState.Monitored, false, "record measures, or request return")]
    [InlineData(TransferState.Closed, false, "record measures, or request return")]
    [InlineData(TransferState.ReturnRequested, true, "confirm the return")]
    [InlineData(TransferState.ReturnRequested, false, "")]
    [InlineData(TransferState.Returned, false, "")]
    public void A_transfer_asks_for_measures_or_return_while_they_are_owed(TransferState state, bool due, string asked)
    {
        var transfer = new Transfer
        {
            Id = "transfer_1",
            State = state,
            DetainingPower = "UA",
            ReturningPower = "KR",
            ReturnDueTime = due ? Due : null,
            ReturnTime = state == TransferState.Returned ? Due : null,
            Failures =
            {
                new TreatmentFailure { Id = "failure_1", MeasuresDueTime = Due },
            },
        };
        Assert.Equal(asked.Length > 0 ? [asked] : (string[])[], Asked(transfer));
    }

    /// <summary>The request was withdrawn after the other side had said that it was carried out.</summary>
    [Fact]
    public void A_transfer_asks_for_the_second_confirmation_of_a_return_whose_request_was_withdrawn()
    {
        var transfer = new Transfer
        {
            Id = "transfer_1",
            State = TransferState.Monitored,
            DetainingPower = "UA",
            ReturningPower = "KR",
            SecondConfirmationDueTime = Due,
        };
        Assert.Equal(["confirm the return"], Asked(transfer));
    }

    [Theory]
    [InlineData(true), InlineData(false)]
    public void Access_asks_for_a_decision_while_somebody_owes_it(bool due)
    {
        var access = new Access
        {
            Id = "access_1",
            State = AccessState.Requested,
            Participant = "kr/mfa",
            DetainingPower = "UA",
            DecisionDueTime = due ? Due : null,
        };
        Assert.Equal(due ? ["decide on the access that kr/mfa asks for"] : (string[])[], Asked(access));
    }

    private static IEnumerable<string> Asked(IMessage record) => Duties.Of([record]).Select(d => d.What);
}
