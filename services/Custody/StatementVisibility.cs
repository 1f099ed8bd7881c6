using Ministries.Custody.V1;
using Ministries.Types.V1;

namespace Ministries.Custody;

/// <summary>Who sees a statement, and what of it.</summary>
public static class StatementVisibility
{
    /// <summary>Who may see a statement: the case's observers whatever its marking, so that nobody hides one from them (D9); the side that
    /// held the person then, as far as its marking allows; and who recorded it.</summary>
    public static IEnumerable<string> AudienceOf(Statement statement) =>
        [.. AudienceOf(statement.Case, statement.RecordedFor, statement.Classification), Audience.Of(statement.Participant)];

    /// <summary>Who may see a statement beside who recorded it.</summary>
    /// <param name="case">The case.</param>
    /// <param name="power">The state that held the person when it was recorded.</param>
    /// <param name="marking">Its marking, which limits the state's participants alone.</param>
    public static IEnumerable<string> AudienceOf(string @case, string power, Classification? marking) =>
        [.. Audience.Marked(Audience.State(@case, power), marking), Audience.Observers(@case)];

    /// <summary>A statement as a reader sees it: what it accepts for those who keep custody for the power that held the person and those
    /// named in the interview, its content for sender and recipients.</summary>
    public static Statement Show(Statement statement, Reader reader)
    {
        var shown = statement.Clone();
        var id = reader.Participant.Id;
        if (
            !(
                reader.Tokens.Contains(Audience.State(statement.Case, statement.RecordedFor))
                && reader.Participant.Capacities.Contains(Capacity.Custody)
            )
            && statement.Participant != id
            && statement.Interview?.Attendants.Any(a => a.Participant == id) != true
        )
        {
            shown.AcceptedDestinations.Clear();
            shown.Withheld.Add("accepted_destinations");
        }
        shown.Content = Seals.Show(statement.Content, statement.Participant, id);
        return shown;
    }
}
