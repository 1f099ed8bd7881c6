using System.Globalization;
using Google.Protobuf;
using Ministries.Custody.V1;
using Ministries.Types.V1;
using Route = Ministries.Types.V1.Route;

namespace Ministries.Custody;

/// <summary>A planned departure.</summary>
/// <param name="Route">The way in which he is to leave.</param>
/// <param name="Destination">The destination (ISO 3166-1 alpha-2).</param>
public readonly record struct Departure(Route Route, string Destination);

/// <summary>The person's statements on which a departure rests (D7 to D9).</summary>
public static class Standings
{
    /// <summary>
    /// The standing for a destination at a time. A departure by any route needs the prisoner's word: his latest privately verified
    /// statement, by the time at which he spoke. That statement must accept the destination and be in force, and no later statement of any
    /// kind may object: it is easier to stop than to go. An objection holds until its recorder corrects it or a later verified statement
    /// follows. An acceptance that is not verified changes nothing. A release where he is held is no departure. In doubt, standing is not
    /// in force. No service reads the destinations of a statement: a statement accepts the destination if an opening matches one of its
    /// commitments, and otherwise objects. The answer always has the same form and takes the same work.
    /// </summary>
    /// <param name="records">The prisoner's record and those of the same person that are no longer kept.</param>
    /// <param name="before">The statements under references that were linked to his, made before the link was undone
    /// (<see cref="Readiness.SaidBefore(IReadOnlyList{Prisoner}, Func{string, Prisoner})"/>).</param>
    /// <param name="case">The case.</param>
    /// <param name="departure">The departure.</param>
    /// <param name="openings">The openings that show which of his statements accept the destination; they are not kept.</param>
    /// <param name="at">The time.</param>
    /// <param name="permissions">The agreement.</param>
    /// <param name="secrets">What the answer's basis is made with.</param>
    public static DestinationStanding Of(
        IReadOnlyList<Prisoner> records,
        IReadOnlyList<Statement> before,
        Case @case,
        Departure departure,
        IReadOnlyCollection<ByteString> openings,
        DateTimeOffset at,
        Permissions permissions,
        RecordSecrets secrets
    )
    {
        var accepting = Opened(records.SelectMany(r => r.Statements).Concat(before), departure.Destination, openings);
        var word = WordFor(records, before, @case, departure, at, permissions, accepting.Contains);
        var standing = new DestinationStanding
        {
            Destination = departure.Destination,
            Standing = word is null ? Standing.NotInForce : Standing.InForce,
            Basis = BasisOf(records[0], departure, word, at.UtcTicks, secrets),
        };
        if (word is [var stands, ..])
            standing.AttestedBy.Add(stands.Attestations.Where(Statements.InForce).Select(a => a.Role).Distinct().Order());
        return standing;
    }

    /// <summary>The statements that an opening opens and that at some time had all demanded attestations, the latest first. Later
    /// revocations, corrections and expiry change nothing.</summary>
    /// <param name="records">The prisoner's record and those of the same person that are no longer kept.</param>
    /// <param name="destination">The destination (ISO 3166-1 alpha-2).</param>
    /// <param name="openings">The openings.</param>
    /// <param name="permissions">The agreement.</param>
    internal static IEnumerable<Statement> EverAttested(
        IReadOnlyList<Prisoner> records,
        string destination,
        IReadOnlyCollection<ByteString> openings,
        Permissions permissions
    ) =>
        Opened(records.SelectMany(r => r.Statements), destination, openings)
            .Where(s => s.Interview is not null && Demanded(s, under18: false, permissions).All(r => s.Attestations.Any(a => a.Role == r)))
            .OrderByDescending(s => (SpokenAt(s), s.Position));

    // The statements that one of the openings opens. Each is compared with each before anything is decided, so that the time tells nothing
    // of the answer.
    private static HashSet<Statement> Opened(
        IEnumerable<Statement> statements,
        string destination,
        IReadOnlyCollection<ByteString> openings
    ) =>
        statements
            .Where(s =>
                openings.Aggregate(false, (found, o) => found | WishCommitments.Matches(s.Commitments, o, s.Case, s.Prisoner, destination))
            )
            .ToHashSet<Statement>(ReferenceEqualityComparer.Instance);

    /// <summary>Whether an answer that was given in force still holds: it would rest on the same statements now, and his word is still
    /// verified and not too old. Needs no opening: that these statements accept was found when it was given.</summary>
    /// <param name="records">The prisoner's record and those of the same person that are no longer kept.</param>
    /// <param name="case">The case.</param>
    /// <param name="departure">The departure.</param>
    /// <param name="basis">The basis of the answer (<see cref="DestinationStanding.Basis"/>).</param>
    /// <param name="context">The states, the time, the agreement and the secrets.</param>
    internal static bool StillHolds(IReadOnlyList<Prisoner> records, Case @case, Departure departure, string basis, RuleContext context) =>
        WordFor(records, Readiness.SaidBefore(context, records), @case, departure, context.Now, context.Permissions, _ => true) is { } word
        && long.TryParse(basis.Split('.')[0], NumberStyles.None, CultureInfo.InvariantCulture, out var answered)
        && basis == BasisOf(records[0], departure, word, answered, context.Secrets);

    // The statement that stands for the departure, and then each that he made since, in order; none for a release where he is held; null:
    // nothing stands.
    private static Statement[]? WordFor(
        IReadOnlyList<Prisoner> records,
        IReadOnlyList<Statement> before,
        Case @case,
        Departure departure,
        DateTimeOffset at,
        Permissions permissions,
        Func<Statement, bool> accepts
    )
    {
        // Nothing rests on a registration that was corrected without a right one.
        if (departure.Destination.Length == 0 || departure.Route == Route.Unspecified || records[0].Identity is null)
            return null;
        if (departure.Route == Route.Release && departure.Destination == records[0].DetainingPower)
            return [];
        var said = records.SelectMany(r => r.Statements).Where(s => s.State != StatementState.Corrected).ToArray();
        var under18 = records.Any(r => r.Under18);
        var involved = InvolvedStates(records, @case, departure.Destination, permissions);
        var word = said.Where(s => PrivatelyVerified(s, under18, involved, permissions)).MaxBy(s => (SpokenAt(s), s.Position));
        if (word is null || word.ExpireTime.ToDateTimeOffset() <= at)
            return null;
        // A statement under a reference whose link was undone gives no standing, but stops a departure as before. So a participant that
        // undoes the link alone cannot hide an objection (D9).
        var stops = said.Concat(before.Where(s => s.State != StatementState.Corrected));
        Statement[] since = [word, .. stops.Where(s => s != word && SpokenAt(s) >= SpokenAt(word)).OrderBy(s => s.Position)];
        return since.All(accepts) ? since : null;
    }

    // A party sees the basis of a hand-over to which it agreed. So that two of them cannot be compared, each has the time of its answer.
    private static string BasisOf(Prisoner prisoner, Departure departure, Statement[]? word, long answered, RecordSecrets secrets)
    {
        var basis = secrets.EtagOf(
            new StandingBasis
            {
                Case = prisoner.Case,
                Prisoner = prisoner.Prisoner_,
                Route = departure.Route,
                Destination = departure.Destination,
                Statements = { word?.Select(s => s.Statement_) ?? [] },
                AnswerTime = answered,
            }
        );
        return string.Create(CultureInfo.InvariantCulture, $"{answered}.{basis}");
    }

    /// <summary>Whether a statement counts as privately verified (D7): an interview without witnesses from any involved state, whenever
    /// it became one, attested by the set that the agreement demands, a neutral observer always among them, a guardian for one under
    /// 18.</summary>
    private static bool PrivatelyVerified(Statement statement, bool under18, Involved involved, Permissions permissions)
    {
        if (statement.State != StatementState.Attested || statement.Interview is not { WithoutWitnesses: true } interview)
            return false;
        if (interview.Attendants.Any(a => permissions.Participant(a.Participant) is not { } attendant || involved.Includes(attendant)))
            return false;
        return Demanded(statement, under18, permissions)
            .All(role =>
                statement.Attestations.Any(a =>
                    Statements.InForce(a)
                    && a.Role == role
                    && (role != AttesterRole.Observer || permissions.Participant(a.Participant)?.IsNeutral() == true)
                )
            );
    }

    // Whose attestations the statement needs.
    private static HashSet<AttesterRole> Demanded(Statement statement, bool under18, Permissions permissions)
    {
        var demanded = permissions.Agreement.AttestersDemanded.Append(AttesterRole.Observer).ToHashSet();
        // Where none was needed, there is nobody to attest it.
        if (statement.Interpreter.Length == 0)
            demanded.Remove(AttesterRole.Interpreter);
        // A person who had a guardian was a minor when he made the statement, whatever his registration says since.
        if (under18 || statement.Under18 || statement.Interview?.Attendants.Any(a => a.Role == AttesterRole.Guardian) == true)
            demanded.Add(AttesterRole.Guardian);
        return demanded;
    }

    /// <summary>Of which states nobody may attend an interview without witnesses (D7).</summary>
    /// <param name="records">The prisoner's record and those of the same person that are no longer kept.</param>
    /// <param name="case">The case.</param>
    /// <param name="destination">Where he would go (ISO 3166-1 alpha-2); empty: nowhere yet.</param>
    /// <param name="permissions">The agreement.</param>
    internal static Involved InvolvedStates(IReadOnlyList<Prisoner> records, Case @case, string destination, Permissions permissions)
    {
        IEnumerable<string> parties =
        [
            .. @case.InvolvedStates,
            @case.DetainingPower,
            destination,
            .. records.SelectMany(r => r.Statuses).Select(s => s.RecordedFor),
            .. records.Select(r => r.LastDetainingPower),
        ];
        var claims = records
            .SelectMany(r => r.Claims)
            .SelectMany(c => (string[])[c.Claimant, c.StateClaimed, permissions.Participant(c.Participant)?.State ?? ""]);
        var origins = records.SelectMany(r => r.Notifications).SelectMany(n => n.PowersOfOrigin.Append(n.PowerOfOrigin));
        return new Involved(Named(parties), Named(claims.Concat(origins)));

        static HashSet<string> Named(IEnumerable<string> states) => [.. states.Where(state => state.Length > 0)];
    }

    /// <summary>The states whose officials are witnesses at an interview.</summary>
    /// <param name="Parties">The states that hold or held the person, those that are or were party to the case for him, and the state to
    /// which he would go.</param>
    /// <param name="Told">The states that a claim names, as claimant or as the state claimed, or that a notification names as a power of
    /// origin.</param>
    internal readonly record struct Involved(IReadOnlySet<string> Parties, IReadOnlySet<string> Told)
    {
        /// <summary>Whether an attendant is such an official, so that the interview was not private. A claim or notification alone does not
        /// make a neutral attendant a witness. Otherwise anybody could claim the person for a Protecting Power's state, or a former power
        /// could name that state in a notice, and so undo what the Protecting Power attested (D9).</summary>
        public bool Includes(Participant attendant) =>
            Parties.Contains(attendant.State) || !attendant.IsNeutral() && Told.Contains(attendant.State);
    }

    // When the prisoner spoke. A statement whose request was erased has no such time, so it counts from when it was recorded: he spoke no
    // later.
    private static DateTimeOffset SpokenAt(Statement statement) => (statement.StatementTime ?? statement.RecordTime).ToDateTimeOffset();
}
