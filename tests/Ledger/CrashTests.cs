using System.Collections.Concurrent;
using System.Diagnostics;
using Ministries.Fixtures;
using Npgsql;
using static Ministries.Ledger.Tests.Counting;

namespace Ministries.Ledger.Tests;

/// <summary>These tests set what happens at points of the commit for the whole process, so nothing may run beside them.</summary>
[CollectionDefinition(nameof(CrashTests), DisableParallelization = true)]
public static class CrashCollection;

[Collection(nameof(CrashTests))]
public sealed class CrashTests : IDisposable
{
    private const int Writers = 4,
        Requests = 30;

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    public void Dispose()
    {
        Probe.Hook = null;
        Probe.SkipRequestIds = false;
    }

    private static Engine EngineOf(string name) => name == "sqlite" ? new Sqlite() : new PostgreSql();

    /// <summary>The process that is killed: it writes until the point is reached for the n-th time.</summary>
    [Fact(Explicit = true)]
    public async Task Writes_until_it_is_killed()
    {
        var connection = Environment.GetEnvironmentVariable("LEDGER_TEST_CONNECTION");
        if (connection is null)
            return;
        var (point, left) = (
            Environment.GetEnvironmentVariable("LEDGER_TEST_POINT"),
            int.Parse(Environment.GetEnvironmentVariable("LEDGER_TEST_HITS")!)
        );
        await using var answers = new StreamWriter(Environment.GetEnvironmentVariable("LEDGER_TEST_ANSWERS")!) { AutoFlush = true };
        await using var ledger = await ServiceLedger.Open(
            Options(connection, Environment.GetEnvironmentVariable("LEDGER_TEST_CHECKPOINT")),
            Cancel
        );
        Probe.Hook = reached =>
        {
            if (reached != point || Interlocked.Decrement(ref left) != 0)
                return;
            Process.GetCurrentProcess().Kill();
            Thread.Sleep(Timeout.Infinite);
        };
        await Parallel.ForAsync(
            0,
            Writers,
            new ParallelOptions { MaxDegreeOfParallelism = Writers },
            async (writer, cancel) =>
            {
                for (var i = 0; i < Requests; i++)
                {
                    var outcome = await ledger.Commit(Add($"w/{writer}", $"r{i}", "c"), cancel);
                    lock (answers)
                        answers.WriteLine($"{writer} {i} {outcome.Position} {outcome.CountOf()}");
                }
            }
        );
    }

    [Theory]
    [InlineData("sqlite", "before-commit")]
    [InlineData("sqlite", "after-commit")]
    [InlineData("sqlite", "before-checkpoint")]
    [InlineData("sqlite", "after-checkpoint")]
    [InlineData("postgres", "before-commit")]
    [InlineData("postgres", "after-commit")]
    [InlineData("postgres", "before-checkpoint")]
    [InlineData("postgres", "after-checkpoint")]
    public async Task Answered_commands_survive_a_kill_and_a_retry_does_the_rest_once(string engine, string point)
    {
        var connection = await EngineOf(engine).Create();
        var (checkpoint, answers) = (Engine.NewFile("checkpoint"), Engine.NewFile("answers"));
        var hits = Random.Shared.Next(2, 20);
        TestContext.Current.TestOutputHelper!.WriteLine($"killed at {point} the {hits}th time");
        var start = new ProcessStartInfo(
            Environment.ProcessPath!,
            ["-method", $"{typeof(CrashTests).FullName}.{nameof(Writes_until_it_is_killed)}", "-explicit", "only"]
        )
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            Environment =
            {
                ["LEDGER_TEST_CONNECTION"] = connection,
                ["LEDGER_TEST_CHECKPOINT"] = checkpoint,
                ["LEDGER_TEST_ANSWERS"] = answers,
                ["LEDGER_TEST_POINT"] = point,
                ["LEDGER_TEST_HITS"] = $"{hits}",
            },
        };
        using (var process = Process.Start(start)!)
        {
            var (output, error) = (process.StandardOutput.ReadToEndAsync(Cancel), process.StandardError.ReadToEndAsync(Cancel));
            await process.WaitForExitAsync(Cancel);
            Assert.True(process.ExitCode == 137, $"{process.ExitCode}: {await output} {await error}");
        }

        await using var ledger = await ServiceLedger.Open(Options(connection, checkpoint), Cancel);
        await LedgerTests.Audit(ledger);
        var answered = (await File.ReadAllLinesAsync(answers, Cancel))
            .Select(l => l.Split(' '))
            .ToDictionary(l => (int.Parse(l[0]), int.Parse(l[1])));
        var again = await Task.WhenAll(
            Enumerable
                .Range(0, Writers * Requests)
                .Select(async n =>
                    (
                        Writer: n / Requests,
                        Number: n % Requests,
                        Outcome: await ledger.Commit(Add($"w/{n / Requests}", $"r{n % Requests}", "c"), Cancel)
                    )
                )
        );
        foreach (var (writer, number, outcome) in again)
        {
            if (!answered.TryGetValue((writer, number), out var answer))
                continue;
            Assert.True(outcome.Repeated);
            Assert.Equal((answer[2], answer[3]), ($"{outcome.Position}", $"{outcome.CountOf()}"));
        }
        Assert.Equal((ulong)(Writers * Requests), (await ledger.Find(Kind, "c", null, Cancel))!.State.Sequence);
        await LedgerTests.Audit(ledger);
    }

    [Theory]
    [InlineData("sqlite")]
    [InlineData("postgres")]
    public async Task A_lost_answer_to_a_commit_is_resolved_by_the_request_id(string engine)
    {
        await using var ledger = await ServiceLedger.Open(Options(await EngineOf(engine).Create()), Cancel);
        Probe.Hook = point =>
        {
            if (point == "after-commit")
                throw new IOException("the answer is lost");
        };
        await Assert.ThrowsAsync<CommitOutcomeUnknownException>(() => ledger.Commit(Add("a", "1", "c"), Cancel));
        Probe.Hook = null;
        var again = await ledger.Commit(Add("a", "1", "c"), Cancel);
        Assert.Equal((true, 0UL, 1UL), (again.Repeated, again.Position, again.CountOf()));
        Assert.True(Key.Verify((await ledger.ReceiptOf(again, Cancel)).Checkpoint)!.Size == 1);
        Assert.Equal(2UL, (await ledger.Commit(Add("a", "2", "c"), Cancel)).CountOf());
        await LedgerTests.Audit(ledger);
    }

    [Theory]
    [InlineData("sqlite")]
    [InlineData("postgres")]
    public async Task A_batch_that_fails_is_retried_command_by_command(string engine)
    {
        await using var ledger = await ServiceLedger.Open(Options(await EngineOf(engine).Create()), Cancel);
        var batches = 0;
        Probe.Hook = point =>
        {
            if (point == "before-commit" && batches++ == 1)
                throw new InvalidOperationException("once");
        };
        var outcomes = await LedgerTests.Together(ledger, Add("a", "1", "c"), Add("a", "2", "c"), Add("b", "1", "c"));
        Assert.Equal(3UL, outcomes.Select(o => o.Result.CountOf()).Max());
        Assert.Equal(5, batches);
        await LedgerTests.Audit(ledger);
    }

    [Fact]
    public async Task A_connection_that_is_cut_at_the_commit_leaves_the_outcome_unknown()
    {
        var connection = await new PostgreSql().Create();
        await using var ledger = await ServiceLedger.Open(Options(connection), Cancel);
        await ledger.Commit(Add("a", "0", "c"), Cancel);
        var database = new NpgsqlConnectionStringBuilder(connection).Database;
        Probe.Hook = point =>
        {
            if (point != "before-commit")
                return;
            Probe.Hook = null;
            Postgres
                .Shared.Result.Execute($"select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = '{database}'")
                .Wait();
        };
        await Assert.ThrowsAsync<CommitOutcomeUnknownException>(() => ledger.Commit(Add("a", "1", "c"), Cancel));
        var again = await ledger.Commit(Add("a", "1", "c"), Cancel);
        Assert.Equal((false, 2UL), (again.Repeated, again.CountOf()));
        await LedgerTests.Audit(ledger);
    }

    [Fact]
    public async Task A_server_that_crashes_loses_nothing_that_was_answered()
    {
        var server = await Postgres.Create();
        try
        {
            var connection = await server.CreateDatabase();
            await using var ledger = await ServiceLedger.Open(Options(connection), Cancel);
            var answered = new ConcurrentDictionary<string, ulong>();
            var writing = Parallel.ForAsync(
                0,
                Writers,
                new ParallelOptions { MaxDegreeOfParallelism = Writers },
                async (writer, cancel) =>
                {
                    for (var i = 0; i < Requests; )
                        try
                        {
                            var outcome = await ledger.Commit(Add($"w/{writer}", $"r{i}", "c"), cancel);
                            answered[$"{writer} {i++}"] = outcome.Position!.Value;
                        }
                        catch (LedgerException e) when (e is LedgerUnavailableException or CommitOutcomeUnknownException)
                        {
                            await Task.Delay(20, cancel);
                        }
                }
            );
            while (answered.Count < Requests)
                await Task.Delay(1, Cancel);
            server.Crash();
            await Assert.ThrowsAsync<LedgerUnavailableException>(() => ledger.ReadCursor("relay", Cancel));
            await server.Start();
            await writing;
            Assert.Equal(Enumerable.Range(0, Writers * Requests).Select(p => (ulong)p), answered.Values.Order());
            Assert.Equal((ulong)(Writers * Requests), (await ledger.Find(Kind, "c", null, Cancel))!.State.Sequence);
            await LedgerTests.Audit(ledger);
        }
        finally
        {
            server.Stop();
        }
    }

    [Fact]
    public async Task Without_stored_request_ids_a_repetition_has_its_effect_twice()
    {
        await using var ledger = await ServiceLedger.Open(Options(await new Sqlite().Create()), Cancel);
        Probe.SkipRequestIds = true;
        await ledger.Commit(Add("a", "1", "c"), Cancel);
        Assert.Equal(2UL, (await ledger.Commit(Add("a", "1", "c"), Cancel)).CountOf());
    }

    /// <summary>Not a test: prints the throughput of this machine.</summary>
    [Theory(Explicit = true)]
    [InlineData("sqlite", 1)]
    [InlineData("sqlite", 32)]
    [InlineData("sqlite", 256)]
    [InlineData("postgres", 1)]
    [InlineData("postgres", 32)]
    [InlineData("postgres", 256)]
    public async Task Measure(string engine, int callers)
    {
        await using var ledger = await ServiceLedger.Open(Options(await EngineOf(engine).Create()), Cancel);
        var count = 0;
        async Task For(TimeSpan time)
        {
            var clock = Stopwatch.StartNew();
            await Task.WhenAll(
                Enumerable
                    .Range(0, callers)
                    .Select(caller =>
                        Task.Run(
                            async () =>
                            {
                                while (clock.Elapsed < time)
                                {
                                    var outcome = await ledger.Commit(
                                        Add($"p/{caller % 16}", Guid.NewGuid().ToString(), $"c{Random.Shared.Next(1000)}"),
                                        Cancel
                                    );
                                    await ledger.ReceiptOf(outcome, Cancel);
                                    Interlocked.Increment(ref count);
                                }
                            },
                            Cancel
                        )
                    )
            );
        }
        await For(TimeSpan.FromSeconds(1));
        count = 0;
        await For(TimeSpan.FromSeconds(4));
        TestContext.Current.TestOutputHelper!.WriteLine($"{engine}, {callers} callers: {count / 4} commands/s with receipts");
    }
}
