using System.Buffers.Binary;
using System.Security.Cryptography;
using System.Text;
using NSec.Cryptography;

namespace Ministries.Ledger.Tests;

public class CosignatureTests
{
    private static readonly CheckpointKey Log = CheckpointKey.FromSeed("ministries.example/calllog", new byte[32]);
    private static readonly byte[] Seed = [.. Enumerable.Repeat((byte)7, 32)];
    private static readonly CosignatureKey Witness = CosignatureKey.FromSeed("ministries.example/witness/kr/mfa", Seed);
    private static readonly DateTimeOffset Time = DateTimeOffset.FromUnixTimeSeconds(1_679_315_147);

    private static SignedNote Signed(ulong size = 1234) => SignedNote.Read(Log.Sign(size, SHA256.HashData("root"u8)).Text)!;

    [Fact]
    public void A_cosignature_is_over_the_time_and_the_note_as_specified()
    {
        var note = Signed();
        var line = Witness.Cosign(note, Time);
        var bytes = Convert.FromBase64String(line.Trim().Split(' ')[2]);
        Assert.StartsWith("— ministries.example/witness/kr/mfa ", line);
        Assert.Equal(4 + 8 + 64, bytes.Length);
        Assert.Equal(1_679_315_147, BinaryPrimitives.ReadInt64BigEndian(bytes.AsSpan(4)));
        using var key = Key.Import(SignatureAlgorithm.Ed25519, Seed, KeyBlobFormat.RawPrivateKey);
        var raw = key.PublicKey.Export(KeyBlobFormat.RawPublicKey);
        Assert.Equal(SHA256.HashData([.. "ministries.example/witness/kr/mfa\n"u8, 4, .. raw])[..4], bytes[..4]);
        var message =
            "cosignature/v1\ntime 1679315147\nministries.example/calllog\n1234\n"
            + Convert.ToBase64String(SHA256.HashData("root"u8))
            + "\n";
        Assert.True(SignatureAlgorithm.Ed25519.Verify(key.PublicKey, Encoding.UTF8.GetBytes(message), bytes.AsSpan(12)));
    }

    [Fact]
    public void A_checkpoint_without_a_line_of_signatures_is_signed_by_nobody()
    {
        var text = Signed().Text;
        foreach (var note in (string[])[$"{text}\n", $"{text}\n\n", text, "\n\n", $"{Log.Name}\n\n"])
        {
            Assert.Null(Log.Verify(note));
            Assert.Null(SignedNote.Read(note));
        }
    }

    // A public witness's key, as its operator publishes it, and the other forms that are refused.
    [Fact]
    public void A_known_witness_key_is_read_and_other_keys_are_not()
    {
        const string known = "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2";
        Assert.Equal(known, CosignatureKey.FromVerifier(known).Verifier);
        foreach (
            var wrong in (string[])["", "a+b", known.Replace("da77", "da78"), Log.Verifier, known.Replace("BOvN", "B!vN"), known[..^4]]
        )
            Assert.Throws<FormatException>(() => CosignatureKey.FromVerifier(wrong));
        Assert.Equal(Witness.Verifier, CosignatureKey.FromVerifier(Witness.Verifier).Verifier);
        Assert.Throws<InvalidOperationException>(() => CosignatureKey.FromVerifier(Witness.Verifier).Cosign(Signed(), Time));
    }

    [Fact]
    public void A_cosignature_holds_for_its_note_time_and_key_alone()
    {
        var line = Witness.Cosign(Signed(), Time);
        var note = SignedNote.Read(Signed() + line)!;
        Assert.NotNull(Log.Verify(note.ToString()));
        var signature = note.Signatures.Single(Witness.Names);
        Assert.Equal(Time, Witness.Verify(note, signature));
        Assert.Null(Witness.Verify(Signed(1235), signature));
        for (var i = 0; i < signature.Bytes.Length; i++)
        {
            var changed = signature.Bytes.ToArray();
            changed[i] ^= 1;
            Assert.Null(Witness.Verify(note, signature with { Bytes = changed }));
        }
        Assert.Null(Witness.Verify(note, signature with { Bytes = signature.Bytes[..^1] }));
        var other = CosignatureKey.FromSeed(Witness.Name, new byte[32]);
        Assert.False(other.Names(signature));
        Assert.False(CosignatureKey.FromSeed("ministries.example/witness/ua/mfa", Seed).Names(signature));
        // Without a time, a cosignature does not say which tree was the greatest.
        Assert.Throws<ArgumentOutOfRangeException>(() => Witness.Cosign(note, DateTimeOffset.UnixEpoch));
    }

    [Fact]
    public void Extension_lines_are_cosigned_too()
    {
        var plain = Signed();
        var extended = plain with { Text = plain.Text + "extension\n" };
        var signature = SignedNote.ReadLines(Witness.Cosign(extended, Time))!.Single();
        Assert.Equal(Time, Witness.Verify(extended, signature));
        Assert.Null(Witness.Verify(plain, signature));
    }

    [Fact]
    public void A_checkpoint_has_three_lines()
    {
        var plain = Signed();
        Assert.NotNull(plain.Tree);
        foreach (var more in (string[])["extension\n", "\n", " \n"])
            Assert.Null((plain with { Text = plain.Text + more }).Tree);
        Assert.Null((plain with { Text = plain.Text.Replace("ministries", "minist\u0085ries") }).Tree);
        Assert.Null((plain with { Text = plain.Text.Replace("1234", "01234") }).Tree);
    }

    [Theory]
    [
        InlineData("\u0085"),
        InlineData("\ufeff"),
        InlineData("\u00a0"),
        InlineData("\u200b"),
        InlineData("\u3000"),
        InlineData("é"),
        InlineData("+")
    ]
    [InlineData("\u007f"), InlineData("\t")]
    public void A_name_of_a_key_is_printable_ascii(string character)
    {
        var name = $"ministries{character}.example/calllog";
        Assert.Throws<ArgumentException>(() => CheckpointKey.FromSeed(name, Seed));
        Assert.Throws<ArgumentException>(() => CosignatureKey.FromSeed(name, Seed));
        Assert.Null(SignedNote.Read($"{Signed().Text}\n— {name} AAAAAAA=\n"));
    }

    [Fact]
    public void Every_line_of_a_key_must_hold_whichever_comes_first()
    {
        var (note, other) = (Signed(), Signed(1235));
        foreach (
            var lines in (string[])[note.Signatures[0].Line + other.Signatures[0].Line, other.Signatures[0].Line + note.Signatures[0].Line]
        )
            Assert.Null(Log.Verify($"{note.Text}\n{lines}"));
        Assert.NotNull(Log.Verify($"{note.Text}\n{note.Signatures[0].Line}{note.Signatures[0].Line}"));
    }

    [Theory]
    [InlineData(0ul), InlineData(253_370_764_800), InlineData(253_402_300_799), InlineData(253_402_300_800), InlineData(ulong.MaxValue)]
    public void A_cosignature_without_a_valid_time_does_not_count(ulong seconds)
    {
        var note = Signed();
        using var key = Key.Import(SignatureAlgorithm.Ed25519, Seed, KeyBlobFormat.RawPrivateKey);
        var stamp = new byte[8];
        BinaryPrimitives.WriteUInt64BigEndian(stamp, seconds);
        var line = Witness.Cosign(note, Time);
        var id = SignedNote.ReadLines(line)!.Single().KeyId;
        var made = SignatureAlgorithm.Ed25519.Sign(key, Encoding.UTF8.GetBytes($"cosignature/v1\ntime {seconds}\n{note.Text}"));
        var signature = SignedNote.ReadLines($"— {Witness.Name} {Convert.ToBase64String([.. id, .. stamp, .. made])}\n")!.Single();
        Assert.True(Witness.Names(signature));
        Assert.Null(Witness.Verify(note, signature));
    }

    [Theory]
    [InlineData("")]
    [InlineData("a\n")]
    [InlineData("a\n\n")]
    [InlineData("a\n\nno signature\n")]
    [InlineData("a\n\n— name AAAAAAA=")]
    [InlineData("a\n\n— name AAAA\n")]
    [InlineData("a\n\n— name AAAAAAA= x\n")]
    [InlineData("a\n\n— na+me AAAAAAA=\n")]
    [InlineData("a\n\n—  AAAAAAA=\n")]
    [InlineData("a\n\n— name AAAA AAA=\n")]
    [InlineData("a\n\n— name AAAAAAB=\n")]
    [InlineData("a\tb\n\n— name AAAAAAA=\n")]
    [InlineData("a\r\n\r\n— name AAAAAAA=\r\n")]
    public void A_text_that_is_no_signed_note_is_not_read(string text) => Assert.Null(SignedNote.Read(text));

    [Fact]
    public void A_note_may_have_empty_lines_and_a_bounded_number_of_signatures()
    {
        var note = SignedNote.Read("Ognuno sta solo\n\nsul cuor della terra\n\n— name AAAAAAA=\n")!;
        Assert.Equal(("Ognuno sta solo\n\nsul cuor della terra\n", "name"), (note.Text, note.Signatures.Single().Name));
        Assert.Equal("Ognuno sta solo", note.Origin);
        var lines = string.Concat(Enumerable.Repeat("— name AAAAAAA=\n", SignedNote.MaxSignatures));
        Assert.Equal(SignedNote.MaxSignatures, SignedNote.Read("a\n\n" + lines)!.Signatures.Count);
        Assert.Null(SignedNote.Read("a\n\n" + lines + "— name AAAAAAA=\n"));
        Assert.Null(SignedNote.Read(new string('a', SignedNote.MaxLength) + "\n\n— name AAAAAAA=\n"));
    }
}

public class LogProofTests
{
    private static readonly byte[] One = SHA256.HashData("hash1"u8),
        Two = SHA256.HashData("hash2"u8);

    [Fact]
    public void A_proof_is_written_and_read_as_the_specification_has_it()
    {
        var (one, two, extra) = (Convert.ToBase64String(One), Convert.ToBase64String(Two), Convert.ToBase64String("more"u8));
        foreach (
            var (proof, text) in ((LogProof, string)[])
                [
                    (new(5, [One, Two], "test checkpoint\n"), $"c2sp.org/tlog-proof@v1\nindex 5\n{one}\n{two}\n\ntest checkpoint\n"),
                    (
                        new(10, [One], "checkpoint data\n\nx\n", [.. "more"u8]),
                        $"c2sp.org/tlog-proof@v1\nextra {extra}\nindex 10\n{one}\n\ncheckpoint data\n\nx\n"
                    ),
                    (new(0, [], "checkpoint\n"), "c2sp.org/tlog-proof@v1\nindex 0\n\ncheckpoint\n"),
                ]
        )
        {
            Assert.Equal(text, proof.ToString());
            var read = LogProof.Read(text);
            Assert.Equal((proof.Index, proof.Checkpoint), (read.Index, read.Checkpoint));
            Assert.Equal(proof.Hashes, read.Hashes);
            Assert.Equal(proof.Extra, read.Extra);
        }
    }

    [Theory]
    [InlineData("wrong-header\nindex 0\n\ncheckpoint\n", "line 1")]
    [InlineData("c2sp.org/tlog-proof@v1\nextra !!notbase64!!\nindex 0\n\ncheckpoint\n", "line 2")]
    [InlineData("c2sp.org/tlog-proof@v1\n\n\ncheckpoint\n", "line 2")]
    [InlineData("c2sp.org/tlog-proof@v1\nindex notanumber\n\ncheckpoint\n", "line 2")]
    [InlineData("c2sp.org/tlog-proof@v1\nindex -5\n\ncheckpoint\n", "line 2")]
    [InlineData("c2sp.org/tlog-proof@v1\nindex 05\n\ncheckpoint\n", "line 2")]
    [InlineData("c2sp.org/tlog-proof@v1\nindex 18446744073709551616\n\ncheckpoint\n", "line 2")]
    [InlineData("c2sp.org/tlog-proof@v1\nindex 0\n!!notbase64!!\n\ncheckpoint\n", "line 3")]
    [InlineData("c2sp.org/tlog-proof@v1\nindex 0\nAAAA\n\ncheckpoint\n", "line 3")]
    [InlineData("c2sp.org/tlog-proof@v1\nindex 0\n", "empty line")]
    public void A_malformed_proof_is_refused_with_its_line(string text, string where) =>
        Assert.Contains(where, Assert.Throws<FormatException>(() => LogProof.Read(text)).Message);

    [Fact]
    public void A_proof_that_is_too_long_is_refused()
    {
        var line = Convert.ToBase64String(One) + "\n";
        const string head = "c2sp.org/tlog-proof@v1\nindex 0\n";
        Assert.Equal(63, LogProof.Read(head + string.Concat(Enumerable.Repeat(line, 63)) + "\nc\n").Hashes.Count);
        Assert.Throws<FormatException>(() => LogProof.Read(head + string.Concat(Enumerable.Repeat(line, 64)) + "\nc\n"));
        Assert.Throws<FormatException>(() => LogProof.Read(head + "\n" + new string('a', SignedNote.MaxLength)));
    }
}
