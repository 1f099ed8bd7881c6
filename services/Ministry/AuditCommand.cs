using System.CommandLine;
using System.Text.Json.Nodes;
using Grpc.Core;

namespace Ministries.Ministry;

/// <summary>The verb <c>audit</c>: the check of <c>log verify</c> for every service.</summary>
internal static class AuditCommand
{
    public static Command Create()
    {
        var entries = LogCommand.EntriesOption();
        var seen = LogCommand.SeenOption();
        var command = new Command(
            "audit",
            "Checks the logs of all services from outside, as `log verify` checks one: what is proved, by whom, and what is not. Exit code 0: "
                + "all is proved; 1: something is not; 3: one was not reached, and of the others all is proved."
        )
        {
            entries,
            seen,
        };
        CallCommands.SetCall(
            command,
            async (result, connection, cancel) =>
            {
                var (codes, all) = (new HashSet<int>(), new JsonArray());
                foreach (var service in connection.Client.Services.Order(StringComparer.Ordinal))
                {
                    var (code, data) = await Verify(connection, service, result.GetValue(entries), cancel);
                    codes.Add(code);
                    all.Add(data);
                    if (data is null)
                        connection.Screen.Line();
                }
                Answers.WriteData(connection, all);
                // That a log is broken is more than that another was not reached, which may be again.
                return codes.Contains(ExitCodes.WasRefused) ? ExitCodes.WasRefused : codes.Max();
            },
            (result, settings) => settings with { SeenFolder = result.GetValue(seen) }
        );
        return command;
    }

    // One service that is not there, or refuses, keeps back nothing of the others.
    private static async Task<(int Code, JsonObject? Data)> Verify(
        Connection connection,
        string service,
        bool entries,
        CancellationToken cancel
    )
    {
        try
        {
            return await LogCommand.Verify(connection, service, entries, cancel);
        }
        catch (NotReachedException e)
        {
            return (ExitCodes.NotReached, Told(e.Message));
        }
        catch (RefusedException e)
        {
            // A service that can decide nothing now is as one that was not reached.
            var later = e.StatusCode is StatusCode.Unavailable || e.RetryAfter is not null;
            return (later ? ExitCodes.NotReached : ExitCodes.WasRefused, Told($"{service} {e.ToText()}"));
        }

        JsonObject? Told(string why)
        {
            if (connection.Format is OutputFormat.Json or OutputFormat.Yaml)
                return new JsonObject
                {
                    ["service"] = service,
                    ["proved"] = false,
                    ["error"] = why,
                };
            connection.Error.Lines($"{why}\n");
            return null;
        }
    }
}
