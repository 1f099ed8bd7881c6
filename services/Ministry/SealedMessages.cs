using Google.Protobuf;
using Google.Protobuf.Reflection;
using Ministries.Types.V1;

namespace Ministries.Ministry;

/// <summary>What is sealed, whatever message is in it. Its type is known only by its name in the content, which is checked when it is
/// opened.</summary>
internal static class SealedMessages
{
    /// <summary>The content, which anybody may read but for its fields; of one that cannot be read, one whose opening says so.</summary>
    public static SealedContent ContentOf(Sealed sealedData)
    {
        try
        {
            return SealedContent.Parser.ParseFrom(sealedData.Content);
        }
        catch (InvalidProtocolBufferException)
        {
            return new SealedContent { Message = "unreadable" };
        }
    }

    /// <summary>The type of the message inside.</summary>
    /// <exception cref="FormatException">The contracts do not know it.</exception>
    public static MessageDescriptor TypeOf(SealedContent content) =>
        Seals.MessageNamed(content.Message)
        ?? throw new FormatException($"it holds a {Terminal.Line(content.Message)}, which the contracts do not know");

    /// <summary>Writes what was opened, with a mark where it is not as its contract declares it: no service has read it, so nobody has
    /// refused a text that deceives.</summary>
    /// <param name="screen">Where to.</param>
    /// <param name="message">What was opened.</param>
    /// <param name="fields">The numbers of its fields that were opened; null: all.</param>
    /// <param name="indent">The columns before it.</param>
    public static void Write(Screen screen, IMessage message, IReadOnlyList<uint>? fields, int indent)
    {
        foreach (var (faulty, what) in MinistryClient.FaultsOf(message, fields))
            screen.Paragraph($"not as the contract declares it: {faulty} {what}", indent, Style.Warning);
        // Fields that were not opened are unknown: they do not mean "no".
        string[] unknown = fields is null
            ? []
            : [.. message.Descriptor.Fields.InFieldNumberOrder().Where(f => !fields.Contains((uint)f.FieldNumber)).Select(f => f.Name)];
        new Fields(screen, whole: true).Write(Printable.Of(message), indent, unknown);
    }
}
