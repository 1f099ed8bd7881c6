using Ministries.Consular.V1;
using Ministries.Errors.V1;
using Ministries.Types.V1;
using static Ministries.Rules.Ruling;
using State = Ministries.Consular.V1.PlaceVisitState;

namespace Ministries.Consular;

/// <summary>Visits of places where prisoners may be (GC III 126), which an observer notifies and records. Only the observer knows which
/// place it is and which prisoners were visited. Visits of places are not denied here; only visits to a person can be, within limits (D17).
/// </summary>
public static class PlaceVisits
{
    /// <summary>The stream of visits of places.</summary>
    public static readonly StreamKind<PlaceVisit> Kind = new(
        "place-visit",
        2,
        new Folds<PlaceVisit>()
            .On<PlaceVisitNotified>(Notified)
            .On<PlaceVisitRecorded>(Visited)
            .On<V1.RecordCorrected>(Corrected)
            .After((visit, _, entry) => Acts.Note(visit.Acts, entry)),
        AudienceOf,
        v => [$"case:{v.Case}", $"state:{v.State}"]
    );

    /// <summary>Visits of places as rules need to know them.</summary>
    public static readonly RecordKind<PlaceVisit> Record = new()
    {
        Prefix = "placevisit",
        Stream = Kind,
        Field = "place_visit",
        Id = v => v.Id,
        Case = v => v.Case,
        State = v => (int)v.State,
        SeenBy = AudienceOf,
        Entries = AudienceOf,
        Show = (visit, _, context) => Show(visit, context.Caller),
        Streams = (visit, _) => [Kind.Id(visit.Id)],
        Sides = v => v.DetainingPowers,
        NamedInRefusals = true,
    };

    private static readonly Side<PlaceVisit> Notifier = new(
        "notifying observer",
        (visit, context) => context.Caller.Id == visit.Participant ? null : new Refusal(Reason.NotGranted)
    );

    /// <summary>Notifies the visit of a place.</summary>
    public static readonly Rule<Custody.V1.Case, NotifyPlaceVisitRequest, NotifyPlaceVisitResponse> NotifyPlaceVisit = new(Cases.Record)
    {
        Makes = Record,
        InClosedCase = true,
        Decide = (@case, _, context) =>
        {
            var held = @case.Prisoners.Where(p => p.Held).Select(p => p.DetainingPower).ToArray();
            // Where nobody is held any more, an earlier visit is still notified so that it can be recorded.
            var answered = held.Length > 0 ? held : @case.Prisoners.Select(p => p.LastDetainingPower).DefaultIfEmpty(@case.DetainingPower);
            string[] powers = [.. answered.Distinct().Order(StringComparer.Ordinal)];
            var notified = new PlaceVisitNotified
            {
                Case = @case.Id,
                PlaceVisit = context.NewId(Record.Prefix),
                Participant = context.Caller.Id,
                DetainingPowers = { powers },
            };
            return Accept(new Change(notified, [Kind.Id(notified.PlaceVisit)])).SeenBy(AudienceOf(@case.Id, powers));
        },
    };

    /// <summary>Records the visit of a place that took place.</summary>
    public static readonly Rule<PlaceVisit, RecordPlaceVisitRequest, RecordPlaceVisitResponse> RecordPlaceVisit = new(Record)
    {
        From = [State.Notified],
        By = Notifier,
        InClosedCase = true,
        Decide = (_, request, context) =>
            request.StartTime > context.Time ? RefuseField(Reason.TimeOutOfRange, "start_time") : Accept(new PlaceVisitRecorded()),
    };

    /// <summary>Corrects an act of the caller's own, where the record is the visit of a place.</summary>
    public static readonly Rule<PlaceVisit, V1.CorrectRecordRequest, V1.CorrectRecordResponse> CorrectRecord = new(Record)
    {
        From = [.. System.Enum.GetValues<State>()],
        InClosedCase = true,
        Full = (visit, _, _) => visit.Acts.Count >= Accesses.MaxActs,
        Decide = (visit, request, context) =>
            Acts.Correctable(visit.Acts, request.Position, context) is null
                ? Reason.NotCorrectable
                : Accept(new V1.RecordCorrected { Position = request.Position, Participant = context.Caller.Id }),
    };

    /// <summary>The visit of a place as the reader may know it.</summary>
    /// <param name="visit">The visit.</param>
    /// <param name="reader">Who reads; one who may see it.</param>
    public static PlaceVisit Show(PlaceVisit visit, Participant reader)
    {
        var shown = visit.Clone();
        shown.Report = Seals.Show(visit.Report, visit.Participant, reader.Id);
        if (reader.IsNeutral())
            return shown;
        // Only the power itself and the neutral participants know that it holds a prisoner of the case.
        shown.DetainingPowers.Clear();
        shown.DetainingPowers.Add(visit.DetainingPowers.Where(reader.ActsFor));
        shown.Withheld.Add("detaining_powers");
        return shown;
    }

    private static IEnumerable<string> AudienceOf(PlaceVisit visit) => AudienceOf(visit.Case, visit.DetainingPowers);

    private static IEnumerable<string> AudienceOf(string @case, IEnumerable<string> powers) =>
        [.. powers.Select(p => Audience.State(@case, p)), Audience.Observers(@case)];

    private static void Notified(PlaceVisit visit, PlaceVisitNotified e, FoldedEntry entry)
    {
        (visit.Id, visit.Case, visit.Participant) = (e.PlaceVisit, e.Case, e.Participant);
        (visit.State, visit.NotifyTime) = (State.Notified, entry.Time);
        visit.DetainingPowers.Add(e.DetainingPowers);
        if (entry.Request is NotifyPlaceVisitRequest notice)
            (visit.Place, visit.NoteVerbale, visit.PlannedTime) = (notice.Place, notice.NoteVerbale, notice.PlannedTime);
    }

    private static void Visited(PlaceVisit visit, PlaceVisitRecorded e, FoldedEntry entry)
    {
        visit.State = State.Visited;
        if (entry.Request is not RecordPlaceVisitRequest made)
            return;
        (visit.StartTime, visit.DurationMinutes) = (made.StartTime, made.DurationMinutes);
        (visit.WithoutWitnesses, visit.Report) = (made.WithoutWitnesses, Seals.Keep(made.Report, entry.Position));
    }

    // A visit that was recorded wrongly can be recorded again.
    private static void Corrected(PlaceVisit visit, V1.RecordCorrected e, FoldedEntry entry)
    {
        foreach (var act in visit.Acts.Where(a => a.Position == e.Position))
        {
            act.Corrected = true;
            if (act.Method != "RecordPlaceVisit")
                continue;
            (visit.State, visit.StartTime, visit.DurationMinutes) = (State.Notified, null, 0);
            (visit.WithoutWitnesses, visit.Report) = (false, null);
        }
    }
}
