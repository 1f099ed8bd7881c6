using System.IO.Compression;
using System.Runtime.CompilerServices;
using System.Text.Json;

namespace Ministries.Sealing.Tests;

/// <summary>Published test vectors, where they are on this machine.</summary>
internal static class Vectors
{
    public static JsonElement Json(string file) => JsonDocument.Parse(File.ReadAllText(PathOf(file))).RootElement;

    /// <summary>The tests of a file of Wycheproof's, of which there must be so many.</summary>
    public static List<JsonElement> Wycheproof(string file, int count)
    {
        var tests = Json(file).GetProperty("testGroups").EnumerateArray().SelectMany(g => g.GetProperty("tests").EnumerateArray()).ToList();
        Assert.Equal(count, tests.Count);
        return tests;
    }

    /// <summary>A file of CCTV's with lines such as <c>ek = 00ff</c>.</summary>
    public static Dictionary<string, byte[]> Named(string file) =>
        File.ReadLines(PathOf(file))
            .Select(l => l.Split(" = "))
            .Where(l => l.Length == 2)
            .ToDictionary(l => l[0], l => Convert.FromHexString(l[1]));

    public static List<byte[]> CompressedLines(string file)
    {
        using var reader = new StreamReader(new GZipStream(File.OpenRead(PathOf(file)), CompressionMode.Decompress));
        return [.. reader.ReadToEnd().Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(Convert.FromHexString)];
    }

    public static byte[] Hex(this JsonElement of, string name) => Convert.FromHexString(of.GetProperty(name).GetString()!);

    public static string Text(this JsonElement of, string name) => of.GetProperty(name).GetString()!;

    public static string Name(this JsonElement test) => $"test {test.GetProperty("tcId")}";

    private static string PathOf(string file, [CallerFilePath] string here = "")
    {
        var path = Path.GetFullPath(Path.Combine(Path.GetDirectoryName(here)!, "../../../shared/vectors", file));
        Assert.SkipUnless(File.Exists(path), $"the published vectors are not at {path}");
        return path;
    }
}
