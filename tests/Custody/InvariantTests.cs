using Google.Protobuf.WellKnownTypes;
using Ministries.Consular.V1;
using Ministries.Custody.V1;
using Ministries.Errors.V1;
using Ministries.Fixtures;
using Ministries.Types.V1;
using CorrectRecordRequest = Ministries.Custody.V1.CorrectRecordRequest;
using DutyFellDue = Ministries.Custody.V1.DutyFellDue;
using Route = Ministries.Types.V1.Route;

namespace Ministries.Custody.Tests;

/// <summary>Each invariant that custody enforces, from both sides.</summary>
public class InvariantTests
{
    private readonly CaseFixture _fixture = new();

    public static TheoryData<Route> Routes => [.. System.Enum.GetValues<Route>().Except([Route.Unspecified])];

    public InvariantTests() => _fixture.Register();

    private static readonly Invariant[] Departures = [Invariant.D2, Invariant.D9, Invariant.D10, Invariant.D11, Invariant.D12];

    private void Next(double hours = 1) => _fixture.RuleRunner.Now = _fixture.RuleRunner.Now.AddHours(hours);

    // --- D1, D4: one detaining power; it alone writes; it changes when both confirmed.

    [Fact]
    public void D1_the_detaining_power_is_the_state_that_opened_the_case()
    {
        Assert.Equal("UA", _fixture.TheCase.DetainingPower);
        Assert.Equal("UA", _fixture.Prisoner.DetainingPower);
        Assert.Equal(
            Reason.NotGranted,
            _fixture.Try(
                CaseFixture.Kr,
                new RegisterPrisonerRequest(_fixture.RegisterRequest()) { Etag = _fixture.CaseEtag(CaseFixture.Kr) },
                Prisoners.RegisterPrisoner
            )
        );
        Assert.Equal(
            Reason.NotFound,
            _fixture.Try(CaseFixture.Icrc, new OpenCaseRequest { Actor = CaseFixture.Actor }, CaseRules.OpenCase)
        );
    }

    [Fact]
    public void D1_custody_passes_when_both_sides_confirmed_and_the_accepting_power_writes_from_then_on()
    {
        _fixture.Ready();
        Assert.Equal(
            Reason.NotGranted,
            _fixture.Try(CaseFixture.Kr, _fixture.StatusRequest(CustodyState.Hospitalised, CaseFixture.Kr), Prisoners.RecordStatus)
        );
        _fixture.Begin();
        var passed = _fixture.HandOver();
        var moved = Assert.IsType<CustodyTransferred>(passed.Changes.Single().Event);
        Assert.Empty(moved.Breaches);
        Assert.Equal(
            ("KR", "UA", CustodyState.Interned),
            (_fixture.Prisoner.DetainingPower, _fixture.Prisoner.TransferringPower, _fixture.Prisoner.State)
        );
        Assert.Equal("KR", _fixture.TheCase.Prisoners[0].DetainingPower);
        Assert.Equal(
            Reason.NotGranted,
            _fixture.Try(CaseFixture.Hq, _fixture.StatusRequest(CustodyState.Hospitalised), Prisoners.RecordStatus)
        );
        Assert.Equal(
            Reason.Unspecified,
            _fixture.Try(CaseFixture.Kr, _fixture.StatusRequest(CustodyState.Hospitalised, CaseFixture.Kr), Prisoners.RecordStatus)
        );
    }

    [Theory]
    [InlineData("RU", CaseFixture.Ru, "KR", CaseFixture.Kr)]
    [InlineData("UA", CaseFixture.Kr, "KR", CaseFixture.Kr)]
    [InlineData("UA", CaseFixture.Mfa, "KR", CaseFixture.Mfa)]
    [InlineData("UA", CaseFixture.Mfa, "KR", "")]
    [InlineData("UA", CaseFixture.Mfa, "UA", CaseFixture.Hq)]
    [InlineData("UA", CaseFixture.Mfa, "RU", CaseFixture.Ru)]
    public void D1_custody_does_not_pass_without_the_confirmation_of_both(string from, string detaining, string to, string accepting)
    {
        _fixture.Admit(CaseFixture.Mfa, Part.DetainingPower);
        var confirmed = new HandoverConfirmed(_fixture.Confirmed())
        {
            FromPower = from,
            ToPower = to,
            DetainingParticipant = detaining,
            AcceptingParticipant = accepting,
        };
        Assert.Equal(Reason.NotConfirmedByDetainingPower, _fixture.Try(CaseFixture.Consular, confirmed, Reactions.HandedOver));
        Assert.Equal("UA", _fixture.Prisoner.DetainingPower);
    }

    /// <summary>A participant acts for its state at the time of its confirmation. A later version of the agreement does not change
    /// that.</summary>
    [Theory]
    [InlineData(CaseFixture.Mfa)]
    [InlineData(CaseFixture.Kr)]
    public void D1_a_change_of_the_agreement_does_not_undo_what_a_side_confirmed_before(string removed)
    {
        _fixture.Admit(CaseFixture.Mfa, Part.DetainingPower);
        var agreement = CaseFixture.Agreement();
        agreement.Participants.Remove(agreement.Participants.Single(p => p.Id == removed));
        _fixture.RuleRunner.Permissions = new(agreement);
        _fixture.Do(CaseFixture.Consular, _fixture.Confirmed(), Reactions.HandedOver);
        Assert.Equal(("KR", "KR"), (_fixture.Prisoner.DetainingPower, _fixture.TheCase.Prisoners[0].DetainingPower));
    }

    [Fact]
    public void D1_a_hand_over_is_not_recorded_twice()
    {
        _fixture.Ready();
        _fixture.HandOver();
        Assert.Equal(Reason.NotConfirmedByDetainingPower, _fixture.Try(CaseFixture.Consular, _fixture.Confirmed(), Reactions.HandedOver));
    }

    [Fact]
    public void D1_a_return_gives_custody_back()
    {
        _fixture.Ready();
        _fixture.HandOver();
        var returned = new ReturnConfirmed
        {
            Case = _fixture.Case,
            Prisoner = CaseFixture.P,
            Transfer = "transfer_1",
            FromPower = "KR",
            ToPower = "UA",
            ReturnTime = _fixture.Ago(1),
        };
        _fixture.Do(CaseFixture.Consular, returned, Reactions.Returned);
        Assert.Equal(("UA", ""), (_fixture.Prisoner.DetainingPower, _fixture.Prisoner.TransferringPower));
        Assert.Equal(("UA", ""), (_fixture.TheCase.Prisoners[0].DetainingPower, _fixture.TheCase.Prisoners[0].TransferringPower));
        Assert.Equal(Reason.NotConfirmedByDetainingPower, _fixture.Try(CaseFixture.Consular, returned, Reactions.Returned));
    }

    /// <summary>Both powers owe notice of a return, as of every transfer (GC III 122).</summary>
    [Fact]
    public void D14_the_power_that_gave_him_back_notifies_what_it_owes_and_nothing_else()
    {
        _fixture.Ready();
        _fixture.HandOver();
        _fixture.Return();
        var owed = _fixture.Seen(CaseFixture.Kr).Occurrences;
        Assert.Equal(2, owed.Count);
        foreach (var occurrence in owed)
        {
            var request = _fixture.NotifyRequest(occurrence.Occurrence_, CaseFixture.Kr);
            Assert.Equal(Reason.Unspecified, _fixture.Try(CaseFixture.Kr, request, Prisoners.NotifyBureau));
        }
        Assert.DoesNotContain(_fixture.Prisoner.Occurrences, o => o.OwedBy == "KR" && o.Notification.Length == 0);
        var others = _fixture.Prisoner.Occurrences.First(o => o.OwedBy == "UA").Occurrence_;
        foreach (var occurrence in (uint[])[0, others])
            Assert.Equal(
                Reason.OccurrenceNotOwed,
                _fixture.Try(CaseFixture.Kr, _fixture.NotifyRequest(occurrence, CaseFixture.Kr), Prisoners.NotifyBureau)
            );
    }

    [Fact]
    public void D1_there_is_no_detaining_power_after_a_successful_escape_and_one_again_after_recapture()
    {
        _fixture.Status(CustodyState.Escaped);
        Assert.Equal(("UA", false), (_fixture.Prisoner.DetainingPower, _fixture.Prisoner.Ended));
        var succeeded = _fixture.StatusRequest(CustodyState.Escaped);
        succeeded.EscapeSucceeded = true;
        Assert.Empty(((StatusRecorded)_fixture.Do(CaseFixture.Hq, succeeded, Prisoners.RecordStatus).Changes[0].Event).Breaches);
        Assert.Equal(("", true), (_fixture.Prisoner.DetainingPower, _fixture.Prisoner.Ended));
        Assert.Equal("", _fixture.TheCase.Prisoners[0].DetainingPower);
        _fixture.Status(CustodyState.Recaptured);
        Assert.Equal(("UA", true), (_fixture.TheCase.Prisoners[0].DetainingPower, _fixture.Prisoner.Held));
    }

    /// <summary>Whether a power of origin is a party to the Convention, and whether he goes home to it without a breach of D2.</summary>
    [Theory]
    [InlineData(CustodyState.Repatriated, true)]
    [InlineData(CustodyState.Repatriated, false)]
    [InlineData(CustodyState.Released, true)]
    [InlineData(CustodyState.Released, false)]
    public void D2_nobody_is_sent_to_a_state_that_is_no_party_to_the_convention(CustodyState status, bool party)
    {
        var agreement = _fixture.RuleRunner.Permissions.Agreement.Clone();
        agreement.States.Single(s => s.Code == "KR").PartyToGc3 = party;
        _fixture.RuleRunner.Permissions = new Permissions(agreement);
        _fixture.Origin("KR");
        _fixture.Ready();
        Assert.Equal(
            party ? Reason.Unspecified : Reason.ReceivingStateNotParty,
            _fixture.Try(CaseFixture.Hq, _fixture.StatusRequest(status), Prisoners.RecordStatus)
        );
        if (!party)
            _fixture.Status(status, Invariant.D2);
        Assert.Equal(party ? [] : (Invariant[])[Invariant.D2], _fixture.Prisoner.Statuses[^1].Breaches);
    }

    /// <summary>The power that holds the prisoner corrects his identity, whichever power registered him.</summary>
    [Fact]
    public void D4_after_a_transfer_identity_and_age_are_corrected_by_the_power_that_holds_him_too()
    {
        var position = _fixture.Prisoner.Statuses[0].Position;
        Assert.Equal(Reason.NotCorrectable, Correct(CaseFixture.Kr));
        _fixture.Ready();
        _fixture.HandOver();
        Assert.Contains(_fixture.Seen(CaseFixture.Kr).Entries, e => e.Position == position);
        Assert.Equal(Reason.Unspecified, Correct(CaseFixture.Kr));
        Assert.Equal((true, CaseFixture.Kr), (_fixture.Prisoner.Under18, _fixture.Prisoner.IdentityParticipant));
        Assert.Equal(Reason.Unspecified, Correct(CaseFixture.Hq));
        Assert.Equal(Reason.NotCorrectable, Correct(CaseFixture.Icrc));

        Reason Correct(string who) =>
            _fixture.Try(
                who,
                new CorrectRecordRequest(_fixture.CorrectRequest(position, who))
                {
                    Identity = CaseFixture.Seal(CaseFixture.Icrc),
                    Under18 = true,
                },
                Prisoners.CorrectRecord
            );
    }

    [Theory]
    [InlineData(CaseFixture.Kr)]
    [InlineData(CaseFixture.Icrc)]
    public void D4_only_the_detaining_power_writes_custody(string who)
    {
        Assert.Equal(Reason.NotGranted, _fixture.Try(who, _fixture.StatusRequest(CustodyState.Hospitalised, who), Prisoners.RecordStatus));
        Assert.Equal(
            Reason.NotGranted,
            _fixture.Try(who, new RecordFitnessRequest(_fixture.FitnessRequest()) { Etag = _fixture.Etag(who) }, Prisoners.RecordFitness)
        );
        Assert.Equal(
            Reason.NotGranted,
            _fixture.Try(
                who,
                new RecordRiskAssessmentRequest(_fixture.RiskRequest()) { Etag = _fixture.Etag(who) },
                Prisoners.RecordRiskAssessment
            )
        );
        Assert.Equal(
            Reason.NotGranted,
            _fixture.Try(who, new NotifyBureauRequest(_fixture.NotifyRequest(1)) { Etag = _fixture.Etag(who) }, Prisoners.NotifyBureau)
        );
        Assert.Equal(CustodyState.Interned, _fixture.Prisoner.State);
    }

    [Fact]
    public void D4_the_transit_ends_where_it_began()
    {
        _fixture.Status(CustodyState.Hospitalised);
        _fixture.Begin();
        Assert.Equal(CustodyState.InTransit, _fixture.Prisoner.State);
        _fixture.Abort();
        Assert.Equal(CustodyState.Hospitalised, _fixture.Prisoner.State);
    }

    // --- D5: claims are many-valued.

    [Fact]
    public void D5_claims_stand_side_by_side()
    {
        _fixture.Do(CaseFixture.Kr, _fixture.ClaimRequest(CaseFixture.Kr, "KR", "KR"), Prisoners.RecordClaim);
        _fixture.Do(CaseFixture.Hq, _fixture.ClaimRequest(CaseFixture.Hq, "KP", "KP"), Prisoners.RecordClaim);
        _fixture.Do(CaseFixture.Hq, _fixture.ClaimRequest(CaseFixture.Hq, "RU", "RU"), Prisoners.RecordClaim);
        _fixture.Do(CaseFixture.Kr, _fixture.ClaimRequest(CaseFixture.Kr, "KR", "KR"), Prisoners.RecordClaim);
        Assert.Equal(["KR", "KP", "RU", "KR"], _fixture.Prisoner.Claims.Select(c => c.Claimant));
        Assert.Equal(4, _fixture.Prisoner.Claims.Select(c => c.Claim_).Distinct().Count());
    }

    [Fact]
    public void D5_a_requesting_state_records_its_own_claim_only() =>
        Assert.Equal(
            Reason.ClaimNotOwn,
            _fixture.Try(CaseFixture.Kr, _fixture.ClaimRequest(CaseFixture.Kr, "KP", "KP"), Prisoners.RecordClaim)
        );

    // --- D6, D7: whose statement it is, and how that is known.

    public static TheoryData<string, Reason> Statements67 =>
        new()
        {
            { "as it should be", Reason.Unspecified },
            { "no interview", Reason.Unspecified },
            { "in the future", Reason.TimeOutOfRange },
            { "before his capture", Reason.TimeOutOfRange },
            { "before the interview", Reason.TimeOutOfRange },
            { "coerced", Reason.StatementNotOwn },
            { "not understood", Reason.StatementNotOwn },
            { "no interpreter", Reason.InterpreterMissing },
            { "none needed, one named", Reason.InterpreterMissing },
            { "none needed", Reason.Unspecified },
            { "interpreter not there", Reason.InterviewIncomplete },
            { "witnesses", Reason.InterviewIncomplete },
            { "no interviewer", Reason.InterviewIncomplete },
            { "one official in two roles", Reason.InterviewIncomplete },
            { "one option", Reason.InterviewIncomplete },
            { "no safeguards", Reason.InterviewIncomplete },
            { "unknown attendant", Reason.ParticipantUnknown },
            { "the detaining power present", Reason.WitnessOfAParty },
            { "the requesting state present", Reason.WitnessOfAParty },
            { "no observer", Reason.ObserverMissing },
            { "under 18, no guardian", Reason.GuardianMissing },
            { "under 18, a guardian", Reason.Unspecified },
        };

    [Theory, MemberData(nameof(Statements67))]
    public void D6_D7_a_statement_is_his_own_and_its_interview_complete(string what, Reason expected)
    {
        var request = _fixture.StatementRequest(CaseFixture.Icrc, "KR");
        var attendants = request.Interview.Attendants;
        switch (what)
        {
            case "as it should be":
                break;
            case "no interview":
                request.Interview = null;
                break;
            case "in the future":
                request.StatementTime = _fixture.In(1);
                break;
            case "before his capture":
                (request.StatementTime, request.Interview.InterviewTime) = (_fixture.Ago(2000), _fixture.Ago(2001));
                break;
            case "before the interview":
                request.Interview.InterviewTime = _fixture.Ago(0.5);
                break;
            case "coerced":
                request.Uncoerced = false;
                break;
            case "not understood":
                request.LanguageUnderstood = false;
                break;
            case "no interpreter":
                request.Interpreter = "";
                break;
            case "none needed, one named":
                request.WithoutInterpreter = true;
                break;
            case "none needed":
                (request.Interpreter, request.WithoutInterpreter) = ("", true);
                attendants.RemoveAt(1);
                break;
            case "interpreter not there":
                attendants.RemoveAt(1);
                break;
            case "witnesses":
                request.Interview.WithoutWitnesses = false;
                break;
            case "no interviewer":
                attendants.RemoveAt(0);
                break;
            case "one official in two roles":
                attendants[2].Official = "i-1";
                break;
            case "one option":
                request.Interview.OptionsExplained.Clear();
                request.Interview.OptionsExplained.Add(OptionExplained.Home);
                break;
            case "no safeguards":
                request.Interview.Safeguards.Clear();
                break;
            case "unknown attendant":
                attendants[0].Participant = "xx/mfa";
                break;
            case "the detaining power present":
                attendants[1].Participant = CaseFixture.Mfa;
                break;
            case "the requesting state present":
                attendants[0].Participant = CaseFixture.Unification;
                break;
            case "no observer":
                attendants.RemoveAt(2);
                break;
            case "under 18, no guardian":
                request.Under18 = true;
                break;
            case "under 18, a guardian":
                request.Under18 = true;
                attendants.Add(
                    new Attendant
                    {
                        Role = AttesterRole.Guardian,
                        Participant = CaseFixture.Icrc,
                        Official = "i-4",
                    }
                );
                break;
        }
        Assert.Equal(expected, _fixture.Try(CaseFixture.Icrc, request, Statements.RecordStatement));
        Assert.Equal(expected == Reason.Unspecified ? 1 : 0, _fixture.Prisoner.Statements.Count);
    }

    [Fact]
    public void D7_a_statement_counts_when_everyone_demanded_has_attested_and_not_before()
    {
        var id = _fixture.Record(_fixture.StatementRequest(CaseFixture.Icrc, "KR"));
        Assert.False(_fixture.Stands("KR"));
        _fixture.Attest(id, AttesterRole.Interviewer);
        Assert.False(_fixture.Stands("KR"));
        _fixture.Attest(id, AttesterRole.Observer);
        Assert.False(_fixture.Stands("KR"));
        _fixture.Attest(id, AttesterRole.Interpreter);
        Assert.True(_fixture.Stands("KR"));
        Assert.Equal([AttesterRole.Interviewer, AttesterRole.Interpreter, AttesterRole.Observer], _fixture.StandingFor("KR").AttestedBy);
    }

    [Fact]
    public void D7_a_neutral_observer_is_among_them_whatever_the_agreement_demands()
    {
        var agreement = _fixture.RuleRunner.Permissions.Agreement.Clone();
        agreement.AttestersDemanded.Clear();
        agreement.AttestersDemanded.Add(AttesterRole.Interviewer);
        _fixture.RuleRunner.Permissions = new Permissions(agreement);
        var id = _fixture.Record(_fixture.StatementRequest(CaseFixture.Icrc, "KR"));
        _fixture.Attest(id, AttesterRole.Interviewer);
        Assert.False(_fixture.Stands("KR"));
        _fixture.Attest(id, AttesterRole.Observer);
        Assert.True(_fixture.Stands("KR"));
    }

    [Fact]
    public void D7_one_under_18_needs_his_guardians_attestation()
    {
        var request = _fixture.StatementRequest(CaseFixture.Icrc, "KR");
        request.Under18 = true;
        request.Interview.Attendants.Add(
            new Attendant
            {
                Role = AttesterRole.Guardian,
                Participant = CaseFixture.Icrc,
                Official = "i-4",
            }
        );
        var id = _fixture.Record(request);
        _fixture.Attest(id, AttesterRole.Interviewer, AttesterRole.Interpreter, AttesterRole.Observer);
        Assert.False(_fixture.Stands("KR"));
        _fixture.Attest(id, AttesterRole.Guardian);
        Assert.True(_fixture.Stands("KR"));
    }

    [Fact]
    public void D7_only_who_was_there_attests_and_once()
    {
        var id = _fixture.Record(_fixture.StatementRequest(CaseFixture.Icrc, "KR"));
        Assert.Equal(
            Reason.NotPresent,
            _fixture.Try(CaseFixture.Icrc, _fixture.AttestRequest(id, AttesterRole.Observer, "i-9"), Statements.AttestStatement)
        );
        Assert.Equal(
            Reason.NotPresent,
            _fixture.Try(CaseFixture.Icrc, _fixture.AttestRequest(id, AttesterRole.Guardian, "i-1"), Statements.AttestStatement)
        );
        _fixture.Attest(id, AttesterRole.Observer);
        Assert.Equal(
            Reason.AlreadyExists,
            _fixture.Try(CaseFixture.Icrc, _fixture.AttestRequest(id, AttesterRole.Observer, "i-3"), Statements.AttestStatement)
        );
        Assert.Equal(
            Reason.NotGranted,
            _fixture.Try(
                CaseFixture.Hq,
                _fixture.AttestRequest(id, AttesterRole.Observer, "i-3", CaseFixture.Hq),
                Statements.AttestStatement
            )
        );
        // A requesting state does not see the statement, and is told what it would be told if there were none.
        Assert.Equal(
            Reason.NotFound,
            _fixture.Try(
                CaseFixture.Kr,
                _fixture.AttestRequest(id, AttesterRole.Observer, "i-3", CaseFixture.Kr),
                Statements.AttestStatement
            )
        );
    }

    [Fact]
    public void D7_what_was_said_outside_a_private_interview_is_not_attested()
    {
        var request = _fixture.StatementRequest(CaseFixture.Hq, "KR");
        request.Interview = null;
        var id = _fixture.Record(request, CaseFixture.Hq);
        Assert.Equal(
            Reason.NotPrivate,
            _fixture.Try(CaseFixture.Icrc, _fixture.AttestRequest(id, AttesterRole.Observer, "i-3"), Statements.AttestStatement)
        );
        Assert.False(_fixture.Stands("KR"));
    }

    [Fact]
    public void D7_an_attestation_is_revoked_by_who_gave_it_and_can_be_given_again()
    {
        var id = _fixture.Says("KR");
        Assert.Equal(
            Reason.AttestationNotGiven,
            _fixture.Try(CaseFixture.Icrc, _fixture.RevokeRequest(id, AttesterRole.Guardian), Statements.RevokeAttestation)
        );
        _fixture.Do(CaseFixture.Icrc, _fixture.RevokeRequest(id), Statements.RevokeAttestation);
        Assert.False(_fixture.Stands("KR"));
        _fixture.Attest(id, AttesterRole.Interviewer);
        Assert.True(_fixture.Stands("KR"));
    }

    // --- D8, D9: standing.

    [Theory]
    [InlineData("KR")]
    [InlineData("KP")]
    [InlineData("CH")]
    [InlineData("UA")]
    public void D8_a_statement_counts_in_every_direction(string destination)
    {
        _fixture.Says(destination);
        Assert.True(_fixture.Stands(destination));
        Assert.All(((string[])["KR", "KP", "CH", "UA", "RU"]).Except([destination]), other => Assert.False(_fixture.Stands(other)));
    }

    [Theory, MemberData(nameof(Routes))]
    public void D9_silence_is_no_consent_on_any_route(Route route) => Assert.False(_fixture.Stands("KP", route));

    [Theory, MemberData(nameof(Routes))]
    public void D9_an_objection_stands_against_every_route_even_before_it_is_attested(Route route)
    {
        _fixture.Record(_fixture.StatementRequest(CaseFixture.Icrc, "KR"));
        Assert.False(_fixture.Stands("KP", route));
        Next();
        _fixture.Record(_fixture.StatementRequest());
        Assert.False(_fixture.Stands("KP", route));
        Assert.False(_fixture.Stands("KR", route));
    }

    [Theory, MemberData(nameof(Routes))]
    public void D9_what_he_accepts_has_standing_on_every_route(Route route)
    {
        _fixture.Says("KR");
        Assert.True(_fixture.Stands("KR", route));
    }

    [Fact]
    public void D9_an_unknown_route_or_destination_has_no_standing()
    {
        _fixture.Says("KR");
        Assert.False(_fixture.Stands("KR", Route.Unspecified));
        Assert.False(_fixture.Stands(""));
    }

    [Fact]
    public void D9_a_release_where_he_is_held_is_no_departure()
    {
        _fixture.Says("KR");
        Assert.True(_fixture.Stands("UA", Route.Release));
        Assert.False(_fixture.Stands("UA", Route.Repatriation));
    }

    [Fact]
    public void D9_never_given_changed_withdrawn_and_stale_look_the_same()
    {
        var never = Never();
        var id = _fixture.Says("KR");
        Assert.NotEqual(never, _fixture.StandingFor("KR"));
        _fixture.Do(CaseFixture.Icrc, _fixture.RevokeRequest(id, AttesterRole.Observer), Statements.RevokeAttestation);
        Assert.Equal(Never(), _fixture.StandingFor("KR"));
        _fixture.Attest(id, AttesterRole.Observer);
        Next(24 * 90);
        Assert.Equal(Never(), _fixture.StandingFor("KR"));
        _fixture.Says("KR");
        Assert.Equal(Standing.InForce, _fixture.StandingFor("KR").Standing);
        Next();
        _fixture.Says("KP");
        Assert.Equal(Never(), _fixture.StandingFor("KR"));

        // What is answered of one who said nothing at the same time.
        DestinationStanding Never()
        {
            var silent = new InvariantTests();
            silent._fixture.RuleRunner.Now = _fixture.RuleRunner.Now;
            return silent._fixture.StandingFor("KR");
        }
    }

    [Fact]
    public void D9_the_latest_said_counts_not_the_latest_recorded()
    {
        _fixture.Says("KR");
        var late = _fixture.StatementRequest(CaseFixture.Icrc, "KP");
        (late.StatementTime, late.Interview.InterviewTime) = (_fixture.Ago(10), _fixture.Ago(11));
        _fixture.Record(late);
        Assert.True(_fixture.Stands("KR"));
    }

    [Theory]
    [InlineData(0.0, true)]
    [InlineData(24 * 90 - 2, true)]
    [InlineData(24 * 90 - 1, false)]
    public void D9_a_statement_stands_as_long_as_the_agreement_says(double hours, bool stands)
    {
        _fixture.Says("KR");
        Next(hours);
        Assert.Equal(stands, _fixture.Stands("KR"));
    }

    // --- D9 to D12 at a departure that the detaining power records itself, and at a hand-over.

    [Fact]
    public void D9_to_D12_a_departure_that_lacks_something_is_refused_by_name()
    {
        Assert.Equal(Reason.DepartureWithoutAssurance, Depart());
        _fixture.Origin("KP");
        Assert.Equal(Reason.DepartureWithoutStanding, Depart());
        _fixture.Says("KR");
        Assert.Equal(Reason.DepartureWithoutStanding, Depart());
        Next();
        _fixture.Says("KP");
        Assert.Equal(Reason.DepartureWithoutFitness, Depart());
        _fixture.Do(CaseFixture.Hq, _fixture.FitnessRequest(), Prisoners.RecordFitness);
        Assert.Equal(Reason.DepartureWithoutRiskAssessment, Depart());
        _fixture.Do(CaseFixture.Hq, _fixture.RiskRequest("KP"), Prisoners.RecordRiskAssessment);
        _fixture.Do(CaseFixture.Hq, _fixture.ProceedingsRequest(), Prisoners.RecordProceedings);
        Assert.Equal(Reason.DepartureDuringProceedings, Depart());
        _fixture.Do(CaseFixture.Hq, _fixture.ProceedingsRequest(false, ""), Prisoners.RecordProceedings);
        Assert.Equal(Reason.Unspecified, Depart());
        Assert.Empty(_fixture.Prisoner.Statuses[^1].Breaches);

        Reason Depart()
        {
            var request = _fixture.StatusRequest(CustodyState.Repatriated);
            request.Destination = "KP";
            return _fixture.Try(CaseFixture.Hq, request, Prisoners.RecordStatus);
        }
    }

    [Fact]
    public void D9_to_D12_a_departure_that_took_place_all_the_same_is_recorded_marked_and_announced_to_the_observers()
    {
        _fixture.Says("KP");
        var recorded = _fixture.Do(
            CaseFixture.Hq,
            _fixture.StatusRequest(CustodyState.Repatriated, CaseFixture.Hq, Departures),
            Prisoners.RecordStatus
        );
        Assert.Equal([Invariant.D2, Invariant.D9, Invariant.D10, Invariant.D11], ((StatusRecorded)recorded.Changes[0].Event).Breaches);
        Assert.Contains(recorded.Audience, _fixture.Reader(CaseFixture.Icrc).Tokens.Contains);
    }

    [Fact]
    public void D9_a_hand_over_is_judged_in_the_commit_that_records_it()
    {
        _fixture.Ready();
        _fixture.Begin();
        Next();
        _fixture.Says("UA");
        var passed = _fixture.HandOver();
        Assert.Equal([Invariant.D9], ((CustodyTransferred)passed.Changes[0].Event).Breaches);
        Assert.Equal("KR", _fixture.Prisoner.DetainingPower);
        Assert.Contains(passed.Audience, _fixture.Reader(CaseFixture.Icrc).Tokens.Contains);
        Assert.DoesNotContain(passed.Audience, _fixture.Reader(CaseFixture.Kr).Tokens.Contains);
    }

    [Theory]
    [InlineData(Route.Release, CustodyState.Released, OccurrenceKind.Release)]
    [InlineData(Route.Repatriation, CustodyState.Repatriated, OccurrenceKind.Repatriation)]
    [InlineData(Route.Exchange, CustodyState.Repatriated, OccurrenceKind.Repatriation)]
    public void D1_a_release_a_repatriation_and_an_exchange_end_custody(Route route, CustodyState state, OccurrenceKind occurrence)
    {
        _fixture.Origin("KR");
        _fixture.Ready();
        var left = _fixture.HandOver(route);
        Assert.Empty(Assert.IsType<DepartureRecorded>(left.Changes[0].Event).Breaches);
        Assert.Equal(
            (state, "", "UA", false),
            (_fixture.Prisoner.State, _fixture.Prisoner.DetainingPower, _fixture.Prisoner.LastDetainingPower, _fixture.Prisoner.Held)
        );
        Assert.Equal("", _fixture.TheCase.Prisoners[0].DetainingPower);
        Assert.Contains(_fixture.Prisoner.Occurrences, o => o.Kind == occurrence && o.OwedBy == "UA");
    }

    [Fact]
    public void D1_in_a_neutral_country_the_neutral_power_answers_for_him()
    {
        _fixture.Ready("CH");
        var passed = Assert.IsType<CustodyTransferred>(_fixture.HandOver(Route.NeutralAccommodation).Changes[0].Event);
        Assert.Empty(passed.Breaches);
        Assert.Equal(
            (CustodyState.AccommodatedInNeutralCountry, "CH", true, false),
            (_fixture.Prisoner.State, _fixture.Prisoner.DetainingPower, _fixture.Prisoner.Held, _fixture.Prisoner.Ended)
        );
        Assert.Contains(_fixture.Prisoner.Occurrences, o => o.Kind == OccurrenceKind.NeutralAccommodation && o.OwedBy == "UA");
        Assert.Equal(
            Reason.NotGranted,
            _fixture.Try(CaseFixture.Hq, _fixture.StatusRequest(CustodyState.Hospitalised, CaseFixture.Hq), Prisoners.RecordStatus)
        );
        _fixture.Status(CustodyState.Hospitalised);
        _fixture.Status(CustodyState.AccommodatedInNeutralCountry);
        Assert.Equal("CH", _fixture.TheCase.Prisoners[0].DetainingPower);
    }

    [Fact]
    public void D1_nobody_comes_to_a_neutral_country_by_the_record_of_one_power()
    {
        _fixture.Status(CustodyState.Hospitalised);
        Assert.Equal(
            Reason.StateNotAllowed,
            _fixture.Try(CaseFixture.Hq, _fixture.StatusRequest(CustodyState.AccommodatedInNeutralCountry), Prisoners.RecordStatus)
        );
    }

    [Fact]
    public void D1_who_holds_somebody_manages_the_case_and_nobody_else()
    {
        _fixture.Ready();
        _fixture.HandOver();
        Assert.Equal(Reason.NotGranted, _fixture.Try(CaseFixture.Hq, Admission(CaseFixture.Hq), CaseRules.AdmitParty));
        Assert.Equal(Reason.Unspecified, _fixture.Try(CaseFixture.Kr, Admission(CaseFixture.Kr), CaseRules.AdmitParty));

        AdmitPartyRequest Admission(string by) => _fixture.AdmitRequest(CaseFixture.Unification, Part.DetainingPower, by);
    }

    [Fact]
    public void D1_two_powers_that_hold_somebody_both_manage_the_case()
    {
        _fixture.Register(CaseFixture.Q);
        _fixture.Ready();
        _fixture.HandOver();
        Assert.All(
            (string[])[CaseFixture.Hq, CaseFixture.Kr],
            by => Assert.Contains(Part.DetainingPower, Cases.PartsOf(_fixture.RuleRunner.Permissions.Participant(by)!, _fixture.TheCase))
        );
    }

    [Fact]
    public void D3_each_power_of_a_chain_keeps_its_part_until_he_is_back()
    {
        _fixture.HandOver();
        _fixture.Do(
            CaseFixture.Kr,
            _fixture.AdmitRequest(CaseFixture.SwissJustice, Part.RequestingState, CaseFixture.Kr),
            CaseRules.AdmitParty
        );
        _fixture.Do(
            CaseFixture.Consular,
            new HandoverConfirmed(_fixture.Confirmed(to: "CH")) { AcceptingParticipant = CaseFixture.SwissJustice },
            Reactions.HandedOver
        );
        Assert.Equal(["UA", "KR"], _fixture.TheCase.Prisoners[0].FormerPowers);
        Assert.Equal(["UA", "KR"], _fixture.Prisoner.FormerPowers);
        Assert.All(
            (string[])[CaseFixture.Hq, CaseFixture.Kr],
            who =>
                Assert.Contains(
                    Part.TransferringPower,
                    Cases.PartsOf(_fixture.RuleRunner.Permissions.Participant(who)!, _fixture.TheCase, CaseFixture.P)
                )
        );
        _fixture.Return("CH");
        Assert.Equal(("UA", ""), (_fixture.Prisoner.DetainingPower, _fixture.Prisoner.TransferringPower));
        Assert.Empty(_fixture.TheCase.Prisoners[0].FormerPowers);
        // Neither power answers for its transfer any more, and the other services are told.
        Assert.Equal(["UA", "KR"], _fixture.RuleRunner.Events.OfType<CustodyTransferred>().Last().RelievedPowers);
    }

    [Fact]
    public void D1_a_power_that_was_removed_in_the_middle_of_its_hand_over_has_taken_him_all_the_same()
    {
        _fixture.Ready();
        _fixture.Do(
            CaseFixture.Hq,
            new RemovePartyRequest
            {
                Actor = CaseFixture.Actor,
                Etag = _fixture.CaseEtag(CaseFixture.Hq),
                Case = _fixture.Case,
                Participant = CaseFixture.Kr,
            },
            CaseRules.RemoveParty
        );
        _fixture.HandOver();
        Assert.Equal(("KR", CustodyState.Interned), (_fixture.Prisoner.DetainingPower, _fixture.Prisoner.State));
    }

    [Fact]
    public void D3_the_return_of_one_who_was_free_is_a_fact_and_marked()
    {
        _fixture.Ready();
        _fixture.HandOver();
        _fixture.Do(CaseFixture.Kr, _fixture.StatusRequest(CustodyState.Released), Prisoners.RecordStatus);
        Assert.True(_fixture.Prisoner.Ended);
        var recorded = _fixture.Return();
        Assert.Contains(Invariant.D1, ((CustodyTransferred)recorded.Changes[0].Event).Breaches);
        Assert.Contains(recorded.Audience, _fixture.Reader(CaseFixture.Icrc).Tokens.Contains);
        Assert.DoesNotContain(recorded.Audience, _fixture.Reader(CaseFixture.Hq).Tokens.Contains);
    }

    [Fact]
    public void D10_fitness_ends_with_time_or_an_admission_to_hospital()
    {
        Assert.False(_fixture.Readiness().FitRecorded);
        _fixture.Do(CaseFixture.Hq, _fixture.FitnessRequest(), Prisoners.RecordFitness);
        Assert.True(_fixture.Readiness().FitRecorded);
        _fixture.Status(CustodyState.Hospitalised);
        Assert.False(_fixture.Readiness().FitRecorded);
        Next();
        _fixture.Do(CaseFixture.Hq, _fixture.FitnessRequest(), Prisoners.RecordFitness);
        Assert.True(_fixture.Readiness().FitRecorded);
        Next(24 * 7);
        Assert.False(_fixture.Readiness().FitRecorded);
        _fixture.Do(CaseFixture.Hq, _fixture.FitnessRequest(false), Prisoners.RecordFitness);
        Assert.False(_fixture.Readiness().FitRecorded);
    }

    [Fact]
    public void D11_an_assessment_is_for_one_destination_ends_with_time_and_gives_way_to_a_later_one()
    {
        _fixture.Do(CaseFixture.Hq, _fixture.RiskRequest(), Prisoners.RecordRiskAssessment);
        Assert.True(_fixture.Readiness().RiskAssessed);
        Assert.False(_fixture.Readiness("KP").RiskAssessed);
        Assert.Equal("o-1", _fixture.Prisoner.RiskAssessments[0].Official);
        var worse = _fixture.RiskRequest();
        worse.Finding = RiskFinding.SubstantialRisk;
        _fixture.Do(CaseFixture.Hq, worse, Prisoners.RecordRiskAssessment);
        Assert.False(_fixture.Readiness().RiskAssessed);
        _fixture.Do(CaseFixture.Hq, _fixture.RiskRequest(), Prisoners.RecordRiskAssessment);
        Next(24 * 30);
        Assert.False(_fixture.Readiness().RiskAssessed);
    }

    [Theory]
    [InlineData(-1, 24, Reason.TimeOutOfRange)]
    [InlineData(2000, 24, Reason.TimeOutOfRange)]
    [InlineData(1, 0, Reason.TimeOutOfRange)]
    [InlineData(1, 24 * 365, Reason.TimeOutOfRange)]
    [InlineData(1, 24 * 365 - 1, Reason.Unspecified)]
    public void D11_an_assessment_has_its_time(double madeAgo, double holds, Reason expected)
    {
        var request = _fixture.RiskRequest();
        (request.AssessTime, request.ExpireTime) = (_fixture.Ago(madeAgo), _fixture.In(holds));
        Assert.Equal(expected, _fixture.Try(CaseFixture.Hq, request, Prisoners.RecordRiskAssessment));
    }

    [Fact]
    public void D10_D11_the_accepting_power_does_not_rest_on_its_predecessors_assessments()
    {
        _fixture.Ready();
        _fixture.Do(CaseFixture.Hq, _fixture.RiskRequest("CH"), Prisoners.RecordRiskAssessment);
        _fixture.HandOver();
        Assert.False(_fixture.Readiness("CH").RiskAssessed);
        Assert.False(_fixture.Readiness("CH").FitRecorded);
    }

    [Fact]
    public void D12_a_delay_needs_its_reason_and_ends_when_it_is_lifted()
    {
        Assert.Equal(
            Reason.ProceedingsReasonMissing,
            _fixture.Try(CaseFixture.Hq, _fixture.ProceedingsRequest(true, ""), Prisoners.RecordProceedings)
        );
        Assert.True(_fixture.Readiness().FreeToDepart);
        _fixture.Do(CaseFixture.Hq, _fixture.ProceedingsRequest(), Prisoners.RecordProceedings);
        Assert.False(_fixture.Readiness().FreeToDepart);
        _fixture.Do(CaseFixture.Hq, _fixture.ProceedingsRequest(false, ""), Prisoners.RecordProceedings);
        Assert.True(_fixture.Readiness().FreeToDepart);
        _fixture.Status(CustodyState.Escaped);
        Assert.False(_fixture.Readiness().FreeToDepart);
    }

    [Fact]
    public void D13_an_identity_has_the_four_data_and_what_is_marked_as_voluntary() =>
        Assert.Equal(
            ["name", "rank", "birth_date", "serial_number"],
            PersonIdentity
                .Descriptor.Fields.InDeclarationOrder()
                .Where(f => f.GetOptions().GetExtension(OptionsExtensions.Datum) != Datum.Voluntary)
                .Select(f => f.Name)
        );

    // --- D14: whom to notify, and when.

    [Theory]
    [InlineData(CustodyState.Hospitalised, OccurrenceKind.HospitalAdmission)]
    [InlineData(CustodyState.Escaped, OccurrenceKind.Escape)]
    [InlineData(CustodyState.Died, OccurrenceKind.Death)]
    [InlineData(CustodyState.Released, OccurrenceKind.Release)]
    [InlineData(CustodyState.Repatriated, OccurrenceKind.Repatriation)]
    public void D14_an_occurrence_is_to_be_notified_in_time(CustodyState state, OccurrenceKind kind)
    {
        _fixture.Status(state, Departures);
        OccurrenceKind[] further = state == CustodyState.Died ? [OccurrenceKind.DeathCertificate, OccurrenceKind.Burial] : [];
        Assert.Equal(
            [OccurrenceKind.Capture, OccurrenceKind.CaptureCard, kind, .. further],
            _fixture.Prisoner.Occurrences.Select(o => o.Kind)
        );
        Assert.Equal(_fixture.In(72), _fixture.Prisoner.Occurrences[2].DueTime);
        _fixture.Do(CaseFixture.Hq, _fixture.ReleaseRequest(3), Prisoners.NotifyBureau);
        Assert.Equal(Reason.OccurrenceNotOwed, _fixture.Try(CaseFixture.Hq, _fixture.ReleaseRequest(3), Prisoners.NotifyBureau));
        Assert.Equal(Reason.OccurrenceNotOwed, _fixture.Try(CaseFixture.Hq, _fixture.ReleaseRequest(9), Prisoners.NotifyBureau));
    }

    [Theory]
    [InlineData("UA", CaseFixture.Hq, CaseFixture.Kr)]
    [InlineData("KR", CaseFixture.Kr, CaseFixture.Hq)]
    public void D14_both_powers_owe_notice_of_the_transfer_each_its_own(string owes, string who, string other)
    {
        _fixture.Ready();
        _fixture.HandOver();
        Assert.Equal(["UA", "KR"], _fixture.Prisoner.Occurrences.Where(o => o.Kind == OccurrenceKind.Transfer).Select(o => o.OwedBy));
        var owed = _fixture.Prisoner.Occurrences.Single(o => o.Kind == OccurrenceKind.Transfer && o.OwedBy == owes).Occurrence_;
        Assert.Equal(Reason.OccurrenceNotOwed, _fixture.Try(other, _fixture.NotifyRequest(owed, other), Prisoners.NotifyBureau));
        Assert.Equal(Reason.Unspecified, _fixture.Try(who, _fixture.NotifyRequest(owed, who), Prisoners.NotifyBureau));
        Assert.Equal(
            [owes],
            _fixture.Prisoner.Occurrences.Where(o => o.Kind == OccurrenceKind.Transfer && o.Notification.Length > 0).Select(o => o.OwedBy)
        );
    }

    [Fact]
    public void D14_what_was_not_notified_in_time_falls_due_once()
    {
        Assert.Equal(_fixture.RuleRunner.Now.AddHours(72), Prisoners.Kind.DueOf(_fixture.Prisoner));
        Assert.Equal(Reason.StateNotAllowed, Due());
        Next(72);
        Assert.Equal(Reason.Unspecified, Due());
        var fell = Assert.IsType<DutyFellDue>(_fixture.RuleRunner.Events[^1]);
        Assert.Equal(Duties.Notification, fell.Duty);
        Assert.True(_fixture.Prisoner.Occurrences[0].Overdue);
        // The capture card has a week (70).
        Assert.Equal(_fixture.RuleRunner.Now.AddDays(4), Prisoners.Kind.DueOf(_fixture.Prisoner));
        Assert.Equal(Reason.StateNotAllowed, Due());
        Assert.Equal(Reason.Unspecified, _fixture.Try(CaseFixture.Hq, _fixture.NotifyRequest(1), Prisoners.NotifyBureau));
    }

    [Fact]
    public void D14_a_notification_stops_the_clock()
    {
        _fixture.Told(OccurrenceKind.Capture);
        _fixture.Told(OccurrenceKind.CaptureCard);
        Assert.Null(Prisoners.Kind.DueOf(_fixture.Prisoner));
    }

    [Theory]
    [InlineData(CustodyState.Died, OccurrenceKind.DeathCertificate, 30)]
    [InlineData(CustodyState.Died, OccurrenceKind.Burial, 30)]
    [InlineData(CustodyState.Died, OccurrenceKind.Inquiry, 60)]
    [InlineData(CustodyState.Hospitalised, OccurrenceKind.Inquiry, 60)]
    public void D14_what_a_death_or_an_injury_demands_is_due_too(CustodyState status, OccurrenceKind kind, int days)
    {
        var request = _fixture.StatusRequest(status);
        request.InquiryOwed = kind == OccurrenceKind.Inquiry;
        _fixture.Do(CaseFixture.Hq, request, Prisoners.RecordStatus);
        Assert.Equal(_fixture.In(24 * days), _fixture.Prisoner.Occurrences.Single(o => o.Kind == kind).DueTime);
        _fixture.Told(kind);
        Assert.NotEqual("", _fixture.Prisoner.Occurrences.Single(o => o.Kind == kind).Notification);
    }

    [Fact]
    public void D14_the_health_of_the_seriously_ill_is_reported_weekly()
    {
        _fixture.Told(OccurrenceKind.Capture);
        _fixture.Told(OccurrenceKind.CaptureCard);
        var request = _fixture.StatusRequest(CustodyState.Hospitalised);
        request.Serious = true;
        _fixture.Do(CaseFixture.Hq, request, Prisoners.RecordStatus);
        _fixture.Told(OccurrenceKind.HospitalAdmission);
        var begun = _fixture.RuleRunner.Now;
        Assert.Equal(begun.AddDays(7), Prisoners.Kind.DueOf(_fixture.Prisoner));
        Next(24 * 6);
        var report = _fixture.ReleaseRequest(0);
        report.HealthReport = true;
        _fixture.Do(CaseFixture.Hq, report, Prisoners.NotifyBureau);
        Assert.Equal(begun.AddDays(13), Prisoners.Kind.DueOf(_fixture.Prisoner));
        Next(24 * 7);
        Assert.Equal(Reason.Unspecified, Due());
        Assert.Equal(Duties.Notification, ((DutyFellDue)_fixture.RuleRunner.Events[^1]).Duty);
        Assert.Equal(begun.AddDays(20), Prisoners.Kind.DueOf(_fixture.Prisoner));
        _fixture.Status(CustodyState.Died);
        foreach (var kind in (OccurrenceKind[])[OccurrenceKind.Death, OccurrenceKind.DeathCertificate, OccurrenceKind.Burial])
            _fixture.Told(kind);
        Assert.Null(Prisoners.Kind.DueOf(_fixture.Prisoner));
    }

    [Fact]
    public void D9_the_end_of_validity_is_told_once_so_that_standing_is_asked_again()
    {
        _fixture.Do(CaseFixture.Hq, _fixture.ReleaseRequest(1), Prisoners.NotifyBureau);
        _fixture.Ready();
        Assert.Equal(_fixture.RuleRunner.Now.AddDays(7), Prisoners.Kind.DueOf(_fixture.Prisoner));
        Next(24 * 7);
        Assert.Equal(Reason.Unspecified, Due());
        Assert.Equal(Duties.Validity, ((DutyFellDue)_fixture.RuleRunner.Events[^1]).Duty);
        Assert.Equal(Reason.StateNotAllowed, Due());
        Next(24 * 83);
        Assert.Equal(Reason.Unspecified, Due());
        Assert.False(_fixture.Stands("KR"));
        Assert.Null(Prisoners.Kind.DueOf(_fixture.Prisoner));
    }

    // --- D15: who is told.

    [Fact]
    public void D15_the_data_always_reach_the_tracing_agency()
    {
        var request = _fixture.NotifyRequest(1);
        request.Data = CaseFixture.Seal(CaseFixture.Hq);
        Assert.Equal(Reason.TracingAgencyMissing, _fixture.Try(CaseFixture.Hq, request, Prisoners.NotifyBureau));
    }

    [Fact]
    public void D15_every_release_names_recipient_and_reason()
    {
        var request = _fixture.NotifyRequest(1);
        request.Data = CaseFixture.Seal(CaseFixture.Icrc, CaseFixture.Kr);
        Assert.Equal(Reason.ReleaseNotNamed, _fixture.Try(CaseFixture.Hq, request, Prisoners.NotifyBureau));
        request.Releases.Add(new Release { Recipient = CaseFixture.Kr, Reason = "consular-assistance" });
        request.Releases.Add(new Release { Recipient = CaseFixture.Ru, Reason = "consular-assistance" });
        Assert.Equal(Reason.ReleaseNotNamed, _fixture.Try(CaseFixture.Hq, request, Prisoners.NotifyBureau));
        request.Releases.RemoveAt(1);
        Assert.Equal(Reason.Unspecified, _fixture.Try(CaseFixture.Hq, request, Prisoners.NotifyBureau));
    }

    [Fact]
    public void D15_withholding_from_the_power_of_origin_is_a_named_humans_decision()
    {
        var request = _fixture.NotifyRequest(1);
        request.PowerOfOrigin = "RU";
        request.Data = CaseFixture.Seal(CaseFixture.Icrc, CaseFixture.Ru);
        request.Releases.Add(new Release { Recipient = CaseFixture.Ru, Reason = "article-122" });
        Assert.Equal(Reason.DataWithheld, _fixture.Try(CaseFixture.Hq, request, Prisoners.NotifyBureau));
        (request.Disclosure, request.ConsultedObserver, request.ReviewTime) = (Disclosure.Released, "", null);
        Assert.Equal(Reason.Unspecified, _fixture.Try(CaseFixture.Hq, request, Prisoners.NotifyBureau));
        Assert.Equal(
            ("o-1", Disclosure.Released),
            (_fixture.Prisoner.Notifications[0].Official, _fixture.Prisoner.Notifications[0].Disclosure)
        );
    }

    // --- D19: no statement waives protection.

    [Fact]
    public void D19_no_statement_changes_custody()
    {
        var before = (_fixture.Prisoner.State, _fixture.Prisoner.Held, _fixture.Prisoner.Ended, _fixture.Prisoner.DetainingPower);
        _fixture.Says("KR", "UA", "KP");
        Next();
        _fixture.Says();
        Assert.Equal(before, (_fixture.Prisoner.State, _fixture.Prisoner.Held, _fixture.Prisoner.Ended, _fixture.Prisoner.DetainingPower));
    }

    [Fact]
    public void D19_a_case_is_not_closed_while_somebody_is_in_custody()
    {
        Assert.Equal(Reason.CustodyNotEnded, _fixture.Try(CaseFixture.Hq, Close(), CaseRules.CloseCase));
        _fixture.Status(CustodyState.Escaped);
        Assert.Equal(Reason.CustodyNotEnded, _fixture.Try(CaseFixture.Hq, Close(), CaseRules.CloseCase));
        _fixture.Status(CustodyState.Died);
        Assert.Equal(Reason.Unspecified, _fixture.Try(CaseFixture.Hq, Close(), CaseRules.CloseCase));

        CloseCaseRequest Close() =>
            new()
            {
                Actor = CaseFixture.Actor,
                Etag = _fixture.CaseEtag(CaseFixture.Hq),
                Case = _fixture.Case,
            };
    }

    // --- Parties.

    [Theory]
    [InlineData("xx/mfa", Part.RequestingState, Reason.ParticipantUnknown)]
    [InlineData(CaseFixture.Consular, Part.RequestingState, Reason.ParticipantUnknown)]
    [InlineData(CaseFixture.Kr, Part.RequestingState, Reason.AlreadyExists)]
    [InlineData(CaseFixture.Mfa, Part.RequestingState, Reason.PartNotFitting)]
    [InlineData(CaseFixture.Unification, Part.DetainingPower, Reason.PartNotFitting)]
    [InlineData(CaseFixture.Unification, Part.NeutralObserver, Reason.PartNotFitting)]
    [InlineData(CaseFixture.Swiss, Part.NeutralObserver, Reason.PartNotFitting)]
    [InlineData(CaseFixture.Swiss, Part.ProtectingPower, Reason.Unspecified)]
    [InlineData(CaseFixture.Mfa, Part.DetainingPower, Reason.Unspecified)]
    [InlineData(CaseFixture.Unification, Part.TransferringPower, Reason.PartNotFitting)]
    public void A_party_has_a_part_that_fits_it(string who, Part part, Reason expected) =>
        Assert.Equal(expected, _fixture.Try(CaseFixture.Hq, _fixture.AdmitRequest(who, part), CaseRules.AdmitParty));

    [Fact]
    public void Who_answers_for_a_prisoner_and_the_last_observer_are_not_removed()
    {
        Assert.Equal(Reason.PartyNeeded, Remove(CaseFixture.Hq));
        Assert.Equal(Reason.NotAParty, Remove(CaseFixture.Ru));
        // D17: an observer leaves by its own act alone, and removes nobody else.
        Assert.Equal(Reason.ObserverLeavesByItself, Remove(CaseFixture.Icrc));
        Assert.Equal(Reason.NotGranted, Remove(CaseFixture.Kr, CaseFixture.Icrc));
        Assert.Equal(Reason.PartyNeeded, Remove(CaseFixture.Icrc, CaseFixture.Icrc));
        _fixture.Admit(CaseFixture.Swiss, Part.ProtectingPower);
        Assert.Equal(Reason.ObserverLeavesByItself, Remove(CaseFixture.Icrc, CaseFixture.Hq));
        Assert.Equal(Reason.Unspecified, Remove(CaseFixture.Icrc, CaseFixture.Icrc));
        _fixture.HandOver();
        Assert.Equal(Reason.PartyNeeded, Remove(CaseFixture.Kr, CaseFixture.Kr));

        Reason Remove(string who, string by = CaseFixture.Hq) =>
            _fixture.Try(
                by,
                new RemovePartyRequest
                {
                    Actor = CaseFixture.Actor,
                    Etag = _fixture.CaseEtag(by),
                    Case = _fixture.Case,
                    Participant = who,
                },
                CaseRules.RemoveParty
            );
    }

    [Fact]
    public void A_stale_etag_is_refused()
    {
        var request = _fixture.FitnessRequest();
        _fixture.Do(CaseFixture.Hq, _fixture.RiskRequest(), Prisoners.RecordRiskAssessment);
        Assert.Equal(Reason.Stale, _fixture.Try(CaseFixture.Hq, request, Prisoners.RecordFitness));
    }

    [Fact]
    public void A_participant_without_the_capacity_is_refused()
    {
        _fixture.Admit(CaseFixture.Mfa, Part.DetainingPower);
        Assert.Equal(
            Reason.NoCapacity,
            _fixture.Try(CaseFixture.Mfa, _fixture.StatusRequest(CustodyState.Hospitalised, CaseFixture.Mfa), Prisoners.RecordStatus)
        );
    }

    // --- Corrections.

    [Fact]
    public void A_corrected_status_gives_way_to_the_one_before()
    {
        _fixture.Status(CustodyState.Died);
        Assert.False(_fixture.TheCase.Prisoners[0].Held);
        _fixture.Correct(_fixture.Prisoner.Statuses[^1].Position);
        Assert.Equal(
            (CustodyState.Interned, true, "UA"),
            (_fixture.Prisoner.State, _fixture.Prisoner.Held, _fixture.Prisoner.DetainingPower)
        );
        Assert.True(_fixture.TheCase.Prisoners[0].Held);
        Assert.True(_fixture.Prisoner.Occurrences[^1].Corrected);
        Assert.Equal(2, _fixture.Prisoner.Statuses.Count);
    }

    [Fact]
    public void What_rested_on_a_corrected_entry_no_longer_counts()
    {
        _fixture.Ready();
        var observer = _fixture.Prisoner.Statements[0].Attestations.Single(a => a.Role == AttesterRole.Observer).Position;
        _fixture.Correct(observer, CaseFixture.Icrc);
        Assert.False(_fixture.Stands("KR"));
        Assert.Equal(
            _fixture.Prisoner.Statements[0].Attestations,
            // The signatures are kept with the statement alone.
            _fixture
                .StatementOf(_fixture.Prisoner.Statements[0].Statement_)
                .Attestations.Select(a => new Attestation(a) { Signature = Google.Protobuf.ByteString.Empty, OfficialKey = null })
        );
        _fixture.Correct(_fixture.Prisoner.RiskAssessments[0].Position);
        Assert.False(_fixture.Readiness().RiskAssessed);
        _fixture.Correct(_fixture.Prisoner.Fitness[0].Position);
        Assert.False(_fixture.Readiness().FitRecorded);
        _fixture.Do(CaseFixture.Hq, _fixture.ProceedingsRequest(), Prisoners.RecordProceedings);
        _fixture.Correct(_fixture.Prisoner.Proceedings[0].Position);
        Assert.True(_fixture.Readiness().FreeToDepart);
        _fixture.Do(CaseFixture.Hq, _fixture.NotifyRequest(1), Prisoners.NotifyBureau);
        _fixture.Correct(_fixture.Prisoner.Notifications[0].Position);
        Assert.Equal("", _fixture.Prisoner.Occurrences[0].Notification);
        Assert.All(
            _fixture.RuleRunner.Events.OfType<Ministries.Custody.V1.RecordCorrected>(),
            e => Assert.Equal(CaseFixture.P, e.Prisoner)
        );
    }

    [Fact]
    public void A_corrected_statement_gives_way_to_the_one_before()
    {
        _fixture.Says("KR");
        Next();
        _fixture.Says("KP");
        Assert.False(_fixture.Stands("KR"));
        _fixture.Correct(_fixture.Prisoner.Statements[1].Position, CaseFixture.Icrc);
        Assert.True(_fixture.Stands("KR"));
    }

    [Fact]
    public void Nothing_rests_on_a_registration_that_was_corrected_until_the_right_identity_is_there()
    {
        _fixture.Ready();
        var registration = _fixture.Prisoner.Statuses[0].Position;
        _fixture.Correct(registration);
        Assert.False(_fixture.Stands("KR"));
        Assert.False(_fixture.Readiness().FitRecorded);
        Assert.Equal(CustodyState.Interned, _fixture.Prisoner.State);

        var other = new CaseFixture();
        other.Register();
        other.Ready();
        other.Do(
            CaseFixture.Hq,
            new CorrectRecordRequest(other.CorrectRequest(other.Prisoner.Statuses[0].Position))
            {
                Identity = CaseFixture.Seal(CaseFixture.Icrc, CaseFixture.Hq),
            },
            Prisoners.CorrectRecord
        );
        Assert.True(other.Stands("KR"));
        Assert.Equal(2, other.Prisoner.Identity.Recipients.Count);
    }

    [Fact]
    public void A_registration_is_corrected_any_number_of_times()
    {
        var registration = _fixture.Prisoner.Statuses[0].Position;
        foreach (var under18 in (bool[])[true, false, true])
        {
            _fixture.Do(
                CaseFixture.Hq,
                new CorrectRecordRequest(_fixture.CorrectRequest(registration))
                {
                    Identity = CaseFixture.Seal(CaseFixture.Icrc),
                    Under18 = under18,
                },
                Prisoners.CorrectRecord
            );
            Assert.Equal(under18, _fixture.Prisoner.Under18);
        }
        _fixture.Correct(registration);
        Assert.Null(_fixture.Prisoner.Identity);
        Assert.Equal(
            Reason.NotCorrectable,
            _fixture.Try(CaseFixture.Kr, _fixture.CorrectRequest(registration, CaseFixture.Kr), Prisoners.CorrectRecord)
        );
    }

    [Fact]
    public void Only_an_entry_of_ones_own_is_corrected_and_once()
    {
        _fixture.Says("KR");
        var position = _fixture.Prisoner.Statements[0].Position;
        Assert.Equal(Reason.NotCorrectable, _fixture.Try(CaseFixture.Hq, _fixture.CorrectRequest(position), Prisoners.CorrectRecord));
        Assert.Equal(
            Reason.NotCorrectable,
            _fixture.Try(CaseFixture.Icrc, _fixture.CorrectRequest(999, CaseFixture.Icrc), Prisoners.CorrectRecord)
        );
        _fixture.Correct(position, CaseFixture.Icrc);
        Assert.Equal(
            Reason.NotCorrectable,
            _fixture.Try(CaseFixture.Icrc, _fixture.CorrectRequest(position, CaseFixture.Icrc), Prisoners.CorrectRecord)
        );
    }

    // --- Folding.

    [Fact]
    public void The_same_commands_fold_to_the_same_states_and_rules_change_none()
    {
        static Prisoner Play()
        {
            var fixture = new CaseFixture();
            fixture.Register();
            fixture.Ready();
            fixture.Begin();
            fixture.HandOver();
            return fixture.Prisoner;
        }

        Assert.Equal(Play(), Play());
        var before = _fixture.Prisoner.Clone();
        var same = _fixture.Prisoner;
        _fixture.Says("KR");
        Assert.Equal(before, same);
    }

    [Fact]
    public void A_status_whose_entry_was_erased_is_no_longer_known_and_any_can_follow()
    {
        var state = new Prisoner();
        var registered = new PrisonerRegistered
        {
            Case = "case_1",
            Prisoner = CaseFixture.P,
            DetainingPower = "UA",
            BureauDueTime = new Timestamp(),
        };
        Prisoners.Kind.Apply(state, registered, new FoldedEntry(0, new Timestamp(), CaseFixture.Hq, "r", null));
        Assert.Equal(CustodyState.Unspecified, state.State);
        Assert.Equal(Standing.NotInForce, _fixture.StandingFor([state], "KP", Route.Repatriation).Standing);
        Assert.True(CustodyStates.Leads(CustodyState.Unspecified, CustodyState.Interned));
        Assert.False(CustodyStates.Leads(CustodyState.Unspecified, CustodyState.InTransit));
    }

    [Fact]
    public void A_statement_whose_entry_was_erased_objects_to_every_departure()
    {
        _fixture.Says("KR");
        var state = _fixture.Prisoner.Clone();
        var recorded = new StatementRecorded
        {
            Case = _fixture.Case,
            Prisoner = CaseFixture.P,
            Statement = "statement_x",
            DetainingPower = "UA",
            ExpireTime = _fixture.In(1),
        };
        Prisoners.Kind.Apply(state, recorded, new FoldedEntry(99, _fixture.Ago(0), CaseFixture.Icrc, "r", null));
        Assert.All(
            System.Enum.GetValues<Route>(),
            route => Assert.Equal(Standing.NotInForce, _fixture.StandingFor([state], "KR", route).Standing)
        );
    }

    private Reason Due() =>
        RuleRunner.ReasonOf(
            _fixture
                .RuleRunner.Play(
                    "service/custody",
                    new Timestamp(),
                    (_, context) => Duties.FallDue(Prisoners.KeyOf(_fixture.Case, CaseFixture.P), context),
                    "duty"
                )
                .Decision
        );
}
