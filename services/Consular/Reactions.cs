using Google.Protobuf;
using Ministries.CallLog.V1;
using Ministries.Consular.V1;
using Ministries.Custody.V1;
using Ministries.Errors.V1;
using State = Ministries.Consular.V1.TransferState;

namespace Ministries.Consular;

/// <summary>What the consular service does on other services' events. It refuses none: what it can record, it records.</summary>
public static class Reactions
{
    /// <summary>The reactions, one for each event type.</summary>
    public static readonly IReadOnlyList<Reaction> All =
    [
        Reaction.To<CaseOpened>("custody", Cases.Copy),
        Reaction.To<PartyAdmitted>(
            "custody",
            Admitted,
            (e, services, cancel) => services.GetRequiredService<CustodyQuestions>().AskAgain(e.Case, cancel)
        ),
        Reaction.To<PartyRemoved>("custody", Cases.Copy),
        Reaction.To<CaseClosed>("custody", Cases.Copy),
        Reaction.To<CaseReopened>("custody", Cases.Copy),
        Reaction.To<PrisonerRegistered>("custody", Cases.Copy),
        Reaction.To<CustodyTransferred>("custody", (e, context) => Passed(e, context, e.Case, e.Prisoner)),
        Reaction.To<DepartureRecorded>("custody", (e, context) => Passed(e, context, e.Case, e.Prisoner)),
        Reaction.To<StatusRecorded>(
            "custody",
            StatusChanged,
            (e, services, cancel) => Ask(services, e.Case, e.Prisoner, cancel),
            e => About(e.Case, e.Prisoner)
        ),
        Changed<StatementRecorded>(e => (e.Case, e.Prisoner)),
        Changed<StatementAttested>(e => (e.Case, e.Prisoner)),
        Changed<AttestationRevoked>(e => (e.Case, e.Prisoner)),
        Changed<RiskAssessmentRecorded>(e => (e.Case, e.Prisoner)),
        Changed<FitnessRecorded>(e => (e.Case, e.Prisoner)),
        Changed<Custody.V1.RecordCorrected>(e => (e.Case, e.Prisoner)),
        Changed<Custody.V1.DutyFellDue>(e => (e.Case, e.Prisoner)),
        // An interview was not private if an official attended whose state claims the person, or on whose state the person depends (D7).
        Changed<ClaimRecorded>(e => (e.Case, e.Prisoner)),
        Changed<BureauNotified>(e => (e.Case, e.Prisoner)),
        // Statements under either reference count for the other (D9). Every later question in the case depends on which reference is kept.
        // So this event names no subject, and later questions wait for it.
        Reaction.To<DuplicateLinked>(
            "custody",
            (e, context) => Recheck(e, context, e.Case, e.SameAsPrisoner),
            (e, services, cancel) => Ask(services, e.Case, e.SameAsPrisoner, cancel)
        ),
        Reaction.To<CallLogged>("calllog", (e, context) => Draft(e.Case, e.Call, e.TransferCommitments, context)),
        Reaction.To<ReadoutSubmitted>("calllog", (e, context) => Draft(e.Case, e.Call, e.TransferCommitments, context)),
        Reaction.To<ReadoutAmended>("calllog", (e, context) => Draft(e.Case, e.Call, e.TransferCommitments, context)),
        Reaction.To<CallLog.V1.RecordCorrected>("calllog", CallCorrected),
    ];

    /// <summary>The position of the entry that published an event, from the event's id (service/position/index); null where it is
    /// none.</summary>
    public static ulong? PositionOf(string eventId) =>
        eventId.Split('/') is [_, var position, _] && ulong.TryParse(position, out var number) ? number : null;

    // -------------------- from custody

    private static Reaction Changed<T>(Func<T, (string Case, string Prisoner)> of)
        where T : class, IMessage<T>, new() =>
        Reaction.To<T>(
            "custody",
            (e, context) => Recheck(e, context, of(e).Case, of(e).Prisoner),
            (e, services, cancel) => Ask(services, of(e).Case, of(e).Prisoner, cancel),
            e => About(of(e).Case, of(e).Prisoner)
        );

    // The question is about the request that is under way for the prisoner (CustodyQuestions.AskAgain).
    private static string About(string @case, string prisoner) => $"{@case}/{prisoner}";

    private static Task<IMessage?> Ask(IServiceProvider services, string @case, string prisoner, CancellationToken cancel) =>
        services.GetRequiredService<CustodyQuestions>().AskAgain(@case, prisoner, cancel);

    /// <summary>Custody recorded something about the prisoner on which a departure may rest. The departure under way goes on only if all
    /// its conditions are still met. Nobody is told what was recorded.</summary>
    private static Decision Recheck(IMessage e, RuleContext context, string @case, string prisoner)
    {
        if (prisoner.Length == 0)
            return Decision.Accept(@case, [], []);
        var links = context.Find(Dossiers.Links, @case);
        string[] references = e is DuplicateLinked linked ? [linked.SameAsPrisoner, linked.Prisoner] : [.. References(links, prisoner)];
        List<StreamId> streams = [.. references.Select(r => Dossiers.Kind.Id(Dossiers.Key(@case, r)))];
        if (e is DuplicateLinked || links is not null && e is Custody.V1.RecordCorrected)
            streams.Add(Dossiers.Links.Id(@case));
        List<Change> changes = [new Change(e, streams)];
        if (e is Custody.V1.RecordCorrected corrected && Dossiers.IsUndone(links, corrected))
        {
            changes.AddRange(Accesses.PassBack(corrected, context));
            changes.AddRange(Restored(corrected, context));
        }
        changes.AddRange(
            references
                .SelectMany(r => UnderWay(context, context.Find(Dossiers.Kind, Dossiers.Key(@case, r))))
                .Where(t => IsStopped(t, context))
                .Select(Suspended)
        );
        return Decision.Accept(@case, [], changes);
    }

    // The return or hand-over under the kept reference concerned another prisoner. The power that transferred this one answers for that as
    // before (12(3)). The same entry records this reference's own hand-overs, and a return among them relieves that power again.
    private static IEnumerable<Change> Restored(Custody.V1.RecordCorrected e, RuleContext context)
    {
        if (Transfers.InCase(context, e.Case, e.Prisoner) is not { } held)
            return [];
        var power = e.AnsweringPower.Length > 0 ? e.AnsweringPower : held.LastDetainingPower;
        var dossier = context.Find(Dossiers.Kind, Dossiers.Key(e.Case, e.Prisoner));
        return Found(context, dossier, _ => true)
            .Where(t =>
                TransferFold.IsToRestore(t, power)
                || held.FormerPowers.Contains(t.DetainingPower)
                    && TransferFold.IsWatched(t)
                    && t.ReturningPower.Length > 0
                    && t.ReturningPower != power
            )
            .Select(t => Transfers.Record.On(t, new TransferRestored { DetainingPower = power }));
    }

    // The reference and the one that is kept, under which the person departs.
    private static IEnumerable<string> References(CaseLinks? links, string prisoner) =>
        ((string[])[prisoner, Dossiers.PersonOf(links, prisoner)[0]]).Distinct();

    /// <summary>A party was admitted. With its state the interview of anybody in the case may be private no longer (D7), so every
    /// departure that is under way is asked about again. It may be the accepting power that comes: whether that is there is asked at each
    /// step.</summary>
    private static Decision Admitted(PartyAdmitted e, RuleContext context)
    {
        var copied = Cases.Copy(e, context);
        if (copied.Refusal is not null)
            return copied;
        var answers = (context.Asked as CaseCheck)?.Checks.ToDictionary(c => c.Prisoner, c => c.Check) ?? [];
        var prisoners = context.Find(Cases.Kind, e.Case)!.Prisoners.Select(p => p.Prisoner).ToArray();
        var stopped = prisoners.SelectMany(p =>
            UnderWay(context, context.Find(Dossiers.Kind, Dossiers.Key(e.Case, p)))
                .Where(t => IsStopped(t, context.About(answers.GetValueOrDefault(p)), but: Reason.AcceptingPowerAbsent))
        );
        StreamId[] streams = [Cases.Kind.Id(e.Case), .. prisoners.Select(p => Dossiers.Kind.Id(Dossiers.Key(e.Case, p)))];
        return Decision.Accept(e.Case, [], [new Change(e, streams), .. stopped.Select(Suspended)]);
    }

    private static Decision StatusChanged(StatusRecorded e, RuleContext context)
    {
        var copied = Cases.Copy(e, context);
        if (copied.Refusal is not null)
            return copied;
        var dossier = context.Find(Dossiers.Kind, Dossiers.Key(e.Case, e.Prisoner));
        // A link ends custody only under the reference that is no longer kept. The person is still held.
        var kept = Dossiers.PersonOf(context.Find(Dossiers.Links, e.Case), e.Prisoner)[0] == e.Prisoner;
        var recorded = new Change(
            e,
            [
                Cases.Kind.Id(e.Case),
                Dossiers.Kind.Id(Dossiers.Key(e.Case, e.Prisoner)),
                .. WatchedOver(e, kept, context).Select(t => Transfers.Kind.Id(t.Id)),
                .. e.Ended && kept ? Accesses.Awaiting(e.Case, e.Prisoner, context) : [],
            ]
        );
        Transfer[] lost = e.Ended
            ? [.. Open(context, dossier)]
            : [.. UnderWay(context, dossier).Where(t => !e.Held || IsStopped(t, context) || IsOffTheWay(t, context))];
        return Decision.Accept(e.Case, [], [recorded, .. lost.Select(Suspended), .. e.Ended ? [] : Accesses.GoOn(e, kept, context)]);
    }

    // The transfers, under any reference, that change when custody ends or goes on: those with a request for return, and those that were
    // closed because custody had ended. For each of them a power still answers (12(3)).
    private static IEnumerable<Transfer> WatchedOver(StatusRecorded e, bool kept, RuleContext context) =>
        DossiersOf(context, e.Case, e.Prisoner)
            .SelectMany(of => Found(context, of.Dossier, t => t.State is State.Closed or State.Monitored or State.ReturnRequested))
            .Where(t =>
                t.State == State.Closed ? !e.Ended && t.ReturnTime is null
                : e.Ended ? kept && TransferFold.Runs(t)
                : TransferFold.IsStopped(t) && (kept || t.Prisoner == e.Prisoner)
            );

    // The prisoner set out, and custody no longer records him in transit: he is in hospital, or fled and was caught.
    private static bool IsOffTheWay(Transfer transfer, RuleContext context) =>
        !Knew(transfer, context) && Transfers.IsOffTheWay(transfer, context.Asked);

    /// <summary>Custody passed, or ended. The request that led there is monitored from now on. All other requests to the previous power are
    /// suspended, because it can no longer decide on them. A requested return is now owed by the power that holds the prisoner. Access
    /// passes with custody.</summary>
    private static Decision Passed(IMessage e, RuleContext context, string @case, string prisoner)
    {
        var copied = Cases.Copy(e, context);
        if (copied.Refusal is not null)
            return copied;
        var (dossier, passed) = (context.Find(Dossiers.Kind, Dossiers.Key(@case, prisoner)), e as CustodyTransferred);
        // A request under a linked reference also led there, or is overtaken by it.
        StreamId[] streams =
        [
            Cases.Kind.Id(@case),
            .. DossiersOf(context, @case, prisoner)
                .SelectMany(of =>
                    Found(
                            context,
                            of.Dossier,
                            t =>
                                passed is not null
                                    ? t.State is not (State.Drafted or State.Discarded)
                                    : t.State is State.HandedOver or State.Monitored or State.ReturnRequested
                        )
                        .Where(t => passed is not null ? Follows(t, passed) : t.State == State.HandedOver || TransferFold.Runs(t))
                        .Select(t => Transfers.Kind.Id(t.Id))
                        .Prepend(of.Stream)
                ),
            .. passed is { Ended: false } ? [] : Accesses.Awaiting(@case, prisoner, context),
        ];
        // Where custody only says who answers again for a transfer, he passed as it was said.
        var chain = passed is not null && Cases.IsOfChainAlone(passed);
        var accesses = passed is null || chain ? [] : Accesses.Pass(passed, context);
        var lost = chain ? [] : Open(context, dossier);
        return Decision.Accept(@case, [], [new Change(e, streams), .. lost.Select(Suspended), .. accesses]);
    }

    // Whether a hand-over changes the transfer request. It changes requests that are watched, under way or confirmed. It also changes
    // requests that were closed because custody had ended or the prisoner had come back: the hand-over shows that he had not.
    private static bool Follows(Transfer transfer, CustodyTransferred e) =>
        transfer.State == State.HandedOver
        || TransferFold.IsWatched(transfer)
        || TransferFold.IsOvertaken(transfer)
        || TransferFold.IsUnrecordedReturn(transfer)
        || (e.Undone ? transfer.BeforeReturn is not null : !e.Ended && transfer is { State: State.Closed, ReturnTime: null });

    // The dossiers of the person, under all references, each with its stream. The dossier of the given reference comes first.
    private static IEnumerable<(StreamId Stream, Dossier? Dossier)> DossiersOf(RuleContext context, string @case, string prisoner) =>
        Dossiers
            .PersonOf(context.Find(Dossiers.Links, @case), prisoner)
            .Prepend(prisoner)
            .Distinct()
            .Select(r => Dossiers.Key(@case, r))
            .Select(key => (Dossiers.Kind.Id(key), context.Find(Dossiers.Kind, key)));

    private static bool IsStopped(Transfer transfer, RuleContext context, Reason? but = null) =>
        !Knew(transfer, context) && Departures.Obstacles(transfer, context).Any(o => o.Reason != but);

    /// <summary>Whether the transfer's last step rests on an answer that custody gave after the event. Custody then already knew of the
    /// event, and the answer to this reaction is older. A confirmation rests on no answer: one side's account is recorded whatever custody
    /// answered.</summary>
    private static bool Knew(Transfer transfer, RuleContext context) =>
        PositionOf(context.RequestId) is { } position
        && transfer.Checks.LastOrDefault(c => c.Step != nameof(Transfers.ConfirmHandover))?.CustodyPosition > position;

    private static Change Suspended(Transfer transfer) => Transfers.Record.On(transfer, new TransferSuspended());

    // A transfer that a request for return blocks is not the dossier's active one, but is stopped in the same way.
    private static IEnumerable<Transfer> UnderWay(RuleContext context, Dossier? dossier) =>
        Found(context, dossier, t => t is { Suspended: false, State: State.Agreed or State.InTransit })
            .Where(t => Transfers.IsUnderWay(t.State));

    private static IEnumerable<Transfer> Open(RuleContext context, Dossier? dossier) =>
        Found(context, dossier, t => t.State is State.Submitted or State.Agreed or State.InTransit)
            .Where(t => t.State is State.Submitted or State.UnderReview || Transfers.IsUnderWay(t.State));

    private static IEnumerable<Transfer> Found(RuleContext context, Dossier? dossier, Func<DossierTransfer, bool> which) =>
        [.. (dossier?.Transfers ?? []).Where(which).Select(t => context.Find(Transfers.Kind, t.Transfer)).OfType<Transfer>()];

    // -------------------- from the call log

    /// <summary>Drafts a request for each prisoner of each commitment to request a transfer, for the participant that is to request
    /// it and seen by it alone. The same event makes the same drafts.</summary>
    private static Decision Draft(string @case, string call, IReadOnlyCollection<TransferCommitment> commitments, RuleContext context)
    {
        var changes = new List<Change>();
        var audience = new HashSet<string>();
        foreach (var commitment in commitments)
        {
            if (context.Permissions.Participant(commitment.Participant)?.State is not { Length: > 0 } state)
                continue;
            foreach (var prisoner in commitment.Prisoners)
            {
                var id = context.NewId("transfer", changes.Count);
                changes.Add(
                    new Change(
                        new TransferRequestDrafted
                        {
                            Case = @case,
                            Transfer = id,
                            Prisoner = prisoner,
                            Participant = commitment.Participant,
                            Route = commitment.Route,
                            Call = call,
                            Commitment = commitment.Commitment,
                            Destination = commitment.Destination,
                            RequestingState = state,
                        },
                        [Transfers.Kind.Id(id), Dossiers.Kind.Id(Dossiers.Key(@case, prisoner)), Dossiers.Calls.Id(call)]
                    )
                );
                audience.Add(TransferVisibility.Drafter(@case, state, commitment.Participant));
            }
        }
        // An entry that drafts for two participants is neither's to see; each sees its own records.
        return Decision.Accept(@case, audience.Count == 1 ? [.. audience] : [], changes);
    }

    /// <summary>A side corrected what it had said: what was asked for on the ground of a commitment that nothing says any more is
    /// suspended.</summary>
    private static Decision CallCorrected(CallLog.V1.RecordCorrected e, RuleContext context)
    {
        var suspended = new List<Change>();
        foreach (var id in context.Find(Dossiers.Calls, e.Record)?.Transfers ?? [])
        {
            if (context.Find(Transfers.Kind, id) is not { } transfer || !e.Commitments.Contains(transfer.Commitment))
                continue;
            if (transfer.State is State.Submitted or State.UnderReview || Transfers.IsUnderWay(transfer.State))
                suspended.Add(Suspended(transfer));
        }
        return Decision.Accept(e.Case, [], suspended);
    }
}
