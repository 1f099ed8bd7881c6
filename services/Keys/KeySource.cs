using System.Security.Cryptography;

namespace Ministries.Keys;

/// <summary>Opens private keys by where they are. A location is one of these:
/// <list type="bullet">
/// <item>the path of a file that only its owner can read and write (0600), or that root gave to the process's group (0440);</item>
/// <item><c>secrets:NAME</c>, a file in the secrets folder, which only root or the process's own user can write;</item>
/// <item><c>pkcs11:token=…;object=…?module-path=…&amp;pin-source=…</c>, a key in a token (RFC 7512, PKCS #11). The PIN is in a file too:
/// <c>file:PATH</c> or <c>secrets:NAME</c>.</item>
/// </list>
/// A location holds no secret, so it may stand in a setting, on a command line and in a message.</summary>
public static class KeySource
{
    /// <summary>The secrets folder where none is set: <c>/run/secrets</c>.</summary>
    public const string DefaultSecretsFolder = "/run/secrets";

    private const string Secrets = "secrets:";

    /// <summary>Opens a key that signs: Ed25519, in a file as PKCS #8 in PEM.</summary>
    /// <param name="location">Where it is.</param>
    /// <param name="secretsFolder">The secrets folder; null: <see cref="DefaultSecretsFolder"/>.</param>
    /// <exception cref="KeyFileExposedException">Others than its owner may write or read the file of the key or of the PIN.</exception>
    /// <exception cref="TokenException">The token is not there, refuses the PIN, or has no such key.</exception>
    /// <exception cref="IOException">A file cannot be read.</exception>
    /// <exception cref="FormatException">The location is none, or the file holds no such key. The message repeats nothing of the file.
    /// </exception>
    public static Signer Open(string location, string? secretsFolder = null)
    {
        if (FileOf(location, secretsFolder) is not { } file)
            return new TokenSigner(TokenUri.Parse(location, secretsFolder));
        try
        {
            return KeyFile.Read(file, Signer.FromPem);
        }
        catch (FormatException e)
        {
            throw new FormatException($"{file.Path}: {e.Message}", e);
        }
    }

    /// <summary>Opens the half of a key for sealing that is in a token, and says where its other half is: what the location's
    /// <c>ml-kem-source</c> names. Null: the location is that of a file, which holds both halves.</summary>
    /// <param name="location">Where it is.</param>
    /// <param name="secretsFolder">The secrets folder; null: <see cref="DefaultSecretsFolder"/>.</param>
    /// <exception cref="TokenException">The token is not there, refuses the PIN, or has no such key.</exception>
    /// <exception cref="FormatException">The location is none, or names no other half.</exception>
    public static (IKeyAgreement X25519, string MLKem)? OpenHalf(string location, string? secretsFolder = null)
    {
        if (FileOf(location, secretsFolder) is not null)
            return null;
        var uri = TokenUri.Parse(location, secretsFolder);
        return uri.MLKemSource is { } other
            ? (new TokenAgreement(uri), other)
            : throw new FormatException(
                "the location of a key for sealing in a token must name the file of its other half by ml-kem-source"
            );
    }

    /// <summary>Reads a secret from a PEM file and hands its bytes to a function. They are zeroed afterwards.</summary>
    /// <param name="location">Where it is: a file or <c>secrets:NAME</c>.</param>
    /// <param name="label">The PEM label that it must have.</param>
    /// <param name="use">It must not keep the bytes.</param>
    /// <param name="secretsFolder">The secrets folder; null: <see cref="DefaultSecretsFolder"/>.</param>
    /// <exception cref="FormatException">It is not in a file, or the file has no such block. The message repeats nothing of the file.
    /// </exception>
    /// <exception cref="IOException">The file cannot be read, or is exposed.</exception>
    public static T Read<T>(string location, string label, Func<ReadOnlySpan<byte>, T> use, string? secretsFolder = null)
    {
        var file = FileOf(location, secretsFolder) ?? throw new FormatException($"a {label} must be in a file, not in a token");
        return KeyFile.ReadText(
            file,
            text =>
            {
                if (!PemEncoding.TryFind(text, out var fields) || !text[fields.Label].SequenceEqual(label))
                    throw new FormatException($"{file.Path} holds no {label} (PEM)");
                var bytes = GC.AllocateUninitializedArray<byte>(fields.DecodedDataLength, pinned: true);
                try
                {
                    return Convert.TryFromBase64Chars(text[fields.Base64Data], bytes, out var written)
                        ? use(bytes.AsSpan(0, written))
                        : throw new FormatException($"{file.Path} holds no {label} (PEM)");
                }
                finally
                {
                    CryptographicOperations.ZeroMemory(bytes);
                }
            }
        );
    }

    /// <summary>Says what is wrong with a location, as far as that can be seen without the token: its form, and the file of the key or of
    /// the PIN.</summary>
    /// <param name="location">Where the key is.</param>
    /// <param name="secretsFolder">The secrets folder; null: <see cref="DefaultSecretsFolder"/>.</param>
    /// <returns>Null: nothing.</returns>
    public static string? Wrong(string location, string? secretsFolder = null)
    {
        try
        {
            var file = FileOf(location, secretsFolder) ?? TokenUri.Parse(location, secretsFolder).Pin;
            if (!File.Exists(file.Path))
                return $"there is no file {file.Path}";
            _ = KeyFile.Read(file, bytes => bytes.Length);
            return null;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or FormatException)
        {
            return e.Message;
        }
    }

    /// <summary>Whether the location is that of a key in a token.</summary>
    public static bool IsInToken(string location) => location.StartsWith(TokenUri.Scheme, StringComparison.Ordinal);

    /// <summary>The path of a key's file; null: it is in a token.</summary>
    /// <param name="location">Where the key is.</param>
    /// <param name="secretsFolder">The secrets folder; null: <see cref="DefaultSecretsFolder"/>.</param>
    /// <exception cref="FormatException">The location is none.</exception>
    public static string? PathOf(string location, string? secretsFolder = null) => FileOf(location, secretsFolder)?.Path;

    internal static KeyPath? FileOf(string location, string? secretsFolder)
    {
        if (IsInToken(location))
            return null;
        if (!location.StartsWith(Secrets, StringComparison.Ordinal))
            return new KeyPath(location, IsSecret: false);
        var name = location[Secrets.Length..];
        return name.Length > 0 && name is not ("." or "..") && !name.AsSpan().ContainsAny('/', '\\', '\0')
            ? new KeyPath(Path.Combine(Path.GetFullPath(secretsFolder ?? DefaultSecretsFolder), name), IsSecret: true)
            : throw new FormatException("secrets: must be followed by the name of a file in the secrets folder, without a path");
    }
}
