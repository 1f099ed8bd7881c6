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

    /// <summary>A statement as a reader sees it: its content for sender and recipients alone. Its commitments tell nothing to who has no
    /// opening.</summary>
    public static Statement Show(Statement statement, Reader reader)
    {
        var shown = statement.Clone();
        shown.Content = Seals.Show(statement.Content, statement.Participant, reader.Participant.Id);
        return shown;
    }
}
