using System.Net;
using System.Net.Sockets;

namespace Ministries.Fixtures;

/// <summary>Ports for servers that are restarted at the same port.</summary>
public static class Ports
{
    private static readonly HashSet<int> Given = [];

    /// <summary>A port of the loopback address that nobody listens at, below the range for outgoing connections. Otherwise an outgoing
    /// connection could take the port while the server is down.</summary>
    public static int Free()
    {
        while (true)
        {
            var port = Random.Shared.Next(20_000, 32_000);
            lock (Given)
                if (!Given.Add(port))
                    continue;
            using var listener = new TcpListener(IPAddress.Loopback, port);
            try
            {
                listener.Start();
                return port;
            }
            catch (SocketException)
            {
                // The port is in use.
            }
        }
    }
}
