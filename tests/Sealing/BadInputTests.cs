using Google.Protobuf;
using Ministries.Types.V1;

namespace Ministries.Sealing.Tests;

/// <summary>Whatever was changed, cut, moved or sent to another fails to open, by name, and says which field.</summary>
public class BadInputTests
{
    private sealed record Bad(SealFault Fault, string Field, Action<Case> Change);

    /// <summary>What is opened, and how.</summary>
    private sealed class Case
    {
        public Sealed Sealed { get; set; } = Sample.Seal(Sample.Ministry, Sample.Observer);
        public SealContext Expected { get; set; } = Sample.Context;
        public Party Reader { get; set; } = Sample.Observer;
        public SealedKey? Added { get; set; }

        public void Edit(Action<SealedContent> edit)
        {
            var content = SealedContent.Parser.ParseFrom(Sealed.Content);
            edit(content);
            Sealed.Content = content.ToByteString();
        }

        public void Bytes(Func<byte[], byte[]> edit) => Sealed.Content = ByteString.CopyFrom(edit(Sealed.Content.ToByteArray()));

        /// <summary>Replaces a field by other bytes under its right key, as the sender alone could.</summary>
        public void Forge(int number, byte[] padded)
        {
            var readable = Readable.Check(Sealed, Expected, PersonIdentity.Descriptor);
            using var secret = RecordSecret.Unwrap(readable.Hash, readable.WrapFor(Reader.Id), Reader.Identity)!;
            var (key, commitment, aead) = (new byte[32], new byte[32], new byte[32]);
            secret.KeyOf((uint)number, key);
            FieldCipher.Derive(key, commitment, aead);
            Edit(c =>
                c.Fields[number - 1].Ciphertext = ByteString.CopyFrom(FieldCipher.Encrypt(aead, readable.Hash, (uint)number, padded))
            );
        }
    }

    private static readonly Dictionary<string, Bad> Table = new()
    {
        ["a wrong recipient"] = new(SealFault.WrongRecipient, "identity", c => c.Reader = Sample.Stranger),
        ["a key that is not at hand"] = new(SealFault.KeyUnknown, "identity", c => c.Reader = new Party("icrc", "icrc/seal-2")),
        ["another key under the same id"] = new(
            SealFault.NotAuthentic,
            "identity",
            c =>
                c.Sealed = Sealer.Seal(
                    Sample.Person(),
                    Sample.Context,
                    [Sample.Observer.Recipient with { Key = Sample.Ministry.Identity.PublicKey }]
                )
        ),
        ["an unknown scheme"] = new(SealFault.UnknownScheme, "identity", c => c.Sealed.Scheme = "ministries-sealed-v2"),
        ["two fields swapped"] = new(
            SealFault.OtherField,
            "identity.rank",
            c => c.Edit(s => (s.Fields[1], s.Fields[3]) = (s.Fields[3].Clone(), s.Fields[1].Clone()))
        ),
        ["two ciphertexts swapped"] = new(
            SealFault.NotAuthentic,
            "identity.rank",
            c => c.Edit(s => (s.Fields[1].Ciphertext, s.Fields[3].Ciphertext) = (s.Fields[3].Ciphertext, s.Fields[1].Ciphertext))
        ),
        ["two fields swapped but for their numbers"] = new(
            SealFault.CommitmentDiffers,
            "identity.rank",
            c =>
                c.Edit(s =>
                {
                    (s.Fields[1], s.Fields[3]) = (s.Fields[3].Clone(), s.Fields[1].Clone());
                    (s.Fields[1].Number, s.Fields[3].Number) = (2, 4);
                })
        ),
        ["the same in another request"] = new(
            SealFault.OtherRecord,
            "identity",
            c => c.Expected = c.Expected with { Record = "018f0000-0000-7000-8000-000000000002" }
        ),
        ["the same in another request that its content names"] = new(
            SealFault.NotAuthentic,
            "identity",
            c =>
            {
                c.Expected = c.Expected with { Record = "018f0000-0000-7000-8000-000000000002" };
                c.Edit(s => s.Record = c.Expected.Record);
            }
        ),
        ["a field of another record"] = new(
            SealFault.CommitmentDiffers,
            "identity.rank",
            c =>
            {
                var other = SealedContent.Parser.ParseFrom(Sample.Seal(Sample.Ministry, Sample.Observer).Content);
                c.Edit(s => s.Fields[1] = other.Fields[1]);
            }
        ),
        ["a key of another record"] = new(
            SealFault.CommitmentDiffers,
            "identity.name",
            c =>
            {
                var other = SealedContent.Parser.ParseFrom(Sample.Seal(Sample.Ministry, Sample.Observer).Content);
                c.Edit(s => s.Keys[1] = other.Keys[1]);
            }
        ),
        ["the same in another case"] = new(
            SealFault.OtherCase,
            "identity",
            c => c.Expected = c.Expected with { Case = "case_01jqk5s4y0000000000000000b" }
        ),
        ["the same in another field"] = new(SealFault.OtherField, "health", c => c.Expected = c.Expected with { Field = "health" }),
        ["another sender"] = new(SealFault.OtherSender, "identity", c => c.Expected = c.Expected with { Sender = "kr/mfa" }),
        ["another message"] = new(
            SealFault.OtherMessage,
            "identity",
            c => c.Sealed = Sealer.Seal(new Text(), Sample.Context, [Sample.Observer.Recipient])
        ),
        ["a recipient more"] = new(SealFault.Truncated, "identity", c => c.Sealed.Recipients.Add("kp/mfa")),
        ["a recipient less"] = new(SealFault.OtherRecipients, "identity", c => c.Sealed.Recipients.RemoveAt(0)),
        ["a recipient twice"] = new(
            SealFault.BadRecipients,
            "identity",
            c =>
            {
                c.Sealed.Recipients[0] = "icrc";
                c.Edit(s => s.Keys[0].Recipient = "icrc");
            }
        ),
        ["another recipient in one's place"] = new(
            SealFault.NotAuthentic,
            "identity",
            c =>
            {
                c.Sealed.Recipients[0] = "kp/mfa";
                c.Edit(s => s.Keys[0].Recipient = "kp/mfa");
            }
        ),
        ["nothing"] = new(SealFault.Truncated, "identity", c => c.Sealed.Content = ByteString.Empty),
        ["the last field cut off"] = new(SealFault.Truncated, "identity.voluntary", c => c.Edit(s => s.Fields.RemoveAt(4))),
        ["a field cut out"] = new(SealFault.OtherField, "identity.rank", c => c.Edit(s => s.Fields.RemoveAt(1))),
        ["a field more"] = new(
            SealFault.OtherField,
            "identity",
            c =>
                c.Edit(s =>
                {
                    s.Fields.Add(s.Fields[4].Clone());
                    s.Fields[5].Number = 9;
                })
        ),
        ["a ciphertext cut off"] = new(
            SealFault.WrongPadding,
            "identity.rank",
            c => c.Edit(s => s.Fields[1].Ciphertext = ByteString.CopyFrom(s.Fields[1].Ciphertext.Span[..79]))
        ),
        ["a short commitment"] = new(
            SealFault.CommitmentDiffers,
            "identity.rank",
            c => c.Edit(s => s.Fields[1].Commitment = ByteString.CopyFrom(new byte[31]))
        ),
        ["a short encapsulation"] = new(
            SealFault.InvalidKey,
            "identity",
            c => c.Edit(s => s.Keys[1].Encapsulation = ByteString.CopyFrom(new byte[1119]))
        ),
        ["an encapsulation of low order"] = new(
            SealFault.NotAuthentic,
            "identity",
            c => c.Edit(s => s.Keys[1].Encapsulation = ByteString.CopyFrom([.. s.Keys[1].Encapsulation.Span[..1088], .. new byte[32]]))
        ),
        ["padded to a larger size"] = new(
            SealFault.WrongPadding,
            "identity.rank",
            c => c.Forge(2, [.. Padding.Pad(new PersonIdentity { Rank = "private" }.ToByteArray()), .. new byte[192]])
        ),
        ["padded with something"] = new(
            SealFault.WrongPadding,
            "identity.rank",
            c =>
            {
                var padded = Padding.Pad(new PersonIdentity { Rank = "private" }.ToByteArray());
                padded[63] = 1;
                c.Forge(2, padded);
            }
        ),
        ["a length that exceeds its size"] = new(
            SealFault.WrongPadding,
            "identity.rank",
            c => c.Forge(2, [0xFF, 0xFF, 0xFF, 0xFF, .. new byte[60]])
        ),
        ["re-padded without the key"] = new(
            SealFault.NotAuthentic,
            "identity.rank",
            c => c.Edit(s => s.Fields[1].Ciphertext = ByteString.CopyFrom([.. s.Fields[1].Ciphertext.Span, .. new byte[192]]))
        ),
        ["another field inside a field"] = new(
            SealFault.NotCanonical,
            "identity.rank",
            c => c.Forge(2, Padding.Pad(new PersonIdentity { SerialNumber = "1" }.ToByteArray()))
        ),
        ["an unknown field inside a field"] = new(
            SealFault.NotCanonical,
            "identity.rank",
            c => c.Forge(2, Padding.Pad([.. new PersonIdentity { Rank = "private" }.ToByteArray(), 0xA8, 0x06, 1]))
        ),
        ["a field written twice"] = new(
            SealFault.NotCanonical,
            "identity.rank",
            c =>
                c.Forge(
                    2,
                    Padding.Pad([.. new PersonIdentity { Rank = "a" }.ToByteArray(), .. new PersonIdentity { Rank = "b" }.ToByteArray()])
                )
        ),
        ["what is no message inside a field"] = new(SealFault.NotCanonical, "identity.rank", c => c.Forge(2, Padding.Pad([0x12, 0xFF]))),
        ["an unknown field in the content"] = new(SealFault.NotCanonical, "identity", c => c.Bytes(b => [.. b, 0x40, 1])),
        ["a content in another order"] = new(
            SealFault.NotCanonical,
            "identity",
            c => c.Bytes(b => [.. b[(2 + Sample.Context.Case.Length)..], .. b[..(2 + Sample.Context.Case.Length)]])
        ),
        ["a content that is too large"] = new(SealFault.TooLarge, "identity", c => c.Bytes(b => [.. b, .. new byte[65537]])),
        ["an added wrap for another"] = new(
            SealFault.WrongRecipient,
            "identity",
            c => c.Added = c.Reader.Opener.Rewrap(c.Sealed, c.Expected, PersonIdentity.Descriptor, Sample.Stranger.Recipient)
        ),
        ["an added wrap of another record"] = new(
            SealFault.CommitmentDiffers,
            "identity.name",
            c =>
                c.Added = c.Reader.Opener.Rewrap(
                    Sample.Seal(Sample.Ministry, Sample.Observer),
                    c.Expected,
                    PersonIdentity.Descriptor,
                    c.Reader.Recipient
                )
        ),
        ["an added wrap that was cut"] = new(
            SealFault.NotAuthentic,
            "identity",
            c =>
            {
                c.Added = SealedContent.Parser.ParseFrom(c.Sealed.Content).Keys[1].Clone();
                c.Added.Secret = ByteString.CopyFrom(c.Added.Secret.Span[1..]);
            }
        ),
    };

    public static TheoryData<string> Names => [.. Table.Keys];

    [Theory, MemberData(nameof(Names))]
    public void It_fails_to_open_by_name_and_says_which_field(string name)
    {
        var (bad, @case) = (Table[name], new Case());
        Assert.Equal(Sample.Person(), @case.Reader.Open(@case.Sealed));
        bad.Change(@case);
        var thrown = Assert.Throws<SealException>(() =>
            @case.Reader.Opener.Open<PersonIdentity>(@case.Sealed, @case.Expected, @case.Added)
        );
        Assert.Equal((bad.Fault, bad.Field), (thrown.Fault, thrown.Field));
        Assert.StartsWith(bad.Field + ": ", thrown.Message, StringComparison.Ordinal);
        Assert.DoesNotContain(Sample.Canary, thrown.ToString(), StringComparison.Ordinal);
        Assert.DoesNotContain("private", thrown.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Content_that_is_cut_anywhere_is_called_truncated()
    {
        var whole = Sample.Seal(Sample.Observer);
        for (var length = 0; length < whole.Content.Length; length++)
        {
            var cut = whole.Clone();
            cut.Content = ByteString.CopyFrom(whole.Content.Span[..length]);
            Assert.Equal(SealFault.Truncated, Assert.Throws<SealException>(() => Sample.Observer.Open(cut)).Fault);
        }
    }

    [Fact]
    public void A_changed_byte_is_found_unless_it_is_in_anothers_key()
    {
        var whole = Sample.Seal(Sample.Ministry, Sample.Observer);
        var content = SealedContent.Parser.ParseFrom(whole.Content);
        var others = new[] { content.Keys[0].Encapsulation, content.Keys[0].Secret }
            .Select(b => (Start: whole.Content.Span.IndexOf(b.Span), b.Length))
            .Append((whole.Content.Span.IndexOf("kr/mfa/seal-1"u8), 13))
            .ToArray();
        // Every byte but those within the long ciphertexts and encapsulations, of which some do.
        for (var at = 0; at < whole.Content.Length; at += at % 7 == 0 ? 5 : 1)
        {
            var changed = whole.Clone();
            var bytes = whole.Content.ToByteArray();
            bytes[at] ^= (byte)(1 << at % 8);
            changed.Content = ByteString.CopyFrom(bytes);
            if (others.Any(o => at >= o.Item1 && at < o.Item1 + o.Item2))
                continue;
            Assert.Throws<SealException>(() => Sample.Observer.Open(changed));
        }
    }
}
