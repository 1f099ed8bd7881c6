using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Ministries.Errors.V1;
using Ministries.Fixtures;
using Ministries.Ledger.V1;
using Ministries.Types.V1;
using static Ministries.Custody.Tests.AdviceTests;
using static Ministries.Custody.Tests.CaseFixture;

namespace Ministries.Custody.Tests;

/// <summary>Who may open a sealed datum to whom. The rule is the same in every service; here the datum is a prisoner's identity, which his
/// detaining power sealed to the neutral observer.</summary>
public class SharingTests
{
    private readonly SharedDatum _datum = new();

    public static TheoryData<string, string, Reason> Rows =>
        new()
        {
            // The power that holds him: its own organs, and whoever is neutral.
            { Hq, Mfa, Reason.Unspecified },
            { Hq, Swiss, Reason.Unspecified },
            { Hq, Hq, Reason.Unspecified },
            // Another state does not learn it, be it the one that asks for him, a power of origin, or one without part in the case.
            { Hq, Kr, Reason.ShareNotReleased },
            { Hq, Ru, Reason.ShareNotReleased },
            { Hq, SwissJustice, Reason.ShareNotReleased },
            // Whether such a state has a part in the case, the refusal does not tell.
            { Hq, Unification, Reason.ShareNotReleased },
            { Hq, "ua/medical", Reason.ShareRecipientWithoutPart },
            { Hq, "xx/nobody", Reason.ShareRecipientUnknown },
            { Hq, "service/custody", Reason.ShareRecipientUnknown },
            { Hq, "operator", Reason.ShareRecipientUnknown },
            // The observer, to whom it was sealed.
            { Icrc, Mfa, Reason.Unspecified },
            { Icrc, Swiss, Reason.Unspecified },
            { Icrc, Hq, Reason.Unspecified },
            { Icrc, Kr, Reason.ShareNotReleased },
            { Icrc, Ru, Reason.ShareNotReleased },
            // Only the recipient itself knows whether what was sealed for its key opens.
            { Icrc, Icrc, Reason.Unspecified },
            // Who cannot open it is told nothing, whoever is named.
            { Mfa, Mfa, Reason.NotFound },
            { Mfa, Icrc, Reason.NotFound },
            { Kr, Kr, Reason.NotFound },
            { Kr, Icrc, Reason.NotFound },
            { Ru, Ru, Reason.NotFound },
            { Unification, Unification, Reason.NotFound },
            { "operator", "operator", Reason.NotGranted },
        };

    [Theory, MemberData(nameof(Rows))]
    public void Who_can_open_it_may_pass_it_on_to_whom_it_may_be_told(string giver, string recipient, Reason expected) =>
        Assert.Equal(expected, _datum.Try(giver, recipient));

    [Theory]
    [InlineData(Hq, Icrc)]
    [InlineData(Icrc, Icrc)]
    public void A_rotated_key_gets_what_its_owner_can_open(string giver, string recipient)
    {
        Assert.Equal(giver == recipient ? Reason.Unspecified : Reason.ShareAlreadyMade, _datum.Try(giver, recipient));
        Assert.Equal(Reason.ShareAlreadyMade, _datum.Try(giver, recipient));
        Assert.Equal(Reason.Unspecified, _datum.Try(giver, recipient, r => r.KeyId = SharedDatum.KeyOf(recipient, 2)));
        Assert.Equal(Reason.ShareAlreadyMade, _datum.Try(giver, recipient, r => r.KeyId = SharedDatum.KeyOf(recipient, 2)));
    }

    [Fact]
    public void A_wrong_secret_from_one_keeps_nobody_else_from_giving_the_right_one()
    {
        // The sender, too, may have sealed something else for the recipient than for the others.
        _datum.Recipients = [Icrc, Mfa];
        Assert.Equal(Reason.ShareAlreadyMade, _datum.Try(Hq, Mfa));
        Assert.Equal(Reason.Unspecified, _datum.Try(Icrc, Mfa));
        Assert.Equal(Reason.ShareAlreadyMade, _datum.Try(Icrc, Mfa));
        Assert.Equal(Reason.Unspecified, _datum.Try(Hq, Swiss));
        Assert.Equal(Reason.Unspecified, _datum.Try(Icrc, Swiss));
        // Nor the recipient itself, which finds out whether what it was given opens anything.
        Assert.Equal(Reason.Unspecified, _datum.Try(Swiss, Swiss));
        Assert.Equal(Reason.ShareAlreadyMade, _datum.Try(Swiss, Swiss));
    }

    [Fact]
    public void A_key_counts_while_it_is_in_force_and_its_owners()
    {
        // One that says no time from which it holds has not begun, as when something is sealed to it.
        foreach (
            var wrong in (string[])
                ["ua/mfa/expired", "ua/mfa/revoked", "ua/mfa/later", "ua/mfa/timeless", "none", SharedDatum.KeyOf(Swiss, 1)]
        )
            Assert.Equal(Reason.ShareKeyNotInForce, _datum.Try(Hq, Mfa, r => r.KeyId = wrong));
        Assert.Equal(Reason.Unspecified, _datum.Try(Hq, Mfa, r => r.KeyId = SharedDatum.KeyOf(Mfa, 2)));
    }

    [Fact]
    public void Who_can_open_single_fields_passes_on_those_alone()
    {
        Assert.Equal(Reason.Unspecified, _datum.Try(Hq, Mfa, r => SharedDatum.Only(r, 1)));
        Assert.Equal(Reason.ShareBeyondOwn, _datum.Try(Mfa, Swiss));
        Assert.Equal(Reason.ShareBeyondOwn, _datum.Try(Mfa, Swiss, r => SharedDatum.Only(r, 2)));
        Assert.Equal(Reason.ShareBeyondOwn, _datum.Try(Mfa, Swiss, r => SharedDatum.Only(r, 1, 2)));
        Assert.Equal(Reason.ShareAlreadyMade, _datum.Try(Hq, Mfa, r => SharedDatum.Only(r, 1)));
        Assert.Equal(Reason.Unspecified, _datum.Try(Icrc, Mfa, r => SharedDatum.Only(r, 1, 3)));
        Assert.Equal(Reason.Unspecified, _datum.Try(Mfa, Swiss, r => SharedDatum.Only(r, 1, 3)));
        // Its own rotated key, too, gets no more than it can open.
        Assert.Equal(Reason.ShareBeyondOwn, _datum.Try(Mfa, Mfa, r => r.KeyId = SharedDatum.KeyOf(Mfa, 2)));
        Assert.Equal(Reason.Unspecified, _datum.Try(Hq, Mfa));
        Assert.Equal(Reason.Unspecified, _datum.Try(Mfa, Mfa, r => r.KeyId = SharedDatum.KeyOf(Mfa, 2)));
    }

    [Fact]
    public void What_is_opened_of_one_field_or_entry_opens_no_other()
    {
        Assert.Equal(Reason.Unspecified, _datum.Try(Hq, Mfa));
        Assert.Equal(Reason.NotFound, _datum.Try(Mfa, Swiss, r => r.Position++));
        Assert.Equal(Reason.NotFound, _datum.Try(Mfa, Swiss, r => r.Field = "evidence"));
        Assert.Equal(Reason.Unspecified, _datum.Try(Mfa, Swiss));
    }

    [Fact]
    public void The_secret_has_the_size_of_what_it_opens_and_fields_are_those_of_the_message()
    {
        foreach (
            var (wrong, field) in ((Action<ShareSealedRequest>, string)[])
                [
                    (r => r.Secret = ByteString.CopyFrom(new byte[47]), "secret"),
                    (r => r.Secret = ByteString.CopyFrom(new byte[52]), "secret"),
                    (r => SharedDatum.Only(r, 1, 2).Secret = ByteString.CopyFrom(new byte[48]), "secret"),
                    (r => r.Encapsulation = ByteString.CopyFrom(new byte[1119]), "encapsulation"),
                    (r => SharedDatum.Only(r, 2, 1), "fields"),
                    (r => SharedDatum.Only(r, 1, 9), "fields"),
                ]
        )
        {
            var refusal = _datum.Play(Hq, Mfa, wrong).Decision.Refusal;
            Assert.Equal(Reason.RequestInvalid, refusal?.Reason);
            Assert.Equal(field, Assert.Single(refusal!.Faults!).Field);
        }
    }

    [Fact]
    public void A_marking_excludes_whom_it_does_not_reach()
    {
        _datum.Marking = new Classification { Level = Level.Secret };
        Assert.Equal(Reason.ShareBeyondMarking, _datum.Try(Hq, "ua/bureau"));
        Assert.Equal(Reason.Unspecified, _datum.Try(Hq, Mfa));
        _datum.Marking = new Classification { ReleasableTo = { Icrc, Mfa } };
        Assert.Equal(Reason.ShareBeyondMarking, _datum.Try(Hq, Swiss));
        // Whoever can open it already gets it for another key.
        Assert.Equal(Reason.Unspecified, _datum.Try(Hq, Hq));
    }

    [Fact]
    public void What_was_released_to_a_state_is_passed_on_to_its_organs()
    {
        _datum.Recipients = [Icrc, Kr];
        Assert.Equal(Reason.ShareRecipientWithoutPart, _datum.Try(Hq, Unification));
        _datum.Case.Admit(Unification, Part.RequestingState);
        Assert.Equal(Reason.Unspecified, _datum.Try(Hq, Unification));
        Assert.Equal(Reason.ShareNotReleased, _datum.Try(Kr, Ru));
    }

    [Fact]
    public void The_entry_is_for_giver_recipient_and_those_observers_who_see_the_datums_entry()
    {
        var (decision, _) = _datum.Play(Hq, Mfa);
        Assert.Equal([Audience.Named(Audience.Case(_datum.Case.Case), Mfa), Audience.Observers(_datum.Case.Case)], decision.Audience);
        var shared = Assert.IsType<SealedShared>(Assert.Single(decision.Changes).Event);
        Assert.Equal((_datum.Position, "identity", Mfa), (shared.Position, shared.Field, shared.Recipient));
        // A draft that only its sender knows is not betrayed to the observers by what he does with it.
        _datum.Observers = [];
        Assert.Equal([Audience.Named(Audience.Case(_datum.Case.Case), Swiss)], _datum.Play(Hq, Swiss).Decision.Audience);
    }

    [Theory]
    [InlineData("c:case_1", "c:case_1:observers")]
    [InlineData("c:case_1:3", "c:case_1:observers:3")]
    [InlineData("c:case_1=icrc", "c:case_1:observers=icrc")]
    [InlineData("c:case_1:2=icrc", "c:case_1:observers:2=icrc")]
    [InlineData("c:case_1:observers:3=icrc", "c:case_1:observers:3=icrc")]
    [InlineData("c:case_1:UA", null)]
    [InlineData("c:case_1:UA:3=ua/mfa", null)]
    [InlineData("c:case_2", null)]
    [InlineData("p:icrc", null)]
    [InlineData("*", null)]
    public void The_observers_among_an_audience_keep_its_level_and_name(string audience, string? observers) =>
        Assert.Equal(observers, Audience.ObserversAmong(audience, "case_1"));

    [Fact]
    public void Each_giver_has_room_of_its_own_and_room_for_its_own_keys()
    {
        _datum.Agree(a => SharedDatum.KeysOf(a, Mfa, 40));
        for (var i = 0; i < Shares.MostByGiver; i++)
            Assert.Equal(Reason.Unspecified, _datum.Try(Hq, Mfa, r => r.KeyId = SharedDatum.KeyOf(Mfa, i + 1)));
        Assert.Equal(Reason.SharesFull, _datum.Try(Hq, Mfa, r => r.KeyId = SharedDatum.KeyOf(Mfa, 40)));
        Assert.Equal(Reason.SharesFull, _datum.Try(Hq, Swiss));
        Assert.Equal(Reason.Unspecified, _datum.Try(Hq, Hq));
        Assert.Equal(Reason.Unspecified, _datum.Try(Icrc, Swiss));
        Assert.Equal(Reason.Unspecified, _datum.Try(Mfa, Mfa, r => r.KeyId = SharedDatum.KeyOf(Mfa, 40)));
    }

    [Fact]
    public void In_a_closed_case_a_datum_is_opened_still()
    {
        EndCustody(_datum.Case);
        Assert.Equal(Reason.Unspecified, Close(_datum.Case));
        Assert.Equal(Reason.Unspecified, _datum.Try(Hq, Mfa));
    }

    [Fact]
    public void Of_what_was_erased_only_its_sender_and_those_who_had_part_in_an_opening_are_told()
    {
        Assert.Equal(Reason.Unspecified, _datum.Try(Icrc, Mfa));
        _datum.Erased = true;
        Assert.Equal(Reason.SealedErased, _datum.Try(Hq, Swiss));
        Assert.Equal(Reason.SealedErased, _datum.Try(Icrc, Swiss));
        Assert.Equal(Reason.SealedErased, _datum.Try(Mfa, Swiss));
        Assert.Equal(Reason.NotFound, _datum.Try(Swiss, Swiss));
        Assert.Equal(Reason.NotFound, _datum.Try(Kr, Kr));
    }

    [Fact]
    public void An_opening_whose_request_was_erased_opens_nothing()
    {
        var state = new SealedShares();
        var entry = new FoldedEntry(7, _datum.Case.Ago(0), Hq, "r", null);
        Shares.Kind.Apply(
            state,
            new SealedShared
            {
                Field = "identity",
                Recipient = Mfa,
                KeyId = SharedDatum.KeyOf(Mfa, 1),
            },
            entry
        );
        Assert.False(Shares.OpeningOf(Mfa, _datum.Datum, state, "identity").IsAny);
    }

    [Fact]
    public void Approvals_that_the_agreement_demands_are_asked_for()
    {
        _datum.Agree(a => a.ApprovalDemands.Add(new ApprovalDemand { Method = SharedDatum.Method, Officials = 2 }));
        _datum.Case.RuleRunner.Approved = new HashSet<string> { "o-17" };
        Assert.Equal(Reason.ApprovalsMissing, _datum.Try(Hq, Mfa));
        _datum.Case.RuleRunner.Approved = new HashSet<string> { "o-17", "m-1" };
        Assert.Equal(Reason.Unspecified, _datum.Try(Hq, Mfa));
    }
}

/// <summary>The advice of refusals to open a datum, followed.</summary>
public class SharingAdviceTests
{
    private static readonly IReadOnlyList<Reason> Range = Advice.ReasonsOf(440, 459);

    private static readonly Advice<SharedDatum>[] Plays =
    [
        new(Reason.SealedErased, "its sender records it again", Erased),
        new(Reason.ShareBeyondOwn, "only those fields that the caller can open", d => Limited(d, r => SharedDatum.Only(r, 1))),
        new(Reason.ShareBeyondOwn, "who can open more shares it", OpenedByAnother),
        new(Reason.ShareRecipientUnknown, "another recipient", d => Recipients(d, "service/custody", Mfa)),
        new(Reason.ShareNotReleased, "a neutral recipient", d => Recipients(d, Kr, Swiss)),
        new(Reason.ShareNotReleased, "an organ of the caller's state", d => Recipients(d, Ru, Mfa)),
        new(Reason.ShareBeyondMarking, "a recipient that is cleared", d => Recipients(Secret(d), "ua/bureau", Mfa)),
        new(Reason.ShareRecipientWithoutPart, "it is admitted", WithoutPart),
        new(Reason.ShareKeyNotInForce, "a key that is in force", d => Keys(d, "ua/mfa/expired", SharedDatum.KeyOf(Mfa, 1))),
        new(Reason.ShareKeyNotInForce, "the recipient has a key entered", NewKey),
        new(Reason.ShareAlreadyMade, "another key", d => Keys(Shared(d), SharedDatum.KeyOf(Mfa, 1), SharedDatum.KeyOf(Mfa, 2))),
        new(Reason.ShareAlreadyMade, "further fields", FurtherFields),
        new(Reason.SharesFull, "another who can open it shares it", Full),
    ];

    public static TheoryData<Reason, string> Rows => [.. Plays.Select(p => (p.Reason, p.Cause))];

    [Theory, MemberData(nameof(Rows))]
    public void What_a_refusal_advises_unlocks_it(Reason reason, string cause) =>
        Advice.AssertWorks(reason, Plays.Single(p => p.Reason == reason && p.Cause == cause).Play(new SharedDatum()));

    [Fact]
    public void Every_reason_has_a_play() => Advice.AssertComplete(Range, Plays.Select(p => p.Reason), new Dictionary<Reason, string>());

    [Fact]
    public void What_the_advice_names_is_there() => Advice.AssertNamesExist(Range);

    private static Advised Erased(SharedDatum d)
    {
        d.Erased = true;
        return new(() => d.Try(Hq, Mfa), () => (d.Erased, d.Position) = (false, d.Position + 5));
    }

    private static Advised Limited(SharedDatum d, Action<ShareSealedRequest> right)
    {
        Assert.Equal(Reason.Unspecified, d.Try(Hq, Mfa, r => SharedDatum.Only(r, 1)));
        var change = (ShareSealedRequest r) => { };
        return new(() => d.Try(Mfa, Swiss, change), () => change = right);
    }

    private static Advised OpenedByAnother(SharedDatum d)
    {
        Assert.Equal(Reason.Unspecified, d.Try(Hq, Mfa, r => SharedDatum.Only(r, 1)));
        var giver = Mfa;
        return new(() => d.Try(giver, Swiss), () => giver = Icrc);
    }

    private static Advised Recipients(SharedDatum d, string wrong, string right)
    {
        var recipient = wrong;
        return new(() => d.Try(Hq, recipient), () => recipient = right);
    }

    private static Advised WithoutPart(SharedDatum d) =>
        new(() => d.Try(Hq, "ua/medical"), () => d.Case.Admit("ua/medical", Part.DetainingPower));

    private static Advised Keys(SharedDatum d, string wrong, string right)
    {
        var key = wrong;
        return new(() => d.Try(Hq, Mfa, r => r.KeyId = key), () => key = right);
    }

    private static Advised NewKey(SharedDatum d) =>
        new(() => d.Try(Hq, Mfa, r => r.KeyId = SharedDatum.KeyOf(Mfa, 3)), () => d.Agree(a => SharedDatum.KeysOf(a, Mfa, 3)));

    private static Advised FurtherFields(SharedDatum d)
    {
        uint[] fields = [1];
        Assert.Equal(Reason.Unspecified, d.Try(Hq, Mfa, r => SharedDatum.Only(r, 1)));
        return new(() => d.Try(Hq, Mfa, r => SharedDatum.Only(r, fields)), () => fields = [1, 2]);
    }

    private static Advised Full(SharedDatum d)
    {
        d.Agree(a => SharedDatum.KeysOf(a, Mfa, Shares.MostByGiver));
        for (var i = 0; i < Shares.MostByGiver; i++)
            Assert.Equal(Reason.Unspecified, d.Try(Hq, Mfa, r => r.KeyId = SharedDatum.KeyOf(Mfa, i + 1)));
        var giver = Hq;
        return new(() => d.Try(giver, Swiss), () => giver = Icrc);
    }

    private static SharedDatum Secret(SharedDatum d)
    {
        d.Marking = new Classification { Level = Level.Secret };
        return d;
    }

    private static SharedDatum Shared(SharedDatum d)
    {
        Assert.Equal(Reason.Unspecified, d.Try(Hq, Mfa));
        return d;
    }
}

/// <summary>An invented prisoner's identity, which his detaining power sealed to the neutral observer, in a case with a requesting state, a
/// power of origin, a Protecting Power and two organs of the detaining power as parties.</summary>
internal sealed class SharedDatum
{
    public const string Method = "ministries.ledger.v1.LedgerService/ShareSealed";

    public SharedDatum()
    {
        var agreement = Agreement();
        foreach (var (id, clearance) in ((string, Level)[])[("ua/bureau", Level.Restricted), ("ua/medical", Level.Secret)])
            agreement.Participants.Add(
                new Participant
                {
                    Id = id,
                    Name = id,
                    Kind = ParticipantKind.Ministry,
                    State = "UA",
                    Clearance = clearance,
                    Capacities = { Capacity.Custody },
                }
            );
        foreach (var participant in agreement.Participants)
            KeysOf(agreement, participant.Id, 2);
        Signing
            .Of(agreement, Mfa)
            .SealingKeys.Add([
                new SealingKey
                {
                    Id = "ua/mfa/expired",
                    ValidFromTime = Case.Ago(2),
                    ValidUntilTime = Case.Ago(1),
                },
                new SealingKey
                {
                    Id = "ua/mfa/revoked",
                    ValidFromTime = Case.Ago(2),
                    RevokeTime = Case.Ago(1),
                },
                new SealingKey { Id = "ua/mfa/later", ValidFromTime = Case.In(1) },
                new SealingKey { Id = "ua/mfa/timeless" },
            ]);
        Case.RuleRunner.Permissions = new(agreement);
        foreach (var (who, part) in ((string, Part)[])[(Mfa, Part.DetainingPower), ("ua/bureau", Part.DetainingPower)])
            Case.Admit(who, part);
        Case.Admit(Ru, Part.RequestingState);
        Case.Admit(Swiss, Part.ProtectingPower);
        Case.Register();
        Observers = [Audience.Observers(Case.Case)];
    }

    public CaseFixture Case { get; } = new();

    public ulong Position { get; set; } = 5;

    public bool Erased { get; set; }

    public Classification? Marking { get; set; }

    public string[] Recipients { get; set; } = [Icrc];

    public string[] Observers { get; set; }

    public SealedDatum Datum =>
        Erased
            ? new(Case.Case, Hq)
            : new(Case.Case, Hq)
            {
                Sealed = Seals.Keep(Seal(Recipients), 7),
                Prisoner = P,
                Keys = [.. Recipients.Select(r => (r, KeyOf(r, 1)))],
                Fields = [1, 2, 3, 4, 5],
                Marking = Marking,
                Observers = Observers,
            };

    public static string KeyOf(string participant, int number) => $"{participant}/seal-{number}";

    /// <summary>A request that opens some fields alone.</summary>
    public static ShareSealedRequest Only(ShareSealedRequest request, params uint[] fields)
    {
        request.Fields.Clear();
        request.Fields.Add(fields);
        request.Secret = ByteString.CopyFrom(new byte[fields.Length * 36 + 16]);
        return request;
    }

    public static void KeysOf(Agreement agreement, string participant, int count)
    {
        var keys = Signing.Of(agreement, participant).SealingKeys;
        for (var i = 1; i <= count; i++)
            if (keys.All(k => k.Id != KeyOf(participant, i)))
                keys.Add(
                    new SealingKey
                    {
                        Id = KeyOf(participant, i),
                        ValidFromTime = new Timestamp { Seconds = 1_577_836_800 },
                    }
                );
    }

    public void Agree(Action<Agreement> change)
    {
        var next = Case.RuleRunner.Permissions.Agreement.Clone();
        change(next);
        Case.RuleRunner.Permissions = new(next);
    }

    public Reason Try(string giver, string recipient, Action<ShareSealedRequest>? but = null) =>
        RuleRunner.ReasonOf(Play(giver, recipient, but).Decision);

    /// <summary>Opens the whole datum to the recipient's first key; to the giver's own second one, where it has the first.</summary>
    public (Decision Decision, IMessage? Answer) Play(string giver, string recipient, Action<ShareSealedRequest>? but = null)
    {
        var request = new ShareSealedRequest
        {
            RequestId = Guid.NewGuid().ToString(),
            Actor = CaseFixture.Actor,
            Case = Case.Case,
            Position = Position,
            Field = "identity",
            Recipient = recipient,
            KeyId = KeyOf(recipient, 1),
            Encapsulation = ByteString.CopyFrom(new byte[1120]),
            Secret = ByteString.CopyFrom(new byte[48]),
            Reason = SharingReason.MedicalCare,
            LegalBasis = "gc3-30",
        };
        var (position, field) = (request.Position, request.Field);
        but?.Invoke(request);
        // At any other place there is nothing of that kind.
        var datum = (request.Position, request.Field) == (position, field) ? Datum : null;
        return Case.RuleRunner.Play(giver, request, (r, context) => Shares.Share(r, context, datum), Method);
    }
}
