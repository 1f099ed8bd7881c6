using Ministries.Custody.V1;
using Ministries.Errors.V1;
using Ministries.Types.V1;
using Route = Ministries.Types.V1.Route;

namespace Ministries.Custody.Tests;

/// <summary>Two references of one person (D19): a link needs two officials and an observer, loses no mark and can be undone.</summary>
public class DuplicateTests
{
    private readonly CaseFixture _fixture = new();

    public DuplicateTests()
    {
        _fixture.Register();
        _fixture.Register(CaseFixture.Q);
    }

    private Prisoner Kept => _fixture.PrisonerOf(CaseFixture.Q);

    [Fact]
    public void A_proposal_changes_nothing_and_is_shown_to_the_power_and_the_observers_alone()
    {
        _fixture.Says("KR");
        var stranger = (_fixture.Etag(CaseFixture.Kr), _fixture.Etag(CaseFixture.Kr, CaseFixture.Q));
        var proposed = _fixture.Do(CaseFixture.Hq, _fixture.LinkRequest(), Prisoners.LinkDuplicate);
        Assert.IsType<DuplicateProposed>(Assert.Single(proposed.Changes).Event);
        Assert.DoesNotContain(proposed.Audience, _fixture.Reader(CaseFixture.Kr).Tokens.Contains);
        Assert.Equal(
            ("", true, "UA", true),
            (_fixture.Prisoner.DuplicateOf, _fixture.Prisoner.Held, _fixture.Prisoner.DetainingPower, _fixture.TheCase.Prisoners[0].Held)
        );
        Assert.Empty(Kept.Duplicates);
        Assert.Equal(Standing.NotInForce, StandingOfKept());
        foreach (var reference in (string[])[CaseFixture.P, CaseFixture.Q])
        {
            Assert.Single(_fixture.Seen(CaseFixture.Hq, reference).DuplicateProposals);
            Assert.Single(_fixture.Seen(CaseFixture.Icrc, reference).DuplicateProposals);
            Assert.Empty(_fixture.Seen(CaseFixture.Kr, reference).DuplicateProposals);
        }
        Assert.Equal(stranger, (_fixture.Etag(CaseFixture.Kr), _fixture.Etag(CaseFixture.Kr, CaseFixture.Q)));
        Assert.Equal(Reason.LinkAlreadyProposed, _fixture.Try(CaseFixture.Hq, _fixture.LinkRequest(), Prisoners.LinkDuplicate));
    }

    [Fact]
    public void A_proposal_needs_a_second_official()
    {
        _fixture.RuleRunner.Approved = new HashSet<string> { CaseFixture.Actor.Official };
        Assert.Equal(Reason.ApprovalsMissing, _fixture.Try(CaseFixture.Hq, _fixture.LinkRequest(), Prisoners.LinkDuplicate));
        _fixture.RuleRunner.Approved = new HashSet<string> { "o-17" };
        Assert.Equal(Reason.Unspecified, _fixture.Try(CaseFixture.Hq, _fixture.LinkRequest(), Prisoners.LinkDuplicate));
    }

    [Theory]
    [InlineData(CaseFixture.Hq, Reason.NotGranted)]
    [InlineData(CaseFixture.Kr, Reason.NotGranted)]
    [InlineData(CaseFixture.Icrc, Reason.Unspecified)]
    [InlineData(CaseFixture.Swiss, Reason.Unspecified)]
    public void An_observer_that_is_party_to_the_case_confirms_it(string who, Reason expected)
    {
        _fixture.Admit(CaseFixture.Swiss, Part.ProtectingPower);
        Assert.Equal(
            expected == Reason.Unspecified ? Reason.LinkNotProposed : expected,
            _fixture.Try(who, _fixture.ConfirmRequest(who: who), Prisoners.ConfirmDuplicate)
        );
        _fixture.Do(CaseFixture.Hq, _fixture.LinkRequest(), Prisoners.LinkDuplicate);
        Assert.Equal(expected, _fixture.Try(who, _fixture.ConfirmRequest(who: who), Prisoners.ConfirmDuplicate));
        Assert.Equal(expected == Reason.Unspecified ? CaseFixture.Q : "", _fixture.Prisoner.DuplicateOf);
    }

    [Fact]
    public void He_saw_both_records_as_they_are()
    {
        _fixture.Do(CaseFixture.Hq, _fixture.LinkRequest(), Prisoners.LinkDuplicate);
        foreach (var stale in (Action<ConfirmDuplicateRequest>[])[r => r.Etag = "another", r => r.SameAsEtag = "another"])
        {
            var request = _fixture.ConfirmRequest();
            stale(request);
            Assert.Equal(Reason.Stale, _fixture.Try(CaseFixture.Icrc, request, Prisoners.ConfirmDuplicate));
        }
        // The other way round nobody proposed it.
        Assert.Equal(
            Reason.LinkNotProposed,
            _fixture.Try(CaseFixture.Icrc, _fixture.ConfirmRequest(CaseFixture.Q, CaseFixture.P), Prisoners.ConfirmDuplicate)
        );
    }

    [Fact]
    public void What_he_said_under_either_reference_counts_and_the_duplicate_is_no_longer_kept()
    {
        _fixture.Says("KR");
        _fixture.Link();
        Assert.Equal((CaseFixture.Q, false, ""), (_fixture.Prisoner.DuplicateOf, _fixture.Prisoner.Held, _fixture.Prisoner.DetainingPower));
        Assert.False(_fixture.TheCase.Prisoners[0].Held);
        Assert.Equal([CaseFixture.P], Kept.Duplicates);
        Assert.Equal(Standing.InForce, StandingOfKept());
        Assert.Equal(
            Reason.DuplicateRecord,
            _fixture.Try(CaseFixture.Hq, _fixture.StatusRequest(CustodyState.Hospitalised), Prisoners.RecordStatus)
        );
        Assert.Equal(
            Reason.DuplicateRecord,
            _fixture.Try(CaseFixture.Hq, _fixture.LinkRequest(CaseFixture.Q, CaseFixture.P), Prisoners.LinkDuplicate)
        );
        Assert.Equal(Reason.DuplicateRecord, _fixture.Try(CaseFixture.Icrc, _fixture.ConfirmRequest(), Prisoners.ConfirmDuplicate));
    }

    [Fact]
    public void The_observer_undoes_the_link_and_the_first_record_is_as_it_was()
    {
        _fixture.Says("KR");
        var request = _fixture.StatusRequest(CustodyState.Hospitalised);
        request.Serious = true;
        _fixture.Do(CaseFixture.Hq, request, Prisoners.RecordStatus);
        var before = (_fixture.Prisoner.State, _fixture.Prisoner.Held, _fixture.Prisoner.Ended, _fixture.Prisoner.DetainingPower);
        var (serious, due) = (_fixture.Prisoner.Serious, _fixture.Prisoner.HealthDueTime);
        _fixture.Link();
        _fixture.Correct(MarkOf(CaseFixture.Icrc), CaseFixture.Icrc);
        Assert.Equal("", _fixture.Prisoner.DuplicateOf);
        Assert.Equal(before, (_fixture.Prisoner.State, _fixture.Prisoner.Held, _fixture.Prisoner.Ended, _fixture.Prisoner.DetainingPower));
        Assert.Equal((serious, due), (_fixture.Prisoner.Serious, _fixture.Prisoner.HealthDueTime));
        Assert.Empty(Kept.Duplicates);
        Assert.Equal(Standing.NotInForce, StandingOfKept());
        Assert.Equal((true, "UA"), (_fixture.TheCase.Prisoners[0].Held, _fixture.TheCase.Prisoners[0].DetainingPower));
        Assert.Equal((1, 1), (_fixture.Prisoner.DuplicateProposals.Count, Kept.DuplicateProposals.Count));
        // The proposal stands: the power that made it takes it back, or it is confirmed again.
        Assert.Equal(Reason.Unspecified, _fixture.Try(CaseFixture.Icrc, _fixture.ConfirmRequest(), Prisoners.ConfirmDuplicate));
    }

    [Fact]
    public void The_power_that_holds_him_does_not_undo_a_link_alone_and_so_hide_what_he_said()
    {
        _fixture.Says("UA");
        _fixture.Link();
        var proposal = MarkOf(CaseFixture.Hq);
        Assert.Equal(Reason.LinkConfirmed, _fixture.Try(CaseFixture.Hq, _fixture.CorrectRequest(proposal), Prisoners.CorrectRecord));
        _fixture.Correct(MarkOf(CaseFixture.Icrc), CaseFixture.Icrc);
        Assert.Equal(Reason.Unspecified, _fixture.Try(CaseFixture.Hq, _fixture.CorrectRequest(proposal), Prisoners.CorrectRecord));
    }

    private ulong MarkOf(string who) =>
        _fixture.Prisoner.Entries.Single(e => !e.Corrected && e.OtherPrisoner == CaseFixture.Q && e.Participant == who).Position;

    [Fact]
    public void Nobody_is_linked_on_the_way()
    {
        _fixture.Do(CaseFixture.Hq, _fixture.LinkRequest(), Prisoners.LinkDuplicate);
        _fixture.Begin();
        Assert.Equal(Reason.StateNotAllowed, _fixture.Try(CaseFixture.Icrc, _fixture.ConfirmRequest(), Prisoners.ConfirmDuplicate));
        _fixture.Abort();
        Assert.Equal(Reason.Unspecified, _fixture.Try(CaseFixture.Icrc, _fixture.ConfirmRequest(), Prisoners.ConfirmDuplicate));
    }

    [Fact]
    public void A_proposal_is_taken_back_without_a_word_to_others()
    {
        _fixture.Do(CaseFixture.Hq, _fixture.LinkRequest(), Prisoners.LinkDuplicate);
        var position = _fixture.Prisoner.Entries.Single(e => e.OtherPrisoner == CaseFixture.Q).Position;
        var taken = _fixture.Do(CaseFixture.Hq, _fixture.CorrectRequest(position), Prisoners.CorrectRecord);
        Assert.DoesNotContain(taken.Audience, _fixture.Reader(CaseFixture.Kr).Tokens.Contains);
        Assert.Empty(_fixture.Prisoner.DuplicateProposals);
        Assert.Empty(Kept.DuplicateProposals);
        Assert.Equal(Reason.LinkNotProposed, _fixture.Try(CaseFixture.Icrc, _fixture.ConfirmRequest(), Prisoners.ConfirmDuplicate));
        Assert.Equal(Reason.Unspecified, _fixture.Try(CaseFixture.Hq, _fixture.LinkRequest(), Prisoners.LinkDuplicate));
    }

    [Theory]
    [InlineData(CustodyState.Died, OccurrenceKind.Death)]
    [InlineData(CustodyState.Escaped, OccurrenceKind.Escape)]
    public void A_fact_under_the_reference_that_is_no_longer_kept_is_recorded(CustodyState fact, OccurrenceKind kind)
    {
        _fixture.Link();
        var recorded = _fixture.Do(CaseFixture.Hq, _fixture.StatusRequest(fact), Prisoners.RecordStatus);
        Assert.Empty(((StatusRecorded)recorded.Changes[0].Event).Breaches);
        Assert.Equal(
            (fact, false, true, CaseFixture.Q),
            (_fixture.Prisoner.State, _fixture.Prisoner.Held, _fixture.Prisoner.Ended, _fixture.Prisoner.DuplicateOf)
        );
        Assert.Contains(_fixture.Prisoner.Occurrences, o => o.Kind == kind && o is { Corrected: false, Notification: "" });
        if (fact == CustodyState.Escaped)
        {
            _fixture.Status(CustodyState.Recaptured);
            Assert.Equal((CustodyState.Recaptured, false), (_fixture.Prisoner.State, _fixture.Prisoner.Held));
            Assert.False(_fixture.TheCase.Prisoners[0].Held);
        }
        _fixture.Correct(MarkOf(CaseFixture.Icrc), CaseFixture.Icrc);
        Assert.Equal(fact == CustodyState.Escaped, _fixture.Prisoner.Held);
        Assert.Equal(fact == CustodyState.Died, _fixture.Prisoner.Ended);
    }

    /// <summary>What happened to the person happened to him under the kept reference, too.</summary>
    [Theory]
    [InlineData(CustodyState.Died)]
    [InlineData(CustodyState.Escaped)]
    public void A_fact_under_the_reference_that_is_no_longer_kept_reaches_the_one_that_is(CustodyState fact)
    {
        _fixture.Says("KR");
        _fixture.Link();
        var recorded = _fixture.Do(CaseFixture.Hq, _fixture.StatusRequest(fact), Prisoners.RecordStatus);
        Assert.Equal((fact, false, fact == CustodyState.Died), (Kept.State, Kept.Held, Kept.Ended));
        Assert.Equal((false, fact == CustodyState.Died ? "" : "UA"), (_fixture.TheCase.Prisoners[1].Held, Kept.DetainingPower));
        Assert.Contains(recorded.Changes, c => c.Event is StatusRecorded { Prisoner: CaseFixture.Q, Held: false });
        // Notice of it is owed once.
        Assert.DoesNotContain(Kept.Occurrences, o => o.Kind is OccurrenceKind.Death or OccurrenceKind.Escape);
        var position = _fixture.Prisoner.Statuses[^1].Position;
        if (fact == CustodyState.Escaped)
        {
            _fixture.Status(CustodyState.Recaptured);
            Assert.Equal((CustodyState.Recaptured, true), (Kept.State, Kept.Held));
            position = _fixture.Prisoner.Statuses[^1].Position;
        }
        _fixture.Correct(position);
        Assert.Equal(
            fact == CustodyState.Died ? (CustodyState.Interned, true, false) : (CustodyState.Escaped, false, false),
            (Kept.State, Kept.Held, Kept.Ended)
        );
        Assert.Equal(Kept.Held, _fixture.TheCase.Prisoners[1].Held);
    }

    [Fact]
    public void Once_the_link_is_undone_it_was_another_man_who_died()
    {
        _fixture.Link();
        _fixture.Status(CustodyState.Died);
        _fixture.Correct(MarkOf(CaseFixture.Icrc), CaseFixture.Icrc);
        Assert.Equal((CustodyState.Died, true), (_fixture.Prisoner.State, _fixture.Prisoner.Ended));
        Assert.Equal((CustodyState.Interned, true, false, "UA"), (Kept.State, Kept.Held, Kept.Ended, Kept.DetainingPower));
        Assert.Equal((false, true), (_fixture.TheCase.Prisoners[0].Held, _fixture.TheCase.Prisoners[1].Held));
    }

    /// <summary>Only the power that holds him writes his status (D4).</summary>
    [Theory]
    [InlineData(CustodyState.Died)]
    [InlineData(CustodyState.Escaped)]
    public void A_power_that_handed_him_over_records_no_fact_of_him_under_the_reference_that_is_no_longer_kept(CustodyState fact)
    {
        _fixture.Link();
        HandOverKept();
        var request = _fixture.StatusRequest(fact);
        request.EscapeSucceeded = fact == CustodyState.Escaped;
        _fixture.Do(CaseFixture.Hq, request, Prisoners.RecordStatus);
        Assert.Equal(fact, _fixture.Prisoner.State);
        Assert.Equal((CustodyState.Interned, true, false, "KR"), (Kept.State, Kept.Held, Kept.Ended, Kept.DetainingPower));
        Assert.Equal((true, "KR"), (_fixture.TheCase.Prisoners[1].Held, _fixture.TheCase.Prisoners[1].DetainingPower));
    }

    /// <summary>What he said under the reference that is no longer kept goes on to count (D9).</summary>
    [Fact]
    public void The_correction_of_a_fact_ends_no_link_that_was_made_anew_after_it()
    {
        _fixture.Link();
        _fixture.Status(CustodyState.Escaped);
        var escaped = _fixture.Prisoner.Statuses[^1].Position;
        _fixture.Status(CustodyState.Recaptured);
        _fixture.Correct(MarkOf(CaseFixture.Icrc), CaseFixture.Icrc);
        _fixture.Do(CaseFixture.Icrc, _fixture.ConfirmRequest(), Prisoners.ConfirmDuplicate);
        _fixture.Correct(escaped);
        Assert.Equal((CaseFixture.Q, CaseFixture.P), (_fixture.Prisoner.DuplicateOf, Assert.Single(Kept.Duplicates)));
        Assert.Equal((CustodyState.Interned, true), (Kept.State, Kept.Held));
    }

    [Fact]
    public void Once_the_link_is_undone_it_was_another_mans_confinement_that_the_hand_over_ended()
    {
        var request = _fixture.ProceedingsRequest(false, "");
        request.ConfinedSinceTime = _fixture.Ago(0);
        _fixture.Do(CaseFixture.Hq, request, Prisoners.RecordProceedings);
        _fixture.Link();
        HandOverKept();
        Assert.NotNull(_fixture.Prisoner.Proceedings[0].CustodyPassTime);
        _fixture.Correct(MarkOf(CaseFixture.Icrc), CaseFixture.Icrc);
        Assert.Null(_fixture.Prisoner.Proceedings[0].CustodyPassTime);
        _fixture.HandOver();
        Assert.NotNull(_fixture.Prisoner.Proceedings[0].CustodyPassTime);
    }

    private void HandOverKept()
    {
        _fixture.HandOverFromUkraine(CaseFixture.Q);
        Assert.Equal("KR", Kept.LastDetainingPower);
    }

    [Fact]
    public void A_dead_man_is_not_one_who_lives()
    {
        _fixture.Do(CaseFixture.Hq, _fixture.LinkRequest(), Prisoners.LinkDuplicate);
        _fixture.Status(CustodyState.Died);
        Assert.Equal(Reason.StateNotAllowed, _fixture.Try(CaseFixture.Icrc, _fixture.ConfirmRequest(), Prisoners.ConfirmDuplicate));
        _fixture.Do(CaseFixture.Hq, _fixture.DeathOfQ(), Prisoners.RecordStatus);
        Assert.Equal(Reason.Unspecified, _fixture.Try(CaseFixture.Icrc, _fixture.ConfirmRequest(), Prisoners.ConfirmDuplicate));
    }

    /// <summary>The observer that confirmed it may have left.</summary>
    [Fact]
    public void Any_observer_of_the_case_undoes_a_link_and_finds_its_entry()
    {
        _fixture.Admit(CaseFixture.Swiss, Part.ProtectingPower);
        _fixture.Link();
        var confirmed = MarkOf(CaseFixture.Icrc);
        Assert.Equal([confirmed], _fixture.Seen(CaseFixture.Swiss).Entries.Select(e => e.Position));
        Assert.DoesNotContain(_fixture.Seen(CaseFixture.Hq).Entries, e => e.Position == confirmed);
        Assert.Equal(
            Reason.NotCorrectable,
            _fixture.Try(CaseFixture.Swiss, _fixture.CorrectRequest(MarkOf(CaseFixture.Hq), CaseFixture.Swiss), Prisoners.CorrectRecord)
        );
        Assert.Equal(Reason.NotCorrectable, _fixture.Try(CaseFixture.Hq, _fixture.CorrectRequest(confirmed), Prisoners.CorrectRecord));
        _fixture.Correct(confirmed, CaseFixture.Swiss);
        Assert.Equal(("", true), (_fixture.Prisoner.DuplicateOf, _fixture.Prisoner.Held));
    }

    /// <summary>What was recorded under the linked reference runs on until custody has ended under the kept one.</summary>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_link_stops_neither_the_clock_of_confinement_nor_the_end_of_a_validity(bool ends)
    {
        _fixture.Says("KR");
        var request = _fixture.ProceedingsRequest(false, "");
        request.ConfinedSinceTime = _fixture.Ago(0);
        _fixture.Do(CaseFixture.Hq, request, Prisoners.RecordProceedings);
        var begun = _fixture.RuleRunner.Now;
        _fixture.Link();
        if (ends)
            _fixture.Do(CaseFixture.Hq, _fixture.DeathOfQ(), Prisoners.RecordStatus);
        _fixture.RuleRunner.Now = begun.AddDays(100);
        // The clock of confinement is the person's, and runs under the reference that is kept.
        foreach (var reference in (string[])[CaseFixture.P, CaseFixture.Q, CaseFixture.Q])
            _fixture.FallDue(reference);
        var fell = _fixture.RuleRunner.Events.OfType<Custody.V1.DutyFellDue>().Select(e => e.Duty).ToHashSet();
        Assert.Equal(!ends, fell.Contains(Duties.Confinement));
        Assert.Equal(!ends, fell.Contains(Duties.Validity));
    }

    /// <summary>He is one man: nobody holds him under one reference while another power does under the other (D1).</summary>
    [Theory]
    [InlineData(Route.Article12Transfer)]
    [InlineData(Route.Release)]
    public void A_hand_over_under_the_reference_that_is_no_longer_kept_is_one_of_the_person(Route route)
    {
        _fixture.Link();
        var breaches = _fixture.HandOver(route).Changes[0].Event;
        Assert.True(_fixture.Prisoner is { Held: false, DetainingPower: "", DuplicateOf: CaseFixture.Q });
        if (route == Route.Release)
        {
            Assert.Equal((CustodyState.Released, true, ""), (Kept.State, Kept.Ended, Kept.DetainingPower));
            Assert.NotEmpty(Assert.IsType<DepartureRecorded>(breaches).Breaches);
        }
        else
        {
            Assert.Equal((CustodyState.Interned, true, "KR"), (Kept.State, Kept.Held, Kept.DetainingPower));
            Assert.NotEmpty(Assert.IsType<CustodyTransferred>(breaches).Breaches);
        }
        Assert.Equal(
            ["", Kept.DetainingPower],
            _fixture.TheCase.Prisoners.OrderBy(p => p.Prisoner == CaseFixture.Q).Select(p => p.DetainingPower)
        );
    }

    [Fact]
    public void Who_was_handed_over_under_a_reference_that_is_no_longer_kept_is_returned_under_the_one_that_is()
    {
        _fixture.HandOver();
        HandOverKept();
        var linked = new LinkDuplicateRequest(_fixture.LinkRequest()) { Etag = _fixture.Etag(CaseFixture.Kr) };
        _fixture.Do(CaseFixture.Kr, linked, Prisoners.LinkDuplicate);
        _fixture.Do(CaseFixture.Icrc, _fixture.ConfirmRequest(), Prisoners.ConfirmDuplicate);
        _fixture.Return();
        Assert.Equal(("UA", true), (Kept.DetainingPower, Kept.Held));
        Assert.Equal(("", false), (_fixture.Prisoner.DetainingPower, _fixture.Prisoner.Held));
    }

    /// <summary>The power still answers for its transfer (12(3)), under whichever reference the prisoner is held.</summary>
    [Theory]
    [InlineData(false), InlineData(true)]
    public void The_power_that_transferred_him_stays_in_the_case_though_he_is_kept_under_another_reference(bool linked)
    {
        _fixture.HandOver();
        // The power that took him registers him anew.
        var registered = new RegisterPrisonerRequest(_fixture.RegisterRequest()) { Etag = _fixture.CaseEtag(CaseFixture.Kr) };
        var kept = ((RegisterPrisonerResponse)_fixture.Play(CaseFixture.Kr, registered, Prisoners.RegisterPrisoner).Answer!).Prisoner;
        _fixture.Do(CaseFixture.Hq, _fixture.DeathOfQ(), Prisoners.RecordStatus);
        if (linked)
        {
            var link = new LinkDuplicateRequest(_fixture.LinkRequest(kept: kept)) { Etag = _fixture.Etag(CaseFixture.Kr) };
            _fixture.Do(CaseFixture.Kr, link, Prisoners.LinkDuplicate);
            _fixture.Do(CaseFixture.Icrc, _fixture.ConfirmRequest(kept: kept), Prisoners.ConfirmDuplicate);
            Assert.Equal("", _fixture.Prisoner.DetainingPower);
        }
        foreach (var reference in (string[])[CaseFixture.P, CaseFixture.Q])
        foreach (var owed in _fixture.PrisonerOf(reference).Occurrences.Where(o => o.OwedBy == "UA").ToArray())
        {
            var notice = _fixture.NotifyRequest(owed.Occurrence_);
            (notice.Prisoner, notice.Etag) = (reference, _fixture.Etag(CaseFixture.Hq, reference));
            _fixture.Do(CaseFixture.Hq, notice, Prisoners.NotifyBureau);
        }
        Assert.Equal(Reason.Unspecified, AdviceTests.Remove(_fixture, CaseFixture.Mfa));
        Assert.Equal(Reason.PartyNeeded, AdviceTests.Remove(_fixture, CaseFixture.Hq));
    }

    // The parts of a record that are about the prisoner with this reference.
    private static string[] Of(CaseFixture f, string reference)
    {
        var record = f.PrisonerOf(reference);
        var held = f.TheCase.Prisoners.Single(p => p.Prisoner == reference);
        return
        [
            $"{record.State} held {record.Held} ended {record.Ended} health {record.HealthDueTime}",
            $"{record.DetainingPower} {record.LastDetainingPower} {record.TransferringPower} [{string.Join(' ', record.FormerPowers)}]",
            $"{held.DetainingPower} {held.LastDetainingPower} {held.TransferringPower} [{string.Join(' ', held.FormerPowers)}] {held.Held}",
            .. record.Statuses.Where(s => !s.Corrected).Select(s => $"{s.State} {s.Time} {s.RecordedFor} {s.Ended} {s.PassedTo}"),
            .. record
                .Occurrences.Where(o => !o.Corrected)
                .Select(o =>
                    $"{o.Kind} {o.OwedBy} {(o.Kind is OccurrenceKind.Capture or OccurrenceKind.CaptureCard or OccurrenceKind.HospitalAdmission ? o.DueTime : null)}"
                ),
            .. record.Proceedings.Where(p => p.RecordedUnder.Length == 0).Select(p => $"confined until {p.CustodyPassTime}"),
        ];
    }

    private static void HandOver(
        CaseFixture f,
        string reference,
        string from = "UA",
        string to = "KR",
        Route route = Route.Article12Transfer
    )
    {
        f.RuleRunner.Now = f.RuleRunner.Now.AddHours(1);
        f.Do(
            CaseFixture.Consular,
            new Consular.V1.HandoverConfirmed(f.Confirmed(route, to))
            {
                Prisoner = reference,
                FromPower = from,
                DetainingParticipant = from == "UA" ? CaseFixture.Mfa : CaseFixture.Kr,
                AcceptingParticipant = to == "CH" ? CaseFixture.SwissJustice : CaseFixture.Kr,
            },
            Reactions.HandedOver
        );
    }

    private static readonly Dictionary<string, Action<CaseFixture>> ByBothSides = new()
    {
        ["a transfer"] = f => HandOver(f, CaseFixture.P),
        ["accommodation"] = f => HandOver(f, CaseFixture.P, to: "CH", route: Route.NeutralAccommodation),
        ["a release"] = f => HandOver(f, CaseFixture.P, route: Route.Release),
        ["a repatriation"] = f => HandOver(f, CaseFixture.P, route: Route.Repatriation),
        ["an exchange"] = f => HandOver(f, CaseFixture.P, route: Route.Exchange),
        ["a transfer and on"] = f =>
        {
            HandOver(f, CaseFixture.P);
            HandOver(f, CaseFixture.P, "KR", "CH", Route.NeutralAccommodation);
        },
        ["a transfer and home"] = f =>
        {
            HandOver(f, CaseFixture.P);
            HandOver(f, CaseFixture.P, "KR", "KR", Route.Repatriation);
        },
        ["a transfer and back"] = f =>
        {
            HandOver(f, CaseFixture.P);
            f.Return();
        },
        ["a transfer of the other"] = f => HandOver(f, CaseFixture.Q),
        ["a release of the other"] = f => HandOver(f, CaseFixture.Q, route: Route.Release),
        ["a transfer after a release"] = f =>
        {
            Invariant[] all = [Invariant.D2, Invariant.D9, Invariant.D10, Invariant.D11, Invariant.D12];
            var released = f.StatusRequest(CustodyState.Released, CaseFixture.Hq, all);
            (released.Prisoner, released.Etag) = (CaseFixture.Q, f.Etag(CaseFixture.Hq, CaseFixture.Q));
            f.Do(CaseFixture.Hq, released, Prisoners.RecordStatus);
            HandOver(f, CaseFixture.P);
        },
        ["a transfer on the way"] = f =>
        {
            f.Begin();
            HandOver(f, CaseFixture.P);
        },
    };

    public static TheoryData<string> WhatBothSidesConfirm => [.. ByBothSides.Keys];

    /// <summary>If the other reference turns out to be another prisoner's, a hand-over belongs to the prisoner whom both sides named (D1).
    /// That prisoner is held by the new power, and the other one by his old power.</summary>
    [Theory]
    [MemberData(nameof(WhatBothSidesConfirm))]
    public void Once_a_link_is_undone_what_both_sides_confirmed_is_as_if_there_had_been_none(string what)
    {
        string[][] Play(bool linked)
        {
            var f = new CaseFixture();
            f.Register();
            f.Register(CaseFixture.Q);
            f.Admit(CaseFixture.Mfa, Part.DetainingPower);
            f.Admit(CaseFixture.SwissJustice, Part.RequestingState);
            foreach (var reference in (string[])[CaseFixture.P, CaseFixture.Q])
            {
                f.Confine(f.RuleRunner.Now.AddDays(-1), "from 0", reference);
                var ill = f.StatusRequest(CustodyState.Hospitalised);
                (ill.Prisoner, ill.Etag, ill.Serious) = (reference, f.Etag(CaseFixture.Hq, reference), true);
                f.Do(CaseFixture.Hq, ill, Prisoners.RecordStatus);
            }
            if (linked)
                f.Link();
            ByBothSides[what](f);
            if (linked)
                f.Correct(f.Prisoner.Entries.Single(e => e is { Corrected: false, Confirms: true }).Position, CaseFixture.Icrc);
            return [Of(f, CaseFixture.P), Of(f, CaseFixture.Q)];
        }

        var never = Play(linked: false);
        var undone = Play(linked: true);
        Assert.Equal(never[0], undone[0]);
        Assert.Equal(never[1], undone[1]);
    }

    /// <summary>The power that transferred him answers for its transfer (12(3)), and may write about no other power's prisoner
    /// (D4).</summary>
    [Fact]
    public void Once_a_link_is_undone_who_was_handed_over_is_given_back_under_his_own_reference()
    {
        _fixture.Link();
        _fixture.HandOver();
        _fixture.Correct(MarkOf(CaseFixture.Icrc), CaseFixture.Icrc);
        Assert.Equal(("KR", "UA"), (_fixture.Prisoner.DetainingPower, Kept.DetainingPower));
        var status = new RecordStatusRequest(_fixture.StatusRequest(CustodyState.Hospitalised))
        {
            Prisoner = CaseFixture.Q,
            Etag = _fixture.Etag(CaseFixture.Hq, CaseFixture.Q),
        };
        Assert.Equal(Reason.Unspecified, _fixture.Try(CaseFixture.Hq, status, Prisoners.RecordStatus));
        status.Etag = _fixture.Etag(CaseFixture.Kr, CaseFixture.Q);
        Assert.Equal(Reason.NotGranted, _fixture.Try(CaseFixture.Kr, status, Prisoners.RecordStatus));
        _fixture.Return();
        Assert.Equal("UA", _fixture.Prisoner.DetainingPower);
    }

    /// <summary>The consular service called off every other hand-over when custody passed.</summary>
    [Fact]
    public void Once_a_link_is_undone_who_was_not_handed_over_is_on_no_way_that_was_called_off()
    {
        _fixture.Link();
        _fixture.Begin("KR", CaseFixture.Q, "transfer_2");
        _fixture.HandOver();
        _fixture.Correct(MarkOf(CaseFixture.Icrc), CaseFixture.Icrc);
        Assert.Equal((CustodyState.Interned, true, "UA"), (Kept.State, Kept.Held, Kept.DetainingPower));
        Assert.Equal((CustodyState.Interned, "KR"), (_fixture.Prisoner.State, _fixture.Prisoner.DetainingPower));
    }

    /// <summary>His own power answers for him again (D1). No record of another power prevents that (D4), not even the record of a former
    /// power.</summary>
    [Theory]
    [InlineData(false, CustodyState.Died)]
    [InlineData(false, CustodyState.Released)]
    [InlineData(false, CustodyState.Repatriated)]
    [InlineData(false, CustodyState.Escaped)]
    [InlineData(false, CustodyState.Hospitalised, CustodyState.Died)]
    [InlineData(true, CustodyState.Died)]
    public void Once_a_link_is_undone_the_power_that_holds_him_corrects_what_another_one_recorded_of_him(
        bool heldBefore,
        params CustodyState[] recorded
    )
    {
        if (heldBefore)
        {
            HandOverKept();
            _fixture.Return(prisoner: CaseFixture.Q);
        }
        _fixture.Link();
        _fixture.HandOver();
        foreach (var status in recorded)
            OfNext(status);
        Assert.DoesNotContain(_fixture.Seen(CaseFixture.Hq, CaseFixture.Q).Entries, e => e.Participant == CaseFixture.Kr);
        _fixture.Correct(MarkOf(CaseFixture.Icrc), CaseFixture.Icrc);
        Assert.Equal((recorded[^1], "UA", ""), (Kept.State, Kept.LastDetainingPower, Kept.DetainingPower));
        foreach (var status in recorded.Reverse())
        {
            Assert.Equal(status, Kept.State);
            // One at a time, because only the other power may know how many there are.
            var mark = Assert.Single(_fixture.Seen(CaseFixture.Hq, CaseFixture.Q).Entries, e => e.Participant == CaseFixture.Kr);
            _fixture.Do(CaseFixture.Hq, _fixture.CorrectRequest(mark.Position, CaseFixture.Hq, CaseFixture.Q), Prisoners.CorrectRecord);
            Assert.Equal((true, false, "UA"), (Kept.Held, Kept.Ended, Kept.DetainingPower));
        }
        Assert.Equal(CustodyState.Interned, Kept.State);
        Assert.Equal((true, "UA"), (_fixture.TheCase.Prisoners[1].Held, _fixture.TheCase.Prisoners[1].DetainingPower));
        Assert.DoesNotContain(_fixture.Seen(CaseFixture.Hq, CaseFixture.Q).Entries, e => e.Participant == CaseFixture.Kr);
        // The other power owes no notice of it either.
        Assert.DoesNotContain(
            Kept.Occurrences,
            o =>
                o is { OwedBy: "KR", Corrected: false, Kind: OccurrenceKind.Death or OccurrenceKind.Release or OccurrenceKind.Repatriation }
        );
        OfKept(CustodyState.Hospitalised);
    }

    /// <summary>The power that has him back says whether he lives (D4). The other power's other entries about his time there are that
    /// power's own.</summary>
    [Theory]
    [InlineData(CustodyState.Died, true), InlineData(CustodyState.Escaped, false), InlineData(CustodyState.Hospitalised, false)]
    public void Of_what_a_power_recorded_of_him_while_it_held_him_the_next_one_corrects_his_death_alone(
        CustodyState status,
        bool correctable
    )
    {
        HandOverKept();
        OfNext(status);
        var recorded = Kept.Entries.Last(e => e.Participant == CaseFixture.Kr).Position;
        _fixture.Return(prisoner: CaseFixture.Q);
        Assert.Equal("UA", Kept.LastDetainingPower);
        Assert.Equal(correctable, _fixture.Seen(CaseFixture.Hq, CaseFixture.Q).Entries.Any(e => e.Participant == CaseFixture.Kr));
        var correction = _fixture.CorrectRequest(recorded, CaseFixture.Hq, CaseFixture.Q);
        Assert.Equal(
            correctable ? Reason.Unspecified : Reason.NotCorrectable,
            _fixture.Try(CaseFixture.Hq, correction, Prisoners.CorrectRecord)
        );
        Assert.Equal((true, "UA"), (Kept.Held, Kept.DetainingPower));
        OfKept(CustodyState.Died);
    }

    /// <summary>The prisoner was with the next power when his former one recorded his death under the linked reference.</summary>
    [Fact]
    public void Once_a_link_is_undone_the_power_to_which_he_was_handed_over_corrects_a_death_that_the_former_one_recorded_since()
    {
        _fixture.Link();
        _fixture.HandOver();
        _fixture.Do(CaseFixture.Hq, _fixture.StatusRequest(CustodyState.Died, CaseFixture.Hq), Prisoners.RecordStatus);
        var death = _fixture.Prisoner.Statuses[^1].Position;
        _fixture.Correct(MarkOf(CaseFixture.Icrc), CaseFixture.Icrc);
        Assert.Equal(
            (CustodyState.Died, "KR", ""),
            (_fixture.Prisoner.State, _fixture.Prisoner.LastDetainingPower, _fixture.Prisoner.DetainingPower)
        );
        _fixture.Correct(death, CaseFixture.Kr);
        Assert.Equal(
            (CustodyState.Interned, true, "KR"),
            (_fixture.Prisoner.State, _fixture.Prisoner.Held, _fixture.Prisoner.DetainingPower)
        );
        Assert.Equal((true, "KR"), (_fixture.TheCase.Prisoners[0].Held, _fixture.TheCase.Prisoners[0].DetainingPower));
        _fixture.Status(CustodyState.Died);
    }

    /// <summary>The death was recorded under the linked reference, under which the next power records nothing.</summary>
    [Theory]
    [InlineData(false), InlineData(true)]
    public void A_death_under_the_linked_reference_is_corrected_under_the_kept_one_by_the_power_that_took_him(bool takenBack)
    {
        _fixture.Link();
        _fixture.Status(CustodyState.Died);
        var death = _fixture.Prisoner.Statuses[^1].Position;
        _fixture.HandOverFromUkraine(CaseFixture.Q);
        Assert.Equal((CustodyState.Died, "KR"), (Kept.State, Kept.LastDetainingPower));
        Assert.Contains(_fixture.Seen(CaseFixture.Kr, CaseFixture.Q).Entries, e => e.Position == death);
        Assert.DoesNotContain(_fixture.Seen(CaseFixture.Hq, CaseFixture.Q).Entries, e => e.Position == death);
        var byItself = _fixture.CorrectRequest(death, CaseFixture.Hq, CaseFixture.Q);
        Assert.Equal(Reason.NotCorrectable, _fixture.Try(CaseFixture.Hq, byItself, Prisoners.CorrectRecord));
        _fixture.Do(CaseFixture.Kr, _fixture.CorrectRequest(death, CaseFixture.Kr, CaseFixture.Q), Prisoners.CorrectRecord);
        Assert.Equal((CustodyState.Interned, true, "KR"), (Kept.State, Kept.Held, Kept.DetainingPower));
        Assert.DoesNotContain(_fixture.Seen(CaseFixture.Kr, CaseFixture.Q).Entries, e => e.Position == death);
        // The entry stays as the other power's account under the linked reference, until that power corrects it.
        Assert.Equal(CustodyState.Died, _fixture.Prisoner.State);
        if (takenBack)
            _fixture.Correct(death);
        else
            _fixture.Correct(MarkOf(CaseFixture.Icrc), CaseFixture.Icrc);
        Assert.Equal((!takenBack, "UA"), (_fixture.Prisoner.State == CustodyState.Died, _fixture.Prisoner.LastDetainingPower));
        Assert.Equal((CustodyState.Interned, true, "KR"), (Kept.State, Kept.Held, Kept.DetainingPower));
    }

    /// <summary>One entry records both of his hand-overs, and by the last one his own power holds him again.</summary>
    [Fact]
    public void Once_a_link_is_undone_who_went_and_came_back_is_the_last_powers_whose_organs_keep_their_own_records()
    {
        _fixture.RuleRunner.Permissions.Participant(CaseFixture.Mfa)!.Capacities.Add(Capacity.Custody);
        _fixture.Admit(CaseFixture.Mfa, Part.DetainingPower);
        _fixture.Link();
        HandOver(_fixture, CaseFixture.P);
        _fixture.Return();
        _fixture.Correct(MarkOf(CaseFixture.Icrc), CaseFixture.Icrc);
        Assert.Equal("UA", _fixture.Prisoner.LastDetainingPower);
        _fixture.Status(CustodyState.Hospitalised);
        var recorded = _fixture.Prisoner.Entries[^1];
        Assert.Equal(CaseFixture.Hq, recorded.Participant);
        Assert.DoesNotContain(_fixture.Seen(CaseFixture.Mfa).Entries, e => e.Position == recorded.Position);
        Assert.Equal(
            Reason.NotCorrectable,
            _fixture.Try(CaseFixture.Mfa, _fixture.CorrectRequest(recorded.Position, CaseFixture.Mfa), Prisoners.CorrectRecord)
        );
    }

    // A reference under which the Republic of Korea registers him, or another man, after Ukraine handed him over to it.
    private string AnewInKorea() => AnewIn(CaseFixture.Kr);

    private string AnewIn(string organ)
    {
        var request = new RegisterPrisonerRequest(_fixture.RegisterRequest()) { Etag = _fixture.CaseEtag(organ) };
        return ((RegisterPrisonerResponse)_fixture.Play(organ, request, Prisoners.RegisterPrisoner).Answer!).Prisoner;
    }

    private void LinkByKorea(string reference, string kept) => LinkBy(CaseFixture.Kr, reference, kept);

    private void LinkBy(string organ, string reference, string kept)
    {
        var request = new LinkDuplicateRequest(_fixture.LinkRequest(reference, kept)) { Etag = _fixture.Etag(organ, reference) };
        _fixture.Do(organ, request, Prisoners.LinkDuplicate);
        _fixture.Do(CaseFixture.Icrc, _fixture.ConfirmRequest(reference, kept), Prisoners.ConfirmDuplicate);
    }

    private static readonly Dictionary<string, string> OrganOf = new()
    {
        ["UA"] = CaseFixture.Mfa,
        ["KR"] = CaseFixture.Kr,
        ["CH"] = CaseFixture.SwissJustice,
    };

    private CustodyTransferred Pass(string reference, string from, string to, bool returned = false, double ago = 1)
    {
        _fixture.RuleRunner.Now = _fixture.RuleRunner.Now.AddHours(2);
        var decision = returned
            ? _fixture.Return(from, to, reference)
            : _fixture.Do(
                CaseFixture.Consular,
                new Consular.V1.HandoverConfirmed(_fixture.Confirmed(to == "CH" ? Route.NeutralAccommodation : Route.Article12Transfer, to))
                {
                    Prisoner = reference,
                    FromPower = from,
                    DetainingParticipant = OrganOf[from],
                    AcceptingParticipant = OrganOf[to],
                    HandoverTime = _fixture.Ago(ago),
                },
                Reactions.HandedOver
            );
        return Assert.IsType<CustodyTransferred>(Assert.Single(decision.Changes).Event);
    }

    private string[] FormerPowersOf(string reference)
    {
        string[] former = [.. _fixture.PrisonerOf(reference).FormerPowers];
        Assert.Equal(former, _fixture.TheCase.Prisoners.Single(p => p.Prisoner == reference).FormerPowers);
        return former;
    }

    // Ukraine handed him over, and the Republic of Korea registered him anew and handed him on.
    private string HandedOnUnderTheKeptReference(double ago = 1)
    {
        _fixture.Admit(CaseFixture.Mfa, Part.DetainingPower);
        _fixture.Admit(CaseFixture.SwissJustice, Part.RequestingState);
        Pass(CaseFixture.P, "UA", "KR");
        var kept = AnewInKorea();
        LinkByKorea(CaseFixture.P, kept);
        Pass(kept, "KR", "CH", ago: ago);
        Assert.Equal(
            [
                ["UA"],
                ["KR"],
            ],
            (string[][])[FormerPowersOf(CaseFixture.P), FormerPowersOf(kept)]
        );
        return kept;
    }

    /// <summary>An observer of neither power undoes a link (D19): the Protecting Powers of both do not.</summary>
    [Fact]
    public void The_last_observer_that_can_undo_a_link_stays()
    {
        var agreement = _fixture.RuleRunner.Permissions.Agreement.Clone();
        agreement.Participants.Add(
            new Participant
            {
                Id = "kr/pp",
                Name = "kr/pp",
                Kind = ParticipantKind.ProtectingPower,
                State = "KR",
                Clearance = Level.Secret,
            }
        );
        _fixture.RuleRunner.Permissions = new Permissions(agreement);
        _fixture.Admit("kr/pp", Part.ProtectingPower);
        _fixture.Admit(CaseFixture.Swiss, Part.ProtectingPower);
        HandedOnUnderTheKeptReference();
        Assert.Equal(Reason.PartyNeeded, AdviceTests.Remove(_fixture, CaseFixture.Icrc, CaseFixture.Icrc));
        _fixture.Do(CaseFixture.Icrc, UndoRequest(CaseFixture.P), Prisoners.CorrectRecord);
        Assert.Equal(Reason.Unspecified, AdviceTests.Remove(_fixture, CaseFixture.Icrc, CaseFixture.Icrc));
    }

    private CorrectRecordRequest UndoRequest(string reference) =>
        _fixture.CorrectRequest(
            _fixture.PrisonerOf(reference).Entries.Single(e => e is { Corrected: false, Confirms: true }).Position,
            CaseFixture.Icrc,
            reference
        );

    /// <summary>He is one man, and his chain of powers runs over all of his references (12(3)).</summary>
    [Theory]
    [InlineData(false), InlineData(true)]
    public void Who_comes_back_under_one_reference_relieves_the_powers_that_came_after_it_under_the_other(bool returned)
    {
        var kept = HandedOnUnderTheKeptReference();
        var back = Pass(returned ? CaseFixture.P : kept, "CH", "UA", returned);
        Assert.Equal(["KR", "UA"], back.RelievedPowers.Order());
        Assert.Equal(returned ? [] : ["CH"], FormerPowersOf(kept));
    }

    [Fact]
    public void A_power_before_the_one_to_which_he_comes_back_answers_still_under_whichever_reference()
    {
        var kept = HandedOnUnderTheKeptReference();
        Assert.Equal(["KR"], Pass(kept, "CH", "KR", returned: true).RelievedPowers);
        Pass(kept, "KR", "CH");
        Assert.Equal(
            [
                ["UA"],
                ["KR"],
            ],
            (string[][])[FormerPowersOf(CaseFixture.P), FormerPowersOf(kept)]
        );
    }

    /// <summary>Nobody gives on whom he does not have yet, whatever time both sides state (12(3)).</summary>
    [Fact]
    public void A_false_time_of_a_hand_over_takes_no_power_out_of_the_chain()
    {
        var kept = HandedOnUnderTheKeptReference(ago: 100);
        var other = AnewIn(CaseFixture.SwissJustice);
        LinkBy(CaseFixture.SwissJustice, other, kept);
        var undone = _fixture.Do(CaseFixture.Icrc, UndoRequest(other), Prisoners.CorrectRecord);
        Assert.Empty(undone.Changes.Select(c => c.Event).OfType<CustodyTransferred>());
        Assert.Equal(["KR"], FormerPowersOf(kept));
        Assert.Equal(["KR", "UA"], Pass(kept, "CH", "UA").RelievedPowers.Order());
    }

    // He was handed on to Switzerland, which registered him anew.
    private string RegisteredAnewInSwitzerland()
    {
        _fixture.Admit(CaseFixture.Mfa, Part.DetainingPower);
        _fixture.Admit(CaseFixture.SwissJustice, Part.RequestingState);
        Pass(CaseFixture.P, "UA", "KR");
        Pass(CaseFixture.P, "KR", "CH");
        var kept = AnewIn(CaseFixture.SwissJustice);
        LinkBy(CaseFixture.SwissJustice, CaseFixture.P, kept);
        return kept;
    }

    /// <summary>The order in which powers gave him on before the link says nothing of that in which they did so since (12(3)).</summary>
    [Fact]
    public void The_chain_of_a_reference_that_is_no_longer_kept_relieves_no_power_that_answers_still()
    {
        var kept = RegisteredAnewInSwitzerland();
        Pass(kept, "CH", "KR");
        Pass(kept, "KR", "UA");
        Pass(kept, "UA", "CH");
        Assert.Equal(["UA"], Pass(kept, "CH", "UA", returned: true).RelievedPowers);
        Assert.Equal(["KR"], FormerPowersOf(kept));
    }

    [Fact]
    public void A_power_that_is_relieved_under_the_kept_reference_leaves_the_case()
    {
        var kept = RegisteredAnewInSwitzerland();
        foreach (var owed in _fixture.Prisoner.Occurrences.Where(o => o.OwedBy == "KR").ToArray())
            _fixture.Do(CaseFixture.Kr, _fixture.NotifyRequest(owed.Occurrence_, CaseFixture.Kr), Prisoners.NotifyBureau);
        Assert.Equal(Reason.PartyNeeded, AdviceTests.Remove(_fixture, CaseFixture.Kr, CaseFixture.Kr));
        Pass(kept, "CH", "UA", returned: true);
        Assert.Equal(Reason.Unspecified, AdviceTests.Remove(_fixture, CaseFixture.Kr, CaseFixture.Kr));
    }

    /// <summary>It was another man whom the power had given before that has this one now (12(3)).</summary>
    [Fact]
    public void Once_a_link_is_undone_a_power_answers_again_that_another_mans_chain_had_relieved()
    {
        var kept = HandedOnUnderTheKeptReference();
        Pass(kept, "CH", "UA");
        // Nobody was handed over who was not, so a journey of his goes on, and the power to which it leads is to accept him.
        _fixture.Admit(CaseFixture.Ru, Part.RequestingState);
        _fixture.Begin("RU", kept, "transfer_2");
        var link = _fixture.Prisoner.Entries.Single(e => e is { Corrected: false, Confirms: true }).Position;
        var undone = _fixture.Do(CaseFixture.Icrc, _fixture.CorrectRequest(link, CaseFixture.Icrc), Prisoners.CorrectRecord);
        var told = Assert.Single(undone.Changes.Select(c => c.Event).OfType<CustodyTransferred>());
        Assert.Equal((kept, true, "UA"), (told.Prisoner, told.Undone, told.ToPower));
        Assert.Equal(["KR", "CH"], told.TransferringPowers);
        Assert.Null(told.PassTime);
        Assert.Equal(_fixture.PrisonerOf(kept).Statuses.First(s => s.PassedTo == "CH").Time, told.RelievedSinceTime);
        Assert.Equal(
            [
                ["UA"],
                ["KR", "CH"],
            ],
            (string[][])[FormerPowersOf(CaseFixture.P), FormerPowersOf(kept)]
        );
        Assert.Equal(("KR", "UA"), (_fixture.Prisoner.DetainingPower, _fixture.PrisonerOf(kept).DetainingPower));
        Assert.Equal(CustodyState.InTransit, _fixture.PrisonerOf(kept).State);
        Assert.Equal("RU", Assert.Single(_fixture.PrisonerOf(kept).Journeys).AcceptingPower);
        Assert.Equal(Reason.PartyNeeded, AdviceTests.Remove(_fixture, CaseFixture.Ru, CaseFixture.Ru));
    }

    /// <summary>The power transferred him under a reference that stays linked, and the prisoner who came to it was another one
    /// (12(3)).</summary>
    [Fact]
    public void Once_a_link_is_undone_custody_tells_who_answers_for_a_transfer_under_each_other_reference()
    {
        _fixture.Admit(CaseFixture.Mfa, Part.DetainingPower);
        Pass(CaseFixture.P, "UA", "KR");
        var (kept, other) = (AnewInKorea(), AnewInKorea());
        LinkByKorea(other, kept);
        LinkByKorea(CaseFixture.P, kept);
        var back = Pass(other, "KR", "UA");
        Assert.Equal(["UA"], back.RelievedPowers);
        var link = _fixture.PrisonerOf(other).Entries.Single(e => e is { Corrected: false, Confirms: true }).Position;
        var undone = _fixture.Do(CaseFixture.Icrc, _fixture.CorrectRequest(link, CaseFixture.Icrc, other), Prisoners.CorrectRecord);
        var told = undone.Changes.Select(c => c.Event).OfType<CustodyTransferred>().Single(e => e.Undone);
        Assert.Equal((kept, "KR"), (told.Prisoner, told.ToPower));
        Assert.Empty(told.FormerPowers);
        Assert.Equal(["UA"], told.TransferringPowers);
        Assert.Equal(told.PassTime, told.RelievedSinceTime);
        Assert.Equal(["KR"], FormerPowersOf(other));
    }

    /// <summary>By his own record he was with a power that confirmed nothing (D1).</summary>
    [Fact]
    public void Once_a_link_is_undone_a_hand_over_by_a_power_that_did_not_hold_him_is_marked()
    {
        var kept = HandedOnUnderTheKeptReference();
        Pass(CaseFixture.P, "CH", "UA", returned: true);
        var link = _fixture.Prisoner.Entries.Single(e => e is { Corrected: false, Confirms: true }).Position;
        var undone = _fixture.Do(CaseFixture.Icrc, _fixture.CorrectRequest(link, CaseFixture.Icrc), Prisoners.CorrectRecord);
        var anew = undone.Changes.Select(c => c.Event).OfType<CustodyTransferred>().Single(e => e.Prisoner == CaseFixture.P);
        Assert.Contains(Invariant.D1, anew.Breaches);
        Assert.Contains(Invariant.D1, _fixture.Prisoner.Statuses[^1].Breaches);
        Assert.Equal("CH", _fixture.PrisonerOf(kept).DetainingPower);
        Assert.DoesNotContain(undone.Audience, _fixture.Reader(CaseFixture.SwissJustice).Tokens.Contains);
    }

    /// <summary>The consular service had taken back the transfer of this man when the other one came to its power (12(3)).</summary>
    [Fact]
    public void Once_a_link_is_undone_custody_tells_that_another_man_was_handed_over_and_came_back()
    {
        _fixture.Admit(CaseFixture.Mfa, Part.DetainingPower);
        Pass(CaseFixture.Q, "UA", "KR");
        Pass(CaseFixture.Q, "KR", "UA");
        _fixture.Link();
        var before = Kept.Clone();
        Pass(CaseFixture.P, "UA", "KR");
        Pass(CaseFixture.P, "KR", "UA");
        var undone = _fixture.Do(CaseFixture.Icrc, UndoRequest(CaseFixture.P), Prisoners.CorrectRecord);
        var told = Assert.Single(undone.Changes.Select(c => c.Event).OfType<CustodyTransferred>(), e => e.Undone);
        Assert.Equal((CaseFixture.Q, "UA", "UA"), (told.Prisoner, told.FromPower, told.ToPower));
        Assert.Equal(["KR"], told.FormerPowers);
        Assert.NotNull(told.PassTime);
        Assert.Equal(
            (before.State, before.Held, before.Ended, before.DetainingPower, before.TransferringPower),
            (Kept.State, Kept.Held, Kept.Ended, Kept.DetainingPower, Kept.TransferringPower)
        );
        Assert.Equal(["KR"], FormerPowersOf(CaseFixture.Q));
        Assert.Equal(before.Occurrences, Kept.Occurrences.Where(o => !o.Corrected));
    }

    [Fact]
    public void Once_a_link_is_undone_his_own_hand_over_since_the_other_mans_stands_with_its_journey()
    {
        _fixture.Admit(CaseFixture.Mfa, Part.DetainingPower);
        _fixture.Admit(CaseFixture.SwissJustice, Part.RequestingState);
        _fixture.Link();
        Pass(CaseFixture.P, "UA", "KR");
        Pass(CaseFixture.P, "KR", "UA");
        Pass(CaseFixture.Q, "UA", "CH");
        _fixture.Begin("KR", CaseFixture.Q, "transfer_2");
        var undone = _fixture.Do(CaseFixture.Icrc, UndoRequest(CaseFixture.P), Prisoners.CorrectRecord);
        var told = Assert.Single(undone.Changes.Select(c => c.Event).OfType<CustodyTransferred>(), e => e.Undone);
        Assert.Equal(("CH", "CH", null), (told.FromPower, told.ToPower, told.PassTime));
        Assert.Equal("transfer_2", Assert.Single(Kept.Journeys).Transfer);
        Assert.Equal(["UA"], FormerPowersOf(CaseFixture.Q));
    }

    // What the power records of him to which he came under the kept reference.
    private void OfNext(CustodyState status)
    {
        Invariant[] all = [Invariant.D2, Invariant.D9, Invariant.D10, Invariant.D11, Invariant.D12];
        var request = _fixture.StatusRequest(status, CaseFixture.Kr, all);
        (request.Prisoner, request.Etag) = (CaseFixture.Q, _fixture.Etag(CaseFixture.Kr, CaseFixture.Q));
        request.EscapeSucceeded = status == CustodyState.Escaped;
        _fixture.Do(CaseFixture.Kr, request, Prisoners.RecordStatus);
    }

    /// <summary>The participants that were told of the hand-over are told of its undoing.</summary>
    [Fact]
    public void What_a_hand_over_breached_is_told_to_no_one_else_when_the_link_is_undone()
    {
        _fixture.Link();
        var handedOver = _fixture.HandOver();
        Assert.NotEmpty(Assert.IsType<CustodyTransferred>(handedOver.Changes[0].Event).Breaches);
        var undone = _fixture.Do(
            CaseFixture.Icrc,
            _fixture.CorrectRequest(MarkOf(CaseFixture.Icrc), CaseFixture.Icrc),
            Prisoners.CorrectRecord
        );
        Assert.Equal(handedOver.Audience.Order(), undone.Audience.Order());
        Assert.Contains(undone.Changes, c => c.Event is CustodyTransferred { Prisoner: CaseFixture.P, Breaches.Count: > 0 });
    }

    /// <summary>Other services follow one event after the other. In between, they must not take from a power what it has after the last
    /// event.
    /// </summary>
    [Theory]
    [InlineData(false, "UA"), InlineData(true, "KR")]
    public void The_correction_that_undoes_a_link_says_who_answers_for_him_after_all_of_it(bool handedOver, string power)
    {
        _fixture.Link();
        if (handedOver)
            _fixture.HandOver();
        var undone = _fixture.Do(
            CaseFixture.Icrc,
            _fixture.CorrectRequest(MarkOf(CaseFixture.Icrc), CaseFixture.Icrc),
            Prisoners.CorrectRecord
        );
        Assert.Equal(power, Assert.Single(undone.Changes.Select(c => c.Event).OfType<RecordCorrected>()).AnsweringPower);
        Assert.All(
            undone.Changes.Select(c => c.Event).OfType<CustodyTransferred>().Where(e => !e.Undone),
            e => Assert.Equal(power, e.AnsweringPower)
        );
        Assert.Equal(power, _fixture.Prisoner.LastDetainingPower);
    }

    /// <summary>A new custody under the kept reference ended with the link: it does not concern the other prisoner.</summary>
    [Fact]
    public void The_end_of_custody_that_comes_back_with_an_undone_link_stops_no_clock_of_the_other_man()
    {
        var request = _fixture.StatusRequest(CustodyState.Hospitalised);
        request.Serious = true;
        _fixture.Do(CaseFixture.Hq, request, Prisoners.RecordStatus);
        var due = _fixture.Prisoner.HealthDueTime;
        _fixture.Link();
        OfKept(CustodyState.Escaped, succeeded: true);
        _fixture.Status(CustodyState.Recaptured);
        Assert.True(Kept.Held);
        _fixture.Correct(MarkOf(CaseFixture.Icrc), CaseFixture.Icrc);
        Assert.True(Kept.Ended);
        Assert.Equal((due, false), (_fixture.Prisoner.HealthDueTime, _fixture.Prisoner.EndedElsewhere));
    }

    /// <summary>A power that handed him over learns nothing of the next power's reports through the linked reference (D22).</summary>
    [Fact]
    public void A_power_that_handed_him_over_does_not_follow_what_the_next_one_reports()
    {
        var request = _fixture.StatusRequest(CustodyState.Hospitalised);
        request.Serious = true;
        _fixture.Do(CaseFixture.Hq, request, Prisoners.RecordStatus);
        foreach (var owed in _fixture.Prisoner.Occurrences.Select(o => o.Occurrence_).ToArray())
            _fixture.Do(CaseFixture.Hq, _fixture.ReleaseRequest(owed), Prisoners.NotifyBureau);
        _fixture.Link();
        Assert.NotNull(_fixture.Seen(CaseFixture.Hq).HealthDueTime);
        HandOverKept();
        var (etag, due) = (_fixture.Etag(CaseFixture.Hq), _fixture.Seen(CaseFixture.Icrc).HealthDueTime);
        Assert.Null(_fixture.Seen(CaseFixture.Hq).HealthDueTime);
        Assert.Contains("health_due_time", _fixture.Seen(CaseFixture.Hq).Withheld);
        _fixture.RuleRunner.Now = _fixture.RuleRunner.Now.AddDays(3);
        var report = _fixture.NotifyRequest(0, CaseFixture.Kr);
        (report.Prisoner, report.Etag, report.HealthReport) = (CaseFixture.Q, _fixture.Etag(CaseFixture.Kr, CaseFixture.Q), true);
        _fixture.Do(CaseFixture.Kr, report, Prisoners.NotifyBureau);
        Assert.Equal(due.ToDateTimeOffset().AddDays(3), _fixture.Seen(CaseFixture.Icrc).HealthDueTime.ToDateTimeOffset());
        // The next week nobody reports on him.
        _fixture.RuleRunner.Now = _fixture.RuleRunner.Now.AddDays(8);
        Assert.Equal([Audience.Observers(_fixture.Case)], FallenDue().Audience);
        Assert.Equal(due.ToDateTimeOffset().AddDays(10), _fixture.Prisoner.HealthDueTime.ToDateTimeOffset());
        Assert.Equal(etag, _fixture.Etag(CaseFixture.Hq));
        // He is another prisoner, on whom reports were due all along.
        _fixture.Correct(MarkOf(CaseFixture.Icrc), CaseFixture.Icrc);
        Assert.NotNull(_fixture.Seen(CaseFixture.Hq).HealthDueTime);
    }

    /// <summary>The power sees its own missed duty. Duties that fall due at the same time are one.</summary>
    [Theory]
    [InlineData(0, new[] { true, false })]
    [InlineData(1, new[] { true, false, false })]
    public void A_power_that_handed_him_over_sees_under_the_linked_reference_what_it_owes(double later, bool[] shown)
    {
        _fixture.RuleRunner.Now = _fixture.RuleRunner.Now.AddHours(later);
        var request = _fixture.StatusRequest(CustodyState.Hospitalised);
        request.Serious = true;
        _fixture.Do(CaseFixture.Hq, request, Prisoners.RecordStatus);
        _fixture.Link();
        HandOverKept();
        _fixture.RuleRunner.Now = _fixture.RuleRunner.Now.AddDays(15);
        var seen = new List<bool>();
        while (FallenDue() is { Refusal: null } fell)
            seen.Add(fell.Audience.Any(_fixture.Reader(CaseFixture.Hq).Tokens.Contains));
        Assert.All(_fixture.Prisoner.Occurrences, o => Assert.True(o.Overdue));
        Assert.Equal(shown, seen);
    }

    private Decision FallenDue() =>
        _fixture
            .RuleRunner.Play(
                "service/custody",
                new Google.Protobuf.WellKnownTypes.Timestamp(),
                (_, context) => Duties.FallDue(Prisoners.KeyOf(_fixture.Case, CaseFixture.P), context),
                "duty"
            )
            .Decision;

    // The statements recorded of each of the two before the link is undone, each an hour after the previous one.
    private void Said(string reference, string destination, bool verified = true)
    {
        _fixture.RuleRunner.Now = _fixture.RuleRunner.Now.AddHours(1);
        var said = _fixture.StatementRequest(CaseFixture.Icrc, destination);
        (said.Prisoner, said.Etag) = (reference, _fixture.Etag(CaseFixture.Icrc, reference));
        _fixture.Wish(said, destination);
        var id = _fixture.Record(said);
        if (verified)
            _fixture.Attest(id, AttesterRole.Interviewer, AttesterRole.Interpreter, AttesterRole.Observer);
    }

    /// <summary>A participant that undoes a link alone removes no statement (D9). An earlier statement stops a departure as it did while
    /// the references were linked, until he speaks again. It supports no departure.</summary>
    [Theory]
    [InlineData("Q KR, P UA, link, undo", false)]
    [InlineData("Q KR, P UA unverified, link, undo", false)]
    [InlineData("P UA, Q KR, link, undo", true)]
    [InlineData("Q KR, P KR, link, undo", true)]
    [InlineData("P KR, link, undo", false)]
    [InlineData("Q KR, P UA, link, undo, Q KR", true)]
    [InlineData("Q KR, P UA, link, undo, Q KR unverified", false)]
    [InlineData("Q KR, link, undo, P UA", true)]
    [InlineData("Q KR, P UA, link, undo, link", false)]
    [InlineData("Q KR, P UA, link, undo, link, undo", false)]
    public void No_observer_alone_takes_a_word_away_by_undoing_a_link(string told, bool stands)
    {
        // This holds whichever reference was kept.
        foreach (var (linked, kept) in ((string, string)[])[(CaseFixture.P, CaseFixture.Q), (CaseFixture.Q, CaseFixture.P)])
        {
            var test = new DuplicateTests();
            foreach (var step in told.Split(", "))
                test.Take(step, linked, kept);
            var record = test.Kept.DuplicateOf.Length > 0 ? test._fixture.Prisoner : test.Kept;
            Prisoner[] records = [record, .. record.Duplicates.Select(test._fixture.PrisonerOf)];
            Assert.Equal(stands, test._fixture.StandingFor(records, "KR").Standing == Standing.InForce);
        }
    }

    private void Take(string step, string linked, string kept)
    {
        switch (step.Split(' '))
        {
            case ["link"] when _fixture.PrisonerOf(linked).DuplicateProposals.All(p => p.Prisoner != linked || p.SameAsPrisoner != kept):
                _fixture.Link(linked, kept);
                break;
            case ["link"]:
                _fixture.Do(CaseFixture.Icrc, _fixture.ConfirmRequest(linked, kept), Prisoners.ConfirmDuplicate);
                break;
            case ["undo"]:
                var link = _fixture.PrisonerOf(linked).Entries.Single(e => e is { Corrected: false, Confirms: true }).Position;
                _fixture.Do(CaseFixture.Icrc, _fixture.CorrectRequest(link, CaseFixture.Icrc, linked), Prisoners.CorrectRecord);
                break;
            case [var who, var where, .. var how]:
                Said(who == "P" ? CaseFixture.P : CaseFixture.Q, where, verified: how.Length == 0);
                break;
        }
    }

    /// <summary>No link, and no undoing of a link, hides a statement under a reference that counted for him through any link (D9).
    /// Statements after a link was undone are another prisoner's.</summary>
    [Theory]
    [InlineData("X KR, D UA, D to K, undo D, K to X, undo K", false)]
    [InlineData("X KR, D UA unverified, D to K, undo D, K to X, undo K", false)]
    [InlineData("X KR, D UA, D to K, undo D, X to K, undo X", false)]
    [InlineData("X KR, D UA, D to K, X to K, undo X", false)]
    [InlineData("X KR, D UA, D to K, X to K, undo D, undo X", false)]
    [InlineData("X KR, D UA, D to K, X to K, undo X, undo D, K to X, undo K", false)]
    [InlineData("X KR, D UA, D to Y, undo D, Y to K, X to K, undo X", false)]
    [InlineData("X KR, D UA, D to K, undo D, K to X, undo K, K to X, undo K", false)]
    [InlineData("X KR, D UA, D to K, undo D, K to Y, undo K, Y to X, undo Y", false)]
    [InlineData("D KR, D to K, undo D, K to X, undo K", false)]
    [InlineData("D UA, D to K, undo D, K to X, undo K, X KR", true)]
    [InlineData("X KR, D to K, undo D, K to X, undo K, D UA", true)]
    [InlineData("X KR, D to K, undo D, D UA, K to X, undo K", true)]
    [InlineData("X KR, D to K, X to K, undo X, K UA", true)]
    public void No_observer_alone_takes_a_word_away_by_undoing_several_links(string told, bool stands)
    {
        var references = new Dictionary<string, string>
        {
            ["X"] = CaseFixture.P,
            ["K"] = CaseFixture.Q,
            ["D"] = AdviceTests.Registered(_fixture),
            ["Y"] = AdviceTests.Registered(_fixture),
        };
        foreach (var step in told.Split(", "))
            switch (step.Split(' '))
            {
                case [var linked, "to", var kept]:
                    Take("link", references[linked], references[kept]);
                    break;
                case ["undo", var linked]:
                    Take("undo", references[linked], "");
                    break;
                case [var who, var where, .. var how]:
                    Said(references[who], where, verified: how.Length == 0);
                    break;
            }
        Assert.Equal(stands, _fixture.StandingFor([_fixture.Prisoner], "KR").Standing == Standing.InForce);
    }

    /// <summary>He was held since the earliest of two captures (D9, D10).</summary>
    [Fact]
    public void What_he_said_or_was_found_between_two_captures_is_recorded_once_the_references_are_linked()
    {
        var fixture = new CaseFixture();
        fixture.Register(CaseFixture.P, captured: 1000);
        fixture.Register(CaseFixture.Q, captured: 10);
        Fitness(new RecordFitnessRequest(fixture.FitnessRequest()) { ExamineTime = fixture.Ago(30) }, CaseFixture.P);
        var willing = fixture.StatementRequest(CaseFixture.Icrc, "KR");
        (willing.StatementTime, willing.Interview.InterviewTime) = (fixture.Ago(30), fixture.Ago(31));
        var id = fixture.Record(willing);
        fixture.Attest(id, AttesterRole.Interviewer, AttesterRole.Interpreter, AttesterRole.Observer);
        fixture.Link();
        Assert.Equal((true, true), Ready());
        Fitness(new RecordFitnessRequest(fixture.FitnessRequest(fit: false)) { ExamineTime = fixture.Ago(20) }, CaseFixture.Q);
        var unwilling = fixture.StatementRequest(CaseFixture.Icrc, "UA");
        (unwilling.StatementTime, unwilling.Interview.InterviewTime) = (fixture.Ago(20), fixture.Ago(21));
        (unwilling.Prisoner, unwilling.Etag) = (CaseFixture.Q, fixture.Etag(CaseFixture.Icrc, CaseFixture.Q));
        fixture.Record(fixture.Wish(unwilling, "UA"));
        Assert.Equal((false, false), Ready());
        var before = new RecordFitnessRequest(fixture.FitnessRequest())
        {
            Prisoner = CaseFixture.Q,
            Etag = fixture.Etag(CaseFixture.Hq, CaseFixture.Q),
            ExamineTime = fixture.Ago(1001),
        };
        Assert.Equal(Reason.TimeOutOfRange, fixture.Try(CaseFixture.Hq, before, Prisoners.RecordFitness));

        void Fitness(RecordFitnessRequest request, string reference)
        {
            (request.Prisoner, request.Etag) = (reference, fixture.Etag(CaseFixture.Hq, reference));
            fixture.Do(CaseFixture.Hq, request, Prisoners.RecordFitness);
        }
        (bool Fit, bool Stands) Ready() =>
            (
                fixture.Readiness(reference: CaseFixture.Q).FitRecorded,
                fixture.StandingFor([fixture.PrisonerOf(CaseFixture.Q), fixture.Prisoner], "KR").Standing == Standing.InForce
            );
    }

    /// <summary>The link would end the custody of a living man.</summary>
    [Theory]
    [InlineData(CustodyState.Released)]
    [InlineData(CustodyState.Escaped)]
    public void Who_is_held_is_kept_under_the_reference_under_which_he_is(CustodyState other)
    {
        Invariant[] all = [Invariant.D2, Invariant.D9, Invariant.D10, Invariant.D11, Invariant.D12];
        var left = _fixture.StatusRequest(other, CaseFixture.Hq, all);
        (left.Prisoner, left.Etag) = (CaseFixture.Q, _fixture.Etag(CaseFixture.Hq, CaseFixture.Q));
        _fixture.Do(CaseFixture.Hq, left, Prisoners.RecordStatus);
        _fixture.Do(CaseFixture.Hq, _fixture.LinkRequest(), Prisoners.LinkDuplicate);
        Assert.Equal(Reason.StateNotAllowed, _fixture.Try(CaseFixture.Icrc, _fixture.ConfirmRequest(), Prisoners.ConfirmDuplicate));
        _fixture.Link(CaseFixture.Q, CaseFixture.P);
        Assert.Equal((true, "UA"), (_fixture.Prisoner.Held, _fixture.Prisoner.DetainingPower));
    }

    /// <summary>An escape that has not succeeded ends no custody (D1), and no case is closed before it has ended (D19).</summary>
    [Fact]
    public void Who_has_fled_is_kept_under_the_reference_under_which_somebody_answers_for_him()
    {
        Invariant[] all = [Invariant.D2, Invariant.D9, Invariant.D10, Invariant.D11, Invariant.D12];
        var left = _fixture.StatusRequest(CustodyState.Released, CaseFixture.Hq, all);
        (left.Prisoner, left.Etag) = (CaseFixture.Q, _fixture.Etag(CaseFixture.Hq, CaseFixture.Q));
        _fixture.Do(CaseFixture.Hq, left, Prisoners.RecordStatus);
        _fixture.Status(CustodyState.Escaped);
        _fixture.Do(CaseFixture.Hq, _fixture.LinkRequest(), Prisoners.LinkDuplicate);
        Assert.Equal(Reason.StateNotAllowed, _fixture.Try(CaseFixture.Icrc, _fixture.ConfirmRequest(), Prisoners.ConfirmDuplicate));
        _fixture.Link(CaseFixture.Q, CaseFixture.P);
        Assert.Equal((false, "UA"), (_fixture.Prisoner.Ended, _fixture.Prisoner.DetainingPower));
        var close = new CloseCaseRequest
        {
            Actor = CaseFixture.Actor,
            Etag = _fixture.CaseEtag(CaseFixture.Hq),
            Case = _fixture.Case,
        };
        Assert.Equal(Reason.CustodyNotEnded, _fixture.Try(CaseFixture.Hq, close, CaseRules.CloseCase));
    }

    /// <summary>What was corrected, or undone, restores the clock of his health (D14).</summary>
    [Theory]
    [InlineData("report")]
    [InlineData("link")]
    [InlineData("death")]
    [InlineData("death and link")]
    public void What_is_taken_back_under_the_kept_reference_restores_the_clock_of_the_other_one(string what)
    {
        var request = _fixture.StatusRequest(CustodyState.Hospitalised);
        request.Serious = true;
        _fixture.Do(CaseFixture.Hq, request, Prisoners.RecordStatus);
        var due = _fixture.RuleRunner.Now.AddDays(7);
        _fixture.Link();
        _fixture.RuleRunner.Now = _fixture.RuleRunner.Now.AddDays(6);
        if (what.StartsWith("death", StringComparison.Ordinal))
            _fixture.Do(CaseFixture.Hq, _fixture.DeathOfQ(), Prisoners.RecordStatus);
        else
            Report(CaseFixture.Q);
        Assert.NotEqual(due, _fixture.Prisoner.HealthDueTime?.ToDateTimeOffset());
        if (what.EndsWith("link", StringComparison.Ordinal))
            _fixture.Correct(MarkOf(CaseFixture.Icrc), CaseFixture.Icrc);
        else
            _fixture.Do(
                CaseFixture.Hq,
                _fixture.CorrectRequest(Kept.Entries[^1].Position, CaseFixture.Hq, CaseFixture.Q),
                Prisoners.CorrectRecord
            );
        Assert.Equal(due, _fixture.Prisoner.HealthDueTime?.ToDateTimeOffset());
    }

    /// <summary>While he was free, nobody was to report on him (D14).</summary>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_new_custody_under_the_kept_reference_begins_with_a_new_clock_under_the_other_one(bool undone)
    {
        var request = _fixture.StatusRequest(CustodyState.Hospitalised);
        request.Serious = true;
        _fixture.Do(CaseFixture.Hq, request, Prisoners.RecordStatus);
        var first = _fixture.RuleRunner.Now.AddDays(7);
        _fixture.Link();
        OfKept(CustodyState.Escaped, succeeded: true);
        Assert.Null(_fixture.Prisoner.HealthDueTime);
        _fixture.RuleRunner.Now = _fixture.RuleRunner.Now.AddDays(365);
        OfKept(CustodyState.Recaptured);
        var due = _fixture.RuleRunner.Now.AddDays(7);
        Assert.Equal(due, _fixture.Prisoner.HealthDueTime?.ToDateTimeOffset());
        // Nor does a later status that is corrected bring the old clock back.
        OfKept(CustodyState.Escaped);
        _fixture.Do(
            CaseFixture.Hq,
            _fixture.CorrectRequest(Kept.Entries[^1].Position, CaseFixture.Hq, CaseFixture.Q),
            Prisoners.CorrectRecord
        );
        Assert.Equal(due, _fixture.Prisoner.HealthDueTime?.ToDateTimeOffset());
        if (!undone)
            return;
        // It was another man who was free: this one was to be reported on all along.
        _fixture.Correct(MarkOf(CaseFixture.Icrc), CaseFixture.Icrc);
        Assert.Equal(first, _fixture.Prisoner.HealthDueTime?.ToDateTimeOffset());
    }

    /// <summary>Spells of confinement under two references that are linked then, in days, and when three months of it are over: 92 days
    /// from the first one. Null: they never are.</summary>
    [Theory]
    [InlineData("from 0", "from 10", 92.0)]
    [InlineData("from 0, to 50", "from 60", 102.0)]
    [InlineData("from 60", "from 0, to 50", 102.0)]
    [InlineData("from 0, to 50", "from 30, to 70", null)]
    [InlineData("from 0, to 50", "from 30, to 60, from 80", 112.0)]
    [InlineData("from 0, to 60", "from 10, to 20, from 70", 102.0)]
    [InlineData("from 0, to 80", "", null)]
    [InlineData("", "from 0", 92.0)]
    public void Three_months_of_confinement_are_added_up_under_linked_references(string first, string kept, double? due)
    {
        var begun = _fixture.RuleRunner.Now;
        _fixture.RuleRunner.Now = begun.AddDays(200);
        _fixture.Confine(begun, first);
        _fixture.Confine(begun, kept, CaseFixture.Q);
        _fixture.Link();
        Assert.Equal(due is { } days ? [begun.AddDays(days)] : (DateTimeOffset[])[], Confined());
    }

    [Fact]
    public void Once_a_link_is_undone_or_a_spell_corrected_each_clock_runs_by_what_is_left()
    {
        var begun = _fixture.RuleRunner.Now;
        _fixture.RuleRunner.Now = begun.AddDays(200);
        _fixture.Confine(begun, "from 0, to 50");
        _fixture.Confine(begun, "from 120", CaseFixture.Q);
        _fixture.Link();
        Assert.Equal([begun.AddDays(162)], Confined());
        _fixture.Correct(_fixture.Prisoner.Proceedings[0].Position);
        Assert.Equal(CaseFixture.Q, _fixture.Prisoner.DuplicateOf);
        Assert.Equal([begun.AddDays(162)], Confined());
        _fixture.RuleRunner.Now = begun.AddDays(215);
        Assert.Equal(2, Confined().Count());
        _fixture.Correct(MarkOf(CaseFixture.Icrc), CaseFixture.Icrc);
        Assert.All(_fixture.Prisoner.Proceedings.Concat(Kept.Proceedings), p => Assert.False(p.ConfinementOverdue));
    }

    /// <summary>Under the reference that is no longer kept nothing is recorded any more.</summary>
    [Fact]
    public void What_began_under_one_reference_ends_under_the_one_that_is_kept()
    {
        var begun = _fixture.RuleRunner.Now;
        _fixture.RuleRunner.Now = begun.AddDays(80);
        _fixture.Confine(begun, "from 0");
        _fixture.Link();
        _fixture.FallDue(CaseFixture.Q);
        _fixture.Confine(begun, "to 60", CaseFixture.Q);
        _fixture.RuleRunner.Now = begun.AddDays(200);
        Assert.Empty(Confined());
    }

    /// <summary>What another power recorded of him, and whether it recorded anything, is nothing that the one that holds him learns
    /// (D22).</summary>
    [Theory]
    [InlineData(true, true)]
    [InlineData(true, false)]
    [InlineData(false, true)]
    public void The_power_that_holds_him_does_not_see_what_another_one_recorded_joined_to_its_record(bool handedOver, bool confined)
    {
        if (confined)
            _fixture.Confine(_fixture.RuleRunner.Now.AddDays(-1), "from 0");
        if (handedOver)
        {
            _fixture.HandOver();
            HandOverKept();
        }
        var holder = _fixture.Holder;
        var link = new LinkDuplicateRequest(_fixture.LinkRequest()) { Etag = _fixture.Etag(holder) };
        _fixture.Do(holder, link, Prisoners.LinkDuplicate);
        _fixture.Do(CaseFixture.Icrc, _fixture.ConfirmRequest(), Prisoners.ConfirmDuplicate);
        var (joined, _) = _fixture.RuleRunner.Play(
            "service/custody",
            new Google.Protobuf.WellKnownTypes.Timestamp(),
            (_, context) => Duties.FallDue(Prisoners.KeyOf(_fixture.Case, CaseFixture.Q), context),
            "duty"
        );
        Assert.Equal(confined ? 1 : 0, Assert.IsType<ProceedingsJoined>(Assert.Single(joined.Changes).Event).Proceedings.Count);
        Assert.Contains(joined.Audience, _fixture.Reader(CaseFixture.Icrc).Tokens.Contains);
        Assert.Equal(!handedOver, joined.Audience.Any(_fixture.Reader(holder).Tokens.Contains));
    }

    private IEnumerable<DateTimeOffset> Confined()
    {
        // First what was recorded under the other reference is added, and then it falls due.
        for (var i = 0; i < 3; i++)
        {
            _fixture.FallDue(CaseFixture.P);
            _fixture.FallDue(CaseFixture.Q);
        }
        return _fixture
            .RuleRunner.Events.OfType<Custody.V1.DutyFellDue>()
            .Where(e => e.Duty == Duties.Confinement)
            .Select(e => e.DueTime.ToDateTimeOffset());
    }

    [Fact]
    public void A_link_loses_no_clock_of_either_record_and_a_report_under_the_kept_reference_is_one_on_him()
    {
        var request = _fixture.StatusRequest(CustodyState.Hospitalised);
        request.Serious = true;
        _fixture.Do(CaseFixture.Hq, request, Prisoners.RecordStatus);
        var due = _fixture.RuleRunner.Now.AddDays(7);
        _fixture.Link();
        Assert.Equal((true, due), (_fixture.Prisoner.Serious, _fixture.Prisoner.HealthDueTime.ToDateTimeOffset()));
        Assert.Equal(3, _fixture.Prisoner.Occurrences.Count(o => o is { Corrected: false, Notification: "" }));
        _fixture.RuleRunner.Now = _fixture.RuleRunner.Now.AddDays(6);
        Report(CaseFixture.Q);
        Assert.Equal(due.AddDays(6), _fixture.Prisoner.HealthDueTime.ToDateTimeOffset());
        // His death ends it, under whichever reference it is recorded.
        _fixture.Do(CaseFixture.Hq, _fixture.DeathOfQ(), Prisoners.RecordStatus);
        Assert.Null(_fixture.Prisoner.HealthDueTime);
    }

    [Fact]
    public void A_departure_under_the_kept_reference_ends_the_clock_and_a_transfer_does_not()
    {
        var request = _fixture.StatusRequest(CustodyState.Hospitalised);
        request.Serious = true;
        _fixture.Do(CaseFixture.Hq, request, Prisoners.RecordStatus);
        _fixture.Link();
        var state = _fixture.Prisoner.Clone();
        var entry = new FoldedEntry(99, _fixture.Ago(0), CaseFixture.Consular, "r", null);
        Prisoners.Kind.Apply(state, new CustodyTransferred { Prisoner = CaseFixture.Q, ToPower = "KR" }, entry);
        Assert.Equal(new Prisoner(_fixture.Prisoner) { PassedElsewhere = true }, state);
        Prisoners.Kind.Apply(state, new DepartureRecorded { Prisoner = CaseFixture.Q }, entry);
        Assert.Null(state.HealthDueTime);
        Assert.Equal(_fixture.Prisoner.Statuses, state.Statuses);
    }

    [Fact]
    public void Who_was_under_18_under_either_reference_needs_a_guardian()
    {
        _fixture.Do(
            CaseFixture.Hq,
            new CorrectRecordRequest(_fixture.CorrectRequest(_fixture.Prisoner.Statuses[0].Position))
            {
                Identity = CaseFixture.Seal(CaseFixture.Icrc),
                Under18 = true,
            },
            Prisoners.CorrectRecord
        );
        var said = _fixture.StatementRequest(CaseFixture.Icrc, "KR");
        (said.Prisoner, said.Etag) = (CaseFixture.Q, _fixture.Etag(CaseFixture.Icrc, CaseFixture.Q));
        _fixture.Wish(said, "KR");
        var id = _fixture.Record(said);
        _fixture.Attest(id, AttesterRole.Interviewer, AttesterRole.Interpreter, AttesterRole.Observer);
        Assert.Equal(Standing.InForce, StandingOfKept());
        _fixture.Link();
        Assert.Equal(Standing.NotInForce, StandingOfKept());
    }

    [Fact]
    public void A_reference_is_not_linked_to_itself() =>
        Assert.Equal(
            Reason.RequestInvalid,
            _fixture.Try(CaseFixture.Hq, _fixture.LinkRequest(CaseFixture.P, CaseFixture.P), Prisoners.LinkDuplicate)
        );

    [Fact]
    public void A_link_whose_request_was_erased_is_still_the_link_alone()
    {
        var state = _fixture.Prisoner.Clone();
        var entry = new FoldedEntry(99, _fixture.Ago(0), CaseFixture.Icrc, "r", null);
        var linked = new DuplicateLinked { Prisoner = CaseFixture.P, SameAsPrisoner = CaseFixture.Q };
        Prisoners.Kind.Apply(state, linked, entry);
        Prisoners.Kind.Apply(state, new StatusRecorded { Prisoner = CaseFixture.P, Ended = true }, entry);
        Assert.Equal((CustodyState.Interned, 1, 2), (state.State, state.Statuses.Count, state.Entries.Count));
    }

    private void OfKept(CustodyState state, bool succeeded = false) =>
        _fixture.Do(
            CaseFixture.Hq,
            new RecordStatusRequest(_fixture.StatusRequest(state))
            {
                Prisoner = CaseFixture.Q,
                Etag = _fixture.Etag(CaseFixture.Hq, CaseFixture.Q),
                EscapeSucceeded = succeeded,
            },
            Prisoners.RecordStatus
        );

    private void Report(string reference)
    {
        var report = _fixture.ReleaseRequest(0);
        (report.Prisoner, report.Etag, report.HealthReport) = (reference, _fixture.Etag(CaseFixture.Hq, reference), true);
        _fixture.Do(CaseFixture.Hq, report, Prisoners.NotifyBureau);
    }

    private Standing StandingOfKept() => _fixture.StandingFor([Kept, .. Kept.Duplicates.Select(_fixture.PrisonerOf)], "KR").Standing;
}
