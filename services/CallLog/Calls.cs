using Google.Protobuf;
using Ministries.CallLog.V1;
using Ministries.Custody.V1;
using Ministries.Errors.V1;
using Ministries.Types.V1;
using static Ministries.Rules.Ruling;
using CorrectRecordRequest = Ministries.CallLog.V1.CorrectRecordRequest;
using CorrectRecordResponse = Ministries.CallLog.V1.CorrectRecordResponse;
using RecordCorrected = Ministries.CallLog.V1.RecordCorrected;

namespace Ministries.CallLog;

/// <summary>
/// Calls and their rules. A call is what each side said that it was (D20): accounts are added and never changed, and each counts for the
/// side that gave it. The states of the call and its commitments follow from what is recorded and was not corrected
/// (<see cref="CallFold"/>).
/// </summary>
public static class Calls
{
    /// <summary>The greatest size in bytes of what one side writes to a call's record; corrections may take it to half as much again. The
    /// room of the other side is its own.</summary>
    public const int MaxBytes = 1 << 20;

    /// <summary>The greatest number of versions of one side's readout, and of its contests, links and settlements.</summary>
    public const int MaxItems = 32;

    /// <summary>The greatest number of commitments of a call that one side named first.</summary>
    public const int MaxCommitments = 64;

    /// <summary>The greatest number of transfer requests tied to a commitment.</summary>
    public const int MaxTied = 128;

    /// <summary>The stream of calls. It also folds the consular service's events on tied transfer requests.</summary>
    public static readonly StreamKind<Call> Kind = new(
        "call",
        4,
        CallFold.All,
        CallVisibility.AudienceOf,
        KeysOf,
        c => c.Commitments.Min(Commitments.DueOf)
    );

    /// <summary>Calls as rules need to know them.</summary>
    public static readonly RecordKind<Call> Record = new()
    {
        Prefix = "call",
        Stream = Kind,
        Field = "call",
        Id = c => c.Id,
        Case = c => c.Case,
        State = c => (int)c.State,
        SeenBy = CallVisibility.AudienceOf,
        Entries = CallVisibility.AudienceOf,
        Show = CallVisibility.Show,
        Streams = (call, e) => e is CallsLinked linked ? [Kind.Id(call.Id), Kind.Id(linked.SameAsCall)] : [Kind.Id(call.Id)],
    };

    private static readonly IReadOnlyList<Enum> Everywhere = [CallState.OneSided, CallState.Mutual, CallState.Contested];

    private static readonly Side<Call> ASide = new(
        "either side of the call",
        (call, context) => call.Sides.Any(s => s.Participant == context.Caller.Id) ? null : new Refusal(Reason.NotASide)
    );

    /// <summary>One side logs a call.</summary>
    public static readonly Rule<Case, LogCallRequest, LogCallResponse> LogCall = new(Cases.Record)
    {
        Makes = Record,
        Decide = (@case, request, context) =>
        {
            var caller = context.Caller;
            var counterpart = context.Permissions.Participant(request.Counterpart);
            if (
                counterpart is not { Kind: ParticipantKind.Ministry }
                || counterpart.State == caller.State
                || !IsKnownParty(counterpart, caller, @case)
            )
                return RefuseField(Reason.CounterpartNotASide, "counterpart");
            if (new[] { caller, counterpart }.FirstOrDefault(p => !Allows(request.Classification, p)) is { } excluded)
                return Refuse(Reason.MarkingExcludesSide, ("participant", excluded.Id));
            var call = new Call
            {
                Id = context.NewId(Record.Prefix),
                Case = request.Case,
                Classification = request.Classification ?? new Classification(),
                Sides =
                {
                    new Side { Participant = caller.Id, State = caller.State },
                    new Side { Participant = counterpart.Id, State = counterpart.State },
                },
            };
            if (Accounts.FaultOf(request.Account, call, context) is { } fault)
                return fault;
            var logged = new CallLogged
            {
                Case = call.Case,
                Call = call.Id,
                Participant = caller.Id,
                Prisoners = { request.Account.Prisoners },
                TransferCommitments = { Commitments.NewTransfers(call, request.Account, context) },
                Commitments = { Commitments.IdsOf(call, request.Account, context) },
                Sides = { call.Sides },
            };
            return Accept(new Change(logged, [Kind.Id(call.Id)])).SeenBy(CallVisibility.AudienceOf(call));
        },
        Answer = (response, request, after) =>
            response.Commitments.Add(Commitments.IdsOf(after.Find(Kind, response.Call)!, request.Account, after)),
    };

    /// <summary>The other side gives its own account.</summary>
    public static readonly Rule<Call, SubmitReadoutRequest, SubmitReadoutResponse> SubmitReadout = new(Record)
    {
        From = [CallState.OneSided, CallState.Contested],
        Else = Reason.ReadoutAlreadyGiven,
        By = ASide,
        InClosedCase = true,
        Full = IsFull,
        Decide = (call, request, context) =>
            Own(call, context) is not null ? Reason.ReadoutAlreadyGiven
            : Accounts.FaultOf(request.Account, call, context) is { } fault ? fault
            : Accept(
                new ReadoutSubmitted
                {
                    Participant = context.Caller.Id,
                    TransferCommitments = { Commitments.NewTransfers(call, request.Account, context) },
                    Commitments = { Commitments.IdsOf(call, request.Account, context) },
                }
            ),
        Answer = (response, request, after) =>
            response.Commitments.Add(Commitments.IdsOf(after.Find(Kind, request.Call)!, request.Account, after)),
    };

    /// <summary>A side amends its own readout: a new version.</summary>
    public static readonly Rule<Call, AmendReadoutRequest, AmendReadoutResponse> AmendReadout = new(Record)
    {
        From = Everywhere,
        By = ASide,
        InClosedCase = true,
        Full = IsFull,
        Decide = (call, request, context) =>
        {
            if (Own(call, context) is not { } own)
                return Reason.ReadoutNotGiven;
            if (Accounts.FaultOf(request.Account, call, context) is { } fault)
                return fault;
            if (own.Versions.Count >= MaxItems)
                return Reason.RecordFull;
            return Accept(
                new ReadoutAmended
                {
                    Participant = context.Caller.Id,
                    TransferCommitments = { Commitments.NewTransfers(call, request.Account, context) },
                    Commitments = { Commitments.IdsOf(call, request.Account, context) },
                }
            );
        },
        Answer = (response, request, after) =>
        {
            var call = after.Find(Kind, request.Call)!;
            response.Version = (uint)Own(call, after)!.Versions.Count;
            response.Commitments.Add(Commitments.IdsOf(call, request.Account, after));
        },
    };

    /// <summary>A side contests the other side's readout.</summary>
    public static readonly Rule<Call, ContestReadoutRequest, ContestReadoutResponse> ContestReadout = new(Record)
    {
        From = Everywhere,
        By = ASide,
        InClosedCase = true,
        Full = IsFull,
        Decide = (call, request, context) =>
        {
            var caller = context.Caller.Id;
            if (request.Participant == caller)
                return RefuseField(Reason.OwnReadout, "participant");
            var counting = call.Readouts.Where(r => r.Participant == request.Participant).Select(Accounts.Counting).FirstOrDefault();
            if (counting is null || counting.Number != request.Version)
                return RefuseField(Reason.NoReadoutToContest, "version");
            if (call.Contests.Any(c => c.Participant == caller && c.Version == request.Version && !c.Corrected))
                return Reason.AlreadyContested;
            return call.Contests.Count(c => c.Participant == caller) >= MaxItems
                ? Reason.RecordFull
                : Accept(new ReadoutContested { Participant = caller });
        },
    };

    /// <summary>A side says that two records are of the same call.</summary>
    public static readonly Rule<Call, LinkCallsRequest, LinkCallsResponse> LinkCalls = new(Record)
    {
        From = Everywhere,
        By = ASide,
        InClosedCase = true,
        Decide = (call, request, context) =>
        {
            var other = context.Find(Kind, request.SameAsCall)!;
            if (!OfSameSides(call, other) || call.Sides[0].Participant == other.Sides[0].Participant)
                return RefuseField(Reason.CallsNotOfBothSides, "same_as_call");
            if (call.Links.Concat(other.Links).Any(l => !l.Corrected))
                return Reason.AlreadyLinked;
            if (
                ((Call[])[call, other]).Any(c =>
                    c.Links.Count(l => l.Participant == context.Caller.Id) >= MaxItems || IsFull(c, request, context)
                )
            )
                return Reason.RecordFull;
            // Only those who may see both calls see the link, so that it does not reveal a record to others.
            return Accept(new CallsLinked { SameAsCall = other.Id })
                .SeenBy(CallVisibility.AudienceOf(call).Intersect(CallVisibility.AudienceOf(other)));
        },
        Answer = (response, request, after) =>
            response.SameAsEtag = after.EtagOf(
                CallVisibility.Show(after.Find(Kind, request.SameAsCall)!, after.Find(Cases.Kind, request.Case)!, after)
            ),
    };

    /// <summary>The side to which a commitment is owed settles it.</summary>
    public static readonly Rule<Call, SettleCommitmentRequest, SettleCommitmentResponse> SettleCommitment = new(Record)
    {
        From = Everywhere,
        By = ASide,
        InClosedCase = true,
        Full = IsFull,
        Decide = (call, request, context) =>
        {
            if (Commitments.Find(call, request.Commitment) is not { } commitment)
                return RefuseField(Reason.NotFound, "commitment");
            var superseded = request.Settlement == SettlementKind.Superseded;
            if (!superseded && request.SupersededBy.Length + request.SupersededByCall.Length > 0)
                return Invalid(("superseded_by", "is allowed only where the settlement is SUPERSEDED"));
            // If the commitment was erased, the state to which it is owed is unknown.
            if (
                commitment.Terms.Participant.Length == 0
                || context.Permissions.Participant(commitment.Terms.Participant)?.State == context.Caller.State
            )
                return Reason.NotOwedToCaller;
            if (Commitments.IsSettled(commitment))
                return Reason.CommitmentAlreadySettled;
            var audience = CallVisibility.AudienceOf(call);
            if (superseded)
            {
                if (Superseding(call, commitment, request, context) is not { } of)
                    return RefuseField(Reason.SupersedingCommitmentMissing, "superseded_by");
                // The request names that call, so only those who may see that call see the entry.
                audience = audience.Intersect(CallVisibility.AudienceOf(of));
            }
            if (commitment.Settlements.Count(s => s.Participant == context.Caller.Id) >= MaxItems)
                return Reason.RecordFull;
            return Accept(new CommitmentSettled { Commitment = commitment.Id, Kind = request.Settlement }).SeenBy(audience);
        },
    };

    /// <summary>A side says that an entry of its own was wrong.</summary>
    public static readonly Rule<Call, CorrectRecordRequest, CorrectRecordResponse> CorrectRecord = new(Record)
    {
        From = Everywhere,
        By = ASide,
        InClosedCase = true,
        Full = (call, request, context) => SizeFor(call, request, context) > MaxBytes + MaxBytes / 2,
        Decide = (call, request, context) =>
        {
            if (!Correctable(call, context.Caller.Id).Contains(request.Position))
                return RefuseField(Reason.NotCorrectable, "position");
            var corrected = new RecordCorrected
            {
                Position = request.Position,
                Participant = context.Caller.Id,
                Commitments =
                {
                    from commitment in call.Commitments
                    let said = commitment.Sayings.Where(s => !s.Corrected).ToArray()
                    where said.Length > 0 && said.All(s => s.Position == request.Position)
                    select commitment.Id,
                },
            };
            // A link is an entry of both records.
            var linked = call.Links.Where(l => l.Position == request.Position).Select(l => l.Call);
            return Accept(Record.On(call, corrected) with { Streams = [.. linked.Prepend(call.Id).Select(Kind.Id)] });
        },
    };

    /// <summary>The key under which the calls of a case are listed; null: of every case.</summary>
    public static string? CaseKey(string @case) => @case.Length == 0 ? null : $"case:{@case}";

    /// <summary>The key under which calls in a state are listed; null: in every state.</summary>
    public static string? StateKey(CallState state) => state == CallState.Unspecified ? null : $"state:{state}";

    /// <summary>The key under which the calls of a side are listed; null: of any side.</summary>
    public static string? ParticipantKey(string participant) => participant.Length == 0 ? null : $"side:{participant}";

    /// <summary>The key under which the calls about a prisoner are listed; null: about anybody.</summary>
    public static string? PrisonerKey(string @case, string prisoner) => prisoner.Length == 0 ? null : $"prisoner:{@case}/{prisoner}";

    /// <summary>The key under which calls with a commitment in a state are listed; null: with any or none.</summary>
    public static string? CommitmentKey(CommitmentState state) => state == CommitmentState.Unspecified ? null : $"commitment:{state}";

    private static IEnumerable<string> KeysOf(Call call) =>
        [
            $"case:{call.Case}",
            StateKey(call.State)!,
            .. call.Sides.Select(s => ParticipantKey(s.Participant)!),
            .. call
                .Readouts.Select(Accounts.Counting)
                .OfType<ReadoutVersion>()
                .SelectMany(v => v.Account?.Prisoners ?? [])
                .Distinct()
                .Select(p => PrisonerKey(call.Case, p)!),
            .. call.Commitments.Select(x => x.State).Distinct().Select(s => CommitmentKey(s)!),
        ];

    // Whether the participant is a party to the case of which the caller may know. So a refusal does not tell which other states request a
    // transfer (D22).
    private static bool IsKnownParty(Participant counterpart, Participant caller, Case @case) =>
        (Cases.Manages(@case, counterpart.State) ? @case : Cases.Show(@case, Cases.ReaderOf(caller, @case))).Parties.Any(p =>
            p.Participant == counterpart.Id
        );

    private static Readout? Own(Call call, RuleContext context) => call.Readouts.FirstOrDefault(r => r.Participant == context.Caller.Id);

    private static bool IsFull<TRequest>(Call call, TRequest request, RuleContext context)
        where TRequest : IMessage => SizeFor(call, request, context) > MaxBytes;

    // The size of what the caller has written to the record, and writes now.
    private static int SizeFor(Call call, IMessage request, RuleContext context)
    {
        var caller = context.Caller.Id;
        return request.CalculateSize()
            + call.Readouts.Where(r => r.Participant == caller).Sum(r => r.CalculateSize())
            + call.Contests.Where(c => c.Participant == caller).Sum(c => c.CalculateSize())
            + call.Links.Where(l => l.Participant == caller).Sum(l => l.CalculateSize())
            + call.Corrections.Where(c => c.Participant == caller).Sum(c => c.CalculateSize())
            + call.Commitments.SelectMany(c => c.Settlements).Where(s => s.Participant == caller).Sum(s => s.CalculateSize());
    }

    private static bool OfSameSides(Call call, Call other) =>
        Accounts.SameSet(call.Sides.Select(s => s.Participant), other.Sides.Select(s => s.Participant));

    private static bool Allows(Classification? marking, Participant participant) =>
        marking is null
        || (marking.Level <= Level.Restricted || marking.Level <= participant.Clearance)
            && (marking.ReleasableTo.Count == 0 || marking.ReleasableTo.Contains(participant.Id));

    // The call whose commitment supersedes one, where it is there and may do so.
    private static Call? Superseding(Call call, Commitment commitment, SettleCommitmentRequest request, RuleContext context)
    {
        var of = request.SupersededByCall.Length == 0 ? call : context.Find(Kind, request.SupersededByCall);
        if (
            of is null
            || of.Case != call.Case
            || !Cases.MaySee(context.Caller, context.Find(Cases.Kind, call.Case)!, Kind.AudienceOf(of))
            || !OfSameSides(of, call)
        )
            return null;
        return Commitments.Find(of, request.SupersededBy) is { } by && by.Id != commitment.Id && !Commitments.IsSettled(by) ? of : null;
    }

    // The positions of a side's entries that stand.
    private static IEnumerable<ulong> Correctable(Call call, string side) =>
        call
            .Readouts.Where(r => r.Participant == side)
            .SelectMany(r => r.Versions)
            .Where(v => !v.Corrected)
            .Select(v => v.Position)
            .Concat(call.Contests.Where(c => c.Participant == side && !c.Corrected).Select(c => c.Position))
            .Concat(call.Links.Where(l => l.Participant == side && !l.Corrected).Select(l => l.Position))
            .Concat(
                call.Commitments.SelectMany(c => c.Settlements).Where(s => s.Participant == side && !s.Corrected).Select(s => s.Position)
            );
}
