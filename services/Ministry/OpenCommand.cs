using System.CommandLine;
using System.Text.Json.Nodes;
using Google.Protobuf;
using Ministries.Sealing;

namespace Ministries.Ministry;

/// <summary>The verb <c>open</c>: what is sealed to the caller.</summary>
internal static class OpenCommand
{
    public static Command Create()
    {
        var what = new Argument<string[]>("record")
        {
            Arity = ArgumentArity.ZeroOrMore,
            Description =
                "A record's id: what is sealed to you in it is opened and shown. Or a service and the position of an entry, with --field: so what "
                + "was opened to you later is opened, too. Without any, what is sealed to you is listed.",
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
                if (words is [var service, var number] && Contract.Services.Contains(service) && ulong.TryParse(number, out var position))
                    return await OpenEntry(connection, service, position, result.GetValue(field), cancel);
                var (kind, answer) = await GetCommand.Read(connection, words, cancel);
                return await Open(connection, kind, kind.In(answer), result.GetValue(field), cancel);
            }
        );
        return command;
    }

    private static int List(Connection connection, IReadOnlyList<IMessage> records)
    {
        var found = (
            from record in records
            from place in Mine(connection, record)
            select (
                Id: Records.Kinds.First(k => k.Type == record.Descriptor).IdOf(record),
                place.Path,
                place.Sealed,
                Content: SealedMessages.ContentOf(place.Sealed)
            )
        ).ToArray();
        var data = new JsonArray([
            .. found.Select(f => new JsonObject
            {
                ["record"] = f.Id,
                ["field"] = f.Path,
                ["message"] = f.Content.Message,
                ["sender"] = f.Content.Sender,
                ["position"] = f.Sealed.Position,
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

    // By the entries that carried it, so that what a service took from another record is not shown as this one's.
    private static async Task<int> Open(Connection connection, RecordType kind, IMessage record, string? field, CancellationToken cancel)
    {
        var places = Mine(connection, record).Where(p => field is null || field == p.Path).ToList();
        if (places.Count == 0)
            throw new FormatException(
                field is null ? "nothing in that record is sealed to you" : $"nothing at {field} of that record is sealed to you"
            );
        var entries = await connection.Reach(
            kind.Service,
            () => connection.Client.SealingEntriesAt(kind.Service, [.. places.Select(p => p.Sealed.Position)], cancel),
            "the entries from which it is",
            cancel
        );
        var (all, faults) = (new JsonArray(), 0);
        foreach (var place in places)
            try
            {
                var type = SealedMessages.TypeOf(SealedMessages.ContentOf(place.Sealed));
                var context = place.ContextBy(type, entries[place.Sealed.Position]);
                var (message, _) = connection.Client.OpenAs(type, place.Sealed, context, []);
                Show(connection, all, place.Path, context.Sender, message, null);
            }
            catch (Exception e) when (e is SealException or FormatException)
            {
                // Each may be of another sender, and none of them keeps back what another has sealed.
                faults++;
                Show(connection, all, place.Path, e);
            }
        if (all.Count > 0)
            Answers.WriteData(connection, all);
        return faults == 0 ? ExitCodes.Done : ExitCodes.WasRefused;
    }

    private static async Task<int> OpenEntry(Connection connection, string service, ulong position, string? field, CancellationToken cancel)
    {
        if (field is null)
            throw new FormatException("--field says which of the entry's sealed fields is meant, such as identity");
        var read = await connection.Reach(
            service,
            () => connection.Client.ReadSealed(service, position, field, cancel),
            $"entry {position} of {service}",
            cancel
        );
        var (all, code) = (new JsonArray(), ExitCodes.Done);
        try
        {
            var (message, fields) = connection.Client.OpenDeclared(read);
            Show(connection, all, field, read.Sender, message, fields);
        }
        catch (SealException fault)
        {
            code = ExitCodes.WasRefused;
            Show(connection, all, field, fault);
        }
        if (all.Count > 0)
            Answers.WriteData(connection, all);
        return code;
    }

    // What does not open.
    private static void Show(Connection connection, JsonArray all, string path, Exception why)
    {
        if (connection.Format is OutputFormat.Json or OutputFormat.Yaml)
            all.Add(
                new JsonObject
                {
                    ["field"] = path,
                    ["fault"] = why is SealException { Fault: var fault } ? fault.ToString() : nameof(SealFault.OtherMessage),
                    ["description"] = why.Message,
                }
            );
        else
            connection.Error.Line(new Span($"{path}: it does not open: {why.Message}", Style.Bad));
    }

    private static void Show(
        Connection connection,
        JsonArray all,
        string path,
        string sender,
        IMessage message,
        IReadOnlyList<uint>? fields
    )
    {
        if (connection.Format is OutputFormat.Json or OutputFormat.Yaml)
        {
            var one = new JsonObject
            {
                ["field"] = path,
                ["message"] = message.Descriptor.FullName,
                ["sender"] = sender,
                ["content"] = Answers.InJson(message),
            };
            if (fields is not null)
                one["fields"] = new JsonArray([.. fields.Select(f => (JsonNode?)f)]);
            if (MinistryClient.FaultsOf(message, fields) is { Count: > 0 } faults)
                one["faults"] = new JsonArray([
                    .. faults.Select(f => new JsonObject { ["field"] = f.Field, ["description"] = f.Description }),
                ]);
            all.Add(one);
            return;
        }
        connection.Screen.Line(
            new Span(path, Style.Bold),
            new Span($"  {message.Descriptor.Name}, sealed by {Terminal.Line(sender)}", Style.Dim)
        );
        if (fields is not null)
            connection.Screen.Line(
                new Span(
                    $"  only these fields were opened to you: {string.Join(", ", fields.Select(n => message.Descriptor.FindFieldByNumber((int)n)?.Name))}",
                    Style.Dim
                )
            );
        SealedMessages.Write(connection.Screen, message, fields, 2);
    }

    private static IEnumerable<SealedInRecord> Mine(Connection connection, IMessage record) =>
        SealedInRecord.In(record).Where(p => p.Sealed.Recipients.Contains(connection.Client.Participant.Id) && !p.Sealed.Content.IsEmpty);
}
