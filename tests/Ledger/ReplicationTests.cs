using System.Diagnostics;
using Ministries.Fixtures;
using Npgsql;
using static Ministries.Ledger.Tests.Counting;

namespace Ministries.Ledger.Tests;

/// <summary>A commit is answered only when it is replicated. The server's standby does not exist, so every COMMIT waits for it until the
/// test says otherwise.</summary>
public sealed class ReplicationTests : IAsyncLifetime
{
    private Postgres _server = null!;
    private string _connection = null!;

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    public async ValueTask InitializeAsync()
    {
        _server = await Postgres.Create();
        _connection = await _server.CreateDatabase();
    }

    public ValueTask DisposeAsync()
    {
        _server.Stop();
        return ValueTask.CompletedTask;
    }

    /// <summary>From now on commits wait for a standby that is not there, or for none.</summary>
    private async Task Demand(bool standby)
    {
        await _server.Execute($"alter system set synchronous_standby_names = '{(standby ? "nowhere" : "")}'");
        await _server.Execute("select pg_reload_conf()");
        // The setting reaches a session between two of its statements.
        await Until(async () =>
            await Count("select count(*) from pg_settings where name = 'synchronous_standby_names' and setting <> ''") == (standby ? 1 : 0)
        );
    }

    private async Task<long> Count(string sql)
    {
        await using var open = new NpgsqlConnection(
            new NpgsqlConnectionStringBuilder(_connection) { Database = "postgres", Pooling = false }.ToString()
        );
        await open.OpenAsync(Cancel);
        await using var command = new NpgsqlCommand(sql, open);
        return (long)(await command.ExecuteScalarAsync(Cancel))!;
    }

    private const string Waiting = "pg_stat_activity where wait_event = 'SyncRep'";

    private Task UntilWaiting(int commits = 1) => Until(async () => await Count($"select count(*) from {Waiting}") == commits);

    private static async Task Until(Func<Task<bool>> condition)
    {
        var since = Stopwatch.StartNew();
        while (!await condition())
        {
            Assert.True(since.Elapsed < TimeSpan.FromSeconds(30));
            await Task.Delay(20, Cancel);
        }
    }

    private Task EndWaits(string function) => Count($"select count({function}(pid)) from {Waiting}");

    private Task<ServiceLedger> Open(double patience = 15, string? checkpoint = null)
    {
        var options = Options(_connection, checkpoint);
        return ServiceLedger.Open(
            new LedgerOptions
            {
                Service = options.Service,
                Kinds = options.Kinds,
                Connection = options.Connection,
                Key = options.Key,
                CheckpointFile = options.CheckpointFile,
                CommitPatience = TimeSpan.FromSeconds(patience),
                LockTimeout = TimeSpan.FromMilliseconds(300),
            },
            Cancel
        );
    }

    [Fact]
    public async Task The_cause_PostgreSQL_answers_a_commit_whose_wait_was_cancelled_as_done_with_a_warning()
    {
        await _server.Execute("create table plain (x int)", _connection);
        await Demand(standby: true);
        await using var open = new NpgsqlConnection(_connection);
        await open.OpenAsync(Cancel);
        var warnings = new List<string>();
        open.Notice += (_, e) => warnings.Add(e.Notice.SqlState);
        await using var transaction = await open.BeginTransactionAsync(Cancel);
        await using (var insert = new NpgsqlCommand("insert into plain values (1)", open, transaction))
            await insert.ExecuteNonQueryAsync(Cancel);
        var committing = Task.Run(() => transaction.Commit(), Cancel);
        await UntilWaiting();
        await EndWaits("pg_cancel_backend");
        await committing;
        Assert.Equal(["01000"], warnings);
        await Demand(standby: false);
    }

    [Theory]
    [InlineData("pg_cancel_backend")]
    [InlineData("pg_terminate_backend")]
    public async Task A_writer_whose_commit_is_not_replicated_is_answered_once_it_is(string ends)
    {
        await using var ledger = await Open();
        await ledger.Commit(Add("a", "0", "c"), Cancel);
        await using var other = await Open();
        await Demand(standby: true);
        var first = ledger.Commit(Add("a", "1", "c"), Cancel);
        await UntilWaiting();
        await EndWaits(ends);
        await Assert.ThrowsAsync<CommitOutcomeUnknownException>(() => first);
        // Now the entry is in the database, and a failover would lose it. Nobody is told of it: no writer, no reader, no follower, no
        // relay.
        Assert.Equal(2, await CountEntries());
        var again = ledger.Commit(Add("a", "1", "c"), Cancel);
        await UntilWaiting(1);
        var read = other.Find(Kind, "c", null, Cancel);
        var events = other.EventsAfter(0, 10, Cancel);
        await UntilWaiting(2);
        Assert.False(again.IsCompleted || read.IsCompleted || events.IsCompleted);
        Assert.Equal((1UL, 1UL), (ledger.Size, Key.Verify(ledger.LastSigned!.Text)!.Size));
        await Demand(standby: false);
        var outcome = await again;
        Assert.Equal((true, 1UL, 2UL), (outcome.Repeated, outcome.Position, outcome.CountOf()));
        Assert.Equal(2UL, (await read)!.State.Sequence);
        Assert.Equal(2, (await events).Count);
        await LedgerTests.Audit(ledger);
    }

    private async Task<long> CountEntries()
    {
        await using var open = new NpgsqlConnection(_connection);
        await open.OpenAsync(Cancel);
        await using var command = new NpgsqlCommand("select size from head", open);
        return (long)(await command.ExecuteScalarAsync(Cancel))!;
    }

    [Fact]
    public async Task A_commit_that_takes_too_long_is_not_cancelled_and_its_outcome_is_unknown_until_it_is_replicated()
    {
        await using var ledger = await Open(patience: 0.3);
        await ledger.Commit(Add("a", "0", "c"), Cancel);
        await Demand(standby: true);
        await Assert.ThrowsAsync<CommitOutcomeUnknownException>(() => ledger.Commit(Add("a", "1", "c"), Cancel));
        // It still waits, has the lock, and is seen by nobody.
        Assert.Equal(1, await Count($"select count(*) from {Waiting}"));
        Assert.Equal(1, await CountEntries());
        await Assert.ThrowsAsync<LedgerUnavailableException>(() => ledger.Commit(Add("a", "2", "c"), Cancel));
        await Assert.ThrowsAsync<LedgerUnavailableException>(() => ledger.Commit(Add("a", "1", "c"), Cancel));
        Assert.Equal(1, await Count($"select count(*) from {Waiting}"));
        Assert.Equal(1UL, (await ledger.Find(Kind, "c", null, Cancel))!.State.Sequence);
        await Demand(standby: false);
        await Until(async () => await CountEntries() == 2);
        var outcome = await ledger.Commit(Add("a", "1", "c"), Cancel);
        Assert.Equal((true, 1UL), (outcome.Repeated, outcome.Position));
        await LedgerTests.Audit(ledger);
    }

    [Fact]
    public async Task A_session_that_commits_has_no_time_limit_of_the_servers()
    {
        await _server.Execute("alter role postgres set statement_timeout = '50ms'");
        await using var ledger = await Open();
        await ledger.Commit(Add("a", "0", "c"), Cancel);
        await Demand(standby: true);
        var waiting = ledger.Commit(Add("a", "1", "c"), Cancel);
        await UntilWaiting();
        // It waits for longer than the role's limit.
        await Until(async () =>
            await Count($"select count(*) from {Waiting} and query_start < clock_timestamp() - interval '200 ms'") == 1
        );
        Assert.False(waiting.IsCompleted);
        await Demand(standby: false);
        Assert.Equal(1UL, (await waiting).Position);
    }

    [Fact]
    public async Task Replication_that_is_off_is_reported_where_it_is_expected()
    {
        await using var ledger = await Open();
        Assert.False((await ledger.Examine(Cancel)).IsAsynchronous);
        var options = Options(_connection);
        await using var expecting = await ServiceLedger.Open(
            new LedgerOptions
            {
                Service = options.Service,
                Kinds = options.Kinds,
                Connection = options.Connection,
                Key = options.Key,
                CheckpointFile = options.CheckpointFile,
                ExpectReplication = true,
            },
            Cancel
        );
        Assert.True((await expecting.Examine(Cancel)).IsAsynchronous);
    }

    [Fact]
    public async Task A_server_that_takes_no_commits_is_not_writable_until_it_takes_them_again()
    {
        var clock = new Clock();
        await using var ledger = await ServiceLedger.Open(Options(_connection, time: clock), Cancel);
        await ledger.Commit(Add("a", "0", "c"), Cancel);
        Assert.True((await ledger.Examine(Cancel)).IsGood);
        await ReadOnly("on");
        // It is seen with no write at all.
        var seen = await ledger.Examine(Cancel);
        Assert.Equal((false, "the database takes no commits"), (seen.IsGood, seen.Wrong));
        await Assert.ThrowsAsync<LedgerUnavailableException>(() => ledger.Commit(Add("a", "1", "c"), Cancel));
        Assert.Equal(1UL, (await ledger.Find(Kind, "c", null, Cancel))!.State.Sequence);
        await ReadOnly("off");
        // A probe that succeeds is not enough at once: a full disk may have room for it and not for a commit.
        Assert.False((await ledger.Examine(Cancel)).Writable);
        clock.Now += TimeSpan.FromSeconds(10);
        Assert.True((await ledger.Examine(Cancel)).IsGood);
        await ReadOnly("on");
        await Assert.ThrowsAsync<LedgerUnavailableException>(() => ledger.Commit(Add("a", "2", "c"), Cancel));
        await ReadOnly("off");
        // A commit that is answered is.
        await ledger.Commit(Add("a", "2", "c"), Cancel);
        Assert.True((await ledger.Examine(Cancel)).IsGood);
    }

    private async Task ReadOnly(string value)
    {
        await _server.Execute($"alter system set default_transaction_read_only = {value}");
        await _server.Execute("select pg_reload_conf()");
        await Until(async () =>
            await Count($"select count(*) from pg_settings where name = 'default_transaction_read_only' and setting = '{value}'") == 1
        );
    }
}
