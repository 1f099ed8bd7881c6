using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Ministries.Consular.V1;
using Ministries.Custody.V1;
using Ministries.Errors.V1;
using Ministries.Fixtures;
using Ministries.Ledger;
using Ministries.Trust;
using Ministries.Types.V1;
using CorrectRecordRequest = Ministries.Custody.V1.CorrectRecordRequest;
using DutyFellDue = Ministries.Custody.V1.DutyFellDue;
using Route = Ministries.Types.V1.Route;

namespace Ministries.Custody.Tests;

/// <summary>Each invariant that custody enforces, from both sides.</summary>
public class InvariantTests
{
    private readonly Scene _scene = new();

    public static TheoryData<Route> Routes => [.. System.Enum.GetValues<Route>().Except([Route.Unspecified])];

    public InvariantTests() => _scene.Register();

    private void Next(double hours = 1) => _scene.Stage.Now = _scene.Stage.Now.AddHours(hours);

    // --- D1, D4: one detaining power; it alone writes; it changes when both confirmed.

    [Fact]
    public void D1_the_detaining_power_is_the_state_that_opened_the_case()
    {
        Assert.Equal("UA", _scene.TheCase.DetainingPower);
        Assert.Equal("UA", _scene.Prisoner.DetainingPower);
        Assert.Equal(
            Reason.NotGranted,
            _scene.Try(
                Scene.Kr,
                new RegisterPrisonerRequest(_scene.RegisterRequest()) { Etag = _scene.CaseEtag(Scene.Kr) },
                Prisoners.RegisterPrisoner
            )
        );
        Assert.Equal(Reason.NotFound, _scene.Try(Scene.Icrc, new OpenCaseRequest { Actor = Scene.Actor }, CaseRules.OpenCase));
    }

    [Fact]
    public void D1_custody_passes_when_both_sides_confirmed_and_the_accepting_power_writes_from_then_on()
    {
        _scene.Ready();
        Assert.Equal(
            Reason.NotGranted,
            _scene.Try(Scene.Kr, _scene.StatusRequest(CustodyState.Hospitalised, Scene.Kr), Prisoners.RecordStatus)
        );
        _scene.Begin();
        var passed = _scene.HandOver();
        var moved = Assert.IsType<CustodyTransferred>(passed.Changes.Single().Event);
        Assert.Empty(moved.Breaches);
        Assert.Equal(
            ("KR", "UA", CustodyState.Interned),
            (_scene.Prisoner.DetainingPower, _scene.Prisoner.TransferringPower, _scene.Prisoner.State)
        );
        Assert.Equal("KR", _scene.TheCase.Prisoners[0].DetainingPower);
        Assert.Equal(Reason.NotGranted, _scene.Try(Scene.Hq, _scene.StatusRequest(CustodyState.Hospitalised), Prisoners.RecordStatus));
        Assert.Equal(
            Reason.Unspecified,
            _scene.Try(Scene.Kr, _scene.StatusRequest(CustodyState.Hospitalised, Scene.Kr), Prisoners.RecordStatus)
        );
    }

    [Theory]
    [InlineData("RU", Scene.Ru, "KR", Scene.Kr)]
    [InlineData("UA", Scene.Kr, "KR", Scene.Kr)]
    [InlineData("UA", Scene.Mfa, "KR", Scene.Mfa)]
    [InlineData("UA", Scene.Mfa, "KR", "")]
    [InlineData("UA", Scene.Mfa, "UA", Scene.Hq)]
    [InlineData("UA", Scene.Mfa, "RU", Scene.Ru)]
    public void D1_custody_does_not_pass_without_the_confirmation_of_both(string from, string detaining, string to, string accepting)
    {
        _scene.Admit(Scene.Mfa, Part.DetainingPower);
        var confirmed = new HandoverConfirmed(_scene.Confirmed())
        {
            FromPower = from,
            ToPower = to,
            DetainingParticipant = detaining,
            AcceptingParticipant = accepting,
        };
        Assert.Equal(Reason.NotConfirmedByDetainingPower, _scene.Try(Scene.Consular, confirmed, Reactions.HandedOver));
        Assert.Equal("UA", _scene.Prisoner.DetainingPower);
    }

    [Fact]
    public void D1_a_hand_over_is_not_recorded_twice()
    {
        _scene.Ready();
        _scene.HandOver();
        Assert.Equal(Reason.NotConfirmedByDetainingPower, _scene.Try(Scene.Consular, _scene.Confirmed(), Reactions.HandedOver));
    }

    [Fact]
    public void D1_a_return_gives_custody_back()
    {
        _scene.Ready();
        _scene.HandOver();
        var returned = new ReturnConfirmed
        {
            Case = _scene.Case,
            Prisoner = Scene.P,
            Transfer = "transfer_1",
            FromPower = "KR",
            ToPower = "UA",
            ReturnTime = _scene.Ago(1),
        };
        _scene.Do(Scene.Consular, returned, Reactions.Returned);
        Assert.Equal(("UA", ""), (_scene.Prisoner.DetainingPower, _scene.Prisoner.TransferringPower));
        Assert.Equal(("UA", ""), (_scene.TheCase.Prisoners[0].DetainingPower, _scene.TheCase.Prisoners[0].TransferringPower));
        Assert.Equal(Reason.NotConfirmedByDetainingPower, _scene.Try(Scene.Consular, returned, Reactions.Returned));
    }

    [Fact]
    public void D1_there_is_no_detaining_power_after_a_successful_escape_and_one_again_after_recapture()
    {
        _scene.Status(CustodyState.Escaped);
        Assert.Equal(("UA", false), (_scene.Prisoner.DetainingPower, _scene.Prisoner.Ended));
        var succeeded = _scene.StatusRequest(CustodyState.Escaped);
        succeeded.EscapeSucceeded = true;
        Assert.Empty(((StatusRecorded)_scene.Do(Scene.Hq, succeeded, Prisoners.RecordStatus).Changes[0].Event).Breaches);
        Assert.Equal(("", true), (_scene.Prisoner.DetainingPower, _scene.Prisoner.Ended));
        Assert.Equal("", _scene.TheCase.Prisoners[0].DetainingPower);
        _scene.Status(CustodyState.Recaptured);
        Assert.Equal(("UA", true), (_scene.TheCase.Prisoners[0].DetainingPower, _scene.Prisoner.Held));
    }

    [Theory]
    [InlineData(Scene.Kr)]
    [InlineData(Scene.Icrc)]
    public void D4_only_the_detaining_power_writes_custody(string who)
    {
        Assert.Equal(Reason.NotGranted, _scene.Try(who, _scene.StatusRequest(CustodyState.Hospitalised, who), Prisoners.RecordStatus));
        Assert.Equal(
            Reason.NotGranted,
            _scene.Try(who, new RecordFitnessRequest(_scene.FitnessRequest()) { Etag = _scene.Etag(who) }, Prisoners.RecordFitness)
        );
        Assert.Equal(
            Reason.NotGranted,
            _scene.Try(
                who,
                new RecordRiskAssessmentRequest(_scene.RiskRequest()) { Etag = _scene.Etag(who) },
                Prisoners.RecordRiskAssessment
            )
        );
        Assert.Equal(
            Reason.NotGranted,
            _scene.Try(who, new NotifyBureauRequest(_scene.NotifyRequest(1)) { Etag = _scene.Etag(who) }, Prisoners.NotifyBureau)
        );
        Assert.Equal(CustodyState.Interned, _scene.Prisoner.State);
    }

    [Fact]
    public void D4_the_transit_ends_where_it_began()
    {
        _scene.Status(CustodyState.Hospitalised);
        _scene.Begin();
        Assert.Equal(CustodyState.InTransit, _scene.Prisoner.State);
        _scene.Abort();
        Assert.Equal(CustodyState.Hospitalised, _scene.Prisoner.State);
    }

    // --- D5: claims are many-valued.

    [Fact]
    public void D5_claims_stand_side_by_side()
    {
        _scene.Do(Scene.Kr, _scene.ClaimRequest(Scene.Kr, "KR", "KR"), Prisoners.RecordClaim);
        _scene.Do(Scene.Hq, _scene.ClaimRequest(Scene.Hq, "KP", "KP"), Prisoners.RecordClaim);
        _scene.Do(Scene.Hq, _scene.ClaimRequest(Scene.Hq, "RU", "RU"), Prisoners.RecordClaim);
        _scene.Do(Scene.Kr, _scene.ClaimRequest(Scene.Kr, "KR", "KR"), Prisoners.RecordClaim);
        Assert.Equal(["KR", "KP", "RU", "KR"], _scene.Prisoner.Claims.Select(c => c.Claimant));
        Assert.Equal(4, _scene.Prisoner.Claims.Select(c => c.Claim_).Distinct().Count());
    }

    [Fact]
    public void D5_a_requesting_state_records_its_own_claim_only() =>
        Assert.Equal(Reason.ClaimNotOwn, _scene.Try(Scene.Kr, _scene.ClaimRequest(Scene.Kr, "KP", "KP"), Prisoners.RecordClaim));

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
        var request = _scene.StatementRequest(Scene.Icrc, "KR");
        var attendants = request.Interview.Attendants;
        switch (what)
        {
            case "as it should be":
                break;
            case "no interview":
                request.Interview = null;
                break;
            case "in the future":
                request.StatementTime = _scene.In(1);
                break;
            case "before his capture":
                (request.StatementTime, request.Interview.InterviewTime) = (_scene.Ago(2000), _scene.Ago(2001));
                break;
            case "before the interview":
                request.Interview.InterviewTime = _scene.Ago(0.5);
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
                attendants[1].Participant = Scene.Mfa;
                break;
            case "the requesting state present":
                attendants[0].Participant = Scene.Unification;
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
                        Participant = Scene.Icrc,
                        Official = "i-4",
                    }
                );
                break;
        }
        Assert.Equal(expected, _scene.Try(Scene.Icrc, request, Statements.RecordStatement));
        Assert.Equal(expected == Reason.Unspecified ? 1 : 0, _scene.Prisoner.Statements.Count);
    }

    [Fact]
    public void D7_a_statement_counts_when_everyone_demanded_has_attested_and_not_before()
    {
        var id = _scene.Record(_scene.StatementRequest(Scene.Icrc, "KR"));
        Assert.False(_scene.Stands("KR"));
        _scene.Attest(id, AttesterRole.Interviewer);
        Assert.False(_scene.Stands("KR"));
        _scene.Attest(id, AttesterRole.Observer);
        Assert.False(_scene.Stands("KR"));
        _scene.Attest(id, AttesterRole.Interpreter);
        Assert.True(_scene.Stands("KR"));
        Assert.Equal([AttesterRole.Interviewer, AttesterRole.Interpreter, AttesterRole.Observer], _scene.StandingFor("KR").AttestedBy);
    }

    [Fact]
    public void D7_a_neutral_observer_is_among_them_whatever_the_agreement_demands()
    {
        var agreement = _scene.Stage.Permissions.Agreement.Clone();
        agreement.AttestersDemanded.Clear();
        agreement.AttestersDemanded.Add(AttesterRole.Interviewer);
        _scene.Stage.Permissions = new Permissions(agreement);
        var id = _scene.Record(_scene.StatementRequest(Scene.Icrc, "KR"));
        _scene.Attest(id, AttesterRole.Interviewer);
        Assert.False(_scene.Stands("KR"));
        _scene.Attest(id, AttesterRole.Observer);
        Assert.True(_scene.Stands("KR"));
    }

    [Fact]
    public void D7_one_under_18_needs_his_guardians_attestation()
    {
        var request = _scene.StatementRequest(Scene.Icrc, "KR");
        request.Under18 = true;
        request.Interview.Attendants.Add(
            new Attendant
            {
                Role = AttesterRole.Guardian,
                Participant = Scene.Icrc,
                Official = "i-4",
            }
        );
        var id = _scene.Record(request);
        _scene.Attest(id, AttesterRole.Interviewer, AttesterRole.Interpreter, AttesterRole.Observer);
        Assert.False(_scene.Stands("KR"));
        _scene.Attest(id, AttesterRole.Guardian);
        Assert.True(_scene.Stands("KR"));
    }

    [Fact]
    public void D7_only_who_was_there_attests_and_once()
    {
        var id = _scene.Record(_scene.StatementRequest(Scene.Icrc, "KR"));
        Assert.Equal(
            Reason.NotPresent,
            _scene.Try(Scene.Icrc, _scene.AttestRequest(id, AttesterRole.Observer, "i-9"), Statements.AttestStatement)
        );
        Assert.Equal(
            Reason.NotPresent,
            _scene.Try(Scene.Icrc, _scene.AttestRequest(id, AttesterRole.Guardian, "i-1"), Statements.AttestStatement)
        );
        _scene.Attest(id, AttesterRole.Observer);
        Assert.Equal(
            Reason.AlreadyExists,
            _scene.Try(Scene.Icrc, _scene.AttestRequest(id, AttesterRole.Observer, "i-3"), Statements.AttestStatement)
        );
        Assert.Equal(
            Reason.NotGranted,
            _scene.Try(Scene.Hq, _scene.AttestRequest(id, AttesterRole.Observer, "i-3", Scene.Hq), Statements.AttestStatement)
        );
        // A requesting state does not see the statement, and is told what it would be told if there were none.
        Assert.Equal(
            Reason.NotFound,
            _scene.Try(Scene.Kr, _scene.AttestRequest(id, AttesterRole.Observer, "i-3", Scene.Kr), Statements.AttestStatement)
        );
    }

    [Fact]
    public void D7_what_was_said_outside_a_private_interview_is_not_attested()
    {
        var request = _scene.StatementRequest(Scene.Hq, "KR");
        request.Interview = null;
        var id = _scene.Record(request, Scene.Hq);
        Assert.Equal(
            Reason.NotPrivate,
            _scene.Try(Scene.Icrc, _scene.AttestRequest(id, AttesterRole.Observer, "i-3"), Statements.AttestStatement)
        );
        Assert.False(_scene.Stands("KR"));
    }

    [Fact]
    public void D7_an_attestation_is_revoked_by_who_gave_it_and_can_be_given_again()
    {
        var id = _scene.Says("KR");
        Assert.Equal(
            Reason.AttestationNotGiven,
            _scene.Try(Scene.Icrc, _scene.RevokeRequest(id, AttesterRole.Guardian), Statements.RevokeAttestation)
        );
        _scene.Do(Scene.Icrc, _scene.RevokeRequest(id), Statements.RevokeAttestation);
        Assert.False(_scene.Stands("KR"));
        _scene.Attest(id, AttesterRole.Interviewer);
        Assert.True(_scene.Stands("KR"));
    }

    // --- D8, D9: standing.

    [Theory]
    [InlineData("KR")]
    [InlineData("KP")]
    [InlineData("CH")]
    [InlineData("UA")]
    public void D8_a_statement_counts_in_every_direction(string destination)
    {
        _scene.Says(destination);
        Assert.True(_scene.Stands(destination));
        Assert.All(((string[])["KR", "KP", "CH", "UA", "RU"]).Except([destination]), other => Assert.False(_scene.Stands(other)));
    }

    [Theory, MemberData(nameof(Routes))]
    public void D9_without_a_statement_a_transfer_has_no_standing_and_nothing_objects_to_the_rest(Route route) =>
        Assert.Equal(route != Route.Article12Transfer, _scene.Stands("KP", route));

    [Theory, MemberData(nameof(Routes))]
    public void D9_an_objection_stands_against_every_route_even_before_it_is_attested(Route route)
    {
        _scene.Record(_scene.StatementRequest(Scene.Icrc, "KR"));
        Assert.False(_scene.Stands("KP", route));
        Next();
        _scene.Record(_scene.StatementRequest());
        Assert.False(_scene.Stands("KP", route));
        Assert.False(_scene.Stands("KR", route));
    }

    [Theory, MemberData(nameof(Routes))]
    public void D9_what_he_accepts_has_standing_on_every_route(Route route)
    {
        _scene.Says("KR");
        Assert.True(_scene.Stands("KR", route));
    }

    [Fact]
    public void D9_an_unknown_route_or_destination_has_no_standing()
    {
        _scene.Says("KR");
        Assert.False(_scene.Stands("KR", Route.Unspecified));
        Assert.False(_scene.Stands(""));
    }

    [Fact]
    public void D9_a_release_where_he_is_held_is_no_departure()
    {
        _scene.Says("KR");
        Assert.True(_scene.Stands("UA", Route.Release));
        Assert.False(_scene.Stands("UA", Route.Repatriation));
    }

    [Fact]
    public void D9_never_given_changed_withdrawn_and_stale_look_the_same()
    {
        var never = _scene.StandingFor("KR");
        var id = _scene.Says("KR");
        Assert.NotEqual(never, _scene.StandingFor("KR"));
        _scene.Do(Scene.Icrc, _scene.RevokeRequest(id, AttesterRole.Observer), Statements.RevokeAttestation);
        Assert.Equal(never, _scene.StandingFor("KR"));
        _scene.Attest(id, AttesterRole.Observer);
        Next(24 * 90);
        Assert.Equal(never, _scene.StandingFor("KR"));
        _scene.Says("KR");
        Assert.Equal(Standing.InForce, _scene.StandingFor("KR").Standing);
        Next();
        _scene.Says("KP");
        Assert.Equal(never, _scene.StandingFor("KR"));
    }

    [Fact]
    public void D9_the_latest_said_counts_not_the_latest_recorded()
    {
        _scene.Says("KR");
        var late = _scene.StatementRequest(Scene.Icrc, "KP");
        (late.StatementTime, late.Interview.InterviewTime) = (_scene.Ago(10), _scene.Ago(11));
        _scene.Record(late);
        Assert.True(_scene.Stands("KR"));
    }

    [Theory]
    [InlineData(0.0, true)]
    [InlineData(24 * 90 - 2, true)]
    [InlineData(24 * 90 - 1, false)]
    public void D9_a_statement_stands_as_long_as_the_agreement_says(double hours, bool stands)
    {
        _scene.Says("KR");
        Next(hours);
        Assert.Equal(stands, _scene.Stands("KR"));
    }

    // --- D9 to D12 at a departure that the detaining power records itself, and at a hand-over.

    [Fact]
    public void D9_to_D12_a_departure_that_lacks_something_is_refused_by_name()
    {
        Assert.Equal(Reason.DepartureWithoutFitness, Depart());
        _scene.Says("KP");
        Assert.Equal(Reason.DepartureWithoutStanding, Depart());
        Next();
        _scene.Says("KR");
        Assert.Equal(Reason.DepartureWithoutFitness, Depart());
        _scene.Do(Scene.Hq, _scene.FitnessRequest(), Prisoners.RecordFitness);
        Assert.Equal(Reason.DepartureWithoutRiskAssessment, Depart());
        _scene.Do(Scene.Hq, _scene.RiskRequest(), Prisoners.RecordRiskAssessment);
        _scene.Do(Scene.Hq, _scene.ProceedingsRequest(), Prisoners.RecordProceedings);
        Assert.Equal(Reason.DepartureDuringProceedings, Depart());
        _scene.Do(Scene.Hq, _scene.ProceedingsRequest(false, ""), Prisoners.RecordProceedings);
        Assert.Equal(Reason.Unspecified, Depart());
        Assert.Empty(_scene.Prisoner.Statuses[^1].Breaches);

        Reason Depart() => _scene.Try(Scene.Hq, _scene.StatusRequest(CustodyState.Repatriated), Prisoners.RecordStatus);
    }

    [Fact]
    public void D9_to_D12_a_departure_that_took_place_all_the_same_is_recorded_marked_and_announced_to_the_observers()
    {
        _scene.Says("KP");
        var recorded = _scene.Do(
            Scene.Hq,
            _scene.StatusRequest(CustodyState.Repatriated, Scene.Hq, Invariant.D9, Invariant.D10, Invariant.D11, Invariant.D12),
            Prisoners.RecordStatus
        );
        Assert.Equal([Invariant.D9, Invariant.D10, Invariant.D11], ((StatusRecorded)recorded.Changes[0].Event).Breaches);
        Assert.Contains(recorded.Audience, _scene.Reader(Scene.Icrc).Tokens.Contains);
    }

    [Fact]
    public void D9_a_hand_over_is_judged_in_the_commit_that_records_it()
    {
        _scene.Ready();
        _scene.Begin();
        Next();
        _scene.Says("UA");
        var passed = _scene.HandOver();
        Assert.Equal([Invariant.D9], ((CustodyTransferred)passed.Changes[0].Event).Breaches);
        Assert.Equal("KR", _scene.Prisoner.DetainingPower);
        Assert.Contains(passed.Audience, _scene.Reader(Scene.Icrc).Tokens.Contains);
        Assert.DoesNotContain(passed.Audience, _scene.Reader(Scene.Kr).Tokens.Contains);
    }

    [Theory]
    [InlineData(Route.Release, CustodyState.Released, OccurrenceKind.Release)]
    [InlineData(Route.Repatriation, CustodyState.Repatriated, OccurrenceKind.Repatriation)]
    [InlineData(Route.Exchange, CustodyState.Released, OccurrenceKind.Release)]
    [InlineData(Route.NeutralAccommodation, CustodyState.AccommodatedInNeutralCountry, OccurrenceKind.NeutralAccommodation)]
    public void D1_every_other_route_ends_custody(Route route, CustodyState state, OccurrenceKind occurrence)
    {
        _scene.Ready();
        var left = _scene.HandOver(route);
        Assert.Empty(Assert.IsType<DepartureRecorded>(left.Changes[0].Event).Breaches);
        Assert.Equal(
            (state, "", "UA", false),
            (_scene.Prisoner.State, _scene.Prisoner.DetainingPower, _scene.Prisoner.LastDetainingPower, _scene.Prisoner.Held)
        );
        Assert.Equal("", _scene.TheCase.Prisoners[0].DetainingPower);
        Assert.Contains(_scene.Prisoner.Occurrences, o => o.Kind == occurrence && o.OwedBy == "UA");
    }

    [Fact]
    public void D10_fitness_ends_with_time_or_an_admission_to_hospital()
    {
        Assert.False(_scene.Readiness().FitRecorded);
        _scene.Do(Scene.Hq, _scene.FitnessRequest(), Prisoners.RecordFitness);
        Assert.True(_scene.Readiness().FitRecorded);
        _scene.Status(CustodyState.Hospitalised);
        Assert.False(_scene.Readiness().FitRecorded);
        _scene.Do(Scene.Hq, _scene.FitnessRequest(), Prisoners.RecordFitness);
        Assert.True(_scene.Readiness().FitRecorded);
        Next(24 * 7);
        Assert.False(_scene.Readiness().FitRecorded);
        _scene.Do(Scene.Hq, _scene.FitnessRequest(false), Prisoners.RecordFitness);
        Assert.False(_scene.Readiness().FitRecorded);
    }

    [Fact]
    public void D11_an_assessment_is_for_one_destination_ends_with_time_and_gives_way_to_a_later_one()
    {
        _scene.Do(Scene.Hq, _scene.RiskRequest(), Prisoners.RecordRiskAssessment);
        Assert.True(_scene.Readiness().RiskAssessed);
        Assert.False(_scene.Readiness("KP").RiskAssessed);
        Assert.Equal("o-1", _scene.Prisoner.RiskAssessments[0].Official);
        var worse = _scene.RiskRequest();
        worse.Finding = RiskFinding.SubstantialRisk;
        _scene.Do(Scene.Hq, worse, Prisoners.RecordRiskAssessment);
        Assert.False(_scene.Readiness().RiskAssessed);
        _scene.Do(Scene.Hq, _scene.RiskRequest(), Prisoners.RecordRiskAssessment);
        Next(24 * 30);
        Assert.False(_scene.Readiness().RiskAssessed);
    }

    [Theory]
    [InlineData(-1, 24, Reason.TimeOutOfRange)]
    [InlineData(2000, 24, Reason.TimeOutOfRange)]
    [InlineData(1, 0, Reason.TimeOutOfRange)]
    [InlineData(1, 24 * 365, Reason.TimeOutOfRange)]
    [InlineData(1, 24 * 365 - 1, Reason.Unspecified)]
    public void D11_an_assessment_has_its_time(double madeAgo, double holds, Reason expected)
    {
        var request = _scene.RiskRequest();
        (request.AssessTime, request.ExpireTime) = (_scene.Ago(madeAgo), _scene.In(holds));
        Assert.Equal(expected, _scene.Try(Scene.Hq, request, Prisoners.RecordRiskAssessment));
    }

    [Fact]
    public void D10_D11_the_accepting_power_does_not_rest_on_its_predecessors_assessments()
    {
        _scene.Ready();
        _scene.Do(Scene.Hq, _scene.RiskRequest("CH"), Prisoners.RecordRiskAssessment);
        _scene.HandOver();
        Assert.False(_scene.Readiness("CH").RiskAssessed);
        Assert.False(_scene.Readiness("CH").FitRecorded);
    }

    [Fact]
    public void D12_a_delay_needs_its_reason_and_ends_when_it_is_lifted()
    {
        Assert.Equal(
            Reason.ProceedingsReasonMissing,
            _scene.Try(Scene.Hq, _scene.ProceedingsRequest(true, ""), Prisoners.RecordProceedings)
        );
        Assert.True(_scene.Readiness().FreeToDepart);
        _scene.Do(Scene.Hq, _scene.ProceedingsRequest(), Prisoners.RecordProceedings);
        Assert.False(_scene.Readiness().FreeToDepart);
        _scene.Do(Scene.Hq, _scene.ProceedingsRequest(false, ""), Prisoners.RecordProceedings);
        Assert.True(_scene.Readiness().FreeToDepart);
        _scene.Status(CustodyState.Escaped);
        Assert.False(_scene.Readiness().FreeToDepart);
    }

    [Fact]
    public void D13_an_identity_has_the_four_data_and_what_is_marked_as_voluntary() =>
        Assert.Equal(
            ["name", "rank", "birth_date", "serial_number", "voluntary"],
            PersonIdentity.Descriptor.Fields.InDeclarationOrder().Select(f => f.Name)
        );

    // --- D14: whom to notify, and when.

    [Theory]
    [InlineData(CustodyState.Hospitalised, OccurrenceKind.HospitalAdmission)]
    [InlineData(CustodyState.Escaped, OccurrenceKind.Escape)]
    [InlineData(CustodyState.Died, OccurrenceKind.Death)]
    [InlineData(CustodyState.Released, OccurrenceKind.Release)]
    [InlineData(CustodyState.Repatriated, OccurrenceKind.Repatriation)]
    [InlineData(CustodyState.AccommodatedInNeutralCountry, OccurrenceKind.NeutralAccommodation)]
    public void D14_an_occurrence_is_to_be_notified_in_time(CustodyState state, OccurrenceKind kind)
    {
        _scene.Status(state, Invariant.D9, Invariant.D10, Invariant.D11, Invariant.D12);
        Assert.Equal([OccurrenceKind.Capture, kind], _scene.Prisoner.Occurrences.Select(o => o.Kind));
        Assert.All(_scene.Prisoner.Occurrences, o => Assert.Equal(_scene.In(72), o.DueTime));
        _scene.Do(Scene.Hq, _scene.NotifyRequest(2), Prisoners.NotifyBureau);
        Assert.Equal(Reason.OccurrenceNotOwed, _scene.Try(Scene.Hq, _scene.NotifyRequest(2), Prisoners.NotifyBureau));
        Assert.Equal(Reason.OccurrenceNotOwed, _scene.Try(Scene.Hq, _scene.NotifyRequest(3), Prisoners.NotifyBureau));
    }

    [Fact]
    public void D14_the_transferring_power_notifies_of_the_transfer()
    {
        _scene.Ready();
        _scene.HandOver();
        var transfer = _scene.Prisoner.Occurrences.Single(o => o.Kind == OccurrenceKind.Transfer).Occurrence_;
        Assert.Equal(Reason.OccurrenceNotOwed, _scene.Try(Scene.Kr, _scene.NotifyRequest(transfer, Scene.Kr), Prisoners.NotifyBureau));
        Assert.Equal(Reason.Unspecified, _scene.Try(Scene.Hq, _scene.NotifyRequest(transfer), Prisoners.NotifyBureau));
    }

    [Fact]
    public void D14_what_was_not_notified_in_time_falls_due_once()
    {
        Assert.Equal(_scene.Stage.Now.AddHours(72), Prisoners.Kind.DueOf(_scene.Prisoner));
        Assert.Equal(Reason.StateNotAllowed, Due());
        Next(72);
        Assert.Equal(Reason.Unspecified, Due());
        var fell = Assert.IsType<DutyFellDue>(_scene.Stage.Events[^1]);
        Assert.Equal(Duties.Notification, fell.Duty);
        Assert.True(_scene.Prisoner.Occurrences[0].Overdue);
        Assert.Null(Prisoners.Kind.DueOf(_scene.Prisoner));
        Assert.Equal(Reason.StateNotAllowed, Due());
        Assert.Equal(Reason.Unspecified, _scene.Try(Scene.Hq, _scene.NotifyRequest(1), Prisoners.NotifyBureau));
    }

    [Fact]
    public void D14_a_notification_stops_the_clock()
    {
        _scene.Do(Scene.Hq, _scene.NotifyRequest(1), Prisoners.NotifyBureau);
        Assert.Null(Prisoners.Kind.DueOf(_scene.Prisoner));
    }

    [Fact]
    public void D14_the_health_of_the_seriously_ill_is_reported_weekly()
    {
        _scene.Do(Scene.Hq, _scene.NotifyRequest(1), Prisoners.NotifyBureau);
        var request = _scene.StatusRequest(CustodyState.Hospitalised);
        request.Serious = true;
        _scene.Do(Scene.Hq, request, Prisoners.RecordStatus);
        _scene.Do(Scene.Hq, _scene.NotifyRequest(2), Prisoners.NotifyBureau);
        var begun = _scene.Stage.Now;
        Assert.Equal(begun.AddDays(7), Prisoners.Kind.DueOf(_scene.Prisoner));
        Next(24 * 6);
        var report = _scene.NotifyRequest(0);
        report.HealthReport = true;
        _scene.Do(Scene.Hq, report, Prisoners.NotifyBureau);
        Assert.Equal(begun.AddDays(13), Prisoners.Kind.DueOf(_scene.Prisoner));
        Next(24 * 7);
        Assert.Equal(Reason.Unspecified, Due());
        Assert.Equal(Duties.Notification, ((DutyFellDue)_scene.Stage.Events[^1]).Duty);
        Assert.Equal(begun.AddDays(20), Prisoners.Kind.DueOf(_scene.Prisoner));
        _scene.Status(CustodyState.Died);
        _scene.Do(Scene.Hq, _scene.NotifyRequest(3), Prisoners.NotifyBureau);
        Assert.Null(Prisoners.Kind.DueOf(_scene.Prisoner));
    }

    [Fact]
    public void D9_the_end_of_validity_is_told_once_so_that_standing_is_asked_again()
    {
        _scene.Do(Scene.Hq, _scene.NotifyRequest(1), Prisoners.NotifyBureau);
        _scene.Ready();
        Assert.Equal(_scene.Stage.Now.AddDays(7), Prisoners.Kind.DueOf(_scene.Prisoner));
        Next(24 * 7);
        Assert.Equal(Reason.Unspecified, Due());
        Assert.Equal(Duties.Validity, ((DutyFellDue)_scene.Stage.Events[^1]).Duty);
        Assert.Equal(Reason.StateNotAllowed, Due());
        Next(24 * 83);
        Assert.Equal(Reason.Unspecified, Due());
        Assert.False(_scene.Stands("KR"));
        Assert.Null(Prisoners.Kind.DueOf(_scene.Prisoner));
    }

    // --- D15: who is told.

    [Fact]
    public void D15_the_data_always_reach_the_tracing_agency()
    {
        var request = _scene.NotifyRequest(1);
        request.Data = Scene.Seal(Scene.Hq);
        Assert.Equal(Reason.TracingAgencyMissing, _scene.Try(Scene.Hq, request, Prisoners.NotifyBureau));
    }

    [Fact]
    public void D15_every_release_names_recipient_and_reason()
    {
        var request = _scene.NotifyRequest(1);
        request.Data = Scene.Seal(Scene.Icrc, Scene.Kr);
        Assert.Equal(Reason.ReleaseNotNamed, _scene.Try(Scene.Hq, request, Prisoners.NotifyBureau));
        request.Releases.Add(new Release { Recipient = Scene.Kr, Reason = "consular-assistance" });
        request.Releases.Add(new Release { Recipient = Scene.Ru, Reason = "consular-assistance" });
        Assert.Equal(Reason.ReleaseNotNamed, _scene.Try(Scene.Hq, request, Prisoners.NotifyBureau));
        request.Releases.RemoveAt(1);
        Assert.Equal(Reason.Unspecified, _scene.Try(Scene.Hq, request, Prisoners.NotifyBureau));
    }

    [Fact]
    public void D15_withholding_from_the_power_of_origin_is_a_named_humans_decision()
    {
        var request = _scene.NotifyRequest(1);
        request.PowerOfOrigin = "RU";
        request.Data = Scene.Seal(Scene.Icrc, Scene.Ru);
        request.Releases.Add(new Release { Recipient = Scene.Ru, Reason = "article-122" });
        Assert.Equal(Reason.ReleaseNotNamed, _scene.Try(Scene.Hq, request, Prisoners.NotifyBureau));
        request.Disclosure = Disclosure.Released;
        Assert.Equal(Reason.Unspecified, _scene.Try(Scene.Hq, request, Prisoners.NotifyBureau));
        Assert.Equal(
            ("o-1", Disclosure.Released),
            (_scene.Prisoner.Notifications[0].Official, _scene.Prisoner.Notifications[0].Disclosure)
        );
    }

    // --- D19: no statement waives protection.

    [Fact]
    public void D19_no_statement_changes_custody()
    {
        var before = (_scene.Prisoner.State, _scene.Prisoner.Held, _scene.Prisoner.Ended, _scene.Prisoner.DetainingPower);
        _scene.Says("KR", "UA", "KP");
        Next();
        _scene.Says();
        Assert.Equal(before, (_scene.Prisoner.State, _scene.Prisoner.Held, _scene.Prisoner.Ended, _scene.Prisoner.DetainingPower));
    }

    [Fact]
    public void D19_a_case_is_not_closed_while_somebody_is_in_custody()
    {
        Assert.Equal(Reason.CustodyNotEnded, _scene.Try(Scene.Hq, Close(), CaseRules.CloseCase));
        _scene.Status(CustodyState.Escaped);
        Assert.Equal(Reason.CustodyNotEnded, _scene.Try(Scene.Hq, Close(), CaseRules.CloseCase));
        _scene.Status(CustodyState.Died);
        Assert.Equal(Reason.Unspecified, _scene.Try(Scene.Hq, Close(), CaseRules.CloseCase));

        CloseCaseRequest Close() =>
            new()
            {
                Actor = Scene.Actor,
                Etag = _scene.CaseEtag(Scene.Hq),
                Case = _scene.Case,
            };
    }

    // --- Parties.

    [Theory]
    [InlineData("xx/mfa", Part.RequestingState, Reason.ParticipantUnknown)]
    [InlineData(Scene.Consular, Part.RequestingState, Reason.ParticipantUnknown)]
    [InlineData(Scene.Kr, Part.RequestingState, Reason.AlreadyExists)]
    [InlineData(Scene.Mfa, Part.RequestingState, Reason.PartNotFitting)]
    [InlineData(Scene.Unification, Part.DetainingPower, Reason.PartNotFitting)]
    [InlineData(Scene.Unification, Part.NeutralObserver, Reason.PartNotFitting)]
    [InlineData(Scene.Swiss, Part.NeutralObserver, Reason.PartNotFitting)]
    [InlineData(Scene.Swiss, Part.ProtectingPower, Reason.Unspecified)]
    [InlineData(Scene.Mfa, Part.DetainingPower, Reason.Unspecified)]
    [InlineData(Scene.Unification, Part.TransferringPower, Reason.PartNotFitting)]
    public void A_party_has_a_part_that_fits_it(string who, Part part, Reason expected) =>
        Assert.Equal(expected, _scene.Try(Scene.Hq, _scene.AdmitRequest(who, part), CaseRules.AdmitParty));

    [Fact]
    public void Who_answers_for_a_prisoner_and_the_last_observer_are_not_removed()
    {
        Assert.Equal(Reason.PartyNeeded, Remove(Scene.Hq));
        Assert.Equal(Reason.PartyNeeded, Remove(Scene.Icrc));
        Assert.Equal(Reason.NotAParty, Remove(Scene.Ru));
        _scene.Admit(Scene.Swiss, Part.ProtectingPower);
        Assert.Equal(Reason.Unspecified, Remove(Scene.Icrc));
        _scene.HandOver();
        Assert.Equal(Reason.PartyNeeded, Remove(Scene.Kr));

        Reason Remove(string who) =>
            _scene.Try(
                Scene.Hq,
                new RemovePartyRequest
                {
                    Actor = Scene.Actor,
                    Etag = _scene.CaseEtag(Scene.Hq),
                    Case = _scene.Case,
                    Participant = who,
                },
                CaseRules.RemoveParty
            );
    }

    [Fact]
    public void A_stale_etag_is_refused()
    {
        var request = _scene.FitnessRequest();
        _scene.Do(Scene.Hq, _scene.RiskRequest(), Prisoners.RecordRiskAssessment);
        Assert.Equal(Reason.Stale, _scene.Try(Scene.Hq, request, Prisoners.RecordFitness));
    }

    [Fact]
    public void A_participant_without_the_capacity_is_refused()
    {
        _scene.Admit(Scene.Mfa, Part.DetainingPower);
        Assert.Equal(
            Reason.NoCapacity,
            _scene.Try(Scene.Mfa, _scene.StatusRequest(CustodyState.Hospitalised, Scene.Mfa), Prisoners.RecordStatus)
        );
    }

    // --- Duplicates.

    [Fact]
    public void What_he_said_under_either_reference_counts_and_the_duplicate_is_no_longer_kept()
    {
        _scene.Register(Scene.Q);
        _scene.Says("KR");
        _scene.Do(Scene.Hq, _scene.LinkRequest(), Prisoners.LinkDuplicate);
        Assert.Equal((Scene.Q, false, ""), (_scene.Prisoner.DuplicateOf, _scene.Prisoner.Held, _scene.Prisoner.DetainingPower));
        Assert.Equal([Scene.P], _scene.PrisonerOf(Scene.Q).Duplicates);
        Assert.Equal(Reason.DuplicateRecord, _scene.Try(Scene.Hq, _scene.StatusRequest(CustodyState.Died), Prisoners.RecordStatus));
        Assert.Equal(Reason.DuplicateRecord, _scene.Try(Scene.Hq, _scene.LinkRequest(Scene.Q, Scene.P), Prisoners.LinkDuplicate));
        var records = new[] { _scene.PrisonerOf(Scene.Q), _scene.Prisoner };
        Assert.Equal(
            Standing.InForce,
            Standings.Of(records, Route.Article12Transfer, "KR", _scene.Stage.Now, _scene.Stage.Permissions).Standing
        );
        _scene.Correct(_scene.Prisoner.Entries.Single(e => e.OtherPrisoner == Scene.Q).Position);
        Assert.Equal(("", true, "UA"), (_scene.Prisoner.DuplicateOf, _scene.Prisoner.Held, _scene.Prisoner.DetainingPower));
        Assert.Empty(_scene.PrisonerOf(Scene.Q).Duplicates);
        Assert.True(_scene.TheCase.Prisoners[0].Held);
    }

    [Fact]
    public void A_reference_is_not_linked_to_itself() =>
        Assert.Equal(Reason.RequestInvalid, _scene.Try(Scene.Hq, _scene.LinkRequest(Scene.P, Scene.P), Prisoners.LinkDuplicate));

    // --- Corrections.

    [Fact]
    public void A_corrected_status_gives_way_to_the_one_before()
    {
        _scene.Status(CustodyState.Died);
        Assert.False(_scene.TheCase.Prisoners[0].Held);
        _scene.Correct(_scene.Prisoner.Statuses[^1].Position);
        Assert.Equal((CustodyState.Interned, true, "UA"), (_scene.Prisoner.State, _scene.Prisoner.Held, _scene.Prisoner.DetainingPower));
        Assert.True(_scene.TheCase.Prisoners[0].Held);
        Assert.True(_scene.Prisoner.Occurrences[^1].Corrected);
        Assert.Equal(2, _scene.Prisoner.Statuses.Count);
    }

    [Fact]
    public void What_rested_on_a_corrected_entry_no_longer_counts()
    {
        _scene.Ready();
        var observer = _scene.Prisoner.Statements[0].Attestations.Single(a => a.Role == AttesterRole.Observer).Position;
        _scene.Correct(observer, Scene.Icrc);
        Assert.False(_scene.Stands("KR"));
        Assert.Equal(_scene.Prisoner.Statements[0].Attestations, _scene.StatementOf(_scene.Prisoner.Statements[0].Statement_).Attestations);
        _scene.Correct(_scene.Prisoner.RiskAssessments[0].Position);
        Assert.False(_scene.Readiness().RiskAssessed);
        _scene.Correct(_scene.Prisoner.Fitness[0].Position);
        Assert.False(_scene.Readiness().FitRecorded);
        _scene.Do(Scene.Hq, _scene.ProceedingsRequest(), Prisoners.RecordProceedings);
        _scene.Correct(_scene.Prisoner.Proceedings[0].Position);
        Assert.True(_scene.Readiness().FreeToDepart);
        _scene.Do(Scene.Hq, _scene.NotifyRequest(1), Prisoners.NotifyBureau);
        _scene.Correct(_scene.Prisoner.Notifications[0].Position);
        Assert.Equal("", _scene.Prisoner.Occurrences[0].Notification);
        Assert.All(_scene.Stage.Events.OfType<Ministries.Custody.V1.RecordCorrected>(), e => Assert.Equal(Scene.P, e.Prisoner));
    }

    [Fact]
    public void A_corrected_statement_gives_way_to_the_one_before()
    {
        _scene.Says("KR");
        Next();
        _scene.Says("KP");
        Assert.False(_scene.Stands("KR"));
        _scene.Correct(_scene.Prisoner.Statements[1].Position, Scene.Icrc);
        Assert.True(_scene.Stands("KR"));
    }

    [Fact]
    public void Nothing_rests_on_a_registration_that_was_corrected_until_the_right_identity_is_there()
    {
        _scene.Ready();
        var registration = _scene.Prisoner.Statuses[0].Position;
        _scene.Correct(registration);
        Assert.False(_scene.Stands("KR"));
        Assert.False(_scene.Readiness().FitRecorded);
        Assert.Equal(CustodyState.Interned, _scene.Prisoner.State);
        Assert.Equal(Reason.NotCorrectable, _scene.Try(Scene.Hq, _scene.CorrectRequest(registration), Prisoners.CorrectRecord));

        var other = new Scene();
        other.Register();
        other.Ready();
        other.Do(
            Scene.Hq,
            new CorrectRecordRequest(other.CorrectRequest(other.Prisoner.Statuses[0].Position))
            {
                Identity = Scene.Seal(Scene.Icrc, Scene.Hq),
            },
            Prisoners.CorrectRecord
        );
        Assert.True(other.Stands("KR"));
        Assert.Equal(2, other.Prisoner.Identity.Recipients.Count);
    }

    [Fact]
    public void Only_an_entry_of_ones_own_is_corrected_and_once()
    {
        _scene.Says("KR");
        var position = _scene.Prisoner.Statements[0].Position;
        Assert.Equal(Reason.NotCorrectable, _scene.Try(Scene.Hq, _scene.CorrectRequest(position), Prisoners.CorrectRecord));
        Assert.Equal(Reason.NotCorrectable, _scene.Try(Scene.Icrc, _scene.CorrectRequest(999, Scene.Icrc), Prisoners.CorrectRecord));
        _scene.Correct(position, Scene.Icrc);
        Assert.Equal(Reason.NotCorrectable, _scene.Try(Scene.Icrc, _scene.CorrectRequest(position, Scene.Icrc), Prisoners.CorrectRecord));
    }

    // --- Folding.

    [Fact]
    public void The_same_commands_fold_to_the_same_states_and_rules_change_none()
    {
        static Prisoner Play()
        {
            var scene = new Scene();
            scene.Register();
            scene.Ready();
            scene.Begin();
            scene.HandOver();
            return scene.Prisoner;
        }

        Assert.Equal(Play(), Play());
        var before = _scene.Prisoner.Clone();
        var same = _scene.Prisoner;
        _scene.Says("KR");
        Assert.Equal(before, same);
    }

    [Fact]
    public void A_status_whose_entry_was_erased_is_no_longer_known_and_any_can_follow()
    {
        var state = new Prisoner();
        var registered = new PrisonerRegistered
        {
            Case = "case_1",
            Prisoner = Scene.P,
            DetainingPower = "UA",
            BureauDueTime = new Timestamp(),
        };
        Prisoners.Kind.Apply(state, registered, new FoldedEntry(0, new Timestamp(), Scene.Hq, "r", null));
        Assert.Equal(CustodyState.Unspecified, state.State);
        Assert.Equal(
            Standing.NotInForce,
            Standings.Of([state], Route.Repatriation, "KP", _scene.Stage.Now, _scene.Stage.Permissions).Standing
        );
        Assert.True(CustodyStates.Leads(CustodyState.Unspecified, CustodyState.Interned));
        Assert.False(CustodyStates.Leads(CustodyState.Unspecified, CustodyState.InTransit));
    }

    [Fact]
    public void A_statement_whose_entry_was_erased_objects_to_every_departure()
    {
        _scene.Says("KR");
        var state = _scene.Prisoner.Clone();
        var recorded = new StatementRecorded
        {
            Case = _scene.Case,
            Prisoner = Scene.P,
            Statement = "statement_x",
            DetainingPower = "UA",
            ExpireTime = _scene.In(1),
        };
        Prisoners.Kind.Apply(state, recorded, new FoldedEntry(99, _scene.Ago(0), Scene.Icrc, "r", null));
        Assert.All(
            System.Enum.GetValues<Route>(),
            route =>
                Assert.Equal(Standing.NotInForce, Standings.Of([state], route, "KR", _scene.Stage.Now, _scene.Stage.Permissions).Standing)
        );
    }

    private Reason Due() =>
        Stage.ReasonOf(
            _scene
                .Stage.Play(
                    "service/custody",
                    new Timestamp(),
                    (_, context) => Duties.FallDue(Prisoners.KeyOf(_scene.Case, Scene.P), context),
                    "duty"
                )
                .Decision
        );
}
