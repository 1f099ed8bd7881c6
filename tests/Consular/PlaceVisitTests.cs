using Ministries.Consular.V1;
using Ministries.Custody.V1;
using Ministries.Errors.V1;
using Ministries.Fixtures;
using State = Ministries.Consular.V1.PlaceVisitState;

namespace Ministries.Consular.Tests;

/// <summary>Visits of places (GC III 126): every state × every command, and who sees what.</summary>
public sealed class PlaceVisitTests
{
    private readonly CaseFixture _fixture = new();

    private string Notify(string participant = CaseFixture.Icrc) =>
        (
            (NotifyPlaceVisitResponse)
                _fixture.Do(
                    participant,
                    new NotifyPlaceVisitRequest { Place = "camp-7", PlannedTime = _fixture.In(24) },
                    PlaceVisits.NotifyPlaceVisit
                )
        ).PlaceVisit;

    private RecordPlaceVisitRequest Visit(string visit) =>
        new()
        {
            PlaceVisit = visit,
            StartTime = _fixture.In(-3),
            DurationMinutes = 90,
            WithoutWitnesses = true,
            Report = CaseFixture.Sealed(),
        };

    private V1.CorrectRecordRequest Correction(string visit, int act) =>
        new() { Record = visit, Position = _fixture.SeenPlaceVisit(CaseFixture.Icrc, visit)!.Acts[act].Position };

    private string To(State state)
    {
        var visit = Notify();
        if (state == State.Visited)
            _fixture.Do(CaseFixture.Icrc, Visit(visit), PlaceVisits.RecordPlaceVisit);
        Assert.Equal(state, _fixture.SeenPlaceVisit(CaseFixture.Icrc, visit)!.State);
        return visit;
    }

    [Theory]
    [InlineData(State.Notified, "record", State.Visited, Reason.Unspecified)]
    [InlineData(State.Visited, "record", State.Visited, Reason.StateNotAllowed)]
    [InlineData(State.Notified, "correct the notice", State.Notified, Reason.Unspecified)]
    [InlineData(State.Visited, "correct the notice", State.Visited, Reason.Unspecified)]
    [InlineData(State.Visited, "correct the visit", State.Notified, Reason.Unspecified)]
    public void A_command_leads_on_or_is_refused_by_name(State state, string command, State end, Reason reason)
    {
        var visit = To(state);
        Assert.Equal(
            reason,
            command switch
            {
                "record" => _fixture.Try(CaseFixture.Icrc, Visit(visit), PlaceVisits.RecordPlaceVisit),
                "correct the notice" => _fixture.Try(CaseFixture.Icrc, Correction(visit, 0), CaseFixture.Correct),
                _ => _fixture.Try(CaseFixture.Icrc, Correction(visit, 1), CaseFixture.Correct),
            }
        );
        Assert.Equal(end, _fixture.SeenPlaceVisit(CaseFixture.Icrc, visit)!.State);
    }

    [Fact]
    public void An_observer_notifies_and_nobody_else()
    {
        Notify();
        Notify(CaseFixture.Swiss);
        foreach (var other in (string[])[CaseFixture.Ua, CaseFixture.Kr])
            Assert.Equal(
                Reason.NotGranted,
                _fixture.Try(other, new NotifyPlaceVisitRequest { Place = "camp-7" }, PlaceVisits.NotifyPlaceVisit)
            );
    }

    [Fact]
    public void It_is_recorded_by_the_observer_that_notified_it_and_not_before_it_was()
    {
        var visit = Notify();
        Assert.Equal(Reason.NotGranted, _fixture.Try(CaseFixture.Swiss, Visit(visit), PlaceVisits.RecordPlaceVisit));
        Assert.Equal(Reason.NotGranted, _fixture.Try(CaseFixture.Ua, Visit(visit), PlaceVisits.RecordPlaceVisit));
        Assert.Equal(Reason.NotFound, _fixture.Try(CaseFixture.Ru, Visit(visit), PlaceVisits.RecordPlaceVisit));
        var tomorrow = new RecordPlaceVisitRequest(Visit(visit)) { StartTime = _fixture.In(1) };
        Assert.Equal(Reason.TimeOutOfRange, _fixture.Try(CaseFixture.Icrc, tomorrow, PlaceVisits.RecordPlaceVisit));
        // It is a fact: a closed case refuses it not.
        _fixture.Happen(new CaseClosed { Case = _fixture.Case });
        _fixture.Do(CaseFixture.Icrc, Visit(visit), PlaceVisits.RecordPlaceVisit);
    }

    /// <summary>An observer that was late with the notice tells of the visit all the same (D17).</summary>
    [Theory]
    [InlineData(false), InlineData(true)]
    public void One_that_took_place_before_custody_ended_is_notified_and_recorded_after_it(bool closed)
    {
        _fixture.To(TransferState.Monitored);
        foreach (var prisoner in (string[])[CaseFixture.First, CaseFixture.Second])
            _fixture.Happen(new DepartureRecorded { Case = _fixture.Case, Prisoner = prisoner });
        if (closed)
            _fixture.Happen(new CaseClosed { Case = _fixture.Case });
        var visit = To(State.Visited);
        Assert.Equal(["KR", "UA"], _fixture.SeenPlaceVisit(CaseFixture.Icrc, visit)!.DetainingPowers);
    }

    [Fact]
    public void It_is_seen_by_the_neutral_and_by_the_powers_that_hold_somebody()
    {
        string[] everybody =
        [
            CaseFixture.Ua,
            CaseFixture.UaMfa,
            CaseFixture.Kr,
            CaseFixture.Ru,
            CaseFixture.Icrc,
            CaseFixture.Swiss,
            CaseFixture.Stranger,
        ];
        var before = Notify();
        _fixture.To(TransferState.Monitored);
        var both = Notify();
        Assert.Equal(
            [CaseFixture.Ua, CaseFixture.UaMfa, CaseFixture.Icrc, CaseFixture.Swiss],
            everybody.Where(p => _fixture.SeenPlaceVisit(p, before) is not null)
        );
        Assert.Equal(
            [CaseFixture.Ua, CaseFixture.UaMfa, CaseFixture.Kr, CaseFixture.Icrc, CaseFixture.Swiss],
            everybody.Where(p => _fixture.SeenPlaceVisit(p, both) is not null)
        );
        Assert.Equal(["KR"], _fixture.SeenPlaceVisit(CaseFixture.Kr, both)!.DetainingPowers);
        Assert.Equal(["KR", "UA"], _fixture.SeenPlaceVisit(CaseFixture.Swiss, both)!.DetainingPowers);
    }

    [Fact]
    public void Who_was_visited_is_the_observers_alone()
    {
        var visit = To(State.Visited);
        Assert.NotEmpty(_fixture.SeenPlaceVisit(CaseFixture.Icrc, visit)!.Report.Content);
        foreach (var reader in (string[])[CaseFixture.Ua, CaseFixture.Swiss])
        {
            var seen = _fixture.SeenPlaceVisit(reader, visit)!;
            Assert.Equal(("camp-7", 90u, true), (seen.Place, seen.DurationMinutes, seen.WithoutWitnesses));
            Assert.Empty(seen.Report.Content);
            Assert.Empty(Withholding.Unmarked(_fixture.RuleRunner.State(PlaceVisits.Kind, visit)!, seen));
        }
    }
}
