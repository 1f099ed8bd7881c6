using System.Security.Cryptography;
using Google.Protobuf;
using Ministries.Ledger;
using Ministries.Sealing;
using Ministries.Types.V1;

namespace Ministries.Ministry;

/// <summary>The file of a participant's key for sealing: its seed of 32 bytes in Base64, readable by its owner alone. The services never get
/// one.</summary>
public static class SealingKeyFile
{
    // Of 32 bytes, with padding.
    private const int Base64Length = 44;

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
            WholeFile.Write(path, Convert.ToBase64String(seed) + "\n", mode: PrivateFiles.Mode);
            CryptographicOperations.ZeroMemory(seed);
        }
        using var identity = Read(path, "");
        return identity.PublicKey.Bytes.ToArray();
    }

    /// <summary>Reads the key that a participant opens with.</summary>
    /// <param name="path">The file.</param>
    /// <param name="owner">The participant, as the agreement lists it with its keys.</param>
    /// <returns>The key under its id in the agreement. The caller disposes of it.</returns>
    /// <exception cref="FormatException">The file holds no seed, or the agreement lists no such key of the participant.</exception>
    /// <exception cref="KeyFileExposedException">Others can read or write the file.</exception>
    public static SealingIdentity Read(string path, Participant owner)
    {
        using var found = Read(path, "");
        var publicKey = ByteString.CopyFrom(found.PublicKey.Bytes);
        var listed =
            owner.SealingKeys.FirstOrDefault(k => k.PublicKey == publicKey)
            ?? throw new FormatException($"{path} is not one of {owner.Id}'s keys for sealing in the agreement");
        return Read(path, listed.Id);
    }

    private static SealingIdentity Read(string path, string id)
    {
        var text = PrivateFiles.ReadKey(path).Trim();
        var seed = new byte[XWing.SeedBytes];
        try
        {
            return text.Length == Base64Length && Convert.TryFromBase64String(text, seed, out var length) && length == seed.Length
                ? SealingIdentity.FromSeed(id, seed)
                : throw new FormatException($"{path} holds no key for sealing: {seed.Length} bytes in Base64");
        }
        finally
        {
            CryptographicOperations.ZeroMemory(seed);
        }
    }
}
