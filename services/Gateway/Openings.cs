using System.Collections;
using System.Collections.Concurrent;
using System.Reflection;
using Google.Protobuf;
using Google.Protobuf.Reflection;
using Ministries.Sealing;
using Ministries.Types.V1;

namespace Ministries.Gateway;

/// <summary>Opens what is sealed to the participant in an answer. What does not open stays as the service showed it.</summary>
/// <param name="client">The client with the participant's keys for sealing.</param>
internal sealed class Openings(MinistryClient client)
{
    private delegate IMessage Opens(MinistryClient client, Sealed @sealed, string? @case, string? sender);

    private static readonly ConcurrentDictionary<MessageDescriptor, Opens> ByType = [];

    /// <summary>Puts the plain message in the place of each that opens (<see cref="PlainJson.Scheme"/>), in the message itself.</summary>
    public void Open(IMessage message)
    {
        if (Seals.CanBeIn(message.Descriptor))
            Open(message, "");
    }

    private void Open(IMessage message, string @case)
    {
        if (Contract.TextOf(message, "case") is { Length: > 0 } own)
            @case = own;
        foreach (var field in message.Descriptor.Fields.InDeclarationOrder())
        {
            if (field.FieldType != FieldType.Message || field.IsMap)
                continue;
            var value = field.Accessor.GetValue(message);
            foreach (var one in value as IList ?? new[] { value })
                if (one is Sealed @sealed)
                    Open(@sealed, field, message, @case);
                else if (one is IMessage inner && Seals.CanBeIn(inner.Descriptor))
                    Open(inner, @case);
        }
    }

    // Where the record says whose it is, it must have been sealed by that participant.
    private void Open(Sealed @sealed, FieldDescriptor field, IMessage parent, string @case)
    {
        // The scheme is the gateway's own. A service that writes it would have its own words taken for what a participant sealed.
        if (PlainJson.IsPlain(@sealed.Scheme))
        {
            (@sealed.Scheme, @sealed.Content) = ("", ByteString.Empty);
            return;
        }
        if (@sealed.Content.IsEmpty || @sealed.Scheme != Seals.Scheme || TypeIn(@sealed) is not { } type)
            return;
        if (PlainJson.TypeIn(field) is { } declared && declared != type)
            return;
        var sender = Contract.TextOf(parent, $"{field.Name}_participant");
        try
        {
            var opens = ByType.GetOrAdd(
                type,
                t =>
                    typeof(Openings)
                        .GetMethod(nameof(Typed), BindingFlags.NonPublic | BindingFlags.Static)!
                        .MakeGenericMethod(t.ClrType)
                        .CreateDelegate<Opens>()
            );
            var plain = opens(client, @sealed, @case.Length > 0 ? @case : null, sender.Length > 0 ? sender : null);
            (@sealed.Scheme, @sealed.Content) = (PlainJson.SchemeOf(type), plain.ToByteString());
        }
        catch (SealException)
        {
            // It is not for this participant, or for a key that it no longer has.
        }
    }

    // What it says is checked when it is opened.
    private static MessageDescriptor? TypeIn(Sealed @sealed)
    {
        try
        {
            return Seals.MessageNamed(SealedContent.Parser.ParseFrom(@sealed.Content).Message);
        }
        catch (InvalidProtocolBufferException)
        {
            return null;
        }
    }

    private static IMessage Typed<T>(MinistryClient client, Sealed @sealed, string? @case, string? sender)
        where T : class, IMessage<T>, new() => client.Open<T>(@sealed, @case, sender).Message;
}
