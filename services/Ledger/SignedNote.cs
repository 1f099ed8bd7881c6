using System.Globalization;

namespace Ministries.Ledger;

/// <summary>A note with its signatures (C2SP signed-note), which are not verified.</summary>
/// <param name="Text">What is signed, with its last line's end.</param>
/// <param name="Signatures">The signatures in their order.</param>
public sealed record SignedNote(string Text, IReadOnlyList<NoteSignature> Signatures)
{
    /// <summary>The greatest length of a note, in characters.</summary>
    public const int MaxLength = 64 << 10;

    /// <summary>The greatest number of a note's signatures.</summary>
    public const int MaxSignatures = 64;

    internal const string Mark = "— ";

    /// <summary>The first line: of a checkpoint, its origin.</summary>
    public string Origin => Text[..Text.IndexOf('\n')];

    /// <summary>The tree that the text describes if it is a checkpoint's (C2SP tlog-checkpoint), whoever signed it; null: it is no
    /// checkpoint.</summary>
    public Checkpoint? Tree => TreeOf(Text) is var (size, root) ? new Checkpoint(size, root, ToString()) : null;

    /// <summary>Reads a note; null: it is none.</summary>
    public static SignedNote? Read(string note)
    {
        var end = note.LastIndexOf("\n\n", StringComparison.Ordinal);
        if (end < 0 || note.Length > MaxLength || !note.EndsWith('\n') || note.Any(c => c < ' ' && c != '\n'))
            return null;
        return ReadLines(note[(end + 2)..]) is { Count: > 0 } signatures ? new(note[..(end + 1)], signatures) : null;
    }

    /// <summary>Reads signature lines, such as those of a witness's answer; null: a line is not a signature line.</summary>
    public static IReadOnlyList<NoteSignature>? ReadLines(string lines)
    {
        if (lines.Length is 0 or > MaxLength || !lines.EndsWith('\n'))
            return null;
        var read = new List<NoteSignature>();
        foreach (var line in lines[..^1].Split('\n'))
        {
            if (
                !line.StartsWith(Mark, StringComparison.Ordinal)
                || line[Mark.Length..].Split(' ') is not [var name, var encoded]
                || !IsName(name)
                || Base64(encoded) is not { Length: > 4 } bytes
                || read.Count == MaxSignatures
            )
                return null;
            read.Add(new NoteSignature(name, bytes[..4], bytes[4..], line + "\n"));
        }
        return read;
    }

    /// <summary>The note's text.</summary>
    public override string ToString() => $"{Text}\n{string.Concat(Signatures.Select(s => s.Line))}";

    // Exactly three lines. More are allowed by tlog-checkpoint, but other readers would not understand them.
    private static (ulong Size, byte[] Root)? TreeOf(string text)
    {
        var lines = text.Split('\n');
        if (
            lines.Length != 4
            || !IsName(lines[0])
            || !ulong.TryParse(lines[1], NumberStyles.None, CultureInfo.InvariantCulture, out var size)
            || lines[1] != size.ToString(CultureInfo.InvariantCulture)
        )
            return null;
        return Base64(lines[2]) is { Length: 32 } root ? (size, root) : null;
    }

    internal const string NameRule = "a key name is 1 to 256 printable ASCII characters without spaces and plus signs";

    // C2SP signed-note forbids Unicode's spaces, but languages disagree on which characters those are. On ASCII they agree.
    internal static bool IsName(string name) => name.Length is > 0 and <= 256 && name.All(c => c is > ' ' and <= '~' and not '+');

    /// <summary>The bytes of a base64 text in its one right form (RFC 4648, 4): padded, no white space, no bits set in the padding;
    /// null: it is not in it.</summary>
    /// <param name="text">The text.</param>
    public static byte[]? Base64(string text)
    {
        var bytes = new byte[text.Length / 4 * 3];
        return Convert.TryFromBase64String(text, bytes, out var length) && Convert.ToBase64String(bytes, 0, length) == text
            ? bytes[..length]
            : null;
    }
}
