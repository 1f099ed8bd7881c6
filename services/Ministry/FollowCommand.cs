using System.CommandLine;
using System.Text.Json.Nodes;

namespace Ministries.Ministry;

/// <summary>The verb <c>follow</c>: the entries of a ledger as they come.</summary>
internal static class FollowCommand
{
    public static Command Create()
    {
        var service = CallCommands.ServiceArgument();
        service.Arity = ArgumentArity.ZeroOrOne;
        service.Description = "calllog, custody or consular; not given: all three.";
        var from = new Option<ulong>("--from") { Description = "The first position wanted, of the service.", HelpName = "position" };
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
            "Follows the entries of a service's ledger, or of all, that you may see; checks each part against its digest. Ctrl-C ends it."
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
            {
                var (of, within) = (result.GetValue(service), result.GetValue(@case) ?? "");
                if (of is not null)
                    return Follow(connection, of, result.GetValue(from), within, result.GetValue(untilNow), cancel);
                if (result.GetResult(from) is { Implicit: false })
                    throw new FormatException("--from is a position of one service: name it, such as `ministry follow custody --from 7`");
                return FollowAll(connection, within, result.GetValue(untilNow), cancel);
            }
        );
        return command;
    }

    /// <summary>Writes the entries of one service as they come.</summary>
    /// <returns>The exit code.</returns>
    public static Task<int> Follow(
        Connection connection,
        string service,
        ulong from,
        string @case,
        bool untilNow,
        CancellationToken cancel
    ) =>
        UntilEnded(
            connection,
            token => Read(connection, service, from, @case, untilNow, entry => Write(connection, null, entry), token),
            cancel
        );

    // What is there comes in the order of time, and what is new as it comes.
    private static Task<int> FollowAll(Connection connection, string @case, bool untilNow, CancellationToken cancel) =>
        UntilEnded(
            connection,
            async token =>
            {
                var there = new List<(string Service, LedgerEntry Entry)>();
                var next = new Dictionary<string, ulong>();
                foreach (var service in Contract.Services)
                    next[service] = await Read(connection, service, 0, @case, untilNow: true, e => there.Add((service, e)), token);
                foreach (var (service, entry) in there.OrderBy(e => e.Entry.Header.CommitTime))
                    Write(connection, service, entry);
                if (untilNow)
                    return;
                var one = new Lock();
                await Task.WhenAll(
                    Contract.Services.Select(service =>
                        Read(
                            connection,
                            service,
                            next[service],
                            @case,
                            untilNow: false,
                            entry =>
                            {
                                lock (one)
                                    Write(connection, service, entry);
                            },
                            token
                        )
                    )
                );
            },
            cancel
        );

    private static async Task<int> UntilEnded(Connection connection, Func<CancellationToken, Task> follow, CancellationToken cancel)
    {
        using var either = CancellationTokenSource.CreateLinkedTokenSource(cancel, connection.Shell.Pipe?.Unread ?? default);
        try
        {
            await follow(either.Token);
        }
        catch (OperationCanceledException) when (either.IsCancellationRequested)
        {
            // That is how it is ended: by Ctrl-C, or by the end of whoever reads it.
        }
        return ExitCodes.Done;
    }

    // The position after what was read.
    private static async Task<ulong> Read(
        Connection connection,
        string service,
        ulong from,
        string @case,
        bool untilNow,
        Action<LedgerEntry> write,
        CancellationToken cancel
    ) =>
        await connection.Reach(
            service,
            async () =>
            {
                var next = from;
                await foreach (var response in connection.Client.Follow(service, from, @case, untilNow, cancel))
                {
                    if (response.Entry is { } entry)
                        write(LedgerEntry.Read(entry));
                    next = response.NextPosition;
                }
                return next;
            },
            "",
            cancel
        );

    private static void Write(Connection connection, string? service, LedgerEntry entry)
    {
        var screen = connection.Screen;
        if (connection.Format is OutputFormat.Json)
            screen.Line(InJson(service, entry).ToJsonString());
        else if (connection.Format is OutputFormat.Yaml)
            screen.Lines("---\n" + Yaml.Of(InJson(service, entry)));
        else
            foreach (var line in EntryLines.Of(entry, screen, connection.Format == OutputFormat.Wide, service))
                screen.Line(line);
        screen.Flush();
    }

    private static JsonObject InJson(string? service, LedgerEntry entry)
    {
        var data = entry.ToJson();
        if (service is not null)
            data.Insert(0, "service", service);
        return data;
    }
}
