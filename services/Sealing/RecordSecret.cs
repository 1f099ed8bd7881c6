using System.Buffers.Binary;
using System.Security.Cryptography;
using Google.Protobuf;
using Ministries.Types.V1;

namespace Ministries.Sealing;

/// <summary>The secret of a record, from which all of its field keys are derived. Zeroed when disposed of.</summary>
internal sealed class RecordSecret : IDisposable
{
    public const int Bytes = 32;

    private readonly byte[] _secret = new byte[Bytes];
    private readonly byte[] _context;
    private readonly byte[] _wrapping;
    private IncrementalHash? _keys;

    private RecordSecret(byte[] context)
    {
        _context = context;
        _wrapping = Wraps.OfRecord(context);
    }

    /// <summary>A new secret for a record.</summary>
    public static RecordSecret Create(byte[] context)
    {
        var created = new RecordSecret(context);
        RandomNumberGenerator.Fill(created._secret);
        created.Derive();
        return created;
    }

    /// <summary>The secret in a wrap; null: the wrap is not authentic.</summary>
    public static RecordSecret? Unwrap(byte[] context, SealedKey wrap, SealingIdentity identity)
    {
        var opened = new RecordSecret(context);
        if (wrap.Secret.Length != Bytes + Hpke.TagBytes || !Wraps.TryOpen(wrap, identity, opened._wrapping, opened._secret))
            return null;
        opened.Derive();
        return opened;
    }

    /// <summary>Wraps the secret for a recipient; null: his key is a point of low order.</summary>
    public SealedKey? Wrap(Recipient recipient) => Wraps.Seal(recipient, _wrapping, _secret);

    /// <summary>The key of a field, to <paramref name="key"/>.</summary>
    public void KeyOf(uint number, Span<byte> key)
    {
        // HKDF-Expand for 32 bytes is one HMAC over the info and a 1.
        Span<byte> info = [.. "field"u8, 0, 0, 0, 0, 1];
        BinaryPrimitives.WriteUInt32BigEndian(info[5..], number);
        _keys!.AppendData(info);
        _keys.GetHashAndReset(key);
    }

    public void Dispose()
    {
        CryptographicOperations.ZeroMemory(_secret);
        _keys?.Dispose();
    }

    private void Derive()
    {
        Span<byte> key = stackalloc byte[32];
        HKDF.Extract(HashAlgorithmName.SHA256, _secret, _context, key);
        _keys = IncrementalHash.CreateHMAC(HashAlgorithmName.SHA256, key);
        CryptographicOperations.ZeroMemory(key);
    }
}

/// <summary>Secrets encrypted to one recipient.</summary>
internal static class Wraps
{
    /// <summary>HPKE's context of a wrap of a record's secret.</summary>
    public static byte[] OfRecord(ReadOnlySpan<byte> context) => Hpke.ContextOf([.. "ministries-sealed-v1 record"u8, .. context]);

    /// <summary>HPKE's context of a wrap of some field keys.</summary>
    public static byte[] OfFields(ReadOnlySpan<byte> context) => Hpke.ContextOf([.. "ministries-sealed-v1 fields"u8, .. context]);

    public static SealedKey? Seal(Recipient recipient, ReadOnlySpan<byte> context, ReadOnlySpan<byte> secret)
    {
        var (encapsulation, ciphertext) = (new byte[XWing.EncapsulationBytes], new byte[secret.Length + Hpke.TagBytes]);
        var associated = Associated(recipient.Participant, recipient.KeyId);
        return Hpke.TrySeal(recipient.Key, context, associated, secret, encapsulation, ciphertext)
            ? new SealedKey
            {
                Recipient = recipient.Participant,
                KeyId = recipient.KeyId,
                Encapsulation = UnsafeByteOperations.UnsafeWrap(encapsulation),
                Secret = UnsafeByteOperations.UnsafeWrap(ciphertext),
            }
            : null;
    }

    public static bool TryOpen(SealedKey wrap, SealingIdentity identity, ReadOnlySpan<byte> context, Span<byte> secret) =>
        wrap.Encapsulation.Length == XWing.EncapsulationBytes
        && Hpke.TryOpen(
            identity.PrivateHalf,
            wrap.Encapsulation.Span,
            context,
            Associated(wrap.Recipient, wrap.KeyId),
            wrap.Secret.Span,
            secret
        );

    private static byte[] Associated(string recipient, string keyId) =>
        [.. SealContext.Prefixed(recipient), .. SealContext.Prefixed(keyId)];
}
