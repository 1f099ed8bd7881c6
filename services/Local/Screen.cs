using Ministries.Ministry;
using Spectre.Console;

namespace Ministries.Local;

/// <summary>Shows a person what happens. Sober: one colour for what was refused, one for what holds, the rest is type and space.
/// Without a terminal the same text goes out plain.</summary>
public sealed class Screen
{
    private const int MaxWidth = 118;

    private readonly IAnsiConsole _console;
    private readonly bool _brief;

    /// <summary>Writes to the output.</summary>
    /// <param name="output">Where to.</param>
    /// <param name="redirected">Whether it is no terminal.</param>
    /// <param name="brief">Whether only the headings are shown, as progress.</param>
    public Screen(TextWriter output, bool redirected, bool brief = false)
    {
        _brief = brief;
        _console = AnsiConsole.Create(
            new AnsiConsoleSettings
            {
                Out = new AnsiConsoleOutput(redirected ? new Trimmed(output) : output),
                Interactive = InteractionSupport.No,
                Ansi = redirected ? AnsiSupport.No : AnsiSupport.Detect,
                ColorSystem = redirected ? ColorSystemSupport.NoColors : ColorSystemSupport.Detect,
            }
        );
        _console.Profile.Width = redirected ? MaxWidth : Math.Min(MaxWidth, _console.Profile.Width);
    }

    /// <summary>The first lines.</summary>
    public void Title(string data)
    {
        if (_brief)
            return;
        _console.WriteLine();
        _console.MarkupLine("[bold]Ministries[/]  the case of 17 March 2025: three services in this process, a ledger each, TLS 1.3");
        _console.MarkupLine($"[dim]data        {Shown(data)}[/]");
    }

    /// <summary>A line of progress before anything happens.</summary>
    public void Progress(string what)
    {
        if (!_brief)
            _console.MarkupLine($"[dim]{Shown(what)}[/]");
    }

    /// <summary>A part of the main job begins.</summary>
    public void Chapter(int part, string title)
    {
        _console.WriteLine();
        _console.MarkupLine($"[bold] {part}  {Shown(title)}[/]");
    }

    /// <summary>Somebody did something.</summary>
    public void Step(Step step)
    {
        if (_brief)
            return;
        var method = step.Method[(step.Method.LastIndexOf('/') + 1)..];
        Row(
            step.Participant,
            step.What,
            "",
            method,
            step.Refusal is not null ? "[red]refused[/]"
                : step.Position is { } position ? $"[dim]{Shown(step.Service)} {position}[/]"
                : ""
        );
        if (step.Refusal is not { } refusal)
            return;
        Note("", $"{refusal.Reason}  {refusal.Basis}: {refusal.Source}", "red");
        Note("", $"missing      {refusal.Missing}", "dim");
        Note("", $"supplied by  {refusal.Supplier}", "dim");
        Note("", $"unlocked by  {refusal.Unlock}", "dim");
    }

    /// <summary>A service did something of its own.</summary>
    public void Reaction(string service, string what)
    {
        if (!_brief)
            Note(service, what, "italic");
    }

    /// <summary>Two accounts are compared.</summary>
    public void Comparison(IEnumerable<(string Field, string Match)> fields)
    {
        if (_brief)
            return;
        foreach (var group in fields.GroupBy(f => f.Match))
            Note("", $"{group.Key, -13} {string.Join(", ", group.Select(f => f.Field.ToLowerInvariant()))}", "dim");
    }

    /// <summary>An expectation does not hold.</summary>
    public void Failed(Check check)
    {
        if (!_brief)
            Note("", $"not so: {check.What}; found: {check.Found}", "red");
    }

    /// <summary>All the rest, once the story is told.</summary>
    public void Show(Report report)
    {
        if (_brief)
            return;
        Trace(report);
        Records(report);
        Ledgers(report);
        Evidence(report);
        Expectations(report);
    }

    /// <summary>How the services are reached that go on.</summary>
    public void Serving(IReadOnlyDictionary<string, Uri> addresses, string data)
    {
        Heading("The services go on", "stop them with Ctrl-C");
        foreach (var (service, address) in addresses)
            Note(service, $"{address}", "");
        Note("certificates", Path.Combine(data, "certificates", "<participant>", "system.pem, system.key"), "");
        Note("agreement", Path.Combine(data, "certificates", "agreement.json"), "");
        Note("health", "grpc.health.v1.Health, for \"\" (alive) and \"ready\"; gRPC reflection", "");
        _console.WriteLine();
        // Lines to be copied: whole, however wide the terminal is.
        var lines = new[]
        {
            $"    export MINISTRIES_FOLDER={Path.Combine(data, "certificates")} MINISTRIES_AS=kr/mfa",
            $"    export {string.Join(' ', addresses.Select(a => $"MINISTRIES_{a.Key.ToUpperInvariant()}={a.Value.GetLeftPart(UriPartial.Authority)}"))}",
            "    dotnet run --project services/Ministry -- list transfers",
        };
        foreach (var line in lines)
            _console.Profile.Out.Writer.WriteLine(line);
        _console.Profile.Out.Writer.Flush();
    }

    /// <summary>Where the call's trace is to be looked at.</summary>
    public void Traced(Uri page)
    {
        _console.MarkupLine("    The call's trace, for a browser:");
        // To be copied: whole, however wide the terminal is.
        _console.Profile.Out.Writer.WriteLine($"    {page}");
        _console.Profile.Out.Writer.Flush();
    }

    /// <summary>The story broke off.</summary>
    public void Broke(string why) => _console.MarkupLine($"\n[red]The story broke off:[/] {Shown(why)}");

    private void Trace(Report report)
    {
        if (report.Trace.Count == 0)
            return;
        var total = Math.Max(report.Trace.Max(s => s.OffsetMilliseconds + s.Milliseconds), 0.001);
        Heading("3  The trace of the call", $"one call, {report.Trace.Count} spans, {total:F0} ms until the last draft was told");
        var names = Math.Max(40, _console.Profile.Width - 56);
        var grid = new Grid();
        grid.AddColumn(new GridColumn().NoWrap().PadLeft(4).Width(names))
            .AddColumn(new GridColumn().NoWrap().Width(8))
            .AddColumn(new GridColumn().NoWrap().Width(BarWidth))
            .AddColumn(new GridColumn().NoWrap().RightAligned());
        var lines = Branches(report.Trace);
        foreach (var (span, branch) in report.Trace.Zip(lines))
            grid.AddRow(
                $"[dim]{branch}[/]{Shown(Short(span.Name, names - 1 - branch.Length))}",
                $"[dim]{Shown(span.Service)}[/]",
                $"[blue]{Bar(span, total)}[/]",
                $"{span.Milliseconds:F1} ms"
            );
        _console.Write(grid);
        var answers = report
            .Timeline.Where(t => report.Links.Any(l => l.Trace == t.Trace && l.CauseTrace == report.Trace[0].Trace))
            .GroupBy(t => Last(t.Method))
            .Select(g => g.Count() == 1 ? g.Key : $"{g.Key} ×{g.Count()}");
        Heading("6  Each later step is a trace of its own, linked to what it answers", $"{report.Links.Count} links");
        Note("to the call's trace", string.Join(", ", answers), "");
    }

    private const int BarWidth = 20;

    private static string Bar(TraceSpan span, double total)
    {
        var from = Math.Clamp((int)(span.OffsetMilliseconds / total * BarWidth), 0, BarWidth - 1);
        var length = Math.Clamp((int)Math.Round(span.Milliseconds / total * BarWidth), 1, BarWidth - from);
        return new string(' ', from) + new string('━', length);
    }

    // The lines that lead to each span, which come a parent before its children.
    private static List<string> Branches(IReadOnlyList<TraceSpan> spans)
    {
        var lines = new List<string>();
        var open = new List<bool>();
        for (var i = 0; i < spans.Count; i++)
        {
            var depth = spans[i].Depth;
            var more = spans.Skip(i + 1).TakeWhile(s => s.Depth >= depth).Any(s => s.Depth == depth);
            open.RemoveRange(Math.Min(depth, open.Count), open.Count - Math.Min(depth, open.Count));
            open.Add(more);
            lines.Add(
                depth == 0 ? "" : string.Concat(Enumerable.Range(1, depth - 1).Select(d => open[d] ? "│ " : "  ")) + (more ? "├ " : "└ ")
            );
        }
        return lines;
    }

    private void Records(Report report)
    {
        if (report.Records.Count == 0)
            return;
        Heading("Each record as each party sees it", "· it is not there for the party");
        var parties = report.Records.SelectMany(r => r.Seen.Keys).Distinct().ToList();
        Columns(
            [("", ""), .. parties.Select(p => (p, "dim"))],
            report.Records.Select(r =>
                (IReadOnlyList<(string, string)>)
                    [(r.Record, "dim"), .. parties.Select(p => r.Seen[p] is { } seen ? (seen, StyleOf(seen)) : ("·", "dim"))]
            )
        );
    }

    private static string StyleOf(string seen) => seen == "SUSPENDED" ? "yellow" : "";

    private void Ledgers(Report report)
    {
        if (report.Ledgers.Count == 0)
            return;
        Heading("The ledgers, fetched again by all who may see an entry, and computed again", "");
        Columns(
            [("", ""), ("entries", "dim"), ("positions", "dim"), ("parts", "dim"), ("Merkle root", "dim"), ("checkpoint", "dim")],
            report.Ledgers.Select(l =>
                (IReadOnlyList<(string, string)>)
                    [
                        (l.Service, "dim"),
                        ($"{l.Entries, 7}", ""),
                        l.Gapless ? ("gapless", "green") : ("missing", "red"),
                        l.Digests is { } digests ? ($"{digests} as their headers say", "green") : ("differ", "red"),
                        ($"{l.Root[..24]}…", "dim"),
                        l.Agrees ? ("the same root", "green") : ("another root", "red"),
                    ]
            )
        );
        foreach (var wrong in report.Ledgers.SelectMany(l => l.Wrong.Select(w => $"{l.Service}: {w}")))
            Note("", wrong, "red");
    }

    private void Evidence(Report report)
    {
        if (report.Evidence.Count == 0)
            return;
        Heading("The evidence that a court could be given, verified from the file alone", "ministry evidence verify <file>");
        foreach (var file in report.Evidence)
        {
            Note(file.Exporter, Path.GetFileName(file.Path), "");
            Note(
                "",
                $"{file.Entries} entries; signed {string.Join(", ", file.Signed.Select(s => $"{s.Value} by {s.Key}"))}; "
                    + $"{file.Approvals} approvals, {file.Receipts} receipts, {file.Privileged} privileged",
                "dim"
            );
            Note(
                "",
                file.Break is null
                    ? $"it holds{(file.Cosigned.Count == 0 ? "" : $"; its logs are cosigned by {string.Join(" and ", file.Cosigned)}")}"
                    : $"broken at {file.Break}",
                file.Break is null ? "green" : "red"
            );
        }
        var receipts = Directory.EnumerateFiles(Path.Combine(report.Data, "receipts"), "*", SearchOption.AllDirectories).Count();
        Note("receipts", $"{receipts}, each verified, in receipts/<participant>", "");
    }

    // Columns as wide as what is in them, two spaces apart, or one where two are too many.
    private void Columns(IReadOnlyList<(string Text, string Style)> head, IEnumerable<IReadOnlyList<(string Text, string Style)>> rows)
    {
        var all = rows.Prepend(head).ToList();
        var widths = head.Select((_, i) => all.Max(r => r[i].Text.Length)).ToList();
        var gap = 4 + widths.Sum() + 2 * (widths.Count - 1) <= _console.Profile.Width ? 2 : 1;
        foreach (var row in all)
            _console.MarkupLine(
                new string(' ', gap * 2)
                    + string.Concat(
                        row.Select((cell, i) => Styled(i == row.Count - 1 ? cell.Text : cell.Text.PadRight(widths[i] + gap), cell.Style))
                    )
            );
    }

    private void Expectations(Report report)
    {
        var held = report.Checks.Count(c => c.Holds);
        Heading("What must be true", $"{held} of {report.Checks.Count}");
        foreach (var check in report.Checks)
        foreach (
            var (i, line) in Wrap(check.Holds ? check.What : $"{check.What}; found: {check.Found}", _console.Profile.Width - 6).Index()
        )
            _console.MarkupLine(
                $"    {(i > 0 ? " " : check.Holds ? "[green]✓[/]" : "[red]✗[/]")} {Styled(line, check.Holds ? "" : "red")}"
            );
        _console.WriteLine();
        _console.MarkupLine(
            report.Holds
                ? $"    [bold green]All of it is true.[/]  [dim]Data: {Shown(report.Data)}[/]"
                : $"    [bold red]Not all of it is true.[/]  [dim]Data and logs: {Shown(report.Data)}[/]"
        );
        _console.WriteLine();
    }

    private void Heading(string title, string beside)
    {
        _console.WriteLine();
        _console.MarkupLine($"[bold] {Shown(title)}[/]  [dim]{Shown(beside)}[/]");
    }

    private const int WhoWidth = 19;
    private const int MethodWidth = 27;
    private const int WhereWidth = 12;

    // What is left beside the others; a narrow terminal makes more lines of it.
    private int WhatWidth => Math.Max(20, _console.Profile.Width - 4 - WhoWidth - 1 - 1 - MethodWidth - WhereWidth);

    // Who, what he did, by which method, and where it stands. What is too long goes on below.
    private void Row(string who, string what, string style, string method, string where)
    {
        var lines = Wrap(what, WhatWidth);
        _console.MarkupLine(
            $"    {Shown(who), -WhoWidth} {Styled(lines[0].PadRight(WhatWidth), style)} [dim]{Shown(method), -MethodWidth}[/]{where}".TrimEnd()
        );
        foreach (var line in lines[1..])
            _console.MarkupLine($"    {"", -WhoWidth} {Styled(line, style)}");
    }

    // What belongs to the row above, or what a service says.
    private void Note(string who, string what, string style)
    {
        var lines = Wrap(what, Math.Max(20, _console.Profile.Width - WhoWidth - 5));
        for (var i = 0; i < lines.Count; i++)
            _console.MarkupLine($"    [dim]{(i == 0 ? Shown(who) : ""), -WhoWidth}[/] {Styled(lines[i], style)}");
    }

    // What came from elsewhere: neither a style of this screen's nor anything that acts on a terminal.
    private static string Shown(string text) => Markup.Escape(Terminal.Line(text));

    private static string Styled(string text, string style) => style.Length == 0 ? Shown(text) : $"[{style}]{Shown(text)}[/]";

    private static List<string> Wrap(string text, int width)
    {
        var lines = new List<string> { "" };
        foreach (var word in text.Split(' '))
            if (lines[^1].Length == 0)
                lines[^1] = word;
            else if (lines[^1].Length + 1 + word.Length <= width)
                lines[^1] += " " + word;
            else
                lines.Add(word);
        return lines;
    }

    // Without the package, and where that is too long still without its service and version.
    private static string Short(string name, int width)
    {
        name = name.Replace("ministries.", "", StringComparison.Ordinal);
        if (name.Length > width && name.Split(' ') is [var verb, var type])
            name = $"{verb} …{type[(type.LastIndexOf('.') + 1)..]}";
        return name.Length <= width ? name : name[..(width - 1)] + "…";
    }

    // Without the spaces at the end of each line.
    private sealed class Trimmed(TextWriter inner) : TextWriter
    {
        private readonly System.Text.StringBuilder _line = new();

        public override System.Text.Encoding Encoding => inner.Encoding;

        public override void Write(char value)
        {
            if (value != '\n')
            {
                _line.Append(value);
                return;
            }
            inner.WriteLine(_line.ToString().TrimEnd());
            _line.Clear();
        }

        public override void Flush() => inner.Flush();
    }

    private static string Last(string name) => name[(name.LastIndexOf('/') + 1)..];
}
