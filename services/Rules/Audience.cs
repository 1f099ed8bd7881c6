using Ministries.Types.V1;

namespace Ministries.Rules;

/// <summary>
/// Tokens that decide who may see a record or an entry. A record carries tokens and a reader holds tokens; one in common is enough.
/// Membership in a case is looked up at each read, so a removed party no longer sees anything.
/// </summary>
public static class Audience
{
    /// <summary>One participant.</summary>
    public static string Of(string participant) => $"p:{participant}";

    /// <summary>Every party to the case.</summary>
    public static string Case(string @case) => $"c:{@case}";

    /// <summary>The parties to the case that act for the state.</summary>
    public static string State(string @case, string state) => $"c:{@case}:{state}";

    /// <summary>The neutral observers and Protecting Powers of the case.</summary>
    public static string Observers(string @case) => $"c:{@case}:observers";

    /// <summary>Whether an audience is one of the case.</summary>
    public static bool IsOf(string audience, string @case) =>
        audience.StartsWith(Case(@case), StringComparison.Ordinal)
        && (audience.Length == Case(@case).Length || audience[Case(@case).Length] is ':' or '=');

    /// <summary>The case that an audience is one of; empty: of none.</summary>
    public static string CaseOf(string audience) => SpanOfCase(audience).ToString();

    /// <summary>As <see cref="CaseOf"/>.</summary>
    internal static ReadOnlySpan<char> SpanOfCase(string audience)
    {
        if (!audience.StartsWith("c:", StringComparison.Ordinal))
            return [];
        var rest = audience.AsSpan(2);
        return rest.IndexOfAny(':', '=') is var end and >= 0 ? rest[..end] : rest;
    }

    /// <summary>The observers of a case among an audience, with the level and the name that it has; null: there are none among
    /// it.</summary>
    /// <param name="audience">The audience.</param>
    /// <param name="case">The case.</param>
    public static string? ObserversAmong(string audience, string @case)
    {
        if (!IsOf(audience, @case))
            return null;
        var observers = Observers(@case);
        var rest = audience[Case(@case).Length..];
        if (audience.StartsWith(observers, StringComparison.Ordinal))
            return audience;
        // After the case id comes a level (a number) or a name. A state's side begins with letters.
        return rest is [':', >= 'A' and <= 'Z', ..] ? null : observers + rest;
    }

    /// <summary>The members of an audience whom a marking allows the record: they are cleared for its level and, if the marking names
    /// anybody, named.</summary>
    /// <param name="audience">The audience: the case, a state's side of it, or its observers.</param>
    /// <param name="marking">The marking; null: none.</param>
    public static IEnumerable<string> Marked(string audience, Classification? marking)
    {
        var cleared = Cleared(audience, marking?.Level ?? Level.Unspecified);
        return marking is { ReleasableTo.Count: > 0 } ? marking.ReleasableTo.Select(p => Named(cleared, p)) : [cleared];
    }

    /// <summary>Of an audience, those who are cleared for the level.</summary>
    public static string Cleared(string audience, Level level) => level <= Level.Restricted ? audience : $"{audience}:{(int)level}";

    /// <summary>Of an audience, one participant.</summary>
    public static string Named(string audience, string participant) => $"{audience}={participant}";

    /// <summary>Every participant of the agreement.</summary>
    public const string Everybody = "*";
}
