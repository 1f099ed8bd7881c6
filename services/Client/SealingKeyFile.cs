using System.Security.Cryptography;
using Google.Protobuf;
using Ministries.Keys;
using Ministries.Ledger;
using Ministries.Sealing;
using Ministries.Types.V1;

namespace Ministries.Client;

/// <summary>A participant's key for sealing: a file with its seed in PEM, readable by its owner alone, or wherever else
/// <see cref="SealingKeySource"/> finds it. The services never get one.</summary>
public static class SealingKeyFile
{
    /// <summary>Makes the file if it is missing.</summary>
    /// <param name="path">The file.</param>
    /// <returns>The public key (1216 bytes), as the agreement lists it.</returns>
    /// <exception cref="FormatException">The file holds no seed.</exception>
    /// <exception cref="KeyFileExposedException">Others can read or write the file.</exception>
    public static byte[] Make(string path)
    {
        if (!File.Exists(path))
        {
            var seed = SealingIdentity.NewSeed();
            PrivateFiles.MakeOpenFolder(Path.GetDirectoryName(Path.GetFullPath(path))!);
            WholeFile.Write(path, PemEncoding.WriteString(SealingKeySource.Label, seed) + "\n", mode: PrivateFiles.Mode);
            CryptographicOperations.ZeroMemory(seed);
        }
        using var key = SealingKeySource.Open(path);
        return key.PublicKey.Bytes.ToArray();
    }

    /// <summary>The files of keys for sealing in a participant's folder: <c>sealing*.key</c>. After a rotation the newer one stands beside
    /// the older one, until that is destroyed.</summary>
    internal static string[] AllIn(string home) =>
        Directory.Exists(home) ? [.. Directory.EnumerateFiles(home, "sealing*.key").Order(StringComparer.Ordinal)] : [];

    /// <summary>Reads the key that a participant opens with.</summary>
    /// <param name="location">Where it is (<see cref="SealingKeySource"/>).</param>
    /// <param name="owner">The participant, as the agreement lists it with its keys.</param>
    /// <param name="secretsFolder">The secrets folder; null: <see cref="KeySource.DefaultSecretsFolder"/>.</param>
    /// <returns>The key under its id in the agreement. The caller disposes of it.</returns>
    /// <exception cref="FormatException">There is no seed, or the agreement lists no such key of the participant.</exception>
    /// <exception cref="KeyFileExposedException">Others can read or write the file.</exception>
    public static SealingIdentity Read(string location, Participant owner, string? secretsFolder = null)
    {
        var key = SealingKeySource.Open(location, secretsFolder);
        var publicKey = ByteString.CopyFrom(key.PublicKey.Bytes);
        if (owner.SealingKeys.FirstOrDefault(k => k.PublicKey == publicKey) is { } listed)
            return new SealingIdentity(listed.Id, key);
        key.Dispose();
        throw new FormatException($"{location} is not one of {owner.Id}'s keys for sealing in the agreement");
    }
}
