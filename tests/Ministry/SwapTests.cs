using System.Text.Json.Nodes;
using Google.Protobuf;
using Ministries.CallLog.V1;
using Ministries.Custody.V1;
using Ministries.Sealing;
using Ministries.Types.V1;
using static Ministries.Ministry.Tests.Services;

namespace Ministries.Ministry.Tests;

/// <summary>A service that shows what was sealed for another record, or in another field, is found out by the client and by the command.
/// </summary>
public sealed class SwapTests(Services services) : IClassFixture<Services>
{
    private const string Hq = "ua/coordination-hq";

    [Fact]
    public async Task What_a_record_shows_opens_as_what_was_sealed_for_it()
    {
        var client = services.As("icrc");
        var prisoner = await Prisoner(client, 0);
        var opened = await client.OpenIn<PersonIdentity>(prisoner, prisoner.Identity, Cancel);
        Assert.Equal((Services.Identity, Hq, "identity"), (opened.Message, opened.Sender, opened.Field));
        await Assert.ThrowsAsync<ArgumentException>(() => client.OpenIn<PersonIdentity>(prisoner, prisoner.Identity.Clone(), Cancel));
        Assert.Equal(0ul, (await Prisoner(services.As("kr/mfa"), 0)).Identity?.Position ?? 0);
    }

    /// <summary>Case and sender are the same: nothing but the record tells them apart.</summary>
    [Fact]
    public async Task The_identity_of_another_man_does_not_open_in_a_record()
    {
        var client = services.As("icrc");
        var (own, other) = ((await Prisoner(client, 0)).Identity, (await Prisoner(client, 1)).Identity);
        var withoutEntry = new Sealed(other) { Position = 0 };
        var underOwnEntry = new Sealed(other) { Position = own.Position };
        foreach (var shown in (Sealed[])[other, withoutEntry, underOwnEntry])
            await Lying(
                answer =>
                {
                    if (answer is GetPrisonerResponse read)
                        read.Prisoner.Identity = shown.Clone();
                },
                async () =>
                {
                    var prisoner = await Prisoner(client, 0);
                    var thrown = await Assert.ThrowsAsync<SealException>(() =>
                        client.OpenIn<PersonIdentity>(prisoner, prisoner.Identity, Cancel)
                    );
                    Assert.Equal((SealFault.OtherRecord, "identity"), (thrown.Fault, thrown.Field));
                    var ran = await new CommandRunner(services) { As = "icrc" }.Run(
                        "open",
                        "prisoner",
                        services.Case,
                        services.Prisoners[0]
                    );
                    Assert.Equal(1, ran.Code);
                    Assert.Contains("it does not open", ran.Error);
                    Assert.DoesNotContain(Services.Identity.BirthPlace, ran.Output);
                }
            );
        var right = await new CommandRunner(services) { As = "icrc" }.Succeed("open", "prisoner", services.Case, services.Prisoners[0]);
        Assert.Contains(Services.Identity.BirthPlace, right.Output);
    }

    [Fact]
    public async Task Two_fields_of_one_record_that_were_swapped_do_not_open()
    {
        var kr = services.As("kr/mfa");
        var logged = await kr.CallLog.LogCallAsync(services.Call(), cancellationToken: Cancel);
        foreach (var words in (string[])["An attendee was missing.", "A subject was missing."])
        {
            // The call log's own reactions change the call, too.
            await Until(async () =>
            {
                var amend = new AmendReadoutRequest
                {
                    Actor = Services.Actor,
                    Case = services.Case,
                    Call = logged.Call,
                    Etag = (await kr.CallLog.GetCallAsync(new GetCallRequest { Call = logged.Call }, cancellationToken: Cancel)).Etag,
                    Account = services.Call().Account,
                };
                var why = new ReadoutReason
                {
                    Reason = new Text { Language = "en", Text_ = words },
                };
                await kr.Seal(amend, why, Cancel);
                try
                {
                    await kr.CallLog.AmendReadoutAsync(amend, cancellationToken: Cancel);
                    return true;
                }
                catch (RefusedException refused) when (refused.Reason == "STALE")
                {
                    return false;
                }
            });
        }
        var call = await Call();
        var versions = call.Readouts[0].Versions;
        Assert.Equal("An attendee was missing.", (await Open(call, versions[1])).Message.Reason.Text_);
        await Lying(
            answer =>
            {
                if (answer is not GetCallResponse { Call.Readouts: [var readout, ..] })
                    return;
                (readout.Versions[1].Explanation, readout.Versions[2].Explanation) = (
                    readout.Versions[2].Explanation,
                    readout.Versions[1].Explanation
                );
            },
            async () =>
            {
                var swapped = await Call();
                foreach (var version in swapped.Readouts[0].Versions.Skip(1))
                    Assert.Equal(SealFault.OtherRecord, (await Assert.ThrowsAsync<SealException>(() => Open(swapped, version))).Fault);
                Assert.Equal(1, (await new CommandRunner(services) { As = "kr/mfa" }.Run("open", logged.Call)).Code);
            }
        );
        // One that does not open keeps back no other.
        await Lying(
            answer =>
            {
                if (answer is GetCallResponse { Call.Readouts: [var readout, ..] })
                    readout.Versions[1].Explanation = readout.Versions[2].Explanation.Clone();
            },
            async () =>
            {
                var ran = await new CommandRunner(services) { As = "kr/mfa" }.Run("open", logged.Call);
                Assert.Equal(1, ran.Code);
                Assert.Contains("readouts[0].versions[1].explanation: it does not open", ran.Error);
                Assert.Contains("A subject was missing.", ran.Output);
                var json = await new CommandRunner(services) { As = "kr/mfa" }.Run("open", logged.Call, "-j");
                Assert.Equal(1, json.Code);
                var all = JsonNode.Parse(json.Output)!.AsArray();
                Assert.Equal(
                    "OtherRecord",
                    (string?)all.Single(a => (string?)a!["field"] == "readouts[0].versions[1].explanation")!["fault"]
                );
                Assert.Contains("A subject was missing.", all.Single(a => a!["content"] is not null)!.ToJsonString());
            }
        );

        async Task<Call> Call() =>
            (await kr.CallLog.GetCallAsync(new GetCallRequest { Call = logged.Call }, cancellationToken: Cancel)).Call;

        Task<Opened<ReadoutReason>> Open(Call shown, ReadoutVersion version) =>
            kr.OpenIn<ReadoutReason>(shown, version.Explanation, Cancel);
    }

    private async Task Lying(Action<IMessage> lie, Func<Task> act)
    {
        services.Later = answer =>
        {
            // A service answers several with one object, whose bytes it keeps.
            var other = answer.Descriptor.Parser.ParseFrom(answer.ToByteString());
            lie(other);
            return other;
        };
        try
        {
            await act();
        }
        finally
        {
            services.Later = null;
        }
    }

    private async Task<Prisoner> Prisoner(MinistryClient client, int number) =>
        (
            await client.Custody.GetPrisonerAsync(
                new GetPrisonerRequest { Case = services.Case, Prisoner = services.Prisoners[number] },
                cancellationToken: Cancel
            )
        ).Prisoner;
}
