using System.Diagnostics;
using System.Runtime.CompilerServices;
using System.Text.RegularExpressions;

namespace Ministries.Integrators.Tests;

/// <summary>An integrator's example, run by the commands of README.md, as they stand there.</summary>
/// <param name="Language">Its language, which is the heading of its section.</param>
public sealed partial record Example(string Language)
{
    private static readonly TimeSpan Longest = TimeSpan.FromMinutes(10);

    // What each block of a section does.
    private const int Compiling = 0,
        Calling = 1,
        Comparing = 2;

    /// <summary>The folder that holds README.md.</summary>
    public static string Here { get; } = Folder();

    /// <summary>The examples' languages, as data of a theory.</summary>
    public static TheoryData<string> Languages { get; } = ["Node", "Python", "Go"];

    /// <summary>Compiles what the example needs.</summary>
    /// <param name="compiled">Where to.</param>
    public Task<(int Code, string Output)> Compile(string compiled) => End(Start(Compiling, compiled));

    /// <summary>Compares the example with the vectors.</summary>
    /// <param name="compiled">Where it was compiled to.</param>
    public Task<(int Code, string Output)> Compare(string compiled) => End(Start(Comparing, compiled));

    /// <summary>Runs the example to its end.</summary>
    /// <param name="compiled">Where it was compiled to.</param>
    /// <param name="folder">The keys, certificates and agreement.</param>
    /// <param name="arguments">Its arguments.</param>
    public Task<(int Code, string Output)> Call(string compiled, string folder, params IEnumerable<string> arguments) =>
        End(Begin(compiled, folder, arguments));

    /// <summary>Starts the example as kr/mfa. Whoever starts it kills it with what it has started.</summary>
    /// <param name="compiled">Where it was compiled to.</param>
    /// <param name="folder">The keys, certificates and agreement.</param>
    /// <param name="arguments">Its arguments.</param>
    public Process Begin(string compiled, string folder, params IEnumerable<string> arguments) =>
        Start(Calling, compiled, arguments, ("MINISTRIES_FOLDER", folder), ("MINISTRIES_AS", "kr/mfa"));

    private Process Start(
        int block,
        string compiled,
        IEnumerable<string>? arguments = null,
        params IEnumerable<(string Name, string Value)> variables
    )
    {
        var start = new ProcessStartInfo("bash", ["-euc", Blocks()[block], "first_calls", .. arguments ?? []])
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            WorkingDirectory = Here,
            Environment = { ["OUT"] = compiled },
        };
        foreach (var (name, value) in variables)
            start.Environment[name] = value;
        return Process.Start(start)!;
    }

    private static async Task<(int Code, string Output)> End(Process process)
    {
        using var deadline = CancellationTokenSource.CreateLinkedTokenSource(TestContext.Current.CancellationToken);
        deadline.CancelAfter(Longest);
        try
        {
            var (output, error) = (
                process.StandardOutput.ReadToEndAsync(deadline.Token),
                process.StandardError.ReadToEndAsync(deadline.Token)
            );
            await process.WaitForExitAsync(deadline.Token);
            return (process.ExitCode, await output + await error);
        }
        finally
        {
            if (!process.HasExited)
                process.Kill(entireProcessTree: true);
            process.Dispose();
        }
    }

    // The commands of the example's section of README.md, block by block.
    private List<string> Blocks()
    {
        var text = File.ReadAllText(Path.Combine(Here, "README.md"));
        var section = text.Split("\n## ").Single(s => s.StartsWith($"{Language}\n", StringComparison.Ordinal));
        return [.. Commands().Matches(section).Select(m => m.Groups[1].Value)];
    }

    [GeneratedRegex("```sh\n(.*?)```", RegexOptions.Singleline)]
    private static partial Regex Commands();

    private static string Folder([CallerFilePath] string here = "") => Path.GetDirectoryName(here)!;
}
