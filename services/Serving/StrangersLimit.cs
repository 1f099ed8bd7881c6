using Microsoft.AspNetCore.Connections;

namespace Ministries.Serving;

/// <summary>Limits the connections of strangers to a listener. If there is one too many, another one is closed
/// (<see cref="Newcomers{T}"/>), so that nobody can shut others out by holding connections.</summary>
/// <param name="most">How many there may be.</param>
/// <param name="mostOfAddress">How many of them may be of one address.</param>
public sealed class StrangersLimit(int most, int mostOfAddress)
{
    private readonly Lock _lock = new();
    private readonly Newcomers<ConnectionContext> _strangers = new(most, mostOfAddress);

    /// <summary>How many there are.</summary>
    public int Count
    {
        get
        {
            lock (_lock)
                return _strangers.Count;
        }
    }

    /// <summary>Before anything is read: holds the connection as a stranger's, until it ends or <see cref="Release"/> is called.</summary>
    public ConnectionDelegate Hold(ConnectionDelegate next) =>
        async connection =>
        {
            ConnectionContext? displaced;
            lock (_lock)
                displaced = _strangers.Add(connection, Addresses.Of(connection.RemoteEndPoint));
            displaced?.Abort(new ConnectionAbortedException("a newer connection took its place"));
            try
            {
                await next(connection);
            }
            finally
            {
                Release(connection);
            }
        };

    /// <summary>The peer has identified itself, so its connection no longer counts as a stranger's.</summary>
    /// <returns>False: it had none.</returns>
    public bool Release(ConnectionContext connection)
    {
        lock (_lock)
            return _strangers.Remove(connection);
    }
}
