using System.Security.Cryptography;
using Ministries.Sealing;

namespace Ministries.Leaks.Tests;

/// <summary>What is secret in the files of private keys.</summary>
internal static class PrivateKeys
{
    // PKCS #8 of an Ed25519 key (RFC 8410): 16 bytes that are always the same, and the seed.
    private const int SeedBytes = 32,
        Ed25519Bytes = 16 + SeedBytes;

    /// <summary>The files of a folder, however deep, and the secret number of each.</summary>
    public static IReadOnlyList<(string File, byte[] Secret)> In(string folder) =>
        [.. Directory.EnumerateFiles(folder, "*.key", SearchOption.AllDirectories).Select(f => (f, SecretOf(File.ReadAllText(f))))];

    private static byte[] SecretOf(string text)
    {
        var pem = PemEncoding.Find(text);
        var bytes = Convert.FromBase64String(text[pem.Base64Data]);
        if (text[pem.Label] == SealingKeySource.Label)
            return bytes;
        if (bytes.Length == Ed25519Bytes)
            return bytes[^SeedBytes..];
        using var key = ECDsa.Create();
        key.ImportFromPem(text);
        return key.ExportParameters(includePrivateParameters: true).D!;
    }
}
