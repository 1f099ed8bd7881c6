using System.Globalization;
using System.Text;
using Grpc.Core;
using Ministries.Types.V1;

namespace Ministries.Benchmarks;

/// <summary>What one amount of load led to.</summary>
/// <param name="Offered">Calls per second that came.</param>
/// <param name="Answered">Calls per second that were accepted and answered.</param>
/// <param name="Refused">The share of calls that were refused with RESOURCE_EXHAUSTED and a hint when to try again.</param>
/// <param name="P50">Latency that half of those answered did not exceed, in milliseconds.</param>
/// <param name="P99">Latency that 99 of 100 of those answered did not exceed, in milliseconds.</param>
internal sealed record LoadPoint(double Offered, double Answered, double Refused, double P50, double P99);

/// <summary>More load than there is capacity.</summary>
internal static class Overload
{
    /// <summary>X: throughput and latency from half of the peak to three times it, and after it.</summary>
    public static async Task<(Line Line, List<LoadPoint> Points)> Curve(Bench bench)
    {
        var service = await bench.SharedCallLog();
        var writer = new Writer(bench, receipts: true);
        var reach = bench.Reach(service, "kr/mfa", "calllog", channels: 8);
        Task<Measured> Closed(TimeSpan time) => Load.Closed(256, time, (i, c) => writer.Log(reach[i % 8], c));
        await Rows.Warm(bench.Plan, async time => (await Closed(time)).Rate);
        var peak = (await Closed(2 * bench.Plan.Round)).Rate;
        var points = new List<LoadPoint>();
        foreach (var times in (double[])[0.25, 0.5, 0.75, 1, 1.5, 2, 3])
        {
            var measured = await Load.Open(times * peak, 3 * bench.Plan.Round, (i, c) => Try(writer, reach[i % 8], c));
            points.Add(new LoadPoint(times * peak, measured.Rate,
                (double)measured.Refused / (measured.Count + measured.Refused), measured.At(0.5), measured.At(0.99)));
        }
        var after = (await Closed(bench.Plan.Round)).Rate;
        var (best, last) = (points.Max(p => p.Answered), points[^1]);
        var ratio = Figures.Of([last.Answered / best]);
        return (new Line("X", "writes answered at three times the peak load", "the most answered at any load", ratio,
            "≥ 0.9; RESOURCE_EXHAUSTED with a hint; recovers at once", ratio.Median >= 0.9 && after >= 0.9 * peak,
            $"{last.Answered:F0}/s of {best:F0}/s, {last.Refused:P0} refused, all with a hint; right after it {after:F0}/s of {peak:F0}/s", last.P50, last.P99), points);
    }

    /// <summary>N: how one participant's flood changes another's latency.</summary>
    public static async Task<Line> Neighbour(Bench bench)
    {
        var service = await bench.SharedCallLog();
        var writer = new Writer(bench, receipts: true);
        var flood = bench.Reach(service, "kr/mfa", "calllog", channels: 8);
        var other = bench.Reach(service, "ua/mfa", "calllog", channels: 1)[0];
        Task<bool> Quiet(CancellationToken cancel) => Try(writer, other, cancel, request =>
        {
            request.Counterpart = "kr/mfa";
            foreach (var attendee in request.Account.Attendees) attendee.Official = "";
        });
        Task<Measured> Flood(TimeSpan time) => Load.Closed(512, time, (i, c) => Try(writer, flood[i % 8], c));
        await Rows.Warm(bench.Plan, async time => (await Flood(time)).Rate);
        var (ratios, alone, beside) = (new List<double>(), new List<double>(), new List<double>());
        for (var round = 0; round < bench.Plan.Rounds; round++)
        {
            alone.Add((await Load.Open(20, bench.Plan.Round, (_, c) => Quiet(c), round)).At(0.5));
            var flooding = Flood(bench.Plan.Round);
            beside.Add((await Load.Open(20, bench.Plan.Round, (_, c) => Quiet(c), round)).At(0.5));
            await flooding;
            ratios.Add(beside[^1] / alone[^1]);
        }
        var ratio = Figures.Of(ratios);
        return new Line("N", "median latency of a participant while another floods with 512 callers", "the same while nobody floods", ratio,
            "none given", null, $"{Figures.Of(beside).Median:F1} ms against {Figures.Of(alone).Median:F1} ms");
    }

    // Refused without a hint, or for another reason, is a fault.
    private static async Task<bool> Try(
        Writer writer, CallInvoker invoker, CancellationToken cancel, Action<CallLog.V1.LogCallRequest>? but = null)
    {
        try
        {
            await writer.Log(invoker, cancel, but);
            return true;
        }
        catch (RpcException e) when (e.StatusCode == StatusCode.ResourceExhausted && e.GetRpcStatus()?.GetDetail<Google.Rpc.RetryInfo>() is not null)
        {
            return false;
        }
    }

    /// <summary>Draws what was measured: answered per second and the 99th percentile against the load.</summary>
    public static string Chart(IReadOnlyList<LoadPoint> points, string about)
    {
        const int width = 720, height = 360, left = 64, right = 64, top = 36, bottom = 48;
        var most = points.Max(p => p.Offered);
        var (rates, slowest) = (Nice(points.Max(p => p.Answered)), Nice(points.Max(p => p.P99)));
        double X(double offered) => left + offered / most * (width - left - right);
        double Y(double share) => height - bottom - share * (height - top - bottom);
        string Line(Func<LoadPoint, double> share) => string.Join(' ', points.Select(p => Text($"{X(p.Offered):F1},{Y(share(p)):F1}")));
        var svg = new StringBuilder();
        svg.Append(Text($"<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n"));
        svg.Append(Text($"<title>Throughput and latency against load</title>\n<rect width=\"{width}\" height=\"{height}\" fill=\"#fff\"/>\n"));
        for (var i = 0; i <= 4; i++)
        {
            var y = Y(i / 4.0);
            svg.Append(Text($"<path d=\"M{left} {y:F1}H{width - right}\" stroke=\"#ddd\"/>\n"));
            svg.Append(Text($"<text x=\"{left - 8}\" y=\"{y + 4:F1}\" text-anchor=\"end\" fill=\"#1f5fa8\">{rates * i / 4:0.#}</text>\n"));
            svg.Append(Text($"<text x=\"{width - right + 8}\" y=\"{y + 4:F1}\" fill=\"#b3401f\">{slowest * i / 4:0.#}</text>\n"));
        }
        foreach (var point in points)
            svg.Append(Text($"<text x=\"{X(point.Offered):F1}\" y=\"{height - bottom + 18}\" text-anchor=\"middle\" fill=\"#444\">{point.Offered:F0}</text>\n"));
        svg.Append(Text($"<polyline points=\"{Line(p => p.Answered / rates)}\" fill=\"none\" stroke=\"#1f5fa8\" stroke-width=\"2.5\"/>\n"));
        svg.Append(Text($"<polyline points=\"{Line(p => p.P99 / slowest)}\" fill=\"none\" stroke=\"#b3401f\" stroke-width=\"2\" stroke-dasharray=\"6 4\"/>\n"));
        svg.Append(Text($"<text x=\"{left}\" y=\"20\" fill=\"#1f5fa8\">answered per second</text>\n"));
        svg.Append(Text($"<text x=\"{width - right}\" y=\"20\" text-anchor=\"end\" fill=\"#b3401f\">99th percentile of latency, ms (dashed)</text>\n"));
        svg.Append(Text($"<text x=\"{width / 2}\" y=\"{height - 8}\" text-anchor=\"middle\" fill=\"#444\">writes per second that come; {about}</text>\n</svg>\n"));
        return svg.ToString();

        static string Text(FormattableString text) => text.ToString(CultureInfo.InvariantCulture);
    }

    // The next number of 1, 2, 4 or 8 times a power of ten.
    private static double Nice(double value)
    {
        var power = Math.Pow(10, Math.Floor(Math.Log10(value)));
        return new[] { 1, 2, 4, 8, 10 }.First(n => n * power >= value) * power;
    }
}
