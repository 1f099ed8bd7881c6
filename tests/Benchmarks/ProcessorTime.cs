using System.Diagnostics;
using System.Globalization;
using Npgsql;

namespace Ministries.Benchmarks;

/// <summary>Processor time, user and system, of processes that are not children of this one.</summary>
internal static class ProcessorTime
{
    // Linux counts the time of other processes in hundredths of a second.
    private const double Tick = 10_000;

    /// <summary>The processor time of all processes of a PostgreSQL server so far, in microseconds.</summary>
    public static async Task<double> OfPostgres(string database)
    {
        await using var source = NpgsqlDataSource.Create(database);
        await using var select = source.CreateCommand("select pg_backend_pid()");
        var server = Stat((int)(await select.ExecuteScalarAsync())!)![1];
        // The server's own time, that of its ended children, and that of its living ones.
        var ticks = Stat((int)server)![11..15].Sum();
        foreach (var process in Directory.EnumerateDirectories("/proc"))
            if (
                int.TryParse(Path.GetFileName(process), CultureInfo.InvariantCulture, out var id)
                && Stat(id) is { } stat
                && stat[1] == server
            )
                ticks += stat[11] + stat[12];
        return ticks * Tick;
    }

    /// <summary>The processor time of this process for one repetition of some work, in microseconds.</summary>
    /// <param name="time">How long it does it.</param>
    /// <param name="work">What it does.</param>
    public static double Of(TimeSpan time, Action work)
    {
        for (var i = 0; i < 200; i++)
            work();
        var (began, before, times) = (Stopwatch.GetTimestamp(), Environment.CpuUsage.TotalTime, 0);
        for (; Stopwatch.GetElapsedTime(began) < time; times++)
            work();
        return (Environment.CpuUsage.TotalTime - before).TotalMicroseconds / times;
    }

    // The numbers of /proc/<id>/stat from the state on, which is no number; null: there is no such process any more.
    private static long[]? Stat(int id)
    {
        try
        {
            var text = File.ReadAllText($"/proc/{id}/stat");
            return
            [
                .. text[(text.LastIndexOf(')') + 2)..]
                    .Split(' ')
                    .Select(n => long.TryParse(n, NumberStyles.Integer, CultureInfo.InvariantCulture, out var number) ? number : 0),
            ];
        }
        catch (IOException)
        {
            return null;
        }
    }

    /// <summary>The bytes on the disk that a ledger's tables and indexes take for each entry.</summary>
    public static async Task<double> BytesPerEntry(string database)
    {
        await using var source = NpgsqlDataSource.Create(database);
        await using var select = source.CreateCommand(
            "select sum(pg_total_relation_size(oid))::float8 / (select count(*) from entries) from pg_class "
                + "where relkind = 'r' and relnamespace = 'public'::regnamespace"
        );
        return (double)(await select.ExecuteScalarAsync())!;
    }
}
