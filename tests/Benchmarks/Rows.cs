using Grpc.Core;

namespace Ministries.Benchmarks;

/// <summary>The rows of the table.</summary>
internal static class Rows
{
    private const int Callers = 64;

    /// <summary>S: the processor time of a signed and receipted write against that of the same write with nothing to prove it.</summary>
    public static async Task<Line> CostOfTrust(Bench bench)
    {
        await using var trusted = await bench.Service("calllog", "seed without-relay");
        await using var bare = await bench.Service("calllog", "seed without-relay without-trust");
        var (signed, unsigned) = (new Writer(bench, receipts: true), new Writer(bench, receipts: false));
        var toTrusted = bench.Reach(trusted, "kr/mfa", "calllog");
        var toBare = bench.Reach(bare, "kr/mfa", "calllog", signed: false);
        await Load.Closed(Callers, bench.Plan.WarmUp, (i, c) => signed.Log(toTrusted[i % 4], c));
        await Load.Closed(Callers, bench.Plan.WarmUp, (i, c) => unsigned.Log(toBare[i % 4], c));
        var (ratios, with, without) = (new List<double>(), new List<double>(), new List<double>());
        for (var round = 0; round < bench.Plan.Rounds; round++)
        {
            with.Add(await Cost(trusted, (i, c) => signed.Log(toTrusted[i % 4], c)));
            without.Add(await Cost(bare, (i, c) => unsigned.Log(toBare[i % 4], c)));
            ratios.Add(with[^1] / without[^1]);
        }
        var ratio = Figures.Of(ratios);
        return new Line("S", "processor time of a signed, receipted write", "the same write unsigned, without entry digests, proof, receipt",
            ratio, "≤ 2", ratio.Median <= 2, $"{Figures.Of(with).Median:F0} µs against {Figures.Of(without).Median:F0} µs");

        async Task<double> Cost(Child child, Func<int, CancellationToken, Task> call)
        {
            var before = child.ProcessorTime;
            var measured = await Load.Closed(Callers, bench.Plan.Round, call);
            return (child.ProcessorTime - before).TotalMicroseconds / measured.Count;
        }
    }
}
