using System.Globalization;
using System.Text.Json.Nodes;
using Ministries.Evidence.V1;
using Ministries.Ledger.V1;

namespace Ministries.Ministry;

/// <summary>The result of verifying an evidence file, as text for a person and as JSON for a program.</summary>
internal static class EvidenceText
{
    /// <summary>The report for a person: what happened, what is proved and by whose signatures, and what is not.</summary>
    public static void Write(EvidenceReport report, Screen screen)
    {
        if (report.Break is { } broken)
        {
            screen.Paragraph($"BROKEN at {broken}", style: Style.Bad);
            screen.Paragraph("Rely on nothing in the file until it is known how this came about.");
            return;
        }
        var head = report.Head!;
        screen.Paragraph($"The evidence holds: {Subject(head)}, as far as {head.Participant} may see it.", style: Style.Good);
        screen.Paragraph($"Exported by {head.Participant} on {screen.Time(head.ExportTime.ToDateTimeOffset())} and signed with its key.");
        foreach (var log in report.Logs)
        {
            screen.Line();
            screen.Line(new Span(log.Service, Style.Bold));
            foreach (var entry in report.Entries.Where(e => e.Service == log.Service))
                Write(entry, screen);
        }
        screen.Line();
        Write("Proved", Proved(report, screen.Time), screen);
        Write("Not proved", NotProved(report), screen);
    }

    // What happened stands in one line where there is room, and how it is known beneath it.
    private static void Write(ProvedEntry entry, Screen screen)
    {
        const int Indent = 10;
        var position = entry.Header.Position.ToString(CultureInfo.InvariantCulture).PadLeft(Indent - 2);
        Span[] line =
        [
            new($"{position}  ", Style.Dim),
            $"{screen.Time(entry.Header.CommitTime.ToDateTimeOffset())}  ",
            $"{entry.Header.Participant}  ",
            new(What(entry), Style.Bold),
        ];
        var fits = line.Sum(s => Screen.ColumnsOf(Terminal.Line(s.Text))) <= screen.Shell.TextColumns;
        screen.Line(fits ? line : [.. line[..2], line[2] with { Text = entry.Header.Participant }]);
        if (!fits)
            screen.Paragraph(What(entry), Indent, Style.Bold);
        screen.Paragraph(How(entry), Indent, Style.Dim);
    }

    private static void Write(string title, IEnumerable<string> lines, Screen screen)
    {
        screen.Line(new Span(title, Style.Bold));
        foreach (var line in lines)
        foreach (var (part, i) in Screen.Wrap(line, screen.Shell.TextColumns - 4).Select((l, i) => (l, i)))
            screen.Line(i == 0 ? "  - " : "    ", part);
    }

    /// <summary>The report as JSON.</summary>
    public static JsonObject ToJson(EvidenceReport report) =>
        report.Break is { } broken
            ? new JsonObject
            {
                ["ok"] = false,
                ["line"] = broken.Line,
                ["meaning"] = broken.Meaning,
            }
            : new JsonObject
            {
                ["ok"] = true,
                ["exporter"] = report.Head!.Participant,
                ["subject"] = Subject(report.Head),
                ["export_time"] = report.Head.ExportTime.ToDateTimeOffset().ToString("O", CultureInfo.InvariantCulture),
                ["agreement_version"] = report.AnchorVersion,
                ["agreement_digest"] = Convert.ToHexStringLower(report.Anchor),
                ["agreement_is_the_readers"] = report.Anchored,
                ["logs"] = new JsonArray([
                    .. report.Logs.Select(l => new JsonObject
                    {
                        ["service"] = l.Service,
                        ["tree_size"] = l.Size,
                        ["root"] = Convert.ToHexStringLower(l.Root),
                        ["cosigned"] = new JsonArray([.. l.Cosigned.Select(c => (JsonNode)c.Participant)]),
                        ["demanded"] = l.Demanded,
                        ["complete"] = new JsonArray([
                            .. l.Complete.Select(c => new JsonObject
                            {
                                ["audience"] = c.Audience,
                                ["number"] = c.Number,
                                ["position"] = c.Position,
                            }),
                        ]),
                    }),
                ]),
                ["entries"] = new JsonArray([
                    .. report.Entries.Select(e => new JsonObject
                    {
                        ["service"] = e.Service,
                        ["position"] = e.Header.Position,
                        ["participant"] = e.Header.Participant,
                        ["method"] = e.Header.Method,
                        ["time"] = e.Header.CommitTime.ToDateTimeOffset().ToString("O", CultureInfo.InvariantCulture),
                        ["key"] = e.Key,
                        ["approved_by"] = new JsonArray([.. e.Approvers.Select(a => (JsonNode)a)]),
                        ["events"] = new JsonArray([.. e.Events.Select(t => (JsonNode)t)]),
                        ["privileged"] = e.Privileged,
                        ["receipt"] = e.Receipt,
                    }),
                ]),
                ["signed"] = new JsonObject(SignedBy(report).Select(s => KeyValuePair.Create(s.Participant, (JsonNode?)s.Count))),
                ["proved"] = new JsonArray([.. Proved(report, Time).Select(l => (JsonNode)l)]),
                ["not_proved"] = new JsonArray([.. NotProved(report).Select(l => (JsonNode)l)]),
            };

    private static string Subject(EvidenceHead head) => head.Case.Length > 0 ? $"the history of {head.Case}" : $"request {head.RequestId}";

    private static string What(ProvedEntry entry) =>
        entry.IsAgreement ? $"agreement version {entry.Header.AgreementVersion}" : Last(entry.Header.Method);

    private static string How(ProvedEntry entry)
    {
        if (entry.Privileged)
            return "by the service's word; privileged, not shown";
        if (entry.IsAgreement)
            return "signed by those whom it affects";
        var events = string.Join(", ", entry.Events.Select(Last));
        if (entry.Key.Length > 0)
            return $"signed with {entry.Key}{(entry.Approvers.Count == 0 ? "" : $", approved by {string.Join(" and ", entry.Approvers)}")}"
                + (
                    entry.Parts.Select(p => p.Content).OfType<Answer>().FirstOrDefault()?.Refusal is { } refusal
                        ? $"; refused: {refusal.Reason}"
                        : ""
                );
        return entry.Header.Parts.Any(p => p.Kind == PartKind.Signature)
            ? $"its request is not shown; by the service's word: {events}"
            : $"the service's own: {events}";
    }

    private static IEnumerable<(string Participant, int Count)> SignedBy(EvidenceReport report) =>
        report
            .Entries.Where(e => e.Key.Length > 0)
            .GroupBy(e => e.Header.Participant)
            .OrderBy(g => g.Key, StringComparer.Ordinal)
            .Select(g => (g.Key, g.Count()));

    private static IEnumerable<string> Proved(EvidenceReport report, Func<DateTimeOffset, string> time)
    {
        foreach (var log in report.Logs)
            yield return $"{log.Service} recorded these {report.Entries.Count(e => e.Service == log.Service)} entries among its first {log.Size}, "
                + "and signed that none of them changes"
                + (
                    log.Cosigned.Count == 0
                        ? ""
                        : $"; {string.Join(", ", log.Cosigned.Select(c => $"{c.Participant} on {time(c.Time)}"))} saw the same log and cosigned it"
                );
        foreach (var (participant, count) in SignedBy(report))
            yield return $"{participant} itself made {count} of the requests: each is signed with its key, valid then";
        var approvals = report.Entries.Sum(e => e.Approvers.Count);
        if (approvals > 0)
            yield return $"{approvals} approvals were given by officials of those who asked, each signed for that one request";
        var receipts = report.Entries.Count(e => e.Receipt);
        if (receipts > 0)
            yield return $"{receipts} of the entries were acknowledged by receipt when they were made";
        foreach (var log in report.Logs.Where(l => l.Complete.Count > 0))
            yield return $"nothing was left out of {log.Service} as far as the numbers of its entries reach: "
                + string.Join(
                    ", ",
                    log.Complete.Select(c =>
                        $"all {c.Number} entries for {Audience(c.Audience, report.Head!.Case)} up to entry {c.Position}"
                    )
                );
        if (report.Anchored)
            yield return "the keys are those of the reader's own agreement";
    }

    private static IEnumerable<string> NotProved(EvidenceReport report)
    {
        if (!report.Anchored)
            yield return $"whose keys these are, unless the reader knows version {report.AnchorVersion} of the agreement by its digest: "
                + Convert.ToHexStringLower(report.Anchor);
        foreach (var log in report.Logs.Where(l => l.Cosigned.Count < l.Demanded))
            yield return $"that {log.Service} shows everybody the same log: {log.Cosigned.Count} of the {log.Demanded} cosignatures that the agreement demands";
        if (report.Logs.All(l => l.Demanded == 0 && l.Cosigned.Count == 0))
            yield return "that the services show everybody the same logs: nobody cosigned them";
        var unseen = report.Entries.Count(e => e.Key.Length == 0 && !e.Privileged && e.Header.Parts.Any(p => p.Kind == PartKind.Signature));
        if (unseen > 0)
            yield return $"who asked what in {unseen} requests that {report.Head!.Participant} may not see: "
                + "for these there is only the services' word";
        var own = report.Entries.Count(e => !e.IsAgreement && e.Header.Parts.All(p => p.Kind != PartKind.Signature));
        if (own > 0)
            yield return $"what the services did on their own in {own} entries: for these there is only their word";
        var privileged = report.Entries.Count(e => e.Privileged);
        if (privileged > 0)
            yield return $"that a neutral observer made {privileged} entries, and what it wrote in them: they are privileged, and it has not "
                + "permitted that they and their signatures be shown";
        foreach (var line in NotComplete(report))
            yield return line;
        yield return "what happened after the last entry here, who the officials are by name, and what is sealed";
    }

    // The exporter need not show an entry's numbers. Where they are missing, entries may have been left out.
    private static IEnumerable<string> NotComplete(EvidenceReport report)
    {
        if (report.Head!.Case.Length == 0)
        {
            yield return "that nothing was left out: the file is of one request";
            yield break;
        }
        foreach (var log in report.Logs)
        {
            var last = report.Entries.Where(e => e.Service == log.Service).Max(e => e.Header.Position);
            if (log.Complete.Count == 0)
                yield return $"that nothing was left out of {log.Service}: none of its entries here shows a number in the case";
            else if (log.Complete.Max(c => c.Position) is var reached && reached < last)
                yield return $"that nothing was left out of {log.Service} after entry {reached}: "
                    + "none of its entries here after that shows a number in the case";
        }
        if (report.Logs.Any(l => l.Complete.Count > 0))
            yield return "that nothing was left out for others than those whose entries are counted above, or after the entries named there";
    }

    // The words for an audience of the case: everybody in it, one side of it, with a clearance, one participant.
    private static string Audience(string audience, string @case)
    {
        var (who, one) = audience[(2 + @case.Length)..].Split('=', 2) is [var side, var named]
            ? (side, named)
            : (audience[(2 + @case.Length)..], "");
        var parts = who.Split(':', StringSplitOptions.RemoveEmptyEntries);
        var clearance = parts.Length > 0 && int.TryParse(parts[^1], out var level) ? (Types.V1.Level)level : default;
        if (clearance != default)
            parts = parts[..^1];
        var whom =
            parts is ["observers"] ? "its observers"
            : parts is [var state] ? $"those who act for {state}"
            : "every party";
        return $"{(one.Length > 0 ? one : whom)}{(clearance == default ? "" : $" cleared for {clearance.ToString().ToLowerInvariant()}")}";
    }

    private static string Last(string name) => name[(name.LastIndexOfAny(['/', '.']) + 1)..];

    private static string Time(DateTimeOffset time) => time.ToString("yyyy-MM-dd HH:mm:ss'Z'", CultureInfo.InvariantCulture);
}
