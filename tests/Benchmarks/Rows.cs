using System.Diagnostics;
using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Grpc.Core;
using Ministries.CallLog;
using Ministries.Custody.V1;
using Ministries.Fixtures;
using Ministries.Ledger;
using Ministries.Ledger.V1;
using Ministries.Types.V1;

namespace Ministries.Benchmarks;

/// <summary>The rows of the table that measure one service alone.</summary>
internal static class Rows
{
    /// <summary>How many call at once where nothing else is said.</summary>
    public const int Callers = 64;

    /// <summary>Measures two rates in turn, round by round.</summary>
    public static async Task<(Figures Ratio, Figures Ours, Figures Theirs)> Compare(
        Plan plan,
        Func<TimeSpan, Task<double>> ours,
        Func<TimeSpan, Task<double>> theirs
    )
    {
        await Warm(plan, ours);
        await Warm(plan, theirs);
        var (one, other) = (new List<double>(), new List<double>());
        for (var round = 0; round < plan.Rounds; round++)
        {
            one.Add(await ours(plan.Round));
            other.Add(await theirs(plan.Round));
        }
        return (Figures.Of(one.Zip(other, (a, b) => a / b)), Figures.Of(one), Figures.Of(other));
    }

    /// <summary>Warms up, so that the runtime compiles: until the figure has changed by less than a tenth twice in a row, or for as long as
    /// the plan says.</summary>
    public static async Task Warm(Plan plan, Func<TimeSpan, Task<double>> measure)
    {
        var (began, before, steady) = (Stopwatch.GetTimestamp(), 0d, 0);
        while (steady < 2 && Stopwatch.GetElapsedTime(began) < plan.WarmUp)
        {
            var now = await measure(TimeSpan.FromSeconds(1));
            steady = Math.Abs(now - before) < 0.1 * now ? steady + 1 : 0;
            before = now;
        }
    }

    private static string PerSecond(Figures ours, Figures theirs) => $"{ours.Median:F0}/s against {theirs.Median:F0}/s";

    /// <summary>R: reading a record, against an echo of the same sizes over the same TLS.</summary>
    public static async Task<Line> Read(Bench bench)
    {
        const string owner = "ua/coordination-hq";
        await using var collector = await bench.Start("collector", serverGc: true, "collector");
        await using var custody = await bench.Service("custody", "without-relay", otlp: collector.Address);
        var (@case, expected) = await Register(bench.Reach(custody, owner, "custody", channels: 1)[0], owner, bench.Agreement);
        var prisoner = expected.Prisoner.Prisoner_;
        var reach = bench.Reach(custody, owner, "custody", signed: false);
        await using var echo = await Echo(bench, expected);
        var echoes = bench.Reach(echo, owner, "custody", signed: false);
        async Task Get(CallInvoker to, CancellationToken cancel)
        {
            var got = await new CustodyService.CustodyServiceClient(to).GetPrisonerAsync(
                new GetPrisonerRequest { Case = @case, Prisoner = prisoner },
                cancellationToken: cancel
            );
            if (!got.Equals(expected))
                throw new InvalidOperationException("another record than was registered");
        }
        var (taken, bare) = (new List<double>(), new List<double>());
        async Task<double> Rate(Child of, CallInvoker[] by, List<double> costs, TimeSpan time)
        {
            var (measured, cost) = await Cost(of, time, (i, c) => Get(by[i % 4], c));
            costs.Add(cost);
            return measured.Rate;
        }
        var (ratio, ours, theirs) = await Compare(
            bench.Plan,
            time => Rate(custody, reach, taken, time),
            time => Rate(echo, echoes, bare, time)
        );
        // At a higher rate, this process would be the bottleneck, because here it makes each call separately.
        var rate = 0.4 * ours.Median;
        var open = await Load.Open(rate, 3 * bench.Plan.Round, (i, c) => Load.HasRoom(() => Get(reach[i % 4], c)));
        return new Line(
            "R",
            "GetPrisoner over TLS with client certificates, traced and exported",
            "a bare gRPC echo of the same sizes over the same TLS",
            ratio,
            "≥ 0.6",
            ratio.Median >= 0.6,
            $"{PerSecond(ours, theirs)}; {Last(taken):F1} µs of the service's processor time against {Last(bare):F1} µs; open loop at {rate:F0}/s, "
                + $"{open.Refused} refused",
            open.At(0.5),
            open.At(0.99)
        );

        // Only the last rounds, without those during which the runtime compiled.
        double Last(List<double> costs) => Figures.Of(costs.TakeLast(bench.Plan.Rounds)).Median;
    }

    // A server that always gives the answer with which it was started.
    private static Task<Child> Echo(Bench bench, GetPrisonerResponse answer)
    {
        string Own(string file) => Path.Combine(bench.Folder, "service", "custody", file);
        return bench.Start(
            "echo",
            serverGc: true,
            "echo",
            Own("system.pem"),
            Own("system.key"),
            $"{Ports.Free()}",
            answer.ToByteString().ToBase64()
        );
    }

    // The processor time of a server for a gRPC call over TLS with a client's certificate, in microseconds.
    private static async Task<double> CostOfCall(Bench bench)
    {
        var answer = new GetPrisonerResponse { Prisoner = new Prisoner { Prisoner_ = new string('p', 600) } };
        await using var echo = await Echo(bench, answer);
        var by = bench.Reach(echo, "ua/coordination-hq", "custody", signed: false);
        var costs = new List<double>();
        await Warm(bench.Plan, Once);
        for (var round = 0; round < bench.Plan.Rounds; round++)
            await Once(bench.Plan.Round);
        return Figures.Of(costs.TakeLast(bench.Plan.Rounds)).Median;

        async Task<double> Once(TimeSpan time)
        {
            var (measured, cost) = await Cost(
                echo,
                time,
                async (i, c) =>
                    await new CustodyService.CustodyServiceClient(by[i % 4]).GetPrisonerAsync(
                        new GetPrisonerRequest(),
                        cancellationToken: c
                    )
            );
            costs.Add(cost);
            return measured.Rate;
        }
    }

    internal static async Task<(string Case, GetPrisonerResponse Response)> Register(CallInvoker invoker, string owner, Agreement agreement)
    {
        var custody = new CustodyService.CustodyServiceClient(invoker);
        var actor = new Actor
        {
            Office = "custody-department",
            Official = "o-1",
            Authority = "order-12",
        };
        var @case = (await custody.OpenCaseAsync(new OpenCaseRequest { RequestId = NewId(), Actor = actor })).Case;
        var prisoner = (
            await custody.RegisterPrisonerAsync(
                SealedForm.In(
                    new RegisterPrisonerRequest
                    {
                        RequestId = NewId(),
                        Actor = actor,
                        Case = @case,
                        Status = CustodyState.Hospitalised,
                        CaptureTime = new Timestamp { Seconds = 1736380800 },
                        Etag = (await custody.GetCaseAsync(new GetCaseRequest { Case = @case })).Etag,
                        Identity = SealedForm.To(owner, "icrc"),
                    },
                    owner,
                    agreement
                )
            )
        ).Prisoner;
        return (@case, await custody.GetPrisonerAsync(new GetPrisonerRequest { Case = @case, Prisoner = prisoner }));
    }

    private static string NewId() => Guid.NewGuid().ToString();

    /// <summary>W: a complete write, against the processor time of the work that no implementation can avoid.</summary>
    public static async Task<Line> Write(Bench bench)
    {
        var service = await bench.SharedCallLog();
        await using var driver = await Driver.Create(bench, service, "kr/mfa", new Writer(bench, receipts: true), connections: 4);
        await driver.Rate(4, TimeSpan.FromSeconds(0.2));
        var limit = await Unavoidable.Measure(bench, service.Database, await CostOfCall(bench));
        var pgbench = await Pgbench.Create(bench, service.Database);
        var (own, database) = (new List<double>(), new List<double>());
        var (_, ours, theirs) = await Compare(bench.Plan, Measure, pgbench.Run);
        var costs = Figures.Of(own.Zip(database, (a, b) => limit.OfWrite / (a + b)).TakeLast(bench.Plan.Rounds));
        var bytes = await ProcessorTime.BytesPerEntry(service.Database);
        var rate = 0.7 * ours.Median;
        // Writes pgbench's remaining pages to the disk first, so that this is not measured.
        await bench.Postgres.Execute("checkpoint");
        var (open, late) = await driver.Open(driver.Prepare(rate * 5 * bench.Plan.Round.TotalSeconds), rate);
        return new Line(
            "W",
            $"a write, all included: signed, durable, receipted; {Callers} callers; processor time",
            "what cannot be left out of it",
            costs,
            "≥ 0.6; p99 ≤ 25 ms at 70 %",
            costs.Median >= 0.6 && open is { Refused: 0 } && open.At(0.99) <= 25,
            $"{Last(own):F0} µs of the service and {Last(database):F0} of PostgreSQL against a call's {limit.Call:F0}, a verification's "
                + $"{limit.Verification:F0} and an entry's {limit.RowCount} rows {limit.EntryRows:F0}; {bytes / 1024:F1} KiB of disk an entry; {ours.Median:F0}/s, pgbench with {pgbench.Clients} clients "
                + $"{theirs.Median:F0}/s; open loop at {rate:F0}/s, {open.Refused} refused, sent at most {late:F1} ms late (99 of 100)",
            open.At(0.5),
            open.At(0.99)
        );

        async Task<double> Measure(TimeSpan time)
        {
            var calls = driver.Prepare(10_000 * time.TotalSeconds);
            var (before, postgres) = (service.ProcessorTime, await ProcessorTime.OfPostgres(service.Database));
            var measured = await driver.Closed(Callers, time, calls);
            database.Add((await ProcessorTime.OfPostgres(service.Database) - postgres) / measured.Count);
            own.Add((service.ProcessorTime - before).TotalMicroseconds / measured.Count);
            return measured.Rate;
        }

        double Last(List<double> values) => Figures.Of(values.TakeLast(bench.Plan.Rounds)).Median;
    }

    /// <summary>L: the ledger alone.</summary>
    public static async Task<Line> LedgerAlone(Bench bench)
    {
        await using var ledger = await bench.OpenLedger(await bench.Postgres.CreateDatabase());
        await Hosts.Seed(ledger.Ledger);
        await Load.Closed(4, TimeSpan.FromSeconds(0.2), (_, _) => ledger.Commit());
        var pgbench = await Pgbench.Create(bench, ledger.Database);
        var (ratio, ours, theirs) = await Compare(
            bench.Plan,
            async time => (await Load.Closed(256, time, (_, _) => ledger.Commit())).Rate,
            pgbench.Run
        );
        return new Line(
            "L",
            "the ledger alone, 256 waiting commands",
            $"pgbench, a transaction per command with the same rows, {pgbench.Clients} clients",
            ratio,
            "",
            null,
            PerSecond(ours, theirs)
        );
    }

    // Compares the same writes at two call logs.
    private static Task<(Figures Ratio, Figures Ours, Figures Theirs)> CompareWrites(Bench bench, Child ours, Child theirs)
    {
        var writer = new Writer(bench, receipts: true);
        return Compare(bench.Plan, To(ours), To(theirs));

        Func<TimeSpan, Task<double>> To(Child callLog)
        {
            var reach = bench.Reach(callLog, "kr/mfa", "calllog");
            return async time => (await Load.Closed(Callers, time, (i, c) => writer.Log(reach[i % 4], c))).Rate;
        }
    }

    /// <summary>O: tracing on and exported, against off.</summary>
    public static async Task<Line> Tracing(Bench bench)
    {
        await using var collector = await bench.Start("collector", serverGc: true, "collector");
        await using var traced = await bench.Service("calllog", "seed without-relay", otlp: collector.Address);
        var silent = await bench.SharedCallLog();
        var (ratio, ours, theirs) = await CompareWrites(bench, traced, silent);
        return new Line(
            "O",
            "writes with tracing on and exported",
            "the same with tracing off",
            ratio,
            "≥ 0.85",
            ratio.Median >= 0.85,
            PerSecond(ours, theirs)
        );
    }

    /// <summary>F: writes while many followers of the ledger may see nothing of them.</summary>
    public static async Task<Line> Followed(Bench bench)
    {
        const int followers = 1000;
        await using var followed = await bench.Service("calllog", "seed without-relay many-streams");
        var alone = await bench.SharedCallLog();
        using var end = new CancellationTokenSource();
        var reach = bench.Reach(followed, "kr/unification", "calllog", signed: false, channels: 12);
        var entries = 0;
        var following = await Task.WhenAll(Enumerable.Range(0, followers).Select(i => Follow(reach[i % 12])));
        // Followers see the agreement's entry, which everybody may see, and no later one.
        var seen = entries;
        var (ratio, ours, theirs) = await CompareWrites(bench, followed, alone);
        if (following.Count(f => f.IsCompleted) is > 0 and var ended)
            throw new InvalidOperationException($"{ended} streams ended");
        if (entries != seen)
            throw new InvalidOperationException("a follower was shown what is not for it");
        await end.CancelAsync();
        return new Line(
            "F",
            $"writes while {followers} follow that may see nothing of them",
            "the same with nobody following",
            ratio,
            "≥ 0.9",
            ratio.Median >= 0.9,
            PerSecond(ours, theirs)
        );

        // Returns once the follower has received something, with the task that goes on.
        async Task<Task> Follow(CallInvoker to)
        {
            var call = new LedgerService.LedgerServiceClient(to).FollowEntries(new FollowEntriesRequest(), cancellationToken: end.Token);
            // The agreement, which is for everybody, is the last entry that it sees.
            if (!await call.ResponseStream.MoveNext(end.Token) || !Shown(call.ResponseStream.Current))
                throw new InvalidOperationException("the ledger has no agreement");
            return Task.Run(async () =>
            {
                using (call)
                    while (await call.ResponseStream.MoveNext(end.Token))
                        Shown(call.ResponseStream.Current);
            });
        }

        bool Shown(FollowEntriesResponse response)
        {
            if (response.Entry is null && response.Piece is null)
                return false;
            Interlocked.Increment(ref entries);
            return true;
        }
    }

    /// <summary>S: the processor time of a signed and receipted write, against the same without the work that makes it provable.</summary>
    public static async Task<Line> CostOfTrust(Bench bench)
    {
        var service = await bench.SharedCallLog();
        var writer = new Writer(bench, receipts: true);
        var reach = bench.Reach(service, "kr/mfa", "calllog");
        await Warm(bench.Plan, async time => (await Load.Closed(Callers, time, (i, c) => writer.Log(reach[i % 4], c))).Rate);
        var (whole, provable) = (new List<double>(), new List<double>());
        for (var round = 0; round < bench.Plan.Rounds; round++)
        {
            whole.Add((await Cost(service, bench.Plan.Round, (i, c) => writer.Log(reach[i % 4], c))).Cost);
            provable.Add(await Unavoidable.Provable(bench, service.Database));
        }
        var ratio = Figures.Of(whole.Zip(provable, (w, p) => w / (w - p)));
        return new Line(
            "S",
            "processor time of a signed, receipted write",
            "the same less what makes it provable: signature check, salts, digests, tree, checkpoint, receipt",
            ratio,
            "≤ 2",
            ratio.Median <= 2,
            $"{Figures.Of(whole).Median:F0} µs, of which {Figures.Of(provable).Median:F0} make it provable"
        );
    }

    // Measures load, and the serving process's processor time in microseconds per call.
    private static async Task<(Measured Measured, double Cost)> Cost(Child child, TimeSpan time, Func<int, CancellationToken, Task> call)
    {
        var before = child.ProcessorTime;
        var measured = await Load.Closed(Callers, time, call);
        return (measured, (child.ProcessorTime - before).TotalMicroseconds / measured.Count);
    }
}

/// <summary>A ledger in this process, as a service has one, and commands for it.</summary>
internal sealed class OwnLedger(ServiceLedger ledger, string database, Permissions permissions) : IAsyncDisposable
{
    private readonly Participant _caller = permissions.Participant("kr/mfa")!;

    // It has the length of a real one; the ledger stores it without checking it.
    private static readonly RequestSignature Signature = new()
    {
        Authority = "127.0.0.1:7101",
        ContentType = "application/grpc",
        ContentDigest = $"sha-256=:{new string('A', 44)}:",
        SignatureInput = new string('i', 260),
        Signature = $"sig=:{new string('A', 88)}:",
    };

    public ServiceLedger Ledger => ledger;

    public string Database => database;

    /// <summary>Commits a logged call.</summary>
    public async Task Commit()
    {
        var request = Writer.Request();
        var outcome = await ledger.Commit(
            new Command
            {
                Participant = "kr/mfa",
                RequestId = request.RequestId,
                Method = "ministries.calllog.v1.CallLogService/LogCall",
                Request = request,
                Bytes = request.ToByteArray(),
                AgreementVersion = 1,
                Signature = Signature,
                Decide = (view, now) =>
                    Calls.LogCall.Run(
                        request,
                        new RuleContext
                        {
                            View = view,
                            Secrets = Secret.OfTests,
                            Caller = _caller,
                            Permissions = permissions,
                            Method = "ministries.calllog.v1.CallLogService/LogCall",
                            RequestId = request.RequestId,
                            Now = now,
                        }
                    ),
            },
            default
        );
        if (outcome.Refusal is not null || outcome.Position is null)
            throw new InvalidOperationException($"refused: {outcome.Refusal}");
    }

    public ValueTask DisposeAsync() => ledger.DisposeAsync();
}
