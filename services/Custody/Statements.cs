using Google.Protobuf.WellKnownTypes;
using Ministries.Custody.V1;
using Ministries.Errors.V1;
using Ministries.Types.V1;
using static Ministries.Rules.Ruling;

namespace Ministries.Custody;

/// <summary>
/// Statements: what the person himself said that he wants (D6, D8), and how it is known that he said it (D7). A statement is
/// RECORDED, ATTESTED while an attestation is in force, CORRECTED at the end. Each is folded twice (<see cref="StatementFold"/>): into its
/// own stream with its content, and into the prisoner's without, so that one state answers for standing.
/// </summary>
public static class Statements
{
    /// <summary>The greatest number of attestations of a statement by one participant, revoked ones included.</summary>
    public const int MaxAttestations = 32;

    /// <summary>The stream of statements.</summary>
    public static readonly StreamKind<Statement> Kind = new(
        "statement",
        4,
        StatementFold.All,
        StatementVisibility.AudienceOf,
        s => [CaseKey(s.Case), PrisonerKey(s.Case, s.Prisoner)]
    );

    /// <summary>Statements as rules need to know them.</summary>
    public static readonly RecordKind<Statement> Record = new()
    {
        Prefix = "statement",
        Stream = Kind,
        Field = "statement",
        Id = s => s.Statement_,
        Case = s => s.Case,
        Prisoner = s => s.Prisoner,
        State = s => (int)s.State,
        SeenBy = StatementVisibility.AudienceOf,
        Entries = StatementVisibility.AudienceOf,
        Show = (statement, @case, context) => StatementVisibility.Show(statement, Cases.ReaderOf(context.Caller, @case)),
        Streams = (s, _) => [Kind.Id(s.Statement_), Prisoners.Kind.Id(Prisoners.KeyOf(s.Case, s.Prisoner))],
        Origins = (s, context) =>
            Prisoners.Find(context, s.Case, s.Prisoner) is { } prisoner ? Prisoners.PowersOfOriginFor(prisoner, context) : [],
    };

    /// <summary>Records a statement. Earlier statements stay. Which statement counts follows from the times at which he spoke and from the
    /// attestations (<see cref="Standings"/>).</summary>
    public static readonly Rule<Prisoner, RecordStatementRequest, RecordStatementResponse> RecordStatement = new(Prisoners.Record)
    {
        From = CustodyStates.InCustody,
        Unless = Prisoners.Duplicate,
        Decide = (prisoner, request, context) =>
        {
            if (!WishCommitments.HaveForm(request.Commitments))
                return RefuseField(Reason.CommitmentsNotInForm, "commitments");
            var said = request.StatementTime.ToDateTimeOffset();
            if (
                said > context.Now
                || said < Prisoners.CaptureOf(prisoner, context)
                || request.Interview is { } held && (held.InterviewTime is null || held.InterviewTime.ToDateTimeOffset() > said)
            )
                return RefuseField(Reason.TimeOutOfRange, "statement_time");
            if (!request.LanguageUnderstood || !request.Uncoerced)
                return Reason.StatementNotOwn;
            if (request.WithoutInterpreter == request.Interpreter.Length > 0)
                return Reason.InterpreterMissing;
            if (request.Interview is { } interview && FaultOf(interview, request, prisoner, context) is { } fault)
                return fault;
            if (Prisoners.IsFullOfStatements(prisoner, context.Caller.Id))
                return Reason.RecordFull;
            var recorded = new StatementRecorded
            {
                Statement = context.NewId(Record.Prefix),
                DetainingPower = prisoner.LastDetainingPower,
                ExpireTime = said.AddDays(context.Permissions.Agreement.StatementValidityDays).ToTimestamp(),
            };
            return Accept(recorded)
                .SeenBy(StatementVisibility.AudienceOf(prisoner.Case, prisoner.LastDetainingPower, request.Classification));
        },
        Answer = (response, request, after) =>
        {
            response.Statement = after.NewId(Record.Prefix);
            var reader = Cases.ReaderOf(after.Caller, after.Find(Cases.Kind, request.Case)!);
            response.StatementEtag = after.EtagOf(StatementVisibility.Show(after.Find(Kind, response.Statement)!, reader));
        },
    };

    /// <summary>Attests a statement in the name of one who was present.</summary>
    public static readonly Rule<Statement, AttestStatementRequest, AttestStatementResponse> AttestStatement = new(Record)
    {
        From = [StatementState.Recorded, StatementState.Attested],
        Decide = (statement, request, context) =>
        {
            if (statement.Interview is null)
                return Reason.NotPrivate;
            var (caller, official) = (context.Caller.Id, request.Actor.Official);
            if (!statement.Interview.Attendants.Any(a => a.Role == request.Role && a.Participant == caller && a.Official == official))
                return Reason.NotPresent;
            // A statement whose request was erased has no content that could be attested.
            if (statement.Digest.IsEmpty || request.Digest != statement.Digest)
                return RefuseField(Reason.AttestationOfOtherContent, "digest");
            if (
                AttestationChecks.Fault(
                    request.Digest,
                    request.Role,
                    official,
                    request.OfficialKey,
                    request.Signature,
                    context.Caller,
                    context.Permissions,
                    context.Now,
                    context.Verifies
                ) is
                { } fault
            )
                return RefuseField(fault, fault == Reason.AttestationWrong ? "signature" : "official_key");
            if (statement.Attestations.Any(a => InForce(a) && a.Role == request.Role && a.Participant == caller && a.Official == official))
                return Reason.AlreadyExists;
            return statement.Attestations.Count(a => a.Participant == caller) >= MaxAttestations
                ? Reason.RecordFull
                : Accept(new StatementAttested());
        },
    };

    /// <summary>Revokes an attestation.</summary>
    public static readonly Rule<Statement, RevokeAttestationRequest, RevokeAttestationResponse> RevokeAttestation = new(Record)
    {
        From = [StatementState.Attested],
        InClosedCase = true,
        Decide = (statement, request, context) =>
            statement.Attestations.Any(a => InForce(a) && a.Role == request.Role && a.Participant == context.Caller.Id)
                ? Accept(new AttestationRevoked())
                : Reason.AttestationNotGiven,
    };

    /// <summary>The key under which the statements of a case are listed; empty: of every case.</summary>
    public static string CaseKey(string @case) => @case.Length == 0 ? "" : $"case:{@case}";

    /// <summary>The key under which the statements of a prisoner are listed; empty: of every prisoner.</summary>
    public static string PrisonerKey(string @case, string prisoner) => prisoner.Length == 0 ? "" : $"prisoner:{@case}/{prisoner}";

    /// <summary>Whether an attestation is in force.</summary>
    public static bool InForce(Attestation attestation) => attestation is { RevokeTime: null, Corrected: false };

    /// <summary>Whether another participant than this one attests it.</summary>
    internal static bool IsAttestedByOthers(Statement statement, string participant) =>
        statement.Attestations.Any(a => InForce(a) && a.Participant != participant);

    // The conditions that an interview does not meet (D7).
    private static Reason? FaultOf(Interview interview, RecordStatementRequest request, Prisoner prisoner, RuleContext context)
    {
        var attendants = interview.Attendants;
        var permissions = context.Permissions;
        if (
            !interview.WithoutWitnesses
            || attendants.All(a => a.Role != AttesterRole.Interviewer)
            || attendants.DistinctBy(a => (a.Participant, a.Official)).Count() != attendants.Count
            || interview.OptionsExplained.Distinct().Count() < 2
            || interview.Safeguards.Count == 0
            || !request.WithoutInterpreter && !attendants.Any(a => a.Role == AttesterRole.Interpreter && a.Official == request.Interpreter)
        )
            return Reason.InterviewIncomplete;
        if (
            attendants.Any(a =>
                permissions.Participant(a.Participant) is null or { Kind: ParticipantKind.Service or ParticipantKind.Operator }
            )
        )
            return Reason.ParticipantUnknown;
        var records = Readiness.Records(context, prisoner);
        var involved = Standings.InvolvedStates(records, context.Find(Cases.Kind, prisoner.Case)!, destination: "", permissions);
        if (attendants.Any(a => involved.Includes(permissions.Participant(a.Participant)!)))
            return Reason.WitnessOfAParty;
        if (!attendants.Any(a => a.Role == AttesterRole.Observer && permissions.Participant(a.Participant)!.IsNeutral()))
            return Reason.ObserverMissing;
        var guarded = attendants.Any(a => a.Role == AttesterRole.Guardian);
        return (request.Under18 || records.Any(r => r.Under18)) == guarded ? null
            : guarded ? Reason.GuardianOfAnAdult
            : Reason.GuardianMissing;
    }
}
