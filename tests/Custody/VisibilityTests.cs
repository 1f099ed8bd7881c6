using Google.Protobuf;
using Google.Protobuf.Reflection;
using Ministries.Consular.V1;
using Ministries.Custody.V1;
using Ministries.Errors.V1;
using Ministries.Fixtures;
using Ministries.Ledger;
using Ministries.Trust;
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
        destinations      +                  +      .      .              .      +    .
        risk_assessments  1                  1      .      .              .      .    .
        grounds           +                  m      .      .              .      .    .
        fitness           1                  1      .      .              .      1    1
        proceedings       1                  1      .      .              .      1    1
        occurrences       1                  1      .      .              .      1    1
        notifications     1                  1      1      .              .      1    1
        data              +                  m      +      .              .      +    m
        releases          1                  1      .      .              .      1    1
        submitted         1                  1      1      .              .      1    1
        draft             .                  .      .      .              1      .    .
        """;

    private static readonly string[] Readers = [Scene.Hq, Scene.Mfa, Scene.Kr, Scene.Unification, Scene.Ru, Scene.Icrc, Scene.Swiss];

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
        var scene = Full();
        Assert.Empty(Withholding.Unmarked(scene.Prisoner, scene.Seen(reader)));
        Assert.Empty(Withholding.Unmarked(scene.TheCase, Cases.Show(scene.TheCase, scene.Reader(reader))));
        foreach (var statement in scene.Prisoner.Statements)
            Assert.Empty(Withholding.Unmarked(statement, StatementVisibility.Show(statement, scene.Reader(reader))));
    }

    [Fact]
    public void No_and_not_for_you_are_told_apart()
    {
        var scene = Full();
        Assert.Equal((false, false), (scene.Seen(Scene.Hq).Under18, scene.Seen(Scene.Hq).Withheld.Contains("under_18")));
        Assert.Equal((false, true), (scene.Seen(Scene.Kr).Under18, scene.Seen(Scene.Kr).Withheld.Contains("under_18")));
    }

    [Theory, MemberData(nameof(Cells))]
    public void A_reader_sees_of_a_prisoner_what_his_part_allows(string row, string reader)
    {
        var scene = Full();
        var seen = scene.Seen(reader);
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
                "destinations" => seen.Statements.Sum(s => s.AcceptedDestinations.Count) == 0 ? "." : "+",
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
        Assert.Equal(Scene.P, seen.Prisoner_);
        Assert.Equal("UA", seen.DetainingPower);
        Assert.True(seen.Held);
        Assert.All(seen.Entries, e => Assert.Equal(reader, e.Participant));
        Assert.All(seen.Statements, s => Assert.Null(s.Content));
    }

    [Theory]
    [InlineData(Scene.Hq, true, true, true)]
    [InlineData(Scene.Mfa, true, true, false)]
    [InlineData(Scene.Icrc, true, true, true)]
    [InlineData(Scene.Swiss, true, false, false)]
    [InlineData(Scene.Kr, false, false, false)]
    [InlineData(Scene.Ru, false, false, false)]
    public void A_statement_is_for_who_held_him_and_the_observers(string reader, bool sees, bool destinations, bool content)
    {
        var scene = Full();
        var statement = scene.StatementOf(scene.Prisoner.Statements[0].Statement_);
        var eyes = scene.Reader(reader);
        Assert.Equal(sees, Statements.Kind.AudienceOf(statement).Any(eyes.Tokens.Contains));
        if (!sees)
            return;
        var shown = StatementVisibility.Show(statement, eyes);
        Assert.Equal(destinations, shown.AcceptedDestinations.Count > 0);
        Assert.Equal(content, shown.Content.Content.Length > 0);
        Assert.Equal(content, shown.Content.Recipients.Count > 0);
        Assert.Equal(32, shown.Content.Digest.Length);
    }

    [Fact]
    public void A_marked_statement_is_for_who_is_cleared_and_named()
    {
        var scene = new Scene();
        scene.Admit(Scene.Mfa, Part.DetainingPower);
        scene.Register();
        var request = scene.StatementRequest(Scene.Icrc, "KR");
        request.Classification = new Classification { Level = Level.Secret, ReleasableTo = { Scene.Hq } };
        scene.Record(request);
        Assert.Single(scene.Seen(Scene.Hq).Statements);
        Assert.Empty(scene.Seen(Scene.Mfa).Statements);
        Assert.Single(scene.Seen(Scene.Icrc).Statements);
    }

    [Fact]
    public void A_requesting_state_does_not_see_which_others_request()
    {
        var scene = Full();
        Assert.DoesNotContain(Cases.Show(scene.TheCase, scene.Reader(Scene.Kr)).Parties, p => p.Participant == Scene.Ru);
        Assert.Contains(Cases.Show(scene.TheCase, scene.Reader(Scene.Kr)).Parties, p => p.Participant == Scene.Unification);
        Assert.DoesNotContain(Cases.Show(scene.TheCase, scene.Reader(Scene.Ru)).Parties, p => p.Participant == Scene.Kr);
        Assert.Equal(7, Cases.Show(scene.TheCase, scene.Reader(Scene.Icrc)).Parties.Count);
        var before = scene.CaseEtag(Scene.Kr);
        scene.Do(
            Scene.Hq,
            new RemovePartyRequest
            {
                Actor = Scene.Actor,
                Etag = scene.CaseEtag(Scene.Hq),
                Case = scene.Case,
                Participant = Scene.Ru,
            },
            CaseRules.RemoveParty
        );
        Assert.Equal(before, scene.CaseEtag(Scene.Kr));
    }

    [Fact]
    public void What_a_reader_may_not_see_does_not_move_his_etag()
    {
        var scene = new Scene();
        scene.Register();
        var before = scene.Etag(Scene.Kr);
        var observer = scene.Etag(Scene.Icrc);
        var id = scene.Says("KP");
        scene.Do(Scene.Icrc, scene.RevokeRequest(id), Statements.RevokeAttestation);
        scene.Do(Scene.Hq, scene.FitnessRequest(), Prisoners.RecordFitness);
        scene.Do(Scene.Hq, scene.ProceedingsRequest(), Prisoners.RecordProceedings);
        scene.Status(CustodyState.Hospitalised);
        scene.Do(Scene.Hq, scene.ClaimRequest(Scene.Hq, "RU", "RU"), Prisoners.RecordClaim);
        scene.Do(Scene.Hq, scene.NotifyRequest(1), Prisoners.NotifyBureau);
        scene.Begin();
        Assert.Equal(before, scene.Etag(Scene.Kr));
        Assert.NotEqual(observer, scene.Etag(Scene.Icrc));
        observer = scene.Etag(Scene.Icrc);
        scene.Do(Scene.Hq, scene.RiskRequest(), Prisoners.RecordRiskAssessment);
        Assert.Equal(observer, scene.Etag(Scene.Icrc));
        scene.Do(Scene.Kr, scene.ClaimRequest(Scene.Kr, "KR", "KR"), Prisoners.RecordClaim);
        Assert.NotEqual(before, scene.Etag(Scene.Kr));
    }

    [Fact]
    public void Entries_on_wishes_health_and_risk_are_not_for_the_requesting_state()
    {
        var scene = new Scene();
        scene.Register();
        var kr = scene.Reader(Scene.Kr).Tokens;
        void Hidden(Decision decision) => Assert.DoesNotContain(decision.Audience, kr.Contains);
        Hidden(scene.Do(Scene.Icrc, scene.StatementRequest(Scene.Icrc, "KR"), Statements.RecordStatement));
        var id = scene.Prisoner.Statements[0].Statement_;
        Hidden(scene.Do(Scene.Icrc, scene.AttestRequest(id, AttesterRole.Observer, "i-3"), Statements.AttestStatement));
        Hidden(scene.Do(Scene.Icrc, scene.RevokeRequest(id, AttesterRole.Observer), Statements.RevokeAttestation));
        Hidden(scene.Do(Scene.Hq, scene.FitnessRequest(), Prisoners.RecordFitness));
        Hidden(scene.Do(Scene.Hq, scene.RiskRequest(), Prisoners.RecordRiskAssessment));
        Hidden(scene.Do(Scene.Hq, scene.ProceedingsRequest(), Prisoners.RecordProceedings));
        Hidden(scene.Do(Scene.Hq, scene.StatusRequest(CustodyState.Hospitalised), Prisoners.RecordStatus));
        Hidden(scene.Do(Scene.Hq, scene.NotifyRequest(1), Prisoners.NotifyBureau));
        Hidden(scene.Do(Scene.Icrc, scene.CorrectRequest(scene.StatementOf(id).Position, Scene.Icrc), Prisoners.CorrectRecord));
    }

    [Fact]
    public void A_draft_is_noted_for_whom_it_was_drafted_alone_until_it_is_submitted()
    {
        var scene = new Scene();
        scene.Register();
        var etag = scene.Etag(Scene.Hq);
        var noted = scene.Do(Scene.Consular, Drafted(scene, "transfer_1", Scene.Kr), Reactions.Drafted);
        Assert.Equal([Audience.Of(Scene.Kr)], noted.Audience);
        Assert.Single(scene.Seen(Scene.Kr).Interests);
        Assert.Empty(scene.Seen(Scene.Hq).Interests);
        Assert.Equal(etag, scene.Etag(Scene.Hq));
        scene.Do(
            Scene.Consular,
            new TransferRequestSubmitted
            {
                Case = scene.Case,
                Prisoner = Scene.P,
                Transfer = "transfer_1",
                Participant = Scene.Kr,
            },
            Reactions.Submitted
        );
        Assert.Single(scene.Seen(Scene.Hq).Interests);
    }

    [Fact]
    public void A_discarded_draft_leaves_nothing()
    {
        var scene = new Scene();
        scene.Register();
        var etag = scene.Etag(Scene.Kr);
        scene.Do(Scene.Consular, Drafted(scene, "transfer_1", Scene.Kr), Reactions.Drafted);
        scene.Do(
            Scene.Consular,
            new DraftDiscarded
            {
                Case = scene.Case,
                Prisoner = Scene.P,
                Transfer = "transfer_1",
            },
            Reactions.Discarded
        );
        Assert.Equal(etag, scene.Etag(Scene.Kr));
    }

    [Fact]
    public void To_a_stranger_a_record_that_is_there_and_one_that_is_not_look_the_same()
    {
        var scene = new Scene();
        scene.Register();
        var request = scene.ClaimRequest(Scene.Kr, "RU", "RU");
        Assert.Equal(Reason.NotFound, scene.Try(Scene.Ru, request, Prisoners.RecordClaim));
        request.Prisoner = "pris_00000000000000000000000009";
        Assert.Equal(Reason.NotFound, scene.Try(Scene.Ru, request, Prisoners.RecordClaim));
        Assert.Equal(Reason.NotFound, scene.Try(Scene.Kr, request, Prisoners.RecordClaim));
        request.Case = "case_unknown";
        Assert.Equal(Reason.NotFound, scene.Try(Scene.Ru, request, Prisoners.RecordClaim));
    }

    [Fact]
    public void A_party_that_was_removed_sees_nothing_any_more()
    {
        var scene = new Scene();
        scene.Register();
        scene.Do(
            Scene.Hq,
            new RemovePartyRequest
            {
                Actor = Scene.Actor,
                Etag = scene.CaseEtag(Scene.Hq),
                Case = scene.Case,
                Participant = Scene.Kr,
            },
            CaseRules.RemoveParty
        );
        Assert.DoesNotContain(Prisoners.Kind.AudienceOf(scene.Prisoner), scene.Reader(Scene.Kr).Tokens.Contains);
        Assert.Equal(Reason.NotFound, scene.Try(Scene.Kr, scene.ClaimRequest(Scene.Kr, "KR", "KR"), Prisoners.RecordClaim));
    }

    [Fact]
    public void After_a_transfer_each_power_sees_what_was_recorded_while_it_held_him()
    {
        var scene = Full();
        scene.HandOver();
        var (before, now) = (scene.Seen(Scene.Hq), scene.Seen(Scene.Kr));
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
        var scene = Full();
        Assert.Equal([$"case:{scene.Case}", "held:true"], Prisoners.Kind.KeysOf(scene.Prisoner));
        scene.Status(CustodyState.Hospitalised);
        Assert.Equal([$"case:{scene.Case}", "held:true"], Prisoners.Kind.KeysOf(scene.Prisoner));
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
            "notification",
            "same_as_prisoner",
            "transfer",
            "detaining_power",
            "from_power",
            "to_power",
            "state",
            "duty",
        ];
        HashSet<string> flags = ["held", "ended", "returned"];
        var published = EventsReflection
            .Descriptor.MessageTypes.Where(m => m.GetOptions().GetExtension(OptionsExtensions.Published))
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
                        FieldType.Enum => f.EnumType.Name is "Part" or "Invariant",
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
        static string[] Events(Action<Scene> act)
        {
            var scene = new Scene();
            scene.Register();
            var from = scene.Stage.Events.Count;
            act(scene);
            return [.. scene.Stage.Events.Skip(from).Select(e => e.ToString()!)];
        }

        string[] Said(params string[] destinations) => [.. Events(s => s.Says(destinations))];
        Assert.Equal(Said("KR"), Said("KP"));
        Assert.Equal(Said("KR"), Said());
        Assert.Equal(Said("KR"), Said("UA", "KR"));
        Assert.Equal(
            Events(s => s.Status(CustodyState.Hospitalised)),
            Events(s => s.Do(Scene.Hq, s.ProceedingsRequest(), Prisoners.RecordProceedings))
        );
        Assert.Equal(
            Events(s => s.Do(Scene.Hq, s.FitnessRequest(true), Prisoners.RecordFitness)),
            Events(s => s.Do(Scene.Hq, s.FitnessRequest(false), Prisoners.RecordFitness))
        );
    }

    private static TransferRequestDrafted Drafted(Scene scene, string transfer, string participant) =>
        new()
        {
            Case = scene.Case,
            Prisoner = Scene.P,
            Transfer = transfer,
            Participant = participant,
        };

    private static Scene Full()
    {
        var scene = new Scene();
        scene.Admit(Scene.Mfa, Part.DetainingPower);
        scene.Admit(Scene.Unification, Part.RequestingState);
        scene.Admit(Scene.Ru, Part.RequestingState);
        scene.Admit(Scene.Swiss, Part.ProtectingPower);
        scene.Register();
        scene.Do(Scene.Kr, With(scene.ClaimRequest(Scene.Kr, "KR", "KR"), c => c.Evidence = Scene.Seal(Scene.Hq)), Prisoners.RecordClaim);
        scene.Do(Scene.Ru, With(scene.ClaimRequest(Scene.Ru, "RU", "RU"), c => c.Evidence = Scene.Seal(Scene.Hq)), Prisoners.RecordClaim);
        scene.Says("KR");
        scene.Do(Scene.Hq, With(scene.RiskRequest(), r => r.Grounds = Scene.Seal(Scene.Icrc)), Prisoners.RecordRiskAssessment);
        scene.Do(Scene.Hq, scene.FitnessRequest(), Prisoners.RecordFitness);
        scene.Do(Scene.Hq, scene.ProceedingsRequest(false, ""), Prisoners.RecordProceedings);
        scene.Do(
            Scene.Hq,
            With(
                scene.NotifyRequest(1),
                n =>
                {
                    n.Data = Scene.Seal(Scene.Icrc, Scene.Kr);
                    n.Releases.Add(new Release { Recipient = Scene.Kr, Reason = "consular-assistance" });
                }
            ),
            Prisoners.NotifyBureau
        );
        scene.Do(Scene.Consular, Drafted(scene, "transfer_1", Scene.Kr), Reactions.Drafted);
        scene.Do(Scene.Consular, Drafted(scene, "transfer_2", Scene.Ru), Reactions.Drafted);
        scene.Do(
            Scene.Consular,
            new TransferRequestSubmitted
            {
                Case = scene.Case,
                Prisoner = Scene.P,
                Transfer = "transfer_1",
                Participant = Scene.Kr,
            },
            Reactions.Submitted
        );
        return scene;
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
