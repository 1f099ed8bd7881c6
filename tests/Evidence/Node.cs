using System.Buffers.Binary;
using System.Diagnostics;
using System.Runtime.CompilerServices;
using System.Text.Json;

namespace Ministries.Evidence.Tests;

/// <summary>The second verifier: written for Node from the specification alone.</summary>
public static class Node
{
    private static string Script([CallerFilePath] string here = "") => Path.Combine(Path.GetDirectoryName(here)!, "verifier", "verify.mjs");

    /// <summary>Verifies files, each by itself.</summary>
    /// <returns>Per file the line at which it breaks, with what that means; null: it holds.</returns>
    public static async Task<IReadOnlyList<(int Line, string Meaning)?>> Verify(IReadOnlyList<byte[]> files, CancellationToken cancel)
    {
        using var node = Process.Start(
            new ProcessStartInfo("node", [Script(), "--batch"]) { RedirectStandardInput = true, RedirectStandardOutput = true }
        )!;
        var answers = Task.Run(
            async () =>
            {
                var lines = new List<string>();
                while (await node.StandardOutput.ReadLineAsync(cancel) is { } line)
                    lines.Add(line);
                return lines;
            },
            cancel
        );
        var length = new byte[4];
        foreach (var file in files)
        {
            BinaryPrimitives.WriteInt32BigEndian(length, file.Length);
            await node.StandardInput.BaseStream.WriteAsync(length, cancel);
            await node.StandardInput.BaseStream.WriteAsync(file, cancel);
        }
        node.StandardInput.Close();
        var results = (await answers)
            .Select(l => JsonDocument.Parse(l).RootElement)
            .Select(r =>
                r.GetProperty("ok").GetBoolean()
                    ? ((int, string)?)null
                    : (r.GetProperty("line").GetInt32(), r.GetProperty("meaning").GetString()!)
            )
            .ToList();
        await node.WaitForExitAsync(cancel);
        Assert.Equal(files.Count, results.Count);
        return results;
    }

    /// <summary>Runs the verifier's own tests.</summary>
    public static Task<(int Code, string Output)> Test(CancellationToken cancel) =>
        Start(["--test", Path.Combine(Path.GetDirectoryName(Script())!, "verify.test.mjs")], cancel);

    /// <summary>Runs the verifier as a person does.</summary>
    public static Task<(int Code, string Output)> Run(CancellationToken cancel, params string[] arguments) =>
        Start([Script(), .. arguments], cancel);

    private static async Task<(int Code, string Output)> Start(string[] arguments, CancellationToken cancel)
    {
        using var node = Process.Start(
            new ProcessStartInfo("node", arguments) { RedirectStandardOutput = true, RedirectStandardError = true }
        )!;
        var error = node.StandardError.ReadToEndAsync(cancel);
        var output = await node.StandardOutput.ReadToEndAsync(cancel);
        await node.WaitForExitAsync(cancel);
        return (node.ExitCode, output + await error);
    }
}
