using System.CommandLine;
using Google.Protobuf;
using Google.Protobuf.Reflection;

namespace Ministries.Ministry;

/// <summary>The verb <c>list</c>: records of any kind.</summary>
internal static class ListCommand
{
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
        var command = new Command("list", "Lists records that you may see, oldest first.") { kind, filters, Options.All };
        CallCommands.SetCall(
            command,
            async (result, connection, cancel) =>
            {
                var name = result.GetRequiredValue(kind);
                var found = Records.Named(name) ?? throw NoSuch("list", name);
                var request = (IMessage)Activator.CreateInstance(found.List.InputType.ClrType)!;
                Filter(request, result.GetValue(filters) ?? [], connection);
                return await Write(connection, found.Service, found.List, request, result.GetValue(Options.All), cancel);
            }
        );
        return command;
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
            var records = await connection.ListAll(service, method, request, cancel);
            if (connection.Format is OutputFormat.Json)
                foreach (var record in records)
                    connection.Screen.Line(Answers.InJson(record).ToJsonString());
            else if (connection.Format is OutputFormat.Yaml)
                foreach (var record in records)
                    connection.Screen.Lines("---\n" + Yaml.Of(Answers.InJson(record)));
            else
                Answers.WriteTable(connection, list.MessageType, records);
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
            connection.Error.Line(new Span($"more: --all, or page_token={next}", Style.Dim));
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
