using System.Diagnostics;
using Npgsql;

namespace Ministries.Ledger;

/// <summary>
/// The servers of a connection string, one of which is the primary. All are asked at once: a server that hangs accepts connections but does
/// not answer, so asking one after the other, as Npgsql does, would wait for it each time. If two servers claim to be the primary, the one
/// with the later timeline is, because a server that was cut off does not know that it was replaced.
/// </summary>
internal sealed class PostgresServers
{
    /// <summary>The least time between two searches, and how long a search that has found a primary still waits for a better one.</summary>
    private static readonly TimeSpan Pause = TimeSpan.FromMilliseconds(200);

    /// <summary>How long a found server is taken for the primary, even if calls to it fail.</summary>
    private static readonly TimeSpan Trust = TimeSpan.FromSeconds(1);

    /// <summary>How long a server has for its answer.</summary>
    private const int Seconds = 2;

    /// <summary>How long a statement may go unanswered before the servers are asked which of them is the primary.</summary>
    private static readonly TimeSpan Doubt = TimeSpan.FromSeconds(2);

    /// <summary>How long connecting may take, unless the connection string says otherwise.</summary>
    private const int ConnectSeconds = 5;

    private const string Question =
        "select case when pg_is_in_recovery() then 0 else "
        + "('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int end";

    private readonly object _access = new();
    private readonly string[] _probes;
    private readonly CancellationTokenSource[] _replaced;
    private int? _primary;
    private Task<int>? _search;
    private long _searched;
    private long _found;

    /// <param name="connection">A Npgsql connection string with one host, or several with commas between them.</param>
    public PostgresServers(NpgsqlConnectionStringBuilder connection)
    {
        Connections = [.. connection.Host!.Split(',', StringSplitOptions.TrimEntries).Select(One)];
        _probes = [.. Connections.Select(c => Probe(new(c)))];
        _replaced = [.. Connections.Select(_ => new CancellationTokenSource())];
        if (Connections.Count == 1)
            _primary = 0;

        string One(string host)
        {
            var one = new NpgsqlConnectionStringBuilder(connection.ConnectionString) { Host = host, TargetSessionAttributes = null };
            NoticeSilence(one);
            return one.ConnectionString;
        }

        static string Probe(NpgsqlConnectionStringBuilder probe)
        {
            (probe.Pooling, probe.Timeout, probe.CommandTimeout) = (false, Seconds, Seconds);
            return probe.ConnectionString;
        }
    }

    /// <summary>A connection string for each server.</summary>
    public IReadOnlyList<string> Connections { get; }

    // A server whose machine died or was cut off says nothing. Without this, connecting to it takes 15 s, and an idle connection to it
    // lasts for two hours and fails whoever uses it first. What the connection string says itself is left as it is.
    private static void NoticeSilence(NpgsqlConnectionStringBuilder connection)
    {
        var said = connection.Keys.Cast<string>().ToHashSet(StringComparer.OrdinalIgnoreCase);
        if (!said.Contains(nameof(connection.Timeout)))
            connection.Timeout = ConnectSeconds;
        // A socket of the same machine knows no keep-alive of TCP.
        if (connection.Host is ['/' or '@', ..] || said.Any(key => key.StartsWith("TCP Keepalive", StringComparison.OrdinalIgnoreCase)))
            return;
        (connection.TcpKeepAlive, connection.TcpKeepAliveTime, connection.TcpKeepAliveInterval) = (true, 2, 1);
    }

    /// <summary>The number of the server that is the primary, as far as is known.</summary>
    /// <exception cref="NpgsqlException">None is, of those that answer.</exception>
    public ValueTask<int> Primary(CancellationToken cancel)
    {
        lock (_access)
            return _primary is { } known ? new(known) : new(Search().WaitAsync(cancel));
    }

    /// <summary>Cancelled when another server turns out to be the primary.</summary>
    /// <param name="server">The server's number.</param>
    public CancellationToken Replaced(int server)
    {
        lock (_access)
            return _replaced[server].Token;
    }

    /// <summary>Makes the next use search for the primary again, unless it was found just now: a call that fails now may have waited for
    /// the previous primary.</summary>
    /// <returns>Whether connections are to be dropped, since they may have died with the server.</returns>
    public bool Forget()
    {
        if (Connections.Count == 1)
            return true;
        lock (_access)
        {
            if (_primary is not null && Stopwatch.GetElapsedTime(_found) < Trust)
                return false;
            _primary = null;
            return true;
        }
    }

    /// <summary>Whether another server has become the primary, while this one has not answered a statement for a while. Returns at once;
    /// the servers are asked in the background.</summary>
    /// <param name="server">The server's number.</param>
    /// <param name="waited">How long it has not answered.</param>
    public bool IsReplaced(int server, TimeSpan waited)
    {
        if (Connections.Count == 1 || waited < Doubt)
            return false;
        lock (_access)
        {
            if (_primary is { } known && known != server)
                return true;
            Search();
            return false;
        }
    }

    // One search at a time.
    private Task<int> Search()
    {
        if (_search is { IsCompleted: false } || _search is not null && Stopwatch.GetElapsedTime(_searched) < Pause)
            return _search;
        _searched = Stopwatch.GetTimestamp();
        return _search = Task.Run(Find);
    }

    private async Task<int> Find()
    {
        using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(Seconds));
        var asked = _probes.Select((probe, server) => Ask(server, probe, limit.Token)).ToList();
        var (primary, latest) = (-1, 0);
        var enough = Task.Delay(Timeout.Infinite, limit.Token);
        while (asked.Count > 0 && await Task.WhenAny([.. asked, enough]) is Task<(int Server, int Timeline)> answered)
        {
            asked.Remove(answered);
            var (server, timeline) = await answered;
            if (timeline <= latest)
                continue;
            (primary, latest) = (server, timeline);
            enough = Task.Delay(Pause, CancellationToken.None);
        }
        await limit.CancelAsync();
        if (primary < 0)
            throw new NpgsqlException("none of the servers that answer is the primary");
        Take(primary);
        return primary;
    }

    private void Take(int primary)
    {
        List<CancellationTokenSource> replaced = [];
        lock (_access)
        {
            (_primary, _found) = (primary, Stopwatch.GetTimestamp());
            for (var server = 0; server < _replaced.Length; server++)
                if (server != primary)
                {
                    replaced.Add(_replaced[server]);
                    _replaced[server] = new CancellationTokenSource();
                }
        }
        foreach (var source in replaced)
            _ = source.CancelAsync();
    }

    // The server's timeline, 0 where it is a standby or does not answer.
    private static async Task<(int Server, int Timeline)> Ask(int server, string probe, CancellationToken cancel)
    {
        try
        {
            await using var connection = new NpgsqlConnection(probe);
            await connection.OpenAsync(cancel);
            await using var question = new NpgsqlCommand(Question, connection);
            return (server, (int)(await question.ExecuteScalarAsync(cancel))!);
        }
        catch (Exception e)
            when (e
                    is NpgsqlException
                        or TimeoutException
                        or IOException
                        or System.Net.Sockets.SocketException
                        or OperationCanceledException
            )
        {
            return (server, 0);
        }
    }
}
