using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Ministries.Consular.V1;
using Ministries.Types.V1;
using Route = Ministries.Types.V1.Route;

namespace Ministries.Consular;

/// <summary>What is recorded when time runs out: a confirmation that the other side owes, an assurance or assessment that ends, a
/// decision on access, a denial that ends. Each once.</summary>
public static class Duties
{
    /// <summary>The duty of the side that has not confirmed what the other one did.</summary>
    public const string SecondConfirmation = "second-confirmation";

    /// <summary>The duty to renew an assurance.</summary>
    public const string AssuranceExpiry = "assurance-expiry";

    /// <summary>The duty to renew an assessment of the receiving state.</summary>
    public const string AssessmentExpiry = "assessment-expiry";

    /// <summary>The duty to decide on a request for access.</summary>
    public const string DecisionDue = "access-decision";

    /// <summary>The duties, one for each kind of record.</summary>
    public static readonly IReadOnlyList<Duty> All = [new(Transfers.Kind, OfTransfer), new(Accesses.Kind, OfAccess)];

    /// <summary>Records what is due of a transfer request. An Article 12 transfer under way whose assurance or assessment ended
    /// is suspended (D2).</summary>
    public static Decision OfTransfer(string key, RuleContext context)
    {
        if (context.Find(Transfers.Kind, key) is not { } transfer)
            return Decision.Accept("", [], []);
        var due = Of(transfer).Where(d => d.Due <= context.Now).ToArray();
        List<Change> changes =
        [
            .. due.Select(d => Transfers.Record.On(transfer, new DutyFellDue { Duty = d.Duty, DueTime = d.Due.ToTimestamp() })),
        ];
        if (due.Any(d => d.Duty != SecondConfirmation) && transfer.Route == Route.Article12Transfer && Transfers.IsUnderWay(transfer.State))
            changes.Add(Transfers.Record.On(transfer, new TransferSuspended()));
        return Decision.Accept(transfer.Case, [], changes);
    }

    /// <summary>Records what is due of access: a decision that is overdue; the end of a denial, after which access is open again.
    /// </summary>
    public static Decision OfAccess(string key, RuleContext context)
    {
        if (context.Find(Accesses.Kind, key) is not { } access)
            return Decision.Accept("", [], []);
        if (DueOf(access) is not { } due || due > context.Now)
            return Decision.Accept(access.Case, [], []);
        IMessage fell =
            access.State != AccessState.Denied
                ? new DutyFellDue { Duty = DecisionDue, DueTime = due.ToTimestamp() }
                : new AccessReopened { DecisionDueTime = access.Kind == AccessKind.Consular ? Accesses.DecisionDue(context) : null };
        return Decision.Accept(access.Case, [.. Accesses.Record.Entries(access)], [Accesses.Record.On(access, fell)]);
    }

    /// <summary>The duties of the request that have not been recorded yet, with the times at which they fall due.</summary>
    public static IEnumerable<(string Duty, DateTimeOffset Due)> Of(Transfer transfer)
    {
        if (transfer is { SecondConfirmationDueTime: { } due, SecondConfirmationOverdue: false })
            yield return (SecondConfirmation, due.ToDateTimeOffset());
        if (!Transfers.BeforeHandover.Contains(transfer.State))
            yield break;
        if (transfer.Assurance is { Corrected: false, Expired: false } assurance)
            yield return (AssuranceExpiry, assurance.ExpireTime.ToDateTimeOffset());
        if (transfer.Assessment is { Corrected: false, Expired: false } assessment)
            yield return (AssessmentExpiry, assessment.ExpireTime.ToDateTimeOffset());
    }

    /// <summary>When the next duty of access falls due; null: none runs.</summary>
    public static DateTimeOffset? DueOf(Access access) =>
        access.State switch
        {
            AccessState.Requested when !access.DecisionOverdue => access.DecisionDueTime?.ToDateTimeOffset(),
            AccessState.Denied => access.Decision.DenialExpireTime?.ToDateTimeOffset(),
            _ => null,
        };
}
