using System.CommandLine;
using System.Globalization;
using System.Text.Json.Nodes;
using Ministries.Custody.V1;

namespace Ministries.Ministry;

/// <summary>The verb <c>case</c>: one case over all services, what happened and what is next.</summary>
internal static class CaseCommand
{
    public static Command Create()
    {
        var id = new Argument<string>("case")
        {
            Arity = ArgumentArity.ZeroOrOne,
            Description = "The case's id. Without it, the one that `ministry config set case …` keeps.",
        };
        Completion.AddIds(id, "case");
        var command = new Command(
            "case",
            "One timeline of a case over all services: who did what, then what waits for whom, which duty runs out when, and what the law asks next."
        )
        {
            id,
        };
        CallCommands.SetCall(
            command,
            (result, connection, cancel) => Show(connection, result.GetValue(id) ?? connection.ValueOf("case"), cancel)
        );
        return command;
    }

    private static async Task<int> Show(Connection connection, string id, CancellationToken cancel)
    {
        if (Records.OfId(id)?.Name != "case")
            throw new FormatException("name a case: `ministry list cases` shows those that you see");
        var answer = (GetCaseResponse)
            await connection.Call("custody", Contract.Find("custody", "GetCase")!, new GetCaseRequest { Case = id }, cancel);
        var entries = (
            await Task.WhenAll(
                Contract.Services.Select(async s => (await connection.Entries(s, id, cancel)).Select(e => (Service: s, Entry: e)))
            )
        )
            .SelectMany(e => e)
            .OrderBy(e => e.Entry.Header.CommitTime)
            .ToArray();
        var records = await NextCommand.RecordsOf(connection, id, cancel);
        Duty[] duties = [.. Duties.InOrder(Duties.Of(records, connection.Shell.Time.GetUtcNow()))];
        var data = new JsonObject
        {
            ["case"] = Answers.InJson(answer.Case),
            ["entries"] = new JsonArray([.. entries.Select(e => (JsonNode?)WithService(e.Entry.ToJson(), e.Service))]),
            ["next"] = new JsonArray([.. duties.Select(d => (JsonNode?)NextCommand.InJson(d))]),
        };
        if (Answers.WriteData(connection, data))
            return ExitCodes.Done;
        var screen = connection.Screen;
        Head(screen, answer.Case, [.. records.OfType<Prisoner>()]);
        foreach (var day in entries.GroupBy(e => TimeOf(e.Entry, screen)?.Date))
        {
            screen.Line();
            screen.Line(new Span(day.Key?.ToString("dddd, yyyy-MM-dd", CultureInfo.InvariantCulture) ?? "at no time", Style.Bold));
            var who = Math.Min(20, entries.Max(e => e.Entry.Header.Participant.Length));
            foreach (var (service, entry) in day)
                Row(screen, service, entry, who, connection.Format == OutputFormat.Wide);
        }
        screen.Line();
        screen.Line(new Span("Next", Style.Bold), new Span($"  (yours first; you are {connection.Client.Participant.Id})", Style.Dim));
        NextCommand.Write(connection, [.. duties.OrderByDescending(d => d.IsFor(connection.Client.Participant))]);
        return ExitCodes.Done;
    }

    private static void Head(Screen screen, Case @case, IReadOnlyList<Prisoner> prisoners)
    {
        var state = Words.Of(Case.Descriptor.FindFieldByName("state").EnumType, (int)@case.State);
        screen.Line(new Span(@case.Id, Style.Bold), $"  {state}, opened by {@case.DetainingPower}");
        screen.Paragraph(
            $"parties: {string.Join("; ", @case.Parties.Select(p => $"{p.Participant} ({Words.Of(CaseParty.Descriptor.FindFieldByName("part").EnumType, (int)p.Part)})"))}",
            2
        );
        foreach (var prisoner in @case.Prisoners)
        {
            var seen = prisoners.FirstOrDefault(p => p.Prisoner_ == prisoner.Prisoner);
            var status =
                seen is null || Fields.WithheldIn(seen).Contains("state")
                    ? Screen.Withheld
                    : Words.Of(Prisoner.Descriptor.FindFieldByName("state").EnumType, (int)seen.State);
            screen.Line(
                $"  {prisoner.Prisoner}  {status}",
                prisoner.DetainingPower.Length > 0 ? $", held by {prisoner.DetainingPower}" : ", not held"
            );
        }
    }

    private static DateTimeOffset? TimeOf(LedgerEntry entry, Screen screen) =>
        entry.Time is { } time ? TimeZoneInfo.ConvertTime(time, screen.Shell.Zone) : null;

    private static void Row(Screen screen, string service, LedgerEntry entry, int who, bool wide)
    {
        var time = TimeOf(entry, screen);
        var (what, style) = EntryLines.WhatOf(entry);
        var columns = wide ? int.MaxValue : screen.Shell.Columns ?? int.MaxValue;
        var left = columns - (2 + 8 + 2 + who + 2);
        var spans = new List<Span>
        {
            new($"  {time?.ToString("HH:mm:ss", CultureInfo.InvariantCulture) ?? "no time", -8}  ", Style.Dim),
            $"{Screen.Pad(Screen.Cut(Terminal.Line(entry.Header.Participant), who), who)}  ",
        };
        foreach (
            var (text, pad, kind) in ((string, int, Style)[])
                [
                    (EntryLines.NameOf(entry), 26, entry.Holds ? Style.Plain : Style.Bad),
                    ($"{service} {entry.Header.Position.ToString(CultureInfo.InvariantCulture)}", 13, Style.Dim),
                    (what, 0, style),
                ]
        )
        {
            if (left < 10)
                break;
            var shown = Screen.Cut(text, left);
            spans.Add(new(shown, kind));
            var gap = Math.Min(left - Screen.ColumnsOf(shown), Math.Max(0, pad - Screen.ColumnsOf(shown)) + 2);
            spans.Add(new string(' ', gap));
            left -= Screen.ColumnsOf(shown) + gap;
        }
        // No spaces at the end of a line.
        spans.RemoveAt(spans.Count - 1);
        screen.Line([.. spans]);
    }

    private static JsonObject WithService(JsonObject entry, string service)
    {
        entry.Insert(0, "service", service);
        return entry;
    }
}
