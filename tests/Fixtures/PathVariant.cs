namespace Ministries.Fixtures;

/// <summary>Another way to ask for what is at a path.</summary>
/// <param name="Name">What is other.</param>
/// <param name="Path">The path, made from the exact one.</param>
/// <param name="Verb">The verb; null: the endpoint's own.</param>
/// <param name="ContentType">The content type; null: none.</param>
public sealed record PathVariant(string Name, Func<string, string> Path, string? Verb, string? ContentType)
{
    /// <summary>Paths that a parser other than the router's may take for the exact one, and all verbs.</summary>
    /// <param name="beside">A path that everybody may ask for, from which others are reached.</param>
    /// <param name="type">The content type.</param>
    public static IEnumerable<PathVariant> Of(string beside, string? type)
    {
        (string Name, Func<string, string> Path)[] paths =
        [
            ("trailing slash", p => p + "/"),
            ("lower case", p => p.ToLowerInvariant()),
            ("upper case", p => p.ToUpperInvariant()),
            ("doubled slash before", p => "/" + p),
            ("doubled slash within", p => p[0] + p[1..].Replace("/", "//", StringComparison.Ordinal)),
            ("encoded slash", p => "/" + p[1..].Replace("/", "%2F", StringComparison.Ordinal)),
            ("encoded letter", p => p[..^1] + "%" + ((int)p[^1]).ToString("X2", null)),
            ("encoded twice", p => p[..^1] + "%25" + ((int)p[^1]).ToString("X2", null)),
            ("dot segment", p => "/." + p),
            ("parent segment", p => beside + "/.." + p),
            ("encoded parent segment", p => beside + "/%2e%2e" + p),
            ("matrix parameter", p => p + ";a=b"),
            ("space after", p => p + "%20"),
            ("backslash", p => "/" + p[1..].Replace('/', '\\')),
            ("one more segment", p => p + "/x"),
        ];
        string[] verbs = ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "POST"];
        return paths
            .Select(p => new PathVariant(p.Name, p.Path, null, type))
            .Concat(verbs.Select(v => new PathVariant(v, p => p, v, type)));
    }
}
