using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Ministries.CallLog.V1;
using Ministries.Consular.V1;
using Ministries.Contracts;
using Ministries.Custody.V1;
using Ministries.Errors.V1;
using Ministries.Fixtures;
using Ministries.Types.V1;
using CorrectRecordRequest = Ministries.CallLog.V1.CorrectRecordRequest;
using CorrectRecordResponse = Ministries.CallLog.V1.CorrectRecordResponse;

namespace Ministries.CallLog.Tests;

/// <summary>The call of 17 March 2025: a case of two prisoners, opened by Ukraine, to which the Republic of Korea and the ICRC
/// are admitted.</summary>
internal sealed class CaseFixture
{
    public const string Kr = "kr/mfa",
        Ua = "ua/mfa",
        Unification = "kr/unification",
        Headquarters = "ua/coordination-hq",
        Icrc = "icrc";
    public const string First = "pris_00000000000000000000000001",
        Second = "pris_00000000000000000000000002";

    /// <summary>When the call began.</summary>
    public static readonly DateTimeOffset Began = new(2025, 3, 17, 8, 0, 0, TimeSpan.Zero);

    private static readonly string Service = V1.CallLogService.Descriptor.FullName;
    private int _requests;

    public CaseFixture(bool withUnification = true)
    {
        Happen(
            new CaseOpened
            {
                Case = Case,
                DetainingPower = "UA",
                Participant = Headquarters,
            }
        );
        Admit(Ua, Part.DetainingPower, "UA");
        Admit(Kr, Part.RequestingState, "KR");
        Admit(Icrc, Part.NeutralObserver, "");
        if (withUnification)
            Admit(Unification, Part.RequestingState, "KR");
        foreach (var prisoner in (string[])[First, Second])
            Happen(
                new PrisonerRegistered
                {
                    Case = Case,
                    Prisoner = prisoner,
                    DetainingPower = "UA",
                }
            );
    }

    public RuleRunner RuleRunner { get; } = new(CallLogService.Definition.Streams);

    public string Case { get; } = Secret.OfTests.IdOf("test", "test", "case");

    public Call Call(string id) => RuleRunner.State(Calls.Kind, id)!;

    public Call Call(LogCallResponse logged) => Call(logged.Call);

    public Commitment Commitment(LogCallResponse logged) => Call(logged).Commitments[0];

    /// <summary>The call as a participant sees it; null: not at all.</summary>
    public Call? Seen(string participant, string id)
    {
        var reader = RuleRunner.Permissions.Participant(participant)!;
        return Sees(id) ? CallVisibility.Show(Call(id), participant, Sees) : null;

        bool Sees(string call) =>
            RuleRunner.State(Calls.Kind, call) is { } state
            && RuleRunner.State(Cases.Kind, state.Case) is { } @case
            && Cases.MaySee(reader, @case, Calls.Kind.AudienceOf(state));
    }

    public string Etag(string participant, string id) => Seen(participant, id) is { } seen ? Secret.OfTests.EtagOf(seen) : "none";

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

    /// <summary>Another service's event comes in.</summary>
    public Decision Happen(IMessage e)
    {
        var reaction = Reactions.All.Single(r => r.Event == e.Descriptor);
        return RuleRunner.Play($"service/{reaction.Producer}", e, reaction.Decide, e.Descriptor.FullName).Decision;
    }

    public Decision Drafted(LogCallResponse logged, string transfer, string prisoner, string participant = Kr) =>
        Happen(
            new TransferRequestDrafted
            {
                Case = Case,
                Transfer = transfer,
                Prisoner = prisoner,
                Participant = participant,
                Call = logged.Call,
                Commitment = logged.Commitments[0],
            }
        );

    public Decision Submitted(LogCallResponse logged, string transfer, string prisoner, string participant = Kr) =>
        Happen(
            new TransferRequestSubmitted
            {
                Case = Case,
                Transfer = transfer,
                Prisoner = prisoner,
                Participant = participant,
                Call = logged.Call,
                Commitment = logged.Commitments[0],
            }
        );

    public Decision Discarded(LogCallResponse logged, string transfer, string prisoner) =>
        Happen(
            new DraftDiscarded
            {
                Case = Case,
                Transfer = transfer,
                Prisoner = prisoner,
                Call = logged.Call,
                Commitment = logged.Commitments[0],
            }
        );

    /// <summary>The host finds out what is due, as it does from time to time.</summary>
    public Decision Sweep(string call)
    {
        var duty = CallLogService.Definition.Duties.Single();
        return RuleRunner.Play("service/calllog", new Empty(), (_, context) => duty.Record(call, context), "duty").Decision;
    }

    // ---- requests, as the contract wants them ------------------------------------------------------------------------------

    public static Actor Actor =>
        new()
        {
            Office = "consular-department",
            Official = "o-17",
            Authority = "order-12",
        };

    /// <summary>A reason, sealed to its sender, the other side and the observer.</summary>
    public static Sealed Explained(params string[] by) => SealedForm.To(by.Append(Icrc).Distinct());

    /// <summary>The account of the call; both prisoners, the position on citizenship, the commitment to request a transfer.
    /// </summary>
    public static Account Account(Action<Account>? but = null)
    {
        var account = new Account
        {
            StartTime = new ZonedTime { Time = Began.ToTimestamp(), TimeZone = "Asia/Seoul" },
            Channel = Channel.Telephone,
            Attendees =
            {
                new Attendee
                {
                    Participant = Kr,
                    Office = "minister",
                    Official = "kr-1",
                },
                new Attendee { Participant = Ua, Office = "minister" },
            },
            Subjects = { Subject.Citizenship, Subject.Transfer },
            Prisoners = { First, Second },
            Positions =
            {
                new StatedPosition
                {
                    Participant = Kr,
                    Subject = Subject.Citizenship,
                    Stance = Stance.Asserted,
                    Basis = "kr-constitution-art-3",
                    Prisoners = { First, Second },
                },
            },
            Commitments = { Terms() },
        };
        but?.Invoke(account);
        return account;
    }

    public static CommitmentTerms Terms(Action<CommitmentTerms>? but = null)
    {
        var terms = new CommitmentTerms
        {
            Participant = Kr,
            Kind = CommitmentKind.RequestTransfer,
            Prisoners = { First, Second },
            Route = Types.V1.Route.Article12Transfer,
            Destination = "KR",
            DueTime = (Began + TimeSpan.FromDays(14)).ToTimestamp(),
        };
        but?.Invoke(terms);
        return terms;
    }

    public LogCallRequest LogRequest(string by = Kr, Action<LogCallRequest>? but = null)
    {
        var request = new LogCallRequest
        {
            RequestId = Id(),
            Actor = Actor,
            Case = Case,
            Counterpart = by == Kr ? Ua : Kr,
            Account = Account(),
        };
        but?.Invoke(request);
        return request;
    }

    public LogCallResponse Log(string by = Kr, Action<LogCallRequest>? but = null) =>
        (LogCallResponse)Accepted(Try(by, LogRequest(by, but)));

    public SubmitReadoutResponse Submit(string by, string call, Account? account = null) =>
        (SubmitReadoutResponse)Accepted(Try(by, SubmitRequest(by, call, account)));

    public SubmitReadoutRequest SubmitRequest(string by, string call, Account? account = null) =>
        new()
        {
            RequestId = Id(),
            Actor = Actor,
            Etag = Etag(by, call),
            Case = Case,
            Call = call,
            Account = account ?? Account(),
        };

    public AmendReadoutResponse Amend(string by, string call, Account? account = null) =>
        (AmendReadoutResponse)Accepted(Try(by, AmendRequest(by, call, account)));

    public AmendReadoutRequest AmendRequest(string by, string call, Account? account = null) =>
        new()
        {
            RequestId = Id(),
            Actor = Actor,
            Etag = Etag(by, call),
            Case = Case,
            Call = call,
            Account = account ?? Account(),
            Explanation = Explained(by),
        };

    public ContestReadoutResponse Contest(string by, string call, string whose, uint version = 1) =>
        (ContestReadoutResponse)Accepted(Try(by, ContestRequest(by, call, whose, version)));

    public ContestReadoutRequest ContestRequest(string by, string call, string whose, uint version = 1) =>
        new()
        {
            RequestId = Id(),
            Actor = Actor,
            Etag = Etag(by, call),
            Case = Case,
            Call = call,
            Participant = whose,
            Version = version,
            Fields = { CodedField.Positions },
            Explanation = Explained(by, whose),
        };

    public LinkCallsResponse Link(string by, string call, string other) =>
        (LinkCallsResponse)Accepted(Try(by, LinkRequest(by, call, other)));

    public LinkCallsRequest LinkRequest(string by, string call, string other) =>
        new()
        {
            RequestId = Id(),
            Actor = Actor,
            Etag = Etag(by, call),
            Case = Case,
            Call = call,
            SameAsCall = other,
            SameAsEtag = Etag(by, other),
        };

    public SettleCommitmentResponse Settle(
        string by,
        string call,
        string commitment,
        SettlementKind kind = SettlementKind.Kept,
        Action<SettleCommitmentRequest>? but = null
    ) => (SettleCommitmentResponse)Accepted(Try(by, SettleRequest(by, call, commitment, kind, but)));

    public SettleCommitmentRequest SettleRequest(
        string by,
        string call,
        string commitment,
        SettlementKind kind = SettlementKind.Kept,
        Action<SettleCommitmentRequest>? but = null
    )
    {
        var request = new SettleCommitmentRequest
        {
            RequestId = Id(),
            Actor = Actor,
            Etag = Etag(by, call),
            Case = Case,
            Call = call,
            Commitment = commitment,
            Settlement = kind,
        };
        but?.Invoke(request);
        return request;
    }

    public CorrectRecordResponse Correct(string by, string call, ulong position) =>
        (CorrectRecordResponse)Accepted(Try(by, CorrectRequest(by, call, position)));

    public CorrectRecordRequest CorrectRequest(string by, string call, ulong position) =>
        new()
        {
            RequestId = Id(),
            Actor = Actor,
            Etag = Etag(by, call),
            Case = Case,
            Call = call,
            Position = position,
            Explanation = Explained(by),
        };

    /// <summary>Plays a write as a participant. What is played is as the contract declares it.</summary>
    public (Decision Decision, IMessage? Answer) Try(string by, IMessage request)
    {
        Assert.Empty(Validation.Check(request));
        return request switch
        {
            LogCallRequest r => Play(by, r, Calls.LogCall, "LogCall"),
            SubmitReadoutRequest r => Play(by, r, Calls.SubmitReadout, "SubmitReadout"),
            AmendReadoutRequest r => Play(by, r, Calls.AmendReadout, "AmendReadout"),
            ContestReadoutRequest r => Play(by, r, Calls.ContestReadout, "ContestReadout"),
            LinkCallsRequest r => Play(by, r, Calls.LinkCalls, "LinkCalls"),
            SettleCommitmentRequest r => Play(by, r, Calls.SettleCommitment, "SettleCommitment"),
            CorrectRecordRequest r => Play(by, r, Calls.CorrectRecord, "CorrectRecord"),
            _ => throw new ArgumentException(request.Descriptor.FullName),
        };
    }

    /// <summary>Why a write is refused; <see cref="Reason.Unspecified"/>: it is not.</summary>
    public Reason Why(string by, IMessage request) => RuleRunner.ReasonOf(Try(by, request).Decision);

    private (Decision, IMessage?) Play<T, TResponse>(string by, T request, Rule<T, TResponse> rule, string method)
        where T : class, IMessage<T>, new()
        where TResponse : class, IMessage<TResponse>, new() =>
        RuleRunner.Play(
            by,
            request,
            rule.Run,
            $"{Service}/{method}",
            requestId: (string)request.Descriptor.FindFieldByName("request_id").Accessor.GetValue(request)
        );

    private static IMessage Accepted((Decision Decision, IMessage? Answer) played)
    {
        Assert.Equal(Reason.Unspecified, RuleRunner.ReasonOf(played.Decision));
        return played.Answer!;
    }

    public string Id() => $"00000000-0000-4000-8000-{_requests++:000000000000}";
}
