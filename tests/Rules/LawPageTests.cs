using System.Text.RegularExpressions;

namespace Ministries.Rules.Tests;

/// <summary>The page that says what the software makes impossible is true line by line: each line names the tests that show it.</summary>
public sealed partial class LawPageTests
{
    [Fact]
    public void Every_line_of_the_page_names_tests_that_are_there()
    {
        var root = Root();
        var page = File.ReadAllText(Path.Combine(root, "services", "README.md"));
        var section = page[page.IndexOf("## What the software makes impossible", StringComparison.Ordinal)..];
        section = section[..section.IndexOf("\n## ", StringComparison.Ordinal)];
        var lines = section.Split('\n').Where(l => l.StartsWith('|') && !l.StartsWith("| ---", StringComparison.Ordinal)).ToArray();
        var folder = Path.Combine(root, "tests");
        // Classes of the same name are in several projects, which have a folder each.
        var tests = Directory
            .EnumerateFiles(folder, "*Tests.cs", SearchOption.AllDirectories)
            .SelectMany(file =>
                Method()
                    .Matches(File.ReadAllText(file))
                    .Select(m =>
                        $"{Path.GetRelativePath(folder, file).Split(Path.DirectorySeparatorChar)[0]}"
                        + $".{Path.GetFileNameWithoutExtension(file)}.{m.Groups[1]}"
                    )
            )
            .ToHashSet();
        Assert.True(lines.Length > 20);
        Assert.All(
            lines.Where(l => !l.EndsWith("| test |", StringComparison.Ordinal)),
            line =>
            {
                var named = Named().Matches(line).Select(m => m.Groups[1].Value).ToArray();
                Assert.NotEmpty(named);
                Assert.All(named, test => Assert.Contains(test, tests));
            }
        );
    }

    private static string Root()
    {
        var folder = new DirectoryInfo(AppContext.BaseDirectory);
        while (!File.Exists(Path.Combine(folder!.FullName, "Ministries.sln")))
            folder = folder.Parent;
        return folder.FullName;
    }

    [GeneratedRegex(@"public (?:static )?(?:async )?(?:void|Task) (\w+)\(")]
    private static partial Regex Method();

    [GeneratedRegex(@"`([\w.]+Tests\.\w+)`")]
    private static partial Regex Named();
}
