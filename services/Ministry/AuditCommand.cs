using System.CommandLine;
using System.Text.Json.Nodes;

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
                + "all is proved; 1: not all; 3: not reached."
        )
        {
            entries,
            seen,
        };
        CallCommands.SetCall(
            command,
            async (result, connection, cancel) =>
            {
                var (code, all) = (ExitCodes.Done, new JsonArray());
                foreach (var service in connection.Client.Services.Order(StringComparer.Ordinal))
                {
                    int one;
                    JsonNode? data = null;
                    try
                    {
                        (one, data) = await LogCommand.Verify(connection, service, result.GetValue(entries), cancel);
                    }
                    catch (NotReachedException e)
                    {
                        connection.Error.Lines($"{e.Message}\n");
                        one = ExitCodes.NotReached;
                    }
                    if (data is not null)
                        all.Add(data);
                    code = Math.Max(code, one);
                    if (data is null)
                        connection.Screen.Line();
                }
                if (all.Count > 0)
                    Answers.WriteData(connection, all);
                return code;
            },
            (result, settings) => settings with { SeenFolder = result.GetValue(seen) }
        );
        return command;
    }
}
