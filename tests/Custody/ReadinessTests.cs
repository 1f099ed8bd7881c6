using Ministries.Custody.V1;
using Route = Ministries.Types.V1.Route;

namespace Ministries.Custody.Tests;

/// <summary>What a departure rests on beside his word (D10 to D12): the latest counts by its own time, under whichever reference it was
/// recorded.</summary>
public class ReadinessTests
{
    private readonly CaseFixture _fixture = new();

    public ReadinessTests() => _fixture.Register();

    [Theory]
    [InlineData(2, true, 5, false, true)]
    [InlineData(5, true, 2, false, false)]
    [InlineData(2, false, 5, true, false)]
    [InlineData(5, false, 2, true, true)]
    [InlineData(2, true, 2, false, false)]
    [InlineData(2, false, 2, true, true)]
    public void D10_the_latest_examination_counts_by_its_own_time(double first, bool fit, double second, bool then, bool ready)
    {
        Examine(first, fit);
        Examine(second, then);
        Assert.Equal(ready, _fixture.Readiness().FitRecorded);
    }

    [Theory]
    [InlineData(2, true, 5, false, true)]
    [InlineData(5, true, 2, false, false)]
    [InlineData(2, false, 5, true, false)]
    [InlineData(5, false, 2, true, true)]
    [InlineData(2, true, 2, false, false)]
    public void D11_the_latest_assessment_counts_by_its_own_time(double first, bool safe, double second, bool then, bool ready)
    {
        Assess(first, safe);
        Assess(second, then);
        Assert.Equal(ready, _fixture.Readiness().RiskAssessed);
    }

    /// <summary>In whatever way the prisoner left the transit, the consular service asks custody, and does not go on with the
    /// plan.</summary>
    [Theory]
    [InlineData(CustodyState.Escaped), InlineData(CustodyState.Recaptured), InlineData(CustodyState.Hospitalised)]
    public void D1_he_is_on_the_way_until_custody_has_him_elsewhere(CustodyState status)
    {
        Assert.False(_fixture.Readiness().InTransit);
        _fixture.Begin();
        Assert.True(_fixture.Readiness().InTransit);
        _fixture.Do(CaseFixture.Hq, _fixture.ProceedingsRequest(), Prisoners.RecordProceedings);
        Assert.True(_fixture.Readiness().InTransit);
        _fixture.Status(status);
        Assert.False(_fixture.Readiness().InTransit);
    }

    [Theory]
    [InlineData(5, 3, false)]
    [InlineData(3, 3, false)]
    [InlineData(3, 5, true)]
    public void D10_an_examination_from_before_he_came_to_hospital_clears_nobody(double examined, double admitted, bool ready)
    {
        // In whichever order the two are recorded.
        foreach (var examinedFirst in (bool[])[true, false])
        {
            var fixture = new CaseFixture();
            fixture.Register();
            if (examinedFirst)
                Examine(examined, true, fixture);
            Admit(fixture, admitted);
            if (!examinedFirst)
                Examine(examined, true, fixture);
            Assert.Equal(ready, fixture.Readiness().FitRecorded);
        }
    }

    [Fact]
    public void D10_that_he_is_unfit_counts_whichever_power_found_it()
    {
        _fixture.Ready();
        Examine(0.5, false);
        _fixture.HandOver();
        ExamineAs(CaseFixture.Kr, 0.7, true);
        Assert.False(_fixture.Readiness("CH").FitRecorded);
        ExamineAs(CaseFixture.Kr, 0.2, true);
        Assert.True(_fixture.Readiness("CH").FitRecorded);
    }

    [Fact]
    public void D10_D11_what_was_erased_never_clears_and_counts_against_until_a_later_one()
    {
        Examine(5, true);
        Assess(5, true);
        var erased = _fixture.Prisoner.Clone();
        var entry = new FoldedEntry(99, _fixture.Ago(3), CaseFixture.Hq, "r", null);
        Prisoners.Kind.Apply(erased, new FitnessRecorded { Prisoner = CaseFixture.P, Fitness = "x" }, entry);
        Prisoners.Kind.Apply(erased, new RiskAssessmentRecorded { Prisoner = CaseFixture.P, Assessment = "x" }, entry);
        var ready = Custody.Readiness.Of([erased], Route.Article12Transfer, "KR", _fixture.RuleRunner.Now, _fixture.RuleRunner.Permissions);
        Assert.Equal((false, false), (ready.FitRecorded, ready.RiskAssessed));
        erased.Fitness.Add(new Fitness(erased.Fitness[0]) { ExamineTime = _fixture.Ago(2) });
        erased.RiskAssessments.Add(new RiskAssessment(erased.RiskAssessments[0]) { AssessTime = _fixture.Ago(2) });
        ready = Custody.Readiness.Of([erased], Route.Article12Transfer, "KR", _fixture.RuleRunner.Now, _fixture.RuleRunner.Permissions);
        Assert.Equal((true, true), (ready.FitRecorded, ready.RiskAssessed));
    }

    [Fact]
    public void D10_D11_what_was_found_under_another_reference_of_the_person_counts()
    {
        _fixture.Register(CaseFixture.Q);
        Examine(2, false);
        Assess(2, false);
        OnKept(5, true);
        Assert.Equal((true, true), Kept());
        _fixture.Link();
        Assert.Equal((false, false), Kept());
        OnKept(1, true);
        Assert.Equal((true, true), Kept());

        (bool, bool) Kept()
        {
            var ready = _fixture.Readiness("KR", reference: CaseFixture.Q);
            return (ready.FitRecorded, ready.RiskAssessed);
        }
    }

    [Fact]
    public void D10_that_he_is_in_hospital_under_another_reference_counts()
    {
        _fixture.Register(CaseFixture.Q);
        OnKept(5, true);
        Admit(_fixture, 2);
        _fixture.Link();
        Assert.False(_fixture.Readiness("KR", reference: CaseFixture.Q).FitRecorded);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void D12_a_link_drops_no_proceedings_and_they_are_lifted_under_the_reference_that_is_kept(bool liftedBefore)
    {
        _fixture.Register(CaseFixture.Q);
        _fixture.Do(CaseFixture.Hq, _fixture.ProceedingsRequest(), Prisoners.RecordProceedings);
        // What was said of the other reference before it was known to be his says nothing of these proceedings.
        if (liftedBefore)
            _fixture.Do(CaseFixture.Hq, Lifted(), Prisoners.RecordProceedings);
        _fixture.Link();
        Assert.False(_fixture.Readiness("KR", reference: CaseFixture.Q).FreeToDepart);
        _fixture.Do(CaseFixture.Hq, Lifted(), Prisoners.RecordProceedings);
        Assert.True(_fixture.Readiness("KR", reference: CaseFixture.Q).FreeToDepart);

        RecordProceedingsRequest Lifted() =>
            new(_fixture.ProceedingsRequest(false, "")) { Prisoner = CaseFixture.Q, Etag = _fixture.Etag(CaseFixture.Hq, CaseFixture.Q) };
    }

    private void Examine(double ago, bool fit, CaseFixture? fixture = null)
    {
        fixture ??= _fixture;
        fixture.Do(
            CaseFixture.Hq,
            new RecordFitnessRequest(fixture.FitnessRequest(fit)) { ExamineTime = fixture.Ago(ago) },
            Prisoners.RecordFitness
        );
    }

    private void ExamineAs(string who, double ago, bool fit) =>
        _fixture.Do(
            who,
            new RecordFitnessRequest(_fixture.FitnessRequest(fit)) { Etag = _fixture.Etag(who), ExamineTime = _fixture.Ago(ago) },
            Prisoners.RecordFitness
        );

    private void Assess(double ago, bool safe) =>
        _fixture.Do(
            CaseFixture.Hq,
            new RecordRiskAssessmentRequest(_fixture.RiskRequest())
            {
                AssessTime = _fixture.Ago(ago),
                Finding = safe ? RiskFinding.NoSubstantialRisk : RiskFinding.SubstantialRisk,
            },
            Prisoners.RecordRiskAssessment
        );

    private void OnKept(double ago, bool good)
    {
        _fixture.Do(
            CaseFixture.Hq,
            new RecordFitnessRequest(_fixture.FitnessRequest(good))
            {
                Prisoner = CaseFixture.Q,
                Etag = _fixture.Etag(CaseFixture.Hq, CaseFixture.Q),
                ExamineTime = _fixture.Ago(ago),
            },
            Prisoners.RecordFitness
        );
        _fixture.Do(
            CaseFixture.Hq,
            new RecordRiskAssessmentRequest(_fixture.RiskRequest())
            {
                Prisoner = CaseFixture.Q,
                Etag = _fixture.Etag(CaseFixture.Hq, CaseFixture.Q),
                AssessTime = _fixture.Ago(ago),
            },
            Prisoners.RecordRiskAssessment
        );
    }

    private static void Admit(CaseFixture fixture, double ago) =>
        fixture.Do(
            CaseFixture.Hq,
            new RecordStatusRequest(fixture.StatusRequest(CustodyState.Hospitalised)) { StatusTime = fixture.Ago(ago) },
            Prisoners.RecordStatus
        );
}
