using Ministries.CallLog.V1;

namespace Ministries.CallLog;

/// <summary>Commitments that were made on a call.</summary>
public static class Commitments
{
    /// <summary>How long after a call a commitment may be due.</summary>
    public static readonly TimeSpan LongestDue = TimeSpan.FromDays(5 * 366);

    /// <summary>When the commitment falls overdue; null: it does not. If it became open again after its due time, it is overdue from that
    /// moment.</summary>
    public static DateTimeOffset? DueOf(Commitment commitment) =>
        commitment.State != CommitmentState.Open || commitment.Terms.DueTime is not { } due
            ? null
            : (due > commitment.OpenTime ? due : commitment.OpenTime).ToDateTimeOffset();

    /// <summary>The commitment of this id; null: there is none.</summary>
    public static Commitment? Find(Call call, string id) => call.Commitments.FirstOrDefault(c => c.Id == id);

    /// <summary>The known commitment that the terms describe; null: they describe a new one. Two are the same if who promised, what, for
    /// whom, by which route and to where are the same; the due time may differ.</summary>
    public static Commitment? Said(Call call, CommitmentTerms terms) => call.Commitments.FirstOrDefault(c => Same(c.Terms, terms));

    /// <summary>Whether the commitment was kept, released or superseded.</summary>
    public static bool IsSettled(Commitment commitment) =>
        commitment.State switch
        {
            CommitmentState.Kept or CommitmentState.Released or CommitmentState.Superseded => true,
            CommitmentState.Open or CommitmentState.Overdue or CommitmentState.Suspended or CommitmentState.Unspecified => false,
        };

    /// <summary>The state that follows from who said it, who settled it and whether it is overdue.</summary>
    internal static CommitmentState StateOf(Commitment commitment) =>
        commitment.Settlements.LastOrDefault(s => !s.Corrected) is { } settlement
            ? settlement.Kind switch
            {
                SettlementKind.Kept => CommitmentState.Kept,
                SettlementKind.Released => CommitmentState.Released,
                SettlementKind.Superseded => CommitmentState.Superseded,
                SettlementKind.Unspecified => CommitmentState.Unspecified,
            }
        : commitment.Sayings.All(s => s.Corrected) ? CommitmentState.Suspended
        : commitment.OverdueTime is not null ? CommitmentState.Overdue
        : CommitmentState.Open;

    /// <summary>Whether two sides speak of the same commitment.</summary>
    internal static bool Same(CommitmentTerms a, CommitmentTerms b) =>
        a.Participant == b.Participant
        && a.Kind == b.Kind
        && a.Route == b.Route
        && a.Destination == b.Destination
        && Accounts.SameSet(a.Prisoners, b.Prisoners);

    /// <summary>The commitments of the caller's own side to request a transfer that it had not said before.</summary>
    internal static IEnumerable<TransferCommitment> NewTransfers(Call call, Account account, RuleContext context) =>
        from item in account.Commitments.Select((terms, index) => (terms, index))
        let terms = item.terms
        let before = Said(call, terms)
        where
            terms.Kind == CommitmentKind.RequestTransfer
            && context.Permissions.Participant(terms.Participant)?.State == context.Caller.State
            && (before is null || !IsSettled(before) && before.Sayings.All(s => s.Participant != context.Caller.Id))
        select new TransferCommitment
        {
            Commitment = before?.Id ?? context.NewId("commitment", item.index),
            Participant = terms.Participant,
            Prisoners = { terms.Prisoners },
            Route = terms.Route,
            Destination = terms.Destination,
        };

    /// <summary>The ids of an account's commitments, in their order: a known commitment keeps its id, any other gets a new one.</summary>
    internal static IEnumerable<string> IdsOf(Call call, Account account, RuleContext context) =>
        account.Commitments.Select((terms, index) => Said(call, terms)?.Id ?? context.NewId("commitment", index));
}
