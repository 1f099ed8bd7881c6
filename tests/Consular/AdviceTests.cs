using Ministries.Consular.V1;
using Ministries.Custody.V1;
using Ministries.Errors.V1;
using Ministries.Fixtures;
using Ministries.Types.V1;
using static Ministries.Consular.Tests.CaseFixture;
using Route = Ministries.Types.V1.Route;
using State = Ministries.Consular.V1.TransferState;

namespace Ministries.Consular.Tests;

/// <summary>Whoever does what a refusal of the consular service advises is refused for it no longer.</summary>
public class AdviceTests
{
    private static readonly IReadOnlyList<Reason> Range = [.. Advice.ReasonsOf(300, 399), .. Advice.ReasonsOf(430, 439)];

    private static readonly Dictionary<Reason, string> NothingToFollow = new()
    {
        [Reason.NotAnArticle12Transfer] = "no step turns another departure into a transfer under Article 12, whose duties these are",
    };

    private static readonly Advice<CaseFixture>[] Plays =
    [
        .. OnRequests,
        .. OnReceivingStates,
        .. OnDepartures,
        .. OnConfirmations,
        .. OnDuties,
        .. AccessAdvice.OnAccess,
        .. AccessAdvice.OnDenials,
        .. OnWhatHasEnded,
    ];

    public static TheoryData<Reason, string> Rows => [.. Plays.Select(p => (p.Reason, p.Cause))];

    [Theory, MemberData(nameof(Rows))]
    public void What_a_refusal_advises_unlocks_it(Reason reason, string cause) =>
        Advice.AssertWorks(reason, Plays.Single(p => p.Reason == reason && p.Cause == cause).Play(new CaseFixture()));

    [Fact]
    public void Every_reason_of_the_consular_service_has_a_play() =>
        Advice.AssertComplete(Range, Plays.Select(p => p.Reason).Where(r => r != Reason.StateNotAllowed), NothingToFollow);

    [Fact]
    public void What_the_advice_names_is_there() => Advice.AssertNamesExist(Range, "latest_expire_time");

    /// <summary>A fact is never refused for good: the refusal of a confirmation tells the side how to record it all the same.
    /// </summary>
    [Theory]
    [InlineData(Reason.PrisonerNotHeld, "D1")]
    [InlineData(Reason.AcceptingPowerAbsent, "D1")]
    [InlineData(Reason.ReceivingStateNotParty, "D2")]
    [InlineData(Reason.RouteNotFitting, "D2")]
    [InlineData(Reason.AssuranceNotInForce, "D2")]
    [InlineData(Reason.AssessmentNotInForce, "D2")]
    [InlineData(Reason.StandingNotInForce, "D9")]
    [InlineData(Reason.FitnessNotRecorded, "D10")]
    [InlineData(Reason.RiskNotAssessed, "D11")]
    [InlineData(Reason.DepartureNotFree, "D12")]
    public void What_took_place_is_acknowledged_by_the_invariant_that_the_advice_names(Reason reason, string invariant) =>
        Assert.Contains($"name {invariant} in acknowledged_breaches", Reasons.AboutOf(reason).Unlock);

    // ---- requests ----------------------------------------------------------------------------------------------------------

    private static Advice<CaseFixture>[] OnRequests =>
        [
            new(Reason.DestinationIsDetainingPower, "another destination", f => Drafted(f, r => r.Destination = "UA")),
            new(
                Reason.DestinationIsDetainingPower,
                "a release where he is held",
                f => Drafted(f, r => r.Destination = "UA", r => (r.Route, r.Destination) = (Route.Release, "UA"))
            ),
            new(Reason.DestinationIsDetainingPower, "there since it was drafted; drafted anew", DraftedForWhoHoldsHim),
            new(Reason.PrisonerNotHeld, "nobody answers for him; in custody again", f => Drafted(f, _ => { }) with { Follow = Held(f) }),
            new(Reason.PrisonerNotHeld, "access; in custody again", f => new(() => AccessAdvice.RequestAccess(f), Held(f))),
            new(Reason.PrisonerNotHeld, "review; held again", HeldForReview),
            new(Reason.PrisonerNotHeld, "return; it took place", ReturnedWhenNotHeld),
            new(Reason.PreviousRequestNotNamed, "none is named; it is", DeclinedNamed),
            new(Reason.PreviousRequestNotNamed, "another is named; none was declined", WithdrawnNotNamed),
            new(Reason.AnotherTransferStands, "agreed; declined", f => Other(f, State.Agreed, id => f.TryDecide(id, agreed: false))),
            new(Reason.AnotherTransferStands, "on the way; called off and declined", f => Other(f, State.InTransit, id => CallOff(f, id))),
            new(Reason.AnotherTransferStands, "a return; withdrawn", ReturnStands),
        ];

    private static Advised Drafted(
        CaseFixture f,
        Action<DraftTransferRequestRequest> wrong,
        Action<DraftTransferRequestRequest>? right = null
    ) =>
        Advice.OfRequest(
            () =>
                new DraftTransferRequestRequest
                {
                    Prisoner = First,
                    Route = Route.Article12Transfer,
                    Destination = "KR",
                },
            r => f.Try(Kr, r, Transfers.DraftTransferRequest),
            wrong,
            right
        );

    private static Advised DraftedForWhoHoldsHim(CaseFixture f)
    {
        var id = f.Draft();
        f.Pass("UA", "KR");
        return new(() => Submit(f, id), () => id = f.Draft(destination: "CH"));
    }

    // His custody has ended; whoever has him in custody again records it.
    private static Action Held(CaseFixture f)
    {
        Status(f, held: false, ended: true);
        return () => Status(f, held: true);
    }

    private static Advised HeldForReview(CaseFixture f)
    {
        var id = f.To(State.Submitted);
        Status(f, held: false);
        return new(() => Review(f, id), () => Status(f, held: true));
    }

    private static Advised ReturnedWhenNotHeld(CaseFixture f)
    {
        var id = ReturnRequested(f);
        Status(f, held: false);
        var acknowledged = Array.Empty<Invariant>();
        return new(() => ConfirmReturn(f, id, Kr, acknowledged), () => acknowledged = [Invariant.D1]);
    }

    private static Advised DeclinedNamed(CaseFixture f)
    {
        var (declined, id, previous) = (f.To(State.Declined), f.Draft(), "");
        return new(() => Submit(f, id, previous: previous), () => previous = declined);
    }

    private static Advised WithdrawnNotNamed(CaseFixture f)
    {
        var withdrawn = f.To(State.Withdrawn);
        return Drafted(f, r => r.PreviousTransfer = withdrawn);
    }

    private static Advised Other(CaseFixture f, State state, Func<string, Reason> end)
    {
        var id = f.To(State.UnderReview);
        var other = f.To(state);
        return new(() => f.TryDecide(id), () => Done(end(other)));
    }

    private static Reason CallOff(CaseFixture f, string id)
    {
        Done(f.Try(Ua, new AbortHandoverRequest { Transfer = id }, Transfers.AbortHandover));
        return f.TryDecide(id, agreed: false);
    }

    private static Advised ReturnStands(CaseFixture f)
    {
        var other = f.To(State.ReturnRequested);
        var id = Reviewed(f, Ru, "RU", Kr);
        return new(() => Decide(f, id, Kr), () => Done(WithdrawReturn(f, other)));
    }

    // ---- receiving states --------------------------------------------------------------------------------------------------

    private static Advice<CaseFixture>[] OnReceivingStates =>
        [
            new(Reason.ReceivingStateNotParty, "it accedes", Accedes),
            new(Reason.ReceivingStateNotParty, TookPlace, f => HandedOver(f, Invariant.D2, () => KoreaIsNoParty(f))),
            new(Reason.AssuranceIncomplete, "no refoulement", f => Assured(f, Route.Repatriation, Undertaking.NonRefoulement)),
            new(
                Reason.AssuranceIncomplete,
                "the next detaining power",
                f => Assured(f, Route.Article12Transfer, Undertaking.ApplyConvention)
            ),
            new(
                Reason.AssuranceIncomplete,
                "accommodation by a neutral power",
                f => Assured(f, Route.NeutralAccommodation, Undertaking.ApplyConvention)
            ),
            new(Reason.AssuranceIncomplete, "a release", f => Assured(f, Route.Release, Undertaking.RightToStay)),
            new(Reason.AssuranceIncomplete, "a reservation", AssuredWithoutReservation),
            new(
                Reason.AssuranceIncomplete,
                "a state that the Refugee Convention does not bind",
                f => AssuredUnbound(f, s => s.PartyToRefugeeConvention = false, Undertaking.RefugeeProtection)
            ),
            new(
                Reason.AssuranceIncomplete,
                "a next detaining power that Protocol I does not bind",
                f => AssuredUnbound(f, s => s.PartyToAp1 = false, Undertaking.ProtocolI)
            ),
            new(Reason.AssuranceNotInForce, "run out; given anew", AssuranceRunOut),
            new(Reason.AssuranceNotInForce, "corrected; given anew", AssuranceCorrected),
            new(Reason.AssuranceNotInForce, TookPlace, f => HandedOver(f, Invariant.D2, () => Elapse(f, 31))),
            new(Reason.AssessmentNotInForce, "unwilling; willing since", Unwilling),
            new(Reason.AssessmentNotInForce, TookPlace, AssessmentRunOut),
            new(Reason.AcceptingPowerAbsent, "another of its organs is admitted", Absent),
            new(Reason.AcceptingPowerAbsent, TookPlace, f => HandedOver(f, Invariant.D1, () => Remove(f, Kr))),
            new(Reason.RouteNotFitting, "the claim is recorded", f => Asked(f, Answer(fits: false))),
            new(Reason.RouteNotFitting, "by another route", ByAnotherRoute),
            new(Reason.RouteNotFitting, TookPlace, f => HandedOver(f, Invariant.D2, () => f.Custody = Answer(fits: false))),
        ];

    private static Advised Accedes(CaseFixture f)
    {
        f.Custody = Answer("XX");
        var id = Reviewed(f, Xx, "XX");
        return new(() => f.TryDecide(id), () => f.RuleRunner.Permissions.State("XX")!.PartyToGc3 = true);
    }

    private static void KoreaIsNoParty(CaseFixture f) => f.RuleRunner.Permissions.State("KR")!.PartyToGc3 = false;

    private static Advised Assured(CaseFixture f, Route route, Undertaking missing)
    {
        var id = f.To(State.Submitted, route: route);
        return Advice.OfRequest(
            () => f.Assurance(id),
            r => f.Try(Kr, r, Transfers.GiveAssurance),
            r => Assert.True(r.Undertakings.Remove(missing))
        );
    }

    private static Advised AssuredWithoutReservation(CaseFixture f)
    {
        f.RuleRunner.Permissions.State("KR")!.Reservations.Add(12);
        var id = f.To(State.Submitted);
        return Advice.OfRequest(
            () => f.Assurance(id),
            r => f.Try(Kr, r, Transfers.GiveAssurance),
            _ => { },
            r => r.Undertakings.Add(Undertaking.WithoutReservation)
        );
    }

    private static Advised AssuredUnbound(CaseFixture f, Action<Types.V1.State> leave, Undertaking undertaking)
    {
        leave(f.RuleRunner.Permissions.State("KR")!);
        var id = f.To(State.Submitted);
        return Advice.OfRequest(
            () => f.Assurance(id),
            r => f.Try(Kr, r, Transfers.GiveAssurance),
            _ => { },
            r => r.Undertakings.Add(undertaking)
        );
    }

    private static Advised AssuranceRunOut(CaseFixture f)
    {
        var id = f.To(State.UnderReview);
        Elapse(f, 31);
        Done(Assess(f, id));
        return new(() => f.TryDecide(id), () => Done(Assure(f, id)));
    }

    private static Advised AssuranceCorrected(CaseFixture f)
    {
        var id = f.To(State.Agreed);
        Done(Correct(f, id, Kr, f.Transfer(id).Assurance.Position));
        return new(() => Resume(f, id), () => Done(Assure(f, id)));
    }

    private static Advised Unwilling(CaseFixture f)
    {
        var id = f.To(State.UnderReview);
        Done(Assess(f, id, willing: false));
        return new(() => f.TryDecide(id), () => Done(Assess(f, id)));
    }

    private static Advised AssessmentRunOut(CaseFixture f) =>
        HandedOver(
            f,
            Invariant.D2,
            id =>
            {
                Elapse(f, 31);
                Done(Assure(f, id));
            }
        );

    private static Advised Absent(CaseFixture f)
    {
        var id = f.To(State.UnderReview);
        Remove(f, Kr);
        return new(() => f.TryDecide(id), () => f.Admit(Stranger, Part.RequestingState, "KR"));
    }

    private static void Remove(CaseFixture f, string participant) =>
        f.Happen(new PartyRemoved { Case = f.Case, Participant = participant });

    private static Advised ByAnotherRoute(CaseFixture f)
    {
        f.Custody = Answer(fits: false);
        var id = f.To(State.UnderReview, route: Route.Repatriation);
        return new(
            () => f.TryDecide(id),
            () =>
            {
                f.Custody = Answer();
                id = f.To(State.UnderReview, route: Route.Release);
            }
        );
    }

    // ---- departures --------------------------------------------------------------------------------------------------------

    private const string TookPlace = "it took place; acknowledged";

    private static Advice<CaseFixture>[] OnDepartures =>
        [
            new(Reason.CustodyAnswerOutdated, "asked again", AnswerOutdated),
            new(Reason.OpeningMissing, "his statement is opened", NotOpened),
            new(Reason.StandingNotInForce, "he is heard in private", f => Asked(f, Lost)),
            new(Reason.StandingNotInForce, TookPlace, f => HandedOver(f, Invariant.D9, () => f.Custody = Lost)),
            new(Reason.FitnessNotRecorded, "he is examined", f => Asked(f, Answer(fit: false))),
            new(Reason.FitnessNotRecorded, TookPlace, f => HandedOver(f, Invariant.D10, () => f.Custody = Answer(fit: false))),
            new(Reason.RiskNotAssessed, "assessed", f => Asked(f, Answer(risk: false))),
            new(Reason.RiskNotAssessed, TookPlace, f => HandedOver(f, Invariant.D11, () => f.Custody = Answer(risk: false))),
            new(Reason.DepartureNotFree, "they delay no longer", f => Asked(f, Answer(free: false))),
            new(Reason.DepartureNotFree, TookPlace, f => HandedOver(f, Invariant.D12, () => f.Custody = Answer(free: false))),
            new(Reason.DepartureNotCleared, "who holds him supplies it", f => NotCleared(f, () => f.Custody = Answer())),
            new(Reason.DepartureNotCleared, TookPlace, f => HandedOver(f, Invariant.D9, () => f.Custody = Lost, by: Kr)),
            new(Reason.DepartureNotCleared, "a return; who holds him supplies it", ReturnNotCleared),
        ];

    // What custody answers lacks something; then that is recorded there.
    private static Advised Asked(CaseFixture f, DepartureCheck lacking)
    {
        var id = f.To(State.UnderReview);
        f.Custody = lacking;
        return new(() => f.TryDecide(id), () => f.Custody = Answer());
    }

    private static Advised AnswerOutdated(CaseFixture f)
    {
        f.Happen(new FitnessRecorded { Case = f.Case, Prisoner = First });
        return Asked(f, Answer(position: 1));
    }

    private static Advised HandedOver(CaseFixture f, Invariant breach, Action lacking, string by = Ua) =>
        HandedOver(f, breach, _ => lacking(), by);

    // He was handed over although something was lacking.
    private static Advised HandedOver(CaseFixture f, Invariant breach, Action<string> lacking, string by = Ua)
    {
        var id = OnTheWay(f);
        lacking(id);
        var acknowledged = Array.Empty<Invariant>();
        return new(() => Confirm(f, id, by, acknowledged), () => acknowledged = [breach]);
    }

    private static Advised NotCleared(CaseFixture f, Action supplied)
    {
        var id = OnTheWay(f);
        f.Custody = Lost;
        return new(() => Confirm(f, id, Kr), supplied);
    }

    private static Advised ReturnNotCleared(CaseFixture f)
    {
        var id = ReturnRequested(f);
        f.Custody = Lost;
        return new(() => ConfirmReturn(f, id, Ua), () => f.Custody = Answer());
    }

    // ---- confirmations -----------------------------------------------------------------------------------------------------

    private static Advice<CaseFixture>[] OnConfirmations =>
        [
            new(Reason.AlreadyConfirmed, "the other side confirms", OtherSideConfirms),
            new(Reason.AlreadyConfirmed, "wrong; corrected, resumed and confirmed anew", ConfirmedAnew),
            new(Reason.AlreadyConfirmed, "a return, wrong; corrected and confirmed anew", ReturnConfirmedAnew),
            new(Reason.ConfirmationsDiffer, "the reference is corrected", f => Differs(f, r => r.HandoverReference = "HO-18")),
            new(Reason.ConfirmationsDiffer, "the other side was wrong; it corrects", OtherSideWrong),
            new(Reason.ConfirmationsDiffer, "a return, the other side was wrong; it corrects", OtherSideOfReturnWrong),
            new(
                Reason.ConfirmationsDiffer,
                "the sides do not agree; both accounts stay",
                f => Differs(f, r => r.HandoverReference = "HO-18", r => Disagree(r))
            ),
            new(Reason.ConfirmedByOneSide, "wrong; corrected", WithdrawnOnceCorrected),
            new(Reason.ConfirmedByOneSide, "a return, wrong; corrected", ReturnWithdrawnOnceCorrected),
            new(Reason.ConfirmedByOneSide, "a return, right; the other side confirms too", ReturnedInsteadOfWithdrawn),
        ];

    private static Advised OtherSideConfirms(CaseFixture f)
    {
        var (id, by) = (OnTheWay(f), Ua);
        Done(Confirm(f, id, by));
        return new(() => Confirm(f, id, by), () => by = Kr);
    }

    private static Advised ConfirmedAnew(CaseFixture f)
    {
        var id = OnTheWay(f);
        Done(Confirm(f, id, Kr));
        return new(
            () => Confirm(f, id, Kr),
            () =>
            {
                TakeBack(f, id, Kr);
                Done(Resume(f, id));
            }
        );
    }

    private static Advised ReturnConfirmedAnew(CaseFixture f)
    {
        var id = ReturnRequested(f);
        Done(ConfirmReturn(f, id, Ua));
        return new(() => ConfirmReturn(f, id, Ua), () => TakeBack(f, id, Ua));
    }

    private static Advised Differs(CaseFixture f, Action<ConfirmHandoverRequest> wrong, Action<ConfirmHandoverRequest>? right = null)
    {
        var id = OnTheWay(f);
        return Advice.OfRequest(() => f.Confirmation(id), r => f.Try(Ua, r, Transfers.ConfirmHandover), wrong, right);
    }

    private static void Disagree(ConfirmHandoverRequest r)
    {
        r.HandoverReference = "HO-18";
        r.AcknowledgedBreaches.Add(Invariant.D1);
    }

    private static Advised OtherSideWrong(CaseFixture f)
    {
        var id = OnTheWay(f);
        Done(Confirm(f, id, Kr));
        Elapse(f, 1);
        return new(
            () => Confirm(f, id, Ua),
            () =>
            {
                TakeBack(f, id, Kr);
                Done(Resume(f, id));
            }
        );
    }

    private static Advised OtherSideOfReturnWrong(CaseFixture f)
    {
        var id = ReturnRequested(f);
        Done(ConfirmReturn(f, id, Kr));
        Elapse(f, 1);
        return new(() => ConfirmReturn(f, id, Ua), () => TakeBack(f, id, Kr));
    }

    private static Advised WithdrawnOnceCorrected(CaseFixture f)
    {
        var id = f.To(State.Scheduled);
        f.RuleRunner.Now += TimeSpan.FromHours(4);
        Done(Confirm(f, id, Kr, Invariant.D1));
        return new(
            () => f.Try(Kr, new WithdrawTransferRequestRequest { Transfer = id }, Transfers.WithdrawTransferRequest),
            () => TakeBack(f, id, Kr)
        );
    }

    private static Advised ReturnWithdrawnOnceCorrected(CaseFixture f)
    {
        var id = ReturnRequested(f);
        Done(ConfirmReturn(f, id, Ua));
        return new(() => WithdrawReturn(f, id), () => TakeBack(f, id, Ua));
    }

    private static Advised ReturnedInsteadOfWithdrawn(CaseFixture f)
    {
        var id = ReturnRequested(f);
        Done(ConfirmReturn(f, id, Ua));
        var returned = false;
        return new(() => returned ? ConfirmReturn(f, id, Kr) : WithdrawReturn(f, id), () => returned = true);
    }

    // That side's confirmation was wrong, and it says so.
    private static void TakeBack(CaseFixture f, string id, string by) =>
        Done(Correct(f, id, by, f.Transfer(id).Acts.Last(a => a.Participant == by).Position));

    // ---- duties of who transferred him -------------------------------------------------------------------------------------

    private static Advice<CaseFixture>[] OnDuties =>
        [
            new(Reason.ObserverMayNotReport, "the Protecting Power reports", f => ReportedBy(f, Swiss)),
            new(Reason.ObserverMayNotReport, "the agreement permits it", ReportPermitted),
            new(Reason.NoFailureReported, "return; a failure is reported", ReturnAfterReport),
            new(Reason.NoFailureReported, "measures; a reported failure is named", MeasuresAgainstReported),
            new(Reason.NotFinallyReleased, "custody has ended", f => Monitored(f, _ => Status(f, held: false, ended: true))),
            new(Reason.NotFinallyReleased, "he has returned", f => Monitored(f, id => Return(f, id))),
            new(Reason.MeasuresNotRecorded, "they are", f => Unanswered(f, (id, failure) => Done(Measures(f, id, failure.Id)))),
            new(
                Reason.MeasuresNotRecorded,
                "the report was wrong",
                f => Unanswered(f, (id, failure) => Done(Correct(f, id, Icrc, failure.Position)))
            ),
        ];

    private static Advised ReportedBy(CaseFixture f, string reporter)
    {
        f.RuleRunner.Permissions.Agreement.ObserverReportsTreatment = false;
        var (id, by) = (f.To(State.Monitored), Icrc);
        return new(() => Report(f, id, by), () => by = reporter);
    }

    private static Advised ReportPermitted(CaseFixture f) =>
        ReportedBy(f, Icrc) with
        {
            Follow = () => f.RuleRunner.Permissions.Agreement.ObserverReportsTreatment = true,
        };

    private static Advised ReturnAfterReport(CaseFixture f)
    {
        var id = f.To(State.Monitored);
        return new(() => RequestReturn(f, id), () => Done(Report(f, id, Icrc)));
    }

    private static Advised MeasuresAgainstReported(CaseFixture f)
    {
        var (id, failure) = (f.To(State.Monitored), "failure_1");
        return new(
            () => Measures(f, id, failure),
            () =>
            {
                Done(Report(f, id, Icrc));
                failure = f.Seen(Ua, id)!.Failures[0].Id;
            }
        );
    }

    private static Advised Monitored(CaseFixture f, Action<string> end)
    {
        var id = f.To(State.Monitored);
        return new(() => f.Try(Ua, new CloseTransferRequest { Transfer = id }, Transfers.CloseTransfer), () => end(id));
    }

    private static Advised Unanswered(CaseFixture f, Action<string, TreatmentFailure> answer)
    {
        var id = f.To(State.Monitored);
        Done(Report(f, id, Icrc));
        f.Change(ended: true);
        return new(
            () => f.Try(Kr, new CloseTransferRequest { Transfer = id }, Transfers.CloseTransfer),
            () => answer(id, f.Seen(Icrc, id)!.Failures[0])
        );
    }

    private static Reason Measures(CaseFixture f, string id, string failure) =>
        f.Try(Ua, new RecordCorrectiveMeasuresRequest { Transfer = id, Failure = failure }, Transfers.RecordCorrectiveMeasures);

    private static void Return(CaseFixture f, string id)
    {
        Done(Report(f, id, Icrc));
        Done(RequestReturn(f, id));
        f.RuleRunner.Now += TimeSpan.FromHours(4);
        Done(ConfirmReturn(f, id, Kr));
        Done(ConfirmReturn(f, id, Ua));
    }

    // ---- what has ended: a reason of all services, whose advice names the records of this one --------------------------------

    private static Advice<CaseFixture>[] OnWhatHasEnded =>
        [
            new(Reason.StateNotAllowed, "declined; asked again", AskedAgain),
            new(
                Reason.StateNotAllowed,
                "withdrawn; asked again",
                f => Ended(f.To(State.Withdrawn), () => f.To(State.Submitted), id => Review(f, id))
            ),
            new(Reason.StateNotAllowed, "access that is closed; requested anew", AccessAdvice.RequestedAnew),
        ];

    internal static Advised Ended(string id, Func<string> anew, Func<string, Reason> ask) => new(() => ask(id), () => id = anew());

    private static Advised AskedAgain(CaseFixture f)
    {
        var declined = f.To(State.Declined);
        return Ended(
            declined,
            () =>
            {
                var id = f.Draft(previous: declined);
                Done(Submit(f, id));
                Done(Assure(f, id));
                Done(Review(f, id));
                Done(Assess(f, id));
                return id;
            },
            id => f.TryDecide(id)
        );
    }

    // ---- steps -------------------------------------------------------------------------------------------------------------

    private static void Status(CaseFixture f, bool held, bool ended = false, string prisoner = First) =>
        f.Happen(
            new StatusRecorded
            {
                Case = f.Case,
                Prisoner = prisoner,
                Held = held,
                Ended = ended,
            }
        );

    private static void Elapse(CaseFixture f, double days) => f.RuleRunner.Now += TimeSpan.FromDays(days);

    // He set out, and the window of his hand-over has begun.
    private static string OnTheWay(CaseFixture f)
    {
        var id = f.To(State.InTransit);
        f.RuleRunner.Now += TimeSpan.FromHours(4);
        return id;
    }

    private static string ReturnRequested(CaseFixture f)
    {
        var id = f.To(State.ReturnRequested);
        f.RuleRunner.Now += TimeSpan.FromHours(4);
        return id;
    }

    // A release, which needs no assessment.
    private static string Reviewed(CaseFixture f, string participant, string destination, string by = Ua)
    {
        var id = f.Draft(participant, route: Route.Release, destination: destination);
        Done(Submit(f, id, participant));
        Done(Assure(f, id, participant));
        Done(Review(f, id, by));
        f.Custody = Answer(destination);
        return id;
    }

    private static Advised NotOpened(CaseFixture f)
    {
        var id = f.To(State.UnderReview);
        f.Opens = false;
        return new(() => Decide(f, id, Ua), () => f.Opens = true);
    }

    private static Reason Submit(CaseFixture f, string id, string by = Kr, string previous = "") =>
        f.Try(by, new SubmitTransferRequestRequest { Transfer = id, PreviousTransfer = previous }, Transfers.SubmitTransferRequest);

    private static Reason Review(CaseFixture f, string id, string by = Ua) =>
        f.Try(by, new BeginReviewRequest { Transfer = id }, Transfers.BeginReview);

    private static Reason Assure(CaseFixture f, string id, string by = Kr) => f.Try(by, f.Assurance(id), Transfers.GiveAssurance);

    private static Reason Assess(CaseFixture f, string id, bool willing = true) =>
        f.Try(Ua, f.Assessment(id, willing), Transfers.RecordTransfereeAssessment);

    private static Reason Decide(CaseFixture f, string id, string by) =>
        f.Try(by, new DecideTransferRequest { Transfer = id, Agreed = true }, Transfers.DecideTransfer);

    private static Reason Resume(CaseFixture f, string id) =>
        f.Try(Ua, new ResumeTransferRequest { Transfer = id }, Transfers.ResumeTransfer);

    private static Reason Confirm(CaseFixture f, string id, string by, params Invariant[] acknowledged) =>
        f.Try(by, f.Confirmation(id, acknowledged), Transfers.ConfirmHandover);

    private static Reason ConfirmReturn(CaseFixture f, string id, string by, params Invariant[] acknowledged) =>
        f.Try(by, f.ReturnConfirmation(id, acknowledged), Transfers.ConfirmReturn);

    private static Reason RequestReturn(CaseFixture f, string id) =>
        f.Try(Ua, new RequestReturnRequest { Transfer = id }, Transfers.RequestReturn);

    private static Reason WithdrawReturn(CaseFixture f, string id) =>
        f.Try(Ua, new WithdrawReturnRequest { Transfer = id }, Transfers.WithdrawReturn);

    private static Reason Report(CaseFixture f, string id, string by) =>
        f.Try(
            by,
            new ReportTreatmentFailureRequest
            {
                Transfer = id,
                Articles = { "13" },
                Content = Sealed(Ua),
            },
            Transfers.ReportTreatmentFailure
        );

    private static Reason Correct(CaseFixture f, string id, string by, ulong position) =>
        f.Try(by, new V1.CorrectRecordRequest { Record = id, Position = position }, CaseFixture.Correct);

    internal static void Done(Reason refused) => Assert.Equal(Reason.Unspecified, refused);
}
