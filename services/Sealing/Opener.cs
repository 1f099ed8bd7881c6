using System.Buffers.Binary;
using System.Security.Cryptography;
using Google.Protobuf;
using Google.Protobuf.Reflection;
using Ministries.Types.V1;

namespace Ministries.Sealing;

/// <summary>
/// Opens what was sealed to a participant, opens it wider, and discloses single fields (protos/SEALED.md). Every method checks where the
/// content belongs before it uses a key. A fault is a <see cref="SealException"/> that names the field.
/// </summary>
/// <remarks>Keys and padded plaintexts are zeroed. The strings of an opened message are .NET's and cannot be: keep such a message no longer
/// than it is needed.</remarks>
/// <param name="participant">Who opens.</param>
/// <param name="identities">Its keys, the earlier ones too: a record stays sealed to the key of its time. The caller disposes of
/// them.</param>
public sealed class Opener(string participant, IReadOnlyCollection<SealingIdentity> identities)
{
    /// <summary>Opens all of a message.</summary>
    /// <typeparam name="T">The message inside.</typeparam>
    /// <param name="sealed">What is sealed.</param>
    /// <param name="expected">Where it stands.</param>
    /// <param name="added">The wrap by which this participant was added or its key was rotated; null: it is a recipient from the
    /// start.</param>
    /// <exception cref="SealException">It does not open; the fault says why, the field where.</exception>
    public T Open<T>(Sealed @sealed, SealContext expected, SealedKey? added = null)
        where T : class, IMessage<T>, new()
    {
        var message = new T();
        Open(message, @sealed, expected, added);
        return message;
    }

    /// <summary>As the other, of a message whose type is known by name only.</summary>
    /// <param name="message">The type of the message inside.</param>
    /// <param name="sealed">What is sealed.</param>
    /// <param name="expected">Where it stands.</param>
    /// <param name="added">As in the other.</param>
    /// <exception cref="SealException">As the other.</exception>
    public IMessage Open(MessageDescriptor message, Sealed @sealed, SealContext expected, SealedKey? added = null)
    {
        var opened = New(message);
        Open(opened, @sealed, expected, added);
        return opened;
    }

    private void Open(IMessage into, Sealed @sealed, SealContext expected, SealedKey? added)
    {
        var readable = Readable.Check(@sealed, expected, into.Descriptor);
        using var secret = Unwrap(readable, added);
        Span<byte> key = stackalloc byte[32];
        var length = 0;
        try
        {
            foreach (var field in readable.Content.Fields)
            {
                secret.KeyOf(field.Number, key);
                length += readable.OpenField(field.Number, key, into);
            }
        }
        finally
        {
            CryptographicOperations.ZeroMemory(key);
        }
        // Two fields of a oneof could each be in order, and the later would replace the earlier.
        if (into.CalculateSize() != length)
            throw readable.Fault(SealFault.NotCanonical, "its fields exclude each other.");
    }

    /// <summary>Wraps the secret of a record for one more recipient, or for a new key of a recipient, without the sender. It is for whoever
    /// can open the whole.</summary>
    /// <param name="sealed">What is sealed.</param>
    /// <param name="expected">Where it stands.</param>
    /// <param name="message">The message inside, such as <c>PersonIdentity.Descriptor</c>.</param>
    /// <param name="recipient">For whom.</param>
    /// <param name="added">As in <see cref="Open{T}"/>.</param>
    /// <returns>The wrap, which opens this content and no other.</returns>
    /// <exception cref="SealException">It does not open here, or a field's key is not the one committed to.</exception>
    public SealedKey Rewrap(Sealed @sealed, SealContext expected, MessageDescriptor message, Recipient recipient, SealedKey? added = null)
    {
        var readable = Readable.Check(@sealed, expected, message);
        using var secret = Unwrap(readable, added);
        // A recipient must not be given a secret that opens nothing.
        readable.CheckCommitments(secret);
        return secret.Wrap(recipient) ?? throw Invalid(expected, recipient);
    }

    /// <summary>The key of one field, for a third party. It opens that field alone.</summary>
    /// <param name="sealed">What is sealed.</param>
    /// <param name="expected">Where it stands.</param>
    /// <param name="message">The message inside.</param>
    /// <param name="number">The field's number in it.</param>
    /// <param name="added">As in <see cref="Open{T}"/>.</param>
    /// <returns>The caller disposes of it.</returns>
    /// <exception cref="SealException">It does not open here, or has no such field.</exception>
    public FieldKey DiscloseField(Sealed @sealed, SealContext expected, MessageDescriptor message, int number, SealedKey? added = null)
    {
        var readable = Readable.Check(@sealed, expected, message);
        if (message.FindFieldByNumber(number) is null)
            throw readable.Fault(SealFault.OtherField, "the message inside has no such field.");
        using var secret = Unwrap(readable, added);
        readable.CheckCommitments(secret);
        Span<byte> key = stackalloc byte[32];
        secret.KeyOf((uint)number, key);
        var disclosed = new FieldKey((uint)number, key);
        CryptographicOperations.ZeroMemory(key);
        return disclosed;
    }

    /// <summary>Wraps the keys of some fields for a third party. He opens those fields and no other.</summary>
    /// <param name="sealed">What is sealed.</param>
    /// <param name="expected">Where it stands.</param>
    /// <param name="message">The message inside.</param>
    /// <param name="numbers">The fields' numbers, ascending.</param>
    /// <param name="recipient">For whom.</param>
    /// <param name="added">As in <see cref="Open{T}"/>.</param>
    /// <returns>A wrap whose secret has 36 bytes for each field, and 16.</returns>
    /// <exception cref="SealException">It does not open here, or has no such field.</exception>
    public SealedKey WrapFields(
        Sealed @sealed,
        SealContext expected,
        MessageDescriptor message,
        IReadOnlyList<int> numbers,
        Recipient recipient,
        SealedKey? added = null
    )
    {
        var readable = Readable.Check(@sealed, expected, message);
        DemandFields(readable, numbers);
        using var secret = Unwrap(readable, added);
        readable.CheckCommitments(secret);
        var keys = new byte[numbers.Count * FieldKey.Bytes];
        try
        {
            for (var i = 0; i < numbers.Count; i++)
            {
                var one = keys.AsSpan(i * FieldKey.Bytes, FieldKey.Bytes);
                BinaryPrimitives.WriteInt32BigEndian(one, numbers[i]);
                secret.KeyOf((uint)numbers[i], one[4..]);
            }
            return Wraps.Seal(recipient, Wraps.OfFields(readable.Hash), keys) ?? throw Invalid(expected, recipient);
        }
        finally
        {
            CryptographicOperations.ZeroMemory(keys);
        }
    }

    /// <summary>Opens the fields whose keys were wrapped for this participant.</summary>
    /// <typeparam name="T">The message inside.</typeparam>
    /// <param name="sealed">What is sealed.</param>
    /// <param name="expected">Where it stands.</param>
    /// <param name="wrap">Of <see cref="WrapFields"/>.</param>
    /// <param name="numbers">The numbers of the fields that it is said to open; null: nobody says it. A field that it does not open would
    /// look like one that the sender left empty.</param>
    /// <returns>The message with those fields alone.</returns>
    /// <exception cref="SealException">It does not open, or opens other fields; the fault says why, the field where.</exception>
    public T OpenFields<T>(Sealed @sealed, SealContext expected, SealedKey wrap, IReadOnlyCollection<uint>? numbers = null)
        where T : class, IMessage<T>, new() => (T)OpenFields(new T().Descriptor, @sealed, expected, wrap, numbers);

    /// <summary>As the other, of a message whose type is known by name only.</summary>
    /// <param name="message">The type of the message inside.</param>
    /// <param name="sealed">What is sealed.</param>
    /// <param name="expected">Where it stands.</param>
    /// <param name="wrap">Of <see cref="WrapFields"/>.</param>
    /// <param name="numbers">As in the other.</param>
    /// <exception cref="SealException">As the other.</exception>
    public IMessage OpenFields(
        MessageDescriptor message,
        Sealed @sealed,
        SealContext expected,
        SealedKey wrap,
        IReadOnlyCollection<uint>? numbers = null
    )
    {
        var opened = New(message);
        var readable = Readable.Check(@sealed, expected, message);
        var keys = FieldKeysIn(readable, wrap);
        try
        {
            if (numbers is not null && !keys.Select(k => k.Number).SequenceEqual(numbers.Order()))
                throw readable.Fault(SealFault.OtherField, "the wrap opens other fields than it is said to open.");
            foreach (var key in keys)
                readable.OpenField(key.Number, key.Key, opened);
            return opened;
        }
        finally
        {
            Forget(keys);
        }
    }

    /// <summary>Wraps some of the field keys that were wrapped for this participant for one more recipient, or for a new key of its own. It
    /// is for whoever can open these fields and not the whole.</summary>
    /// <param name="sealed">What is sealed.</param>
    /// <param name="expected">Where it stands.</param>
    /// <param name="message">The message inside.</param>
    /// <param name="numbers">The fields' numbers, ascending, all of them in <paramref name="wrap"/>.</param>
    /// <param name="recipient">For whom.</param>
    /// <param name="wrap">Of <see cref="WrapFields"/>.</param>
    /// <returns>A wrap as that of <see cref="WrapFields"/>.</returns>
    /// <exception cref="SealException">It does not open here, has no such field, or a field's key is not the one committed to.</exception>
    public SealedKey RewrapFields(
        Sealed @sealed,
        SealContext expected,
        MessageDescriptor message,
        IReadOnlyList<int> numbers,
        Recipient recipient,
        SealedKey wrap
    )
    {
        var readable = Readable.Check(@sealed, expected, message);
        DemandFields(readable, numbers);
        var keys = FieldKeysIn(readable, wrap);
        var wanted = new byte[numbers.Count * FieldKey.Bytes];
        try
        {
            for (var i = 0; i < numbers.Count; i++)
            {
                var key =
                    keys.FirstOrDefault(k => k.Number == (uint)numbers[i])
                    ?? throw readable.Fault(SealFault.OtherField, "the wrap has no key of a field that is to be wrapped anew.");
                readable.CheckCommitment(key);
                key.CopyTo(wanted.AsSpan(i * FieldKey.Bytes, FieldKey.Bytes));
            }
            return Wraps.Seal(recipient, Wraps.OfFields(readable.Hash), wanted) ?? throw Invalid(expected, recipient);
        }
        finally
        {
            CryptographicOperations.ZeroMemory(wanted);
            Forget(keys);
        }
    }

    /// <summary>Opens one field with its key, and proves with the commitment that it is the one that the sender sealed. No key of a
    /// participant is needed.</summary>
    /// <typeparam name="T">The message inside.</typeparam>
    /// <param name="sealed">What is sealed: take it from the signed request, since the signature is what proves the sender.</param>
    /// <param name="expected">Where it stands.</param>
    /// <param name="key">The field's key.</param>
    /// <returns>The message with that field alone; without it, the field was absent.</returns>
    /// <exception cref="SealException">It does not open; the fault says why, the field where.</exception>
    public static T OpenField<T>(Sealed @sealed, SealContext expected, FieldKey key)
        where T : class, IMessage<T>, new()
    {
        var message = new T();
        Readable.Check(@sealed, expected, message.Descriptor).OpenField(key.Number, key.Key, message);
        return message;
    }

    internal static SealException Invalid(SealContext context, Recipient recipient) =>
        new(SealFault.InvalidKey, context.Field, $"the key {recipient.KeyId} of {recipient.Participant} is not valid.");

    private static IMessage New(MessageDescriptor message) => message.Parser.ParseFrom(ByteString.Empty);

    private static void DemandFields(Readable readable, IReadOnlyList<int> numbers)
    {
        if (numbers.Count == 0 || numbers.Any(n => readable.Message.FindFieldByNumber(n) is null) || !Ascend(numbers.Select(n => (uint)n)))
            throw readable.Fault(
                SealFault.OtherField,
                "the fields to wrap are not fields of the message inside, each once, in their order."
            );
    }

    // The caller disposes of all of them, even if one of them does not open.
    private FieldKey[] FieldKeysIn(Readable readable, SealedKey wrap)
    {
        var identity = IdentityFor(readable, wrap);
        var count = (wrap.Secret.Length - Hpke.TagBytes) / FieldKey.Bytes;
        if (count is < 1 or > Sealer.MaxFields || wrap.Secret.Length != count * FieldKey.Bytes + Hpke.TagBytes)
            throw readable.Fault(SealFault.Truncated, "the wrap of field keys has another length.");
        var bytes = new byte[count * FieldKey.Bytes];
        try
        {
            if (!Wraps.TryOpen(wrap, identity, Wraps.OfFields(readable.Hash), bytes))
                throw readable.Fault(SealFault.NotAuthentic, "the wrap of field keys was changed or belongs elsewhere.");
            var numbers = Enumerable.Range(0, count).Select(i => BinaryPrimitives.ReadUInt32BigEndian(bytes.AsSpan(i * FieldKey.Bytes)));
            if (!Ascend(numbers))
                throw readable.Fault(SealFault.NotCanonical, "the wrapped field keys are not in order.");
            var keys = new FieldKey[count];
            for (var i = 0; i < count; i++)
                keys[i] = FieldKey.Read(bytes.AsSpan(i * FieldKey.Bytes, FieldKey.Bytes));
            return keys;
        }
        finally
        {
            CryptographicOperations.ZeroMemory(bytes);
        }
    }

    private static void Forget(FieldKey[] keys)
    {
        foreach (var key in keys)
            key.Dispose();
    }

    private static bool Ascend(IEnumerable<uint> numbers) => numbers.Zip(numbers.Skip(1)).All(pair => pair.First < pair.Second);

    private SealingIdentity IdentityFor(Readable readable, SealedKey wrap)
    {
        if (wrap.Recipient != participant)
            throw readable.Fault(SealFault.WrongRecipient, $"it is not sealed to {participant}.");
        return identities.FirstOrDefault(i => i.Id == wrap.KeyId)
            ?? throw readable.Fault(SealFault.KeyUnknown, $"it is sealed to the key {wrap.KeyId} of {participant}, which is not here.");
    }

    // The secret from the wrap. A wrap that was made for another participant, content or place does not open. The commitments show whether
    // the secret is that of the fields.
    private RecordSecret Unwrap(Readable readable, SealedKey? added)
    {
        var wrap = added ?? readable.WrapFor(participant);
        var identity = IdentityFor(readable, wrap);
        return RecordSecret.Unwrap(readable.Hash, wrap, identity)
            ?? throw readable.Fault(SealFault.NotAuthentic, $"its key for {participant} was changed or belongs elsewhere.");
    }
}
