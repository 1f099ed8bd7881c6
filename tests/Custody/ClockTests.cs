using Google.Protobuf.WellKnownTypes;
using Ministries.Custody.V1;
using Ministries.Errors.V1;
using Ministries.Fixtures;
using Ministries.Types.V1;
using DutyFellDue = Ministries.Custody.V1.DutyFellDue;

namespace Ministries.Custody.Tests;

/// <summary>The clocks of D14 and D15: nothing but a report restarts the one of his health, and a correction restores each.</summary>
public class ClockTests
{
    private readonly CaseFixture _fixture = new();

    public ClockTests() => _fixture.Register();

    private DateTimeOffset? HealthDue => _fixture.Prisoner.HealthDueTime?.ToDateTimeOffset();

    private void Next(double days) => _fixture.RuleRunner.Now = _fixture.RuleRunner.Now.AddDays(days);

    [Fact]
    public void D14_no_finding_restarts_the_clock_of_his_health()
    {
        var begun = _fixture.RuleRunner.Now;
        Examine(serious: true);
        Assert.Equal(begun.AddDays(7), HealthDue);
        for (var day = 1; day < 7; day++)
        {
            Next(1);
            Examine(serious: day % 2 == 0);
            Assert.Equal((day % 2 == 0, begun.AddDays(7)), (_fixture.Prisoner.Serious, HealthDue));
        }
        Admit(0, serious: true);
        Assert.Equal(begun.AddDays(7), HealthDue);
        Report();
        Assert.Equal(begun.AddDays(13), HealthDue);
    }

    [Fact]
    public void D14_who_is_no_longer_seriously_ill_is_reported_on_once_more()
    {
        var begun = _fixture.RuleRunner.Now;
        Examine(serious: true);
        Next(1);
        Examine(serious: false);
        Assert.Equal((false, begun.AddDays(7)), (_fixture.Prisoner.Serious, HealthDue));
        Next(7);
        Assert.Equal(Reason.Unspecified, Due());
        Assert.Equal(begun.AddDays(14), HealthDue);
        Report();
        Assert.Null(HealthDue);
    }

    /// <summary>A finding that says nothing of it does not say that he is well.</summary>
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void D14_a_finding_that_is_silent_ends_no_clock(bool examined)
    {
        Examine(serious: true);
        Next(1);
        if (examined)
            _fixture.Do(CaseFixture.Hq, _fixture.FitnessRequest(), Prisoners.RecordFitness);
        else
            _fixture.Status(CustodyState.Hospitalised);
        Report();
        Assert.Equal((true, _fixture.RuleRunner.Now.AddDays(7)), (_fixture.Prisoner.Serious, HealthDue));
    }

    [Theory]
    [InlineData(5, true, 3, false, false)]
    [InlineData(3, false, 5, true, false)]
    [InlineData(3, true, 5, false, true)]
    [InlineData(5, false, 3, true, true)]
    public void D14_he_is_as_ill_as_the_latest_finding_says_by_its_own_time(double first, bool ill, double second, bool then, bool serious)
    {
        Examine(ill, first);
        Admit(second, then);
        Assert.Equal(serious, _fixture.Prisoner.Serious);
    }

    [Fact]
    public void D14_a_correction_restores_what_was_said_before_and_its_clock()
    {
        var begun = _fixture.RuleRunner.Now;
        Examine(serious: true);
        Next(3);
        Examine(serious: false);
        Report();
        Assert.Equal((false, null), (_fixture.Prisoner.Serious, HealthDue));
        _fixture.Correct(_fixture.Prisoner.Notifications[^1].Position);
        Assert.Equal(begun.AddDays(7), HealthDue);
        _fixture.Correct(_fixture.Prisoner.Fitness[^1].Position);
        Assert.Equal((true, begun.AddDays(7)), (_fixture.Prisoner.Serious, HealthDue));
        _fixture.Correct(_fixture.Prisoner.Fitness[0].Position);
        Assert.Equal((false, begun.AddDays(7)), (_fixture.Prisoner.Serious, HealthDue));
    }

    [Theory]
    [InlineData(1, 2)]
    [InlineData(2, 1)]
    public void D14_reports_that_are_corrected_gain_no_time(int first, int second)
    {
        var begun = _fixture.RuleRunner.Now;
        Examine(serious: true);
        Next(6);
        Report();
        Next(6);
        Report();
        Assert.Equal(begun.AddDays(19), HealthDue);
        _fixture.Correct(_fixture.Prisoner.Notifications[first - 1].Position);
        Assert.Equal(begun.AddDays(first == 1 ? 19 : 13), HealthDue);
        _fixture.Correct(_fixture.Prisoner.Notifications[second - 1].Position);
        Assert.Equal(begun.AddDays(7), HealthDue);
    }

    [Fact]
    public void D14_a_death_that_was_recorded_by_mistake_gains_no_time()
    {
        var begun = _fixture.RuleRunner.Now;
        Examine(serious: true);
        _fixture.Status(CustodyState.Died);
        Assert.Equal((false, null), (_fixture.Prisoner.Serious, HealthDue));
        Next(20);
        _fixture.Correct(_fixture.Prisoner.Statuses[^1].Position);
        Assert.Equal((true, begun.AddDays(7)), (_fixture.Prisoner.Serious, HealthDue));
        Assert.Equal(Reason.Unspecified, Due());
    }

    [Fact]
    public void D14_a_new_custody_begins_with_a_new_clock()
    {
        Examine(serious: true);
        var escaped = _fixture.StatusRequest(CustodyState.Escaped);
        escaped.EscapeSucceeded = true;
        _fixture.Do(CaseFixture.Hq, escaped, Prisoners.RecordStatus);
        Assert.Null(HealthDue);
        Next(20);
        _fixture.Status(CustodyState.Recaptured);
        Assert.Equal((true, _fixture.RuleRunner.Now.AddDays(7)), (_fixture.Prisoner.Serious, HealthDue));
    }

    /// <summary>Both sides confirm the hand-over after all: the power that took the prisoner reports on him from then on.</summary>
    [Theory]
    [InlineData(false), InlineData(true)]
    public void D14_a_new_custody_by_a_hand_over_begins_with_a_new_clock(bool returned)
    {
        if (returned)
            _fixture.HandOver();
        Examine(serious: true);
        _fixture.Status(CustodyState.Released, Invariant.D2, Invariant.D9, Invariant.D10, Invariant.D11);
        Assert.Equal((false, null), (_fixture.Prisoner.Serious, HealthDue));
        Next(20);
        if (returned)
            _fixture.Return();
        else
            _fixture.HandOver();
        Assert.Equal((true, _fixture.RuleRunner.Now.AddDays(7)), (_fixture.Prisoner.Serious, HealthDue));
        Next(8);
        Assert.Equal(Reason.Unspecified, Due());
    }

    /// <summary>A new custody was recorded by mistake. It gains no time once the end before it is corrected, too.</summary>
    [Theory]
    [InlineData("never", 7), InlineData("before it", 7), InlineData("after it", 27)]
    public void D14_a_recapture_that_was_recorded_by_mistake_gains_no_time(string reported, double due)
    {
        var begun = _fixture.RuleRunner.Now;
        Examine(serious: true);
        var escaped = _fixture.StatusRequest(CustodyState.Escaped);
        escaped.EscapeSucceeded = true;
        _fixture.Do(CaseFixture.Hq, escaped, Prisoners.RecordStatus);
        var escape = _fixture.Prisoner.Statuses[^1].Position;
        Next(20);
        if (reported == "before it")
            Report();
        _fixture.Status(CustodyState.Recaptured);
        if (reported == "after it")
            Report();
        _fixture.Correct(_fixture.Prisoner.Statuses[^1].Position);
        Assert.Null(HealthDue);
        _fixture.Correct(escape);
        Assert.Equal((true, begun.AddDays(due)), (_fixture.Prisoner.Serious, HealthDue));
    }

    [Fact]
    public void D14_a_notification_that_is_corrected_is_owed_again_and_falls_due()
    {
        Next(3);
        Assert.Equal(Reason.Unspecified, Due());
        _fixture.Told(OccurrenceKind.Capture);
        _fixture.Told(OccurrenceKind.CaptureCard);
        Assert.Null(Prisoners.Kind.DueOf(_fixture.Prisoner));
        _fixture.Correct(_fixture.Prisoner.Notifications[0].Position);
        Assert.Equal(("", false), (_fixture.Prisoner.Occurrences[0].Notification, _fixture.Prisoner.Occurrences[0].Overdue));
        Assert.Equal(_fixture.RuleRunner.Now, Prisoners.Kind.DueOf(_fixture.Prisoner));
        Assert.Equal(Reason.Unspecified, Due());
        Assert.True(_fixture.Prisoner.Occurrences[0].Overdue);
        Assert.Equal(Reason.Unspecified, _fixture.Try(CaseFixture.Hq, _fixture.ReleaseRequest(1), Prisoners.NotifyBureau));
    }

    [Fact]
    public void D14_no_notice_is_owed_of_what_was_recorded_by_mistake()
    {
        _fixture.Status(CustodyState.Escaped);
        _fixture.Correct(_fixture.Prisoner.Statuses[^1].Position);
        Assert.Equal(Reason.OccurrenceNotOwed, _fixture.Try(CaseFixture.Hq, _fixture.ReleaseRequest(3), Prisoners.NotifyBureau));
    }

    [Fact]
    public void D15_the_review_of_a_decision_to_withhold_falls_due_once()
    {
        _fixture.Told(OccurrenceKind.CaptureCard);
        _fixture.Do(CaseFixture.Hq, _fixture.NotifyRequest(1), Prisoners.NotifyBureau);
        Assert.Equal(_fixture.RuleRunner.Now.AddDays(30), Prisoners.Kind.DueOf(_fixture.Prisoner));
        Next(30);
        Assert.Equal(Reason.Unspecified, Due());
        Assert.Equal(Duties.DisclosureReview, Assert.IsType<DutyFellDue>(_fixture.RuleRunner.Events[^1]).Duty);
        Assert.True(_fixture.Seen(CaseFixture.Icrc).Notifications[^1].ReviewDue);
        Assert.Null(Prisoners.Kind.DueOf(_fixture.Prisoner));
        Assert.Equal(Reason.StateNotAllowed, Due());
    }

    private void Examine(bool serious, double ago = 0) =>
        _fixture.Do(
            _fixture.Holder,
            new RecordFitnessRequest(_fixture.FitnessRequest(false)) { Serious = serious, ExamineTime = _fixture.Ago(ago) },
            Prisoners.RecordFitness
        );

    private void Admit(double ago, bool serious) =>
        _fixture.Do(
            CaseFixture.Hq,
            new RecordStatusRequest(_fixture.StatusRequest(CustodyState.Hospitalised))
            {
                StatusTime = _fixture.Ago(ago),
                Serious = serious,
            },
            Prisoners.RecordStatus
        );

    private void Report() =>
        _fixture.Do(CaseFixture.Hq, new NotifyBureauRequest(_fixture.ReleaseRequest(0)) { HealthReport = true }, Prisoners.NotifyBureau);

    private Reason Due() =>
        RuleRunner.ReasonOf(
            _fixture
                .RuleRunner.Play(
                    "service/custody",
                    new Timestamp(),
                    (_, context) => Duties.FallDue(Prisoners.KeyOf(_fixture.Case, CaseFixture.P), context),
                    "duty"
                )
                .Decision
        );
}
