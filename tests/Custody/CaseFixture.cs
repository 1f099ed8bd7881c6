using System.Security.Cryptography;
using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Ministries.Consular.V1;
using Ministries.Contracts;
using Ministries.Custody.V1;
using Ministries.Errors.V1;
using Ministries.Fixtures;
using Ministries.Trust;
using Ministries.Types.V1;
using NSec.Cryptography;
using CorrectRecordRequest = Ministries.Custody.V1.CorrectRecordRequest;

namespace Ministries.Custody.Tests;

/// <summary>The case of 17 March 2025 as custody sees it, with invented identities: requests that are right unless a test changes
/// them.</summary>
internal sealed class CaseFixture
{
    public const string Hq = "ua/coordination-hq";
    public const string Mfa = "ua/mfa";
    public const string Kr = "kr/mfa";
    public const string Unification = "kr/unification";
    public const string Ru = "ru/mod";
    public const string Icrc = "icrc";
    public const string Swiss = "ch/fdfa";
    public const string SwissJustice = "ch/ejpd";
    public const string Consular = "service/consular";

    // What the service gives for the requests "first" and "second" of this fixture (see Register).
    public const string P = "pris_9pky5cwf7hrcrhd2da90s0etb8";
    public const string Q = "pris_27nzf639hk2tqm8xafrq1fzt4g";

    // Whose wish each secret holds, as those know who can open the statements.
    private readonly List<(string Prisoner, byte[] Secret)> _wishes = [];

    public CaseFixture()
    {
        RuleRunner = new RuleRunner([Cases.Kind, Prisoners.Kind, Statements.Kind, Shares.Kind], Agreement());
        Case = ((OpenCaseResponse)Play(Hq, new OpenCaseRequest { Actor = Actor }, CaseRules.OpenCase).Answer!).Case;
        Admit(Kr, Part.RequestingState);
        Admit(Icrc, Part.NeutralObserver);
    }

    public RuleRunner RuleRunner { get; }

    public string Case { get; }

    public static Actor Actor => Named("o-1");

    public Prisoner Prisoner => PrisonerOf(P);

    /// <summary>Who writes custody for the power that holds him, or held him last.</summary>
    public string Holder =>
        Prisoner.LastDetainingPower switch
        {
            "KR" => Kr,
            "CH" => SwissJustice,
            _ => Hq,
        };

    public Case TheCase => RuleRunner.State(Cases.Kind, Case)!;

    public static Agreement Agreement()
    {
        var agreement = StandardAgreement.Read();
        agreement.States.Add(
            new State
            {
                Code = "CH",
                Name = "Switzerland",
                PartyToGc3 = true,
                Neutral = true,
            }
        );
        agreement.Participants.Add(
            new Participant
            {
                Id = Ru,
                Name = Ru,
                Kind = ParticipantKind.Ministry,
                State = "RU",
                Clearance = Level.Secret,
                Capacities = { Capacity.Custody },
            }
        );
        agreement.Participants.Add(
            new Participant
            {
                Id = SwissJustice,
                Name = SwissJustice,
                Kind = ParticipantKind.Ministry,
                State = "CH",
                Clearance = Level.Secret,
                Capacities = { Capacity.Custody },
            }
        );
        agreement.Participants.Add(
            new Participant
            {
                Id = Swiss,
                Name = Swiss,
                Kind = ParticipantKind.ProtectingPower,
                State = "CH",
                Clearance = Level.Secret,
                Capacities = { Capacity.Custody },
            }
        );
        foreach (var participant in agreement.Participants)
            participant.SigningKeys.Add(
                new SigningKey
                {
                    Id = $"{participant.Id}/requests-1",
                    Use = SigningKeyUse.Requests,
                    PublicKey = ByteString.CopyFrom(KeyOf(participant.Id).PublicKey.Export(KeyBlobFormat.RawPublicKey)),
                }
            );
        return agreement;
    }

    /// <summary>The key of a participant, or of an official of one.</summary>
    public static Key KeyOf(string whose) =>
        Key.Import(SignatureAlgorithm.Ed25519, SHA256.HashData(System.Text.Encoding.UTF8.GetBytes(whose)), KeyBlobFormat.RawPrivateKey);

    public static Actor Named(string official) =>
        new()
        {
            Office = "desk",
            Official = official,
            Authority = "order-7",
        };

    public static Sealed Seal(params string[] recipients) => SealedForm.To(recipients);

    public Timestamp Ago(double hours) => RuleRunner.Now.AddHours(-hours).ToTimestamp();

    public Timestamp In(double hours) => RuleRunner.Now.AddHours(hours).ToTimestamp();

    public Prisoner PrisonerOf(string reference) => RuleRunner.State(Prisoners.Kind, Prisoners.KeyOf(Case, reference))!;

    public Statement StatementOf(string id) => RuleRunner.State(Statements.Kind, id)!;

    public Rules.Reader Reader(string who) => Cases.ReaderOf(RuleRunner.Permissions.Participant(who)!, TheCase);

    public Prisoner Seen(string who, string reference = P) => PrisonerVisibility.Show(PrisonerOf(reference), Reader(who));

    public string Etag(string who, string reference = P) => Secret.OfTests.EtagOf(Seen(who, reference));

    public string CaseEtag(string who) => Secret.OfTests.EtagOf(Cases.Show(TheCase, Reader(who)));

    public string StatementEtag(string who, string id) => Secret.OfTests.EtagOf(StatementVisibility.Show(StatementOf(id), Reader(who)));

    /// <summary>Plays a command and says what came of it.</summary>
    public (Decision Decision, IMessage? Answer) Play<T>(string who, T request, Func<T, RuleContext, Decision> rule)
        where T : IMessage =>
        RuleRunner.Play(
            who,
            request,
            rule,
            request.Descriptor.Name.EndsWith("Request", StringComparison.Ordinal)
                ? $"ministries.custody.v1.CustodyService/{request.Descriptor.Name[..^"Request".Length]}"
                : request.Descriptor.FullName
        );

    public (Decision Decision, IMessage? Answer) Play<T, TResponse>(string who, T request, Rule<T, TResponse> rule)
        where T : class, IMessage<T>, new()
        where TResponse : class, IMessage<TResponse>, new() => Play(who, request, rule.Run);

    public Reason Try<T, TResponse>(string who, T request, Rule<T, TResponse> rule)
        where T : class, IMessage<T>, new()
        where TResponse : class, IMessage<TResponse>, new() => Try(who, request, rule.Run);

    public Decision Do<T, TResponse>(string who, T request, Rule<T, TResponse> rule)
        where T : class, IMessage<T>, new()
        where TResponse : class, IMessage<TResponse>, new() => Do(who, request, rule.Run);

    /// <summary>Plays a command; the reason of its refusal, or unspecified.</summary>
    public Reason Try<T>(string who, T request, Func<T, RuleContext, Decision> rule)
        where T : IMessage => RuleRunner.ReasonOf(Play(who, request, rule).Decision);

    /// <summary>Plays a command that must be accepted.</summary>
    public Decision Do<T>(string who, T request, Func<T, RuleContext, Decision> rule)
        where T : IMessage
    {
        var (decision, _) = Play(who, request, rule);
        Assert.Null(decision.Refusal);
        AssertWellFormed(request);
        return decision;
    }

    // What the rules accept here would have come through the edge.
    private static void AssertWellFormed(IMessage request)
    {
        if (request.Descriptor.FindFieldByName("request_id") is not { } id)
            return;
        id.Accessor.SetValue(request, "00000000-0000-4000-8000-000000000000");
        Assert.Empty(Validation.Check(request));
        id.Accessor.SetValue(request, "");
    }

    public void Admit(string who, Part part) => Do(Hq, AdmitRequest(who, part), CaseRules.AdmitParty);

    public AdmitPartyRequest AdmitRequest(string who, Part part, string by = Hq) =>
        new()
        {
            Actor = Actor,
            Etag = CaseEtag(by),
            Case = Case,
            Participant = who,
            Part = part,
        };

    public RegisterPrisonerRequest RegisterRequest(CustodyState status = CustodyState.Interned, double captured = 1000) =>
        new()
        {
            Actor = Actor,
            Etag = CaseEtag(Hq),
            Case = Case,
            Status = status,
            CaptureTime = Ago(captured),
            Identity = Seal(Icrc),
        };

    /// <summary>Registers a prisoner who was captured this many hours ago.</summary>
    public void Register(string reference = P, CustodyState status = CustodyState.Interned, double captured = 1000)
    {
        var request = RegisterRequest(status, captured);
        AssertWellFormed(request);
        var answer = RuleRunner
            .Play(
                Hq,
                request,
                Prisoners.RegisterPrisoner.Run,
                "ministries.custody.v1.CustodyService/RegisterPrisoner",
                requestId: reference == P ? "first" : "second"
            )
            .Answer;
        Assert.Equal(reference, ((RegisterPrisonerResponse)answer!).Prisoner);
    }

    public RecordStatusRequest StatusRequest(CustodyState status, string? who = null, params Invariant[] acknowledged) =>
        new()
        {
            Actor = Actor,
            Etag = Etag(who ?? Holder),
            Case = Case,
            Prisoner = P,
            Status = status,
            StatusTime = Ago(1),
            Destination = status is CustodyState.Released or CustodyState.Repatriated ? "KR" : "",
            AcknowledgedBreaches = { acknowledged },
            Openings =
            {
                status is CustodyState.Released or CustodyState.Repatriated
                    ? Openings("KR").Concat(Openings("KP")).TakeLast(16).ToArray()
                    : [],
            },
        };

    public RecordStatusRequest DeathOfQ() => new(StatusRequest(CustodyState.Died)) { Prisoner = Q, Etag = Etag(Hq, Q) };

    public void Status(CustodyState status, params Invariant[] acknowledged) =>
        Do(Holder, StatusRequest(status, null, acknowledged), Prisoners.RecordStatus);

    public RecordProceedingsRequest ProceedingsRequest(bool delay = true, string reason = "war-crimes-inquiry") =>
        new()
        {
            Actor = Actor,
            Etag = Etag(Holder),
            Case = Case,
            Prisoner = P,
            Delay = delay,
            Reason = reason,
        };

    /// <summary>The notice of a trial that opens in so many days.</summary>
    public RecordProceedingsRequest TrialRequest(double days) =>
        new(ProceedingsRequest(false, "")) { TrialTime = In(24 * days), Particulars = Seal(Icrc) };

    public RecordClaimRequest ClaimRequest(string who, string claimant, string state) =>
        new()
        {
            Actor = Actor,
            Etag = Etag(who),
            Case = Case,
            Prisoner = P,
            Claimant = claimant,
            StateClaimed = state,
            Basis = state == "KR" ? ClaimBasis.Constitution : ClaimBasis.Nationality,
            Evidence = Seal(Holder),
        };

    /// <summary>The power that holds him records that he depends on a state.</summary>
    public void Origin(string state, ClaimBasis basis = ClaimBasis.ArmedForces)
    {
        var request = ClaimRequest(Holder, Prisoner.LastDetainingPower, state);
        request.Basis = basis;
        Do(Holder, request, Prisoners.RecordClaim);
    }

    public static Interview Interview(params Attendant[] attendants) =>
        new()
        {
            WithoutWitnesses = true,
            PlaceKind = PlaceKind.Internment,
            Attendants = { attendants.Length > 0 ? attendants : Attendants },
            OptionsExplained = { OptionExplained.Home, OptionExplained.RequestingState, OptionExplained.Stay },
            Safeguards = { Safeguard.Voluntary, Safeguard.ReadBack },
        };

    public static Attendant[] Attendants =>
        [
            new()
            {
                Role = AttesterRole.Interviewer,
                Participant = Icrc,
                Official = "i-1",
            },
            new()
            {
                Role = AttesterRole.Interpreter,
                Participant = Icrc,
                Official = "i-2",
            },
            new()
            {
                Role = AttesterRole.Observer,
                Participant = Icrc,
                Official = "i-3",
            },
        ];

    public RecordStatementRequest StatementRequest(string who = Icrc, params string[] destinations)
    {
        var request = new RecordStatementRequest
        {
            Actor = Actor,
            Etag = Etag(who),
            Case = Case,
            Prisoner = P,
            StatementTime = Ago(1),
            Language = "ko",
            LanguageUnderstood = true,
            Uncoerced = true,
            Interpreter = "i-2",
            Interview = Interview(),
            Content = Seal(Holder),
        };
        request.Interview.InterviewTime = Ago(2);
        return Wish(request, destinations);
    }

    /// <summary>What he wants, in the request's commitments.</summary>
    public RecordStatementRequest Wish(RecordStatementRequest request, params string[] destinations)
    {
        var secret = SHA256.HashData(BitConverter.GetBytes(_wishes.Count));
        _wishes.Add((request.Prisoner, secret));
        request.Commitments.Clear();
        request.Commitments.Add(WishCommitments.Make(request.Case, request.Prisoner, destinations, secret));
        return request;
    }

    /// <summary>The openings for a destination that who can open all statements of the case makes; those for a statement that does not
    /// accept it match nothing.</summary>
    public IReadOnlyList<ByteString> Openings(string destination) =>
        [.. _wishes.Where(_ => destination.Length > 0).Select(w => WishCommitments.OpeningOf(Case, w.Prisoner, destination, w.Secret))];

    public string Record(RecordStatementRequest request, string who = Icrc)
    {
        var (decision, answer) = Play(who, request, Statements.RecordStatement);
        Assert.Null(decision.Refusal);
        AssertWellFormed(request);
        return ((RecordStatementResponse)answer!).Statement;
    }

    public AttestStatementRequest AttestRequest(string id, AttesterRole role, string official, string who = Icrc)
    {
        var request = new AttestStatementRequest
        {
            Actor = Named(official),
            Etag = StatementEtag(who, id),
            Case = Case,
            Prisoner = StatementOf(id).Prisoner,
            Statement = id,
            Role = role,
        };
        Sign(request, who);
        return request;
    }

    /// <summary>Signs an attestation as its official, whose key the participant vouches for.</summary>
    public void Sign(AttestStatementRequest request, string who)
    {
        var statement = StatementOf(request.Statement);
        var (official, domain) = (request.Actor.Official, RuleRunner.Permissions.Agreement.TrustDomain);
        using var key = KeyOf($"{who} {official}");
        using var requests = KeyOf(who);
        var owner = RuleRunner.Permissions.Participant(who)!;
        var (from, until) = (RuleRunner.Now.AddDays(-1), RuleRunner.Now.AddDays(30));
        var vouched = Attestations.CertifyKey(domain, owner, requests, official, key.PublicKey, from, until);
        Attestations.Sign(request, StatementDigests.Of(statement, statement.Content.Digest), domain, who, key, vouched);
    }

    public void Attest(string id, params AttesterRole[] roles)
    {
        foreach (var role in roles)
            Do(Icrc, AttestRequest(id, role, $"i-{(int)role}"), Statements.AttestStatement);
    }

    /// <summary>What he says in private, attested by all who must.</summary>
    public string Says(params string[] destinations)
    {
        var id = Record(StatementRequest(Icrc, destinations));
        Attest(id, AttesterRole.Interviewer, AttesterRole.Interpreter, AttesterRole.Observer);
        return id;
    }

    public RevokeAttestationRequest RevokeRequest(string id, AttesterRole role = AttesterRole.Interviewer, string who = Icrc) =>
        new()
        {
            Actor = Actor,
            Etag = StatementEtag(who, id),
            Case = Case,
            Prisoner = StatementOf(id).Prisoner,
            Statement = id,
            Role = role,
            Reason = RevocationReason.InterpretationWrong,
        };

    public RecordRiskAssessmentRequest RiskRequest(string destination = "KR") =>
        new()
        {
            Actor = Actor,
            Etag = Etag(Holder),
            Case = Case,
            Prisoner = P,
            Destination = destination,
            Finding = RiskFinding.NoSubstantialRisk,
            AssessTime = Ago(1),
            ExpireTime = In(24 * 30),
        };

    public RecordFitnessRequest FitnessRequest(bool fit = true) =>
        new()
        {
            Actor = Actor,
            Etag = Etag(Holder),
            Case = Case,
            Prisoner = P,
            Fit = fit,
            Physician = "m-1",
            ExamineTime = Ago(1),
            ExpireTime = In(24 * 7),
        };

    public AnnounceMoveRequest MoveRequest() =>
        new()
        {
            Actor = Actor,
            Etag = Etag(Holder),
            Case = Case,
            Prisoner = P,
            ToldTime = Ago(1),
            PlannedTime = In(24),
            Place = Seal(Icrc),
        };

    /// <summary>Records beginnings and ends of confinement, in days from a time, such as <c>from 0, to 30</c>.</summary>
    public void Confine(DateTimeOffset begun, string told, string reference = P)
    {
        foreach (var one in told.Split(", ", StringSplitOptions.RemoveEmptyEntries))
        {
            var request = new RecordProceedingsRequest(ProceedingsRequest(false, ""))
            {
                Prisoner = reference,
                Etag = Etag(Holder, reference),
            };
            var time = begun.AddDays(double.Parse(one.Split(' ')[1], System.Globalization.CultureInfo.InvariantCulture)).ToTimestamp();
            if (one.StartsWith("from", StringComparison.Ordinal))
                request.ConfinedSinceTime = time;
            else
                request.ConfinementEndTime = time;
            Do(Holder, request, Prisoners.RecordProceedings);
        }
    }

    /// <summary>Records what is due of a prisoner now.</summary>
    public void FallDue(string reference = P) =>
        RuleRunner.Play(
            "service/custody",
            new Timestamp(),
            (_, context) => Duties.FallDue(Prisoners.KeyOf(Case, reference), context),
            "duty"
        );

    /// <summary>The bureau and the agency are told of an occurrence.</summary>
    public void Told(OccurrenceKind kind) =>
        Do(Hq, ReleaseRequest(Prisoner.Occurrences.Last(o => o.Kind == kind).Occurrence_), Prisoners.NotifyBureau);

    public NotifyBureauRequest NotifyRequest(uint occurrence, string who = Hq) =>
        new()
        {
            Actor = Actor,
            Etag = Etag(who),
            Case = Case,
            Prisoner = P,
            Occurrence = occurrence,
            Data = Seal(Icrc),
            Disclosure = Disclosure.Withheld,
            DisclosureReason = "family-at-risk",
            PowersOfOrigin = { "KP" },
            ConsultedObserver = Icrc,
            ReviewTime = In(24 * 30),
        };

    /// <summary>Data that are released to the powers of origin.</summary>
    public NotifyBureauRequest ReleaseRequest(uint occurrence, params string[] powers) =>
        new(NotifyRequest(occurrence))
        {
            Disclosure = Disclosure.Released,
            DisclosureReason = "article-122",
            PowersOfOrigin = { powers },
            ConsultedObserver = "",
            ReviewTime = null,
        };

    public LinkDuplicateRequest LinkRequest(string reference = P, string kept = Q) =>
        new()
        {
            Actor = Actor,
            Etag = Etag(Hq, reference),
            Case = Case,
            Prisoner = reference,
            SameAsPrisoner = kept,
        };

    public ConfirmDuplicateRequest ConfirmRequest(string reference = P, string kept = Q, string who = Icrc) =>
        new()
        {
            Actor = Actor,
            Etag = Etag(who, reference),
            Case = Case,
            Prisoner = reference,
            SameAsPrisoner = kept,
            SameAsEtag = Etag(who, kept),
        };

    /// <summary>The two references are one person, as the detaining power and an observer say.</summary>
    public void Link(string reference = P, string kept = Q)
    {
        Do(Hq, LinkRequest(reference, kept), Prisoners.LinkDuplicate);
        Do(Icrc, ConfirmRequest(reference, kept), Prisoners.ConfirmDuplicate);
    }

    public CorrectRecordRequest CorrectRequest(ulong position, string who = Hq, string reference = P) =>
        new()
        {
            Actor = Actor,
            Etag = Etag(who, reference),
            Case = Case,
            Prisoner = reference,
            Position = position,
            Reason = "mistaken",
        };

    public void Correct(ulong position, string who = Hq) => Do(who, CorrectRequest(position, who), Prisoners.CorrectRecord);

    /// <summary>All that a transfer to the state needs of custody.</summary>
    public void Ready(string destination = "KR")
    {
        Says(destination);
        Do(Hq, RiskRequest(destination), Prisoners.RecordRiskAssessment);
        Do(Hq, FitnessRequest(), Prisoners.RecordFitness);
    }

    public void Begin(string to = "KR", string prisoner = P, string transfer = "transfer_1") =>
        Do(
            Consular,
            new TransitBegun
            {
                Case = Case,
                Transfer = transfer,
                Prisoner = prisoner,
                AcceptingPower = to,
            },
            Reactions.Departed
        );

    public void Abort() =>
        Do(
            Consular,
            new HandoverAborted
            {
                Case = Case,
                Transfer = "transfer_1",
                Prisoner = P,
            },
            Reactions.Aborted
        );

    /// <summary>He comes back to the power that had transferred him.</summary>
    public Decision Return(string from = "KR", string to = "UA", string prisoner = P) =>
        Do(
            Consular,
            new ReturnConfirmed
            {
                Case = Case,
                Prisoner = prisoner,
                Transfer = "transfer_1",
                FromPower = from,
                ToPower = to,
                ReturnTime = Ago(1),
            },
            Reactions.Returned
        );

    /// <summary>The participant makes all notifications that its state owes.</summary>
    public void Notified(string who)
    {
        var state = RuleRunner.Permissions.Participant(who)!.State;
        foreach (var owed in Prisoner.Occurrences.Where(o => o.OwedBy == state && o is { Corrected: false, Notification: "" }).ToArray())
            Do(who, NotifyRequest(owed.Occurrence_, who), Prisoners.NotifyBureau);
    }

    /// <summary>A hand-over for which custody was asked now, with all openings.</summary>
    public HandoverConfirmed Confirmed(Types.V1.Route route = Types.V1.Route.Article12Transfer, string? to = null) =>
        new()
        {
            StandingBasis = StandingFor(to ?? (route == Types.V1.Route.NeutralAccommodation ? "CH" : "KR"), route).Basis,
            Case = Case,
            Transfer = "transfer_1",
            Prisoner = P,
            Route = route,
            FromPower = Prisoner.LastDetainingPower,
            ToPower = to ?? (route == Types.V1.Route.NeutralAccommodation ? "CH" : "KR"),
            HandoverTime = Ago(1),
            DetainingParticipant = Holder == Hq ? Mfa : Holder,
            AcceptingParticipant = route == Types.V1.Route.NeutralAccommodation ? SwissJustice : Kr,
        };

    public Decision HandOver(Types.V1.Route route = Types.V1.Route.Article12Transfer, string? to = null)
    {
        if (TheCase.Parties.All(p => p.Participant != Mfa))
            Admit(Mfa, Part.DetainingPower);
        if (route == Types.V1.Route.NeutralAccommodation)
            Admit(SwissJustice, Part.RequestingState);
        return Do(Consular, Confirmed(route, to), Reactions.HandedOver);
    }

    /// <summary>Ukraine hands over one of the two prisoners, whichever power holds the other one.</summary>
    public Decision HandOverFromUkraine(string prisoner, Types.V1.Route route = Types.V1.Route.Article12Transfer)
    {
        if (TheCase.Parties.All(p => p.Participant != Mfa))
            Admit(Mfa, Part.DetainingPower);
        return Do(
            Consular,
            new HandoverConfirmed(Confirmed(route))
            {
                Prisoner = prisoner,
                FromPower = "UA",
                DetainingParticipant = Mfa,
            },
            Reactions.HandedOver
        );
    }

    public DestinationStanding StandingFor(string destination, Types.V1.Route route = Types.V1.Route.Article12Transfer) =>
        StandingFor([Prisoner, .. Prisoner.Duplicates.Select(PrisonerOf)], destination, route);

    /// <summary>Custody's answer about the person with these records to a participant that has all openings.</summary>
    public DestinationStanding StandingFor(
        IReadOnlyList<Prisoner> records,
        string destination,
        Types.V1.Route route = Types.V1.Route.Article12Transfer
    ) => StandingFor(records, destination, route, Openings(destination));

    /// <summary>Custody's answer about the person with these records to a participant that has these openings.</summary>
    public DestinationStanding StandingFor(
        IReadOnlyList<Prisoner> records,
        string destination,
        Types.V1.Route route,
        IReadOnlyCollection<ByteString> openings
    ) =>
        Standings.Of(
            records,
            Custody.Readiness.SaidBefore(records, PrisonerOf),
            TheCase,
            new Departure(route, destination),
            openings,
            RuleRunner.Now,
            RuleRunner.Permissions,
            Secret.OfTests
        );

    public bool Stands(string destination, Types.V1.Route route = Types.V1.Route.Article12Transfer) =>
        StandingFor(destination, route).Standing == Standing.InForce;

    public CheckReadinessResponse Readiness(string destination = "KR", Route route = Route.Article12Transfer, string reference = P) =>
        Custody.Readiness.Of(
            [PrisonerOf(reference), .. PrisonerOf(reference).Duplicates.Select(PrisonerOf)],
            route,
            destination,
            RuleRunner.Now,
            RuleRunner.Permissions
        );
}
