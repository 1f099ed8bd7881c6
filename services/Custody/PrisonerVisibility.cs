using Ministries.Custody.V1;

namespace Ministries.Custody;

/// <summary>Who sees what of a prisoner's record (D22): every party to the case the reference, who answers for him and whether he is held;
/// the power that holds him, those that held him and the observers what their part allows; anybody what it recorded itself or what was
/// released to it.</summary>
public static class PrisonerVisibility
{
    /// <summary>A prisoner as a reader sees it.</summary>
    /// <param name="prisoner">The prisoner.</param>
    /// <param name="reader">Who reads; a party to his case.</param>
    public static Prisoner Show(Prisoner prisoner, Reader reader)
    {
        var part = new ReadersPart(prisoner, reader);
        var id = reader.Participant.Id;
        var shown = new Prisoner
        {
            Case = prisoner.Case,
            Prisoner_ = prisoner.Prisoner_,
            DetainingPower = prisoner.DetainingPower,
            LastDetainingPower = prisoner.LastDetainingPower,
            TransferringPower = prisoner.TransferringPower,
            Held = part.Knows ? prisoner.Held : prisoner.DetainingPower.Length > 0,
            DuplicateOf = prisoner.DuplicateOf,
        };
        ShowCustody(shown, prisoner, part);
        if (part.Knows || prisoner.Identity?.Recipients.Contains(id) == true || prisoner.IdentityParticipant == id)
        {
            shown.Identity = Seals.Show(prisoner.Identity, prisoner.IdentityParticipant, id);
            shown.IdentityParticipant = prisoner.IdentityParticipant;
        }
        else
            shown.Withheld.Add(["identity", "identity_participant"]);
        ShowWithheld(shown, part);
        ShowRecords(shown, prisoner, part);
        shown.Statements.Add(
            prisoner
                .Statements.Where(s => StatementVisibility.AudienceOf(s).Any(reader.Tokens.Contains))
                .Select(s => StatementVisibility.Show(s, reader))
        );
        shown.Occurrences.Add(prisoner.Occurrences.Where(o => part.IsOf(o.OwedBy)));
        shown.Notifications.Add(
            prisoner
                .Notifications.Where(n => part.IsOf(n.RecordedFor) || n.Data?.Recipients.Contains(id) == true)
                .Select(n => part.IsOf(n.RecordedFor) ? With(n.Clone(), x => x.Data = Seals.Show(x.Data, x.Participant, id)) : Received(n))
        );
        shown.Interests.Add(prisoner.Interests.Where(i => i.Participant == id || i.Submitted && part.Knows));
        // A reader sees its own entries and those that it may correct although another participant made them. An observer of another state
        // may correct the confirmation of a link. The power that answers for the prisoner may correct the registration, if it took him
        // over. It may also correct the current status if another power recorded his death, or if a power recorded the status to which he
        // never passed.
        var ofAnother = part.Holds ? PrisonerFold.OfAnother(prisoner) : null;
        shown.Entries.Add(
            prisoner.Entries.Where(e =>
                e.Participant == id
                || part.Independent && e is { Corrected: false, Confirms: true }
                || e.Position == ofAnother?.Position
                || part.Holds && PrisonerFold.IsRegistration(prisoner, e.Position) && !part.ActsFor(prisoner.Statuses[0].RecordedFor)
            )
        );
        if (ofAnother is not null && shown.Entries.All(e => e.Position != ofAnother.Position))
            shown.Entries.Add(ofAnother);
        return shown;
    }

    private static void ShowCustody(Prisoner shown, Prisoner prisoner, ReadersPart part)
    {
        if (!part.Knows)
        {
            shown.Withheld.Add(["state", "ended", "register_time", "capture_time", "under_18", "serious", "health_due_time"]);
            shown.Withheld.Add(["duplicates", "duplicate_proposals"]);
            return;
        }
        (shown.State, shown.Ended) = (prisoner.State, prisoner.Ended);
        (shown.RegisterTime, shown.CaptureTime) = (prisoner.RegisterTime, prisoner.CaptureTime);
        (shown.Under18, shown.Serious) = (prisoner.Under18, prisoner.Serious);
        // Once another power holds the prisoner under the kept reference, that power's reports move the clock. The former power must not
        // see them.
        if (part.Observer || !prisoner.PassedElsewhere)
            shown.HealthDueTime = prisoner.HealthDueTime;
        else
            shown.Withheld.Add("health_due_time");
        shown.Duplicates.Add(prisoner.Duplicates);
        shown.DuplicateProposals.Add(prisoner.DuplicateProposals);
    }

    // Whether others recorded something of which he may not know is not told: what he might not be shown is marked in any case. But the
    // power that holds him knows who held him before, and observers see what all of them recorded.
    private static void ShowWithheld(Prisoner shown, ReadersPart part)
    {
        if (!part.Observer && !part.AlwaysHeld)
            shown.Withheld.Add(["statuses", "fitness", "proceedings", "moves", "occurrences", "notifications"]);
        if (!part.Knows)
            shown.Withheld.Add("claims");
        if (!part.AlwaysHeld)
            shown.Withheld.Add("risk_assessments");
        shown.Withheld.Add(["statements", "interests", "entries"]);
    }

    // Entries of powers: each power sees its own; observers see all except risk assessments, which only the power sees.
    private static void ShowRecords(Prisoner shown, Prisoner prisoner, ReadersPart part)
    {
        var id = part.Reader.Participant.Id;
        shown.Statuses.Add(prisoner.Statuses.Where(s => part.IsOf(s.RecordedFor)));
        shown.Claims.Add(
            prisoner
                .Claims.Where(c => part.Knows || c.Participant == id)
                .Select(c => With(c.Clone(), x => x.Evidence = Seals.Show(x.Evidence, x.Participant, id)))
        );
        shown.RiskAssessments.Add(
            prisoner
                .RiskAssessments.Where(a => part.ActsFor(a.RecordedFor))
                .Select(a => With(a.Clone(), x => x.Grounds = Seals.Show(x.Grounds, x.Participant, id)))
        );
        shown.Fitness.Add(
            prisoner
                .Fitness.Where(f => part.IsOf(f.RecordedFor))
                .Select(f => With(f.Clone(), x => x.Findings = Seals.Show(x.Findings, x.Participant, id)))
        );
        shown.Moves.Add(
            prisoner
                .Moves.Where(m => part.IsOf(m.RecordedFor))
                .Select(m => With(m.Clone(), x => x.Place = Seals.Show(x.Place, x.Participant, id)))
        );
        shown.Proceedings.Add(
            prisoner
                .Proceedings.Where(p => part.IsOf(p.RecordedFor))
                .Select(p => With(p.Clone(), x => x.Particulars = Seals.Show(x.Particulars, x.Participant, id)))
        );
    }

    // The notification as shown to a recipient of its data.
    private static Notification Received(Notification notification) =>
        new()
        {
            Notification_ = notification.Notification_,
            Data = notification.Data,
            Participant = notification.Participant,
            Time = notification.Time,
            Withheld =
            {
                "occurrence",
                "health_report",
                "power_of_origin",
                "disclosure",
                "disclosure_reason",
                "official",
                "releases",
                "position",
                "corrected",
                "recorded_for",
                "powers_of_origin",
                "consulted_observer",
                "review_time",
                "review_due",
                "health_due_time",
            },
        };

    private static T With<T>(T message, Action<T> change)
    {
        change(message);
        return message;
    }

    // The reader's part with respect to one prisoner.
    private readonly struct ReadersPart(Prisoner prisoner, Reader reader)
    {
        public Reader Reader => reader;

        // The reader observes the case.
        public bool Observer { get; } = reader.Tokens.Contains(Audience.Observers(prisoner.Case));

        // The reader observes, and is not of the state that answers, or last answered, for the prisoner. An observer undoes no link for its
        // own state.
        public bool Independent =>
            Observer && (Reader.Participant.State.Length == 0 || Reader.Participant.State != prisoner.LastDetainingPower);

        // He is the power that answers for the prisoner, or did last.
        private readonly bool _power =
            prisoner.LastDetainingPower.Length > 0 && reader.Tokens.Contains(Audience.State(prisoner.Case, prisoner.LastDetainingPower));

        public bool Knows => _power || Observer;

        // He acts for the power that answers for the prisoner, or did last.
        public bool Holds => _power;

        public bool AlwaysHeld
        {
            get
            {
                var part = this;
                return _power && prisoner.Statuses.All(s => part.ActsFor(s.RecordedFor));
            }
        }

        public bool ActsFor(string state) => state.Length > 0 && reader.Tokens.Contains(Audience.State(prisoner.Case, state));

        public bool IsOf(string state) => Observer || ActsFor(state);
    }
}
