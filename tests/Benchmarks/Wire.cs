using System.Buffers;
using System.Buffers.Binary;
using System.Diagnostics;
using System.Globalization;
using System.Net.Security;
using System.Net.Sockets;
using System.Security.Authentication;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using Google.Protobuf;
using Ministries.Trust;
using NSec.Cryptography;

namespace Ministries.Benchmarks;

/// <summary>A gRPC call whose bytes are ready to be sent, and its outcome. Times are <see cref="Stopwatch"/> timestamps.</summary>
/// <param name="frames">A HEADERS and a DATA frame (RFC 9113, 6.1 and 6.2) without their stream's number.</param>
/// <param name="second">Where the second of them begins.</param>
internal sealed class Prepared(byte[] frames, int second)
{
    public byte[] Frames => frames;
    public int Second => second;
    public int Body => frames.Length - second - 9;
    public long Due { get; set; }
    public long Sent { get; set; }

    /// <summary>When its answer had come; 0: it has none.</summary>
    public long Done { get; set; }

    /// <summary>The gRPC status; -1: none came.</summary>
    public int Status { get; set; } = -1;

    /// <summary><c>grpc-status-details-bin</c>, as received.</summary>
    public string? Details { get; set; }

    /// <summary>The response with its prefix of 5 bytes, as received.</summary>
    public byte[] Response { get; set; } = [];

    public double Milliseconds => Stopwatch.GetElapsedTime(Due, Done).TotalMilliseconds;

    /// <summary>A write as a participant's client library sends it: signed unless there is no key, with each header field as a
    /// literal.</summary>
    public static Prepared Write(Uri service, string method, IMessage request, string requestId, Key? key, string keyId, string tag)
    {
        var body = new byte[5 + request.CalculateSize()];
        BinaryPrimitives.WriteInt32BigEndian(body.AsSpan(1), body.Length - 5);
        request.WriteTo(body.AsSpan(5));
        var (path, authority) = ($"/{method}", SigningHandler.AuthorityOf(service));
        List<(string Name, string Value)> fields =
        [
            (":path", path),
            (":authority", authority),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
            ("user-agent", "ministries-bench"),
        ];
        if (key is not null)
        {
            var digest = HttpSignature.ContentDigest(body);
            var (input, signature) = HttpSignature.Sign(
                key,
                keyId,
                requestId,
                DateTimeOffset.UtcNow,
                HttpSignature.LongestLife,
                tag,
                new Dictionary<string, string>
                {
                    ["@method"] = "POST",
                    ["@path"] = path,
                    ["@authority"] = authority,
                    ["content-type"] = "application/grpc",
                    ["content-digest"] = digest,
                }
            );
            fields.AddRange([("content-digest", digest), ("signature-input", input), ("signature", signature)]);
        }
        var head = new ArrayBufferWriter<byte>(1024);
        head.Write<byte>([0x83, 0x87]); // :method POST and :scheme https of the static table (RFC 7541, appendix A)
        foreach (var (name, value) in fields)
        {
            head.Write<byte>([0x00]);
            Literal(head, name);
            Literal(head, value);
        }
        var frames = new byte[9 + head.WrittenCount + 9 + body.Length];
        Wire.Head(frames, head.WrittenCount, type: 0x1, flags: 0x4, stream: 0);
        head.WrittenSpan.CopyTo(frames.AsSpan(9));
        var second = 9 + head.WrittenCount;
        Wire.Head(frames.AsSpan(second), body.Length, type: 0x0, flags: 0x1, stream: 0);
        body.CopyTo(frames, second + 9);
        return new Prepared(frames, second);

        static void Literal(ArrayBufferWriter<byte> to, string text)
        {
            var left = text.Length - 127;
            to.Write<byte>([(byte)Math.Min(text.Length, 127)]);
            if (left >= 0)
            {
                for (; left >= 128; left >>= 7)
                    to.Write<byte>([(byte)(left | 128)]);
                to.Write<byte>([(byte)left]);
            }
            Encoding.ASCII.GetBytes(text, to);
        }
    }
}

/// <summary>
/// One HTTP/2 connection over TLS with a client certificate that sends prepared calls and takes their answers with as little work as
/// possible, so that it can make more load than a service on the same processors can serve. Answers are parsed only after the measurement.
/// It keeps to the server's limits of calls and bytes.
/// </summary>
internal sealed class Wire : IAsyncDisposable
{
    private readonly SslStream _tls;
    private readonly Lock _lock = new();
    private readonly Dictionary<int, Prepared> _open = [];
    private readonly Queue<Prepared> _waiting = [];
    private readonly SemaphoreSlim _some = new(0);
    private readonly Action<Wire, Prepared> _done;
    private readonly Task _reading,
        _writing;
    private ArrayBufferWriter<byte> _filled = new(1 << 16),
        _sent = new(1 << 16);
    private int _next = 1,
        _allowed = 100;
    private long _window = 65535;
    private bool _ended;

    private Wire(SslStream tls, Action<Wire, Prepared> done)
    {
        (_tls, _done) = (tls, done);
        _filled.Write("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"u8);
        // No dynamic table, so that each block of header fields can be read alone; no push; answers of any length.
        Span<byte> settings = stackalloc byte[9 + 18 + 13];
        Head(settings, 18, type: 0x4, flags: 0, stream: 0);
        foreach (var (i, id, value) in (ReadOnlySpan<(int, ushort, uint)>)[(0, 0x1, 0), (1, 0x2, 0), (2, 0x4, int.MaxValue)])
        {
            BinaryPrimitives.WriteUInt16BigEndian(settings[(9 + 6 * i)..], id);
            BinaryPrimitives.WriteUInt32BigEndian(settings[(11 + 6 * i)..], value);
        }
        Head(settings[27..], 4, type: 0x8, flags: 0, stream: 0);
        BinaryPrimitives.WriteInt32BigEndian(settings[36..], int.MaxValue - 65535);
        _filled.Write(settings);
        (_reading, _writing) = (Task.Run(Read), Task.Run(Write));
        Flush();
    }

    /// <summary>Connects.</summary>
    /// <param name="service">Where.</param>
    /// <param name="certificate">The participant's.</param>
    /// <param name="done">Called for each call that has its answer.</param>
    public static async Task<Wire> Open(Uri service, X509Certificate2 certificate, Action<Wire, Prepared> done)
    {
        var tcp = new TcpClient { NoDelay = true };
        await tcp.ConnectAsync(service.Host, service.Port);
        var tls = new SslStream(tcp.GetStream());
        await tls.AuthenticateAsClientAsync(
            new SslClientAuthenticationOptions
            {
                TargetHost = service.Host,
                EnabledSslProtocols = SslProtocols.Tls13,
                ApplicationProtocols = [SslApplicationProtocol.Http2],
                ClientCertificates = [certificate],
                LocalCertificateSelectionCallback = (_, _, _, _, _) => certificate,
                // The server's certificate is not checked, because this process started the server.
                RemoteCertificateValidationCallback = (_, _, _, _) => true,
            }
        );
        return new Wire(tls, done);
    }

    /// <summary>Why the connection ended; null: it goes on.</summary>
    public Exception? Fault { get; private set; }

    /// <summary>Queues a call for <see cref="Flush"/>, or lets it wait until the server allows another.</summary>
    public void Send(Prepared call)
    {
        lock (_lock)
            Put(call);
    }

    public void Flush() => _some.Release();

    private void Put(Prepared call)
    {
        if (_open.Count >= _allowed || _window < call.Body)
        {
            _waiting.Enqueue(call);
            return;
        }
        (call.Sent, call.Done, call.Status, call.Details, call.Response) = (Stopwatch.GetTimestamp(), 0, -1, null, []);
        _window -= call.Body;
        _open[_next] = call;
        var to = _filled.GetSpan(call.Frames.Length);
        call.Frames.CopyTo(to);
        BinaryPrimitives.WriteInt32BigEndian(to[5..], _next);
        BinaryPrimitives.WriteInt32BigEndian(to[(call.Second + 5)..], _next);
        _filled.Advance(call.Frames.Length);
        _next += 2;
    }

    private async Task Write()
    {
        try
        {
            while (true)
            {
                await _some.WaitAsync();
                while (_some.Wait(0)) { }
                lock (_lock)
                {
                    if (_ended)
                        return;
                    (_filled, _sent) = (_sent, _filled);
                }
                if (_sent.WrittenCount > 0)
                    await _tls.WriteAsync(_sent.WrittenMemory);
                _sent.ResetWrittenCount();
            }
        }
        catch (Exception e)
        {
            Fault ??= e;
        }
    }

    private async Task Read()
    {
        try
        {
            var buffer = new byte[1 << 18];
            var (start, end) = (0, 0);
            while (await _tls.ReadAsync(buffer.AsMemory(end)) is > 0 and var read)
            {
                end += read;
                while (end - start >= 9)
                {
                    var length = (int)(BinaryPrimitives.ReadUInt32BigEndian(buffer.AsSpan(start)) >> 8);
                    if (end - start < 9 + length)
                        break;
                    Take(
                        buffer[start + 3],
                        buffer[start + 4],
                        BinaryPrimitives.ReadInt32BigEndian(buffer.AsSpan(start + 5)) & int.MaxValue,
                        buffer.AsSpan(start + 9, length)
                    );
                    start += 9 + length;
                }
                Flush();
                buffer.AsSpan(start, end - start).CopyTo(buffer);
                (start, end) = (0, end - start);
            }
            if (!_ended)
                Fault ??= new IOException("the server closed the connection");
        }
        catch (Exception e)
        {
            if (!_ended)
                Fault ??= e;
        }
    }

    private void Take(byte type, byte flags, int stream, ReadOnlySpan<byte> payload)
    {
        switch (type)
        {
            // A stream that has its answer may be reset (0x3) without an error, because the rest of the request is not needed.
            case 0x0 or 0x1 or 0x3:
                Prepared? call;
                lock (_lock)
                    call = _open.GetValueOrDefault(stream);
                if (call is null)
                    break;
                if (type == 0x0)
                    call.Response = [.. call.Response, .. payload];
                else if (type == 0x1 && (flags & 0x4) == 0)
                    throw new InvalidDataException("header fields in several frames");
                else if (type == 0x1)
                    Fields(payload, call);
                if (type == 0x3 || (flags & 0x1) != 0)
                    Done(stream, call);
                break;
            case 0x4 when (flags & 0x1) == 0:
                lock (_lock)
                {
                    for (; payload.Length >= 6; payload = payload[6..])
                        if (BinaryPrimitives.ReadUInt16BigEndian(payload) == 0x3)
                            _allowed = (int)Math.Min(int.MaxValue, BinaryPrimitives.ReadUInt32BigEndian(payload[2..]));
                    Head(_filled.GetSpan(9), 0, type: 0x4, flags: 0x1, stream: 0);
                    _filled.Advance(9);
                    Unblock();
                }
                break;
            case 0x6 when (flags & 0x1) == 0:
                lock (_lock)
                {
                    Head(_filled.GetSpan(9), 8, type: 0x6, flags: 0x1, stream: 0);
                    _filled.Advance(9);
                    _filled.Write(payload);
                }
                break;
            case 0x7:
                throw new IOException("the server wants the connection to end");
            case 0x8 when stream == 0:
                lock (_lock)
                {
                    _window += BinaryPrimitives.ReadInt32BigEndian(payload);
                    Unblock();
                }
                break;
        }
    }

    private void Done(int stream, Prepared call)
    {
        call.Done = Stopwatch.GetTimestamp();
        lock (_lock)
        {
            _open.Remove(stream);
            Unblock();
        }
        _done(this, call);
    }

    private void Unblock()
    {
        for (var count = _waiting.Count; count > 0 && _open.Count < _allowed && _window >= _waiting.Peek().Body; count--)
            Put(_waiting.Dequeue());
    }

    // A block of header fields (RFC 7541) as a server without a dynamic table and without Huffman's code writes it.
    private static void Fields(ReadOnlySpan<byte> block, Prepared call)
    {
        while (block.Length > 0)
        {
            var first = block[0];
            if ((first & 0x80) != 0)
                Integer(ref block, 7);
            else if ((first & 0xe0) == 0x20)
                Integer(ref block, 5);
            else
            {
                var name = Integer(ref block, (first & 0x40) != 0 ? 6 : 4) == 0 ? Text(ref block) : default;
                var value = Text(ref block);
                if (name.SequenceEqual("grpc-status"u8))
                    call.Status = int.Parse(value, CultureInfo.InvariantCulture);
                else if (name.SequenceEqual("grpc-status-details-bin"u8))
                    call.Details = Encoding.ASCII.GetString(value);
            }
        }

        static int Integer(ref ReadOnlySpan<byte> from, int bits)
        {
            var value = from[0] & (1 << bits) - 1;
            from = from[1..];
            if (value < (1 << bits) - 1)
                return value;
            for (var shift = 0; ; shift += 7)
            {
                var next = from[0];
                from = from[1..];
                value += (next & 127) << shift;
                if (next < 128)
                    return value;
            }
        }

        static ReadOnlySpan<byte> Text(ref ReadOnlySpan<byte> from)
        {
            if ((from[0] & 0x80) != 0)
                throw new InvalidDataException("a field in Huffman's code");
            var length = Integer(ref from, 7);
            var text = from[..length];
            from = from[length..];
            return text;
        }
    }

    internal static void Head(Span<byte> frame, int length, byte type, byte flags, int stream)
    {
        BinaryPrimitives.WriteUInt32BigEndian(frame, (uint)length << 8 | type);
        frame[4] = flags;
        BinaryPrimitives.WriteInt32BigEndian(frame[5..], stream);
    }

    public async ValueTask DisposeAsync()
    {
        lock (_lock)
            _ended = true;
        Flush();
        await _writing;
        await _tls.DisposeAsync();
        await _reading;
    }
}
