using Google.Protobuf.WellKnownTypes;
using Ministries.Custody.V1;
using Ministries.Errors.V1;
using Ministries.Types.V1;
using DutyFellDue = Ministries.Custody.V1.DutyFellDue;

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
    [InlineData(1.0, 90.0 * 24, Reason.Unspecified)]
    [InlineData(1.0, 90.0 * 24 + 1, Reason.TimeOutOfRange)]
    [InlineData(1.0, 170.0 * 365 * 24, Reason.TimeOutOfRange)]
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

    /// <summary>A move that took place is a fact: it is recorded though he was told of nothing, and marked.</summary>
    [Theory]
    [InlineData(CustodyState.Interned, 30.0)]
    [InlineData(CustodyState.Interned, null)]
    [InlineData(CustodyState.Escaped, 30.0)]
    [InlineData(CustodyState.Died, null)]
    public void A_move_that_took_place_without_notice_is_recorded_and_marked(CustodyState then, double? toldAgo)
    {
        if (then != CustodyState.Interned)
            _fixture.Status(then);
        var request = _fixture.MoveRequest();
        (request.ToldTime, request.PlannedTime) = (toldAgo is { } hours ? _fixture.Ago(hours) : null, _fixture.Ago(24));
        var refused = _fixture.Try(CaseFixture.Hq, request, Prisoners.AnnounceMove);
        Assert.Equal(toldAgo is null ? Reason.MoveNotTold : Reason.TimeOutOfRange, refused);
        request.AcknowledgedBreaches.Add(Invariant.D14);
        _fixture.Do(CaseFixture.Hq, request, Prisoners.AnnounceMove);
        Assert.Equal([Invariant.D14], _fixture.Seen(CaseFixture.Icrc).Moves.Single().Breaches);
    }

    [Fact]
    public void A_move_that_is_yet_to_come_is_announced_of_one_in_custody_who_was_told_whatever_is_acknowledged()
    {
        var request = _fixture.MoveRequest();
        request.AcknowledgedBreaches.Add(Invariant.D14);
        request.ToldTime = null;
        Assert.Equal(Reason.MoveNotTold, _fixture.Try(CaseFixture.Hq, request, Prisoners.AnnounceMove));
        _fixture.Status(CustodyState.Escaped);
        Assert.Equal(Reason.StateNotAllowed, _fixture.Try(CaseFixture.Hq, _fixture.MoveRequest(), Prisoners.AnnounceMove));
    }

    [Theory]
    [InlineData(30, 30, Reason.Unspecified)]
    [InlineData(30, 31, Reason.TrialWithoutNotice)]
    [InlineData(20, 20, Reason.TrialWithoutNotice)]
    public void A_trial_that_was_notified_in_time_may_be_named_again_until_it_opens(double first, double again, Reason expected)
    {
        var opens = _fixture.RuleRunner.Now.AddDays(first);
        Name(opens, Invariant.D12);
        _fixture.RuleRunner.Now = opens.AddDays(-10);
        Assert.Equal(expected, Try(opens.AddDays(again - first)));
        _fixture.Correct(_fixture.Prisoner.Proceedings[0].Position);
        Assert.Equal(Reason.TrialWithoutNotice, Try(opens));

        void Name(DateTimeOffset trial, params Invariant[] acknowledged)
        {
            var request = _fixture.ProceedingsRequest(true);
            request.TrialTime = trial.ToTimestamp();
            request.AcknowledgedBreaches.Add(acknowledged);
            _fixture.Do(CaseFixture.Hq, request, Prisoners.RecordProceedings);
        }

        Reason Try(DateTimeOffset trial) =>
            _fixture.Try(
                CaseFixture.Hq,
                new RecordProceedingsRequest(_fixture.ProceedingsRequest(false, "")) { TrialTime = trial.ToTimestamp() },
                Prisoners.RecordProceedings
            );
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

    /// <summary>What is recorded of a trial that opens in 30 days, and whether the notice of it is missing three weeks before.</summary>
    public static TheoryData<string, bool> Notices =>
        new()
        {
            { "its time", true },
            { "its time, its time", true },
            { "its time, its particulars", false },
            { "its particulars", false },
            { "its particulars, correction", false },
            { "its time, its particulars, correction", true },
            { "its time, particulars of another trial", true },
            { "its time, release", false },
        };

    [Theory, MemberData(nameof(Notices))]
    public void A_trial_of_which_there_is_no_notice_three_weeks_before_it_falls_due_once(string told, bool missing)
    {
        var trial = _fixture.RuleRunner.Now.AddDays(30);
        foreach (var one in told.Split(", "))
            switch (one)
            {
                case "correction":
                    _fixture.Correct(_fixture.Prisoner.Proceedings[^1].Position);
                    break;
                case "release":
                    Invariant[] all = [Invariant.D2, Invariant.D9, Invariant.D10, Invariant.D11, Invariant.D12];
                    _fixture.Status(CustodyState.Released, all);
                    break;
                default:
                    var request = _fixture.TrialRequest(one == "particulars of another trial" ? 40 : 30);
                    if (one == "its time")
                        request.Particulars = null;
                    _fixture.Do(CaseFixture.Hq, request, Prisoners.RecordProceedings);
                    break;
            }
        _fixture.RuleRunner.Now = trial.AddDays(-21).AddSeconds(-1);
        Assert.Empty(Fell());
        _fixture.RuleRunner.Now = trial.AddDays(-21);
        Assert.Equal(missing ? [trial.AddDays(-21).ToTimestamp()] : (Timestamp[])[], Fell());
        Assert.Equal(missing ? 1 : 0, Fell().Count());
        Assert.Equal(missing, _fixture.Seen(CaseFixture.Icrc).Proceedings.Any(p => p.TrialNoticeOverdue));

        IEnumerable<Timestamp> Fell()
        {
            _fixture.FallDue();
            return _fixture.RuleRunner.Events.OfType<DutyFellDue>().Where(e => e.Duty == Duties.TrialNotice).Select(e => e.DueTime);
        }
    }

    /// <summary>A correction makes no late notice one in time.</summary>
    [Theory]
    [InlineData(25, false)]
    [InlineData(21, false)]
    [InlineData(5, true)]
    public void What_is_told_of_a_trial_too_late_is_no_notice_once_what_was_told_before_is_corrected(double before, bool missing)
    {
        var trial = _fixture.RuleRunner.Now.AddDays(30);
        var named = new RecordProceedingsRequest(_fixture.TrialRequest(30)) { Particulars = null };
        _fixture.Do(CaseFixture.Hq, named, Prisoners.RecordProceedings);
        _fixture.RuleRunner.Now = trial.AddDays(-before);
        _fixture.FallDue();
        var told = new RecordProceedingsRequest(_fixture.TrialRequest(before)) { TrialTime = named.TrialTime };
        _fixture.Do(CaseFixture.Hq, told, Prisoners.RecordProceedings);
        _fixture.Correct(_fixture.Prisoner.Proceedings[0].Position);
        _fixture.RuleRunner.Now = trial.AddDays(-5);
        _fixture.FallDue();
        var notice = _fixture.Prisoner.Proceedings[1];
        Assert.Equal((false, missing), (notice.Breaches.Contains(Invariant.D12), notice.TrialNoticeOverdue));
    }

    [Theory]
    [InlineData(CaseFixture.Icrc, Reason.Unspecified)]
    [InlineData(CaseFixture.Hq, Reason.TrialWithoutNotice)]
    [InlineData(CaseFixture.Swiss, Reason.TrialWithoutNotice)]
    public void The_notice_of_a_trial_is_for_an_observer_of_the_case(string recipient, Reason expected)
    {
        var request = _fixture.TrialRequest(30);
        request.Particulars = CaseFixture.Seal(recipient);
        Assert.Equal(expected, _fixture.Try(CaseFixture.Hq, request, Prisoners.RecordProceedings));
        // The Protecting Power is no party to the case.
        _fixture.Admit(CaseFixture.Swiss, Part.ProtectingPower);
        request = new(_fixture.TrialRequest(30)) { Particulars = CaseFixture.Seal(recipient) };
        expected = recipient == CaseFixture.Swiss ? Reason.Unspecified : expected;
        Assert.Equal(expected, _fixture.Try(CaseFixture.Hq, request, Prisoners.RecordProceedings));
    }

    /// <summary>Under whichever of two linked references the trial was named first.</summary>
    [Fact]
    public void The_notice_of_a_trial_that_was_named_under_a_linked_reference_is_given_under_the_kept_one()
    {
        _fixture.Register(CaseFixture.Q);
        var trial = new RecordProceedingsRequest(_fixture.TrialRequest(30)) { Particulars = null };
        _fixture.Do(CaseFixture.Hq, trial, Prisoners.RecordProceedings);
        _fixture.Link();
        _fixture.FallDue(CaseFixture.Q);
        Assert.Equal(trial.TrialTime, _fixture.PrisonerOf(CaseFixture.Q).Proceedings.Single().TrialTime);
        var notice = new RecordProceedingsRequest(_fixture.TrialRequest(30))
        {
            Prisoner = CaseFixture.Q,
            Etag = _fixture.Etag(CaseFixture.Hq, CaseFixture.Q),
        };
        _fixture.Do(CaseFixture.Hq, notice, Prisoners.RecordProceedings);
        _fixture.RuleRunner.Now = _fixture.RuleRunner.Now.AddDays(25);
        _fixture.FallDue();
        _fixture.FallDue(CaseFixture.Q);
        Assert.DoesNotContain(_fixture.RuleRunner.Events.OfType<DutyFellDue>(), e => e.Duty == Duties.TrialNotice);
    }

    /// <summary>The parties to the conflict tell each other who is kept back (119).</summary>
    [Theory]
    [InlineData("delay", 1)]
    [InlineData("delay, delay", 1)]
    [InlineData("none", 0)]
    [InlineData("delay, none, delay", 2)]
    public void Who_is_kept_back_for_proceedings_is_notified_once(string told, int owed)
    {
        foreach (var one in told.Split(", "))
            _fixture.Do(CaseFixture.Hq, _fixture.ProceedingsRequest(one == "delay"), Prisoners.RecordProceedings);
        Assert.Equal(owed, _fixture.Prisoner.Occurrences.Count(o => o.Kind == OccurrenceKind.Proceedings));
    }

    /// <summary>Proceedings that were recorded before they were an occurrence: those after them keep the numbers that notifications
    /// name.</summary>
    [Fact]
    public void Proceedings_of_an_old_ledger_renumber_no_occurrence()
    {
        var state = _fixture.Prisoner.Clone();
        var recorded = new StatusRecorded
        {
            Case = _fixture.Case,
            Prisoner = CaseFixture.P,
            Held = true,
            BureauDueTime = _fixture.In(24),
        };
        Fold(97, recorded, _fixture.ProceedingsRequest());
        Fold(98, recorded, _fixture.StatusRequest(CustodyState.Hospitalised));
        Fold(99, new BureauNotified { Prisoner = CaseFixture.P, Notification = "notification_1" }, _fixture.NotifyRequest(3));
        Assert.Equal((OccurrenceKind.HospitalAdmission, "notification_1"), (state.Occurrences[2].Kind, state.Occurrences[2].Notification));
        Assert.Equal(3, state.Occurrences.Count);

        void Fold(ulong position, Google.Protobuf.IMessage e, Google.Protobuf.IMessage request) =>
            Prisoners.Kind.Apply(state, e, new FoldedEntry(position, _fixture.Ago(0), CaseFixture.Hq, $"r{position}", request));
    }

    /// <summary>What is recorded of a delay, which of it is corrected, and whether notice of it is owed then.</summary>
    [Theory]
    [InlineData("delay, delay", "0", true)]
    [InlineData("delay, delay", "0, 1", false)]
    [InlineData("delay, delay", "1, 0", false)]
    [InlineData("delay, delay, none", "0", true)]
    [InlineData("delay, none", "0", false)]
    [InlineData("delay, none, delay", "1, 0", true)]
    [InlineData("delay, none, delay", "0, 2", false)]
    public void Notice_of_who_is_kept_back_is_owed_while_an_uncorrected_record_says_so(string told, string corrected, bool owed)
    {
        foreach (var one in told.Split(", "))
            _fixture.Do(CaseFixture.Hq, _fixture.ProceedingsRequest(one == "delay"), Prisoners.RecordProceedings);
        foreach (var one in corrected.Split(", "))
            _fixture.Correct(_fixture.Prisoner.Proceedings[int.Parse(one, System.Globalization.CultureInfo.InvariantCulture)].Position);
        var kept = _fixture.Prisoner.Occurrences.Where(o => o is { Kind: OccurrenceKind.Proceedings, Corrected: false });
        Assert.Equal(owed ? 1 : 0, kept.Count());
    }

    [Theory]
    [InlineData(24.0)]
    [InlineData(-24.0)]
    public void After_a_move_the_bureau_is_told_and_he_writes_to_his_family(double plannedIn)
    {
        var request = _fixture.MoveRequest();
        request.PlannedTime = _fixture.In(plannedIn);
        if (plannedIn < 0)
            request.AcknowledgedBreaches.Add(Invariant.D14);
        var (now, moved) = (_fixture.RuleRunner.Now, request.PlannedTime.ToDateTimeOffset());
        _fixture.Do(CaseFixture.Hq, request, Prisoners.AnnounceMove);
        var hours = _fixture.RuleRunner.Permissions.Agreement.BureauNotificationHours;
        Assert.Equal(
            [(OccurrenceKind.Move, (moved > now ? moved : now).AddHours(hours)), (OccurrenceKind.CaptureCard, moved.AddDays(7))],
            Owed().Select(o => (o.Kind, o.DueTime.ToDateTimeOffset()))
        );
        _fixture.Told(OccurrenceKind.Move);
        Assert.Equal([OccurrenceKind.CaptureCard], Owed().Where(IsOwed).Select(o => o.Kind));
        // Who is not moved after all is not reported on.
        _fixture.Correct(_fixture.Prisoner.Moves[0].Position);
        Assert.DoesNotContain(Owed(), IsOwed);

        static bool IsOwed(Occurrence occurrence) => occurrence is { Corrected: false, Notification: "" };

        IEnumerable<Occurrence> Owed() => _fixture.Prisoner.Occurrences.Where(o => o.Position == _fixture.Prisoner.Moves[0].Position);
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

    /// <summary>Beginnings and ends of confinement, in days from now and in the order in which they are recorded, and when three months of
    /// it are over; null: they never are. Three months from the first day are 92 days.</summary>
    public static TheoryData<string, double?> Confinements =>
        new()
        {
            { "from 0", 92 },
            { "from 0, nothing", 92 },
            { "from 0, from 60", 92 },
            { "from 60, from 0", 92 },
            { "from 0, to 91", null },
            { "from 0, to 93", 92 },
            { "from 0, to 30, from 40", 102 },
            { "from 0, to 30, from 30", 92 },
            { "from 40, to 30, from 0", 102 },
            { "from 0, to 30, from 40, to 50, from 60", 112 },
            { "from 0, from 20, to 30, from 40", 102 },
            { "from 0, to 30, from 40, to 101", null },
        };

    [Theory, MemberData(nameof(Confinements))]
    public void Three_months_of_confinement_are_counted_from_its_beginning_and_added_up(string told, double? due)
    {
        var begun = _fixture.RuleRunner.Now;
        _fixture.RuleRunner.Now = begun.AddDays(200);
        foreach (var one in told.Split(", "))
        {
            var request = _fixture.ProceedingsRequest(false, "");
            if (one.Split(' ') is [var what, var day])
            {
                var time = begun.AddDays(double.Parse(day, System.Globalization.CultureInfo.InvariantCulture)).ToTimestamp();
                (request.ConfinedSinceTime, request.ConfinementEndTime) = what == "from" ? (time, null) : ((Timestamp?)null, time);
                // An end is recorded after a beginning: here both come in one record.
                if (what == "to" && _fixture.Prisoner.Proceedings.All(p => !(p.ConfinedSinceTime < time)))
                    request.ConfinedSinceTime = begun.ToTimestamp();
            }
            _fixture.Do(CaseFixture.Hq, request, Prisoners.RecordProceedings);
        }
        Fall();
        var fell = _fixture.RuleRunner.Events.OfType<DutyFellDue>().Where(e => e.Duty == Duties.Confinement).Select(e => e.DueTime);
        Assert.Equal(due is { } days ? [begun.AddDays(days).ToTimestamp()] : (Timestamp[])[], fell);
    }

    [Theory]
    [InlineData(1.0, Reason.TimeOutOfRange)]
    [InlineData(-1.0, Reason.Unspecified)]
    [InlineData(-49.0, Reason.TimeOutOfRange)]
    public void Confinement_ends_after_it_began_and_not_ahead(double inHours, Reason expected)
    {
        Assert.Equal(Reason.TimeOutOfRange, End(-1));
        var request = _fixture.ProceedingsRequest(false, "");
        request.ConfinedSinceTime = _fixture.Ago(48);
        _fixture.Do(CaseFixture.Hq, request, Prisoners.RecordProceedings);
        Assert.Equal(expected, End(inHours));

        Reason End(double hours) =>
            _fixture.Try(
                CaseFixture.Hq,
                new RecordProceedingsRequest(_fixture.ProceedingsRequest(false, "")) { ConfinementEndTime = _fixture.In(hours) },
                Prisoners.RecordProceedings
            );
    }

    [Fact]
    public void What_was_recorded_by_mistake_confines_nobody_and_what_is_left_falls_due_in_its_time()
    {
        var begun = _fixture.RuleRunner.Now;
        Confine(begun);
        Confine(begun.AddDays(-60));
        _fixture.RuleRunner.Now = begun.AddDays(40);
        Fall();
        Assert.All(_fixture.Prisoner.Proceedings, p => Assert.True(p.ConfinementOverdue));
        _fixture.Correct(_fixture.Prisoner.Proceedings[1].Position);
        Assert.False(_fixture.Prisoner.Proceedings[0].ConfinementOverdue);
        _fixture.RuleRunner.Now = begun.AddMonths(3);
        Fall();
        Assert.Equal(2, _fixture.RuleRunner.Events.OfType<DutyFellDue>().Count(e => e.Duty == Duties.Confinement));
    }

    /// <summary>Each power answers for the confinement in its own custody, and a hand-over ends it.</summary>
    [Fact]
    public void Confinement_by_one_power_is_none_by_the_next()
    {
        var begun = _fixture.RuleRunner.Now;
        Confine(begun);
        _fixture.Ready();
        _fixture.HandOver();
        _fixture.RuleRunner.Now = begun.AddMonths(4);
        Fall();
        Assert.DoesNotContain(_fixture.RuleRunner.Events.OfType<DutyFellDue>(), e => e.Duty == Duties.Confinement);
        Confine(_fixture.RuleRunner.Now.AddDays(-1));
        _fixture.RuleRunner.Now = begun.AddMonths(8);
        Fall();
        Assert.Contains(_fixture.RuleRunner.Events.OfType<DutyFellDue>(), e => e.Duty == Duties.Confinement);
    }

    private void Confine(DateTimeOffset since)
    {
        var request = _fixture.ProceedingsRequest(false, "");
        var now = _fixture.RuleRunner.Now;
        Assert.True(since <= now);
        request.ConfinedSinceTime = since.ToTimestamp();
        _fixture.Do(_fixture.Holder, request, Prisoners.RecordProceedings);
    }

    private void Fall() =>
        _fixture.RuleRunner.Play(
            "service/custody",
            new Timestamp(),
            (_, context) => Duties.FallDue(Prisoners.KeyOf(_fixture.Case, CaseFixture.P), context),
            "duty"
        );
}
