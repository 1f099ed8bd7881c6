using System.Buffers;
using System.Collections;
using System.Collections.Frozen;
using System.Security.Cryptography;
using Google.Protobuf;
using Google.Protobuf.Reflection;
using Ministries.Contracts;
using Ministries.Errors.V1;
using Ministries.Types.V1;

namespace Ministries.Rules;

/// <summary>Sealed data as a service keeps and shows them. It never opens them.</summary>
public static class Seals
{
    /// <summary>The only scheme that is accepted.</summary>
    public const string Scheme = "ministries-sealed-v1";

    /// <summary>By how many bytes a ciphertext is longer than what it pads: the tag.</summary>
    public const int TagBytes = 16;

    /// <summary>The sizes to which fields are padded, in bytes, ascending.</summary>
    public static readonly IReadOnlyList<int> Buckets = [64, 256, 1024, 4096, 16384, 49152];

    // For each message of the contracts, the fields that are sealed or lead to sealed fields, each with its declaration. The contracts have
    // no lists of sealed content, because the path of one would then depend on the others.
    private static readonly FrozenDictionary<MessageDescriptor, (FieldDescriptor Field, SealDeclaration Declared)[]> Leading = Descriptors
        .Messages.Values.Select(type => (Type: type, Fields: type.Fields.InFieldNumberOrder().Where(f => Leads(f, [])).ToArray()))
        .Where(t => t.Fields.Length > 0)
        .ToFrozenDictionary(t => t.Type, t => t.Fields.Select(f => (f, DeclarationOf(f))).ToArray());

    // Unknown fields are dropped when content is parsed, so content that has any serializes to other bytes.
    private static readonly MessageParser<SealedContent> Parser = SealedContent.Parser.WithDiscardUnknownFields(true);

    /// <summary>Sealed data as they are kept: with the digest (SHA-256) of their bytes, and the entry that they came with.</summary>
    /// <param name="sealed">As they were sent; null: there are none.</param>
    /// <param name="position">The position of the entry whose request carries them.</param>
    public static Sealed? Keep(Sealed? @sealed, ulong position)
    {
        if (@sealed is null)
            return null;
        var kept = @sealed.Clone();
        (kept.Digest, kept.Position) = (ByteString.CopyFrom(SHA256.HashData(kept.Content.Span)), position);
        return kept;
    }

    /// <summary>Sealed data as a participant sees them: whole for their sender and recipients; for anybody else neither the bytes
    /// nor to whom they are sealed.</summary>
    /// <param name="sealed">As they are kept; null: there are none.</param>
    /// <param name="sender">Who sealed them.</param>
    /// <param name="reader">Who reads.</param>
    public static Sealed? Show(Sealed? @sealed, string sender, string reader) =>
        @sealed is null || sender == reader || @sealed.Recipients.Contains(reader)
            ? @sealed
            : new Sealed
            {
                Scheme = @sealed.Scheme,
                Digest = @sealed.Digest,
                Withheld = { "recipients", "content", "position" },
            };

    /// <summary>All that is sealed in a message, however deep.</summary>
    public static IEnumerable<Sealed> In(IMessage message) => WithPaths(message).Select(s => s.Sealed);

    /// <summary>All that is sealed in a message, however deep, each with the path of its field, such as <c>account.minutes</c>.</summary>
    public static IEnumerable<SealedPlace> WithPaths(IMessage message)
    {
        List<SealedPlace>? found = null;
        Look(message, "", ref found);
        return found ?? (IEnumerable<SealedPlace>)[];
    }

    /// <summary>Whether messages of the type can hold something sealed, however deep.</summary>
    public static bool CanBeIn(MessageDescriptor type) => Leading.ContainsKey(type);

    /// <summary>The fields that lead to the one in which a request holds a message, sealed. Each message has at most one in a
    /// request.</summary>
    /// <param name="request">The request's type.</param>
    /// <param name="message">The full name of the message inside.</param>
    /// <returns>The fields from the request on, the sealed one last; null: no field is declared for such a message.</returns>
    public static IReadOnlyList<FieldDescriptor>? PathFor(MessageDescriptor request, string message)
    {
        foreach (var (field, declared) in LeadingOf(request).Where(f => !f.Field.IsRepeated))
            if (field.MessageType == Sealed.Descriptor)
            {
                if (declared.Message == message)
                    return [field];
            }
            else if (PathFor(field.MessageType, message) is { } inner)
                return [field, .. inner];
        return null;
    }

    /// <summary>The message of this full name; null: the contracts have none.</summary>
    public static MessageDescriptor? MessageNamed(string name) => Descriptors.Messages.GetValueOrDefault(name);

    /// <summary>Whether one may seal to a key at a moment: it has begun, and is neither ended nor revoked. A key without a beginning has
    /// not begun.</summary>
    public static bool IsInForce(SealingKey key, DateTimeOffset moment) =>
        key.ValidFromTime is { } from
        && from.ToDateTimeOffset() <= moment
        && (key.ValidUntilTime is null || moment < key.ValidUntilTime.ToDateTimeOffset())
        && (key.RevokeTime is null || moment < key.RevokeTime.ToDateTimeOffset());

    /// <summary>The key to which one seals for a participant at a moment: the newest that is in force; null: it has none.</summary>
    public static SealingKey? KeyOf(Participant participant, DateTimeOffset moment) =>
        participant.SealingKeys.Where(k => IsInForce(k, moment)).MaxBy(k => k.ValidFromTime);

    /// <summary>
    /// Whether sealed content is what its request says, as far as that can be known without opening it: it names the request that carries
    /// it and its own field, its secret is encapsulated for its recipients, and its fields are those of the message that the contract
    /// declares, padded. So nobody's content is taken over into another request, and a recipient who cannot open it learns that before it
    /// becomes an entry. Null: it is.
    /// </summary>
    /// <param name="place">Where it is sealed.</param>
    /// <param name="content">The content, whose form and limits were checked.</param>
    /// <param name="carried">What carries it.</param>
    /// <param name="permissions">The agreement.</param>
    /// <param name="now">The time at which its recipients' keys must be in force.</param>
    public static Refusal? Check(SealedPlace place, SealedContent content, SealCarrier carried, Permissions permissions, DateTimeOffset now)
    {
        if (content.Case != carried.Case || content.Record != carried.RequestId || content.Sender != carried.Sender)
            return place.Refuse(Reason.SealOfAnotherRecord);
        if (content.Field != place.Path)
            return place.Refuse(Reason.SealOfAnotherField);
        if (content.Message != place.Declared.Message)
            return place.Refuse(Reason.SealOfAnotherMessage);
        return OfKeys(place, content, permissions, now) ?? OfFields(place, content);
    }

    /// <summary>Reads sealed content.</summary>
    /// <param name="bytes">Its bytes.</param>
    /// <returns>The content; null: the bytes are not such content, are not its exact serialization, or break a limit that the contract
    /// declares.</returns>
    public static SealedContent? Read(ByteString bytes)
    {
        try
        {
            var content = Parser.ParseFrom(bytes);
            return IsWrittenAs(content, bytes.Span) && Validation.Check(content).Count == 0 ? content : null;
        }
        catch (InvalidProtocolBufferException)
        {
            return null;
        }
    }

    private static bool IsWrittenAs(SealedContent content, ReadOnlySpan<byte> bytes)
    {
        if (content.CalculateSize() != bytes.Length)
            return false;
        var written = ArrayPool<byte>.Shared.Rent(bytes.Length);
        try
        {
            content.WriteTo(written.AsSpan(0, bytes.Length));
            return bytes.SequenceEqual(written.AsSpan(0, bytes.Length));
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(written);
        }
    }

    private static Refusal? OfKeys(SealedPlace place, SealedContent content, Permissions permissions, DateTimeOffset now)
    {
        var recipients = place.Sealed.Recipients;
        if (!content.Keys.Select(k => k.Recipient).SequenceEqual(recipients))
            return place.Refuse(Reason.SealKeysDiffer);
        for (var i = 0; i < recipients.Count; i++)
        {
            var listed = permissions.Participant(recipients[i])?.SealingKeys.Where(k => IsInForce(k, now)).ToList();
            if (listed is not { Count: > 0 })
                return place.Refuse(Reason.RecipientWithoutKey, recipients[i]);
            if (listed.All(k => k.Id != content.Keys[i].KeyId))
                return place.Refuse(Reason.SealingKeyUnknown, recipients[i]);
        }
        return null;
    }

    private static Refusal? OfFields(SealedPlace place, SealedContent content)
    {
        // A declared message that is not there is found by the contracts' tests; no content is right for it.
        var numbers = MessageNamed(content.Message)?.Fields.InFieldNumberOrder().Select(f => (uint)f.FieldNumber) ?? [];
        if (!content.Fields.Select(f => f.Number).SequenceEqual(numbers))
            return place.Refuse(Reason.SealFieldsDiffer);
        return content.Fields.All(f => Buckets.Contains(f.Ciphertext.Length - TagBytes)) ? null : place.Refuse(Reason.SealNotPadded);
    }

    private static void Look(IMessage message, string path, ref List<SealedPlace>? found)
    {
        foreach (var (field, declared) in LeadingOf(message.Descriptor))
        {
            var (value, name) = (field.Accessor.GetValue(message), path.Length == 0 ? field.Name : $"{path}.{field.Name}");
            if (value is Sealed @sealed)
                (found ??= []).Add(new(name, @sealed, declared));
            else if (value is IList items)
                for (var i = 0; i < items.Count; i++)
                    Look((IMessage)items[i]!, $"{name}[{i}]", ref found);
            else if (value is IMessage inner)
                Look(inner, name, ref found);
        }
    }

    private static SealDeclaration DeclarationOf(FieldDescriptor field) =>
        field.GetOptions()?.GetExtension(OptionsExtensions.Seals) ?? new SealDeclaration();

    private static (FieldDescriptor Field, SealDeclaration Declared)[] LeadingOf(MessageDescriptor type) =>
        Leading.GetValueOrDefault(type, []);

    private static bool Leads(FieldDescriptor field, HashSet<MessageDescriptor> above) =>
        field.FieldType == FieldType.Message
        && !field.IsMap
        && (
            field.MessageType == Sealed.Descriptor
            || above.Add(field.MessageType) && field.MessageType.Fields.InFieldNumberOrder().Any(f => Leads(f, above))
        );
}

/// <summary>Where something is sealed in a message.</summary>
/// <param name="Path">The path of the field, such as <c>account.minutes</c>.</param>
/// <param name="Sealed">What is sealed.</param>
/// <param name="Declared">What the contract says of the field; without a message in a record, of which requests alone say it.</param>
public readonly record struct SealedPlace(string Path, Sealed Sealed, SealDeclaration Declared)
{
    /// <summary>A refusal that names the field.</summary>
    /// <param name="reason">The reason.</param>
    /// <param name="recipient">The recipient that it is about; null: none.</param>
    public Refusal Refuse(Reason reason, string? recipient = null) =>
        new(
            reason,
            recipient is null
                ? new Dictionary<string, string> { ["field"] = Path }
                : new Dictionary<string, string> { ["field"] = Path, ["recipient"] = recipient }
        );
}

/// <summary>The request that carries sealed content.</summary>
/// <param name="Case">The case that it names; empty: none.</param>
/// <param name="RequestId">Its id.</param>
/// <param name="Sender">The participant that sends it.</param>
public readonly record struct SealCarrier(string Case, string RequestId, string Sender);
