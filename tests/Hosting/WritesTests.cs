using Google.Protobuf;
using Grpc.Core;
using Ministries.CallLog.V1;
using Ministries.Ledger.V1;
using Ministries.Trust;

namespace Ministries.Hosting.Tests;

/// <summary>Writes: what is kept of them, what is answered, and what happens to requests that cannot be read.</summary>
public sealed class WritesTests(Running running) : IClassFixture<Running>
{
    [Fact]
    public async Task The_answer_carries_a_receipt_and_the_ledger_keeps_the_bytes_that_were_sent()
    {
        // Fields in an unusual order and an explicit default value: the same request in other bytes.
        var request = Running.Request();
        var only = new LogCallRequest { RequestId = request.RequestId };
        var rest = request.Clone();
        rest.RequestId = "";
        byte[] sent = [.. rest.ToByteArray(), 0x38, 0x00, .. only.ToByteArray()];
        Assert.Equal(request, LogCallRequest.Parser.ParseFrom(sent));
        var response = await Send<LogCallResponse>(sent);
        Assert.Equal("calllog", response.Receipt.Service);
        Assert.Equal(running.Ledger.Size, response.Receipt.TreeSize);
        var stored = await running.Ledger.ReadEntry(response.Receipt.Position, null, Running.Cancel);
        Assert.Equal(sent, stored!.Entry.Parts.Single(p => p.Kind == PartKind.Request).Data.ToByteArray());
        var header = EntryHeader.Parser.ParseFrom(stored.Entry.Header);
        Assert.Equal(
            ("kr/mfa", request.RequestId, "ministries.calllog.v1.CallLogService/LogCall", 1ul),
            (header.Participant, header.RequestId, header.Method, header.AgreementVersion)
        );
        // The receipt shows both by itself, and for other bytes of the same request it does not.
        Assert.Null(Receipts.WrongEntry(response.Receipt, "kr/mfa", header.Method, request.RequestId, sent, response));
        Assert.NotNull(Receipts.WrongEntry(response.Receipt, "kr/mfa", header.Method, request.RequestId, request.ToByteArray(), response));
    }

    /// <summary>A caller's <c>tracestate</c> may be any text, even a person's name (D16). This host exports no spans.</summary>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Of_a_callers_trace_the_ledger_keeps_nothing_but_its_ids(bool continues)
    {
        var headers = new Metadata
        {
            { "traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01" },
            { "tracestate", "official=kwon" },
            { "baggage", "official=kwon" },
        };
        if (continues)
            headers.Add("ministries-trace", "continued");
        var logged = await running.Calling("kr/mfa").LogCallAsync(Running.Request(), headers, cancellationToken: Running.Cancel);
        var stored = await running.Ledger.ReadEntry(logged.Receipt.Position, null, Running.Cancel);
        Assert.StartsWith("00-0af7651916cd43dd8448eb211c80319c-", stored!.Entry.Traceparent);
        Assert.Equal("", stored.TraceState);
    }

    [Fact]
    public async Task A_repeated_request_gets_the_same_answer_and_the_other_service_is_asked_once()
    {
        var asked = 0;
        running.Ask = _ =>
        {
            asked++;
            return Task.FromResult<IMessage?>(null);
        };
        try
        {
            var request = Running.Request();
            var client = running.Calling("kr/mfa");
            var first = await client.LogCallAsync(request, cancellationToken: Running.Cancel);
            var size = running.Ledger.Size;
            var second = await client.LogCallAsync(request, cancellationToken: Running.Cancel);
            Assert.Equal((first.Call, first.Etag, first.Receipt.Position), (second.Call, second.Etag, second.Receipt.Position));
            request.Actor.Official = "another";
            await Running.Refused("REQUEST_ID_REUSED", () => client.LogCallAsync(request).ResponseAsync);
            Assert.Equal((1, size), (asked, running.Ledger.Size));
        }
        finally
        {
            running.Ask = null;
        }
    }

    [Fact]
    public async Task A_question_that_gets_no_answer_is_a_refusal_that_names_it_and_is_not_stored()
    {
        var request = Running.Request();
        var client = running.Calling("kr/mfa");
        var size = running.Ledger.Size;
        running.Ask = _ =>
            throw new PeerException(
                "custody",
                "ministries.custody.v1.CustodyService/CheckStanding",
                new RpcException(new Status(StatusCode.Unavailable, "secret"))
            );
        try
        {
            var (info, status) = await Running.Refused("UNAVAILABLE", () => client.LogCallAsync(request).ResponseAsync);
            Assert.Equal("ministries.custody.v1.CustodyService/CheckStanding", info.Metadata["asked"]);
            Assert.DoesNotContain("secret", status.ToString());
            Assert.Contains(status.Details, d => d.Is(Google.Rpc.RetryInfo.Descriptor));
            // A caller that may not know of the case does not learn from the refusal that there is something to ask about.
            await Running.Refused("NOT_FOUND", () => running.Calling("kr/unification").LogCallAsync(Running.Request()).ResponseAsync);
            // What the rule refuses before it needs the answer is refused as usual.
            var nowhere = Running.Request();
            nowhere.Case = "case_0000000000000000000000000z";
            await Running.Refused("NOT_FOUND", () => client.LogCallAsync(nowhere).ResponseAsync);
            Assert.Equal(size, running.Ledger.Size);
        }
        finally
        {
            running.Ask = null;
        }
        await client.LogCallAsync(request, cancellationToken: Running.Cancel);
    }

    [Theory]
    [InlineData(null, "SIGNATURE_MISSING")]
    [InlineData("ua/mfa", "SIGNATURE_NOT_OF_CALLER")]
    public async Task A_write_that_its_sender_did_not_sign_is_refused_by_name(string? signer, string reason) =>
        await NothingWritten(async () =>
        {
            var client = new CallLogService.CallLogServiceClient(running.Channel(running.CertificateOf("kr/mfa"), signer: signer));
            var (_, status) = await Running.Refused(reason, () => client.LogCallAsync(Running.Request()).ResponseAsync);
            Assert.Equal(StatusCode.Unauthenticated, (StatusCode)status.Code);
        });

    [Fact]
    public async Task A_write_that_was_altered_on_the_way_is_refused_by_name() =>
        await NothingWritten(async () =>
        {
            var request = Running.Request();
            var original = request.Clone();
            request.Counterpart = "ua/coordination-hq";
            var status = await running.Post(
                Running.FrameOf(request.ToByteArray()),
                headers: running.Signed(original.RequestId, Running.FrameOf(original.ToByteArray()))
            );
            Running.Is("CONTENT_DIGEST_WRONG", status);
        });

    [Fact]
    public async Task A_signed_write_as_another_client_sends_it_is_accepted_and_its_answer_given_again_after_the_signature_expired()
    {
        var request = Running.Request();
        var frame = Running.FrameOf(request.ToByteArray());
        var signed = running.Signed(request.RequestId, frame);
        Assert.Equal(0, (await running.Post(frame, headers: signed)).Code);
        var size = running.Ledger.Size;
        running.Time.Moved = TimeSpan.FromMinutes(10);
        try
        {
            Assert.Equal(0, (await running.Post(frame, headers: signed)).Code);
            Assert.Equal(size, running.Ledger.Size);
            var late = Running.Request();
            var first = running.Signed(late.RequestId, Running.FrameOf(late.ToByteArray()), TimeSpan.FromMinutes(-10));
            Running.Is("SIGNATURE_EXPIRED", await running.Post(Running.FrameOf(late.ToByteArray()), headers: first));
        }
        finally
        {
            running.Time.Moved = TimeSpan.Zero;
        }
    }

    [Fact]
    public async Task A_refusal_of_a_rule_says_why_is_stored_and_answered_again()
    {
        var request = Running.Request();
        request.Case = "case_0000000000000000000000000z";
        var size = running.Ledger.Size;
        for (var i = 0; i < 2; i++)
        {
            var (info, status) = await Running.Refused("NOT_FOUND", () => running.Calling("kr/mfa").LogCallAsync(request).ResponseAsync);
            Assert.Equal(StatusCode.NotFound, (StatusCode)status.Code);
            Assert.Equal("AGREEMENT", info.Metadata["basis"]);
        }
        Assert.Equal(size + 1, running.Ledger.Size);
    }

    [Fact]
    public async Task A_fault_of_the_software_is_answered_with_its_id_and_nothing_else()
    {
        var request = new LinkCallsRequest
        {
            RequestId = Guid.NewGuid().ToString(),
            Actor = Running.Request().Actor,
            Etag = "e",
            Case = Running.Case,
            Call = "call_00000000000000000000000001",
            SameAsCall = "call_00000000000000000000000002",
            SameAsEtag = "e",
        };
        var (info, status) = await Running.Refused("INTERNAL", () => running.Calling("kr/mfa").LinkCallsAsync(request).ResponseAsync);
        Assert.Equal(StatusCode.Internal, (StatusCode)status.Code);
        Assert.Contains(info.Metadata["id"], status.Message);
        Assert.DoesNotContain("nobody outside", status.ToString());
    }

    [Fact]
    public async Task All_faults_of_a_request_are_reported_at_once() =>
        await NothingWritten(async () =>
        {
            var request = Running.Request();
            request.Account.StartTime.Time.Seconds = long.MaxValue;
            request.Account.StartTime.TimeZone = "";
            request.Actor.Office = "a b";
            byte[] sent = [.. request.ToByteArray(), 0xf8, 0x06, 0x01, .. new LogCallRequest { Counterpart = "again" }.ToByteArray()];
            var status = await running.Post(Running.FrameOf(sent));
            Running.Is("REQUEST_INVALID", status);
            Assert.Equal(StatusCode.InvalidArgument, (StatusCode)status.Code);
            Assert.Equal(
                ["#111", "counterpart", "actor.office", "account.start_time.time", "account.start_time.time_zone"],
                Running.FaultsOf(status)
            );
        });

    [Theory]
    [InlineData("KST")]
    [InlineData("Mars/Olympus")]
    [InlineData("Asia/Soul")]
    [InlineData("../Asia/Seoul")]
    public async Task A_zone_that_the_IANA_database_does_not_have_is_refused(string zone) =>
        await NothingWritten(async () =>
        {
            var request = Running.Request();
            request.Account.StartTime.TimeZone = zone;
            Assert.Equal(["account.start_time.time_zone"], Running.FaultsOf(await running.Post(Running.FrameOf(request.ToByteArray()))));
        });

    public static TheoryData<string, byte[], string> Unreadable()
    {
        var good = Running.Request().ToByteArray();
        return new()
        {
            { "no frame", [], "" },
            { "half a prefix", [0, 0, 0], "" },
            { "half a message", Running.FrameOf(good)[..^1], "" },
            { "compressed", Running.FrameOf(good, compressed: true), "" },
            { "two messages", [.. Running.FrameOf(good), .. Running.FrameOf(good)], "" },
            { "a length beyond all", [0, 0xff, 0xff, 0xff, 0xff, 1], "" },
            { "no message at all", Running.FrameOf(RandomBytes()), "" },
            { "a broken varint", Running.FrameOf([0x38, .. Enumerable.Repeat((byte)0xff, 11)]), "precedence" },
            { "a wrong wire type", Running.FrameOf([.. good, 0x08, 0x01]), "request_id" },
            { "no UTF-8", Running.FrameOf([.. good, 0x52, 0x01, 0xff]), "counterpart" },
            { "an unknown enum value", Running.FrameOf([.. good, 0x38, 0x63]), "precedence" },
            // 2^32 + FLASH: who cuts it to 32 bits has a name of the enum, and who does not has none.
            { "a number beyond its type", Running.FrameOf([.. good, 0x38, 0x84, 0x80, 0x80, 0x80, 0x10]), "precedence" },
            { "an unknown field", Running.FrameOf([.. good, 0xf8, 0x06, 0x01]), "#111" },
            { "a group", Running.FrameOf([.. good, 0xfb, 0x06, 0xfc, 0x06]), "#111" },
        };

        static byte[] RandomBytes() => [0xff, 0xff, 0xff, 0xff, 0xff];
    }

    [Theory]
    [MemberData(nameof(Unreadable))]
    public async Task A_request_that_can_be_read_in_two_ways_is_refused(string what, byte[] body, string field) =>
        await NothingWritten(async () =>
        {
            var status = await running.Post(body);
            Running.Is("REQUEST_INVALID", status);
            Assert.True(Running.FaultsOf(status).Contains(field), $"{what}: {status}");
        });

    [Fact]
    public async Task A_signature_from_after_its_commit_by_more_than_verifiers_allow_is_not_recorded()
    {
        var request = Running.Request();
        var frame = Running.FrameOf(request.ToByteArray());
        // The ledger goes by the machine's clock: so it is as if that were set back between the check and the commit.
        running.Time.Moved = TimeSpan.FromSeconds(10);
        try
        {
            var before = running.Ledger.Size;
            var headers = running.Signed(request.RequestId, frame, ago: TimeSpan.FromSeconds(29));
            Running.Is("UNAVAILABLE", await running.Post(frame, "LogCall", headers));
            Assert.Equal(before, running.Ledger.Size);
            // The same request is recorded with a signature that holds then.
            headers = running.Signed(request.RequestId, frame, ago: TimeSpan.FromSeconds(15));
            Assert.Equal(0, (await running.Post(frame, "LogCall", headers)).Code);
            Assert.Equal(before + 1, running.Ledger.Size);
        }
        finally
        {
            running.Time.Moved = TimeSpan.Zero;
        }
    }

    [Fact]
    public async Task A_message_that_is_too_large_is_refused_before_it_is_read() =>
        await NothingWritten(async () =>
        {
            var request = Running.Request();
            request.Account.Prisoners.Add(new string('A', 1 << 20));
            Running.Is("REQUEST_INVALID", await running.Post(Running.FrameOf(request.ToByteArray())));
            await Running.Refused("REQUEST_INVALID", () => running.Calling("kr/mfa").LogCallAsync(request).ResponseAsync);
            // A message of exactly the limit is read, and refused for its content.
            request.Account.Prisoners[0] = new string('A', (1 << 20) - (request.CalculateSize() - (1 << 20)));
            Assert.Equal(1 << 20, request.CalculateSize());
            Assert.Contains("account.prisoners[0]", Running.FaultsOf(await running.Post(Running.FrameOf(request.ToByteArray()))));
        });

    [Theory]
    [InlineData(1000, 1)]
    [InlineData(5, 300)]
    public async Task Deep_and_wide_nesting_is_refused(int depth, int width) =>
        await NothingWritten(async () =>
        {
            // Nothing in the contract nests like this: the bytes are a field within a field within a field.
            byte[] inner = [];
            for (var i = 0; i < depth; i++)
            {
                var field = new MemoryStream();
                using (var output = new CodedOutputStream(field, leaveOpen: true))
                    for (var j = 0; j < (i == 0 ? width : 1); j++)
                    {
                        output.WriteTag(11, WireFormat.WireType.LengthDelimited);
                        output.WriteBytes(ByteString.CopyFrom(inner));
                    }
                inner = field.ToArray();
            }
            Running.Is("REQUEST_INVALID", await running.Post(Running.FrameOf(inner)));
        });

    private async Task<T> Send<T>(byte[] message)
        where T : class, IMessage<T>, new()
    {
        var method = new Method<byte[], T>(
            MethodType.Unary,
            "ministries.calllog.v1.CallLogService",
            "LogCall",
            Marshallers.Create(b => b, b => b),
            Marshallers.Create<T>(m => m.ToByteArray(), new MessageParser<T>(() => new T()).ParseFrom)
        );
        return await running.As("kr/mfa").AsyncUnaryCall(method, null, new CallOptions(cancellationToken: Running.Cancel), message);
    }

    private async Task NothingWritten(Func<Task> refused)
    {
        var before = running.Ledger.Size;
        await refused();
        Assert.Equal(before, running.Ledger.Size);
        await running.Log();
        Assert.Equal(before + 1, running.Ledger.Size);
    }
}
