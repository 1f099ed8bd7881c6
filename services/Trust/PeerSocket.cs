using System.Net.Sockets;

namespace Ministries.Trust;

/// <summary>
/// Sockets that notice within <see cref="Silence"/> that the machine at the other end is gone or cut off. A machine that dies closes no
/// connection: without this, the operating system waits about two hours on an idle connection, and about fifteen minutes on one that has
/// sent something.
/// </summary>
public static class PeerSocket
{
    /// <summary>After how much silence of the other end's machine a connection ends: 5 seconds.</summary>
    public static readonly TimeSpan Silence = TimeSpan.FromSeconds(5);

    private const int Tcp = 6,
        UserTimeout = 18;

    /// <summary>Sets keep-alive for a connection that is idle (a probe after 2 s, then one each second, given up after the third), and on
    /// Linux the limit for bytes that the other end does not acknowledge (RFC 5482; <c>TCP_USER_TIMEOUT</c> of tcp(7)).</summary>
    public static void Limit(Socket socket)
    {
        socket.NoDelay = true;
        socket.SetSocketOption(SocketOptionLevel.Socket, SocketOptionName.KeepAlive, true);
        socket.SetSocketOption(SocketOptionLevel.Tcp, SocketOptionName.TcpKeepAliveTime, 2);
        socket.SetSocketOption(SocketOptionLevel.Tcp, SocketOptionName.TcpKeepAliveInterval, 1);
        socket.SetSocketOption(SocketOptionLevel.Tcp, SocketOptionName.TcpKeepAliveRetryCount, 3);
        if (!OperatingSystem.IsLinux())
            return;
        Span<byte> milliseconds = stackalloc byte[sizeof(int)];
        BitConverter.TryWriteBytes(milliseconds, (int)Silence.TotalMilliseconds);
        socket.SetRawSocketOption(Tcp, UserTimeout, milliseconds);
    }
}
