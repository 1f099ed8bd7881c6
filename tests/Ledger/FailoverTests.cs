using System.Net;
using System.Net.Sockets;
using Ministries.Fixtures;
using Npgsql;
using static Ministries.Ledger.Tests.Counting;

namespace Ministries.Ledger.Tests;

/// <summary>A ledger whose connection names several servers uses the one that is the primary, and turns to another one that became it.
/// </summary>
public sealed class FailoverTests : IAsyncLifetime
{
    private readonly string _folder = Directory.CreateTempSubdirectory("ministries-failover-").FullName;
    private Postgres _first = null!;
    private Postgres? _second;
    private string _connection = null!;

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    public async ValueTask InitializeAsync()
    {
        _first = await Postgres.Create();
        _connection = await _first.CreateDatabase();
    }

    public ValueTask DisposeAsync()
    {
        _first.Stop();
        _second?.Stop();
        if (Directory.Exists(_folder))
            Directory.Delete(_folder, recursive: true);
        return ValueTask.CompletedTask;
    }

    [Fact]
    public async Task A_server_that_hangs_does_not_keep_the_primary_from_being_found()
    {
        // It accepts connections, and never answers.
        using var hangs = new TcpListener(IPAddress.Loopback, 0);
        hangs.Start();
        var named = Named(((IPEndPoint)hangs.LocalEndpoint).Port, PortOf(_connection));
        await using var ledger = await ServiceLedger.Open(Options(named), Cancel);
        Assert.Equal(0UL, (await ledger.Commit(Add("a", "0", "c"), Cancel)).Position);
        Assert.Equal(1, await new PostgresServers(new(named)).Primary(Cancel));
    }

    [Fact]
    public async Task Of_two_that_take_themselves_for_the_primary_the_one_with_the_later_timeline_is()
    {
        var port = await Succeed();
        Assert.Equal(0, await new PostgresServers(new(Named(port, PortOf(_connection)))).Primary(Cancel));
        Assert.Equal(1, await new PostgresServers(new(Named(PortOf(_connection), port))).Primary(Cancel));
    }

    [Fact]
    public async Task None_that_answers_is_the_primary()
    {
        var servers = new PostgresServers(new(Named(Ports.Free(), Ports.Free())));
        await Assert.ThrowsAsync<NpgsqlException>(async () => await servers.Primary(Cancel));
    }

    [Theory]
    [InlineData("", 5, true, 2, 1)]
    [InlineData("Timeout=30", 30, true, 2, 1)]
    [InlineData("Tcp Keepalive=true;Tcp Keepalive Time=60", 5, true, 60, 0)]
    [InlineData("Timeout=15;Tcp Keepalive=false", 15, false, 0, 0)]
    // TCP's keep-alive fails on a socket of the same machine.
    [InlineData("Host=/var/run/postgresql", 5, false, 0, 0)]
    [InlineData("Host=/var/run/postgresql,one", 5, false, 0, 0)]
    public void A_connection_notices_a_silent_server_as_its_string_says_or_soon(
        string said,
        int timeout,
        bool keepAlive,
        int time,
        int interval
    )
    {
        var used = new NpgsqlConnectionStringBuilder(new PostgresServers(new($"Host=one;{said}")).Connections[0]);
        Assert.Equal(
            (timeout, keepAlive, time, interval),
            (used.Timeout, used.TcpKeepAlive, used.TcpKeepAliveTime, used.TcpKeepAliveInterval)
        );
    }

    [Fact]
    public async Task An_idle_connection_to_a_single_server_is_probed_every_2_s()
    {
        Assert.SkipUnless(OperatingSystem.IsLinux(), "only Linux says what it does with a connection");
        await using var ledger = await ServiceLedger.Open(Options(_connection), Cancel);
        await ledger.Commit(Add("a", "0", "c"), Cancel);
        Assert.Contains(await KernelSockets.Probes(PortOf(_connection), ofServer: false), s => s <= 2);
    }

    [Fact]
    public async Task A_commit_that_hangs_is_given_up_once_another_server_is_the_primary_and_the_same_command_succeeds_there()
    {
        // The second server comes to be at a port that is named before.
        var port = Ports.Free();
        var options = Options(Named(PortOf(_connection), port));
        await using var ledger = await ServiceLedger.Open(
            new LedgerOptions
            {
                Service = options.Service,
                Kinds = options.Kinds,
                Connection = options.Connection,
                Key = options.Key,
                CheckpointFile = options.CheckpointFile,
                // It is not for this that the commit ends.
                CommitPatience = TimeSpan.FromMinutes(10),
            },
            Cancel
        );
        await ledger.Commit(Add("a", "0", "c"), Cancel);
        await Succeed(port);
        // From now on the first one's commits wait for a standby that is not there.
        await Demand("nowhere");
        await Assert.ThrowsAsync<CommitOutcomeUnknownException>(() => ledger.Commit(Add("a", "1", "c"), Cancel));
        var outcome = await ledger.Commit(Add("a", "1", "c"), Cancel);
        Assert.Equal((false, 1UL), (outcome.Repeated, outcome.Position));
    }

    /// <summary>Makes a second server, which goes on from what the first one has, on a later timeline. Returns its port.</summary>
    private async Task<int> Succeed(int? port = null)
    {
        using var receiving = await _first.BackUp(_folder);
        receiving.Kill();
        await receiving.WaitForExitAsync(Cancel);
        await Demand("");
        _second = await Postgres.Recover(_first, _folder, port);
        return PortOf(_second.On(_connection));
    }

    private async Task Demand(string standby)
    {
        await _first.Execute($"alter system set synchronous_standby_names = '{standby}'");
        await _first.Execute("select pg_reload_conf()");
        // The setting reaches a session between two of its statements.
        await using var open = new NpgsqlConnection(new NpgsqlConnectionStringBuilder(_connection) { Pooling = false }.ToString());
        await open.OpenAsync(Cancel);
        await using var ask = new NpgsqlCommand("show synchronous_standby_names", open);
        while (await ask.ExecuteScalarAsync(Cancel) as string != standby)
            await Task.Delay(20, Cancel);
    }

    private string Named(int first, int second) =>
        new NpgsqlConnectionStringBuilder(_connection)
        {
            Host = $"127.0.0.1:{first},127.0.0.1:{second}",
            TargetSessionAttributes = "primary",
        }.ToString();

    private static int PortOf(string connection) => new NpgsqlConnectionStringBuilder(connection).Port;
}
