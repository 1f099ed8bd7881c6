using System.Diagnostics;
using System.Runtime.CompilerServices;
using Ministries.Fixtures;

namespace Ministries.Integrators.Tests;

/// <summary>An integrator's example, run by the commands of README.md, as they stand there, in a copy of its folder.</summary>
/// <param name="Language">Its language, which is the heading of its section.</param>
/// <param name="Folder">The copy, with the contracts at their place beside it.</param>
/// <param name="Ran">Gets each block that is run.</param>
public sealed record Example(string Language, string Folder, RanBlocks Ran)
{
    /// <summary>The document with the commands.</summary>
    public const string Readme = "tests/Integrators/README.md";

    /// <summary>The section of the examples that call a gateway: one block for each language.</summary>
    public const string ThroughTheGateway = "Through the gateway";

    private static readonly TimeSpan Longest = TimeSpan.FromMinutes(10);

    // What each block of a section does.
    private const int Compiling = 0,
        Calling = 1,
        Comparing = 2;

    /// <summary>The folder that holds README.md.</summary>
    public static string Here { get; } = OwnFolder();

    /// <summary>The examples' languages, as data of a theory.</summary>
    public static TheoryData<string> Languages { get; } = ["Node", "Python", "Go"];

    /// <summary>Compiles what the example needs, or installs it.</summary>
    public Task<(int Code, string Output)> Compile() => End(Start(Block(Language, Compiling)));

    /// <summary>Compares the example with the vectors.</summary>
    public Task<(int Code, string Output)> Compare() => End(Start(Block(Language, Comparing)));

    /// <summary>Runs the example to its end.</summary>
    /// <param name="folder">The keys, certificates and agreement.</param>
    /// <param name="arguments">Its arguments.</param>
    public Task<(int Code, string Output)> Call(string folder, params IEnumerable<string> arguments) => End(Begin(folder, arguments));

    /// <summary>Starts the example as kr/mfa. Whoever starts it kills it with what it has started.</summary>
    /// <param name="folder">The keys, certificates and agreement.</param>
    /// <param name="arguments">Its arguments.</param>
    public Process Begin(string folder, params IEnumerable<string> arguments) =>
        Start(Block(Language, Calling), arguments, ("MINISTRIES_FOLDER", folder), ("MINISTRIES_AS", "kr/mfa"));

    /// <summary>Runs the example that calls a gateway of kr/mfa on this machine to its end.</summary>
    /// <param name="state">The gateway's state folder.</param>
    /// <param name="arguments">Its arguments.</param>
    public Task<(int Code, string Output)> CallGateway(string state, params IEnumerable<string> arguments) =>
        End(BeginGateway(state, arguments));

    /// <summary>Starts the example that calls a gateway of kr/mfa on this machine. Whoever starts it kills it with what it has started.
    /// </summary>
    /// <param name="state">The gateway's state folder.</param>
    /// <param name="arguments">Its arguments.</param>
    public Process BeginGateway(string state, params IEnumerable<string> arguments) =>
        Start(
            Block(ThroughTheGateway, Languages.Select(l => l.Data).ToList().IndexOf(Language)),
            arguments,
            ("GATEWAY_AUTHORITY", Path.Combine(state, "gateway.pem")),
            ("GATEWAY_TOKEN", Path.Combine(state, "local.token")),
            ("MINISTRIES_AS", "kr/mfa")
        );

    private Process Start(
        Documents.Block block,
        IEnumerable<string>? arguments = null,
        params IEnumerable<(string Name, string Value)> variables
    )
    {
        var start = new ProcessStartInfo("bash", ["-euc", Ran.Take(block), "first_calls", .. arguments ?? []])
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            WorkingDirectory = Folder,
            Environment =
            {
                ["OUT"] = Directory.CreateDirectory(Path.Combine(Folder, "out")).FullName,
                // What tests/run has fetched is not fetched again.
                ["npm_config_prefer_offline"] = "true",
                ["npm_config_update_notifier"] = "false",
            },
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

    private static Documents.Block Block(string heading, int number) =>
        Documents.ShellBlocks(Readme).Where(b => b.Heading == heading).ElementAt(number);

    private static string OwnFolder([CallerFilePath] string here = "") => Path.GetDirectoryName(here)!;
}
