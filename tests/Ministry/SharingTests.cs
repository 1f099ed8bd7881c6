using System.Security.Cryptography;
using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Microsoft.Extensions.DependencyInjection;
using Ministries.Consular.V1;
using Ministries.Custody.V1;
using Ministries.Ledger;
using Ministries.Ledger.V1;
using Ministries.Types.V1;
using static Ministries.Ministry.Tests.Services;

namespace Ministries.Ministry.Tests;

/// <summary>Sealed data are opened to others and destroyed, over the wire, by the real hosts of all three services.</summary>
public class SharingTests(SharingTests.Sharing sharing) : IClassFixture<SharingTests.Sharing>
{
    private const string Hq = "ua/coordination-hq";
    private const string Mfa = "ua/mfa";
    private const string Seoul = "kr/mfa";
    private const string Observer = "icrc";

    private Services Services => sharing.Services;

    [Fact]
    public async Task What_is_opened_to_a_recipient_it_reads_and_the_observers_see_that_it_was_opened()
    {
        var position = await Register(Observer);
        await Refused("NOT_FOUND", () => Get(Mfa, position));
        var share = Request(position, Mfa);
        var given = (await Share(Hq, share)).Position;

        var read = await Get(Mfa, position);
        Assert.Equal([Observer], read.Sealed.Recipients);
        Assert.Equal(SHA256.HashData(read.Sealed.Content.Span), read.Sealed.Digest.ToByteArray());
        Assert.Equal((position, "identity", Services.Case, Hq), (read.Position, read.Field, read.Case, read.Sender));
        var grant = Assert.Single(read.Grants);
        Assert.Equal((Hq, Mfa, share.KeyId, given), (grant.Giver, grant.Recipient, grant.KeyId, grant.Position));
        Assert.Equal((share.Encapsulation, share.Secret, share.Reason), (grant.Encapsulation, grant.Secret, grant.Reason));
        Assert.Equal(share.LegalBasis, grant.LegalBasis);
        Assert.Empty(grant.Fields);
        Assert.InRange(grant.Time.ToDateTimeOffset(), DateTimeOffset.UtcNow.AddMinutes(-5), DateTimeOffset.UtcNow.AddMinutes(1));
        await IsProved(read);

        // Sender and observer read the same, without what was opened to another.
        foreach (var other in (string[])[Hq, Observer])
        {
            var same = await Get(other, position);
            Assert.Equal((read.Sealed, read.Header), (same.Sealed, same.Header));
            Assert.Empty(same.Grants);
        }
        // The giver and the recipient have the signed request, the observer sees the event, the requesting state nothing.
        Assert.Contains(PartKind.Request, await Parts(Hq, given));
        Assert.Equal([PartKind.Request, PartKind.Events, PartKind.Signature], (await Parts(Mfa, given)).Order());
        Assert.Equal([PartKind.Events], await Parts(Observer, given));
        await Refused("NOT_FOUND", () => Parts(Seoul, given));
        var there = await Refused("NOT_FOUND", () => Get(Seoul, position));
        var absent = await Refused("NOT_FOUND", () => Get(Seoul, 1_000_000));
        Assert.Equal((absent.StatusCode, absent.Status.Detail), (there.StatusCode, there.Status.Detail));
        await Refused("NOT_FOUND", () => Get(Hq, position, "evidence"));
    }

    [Fact]
    public async Task A_power_of_origin_and_every_other_state_is_refused_and_reads_nothing()
    {
        var position = await Register(Observer);
        await Refused("SHARE_NOT_RELEASED", () => Share(Hq, Request(position, Seoul)));
        await Refused("SHARE_NOT_RELEASED", () => Share(Observer, Request(position, Seoul)));
        await Refused("NOT_FOUND", () => Share(Seoul, Request(position, Seoul)));
        await Refused("NOT_FOUND", () => Get(Seoul, position));
        await Refused("SHARE_RECIPIENT_UNKNOWN", () => Share(Hq, Request(position, "service/custody")));
    }

    [Fact]
    public async Task What_a_refused_request_carried_is_nobodys()
    {
        using var hq = Services.As(Hq);
        var request = await Registration(Observer, Seoul);
        await Refused("RECIPIENT_NOT_RELEASED", () => hq.Custody.RegisterPrisonerAsync(request, cancellationToken: Cancel).ResponseAsync);
        var entry = await hq.LedgerOf("custody")
            .GetEntryAsync(new GetEntryRequest { OwnRequestId = request.RequestId }, cancellationToken: Cancel);
        var position = EntryHeader.Parser.ParseFrom(entry.Entry.Header).Position;
        foreach (var who in (string[])[Seoul, Observer, Hq])
            await Refused("NOT_FOUND", () => Get(who, position));
        await Refused("NOT_FOUND", () => Share(Hq, Request(position, Mfa)));
    }

    [Fact]
    public async Task One_field_is_opened_without_the_others()
    {
        var position = await Register(Observer);
        await Share(Hq, Only(Request(position, Mfa), 2));
        var grant = Assert.Single((await Get(Mfa, position)).Grants);
        Assert.Equal([2u], grant.Fields);
        Assert.Equal(52, grant.Secret.Length);
        await Refused("SHARE_BEYOND_OWN", () => Share(Mfa, Request(position, Hq, 2)));
        await Refused("SHARE_BEYOND_OWN", () => Share(Mfa, Only(Request(position, Hq, 2), 1, 2)));
        await Share(Mfa, Only(Request(position, Hq, 2), 2));
        Assert.Equal(Mfa, Assert.Single((await Get(Hq, position)).Grants).Giver);
    }

    [Fact]
    public async Task What_a_participant_can_open_is_wrapped_anew_for_its_rotated_key_without_the_sender()
    {
        var position = await Register(Observer);
        // Only the participant knows whether what was sealed for its key opens.
        await Share(Observer, Request(position, Observer));
        await Refused("SHARE_ALREADY_MADE", () => Share(Observer, Request(position, Observer)));
        var rotated = Request(position, Observer, 2);
        rotated.Reason = SharingReason.KeyRotated;
        var receipt = await Share(Observer, rotated);
        var grant = Assert.Single((await Get(Observer, position)).Grants, g => g.KeyId == rotated.KeyId);
        Assert.Equal((Observer, rotated.KeyId, receipt.Position), (grant.Giver, grant.KeyId, grant.Position));
        // The same request again is answered as before.
        Assert.Equal(receipt.Position, (await Share(Observer, rotated)).Position);
    }

    [Fact]
    public async Task In_the_other_services_it_is_the_same_and_a_draft_stays_its_senders()
    {
        using var seoul = Services.As(Seoul);
        var call = Services.Call();
        call.RequestId = MinistryClient.NewRequestId();
        call.Account.Minutes = SealedFor(call.RequestId, "account.minutes", Seoul, "ministries.type.v1.CallMinutes", Seoul);
        var logged = (await seoul.CallLog.LogCallAsync(call, cancellationToken: Cancel)).Receipt.Position;
        await Refused("NOT_FOUND", () => Get(Mfa, logged, "account.minutes", "calllog"));
        var given = (await Share(Seoul, Request(logged, Mfa, field: "account.minutes"), "calllog")).Position;
        Assert.Single((await Get(Mfa, logged, "account.minutes", "calllog")).Grants);
        Assert.Equal([PartKind.Events], await Parts(Observer, given, "calllog"));
        await Refused("NOT_FOUND", () => Get(Hq, logged, "account.minutes", "calllog"));
        await Refused("NOT_FOUND", () => Parts(Hq, given, "calllog"));

        var drafted = await Draft(seoul);
        var rotated = (await Share(Seoul, Request(drafted, Seoul, 2, "content"), "consular")).Position;
        Assert.Single((await Get(Seoul, drafted, "content", "consular")).Grants);
        foreach (var other in (string[])[Observer, Hq])
        {
            await Refused("NOT_FOUND", () => Get(other, drafted, "content", "consular"));
            await Refused("NOT_FOUND", () => Parts(other, rotated, "consular"));
        }
    }

    [Fact]
    public async Task Erased_it_is_opened_to_nobody_any_more_and_log_and_evidence_verify_still()
    {
        var registered = await Registered(Observer);
        var position = registered.Receipt.Position;
        var other = await Register(Observer);
        var given = (await Share(Hq, Request(position, Mfa))).Position;
        var again = (await Share(Mfa, Only(Request(position, Hq, 2), 2))).Position;
        var kept = (await Share(Hq, Request(other, Mfa))).Position;
        Assert.True(await Verify(Mfa) > 0);
        Assert.NotNull(await Identity(Observer, registered.Prisoner));

        Assert.True(await Services.Hosts["custody"].Services.GetRequiredService<ServiceLedger>().EraseRequest(position, Cancel));
        foreach (var who in (string[])[Hq, Mfa])
        {
            await Refused("SEALED_ERASED", () => Get(who, position));
            await Refused("SEALED_ERASED", () => Share(who, Request(position, Observer, 2)));
        }
        // The record holds it no longer either.
        Assert.Null(await Identity(Observer, registered.Prisoner));
        Assert.Null(await Identity(Hq, registered.Prisoner));
        // Who is not known any more to have had it gets what a stranger gets.
        foreach (var who in (string[])[Observer, Seoul])
            await Refused("NOT_FOUND", () => Get(who, position));
        foreach (var (who, at) in ((string, ulong)[])[(Hq, position), (Hq, given), (Mfa, again)])
            Assert.Contains((await Entry(who, at)).Parts, p => p is { Kind: PartKind.Request, Erased: true, Data.IsEmpty: true });
        Assert.Equal([PartKind.Events], await Parts(Mfa, given));
        Assert.Contains(PartKind.Request, await Parts(Mfa, kept));
        Assert.Single((await Get(Mfa, other)).Grants);

        Assert.True(await Verify(Mfa) > 0);
        Assert.True(await Verify(Hq) > 0);
    }

    // Audits the whole log with all entries that the participant may see, and verifies its evidence; the number of entries in it.
    private async Task<int> Verify(string participant)
    {
        using var client = Services.As(participant);
        await client.Audit("custody", whole: true, entries: true, cancel: Cancel);
        using var file = new MemoryStream();
        await new EvidenceExport(client, TimeProvider.System).Write(Services.Case, file, null, Cancel);
        var report = EvidenceVerification.Verify(file.ToArray());
        Assert.Null(report.Break);
        return report.Entries.Count(e => e.Header.Method.EndsWith("/ShareSealed", StringComparison.Ordinal));
    }

    // The header is the log's record at the position, and it names the request in which the sender finds the datum as it is shown.
    private async Task IsProved(GetSealedResponse read)
    {
        using var hq = Services.As(Hq);
        var header = EntryHeader.Parser.ParseFrom(read.Header);
        Assert.Equal((read.Position, read.Sender), (header.Position, header.Participant));
        var request = (await Entry(Hq, read.Position)).Parts.Single(p => p.Kind == PartKind.Request);
        Assert.Equal(read.RequestDigest.ToByteArray(), Digests.OfPart(request.Salt.Span, request.Data.Span));
        Assert.Equal(read.Sealed.Content, RegisterPrisonerRequest.Parser.ParseFrom(request.Data).Identity.Content);
        await hq.LedgerOf("custody")
            .GetInclusionProofAsync(new GetInclusionProofRequest { Position = read.Position }, cancellationToken: Cancel);
    }

    private async Task<ulong> Register(params string[] recipients) => (await Registered(recipients)).Receipt.Position;

    private async Task<RegisterPrisonerResponse> Registered(params string[] recipients)
    {
        using var hq = Services.As(Hq);
        return await hq.Custody.RegisterPrisonerAsync(await Registration(recipients), cancellationToken: Cancel);
    }

    private async Task<Sealed?> Identity(string who, string prisoner)
    {
        using var client = Services.As(who);
        return (
            await client.Custody.GetPrisonerAsync(
                new GetPrisonerRequest { Case = Services.Case, Prisoner = prisoner },
                cancellationToken: Cancel
            )
        )
            .Prisoner
            .Identity;
    }

    private async Task<RegisterPrisonerRequest> Registration(params string[] recipients)
    {
        using var hq = Services.As(Hq);
        var id = MinistryClient.NewRequestId();
        return new()
        {
            RequestId = id,
            Actor = Services.Actor,
            Etag = (await hq.Custody.GetCaseAsync(new GetCaseRequest { Case = Services.Case }, cancellationToken: Cancel)).Etag,
            Case = Services.Case,
            Status = CustodyState.Registered,
            CaptureTime = Timestamp.FromDateTime(new DateTime(2025, 1, 9, 0, 0, 0, DateTimeKind.Utc)),
            Identity = SealedFor(id, "identity", Hq, PersonIdentity.Descriptor.FullName, recipients),
        };
    }

    // Content of the right form that opens for nobody: random bytes stand where ciphertexts go.
    private Sealed SealedFor(string record, string field, string sender, string message, params string[] recipients)
    {
        var content = new SealedContent
        {
            Case = Services.Case,
            Record = record,
            Field = field,
            Sender = sender,
            Message = message,
        };
        foreach (var recipient in recipients)
            content.Keys.Add(
                new SealedKey
                {
                    Recipient = recipient,
                    KeyId = Sharing.KeyOf(recipient, 1),
                    Encapsulation = Random(1120),
                    Secret = Random(48),
                }
            );
        var type = Contracts.Descriptors.Files.SelectMany(f => f.MessageTypes).FirstOrDefault(m => m.FullName == message);
        foreach (var number in type?.Fields.InFieldNumberOrder().Select(f => (uint)f.FieldNumber) ?? [1u])
            content.Fields.Add(
                new SealedField
                {
                    Number = number,
                    Commitment = Random(32),
                    Ciphertext = Random(80),
                }
            );
        return new Sealed
        {
            Scheme = "ministries-sealed-v1",
            Recipients = { recipients },
            Content = content.ToByteString(),
        };
    }

    private ShareSealedRequest Request(ulong position, string recipient, int key = 1, string field = "identity") =>
        new()
        {
            RequestId = MinistryClient.NewRequestId(),
            Actor = Services.Actor,
            Case = Services.Case,
            Position = position,
            Field = field,
            Recipient = recipient,
            KeyId = Sharing.KeyOf(recipient, key),
            Encapsulation = Random(1120),
            Secret = Random(48),
            Reason = SharingReason.MedicalCare,
            LegalBasis = "gc3-30",
        };

    private static ShareSealedRequest Only(ShareSealedRequest request, params uint[] fields)
    {
        request.Fields.Add(fields);
        request.Secret = Random(fields.Length * 36 + 16);
        return request;
    }

    private static ByteString Random(int bytes) => ByteString.CopyFrom(RandomNumberGenerator.GetBytes(bytes));

    private async Task<Receipt> Share(string giver, ShareSealedRequest request, string service = "custody")
    {
        using var client = Services.As(giver);
        return (await client.LedgerOf(service).ShareSealedAsync(request, cancellationToken: Cancel)).Receipt;
    }

    private async Task<GetSealedResponse> Get(string who, ulong position, string field = "identity", string service = "custody")
    {
        using var client = Services.As(who);
        return await client
            .LedgerOf(service)
            .GetSealedAsync(new GetSealedRequest { Position = position, Field = field }, cancellationToken: Cancel);
    }

    private async Task<Entry> Entry(string who, ulong position, string service = "custody")
    {
        using var client = Services.As(who);
        return (await client.LedgerOf(service).GetEntryAsync(new GetEntryRequest { Position = position }, cancellationToken: Cancel)).Entry;
    }

    private async Task<IEnumerable<PartKind>> Parts(string who, ulong position, string service = "custody") =>
        (await Entry(who, position, service)).Parts.Select(p => p.Kind);

    private static async Task<RefusedException> Refused(string reason, Func<Task> call)
    {
        var refused = await Assert.ThrowsAsync<RefusedException>(call);
        Assert.Equal(reason, refused.Reason);
        return refused;
    }

    // The consular service has its copy of the case and of its prisoners a little later than custody.
    private async Task<ulong> Draft(MinistryClient client)
    {
        var position = 0ul;
        await Until(async () =>
        {
            var draft = new DraftTransferRequestRequest
            {
                RequestId = MinistryClient.NewRequestId(),
                Actor = Services.Actor,
                Case = Services.Case,
                Prisoner = Services.Prisoners[0],
                Route = Types.V1.Route.Article12Transfer,
                Destination = "KR",
            };
            draft.Content = SealedFor(draft.RequestId, "content", Seoul, "ministries.type.v1.RequestAccount", Seoul);
            try
            {
                position = (await client.Consular.DraftTransferRequestAsync(draft, cancellationToken: Cancel)).Receipt.Position;
                return true;
            }
            catch (RefusedException refused) when (refused.Reason is "NOT_FOUND" or "PRISONER_NOT_HELD")
            {
                return false;
            }
        });
        return position;
    }

    /// <summary>The services with an agreement that lists two keys for sealing of each participant.</summary>
    public sealed class Sharing : IAsyncLifetime
    {
        public Services Services { get; } = new() { Agreed = WithKeys };

        public static string KeyOf(string participant, int number) => $"{participant}/seal-{number}";

        public ValueTask InitializeAsync() => Services.InitializeAsync();

        public ValueTask DisposeAsync() => Services.DisposeAsync();

        private static Agreement WithKeys(Agreement agreement)
        {
            foreach (
                var participant in agreement.Participants.Where(p => p.Kind is not (ParticipantKind.Service or ParticipantKind.Operator))
            )
                for (var i = 1; i <= 2; i++)
                {
                    // A key has the form of one and seals nothing.
                    var key = new byte[1216];
                    SHA256.HashData(System.Text.Encoding.UTF8.GetBytes(KeyOf(participant.Id, i))).CopyTo(key, 1184);
                    participant.SealingKeys.Add(
                        new SealingKey
                        {
                            Id = KeyOf(participant.Id, i),
                            PublicKey = ByteString.CopyFrom(key),
                            ValidFromTime = new Timestamp { Seconds = 1_577_836_800 },
                        }
                    );
                }
            return agreement;
        }
    }
}
