using System.Globalization;
using System.Text;

namespace Ministries.Client;

/// <summary>
/// Writes texts of others to a person's terminal. A text of another ministry, a service's refusal or a file's name could hold sequences
/// that move the cursor, hide or recolour lines or answer in the reader's name, and characters that change the order in which he reads.
/// None of them reaches the terminal: each is escaped as <c>\u</c> and its code in hexadecimal, which is the same text in JSON.
/// </summary>
/// <param name="inner">The terminal, or the file to which its output goes.</param>
public sealed class Terminal(TextWriter inner) : TextWriter(CultureInfo.InvariantCulture)
{
    private readonly TextWriter _inner = inner;

    /// <inheritdoc/>
    public override Encoding Encoding => _inner.Encoding;

    /// <summary>Escapes the characters of a text that act on a terminal, except line feeds and tabs.</summary>
    public static string Escape(string text)
    {
        StringBuilder? escaped = null;
        for (var i = 0; i < text.Length; )
        {
            // A surrogate without its other half is no character, so it is escaped too.
            var whole = Rune.TryGetRuneAt(text, i, out var rune);
            var length = whole ? rune.Utf16SequenceLength : 1;
            if (!whole || Acts(rune))
            {
                escaped ??= new StringBuilder(text, 0, i, text.Length + 16);
                foreach (var unit in text.AsSpan(i, length))
                    escaped.Append(CultureInfo.InvariantCulture, $"\\u{(int)unit:x4}");
            }
            else
                escaped?.Append(text, i, length);
            i += length;
        }
        return escaped?.ToString() ?? text;
    }

    /// <summary>Escapes a text that must stay within its line, such as one field of a record: line feeds and tabs too.</summary>
    public static string Line(string text) =>
        Escape(text).Replace("\n", "\\n", StringComparison.Ordinal).Replace("\t", "\\t", StringComparison.Ordinal);

    /// <summary>Writes a text of others in a style of one's own.</summary>
    /// <param name="output">Where to.</param>
    /// <param name="text">The text, which is escaped.</param>
    /// <param name="style">The style by its number (ECMA-48, SGR).</param>
    internal static void WriteStyled(TextWriter output, string text, int style)
    {
        var raw = output is Terminal terminal ? terminal._inner : output;
        raw.Write(string.Create(CultureInfo.InvariantCulture, $"\x1b[{style}m{Escape(text)}\x1b[0m"));
    }

    /// <summary>Writes over the line in which the cursor stands.</summary>
    /// <param name="output">Where to.</param>
    /// <param name="text">The text, which is escaped; empty: the line is only cleared.</param>
    internal static void Overwrite(TextWriter output, string text)
    {
        var raw = output is Terminal terminal ? terminal._inner : output;
        raw.Write($"\r\x1b[K{Escape(text)}");
        raw.Flush();
    }

    /// <inheritdoc/>
    public override void Write(char value) => Write([value]);

    /// <inheritdoc/>
    public override void Write(string? value) => _inner.Write(Escape(value ?? ""));

    /// <inheritdoc/>
    public override void Write(char[] buffer, int index, int count) => Write(buffer.AsSpan(index, count));

    /// <inheritdoc/>
    public override void Write(ReadOnlySpan<char> buffer) => _inner.Write(Escape(buffer.ToString()));

    /// <inheritdoc/>
    public override void WriteLine(string? value) => _inner.Write(Escape(value ?? "") + "\n");

    /// <inheritdoc/>
    public override void Flush() => _inner.Flush();

    // Format characters act unseen. The two joiners are exceptions, because words in several scripts need them.
    private static bool Acts(Rune rune) =>
        Rune.GetUnicodeCategory(rune) switch
        {
            UnicodeCategory.Control => rune.Value is not ('\n' or '\t'),
            UnicodeCategory.Format => rune.Value is not (0x200C or 0x200D),
            UnicodeCategory.LineSeparator or UnicodeCategory.ParagraphSeparator => true,
            _ => false,
        };
}
