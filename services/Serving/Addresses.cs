using System.Net;
using System.Net.Sockets;

namespace Ministries.Serving;

/// <summary>Addresses of peers, and of listeners.</summary>
public static class Addresses
{
    /// <summary>The address by which a peer counts. Of an IPv6 address only the first 64 bits count, because one host may have all
    /// addresses that begin with them.</summary>
    /// <param name="remote">Where the peer is.</param>
    public static IPAddress Of(EndPoint? remote)
    {
        if (remote is not IPEndPoint { Address: var address })
            return IPAddress.None;
        if (address.IsIPv4MappedToIPv6)
            return address.MapToIPv4();
        if (address.AddressFamily != AddressFamily.InterNetworkV6)
            return address;
        var bytes = address.GetAddressBytes();
        bytes.AsSpan(8).Clear();
        return new IPAddress(bytes);
    }

    /// <summary>The addresses of this machine that a setting names. A host's name is resolved to its addresses. On a machine with several
    /// networks this selects one of them.</summary>
    /// <param name="listen">The setting, such as <c>https://10.0.0.7:7120</c>.</param>
    /// <exception cref="SocketException">The name has no address.</exception>
    public static IReadOnlyList<IPEndPoint> OwnOf(Uri listen) =>
        FixedOf(listen) is { } address ? [address] : [.. Dns.GetHostAddresses(listen.Host).Select(a => new IPEndPoint(a, listen.Port))];

    /// <summary>Where a server listens: at the address that a setting gives; or, if the setting gives a host's name, at every IPv6 and IPv4
    /// address of the machine.</summary>
    /// <param name="listen">The setting.</param>
    public static IPEndPoint EveryOf(Uri listen) =>
        FixedOf(listen) ?? new(Socket.OSSupportsIPv6 ? IPAddress.IPv6Any : IPAddress.Any, listen.Port);

    /// <summary>The address that a setting gives in figures or as <c>localhost</c>; null: it gives another name.</summary>
    /// <param name="listen">The setting.</param>
    public static IPEndPoint? FixedOf(Uri listen) =>
        IPAddress.TryParse(listen.Host.Trim('[', ']'), out var address) ? new IPEndPoint(address, listen.Port)
        : listen.Host == "localhost" ? new IPEndPoint(IPAddress.Loopback, listen.Port)
        : null;
}
