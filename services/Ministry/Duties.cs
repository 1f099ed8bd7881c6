using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Ministries.CallLog.V1;
using Ministries.Consular.V1;
using Ministries.Custody.V1;

namespace Ministries.Ministry;

/// <summary>What each record asks for next, and of whom, as far as its reader sees it. It is advice: the services decide by the rules and refuse
/// by name.</summary>
internal static class Duties
{
    /// <summary>The duties that follow from records.</summary>
    /// <param name="records">Records of any kinds.</param>
    public static IEnumerable<Duty> Of(IReadOnlyCollection<IMessage> records) =>
        records.SelectMany(r =>
            r switch
            {
                Call call => OfCall(call),
                Prisoner prisoner => OfPrisoner(prisoner, [.. records.OfType<Transfer>().Where(t => t.Prisoner == prisoner.Prisoner_)]),
                Transfer transfer => OfTransfer(transfer),
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
                commitment.Terms.Kind == CommitmentKind.RequestTransfer ? "consular submit-transfer-request" : "calllog get-call",
                commitment.Terms.Participant,
                "commitment",
                Printable.At(commitment.Terms.DueTime),
                commitment.Sayings.Select(s => (ulong?)s.Position).Max()
            );
            // The side to which it is owed says that it was kept; a request for a transfer counts by itself.
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

    private static IEnumerable<Duty> OfPrisoner(Prisoner prisoner, IReadOnlyList<Transfer> transfers)
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
        foreach (var duty in ForDeparture(prisoner, transfers, position))
            yield return duty;
    }

    // What a departure needs of custody, once somebody asked for it.
    private static IEnumerable<Duty> ForDeparture(Prisoner prisoner, IReadOnlyList<Transfer> transfers, ulong? position)
    {
        if (
            !prisoner.Held
            || prisoner.Withheld.Count > 0
            || transfers.All(t => t.State is not (TransferState.Submitted or TransferState.UnderReview))
        )
            yield break;
        var (id, of, holder) = (prisoner.Prisoner_, Of(prisoner), prisoner.DetainingPower);
        if (prisoner.Statements.All(s => s.Interview is null || s.State == StatementState.Corrected))
            yield return new(
                id,
                "hear what he wants, without witnesses",
                $"custody record-statement {of}",
                holder,
                "GC III 126, D9",
                Position: position
            );
        if (prisoner.Fitness.All(f => f.Corrected))
            yield return new(
                id,
                "have a physician say whether he may travel",
                $"custody record-fitness {of}",
                holder,
                "GC III 109, D10",
                Position: position
            );
        foreach (var destination in transfers.Select(t => t.Destination).Distinct())
            if (prisoner.RiskAssessments.All(r => r.Destination != destination || r.Corrected))
                yield return new(
                    id,
                    $"assess what awaits him in {destination}",
                    $"custody record-risk-assessment {of} --destination {Shell.Word(destination)}",
                    holder,
                    "GC III 12, D11",
                    Position: position
                );
    }

    private static string Of(Prisoner prisoner) => $"--case {Shell.Word(prisoner.Case)} --prisoner {Shell.Word(prisoner.Prisoner_)}";

    private static IEnumerable<Duty> OfTransfer(Transfer t)
    {
        var position = t.Acts.Select(a => (ulong?)a.Position).Max();
        var (holder, of) = (t.DetainingPower, $"--transfer {Shell.Word(t.Id)}");
        switch (t.State)
        {
            case TransferState.Drafted:
                yield return Do("submit the drafted request, or discard it", "submit-transfer-request", t.Participant);
                break;
            case TransferState.Submitted:
                yield return Do("review the request", "begin-review", holder);
                break;
            case TransferState.UnderReview:
                if (!t.Withheld.Contains("assurance") && (t.Assurance is null || t.Assurance.Corrected || t.Assurance.Expired))
                    yield return Do("give the receiving state's assurance", "give-assurance", t.AcceptingPower, "GC III 12(2), D2");
                if (
                    !t.Withheld.Contains("assessment")
                    && t.Route is Types.V1.Route.Article12Transfer or Types.V1.Route.NeutralAccommodation
                    && (t.Assessment is null || t.Assessment.Corrected || t.Assessment.Expired)
                )
                    yield return Do(
                        "assess whether the receiving state is willing and able",
                        "record-transferee-assessment",
                        holder,
                        "GC III 12(2), D2"
                    );
                yield return Do("decide on the request", "decide-transfer", holder, "GC III 12");
                break;
            case TransferState.Agreed:
                yield return Do("schedule the hand-over", "schedule-handover", holder);
                break;
            case TransferState.Scheduled:
                yield return Do("begin the transit", "begin-transit", holder, due: t.Plan?.WindowStartTime);
                break;
            case TransferState.InTransit:
                if (t.Confirmations.All(c => c.Side != HandoverSide.Giving))
                    yield return Do("confirm the hand-over", "confirm-handover", holder, "GC III 12, D1", t.SecondConfirmationDueTime);
                if (t.Confirmations.All(c => c.Side != HandoverSide.Taking))
                    yield return Do(
                        "confirm the hand-over",
                        "confirm-handover",
                        t.AcceptingPower,
                        "GC III 12, D1",
                        t.SecondConfirmationDueTime
                    );
                break;
            case TransferState.Suspended:
                yield return Do("resume or decline what is suspended", "resume-transfer", holder);
                break;
            // The request was withdrawn. What the other side said of it can still be answered.
            case TransferState.Monitored when t.SecondConfirmationDueTime is not null:
                yield return Do("confirm the return", "confirm-return", holder, "GC III 12, D1", t.SecondConfirmationDueTime);
                break;
            // Nobody returns one whom nobody holds.
            case TransferState.ReturnRequested when t.ReturnDueTime is not null:
                yield return Do("confirm the return", "confirm-return", t.ReturningPower, "GC III 12(3)", t.ReturnDueTime);
                break;
        }
        // A power that has him back answers for him itself, and to request return is to do something about a failure.
        if (t.State is TransferState.ReturnRequested || t.ReturnTime is not null)
            yield break;
        foreach (var failure in t.Failures.Where(f => !f.Corrected && f.Measures.All(m => m.Corrected)))
            yield return Do(
                "record measures, or request return",
                "record-corrective-measures",
                holder,
                "GC III 12(3)",
                failure.MeasuresDueTime
            ) with
            {
                Command = $"consular record-corrective-measures {of} --failure {Shell.Word(failure.Id)}",
                Position = failure.Position,
            };

        Duty Do(string what, string verb, string who, string law = "", Timestamp? due = null) =>
            new(t.Id, what, $"consular {verb} {of}", who, law, Printable.At(due), position);
    }

    private static IEnumerable<Duty> OfAccess(Access access)
    {
        // No decision is owed after the end of custody, nor by a power that held him before.
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
