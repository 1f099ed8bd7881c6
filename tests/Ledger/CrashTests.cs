using System.Collections.Concurrent;
using System.Diagnostics;
using System.Diagnostics.Metrics;
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
        var cover = int.Parse(Environment.GetEnvironmentVariable("LEDGER_TEST_COVER")!);
        await using var ledger = await ServiceLedger.Open(
            Options(
                connection,
                Environment.GetEnvironmentVariable("LEDGER_TEST_CHECKPOINT"),
                cover: TimeSpan.FromMilliseconds(cover),
                leaves: 3
            ),
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
    [InlineData("sqlite", "before-commit", 0)]
    [InlineData("sqlite", "before-commit", 10)]
    [InlineData("sqlite", "after-commit", 0)]
    [InlineData("sqlite", "after-commit", 10)]
    [InlineData("sqlite", "before-checkpoint", 0)]
    [InlineData("sqlite", "before-checkpoint", 10)]
    [InlineData("sqlite", "after-checkpoint", 0)]
    [InlineData("sqlite", "after-checkpoint", 10)]
    [InlineData("postgres", "before-commit", 0)]
    [InlineData("postgres", "before-commit", 10)]
    [InlineData("postgres", "after-commit", 0)]
    [InlineData("postgres", "after-commit", 10)]
    [InlineData("postgres", "before-checkpoint", 0)]
    [InlineData("postgres", "before-checkpoint", 10)]
    [InlineData("postgres", "after-checkpoint", 0)]
    [InlineData("postgres", "after-checkpoint", 10)]
    public async Task Answered_commands_survive_a_kill_and_a_retry_does_the_rest_once(string engine, string point, int cover)
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
                ["LEDGER_TEST_COVER"] = $"{cover}",
            },
        };
        using (var process = Process.Start(start)!)
        {
            var (output, error) = (process.StandardOutput.ReadToEndAsync(Cancel), process.StandardError.ReadToEndAsync(Cancel));
            await process.WaitForExitAsync(Cancel);
            Assert.True(process.ExitCode == 137, $"{process.ExitCode}: {await output} {await error}");
        }

        await using var ledger = await ServiceLedger.Open(Options(connection, checkpoint), Cancel);
        if (cover > 0)
            Assert.Equal(0UL, ledger.Size % 3);
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

    /// <summary>Other connections see a commit before the process that makes it has its answer.</summary>
    [Theory]
    [InlineData("sqlite")]
    [InlineData("postgres")]
    public async Task What_this_process_is_committing_is_not_taken_for_another_replicas(string engine)
    {
        var (connection, cancel) = (await EngineOf(engine).Create(), Cancel);
        await using var one = await ServiceLedger.Open(Options(connection), cancel);
        await using var two = await ServiceLedger.Open(Options(connection), cancel);
        await one.Commit(Add("a", "1", "c"), cancel);
        var (seen, other) = (new List<ulong>(), (Command?)null);
        Assert.Equal(1ul, one.RelistedAt(Kind, "odd"));
        Probe.Hook = point =>
        {
            if (point == "before-keep" && seen.Count == 0)
                Meanwhile().GetAwaiter().GetResult();
        };
        // It is of a case, and changes no keys.
        Assert.Equal(1ul, await Sees(Of("2")));
        Assert.Equal(3ul, await Sees(Add("a", "3", "c")));
        other = Of("another replica's");
        Assert.Equal(5ul, await Sees(Of("4")));
        Assert.Equal(5ul, await Sees(Of("5")));
        Probe.Hook = point =>
        {
            if (point == "before-keep")
                throw new IOException("the answer is lost");
        };
        await Assert.ThrowsAsync<CommitOutcomeUnknownException>(() => one.Commit(Of("6"), cancel));
        Probe.Hook = null;
        await one.Look(TimeSpan.FromTicks(-1), cancel);
        Assert.Equal((5ul, 7ul), (one.RelistedAt(Kind, "odd"), one.NotedSize));

        static Command Of(string requestId) => Decides("a", requestId, (_, _) => Decision.Accept("case_1", [], []));

        async Task<ulong> Sees(Command command)
        {
            seen.Clear();
            await one.Commit(command, cancel);
            Assert.Equal(seen[0], one.RelistedAt(Kind, "odd"));
            return seen[0];
        }

        async Task Meanwhile()
        {
            // The other replica's commit comes to the same point.
            seen.Add(0);
            if (Interlocked.Exchange(ref other, null) is { } command)
                await two.Commit(command, cancel);
            await one.ReadEntries(0, null, null, 1, cancel);
            await one.Look(TimeSpan.FromTicks(-1), cancel);
            seen[0] = one.RelistedAt(Kind, "odd");
        }
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

    private static async Task<ServiceLedger> OpenCovered(string engine, SteppedClock clock) =>
        await ServiceLedger.Open(Options(await EngineOf(engine).Create(), time: clock, cover: CoverTests.Interval), Cancel);

    [Theory]
    [InlineData("sqlite")]
    [InlineData("postgres")]
    public async Task A_scheduled_commit_that_fails_is_made_without_its_commands_and_each_of_them_has_a_later_one(string engine)
    {
        var clock = new SteppedClock();
        await using var ledger = await OpenCovered(engine, clock);
        var commits = 0;
        Probe.Hook = point =>
        {
            // The first with commands, and the first with one of them alone.
            if (point == "before-commit" && commits++ is 0 or 2)
                throw new InvalidOperationException("twice");
        };
        var running = new[] { Add("a", "1", "c"), Add("a", "2", "c"), Add("a", "3", "c") }.Select(c => ledger.Commit(c, Cancel)).ToArray();
        await CoverTests.Tick(ledger, clock);
        Assert.Equal((8UL, 3), (ledger.Size, ledger.QueueLength));
        Assert.DoesNotContain(running, r => r.IsCompleted);
        await CoverTests.Tick(ledger, clock);
        await Assert.ThrowsAsync<CommandFailedException>(() => running[0]);
        await CoverTests.Tick(ledger, clock);
        await CoverTests.Tick(ledger, clock);
        Assert.Equal([1UL, 2UL], (await Task.WhenAll(running[1..])).Select(o => o.CountOf()));
        Assert.Equal((32UL, 0), (ledger.Size, ledger.QueueLength));
        Assert.True((await ledger.Examine(Cancel)).IsGood);
        await LedgerTests.Audit(ledger);
    }

    [Theory]
    [InlineData("sqlite")]
    [InlineData("postgres")]
    public async Task A_lost_answer_to_a_scheduled_commit_is_resolved_by_the_next_one(string engine)
    {
        var clock = new SteppedClock();
        await using var ledger = await OpenCovered(engine, clock);
        Probe.Hook = point =>
        {
            if (point == "after-commit")
                throw new IOException("the answer is lost");
        };
        var lost = ledger.Commit(Add("a", "1", "c"), Cancel);
        clock.Step(CoverTests.Interval);
        await Assert.ThrowsAsync<CommitOutcomeUnknownException>(() => lost);
        Probe.Hook = null;
        var again = ledger.Commit(Add("a", "1", "c"), Cancel);
        clock.Step(CoverTests.Interval);
        Assert.Equal((true, 1UL), ((await again).Repeated, (await again).CountOf()));
        Assert.Equal(16UL, ledger.Size);
        await LedgerTests.Audit(ledger);
    }

    [Fact]
    public async Task While_the_database_is_away_scheduled_commits_fail_and_go_on_afterwards()
    {
        var server = await Postgres.Create();
        try
        {
            var clock = new SteppedClock();
            await using var ledger = await ServiceLedger.Open(
                Options(await server.CreateDatabase(), time: clock, cover: CoverTests.Interval),
                Cancel
            );
            await CoverTests.Tick(ledger, clock);
            server.Crash();
            for (var i = 0; i < 2; i++)
            {
                var failed = ledger.Commit(Add("a", "1", "c"), Cancel);
                clock.Step(CoverTests.Interval);
                await Assert.ThrowsAsync<LedgerUnavailableException>(() => failed);
            }
            Assert.False((await ledger.Examine(Cancel)).IsGood);
            await server.Start();
            var running = ledger.Commit(Add("a", "1", "c"), Cancel);
            await CoverTests.Tick(ledger, clock);
            Assert.Equal((false, 1UL), ((await running).Repeated, (await running).CountOf()));
            Assert.Equal(16UL, ledger.Size);
            Assert.True((await ledger.Examine(Cancel)).IsGood);
            await LedgerTests.Audit(ledger);
        }
        finally
        {
            server.Stop();
        }
    }

    [Fact]
    public async Task The_measures_of_commands_and_batches_do_not_count_what_covers_them()
    {
        var counted = new ConcurrentQueue<(string Name, long Value)>();
        using var listener = new MeterListener
        {
            InstrumentPublished = (instrument, l) =>
            {
                if (instrument.Meter.Name == Measures.Name)
                    l.EnableMeasurementEvents(instrument);
            },
        };
        listener.SetMeasurementEventCallback<long>((instrument, value, _, _) => counted.Enqueue((instrument.Name, value)));
        listener.SetMeasurementEventCallback<int>((instrument, value, _, _) => counted.Enqueue((instrument.Name, value)));
        listener.SetMeasurementEventCallback<double>((instrument, _, _, _) => counted.Enqueue((instrument.Name, 1)));
        var clock = new SteppedClock();
        var options = Options(await new Sqlite().Create(), time: clock, cover: CoverTests.Interval);
        await using (var ledger = await ServiceLedger.Open(options, Cancel))
        {
            listener.Start();
            await CoverTests.Tick(ledger, clock);
            var running = Enumerable.Range(0, 3).Select(i => ledger.Commit(Add("a", $"{i}", "c"), Cancel)).ToList();
            await CoverTests.Tick(ledger, clock);
            await Task.WhenAll(running);
            clock.Set = TimeSpan.FromDays(1);
            var failed = ledger.Commit(Add("a", "4", "c"), Cancel);
            clock.Step(CoverTests.Interval);
            await Assert.ThrowsAsync<ClockNotTrustedException>(() => failed);
        }
        long Sum(string name) => counted.Where(c => c.Name == $"ministries.{name}").Sum(c => c.Value);
        Assert.Equal((13, 4, 2), (Sum("cover.entries"), Sum("batch.size"), Sum("commit.duration")));
        Assert.Equal((3, 1, 1), (Sum("commit.lag"), Sum("commit.failures"), Sum("cover.failures")));
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

    /// <summary>Not a test: prints what cover entries take, by 256 in a commit and by 8.</summary>
    [Theory(Explicit = true)]
    [InlineData("sqlite")]
    [InlineData("postgres")]
    public async Task Measure_cover(string engine)
    {
        var output = TestContext.Current.TestOutputHelper!;
        var (connection, checkpoint, clock) = (await EngineOf(engine).Create(), Engine.NewFile("checkpoint"), new SteppedClock());
        foreach (var (leaves, ticks) in ((int, int)[])[(256, 800), (8, 4000)])
        {
            await using var ledger = await ServiceLedger.Open(
                Options(connection, checkpoint, clock, cover: CoverTests.Interval, leaves: leaves),
                Cancel
            );
            var (before, log, took) = (await Bytes(), await Log(), Stopwatch.StartNew());
            for (var i = 0; i < ticks; i++)
                await CoverTests.Tick(ledger, clock);
            var (entries, commit) = (leaves * ticks, took.Elapsed.TotalMilliseconds / ticks);
            output.WriteLine(
                $"{engine}, {leaves} a commit, {entries} entries: {(double)(await Bytes() - before) / entries:F0} bytes each in the database, "
                    + $"{(double)(await Log() - log) / entries:F0} in the log; {commit:F1} ms a commit"
            );
            took.Restart();
            var (pages, from) = (0, 0UL);
            for (var complete = false; !complete; pages++)
            {
                var page = await ledger.ReadEntries(from, null, new HashSet<string> { Audience.Everybody }, 100, Cancel);
                (from, complete) = (page.Next, page.Complete);
            }
            output.WriteLine($"{from} entries are passed over in {took.Elapsed.TotalMilliseconds:F0} ms, {pages} pages");
        }

        async Task<long> Bytes() =>
            engine == "sqlite"
                ? new FileInfo(connection["sqlite:".Length..]).Length
                : await Ask("select pg_database_size(current_database())");
        async Task<long> Log() => engine == "sqlite" ? 0 : await Ask("select pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint");
        async Task<long> Ask(string sql)
        {
            await using var open = new NpgsqlConnection(connection);
            await open.OpenAsync(Cancel);
            await using var command = new NpgsqlCommand(sql, open);
            return (long)(await command.ExecuteScalarAsync(Cancel))!;
        }
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
