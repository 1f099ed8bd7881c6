using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Ministries.CallLog.V1;
using Ministries.Errors.V1;
using Ministries.Fixtures;
using Ministries.Types.V1;
using NSec.Cryptography;

namespace Ministries.Trust.Tests;

/// <summary>Every way in which an official's approval can be wrong, and what counts.</summary>
public sealed class ApprovalsTests : IDisposable
{
    private const string Method = "ministries.calllog.v1.CallLogService/LogCall";
    private static readonly DateTimeOffset Now = new(2025, 3, 17, 9, 0, 0, TimeSpan.Zero);

    private const string Domain = "ministries.example";

    private readonly List<Key> _keys = [];
    private readonly Agreement _agreement = StandardAgreement.Read();
    private readonly Key _park;
    private readonly Key _lee;

    public ApprovalsTests()
    {
        _park = List("kr/mfa", "kr/mfa/approvals-1", "park");
        _lee = List("kr/mfa", "kr/mfa/approvals-2", "lee");
    }

    public void Dispose() => _keys.ForEach(k => k.Dispose());

    private Key List(string participant, string id, string official, SigningKeyUse use = SigningKeyUse.Approvals)
    {
        var key = Key.Create(SignatureAlgorithm.Ed25519);
        _keys.Add(key);
        Of(participant)
            .SigningKeys.Add(
                new SigningKey
                {
                    Id = id,
                    Use = use,
                    Official = official,
                    PublicKey = ByteString.CopyFrom(key.PublicKey.Export(KeyBlobFormat.RawPublicKey)),
                }
            );
        return key;
    }

    private Participant Of(string id) => _agreement.Participants.Single(p => p.Id == id);

    private SigningKey Listed(string id) => _agreement.Participants.SelectMany(p => p.SigningKeys).Single(k => k.Id == id);

    private static LogCallRequest Request() =>
        new()
        {
            RequestId = "request-00000001",
            Counterpart = "ua/mfa",
            Actor = new Actor
            {
                Office = "desk",
                Official = "han",
                Authority = "order-1",
            },
        };

    private LogCallRequest Approved()
    {
        var request = Request();
        Approvals.Add(request, Domain, Of("kr/mfa"), _park, "minister");
        Approvals.Add(request, Domain, Of("kr/mfa"), _lee, "legal");
        return request;
    }

    private (IReadOnlySet<string> Officials, Reason Why) Judge(
        LogCallRequest request,
        string method = Method,
        string caller = "kr/mfa",
        byte[]? bytes = null,
        string service = "calllog"
    )
    {
        var (officials, refusal) = Approvals.Check(
            request.Approvals,
            method,
            bytes ?? request.ToByteArray(),
            Of(caller),
            new Permissions(_agreement),
            Now,
            service
        );
        return (officials, refusal?.Reason ?? Reason.Unspecified);
    }

    [Fact]
    public void Officials_who_signed_this_request_are_counted_each_once()
    {
        var request = Approved();
        Approvals.Add(request, Domain, Of("kr/mfa"), _lee, "legal");
        var (officials, why) = Judge(request);
        Assert.Equal(Reason.Unspecified, why);
        Assert.Equal(["lee", "park"], officials.Order());
        Assert.Empty(Judge(Request()).Officials);
    }

    [Fact]
    public void An_approval_is_of_the_bytes_as_they_are_sent_whatever_wrote_them()
    {
        var request = Approved();
        // The approvals first and apart, then the other fields: the same without field 4.
        byte[] first = [.. new LogCallRequest { Approvals = { request.Approvals[0] } }.ToByteArray()];
        byte[] last = [.. new LogCallRequest { Approvals = { request.Approvals[1] } }.ToByteArray()];
        Assert.Equal(Reason.Unspecified, Judge(request, bytes: [.. first, .. Request().ToByteArray(), .. last]).Why);
        Assert.Equal(Reason.ApprovalWrong, Judge(request, bytes: [.. request.ToByteArray(), 0x38, 0x00]).Why);
    }

    public static TheoryData<string, Reason> Wrong() =>
        new()
        {
            { "the content was altered", Reason.ApprovalWrong },
            { "the request id is another", Reason.ApprovalWrong },
            { "the authority of the actor was altered", Reason.ApprovalWrong },
            { "the office is another", Reason.ApprovalWrong },
            { "the method is another", Reason.ApprovalWrong },
            { "the service is another", Reason.ApprovalWrong },
            { "the trust domain is another", Reason.ApprovalWrong },
            { "the signature is cut", Reason.ApprovalWrong },
            { "the signature is another official's", Reason.ApprovalWrong },
            { "the official is another than the key's", Reason.ApprovalNotOfOfficial },
            { "the key is no official's", Reason.ApprovalNotOfOfficial },
            { "the key is another participant's", Reason.ApprovalNotOfCaller },
            { "the caller is another participant", Reason.ApprovalNotOfCaller },
            { "the key is not listed", Reason.ApprovalKeyUnknown },
            { "the key is for requests", Reason.ApprovalKeyUnknown },
            { "the key is not valid yet", Reason.ApprovalKeyNotValid },
            { "the key has ended", Reason.ApprovalKeyNotValid },
            { "the key is revoked", Reason.ApprovalKeyNotValid },
        };

    [Theory]
    [MemberData(nameof(Wrong))]
    public void One_approval_that_is_wrong_refuses_the_request_and_nobody_is_counted(string what, Reason reason)
    {
        var request = Approved();
        var approval = request.Approvals[1];
        var (method, caller, service) = (Method, "kr/mfa", "calllog");
        switch (what)
        {
            case "the content was altered":
                request.Counterpart = "ua/coordination-hq";
                break;
            case "the request id is another":
                request.RequestId = "request-00000002";
                break;
            case "the authority of the actor was altered":
                request.Actor.Authority = "order-2";
                break;
            case "the office is another":
                approval.Office = "minister";
                break;
            case "the method is another":
                method = "ministries.calllog.v1.CallLogService/SubmitReadout";
                break;
            case "the service is another":
                service = "custody";
                break;
            case "the trust domain is another":
                _agreement.TrustDomain = "other.example";
                break;
            case "the signature is cut":
                approval.Signature = ByteString.CopyFrom(approval.Signature.Span[..63]);
                break;
            case "the signature is another official's":
                approval.Signature = request.Approvals[0].Signature;
                break;
            case "the official is another than the key's":
                approval.Official = "choi";
                break;
            case "the key is no official's":
                Listed(approval.KeyId).Official = "";
                approval.Official = "";
                break;
            case "the key is another participant's":
                var key = List("ua/mfa", "ua/mfa/approvals-1", "lee");
                request.Approvals.RemoveAt(1);
                Approvals.Add(request, Domain, Of("ua/mfa"), key, "legal");
                break;
            case "the caller is another participant":
                caller = "ua/mfa";
                break;
            case "the key is not listed":
                approval.KeyId = "kr/mfa/approvals-9";
                break;
            case "the key is for requests":
                Listed(approval.KeyId).Use = SigningKeyUse.Requests;
                break;
            case "the key is not valid yet":
                Listed(approval.KeyId).ValidFromTime = Now.AddSeconds(1).ToTimestamp();
                break;
            case "the key has ended":
                Listed(approval.KeyId).ValidUntilTime = Now.ToTimestamp();
                break;
            case "the key is revoked":
                Listed(approval.KeyId).RevokeTime = Now.ToTimestamp();
                break;
            default:
                Assert.Fail(what);
                break;
        }
        var (officials, why) = Judge(request, method, caller, service: service);
        Assert.Equal(reason, why);
        Assert.Empty(officials);
    }

    [Fact]
    public void A_request_is_not_approved_before_it_has_an_id_nor_with_a_key_that_is_not_listed()
    {
        Assert.Throws<ArgumentException>(() => Approvals.Add(new LogCallRequest(), Domain, Of("kr/mfa"), _park, "minister"));
        Assert.Throws<ArgumentException>(() => Approvals.Add(new GetCallRequest(), Domain, Of("kr/mfa"), _park, "minister"));
        Assert.Throws<FormatException>(() => Approvals.Add(Request(), Domain, Of("ua/mfa"), _park, "minister"));
    }

    [Theory]
    [InlineData(2u, new string[0], Reason.ApprovalsMissing)]
    [InlineData(2u, new[] { "park" }, Reason.ApprovalsMissing)]
    [InlineData(2u, new[] { "park", "han" }, Reason.ApprovalsMissing)]
    [InlineData(2u, new[] { "park", "lee" }, Reason.Unspecified)]
    [InlineData(1u, new[] { "park", "han" }, Reason.Unspecified)]
    [InlineData(0u, new string[0], Reason.Unspecified)]
    public void The_rule_counts_those_who_were_verified_and_not_the_actor(uint demanded, string[] approved, Reason reason)
    {
        if (demanded > 0)
            _agreement.ApprovalDemands.Add(new ApprovalDemand { Method = Method, Officials = demanded });
        // The names that the request itself carries count for nothing.
        var request = Request();
        request.Approvals.Add([new Approval { Official = "a" }, new Approval { Official = "b" }]);
        var permissions = new Permissions(_agreement);
        var context = new RuleContext
        {
            View = new View(),
            Secrets = Secret.OfTests,
            Caller = permissions.Participant("kr/mfa")!,
            Permissions = permissions,
            Method = Method,
            RequestId = request.RequestId,
            Now = Now,
            Approved = approved.ToHashSet(),
        };
        var @case = new Custody.V1.Case { Id = "case_1", State = Custody.V1.CaseState.Open };
        @case.Parties.Add(
            new Custody.V1.CaseParty
            {
                Participant = "kr/mfa",
                Part = Part.RequestingState,
                State = "KR",
            }
        );
        Assert.Equal(reason, Gate.Check(context, request, @case)?.Reason ?? Reason.Unspecified);
    }
}
