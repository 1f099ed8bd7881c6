using System.Globalization;
using System.Text;

namespace Ministries.Contracts;

/// <summary>
/// Which characters a text for people may hold (MEANING_TEXT). A reader must see what was written, in the order in which it was written. So
/// two kinds of characters are refused: those that override the order (Unicode Standard Annex 9: U+202A to U+202E), and tags (U+E0000 to
/// U+E007F), which stand for ASCII letters but are drawn as nothing, so that they could hide a text. Isolates (U+2066 to U+2069) are
/// allowed, because a name in another script needs them, but each must be closed in its own line. An open isolate would reorder what a
/// screen shows after the text; one closed too often would end an isolate of the screen.
/// </summary>
public static class Texts
{
    /// <summary>What is wrong with a text; null: nothing. An empty text passes here, because the field's declaration says whether it may be
    /// empty.</summary>
    public static string? Fault(string text)
    {
        var open = 0;
        var visible = text.Length == 0;
        foreach (var rune in text.EnumerateRunes())
        {
            switch (rune.Value)
            {
                case '\n' or '\t':
                    break;
                case >= 0x202A and <= 0x202E:
                    return "must hold no embedding or override of direction (U+202A to U+202E)";
                case >= 0xE0000 and <= 0xE007F:
                    return "must hold no tags (U+E0000 to U+E007F), because they are letters that nobody is shown";
                case >= 0x2066 and <= 0x2068:
                    open++;
                    break;
                case 0x2069:
                    if (--open < 0)
                        return Unbalanced;
                    break;
                default:
                    if (Rune.IsControl(rune))
                        return "must hold no control characters but line feed and tab";
                    break;
            }
            // An isolate ends with its paragraph (UAX 9, X8), so it must be closed before.
            if (rune.Value is '\n' or 0x2028 or 0x2029 && open > 0)
                return Unbalanced;
            visible = visible || IsVisible(rune);
        }
        return open > 0 ? Unbalanced
            : visible ? null
            : "must hold a character that can be seen";
    }

    private const string Unbalanced =
        "must close each isolate (U+2066 to U+2068) with U+2069 in the same line, and must hold no other U+2069";

    /// <summary>Whether a character leaves a mark by itself: a letter, number, punctuation mark or symbol that is not blank. White
    /// space, controls, format characters, combining marks, private and unassigned characters do not.</summary>
    public static bool IsVisible(Rune rune) =>
        Rune.GetUnicodeCategory(rune) switch
        {
            UnicodeCategory.UppercaseLetter
            or UnicodeCategory.LowercaseLetter
            or UnicodeCategory.TitlecaseLetter
            or UnicodeCategory.ModifierLetter
            or UnicodeCategory.OtherLetter
            or UnicodeCategory.DecimalDigitNumber
            or UnicodeCategory.LetterNumber
            or UnicodeCategory.OtherNumber
            or UnicodeCategory.ConnectorPunctuation
            or UnicodeCategory.DashPunctuation
            or UnicodeCategory.OpenPunctuation
            or UnicodeCategory.ClosePunctuation
            or UnicodeCategory.InitialQuotePunctuation
            or UnicodeCategory.FinalQuotePunctuation
            or UnicodeCategory.OtherPunctuation
            or UnicodeCategory.MathSymbol
            or UnicodeCategory.CurrencySymbol
            or UnicodeCategory.ModifierSymbol
            or UnicodeCategory.OtherSymbol => !IsBlank(rune.Value),
            UnicodeCategory.NonSpacingMark
            or UnicodeCategory.SpacingCombiningMark
            or UnicodeCategory.EnclosingMark
            or UnicodeCategory.SpaceSeparator
            or UnicodeCategory.LineSeparator
            or UnicodeCategory.ParagraphSeparator
            or UnicodeCategory.Control
            or UnicodeCategory.Format
            or UnicodeCategory.Surrogate
            or UnicodeCategory.PrivateUse
            or UnicodeCategory.OtherNotAssigned => false,
        };

    // Letters and symbols by category that are drawn as nothing: Hangul fillers, the blank Braille pattern, the musical null notehead and
    // the object replacement character.
    private static bool IsBlank(int character) => character is 0x115F or 0x1160 or 0x3164 or 0xFFA0 or 0x2800 or 0x1D159 or 0xFFFC;
}
