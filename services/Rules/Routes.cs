using Ministries.Types.V1;

namespace Ministries.Rules;

/// <summary>What a route means for custody.</summary>
public static class Routes
{
    /// <summary>Whether, after a hand-over by this route, the receiving state answers for the prisoner as the previous power did (12(2),
    /// 109-111). After every other route custody has ended (D1).</summary>
    public static bool PassesCustody(this Route route) => route is Route.Article12Transfer or Route.NeutralAccommodation;
}
