using System.Diagnostics;

namespace Ministries.Cluster;

/// <summary>Plays faults on a cluster under load, and reports a line for each.</summary>
/// <param name="cluster">The cluster.</param>
/// <param name="writes">The load.</param>
/// <param name="effects">Watches relay and consumers.</param>
/// <param name="tap">Listens to what the relays publish.</param>
internal sealed class Game(Cluster cluster, Writes writes, Effects effects, Tap tap)
{
    private static readonly TimeSpan JoinPatience = TimeSpan.FromMinutes(3),
        EffectPatience = TimeSpan.FromSeconds(60),
        Rest = TimeSpan.FromSeconds(5);

    /// <summary>How many faults were played.</summary>
    public int Played { get; private set; }

    /// <summary>How many of them did not go as they should.</summary>
    public int Failed { get; private set; }

    /// <summary>Plays one fault and judges what it did.</summary>
    public Task Play(Fault fault) =>
        Play(
            fault.What,
            async () =>
            {
                await fault.Begin(cluster);
                await Task.Delay(fault.Lasts);
            },
            fault.Writes,
            fault.Effects
        );

    /// <summary>Plays two faults at once, both for as long as the longer one lasts. How long writes may stand still is not judged: two
    /// machines may be affected.</summary>
    /// <param name="one">The first one.</param>
    /// <param name="other">The second one.</param>
    /// <param name="apart">How much later the second one begins.</param>
    public Task Play(Fault one, Fault other, TimeSpan apart) =>
        Play(
            $"{one.Name} and, {apart.TotalSeconds:F1} s later, {other.Name}",
            async () =>
            {
                await one.Begin(cluster);
                await Task.Delay(apart);
                try
                {
                    await other.Begin(cluster);
                }
                catch (Exception e) when (e is TimeoutException or InvalidOperationException or Npgsql.NpgsqlException)
                {
                    Console.WriteLine($"  {other.Name} found nothing to hit");
                }
                await Task.Delay(one.Lasts > other.Lasts ? one.Lasts : other.Lasts);
            },
            Timeout.InfiniteTimeSpan,
            Timeout.InfiniteTimeSpan
        );

    private async Task Play(string what, Func<Task> happen, TimeSpan mostWrites, TimeSpan mostEffects)
    {
        await Task.Delay(Rest);
        writes.Measure();
        effects.Measure();
        var complaints = new List<string>();
        await happen();
        var mended = Stopwatch.GetTimestamp();
        try
        {
            await cluster.Join(JoinPatience);
        }
        catch (TimeoutException e)
        {
            complaints.Add($"does not join by itself: {e.Message}");
        }
        var joined = Stopwatch.GetElapsedTime(mended);
        await Task.Delay(Rest);
        tap.Measure();
        await Task.Delay(Rest);
        var (silent, still) = (writes.Outage, effects.Outage);
        var found = await Audit.Make(cluster, [.. writes.Answered], EffectPatience);
        Judge(silent, mostWrites, complaints);
        Judge(still, mostEffects, complaints);
        // Events that the broker did not confirm are published again.
        if (tap.Repeated > 0 && complaints.Count == 0)
            complaints.Add($"{tap.Repeated} events were published twice while nothing happened: two replicas lead a relay");
        complaints.AddRange(await writes.AuditLogs());
        complaints.AddRange(found.Lost);
        complaints.AddRange(found.Doubled);
        complaints.AddRange(writes.Wrong.Take(5));
        Played++;
        Failed += complaints.Count > 0 ? 1 : 0;
        Console.WriteLine(
            $"{what, -60} | {silent.Time.TotalSeconds, 5:F1} | {still.Time.TotalSeconds, 5:F1} | {joined.TotalSeconds, 5:F1} | "
                + $"{found.Lost.Count, 4} | {found.Doubled.Count, 4} | {(complaints.Count == 0 ? "ok" : "FAILED")}"
        );
        foreach (var complaint in complaints.Take(10))
            Console.WriteLine($"  {complaint}");
    }

    private static void Judge(Outage outage, TimeSpan most, List<string> complaints)
    {
        if (most != Timeout.InfiniteTimeSpan && outage.Time > most)
            complaints.Add(
                $"no {outage.What} for {outage.Time.TotalSeconds:F1} s, from {outage.From.TotalSeconds:F1} s on: longer than "
                    + $"{most.TotalSeconds:F0} s"
            );
    }
}
