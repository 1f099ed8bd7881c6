using System.Security.Cryptography;
using Google.Protobuf;
using Google.Protobuf.Reflection;
using Ministries.Types.V1;

namespace Ministries.Sealing;

/// <summary>Seals messages (protos/SEALED.md).</summary>
public static class Sealer
{
    /// <summary>The most recipients of one message.</summary>
    public const int MaxRecipients = 16;

    /// <summary>The most fields of a message that is sealed, absent ones included.</summary>
    public const int MaxFields = 32;

    /// <summary>The most bytes of one field, 48 KiB less 4.</summary>
    public const int MaxFieldBytes = Padding.MaxFieldBytes;

    /// <summary>The most bytes of the sealed content, 64 KiB.</summary>
    public const int MaxContentBytes = 65536;

    /// <summary>Seals a message to its recipients. Only they can open it; the sender can if it is one of them.</summary>
    /// <param name="message">What is sealed. Its fields can later be opened one by one.</param>
    /// <param name="context">Where it belongs.</param>
    /// <param name="recipients">1 to 16, none twice. The order stays.</param>
    /// <exception cref="SealException"><see cref="SealFault.BadRecipients"/>, <see cref="SealFault.TooLarge"/>,
    /// <see cref="SealFault.NotCanonical"/> (it has fields that its contract does not know) or
    /// <see cref="SealFault.InvalidKey"/>.</exception>
    /// <exception cref="ArgumentException">The context has no record, field or sender, or the message's type has no fields or more than
    /// 32.</exception>
    public static Sealed Seal(IMessage message, SealContext context, IReadOnlyList<Recipient> recipients)
    {
        Check(message, context, recipients);
        var content = new SealedContent
        {
            Case = context.Case,
            Record = context.Record,
            Field = context.Field,
            Sender = context.Sender,
            Message = message.Descriptor.FullName,
        };
        string[] names = [.. recipients.Select(r => r.Participant)];
        var hash = context.Hash(content.Message, names);
        using var secret = RecordSecret.Create(hash);
        foreach (var recipient in recipients)
            content.Keys.Add(secret.Wrap(recipient) ?? throw Opener.Invalid(context, recipient));
        AddFields(content, message, context, hash, secret);
        if (content.CalculateSize() > MaxContentBytes)
            throw new SealException(SealFault.TooLarge, context.Field, "it is larger than 65,536 bytes once it is sealed.");
        return new Sealed
        {
            Scheme = SealContext.Scheme,
            Recipients = { names },
            Content = content.ToByteString(),
        };
    }

    private static void Check(IMessage message, SealContext context, IReadOnlyList<Recipient> recipients)
    {
        ArgumentException.ThrowIfNullOrEmpty(context.Record);
        ArgumentException.ThrowIfNullOrEmpty(context.Field);
        ArgumentException.ThrowIfNullOrEmpty(context.Sender);
        if (message.Descriptor.Fields.InFieldNumberOrder().Count is 0 or > MaxFields)
            throw new ArgumentException($"{message.Descriptor.FullName} has no fields or more than {MaxFields}.", nameof(message));
        if (recipients.Count is 0 or > MaxRecipients)
            throw new SealException(SealFault.BadRecipients, context.Field, "it has 1 to 16 recipients.");
        if (recipients.Select(r => r.Participant).Distinct(StringComparer.Ordinal).Count() != recipients.Count)
            throw new SealException(SealFault.BadRecipients, context.Field, "a recipient is named twice.");
    }

    // No recipient accepts a message with an unknown field, at any depth.
    private static bool IsKnown(MessageDescriptor type, byte[] bytes)
    {
        var known = type.Parser.WithDiscardUnknownFields(true).ParseFrom(bytes).ToByteArray();
        var same = known.AsSpan().SequenceEqual(bytes);
        CryptographicOperations.ZeroMemory(known);
        return same;
    }

    private static void AddFields(SealedContent content, IMessage message, SealContext context, byte[] hash, RecordSecret secret)
    {
        var bytes = message.ToByteArray();
        Span<byte> keys = stackalloc byte[64];
        try
        {
            var fields =
                (IsKnown(message.Descriptor, bytes) ? Fields.Split(message.Descriptor, bytes) : null)
                ?? throw new SealException(SealFault.NotCanonical, context.Field, "it has fields that its contract does not know.");
            foreach (var (field, range) in fields)
            {
                var plain = bytes.AsSpan(range);
                if (plain.Length > MaxFieldBytes)
                    throw new SealException(SealFault.TooLarge, $"{context.Field}.{field.Name}", "it is larger than 49,148 bytes.");
                var padded = Padding.Pad(plain);
                var commitment = new byte[32];
                secret.KeyOf((uint)field.FieldNumber, keys[..32]);
                FieldCipher.Derive(keys[..32], commitment, keys[32..]);
                content.Fields.Add(
                    new SealedField
                    {
                        Number = (uint)field.FieldNumber,
                        Commitment = UnsafeByteOperations.UnsafeWrap(commitment),
                        Ciphertext = UnsafeByteOperations.UnsafeWrap(
                            FieldCipher.Encrypt(keys[32..], hash, (uint)field.FieldNumber, padded)
                        ),
                    }
                );
                CryptographicOperations.ZeroMemory(padded);
            }
        }
        finally
        {
            CryptographicOperations.ZeroMemory(keys);
            CryptographicOperations.ZeroMemory(bytes);
        }
    }
}
