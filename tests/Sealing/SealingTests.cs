using CsCheck;
using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Ministries.Types.V1;

namespace Ministries.Sealing.Tests;

/// <summary>What is sealed opens to the same for its recipients and for nobody else.</summary>
public class SealingTests
{
    [Fact]
    public void What_is_sealed_opens_to_the_same_for_every_recipient_and_for_nobody_else()
    {
        var text = Gen.Char.AlphaNumeric.Array[0, 300].Select(c => new string(c));
        Gen.Select(text, text, text, Gen.Int[0, 5], Gen.Int[1, 15])
            .Sample(
                (name, rank, serial, voluntary, who) =>
                {
                    var person = new PersonIdentity { Rank = rank, SerialNumber = serial };
                    if (name.Length > 0)
                        person.Name = new PersonName { Original = name };
                    for (var i = 0; i < voluntary; i++)
                        person.Voluntary.Add(
                            new VoluntaryDatum
                            {
                                Kind = $"kind-{i}",
                                Value = new Text { Text_ = rank },
                            }
                        );
                    var recipients = Sample.All.Where((_, i) => (who >> i & 1) == 1).ToArray();
                    var @sealed = Sealer.Seal(person, Sample.Context, [.. recipients.Select(r => r.Recipient)]);
                    Assert.Equal(recipients.Select(r => r.Id), @sealed.Recipients);
                    Assert.All(recipients, r => Assert.Equal(person, r.Open(@sealed)));
                    Assert.All(
                        Sample.All.Except(recipients),
                        r => Assert.Equal(SealFault.WrongRecipient, Assert.Throws<SealException>(() => r.Open(@sealed)).Fault)
                    );
                },
                iter: 60
            );
    }

    [Fact]
    public void A_field_that_is_set_and_one_that_is_not_look_alike()
    {
        var full = SealedContent.Parser.ParseFrom(Sample.Seal(Sample.Observer).Content);
        var empty = SealedContent.Parser.ParseFrom(Sealer.Seal(new PersonIdentity(), Sample.Context, [Sample.Observer.Recipient]).Content);
        Assert.Equal([80, 80, 80, 80, 1040, 80, 80, 80, 80], full.Fields.Select(f => f.Ciphertext.Length));
        Assert.Equal(Enumerable.Repeat(80, 9), empty.Fields.Select(f => f.Ciphertext.Length));
        Assert.Equal(full.Fields.Select(f => f.Number), empty.Fields.Select(f => f.Number));
    }

    [Fact]
    public void Nothing_of_it_is_readable_and_no_two_sealings_share_a_byte_of_ciphertext()
    {
        var (one, other) = (Sample.Seal(Sample.Observer), Sample.Seal(Sample.Observer));
        Assert.Equal(-1, one.Content.Span.IndexOf("Canary"u8));
        var (a, b) = (SealedContent.Parser.ParseFrom(one.Content), SealedContent.Parser.ParseFrom(other.Content));
        Assert.All(a.Fields.Zip(b.Fields), f => Assert.NotEqual(f.First.Ciphertext, f.Second.Ciphertext));
        Assert.All(a.Fields.Zip(b.Fields), f => Assert.NotEqual(f.First.Commitment, f.Second.Commitment));
    }

    [Theory]
    [InlineData(0, 64)]
    [InlineData(60, 64)]
    [InlineData(61, 256)]
    [InlineData(252, 256)]
    [InlineData(253, 1024)]
    [InlineData(1021, 4096)]
    [InlineData(4093, 16384)]
    [InlineData(16381, 49152)]
    [InlineData(49148, 49152)]
    public void Sizes_are_padded_to_the_smallest_that_fits(int length, int size)
    {
        var bytes = Enumerable.Repeat((byte)7, length).ToArray();
        var padded = Padding.Pad(bytes);
        Assert.Equal(size, padded.Length);
        Assert.True(Padding.TryUnpad(padded, out var back));
        Assert.Equal(bytes, back.ToArray());
    }

    [Fact]
    public void Sixteen_recipients_and_the_largest_field_are_the_limit()
    {
        var many = Enumerable.Range(0, 17).Select(i => Sample.Ministry.Recipient with { Participant = $"p-{i}" }).ToArray();
        var sealedToMany = Sealer.Seal(Sample.Person(), Sample.Context, many[..16]);
        var last = new Opener("p-15", [Sample.Ministry.Identity]);
        Assert.Equal(Sample.Person(), last.Open<PersonIdentity>(sealedToMany, Sample.Context));
        AssertFault(SealFault.BadRecipients, "identity", () => Sealer.Seal(Sample.Person(), Sample.Context, many));

        // Tag and length take 4 bytes of a long string's field.
        var largest = new PersonIdentity { Rank = new string('x', Sealer.MaxFieldBytes - 4) };
        Assert.Equal(largest, Sample.Observer.Open(Sealer.Seal(largest, Sample.Context, [Sample.Observer.Recipient])));
        AssertFault(
            SealFault.TooLarge,
            "identity.rank",
            () => Sealer.Seal(new PersonIdentity { Rank = largest.Rank + "x" }, Sample.Context, many[..1])
        );
        AssertFault(
            SealFault.TooLarge,
            "identity",
            () => Sealer.Seal(new PersonIdentity { Rank = largest.Rank, SerialNumber = new string('x', 16_000) }, Sample.Context, many[..1])
        );
    }

    [Fact]
    public void A_recipient_that_is_missing_or_named_twice_is_refused_by_name()
    {
        AssertFault(SealFault.BadRecipients, "identity", () => Sample.Seal());
        AssertFault(SealFault.BadRecipients, "identity", () => Sample.Seal(Sample.Observer, Sample.Observer));
    }

    [Fact]
    public void A_message_with_fields_unknown_to_its_contract_is_not_sealed_for_they_would_be_lost()
    {
        static T More<T>(MessageParser<T> parser, T message)
            where T : IMessage<T> => parser.ParseFrom((byte[])[.. message.ToByteArray(), 0xA8, 0x06, 1]);
        var (within, deeper) = (Sample.Person(), Sample.Person());
        within.Name = More(PersonName.Parser, within.Name);
        deeper.Voluntary[0].Value = More(Text.Parser, deeper.Voluntary[0].Value);
        foreach (var person in (PersonIdentity[])[More(PersonIdentity.Parser, Sample.Person()), within, deeper])
            AssertFault(SealFault.NotCanonical, "identity", () => Sealer.Seal(person, Sample.Context, [Sample.Observer.Recipient]));
    }

    [Fact]
    public void A_recipient_is_sealed_to_with_the_newest_of_its_keys_in_force()
    {
        SealingKey Key(Party of, int from, int? until = null, int? revoked = null) =>
            new()
            {
                Id = of.Identity.Id,
                PublicKey = ByteString.CopyFrom(of.Identity.PublicKey.Bytes),
                ValidFromTime = At(from),
                ValidUntilTime = until is { } u ? At(u) : null,
                RevokeTime = revoked is { } r ? At(r) : null,
            };
        var participant = new Participant
        {
            Id = "kr/mfa",
            SealingKeys = { Key(Sample.Ministry, 0, until: 30), Key(Sample.Observer, 10, revoked: 20), Key(Sample.Power, 40) },
        };
        Assert.Equal("kr/mfa/seal-1", Recipient.Of(participant, At(0), "identity").KeyId);
        Assert.Equal("icrc/seal-1", Recipient.Of(participant, At(10), "identity").KeyId);
        Assert.Equal("kr/mfa/seal-1", Recipient.Of(participant, At(20), "identity").KeyId);
        AssertFault(SealFault.NoSealingKey, "identity", () => Recipient.Of(participant, At(30), "identity"));
        Assert.Equal("ua/seal-1", Recipient.Of(participant, At(40), "identity").KeyId);
        participant.SealingKeys[2].PublicKey = ByteString.CopyFrom(new byte[1215]);
        AssertFault(SealFault.InvalidKey, "identity", () => Recipient.Of(participant, At(40), "identity"));

        static Timestamp At(int seconds) => new() { Seconds = 1_742_169_600 + seconds };
    }

    [Fact]
    public void A_public_key_of_low_order_is_refused()
    {
        var zero = XWingPublicKey.TryRead([.. Sample.Observer.Identity.PublicKey.Bytes[..1184], .. new byte[32]])!;
        var recipients = new[] { Sample.Ministry.Recipient, Sample.Observer.Recipient with { Key = zero } };
        AssertFault(SealFault.InvalidKey, "identity", () => Sealer.Seal(Sample.Person(), Sample.Context, recipients));
    }

    [Fact]
    public void Keys_are_not_printed_and_are_gone_after_disposal()
    {
        var identity = SealingIdentity.FromSeed("kr/mfa/seal-9", Sample.Ministry.Seed);
        Assert.Equal("sealing key kr/mfa/seal-9", identity.ToString());
        var @sealed = Sealer.Seal(Sample.Person(), Sample.Context, [new("kr/mfa", identity.Id, identity.PublicKey)]);
        identity.Dispose();
        Assert.Throws<ObjectDisposedException>(() => new Opener("kr/mfa", [identity]).Open<PersonIdentity>(@sealed, Sample.Context));
        var key = Sample.Observer.Opener.DiscloseField(Sample.Seal(Sample.Observer), Sample.Context, PersonIdentity.Descriptor, 2);
        Assert.Equal("key of field 2", key.ToString());
        key.Dispose();
        Assert.Equal(new byte[32], key.Key.ToArray());
    }

    /// <summary>BouncyCastle hands out copies of what it keeps; so what it keeps is overwritten if they are zeros.</summary>
    [Fact]
    public void Both_halves_of_a_key_are_overwritten_when_it_is_disposed_of()
    {
        var key = XWingPrivateKey.FromSeed(Sample.Ministry.Seed);
        var kept = key.MLKem!;
        Assert.True(kept.GetSeed().AsSpan().ContainsAnyExcept((byte)0) && kept.GetEncoded().AsSpan().ContainsAnyExcept((byte)0));
        key.Dispose();
        Assert.False(kept.GetSeed().AsSpan().ContainsAnyExcept((byte)0) || kept.GetEncoded().AsSpan().ContainsAnyExcept((byte)0));
        Assert.Throws<ObjectDisposedException>(() => key.TryDecapsulate(new byte[1120], new byte[32]));
        key.Dispose();
    }

    [Fact]
    public void The_library_refers_to_the_contracts_and_the_keys_alone() =>
        Assert.Equal(
            ["Ministries.Contracts", "Ministries.Keys"],
            typeof(Sealer)
                .Assembly.GetReferencedAssemblies()
                .Select(a => a.Name)
                .Where(n => n!.StartsWith("Ministries.", StringComparison.Ordinal))
        );

    private static void AssertFault(SealFault fault, string field, Action act)
    {
        var thrown = Assert.Throws<SealException>(act);
        Assert.Equal((fault, field), (thrown.Fault, thrown.Field));
    }
}
