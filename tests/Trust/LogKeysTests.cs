using System.Security.Cryptography;
using System.Text;
using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Ministries.Ledger;
using Ministries.Types.V1;
using NSec.Cryptography;

namespace Ministries.Trust.Tests;

/// <summary>Whether a checkpoint counts: by its key's time, to the second, and by what dates it.</summary>
public sealed class LogKeysTests : IDisposable
{
    private const string Origin = "ministries.example/custody";
    private static readonly DateTimeOffset End = new(2026, 11, 29, 12, 0, 0, TimeSpan.Zero);
    private readonly string _folder = Directory.CreateTempSubdirectory("logkeys").FullName;
    private readonly Agreement _agreement;

    public LogKeysTests()
    {
        Pki.Init(_folder, StandardAgreement.Read(), TimeProvider.System);
        _agreement = JsonParser.Default.Parse<Agreement>(File.ReadAllText(Path.Combine(_folder, "agreement.json")));
        foreach (var key in _agreement.Participants.SelectMany(p => p.SigningKeys))
            key.ValidFromTime = End.AddDays(-30).ToTimestamp();
        _agreement.CosignaturesDemanded = 0;
    }

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private SigningKey Own => _agreement.Participants.Single(p => p.Id == "service/custody").SigningKeys.Single();

    private SigningKey Of(string witness) =>
        _agreement.Participants.Single(p => p.Id == witness).SigningKeys.Single(k => k.Use == SigningKeyUse.Cosignatures);

    private string Note(params (string By, DateTimeOffset At)[] cosigned)
    {
        using var key = Fixtures.Signing.KeyIn(Path.Combine(_folder, "service/custody/checkpoint.key"));
        var text = $"{Origin}\n7\n{Convert.ToBase64String(new byte[32])}\n";
        byte[] id = SHA256.HashData([.. Encoding.UTF8.GetBytes($"{Origin}\n"), 1, .. key.PublicKey.Export(KeyBlobFormat.RawPublicKey)])[
            ..4
        ];
        var note =
            $"{text}\n— {Origin} {Convert.ToBase64String([.. id, .. SignatureAlgorithm.Ed25519.Sign(key, Encoding.UTF8.GetBytes(text))])}\n";
        return note
            + string.Concat(
                cosigned.Select(c =>
                    CosignatureKey
                        .FromPem(
                            CosignatureKey.NameOf("ministries.example", c.By),
                            File.ReadAllText(Path.Combine(_folder, c.By, "cosignatures.key"))
                        )
                        .Cosign(SignedNote.Read(note)!, c.At)
                )
            );
    }

    // Seconds from the end of the key: when it is judged, by whom and when it was cosigned, when it was seen.
    public static TheoryData<string, int, int?, int?, bool> Moments() =>
        new()
        {
            { "ends", -1, null, null, true },
            { "ends", 0, null, null, false },
            { "is revoked", -1, null, null, true },
            { "is revoked", 0, null, null, false },
            { "ends", 3600, -1, null, true },
            { "ends", 3600, 0, null, false },
            { "is revoked", 3600, -1, null, true },
            { "is revoked", 3600, 0, null, false },
            { "is revoked", 3600, 1, null, false },
            { "is revoked", 3600, null, -1, true },
            { "is revoked", 3600, null, 0, false },
            { "begins", -1, null, null, false },
            { "begins", 0, null, null, true },
        };

    [Theory]
    [MemberData(nameof(Moments))]
    public void A_checkpoint_counts_by_the_second(string what, int judged, int? cosigned, int? seen, bool counts)
    {
        if (what == "ends")
            Own.ValidUntilTime = End.ToTimestamp();
        else if (what == "is revoked")
            Own.RevokeTime = End.ToTimestamp();
        else
            Own.ValidFromTime = End.ToTimestamp();
        var note = cosigned is { } at ? Note(("icrc", End.AddSeconds(at))) : Note();
        var keys = LogKeys.Of(_agreement, "custody");
        var verdict = keys.Judge(note, End.AddSeconds(judged), seen is { } when ? End.AddSeconds(when) : null);
        Assert.Equal((true, counts), (verdict.Tree is not null, verdict.Counts));
        // As the present one, whatever dates it.
        Assert.Equal(counts && cosigned is null && seen is null, keys.Present(note, End.AddSeconds(judged)) is not null);
    }

    [Fact]
    public void Of_a_file_nobody_knows_when_it_is_read_so_a_revoked_key_is_revoked_and_one_with_an_end_may_have_signed_before()
    {
        Own.ValidUntilTime = End.ToTimestamp();
        var keys = LogKeys.Of(_agreement, "custody");
        Assert.True(keys.Judge(Note(), null).Counts);
        Assert.True(keys.Judge(Note(), null, covers: End.AddTicks(-1)).Counts);
        Assert.False(keys.Judge(Note(), null, covers: End).Counts);
        Own.RevokeTime = End.AddYears(5).ToTimestamp();
        Assert.False(LogKeys.Of(_agreement, "custody").Judge(Note(), null).Counts);
    }

    [Fact]
    public void A_stolen_cosignature_key_dates_nothing_and_its_own_word_is_not_taken()
    {
        Own.RevokeTime = End.ToTimestamp();
        Of("icrc").RevokeTime = End.ToTimestamp();
        var keys = LogKeys.Of(_agreement, "custody");
        var alone = keys.Judge(Note(("icrc", End.AddDays(-1))), End.AddDays(1));
        Assert.False(alone.Counts);
        Assert.Empty(alone.Cosigners);
        Assert.Contains("its own word alone", alone.Cosignatures.Single().Wrong);
        // Where another dates the same checkpoint before, both stand.
        var dated = keys.Judge(Note(("icrc", End.AddDays(-1)), ("kr/mfa", End.AddDays(-1))), End.AddDays(1));
        Assert.True(dated.Counts);
        Assert.Equal(["icrc", "kr/mfa"], dated.Cosigners);
        // As many as the agreement demands.
        _agreement.CosignaturesDemanded = 2;
        Assert.False(
            LogKeys.Of(_agreement, "custody").Judge(Note(("kr/mfa", End.AddDays(-1)), ("kr/mfa", End.AddDays(-2))), End.AddDays(1)).Counts
        );
        Assert.True(
            LogKeys.Of(_agreement, "custody").Judge(Note(("kr/mfa", End.AddDays(-1)), ("ua/mfa", End.AddDays(-2))), End.AddDays(1)).Counts
        );
    }

    [Fact]
    public void A_second_signature_that_names_a_key_and_is_not_its_breaks_the_checkpoint()
    {
        var note = Note();
        var line = note.Split('\n')[^2];
        var bytes = Convert.FromBase64String(line.Split(' ')[2]);
        bytes[^1] ^= 1;
        var twice = $"{note}{line.Split(' ')[0]} {line.Split(' ')[1]} {Convert.ToBase64String(bytes)}\n";
        Assert.Null(LogKeys.Of(_agreement, "custody").Judge(twice, null).Tree);
        Assert.Null(LogKeys.Of(_agreement, "custody").Present(twice, End));
    }
}
