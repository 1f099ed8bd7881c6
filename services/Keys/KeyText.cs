using System.Formats.Asn1;
using System.Security.Cryptography;

namespace Ministries.Keys;

/// <summary>Reads an Ed25519 key from the text of its file. All programs read it so: services, witnesses and clients.</summary>
public static class KeyText
{
    private const string Ed25519 = "1.3.101.112";

    /// <summary>The seed of the first private key in a text.</summary>
    /// <param name="pem">PKCS #8 in PEM (RFC 8410; RFC 7468, whose explanatory text before the key is legal). Public key and attributes
    /// behind the key (RFC 5958) are not needed.</param>
    /// <returns>The 32 bytes of the private key (RFC 8032), in an array that the garbage collector does not copy. The caller zeroes it.
    /// </returns>
    /// <exception cref="FormatException">It holds no such key. The message says what it holds instead, and nothing of the key.</exception>
    public static byte[] SeedOf(ReadOnlySpan<char> pem)
    {
        var labels = new List<string>();
        // A byte order mark before the text is no part of it.
        for (var rest = pem.TrimStart('\uFEFF'); PemEncoding.TryFind(rest, out var found); rest = rest[found.Location.End..])
        {
            var label = rest[found.Label].ToString();
            if (label == "PRIVATE KEY")
            {
                var der = GC.AllocateUninitializedArray<byte>(found.DecodedDataLength, pinned: true);
                try
                {
                    return Convert.TryFromBase64Chars(rest[found.Base64Data], der, out var length)
                        ? SeedOf(der.AsMemory(0, length))
                        : throw new FormatException("the key is no Base64");
                }
                finally
                {
                    CryptographicOperations.ZeroMemory(der);
                }
            }
            labels.Add(label);
        }
        throw new FormatException(
            labels.Count == 0 ? "there is no key in PEM (-----BEGIN PRIVATE KEY-----)"
            : labels.Contains("ENCRYPTED PRIVATE KEY") ? "the key is encrypted, and nobody is there to enter the password: decrypt it"
            : $"there is no PRIVATE KEY (PKCS #8), but {string.Join(", ", labels)}"
        );
    }

    private static byte[] SeedOf(ReadOnlyMemory<byte> der)
    {
        try
        {
            var key = new AsnReader(der, AsnEncodingRules.DER).ReadSequence();
            key.ReadInteger();
            if (key.ReadSequence().ReadObjectIdentifier() is var algorithm && algorithm != Ed25519)
                throw new FormatException($"the key is of the algorithm {algorithm}, and Ed25519 ({Ed25519}) is needed");
            // These spans are parts of the given bytes. ReadOctetString would leave copies that nobody zeroes.
            if (
                !key.TryReadPrimitiveOctetString(out var inner)
                || !new AsnReader(inner, AsnEncodingRules.DER).TryReadPrimitiveOctetString(out var found)
            )
                throw new FormatException("the key is no PKCS #8");
            if (found.Length != 32)
                throw new FormatException("the key does not have 32 bytes");
            var seed = GC.AllocateUninitializedArray<byte>(32, pinned: true);
            found.CopyTo(seed);
            return seed;
        }
        catch (AsnContentException e)
        {
            throw new FormatException("the key is no PKCS #8", e);
        }
    }
}
