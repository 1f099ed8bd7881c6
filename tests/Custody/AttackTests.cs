using Google.Protobuf;
using Ministries.Custody.V1;
using Ministries.Errors.V1;
using Ministries.Types.V1;
using CorrectRecordRequest = Ministries.Custody.V1.CorrectRecordRequest;
using Route = Ministries.Types.V1.Route;

namespace Ministries.Custody.Tests;

/// <summary>What one participant tries against the prisoner or against the others, by requests that are each well formed.</summary>
public class AttackTests
{
    private readonly CaseFixture _fixture = new();

    public AttackTests() => _fixture.Register();

    // ---- who holds and manages (D1, D4)

    [Fact]
    public void D1_a_power_that_holds_another_does_not_remove_the_last_organ_that_keeps_custody_for_the_other_power()
    {
        _fixture.Register(CaseFixture.Q);
        _fixture.HandOver();
        // The same holds for every other organ of the power, while it holds a prisoner and afterwards (0052).
        Assert.Equal(Reason.OrganOfAnotherPower, AdviceTests.Remove(_fixture, CaseFixture.Hq, CaseFixture.Kr));
        Assert.Equal(Reason.OrganOfAnotherPower, AdviceTests.Remove(_fixture, CaseFixture.Mfa, CaseFixture.Kr));
        Assert.Equal(Reason.OrganOfAnotherPower, AdviceTests.Remove(_fixture, CaseFixture.Kr));
        _fixture.Do(CaseFixture.Hq, _fixture.DeathOfQ(), Prisoners.RecordStatus);
        Assert.Equal(Reason.OrganOfAnotherPower, AdviceTests.Remove(_fixture, CaseFixture.Mfa, CaseFixture.Kr));
        // A former power removes only its own organs.
        _fixture.Do(CaseFixture.Kr, _fixture.AdmitRequest(CaseFixture.Ru, Part.RequestingState, CaseFixture.Kr), CaseRules.AdmitParty);
        foreach (var other in (string[])[CaseFixture.Kr, CaseFixture.Ru])
            Assert.Equal(Reason.NotAParty, AdviceTests.Remove(_fixture, other));
        // Nor does the power remove it, which could then never come back.
        Assert.Equal(Reason.PartyNeeded, AdviceTests.Remove(_fixture, CaseFixture.Hq));
        Assert.Equal(Reason.Unspecified, AdviceTests.Remove(_fixture, CaseFixture.Mfa));
        // The power that manages the case may remove a party that only requests a prisoner, as it may admit one.
        Assert.Equal(Reason.Unspecified, AdviceTests.Remove(_fixture, CaseFixture.Ru, CaseFixture.Kr));
    }

    /// <summary>A prisoner on the way arrives or is brought back, and only the power itself can confirm it.</summary>
    [Theory]
    [InlineData(CaseFixture.Hq), InlineData(CaseFixture.Mfa)]
    public void D1_the_power_to_which_he_is_on_the_way_is_not_removed_before_it_confirms(string by)
    {
        _fixture.RuleRunner.Permissions.Participant(CaseFixture.Mfa)!.Capacities.Add(Capacity.Custody);
        _fixture.Admit(CaseFixture.Mfa, Part.DetainingPower);
        _fixture.Admit(CaseFixture.Unification, Part.RequestingState);
        _fixture.Ready();
        _fixture.Begin();
        Assert.Equal(Reason.Unspecified, AdviceTests.Remove(_fixture, CaseFixture.Unification, by));
        Assert.Equal(Reason.PartyNeeded, AdviceTests.Remove(_fixture, CaseFixture.Kr, by));
        _fixture.Abort();
        Assert.Equal(Reason.Unspecified, AdviceTests.Remove(_fixture, CaseFixture.Kr, by));
    }

    /// <summary>The power that holds him records that he is in hospital or has fled, although he may be with the other power. The other
    /// power learns nothing of it from a refusal (D9).</summary>
    [Theory]
    [InlineData(CustodyState.Hospitalised)]
    [InlineData(CustodyState.Escaped)]
    [InlineData(CustodyState.Escaped, CustodyState.Recaptured)]
    [InlineData(CustodyState.Hospitalised, CustodyState.Interned)]
    public void D1_the_power_to_which_he_set_out_is_not_removed_whatever_is_recorded_of_him_on_the_way(params CustodyState[] since)
    {
        _fixture.Ready();
        _fixture.Begin();
        foreach (var status in since)
            _fixture.Status(status);
        foreach (var by in (string[])[CaseFixture.Hq, CaseFixture.Kr])
            Assert.Equal(Reason.PartyNeeded, AdviceTests.Remove(_fixture, CaseFixture.Kr, by));
        // He sets out for another power, and the first hand-over is not called off.
        _fixture.Admit(CaseFixture.SwissJustice, Part.RequestingState);
        _fixture.Begin("CH", transfer: "transfer_2");
        foreach (var expected in (string[])[CaseFixture.Kr, CaseFixture.SwissJustice])
            Assert.Equal(Reason.PartyNeeded, AdviceTests.Remove(_fixture, expected));
        _fixture.Abort();
        Assert.Equal(Reason.PartyNeeded, AdviceTests.Remove(_fixture, CaseFixture.SwissJustice));
        Assert.Equal(Reason.Unspecified, AdviceTests.Remove(_fixture, CaseFixture.Kr));
    }

    /// <summary>Only the power to which he set out knows whether it has him. It also sees the end of custody, as every party
    /// does.</summary>
    [Theory]
    [InlineData(CustodyState.Released), InlineData(CustodyState.Died)]
    public void D1_once_custody_has_ended_on_the_way_the_power_to_which_he_set_out_leaves_by_itself_alone(CustodyState end)
    {
        Invariant[] all = [Invariant.D2, Invariant.D9, Invariant.D10, Invariant.D11, Invariant.D12];
        _fixture.Ready();
        _fixture.Begin();
        _fixture.Status(end, all);
        Assert.Equal(Reason.PartyNeeded, AdviceTests.Remove(_fixture, CaseFixture.Kr));
        Assert.Equal(Reason.Unspecified, AdviceTests.Remove(_fixture, CaseFixture.Kr, CaseFixture.Kr));
    }

    /// <summary>Custody ends, or passes to another power, by a hand-over for which he did not set out. This ends every other hand-over.
    /// </summary>
    [Theory]
    [InlineData(false, Route.Article12Transfer), InlineData(false, Route.Release)]
    [InlineData(true, Route.Article12Transfer), InlineData(true, Route.Release)]
    public void D1_the_power_to_which_he_set_out_is_waited_for_until_he_was_handed_over(bool linked, Route route)
    {
        _fixture.Register(CaseFixture.Q);
        _fixture.Admit(CaseFixture.SwissJustice, Part.RequestingState);
        _fixture.Begin("CH");
        _fixture.Status(CustodyState.Hospitalised);
        if (linked)
            _fixture.Link();
        Assert.Equal(Reason.PartyNeeded, AdviceTests.Remove(_fixture, CaseFixture.SwissJustice));
        _fixture.HandOverFromUkraine(linked ? CaseFixture.Q : CaseFixture.P, route);
        Assert.Equal(Reason.Unspecified, AdviceTests.Remove(_fixture, CaseFixture.SwissJustice, CaseFixture.SwissJustice));
    }

    /// <summary>Otherwise the power could never meet its clock (D14).</summary>
    [Fact]
    public void D14_a_power_that_gave_him_back_is_not_removed_before_it_has_notified_what_it_owes()
    {
        _fixture.HandOver();
        _fixture.Return();
        // Only the power itself is told whether it has notified (D22).
        Assert.Equal(Reason.OrganOfAnotherPower, AdviceTests.Remove(_fixture, CaseFixture.Kr));
        Assert.Equal(Reason.PartyNeeded, AdviceTests.Remove(_fixture, CaseFixture.Kr, CaseFixture.Kr));
        _fixture.Notified(CaseFixture.Kr);
        Assert.Equal(Reason.OrganOfAnotherPower, AdviceTests.Remove(_fixture, CaseFixture.Kr));
        Assert.Equal(Reason.Unspecified, AdviceTests.Remove(_fixture, CaseFixture.Kr, CaseFixture.Kr));
    }

    /// <summary>Two powers hold prisoners in the case: neither is told what happens to the other one's prisoner.</summary>
    [Theory]
    [InlineData(false), InlineData(true)]
    public void D22_a_power_does_not_learn_by_a_refusal_whether_the_prisoner_of_another_one_is_on_the_way(bool onTheWay)
    {
        _fixture.Register(CaseFixture.Q);
        _fixture.HandOver();
        _fixture.Admit(CaseFixture.SwissJustice, Part.RequestingState);
        if (onTheWay)
            _fixture.Begin("CH", CaseFixture.Q, "transfer_2");
        foreach (var power in (string[])[CaseFixture.Kr, CaseFixture.Hq])
            Assert.Equal(Reason.OrganOfAnotherPower, AdviceTests.Remove(_fixture, CaseFixture.SwissJustice, power));
        Assert.Equal(
            onTheWay ? Reason.PartyNeeded : Reason.Unspecified,
            AdviceTests.Remove(_fixture, CaseFixture.SwissJustice, CaseFixture.SwissJustice)
        );
    }

    /// <summary>No organ of its state could remove it, so the power that admitted it does. Another power can neither keep it out of the
    /// case, nor learn whether a prisoner is on the way to it.</summary>
    [Theory]
    [InlineData(false), InlineData(true)]
    public void D22_a_state_without_an_organ_for_custody_is_removed_by_the_power_that_admitted_it_alone(bool onTheWay)
    {
        var ministry = TwoPowersAndAMinistry("xx/mfa")[0];
        AdmitBy(CaseFixture.Hq, ministry);
        if (onTheWay)
            _fixture.Begin("XX", CaseFixture.P, "transfer_2");
        Assert.Equal(Reason.OrganOfAnotherPower, AdviceTests.Remove(_fixture, ministry, CaseFixture.Kr));
        // The power knows only about its own prisoners.
        Assert.Equal(Reason.Unspecified, AdviceTests.Remove(_fixture, ministry, CaseFixture.Hq));
        AdmitBy(CaseFixture.Kr, ministry);
        Assert.Equal(Reason.OrganOfAnotherPower, AdviceTests.Remove(_fixture, ministry, CaseFixture.Hq));
        Assert.Equal(onTheWay ? Reason.PartyNeeded : Reason.Unspecified, AdviceTests.Remove(_fixture, ministry, CaseFixture.Kr));
    }

    [Theory]
    [InlineData(false), InlineData(true)]
    public void D22_of_several_organs_of_a_state_without_one_for_custody_each_power_removes_all_but_the_last(bool onTheWay)
    {
        var ministries = TwoPowersAndAMinistry("xx/mfa", "xx/mod");
        foreach (var ministry in ministries)
            AdmitBy(CaseFixture.Kr, ministry);
        if (onTheWay)
            _fixture.Begin("XX", CaseFixture.P, "transfer_2");
        Assert.Equal(Reason.Unspecified, AdviceTests.Remove(_fixture, ministries[0], CaseFixture.Hq));
        Assert.Equal(Reason.OrganOfAnotherPower, AdviceTests.Remove(_fixture, ministries[1], CaseFixture.Hq));
    }

    /// <summary>Its state removes it, whatever becomes of the organ that admitted it.</summary>
    [Fact]
    public void D22_the_power_that_admitted_an_organ_removes_it_though_the_agreement_lists_another_organ_of_that_power()
    {
        var ministry = TwoPowersAndAMinistry("xx/mfa")[0];
        AdmitBy(CaseFixture.Hq, ministry);
        var agreement = _fixture.RuleRunner.Permissions.Agreement.Clone();
        agreement.Participants.Remove(agreement.Participants.Single(p => p.Id == CaseFixture.Hq));
        agreement.Participants.Single(p => p.Id == CaseFixture.Mfa).Capacities.Add(Capacity.Custody);
        _fixture.RuleRunner.Permissions = new Permissions(agreement);
        Assert.Equal(Reason.OrganOfAnotherPower, AdviceTests.Remove(_fixture, ministry, CaseFixture.Kr));
        Assert.Equal(Reason.Unspecified, AdviceTests.Remove(_fixture, ministry, CaseFixture.Mfa));
    }

    [Fact]
    public void D22_a_case_keeps_which_power_admitted_an_organ_though_the_request_was_erased()
    {
        var ministry = TwoPowersAndAMinistry("xx/mfa")[0];
        var state = _fixture.TheCase.Clone();
        var admitted = new PartyAdmitted
        {
            Case = _fixture.Case,
            Participant = ministry,
            Part = Part.RequestingState,
            State = "XX",
        };
        Cases.Kind.Apply(state, admitted, new FoldedEntry(99, _fixture.Ago(0), CaseFixture.Hq, "r", null));
        var party = state.Parties.Single(p => p.Participant == ministry);
        Assert.Equal(("", "UA"), (party.AdmittedBy, party.AdmittedFor));
    }

    // Korea holds the first prisoner and Ukraine the second one. The state of these ministries has no organ for custody.
    private string[] TwoPowersAndAMinistry(params string[] ministries)
    {
        var agreement = _fixture.RuleRunner.Permissions.Agreement.Clone();
        agreement.States.Add(new State { Code = "XX", Name = "XX" });
        foreach (var ministry in ministries)
            agreement.Participants.Add(
                new Participant
                {
                    Id = ministry,
                    Name = ministry,
                    Kind = ParticipantKind.Ministry,
                    State = "XX",
                    Capacities = { Capacity.Consular },
                }
            );
        _fixture.RuleRunner.Permissions = new Permissions(agreement);
        _fixture.Register(CaseFixture.Q);
        _fixture.HandOver();
        return ministries;
    }

    private void AdmitBy(string who, string ministry)
    {
        _fixture.Do(who, _fixture.AdmitRequest(ministry, Part.RequestingState, who), CaseRules.AdmitParty);
        Assert.Equal(who, _fixture.TheCase.Parties.Single(p => p.Participant == ministry).AdmittedBy);
        // No other state sees which power that is.
        var shown = Cases.Show(_fixture.TheCase, _fixture.Reader(ministry)).Parties;
        Assert.All(shown, p => Assert.Equal(("", ""), (p.AdmittedBy, p.AdmittedFor)));
        Assert.Contains(shown, p => p.Participant == ministry);
    }

    /// <summary>The Protecting Power would be the only observer of its own state (D4).</summary>
    [Fact]
    public void D17_a_protecting_power_of_the_power_that_holds_him_is_not_the_observer_that_remains()
    {
        _fixture.Admit(CaseFixture.Swiss, Part.ProtectingPower);
        _fixture.HandOver(Route.NeutralAccommodation);
        Assert.Equal(Reason.PartyNeeded, AdviceTests.Remove(_fixture, CaseFixture.Icrc, CaseFixture.Icrc));
        Assert.Equal(Reason.Unspecified, AdviceTests.Remove(_fixture, CaseFixture.Swiss, CaseFixture.Swiss));
    }

    /// <summary>The prisoner takes the room of the power that registered him, wherever he has been since.</summary>
    [Fact]
    public void D1_who_was_handed_over_and_came_back_takes_the_room_of_the_power_that_registered_him()
    {
        _fixture.HandOver();
        var back = _fixture.Confirmed(to: "UA");
        back.AcceptingParticipant = CaseFixture.Mfa;
        _fixture.Do(CaseFixture.Consular, back, Reactions.HandedOver);
        Assert.Equal(("UA", "KR"), (_fixture.Prisoner.LastDetainingPower, Assert.Single(_fixture.Prisoner.FormerPowers)));
        var request = _fixture.RegisterRequest();
        Assert.Equal(
            Prisoners.MaxPrisoners - 1,
            Accepted(() =>
            {
                request.Etag = _fixture.CaseEtag(CaseFixture.Hq);
                return _fixture.Try(CaseFixture.Hq, request, Prisoners.RegisterPrisoner);
            })
        );
    }

    [Fact]
    public void D1_a_protecting_power_is_no_organ_of_the_neutral_power_that_accommodates_him()
    {
        _fixture.Admit(CaseFixture.Swiss, Part.ProtectingPower);
        _fixture.HandOver(Route.NeutralAccommodation);
        Assert.Equal(Reason.PartyNeeded, AdviceTests.Remove(_fixture, CaseFixture.SwissJustice, CaseFixture.SwissJustice));
    }

    /// <summary>The acts that a ministry of the state may do and its Protecting Power may not (D4, D1, D19).</summary>
    [Theory]
    [InlineData("status"), InlineData("risk"), InlineData("fitness"), InlineData("register"), InlineData("admit"), InlineData("close")]
    public void D4_a_protecting_power_of_the_power_that_holds_him_does_nothing_for_it(string what)
    {
        _fixture.Admit(CaseFixture.Swiss, Part.ProtectingPower);
        _fixture.HandOver(Route.NeutralAccommodation);
        Reason By(string who) =>
            what switch
            {
                "status" => _fixture.Try(who, _fixture.StatusRequest(CustodyState.Died, who), Prisoners.RecordStatus),
                "risk" => _fixture.Try(
                    who,
                    new RecordRiskAssessmentRequest(_fixture.RiskRequest()) { Etag = _fixture.Etag(who) },
                    Prisoners.RecordRiskAssessment
                ),
                "fitness" => _fixture.Try(
                    who,
                    new RecordFitnessRequest(_fixture.FitnessRequest()) { Etag = _fixture.Etag(who) },
                    Prisoners.RecordFitness
                ),
                "register" => _fixture.Try(
                    who,
                    new RegisterPrisonerRequest(_fixture.RegisterRequest()) { Etag = _fixture.CaseEtag(who) },
                    Prisoners.RegisterPrisoner
                ),
                "admit" => _fixture.Try(who, _fixture.AdmitRequest(CaseFixture.Ru, Part.RequestingState, who), CaseRules.AdmitParty),
                _ => AdviceTests.Close(_fixture, who),
            };
        Assert.Equal(Reason.NotGranted, By(CaseFixture.Swiss));
        Assert.Equal(what == "close" ? Reason.CustodyNotEnded : Reason.Unspecified, By(CaseFixture.SwissJustice));
        var parts = Cases.PartsOf(_fixture.RuleRunner.Permissions.Participant(CaseFixture.Swiss)!, _fixture.TheCase, CaseFixture.P);
        Assert.Equal([Part.ProtectingPower], parts);
    }

    /// <summary>The consent is that of an observer that does not act for the power that proposes (D19).</summary>
    [Fact]
    public void D19_a_protecting_power_of_the_power_that_holds_them_does_not_consent_to_its_links()
    {
        _fixture.Register(CaseFixture.Q);
        _fixture.Admit(CaseFixture.Swiss, Part.ProtectingPower);
        foreach (var prisoner in (string[])[CaseFixture.P, CaseFixture.Q])
        {
            if (_fixture.TheCase.Parties.All(p => p.Participant != CaseFixture.SwissJustice))
                _fixture.Admit(CaseFixture.SwissJustice, Part.RequestingState);
            _fixture.HandOverFromUkraine(prisoner, Route.NeutralAccommodation);
        }
        var proposed = new LinkDuplicateRequest(_fixture.LinkRequest()) { Etag = _fixture.Etag(CaseFixture.SwissJustice) };
        _fixture.Do(CaseFixture.SwissJustice, proposed, Prisoners.LinkDuplicate);
        Assert.Equal(
            Reason.NotGranted,
            _fixture.Try(CaseFixture.Swiss, _fixture.ConfirmRequest(who: CaseFixture.Swiss), Prisoners.ConfirmDuplicate)
        );
        _fixture.Do(CaseFixture.Icrc, _fixture.ConfirmRequest(), Prisoners.ConfirmDuplicate);
    }

    /// <summary>The power that holds him may not undo the link, so its Protecting Power may not do so for it (D9).</summary>
    [Theory]
    [InlineData(false, CaseFixture.Icrc, Reason.LinkConfirmed)]
    [InlineData(false, CaseFixture.Swiss, Reason.LinkConfirmed)]
    [InlineData(true, CaseFixture.Icrc, Reason.NotCorrectable)]
    public void D19_a_protecting_power_of_the_power_that_holds_him_undoes_no_link(bool heldBefore, string confirms, Reason expected)
    {
        _fixture.Register(CaseFixture.Q);
        _fixture.Admit(CaseFixture.Swiss, Part.ProtectingPower);
        _fixture.Admit(CaseFixture.SwissJustice, Part.RequestingState);
        var holder = heldBefore ? CaseFixture.SwissJustice : CaseFixture.Hq;
        if (heldBefore)
            foreach (var prisoner in (string[])[CaseFixture.P, CaseFixture.Q])
                _fixture.HandOverFromUkraine(prisoner, Route.NeutralAccommodation);
        var proposed = new LinkDuplicateRequest(_fixture.LinkRequest()) { Etag = _fixture.Etag(holder) };
        _fixture.Do(holder, proposed, Prisoners.LinkDuplicate);
        _fixture.Do(confirms, _fixture.ConfirmRequest(who: confirms), Prisoners.ConfirmDuplicate);
        var link = _fixture.Prisoner.Entries.Single(e => e.Confirms).Position;
        if (!heldBefore)
            _fixture.HandOverFromUkraine(CaseFixture.Q, Route.NeutralAccommodation);
        Assert.Equal(!heldBefore, _fixture.Seen(CaseFixture.Swiss).Entries.Any(e => e.Position == link));
        Assert.Equal(expected, _fixture.Try(CaseFixture.Swiss, _fixture.CorrectRequest(link, CaseFixture.Swiss), Prisoners.CorrectRecord));
        _fixture.Correct(link, CaseFixture.Icrc);
        Assert.Equal("", _fixture.Prisoner.DuplicateOf);
    }

    [Fact]
    public void D4_a_power_that_held_him_before_does_not_take_away_his_identity()
    {
        var registration = _fixture.Prisoner.Statuses[0].Position;
        _fixture.HandOver();
        _fixture.Says("CH");
        Assert.True(_fixture.Stands("CH"));
        Assert.Equal(Reason.RequestInvalid, _fixture.Try(CaseFixture.Hq, _fixture.CorrectRequest(registration), Prisoners.CorrectRecord));
        Assert.True(_fixture.Stands("CH"));
        // What was wrong it mends.
        var mended = new CorrectRecordRequest(_fixture.CorrectRequest(registration)) { Identity = CaseFixture.Seal(CaseFixture.Icrc) };
        Assert.Equal(Reason.Unspecified, _fixture.Try(CaseFixture.Hq, mended, Prisoners.CorrectRecord));
    }

    [Fact]
    public void D4_what_a_former_power_proposed_links_nobody_whom_another_power_holds()
    {
        _fixture.Register(CaseFixture.Q);
        _fixture.Do(CaseFixture.Hq, _fixture.LinkRequest(), Prisoners.LinkDuplicate);
        _fixture.HandOver();
        _fixture.HandOverFromUkraine(CaseFixture.Q);
        Assert.Equal(Reason.LinkNotProposed, _fixture.Try(CaseFixture.Icrc, _fixture.ConfirmRequest(), Prisoners.ConfirmDuplicate));
        // The power that holds him proposes it itself.
        var own = new LinkDuplicateRequest(_fixture.LinkRequest()) { Etag = _fixture.Etag(CaseFixture.Kr) };
        Assert.Equal(Reason.Unspecified, _fixture.Try(CaseFixture.Kr, own, Prisoners.LinkDuplicate));
        Assert.Equal(Reason.Unspecified, _fixture.Try(CaseFixture.Icrc, _fixture.ConfirmRequest(), Prisoners.ConfirmDuplicate));
    }

    // ---- records that nobody may lock

    [Fact]
    public void D9_a_state_that_claims_him_takes_no_room_from_what_his_departure_needs()
    {
        var accepted = 0;
        while (accepted < 100)
        {
            var request = _fixture.ClaimRequest(CaseFixture.Kr, "KR", "KR");
            request.Evidence.Content = ByteString.CopyFrom(new byte[65536]);
            var reason = _fixture.Try(CaseFixture.Kr, request, Prisoners.RecordClaim);
            if (reason == Reason.RecordFull)
                break;
            Assert.Equal(Reason.Unspecified, reason);
            accepted++;
        }
        Assert.Equal(4, accepted);
        // Another state learns nothing of it.
        _fixture.Admit(CaseFixture.Ru, Part.RequestingState);
        Assert.Equal(
            Reason.Unspecified,
            _fixture.Try(CaseFixture.Ru, _fixture.ClaimRequest(CaseFixture.Ru, "RU", "RU"), Prisoners.RecordClaim)
        );
        _fixture.Ready();
        Assert.True(_fixture.Stands("KR"));
    }

    /// <summary>Two powers that hold prisoners in a case manage it together.</summary>
    [Fact]
    public void D1_a_power_that_registers_many_and_admits_many_leaves_room_to_the_other_one()
    {
        _fixture.Register(CaseFixture.Q);
        _fixture.HandOver();
        var agreement = CaseFixture.Agreement();
        Participant[] organs = [.. Enumerable.Range(0, CaseRules.MaxParties).Select(i => Organ($"kr/organ-{i}", "KR"))];
        agreement.Participants.Add(organs);
        agreement.Participants.Add(Organ("ua/organ", "UA"));
        _fixture.RuleRunner.Permissions = new(agreement);
        var next = 0;
        Assert.Equal(Prisoners.MaxPrisoners, Accepted(() => Register(CaseFixture.Kr)));
        Assert.Equal(CaseRules.MaxParties - 1, Accepted(() => Admit(CaseFixture.Kr, organs[next++])));
        Assert.Equal(Reason.Unspecified, Register(CaseFixture.Hq));
        Assert.Equal(Reason.Unspecified, Admit(CaseFixture.Hq, agreement.Participants[^1]));

        Reason Register(string who) =>
            _fixture.Try(
                who,
                new RegisterPrisonerRequest(_fixture.RegisterRequest()) { Etag = _fixture.CaseEtag(who) },
                Prisoners.RegisterPrisoner
            );
        Reason Admit(string who, Participant organ) =>
            _fixture.Try(who, _fixture.AdmitRequest(organ.Id, Part.DetainingPower, who), CaseRules.AdmitParty);
        static Participant Organ(string id, string state) =>
            new()
            {
                Id = id,
                Kind = ParticipantKind.Ministry,
                State = state,
            };
    }

    private static int Accepted(Func<Reason> attempt)
    {
        for (var accepted = 0; ; accepted++)
            if (attempt() is var reason && reason != Reason.Unspecified)
            {
                Assert.Equal(Reason.RecordFull, reason);
                return accepted;
            }
    }

    [Fact]
    public void D9_the_power_that_holds_him_leaves_room_for_his_objection_whatever_it_records()
    {
        _fixture.Ready();
        for (var reason = Reason.Unspecified; reason != Reason.RecordFull; )
        {
            var request = _fixture.FitnessRequest();
            request.Findings = new Sealed(CaseFixture.Seal(CaseFixture.Icrc)) { Content = ByteString.CopyFrom(new byte[65536]) };
            reason = _fixture.Try(CaseFixture.Hq, request, Prisoners.RecordFitness);
            Assert.True(reason is Reason.Unspecified or Reason.RecordFull);
        }
        Assert.True(_fixture.Stands("KR"));
        _fixture.RuleRunner.Now = _fixture.RuleRunner.Now.AddHours(1);
        _fixture.Says("UA");
        Assert.False(_fixture.Stands("KR"));
        // That he came to hospital and left custody is recorded too.
        _fixture.Status(CustodyState.Hospitalised);
        Assert.Equal(
            Reason.RecordFull,
            _fixture.Try(CaseFixture.Hq, _fixture.StatusRequest(CustodyState.Interned), Prisoners.RecordStatus)
        );
        AdviceTests.EndCustody(_fixture);
    }

    [Fact]
    public void D9_nobody_takes_the_room_of_another_participants_statements()
    {
        var state = _fixture.Prisoner.Clone();
        var said = new Statement { Participant = CaseFixture.Hq, Language = new string('x', 1 << 10) };
        state.Statements.Add(Enumerable.Repeat(said, 512));
        Assert.True(Prisoners.IsFullOfStatements(state, CaseFixture.Hq));
        Assert.False(Prisoners.IsFullOfStatements(state, CaseFixture.Icrc));
    }

    [Fact]
    public void D10_a_power_that_held_him_before_takes_no_room_from_what_the_next_one_finds()
    {
        for (var reason = Reason.Unspecified; reason != Reason.RecordFull; )
        {
            var request = _fixture.FitnessRequest();
            request.Findings = new Sealed(CaseFixture.Seal(CaseFixture.Icrc)) { Content = ByteString.CopyFrom(new byte[65536]) };
            reason = _fixture.Try(CaseFixture.Hq, request, Prisoners.RecordFitness);
        }
        _fixture.HandOver();
        Assert.Equal(Reason.Unspecified, _fixture.Try(CaseFixture.Kr, _fixture.FitnessRequest(), Prisoners.RecordFitness));
        Assert.Equal(Reason.Unspecified, _fixture.Try(CaseFixture.Kr, _fixture.ProceedingsRequest(), Prisoners.RecordProceedings));
    }

    [Fact]
    public void D14_what_others_claim_and_record_takes_no_room_from_a_notification()
    {
        FillNotifications(CaseFixture.Hq);
        _fixture.HandOver();
        FillFitness(CaseFixture.Kr);
        Assert.Equal(Reason.Unspecified, _fixture.Try(CaseFixture.Kr, Notice(CaseFixture.Kr, 16), Prisoners.NotifyBureau));
    }

    /// <summary>A ledger keeps no state of more than 8 MiB, and refuses whatever would make it larger.</summary>
    [Fact]
    public void D9_D14_whatever_the_powers_of_a_chain_record_what_happens_and_what_he_says_is_recorded()
    {
        _fixture.Admit(CaseFixture.SwissJustice, Part.RequestingState);
        var claim = new Sealed(CaseFixture.Seal(CaseFixture.Icrc)) { Content = Large };
        foreach (var power in (string[])[CaseFixture.Hq, CaseFixture.Kr, CaseFixture.SwissJustice])
        {
            FillFitness(power);
            FillNotifications(power);
            for (var reason = Reason.Unspecified; reason != Reason.RecordFull; )
            {
                var request = _fixture.ClaimRequest(power, _fixture.Prisoner.LastDetainingPower, "KR");
                request.Evidence = claim;
                reason = _fixture.Try(power, request, Prisoners.RecordClaim);
                Assert.True(reason is Reason.Unspecified or Reason.RecordFull);
            }
            if (power == CaseFixture.Hq)
                _fixture.HandOver();
            else if (power == CaseFixture.Kr)
                _fixture.Do(CaseFixture.Consular, _fixture.Confirmed(Route.NeutralAccommodation), Reactions.HandedOver);
        }
        _fixture.Says("CH");
        Assert.True(_fixture.Stands("CH"));
        var mistaken = _fixture.Prisoner.Fitness.Last().Position;
        _fixture.Correct(mistaken, CaseFixture.SwissJustice);
        _fixture.RuleRunner.Now = _fixture.RuleRunner.Now.AddDays(30);
        _fixture.FallDue();
        _fixture.Status(CustodyState.Died);
        Assert.Equal(CustodyState.Died, _fixture.Prisoner.State);
    }

    [Theory]
    [InlineData(5, false)]
    [InlineData(6, true)]
    public void D9_a_whole_record_has_a_limit_that_leaves_room_for_what_is_never_refused(int powers, bool full)
    {
        var state = _fixture.Prisoner.Clone();
        for (var i = 0; i < powers; i++)
            state.Fitness.Add(new Fitness { RecordedFor = $"X{i}", Physician = new string('x', 1 << 20) });
        var context = new RuleContext
        {
            View = new View(),
            Caller = _fixture.RuleRunner.Permissions.Participant(CaseFixture.Hq)!,
            Permissions = _fixture.RuleRunner.Permissions,
            Method = Prisoners.NotifyBureau.Method,
            Now = _fixture.RuleRunner.Now,
            Secrets = Fixtures.Secret.OfTests,
            RequestId = "r",
        };
        Assert.Equal(full, Prisoners.NotifyBureau.Full!(state, new NotifyBureauRequest(), context));
        Assert.Equal(full, Prisoners.RecordFitness.Full!(state, new RecordFitnessRequest(), context));
        Assert.Null(Prisoners.CorrectRecord.Full);
        Assert.False(Prisoners.IsFullOfStatements(state, CaseFixture.Icrc));
    }

    private static ByteString Large { get; } = ByteString.CopyFrom(new byte[65536]);

    // The power records findings until there is no more room for them.
    private void FillFitness(string who)
    {
        for (var reason = Reason.Unspecified; reason != Reason.RecordFull; )
        {
            var request = _fixture.FitnessRequest();
            request.Findings = new Sealed(CaseFixture.Seal(CaseFixture.Icrc)) { Content = Large };
            reason = _fixture.Try(who, request, Prisoners.RecordFitness);
            Assert.True(reason is Reason.Unspecified or Reason.RecordFull);
        }
    }

    private void FillNotifications(string who)
    {
        for (var reason = Reason.Unspecified; reason != Reason.RecordFull; )
        {
            reason = _fixture.Try(who, Notice(who, Large.Length), Prisoners.NotifyBureau);
            Assert.True(reason is Reason.Unspecified or Reason.RecordFull);
        }
    }

    private NotifyBureauRequest Notice(string who, int bytes)
    {
        var request = _fixture.NotifyRequest(0, who);
        request.Data = new Sealed(CaseFixture.Seal(CaseFixture.Icrc)) { Content = ByteString.CopyFrom(new byte[bytes]) };
        if (_fixture.RuleRunner.Permissions.BureauOf(_fixture.Prisoner.LastDetainingPower) is { } bureau && bureau != who)
            request.Data.Recipients.Add(bureau);
        return request;
    }

    [Fact]
    public void D7_no_attendant_takes_the_room_of_another_ones_attestation()
    {
        _fixture.Admit(CaseFixture.Swiss, Part.ProtectingPower);
        var request = _fixture.StatementRequest(CaseFixture.Icrc, "KR");
        request.Interview.Attendants[2].Participant = CaseFixture.Swiss;
        var id = _fixture.Record(request);
        for (var i = 0; i < Statements.MaxAttestations; i++)
        {
            _fixture.Attest(id, AttesterRole.Interviewer);
            _fixture.Do(CaseFixture.Icrc, _fixture.RevokeRequest(id), Statements.RevokeAttestation);
        }
        var again = _fixture.AttestRequest(id, AttesterRole.Interviewer, "i-1");
        Assert.Equal(Reason.RecordFull, _fixture.Try(CaseFixture.Icrc, again, Statements.AttestStatement));
        var other = _fixture.AttestRequest(id, AttesterRole.Observer, "i-3", CaseFixture.Swiss);
        Assert.Equal(Reason.Unspecified, _fixture.Try(CaseFixture.Swiss, other, Statements.AttestStatement));
    }

    [Fact]
    public void A_death_that_was_recorded_by_mistake_before_a_hand_over_is_taken_back_after_it()
    {
        _fixture.Begin();
        _fixture.Status(CustodyState.Died);
        var death = _fixture.Prisoner.Statuses[^1].Position;
        _fixture.HandOver();
        Assert.Equal((CustodyState.Died, ""), (_fixture.Prisoner.State, _fixture.Prisoner.DetainingPower));
        _fixture.Correct(death);
        Assert.Equal(
            (CustodyState.Interned, true, "KR", "KR"),
            (
                _fixture.Prisoner.State,
                _fixture.Prisoner.Held,
                _fixture.Prisoner.DetainingPower,
                _fixture.TheCase.Prisoners[0].DetainingPower
            )
        );
        _fixture.Status(CustodyState.Hospitalised);
    }

    /// <summary>The prisoner is in the hands of the power that took him. That power says whether he lives (D4), and can record what happens
    /// to him.</summary>
    [Fact]
    public void D4_a_power_that_hands_him_over_as_dead_shuts_nobody_out_of_his_record()
    {
        _fixture.Status(CustodyState.Hospitalised);
        var hospital = _fixture.Prisoner.Statuses[^1].Position;
        _fixture.Begin();
        _fixture.Status(CustodyState.Died);
        var death = _fixture.Prisoner.Statuses[^1].Position;
        _fixture.HandOver();
        Assert.Equal(
            Reason.StateNotAllowed,
            _fixture.Try(CaseFixture.Kr, _fixture.StatusRequest(CustodyState.Escaped), Prisoners.RecordStatus)
        );
        Assert.Equal(
            Reason.NotCorrectable,
            _fixture.Try(CaseFixture.Kr, _fixture.CorrectRequest(hospital, CaseFixture.Kr), Prisoners.CorrectRecord)
        );
        Assert.Contains(_fixture.Seen(CaseFixture.Kr).Entries, e => e.Position == death);
        _fixture.Correct(death, CaseFixture.Kr);
        Assert.Equal(
            (CustodyState.Interned, true, "KR", "KR"),
            (
                _fixture.Prisoner.State,
                _fixture.Prisoner.Held,
                _fixture.Prisoner.DetainingPower,
                _fixture.TheCase.Prisoners[0].DetainingPower
            )
        );
        // The other power's notice of the death is no longer owed.
        Assert.DoesNotContain(_fixture.Prisoner.Occurrences, o => o is { Kind: OccurrenceKind.Death, Corrected: false });
        Assert.DoesNotContain(_fixture.Seen(CaseFixture.Kr).Entries, e => e.Position == hospital);
        _fixture.Status(CustodyState.Escaped);
        _fixture.Status(CustodyState.Died);
        // No former power may record that he lives.
        var own = _fixture.Prisoner.Statuses[^1].Position;
        Assert.Equal(Reason.NotCorrectable, _fixture.Try(CaseFixture.Hq, _fixture.CorrectRequest(own), Prisoners.CorrectRecord));
    }

    [Fact]
    public void A_death_that_was_recorded_by_mistake_before_a_departure_leaves_the_departure()
    {
        _fixture.Begin();
        _fixture.Status(CustodyState.Died);
        var death = _fixture.Prisoner.Statuses[^1].Position;
        _fixture.HandOver(Route.Release);
        _fixture.Correct(death);
        Assert.Equal((CustodyState.Released, true, false), (_fixture.Prisoner.State, _fixture.Prisoner.Ended, _fixture.Prisoner.Held));
    }

    /// <summary>Each service decides by its copy of the case (D1).</summary>
    [Fact]
    public void D1_the_dead_are_held_by_no_power_to_which_they_are_handed_over()
    {
        _fixture.Begin();
        _fixture.Status(CustodyState.Died);
        _fixture.HandOver();
        var inCase = _fixture.TheCase.Prisoners.Single();
        Assert.Equal(("", false, "KR"), (inCase.DetainingPower, inCase.Held, inCase.LastDetainingPower));
        var close = new CloseCaseRequest
        {
            Actor = CaseFixture.Actor,
            Etag = _fixture.CaseEtag(CaseFixture.Kr),
            Case = _fixture.Case,
        };
        Assert.Equal(Reason.Unspecified, _fixture.Try(CaseFixture.Kr, close, CaseRules.CloseCase));
    }

    /// <summary>Who opened the case and holds nobody in it any more may claim a man whom the next power registers, as any state
    /// may.</summary>
    [Fact]
    public void D22_a_power_that_never_held_him_is_a_requesting_state_to_him_though_it_held_others()
    {
        _fixture.HandOver();
        var register = new RegisterPrisonerRequest(_fixture.RegisterRequest()) { Etag = _fixture.CaseEtag(CaseFixture.Kr) };
        var (decision, answer) = _fixture.Play(CaseFixture.Kr, register, Prisoners.RegisterPrisoner);
        Assert.Null(decision.Refusal);
        var other = ((RegisterPrisonerResponse)answer!).Prisoner;
        Assert.Equal(
            [Part.RequestingState],
            Cases.PartsOf(_fixture.RuleRunner.Permissions.Participant(CaseFixture.Hq)!, _fixture.TheCase, other)
        );
        var claim = _fixture.ClaimRequest(CaseFixture.Hq, "UA", "UA");
        (claim.Prisoner, claim.Etag) = (other, _fixture.Etag(CaseFixture.Hq, other));
        claim.Evidence = CaseFixture.Seal(CaseFixture.Icrc);
        Assert.Equal(Reason.Unspecified, _fixture.Try(CaseFixture.Hq, claim, Prisoners.RecordClaim));
    }

    /// <summary>The consular service hears of it later, and nobody could end such a journey.</summary>
    [Theory]
    [InlineData(true), InlineData(false)]
    public void D4_a_power_that_has_given_him_back_does_not_set_him_on_the_way(bool returned)
    {
        _fixture.HandOver();
        var answered = _fixture.RuleRunner.Position;
        if (returned)
            _fixture.Return();
        var begun = new Consular.V1.TransitBegun
        {
            Case = _fixture.Case,
            Transfer = "transfer_2",
            Prisoner = CaseFixture.P,
            AcceptingPower = "CH",
            CustodyPosition = answered,
        };
        _fixture.Do(CaseFixture.Consular, begun, Reactions.Departed);
        Assert.Equal(
            returned ? (CustodyState.Interned, 0) : (CustodyState.InTransit, 1),
            (_fixture.Prisoner.State, _fixture.Prisoner.Journeys.Count)
        );
    }

    [Fact]
    public void D4_a_power_that_held_him_before_makes_no_minor_an_adult()
    {
        var registration = _fixture.Prisoner.Statuses[0].Position;
        _fixture.HandOver();
        _fixture.Says("CH");
        Correct(CaseFixture.Kr, under18: true);
        Assert.False(_fixture.Stands("CH"));
        Correct(CaseFixture.Hq, under18: false);
        Assert.Equal((true, false), (_fixture.Prisoner.Under18, _fixture.Stands("CH")));
        // Nor does it make an adult a minor, whose word would not stand.
        Correct(CaseFixture.Kr, under18: false);
        Correct(CaseFixture.Hq, under18: true);
        Assert.Equal((false, true), (_fixture.Prisoner.Under18, _fixture.Stands("CH")));

        void Correct(string who, bool under18) =>
            _fixture.Do(
                who,
                new CorrectRecordRequest(_fixture.CorrectRequest(registration, who))
                {
                    Identity = CaseFixture.Seal(CaseFixture.Icrc),
                    Under18 = under18,
                },
                Prisoners.CorrectRecord
            );
    }

    /// <summary>Whether somebody claimed him for a state since, and for which, is nothing that a refusal tells (D22).</summary>
    [Theory]
    [InlineData(CaseFixture.Swiss)]
    [InlineData(CaseFixture.SwissJustice)]
    public void D22_a_power_that_held_him_before_does_not_tell_from_a_refusal_who_claims_him(string recipient)
    {
        Assert.Equal(Notified(claimed: false), Notified(claimed: true));

        Reason Notified(bool claimed)
        {
            var fixture = new CaseFixture();
            fixture.Register();
            fixture.HandOver();
            if (claimed)
                fixture.Do(CaseFixture.Kr, fixture.ClaimRequest(CaseFixture.Kr, "KR", "CH"), Prisoners.RecordClaim);
            var owed = fixture.Prisoner.Occurrences.Single(o => o is { Kind: OccurrenceKind.Transfer, OwedBy: "UA" });
            var request = fixture.ReleaseRequest(owed.Occurrence_);
            request.Data = CaseFixture.Seal(CaseFixture.Icrc, recipient);
            request.Releases.Add(new Release { Recipient = recipient, Reason = "article-122" });
            return fixture.Try(CaseFixture.Hq, request, Prisoners.NotifyBureau);
        }
    }

    [Fact]
    public void An_escape_on_the_way_that_was_none_leaves_nobody_in_transit_once_the_hand_over_is_aborted()
    {
        _fixture.Begin();
        _fixture.Status(CustodyState.Escaped);
        var escape = _fixture.Prisoner.Statuses[^1].Position;
        _fixture.Abort();
        Assert.Equal(CustodyState.Escaped, _fixture.Prisoner.State);
        _fixture.Correct(escape);
        Assert.Equal((CustodyState.Interned, true), (_fixture.Prisoner.State, _fixture.Prisoner.Held));
    }

    [Fact]
    public void A_fact_is_recorded_at_whatever_time_it_happened()
    {
        var request = _fixture.StatusRequest(CustodyState.Died);
        request.StatusTime = _fixture.Ago(1001);
        var recorded = _fixture.Do(CaseFixture.Hq, request, Prisoners.RecordStatus);
        Assert.Equal([Invariant.D1], ((StatusRecorded)recorded.Changes[0].Event).Breaches);
    }

    // ---- his word (D7, D9)

    [Fact]
    public void D9_a_word_after_a_statement_that_was_erased_counts_again()
    {
        var state = _fixture.Prisoner.Clone();
        var erased = new StatementRecorded
        {
            Case = _fixture.Case,
            Prisoner = CaseFixture.P,
            Statement = "statement_x",
            DetainingPower = "UA",
            ExpireTime = _fixture.In(1),
        };
        Prisoners.Kind.Apply(state, erased, new FoldedEntry(99, _fixture.Ago(2), CaseFixture.Icrc, "r", null));
        _fixture.Says("KR");
        state.Statements.Add(_fixture.Prisoner.Statements);
        Assert.Equal(Standing.InForce, StandingOf(state));
        state.Statements[1].StatementTime = _fixture.Ago(3);
        Assert.Equal(Standing.NotInForce, StandingOf(state));
    }

    [Fact]
    public void D7_a_power_does_not_do_without_the_guardian_by_calling_the_minor_an_adult()
    {
        var registration = _fixture.Prisoner.Statuses[0].Position;
        Register(under18: true);
        var request = _fixture.StatementRequest(CaseFixture.Icrc, "KR");
        request.Interview.Attendants.Add(
            new Attendant
            {
                Role = AttesterRole.Guardian,
                Participant = CaseFixture.Icrc,
                Official = "i-4",
            }
        );
        _fixture.Attest(_fixture.Record(request), AttesterRole.Interviewer, AttesterRole.Interpreter, AttesterRole.Observer);
        Assert.False(_fixture.Stands("KR"));
        Register(under18: false);
        Assert.False(_fixture.Stands("KR"));

        void Register(bool under18) =>
            _fixture.Do(
                CaseFixture.Hq,
                new CorrectRecordRequest(_fixture.CorrectRequest(registration))
                {
                    Identity = CaseFixture.Seal(CaseFixture.Icrc),
                    Under18 = under18,
                },
                Prisoners.CorrectRecord
            );
    }

    [Fact]
    public void D7_every_power_of_origin_that_was_named_is_one_whose_officials_are_witnesses()
    {
        var notice = _fixture.NotifyRequest(1);
        notice.PowersOfOrigin.Add("RU");
        _fixture.Do(CaseFixture.Hq, notice, Prisoners.NotifyBureau);
        var request = _fixture.StatementRequest(CaseFixture.Icrc, "KR");
        request.Interview.Attendants[1].Participant = CaseFixture.Ru;
        Assert.Equal(Reason.WitnessOfAParty, _fixture.Try(CaseFixture.Icrc, request, Statements.RecordStatement));
    }

    // ---- clocks (D14)

    [Fact]
    public void D14_a_finding_that_ended_the_clock_and_is_corrected_gains_no_time()
    {
        Examine(serious: true);
        Examine(serious: false);
        _fixture.Do(CaseFixture.Hq, new NotifyBureauRequest(_fixture.ReleaseRequest(0)) { HealthReport = true }, Prisoners.NotifyBureau);
        Assert.Null(_fixture.Prisoner.HealthDueTime);
        var due = _fixture.RuleRunner.Now.AddDays(7);
        _fixture.RuleRunner.Now = _fixture.RuleRunner.Now.AddDays(30);
        _fixture.Correct(_fixture.Prisoner.Fitness[^1].Position);
        Assert.Equal((true, due), (_fixture.Prisoner.Serious, _fixture.Prisoner.HealthDueTime?.ToDateTimeOffset()));
    }

    // ---- what others can tell (D16, D22)

    [Fact]
    public void D22_that_a_departure_went_against_his_word_is_told_to_the_power_and_the_observers_alone()
    {
        Invariant[] all = [Invariant.D2, Invariant.D9, Invariant.D10, Invariant.D11];
        var request = _fixture.StatusRequest(CustodyState.Repatriated, null, all);
        var recorded = _fixture.Do(CaseFixture.Hq, request, Prisoners.RecordStatus);
        Assert.NotEmpty(((StatusRecorded)recorded.Changes[0].Event).Breaches);
        Assert.DoesNotContain(recorded.Audience, _fixture.Reader(CaseFixture.Kr).Tokens.Contains);
        Assert.Contains(recorded.Audience, _fixture.Reader(CaseFixture.Icrc).Tokens.Contains);
        Assert.Equal("", _fixture.Seen(CaseFixture.Kr).DetainingPower);
    }

    private void Examine(bool serious) =>
        _fixture.Do(
            CaseFixture.Hq,
            new RecordFitnessRequest(_fixture.FitnessRequest(false)) { Serious = serious },
            Prisoners.RecordFitness
        );

    private Standing StandingOf(Prisoner state) => _fixture.StandingFor([state], "KR").Standing;
}
