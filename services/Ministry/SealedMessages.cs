using System.Reflection;
using Google.Protobuf;
using Ministries.Sealing;
using Ministries.Types.V1;

namespace Ministries.Ministry;

/// <summary>Opens what is sealed, whatever message is in it. Its type is known only by its name in the content, which the library checks.</summary>
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

    /// <summary>The message inside.</summary>
    /// <param name="opener">Whose keys open it.</param>
    /// <param name="sealedData">What is sealed.</param>
    /// <param name="content">Its content.</param>
    /// <param name="expected">Where it stands.</param>
    /// <exception cref="FormatException">It does not open; the message says why.</exception>
    public static IMessage Open(Opener opener, Sealed sealedData, SealedContent content, SealContext expected)
    {
        var type =
            Seals.MessageNamed(content.Message)?.ClrType
            ?? throw new FormatException($"it holds a {Terminal.Line(content.Message)}, which the contracts do not know");
        var open = typeof(Opener).GetMethod(nameof(Opener.Open))!.MakeGenericMethod(type);
        try
        {
            return (IMessage)open.Invoke(opener, [sealedData, expected, null])!;
        }
        catch (TargetInvocationException e) when (e.InnerException is SealException fault)
        {
            throw new FormatException($"it does not open: {fault.Message}", fault);
        }
    }
}
