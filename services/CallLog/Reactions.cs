using Ministries.CallLog.V1;
using Ministries.Consular.V1;
using Ministries.Custody.V1;

namespace Ministries.CallLog;

/// <summary>What the call log does on other services' events: it keeps its copy of the cases, and follows the transfer requests that
/// commitments led to. An event of one record may come before an earlier one of another type; the state after both is the same.</summary>
public static class Reactions
{
    /// <summary>All of them.</summary>
    public static readonly IReadOnlyList<Reaction> All =
    [
        Reaction.To<CaseOpened>("custody", Cases.Copy),
        Reaction.To<PartyAdmitted>("custody", Cases.Copy),
        Reaction.To<PartyRemoved>("custody", Cases.Copy),
        Reaction.To<CaseClosed>("custody", Cases.Copy),
        Reaction.To<CaseReopened>("custody", Cases.Copy),
        Reaction.To<PrisonerRegistered>("custody", Cases.Copy),
        Reaction.To<StatusRecorded>("custody", Cases.Copy),
        Reaction.To<CustodyTransferred>("custody", Cases.Copy),
        Reaction.To<DepartureRecorded>("custody", Cases.Copy),
        Reaction.To<TransferRequestDrafted>("consular", Drafted),
        Reaction.To<DraftDiscarded>("consular", Discarded),
        Reaction.To<TransferRequestSubmitted>("consular", Submitted),
    ];

    /// <summary>A transfer request was drafted: it is tied to the commitment that caused it. Only the participant for which it was drafted
    /// sees that.</summary>
    public static Decision Drafted(TransferRequestDrafted e, RuleContext context)
    {
        if (
            Committed(context, e.Case, e.Call, e.Commitment, e.Transfer, e.Prisoner) is not var (call, commitment)
            || !SameSide(commitment, e.Participant, context)
            || commitment.Requests.Any(r => r.Transfer == e.Transfer)
        )
            return Nothing(e.Case);
        var tied = new DraftsTied { Commitment = commitment.Id, Transfer = e.Transfer };
        return Decision.Accept(call.Case, Alone(call, e.Participant, context), [On(call, e), Calls.Record.On(call, tied)]);
    }

    /// <summary>A draft was discarded: the commitment does not rest on it any more.</summary>
    public static Decision Discarded(DraftDiscarded e, RuleContext context)
    {
        if (
            Committed(context, e.Case, e.Call, e.Commitment, e.Transfer, e.Prisoner) is not var (call, commitment)
            || commitment.Requests.Any(r => r.Transfer == e.Transfer && r.State != TiedRequestState.Drafted)
        )
            return Nothing(e.Case);
        var drafter = commitment.Requests.FirstOrDefault(r => r.Transfer == e.Transfer)?.Participant ?? commitment.Terms.Participant;
        return Decision.Accept(call.Case, Alone(call, drafter, context), [On(call, e)]);
    }

    /// <summary>A transfer request was submitted: the commitment is kept once there is one for each prisoner.</summary>
    public static Decision Submitted(TransferRequestSubmitted e, RuleContext context)
    {
        if (
            Committed(context, e.Case, e.Call, e.Commitment, e.Transfer, e.Prisoner) is not var (call, commitment)
            || !SameSide(commitment, e.Participant, context)
            || commitment.Requests.Any(r => r.Transfer == e.Transfer && r.State == TiedRequestState.Submitted)
        )
            return Nothing(e.Case);
        var changes = new List<Change> { On(call, e) };
        var submitted = commitment
            .Requests.Where(r => r.State == TiedRequestState.Submitted)
            .Select(r => r.Prisoner)
            .Append(e.Prisoner)
            .ToHashSet();
        if (!Commitments.IsSettled(commitment) && submitted.IsSupersetOf(commitment.Terms.Prisoners))
            changes.Add(Calls.Record.On(call, new CommitmentSettled { Commitment = commitment.Id, Kind = SettlementKind.Kept }));
        return Decision.Accept(call.Case, Calls.Kind.AudienceOf(call).ToArray(), changes);
    }

    private static Change On(Call call, Google.Protobuf.IMessage @event) => new(@event, [Calls.Kind.Id(call.Id)]);

    /// <summary>The event has no effect here, because the draft names a call or commitment that it does not fit.</summary>
    private static Decision Nothing(string @case) => Decision.Accept(@case, [], []);

    private static (Call, Commitment)? Committed(
        RuleContext context,
        string @case,
        string call,
        string commitment,
        string transfer,
        string prisoner
    )
    {
        if (call.Length == 0 || context.Find(Calls.Kind, call) is not { } found || found.Case != @case)
            return null;
        return
            Commitments.Find(found, commitment) is { Terms.Kind: CommitmentKind.RequestTransfer } made
            && made.Terms.Prisoners.Contains(prisoner)
            && (made.Requests.Count < Calls.MaxTied || made.Requests.Any(r => r.Transfer == transfer))
            ? (found, made)
            : null;
    }

    private static bool SameSide(Commitment commitment, string participant, RuleContext context) =>
        context.Permissions.Participant(participant)?.State is { Length: > 0 } state
        && context.Permissions.Participant(commitment.Terms.Participant)?.State == state;

    private static string[] Alone(Call call, string participant, RuleContext context) =>
        context.Permissions.Participant(participant) is { } drafter
            ? [Audience.Named(Audience.Cleared(Audience.State(call.Case, drafter.State), call.Classification.Level), drafter.Id)]
            : [];
}
