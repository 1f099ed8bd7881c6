using System.Text;

namespace Ministries.Ledger;

/// <summary>Reads texts that people write: requests and agreements in JSON. Services and commands read them so, from files and from
/// standard input alike.</summary>
public static class PlainText
{
    // A byte that is no UTF-8 is refused, not replaced.
    internal static readonly UTF8Encoding Strict = new(encoderShouldEmitUTF8Identifier: false, throwOnInvalidBytes: true);

    /// <summary>The text.</summary>
    /// <param name="bytes">UTF-8; a byte order mark before it is passed over (RFC 8259, 8.1).</param>
    /// <exception cref="FormatException">It is not UTF-8.</exception>
    public static string Of(ReadOnlySpan<byte> bytes)
    {
        if (bytes.StartsWith(Encoding.UTF8.Preamble))
            bytes = bytes[Encoding.UTF8.Preamble.Length..];
        try
        {
            return Strict.GetString(bytes);
        }
        catch (DecoderFallbackException e)
        {
            throw new FormatException("it is not UTF-8 (an editor may have saved it as UTF-16)", e);
        }
    }

    /// <summary>The greatest size of a text, in bytes: 16 MiB. A request has at most 1 MiB.</summary>
    public const int MostBytes = 16 << 20;

    /// <summary>The text of a file, or of standard input.</summary>
    /// <param name="file">The file's path; <c>-</c>: standard input.</param>
    /// <param name="cancel">Ends it.</param>
    /// <exception cref="FormatException">It is not UTF-8, or has more than <see cref="MostBytes"/>.</exception>
    /// <exception cref="IOException">It cannot be read.</exception>
    public static async Task<string> Read(string file, CancellationToken cancel)
    {
        await using var from = file == "-" ? Console.OpenStandardInput() : File.OpenRead(file);
        using var all = new MemoryStream();
        var piece = new byte[64 << 10];
        for (int read; (read = await from.ReadAsync(piece, cancel)) > 0; )
        {
            // The file may be one that never ends.
            if (all.Length + read > MostBytes)
                throw new FormatException($"{Named()}: it has more than {MostBytes >> 20} MiB");
            all.Write(piece, 0, read);
        }
        try
        {
            return Of(all.GetBuffer().AsSpan(0, (int)all.Length));
        }
        catch (FormatException e)
        {
            throw new FormatException($"{Named()}: {e.Message}", e);
        }

        string Named() => file == "-" ? "standard input" : file;
    }

    /// <summary>As <see cref="Read"/>, of a file, at once.</summary>
    public static string ReadFile(string file) => Read(file, CancellationToken.None).GetAwaiter().GetResult();
}
