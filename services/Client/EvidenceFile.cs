using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using Google.Protobuf;
using Ministries.Evidence.V1;
using Ministries.Ledger.V1;
using Ministries.Trust;
using Ministries.Types.V1;

namespace Ministries.Client;

/// <summary>Where an evidence file breaks, and what that means.</summary>
/// <param name="Line">The line, from 1.</param>
/// <param name="Meaning">What is wrong there, in words.</param>
public sealed record EvidenceBreak(int Line, string Meaning)
{
    /// <inheritdoc/>
    public override string ToString() => $"line {Line}: {Meaning}";
}

/// <summary>The lines of an evidence file (<c>protos/EVIDENCE.md</c>, 1), each in its one form.</summary>
public static class EvidenceFile
{
    /// <summary>The name of the format, in the first line.</summary>
    public const string Format = "ministries.evidence.v1";

    /// <summary>The greatest number of lines.</summary>
    public const int MostLines = 100_000;

    /// <summary>The greatest length of a line, in bytes.</summary>
    public const int LongestLine = 16 << 20;

    private static readonly UTF8Encoding Strict = new(encoderShouldEmitUTF8Identifier: false, throwOnInvalidBytes: true);

    /// <summary>A line's text, without its line feed.</summary>
    public static string Write(EvidenceLine line) => Write((IMessage)line);

    private static string Write(IMessage message)
    {
        using var json = JsonDocument.Parse(JsonFormatter.Default.Format(message));
        var text = new StringBuilder();
        Write(json.RootElement, text);
        return text.ToString();
    }

    /// <summary>Reads a reader's own agreement: the JSON of section 1, in which white space may stand between the tokens and characters
    /// may be escaped in another way. What reads in two ways, such as a name that is there twice, is refused.</summary>
    /// <param name="file">The text, in UTF-8.</param>
    /// <exception cref="FormatException">It is no such text.</exception>
    public static Agreement ReadAgreement(ReadOnlySpan<byte> file)
    {
        try
        {
            var text = Strict.GetString(file);
            var (agreement, given) = (JsonParser.Default.Parse<Agreement>(text), new StringBuilder());
            using var json = JsonDocument.Parse(text);
            Write(json.RootElement, given);
            if (given.ToString() == Write((IMessage)agreement) && StrictForm.Wrong(agreement) is null)
                return agreement;
        }
        catch (Exception e)
            when (e
                    is InvalidProtocolBufferException
                        or InvalidJsonException
                        or JsonException
                        or InvalidOperationException
                        or FormatException
                        or OverflowException
                        or ArgumentException
            )
        {
            throw new FormatException($"it is not an agreement: {e.Message}", e);
        }
        throw new FormatException(
            "it is not written as `ministry agreement draft` writes it: every field once, in the order of the numbers, none with its default value"
        );
    }

    /// <summary>Reads all lines.</summary>
    /// <param name="file">The file's bytes.</param>
    /// <param name="lines">The lines with their digests, as far as they have the form.</param>
    /// <param name="headers">The headers of those that are entries, by the line's index.</param>
    /// <returns>Where the form is broken; null: nowhere. The order of the lines is not checked here.</returns>
    public static EvidenceBreak? Read(
        ReadOnlySpan<byte> file,
        out List<(EvidenceLine Line, byte[] Digest)> lines,
        out Dictionary<int, EntryHeader> headers
    )
    {
        (lines, headers) = ([], []);
        while (file.Length > 0)
        {
            var number = lines.Count + 1;
            if (number > MostLines)
                return new(number, $"a file has at most {MostLines} lines");
            var end = file.IndexOf((byte)'\n');
            if (end < 0)
                return new(number, "the line does not end: the file was cut off");
            if (end > LongestLine)
                return new(number, $"a line has at most {LongestLine} bytes");
            var bytes = file[..end];
            try
            {
                var text = Strict.GetString(bytes);
                var line = JsonParser.Default.Parse<EvidenceLine>(text);
                if (line.LineCase == EvidenceLine.LineOneofCase.None)
                    return new(number, "the line is of no kind");
                if (Write(line) != text || StrictForm.Wrong(line) is not null)
                    return new(number, "the line is not in its one form: white space, order or notation differs");
                if (lines.Count > 0 && lines[^1].Line.End is not null)
                    return new(number, "something stands after the end");
                if (Form(line, lines.Count, headers) is { } wrong)
                    return new(number, wrong);
                lines.Add((line, SHA256.HashData(bytes)));
            }
            catch (Exception e)
                when (e
                        is InvalidProtocolBufferException
                            or InvalidJsonException
                            or JsonException
                            or DecoderFallbackException
                            or InvalidOperationException
                            or FormatException
                            or OverflowException
                            or ArgumentException
                )
            {
                return new(number, "the line cannot be read");
            }
            file = file[(end + 1)..];
        }
        if (lines.Count == 0)
            return new(1, "the file is empty");
        return lines[^1].Line.End is null ? new(lines.Count, "the file's end is missing") : null;
    }

    private static void Write(JsonElement value, StringBuilder text)
    {
        switch (value.ValueKind)
        {
            case JsonValueKind.Object:
                var before = '{';
                foreach (var property in value.EnumerateObject())
                {
                    Write(property.Name, text.Append(before));
                    Write(property.Value, text.Append(':'));
                    before = ',';
                }
                text.Append(before == '{' ? "{}" : "}");
                break;
            case JsonValueKind.Array:
                text.Append('[');
                foreach (var (i, item) in value.EnumerateArray().Index())
                    Write(item, i == 0 ? text : text.Append(','));
                text.Append(']');
                break;
            case JsonValueKind.String:
                Write(value.GetString()!, text);
                break;
            default:
                text.Append(value.GetRawText());
                break;
        }
    }

    private static void Write(string value, StringBuilder text)
    {
        text.Append('"');
        foreach (var c in value)
            _ = c switch
            {
                '"' => text.Append("\\\""),
                '\\' => text.Append("\\\\"),
                '\n' => text.Append("\\n"),
                < ' ' => text.Append($"\\u{(int)c:x4}"),
                _ => text.Append(c),
            };
        text.Append('"');
    }

    /// <summary>The text that the exporter signs.</summary>
    internal static byte[] TextOf(EvidenceEnd end)
    {
        var digest = Convert.ToBase64String(SHA256.HashData([.. end.Lines.SelectMany(l => l)]));
        return Encoding.UTF8.GetBytes($"{Format}\n{end.KeyId}\n{digest}\n");
    }

    // What is wrong with the form of a single line (section 3, step 1).
    private static string? Form(EvidenceLine line, int index, Dictionary<int, EntryHeader> headers) =>
        line switch
        {
            { Head: { } head } when head.Format != Format => $"the format is not {Format}",
            { Head: { } head } when head.Case.Length > 0 == head.RequestId.Length > 0 => "the head names a case or a request, and not both",
            { Head: { ExportTime: null } } => "the head does not say when the file was exported",
            { Entry.Receipt: { } receipt } when !Receipts.IsShort(receipt) => "the entry's receipt shows more than evidence may hold",
            { Entry: { } entry } => HeaderOf(entry, index, headers),
            _ => null,
        };

    private static string? HeaderOf(EvidenceEntry entry, int index, Dictionary<int, EntryHeader> headers)
    {
        try
        {
            headers[index] = StrictForm.ReadHeader(entry.Header.Span);
            return null;
        }
        catch (FormatException e)
        {
            return $"the entry's header is not in its one form: {e.Message}";
        }
    }
}
