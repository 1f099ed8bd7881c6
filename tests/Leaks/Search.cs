using System.Buffers;
using System.Buffers.Binary;
using System.Globalization;
using System.IO.Compression;
using System.Text;

namespace Ministries.Leaks.Tests;

/// <summary>
/// Searches bytes for a word as software might have written it: as it is, in UTF-16, in hexadecimal digits, in Base64 wherever its
/// three-byte groups begin, and each of these inside what is compressed by deflate (gzip and zlib), two layers deep.
/// </summary>
/// <remarks>PostgreSQL compresses long values by a scheme of its own (pglz), which is not undone here. It need not be: the same values are
/// in the dumps of the databases, which are plain, and a value's first occurrence of a word stays as it is in pglz, too, unless parts of
/// the word occurred before it.</remarks>
internal sealed class Search
{
    private const int MaxInflated = 32 << 20;
    private const int MaxDepth = 2;

    private readonly (string Form, byte[] Bytes)[] _forms;
    private readonly Starts? _starts;

    /// <summary>Searches for a word.</summary>
    public Search(string word)
        : this(Encoding.UTF8.GetBytes(word)) =>
        _forms = [
            .. _forms,
            ("UTF-16", Encoding.Unicode.GetBytes(word)),
            ("UTF-16, greater byte first", Encoding.BigEndianUnicode.GetBytes(word)),
        ];

    /// <summary>Searches for bytes, such as a secret.</summary>
    public Search(byte[] plain)
    {
        var hex = Convert.ToHexString(plain);
        _forms =
        [
            ("plain", plain),
            ("hexadecimal", Encoding.ASCII.GetBytes(hex)),
            ("hexadecimal", Encoding.ASCII.GetBytes(hex.ToLower(CultureInfo.InvariantCulture))),
            .. Enumerable.Range(0, 3).SelectMany(shift => Base64(plain, shift)).Select(b => ("Base64", b)),
        ];
    }

    private Search((string Form, byte[] Bytes)[] forms) => (_forms, _starts) = (forms, new Starts(forms));

    /// <summary>Searches for secrets. Each half of one is searched for by itself, because what is written in lines may break within the
    /// other.</summary>
    public static Search ForSecrets(IEnumerable<byte[]> secrets) =>
        new([.. secrets.SelectMany(s => (byte[][])[s[..(s.Length / 2)], s[(s.Length / 2)..]]).SelectMany(half => new Search(half)._forms)]);

    /// <summary>Where the word stands in a file, and in which form; empty if nowhere.</summary>
    public IReadOnlyList<string> In(string name, byte[] bytes) => In(name, bytes, depth: 0);

    /// <summary>Where the word stands in the files of a folder, however deep; and how many bytes were searched.</summary>
    public (IReadOnlyList<string> Found, long Searched) InFolder(string folder)
    {
        var found = new List<string>();
        var searched = 0L;
        foreach (var file in Directory.EnumerateFiles(folder, "*", SearchOption.AllDirectories))
        {
            if (new FileInfo(file) is { LinkTarget: not null } or { Length: 0 })
                continue;
            var bytes = File.ReadAllBytes(file);
            searched += bytes.Length;
            found.AddRange(In(Path.GetRelativePath(folder, file), bytes));
        }
        return (found, searched);
    }

    private List<string> In(string name, byte[] bytes, int depth)
    {
        var found = new List<string>();
        foreach (var (form, at) in _starts is { } starts ? starts.In(bytes) : First(bytes))
            found.Add($"{name}: {form}, at byte {at}: {Around(bytes, at)}");
        if (depth == MaxDepth)
            return found;
        for (var at = 0; NextStream(bytes, ref at) is { } inflate; at++)
            if (Inflate(bytes, at, inflate) is { Length: > 0 } inside)
                found.AddRange(In($"{name}, compressed at byte {at}", inside, depth + 1));
        return found;
    }

    private IEnumerable<(string Form, int At)> First(byte[] bytes) =>
        _forms.Select(f => (f.Form, At: bytes.AsSpan().IndexOf(f.Bytes))).Where(f => f.At >= 0);

    // What stands around a find, so that one sees in what it is.
    private static string Around(ReadOnlySpan<byte> bytes, int at)
    {
        var text = new StringBuilder();
        foreach (var b in bytes[Math.Max(0, at - 24)..Math.Min(bytes.Length, at + 48)])
            text.Append(b is >= 0x20 and < 0x7f ? (char)b : '.');
        return text.ToString();
    }

    // The characters of Base64 that are the same whatever stands before and after the word.
    private static IEnumerable<byte[]> Base64(byte[] plain, int shift)
    {
        var first = (shift * 8 + 5) / 6;
        var last = (shift + plain.Length) * 8 / 6;
        var encoded = Convert.ToBase64String([.. new byte[shift], .. plain])[first..last];
        yield return Encoding.ASCII.GetBytes(encoded);
        if (encoded.AsSpan().IndexOfAny('+', '/') >= 0)
            yield return Encoding.ASCII.GetBytes(encoded.Replace('+', '-').Replace('/', '_'));
    }

    private static readonly SearchValues<byte> Beginnings = SearchValues.Create(0x1f, 0x78);

    // The next place at which a gzip or zlib stream may begin (RFC 1952, RFC 1950).
    private static Func<Stream, Stream>? NextStream(ReadOnlySpan<byte> bytes, ref int at)
    {
        while (at < bytes.Length - 2)
        {
            if (bytes[at..].IndexOfAny(Beginnings) is not (var next and >= 0))
                return null;
            at += next;
            if (at >= bytes.Length - 2)
                return null;
            if (bytes[at] == 0x1f && bytes[at + 1] == 0x8b && bytes[at + 2] == 8)
                return s => new GZipStream(s, CompressionMode.Decompress);
            if (bytes[at] == 0x78 && bytes[at + 1] is 0x01 or 0x5e or 0x9c or 0xda)
                return s => new ZLibStream(s, CompressionMode.Decompress);
            at++;
        }
        return null;
    }

    private static byte[] Inflate(byte[] bytes, int at, Func<Stream, Stream> inflate)
    {
        var inside = new MemoryStream();
        try
        {
            using var stream = inflate(new MemoryStream(bytes, at, bytes.Length - at, writable: false));
            var buffer = new byte[16 << 10];
            int read;
            while (inside.Length < MaxInflated && (read = stream.Read(buffer)) > 0)
                inside.Write(buffer, 0, read);
        }
        catch (InvalidDataException)
        {
            // No such stream began there, or it was cut off: what came out of it until then is searched.
        }
        return inside.ToArray();
    }

    /// <summary>Finds many patterns in one pass, by their first eight bytes.</summary>
    private sealed class Starts
    {
        private const int Bits = 20;

        private readonly bool[] _maybe = new bool[1 << Bits];
        private readonly ILookup<ulong, (string Form, byte[] Bytes)> _patterns;

        public Starts(IEnumerable<(string Form, byte[] Bytes)> patterns)
        {
            _patterns = patterns.ToLookup(p => BinaryPrimitives.ReadUInt64LittleEndian(p.Bytes));
            foreach (var start in _patterns)
                _maybe[Place(start.Key)] = true;
        }

        public List<(string Form, int At)> In(ReadOnlySpan<byte> bytes)
        {
            var found = new List<(string, int)>();
            for (var at = 0; at <= bytes.Length - sizeof(ulong); at++)
            {
                var start = BinaryPrimitives.ReadUInt64LittleEndian(bytes[at..]);
                if (_maybe[Place(start)])
                    foreach (var (form, pattern) in _patterns[start])
                        if (bytes[at..].StartsWith(pattern))
                            found.Add((form, at));
            }
            return found;
        }

        // Multiplied by 2^64 divided by the golden ratio, numbers that are alike come to different places.
        private static int Place(ulong start) => (int)((start * 0x9E3779B97F4A7C15) >> (64 - Bits));
    }
}
