using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Ministries.Consular.V1;
using Ministries.Custody.V1;
using Ministries.Types.V1;

namespace Ministries.Ministry;

/// <summary>What a departure asks for next: of both sides of a transfer request, and of the power that holds the person. What the departure
/// rests on is renewed before its validity ends, for as long as custody has not passed.</summary>
internal static class DepartureDuties
{
    private static readonly TransferState[] BeforeHandover =
    [
        TransferState.Submitted,
        TransferState.UnderReview,
        TransferState.Agreed,
        TransferState.Scheduled,
        TransferState.InTransit,
        TransferState.Suspended,
    ];

    /// <summary>What a departure needs of custody, once somebody asked for it (D9 to D11).</summary>
    /// <param name="prisoner">The person.</param>
    /// <param name="records">All records: the transfer requests, and the person's other records.</param>
    public static IEnumerable<Duty> OfCustody(Prisoner prisoner, IReadOnlyCollection<IMessage> records)
    {
        // Whoever may not know the state may not know what is recorded either.
        if (!prisoner.Held || prisoner.DuplicateOf.Length > 0 || prisoner.Withheld.Contains("state"))
            return [];
        Prisoner[] person =
        [
            prisoner,
            .. records.OfType<Prisoner>().Where(p => p.Case == prisoner.Case && p.DuplicateOf == prisoner.Prisoner_),
        ];
        var destinations = records
            .OfType<Transfer>()
            .Where(t => t.Case == prisoner.Case && person.Any(p => p.Prisoner_ == t.Prisoner))
            .Where(t => BeforeHandover.Contains(t.State) && IsPlanned(t))
            .Select(t => t.Destination)
            .Distinct()
            .ToArray();
        return destinations.Length == 0 ? [] : [.. OfWord(person), .. OfFitness(person), .. OfRisk(person, destinations)];
    }

    // The latest verified word counts. One that waits for its attestations is asked for at those who are to attest it.
    private static IEnumerable<Duty> OfWord(Prisoner[] person)
    {
        var heard = person
            .SelectMany(p => p.Statements)
            .Where(s => s.Interview is not null && s.State != StatementState.Corrected)
            .OrderBy(s => (Printable.At(s.StatementTime ?? s.RecordTime), s.Position))
            .ToArray();
        if (heard.LastOrDefault(s => s.State == StatementState.Attested) is { } word)
            yield return Asked("hear again what he wants, before his word runs out", word.ExpireTime, word.Position);
        else if (heard.All(s => s.Attestations.Any(a => a.RevokeTime is not null)))
            yield return Asked("hear what he wants, without witnesses");

        Duty Asked(string what, Timestamp? due = null, ulong? position = null) =>
            Do(person[0], what, $"record-statement {Duties.Of(person[0])}", "GC III 126, D9", due, position);
    }

    // The latest examination counts, and none before he came to hospital.
    private static IEnumerable<Duty> OfFitness(Prisoner[] person)
    {
        var latest = person
            .SelectMany(p => p.Fitness)
            .Where(f => !f.Corrected && (!f.Fit || f.RecordedFor == person[0].LastDetainingPower))
            .MaxBy(f => (Printable.At(f.ExamineTime ?? f.ExpireTime), f.Position));
        var since = person
            .SelectMany(p => p.Statuses)
            .Any(s => s is { Corrected: false, State: CustodyState.Hospitalised } && s.Time >= latest?.ExamineTime);
        yield return latest is null || since
            ? Asked("have a physician say whether he may travel")
            : Asked("have a physician say again whether he may travel", latest.ExpireTime, latest.Position);

        Duty Asked(string what, Timestamp? due = null, ulong? position = null) =>
            Do(person[0], what, $"record-fitness {Duties.Of(person[0])}", "GC III 109, D10", due, position);
    }

    // Assessments are for the power that made them alone: observers see none, whatever there is. They see what all powers recorded
    // otherwise.
    private static IEnumerable<Duty> OfRisk(Prisoner[] person, string[] destinations)
    {
        if (person[0].Withheld.Contains("risk_assessments") && !person[0].Withheld.Contains("fitness"))
            yield break;
        foreach (var destination in destinations)
        {
            var latest = person
                .SelectMany(p => p.RiskAssessments)
                .Where(r => !r.Corrected && r.Destination == destination && r.RecordedFor == person[0].LastDetainingPower)
                .MaxBy(r => (Printable.At(r.AssessTime ?? r.ExpireTime), r.Position));
            yield return Do(
                person[0],
                $"assess {(latest is null ? "" : "again ")}what awaits him in {destination}",
                $"record-risk-assessment {Duties.Of(person[0])} --destination {Shell.Word(destination)}",
                "GC III 12, D11",
                latest?.ExpireTime,
                latest?.Position
            );
        }
    }

    private static Duty Do(Prisoner prisoner, string what, string command, string law, Timestamp? due, ulong? position) =>
        new(
            prisoner.Prisoner_,
            what,
            $"custody {command}",
            prisoner.DetainingPower,
            law,
            Printable.At(due),
            position ?? prisoner.Entries.Select(e => (ulong?)e.Position).Max()
        );

    /// <summary>What a transfer request asks for.</summary>
    /// <param name="transfer">The request.</param>
    public static IEnumerable<Duty> Of(Transfer transfer) => [.. OfStage(transfer), .. OfValidity(transfer), .. OfFailures(transfer)];

    private static IEnumerable<Duty> OfStage(Transfer t)
    {
        var holder = t.DetainingPower;
        switch (t.State)
        {
            case TransferState.Drafted:
                yield return Do(t, "submit the drafted request, or discard it", "submit-transfer-request", t.Participant);
                break;
            case TransferState.Submitted:
                yield return Do(t, "review the request", "begin-review", holder);
                break;
            case TransferState.UnderReview:
                yield return Do(t, "decide on the request", "decide-transfer", holder, "GC III 12");
                break;
            case TransferState.Agreed:
                yield return Do(t, "schedule the hand-over", "schedule-handover", holder);
                break;
            case TransferState.Scheduled:
                yield return Do(t, "begin the transit", "begin-transit", holder, due: t.Plan?.WindowStartTime);
                break;
            case TransferState.InTransit:
                foreach (var (side, power) in new[] { (HandoverSide.Giving, holder), (HandoverSide.Taking, t.AcceptingPower) })
                    if (t.Confirmations.All(c => c.Side != side))
                        yield return Do(
                            t,
                            "confirm the hand-over",
                            "confirm-handover",
                            power,
                            "GC III 12, D1",
                            t.SecondConfirmationDueTime
                        );
                break;
            case TransferState.Suspended:
                yield return Do(t, "resume or decline what is suspended", "resume-transfer", holder);
                break;
            // The request was withdrawn. What the other side said of it can still be answered.
            case TransferState.Monitored when t.SecondConfirmationDueTime is not null:
                yield return Do(t, "confirm the return", "confirm-return", holder, "GC III 12, D1", t.SecondConfirmationDueTime);
                break;
            // Nobody returns one whom nobody holds.
            case TransferState.ReturnRequested when t.ReturnDueTime is not null:
                yield return Do(t, "confirm the return", "confirm-return", t.ReturningPower, "GC III 12(3)", t.ReturnDueTime);
                break;
        }
    }

    // What the receiving side's word and the assessment of it are asked for under review, and renewed before they end. A request that was
    // agreed to without an assurance needs none: he goes home.
    private static IEnumerable<Duty> OfValidity(Transfer t)
    {
        if (!BeforeHandover.Contains(t.State))
            yield break;
        const string Law = "GC III 12(2), D2";
        var reviewed = t.State == TransferState.UnderReview;
        if (IsPlanned(t) && !t.Withheld.Contains("assurance"))
        {
            if (t.Assurance is { Corrected: false } given)
                yield return Renew(
                    "renew the receiving state's assurance",
                    "give-assurance",
                    t.AcceptingPower,
                    given.ExpireTime,
                    given.Position
                );
            else if (reviewed || t.Assurance is not null)
                yield return Do(t, "give the receiving state's assurance", "give-assurance", t.AcceptingPower, Law);
        }
        // Before the review nobody assesses it.
        if (t.State == TransferState.Submitted || !t.Route.PassesCustody() || t.Withheld.Contains("assessment"))
            yield break;
        const string Verb = "record-transferee-assessment";
        if (t.Assessment is { Corrected: false } made)
            yield return Renew(
                "assess again whether the receiving state is willing and able",
                Verb,
                t.DetainingPower,
                made.ExpireTime,
                made.Position
            );
        else if (reviewed || t.Assessment is not null)
            yield return Do(t, "assess whether the receiving state is willing and able", Verb, t.DetainingPower, Law);

        Duty Renew(string what, string verb, string who, Timestamp? due, ulong position) =>
            Do(t, what, verb, who, Law, due) with
            {
                Position = position,
            };
    }

    // A power that has him back answers for him itself, and to request return is to do something about a failure.
    private static IEnumerable<Duty> OfFailures(Transfer t) =>
        t.State is TransferState.ReturnRequested || t.ReturnTime is not null
            ? []
            : t
                .Failures.Where(f => !f.Corrected && f.Measures.All(m => m.Corrected))
                .Select(failure =>
                    Do(
                        t,
                        "record measures, or request return",
                        "record-corrective-measures",
                        t.DetainingPower,
                        "GC III 12(3)",
                        failure.MeasuresDueTime,
                        $" --failure {Shell.Word(failure.Id)}"
                    ) with
                    {
                        Position = failure.Position,
                    }
                );

    private static Duty Do(Transfer t, string what, string verb, string who, string law = "", Timestamp? due = null, string options = "") =>
        new(
            t.Id,
            what,
            $"consular {verb} --transfer {Shell.Word(t.Id)}{options}",
            who,
            law,
            Printable.At(due),
            t.Acts.Select(a => (ulong?)a.Position).Max()
        );

    // A release where he is held is no departure.
    private static bool IsPlanned(Transfer t) => !(t.Route == Route.Release && t.Destination == t.DetainingPower);
}
