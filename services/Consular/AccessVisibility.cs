using Ministries.Consular.V1;
using Ministries.Types.V1;

namespace Ministries.Consular;

/// <summary>Who sees access, and what of it.</summary>
public static class AccessVisibility
{
    /// <summary>What would tell who wished an end, or what was corrected, is its author's alone to know.</summary>
    internal static readonly string[] Reserved = ["CloseAccess", "CorrectRecord"];

    /// <summary>Who may see it.</summary>
    public static IEnumerable<string> AudienceOf(Access access)
    {
        if (access.Kind == AccessKind.Consular)
            yield return Audience.State(access.Case, access.RequestingState);
        yield return Audience.State(access.Case, access.DetainingPower);
        yield return Audience.Observers(access.Case);
    }

    /// <summary>Access as the reader may know it.</summary>
    /// <param name="access">The access.</param>
    /// <param name="reader">Who reads; one who may see it.</param>
    public static Access Show(Access access, Participant reader)
    {
        var shown = access.Clone();
        if (shown.Decision is { } decision)
        {
            if (!reader.IsNeutral() && !reader.ActsFor(access.DetainingPower))
            {
                decision.RightsToldTime = null;
                decision.Withheld.Add("rights_told_time");
            }
            if (reader.Id != decision.Participant && decision.PersonRequest?.Recipients.Contains(reader.Id) != true)
            {
                decision.PersonRequest = null;
                decision.Withheld.Add("person_request");
            }
        }
        foreach (var visit in shown.Visits)
            visit.Report = Seals.Show(visit.Report, visit.Participant, reader.Id);
        Acts.Show(shown.Acts, a => a.Participant == reader.Id || !Reserved.Contains(a.Method));
        shown.Withheld.Add("acts");
        return shown;
    }
}
