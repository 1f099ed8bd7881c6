using System.CommandLine;
using System.Reflection;
using System.Text.Json.Nodes;
using Google.Protobuf;
using Ministries.Contracts;
using Ministries.Sealing;
using Ministries.Types.V1;

namespace Ministries.Ministry;

/// <summary>The verb <c>open</c>: what is sealed to the caller.</summary>
internal static class OpenCommand
{
    public static Command Create()
    {
        var what = new Argument<string[]>("record")
        {
            Arity = ArgumentArity.ZeroOrMore,
            Description = "A record's id: what is sealed to you in it is opened and shown. Without one, it is only listed.",
        };
        var field = new Option<string>("--field") { Description = "Only this field, such as identity.", HelpName = "path" };
        var @case = new Option<string>("--case")
        {
            Description = "List only of this case.",
            HelpName = "case",
            DefaultValueFactory = _ => "",
        };
        Completion.AddIds(what);
        Completion.AddIds(@case, "case");
        var command = new Command(
            "open",
            "Lists what is sealed to you, or opens it. What is opened is personal data: it goes to the terminal, or wherever the output leads."
        )
        {
            what,
            field,
            @case,
        };
        CallCommands.SetCall(
            command,
            async (result, connection, cancel) =>
            {
                if (result.GetValue(what) is not { Length: > 0 } words)
                    return List(connection, await NextCommand.RecordsOf(connection, result.GetValue(@case) ?? "", cancel));
                var (kind, answer) = await GetCommand.Read(connection, words, cancel);
                return Open(connection, kind.In(answer), result.GetValue(field));
            }
        );
        return command;
    }

    private static int List(Connection connection, IReadOnlyList<IMessage> records)
    {
        var found = (
            from record in records
            let kind = Records.Kinds.First(k => k.Type == record.Descriptor)
            from place in Mine(connection, record)
            select (Id: kind.IdOf(record), place.Path, place.Content)
        ).ToArray();
        var data = new JsonArray([
            .. found.Select(f => new JsonObject
            {
                ["record"] = f.Id,
                ["field"] = f.Path,
                ["message"] = f.Content.Message,
                ["sender"] = f.Content.Sender,
            }),
        ]);
        if (Answers.WriteData(connection, data))
            return ExitCodes.Done;
        if (found.Length == 0)
            connection.Screen.Line(new Span("nothing is sealed to you", Style.Dim));
        else
            Table.Write(
                connection.Screen,
                [new("RECORD", Whole: true), new("WHAT"), new("FROM"), new("FIELD")],
                [
                    .. found.Select(f =>
                        (IReadOnlyList<Span>)
                            [
                                f.Id,
                                Terminal.Line(f.Content.Message[(f.Content.Message.LastIndexOf('.') + 1)..]),
                                Terminal.Line(f.Content.Sender),
                                f.Path,
                            ]
                    ),
                ],
                connection.Format == OutputFormat.Wide
            );
        return ExitCodes.Done;
    }

    private static int Open(Connection connection, IMessage record, string? field)
    {
        var all = new JsonArray();
        var opened = 0;
        var @case = record.Descriptor.FindFieldByName("case")?.Accessor.GetValue(record) as string;
        foreach (var (path, sealedData, content) in Mine(connection, record))
        {
            if (field is not null && field != path)
                continue;
            var message = Open(connection.Client, sealedData, content, @case);
            var faults = Validation.Check(message);
            opened++;
            if (connection.Format is OutputFormat.Json or OutputFormat.Yaml)
            {
                var one = new JsonObject
                {
                    ["field"] = path,
                    ["message"] = content.Message,
                    ["sender"] = content.Sender,
                    ["content"] = Answers.InJson(message),
                };
                if (faults.Count > 0)
                    one["faults"] = new JsonArray([
                        .. faults.Select(f => new JsonObject { ["field"] = f.Field, ["description"] = f.Description }),
                    ]);
                all.Add(one);
                continue;
            }
            connection.Screen.Line(
                new Span(path, Style.Bold),
                new Span(
                    $"  {content.Message[(content.Message.LastIndexOf('.') + 1)..]}, sealed by {Terminal.Line(content.Sender)}",
                    Style.Dim
                )
            );
            // No service has read it, so nobody has refused a text that deceives.
            foreach (var fault in faults)
                connection.Screen.Line(new Span($"  not as the contract declares it: {fault.Field} {fault.Description}", Style.Warning));
            new Fields(connection.Screen, whole: true).Write(message, 2);
        }
        if (opened == 0)
            throw new FormatException(
                field is null ? "nothing in that record is sealed to you" : $"nothing at {field} of that record is sealed to you"
            );
        if (all.Count > 0)
            Answers.WriteData(connection, all);
        return ExitCodes.Done;
    }

    private static IEnumerable<(string Path, Sealed Sealed, SealedContent Content)> Mine(Connection connection, IMessage record)
    {
        foreach (var place in Seals.WithPaths(record))
        {
            if (!place.Sealed.Recipients.Contains(connection.Client.Participant.Id) || place.Sealed.Content.IsEmpty)
                continue;
            SealedContent content;
            try
            {
                content = SealedContent.Parser.ParseFrom(place.Sealed.Content);
            }
            catch (InvalidProtocolBufferException)
            {
                // Opening it says what is wrong.
                content = new SealedContent { Message = "unreadable" };
            }
            yield return (place.Path, place.Sealed, content);
        }
    }

    // The message's type is known only now, by its name in the content, which the library checks.
    private static IMessage Open(MinistryClient client, Sealed sealedData, SealedContent content, string? @case)
    {
        var type =
            Seals.MessageNamed(content.Message)?.ClrType
            ?? throw new FormatException($"it holds a {Terminal.Line(content.Message)}, which the contracts do not know");
        var open = typeof(MinistryClient).GetMethod(nameof(MinistryClient.Open))!.MakeGenericMethod(type);
        try
        {
            var opened = open.Invoke(client, [sealedData, @case, null])!;
            return (IMessage)opened.GetType().GetProperty(nameof(Opened<PersonName>.Message))!.GetValue(opened)!;
        }
        catch (TargetInvocationException e) when (e.InnerException is SealException fault)
        {
            throw new FormatException($"it does not open: {fault.Message}", fault);
        }
    }
}
