using System.Runtime.Versioning;
using Google.Protobuf.WellKnownTypes;
using Ministries.CallLog.V1;
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
        Assert.Throws<ArgumentException>(() => kr.Seal(request, Minutes(), ["kr/mfa"]));
        Assert.Throws<ArgumentException>(() => kr.Seal(services.Call(), Minutes(), ["nobody"]));
        Assert.Equal(SealFault.NoSealingKey, Fault(() => kr.Seal(services.Call(), Minutes(), ["service/custody"])));
        Assert.Equal(SealFault.BadRecipients, Fault(() => kr.Seal(services.Call(), Minutes(), [])));
    }

    /// <summary>No service can check what it cannot read, so the client does, by the limits that the contract declares.</summary>
    [Fact]
    public void A_message_that_breaks_a_declared_limit_is_not_sealed_and_the_error_says_which_field_and_why()
    {
        var kr = services.As("kr/mfa");
        foreach (
            var (change, field, why) in (ReadOnlySpan<(Action<CallMinutes>, string, string)>)
                [
                    (m => m.Minutes = null, "account.minutes.minutes", "it is required."),
                    (m => m.Minutes.Language = "Korean!", "account.minutes.minutes.language", "it must be a language tag (BCP 47)"),
                    (m => m.Minutes.Text_ = new string('x', 8193), "account.minutes.minutes.text", "it must be at most 8192 bytes"),
                    (m => m.Minutes.Text_ = "He \u202edid not\u202c agree", "account.minutes.minutes.text", "it must hold no embedding"),
                    (m => m.Readout = new Text { Language = "en" }, "account.minutes.readout.text", "it is required."),
                ]
        )
        {
            var (request, message) = (services.Call(), Minutes());
            change(message);
            var thrown = Assert.Throws<SealException>(() => kr.Seal(request, message, ["kr/mfa"]));
            Assert.Equal((SealFault.NotAsDeclared, field), (thrown.Fault, thrown.Field));
            Assert.StartsWith($"{field}: {why}", thrown.Message, StringComparison.Ordinal);
            // Nothing of it was sealed.
            Assert.Null(request.Account.Minutes);
        }
    }

    [Fact]
    public async Task Why_a_readout_is_contested_is_sealed_to_the_other_side_and_the_observer()
    {
        var logged = await services.As("kr/mfa").CallLog.LogCallAsync(services.Call(), cancellationToken: Cancel);
        var ua = services.As("ua/mfa");
        var contest = new ContestReadoutRequest
        {
            Actor = Services.Actor,
            Case = services.Case,
            Call = logged.Call,
            Etag = (await ua.CallLog.GetCallAsync(new GetCallRequest { Call = logged.Call }, cancellationToken: Cancel)).Etag,
            Participant = "kr/mfa",
            Version = 1,
        };
        var reason = new ReadoutReason
        {
            Reason = new Text { Language = "en", Text_ = "That was not said." },
        };
        await ua.Seal(contest, reason, Cancel);
        Assert.Equal(["ua/mfa", "kr/mfa", "icrc"], contest.Explanation.Recipients);
        await ua.CallLog.ContestReadoutAsync(contest, cancellationToken: Cancel);
        foreach (var reader in (string[])["ua/mfa", "kr/mfa", "icrc"])
            Assert.Equal(
                reason,
                services.As(reader).Open<ReadoutReason>((await SeenBy(reader)).Explanation, services.Case, "ua/mfa").Message
            );
        Assert.True((await SeenBy("ua/coordination-hq")).Explanation.Content.IsEmpty);

        async Task<Contest> SeenBy(string reader) =>
            (
                await services.As(reader).CallLog.GetCallAsync(new GetCallRequest { Call = logged.Call }, cancellationToken: Cancel)
            ).Call.Contests.Single();
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
                Prisoners = [prisoner],
                Transfer = transfer,
            }.Of(declared);
    }

    [Fact]
    public void The_requesting_state_of_an_access_is_who_requested_it_and_an_observer_that_notifies_visits_is_none()
    {
        var agreement = Signing.Agreement(services.Folder);
        var prisoner = new Prisoner { Prisoner_ = "p" };
        var access = new Consular.V1.Access
        {
            Participant = "kr/mfa",
            RequestingState = "KR",
            Prisoner = "p",
        };
        Assert.Equal(["kr/mfa"], Of());
        prisoner.Claims.Add(new Claim { StateClaimed = "KR", Basis = ClaimBasis.Nationality });
        Assert.Empty(Of());
        (access.Participant, access.RequestingState) = ("icrc", "");
        Assert.Empty(Of());

        IReadOnlyList<string> Of() =>
            new DefaultRecipients(agreement, Signing.Of(agreement, "ua/coordination-hq"), DateTimeOffset.UtcNow)
            {
                Prisoners = [prisoner],
                Access = access,
            }.Of(new SealDeclaration { Recipients = { SealRecipient.RequestingState } });
    }

    [Fact]
    public void The_other_side_of_a_call_is_named_unless_it_acts_for_a_power_of_origin_of_anybody_in_it()
    {
        var agreement = Signing.Agreement(services.Folder);
        var prisoners = new[]
        {
            new Prisoner { Prisoner_ = "p" },
            new Prisoner { Prisoner_ = "q" },
        };
        Assert.Equal(["kr/mfa"], Of());
        prisoners[1].Claims.Add(new Claim { StateClaimed = "KR", Basis = ClaimBasis.Nationality });
        Assert.Empty(Of());

        IReadOnlyList<string> Of() =>
            new DefaultRecipients(agreement, Signing.Of(agreement, "ua/mfa"), DateTimeOffset.UtcNow)
            {
                Prisoners = prisoners,
                Call = new Call
                {
                    Sides =
                    {
                        new Side { Participant = "kr/mfa", State = "KR" },
                        new Side { Participant = "ua/mfa", State = "UA" },
                    },
                },
            }.Of(new SealDeclaration { Recipients = { SealRecipient.Counterpart } });
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

    private static CallMinutes Minutes() =>
        new()
        {
            Minutes = new Text { Language = "en", Text_ = "What was said." },
        };

    private static SealFault Fault(Action open) => Assert.Throws<SealException>(open).Fault;
}
