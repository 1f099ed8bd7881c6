using System.Buffers;
using System.Buffers.Binary;
using Microsoft.AspNetCore.Http;

namespace Ministries.Hosting;

/// <summary>Reads a request's body as one gRPC message: a byte that says whether it is compressed, its length in 4 bytes, the message
/// (gRPC over HTTP/2, Length-Prefixed-Message).</summary>
internal static class RequestFrame
{
    /// <summary>The bytes before the message: 5.</summary>
    public const int Prefix = 5;

    /// <summary>Reads the whole body.</summary>
    /// <param name="http">The request.</param>
    /// <param name="limit">The greatest length of the message, in bytes.</param>
    /// <param name="room">Asked once for room, for the length that the prefix says, before the message is waited for. It may read the body,
    /// and consumes nothing of it. It returns the refusal; null: there is room.</param>
    /// <returns>The frame with its prefix, or the refusal.</returns>
    public static async ValueTask<(byte[]? Frame, Refusal? Refusal)> Read(HttpContext http, int limit, Func<long, ValueTask<Refusal?>> room)
    {
        // gRPC would refuse any other type too, but only after all checks and with an HTTP status alone.
        if (http.Request.ContentType is not { } type || !type.StartsWith("application/grpc", StringComparison.OrdinalIgnoreCase))
            return (null, Refusals.Invalid("", "the content-type must be application/grpc"));
        var reader = http.Request.BodyReader;
        var asked = false;
        while (true)
        {
            // Most bodies have arrived with their headers.
            if (!reader.TryRead(out var read))
                read = await reader.ReadAsync(http.RequestAborted);
            var buffer = read.Buffer;
            if (buffer.Length >= Prefix)
            {
                var (compressed, length) = Head(buffer);
                Refusal? refusal = null;
                if (compressed)
                    refusal = Refusals.Invalid(
                        "",
                        "the message must not be compressed, because the signature is over the bytes that are sent"
                    );
                else if (length > limit)
                    refusal = Refusals.Invalid("", $"the message must be at most {limit} bytes");
                else if (buffer.Length > Prefix + length)
                    refusal = Refusals.Invalid("", "the call must have one message");
                else if (!asked)
                {
                    // Whoever is asked may look at what has come, and waits for more of it if need be.
                    reader.AdvanceTo(buffer.Start);
                    if (await room(length) is { } none)
                        return (null, none);
                    asked = true;
                    continue;
                }
                if (refusal is not null)
                {
                    reader.AdvanceTo(buffer.Start, buffer.End);
                    return (null, refusal);
                }
                if (read.IsCompleted && buffer.Length == Prefix + length)
                {
                    var frame = buffer.ToArray();
                    reader.AdvanceTo(buffer.End);
                    return (frame, null);
                }
            }
            if (read.IsCompleted)
            {
                reader.AdvanceTo(buffer.End);
                return (null, Refusals.Invalid("", "the call must have one complete message"));
            }
            reader.AdvanceTo(buffer.Start, buffer.End);
        }
    }

    private static (bool Compressed, long Length) Head(ReadOnlySequence<byte> buffer)
    {
        Span<byte> head = stackalloc byte[Prefix];
        buffer.Slice(0, Prefix).CopyTo(head);
        return (head[0] != 0, BinaryPrimitives.ReadUInt32BigEndian(head[1..]));
    }
}
