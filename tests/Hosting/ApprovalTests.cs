using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Grpc.Core;
using Ministries.CallLog.V1;
using Ministries.Fixtures;
using Ministries.Ledger.V1;
using Ministries.Trust;
using Ministries.Types.V1;

namespace Ministries.Hosting.Tests;

/// <summary>A write for which the agreement demands two officials' approvals, through the real host.</summary>
public sealed class ApprovalTests : IAsyncLifetime
{
    private const string Method = "ministries.calllog.v1.CallLogService/LogCall";
    private readonly Running _running = new();

    public async ValueTask InitializeAsync()
    {
        await _running.InitializeAsync();
        await Next(a => a.ApprovalDemands.Add(new ApprovalDemand { Method = Method, Officials = 2 }));
    }

    public ValueTask DisposeAsync() => _running.DisposeAsync();

    private async Task Next(Action<Agreement> change)
    {
        var version = Signing.Next(_running.Folder, change).Version;
        await Running.Until(
            () => Task.FromResult(_running.Agreements.InForce.Permissions.Agreement.Version == version),
            $"version {version} is in force"
        );
    }

    private LogCallRequest Request(params int[] officials)
    {
        var request = Running.Request();
        foreach (var number in officials)
            Approve(request, "kr/mfa", number);
        return request;
    }

    private void Approve(LogCallRequest request, string participant, int number)
    {
        using var key = Signing.KeyIn(
            Path.Combine(_running.Folder, participant, "officials", $"{participant.Replace('/', '-')}-official-{number}.key")
        );
        Approvals.Add(
            request,
            Signing.Agreement(_running.Folder).TrustDomain,
            Signing.Agreement(_running.Folder).Participants.Single(p => p.Id == participant),
            key,
            "legal"
        );
    }

    [Fact]
    public async Task A_write_that_enough_officials_signed_is_accepted_and_kept_with_their_signatures()
    {
        var request = Request(1, 2);
        var answer = await _running.Calling("kr/mfa").LogCallAsync(request, cancellationToken: Running.Cancel);
        var entry = await _running.Ledger.ReadEntry(answer.Receipt.Position, null, Running.Cancel);
        Assert.Equal(request.ToByteArray(), entry!.Entry.Parts.Single(p => p.Kind == PartKind.Request).Data.ToByteArray());
    }

    [Fact]
    public async Task Too_few_or_the_same_official_twice_or_the_actor_himself_is_not_enough()
    {
        await Few(0, Request());
        await Few(1, Request(1));
        await Few(1, Request(1, 1));
        var own = Running.Request();
        own.Actor.Official = "kr-mfa-official-1";
        Approve(own, "kr/mfa", 1);
        Approve(own, "kr/mfa", 2);
        await Few(1, own);

        async Task Few(int given, LogCallRequest request)
        {
            var (info, status) = await Refused("APPROVALS_MISSING", request);
            Assert.Equal(("2", $"{given}"), (info.Metadata["demanded"], info.Metadata["given"]));
            Assert.Equal(StatusCode.FailedPrecondition, (StatusCode)status.Code);
        }
    }

    public static TheoryData<string, string> Wanting =>
        new()
        {
            { "no approval", "APPROVALS_MISSING" },
            { "one approval too few", "APPROVALS_MISSING" },
            { "an approval of other content", "APPROVAL_WRONG" },
            { "another participant's official", "APPROVAL_NOT_OF_CALLER" },
            { "another official's name", "APPROVAL_NOT_OF_OFFICIAL" },
            { "a key for requests", "APPROVAL_KEY_UNKNOWN" },
            { "a field at fault", "REQUEST_INVALID" },
            { "no case that is known", "NOT_FOUND" },
        };

    [Theory]
    [MemberData(nameof(Wanting))]
    public async Task A_refused_request_is_accepted_under_the_same_request_id_once_it_is_corrected(string wanting, string reason)
    {
        var good = Request(1, 2);
        var wrong = good.Clone();
        switch (wanting)
        {
            case "no approval":
                wrong.Approvals.Clear();
                break;
            case "one approval too few":
                wrong.Approvals.RemoveAt(1);
                break;
            case "an approval of other content":
                wrong.Counterpart = "ua/coordination-hq";
                break;
            case "another participant's official":
                Approve(wrong, "ua/mfa", 1);
                break;
            case "another official's name":
                wrong.Approvals[0].Official = "kr-mfa-official-3";
                break;
            case "a key for requests":
                wrong.Approvals[0].KeyId = "kr/mfa/requests-1";
                break;
            case "a field at fault":
                wrong.Account.StartTime.TimeZone = "KST";
                break;
            // A rule's refusal is final (D21).
            case "no case that is known":
                wrong.Case = "case_0000000000000000000000000z";
                break;
        }
        if (reason == "NOT_FOUND")
        {
            wrong.Approvals.Clear();
            Approve(wrong, "kr/mfa", 1);
            Approve(wrong, "kr/mfa", 2);
            await Refused(reason, wrong);
            await Refused("REQUEST_ID_REUSED", good);
            return;
        }
        var size = _running.Ledger.Size;
        await Refused(reason, wrong);
        await Refused(reason, wrong);
        Assert.Equal(size, _running.Ledger.Size);
        Assert.NotEmpty((await _running.Calling("kr/mfa").LogCallAsync(good, cancellationToken: Running.Cancel)).Call);
    }

    [Fact]
    public async Task An_approval_that_is_wrong_refuses_the_whole_request_by_name_and_nothing_is_stored()
    {
        var size = _running.Ledger.Size;
        var altered = Request(1, 2);
        altered.Counterpart = "ua/coordination-hq";
        await Refused("APPROVAL_WRONG", altered);
        var again = Request(1, 2);
        again.RequestId = Guid.NewGuid().ToString();
        await Refused("APPROVAL_WRONG", again);
        var foreign = Request(1, 2);
        Approve(foreign, "ua/mfa", 1);
        var (info, _) = await Refused("APPROVAL_NOT_OF_CALLER", foreign);
        Assert.Equal("approvals[2]", info.Metadata["field"]);
        var renamed = Request(1, 2);
        renamed.Approvals[0].Official = "kr-mfa-official-3";
        await Refused("APPROVAL_NOT_OF_OFFICIAL", renamed);
        var unknown = Request(1, 2);
        unknown.Approvals[0].KeyId = "kr/mfa/requests-1";
        await Refused("APPROVAL_KEY_UNKNOWN", unknown);
        var unsigned = Request(1, 2);
        unsigned.Approvals[1].Signature = ByteString.Empty;
        var (_, status) = await Refused("REQUEST_INVALID", unsigned);
        Assert.Equal(["approvals[1].signature"], Running.FaultsOf(status));
        Assert.Equal(size, _running.Ledger.Size);
    }

    [Fact]
    public async Task A_revoked_officials_approval_no_longer_counts_but_earlier_writes_stand()
    {
        var request = Request(1, 2);
        var client = _running.Calling("kr/mfa");
        var first = await client.LogCallAsync(request, cancellationToken: Running.Cancel);
        var waiting = Request(1, 2);
        await Next(a =>
            a.Participants.Single(p => p.Id == "kr/mfa").SigningKeys.Single(k => k.Official == "kr-mfa-official-2").RevokeTime =
                DateTimeOffset.UtcNow.AddSeconds(-1).ToTimestamp()
        );
        await Refused("APPROVAL_KEY_NOT_VALID", waiting);
        var second = await client.LogCallAsync(request, cancellationToken: Running.Cancel);
        Assert.Equal((first.Call, first.Receipt.Position), (second.Call, second.Receipt.Position));
    }

    private Task<(Google.Rpc.ErrorInfo Info, Google.Rpc.Status Status)> Refused(string reason, LogCallRequest request) =>
        Running.Refused(reason, () => _running.Calling("kr/mfa").LogCallAsync(request, cancellationToken: Running.Cancel).ResponseAsync);
}
