using Ministries.Custody.V1;

namespace Ministries.Custody;

/// <summary>Who sees a statement, and what of it.</summary>
public static class StatementVisibility
{
    /// <summary>Who may see a statement: the side that held the person then and the case's observers, as far as its marking
    /// allows, and who recorded it.</summary>
    public static IEnumerable<string> AudienceOf(Statement statement) =>
        [
            .. Audience.Marked(Audience.State(statement.Case, statement.RecordedFor), statement.Classification),
            .. Audience.Marked(Audience.Observers(statement.Case), statement.Classification),
            Audience.Of(statement.Participant),
        ];

    /// <summary>A statement as a reader sees it: what it accepts for the side that held the person and those named in the
    /// interview, its content for sender and recipients.</summary>
    public static Statement Show(Statement statement, Reader reader)
    {
        var shown = statement.Clone();
        var id = reader.Participant.Id;
        if (
            !reader.Tokens.Contains(Audience.State(statement.Case, statement.RecordedFor))
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
