using System.Buffers;
using Google.Protobuf;
using Ministries.Contracts;
using Ministries.Errors.V1;
using Ministries.Types.V1;

namespace Ministries.Hosting;

/// <summary>Checks what is sealed in a request without opening it: that it can be read in one way only and keeps its limits, and then what
/// <see cref="Seals.Check"/> demands.</summary>
public static class SealForm
{
    // What is not known is left out, so the bytes that are made again differ.
    private static readonly MessageParser<SealedContent> Parser = SealedContent.Parser.WithDiscardUnknownFields(true);

    /// <summary>The refusal of the first sealed field, in the order of the fields' numbers, that is not as it must be; null: all are.
    /// </summary>
    /// <param name="request">The request, whose own form was checked.</param>
    /// <param name="caller">Who sends it.</param>
    /// <param name="permissions">The agreement.</param>
    /// <param name="now">The time at which the recipients' keys must be in force.</param>
    public static Refusal? Check(IMessage request, Participant caller, Permissions permissions, DateTimeOffset now)
    {
        if (!Seals.CanBeIn(request.Descriptor))
            return null;
        var shape = RequestShape.Of(request.Descriptor);
        var carried = new SealCarrier(RequestShape.Text(shape.Case, request), RequestShape.Text(shape.RequestId, request), caller.Id);
        foreach (var place in Seals.WithPaths(request))
        {
            var content = Read(place.Sealed.Content);
            if (content is null)
                return place.Refuse(Reason.SealMalformed);
            if (Seals.Check(place, content, carried, permissions, now) is { } refusal)
                return refusal;
        }
        return null;
    }

    /// <summary>Reads sealed content.</summary>
    /// <param name="bytes">Its bytes.</param>
    /// <returns>The content; null: the bytes are none, are not what it serializes to, or break a limit that its contract declares.</returns>
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
}
