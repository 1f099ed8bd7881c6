using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Grpc.Core;
using Ministries.CallLog.V1;
using Ministries.Custody.V1;
using Ministries.Fixtures;
using Ministries.Ledger.V1;
using Ministries.Trust;
using static Ministries.Ministry.Tests.Services;

namespace Ministries.Ministry.Tests;

/// <summary>A later contract has one more field, value and RPC. Its client calls today's services, and today's client calls its services,
/// with the bytes of the later contract on the wire.</summary>
public class UpgradeTests(Services services) : IClassFixture<Services>
{
    // Field 99, a message with one field, which today's contract does not have.
    private static readonly byte[] Field99 = [0x9a, 0x06, 0x02, 0x08, 0x01];

    [Fact]
    public async Task A_later_client_is_refused_by_todays_service_with_the_numbers_of_what_it_does_not_know_and_nothing_is_recorded()
    {
        using var client = services.As("kr/mfa");
        var before = (await client.LedgerOf("calllog").GetCheckpointAsync(new(), cancellationToken: Cancel)).TreeSize;

        var field = With99(services.Call());
        Assert.Equal(["#99"], (await Refused(field)).Faults.Select(f => f.Field));

        var nested = services.Call();
        nested.Account = With99(nested.Account);
        Assert.Equal(["account.#99"], (await Refused(nested)).Faults.Select(f => f.Field));

        var value = services.Call();
        value.Account.Channel = (Channel)99;
        Assert.Equal(["account.channel"], (await Refused(value)).Faults.Select(f => f.Field));

        var rpc = new Method<CloseCaseRequest, CloseCaseResponse>(
            MethodType.Unary,
            "ministries.custody.v1.CustodyService",
            "ArchiveCase",
            Marshallers.Create(m => m.ToByteArray(), CloseCaseRequest.Parser.ParseFrom),
            Marshallers.Create(m => m.ToByteArray(), CloseCaseResponse.Parser.ParseFrom)
        );
        var unknown = await Assert.ThrowsAnyAsync<RpcException>(async () =>
            await client["custody"].AsyncUnaryCall(rpc, null, new CallOptions(cancellationToken: Cancel), new CloseCaseRequest())
        );
        Assert.Equal(StatusCode.Unimplemented, unknown.StatusCode);

        Assert.Equal(before, (await client.LedgerOf("calllog").GetCheckpointAsync(new(), cancellationToken: Cancel)).TreeSize);
        // The same client can go on with what both contracts know.
        Assert.StartsWith("call_", (await client.CallLog.LogCallAsync(services.Call(), cancellationToken: Cancel)).Call);

        async Task<RefusedException> Refused(LogCallRequest request)
        {
            var refused = await Assert.ThrowsAsync<RefusedException>(async () =>
                await client.CallLog.LogCallAsync(request, cancellationToken: Cancel)
            );
            Assert.Equal("REQUEST_INVALID", refused.Reason);
            return refused;
        }
    }

    [Fact]
    public async Task Todays_client_reads_what_a_later_service_answers_and_loses_nothing_of_it()
    {
        using var client = services.As("kr/mfa");
        (GetCallResponse? Got, LogCallResponse? Logged) sent = (null, null);
        services.Later = answer =>
            answer switch
            {
                // An unknown state, and one more field in the answer, in its record and in its receipt.
                GetCallResponse got => sent.Got = With99(
                    Merged(got, new GetCallResponse { Call = With99(new Call { State = (CallState)99 }) })
                ),
                LogCallResponse logged => sent.Logged = Recorded(With99(logged)),
                // The services get such answers from each other too.
                _ => With99((dynamic)answer),
            };
        try
        {
            // The client accepts an answer only with a valid receipt.
            var logged = await client.CallLog.LogCallAsync(services.Call(), cancellationToken: Cancel);
            Assert.StartsWith("call_", logged.Call);
            Receipts.Shorten(sent.Logged!.Receipt);
            Assert.Equal(sent.Logged!.ToByteArray(), logged.ToByteArray());

            var got = await client.CallLog.GetCallAsync(new GetCallRequest { Call = logged.Call }, cancellationToken: Cancel);
            Assert.Equal((logged.Call, (CallState)99), (got.Call.Id, got.Call.State));
            Assert.Equal(services.Prisoners, got.Call.Commitments.Single().Terms.Prisoners);
            Assert.Equal(sent.Got!.ToByteArray(), got.ToByteArray());
            // The command shows the value by its number.
            Assert.Contains("99", Contract.Formatter.Format(got));

            var status = await services.As("operator").OperationsOf("custody").GetStatusAsync(new(), cancellationToken: Cancel);
            Assert.Equal("custody", status.Service);
        }
        finally
        {
            services.Later = null;
        }

        // The later service has recorded the answer as it gives it.
        LogCallResponse Recorded(LogCallResponse later)
        {
            var recorded = later.Clone();
            recorded.Receipt = null;
            var answer = new Answer { Response = Any.Pack(recorded) };
            later.Receipt = With99(Forgery.Of(services.Folder, later.Receipt, (h, r) => Forgery.Answer(h, r, answer)));
            return later;
        }
    }

    [Fact]
    public void Todays_client_shows_an_entry_of_an_RPC_that_it_does_not_know()
    {
        const string Later = "type.googleapis.com/ministries.custody.v1.ArchiveCaseResponse";
        var header = new EntryHeader
        {
            Position = 7,
            Method = "ministries.custody.v1.CustodyService/ArchiveCase",
            CommitTime = new Timestamp { Seconds = 1742198400 },
        };
        var answer = new Answer
        {
            Response = new Any { TypeUrl = Later, Value = ByteString.CopyFrom(8, 1) },
        };
        var entry = new Entry
        {
            Parts =
            {
                new EntryPart
                {
                    Kind = PartKind.Answer,
                    Salt = Forgery.Put(header, PartKind.Answer, answer.ToByteArray()),
                    Data = answer.ToByteString(),
                },
            },
        };
        entry.Header = header.ToByteString();

        var shown = LedgerEntry.Read(entry);

        Assert.True(shown.Holds);
        var response = shown.ToJson()["parts"]!["answer"]!["response"]!;
        Assert.Equal((Later, "CAE="), ((string?)response["@type"], (string?)response["value"]));
    }

    [Fact]
    public async Task A_reason_that_todays_client_does_not_know_is_a_refusal_with_all_that_was_said()
    {
        using var client = services.As("kr/mfa");
        services.Later = _ =>
            throw new Google.Rpc.Status
            {
                Code = (int)Google.Rpc.Code.FailedPrecondition,
                Message = "a rule of a later agreement",
                Details =
                {
                    Any.Pack(
                        new Google.Rpc.ErrorInfo
                        {
                            Domain = "ministries",
                            Reason = "A_LATER_REASON",
                            Metadata = { ["source"] = "Art. 12 bis", ["missing"] = "a form" },
                        }
                    ),
                },
            }.ToRpcException();
        try
        {
            var refused = await Assert.ThrowsAsync<RefusedException>(async () =>
                await client.Custody.GetCaseAsync(new GetCaseRequest { Case = services.Case }, cancellationToken: Cancel)
            );
            Assert.Equal(("A_LATER_REASON", "Art. 12 bis", "a form"), (refused.Reason, refused.Article, refused.Missing));
        }
        finally
        {
            services.Later = null;
        }
    }

    private static T With99<T>(T message)
        where T : IMessage<T> => (T)message.Descriptor.Parser.ParseFrom([.. message.ToByteArray(), .. Field99]);

    // Concatenates the bytes of both messages. For a reader, the later fields count.
    private static T Merged<T>(T message, T more)
        where T : IMessage<T> => (T)message.Descriptor.Parser.ParseFrom([.. message.ToByteArray(), .. more.ToByteArray()]);
}
