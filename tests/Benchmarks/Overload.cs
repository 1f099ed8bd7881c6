using System.Diagnostics;
using System.Runtime;
using Grpc.Core;
using Ministries.CallLog.V1;
using Ministries.Trust;
using NSec.Cryptography;

namespace Ministries.Benchmarks;

/// <summary>The result of one amount of load.</summary>
/// <param name="Offered">Calls per second that were made.</param>
/// <param name="Answered">Calls per second that were accepted and answered.</param>
/// <param name="Refused">The share of calls that were refused with RESOURCE_EXHAUSTED and a hint when to try again.</param>
/// <param name="P50">Latency that half of those answered did not exceed, in milliseconds.</param>
/// <param name="P99">Latency that 99 of 100 of those answered did not exceed, in milliseconds.</param>
/// <param name="Late">How late 99 of 100 calls were sent at most, in milliseconds. The latency includes it.</param>
internal sealed record LoadPoint(double Offered, double Answered, double Refused, double P50, double P99, double Late);

/// <summary>One participant's prepared calls over connections of its own (<see cref="Wire"/>).</summary>
internal sealed class Driver : IAsyncDisposable
{
    private readonly Uri _service;
    private readonly string _participant;
    private readonly Key? _key;
    private readonly Writer _writer;
    private readonly HashSet<string> _hints = [];
    private Wire[] _wires = [];
    private volatile Action<Wire, Prepared> _done = (_, _) => { };

    private Driver(Uri service, string participant, Key? key, Writer writer) =>
        (_service, _participant, _key, _writer) = (service, participant, key, writer);

    public static async Task<Driver> Create(
        Bench bench,
        Child service,
        string participant,
        Writer writer,
        int connections = 8,
        bool signed = true
    )
    {
        string Own(string file) => Path.Combine(bench.Folder, participant, file);
        var driver = new Driver(service.Address, participant, signed ? Fixtures.Signing.KeyIn(Own("requests.key")) : null, writer);
        var certificate = Hosts.Certificate(Own("system.pem"), Own("system.key"));
        driver._wires = await Task.WhenAll(
            Enumerable.Range(0, connections).Select(_ => Wire.Open(service.Address, certificate, (wire, call) => driver._done(wire, call)))
        );
        return driver;
    }

    /// <summary>Writes and signs calls before the measurement, so that this is not measured.</summary>
    /// <param name="count">How many.</param>
    /// <param name="make">Makes a request; null: <see cref="Writer.Request"/>.</param>
    public Prepared[] Prepare(double count, Func<LogCallRequest>? make = null) =>
        [
            .. Enumerable
                .Range(0, (int)count)
                .AsParallel()
                .Select(_ =>
                {
                    var request = make?.Invoke() ?? Writer.Request();
                    return Prepared.Write(
                        _service,
                        "ministries.calllog.v1.CallLogService/LogCall",
                        request,
                        request.RequestId,
                        _key,
                        $"{_participant}/requests-1",
                        HttpSignature.TagOf(StandardAgreement.Read().TrustDomain, "calllog")
                    );
                }),
        ];

    /// <summary>Makes all calls at random times with a given rate (a Poisson process), whether earlier ones were answered or not.</summary>
    public async Task<(Measured Measured, double Late)> Open(Prepared[] calls, double rate, TimeSpan ignored = default)
    {
        var (random, left) = (new Random(1), calls.Length);
        var all = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        _done = (_, _) =>
        {
            if (Interlocked.Decrement(ref left) == 0)
                all.SetResult();
        };
        var sending = new Thread(() =>
        {
            // Calls that are due in one millisecond go over one connection, in turn. A TLS record for each call would cost as much as the
            // call.
            for (var (next, turn) = (0, 0); next < calls.Length; Thread.Sleep(1), turn = (turn + 1) % _wires.Length)
            {
                for (var now = Stopwatch.GetTimestamp(); next < calls.Length && calls[next].Due <= now; next++)
                    _wires[turn].Send(calls[next]);
                _wires[turn].Flush();
            }
        });
        // A pause of the garbage collector here would be a burst of load at the service.
        GC.TryStartNoGCRegion(200 << 20);
        var began = Stopwatch.GetTimestamp();
        var at = began;
        foreach (var call in calls)
            call.Due = at += (long)(-Math.Log(1 - random.NextDouble()) / rate * Stopwatch.Frequency);
        sending.Start();
        await Until(all.Task);
        if (GCSettings.LatencyMode == GCLatencyMode.NoGCRegion)
            GC.EndNoGCRegion();
        var counted = calls.Where(c => Stopwatch.GetElapsedTime(began, c.Due) >= ignored).ToArray();
        return (
            Check(counted, began),
            Measured.Of([.. counted.Select(c => Stopwatch.GetElapsedTime(c.Due, c.Sent).TotalMilliseconds).Order()], 0.99)
        );
    }

    /// <summary>Calls per second answered to callers who each wait for their answer before they call again.</summary>
    /// <param name="callers">How many.</param>
    /// <param name="time">How long.</param>
    /// <param name="most">The greatest number of calls per second.</param>
    public async Task<double> Rate(int callers, TimeSpan time, double most = 10_000) =>
        (await Closed(callers, time, Prepare(most * time.TotalSeconds))).Rate;

    /// <summary>Callers who each wait for their answer before they call again, and who, refused, make the same call again at once. It
    /// ends with the time or when there are no more calls.</summary>
    public async Task<Measured> Closed(int callers, TimeSpan time, Prepared[] calls)
    {
        var (began, left, next, refused) = (Stopwatch.GetTimestamp(), callers, -1, 0);
        var all = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        void Send(Wire wire, Prepared? again)
        {
            if (Stopwatch.GetElapsedTime(began) < time)
            {
                if (again is null && Interlocked.Increment(ref next) is var at && at < calls.Length)
                {
                    again = calls[at];
                    again.Due = Stopwatch.GetTimestamp();
                }
                if (again is not null)
                {
                    wire.Send(again);
                    return;
                }
            }
            if (Interlocked.Decrement(ref left) == 0)
                all.SetResult();
        }
        _done = (wire, call) =>
        {
            if (call.Status == (int)StatusCode.ResourceExhausted)
                Interlocked.Increment(ref refused);
            Send(wire, call.Status == (int)StatusCode.ResourceExhausted ? call : null);
        };
        for (var i = 0; i < callers; i++)
            Send(_wires[i % _wires.Length], null);
        foreach (var wire in _wires)
            wire.Flush();
        await Until(all.Task);
        return Check([.. calls.Where(c => c.Status >= 0)], began) with { Refused = refused };
    }

    // A refusal without a hint or for another reason is a fault, and so is a wrong answer.
    private Measured Check(Prepared[] calls, long began)
    {
        if (calls.FirstOrDefault(c => c.Status is not (0 or (int)StatusCode.ResourceExhausted)) is { } other)
            throw new InvalidOperationException($"a call ended with status {other.Status}: {HintOf(other.Details ?? "")}");
        foreach (var details in calls.Where(c => c.Status > 0).Select(c => c.Details ?? "").Distinct())
            if (!_hints.Contains(details) && HintOf(details)?.GetDetail<Google.Rpc.RetryInfo>() is null)
                throw new InvalidOperationException("a call was refused without a hint when to try again");
            else
                _hints.Add(details);
        var answered = calls.Where(c => c.Status == 0).ToArray();
        answered.AsParallel().ForAll(c => _writer.Check(LogCallResponse.Parser.ParseFrom(c.Response.AsSpan(5))));
        return new Measured(
            answered.Length,
            Stopwatch.GetElapsedTime(began, calls.Length == 0 ? began : calls.Max(c => c.Done)),
            [.. answered.Select(c => c.Milliseconds).Order()],
            calls.Length - answered.Length
        );
    }

    private static Google.Rpc.Status? HintOf(string details) =>
        details.Length == 0
            ? null
            : Google.Rpc.Status.Parser.ParseFrom(Convert.FromBase64String(details.PadRight((details.Length + 3) / 4 * 4, '=')));

    private async Task Until(Task done)
    {
        for (var second = 0; await Task.WhenAny(done, Task.Delay(1000)) != done; second++)
            if (_wires.Select(w => w.Fault).FirstOrDefault(f => f is not null) is { } fault)
                throw new InvalidOperationException("a connection of the load's ended", fault);
            else if (second == 60)
                throw new InvalidOperationException("a minute went by and not every call has its answer");
    }

    public async ValueTask DisposeAsync()
    {
        foreach (var wire in _wires)
            await wire.DisposeAsync();
        _key?.Dispose();
    }
}

/// <summary>Load beyond the capacity.</summary>
internal static class Overload
{
    /// <summary>X: throughput and latency from a quarter of the peak to three times it, and half of it right after that.</summary>
    public static async Task<(Line Line, List<LoadPoint> Points)> Curve(Bench bench)
    {
        var service = await bench.SharedCallLog();
        await using var driver = await Driver.Create(bench, service, "kr/mfa", new Writer(bench, receipts: true), connections: 16);
        var time = bench.Plan.Full ? TimeSpan.FromSeconds(6) : TimeSpan.FromSeconds(2);
        Prepared[] Calls(double rate, TimeSpan time) => driver.Prepare(rate * time.TotalSeconds);
        async Task<LoadPoint> Open(double rate, Prepared[] calls, TimeSpan ignored = default)
        {
            var (measured, late) = await driver.Open(calls, rate, ignored);
            return new LoadPoint(
                rate,
                measured.Rate,
                (double)measured.Refused / (measured.Count + measured.Refused),
                measured.At(0.5),
                measured.At(0.99),
                late
            );
        }
        await Rows.Warm(bench.Plan, time => driver.Rate(256, time));
        var peak = await driver.Rate(256, bench.Plan.Round);
        // The code that refuses must be warm too.
        await Open(3 * peak, Calls(3 * peak, time));
        peak = await driver.Rate(256, time, 1.5 * peak);
        var points = new List<LoadPoint>();
        foreach (var times in (double[])[0.25, 0.5, 0.75, 1, 1.25, 1.5, 2, 3])
            points.Add(await Open(times * peak, Calls(times * peak, time)));
        var best = points.MaxBy(p => p.Answered)!.Offered;
        var (ratios, most, much, before, after) = (
            new List<double>(),
            new List<double>(),
            new List<double>(),
            new List<LoadPoint>(),
            new List<LoadPoint>()
        );
        for (var round = 0; round < bench.Plan.Rounds; round++)
        {
            var half = bench.Plan.Round / 2;
            var calls = (
                Calls(0.5 * peak, half),
                Calls(best, bench.Plan.Round),
                Calls(3 * peak, bench.Plan.Round),
                Calls(0.5 * peak, half)
            );
            before.Add(await Open(0.5 * peak, calls.Item1));
            most.Add((await Open(best, calls.Item2)).Answered);
            much.Add((await Open(3 * peak, calls.Item3)).Answered);
            // The first tenth of a second does not count, because earlier calls are still being answered.
            after.Add(await Open(0.5 * peak, calls.Item4, TimeSpan.FromSeconds(0.1)));
            ratios.Add(much[^1] / most[^1]);
        }
        var (ratio, last) = (Figures.Of(ratios), points[^1]);
        // The disk pauses several times a minute anyway, so such a pause is not an effect of the overload.
        var refused = Figures.Of(after.Select(a => a.Refused));
        return (
            new Line(
                "X",
                "writes answered at three times the peak load",
                "the most answered at any load",
                ratio,
                "≥ 0.9; RESOURCE_EXHAUSTED with a hint; recovers at once",
                ratio.Median >= 0.9 && refused.Median == 0,
                $"{Figures.Of(much).Median:F0}/s of {Figures.Of(most).Median:F0}/s, {last.Refused:P0} refused, all with a hint; right after it, at half of the peak, "
                    + $"{refused.Median:P1} refused (at most {refused.Greatest:P1}, before it {before.Max(a => a.Refused):P1}), p50 {Figures.Of(after.Select(a => a.P50)).Median:F1} ms (before it "
                    + $"{Figures.Of(before.Select(a => a.P50)).Median:F1} ms); calls were sent at most {last.Late:F1} ms late (99 of 100)",
                last.P50,
                last.P99
            ),
            points
        );
    }

    /// <summary>N: how one participant's flood changes another's latency.</summary>
    public static async Task<Line> Neighbour(Bench bench)
    {
        var service = await bench.SharedCallLog();
        var writer = new Writer(bench, receipts: true);
        await using var driver = await Driver.Create(bench, service, "kr/mfa", writer);
        var other = bench.Reach(service, "ua/mfa", "calllog", channels: 1)[0];
        Task<Measured> Quiet(int round) =>
            Load.Open(
                20,
                bench.Plan.Round,
                async (_, cancel) =>
                {
                    await writer.Log(
                        other,
                        cancel,
                        request =>
                        {
                            request.Counterpart = "kr/mfa";
                            foreach (var attendee in request.Account.Attendees)
                                attendee.Official = "";
                        }
                    );
                    return true;
                },
                round
            );
        await Rows.Warm(bench.Plan, time => driver.Rate(512, time));
        var (ratios, alone, beside, answered, refused) = (
            new List<double>(),
            new List<double>(),
            new List<double>(),
            new List<double>(),
            new List<double>()
        );
        for (var round = 0; round < bench.Plan.Rounds; round++)
        {
            var flooded = bench.Plan.Round + TimeSpan.FromSeconds(0.2);
            var calls = driver.Prepare(8000 * flooded.TotalSeconds);
            alone.Add((await Quiet(round)).At(0.5));
            var flooding = Task.Run(() => driver.Closed(512, flooded, calls));
            await Task.Delay(100);
            beside.Add((await Quiet(round)).At(0.5));
            var flood = await flooding;
            answered.Add(flood.Rate);
            refused.Add(flood.Refused / flood.Elapsed.TotalSeconds);
            ratios.Add(beside[^1] / alone[^1]);
        }
        var ratio = Figures.Of(ratios);
        return new Line(
            "N",
            "median latency of a participant while another floods with 512 callers",
            "the same while nobody floods",
            ratio,
            "none given",
            null,
            $"{Figures.Of(beside).Median:F1} ms against {Figures.Of(alone).Median:F1} ms; the other's {Figures.Of(answered).Median:F0}/s "
                + $"answered, {Figures.Of(refused).Median:F0}/s refused"
        );
    }
}
