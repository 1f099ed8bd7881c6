using System.Security.Cryptography;
using Google.Protobuf;
using Google.Protobuf.Reflection;
using Ministries.Types.V1;
using NSec.Cryptography;

namespace Ministries.Sealing.Tests;

/// <summary>What was sealed is opened wider, or one field of it alone, without its sender.</summary>
public class WiderTests
{
    private static readonly MessageDescriptor Person = PersonIdentity.Descriptor;

    [Fact]
    public void One_field_opens_for_a_third_party_without_the_others()
    {
        var @sealed = Sample.Seal(Sample.Ministry, Sample.Observer);
        using var key = Sample.Observer.Opener.DiscloseField(@sealed, Sample.Context, Person, 2);
        var sent = new byte[FieldKey.Bytes];
        key.CopyTo(sent);
        using var received = FieldKey.Read(sent);
        Assert.Equal(new PersonIdentity { Rank = "private" }, Opener.OpenField<PersonIdentity>(@sealed, Sample.Context, received));
        // The same key under another number opens nothing.
        for (byte number = 1; number < 12; number++)
        {
            if (number == 2)
                continue;
            sent[3] = number;
            using var other = FieldKey.Read(sent);
            var thrown = Assert.Throws<SealException>(() => Opener.OpenField<PersonIdentity>(@sealed, Sample.Context, other));
            Assert.Equal(number <= 9 ? SealFault.CommitmentDiffers : SealFault.OtherField, thrown.Fault);
        }
    }

    [Fact]
    public void A_disclosed_field_is_provably_the_one_that_was_signed()
    {
        // The request's signature covers the content. So whoever discloses cannot give a key that opens something else.
        var @sealed = Sample.Seal(Sample.Observer);
        var lie = Sealer.Seal(new PersonIdentity { Rank = "general" }, Sample.Context, [Sample.Observer.Recipient]);
        using var key = Sample.Observer.Opener.DiscloseField(lie, Sample.Context, Person, 2);
        var thrown = Assert.Throws<SealException>(() => Opener.OpenField<PersonIdentity>(@sealed, Sample.Context, key));
        Assert.Equal((SealFault.CommitmentDiffers, "identity.rank"), (thrown.Fault, thrown.Field));
    }

    [Fact]
    public void An_absent_field_is_provably_absent()
    {
        var @sealed = Sample.Seal(Sample.Observer);
        using var key = Sample.Observer.Opener.DiscloseField(@sealed, Sample.Context, Person, 3);
        Assert.Equal(new PersonIdentity(), Opener.OpenField<PersonIdentity>(@sealed, Sample.Context, key));
    }

    [Fact]
    public void Some_fields_are_wrapped_for_a_third_party_who_opens_them_and_nothing_else()
    {
        var @sealed = Sample.Seal(Sample.Observer);
        var wrap = Sample.Observer.Opener.WrapFields(@sealed, Sample.Context, Person, [2, 4], Sample.Stranger.Recipient);
        Assert.Equal(2 * 36 + 16, wrap.Secret.Length);
        var opened = Sample.Stranger.Opener.OpenFields<PersonIdentity>(@sealed, Sample.Context, wrap);
        Assert.Equal(new PersonIdentity { Rank = "private", SerialNumber = "000-17" }, opened);
        // It is no wrap of the whole.
        Assert.Equal(SealFault.NotAuthentic, Assert.Throws<SealException>(() => Sample.Stranger.Open(@sealed, wrap)).Fault);
        Assert.Equal(
            SealFault.WrongRecipient,
            Assert.Throws<SealException>(() => Sample.Ministry.Opener.OpenFields<PersonIdentity>(@sealed, Sample.Context, wrap)).Fault
        );
        wrap.Secret = ByteString.CopyFrom(wrap.Secret.Span[..^1]);
        Assert.Equal(
            SealFault.Truncated,
            Assert.Throws<SealException>(() => Sample.Stranger.Opener.OpenFields<PersonIdentity>(@sealed, Sample.Context, wrap)).Fault
        );
    }

    [Fact]
    public void Who_was_given_some_fields_passes_on_these_and_no_other_also_for_a_new_key()
    {
        var @sealed = Sample.Seal(Sample.Observer);
        var wrap = Sample.Observer.Opener.WrapFields(@sealed, Sample.Context, Person, [2, 4], Sample.Stranger.Recipient);
        var further = Sample.Stranger.Opener.RewrapFields(@sealed, Sample.Context, Person, [2], Sample.Power.Recipient, wrap);
        Assert.Equal(
            new PersonIdentity { Rank = "private" },
            Sample.Power.Opener.OpenFields<PersonIdentity>(@sealed, Sample.Context, further)
        );
        foreach (
            var numbers in (int[][])
                [
                    [1],
                    [1, 2],
                    [20],
                    [],
                ]
        )
            Assert.Equal(
                SealFault.OtherField,
                Assert
                    .Throws<SealException>(() =>
                        Sample.Stranger.Opener.RewrapFields(@sealed, Sample.Context, Person, numbers, Sample.Power.Recipient, wrap)
                    )
                    .Fault
            );
        using var newer = SealingIdentity.FromSeed("kp/mfa/seal-2", SealingIdentity.NewSeed());
        var rotated = Sample.Stranger.Opener.RewrapFields(
            @sealed,
            Sample.Context,
            Person,
            [2, 4],
            new(Sample.Stranger.Id, newer.Id, newer.PublicKey),
            wrap
        );
        Assert.Equal(
            new PersonIdentity { Rank = "private", SerialNumber = "000-17" },
            new Opener(Sample.Stranger.Id, [newer]).OpenFields<PersonIdentity>(@sealed, Sample.Context, rotated)
        );
        // One who wraps other keys is found out before anything is handed on.
        var other = Sample.Seal(Sample.Observer);
        Assert.Equal(
            SealFault.CommitmentDiffers,
            Assert
                .Throws<SealException>(() =>
                    Sample.Stranger.Opener.RewrapFields(other, Sample.Context, Person, [2], Sample.Power.Recipient, wrap)
                )
                .Fault
        );
    }

    [Theory]
    [InlineData]
    [InlineData(20)]
    [InlineData(2, 2)]
    [InlineData(4, 2)]
    public void Fields_to_wrap_are_fields_of_the_message_once_each_in_order(params int[] numbers)
    {
        var @sealed = Sample.Seal(Sample.Observer);
        var thrown = Assert.Throws<SealException>(() =>
            Sample.Observer.Opener.WrapFields(@sealed, Sample.Context, Person, numbers, Sample.Stranger.Recipient)
        );
        Assert.Equal(SealFault.OtherField, thrown.Fault);
    }

    [Fact]
    public void A_recipient_is_added_by_one_who_can_open_it_and_by_nobody_else()
    {
        var @sealed = Sample.Seal(Sample.Ministry, Sample.Observer);
        var wrap = Sample.Observer.Opener.Rewrap(@sealed, Sample.Context, Person, Sample.Stranger.Recipient);
        Assert.Equal(Sample.Person(), Sample.Stranger.Open(@sealed, wrap));
        // He who was added can add further ones, and the content stays as it was signed.
        var further = Sample.Stranger.Opener.Rewrap(@sealed, Sample.Context, Person, Sample.Power.Recipient, wrap);
        Assert.Equal(Sample.Person(), Sample.Power.Open(@sealed, further));
        Assert.Equal(
            SealFault.WrongRecipient,
            Assert.Throws<SealException>(() => Sample.Power.Opener.Rewrap(@sealed, Sample.Context, Person, Sample.Power.Recipient)).Fault
        );
    }

    [Fact]
    public void A_key_is_rotated_without_the_sender_and_the_old_one_destroyed()
    {
        using var old = SealingIdentity.FromSeed("icrc/seal-1", Sample.Observer.Seed);
        using var @new = SealingIdentity.FromSeed("icrc/seal-2", SealingIdentity.NewSeed());
        var @sealed = Sample.Seal(Sample.Observer);
        var rotated = new Opener("icrc", [old]).Rewrap(@sealed, Sample.Context, Person, new("icrc", @new.Id, @new.PublicKey));
        old.Dispose();
        var opener = new Opener("icrc", [@new]);
        Assert.Equal(Sample.Person(), opener.Open<PersonIdentity>(@sealed, Sample.Context, rotated));
        Assert.Equal(SealFault.KeyUnknown, Assert.Throws<SealException>(() => opener.Open<PersonIdentity>(@sealed, Sample.Context)).Fault);
    }

    [Fact]
    public void The_halves_of_a_key_may_live_apart()
    {
        // As with a token: only X25519 is asked of it, and its private key stays there.
        using var token = Key.Create(KeyAgreementAlgorithm.X25519);
        var asked = 0;
        using var halves = new XWingPrivateKey(
            RandomNumberGenerator.GetBytes(64),
            token.PublicKey.Export(KeyBlobFormat.RawPublicKey),
            (other, shared) =>
            {
                asked++;
                var point = PublicKey.Import(KeyAgreementAlgorithm.X25519, other, KeyBlobFormat.RawPublicKey);
                if (!XWing.TryAgree(token, point, shared))
                    shared.Clear();
                return true;
            },
            token
        );
        using var identity = new SealingIdentity("icrc/seal-3", halves);
        var @sealed = Sealer.Seal(Sample.Person(), Sample.Context, [new("icrc", identity.Id, identity.PublicKey)]);
        var opener = new Opener("icrc", [identity]);
        Assert.Equal(Sample.Person(), opener.Open<PersonIdentity>(@sealed, Sample.Context));
        Assert.Equal(1, asked);
        // Zeros, which some tokens give for a point of low order, are no secret.
        var content = SealedContent.Parser.ParseFrom(@sealed.Content);
        content.Keys[0].Encapsulation = ByteString.CopyFrom([.. content.Keys[0].Encapsulation.Span[..1088], .. new byte[32]]);
        @sealed.Content = content.ToByteString();
        Assert.Equal(
            SealFault.NotAuthentic,
            Assert.Throws<SealException>(() => opener.Open<PersonIdentity>(@sealed, Sample.Context)).Fault
        );
    }

    [Fact]
    public void Nobody_is_handed_a_secret_that_opens_something_else_than_the_others_read()
    {
        // A sender who gives one recipient another secret is found out by that recipient, before he hands anything on.
        var (one, other) = (Sample.Seal(Sample.Ministry, Sample.Observer), Sample.Seal(Sample.Ministry, Sample.Observer));
        var (mixed, alien) = (SealedContent.Parser.ParseFrom(one.Content), SealedContent.Parser.ParseFrom(other.Content));
        mixed.Keys[1] = alien.Keys[1];
        one.Content = mixed.ToByteString();
        Assert.Equal(Sample.Person(), Sample.Ministry.Open(one));
        void AssertDiffers(Action act) => Assert.Equal(SealFault.CommitmentDiffers, Assert.Throws<SealException>(act).Fault);
        var opener = Sample.Observer.Opener;
        AssertDiffers(() => opener.Open<PersonIdentity>(one, Sample.Context));
        AssertDiffers(() => opener.Rewrap(one, Sample.Context, Person, Sample.Stranger.Recipient));
        AssertDiffers(() => opener.DiscloseField(one, Sample.Context, Person, 2));
        AssertDiffers(() => opener.WrapFields(one, Sample.Context, Person, [2], Sample.Stranger.Recipient));
    }
}
