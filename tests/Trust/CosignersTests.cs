using Google.Protobuf.WellKnownTypes;
using Ministries.Ledger;
using Ministries.Ledger.V1;
using Ministries.Types.V1;

namespace Ministries.Trust.Tests;

public sealed class CosignersTests : IDisposable
{
    private static readonly DateTimeOffset Time = DateTimeOffset.UtcNow;
    private readonly string _folder = Directory.CreateTempSubdirectory("cosigners").FullName;
    private readonly Agreement _agreement;
    private readonly SignedNote _note;

    public CosignersTests()
    {
        Pki.Init(_folder, StandardAgreement.Read(), TimeProvider.System);
        _agreement = Google.Protobuf.JsonParser.Default.Parse<Agreement>(File.ReadAllText(Path.Combine(_folder, "agreement.json")));
        // A checkpoint as a service signs it: the three lines of the text, and the signature line of type 1.
        var text = $"{_agreement.TrustDomain}/calllog\n7\n{Convert.ToBase64String(new byte[32])}\n";
        _note = SignedNote.Read($"{text}\n— {_agreement.TrustDomain}/calllog {Convert.ToBase64String(new byte[68])}\n")!;
    }

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private string By(string participant, DateTimeOffset? time = null, string? of = null) =>
        CosignatureKey
            .FromPem(
                CosignatureKey.NameOf(_agreement.TrustDomain, participant),
                File.ReadAllText(Path.Combine(_folder, of ?? participant, "cosignatures.key"))
            )
            .Cosign(_note, time ?? Time);

    [Fact]
    public void The_participants_that_cosigned_are_told_each_once_and_strangers_are_ignored()
    {
        Assert.Empty(Cosigners.Of(_note.ToString(), _agreement));
        var stranger = CosignatureKey.FromSeed("stranger.example/w", new byte[32]).Cosign(_note, Time);
        var note = _note + By("kr/mfa") + stranger + By("icrc") + By("kr/mfa", Time.AddSeconds(5));
        Assert.Equal(["icrc", "kr/mfa"], Cosigners.Of(note, _agreement));
        var all = Cosigners.On(note, _agreement);
        Assert.Equal(3, all.Count);
        Assert.All(all, c => Assert.Null(c.Wrong));
        Assert.Equal(
            ("icrc/cosignatures-1", Time.ToUnixTimeSeconds()),
            (all.Single(c => c.Participant == "icrc").Key, all.Single(c => c.Participant == "icrc").Time!.Value.ToUnixTimeSeconds())
        );
    }

    [Fact]
    public void A_cosignature_by_another_than_it_names_spoils_the_note()
    {
        // The key of one under the name of the other has another id: it is a stranger's.
        Assert.Equal(["icrc"], Cosigners.Of(_note + By("icrc") + By("kr/mfa", of: "ua/mfa"), _agreement));
        var line = By("kr/mfa");
        var bytes = Convert.FromBase64String(line.Trim().Split(' ')[2]);
        bytes[^1] ^= 1;
        var forged = line.Replace(line.Trim().Split(' ')[2], Convert.ToBase64String(bytes));
        Assert.Empty(Cosigners.Of(_note + By("icrc") + forged, _agreement));
        Assert.Contains(
            Cosigners.On(_note + By("icrc") + forged, _agreement),
            c => c is { Participant: "kr/mfa", Time: null, Wrong: not null }
        );
    }

    [Fact]
    public void A_key_counts_at_the_time_of_its_cosignature()
    {
        var key = _agreement.Participants.Single(p => p.Id == "kr/mfa").SigningKeys.Single(k => k.Use == SigningKeyUse.Cosignatures);
        key.RevokeTime = Time.AddHours(1).ToTimestamp();
        Assert.Equal(["kr/mfa"], Cosigners.Of(_note + By("kr/mfa"), _agreement));
        Assert.Empty(Cosigners.Of(_note + By("kr/mfa", Time.AddHours(2)), _agreement));
        Assert.Empty(Cosigners.Of(_note + By("kr/mfa", Time.AddDays(-1)), _agreement));
    }

    [Fact]
    public void Services_and_the_operator_are_no_witnesses()
    {
        Assert.DoesNotContain(Cosigners.KeysOf(_agreement), k => k.Participant.Id.StartsWith("service/") || k.Participant.Id == "operator");
        foreach (var id in (string[])["service/calllog", "operator"])
            _agreement
                .Participants.Single(p => p.Id == id)
                .SigningKeys.Add(
                    new SigningKey
                    {
                        Id = $"{id}/c",
                        Use = SigningKeyUse.Cosignatures,
                        PublicKey = _agreement.Participants.Single(p => p.Id == "icrc").SigningKeys[0].PublicKey,
                    }
                );
        Assert.DoesNotContain(Cosigners.KeysOf(_agreement), k => k.Participant.Id.StartsWith("service/") || k.Participant.Id == "operator");
    }

    [Theory]
    [InlineData(2, 60, null, "icrc https://w.example/", "kr/mfa https://w.example/kr/")]
    [InlineData(0, 0, null)]
    [InlineData(1, 60, "1 cosignatures are demanded of 0")]
    [InlineData(1, 0, "within", "icrc https://w.example/")]
    [InlineData(1, 60, "no key", "service/calllog https://w.example/")]
    [InlineData(1, 60, "needs an address", "icrc http://w.example/")]
    [InlineData(1, 60, "needs an address", "icrc https://w.example")]
    [InlineData(1, 60, "twice", "icrc https://w.example/", "icrc https://v.example/")]
    public void What_an_agreement_says_of_witnesses_must_be_possible(uint demanded, uint seconds, string? wrong, params string[] witnesses)
    {
        (_agreement.CosignaturesDemanded, _agreement.CosignatureSeconds) = (demanded, seconds);
        _agreement.Witnesses.Add(witnesses.Select(w => w.Split(' ')).Select(w => new Witness { Participant = w[0], Address = w[1] }));
        if (wrong is null)
            Assert.Null(Cosigners.Wrong(_agreement));
        else
            Assert.Contains(wrong, Cosigners.Wrong(_agreement));
    }

    [Fact]
    public void A_receipt_is_written_as_a_proof_that_others_tools_read()
    {
        var receipt = new Receipt { Position = 4, Checkpoint = _note.ToString() };
        receipt.InclusionProof.Add(Google.Protobuf.ByteString.CopyFrom(new byte[32]));
        var proof = LogProof.Read(Cosigners.ProofOf(receipt));
        Assert.Equal((4UL, 1, _note.ToString()), (proof.Index, proof.Hashes.Count, proof.Checkpoint));
    }
}
