using System.Security.Cryptography;
using Google.Protobuf;
using Google.Protobuf.Collections;
using Google.Protobuf.Reflection;
using Ministries.Types.V1;

namespace Ministries.Sealing;

/// <summary>Sealed content whose form and place were checked, and whose fields can be opened by whoever has a key.</summary>
internal sealed class Readable
{
    private static readonly MessageParser<SealedContent> Parser = SealedContent.Parser.WithDiscardUnknownFields(true);
    private readonly SealContext _expected;

    private Readable(SealedContent content, SealContext expected, MessageDescriptor message)
    {
        (Content, _expected, Message) = (content, expected, message);
        Hash = expected.Hash(content.Message, [.. content.Keys.Select(k => k.Recipient)]);
    }

    public SealedContent Content { get; }

    public MessageDescriptor Message { get; }

    /// <summary>The context's hash.</summary>
    public byte[] Hash { get; }

    /// <summary>Checks form and place, in the order that protos/SEALED.md gives.</summary>
    public static Readable Check(Sealed @sealed, SealContext expected, MessageDescriptor message)
    {
        var field = expected.Field;
        if (@sealed.Scheme != SealContext.Scheme)
            throw new SealException(SealFault.UnknownScheme, field, "its scheme is not ministries-sealed-v1.");
        var content = Parse(@sealed.Content, field);
        Same(content.Sender, expected.Sender, SealFault.OtherSender, "another participant sealed it.");
        Same(content.Case, expected.Case, SealFault.OtherCase, "it was sealed for another case.");
        Same(content.Record, expected.Record, SealFault.OtherRecord, "it was sealed for another request.");
        Same(content.Field, field, SealFault.OtherField, "it was sealed for another field.");
        Same(content.Message, message.FullName, SealFault.OtherMessage, "another message is inside.");
        CheckKeys(content, @sealed.Recipients, field);
        CheckFields(content, message, field);
        return new Readable(content, expected, message);

        void Same(string given, string wanted, SealFault fault, string text)
        {
            if (given != wanted)
                throw new SealException(fault, field, text);
        }
    }

    /// <summary>Checks that a secret is the one that the sender committed to in every field.</summary>
    public void CheckCommitments(RecordSecret secret)
    {
        Span<byte> keys = stackalloc byte[32 + 64];
        try
        {
            foreach (var field in Content.Fields)
            {
                secret.KeyOf(field.Number, keys[..32]);
                FieldCipher.Derive(keys[..32], keys[32..64], keys[64..]);
                CheckCommitment(field, keys[32..64], Path(Message.FindFieldByNumber((int)field.Number)));
            }
        }
        finally
        {
            CryptographicOperations.ZeroMemory(keys);
        }
    }

    /// <summary>Checks that the key of a field is the one that the sender committed to.</summary>
    public void CheckCommitment(FieldKey key)
    {
        var field = Content.Fields.FirstOrDefault(f => f.Number == key.Number);
        var path = Path(Message.FindFieldByNumber((int)key.Number));
        if (field is null)
            throw new SealException(SealFault.OtherField, path, "the message inside has no such field.");
        Span<byte> derived = stackalloc byte[64];
        try
        {
            FieldCipher.Derive(key.Key, derived[..32], derived[32..]);
            CheckCommitment(field, derived[..32], path);
        }
        finally
        {
            CryptographicOperations.ZeroMemory(derived);
        }
    }

    /// <summary>Opens a field whose key is known.</summary>
    /// <param name="number">Its number.</param>
    /// <param name="fieldKey">Its key.</param>
    /// <param name="into">The message to which it is added.</param>
    /// <returns>How many bytes it had.</returns>
    public int OpenField(uint number, ReadOnlySpan<byte> fieldKey, IMessage into)
    {
        var field = Message.FindFieldByNumber((int)number);
        var one = field is null ? null : Content.Fields.FirstOrDefault(f => f.Number == number);
        var path = Path(field);
        if (one is null)
            throw new SealException(SealFault.OtherField, path, "the message inside has no such field.");
        Span<byte> derived = stackalloc byte[64];
        var padded = new byte[one.Ciphertext.Length - Hpke.TagBytes];
        try
        {
            FieldCipher.Derive(fieldKey, derived[..32], derived[32..]);
            CheckCommitment(one, derived[..32], path);
            if (!FieldCipher.TryDecrypt(derived[32..], Hash, number, one.Ciphertext.Span, padded))
                throw new SealException(SealFault.NotAuthentic, path, "its ciphertext was changed or belongs elsewhere.");
            if (!Padding.TryUnpad(padded, out var plain))
                throw new SealException(SealFault.WrongPadding, path, "it is not padded with zeros to the smallest size that fits.");
            Merge(plain, number, into, path);
            return plain.Length;
        }
        finally
        {
            CryptographicOperations.ZeroMemory(derived);
            CryptographicOperations.ZeroMemory(padded);
        }
    }

    /// <summary>The wrap for a participant.</summary>
    public SealedKey WrapFor(string participant) =>
        Content.Keys.FirstOrDefault(k => k.Recipient == participant)
        ?? throw new SealException(SealFault.WrongRecipient, _expected.Field, $"it is not sealed to {participant}.");

    public SealException Fault(SealFault fault, string text) => new(fault, _expected.Field, text);

    private static void CheckCommitment(SealedField field, ReadOnlySpan<byte> commitment, string path)
    {
        if (!CryptographicOperations.FixedTimeEquals(commitment, field.Commitment.Span))
            throw new SealException(SealFault.CommitmentDiffers, path, "its key is not the one that the sender committed to.");
    }

    private string Path(FieldDescriptor? field) => field is null ? _expected.Field : $"{_expected.Field}.{field.Name}";

    private static SealedContent Parse(ByteString bytes, string field)
    {
        if (bytes.Length > Sealer.MaxContentBytes)
            throw new SealException(SealFault.TooLarge, field, "it is larger than 65,536 bytes.");
        if (bytes.IsEmpty || Fields.AreCut(bytes.Span))
            throw new SealException(SealFault.Truncated, field, "its content ends too early.");
        try
        {
            var content = Parser.ParseFrom(bytes);
            if (content.Keys.Count == 0 || content.Fields.Count == 0)
                throw new SealException(SealFault.Truncated, field, "its content ends too early.");
            if (content.ToByteString().Equals(bytes))
                return content;
        }
        catch (InvalidProtocolBufferException) { }
        throw new SealException(SealFault.NotCanonical, field, "its content is not serialized in the one form that is allowed.");
    }

    private static void CheckKeys(SealedContent content, RepeatedField<string> recipients, string field)
    {
        if (recipients.Count is 0 or > Sealer.MaxRecipients)
            throw new SealException(SealFault.BadRecipients, field, "it has 1 to 16 recipients.");
        if (recipients.Distinct(StringComparer.Ordinal).Count() != recipients.Count)
            throw new SealException(SealFault.BadRecipients, field, "a recipient is named twice.");
        if (content.Keys.Count < recipients.Count)
            throw new SealException(SealFault.Truncated, field, "it has no key for some of its recipients.");
        if (!content.Keys.Select(k => k.Recipient).SequenceEqual(recipients, StringComparer.Ordinal))
            throw new SealException(SealFault.OtherRecipients, field, "it was sealed to other recipients.");
        if (
            content.Keys.Any(k =>
                k.Encapsulation.Length != XWing.EncapsulationBytes || k.Secret.Length != RecordSecret.Bytes + Hpke.TagBytes
            )
        )
            throw new SealException(SealFault.InvalidKey, field, "a recipient's key has another length.");
    }

    private static void CheckFields(SealedContent content, MessageDescriptor message, string path)
    {
        var known = message.Fields.InFieldNumberOrder();
        for (var i = 0; i < content.Fields.Count && i < known.Count; i++)
            if (content.Fields[i].Number != known[i].FieldNumber)
                throw new SealException(SealFault.OtherField, $"{path}.{known[i].Name}", "another field stands in its place.");
        if (content.Fields.Count < known.Count)
            throw new SealException(SealFault.Truncated, $"{path}.{known[content.Fields.Count].Name}", "it is missing.");
        if (content.Fields.Count > known.Count)
            throw new SealException(SealFault.OtherField, path, "it has a field that the message inside does not have.");
        foreach (var (field, of) in content.Fields.Zip(known))
        {
            if (field.Commitment.Length != 32)
                throw new SealException(SealFault.CommitmentDiffers, $"{path}.{of.Name}", "its commitment has not 32 bytes.");
            if (!Padding.Sizes.Contains(field.Ciphertext.Length - Hpke.TagBytes))
                throw new SealException(SealFault.WrongPadding, $"{path}.{of.Name}", "its size is none of those that are allowed.");
        }
    }

    // Each field's bytes are the one serialization of that field, so a datum has one form, and nothing hides beside it.
    private static void Merge(ReadOnlySpan<byte> plain, uint number, IMessage into, string path)
    {
        var again = Array.Empty<byte>();
        try
        {
            var one = into.Descriptor.Parser.WithDiscardUnknownFields(true).ParseFrom(plain);
            again = one.ToByteArray();
            if (plain.SequenceEqual(again) && Fields.HoldOnly(plain, number))
            {
                into.MergeFrom(plain);
                return;
            }
        }
        catch (InvalidProtocolBufferException) { }
        finally
        {
            CryptographicOperations.ZeroMemory(again);
        }
        throw new SealException(SealFault.NotCanonical, path, "it is not serialized in the one form that is allowed.");
    }
}
