namespace Ministries.Ministry;

/// <summary>Suggests the name that a user may have meant.</summary>
internal static class Suggestion
{
    /// <summary>The known name that is nearest to an unknown one; null: none is near.</summary>
    public static string? Nearest(string name, IEnumerable<string> names) =>
        names
            .Select(n => (Name: n, Steps: Steps(name.ToLowerInvariant(), n.ToLowerInvariant())))
            .Where(n =>
                n.Steps <= Math.Max(1, Math.Min(n.Name.Length, name.Length) / 3)
                || name.Length >= 4 && n.Name.Contains(name, StringComparison.OrdinalIgnoreCase)
            )
            .OrderBy(n => n.Steps)
            .ThenBy(n => n.Name, StringComparer.Ordinal)
            .Select(n => n.Name)
            .FirstOrDefault();

    // How many letters must be put in, taken out, changed or swapped with the next one.
    private static int Steps(string one, string other)
    {
        var steps = new int[one.Length + 1, other.Length + 1];
        for (var i = 0; i <= one.Length; i++)
        for (var j = 0; j <= other.Length; j++)
        {
            if (i == 0 || j == 0)
            {
                steps[i, j] = i + j;
                continue;
            }
            var least = Math.Min(steps[i - 1, j], steps[i, j - 1]) + 1;
            least = Math.Min(least, steps[i - 1, j - 1] + (one[i - 1] == other[j - 1] ? 0 : 1));
            if (i > 1 && j > 1 && one[i - 1] == other[j - 2] && one[i - 2] == other[j - 1])
                least = Math.Min(least, steps[i - 2, j - 2] + 1);
            steps[i, j] = least;
        }
        return steps[one.Length, other.Length];
    }
}
