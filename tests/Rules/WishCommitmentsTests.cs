using System.Security.Cryptography;
using Google.Protobuf;

namespace Ministries.Rules.Tests;

/// <summary>A statement's commitments open for a destination that he accepts, and tell nothing else.</summary>
public class WishCommitmentsTests
{
    private const string Case = "case_01jqk5s4y0000000000000000a";
    private const string Prisoner = "pris_01jqk5s4y0000000000000000b";
    private static readonly byte[] Secret = [.. Enumerable.Range(0, 32).Select(i => (byte)i)];

    [Fact]
    public void The_bytes_are_those_that_another_implementation_computed()
    {
        var made = WishCommitments.Make(Case, Prisoner, ["ua", "ch"], Secret);
        Assert.Equal(
            "0F2221FDCC246FD407C877A7A8403BB9CC729EFD5F80528C6B97159ABA71D357",
            Convert.ToHexString(SHA256.HashData(made.SelectMany(c => c).ToArray()))
        );
        Assert.Equal(
            "CF80BF0B9191F793B8E9D56A696C61E5C1975FDAA229BAB951B61EC349B745FA",
            Convert.ToHexString(WishCommitments.OpeningOf(Case, Prisoner, "ua", Secret).Span)
        );
        Assert.Contains(made, c => Convert.ToHexString(c.Span) == "0070A0337A171B5A364105F3D75DE9384FE8CC4DB95DA55EEC3EB2C885C49295");
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(15)]
    [InlineData(16)]
    public void Every_wish_has_commitments_of_one_form(int destinations)
    {
        var made = WishCommitments.Make(Case, Prisoner, Destinations(destinations), Secret);
        Assert.True(WishCommitments.HaveForm(made));
        Assert.True(WishCommitments.Verify(made, Case, Prisoner, Destinations(destinations), Secret));
        Assert.All(
            Destinations(destinations),
            d => Assert.True(WishCommitments.Matches(made, WishCommitments.OpeningOf(Case, Prisoner, d, Secret), Case, Prisoner, d))
        );
    }

    [Fact]
    public void An_opening_shows_its_own_destination_prisoner_case_and_statement_alone()
    {
        var made = WishCommitments.Make(Case, Prisoner, ["UA", "CH"], Secret);
        var opening = WishCommitments.OpeningOf(Case, Prisoner, "UA", Secret);
        Assert.False(WishCommitments.Matches(made, opening, Case, Prisoner, "CH"));
        Assert.False(WishCommitments.Matches(made, opening, Case, Prisoner[..^1] + "c", "UA"));
        Assert.False(WishCommitments.Matches(made, opening, Case[..^1] + "c", Prisoner, "UA"));
        Assert.False(WishCommitments.Matches(WishCommitments.Make(Case, Prisoner, ["UA"], new byte[32]), opening, Case, Prisoner, "UA"));
    }

    [Fact]
    public void No_opening_shows_what_he_does_not_accept()
    {
        var made = WishCommitments.Make(Case, Prisoner, ["UA"], Secret);
        Assert.False(WishCommitments.Matches(made, WishCommitments.OpeningOf(Case, Prisoner, "RU", Secret), Case, Prisoner, "RU"));
        Assert.DoesNotContain(made, c => WishCommitments.Matches(made, c, Case, Prisoner, "RU"));
    }

    [Theory]
    [InlineData(0)]
    [InlineData(31)]
    [InlineData(33)]
    [InlineData(64)]
    public void An_opening_of_another_length_matches_nothing(int length)
    {
        // HMAC fills a short key up with zeros, so this would be the same key.
        var secret = SecretWithOpeningThatEndsInZero();
        var made = WishCommitments.Make(Case, Prisoner, ["UA"], secret);
        var opening = WishCommitments.OpeningOf(Case, Prisoner, "UA", secret);
        Assert.True(WishCommitments.Matches(made, opening, Case, Prisoner, "UA"));
        var other = new byte[length];
        opening.Span[..Math.Min(length, 32)].CopyTo(other);
        Assert.False(WishCommitments.Matches(made, ByteString.CopyFrom(other), Case, Prisoner, "UA"));
    }

    [Fact]
    public void Who_has_the_secret_sees_any_commitment_that_is_not_of_the_wish()
    {
        var made = WishCommitments.Make(Case, Prisoner, ["UA"], Secret);
        Assert.False(WishCommitments.Verify(made, Case, Prisoner, [], Secret));
        Assert.False(WishCommitments.Verify(made, Case, Prisoner, ["CH"], Secret));
        Assert.False(WishCommitments.Verify(made, Case, Prisoner, ["UA", "CH"], Secret));
        Assert.False(WishCommitments.Verify(made, Case, Prisoner, ["UA", "UA"], Secret));
        Assert.False(WishCommitments.Verify(made, Case, Prisoner, ["UA"], new byte[32]));
        Assert.False(WishCommitments.Verify(made, Case, Prisoner, ["UA"], Secret.AsSpan(1)));
        Assert.False(WishCommitments.Verify([.. made.Take(15)], Case, Prisoner, ["UA"], Secret));
        for (var i = 0; i < WishCommitments.Count; i++)
        {
            var changed = made.ToArray();
            changed[i] = ByteString.CopyFrom([.. changed[i].Span[..31], (byte)(changed[i][31] ^ 1)]);
            Assert.False(WishCommitments.Verify(changed, Case, Prisoner, ["UA"], Secret));
        }
    }

    [Fact]
    public void The_form_is_sixteen_values_in_order_and_none_twice()
    {
        var made = WishCommitments.Make(Case, Prisoner, ["UA"], Secret);
        Assert.False(WishCommitments.HaveForm([]));
        Assert.False(WishCommitments.HaveForm([.. made.Skip(1)]));
        Assert.False(WishCommitments.HaveForm([.. made.Skip(1), made[0]]));
        Assert.False(WishCommitments.HaveForm([made[0], .. made.Take(15)]));
        Assert.False(WishCommitments.HaveForm([.. made.Take(15), ByteString.CopyFrom([.. made[15].Span, 0])]));
    }

    [Fact]
    public void What_is_no_wish_is_refused()
    {
        Assert.Throws<ArgumentException>(() => WishCommitments.Make(Case, Prisoner, ["UA", "UA"], Secret));
        Assert.Throws<ArgumentException>(() => WishCommitments.Make(Case, Prisoner, [""], Secret));
        Assert.Throws<ArgumentException>(() => WishCommitments.Make(Case, Prisoner, Destinations(17), Secret));
        Assert.Throws<ArgumentException>(() => WishCommitments.Make(Case, Prisoner, [], Secret.AsSpan(1)));
        Assert.Throws<ArgumentException>(() => WishCommitments.OpeningOf(Case, Prisoner, "UA", []));
    }

    private static string[] Destinations(int count) => [.. Enumerable.Range(0, count).Select(i => $"{(char)('A' + i)}A")];

    private static byte[] SecretWithOpeningThatEndsInZero()
    {
        for (var i = 0; ; i++)
        {
            var secret = SHA256.HashData(BitConverter.GetBytes(i));
            if (WishCommitments.OpeningOf(Case, Prisoner, "UA", secret)[31] == 0)
                return secret;
        }
    }
}
