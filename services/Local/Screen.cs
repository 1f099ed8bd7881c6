using Ministries.Client;
using Spectre.Console;

namespace Ministries.Local;

/// <summary>Writes the steps and the report for a person: refusals in red, checks that hold in green. Without a terminal the same text is
/// written without colours.</summary>
public sealed class Screen
{
    private const int MaxWidth = 118,
        MinWidth = 60;

    private readonly IAnsiConsole _console;
    private readonly bool _brief;

    /// <summary>Writes to the output.</summary>
    /// <param name="output">Where to.</param>
    /// <param name="redirected">Whether it is no terminal.</param>
    /// <param name="brief">Whether only the headings are shown, as progress.</param>
    /// <param name="width">How many columns there are, from 60 on; null: as many as the terminal has, at most 118.</param>
    public Screen(TextWriter output, bool redirected, bool brief = false, int? width = null)
    {
        _brief = brief;
        // A user who wants no colours (no-color.org) gets no other styles either.
        var plain = redirected || Environment.GetEnvironmentVariable("NO_COLOR") is { Length: > 0 };
        _console = AnsiConsole.Create(
            new AnsiConsoleSettings
            {
                Out = new AnsiConsoleOutput(redirected ? new Trimmed(output) : output),
                Interactive = InteractionSupport.No,
                Ansi = plain ? AnsiSupport.No : AnsiSupport.Detect,
                ColorSystem = plain ? ColorSystemSupport.NoColors : ColorSystemSupport.Detect,
            }
        );
        _console.Profile.Width = Math.Clamp(width ?? (redirected ? MaxWidth : _console.Profile.Width), MinWidth, MaxWidth);
    }

    private int Width => _console.Profile.Width;

    /// <summary>Writes the first lines.</summary>
    public void Title(string data)
    {
        if (_brief)
            return;
        _console.WriteLine();
        Labelled("Ministries", "the case of 17 March 2025: three services in this process, a ledger each, TLS 1.3", "bold", "");
        Labelled("data", data, "dim", "dim");
    }

    /// <summary>Writes a line of progress before the first step.</summary>
    /// <param name="what">In a word.</param>
    /// <param name="which">What it is done to.</param>
    public void Progress(string what, string which)
    {
        if (!_brief)
            Labelled(what, which, "dim", "dim");
    }

    private void Labelled(string label, string text, string labelStyle, string style)
    {
        const int Label = 12;
        foreach (var (i, line) in Wrap(text, Width - Label).Index())
            _console.MarkupLine(Styled((i == 0 ? label : "").PadRight(Label), labelStyle) + Styled(line, style));
    }

    /// <summary>Writes the heading of a part.</summary>
    public void Chapter(int part, string title)
    {
        _console.WriteLine();
        foreach (var (i, line) in Wrap(title, Width - 4).Index())
            _console.MarkupLine($"[bold] {(i == 0 ? $"{part}" : " ")}  {Escaped(line)}[/]");
    }

    /// <summary>Writes a step and, where it was refused, why.</summary>
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
            step.Refusal is not null ? ("refused", "red")
                : step.Position is { } position ? ($"{step.Service} {position}", "dim")
                : ("", "")
        );
        if (step.Refusal is not { } refusal)
            return;
        Note("", $"{refusal.Reason}  {refusal.Basis}: {refusal.Source}", "red");
        Note("", $"missing      {refusal.Missing}", "dim", 13);
        Note("", $"supplied by  {refusal.Supplier}", "dim", 13);
        Note("", $"unlocked by  {refusal.Unlock}", "dim", 13);
    }

    /// <summary>Writes what a service did by itself.</summary>
    public void Reaction(string service, string what)
    {
        if (!_brief)
            Note(service, what, "italic");
    }

    /// <summary>Writes how two accounts of a call compare.</summary>
    public void Comparison(IEnumerable<(string Field, string Match)> fields)
    {
        if (_brief)
            return;
        foreach (var group in fields.GroupBy(f => f.Match))
            Note("", $"{group.Key, -13} {string.Join(", ", group.Select(f => f.Field.ToLowerInvariant()))}", "dim", 14);
    }

    /// <summary>Writes an expectation that does not hold.</summary>
    public void Failed(Check check)
    {
        if (!_brief)
            Note("", $"not so: {check.What}; found: {check.Found}", "red");
    }

    /// <summary>Writes the report after the last step.</summary>
    public void Show(Report report)
    {
        if (_brief)
            return;
        Trace(report);
        Records(report);
        Identity(report);
        Ledgers(report);
        Evidence(report);
        Expectations(report);
    }

    /// <summary>Writes how to reach the services that go on running.</summary>
    public void Serving(IReadOnlyDictionary<string, Uri> addresses, string data)
    {
        Heading("The services go on", "stop them with Ctrl-C");
        foreach (var (service, address) in addresses)
            Note(service, $"{address}", "");
        Note("certificates", Path.Combine(data, "certificates", "<participant>", "system.pem, system.key"), "");
        Note("agreement", Path.Combine(data, "certificates", "agreement.json"), "");
        Note("health", "grpc.health.v1.Health, for \"\" (alive) and \"ready\"; gRPC reflection", "");
        _console.WriteLine();
        // These lines are copied by people: they are not wrapped at the width of the terminal.
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

    /// <summary>Writes the address of the page that shows the call's trace.</summary>
    public void ShowTracePage(Uri page)
    {
        _console.MarkupLine("    The call's trace, for a browser:");
        // This line is copied by people: it is not wrapped at the width of the terminal.
        _console.Profile.Out.Writer.WriteLine($"    {page}");
        _console.Profile.Out.Writer.Flush();
    }

    /// <summary>Writes why the story broke off.</summary>
    public void ShowAborted(string why) => _console.MarkupLine($"\n[red]The story broke off:[/] {Escaped(why)}");

    private void Trace(Report report)
    {
        if (report.Trace.Count == 0)
            return;
        var total = Math.Max(report.Trace.Max(s => s.OffsetMilliseconds + s.Milliseconds), 0.001);
        Heading("3  The trace of the call", $"one call, {report.Trace.Count} spans, {total:F0} ms until the last draft was told");
        var services = report.Trace.Max(s => s.Service.Length);
        // The indentation, the time, and a space between two columns.
        const int Time = 11;
        var names = Width - 4 - (services + 1) - (BarWidth + 1) - Time;
        foreach (var (span, branch) in report.Trace.Zip(Branches(report.Trace)))
        {
            var name = Short(span.Name, names - branch.Length);
            _console.MarkupLine(
                $"    [dim]{branch}[/]{Escaped(name)}{new string(' ', names - branch.Length - name.Length)} "
                    + $"[dim]{Escaped(span.Service.PadRight(services))}[/] [blue]{Bar(span, total).PadRight(BarWidth)}[/]"
                    + $"{$"{span.Milliseconds:F1} ms", Time}"
            );
        }
        var answers = report
            .Timeline.Where(t => report.Links.Any(l => l.Trace == t.Trace && l.CauseTrace == report.Trace[0].Trace))
            .GroupBy(t => Last(t.Method))
            .Select(g => g.Count() == 1 ? g.Key : $"{g.Key} ×{g.Count()}");
        Heading("6  Each later step is a trace of its own, linked to what it answers", $"{report.Links.Count} links");
        Note("to the call's trace", string.Join(", ", answers), "");
    }

    private int BarWidth =>
        Width >= 100 ? 20
        : Width >= 76 ? 10
        : 0;

    private string Bar(TraceSpan span, double total)
    {
        if (BarWidth == 0)
            return "";
        var from = Math.Clamp((int)(span.OffsetMilliseconds / total * BarWidth), 0, BarWidth - 1);
        var length = Math.Clamp((int)Math.Round(span.Milliseconds / total * BarWidth), 1, BarWidth - from);
        return new string(' ', from) + new string('━', length);
    }

    // The branches of the tree that are drawn before each span. A parent comes before its children.
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

    private void Identity(Report report)
    {
        if (report.Sealed.Count == 0)
            return;
        Heading("The identity of P-2, as each reads the same record", "invented");
        foreach (var view in report.Sealed)
        {
            Note(view.Reader, view.Part, "dim");
            Note("", view.Seen, "");
        }
        if (report.Dump is not { } dump)
            return;
        Note("an intruder", $"with {dump.File}", "dim");
        foreach (var line in dump.Lines)
            _console.MarkupLine($"    {Escaped(line[..Math.Min(line.Length, Width - 4)])}");
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

    // Columns as wide as their widest text, two spaces apart, or one where the terminal is too narrow for two. Where it is too narrow for
    // one, each row is a sentence.
    private void Columns(IReadOnlyList<(string Text, string Style)> head, IEnumerable<IReadOnlyList<(string Text, string Style)>> rows)
    {
        var all = rows.Prepend(head).ToList();
        var widths = head.Select((_, i) => all.Max(r => r[i].Text.Length)).ToList();
        if (2 + widths.Sum() + widths.Count - 1 > Width)
        {
            foreach (var row in all.Skip(1))
                Note(row[0].Text, string.Join(", ", row.Zip(head, (cell, of) => $"{of.Text} {cell.Text.Trim()}").Skip(1)), "");
            return;
        }
        var gap = 4 + widths.Sum() + 2 * (widths.Count - 1) <= Width ? 2 : 1;
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
        foreach (var (i, line) in Wrap(check.Holds ? check.What : $"{check.What}; found: {check.Found}", Width - 6).Index())
            _console.MarkupLine(
                $"    {(i > 0 ? " " : check.Holds ? "[green]✓[/]" : "[red]✗[/]")} {Styled(line, check.Holds ? "" : "red")}"
            );
        _console.WriteLine();
        _console.MarkupLine(report.Holds ? "    [bold green]All of it is true.[/]" : "    [bold red]Not all of it is true.[/]");
        _console.MarkupLine($"    [dim]{(report.Holds ? "Data" : "Data and logs")}: {Escaped(report.Data)}[/]");
        _console.WriteLine();
    }

    private void Heading(string title, string beside)
    {
        _console.WriteLine();
        if (1 + title.Length + 2 + beside.Length <= Width)
        {
            _console.MarkupLine($"[bold] {Escaped(title)}[/]  [dim]{Escaped(beside)}[/]");
            return;
        }
        foreach (var line in Wrap(title, Width - 1))
            _console.MarkupLine($"[bold] {Escaped(line)}[/]");
        foreach (var line in Wrap(beside, Width - 4))
            _console.MarkupLine($"    [dim]{Escaped(line)}[/]");
    }

    private const int WhoWidth = 19;
    private const int MethodWidth = 27;
    private const int WhereWidth = 12;

    // Writes who did what, by which method, and where it is recorded. A text that is too long goes on in the next line. In a narrow
    // terminal, method and place have lines of their own.
    private void Row(string who, string what, string style, string method, (string Text, string Style) place)
    {
        var rest = Width - 4 - WhoWidth - 1;
        var beside = rest - 1 - MethodWidth - WhereWidth;
        if (beside < MethodWidth)
        {
            Note(who, what, style);
            if (method.Length + 2 + place.Text.Length > rest)
            {
                Note("", method, "dim");
                Note("", place.Text, place.Style);
            }
            else
                _console.MarkupLine($"    {"", -WhoWidth} [dim]{Escaped(method)}[/]  {Styled(place.Text, place.Style)}".TrimEnd());
            return;
        }
        var lines = Wrap(what, beside);
        _console.MarkupLine(
            $"    {Escaped(who), -WhoWidth} {Styled(lines[0].PadRight(beside), style)} [dim]{Escaped(method), -MethodWidth}[/]{Styled(place.Text, place.Style)}".TrimEnd()
        );
        foreach (var line in lines[1..])
            _console.MarkupLine($"    {"", -WhoWidth} {Styled(line, style)}");
    }

    // Writes a line that belongs to the row above, or what a service did. Where it goes on in the next line, that is indented.
    private void Note(string who, string what, string style, int indented = 0)
    {
        foreach (var (i, line) in Wrap(what, Width - WhoWidth - 5, indented).Index())
            _console.MarkupLine($"    [dim]{(i == 0 ? Escaped(who) : ""), -WhoWidth}[/] {Styled(line, style)}");
    }

    // Text from outside, without effect on a terminal and without markup.
    private static string Escaped(string text) => Markup.Escape(Terminal.Line(text));

    private static string Styled(string text, string style) => style.Length == 0 ? Escaped(text) : $"[{style}]{Escaped(text)}[/]";

    private static List<string> Wrap(string text, int width, int indented = 0)
    {
        var lines = new List<string> { "" };
        foreach (var word in text.Split(' '))
            if (string.IsNullOrWhiteSpace(lines[^1]))
                lines[^1] += word;
            else if (lines[^1].Length + 1 + word.Length <= width)
                lines[^1] += " " + word;
            else
                lines.Add(new string(' ', indented) + word);
        return lines;
    }

    // A name without its package and, where that is still too long, without service and version.
    private static string Short(string name, int width)
    {
        name = name.Replace("ministries.", "", StringComparison.Ordinal);
        if (name.Length > width && name.Split(' ') is [var verb, var type])
            name = $"{verb} …{type[(type.LastIndexOf('.') + 1)..]}";
        return name.Length <= width ? name : name[..(width - 1)] + "…";
    }

    // Removes the spaces at the end of each line.
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
