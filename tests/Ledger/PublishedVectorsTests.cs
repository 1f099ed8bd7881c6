using System.Security.Cryptography;
using System.Text;

namespace Ministries.Ledger.Tests;

/// <summary>
/// The vectors for inclusion and consistency proofs that transparency-dev publishes with its Merkle tree
/// (github.com/transparency-dev/merkle, testdata/inclusion and testdata/consistency, as of July 2026), good ones and bad. They are made
/// here again from their source: the known tree of eight leaves and, named by its files, the changes to a good proof. Their digest shows
/// that they are the same.
/// </summary>
public class PublishedVectorsTests
{
    /// <summary>SHA-256 of the published cases, each written as a line as <see cref="Case.ToString"/> writes it, without repetitions, in
    /// the order of their bytes.</summary>
    private const string Published = "25dd60d25074fecdbf321e8dfe12e6140d01a32dcab802bb7b624f872bd6059a";

    private static readonly byte[][] Leaves =
    [
        .. ((string[])["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]).Select(l =>
            SHA256.HashData([0, .. Convert.FromHexString(l)])
        ),
    ];

    private static readonly byte[] Nothing = SHA256.HashData([]);
    private static readonly byte[] Random = Convert.FromHexString("abacaba000000000000000000000000000000000000000000060061e00123456");

    /// <summary>A case: of an inclusion proof position, size, root, leaf; of a consistency proof the two sizes and roots.</summary>
    private sealed record Case(string Kind, ulong A, ulong B, byte[] One, byte[] Two, byte[][] Proof, bool Proved = false)
    {
        public bool Holds => Kind == "inclusion" ? Proofs.Includes(Two, A, B, One, Proof) : Proofs.Extends(A, One, B, Two, Proof);

        public override string ToString() =>
            string.Join(
                '|',
                Kind,
                A,
                B,
                Convert.ToBase64String(One),
                Convert.ToBase64String(Two),
                string.Join(',', Proof.Select(h => Convert.ToBase64String(h))),
                Proved ? "proved" : "refused"
            );
    }

    private static byte[] Text(string text) => Encoding.UTF8.GetBytes(text);

    private static byte[][] Flip(byte[][] proof, int index, int bit)
    {
        var changed = proof.Select(h => h.ToArray()).ToArray();
        changed[index][0] ^= (byte)(1 << bit);
        return changed;
    }

    // Of both kinds of proof, what is bad because of its position or its sizes.
    private static IEnumerable<Case> OtherNumbers(Case bad) =>
        [
            bad with
            {
                A = unchecked(bad.A - 1),
            },
            bad with
            {
                A = bad.A + 1,
            },
            bad with
            {
                A = bad.A ^ 2,
            },
            bad with
            {
                B = bad.B * 2,
            },
            bad with
            {
                B = bad.B / 2,
            },
        ];

    private static IEnumerable<Case> Inclusion(int position, int size)
    {
        var root = Reference.Root(Leaves.AsSpan(0, size));
        var proof = Reference.Path(position, Leaves.AsSpan(0, size)).ToArray();
        var good = new Case("inclusion", (ulong)position, (ulong)size, root, Leaves[position], proof, true);
        var bad = good with { Proved = false };
        yield return good;
        foreach (var @case in OtherNumbers(bad))
            yield return @case;
        yield return bad with
        {
            Two = Text("WrongLeaf"),
        };
        yield return bad with
        {
            One = Nothing,
        };
        yield return bad with
        {
            One = Random,
        };
        yield return bad with
        {
            Proof = [.. proof, []],
        };
        yield return bad with
        {
            Proof = [.. proof, root],
        };
        yield return bad with
        {
            Proof =
            [
                [],
                .. proof,
            ],
        };
        yield return bad with
        {
            Proof = [root, .. proof],
        };
        for (var i = 0; i < proof.Length; i++)
            yield return bad with
            {
                Proof = Flip(proof, i, 3),
            };
        if (proof.Length > 0)
            yield return bad with
            {
                Proof = proof[..^1],
            };
        if (proof.Length > 1)
            yield return bad with
            {
                Proof = [proof[0], Random, .. proof[1..]],
            };
    }

    private static IEnumerable<Case> Consistency(int from, int to)
    {
        var (one, two) = (Reference.Root(Leaves.AsSpan(0, from)), Reference.Root(Leaves.AsSpan(0, to)));
        var proof = Reference.Proof(from, Leaves.AsSpan(0, to)).ToArray();
        var good = new Case("consistency", (ulong)from, (ulong)to, one, two, proof, true);
        yield return good;
        if (proof.Length == 0)
            yield break;
        var bad = good with { Proved = false };
        foreach (var @case in OtherNumbers(bad))
            yield return @case;
        yield return bad with
        {
            One = Text("WrongRoot"),
        };
        yield return bad with
        {
            Two = Text("WrongRoot"),
        };
        yield return bad with
        {
            One = two,
            Two = one,
        };
        yield return bad with
        {
            Proof = [],
        };
        yield return bad with
        {
            Proof = [.. proof, []],
        };
        yield return bad with
        {
            Proof = [.. proof, one],
        };
        yield return bad with
        {
            Proof = [.. proof, two],
        };
        yield return bad with
        {
            Proof = proof[..^1],
        };
        yield return bad with
        {
            Proof =
            [
                [],
                .. proof,
            ],
        };
        yield return bad with
        {
            Proof = [one, .. proof],
        };
        yield return bad with
        {
            Proof = [two, .. proof],
        };
        yield return bad with
        {
            Proof = [proof[0], .. proof],
        };
        for (var i = 0; i < proof.Length; i++)
            yield return bad with
            {
                Proof = Flip(proof, i, 4),
            };
    }

    private static IEnumerable<Case> Odd()
    {
        byte[] one = Text("don't care 1"),
            two = Text("don't care 2"),
            single = SHA256.HashData([0, .. "data"u8]);
        foreach (var (position, size) in ((ulong, ulong)[])[(0, 0), (0, 1), (1, 0), (2, 1)])
        {
            yield return new("inclusion", position, size, [], Random, []);
            yield return new("inclusion", position, size, Nothing, [], []);
            yield return new("inclusion", position, size, Nothing, Random, []);
        }
        yield return new("inclusion", 0, 1, single, single, [], true);
        yield return new("inclusion", 0, 1, single, [], []);
        yield return new("inclusion", 0, 1, [], single, []);
        yield return new("inclusion", 0, 1, [], [], []);
        yield return new("consistency", 0, 1, Nothing, Nothing, [Nothing]);
        yield return new("consistency", 0, 0, Nothing, two, []);
        yield return new("consistency", 1, 1, Nothing, two, []);
        yield return new("consistency", 2, 1, one, two, []);
        yield return new("consistency", 1, 0, one, two, []);
        yield return new("consistency", 0, 1, one, two, []);
        yield return new("consistency", 0, 1, Nothing, two, []);
        yield return new("consistency", 1, 1, two, two, [], true);
        yield return new("consistency", 1, 1, one, two, []);
        yield return new("consistency", 0, 0, one, one, []);
        yield return new("consistency", 0, 0, one, two, []);
        yield return new("consistency", 1, 2, one, two, []);
        yield return new("consistency", 1, 1, Nothing, Nothing, [Nothing]);
        yield return new("consistency", 0, 0, Nothing, Nothing, [Nothing]);
    }

    [Fact]
    public void Published_vectors_are_proved_or_refused_as_they_say()
    {
        Case[] cases =
        [
            .. Inclusion(0, 1),
            .. Inclusion(0, 8),
            .. Inclusion(5, 8),
            .. Inclusion(2, 3),
            .. Inclusion(1, 5),
            .. Consistency(1, 1),
            .. Consistency(1, 8),
            .. Consistency(6, 8),
            .. Consistency(2, 5),
            .. Consistency(6, 7),
            .. Odd(),
        ];
        foreach (var one in cases)
            Assert.True(one.Proved == one.Holds, one.ToString());
        var lines = cases.Select(c => c.ToString()).Distinct().Order(StringComparer.Ordinal).ToArray();
        Assert.Equal(Published, Convert.ToHexStringLower(SHA256.HashData(Text(string.Concat(lines.Select(l => l + "\n"))))));
        Assert.Equal(194, lines.Length);
    }
}
