using System.Diagnostics;
using System.Text.RegularExpressions;
using Ministries.Fixtures;

namespace Ministries.Local.Tests;

/// <summary>What somebody sees who starts it for the first time, and so compiles everything.</summary>
public sealed partial class FirstBuildTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("first-build").FullName;

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public async Task The_first_build_says_at_once_what_it_does_and_how_long_it_takes()
    {
        // Of the repository, what is read before anything is compiled.
        string[] projects = ["*.csproj", "*.props", "*.targets"];
        foreach (
            var file in Directory
                .GetFiles(Documents.Root, "Directory.*.props")
                .Append(Path.Combine(Documents.Root, "global.json"))
                .Concat(
                    projects.SelectMany(p => Directory.GetFiles(Path.Combine(Documents.Root, "services"), p, SearchOption.AllDirectories))
                )
                .Where(f => !f.Contains("/obj/", StringComparison.Ordinal))
        )
        {
            var copy = Path.Combine(_folder, Path.GetRelativePath(Documents.Root, file));
            Directory.CreateDirectory(Path.GetDirectoryName(copy)!);
            File.Copy(file, copy);
        }
        using var process = Terminal("dotnet run --project services/Local", _folder);
        try
        {
            var lines = new List<string>();
            while (!lines.Any(l => l.Contains("minutes", StringComparison.Ordinal)))
                lines.Add(
                    Codes()
                        .Replace(
                            await process.StandardOutput.ReadLineAsync(Cancel) ?? throw new EndOfStreamException(string.Join('\n', lines)),
                            ""
                        )
                        .TrimEnd()
                );

            Assert.Contains(lines, l => l.StartsWith("First build: ", StringComparison.Ordinal));
            Assert.All(lines, l => Assert.InRange(l.Length, 0, 80));
        }
        finally
        {
            process.Kill(entireProcessTree: true);
            await process.WaitForExitAsync(CancellationToken.None);
        }
    }

    [Fact]
    public async Task Of_a_later_build_nothing_is_said()
    {
        using var process = Terminal("dotnet msbuild services/Local/Local.csproj -nologo -t:TellOfFirstBuild", Documents.Root);

        var said = await process.StandardOutput.ReadToEndAsync(Cancel);
        await process.WaitForExitAsync(Cancel);

        Assert.True(process.ExitCode == 0, said);
        Assert.DoesNotContain("First build", said);
    }

    // A terminal of 80 columns.
    private static Process Terminal(string command, string folder) =>
        Process.Start(
            new ProcessStartInfo("script", ["--quiet", "--return", "--command", $"stty cols 80; exec {command}", "/dev/null"])
            {
                RedirectStandardInput = true,
                RedirectStandardOutput = true,
                WorkingDirectory = folder,
            }
        )!;

    [GeneratedRegex(@"\x1b[=>]|\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\a]*\a|\r")]
    private static partial Regex Codes();
}
