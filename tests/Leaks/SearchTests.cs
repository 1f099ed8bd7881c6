using System.IO.Compression;
using System.Text;
using Ministries.Client;
using Ministries.Trust;

namespace Ministries.Leaks.Tests;

public sealed class SearchTests
{
    private const string Word = "CNRY0123456789AB";

    public static TheoryData<string> Forms =>
        [
            "plain",
            "UTF-16",
            "UTF-16 greater byte first",
            "hex",
            "HEX",
            "Base64+0",
            "Base64+1",
            "Base64+2",
            "Base64url+0",
            "Base64url+1",
            "Base64url+2",
            "gzip",
            "zlib",
            "Base64 in gzip",
            "gzip in zlib",
            "gzip cut off",
        ];

    [Theory]
    [MemberData(nameof(Forms))]
    public void A_word_is_found_in_every_form_in_which_software_writes_it(string form)
    {
        var written = Write(form, $"his name is {Word}-identity, he said");
        var file = (byte[])[.. new byte[1021], .. written, .. new byte[77]];
        Assert.NotEmpty(new Search(Word).In("file", file));
        Assert.Empty(new Search("CNRYFFFFFFFFFFFF").In("file", file));
    }

    [Theory]
    [InlineData("plain")]
    [InlineData("hex")]
    [InlineData("HEX")]
    [InlineData("Base64+1")]
    public void A_secret_is_found_as_it_is_and_in_every_form_in_which_bytes_are_written(string form)
    {
        byte[] secret = [.. Enumerable.Range(0, 32).Select(i => (byte)(7 * i + 128))];
        byte[] written = form switch
        {
            "plain" => secret,
            "hex" => Encoding.ASCII.GetBytes(Convert.ToHexStringLower(secret)),
            "HEX" => Encoding.ASCII.GetBytes(Convert.ToHexString(secret)),
            _ => Encoding.ASCII.GetBytes(Convert.ToBase64String([0xfb, .. secret])),
        };
        Assert.NotEmpty(new Search(secret).In("file", [.. new byte[77], .. written]));
        Assert.Empty(new Search(secret).In("file", new byte[1021]));
    }

    [Fact]
    public void A_private_key_is_found_where_its_file_was_copied_whatever_kind_of_key_it_is()
    {
        var folder = Directory.CreateTempSubdirectory("ministries-keys-").FullName;
        Pki.Init(folder, StandardAgreement.Read(), TimeProvider.System, SealingKeyFile.Make);
        var keys = PrivateKeys.In(folder);
        Assert.NotEmpty(keys);
        Assert.All(keys, k => Assert.NotEmpty(Search.ForSecrets([k.Secret]).In(k.File, File.ReadAllBytes(k.File))));
        Assert.Empty(Search.ForSecrets([keys[0].Secret]).In(keys[1].File, File.ReadAllBytes(keys[1].File)));
        Directory.Delete(folder, recursive: true);
    }

    private static byte[] Write(string form, string text) =>
        form switch
        {
            "plain" => Encoding.UTF8.GetBytes(text),
            "UTF-16" => Encoding.Unicode.GetBytes(text),
            "UTF-16 greater byte first" => Encoding.BigEndianUnicode.GetBytes(text),
            "hex" => Encoding.ASCII.GetBytes(Convert.ToHexStringLower(Encoding.UTF8.GetBytes(text))),
            "HEX" => Encoding.ASCII.GetBytes(Convert.ToHexString(Encoding.UTF8.GetBytes(text))),
            ['B', 'a', 's', 'e', '6', '4', '+', var shift] => Encoding.ASCII.GetBytes(Base64(text, shift - '0')),
            ['B', 'a', 's', 'e', '6', '4', 'u', 'r', 'l', '+', var shift] => Encoding.ASCII.GetBytes(
                Base64(text, shift - '0').Replace('+', '-').Replace('/', '_').TrimEnd('=')
            ),
            "gzip" => Compress(Encoding.UTF8.GetBytes(text), s => new GZipStream(s, CompressionLevel.Fastest)),
            "zlib" => Compress(Encoding.UTF8.GetBytes(text), s => new ZLibStream(s, CompressionLevel.SmallestSize)),
            "Base64 in gzip" => Compress(Write("Base64+1", text), s => new GZipStream(s, CompressionLevel.Optimal)),
            "gzip in zlib" => Compress(Write("gzip", text), s => new ZLibStream(s, CompressionLevel.Optimal)),
            "gzip cut off" => Write("gzip", text + string.Concat(Enumerable.Repeat("more ", 9000)))[..^12],
            _ => throw new ArgumentException(form),
        };

    private static string Base64(string text, int shift) =>
        Convert.ToBase64String([.. Enumerable.Repeat((byte)0xfb, shift), .. Encoding.UTF8.GetBytes(text)]);

    private static byte[] Compress(byte[] bytes, Func<Stream, Stream> compress)
    {
        var compressed = new MemoryStream();
        using (var stream = compress(compressed))
            stream.Write(bytes);
        return compressed.ToArray();
    }
}
