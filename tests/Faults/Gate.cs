using System.Net;
using System.Net.Sockets;

namespace Ministries.Faults.Tests;

/// <summary>The way from a service to what it talks to. While it is cut, nothing comes through in either direction and nobody is told, as
/// when a network is split; afterwards what was sent meanwhile arrives.</summary>
internal sealed class Gate : IDisposable
{
    private readonly TcpListener _listener = new(IPAddress.Loopback, 0);
    private readonly CancellationTokenSource _end = new();
    private readonly int _to;
    private volatile TaskCompletionSource _open = Opened();

    /// <summary>A way to a port of this machine.</summary>
    public Gate(int to)
    {
        _to = to;
        _listener.Start();
        _ = Accept();
    }

    /// <summary>Where it begins.</summary>
    public int Port => ((IPEndPoint)_listener.LocalEndpoint).Port;

    /// <summary>Cuts it.</summary>
    public void Cut()
    {
        if (_open.Task.IsCompleted)
            _open = new(TaskCreationOptions.RunContinuationsAsynchronously);
    }

    /// <summary>Opens it again.</summary>
    public void Heal() => _open.TrySetResult();

    public void Dispose()
    {
        _end.Cancel();
        _listener.Dispose();
    }

    private static TaskCompletionSource Opened()
    {
        var open = new TaskCompletionSource();
        open.SetResult();
        return open;
    }

    private async Task Accept()
    {
        try
        {
            while (true)
                _ = Pass(await _listener.AcceptSocketAsync(_end.Token));
        }
        catch (Exception e) when (e is OperationCanceledException or SocketException or ObjectDisposedException)
        {
            // The run has ended.
        }
    }

    private async Task Pass(Socket from)
    {
        using (from)
        using (var to = new Socket(SocketType.Stream, ProtocolType.Tcp))
            try
            {
                await _open.Task.WaitAsync(_end.Token);
                await to.ConnectAsync(IPAddress.Loopback, _to, _end.Token);
                // Either end's end is the other's.
                await Task.WhenAny(Pump(from, to), Pump(to, from));
            }
            catch (Exception e) when (e is OperationCanceledException or SocketException)
            {
                // What it leads to is not there.
            }
    }

    private async Task Pump(Socket from, Socket to)
    {
        var buffer = new byte[64 << 10];
        try
        {
            int read;
            while ((read = await from.ReceiveAsync(buffer, _end.Token)) > 0)
            {
                await _open.Task.WaitAsync(_end.Token);
                for (var sent = 0; sent < read; )
                    sent += await to.SendAsync(buffer.AsMemory(sent, read - sent), _end.Token);
            }
        }
        catch (Exception e) when (e is OperationCanceledException or SocketException or ObjectDisposedException)
        {
            // One of them has ended.
        }
    }
}
