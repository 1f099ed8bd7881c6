using System.Diagnostics;
using static Ministries.Ministry.Tests.Services;

namespace Ministries.Ministry.Tests;

/// <summary>Runs programs as their users would.</summary>
internal static class Processes
{
    /// <summary>Runs one to its end, which must be exit code 0.</summary>
    /// <returns>What it wrote to standard output.</returns>
    public static async Task<string> Output(ProcessStartInfo start)
    {
        (start.RedirectStandardOutput, start.RedirectStandardError) = (true, true);
        using var process = Process.Start(start)!;
        using var ended = Cancel.Register(() => process.Kill(true));
        var (output, error) = (process.StandardOutput.ReadToEndAsync(Cancel), process.StandardError.ReadToEndAsync(Cancel));
        await process.WaitForExitAsync(Cancel);
        Assert.True(process.ExitCode == 0, $"{string.Join(' ', start.ArgumentList)}\n{await output}\n{await error}");
        return await output;
    }

    /// <summary>Names a participant's files and the services in variables, as Local prints them.</summary>
    public static void Name(this Services services, IDictionary<string, string?> variables)
    {
        variables["MINISTRIES_FOLDER"] = services.Folder;
        variables["MINISTRIES_AS"] = "kr/mfa";
        foreach (var (service, address) in services.Addresses)
            variables[$"MINISTRIES_{service.ToUpperInvariant()}"] = address.ToString();
    }
}
