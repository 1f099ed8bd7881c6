using System.Net;

namespace Ministries.Serving;

/// <summary>
/// Connections whose peers are not known yet, limited in all and for each address. A newcomer is never turned away, because it may be one
/// that must be served, even from an address that is used for an attack. Instead another connection is closed: the oldest of the newcomer's
/// address where that has reached its limit, else the oldest of the address that has the most. So an attacker displaces its own
/// connections. Where no address has more than a few, the attack comes from many addresses, and the oldest of all is closed: an honest peer
/// needs only milliseconds. Not safe for several threads at once.
/// </summary>
/// <param name="most">How many there may be.</param>
/// <param name="mostOfAddress">How many of them may be of one address.</param>
/// <typeparam name="T">A connection.</typeparam>
public sealed class Newcomers<T>(int most, int mostOfAddress)
    where T : class
{
    /// <summary>Up to this many connections of one address are not closed before those of other addresses: 8.</summary>
    private const int Few = 8;

    private readonly LinkedList<T> _all = [];
    private readonly Dictionary<IPAddress, LinkedList<T>> _byAddress = [];
    private readonly Dictionary<T, (LinkedListNode<T> All, LinkedListNode<T> OfAddress, IPAddress Address)> _places = [];

    /// <summary>How many there are.</summary>
    public int Count => _all.Count;

    /// <summary>Adds a connection that is not here.</summary>
    /// <param name="connection">The connection.</param>
    /// <param name="address">Its peer's address: <see cref="Addresses.Of"/>.</param>
    /// <returns>The connection that must be closed for it, already removed; null: there is room.</returns>
    public T? Add(T connection, IPAddress address)
    {
        var displaced =
            _byAddress.TryGetValue(address, out var own) && own.Count >= mostOfAddress ? own.First!.Value
            : _all.Count < most ? null
            : _byAddress.Values.MaxBy(a => a.Count) is { Count: > Few } greatest ? greatest.First!.Value
            : _all.First!.Value;
        if (displaced is not null)
            Remove(displaced);
        if (!_byAddress.TryGetValue(address, out own))
            _byAddress[address] = own = [];
        _places.Add(connection, (_all.AddLast(connection), own.AddLast(connection), address));
        return displaced;
    }

    /// <summary>Removes a connection; false: it was not here.</summary>
    public bool Remove(T connection)
    {
        if (!_places.Remove(connection, out var place))
            return false;
        _all.Remove(place.All);
        var own = _byAddress[place.Address];
        own.Remove(place.OfAddress);
        if (own.Count == 0)
            _byAddress.Remove(place.Address);
        return true;
    }
}
