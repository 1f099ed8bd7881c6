using System.CommandLine;
using System.Text.Json.Nodes;

namespace Ministries.Ministry;

/// <summary>The verb <c>sent</c>: writes that were sent and not answered.</summary>
internal static class SentCommand
{
    public static Command Create()
    {
        var list = new Command("list", "Lists them, each with the command that sends exactly the same write again.");
        CallCommands.SetCall(list, (_, connection, _) => Task.FromResult(List(connection)));
        var command = new Command(
            "sent",
            "Writes that were sent and not answered, so that it is not known whether they were recorded. They are kept with the receipts. Sent "
                + "again with its id, a write is the same one, and its answer says what became of it."
        )
        {
            list,
            Drop(),
        };
        CallCommands.SetCall(command, (_, connection, _) => Task.FromResult(List(connection)));
        return command;
    }

    private static Command Drop()
    {
        var ids = new Argument<string[]>("request-id")
        {
            Arity = ArgumentArity.OneOrMore,
            Description = "The ids, as `ministry sent` lists them.",
        };
        ids.CompletionSources.Add(Completion.Sent);
        var command = new Command("drop", "Forgets them. If one was recorded all the same, it stays so: `ministry follow` shows it.")
        {
            ids,
        };
        CallCommands.SetCall(
            command,
            (result, connection, _) =>
            {
                var given = result.GetRequiredValue(ids);
                // All or none, so that a mistake in one leaves the others.
                if (given.FirstOrDefault(id => !Outbox.Waits(connection, id)) is { } none)
                    throw new FormatException($"no write {none} waits for an answer: `ministry sent` lists those that do");
                foreach (var id in given)
                    Outbox.Forget(connection, id);
                connection.Error.Line($"{given.Length} forgotten");
                return Task.FromResult(ExitCodes.Done);
            }
        );
        return command;
    }

    private static int List(Connection connection)
    {
        var sent = Outbox.All(connection);
        var data = new JsonArray([
            .. sent.Select(s => new JsonObject
            {
                ["request_id"] = s.Id,
                ["service"] = s.Service,
                ["method"] = s.Method,
                ["participant"] = s.Participant,
                ["time"] = s.Time.ToString("yyyy-MM-dd'T'HH:mm:ss'Z'", System.Globalization.CultureInfo.InvariantCulture),
                ["command"] = Again(connection, s),
            }),
        ]);
        if (Answers.WriteData(connection, data))
            return ExitCodes.Done;
        var screen = connection.Screen;
        if (sent.Count == 0)
            screen.Line(new Span("every write was answered", Style.Dim));
        foreach (var write in sent)
        {
            screen.Line(new Span(write.Id, Style.Bold), $"  {write.Service} {write.Verb}");
            screen.Paragraph($"sent {screen.Time(write.Time)}", 2, Style.Dim);
            // One line, so that it can be copied.
            screen.Line("  ", new Span($"again: {Again(connection, write)}", Style.Dim));
        }
        return ExitCodes.Done;
    }

    private static string Again(Connection connection, SentWrite write) =>
        Outbox.Again(connection, write.Service, write.Verb, write.Id, write.Participant);
}
