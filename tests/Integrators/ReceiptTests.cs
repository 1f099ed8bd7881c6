using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Ministries.CallLog.V1;
using Ministries.Fixtures;
using Ministries.Ledger.V1;
using Ministries.Ministry.Tests;
using static Ministries.Ministry.Tests.Services;

namespace Ministries.Integrators.Tests;

/// <summary>A service that accepts a write and answers with a receipt that does not prove it, or proves something else, is found out by
/// each example.</summary>
public sealed class ReceiptTests(Services services, Examples examples) : IClassFixture<Services>, IDisposable
{
    private const string Origin = "ministries.example/calllog",
        NoProof = "the proof does not lead from the entry to the root",
        OtherTree = "the checkpoint is of another log or tree than the receipt",
        NotSigned = "no key that the agreement lists for the service has signed the checkpoint",
        OtherRequest = "the entry at the receipt's position is not this request",
        OtherAnswer = "the entry at the receipt's position holds another answer";

    private sealed record Lie(Action<LogCallResponse, Services> Tell, string Found)
    {
        public Lie(Action<Receipt> tell, string found)
            : this((a, _) => tell(a.Receipt), found) { }

        /// <summary>A lie about the entry, with a receipt that is good by itself.</summary>
        public Lie(Action<EntryHeader, Receipt> tell, string found)
            : this((a, s) => a.Receipt = Forgery.Of(s.Folder, a.Receipt, tell), found) { }
    }

    private static readonly Dictionary<string, Lie> Lies = new()
    {
        ["none"] = new((a, _) => a.Receipt = null, "the receipt is of "),
        ["of another service"] = new(r => r.Service = "custody", "the receipt is of "),
        ["of another hash"] = new(r => r.EntryHash = Zeros, NoProof),
        ["at another position"] = new(r => r.Position--, NoProof),
        ["beyond the tree"] = new(r => r.Position = r.TreeSize, NoProof),
        ["with a longer proof"] = new(r => r.InclusionProof.Add(Zeros), NoProof),
        ["of another tree"] = new(r => r.RootHash = Zeros, OtherTree),
        ["of another log"] = new(
            r => r.Checkpoint = r.Checkpoint.Replace(Origin, "ministries.example/custody", StringComparison.Ordinal),
            OtherTree
        ),
        ["of a tree that was not signed"] = new(
            r =>
            {
                r.Checkpoint = r.Checkpoint.Replace($"\n{r.TreeSize}\n", $"\n{r.TreeSize + 1}\n", StringComparison.Ordinal);
                r.TreeSize++;
            },
            "the checkpoint's signature is wrong"
        ),
        ["with no signature"] = new(r => r.Checkpoint = $"{TextOf(r.Checkpoint)}\n", NotSigned),
        ["signed with another service's key"] = new(
            (a, s) => a.Receipt.Checkpoint = SignedAgain(a.Receipt.Checkpoint, s.Folder),
            NotSigned
        ),
        ["without a header"] = new(r => r.Header = ByteString.Empty, OtherRequest),
        ["with another header"] = new(r => r.Header = new EntryHeader { Position = r.Position }.ToByteString(), OtherRequest),
        ["of another position"] = new((h, _) => h.Position = 1, OtherRequest),
        ["of another time"] = new((_, r) => r.CommitTime.Nanos ^= 1, OtherRequest),
        ["of another participant"] = new((h, _) => h.Participant = "ua/mfa", OtherRequest),
        ["of another method"] = new((h, _) => h.Method = "ministries.calllog.v1.CallLogService/SubmitReadout", OtherRequest),
        ["of another id"] = new((h, _) => h.RequestId = Client.MinistryClient.NewRequestId(), OtherRequest),
        ["of another request"] = new((h, r) => r.RequestSalt = Forgery.Put(h, PartKind.Request, [1]), OtherRequest),
        ["of this request and another"] = new((h, _) => h.Parts.Insert(0, new PartDigest { Kind = PartKind.Request }), OtherRequest),
        ["without the request's salt"] = new(r => r.RequestSalt = ByteString.Empty, OtherRequest),
        ["with another salt of the request"] = new(r => r.RequestSalt = Zeros, OtherRequest),
        ["without an answer"] = new(r => r.Answer = ByteString.Empty, OtherAnswer),
        ["with another answer"] = new(r => r.Answer = AnswerOf(new LogCallResponse()).ToByteString(), OtherAnswer),
        ["without the answer's salt"] = new(r => r.AnswerSalt = ByteString.Empty, OtherAnswer),
        ["with a salt that takes its last byte from the answer"] = new(
            r => (r.AnswerSalt, r.Answer) = (ByteString.CopyFrom([.. r.AnswerSalt, r.Answer[0]]), ByteString.CopyFrom(r.Answer.Span[1..])),
            OtherAnswer
        ),
        ["of a refusal"] = new(
            (h, r) => Forgery.Answer(h, r, new Answer { Refusal = new StoredRefusal { Reason = "NOT_FOUND" } }),
            OtherAnswer
        ),
        ["of no answer"] = new((h, r) => Forgery.Answer(h, r, new Answer()), OtherAnswer),
        ["of another call"] = new((h, r) => Forgery.Answer(h, r, AnswerOf(new LogCallResponse { Call = "call_0" })), OtherAnswer),
        ["of another method's answer"] = new((h, r) => Forgery.Answer(h, r, AnswerOf(new SubmitReadoutResponse())), OtherAnswer),
        ["of this call while another is answered"] = new((a, _) => a.Call = "call_0", OtherAnswer),
    };

    public static MatrixTheoryData<string, string> Cases { get; } = new(Example.Languages.Select(l => l.Data), Lies.Keys);

    public void Dispose() => services.Later = null;

    [Theory]
    [MemberData(nameof(Cases))]
    public async Task A_receipt_that_proves_nothing_is_refused(string language, string lie)
    {
        var told = 0;
        services.Later = answer =>
        {
            if (answer is not LogCallResponse logged)
                return answer;
            told++;
            Lies[lie].Tell(logged, services);
            return logged;
        };
        var (code, output) = await Log(language);
        Assert.True(code != 0 && told == 1, output);
        Assert.Contains(Lies[lie].Found, output);
        Assert.DoesNotContain("logged call_", output);
    }

    [Theory]
    [MemberData(nameof(Example.Languages), MemberType = typeof(Example))]
    public async Task A_good_receipt_of_another_entry_is_refused(string language)
    {
        var other = new Receipt();
        services.Later = answer =>
        {
            if (answer is LogCallResponse given)
                other = given.Receipt.Clone();
            return answer;
        };
        using var ministry = services.As("kr/mfa");
        await ministry.CallLog.LogCallAsync(services.Call(), cancellationToken: Cancel);
        services.Later = answer => answer is LogCallResponse logged ? new LogCallResponse(logged) { Receipt = other } : answer;
        var (code, output) = await Log(language);
        Assert.True(code != 0, output);
        Assert.Contains(OtherRequest, output);
        Assert.DoesNotContain("logged call_", output);
    }

    private Task<(int Code, string Output)> Log(string language) =>
        examples.Of(language).Call(services.Folder, "log", services.Addresses["calllog"].Authority, services.Case, "ua/mfa");

    private static ByteString Zeros => ByteString.CopyFrom(new byte[32]);

    private static Answer AnswerOf(IMessage response) => new() { Response = Any.Pack(response) };

    private static string TextOf(string checkpoint) => checkpoint[..(checkpoint.IndexOf("\n\n", StringComparison.Ordinal) + 1)];

    // The checkpoint under the service's name, signed with a key that is not its own.
    private static string SignedAgain(string checkpoint, string folder)
    {
        using var key = Signing.KeyIn(Path.Combine(folder, "service", "custody", "checkpoint.key"));
        return $"{TextOf(checkpoint)}\n{Forgery.LineOf(Origin, TextOf(checkpoint), key)}\n";
    }
}
