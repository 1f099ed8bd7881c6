using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Ministries.CallLog.V1;
using Ministries.Consular.V1;
using Ministries.Custody.V1;
using Ministries.Errors.V1;
using Ministries.Fixtures;
using Ministries.Hosting;
using Ministries.Sealing;
using Ministries.Trust;
using Ministries.Types.V1;

namespace Ministries.Rules.Tests;

/// <summary>What the services find out about sealed content without opening it, and what their refusals advise.</summary>
public class SealTests
{
    private const string Hq = "ua/coordination-hq";
    private const string Icrc = "icrc";
    private const string Case = "case_00000000000000000000000001";

    private static readonly IReadOnlyList<Reason> Range = Advice.ReasonsOf(400, 419);

    private static readonly DateTimeOffset Now = new(2025, 3, 17, 9, 0, 0, TimeSpan.Zero);

    private readonly Agreement _agreement = WithKeys();

    /// <summary>What is changed in a content that is otherwise right, and the refusal. The first of them that applies is given.</summary>
    private static readonly Dictionary<string, (Reason Reason, Action<SealedContent> Change)> Wrong = new()
    {
        ["no case"] = (Reason.SealOfAnotherRecord, c => c.Case = ""),
        ["another case"] = (Reason.SealOfAnotherRecord, c => c.Case = "case_00000000000000000000000002"),
        ["another request"] = (Reason.SealOfAnotherRecord, c => c.Record = "00000000-0000-4000-8000-000000000009"),
        ["another sender"] = (Reason.SealOfAnotherRecord, c => c.Sender = Icrc),
        ["another field"] = (Reason.SealOfAnotherField, c => c.Field = "particulars"),
        ["another message"] = (Reason.SealOfAnotherMessage, c => c.Message = "ministries.type.v1.Place"),
        ["a message that there is not"] = (Reason.SealOfAnotherMessage, c => c.Message = "ministries.type.v1.Nothing"),
        ["a recipient without a wrap"] = (Reason.SealKeysDiffer, c => c.Keys.RemoveAt(1)),
        ["a wrap for somebody else"] = (Reason.SealKeysDiffer, c => c.Keys.Add(new SealedKey(c.Keys[0]) { Recipient = "kr/mfa" })),
        ["wraps in another order"] = (
            Reason.SealKeysDiffer,
            c =>
            {
                var first = c.Keys[0];
                c.Keys.RemoveAt(0);
                c.Keys.Add(first);
            }
        ),
        ["a key that nobody has"] = (Reason.SealingKeyUnknown, c => c.Keys[1].KeyId = "icrc/sealing-9"),
        ["another's key"] = (Reason.SealingKeyUnknown, c => c.Keys[1].KeyId = c.Keys[0].KeyId),
        ["a field left out"] = (Reason.SealFieldsDiffer, c => c.Fields.RemoveAt(2)),
        ["a field twice"] = (Reason.SealFieldsDiffer, c => c.Fields.Insert(1, c.Fields[0].Clone())),
        ["fields in another order"] = (
            Reason.SealFieldsDiffer,
            c => (c.Fields[0].Number, c.Fields[1].Number) = (c.Fields[1].Number, c.Fields[0].Number)
        ),
        ["a field too many"] = (Reason.SealFieldsDiffer, c => c.Fields.Add(new SealedField(c.Fields[0]) { Number = 31 })),
        ["a field cut short by one byte"] = (Reason.SealNotPadded, c => Size(c, 271)),
        ["a field one byte longer"] = (Reason.SealNotPadded, c => Size(c, 81)),
        ["a size without its tag"] = (Reason.SealNotPadded, c => Size(c, 256)),
        ["a field below the least size"] = (Reason.SealMalformed, c => Size(c, 64)),
        ["a commitment cut short"] = (Reason.SealMalformed, c => c.Fields[0].Commitment = Bytes(31)),
        ["an encapsulation cut short"] = (Reason.SealMalformed, c => c.Keys[0].Encapsulation = Bytes(1119)),
        ["a secret that is longer"] = (Reason.SealMalformed, c => c.Keys[0].Secret = Bytes(49)),
        ["no wraps"] = (Reason.SealMalformed, c => c.Keys.Clear()),
        ["no fields"] = (Reason.SealMalformed, c => c.Fields.Clear()),
        ["no request"] = (Reason.SealMalformed, c => c.Record = ""),
        ["a path that is none"] = (Reason.SealMalformed, c => c.Field = "identity[0]"),
        ["a name that is none"] = (Reason.SealMalformed, c => c.Message = "PersonIdentity"),
        ["more than 32 fields"] = (
            Reason.SealMalformed,
            c => c.Fields.Add(Enumerable.Range(100, 32).Select(n => new SealedField(c.Fields[0]) { Number = (uint)n }))
        ),
    };

    public static TheoryData<string> Changes => [.. Wrong.Keys];

    [Theory, MemberData(nameof(Changes))]
    public void Content_that_is_not_its_requests_is_refused_by_name_and_says_which_field(string what)
    {
        var (reason, change) = Wrong[what];
        Assert.Null(Check(Registering()));
        var refusal = Check(Registering(change));
        Assert.Equal((reason, "identity"), (refusal?.Reason, refusal?.Metadata?["field"]));
    }

    [Fact]
    public void Content_of_one_request_is_refused_in_every_other_place()
    {
        var first = Registering();
        var later = Registering();
        later.RequestId = "00000000-0000-4000-8000-000000000002";
        later.Identity = first.Identity;
        Assert.Equal(Reason.SealOfAnotherRecord, Check(later)?.Reason);
        Assert.Equal(Reason.SealOfAnotherRecord, Check(first, Icrc)?.Reason);
        // The same request, another field of it.
        var correction = SealedForm.In(
            new Custody.V1.CorrectRecordRequest
            {
                RequestId = first.RequestId,
                Case = Case,
                Explanation = SealedForm.To(Hq, Icrc),
                Identity = SealedForm.To(Hq, Icrc),
            },
            Hq,
            _agreement
        );
        Assert.Null(Check(correction));
        (correction.Explanation, correction.Identity) = (correction.Identity, correction.Explanation);
        var refusal = Check(correction);
        Assert.Equal((Reason.SealOfAnotherField, "explanation"), (refusal?.Reason, refusal?.Metadata?["field"]));
    }

    /// <summary>What is hashed into every key names the message inside and the recipients, and not the fields. Nobody needs it to: who
    /// carries the content and who opens it both demand every field that the contract declares. An attacker who leaves some out gets past
    /// neither.
    /// </summary>
    [Fact]
    public void No_subset_of_what_was_sealed_gets_past_the_service_or_opens()
    {
        using var icrc = SealingIdentity.FromSeed("icrc/sealing-9", SealingIdentity.NewSeed());
        Of(_agreement, Icrc)
            .SealingKeys.Add(new SealingKey(SealedForm.Listed(icrc.Id)) { PublicKey = ByteString.CopyFrom(icrc.PublicKey.Bytes) });
        var (opener, request) = (new Opener(Icrc, [icrc]), Registering());
        var context = new SealContext(Case, request.RequestId, "identity", Hq);
        var whole = Sealer.Seal(new PersonIdentity { Rank = "private" }, context, [new Recipient(Icrc, icrc.Id, icrc.PublicKey)]);
        Assert.Null(Check(With(whole.Content)));
        Assert.Equal("private", opener.Open<PersonIdentity>(whole, context).Rank);

        var all = SealedContent.Parser.ParseFrom(whole.Content);
        for (var kept = 0; kept < (1 << all.Fields.Count) - 1; kept++)
        {
            var some = all.Clone();
            some.Fields.Clear();
            some.Fields.Add(all.Fields.Where((_, i) => (kept >> i & 1) != 0));
            var cut = With(some.ToByteString());
            Assert.Equal(kept == 0 ? Reason.SealMalformed : Reason.SealFieldsDiffer, Check(cut)?.Reason);
            var fault = Assert.Throws<SealException>(() => opener.Open<PersonIdentity>(cut.Identity, context)).Fault;
            Assert.Contains(fault, (SealFault[])[SealFault.OtherField, SealFault.Truncated]);
        }

        RegisterPrisonerRequest With(ByteString content) => new(request) { Identity = new Sealed(whole) { Content = content } };
    }

    /// <summary>The recipients are hashed into every key: with one of them left out, beside the content and in it, nothing opens. The
    /// service cannot tell, but the sender's signature is over both.</summary>
    [Fact]
    public void No_subset_of_the_recipients_opens()
    {
        using var icrc = SealingIdentity.FromSeed("icrc/sealing-1", SealingIdentity.NewSeed());
        var (opener, request) = (new Opener(Icrc, [icrc]), Registering());
        var context = new SealContext(Case, request.RequestId, "identity", Hq);
        var both = Sealer.Seal(
            new PersonIdentity { Rank = "private" },
            context,
            [new Recipient(Hq, $"{Hq}/sealing-1", icrc.PublicKey), new Recipient(Icrc, icrc.Id, icrc.PublicKey)]
        );
        Assert.Equal("private", opener.Open<PersonIdentity>(both, context).Rank);

        request.Identity = both.Clone();
        request.Identity.Recipients.RemoveAt(0);
        Assert.Equal(Reason.SealKeysDiffer, Check(request)?.Reason);
        Assert.Equal(SealFault.OtherRecipients, Fault());
        var content = SealedContent.Parser.ParseFrom(both.Content);
        content.Keys.RemoveAt(0);
        request.Identity.Content = content.ToByteString();
        Assert.Equal(SealFault.NotAuthentic, Fault());

        SealFault Fault() => Assert.Throws<SealException>(() => opener.Open<PersonIdentity>(request.Identity, context)).Fault;
    }

    [Fact]
    public void A_field_of_a_message_inside_is_named_by_its_path()
    {
        LogCallRequest Logged(Action<SealedContent>? but = null) =>
            SealedForm.In(
                new LogCallRequest
                {
                    RequestId = "00000000-0000-4000-8000-000000000001",
                    Case = Case,
                    Account = new Account { Minutes = SealedForm.To("kr/mfa") },
                },
                "kr/mfa",
                _agreement,
                but
            );
        Assert.Null(Check(Logged(), "kr/mfa"));
        Assert.Equal("account.minutes", Check(Logged(c => c.Field = "minutes"), "kr/mfa")?.Metadata?["field"]);
    }

    [Theory]
    [InlineData("an unknown field at the end")]
    [InlineData("an unknown field inside")]
    [InlineData("fields in another order")]
    [InlineData("a default that is written")]
    [InlineData("a field twice")]
    [InlineData("a number written longer")]
    [InlineData("bytes that end too early")]
    [InlineData("nothing")]
    [InlineData("noise")]
    public void Content_has_one_form(string what)
    {
        var request = Registering();
        var bytes = request.Identity.Content.ToByteArray();
        var content = SealedContent.Parser.ParseFrom(bytes);
        request.Identity.Content = ByteString.CopyFrom(
            what switch
            {
                // Field 15, which no version has.
                "an unknown field at the end" => [.. bytes, 0x78, 1],
                "an unknown field inside" => [.. Without(content, c => c.Fields.Clear()), .. Inner(content.Fields, [0x78, 1])],
                "fields in another order" => [.. Without(content, c => c.Case = ""), .. new SealedContent { Case = Case }.ToByteArray()],
                "a default that is written" => [0x0a, 0, .. bytes],
                "a field twice" => [.. new SealedContent { Case = Case }.ToByteArray(), .. bytes],
                // The tag of field 1, with a byte more than it needs.
                "a number written longer" => [0x8a, 0, .. bytes[1..]],
                "bytes that end too early" => bytes[..^1],
                "noise" => [.. Enumerable.Range(0, 255).Select(i => (byte)(i * 37))],
                _ => [],
            }
        );
        Assert.Equal(Reason.SealMalformed, Check(request)?.Reason);
    }

    [Theory]
    [InlineData("unknown", "somebody/else", Reason.RecipientWithoutKey)]
    [InlineData("without a key", "kr/unification", Reason.RecipientWithoutKey)]
    [InlineData("a service", "service/custody", Reason.RecipientWithoutKey)]
    [InlineData("its key has no begin", Icrc, Reason.RecipientWithoutKey)]
    [InlineData("its key has not begun", Icrc, Reason.RecipientWithoutKey)]
    [InlineData("its key has ended", Icrc, Reason.RecipientWithoutKey)]
    [InlineData("its key is revoked", Icrc, Reason.RecipientWithoutKey)]
    [InlineData("its key is revoked and it has another", Icrc, Reason.SealingKeyUnknown)]
    [InlineData("its key ends later", Icrc, null)]
    [InlineData("it has a newer key too", Icrc, null)]
    public void A_recipient_is_a_participant_with_a_key_in_force(string what, string recipient, Reason? reason)
    {
        Of(_agreement, "kr/unification").SealingKeys.Clear();
        var key = Of(_agreement, Icrc).SealingKeys[0];
        var request = SealedForm.In(Registering(null, Hq, recipient), Hq, _agreement);
        switch (what)
        {
            case "its key has no begin":
                key.ValidFromTime = null;
                break;
            case "its key has not begun":
                key.ValidFromTime = Now.AddTicks(10).ToTimestamp();
                break;
            case "its key has ended":
                key.ValidUntilTime = Now.ToTimestamp();
                break;
            case "its key is revoked":
                key.RevokeTime = Now.ToTimestamp();
                break;
            case "its key is revoked and it has another":
                key.RevokeTime = Now.ToTimestamp();
                Of(_agreement, Icrc).SealingKeys.Add(SealedForm.Listed("icrc/sealing-2"));
                break;
            case "its key ends later":
                (key.ValidFromTime, key.ValidUntilTime) = (Now.ToTimestamp(), Now.AddTicks(10).ToTimestamp());
                break;
            case "it has a newer key too":
                Of(_agreement, Icrc).SealingKeys.Add(SealedForm.Listed("icrc/sealing-2"));
                break;
        }
        var refusal = Check(request);
        Assert.Equal(reason, refusal?.Reason);
        if (reason is not null)
            Assert.Equal(("identity", recipient), (refusal!.Metadata!["field"], refusal.Metadata["recipient"]));
    }

    /// <summary>A sender seals to the newest key.</summary>
    [Fact]
    public void The_newest_key_in_force_is_the_one_to_seal_to()
    {
        var icrc = Of(_agreement, Icrc);
        Assert.Equal("icrc/sealing-1", Seals.KeyOf(icrc, Now)!.Id);
        foreach (var (id, days) in (ReadOnlySpan<(string, int)>)[("second", -1), ("third", 1), ("first", -2)])
            icrc.SealingKeys.Add(new SealingKey(SealedForm.Listed(id)) { ValidFromTime = Now.AddDays(days).ToTimestamp() });
        Assert.Equal("second", Seals.KeyOf(icrc, Now)!.Id);
        Assert.Equal("third", Seals.KeyOf(icrc, Now.AddDays(1))!.Id);
        icrc.SealingKeys.Clear();
        Assert.Null(Seals.KeyOf(icrc, Now));
    }

    [Theory]
    [InlineData(64), InlineData(256), InlineData(1024), InlineData(4096), InlineData(16384), InlineData(49152)]
    public void Every_documented_size_is_accepted(int bucket) => Assert.Null(Check(Registering(c => Size(c, bucket + 16))));

    [Fact]
    public void Sealed_fields_are_found_wherever_a_request_can_have_them_and_others_have_none()
    {
        var types = Methods.All.Select(m => m.InputType).Where(Seals.CanBeIn).Select(t => t.Name).ToArray();
        Assert.Contains(nameof(RegisterPrisonerRequest), types);
        Assert.Contains(nameof(SubmitReadoutRequest), types);
        Assert.Contains(nameof(ScheduleHandoverRequest), types);
        Assert.DoesNotContain(nameof(AdmitPartyRequest), types);
        Assert.Empty(Seals.WithPaths(new AdmitPartyRequest()));
        Assert.Empty(Seals.WithPaths(new RegisterPrisonerRequest()));
        Assert.Null(Check(new RecordFitnessRequest()));
    }

    [Theory]
    [InlineData(typeof(RegisterPrisonerRequest), "ministries.type.v1.PersonIdentity", "identity")]
    [InlineData(typeof(LogCallRequest), "ministries.type.v1.CallMinutes", "account.minutes")]
    [InlineData(typeof(RecordFitnessRequest), "ministries.type.v1.MedicalFindings", "findings")]
    [InlineData(typeof(RecordFitnessRequest), "ministries.type.v1.PersonIdentity", null)]
    [InlineData(typeof(AdmitPartyRequest), "ministries.type.v1.PersonIdentity", null)]
    public void The_field_for_a_message_is_found_by_what_the_contract_declares(System.Type request, string message, string? path)
    {
        var found = Seals.PathFor(((IMessage)Activator.CreateInstance(request)!).Descriptor, message);
        Assert.Equal(path, found is null ? null : string.Join('.', found.Select(f => f.Name)));
    }

    /// <summary>No refusal can tell anything of a person: the checks read what stands in clear.</summary>
    [Fact]
    public void No_refusal_repeats_what_is_sealed() =>
        Assert.All(
            Wrong.Values,
            w => Assert.All(Check(Registering(w.Change))!.Metadata!, m => Assert.Contains(m.Key, (string[])["field", "recipient"]))
        );

    // --- The advice.

    private static readonly Dictionary<Reason, Func<SealTests, Advised>> Plays = new()
    {
        [Reason.SealMalformed] = t => t.SealedAgain("no fields"),
        [Reason.SealOfAnotherRecord] = t => t.SealedAgain("another request"),
        [Reason.SealOfAnotherField] = t => t.SealedAgain("another field"),
        [Reason.SealOfAnotherMessage] = t => t.SealedAgain("another message"),
        [Reason.SealKeysDiffer] = t => t.SealedAgain("a recipient without a wrap"),
        [Reason.SealFieldsDiffer] = t => t.SealedAgain("a field left out"),
        [Reason.SealNotPadded] = t => t.SealedAgain("a field cut short by one byte"),
        [Reason.RecipientWithoutKey] = t => t.ListedThen(clear: true),
        [Reason.SealingKeyUnknown] = t => t.ListedThen(clear: false),
    };

    public static TheoryData<Reason> Reasons => [.. Plays.Keys];

    [Theory, MemberData(nameof(Reasons))]
    public void What_a_refusal_advises_unlocks_it(Reason reason) => Advice.AssertWorks(reason, Plays[reason](this));

    [Fact]
    public void Every_reason_has_a_play() => Advice.AssertComplete(Range, Plays.Keys, new Dictionary<Reason, string>());

    [Fact]
    public void What_the_advice_names_is_there() => Advice.AssertNamesExist(Range, "recipient");

    /// <summary>They are given before the request becomes a command, so the mended request keeps its id.</summary>
    [Fact]
    public void What_was_sealed_wrongly_is_sealed_again_under_the_same_id() =>
        Assert.All(Range, reason => Assert.False(Ministries.Rules.Reasons.IsKept(reason)));

    private Advised SealedAgain(string wrong)
    {
        var change = Wrong[wrong].Change;
        return new(() => Check(Registering(change))?.Reason ?? Reason.Unspecified, () => change = _ => { });
    }

    // The recipient lists a key, and the caller seals to it.
    private Advised ListedThen(bool clear)
    {
        var keys = Of(_agreement, Icrc).SealingKeys;
        var request = Registering();
        if (clear)
            keys.Clear();
        else
            keys[0].Id = "icrc/sealing-0";
        return new(
            () => Check(request)?.Reason ?? Reason.Unspecified,
            () =>
            {
                if (clear)
                    keys.Add(SealedForm.Listed("icrc/sealing-2"));
                request = Registering();
            }
        );
    }

    private Refusal? Check(IMessage request, string caller = Hq) =>
        SealForm.Check(request, Of(_agreement, caller), new Permissions(_agreement), Now);

    private RegisterPrisonerRequest Registering(Action<SealedContent>? but = null, params string[] recipients) =>
        SealedForm.In(
            new RegisterPrisonerRequest
            {
                RequestId = "00000000-0000-4000-8000-000000000001",
                Case = Case,
                Identity = SealedForm.To(recipients.Length > 0 ? recipients : [Hq, Icrc]),
            },
            Hq,
            _agreement,
            but
        );

    private static Agreement WithKeys()
    {
        var agreement = StandardAgreement.Read();
        foreach (var participant in agreement.Participants.Where(AgreementVersions.Signs))
            participant.SealingKeys.Add(SealedForm.Listed($"{participant.Id}/sealing-1"));
        return agreement;
    }

    private static Participant Of(Agreement agreement, string id) => agreement.Participants.Single(p => p.Id == id);

    private static void Size(SealedContent content, int bytes) => content.Fields[1].Ciphertext = Bytes(bytes);

    private static ByteString Bytes(int count) => ByteString.CopyFrom(new byte[count]);

    private static byte[] Without(SealedContent content, Action<SealedContent> change)
    {
        var copy = content.Clone();
        change(copy);
        return copy.ToByteArray();
    }

    // The fields, with bytes at the end of the last.
    private static byte[] Inner(IEnumerable<SealedField> fields, byte[] more)
    {
        using var written = new MemoryStream();
        var output = new CodedOutputStream(written);
        foreach (var (field, last) in fields.Select((f, i) => (f, i == fields.Count() - 1)))
        {
            output.WriteTag(SealedContent.FieldsFieldNumber, WireFormat.WireType.LengthDelimited);
            output.WriteBytes(ByteString.CopyFrom([.. field.ToByteArray(), .. last ? more : []]));
        }
        output.Flush();
        return written.ToArray();
    }
}
