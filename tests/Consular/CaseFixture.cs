using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Ministries.Consular.V1;
using Ministries.Custody.V1;
using Ministries.Errors.V1;
using Ministries.Fixtures;
using Ministries.Trust;
using Ministries.Types.V1;
using Level = Ministries.Types.V1.Level;
using State = Ministries.Consular.V1.TransferState;

namespace Ministries.Consular.Tests;

/// <summary>A case of two prisoners held by Ukraine, to which the Republic of Korea, Russia, Switzerland as Protecting Power, a
/// state that is no party to the Convention, and the ICRC are admitted.</summary>
internal sealed class CaseFixture
{
    public const string Ua = "ua/coordination-hq",
        UaMfa = "ua/mfa",
        Kr = "kr/mfa",
        Ru = "ru/mfa",
        Icrc = "icrc",
        Swiss = "ch/fdfa",
        Xx = "xx/mfa";
    public const string Stranger = "kr/unification";
    public const string First = "pris_00000000000000000000000001",
        Second = "pris_00000000000000000000000002";
    public const string Reference = "HO-17";

    private static readonly string Service = V1.ConsularService.Descriptor.FullName;
    private ulong _custody = 10;
    private int _requests;

    public CaseFixture()
    {
        var agreement = StandardAgreement.Read();
        // A test that is about a reservation lists it.
        foreach (var state in agreement.States)
            state.Reservations.Clear();
        agreement.States.Add(
            new Types.V1.State
            {
                Code = "XX",
                Name = "A state that is no party",
                PartyToAp1 = true,
                PartyToRefugeeConvention = true,
            }
        );
        agreement.States.Add(
            new Types.V1.State
            {
                Code = "CH",
                Name = "Switzerland",
                PartyToGc3 = true,
                PartyToAp1 = true,
                PartyToRefugeeConvention = true,
            }
        );
        Add(Ru, "RU", ParticipantKind.Ministry);
        Add(Xx, "XX", ParticipantKind.Ministry);
        Add(Swiss, "CH", ParticipantKind.ProtectingPower);
        RuleRunner = new RuleRunner(ConsularService.Definition.Streams, agreement) { Keeps = CustodyQuestions.IsKept };
        Happen(
            new CaseOpened
            {
                Case = Case,
                DetainingPower = "UA",
                Participant = Ua,
            }
        );
        Admit(UaMfa, Part.DetainingPower, "UA");
        Admit(Kr, Part.RequestingState, "KR");
        Admit(Ru, Part.RequestingState, "RU");
        Admit(Xx, Part.RequestingState, "XX");
        Admit(Icrc, Part.NeutralObserver, "");
        Admit(Swiss, Part.ProtectingPower, "CH");
        foreach (var prisoner in (string[])[First, Second])
            Happen(
                new PrisonerRegistered
                {
                    Case = Case,
                    Prisoner = prisoner,
                    DetainingPower = "UA",
                }
            );

        void Add(string id, string state, ParticipantKind kind) =>
            agreement.Participants.Add(
                new Participant
                {
                    Id = id,
                    Name = id,
                    Kind = kind,
                    State = state,
                    Clearance = Level.Secret,
                    Capacities = { Capacity.Custody, Capacity.Consular },
                }
            );
    }

    public RuleRunner RuleRunner { get; }

    public string Case { get; } = Secret.OfTests.IdOf("test", "test", "case");

    /// <summary>What custody answers from now on; null: it does not answer.</summary>
    public DepartureCheck? Custody { get; set; } = Answer();

    /// <summary>An answer of custody, with the same standing for a return to Ukraine. Without a position it is as of the end of custody's
    /// ledger at the time when it is asked.</summary>
    public static DepartureCheck Answer(
        string destination = "KR",
        Standing standing = Standing.InForce,
        bool fit = true,
        bool risk = true,
        bool free = true,
        ulong position = 0,
        bool fits = true,
        bool origin = false,
        bool onTheWay = true
    ) =>
        new()
        {
            Standing = new CheckStandingResponse
            {
                Standings =
                {
                    new DestinationStanding
                    {
                        Destination = destination,
                        Standing = standing,
                        Basis = $"basis-{destination}",
                    },
                    new DestinationStanding
                    {
                        Destination = "UA",
                        Standing = standing,
                        Basis = "basis-UA",
                    },
                },
                Position = position,
            },
            Readiness = new CheckReadinessResponse
            {
                FitRecorded = fit,
                RiskAssessed = risk,
                FreeToDepart = free,
                RouteFits = fits,
                DestinationIsOrigin = origin,
                InTransit = onTheWay,
                Position = position,
            },
        };

    /// <summary>An opening; whether it opens anything, custody alone says.</summary>
    public static ByteString Opening { get; } = ByteString.CopyFrom(Enumerable.Repeat((byte)7, 32).ToArray());

    /// <summary>Whether the agreement to a request names an opening where the test names none.</summary>
    public bool Opens { get; set; } = true;

    /// <summary>The number of entries in custody's ledger.</summary>
    public ulong CustodyEnd
    {
        get => _custody;
        set => _custody = value;
    }

    /// <summary>What custody answers where standing is lost.</summary>
    public static DepartureCheck Lost => Answer(standing: Standing.NotInForce);

    public DateTimeOffset Now => RuleRunner.Now;

    public Timestamp In(double hours) => Now.AddHours(hours).ToTimestamp();

    public Transfer Transfer(string id) => RuleRunner.State(Transfers.Kind, id)!;

    public Access Access(string id) => RuleRunner.State(Accesses.Kind, id)!;

    public PlaceVisit? SeenPlaceVisit(string participant, string id) =>
        RuleRunner.State(PlaceVisits.Kind, id) is { } visit && MaySee(participant, PlaceVisits.Kind.AudienceOf(visit))
            ? PlaceVisits.Show(visit, Participant(participant))
            : null;

    public Participant Participant(string id) => RuleRunner.Permissions.Participant(id)!;

    /// <summary>The request as the participant sees it; null: not at all.</summary>
    public Transfer? Seen(string participant, string id) =>
        RuleRunner.State(Transfers.Kind, id) is { } transfer && MaySee(participant, Transfers.Kind.AudienceOf(transfer))
            ? TransferVisibility.Show(transfer, Participant(participant))
            : null;

    public Access? SeenAccess(string participant, string id) =>
        RuleRunner.State(Accesses.Kind, id) is { } access && MaySee(participant, Accesses.Kind.AudienceOf(access))
            ? AccessVisibility.Show(access, Participant(participant))
            : null;

    public bool MaySee(string participant, IReadOnlyCollection<string> audience) =>
        Cases.MaySee(Participant(participant), RuleRunner.State(Cases.Kind, Case)!, audience);

    public string Etag(string participant, string id) =>
        (IMessage?)Seen(participant, id) is { } seen ? Secret.OfTests.EtagOf(seen)
        : SeenAccess(participant, id) is { } access ? Secret.OfTests.EtagOf(access)
        : SeenPlaceVisit(participant, id) is { } visit ? Secret.OfTests.EtagOf(visit)
        : "none";

    /// <summary>Plays a write: fills in the common fields and the etag, and asks custody as the service would.</summary>
    public (Decision Decision, IMessage? Answer) Play<T>(
        string participant,
        T request,
        Func<T, RuleContext, Decision> rule,
        string? etag = null,
        string? requestId = null
    )
        where T : class, IMessage<T>, new()
    {
        var fields = request.Descriptor;
        Set("case", Case);
        Set("etag", etag ?? Etag(participant, Text("transfer") ?? Text("access") ?? Text("place_visit") ?? Text("record") ?? ""));
        fields
            .FindFieldByName("actor")
            ?.Accessor.SetValue(
                request,
                new Actor
                {
                    Office = "o",
                    Official = "official-1",
                    Authority = "a",
                }
            );
        if (Opens && request is DecideTransferRequest { Agreed: true, Openings.Count: 0 } decision)
            decision.Openings.Add(Opening);
        var asked = request switch
        {
            DecideTransferRequest { Agreed: true } or ScheduleHandoverRequest or BeginTransitRequest or ResumeTransferRequest => Asked(),
            ConfirmHandoverRequest r when RuleRunner.State(Transfers.Kind, r.Transfer) is { } t => AskedBy(
                Participant(participant).ActsFor(t.DetainingPower),
                check => Departures.OfAnswer(t, check, RuleRunner.Permissions, Now.ToTimestamp()).Count == 0,
                t.Destination
            ),
            ConfirmReturnRequest r when RuleRunner.State(Transfers.Kind, r.Transfer) is { } t => AskedBy(
                Transfers.Holds(t, RuleRunner.State(Cases.Kind, Case), RuleRunner.State(Dossiers.Links, Case), Participant(participant)),
                check => Departures.OfJourney(check, t.DetainingPower).Count == 0,
                t.DetainingPower
            ),
            _ => null,
        };
        return RuleRunner.Play(participant, request, rule, $"{Service}/{fields.Name[..^"Request".Length]}", asked, requestId);

        string? Text(string name) => fields.FindFieldByName(name)?.Accessor.GetValue(request) as string;
        void Set(string name, string value)
        {
            if (fields.FindFieldByName(name) is { } field && Text(name) is "")
                field.Accessor.SetValue(request, value);
        }
    }

    /// <summary>The rule of CorrectRecord for the kind of record that is named.</summary>
    public static Decision Correct(V1.CorrectRecordRequest request, RuleContext context) =>
        ConsularService.CorrectionOf(request).Run(request, context);

    public (Decision Decision, IMessage? Answer) Play<T, TResponse>(
        string participant,
        T request,
        Rule<T, TResponse> rule,
        string? etag = null
    )
        where T : class, IMessage<T>, new()
        where TResponse : class, IMessage<TResponse>, new() => Play(participant, request, rule.Run, etag);

    public IMessage Do<T, TResponse>(string participant, T request, Rule<T, TResponse> rule)
        where T : class, IMessage<T>, new()
        where TResponse : class, IMessage<TResponse>, new() => Do(participant, request, rule.Run);

    public Reason Try<T, TResponse>(string participant, T request, Rule<T, TResponse> rule, string? etag = null)
        where T : class, IMessage<T>, new()
        where TResponse : class, IMessage<TResponse>, new() => Try(participant, request, rule.Run, etag);

    /// <summary>Plays a write that must be accepted.</summary>
    public IMessage Do<T>(string participant, T request, Func<T, RuleContext, Decision> rule)
        where T : class, IMessage<T>, new()
    {
        var (decision, answer) = Play(participant, request, rule);
        Assert.Equal(Reason.Unspecified, RuleRunner.ReasonOf(decision));
        return answer!;
    }

    /// <summary>Plays a write and says why it was refused; unspecified: it was not.</summary>
    public Reason Try<T>(string participant, T request, Func<T, RuleContext, Decision> rule, string? etag = null)
        where T : class, IMessage<T>, new() => RuleRunner.ReasonOf(Play(participant, request, rule, etag).Decision);

    /// <summary>Another service's event comes in. A repeated <paramref name="eventId"/> is for the ledger, not the
    /// rule.</summary>
    public Decision Happen(IMessage e, string? eventId = null)
    {
        var reaction = Reactions.All.Single(r => r.Event == e.Descriptor);
        eventId ??= $"{reaction.Producer}/{_custody++}/0";
        return RuleRunner
            .Play(
                $"service/{reaction.Producer}",
                e,
                reaction.Decide,
                e.Descriptor.FullName,
                reaction.Ask is null ? null : AskedAbout(e),
                eventId
            )
            .Decision;
    }

    // An event of the whole case is asked about for each of its prisoners.
    private IMessage? AskedAbout(IMessage e) =>
        e is not PartyAdmitted ? Asked()
        : Asked() is not { } check ? null
        : new CaseCheck { Checks = { ((string[])[First, Second]).Select(p => new PrisonerCheck { Prisoner = p, Check = check }) } };

    private DepartureCheck? Asked()
    {
        if (Custody?.Clone() is not { Standing.Position: 0 } check)
            return Custody;
        check.Standing.Position = check.Readiness.Position = _custody;
        return check;
    }

    // Another than who holds him gets one answer for all of it.
    private DepartureCheck? AskedBy(bool holds, Func<DepartureCheck, bool> cleared, string destination) =>
        Asked() is not { } check || holds
            ? Asked()
            : new DepartureCheck
            {
                Clearance = new Clearance
                {
                    Cleared = cleared(check),
                    Position = Departures.PositionOf(check),
                    StandingBasis = Departures.BasisOf(check, destination),
                },
            };

    public void Admit(string participant, Part part, string state) =>
        Happen(
            new PartyAdmitted
            {
                Case = Case,
                Participant = participant,
                Part = part,
                State = state,
            }
        );

    /// <summary>Records what is due now.</summary>
    public Decision FallDue(string transfer) =>
        RuleRunner
            .Play("service/consular", new Empty(), (_, context) => Duties.OfTransfer(transfer, context), "duty", null, $"due-{_requests++}")
            .Decision;

    public Decision AccessFallsDue(string access) =>
        RuleRunner
            .Play("service/consular", new Empty(), (_, context) => Duties.OfAccess(access, context), "duty", null, $"due-{_requests++}")
            .Decision;

    // ------------------------------------------------------------------------------------------------------- requests, filled in

    public string Draft(
        string participant = Kr,
        string prisoner = First,
        Route route = Route.Article12Transfer,
        string destination = "KR",
        string previous = ""
    ) =>
        (
            (DraftTransferRequestResponse)Do(
                participant,
                new DraftTransferRequestRequest
                {
                    Prisoner = prisoner,
                    Route = route,
                    Destination = destination,
                    PreviousTransfer = previous,
                    Content = Sealed("icrc"),
                },
                Transfers.DraftTransferRequest
            )
        ).Transfer;

    public static Sealed Sealed(params string[] recipients) => SealedForm.To(recipients);

    public GiveAssuranceRequest Assurance(string transfer, double hours = 24 * 30) =>
        new()
        {
            Transfer = transfer,
            ExpireTime = In(hours),
            NoteVerbale = "NV-2",
            Undertakings = { Undertaking.ApplyConvention, Undertaking.NonRefoulement, Undertaking.RightToStay },
        };

    public RecordTransfereeAssessmentRequest Assessment(string transfer, bool willing = true, bool able = true, double hours = 24 * 30) =>
        new()
        {
            Transfer = transfer,
            Willing = willing,
            Able = able,
            ExpireTime = In(hours),
            Content = Sealed(UaMfa),
        };

    public ScheduleHandoverRequest Schedule(string transfer) =>
        new()
        {
            Transfer = transfer,
            WindowStartTime = In(1),
            WindowEndTime = In(3),
            HandoverReference = Reference,
            Place = Sealed(Kr),
        };

    public ConfirmHandoverRequest Confirmation(string transfer, params Invariant[] acknowledged) =>
        new()
        {
            Transfer = transfer,
            WindowStartTime = In(-1),
            WindowEndTime = In(0),
            HandoverReference = Reference,
            AcknowledgedBreaches = { acknowledged },
        };

    public ConfirmReturnRequest ReturnConfirmation(string transfer, params Invariant[] acknowledged) =>
        new()
        {
            Transfer = transfer,
            WindowStartTime = In(-1),
            WindowEndTime = In(0),
            HandoverReference = "RET-1",
            AcknowledgedBreaches = { acknowledged },
        };

    public void Report(string transfer, string by = Icrc) =>
        Do(
            by,
            new ReportTreatmentFailureRequest
            {
                Transfer = transfer,
                Articles = { "13" },
                Content = Sealed(Transfer(transfer).DetainingPower == "KR" ? Kr : Ua),
            },
            Transfers.ReportTreatmentFailure
        );

    /// <summary>The prisoner passes on from one power to another, as custody records it.</summary>
    public void Pass(
        string from,
        string to,
        Route route = Route.Article12Transfer,
        bool returned = false,
        string prisoner = First,
        bool ended = false,
        IEnumerable<Invariant>? breaches = null,
        IEnumerable<string>? relieved = null
    ) =>
        Happen(
            new CustodyTransferred
            {
                Case = Case,
                Prisoner = prisoner,
                FromPower = from,
                ToPower = to,
                Route = returned ? Route.Unspecified : route,
                Returned = returned,
                Ended = ended,
                Breaches = { breaches ?? [] },
                RelievedPowers = { relieved ?? Cases.Relieved(InCase(prisoner).FormerPowers, to) },
            }
        );

    private CasePrisoner InCase(string prisoner) => RuleRunner.State(Cases.Kind, Case)!.Prisoners.Single(p => p.Prisoner == prisoner);

    /// <summary>Custody of the prisoner ends, or goes on, as custody records it.</summary>
    public void Change(bool ended, string prisoner = First) =>
        Happen(
            new StatusRecorded
            {
                Case = Case,
                Prisoner = prisoner,
                Held = !ended,
                Ended = ended,
            }
        );

    /// <summary>Links the first reference to the second, which is kept. Returns the link's position in custody's ledger.</summary>
    public ulong Link(string prisoner = First)
    {
        var position = _custody;
        Happen(
            new DuplicateLinked
            {
                Case = Case,
                Prisoner = prisoner,
                SameAsPrisoner = Second,
            }
        );
        Change(ended: true, prisoner);
        return position;
    }

    /// <summary>An observer corrects its confirmation of the link, and he is held under the first reference again.</summary>
    /// <param name="link">The position in custody's ledger.</param>
    /// <param name="answering">The power that answers for him after the whole entry; empty: as before it.</param>
    /// <param name="prisoner">The reference that was linked.</param>
    public void Undo(ulong link, string answering = "", string prisoner = First)
    {
        Happen(
            new Custody.V1.RecordCorrected
            {
                Case = Case,
                Prisoner = prisoner,
                Position = link,
                AnsweringPower = answering,
            }
        );
        Change(ended: false, prisoner);
    }

    /// <summary>Once a link is undone, custody records a hand-over under the other reference.</summary>
    public void PassAnew(string from, string to, Timestamp passed, string answering, bool returned = false, string prisoner = First) =>
        Happen(
            new CustodyTransferred
            {
                Case = Case,
                Prisoner = prisoner,
                FromPower = from,
                ToPower = to,
                Route = returned ? Route.Unspecified : Route.Article12Transfer,
                Returned = returned,
                RelievedPowers = { Cases.Relieved(InCase(prisoner).FormerPowers, to) },
                PassTime = passed,
                AnsweringPower = answering,
            }
        );

    public void Suspend(string transfer) => Do(Ua, new SuspendTransferRequest { Transfer = transfer }, Transfers.SuspendTransfer);

    public Reason TryDecide(string transfer, bool agreed = true) =>
        Try(
            Ua,
            new DecideTransferRequest
            {
                Transfer = transfer,
                Agreed = agreed,
                NoteVerbale = "NV-3",
            },
            Transfers.DecideTransfer
        );

    /// <summary>Brings a request for the prisoner to a state by the ordinary way.</summary>
    public string To(State state, string prisoner = First, Route route = Route.Article12Transfer, State from = State.Agreed)
    {
        var id = Draft(prisoner: prisoner, route: route);
        State[] way =
        [
            State.Drafted,
            State.Submitted,
            State.UnderReview,
            State.Agreed,
            State.Scheduled,
            State.InTransit,
            State.HandedOver,
            State.Monitored,
            State.ReturnRequested,
            State.Returned,
            State.Closed,
        ];
        var end = state switch
        {
            State.Suspended => from,
            State.Withdrawn => State.Submitted,
            State.Declined => State.UnderReview,
            State.Discarded => State.Drafted,
            _ => state,
        };
        for (var i = 0; way[i] != end; i++)
            Step(way[i + 1]);
        switch (state)
        {
            case State.Suspended:
                Suspend(id);
                break;
            case State.Withdrawn:
                Do(Kr, new WithdrawTransferRequestRequest { Transfer = id }, Transfers.WithdrawTransferRequest);
                break;
            case State.Declined:
                Do(Ua, new DecideTransferRequest { Transfer = id, NoteVerbale = "NV-3" }, Transfers.DecideTransfer);
                break;
            case State.Discarded:
                Do(Kr, new DiscardDraftRequest { Transfer = id }, Transfers.DiscardDraft);
                break;
        }
        Assert.Equal(state, Transfer(id).State);
        return id;

        void Step(State next)
        {
            switch (next)
            {
                case State.Submitted:
                    Do(Kr, new SubmitTransferRequestRequest { Transfer = id, NoteVerbale = "NV-1" }, Transfers.SubmitTransferRequest);
                    break;
                case State.UnderReview:
                    Do(Kr, Assurance(id), Transfers.GiveAssurance);
                    Do(Ua, new BeginReviewRequest { Transfer = id }, Transfers.BeginReview);
                    Do(Ua, Assessment(id), Transfers.RecordTransfereeAssessment);
                    break;
                case State.Agreed:
                    Do(
                        Ua,
                        new DecideTransferRequest
                        {
                            Transfer = id,
                            Agreed = true,
                            NoteVerbale = "NV-3",
                        },
                        Transfers.DecideTransfer
                    );
                    break;
                case State.Scheduled:
                    Do(Ua, Schedule(id), Transfers.ScheduleHandover);
                    break;
                case State.InTransit:
                    Do(Ua, new BeginTransitRequest { Transfer = id }, Transfers.BeginTransit);
                    break;
                case State.HandedOver:
                    RuleRunner.Now += TimeSpan.FromHours(4);
                    Do(Ua, Confirmation(id), Transfers.ConfirmHandover);
                    Do(Kr, Confirmation(id), Transfers.ConfirmHandover);
                    break;
                case State.Monitored:
                    if (route.PassesCustody())
                        Pass("UA", "KR", route, prisoner: prisoner);
                    else
                        Happen(new DepartureRecorded { Case = Case, Prisoner = prisoner });
                    break;
                case State.ReturnRequested:
                    Report(id);
                    Do(Ua, new RequestReturnRequest { Transfer = id, NoteVerbale = "NV-4" }, Transfers.RequestReturn);
                    break;
                case State.Returned:
                    RuleRunner.Now += TimeSpan.FromHours(4);
                    Do(Kr, ReturnConfirmation(id), Transfers.ConfirmReturn);
                    Do(Ua, ReturnConfirmation(id), Transfers.ConfirmReturn);
                    Pass("KR", "UA", returned: true, prisoner: prisoner);
                    break;
                case State.Closed:
                    Do(Ua, new CloseTransferRequest { Transfer = id }, Transfers.CloseTransfer);
                    break;
            }
        }
    }
}
