using Google.Protobuf;
using Ministries.Custody.V1;
using Ministries.Errors.V1;
using Ministries.Fixtures;
using Ministries.Types.V1;
using static Ministries.Custody.Tests.CaseFixture;
using CorrectRecordRequest = Ministries.Custody.V1.CorrectRecordRequest;
using Route = Ministries.Types.V1.Route;

namespace Ministries.Custody.Tests;

/// <summary>Whoever does what a refusal of custody advises is refused for it no longer.</summary>
public class AdviceTests
{
    private static readonly IReadOnlyList<Reason> Range = [.. Advice.ReasonsOf(100, 199), .. Advice.ReasonsOf(420, 429)];

    private static readonly Dictionary<Reason, string> NothingToFollow = [];

    private static readonly Advice<CaseFixture>[] Plays = [.. OnCases, .. OnStatements, .. OnRecords, .. OnDepartures];

    public static TheoryData<Reason, string> Rows => [.. Plays.Select(p => (p.Reason, p.Cause))];

    [Theory, MemberData(nameof(Rows))]
    public void What_a_refusal_advises_unlocks_it(Reason reason, string cause)
    {
        var fixture = new CaseFixture();
        fixture.Register();
        Advice.AssertWorks(reason, Plays.Single(p => p.Reason == reason && p.Cause == cause).Play(fixture));
    }

    [Fact]
    public void Every_reason_of_custody_has_a_play() => Advice.AssertComplete(Range, Plays.Select(p => p.Reason), NothingToFollow);

    [Fact]
    public void What_the_advice_names_is_there() => Advice.AssertNamesExist(Range);

    // ---- cases and their parties -------------------------------------------------------------------------------------------

    private static Advice<CaseFixture>[] OnCases =>
        [
            new(
                Reason.ParticipantUnknown,
                "nobody of the agreement",
                f => Admitted(f, ("xx/mfa", Part.RequestingState), (Unification, Part.RequestingState))
            ),
            new(
                Reason.ParticipantUnknown,
                "a service",
                f => Admitted(f, (CaseFixture.Consular, Part.RequestingState), (Unification, Part.RequestingState))
            ),
            new(Reason.ParticipantUnknown, "at an interview", f => Said(f, r => r.Interview.Attendants[0].Participant = "xx/mfa")),
            new(
                Reason.PartNotFitting,
                "an organ of the power that manages",
                f => Admitted(f, (Mfa, Part.RequestingState), (Mfa, Part.DetainingPower))
            ),
            new(
                Reason.PartNotFitting,
                "an organ of another state",
                f => Admitted(f, (Unification, Part.NeutralObserver), (Unification, Part.RequestingState))
            ),
            new(
                Reason.PartNotFitting,
                "a Protecting Power",
                f => Admitted(f, (Swiss, Part.NeutralObserver), (Swiss, Part.ProtectingPower))
            ),
            new(Reason.NotAParty, "another is named", NotAParty),
            new(Reason.PartyNeeded, "the last organ of the power that holds him; another is admitted", HolderNeeded),
            new(Reason.PartyNeeded, "the last organ of a power that transferred him; another is admitted", TransferringPowerNeeded),
            new(
                Reason.PartyNeeded,
                "the last observer; another is admitted",
                f => new(() => Remove(f, Icrc, Icrc), () => f.Admit(Swiss, Part.ProtectingPower))
            ),
            new(Reason.PartyNeeded, "the last observer; custody has ended", f => new(() => Remove(f, Icrc, Icrc), () => EndCustody(f))),
            new(Reason.PartyNeeded, "the last organ of a power that owes notice; it notifies", LeavesOnceNotified),
            new(Reason.PartyNeeded, "the last organ of a power to which he is on the way; called off", LeavesOnceCalledOff),
            new(Reason.ObserverLeavesByItself, "it removes itself", ObserverLeavesByItself),
            new(Reason.OrganOfAnotherPower, "its own state removes it", RemovedByItsState),
            new(Reason.OrganOfAnotherPower, "of a state that only asks; it removes itself", RemovesItself),
            new(Reason.OrganOfAnotherPower, "of a state without an organ for custody; who admitted it removes it", RemovedByWhoAdmittedIt),
            new(Reason.CustodyNotEnded, "its end is recorded", f => new(() => Close(f), () => EndCustody(f))),
        ];

    private static Advised Admitted(CaseFixture f, (string Who, Part Part) wrong, (string Who, Part Part) right)
    {
        var party = wrong;
        return new(() => f.Try(Hq, f.AdmitRequest(party.Who, party.Part), CaseRules.AdmitParty), () => party = right);
    }

    private static Advised NotAParty(CaseFixture f)
    {
        var who = Ru;
        return new(() => Remove(f, who), () => who = Kr);
    }

    private static Advised HolderNeeded(CaseFixture f)
    {
        MayManage(f, Mfa);
        return new(() => Remove(f, Hq), () => f.Admit(Mfa, Part.DetainingPower));
    }

    private static Advised TransferringPowerNeeded(CaseFixture f)
    {
        MayManage(f, Mfa);
        f.HandOver();
        Assert.Equal(Reason.Unspecified, Remove(f, Mfa));
        return new(() => Remove(f, Hq), () => f.Do(Kr, f.AdmitRequest(Mfa, Part.RequestingState, Kr), CaseRules.AdmitParty));
    }

    private static Advised LeavesOnceNotified(CaseFixture f)
    {
        f.HandOver();
        f.Return();
        return new(() => Remove(f, Kr, Kr), () => f.Notified(Kr));
    }

    private static Advised LeavesOnceCalledOff(CaseFixture f)
    {
        f.Ready();
        f.Begin();
        return new(() => Remove(f, Kr), f.Abort);
    }

    private static Advised RemovedByItsState(CaseFixture f)
    {
        f.HandOver();
        var by = Kr;
        return new(() => Remove(f, Mfa, by), () => by = Hq);
    }

    private static Advised RemovesItself(CaseFixture f)
    {
        f.Register(CaseFixture.Q);
        f.HandOver();
        f.Admit(SwissJustice, Part.RequestingState);
        var by = Hq;
        return new(() => Remove(f, SwissJustice, by), () => by = SwissJustice);
    }

    private static Advised RemovedByWhoAdmittedIt(CaseFixture f)
    {
        var agreement = f.RuleRunner.Permissions.Agreement.Clone();
        agreement.States.Add(new State { Code = "XX", Name = "XX" });
        var ministry = new Participant
        {
            Id = "xx/mfa",
            Name = "xx/mfa",
            Kind = ParticipantKind.Ministry,
            State = "XX",
        };
        agreement.Participants.Add(ministry);
        f.RuleRunner.Permissions = new Permissions(agreement);
        f.Register(CaseFixture.Q);
        f.HandOver();
        f.Admit(ministry.Id, Part.RequestingState);
        var by = Kr;
        return new(() => Remove(f, ministry.Id, by), () => by = Hq);
    }

    private static void MayManage(CaseFixture f, string who) => f.RuleRunner.Permissions.Participant(who)!.Capacities.Add(Capacity.Custody);

    private static Advised ObserverLeavesByItself(CaseFixture f)
    {
        f.Admit(Swiss, Part.ProtectingPower);
        var by = Hq;
        return new(() => Remove(f, Icrc, by), () => by = Icrc);
    }

    internal static Reason Remove(CaseFixture f, string who, string by = Hq) =>
        f.Try(
            by,
            new RemovePartyRequest
            {
                Actor = CaseFixture.Actor,
                Etag = f.CaseEtag(by),
                Case = f.Case,
                Participant = who,
            },
            CaseRules.RemoveParty
        );

    internal static Reason Close(CaseFixture f, string by = Hq) =>
        f.Try(
            by,
            new CloseCaseRequest
            {
                Actor = CaseFixture.Actor,
                Etag = f.CaseEtag(by),
                Case = f.Case,
            },
            CaseRules.CloseCase
        );

    // Released where he is held, which is no departure.
    internal static void EndCustody(CaseFixture f) =>
        f.Do(Hq, new RecordStatusRequest(f.StatusRequest(CustodyState.Released)) { Destination = "UA" }, Prisoners.RecordStatus);

    // ---- statements and who attests them -----------------------------------------------------------------------------------

    private static Advice<CaseFixture>[] OnStatements =>
        [
            new(Reason.CommitmentsNotInForm, "one is missing; made anew", f => Said(f, r => r.Commitments.RemoveAt(3))),
            new(Reason.CommitmentsNotInForm, "not in order; made anew", f => Said(f, r => r.Commitments.Add(Taken(r.Commitments, 0)))),
            new(Reason.StatementNotOwn, "coerced; heard anew", f => Said(f, r => r.Uncoerced = false)),
            new(Reason.StatementNotOwn, "not understood; heard anew", f => Said(f, r => r.LanguageUnderstood = false)),
            new(Reason.InterpreterMissing, "none; named", f => Said(f, r => r.Interpreter = "")),
            new(Reason.InterpreterMissing, "none; none was needed", f => Said(f, r => r.Interpreter = "", WithoutInterpreter)),
            new(
                Reason.InterpreterMissing,
                "named, and none was needed",
                f => Said(f, r => r.WithoutInterpreter = true, WithoutInterpreter)
            ),
            new(Reason.InterviewIncomplete, "with witnesses; another is held", f => Said(f, r => r.Interview.WithoutWitnesses = false)),
            new(
                Reason.InterviewIncomplete,
                "with witnesses; recorded without it",
                f => Said(f, r => r.Interview.WithoutWitnesses = false, r => r.Interview = null)
            ),
            new(Reason.InterviewIncomplete, "no interviewer", f => Said(f, r => r.Interview.Attendants.RemoveAt(0))),
            new(Reason.InterviewIncomplete, "the interpreter was not there", f => Said(f, r => r.Interview.Attendants.RemoveAt(1))),
            new(Reason.InterviewIncomplete, "one official in two roles", f => Said(f, r => r.Interview.Attendants[2].Official = "i-1")),
            new(Reason.InterviewIncomplete, "one option explained", f => Said(f, r => OneOption(r.Interview.OptionsExplained))),
            new(Reason.InterviewIncomplete, "no safeguard", f => Said(f, r => r.Interview.Safeguards.Clear())),
            new(Reason.WitnessOfAParty, "the detaining power was there", f => Said(f, r => r.Interview.Attendants[1].Participant = Mfa)),
            new(
                Reason.WitnessOfAParty,
                "a state that claims him was there",
                f => Said(f, r => r.Interview.Attendants[0].Participant = Unification)
            ),
            new(Reason.ObserverMissing, "another is held with one", f => Said(f, r => r.Interview.Attendants.RemoveAt(2))),
            new(Reason.GuardianMissing, "another is held with one", f => Said(f, r => r.Under18 = true, GuardedMinor)),
            new(Reason.GuardianMissing, "he is an adult; the statement says so", f => Said(f, r => r.Under18 = true)),
            new(Reason.GuardianMissing, "he is an adult; his registration is corrected", RegisteredAsMinor),
            new(Reason.GuardianOfAnAdult, "another is held without one", f => Said(f, Guarded)),
            new(Reason.GuardianOfAnAdult, "he is under 18; the statement says so", f => Said(f, Guarded, GuardedMinor)),
            new(Reason.GuardianOfAnAdult, "he is under 18; his registration is corrected", RegisteredAsAdult),
            new(Reason.NotPrivate, "he is heard in private", NotPrivate),
            new(Reason.NotPresent, "who was present attests", NotPresent),
            new(Reason.AttestationOfOtherContent, "he signs what is recorded", f => Attested(f, r => r.Digest = ByteString.Empty)),
            new(
                Reason.OfficialKeyNotValid,
                "the participant vouches for it",
                f => Attested(f, r => r.OfficialKey.ValidUntilTime.Seconds++)
            ),
            new(Reason.AttestationWrong, "he signs", f => Attested(f, r => r.Signature = ByteString.Empty)),
            new(Reason.AttestationNotGiven, "another role is named", AttestationOfAnotherRole),
            new(Reason.AttestationNotGiven, "who gave it revokes", AttestationOfAnother),
            new(Reason.AttestedByOthers, "they revoke", f => AttestedByOthers(f, restated: false)),
            new(Reason.AttestedByOthers, "what he says now is recorded", f => AttestedByOthers(f, restated: true)),
        ];

    private static Advised Said(CaseFixture f, Action<RecordStatementRequest> wrong, Action<RecordStatementRequest>? right = null) =>
        Advice.OfRequest(() => f.StatementRequest(Icrc, "KR"), r => f.Try(Icrc, r, Statements.RecordStatement), wrong, right);

    private static ByteString Taken(IList<ByteString> commitments, int at)
    {
        var taken = commitments[at];
        commitments.RemoveAt(at);
        return taken;
    }

    private static void OneOption(IList<OptionExplained> options)
    {
        while (options.Count > 1)
            options.RemoveAt(0);
    }

    private static void WithoutInterpreter(RecordStatementRequest r)
    {
        (r.Interpreter, r.WithoutInterpreter) = ("", true);
        r.Interview.Attendants.RemoveAt(1);
    }

    private static void Guarded(RecordStatementRequest r) =>
        r.Interview.Attendants.Add(
            new Attendant
            {
                Role = AttesterRole.Guardian,
                Participant = Icrc,
                Official = "i-4",
            }
        );

    private static void GuardedMinor(RecordStatementRequest r)
    {
        r.Under18 = true;
        Guarded(r);
    }

    private static Advised RegisteredAsMinor(CaseFixture f)
    {
        var him = Registered(f, r => r.Under18 = true);
        return new(
            () => f.Try(Icrc, OfHim(f, him, f.StatementRequest(Icrc, "KR")), Statements.RecordStatement),
            () => CorrectRegistration(f, him, under18: false)
        );
    }

    private static Advised RegisteredAsAdult(CaseFixture f)
    {
        var guarded = Said(f, Guarded, Guarded);
        return guarded with { Follow = () => CorrectRegistration(f, P, under18: true) };
    }

    private static RecordStatementRequest OfHim(CaseFixture f, string reference, RecordStatementRequest request)
    {
        (request.Prisoner, request.Etag) = (reference, f.Etag(Icrc, reference));
        return request;
    }

    internal static string Registered(CaseFixture f, Action<RegisterPrisonerRequest>? but = null)
    {
        var request = f.RegisterRequest();
        but?.Invoke(request);
        return ((RegisterPrisonerResponse)f.Play(Hq, request, Prisoners.RegisterPrisoner).Answer!).Prisoner;
    }

    private static void CorrectRegistration(CaseFixture f, string reference, bool under18) =>
        f.Do(
            Hq,
            new CorrectRecordRequest(f.CorrectRequest(f.PrisonerOf(reference).Statuses[0].Position, Hq, reference))
            {
                Identity = Seal(Icrc),
                Under18 = under18,
            },
            Prisoners.CorrectRecord
        );

    private static Advised NotPrivate(CaseFixture f)
    {
        var id = f.Record(new RecordStatementRequest(f.StatementRequest(Icrc, "KR")) { Interview = null });
        return new(
            () => f.Try(Icrc, f.AttestRequest(id, AttesterRole.Interviewer, "i-1"), Statements.AttestStatement),
            () => id = f.Record(f.StatementRequest(Icrc, "KR"))
        );
    }

    private static Advised NotPresent(CaseFixture f)
    {
        var (id, official) = (f.Record(f.StatementRequest(Icrc, "KR")), "i-3");
        return new(
            () => f.Try(Icrc, f.AttestRequest(id, AttesterRole.Interviewer, official), Statements.AttestStatement),
            () => official = "i-1"
        );
    }

    private static Advised Attested(CaseFixture f, Action<AttestStatementRequest> wrong)
    {
        var id = f.Record(f.StatementRequest(Icrc, "KR"));
        return Advice.OfRequest(
            () => f.AttestRequest(id, AttesterRole.Observer, "i-3"),
            r => f.Try(Icrc, r, Statements.AttestStatement),
            wrong
        );
    }

    private static Advised AttestationOfAnotherRole(CaseFixture f)
    {
        var (id, role) = (f.Record(f.StatementRequest(Icrc, "KR")), AttesterRole.Observer);
        f.Attest(id, AttesterRole.Interviewer);
        return new(
            () => f.Try(Icrc, f.RevokeRequest(id, role), Statements.RevokeAttestation),
            () => role = f.StatementOf(id).Attestations[0].Role
        );
    }

    private static Advised AttestationOfAnother(CaseFixture f)
    {
        f.Admit(Swiss, Part.ProtectingPower);
        var (id, by) = (f.Says("KR"), Swiss);
        return new(() => f.Try(by, f.RevokeRequest(id, AttesterRole.Interviewer, by), Statements.RevokeAttestation), () => by = Icrc);
    }

    private static Advised AttestedByOthers(CaseFixture f, bool restated)
    {
        f.Admit(Swiss, Part.ProtectingPower);
        var request = f.StatementRequest(Icrc, "KR");
        request.Interview.Attendants[2].Participant = Swiss;
        var (id, record) = (f.Record(request), false);
        f.Do(Swiss, f.AttestRequest(id, AttesterRole.Observer, "i-3", Swiss), Statements.AttestStatement);
        return new(
            () =>
                record
                    ? f.Try(Icrc, f.StatementRequest(Icrc), Statements.RecordStatement)
                    : f.Try(Icrc, f.CorrectRequest(f.StatementOf(id).Position, Icrc), Prisoners.CorrectRecord),
            () =>
            {
                record = restated;
                if (!restated)
                    f.Do(Swiss, f.RevokeRequest(id, AttesterRole.Observer, Swiss), Statements.RevokeAttestation);
            }
        );
    }

    // ---- claims, notifications, duplicates ---------------------------------------------------------------------------------

    private static Advice<CaseFixture>[] OnRecords =>
        [
            new(Reason.ClaimNotOwn, "a claim of its own", f => Claimed(f, Kr, "KR")),
            new(Reason.ClaimNotOwn, "the detaining power records it", f => Claimed(f, Hq, "KP")),
            new(Reason.ProceedingsReasonMissing, "the reason is named", ProceedingsReasonMissing),
            new(Reason.TrialWithoutNotice, "it opens later", f => Tried(f, r => r.TrialTime = f.In(24 * 22))),
            new(Reason.TrialWithoutNotice, "it opens all the same; acknowledged", f => Tried(f, r => OpensEarly(f, r))),
            new(Reason.TrialWithoutNotice, "its particulars reach no observer; they do", TriedUnseen),
            new(Reason.MoveNotTold, "he is told", f => Moved(f, r => r.ToldTime = null)),
            new(Reason.MoveNotTold, "he will be told; he is", f => Moved(f, r => r.ToldTime = f.In(1))),
            new(Reason.MoveNotTold, "it took place; acknowledged", MovedWithoutNotice),
            new(Reason.OccurrenceNotOwed, "there is none; one that is owed", f => Notified(f, r => r.Occurrence = 9)),
            new(Reason.OccurrenceNotOwed, "notified before; none is named", NotifiedBefore),
            new(Reason.OccurrenceNotOwed, "none named by who transferred him; one that it owes", TransferringPowerNotifies),
            new(Reason.OccurrenceNotOwed, "a health report of who transferred him; who holds him reports", HolderReportsHealth),
            new(
                Reason.TracingAgencyMissing,
                "sealed to the agency too",
                f => Notified(f, r => r.Data = Seal(Hq), r => r.Data = Seal(Hq, Icrc))
            ),
            new(Reason.BureauMissing, "sealed to the bureau too", SealedToTheBureau),
            new(Reason.ReleaseNotNamed, "a recipient; it is named", f => Notified(f, r => r.Data = Seal(Icrc, Kr), r => SealedTo(r, Kr))),
            new(Reason.ReleaseNotNamed, "a recipient; it is left out", f => Notified(f, r => r.Data = Seal(Icrc, Kr))),
            new(Reason.ReleaseNotNamed, "no recipient; it is left out", f => Notified(f, r => r.Releases.Add(ReleaseTo(Kr)))),
            new(Reason.ReleaseNotNamed, "the agency is no release; it is left out", f => Notified(f, r => r.Releases.Add(ReleaseTo(Icrc)))),
            new(Reason.PowerOfOriginMissing, "it is named", f => Released(f, r => r.PowersOfOrigin.Add("KP"))),
            new(Reason.PowerOfOriginMissing, "the data are withheld", f => Released(f, r => Withhold(f, r))),
            new(Reason.DataWithheld, "from an organ of a power of origin; it is left out", f => Notified(f, ToOrigin)),
            new(Reason.DataWithheld, "from an organ of a power of origin; released", f => Notified(f, ToOrigin, ReleasedToOrigin)),
            new(
                Reason.DataWithheld,
                "from any state, since no power of origin is named; it is named",
                f => Notified(f, NoOrigin, r => SealedTo(r, Kr))
            ),
            new(Reason.DataWithheld, "from any other state, by who transferred him; it is left out", f => FormerNotifies(f)),
            new(Reason.DataWithheld, "from any other state, by who transferred him; released", f => FormerNotifies(f, ReleasedToSwiss)),
            new(Reason.ObserverNotConsulted, "no observer; one is consulted", f => Notified(f, r => r.ConsultedObserver = Mfa)),
            new(Reason.ObserverNotConsulted, "no party to the case; it is admitted", ConsultedObserverAdmitted),
            new(
                Reason.RecipientNotReleased,
                "another state's organ; sealed without it",
                f => Said(f, r => r.Content = Seal(Hq, Kr), r => r.Content = Seal(Hq))
            ),
            new(Reason.RecipientNotReleased, "another state's organ; notified with its release", ReleasedByNotification),
            new(Reason.DuplicateRecord, "the record is a duplicate; the other is used", OtherRecordUsed),
            new(Reason.DuplicateRecord, "the record is a duplicate; the link is corrected", DuplicateCorrected),
            new(Reason.DuplicateRecord, "linked to a duplicate; to the record that is kept", LinkedToTheKept),
            new(Reason.DuplicateRecord, "the first has duplicates; linked the other way", LinkedTheOtherWay),
            new(Reason.LinkAlreadyProposed, "an observer confirms it", ProposalConfirmed),
            new(Reason.LinkAlreadyProposed, "proposed anew; the first proposal is corrected", ProposalCorrected),
            new(Reason.LinkConfirmed, "the observer corrects its confirmation", ConfirmationCorrected),
            new(Reason.LinkNotProposed, "nobody proposed it; proposed", LinkProposed),
            new(Reason.LinkNotProposed, "the other way round; confirmed as it is proposed", ConfirmedAsProposed),
        ];

    private static Advised Claimed(CaseFixture f, string by, string claimant)
    {
        var (who, whose) = (Kr, "KP");
        return new(() => f.Try(who, f.ClaimRequest(who, whose, whose), Prisoners.RecordClaim), () => (who, whose) = (by, claimant));
    }

    private static Advised ProceedingsReasonMissing(CaseFixture f)
    {
        var reason = "";
        return new(() => f.Try(Hq, f.ProceedingsRequest(reason: reason), Prisoners.RecordProceedings), () => reason = "war-crimes-inquiry");
    }

    private static Advised Tried(CaseFixture f, Action<RecordProceedingsRequest> right) =>
        Advice.OfRequest(
            () => f.ProceedingsRequest(),
            r => f.Try(Hq, r, Prisoners.RecordProceedings),
            r => r.TrialTime = f.In(24 * 20),
            right
        );

    private static Advised TriedUnseen(CaseFixture f) =>
        Advice.OfRequest(
            () => f.TrialRequest(22),
            r => f.Try(Hq, r, Prisoners.RecordProceedings),
            r => r.Particulars = Seal(Hq),
            r => r.Particulars = Seal(Hq, Icrc)
        );

    private static void OpensEarly(CaseFixture f, RecordProceedingsRequest r)
    {
        r.TrialTime = f.In(24 * 20);
        r.AcknowledgedBreaches.Add(Invariant.D12);
    }

    private static Advised Moved(CaseFixture f, Action<AnnounceMoveRequest> wrong) =>
        Advice.OfRequest(f.MoveRequest, r => f.Try(Hq, r, Prisoners.AnnounceMove), wrong);

    private static Advised MovedWithoutNotice(CaseFixture f) =>
        Advice.OfRequest(
            () => new AnnounceMoveRequest(f.MoveRequest()) { ToldTime = null },
            r => f.Try(Hq, r, Prisoners.AnnounceMove),
            _ => { },
            r =>
            {
                r.PlannedTime = f.Ago(1);
                r.AcknowledgedBreaches.Add(Invariant.D14);
            }
        );

    private static Advised Notified(CaseFixture f, Action<NotifyBureauRequest> wrong, Action<NotifyBureauRequest>? right = null) =>
        Advice.OfRequest(() => f.NotifyRequest(1), r => f.Try(Hq, r, Prisoners.NotifyBureau), wrong, right);

    private static Advised NotifiedBefore(CaseFixture f)
    {
        f.Do(Hq, f.NotifyRequest(1), Prisoners.NotifyBureau);
        return Notified(f, _ => { }, r => r.Occurrence = 0);
    }

    private static Advised TransferringPowerNotifies(CaseFixture f)
    {
        f.HandOver();
        return Notified(f, r => r.Occurrence = 0);
    }

    // A Protecting Power of a state that is no power of origin, as far as the power knows that held him before.
    private static Advised FormerNotifies(CaseFixture f, Action<NotifyBureauRequest>? right = null)
    {
        f.HandOver();
        var owed = f.Prisoner.Occurrences.Single(o => o is { Kind: OccurrenceKind.Transfer, OwedBy: "UA" }).Occurrence_;
        return Advice.OfRequest(() => f.NotifyRequest(owed), r => f.Try(Hq, r, Prisoners.NotifyBureau), r => SealedTo(r, Swiss), right);
    }

    private static void ReleasedToSwiss(NotifyBureauRequest r)
    {
        r.PowersOfOrigin.Add("CH");
        SealedTo(r, Swiss);
        (r.Disclosure, r.ConsultedObserver, r.ReviewTime) = (Disclosure.Released, "", null);
    }

    private static Advised HolderReportsHealth(CaseFixture f)
    {
        f.HandOver();
        var (by, occurrence) = (Hq, 1u);
        return new(
            () => f.Try(by, new NotifyBureauRequest(f.NotifyRequest(occurrence, by)) { HealthReport = true }, Prisoners.NotifyBureau),
            () => (by, occurrence) = (Kr, 0)
        );
    }

    private static Advised Released(CaseFixture f, Action<NotifyBureauRequest> right) =>
        Advice.OfRequest(() => f.ReleaseRequest(1), r => f.Try(Hq, r, Prisoners.NotifyBureau), r => r.PowersOfOrigin.Clear(), right);

    private static void Withhold(CaseFixture f, NotifyBureauRequest r) =>
        (r.Disclosure, r.ConsultedObserver, r.ReviewTime) = (Disclosure.Withheld, Icrc, f.In(24 * 30));

    private static Advised SealedToTheBureau(CaseFixture f)
    {
        f.RuleRunner.Permissions.Agreement.Bureaux.Single(b => b.State == "UA").Participant = Mfa;
        return Notified(f, _ => { }, r => r.Data = Seal(Icrc, Mfa));
    }

    // He depends on Russia too, as it is named.
    private static void ToOrigin(NotifyBureauRequest r)
    {
        r.PowersOfOrigin.Add("RU");
        SealedTo(r, Ru);
    }

    private static void NoOrigin(NotifyBureauRequest r)
    {
        r.PowersOfOrigin.Clear();
        SealedTo(r, Kr);
    }

    private static void ReleasedToOrigin(NotifyBureauRequest r)
    {
        r.PowersOfOrigin.Clear();
        ToOrigin(r);
        (r.Disclosure, r.ConsultedObserver, r.ReviewTime) = (Disclosure.Released, "", null);
    }

    // Sealed to the agency and another recipient, which the releases name.
    private static void SealedTo(NotifyBureauRequest r, string recipient)
    {
        r.Data = Seal(Icrc, recipient);
        r.Releases.Add(ReleaseTo(recipient));
    }

    private static Release ReleaseTo(string recipient) => new() { Recipient = recipient, Reason = "consular-assistance" };

    private static Advised ConsultedObserverAdmitted(CaseFixture f)
    {
        void Consulted(NotifyBureauRequest r) => r.ConsultedObserver = Swiss;
        return Notified(f, Consulted, Consulted) with { Follow = () => f.Admit(Swiss, Part.ProtectingPower) };
    }

    private static Advised ReleasedByNotification(CaseFixture f)
    {
        var ask = () =>
            f.Try(Hq, new RegisterPrisonerRequest(f.RegisterRequest()) { Identity = Seal(Icrc, Kr) }, Prisoners.RegisterPrisoner);
        return new(() => ask(), () => ask = Notified(f, r => SealedTo(r, Kr)).Ask);
    }

    private static Advised OtherRecordUsed(CaseFixture f)
    {
        f.Link(P, Registered(f));
        var reference = P;
        return new(() => Examine(f, reference), () => reference = f.Seen(Hq, reference).DuplicateOf);
    }

    private static Advised DuplicateCorrected(CaseFixture f)
    {
        f.Link(P, Registered(f));
        return new(() => Examine(f, P), () => f.Correct(Confirmation(f), Icrc));
    }

    private static Advised LinkedToTheKept(CaseFixture f)
    {
        var (kept, third) = (Registered(f), Registered(f));
        f.Link(P, kept);
        var other = P;
        return new(() => Propose(f, third, other), () => other = f.Seen(Hq, other).DuplicateOf);
    }

    private static Advised LinkedTheOtherWay(CaseFixture f)
    {
        var (one, other) = (Registered(f), Registered(f));
        f.Link(P, one);
        return new(() => Propose(f, one, other), () => (one, other) = (other, one));
    }

    private static Advised ProposalConfirmed(CaseFixture f)
    {
        var kept = Proposed(f);
        var confirms = false;
        return new(() => confirms ? Confirm(f, P, kept) : Propose(f, P, kept), () => confirms = true);
    }

    private static Advised ProposalCorrected(CaseFixture f)
    {
        var kept = Proposed(f);
        return new(() => Propose(f, P, kept), () => f.Correct(Proposal(f)));
    }

    private static Advised ConfirmationCorrected(CaseFixture f)
    {
        f.Link(P, Registered(f));
        return new(() => f.Try(Hq, f.CorrectRequest(Proposal(f)), Prisoners.CorrectRecord), () => f.Correct(Confirmation(f), Icrc));
    }

    private static Advised LinkProposed(CaseFixture f)
    {
        var kept = Registered(f);
        return new(() => Confirm(f, P, kept), () => Propose(f, P, kept));
    }

    private static Advised ConfirmedAsProposed(CaseFixture f)
    {
        var (reference, kept) = (Proposed(f), P);
        return new(() => Confirm(f, reference, kept), () => (reference, kept) = (kept, reference));
    }

    // Another reference, as whose duplicate this one is proposed.
    private static string Proposed(CaseFixture f)
    {
        var kept = Registered(f);
        Assert.Equal(Reason.Unspecified, Propose(f, P, kept));
        return kept;
    }

    private static ulong Proposal(CaseFixture f) => f.Prisoner.Entries.First(e => e.OtherPrisoner.Length > 0).Position;

    private static ulong Confirmation(CaseFixture f) => f.Prisoner.Entries.Last(e => e.OtherPrisoner.Length > 0).Position;

    private static Reason Propose(CaseFixture f, string reference, string kept) =>
        f.Try(Hq, f.LinkRequest(reference, kept), Prisoners.LinkDuplicate);

    private static Reason Confirm(CaseFixture f, string reference, string kept) =>
        f.Try(Icrc, f.ConfirmRequest(reference, kept), Prisoners.ConfirmDuplicate);

    private static Reason Examine(CaseFixture f, string reference) =>
        f.Try(
            Hq,
            new RecordFitnessRequest(f.FitnessRequest()) { Prisoner = reference, Etag = f.Etag(Hq, reference) },
            Prisoners.RecordFitness
        );

    // ---- departures --------------------------------------------------------------------------------------------------------

    private static Advice<CaseFixture>[] OnDepartures =>
        [
            new(Reason.DepartureWithoutAssurance, "it is his power of origin; claimed", f => Departed(f, Invariant.D2)),
            new(Reason.DepartureWithoutAssurance, "by a transfer request", ByTransferRequest),
            new(Reason.DepartureWithoutAssurance, TookPlace, f => Departed(f, Invariant.D2, tookPlace: true)),
            new(Reason.DepartureWithoutStanding, "he is heard in private", f => Departed(f, Invariant.D9)),
            new(Reason.DepartureWithoutStanding, TookPlace, f => Departed(f, Invariant.D9, tookPlace: true)),
            new(Reason.DepartureWithoutFitness, "he is examined", f => Departed(f, Invariant.D10)),
            new(Reason.DepartureWithoutFitness, "admitted to hospital since; examined again", ExaminedAgain),
            new(Reason.DepartureWithoutFitness, "seriously wounded during hostilities; he is heard in private", WoundedAndWilling),
            new(Reason.DepartureWithoutFitness, TookPlace, f => Departed(f, Invariant.D10, tookPlace: true)),
            new(Reason.DepartureWithoutRiskAssessment, "assessed", f => Departed(f, Invariant.D11)),
            new(Reason.DepartureWithoutRiskAssessment, "a risk was found; a later assessment finds none", RiskGone),
            new(Reason.DepartureWithoutRiskAssessment, TookPlace, f => Departed(f, Invariant.D11, tookPlace: true)),
            new(Reason.DepartureDuringProceedings, "they delay no longer", f => Departed(f, Invariant.D12)),
            new(Reason.DepartureDuringProceedings, TookPlace, f => Departed(f, Invariant.D12, tookPlace: true)),
            new(Reason.NotConfirmedByDetainingPower, "both confirm", NotConfirmed),
        ];

    private const string TookPlace = "it took place; acknowledged";

    // He is released to the Republic of Korea, and one thing is missing.
    private static Advised Departed(CaseFixture f, Invariant missing, bool tookPlace = false)
    {
        foreach (var invariant in (Invariant[])[Invariant.D2, Invariant.D9, Invariant.D10, Invariant.D11])
            if (invariant != missing)
                Supply(f, invariant);
        if (missing == Invariant.D12)
            f.Do(Hq, f.ProceedingsRequest(), Prisoners.RecordProceedings);
        var acknowledged = new List<Invariant>();
        return new(
            () => f.Try(Hq, f.StatusRequest(CustodyState.Released, null, [.. acknowledged]), Prisoners.RecordStatus),
            () =>
            {
                if (tookPlace)
                    acknowledged.Add(missing);
                else
                    Supply(f, missing);
            }
        );
    }

    private static void Supply(CaseFixture f, Invariant what)
    {
        switch (what)
        {
            case Invariant.D2:
                f.Origin("KR");
                break;
            case Invariant.D9:
                f.Says("KR");
                break;
            case Invariant.D10:
                f.Do(Hq, f.FitnessRequest(), Prisoners.RecordFitness);
                break;
            case Invariant.D11:
                f.Do(Hq, f.RiskRequest(), Prisoners.RecordRiskAssessment);
                break;
            case Invariant.D12:
                f.Do(Hq, f.ProceedingsRequest(delay: false, reason: ""), Prisoners.RecordProceedings);
                break;
        }
    }

    private static Advised ByTransferRequest(CaseFixture f)
    {
        var alone = Departed(f, Invariant.D2);
        f.Admit(Mfa, Part.DetainingPower);
        var requested = false;
        return new(
            () => requested ? f.Try(CaseFixture.Consular, f.Confirmed(Route.Release), Reactions.HandedOver) : alone.Ask(),
            () => requested = true
        );
    }

    private static Advised ExaminedAgain(CaseFixture f)
    {
        var released = Departed(f, Invariant.D12);
        Supply(f, Invariant.D12);
        f.Status(CustodyState.Hospitalised);
        return released with
        {
            Follow = () => f.Do(Hq, new RecordFitnessRequest(f.FitnessRequest()) { ExamineTime = f.Ago(0.5) }, Prisoners.RecordFitness),
        };
    }

    private static Advised WoundedAndWilling(CaseFixture f)
    {
        f.Origin("KP");
        f.Do(Hq, new RecordFitnessRequest(f.FitnessRequest()) { Serious = true }, Prisoners.RecordFitness);
        f.Do(Hq, f.RiskRequest("KP"), Prisoners.RecordRiskAssessment);
        return new(
            () =>
                f.Try(
                    Hq,
                    new RecordStatusRequest(f.StatusRequest(CustodyState.Repatriated, null, Invariant.D9)) { Destination = "KP" },
                    Prisoners.RecordStatus
                ),
            () => f.Says("KP")
        );
    }

    private static Advised RiskGone(CaseFixture f)
    {
        var released = Departed(f, Invariant.D11);
        f.Do(
            Hq,
            new RecordRiskAssessmentRequest(f.RiskRequest()) { Finding = RiskFinding.SubstantialRisk },
            Prisoners.RecordRiskAssessment
        );
        return released;
    }

    private static Advised NotConfirmed(CaseFixture f)
    {
        f.Admit(Mfa, Part.DetainingPower);
        return Advice.OfRequest(
            () => f.Confirmed(),
            confirmed => f.Try(CaseFixture.Consular, confirmed, Reactions.HandedOver),
            confirmed => confirmed.AcceptingParticipant = ""
        );
    }
}
