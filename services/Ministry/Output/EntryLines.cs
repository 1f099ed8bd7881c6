using System.Globalization;

namespace Ministries.Ministry;

/// <summary>An entry of a ledger in words: when, who, what, and what followed.</summary>
internal static class EntryLines
{
    /// <summary>The lines of an entry. In a narrow terminal what followed stands in a line of its own.</summary>
    /// <param name="entry">The entry.</param>
    /// <param name="screen">Where it is shown.</param>
    /// <param name="wide">Whether nothing is cut.</param>
    /// <param name="service">The service, where entries of several are shown; null: it is known.</param>
    public static IEnumerable<Span[]> Of(LedgerEntry entry, Screen screen, bool wide, string? service = null)
    {
        var columns = wide ? int.MaxValue : screen.Shell.Columns ?? int.MaxValue;
        var of = service is null ? "" : $"{service} ";
        var (what, good) = WhatOf(entry);
        Span[] head =
        [
            new(entry.Header.Position.ToString(CultureInfo.InvariantCulture).PadLeft(5) + "  ", Style.Dim),
            (entry.Time is { } time ? screen.Time(time) : "not a time") + "  ",
            Screen.Pad(Terminal.Line(entry.Header.Participant), 20) + " ",
            new($"{of}{NameOf(entry)}", Style.Bold),
        ];
        var length = head.Sum(s => Screen.ColumnsOf(s.Text));
        if (columns < 90)
        {
            // The name of the method goes to the next line, with what followed.
            yield return [.. head[..2], head[2] with { Text = head[2].Text.TrimEnd() }];
            yield return [new("       "), new(Screen.Cut($"{of}{NameOf(entry)}{(what.Length > 0 ? $": {what}" : "")}", columns - 7), good)];
        }
        else
            yield return [.. head, new(what.Length == 0 ? "" : "  " + Screen.Cut(what, Math.Max(1, columns - length - 2)), good)];
    }

    /// <summary>The method, as its verb is called.</summary>
    public static string NameOf(LedgerEntry entry) =>
        Terminal.Line(Words.Kebab(entry.Header.Method[(entry.Header.Method.LastIndexOfAny(['/', '.']) + 1)..]));

    /// <summary>What followed, in a few words.</summary>
    public static (string What, Style Style) WhatOf(LedgerEntry entry)
    {
        if (!entry.Holds)
            return ("DIGEST DOES NOT MATCH", Style.Bad);
        if (entry.Parts.Select(p => p.Content).OfType<Ledger.V1.Answer>().FirstOrDefault()?.Refusal?.Reason is { } refused)
            return ($"refused: {Terminal.Line(refused.ToString())}", Style.Warning);
        if (entry.Privileged)
            return ("privileged", Style.Dim);
        var events = string.Join(
            ", ",
            entry
                .Published.GroupBy(e => Words.Kebab(e.Type[(e.Type.LastIndexOf('.') + 1)..]))
                .Select(g => g.Count() > 1 ? $"{g.Key} ×{g.Count()}" : g.Key)
        );
        return (Terminal.Line(events), Style.Dim);
    }
}
