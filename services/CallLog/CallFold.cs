using Google.Protobuf;
using Google.Protobuf.Collections;
using Ministries.CallLog.V1;
using Ministries.Consular.V1;
using Ministries.Types.V1;
using CorrectRecordRequest = Ministries.CallLog.V1.CorrectRecordRequest;
using DutyFellDue = Ministries.CallLog.V1.DutyFellDue;
using RecordCorrected = Ministries.CallLog.V1.RecordCorrected;

namespace Ministries.CallLog;

/// <summary>What each event does to a call. After each event, the states of the call and of its commitments are derived from what is
/// recorded.</summary>
internal static class CallFold
{
    public static Folds<Call> All =>
        new Folds<Call>()
            .On<CallLogged>(Logged)
            .On<ReadoutSubmitted>(Submitted)
            .On<ReadoutAmended>(Amended)
            .On<ReadoutContested>(Contested)
            .On<CallsLinked>(Linked)
            .On<CommitmentSettled>(Settled)
            .On<DutyFellDue>(FellDue)
            .On<RecordCorrected>(Corrected)
            .On<DraftsTied>()
            .On<TransferRequestDrafted>((c, e, _) => Tie(c, e.Commitment, e.Transfer, e.Prisoner, e.Participant, TiedRequestState.Drafted))
            .On<DraftDiscarded>((c, e, _) => Tie(c, e.Commitment, e.Transfer, e.Prisoner, null, TiedRequestState.Discarded))
            .On<TransferRequestSubmitted>(
                (c, e, _) => Tie(c, e.Commitment, e.Transfer, e.Prisoner, e.Participant, TiedRequestState.Submitted)
            )
            .After(Settle);

    private static void Logged(Call call, CallLogged e, FoldedEntry entry)
    {
        (call.Id, call.Case, call.LogTime) = (e.Call, e.Case, entry.Time);
        call.Sides.AddRange(e.Sides);
        call.Classification = entry.Request is LogCallRequest logged
            ? logged.Classification?.Clone() ?? new Classification()
            // The request was erased, and its marking with it. The call is then secret and for its sides only, so that nobody sees more
            // than before.
            : new Classification { Level = Level.Secret, ReleasableTo = { e.Sides.Select(s => s.Participant) } };
        Give(call, e.Participant, (entry.Request as LogCallRequest)?.Account, null, e.Commitments, entry);
    }

    private static void Submitted(Call call, ReadoutSubmitted e, FoldedEntry entry) =>
        Give(call, e.Participant, (entry.Request as SubmitReadoutRequest)?.Account, null, e.Commitments, entry);

    private static void Amended(Call call, ReadoutAmended e, FoldedEntry entry)
    {
        var request = entry.Request as AmendReadoutRequest;
        Give(call, e.Participant, request?.Account, request?.Explanation, e.Commitments, entry);
    }

    private static void Contested(Call call, ReadoutContested e, FoldedEntry entry)
    {
        var request = entry.Request as ContestReadoutRequest;
        call.Contests.Add(
            new Contest
            {
                Participant = e.Participant,
                Version = request?.Version ?? 0,
                Fields = { request?.Fields ?? [] },
                Position = entry.Position,
                ContestTime = entry.Time,
                Explanation = Seals.Keep(request?.Explanation, entry.Position),
            }
        );
    }

    private static void Linked(Call call, CallsLinked e, FoldedEntry entry) =>
        call.Links.Add(
            new Link
            {
                Call = call.Id == e.Call ? e.SameAsCall : e.Call,
                Participant = entry.Participant,
                Position = entry.Position,
            }
        );

    private static void Settled(Call call, CommitmentSettled e, FoldedEntry entry) =>
        Commitments
            .Find(call, e.Commitment)!
            .Settlements.Add(
                new Settlement
                {
                    Kind = e.Kind,
                    Participant = entry.Participant,
                    Position = entry.Position,
                    SettleTime = entry.Time,
                    SupersededBy = (entry.Request as SettleCommitmentRequest)?.SupersededBy ?? "",
                }
            );

    private static void FellDue(Call call, DutyFellDue e, FoldedEntry entry)
    {
        foreach (var id in e.Commitments)
            Commitments.Find(call, id)!.OverdueTime = e.DueTime;
    }

    private static void Corrected(Call call, RecordCorrected e, FoldedEntry entry)
    {
        foreach (var version in call.Readouts.SelectMany(r => r.Versions))
            version.Corrected |= version.Position == e.Position;
        foreach (var contest in call.Contests)
            contest.Corrected |= contest.Position == e.Position;
        foreach (var link in call.Links)
            link.Corrected |= link.Position == e.Position;
        foreach (var commitment in call.Commitments)
        {
            foreach (var saying in commitment.Sayings)
                saying.Corrected |= saying.Position == e.Position;
            foreach (var settlement in commitment.Settlements)
                settlement.Corrected |= settlement.Position == e.Position;
        }
        call.Corrections.Add(
            new Correction
            {
                Position = e.Position,
                Participant = e.Participant,
                CorrectTime = entry.Time,
                Explanation = Seals.Keep((entry.Request as CorrectRecordRequest)?.Explanation, entry.Position),
            }
        );
    }

    private static void Give(
        Call call,
        string participant,
        Account? account,
        Sealed? explanation,
        RepeatedField<string> commitments,
        FoldedEntry entry
    )
    {
        var readout = call.Readouts.FirstOrDefault(r => r.Participant == participant);
        if (readout is null)
            call.Readouts.Add(readout = new Readout { Participant = participant });
        account = account?.Clone();
        if (account is not null)
            account.Minutes = Seals.Keep(account.Minutes, entry.Position);
        readout.Versions.Add(
            new ReadoutVersion
            {
                Number = (uint)readout.Versions.Count + 1,
                Position = entry.Position,
                GiveTime = entry.Time,
                Account = account,
                Explanation = Seals.Keep(explanation, entry.Position),
            }
        );
        // An account that was erased leaves the ids of what it promised: later entries speak of them.
        for (var i = 0; i < commitments.Count; i++)
        {
            var commitment = Commitments.Find(call, commitments[i]);
            if (commitment is null)
                call.Commitments.Add(commitment = new Commitment { Id = commitments[i], Terms = new CommitmentTerms() });
            if (account is not null && commitment.Terms.Participant.Length == 0)
                commitment.Terms = account.Commitments[i].Clone();
            commitment.Sayings.Add(new Saying { Participant = participant, Position = entry.Position });
        }
    }

    private static void Tie(Call call, string id, string transfer, string prisoner, string? participant, TiedRequestState state)
    {
        var commitment = Commitments.Find(call, id)!;
        var tied = commitment.Requests.FirstOrDefault(r => r.Transfer == transfer);
        if (tied is null)
            commitment.Requests.Add(
                tied = new TiedRequest
                {
                    Transfer = transfer,
                    Prisoner = prisoner,
                    Participant = participant ?? commitment.Terms.Participant,
                }
            );
        // Events may come out of order, so the later state of the two stays.
        tied.State = state switch
        {
            TiedRequestState.Submitted => state,
            _ when tied.State == TiedRequestState.Unspecified => state,
            TiedRequestState.Discarded when tied.State == TiedRequestState.Drafted => state,
            _ => tied.State,
        };
    }

    // Derives the states from what is recorded.
    private static void Settle(Call call, IMessage e, FoldedEntry entry)
    {
        var accounts = call.Readouts.Count(r => Accounts.Counting(r) is not null) + (call.Links.Any(l => !l.Corrected) ? 1 : 0);
        call.State =
            call.Contests.Any(c => !c.Corrected) ? CallState.Contested
            : accounts > 1 ? CallState.Mutual
            : CallState.OneSided;
        foreach (var commitment in call.Commitments)
        {
            var before = commitment.State;
            commitment.State = Commitments.StateOf(commitment);
            if (commitment.State == CommitmentState.Open && before != CommitmentState.Open)
                commitment.OpenTime = entry.Time;
        }
    }
}
