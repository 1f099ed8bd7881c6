using System.Security.Cryptography;
using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Ministries.CallLog.V1;
using Ministries.Client;
using Ministries.Consular.V1;
using Ministries.Custody.V1;
using Ministries.Errors.V1;
using Ministries.Types.V1;
using Route = Ministries.Types.V1.Route;

namespace Ministries.Local;

/// <summary>
/// The case of 17 March 2025, played by its participants: one call, two prisoners, one of whom changes his mind on the way. The
/// identities are invented and sealed; the calls, certificates, ledgers and refusals are real.
/// </summary>
/// <param name="participants">The participants.</param>
/// <param name="timeline">Performs, shows and keeps the steps.</param>
public sealed class Story(Participants participants, Timeline timeline)
{
    private readonly List<string> _registered = [];
    private readonly ParticipantClient _headquarters = participants["ua/coordination-hq"];
    private readonly ParticipantClient _kyiv = participants["ua/mfa"];
    private readonly ParticipantClient _seoul = participants["kr/mfa"];
    private readonly ParticipantClient _redCross = participants["icrc"];
    private readonly Dictionary<string, string> _transfers = [];
    private readonly List<(string Prisoner, byte[] Secret)> _wishes = [];

    /// <summary>The secrets of all wishes so far, 32 bytes each. They stand in what is sealed and nowhere else: a test searches for them.
    /// </summary>
    public IReadOnlyList<byte[]> WishSecrets => [.. _wishes.Select(w => w.Secret)];
    private Timestamp _setOut = new();

    /// <summary>The prisoner who is handed over: the reference that custody gave him.</summary>
    public string First => _registered[0];

    /// <summary>The prisoner who changes his mind.</summary>
    public string Second => _registered[1];

    /// <summary>A prisoner's label in the output: P-1 or P-2, in the order of registration.</summary>
    public string LabelOf(string prisoner) => $"P-{_registered.IndexOf(prisoner) + 1}";

    private IReadOnlyList<string> Both => _registered;

    /// <summary>The case.</summary>
    public string Case { get; private set; } = "";

    /// <summary>The call.</summary>
    public string Call { get; private set; } = "";

    /// <summary>The transfer request of each prisoner.</summary>
    public IReadOnlyDictionary<string, string> Transfers => _transfers;

    /// <summary>Plays it from the opening of the case to the hand-over.</summary>
    public async Task Play(CancellationToken cancel)
    {
        await OpenCase(cancel);
        await LogCall(cancel);
        await AwaitDrafts(cancel);
        await SubmitReadout();
        await ContestAndAmend();
        await SubmitRequests(cancel);
        await ReviewRequests(cancel);
        await TryOnNewspaperAlone();
        await InterviewInPrivate();
        await AgreeAndSetOut(cancel);
        await ChangeOfMindOnTheWay(cancel);
        await TryAgainstHisWord(cancel);
        await HandOver(cancel);
    }

    private async Task OpenCase(CancellationToken cancel)
    {
        timeline.Begin(0, "The detaining power opens the case, registers both prisoners and admits the parties");
        var opened = await timeline.Perform(_headquarters, "opens the case", p => p.Custody.OpenCaseAsync(new()));
        Case = opened.Case;
        participants.SetCase(Case);
        foreach (var called in (string[])["P-1", "P-2"])
            _registered.Add(
                (
                    await timeline.Perform(
                        _headquarters,
                        $"registers {called}, wounded, in hospital",
                        p =>
                            p.Custody.RegisterPrisonerAsync(
                                new()
                                {
                                    Status = CustodyState.Hospitalised,
                                    CaptureTime = On(2025, 1, 9),
                                    Identity = ParticipantClient.Seal(InventedIdentities.Of(called), "ua/coordination-hq", "icrc"),
                                }
                            )
                    )
                ).Prisoner
            );
        await Admit("ua/mfa", Part.DetainingPower, "another organ of the detaining power");
        await Admit("icrc", Part.NeutralObserver, "the neutral observer");
        var admitted = await Admit("kr/mfa", Part.RequestingState, "a requesting state");
        foreach (var prisoner in Both)
        {
            await Claim(_headquarters, prisoner, "KP", "KP", ClaimBasis.Nationality, "the DPRK's claim: nationality");
            await Claim(_headquarters, prisoner, "RU", "RU", ClaimBasis.SideFoughtOn, "Russia's claim: the side he fought on");
        }
        foreach (var service in new[] { "calllog", "consular" })
            await participants.WaitUntilProcessed(service, "custody", admitted.Receipt.Position, cancel);

        Task<AdmitPartyResponse> Admit(string participant, Part part, string what) =>
            timeline.Perform(
                _headquarters,
                $"admits {participant}, {what}",
                p => p.Custody.AdmitPartyAsync(new() { Participant = participant, Part = part })
            );
    }

    private Task<RecordClaimResponse> Claim(
        ParticipantClient client,
        string prisoner,
        string claimant,
        string claimed,
        ClaimBasis basis,
        string what,
        string instrument = ""
    ) =>
        timeline.Perform(
            client,
            $"records for {LabelOf(prisoner)} {what}",
            p =>
                p.Custody.RecordClaimAsync(
                    new()
                    {
                        Prisoner = prisoner,
                        Claimant = claimant,
                        StateClaimed = claimed,
                        Basis = basis,
                        Instrument = instrument,
                    }
                )
        );

    // Both sides say that Seoul asserted it.
    private StatedPosition Citizenship() =>
        new()
        {
            Participant = "kr/mfa",
            Subject = Subject.Citizenship,
            Stance = Stance.Asserted,
            Basis = "kr-constitution-art-3",
            Prisoners = { Both },
        };

    private async Task LogCall(CancellationToken cancel)
    {
        timeline.Begin(1, "Seoul logs the call of 17 March: the position on citizenship, and that it will request a transfer");
        foreach (var prisoner in Both)
            await Claim(_seoul, prisoner, "KR", "KR", ClaimBasis.Constitution, "its own claim: its Constitution", "kr-constitution-art-3");
        var account = Account("Asia/Seoul");
        account.Positions.Add(Citizenship());
        account.Commitments.Add(
            new CommitmentTerms
            {
                Participant = "kr/mfa",
                Kind = CommitmentKind.RequestTransfer,
                Prisoners = { Both },
                Route = Route.Article12Transfer,
                Destination = "KR",
                DueTime = In(days: 30),
            }
        );
        account.Minutes = ParticipantClient.Seal(new CallMinutes { Minutes = ParticipantClient.Words("The minister's minutes.") });
        var logged = await timeline.Perform(
            _seoul,
            "logs the call with ua/mfa",
            p => p.Calls.LogCallAsync(new() { Counterpart = "ua/mfa", Account = account })
        );
        Call = logged.Call;
        timeline.MarkCallLogged();
        await timeline.Expect("the call is ONE_SIDED until the other side has spoken", CallState.OneSided, () => logged.State);
        await participants.WaitUntil(
            "the consular service drafts both requests",
            async () =>
                (await _seoul.Consular.ListTransfersAsync(new() { Case = Case, Call = Call }, cancellationToken: cancel)).Transfers.Count
                == 2,
            cancel
        );
    }

    private async Task AwaitDrafts(CancellationToken cancel)
    {
        timeline.Begin(2, "The consular service drafts a request for each, custody notes it, the call log ties them");
        var drafts = (await _seoul.Consular.ListTransfersAsync(new() { Case = Case, Call = Call }, cancellationToken: cancel)).Transfers;
        foreach (var draft in drafts.OrderBy(d => LabelOf(d.Prisoner)))
        {
            _transfers[draft.Prisoner] = draft.Id;
            timeline.ShowReaction("service/consular", $"drafts a transfer request of {LabelOf(draft.Prisoner)} for {draft.Participant}");
        }
        await participants.WaitUntil(
            "custody notes the interest",
            async () => (await Task.WhenAll(Both.Select(Interests))).All(noted => noted == 1),
            cancel
        );
        foreach (var prisoner in Both)
            timeline.ShowReaction("service/custody", $"notes an interest in {LabelOf(prisoner)}, for kr/mfa's eyes only");
        await participants.WaitUntil(
            "the call log ties the drafts",
            async () => (await _seoul.Calls.GetCallAsync(new() { Call = Call })).Call.Commitments.Single().Requests.Count == 2,
            cancel
        );
        timeline.ShowReaction("service/calllog", "ties both drafts to the commitment, which is OPEN until they are submitted");
        await timeline.Expect("both drafts are DRAFTED", "DRAFTED DRAFTED", () => string.Join(' ', drafts.Select(d => Words.Of(d.State))));
        foreach (var other in new[] { _headquarters, _kyiv, _redCross })
            await timeline.Expect(
                $"{other.Id} sees no draft",
                0,
                async () => (await other.Consular.ListTransfersAsync(new() { Case = Case }, cancellationToken: cancel)).Transfers.Count
            );
        await timeline.Expect(
            "ua/coordination-hq sees no interest noted",
            0,
            async () =>
                (await _headquarters.Custody.GetPrisonerAsync(new() { Case = Case, Prisoner = First }, cancellationToken: cancel))
                    .Prisoner
                    .Interests
                    .Count
        );

        async Task<int> Interests(string prisoner) =>
            (await _seoul.Custody.GetPrisonerAsync(new() { Case = Case, Prisoner = prisoner }, cancellationToken: cancel))
                .Prisoner
                .Interests
                .Count;
    }

    private async Task SubmitReadout()
    {
        timeline.Begin(4, "Kyiv gives its own account of the call: what matches, and what differs");
        var account = Account("Europe/Kyiv");
        account.Subjects.Add(Subject.Treatment);
        account.Positions.Add(Citizenship());
        var given = await timeline.Perform(
            _kyiv,
            "submits its own readout",
            p => p.Calls.SubmitReadoutAsync(new() { Call = Call, Account = account })
        );
        await timeline.Expect("the call is MUTUAL", CallState.Mutual, () => given.State);
        var compared = (await _kyiv.Calls.GetCallAsync(new() { Call = Call })).Comparison;
        timeline.ShowComparison(compared.Fields.Select(f => ($"{Words.Of(f.Field)}", Words.Of(f.Match))));
        await timeline.Expect(
            "what only Seoul said is ONE_SIDE_ONLY",
            Match.OneSideOnly,
            () => compared.Fields.Single(f => f.Field == CodedField.Commitments).Match
        );
    }

    // What a side writes of the other's account is sealed too: it may be about a prisoner.
    private async Task ContestAndAmend()
    {
        var contested = await timeline.Perform(
            _kyiv,
            "contests what Seoul wrote; its reason is sealed",
            p =>
                p.Calls.ContestReadoutAsync(
                    new()
                    {
                        Call = Call,
                        Participant = "kr/mfa",
                        Version = 1,
                        Fields = { CodedField.Subjects },
                        Explanation = ParticipantClient.Seal(
                            new ReadoutReason { Reason = ParticipantClient.Words("The treatment of both was spoken of too.") }
                        ),
                    }
                )
        );
        await timeline.Expect("the call is CONTESTED", CallState.Contested, () => contested.State);
        var account = Account("Asia/Seoul");
        account.Subjects.Add(Subject.Treatment);
        account.Positions.Add(Citizenship());
        await timeline.Perform(
            _seoul,
            "reads the reason and amends its own readout",
            p =>
                p.Calls.AmendReadoutAsync(
                    new()
                    {
                        Call = Call,
                        Account = account,
                        Explanation = ParticipantClient.Seal(
                            new ReadoutReason { Reason = ParticipantClient.Words("The interpreter's notes say so.") }
                        ),
                    }
                )
        );
        var corrected = await timeline.Perform(
            _kyiv,
            "takes its contest back",
            p =>
                p.Calls.CorrectRecordAsync(
                    new()
                    {
                        Call = Call,
                        Position = contested.Receipt.Position,
                        Explanation = ParticipantClient.Seal(
                            new CorrectionReason { Reason = ParticipantClient.Words("Seoul's readout says it now.") }
                        ),
                    }
                )
        );
        await timeline.Expect("the call is MUTUAL again", CallState.Mutual, () => corrected.State);
        await timeline.Expect("Seoul reads why it was contested", true, async () => await ReadsContest(_seoul));
        await timeline.Expect("the ICRC reads why it was contested", true, async () => await ReadsContest(_redCross));
        await timeline.Expect(
            "ua/coordination-hq, to which nobody sealed it, does not",
            false,
            async () => await ReadsContest(_headquarters)
        );

        async Task<bool> ReadsContest(ParticipantClient reader)
        {
            var call = (await reader.Calls.GetCallAsync(new() { Call = Call })).Call;
            var explanation = call.Contests.Single().Explanation;
            return !explanation.Content.IsEmpty && (await reader.Open<ReadoutReason>(call, explanation)).Reason.Text_.Length > 0;
        }
    }

    private async Task SubmitRequests(CancellationToken cancel)
    {
        timeline.Begin(5, "Seoul submits both requests and gives its assurance; the detaining power reviews and assesses");
        ulong last = 0;
        foreach (var prisoner in Both)
            last = (
                await timeline.Perform(
                    _seoul,
                    $"submits the request for {LabelOf(prisoner)}",
                    p =>
                        p.Consular.SubmitTransferRequestAsync(
                            new()
                            {
                                Transfer = _transfers[prisoner],
                                NoteVerbale = $"KR-MFA-2025-{LabelOf(prisoner)}",
                                Content = ParticipantClient.Seal(
                                    new RequestAccount { Account = ParticipantClient.Words("Why Seoul asks, and what it offers him.") }
                                ),
                            }
                        )
                )
            ).Receipt.Position;
        await participants.WaitUntilProcessed("custody", "consular", last, cancel);
        await participants.WaitUntilProcessed("calllog", "consular", last, cancel);
        await timeline.Expect(
            "the commitment is KEPT",
            CommitmentState.Kept,
            async () => (await _seoul.Calls.GetCallAsync(new() { Call = Call })).Call.Commitments.Single().State
        );
        foreach (var prisoner in Both)
            await timeline.Perform(
                _seoul,
                $"assures for {LabelOf(prisoner)}: the Convention, and no refoulement",
                p =>
                    p.Consular.GiveAssuranceAsync(
                        new()
                        {
                            Transfer = _transfers[prisoner],
                            NoteVerbale = $"KR-MFA-2025-A-{LabelOf(prisoner)}",
                            ExpireTime = In(days: 365),
                            Undertakings =
                            {
                                Undertaking.ApplyConvention,
                                Undertaking.NonRefoulement,
                                Undertaking.ObserverAccess,
                                Undertaking.ReturnOnRequest,
                            },
                        }
                    )
            );
    }

    private async Task ReviewRequests(CancellationToken cancel)
    {
        ulong last = 0;
        foreach (var prisoner in Both)
        {
            await timeline.Perform(
                _headquarters,
                $"begins to review the request for {LabelOf(prisoner)}",
                p => p.Consular.BeginReviewAsync(new() { Transfer = _transfers[prisoner] })
            );
            await timeline.Perform(
                _headquarters,
                "assesses the receiving state: willing and able",
                p =>
                    p.Consular.RecordTransfereeAssessmentAsync(
                        new()
                        {
                            Transfer = _transfers[prisoner],
                            Willing = true,
                            Able = true,
                            ExpireTime = In(days: 180),
                        }
                    )
            );
            await timeline.Perform(
                _headquarters,
                $"assesses the risk for {LabelOf(prisoner)} at the destination",
                p => p.Custody.RecordRiskAssessmentAsync(Risk(prisoner, "KR"))
            );
            last = (
                await timeline.Perform(
                    _headquarters,
                    $"records that {LabelOf(prisoner)} is fit to travel",
                    p => p.Custody.RecordFitnessAsync(Fitness(prisoner))
                )
            )
                .Receipt
                .Position;
        }
        await participants.WaitUntilProcessed("consular", "custody", last, cancel);
    }

    private async Task TryOnNewspaperAlone()
    {
        timeline.Begin(5, "On the newspaper interview alone, nothing moves");
        await RecordWithoutInterview(First, On(2025, 2, 19), "enters what the newspaper printed as P-1's statement");
        await timeline.ExpectRefusal(
            _headquarters,
            "would agree to the transfer of P-1 on it",
            Reason.StandingNotInForce,
            p => Decide(p, First)
        );
    }

    // The detaining power records that he accepts KR, without an interview.
    private Task<RecordStatementResponse> RecordWithoutInterview(string prisoner, Timestamp said, string what) =>
        timeline.Perform(
            _headquarters,
            what,
            p =>
                p.Custody.RecordStatementAsync(
                    new()
                    {
                        Prisoner = prisoner,
                        StatementTime = said,
                        Language = "ko",
                        LanguageUnderstood = true,
                        Uncoerced = true,
                        WithoutInterpreter = true,
                        Content = ParticipantClient.Seal(Said(prisoner, "What is said to be his words.", "KR")),
                    }
                )
        );

    private async Task InterviewInPrivate()
    {
        timeline.Begin(5, "The ICRC speaks with each alone; interviewer, interpreter and observer attest");
        foreach (var prisoner in Both)
        {
            var visit = await timeline.Perform(
                _redCross,
                $"notifies a visit to {LabelOf(prisoner)} under Article 126",
                p => p.Consular.NotifyVisitAsync(new() { Prisoner = prisoner, PlannedTime = In(days: 1) })
            );
            await timeline.Perform(
                _redCross,
                "records the visit, without witnesses",
                p =>
                    p.Consular.RecordVisitAsync(
                        new()
                        {
                            Access = visit.Access,
                            StartTime = Now(),
                            DurationMinutes = 50,
                            WithoutWitnesses = true,
                            Language = "ko",
                            Interpreter = "interpreter-3",
                        }
                    )
            );
            await RecordStatement(prisoner, PlaceKind.Hospital, "KR");
        }
    }

    private async Task RecordStatement(string prisoner, PlaceKind place, params string[] accepted)
    {
        var attendants = new[] { AttesterRole.Interviewer, AttesterRole.Interpreter, AttesterRole.Observer }
            .Select((role, i) => (Role: role, Actor: _redCross.OtherOfficial(Words.Of(role).ToLowerInvariant(), i + 2)))
            .ToList();
        var now = Now();
        var recorded = await timeline.Perform(
            _redCross,
            $"records what {LabelOf(prisoner)} said, sealed",
            p =>
                p.Custody.RecordStatementAsync(
                    new()
                    {
                        Prisoner = prisoner,
                        StatementTime = now,
                        Language = "ko",
                        LanguageUnderstood = true,
                        Uncoerced = true,
                        Interpreter = attendants[1].Actor.Official,
                        Interview = InterviewAt(
                            place,
                            now,
                            attendants.Select(a => new Attendant
                            {
                                Role = a.Role,
                                Participant = "icrc",
                                Official = a.Actor.Official,
                            })
                        ),
                        Content = ParticipantClient.Seal(Said(prisoner, "His words.", accepted)),
                    }
                )
        );
        foreach (var (role, actor) in attendants)
            await timeline.Perform(
                _redCross,
                $"attests as {Words.Of(role).ToLowerInvariant()}",
                p =>
                    p.Custody.AttestStatementAsync(
                        new()
                        {
                            Prisoner = prisoner,
                            Statement = recorded.Statement,
                            Role = role,
                            Actor = actor,
                        }
                    )
            );
    }

    private static Interview InterviewAt(PlaceKind place, Timestamp time, IEnumerable<Attendant> attendants) =>
        new()
        {
            WithoutWitnesses = true,
            PlaceKind = place,
            InterviewTime = time,
            Attendants = { attendants },
            OptionsExplained =
            {
                OptionExplained.Home,
                OptionExplained.RequestingState,
                OptionExplained.Elsewhere,
                OptionExplained.Stay,
                OptionExplained.Wait,
            },
            Safeguards =
            {
                Safeguard.Voluntary,
                Safeguard.Confidential,
                Safeguard.ProtectionExplained,
                Safeguard.ReadBack,
                Safeguard.Medical,
            },
        };

    // What he said. The commitments to what he accepts are made from it when it is sealed.
    private StatementContent Said(string prisoner, string words, params string[] accepted)
    {
        var secret = RandomNumberGenerator.GetBytes(WishCommitments.Bytes);
        _wishes.Add((prisoner, secret));
        return new()
        {
            AcceptedDestinations = { accepted },
            WishSecret = ByteString.CopyFrom(secret),
            Words = ParticipantClient.Words(words),
        };
    }

    // What the detaining power makes from his statements, which it can open: it shows that he accepts KR, and nothing else.
    private IEnumerable<ByteString> OpeningsOf(string prisoner) =>
        _wishes.Where(w => w.Prisoner == prisoner).Select(w => WishCommitments.OpeningOf(Case, prisoner, "KR", w.Secret));

    private Grpc.Core.AsyncUnaryCall<DecideTransferResponse> Decide(ParticipantClient client, string prisoner) =>
        client.Consular.DecideTransferAsync(
            new()
            {
                Transfer = _transfers[prisoner],
                Agreed = true,
                NoteVerbale = "UA-CHQ-2025-11",
                Openings = { OpeningsOf(prisoner) },
            }
        );

    private async Task AgreeAndSetOut(CancellationToken cancel)
    {
        timeline.Begin(5, "The detaining power agrees; custody is asked for the standing at every step");
        foreach (var prisoner in Both)
        {
            await timeline.Perform(
                _headquarters,
                $"agrees to the transfer of {LabelOf(prisoner)}; two officials sign",
                p => Decide(p, prisoner)
            );
            await timeline.Expect(
                $"kr/mfa verifies that the agreement on {LabelOf(prisoner)} rests on what was attested, and reads none of it",
                AgreedTransferFault.None,
                () => VerifyAgreement(prisoner)
            );
            await timeline.Perform(
                _headquarters,
                $"schedules the hand-over of {LabelOf(prisoner)}",
                p =>
                    p.Consular.ScheduleHandoverAsync(
                        new()
                        {
                            Transfer = _transfers[prisoner],
                            WindowStartTime = Now(),
                            WindowEndTime = In(days: 2),
                            HandoverReference = $"HO-{LabelOf(prisoner)}",
                            Place = ParticipantClient.Seal(new Place { Name = "An invented place" }),
                        }
                    )
            );
        }
        _setOut = Now();
        ulong last = 0;
        foreach (var prisoner in Both)
            last = (
                await timeline.Perform(
                    _headquarters,
                    $"records that {LabelOf(prisoner)} sets out",
                    p => p.Consular.BeginTransitAsync(new() { Transfer = _transfers[prisoner] })
                )
            )
                .Receipt
                .Position;
        await participants.WaitUntilProcessed("custody", "consular", last, cancel);
    }

    private async Task<AgreedTransferFault> VerifyAgreement(string prisoner)
    {
        var transfer = await TransferOf(_seoul, prisoner);
        var shown = await _seoul.Custody.CheckAttestationAsync(
            new()
            {
                Case = Case,
                Prisoner = prisoner,
                Destination = transfer.Destination,
                Openings = { transfer.Decision.Openings },
            }
        );
        return AgreedTransfers.Verify(transfer, shown.Statements, [prisoner], new Permissions(_seoul.Client.Agreement));
    }

    private async Task ChangeOfMindOnTheWay(CancellationToken cancel)
    {
        timeline.Begin(5, "On the way P-2 changes his mind");
        await RecordStatement(Second, PlaceKind.Transit);
        await participants.WaitUntil(
            "the transfer of P-2 is suspended",
            async () => (await TransferOf(_seoul, Second)).State == TransferState.Suspended,
            cancel
        );
        timeline.ShowReaction("service/consular", "suspends the transfer of P-2; nobody is told why");
        await timeline.ExpectRefusal(_seoul, "would confirm the hand-over of P-2", Reason.StateNotAllowed, p => Confirm(p, Second));
        var aborted = await timeline.Perform(
            _headquarters,
            "calls off the hand-over of P-2",
            p => p.Consular.AbortHandoverAsync(new() { Transfer = _transfers[Second] })
        );
        await participants.WaitUntilProcessed("custody", "consular", aborted.Receipt.Position, cancel);
    }

    private async Task TryAgainstHisWord(CancellationToken cancel)
    {
        timeline.Begin(5, "Three attempts to send P-2 against his word, each refused");
        var entered = await RecordWithoutInterview(Second, Now(), "enters that P-2 accepts after all, without an interview");
        await participants.WaitUntilProcessed("consular", "custody", entered.Receipt.Position, cancel);
        await timeline.ExpectRefusal(
            _headquarters,
            "would resume the transfer of P-2 on it",
            Reason.StandingNotInForce,
            p => p.Consular.ResumeTransferAsync(new() { Transfer = _transfers[Second], Openings = { OpeningsOf(Second) } })
        );
        await timeline.ExpectRefusal(
            _headquarters,
            "would remove the observer who attested P-2's word",
            Reason.ObserverLeavesByItself,
            p => p.Custody.RemovePartyAsync(new() { Participant = "icrc" })
        );
        await timeline.ExpectRefusal(
            _headquarters,
            "would release P-2 to KR without a transfer",
            Reason.DepartureWithoutAssurance,
            p =>
                p.Custody.RecordStatusAsync(
                    new()
                    {
                        Prisoner = Second,
                        Status = CustodyState.Released,
                        StatusTime = Now(),
                        Destination = "KR",
                    }
                )
        );
    }

    private Grpc.Core.AsyncUnaryCall<ConfirmHandoverResponse> Confirm(ParticipantClient client, string prisoner) =>
        client.Consular.ConfirmHandoverAsync(
            new()
            {
                Transfer = _transfers[prisoner],
                WindowStartTime = _setOut,
                WindowEndTime = Now(),
                HandoverReference = $"HO-{LabelOf(prisoner)}",
            }
        );

    private async Task HandOver(CancellationToken cancel)
    {
        timeline.Begin(5, "P-1 is handed over; both sides confirm, and custody passes to the accepting power");
        await timeline.Perform(_headquarters, "confirms the hand-over of P-1", p => Confirm(p, First));
        await timeline.Expect("one side's confirmation moves no responsibility", "UA", () => DetainingPowerOf(First));
        await timeline.Perform(_seoul, "confirms the hand-over of P-1", p => Confirm(p, First));
        await participants.WaitUntil(
            "custody has passed",
            async () => await DetainingPowerOf(First) == "KR" && (await TransferOf(_seoul, First)).State == TransferState.Monitored,
            cancel
        );
        timeline.ShowReaction("service/custody", "records that custody of P-1 passed from UA to KR");
        await timeline.Expect("custody of P-1 is KR's", "KR", () => DetainingPowerOf(First));
        await timeline.Expect(
            "Ukraine stays answerable as the transferring power (12(3))",
            "UA",
            async () => (await _headquarters.Custody.GetPrisonerAsync(new() { Case = Case, Prisoner = First })).Prisoner.TransferringPower
        );
        await timeline.Expect(
            "the transfer of P-1 is MONITORED",
            TransferState.Monitored,
            async () => (await TransferOf(_seoul, First)).State
        );
        await timeline.Expect("custody of P-2 is still UA's", "UA", () => DetainingPowerOf(Second));
        await timeline.Expect(
            "the transfer of P-2 is SUSPENDED",
            TransferState.Suspended,
            async () => (await TransferOf(_seoul, Second)).State
        );
    }

    /// <summary>Goes on after <see cref="Play"/>: the observer reports that the Convention is not kept, Ukraine asks for the return of P-1
    /// (Article 12(3)), he wants it, and custody passes back.</summary>
    /// <param name="cancel">Ends it.</param>
    public async Task Return(CancellationToken cancel)
    {
        timeline.Begin(5, "P-1 is returned: the observer reports a failure, Ukraine asks for him, and he wants it");
        await timeline.Perform(
            _redCross,
            "reports that the Convention is not kept for P-1",
            p =>
                p.Consular.ReportTreatmentFailureAsync(
                    new()
                    {
                        Transfer = _transfers[First],
                        Articles = { "13" },
                        Content = ParticipantClient.Seal(new TreatmentFindings { Facts = ParticipantClient.Words("What was found.") }),
                    }
                )
        );
        await timeline.Perform(
            _headquarters,
            "asks for the return of P-1",
            p => p.Consular.RequestReturnAsync(new() { Transfer = _transfers[First], NoteVerbale = "UA-CHQ-2025-21" })
        );
        await RecordStatement(First, PlaceKind.Hospital, "UA");
        await timeline.Perform(_seoul, "assesses the risk for P-1 in Ukraine", p => p.Custody.RecordRiskAssessmentAsync(Risk(First, "UA")));
        var fit = await timeline.Perform(_seoul, "records that P-1 is fit to travel", p => p.Custody.RecordFitnessAsync(Fitness(First)));
        await participants.WaitUntilProcessed("consular", "custody", fit.Receipt.Position, cancel);
        _setOut = Now();
        foreach (var side in new[] { _seoul, _headquarters })
            await timeline.Perform(side, "confirms the return of P-1", p => ConfirmReturn(p, First));
        await participants.WaitUntil(
            "custody has passed back",
            async () => await DetainingPowerOf(First) == "UA" && (await TransferOf(_seoul, First)).State == TransferState.Returned,
            cancel
        );
        timeline.ShowReaction("service/custody", "records that custody of P-1 passed back from KR to UA");
    }

    private Grpc.Core.AsyncUnaryCall<ConfirmReturnResponse> ConfirmReturn(ParticipantClient client, string prisoner) =>
        client.Consular.ConfirmReturnAsync(
            new()
            {
                Transfer = _transfers[prisoner],
                WindowStartTime = _setOut,
                WindowEndTime = Now(),
                HandoverReference = $"RET-{LabelOf(prisoner)}",
                Openings = { WishCommitments.OpeningOf(Case, prisoner, "UA", _wishes.Last(w => w.Prisoner == prisoner).Secret) },
            }
        );

    private static RecordRiskAssessmentRequest Risk(string prisoner, string destination) =>
        new()
        {
            Prisoner = prisoner,
            Destination = destination,
            Finding = RiskFinding.NoSubstantialRisk,
            AssessTime = Now(),
            ExpireTime = In(days: 180),
        };

    private static RecordFitnessRequest Fitness(string prisoner) =>
        new()
        {
            Prisoner = prisoner,
            Fit = true,
            Physician = "physician-7",
            ExamineTime = Now(),
            ExpireTime = In(days: 60),
        };

    private async Task<string> DetainingPowerOf(string prisoner) =>
        (await _seoul.Custody.GetPrisonerAsync(new() { Case = Case, Prisoner = prisoner })).Prisoner.DetainingPower;

    private async Task<Transfer> TransferOf(ParticipantClient client, string prisoner) =>
        (await client.Consular.GetTransferAsync(new() { Transfer = _transfers[prisoner] })).Transfer;

    private Account Account(string zone) =>
        new()
        {
            StartTime = new ZonedTime { Time = On(2025, 3, 17, 9), TimeZone = zone },
            Channel = Channel.Telephone,
            Attendees =
            {
                new Attendee { Participant = "kr/mfa", Office = "minister" },
                new Attendee { Participant = "ua/mfa", Office = "minister" },
            },
            Subjects = { Subject.Citizenship, Subject.Transfer },
            Prisoners = { Both },
        };

    private static Timestamp On(int year, int month, int day, int hour = 0) =>
        new DateTimeOffset(year, month, day, hour, 0, 0, TimeSpan.Zero).ToTimestamp();

    private static Timestamp Now() => DateTimeOffset.UtcNow.ToTimestamp();

    private static Timestamp In(int days) => DateTimeOffset.UtcNow.AddDays(days).ToTimestamp();
}
