using System.CommandLine;

namespace Ministries.Ministry;

/// <summary>The verb <c>follow</c>: the entries of a ledger as they come.</summary>
internal static class FollowCommand
{
    public static Command Create()
    {
        var service = CallCommands.ServiceArgument();
        var from = new Option<ulong>("--from") { Description = "The first position wanted.", HelpName = "position" };
        var @case = new Option<string>("--case")
        {
            Description = "Only entries of this case.",
            HelpName = "case",
            DefaultValueFactory = _ => "",
        };
        var untilNow = new Option<bool>("--until-now") { Description = "Stop at the newest entry instead of waiting for more." };
        Completion.AddIds(@case, "case");
        var command = new Command(
            "follow",
            "Follows the entries of a service's ledger that you may see; checks each part against its digest. Ctrl-C ends it."
        )
        {
            service,
            from,
            @case,
            untilNow,
        };
        CallCommands.SetCall(
            command,
            (result, connection, cancel) =>
                Follow(
                    connection,
                    result.GetRequiredValue(service),
                    result.GetValue(from),
                    result.GetValue(@case) ?? "",
                    result.GetValue(untilNow),
                    cancel
                )
        );
        return command;
    }

    /// <summary>Writes entries as they come.</summary>
    /// <returns>The exit code.</returns>
    public static async Task<int> Follow(
        Connection connection,
        string service,
        ulong from,
        string @case,
        bool untilNow,
        CancellationToken cancel
    )
    {
        try
        {
            await connection.Reach(
                service,
                async () =>
                {
                    await foreach (var response in connection.Client.Follow(service, from, @case, untilNow, cancel))
                        if (response.Entry is { } entry)
                            Write(connection, LedgerEntry.Read(entry));
                    return true;
                },
                "",
                cancel
            );
        }
        catch (OperationCanceledException) when (cancel.IsCancellationRequested)
        {
            // That is how it is ended.
        }
        return ExitCodes.Done;
    }

    private static void Write(Connection connection, LedgerEntry entry)
    {
        var screen = connection.Screen;
        if (connection.Format is OutputFormat.Json)
            screen.Line(entry.ToJson().ToJsonString());
        else if (connection.Format is OutputFormat.Yaml)
            screen.Lines("---\n" + Yaml.Of(entry.ToJson()));
        else
            foreach (var line in EntryLines.Of(entry, screen, connection.Format == OutputFormat.Wide))
                screen.Line(line);
        screen.Flush();
    }
}
