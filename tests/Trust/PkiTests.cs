using System.Security.Cryptography.X509Certificates;
using Google.Protobuf;
using Ministries.Errors.V1;
using Ministries.Fixtures;
using Ministries.Types.V1;

namespace Ministries.Trust.Tests;

public sealed class PkiTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("pki").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public void Each_ministry_and_observer_gets_a_key_for_sealing_where_it_can_be_made_and_keeps_it()
    {
        IReadOnlyList<string> Init() => Pki.Init(_folder, StandardAgreement.Read(), TimeProvider.System, SealedForm.Key);
        var made = Init();
        var agreement = Signing.Agreement(_folder);
        Assert.All(
            agreement.Participants,
            p =>
            {
                Assert.Equal(AgreementVersions.Signs(p) ? [$"{p.Id}/sealing-1"] : [], p.SealingKeys.Select(k => k.Id));
                Assert.Equal(AgreementVersions.Signs(p), made.Contains($"{p.Id}/sealing.key"));
            }
        );
        Assert.Empty(Init());
        // A set-up from before there were such keys gets them in its next version.
        var (key, file) = (Path.Combine(_folder, "icrc", "sealing.key"), Path.Combine(_folder, "agreement.json"));
        File.Delete(key);
        Assert.Equal(["agreement.json", "agreement.json.1", "icrc/sealing.key"], Init().Order(StringComparer.Ordinal));
        Assert.Equal(["icrc/sealing-1", "icrc/sealing-2"], Signing.Of(Signing.Agreement(_folder), "icrc").SealingKeys.Select(k => k.Id));
        Assert.Equal(2UL, AgreementFile.Trust(file, null, DateTimeOffset.UtcNow).Agreement.Version);
    }

    [Fact]
    public void It_makes_an_agreement_whose_authorities_vouch_for_each_participants_system_and_no_other()
    {
        Pki.Init(_folder, StandardAgreement.Read(), TimeProvider.System);
        var agreement = Agreement();
        using var authorities = new Authorities(agreement);
        foreach (var participant in agreement.Participants)
        {
            using var certificate = X509CertificateLoader.LoadCertificateFromFile(Path.Combine(_folder, participant.Id, "system.pem"));
            var identified = authorities.Identify(certificate, [], CertificateUse.Client, DateTimeOffset.UtcNow);
            Assert.Equal((Reason.Unspecified, participant.Id), (identified.Refused, identified.Identity!.Participant.Id));
            var server = authorities.Identify(certificate, [], CertificateUse.Server, DateTimeOffset.UtcNow).Refused;
            Assert.Equal(participant.Kind == ParticipantKind.Service ? Reason.Unspecified : Reason.CallerUnknown, server);
        }
    }

    [Fact]
    public void What_is_there_stays_and_what_is_missing_is_made()
    {
        Assert.NotEmpty(Pki.Init(_folder, StandardAgreement.Read(), TimeProvider.System));
        Assert.Empty(Pki.Init(_folder, StandardAgreement.Read(), TimeProvider.System));
        File.Delete(Path.Combine(_folder, "kr/mfa/system.pem"));
        Assert.Equal(["kr/mfa/system.key", "kr/mfa/system.pem"], Pki.Init(_folder, StandardAgreement.Read(), TimeProvider.System));
        Assert.Equal(1ul, Agreement().Version);
    }

    [Fact]
    public void A_new_authority_is_a_new_version_of_the_agreement()
    {
        Pki.Init(_folder, StandardAgreement.Read(), TimeProvider.System);
        File.Delete(Path.Combine(_folder, "icrc/authority.key"));
        Assert.Contains("agreement.json", Pki.Init(_folder, StandardAgreement.Read(), TimeProvider.System));
        Assert.Equal(2ul, Agreement().Version);
        Assert.Equal(2, Agreement().Participants.Single(p => p.Id == "icrc").AuthorityCertificates.Count);
    }

    [Fact]
    public void Private_keys_are_their_owners_alone()
    {
        Assert.SkipWhen(OperatingSystem.IsWindows(), "there are no Unix file modes");
        Pki.Init(_folder, StandardAgreement.Read(), TimeProvider.System);
        var keys = Directory.GetFiles(_folder, "*.key", SearchOption.AllDirectories);
        Assert.NotEmpty(keys);
        Assert.All(keys, k => Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, ModeOf(k)));

        static UnixFileMode ModeOf(string path) =>
            OperatingSystem.IsWindows() ? throw new PlatformNotSupportedException() : File.GetUnixFileMode(path);
    }

    [Fact]
    public void The_agreement_names_the_keys_that_sign()
    {
        Pki.Init(_folder, StandardAgreement.Read(), TimeProvider.System);
        using var key = Fixtures.Signing.KeyIn(Path.Combine(_folder, "service/custody/checkpoint.key"));
        var listed = Agreement().Participants.Single(p => p.Id == "service/custody").SigningKeys.Single();
        Assert.Equal(SigningKeyUse.Checkpoints, listed.Use);
        Assert.Equal(ByteString.CopyFrom(key.PublicKey.Export(NSec.Cryptography.KeyBlobFormat.RawPublicKey)), listed.PublicKey);
    }

    private Agreement Agreement() => JsonParser.Default.Parse<Agreement>(File.ReadAllText(Path.Combine(_folder, "agreement.json")));
}
