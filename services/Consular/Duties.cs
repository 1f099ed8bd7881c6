using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Ministries.Consular.V1;

namespace Ministries.Consular;

/// <summary>What is recorded when time runs out: a confirmation that the other side owes, an assurance or assessment that ends, a
/// return or measures after a failure, a decision on access, a denial that ends. Each once.</summary>
public static class Duties
{
    /// <summary>The duty of the side that has not confirmed what the other one did.</summary>
    public const string SecondConfirmation = "second-confirmation";

    /// <summary>The duty to renew an assurance.</summary>
    public const string AssuranceExpiry = "assurance-expiry";

    /// <summary>The duty to renew an assessment of the receiving state.</summary>
    public const string AssessmentExpiry = "assessment-expiry";

    /// <summary>The duty to return the prisoner (12(3)).</summary>
    public const string Return = "return";

    /// <summary>The duty to do something about a reported failure (12(3)).</summary>
    public const string Measures = "corrective-measures";

    /// <summary>The duty to decide on a request for access.</summary>
    public const string DecisionDue = "access-decision";

    /// <summary>The duties, one for each kind of record.</summary>
    public static readonly IReadOnlyList<Duty> All =
    [
        new(Transfers.Kind, OfTransfer),
        // That a denial ended is no duty that nobody met.
        new(Accesses.Kind, OfAccess) { Besides = [AccessReopened.Descriptor] },
    ];

    /// <summary>Records what is due of a transfer request. A departure under way whose assurance or assessment ended is suspended
    /// where it may rest on it (D2): his origin is not known here, and an assurance that ended counts as needed.</summary>
    public static Decision OfTransfer(string key, RuleContext context)
    {
        if (context.Find(Transfers.Kind, key) is not { } transfer)
            return Decision.Accept("", [], []);
        var due = Of(transfer).Where(d => d.DueTime <= context.Time).ToArray();
        List<Change> changes = [.. due.Select(d => Transfers.Record.On(transfer, d))];
        if (Transfers.IsUnderWay(transfer.State) && due.Any(d => RestsOn(transfer, d.Duty)))
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
                : new AccessReopened { DecisionDueTime = Accesses.DecisionDueOf(access, context) };
        return Decision.Accept(access.Case, [.. Accesses.Record.Entries(access)], [Accesses.Record.On(access, fell)]);
    }

    /// <summary>The duties of the request that have not been recorded yet, with the times at which they fall due.</summary>
    public static IEnumerable<DutyFellDue> Of(Transfer transfer)
    {
        if (transfer is { SecondConfirmationDueTime: { } second, SecondConfirmationOverdue: false })
            yield return new DutyFellDue { Duty = SecondConfirmation, DueTime = second };
        if (transfer is { ReturnDueTime: { } back, ReturnOverdue: false })
            yield return new DutyFellDue { Duty = Return, DueTime = back };
        if (OwesMeasures(transfer))
            foreach (var failure in transfer.Failures.Where(IsUnanswered))
                if (failure is { MeasuresDueTime: { } measures, MeasuresOverdue: false })
                    yield return new DutyFellDue
                    {
                        Duty = Measures,
                        DueTime = measures,
                        Failure = failure.Id,
                    };
        if (!Transfers.BeforeHandover.Contains(transfer.State))
            yield break;
        if (transfer.Assurance is { Corrected: false, Expired: false } assurance)
            yield return new DutyFellDue { Duty = AssuranceExpiry, DueTime = assurance.ExpireTime };
        if (transfer.Assessment is { Corrected: false, Expired: false } assessment)
            yield return new DutyFellDue { Duty = AssessmentExpiry, DueTime = assessment.ExpireTime };
    }

    /// <summary>Whether a reported failure stands and no measure against it stands.</summary>
    internal static bool IsUnanswered(TreatmentFailure failure) => !failure.Corrected && failure.Measures.All(m => m.Corrected);

    // A power that has the prisoner back owes no measures, because it answers for him itself. A request for return is a measure. A failure
    // that is reported after the end of custody happened before that end.
    private static bool OwesMeasures(Transfer transfer) =>
        transfer is { State: TransferState.HandedOver or TransferState.Monitored } or { State: TransferState.Closed, ReturnTime: null };

    /// <summary>When the next duty of access falls due; null: none runs.</summary>
    public static DateTimeOffset? DueOf(Access access) =>
        access.State switch
        {
            AccessState.Requested when !access.DecisionOverdue => access.DecisionDueTime?.ToDateTimeOffset(),
            AccessState.Denied => access.Decision.DenialExpireTime?.ToDateTimeOffset(),
            _ => null,
        };

    private static bool RestsOn(Transfer transfer, string duty) =>
        duty == AssuranceExpiry && Departures.IsPlanned(transfer) || duty == AssessmentExpiry && transfer.Route.PassesCustody();
}
