using System.Security.Cryptography;
using System.Text;
using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Ministries.Client;
using Ministries.Evidence.V1;
using Ministries.Ledger;
using Ministries.Ledger.V1;
using Ministries.Trust;
using Ministries.Types.V1;
using NSec.Cryptography;

namespace Ministries.Evidence.Tests;

/// <summary>A key for checkpoints was stolen and revoked. What the thief signs is no evidence; what the service signed with it before is.
/// Both verifiers judge each file.</summary>
public sealed class RevokedKeyTests(CaseFiles files) : IClassFixture<CaseFiles>
{
    private const string Exporter = "kr/mfa",
        Domain = "ministries.example";

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    // Times are minutes from the entry that records the version which changes the key.
    private sealed record Row(
        string Name,
        bool Holds,
        double? Revoked = null,
        double? Ended = null,
        bool Delisted = false,
        bool SignedByNew = false,
        uint Demanded = 0,
        (string By, double At)[]? Cosigned = null,
        (string Of, double At)? WitnessRevoked = null,
        string? Receipt = null
    );

    private static readonly Row[] Rows =
    [
        new("the key was changed and the new one signs", true, Revoked: -1, SignedByNew: true),
        new("the key was only ended, later", true, Ended: 60),
        new("the key had ended before an entry that it covers", false, Ended: -1),
        new("a revoked key signs, and nothing dates it", false, Revoked: 60),
        new("a revoked key signs an entry of a time after that", false, Revoked: -1, Cosigned: [("icrc", -2)]),
        new("a revoked key signed, and a witness dates it before", true, Revoked: 60, Cosigned: [("icrc", 59)]),
        new("a revoked key signed, and a witness dates it at that very second", false, Revoked: 60, Cosigned: [("icrc", 60)]),
        new("a revoked key signed, and a witness dates it after", false, Revoked: 60, Cosigned: [("icrc", 61)]),
        new("two witnesses are demanded and one dates it", false, Revoked: 60, Demanded: 2, Cosigned: [("icrc", 59), ("icrc", 58)]),
        new("two witnesses are demanded and two date it", true, Revoked: 60, Demanded: 2, Cosigned: [("icrc", 59), ("kr/mfa", 58)]),
        new(
            "two thousand million witnesses are demanded and one dates it",
            false,
            Revoked: 60,
            Demanded: 1u << 31,
            Cosigned: [("icrc", 59)]
        ),
        new(
            "it is dated with a witness's key that is revoked too",
            false,
            Revoked: 60,
            Cosigned: [("icrc", 1)],
            WitnessRevoked: ("icrc", 2)
        ),
        new("the key is listed no more and still signs", false, Delisted: true),
        new("a receipt of a revoked key is proved to be a prefix", true, Revoked: -1, SignedByNew: true, Receipt: "proved"),
        new("a receipt of a revoked key is proved by nothing", false, Revoked: -1, SignedByNew: true, Receipt: "unproved"),
        new("a receipt of a revoked key is of another history", false, Revoked: -1, SignedByNew: true, Receipt: "forked"),
        new("a receipt of a revoked key has the proof of another", false, Revoked: -1, SignedByNew: true, Receipt: "wrong proof"),
        new("a receipt of a good key has a wrong proof", false, SignedByNew: true, Receipt: "wrong proof"),
        new("a proof stands where there is no receipt", false, SignedByNew: true, Receipt: "none, but a proof"),
    ];

    public static TheoryData<string> Names() => [.. Rows.Select(r => r.Name)];

    [Theory]
    [MemberData(nameof(Names))]
    public async Task Both_verifiers_judge_it_alike(string name)
    {
        var row = Rows.Single(r => r.Name == name);
        var (file, log, entry) = Make(row);
        var found = EvidenceVerification.Verify(file).Break;
        var node = (await Node.Verify([file], Cancel))[0];
        if (row.Holds)
        {
            Assert.True(found is null, found?.ToString());
            Assert.True(node is null, node?.ToString());
            return;
        }
        var line = row.Receipt is null ? log : entry;
        Assert.True(found?.Line == line, $"line {line} breaks, and .NET says {found}");
        Assert.True(node?.Line == line, $"line {line} breaks, and Node says {node}");
    }

    /// <summary>The file with a log of custody that has one version of the agreement more, in a tree of its own: if the file has no such
    /// entry, it has some other one. Returns the lines, from 1, of the log and of an entry with a receipt.</summary>
    private (byte[] File, int Log, int Entry) Make(Row row)
    {
        var lines = CaseFiles.LinesOf(files.Of(Exporter));
        var log = lines.FindIndex(l => l.Log?.Service == "custody");
        var end = log + 1;
        while (lines[end].Entry is not null)
            end++;
        var headers = lines[(log + 1)..end].Select(l => EntryHeader.Parser.ParseFrom(l.Entry.Header)).ToList();
        var size = (int)headers[^1].Position + 2;
        var recorded = headers[^1].CommitTime.ToDateTimeOffset().AddSeconds(1);
        DateTimeOffset At(double minutes) => DateTimeOffset.FromUnixTimeSeconds(recorded.ToUnixTimeSeconds()).AddMinutes(minutes);

        var before = Agreement.Parser.ParseFrom(lines[log + 1].Entry.Parts.Single(p => p.Kind == PartKind.Request).Data);
        using var old = Fixtures.Signing.KeyIn(Path.Combine(files.Certificates, "service/custody/checkpoint.key"));
        using var fresh = Key.Create(SignatureAlgorithm.Ed25519);
        var next = Changed(before, row, fresh, At);
        foreach (var signer in before.Participants.Where(AgreementVersions.Signs))
            Pki.Sign(before, next, signer.Id, Path.Combine(files.Certificates, signer.Id, "agreements.key"));
        lines.Insert(end, new EvidenceLine { Entry = Recording(next, (ulong)size - 1, recorded) });

        var entries = lines[(log + 1)..(end + 1)];
        var tree = TreeOf(entries, size);
        var note = NoteOf(tree, row.SignedByNew ? fresh : old);
        foreach (var (by, at) in row.Cosigned ?? [])
            note += CosignatureKey
                .FromPem(CosignatureKey.NameOf(Domain, by), File.ReadAllText(Path.Combine(files.Certificates, by, "cosignatures.key")))
                .Cosign(SignedNote.Read(note)!, At(at));
        lines[log].Log.Checkpoint = note;
        var shown = Prove(entries, row, tree, row.Revoked is null ? fresh : old);
        return (files.Sealed(lines, Exporter), log + 1, log + 2 + shown);
    }

    /// <summary>The next version of the agreement, unsigned: with a fresh key for custody's checkpoints, and with the row's
    /// changes.</summary>
    private static Agreement Changed(Agreement before, Row row, Key fresh, Func<double, DateTimeOffset> at)
    {
        var next = before.Clone();
        var keys = next.Participants.Single(p => p.Id == "service/custody").SigningKeys;
        keys.Add(
            new SigningKey
            {
                Id = "service/custody/checkpoint-2",
                Use = SigningKeyUse.Checkpoints,
                PublicKey = ByteString.CopyFrom(fresh.PublicKey.Export(KeyBlobFormat.RawPublicKey)),
            }
        );
        if (row.Revoked is { } revoked)
            keys[0].RevokeTime = at(revoked).ToTimestamp();
        if (row.Ended is { } ended)
            keys[0].ValidUntilTime = at(ended).ToTimestamp();
        if (row.Delisted)
            keys.RemoveAt(0);
        if (row.WitnessRevoked is var (witness, when))
        {
            var cosigns = next.Participants.Single(p => p.Id == witness).SigningKeys.Single(k => k.Use == SigningKeyUse.Cosignatures);
            cosigns.RevokeTime = at(when).ToTimestamp();
        }
        next.CosignaturesDemanded = row.Demanded;
        AgreementVersions.Follow(before, next);
        return next;
    }

    // The leaves of a tree of that size: the file's entries at their places, anything at the others.
    private static byte[][] TreeOf(IEnumerable<EvidenceLine> entries, int size)
    {
        var tree = new byte[size][];
        for (var i = 0; i < size; i++)
            tree[i] = SHA256.HashData(BitConverter.GetBytes(i));
        foreach (var line in entries)
            tree[(int)EntryHeader.Parser.ParseFrom(line.Entry.Header).Position] = SHA256.HashData([
                0,
                .. SHA256.HashData(line.Entry.Header.Span),
            ]);
        return tree;
    }

    /// <summary>Proves each entry to be in the tree, and gives one a receipt that the key signed. Returns the index of that one; -1: the
    /// row demands no receipt.</summary>
    private static int Prove(List<EvidenceLine> entries, Row row, byte[][] tree, Key key)
    {
        var shown = -1;
        for (var i = 0; i < entries.Count; i++)
        {
            var (entry, header) = (entries[i].Entry, EntryHeader.Parser.ParseFrom(entries[i].Entry.Header));
            entry.Proof.Clear();
            entry.Proof.AddRange(Inclusion(tree, (int)header.Position).Select(h => ByteString.CopyFrom(h)));
            entry.Receipt = null;
            if (row.Receipt is null || shown >= 0 || header.Method == "agreement" || entry.Privileged)
                continue;
            shown = i;
            PutReceipt(entry, header, row, tree, key);
        }
        return shown;
    }

    private static void PutReceipt(EvidenceEntry entry, EntryHeader header, Row row, byte[][] tree, Key key)
    {
        var prefix = tree[..((int)header.Position + 1)];
        entry.Consistency.AddRange(Consistency(prefix.Length, tree, whole: true).Select(h => ByteString.CopyFrom(h)));
        if (row.Receipt == "unproved")
            entry.Consistency.Clear();
        if (row.Receipt == "wrong proof")
            entry.Consistency[0] = ByteString.CopyFrom(new byte[32]);
        if (row.Receipt == "none, but a proof")
            return;
        // A thief keeps the entry and changes those before it.
        if (row.Receipt == "forked")
            prefix = [.. prefix[..^2], new byte[32], prefix[^1]];
        entry.Receipt = new Receipt
        {
            Service = "custody",
            Position = header.Position,
            CommitTime = header.CommitTime,
            EntryHash = ByteString.CopyFrom(SHA256.HashData(entry.Header.Span)),
            TreeSize = (ulong)prefix.Length,
            RootHash = ByteString.CopyFrom(Root(prefix)),
            Checkpoint = NoteOf(prefix, key),
            InclusionProof = { Inclusion(prefix, prefix.Length - 1).Select(h => ByteString.CopyFrom(h)) },
        };
    }

    private static EvidenceEntry Recording(Agreement version, ulong position, DateTimeOffset time)
    {
        EntryPart[] parts =
        [
            new()
            {
                Kind = PartKind.Request,
                Salt = ByteString.CopyFrom(new byte[32]),
                Data = version.ToByteString(),
            },
            new() { Kind = PartKind.Events, Salt = ByteString.CopyFrom(new byte[32]) },
        ];
        var header = new EntryHeader
        {
            Position = position,
            CommitTime = time.ToTimestamp(),
            Participant = "service/custody",
            RequestId = $"agreement-{version.Version}",
            Method = "agreement",
            AgreementVersion = version.Version,
            Parts =
            {
                parts.Select(p => new PartDigest
                {
                    Kind = p.Kind,
                    Digest = ByteString.CopyFrom(SHA256.HashData([.. p.Salt.Span, .. p.Data.Span])),
                }),
            },
        };
        return new EvidenceEntry { Header = header.ToByteString(), Parts = { parts } };
    }

    private static string NoteOf(byte[][] tree, Key key)
    {
        var text = $"{Domain}/custody\n{tree.Length}\n{Convert.ToBase64String(Root(tree))}\n";
        byte[] id = SHA256.HashData([
            .. Encoding.UTF8.GetBytes($"{Domain}/custody\n"),
            1,
            .. key.PublicKey.Export(KeyBlobFormat.RawPublicKey),
        ])[..4];
        var signature = SignatureAlgorithm.Ed25519.Sign(key, Encoding.UTF8.GetBytes(text));
        return $"{text}\n— {Domain}/custody {Convert.ToBase64String([.. id, .. signature])}\n";
    }

    // The tree as RFC 6962, 2.1, defines it.
    private static int Split(int size)
    {
        var half = 1;
        while (half * 2 < size)
            half *= 2;
        return half;
    }

    private static byte[] Root(byte[][] leaves) =>
        leaves.Length == 1
            ? leaves[0]
            : SHA256.HashData([1, .. Root(leaves[..Split(leaves.Length)]), .. Root(leaves[Split(leaves.Length)..])]);

    private static IEnumerable<byte[]> Inclusion(byte[][] leaves, int at)
    {
        if (leaves.Length == 1)
            return [];
        var half = Split(leaves.Length);
        return at < half
            ? Inclusion(leaves[..half], at).Append(Root(leaves[half..]))
            : Inclusion(leaves[half..], at - half).Append(Root(leaves[..half]));
    }

    private static IEnumerable<byte[]> Consistency(int size, byte[][] leaves, bool whole)
    {
        if (size == leaves.Length)
            return whole ? [] : [Root(leaves)];
        var half = Split(leaves.Length);
        return size <= half
            ? Consistency(size, leaves[..half], whole).Append(Root(leaves[half..]))
            : Consistency(size - half, leaves[half..], false).Append(Root(leaves[..half]));
    }
}
