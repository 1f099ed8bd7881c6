using Ministries.Types.V1;

namespace Ministries.Rules;

/// <summary>What a route means for custody.</summary>
public static class Routes
{
    /// <summary>Whether the receiving state answers for the prisoner after a hand-over by this route, as the power of before did (12(2),
    /// 109-111). After every other one custody has ended (D1).</summary>
    public static bool PassesCustody(this Route route) => route is Route.Article12Transfer or Route.NeutralAccommodation;
}
