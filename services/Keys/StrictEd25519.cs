using NSec.Cryptography;

namespace Ministries.Keys;

/// <summary>
/// The one place at which Ed25519 signatures (RFC 8032) are verified. Libraries differ in the encodings that they accept and in how they
/// treat points of small order, so a signer could choose a signature that is valid for one reader and not for another. So this accepts
/// fewer than any of them: only what <c>protos/EVIDENCE.md</c>, section 2, says.
/// </summary>
public static class StrictEd25519
{
    /// <summary>The length of a public key, in bytes.</summary>
    public const int KeyLength = 32;

    /// <summary>The length of a signature, in bytes: the encoding of the point R, then the number S.</summary>
    public const int SignatureLength = 64;

    // 2^255 - 19, the prime of the field, and 2^252 + 27742317777372353535851937790883648493, the order of the base point;
    // little-endian, as in the encodings.
    private static readonly byte[] Prime = Hex("edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f");
    private static readonly byte[] Order = Hex("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010");

    // The y of the eight points whose order divides 8.
    private static readonly byte[][] SmallOrder =
    [
        Hex("0000000000000000000000000000000000000000000000000000000000000000"),
        Hex("0100000000000000000000000000000000000000000000000000000000000000"),
        Hex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
        Hex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
        Hex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
    ];

    /// <summary>Whether the bytes can be a public key: 32 of them, y less than the prime, and no point of small order. One of small
    /// order has signatures that anybody can make.</summary>
    /// <param name="publicKey">The bytes.</param>
    public static bool IsKey(ReadOnlySpan<byte> publicKey) => publicKey.Length == KeyLength && IsPoint(publicKey);

    /// <summary>Whether a signature is the key's over the text. False also if the key or the signature is malformed.</summary>
    /// <param name="publicKey">The public key, 32 bytes.</param>
    /// <param name="text">What was signed.</param>
    /// <param name="signature">The signature, 64 bytes.</param>
    public static bool Verifies(ReadOnlySpan<byte> publicKey, ReadOnlySpan<byte> text, ReadOnlySpan<byte> signature) =>
        signature.Length == SignatureLength
        && IsKey(publicKey)
        && IsPoint(signature[..32])
        && IsLess(signature[32..], Order)
        &&
        // The equation without the cofactor, [S]B = R + [k]A. A test checks that this library uses it.
        SignatureAlgorithm.Ed25519.Verify(
            PublicKey.Import(SignatureAlgorithm.Ed25519, publicKey, KeyBlobFormat.RawPublicKey),
            text,
            signature
        );

    private static bool IsPoint(ReadOnlySpan<byte> encoding)
    {
        Span<byte> y = stackalloc byte[32];
        encoding.CopyTo(y);
        // The highest bit is the sign of x.
        y[31] &= 0x7f;
        if (!IsLess(y, Prime))
            return false;
        foreach (var small in SmallOrder)
            if (y.SequenceEqual(small))
                return false;
        return true;
    }

    private static bool IsLess(ReadOnlySpan<byte> number, ReadOnlySpan<byte> than)
    {
        for (var i = 31; i >= 0; i--)
            if (number[i] != than[i])
                return number[i] < than[i];
        return false;
    }

    private static byte[] Hex(string text) => Convert.FromHexString(text);
}
