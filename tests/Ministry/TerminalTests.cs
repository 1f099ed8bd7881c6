using System.Text.Json.Nodes;

namespace Ministries.Ministry.Tests;

/// <summary>Texts of others are shown and never act on the reader's terminal.</summary>
public class TerminalTests
{
    public static TheoryData<string, string> Texts =>
        new()
        {
            { "plain, 남조선, 🕊\n\tnext", "plain, 남조선, 🕊\n\tnext" },
            { "\u001b[2Jgone", "\\u001b[2Jgone" },
            { "\u001b]0;title\u0007", "\\u001b]0;title\\u0007" },
            { "\u009b31m", "\\u009b31m" },
            { "a\rb", "a\\u000db" },
            { "a\bb\u007f", "a\\u0008b\\u007f" },
            { "He \u202edid not\u202c", "He \\u202edid not\\u202c" },
            { "\u2066x\u2069\u200f\u061c", "\\u2066x\\u2069\\u200f\\u061c" },
            { "a\u200b\ufeff\u00adb", "a\\u200b\\ufeff\\u00adb" },
            { "a\u2028b\u2029", "a\\u2028b\\u2029" },
            { "x\U000e0041", "x\\udb40\\udc41" },
            { "ناروێ\u200cها 👨\u200d👩", "ناروێ\u200cها 👨\u200d👩" },
            { "\ud800x", "\\ud800x" },
        };

    [Theory]
    [MemberData(nameof(Texts))]
    public void Characters_that_act_on_a_terminal_are_escaped(string text, string shown)
    {
        Assert.Equal(shown, Terminal.Escape(text));
        var (whole, line, pieces) = (new StringWriter(), new StringWriter(), new StringWriter());
        new Terminal(whole).Write(text);
        new Terminal(line).WriteLine(text);
        new Terminal(pieces).Write(text.ToCharArray(), 0, text.Length);
        Assert.Equal((shown, shown + "\n", shown), ($"{whole}", $"{line}", $"{pieces}"));
    }

    [Fact]
    public void In_JSON_it_is_the_same_text() =>
        Assert.Equal(
            "He \u202edid not\u202c \U000e0041",
            (string)JsonNode.Parse($"\"{Terminal.Escape("He \u202edid not\u202c \U000e0041")}\"")!
        );

    [Fact]
    public void A_field_stays_in_its_line() => Assert.Equal("a\\nstate: AGREED\\tb", Terminal.Line("a\nstate: AGREED\tb"));
}
