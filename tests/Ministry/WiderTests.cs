using System.Runtime.Versioning;
using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Microsoft.Extensions.DependencyInjection;
using Ministries.Custody.V1;
using Ministries.Hosting;
using Ministries.Ledger;
using Ministries.Ledger.V1;
using Ministries.Sealing;
using Ministries.Types.V1;
using static Ministries.Ministry.Tests.Services;

namespace Ministries.Ministry.Tests;

/// <summary>What is sealed is opened wider by the client and by the command: to a newcomer, field by field, and for a key that replaces
/// another. The secrets are real, and the services' real hosts carry them.</summary>
public sealed class WiderTests(WiderTests.Rotating rotating) : IClassFixture<WiderTests.Rotating>
{
    private const string Hq = "ua/coordination-hq";
    private const string Mfa = "ua/mfa";
    private const string Observer = "icrc";
    private const string OlderKey = "icrc/sealing-0";

    private Services Services => rotating.Services;

    [Fact]
    public async Task The_whole_is_opened_to_a_newcomer_and_one_field_to_another_and_both_open()
    {
        var position = await Register(Hq);
        using var hq = Services.As(Hq);
        await hq.Share("custody", To(Mfa, position), Cancel);
        await hq.Share("custody", To(Observer, position, PersonIdentity.RankFieldNumber), Cancel);

        using var newcomer = Services.As(Mfa);
        var given = new List<SealedShared>();
        await foreach (var shown in newcomer.Follow("custody", untilNow: true, cancel: Cancel))
            if (shown.Entry is { } entry)
                given.AddRange(LedgerEntry.Read(entry).Published.Select(e => e.Event).OfType<SealedShared>());
        // Only this entry shows its reader that the datum exists.
        Assert.Contains(given, g => (g.Position, g.Field, g.Recipient) == (position, "identity", Mfa));
        var whole = newcomer.Open<PersonIdentity>(await newcomer.ReadSealed("custody", position, "identity", Cancel));
        Assert.Equal(Services.Identity, whole.Message);
        Assert.Equal((Hq, Services.Case, "identity", null), (whole.Sender, whole.Case, whole.Field, whole.Fields));
        using var other = Services.As(Observer);
        var field = other.Open<PersonIdentity>(await other.ReadSealed("custody", position, "identity", Cancel));
        Assert.Equal(new PersonIdentity { Rank = Services.Identity.Rank }, field.Message);
        Assert.Equal([(uint)PersonIdentity.RankFieldNumber], field.Fields);
        // Who was given the whole passes it on; who was given a field passes on that field alone.
        var beyond = await Assert.ThrowsAsync<SealException>(() => other.Share("custody", To("kr/mfa", position), Cancel));
        Assert.Equal(SealFault.WrongRecipient, beyond.Fault);
        var more = To(Observer, position, PersonIdentity.BirthDateFieldNumber);
        await newcomer.Share("custody", more, Cancel);
        var two = other.Open<PersonIdentity>(await other.ReadSealed("custody", position, "identity", Cancel));
        Assert.Equal(new PersonIdentity { Rank = "private", BirthDate = Services.Identity.BirthDate }, two.Message);
    }

    [Fact]
    public async Task A_key_is_rotated_all_is_wrapped_anew_and_the_old_key_is_destroyed()
    {
        // Sealed, and a field of another datum opened, when the older key was the newest.
        var whole = await Register(Hq, Observer);
        var other = await Register(Hq);
        using (var hq = Services.As(Hq))
        {
            var share = To(Observer, other, PersonIdentity.RankFieldNumber);
            share.KeyId = OlderKey;
            await hq.Share("custody", share, Cancel);
        }
        using (var newer = Services.As(Observer))
            Assert.Equal(SealFault.KeyUnknown, (await Fault(newer, whole)).Fault);
        using (var both = Services.As(Observer, rotating.WithOlder))
        {
            Assert.Single(await both.WrapAnew("custody", whole, "identity", Services.Actor, "gc3-126", Cancel));
            Assert.Single(await both.WrapAnew("custody", other, "identity", Services.Actor, "gc3-126", Cancel));
            // What the newest key opens is not wrapped again.
            Assert.Empty(await both.WrapAnew("custody", whole, "identity", Services.Actor, "gc3-126", Cancel));
            Assert.Empty(await both.WrapAnew("custody", other, "identity", Services.Actor, "gc3-126", Cancel));
        }

        using var after = Services.As(Observer);
        Assert.Equal(Services.Identity, after.Open<PersonIdentity>(await after.ReadSealed("custody", whole, "identity", Cancel)).Message);
        var field = after.Open<PersonIdentity>(await after.ReadSealed("custody", other, "identity", Cancel));
        Assert.Equal((new PersonIdentity { Rank = "private" }, 1), (field.Message, field.Fields!.Count));
    }

    /// <summary>The older key is destroyed once the newest opens what it opened.</summary>
    [Fact]
    public async Task A_wrong_secret_for_the_newest_key_neither_passes_for_its_rotation_nor_stands_in_its_way()
    {
        var (whole, other) = (await Register(Hq, Observer), await Register(Hq));
        using (var hq = Services.As(Hq))
        {
            var share = To(Observer, other, PersonIdentity.RankFieldNumber);
            share.KeyId = OlderKey;
            await hq.Share("custody", share, Cancel);
            foreach (var wrong in (ShareSealedRequest[])[To(Observer, whole), To(Observer, other, PersonIdentity.RankFieldNumber)])
            {
                await hq.AddWrap("custody", wrong, Cancel);
                wrong.Secret = ByteString.CopyFrom(new byte[wrong.Secret.Length]);
                await hq.LedgerOf("custody").ShareSealedAsync(wrong, cancellationToken: Cancel);
            }
        }
        using (var both = Services.As(Observer, rotating.WithOlder))
            foreach (var position in (ulong[])[whole, other])
            {
                Assert.Single(await both.WrapAnew("custody", position, "identity", Services.Actor, "gc3-126", Cancel));
                Assert.Empty(await both.WrapAnew("custody", position, "identity", Services.Actor, "gc3-126", Cancel));
            }

        using var after = Services.As(Observer);
        Assert.Equal(Services.Identity, after.Open<PersonIdentity>(await after.ReadSealed("custody", whole, "identity", Cancel)).Message);
        Assert.Equal(
            new PersonIdentity { Rank = "private" },
            after.Open<PersonIdentity>(await after.ReadSealed("custody", other, "identity", Cancel)).Message
        );
    }

    [Fact]
    public async Task What_two_have_opened_is_wrapped_anew_once()
    {
        var position = await Register(Hq, Mfa);
        foreach (var giver in (string[])[Hq, Mfa])
        {
            using var gives = Services.As(giver);
            var share = To(Observer, position, PersonIdentity.RankFieldNumber);
            share.KeyId = OlderKey;
            await gives.Share("custody", share, Cancel);
        }
        using var both = Services.As(Observer, rotating.WithOlder);
        Assert.Single(await both.WrapAnew("custody", position, "identity", Services.Actor, "gc3-126", Cancel));
        Assert.Empty(await both.WrapAnew("custody", position, "identity", Services.Actor, "gc3-126", Cancel));
    }

    [Fact]
    public async Task Without_the_newest_key_nothing_is_said_of_what_it_opens()
    {
        var position = await Register(Hq, Observer);
        using var older = Services.As(Observer, settings => settings with { SealingKeys = [rotating.Older] });
        var thrown = await Assert.ThrowsAsync<SealException>(() =>
            older.WrapAnew("custody", position, "identity", Services.Actor, "gc3-126", Cancel)
        );
        Assert.Equal(SealFault.KeyUnknown, thrown.Fault);
    }

    /// <summary>A field that a giver leaves out would look like one that the sender left empty.</summary>
    [Fact]
    public async Task A_secret_that_opens_other_fields_than_it_is_said_to_opens_nothing()
    {
        var position = await Register(Hq);
        using var hq = Services.As(Hq);
        // No other test wraps anew what is sealed to this participant.
        var share = To(Mfa, position, PersonIdentity.NameFieldNumber, PersonIdentity.RankFieldNumber);
        await hq.AddWrap("custody", share, Cancel);
        share.Fields.Clear();
        share.Fields.Add([PersonIdentity.RankFieldNumber, PersonIdentity.BirthDateFieldNumber]);
        await hq.LedgerOf("custody").ShareSealedAsync(share, cancellationToken: Cancel);
        using var mfa = Services.As(Mfa);
        Assert.Equal(SealFault.OtherField, (await Fault(mfa, position)).Fault);
    }

    [UnsupportedOSPlatform("windows")]
    [Fact]
    public async Task A_datum_that_is_refused_keeps_no_other_from_being_wrapped_anew()
    {
        var (refused, other) = (await Register(Hq, Observer), await Register(Hq, Observer));
        // A datum is read before it is wrapped.
        var read = 0ul;
        Services.Later = answer =>
        {
            if (answer is GetSealedResponse datum)
                read = datum.Position;
            return answer;
        };
        Services.Before = request =>
            request is ShareSealedRequest && read == refused
                ? throw new Refusal(Errors.V1.Reason.SharesFull).ToException()
                : Task.CompletedTask;
        var beside = Path.Combine(Services.Folder, Observer, "sealing-0.key");
        File.Copy(rotating.Older, beside);
        try
        {
            File.SetUnixFileMode(beside, UnixFileMode.UserRead | UnixFileMode.UserWrite);
            var ran = await Command(Observer).Run(Rewrap);
            Assert.Equal(ExitCodes.WasRefused, ran.Code);
            Assert.Contains("keep the older keys", ran.Output);
            Assert.Contains($"entry {refused} of custody: refused: SHARES_FULL", ran.Error);
        }
        finally
        {
            (Services.Before, Services.Later) = (null, null);
            File.Delete(beside);
        }
        using var after = Services.As(Observer);
        Assert.Equal(Services.Identity, after.Open<PersonIdentity>(await after.ReadSealed("custody", other, "identity", Cancel)).Message);
        Assert.Equal(SealFault.KeyUnknown, (await Fault(after, refused)).Fault);
    }

    /// <summary>A datum that was opened to the caller, and one in a request that is shown and names him. The service denies them.</summary>
    [UnsupportedOSPlatform("windows")]
    [Theory]
    [InlineData(Errors.V1.Reason.NotFound, true)]
    [InlineData(Errors.V1.Reason.NotFound, false)]
    [InlineData(Errors.V1.Reason.SealedErased, false)]
    [InlineData(Errors.V1.Reason.SealedErased, true)]
    [InlineData(null, true)]
    public async Task A_datum_that_the_ledger_shows_and_the_service_denies_keeps_the_older_keys(Errors.V1.Reason? reason, bool shared)
    {
        var position = shared ? await Register(Hq) : await Sent();
        if (shared)
            using (var hq = Services.As(Hq))
            {
                var share = To(Observer, position);
                share.KeyId = OlderKey;
                await hq.Share("custody", share, Cancel);
            }
        Services.Later = answer =>
        {
            if (answer is not GetSealedResponse read || read.Position != position)
                return answer;
            if (reason is { } denied)
                throw new Refusal(denied).ToException();
            // It shows the datum, and nothing by which the caller can open it.
            read.Grants.Clear();
            return read;
        };
        var beside = Path.Combine(Services.Folder, Observer, "sealing-0.key");
        File.Copy(rotating.Older, beside);
        try
        {
            File.SetUnixFileMode(beside, UnixFileMode.UserRead | UnixFileMode.UserWrite);
            var ran = await Command(Observer).Run(Rewrap);
            Assert.Equal(ExitCodes.WasRefused, ran.Code);
            Assert.Contains("keep the older keys", ran.Output);
            Assert.Contains($"entry {position} of custody: ", ran.Error);
            Assert.Contains(reason is { } said ? Reasons.NameOf(said) : "shows nothing by which it was opened", ran.Error);
        }
        finally
        {
            Services.Later = null;
            File.Delete(beside);
        }
    }

    [UnsupportedOSPlatform("windows")]
    [Fact]
    public async Task What_was_opened_and_then_erased_alone_keeps_no_keys()
    {
        var position = await Register(Hq);
        ulong given;
        using (var hq = Services.As(Hq))
        {
            var share = To(Observer, position);
            share.KeyId = OlderKey;
            given = (await hq.Share("custody", share, Cancel)).Receipt.Position;
        }
        Assert.True(await Services.Hosts["custody"].Services.GetRequiredService<ServiceLedger>().EraseRequest(given, Cancel));
        var ran = await Command(Observer).Run(Rewrap);
        Assert.DoesNotContain($"entry {position} of custody: ", ran.Error);
    }

    // A request of the observer's own, which it sees, with something sealed to itself.
    private async Task<ulong> Sent()
    {
        using var observer = Services.As(Observer);
        var get = new GetPrisonerRequest { Case = Services.Case, Prisoner = Services.Prisoners[0] };
        var request = new RecordStatementRequest
        {
            Actor = Services.Actor,
            Case = get.Case,
            Prisoner = get.Prisoner,
            Etag = (await observer.Custody.GetPrisonerAsync(get, cancellationToken: Cancel)).Etag,
            StatementTime = DateTimeOffset.UtcNow.ToTimestamp(),
            Language = "ko",
            LanguageUnderstood = true,
            Uncoerced = true,
            WithoutInterpreter = true,
        };
        observer.Seal(request, new StatementContent { AcceptedDestinations = { "KR" } }, [Observer]);
        return (await observer.Custody.RecordStatementAsync(request, cancellationToken: Cancel)).Receipt.Position;
    }

    [UnsupportedOSPlatform("windows")]
    [Fact]
    public async Task A_person_opens_wider_and_rotates_his_key_with_the_command()
    {
        var position = await Register(Hq, Observer);
        var hq = Command(Hq);
        await hq.Succeed([
            .. (string[])["custody", "share-sealed", "--position", $"{position}", "--field", "identity", "--recipient", Mfa],
            .. (string[])["--fields", $"{PersonIdentity.RankFieldNumber}", "--reason", "medical-care", "--legal-basis", "gc3-30", "--yes"],
            .. Official,
        ]);
        var opened = await Command(Mfa).Succeed("open", "custody", $"{position}", "--field", "identity");
        Assert.Contains("only these fields were opened to you: rank", opened.Output);
        Assert.Contains("rank: private", opened.Output);
        Assert.DoesNotContain(Services.Identity.BirthPlace, opened.Output);

        var observer = Command(Observer);
        Assert.Contains("which is not here", (await observer.Run("open", "custody", $"{position}", "--field", "identity")).Error);
        var beside = Path.Combine(Services.Folder, Observer, "sealing-0.key");
        File.Copy(rotating.Older, beside);
        try
        {
            File.SetUnixFileMode(beside, UnixFileMode.UserRead | UnixFileMode.UserWrite);
            Assert.Contains("wrapped for", (await observer.Succeed(Rewrap)).Output);
            var again = await (observer with { IsErrorTerminal = true, Columns = 80, Time = new HastyClock() }).Succeed(Rewrap);
            Assert.StartsWith("0 wrapped", again.Output);
            // Each call is short; that there are many is said all the same.
            Assert.Matches(@"\r\x1b\[Kwrapping what is sealed in custody, 0 of [1-9]\d*: ", again.Error);
        }
        finally
        {
            File.Delete(beside);
        }
        Assert.Contains(
            Services.Identity.BirthPlace,
            (await observer.Succeed("open", "custody", $"{position}", "--field", "identity")).Output
        );
    }

    [Fact]
    public async Task A_service_that_shows_another_entrys_datum_is_found_out()
    {
        var (one, other) = (await Register(Hq, Mfa), await Register(Hq, Mfa));
        using var mfa = Services.As(Mfa);
        var swapped = (await mfa.ReadSealed("custody", other, "identity", Cancel)).Sealed;
        Services.Later = answer =>
        {
            if (answer is GetSealedResponse read)
                read.Sealed = swapped;
            return answer;
        };
        try
        {
            // The header, which the log proves, says of which request it must be.
            Assert.Equal(SealFault.OtherRecord, (await Fault(mfa, one)).Fault);
            using var hq = Services.As(Hq);
            await Assert.ThrowsAsync<InvalidEntryException>(() => hq.ReadSealed("custody", one, "identity", Cancel));
        }
        finally
        {
            Services.Later = null;
        }
    }

    private static readonly string[] Official =
    [
        "--actor.office",
        "consular-department",
        "--actor.official",
        "o-17",
        "--actor.authority",
        "order-12",
    ];

    private static readonly string[] Rewrap = ["rewrap", "--legal-basis", "gc3-126"];

    private CommandRunner Command(string who) =>
        new(Services)
        {
            As = who,
            Variables = new Dictionary<string, string>
            {
                ["MINISTRIES_OFFICE"] = "consular-department",
                ["MINISTRIES_OFFICIAL"] = "o-17",
                ["MINISTRIES_AUTHORITY"] = "order-12",
            },
        };

    private static async Task<SealException> Fault(MinistryClient client, ulong position)
    {
        var read = await client.ReadSealed("custody", position, "identity", Cancel);
        return Assert.Throws<SealException>(() => client.Open<PersonIdentity>(read));
    }

    private static ShareSealedRequest To(string recipient, ulong position, params int[] fields) =>
        new()
        {
            Actor = Services.Actor,
            Position = position,
            Field = "identity",
            Recipient = recipient,
            Fields = { fields.Select(f => (uint)f) },
            Reason = SharingReason.MedicalCare,
            LegalBasis = "gc3-30",
        };

    // Sealed to the observer's older key, as long as it was the newest.
    private async Task<ulong> Register(params string[] recipients)
    {
        using var hq = Services.As(Hq);
        var request = new RegisterPrisonerRequest
        {
            RequestId = MinistryClient.NewRequestId(),
            Actor = Services.Actor,
            Etag = (await hq.Custody.GetCaseAsync(new GetCaseRequest { Case = Services.Case }, cancellationToken: Cancel)).Etag,
            Case = Services.Case,
            Status = CustodyState.Registered,
            CaptureTime = Timestamp.FromDateTime(new DateTime(2025, 1, 9, 0, 0, 0, DateTimeKind.Utc)),
        };
        var now = DateTimeOffset.UtcNow.ToTimestamp();
        request.Identity = Sealer.Seal(
            Services.Identity,
            new(request.Case, request.RequestId, "identity", Hq),
            [
                .. recipients.Select(id =>
                {
                    var participant = hq.Agreement.Participants.First(p => p.Id == id).Clone();
                    if (participant.SealingKeys.FirstOrDefault(k => k.Id == OlderKey) is { } older)
                    {
                        participant.SealingKeys.Clear();
                        participant.SealingKeys.Add(older);
                    }
                    return Recipient.Of(participant, now, "identity");
                }),
            ]
        );
        return (await hq.Custody.RegisterPrisonerAsync(request, cancellationToken: Cancel)).Receipt.Position;
    }

    /// <summary>The services, with an agreement that lists an older key for sealing of the observer besides the one that is its
    /// newest.</summary>
    public sealed class Rotating : IAsyncLifetime
    {
        private readonly string _folder = Directory.CreateTempSubdirectory("older").FullName;

        public Rotating() => Services = new Services { Agreed = WithOlderKey };

        public Services Services { get; }

        public string Older => Path.Combine(_folder, "sealing.key");

        public MinistrySettings WithOlder(MinistrySettings settings) => settings with { SealingKeys = [Older, .. settings.SealingKeys] };

        public ValueTask InitializeAsync() => Services.InitializeAsync();

        public async ValueTask DisposeAsync()
        {
            await Services.DisposeAsync();
            Directory.Delete(_folder, recursive: true);
        }

        private Agreement WithOlderKey(Agreement agreement)
        {
            agreement
                .Participants.First(p => p.Id == Observer)
                .SealingKeys.Add(
                    new SealingKey
                    {
                        Id = OlderKey,
                        PublicKey = ByteString.CopyFrom(SealingKeyFile.Make(Older)),
                        ValidFromTime = new Timestamp { Seconds = 1_577_836_800 },
                    }
                );
            return agreement;
        }
    }
}
