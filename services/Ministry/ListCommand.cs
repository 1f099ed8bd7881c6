using System.CommandLine;
using Google.Protobuf;
using Google.Protobuf.Reflection;

namespace Ministries.Ministry;

/// <summary>The verb <c>list</c>: records of any kind.</summary>
internal static class ListCommand
{
    /// <summary>How many records are shown if nothing says it.</summary>
    private const int DefaultCount = 50;

    public static Command Create()
    {
        var kind = new Argument<string>("kind")
        {
            Description = $"What: {string.Join(", ", Records.Kinds.Select(k => Words.Kebab(k.List.Name["List".Length..])))}.",
        };
        kind.CompletionSources.Add([.. Records.Kinds.Select(k => Words.Kebab(k.List.Name["List".Length..]))]);
        var filters = new Argument<string[]>("filter")
        {
            Arity = ArgumentArity.ZeroOrMore,
            HelpName = "field=value",
            Description = "Conditions, such as case=case_… state=mutual. `ministry calllog list-calls --help` says which there are.",
        };
        var limit = new Option<int>("--limit")
        {
            Description = $"How many records are shown at most; {DefaultCount} if nothing says it.",
            HelpName = "n",
            DefaultValueFactory = _ => DefaultCount,
        };
        limit.Validators.Add(given =>
        {
            if (given.Tokens is [var token] && (!int.TryParse(token.Value, out var number) || number < 1))
                given.AddError($"--limit is a number from 1, not {token.Value}");
        });
        filters.CompletionSources.Add(context => Completion.Filters(context, Records.Named(context.ParseResult.GetValue(kind) ?? "")));
        var command = new Command(
            "list",
            "Lists records that you may see, newest first. With page_size or page_token it shows the service's own page, oldest first."
        )
        {
            kind,
            filters,
            limit,
            Options.All,
        };
        CallCommands.SetCall(
            command,
            async (result, connection, cancel) =>
            {
                var name = result.GetRequiredValue(kind);
                var found = Records.Named(name) ?? throw NoSuch("list", name);
                var request = (IMessage)Activator.CreateInstance(found.List.InputType.ClrType)!;
                Filter(request, result.GetValue(filters) ?? [], connection);
                var all = result.GetValue(Options.All);
                var ofPages = ((string[])["page_size", "page_token"]).Select(found.List.InputType.FindFieldByName);
                if (!all && ofPages.Any(f => f.Accessor.GetValue(request) is not (0 or "")))
                    return await Write(connection, found.Service, found.List, request, all: false, cancel);
                return await Newest(connection, found, request, all ? int.MaxValue : result.GetValue(limit), lines: all, cancel);
            }
        );
        return command;
    }

    // The services list the oldest first, so all pages are read.
    private static async Task<int> Newest(
        Connection connection,
        RecordType kind,
        IMessage request,
        int most,
        bool lines,
        CancellationToken cancel
    )
    {
        var size = kind.List.InputType.FindFieldByName("page_size").Accessor;
        if (size.GetValue(request) is 0)
            size.SetValue(request, 200);
        var found = await connection.ListAll(kind.Service, kind.List, request, cancel);
        IMessage[] shown = [.. found.Reverse().Take(most)];
        if (lines)
            WriteAll(connection, kind.ItemType, shown);
        else
        {
            var page = (IMessage)Activator.CreateInstance(kind.List.OutputType.ClrType)!;
            var list = (System.Collections.IList)Records.ListIn(kind.List).Accessor.GetValue(page);
            foreach (var record in shown)
                list.Add(record);
            if (!Answers.WriteData(connection, Answers.InJson(page)))
                Answers.WriteTable(connection, kind.ItemType, shown);
        }
        if (shown.Length < found.Count)
            connection.Error.Line(new Span($"{found.Count - shown.Length} older: --all, or --limit", Style.Dim));
        return ExitCodes.Done;
    }

    private static void WriteAll(Connection connection, MessageDescriptor type, IReadOnlyList<IMessage> records)
    {
        if (connection.Format is OutputFormat.Json)
            foreach (var record in records)
                connection.Screen.Line(Answers.InJson(record).ToJsonString());
        else if (connection.Format is OutputFormat.Yaml)
            foreach (var record in records)
                connection.Screen.Lines("---\n" + Yaml.Of(Answers.InJson(record)));
        else
            Answers.WriteTable(connection, type, records);
    }

    /// <summary>Why there is no such kind.</summary>
    public static FormatException NoSuch(string verb, string name)
    {
        var kinds = Records.Kinds.Select(k => k.Name).ToArray();
        return new FormatException(
            $"there is no {name} to {verb}"
                + (Suggestion.Nearest(name, kinds) is { } near ? $"; did you mean {near}?" : $": it is one of {string.Join(", ", kinds)}")
        );
    }

    /// <summary>Lists by a request.</summary>
    /// <returns>The exit code.</returns>
    public static async Task<int> Write(
        Connection connection,
        string service,
        MethodDescriptor method,
        IMessage request,
        bool all,
        CancellationToken cancel
    )
    {
        var list = Records.ListIn(method);
        if (all)
        {
            WriteAll(connection, list.MessageType, await connection.ListAll(service, method, request, cancel));
            return ExitCodes.Done;
        }
        var page = await connection.Call(service, method, request, cancel);
        if (Answers.WriteData(connection, Answers.InJson(page)))
            return ExitCodes.Done;
        Answers.WriteTable(
            connection,
            list.MessageType,
            [.. ((System.Collections.IEnumerable)list.Accessor.GetValue(page)).Cast<IMessage>()]
        );
        if (method.OutputType.FindFieldByName("next_page_token").Accessor.GetValue(page) is string { Length: > 0 } next)
            connection.Error.Paragraph($"more: --all, or page_token={next}", style: Style.Dim);
        return ExitCodes.Done;
    }

    private static void Filter(IMessage request, IEnumerable<string> filters, Connection connection)
    {
        var values = new FlagValue(
            connection.Shell.Zone,
            connection.Shell.Time.GetUtcNow(),
            _ => throw new FormatException("takes no file")
        );
        var flags = Flag.Of(request.Descriptor);
        foreach (var filter in filters)
        {
            var parts = filter.Split('=', 2);
            var flag = parts.Length == 2 ? flags.FirstOrDefault(f => f.Names.Contains(parts[0].Replace('_', '-'))) : null;
            if (flag is null)
                throw new FormatException($"{filter}: the conditions are {string.Join(", ", flags.Select(f => $"{f.Names[0]}=…"))}");
            try
            {
                values.Set(request, flag.Field, [parts[1]]);
            }
            catch (FormatException e)
            {
                throw new FormatException($"{parts[0]} {e.Message}", e);
            }
        }
        if (Limits.Faults(request, new HashSet<string>()) is [var fault, ..])
            throw new FormatException($"{fault.Path} {fault.What}");
    }
}
