using System.Diagnostics;
using Google.Protobuf.WellKnownTypes;
using Ministries.CallLog.V1;
using Ministries.Consular.V1;
using Ministries.Fixtures;
using Ministries.Types.V1;

namespace Ministries.Benchmarks;

/// <summary>The rows that lead through the broker.</summary>
internal static class Flow
{
    private static double Milliseconds(long from, long to) => Stopwatch.GetElapsedTime(from, to).TotalMilliseconds;

    /// <summary>A row's own broker, with empty queues.</summary>
    internal sealed record Owned(RabbitMq Broker) : IDisposable
    {
        public Uri Uri => Broker.Uri;

        public void Dispose() => Broker.Stop();
    }

    internal static async Task<Owned> Node() => new(await RabbitMq.Create());

    /// <summary>The three services as they are deployed, with RabbitMQ between them.</summary>
    internal static async Task<(Child CallLog, Child Consular, Child Custody)> Three(Bench bench, Uri broker)
    {
        var addresses = new[] { "calllog", "consular", "custody" }.ToDictionary(n => n, _ => new Uri($"https://127.0.0.1:{Ports.Free()}"));
        Task<Child> Start(string name, string words) =>
            bench.Service(name, words, broker: broker, listen: addresses[name], peers: addresses.Where(a => a.Key != name).ToDictionary());
        var three = (await Start("calllog", "seed tells"), await Start("consular", "seed tells"), await Start("custody", ""));
        await Rested(bench, three.Item1, three.Item2);
        return three;
    }

    /// <summary>Waits until a logged call has its effect.</summary>
    private static async Task Rested(Bench bench, Child callLog, Child consular)
    {
        callLog.Order("log 1");
        await consular.CameTo(consular.Size + 1);
        await Task.Delay(bench.Plan.Round);
    }

    /// <summary>E: commits of one service taking effect in another, against MassTransit alone.</summary>
    public static async Task<Line> Effects(Bench bench)
    {
        using var node = await Node();
        var broker = node.Uri;
        var (callLog, consular, custody) = await Three(bench, broker);
        await using var consumer = await bench.Start("consume", serverGc: true, "consume", broker.ToString());
        await using var publisher = await bench.Start("publish", serverGc: true, "publish", broker.ToString());
        var (ours, theirs) = (2000d, 4000d);
        var costs = new List<double>();
        var (ratio, one, other) = await Rows.Compare(
            bench.Plan,
            async time => ours = await Costing((int)(ours * time.TotalSeconds)),
            async time => theirs = await Rate(publisher, consumer, "publish", (int)(theirs * time.TotalSeconds))
        );
        var limit = await Unavoidable.Measure(bench, callLog.Database, call: null);
        foreach (var child in new[] { callLog, consular, custody })
            await child.DisposeAsync();
        var cost = Figures.Of(costs.TakeLast(bench.Plan.Rounds)).Median;
        return new Line(
            "E",
            "commit to effect committed in the consumer, through relay and RabbitMQ",
            "MassTransit's own publish and consume with confirms",
            ratio,
            "",
            null,
            $"{one.Median:F0}/s against {other.Median:F0}/s; {cost:F0} µs of processor time of both services and PostgreSQL an event, of which "
                + $"the rows of two entries take {limit.OfEvent:F0} ({limit.OfEvent / cost:F2})"
        );

        async Task<double> Costing(int count)
        {
            count = Math.Max(count, 100);
            var before = await Taken();
            var rate = await Rate(callLog, consular, "log", count);
            costs.Add((await Taken() - before) / count);
            return rate;
        }

        async Task<double> Taken() =>
            (callLog.ProcessorTime + consular.ProcessorTime).TotalMicroseconds + await ProcessorTime.OfPostgres(callLog.Database);

        static async Task<double> Rate(Child from, Child to, string order, int count)
        {
            count = Math.Max(count, 100);
            var (before, began) = (to.Size, Stopwatch.GetTimestamp());
            from.Order($"{order} {count}");
            var came = await to.CameTo(before + (ulong)count);
            return count / (Milliseconds(began, came) / 1000);
        }
    }

    /// <summary>E′: how long one event takes while nothing else happens.</summary>
    public static async Task<Line> AtRest(Bench bench)
    {
        using var node = await Node();
        var (callLog, consular, custody) = await Three(bench, node.Uri);
        var latencies = new List<double>();
        for (var i = 0; i < 20 * bench.Plan.Rounds; i++)
        {
            var (from, to) = (callLog.Size, consular.Size);
            callLog.Order("log 1");
            latencies.Add(Milliseconds(await callLog.CameTo(from + 1), await consular.CameTo(to + 1)));
            await Task.Delay(20);
        }
        foreach (var child in new[] { callLog, consular, custody })
            await child.DisposeAsync();
        return LineOf(
            "E'",
            "one event at rest, commit to effect committed in the consumer",
            $"{latencies.Count} events",
            latencies,
            10,
            50
        );
    }

    /// <summary>T: from the call of LogCall until the transfer request that it leads to is drafted in consular.</summary>
    public static async Task<Line> Draft(Bench bench)
    {
        using var node = await Node();
        var (callLog, consular, custody) = await Three(bench, node.Uri);
        var writer = new Writer(bench, receipts: true);
        var kr = bench.Reach(callLog, "kr/mfa", "calllog", channels: 1)[0];
        var latencies = new List<double>();
        var drafts = new ConsularService.ConsularServiceClient(bench.Reach(consular, "kr/mfa", "consular", channels: 1)[0]);
        for (var i = -10; i < 20 * bench.Plan.Rounds; i++)
        {
            var (before, began) = (consular.Size, Stopwatch.GetTimestamp());
            await writer.Log(
                kr,
                default,
                request =>
                {
                    request.Account.Prisoners.Add(Hosts.Prisoner);
                    request.Account.Commitments.Add(
                        new CommitmentTerms
                        {
                            Participant = "kr/mfa",
                            Kind = CommitmentKind.RequestTransfer,
                            Prisoners = { Hosts.Prisoner },
                            Route = Route.Article12Transfer,
                            Destination = "KR",
                            DueTime = DateTime.UtcNow.AddDays(14).ToTimestamp(),
                        }
                    );
                }
            );
            var came = await consular.CameTo(before + 1);
            if (i >= 0)
                latencies.Add(Milliseconds(began, came));
            await Task.Delay(20);
        }
        var listed = await drafts.ListTransfersAsync(new ListTransfersRequest { Case = Hosts.Case, PageSize = 200 });
        if (listed.Transfers.Count < Math.Min(200, latencies.Count))
            throw new InvalidOperationException($"{listed.Transfers.Count} drafts only");
        foreach (var child in new[] { callLog, consular, custody })
            await child.DisposeAsync();
        return LineOf("T", "LogCall to TransferRequestDrafted in consular, one at a time", $"{latencies.Count} calls", latencies, 30, 150);
    }

    // The row of latencies in milliseconds, with what half of them and 99 of 100 of them must not exceed.
    private static Line LineOf(string row, string work, string figure, List<double> latencies, double half, double nearlyAll)
    {
        latencies.Sort();
        var (p50, p99) = (Measured.Of(latencies, 0.5), Measured.Of(latencies, 0.99));
        return new Line(row, work, "", null, $"p50 ≤ {half} ms, p99 ≤ {nearlyAll} ms", p50 <= half && p99 <= nearlyAll, figure, p50, p99);
    }

    /// <summary>W′: a write with all that belongs to it, published, against the conventional way.</summary>
    public static async Task<Line> Conventionally(Bench bench)
    {
        using var node = await Node();
        var broker = node.Uri;
        // A queue that receives the events, as in a real deployment.
        await using (await bench.Service("consular", "", broker: broker))
            await Task.Delay(TimeSpan.FromSeconds(3));
        await using var service = await bench.Service("calllog", "seed", broker: broker);
        string Own(string file) => Path.Combine(bench.Folder, "service", "calllog", file);
        await using var conventional = await bench.Start(
            "conventional",
            serverGc: true,
            "conventional",
            Own("system.pem"),
            Own("system.key"),
            $"{Ports.Free()}",
            await bench.Postgres.CreateDatabase(),
            broker.ToString()
        );
        await using var ours = await Driver.Create(bench, service, "kr/mfa", new Writer(bench, receipts: true), connections: 4);
        await using var theirs = await Driver.Create(
            bench,
            conventional,
            "kr/mfa",
            new Writer(bench, receipts: false),
            connections: 4,
            signed: false
        );
        var (ratio, one, other) = await Rows.Compare(bench.Plan, time => ours.Rate(64, time), time => theirs.Rate(64, time));
        return new Line(
            "W'",
            "a write as in W, and its event relayed to RabbitMQ",
            "gRPC, EF Core's SaveChanges with an outbox row, published by MassTransit; unsigned",
            ratio,
            "≥ 2",
            ratio.Median >= 2,
            $"{one.Median:F0}/s against {other.Median:F0}/s"
        );
    }
}
