using System.Runtime.Versioning;
using Google.Protobuf.WellKnownTypes;
using Ministries.CallLog.V1;
using Ministries.Client;
using Ministries.Custody.V1;
using Ministries.Fixtures;
using Ministries.Sealing;
using Ministries.Trust;
using Ministries.Types.V1;
using static Ministries.Ministry.Tests.Services;

namespace Ministries.Ministry.Tests;

/// <summary>A ministry's client seals plain messages and opens them.</summary>
public sealed class SealTests(Services services) : IClassFixture<Services>
{
    [Fact]
    public async Task What_is_sealed_to_the_default_recipients_opens_for_them_and_for_nobody_else()
    {
        foreach (var reader in (string[])["ua/coordination-hq", "icrc"])
        {
            var client = services.As(reader);
            var prisoner = await PrisonerAs(client);
            var opened = client.Open<PersonIdentity>(prisoner.Identity, services.Case, prisoner.IdentityParticipant);
            Assert.Equal(Services.Identity, opened.Message);
            Assert.Equal(("ua/coordination-hq", services.Case, "identity"), (opened.Sender, opened.Case, opened.Field));
        }
        Assert.True((await PrisonerAs(services.As("kr/mfa"))).Identity is not { Content.IsEmpty: false });
        Assert.Equal(["ua/coordination-hq", "icrc"], (await PrisonerAs(services.As("icrc"))).Identity.Recipients);
    }

    [Fact]
    public async Task A_message_is_found_its_field_however_deep_and_opens_for_its_sender()
    {
        var kr = services.As("kr/mfa");
        var request = services.Call();
        await kr.Seal(
            request,
            new CallMinutes
            {
                Minutes = new Text { Language = "en", Text_ = "What was said." },
            },
            Cancel
        );
        var logged = await kr.CallLog.LogCallAsync(request, cancellationToken: Cancel);
        var seen = (await kr.CallLog.GetCallAsync(new GetCallRequest { Call = logged.Call }, cancellationToken: Cancel)).Call;
        var minutes = seen.Readouts[0].Versions[0].Account.Minutes;
        Assert.Equal(["kr/mfa"], minutes.Recipients);
        Assert.Equal("What was said.", kr.Open<CallMinutes>(minutes).Message.Minutes.Text_);
        Assert.Equal(SealFault.OtherSender, Fault(() => kr.Open<CallMinutes>(minutes, services.Case, "ua/mfa")));
        Assert.Equal(SealFault.OtherCase, Fault(() => kr.Open<CallMinutes>(minutes, "case_00000000000000000000000009")));
        Assert.Equal(SealFault.OtherMessage, Fault(() => kr.Open<PersonIdentity>(minutes)));
        Assert.Equal(SealFault.WrongRecipient, Fault(() => services.As("ua/mfa").Open<CallMinutes>(minutes)));
    }

    [Fact]
    public async Task What_was_sealed_for_one_request_is_refused_in_another_and_the_refusal_names_the_field()
    {
        var kr = services.As("kr/mfa");
        var request = services.Call();
        await kr.Seal(
            request,
            new CallMinutes
            {
                Minutes = new Text { Language = "en", Text_ = "What was said." },
            },
            Cancel
        );
        var other = new LogCallRequest(request) { RequestId = MinistryClient.NewRequestId() };
        var refused = await Assert.ThrowsAsync<RefusedException>(async () =>
            await kr.CallLog.LogCallAsync(other, cancellationToken: Cancel)
        );
        Assert.Equal("SEAL_OF_ANOTHER_RECORD", refused.Reason);
        Assert.Equal("account.minutes", refused.Metadata["field"]);
    }

    [Fact]
    public void A_message_for_which_a_request_has_no_field_and_a_request_without_its_case_are_refused_before_anything_is_sealed()
    {
        var kr = services.As("kr/mfa");
        Assert.Throws<ArgumentException>(() => kr.Seal(services.Call(), Services.Identity, ["kr/mfa"]));
        var request = services.Call();
        request.Case = "";
        Assert.Throws<ArgumentException>(() => kr.Seal(request, new CallMinutes(), ["kr/mfa"]));
        Assert.Throws<ArgumentException>(() => kr.Seal(services.Call(), new CallMinutes(), ["nobody"]));
        Assert.Equal(SealFault.NoSealingKey, Fault(() => kr.Seal(services.Call(), new CallMinutes(), ["service/custody"])));
        Assert.Equal(SealFault.BadRecipients, Fault(() => kr.Seal(services.Call(), new CallMinutes(), [])));
    }

    [Fact]
    public void The_defaults_name_those_of_the_declaration_who_have_a_key_and_no_power_of_origin()
    {
        var agreement = Signing.Agreement(services.Folder);
        var @case = new Case
        {
            DetainingPower = "UA",
            Parties =
            {
                new CaseParty { Participant = "icrc", Part = Part.NeutralObserver },
                new CaseParty { Participant = "kr/mfa", Part = Part.RequestingState },
            },
            Prisoners =
            {
                new CasePrisoner { Prisoner = "p", LastDetainingPower = "UA" },
            },
        };
        var prisoner = new Prisoner { Prisoner_ = "p" };
        var transfer = new Consular.V1.Transfer
        {
            Participant = "kr/mfa",
            DetainingPower = "UA",
            Prisoner = "p",
        };
        var declared = new SealDeclaration
        {
            Recipients =
            {
                SealRecipient.Sender,
                SealRecipient.DetainingPower,
                SealRecipient.Observers,
                SealRecipient.RequestingState,
                SealRecipient.TransferringPower,
                SealRecipient.AgencyAndBureau,
            },
        };
        Assert.Equal(["ua/coordination-hq", "icrc", "kr/mfa"], Of());
        // He is said to depend on the state that asks: what is sealed would reach a power of origin.
        prisoner.Claims.Add(new Claim { StateClaimed = "KR", Basis = ClaimBasis.Nationality });
        Assert.Equal(["ua/coordination-hq", "icrc"], Of());
        prisoner.Claims[0].Corrected = true;
        Assert.Equal(["ua/coordination-hq", "icrc", "kr/mfa"], Of());
        Signing.Of(agreement, "icrc").SealingKeys.Clear();
        Assert.Equal(["ua/coordination-hq", "kr/mfa"], Of());

        IReadOnlyList<string> Of() =>
            new DefaultRecipients(agreement, Signing.Of(agreement, "ua/coordination-hq"), DateTimeOffset.UtcNow)
            {
                Case = @case,
                Prisoner = prisoner,
                Transfer = transfer,
            }.Of(declared);
    }

    [UnsupportedOSPlatform("windows")]
    [Fact]
    public void The_file_of_a_key_for_sealing_is_its_owners_alone_and_of_a_key_that_the_agreement_lists()
    {
        var folder = Directory.CreateTempSubdirectory("sealing").FullName;
        try
        {
            var file = Path.Combine(folder, "sealing.key");
            var made = SealingKeyFile.Make(file);
            Assert.True(SealingKeys.IsPublicKey(made));
            Assert.Equal(made, SealingKeyFile.Make(file));
            Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, File.GetUnixFileMode(file));
            var owner = new Participant { Id = "kr/mfa" };
            Assert.Throws<FormatException>(() => SealingKeyFile.Read(file, owner));
            owner.SealingKeys.Add(
                new SealingKey
                {
                    Id = "kr/mfa/sealing-7",
                    PublicKey = Google.Protobuf.ByteString.CopyFrom(made),
                    ValidFromTime = new Timestamp(),
                }
            );
            using (var identity = SealingKeyFile.Read(file, owner))
                Assert.Equal("kr/mfa/sealing-7", identity.Id);
            File.SetUnixFileMode(file, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.OtherRead);
            Assert.ThrowsAny<IOException>(() => SealingKeyFile.Read(file, owner));
            File.SetUnixFileMode(file, UnixFileMode.UserRead | UnixFileMode.UserWrite);
            File.WriteAllText(file, "too short");
            Assert.Throws<FormatException>(() => SealingKeyFile.Make(file));
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    private async Task<Prisoner> PrisonerAs(MinistryClient client) =>
        (
            await client.Custody.GetPrisonerAsync(
                new GetPrisonerRequest { Case = services.Case, Prisoner = services.Prisoners[0] },
                cancellationToken: Cancel
            )
        ).Prisoner;

    private static SealFault Fault(Action open) => Assert.Throws<SealException>(open).Fault;
}
