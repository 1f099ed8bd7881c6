using System.Buffers.Binary;
using System.Net;
using System.Net.Sockets;

namespace Ministries.Bus.Tests;

/// <summary>A proxy between the services and the broker.</summary>
internal sealed class Proxy : IAsyncDisposable
{
    private readonly TcpListener _listener = new(IPAddress.Loopback, 0);
    private readonly CancellationTokenSource _stop = new();
    private readonly int _to;
    private volatile bool _stalled,
        _swallows;

    public Proxy(int to)
    {
        _to = to;
        _listener.Start();
        _ = Serve();
    }

    public int Port => ((IPEndPoint)_listener.LocalEndpoint).Port;

    /// <summary>Whether only the watchdog's own connections go on.</summary>
    public bool IsStalled
    {
        get => _stalled;
        set => _stalled = value;
    }

    /// <summary>Whether the broker seems to deliver no message, on any connection, while it answers everything else.</summary>
    public bool Swallows
    {
        get => _swallows;
        set => _swallows = value;
    }

    public async ValueTask DisposeAsync()
    {
        await _stop.CancelAsync();
        _listener.Stop();
    }

    private async Task Serve()
    {
        while (!_stop.IsCancellationRequested)
        {
            var client = await _listener.AcceptTcpClientAsync(_stop.Token);
            _ = Relay(client);
        }
    }

    private async Task Relay(TcpClient client)
    {
        using (client)
        using (var server = new TcpClient())
        {
            client.NoDelay = server.NoDelay = true;
            await server.ConnectAsync(IPAddress.Loopback, _to, _stop.Token);
            bool? watchdog = null;
            await Task.WhenAny(ToServer(client.GetStream(), server.GetStream()), ToClient(server.GetStream(), client.GetStream()));

            async Task ToServer(Stream from, Stream into)
            {
                var buffer = new byte[65536];
                while (await from.ReadAsync(buffer, _stop.Token) is var read and > 0)
                {
                    // The client's name is in the properties that it sends after the header of the protocol, which has 8 bytes.
                    watchdog ??= read == 8 ? null : buffer.AsSpan(0, read).IndexOf("watchdog"u8) >= 0;
                    await MayPass();
                    await into.WriteAsync(buffer.AsMemory(0, read), _stop.Token);
                }
            }

            async Task ToClient(Stream from, Stream into)
            {
                // A frame has a type, a channel, a length, so many bytes, and an octet at its end (AMQP 0-9-1, 4.2.3).
                var (head, swallowed) = (new byte[7], new HashSet<ushort>());
                while (await from.ReadAtLeastAsync(head, head.Length, throwOnEndOfStream: false, _stop.Token) == head.Length)
                {
                    var rest = new byte[BinaryPrimitives.ReadUInt32BigEndian(head.AsSpan(3)) + 1];
                    await from.ReadExactlyAsync(rest, _stop.Token);
                    await MayPass();
                    if (IsSwallowed(head, rest, swallowed))
                        continue;
                    await into.WriteAsync(head, _stop.Token);
                    await into.WriteAsync(rest, _stop.Token);
                }
            }

            async Task MayPass()
            {
                while (_stalled && watchdog == false)
                    await Task.Delay(100, _stop.Token);
            }
        }
    }

    // A message is basic.deliver (60, 60), and then its header and body in frames of their own on the same channel.
    private bool IsSwallowed(byte[] head, byte[] payload, HashSet<ushort> swallowed)
    {
        const byte method = 1,
            heartbeat = 8;
        const uint deliver = 60 << 16 | 60;
        var channel = BinaryPrimitives.ReadUInt16BigEndian(head.AsSpan(1));
        if (head[0] == heartbeat)
            return false;
        if (head[0] != method)
            return swallowed.Contains(channel);
        if (_swallows && BinaryPrimitives.ReadUInt32BigEndian(payload) == deliver)
        {
            swallowed.Add(channel);
            return true;
        }
        swallowed.Remove(channel);
        return false;
    }
}
