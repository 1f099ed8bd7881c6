namespace Ministries.Client;

/// <summary>Whose wish a request is to show, and for which destination.</summary>
/// <param name="Destination">The destination (ISO 3166-1 alpha-2).</param>
/// <param name="Prisoners">The references under which he made his statements: one, or several where the custody service has linked records
/// of the same person.</param>
internal sealed record WishToShow(string Destination, IReadOnlyCollection<string> Prisoners)
{
    /// <summary>Reads it as people write it, such as <c>pris_…=KR</c> for each reference.</summary>
    /// <exception cref="FormatException">It has another form, or names two destinations.</exception>
    public static WishToShow? Read(IReadOnlyCollection<string> texts)
    {
        if (texts.Count == 0)
            return null;
        var pairs = texts.Select(t => t.Split('=')).ToList();
        return pairs.All(p => p is [{ Length: > 0 }, { Length: 2 }]) && pairs.Select(p => p[1]).Distinct().ToArray() is [var destination]
            ? new(destination, [.. pairs.Select(p => p[0])])
            : throw new FormatException("what is opened must be a prisoner and one destination, such as pris_…=KR");
    }
}
