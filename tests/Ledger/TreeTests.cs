using System.Security.Cryptography;
using System.Text;
using CsCheck;

namespace Ministries.Ledger.Tests;

/// <summary>RFC 6962 section 2.1, implemented literally, for comparison.</summary>
internal static class Reference
{
    public static byte[] Root(ReadOnlySpan<byte[]> leaves)
    {
        if (leaves.Length == 0)
            return SHA256.HashData([]);
        if (leaves.Length == 1)
            return leaves[0];
        var k = Split(leaves.Length);
        return SHA256.HashData([1, .. Root(leaves[..k]), .. Root(leaves[k..])]);
    }

    public static List<byte[]> Path(int m, ReadOnlySpan<byte[]> leaves)
    {
        if (leaves.Length == 1)
            return [];
        var k = Split(leaves.Length);
        return m < k ? [.. Path(m, leaves[..k]), Root(leaves[k..])] : [.. Path(m - k, leaves[k..]), Root(leaves[..k])];
    }

    public static List<byte[]> Proof(int m, ReadOnlySpan<byte[]> leaves, bool known = true)
    {
        if (m == leaves.Length)
            return known ? [] : [Root(leaves)];
        var k = Split(leaves.Length);
        return m <= k ? [.. Proof(m, leaves[..k], known), Root(leaves[k..])] : [.. Proof(m - k, leaves[k..], false), Root(leaves[..k])];
    }

    private static int Split(int count)
    {
        var k = 1;
        while (k * 2 < count)
            k *= 2;
        return k;
    }
}

public class TreeTests
{
    private static (TreeView View, List<TileRow> Tiles) Grow(IEnumerable<byte[]> leaves)
    {
        var tiles = new List<TileRow>();
        var edge = new TreeEdge(0, []);
        foreach (var leaf in leaves)
            edge.Add(leaf, tiles);
        return (edge.TakeView(), tiles);
    }

    // The leaves and roots that implementations of Certificate Transparency test with.
    [Theory]
    [InlineData(1, "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d")]
    [InlineData(2, "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125")]
    [InlineData(3, "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77")]
    [InlineData(4, "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7")]
    [InlineData(5, "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4")]
    [InlineData(6, "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef")]
    [InlineData(7, "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c")]
    [InlineData(8, "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328")]
    public void The_known_tree_has_its_known_roots(int size, string root)
    {
        string[] known = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
        var leaves = known.Take(size).Select(l => SHA256.HashData([0, .. Convert.FromHexString(l)]));
        Assert.Equal(root, Convert.ToHexStringLower(Grow(leaves).View.Root()));
    }

    [Fact]
    public void An_empty_tree_has_the_hash_of_nothing() =>
        Assert.Equal("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", Convert.ToHexStringLower(Grow([]).View.Root()));

    [Fact]
    public void Roots_and_proofs_are_those_of_the_standard_at_any_size() =>
        Gen.Select(Gen.Int[1, 1100], Gen.Int[0, 1 << 20], Gen.Int[0, 1 << 20])
            .Sample(
                (size, a, b) =>
                {
                    var leaves = Enumerable.Range(0, size).Select(i => SHA256.HashData(Encoding.UTF8.GetBytes($"leaf {i}"))).ToArray();
                    var (position, from) = (a % size, b % size + 1);
                    var view = Grow(leaves).View;
                    var root = Reference.Root(leaves);
                    Assert.Equal(root, view.Root());
                    Assert.Equal(root, TreeView.RootOf(view.Edge().SelectMany(h => h).ToArray()));
                    var inclusion = view.Inclusion((ulong)position);
                    Assert.Equal(Reference.Path(position, leaves), inclusion);
                    var consistency = view.Consistency((ulong)from);
                    Assert.Equal(Reference.Proof(from, leaves), consistency);
                    Assert.True(Proofs.Includes(leaves[position], (ulong)position, (ulong)size, root, inclusion));
                    var earlier = Reference.Root(leaves.AsSpan(0, from));
                    Assert.True(Proofs.Extends((ulong)from, earlier, (ulong)size, root, consistency));

                    // Nothing else is proved.
                    Assert.False(Proofs.Includes(leaves[(position + 1) % size], (ulong)position, (ulong)size, root, inclusion) && size > 1);
                    Assert.False(Proofs.Includes(leaves[position], (ulong)position + 1, (ulong)size, root, inclusion));
                    Assert.False(Proofs.Includes(leaves[position], (ulong)position, (ulong)size, root, [.. inclusion, root]));
                    Assert.False(
                        Proofs.Extends((ulong)from, leaves[0], (ulong)size, root, consistency) && (from > 1 || size == 1 && from != 1)
                    );
                    Assert.False(Proofs.Extends((ulong)from, earlier, (ulong)size, root, [.. consistency, root]));
                },
                iter: 150
            );

    // The example of C2SP tlog-tiles: 273 full tiles of leaves and 112 leaves, one full tile of level 1 and 17 hashes.
    [Fact]
    public void A_tree_of_seventy_thousand_has_the_tiles_of_the_specification()
    {
        var leaves = Enumerable.Range(0, 70_000).Select(i => SHA256.HashData(BitConverter.GetBytes(i))).ToArray();
        var edge = new TreeEdge(0, []);
        var tiles = new List<TileRow>();
        foreach (var leaf in leaves[..69_999])
            edge.Add(leaf, tiles);
        edge.TakeView();
        edge.Add(leaves[^1], tiles);
        var view = edge.TakeView();
        Assert.Equal((273, 1), (tiles.Count(t => t.Level == 0), tiles.Count(t => t.Level == 1)));
        Assert.Equal(Reference.Root(leaves.AsSpan(0, 65_536)), tiles.Single(t => t.Level == 1).Root);
        Assert.Equal(Reference.Root(leaves), view.Root());
        Assert.Equal(Reference.Path(69_999, leaves), view.Inclusion(69_999));
    }

    [Fact]
    public void A_batch_proves_what_it_added_from_the_tiles_that_it_touched() =>
        Gen.Select(Gen.Int[0, 1000], Gen.Int[1, 600])
            .Sample(
                (before, added) =>
                {
                    var leaves = Enumerable.Range(0, before + added).Select(i => SHA256.HashData(BitConverter.GetBytes(i))).ToArray();
                    var edge = new TreeEdge(0, []);
                    var tiles = new List<TileRow>();
                    foreach (var leaf in leaves[..before])
                        edge.Add(leaf, tiles);
                    edge.TakeView();
                    foreach (var leaf in leaves[before..])
                        edge.Add(leaf, tiles);
                    var view = edge.TakeView();
                    var root = Reference.Root(leaves);
                    Assert.Equal(root, view.Root());
                    foreach (var position in new[] { before, before + added / 2, before + added - 1 })
                        Assert.True(Proofs.Includes(leaves[position], (ulong)position, view.Size, root, view.Inclusion((ulong)position)));
                    Assert.Empty(view.TakeMissed());
                    foreach (var tile in tiles)
                        Assert.Equal(tile.Root, Tile.Of(tile.Hashes).Root);
                },
                iter: 100
            );
}

public class CheckpointTests
{
    private static readonly CheckpointKey Key = CheckpointKey.FromSeed("ministries.example/calllog", new byte[32]);

    // Public verifier keys in wide use: the key id is that of C2SP signed-note.
    [Theory]
    [InlineData("sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8")]
    [InlineData("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW")]
    public void Known_verifier_keys_are_read(string verifier) => Assert.Equal(verifier, CheckpointKey.FromVerifier(verifier).Verifier);

    [Fact]
    public void A_key_is_read_from_its_text()
    {
        // RFC 8410 section 7: a PKCS #8 text of an Ed25519 key, here of the seed of zeros.
        byte[] der = [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20, .. new byte[32]];
        var pem = $"-----BEGIN PRIVATE KEY-----\n{Convert.ToBase64String(der)}\n-----END PRIVATE KEY-----\n";
        Assert.Equal(Key.Verifier, CheckpointKey.FromPem(Key.Name, pem).Verifier);
    }

    [Fact]
    public void A_checkpoint_is_a_signed_note_of_origin_size_and_root()
    {
        var signed = Key.Sign(1234, SHA256.HashData("root"u8));
        var lines = signed.Text.Split('\n');
        Assert.Equal(["ministries.example/calllog", "1234", Convert.ToBase64String(SHA256.HashData("root"u8)), ""], lines[..4]);
        Assert.StartsWith("— ministries.example/calllog ", lines[4]);
        Assert.Equal("", lines[5]);
        var read = CheckpointKey.FromVerifier(Key.Verifier).Verify(signed.Text);
        Assert.Equal(1234UL, read!.Size);
        Assert.Equal(signed.Root, read.Root);
    }

    [Fact]
    public void Cosignatures_of_others_are_ignored_and_changes_are_seen()
    {
        var text = Key.Sign(1234, new byte[32]).Text;
        Assert.NotNull(Key.Verify(text + "— witness.example " + Convert.ToBase64String(new byte[76]) + "\n"));
        Assert.Null(Key.Verify(text.Replace("1234", "1235")));
        Assert.Null(Key.Verify(text.Replace("\n1234", "\n01234")));
        Assert.Null(Key.Verify(text[..^1]));
        Assert.Null(Key.Verify(""));
        Assert.Null(Key.Verify("\n\n"));
        Assert.Null(CheckpointKey.Generate("ministries.example/calllog").Verify(text));
        Assert.Null(CheckpointKey.FromSeed("ministries.example/other", new byte[32]).Verify(text));
    }

    [Fact]
    public void An_interrupted_write_leaves_the_previous_checkpoint()
    {
        var path = Engine.NewFile("checkpoint");
        using (var checkpoints = new Checkpoints(Key, path))
            for (ulong size = 1; size <= 3; size++)
                checkpoints.Advance(size, SHA256.HashData([(byte)size]));
        var whole = File.ReadAllBytes(path);
        for (var cut = 0; cut < 300; cut += 7)
        {
            var bytes = whole.ToArray();
            // The third was written into the slot of the first.
            bytes.AsSpan(cut, 1024 - cut).Clear();
            File.WriteAllBytes(path, bytes);
            using var reopened = new Checkpoints(Key, path);
            Assert.Equal(
                cut > 0 && Key.Verify(Encoding.UTF8.GetString(bytes.AsSpan(0, 1024)).TrimEnd('\0')) is not null ? 3UL : 2UL,
                reopened.Last!.Size
            );
        }
    }

    [Fact]
    public void An_interrupted_first_write_counts_as_none_and_a_foreign_key_is_refused()
    {
        var path = Engine.NewFile("checkpoint");
        using (var checkpoints = new Checkpoints(Key, path))
            checkpoints.Advance(1, new byte[32]);
        Assert.Throws<LedgerInconsistentException>(() => new Checkpoints(CheckpointKey.Generate(Key.Name), path));
        File.WriteAllBytes(path, File.ReadAllBytes(path)[..40]);
        using var again = new Checkpoints(Key, path);
        Assert.Null(again.Last);
    }

    [Fact]
    public void What_a_new_key_could_not_sign_at_once_it_signs_when_it_is_asked_again()
    {
        using var checkpoints = new Checkpoints(Key, Engine.NewFile("checkpoint"));
        checkpoints.Advance(5, SHA256.HashData([1]));
        using var next = CheckpointKey.Of(Key.Name, new FailsFirst());
        Assert.Throws<IOException>(() => checkpoints.SignWith(next));
        Assert.NotNull(Key.Verify(checkpoints.Last!.Text));
        checkpoints.SignWith(next);
        Assert.Null(Key.Verify(checkpoints.Last!.Text));
        Assert.Equal(5ul, next.Verify(checkpoints.Last!.Text)!.Size);
    }

    // A key that cannot be used the first time, as a token that is away or a disk that is full makes it.
    private sealed class FailsFirst : Ministries.Keys.Signer
    {
        private readonly Ministries.Keys.Signer _key = FromSeed(SHA256.HashData([7]));
        private bool _failed;

        public override ReadOnlyMemory<byte> PublicKey => _key.PublicKey;

        public override byte[] Sign(ReadOnlySpan<byte> data)
        {
            if (_failed)
                return _key.Sign(data);
            _failed = true;
            throw new IOException("away");
        }

        protected override void Dispose(bool disposing) => _key.Dispose();
    }

    [Fact]
    public void Two_roots_of_one_size_are_never_signed()
    {
        using var checkpoints = new Checkpoints(Key, Engine.NewFile("checkpoint"));
        checkpoints.Advance(5, SHA256.HashData([1]));
        Assert.Null(checkpoints.Advance(4, SHA256.HashData([1])));
        Assert.Throws<LedgerInconsistentException>(() => checkpoints.Advance(5, SHA256.HashData([2])));
    }
}
