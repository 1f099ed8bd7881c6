using System.CommandLine;
using System.Globalization;
using System.Text;

namespace Ministries.Ministry;

/// <summary>How a text is shown where colours are.</summary>
internal enum Style
{
    /// <summary>As it is.</summary>
    Plain,

    /// <summary>Less than the rest.</summary>
    Dim,

    /// <summary>More than the rest.</summary>
    Bold,

    /// <summary>It is as it should be.</summary>
    Good,

    /// <summary>It needs attention.</summary>
    Warning,

    /// <summary>It is wrong.</summary>
    Bad,
}

/// <summary>A text in one style.</summary>
internal readonly record struct Span(string Text, Style Style = Style.Plain)
{
    public static implicit operator Span(string text) => new(text);
}

/// <summary>Writes lines for a person: as wide as his terminal, with colours where he wants them, and with the texts of others
/// escaped.</summary>
/// <param name="output">Where to.</param>
/// <param name="shell">In what.</param>
internal sealed class Screen(TextWriter output, Shell shell)
{
    /// <summary>The sign for what the reader may not see.</summary>
    public const string Withheld = "·";

    // Some of these characters need one column in some terminals. A line that is broken early does no harm, but a line that the terminal
    // breaks could pose as two.
    private static readonly (int From, int To)[] WideRanges =
    [
        (0x1100, 0x115F),
        (0x231A, 0x231B),
        (0x2329, 0x232A),
        (0x23E9, 0x23F3),
        (0x25FD, 0x25FE),
        (0x2614, 0x27BF),
        (0x2B1B, 0x2B55),
        (0x2E80, 0x303E),
        (0x3041, 0xA4CF),
        (0xA960, 0xA97C),
        (0xAC00, 0xD7A3),
        (0xF900, 0xFAFF),
        (0xFE10, 0xFE19),
        (0xFE30, 0xFE6F),
        (0xFF00, 0xFF60),
        (0xFFE0, 0xFFE6),
        (0x16FE0, 0x18DFF),
        (0x1AFF0, 0x1B2FF),
        (0x1D300, 0x1D376),
        (0x1F000, 0x1FAFF),
        (0x20000, 0x3FFFD),
    ];

    /// <summary>The screen for a verb's answer.</summary>
    public static Screen Of(ParseResult result) => new(result.InvocationConfiguration.Output, Shell.Of(result));

    /// <summary>The screen for all other output of a verb.</summary>
    public static Screen ErrorOf(ParseResult result) => new(result.InvocationConfiguration.Error, Shell.Of(result).ForErrors);

    /// <summary>The shell of this screen.</summary>
    public Shell Shell => shell;

    /// <summary>Writes a line.</summary>
    public void Line(params ReadOnlySpan<Span> spans)
    {
        foreach (var span in spans)
            Write(span);
        output.Write("\n");
    }

    /// <summary>Writes lines that are complete, each ended by a line feed.</summary>
    public void Lines(string text) => output.Write(text);

    /// <summary>Sends what was written on its way.</summary>
    public void Flush() => output.Flush();

    /// <summary>Writes a text that goes on in further lines, each indented, so that none is wider than the terminal.</summary>
    /// <param name="text">The text.</param>
    /// <param name="indent">The spaces before each line.</param>
    /// <param name="style">The style.</param>
    public void Paragraph(string text, int indent = 0, Style style = Style.Plain)
    {
        foreach (var line in Wrap(text, shell.TextColumns - indent))
            Line(new string(' ', indent), new Span(line, style));
    }

    /// <summary>Splits a text at its spaces into lines of a width; a longer word stands on a line of its own.</summary>
    public static IEnumerable<string> Wrap(string text, int width)
    {
        var line = new StringBuilder();
        var columns = 0;
        foreach (var word in text.Split((char[])[' ', '\n'], StringSplitOptions.RemoveEmptyEntries))
        {
            var needed = ColumnsOf(word);
            if (columns > 0 && columns + 1 + needed > width)
            {
                yield return line.ToString();
                (columns, _) = (0, line.Clear());
            }
            if (columns > 0)
                (columns, _) = (columns + 1, line.Append(' '));
            (columns, _) = (columns + needed, line.Append(word));
        }
        if (columns > 0)
            yield return line.ToString();
    }

    /// <summary>How many columns a terminal needs for a text: none for a mark above a letter, two for an East Asian letter.</summary>
    public static int ColumnsOf(string text)
    {
        var columns = 0;
        foreach (var rune in text.EnumerateRunes())
            columns += ColumnsOf(rune);
        return columns;
    }

    /// <summary>A text with spaces up to a width.</summary>
    public static string Pad(string text, int width) => text + new string(' ', Math.Max(0, width - ColumnsOf(text)));

    /// <summary>A text cut to a width; what is cut off is shown as <c>…</c>.</summary>
    public static string Cut(string text, int width)
    {
        if (ColumnsOf(text) <= width)
            return text;
        var (cut, columns) = (new StringBuilder(), 0);
        foreach (var rune in text.EnumerateRunes())
        {
            if ((columns += ColumnsOf(rune)) > width - 1)
                break;
            cut.Append(rune.ToString());
        }
        return cut.Append('…').ToString();
    }

    /// <summary>Waits for something, and says what for once that takes longer than two seconds.</summary>
    /// <param name="what">What is waited for, in a few words; empty: it is not said.</param>
    /// <param name="work">What is waited for.</param>
    public Task<T> While<T>(string what, Func<Task<T>> work) => While(() => what, work);

    /// <summary>As the other, for work of which one says how far it is.</summary>
    /// <param name="what">What is waited for now, in a few words; empty: it is not said.</param>
    /// <param name="work">What is waited for. It writes nothing to the same output meanwhile.</param>
    public async Task<T> While<T>(Func<string> what, Func<Task<T>> work)
    {
        var task = work();
        if (what().Length == 0 || !shell.IsTerminal)
            return await task;
        var (start, shown) = (shell.Time.GetTimestamp(), false);
        while (await Task.WhenAny(task, Task.Delay(TimeSpan.FromSeconds(shown ? 1 : 2), shell.Time)) != task)
        {
            Terminal.Overwrite(output, Cut($"{what()}: {shell.Time.GetElapsedTime(start).TotalSeconds:0} s", shell.TextColumns - 1));
            shown = true;
        }
        if (shown)
            Terminal.Overwrite(output, "");
        return await task;
    }

    /// <summary>A moment in the reader's zone, with its offset from UTC, to the second.</summary>
    public string Time(DateTimeOffset moment) =>
        TimeZoneInfo.ConvertTime(moment, shell.Zone).ToString("yyyy-MM-dd HH:mm:ss zzz", CultureInfo.InvariantCulture);

    /// <summary>How long it is until a moment, or since it, in words.</summary>
    public string Until(DateTimeOffset moment)
    {
        var left = moment - shell.Time.GetUtcNow();
        var (size, past) = (left.Duration(), left < TimeSpan.Zero);
        var words =
            size.TotalDays >= 2 ? $"{(int)size.TotalDays} days"
            : size.TotalHours >= 2 ? $"{(int)size.TotalHours} hours"
            : size.TotalMinutes >= 2 ? $"{(int)size.TotalMinutes} minutes"
            : size.TotalMinutes >= 1 ? "1 minute"
            : "less than a minute";
        return past ? $"{words} ago" : $"in {words}";
    }

    // A text of others stays within its line, so that it cannot pose as another one.
    private void Write(Span span)
    {
        var text = Terminal.Line(span.Text);
        if (shell.Colours && span.Style != Style.Plain && text.Length > 0)
            Terminal.WriteStyled(output, text, CodeOf(span.Style));
        else
            output.Write(text);
    }

    private static int CodeOf(Style style) =>
        style switch
        {
            Style.Dim => 2,
            Style.Bold => 1,
            Style.Good => 32,
            Style.Warning => 33,
            Style.Bad => 31,
            _ => 0,
        };

    private static int ColumnsOf(Rune rune) =>
        // It makes the sign before it two columns wide (UTS 51, presentation as an emoji).
        rune.Value == 0xFE0F
            ? 1
        : Rune.GetUnicodeCategory(rune)
            is UnicodeCategory.NonSpacingMark
                or UnicodeCategory.EnclosingMark
                or UnicodeCategory.Format
                or UnicodeCategory.Control
            ? 0
        : WideRanges.Any(r => r.From <= rune.Value && rune.Value <= r.To) ? 2
        : 1;
}
