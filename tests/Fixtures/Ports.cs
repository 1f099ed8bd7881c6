using System.Net;
using System.Net.Sockets;

namespace Ministries.Fixtures;

/// <summary>Ports for servers that are started again at the same one.</summary>
public static class Ports
{
    private static readonly HashSet<int> Given = [];

    /// <summary>A port of the loopback address that nobody listens at, below those that the system gives to outgoing connections:
    /// while a server is down, a connection to its port might otherwise be given that very port, and keep it.</summary>
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
                // Somebody does.
            }
        }
    }
}
