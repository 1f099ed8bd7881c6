using System.Collections.Concurrent;
using System.Globalization;
using Npgsql;

namespace Ministries.Cluster;

/// <summary>Watches whether events go on having their effects in the other services' ledgers. It asks all three databases, since no one
/// knows which of them is the primary, and a standby shows what it has.</summary>
internal sealed class Effects : IAsyncDisposable
{
    private static readonly (string Consumer, string Producer)[] Ways =
    [
        ("consular", "calllog"),
        ("consular", "custody"),
        ("calllog", "custody"),
    ];

    private static readonly TimeSpan Pause = TimeSpan.FromMilliseconds(250);

    private readonly Dictionary<(string Consumer, string Producer), (Silence Silence, ulong[] Last)> _seen = Ways.ToDictionary(
        w => w,
        w => (new Silence($"effects of {w.Producer} in {w.Consumer}"), new ulong[1])
    );
    private readonly ConcurrentDictionary<(int Machine, string Database), NpgsqlDataSource> _sources = [];

    /// <summary>The longest time in which one service's events had no effect in another one.</summary>
    public Outage Outage => _seen.Values.Select(s => s.Silence.Longest).MaxBy(o => o.Time)!;

    /// <summary>Begins a measurement of the outage.</summary>
    public void Measure()
    {
        foreach (var (silence, _) in _seen.Values)
            silence.Begin();
    }

    /// <summary>Watches until it is told to stop.</summary>
    public Task Run(CancellationToken stop) =>
        Task.WhenAll(
            from machine in Enumerable.Range(1, Machine.Count)
            from consumer in Ways.Select(w => w.Consumer).Distinct()
            select Watch(machine, consumer, stop)
        );

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        foreach (var source in _sources.Values)
            await source.DisposeAsync();
    }

    private async Task Watch(int machine, string consumer, CancellationToken stop)
    {
        while (!stop.IsCancellationRequested)
        {
            try
            {
                foreach (var way in Ways.Where(w => w.Consumer == consumer))
                    NotePosition(way, await Last(machine, way, stop));
            }
            catch (Exception e) when (e is NpgsqlException or TimeoutException or IOException or InvalidOperationException)
            {
                // The database is down or cut off.
            }
            catch (OperationCanceledException)
            {
                return;
            }
            await Task.Delay(Pause, stop).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
    }

    private void NotePosition((string, string) way, ulong position)
    {
        var (silence, last) = _seen[way];
        lock (last)
        {
            if (position <= last[0])
                return;
            last[0] = position;
        }
        silence.End();
    }

    // The position of the last event that had its effect: its id names it.
    private async Task<ulong> Last(int machine, (string Consumer, string Producer) way, CancellationToken stop)
    {
        var source = _sources.GetOrAdd((machine, way.Consumer), at => NpgsqlDataSource.Create(Database.At(at.Machine, at.Database)));
        await using var command = source.CreateCommand(
            "select request_id from entries where participant = $1 order by position desc limit 1"
        );
        command.Parameters.Add(new NpgsqlParameter { Value = $"service/{way.Producer}" });
        return await command.ExecuteScalarAsync(stop) is string id ? ulong.Parse(id.Split('/')[1], CultureInfo.InvariantCulture) : 0;
    }
}
