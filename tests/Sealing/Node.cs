using System.Diagnostics;
using System.Runtime.CompilerServices;
using System.Text.Json.Nodes;

namespace Ministries.Sealing.Tests;

/// <summary>The second implementation: written for Node from the specification alone.</summary>
internal static class Node
{
    /// <summary>Asks it, each request for itself.</summary>
    public static async Task<IReadOnlyList<JsonObject>> Ask(IReadOnlyList<JsonObject> requests, CancellationToken cancel)
    {
        using var node = Process.Start(
            new ProcessStartInfo("node", [Script()])
            {
                RedirectStandardInput = true,
                RedirectStandardOutput = true,
                RedirectStandardError = true,
            }
        )!;
        var (answers, errors) = (node.StandardOutput.ReadToEndAsync(cancel), node.StandardError.ReadToEndAsync(cancel));
        foreach (var request in requests)
            await node.StandardInput.WriteLineAsync(request.ToJsonString().AsMemory(), cancel);
        node.StandardInput.Close();
        var lines = (await answers).Split('\n', StringSplitOptions.RemoveEmptyEntries);
        Assert.True(lines.Length == requests.Count, await errors);
        await node.WaitForExitAsync(cancel);
        return [.. lines.Select(l => JsonNode.Parse(l)!.AsObject())];
    }

    private static string Script([CallerFilePath] string here = "") => Path.Combine(Path.GetDirectoryName(here)!, "interop", "sealed.mjs");
}
