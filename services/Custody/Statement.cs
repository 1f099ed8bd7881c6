using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Ministries.Custody.V1;
using Ministries.Errors.V1;
using Ministries.Hosting;
using Ministries.Ledger;
using Ministries.Trust;
using Ministries.Types.V1;
using Route = Ministries.Types.V1.Route;

namespace Ministries.Custody;

/// <summary>
/// Statements: what the person himself said that he wants (D6, D8), how it is known that he said it (D7), and what stands
/// behind a departure because of it (D9). A statement is RECORDED, ATTESTED while an attestation is in force, CORRECTED at the
/// end. Each is folded twice: into its own stream with its content, and into the prisoner's without, so that one state answers
/// for standing.
/// </summary>
public static class Statements
{
    /// <summary>The greatest number of attestations of a statement, revoked ones included.</summary>
    public const int MaxAttestations = 32;

    /// <summary>The stream of statements.</summary>
    public static readonly StreamKind<Statement> Kind = new(
        "statement",
        1,
        (s, e, entry) => Apply(s, e, entry, withContent: true),
        AudienceOf,
        s => [CaseKey(s.Case), PrisonerKey(s.Case, s.Prisoner)]
    );

    /// <summary>The key under which the statements of a case are listed; empty: of every case.</summary>
    public static string CaseKey(string @case) => @case.Length == 0 ? "" : $"case:{@case}";

    /// <summary>The key under which the statements of a prisoner are listed; empty: of every prisoner.</summary>
    public static string PrisonerKey(string @case, string prisoner) => prisoner.Length == 0 ? "" : $"prisoner:{@case}/{prisoner}";

    /// <summary>Who may see a statement: the side that held the person then and the case's observers, as far as its marking
    /// allows, and who recorded it.</summary>
    public static IEnumerable<string> AudienceOf(Statement statement) =>
        [
            .. Audience.Marked(Audience.State(statement.Case, statement.RecordedFor), statement.Classification),
            .. Audience.Marked(Audience.Observers(statement.Case), statement.Classification),
            Audience.Of(statement.Participant),
        ];

    /// <summary>Records a statement. It replaces what he said before.</summary>
    public static Decision Record(View view, RecordStatementRequest request, RuleContext act)
    {
        if (
            Prisoners.Open(
                view,
                act,
                request,
                request.Case,
                request.Prisoner,
                request.Etag,
                out var @case,
                out var prisoner,
                inCustody: true
            ) is
            { } refusal
        )
            return refusal;
        var said = request.StatementTime.ToDateTimeOffset();
        if (
            said > act.Now
            || said < prisoner.CaptureTime?.ToDateTimeOffset()
            || request.Interview is { } held && (held.InterviewTime is null || held.InterviewTime.ToDateTimeOffset() > said)
        )
            return Decision.Refuse(Reason.TimeOutOfRange, ("field", "statement_time"));
        if (!request.LanguageUnderstood || !request.Uncoerced)
            return Decision.Refuse(Reason.StatementNotOwn);
        if (request.WithoutInterpreter == request.Interpreter.Length > 0)
            return Decision.Refuse(Reason.InterpreterMissing);
        if (request.Interview is { } interview && Judge(interview, request, prisoner, @case, act.Permissions) is { } incomplete)
            return incomplete;
        if (Prisoners.Full(prisoner))
            return Decision.Refuse(Reason.RecordFull);
        var id = act.NewId("statement");
        var recorded = new StatementRecorded
        {
            Case = @case.Id,
            Prisoner = prisoner.Prisoner_,
            Statement = id,
            DetainingPower = prisoner.LastDetainingPower,
            ExpireTime = said.AddDays(act.Permissions.Agreement.StatementValidityDays).ToTimestamp(),
        };
        return Decision.Accept(
            @case.Id,
            [
                .. Audience.Marked(Audience.State(@case.Id, prisoner.LastDetainingPower), request.Classification),
                .. Audience.Marked(Audience.Observers(@case.Id), request.Classification),
            ],
            [new Change(recorded, [Kind.Id(id), Prisoners.IdOf(prisoner)])],
            Prisoners.Answer<RecordStatementResponse>(
                @case,
                prisoner,
                act,
                (after, shown, etag) =>
                    new()
                    {
                        Prisoner = shown.Prisoner_,
                        Etag = etag,
                        State = shown.State,
                        Statement = id,
                        StatementEtag = act.EtagOf(Show(after.Find(Kind, id)!, CaseRules.ReaderOf(act.Caller, @case))),
                    }
            )
        );
    }

    /// <summary>Attests a statement in the name of one who was present.</summary>
    public static Decision Attest(View view, AttestStatementRequest request, RuleContext act)
    {
        if (
            Open(
                view,
                act,
                request,
                request.Case,
                request.Prisoner,
                request.Statement,
                request.Etag,
                out var @case,
                out var prisoner,
                out var statement
            ) is
            { } refusal
        )
            return refusal;
        if (statement.State is not (StatementState.Recorded or StatementState.Attested))
            return Decision.Refuse(Reason.StateNotAllowed);
        if (statement.Interview is null)
            return Decision.Refuse(Reason.NotPrivate);
        if (
            !statement.Interview.Attendants.Any(a =>
                a.Role == request.Role && a.Participant == act.Caller.Id && a.Official == request.Actor.Official
            )
        )
            return Decision.Refuse(Reason.NotPresent);
        if (
            statement.Attestations.Any(a =>
                InForce(a) && a.Role == request.Role && a.Participant == act.Caller.Id && a.Official == request.Actor.Official
            )
        )
            return Decision.Refuse(Reason.AlreadyExists);
        if (statement.Attestations.Count >= MaxAttestations || Prisoners.Full(prisoner))
            return Decision.Refuse(Reason.RecordFull);
        var attested = new StatementAttested
        {
            Case = @case.Id,
            Prisoner = prisoner.Prisoner_,
            Statement = statement.Statement_,
        };
        return Decision.Accept(
            @case.Id,
            [.. AudienceOf(statement)],
            [new Change(attested, [Kind.Id(statement.Statement_), Prisoners.IdOf(prisoner)])],
            after =>
            {
                var shown = Show(after.Find(Kind, statement.Statement_)!, CaseRules.ReaderOf(act.Caller, @case));
                return new AttestStatementResponse
                {
                    Statement = shown.Statement_,
                    Etag = act.EtagOf(shown),
                    State = shown.State,
                };
            }
        );
    }

    /// <summary>Revokes an attestation.</summary>
    public static Decision Revoke(View view, RevokeAttestationRequest request, RuleContext act)
    {
        if (
            Open(
                view,
                act,
                request,
                request.Case,
                request.Prisoner,
                request.Statement,
                request.Etag,
                out var @case,
                out var prisoner,
                out var statement,
                closedToo: true
            ) is
            { } refusal
        )
            return refusal;
        if (statement.State != StatementState.Attested)
            return Decision.Refuse(Reason.StateNotAllowed);
        if (!statement.Attestations.Any(a => InForce(a) && a.Role == request.Role && a.Participant == act.Caller.Id))
            return Decision.Refuse(Reason.AttestationNotGiven);
        var revoked = new AttestationRevoked
        {
            Case = @case.Id,
            Prisoner = prisoner.Prisoner_,
            Statement = statement.Statement_,
        };
        return Decision.Accept(
            @case.Id,
            [.. AudienceOf(statement)],
            [new Change(revoked, [Kind.Id(statement.Statement_), Prisoners.IdOf(prisoner)])],
            after =>
            {
                var shown = Show(after.Find(Kind, statement.Statement_)!, CaseRules.ReaderOf(act.Caller, @case));
                return new RevokeAttestationResponse
                {
                    Statement = shown.Statement_,
                    Etag = act.EtagOf(shown),
                    State = shown.State,
                };
            }
        );
    }

    /// <summary>A statement as a reader sees it: what it accepts for the side that held the person and those named in the
    /// interview, its content for sender and recipients.</summary>
    public static Statement Show(Statement statement, Reader reader)
    {
        var shown = statement.Clone();
        var id = reader.Participant.Id;
        if (
            !reader.Tokens.Contains(Audience.State(statement.Case, statement.RecordedFor))
            && statement.Participant != id
            && statement.Interview?.Attendants.Any(a => a.Participant == id) != true
        )
        {
            shown.AcceptedDestinations.Clear();
            shown.Withheld.Add("accepted_destinations");
        }
        shown.Content = Seals.Show(statement.Content, statement.Participant, id);
        return shown;
    }

    /// <summary>Whether an attestation is in force.</summary>
    public static bool InForce(Attestation attestation) => attestation is { RevokeTime: null, Corrected: false };

    /// <summary>Whether a statement counts as privately verified (D7): an interview without witnesses, attested by the set that
    /// the agreement demands, a neutral observer always among them, a guardian for one under 18.</summary>
    public static bool PrivatelyVerified(Statement statement, bool under18, Permissions permissions)
    {
        if (statement.State != StatementState.Attested || statement.Interview is not { WithoutWitnesses: true })
            return false;
        var demanded = permissions.Agreement.AttestersDemanded.Append(AttesterRole.Observer).ToHashSet();
        // Where none was needed, there is nobody to attest it.
        if (statement.Interpreter.Length == 0)
            demanded.Remove(AttesterRole.Interpreter);
        if (under18 || statement.Under18)
            demanded.Add(AttesterRole.Guardian);
        return demanded.All(role =>
            statement.Attestations.Any(a =>
                InForce(a) && a.Role == role && (role != AttesterRole.Observer || IsObserver(permissions.Participant(a.Participant)))
            )
        );
    }

    /// <summary>
    /// The standing for a destination at a time (D8, D9), from the person's latest statement that was not corrected: a transfer
    /// needs it to be privately verified, not stale, and to accept the destination; every other route needs that it does not
    /// object. A release where he is held is no departure. Anything unclear is not in force.
    /// </summary>
    /// <param name="records">The prisoner's record and those of the same person that are no longer kept.</param>
    /// <param name="route">The way in which he is to leave.</param>
    /// <param name="destination">The destination (ISO 3166-1 alpha-2).</param>
    /// <param name="at">The time.</param>
    /// <param name="permissions">The agreement.</param>
    public static DestinationStanding StandingOf(
        IReadOnlyList<Prisoner> records,
        Route route,
        string destination,
        DateTimeOffset at,
        Permissions permissions
    )
    {
        var none = new DestinationStanding { Destination = destination, Standing = Standing.NotInForce };
        // Nothing rests on a registration that was corrected without a right one.
        if (destination.Length == 0 || records[0].Identity is null)
            return none;
        var latest = records
            .SelectMany(r => r.Statements)
            .Where(s => s.State != StatementState.Corrected)
            .MaxBy(s => (s.StatementTime?.ToDateTimeOffset() ?? DateTimeOffset.MaxValue, s.Position));
        var verified =
            latest is not null
            && latest.ExpireTime.ToDateTimeOffset() > at
            && PrivatelyVerified(latest, records.Any(r => r.Under18), permissions);
        var accepts = latest?.AcceptedDestinations.Contains(destination) == true;
        var inForce = route switch
        {
            Route.Article12Transfer => verified && accepts,
            Route.Release when destination == records[0].DetainingPower => true,
            Route.Release or Route.Repatriation or Route.Exchange or Route.NeutralAccommodation => latest is null || accepts,
            _ => false,
        };
        if (!inForce)
            return none;
        var standing = new DestinationStanding { Destination = destination, Standing = Standing.InForce };
        if (verified && accepts)
            standing.AttestedBy.Add(latest!.Attestations.Where(InForce).Select(a => a.Role).Distinct().Order());
        return standing;
    }

    /// <summary>Changes a statement by one event.</summary>
    internal static void Apply(Statement state, IMessage @event, FoldedEntry entry, bool withContent)
    {
        switch (@event)
        {
            case StatementRecorded e:
                state.Statement_ = e.Statement;
                state.Case = e.Case;
                state.Prisoner = e.Prisoner;
                state.State = StatementState.Recorded;
                state.Participant = entry.Participant;
                state.RecordTime = entry.Time;
                state.Position = entry.Position;
                state.RecordedFor = e.DetainingPower;
                state.ExpireTime = e.ExpireTime;
                if (entry.Request is not RecordStatementRequest request)
                    break;
                state.StatementTime = request.StatementTime;
                state.Language = request.Language;
                state.Interpreter = request.Interpreter;
                state.Interview = request.Interview?.Clone();
                state.Under18 = request.Under18;
                state.AcceptedDestinations.Add(request.AcceptedDestinations);
                state.Classification = request.Classification?.Clone();
                if (withContent)
                    state.Content = Seals.Keep(request.Content);
                break;
            case StatementAttested:
                var attestation = new Attestation
                {
                    Participant = entry.Participant,
                    Time = entry.Time,
                    Position = entry.Position,
                };
                if (entry.Request is AttestStatementRequest attest)
                    (attestation.Role, attestation.Official) = (attest.Role, attest.Actor.Official);
                state.Attestations.Add(attestation);
                break;
            case AttestationRevoked:
                // Erased, it revokes all that the participant gave: what is unclear does not count.
                var role = (entry.Request as RevokeAttestationRequest)?.Role;
                foreach (
                    var given in state.Attestations.Where(a =>
                        InForce(a) && a.Participant == entry.Participant && (role is null || a.Role == role)
                    )
                )
                    given.RevokeTime = entry.Time;
                break;
            case RecordCorrected e:
                Correct(state, e);
                break;
        }
        Settle(state);
    }

    /// <summary>Takes what rested on a corrected entry out of a statement.</summary>
    internal static void Correct(Statement state, RecordCorrected e)
    {
        if (state.Position == e.Position)
            state.State = StatementState.Corrected;
        foreach (var given in state.Attestations.Where(a => a.Position == e.Position))
            given.Corrected = true;
        Settle(state);
    }

    /// <summary>What an interview lacks (D7); null: nothing.</summary>
    private static Refusal? Judge(
        Interview interview,
        RecordStatementRequest request,
        Prisoner prisoner,
        Case @case,
        Permissions permissions
    )
    {
        var attendants = interview.Attendants;
        if (
            !interview.WithoutWitnesses
            || attendants.All(a => a.Role != AttesterRole.Interviewer)
            || attendants.DistinctBy(a => (a.Participant, a.Official)).Count() != attendants.Count
            || interview.OptionsExplained.Distinct().Count() < 2
            || interview.Safeguards.Count == 0
            || !request.WithoutInterpreter && !attendants.Any(a => a.Role == AttesterRole.Interpreter && a.Official == request.Interpreter)
        )
            return new Refusal(Reason.InterviewIncomplete);
        if (
            attendants.Any(a =>
                permissions.Participant(a.Participant) is null or { Kind: ParticipantKind.Service or ParticipantKind.Operator }
            )
        )
            return new Refusal(Reason.ParticipantUnknown);
        var states = @case
            .Parties.Where(p => p.Part is Part.DetainingPower or Part.RequestingState)
            .Select(p => p.State)
            .Append(@case.DetainingPower)
            .Append(prisoner.LastDetainingPower)
            .ToHashSet();
        if (attendants.Any(a => states.Contains(permissions.Participant(a.Participant)!.State)))
            return new Refusal(Reason.WitnessOfAParty);
        if (!attendants.Any(a => a.Role == AttesterRole.Observer && IsObserver(permissions.Participant(a.Participant))))
            return new Refusal(Reason.ObserverMissing);
        if ((request.Under18 || prisoner.Under18) && attendants.All(a => a.Role != AttesterRole.Guardian))
            return new Refusal(Reason.GuardianMissing);
        return null;
    }

    private static Refusal? Open(
        View view,
        RuleContext act,
        IMessage request,
        string caseId,
        string reference,
        string id,
        string etag,
        out Case @case,
        out Prisoner prisoner,
        out Statement statement,
        bool closedToo = false
    )
    {
        statement = null!;
        if (
            Prisoners.Open(view, act, request, caseId, reference, null, out @case, out prisoner, closedToo, duplicateToo: true) is
            { } refusal
        )
            return refusal;
        if (
            view.Find(Kind, id) is not { } found
            || found.Case != caseId
            || found.Prisoner != reference
            || !Cases.MaySee(act.Caller, @case, [.. AudienceOf(found)])
        )
            return new Refusal(Reason.NotFound);
        statement = found;
        return Gate.Saw(act, etag, Show(found, CaseRules.ReaderOf(act.Caller, @case)));
    }

    private static void Settle(Statement state)
    {
        if (state.State != StatementState.Corrected)
            state.State = state.Attestations.Any(InForce) ? StatementState.Attested : StatementState.Recorded;
    }

    private static bool IsObserver(Participant? participant) =>
        participant?.Kind is ParticipantKind.NeutralObserver or ParticipantKind.ProtectingPower;
}
