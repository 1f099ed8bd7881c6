using System.Net.Security;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;

namespace Ministries.Keys;

/// <summary>Certificates whose keys are in files. TLS needs such a key in this process; a token's cannot be used.</summary>
public static class CertificateFiles
{
    /// <summary>Reads a certificate with its key.</summary>
    /// <param name="certificate">The certificate's file (PEM).</param>
    /// <param name="key">Where the key is: a file or <c>secrets:NAME</c> (PEM).</param>
    /// <param name="secretsFolder">The secrets folder; null: <see cref="KeySource.DefaultSecretsFolder"/>.</param>
    /// <exception cref="KeyFileExposedException">Others than its owner may write or read the key's file.</exception>
    /// <exception cref="IOException">A file cannot be read.</exception>
    /// <exception cref="CryptographicException">The files hold no certificate or no key.</exception>
    /// <exception cref="ArgumentException">The key is not that of the certificate.</exception>
    public static X509Certificate2 Read(string certificate, string key, string? secretsFolder = null) =>
        KeyFile.ReadText(FileOf(key, secretsFolder), pem => X509Certificate2.CreateFromPem(File.ReadAllText(certificate), pem));

    /// <summary>Reads a certificate with its key, and the chain that stands after it in its file and is sent with it.</summary>
    /// <inheritdoc cref="Read"/>
    public static SslStreamCertificateContext ReadChain(string certificate, string key, string? secretsFolder = null)
    {
        var chain = new X509Certificate2Collection();
        chain.ImportFromPemFile(certificate);
        chain.RemoveAt(0);
        return SslStreamCertificateContext.Create(Read(certificate, key, secretsFolder), chain, offline: true);
    }

    /// <summary>SHA-256 of both files, by which a change is noticed.</summary>
    /// <inheritdoc cref="Read"/>
    public static byte[] DigestOf(string certificate, string key, string? secretsFolder = null)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        hash.AppendData(File.ReadAllBytes(certificate));
        KeyFile.Read(
            FileOf(key, secretsFolder),
            bytes =>
            {
                hash.AppendData(bytes);
                return true;
            }
        );
        return hash.GetHashAndReset();
    }

    private static KeyPath FileOf(string key, string? secretsFolder) =>
        KeySource.FileOf(key, secretsFolder) ?? throw new FormatException("the key of a certificate must be in a file, not in a token");
}
