using System.Diagnostics;
using System.Text.Encodings.Web;
using System.Text.Json;

namespace Ministries.Benchmarks;

/// <summary>The results of one run, as they are written to a file.</summary>
/// <param name="Date">When.</param>
/// <param name="Form">Short or full.</param>
/// <param name="Cores">The machine's processor cores.</param>
/// <param name="Fsyncs">How many times per second its disk writes 8 KiB and waits for it.</param>
/// <param name="Lines">The table.</param>
internal sealed record Occasion(string Date, string Form, int Cores, double Fsyncs, List<Line> Lines)
{
    /// <summary>Throughput and latency against load, from row X; none: it was not measured.</summary>
    public List<LoadPoint> Load { get; set; } = [];
}

/// <summary>Measures the requested rows, and prints and writes the results.</summary>
internal static class Table
{
    private static readonly JsonSerializerOptions Json = new(JsonSerializerDefaults.Web)
    {
        WriteIndented = true,
        Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
        NumberHandling = System.Text.Json.Serialization.JsonNumberHandling.AllowNamedFloatingPointLiterals,
    };

    private static readonly (string Row, Func<Bench, Task<Line>>? Measure)[] All =
    [
        ("R", Rows.Read),
        ("W", Rows.Write),
        ("W'", Flow.Conventionally),
        ("L", Rows.LedgerAlone),
        ("E", Flow.Effects),
        ("E'", Flow.AtRest),
        ("T", Flow.Draft),
        ("S", Rows.CostOfTrust),
        ("O", Rows.Tracing),
        ("F", Rows.Followed),
        ("K", Sealings.Record),
        ("K'", Sealings.Write),
        ("G", Scale.Grown),
        ("V", Scale.Audit),
        ("M", Soak.Measure),
        ("X", null),
        ("N", Overload.Neighbour),
        ("H", Strangers.Handshakes),
        ("P", Probes.Refusals),
        ("Y", GatewayCost.Added),
    ];

    public static async Task<int> Run(string[] args)
    {
        var (full, json, rows) = (false, (string?)null, new List<string>());
        for (var i = 0; i < args.Length; i++)
            switch (args[i])
            {
                case "--chart" when i + 2 < args.Length:
                    return await Draw(args[i + 1], args[i + 2]);
                case "--short":
                    full = false;
                    break;
                case "--full":
                    full = true;
                    break;
                case "--json" when i + 1 < args.Length:
                    json = args[++i];
                    break;
                case var row when All.Any(a => a.Row == row):
                    rows.Add(row);
                    break;
                default:
                    await Console.Error.WriteLineAsync(
                        $"usage: tests/bench [--short|--full] [--json FILE] [--chart JSON SVG] [{string.Join('|', All.Select(a => a.Row))}]…"
                    );
                    return 2;
            }
        var plan = full
            ? new Plan(7, TimeSpan.FromSeconds(5), TimeSpan.FromSeconds(30), true)
            : new Plan(5, TimeSpan.FromSeconds(1), TimeSpan.FromSeconds(8), false);
        var occasion = new Occasion(
            DateTime.UtcNow.ToString("yyyy-MM-dd"),
            full ? "full" : "short",
            Environment.ProcessorCount,
            Bench.FsyncRate(),
            []
        );
        Console.WriteLine(
            $"{occasion.Form} form, {occasion.Cores} cores, the load's own work included; the disk: {occasion.Fsyncs:F0} fsyncs/s\n"
        );
        var began = Stopwatch.GetTimestamp();
        await using (var bench = await Bench.Create(plan))
            foreach (var (row, measure) in All.Where(a => rows.Count == 0 || rows.Contains(a.Row)))
            {
                Line line;
                if (measure is not null)
                    line = await measure(bench);
                else
                    (line, occasion.Load) = await Overload.Curve(bench);
                occasion.Lines.Add(line);
                Print(line);
            }
        Console.WriteLine($"\n{Stopwatch.GetElapsedTime(began).TotalSeconds:F0} s");
        if (json is not null)
            await File.WriteAllTextAsync(json, JsonSerializer.Serialize(occasion, Json) + "\n");
        return occasion.Lines.All(l => l.Reached != false) ? 0 : 1;
    }

    private static async Task<int> Draw(string json, string svg)
    {
        var occasion = JsonSerializer.Deserialize<Occasion>(await File.ReadAllTextAsync(json), Json)!;
        if (occasion.Load.Count == 0)
        {
            await Console.Error.WriteLineAsync($"{json} has no row X");
            return 2;
        }
        await File.WriteAllTextAsync(svg, LoadChart.Draw(occasion.Load, $"{occasion.Cores} cores, load included, {occasion.Date}"));
        return 0;
    }

    private static void Print(Line line)
    {
        var ratio = line.Ratio is { } r ? $"{r.Median:F2} × ({r.Least:F2} to {r.Greatest:F2})" : "";
        var latency = line.P50 is { } p50 ? $"p50 {p50:F1} ms, p99 {line.P99:F1} ms" : "";
        Console.WriteLine(
            $"{line.Row, -3}{(line.Reached switch { true => "reached", false => "MISSED", null => "–" }), -9}{ratio, -26}{line.Goal}"
        );
        Console.WriteLine($"   {line.Work}{(line.Baseline.Length > 0 ? $"; against: {line.Baseline}" : "")}");
        if (line.Figure.Length + latency.Length > 0)
            Console.WriteLine($"   {string.Join("; ", new[] { line.Figure, latency }.Where(t => t.Length > 0))}");
    }
}
