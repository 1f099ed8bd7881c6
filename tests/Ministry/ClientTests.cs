using System.Collections.Concurrent;
using Grpc.Core;
using Ministries.CallLog.V1;
using Ministries.Consular.V1;
using Ministries.Custody.V1;
using Ministries.Ledger.V1;
using Ministries.Types.V1;
using static Ministries.Ministry.Tests.Services;

namespace Ministries.Ministry.Tests;

/// <summary>A ministry's client against the real services.</summary>
public class ClientTests(Services services) : IClassFixture<Services>
{
    [Fact]
    public async Task A_call_that_is_logged_leads_to_drafts_that_the_requesting_side_alone_sees()
    {
        var (kr, ua) = (services.As("kr/mfa"), services.As("ua/mfa"));

        var logged = await kr.CallLog.LogCallAsync(services.Call(), cancellationToken: Cancel);

        Assert.Equal("calllog", logged.Receipt.Service);
        await Until(async () => (await CallAs(kr, logged.Call)).Commitments[0].Requests.Count == 2);
        Assert.Empty((await CallAs(ua, logged.Call)).Commitments[0].Requests);
        Assert.Equal(2, (await TransfersAs(kr, logged.Call)).Count);
        Assert.Empty(await TransfersAs(ua, logged.Call));
    }

    [Fact]
    public async Task The_same_object_sent_again_is_the_same_write()
    {
        var kr = services.As("kr/mfa");
        var request = services.Call();

        var first = await kr.CallLog.LogCallAsync(request, cancellationToken: Cancel);
        var again = await kr.CallLog.LogCallAsync(request, cancellationToken: Cancel);

        Assert.NotEmpty(request.RequestId);
        Assert.Equal((first.Call, first.Receipt.Position), (again.Call, again.Receipt.Position));
        var other = await kr.CallLog.LogCallAsync(services.Call(), cancellationToken: Cancel);
        Assert.NotEqual(first.Call, other.Call);
    }

    [Fact]
    public async Task Officials_approve_a_plain_request_and_the_client_sends_it()
    {
        var kr = services.As("kr/mfa");
        var request = services.Call();
        foreach (var number in (int[])[2, 3])
            kr.Approve(request, Path.Combine(services.Folder, "kr/mfa/officials", $"kr-mfa-official-{number}.key"), "legal-department");
        Assert.NotEmpty((await kr.CallLog.LogCallAsync(request, cancellationToken: Cancel)).Call);
        var altered = services.Call();
        kr.Approve(altered, Path.Combine(services.Folder, "kr/mfa/officials/kr-mfa-official-2.key"), "legal-department");
        altered.Actor.Authority = "order-13";
        Assert.Equal(
            "APPROVAL_WRONG",
            (
                await Assert.ThrowsAsync<RefusedException>(async () => await kr.CallLog.LogCallAsync(altered, cancellationToken: Cancel))
            ).Reason
        );
    }

    [Fact]
    public async Task A_refusal_says_what_stands_behind_it_and_what_would_unlock_it()
    {
        var refused = await Assert.ThrowsAsync<RefusedException>(async () =>
            await services.As("icrc").CallLog.LogCallAsync(services.Call(), cancellationToken: Cancel)
        );
        Assert.Equal(("NO_CAPACITY", "AGREEMENT", StatusCode.PermissionDenied), (refused.Reason, refused.Basis, refused.StatusCode));
        Assert.All((string[])[refused.Article, refused.Missing, refused.Supplier, refused.Unlock], Assert.NotEmpty);
        Assert.Contains("unlock:", refused.ToText());
    }

    [Fact]
    public async Task A_refusal_of_the_form_names_each_field()
    {
        var request = services.Call();
        request.Account.Channel = Channel.Unspecified;
        request.Counterpart = "not a participant";
        var refused = await Assert.ThrowsAsync<RefusedException>(async () =>
            await services.As("kr/mfa").CallLog.LogCallAsync(request, cancellationToken: Cancel)
        );
        Assert.Equal("REQUEST_INVALID", refused.Reason);
        Assert.Equal(["account.channel", "counterpart"], refused.Faults.Select(f => f.Field).Order());
    }

    [Fact]
    public async Task A_service_that_is_not_the_expected_one_is_not_called()
    {
        var wrong = services.As(
            "kr/mfa",
            s => s with { Services = new Dictionary<string, Uri> { ["calllog"] = services.Addresses["custody"] } }
        );
        var failed = await Assert.ThrowsAsync<RpcException>(async () =>
            await wrong.CallLog.GetCallAsync(new GetCallRequest { Call = "call_0" }, cancellationToken: Cancel)
        );
        Assert.Null(RefusedException.From(failed));
    }

    [Fact]
    public void A_certificate_or_key_that_is_not_the_agreements_is_refused_before_anybody_is_called()
    {
        var of = MinistrySettings.In(services.Folder, "kr/mfa", services.Addresses);
        Assert.Throws<FormatException>(() =>
            new MinistryClient(of with { RequestsKey = Path.Combine(services.Folder, "ua/mfa", "requests.key") })
        );
        Assert.Throws<FormatException>(() =>
            new MinistryClient(
                of with
                {
                    Certificate = Path.Combine(services.Folder, "kr/mfa", "authority.pem"),
                    CertificateKey = Path.Combine(services.Folder, "kr/mfa", "authority.key"),
                }
            )
        );
    }

    [Fact]
    public async Task A_method_is_called_by_its_descriptor()
    {
        var answer = (GetCheckpointResponse)
            await services.As("kr/mfa").Call("consular", Contract.Find("consular", "getcheckpoint")!, new GetCheckpointRequest(), Cancel);
        Assert.True(answer.TreeSize > 0);
    }

    [Fact]
    public async Task Entries_are_followed_each_once_and_every_part_is_the_one_its_header_names()
    {
        var kr = services.As("kr/mfa");
        var logged = await kr.CallLog.LogCallAsync(services.Call(), cancellationToken: Cancel);
        var positions = new List<ulong>();
        LedgerEntry? own = null;
        await foreach (var response in kr.Follow("calllog", untilNow: true, cancel: Cancel))
        {
            if (response.Entry is not { } entry)
                continue;
            var read = LedgerEntry.Read(entry);
            Assert.True(read.Holds);
            positions.Add(read.Header.Position);
            if (read.Header.Position == logged.Receipt.Position)
                own = read;
        }
        Assert.Equal(positions.Distinct().Order(), positions);
        Assert.Equal("ministries.calllog.v1.CallLogged", Assert.Single(own!.Published).Type);
        Assert.Contains(own.Parts, p => p.Content is LogCallRequest);

        var tampered = new Entry();
        await foreach (var response in kr.Follow("calllog", logged.Receipt.Position, untilNow: true, cancel: Cancel))
            if (response.Entry is { } entry)
            {
                tampered = entry.Clone();
                break;
            }
        tampered.Parts[0].Salt = Google.Protobuf.ByteString.CopyFrom(new byte[32]);
        Assert.False(LedgerEntry.Read(tampered).Holds);
    }

    /// <summary>A ministry or an observer follows all year, and cases come to it. That is no gap, and nothing of the case is lost to
    /// it.</summary>
    [Fact]
    public async Task Who_is_admitted_to_a_case_while_it_follows_is_told_what_was_recorded_of_it_before()
    {
        var (hq, kr) = (services.As("ua/coordination-hq"), services.As("kr/mfa"));
        using var end = CancellationTokenSource.CreateLinkedTokenSource(Cancel);
        var told = new ConcurrentQueue<ulong>();
        var following = Follow();
        await Until(async () => told.Count >= (await Shown()).Count);

        var opened = await hq.Custody.OpenCaseAsync(new OpenCaseRequest { Actor = Services.Actor }, cancellationToken: Cancel);
        var etag = opened.Etag;
        foreach (
            var (party, part) in (ReadOnlySpan<(string, Part)>)
                [("icrc", Part.NeutralObserver), ("kr/mfa", Part.RequestingState), ("ua/mfa", Part.DetainingPower)]
        )
            etag = Admit(party, part, etag);

        var all = await Shown();
        Assert.Contains(opened.Receipt.Position, all);
        await Until(() => Task.FromResult(told.Count >= all.Count || following.IsCompleted));
        Assert.Equal(all, told.Order());
        await end.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => following);

        async Task Follow()
        {
            await foreach (var response in kr.Follow("custody", cancel: end.Token))
                if (response.Entry is { } entry)
                    told.Enqueue(LedgerEntry.Read(entry).Header.Position);
        }

        async Task<List<ulong>> Shown()
        {
            var positions = new List<ulong>();
            await foreach (var response in kr.Follow("custody", untilNow: true, cancel: Cancel))
                if (response.Entry is { } entry)
                    positions.Add(LedgerEntry.Read(entry).Header.Position);
            return positions;
        }

        string Admit(string party, Part part, string seen) =>
            hq
                .Custody.AdmitParty(
                    new AdmitPartyRequest
                    {
                        Actor = Services.Actor,
                        Etag = seen,
                        Case = opened.Case,
                        Participant = party,
                        Part = part,
                    },
                    cancellationToken: Cancel
                )
                .Etag;
    }

    private static async Task<Call> CallAs(MinistryClient client, string call) =>
        (await client.CallLog.GetCallAsync(new GetCallRequest { Call = call }, cancellationToken: Cancel)).Call;

    private static async Task<IReadOnlyCollection<Transfer>> TransfersAs(MinistryClient client, string call) =>
        (await client.Consular.ListTransfersAsync(new ListTransfersRequest { Call = call }, cancellationToken: Cancel)).Transfers;
}
