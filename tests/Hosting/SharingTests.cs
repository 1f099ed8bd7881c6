using Google.Protobuf;
using Ministries.CallLog.V1;
using Ministries.Fixtures;
using Ministries.Ledger;
using Ministries.Ledger.V1;

namespace Ministries.Hosting.Tests;

/// <summary>Openings of a sealed datum to others. These tests run alone, because they stop the committing thread of the process.
/// </summary>
[Collection(nameof(Alone))]
public sealed class SharingTests(Running running) : IClassFixture<Running>
{
    [Fact]
    public async Task What_is_given_of_a_datum_that_was_erased_meanwhile_is_erased_even_if_the_call_fails()
    {
        var (request, position) = await Log();
        var next = running.Ledger.Size;
        using var go = new ManualResetEventSlim();
        var holding = await running.Hold(go);
        var sharing = Share(request, position, Guid.NewGuid().ToString());
        await Running.Until(() => Task.FromResult(running.Ledger.QueueLength == 1 || sharing.IsCompleted), "the gift waits");
        var erased = false;
        Probe.Hook = point =>
        {
            if (point == "before-take" && !erased)
                erased = running.Ledger.EraseRequest(position, CancellationToken.None).GetAwaiter().GetResult();
            else if (point == "after-commit" && erased)
                throw new InvalidOperationException("the process fails after the commit");
        };
        try
        {
            go.Set();
            await holding;
            await Running.Refused("UNAVAILABLE", () => sharing);
        }
        finally
        {
            Probe.Hook = null;
        }
        var gift = await running.Ledger.ReadEntry(next, null, Running.Cancel);
        Assert.EndsWith("/ShareSealed", EntryHeader.Parser.ParseFrom(gift!.Entry.Header).Method);
        Assert.True(gift.Entry.Parts.Single(p => p.Kind == PartKind.Request).Erased);
    }

    /// <summary>Otherwise a caller that may not see an entry would learn from the time taken whether it exists and was erased.</summary>
    [Fact]
    public async Task A_refused_call_waits_for_no_commit_although_the_datum_was_erased()
    {
        var (request, position) = await Log();
        Assert.True(await running.Ledger.EraseRequest(position, Running.Cancel));
        using var go = new ManualResetEventSlim();
        var holding = await running.Hold(go);
        try
        {
            // A request that was answered before is refused before a command is queued.
            await Running.Refused("REQUEST_ID_REUSED", () => Share(request, position, request.RequestId));
            Assert.False(holding.IsCompleted);
        }
        finally
        {
            go.Set();
            await holding;
        }
    }

    private async Task<(LogCallRequest Request, ulong Position)> Log()
    {
        var request = Running.Request();
        request.Account.Minutes = SealedForm.To("ua/mfa");
        SealedForm.In(request, "kr/mfa", Signing.Agreement(running.Folder));
        return (request, (await running.Calling("kr/mfa").LogCallAsync(request, cancellationToken: Running.Cancel)).Receipt.Position);
    }

    private Task<ShareSealedResponse> Share(LogCallRequest request, ulong position, string id) =>
        new LedgerService.LedgerServiceClient(running.As("kr/mfa"))
            .ShareSealedAsync(
                new ShareSealedRequest
                {
                    RequestId = id,
                    Actor = request.Actor,
                    Case = Running.Case,
                    Position = position,
                    Field = "account.minutes",
                    Recipient = "icrc",
                    KeyId = Signing.Of(Signing.Agreement(running.Folder), "icrc").SealingKeys[0].Id,
                    Encapsulation = ByteString.CopyFrom(new byte[1120]),
                    Secret = ByteString.CopyFrom(new byte[48]),
                    Reason = SharingReason.MedicalCare,
                    LegalBasis = "gc3-30",
                },
                cancellationToken: Running.Cancel
            )
            .ResponseAsync;
}
