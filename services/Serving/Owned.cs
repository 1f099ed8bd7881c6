namespace Ministries.Serving;

/// <summary>Connections of which it is known whose they are, counted for each owner. Not safe for several threads at once.</summary>
/// <typeparam name="T">A connection.</typeparam>
public sealed class Owned<T>
    where T : class
{
    private readonly Dictionary<T, string> _owners = [];
    private readonly Dictionary<string, int> _counts = [];

    /// <summary>All of them.</summary>
    public IReadOnlyCollection<T> All => _owners.Keys;

    /// <summary>How many there are.</summary>
    public int Count => _owners.Count;

    /// <summary>How many an owner has.</summary>
    public int CountOf(string owner) => _counts.GetValueOrDefault(owner);

    /// <summary>Adds a connection that is not here.</summary>
    public void Add(T connection, string owner)
    {
        _owners.Add(connection, owner);
        _counts[owner] = CountOf(owner) + 1;
    }

    /// <summary>Whether a connection is here.</summary>
    public bool Contains(T connection) => _owners.ContainsKey(connection);

    /// <summary>Removes a connection; false: it was not here.</summary>
    public bool Remove(T connection)
    {
        if (!_owners.Remove(connection, out var owner))
            return false;
        if (--_counts[owner] == 0)
            _counts.Remove(owner);
        return true;
    }
}
