using Google.Protobuf.Reflection;
using Ministries.Consular.V1;
using Ministries.Custody.V1;
using Ministries.Errors.V1;
using Ministries.Fixtures;
using Ministries.Types.V1;
using EventsReflection = Ministries.Custody.V1.EventsReflection;

namespace Ministries.Custody.Tests;

/// <summary>Who sees what (D22), and that what nobody may see moves no etag and tells nothing (D9, D16).</summary>
public class VisibilityTests
{
    // `+` sees it, `.` does not, `m` marked as sealed but neither content nor recipients.
    private const string Table = """
                          ua/coordination-hq ua/mfa kr/mfa kr/unification ru/mod icrc ch/fdfa
        state             +                  +      .      .              .      +    +
        identity          +                  m      .      .              .      +    m
        capture_time      +                  +      .      .              .      +    +
        statuses          +                  +      .      .              .      +    +
        claims            2                  2      1      .              1      2    2
        evidence          +                  m      +      .              +      m    m
        statements        1                  1      .      .              .      1    1
        commitments       +                  +      .      .              .      +    +
        risk_assessments  1                  1      .      .              .      .    .
        grounds           +                  m      .      .              .      .    .
        fitness           1                  1      .      .              .      1    1
        proceedings       1                  1      .      .              .      1    1
        occurrences       2                  2      .      .              .      2    2
        notifications     1                  1      1      .              .      1    1
        data              +                  m      +      .              .      +    m
        releases          1                  1      .      .              .      1    1
        submitted         1                  1      1      .              .      1    1
        draft             .                  .      .      .              1      .    .
        """;

    private static readonly string[] Readers =
    [
        CaseFixture.Hq,
        CaseFixture.Mfa,
        CaseFixture.Kr,
        CaseFixture.Unification,
        CaseFixture.Ru,
        CaseFixture.Icrc,
        CaseFixture.Swiss,
    ];

    public static TheoryData<string, string> Cells =>
        [
            .. from line in Table.Split('\n').Skip(1)
            let row = line.Split(' ', StringSplitOptions.RemoveEmptyEntries)[0]
            from reader in Readers
            select (row, reader),
        ];

    public static TheoryData<string> EachReader => [.. Readers];

    [Theory, MemberData(nameof(EachReader))]
    public void What_a_reader_is_not_shown_is_marked_and_not_false_or_zero_or_nothing(string reader)
    {
        var fixture = Full();
        Assert.Empty(Withholding.Unmarked(fixture.Prisoner, fixture.Seen(reader)));
        Assert.Empty(Withholding.Unmarked(fixture.TheCase, Cases.Show(fixture.TheCase, fixture.Reader(reader))));
        foreach (var statement in fixture.Prisoner.Statements)
            Assert.Empty(Withholding.Unmarked(statement, StatementVisibility.Show(statement, fixture.Reader(reader))));
    }

    [Fact]
    public void No_and_not_for_you_are_told_apart()
    {
        var fixture = Full();
        Assert.Equal((false, false), (fixture.Seen(CaseFixture.Hq).Under18, fixture.Seen(CaseFixture.Hq).Withheld.Contains("under_18")));
        Assert.Equal((false, true), (fixture.Seen(CaseFixture.Kr).Under18, fixture.Seen(CaseFixture.Kr).Withheld.Contains("under_18")));
    }

    [Theory, MemberData(nameof(Cells))]
    public void A_reader_sees_of_a_prisoner_what_his_part_allows(string row, string reader)
    {
        var fixture = Full();
        var seen = fixture.Seen(reader);
        var lines = Table.Split('\n').Select(l => l.Split(' ', StringSplitOptions.RemoveEmptyEntries)).ToArray();
        Assert.Equal(
            lines.Single(l => l[0] == row)[1 + Array.IndexOf(lines[0], reader)],
            row switch
            {
                "state" => seen.State == CustodyState.Unspecified ? "." : "+",
                "identity" => Sealing(seen.Identity),
                "capture_time" => seen.CaptureTime is null ? "." : "+",
                "statuses" => seen.Statuses.Count == 0 ? "." : "+",
                "claims" => Number(seen.Claims.Count),
                "evidence" => seen.Claims.Select(c => Sealing(c.Evidence)).DefaultIfEmpty(".").Order().First(),
                "statements" => Number(seen.Statements.Count),
                "commitments" => seen.Statements.Sum(s => s.Commitments.Count) == 0 ? "." : "+",
                "risk_assessments" => Number(seen.RiskAssessments.Count),
                "grounds" => Sealing(seen.RiskAssessments.FirstOrDefault()?.Grounds),
                "fitness" => Number(seen.Fitness.Count),
                "proceedings" => Number(seen.Proceedings.Count),
                "occurrences" => Number(seen.Occurrences.Count),
                "notifications" => Number(seen.Notifications.Count),
                "data" => Sealing(seen.Notifications.FirstOrDefault()?.Data),
                "releases" => Number(seen.Notifications.Sum(n => n.Releases.Count)),
                "submitted" => Number(seen.Interests.Count(i => i.Submitted)),
                "draft" => Number(seen.Interests.Count(i => !i.Submitted)),
                _ => throw new ArgumentOutOfRangeException(nameof(row), row, "no such row"),
            }
        );
        Assert.Equal(CaseFixture.P, seen.Prisoner_);
        Assert.Equal("UA", seen.DetainingPower);
        Assert.True(seen.Held);
        Assert.All(seen.Entries, e => Assert.Equal(reader, e.Participant));
        Assert.All(seen.Statements, s => Assert.Null(s.Content));
    }

    [Theory]
    [InlineData(CaseFixture.Hq, true, true)]
    [InlineData(CaseFixture.Mfa, true, false)]
    [InlineData(CaseFixture.Icrc, true, true)]
    [InlineData(CaseFixture.Swiss, true, false)]
    [InlineData(CaseFixture.Kr, false, false)]
    [InlineData(CaseFixture.Ru, false, false)]
    public void A_statement_is_for_who_held_him_and_the_observers(string reader, bool sees, bool content)
    {
        var fixture = Full();
        var statement = fixture.StatementOf(fixture.Prisoner.Statements[0].Statement_);
        var eyes = fixture.Reader(reader);
        Assert.Equal(sees, Statements.Kind.AudienceOf(statement).Any(eyes.Tokens.Contains));
        if (!sees)
            return;
        var shown = StatementVisibility.Show(statement, eyes);
        Assert.Equal(WishCommitments.Count, shown.Commitments.Count);
        Assert.Equal(content, shown.Content.Content.Length > 0);
        Assert.Equal(content, shown.Content.Recipients.Count > 0);
        Assert.Equal(32, shown.Content.Digest.Length);
    }

    [Fact]
    public void A_marked_statement_is_for_who_is_cleared_and_named()
    {
        var fixture = new CaseFixture();
        fixture.Admit(CaseFixture.Mfa, Part.DetainingPower);
        fixture.Register();
        var request = fixture.StatementRequest(CaseFixture.Icrc, "KR");
        request.Classification = new Classification { Level = Level.Secret, ReleasableTo = { CaseFixture.Hq } };
        fixture.Record(request);
        Assert.Single(fixture.Seen(CaseFixture.Hq).Statements);
        Assert.Empty(fixture.Seen(CaseFixture.Mfa).Statements);
        Assert.Single(fixture.Seen(CaseFixture.Icrc).Statements);
    }

    [Fact]
    public void A_requesting_state_does_not_see_which_others_request()
    {
        var fixture = Full();
        Assert.DoesNotContain(Cases.Show(fixture.TheCase, fixture.Reader(CaseFixture.Kr)).Parties, p => p.Participant == CaseFixture.Ru);
        Assert.Contains(Cases.Show(fixture.TheCase, fixture.Reader(CaseFixture.Kr)).Parties, p => p.Participant == CaseFixture.Unification);
        Assert.DoesNotContain(Cases.Show(fixture.TheCase, fixture.Reader(CaseFixture.Ru)).Parties, p => p.Participant == CaseFixture.Kr);
        Assert.Equal(7, Cases.Show(fixture.TheCase, fixture.Reader(CaseFixture.Icrc)).Parties.Count);
        var before = fixture.CaseEtag(CaseFixture.Kr);
        fixture.Do(
            CaseFixture.Hq,
            new RemovePartyRequest
            {
                Actor = CaseFixture.Actor,
                Etag = fixture.CaseEtag(CaseFixture.Hq),
                Case = fixture.Case,
                Participant = CaseFixture.Ru,
            },
            CaseRules.RemoveParty
        );
        Assert.Equal(before, fixture.CaseEtag(CaseFixture.Kr));
    }

    /// <summary>Russia is party to the case, and Switzerland's ministry is not.</summary>
    [Theory]
    [InlineData(CaseFixture.Ru), InlineData(CaseFixture.SwissJustice)]
    public void Who_does_not_manage_the_case_does_not_learn_by_a_refusal_which_others_request(string other)
    {
        var fixture = Full();
        Assert.Equal(Reason.NotAParty, AdviceTests.Remove(fixture, other, CaseFixture.Kr));
        fixture.HandOver();
        Assert.Equal(Reason.NotAParty, AdviceTests.Remove(fixture, other));
    }

    [Fact]
    public void Who_does_not_manage_the_case_removes_its_own_organs_and_is_told_of_those_that_it_sees()
    {
        var fixture = Full();
        Assert.Equal(Reason.NotGranted, AdviceTests.Remove(fixture, CaseFixture.Mfa, CaseFixture.Kr));
        Assert.Equal(Reason.ObserverLeavesByItself, AdviceTests.Remove(fixture, CaseFixture.Icrc, CaseFixture.Kr));
        Assert.Equal(Reason.Unspecified, AdviceTests.Remove(fixture, CaseFixture.Unification, CaseFixture.Kr));
    }

    [Fact]
    public void What_a_reader_may_not_see_does_not_move_his_etag()
    {
        var fixture = new CaseFixture();
        fixture.Register();
        var before = fixture.Etag(CaseFixture.Kr);
        var observer = fixture.Etag(CaseFixture.Icrc);
        var id = fixture.Says("KP");
        fixture.Do(CaseFixture.Icrc, fixture.RevokeRequest(id), Statements.RevokeAttestation);
        fixture.Do(CaseFixture.Hq, fixture.FitnessRequest(), Prisoners.RecordFitness);
        fixture.Do(CaseFixture.Hq, fixture.ProceedingsRequest(), Prisoners.RecordProceedings);
        fixture.Status(CustodyState.Hospitalised);
        fixture.Do(CaseFixture.Hq, fixture.ClaimRequest(CaseFixture.Hq, "RU", "RU"), Prisoners.RecordClaim);
        fixture.Do(CaseFixture.Hq, fixture.NotifyRequest(1), Prisoners.NotifyBureau);
        fixture.Begin();
        Assert.Equal(before, fixture.Etag(CaseFixture.Kr));
        Assert.NotEqual(observer, fixture.Etag(CaseFixture.Icrc));
        observer = fixture.Etag(CaseFixture.Icrc);
        fixture.Do(CaseFixture.Hq, fixture.RiskRequest(), Prisoners.RecordRiskAssessment);
        Assert.Equal(observer, fixture.Etag(CaseFixture.Icrc));
        fixture.Do(CaseFixture.Kr, fixture.ClaimRequest(CaseFixture.Kr, "KR", "KR"), Prisoners.RecordClaim);
        Assert.NotEqual(before, fixture.Etag(CaseFixture.Kr));
    }

    [Fact]
    public void Entries_on_wishes_health_and_risk_are_not_for_the_requesting_state()
    {
        var fixture = new CaseFixture();
        fixture.Register();
        var kr = fixture.Reader(CaseFixture.Kr).Tokens;
        void Hidden(Decision decision) => Assert.DoesNotContain(decision.Audience, kr.Contains);
        Hidden(fixture.Do(CaseFixture.Icrc, fixture.StatementRequest(CaseFixture.Icrc, "KR"), Statements.RecordStatement));
        var id = fixture.Prisoner.Statements[0].Statement_;
        Hidden(fixture.Do(CaseFixture.Icrc, fixture.AttestRequest(id, AttesterRole.Observer, "i-3"), Statements.AttestStatement));
        Hidden(fixture.Do(CaseFixture.Icrc, fixture.RevokeRequest(id, AttesterRole.Observer), Statements.RevokeAttestation));
        Hidden(fixture.Do(CaseFixture.Hq, fixture.FitnessRequest(), Prisoners.RecordFitness));
        Hidden(fixture.Do(CaseFixture.Hq, fixture.RiskRequest(), Prisoners.RecordRiskAssessment));
        Hidden(fixture.Do(CaseFixture.Hq, fixture.ProceedingsRequest(), Prisoners.RecordProceedings));
        Hidden(fixture.Do(CaseFixture.Hq, fixture.StatusRequest(CustodyState.Hospitalised), Prisoners.RecordStatus));
        Hidden(fixture.Do(CaseFixture.Hq, fixture.NotifyRequest(1), Prisoners.NotifyBureau));
        Hidden(
            fixture.Do(
                CaseFixture.Icrc,
                fixture.CorrectRequest(fixture.StatementOf(id).Position, CaseFixture.Icrc),
                Prisoners.CorrectRecord
            )
        );
    }

    [Fact]
    public void A_draft_is_noted_for_whom_it_was_drafted_alone_until_it_is_submitted()
    {
        var fixture = new CaseFixture();
        fixture.Register();
        var etag = fixture.Etag(CaseFixture.Hq);
        var noted = fixture.Do(CaseFixture.Consular, Drafted(fixture, "transfer_1", CaseFixture.Kr), Reactions.Drafted);
        Assert.Equal([Audience.Of(CaseFixture.Kr)], noted.Audience);
        Assert.Single(fixture.Seen(CaseFixture.Kr).Interests);
        Assert.Empty(fixture.Seen(CaseFixture.Hq).Interests);
        Assert.Equal(etag, fixture.Etag(CaseFixture.Hq));
        fixture.Do(
            CaseFixture.Consular,
            new TransferRequestSubmitted
            {
                Case = fixture.Case,
                Prisoner = CaseFixture.P,
                Transfer = "transfer_1",
                Participant = CaseFixture.Kr,
            },
            Reactions.Submitted
        );
        Assert.Single(fixture.Seen(CaseFixture.Hq).Interests);
    }

    [Fact]
    public void A_discarded_draft_leaves_nothing()
    {
        var fixture = new CaseFixture();
        fixture.Register();
        var etag = fixture.Etag(CaseFixture.Kr);
        fixture.Do(CaseFixture.Consular, Drafted(fixture, "transfer_1", CaseFixture.Kr), Reactions.Drafted);
        fixture.Do(
            CaseFixture.Consular,
            new DraftDiscarded
            {
                Case = fixture.Case,
                Prisoner = CaseFixture.P,
                Transfer = "transfer_1",
            },
            Reactions.Discarded
        );
        Assert.Equal(etag, fixture.Etag(CaseFixture.Kr));
    }

    [Fact]
    public void To_a_stranger_a_record_that_is_there_and_one_that_is_not_look_the_same()
    {
        var fixture = new CaseFixture();
        fixture.Register();
        var request = fixture.ClaimRequest(CaseFixture.Kr, "RU", "RU");
        Assert.Equal(Reason.NotFound, fixture.Try(CaseFixture.Ru, request, Prisoners.RecordClaim));
        request.Prisoner = "pris_00000000000000000000000009";
        Assert.Equal(Reason.NotFound, fixture.Try(CaseFixture.Ru, request, Prisoners.RecordClaim));
        Assert.Equal(Reason.NotFound, fixture.Try(CaseFixture.Kr, request, Prisoners.RecordClaim));
        request.Case = "case_unknown";
        Assert.Equal(Reason.NotFound, fixture.Try(CaseFixture.Ru, request, Prisoners.RecordClaim));
    }

    [Fact]
    public void A_party_that_was_removed_sees_nothing_any_more()
    {
        var fixture = new CaseFixture();
        fixture.Register();
        fixture.Do(
            CaseFixture.Hq,
            new RemovePartyRequest
            {
                Actor = CaseFixture.Actor,
                Etag = fixture.CaseEtag(CaseFixture.Hq),
                Case = fixture.Case,
                Participant = CaseFixture.Kr,
            },
            CaseRules.RemoveParty
        );
        Assert.DoesNotContain(Prisoners.Kind.AudienceOf(fixture.Prisoner), fixture.Reader(CaseFixture.Kr).Tokens.Contains);
        Assert.Equal(Reason.NotFound, fixture.Try(CaseFixture.Kr, fixture.ClaimRequest(CaseFixture.Kr, "KR", "KR"), Prisoners.RecordClaim));
    }

    [Fact]
    public void After_a_transfer_each_power_sees_what_was_recorded_while_it_held_him()
    {
        var fixture = Full();
        fixture.HandOver();
        var (before, now) = (fixture.Seen(CaseFixture.Hq), fixture.Seen(CaseFixture.Kr));
        Assert.Equal(CustodyState.Unspecified, before.State);
        Assert.Equal(CustodyState.Interned, now.State);
        Assert.Single(before.Statements);
        Assert.Empty(now.Statements);
        Assert.Empty(now.RiskAssessments);
        Assert.Empty(now.Fitness);
        Assert.Contains(before.Occurrences, o => o.Kind == OccurrenceKind.Transfer);
        Assert.Equal(2, now.Claims.Count);
    }

    [Fact]
    public void Lists_are_filtered_by_what_everybody_may_see_alone()
    {
        var fixture = Full();
        Assert.Equal([$"case:{fixture.Case}", "held:true"], Prisoners.Kind.KeysOf(fixture.Prisoner));
        fixture.Status(CustodyState.Hospitalised);
        Assert.Equal([$"case:{fixture.Case}", "held:true"], Prisoners.Kind.KeysOf(fixture.Prisoner));
    }

    [Fact]
    public void Events_hold_ids_powers_and_times_alone()
    {
        HashSet<string> ids =
        [
            "case",
            "participant",
            "prisoner",
            "claim",
            "statement",
            "assessment",
            "fitness",
            "move",
            "notification",
            "same_as_prisoner",
            "transfer",
            "answering_power",
            "detaining_power",
            "from_power",
            "to_power",
            "former_powers",
            "relieved_powers",
            "transferring_powers",
            "state",
            "duty",
        ];
        HashSet<string> flags = ["held", "ended", "returned", "undone"];
        var published = EventsReflection
            .Descriptor.MessageTypes.Where(m => m.GetOptions()?.GetExtension(OptionsExtensions.Published) == true)
            .ToArray();
        Assert.NotEmpty(published);
        Assert.All(
            published.SelectMany(m => m.Fields.InDeclarationOrder()),
            f =>
                Assert.True(
                    f.FieldType switch
                    {
                        FieldType.String => ids.Contains(f.Name),
                        FieldType.Bool => flags.Contains(f.Name),
                        FieldType.UInt64 => f.Name == "position",
                        FieldType.Enum => f.EnumType.Name is "Part" or "Invariant" or "Route",
                        FieldType.Message => f.MessageType.FullName == "google.protobuf.Timestamp",
                        _ => false,
                    },
                    f.FullName
                )
        );
    }

    [Fact]
    public void The_same_events_come_of_every_wish_and_of_every_status_of_custody()
    {
        static string[] Events(Action<CaseFixture> act)
        {
            var fixture = new CaseFixture();
            fixture.Register();
            var from = fixture.RuleRunner.Events.Count;
            act(fixture);
            return [.. fixture.RuleRunner.Events.Skip(from).Select(e => e.ToString()!)];
        }

        string[] Said(params string[] destinations) => [.. Events(s => s.Says(destinations))];
        Assert.Equal(Said("KR"), Said("KP"));
        Assert.Equal(Said("KR"), Said());
        Assert.Equal(Said("KR"), Said("UA", "KR"));
        Assert.Equal(
            Events(s => s.Status(CustodyState.Hospitalised)),
            Events(s => s.Do(CaseFixture.Hq, s.ProceedingsRequest(), Prisoners.RecordProceedings))
        );
        Assert.Equal(
            Events(s => s.Do(CaseFixture.Hq, s.FitnessRequest(true), Prisoners.RecordFitness)),
            Events(s => s.Do(CaseFixture.Hq, s.FitnessRequest(false), Prisoners.RecordFitness))
        );
    }

    private static TransferRequestDrafted Drafted(CaseFixture fixture, string transfer, string participant) =>
        new()
        {
            Case = fixture.Case,
            Prisoner = CaseFixture.P,
            Transfer = transfer,
            Participant = participant,
        };

    private static CaseFixture Full()
    {
        var fixture = new CaseFixture();
        fixture.Admit(CaseFixture.Mfa, Part.DetainingPower);
        fixture.Admit(CaseFixture.Unification, Part.RequestingState);
        fixture.Admit(CaseFixture.Ru, Part.RequestingState);
        fixture.Admit(CaseFixture.Swiss, Part.ProtectingPower);
        fixture.Register();
        fixture.Do(
            CaseFixture.Kr,
            With(fixture.ClaimRequest(CaseFixture.Kr, "KR", "KR"), c => c.Evidence = CaseFixture.Seal(CaseFixture.Hq)),
            Prisoners.RecordClaim
        );
        fixture.Do(
            CaseFixture.Ru,
            With(fixture.ClaimRequest(CaseFixture.Ru, "RU", "RU"), c => c.Evidence = CaseFixture.Seal(CaseFixture.Hq)),
            Prisoners.RecordClaim
        );
        fixture.Says("KR");
        fixture.Do(
            CaseFixture.Hq,
            With(fixture.RiskRequest(), r => r.Grounds = CaseFixture.Seal(CaseFixture.Icrc)),
            Prisoners.RecordRiskAssessment
        );
        fixture.Do(CaseFixture.Hq, fixture.FitnessRequest(), Prisoners.RecordFitness);
        fixture.Do(CaseFixture.Hq, fixture.ProceedingsRequest(false, ""), Prisoners.RecordProceedings);
        fixture.Do(
            CaseFixture.Hq,
            With(
                fixture.NotifyRequest(1),
                n =>
                {
                    n.Data = CaseFixture.Seal(CaseFixture.Icrc, CaseFixture.Kr);
                    n.Releases.Add(new Release { Recipient = CaseFixture.Kr, Reason = "consular-assistance" });
                }
            ),
            Prisoners.NotifyBureau
        );
        fixture.Do(CaseFixture.Consular, Drafted(fixture, "transfer_1", CaseFixture.Kr), Reactions.Drafted);
        fixture.Do(CaseFixture.Consular, Drafted(fixture, "transfer_2", CaseFixture.Ru), Reactions.Drafted);
        fixture.Do(
            CaseFixture.Consular,
            new TransferRequestSubmitted
            {
                Case = fixture.Case,
                Prisoner = CaseFixture.P,
                Transfer = "transfer_1",
                Participant = CaseFixture.Kr,
            },
            Reactions.Submitted
        );
        return fixture;
    }

    private static T With<T>(T message, Action<T> change)
    {
        change(message);
        return message;
    }

    private static string Number(int count) => count == 0 ? "." : $"{count}";

    private static string Sealing(Sealed? @sealed) =>
        @sealed switch
        {
            null => ".",
            { Content.Length: > 0, Recipients.Count: > 0 } => "+",
            { Content.Length: 0, Recipients.Count: 0, Digest.Length: 32 } => "m",
            _ => "?",
        };
}
