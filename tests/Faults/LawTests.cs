using Google.Protobuf;
using Ministries.Consular.V1;
using Ministries.Custody.V1;

namespace Ministries.Faults.Tests;

/// <summary>The judge of the whole case finds what it is there to find.</summary>
public class LawTests
{
    private const string Case = "case_00000000000000000000000001",
        Prisoner = "pris_00000000000000000000000001",
        Transfer = "transfer_00000000000000000000000001";

    private static readonly byte[] Secret = [.. Enumerable.Range(0, WishCommitments.Bytes).Select(i => (byte)i)];

    private readonly List<Recorded> _custody = [];
    private readonly List<Recorded> _consular = [];

    [Fact]
    public void A_hand_over_on_his_word_breaks_nothing()
    {
        HandOver();
        Assert.Empty(Law.Breaches(_custody, _consular));
    }

    [Fact]
    public void Custody_that_passes_from_a_power_that_does_not_hold_him_or_twice_is_found()
    {
        HandOver();
        Pass("UA", "KR");
        Assert.Contains(
            Law.Breaches(_custody, _consular),
            b => b.Contains("custody passes from UA, and KR holds him", StringComparison.Ordinal)
        );
        Assert.Contains(Law.Breaches(_custody, _consular), b => b.Contains("custody passed 2 times", StringComparison.Ordinal));
    }

    [Fact]
    public void A_hand_over_that_both_confirmed_and_custody_does_not_know_is_found()
    {
        HandOver();
        _custody.RemoveAt(_custody.Count - 1);
        Assert.Contains(
            Law.Breaches(_custody, _consular),
            b => b.Contains("1 hand-overs from UA to KR are confirmed, custody passed 0 times", StringComparison.Ordinal)
        );
    }

    [Theory]
    [InlineData("KR", 0, "0 had attested what he said last")]
    [InlineData("KR", 2, "2 had attested what he said last")]
    [InlineData("", 3, "does not open to KR")]
    [InlineData("US", 3, "does not open to KR")]
    public void A_departure_after_another_word_of_his_is_found(string accepts, int attesters, string why)
    {
        Register();
        Say("KR", 3);
        Decide();
        Say(accepts, attesters);
        Consular(
            new TransitBegun
            {
                Case = Case,
                Prisoner = Prisoner,
                Transfer = Transfer,
                CustodyPosition = (ulong)_custody.Count,
            }
        );
        var breach = Assert.Single(Law.Breaches(_custody, _consular));
        Assert.Contains("TransitBegun", breach);
        Assert.Contains(why, breach);
    }

    [Fact]
    public void A_word_that_came_after_the_decision_is_held_against_nobody()
    {
        Register();
        Say("KR", 3);
        Decide();
        Say("", 3);
        Assert.Empty(Law.Breaches(_custody, _consular));
    }

    [Fact]
    public void A_departure_of_one_who_said_nothing_is_found()
    {
        Register();
        Decide();
        Assert.Contains("he had said nothing", Assert.Single(Law.Breaches(_custody, _consular)));
    }

    private void HandOver()
    {
        Register();
        Say("KR", 3);
        Decide();
        Consular(
            new HandoverConfirmed
            {
                Case = Case,
                Prisoner = Prisoner,
                Transfer = Transfer,
                FromPower = "UA",
                ToPower = "KR",
                CustodyPosition = (ulong)_custody.Count,
            }
        );
        Pass("UA", "KR");
    }

    private void Register()
    {
        Custody(
            new PrisonerRegistered
            {
                Case = Case,
                Prisoner = Prisoner,
                DetainingPower = "UA",
            }
        );
        Consular(
            new TransferRequestDrafted
            {
                Case = Case,
                Prisoner = Prisoner,
                Transfer = Transfer,
                Destination = "KR",
            }
        );
    }

    private void Say(string accepts, int attesters)
    {
        var statement = $"statement_{_custody.Count}";
        Custody(
            new StatementRecorded
            {
                Case = Case,
                Prisoner = Prisoner,
                Statement = statement,
            },
            new RecordStatementRequest
            {
                Commitments = { WishCommitments.Make(Case, Prisoner, accepts.Length > 0 ? [accepts] : [], Secret) },
            }
        );
        for (var i = 0; i < attesters; i++)
            Custody(
                new StatementAttested
                {
                    Case = Case,
                    Prisoner = Prisoner,
                    Statement = statement,
                }
            );
    }

    private void Decide() =>
        Consular(
            new TransferDecided
            {
                Case = Case,
                Prisoner = Prisoner,
                Transfer = Transfer,
                Agreed = true,
                CustodyPosition = (ulong)_custody.Count,
            },
            new DecideTransferRequest { Openings = { WishCommitments.OpeningOf(Case, Prisoner, "KR", Secret) } }
        );

    private void Pass(string from, string to) =>
        Custody(
            new CustodyTransferred
            {
                Case = Case,
                Prisoner = Prisoner,
                FromPower = from,
                ToPower = to,
            }
        );

    private void Custody(IMessage e, IMessage? request = null) => _custody.Add(new((ulong)_custody.Count, e, request));

    private void Consular(IMessage e, IMessage? request = null) => _consular.Add(new((ulong)_consular.Count, e, request));
}
