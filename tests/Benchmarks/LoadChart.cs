using System.Globalization;
using System.Text;

namespace Ministries.Benchmarks;

/// <summary>Draws the results against the load: above, calls answered and refused per second; below, the latency of those answered. It
/// is readable on light and on dark backgrounds.</summary>
internal sealed class LoadChart
{
    // In pixels, where the chart is not scaled.
    private const int Width = 760,
        Left = 64,
        Right = 24,
        Top = 44,
        Plot = 170,
        Gap = 44,
        Height = Top + 2 * Plot + Gap + 56;

    private const string Style = """
        <style>
        .ground { fill: #fff } .text { fill: #333 } .grid { stroke: #ddd } .mark { stroke: #777; stroke-dasharray: 2 3 }
        polyline { fill: none; stroke-width: 2.2 }
        .answered { stroke: #1f5fa8 } .refused { stroke: #a33b1a } .half { stroke: #2b7a3f } .slow { stroke: #7a4fa0 }
        circle.answered, text.answered { fill: #1f5fa8 } circle.refused, text.refused { fill: #a33b1a }
        circle.half, text.half { fill: #2b7a3f } circle.slow, text.slow { fill: #7a4fa0 } text { stroke: none !important }
        .refused, .slow { stroke-dasharray: 6 4 } circle { stroke-dasharray: none !important }
        @media (prefers-color-scheme: dark) {
        .ground { fill: #0d1117 } .text { fill: #c9d1d9 } .grid { stroke: #30363d } .mark { stroke: #8b949e }
        .answered { stroke: #6cb0ff } .refused { stroke: #ff9a76 } .half { stroke: #7ddc94 } .slow { stroke: #cfa8ff }
        circle.answered, text.answered { fill: #6cb0ff } circle.refused, text.refused { fill: #ff9a76 }
        circle.half, text.half { fill: #7ddc94 } circle.slow, text.slow { fill: #cfa8ff } text { stroke: none !important }
        }
        </style>

        """;

    private readonly StringBuilder _svg = new();
    private readonly List<LoadPoint> _points;

    // Where the scales of load, rates and latencies end.
    private readonly double _load,
        _rates,
        _slowest;

    private LoadChart(IReadOnlyList<LoadPoint> points)
    {
        _points = [.. points.OrderBy(p => p.Offered)];
        (_load, _rates) = (Nice(_points[^1].Offered), Nice(_points.Max(p => Math.Max(p.Answered, p.Refused * p.Offered))));
        _slowest = Nice(_points.Max(p => p.P99));
    }

    /// <summary>Draws them as SVG.</summary>
    /// <param name="points">The results.</param>
    /// <param name="about">Where and when they were measured, in words.</param>
    public static string Draw(IReadOnlyList<LoadPoint> points, string about)
    {
        var chart = new LoadChart(points);
        chart.Put(
            $"<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {Width} {Height}\" role=\"img\" font-family=\"sans-serif\" font-size=\"12\">"
        );
        chart.Put($"<title>Throughput and latency against load</title>");
        chart._svg.Append(Style);
        chart.Put($"<rect class=\"ground\" width=\"{Width}\" height=\"{Height}\"/>");
        chart.Grid();
        chart.Peak();
        chart.Curve("answered", Upper, p => p.Answered / chart._rates);
        chart.Curve("refused", Upper, p => p.Refused * p.Offered / chart._rates);
        chart.Curve("half", Lower, p => p.P50 / chart._slowest);
        chart.Curve("slow", Lower, p => p.P99 / chart._slowest);
        chart.Legend(about);
        return chart._svg.Append("</svg>\n").ToString();
    }

    private void Grid()
    {
        for (var i = 0; i <= 4; i++)
        {
            Put($"<path class=\"grid\" d=\"M{Left} {Upper(i / 4.0):F1}H{Width - Right}M{Left} {Lower(i / 4.0):F1}H{Width - Right}\"/>");
            Label(Left - 8, Upper(i / 4.0) + 4, "text", (_rates * i / 4).ToString("#,0.#", CultureInfo.InvariantCulture), "end");
            Label(Left - 8, Lower(i / 4.0) + 4, "text", (_slowest * i / 4).ToString("#,0.#", CultureInfo.InvariantCulture), "end");
            Label(X(_load * i / 4), Lower(0) + 18, "text", (_load * i / 4).ToString("#,0", CultureInfo.InvariantCulture), "middle");
        }
    }

    private void Peak()
    {
        var peak = _points.MaxBy(p => p.Answered)!;
        var x = X(peak.Offered);
        Put($"<path class=\"mark\" d=\"M{x:F1} {Upper(1):F1}V{Upper(0):F1}M{x:F1} {Lower(1):F1}V{Lower(0):F1}\"/>");
        Label(x + 5, Upper(1) + 12, "text", $"peak: {peak.Answered.ToString("#,0", CultureInfo.InvariantCulture)}/s");
    }

    private void Curve(string of, Func<double, double> y, Func<LoadPoint, double> share)
    {
        Put(
            $"<polyline class=\"{of}\" points=\"{string.Join(' ', _points.Select(p => string.Create(CultureInfo.InvariantCulture, $"{X(p.Offered):F1},{y(share(p)):F1}")))}\"/>"
        );
        foreach (var p in _points)
            Put($"<circle class=\"{of}\" cx=\"{X(p.Offered):F1}\" cy=\"{y(share(p)):F1}\" r=\"2.5\"/>");
    }

    private void Legend(string about)
    {
        Label(Left, 18, "text", $"Writes at the call log: {about}");
        Label(Left, Top - 8, "answered", "answered per second");
        Label(Left + 150, Top - 8, "refused", "refused per second, with a hint (dashed)");
        Label(Left, Lower(1) - 8, "half", "latency in ms: half of those answered");
        Label(Left + 240, Lower(1) - 8, "slow", "99 of 100 (dashed)");
        Label((Left + Width - Right) / 2.0, Height - 12, "text", "writes per second that come", "middle");
    }

    private double X(double offered) => Left + offered / _load * (Width - Left - Right);

    private static double Upper(double share) => Top + Plot * (1 - share);

    private static double Lower(double share) => Top + Plot + Gap + Plot * (1 - share);

    private void Label(double x, double y, string of, string text, string anchor = "start") =>
        Put($"<text x=\"{x:F1}\" y=\"{y:F1}\" class=\"{of}\" text-anchor=\"{anchor}\">{text}</text>");

    private void Put(FormattableString text) => _svg.Append(text.ToString(CultureInfo.InvariantCulture)).Append('\n');

    // The next round number that four grid steps reach.
    private static double Nice(double value)
    {
        var power = Math.Pow(10, Math.Floor(Math.Log10(value)));
        return new[] { 1, 1.2, 1.6, 2, 2.4, 3.2, 4, 6, 8, 10 }.First(n => n * power >= value) * power;
    }
}
