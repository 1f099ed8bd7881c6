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
        _console = AnsiConsole.Create(new AnsiConsoleSettings
        {
            Out = new AnsiConsoleOutput(output), Interactive = InteractionSupport.No,
            Ansi = redirected ? AnsiSupport.No : AnsiSupport.Detect,
            ColorSystem = redirected ? ColorSystemSupport.NoColors : ColorSystemSupport.Detect,
        });
        _console.Profile.Width = redirected ? MaxWidth : Math.Min(MaxWidth, _console.Profile.Width);
    }

    /// <summary>The first lines.</summary>
    public void Title(string data)
    {
        if (_brief) return;
        _console.WriteLine();
        _console.MarkupLine("[bold]Ministries[/]  the case of 17 March 2025: three services in this process, a ledger each, real calls over TLS 1.3");
        _console.MarkupLine($"[dim]data        {Markup.Escape(data)}[/]");
    }

    /// <summary>A line of progress before anything happens.</summary>
    public void Progress(string what)
    {
        if (!_brief) _console.MarkupLine($"[dim]{Markup.Escape(what)}[/]");
    }

    /// <summary>A part of the main job begins.</summary>
    public void Chapter(int part, string title)
    {
        _console.WriteLine();
        _console.MarkupLine($"[bold] {part}  {Markup.Escape(title)}[/]");
    }

    /// <summary>Somebody did something.</summary>
    public void Step(Step step)
    {
        if (_brief) return;
        var method = step.Method[(step.Method.LastIndexOf('/') + 1)..];
        Row(step.Participant, step.What, "", method,
            step.Refusal is not null ? "[red]refused[/]" : step.Position is { } position ? $"[dim]{step.Service} {position}[/]" : "");
        if (step.Refusal is not { } refusal) return;
        Note("", $"{refusal.Reason}  {refusal.Basis}: {refusal.Source}", "red");
        Note("", $"missing      {refusal.Missing}", "dim");
        Note("", $"supplied by  {refusal.Supplier}", "dim");
        Note("", $"unlocked by  {refusal.Unlock}", "dim");
    }

    /// <summary>A service did something of its own.</summary>
    public void Reaction(string service, string what)
    {
        if (!_brief) Note(service, what, "italic");
    }

    /// <summary>Two accounts are compared.</summary>
    public void Comparison(IEnumerable<(string Field, string Match)> fields)
    {
        if (_brief) return;
        foreach (var group in fields.GroupBy(f => f.Match))
            Note("", $"{group.Key,-13} {string.Join(", ", group.Select(f => f.Field.ToLowerInvariant()))}", "dim");
    }

    /// <summary>An expectation does not hold.</summary>
    public void Failed(Check check)
    {
        if (!_brief) Note("", $"not so: {check.What}; found: {check.Found}", "red");
    }

    /// <summary>All the rest, once the story is told.</summary>
    public void Show(Report report)
    {
        if (_brief) return;
        Trace(report);
        Records(report);
        Ledgers(report);
        Expectations(report);
    }

    /// <summary>How the services are reached that go on.</summary>
    public void Serving(IReadOnlyDictionary<string, Uri> addresses, string data)
    {
        Heading("The services go on", "stop them with Ctrl-C");
        var grid = new Grid().AddColumn(new GridColumn().NoWrap().PadLeft(4)).AddColumn();
        foreach (var (service, address) in addresses) grid.AddRow(service, $"{address}");
        grid.AddRow("certificates", Markup.Escape(Path.Combine(data, "certificates", "<participant>", "system.pem and system.key")));
        grid.AddRow("agreement", Markup.Escape(Path.Combine(data, "certificates", "agreement.json")));
        grid.AddRow("health", "grpc.health.v1.Health/Check, service \"\" (alive) or \"ready\"");
        _console.Write(grid);
        var home = Path.Combine(data, "certificates", "kr", "mfa");
        _console.WriteLine();
        _console.MarkupLine("    [dim]for example, with reflection (grpcurl):[/]");
        _console.WriteLine(
            $"    grpcurl -cacert {Path.Combine(data, "certificates", "service", "calllog", "authority.pem")} \\\n" +
            $"      -cert {Path.Combine(home, "system.pem")} -key {Path.Combine(home, "system.key")} \\\n" +
            $"      {addresses["calllog"].Authority} ministries.calllog.v1.CallLogService/ListCalls");
    }

    /// <summary>The story broke off.</summary>
    public void Broke(string why) => _console.MarkupLine($"\n[red]The story broke off:[/] {Markup.Escape(why)}");

    private void Trace(Report report)
    {
        if (report.Trace.Count == 0) return;
        var total = Math.Max(report.Trace.Max(s => s.OffsetMilliseconds + s.Milliseconds), 0.001);
        Heading("The trace of the call", $"one call, {report.Trace.Count} spans, {total:F0} ms until the last draft was told");
        var grid = new Grid();
        grid.AddColumn(new GridColumn().NoWrap().PadLeft(4).Width(64)).AddColumn(new GridColumn().NoWrap().Width(8))
            .AddColumn(new GridColumn().NoWrap().Width(BarWidth)).AddColumn(new GridColumn().NoWrap().RightAligned());
        var lines = Branches(report.Trace);
        foreach (var (span, branch) in report.Trace.Zip(lines))
            grid.AddRow(
                $"[dim]{branch}[/]{Markup.Escape(Short(span.Name, 64 - branch.Length))}", $"[dim]{span.Service}[/]",
                $"[blue]{Bar(span, total)}[/]", $"{span.Milliseconds:F1} ms");
        _console.Write(grid);
        if (report.Links.Count == 0) return;
        _console.MarkupLine($"    [dim]{report.Links.Count} later steps are traces of their own, each linked to what caused it: " +
            $"{Markup.Escape(string.Join(", ", report.Links.Where(l => l.CauseName is not null).Select(l => Last(l.Name)).Distinct().Take(4)))} …[/]");
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
            lines.Add(depth == 0 ? "" :
                string.Concat(Enumerable.Range(1, depth - 1).Select(d => open[d] ? "│ " : "  ")) + (more ? "├ " : "└ "));
        }
        return lines;
    }

    private void Records(Report report)
    {
        if (report.Records.Count == 0) return;
        Heading("Each record as each party sees it", "· it is not there for the party");
        var parties = report.Records.SelectMany(r => r.Seen.Keys).Distinct().ToList();
        var table = new Table().Border(TableBorder.Simple).BorderColor(Color.Grey).Expand();
        table.AddColumn("");
        foreach (var party in parties) table.AddColumn(new TableColumn(party));
        foreach (var record in report.Records)
            table.AddRow([record.Record, .. parties.Select(p => record.Seen[p] is { } seen ? Coloured(seen) : "[dim]·[/]")]);
        _console.Write(new Padder(table, new Padding(3, 0, 0, 0)));
    }

    private static string Coloured(string seen) => seen.Contains("SUSPENDED", StringComparison.Ordinal)
        ? $"[yellow]{Markup.Escape(seen)}[/]" : Markup.Escape(seen);

    private void Ledgers(Report report)
    {
        if (report.Ledgers.Count == 0) return;
        Heading("The ledgers, fetched again by all who may see an entry, and computed again", "");
        var table = new Table().Border(TableBorder.Simple).BorderColor(Color.Grey);
        foreach (var title in new[] { "ledger", "entries", "positions", "parts", "Merkle root", "checkpoint" })
            table.AddColumn(title == "entries" ? new TableColumn(title).RightAligned() : new TableColumn(title));
        foreach (var ledger in report.Ledgers)
            table.AddRow(
                ledger.Service, $"{ledger.Entries}", ledger.Gapless ? "[green]gapless[/]" : "[red]missing[/]",
                ledger.Digests is { } digests ? $"[green]{digests} as their headers say[/]" : "[red]differ[/]",
                $"[dim]{ledger.Root[..16]}…[/]", ledger.Agrees ? "[green]the same root[/]" : "[red]another root[/]");
        _console.Write(new Padder(table, new Padding(3, 0, 0, 0)));
        foreach (var wrong in report.Ledgers.SelectMany(l => l.Wrong.Select(w => $"{l.Service}: {w}")))
            _console.MarkupLine($"    [red]{Markup.Escape(wrong)}[/]");
    }

    private void Expectations(Report report)
    {
        var held = report.Checks.Count(c => c.Holds);
        Heading("What must be true", $"{held} of {report.Checks.Count}");
        foreach (var check in report.Checks)
            _console.MarkupLine(check.Holds
                ? $"    [green]✓[/] {Markup.Escape(check.What)}"
                : $"    [red]✗ {Markup.Escape(check.What)}[/]  {Markup.Escape(check.Found ?? "")}");
        _console.WriteLine();
        _console.MarkupLine(report.Holds
            ? $"    [bold green]All of it is true.[/]  [dim]Data: {Markup.Escape(report.Data)}[/]"
            : $"    [bold red]Not all of it is true.[/]  [dim]Data and logs: {Markup.Escape(report.Data)}[/]");
        _console.WriteLine();
    }

    private void Heading(string title, string beside)
    {
        _console.WriteLine();
        _console.MarkupLine($"[bold] {Markup.Escape(title)}[/]  [dim]{Markup.Escape(beside)}[/]");
    }

    private const int WhoWidth = 19;
    private const int WhatWidth = 54;
    private const int MethodWidth = 27;

    // Who, what he did, by which method, and where it stands. What is too long goes on below.
    private void Row(string who, string what, string style, string method, string where)
    {
        var lines = Wrap(what, WhatWidth);
        _console.MarkupLine(
            $"    {who,-WhoWidth} {Styled(lines[0].PadRight(WhatWidth), style)} [dim]{method,-MethodWidth}[/]{where}".TrimEnd());
        foreach (var line in lines[1..]) _console.MarkupLine($"    {"",-WhoWidth} {Styled(line, style)}");
    }

    // What belongs to the row above, or what a service says.
    private void Note(string who, string what, string style)
    {
        var lines = Wrap(what, MaxWidth - WhoWidth - 5);
        for (var i = 0; i < lines.Count; i++)
            _console.MarkupLine($"    [dim]{(i == 0 ? who : ""),-WhoWidth}[/] {Styled(lines[i], style)}");
    }

    private static string Styled(string text, string style) =>
        style.Length == 0 ? Markup.Escape(text) : $"[{style}]{Markup.Escape(text)}[/]";

    private static List<string> Wrap(string text, int width)
    {
        var lines = new List<string> { "" };
        foreach (var word in text.Split(' '))
            if (lines[^1].Length == 0) lines[^1] = word;
            else if (lines[^1].Length + 1 + word.Length <= width) lines[^1] += " " + word;
            else lines.Add(word);
        return lines;
    }

    private static string Short(string name, int width)
    {
        name = name.Replace("ministries.", "", StringComparison.Ordinal);
        return name.Length <= width ? name : name[..(width - 1)] + "…";
    }

    private static string Last(string name) => name[(name.LastIndexOf('/') + 1)..];
}
