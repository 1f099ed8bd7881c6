namespace Ministries.Ministry;

/// <summary>A column of a table.</summary>
/// <param name="Title">Its title.</param>
/// <param name="Whole">Whether its texts are copied by people, such as ids: they are never cut.</param>
internal sealed record Column(string Title, bool Whole = false);

/// <summary>Rows under titles. The table is never wider than the terminal: what does not fit is cut, then left out from the right, and a
/// line says so.</summary>
internal static class Table
{
    private const int Gap = 2;
    private const int Least = 6;

    /// <summary>Writes a table.</summary>
    /// <param name="screen">Where to.</param>
    /// <param name="columns">The columns, the most important first.</param>
    /// <param name="rows">The rows, a text for each column.</param>
    /// <param name="wide">Whether every column is shown whole, however wide that is.</param>
    /// <returns>The titles of the columns that did not fit.</returns>
    public static IReadOnlyList<string> Write(
        Screen screen,
        IReadOnlyList<Column> columns,
        IReadOnlyList<IReadOnlyList<Span>> rows,
        bool wide = false
    )
    {
        // A column that is empty in every row says nothing.
        int[] used = [.. Enumerable.Range(0, columns.Count).Where(c => wide || rows.Any(r => r[c].Text.Length > 0))];
        var widths = Fit(columns, rows, used, wide ? int.MaxValue : screen.Shell.Columns ?? int.MaxValue);
        Line(widths.Keys.Select(c => new Span(columns[c].Title, Style.Dim)));
        foreach (var row in rows)
            Line(widths.Keys.Select(c => row[c]));
        return [.. used.Except(widths.Keys).Select(c => columns[c].Title.ToLowerInvariant())];

        void Line(IEnumerable<Span> cells)
        {
            var spans = new List<Span>();
            foreach (var (cell, (column, width)) in cells.Zip(widths))
                spans.Add(cell with { Text = Screen.Pad(Screen.Cut(cell.Text, width), column == widths.Keys.Last() ? 0 : width + Gap) });
            screen.Line([.. spans]);
        }
    }

    // The width of each column that is shown.
    private static Dictionary<int, int> Fit(
        IReadOnlyList<Column> columns,
        IReadOnlyList<IReadOnlyList<Span>> rows,
        int[] used,
        int available
    )
    {
        var widths = new Dictionary<int, int>();
        var left = available;
        foreach (var column in used)
        {
            var needed = rows.Select(r => Screen.ColumnsOf(r[column].Text)).Append(columns[column].Title.Length).Max();
            var free = left - (widths.Count > 0 ? Gap : 0);
            if (widths.Count == 0)
                widths[column] = Math.Min(needed, free);
            else if (needed <= free)
                widths[column] = needed;
            else if (!columns[column].Whole && free >= Math.Max(Least, columns[column].Title.Length))
                widths[column] = free;
            else
                continue;
            left = free - widths[column];
        }
        return widths;
    }
}
