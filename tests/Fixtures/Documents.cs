using System.Runtime.CompilerServices;
using System.Text.RegularExpressions;

namespace Ministries.Fixtures;

/// <summary>The repository's Markdown files, and what a reader copies from them.</summary>
public static partial class Documents
{
    private static readonly HashSet<string> NotOurs = ["node_modules", "bin", "obj", "data"];

    /// <summary>A fenced block.</summary>
    /// <param name="Document">The file, from the repository's root.</param>
    /// <param name="Language">What stands behind the fence; empty: nothing.</param>
    /// <param name="Text">The lines between the fences.</param>
    /// <param name="Heading">The heading under which it stands; empty: none.</param>
    public sealed record Block(string Document, string Language, string Text, string Heading)
    {
        /// <summary>Whether a reader would copy it into a shell.</summary>
        public bool IsShell =>
            Language is "sh" or "bash" or "shell" or "console" or "zsh" || Language.Length == 0 && Text.Split('\n').Any(IsCommand);
    }

    /// <summary>The repository's root.</summary>
    public static string Root { get; } = Path.GetFullPath(Path.Combine(Path.GetDirectoryName(Here())!, "../.."));

    /// <summary>All Markdown files, from the repository's root.</summary>
    public static IReadOnlyList<string> Files { get; } =
    [.. In(Root).Select(f => Path.GetRelativePath(Root, f)).Order(StringComparer.Ordinal)];

    /// <summary>The blocks of a document that a reader would copy into a shell, in their order.</summary>
    public static IReadOnlyList<Block> ShellBlocks(string document)
    {
        var text = Read(document);
        var fences = Fences().Matches(text).ToArray();
        // What looks like a heading within a block is a comment of a shell.
        var headings = Headings().Matches(text).Where(h => !fences.Any(f => f.Index <= h.Index && h.Index < f.Index + f.Length)).ToArray();
        return
        [
            .. fences
                .Select(m => new Block(
                    document,
                    m.Groups["language"].Value,
                    m.Groups["text"].Value,
                    headings.LastOrDefault(h => h.Index < m.Index)?.Groups["text"].Value ?? ""
                ))
                .Where(b => b.IsShell),
        ];
    }

    /// <summary>The code that stands within the lines of a document's text.</summary>
    public static IReadOnlyList<string> Spans(string document) =>
        [.. Code().Matches(Fences().Replace(Read(document), "")).Select(m => m.Groups[1].Value.Replace('\n', ' '))];

    /// <summary>The one block of a document that begins in this way.</summary>
    public static string Script(string document, string begins) =>
        ShellBlocks(document).Single(b => b.Text.StartsWith(begins, StringComparison.Ordinal)).Text;

    /// <summary>Whether a line is a call of a program that a reader may have, with arguments or from the folder of the tests.</summary>
    public static bool IsCommand(string line) => Commands().IsMatch(line);

    private static string Read(string document) => File.ReadAllText(Path.Combine(Root, document));

    private static IEnumerable<string> In(string folder) =>
        Directory
            .EnumerateFiles(folder, "*.md")
            .Concat(
                Directory
                    .EnumerateDirectories(folder)
                    .Where(d => !NotOurs.Contains(Path.GetFileName(d)) && new DirectoryInfo(d).LinkTarget is null)
                    .SelectMany(In)
            );

    private static string Here([CallerFilePath] string file = "") => file;

    [GeneratedRegex(@"^ *```(?<language>\w*)[^\n]*\n(?<text>.*?)^ *```", RegexOptions.Singleline | RegexOptions.Multiline)]
    private static partial Regex Fences();

    [GeneratedRegex("^#+ (?<text>.*)$", RegexOptions.Multiline)]
    private static partial Regex Headings();

    [GeneratedRegex("`([^`]+)`")]
    private static partial Regex Code();

    [GeneratedRegex(
        @"^(\$ )?(\w+=\S* +)*(ministry|dotnet|docker|docker-compose|kubectl|node|npm|npx|git|curl|openssl|psql|createdb|pg_\w+|buf|protoc|go|"
            + @"python3?|promtool|rabbitmqctl|rabbitmq-diagnostics|patronictl|chronyc|perf|cp|mkdir|sudo|apt|apt-get|bash|cat|export|source) +\S"
            + @"|^(\$ )?(\w+=\S* +)*tests/(run|system|bench|cluster)( |$)"
    )]
    private static partial Regex Commands();
}
