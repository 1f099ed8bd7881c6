using Ministries.Custody.V1;
using Ministries.Errors.V1;
using Ministries.Types.V1;

namespace Ministries.Custody.Tests;

/// <summary>Notices that the law demands before something happens: of a move (GC III 48), of a trial and of confinement before it (103,
/// 104).</summary>
public class NoticeTests
{
    private readonly CaseFixture _fixture = new();

    public NoticeTests() => _fixture.Register();

    [Theory]
    [InlineData(1.0, 24.0, Reason.Unspecified)]
    [InlineData(null, 24.0, Reason.MoveNotTold)]
    [InlineData(-1.0, 24.0, Reason.MoveNotTold)]
    [InlineData(1.0, 0.0, Reason.TimeOutOfRange)]
    public void He_is_told_of_a_move_before_it(double? toldAgo, double plannedIn, Reason expected)
    {
        var request = _fixture.MoveRequest();
        request.ToldTime = toldAgo is { } hours ? _fixture.Ago(hours) : null;
        request.PlannedTime = _fixture.In(plannedIn);
        Assert.Equal(expected, _fixture.Try(CaseFixture.Hq, request, Prisoners.AnnounceMove));
    }

    [Fact]
    public void The_observers_see_that_he_is_moved_and_those_to_whom_it_is_sealed_where_to()
    {
        _fixture.Do(CaseFixture.Hq, _fixture.MoveRequest(), Prisoners.AnnounceMove);
        Assert.NotNull(_fixture.Seen(CaseFixture.Icrc).Moves.Single().Place.Content);
        Assert.Empty(_fixture.Seen(CaseFixture.Kr).Moves);
        _fixture.Correct(_fixture.Prisoner.Moves[0].Position);
        Assert.True(_fixture.Prisoner.Moves[0].Corrected);
    }

    [Theory]
    [InlineData(22, false, Reason.Unspecified)]
    [InlineData(20, false, Reason.TrialWithoutNotice)]
    [InlineData(-1, false, Reason.TrialWithoutNotice)]
    [InlineData(20, true, Reason.Unspecified)]
    public void A_trial_is_notified_three_weeks_before_or_marked(double days, bool acknowledged, Reason expected)
    {
        var request = _fixture.ProceedingsRequest(false, "");
        request.TrialTime = _fixture.In(24 * days);
        if (acknowledged)
            request.AcknowledgedBreaches.Add(Invariant.D12);
        Assert.Equal(expected, _fixture.Try(CaseFixture.Hq, request, Prisoners.RecordProceedings));
        if (expected == Reason.Unspecified)
            Assert.Equal(acknowledged ? [Invariant.D12] : (Invariant[])[], _fixture.Prisoner.Proceedings.Single().Breaches);
    }

    [Fact]
    public void Confinement_before_trial_falls_due_after_three_months_once()
    {
        var request = _fixture.ProceedingsRequest(false, "");
        request.ConfinedSinceTime = _fixture.Ago(24);
        _fixture.Do(CaseFixture.Hq, request, Prisoners.RecordProceedings);
        _fixture.RuleRunner.Now = request.ConfinedSinceTime.ToDateTimeOffset().AddMonths(3).AddSeconds(-1);
        Fall();
        Assert.Empty(Fell());
        _fixture.RuleRunner.Now = _fixture.RuleRunner.Now.AddSeconds(1);
        Fall();
        Fall();
        Assert.Single(Fell());
        Assert.True(_fixture.Prisoner.Proceedings.Single().ConfinementOverdue);

        IEnumerable<DutyFellDue> Fell() => _fixture.RuleRunner.Events.OfType<DutyFellDue>().Where(e => e.Duty == Duties.Confinement);
    }

    [Fact]
    public void Confinement_that_has_ended_falls_due_no_more()
    {
        var request = _fixture.ProceedingsRequest(false, "");
        request.ConfinedSinceTime = _fixture.Ago(24);
        _fixture.Do(CaseFixture.Hq, request, Prisoners.RecordProceedings);
        _fixture.Do(CaseFixture.Hq, _fixture.ProceedingsRequest(false, ""), Prisoners.RecordProceedings);
        _fixture.RuleRunner.Now = _fixture.RuleRunner.Now.AddMonths(4);
        Fall();
        Assert.DoesNotContain(_fixture.RuleRunner.Events.OfType<DutyFellDue>(), e => e.Duty == Duties.Confinement);
    }

    private void Fall() =>
        _fixture.RuleRunner.Play(
            "service/custody",
            new Google.Protobuf.WellKnownTypes.Timestamp(),
            (_, context) => Duties.FallDue(Prisoners.KeyOf(_fixture.Case, CaseFixture.P), context),
            "duty"
        );
}
