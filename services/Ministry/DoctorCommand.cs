using System.CommandLine;
using System.Text.Json.Nodes;

namespace Ministries.Ministry;

/// <summary>The verb <c>doctor</c>: what is wrong with a set-up, each with its remedy.</summary>
internal static class DoctorCommand
{
    public static Command Create()
    {
        var command = new Command(
            "doctor",
            "Looks at the configuration, the agreement, certificates, keys, clocks, and every service, and says what is wrong and what helps. It "
                + "changes nothing. Exit code 0: nothing is wrong; 1: something is."
        );
        CallCommands.SetCall(
            command,
            async (result, connection, cancel) =>
            {
                var findings = new List<Finding>();
                var text = connection.Format is OutputFormat.Table or OutputFormat.Wide;
                await foreach (var finding in new Doctor(connection).Look(cancel))
                {
                    findings.Add(finding);
                    if (text)
                        Write(connection.Screen, finding);
                }
                Answers.WriteData(connection, new JsonArray([.. findings.Select(f => (JsonNode?)InJson(f))]));
                return findings.Any(f => f.Health == Health.Wrong) ? ExitCodes.WasRefused : ExitCodes.Done;
            }
        );
        return command;
    }

    private static void Write(Screen screen, Finding finding)
    {
        var (mark, style) = finding.Health switch
        {
            Health.Well => ("ok     ", Style.Good),
            Health.Doubtful => ("look   ", Style.Warning),
            _ => ("WRONG  ", Style.Bad),
        };
        foreach (
            var (line, i) in Screen
                .Wrap($"{finding.Subject}: {finding.What}", screen.Shell.TextColumns - mark.Length)
                .Select((l, i) => (l, i))
        )
            screen.Line(new Span(i == 0 ? mark : new string(' ', mark.Length), style), Terminal.Line(line));
        if (finding.Remedy.Length > 0)
            screen.Paragraph(Terminal.Line($"→ {finding.Remedy}"), mark.Length, Style.Bold);
    }

    private static JsonObject InJson(Finding finding) =>
        new()
        {
            ["subject"] = finding.Subject,
            ["health"] = finding.Health.ToString().ToLowerInvariant(),
            ["what"] = finding.What,
            ["remedy"] = finding.Remedy,
        };
}
