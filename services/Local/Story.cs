using Google.Protobuf.WellKnownTypes;
using Ministries.CallLog.V1;
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
/// <param name="cast">The participants.</param>
/// <param name="teller">Tells what happens, and keeps it.</param>
public sealed class Story(Cast cast, Teller teller)
{
    private readonly List<string> _registered = [];
    private readonly Party _headquarters = cast["ua/coordination-hq"];
    private readonly Party _kyiv = cast["ua/mfa"];
    private readonly Party _seoul = cast["kr/mfa"];
    private readonly Party _redCross = cast["icrc"];
    private readonly Dictionary<string, string> _transfers = [];
    private Timestamp _setOut = new();

    /// <summary>The one who goes: the reference that custody gave him.</summary>
    public string First => _registered[0];

    /// <summary>The one who changes his mind.</summary>
    public string Second => _registered[1];

    /// <summary>What the story calls a prisoner, in the order in which they were registered.</summary>
    public string Called(string prisoner) => $"P-{_registered.IndexOf(prisoner) + 1}";

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
        await TheCaseIsOpened(cancel);
        await SeoulLogsTheCall(cancel);
        await TheServicesDraftAndTell(cancel);
        await KyivGivesItsOwnReadout();
        await SeoulSubmitsAndKyivReviews(cancel);
        await ANewspaperIsNoStanding();
        await TheRedCrossInterviewsInPrivate();
        await TheDetainingPowerAgrees(cancel);
        await OneChangesHisMindOnTheWay(cancel);
        await TheOtherIsHandedOver(cancel);
    }

    private async Task TheCaseIsOpened(CancellationToken cancel)
    {
        teller.Begin(0, "The detaining power opens the case, registers both prisoners and admits the parties");
        var opened = await teller.Does(_headquarters, "opens the case", p => p.Custody.OpenCaseAsync(new()));
        Case = opened.Case;
        cast.TakeUp(Case);
        foreach (var called in (string[])["P-1", "P-2"])
            _registered.Add(
                (
                    await teller.Does(
                        _headquarters,
                        $"registers {called}, wounded, in hospital",
                        p =>
                            p.Custody.RegisterPrisonerAsync(
                                new()
                                {
                                    Status = CustodyState.Hospitalised,
                                    CaptureTime = On(2025, 1, 9),
                                    Identity = Party.Seal($"an invented identity of {called}", "ua/coordination-hq", "icrc"),
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
            await cast.Heard(service, "custody", admitted.Receipt.Position, cancel);

        Task<AdmitPartyResponse> Admit(string participant, Part part, string what) =>
            teller.Does(
                _headquarters,
                $"admits {participant}, {what}",
                p => p.Custody.AdmitPartyAsync(new() { Participant = participant, Part = part })
            );
    }

    private Task<RecordClaimResponse> Claim(
        Party party,
        string prisoner,
        string claimant,
        string claimed,
        ClaimBasis basis,
        string what,
        string instrument = ""
    ) =>
        teller.Does(
            party,
            $"records for {Called(prisoner)} {what}",
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

    private async Task SeoulLogsTheCall(CancellationToken cancel)
    {
        teller.Begin(1, "Seoul logs the call of 17 March: the position on citizenship, and that it will request a transfer");
        foreach (var prisoner in Both)
            await Claim(_seoul, prisoner, "KR", "KR", ClaimBasis.Constitution, "its own claim: its Constitution", "kr-constitution-art-3");
        var account = Account("Asia/Seoul");
        account.Positions.Add(
            new StatedPosition
            {
                Participant = "kr/mfa",
                Subject = Subject.Citizenship,
                Stance = Stance.Asserted,
                Basis = "kr-constitution-art-3",
                Prisoners = { Both },
            }
        );
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
        account.Minutes = Party.Seal("the minister's minutes", "kr/mfa");
        var logged = await teller.Does(
            _seoul,
            "logs the call with ua/mfa",
            p => p.Calls.LogCallAsync(new() { Counterpart = "ua/mfa", Account = account })
        );
        Call = logged.Call;
        teller.CallLogged();
        await teller.Expect("the call is ONE_SIDED until the other side has spoken", CallState.OneSided, () => logged.State);
        await cast.Until(
            "the consular service drafts both requests",
            async () =>
                (await _seoul.Consular.ListTransfersAsync(new() { Case = Case, Call = Call }, cancellationToken: cancel)).Transfers.Count
                == 2,
            cancel
        );
    }

    private async Task TheServicesDraftAndTell(CancellationToken cancel)
    {
        teller.Begin(2, "The consular service drafts a request for each, custody notes it, the call log ties them");
        var drafts = (await _seoul.Consular.ListTransfersAsync(new() { Case = Case, Call = Call }, cancellationToken: cancel)).Transfers;
        foreach (var draft in drafts.OrderBy(d => Called(d.Prisoner)))
        {
            _transfers[draft.Prisoner] = draft.Id;
            teller.Tells("service/consular", $"drafts a transfer request of {Called(draft.Prisoner)} for {draft.Participant}");
        }
        await cast.Until(
            "custody notes the interest",
            async () => (await Task.WhenAll(Both.Select(Interests))).All(noted => noted == 1),
            cancel
        );
        foreach (var prisoner in Both)
            teller.Tells("service/custody", $"notes an interest in {Called(prisoner)}, for kr/mfa's eyes only");
        await cast.Until(
            "the call log ties the drafts",
            async () => (await _seoul.Calls.GetCallAsync(new() { Call = Call })).Call.Commitments.Single().Requests.Count == 2,
            cancel
        );
        teller.Tells("service/calllog", "ties both drafts to the commitment, which is OPEN until they are submitted");
        await teller.Expect("both drafts are DRAFTED", "DRAFTED DRAFTED", () => string.Join(' ', drafts.Select(d => Words.Of(d.State))));
        foreach (var other in new[] { _headquarters, _kyiv, _redCross })
            await teller.Expect(
                $"{other.Id} sees no draft",
                0,
                async () => (await other.Consular.ListTransfersAsync(new() { Case = Case }, cancellationToken: cancel)).Transfers.Count
            );
        await teller.Expect(
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

    private async Task KyivGivesItsOwnReadout()
    {
        teller.Begin(4, "Kyiv gives its own account of the call: what matches, and what differs");
        var account = Account("Europe/Kyiv");
        account.Subjects.Add(Subject.Treatment);
        account.Positions.Add(
            new StatedPosition
            {
                Participant = "kr/mfa",
                Subject = Subject.Citizenship,
                Stance = Stance.Asserted,
                Basis = "kr-constitution-art-3",
                Prisoners = { Both },
            }
        );
        var given = await teller.Does(
            _kyiv,
            "submits its own readout",
            p => p.Calls.SubmitReadoutAsync(new() { Call = Call, Account = account })
        );
        await teller.Expect("the call is MUTUAL", CallState.Mutual, () => given.State);
        var compared = (await _kyiv.Calls.GetCallAsync(new() { Call = Call })).Comparison;
        teller.Compares(compared.Fields.Select(f => ($"{Words.Of(f.Field)}", Words.Of(f.Match))));
        await teller.Expect(
            "what only Seoul said is ONE_SIDE_ONLY",
            Match.OneSideOnly,
            () => compared.Fields.Single(f => f.Field == CodedField.Commitments).Match
        );
    }

    private async Task SeoulSubmitsAndKyivReviews(CancellationToken cancel)
    {
        teller.Begin(5, "Seoul submits both requests and gives its assurance; the detaining power reviews and assesses");
        ulong last = 0;
        foreach (var prisoner in Both)
            last = (
                await teller.Does(
                    _seoul,
                    $"submits the request for {Called(prisoner)}",
                    p =>
                        p.Consular.SubmitTransferRequestAsync(
                            new()
                            {
                                Transfer = _transfers[prisoner],
                                NoteVerbale = $"KR-MFA-2025-{Called(prisoner)}",
                                Content = Party.Seal("the request in words", "kr/mfa", "ua/coordination-hq"),
                            }
                        )
                )
            ).Receipt.Position;
        await cast.Heard("custody", "consular", last, cancel);
        await cast.Heard("calllog", "consular", last, cancel);
        await teller.Expect(
            "the commitment is KEPT",
            CommitmentState.Kept,
            async () => (await _seoul.Calls.GetCallAsync(new() { Call = Call })).Call.Commitments.Single().State
        );
        foreach (var prisoner in Both)
            await teller.Does(
                _seoul,
                $"assures for {Called(prisoner)}: the Convention, and no refoulement",
                p =>
                    p.Consular.GiveAssuranceAsync(
                        new()
                        {
                            Transfer = _transfers[prisoner],
                            NoteVerbale = $"KR-MFA-2025-A-{Called(prisoner)}",
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
        foreach (var prisoner in Both)
        {
            await teller.Does(
                _headquarters,
                $"begins to review the request for {Called(prisoner)}",
                p => p.Consular.BeginReviewAsync(new() { Transfer = _transfers[prisoner] })
            );
            await teller.Does(
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
            await teller.Does(
                _headquarters,
                $"assesses the risk for {Called(prisoner)} at the destination",
                p =>
                    p.Custody.RecordRiskAssessmentAsync(
                        new()
                        {
                            Prisoner = prisoner,
                            Destination = "KR",
                            Finding = RiskFinding.NoSubstantialRisk,
                            AssessTime = Now(),
                            ExpireTime = In(days: 180),
                        }
                    )
            );
            last = (
                await teller.Does(
                    _headquarters,
                    $"records that {Called(prisoner)} is fit to travel",
                    p =>
                        p.Custody.RecordFitnessAsync(
                            new()
                            {
                                Prisoner = prisoner,
                                Fit = true,
                                Physician = "physician-7",
                                ExamineTime = Now(),
                                ExpireTime = In(days: 60),
                            }
                        )
                )
            ).Receipt.Position;
        }
        await cast.Heard("consular", "custody", last, cancel);
    }

    private async Task ANewspaperIsNoStanding()
    {
        teller.Begin(5, "On the newspaper interview alone, nothing moves");
        await teller.Does(
            _headquarters,
            "enters what the newspaper printed as P-1's statement",
            p =>
                p.Custody.RecordStatementAsync(
                    new()
                    {
                        Prisoner = First,
                        StatementTime = On(2025, 2, 19),
                        Language = "ko",
                        LanguageUnderstood = true,
                        Uncoerced = true,
                        WithoutInterpreter = true,
                        AcceptedDestinations = { "KR" },
                        Content = Party.Seal("what the newspaper printed", "ua/coordination-hq", "icrc"),
                    }
                )
        );
        await teller.IsRefused(
            _headquarters,
            "would agree to the transfer of P-1 on it",
            Reason.StandingNotInForce,
            p => Decide(p, _transfers[First])
        );
    }

    private async Task TheRedCrossInterviewsInPrivate()
    {
        teller.Begin(5, "The ICRC speaks with each alone; interviewer, interpreter and observer attest");
        foreach (var prisoner in Both)
        {
            var visit = await teller.Does(
                _redCross,
                $"notifies a visit to {Called(prisoner)} under Article 126",
                p => p.Consular.NotifyVisitAsync(new() { Prisoner = prisoner, PlannedTime = In(days: 1) })
            );
            await teller.Does(
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
            await Statement(prisoner, PlaceKind.Hospital, "KR");
        }
    }

    private async Task Statement(string prisoner, PlaceKind place, params string[] accepted)
    {
        var attendants = new[] { AttesterRole.Interviewer, AttesterRole.Interpreter, AttesterRole.Observer }
            .Select((role, i) => (Role: role, Actor: _redCross.Another(Words.Of(role).ToLowerInvariant(), i + 2)))
            .ToList();
        var now = Now();
        var recorded = await teller.Does(
            _redCross,
            $"records what {Called(prisoner)} said, sealed",
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
                        AcceptedDestinations = { accepted },
                        Interview = new Interview
                        {
                            WithoutWitnesses = true,
                            PlaceKind = place,
                            InterviewTime = now,
                            Attendants =
                            {
                                attendants.Select(a => new Attendant
                                {
                                    Role = a.Role,
                                    Participant = "icrc",
                                    Official = a.Actor.Official,
                                }),
                            },
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
                        },
                        Content = Party.Seal("his words", "icrc"),
                    }
                )
        );
        foreach (var (role, actor) in attendants)
            await teller.Does(
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

    private static Grpc.Core.AsyncUnaryCall<DecideTransferResponse> Decide(Party party, string transfer) =>
        party.Consular.DecideTransferAsync(
            new()
            {
                Transfer = transfer,
                Agreed = true,
                NoteVerbale = "UA-CHQ-2025-11",
            }
        );

    private async Task TheDetainingPowerAgrees(CancellationToken cancel)
    {
        teller.Begin(5, "The detaining power agrees; custody is asked for the standing at every step");
        foreach (var prisoner in Both)
        {
            await teller.Does(
                _headquarters,
                $"agrees to the transfer of {Called(prisoner)}; two officials sign",
                p => Decide(p, _transfers[prisoner])
            );
            await teller.Does(
                _headquarters,
                $"schedules the hand-over of {Called(prisoner)}",
                p =>
                    p.Consular.ScheduleHandoverAsync(
                        new()
                        {
                            Transfer = _transfers[prisoner],
                            WindowStartTime = Now(),
                            WindowEndTime = In(days: 2),
                            HandoverReference = $"HO-{Called(prisoner)}",
                            Place = Party.Seal("the place", "ua/coordination-hq", "kr/mfa", "icrc"),
                        }
                    )
            );
        }
        _setOut = Now();
        ulong last = 0;
        foreach (var prisoner in Both)
            last = (
                await teller.Does(
                    _headquarters,
                    $"records that {Called(prisoner)} sets out",
                    p => p.Consular.BeginTransitAsync(new() { Transfer = _transfers[prisoner] })
                )
            )
                .Receipt
                .Position;
        await cast.Heard("custody", "consular", last, cancel);
    }

    private async Task OneChangesHisMindOnTheWay(CancellationToken cancel)
    {
        teller.Begin(5, "On the way P-2 changes his mind");
        await Statement(Second, PlaceKind.Transit);
        await cast.Until(
            "the transfer of P-2 is suspended",
            async () => (await Seen(_seoul, Second)).State == TransferState.Suspended,
            cancel
        );
        teller.Tells("service/consular", "suspends the transfer of P-2; nobody is told why");
        await teller.IsRefused(_seoul, "would confirm the hand-over of P-2", Reason.StateNotAllowed, p => Confirm(p, Second));
        var aborted = await teller.Does(
            _headquarters,
            "calls off the hand-over of P-2",
            p => p.Consular.AbortHandoverAsync(new() { Transfer = _transfers[Second] })
        );
        await cast.Heard("custody", "consular", aborted.Receipt.Position, cancel);
    }

    private Grpc.Core.AsyncUnaryCall<ConfirmHandoverResponse> Confirm(Party party, string prisoner) =>
        party.Consular.ConfirmHandoverAsync(
            new()
            {
                Transfer = _transfers[prisoner],
                WindowStartTime = _setOut,
                WindowEndTime = Now(),
                HandoverReference = $"HO-{Called(prisoner)}",
            }
        );

    private async Task TheOtherIsHandedOver(CancellationToken cancel)
    {
        teller.Begin(5, "P-1 is handed over; both sides confirm, and custody passes to the accepting power");
        await teller.Does(_headquarters, "confirms the hand-over of P-1", p => Confirm(p, First));
        await teller.Expect("one side's confirmation moves no responsibility", "UA", () => DetainingPowerOf(First));
        await teller.Does(_seoul, "confirms the hand-over of P-1", p => Confirm(p, First));
        await cast.Until(
            "custody has passed",
            async () => await DetainingPowerOf(First) == "KR" && (await Seen(_seoul, First)).State == TransferState.Monitored,
            cancel
        );
        teller.Tells("service/custody", "records that custody of P-1 passed from UA to KR");
        await teller.Expect("custody of P-1 is KR's", "KR", () => DetainingPowerOf(First));
        await teller.Expect(
            "Ukraine stays answerable as the transferring power (12(3))",
            "UA",
            async () => (await _headquarters.Custody.GetPrisonerAsync(new() { Case = Case, Prisoner = First })).Prisoner.TransferringPower
        );
        await teller.Expect("the transfer of P-1 is MONITORED", TransferState.Monitored, async () => (await Seen(_seoul, First)).State);
        await teller.Expect("custody of P-2 is still UA's", "UA", () => DetainingPowerOf(Second));
        await teller.Expect("the transfer of P-2 is SUSPENDED", TransferState.Suspended, async () => (await Seen(_seoul, Second)).State);
    }

    private async Task<string> DetainingPowerOf(string prisoner) =>
        (await _seoul.Custody.GetPrisonerAsync(new() { Case = Case, Prisoner = prisoner })).Prisoner.DetainingPower;

    private async Task<Transfer> Seen(Party party, string prisoner) =>
        (await party.Consular.GetTransferAsync(new() { Transfer = _transfers[prisoner] })).Transfer;

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
