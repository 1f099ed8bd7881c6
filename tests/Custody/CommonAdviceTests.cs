using Ministries.Custody.V1;
using Ministries.Errors.V1;
using Ministries.Fixtures;
using Ministries.Types.V1;
using static Ministries.Custody.Tests.AdviceTests;
using static Ministries.Custody.Tests.CaseFixture;

namespace Ministries.Custody.Tests;

/// <summary>The advice of the refusals that the rules of every service have in common, followed on records of custody.</summary>
public class CommonAdviceTests
{
    private static readonly IReadOnlyList<Reason> Range = [Reason.RequestInvalid, .. Advice.ReasonsOf(7, 17)];

    private static readonly Advice<CaseFixture>[] Plays =
    [
        new(Reason.RequestInvalid, "fields that do not go together are corrected", DestinationMissing),
        new(Reason.NotFound, "no party to the case; it is admitted", NotAdmitted),
        new(Reason.NotFound, "another reference is named", OtherReference),
        new(Reason.NotGranted, "who has the part does it", f => Recorded(f, Kr)),
        new(Reason.NoCapacity, "another organ of the state does it", WithoutCapacity),
        new(Reason.ApprovalsMissing, "officials approve", ApprovalsMissing),
        new(Reason.Stale, "the record is read again", Stale),
        new(Reason.CaseClosed, "another case is opened", OtherCase),
        new(Reason.CaseClosed, "somebody is in custody again", CaseOpenAgain),
        new(Reason.CaseClosed, "closed by mistake; it is opened again", CaseReopened),
        new(Reason.StateNotAllowed, "the status before is recorded", StatusBefore),
        new(Reason.StateNotAllowed, "what ended it was wrong and is corrected", NotDead),
        new(Reason.AlreadyExists, "another party", f => Admitted(f, Kr, Unification)),
        new(Reason.AlreadyExists, "another attestation", AttestedAlready),
        new(Reason.RecordFull, "too many parties; one is removed", TooManyParties),
        new(Reason.RecordFull, "too many prisoners; another case is opened", TooManyPrisoners),
        new(Reason.TimeOutOfRange, "the time is corrected", TimeOutOfRange),
        new(Reason.NotCorrectable, "who made the entry corrects it", CorrectedByAnother),
        new(Reason.NotCorrectable, "an entry of its own is named", CorrectedElsewhere),
    ];

    public static TheoryData<Reason, string> Rows => [.. Plays.Select(p => (p.Reason, p.Cause))];

    [Theory, MemberData(nameof(Rows))]
    public void What_a_refusal_advises_unlocks_it(Reason reason, string cause)
    {
        var fixture = new CaseFixture();
        fixture.Register();
        Advice.AssertWorks(reason, Plays.Single(p => p.Reason == reason && p.Cause == cause).Play(fixture));
    }

    [Fact]
    public void Every_reason_of_the_rules_has_a_play() =>
        Advice.AssertComplete(Range, Plays.Select(p => p.Reason), new Dictionary<Reason, string>());

    [Fact]
    public void What_the_advice_names_is_there() => Advice.AssertNamesExist(Range);

    private static Advised DestinationMissing(CaseFixture f) =>
        Advice.OfRequest(
            () => f.StatusRequest(CustodyState.Released),
            r => f.Try(Hq, r, Prisoners.RecordStatus),
            r => r.Destination = "",
            r => r.Destination = "UA"
        );

    private static Advised NotAdmitted(CaseFixture f) =>
        new(
            () => f.Try(Unification, f.ClaimRequest(Unification, "KR", "KR"), Prisoners.RecordClaim),
            () => f.Admit(Unification, Part.RequestingState)
        );

    private static Advised OtherReference(CaseFixture f) =>
        Advice.OfRequest(() => f.FitnessRequest(), r => f.Try(Hq, r, Prisoners.RecordFitness), r => r.Prisoner = Q);

    // Somebody records that he is in hospital; then the custody authority of the power that holds him does.
    private static Advised Recorded(CaseFixture f, string by)
    {
        var who = by;
        return new(() => f.Try(who, f.StatusRequest(CustodyState.Hospitalised, who), Prisoners.RecordStatus), () => who = Hq);
    }

    private static Advised WithoutCapacity(CaseFixture f)
    {
        f.Admit(Mfa, Part.DetainingPower);
        return Recorded(f, Mfa);
    }

    private static Advised ApprovalsMissing(CaseFixture f)
    {
        var (agreement, approved) = (Agreement(), f.RuleRunner.Approved);
        agreement.ApprovalDemands.Add(new ApprovalDemand { Method = Prisoners.RecordFitness.Method, Officials = 2 });
        (f.RuleRunner.Permissions, f.RuleRunner.Approved) = (new(agreement), new HashSet<string> { "o-1" });
        return new(() => f.Try(Hq, f.FitnessRequest(), Prisoners.RecordFitness), () => f.RuleRunner.Approved = approved);
    }

    private static Advised Stale(CaseFixture f)
    {
        var etag = f.Etag(Hq);
        f.Do(Hq, f.RiskRequest(), Prisoners.RecordRiskAssessment);
        return new(
            () => f.Try(Hq, new RecordFitnessRequest(f.FitnessRequest()) { Etag = etag }, Prisoners.RecordFitness),
            () => etag = f.Etag(Hq)
        );
    }

    private static Advised OtherCase(CaseFixture f)
    {
        EndCustody(f);
        Assert.Equal(Reason.Unspecified, Close(f));
        return RegisteredElsewhere(f);
    }

    private static Advised TooManyPrisoners(CaseFixture f)
    {
        while (f.TheCase.Prisoners.Count < Prisoners.MaxPrisoners)
            Registered(f);
        return RegisteredElsewhere(f);
    }

    private static Advised RegisteredElsewhere(CaseFixture f)
    {
        OpenCaseResponse? other = null;
        return new(
            () =>
                f.Try(
                    Hq,
                    new RegisterPrisonerRequest(f.RegisterRequest()) { Case = other?.Case ?? f.Case, Etag = other?.Etag ?? f.CaseEtag(Hq) },
                    Prisoners.RegisterPrisoner
                ),
            () => other = (OpenCaseResponse)f.Play(Hq, new OpenCaseRequest { Actor = CaseFixture.Actor }, CaseRules.OpenCase).Answer!
        );
    }

    private static Advised CaseOpenAgain(CaseFixture f)
    {
        EndCustody(f);
        Assert.Equal(Reason.Unspecified, Close(f));
        return Admitted(f, Unification, Unification) with { Follow = () => f.Status(CustodyState.Recaptured) };
    }

    private static Advised CaseReopened(CaseFixture f)
    {
        var again = CaseOpenAgain(f);
        var request = new ReopenCaseRequest
        {
            Actor = CaseFixture.Actor,
            Etag = f.CaseEtag(Hq),
            Case = f.Case,
        };
        return again with { Follow = () => f.Do(Hq, request, CaseRules.ReopenCase) };
    }

    private static Advised Admitted(CaseFixture f, string wrong, string right)
    {
        var who = wrong;
        return new(() => f.Try(Hq, f.AdmitRequest(who, Part.RequestingState), CaseRules.AdmitParty), () => who = right);
    }

    private static Advised StatusBefore(CaseFixture f)
    {
        f.Register(Q, CustodyState.Captured);
        return new(() => StatusOfOther(f, CustodyState.Interned), () => StatusOfOther(f, CustodyState.Registered));
    }

    private static Reason StatusOfOther(CaseFixture f, CustodyState status) =>
        f.Try(Hq, new RecordStatusRequest(f.StatusRequest(status)) { Prisoner = Q, Etag = f.Etag(Hq, Q) }, Prisoners.RecordStatus);

    private static Advised NotDead(CaseFixture f)
    {
        f.Status(CustodyState.Died);
        return new(() => f.Try(Hq, f.FitnessRequest(), Prisoners.RecordFitness), () => f.Correct(f.Prisoner.Statuses[^1].Position));
    }

    private static Advised AttestedAlready(CaseFixture f)
    {
        var (id, role) = (f.Record(f.StatementRequest(Icrc, "KR")), AttesterRole.Interviewer);
        f.Attest(id, role);
        return new(
            () => f.Try(Icrc, f.AttestRequest(id, role, $"i-{(int)role}"), Statements.AttestStatement),
            () => role = AttesterRole.Observer
        );
    }

    private static Advised TooManyParties(CaseFixture f)
    {
        var agreement = Agreement();
        string[] others = [.. Enumerable.Range(0, CaseRules.MaxParties).Select(i => $"kr/organ-{i}")];
        agreement.Participants.Add(
            others.Select(id => new Participant
            {
                Id = id,
                Kind = ParticipantKind.Ministry,
                State = "KR",
            })
        );
        f.RuleRunner.Permissions = new(agreement);
        foreach (var id in others.Take(CaseRules.MaxParties - f.TheCase.Parties.Count(p => p.State == "KR")))
            f.Admit(id, Part.RequestingState);
        return Admitted(f, Unification, Unification) with { Follow = () => Assert.Equal(Reason.Unspecified, Remove(f, Kr)) };
    }

    private static Advised TimeOutOfRange(CaseFixture f) =>
        Advice.OfRequest(() => f.FitnessRequest(), r => f.Try(Hq, r, Prisoners.RecordFitness), r => r.ExamineTime = f.In(1));

    private static Advised CorrectedByAnother(CaseFixture f)
    {
        f.Says("KR");
        var by = Hq;
        var position = f.Prisoner.Statements[0].Position;
        return new(() => f.Try(by, f.CorrectRequest(position, by), Prisoners.CorrectRecord), () => by = Icrc);
    }

    private static Advised CorrectedElsewhere(CaseFixture f)
    {
        f.Status(CustodyState.Hospitalised);
        var position = 999ul;
        return new(() => f.Try(Hq, f.CorrectRequest(position), Prisoners.CorrectRecord), () => position = f.Seen(Hq).Entries[^1].Position);
    }
}
