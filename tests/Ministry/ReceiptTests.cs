using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Grpc.Core;
using Microsoft.Extensions.DependencyInjection;
using Ministries.CallLog.V1;
using Ministries.Errors.V1;
using Ministries.Fixtures;
using Ministries.Ledger;
using Ministries.Ledger.V1;
using Ministries.Trust;
using static Ministries.Ministry.Tests.Services;

namespace Ministries.Ministry.Tests;

/// <summary>A service that answers with a receipt of something else than it was sent, or than it answers, is found out by the client. The
/// receipts are good by themselves: the service's own key signs them.</summary>
public sealed class ReceiptTests(Services services) : IClassFixture<Services>, IDisposable
{
    private const string Erased = "the request was erased from its entry",
        Form = "its header is not in its one form",
        OtherAnswer = "another answer than the one received",
        OtherShown = "another answer than it shows";

    /// <summary>Changes a good answer, which the service is about to give.</summary>
    /// <param name="answer">The answer.</param>
    /// <param name="folder">Where the service's key is.</param>
    private delegate void Lie(LogCallResponse answer, string folder);

    private static readonly Dictionary<string, (Lie Tell, string Found)> Lies = new()
    {
        ["of another method"] = (Entry((h, _) => h.Method = "ministries.calllog.v1.CallLogService/SubmitReadout"), "of another method"),
        ["of another id"] = (Entry((h, _) => h.RequestId = MinistryClient.NewRequestId()), "of another request id"),
        ["of no id"] = (Entry((h, _) => h.RequestId = ""), "of another request id"),
        ["of the caller's system"] = (Entry((h, _) => h.Participant += "/system"), "of another participant"),
        ["of 4 MiB of another's words"] = (Entry((h, _) => h.Participant = new string('x', 4 << 20)), "of another participant"),
        ["of another request with this id"] = (
            Entry((h, r) => r.RequestSalt = Forgery.Put(h, PartKind.Request, [1, 2, 3])),
            "holds another request"
        ),
        ["of no request"] = (Entry((h, _) => h.Parts.Remove(Part(h, PartKind.Request))), "holds another request"),
        ["at another position"] = (Entry((h, _) => h.Position = 1), "its position or time"),
        ["at another time"] = (Entry((_, r) => r.CommitTime.Seconds--), "its position or time"),
        ["at the same time in another form"] = (Entry((_, r) => Denormalize(r.CommitTime)), "its position or time"),
        ["at a time that both write in another form"] = (Entry((h, r) => Denormalize(h.CommitTime = r.CommitTime)), Form),
        ["at no time"] = (Entry((h, r) => h.CommitTime = r.CommitTime = null), Form),
        ["of two requests"] = (Entry((h, _) => h.Parts.Add(Part(h, PartKind.Request))), Form),
        ["of two answers"] = (Entry((h, _) => h.Parts.Insert(0, new PartDigest { Kind = PartKind.Answer })), Form),
        ["with a part of no known kind"] = (Entry((h, _) => h.Parts.Add(new PartDigest { Kind = (PartKind)99 })), Form),
        ["with an unknown field in the header"] = (Header(h => [.. h, 0x98, 0x06, 1]), Form),
        ["with the participant twice in the header"] = (Header(h => [0x1a, 6, .. "ua/mfa"u8, .. h]), Form),
        ["with a header that breaks off"] = (Header(h => h[..^1]), Form),
        ["without a header"] = ((a, _) => a.Receipt.Header = ByteString.Empty, "does not show its entry's header"),
        ["with another header"] = (
            (a, _) => a.Receipt.Header = new EntryHeader { Position = a.Receipt.Position }.ToByteString(),
            "its header is of another entry"
        ),
        ["without the request's salt"] = ((a, _) => a.Receipt.RequestSalt = ByteString.Empty, Erased),
        ["with another salt of the request"] = (
            (a, _) => a.Receipt.RequestSalt = ByteString.CopyFrom(new byte[32]),
            "holds another request"
        ),
        ["with a shorter salt of the request"] = (
            (a, _) => a.Receipt.RequestSalt = ByteString.CopyFrom(a.Receipt.RequestSalt.Span[1..]),
            "holds another request"
        ),
        ["without an answer"] = ((a, _) => a.Receipt.Answer = ByteString.Empty, OtherShown),
        ["with another answer"] = (
            (a, _) => a.Receipt.Answer = new Answer { Response = Any.Pack(new LogCallResponse()) }.ToByteString(),
            OtherShown
        ),
        ["without the answer's salt"] = ((a, _) => a.Receipt.AnswerSalt = ByteString.Empty, OtherShown),
        ["with another salt of the answer"] = ((a, _) => a.Receipt.AnswerSalt = ByteString.CopyFrom(new byte[32]), OtherShown),
        ["with a salt that takes its last byte from the answer"] = (
            (a, _) =>
            {
                a.Receipt.AnswerSalt = ByteString.CopyFrom([.. a.Receipt.AnswerSalt, a.Receipt.Answer[0]]);
                a.Receipt.Answer = ByteString.CopyFrom(a.Receipt.Answer.Span[1..]);
            },
            OtherShown
        ),
        ["of a refusal"] = (
            Entry((h, r) => Forgery.Answer(h, r, new Answer { Refusal = new StoredRefusal { Reason = nameof(Reason.NotFound) } })),
            OtherAnswer
        ),
        ["of no answer"] = (Entry((h, r) => Forgery.Answer(h, r, new Answer())), OtherAnswer),
        ["of a refusal and this answer"] = (
            Entry(
                (h, r) =>
                    Forgery.Answer(
                        h,
                        r,
                        ByteString.CopyFrom([.. new Answer { Refusal = new StoredRefusal { Reason = "STALE" } }.ToByteArray(), .. r.Answer])
                    )
            ),
            OtherAnswer
        ),
        ["of another call"] = (Recorded(a => a.Call = "call_0"), OtherAnswer),
        ["of another etag"] = (Recorded(a => a.Etag = ""), OtherAnswer),
        ["of an answer with a receipt"] = (Recorded(a => a.Receipt = new Receipt { Service = "calllog" }), OtherAnswer),
        ["of the answer of another method"] = (
            Entry((h, r) => Forgery.Answer(h, r, new Answer { Response = Any.Pack(new SubmitReadoutResponse()) })),
            OtherAnswer
        ),
        ["of an answer that cannot be read"] = (
            Entry(
                (h, r) =>
                {
                    var packed = Any.Pack(new LogCallResponse());
                    packed.Value = ByteString.CopyFrom(0x12, 200);
                    Forgery.Answer(h, r, new Answer { Response = packed });
                }
            ),
            OtherAnswer
        ),
        ["of this call while another is answered"] = ((a, _) => a.Call = "call_0", OtherAnswer),
        ["of this answer while more is answered"] = ((a, _) => a.MergeFrom([0x9a, 0x06, 0x02, 0x08, 0x01]), OtherAnswer),
    };

    public static TheoryData<string> Names { get; } = [.. Lies.Keys];

    public void Dispose() => services.Later = null;

    [Theory]
    [MemberData(nameof(Names))]
    public async Task An_answer_whose_entry_is_something_else_is_not_accepted(string name)
    {
        Tell(answer => Lies[name].Tell(answer, services.Folder));
        await Refused(Lies[name].Found);
    }

    [Fact]
    public async Task A_good_receipt_of_another_entry_is_not_accepted_whosever_it_is()
    {
        var (own, others) = (await Given("kr/mfa"), await Given("ua/mfa"));
        Tell(answer => answer.Receipt = own);
        await Refused("of another request id");
        Tell(answer => answer.Receipt = others);
        await Refused("of another participant");
        // The forged receipts are good in all that they do not change: the same entry alone in a log is found out by the audit.
        Tell(answer => answer.Receipt = Forgery.Of(services.Folder, answer.Receipt));
        Assert.NotEmpty((await services.As("kr/mfa").CallLog.LogCallAsync(services.Call(), cancellationToken: Cancel)).Call);
    }

    [Fact]
    public void A_call_that_blocks_is_answered_with_a_proof_too()
    {
        var kr = services.As("kr/mfa");
        Assert.True(Receipts.IsShort(kr.CallLog.LogCall(services.Call(), cancellationToken: Cancel).Receipt));
        Tell(answer => answer.Call = "call_0");
        Assert.Throws<InvalidReceiptException>(() => kr.CallLog.LogCall(services.Call(), cancellationToken: Cancel));
    }

    [Fact]
    public async Task A_request_that_is_changed_while_the_call_runs_is_sent_and_proved_as_it_was()
    {
        var kr = services.As("kr/mfa");
        var request = services.Call();
        request.RequestId = MinistryClient.NewRequestId();
        var sent = request.Clone();
        // The latest moment at which a change could still be sent is that of the serialization.
        var method = new Method<LogCallRequest, LogCallResponse>(
            MethodType.Unary,
            "ministries.calllog.v1.CallLogService",
            "LogCall",
            Marshallers.Create(
                message =>
                {
                    (request.RequestId, request.Counterpart) = ("", "icrc");
                    request.Account.Attendees.Clear();
                    return message.ToByteArray();
                },
                LogCallRequest.Parser.ParseFrom
            ),
            Marshallers.Create(message => message.ToByteArray(), LogCallResponse.Parser.ParseFrom)
        );
        var call = kr["calllog"].AsyncUnaryCall(method, null, new CallOptions(cancellationToken: Cancel), request);
        var logged = await call;
        var entry = await kr.LedgerOf("calllog")
            .GetEntryAsync(new GetEntryRequest { Position = logged.Receipt.Position }, cancellationToken: Cancel);
        Assert.Equal(sent, LedgerEntry.Read(entry.Entry).Parts.Single(p => p.Kind == PartKind.Request).Content);
    }

    [Fact]
    public async Task A_repeated_request_is_proved_again_until_it_is_erased()
    {
        var kr = services.As("kr/mfa");
        var request = services.Call();
        var first = await kr.CallLog.LogCallAsync(request, cancellationToken: Cancel);
        var again = await kr.CallLog.LogCallAsync(request, cancellationToken: Cancel);
        Assert.Equal((first.Call, first.Receipt.EntryHash), (again.Call, again.Receipt.EntryHash));

        var ledger = services.Hosts["calllog"].Services.GetRequiredService<ServiceLedger>();
        Assert.True(await ledger.EraseRequest(first.Receipt.Position, Cancel));
        var refused = await Assert.ThrowsAsync<RefusedException>(() =>
            kr.CallLog.LogCallAsync(request, cancellationToken: Cancel).ResponseAsync
        );
        Assert.Equal("REQUEST_ID_REUSED", refused.Reason);
    }

    [Fact]
    public async Task What_shows_an_entry_goes_to_its_caller_and_is_not_kept_and_not_exported()
    {
        var folder = Path.Combine(services.Folder, "kept", Guid.NewGuid().ToString("N"));
        var kr = services.As("kr/mfa", s => s with { ReceiptFolder = folder });
        var shown = new Receipt();
        // A later service may add to it what nobody has seen.
        Tell(answer => shown = answer.Receipt = Receipt.Parser.ParseFrom([.. answer.Receipt.ToByteArray(), 0x9a, 0x06, 0x02, 0x08, 0x01]));
        var request = services.Call();
        var logged = await kr.CallLog.LogCallAsync(request, cancellationToken: Cancel);
        Assert.False(Receipts.IsShort(shown));
        Assert.True(Receipts.IsShort(logged.Receipt));

        var file = Assert.Single(Directory.GetFiles(folder));
        var kept = Contract.Parser.Parse<Receipt>(await File.ReadAllTextAsync(file, Cancel));
        Assert.True(Receipts.IsShort(kept));
        Assert.Null(Receipts.Wrong(kept, "calllog", kr.Agreement, DateTimeOffset.UtcNow));
        // What it proves, it proves without them.
        Receipts.Shorten(shown);
        Assert.Equal(
            (shown.EntryHash, shown.Position, shown.Checkpoint, shown.InclusionProof),
            (kept.EntryHash, kept.Position, kept.Checkpoint, kept.InclusionProof)
        );
        var exported = await Exported(kr, request.RequestId);
        Assert.Equal(kept, exported);

        // Another program of the ministry's has kept the whole.
        kept.RequestSalt = kept.AnswerSalt = kept.Header = kept.Answer = ByteString.CopyFrom(new byte[32]);
        await File.WriteAllTextAsync(file, Contract.Formatter.Format(kept), Cancel);
        Assert.Equal(exported, await Exported(kr, request.RequestId));
    }

    [Fact]
    public void A_receipt_of_another_entry_does_not_take_the_place_of_one_that_was_kept()
    {
        var folder = Path.Combine(services.Folder, "kept", Guid.NewGuid().ToString("N"));
        var (one, other) = (Of(1), Of(2));
        foreach (var receipt in (Receipt[])[one, other, one, other])
            MinistryClient.Keep(folder, "calllog", receipt);
        Assert.Equal(
            [one, other],
            ((string[])["calllog-7.json", $"calllog-7.{Convert.ToHexStringLower(other.EntryHash.Span)}.json"]).Select(name =>
                Contract.Parser.Parse<Receipt>(File.ReadAllText(Path.Combine(folder, name)))
            )
        );

        static Receipt Of(byte entry) =>
            new()
            {
                Service = "calllog",
                Position = 7,
                EntryHash = ByteString.CopyFrom([.. Enumerable.Repeat(entry, 32)]),
            };
    }

    private static async Task<Receipt> Exported(MinistryClient client, string requestId)
    {
        using var file = new MemoryStream();
        await new EvidenceExport(client, TimeProvider.System).Write(requestId, file, null, Cancel);
        Assert.Null(EvidenceVerification.Verify(file.ToArray()).Break);
        Assert.Null(EvidenceFile.Read(file.ToArray(), out var lines, out _));
        return Assert.Single(lines, l => l.Line.Entry?.Receipt is not null).Line.Entry.Receipt;
    }

    private async Task Refused(string found)
    {
        var e = await Assert.ThrowsAsync<InvalidReceiptException>(() =>
            services.As("kr/mfa").CallLog.LogCallAsync(services.Call(), cancellationToken: Cancel).ResponseAsync
        );
        Assert.Contains(found, e.Message);
        // Nothing that the service wrote comes into a log with it.
        Assert.True(e.Message.Length < 200 && !e.Message.Contains("xx", StringComparison.Ordinal), e.Message);
    }

    // A receipt as the service gives it.
    private async Task<Receipt> Given(string participant)
    {
        var given = new Receipt();
        Tell(answer => given = answer.Receipt.Clone());
        var request = services.Call();
        request.Counterpart = participant == "kr/mfa" ? "ua/mfa" : "kr/mfa";
        request.Account.Attendees[0].Participant = participant;
        request.Account.Commitments.Clear();
        await services.As(participant).CallLog.LogCallAsync(request, cancellationToken: Cancel);
        return given;
    }

    private void Tell(Action<LogCallResponse> lie) =>
        services.Later = answer =>
        {
            if (answer is LogCallResponse logged)
                lie(logged);
            return answer;
        };

    private static Lie Entry(Action<EntryHeader, Receipt> change) => (a, folder) => a.Receipt = Forgery.Of(folder, a.Receipt, change);

    private static Lie Header(Func<byte[], byte[]> change) =>
        (a, folder) =>
        {
            a.Receipt = Forgery.Of(folder, a.Receipt);
            a.Receipt.Header = ByteString.CopyFrom(change(a.Receipt.Header.ToByteArray()));
            a.Receipt = Forgery.Signed(folder, a.Receipt);
        };

    private static Lie Recorded(Action<LogCallResponse> change) =>
        (a, folder) =>
        {
            var recorded = a.Clone();
            recorded.Receipt = null;
            change(recorded);
            Entry((h, r) => Forgery.Answer(h, r, new Answer { Response = Any.Pack(recorded) }))(a, folder);
        };

    private static PartDigest Part(EntryHeader header, PartKind kind) => header.Parts.Single(p => p.Kind == kind);

    private static void Denormalize(Timestamp time) => (time.Seconds, time.Nanos) = (time.Seconds - 1, time.Nanos + 1_000_000_000);
}
