using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Ministries.CallLog.V1;
using Ministries.Consular.V1;
using Ministries.Custody.V1;

namespace Ministries.Ministry;

/// <summary>What each record asks for next, and of whom, as far as its reader sees it. It is advice: the services decide by the rules and
/// refuse by name.</summary>
internal static class Duties
{
    /// <summary>The duties that follow from records.</summary>
    /// <param name="records">Records of any kinds.</param>
    /// <param name="now">The time. What can no longer be done is not asked.</param>
    public static IEnumerable<Duty> Of(IReadOnlyCollection<IMessage> records, DateTimeOffset now) =>
        records.SelectMany(r =>
            r switch
            {
                Call call => OfCall(call),
                Prisoner prisoner =>
                [
                    .. OfPrisoner(prisoner),
                    .. OfStatements(prisoner),
                    .. OfProceedings(prisoner, now),
                    .. DepartureDuties.OfCustody(prisoner, records),
                ],
                Transfer transfer => DepartureDuties.Of(transfer),
                Access access => OfAccess(access),
                PlaceVisit visit => OfPlaceVisit(visit),
                _ => [],
            }
        );

    /// <summary>Duties in the order in which they are best done: by precedence, then what is due first, then what has no time.</summary>
    public static IEnumerable<Duty> InOrder(IEnumerable<Duty> duties) =>
        duties
            .OrderByDescending(d => d.Precedence)
            .ThenBy(d => d.Due ?? DateTimeOffset.MaxValue)
            .ThenBy(d => d.Record, StringComparer.Ordinal);

    private static IEnumerable<Duty> OfCall(Call call)
    {
        var position = call.Readouts.SelectMany(r => r.Versions).Select(v => (ulong?)v.Position).Max();
        if (call.State == CallState.OneSided)
            foreach (var side in call.Sides.Where(s => call.Readouts.All(r => r.Participant != s.Participant)))
                yield return new(
                    call.Id,
                    "give your own account of the call",
                    $"calllog submit-readout --call {Shell.Word(call.Id)}",
                    side.Participant,
                    "D20",
                    Position: position
                );
        foreach (var contest in call.Contests.Where(c => !c.Corrected && call.State == CallState.Contested))
        foreach (var side in call.Sides.Where(s => s.Participant != contest.Participant))
            yield return new(
                call.Id,
                $"answer the contest of {contest.Participant}",
                $"calllog amend-readout --call {Shell.Word(call.Id)}",
                side.Participant,
                "D20",
                Position: contest.Position
            );
        foreach (var commitment in call.Commitments.Where(c => c.State is CommitmentState.Open or CommitmentState.Overdue))
        {
            var kind = Words.Of(CommitmentTerms.Descriptor.FindFieldByName("kind").EnumType, (int)commitment.Terms.Kind);
            yield return new(
                commitment.Id,
                $"keep the commitment: {kind}",
                commitment.Terms.Kind == CommitmentKind.RequestTransfer
                    ? "consular submit-transfer-request"
                    : $"calllog get-call --call {Shell.Word(call.Id)}",
                commitment.Terms.Participant,
                "commitment",
                Printable.At(commitment.Terms.DueTime),
                commitment.Sayings.Select(s => (ulong?)s.Position).Max()
            );
            // The side to which the commitment is owed records that it was kept. A request for a transfer counts by itself.
            if (commitment.State == CommitmentState.Overdue)
                foreach (var side in call.Sides.Where(s => s.Participant != commitment.Terms.Participant))
                    yield return new(
                        commitment.Id,
                        $"settle what {commitment.Terms.Participant} owes: {kind}",
                        $"calllog settle-commitment --call {Shell.Word(call.Id)} --commitment {Shell.Word(commitment.Id)}",
                        side.Participant,
                        "commitment",
                        Printable.At(commitment.Terms.DueTime)
                    );
        }
    }

    private static IEnumerable<Duty> OfPrisoner(Prisoner prisoner)
    {
        var (id, of) = (prisoner.Prisoner_, Of(prisoner));
        var position = prisoner.Entries.Select(e => (ulong?)e.Position).Max();
        foreach (var occurrence in prisoner.Occurrences.Where(o => o.Notification.Length == 0 && !o.Corrected))
        {
            var kind = Words.Of(Occurrence.Descriptor.FindFieldByName("kind").EnumType, (int)occurrence.Kind);
            yield return new(
                id,
                $"notify the bureau and the agency: {kind}",
                $"custody notify-bureau {of} --occurrence {occurrence.Occurrence_}",
                occurrence.OwedBy,
                "GC III 120, 122",
                Printable.At(occurrence.DueTime),
                occurrence.Position
            );
        }
        var holder = prisoner.DetainingPower;
        if (prisoner.HealthDueTime is { } health)
            yield return new(
                id,
                "report his health",
                $"custody notify-bureau {of} --health-report",
                holder,
                "GC III 122",
                Printable.At(health),
                position
            );
        foreach (var review in prisoner.Notifications.Where(n => n.ReviewTime is not null && !n.Corrected))
            yield return new(
                id,
                "review why his data are withheld",
                $"custody notify-bureau {of}",
                review.RecordedFor,
                "GC III 122, D15",
                Printable.At(review.ReviewTime),
                review.Position
            );
    }

    /// <summary>The options that name a prisoner.</summary>
    internal static string Of(Prisoner prisoner) => $"--case {Shell.Word(prisoner.Case)} --prisoner {Shell.Word(prisoner.Prisoner_)}";

    private static IEnumerable<Duty> OfStatements(Prisoner prisoner)
    {
        foreach (var statement in prisoner.Statements.Where(s => s.Interview is not null && s.State != StatementState.Corrected))
        foreach (var attendant in statement.Interview.Attendants)
            if (statement.Attestations.All(a => a.Role != attendant.Role || a.RevokeTime is not null || a.Corrected))
                yield return new(
                    statement.Statement_,
                    $"attest his statement as {Words.Of(Attendant.Descriptor.FindFieldByName("role").EnumType, (int)attendant.Role)}",
                    $"custody attest-statement --statement {Shell.Word(statement.Statement_)}",
                    attendant.Participant,
                    "GC III 126, D7",
                    Position: statement.Position
                );
    }

    // The clocks run on the record that is kept, while somebody holds him. What can no longer be done is not asked: once a trial has opened
    // there is no notice of it.
    private static IEnumerable<Duty> OfProceedings(Prisoner prisoner, DateTimeOffset now)
    {
        if (
            !prisoner.Held
            || prisoner.DuplicateOf.Length > 0
            || ProceedingsClocks.OfPower(prisoner).SelectMany(Times).Any(t => Printable.At(t) is null)
        )
            yield break;
        var record = $"custody record-proceedings {Of(prisoner)}";
        if (ProceedingsClocks.IsConfined(prisoner))
            yield return new(
                prisoner.Prisoner_,
                "end his confinement before trial",
                record,
                prisoner.DetainingPower,
                "GC III 103, D12",
                ProceedingsClocks.ConfinementDue(prisoner),
                ProceedingsClocks.OfPower(prisoner).Where(p => p.ConfinedSinceTime is not null).Max(p => p.Position)
            );
        foreach (var trial in ProceedingsClocks.UnnoticedTrials(prisoner).GroupBy(p => p.TrialTime))
        {
            if (trial.Key.ToDateTimeOffset() <= now)
                continue;
            var due = ProceedingsClocks.NoticeDue(trial.First()).ToDateTimeOffset();
            // What is told later is no notice: the trial then opens later.
            var time = due < now ? "" : $" --trial-time {Shell.Word(JsonFormatter.ToDiagnosticString(trial.Key).Trim('"'))}";
            yield return new(
                prisoner.Prisoner_,
                "give notice of his trial three weeks before it opens",
                record + time,
                prisoner.DetainingPower,
                "GC III 104, D12",
                due,
                trial.Max(p => p.Position)
            );
        }
    }

    // A service that was broken into may answer with times that are none.
    private static IEnumerable<Timestamp> Times(Proceedings p) =>
        ((Timestamp?[])[p.Time, p.ConfinedSinceTime, p.ConfinementEndTime, p.CustodyPassTime, p.TrialTime]).OfType<Timestamp>();

    private static IEnumerable<Duty> OfAccess(Access access)
    {
        // No decision is owed after the end of custody, nor by a former power.
        if (access is { State: AccessState.Requested, DecisionDueTime: not null })
            yield return new(
                access.Id,
                $"decide on the access that {access.Participant} asks for",
                $"consular decide-access --access {Shell.Word(access.Id)}",
                access.DetainingPower,
                "VCCR 36, D18",
                Printable.At(access.DecisionDueTime),
                access.Acts.Select(a => (ulong?)a.Position).Max()
            );
        if (access is { State: AccessState.Granted, Kind: AccessKind.ObserverVisit, PlannedTime: { } planned, Visits.Count: 0 })
            yield return new(
                access.Id,
                "record the visit, once it took place",
                $"consular record-visit --access {Shell.Word(access.Id)}",
                access.Participant,
                "GC III 126",
                Printable.At(planned),
                access.Acts.Select(a => (ulong?)a.Position).Max()
            );
    }

    private static IEnumerable<Duty> OfPlaceVisit(PlaceVisit visit)
    {
        if (visit.State == PlaceVisitState.Notified)
            yield return new(
                visit.Id,
                "record the visit of the place, once it took place",
                $"consular record-place-visit --place-visit {Shell.Word(visit.Id)}",
                visit.Participant,
                "GC III 126",
                Printable.At(visit.PlannedTime),
                visit.Acts.Select(a => (ulong?)a.Position).Max()
            );
    }
}
