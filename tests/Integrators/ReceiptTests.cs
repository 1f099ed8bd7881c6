using System.Security.Cryptography;
using System.Text;
using Google.Protobuf;
using Ministries.CallLog.V1;
using Ministries.Fixtures;
using Ministries.Ledger.V1;
using Ministries.Ministry.Tests;
using NSec.Cryptography;
using static Ministries.Ministry.Tests.Services;

namespace Ministries.Integrators.Tests;

/// <summary>A service that accepts a write and answers with a receipt that does not prove it is found out by each example.</summary>
public sealed class ReceiptTests(Services services, Examples examples) : IClassFixture<Services>, IDisposable
{
    private const string Mark = "\u2014 ",
        Origin = "ministries.example/calllog";

    private sealed record Lie(Func<Receipt, Services, Receipt?> Tell, string Found);

    private static readonly Dictionary<string, Lie> Lies = new()
    {
        ["none"] = new((_, _) => null, "the receipt is of "),
        ["of another service"] = new((r, _) => With(r, c => c.Service = "custody"), "the receipt is of "),
        ["of another hash"] = new(
            (r, _) => With(r, c => c.EntryHash = ByteString.CopyFrom(new byte[32])),
            "the proof does not lead from the entry to the root"
        ),
        ["at another position"] = new((r, _) => With(r, c => c.Position--), "the proof does not lead from the entry to the root"),
        ["beyond the tree"] = new((r, _) => With(r, c => c.Position = c.TreeSize), "the proof does not lead from the entry to the root"),
        ["with a longer proof"] = new(
            (r, _) => With(r, c => c.InclusionProof.Add(ByteString.CopyFrom(new byte[32]))),
            "the proof does not lead from the entry to the root"
        ),
        ["of another tree"] = new(
            (r, _) => With(r, c => c.RootHash = ByteString.CopyFrom(new byte[32])),
            "the checkpoint is of another log or tree than the receipt"
        ),
        ["of another log"] = new(
            (r, _) => With(r, c => c.Checkpoint = c.Checkpoint.Replace(Origin, "ministries.example/custody", StringComparison.Ordinal)),
            "the checkpoint is of another log or tree than the receipt"
        ),
        ["of a tree that was not signed"] = new(
            (r, _) =>
                With(
                    r,
                    c =>
                    {
                        c.Checkpoint = c.Checkpoint.Replace($"\n{c.TreeSize}\n", $"\n{c.TreeSize + 1}\n", StringComparison.Ordinal);
                        c.TreeSize++;
                    }
                ),
            "the checkpoint's signature is wrong"
        ),
        ["with no signature"] = new(
            (r, _) => With(r, c => c.Checkpoint = c.Checkpoint[..(c.Checkpoint.IndexOf("\n\n", StringComparison.Ordinal) + 2)]),
            "no key that the agreement lists for the service has signed the checkpoint"
        ),
        ["signed with another service's key"] = new(
            (r, s) =>
                With(r, c => c.Checkpoint = SignedAgain(c.Checkpoint, Path.Combine(s.Folder, "service", "custody", "checkpoint.key"))),
            "no key that the agreement lists for the service has signed the checkpoint"
        ),
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
            var changed = logged.Clone();
            changed.Receipt = Lies[lie].Tell(logged.Receipt, services);
            return changed;
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
        using var ministry = services.As("kr/mfa");
        var other = await ministry.CallLog.LogCallAsync(services.Call(), cancellationToken: Cancel);
        services.Later = answer => answer is LogCallResponse logged ? new LogCallResponse(logged) { Receipt = other.Receipt } : answer;
        var (code, output) = await Log(language);
        Assert.True(code != 0, output);
        Assert.Contains("the entry at the receipt's position is not this request", output);
        Assert.DoesNotContain("logged call_", output);
    }

    private Task<(int Code, string Output)> Log(string language) =>
        new Example(language).Call(
            examples.Compiled(language),
            services.Folder,
            "log",
            services.Addresses["calllog"].Authority,
            services.Case,
            "ua/mfa"
        );

    private static Receipt With(Receipt receipt, Action<Receipt> change)
    {
        var changed = receipt.Clone();
        change(changed);
        return changed;
    }

    // The checkpoint under the service's name, signed with a key that is not its own.
    private static string SignedAgain(string checkpoint, string keyFile)
    {
        using var key = Signing.KeyIn(keyFile);
        var text = checkpoint[..(checkpoint.IndexOf("\n\n", StringComparison.Ordinal) + 1)];
        var id = SHA256.HashData([.. Encoding.UTF8.GetBytes($"{Origin}\n\u0001"), .. key.PublicKey.Export(KeyBlobFormat.RawPublicKey)])[
            ..4
        ];
        var signature = SignatureAlgorithm.Ed25519.Sign(key, Encoding.UTF8.GetBytes(text));
        return $"{text}\n{Mark}{Origin} {Convert.ToBase64String([.. id, .. signature])}\n";
    }
}
