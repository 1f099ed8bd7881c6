using System.Reflection;
using System.Text.RegularExpressions;
using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Ministries.CallLog.V1;
using Ministries.Consular.V1;
using Ministries.Custody;
using Ministries.Custody.V1;
using Ministries.Fixtures;
using Ministries.Types.V1;

namespace Ministries.Ministry.Tests;

/// <summary>The next duties of a record: only duties that a participant owes.</summary>
public sealed partial class DutyTests
{
    private static readonly Timestamp Due = new() { Seconds = 1 };
    private static readonly DateTimeOffset Now = new(2026, 3, 1, 12, 0, 0, TimeSpan.Zero);

    // What each record asks for: of whom, in which words and by when. One for each kind of duty.
    private static readonly Row[] Rows =
    [
        new(Call(CallState.OneSided), "ua/mfa", "give your own account of the call", null),
        new(
            With(Call(CallState.Contested), c => c.Contests.Add(new Contest { Participant = "kr/mfa" })),
            "ua/mfa",
            "answer the contest of kr/mfa",
            null
        ),
        new(Committed(CommitmentKind.RequestTransfer), "kr/mfa", "keep the commitment: request-transfer", In(5)),
        new(Committed(CommitmentKind.ArrangeAccess), "kr/mfa", "keep the commitment: arrange-access", In(5)),
        new(
            Committed(CommitmentKind.GiveInformation, CommitmentState.Overdue),
            "ua/mfa",
            "settle what kr/mfa owes: give-information",
            In(5)
        )
        {
            Duty = CallLog.Duties.Commitment,
        },
        new(
            Held(p =>
                p.Occurrences.Add(
                    new Occurrence
                    {
                        Occurrence_ = 1,
                        Kind = OccurrenceKind.Capture,
                        OwedBy = "UA",
                        DueTime = In(1),
                    }
                )
            ),
            "UA",
            "notify the bureau and the agency: capture",
            In(1)
        )
        {
            Duty = Custody.Duties.Notification,
        },
        new(Held(p => p.HealthDueTime = In(2)), "UA", "report his health", In(2)) { Duty = Custody.Duties.Notification },
        new(
            Held(p => p.Notifications.Add(new Notification { RecordedFor = "UA", ReviewTime = In(30) })),
            "UA",
            "review why his data are withheld",
            In(30)
        )
        {
            Duty = Custody.Duties.DisclosureReview,
        },
        new(
            Held(p =>
                p.Statements.Add(
                    new Statement
                    {
                        Statement_ = "stmt_1",
                        State = StatementState.Recorded,
                        Interview = new Interview
                        {
                            Attendants =
                            {
                                new Attendant { Participant = "icrc", Role = AttesterRole.Observer },
                            },
                        },
                    }
                )
            ),
            "icrc",
            "attest his statement as observer",
            null
        ),
        new(Held(p => p.Proceedings.Add(Proceedings(confined: In(-59)))), "UA", "end his confinement before trial", In(31))
        {
            Duty = Custody.Duties.Confinement,
        },
        new(Held(p => p.Proceedings.Add(Proceedings(trial: In(40)))), "UA", "give notice of his trial three weeks before it opens", In(19))
        {
            Duty = Custody.Duties.TrialNotice,
        },
        // It is too late for a notice, and the trial has not opened.
        new(Held(p => p.Proceedings.Add(Proceedings(trial: In(4)))), "UA", "give notice of his trial three weeks before it opens", In(-17))
        {
            Duty = Custody.Duties.TrialNotice,
        },
        Departing(_ => { }, "hear what he wants, without witnesses", null),
        Departing(p => p.Statements.Add(Word(In(9))), "hear again what he wants, before his word runs out", In(9)) with
        {
            Duty = Custody.Duties.Validity,
        },
        Departing(_ => { }, "have a physician say whether he may travel", null),
        Departing(p => p.Fitness.Add(Fitness(In(8))), "have a physician say again whether he may travel", In(8)) with
        {
            Duty = Custody.Duties.Validity,
        },
        Departing(_ => { }, "assess what awaits him in KR", null),
        Departing(p => p.RiskAssessments.Add(Risk(In(-1))), "assess again what awaits him in KR", In(-1)) with
        {
            Duty = Custody.Duties.Validity,
        },
        new(Transfer(TransferState.Drafted), "kr/mfa", "submit the drafted request, or discard it", null),
        new(Transfer(TransferState.Submitted), "UA", "review the request", null),
        new(Transfer(TransferState.UnderReview), "KR", "give the receiving state's assurance", null),
        new(Transfer(TransferState.UnderReview), "UA", "assess whether the receiving state is willing and able", null),
        new(Transfer(TransferState.UnderReview), "UA", "decide on the request", null),
        new(Transfer(TransferState.Agreed), "UA", "schedule the hand-over", null),
        new(
            Transfer(TransferState.Agreed, t => t.Assurance = new Assurance { ExpireTime = In(7) }),
            "KR",
            "renew the receiving state's assurance",
            In(7)
        )
        {
            Duty = Consular.Duties.AssuranceExpiry,
        },
        new(
            Transfer(TransferState.Scheduled, t => t.Assessment = new TransfereeAssessment { ExpireTime = In(6) }),
            "UA",
            "assess again whether the receiving state is willing and able",
            In(6)
        )
        {
            Duty = Consular.Duties.AssessmentExpiry,
        },
        new(
            Transfer(TransferState.Scheduled, t => t.Plan = new HandoverPlan { WindowStartTime = In(3) }),
            "UA",
            "begin the transit",
            In(3)
        ),
        new(
            Transfer(
                TransferState.InTransit,
                t =>
                {
                    t.Confirmations.Add(new Confirmation { Side = HandoverSide.Taking });
                    t.SecondConfirmationDueTime = In(1);
                }
            ),
            "UA",
            "confirm the hand-over",
            In(1)
        )
        {
            Duty = Consular.Duties.SecondConfirmation,
        },
        new(Transfer(TransferState.InTransit), "KR", "confirm the hand-over", null),
        new(Transfer(TransferState.Suspended), "UA", "resume or decline what is suspended", null),
        new(
            Transfer(TransferState.ReturnRequested, t => (t.ReturningPower, t.ReturnDueTime) = ("KR", In(10))),
            "KR",
            "confirm the return",
            In(10)
        )
        {
            Duty = Consular.Duties.Return,
        },
        new(
            Transfer(TransferState.Monitored, t => t.Failures.Add(new TreatmentFailure { Id = "failure_1", MeasuresDueTime = In(11) })),
            "UA",
            "record measures, or request return",
            In(11)
        )
        {
            Duty = Consular.Duties.Measures,
        },
        new(
            new Access
            {
                Id = "access_1",
                State = AccessState.Requested,
                Participant = "kr/mfa",
                DetainingPower = "UA",
                DecisionDueTime = In(2),
            },
            "UA",
            "decide on the access that kr/mfa asks for",
            In(2)
        )
        {
            Duty = Consular.Duties.DecisionDue,
        },
        new(
            new Access
            {
                Id = "access_1",
                State = AccessState.Granted,
                Kind = AccessKind.ObserverVisit,
                Participant = "icrc",
                PlannedTime = In(3),
            },
            "icrc",
            "record the visit, once it took place",
            In(3)
        ),
        new(
            new PlaceVisit
            {
                Id = "placevisit_1",
                State = PlaceVisitState.Notified,
                Participant = "icrc",
                PlannedTime = In(4),
            },
            "icrc",
            "record the visit of the place, once it took place",
            In(4)
        ),
    ];

    [Fact]
    public void Each_kind_of_duty_is_asked_of_who_owes_it_with_its_time_and_a_verb_that_there_is()
    {
        Assert.All(
            Rows,
            row =>
            {
                var duty = Assert.Single(Duties.Of(row.Records, Now), d => (d.Who, d.What) == (row.Who, row.What));
                Assert.Equal(row.Due?.ToDateTimeOffset(), duty.Due);
                Parses(duty.Command);
            }
        );
        // Every verb that the sources name belongs to one of these rows.
        var sources = string.Concat(
            ((string[])["Duties.cs", "DepartureDuties.cs"]).Select(f =>
                File.ReadAllText(Path.Combine(Documents.Root, "services", "Ministry", f))
            )
        );
        var verbs = Rows.SelectMany(r => Duties.Of(r.Records, Now)).Select(d => d.Command.Split(' ')[1]).ToHashSet();
        Assert.Empty(Verbs().Matches(sources).Select(m => m.Groups["verb"].Value).Distinct().Except(verbs));
    }

    /// <summary>A clock that a service gets needs a row, so that whoever owes something sees it before it is overdue.</summary>
    [Fact]
    public void Each_duty_that_a_service_watches_is_shown()
    {
        var watched = ((System.Type[])[typeof(CallLog.Duties), typeof(Custody.Duties), typeof(Consular.Duties)])
            .SelectMany(t => t.GetFields(BindingFlags.Public | BindingFlags.Static))
            .Where(f => f.IsLiteral)
            .Select(f => (string)f.GetRawConstantValue()!)
            .ToArray();
        Assert.Equal(12, watched.Length);
        Assert.Equal(watched.Order(), Rows.Select(r => r.Duty).OfType<string>().Distinct().Order());
        // The consular service counts with the same times.
        foreach (var row in Rows.Where(r => r.Record is Consular.V1.Transfer && r.Duty is not null))
            Assert.Contains(Consular.Duties.Of((Transfer)row.Record), d => (d.Duty, d.DueTime) == (row.Duty, row.Due));
    }

    [Fact]
    public void What_is_no_longer_owed_of_proceedings_is_not_asked()
    {
        string[] none = [];
        var confined = Proceedings(confined: In(-200));
        Assert.Equal(["end his confinement before trial"], Asked(Held(p => p.Proceedings.Add(confined))));
        Assert.Equal(none, Asked(Held(p => p.Proceedings.Add([confined, With(Proceedings(), e => e.ConfinementEndTime = In(-1))]))));
        Assert.Equal(none, Asked(Held(p => p.Proceedings.Add(With(confined.Clone(), e => e.RecordedFor = "KR")))));
        // The trial was notified in time; or it has opened; or it was recorded as one without notice.
        Assert.Equal(none, Asked(Held(p => p.Proceedings.Add(With(Proceedings(trial: In(10)), e => e.NotifiesTrial = true)))));
        Assert.Equal(none, Asked(Held(p => p.Proceedings.Add(Proceedings(trial: In(-1))))));
        Assert.Equal(none, Asked(Held(p => p.Proceedings.Add(With(Proceedings(trial: In(1)), e => e.Breaches.Add(Invariant.D12))))));
        var passed = Held(p => p.Proceedings.Add([confined, Proceedings(trial: In(40))]));
        (passed.Held, passed.DetainingPower) = (false, "");
        Assert.Equal(none, Asked(passed));
        // A time that is none, as a service that was broken into may answer it.
        Assert.Equal(none, Asked(Held(p => p.Proceedings.Add(Proceedings(confined: new Timestamp { Seconds = long.MaxValue })))));
    }

    [Fact]
    public void A_word_that_lost_its_attestation_is_asked_for_again()
    {
        var word = Word(In(9));
        word.State = StatementState.Recorded;
        Assert.DoesNotContain("hear what he wants, without witnesses", AskedOf(word));
        word.Attestations.Add(new Attestation { Role = AttesterRole.Observer, RevokeTime = In(-1) });
        Assert.Contains("hear what he wants, without witnesses", AskedOf(word));

        static IEnumerable<string> AskedOf(Statement said) =>
            Duties.Of(Departing(p => p.Statements.Add(said), "", null).Records, Now).Select(d => d.What);
    }

    /// <summary>A record names the fields that its reader may not see in full, and these are among them for everybody.</summary>
    [Theory]
    [InlineData("ua/coordination-hq", "UA", ParticipantKind.Ministry, 3)]
    [InlineData("icrc", "", ParticipantKind.NeutralObserver, 2)]
    [InlineData("kr/mfa", "KR", ParticipantKind.Ministry, 0)]
    public void A_departure_asks_of_custody_what_its_reader_may_know(string id, string state, ParticipantKind kind, int asked)
    {
        var participant = new Participant
        {
            Id = id,
            State = state,
            Kind = kind,
        };
        var part = kind == ParticipantKind.NeutralObserver ? Part.NeutralObserver : Part.RequestingState;
        var @case = new Case
        {
            Id = "case_1",
            Parties =
            {
                new CaseParty { Participant = id, Part = part },
            },
        };
        var departing = Departing(p => p.Statuses.Add(new StatusEntry { RecordedFor = "UA" }), "", null);
        var shown = PrisonerVisibility.Show(departing.Records.OfType<Prisoner>().Single(), Cases.ReaderOf(participant, @case));
        Assert.NotEmpty(shown.Withheld);
        Assert.Equal(asked, Duties.Of([shown, .. departing.Records.OfType<Transfer>()], Now).Count(d => d.Record == "pris_1"));
    }

    [Theory]
    [InlineData(TransferState.Monitored, false, "record measures, or request return")]
    [InlineData(TransferState.Closed, false, "record measures, or request return")]
    [InlineData(TransferState.ReturnRequested, true, "confirm the return")]
    [InlineData(TransferState.ReturnRequested, false, "")]
    [InlineData(TransferState.Returned, false, "")]
    public void A_transfer_asks_for_measures_or_return_while_they_are_owed(TransferState state, bool due, string asked)
    {
        var transfer = new Transfer
        {
            Id = "transfer_1",
            State = state,
            DetainingPower = "UA",
            ReturningPower = "KR",
            ReturnDueTime = due ? Due : null,
            ReturnTime = state == TransferState.Returned ? Due : null,
            Failures =
            {
                new TreatmentFailure { Id = "failure_1", MeasuresDueTime = Due },
            },
        };
        Assert.Equal(asked.Length > 0 ? [asked] : (string[])[], Asked(transfer));
    }

    /// <summary>The request was withdrawn after the other side had confirmed it.</summary>
    [Fact]
    public void A_transfer_asks_for_the_second_confirmation_of_a_return_whose_request_was_withdrawn()
    {
        var transfer = new Transfer
        {
            Id = "transfer_1",
            State = TransferState.Monitored,
            DetainingPower = "UA",
            ReturningPower = "KR",
            SecondConfirmationDueTime = Due,
        };
        Assert.Equal(["confirm the return"], Asked(transfer));
    }

    [Theory]
    [InlineData(true), InlineData(false)]
    public void Access_asks_for_a_decision_while_somebody_owes_it(bool due)
    {
        var access = new Access
        {
            Id = "access_1",
            State = AccessState.Requested,
            Participant = "kr/mfa",
            DetainingPower = "UA",
            DecisionDueTime = due ? Due : null,
        };
        Assert.Equal(due ? ["decide on the access that kr/mfa asks for"] : (string[])[], Asked(access));
    }

    private static IEnumerable<string> Asked(IMessage record) => Duties.Of([record], Now).Select(d => d.What);

    private static void Parses(string command)
    {
        string[] words = [.. Words().Matches(command).Select(m => m.Value.Replace("'", "", StringComparison.Ordinal))];
        var root = CommandLine.Create();
        TypedVerb.Prepare(root, words);
        var parsed = root.Parse(words, CommandLine.Parsing);
        Assert.True(parsed.UnmatchedTokens.Count == 0, $"{command}: {string.Join(' ', parsed.UnmatchedTokens)}");
    }

    private static Timestamp In(int days) => (Now + TimeSpan.FromDays(days)).ToTimestamp();

    private static T With<T>(T message, Action<T> change)
    {
        change(message);
        return message;
    }

    private static Call Call(CallState state) =>
        new()
        {
            Id = "call_1",
            State = state,
            Sides =
            {
                new Side { Participant = "kr/mfa" },
                new Side { Participant = "ua/mfa" },
            },
            Readouts = { new Readout { Participant = "kr/mfa" } },
        };

    private static Call Committed(CommitmentKind kind, CommitmentState state = CommitmentState.Open) =>
        With(
            Call(CallState.Mutual),
            c =>
                c.Commitments.Add(
                    new Commitment
                    {
                        Id = "commitment_1",
                        State = state,
                        Terms = new CommitmentTerms
                        {
                            Participant = "kr/mfa",
                            Kind = kind,
                            DueTime = In(5),
                        },
                    }
                )
        );

    private static Prisoner Held(Action<Prisoner> change) =>
        With(
            new Prisoner
            {
                Case = "case_1",
                Prisoner_ = "pris_1",
                DetainingPower = "UA",
                LastDetainingPower = "UA",
                State = CustodyState.Interned,
                Held = true,
                Withheld = { "statements", "interests", "entries" },
            },
            change
        );

    private static Row Departing(Action<Prisoner> change, string what, Timestamp? due) =>
        new(Held(change), "UA", what, due) { Besides = Transfer(TransferState.Agreed) };

    private static Proceedings Proceedings(Timestamp? confined = null, Timestamp? trial = null) =>
        new()
        {
            RecordedFor = "UA",
            Time = In(-60),
            ConfinedSinceTime = confined,
            TrialTime = trial,
        };

    private static Statement Word(Timestamp expires) =>
        new()
        {
            Statement_ = "stmt_1",
            State = StatementState.Attested,
            Interview = new Interview(),
            StatementTime = In(-10),
            ExpireTime = expires,
        };

    private static Fitness Fitness(Timestamp expires) =>
        new()
        {
            Fit = true,
            RecordedFor = "UA",
            ExamineTime = In(-10),
            ExpireTime = expires,
        };

    private static RiskAssessment Risk(Timestamp expires) =>
        new()
        {
            Destination = "KR",
            RecordedFor = "UA",
            AssessTime = In(-10),
            ExpireTime = expires,
        };

    private static Transfer Transfer(TransferState state, Action<Transfer>? change = null) =>
        With(
            new Transfer
            {
                Id = "transfer_1",
                Case = "case_1",
                Prisoner = "pris_1",
                Route = Types.V1.Route.Article12Transfer,
                Destination = "KR",
                State = state,
                Participant = "kr/mfa",
                DetainingPower = "UA",
                AcceptingPower = "KR",
            },
            change ?? (_ => { })
        );

    [GeneratedRegex(@"(?:'[^']*'|[^\s'])+")]
    private static partial Regex Words();

    // A verb of two or more words, alone or behind its service, at the beginning of a text.
    [GeneratedRegex("""\$?"(?:calllog |custody |consular )?(?<verb>(?:[a-z]+-)+[a-z]+)[" ]""")]
    private static partial Regex Verbs();

    // A record, and what it asks for.
    private sealed record Row(IMessage Record, string Who, string What, Timestamp? Due)
    {
        // The constant of the service that watches it; null: none does.
        public string? Duty { get; init; }

        // Another record by which it is owed.
        public IMessage? Besides { get; init; }

        public IMessage[] Records => Besides is null ? [Record] : [Record, Besides];
    }
}
