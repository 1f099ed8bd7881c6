using System.Diagnostics;
using Grpc.Core;
using Grpc.Health.V1;
using Ministries.Custody.V1;
using Ministries.Fixtures;
using Ministries.Hosting;

namespace Ministries.Benchmarks;

/// <summary>The row about long runs: three services as they are shipped, at half of the load that they can bear.</summary>
internal sealed class Soak
{
    private static readonly string[] Names = ["calllog", "consular", "custody"];

    private readonly Bench _bench;
    private readonly Uri _broker;
    private readonly Child[] _three = new Child[Names.Length];
    private readonly Dictionary<string, Uri> _addresses = Names.ToDictionary(n => n, _ => new Uri($"https://127.0.0.1:{Ports.Free()}"));

    private TimeSpan Time => _bench.Plan.Full ? TimeSpan.FromMinutes(10) : TimeSpan.FromSeconds(30);

    private Soak(Bench bench, Uri broker) => (_bench, _broker) = (bench, broker);

    /// <summary>M: the memory of each service after a soak at half of the load that it can bear, and how long each takes to start, on an
    /// empty database and on what the soak left.</summary>
    public static async Task<Line> Measure(Bench bench)
    {
        using var node = await Flow.Node();
        var soak = new Soak(bench, node.Uri);
        var first = new double[Names.Length];
        for (var i = 0; i < Names.Length; i++)
            first[i] = await soak.Start(i, null);
        var load = await MixedLoad.Prepare(bench, callLog: soak._three[0], custody: soak._three[2]);
        await Rows.Warm(bench.Plan, async time => (await load.Closed(time)).Writes);
        var most = await load.Closed(2 * bench.Plan.Round);
        var half = (most.Writes / 2, most.Reads / 2);
        var samples = await soak.Run(load, half);
        var again = await soak.StartAgain();
        foreach (var child in soak._three)
            await child.DisposeAsync();
        return soak.LineOf(half, samples, first, again);
    }

    // Starts the service as it is shipped. It counts as ready when its health service says so over TLS, as a supervisor would ask. Returns
    // the seconds that this took.
    private async Task<double> Start(int i, string? database)
    {
        var name = Names[i];
        var child = _three[i] = await _bench.Service(
            name,
            database is null && name != "custody" ? "seed" : "",
            database,
            _broker,
            listen: _addresses[name],
            peers: _addresses.Where(a => a.Key != name).ToDictionary(),
            tuned: false
        );
        var health = new Health.HealthClient(_bench.Reach(child, "kr/mfa", name, signed: false, channels: 1)[0]);
        while (
            (await health.CheckAsync(new HealthCheckRequest { Service = ServiceHost.Ready })).Status
            != HealthCheckResponse.Types.ServingStatus.Serving
        )
            await Task.Delay(2);
        return Stopwatch.GetElapsedTime(child.Began).TotalSeconds;
    }

    // Applies the load, and measures each service's memory after each slice of it.
    private async Task<List<(double Minute, double[] Megabytes)>> Run(MixedLoad load, (double Writes, double Reads) rates)
    {
        var slice = TimeSpan.FromSeconds(_bench.Plan.Full ? 5 : 1);
        var (began, samples) = (Stopwatch.GetTimestamp(), new List<(double Minute, double[] Megabytes)>());
        while (Stopwatch.GetElapsedTime(began) < Time)
        {
            await load.Open(rates, slice, samples.Count);
            samples.Add((Stopwatch.GetElapsedTime(began).TotalMinutes, [.. _three.Select(s => s.Memory / 1048576.0)]));
        }
        return samples;
    }

    // Starts each service again, round by round, on its own database.
    private async Task<Figures[]> StartAgain()
    {
        var again = _three.Select(_ => new List<double>()).ToArray();
        for (var round = 0; round < _bench.Plan.Rounds; round++)
        for (var i = 0; i < Names.Length; i++)
        {
            await _three[i].DisposeAsync();
            again[i].Add(await Start(i, _three[i].Database));
        }
        return [.. again.Select(Figures.Of)];
    }

    private Line LineOf(
        (double Writes, double Reads) rates,
        List<(double Minute, double[] Megabytes)> samples,
        double[] first,
        Figures[] starts
    )
    {
        var half = samples[(samples.Count / 2)..];
        var end = samples[^1].Megabytes;
        var slopes = Names.Select((_, i) => Slope([.. half.Select(s => (s.Minute, s.Megabytes[i]))])).ToArray();
        // Flat means that it would take more than an hour to grow by a tenth.
        var flat = end.Zip(slopes).All(m => m.Second * 60 <= m.First / 10);
        string Each(Func<int, string> text) => string.Join(", ", Names.Select((name, i) => $"{name} {text(i)}"));
        return new Line(
            "M",
            $"memory after {Time.TotalMinutes:0.#} minutes at half load ({rates.Writes:F0} writes and {rates.Reads:F0} reads/s, relayed); start until ready",
            "",
            null,
            "flat after 10 minutes; ≤ 200 MB each; ≤ 1.5 s",
            end.Any(m => m > 200) || starts.Any(s => s.Median > 1.5) || first.Any(s => s > 1.5) ? false
                : _bench.Plan.Full ? flat
                : null,
            $"{Each(i => $"{end[i]:F0} MB")}; in the second half {Each(i => $"{slopes[i]:+0.0;-0.0} MB/min")}; "
                + $"{Each(i => $"{starts[i].Median:F2} s ({starts[i].Least:F2} to {starts[i].Greatest:F2}; the first time {first[i]:F2})")}"
        );
    }

    // The least squares' line through the points, per unit of the first.
    private static double Slope(IReadOnlyList<(double X, double Y)> points)
    {
        var (x, y) = (points.Average(p => p.X), points.Average(p => p.Y));
        return points.Sum(p => (p.X - x) * (p.Y - y)) / points.Sum(p => (p.X - x) * (p.X - x));
    }

    /// <summary>Writes and reads at once, with the writes' effects in consular: the load that all services bear together.</summary>
    private sealed class MixedLoad
    {
        private readonly Writer _writer;
        private readonly CallInvoker[] _write,
            _read;
        private readonly GetPrisonerRequest _request;
        private readonly GetPrisonerResponse _expected;

        private MixedLoad(Writer writer, CallInvoker[] write, CallInvoker[] read, string @case, GetPrisonerResponse expected)
        {
            (_writer, _write, _read, _expected) = (writer, write, read, expected);
            _request = new GetPrisonerRequest { Case = @case, Prisoner = expected.Prisoner.Prisoner_ };
        }

        public static async Task<MixedLoad> Prepare(Bench bench, Child callLog, Child custody)
        {
            const string owner = "ua/coordination-hq";
            var (write, read) = (bench.Reach(callLog, "kr/mfa", "calllog"), bench.Reach(custody, owner, "custody"));
            var (@case, expected) = await Rows.Register(read[0], owner, bench.Agreement);
            return new MixedLoad(new Writer(bench, receipts: true), write, read, @case, expected);
        }

        /// <summary>By callers who each wait for their answer: what the services bear, per second.</summary>
        public async Task<(double Writes, double Reads)> Closed(TimeSpan time)
        {
            var (writes, reads) = (
                Load.Closed(32, time, (i, c) => _writer.Log(_write[i % 4], c)),
                Load.Closed(32, time, (i, c) => Read(i, c))
            );
            return ((await writes).Rate, (await reads).Rate);
        }

        /// <summary>At given rates per second.</summary>
        public Task Open((double Writes, double Reads) rates, TimeSpan time, int seed) =>
            Task.WhenAll(
                Load.Open(rates.Writes, time, (i, c) => Load.HasRoom(() => _writer.Log(_write[i % 4], c)), seed),
                Load.Open(rates.Reads, time, Read, seed)
            );

        private Task<bool> Read(int i, CancellationToken cancel) =>
            Load.HasRoom(async () =>
            {
                var got = await new CustodyService.CustodyServiceClient(_read[i % 4]).GetPrisonerAsync(_request, cancellationToken: cancel);
                if (!got.Equals(_expected))
                    throw new InvalidOperationException("another record than was registered");
            });
    }
}
