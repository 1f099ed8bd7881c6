using Google.Protobuf;
using Ministries.CallLog.V1;
using Ministries.Consular.V1;
using Ministries.Custody.V1;
using Ministries.Errors.V1;
using Ministries.Fixtures;
using Ministries.Types.V1;
using State = Ministries.Consular.V1.TransferState;

namespace Ministries.Consular.Tests;

/// <summary>Every cause for which a transfer is suspended, and what the state that asked for him may see and find out afterwards: the same
/// (D9, D16, D22).</summary>
public sealed class WatcherTests
{
    private const string ByHand = "the detaining power's own act";

    private static readonly string Call = Secret.OfTests.IdOf("kr/mfa", "request", "call"),
        Commitment = Secret.OfTests.IdOf("kr/mfa", "request", "commitment");

    // What kr/mfa may not tell apart.
    private static readonly Dictionary<string, Func<CaseFixture, string, Decision>> Hidden = new()
    {
        [ByHand] = (s, t) => s.Play(CaseFixture.Ua, new SuspendTransferRequest { Transfer = t }, Transfers.SuspendTransfer).Decision,
        ["a new statement"] = (s, _) => Lose(s, CaseFixture.Lost, new StatementRecorded()),
        ["an attestation that changes his word"] = (s, _) => Lose(s, CaseFixture.Lost, new StatementAttested()),
        ["an attestation revoked"] = (s, _) => Lose(s, CaseFixture.Lost, new AttestationRevoked()),
        ["his word run out"] = (s, _) => Lose(s, CaseFixture.Lost, new Custody.V1.DutyFellDue()),
        ["a corrected record of custody"] = (s, _) => Lose(s, CaseFixture.Lost, new Custody.V1.RecordCorrected()),
        ["unfit"] = (s, _) => Lose(s, CaseFixture.Answer(fit: false), new FitnessRecorded()),
        ["hospital"] = (s, _) => Lose(s, CaseFixture.Answer(fit: false), new StatusRecorded { Held = true }),
        ["escape"] = (s, _) => Lose(s, CaseFixture.Answer(free: false), new StatusRecorded { Held = false }),
        ["risk"] = (s, _) => Lose(s, CaseFixture.Answer(risk: false), new RiskAssessmentRecorded()),
        ["proceedings"] = (s, _) => Lose(s, CaseFixture.Answer(free: false), new StatusRecorded { Held = true }),
        ["another origin"] = (s, _) => Lose(s, CaseFixture.Answer(fits: false), new Custody.V1.RecordCorrected()),
        ["a claim"] = (s, _) => Lose(s, CaseFixture.Lost, new ClaimRecorded()),
        ["a power of origin named"] = (s, _) => Lose(s, CaseFixture.Lost, new BureauNotified()),
        ["a link of references"] = (s, _) =>
            Lose(s, CaseFixture.Lost, new DuplicateLinked { Prisoner = CaseFixture.Second, SameAsPrisoner = CaseFixture.First }),
        ["custody silent"] = (s, _) => Lose(s, null, new FitnessRecorded()),
        ["not willing"] = (s, t) => s.Play(CaseFixture.Ua, s.Assessment(t, willing: false), Transfers.RecordTransfereeAssessment).Decision,
        ["an assessment run out"] = (s, t) =>
        {
            s.RuleRunner.Now += TimeSpan.FromDays(29) - TimeSpan.FromHours(1);
            return s.FallDue(t);
        },
        ["a corrected assessment"] = (s, t) => Correct(s, CaseFixture.Ua, t, "RecordTransfereeAssessment"),
        ["a corrected review"] = (s, t) => Correct(s, CaseFixture.Ua, t, "BeginReview"),
        ["a corrected agreement"] = (s, t) => Correct(s, CaseFixture.Ua, t, "DecideTransfer"),
        ["a corrected plan"] = (s, t) => Correct(s, CaseFixture.Ua, t, "ScheduleHandover"),
    };

    public static TheoryData<State, string> Causes() =>
        [
            .. from state in (State[])[State.Agreed, State.Scheduled, State.InTransit]
            from cause in Hidden.Keys
            where cause != ByHand && (cause != "a corrected plan" || state != State.Agreed)
            select (state, cause),
        ];

    [Theory]
    [MemberData(nameof(Causes))]
    public void A_requesting_state_cannot_tell_why_a_transfer_was_suspended(State from, string cause) =>
        Assert.Equal(After(from, ByHand, Hidden[ByHand]), After(from, cause, Hidden[cause]));

    /// <summary>What kr/mfa did itself, or knows from its own record, differs only in that.</summary>
    [Fact]
    public void What_it_did_itself_differs_only_in_its_own_record()
    {
        foreach (var from in (State[])[State.Agreed, State.Scheduled, State.InTransit])
        {
            var (byHand, transfer) = Suspended(from, Hidden[ByHand]);
            // It gave the assurance, and set its time.
            var (expired, second) = Suspended(
                from,
                (s, t) =>
                {
                    s.RuleRunner.Now += TimeSpan.FromDays(30) - TimeSpan.FromHours(1);
                    return s.FallDue(t);
                }
            );
            var seen = expired.Seen(CaseFixture.Kr, second)!;
            Assert.True(seen.Assurance.Expired);
            seen.Assurance.Expired = false;
            Assert.Equal(byHand.Seen(CaseFixture.Kr, transfer), seen);
            // It corrected what it had said in a call.
            var (unsaid, third) = Suspended(
                from,
                (s, _) =>
                    s.Happen(
                        new CallLog.V1.RecordCorrected
                        {
                            Case = s.Case,
                            Record = Call,
                            Participant = CaseFixture.Kr,
                            Commitments = { Commitment },
                        }
                    )
            );
            Assert.Equal(byHand.Seen(CaseFixture.Kr, transfer), unsaid.Seen(CaseFixture.Kr, third));
            // It corrected its assurance.
            var (corrected, fourth) = Suspended(from, (s, t) => Correct(s, CaseFixture.Kr, t, "GiveAssurance"));
            seen = corrected.Seen(CaseFixture.Kr, fourth)!;
            Assert.True(seen.Assurance.Corrected);
            Assert.Equal(State.Suspended, seen.State);
        }
    }

    /// <summary>That custody ended, every party is told by the case.</summary>
    [Fact]
    public void That_custody_ended_is_told_by_the_case_and_not_by_the_request()
    {
        var (byHand, transfer) = Suspended(State.Scheduled, Hidden[ByHand]);
        var (ended, second) = Suspended(
            State.Scheduled,
            (s, _) => Lose(s, CaseFixture.Answer(free: false), new StatusRecorded { Ended = true })
        );
        Assert.Equal(byHand.Seen(CaseFixture.Kr, transfer), ended.Seen(CaseFixture.Kr, second));
        Assert.NotEqual(SeenCase(byHand), SeenCase(ended));
    }

    [Fact]
    public void What_the_service_copies_or_does_by_itself_on_anothers_event_is_shown_to_no_party()
    {
        _ = Suspended(State.InTransit, Hidden[ByHand]);
        var fixture = new CaseFixture();
        fixture.To(State.InTransit);
        IMessage[] events =
        [
            new PartyAdmitted
            {
                Participant = CaseFixture.Stranger,
                Part = Part.RequestingState,
                State = "KR",
            },
            new PartyRemoved { Participant = CaseFixture.Stranger },
            new PrisonerRegistered { Prisoner = "pris_00000000000000000000000003", DetainingPower = "UA" },
            new StatusRecorded { Held = false },
            new StatusRecorded { Held = true },
            new StatementRecorded(),
            new StatementAttested(),
            new AttestationRevoked(),
            new RiskAssessmentRecorded(),
            new FitnessRecorded(),
            new Custody.V1.RecordCorrected(),
            new Custody.V1.DutyFellDue(),
            new ClaimRecorded(),
            new BureauNotified(),
            new DuplicateLinked { SameAsPrisoner = CaseFixture.First },
            new CustodyTransferred { FromPower = "UA", ToPower = "KR" },
            new DepartureRecorded(),
            new CaseClosed(),
            new CaseReopened(),
        ];
        foreach (var e in events)
            Assert.Empty(Happen(fixture, e).Audience);
        var custody = Reactions.All.Where(r => r.Producer == "custody").Select(r => r.Event).ToHashSet();
        Assert.Equal([CaseOpened.Descriptor], custody.Except(events.Select(e => e.Descriptor)));
    }

    /// <summary>What the power that held him acknowledged as a breach, and what kr/mfa, which confirms last, finds in its own
    /// entry.</summary>
    [Theory]
    [InlineData(Invariant.D2)]
    [InlineData(Invariant.D10)]
    [InlineData(Invariant.D11)]
    [InlineData(Invariant.D12)]
    public void The_taking_side_cannot_tell_from_its_own_entry_what_the_other_side_acknowledged(Invariant breached)
    {
        Assert.Equal(Found(Invariant.D9), Found(breached));

        static string Found(Invariant acknowledged)
        {
            var fixture = new CaseFixture();
            var transfer = fixture.To(State.Suspended, from: State.InTransit);
            fixture.RuleRunner.Now += TimeSpan.FromHours(4);
            fixture.Do(CaseFixture.Ua, fixture.Confirmation(transfer, Invariant.D1, acknowledged), Transfers.ConfirmHandover);
            var (decision, answer) = fixture.Play(CaseFixture.Kr, fixture.Confirmation(transfer, Invariant.D1), Transfers.ConfirmHandover);
            Assert.Contains(acknowledged, fixture.Seen(CaseFixture.Icrc, transfer)!.Breaches);
            return string.Join('\n', decision.Changes.Select(c => c.Event).Append(answer).Select(m => JsonFormatter.Default.Format(m)));
        }
    }

    // What may have happened when a request was suspended: one cause each, or his word with the attestations of three who were there.
    private static readonly Dictionary<string, Func<CaseFixture, string, Decision>> Happened = new(Hidden)
    {
        ["a statement and three attestations"] = (s, _) =>
        {
            var suspended = Lose(s, CaseFixture.Lost, new StatementRecorded());
            for (var i = 0; i < 3; i++)
                Happen(s, new StatementAttested());
            return suspended;
        },
    };

    public static TheoryData<string> Suspending => [.. Happened.Keys.Where(c => c != ByHand)];

    [Theory]
    [MemberData(nameof(Suspending))]
    public async Task A_requesting_state_that_watches_the_covered_ledger_cannot_tell_why(string cause) =>
        Assert.Equal(await Watched(ByHand, covers: true, LaterOf(cause)), await Watched(cause, covers: true, LaterOf(cause)));

    /// <summary>The comparison finds what there is to find.</summary>
    [Fact]
    public async Task Without_cover_the_ledgers_growth_tells_a_statement_from_the_powers_own_act()
    {
        var byHand = await Watched(ByHand, covers: false);
        Assert.Equal(byHand, await Watched("a corrected review", covers: false));
        Assert.NotEqual(byHand, await Watched("a statement and three attestations", covers: false));
    }

    /// <summary>So it does with what is in its own entries.</summary>
    [Fact]
    public async Task With_custodys_answer_in_its_own_entry_it_could_tell_his_word_from_the_powers_own_act()
    {
        var later = LaterOf(ByHand);
        Assert.NotEqual(
            await Watched(ByHand, covers: true, later, keeps: true),
            await Watched("a new statement", covers: true, later, keeps: true)
        );
    }

    // ------------------------------------------------------------------------------------------------------------------- the watch

    // All that kr/mfa sees of the ledger, commit by commit, while it writes itself.
    private static async Task<string> Watched(string cause, bool covers, TimeSpan? later = null, bool keeps = false)
    {
        var before = 0;
        var (fixture, transfer) = Suspended(
            State.Scheduled,
            (s, t) =>
            {
                before = s.RuleRunner.Accepted.Count;
                return Happened[cause](s, t);
            },
            later
        );
        var after = fixture.RuleRunner.Accepted.Count;
        if (covers)
            fixture.RuleRunner.Cover((ulong)before + 8);
        // Custody is covered in any case, and answers again where it was silent.
        fixture.CustodyEnd = 64;
        fixture.Custody ??= CaseFixture.Lost;
        if (keeps)
            fixture.RuleRunner.Keeps = static _ => true;
        Attempt(fixture, transfer);
        var own = new RequestAccessRequest
        {
            Case = fixture.Case,
            Prisoner = CaseFixture.First,
            Actor = new Actor
            {
                Office = "o",
                Official = "official-1",
                Authority = "a",
            },
        };
        // The runner numbers requests. This one has an id of its own, so that it is the same in each run.
        const string Method = "ministries.consular.v1.ConsularService/RequestAccess";
        var (decision, _) = fixture.RuleRunner.Play(CaseFixture.Kr, own, Accesses.RequestAccess.Run, Method, requestId: "own");
        Assert.Equal(Reason.Unspecified, RuleRunner.ReasonOf(decision));
        var reader = Cases.ReaderOf(fixture.Participant(CaseFixture.Kr), fixture.RuleRunner.State(Cases.Kind, fixture.Case)!);
        return await WatchedLedger.Watch("consular", covers, reader, fixture.RuleRunner.Accepted, before..after);
    }

    // It says that he arrived, takes it back and says it again, to read in its own entries what custody answered.
    private static void Attempt(CaseFixture fixture, string transfer)
    {
        for (var i = 0; i < 2; i++)
        {
            Assert.Equal(Reason.Unspecified, Try(fixture.Confirmation(transfer, Invariant.D1), Transfers.ConfirmHandover.Run, $"said-{i}"));
            var position = fixture.Transfer(transfer).Confirmations.Single().Position;
            var correct = new V1.CorrectRecordRequest { Record = transfer, Position = position };
            Assert.Equal(Reason.Unspecified, Try(correct, CaseFixture.Correct, $"taken-back-{i}"));
        }

        // The runner numbers requests. These have ids of their own, so that they are the same in each run.
        Reason Try<T>(T request, Func<T, RuleContext, Decision> rule, string id)
            where T : class, IMessage<T>, new() => RuleRunner.ReasonOf(fixture.Play(CaseFixture.Kr, request, rule, requestId: id).Decision);
    }

    // All that kr/mfa sees and is answered, in words.
    private static string After(State from, string cause, Func<CaseFixture, string, Decision> suspend)
    {
        var (fixture, transfer) = Suspended(from, suspend);
        var found = new List<string> { SeenBy(fixture, transfer), SeenCase(fixture) };
        // A list is of what matches the filters, by keys that are of the record as each reader sees it.
        found.AddRange(Transfers.Kind.KeysOf(fixture.Transfer(transfer)).Where(k => k.StartsWith("state:", StringComparison.Ordinal)));
        found.Add(fixture.Etag(CaseFixture.Kr, transfer));
        Try("access", new RequestAccessRequest { Prisoner = CaseFixture.First }, Accesses.RequestAccess);
        Try(
            "draft",
            new DraftTransferRequestRequest
            {
                Prisoner = CaseFixture.First,
                Route = Route.Release,
                Destination = "KR",
            },
            Transfers.DraftTransferRequest
        );
        Try("confirm", fixture.Confirmation(transfer), Transfers.ConfirmHandover);
        Try("schedule", fixture.Schedule(transfer), Transfers.ScheduleHandover);
        Try("resume", new ResumeTransferRequest { Transfer = transfer }, Transfers.ResumeTransfer);
        Try("decide", new DecideTransferRequest { Transfer = transfer, Agreed = true }, Transfers.DecideTransfer);
        Try("assure", fixture.Assurance(transfer), Transfers.GiveAssurance);
        Try("fact", fixture.Confirmation(transfer, Invariant.D1), Transfers.ConfirmHandover);
        var position = fixture.Transfer(transfer).Confirmations.Single().Position;
        var correct = new V1.CorrectRecordRequest { Record = transfer, Position = position };
        found.Add($"correct {fixture.Try(CaseFixture.Kr, correct, CaseFixture.Correct)}");
        Try("withdraw", new WithdrawTransferRequestRequest { Transfer = transfer }, Transfers.WithdrawTransferRequest);
        if (from == State.InTransit)
        {
            Assert.Equal(State.Suspended, fixture.Transfer(transfer).State);
            fixture.Do(CaseFixture.Ua, new AbortHandoverRequest { Transfer = transfer }, Transfers.AbortHandover);
            found.Add(SeenBy(fixture, transfer));
            Try("withdraw", new WithdrawTransferRequestRequest { Transfer = transfer }, Transfers.WithdrawTransferRequest);
        }
        found.Add(SeenBy(fixture, transfer));
        return string.Join('\n', found);

        void Try<T, TResponse>(string name, T request, Rule<T, TResponse> rule)
            where T : class, IMessage<T>, new()
            where TResponse : class, IMessage<TResponse>, new()
        {
            var (decision, answer) = fixture.Play(CaseFixture.Kr, request, rule);
            // The ids of new records are of the runner's own requests.
            var state = answer?.Descriptor.FindFieldByName("state").Accessor.GetValue(answer);
            found.Add($"{name} {RuleRunner.ReasonOf(decision)} {JsonOf(decision.Refusal?.Metadata)} {state}");
        }
    }

    private static string JsonOf(IReadOnlyDictionary<string, string>? metadata) =>
        string.Join(',', metadata?.Select(m => $"{m.Key}={m.Value}") ?? []);

    // The request as kr/mfa sees it. The position of an entry is one of the ledger's and no count of what is hidden from it: in each run
    // as much was recorded.
    private static string SeenBy(CaseFixture fixture, string transfer) =>
        JsonFormatter.Default.Format(fixture.Seen(CaseFixture.Kr, transfer)!);

    private static string SeenCase(CaseFixture fixture)
    {
        var @case = fixture.RuleRunner.State(Cases.Kind, fixture.Case)!;
        return JsonFormatter.Default.Format(Cases.Show(@case, Cases.ReaderOf(fixture.Participant(CaseFixture.Kr), @case)));
    }

    // A request that was suspended by one entry, at the same time in every run, which kr/mfa is not shown.
    private static (CaseFixture Fixture, string Transfer) Suspended(
        State from,
        Func<CaseFixture, string, Decision> suspend,
        TimeSpan? later = null
    )
    {
        var fixture = new CaseFixture();
        var transfer = fixture
            .Happen(
                new CallLogged
                {
                    Case = fixture.Case,
                    Call = Call,
                    Participant = CaseFixture.Kr,
                    TransferCommitments =
                    {
                        new TransferCommitment
                        {
                            Commitment = Commitment,
                            Participant = CaseFixture.Kr,
                            Prisoners = { CaseFixture.First },
                            Route = Route.Article12Transfer,
                            Destination = "KR",
                        },
                    },
                },
                "calllog/5/0"
            )
            .Changes.Select(c => ((TransferRequestDrafted)c.Event).Transfer)
            .Single();
        fixture.Do(CaseFixture.Kr, new SubmitTransferRequestRequest { Transfer = transfer }, Transfers.SubmitTransferRequest);
        fixture.Do(CaseFixture.Kr, fixture.Assurance(transfer, 24 * 30), Transfers.GiveAssurance);
        fixture.Do(CaseFixture.Ua, new BeginReviewRequest { Transfer = transfer }, Transfers.BeginReview);
        fixture.Do(CaseFixture.Ua, fixture.Assessment(transfer, hours: 24 * 29), Transfers.RecordTransfereeAssessment);
        Assert.Equal(Reason.Unspecified, fixture.TryDecide(transfer));
        if (from is State.Scheduled or State.InTransit)
            fixture.Do(CaseFixture.Ua, fixture.Schedule(transfer), Transfers.ScheduleHandover);
        if (from == State.InTransit)
            fixture.Do(CaseFixture.Ua, new BeginTransitRequest { Transfer = transfer }, Transfers.BeginTransit);
        fixture.RuleRunner.Now += TimeSpan.FromHours(1);
        var begun = fixture.Now;
        var decision = suspend(fixture, transfer);
        Assert.Equal((State.Suspended, from), (fixture.Transfer(transfer).State, fixture.Transfer(transfer).SuspendedFrom));
        var own = decision.Changes.Any(c => c.Event is V1.RecordCorrected { Participant: CaseFixture.Kr });
        Assert.True(own || !fixture.MaySee(CaseFixture.Kr, [.. decision.Audience]));
        fixture.RuleRunner.Now = begun + (later ?? RunOut);
        return (fixture, transfer);
    }

    // When the assessment has run out, in every run.
    private static readonly TimeSpan RunOut = TimeSpan.FromDays(29);

    // While all that he needs would be there, but for the cause, so that custody's answer is another one after each.
    private static TimeSpan LaterOf(string cause) => cause == "an assessment run out" ? RunOut : TimeSpan.FromHours(1);

    private static Decision Lose(CaseFixture fixture, DepartureCheck? answer, IMessage e)
    {
        fixture.Custody = answer;
        return Happen(fixture, e);
    }

    private static Decision Happen(CaseFixture fixture, IMessage e)
    {
        foreach (var (name, value) in (ReadOnlySpan<(string, string)>)[("case", fixture.Case), ("prisoner", CaseFixture.First)])
            if (e.Descriptor.FindFieldByName(name) is { } field && (string)field.Accessor.GetValue(e) is "")
                field.Accessor.SetValue(e, value);
        return fixture.Happen(e);
    }

    private static Decision Correct(CaseFixture fixture, string participant, string transfer, string method) =>
        fixture
            .Play(
                participant,
                new V1.CorrectRecordRequest
                {
                    Record = transfer,
                    Position = fixture.Transfer(transfer).Acts.Last(a => a.Method == method).Position,
                },
                CaseFixture.Correct
            )
            .Decision;
}
