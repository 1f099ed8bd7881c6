using System.Diagnostics;
using System.Text.RegularExpressions;
using Ministries.Client;
using static Ministries.Ministry.Tests.Services;

namespace Ministries.Ministry.Tests;

/// <summary>What a newcomer copies from the README first, as it stands there.</summary>
public sealed partial class FiveMinutesTests(Services services) : IClassFixture<Services>
{
    [Fact]
    public async Task The_README_leads_from_a_new_case_to_a_submitted_request_and_its_evidence()
    {
        var folder = Directory.CreateTempSubdirectory("minutes").FullName;
        try
        {
            var readme = await File.ReadAllTextAsync(Path.Combine(PackageTests.Root, "README.md"), Cancel);
            var script = Blocks().Match(readme).Groups["script"].Value;
            // The command that these tests were built with, in place of the one that would be built.
            Assert.Contains("dotnet run --no-build --project services/Ministry --", script, StringComparison.Ordinal);
            var built = Path.Combine(AppContext.BaseDirectory, "ministry.dll");
            script = script.Replace("dotnet run --no-build --project services/Ministry --", $"dotnet {built}", StringComparison.Ordinal);

            var output = await Run(folder, script);

            Assert.Contains("one-sided", output, StringComparison.Ordinal);
            Assert.Contains("drafted", output, StringComparison.Ordinal);
            Assert.Contains("state: submitted", output, StringComparison.Ordinal);
            Assert.Contains("The evidence holds", output, StringComparison.Ordinal);
        }
        finally
        {
            Directory.Delete(folder, true);
        }
    }

    private Task<string> Run(string folder, string script)
    {
        var start = new ProcessStartInfo("bash", ["-euo", "pipefail", "-c", script]) { WorkingDirectory = folder };
        services.Name(start.Environment);
        start.Environment["MINISTRIES_CONFIG"] = Path.Combine(folder, "config.json");
        return Processes.Output(start);
    }

    // The second block of the section: the first one starts the services.
    [GeneratedRegex(
        "^## Five minutes\n.*?^```sh\n.*?^```\n.*?^```sh\n(?<script>.*?)^```",
        RegexOptions.Singleline | RegexOptions.Multiline
    )]
    private static partial Regex Blocks();
}
