using Google.Protobuf.Collections;
using Ministries.Consular.V1;
using Ministries.Types.V1;

namespace Ministries.Consular;

/// <summary>Who sees a transfer request, and what of it.</summary>
public static class TransferVisibility
{
    // The acts of the requesting and the accepting side; all other acts are the detaining power's.
    private static readonly string[] OfRequester =
    [
        "DraftTransferRequest",
        "SubmitTransferRequest",
        "GiveAssurance",
        "WithdrawTransferRequest",
    ];

    /// <summary>The sides of the states, and the observers.</summary>
    internal static IEnumerable<string> Sides(string @case, params string[] states) =>
        [.. states.Distinct().Select(s => Audience.State(@case, s)), Audience.Observers(@case)];

    /// <summary>Who sees a draft: the participant for which it was made, while it is party to the case.</summary>
    public static string Drafter(string @case, string state, string participant) =>
        Audience.Named(Audience.State(@case, state), participant);

    /// <summary>Who sees a request: until it is submitted the participant for which it was drafted, then every side; and the power that
    /// is to return him, where that is another.</summary>
    public static IEnumerable<string> AudienceOf(Transfer transfer) =>
        transfer.DetainingPower.Length == 0
            ? [Drafter(transfer.Case, transfer.RequestingState, transfer.Participant)]
            : Sides(
                transfer.Case,
                [
                    transfer.RequestingState,
                    transfer.DetainingPower,
                    transfer.AcceptingPower,
                    .. transfer.ReturningPower.Length > 0 ? (string[])[transfer.ReturningPower] : [],
                ]
            );

    /// <summary>The request as the reader may know it: what is another's to know is left out, as if it were not there.</summary>
    /// <param name="transfer">The request.</param>
    /// <param name="reader">Who reads; one who may see the request.</param>
    public static Transfer Show(Transfer transfer, Participant reader)
    {
        var shown = transfer.Clone();
        var requesting = reader.ActsFor(transfer.RequestingState);
        var detaining = reader.ActsFor(transfer.DetainingPower);
        var observing = reader.IsNeutral();
        if (!requesting)
        {
            shown.DraftTime = null;
            shown.Withheld.Add("draft_time");
        }
        if (!detaining)
        {
            shown.Checks.Clear();
            shown.Withheld.Add("checks");
            if (!observing)
            {
                shown.Assessment = null;
                shown.Breaches.Clear();
                shown.Withheld.Add(["assessment", "breaches"]);
            }
        }
        if (!observing && !reader.ActsFor(transfer.ReturningPower))
        {
            shown.ReturnBreaches.Clear();
            shown.Withheld.Add("return_breaches");
        }
        (shown.BeforeReturn, shown.StateBeforeHandover) = (null, TransferState.Unspecified);
        shown.Withheld.Add(["acts", "before_return", "state_before_handover"]);
        ShowConfirmations(shown.Confirmations, transfer.AcceptingPower, transfer.DetainingPower, reader);
        ShowConfirmations(shown.ReturnConfirmations, transfer.DetainingPower, transfer.ReturningPower, reader);
        shown.Content = Seals.Show(shown.Content, transfer.Participant, reader.Id);
        if (shown.Assessment is { } assessment)
            assessment.Content = Seals.Show(assessment.Content, assessment.Participant, reader.Id);
        if (shown.Plan is { } plan)
            plan.Place = Seals.Show(plan.Place, plan.Participant, reader.Id);
        foreach (var failure in shown.Failures)
        {
            failure.Content = Seals.Show(failure.Content, failure.Participant, reader.Id);
            foreach (var measures in failure.Measures)
                measures.Content = Seals.Show(measures.Content, measures.Participant, reader.Id);
        }
        shown.Acts.Keep(act =>
            act.Participant == reader.Id
            || act.Method switch
            {
                "DraftTransferRequest" => requesting,
                "RecordTransfereeAssessment" => detaining || observing,
                "SuspendTransfer" or "ResumeTransfer" => detaining,
                "CorrectRecord" => false,
                _ => true,
            }
        );
        // A request that was suspended because the detaining power corrected itself looks as any other (D9).
        if (!detaining && !observing)
            foreach (var act in shown.Acts.Where(a => a.Corrected && a.Participant != reader.Id && !OfRequester.Contains(a.Method)))
                act.Corrected = false;
        return shown;
    }

    // The fields of a confirmation that the other side sees only after its own confirmation.
    private static void ShowConfirmations(RepeatedField<Confirmation> confirmations, string taking, string giving, Participant reader)
    {
        foreach (var confirmation in confirmations)
        {
            if (reader.IsNeutral() || reader.ActsFor(confirmation.Side == HandoverSide.Giving ? giving : taking))
                continue;
            confirmation.AcknowledgedBreaches.Clear();
            confirmation.Withheld.Add("acknowledged_breaches");
            if (confirmations.Count == 2)
                continue;
            (confirmation.WindowStartTime, confirmation.WindowEndTime, confirmation.HandoverReference) = (null, null, "");
            confirmation.Openings.Clear();
            confirmation.Withheld.Add(["window_start_time", "window_end_time", "handover_reference", "openings"]);
        }
    }
}
