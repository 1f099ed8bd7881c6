using System.CommandLine;
using System.Globalization;
using System.Text.Json.Nodes;
using Google.Protobuf;
using Google.Protobuf.Reflection;
using Ministries.Ledger.V1;
using Ministries.Types.V1;

namespace Ministries.Ministry;

/// <summary>The verb <c>next</c>: what waits for the caller.</summary>
internal static class NextCommand
{
    public static Command Create()
    {
        var @case = new Option<string>("--case")
        {
            Description = "Only of this case.",
            HelpName = "case",
            DefaultValueFactory = _ => "",
        };
        var everybody = new Option<bool>("--everybody") { Description = "Also what waits for others, as far as you see it." };
        Completion.AddIds(@case, "case");
        var command = new Command("next", "Shows what waits for you: by precedence, then by when it is due, with the verb that does it.")
        {
            @case,
            everybody,
        };
        CallCommands.SetCall(
            command,
            async (result, connection, cancel) =>
            {
                var records = await RecordsOf(connection, result.GetValue(@case) ?? "", cancel);
                var duties = Duties
                    .Of(records, connection.Shell.Time.GetUtcNow())
                    .Where(d => result.GetValue(everybody) || d.IsFor(connection.Client.Participant));
                duties = Duties.InOrder(await WithPrecedence(connection, [.. duties], cancel));
                Write(connection, [.. duties]);
                return ExitCodes.Done;
            }
        );
        return command;
    }

    /// <summary>All records that the caller may see, of one case or of every case.</summary>
    public static async Task<IReadOnlyList<IMessage>> RecordsOf(Connection connection, string @case, CancellationToken cancel)
    {
        var lists = await Task.WhenAll(
            Records.Kinds.Select(async kind =>
            {
                var request = (IMessage)Activator.CreateInstance(kind.List.InputType.ClrType)!;
                kind.List.InputType.FindFieldByName("page_size").Accessor.SetValue(request, 200);
                if (@case.Length > 0 && kind.List.InputType.FindFieldByName("case") is { } field)
                    field.Accessor.SetValue(request, @case);
                var items = await connection.ListAll(kind.Service, kind.List, request, cancel);
                // Where a list has summaries, the records are read one by one.
                return kind.ItemType == kind.Type ? items : [.. await Task.WhenAll(items.Select(i => Whole(connection, kind, i, cancel)))];
            })
        );
        return [.. lists.SelectMany(l => l).Where(r => @case.Length == 0 || CaseOf(r) == @case)];
    }

    private static async Task<IMessage> Whole(Connection connection, RecordType kind, IMessage item, CancellationToken cancel)
    {
        var request = (IMessage)Activator.CreateInstance(kind.Get.InputType.ClrType)!;
        kind.Get.InputType.FindFieldByName(kind.IdField).Accessor.SetValue(request, kind.IdOf(item));
        return kind.In(await connection.Call(kind.Service, kind.Get, request, cancel));
    }

    /// <summary>Writes duties, the most urgent first.</summary>
    public static void Write(Connection connection, IReadOnlyList<Duty> duties)
    {
        if (Answers.WriteData(connection, new JsonArray([.. duties.Select(d => (JsonNode?)InJson(d))])))
            return;
        var screen = connection.Screen;
        if (duties.Count == 0)
            screen.Line(new Span("nothing waits", Style.Dim));
        foreach (var duty in duties)
        {
            var late = duty.Due < connection.Shell.Time.GetUtcNow();
            var due = duty.Due is { } time ? $"{(late ? "OVERDUE, due" : "due")} {screen.Time(time)}, {screen.Until(time)}" : "no time set";
            var style =
                late ? Style.Bad
                : duty.Due is null ? Style.Dim
                : Style.Warning;
            screen.Line(
                new Span(duty.Precedence > Precedence.Routine ? $"{duty.Precedence.ToString().ToUpperInvariant()}  " : "", Style.Bad),
                new Span(Screen.Cut(duty.What, screen.Shell.TextColumns - 11), Style.Bold)
            );
            screen.Paragraph($"{duty.Who}{(duty.Law.Length > 0 ? $" ({duty.Law})" : "")}; {due}", 2, style);
            screen.Paragraph($"ministry {duty.Command}", 2, Style.Dim);
        }
    }

    /// <summary>A duty as data.</summary>
    public static JsonObject InJson(Duty duty) =>
        new()
        {
            ["record"] = duty.Record,
            ["what"] = duty.What,
            ["who"] = duty.Who,
            ["command"] = duty.Command,
            ["law"] = duty.Law,
            ["due_time"] = duty.Due?.ToUniversalTime().ToString("yyyy-MM-dd'T'HH:mm:ss'Z'", CultureInfo.InvariantCulture),
            ["precedence"] = Words.Of(Precedences, (int)duty.Precedence),
        };

    private static EnumDescriptor Precedences => Types.V1.MarkingReflection.Descriptor.EnumTypes.Single(e => e.Name == nameof(Precedence));

    // The precedence stands in the request that wrote the record last, where that is shown.
    private static async Task<IReadOnlyList<Duty>> WithPrecedence(
        Connection connection,
        IReadOnlyList<Duty> duties,
        CancellationToken cancel
    )
    {
        var entries = duties.Where(d => d.Position is not null).Select(d => (d.Service, d.Position)).Distinct();
        var found = await Task.WhenAll(
            entries.Select(async e => (Entry: e, Precedence: await PrecedenceOf(connection, e.Service, e.Position!.Value, cancel)))
        );
        var precedences = found.ToDictionary(f => f.Entry, f => f.Precedence);
        return [.. duties.Select(d => d with { Precedence = precedences.GetValueOrDefault((d.Service, d.Position)) })];
    }

    private static async Task<Precedence> PrecedenceOf(Connection connection, string service, ulong position, CancellationToken cancel)
    {
        try
        {
            var request = new GetEntryRequest { Position = position };
            var answer = (GetEntryResponse)await connection.Call(service, Contract.Find(service, "GetEntry")!, request, cancel);
            var shown = LedgerEntry.Read(answer.Entry).Parts.FirstOrDefault(p => p.Kind == PartKind.Request)?.Content;
            return shown?.Descriptor.FindFieldByName("precedence")?.Accessor.GetValue(shown) is Precedence precedence
                ? precedence
                : default;
        }
        catch (RefusedException)
        {
            // The entry is not for the caller.
            return default;
        }
    }

    private static string CaseOf(IMessage record) =>
        record is Custody.V1.Case @case ? @case.Id : record.Descriptor.FindFieldByName("case")?.Accessor.GetValue(record) as string ?? "";
}
