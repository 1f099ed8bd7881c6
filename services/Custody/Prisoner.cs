using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Ministries.Consular.V1;
using Ministries.Custody.V1;
using Ministries.Errors.V1;
using Ministries.Hosting;
using Ministries.Ledger;
using Ministries.Ledger.V1;
using Ministries.Trust;
using Ministries.Types.V1;
using CorrectRecordRequest = Ministries.Custody.V1.CorrectRecordRequest;
using CorrectRecordResponse = Ministries.Custody.V1.CorrectRecordResponse;
using DutyFellDue = Ministries.Custody.V1.DutyFellDue;
using RecordCorrected = Ministries.Custody.V1.RecordCorrected;
using Route = Ministries.Types.V1.Route;

namespace Ministries.Custody;

/// <summary>
/// Prisoners: custody status, claims, what a departure needs, whom to notify, corrections. CAPTURED → REGISTERED → INTERNED ⇄
/// HOSPITALISED, from each of these HOSPITALISED; IN_TRANSIT and back by hand-overs alone; ESCAPED ⇄ RECAPTURED; at the end
/// RELEASED, REPATRIATED, ACCOMMODATED_IN_NEUTRAL_COUNTRY, DIED. Only the detaining power writes (D4); custody passes when both
/// sides confirmed a hand-over (D1), see <see cref="Reactions"/>. Escapes, recaptures and deaths are facts and are never
/// refused.
/// </summary>
public static class Prisoners
{
    /// <summary>The greatest number of prisoners of a case.</summary>
    public const int MaxPrisoners = 64;

    /// <summary>The greatest number of records linked to one as duplicates.</summary>
    public const int MaxDuplicates = 8;

    /// <summary>The size in bytes from which a record takes nothing but facts, notifications and corrections.</summary>
    public const int FullAt = 2 << 20;

    /// <summary>The size in bytes from which a record takes facts and corrections alone.</summary>
    public const int FullForNotificationsAt = 6 << 20;

    /// <summary>How often the health of the seriously ill or wounded is reported (GC III 122): weekly.</summary>
    public static readonly TimeSpan HealthEvery = TimeSpan.FromDays(7);

    /// <summary>How long a risk assessment may hold: 365 days.</summary>
    public static readonly TimeSpan LongestAssessment = TimeSpan.FromDays(365);

    /// <summary>How long a record of fitness may hold: 90 days.</summary>
    public static readonly TimeSpan LongestFitness = TimeSpan.FromDays(90);

    /// <summary>The stream of prisoners.</summary>
    public static readonly StreamKind<Prisoner> Kind = new(
        "prisoner",
        1,
        Apply,
        p => [Audience.Case(p.Case)],
        p => p.Held ? [CaseKey(p.Case), HeldKey(true)] : [CaseKey(p.Case)],
        Duties.DueOf
    );

    /// <summary>The record's key among prisoners.</summary>
    public static string KeyOf(string @case, string prisoner) => $"{@case}/{prisoner}";

    /// <summary>The key under which the prisoners of a case are listed; empty: of every case.</summary>
    public static string CaseKey(string @case) => @case.Length == 0 ? "" : $"case:{@case}";

    /// <summary>The key under which those are listed who are held; empty: all.</summary>
    public static string HeldKey(bool held) => held ? "held:true" : "";

    /// <summary>Whether a status is one of custody.</summary>
    public static bool InCustody(CustodyState state) =>
        state switch
        {
            CustodyState.Captured
            or CustodyState.Registered
            or CustodyState.Interned
            or CustodyState.Hospitalised
            or CustodyState.InTransit
            or CustodyState.Recaptured => true,
            CustodyState.Unspecified
            or CustodyState.Escaped
            or CustodyState.Released
            or CustodyState.Repatriated
            or CustodyState.AccommodatedInNeutralCountry
            or CustodyState.Died => false,
        };

    /// <summary>Whether a status may be recorded after another.</summary>
    /// <param name="from">The status that it follows; unspecified where its entry was erased.</param>
    /// <param name="to">The status to record.</param>
    public static bool Leads(CustodyState from, CustodyState to) =>
        (from, to) switch
        {
            // Where the status is no longer known, each can be the next but those that are never recorded.
            (CustodyState.Unspecified, _) => to is not (CustodyState.Unspecified or CustodyState.InTransit or CustodyState.Captured),
            // Facts. A record of death that was wrong is corrected.
            (not CustodyState.Died, CustodyState.Died or CustodyState.Escaped or CustodyState.Recaptured) => true,
            (CustodyState.Captured, CustodyState.Registered) => true,
            (CustodyState.Registered or CustodyState.Hospitalised or CustodyState.Recaptured, CustodyState.Interned) => true,
            (
                CustodyState.Captured
                    or CustodyState.Registered
                    or CustodyState.Interned
                    or CustodyState.InTransit
                    or CustodyState.Recaptured,
                CustodyState.Hospitalised
            ) => true,
            (_, CustodyState.Released or CustodyState.Repatriated or CustodyState.AccommodatedInNeutralCountry) => InCustody(from),
            _ => false,
        };

    /// <summary>Registers a prisoner: the case's detaining power answers for him from now on. The reference by which all others know
    /// him is the service's, so that nobody can put into it what he must not know (D16).</summary>
    public static Decision Register(View view, RegisterPrisonerRequest request, RuleContext act)
    {
        var @case = view.Find(Cases.Kind, request.Case);
        if (Gate.Check(act, request, @case) is { } refusal)
            return refusal;
        if (Gate.Saw(act, request.Etag, CaseRules.Show(@case!, CaseRules.ReaderOf(act.Caller, @case!))) is { } stale)
            return stale;
        if (@case!.Prisoners.Count >= MaxPrisoners)
            return Decision.Refuse(Reason.RecordFull);
        if (request.Status is not (CustodyState.Captured or CustodyState.Registered or CustodyState.Interned or CustodyState.Hospitalised))
            return Decision.Refuse(Reason.StateNotAllowed);
        if (request.CaptureTime.ToDateTimeOffset() > act.Now)
            return Decision.Refuse(Reason.TimeOutOfRange, ("field", "capture_time"));
        var registered = new PrisonerRegistered
        {
            Case = @case.Id,
            Prisoner = act.NewId("pris"),
            DetainingPower = act.Caller.State,
            BureauDueTime = BureauDue(act),
        };
        return Decision.Accept(
            @case.Id,
            [Audience.Case(@case.Id)],
            [new Change(registered, [Cases.Kind.Id(@case.Id), Kind.Id(KeyOf(@case.Id, registered.Prisoner))])],
            Answer<RegisterPrisonerResponse>(
                @case,
                registered.Prisoner,
                act,
                (_, shown, etag) =>
                    new()
                    {
                        Prisoner = shown.Prisoner_,
                        Etag = etag,
                        State = shown.State,
                    }
            )
        );
    }

    /// <summary>Records a custody status. A departure that breaches an invariant is refused unless it took place all the same;
    /// facts that do not fit the record are marked with D1.</summary>
    public static Decision RecordStatus(View view, RecordStatusRequest request, RuleContext act)
    {
        if (
            Open(view, act, request, request.Case, request.Prisoner, request.Etag, out var @case, out var prisoner, closedToo: true) is
            { } refusal
        )
            return refusal;
        if (!Leads(prisoner.State, request.Status))
            return Decision.Refuse(Reason.StateNotAllowed);
        var departs = RouteOf(request.Status) is not Route.Unspecified;
        if (departs != request.Destination.Length > 0)
            return Invalid("destination", departs ? "is required with this status" : "does not go with this status");
        if (request.Serious && request.Status != CustodyState.Hospitalised)
            return Invalid("serious", "does not go with this status");
        if (request.EscapeSucceeded && request.Status != CustodyState.Escaped)
            return Invalid("escape_succeeded", "does not go with this status");
        var time = request.StatusTime.ToDateTimeOffset();
        if (time > act.Now || time < prisoner.CaptureTime?.ToDateTimeOffset())
            return Decision.Refuse(Reason.TimeOutOfRange, ("field", "status_time"));
        var fact = request.Status is CustodyState.Died or CustodyState.Escaped or CustodyState.Recaptured;
        if (!fact && Full(prisoner))
            return Decision.Refuse(Reason.RecordFull);

        Invariant[] breaches = [];
        if (departs)
        {
            var records = Records(view, prisoner);
            breaches = Breaches(records, RouteOf(request.Status), request.Destination, act);
            foreach (var breach in breaches)
                if (!request.AcknowledgedBreaches.Contains(breach))
                    return Decision.Refuse(
                        breach switch
                        {
                            Invariant.D9 => Reason.DepartureWithoutStanding,
                            Invariant.D10 => Reason.DepartureWithoutFitness,
                            Invariant.D11 => Reason.DepartureWithoutRiskAssessment,
                            _ => Reason.DepartureDuringProceedings,
                        }
                    );
        }
        else if (fact && !Fits(prisoner, request))
            breaches = [Invariant.D1];

        var (held, ended) = After(request.Status, request.EscapeSucceeded);
        var recorded = StatusOf(prisoner, act, held, ended);
        recorded.Breaches.Add(breaches);
        return Decision.Accept(
            @case.Id,
            SideOf(prisoner, everybody: held != prisoner.Held),
            [new Change(recorded, [Cases.Kind.Id(@case.Id), IdOf(prisoner)])],
            Answer<RecordStatusResponse>(
                @case,
                prisoner,
                act,
                (_, shown, etag) =>
                    new()
                    {
                        Prisoner = shown.Prisoner_,
                        Etag = etag,
                        State = shown.State,
                    }
            )
        );
    }

    /// <summary>Records what criminal proceedings mean for a departure (D12).</summary>
    public static Decision RecordProceedings(View view, RecordProceedingsRequest request, RuleContext act)
    {
        if (
            Open(view, act, request, request.Case, request.Prisoner, request.Etag, out var @case, out var prisoner, inCustody: true) is
            { } refusal
        )
            return refusal;
        if (request.Delay && request.Reason.Length == 0)
            return Decision.Refuse(Reason.ProceedingsReasonMissing);
        if (Full(prisoner))
            return Decision.Refuse(Reason.RecordFull);
        return Decision.Accept(
            @case.Id,
            SideOf(prisoner),
            [new Change(StatusOf(prisoner, act, prisoner.Held, prisoner.Ended), [Cases.Kind.Id(@case.Id), IdOf(prisoner)])],
            Answer<RecordProceedingsResponse>(
                @case,
                prisoner,
                act,
                (_, shown, etag) =>
                    new()
                    {
                        Prisoner = shown.Prisoner_,
                        Etag = etag,
                        State = shown.State,
                    }
            )
        );
    }

    /// <summary>Records a claim to the person beside those that are there (D5).</summary>
    public static Decision RecordClaim(View view, RecordClaimRequest request, RuleContext act)
    {
        if (Open(view, act, request, request.Case, request.Prisoner, request.Etag, out var @case, out var prisoner) is { } refusal)
            return refusal;
        if (act.Caller.State != prisoner.LastDetainingPower && act.Caller.State != request.Claimant)
            return Decision.Refuse(Reason.ClaimNotOwn);
        if (Full(prisoner))
            return Decision.Refuse(Reason.RecordFull);
        var id = act.NewId("claim");
        return Decision.Accept(
            @case.Id,
            SideOf(prisoner),
            [
                new Change(
                    new ClaimRecorded
                    {
                        Case = @case.Id,
                        Prisoner = prisoner.Prisoner_,
                        Claim = id,
                    },
                    [IdOf(prisoner)]
                ),
            ],
            Answer<RecordClaimResponse>(
                @case,
                prisoner,
                act,
                (_, shown, etag) =>
                    new()
                    {
                        Prisoner = shown.Prisoner_,
                        Etag = etag,
                        State = shown.State,
                        Claim = id,
                    }
            )
        );
    }

    /// <summary>Records a risk assessment; the actor answers for it (D11).</summary>
    public static Decision RecordRiskAssessment(View view, RecordRiskAssessmentRequest request, RuleContext act)
    {
        if (
            Open(view, act, request, request.Case, request.Prisoner, request.Etag, out var @case, out var prisoner, inCustody: true) is
            { } refusal
        )
            return refusal;
        if (!Valid(request.AssessTime, request.ExpireTime, LongestAssessment, prisoner, act))
            return Decision.Refuse(Reason.TimeOutOfRange, ("field", "assess_time, expire_time"));
        if (Full(prisoner))
            return Decision.Refuse(Reason.RecordFull);
        var id = act.NewId("assessment");
        return Decision.Accept(
            @case.Id,
            [Audience.State(@case.Id, prisoner.LastDetainingPower)],
            [
                new Change(
                    new RiskAssessmentRecorded
                    {
                        Case = @case.Id,
                        Prisoner = prisoner.Prisoner_,
                        Assessment = id,
                    },
                    [IdOf(prisoner)]
                ),
            ],
            Answer<RecordRiskAssessmentResponse>(
                @case,
                prisoner,
                act,
                (_, shown, etag) =>
                    new()
                    {
                        Prisoner = shown.Prisoner_,
                        Etag = etag,
                        State = shown.State,
                        Assessment = id,
                    }
            )
        );
    }

    /// <summary>Records whether the prisoner may travel (D10).</summary>
    public static Decision RecordFitness(View view, RecordFitnessRequest request, RuleContext act)
    {
        if (
            Open(view, act, request, request.Case, request.Prisoner, request.Etag, out var @case, out var prisoner, inCustody: true) is
            { } refusal
        )
            return refusal;
        if (!Valid(request.ExamineTime, request.ExpireTime, LongestFitness, prisoner, act))
            return Decision.Refuse(Reason.TimeOutOfRange, ("field", "examine_time, expire_time"));
        if (Full(prisoner))
            return Decision.Refuse(Reason.RecordFull);
        var id = act.NewId("fitness");
        return Decision.Accept(
            @case.Id,
            SideOf(prisoner),
            [
                new Change(
                    new FitnessRecorded
                    {
                        Case = @case.Id,
                        Prisoner = prisoner.Prisoner_,
                        Fitness = id,
                    },
                    [IdOf(prisoner)]
                ),
            ],
            Answer<RecordFitnessResponse>(
                @case,
                prisoner,
                act,
                (_, shown, etag) =>
                    new()
                    {
                        Prisoner = shown.Prisoner_,
                        Etag = etag,
                        State = shown.State,
                        Fitness = id,
                    }
            )
        );
    }

    /// <summary>Records a notification and hands on its data (D14, D15).</summary>
    public static Decision Notify(View view, NotifyBureauRequest request, RuleContext act)
    {
        if (
            Open(
                view,
                act,
                request,
                request.Case,
                request.Prisoner,
                request.Etag,
                out var @case,
                out var prisoner,
                closedToo: true,
                duplicateToo: true
            ) is
            { } refusal
        )
            return refusal;
        var holds = act.Caller.State == prisoner.LastDetainingPower;
        var owed =
            request.Occurrence == 0
                ? holds
                : prisoner.Occurrences.Any(o => o.Occurrence_ == request.Occurrence && o.OwedBy == act.Caller.State && IsOwed(o))
                    && (holds || !request.HealthReport);
        if (!owed)
            return Decision.Refuse(Reason.OccurrenceNotOwed);
        var recipients = request.Data.Recipients;
        if (!recipients.Any(r => act.Permissions.Participant(r)?.Kind == ParticipantKind.NeutralObserver))
            return Decision.Refuse(Reason.TracingAgencyMissing);
        var others = recipients
            .Where(r => r != act.Caller.Id && act.Permissions.Participant(r)?.Kind != ParticipantKind.NeutralObserver)
            .ToHashSet();
        // What is withheld from the power of origin is not handed to its organs either.
        if (
            !others.SetEquals(request.Releases.Select(r => r.Recipient))
            || request.Disclosure == Disclosure.Withheld
                && request.PowerOfOrigin.Length > 0
                && others.Any(r => act.Permissions.Participant(r)?.State == request.PowerOfOrigin)
        )
            return Decision.Refuse(Reason.ReleaseNotNamed);
        if (prisoner.CalculateSize() >= FullForNotificationsAt)
            return Decision.Refuse(Reason.RecordFull);
        var id = act.NewId("notification");
        var notified = new BureauNotified
        {
            Case = @case.Id,
            Prisoner = prisoner.Prisoner_,
            Notification = id,
            State = act.Caller.State,
        };
        return Decision.Accept(
            @case.Id,
            [
                Audience.State(@case.Id, act.Caller.State),
                Audience.Observers(@case.Id),
                .. request.Releases.Select(r => Audience.Of(r.Recipient)),
            ],
            [new Change(notified, [IdOf(prisoner)])],
            Answer<NotifyBureauResponse>(
                @case,
                prisoner,
                act,
                (_, shown, etag) =>
                    new()
                    {
                        Prisoner = shown.Prisoner_,
                        Etag = etag,
                        State = shown.State,
                        Notification = id,
                    }
            )
        );
    }

    /// <summary>Links two references of one person: the first is no longer kept, what he said in either counts for the
    /// other.</summary>
    public static Decision LinkDuplicate(View view, LinkDuplicateRequest request, RuleContext act)
    {
        if (Open(view, act, request, request.Case, request.Prisoner, request.Etag, out var @case, out var prisoner) is { } refusal)
            return refusal;
        if (request.SameAsPrisoner == request.Prisoner)
            return Invalid("same_as_prisoner", "must be another reference");
        if (Open(view, act, request, request.Case, request.SameAsPrisoner, null, out _, out var kept) is { } other)
            return other;
        if (prisoner.Duplicates.Count > 0)
            return Decision.Refuse(Reason.DuplicateRecord);
        if (kept.Duplicates.Count >= MaxDuplicates || Full(prisoner))
            return Decision.Refuse(Reason.RecordFull);
        var linked = new DuplicateLinked
        {
            Case = @case.Id,
            Prisoner = prisoner.Prisoner_,
            SameAsPrisoner = kept.Prisoner_,
        };
        return Decision.Accept(
            @case.Id,
            [Audience.Case(@case.Id)],
            [
                new Change(linked, [IdOf(prisoner), IdOf(kept)]),
                new Change(StatusOf(prisoner, act, held: false, ended: true), [Cases.Kind.Id(@case.Id), IdOf(prisoner)]),
            ],
            Answer<LinkDuplicateResponse>(
                @case,
                prisoner,
                act,
                (_, shown, etag) =>
                    new()
                    {
                        Prisoner = shown.Prisoner_,
                        Etag = etag,
                        State = shown.State,
                    }
            )
        );
    }

    /// <summary>Corrects an entry of the caller's own: it no longer counts, and neither does what rested on it.</summary>
    public static Decision Correct(View view, CorrectRecordRequest request, RuleContext act)
    {
        if (
            Open(
                view,
                act,
                request,
                request.Case,
                request.Prisoner,
                request.Etag,
                out var @case,
                out var prisoner,
                closedToo: true,
                duplicateToo: true
            ) is
            { } refusal
        )
            return refusal;
        if (
            prisoner.Entries.FirstOrDefault(e => e.Position == request.Position) is not { Corrected: false } mark
            || mark.Participant != act.Caller.Id
        )
            return Decision.Refuse(Reason.NotCorrectable);
        var corrected = new RecordCorrected
        {
            Case = @case.Id,
            Prisoner = prisoner.Prisoner_,
            Position = request.Position,
            Participant = act.Caller.Id,
        };
        var streams = new List<StreamId> { IdOf(prisoner) };
        var audience = SideOf(prisoner);
        if (mark.Statement.Length > 0)
        {
            if (view.Find(Statements.Kind, mark.Statement) is not { } statement)
                return Decision.Refuse(Reason.NotFound);
            streams.Add(Statements.Kind.Id(mark.Statement));
            audience = [.. Statements.AudienceOf(statement)];
        }
        if (mark.OtherPrisoner.Length > 0)
        {
            if (view.Find(Kind, KeyOf(@case.Id, mark.OtherPrisoner)) is not { } other)
                return Decision.Refuse(Reason.NotFound);
            streams.Add(IdOf(other));
            audience = [Audience.Case(@case.Id)];
        }
        var changes = new List<Change> { new(corrected, streams) };
        var before = prisoner.Clone();
        Mend(before, corrected);
        var (held, ended) = before.DuplicateOf.Length > 0 ? (false, true) : CustodyOf(before);
        if (held != prisoner.Held || ended != prisoner.Ended)
        {
            changes.Add(new Change(StatusOf(prisoner, act, held, ended), [Cases.Kind.Id(@case.Id), IdOf(prisoner)]));
            audience = [Audience.Case(@case.Id)];
        }
        return Decision.Accept(
            @case.Id,
            audience,
            changes,
            Answer<CorrectRecordResponse>(
                @case,
                prisoner,
                act,
                (_, shown, etag) =>
                    new()
                    {
                        Prisoner = shown.Prisoner_,
                        Etag = etag,
                        State = shown.State,
                    }
            )
        );
    }

    /// <summary>What custody has recorded for a departure beside standing (D1, D10, D11, D12); the position is left to the
    /// caller.
    /// </summary>
    /// <param name="records">The prisoner's record and those of the same person that are no longer kept.</param>
    /// <param name="destination">The destination (ISO 3166-1 alpha-2).</param>
    /// <param name="at">The time.</param>
    public static CheckReadinessResponse ReadinessOf(IReadOnlyList<Prisoner> records, string destination, DateTimeOffset at)
    {
        var prisoner = records[0];
        if (prisoner.Identity is null)
            return new CheckReadinessResponse();
        var power = prisoner.LastDetainingPower;
        var assessment = prisoner.RiskAssessments.LastOrDefault(a =>
            !a.Corrected && a.RecordedFor == power && a.Destination == destination
        );
        var fitness = prisoner.Fitness.LastOrDefault(f => !f.Corrected && f.RecordedFor == power);
        var admitted = prisoner.Statuses.LastOrDefault(s => !s.Corrected && s.State == CustodyState.Hospitalised);
        var proceedings = prisoner.Proceedings.LastOrDefault(p => !p.Corrected && p.RecordedFor == power);
        return new CheckReadinessResponse
        {
            RiskAssessed = assessment is { Finding: RiskFinding.NoSubstantialRisk } && assessment.ExpireTime.ToDateTimeOffset() > at,
            FitRecorded =
                fitness is { Fit: true } && fitness.ExpireTime.ToDateTimeOffset() > at && !(admitted?.Position > fitness.Position),
            FreeToDepart = prisoner.Held && proceedings is not { Delay: true },
        };
    }

    /// <summary>The invariants that a departure would breach, in the order in which they are refused: D1, D9, D10, D11, D12. A
    /// release where he is held is no departure and breaches none.</summary>
    internal static Invariant[] Breaches(IReadOnlyList<Prisoner> records, Route route, string destination, RuleContext act)
    {
        var prisoner = records[0];
        if (route == Route.Release && destination == prisoner.LastDetainingPower)
            return [];
        var standing = Statements.StandingOf(records, route, destination, act.Now, act.Permissions).Standing;
        var ready = ReadinessOf(records, destination, act.Now);
        return
        [
            .. prisoner.Held ? (Invariant[])[] : [Invariant.D1],
            .. standing == V1.Standing.InForce ? (Invariant[])[] : [Invariant.D9],
            .. ready.FitRecorded ? (Invariant[])[] : [Invariant.D10],
            .. ready.RiskAssessed ? (Invariant[])[] : [Invariant.D11],
            .. ready.FreeToDepart || !prisoner.Held ? (Invariant[])[] : [Invariant.D12],
        ];
    }

    /// <summary>The prisoner's record and those of the same person that are no longer kept, whose statements count too.</summary>
    internal static IReadOnlyList<Prisoner> Records(View view, Prisoner prisoner) =>
        [prisoner, .. prisoner.Duplicates.Select(d => view.Find(Kind, KeyOf(prisoner.Case, d))).OfType<Prisoner>()];

    /// <summary>
    /// A prisoner as a reader sees it (D22): every party to the case the reference, who answers for him and whether he is held;
    /// the power that holds him, those that held him and the observers what their part allows; anybody what it recorded itself
    /// or what was released to it.
    /// </summary>
    public static Prisoner Show(Prisoner prisoner, Reader reader)
    {
        var id = reader.Participant.Id;
        bool Of(string state) => state.Length > 0 && reader.Tokens.Contains(Audience.State(prisoner.Case, state));
        var power = Of(prisoner.LastDetainingPower);
        var observer = reader.Tokens.Contains(Audience.Observers(prisoner.Case));
        var shown = new Prisoner
        {
            Case = prisoner.Case,
            Prisoner_ = prisoner.Prisoner_,
            DetainingPower = prisoner.DetainingPower,
            LastDetainingPower = prisoner.LastDetainingPower,
            TransferringPower = prisoner.TransferringPower,
            Held = prisoner.Held,
            DuplicateOf = prisoner.DuplicateOf,
        };
        if (power || observer)
        {
            shown.State = prisoner.State;
            shown.Ended = prisoner.Ended;
            shown.RegisterTime = prisoner.RegisterTime;
            shown.CaptureTime = prisoner.CaptureTime;
            shown.Under18 = prisoner.Under18;
            shown.Serious = prisoner.Serious;
            shown.HealthDueTime = prisoner.HealthDueTime;
            shown.Duplicates.Add(prisoner.Duplicates);
        }
        else
            shown.Withheld.Add(["state", "ended", "register_time", "capture_time", "under_18", "serious", "health_due_time", "duplicates"]);
        if (power || observer || prisoner.Identity?.Recipients.Contains(id) == true || prisoner.IdentityParticipant == id)
        {
            shown.Identity = Seals.Show(prisoner.Identity, prisoner.IdentityParticipant, id);
            shown.IdentityParticipant = prisoner.IdentityParticipant;
        }
        else
            shown.Withheld.Add(["identity", "identity_participant"]);
        // Whether others recorded something of which he may not know is not told: what he might not be shown is marked in any case. But
        // the power that holds him knows who held him before, and observers see what all of them recorded.
        if (!observer && !(power && prisoner.Statuses.All(s => Of(s.RecordedFor))))
            shown.Withheld.Add(["statuses", "fitness", "proceedings", "occurrences", "notifications"]);
        if (!power && !observer)
            shown.Withheld.Add("claims");
        if (!(power && prisoner.Statuses.All(s => Of(s.RecordedFor))))
            shown.Withheld.Add("risk_assessments");
        shown.Withheld.Add(["statements", "interests", "entries"]);
        shown.Statuses.Add(prisoner.Statuses.Where(s => observer || Of(s.RecordedFor)));
        shown.Claims.Add(
            prisoner
                .Claims.Where(c => power || observer || c.Participant == id)
                .Select(c => With(c.Clone(), x => x.Evidence = Seals.Show(x.Evidence, x.Participant, id)))
        );
        shown.Statements.Add(
            prisoner.Statements.Where(s => Statements.AudienceOf(s).Any(reader.Tokens.Contains)).Select(s => Statements.Show(s, reader))
        );
        shown.RiskAssessments.Add(
            prisoner
                .RiskAssessments.Where(a => Of(a.RecordedFor))
                .Select(a => With(a.Clone(), x => x.Grounds = Seals.Show(x.Grounds, x.Participant, id)))
        );
        shown.Fitness.Add(
            prisoner
                .Fitness.Where(f => observer || Of(f.RecordedFor))
                .Select(f => With(f.Clone(), x => x.Findings = Seals.Show(x.Findings, x.Participant, id)))
        );
        shown.Proceedings.Add(
            prisoner
                .Proceedings.Where(p => observer || Of(p.RecordedFor))
                .Select(p => With(p.Clone(), x => x.Particulars = Seals.Show(x.Particulars, x.Participant, id)))
        );
        shown.Occurrences.Add(prisoner.Occurrences.Where(o => observer || Of(o.OwedBy)));
        shown.Notifications.Add(
            prisoner
                .Notifications.Where(n => observer || Of(n.RecordedFor) || n.Data?.Recipients.Contains(id) == true)
                .Select(n =>
                    observer || Of(n.RecordedFor)
                        ? With(n.Clone(), x => x.Data = Seals.Show(x.Data, x.Participant, id))
                        : new Notification
                        {
                            Notification_ = n.Notification_,
                            Data = n.Data,
                            Participant = n.Participant,
                            Time = n.Time,
                            Withheld =
                            {
                                "occurrence",
                                "health_report",
                                "power_of_origin",
                                "disclosure",
                                "disclosure_reason",
                                "official",
                                "releases",
                                "position",
                                "corrected",
                                "recorded_for",
                            },
                        }
                )
        );
        shown.Interests.Add(prisoner.Interests.Where(i => i.Participant == id || i.Submitted && (power || observer)));
        shown.Entries.Add(prisoner.Entries.Where(e => e.Participant == id));
        return shown;
    }

    /// <summary>The stream of a prisoner.</summary>
    internal static StreamId IdOf(Prisoner prisoner) => Kind.Id(KeyOf(prisoner.Case, prisoner.Prisoner_));

    /// <summary>Whether the record takes nothing more but facts, notifications and corrections.</summary>
    internal static bool Full(Prisoner prisoner) => prisoner.CalculateSize() >= FullAt;

    /// <summary>Whether a notification of the occurrence is still owed.</summary>
    internal static bool IsOwed(Occurrence occurrence) => occurrence is { Corrected: false, Notification: "" };

    /// <summary>Who may see an entry on custody: the side that holds or held him last and the observers, or every party where it
    /// changes what every party may know.</summary>
    internal static string[] SideOf(Prisoner prisoner, bool everybody = false) =>
        everybody
            ? [Audience.Case(prisoner.Case)]
            : [Audience.State(prisoner.Case, prisoner.LastDetainingPower), Audience.Observers(prisoner.Case)];

    /// <summary>By when bureau and Central Tracing Agency are to be notified of something recorded now (D14).</summary>
    internal static Timestamp BureauDue(RuleContext act) =>
        act.Now.AddHours(act.Permissions.Agreement.BureauNotificationHours).ToTimestamp();

    /// <summary>
    /// What every write on a prisoner's record is asked first; null: it may be made. Without an etag that is left to the caller.
    /// </summary>
    internal static Refusal? Open(
        View view,
        RuleContext act,
        IMessage request,
        string caseId,
        string reference,
        string? etag,
        out Case @case,
        out Prisoner prisoner,
        bool closedToo = false,
        bool duplicateToo = false,
        bool inCustody = false
    )
    {
        @case = view.Find(Cases.Kind, caseId)!;
        prisoner = view.Find(Kind, KeyOf(caseId, reference))!;
        if (Gate.Check(act, request, @case, reference, closedToo: closedToo) is { } refusal)
            return refusal;
        if (prisoner is null)
            return new Refusal(Reason.NotFound);
        if (etag is not null && Gate.Saw(act, etag, Show(prisoner, CaseRules.ReaderOf(act.Caller, @case))) is { } stale)
            return stale;
        if (!duplicateToo && prisoner.DuplicateOf.Length > 0)
            return new Refusal(Reason.DuplicateRecord);
        if (inCustody && !InCustody(prisoner.State))
            return new Refusal(Reason.StateNotAllowed);
        return null;
    }

    /// <summary>Makes the answer of a write on a prisoner's record: given the states after it, the record as the caller sees it
    /// and its etag.</summary>
    internal static Func<View, IMessage> Answer<T>(Case @case, Prisoner prisoner, RuleContext act, Func<View, Prisoner, string, T> make)
        where T : IMessage => Answer(@case, prisoner.Prisoner_, act, make);

    private static Func<View, IMessage> Answer<T>(Case @case, string reference, RuleContext act, Func<View, Prisoner, string, T> make)
        where T : IMessage =>
        after =>
        {
            var shown = Show(after.Find(Kind, KeyOf(@case.Id, reference))!, CaseRules.ReaderOf(act.Caller, @case));
            return make(after, shown, act.EtagOf(shown));
        };

    private static Route RouteOf(CustodyState state) =>
        state switch
        {
            CustodyState.Released => Route.Release,
            CustodyState.Repatriated => Route.Repatriation,
            CustodyState.AccommodatedInNeutralCountry => Route.NeutralAccommodation,
            _ => Route.Unspecified,
        };

    private static CustodyState StateOf(Route route) =>
        route switch
        {
            Route.Repatriation => CustodyState.Repatriated,
            Route.NeutralAccommodation => CustodyState.AccommodatedInNeutralCountry,
            _ => CustodyState.Released,
        };

    private static (bool Held, bool Ended) After(CustodyState state, bool escapeSucceeded) =>
        (
            InCustody(state),
            state switch
            {
                CustodyState.Escaped => escapeSucceeded,
                CustodyState.Released or CustodyState.Repatriated or CustodyState.AccommodatedInNeutralCountry or CustodyState.Died => true,
                _ => false,
            }
        );

    // Whether a fact follows from the record as it is.
    private static bool Fits(Prisoner prisoner, RecordStatusRequest request) =>
        request.Status switch
        {
            CustodyState.Recaptured => prisoner.State == CustodyState.Escaped,
            CustodyState.Escaped => InCustody(prisoner.State)
                || prisoner is { State: CustodyState.Escaped, Ended: false } && request.EscapeSucceeded,
            _ => !prisoner.Ended,
        };

    private static StatusRecorded StatusOf(Prisoner prisoner, RuleContext act, bool held, bool ended) =>
        new()
        {
            Case = prisoner.Case,
            Prisoner = prisoner.Prisoner_,
            Held = held,
            Ended = ended,
            BureauDueTime = BureauDue(act),
        };

    private static bool Valid(Timestamp made, Timestamp expires, TimeSpan longest, Prisoner prisoner, RuleContext act)
    {
        var (from, to) = (made.ToDateTimeOffset(), expires.ToDateTimeOffset());
        return from <= act.Now && !(from < prisoner.CaptureTime?.ToDateTimeOffset()) && to > act.Now && to - from <= longest;
    }

    private static Decision Invalid(string field, string description) =>
        new Refusal(Reason.RequestInvalid, null, [new FieldFault { Field = field, Description = description }]);

    private static T With<T>(T message, Action<T> change)
    {
        change(message);
        return message;
    }

    private static void Apply(Prisoner state, IMessage @event, FoldedEntry entry)
    {
        switch (@event)
        {
            case PrisonerRegistered e:
                state.Case = e.Case;
                state.Prisoner_ = e.Prisoner;
                state.DetainingPower = state.LastDetainingPower = e.DetainingPower;
                state.Held = true;
                state.RegisterTime = entry.Time;
                var status = CustodyState.Unspecified;
                if (entry.Request is RegisterPrisonerRequest registration)
                {
                    status = registration.Status;
                    state.CaptureTime = registration.CaptureTime;
                    state.Identity = Seals.Keep(registration.Identity);
                    state.IdentityParticipant = entry.Participant;
                    state.Under18 = registration.Under18;
                    SetSerious(state, registration.Serious, entry);
                }
                Mark(state, entry);
                SetStatus(state, entry, status, state.CaptureTime ?? entry.Time, ended: false, []);
                Occur(state, entry, OccurrenceKind.Capture, e.BureauDueTime);
                if (status == CustodyState.Hospitalised)
                    Occur(state, entry, OccurrenceKind.HospitalAdmission, e.BureauDueTime);
                break;
            case StatusRecorded e:
                Fold(state, e, entry);
                break;
            case ClaimRecorded e:
                var claim = new Claim
                {
                    Claim_ = e.Claim,
                    Participant = entry.Participant,
                    Time = entry.Time,
                    Position = entry.Position,
                };
                if (entry.Request is RecordClaimRequest claimed)
                {
                    (claim.Claimant, claim.StateClaimed, claim.Basis) = (claimed.Claimant, claimed.StateClaimed, claimed.Basis);
                    claim.Instrument = claimed.Instrument;
                    claim.RecognisedBy.Add(claimed.RecognisedBy);
                    claim.Evidence = Seals.Keep(claimed.Evidence);
                }
                state.Claims.Add(claim);
                Mark(state, entry);
                break;
            case StatementRecorded e:
                state.Statements.Add(With(new Statement(), s => Statements.Apply(s, e, entry, withContent: false)));
                Mark(state, entry, e.Statement);
                break;
            case StatementAttested e:
                Statements.Apply(StatementOf(state, e.Statement), e, entry, withContent: false);
                Mark(state, entry, e.Statement);
                break;
            case AttestationRevoked e:
                Statements.Apply(StatementOf(state, e.Statement), e, entry, withContent: false);
                break;
            case RiskAssessmentRecorded e:
                var assessment = new RiskAssessment
                {
                    Assessment = e.Assessment,
                    Participant = entry.Participant,
                    Position = entry.Position,
                    RecordedFor = state.LastDetainingPower,
                    ExpireTime = entry.Time,
                };
                if (entry.Request is RecordRiskAssessmentRequest assessed)
                {
                    (assessment.Destination, assessment.Finding) = (assessed.Destination, assessed.Finding);
                    (assessment.AssessTime, assessment.ExpireTime) = (assessed.AssessTime, assessed.ExpireTime);
                    assessment.Official = assessed.Actor.Official;
                    assessment.Grounds = Seals.Keep(assessed.Grounds);
                }
                state.RiskAssessments.Add(assessment);
                Mark(state, entry);
                break;
            case FitnessRecorded e:
                var fitness = new Fitness
                {
                    Fitness_ = e.Fitness,
                    Participant = entry.Participant,
                    Position = entry.Position,
                    RecordedFor = state.LastDetainingPower,
                    ExpireTime = entry.Time,
                };
                if (entry.Request is RecordFitnessRequest examined)
                {
                    (fitness.Fit, fitness.Serious, fitness.Physician) = (examined.Fit, examined.Serious, examined.Physician);
                    (fitness.ExamineTime, fitness.ExpireTime) = (examined.ExamineTime, examined.ExpireTime);
                    fitness.Findings = Seals.Keep(examined.Findings);
                    SetSerious(state, examined.Serious, entry);
                }
                state.Fitness.Add(fitness);
                Mark(state, entry);
                break;
            case BureauNotified e:
                var notification = new Notification
                {
                    Notification_ = e.Notification,
                    Participant = entry.Participant,
                    Time = entry.Time,
                    Position = entry.Position,
                    RecordedFor = e.State,
                };
                if (entry.Request is NotifyBureauRequest notified)
                {
                    (notification.Occurrence, notification.HealthReport) = (notified.Occurrence, notified.HealthReport);
                    (notification.Disclosure, notification.DisclosureReason) = (notified.Disclosure, notified.DisclosureReason);
                    (notification.PowerOfOrigin, notification.Official) = (notified.PowerOfOrigin, notified.Actor.Official);
                    notification.Releases.Add(notified.Releases);
                    notification.Data = Seals.Keep(notified.Data);
                    foreach (var told in state.Occurrences.Where(o => o.Occurrence_ == notified.Occurrence))
                        told.Notification = e.Notification;
                    if (notified.HealthReport && state.HealthDueTime is not null)
                        state.HealthDueTime = (entry.Time.ToDateTimeOffset() + HealthEvery).ToTimestamp();
                }
                state.Notifications.Add(notification);
                Mark(state, entry);
                break;
            case DuplicateLinked e when e.Prisoner == state.Prisoner_:
                state.DuplicateOf = e.SameAsPrisoner;
                Mark(state, entry, otherPrisoner: e.SameAsPrisoner);
                break;
            case DuplicateLinked e:
                state.Duplicates.Add(e.Prisoner);
                break;
            case InterestNoted e:
                var interest = InterestOf(state, e.Transfer, entry);
                if (entry.Request is TransferRequestDrafted drafted)
                    interest.Participant = drafted.Participant;
                break;
            case TransferRequestSubmitted e:
                var submitted = InterestOf(state, e.Transfer, entry);
                (submitted.Participant, submitted.Submitted) = (e.Participant, true);
                break;
            case DraftDiscarded e:
                for (var i = state.Interests.Count - 1; i >= 0; i--)
                    if (state.Interests[i].Transfer == e.Transfer)
                        state.Interests.RemoveAt(i);
                break;
            case TransitBegun:
                if (InCustody(state.State))
                    SetStatus(state, entry, CustodyState.InTransit, entry.Time, ended: false, []);
                break;
            case HandoverAborted:
                if (state.State == CustodyState.InTransit)
                    SetStatus(state, entry, BeforeTransit(state), entry.Time, ended: false, []);
                break;
            case CustodyTransferred e:
                Occur(state, entry, OccurrenceKind.Transfer, e.BureauDueTime);
                SetStatus(
                    state,
                    entry,
                    state.State switch
                    {
                        CustodyState.Died => CustodyState.Died,
                        CustodyState.Hospitalised => CustodyState.Hospitalised,
                        _ => CustodyState.Interned,
                    },
                    TimeOf(entry),
                    ended: state.State == CustodyState.Died,
                    e.Breaches
                );
                state.TransferringPower = e.Returned ? "" : e.FromPower;
                state.LastDetainingPower = e.ToPower;
                state.Held = state.State != CustodyState.Died;
                state.Ended = !state.Held;
                state.DetainingPower = state.Ended ? "" : e.ToPower;
                break;
            case DepartureRecorded e:
                var left = StateOf((entry.Request as HandoverConfirmed)?.Route ?? Route.Unspecified);
                Occur(state, entry, OccurrenceOf(left), e.BureauDueTime);
                SetStatus(
                    state,
                    entry,
                    state.State == CustodyState.Died ? CustodyState.Died : left,
                    TimeOf(entry),
                    ended: true,
                    e.Breaches
                );
                (state.Held, state.Ended, state.DetainingPower) = (false, true, "");
                SetSerious(state, false, entry);
                break;
            case DutyFellDue e:
                Duties.Fold(state, e);
                break;
            case RecordCorrected e:
                Mend(state, e);
                if (entry.Request is CorrectRecordRequest correction && e.Prisoner == state.Prisoner_ && IsRegistration(state, e.Position))
                {
                    state.Identity = Seals.Keep(correction.Identity);
                    state.IdentityParticipant = entry.Participant;
                    state.Under18 = correction.Under18;
                }
                break;
        }
    }

    private static void Fold(Prisoner state, StatusRecorded e, FoldedEntry entry)
    {
        switch (entry.Request)
        {
            case RecordStatusRequest request:
                if (
                    OccurrenceOf(request.Status) is var kind and not OccurrenceKind.Unspecified
                    && !(request.Status == CustodyState.Escaped && state.State == CustodyState.Escaped)
                )
                    Occur(state, entry, kind, e.BureauDueTime);
                SetStatus(state, entry, request.Status, request.StatusTime, e.Ended, e.Breaches);
                if (request.Status == CustodyState.Hospitalised)
                    SetSerious(state, request.Serious, entry);
                break;
            case RecordProceedingsRequest request:
                state.Proceedings.Add(
                    new Proceedings
                    {
                        Delay = request.Delay,
                        Reason = request.Reason,
                        Particulars = Seals.Keep(request.Particulars),
                        Participant = entry.Participant,
                        Time = entry.Time,
                        Position = entry.Position,
                        RecordedFor = state.LastDetainingPower,
                    }
                );
                break;
            case null:
                SetStatus(state, entry, CustodyState.Unspecified, entry.Time, e.Ended, e.Breaches);
                break;
        }
        (state.Held, state.Ended) = (e.Held, e.Ended);
        state.DetainingPower = e.Ended ? "" : state.LastDetainingPower;
        if (e.Ended)
            SetSerious(state, false, entry);
        if (entry.Request is not (LinkDuplicateRequest or CorrectRecordRequest))
            Mark(state, entry);
    }

    // Takes what rested on an entry out of the record.
    private static void Mend(Prisoner state, RecordCorrected e)
    {
        if (e.Prisoner != state.Prisoner_)
        {
            state.Duplicates.Remove(e.Prisoner);
            return;
        }
        foreach (var mark in state.Entries.Where(m => m.Position == e.Position))
        {
            mark.Corrected = true;
            if (mark.OtherPrisoner.Length > 0)
                state.DuplicateOf = "";
            if (mark.Statement.Length > 0)
                Statements.Correct(StatementOf(state, mark.Statement), e);
        }
        // A registration stays; what it said of the person is replaced.
        if (!IsRegistration(state, e.Position))
        {
            foreach (var status in state.Statuses.Where(s => s.Position == e.Position))
                status.Corrected = true;
            foreach (var occurrence in state.Occurrences.Where(o => o.Position == e.Position))
                occurrence.Corrected = true;
        }
        foreach (var claim in state.Claims.Where(c => c.Position == e.Position))
            claim.Corrected = true;
        foreach (var assessment in state.RiskAssessments.Where(a => a.Position == e.Position))
            assessment.Corrected = true;
        foreach (var fitness in state.Fitness.Where(f => f.Position == e.Position))
            fitness.Corrected = true;
        foreach (var proceedings in state.Proceedings.Where(p => p.Position == e.Position))
            proceedings.Corrected = true;
        foreach (var notification in state.Notifications.Where(n => n.Position == e.Position))
        {
            notification.Corrected = true;
            foreach (var occurrence in state.Occurrences.Where(o => o.Notification == notification.Notification_))
                occurrence.Notification = "";
        }
        state.State = state.Statuses.Last(s => !s.Corrected).State;
    }

    private static (bool Held, bool Ended) CustodyOf(Prisoner prisoner) =>
        prisoner.Statuses.Last(s => !s.Corrected) is { } last ? (InCustody(last.State), last.Ended) : default;

    private static bool IsRegistration(Prisoner state, ulong position) => state.Statuses[0].Position == position;

    private static CustodyState BeforeTransit(Prisoner state) =>
        state.Statuses.LastOrDefault(s => !s.Corrected && s.State != CustodyState.InTransit)?.State ?? CustodyState.Interned;

    private static Timestamp TimeOf(FoldedEntry entry) =>
        entry.Request switch
        {
            HandoverConfirmed e => e.HandoverTime ?? entry.Time,
            ReturnConfirmed e => e.ReturnTime ?? entry.Time,
            _ => entry.Time,
        };

    private static OccurrenceKind OccurrenceOf(CustodyState state) =>
        state switch
        {
            CustodyState.Hospitalised => OccurrenceKind.HospitalAdmission,
            CustodyState.Escaped => OccurrenceKind.Escape,
            CustodyState.Recaptured => OccurrenceKind.Capture,
            CustodyState.Released => OccurrenceKind.Release,
            CustodyState.Repatriated => OccurrenceKind.Repatriation,
            CustodyState.AccommodatedInNeutralCountry => OccurrenceKind.NeutralAccommodation,
            CustodyState.Died => OccurrenceKind.Death,
            _ => OccurrenceKind.Unspecified,
        };

    private static void SetStatus(
        Prisoner state,
        FoldedEntry entry,
        CustodyState status,
        Timestamp time,
        bool ended,
        IEnumerable<Invariant> breaches
    )
    {
        state.State = status;
        state.Statuses.Add(
            new StatusEntry
            {
                State = status,
                Time = time,
                Position = entry.Position,
                Participant = entry.Participant,
                Ended = ended,
                RecordedFor = state.LastDetainingPower,
                Breaches = { breaches },
            }
        );
    }

    private static void SetSerious(Prisoner state, bool serious, FoldedEntry entry)
    {
        if (serious && !state.Serious)
            state.HealthDueTime = (entry.Time.ToDateTimeOffset() + HealthEvery).ToTimestamp();
        if (!serious)
            state.HealthDueTime = null;
        state.Serious = serious;
    }

    private static void Occur(Prisoner state, FoldedEntry entry, OccurrenceKind kind, Timestamp due) =>
        state.Occurrences.Add(
            new Occurrence
            {
                Occurrence_ = (uint)state.Occurrences.Count + 1,
                Kind = kind,
                Time = entry.Time,
                DueTime = due,
                OwedBy = state.LastDetainingPower,
                Position = entry.Position,
            }
        );

    private static void Mark(Prisoner state, FoldedEntry entry, string statement = "", string otherPrisoner = "") =>
        state.Entries.Add(
            new EntryMark
            {
                Position = entry.Position,
                Participant = entry.Participant,
                Statement = statement,
                OtherPrisoner = otherPrisoner,
            }
        );

    // The interest in a transfer request, noted now where it was not.
    private static Interest InterestOf(Prisoner state, string transfer, FoldedEntry entry)
    {
        var interest = state.Interests.FirstOrDefault(i => i.Transfer == transfer);
        if (interest is null)
            state.Interests.Add(interest = new Interest { Transfer = transfer, Time = entry.Time });
        return interest;
    }

    private static Statement StatementOf(Prisoner state, string id) => state.Statements.Single(s => s.Statement_ == id);
}
